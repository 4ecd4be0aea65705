//! A device that counts: another one, with how often and how much was asked of it, and how long that took.
//!
//! Each reactor counts in a place of its own, which it alone writes; who wants to know adds them up. An IO counts when it
//! is taken; an error, and how long it took, when it ends.

mod channel;
mod ledger;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use self::channel::CountedChannel;
pub use self::ledger::{Ledger, Total, Totals};
use super::{Bdev, Channel, Info};
use crate::histogram::Histogram;
use crate::id::ReactorId;
use crate::limits::IOS_MAX;
use crate::meter::{self, Count, Spread, Stages};

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
    ledger: Arc<Ledger>,
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
    /// Where the time of commands went that a session's reactor had the device do.
    stages: Stages,
    /// What is not told any more. Control's.
    forgotten: [AtomicU64; SUMS],
}

/// Small, as there is one for each device and each reactor that serves it: docs/watch.md says how large.
const _: () = assert!(size_of::<Cell>() <= 2048);

impl Counters {
    /// What there was, whatever was forgotten since.
    fn sums(&self) -> [u64; SUMS] {
        let mut sums = self.sums.each_ref().map(|sum| sum.load(Ordering::Relaxed));
        for (sum, given) in sums.iter_mut().step_by(3).zip(&self.given[..KINDS]) {
            *sum += given.get();
        }
        sums
    }

    /// How many were done as they were asked for.
    fn at_once(&self) -> u64 {
        self.sums.iter().step_by(3).take(KINDS).map(|sum| sum.load(Ordering::Relaxed)).sum()
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
        Counted { inner, ledger: Arc::default(), epoch: Arc::default(), times: Arc::default() }
    }

    fn open_cells(&self) -> impl Iterator<Item = (ReactorId, &Arc<Cell>)> {
        let cells = (0u16..).zip(&self.ledger.cells);
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

    fn base(&self) -> Option<&dyn Bdev> {
        Some(&*self.inner)
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let inner = self.inner.open(reactor);
        let Some(cell) = self.ledger.cells.get(usize::from(reactor.0)) else { return inner };
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

    fn ledger(&self) -> Option<Arc<Ledger>> {
        Some(Arc::clone(&self.ledger))
    }

    fn change_medium(&self, medium: Option<Arc<dyn Bdev>>) -> bool {
        self.inner.change_medium(medium)
    }

    fn unregistered(&self) {
        self.inner.unregistered();
    }

    fn doing(&self) -> Vec<super::raid::mirror::Doing> {
        self.inner.doing()
    }

    fn counts(&self) -> Option<Counts> {
        Some(self.counts_of(self.ledger.cells.iter().filter_map(OnceLock::get)))
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
