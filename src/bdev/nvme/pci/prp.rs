//! Where the data of a command are: physical region pages (Base §4.1.1).
//!
//! The first pointer has the offset within its page; then one page each. Two pages fit into the entry; for more, the second
//! pointer leads to a list. Nothing is contiguous but what [`Mapping::translate`] says.

use arrayvec::ArrayVec;

use super::ring::PAGE_BYTES;
use crate::bdev::nvme::bus::Mapping;
use crate::bdev::nvme::spec::DataPointer;

/// The most that one command moves, wherever in its page it begins.
pub(super) const BYTES_MAX: usize = 256 * 1024;
/// Entries of a list: all pages but the first.
pub(super) const LIST_ENTRIES: usize = BYTES_MAX / PAGE_BYTES;
/// A list, which never crosses a page, as it is aligned to its length.
pub(super) const LIST_BYTES: usize = 8 * LIST_ENTRIES;
const _: () = assert!(LIST_BYTES.is_power_of_two() && LIST_BYTES <= PAGE_BYTES);

/// What a queue knows of the process's memory: one mapping for each pool of its reactor, and few of those.
const MAPPINGS_MAX: usize = 64;

/// Why there are no pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoPointer {
    /// No mapping has that memory.
    Unmapped,
    /// Too long, or not aligned to four bytes.
    Impossible,
}

/// Mappings that the device can reach.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    known: ArrayVec<Mapping, MAPPINGS_MAX>,
    /// Where the last look-up was lucky.
    last: usize,
}

impl Mappings {
    /// Adds one, in place of an older one that begins at the same address; false where there is no room.
    pub(super) fn learn(&mut self, mapping: Mapping) -> bool {
        if let Some(same) = self.known.iter_mut().find(|known| known.base == mapping.base) {
            *same = mapping;
            return true;
        }
        self.known.try_push(mapping).is_ok()
    }

    /// The pointer to memory of this process that is within one page, the usual case; none where it is not, or where it is not
    /// found where the last was.
    #[inline(always)]
    pub(super) fn page(&self, address: usize, bytes: usize) -> Option<u64> {
        let (device, contiguous) = self.known.get(self.last)?.translate(address)?;
        let in_page = PAGE_BYTES - address % PAGE_BYTES;
        let is_page = bytes.wrapping_sub(1) < in_page.min(contiguous) && address.is_multiple_of(4);
        is_page.then_some(device)
    }

    fn translate(&mut self, address: usize) -> Option<(u64, usize)> {
        if let Some(found) = self.known.get(self.last).and_then(|mapping| mapping.translate(address)) {
            return Some(found);
        }
        let found = |(index, mapping): (usize, &Mapping)| Some((index, mapping.translate(address)?));
        let (index, translated) = self.known.iter().enumerate().find_map(found)?;
        self.last = index;
        Some(translated)
    }

    /// Pointers to memory of this process. Where it has more than two pages, `list` is given the entries of the list, by index,
    /// and tells where the device finds it.
    pub(super) fn pointers(
        &mut self,
        address: usize,
        bytes: usize,
        mut list: impl FnMut(usize, u64) -> u64,
    ) -> Result<DataPointer, NoPointer> {
        if bytes == 0 {
            return Ok(DataPointer::None);
        }
        if bytes > BYTES_MAX || !address.is_multiple_of(4) {
            return Err(NoPointer::Impossible);
        }
        let (first, mut contiguous) = self.translate(address).ok_or(NoPointer::Unmapped)?;
        let mut step = (PAGE_BYTES - address % PAGE_BYTES).min(bytes);
        let pages = 1 + (bytes - step).div_ceil(PAGE_BYTES);
        let (mut device, mut done, mut second) = (first, 0, 0);
        for page in 1..pages {
            done += step;
            if contiguous > step {
                (device, contiguous) = (device.wrapping_add(step as u64), contiguous - step);
            } else {
                (device, contiguous) = self.translate(address + done).ok_or(NoPointer::Unmapped)?;
            }
            step = PAGE_BYTES.min(bytes - done);
            second = if pages == 2 { device } else { list(page - 1, device) };
        }
        if contiguous < step {
            return Err(NoPointer::Unmapped); // the mapping ends within the last page
        }
        Ok(DataPointer::Prp(first, second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::nvme::bus::DeviceAddresses;

    /// 0x10_0000 to 0x20_0000 of the process are at 0x7000_0000 for the device.
    fn iommu() -> Mappings {
        let mut mappings = Mappings::default();
        assert!(mappings.learn(Mapping {
            base: 0x10_0000,
            bytes: 0x10_0000,
            device: DeviceAddresses::Contiguous(0x7000_0000),
        }));
        mappings
    }

    /// The pointers, and the list.
    fn of(
        mappings: &mut Mappings,
        address: usize,
        bytes: usize,
    ) -> (Result<DataPointer, NoPointer>, Vec<u64>) {
        let mut list = Vec::new();
        let pointer = mappings.pointers(address, bytes, |index, page| {
            assert_eq!(index, list.len());
            list.push(page);
            0x9_9000
        });
        // The short way to the same.
        if let Some(page) = mappings.page(address, bytes) {
            assert_eq!(pointer, Ok(DataPointer::Prp(page, 0)));
        }
        (pointer, list)
    }

    #[test]
    fn one_page_needs_one_pointer() {
        assert_eq!(of(&mut iommu(), 0x10_0000, 4096), (Ok(DataPointer::Prp(0x7000_0000, 0)), vec![]));
        assert_eq!(of(&mut iommu(), 0x10_1E00, 512), (Ok(DataPointer::Prp(0x7000_1E00, 0)), vec![]));
        assert_eq!(of(&mut iommu(), 0x10_1E00, 0), (Ok(DataPointer::None), vec![]));
    }

    #[test]
    fn memory_within_a_page_is_found_where_the_last_was() {
        let mut mappings = iommu();
        assert_eq!(mappings.page(0x10_1E00, 512), Some(0x7000_1E00));
        for (address, bytes) in [(0x10_1E00, 0), (0x10_1E04, 512), (0x10_1E02, 4), (0x20_0000, 4)] {
            assert_eq!(mappings.page(address, bytes), None);
        }
        let device = DeviceAddresses::Contiguous(0x5000);
        assert!(mappings.learn(Mapping { base: 0x20_0000, bytes: 0x1000, device }));
        assert_eq!(mappings.page(0x20_0000, 4096), None);
        assert_eq!(of(&mut mappings, 0x20_0000, 4096).0, Ok(DataPointer::Prp(0x5000, 0)));
        assert_eq!(mappings.page(0x20_0000, 4096), Some(0x5000));
    }

    #[test]
    fn two_pages_fit_into_the_entry() {
        assert_eq!(
            of(&mut iommu(), 0x10_0000, 8192),
            (Ok(DataPointer::Prp(0x7000_0000, 0x7000_1000)), vec![])
        );
        assert_eq!(
            of(&mut iommu(), 0x10_1E04, 512),
            (Ok(DataPointer::Prp(0x7000_1E04, 0x7000_2000)), vec![])
        );
    }

    #[test]
    fn three_pages_need_a_list() {
        let aligned = of(&mut iommu(), 0x10_0000, 12288);
        assert_eq!(aligned, (Ok(DataPointer::Prp(0x7000_0000, 0x9_9000)), vec![0x7000_1000, 0x7000_2000]));
        let within = of(&mut iommu(), 0x10_0FFC, 4096 + 8);
        assert_eq!(within, (Ok(DataPointer::Prp(0x7000_0FFC, 0x9_9000)), vec![0x7000_1000, 0x7000_2000]));
    }

    #[test]
    fn the_longest_command_fills_its_list() {
        let (pointer, list) = of(&mut iommu(), 0x10_0004, 256 * 1024);
        assert_eq!(pointer, Ok(DataPointer::Prp(0x7000_0004, 0x9_9000)));
        assert_eq!((list.len(), list[0], list[63]), (64, 0x7000_1000, 0x7004_0000));
        assert_eq!(of(&mut iommu(), 0x10_0000, 256 * 1024).1.len(), 63);
        assert_eq!(of(&mut iommu(), 0x10_0000, 256 * 1024 + 512).0, Err(NoPointer::Impossible));
    }

    #[test]
    fn hugepages_are_not_taken_for_neighbours() {
        let mut mappings = Mappings::default();
        assert!(mappings.learn(Mapping {
            base: 0x40_0000,
            bytes: 0x40_0000,
            device: DeviceAddresses::Hugepages([0x8000_0000, 0x1_2000_0000].into()),
        }));
        let (pointer, list) = of(&mut mappings, 0x5F_E000, 0x4000);
        assert_eq!(pointer, Ok(DataPointer::Prp(0x801F_E000, 0x9_9000)));
        assert_eq!(list, [0x801F_F000, 0x1_2000_0000, 0x1_2000_1000]);
        let two = of(&mut mappings, 0x5F_F200, 0x1000);
        assert_eq!(two, (Ok(DataPointer::Prp(0x801F_F200, 0x1_2000_0000)), vec![]));
    }

    #[test]
    fn memory_may_go_on_in_another_mapping() {
        let mut mappings = iommu();
        assert_eq!(of(&mut mappings, 0x1F_F000, 8192).0, Err(NoPointer::Unmapped));
        assert!(mappings.learn(Mapping {
            base: 0x20_0000,
            bytes: 0x1000,
            device: DeviceAddresses::Contiguous(0x5000),
        }));
        assert_eq!(of(&mut mappings, 0x1F_F000, 8192).0, Ok(DataPointer::Prp(0x700F_F000, 0x5000)));
        assert_eq!(of(&mut mappings, 0x1F_F000, 8192 + 4).0, Err(NoPointer::Unmapped));
    }

    #[test]
    fn what_no_pointer_can_say_is_refused() {
        assert_eq!(of(&mut iommu(), 0x10_0002, 512).0, Err(NoPointer::Impossible));
        assert_eq!(of(&mut iommu(), 0x0F_FFFC, 512).0, Err(NoPointer::Unmapped));
        assert_eq!(of(&mut iommu(), 0x1F_FFFC, 512).0, Err(NoPointer::Unmapped));
    }

    #[test]
    fn a_mapping_made_anew_replaces_the_old() {
        let mut mappings = iommu();
        assert!(mappings.learn(Mapping {
            base: 0x10_0000,
            bytes: 0x10_0000,
            device: DeviceAddresses::Contiguous(0x3000_0000),
        }));
        assert_eq!(of(&mut mappings, 0x10_0000, 512).0, Ok(DataPointer::Prp(0x3000_0000, 0)));
        for index in 1..MAPPINGS_MAX {
            let base = 0x100_0000 + index * 0x1000;
            assert!(mappings.learn(Mapping { base, bytes: 0x1000, device: DeviceAddresses::Contiguous(0) }));
        }
        assert!(!mappings.learn(Mapping { base: 0, bytes: 0x1000, device: DeviceAddresses::Contiguous(0) }));
    }
}
