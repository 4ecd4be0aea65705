//! A pair of queues as a lane uses it: commands go in as long as there are slots and their memory is mapped.

use super::part::{Part, Shape};
use crate::bdev::IoError;
use crate::bdev::nvme::queue::{PushError, Queue};
use crate::bdev::nvme::spec::{Command, Fuse, Range};
use crate::bdev::nvme::table::{Job, Phase, SLOTS, Sent, Slots, Table};
use crate::time::Tick;

/// Why no more commands can be made of an IO now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stall {
    /// There is no slot, or the queue is broken and about to be taken away.
    Full,
    /// The device cannot reach its memory yet.
    Unmapped,
}

/// A pair of queues.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) queue: Box<dyn Queue + Send>,
    /// [`Queue::depth`] and [`Queue::bytes_max`].
    depth: u16,
    bytes_max: usize,
    needs_ring: bool,
}

impl Pair {
    pub(super) fn new(queue: Box<dyn Queue + Send>) -> Pair {
        let (depth, bytes_max) = (queue.depth().min(SLOTS), queue.bytes_max());
        Pair { queue, depth, bytes_max, needs_ring: false }
    }

    /// The slot that the next command would get, and its id.
    #[inline]
    pub(super) fn next(&self, slots: &Slots) -> Option<(u16, u16)> {
        slots.next(self.depth)
    }

    /// Enters a new IO of a disk of so many blocks, where it is the usual one: a read or a write that is one command; `next` is
    /// what [`Pair::next`] told. False where it is not, or the device cannot take it now: nothing has happened then.
    #[inline(always)]
    pub(super) fn enter_whole(
        &mut self,
        slots: &mut Slots,
        (slot, cid): (u16, u16),
        (number, job): (u8, &mut Job),
        (shape, blocks): (&Shape, u64),
        now: Tick,
    ) -> bool {
        let Some((command, payload, bytes)) = Part::whole(&job.io, shape, blocks, self.bytes_max) else {
            return false;
        };
        if self.queue.push(slot, cid, &command, payload).is_err() {
            return false;
        }
        self.entered(slots, (number, job), (0, bytes), now);
        true
    }

    /// Enters the commands of an IO that are still to be made.
    pub(super) fn issue(
        &mut self,
        slots: &mut Slots,
        (number, job): (u8, &mut Job),
        shape: &Shape,
        now: Tick,
    ) -> Result<(), Stall> {
        while job.left_blocks > 0 {
            let part = Part::of(job, shape, self.bytes_max);
            // The halves of a fused operation stand one after the other.
            let behind = u16::from(part.fuse == Fuse::First);
            let (slot, cid) = slots.next(self.depth.saturating_sub(behind)).ok_or(Stall::Full)?;
            let (mut command, mut range) = (Command::default(), Range::default());
            let Some(payload) = part.describe(&job.io, shape, &mut command, &mut range) else {
                job.fail(IoError::Unsupported);
                break;
            };
            match self.queue.push(slot, cid, &command, payload) {
                Ok(()) => {}
                Err(PushError::Unmapped) => return Err(Stall::Unmapped),
                Err(PushError::Broken) => return Err(Stall::Full),
            }
            self.entered(slots, (number, job), (part.from, part.bytes), now);
            job.left_blocks -= part.blocks;
        }
        Ok(())
    }

    /// The queue has a command of the IO, for these bytes of its buffer.
    #[inline(always)]
    fn entered(
        &mut self,
        slots: &mut Slots,
        (number, job): (u8, &mut Job),
        (from, bytes): (usize, usize),
        now: Tick,
    ) {
        slots.enter(Sent { job: number, phase: Phase::Sent, since: now, from, bytes });
        self.needs_ring = true;
        job.is_issued = true;
        job.commands += 1;
    }

    /// Tells the device of what was entered.
    pub(super) fn ring(&mut self, table: &mut Table) {
        if std::mem::take(&mut self.needs_ring) {
            self.queue.ring(table);
        }
    }
}
