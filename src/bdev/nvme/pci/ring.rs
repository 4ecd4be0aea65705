//! A submission queue and its completion queue in memory (Base §3.3.1), with memory for each command slot.
//!
//! What the device writes is not believed: a completion that cannot be one is a fault, and nothing is taken from the ring
//! after that. The command id is checked by who knows which commands there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dma::Dma;
use super::shadow::Doorbell;
use crate::bdev::nvme::bus::Bus;
use crate::bdev::nvme::spec::{Completion, Entry};

/// The controller's page.
pub(super) const PAGE_BYTES: usize = 4096;
const SUBMISSION_BYTES: usize = 64;
const COMPLETION_BYTES: usize = 16;
/// In the last word of a completion.
const PHASE: u32 = 1 << 16;

/// Where what is in a pair's memory. Every part begins at a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// Entries of either queue, one of which always stays empty.
    pub(super) entries: u16,
    completions: usize,
    slots: usize,
    slot_bytes: usize,
    /// Behind the slots.
    pub(super) rest: usize,
}

impl Layout {
    /// With `slot_bytes` for each command, a divisor of a page.
    pub(super) fn new(entries: u16, slot_bytes: usize) -> Layout {
        let pages = |bytes: usize| bytes.next_multiple_of(PAGE_BYTES);
        let completions = pages(usize::from(entries) * SUBMISSION_BYTES);
        let slots = completions + pages(usize::from(entries) * COMPLETION_BYTES);
        let rest = slots + pages(usize::from(entries) * slot_bytes);
        Layout { entries, completions, slots, slot_bytes, rest }
    }

    /// Where the memory of a command slot begins.
    ///
    /// # Panics
    /// Where there is no such slot.
    pub(super) fn slot(&self, slot: u16) -> usize {
        assert!(slot < self.entries, "a slot per entry");
        self.slots + usize::from(slot) * self.slot_bytes
    }
}

/// The memory of a pair of queues: the reactor's ring uses it, the transport gives it back.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) id: u16,
    pub(super) layout: Layout,
    pub(super) dma: Dma,
    /// The controller has been told to drop the pair: its doorbells may soon be another's.
    closed: AtomicBool,
}

impl Pair {
    /// For queue `id`, with so many more bytes behind the slots.
    pub(super) fn allocate(
        bus: &Arc<dyn Bus>,
        id: u16,
        layout: Layout,
        rest_bytes: usize,
    ) -> Result<Pair, String> {
        let dma = Dma::allocate(bus, layout.rest + rest_bytes)?;
        Ok(Pair { id, layout, dma, closed: AtomicBool::new(false) })
    }

    /// Where the controller finds the submission queue, and the completion queue.
    pub(super) fn device(&self) -> (u64, u64) {
        (self.dma.device(0), self.dma.device(self.layout.completions))
    }

    /// From now on no doorbell is rung.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// One side of a pair: enters commands, takes completions.
#[derive(Debug)]
pub(super) struct Ring {
    bus: Arc<dyn Bus>,
    pair: Arc<Pair>,
    submission: Doorbell,
    completion: Doorbell,
    /// The next entry to fill, and up to where the controller was told.
    tail: u16,
    tail_rung: u16,
    /// The next completion, and up to where the controller was told.
    head: u16,
    head_rung: u16,
    /// What the phase bit of a new completion is in this pass.
    phase: bool,
    /// Commands entered and not completed.
    outstanding: u16,
    fault: Option<&'static str>,
}

impl Ring {
    /// Over a pair whose queues are zeroes.
    pub(super) fn new(bus: Arc<dyn Bus>, pair: Arc<Pair>, doorbells: (Doorbell, Doorbell)) -> Ring {
        Ring {
            bus,
            pair,
            submission: doorbells.0,
            completion: doorbells.1,
            tail: 0,
            tail_rung: 0,
            head: 0,
            head_rung: 0,
            phase: true,
            outstanding: 0,
            fault: None,
        }
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Commands that fit.
    pub(super) fn depth(&self) -> u16 {
        self.pair.layout.entries - 1
    }

    /// Commands entered and not completed.
    pub(super) fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// What makes the ring useless, where something does.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault.or_else(|| self.pair.is_closed().then_some("the pair of queues was taken away"))
    }

    /// Nothing is entered or taken any more, for this reason.
    pub(super) fn break_for(&mut self, why: &'static str) {
        self.fault.get_or_insert(why);
    }

    /// Fills the next entry; false where the ring is full or broken.
    ///
    /// Invariant: at most `entries - 1` commands are outstanding, and the controller takes entries in their order, so this one
    /// is not one that it has yet to take.
    #[inline(always)]
    pub(super) fn push(&mut self, entry: &Entry) -> bool {
        if self.outstanding >= self.depth() || self.fault().is_some() {
            return false;
        }
        self.pair.dma.store_entry(usize::from(self.tail) * SUBMISSION_BYTES, entry);
        self.tail = self.after(self.tail);
        self.outstanding += 1;
        true
    }

    /// Tells the controller of new entries.
    pub(super) fn ring(&mut self) {
        if self.tail != self.tail_rung && !self.pair.is_closed() {
            self.submission.ring(&*self.bus, self.tail_rung, self.tail);
            self.tail_rung = self.tail;
        }
    }

    /// The next completion, where there is one.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Completion> {
        let at = self.pair.layout.completions + usize::from(self.head) * COMPLETION_BYTES;
        // The phase says that the entry is whole.
        let words = self.pair.dma.load_entry(at, |last| (last & PHASE != 0) == self.phase)?;
        if self.fault.is_some() {
            return None;
        }
        if self.outstanding == 0 {
            self.break_for("more completions than commands");
            return None;
        }
        let (completion, _) = Completion::decode(words);
        if completion.sq_id != self.pair.id {
            self.break_for("a completion of another queue");
            return None;
        }
        if completion.sq_head >= self.pair.layout.entries {
            self.break_for("a submission queue head beyond the queue");
            return None;
        }
        self.outstanding -= 1;
        self.head = self.after(self.head);
        if self.head == 0 {
            self.phase = !self.phase;
        }
        Some(completion)
    }

    /// Tells the controller which completions were taken.
    pub(super) fn acknowledge(&mut self) {
        if self.head != self.head_rung && !self.pair.is_closed() {
            self.completion.ring(&*self.bus, self.head_rung, self.head);
            self.head_rung = self.head;
        }
    }

    fn after(&self, index: u16) -> u16 {
        if index + 1 == self.pair.layout.entries { 0 } else { index + 1 }
    }
}
