//! Chores on whole units ([`scsi::chore`](crate::scsi::chore)): every reactor is shown that the unit is busy, then its home does
//! the work, then every reactor is shown that it is ready again, or that it has failed.
//!
//! A chore outlives the command that has asked for it: who withdraws the command, or loses its session, is answered or forgotten,
//! and the chore goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Control;
use super::keeper::Then;
use super::saving::AfterSave;
use crate::id::{ReactorId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket, ToReactor};
use crate::scsi::chore::{Chore, Decision};
use crate::scsi::sense::Sense;
use crate::scsi::view::Medium;
use crate::scsi::{Outcome, Status};

/// A command that waits for a chore.
type Asker = (ReactorId, TaskTicket);

#[derive(Debug)]
enum Phase {
    /// It is being done, or about to be.
    Begun { chore: Arc<Chore>, asker: Option<Asker> },
    /// It has failed, and was a SANITIZE.
    Failed { may_exit: bool },
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
        let decision = match Chore::decide(&ask.cdb, &ask.parameters, view) {
            Ok(decision) => decision,
            Err(sense) => return Some(Outcome::check(sense)),
        };
        let refuse = |sense| Some(Outcome::check(sense));
        match (view.medium, view.is_write_protected()) {
            (_, true) => return refuse(Sense::WRITE_PROTECTED),
            (Medium::Ready | Medium::Failed, _) => {}
            (Medium::Busy, _) => {
                return refuse(view.chore.as_ref().map_or(Sense::NOT_READY, |chore| chore.sense()));
            }
            _ => return refuse(Sense::NOT_READY),
        }
        match (decision, self.chores.units.get(&ask.unit)) {
            (_, Some(Phase::Begun { chore, .. })) => refuse(chore.sense()),
            (_, _) if self.keeper.is_full() => Some(Outcome::of(Status::Busy)),
            (Decision::Nothing, _) | (Decision::ExitFailureMode, None) => Some(Outcome::GOOD),
            (Decision::ExitFailureMode, Some(Phase::Failed { may_exit: true })) => {
                self.chores.units.remove(&ask.unit);
                self.forget_sanitize(ask.unit);
                let (reactor, ticket) = (ask.reactor, ask.ticket);
                self.show_chore(ask.unit, None, false, Then::Answer { reactor, ticket, is_flushed: false });
                None
            }
            // SBC-4 §4.11.5: AUSE was 0.
            (Decision::ExitFailureMode, Some(Phase::Failed { may_exit: false })) => {
                refuse(Sense::invalid_bit(1, 4))
            }
            (Decision::Begin(chore), _) => {
                let chore = Arc::new(chore);
                let begun =
                    Phase::Begun { chore: Arc::clone(&chore), asker: Some((ask.reactor, ask.ticket)) };
                self.chores.units.insert(ask.unit, begun);
                match self.sanitize_key(ask.unit) {
                    // A process that ends meanwhile leaves it unfinished, and its successor has to know.
                    Some(key) if chore.is_sanitize() => {
                        let record = json!({ "may_exit": chore.may_exit() });
                        self.save(&key, Some(record), AfterSave::Sanitize(ask.unit));
                    }
                    _ => self.show_chore(ask.unit, Some(chore), false, Then::BeginChore(ask.unit)),
                }
                None
            }
        }
    }

    /// That a SANITIZE begins is saved, or is not going to be.
    pub(super) fn show_sanitize(&mut self, unit: UnitId, is_saved: bool) {
        let Some(Phase::Begun { chore, asker }) = self.chores.units.get_mut(&unit) else { return };
        if is_saved {
            let chore = Arc::clone(chore);
            return self.show_chore(unit, Some(chore), false, Then::BeginChore(unit));
        }
        let asker = asker.take();
        self.chores.units.remove(&unit);
        self.answer_asker(asker, Outcome::check(Sense::INTERNAL_FAILURE));
    }

    /// The medium of a unit that comes back: one whose SANITIZE has not ended well is not ready before another has.
    pub(super) fn saved_medium(&mut self, unit: UnitId, medium: Medium) -> Medium {
        let record = self.sanitize_key(unit).and_then(|key| self.store.get(&key).cloned());
        let Some(record) = record.filter(|_| !self.chores.units.contains_key(&unit)) else { return medium };
        let may_exit = record.get("may_exit").and_then(Value::as_bool).unwrap_or(false);
        self.chores.units.insert(unit, Phase::Failed { may_exit });
        self.catalog.registry.fail(unit);
        if medium == Medium::Ready { Medium::Failed } else { medium }
    }

    /// The key of the record that a SANITIZE has while it has not ended well.
    fn sanitize_key(&self, unit: UnitId) -> Option<String> {
        self.catalog.registry.uuid_of(unit).map(|uuid| format!("sanitize/{uuid}"))
    }

    fn forget_sanitize(&mut self, unit: UnitId) {
        if let Some(key) = self.sanitize_key(unit) {
            self.store.set(&key, None);
        }
    }

    /// Every reactor shows that the unit is busy, and no device has an IO of before, if all `is_clean`.
    pub(super) fn begin_chore(&mut self, unit: UnitId, is_clean: bool) {
        let Some(Phase::Begun { chore, asker }) = self.chores.units.get_mut(&unit) else { return };
        if !is_clean {
            let asker = asker.take();
            self.chores.units.remove(&unit);
            self.forget_sanitize(unit);
            self.show_chore(unit, None, false, Then::Nothing);
            return self.answer_asker(asker, Outcome::check(Sense::INTERNAL_FAILURE));
        }
        let chore = Arc::clone(chore);
        let asker = if chore.is_immediate() { asker.take() } else { None };
        self.answer_asker(asker, Outcome::GOOD);
        let running: Vec<_> = self.outbox.running().collect();
        if let Some(home) = unit.index().checked_rem(running.len()).and_then(|at| running.get(at)) {
            self.outbox.send(*home, ToReactor::Chore { unit, chore });
        }
    }

    /// The chore of a unit is over.
    pub(super) fn chore_ended(&mut self, unit: UnitId, is_done: bool) {
        let Some(Phase::Begun { chore, asker }) = self.chores.units.remove(&unit) else { return };
        let has_failed = !is_done && chore.is_sanitize();
        if is_done {
            self.forget_sanitize(unit);
        }
        if has_failed {
            self.chores.units.insert(unit, Phase::Failed { may_exit: chore.may_exit() });
        }
        let then = match asker {
            Some((reactor, ticket)) if is_done => Then::Answer { reactor, ticket, is_flushed: false },
            _ => Then::Nothing,
        };
        self.show_chore(unit, None, has_failed, then);
        if !is_done {
            let sense = if has_failed { Sense::SANITIZE_FAILED } else { Sense::FORMAT_FAILED };
            self.answer_asker(asker, Outcome::check(sense));
        }
    }

    /// A command that waits for a chore is aborted. The chore is not.
    pub(super) fn withdraw_chore(&mut self, reactor: ReactorId, ticket: TaskTicket, unit: UnitId) {
        if let Some(Phase::Begun { asker, .. }) = self.chores.units.get_mut(&unit)
            && *asker == Some((reactor, ticket))
        {
            let asker = asker.take();
            self.answer_asker(asker, Outcome::of(Status::TaskAborted));
        }
    }

    fn answer_asker(&mut self, asker: Option<Asker>, outcome: Outcome) {
        let Some((reactor, ticket)) = asker else { return };
        self.outbox.send(reactor, ToReactor::Answered { asked: ticket, outcome, is_flushed: false });
    }

    /// Shows a unit that has this chore, or none.
    fn show_chore(&mut self, unit: UnitId, chore: Option<Arc<Chore>>, has_failed: bool, then: Then) {
        if let Some(view) = self.catalog.registry.busy(unit, chore, has_failed) {
            // A unit that has gone since has nobody to be shown to.
            let _ = self.show_unit(view, None, then);
        }
    }
}
