//! Commands that wait for their turn under a ceiling ([`crate::qos`]): of their logical unit, or of their initiator.
//!
//! They wait before anything is taken for them: a READ without buffers, a WRITE before its first R2T. What a WRITE brought along
//! is bounded ([`limits::PACED_BYTES_MAX`]), the rest of the bound is MaxCmdSN. When its turn has come a command is admitted
//! anew, as much may have changed.
//!
//! Invariant: a command that waits is in the queue, once. What it has booked is used or given back before the pace that it was
//! booked in is replaced. One that is given up never waits again: what is left of it in the queue means nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::id::{SessionId, UnitId};
use crate::iscsi::task::{Outcome, Task};
use crate::limits;
use crate::net::Net;
use crate::qos::{Asked, Booked, Pace, Paces, Whose};
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
    since: Tick,
    /// Whose ceiling it waits for.
    whose: Whose,
    /// Counts those that have come.
    number: u64,
    task: Key,
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
///
/// Who is given up stays in the queue until its time has come, there is no room, or nobody waits: so that costs the same however
/// many wait.
#[derive(Debug, Default)]
pub(super) struct Paced {
    queue: BinaryHeap<Waiting>,
    number: u64,
    /// Those in the queue that still wait.
    count: usize,
    /// Those that were taken out to book anew, in the order in which they would have had their turns.
    taken: Vec<Waiting>,
    /// How many were looked at because some were given up or taken out.
    #[cfg(feature = "sim")]
    steps: usize,
}

impl Paced {
    /// Makes room for so many that wait, and as many that do not any more. Allocates.
    pub(super) fn hold(&mut self, tasks: usize) {
        self.queue.reserve_exact((2 * tasks).saturating_sub(self.queue.len()));
        self.taken.reserve_exact(tasks.saturating_sub(self.taken.len()));
    }

    /// When the next one has its turn, or would have had it.
    #[inline]
    pub(super) fn next(&self) -> Option<Tick> {
        self.queue.peek().map(|waiting| waiting.until)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// What giving up and taking out has cost so far, and for how many there is room.
    #[cfg(feature = "sim")]
    pub(super) fn cost(&self) -> (usize, usize) {
        (self.steps, self.queue.capacity() + self.taken.capacity())
    }

    #[cfg(feature = "sim")]
    fn looked_at(&mut self, count: usize) {
        self.steps += count;
    }

    #[cfg(not(feature = "sim"))]
    fn looked_at(&mut self, _: usize) {}

    /// Adds one that is booked. `waits`: whether one of those that were added before waits still.
    fn push(&mut self, booked: Booked, since: Tick, task: Key, waits: impl Fn(Key) -> bool) {
        if self.queue.len() == self.queue.capacity() {
            // Half of them wait no longer, or there would be more commands than there may be.
            self.looked_at(self.queue.len());
            self.queue.retain(|waiting| waits(waiting.task));
        }
        self.number += 1;
        self.count += 1;
        let Booked { at: until, by: whose } = booked;
        self.queue.push(Waiting { until, since, whose, number: self.number, task });
    }

    /// Takes out the next one whose time has come, be it that it waits no longer.
    fn pop(&mut self, now: Tick) -> Option<Waiting> {
        self.queue.peek().filter(|waiting| waiting.until <= now)?;
        self.queue.pop()
    }

    /// One waits no longer.
    fn left(&mut self) {
        self.count -= 1;
        if self.count == 0 {
            self.queue.clear();
        }
    }

    /// Takes out all that are meant, and those that wait no longer: of these nothing is known.
    fn take(&mut self, is_meant: impl Fn(Key) -> Option<bool>) {
        self.looked_at(self.queue.len());
        let taken = &mut self.taken;
        self.queue.retain(|waiting| match is_meant(waiting.task) {
            Some(true) => {
                taken.push(*waiting);
                false
            }
            Some(false) => true,
            None => false,
        });
        self.taken.sort_unstable_by(|one, other| other.cmp(one));
    }
}

/// What of a command counts; none where nothing does: no data of the medium's go between initiator and target.
fn asked(task: &Task) -> Option<Asked> {
    let is_read = match task.plan {
        Plan::Read(_) | Plan::Protected(_) => task.plan.reads().is_some(),
        Plan::Pass { .. } => task.takes_in,
        Plan::Work(work) if work.is_unmap() => return None,
        Plan::Write(_) | Plan::Work(_) | Plan::Copy(_) => false,
        Plan::End(_)
        | Plan::Refuse(_)
        | Plan::Report(_)
        | Plan::Flush
        | Plan::Keep(_)
        | Plan::AbortCopy { .. }
        | Plan::Ask { .. } => return None,
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
        let booked = paces.book(asked, now);
        if booked.at <= now || planted!(self, CeilingIgnored) {
            if let Some(task) = self.tables.tasks.get_mut(key) {
                task.is_booked = true;
            }
            return false;
        }
        if booked.at.since_ns(now) > limits::PACED_NS {
            paces.give_back(asked);
            self.end(conn, key, Outcome::of(Status::TaskSetFull), now);
            return true;
        }
        let tasks = &self.tables.tasks;
        self.paced.push(booked, now, key, |key| tasks.get(key).is_some_and(Task::is_paced));
        self.tables.sessions[session].pause(key, bytes, &mut self.tables.tasks);
        true
    }

    /// Runs those whose turn has come. Whether there was one.
    pub(super) fn run_paced(&mut self, now: Tick) -> bool {
        let mut count = 0;
        while count < limits::PACED_PER_TURN
            && let Some(waiting) = self.paced.pop(now)
        {
            count += 1;
            if let Some(conn) = self.resume(waiting.task, true) {
                self.count_wait(conn, &waiting, now);
                self.run(conn, waiting.task, now);
            }
        }
        count > 0
    }

    /// Counts a command that has waited until its turn came.
    fn count_wait(&self, conn: Key, waiting: &Waiting, now: Tick) {
        let (Some(link), Some(task)) = (self.conns.get(conn), self.tables.tasks.get(waiting.task)) else {
            return;
        };
        let (session, ns) = (link.conn.session_key(), now.since_ns(waiting.since));
        self.tables.sessions[session].count_wait(waiting.whose, ns);
        if let (Whose::Unit, Some(pace)) = (waiting.whose, self.paces(session, task.unit).unit) {
            pace.waits().add(ns);
        }
    }

    /// A command waits no longer, if it did. Its connection.
    fn resume(&mut self, key: Key, is_booked: bool) -> Option<Key> {
        let task = self.tables.tasks.get_mut(key).filter(|task| task.is_paced())?;
        task.is_booked = is_booked;
        let conn = task.conn;
        let session = self.conns.get(conn)?.conn.session_key();
        self.tables.sessions[session].resume(key, &mut self.tables.tasks);
        self.paced.left();
        Some(conn)
    }

    /// A command is about to be given up, or to book anew: it waits no longer, and what it has booked is given back.
    pub(super) fn leave_pace(&mut self, key: Key) {
        let Some(conn) = self.resume(key, false) else { return };
        self.paced.looked_at(1);
        if let (Some(link), Some(task)) = (self.conns.get(conn), self.tables.tasks.get(key))
            && let Some(asked) = asked(task)
            && !planted!(self, BookingKept)
        {
            self.paces(link.conn.session_key(), task.unit).give_back(asked);
        }
    }

    /// All of a connection are about to be given up.
    pub(super) fn leave_pace_of(&mut self, conn: Key) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        if !self.tables.sessions[session].has_paused() {
            return;
        }
        let mut at = self.tables.sessions[session].tasks().first();
        while let Some(key) = at {
            at = self.tables.tasks.next(key);
            if self.tables.tasks.get(key).is_some_and(|task| task.conn == conn) {
                self.leave_pace(key);
            }
        }
    }

    /// Takes commands out of the queue: they are to book anew ([`Reactor::run_anew`]).
    fn unbook(&mut self, is_meant: impl Fn(&Task) -> bool) {
        if self.paced.count == 0 {
            return;
        }
        let tasks = &self.tables.tasks;
        self.paced.take(|key| tasks.get(key).filter(|task| task.is_paced()).map(&is_meant));
        let taken = std::mem::take(&mut self.paced.taken);
        taken.iter().for_each(|waiting| self.leave_pace(waiting.task));
        self.paced.taken = taken;
    }

    /// A unit is about to be shown under another pace, or not at all: those that wait for it are to run anew.
    pub(super) fn unbook_unit(&mut self, unit: UnitId) {
        self.unbook(|task| task.unit == Some(unit));
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
        self.unbook(|task| conns.contains(&task.conn));
        let old = self.tables.sessions[key].set_pace(pace);
        self.retire_pace(old);
        self.run_anew(now);
    }

    /// Sends back what control shall free.
    pub(super) fn retire_pace(&mut self, pace: Option<Arc<Pace>>) {
        if let Some(pace) = pace {
            self.tell(ToControl::Retired(Retired::Pace(pace)));
        }
    }

    /// Runs the commands that were taken out of the queue: they book anew.
    pub(super) fn run_anew(&mut self, now: Tick) {
        let mut taken = std::mem::take(&mut self.paced.taken);
        for waiting in taken.drain(..) {
            if let Some(task) = self.tables.tasks.get(waiting.task) {
                self.run(task.conn, waiting.task, now);
            }
        }
        self.paced.taken = taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    fn held(tasks: u32) -> Paced {
        let mut paced = Paced::default();
        paced.hold(tasks as usize);
        (0..tasks).for_each(|index| push(&mut paced, u64::from(tasks - index), index, |_| true));
        paced
    }

    fn push(paced: &mut Paced, until: u64, index: u32, waits: impl Fn(Key) -> bool) {
        let booked = Booked { at: Tick::from_ns(until), by: Whose::Unit };
        paced.push(booked, Tick::ZERO, key(index), waits);
    }

    #[test]
    fn all_in_the_order_of_their_turns() {
        let mut paced = held(3);
        push(&mut paced, 2, 3, |_| true);
        assert_eq!((paced.next(), paced.pop(Tick::ZERO)), (Some(Tick::from_ns(1)), None));
        let mut order = Vec::new();
        while let Some(next) = paced.pop(Tick::from_ns(9)) {
            paced.left();
            order.push(next.task.index);
        }
        assert_eq!(order, [2, 1, 3, 0]);
    }

    #[test]
    fn some_are_taken_out_in_order_and_the_others_stay() {
        let mut paced = held(6);
        // The last waits no longer.
        paced.left();
        paced.take(|key| (key.index < 5).then_some(key.index % 2 == 1));
        assert_eq!(paced.taken.iter().map(|waiting| waiting.task.index).collect::<Vec<_>>(), [3, 1]);
        assert_eq!((paced.queue.len(), paced.cost().0), (3, 6));
    }

    #[test]
    fn who_comes_and_is_given_up_takes_no_room_and_next_to_no_time() {
        const TASKS: u32 = 64;
        const MANY: u32 = 10_000;
        let mut paced = held(TASKS);
        let room = paced.cost().1;
        // All but one wait; one after the other comes and is given up.
        paced.left();
        for index in TASKS..TASKS + MANY {
            let given_up = TASKS - 1..index;
            push(&mut paced, 1, index, |key| !given_up.contains(&key.index));
            paced.left();
        }
        let (steps, room_after) = paced.cost();
        assert_eq!(room_after, room);
        // The queue is looked through whenever as many were given up as there may be commands.
        assert!(steps <= 2 * MANY as usize + room, "{steps}");
        (1..TASKS).for_each(|_| paced.left());
        assert_eq!((paced.len(), paced.next()), (0, None));
    }
}
