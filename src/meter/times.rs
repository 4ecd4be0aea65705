//! How long things took: few buckets, each twice as wide as the one before, so that every reactor can have many of them.
//! [`crate::histogram`] is finer, and larger.

use super::Count;

/// The first bucket takes what is less than this power of two of nanoseconds: 1.024 µs.
const FIRST_BITS: u32 = 10;
/// The widest bucket ends after 2^35 ns, 34 s; what took longer is in the last, which has no end.
const BUCKETS: usize = 27;

/// The upper bounds of the buckets, in nanoseconds; the last has none.
pub const TIMES_BOUNDS_NS: [u64; BUCKETS - 1] = {
    let mut bounds = [0; BUCKETS - 1];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = 1 << (index + FIRST_BITS as usize);
        index += 1;
    }
    bounds
};

/// Counts of durations, added to by one thread.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Count; BUCKETS],
    total_ns: Count,
}

impl Times {
    /// Counts one.
    #[inline]
    pub fn add(&self, ns: u64) {
        self.total_ns.add(ns);
        if let Some(bucket) = self.buckets.get(bucket(ns)) {
            bucket.add(1);
        }
    }

    /// What was counted.
    pub fn spread(&self) -> Spread {
        Spread { counts: self.buckets.each_ref().map(Count::get), total_ns: self.total_ns.get() }
    }
}

/// Which bucket a duration is in.
fn bucket(ns: u64) -> usize {
    let bits = (u64::BITS - ns.leading_zeros()).saturating_sub(FIRST_BITS);
    usize::try_from(bits).map_or(BUCKETS - 1, |bits| bits.min(BUCKETS - 1))
}

/// What [`Times`] had counted at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Spread {
    /// By bucket: how many were less than each of [`TIMES_BOUNDS_NS`] and not less than the one before.
    pub counts: [u64; BUCKETS],
    /// All of them together, in nanoseconds.
    pub total_ns: u64,
}

impl Spread {
    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// So many more that took no time that could be told.
    #[must_use]
    pub fn with_instant(mut self, count: u64) -> Spread {
        self.counts[0] = self.counts[0].wrapping_add(count);
        self
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Spread) -> Spread {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.wrapping_add(more);
        }
        self.total_ns = self.total_ns.wrapping_add(other.total_ns);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_below_the_bound_of_its_bucket() {
        assert_eq!(
            (TIMES_BOUNDS_NS[0], TIMES_BOUNDS_NS[1], TIMES_BOUNDS_NS[25]),
            (1024, 2048, 34_359_738_368)
        );
        for (ns, expected) in [
            (0, 0),
            (1023, 0),
            (1024, 1),
            (2047, 1),
            (2048, 2),
            (1_000_000, 10),
            (34_359_738_367, 25),
            (34_359_738_368, 26),
            (u64::MAX, 26),
        ] {
            assert_eq!(bucket(ns), expected, "{ns}");
        }
    }

    #[test]
    fn what_was_counted_is_told_and_added_up() {
        let times = Times::default();
        times.add(5);
        times.add(1500);
        let spread = times.spread().with_instant(2);
        assert_eq!((spread.counts[0], spread.counts[1], spread.count(), spread.total_ns), (3, 1, 4, 1505));
        let both = spread.plus(&times.spread());
        assert_eq!((both.counts[0], both.counts[1], both.total_ns), (4, 2, 3010));
    }
}
