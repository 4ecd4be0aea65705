//! Chores on whole units ([`scsi::chore`](crate::scsi::chore)): every reactor is shown that the unit is busy, then its home does
//! the work, or its device by itself ([`erasures`](super::erasures)), then every reactor is shown that it is ready again, or that it
//! has failed.
//!
//! A chore outlives the command that has asked for it: who withdraws the command, or loses its session, is answered or forgotten,
//! and the chore goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Control;
use super::keeper::Then;
use super::saving::{AfterSave, NO_ROOM};
use crate::id::{NexusId, ReactorId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket, ToReactor};
use crate::scsi::chore::{Chore, Decision, End};
use crate::scsi::reserve::Class;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::{Outcome, Status};

/// The kind of record that a SANITIZE has while it has not ended well.
const SANITIZE: &str = "sanitize";

/// A command that waits for a chore.
type Asker = (ReactorId, TaskTicket);

#[derive(Debug)]
enum Phase {
    /// It is being done, or about to be.
    Begun(Begun),
    /// It has failed, and was a SANITIZE.
    Failed { may_exit: bool },
}

#[derive(Debug)]
struct Begun {
    chore: Arc<Chore>,
    /// For whom.
    nexus: NexusId,
    asker: Option<Asker>,
    /// Its home was told to do it: the unit is not as it was.
    is_at_work: bool,
    /// AUSE of the SANITIZE that had failed before.
    former: Option<bool>,
}

/// The units that a chore is done on, or has failed on.
#[derive(Debug, Default)]
pub(super) struct Chores {
    units: BTreeMap<UnitId, Phase>,
}

impl<N: Net> Control<N> {
    /// SANITIZE and FORMAT UNIT; none where the answer comes later.
    pub(super) fn chore(&mut self, ask: &Ask) -> Option<Outcome> {
        let Some(view) = self.catalog.registry.view(ask.unit) else {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        };
        // One that goes begins nothing more.
        if self.catalog.registry.entry_of(ask.unit).is_none_or(|entry| entry.is_leaving) {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        }
        let decision = match Chore::decide(&ask.cdb, &ask.parameters, view) {
            Ok(decision) => decision,
            Err(sense) => return Some(Outcome::check(sense)),
        };
        let refuse = |sense| Some(Outcome::check(sense));
        match (view.medium, view.is_write_protected()) {
            (_, true) => return refuse(Sense::WRITE_PROTECTED),
            (Medium::Ready, _) => {}
            // SBC-4 §4.11.4: what was on its way when a SANITIZE failed is no way out.
            (Medium::Failed, _) if !decision.mends() => return refuse(Sense::SANITIZE_FAILED),
            (Medium::Failed, _) => {}
            (Medium::Busy, _) => {
                return refuse(view.chore.as_ref().map_or(Sense::NOT_READY, |chore| chore.sense()));
            }
            _ => return refuse(Sense::NOT_READY),
        }
        match (decision, self.chores.units.get(&ask.unit)) {
            (_, Some(Phase::Begun(begun))) => refuse(begun.chore.sense()),
            (_, _) if self.keeper.is_full() => Some(Outcome::of(Status::Busy)),
            (Decision::Nothing, _) | (Decision::ExitFailureMode, None) => Some(Outcome::GOOD),
            (Decision::ExitFailureMode, Some(Phase::Failed { may_exit: true })) => {
                self.chores.units.remove(&ask.unit);
                self.forget_sanitize(ask.unit);
                let (reactor, ticket) = (ask.reactor, ask.ticket);
                self.show_chore(ask.unit, None, false, Then::Answer { reactor, ticket, flushes: None });
                None
            }
            // SBC-4 §4.11.5: AUSE was 0.
            (Decision::ExitFailureMode, Some(Phase::Failed { may_exit: false })) => {
                refuse(Sense::invalid_bit(1, 4))
            }
            (Decision::Begin(chore), former) => {
                let former = match former {
                    Some(Phase::Failed { may_exit }) => Some(*may_exit),
                    _ => None,
                };
                let Some(nexus) = self.sessions.nexus_of(ask.session) else {
                    return Some(Outcome::of(Status::TaskAborted));
                };
                // A process that ends meanwhile leaves it unfinished, and its successor has to know.
                let key = self.record_key(SANITIZE, ask.unit).filter(|_| chore.is_sanitize());
                let record = Some(json!({ "may_exit": chore.may_exit() }));
                if self.check_fits(key.as_deref(), record.as_ref()).is_err() {
                    return refuse(NO_ROOM);
                }
                let chore = Arc::new(chore);
                let asker = Some((ask.reactor, ask.ticket));
                let begun = Begun { chore: Arc::clone(&chore), nexus, asker, is_at_work: false, former };
                self.chores.units.insert(ask.unit, Phase::Begun(begun));
                match key {
                    Some(key) => self.save(Some(&key), record, AfterSave::Sanitize(ask.unit)),
                    None => self.show_chore(ask.unit, Some(chore), false, Then::BeginChore(ask.unit)),
                }
                None
            }
        }
    }

    /// That a SANITIZE begins is saved, or is not going to be. Until now others went on: who asked may have been aborted, and may
    /// have lost the leave to write.
    pub(super) fn show_sanitize(&mut self, unit: UnitId, is_saved: bool) {
        let Some(Phase::Begun(begun)) = self.chores.units.get(&unit) else { return };
        let may_write = self.catalog.registry.view(unit).is_some_and(|view| {
            let is_there = matches!(view.medium, Medium::Ready | Medium::Failed);
            is_there && !view.is_write_protected() && view.permits.allows(begun.nexus, Class::Write)
        });
        if is_saved && may_write && begun.asker.is_some() {
            let chore = Arc::clone(&begun.chore);
            return self.show_chore(unit, Some(chore), false, Then::BeginChore(unit));
        }
        let conflict = Outcome::of(Status::ReservationConflict);
        self.call_off(unit, if is_saved { conflict } else { Outcome::check(Sense::INTERNAL_FAILURE) });
    }

    /// A chore does not begin: its unit is as it was. Whether a SANITIZE of before has failed.
    fn call_off(&mut self, unit: UnitId, outcome: Outcome) -> bool {
        let Some(Phase::Begun(begun)) = self.chores.units.remove(&unit) else { return false };
        match begun.former {
            Some(may_exit) => drop(self.chores.units.insert(unit, Phase::Failed { may_exit })),
            None => self.forget_sanitize(unit),
        }
        self.answer_asker(begun.asker, outcome);
        begun.former.is_some()
    }

    /// The medium of a unit that comes back: one whose SANITIZE has not ended well is not ready before another has.
    pub(super) fn saved_medium(&mut self, unit: UnitId, medium: Medium) -> Medium {
        let record = self.record_key(SANITIZE, unit).and_then(|key| self.store.get(&key).cloned());
        let Some(record) = record.filter(|_| !self.chores.units.contains_key(&unit)) else { return medium };
        let may_exit = record.get("may_exit").and_then(Value::as_bool).unwrap_or(false);
        self.chores.units.insert(unit, Phase::Failed { may_exit });
        self.catalog.registry.fail(unit);
        if medium == Medium::Ready { Medium::Failed } else { medium }
    }

    fn forget_sanitize(&mut self, unit: UnitId) {
        if let Some(key) = self.record_key(SANITIZE, unit) {
            self.store.set(&key, None);
        }
    }

    /// Every reactor shows that the unit is busy, and no device has an IO of before, if all `is_clean`.
    pub(super) fn begin_chore(&mut self, unit: UnitId, is_clean: bool) {
        if !is_clean && self.is_at_work(unit) {
            return self.chore_over(unit, false);
        }
        if !is_clean {
            let had_failed = self.call_off(unit, Outcome::check(Sense::INTERNAL_FAILURE));
            return self.show_chore(unit, None, had_failed, Then::Nothing);
        }
        let Some(Phase::Begun(begun)) = self.chores.units.get_mut(&unit) else { return };
        begun.is_at_work = true;
        let chore = Arc::clone(&begun.chore);
        let asker = if chore.is_immediate() { begun.asker.take() } else { None };
        self.answer_asker(asker, Outcome::GOOD);
        if let Some(how) = chore.erasure() {
            return self.erase(unit, chore, how);
        }
        let running: Vec<_> = self.outbox.running().collect();
        if let Some(home) = unit.index().checked_rem(running.len()).and_then(|at| running.get(at)) {
            self.outbox.send(*home, ToReactor::Chore { unit, chore });
        }
    }

    fn is_at_work(&self, unit: UnitId) -> bool {
        matches!(self.chores.units.get(&unit), Some(Phase::Begun(Begun { is_at_work: true, .. })))
    }

    /// Whether this chore is at work on a unit.
    pub(super) fn is_chore_of(&self, unit: UnitId, chore: &Arc<Chore>) -> bool {
        let phase = self.chores.units.get(&unit);
        matches!(phase, Some(Phase::Begun(begun)) if begun.is_at_work && Arc::ptr_eq(&begun.chore, chore))
    }

    /// The reactor, or the device, has done a chore, as far as it went. On a unit of another size than it was done on it is done again: no
    /// block is left out. So it is where the size was another for a while only, in which blocks were not to be reached.
    pub(super) fn chore_done(&mut self, unit: UnitId, end: End) {
        let Some(Phase::Begun(begun)) = self.chores.units.get_mut(&unit) else { return };
        let now = self.catalog.registry.reread(unit).ok();
        // What was cut off meanwhile holds what it held, and nothing reaches it any more.
        if begun.chore.is_erase() && now.as_ref().is_some_and(|view| !view.offloads.erase) {
            return self.chore_ended(unit, false);
        }
        let is_again = |view: &UnitView| view.blocks != begun.chore.blocks() || end == End::Refused;
        match now.filter(|view| view.medium == Medium::Busy && is_again(view)) {
            Some(view) => {
                begun.chore = Arc::new(begun.chore.again(view.blocks));
                let view = UnitView { chore: Some(Arc::clone(&begun.chore)), ..view };
                // A unit that has gone has no chore.
                let _ = self.show_unit(view, None, Then::BeginChore(unit));
            }
            None => self.chore_ended(unit, end == End::Done),
        }
    }

    /// A unit goes: a chore on it ends, and who waits for that is told.
    pub(super) fn leave_chore(&mut self, unit: UnitId) {
        if let Some(Phase::Begun(begun)) = self.chores.units.remove(&unit) {
            self.answer_asker(begun.asker, Outcome::check(Sense::NO_SUCH_UNIT));
        }
    }

    /// The chore of a unit is over. A SANITIZE has not ended well before its record is gone for good: the next life would show
    /// the unit as failed, with what hosts have written since.
    fn chore_ended(&mut self, unit: UnitId, is_done: bool) {
        let Some(Phase::Begun(Begun { chore, .. })) = self.chores.units.get(&unit) else { return };
        match self.record_key(SANITIZE, unit) {
            Some(key) if is_done && chore.is_sanitize() => {
                self.save(Some(&key), None, AfterSave::Sanitized(unit))
            }
            _ => self.chore_over(unit, is_done),
        }
    }

    /// The record of a SANITIZE that has ended well is gone for good. Where it is not yet, because the file's disk takes long or
    /// is full, the unit goes on being busy: all is overwritten, and nobody is to be told otherwise.
    pub(super) fn sanitized(&mut self, unit: UnitId, is_saved: bool) {
        if is_saved {
            return self.chore_over(unit, true);
        }
        tracing::debug!(?unit, "a SANITIZE is done, and the state file does not say so yet: tried again");
        self.chore_ended(unit, true);
    }

    /// The end of a chore is shown and answered.
    fn chore_over(&mut self, unit: UnitId, is_done: bool) {
        let Some(Phase::Begun(Begun { chore, asker, .. })) = self.chores.units.remove(&unit) else { return };
        let has_failed = !is_done && chore.is_sanitize();
        if has_failed {
            self.chores.units.insert(unit, Phase::Failed { may_exit: chore.may_exit() });
        }
        let then = match asker {
            Some((reactor, ticket)) if is_done => Then::Answer { reactor, ticket, flushes: None },
            _ => Then::Nothing,
        };
        self.show_chore(unit, None, has_failed, then);
        if !is_done {
            let sense = if has_failed { Sense::SANITIZE_FAILED } else { Sense::FORMAT_FAILED };
            self.answer_asker(asker, Outcome::check(sense));
        }
    }

    /// A command that waits for a chore is aborted. The chore is not, if it has begun.
    pub(super) fn withdraw_chore(&mut self, reactor: ReactorId, ticket: TaskTicket, unit: UnitId) {
        if let Some(Phase::Begun(begun)) = self.chores.units.get_mut(&unit)
            && begun.asker == Some((reactor, ticket))
        {
            let asker = begun.asker.take();
            self.answer_asker(asker, Outcome::of(Status::TaskAborted));
        }
    }

    fn answer_asker(&mut self, asker: Option<Asker>, outcome: Outcome) {
        let Some((reactor, ticket)) = asker else { return };
        self.outbox.send(reactor, ToReactor::Answered { asked: ticket, outcome, flushes: None });
    }

    /// Shows a unit that has this chore, or none.
    fn show_chore(&mut self, unit: UnitId, chore: Option<Arc<Chore>>, has_failed: bool, then: Then) {
        if let Some(view) = self.catalog.registry.busy(unit, chore, has_failed) {
            // A unit that has gone since has nobody to be shown to.
            let _ = self.show_unit(view, None, then);
        }
    }
}
