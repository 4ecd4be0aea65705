//! How an IO of a mirror comes from one stage to the next, in whichever member it is not.

use std::sync::atomic::Ordering;

use super::super::super::planted::planted;
use super::super::plan::Set;
use super::super::regions::Regions;
use super::super::slot::{Mending, Slot, Stage};
use super::MirrorChannel;
use crate::bdev::{IoError, Op};
use crate::slab::Key;

impl MirrorChannel {
    /// A change says that it begins, and then looks whether it may: see [`Shared::is_everywhere`]. So does a read that mends; that makes
    /// no members differ.
    fn may_begin(&mut self, key: Key) -> bool {
        let Some((op, is_read)) = self.slots.get(key).map(|slot| (slot.op, slot.is_read())) else {
            return false;
        };
        let is_change = op != Op::Flush && !is_read;
        self.seat.active.store(self.active + 1, Ordering::SeqCst);
        let (epoch, plan) = (self.shared.epoch(), self.shared.plan());
        let is_dirty = plan.is_dirty() || !is_change || planted!(DirtyAfterTheWrite);
        let shape = self.shared.shape.get();
        let is_copied =
            plan.window().is_some_and(|window| shape.is_none_or(|shape| shape.overlaps(op, window)))
                && !planted!(CopiedOver);
        if !plan.is_dirty() && is_change {
            self.shared.want_change();
        }
        if !is_dirty || is_copied || !self.is_alone(key) {
            self.seat.active.store(self.active, Ordering::SeqCst);
            return false;
        }
        self.active += 1;
        if is_change {
            self.seat.changes.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(slot) = self.slots.get_mut(key) {
            (slot.is_begun, slot.plan, slot.epoch, slot.left) = (true, plan, epoch, plan.written());
        }
        true
    }

    /// The regions of what a change changes.
    pub(super) fn regions(&self, op: Op) -> Option<std::ops::Range<u64>> {
        let (lba, blocks) = op.extent()?;
        Some(Regions::of(lba, blocks, self.shared.shape.get()?.block_bytes))
    }

    /// Whether nothing else changes the blocks of this one; then nothing else will before [`MirrorChannel::end`].
    fn is_alone(&mut self, key: Key) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        let (Some((lba, blocks)), Some(regions)) = (slot.op.extent(), self.regions(slot.op)) else {
            return true;
        };
        if planted!(OrderLost) || (slot.is_read() && planted!(MendedOver)) {
            return true;
        }
        let end = lba + u64::from(blocks);
        let overlaps = |(other, slot): (Key, &Slot)| {
            let theirs = slot.op.extent().filter(|_| slot.is_in_line && other != key);
            theirs.is_some_and(|(first, blocks)| first < end && lba < first + u64::from(blocks))
        };
        if !slot.is_in_line && self.slots.iter().any(overlaps) {
            return false;
        }
        let Some(slot) = self.slots.get_mut(key) else { return false };
        slot.is_in_line = true;
        self.shared.regions.take(&regions, &mut slot.held, self.seat.number)
    }

    /// An IO begins, if it may. Whether it has come further, and is still there.
    pub(super) fn enter(&mut self, key: Key) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        if slot.is_cancelled {
            return self.end(key, Err(IoError::Cancelled));
        }
        if self.shared.is_over() {
            return self.end(key, Err(IoError::Gone));
        }
        let (op, is_read, is_mending) = (slot.op, slot.is_read(), slot.mending != Mending::No);
        if is_read && !is_mending {
            let plan = self.shared.plan();
            if plan.is_settling() && !planted!(ReadWhileSettling) {
                return false;
            }
            let reader = if planted!(StaleRead) { Some(0) } else { plan.reader() };
            let Some(reader) = reader else { return self.end(key, Err(IoError::Gone)) };
            return self.set_stage(key, Stage::Room(reader));
        }
        if !self.may_begin(key) {
            return false;
        }
        if let Some(slot) = self.slots.get_mut(key)
            && planted!(FlushOfOne)
            && op == Op::Flush
        {
            slot.left = Set::of(slot.plan.reader().unwrap_or(0));
        }
        self.next_leg(key)
    }

    pub(super) fn set_stage(&mut self, key: Key, stage: Stage) -> bool {
        self.slots.get_mut(key).map(|slot| slot.stage = stage).is_some()
    }

    /// A change goes on to the next member; where there is none, to its end. As [`MirrorChannel::enter`].
    pub(super) fn next_leg(&mut self, key: Key) -> bool {
        let plan = self.shared.plan();
        let Some(slot) = self.slots.get_mut(key) else { return false };
        if slot.is_read() {
            return self.mend(key);
        }
        // Who has been taken out since is not asked any more.
        slot.left = slot.left.and(plan.written());
        let last = Set::of(slot.plan.reader().unwrap_or(0));
        let order = if planted!(ReaderFirst) { slot.left.and(last) } else { slot.left.without(last) };
        let next = order.first().or_else(|| slot.left.first());
        if let Some(member) = next.filter(|_| !planted!(FirstMemberOnly) || slot.has.is_empty()) {
            slot.left = slot.left.without(Set::of(member));
            slot.stage = Stage::Room(member);
            return true;
        }
        // Those that are current by now were written by this, as who became it was filled after all before had ended.
        let is_whole = !plan.current().is_empty() && plan.current().without(slot.has).is_empty();
        let is_whole =
            is_whole || planted!(FirstMemberOnly) || planted!(FlushOfOne) || planted!(AnsweredBeforeSaved);
        let error = slot.error.unwrap_or(IoError::Aborted);
        self.end(key, if is_whole { Ok(()) } else { Err(error) })
    }

    /// A read that found bad blocks goes on: to a member that can read them, then to those that could not. As [`MirrorChannel::enter`].
    fn mend(&mut self, key: Key) -> bool {
        let current = self.shared.plan().current();
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let next = match slot.mending {
            Mending::No => return self.set_stage(key, Stage::Gate),
            Mending::Reading(bad) => current.without(bad).first(),
            Mending::Writing(left) => {
                let first = left.and(current).first();
                slot.mending = Mending::Writing(left.without(first.map_or(left, Set::of)));
                first
            }
        };
        let error = slot.error.unwrap_or(IoError::Gone);
        match (next, slot.mending) {
            (Some(member), _) => self.set_stage(key, Stage::Room(member)),
            (None, Mending::Writing(_)) => self.end(key, Ok(())),
            (None, _) => self.end(key, Err(error)),
        }
    }

    /// A leg of a read has ended. As [`MirrorChannel::enter`].
    pub(super) fn read_done(
        &mut self,
        key: Key,
        member: usize,
        result: Result<(), IoError>,
        was_reader: bool,
    ) -> bool {
        let current = self.shared.plan().current();
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let is_bad = matches!(result, Err(IoError::Medium { .. }));
        match (slot.mending, result) {
            (Mending::No, _) if !was_reader && !planted!(StaleRead) && !planted!(FormerReader) => {
                self.set_stage(key, Stage::Gate)
            }
            (Mending::No, Err(error)) if is_bad && !current.without(Set::of(member)).is_empty() => {
                slot.error = Some(error);
                slot.mending = Mending::Reading(Set::of(member));
                self.set_stage(key, Stage::Gate)
            }
            // Who was taken out meanwhile does not count, and is not asked again.
            (Mending::Reading(_), _) if !current.has(member) => self.mend(key),
            (Mending::Reading(bad), Ok(())) => {
                slot.mending = Mending::Writing(bad);
                self.mend(key)
            }
            (Mending::Reading(bad), Err(_)) if is_bad => {
                slot.mending = Mending::Reading(bad.with(Set::of(member)));
                self.mend(key)
            }
            (Mending::Writing(_), Ok(())) => self.mend(key),
            (Mending::No, Ok(())) => self.end(key, Ok(())),
            (_, Err(_)) if planted!(ErrorIgnored) => self.end(key, Ok(())),
            (_, Err(error)) => self.failed(key, member, error),
        }
    }

    /// A member has not done it. It is decided about before the next one is asked, so that the reader never has what another
    /// one lacks that may be read later.
    pub(super) fn failed(&mut self, key: Key, member: usize, error: IoError) -> bool {
        let plan = self.shared.plan();
        let Some(slot) = self.slots.get_mut(key) else { return false };
        slot.error.get_or_insert(error);
        let is_last = plan.current() == Set::of(member);
        let is_written = matches!(slot.mending, Mending::Writing(_));
        let was_asked = slot.is_cancelled && error == IoError::Cancelled;
        if slot.is_read() && !is_written && (is_last || was_asked) {
            return self.end(key, Err(error));
        }
        slot.stage = Stage::Judging(self.shared.report(Set::of(member)));
        slot.failed_at = member;
        true
    }

    /// It is decided about who failed.
    pub(super) fn judged(&mut self, key: Key) -> bool {
        let Some(slot) = self.slots.get_mut(key) else { return false };
        if let Mending::Reading(bad) = slot.mending {
            slot.mending = Mending::Reading(bad.with(Set::of(slot.failed_at)));
        }
        if !slot.is_read() || slot.mending != Mending::No {
            return self.next_leg(key);
        }
        let (reader, failed_at) = (self.shared.plan().reader(), slot.failed_at);
        let error = slot.error.take().unwrap_or(IoError::Gone);
        if reader.is_none_or(|reader| reader == failed_at) {
            return self.end(key, Err(error));
        }
        slot.stage = Stage::Gate;
        true
    }
}
