//! Memory that devices may reach, for IOs whose own they may not.
//!
//! An island of `unsafe`: SPDK's allocator.
#![expect(unsafe_code, reason = "memory from SPDK's allocator")]

use std::fmt;
use std::ptr::{self, NonNull};

use spdk_sys as spdk;

/// What SPDK aligns it to: what every controller takes.
const ALIGN_BYTES: usize = 4096;

/// A piece of such memory.
pub(super) struct DmaMemory {
    base: NonNull<u8>,
    bytes: usize,
}

impl DmaMemory {
    /// At least so many bytes; none where SPDK has no more. The environment is initialised.
    pub(super) fn new(bytes: usize) -> Option<DmaMemory> {
        // SAFETY: a call without conditions once the environment is there.
        let base = unsafe { spdk::spdk_dma_zmalloc(bytes, ALIGN_BYTES, ptr::null_mut()) };
        Some(DmaMemory { base: NonNull::new(base.cast())?, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// What it holds. No device may be writing to it.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes were allocated, zeroed, and belong to nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for DmaMemory {
    fn drop(&mut self) {
        // SAFETY: `new` allocated it.
        unsafe { spdk::spdk_dma_free(self.base.as_ptr().cast()) };
    }
}

impl fmt::Debug for DmaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaMemory({} bytes)", self.bytes)
    }
}

/// Whether devices may reach this memory: SPDK knows it.
pub(super) fn is_known(memory: &[u8]) -> bool {
    let mut bytes = u64::try_from(memory.len()).unwrap_or(u64::MAX);
    let wanted = bytes;
    // SAFETY: SPDK looks the address up, and writes one number.
    let address = unsafe { spdk::spdk_vtophys(memory.as_ptr().cast(), &raw mut bytes) };
    address != u64::MAX && bytes >= wanted
}
