//! Targets and their LUNs, as an operator changes them while sessions run.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Control;
use super::changes::is_used;
use super::done::Done;
use super::error::{ChangeError, What};
use super::pending::After;
use super::sessions::State;
use super::targets::{NewTarget, Target, TargetInfo, is_found};
use crate::histogram::Histogram;
use crate::id::UnitId;
use crate::limits::{DELETE_SECONDS, TARGET_LUNS_MAX};
use crate::net::Net;
use crate::reactor::message::{Change, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::view::{LunNumber, Mapping};
use crate::time::Tick;

impl<N: Net> Control<N> {
    /// Serves a target; returns its whole name.
    ///
    /// # Errors
    /// A name that is none or is taken, LUNs given twice or without a bdev, groups that are not there, too many.
    pub fn create_target(&mut self, target: &NewTarget) -> Result<String, ChangeError> {
        let created = self.catalog.create_target(target);
        if let Ok(name) = &created {
            self.log.fact("target_created", vec![("target", name.as_str().into())], self.now);
        }
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
        self.log.fact("target_deleted", vec![("target", name.as_str().into())], now);
        let id = self.pending.begin(done);
        for session in self.sessions.of_target(&name) {
            self.see_off(session, id);
        }
        self.pending.set_after(id, After::ForgetTarget(name));
        self.end_in_time(id, now);
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

    /// Keeps initiators from logging in to a target for now and asks those who are logged in to log out, or lets them in again.
    /// Who does not log out stays.
    ///
    /// # Errors
    /// No such target.
    pub fn drain_target(&mut self, target: &str, is_draining: bool) -> Result<(), ChangeError> {
        self.catalog.targets.find(target)?.is_draining = is_draining;
        if is_draining { self.ask_logout(target, None) } else { Ok(()) }
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
        let fields = vec![
            ("target", name.as_str().into()),
            ("lun", u64::from(number.0).into()),
            ("bdev", bdev.into()),
        ];
        self.log.fact("lun_added", fields, self.now);
        self.tell_made();
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.end_unwelcome(&changed);
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
        let fields = vec![("target", name.as_str().into()), ("lun", u64::from(number.0).into())];
        self.log.fact("lun_removed", fields, self.now);
        let id = self.pending.begin(done);
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.publish(changed, &[unit], Some(id));
        self.review_or_hold(id);
        self.part_done(id, true);
        Ok(())
    }

    /// Has the initiators of a group find other LUNs at a target than everybody does: bdev, number and whether it is for reading
    /// only; or everybody's again. Their sessions see it at once, but for those that came before the group had LUNs of its own and
    /// find more than that: they are seen off (`control::review`). `done` when they are gone and no device has IO that came
    /// by a LUN that is gone.
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
        let before = found.luns(Some(initiators)).to_vec();
        let set = mappings.transpose().and_then(|mappings| found.set_lun_map(initiators, mappings));
        let shows_more = found.luns(Some(initiators)).iter().any(|lun| !is_found(lun, &before));
        let name = found.name.clone();
        // Also those that were made before something went wrong.
        self.tell_made();
        let lost = set?;
        let id = self.pending.begin(done);
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        if shows_more {
            self.end_unwelcome(&changed);
        }
        self.publish(changed, &lost, Some(id));
        self.review_or_hold(id);
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

    /// Puts the port that a target has at a portal group into a target port group, with others of the target that have that
    /// number, or makes it one of its own again. Initiators are told; `done` when no IO is left in a device that came by it
    /// where its states now forbid that.
    ///
    /// # Errors
    /// No such target or portal group, a number that a port or group of another target has.
    pub fn set_port_group(
        &mut self,
        target: &str,
        portal_group: u16,
        port_group: Option<u16>,
        done: Done,
    ) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let name = self.catalog.targets.find(target)?.name.clone();
        let group = |control: &Self| {
            let port = control.catalog.targets.get(&name).and_then(|target| target.port(portal_group));
            port.map(|view| view.port_group).unwrap_or_default()
        };
        let old = group(self);
        self.catalog.targets.set_port_group(&name, portal_group, port_group)?;
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        let new = group(self);
        let is_lost = |unit: &UnitId| {
            let alua = self.catalog.registry.view(*unit).map(|view| &view.alua);
            alua.is_some_and(|alua| alua.group(old).state.is_active() && !alua.group(new).state.is_active())
        };
        let units = self.catalog.targets.get(&name).into_iter().flat_map(Target::units);
        let lost: BTreeSet<UnitId> = units.filter(is_lost).collect();
        let lost: Arc<[UnitId]> = lost.into_iter().collect();
        let id = self.pending.begin(done);
        for view in changed {
            if view.portal_group == portal_group {
                // VPD 83h names the group.
                let attention = Some(Ua::InquiryChanged);
                let (target, drained) = (Arc::clone(&view), Arc::clone(&lost));
                self.change(Change::Target { target, attention, drained }, Some(id));
            }
            let attention = Some(Ua::AccessChanged);
            self.change(Change::Target { target: view, attention, drained: Arc::new([]) }, Some(id));
        }
        self.part_done(id, true);
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

    /// Removes pairs from a target: all or none. Who is not let in any more is seen off (`control::review`); `done` when those
    /// sessions are gone.
    ///
    /// # Errors
    /// No such target or pair.
    pub fn remove_maps(&mut self, target: &str, maps: &[(u16, u32)], done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let target = self.catalog.targets.find(target)?;
        target.remove_maps(maps)?;
        let name = target.name.clone();
        let changed = self.catalog.refresh(&name, &is_used(&self.sessions));
        self.republish(changed);
        let id = self.pending.begin(done);
        self.review_or_hold(id);
        self.part_done(id, true);
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
}
