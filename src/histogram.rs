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

/// The least value that a bucket stands for.
fn start(bucket: usize) -> u64 {
    let range = bucket >> GRANULARITY;
    let index = (bucket & ((1 << GRANULARITY) - 1)) as u64;
    match range {
        0 => index,
        _ => (1 << (range + GRANULARITY as usize - 1)) + (index << (range - 1)),
    }
}

/// How many values are in the buckets that begin at each of these, which ascend, or below it; at last how many there are.
pub fn up_to(sums: &[u64], borders: &[u64]) -> Vec<u64> {
    let mut counts = Vec::with_capacity(borders.len() + 1);
    let mut so_far = 0u64;
    let mut buckets = sums.iter().enumerate().peekable();
    for &border in borders {
        while let Some((_, count)) = buckets.next_if(|(bucket, _)| start(*bucket) <= border) {
            so_far = so_far.wrapping_add(*count);
        }
        counts.push(so_far);
    }
    counts.push(buckets.fold(so_far, |sum, (_, count)| sum.wrapping_add(*count)));
    counts
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
    fn each_bucket_begins_where_the_one_before_it_ends() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(start(index)), index);
            assert!(index == 0 || bucket(start(index) - 1) == index - 1, "{index}");
        }
    }

    /// The numbers of SPDK's: 1000 to 1003 are one bucket, 9984 to 10047 and 29952 to 30079 too.
    #[test]
    fn values_up_to_a_border_are_those_of_its_bucket_and_below() {
        let histogram = Histogram::new(1);
        for value in (0..1 << 16).chain(1000..10000) {
            histogram.count(ReactorId(0), value, 1);
        }
        let counts = up_to(&histogram.sums(), &[1000, 10000, 10011, 30000]);
        assert_eq!(counts, [1008, 19048, 19048, 39080, 74536]);
        assert_eq!(up_to(&histogram.sums(), &[0, u64::MAX]), [1, 74536, 74536]);
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
