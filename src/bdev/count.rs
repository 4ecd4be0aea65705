//! A device that counts: another one, with how often and how much was asked of it, and how long that took.
//!
//! Each reactor counts in a place of its own, which it alone writes; who wants to know adds them up. An IO counts when it
//! is taken; an error, and how long it took, when it ends.

use std::error::Error;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::pass::{Flow, Told};
use super::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, Op, Refused, Wake};
use crate::bdev::space::Space;
use crate::buf::Lent;
use crate::histogram::Histogram;
use crate::id::ReactorId;
use crate::limits::{IOS_MAX, REACTORS_MAX};
use crate::meter::{self, Count, Spread};
use crate::slab::Key;
use crate::time::Tick;

/// Kinds of IO whose time is taken: reads, writes, unmaps.
const KINDS: usize = 3;
/// How much is summed up: of each kind the number, the bytes and the nanoseconds; flushes; errors. In a cell the number is of those
/// that were done as they were asked for, as [`Counters::given`] has the others.
const SUMS: usize = 3 * KINDS + 2;
const FLUSHES: usize = 3 * KINDS;
const ERRORS: usize = FLUSHES + 1;

/// What was asked of a device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Reads.
    pub reads: Tally,
    /// Writes, those of zeroes included.
    pub writes: Tally,
    /// Unmaps.
    pub unmaps: Tally,
    /// Flushes.
    pub flushes: u64,
    /// IOs that ended in an error.
    pub errors: u64,
}

/// What one reactor has asked of a device since its channel was first opened, whatever was forgotten since.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figures {
    /// Reads.
    pub reads: Figure,
    /// Writes, those of zeroes included.
    pub writes: Figure,
    /// Unmaps.
    pub unmaps: Figure,
    /// Flushes.
    pub flushes: u64,
    /// IOs that ended in an error.
    pub errors: u64,
    /// IOs that the device has now.
    pub in_flight: u64,
}

/// What was asked of one kind, and how long it took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figure {
    /// How often.
    pub ios: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How long it took, of those that have ended; what a device did as it was asked took no time.
    pub times: Spread,
}

/// What was asked of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// How often.
    pub ios: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How long it took, of all that have ended together.
    pub total_ns: u64,
    /// The longest; 0 where none has ended.
    pub max_ns: u64,
    /// The shortest; 0 where none has ended.
    pub min_ns: u64,
}

/// The IOs whose times are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timed {
    /// Reads, writes and unmaps.
    All,
    /// Reads.
    Reads,
    /// Writes, those of zeroes included.
    Writes,
    /// Unmaps.
    Unmaps,
}

impl Timed {
    /// A bit for each kind.
    const fn bits(self) -> u8 {
        match self {
            Timed::All => 0b111,
            Timed::Reads => 0b001,
            Timed::Writes => 0b010,
            Timed::Unmaps => 0b100,
        }
    }

    fn of_bits(bits: u8) -> Option<Timed> {
        [Timed::All, Timed::Reads, Timed::Writes, Timed::Unmaps]
            .into_iter()
            .find(|timed| timed.bits() == bits)
    }
}

/// How long IOs took, while somebody wants to know.
#[derive(Debug, Default)]
struct Times {
    /// A bit for each kind that is counted: 0 while nobody wants to know.
    kinds: AtomicU8,
    /// Made when it is first wanted.
    histogram: OnceLock<Histogram>,
    /// What it had when it was wanted the last time.
    before: OnceLock<Box<[AtomicU64]>>,
}

/// A device that counts.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Bdev>,
    cells: Box<[OnceLock<Arc<Cell>>]>,
    /// How often the longest and shortest were forgotten: each reactor begins anew when it sees that.
    epoch: Arc<AtomicU64>,
    times: Arc<Times>,
}

/// One reactor's counters.
type Cell = CachePadded<Counters>;

#[derive(Debug, Default)]
struct Counters {
    sums: [AtomicU64; SUMS],
    /// The longest and the shortest of each kind, in nanoseconds, and the epoch that they are of.
    extremes: [[AtomicU64; 2]; KINDS],
    epoch: AtomicU64,
    /// How often the device was given an IO of each kind, and at last of any other, that it did not do at once.
    given: [Count; KINDS + 1],
    /// How many of those have ended.
    ended: Count,
    /// How long those of each kind took.
    times: [meter::Times; KINDS],
    /// What is not told any more. Control's.
    forgotten: [AtomicU64; SUMS],
}

impl Counters {
    /// What there was, whatever was forgotten since.
    fn sums(&self) -> [u64; SUMS] {
        let mut sums = self.sums.each_ref().map(|sum| sum.load(Ordering::Relaxed));
        for (sum, given) in sums.iter_mut().step_by(3).zip(&self.given[..KINDS]) {
            *sum += given.get();
        }
        sums
    }

    /// What there was since it was forgotten.
    fn since(&self) -> [u64; SUMS] {
        let mut sums = self.sums();
        for (sum, forgotten) in sums.iter_mut().zip(&self.forgotten) {
            *sum = sum.saturating_sub(forgotten.load(Ordering::Relaxed));
        }
        sums
    }

    fn forget(&self) {
        for (forgotten, sum) in self.forgotten.iter().zip(self.sums()) {
            forgotten.store(sum, Ordering::Relaxed);
        }
    }

    fn figures(&self) -> Figures {
        let sum = |index: usize| self.sums[index].load(Ordering::Relaxed);
        // Before the others: no more can have ended than were given.
        let ended = self.ended.get();
        let given = self.given.each_ref().map(Count::get);
        let kind = |kind: usize| {
            let instant = sum(3 * kind);
            let times = self.times[kind].spread().with_instant(instant);
            Figure { ios: instant + given[kind], bytes: sum(3 * kind + 1), times }
        };
        Figures {
            reads: kind(0),
            writes: kind(1),
            unmaps: kind(2),
            flushes: sum(FLUSHES),
            errors: sum(ERRORS),
            in_flight: given.iter().sum::<u64>().saturating_sub(ended),
        }
    }
}

impl Counted {
    /// Counts what is asked of `inner` from now on.
    pub fn new(inner: Arc<dyn Bdev>) -> Counted {
        let cells = (0..REACTORS_MAX).map(|_| OnceLock::new()).collect();
        Counted { inner, cells, epoch: Arc::default(), times: Arc::default() }
    }

    fn open_cells(&self) -> impl Iterator<Item = (ReactorId, &Arc<Cell>)> {
        let cells = (0u16..).zip(&self.cells);
        cells.filter_map(|(index, cell)| Some((ReactorId(index), cell.get()?)))
    }

    /// What these reactors have asked for.
    fn counts_of<'a>(&self, cells: impl Iterator<Item = &'a Arc<Cell>> + Clone) -> Counts {
        let mut sums = [0; SUMS];
        for cell in cells.clone() {
            for (sum, count) in sums.iter_mut().zip(cell.since()) {
                *sum += count;
            }
        }
        let kind = |kind: usize| {
            let (max_ns, min_ns) = self.extremes(kind, cells.clone());
            let at = 3 * kind;
            Tally { ios: sums[at], bytes: sums[at + 1], total_ns: sums[at + 2], max_ns, min_ns }
        };
        let (flushes, errors) = (sums[FLUSHES], sums[ERRORS]);
        Counts { reads: kind(0), writes: kind(1), unmaps: kind(2), flushes, errors }
    }

    /// The longest and the shortest of a kind, of these reactors.
    fn extremes<'a>(&self, kind: usize, cells: impl Iterator<Item = &'a Arc<Cell>>) -> (u64, u64) {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let fresh = cells.filter(|cell| cell.epoch.load(Ordering::Relaxed) == epoch);
        let of_each = fresh.map(|cell| cell.extremes[kind].each_ref().map(|ns| ns.load(Ordering::Relaxed)));
        // Where none has ended there is nothing.
        let known = of_each.filter(|&extremes| extremes != [0, 0]);
        known.fold((0, 0), |(max, min), [longest, shortest]| {
            (max.max(longest), if max == 0 { shortest } else { shortest.min(min) })
        })
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
        // Zeroes of the system's: what is never written takes no memory.
        let began = vec![0; IOS_MAX as usize].into_boxed_slice();
        let (epoch, times) = (Arc::clone(&self.epoch), Arc::clone(&self.times));
        Box::new(CountedChannel { inner, reactor, cell, epoch, times, began, block_bytes })
    }

    fn is_awaited(&self) -> bool {
        self.inner.is_awaited()
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.inner.probe()
    }

    fn space(&self) -> Option<Arc<Space>> {
        self.inner.space()
    }

    fn measure_space(&self) {
        self.inner.measure_space();
    }

    fn change_medium(&self, medium: Option<Arc<dyn Bdev>>) -> bool {
        self.inner.change_medium(medium)
    }

    fn counts(&self) -> Option<Counts> {
        Some(self.counts_of(self.cells.iter().filter_map(OnceLock::get)))
    }

    fn counts_by_reactor(&self) -> Vec<(ReactorId, Counts)> {
        let counts = self.open_cells().map(|(id, cell)| (id, self.counts_of(std::iter::once(cell))));
        counts.collect()
    }

    fn figures(&self) -> Vec<(ReactorId, Figures)> {
        self.open_cells().map(|(id, cell)| (id, cell.figures())).collect()
    }

    fn open_channels(&self) -> Vec<(ReactorId, usize)> {
        // Each channel has a share in its cell, and so has this.
        let counts = self.open_cells().map(|(reactor, cell)| (reactor, Arc::strong_count(cell) - 1));
        counts.filter(|&(_, count)| count > 0).collect()
    }

    fn time(&self, timed: Option<Timed>, reactors: usize) {
        let times = &self.times;
        if let (Some(_), 0) = (timed, times.kinds.load(Ordering::Relaxed)) {
            let sums = times.histogram.get_or_init(|| Histogram::new(reactors)).sums();
            let before = times.before.get_or_init(|| sums.iter().map(|_| AtomicU64::new(0)).collect());
            before.iter().zip(sums).for_each(|(before, sum)| before.store(sum, Ordering::Relaxed));
        }
        times.kinds.store(timed.map_or(0, Timed::bits), Ordering::Release);
    }

    fn times(&self) -> Option<(Timed, Vec<u64>)> {
        let timed = Timed::of_bits(self.times.kinds.load(Ordering::Relaxed))?;
        let (sums, before) = (self.times.histogram.get()?.sums(), self.times.before.get()?);
        let since = sums
            .into_iter()
            .zip(before)
            .map(|(sum, before)| sum.wrapping_sub(before.load(Ordering::Relaxed)));
        Some((timed, since.collect()))
    }

    fn forget_counts(&self) {
        self.open_cells().for_each(|(_, cell)| cell.forget());
        self.forget_extremes();
    }

    fn forget_extremes(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct CountedChannel {
    inner: Box<dyn Channel>,
    reactor: ReactorId,
    cell: Arc<Cell>,
    epoch: Arc<AtomicU64>,
    times: Arc<Times>,
    /// By the index of its tag: when an IO was taken, in nanoseconds, and in the lowest bits of which kind it is; the kind
    /// [`KINDS`] is none of them.
    began: Box<[u64]>,
    block_bytes: u64,
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
        let at = Tick::from_ns;
        for (reactor, ends) in [(0, [120, 140]), (1, [100, 200]), (300, [0, 0])] {
            let mut channel = disk.open(ReactorId(reactor));
            let mut take = |index, op, data, now| {
                channel.submit(Io { tag: Key { index, generation: 0 }, op, data }, at(now)).unwrap();
            };
            // One after the other, so that each ends by itself.
            take(0, Op::Read { lba: 0, blocks: 2 }, buffer(), 20);
            channel.poll(&mut Vec::with_capacity(8), 8, at(ends[0]));
            let mut take = |index, op, data, now| {
                channel.submit(Io { tag: Key { index, generation: 0 }, op, data }, at(now)).unwrap();
            };
            take(0, Op::Write { lba: 0, blocks: 1, fua: false }, buffer(), 100);
            take(3, Op::Unmap { lba: 0, blocks: 3 }, None, 130);
            // As at the end of a reactor: a tag that is none of a command's.
            take(u32::MAX, Op::Flush, None, 130);
            channel.poll(&mut Vec::with_capacity(8), 8, at(ends[1]));
        }
        let tally = |bytes, total_ns, max_ns, min_ns| Tally { ios: 2, bytes, total_ns, max_ns, min_ns };
        let expected = Counts {
            reads: tally(16384, 180, 100, 80),
            writes: tally(8192, 140, 100, 40),
            unmaps: tally(24576, 80, 70, 10),
            flushes: 2,
            errors: 1,
        };
        assert_eq!(disk.counts(), Some(expected));
        let figures = disk.figures();
        let in_flight: Vec<(u16, u64)> =
            figures.iter().map(|(id, figures)| (id.0, figures.in_flight)).collect();
        assert_eq!(in_flight, [(0, 0), (1, 0)]);
        let reads = figures[1].1.reads;
        assert_eq!((reads.ios, reads.bytes, reads.times.total_ns, reads.times.count()), (1, 8192, 80, 1));
        let by_reactor = disk.counts_by_reactor();
        let of_reads: Vec<_> = by_reactor.iter().map(|(id, counts)| (id.0, counts.reads)).collect();
        let one = |ns| Tally { ios: 1, bytes: 8192, total_ns: ns, max_ns: ns, min_ns: ns };
        assert_eq!(of_reads, [(0, one(100)), (1, one(80))]);
        assert_eq!((by_reactor[0].1.errors, by_reactor[0].1.flushes), (1, 1));
        disk.forget_extremes();
        let forgotten = disk.counts().unwrap();
        assert_eq!((forgotten.reads, forgotten.errors), (tally(16384, 180, 0, 0), 1));
        let mut channel = disk.open(ReactorId(1));
        let read =
            Io { tag: Key { index: 5, generation: 0 }, op: Op::Read { lba: 0, blocks: 1 }, data: buffer() };
        channel.submit(read, at(1000)).unwrap();
        channel.poll(&mut Vec::with_capacity(8), 8, at(1000));
        let reads = Tally { ios: 3, bytes: 20480, total_ns: 181, max_ns: 1, min_ns: 1 };
        assert_eq!(disk.counts().unwrap().reads, reads);
        disk.forget_counts();
        assert_eq!(disk.counts(), Some(Counts::default()));
        assert!(disk.counts_by_reactor().iter().all(|(_, counts)| *counts == Counts::default()));
    }

    #[test]
    fn times_are_counted_while_somebody_wants_to_know() {
        let disk = Counted::new(Arc::new(Null::new("Null0".to_owned(), 100, 512, [7; 16])));
        let mut channels = [disk.open(ReactorId(0)), disk.open(ReactorId(1)), disk.open(ReactorId(1))];
        assert_eq!(disk.open_channels(), [(ReactorId(0), 1), (ReactorId(1), 2)]);
        let mut unmap = |channel: usize, took: u64| {
            let op = Op::Unmap { lba: 0, blocks: 1 };
            let io = Io { tag: Key { index: 0, generation: 0 }, op, data: None };
            channels[channel].submit(io, Tick::from_ns(1000)).unwrap();
            channels[channel].poll(&mut Vec::with_capacity(1), 1, Tick::from_ns(1000 + took));
        };
        unmap(0, 5);
        assert_eq!(disk.times(), None);
        disk.time(Some(Timed::All), 2);
        [(0, 5), (1, 5), (2, 300)].into_iter().for_each(|(channel, took)| unmap(channel, took));
        let (timed, sums) = disk.times().unwrap();
        // Of 300 as `histogram` shows.
        assert_eq!((timed, sums[5], sums[278], sums.iter().sum::<u64>()), (Timed::All, 2, 1, 3));
        disk.time(Some(Timed::Reads), 2);
        unmap(0, 5);
        assert_eq!(disk.times().map(|(timed, sums)| (timed, sums[5])), Some((Timed::Reads, 2)));
        disk.time(None, 2);
        assert_eq!(disk.times(), None);
        disk.time(Some(Timed::Unmaps), 2);
        unmap(1, 7);
        let (timed, sums) = disk.times().unwrap();
        assert_eq!((timed, sums[7], sums.iter().sum::<u64>()), (Timed::Unmaps, 1, 1));
        drop(channels);
        assert_eq!(disk.open_channels(), []);
    }
}
