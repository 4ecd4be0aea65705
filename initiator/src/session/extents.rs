//! Which bytes of a buffer have moved.

use std::collections::BTreeMap;

/// Disjoint ranges, start to end, merged where they touch.
#[derive(Debug, Clone, Default)]
pub(super) struct Extents {
    ranges: BTreeMap<u32, u32>,
    bytes: u32,
}

impl Extents {
    /// Adds a range; false, and nothing added, when part of it is there already.
    pub(super) fn add(&mut self, start: u32, end: u32) -> bool {
        if start >= end {
            return true;
        }
        let before = self.ranges.range(..end).next_back().map(|(&s, &e)| (s, e));
        let mut merged = (start, end);
        if let Some((s, e)) = before {
            if e > start {
                return false;
            }
            if e == start {
                self.ranges.remove(&s);
                merged.0 = s;
            }
        }
        if let Some(e) = self.ranges.remove(&end) {
            merged.1 = e;
        }
        self.ranges.insert(merged.0, merged.1);
        self.bytes += end - start;
        true
    }

    /// Bytes covered.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_refuse_overlap() {
        let mut extents = Extents::default();
        assert!(extents.add(10, 20));
        assert!(extents.add(30, 40));
        for (start, end) in [(5, 11), (19, 21), (10, 20), (12, 13), (0, 100), (25, 31), (39, 50)] {
            assert!(!extents.add(start, end), "{start}..{end}");
        }
        assert!(extents.add(20, 30));
        assert_eq!(extents.ranges, BTreeMap::from([(10, 40)]));
        assert!(extents.add(0, 10));
        assert!(extents.add(7, 7));
        assert_eq!(extents.ranges, BTreeMap::from([(0, 40)]));
        assert_eq!(extents.bytes(), 40);
    }
}
