//! How a member is filled: window by window, while what would change a window waits.

use std::sync::atomic::Ordering;

use super::super::planted::planted;
use super::copier::{PATIENCE_NS, Trouble};
use super::plan::{Role, Set};
use super::record::News;
use super::warden::{Job, Next, Warden};
use crate::bdev::{IoError, Op};
use crate::buf::Buf;
use crate::time::Tick;

/// A member whose flush is given up so often, and once more, has failed.
const FLUSH_FAILURES_MAX: u32 = 3;

/// How far that has come.
#[derive(Debug)]
pub(super) enum Fill {
    /// Until there is a way to the member: nothing goes there before, as changes would wait for that.
    Opening { since: Tick },
    /// Until all changes go to the member, and there still is a way to it.
    Announced { since: Tick },
    /// Until no change is at work that could be in this window.
    Window(u64),
    /// A piece is being read, of the first of these members; others have failed to.
    Reading { window: u64, lba: u64, sources: Set },
    /// It is being written.
    Writing { window: u64, lba: u64, blocks: u64 },
    /// These are still to be flushed; the first of them was given up so often.
    Flushing { left: Set, failures: u32 },
}

impl Fill {
    fn flushing(left: Set) -> Fill {
        Fill::Flushing { left, failures: 0 }
    }
}

impl Warden {
    /// Goes on with it.
    pub(super) fn fill(&mut self, member: usize, step: Fill, now: Tick) -> Next {
        let (step, next) = match step {
            // An operator has a say in that, and the member may go.
            Fill::Opening { .. } if !self.is_due(member, now) => return Next::AtOnce,
            Fill::Opening { .. } if self.has_ways(member, now) => (self.announce(member, now), Next::AtOnce),
            Fill::Opening { since } if now.since_ns(since) > PATIENCE_NS => {
                return self.give_up(member, Trouble::NoWay, now);
            }
            Fill::Opening { .. } => (step, Next::After(self.times.look_ns)),
            Fill::Announced { since } if self.shared.is_everywhere(self.epoch) => {
                // Before anybody waits for the first window.
                if self.has_ways(member, now) {
                    self.next_window(0)
                } else if now.since_ns(since) > PATIENCE_NS {
                    return self.give_up(member, Trouble::NoWay, now);
                } else {
                    (step, Next::After(self.times.look_ns))
                }
            }
            Fill::Window(window) if self.shared.is_everywhere(self.epoch) || planted!(CopiedOver) => {
                let lba = window * self.shape().window_blocks();
                match self.copier.take() {
                    Some(data) => (self.read(window, lba, self.plan.current(), data, now), Next::AtOnce),
                    // Nobody is to wait for memory.
                    None => return self.give_up(member, Trouble::NoWay, now),
                }
            }
            Fill::Announced { .. } | Fill::Window(_) => (step, Next::Soon),
            Fill::Reading { .. } | Fill::Writing { .. } | Fill::Flushing { .. } => {
                return self.piece(member, step, now);
            }
        };
        self.job = Job::Fill { member, step };
        next
    }

    /// All changes go to the member from now on.
    fn announce(&mut self, member: usize, now: Tick) -> Fill {
        let name = self.name(member);
        self.records.tell(News::Filling(&name));
        self.know(member);
        self.shared.filled_blocks.store(0, Ordering::Relaxed);
        self.publish(self.plan.with_role(member, Role::Filling));
        Fill::Announced { since: now }
    }

    /// Whether there is memory, and a way to the member and to those that it is filled from.
    fn has_ways(&mut self, member: usize, now: Tick) -> bool {
        let members = self.plan.current().with(Set::of(member));
        let are_ready = members.iter().all(|member| self.copier.is_ready(member, &self.shared.places, now));
        are_ready && self.copier.take().is_some()
    }

    /// What is in the window waits from now on.
    fn next_window(&mut self, window: u64) -> (Fill, Next) {
        let shape = self.shape();
        let done = (window * shape.window_blocks()).min(shape.blocks);
        self.shared.filled_blocks.store(done, Ordering::Relaxed);
        if window < shape.windows() {
            self.publish(self.plan.with_window(Some(window)));
            (Fill::Window(window), Next::AtOnce)
        } else {
            self.publish(self.plan.with_window(None));
            (Fill::flushing(self.plan.written()), Next::AtOnce)
        }
    }

    /// The blocks of the piece that begins here.
    fn piece_blocks(&self, window: u64, lba: u64) -> u64 {
        let shape = self.shape();
        let end = ((window + 1) * shape.window_blocks()).min(shape.blocks);
        shape.piece_blocks().min(end.saturating_sub(lba))
    }

    fn read(&mut self, window: u64, lba: u64, sources: Set, data: Buf, now: Tick) -> Fill {
        let blocks = u32::try_from(self.piece_blocks(window, lba)).unwrap_or(1);
        if let Some(source) = sources.first() {
            self.copier.order(source, Op::Read { lba, blocks }, Some(data), now);
        }
        Fill::Reading { window, lba, sources }
    }

    /// Something is in a device for the member that is being filled.
    fn piece(&mut self, member: usize, step: Fill, now: Tick) -> Next {
        if let Fill::Flushing { left, .. } = step
            && self.copier.is_idle()
        {
            match left.first() {
                Some(first) => self.copier.order(first, Op::Flush, None, now),
                None => return self.promote(member, now),
            }
        }
        let Some(done) = self.copier.poll(&self.shared.places, now) else {
            self.job = Job::Fill { member, step };
            return Next::Soon;
        };
        let step = match (step, done.data, done.result) {
            // One that was taken out meanwhile may have been read only after it had lost what it held.
            (Fill::Reading { window, lba, sources }, Some(data), Ok(()))
                if sources.first().is_some_and(|source| self.plan.current().has(source)) =>
            {
                let blocks = self.piece_blocks(window, lba);
                let op = Op::Write { lba, blocks: u32::try_from(blocks).unwrap_or(1), fua: false };
                self.copier.order(member, op, Some(data), now);
                Fill::Writing { window, lba, blocks }
            }
            (Fill::Reading { window, lba, sources }, Some(data), result) => {
                // Changes are kept out of here, so others have the same.
                let others = sources.first().map_or(sources, |source| sources.without(Set::of(source)));
                let others = others.and(self.plan.current());
                if others.is_empty() {
                    let trouble = result.err().unwrap_or(Trouble::Failed(IoError::Gone));
                    return self.give_up(member, trouble, now);
                }
                self.read(window, lba, others, data, now)
            }
            (Fill::Writing { window, lba, blocks }, Some(data), Ok(())) => {
                if self.piece_blocks(window, lba + blocks) > 0 {
                    self.read(window, lba + blocks, self.plan.current(), data, now)
                } else {
                    drop(data);
                    self.next_window(window + 1).0
                }
            }
            (Fill::Flushing { left, .. }, _, Ok(())) => {
                Fill::flushing(left.first().map_or(left, |first| left.without(Set::of(first))))
            }
            (Fill::Flushing { left, failures }, _, Err(trouble)) => {
                let flushed = left.first().unwrap_or(member);
                // What it has written it still has to flush. Of who is being filled nobody knows whether it still has that.
                if flushed != member && trouble.is_aborted() && failures < FLUSH_FAILURES_MAX {
                    Fill::Flushing { left, failures: failures + 1 }
                } else {
                    if trouble.is_members() || trouble.is_aborted() {
                        self.failed = self.failed.with(Set::of(flushed));
                    }
                    // Whoever it is, this one is filled anew.
                    return self.give_up_because_of(flushed, member, trouble, now);
                }
            }
            (_, _, result) => {
                let trouble = result.err().unwrap_or(Trouble::Failed(IoError::Aborted));
                return self.give_up(member, trouble, now);
            }
        };
        self.job = Job::Fill { member, step };
        Next::AtOnce
    }

    /// A member cannot be filled.
    fn give_up(&mut self, member: usize, trouble: Trouble, now: Tick) -> Next {
        self.give_up_because_of(member, member, trouble, now)
    }

    /// A member cannot be filled, because of what this one could not do.
    fn give_up_because_of(&mut self, other: usize, member: usize, trouble: Trouble, now: Tick) -> Next {
        let (name, of) = (self.name(member), self.name(other));
        match trouble {
            Trouble::NoWay => self.records.tell(News::NoWay(&of)),
            Trouble::Failed(error) if other != member => {
                self.records.tell(News::NotFlushed { member: &of, filled: &name, error });
            }
            Trouble::Failed(error) => self.records.tell(News::NotFilled(&name, error)),
        }
        self.put_off(member, now, trouble != Trouble::NoWay);
        self.publish(self.plan.with_out(Set::of(member)).with_window(None));
        self.job = Job::Idle;
        Next::AtOnce
    }

    /// A member has all, and says so after a power cut too.
    fn promote(&mut self, member: usize, now: Tick) -> Next {
        // What began for another reader may be on the present one, which has been read since, and not yet here.
        if !self.shared.is_everywhere(self.epoch) && !planted!(FilledTooEarly) {
            self.job = Job::Fill { member, step: Fill::flushing(Set::EMPTY) };
            return Next::Soon;
        }
        let plan = self.plan.with_role(member, Role::Current);
        let record = self.record(plan, self.may_differ());
        if !self.save(record, now) {
            self.job = Job::Fill { member, step: Fill::flushing(Set::EMPTY) };
            return Next::After(self.times.look_ns);
        }
        self.publish(plan);
        self.again.iter_mut().skip(member).take(1).for_each(|again| *again = (Tick::ZERO, 0));
        let name = self.name(member);
        self.records.tell(News::Filled(&name));
        Next::AtOnce
    }
}
