//! Commands that wait for their turn under a ceiling ([`crate::qos`]): of their logical unit, or of their initiator.
//!
//! They wait before anything is taken for them: a READ without buffers, a WRITE before its first R2T. What a WRITE brought along
//! is bounded ([`limits::PACED_BYTES_MAX`]), the rest of the bound is MaxCmdSN. When its turn has come a command is admitted
//! anew, as much may have changed.
//!
//! Invariant: a command is in [`Phase::Paced`] while it is in the queue, and no longer. What it has booked is used or given back
//! before the pace that it was booked in is replaced.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::id::{SessionId, UnitId};
use crate::iscsi::task::{Outcome, Phase, Task};
use crate::limits;
use crate::net::Net;
use crate::qos::{Asked, Pace, Paces};
use crate::reactor::message::{Retired, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::scsi::{Plan, Status};
use crate::slab::Key;
use crate::time::Tick;

/// A command that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiting {
    until: Tick,
    /// Counts those that have come.
    number: u64,
    task: Key,
    /// The data that it holds.
    bytes: usize,
}

impl Ord for Waiting {
    /// The next one is the greatest.
    fn cmp(&self, other: &Waiting) -> Ordering {
        (other.until, other.number).cmp(&(self.until, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Those that wait.
#[derive(Debug)]
pub(super) struct Paced {
    queue: BinaryHeap<Waiting>,
    number: u64,
}

impl Paced {
    /// With room for so many before it allocates.
    pub(super) fn new(capacity: usize) -> Paced {
        Paced { queue: BinaryHeap::with_capacity(capacity), number: 0 }
    }

    /// When the next one has its turn.
    #[inline]
    pub(super) fn next(&self) -> Option<Tick> {
        self.queue.peek().map(|waiting| waiting.until)
    }

    /// How many.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// What of a command counts; none where nothing does: no data of the medium's go between initiator and target.
fn asked(task: &Task) -> Option<Asked> {
    let is_read = match task.plan {
        Plan::Read(_) | Plan::Protected(_) => task.plan.reads().is_some(),
        Plan::Pass { .. } => task.takes_in,
        Plan::Work(work) if work.is_unmap() => return None,
        Plan::Write(_) | Plan::Work(_) | Plan::Copy(_) => false,
        Plan::End(_) | Plan::Refuse(_) | Plan::Report(_) | Plan::Flush | Plan::Keep(_) | Plan::Ask { .. } => {
            return None;
        }
    };
    (task.moves_bytes > 0).then_some(Asked { is_read, bytes: task.moves_bytes })
}

impl<N: Net> Reactor<N> {
    /// The paces that count a command.
    fn paces(&self, session: Key, unit: Option<UnitId>) -> Paces<'_> {
        let unit = unit.and_then(|unit| self.tables.view(unit)).and_then(|view| view.pace.as_deref());
        Paces { unit, initiator: self.tables.sessions[session].pace() }
    }

    /// A command's turn has come, but for ceilings. Whether it has to wait for them, or has ended, as it would for too long.
    #[inline(never)]
    pub(super) fn is_paced(&mut self, conn: Key, key: Key, now: Tick) -> bool {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return false };
        let Some(task) = self.tables.tasks.get(key).filter(|task| !task.is_booked) else { return false };
        let Some(asked) = asked(task) else { return false };
        let (unit, bytes) = (task.unit, task.piece.as_ref().map_or(0, |piece| piece.buf.len()));
        let paces = self.paces(session, unit);
        let until = paces.book(asked, now);
        if until <= now || planted!(self, CeilingIgnored) {
            if let Some(task) = self.tables.tasks.get_mut(key) {
                task.is_booked = true;
            }
            return false;
        }
        if until.since_ns(now) > limits::PACED_NS {
            paces.give_back(asked);
            self.end(conn, key, Outcome::of(Status::TaskSetFull), now);
            return true;
        }
        self.paced.number += 1;
        self.paced.queue.push(Waiting { until, number: self.paced.number, task: key, bytes });
        self.tables.sessions[session].pause(key, bytes, &mut self.tables.tasks);
        true
    }

    /// Runs those whose turn has come. Whether there was one.
    pub(super) fn run_paced(&mut self, now: Tick) -> bool {
        let mut count = 0;
        while count < limits::PACED_PER_TURN
            && let Some(waiting) = self.paced.queue.peek().copied()
            && waiting.until <= now
        {
            self.paced.queue.pop();
            count += 1;
            if let Some(conn) = self.resume(&waiting, true) {
                self.run(conn, waiting.task, now);
            }
        }
        count > 0
    }

    /// A command waits no longer. Its connection, if it is there still.
    fn resume(&mut self, waiting: &Waiting, is_booked: bool) -> Option<Key> {
        let task = self.tables.tasks.get_mut(waiting.task)?;
        debug_assert!(task.phase == Phase::Paced, "it is in the queue");
        task.is_booked = is_booked;
        let conn = task.conn;
        let session = self.conns.get(conn)?.conn.session_key();
        self.tables.sessions[session].resume(waiting.task, waiting.bytes, &mut self.tables.tasks);
        Some(conn)
    }

    /// Takes commands out of the queue and gives back what they have booked: to be given up, or to book anew. They are in the
    /// order in which they would have had their turns.
    fn unbook(&mut self, is_meant: impl Fn(Key, &Task) -> bool) -> Vec<Key> {
        if self.paced.queue.is_empty() {
            return Vec::new();
        }
        let tasks = &self.tables.tasks;
        let mut taken: Vec<Waiting> = Vec::new();
        self.paced.queue.retain(|waiting| {
            let is_taken = tasks.get(waiting.task).is_none_or(|task| is_meant(waiting.task, task));
            if is_taken {
                taken.push(*waiting);
            }
            !is_taken
        });
        taken.sort_unstable_by(|one, other| other.cmp(one));
        for waiting in &taken {
            let Some(conn) = self.resume(waiting, false) else { continue };
            let (Some(link), Some(task)) = (self.conns.get(conn), self.tables.tasks.get(waiting.task)) else {
                continue;
            };
            if let Some(asked) = asked(task)
                && !planted!(self, BookingKept)
            {
                self.paces(link.conn.session_key(), task.unit).give_back(asked);
            }
        }
        taken.into_iter().map(|waiting| waiting.task).collect()
    }

    /// A command is about to be given up: it waits for no ceiling any more.
    pub(super) fn leave_pace(&mut self, key: Key) {
        self.unbook(|waiting, _| waiting == key);
    }

    /// So are all of a connection.
    pub(super) fn leave_pace_of(&mut self, conn: Key) {
        self.unbook(|_, task| task.conn == conn);
    }

    /// A unit is about to be shown under another pace, or not at all: those that wait for it are to run anew.
    pub(super) fn unbook_unit(&mut self, unit: UnitId) -> Vec<Key> {
        self.unbook(|_, task| task.unit == Some(unit))
    }

    /// A session's initiator has another pace, or none.
    pub(super) fn repace_session(&mut self, session: SessionId, pace: Option<Arc<Pace>>, now: Tick) {
        let Some(key) = self.tables.sessions.find(session) else {
            // It has ended, which control will hear of.
            return self.retire_pace(pace);
        };
        if self.tables.sessions[key].pace() == pace.as_deref() {
            return self.retire_pace(pace);
        }
        let conns = self.conns_of(session);
        let taken = self.unbook(|_, task| conns.contains(&task.conn));
        let old = self.tables.sessions[key].set_pace(pace);
        self.retire_pace(old);
        self.run_anew(&taken, now);
    }

    /// Sends back what control shall free.
    pub(super) fn retire_pace(&mut self, pace: Option<Arc<Pace>>) {
        if let Some(pace) = pace {
            self.tell(ToControl::Retired(Retired::Pace(pace)));
        }
    }

    /// Runs commands that were taken out of the queue: they book anew.
    pub(super) fn run_anew(&mut self, taken: &[Key], now: Tick) {
        for &key in taken {
            if let Some(task) = self.tables.tasks.get(key) {
                self.run(task.conn, key, now);
            }
        }
    }
}
