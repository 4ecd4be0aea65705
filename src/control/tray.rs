//! Media that come out: START STOP UNIT with LOEJ, PREVENT ALLOW MEDIUM REMOVAL, and an operator who does the same.
//!
//! A medium is out for everybody. Each nexus prevents its removal for itself, until it allows it, is lost or the unit is reset
//! (SPC-5, PREVENT ALLOW MEDIUM REMOVAL); while one does, no initiator gets it out or in.

use std::sync::Arc;

use super::Control;
use super::done::Done;
use super::error::{ChangeError, What};
use super::keeper::Then;
use crate::id::{NexusId, SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::Ask;
use crate::scsi::power::Motion;
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, Medium, UnitView};
use crate::scsi::{Outcome, Status};

impl<N: Net> Control<N> {
    /// START STOP UNIT that moves the medium, or PREVENT ALLOW MEDIUM REMOVAL. None where a barrier has to end first.
    pub(super) fn move_medium(&mut self, ask: &Ask) -> Option<Outcome> {
        let Some(view) = self.catalog.registry.view(ask.unit) else {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        };
        if self.keeper.is_full() {
            return Some(Outcome::of(Status::Busy));
        }
        let (motion, is_out) = (Motion::of(&ask.cdb), view.medium == Medium::Ejected);
        let nexus = self.sessions.nexus_of(ask.session)?;
        let is_prevented = !self.catalog.registry.preventers(ask.unit).is_empty();
        let flushes = match motion {
            // An operator has it out for another. It is in again soon.
            Motion::Load if is_out && self.is_exchanged(ask.unit) => return Some(Outcome::of(Status::Busy)),
            Motion::Eject | Motion::Load if is_prevented && is_out == (motion == Motion::Load) => {
                return Some(Outcome::check(Sense::REMOVAL_PREVENTED));
            }
            Motion::Eject => {
                // Also where it is out already: nobody knows how the flush of then has ended.
                let flushes = (!view.read_only).then_some(ask.unit);
                self.catalog.registry.set_ejected(ask.unit, true);
                flushes
            }
            Motion::Load => {
                self.catalog.registry.set_ejected(ask.unit, false);
                None
            }
            Motion::Prevent => {
                self.catalog.registry.prevent(ask.unit, nexus);
                None
            }
            Motion::Allow => {
                self.catalog.registry.allow(ask.unit, |preventer| preventer == nexus);
                None
            }
        };
        let then = Then::Answer { reactor: ask.reactor, ticket: ask.ticket, flushes };
        match self.show_tray(ask.unit, Some(ask.session), then) {
            Ok(true) => None,
            Ok(false) => Some(Outcome::GOOD),
            Err(_) => Some(Outcome::check(Sense::NO_SUCH_UNIT)),
        }
    }

    /// Takes a bdev's medium out; `done` when no device has IO of before. Where an initiator prevents it, it is asked for
    /// the medium ([`DeviceKind::CdRom`]: GET EVENT STATUS NOTIFICATION says so) unless `is_forced`.
    ///
    /// # Errors
    /// No such bdev, none that comes out, an initiator prevents it.
    pub fn eject_bdev(&mut self, name: &str, is_forced: bool, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let (name, unit) = self.removable(name)?;
        // A bdev that no LUN has led to yet has nothing that could be out.
        let Some(unit) = unit else { return Err(ChangeError::NotServed(name)) };
        if !is_forced && !self.catalog.registry.preventers(unit).is_empty() {
            self.catalog.registry.want_ejected(unit);
            self.show_tray(unit, None, Then::Nothing)?;
            return Err(ChangeError::Prevented(name));
        }
        self.catalog.registry.allow(unit, |_| true);
        self.catalog.registry.set_ejected(unit, true);
        self.show_moved(unit, done)
    }

    /// Takes a bdev's medium out, as [`Control::eject_bdev`] does, for another one: nobody gets it in again before
    /// [`Control::end_exchange`], which has to follow; also where no LUN leads to it.
    ///
    /// # Errors
    /// As there, and where somebody else does the same. Nothing is to follow then, unless it is that no LUN leads there.
    pub fn begin_exchange(&mut self, name: &str, is_forced: bool, done: Done) -> Result<(), ChangeError> {
        let (name, _) = self.removable(name)?;
        if self.exchanges.contains(&name) {
            return Err(ChangeError::Exchanged(name));
        }
        let ejected = self.eject_bdev(&name, is_forced, done);
        if matches!(ejected, Ok(()) | Err(ChangeError::NotServed(_))) {
            self.exchanges.insert(name);
        }
        ejected
    }

    /// The medium that is in a bdev now may be used: it is loaded, where `is_loaded`, and initiators are told of it.
    ///
    /// # Errors
    /// As those of [`Control::load_bdev`].
    pub fn end_exchange(&mut self, name: &str, is_loaded: bool, done: Done) -> Result<(), ChangeError> {
        // Its bdev may be gone by now.
        self.exchanges.remove(name);
        let (name, unit) = self.removable(name)?;
        self.exchanges.remove(&name);
        if !is_loaded {
            let id = self.pending.begin(done);
            self.part_done(id, true);
            return Ok(());
        }
        // A LUN that was made meanwhile leads to the medium of before.
        let is_in = |view: &Arc<UnitView>| view.medium != Medium::Ejected;
        if let Some(unit) = unit.filter(|unit| self.catalog.registry.view(*unit).is_some_and(is_in)) {
            self.catalog.registry.set_ejected(unit, true);
            self.show_tray(unit, None, Then::Nothing)?;
        }
        self.load_bdev(&name, done)
    }

    fn is_exchanged(&self, unit: UnitId) -> bool {
        self.catalog.registry.entry_of(unit).is_some_and(|entry| self.exchanges.contains(&entry.name))
    }

    /// Puts a bdev's medium in again.
    ///
    /// # Errors
    /// No such bdev, none whose medium comes out, one that is out for another.
    pub fn load_bdev(&mut self, name: &str, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let (name, unit) = self.removable(name)?;
        if self.exchanges.contains(&name) {
            return Err(ChangeError::Exchanged(name));
        }
        let Some(unit) = unit else { return Err(ChangeError::NotServed(name)) };
        self.catalog.registry.set_ejected(unit, false);
        self.show_moved(unit, done)
    }

    /// What is known of a bdev's medium: whether it is out, and how many nexuses prevent its removal; none where it is none that
    /// comes out.
    pub fn tray(&self, name: &str) -> Option<(Medium, usize)> {
        let (_, unit) = self.removable(name).ok()?;
        let view = unit.and_then(|unit| self.catalog.registry.view(unit));
        let count = unit.map_or(0, |unit| self.catalog.registry.preventers(unit).len());
        let entry = self.bdev(name)?;
        let medium = if entry.spec.bdev.info().blocks > 0 { Medium::Ready } else { Medium::Empty };
        Some((view.map_or(medium, |view| view.medium), count))
    }

    /// A session has ended: its nexus prevents nothing any more.
    pub(super) fn allow_lost(&mut self, session: SessionId) {
        if let Some(nexus) = self.sessions.nexus_of(session) {
            self.allow_where(|_| true, |preventer| preventer == nexus);
        }
    }

    /// These units are about to be reset: nobody prevents anything of them any more.
    pub(super) fn allow_reset(&mut self, units: &[UnitId]) {
        self.allow_where(|view| units.contains(&view.id), |_| true);
    }

    fn allow_where(&mut self, is_meant: impl Fn(&UnitView) -> bool, is_over: impl Fn(NexusId) -> bool) {
        let views = self.catalog.registry.views();
        let locked = views.filter(|view| view.tray.is_locked && is_meant(view));
        let units: Vec<UnitId> = locked.map(|view| view.id).collect();
        for unit in units {
            self.catalog.registry.allow(unit, &is_over);
            // A unit that has gone meanwhile has no tray.
            let _ = self.show_tray(unit, None, Then::Nothing);
        }
    }

    fn removable(&self, name: &str) -> Result<(String, Option<UnitId>), ChangeError> {
        let entry = self.catalog.registry.get(name).ok_or_else(|| ChangeError::missing(What::Bdev, name))?;
        match entry.kind {
            DeviceKind::Disk | DeviceKind::Passed { .. } => {
                Err(ChangeError::NotRemovable(entry.name.clone()))
            }
            DeviceKind::RemovableDisk | DeviceKind::CdRom => Ok((entry.name.clone(), entry.unit)),
        }
    }

    fn show_moved(&mut self, unit: UnitId, done: Done) -> Result<(), ChangeError> {
        let id = self.pending.begin(done);
        if self.show_tray(unit, None, Then::Part(id))? {
            self.pending.add_part(id);
        }
        self.part_done(id, true);
        Ok(())
    }

    /// Shows a unit as its tray is now. Whether `then` will follow.
    fn show_tray(
        &mut self,
        unit: UnitId,
        except: Option<SessionId>,
        then: Then,
    ) -> Result<bool, ChangeError> {
        let view = self.catalog.registry.reread(unit)?;
        self.show_unit(view, except, then)
    }
}
