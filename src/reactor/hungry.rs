//! Commands that wait for a buffer, in the order in which they came.
//!
//! One that is worked off in steps holds the buffer of its data while it waits for another to work with. So that those never
//! wait for each other alone, the last of the largest buffers is kept for them ([`Pool::take_kept`](crate::buf::Pool::take_kept)),
//! and they may pass those that hold nothing.

use std::collections::VecDeque;

use crate::iscsi::task::Phase;
use crate::net::Net;
use crate::reactor::turn::Reactor;
use crate::scsi::Plan;
use crate::slab::Key;
use crate::time::Tick;

/// A command that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Waiting {
    task: Key,
    /// Counts those that have come.
    number: u64,
    /// It is worked off in steps.
    is_at_work: bool,
}

/// The queue: as two, each in order.
#[derive(Debug)]
pub(super) struct Hungry {
    others: VecDeque<Waiting>,
    at_work: VecDeque<Waiting>,
    number: u64,
}

impl Hungry {
    /// With room for so many of either kind before it allocates.
    pub(super) fn new(capacity: usize) -> Hungry {
        let [others, at_work] = [(); 2].map(|()| VecDeque::with_capacity(capacity));
        Hungry { others, at_work, number: 0 }
    }

    /// Forgets those that are not `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(Key) -> bool) {
        self.others.retain(|waiting| wanted(waiting.task));
        self.at_work.retain(|waiting| wanted(waiting.task));
    }

    /// How many tasks wait.
    pub(super) fn len(&self) -> usize {
        self.others.len() + self.at_work.len()
    }

    fn queue(&mut self, is_at_work: bool) -> &mut VecDeque<Waiting> {
        if is_at_work { &mut self.at_work } else { &mut self.others }
    }

    /// Adds one. Those that are not there any more, as they were aborted, go before the queue grows for their sake.
    fn push(&mut self, task: Key, is_at_work: bool, is_there: impl Fn(Key) -> bool) {
        self.number += 1;
        let waiting = Waiting { task, number: self.number, is_at_work };
        let queue = self.queue(is_at_work);
        if queue.len() == queue.capacity() {
            queue.retain(|waiting| is_there(waiting.task));
            // So that not each one that comes goes through all that are there.
            queue.reserve(queue.len() + 1);
        }
        queue.push_back(waiting);
    }

    /// Takes out who came first, of those at work where the others are to wait.
    fn pop(&mut self, is_for_work: bool) -> Option<Waiting> {
        let number = |queue: &VecDeque<Waiting>| queue.front().map_or(u64::MAX, |first| first.number);
        let is_at_work = is_for_work || number(&self.at_work) < number(&self.others);
        self.queue(is_at_work).pop_front()
    }

    /// One that was taken out, and has come again, keeps its place. Whether it is so.
    fn put_back(&mut self, waiting: Waiting) -> bool {
        let queue = self.queue(waiting.is_at_work);
        let is_so = queue.back().is_some_and(|last| last.task == waiting.task);
        if is_so {
            queue.pop_back();
            queue.push_front(waiting);
        }
        is_so
    }
}

impl<N: Net> Reactor<N> {
    /// Puts a task into the queue for a buffer.
    pub(super) fn go_hungry(&mut self, key: Key) {
        if let Some(task) = self.tables.tasks.get_mut(key)
            && !task.is_waiting_for_buffer
        {
            task.is_waiting_for_buffer = true;
            let (is_at_work, tasks) = (task.job.is_some(), &self.tables.tasks);
            self.hungry.push(key, is_at_work, |waiting| tasks.get(waiting).is_some());
        }
    }

    /// Lets those that wait for a buffer try again, in order, until one finds none: behind one that holds none, only those
    /// that do.
    pub(super) fn feed(&mut self, now: Tick) {
        let mut is_for_work = false;
        for _ in 0..self.hungry.len() {
            let Some(waiting) = self.hungry.pop(is_for_work) else { return };
            let Some(task) = self.tables.tasks.get_mut(waiting.task) else { continue };
            task.is_waiting_for_buffer = false;
            let (key, conn) = (waiting.task, task.conn);
            if task.phase == Phase::Answered || task.again.is_some() {
                self.resend(conn, key, now);
                // One that is not over may want something for itself.
                self.advance_read(conn, key, now);
            } else if let Plan::Pass { .. } = task.plan {
                self.advance_pass(conn, key, now);
            } else if task.plan.reads().is_some() {
                self.advance_read(conn, key, now);
            } else if task.job.is_some() {
                self.work_on(conn, key, now);
            } else {
                self.advance_write(conn, key, now);
            }
            if self.hungry.put_back(waiting) {
                if waiting.is_at_work {
                    return;
                }
                is_for_work = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key { index, generation: 0 }
    }

    #[test]
    fn all_in_order_and_those_at_work_alone_where_the_others_wait() {
        let mut hungry = Hungry::new(4);
        for (index, is_at_work) in [(1, false), (2, true), (3, false), (4, true)] {
            hungry.push(key(index), is_at_work, |_| true);
        }
        let mut order = Vec::new();
        while let Some(waiting) = hungry.pop(false) {
            order.push(waiting.task.index);
        }
        assert_eq!(order, [1, 2, 3, 4]);

        hungry.push(key(5), false, |_| true);
        hungry.push(key(6), true, |_| true);
        let first = hungry.pop(false).unwrap();
        assert_eq!((first.task, hungry.put_back(first)), (key(5), false), "it got what it wanted");
        hungry.push(key(5), false, |_| true);
        assert!(hungry.put_back(first));
        assert_eq!(hungry.pop(true).map(|next| next.task), Some(key(6)));
        assert_eq!(hungry.pop(true), None);
        assert_eq!(hungry.pop(false), Some(first));
        assert_eq!(hungry.len(), 0);
    }

    #[test]
    fn it_does_not_grow_for_those_that_are_gone() {
        let mut hungry = Hungry::new(4);
        let is_there = |task: Key| task.index % 100 == 1;
        (1..=10_000).for_each(|index| hungry.push(key(index), false, is_there));
        let there: Vec<_> =
            hungry.others.iter().map(|waiting| waiting.task).filter(|key| is_there(*key)).collect();
        assert_eq!(there, (0..100).map(|hundreds| key(100 * hundreds + 1)).collect::<Vec<_>>(), "in order");
        assert!(hungry.others.capacity() <= 512, "{}", hungry.others.capacity());
    }
}
