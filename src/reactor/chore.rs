//! Chores of units that this reactor is home to ([`scsi::chore`](crate::scsi::chore)): one device IO at a time, for nobody's
//! session.
//!
//! Level-triggered, as holds are: [`Reactor::settle_chores`] does once a turn what is to be done, so that what finds no buffer
//! is tried again.

use std::sync::Arc;

use crate::bdev::{IoError, Op};
use crate::buf::Buf;
use crate::id::UnitId;
use crate::net::Net;
use crate::reactor::message::ToControl;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::Reactor;
use crate::scsi::Outcome;
use crate::scsi::chore::{Chore, End};
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::time::Tick;

/// A chore at work.
#[derive(Debug)]
pub(super) struct AtWork {
    unit: UnitId,
    chore: Arc<Chore>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The next IO is to be made.
    Idle,
    InDevice,
    /// All is done, and what was written is being made durable.
    Flushing,
    Over(End),
}

impl<N: Net> Reactor<N> {
    pub(super) fn begin_chore(&mut self, unit: UnitId, chore: Arc<Chore>) {
        self.chores.push(AtWork { unit, chore, state: State::Idle });
    }

    /// Whether something is to be done for one.
    pub(super) fn has_chores_due(&self) -> bool {
        let is_due = |at_work: &AtWork| match at_work.state {
            // A new view comes as a message.
            State::Idle => !self.tables.view(at_work.unit).is_some_and(is_unsettled),
            State::Over(_) => true,
            State::InDevice | State::Flushing => false,
        };
        self.chores.iter().any(is_due)
    }

    /// Does what chores call for. Once a turn.
    pub(super) fn settle_chores(&mut self, now: Tick) {
        let mut index = 0;
        while let Some(at_work) = self.chores.get(index) {
            match at_work.state {
                // The end of the reactor is the end of it.
                State::Idle if self.stopping.is_some() => {
                    self.chores.swap_remove(index);
                    continue;
                }
                State::Idle => self.go_on_with(index, now),
                State::Over(end) => {
                    let AtWork { unit, chore, .. } = self.chores.swap_remove(index);
                    self.tell(ToControl::ChoreEnded { unit, chore, end });
                    continue;
                }
                State::InDevice | State::Flushing => {}
            }
            index += 1;
        }
    }

    /// Makes the next IO, where there is a buffer for it. Not while a device keeps what was given up: the unit is shown as busy again
    /// when it has given that back.
    fn go_on_with(&mut self, index: usize, now: Tick) {
        let Some(AtWork { unit, chore, state }) = self.chores.get_mut(index) else { return };
        let unit = *unit;
        if self.tables.view(unit).is_some_and(is_unsettled) {
            return;
        }
        let (op, data) = match chore.next() {
            None => {
                *state = State::Flushing;
                (Op::Flush, None)
            }
            Some(op) => {
                let bytes = chore.next_bytes();
                let mut data = None;
                if bytes > 0 {
                    let Some(mut buf) = self.tables.solicited.take(bytes) else { return };
                    buf.truncate(bytes);
                    chore.fill(&mut buf);
                    data = Some(buf);
                }
                *state = State::InDevice;
                (op, data)
            }
        };
        self.serial += 1;
        let record = InFlight { is_chore: true, ..InFlight::of_nobody(unit, op, self.serial) };
        let Some(key) = self.tables.add_io(record, data) else {
            // Every place is a command's: another turn.
            if let Some(at_work) = self.chores.get_mut(index) {
                at_work.state = State::Idle;
            }
            return;
        };
        self.enter(unit, key, now);
    }

    /// Whether the unit is still shown as one that a chore is done on, and has these blocks.
    pub(super) fn recheck_chore(&self, unit: UnitId, op: Op) -> Result<(), Outcome> {
        let Some(view) = self.tables.view(unit) else { return Err(Outcome::check(Sense::NO_SUCH_UNIT)) };
        let end = op.extent().map_or(0, |(lba, blocks)| lba.saturating_add(u64::from(blocks)));
        match view.medium {
            Medium::Busy if end > view.blocks => Err(Outcome::check(Sense::LBA_OUT_OF_RANGE)),
            Medium::Busy => Ok(()),
            _ => Err(Outcome::check(Sense::NOT_READY)),
        }
    }

    /// A chore's IO has not reached the device: the unit is gone, smaller, or has lost its medium. Or it became unsettled while
    /// the IO waited for room: then it is made later.
    pub(super) fn chore_refused(&mut self, unit: UnitId) {
        let is_early = self.tables.view(unit).is_some_and(is_unsettled);
        self.set_chore(unit, |_| if is_early { State::Idle } else { State::Over(End::Refused) });
    }

    /// A chore's IO has come back.
    pub(super) fn chore_io_ended(&mut self, unit: UnitId, data: Option<Buf>, result: Result<(), IoError>) {
        drop(data);
        self.set_chore(unit, |at_work| match (result, at_work.state) {
            (Ok(()), State::Flushing) => State::Over(End::Done),
            (Ok(()), _) => {
                at_work.chore.finished();
                State::Idle
            }
            // A reset has asked for its early end, and does not mean it.
            (Err(IoError::Cancelled), _) => State::Idle,
            (Err(_), _) => State::Over(End::Failed),
        });
    }

    fn set_chore(&mut self, unit: UnitId, state: impl FnOnce(&AtWork) -> State) {
        if let Some(at_work) = self.chores.iter_mut().find(|at_work| at_work.unit == unit) {
            at_work.state = state(at_work);
        }
    }
}

fn is_unsettled(view: &UnitView) -> bool {
    view.medium == Medium::Unsettled
}
