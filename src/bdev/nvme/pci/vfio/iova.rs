//! Addresses that the device uses in place of this process's: which ones there are, and which are taken.

/// From the first to the last address, both of them in it.
pub(super) type Range = (u64, u64);

const PAGE_BYTES: u64 = 4096;
const HUGEPAGE_BYTES: u64 = 2 * 1024 * 1024;
/// Not used: an address of 0 looks like none.
const LOW: Range = (0, 0xFFFF);
/// Writes to there are interrupts on x86, whatever the IOMMU maps.
const INTERRUPTS: Range = (0xFEE0_0000, 0xFEEF_FFFF);
/// What every IOMMU that VFIO drives has, where the kernel (before 5.4) does not tell: 39 bits.
const UNTOLD: Range = (0, (1 << 39) - 1);

/// VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, and where cap_offset is.
const FLAG_CAPABILITIES: u32 = 2;
const CAPABILITY_RANGES: u16 = 1;
const AT_CAPABILITIES: usize = 16;
/// Links of the chain of capabilities that are followed.
const CAPABILITIES_MAX: usize = 32;

/// The ranges in what VFIO_IOMMU_GET_INFO gave, as the kernel lays it out.
pub(super) fn usable(info: &[u8]) -> Vec<Range> {
    let told = ranges(info).unwrap_or_default();
    let told = if told.is_empty() { vec![UNTOLD] } else { told };
    told.into_iter()
        .flat_map(|range| without(range, LOW))
        .flat_map(|range| without(range, INTERRUPTS))
        .collect()
}

fn ranges(info: &[u8]) -> Option<Vec<Range>> {
    let bytes = |at: usize, count: usize| info.get(at..at.checked_add(count)?);
    let word = |at| Some(u32::from_ne_bytes(bytes(at, 4)?.try_into().ok()?));
    let address = |at| Some(u64::from_ne_bytes(bytes(at, 8)?.try_into().ok()?));
    if word(4)? & FLAG_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::try_from(word(AT_CAPABILITIES)?).ok()?;
    for _ in 0..CAPABILITIES_MAX {
        if at == 0 {
            return None;
        }
        let id = u16::from_ne_bytes(bytes(at, 2)?.try_into().ok()?);
        if id == CAPABILITY_RANGES {
            let count = usize::try_from(word(at + 8)?).ok()?;
            let ranges = (0..count).map_while(|index| {
                let at = at + 16 + 16 * index;
                Some((address(at)?, address(at + 8)?))
            });
            return Some(ranges.filter(|(first, last)| first <= last).collect());
        }
        at = usize::try_from(word(at + 4)?).ok()?;
    }
    None
}

/// What is left of a range, in up to two pieces.
fn without((first, last): Range, (hole_first, hole_last): Range) -> Vec<Range> {
    if last < hole_first || first > hole_last {
        return vec![(first, last)];
    }
    let below = (first < hole_first).then(|| (first, hole_first - 1));
    let above = (last > hole_last).then(|| (hole_last + 1, last));
    below.into_iter().chain(above).collect()
}

/// Free addresses. Invariant: ranges ascend, do not touch, and begin and end with pages.
#[derive(Debug)]
pub(super) struct Space {
    free: Vec<Range>,
}

impl Space {
    pub(super) fn new(ranges: &[Range]) -> Space {
        let mut space = Space { free: Vec::new() };
        for (first, last) in ranges {
            let Some(start) = first.checked_next_multiple_of(PAGE_BYTES) else { continue };
            // The last page of all is left out, so that an end can be said.
            let end = last.saturating_add(1) & !(PAGE_BYTES - 1);
            if end > start {
                space.give(start, end - start);
            }
        }
        space
    }

    /// So many bytes, a multiple of a page; where they are more than a hugepage, they begin like one.
    pub(super) fn take(&mut self, bytes: u64) -> Option<u64> {
        if bytes == 0 || !bytes.is_multiple_of(PAGE_BYTES) {
            return None;
        }
        let alignment = if bytes >= HUGEPAGE_BYTES { HUGEPAGE_BYTES } else { PAGE_BYTES };
        let fit = |(index, (first, last)): (usize, &Range)| {
            let start = first.checked_next_multiple_of(alignment)?;
            let taken_last = start.checked_add(bytes - 1)?;
            (taken_last <= *last).then_some((index, start, taken_last))
        };
        let (index, start, last) = self.free.iter().enumerate().find_map(fit)?;
        let left = without(self.free[index], (start, last));
        self.free.splice(index..=index, left);
        Some(start)
    }

    /// Gives back what was taken.
    pub(super) fn give(&mut self, start: u64, bytes: u64) {
        let mut range = (start, start + (bytes - 1));
        self.free.retain(|(first, last)| {
            if last.checked_add(1) == Some(range.0) {
                range.0 = *first;
                return false;
            }
            if range.1.checked_add(1) == Some(*first) {
                range.1 = *last;
                return false;
            }
            true
        });
        let at = self.free.partition_point(|(first, _)| *first < range.0);
        self.free.insert(at, range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says of an IOMMU with these ranges; another capability comes first.
    fn info(ranges: &[Range]) -> Vec<u8> {
        let mut words: Vec<u32> = vec![0, 3, 0x1000, 0, 24, 0];
        words.extend([3 | 1 << 16, 40, 65535, 0]); // 24: how many mappings are left; the next is at 40
        words.extend([1 | 1 << 16, 0, u32::try_from(ranges.len()).unwrap(), 0]);
        let halves =
            |value: u64| [u32::try_from(value & 0xFFFF_FFFF).unwrap(), u32::try_from(value >> 32).unwrap()];
        words.extend(ranges.iter().flat_map(|(first, last)| [halves(*first), halves(*last)]).flatten());
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }

    #[test]
    fn the_kernels_ranges_are_used_without_interrupts_and_zero() {
        let of_39 = info(&[(0, 0xFEDF_FFFF), (0xFEF0_0000, 0x7F_FFFF_FFFF)]);
        assert_eq!(usable(&of_39), [(0x1_0000, 0xFEDF_FFFF), (0xFEF0_0000, 0x7F_FFFF_FFFF)]);
        let of_48 = info(&[(0, 0xFFFF_FFFF_FFFF)]);
        assert_eq!(usable(&of_48), [(0x1_0000, 0xFEDF_FFFF), (0xFEF0_0000, 0xFFFF_FFFF_FFFF)]);
    }

    #[test]
    fn what_is_not_told_is_39_bits() {
        let untold = [(0x1_0000, 0xFEDF_FFFF), (0xFEF0_0000, 0x7F_FFFF_FFFF)];
        let mut without_capabilities = info(&[(0, 1)]);
        without_capabilities[4] = 1;
        assert_eq!(usable(&without_capabilities), untold);
        let whole = info(&[(0, 0xFFFF)]);
        for bytes in 0..whole.len() {
            assert_eq!(usable(&whole[..bytes]), untold, "cut at {bytes}");
        }
        let mut endless = info(&[]);
        endless[28] = 24; // the first capability is its own successor
        assert_eq!(usable(&endless), untold);
    }

    #[test]
    fn nothing_is_given_beyond_the_range_or_twice() {
        let mut space = Space::new(&[(0x1_0000, 0x1_2FFF), (0x40_0000, 0xBF_FFFF)]);
        assert_eq!(space.take(0x1000), Some(0x1_0000));
        assert_eq!(space.take(0x3000), Some(0x40_0000), "two pages are left below");
        assert_eq!(space.take(0x40_0000), Some(0x60_0000), "aligned like a hugepage");
        assert_eq!(space.take(0x20_0000), Some(0xA0_0000));
        assert_eq!(space.take(0x20_0000), None);
        assert_eq!(space.take(0x2000), Some(0x1_1000));
        assert_eq!((space.take(0), space.take(1), space.take(u64::MAX - 4095)), (None, None, None));
    }

    #[test]
    fn what_comes_back_is_joined() {
        let all = [(0x1_0000, 0x1_3FFF)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut space = Space::new(&all);
            let taken: Vec<u64> = (0..4).filter_map(|_| space.take(0x1000)).collect();
            assert_eq!((taken.len(), space.take(0x1000)), (4, None));
            for index in order {
                space.give(taken[index], 0x1000);
            }
            assert_eq!(space.free, all);
        }
    }

    #[test]
    fn the_end_of_the_address_space_does_not_overflow() {
        let mut space = Space::new(&[(u64::MAX - 0x2FFF, u64::MAX), (5, 4096)]);
        assert_eq!(space.take(0x2000), Some(u64::MAX - 0x2FFF));
        assert_eq!(space.take(0x1000), None);
    }
}
