//! A device's registers, mapped into this process.
//!
//! An island of `unsafe`. Reads of a device that was pulled out give all ones. They would give SIGBUS where the mapping itself
//! is taken away: VFIO does not do that while its descriptor is open and memory access is switched on, which is never
//! switched off here; sysfs does when the kernel removes the device. Nothing is installed against it: without an IOMMU, a
//! device must be detached before it is pulled out.
#![expect(unsafe_code, reason = "maps and touches registers")]

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Registers of 32 bits. Unmapped when dropped.
pub(super) struct Registers {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process; each access is a single volatile one of 32 bits, in any thread.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

impl Registers {
    /// What the file has at `offset`.
    pub(super) fn map(file: BorrowedFd<'_>, offset: u64, bytes: usize) -> io::Result<Registers> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, file, offset) }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Registers { base, bytes })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// # Panics
    /// Beyond the registers; here and in `write`.
    pub(super) fn read(&self, offset: usize) -> u32 {
        // SAFETY: `at` checked that four aligned bytes of the mapping are there.
        u32::from_le(unsafe { self.at(offset).read_volatile() })
    }

    /// Everything stored before is seen first.
    pub(super) fn write(&self, offset: usize, value: u32) {
        // x86 orders stores to memory before those to registers by itself, so that this only holds the compiler; others need
        // the instruction that it is there.
        fence(Ordering::Release);
        // SAFETY: `at` checked that four aligned bytes of the mapping are there.
        unsafe { self.at(offset).write_volatile(value.to_le()) }
    }

    fn at(&self, offset: usize) -> *mut u32 {
        assert!(offset.is_multiple_of(4) && offset < self.bytes, "within the registers");
        self.base.as_ptr().wrapping_add(offset).cast()
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped by `map`, and only `self` knows it.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registers({} bytes)", self.bytes)
    }
}
