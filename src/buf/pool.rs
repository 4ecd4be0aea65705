//! Pools of buffers in a few sizes: taking and giving back are a pop and a push.
//!
//! A buffer comes with what its last holder left in it. Who takes one writes every byte that it lets out.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::rc::Rc;

use super::memory::{Chunk, Cutter, MapFailed, Memory, Pages, Region};

/// Classes are multiples of this, so that each buffer is fit for direct IO.
const ALIGNMENT_BYTES: usize = 4096;

/// Buffers of one size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Each: a multiple of 4096.
    pub bytes: usize,
    /// How many.
    pub count: usize,
}

/// How much of a class is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassUse {
    /// The class.
    pub class: Class,
    /// How many buffers of it are to be had.
    pub free_count: usize,
}

/// A reactor's buffers. Clones share the same ones.
#[derive(Clone)]
pub struct Pool {
    shelves: Rc<[Shelf]>,
}

/// The free buffers of one class. Invariants: `free` never holds more than `class.count`, for which it has room, and never less
/// than `aside`.
struct Shelf {
    /// Its place among the shelves.
    number: u32,
    class: Class,
    free: RefCell<Vec<Chunk>>,
    /// So many of them only [`Pool::take_aside`] gives.
    aside: Cell<usize>,
    /// So many that are not aside only [`Pool::take_kept`] gives.
    kept: Cell<usize>,
}

impl Pool {
    /// Cuts `memory` into the buffers of `classes`, which come in ascending size. Nothing is allocated after this.
    ///
    /// # Panics
    /// Where the classes do not ascend, are not multiples of 4096, are of 4 GiB, or need more than `memory` has
    /// ([`Pool::bytes_needed`]).
    pub fn new(memory: Memory, classes: &[Class]) -> Pool {
        assert!(classes.is_sorted_by(|a, b| a.bytes < b.bytes), "classes ascend");
        let mut cutter = Cutter::new(memory);
        let shelf = |(number, class): (u32, &Class)| {
            assert!(class.bytes > 0, "a buffer has bytes");
            assert!(class.bytes.is_multiple_of(ALIGNMENT_BYTES), "a class is a multiple of 4096");
            assert!(u32::try_from(class.bytes).is_ok(), "a buffer has less than 4 GiB");
            let cut = |_| cutter.cut(class.bytes).expect("memory is at least Pool::bytes_needed");
            let free = RefCell::new((0..class.count).map(cut).collect());
            Shelf { number, class: *class, free, aside: Cell::new(0), kept: Cell::new(0) }
        };
        Pool { shelves: (0..).zip(classes).map(shelf).collect() }
    }

    /// A pool in ordinary memory of its own.
    pub fn ordinary(classes: &[Class]) -> Result<Pool, MapFailed> {
        Ok(Pool::new(Memory::map(Pool::bytes_needed(classes), Pages::Ordinary)?, classes))
    }

    /// How much memory a pool of these classes needs.
    pub fn bytes_needed(classes: &[Class]) -> usize {
        classes.iter().map(|class| class.bytes * class.count).sum()
    }

    /// A buffer of exactly `bytes`: of the smallest class that they fit, or of the next one up where that has none
    /// left. Its contents are its last holder's.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Buf> {
        let fitting = self.fitting(bytes)?;
        let mut candidates = self.shelves.iter().skip(fitting).take(2);
        let (shelf, chunk) = candidates.find_map(|shelf| Some((shelf, shelf.pop(shelf.kept.get())?)))?;
        Some(self.buf(shelf, chunk, bytes))
    }

    /// From now on the last free buffer of the largest class is for [`Pool::take_kept`] alone.
    pub fn keep_last(&self) {
        if let Some(shelf) = self.shelves.last() {
            shelf.kept.set(1);
        }
    }

    /// A buffer for one who holds another and gives both back without waiting for a third: of any class that `bytes` fit,
    /// the one that is kept included. As [`Pool::take`] leaves that, those who hold one buffer and wait for their second never
    /// have them all.
    #[must_use]
    pub fn take_kept(&self, bytes: usize) -> Option<Buf> {
        let fitting = self.fitting(bytes)?;
        let mut candidates = self.shelves.iter().skip(fitting);
        let (shelf, chunk) = candidates.find_map(|shelf| Some((shelf, shelf.pop(0)?)))?;
        Some(self.buf(shelf, chunk, bytes))
    }

    fn buf(&self, shelf: &Shelf, chunk: Chunk, bytes: usize) -> Buf {
        Buf { chunk: Some(chunk), skip: 0, len: bytes, shelf: shelf.number, pool: self.clone() }
    }

    /// Sets a buffer of the smallest class that `bytes` fit aside, until [`Pool::end_aside`]. Whether there is one.
    #[must_use]
    pub fn set_aside(&self, bytes: usize) -> bool {
        let Some(shelf) = self.fitting(bytes).and_then(|index| self.shelves.get(index)) else { return false };
        let aside = shelf.aside.get();
        let is_there = shelf.free.borrow().len() > aside + shelf.kept.get();
        shelf.aside.set(aside + usize::from(is_there));
        is_there
    }

    /// A buffer as [`Pool::take`] gives it, of those that were set aside.
    #[must_use]
    pub fn take_aside(&self, bytes: usize) -> Option<Buf> {
        let shelf = self.shelves.get(self.fitting(bytes)?)?;
        shelf.aside.set(shelf.aside.get().checked_sub(1)?);
        Some(self.buf(shelf, shelf.pop(0)?, bytes))
    }

    /// Nothing is set aside any more.
    pub fn end_aside(&self) {
        self.shelves.iter().for_each(|shelf| shelf.aside.set(0));
    }

    /// The smallest class that `bytes` fit.
    fn fitting(&self, bytes: usize) -> Option<usize> {
        self.shelves.iter().position(|shelf| bytes <= shelf.class.bytes)
    }

    /// Each class and what is free of it, in ascending size.
    pub fn classes(&self) -> impl Iterator<Item = ClassUse> {
        self.shelves.iter().map(Shelf::usage)
    }

    /// How many buffers are out.
    pub fn in_use_count(&self) -> usize {
        self.classes().map(|usage| usage.class.count - usage.free_count).sum()
    }

    /// How many bytes the buffers that are out occupy, counted by class.
    pub fn in_use_bytes(&self) -> usize {
        self.classes().map(|usage| (usage.class.count - usage.free_count) * usage.class.bytes).sum()
    }

    /// How many bytes the pool has in all.
    pub fn capacity_bytes(&self) -> usize {
        self.classes().map(|usage| usage.class.count * usage.class.bytes).sum()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")?;
        f.debug_list().entries(self.classes()).finish()
    }
}

impl Shelf {
    /// A buffer that is not set aside, if more than `kept` of those are free.
    fn pop(&self, kept: usize) -> Option<Chunk> {
        let mut free = self.free.borrow_mut();
        if free.len() > self.aside.get() + kept { free.pop() } else { None }
    }

    fn usage(&self) -> ClassUse {
        ClassUse { class: self.class, free_count: self.free.borrow().len() }
    }
}

/// A buffer with one owner; it goes back to its pool when dropped. It reads as exactly the bytes asked for.
pub struct Buf {
    /// Invariant: present until drop or [`Buf::take`], at least `skip` and `len` together long.
    chunk: Option<Chunk>,
    /// Bytes before those that it reads as.
    skip: u32,
    len: usize,
    shelf: u32,
    pool: Pool,
}

impl Buf {
    /// How long it could have been: its class.
    pub fn capacity(&self) -> usize {
        self.chunk.as_ref().map_or(0, Chunk::bytes)
    }

    /// Where its first byte is: what a device is told that fills or reads it.
    pub fn address(&self) -> usize {
        self.as_ptr().addr()
    }

    /// The mapping it was cut from.
    pub fn region(&self) -> Option<Region> {
        self.chunk.as_ref().map(Chunk::region)
    }

    /// Which part of its memory it reads as.
    pub fn window(&self) -> Range<usize> {
        let skip = self.skip as usize;
        skip..skip + self.len
    }

    /// It reads as this part of its memory from now on, as far as it has that.
    pub fn show(&mut self, window: Range<usize>) {
        let bytes = self.capacity();
        self.skip = u32::try_from(window.start.min(bytes)).unwrap_or(u32::MAX);
        let skip = self.skip as usize;
        self.len = window.end.clamp(skip, bytes) - skip;
    }

    /// Moves it out of its place, where one without memory stays.
    #[must_use]
    pub fn take(&mut self) -> Buf {
        let empty = Buf { chunk: None, skip: 0, len: 0, shelf: self.shelf, pool: self.pool.clone() };
        std::mem::replace(self, empty)
    }

    /// Whether more than half of its class is free. Those who keep buffers only where it is so have less than half of them
    /// together.
    pub fn is_plentiful(&self) -> bool {
        let usage = self.pool.shelves[self.shelf as usize].usage();
        2 * usage.free_count > usage.class.count
    }

    /// Shortens it to `bytes`; no effect where it is not longer.
    pub fn truncate(&mut self, bytes: usize) {
        self.len = self.len.min(bytes);
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.chunk {
            Some(chunk) => &chunk.slice()[self.skip as usize..][..self.len],
            None => &[],
        }
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.chunk {
            Some(chunk) => &mut chunk.slice_mut()[self.skip as usize..][..self.len],
            None => &mut [],
        }
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.pool.shelves[self.shelf as usize].free.borrow_mut().push(chunk);
        }
    }
}

impl fmt::Debug for Buf {
    /// Says how long it is, never what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} of {} bytes)", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_can_be_shown_and_the_whole_again() {
        let pool = Pool::ordinary(&[Class { bytes: 8192, count: 1 }]).unwrap();
        let mut buf = pool.take(6000).unwrap();
        buf.fill(1);
        let (whole, address) = (buf.window(), buf.address());
        buf.show(512..1024);
        buf.fill(2);
        assert_eq!((buf.len(), buf.address(), buf.window()), (512, address + 512, 512..1024));
        buf.show(whole);
        assert_eq!((buf.len(), buf[511], buf[512], buf[1023], buf[1024]), (6000, 1, 2, 2, 1));
        buf.show(8000..9000);
        assert_eq!(buf.len(), 192);
        buf.show(9000..9001);
        assert_eq!(buf.len(), 0);
    }

    #[test]
    fn who_keeps_what_is_plentiful_has_less_than_half() {
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 5 }]).unwrap();
        let mut kept = Vec::new();
        while let Some(mut buf) = pool.take(3).filter(Buf::is_plentiful) {
            buf.copy_from_slice(&[1, 2, 3]);
            kept.push(buf.take());
            assert_eq!((buf.len(), buf.capacity()), (0, 0));
        }
        assert_eq!((kept.len(), pool.in_use_count()), (2, 2), "what was taken out of its place is whole");
        assert!(kept.iter().all(|buf| **buf == [1, 2, 3]));
        drop(kept);
        assert_eq!(pool.in_use_count(), 0);
    }

    fn pool() -> Pool {
        let classes = [4096, 16384, 65536].map(|bytes| Class { bytes, count: 1 });
        Pool::ordinary(&classes).unwrap()
    }

    #[test]
    fn a_buffer_is_as_long_as_asked_for() {
        let pool = pool();
        let mut buf = pool.take(512).unwrap();
        assert_eq!((buf.len(), buf.capacity()), (512, 4096));
        assert!(buf.as_ptr().addr().is_multiple_of(4096));
        buf.truncate(100);
        buf.truncate(200);
        assert_eq!(buf.len(), 100);
        assert_eq!(pool.take(4097).unwrap().capacity(), 16384);
        assert_eq!(pool.take(0).unwrap().len(), 0);
        assert!(pool.take(65537).is_none());
    }

    #[test]
    fn an_empty_class_borrows_one_step_up_only() {
        let pool = pool();
        let first = pool.take(4096).unwrap();
        let second = pool.take(4096).unwrap();
        assert_eq!((first.capacity(), second.capacity()), (4096, 16384));
        assert!(pool.take(1).is_none());
        assert_eq!((pool.in_use_count(), pool.in_use_bytes(), pool.capacity_bytes()), (2, 20480, 86016));
        assert_eq!(pool.classes().map(|usage| usage.free_count).collect::<Vec<_>>(), [0, 0, 1]);
        drop((first, second));
        assert_eq!((pool.in_use_count(), pool.in_use_bytes()), (0, 0));
        assert_eq!(pool.take(1).unwrap().capacity(), 4096);
    }

    #[test]
    fn what_is_set_aside_is_there_when_it_is_wanted() {
        let classes = [(4096, 2), (16384, 1)].map(|(bytes, count)| Class { bytes, count });
        let pool = Pool::ordinary(&classes).unwrap();
        assert!(pool.take_aside(1).is_none());
        assert!(pool.set_aside(4096) && pool.set_aside(1) && !pool.set_aside(1));
        assert_eq!(pool.take(1).unwrap().capacity(), 16384);
        assert_eq!(pool.take_aside(1).unwrap().capacity(), 4096);
        // Given back, it is anyone's; the other is not.
        let [first, second] = [(); 2].map(|()| pool.take(1).unwrap());
        assert_eq!((first.capacity(), second.capacity()), (4096, 16384));
        assert!(pool.take(1).is_none() && !pool.set_aside(1));
        pool.end_aside();
        assert_eq!(pool.take(1).unwrap().capacity(), 4096);
    }

    #[test]
    fn the_last_of_the_largest_is_for_those_who_hold_another() {
        let classes = [(4096, 1), (16384, 1), (65536, 2)].map(|(bytes, count)| Class { bytes, count });
        let pool = Pool::ordinary(&classes).unwrap();
        pool.keep_last();
        let first = pool.take(65536).unwrap();
        assert!(pool.take(65536).is_none() && !pool.set_aside(65536));
        let kept = pool.take_kept(65536).unwrap();
        assert!(pool.take_kept(65536).is_none());
        // Whichever comes back first is kept again.
        drop(first);
        assert!(pool.take(65536).is_none());
        let second = pool.take_kept(65536).unwrap();
        drop((kept, second));
        assert!(pool.take(65536).is_some());
        // Of the smaller ones none is kept, and the way up is not one step only.
        let [small, larger] = [(); 2].map(|()| pool.take(1).unwrap());
        assert_eq!((small.capacity(), larger.capacity()), (4096, 16384));
        assert_eq!(pool.take_kept(1).unwrap().capacity(), 65536);
    }

    #[test]
    fn what_is_set_aside_is_not_what_is_kept() {
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 2 }]).unwrap();
        pool.keep_last();
        assert!(pool.set_aside(1) && !pool.set_aside(1));
        let kept = pool.take_kept(1);
        assert!(kept.is_some() && pool.take_kept(1).is_none());
        assert!(pool.take_aside(1).is_some());
    }

    #[test]
    fn buffers_keep_their_memory_beyond_the_pool() {
        let pool = pool();
        let mut buf = pool.take(3).unwrap();
        drop(pool);
        buf.copy_from_slice(b"abc");
        assert_eq!(&buf[..], b"abc");
    }

    #[test]
    fn debug_tells_no_contents() {
        let pool = pool();
        let mut buf = pool.take(5).unwrap();
        buf.copy_from_slice(b"hello");
        assert_eq!(format!("{buf:?}"), "Buf(5 of 4096 bytes)");
        assert!(!format!("{pool:?}").contains("hello"));
    }

    #[test]
    #[should_panic(expected = "memory is at least Pool::bytes_needed")]
    fn too_little_memory_is_a_bug() {
        let memory = Memory::map(4096, Pages::Ordinary).unwrap();
        let _ = Pool::new(memory, &[Class { bytes: 4096, count: 2 }]);
    }
}
