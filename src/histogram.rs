//! How long things took: counts in SPDK's buckets, so that its tools read them.
//!
//! Buckets come in ranges of 128. Those of ranges 0 and 1 stand for one value each, those of every further range for twice
//! as many values as in the range before it: a bucket is never wider than 1/128 of what it stands for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::ReactorId;

/// A range has 2 to this power buckets.
pub const GRANULARITY: u32 = 7;
/// The first range.
pub const RANGE_MIN: u32 = 0;
/// The last range: with it every value has its bucket.
pub const RANGE_MAX: u32 = 64 - GRANULARITY;
/// How many buckets there are.
pub const BUCKETS: usize = ((RANGE_MAX - RANGE_MIN + 1) as usize) << GRANULARITY;

/// Counts of values, added to by all reactors.
#[derive(Debug)]
pub struct Histogram {
    /// Of each reactor, which alone writes there.
    cells: Box<[Box<[AtomicU64]>]>,
}

/// The same, not merely alike.
impl PartialEq for Histogram {
    fn eq(&self, other: &Histogram) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Histogram {}

impl Histogram {
    /// Counts nothing yet.
    pub fn new(reactors: usize) -> Histogram {
        let cell = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Histogram { cells: (0..reactors).map(|_| cell()).collect() }
    }

    /// Counts a value that came so many times, on this reactor's thread.
    pub fn count(&self, reactor: ReactorId, value: u64, times: u64) {
        if let Some(count) = self.cells.get(usize::from(reactor.0)).and_then(|cell| cell.get(bucket(value))) {
            count.store(count.load(Ordering::Relaxed).wrapping_add(times), Ordering::Relaxed);
        }
    }

    /// What all reactors have counted, by bucket.
    pub fn sums(&self) -> Vec<u64> {
        let mut sums = vec![0u64; BUCKETS];
        for cell in &self.cells {
            for (sum, count) in sums.iter_mut().zip(cell) {
                *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
            }
        }
        sums
    }
}

/// Which bucket stands for a value.
fn bucket(value: u64) -> usize {
    let range = (64 - GRANULARITY).saturating_sub(value.leading_zeros());
    let index = value >> range.saturating_sub(1) & ((1 << GRANULARITY) - 1);
    ((range as usize) << GRANULARITY) + usize::try_from(index).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_bucket() {
        assert_eq!(BUCKETS, 7424);
        for (value, expected) in [
            (0, 0),
            (1, 1),
            (127, 127),
            (128, 128),
            (255, 255),
            (256, 256),
            (257, 256),
            (258, 257),
            (511, 383),
            (512, 384),
            (1_000_000, 13 * 128 + 116),
            (u64::MAX, 7423),
            (1 << 63, 7296),
        ] {
            assert_eq!(bucket(value), expected, "{value}");
        }
    }

    #[test]
    fn reactors_are_summed_up_and_others_not_counted() {
        let histogram = Histogram::new(2);
        for reactor in [0, 1, 1, 2] {
            histogram.count(ReactorId(reactor), 300, 1);
        }
        let sums = histogram.sums();
        assert_eq!((sums[278], sums.iter().sum::<u64>()), (3, 3));
        assert_ne!(Histogram::new(0), Histogram::new(0));
    }
}
