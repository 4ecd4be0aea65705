//! Anonymous memory, mapped once and given back whole: of hugepages where there are, else of ordinary pages.
//!
//! An island of `unsafe`: it maps, unmaps, and cuts a mapping into [`Chunk`]s that never overlap. Nothing is
//! advised to the kernel here: transparent hugepages would make an idle pool resident.
#![expect(unsafe_code, reason = "maps memory and hands out disjoint pieces of it")]

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::rc::Rc;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The one hugepage size asked for: 2 MiB, whatever the system's default is.
const HUGEPAGE_BYTES: usize = 2 * 1024 * 1024;
/// What ordinary lengths are rounded to; the kernel rounds further where its pages are larger.
const PAGE_BYTES: usize = 4096;

/// What a mapping is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Hugepages of 2 MiB, from the system's reserve.
    Huge,
    /// Ordinary pages, resident only once written.
    Ordinary,
}

/// What the operator wants mappings to be made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hugepages {
    /// Hugepages where enough are free, else ordinary memory.
    Auto,
    /// Hugepages or nothing.
    Require,
    /// Ordinary memory.
    Off,
}

/// A mapping that the kernel refused.
#[derive(Debug)]
pub struct MapFailed {
    /// How much was asked for.
    pub bytes: usize,
    /// Of what.
    pub pages: Pages,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for MapFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes.div_ceil(1024 * 1024);
        match self.pages {
            Pages::Huge => write!(
                f,
                "cannot map {mib} MiB of hugepages: {}; reserve {} pages of 2 MiB (vm.nr_hugepages) or do without",
                self.source,
                self.bytes.div_ceil(HUGEPAGE_BYTES)
            ),
            Pages::Ordinary => write!(f, "cannot map {mib} MiB of memory: {}; ask for less", self.source),
        }
    }
}

impl std::error::Error for MapFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A private, zeroed, readable and writable mapping, unmapped when dropped.
pub struct Memory {
    base: NonNull<u8>,
    bytes: usize,
    pages: Pages,
}

// SAFETY: a mapping belongs to the process, not to a thread, and `Memory` itself never reads or writes through `base`.
unsafe impl Send for Memory {}
// SAFETY: a shared `Memory` only tells where it is; who uses that address must order the accesses.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps at least `bytes`. Hugepages are made resident at once, ordinary ones when first written.
    pub fn map(bytes: usize, pages: Pages) -> Result<Memory, MapFailed> {
        match pages {
            Pages::Huge => Memory::map_flagged(bytes, pages, MapFlags::POPULATE),
            Pages::Ordinary => Memory::map_flagged(bytes, pages, MapFlags::empty()),
        }
    }

    /// As [`Memory::map`], but nothing is resident until it is written, hugepages neither; they are set aside all the
    /// same, so that a write cannot find none.
    pub fn map_untouched(bytes: usize, pages: Pages) -> Result<Memory, MapFailed> {
        Memory::map_flagged(bytes, pages, MapFlags::empty())
    }

    /// Maps with `how` ([`Memory::map`] or [`Memory::map_untouched`]) what `policy` allows; [`Memory::pages`] tells
    /// what came of it.
    pub fn map_preferring_huge(
        bytes: usize,
        policy: Hugepages,
        how: fn(usize, Pages) -> Result<Memory, MapFailed>,
    ) -> Result<Memory, MapFailed> {
        match policy {
            Hugepages::Auto => how(bytes, Pages::Huge).or_else(|_| how(bytes, Pages::Ordinary)),
            Hugepages::Require => how(bytes, Pages::Huge),
            Hugepages::Off => how(bytes, Pages::Ordinary),
        }
    }

    /// Where it begins: aligned to a page.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How long it is: what was asked for, rounded up to whole pages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it is made of.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    fn map_flagged(bytes: usize, pages: Pages, extra: MapFlags) -> Result<Memory, MapFailed> {
        let (page_bytes, kind) = match pages {
            Pages::Huge => (HUGEPAGE_BYTES, MapFlags::HUGETLB | MapFlags::HUGE_2MB),
            Pages::Ordinary => (PAGE_BYTES, MapFlags::empty()),
        };
        let failed = |source| MapFailed { bytes, pages, source };
        let whole_bytes = bytes
            .max(1)
            .checked_next_multiple_of(page_bytes)
            .filter(|whole| isize::try_from(*whole).is_ok())
            .ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), whole_bytes, prot, MapFlags::PRIVATE | kind | extra)
        }
        .map_err(|errno| failed(errno.into()))?;
        let base = NonNull::new(base.cast()).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Memory { base, bytes: whole_bytes, pages })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly this range was mapped by `map_flagged` and nobody else unmaps it; chunks hold the `Memory`,
        // and who uses `base` must not outlive it.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes, {:?})", self.bytes, self.pages)
    }
}

/// Cuts a mapping into chunks, from its beginning.
pub(super) struct Cutter {
    memory: Rc<Memory>,
    /// What has been given away. Invariant: at most `memory.bytes`.
    cut_bytes: usize,
}

impl Cutter {
    pub(super) fn new(memory: Memory) -> Cutter {
        Cutter { memory: Rc::new(memory), cut_bytes: 0 }
    }

    /// The next `bytes`, or nothing where fewer are left.
    pub(super) fn cut(&mut self, bytes: usize) -> Option<Chunk> {
        let end = self.cut_bytes.checked_add(bytes).filter(|end| *end <= self.memory.bytes)?;
        // SAFETY: the offset is within the mapping, as `cut_bytes <= end <= memory.bytes`.
        let base = unsafe { self.memory.base.add(self.cut_bytes) };
        self.cut_bytes = end;
        Some(Chunk { base, bytes, memory: Rc::clone(&self.memory) })
    }
}

/// A piece of a mapping that nobody else has. Invariant: `base..base + bytes` lies in the mapping and in no other
/// chunk. It is `!Send`, as its share of the mapping is counted without atomics.
pub(super) struct Chunk {
    base: NonNull<u8>,
    bytes: usize,
    memory: Rc<Memory>,
}

/// A mapping that buffers are cut from; it stays as long as this does. A device that fills them is told of it once.
#[derive(Clone, Debug)]
pub struct Region {
    memory: Rc<Memory>,
}

impl Region {
    /// Its first address.
    pub fn base(&self) -> usize {
        self.memory.base.addr().get()
    }

    /// Its length, in bytes.
    pub fn bytes(&self) -> usize {
        self.memory.bytes
    }

    /// Whether the address lies in it.
    pub fn has(&self, address: usize) -> bool {
        address.checked_sub(self.base()).is_some_and(|offset| offset < self.bytes())
    }
}

impl Chunk {
    pub(super) fn region(&self) -> Region {
        Region { memory: Rc::clone(&self.memory) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn slice(&self) -> &[u8] {
        // SAFETY: the invariant: mapped, initialised (the kernel gives zeroes), and reached only through this chunk.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }

    pub(super) fn slice_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `slice`; the borrow of `self` is exclusive, so this one is.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_whole_pages_and_zeroed() {
        let memory = Memory::map(4097, Pages::Ordinary).unwrap();
        assert_eq!((memory.bytes(), memory.pages()), (8192, Pages::Ordinary));
        let mut cutter = Cutter::new(memory);
        let chunk = cutter.cut(8192).unwrap();
        assert_eq!(chunk.slice(), [0; 8192]);
        assert!(cutter.cut(1).is_none());
    }

    #[test]
    fn chunks_do_not_overlap_and_outlive_their_cutter() {
        let mut cutter = Cutter::new(Memory::map(8192, Pages::Ordinary).unwrap());
        let (mut low, mut high) = (cutter.cut(4096).unwrap(), cutter.cut(4096).unwrap());
        drop(cutter);
        low.slice_mut().fill(1);
        high.slice_mut().fill(2);
        assert_eq!((low.slice(), high.slice()), (&[1; 4096][..], &[2; 4096][..]));
    }

    #[test]
    fn the_impossible_is_refused_and_the_error_says_what_to_do() {
        let failed = Memory::map(usize::MAX, Pages::Ordinary).unwrap_err();
        assert!(failed.to_string().ends_with("ask for less"), "{failed}");
        // 1 PiB of hugepages: no machine that runs tests has them.
        let failed = Memory::map_preferring_huge(1 << 50, Hugepages::Require, Memory::map).unwrap_err();
        assert_eq!(failed.pages, Pages::Huge);
        assert!(failed.to_string().contains("vm.nr_hugepages"), "{failed}");
    }

    #[test]
    fn auto_always_gives_something() {
        let memory = Memory::map_preferring_huge(1, Hugepages::Auto, Memory::map_untouched).unwrap();
        let whole_bytes = match memory.pages() {
            Pages::Huge => 2 * 1024 * 1024,
            Pages::Ordinary => 4096,
        };
        assert_eq!(memory.bytes(), whole_bytes);
        let off = Memory::map_preferring_huge(1, Hugepages::Off, Memory::map).unwrap();
        assert_eq!(off.pages(), Pages::Ordinary);
    }
}
