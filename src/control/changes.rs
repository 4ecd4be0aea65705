//! What an operator changes while sessions run: block devices, targets and their LUNs.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Control;
use super::done::Done;
use super::error::{ChangeError, What};
use super::keeper::Then;
use super::pending::{After, ChangeId};
use super::registry::{BdevSpec, Entry};
use super::sessions::{Sessions, State};
use super::targets::{NewTarget, TargetInfo};
use crate::histogram::Histogram;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::limits::{DELETE_NS, DELETE_SECONDS, TARGET_LUNS_MAX};
use crate::net::Net;
use crate::reactor::message::{Change, EndReason, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::view::{DeviceKind, LunNumber, Mapping, Medium, TargetView, UnitView};
use crate::time::{SECOND_NS, Tick};

impl<N: Net> Control<N> {
    /// Takes a block device in; targets can map it from now on.
    ///
    /// # Errors
    /// Name or UUID taken, a base that is not there, is part of another bdev or is served; too many.
    pub fn register_bdev(&mut self, spec: BdevSpec) -> Result<(), ChangeError> {
        let mut stand_in = [0; 16];
        self.random.fill(&mut stand_in);
        let targets = &self.catalog.targets;
        let name = spec.bdev.info().name;
        self.catalog.registry.register(spec, stand_in, |unit| targets.is_mapped(unit))?;
        self.recall_identity(&name);
        Ok(())
    }

    /// The same, initiators being shown this kind of device.
    ///
    /// # Errors
    /// The same.
    pub fn register_bdev_as(&mut self, spec: BdevSpec, kind: DeviceKind) -> Result<(), ChangeError> {
        let name = spec.bdev.info().name;
        self.register_bdev(spec)?;
        self.catalog.registry.set_kind(&name, kind);
        Ok(())
    }

    /// The block device of this name, or whose UUID this is in its usual form.
    pub fn bdev(&self, name: &str) -> Option<&Entry> {
        self.catalog.registry.get(name)
    }

    /// How many reactors serve.
    pub fn reactor_count(&self) -> usize {
        self.outbox.running().count()
    }

    /// The block devices, in the order they came.
    pub fn bdevs(&self) -> impl Iterator<Item = &Entry> {
        self.catalog.registry.iter()
    }

    /// Replaces what is kept of how a bdev was made (it was resized).
    ///
    /// # Errors
    /// No such bdev.
    pub fn set_recipe(&mut self, name: &str, recipe: String) -> Result<(), ChangeError> {
        self.catalog.registry.set_recipe(name, recipe)
    }

    /// Shows a bdev, and what is made of it, as it is now: to be called when it was resized, or its medium found. Initiators are
    /// told; `done` when no IO of before is left in a device, where something was taken away.
    ///
    /// # Errors
    /// No such bdev, or it can no longer be served.
    pub fn reread_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        for name in self.catalog.registry.with_users(name)? {
            self.recall_identity(&name);
        }
        let registry = &self.catalog.registry;
        let units = registry.with_users(name)?.into_iter().filter_map(|name| registry.get(&name)?.unit);
        let views = units.map(|unit| registry.reread(unit)).collect::<Result<Vec<_>, _>>()?;
        let id = self.pending.begin(done);
        for view in views {
            let view = if view.permits.is_known() { view } else { self.restored(view) };
            if let Ok(true) = self.show_unit(view, None, Then::Part(id)) {
                self.pending.add_part(id);
            }
        }
        self.part_done(id, true);
        Ok(())
    }

    /// Takes a bdev out of service, and what is made of it first: its LUNs go, commands at them end, and when every reactor
    /// has let go of it `done` gets the devices themselves. Until then the name stays taken.
    ///
    /// # Errors
    /// No such bdev, or it is going already.
    pub fn unregister_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let names = self.catalog.registry.leave(name)?;
        let id = self.pending.begin(done);
        for name in names {
            match self.bdev(&name).and_then(|entry| entry.unit) {
                Some(unit) => self.remove_unit(unit, id),
                None => {
                    let bdev = self.catalog.registry.remove(&name);
                    bdev.into_iter().for_each(|bdev| self.pending.add_bdev(id, bdev));
                }
            }
        }
        self.part_done(id, true);
        Ok(())
    }

    fn remove_unit(&mut self, unit: UnitId, id: ChangeId) {
        self.leave_chore(unit);
        let changed = self.catalog.unmap_everywhere(unit, &is_used(&self.sessions));
        self.publish(changed, &[], Some(id));
        let reactors = self.outbox.running().collect();
        self.pending.add_unit(id, unit, reactors);
        self.change(Change::RemoveUnit { unit }, Some(id));
        if self.outbox.running().next().is_none() {
            // All have stopped and dropped what they had.
            self.released(unit, ReactorId(0));
        }
    }

    /// A reactor has let go of a unit that was removed.
    pub(super) fn released(&mut self, unit: UnitId, reactor: ReactorId) {
        let Some(id) = self.pending.released(unit, reactor) else { return };
        let name = self.catalog.registry.entry_of(unit).map(|entry| entry.name.clone());
        let bdev = name.and_then(|name| self.catalog.registry.remove(&name));
        bdev.into_iter().for_each(|bdev| self.pending.add_bdev(id, bdev));
        self.part_done(id, true);
    }

    /// Serves a target; returns its whole name.
    ///
    /// # Errors
    /// A name that is none or is taken, LUNs given twice or without a bdev, groups that are not there, too many.
    pub fn create_target(&mut self, target: &NewTarget) -> Result<String, ChangeError> {
        let created = self.catalog.create_target(target);
        self.tell_made();
        created
    }

    /// Stops to serve a target: no more logins; its sessions are asked to log out, and ended a little later; `done` when the
    /// last of their IO has come back. Until then the name stays taken.
    ///
    /// # Errors
    /// No such target, or it is going already.
    pub fn delete_target(&mut self, name: &str, done: Done, now: Tick) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let target = self.catalog.targets.find(name)?;
        target.is_leaving = true;
        let name = target.name.clone();
        let id = self.pending.begin(done);
        for session in self.sessions.of_target(&name) {
            self.see_off(session, id);
        }
        let end_at = now.after_ns(u64::from(DELETE_SECONDS) * SECOND_NS);
        self.pending.set_leaving(id, name, end_at, now.after_ns(DELETE_NS));
        self.run_steps(now);
        self.part_done(id, true);
        Ok(())
    }

    /// Asks a target's sessions to log out, those that came by one portal group or all: for moving initiators elsewhere. Who
    /// does not stays.
    ///
    /// # Errors
    /// No such target.
    pub fn ask_logout(&mut self, target: &str, portal_group: Option<u16>) -> Result<(), ChangeError> {
        let name = self.catalog.targets.find(target)?.name.clone();
        for session in self.sessions.of_target(&name) {
            let Some(known) = self.sessions.get(session) else { continue };
            let is_meant = portal_group.is_none_or(|tag| known.nexus.portal_group == tag);
            if is_meant && matches!(known.state, State::Live { .. }) {
                let ask = ToReactor::AskLogout { session, seconds: DELETE_SECONDS };
                self.outbox.send(known.reactor, ask);
            }
        }
        Ok(())
    }

    fn see_off(&mut self, session: SessionId, id: ChangeId) {
        let Some(known) = self.sessions.get(session) else { return };
        match known.state {
            // Control has the connection still.
            State::Entering(_) => return self.sessions.end(session, EndReason::Removed),
            State::Live { .. } => {
                let ask = ToReactor::AskLogout { session, seconds: DELETE_SECONDS };
                self.outbox.send(known.reactor, ask);
            }
            State::Ending | State::Draining => {}
        }
        self.pending.add_session(id, session);
    }

    /// Adds a LUN, at the lowest number that is free where none is given; returns it.
    ///
    /// # Errors
    /// No such target or bdev, the number is taken, the bdev cannot be served, too many.
    pub fn add_lun(
        &mut self,
        target: &str,
        bdev: &str,
        number: Option<LunNumber>,
    ) -> Result<LunNumber, ChangeError> {
        let found = self.catalog.targets.find(target)?;
        let number = found.free_lun(number)?;
        let unit = self.catalog.registry.unit_of(bdev)?;
        found.map(number, unit);
        let name = found.name.clone();
        self.tell_made();
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.publish(changed, &[], None);
        Ok(number)
    }

    /// Removes a LUN; `done` when no device has IO that came by it any more.
    ///
    /// # Errors
    /// No such target or LUN.
    pub fn remove_lun(&mut self, target: &str, number: LunNumber, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let target = self.catalog.targets.find(target)?;
        let unit = target.unmap(number)?;
        let name = target.name.clone();
        let id = self.pending.begin(done);
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.publish(changed, &[unit], Some(id));
        self.part_done(id, true);
        Ok(())
    }

    /// Has the initiators of a group find other LUNs at a target than everybody does: bdev, number and whether it is for reading
    /// only; or everybody's again. `done` when no device has IO that came by a LUN that is gone.
    ///
    /// # Errors
    /// No such target, group or bdev, a number given twice, a bdev that cannot be served, too many.
    pub fn set_lun_map(
        &mut self,
        target: &str,
        initiators: u32,
        luns: Option<&[(String, LunNumber, bool)]>,
        done: Done,
    ) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        if self.catalog.initiators.get(initiators).is_none() {
            return Err(ChangeError::missing(What::InitiatorGroup, initiators));
        }
        let found = self.catalog.targets.find(target)?;
        let mappings = luns.map(|luns| {
            let mut mappings: Vec<Mapping> = Vec::new();
            if luns.len() > TARGET_LUNS_MAX {
                return Err(ChangeError::TooMany { what: What::Lun, most: TARGET_LUNS_MAX });
            }
            for (bdev, number, read_only) in luns {
                if mappings.iter().any(|mapping| mapping.number == *number) {
                    return Err(ChangeError::exists(What::Lun, number.0));
                }
                let unit = self.catalog.registry.unit_of(bdev)?;
                mappings.push(Mapping { number: *number, unit, read_only: *read_only });
            }
            Ok(mappings)
        });
        let set = mappings.transpose().and_then(|mappings| found.set_lun_map(initiators, mappings));
        let name = found.name.clone();
        // Also those that were made before something went wrong.
        self.tell_made();
        let lost = set?;
        let id = self.pending.begin(done);
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.publish(changed, &lost, Some(id));
        self.part_done(id, true);
        Ok(())
    }

    /// Changes what initiators have to prove that come to a target by a portal group, or makes that what the target asks
    /// for everywhere. It stays while the portal group is there, whatever is mapped by it meanwhile.
    ///
    /// # Errors
    /// No such target or portal group.
    pub fn set_port_auth(
        &mut self,
        target: &str,
        portal_group: u16,
        auth: Option<super::auth::Auth>,
    ) -> Result<(), ChangeError> {
        if self.catalog.portals.get(portal_group).is_none() {
            return Err(ChangeError::missing(What::PortalGroup, portal_group));
        }
        let target = self.catalog.targets.find(target)?;
        target.port_auths.retain(|(tag, _)| *tag != portal_group);
        target.port_auths.extend(auth.map(|auth| (portal_group, auth)));
        Ok(())
    }

    /// Adds pairs of portal group tag and initiator group tag to a target: all or none.
    ///
    /// # Errors
    /// No such target or group, a pair that is there already, too many.
    pub fn add_maps(&mut self, target: &str, maps: &[(u16, u32)]) -> Result<(), ChangeError> {
        let target = self.catalog.targets.find(target)?;
        target.add_maps(maps, &self.catalog.portals, &self.catalog.initiators)?;
        let name = target.name.clone();
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.republish(changed);
        Ok(())
    }

    /// Removes pairs from a target: all or none. Sessions stay.
    ///
    /// # Errors
    /// No such target or pair.
    pub fn remove_maps(&mut self, target: &str, maps: &[(u16, u32)]) -> Result<(), ChangeError> {
        let target = self.catalog.targets.find(target)?;
        target.remove_maps(maps)?;
        let name = target.name.clone();
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.republish(changed);
        Ok(())
    }

    /// Changes what initiators have to prove to a target from now on.
    ///
    /// # Errors
    /// No such target.
    pub fn set_target_auth(&mut self, target: &str, auth: super::auth::Auth) -> Result<(), ChangeError> {
        self.catalog.targets.find(target)?.auth = auth;
        Ok(())
    }

    /// Tells initiators that come to a target by a portal group to log in somewhere else, for now or for ever (RFC 7143
    /// §11.13.5), or no more. Sessions stay, and discovery goes on.
    ///
    /// # Errors
    /// No such target or group, a group that does not lead there or is private, an address that is one of its own.
    pub fn set_redirect(
        &mut self,
        target: &str,
        portal_group: u16,
        to: Option<SocketAddr>,
        is_permanent: bool,
    ) -> Result<(), ChangeError> {
        self.catalog.set_redirect(target, portal_group, to, is_permanent)
    }

    /// Begins to count how long a target's commands take, or stops and forgets. Where it is counted already nothing changes.
    ///
    /// # Errors
    /// No such target.
    pub fn enable_histogram(&mut self, target: &str, is_enabled: bool) -> Result<(), ChangeError> {
        let reactors = self.outbox.count();
        let target = self.catalog.targets.find(target)?;
        match is_enabled {
            true if target.histogram.is_none() => target.histogram = Some(Arc::new(Histogram::new(reactors))),
            true => {}
            false => target.histogram = None,
        }
        let name = target.name.clone();
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.republish(changed);
        Ok(())
    }

    /// The targets, in the order they came; those that are being deleted left out.
    pub fn targets(&self) -> impl Iterator<Item = TargetInfo<'_>> {
        self.catalog.infos()
    }

    /// Shows a unit differently. Initiators are told what concerns them; a change that takes something away waits for the
    /// IO that a device has.
    ///
    /// # Errors
    /// No such unit.
    pub fn replace_unit(&mut self, view: UnitView) -> Result<(), ChangeError> {
        self.show_unit(view, None, Then::Nothing).map(drop)
    }

    /// The same, `except` being the session that has asked for it and so is not told, and `then` what follows. Whether
    /// it will: nothing does where the view is as it was.
    pub(super) fn show_unit(
        &mut self,
        view: UnitView,
        except: Option<SessionId>,
        then: Then,
    ) -> Result<bool, ChangeError> {
        let view = Arc::new(view);
        let old = self.catalog.registry.replace(Arc::clone(&view))?;
        if old == view {
            return Ok(false);
        }
        let attention = attention(&old, &view);
        let is_drained = takes_away(&old, &view);
        Ok(self.barrier(Change::Unit { view, attention, except, is_drained }, then))
    }

    /// Ends a session; its initiator may log in again.
    pub fn end_session(&mut self, session: SessionId, now: Tick) {
        self.sessions.end(session, EndReason::Removed);
        self.run_steps(now);
    }

    /// Tells the reactors of units that they do not know.
    pub(super) fn tell_made(&mut self) {
        for (view, bdev) in self.catalog.registry.take_made() {
            let view = Arc::new(self.restored(UnitView::clone(&view)));
            // It was there a moment ago.
            let _ = self.catalog.registry.replace(Arc::clone(&view));
            self.outbox.broadcast(|| ToReactor::AddUnit { view: Arc::clone(&view), bdev: Arc::clone(&bdev) });
        }
    }

    /// LUNs have changed; `unmapped` are the units that some led to.
    pub(super) fn publish(
        &mut self,
        changed: Vec<Arc<TargetView>>,
        unmapped: &[UnitId],
        id: Option<ChangeId>,
    ) {
        let drained: Arc<[UnitId]> = unmapped.into();
        for target in changed {
            let attention = Some(Ua::LunsChanged);
            self.change(Change::Target { target, attention, drained: Arc::clone(&drained) }, id);
        }
    }

    /// What SendTargets tells has changed.
    pub(super) fn republish(&mut self, changed: Vec<Arc<TargetView>>) {
        for target in changed {
            self.change(Change::Target { target, attention: None, drained: Arc::new([]) }, None);
        }
    }

    /// A barrier, perhaps as part of a change that somebody waits for.
    fn change(&mut self, change: Change, id: Option<ChangeId>) {
        if self.barrier(change, id.map_or(Then::Nothing, Then::Part))
            && let Some(id) = id
        {
            self.pending.add_part(id);
        }
    }

    /// A part of a change is done.
    pub(super) fn part_done(&mut self, id: ChangeId, is_clean: bool) {
        let after = self.pending.part_done(id, is_clean);
        self.go_on(after);
    }

    /// A session is gone.
    pub(super) fn session_gone(&mut self, session: SessionId) {
        let after = self.pending.session_gone(session);
        self.go_on(after);
    }

    fn go_on(&mut self, after: After) {
        match after {
            After::Nothing => {}
            After::Forget(target) => self.catalog.targets.forget(&target),
        }
    }

    /// What time does to changes under way.
    pub(super) fn expire_changes(&mut self, now: Tick) {
        for session in self.pending.expire(now) {
            self.sessions.end(session, EndReason::Removed);
        }
        self.run_steps(now);
    }
}

/// Whether a target has a session at a portal group.
pub(super) fn is_used(sessions: &Sessions) -> impl Fn(&str, u16) -> bool {
    |target, tag| sessions.is_at(target, tag)
}

/// What sessions are told of a change (SBC-4 §4.7, SPC-5 §6.6).
fn attention(old: &UnitView, new: &UnitView) -> Option<Ua> {
    let is_there = |view: &UnitView| matches!(view.medium, Medium::Ready | Medium::Busy | Medium::Failed);
    let is_resized = (old.blocks, old.block_bytes) != (new.blocks, new.block_bytes);
    match (old.medium, new.medium) {
        (Medium::Ready, Medium::Ready) => {}
        // No command says so later.
        _ if is_there(old) && is_there(new) && is_resized => return Some(Ua::CapacityChanged),
        // The command that was carried out has been answered; nobody else is told of it.
        (Medium::Busy | Medium::Failed, Medium::Ready) => return None,
        // SBC-4 §4.3: one that appears may be of any size and content.
        (_, Medium::Ready) => return Some(Ua::MediumChanged),
        // Commands say so.
        _ => return None,
    }
    if is_resized {
        Some(Ua::CapacityChanged)
    } else if old.identity != new.identity || old.alua.is_explicit() != new.alua.is_explicit() {
        Some(Ua::InquiryChanged)
    } else if old.alua != new.alua {
        Some(Ua::AccessChanged)
    } else if (old.read_only, old.modes) != (new.read_only, new.modes) {
        Some(Ua::ModeChanged)
    } else if old.settings.identifying != new.settings.identifying {
        Some(Ua::IdentifierChanged)
    } else if old.settings.clock != new.settings.clock {
        Some(Ua::TimestampChanged)
    } else {
        None
    }
}

/// Whether something that was allowed no longer is: a shrink, write protection, a medium that goes.
fn takes_away(old: &UnitView, new: &UnitView) -> bool {
    new.blocks < old.blocks
        || new.block_bytes != old.block_bytes
        || (new.is_write_protected() && !old.is_write_protected())
        || (new.is_write_through() && !old.is_write_through())
        || (new.medium != Medium::Ready && old.medium == Medium::Ready)
        || old.alua.takes_away(&new.alua)
}
