//! The disk's memory: hugepages where there are any, else as large pages as the system makes.
#![expect(unsafe_code, reason = "maps memory")]

use std::io;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Memory for the rest of the process, each page of it written to once.
pub(crate) fn map(bytes: usize) -> io::Result<&'static mut [u8]> {
    let mapped_bytes = bytes.next_multiple_of(2 << 20);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
    let anonymous =
        |kind| unsafe { mmap_anonymous(null_mut(), mapped_bytes, protection, MapFlags::PRIVATE | kind) };
    let start =
        anonymous(MapFlags::HUGETLB | MapFlags::POPULATE).or_else(|_| anonymous(MapFlags::empty()))?;
    // SAFETY: the mapping is ours, and nobody uses it yet. Where the advice is not taken, pages stay what they are.
    let _ = unsafe { madvise(start, mapped_bytes, Advice::LinuxHugepage) };
    // SAFETY: `mapped_bytes` of readable and writable zeros, never unmapped, and handed out once.
    let memory = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), bytes) };
    memory.iter_mut().step_by(4096).for_each(|first| *first = 1);
    Ok(memory)
}
