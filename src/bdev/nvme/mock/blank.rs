//! A mock controller for figures: [`Mock`] brings it up, then one pair of IO queues is served by [`Blank::serve`], which looks at
//! nothing but command ids, moves no data and completes what there is in a random order.
//!
//! An island of `unsafe`: it reads and writes rings in memory that the driver has allocated through this very bus.
#![expect(unsafe_code, reason = "rings in memory that is shared with the driver")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::bus::{Bus, Mapping};
use super::Mock;
use crate::sim::rng::Rng;

/// What is completed in one go, at most.
const BATCH_MAX: usize = 256;
/// Doorbells of queue 1, with a stride of 4 bytes.
const TAIL: usize = 0x1008;
const HEAD: usize = 0x100C;

/// Doorbells of queue 1.
#[derive(Default, Debug)]
struct Bells {
    tail: AtomicU32,
    head: AtomicU32,
}

/// The bus of such a controller. It is brought up in immediate mode.
#[derive(Clone, Debug)]
pub(crate) struct BlankBus {
    mock: Mock,
    bells: Arc<Bells>,
}

/// Its side of queue 1.
#[derive(Debug)]
pub(crate) struct Blank {
    bells: Arc<Bells>,
    /// Process addresses, and how many entries each ring has.
    sq: usize,
    cq: usize,
    entries: u32,
    sq_head: u32,
    cq_tail: u32,
    phase: u32,
    rng: Rng,
}

impl BlankBus {
    pub(crate) fn new(mock: Mock) -> BlankBus {
        BlankBus { mock, bells: Arc::default() }
    }

    /// Serves queue 1 from now on, which must be there and must not be deleted while it is served; none where it is not there.
    pub(crate) fn take_over(&self, seed: u64) -> Option<Blank> {
        let (sq, cq, entries) = self.mock.lock().rings(1)?;
        let bells = Arc::clone(&self.bells);
        Some(Blank { bells, sq, cq, entries, sq_head: 0, cq_tail: 0, phase: 1, rng: Rng::new(seed) })
    }
}

impl Bus for BlankBus {
    fn read32(&self, offset: usize) -> u32 {
        self.mock.read32(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        match offset {
            TAIL => self.bells.tail.store(value, Ordering::Release),
            HEAD => self.bells.head.store(value, Ordering::Release),
            _ => self.mock.write32(offset, value),
        }
    }

    fn register_bytes(&self) -> usize {
        self.mock.register_bytes()
    }

    fn map(&self, base: usize, bytes: usize) -> Result<Mapping, String> {
        self.mock.map(base, bytes)
    }

    fn unmap(&self, mapping: &Mapping) {
        self.mock.unmap(mapping);
    }

    fn is_fenced_by_unmap(&self) -> bool {
        self.mock.is_fenced_by_unmap()
    }

    fn reset(&self) -> Result<(), String> {
        self.mock.reset()
    }
}

impl Blank {
    /// A word of a ring.
    fn word(&self, ring: usize, at: u32) -> &AtomicU32 {
        let address = ring + at as usize * 4;
        // SAFETY: `take_over` was given rings of `entries` entries of 16 or 4 words, in memory that stays until the queue is
        // deleted; `at` is within; the driver reads and writes them atomically, or on this thread.
        unsafe { AtomicU32::from_ptr(std::ptr::with_exposed_provenance_mut(address)) }
    }

    /// Completes all that was submitted, as far as the completion queue has room, in a random order: how many.
    #[inline(never)]
    pub(crate) fn serve(&mut self) -> usize {
        let tail = self.bells.tail.load(Ordering::Acquire);
        let head = self.bells.head.load(Ordering::Acquire);
        let room = (head + self.entries - self.cq_tail - 1) % self.entries;
        let mut cids = [0u32; BATCH_MAX];
        let mut count = 0;
        while self.sq_head != tail && count < BATCH_MAX && count < room as usize {
            cids[count] = self.word(self.sq, self.sq_head * 16).load(Ordering::Relaxed) >> 16;
            self.sq_head = (self.sq_head + 1) % self.entries;
            count += 1;
        }
        for at in (1..count).rev() {
            cids.swap(at, self.rng.index(at + 1));
        }
        for cid in &cids[..count] {
            let entry = self.cq_tail * 4;
            self.word(self.cq, entry + 2).store(1 << 16 | self.sq_head, Ordering::Relaxed);
            self.word(self.cq, entry + 3).store(cid | self.phase << 16, Ordering::Release);
            self.cq_tail += 1;
            if self.cq_tail == self.entries {
                (self.cq_tail, self.phase) = (0, self.phase ^ 1);
            }
        }
        count
    }
}
