//! Which pages of a mapping the kernel has given memory, or a place in swap: what it has not is zeroes and takes none.
//!
//! An island of `unsafe`, for one `ioctl`. The kernel is asked by `PAGEMAP_SCAN` (Linux 6.7), which tells pages that were read
//! and never written from others; before that by `/proc/self/pagemap`, where those count as touched. Nothing is read in the
//! mapping itself. It may block: for helper threads.
#![expect(unsafe_code, reason = "an ioctl that no safe wrapper has")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};

/// Where the kernel tells.
const PAGEMAP: &str = "/proc/self/pagemap";

/// Of `linux/fs.h`: the page has memory; it has a place in swap; it is the page of zeroes that all have in common.
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZEROES: u64 = 1 << 5;

/// Regions that are asked for at a time.
const REGIONS: usize = 64;
/// Entries of `pagemap` that are read at a time.
const ENTRIES: usize = 512;
const ENTRY_BYTES: usize = 8;
/// Of an entry (`Documentation/admin-guide/mm/pagemap.rst`): present, swapped.
const ENTRY_TOUCHED: u64 = 0b11 << 62;

/// `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`.
#[repr(C)]
#[derive(Debug)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const SCAN: rustix::ioctl::Opcode = opcode::read_write::<Scan>(b'f', 16);

/// Tells the touched pages among these addresses, each of which is a page's first, as ranges in order: any of them may be cut in two.
/// It ends early where `told` wants no more.
///
/// # Errors
/// The kernel does not tell, or no longer: of what is beyond the last range nothing is known then.
#[expect(clippy::disallowed_methods, reason = "helper threads only")]
pub(super) fn touched(addresses: Range<u64>, told: &mut dyn FnMut(Range<u64>) -> bool) -> io::Result<()> {
    let pagemap = File::open(PAGEMAP)?;
    match scan(&pagemap, addresses.clone(), told) {
        Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => walk(&pagemap, addresses, told),
        scanned => Ok(scanned?),
    }
}

/// By `PAGEMAP_SCAN`. Where that is not there, nothing was told.
fn scan(
    pagemap: &File,
    addresses: Range<u64>,
    told: &mut dyn FnMut(Range<u64>) -> bool,
) -> Result<(), Errno> {
    let mut start = addresses.start;
    while start < addresses.end {
        let mut regions = [Region::default(); REGIONS];
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            flags: 0,
            start,
            end: addresses.end,
            walk_end: 0,
            vec: regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: REGIONS as u64,
            max_pages: 0,
            category_inverted: ZEROES,
            category_mask: ZEROES,
            category_anyof_mask: PRESENT | SWAPPED,
            return_mask: PRESENT,
        };
        // SAFETY: `Scan` is laid out as the kernel's argument of this number, of which the size is a part.
        let call = unsafe { Updater::<SCAN, Scan>::new(&mut scan) };
        // SAFETY: the kernel writes into `scan` and into at most `vec_len` regions, all of which are there and ours alone; no
        // flag asks it to change a page.
        unsafe { ioctl(pagemap.as_fd(), call) }?;
        // Filled from the first on; none is empty.
        for region in regions.iter().take_while(|region| region.end > region.start) {
            if !told(region.start..region.end) {
                return Ok(());
            }
        }
        if scan.walk_end <= start {
            return Err(Errno::IO);
        }
        start = scan.walk_end;
    }
    Ok(())
}

/// By the entries of `pagemap`, one for each page.
fn walk(pagemap: &File, addresses: Range<u64>, told: &mut dyn FnMut(Range<u64>) -> bool) -> io::Result<()> {
    let page_bytes = rustix::param::page_size() as u64;
    let mut entries = [0; ENTRIES * ENTRY_BYTES];
    let mut at = addresses.start;
    while at < addresses.end {
        let pages = (addresses.end - at).div_ceil(page_bytes).min(ENTRIES as u64);
        let bytes = usize::try_from(pages).unwrap_or(ENTRIES) * ENTRY_BYTES;
        let entries = &mut entries[..bytes.min(ENTRIES * ENTRY_BYTES)];
        pagemap.read_exact_at(entries, at / page_bytes * ENTRY_BYTES as u64)?;
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        for (entry, start) in entries.iter().zip((at..).step_by(rustix::param::page_size())) {
            let is_touched = u64::from_ne_bytes(*entry) & ENTRY_TOUCHED != 0;
            if is_touched && !told(start..start + page_bytes) {
                return Ok(());
            }
        }
        at += pages * page_bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{Medium, Memory, Pages};

    const PAGE: u64 = 4096;

    /// The touched pages, by their numbers, by one of the two ways.
    fn pages(
        mut way: impl FnMut(&File, Range<u64>, &mut dyn FnMut(Range<u64>) -> bool),
        medium: &Medium,
    ) -> Vec<u64> {
        let addresses = medium.addresses(0, 300 * 4096);
        let first = addresses.start;
        let mut pages = Vec::new();
        way(&File::open(PAGEMAP).unwrap(), addresses, &mut |range| {
            pages.extend((range.start..range.end).step_by(4096).map(|address| (address - first) / PAGE));
            true
        });
        pages
    }

    /// Not where pages are larger, or are made larger by the kernel as it likes.
    fn has_small_pages() -> bool {
        let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        rustix::param::page_size() == 4096 && !huge.is_ok_and(|huge| huge.contains("[always]"))
    }

    #[test]
    fn pages_that_were_written_are_touched_and_those_that_were_given_back_are_not() {
        let medium = Medium::new(Memory::map_untouched(300 * 4096, Pages::Ordinary).unwrap());
        let walked = || pages(|file, range, told| walk(file, range, told).unwrap(), &medium);
        if !has_small_pages() {
            return;
        }
        assert!(walked().is_empty());
        // More regions than are asked for at a time.
        let written: Vec<u64> = (0..300).filter(|page| page % 3 == 1).collect();
        for page in &written {
            medium.write(usize::try_from(page * PAGE).unwrap() + 512, &[7; 8]);
        }
        assert_eq!(walked(), written);
        medium.free(0, 150 * 4096);
        let left: Vec<u64> = written.into_iter().filter(|page| *page >= 150).collect();
        assert_eq!(walked(), left);

        medium.read(0, &mut [0; 4096]);
        let mut has_scan = true;
        let scanned = pages(|file, range, told| has_scan = scan(file, range, told).is_ok(), &medium);
        // Older kernels do not have it.
        assert!(!has_scan || scanned == left, "what was only read is not touched: {scanned:?}");
    }

    #[test]
    fn it_ends_where_no_more_is_wanted() {
        let medium = Medium::new(Memory::map(16 * 4096, Pages::Ordinary).unwrap());
        (0..16).step_by(2).for_each(|page| medium.write(page * 4096, &[7; 8]));
        let mut count = 0;
        touched(medium.addresses(0, 16 * 4096), &mut |_| {
            count += 1;
            count < 1
        })
        .unwrap();
        assert_eq!(count, 1);
    }
}
