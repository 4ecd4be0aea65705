//! What the device can reach: a table of mappings at device addresses of its own.
//!
//! An island of `unsafe`: it reads and writes memory of the driver, as a device does, but only within live mappings. An access
//! outside of them, or to lent memory that was taken back, is a violation and touches nothing.
#![expect(unsafe_code, reason = "the device's side of memory that the driver has mapped for it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::bus::{DeviceAddresses, Mapping};
use crate::sim::rng::Rng;

/// The first device address that is given out.
const FIRST: u64 = 0x10_0000_0000;
/// Between two mappings nothing is mapped.
const GAP: u64 = 0x10_0000;
/// What is contiguous without an IOMMU.
const HUGEPAGE_BYTES: usize = 2 * 1024 * 1024;
/// Violations that are kept: the first is what matters.
const VIOLATIONS_MAX: usize = 16;

/// Memory as the device sees it.
#[derive(Debug)]
pub(super) struct Dma {
    /// Process address and length by device address.
    windows: BTreeMap<u64, (usize, usize)>,
    /// As `windows`: guarded memory, which stays, that was taken back. Without an IOMMU the device still reaches it; an IOMMU
    /// may fence one that goes on.
    lingering: BTreeMap<u64, (usize, usize)>,
    is_scattered: bool,
    next: u64,
    /// Where only lent memory may be touched: base, bytes.
    guarded: Vec<(usize, usize)>,
    /// Bytes by address.
    lent: BTreeMap<usize, usize>,
    pub(super) violations: Vec<String>,
    /// Accesses that the IOMMU stopped, for which the driver is not to blame.
    pub(super) stopped_count: u64,
    /// The device was told to stop: what a missing mapping stops is not the driver's fault.
    pub(super) is_rogue: bool,
}

impl Dma {
    pub(super) fn new(is_scattered: bool) -> Dma {
        Dma {
            windows: BTreeMap::new(),
            lingering: BTreeMap::new(),
            is_scattered,
            next: FIRST,
            guarded: Vec::new(),
            lent: BTreeMap::new(),
            violations: Vec::new(),
            stopped_count: 0,
            is_rogue: false,
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    /// Contiguous, or a window for each hugepage's worth, in an order by `rng`.
    pub(super) fn map(
        &mut self,
        base: usize,
        bytes: usize,
        scattered: Option<&mut Rng>,
    ) -> Result<Mapping, String> {
        if bytes == 0 || !base.is_multiple_of(4096) || !bytes.is_multiple_of(4096) {
            return Err(format!("cannot map {bytes} bytes at {base:#x}: not whole pages"));
        }
        let device = match scattered {
            None => DeviceAddresses::Contiguous(self.window(base, bytes)),
            Some(rng) => {
                let mut offsets: Vec<usize> = (0..bytes).step_by(HUGEPAGE_BYTES).collect();
                let mut pages = vec![0; offsets.len()];
                while !offsets.is_empty() {
                    let offset = offsets.swap_remove(rng.index(offsets.len()));
                    let address = self.window(base + offset, HUGEPAGE_BYTES.min(bytes - offset));
                    pages[offset / HUGEPAGE_BYTES] = address;
                }
                DeviceAddresses::Hugepages(Arc::from(pages))
            }
        };
        Ok(Mapping { base, bytes, device })
    }

    fn window(&mut self, base: usize, bytes: usize) -> u64 {
        let at = self.next;
        self.next += bytes as u64 + GAP;
        self.windows.insert(at, (base, bytes));
        at
    }

    pub(super) fn unmap(&mut self, mapping: &Mapping) {
        let firsts = match &mapping.device {
            DeviceAddresses::Contiguous(first) => vec![*first],
            DeviceAddresses::Hugepages(pages) => pages.to_vec(),
        };
        for first in firsts {
            let Some(window) = self.windows.remove(&first) else {
                self.violation(format!("unmapped twice, or never mapped: {first:#x}"));
                continue;
            };
            if self.guarded.iter().any(|(base, bytes)| (*base..base + bytes).contains(&window.0)) {
                self.lingering.insert(first, window);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn window_count(&self) -> usize {
        self.windows.len()
    }

    #[cfg(test)]
    pub(super) fn guard(&mut self, base: usize, bytes: usize) {
        self.guarded.push((base, bytes));
    }

    #[cfg(test)]
    pub(super) fn lend(&mut self, base: usize, bytes: usize) {
        self.lent.insert(base, bytes);
    }

    #[cfg(test)]
    pub(super) fn take_back(&mut self, base: usize) {
        self.lent.remove(&base);
    }

    /// The process address, where so many bytes from `device` on are in one window.
    pub(super) fn translate(&self, device: u64, bytes: usize) -> Option<usize> {
        let lingering = || find(&self.lingering, device, bytes).filter(|_| self.is_scattered);
        find(&self.windows, device, bytes).or_else(lingering)
    }

    fn is_allowed(&self, address: usize, bytes: usize) -> bool {
        let is_guarded =
            self.guarded.iter().any(|(base, length)| address < base + length && *base < address + bytes);
        let lent = self.lent.range(..=address).next_back();
        !is_guarded || lent.is_some_and(|(base, length)| address + bytes <= base + length)
    }

    /// As [`Dma::translate`], with its violations.
    fn reach(&mut self, device: u64, bytes: usize, what: &str) -> Option<usize> {
        let Some(address) = self.translate(device, bytes) else {
            if self.is_rogue || find(&self.lingering, device, bytes).is_some() {
                self.stopped_count += 1;
                return None;
            }
            self.violation(format!("{what}: {bytes} bytes at {device:#x} are not mapped"));
            return None;
        };
        if !self.is_allowed(address, bytes) {
            self.violation(format!("{what}: {bytes} bytes at {device:#x} belong to no IO in the driver"));
            return None;
        }
        Some(address)
    }

    /// Whether an access would be stopped.
    pub(super) fn is_reachable(&self, device: u64, bytes: usize) -> bool {
        self.translate(device, bytes).is_some_and(|address| self.is_allowed(address, bytes))
    }

    #[must_use]
    pub(super) fn read(&mut self, device: u64, to: &mut [u8], what: &str) -> bool {
        let Some(address) = self.reach(device, to.len(), what) else { return false };
        let from = std::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: `reach`: all of it lies in a live mapping, and who maps memory keeps it until it is unmapped; the driver
        // forms no references to memory that it has handed to the device.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
        true
    }

    #[must_use]
    pub(super) fn write(&mut self, device: u64, from: &[u8], what: &str) -> bool {
        let Some(address) = self.reach(device, from.len(), what) else { return false };
        let to = std::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        true
    }

    /// A word that the driver may be looking at: what was written before is seen first.
    #[must_use]
    pub(super) fn store(&mut self, device: u64, word: u32, what: &str) -> bool {
        if !device.is_multiple_of(4) {
            self.violation(format!("{what}: {device:#x} is not aligned"));
            return false;
        }
        let Some(address) = self.reach(device, 4, what) else { return false };
        let to = std::ptr::with_exposed_provenance_mut::<u32>(address);
        // SAFETY: as in `read`; mappings begin at pages, so the word is aligned, and whoever else reads it does so atomically
        // or on this thread.
        unsafe { AtomicU32::from_ptr(to) }.store(word, Ordering::Release);
        true
    }

    /// As [`Dma::store`].
    #[must_use]
    pub(super) fn load(&mut self, device: u64, what: &str) -> Option<u32> {
        let address = self.reach(device, 4, what).filter(|address| address.is_multiple_of(4))?;
        let from = std::ptr::with_exposed_provenance_mut::<u32>(address);
        // SAFETY: as in `store`.
        Some(unsafe { AtomicU32::from_ptr(from) }.load(Ordering::Acquire))
    }
}

/// The process address, where all of it is in one of these.
fn find(windows: &BTreeMap<u64, (usize, usize)>, device: u64, bytes: usize) -> Option<usize> {
    let (first, (base, length)) = windows.range(..=device).next_back()?;
    let offset = usize::try_from(device - first).ok()?;
    (offset.checked_add(bytes)? <= *length).then_some(base + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{Memory, Pages};

    #[test]
    fn only_what_is_mapped_is_reached() {
        let memory = Memory::map(8192, Pages::Ordinary).unwrap();
        let base = memory.base().as_ptr().expose_provenance();
        let mut dma = Dma::new(false);
        let mapping = dma.map(base, 8192, None).unwrap();
        let (first, contiguous) = mapping.translate(base + 4096).unwrap();
        assert_eq!(contiguous, 4096);
        assert!(dma.write(first, &[7; 4096], "t"));
        let mut back = [0; 2];
        assert!(dma.read(first + 4094, &mut back, "t") && back == [7, 7]);
        assert!(dma.violations.is_empty());
        assert!(!dma.write(first, &[7; 4097], "beyond"));
        dma.unmap(&mapping);
        assert!(!dma.read(first, &mut back, "after"));
        assert_eq!((dma.violations.len(), dma.window_count()), (2, 0));
    }

    #[test]
    fn guarded_memory_is_reached_while_lent() {
        let memory = Memory::map(8192, Pages::Ordinary).unwrap();
        let base = memory.base().as_ptr().expose_provenance();
        let mut dma = Dma::new(false);
        let (first, _) = dma.map(base, 8192, None).unwrap().translate(base).unwrap();
        dma.guard(base, 8192);
        assert!(!dma.is_reachable(first, 1));
        dma.lend(base, 512);
        assert!(dma.is_reachable(first, 512) && !dma.is_reachable(first, 513) && dma.violations.is_empty());
        dma.take_back(base);
        assert!(!dma.write(first, &[1], "t"));
        assert_eq!(dma.violations.len(), 1);
    }
}
