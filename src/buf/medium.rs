//! Memory that several cores copy from and into at once: what a RAM disk is made of.
//!
//! An island of `unsafe`. Two initiators may write a block while a third reads it, each through another core; a disk
//! allows that, so it must not be undefined behaviour here. Hence no reference into this memory ever exists and no
//! ordinary load or store touches it: on x86-64 it is copied by one instruction the compiler cannot see into
//! (`rep movsb`), elsewhere by relaxed atomic loads and stores.
//!
//! It gives **no atomicity across cores**: who reads while another core writes may see some of the new bytes and some
//! of the old, also within one block.
//!
//! A range of it can be [`Lent`] to who sends it: then the kernel copies it, and nothing here does.
#![expect(unsafe_code, reason = "copies from and into memory that other cores write at the same time")]

use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use rustix::mm::{Advice, madvise};

use super::memory::{Memory, Pages};
use super::touched::touched;

/// What is given back at a time.
const PAGE_BYTES: usize = 4096;
/// Words of the portable copy.
#[cfg(any(test, not(target_arch = "x86_64")))]
const WORD_BYTES: usize = 8;

/// Shared memory, zeroed at first.
#[derive(Debug)]
pub struct Medium {
    memory: Memory,
}

impl Medium {
    /// Makes a medium of memory.
    pub fn new(memory: Memory) -> Medium {
        Medium { memory }
    }

    /// Fills `to` from `offset` on. Both are multiples of 8.
    ///
    /// # Panics
    /// Where that is not within the memory.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: `at` checked that `to.len()` bytes from here on are mapped; `to` is as long, exclusively ours, and
        // no part of the mapping, to which no reference exists.
        unsafe { load(from, to.as_mut_ptr(), to.len()) }
    }

    /// Stores `from` from `offset` on. Both are multiples of 8.
    ///
    /// # Panics
    /// Where that is not within the memory.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: as in `read`; `from` is shared, so nobody writes it meanwhile.
        unsafe { store(from.as_ptr(), to, from.len()) }
    }

    /// Makes `bytes` from `offset` on zeroes. Both are multiples of 8.
    ///
    /// # Panics
    /// Where that is not within the memory.
    pub fn zero(&self, offset: usize, bytes: usize) {
        let to = self.at(offset, bytes);
        // SAFETY: `at` checked that `bytes` from here on are mapped, and no reference to them exists.
        unsafe { clear(to, bytes) }
    }

    /// Makes `bytes` from `offset` on zeroes, as [`Medium::zero`] does, and gives the system the pages back that lie
    /// wholly among them. Hugepages are kept: there may be none when they are wanted again.
    ///
    /// # Panics
    /// Where that is not within the memory.
    pub fn free(&self, offset: usize, bytes: usize) {
        let _ = self.at(offset, bytes);
        let end = offset + bytes;
        let (first, last) = (offset.next_multiple_of(PAGE_BYTES), end - end % PAGE_BYTES);
        if self.memory.pages() == Pages::Ordinary && first < last && self.drop_pages(first, last - first) {
            self.zero(offset, first - offset);
            self.zero(last, end - last);
        } else {
            self.zero(offset, bytes);
        }
    }

    /// Tells where, among these bytes, the system has given memory, in whole pages, as ranges in order: all others are zeroes and take
    /// none. It ends early where `told` wants no more. It may block: for helper threads only.
    ///
    /// # Errors
    /// The system does not tell: of what is beyond the last range nothing is known then.
    ///
    /// # Panics
    /// Where that is not within the memory.
    pub fn touched(
        &self,
        offset: usize,
        bytes: usize,
        told: &mut dyn FnMut(Range<u64>) -> bool,
    ) -> io::Result<()> {
        let base = self.memory.base().addr().get() as u64;
        touched(self.addresses(offset, bytes), &mut |pages| told(pages.start - base..pages.end - base))
    }

    /// The addresses of the pages where these bytes are.
    pub(super) fn addresses(&self, offset: usize, bytes: usize) -> Range<u64> {
        let start = self.at(offset, bytes).addr().get() as u64;
        let page_bytes = rustix::param::page_size() as u64;
        start - start % page_bytes..(start + bytes as u64).next_multiple_of(page_bytes)
    }

    /// Whether the kernel did it: where its pages are larger it may not.
    fn drop_pages(&self, offset: usize, bytes: usize) -> bool {
        let from = self.at(offset, bytes);
        // SAFETY: `at` checked that `bytes` from here on are mapped, privately and of no file, so that they become
        // zeroes; no reference to them exists, and who copies from or into them meanwhile finds old bytes or zeroes.
        unsafe { madvise(from.as_ptr().cast(), bytes, Advice::LinuxDontNeed) }.is_ok()
    }

    fn at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        let end = offset.checked_add(bytes).expect("an extent ends within the address space");
        assert!(end <= self.memory.bytes(), "{end} is beyond the medium");
        assert!((offset | bytes).is_multiple_of(8), "extents are in blocks");
        // SAFETY: `offset <= end <= bytes`: still in the mapping, or one past it.
        unsafe { self.memory.base().add(offset) }
    }
}

/// A range of a medium, lent to who sends it. It reads as what the medium holds at that moment, not as what it held when it
/// was lent: so it is to be sent or copied ([`Lent::copy`]) before anything of the kind could matter. Memory stays as long as it
/// does. It is `!Send`: it never leaves the core that asked for it.
pub struct Lent {
    share: Rc<Share>,
    offset: usize,
    bytes: usize,
}

/// A core's share of a medium: what it lends counts there, without atomics.
#[derive(Debug)]
pub struct Lender(Rc<Share>);

#[derive(Debug)]
struct Share(Arc<Medium>);

impl Lender {
    /// A share of `medium`.
    pub fn new(medium: Arc<Medium>) -> Lender {
        Lender(Rc::new(Share(medium)))
    }

    /// Lends `bytes` from `offset` on. Both are multiples of 8.
    ///
    /// # Panics
    /// Where that is not within the memory.
    pub fn lend(&self, offset: usize, bytes: usize) -> Lent {
        self.0.0.at(offset, bytes);
        Lent { share: Rc::clone(&self.0), offset, bytes }
    }
}

impl Lent {
    /// How long it is, in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Its first bytes, copied.
    ///
    /// # Panics
    /// Where `to` is longer than it.
    pub fn copy(&self, to: &mut [u8]) {
        assert!(to.len() <= self.bytes, "{} bytes are lent, not {}", self.bytes, to.len());
        self.share.0.read(self.offset, to);
    }

    /// `bytes` of it from `from` on, for a vectored send and nothing else: no reference to them is made here, and
    /// none may be made of it while another core could write.
    ///
    /// # Panics
    /// Where they are not within it.
    pub fn slice(&self, from: usize, bytes: usize) -> IoSlice<'_> {
        assert!(from.checked_add(bytes).is_some_and(|end| end <= self.bytes), "within what is lent");
        // SAFETY: `lend` checked that `offset + self.bytes` are mapped, and `from` is within.
        let base = unsafe { self.share.0.memory.base().add(self.offset + from) };
        let raw = libc::iovec { iov_base: base.as_ptr().cast(), iov_len: bytes };
        // SAFETY: `IoSlice` is documented to have the layout of an `iovec`; the bytes are mapped for as long as `self`.
        unsafe { std::mem::transmute::<libc::iovec, IoSlice<'_>>(raw) }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lent({} bytes at {})", self.bytes, self.offset)
    }
}

/// # Safety
/// `from` and `to` are valid for `bytes`, do not overlap; nobody else touches `to`.
#[cfg(target_arch = "x86_64")]
unsafe fn load(from: NonNull<u8>, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { move_bytes(from.as_ptr(), to, bytes) }
}

/// # Safety
/// `from` and `to` are valid for `bytes`, do not overlap; nobody else writes `from`.
#[cfg(target_arch = "x86_64")]
unsafe fn store(from: *const u8, to: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { move_bytes(from, to.as_ptr(), bytes) }
}

/// # Safety
/// `from` is valid for reads and `to` for writes of `bytes`, and they do not overlap. Other cores may touch either.
#[cfg(target_arch = "x86_64")]
unsafe fn move_bytes(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: it touches exactly the two ranges of the caller's promise; the direction flag is clear by the ABI, no
    // flag and no stack is used.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") bytes => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

/// # Safety
/// `to` is valid for writes of `bytes`. Other cores may touch them.
#[cfg(target_arch = "x86_64")]
unsafe fn clear(to: NonNull<u8>, bytes: usize) {
    // SAFETY: it touches exactly the range of the caller's promise; the direction flag is clear by the ABI, no flag and
    // no stack is used.
    unsafe {
        std::arch::asm!(
            "rep stosb",
            inout("rcx") bytes => _,
            inout("rdi") to.as_ptr() => _,
            in("al") 0_u8,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable::{clear, load, store};

/// The copy by atomics, for other processors; built for tests everywhere.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::WORD_BYTES;

    /// # Safety
    /// `from` is valid and aligned for whole words, `to` valid for `bytes`, a multiple of a word; they do not overlap;
    /// nobody else touches `to`, and others touch `from` by atomic words only.
    pub(super) unsafe fn load(from: NonNull<u8>, to: *mut u8, bytes: usize) {
        for at in (0..bytes).step_by(WORD_BYTES) {
            // SAFETY: within `bytes` of a range that is valid, aligned and touched by atomics only.
            let word = unsafe { AtomicU64::from_ptr(from.add(at).cast().as_ptr()) }.load(Ordering::Relaxed);
            // SAFETY: within `bytes` of a range that is ours alone; it need not be aligned.
            unsafe { to.add(at).cast::<u64>().write_unaligned(word) };
        }
    }

    /// # Safety
    /// As for `load`, the other way round.
    pub(super) unsafe fn store(from: *const u8, to: NonNull<u8>, bytes: usize) {
        for at in (0..bytes).step_by(WORD_BYTES) {
            // SAFETY: within `bytes` of a range that nobody writes; it need not be aligned.
            let word = unsafe { from.add(at).cast::<u64>().read_unaligned() };
            // SAFETY: within `bytes` of a range that is valid, aligned and touched by atomics only.
            unsafe { AtomicU64::from_ptr(to.add(at).cast().as_ptr()) }.store(word, Ordering::Relaxed);
        }
    }

    /// # Safety
    /// `to` is valid and aligned for `bytes`, whole words; others touch it by atomic words only.
    pub(super) unsafe fn clear(to: NonNull<u8>, bytes: usize) {
        for at in (0..bytes).step_by(WORD_BYTES) {
            // SAFETY: within `bytes` of a range that is valid, aligned and touched by atomics only.
            unsafe { AtomicU64::from_ptr(to.add(at).cast().as_ptr()) }.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(bytes: usize) -> Vec<u8> {
        (0u8..=250).cycle().take(bytes).collect()
    }

    #[test]
    fn copies_exactly_the_extent() {
        let medium = Medium::new(Memory::map(4096, Pages::Ordinary).unwrap());
        medium.write(512, &pattern(1024));
        let mut all = vec![0xFF; 4096];
        medium.read(0, &mut all);
        assert_eq!(all[..512], [0; 512]);
        assert_eq!(all[512..1536], pattern(1024));
        assert_eq!(all[1536..], [0; 2560]);
        medium.zero(1024, 256);
        medium.read(0, &mut all);
        assert_eq!(all[512..1024], pattern(1024)[..512]);
        assert_eq!(all[1024..1280], [0; 256]);
        assert_eq!(all[1280..1536], pattern(1024)[768..]);
    }

    /// How many of the medium's first pages are resident.
    fn resident(medium: &Medium, pages: usize) -> usize {
        let mut present = vec![0u8; pages];
        // SAFETY: so many pages are mapped, and there is a byte for each.
        let result = unsafe {
            libc::mincore(medium.memory.base().as_ptr().cast(), pages * PAGE_BYTES, present.as_mut_ptr())
        };
        assert_eq!(result, 0);
        present.iter().filter(|&&page| page & 1 == 1).count()
    }

    #[test]
    fn what_is_freed_is_zeroes_and_takes_no_memory() {
        let medium = Medium::new(Memory::map(16 * 4096, Pages::Ordinary).unwrap());
        medium.free(0, 16 * 4096);
        assert_eq!(resident(&medium, 16), 0);
        medium.write(0, &[7; 8 * 4096]);
        assert_eq!(resident(&medium, 16), 8);
        // From within page 1 to within page 6.
        medium.free(4096 + 512, 5 * 4096);
        assert_eq!(resident(&medium, 16), 4);
        let mut all = vec![0xFF; 8 * 4096];
        medium.read(0, &mut all);
        assert_eq!(all[..4608], [7; 4608]);
        assert_eq!(all[4608..4608 + 5 * 4096], [0; 5 * 4096]);
        assert_eq!(all[4608 + 5 * 4096..], [7; 4096 + 3584]);
        medium.free(512, 1024);
        medium.read(0, &mut all);
        assert_eq!((&all[..512], &all[512..1536], all[1536]), (&[7; 512][..], &[0; 1024][..], 7));
    }

    #[test]
    fn the_portable_copy_does_the_same_from_any_alignment() {
        let memory = Memory::map(4096, Pages::Ordinary).unwrap();
        let from = pattern(1025);
        let mut to = vec![0xFF; 1026];
        // SAFETY: the mapping has 4096 bytes, aligned to a page, that nobody else touches.
        unsafe { portable::store(from[1..].as_ptr(), memory.base(), 1024) };
        // SAFETY: as above; `to` has room for 1024 bytes from 1 on.
        unsafe { portable::load(memory.base(), to[1..].as_mut_ptr(), 1024) };
        assert_eq!((to[0], to[1025]), (0xFF, 0xFF));
        assert_eq!(to[1..1025], from[1..]);
        // SAFETY: as above.
        unsafe { portable::clear(memory.base().add(8), 1016) };
        // SAFETY: as above.
        unsafe { portable::load(memory.base(), to[1..].as_mut_ptr(), 1024) };
        assert_eq!((&to[1..9], &to[9..1025]), (&from[1..9], &[0; 1016][..]));
    }

    #[test]
    fn what_is_lent_is_what_the_medium_holds_and_outlives_its_owner() {
        let medium = Arc::new(Medium::new(Memory::map(4096, Pages::Ordinary).unwrap()));
        let lent = Lender::new(Arc::clone(&medium)).lend(512, 1024);
        medium.write(512, &pattern(1024));
        drop(medium);
        assert_eq!(*lent.slice(8, 1000), pattern(1024)[8..1008]);
        let mut copy = vec![0; 1024];
        lent.copy(&mut copy);
        assert_eq!(copy, pattern(1024));
    }

    #[test]
    #[should_panic(expected = "within what is lent")]
    fn no_more_is_sent_than_was_lent() {
        let medium = Arc::new(Medium::new(Memory::map(4096, Pages::Ordinary).unwrap()));
        Lender::new(medium).lend(0, 512).slice(8, 512);
    }

    #[test]
    #[should_panic(expected = "4608 is beyond the medium")]
    fn beyond_the_end_is_a_bug() {
        Medium::new(Memory::map(4096, Pages::Ordinary).unwrap()).write(4096, &[0; 512]);
    }
}
