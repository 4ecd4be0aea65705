//! What a PCIe controller is reached through: its registers, and memory that it may touch.
//!
//! Behind it are VFIO, sysfs without an IOMMU, and the mock controller of the tests.

use std::fmt::Debug;
use std::sync::Arc;

use crate::buf::{Memory, Pages};

/// Memory as the device sees it: device addresses for a range of this process's addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mapping {
    /// The first address of the range in this process; a multiple of 4096.
    pub(crate) base: usize,
    /// Its length: a multiple of 4096.
    pub(crate) bytes: usize,
    /// Where the device finds it.
    pub(crate) device: DeviceAddresses,
}

/// Device addresses of a mapping.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum DeviceAddresses {
    /// Contiguous from here on (an IOMMU).
    Contiguous(u64),
    /// Of each hugepage (2 MiB), in order (no IOMMU).
    Hugepages(Arc<[u64]>),
}

/// log2 of 2 MiB.
const HUGEPAGE_SHIFT: u32 = 21;

impl Mapping {
    /// The device address of `address`, and how many bytes from there on are contiguous for the device; none where the
    /// mapping does not have it.
    #[inline]
    pub(crate) fn translate(&self, address: usize) -> Option<(u64, usize)> {
        let offset = address.wrapping_sub(self.base);
        if offset >= self.bytes {
            return None;
        }
        match &self.device {
            DeviceAddresses::Contiguous(first) => {
                Some((first.wrapping_add(u64::try_from(offset).ok()?), self.bytes - offset))
            }
            DeviceAddresses::Hugepages(pages) => {
                let within = offset & ((1 << HUGEPAGE_SHIFT) - 1);
                let page = pages.get(offset >> HUGEPAGE_SHIFT)?;
                Some((page + u64::try_from(within).ok()?, (1 << HUGEPAGE_SHIFT) - within))
            }
        }
    }
}

/// Registers and DMA of one controller. Any thread may use it; nothing here waits, [`Bus::map`] and [`Bus::unmap`] aside.
pub(crate) trait Bus: Send + Sync + Debug {
    /// Reads a register of 32 bits. `u32::MAX` where the device is gone.
    fn read32(&self, offset: usize) -> u32;
    /// Reads a register of 64 bits, in two halves.
    fn read64(&self, offset: usize) -> u64 {
        u64::from(self.read32(offset)) | u64::from(self.read32(offset + 4)) << 32
    }
    /// Writes a register of 32 bits; everything that was stored before is visible to the device first.
    fn write32(&self, offset: usize, value: u32);
    /// Writes a register of 64 bits, low half first.
    #[expect(clippy::cast_possible_truncation, reason = "each half is taken on its own")]
    fn write64(&self, offset: usize, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }
    /// How many bytes of registers there are.
    fn register_bytes(&self) -> usize;
    /// Memory for queues: zeroed, contiguous for the device, mapped until the value is dropped by its owner through
    /// [`Bus::unmap`]. May block.
    fn allocate(&self, bytes: usize) -> Result<(Memory, Mapping), String> {
        let memory = Memory::map(bytes, self.pages()).map_err(|failed| failed.to_string())?;
        // Some devices are of this process: the mock controller reads and writes there by address.
        let base = memory.base().expose_provenance().get();
        let mapping = self.map(base, memory.bytes())?;
        Ok((memory, mapping))
    }
    /// What [`Bus::allocate`] takes.
    fn pages(&self) -> Pages {
        Pages::Ordinary
    }
    /// Lets the device reach this range. It must stay mapped in the process until [`Bus::unmap`]. May block (it pins pages).
    fn map(&self, base: usize, bytes: usize) -> Result<Mapping, String>;
    /// Takes a range from the device. May block.
    fn unmap(&self, mapping: &Mapping);
    /// Whether after [`Bus::unmap`] the device cannot reach the memory any more, whatever it tries (an IOMMU).
    fn is_fenced_by_unmap(&self) -> bool;
    /// Lets the device reach memory at all, or keeps it from all of it (PCI's bus mastering), whatever is mapped. An error where
    /// that cannot be, or is not known to be. What is unmapped while it is kept away leaves addresses that it may still use:
    /// they are not given out again.
    fn set_access(&self, is_on: bool) -> Result<(), String> {
        if is_on { Ok(()) } else { Err("there is no way to".to_owned()) }
    }
    /// Resets the device from outside, where that is possible (VFIO_DEVICE_RESET). May block.
    fn reset(&self) -> Result<(), String>;
}
