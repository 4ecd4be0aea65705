//! A reactor's channel to a device that counts: where counting is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cell, ERRORS, FLUSHES, KINDS, Times};
use crate::bdev::pass::{Flow, Told};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, Op, Refused, Wake};
use crate::buf::Lent;
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

#[derive(Debug)]
pub(super) struct CountedChannel {
    pub(super) inner: Box<dyn Channel>,
    pub(super) reactor: ReactorId,
    pub(super) cell: Arc<Cell>,
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) times: Arc<Times>,
    /// By the index of its tag: when an IO was taken, in nanoseconds, and in the lowest bits of which kind it is; the kind
    /// [`KINDS`] is none of them.
    pub(super) began: Box<[u64]>,
    pub(super) block_bytes: u64,
}

/// The bits that say of which kind an IO is.
const KIND_BITS: u32 = 2;
const _: () = assert!(KINDS < 1 << KIND_BITS);

impl CountedChannel {
    /// Only this channel writes here: no atomic addition is needed.
    fn add(&self, index: usize, more: u64) {
        let count = &self.cell.sums[index];
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Takes the time of an IO that has ended.
    fn ended(&self, tag: Key, now: Tick) {
        self.cell.ended.add(1);
        let Some(&began) = self.began.get(tag.index as usize) else { return };
        let kind = usize::try_from(began & ((1 << KIND_BITS) - 1)).unwrap_or(KINDS);
        let Some(times) = self.cell.times.get(kind) else { return };
        let took = now.since_ns(Tick::from_ns(began >> KIND_BITS));
        times.add(took);
        // At least 1, so that 0 says that there was none.
        self.lasted(kind, took.max(1));
    }

    /// An IO of this kind that was asked for and has ended.
    fn took(&self, kind: usize, bytes: u64, ns: u64) {
        self.add(3 * kind, 1);
        self.add(3 * kind + 1, bytes);
        self.lasted(kind, ns);
    }

    fn lasted(&self, kind: usize, took: u64) {
        self.add(3 * kind + 2, took);
        let epoch = self.epoch.load(Ordering::Relaxed);
        if self.cell.epoch.load(Ordering::Relaxed) != epoch {
            self.cell.extremes.iter().flatten().for_each(|ns| ns.store(0, Ordering::Relaxed));
            self.cell.epoch.store(epoch, Ordering::Relaxed);
        }
        let [longest, shortest] = &self.cell.extremes[kind];
        if took > longest.load(Ordering::Relaxed) {
            longest.store(took, Ordering::Relaxed);
        }
        if shortest.load(Ordering::Relaxed).wrapping_sub(1) >= took {
            shortest.store(took, Ordering::Relaxed);
        }
        let kinds = self.times.kinds.load(Ordering::Acquire);
        if kinds != 0 {
            self.count_time(kinds, kind, took);
        }
    }

    #[cold]
    fn count_time(&self, kinds: u8, kind: usize, took: u64) {
        if kinds >> kind & 1 == 1
            && let Some(histogram) = self.times.histogram.get()
        {
            histogram.count(self.reactor, took);
        }
    }
}

impl Channel for CountedChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        let (tag, op) = (io.tag, io.op);
        self.inner.submit(io, now)?;
        let kind = match op {
            Op::Read { .. }
            | Op::ReadProtected { .. }
            | Op::Verify { .. }
            | Op::Compare { .. }
            | Op::Pass { flow: Flow::In, .. } => 0,
            Op::Write { .. }
            | Op::WriteZeroes { .. }
            | Op::CompareAndWrite { .. }
            | Op::Copy { .. }
            | Op::WriteProtected { .. }
            | Op::WriteUncorrectable { .. }
            | Op::Pass { flow: Flow::Out, .. } => 1,
            Op::Unmap { .. } => 2,
            // Of a passed command without data nothing is counted.
            Op::Flush | Op::Pass { flow: Flow::None, .. } => KINDS,
        };
        if let Some(began) = self.began.get_mut(tag.index as usize) {
            *began = now.since_ns(Tick::ZERO) << KIND_BITS | kind as u64;
        }
        self.cell.given[kind].add(1);
        match (op.extent(), op) {
            (Some((_, blocks)), _) => {
                self.add(3 * kind + 1, u64::from(blocks) * self.block_bytes);
            }
            (None, Op::Pass { bytes, .. }) if kind < KINDS => {
                self.add(3 * kind + 1, u64::from(bytes));
            }
            (None, Op::Pass { .. }) => {}
            (None, _) => self.add(FLUSHES, 1),
        }
        Ok(())
    }

    fn does_at_once(&self) -> bool {
        self.inner.does_at_once()
    }

    /// It is done as it is asked for, which counts as the shortest time there is.
    fn lend(&mut self, lba: u64, blocks: u32, now: Tick) -> Option<Lent> {
        let lent = self.inner.lend(lba, blocks, now)?;
        self.took(0, lent.len() as u64, 1);
        Some(lent)
    }

    fn load(&mut self, lba: u64, data: &mut [u8], now: Tick) -> bool {
        let is_done = self.inner.load(lba, data, now);
        if is_done {
            self.took(0, data.len() as u64, 1);
        }
        is_done
    }

    fn store(&mut self, lba: u64, data: &[u8], fua: bool, now: Tick) -> bool {
        let is_done = self.inner.store(lba, data, fua, now);
        if is_done {
            self.took(1, data.len() as u64, 1);
        }
        is_done
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        let before = out.len();
        self.inner.poll(out, max, now);
        let mut errors = 0;
        for done in &out[before..] {
            errors += u64::from(done.result.is_err());
            self.ended(done.tag, now);
        }
        if errors > 0 {
            self.add(ERRORS, errors);
        }
    }

    fn told(&mut self, tag: Key, sense: &mut [u8]) -> Option<Told> {
        self.inner.told(tag, sense)
    }

    fn cancel(&mut self, tag: Key) {
        self.inner.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.inner.fence()
    }

    fn wake(&self) -> Wake {
        self.inner.wake()
    }

    fn in_flight(&self) -> u32 {
        self.inner.in_flight()
    }
}
