//! Barriers in flight: a change that every reactor applies at one point of its time, and what follows when all have.
//!
//! Each reactor drains what the barrier waits for and acknowledges; it answers by its own deadline, then saying that a
//! device kept an IO. So nothing here has a deadline. A reactor that has stopped has nothing left to wait for.

use std::collections::{BTreeMap, BTreeSet};

use super::pending::ChangeId;
use crate::id::{BarrierId, ReactorId, UnitId};
use crate::limits::BARRIERS_MAX;
use crate::reactor::message::{TaskTicket, TmfOutcome, TmfTicket};

/// What happens once every reactor has acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// What a barrier before this one was for has failed: it is answered now.
    Fail(Box<Then>),
    /// A part of an operator's change is done.
    Part(ChangeId),
    /// The task management function is answered.
    AnswerTmf {
        /// Who asked.
        reactor: ReactorId,
        /// Where the answer belongs.
        ticket: TmfTicket,
        /// TARGET COLD RESET: the sessions of this target end after the answer (RFC 7143 §11.5.1).
        end_target: Option<String>,
    },
    /// A command that control was asked about is answered.
    Answer {
        /// Who asked.
        reactor: ReactorId,
        /// Where the answer belongs.
        ticket: TaskTicket,
        /// This unit is flushed first.
        flushes: Option<UnitId>,
    },
    /// Every reactor shows that a chore is done on the unit: it begins.
    BeginChore(UnitId),
    /// A change of a unit's reservations is answered, and the next one decided.
    Reserved {
        /// The unit.
        unit: UnitId,
        /// Who asked.
        reactor: ReactorId,
        /// Where the answer belongs.
        ticket: TaskTicket,
    },
}

/// A barrier that every reactor has acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// How it went.
    pub outcome: TmfOutcome,
    /// What follows.
    pub then: Then,
}

#[derive(Debug)]
struct Pending {
    waits_for: BTreeSet<ReactorId>,
    is_clean: bool,
    then: Then,
}

/// The barriers in flight.
#[derive(Debug, Default)]
pub struct Keeper {
    pending: BTreeMap<BarrierId, Pending>,
    last: u64,
}

impl Keeper {
    /// Whether so many barriers are in flight that no peer may cause another.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= BARRIERS_MAX
    }

    /// A new barrier, to be sent to each of `reactors`; at least one.
    pub fn begin(&mut self, reactors: impl Iterator<Item = ReactorId>, then: Then) -> BarrierId {
        self.last += 1;
        let id = BarrierId(self.last);
        self.pending.insert(id, Pending { waits_for: reactors.collect(), is_clean: true, then });
        id
    }

    /// A reactor's acknowledgement. Returns what follows if it was the last.
    #[must_use]
    pub fn done(&mut self, id: BarrierId, reactor: ReactorId, is_clean: bool) -> Option<Finished> {
        let pending = self.pending.get_mut(&id)?;
        if pending.waits_for.remove(&reactor) {
            pending.is_clean &= is_clean;
        }
        if !pending.waits_for.is_empty() {
            return None;
        }
        let Pending { is_clean, then, .. } = self.pending.remove(&id)?;
        Some(Finished { outcome: if is_clean { TmfOutcome::Complete } else { TmfOutcome::Rejected }, then })
    }

    /// A reactor has stopped: it has given everything back. Returns what follows, in the order of the barriers.
    #[must_use]
    pub fn stopped(&mut self, reactor: ReactorId) -> Vec<Finished> {
        let ids: Vec<BarrierId> = self.pending.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.done(id, reactor, true)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    const BOTH: [ReactorId; 2] = [ReactorId(0), ReactorId(1)];

    fn answer(itt: u32) -> Then {
        let ticket = TmfTicket { conn: Key { index: 1, generation: 2 }, itt };
        Then::AnswerTmf { reactor: ReactorId(1), ticket, end_target: None }
    }

    #[test]
    fn it_ends_with_the_last_acknowledgement_only() {
        let mut keeper = Keeper::default();
        let id = keeper.begin(BOTH.into_iter(), answer(7));
        assert_eq!(keeper.done(id, ReactorId(0), true), None);
        assert_eq!(keeper.done(id, ReactorId(0), true), None, "the same reactor does not count twice");
        let finished = Finished { outcome: TmfOutcome::Complete, then: answer(7) };
        assert_eq!(keeper.done(id, ReactorId(1), true), Some(finished));
        assert_eq!(keeper.done(id, ReactorId(1), true), None);
    }

    #[test]
    fn one_reactor_that_is_not_clean_spoils_it() {
        let mut keeper = Keeper::default();
        let id = keeper.begin(BOTH.into_iter(), Then::Nothing);
        assert_eq!(keeper.done(id, ReactorId(1), false), None);
        let finished = Finished { outcome: TmfOutcome::Rejected, then: Then::Nothing };
        assert_eq!(keeper.done(id, ReactorId(0), true), Some(finished));
    }

    #[test]
    fn barriers_end_in_any_order() {
        let mut keeper = Keeper::default();
        let first = keeper.begin(BOTH.into_iter(), answer(1));
        let second = keeper.begin(BOTH.into_iter(), answer(2));
        assert_eq!(keeper.done(first, ReactorId(0), true), None);
        assert_eq!(keeper.done(second, ReactorId(0), true), None);
        assert_eq!(keeper.done(second, ReactorId(1), true).unwrap().then, answer(2));
        assert_eq!(keeper.done(first, ReactorId(1), true).unwrap().then, answer(1));
    }

    #[test]
    fn a_stopped_reactor_is_waited_for_no_more() {
        let mut keeper = Keeper::default();
        let id = keeper.begin(BOTH.into_iter(), answer(1));
        let other = keeper.begin(BOTH.into_iter(), answer(2));
        assert_eq!(keeper.done(id, ReactorId(0), true), None);
        let ended: Vec<Then> =
            keeper.stopped(ReactorId(1)).into_iter().map(|finished| finished.then).collect();
        assert_eq!(ended, [answer(1)]);
        assert_eq!(keeper.done(other, ReactorId(0), true).unwrap().then, answer(2));
    }

    #[test]
    fn it_is_bounded() {
        let mut keeper = Keeper::default();
        for _ in 0..BARRIERS_MAX {
            assert!(!keeper.is_full());
            let _ = keeper.begin(BOTH.into_iter(), Then::Nothing);
        }
        assert!(keeper.is_full());
    }
}
