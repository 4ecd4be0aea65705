//! The disk's memory: hugepages where there are any, else as large pages as the system makes.
#![expect(unsafe_code, reason = "maps memory")]

use std::io;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

/// Memory of zeros for the rest of the process, each page of it there.
pub(crate) fn map(bytes: usize) -> io::Result<&'static mut [u8]> {
    let mapped_bytes = bytes.next_multiple_of(2 << 20);
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
    let huge = unsafe { mmap_anonymous(null_mut(), mapped_bytes, protection, flags | MapFlags::HUGETLB) };
    let start = match huge {
        Ok(start) => start,
        Err(_) => {
            // SAFETY: as above.
            let start = unsafe { mmap_anonymous(null_mut(), mapped_bytes, protection, MapFlags::PRIVATE) }?;
            // SAFETY: this mapping is ours; where the advice is not taken, pages are small.
            let _ = unsafe { madvise(start, mapped_bytes, Advice::LinuxHugepage) };
            start
        }
    };
    // SAFETY: `mapped_bytes` of readable and writable zeros, never unmapped, and handed out once.
    let memory = unsafe { std::slice::from_raw_parts_mut(start.cast::<u8>(), bytes) };
    memory.iter_mut().step_by(4096).for_each(|first| *first = 1);
    Ok(memory)
}
