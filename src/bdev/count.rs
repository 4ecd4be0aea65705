//! A device that counts: another one, with how often and how much was asked of it.
//!
//! Each reactor counts in a place of its own, which it alone writes; who wants to know adds them up. An IO counts when it
//! is taken, an error when it ends.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Op, Refused, Wake};
use crate::id::ReactorId;
use crate::limits::REACTORS_MAX;
use crate::slab::Key;
use crate::time::Tick;

/// How much is counted: see [`Counts`].
const COUNTS: usize = 8;

/// What was asked of a device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Writes, those of zeroes included.
    pub writes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Unmaps.
    pub unmaps: u64,
    /// Bytes unmapped.
    pub unmap_bytes: u64,
    /// Flushes.
    pub flushes: u64,
    /// IOs that ended in an error.
    pub errors: u64,
}

impl Counts {
    fn from_array(of: [u64; COUNTS]) -> Counts {
        let [reads, read_bytes, writes, write_bytes, unmaps, unmap_bytes, flushes, errors] = of;
        Counts { reads, read_bytes, writes, write_bytes, unmaps, unmap_bytes, flushes, errors }
    }
}

/// A device that counts.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Bdev>,
    cells: Box<[OnceLock<Arc<Cell>>]>,
    /// What is not told any more.
    forgotten: [AtomicU64; COUNTS],
}

/// One reactor's counters.
type Cell = CachePadded<[AtomicU64; COUNTS]>;

impl Counted {
    /// Counts what is asked of `inner` from now on.
    pub fn new(inner: Arc<dyn Bdev>) -> Counted {
        let cells = (0..REACTORS_MAX).map(|_| OnceLock::new()).collect();
        Counted { inner, cells, forgotten: Default::default() }
    }

    fn sums(&self) -> [u64; COUNTS] {
        let mut sums = [0; COUNTS];
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            for (sum, count) in sums.iter_mut().zip(cell.iter()) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
        sums
    }
}

impl Bdev for Counted {
    fn info(&self) -> Info {
        self.inner.info()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let inner = self.inner.open(reactor);
        let Some(cell) = self.cells.get(usize::from(reactor.0)) else { return inner };
        let cell = Arc::clone(cell.get_or_init(Arc::default));
        let block_bytes = u64::from(self.info().block_bytes);
        Box::new(CountedChannel { inner, cell, block_bytes })
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.inner.probe()
    }

    fn counts(&self) -> Option<Counts> {
        let mut counts = self.sums();
        for (count, forgotten) in counts.iter_mut().zip(&self.forgotten) {
            *count = count.saturating_sub(forgotten.load(Ordering::Relaxed));
        }
        Some(Counts::from_array(counts))
    }

    fn forget_counts(&self) {
        for (forgotten, sum) in self.forgotten.iter().zip(self.sums()) {
            forgotten.store(sum, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct CountedChannel {
    inner: Box<dyn Channel>,
    cell: Arc<Cell>,
    block_bytes: u64,
}

impl CountedChannel {
    /// Only this channel writes here: no atomic addition is needed.
    fn add(&self, index: usize, more: u64) {
        let count = &self.cell[index];
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

impl Channel for CountedChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        let op = io.op;
        self.inner.submit(io, now)?;
        let index = match op {
            Op::Read { .. } => 0,
            Op::Write { .. } | Op::WriteZeroes { .. } => 2,
            Op::Unmap { .. } => 4,
            Op::Flush => 6,
        };
        self.add(index, 1);
        if let Some((_, blocks)) = op.extent() {
            self.add(index + 1, u64::from(blocks) * self.block_bytes);
        }
        Ok(())
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        let before = out.len();
        self.inner.poll(out, max, now);
        let errors = out[before..].iter().filter(|done| done.result.is_err()).count();
        if errors > 0 {
            self.add(7, errors as u64);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::IoError;
    use crate::bdev::contract::{Made, Subject, suite};
    use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
    use crate::bdev::malloc::{Malloc, Recipe};
    use crate::bdev::null::Null;
    use crate::buf::{Class, Hugepages, Pool};

    #[test]
    fn passes_the_contract() {
        let make = || {
            let recipe = Recipe {
                name: "Malloc0".to_owned(),
                blocks: 100,
                blocks_max: 200,
                block_bytes: 512,
                physical_block_bytes: 512,
                uuid: [7; 16],
                hugepages: Hugepages::Off,
            };
            let disk = Arc::new(Malloc::new(recipe).unwrap());
            let bdev = Arc::new(Counted::new(Arc::clone(&disk) as _));
            Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(blocks).unwrap())) }
        };
        suite(&Subject { name: "counted", make: &make, keeps_data: true, frees_on_drop: true });
    }

    #[test]
    fn what_is_asked_is_counted_by_all_reactors_together() {
        let faults = Faults::new();
        faults.add(Rule::everywhere(Kind::Flush, Fault::Fail(IoError::FlushFailed)), 1).unwrap();
        let null = Arc::new(Null::new("Null0".to_owned(), 100, 4096, [7; 16]));
        let disk = Counted::new(Arc::new(Faulty::new(null, faults)));
        let pool = Pool::ordinary(&[Class { bytes: 16384, count: 8 }]).unwrap();
        let buffer = || Some(pool.take(8192).unwrap());
        for reactor in [0, 1, 300] {
            let mut channel = disk.open(ReactorId(reactor));
            for (op, data) in [
                (Op::Read { lba: 0, blocks: 2 }, buffer()),
                (Op::Write { lba: 0, blocks: 1, fua: false }, buffer()),
                (Op::Unmap { lba: 0, blocks: 3 }, None),
                (Op::Flush, None),
            ] {
                channel.submit(Io { tag: Key { index: 0, generation: 0 }, op, data }, Tick::ZERO).unwrap();
            }
            channel.poll(&mut Vec::with_capacity(8), 8, Tick::ZERO);
        }
        let expected = Counts {
            reads: 2,
            read_bytes: 16384,
            writes: 2,
            write_bytes: 8192,
            unmaps: 2,
            unmap_bytes: 24576,
            flushes: 2,
            errors: 1,
        };
        assert_eq!(disk.counts(), Some(expected));
        disk.forget_counts();
        assert_eq!(disk.counts(), Some(Counts::default()));
    }
}
