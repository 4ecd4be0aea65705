//! Memory of queues, which the device reads and writes while we do.
//!
//! An island of `unsafe`: all access is by atomics, as no Rust reference may point to what a device changes. Nothing else
//! in this process has that memory, so a [`Dma`] is the only way to it.
#![expect(unsafe_code, reason = "memory that a device reads and writes at the same time")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::bdev::nvme::bus::{Bus, Mapping};
use crate::bdev::nvme::spec::Entry;
use crate::buf::Memory;

/// Memory that both sides have. It is given back when the device cannot reach it any more ([`Dma::release`]), or never.
pub(super) struct Dma {
    bus: Arc<dyn Bus>,
    memory: ManuallyDrop<Memory>,
    mapping: Mapping,
    /// Where the device finds its first byte.
    device: u64,
    /// The device has nothing to do with it any more: its mapping is gone, and the process may have it back.
    released: AtomicBool,
}

impl Dma {
    /// At least `bytes`, zeroed.
    pub(super) fn allocate(bus: &Arc<dyn Bus>, bytes: usize) -> Result<Dma, String> {
        let (memory, mapping) = bus.allocate(bytes)?;
        let dma = |device| Dma {
            bus: Arc::clone(bus),
            memory: ManuallyDrop::new(memory),
            device,
            mapping: mapping.clone(),
            released: AtomicBool::new(false),
        };
        match mapping.translate(mapping.base) {
            Some((device, contiguous)) if contiguous >= bytes => Ok(dma(device)),
            _ => {
                dma(0).release();
                Err(format!("{bytes} bytes of memory for queues are not contiguous for the device"))
            }
        }
    }

    /// Where the device finds the byte at `offset`.
    pub(super) fn device(&self, offset: usize) -> u64 {
        self.device + offset as u64
    }

    /// Takes it from the device, which must have let go of it, unless [`Bus::is_fenced_by_unmap`].
    pub(super) fn release(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            self.bus.unmap(&self.mapping);
        }
    }

    /// Whether [`Dma::release`] was called.
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// Stores an entry of a submission queue.
    pub(super) fn store_entry(&self, offset: usize, entry: &Entry) {
        let (pairs, _) = entry.as_chunks::<2>();
        for (to, [low, high]) in self.pairs::<8>(offset).iter().zip(pairs) {
            to.store((u64::from(*low) | u64::from(*high) << 32).to_le(), Ordering::Relaxed);
        }
    }

    /// Loads an entry of a completion queue, where its last word, which is loaded first, `is_new`.
    pub(super) fn load_entry(&self, offset: usize, is_new: impl FnOnce(u32) -> bool) -> Option<[u32; 4]> {
        let [first, second, third, last] = self.words(offset);
        let last = u32::from_le(last.load(Ordering::Acquire));
        let load = |word: &AtomicU32| u32::from_le(word.load(Ordering::Relaxed));
        is_new(last).then(|| [load(first), load(second), load(third), last])
    }

    /// Stores 64 bits, little-endian. `offset` is a multiple of 8.
    pub(super) fn store(&self, offset: usize, value: u64) {
        let [word] = self.pairs(offset);
        word.store(value.to_le(), Ordering::Relaxed);
    }

    /// Stores 32 bits, little-endian, so that all stores before are seen first. `offset` is a multiple of 4.
    pub(super) fn publish(&self, offset: usize, value: u32) {
        let [word] = self.words(offset);
        word.store(value.to_le(), Ordering::Release);
    }

    /// Loads 32 bits, little-endian; what is loaded later is at least as new. `offset` is a multiple of 4.
    pub(super) fn load(&self, offset: usize) -> u32 {
        let [word] = self.words(offset);
        u32::from_le(word.load(Ordering::Acquire))
    }

    /// Stores bytes. `offset` is a multiple of 8; what is missing of the last eight becomes zeroes.
    pub(super) fn store_bytes(&self, offset: usize, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.store(offset + 8 * index, u64::from_le_bytes(word));
        }
    }

    /// Copies bytes out. `offset` and the length are multiples of 4.
    pub(super) fn load_bytes(&self, offset: usize, bytes: &mut [u8]) {
        for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&self.load(offset + 4 * index).to_le_bytes());
        }
    }

    /// Makes zeroes of a range. Both are multiples of 8.
    pub(super) fn clear(&self, offset: usize, bytes: usize) {
        for at in (offset..offset + bytes).step_by(8) {
            self.store(at, 0);
        }
    }

    /// Words of 32 bits. `offset` is a multiple of 4.
    #[inline]
    fn words<const N: usize>(&self, offset: usize) -> &[AtomicU32; N] {
        assert!(offset.is_multiple_of(4) && self.has(offset, 4 * N), "within the memory");
        let words = self.memory.base().as_ptr().wrapping_add(offset).cast::<[AtomicU32; N]>();
        // SAFETY: aligned, as memory begins at a page; bytes of the mapping, which `self` keeps and only atomics touch.
        unsafe { &*words }
    }

    /// Words of 64 bits. `offset` is a multiple of 8.
    #[inline]
    fn pairs<const N: usize>(&self, offset: usize) -> &[AtomicU64; N] {
        assert!(offset.is_multiple_of(8) && self.has(offset, 8 * N), "within the memory");
        let pairs = self.memory.base().as_ptr().wrapping_add(offset).cast::<[AtomicU64; N]>();
        // SAFETY: as in `words`.
        unsafe { &*pairs }
    }

    #[inline]
    fn has(&self, offset: usize, bytes: usize) -> bool {
        self.memory.bytes().checked_sub(bytes).is_some_and(|last| offset <= last)
    }
}

impl Drop for Dma {
    fn drop(&mut self) {
        if self.bus.is_fenced_by_unmap() {
            self.release();
        }
        if self.is_released() {
            // SAFETY: dropped once, here, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
        // Else the device may still write to it: it stays mapped for ever.
    }
}

impl fmt::Debug for Dma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dma({} bytes at {:#x})", self.memory.bytes(), self.device)
    }
}
