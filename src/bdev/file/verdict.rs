//! Whether what was flushed is durable: the channels of a disk are judged together.
//!
//! The kernel tells a failure to write back once for each open file description, and all channels share one; a device may
//! fail one of two flushes that overlap and have forgotten by the other what it lost. So a channel that meets the failure
//! tells the others (the **latch**), and a sync that went well counts only when those of other channels that overlap it have
//! come back and told. Each channel has a *desk* where it says whether it has a sync in the kernel. A desk never waits for another's
//! judgement, only for its result, so that no two wait for each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crate::limits::{GUESTS_MAX, REACTORS_MAX};

/// Nobody's desk.
const FREE: u64 = 0;
/// A channel has one.
const DESKS: usize = REACTORS_MAX + GUESTS_MAX;
/// What a desk holds when it is taken; then it counts up: odd while a sync is in the kernel.
const TAKEN: u64 = 2;

/// A channel's place in a [`Verdict`].
#[derive(Debug)]
pub(super) struct Desk(usize);

/// The desks of a disk, and its latch.
#[derive(Debug)]
pub(super) struct Verdict {
    failed: AtomicBool,
    desks: [AtomicU64; DESKS],
}

/// Syncs of others that overlap one's own: desk, and what it held.
#[derive(Debug)]
pub(super) struct Doubts(Vec<(usize, u64)>);

impl Doubts {
    pub(super) fn new() -> Doubts {
        Doubts(Vec::with_capacity(DESKS))
    }
}

impl Verdict {
    pub(super) fn new() -> Verdict {
        Verdict { failed: AtomicBool::new(false), desks: [const { AtomicU64::new(FREE) }; DESKS] }
    }

    /// Whether a sync has failed: nothing can be relied on that was written since the one before it.
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// A sync has failed.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// A desk for a channel; none where there are more channels than reactors can be.
    pub(super) fn take_desk(&self) -> Option<Desk> {
        let take = |desk: &AtomicU64| {
            desk.compare_exchange(FREE, TAKEN, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        self.desks.iter().position(take).map(Desk)
    }

    /// The channel is gone.
    pub(super) fn leave_desk(&self, desk: Desk) {
        self.desks[desk.0].store(FREE, Ordering::Release);
    }

    /// A sync is about to be given to the kernel.
    pub(super) fn begin(&self, desk: &Desk) {
        self.desks[desk.0].fetch_add(1, Ordering::Relaxed);
        // Before the kernel may take the failure from under another channel's sync.
        fence(Ordering::SeqCst);
    }

    /// The kernel's answer has been seen, and a failure told by [`Verdict::fail`].
    pub(super) fn came(&self, desk: &Desk) {
        self.desks[desk.0].fetch_add(1, Ordering::Release);
    }

    /// After [`Verdict::came`]: whose syncs are still out.
    pub(super) fn doubt(&self, doubts: &mut Doubts) {
        fence(Ordering::SeqCst);
        let held = self.desks.iter().map(|desk| desk.load(Ordering::Acquire)).enumerate();
        doubts.0.clear();
        doubts.0.extend(held.filter(|(_, held)| held % 2 == 1));
    }

    /// Whether all of them have come back. Then [`Verdict::is_failed`] tells what they met.
    pub(super) fn is_settled(&self, doubts: &mut Doubts) -> bool {
        doubts.0.retain(|(index, held)| self.desks[*index].load(Ordering::Acquire) == *held);
        doubts.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_sync_waits_for_those_that_overlap_it_and_for_no_other() {
        let verdict = Verdict::new();
        let [a, b, c] = [(); 3].map(|()| verdict.take_desk().unwrap());
        let mut doubts = Doubts::new();
        verdict.begin(&a);
        verdict.begin(&b);
        verdict.came(&b);
        verdict.doubt(&mut doubts);
        assert!(!verdict.is_settled(&mut doubts));
        // Too late to have taken anything from b.
        verdict.begin(&c);
        verdict.fail();
        verdict.came(&a);
        // a's next one is not the one that b waits for.
        verdict.begin(&a);
        assert!(verdict.is_settled(&mut doubts));
        assert!(verdict.is_failed());
    }

    #[test]
    fn syncs_that_overlap_do_not_wait_for_each_other() {
        let verdict = Verdict::new();
        let desks = [(); 2].map(|()| verdict.take_desk().unwrap());
        desks.iter().for_each(|desk| verdict.begin(desk));
        let mut doubts = [Doubts::new(), Doubts::new()];
        for (desk, doubts) in desks.iter().zip(&mut doubts) {
            verdict.came(desk);
            verdict.doubt(doubts);
        }
        assert!(doubts.iter_mut().all(|doubts| verdict.is_settled(doubts)));
        assert!(!verdict.is_failed());
    }

    #[test]
    fn desks_are_taken_once_and_used_again() {
        let verdict = Verdict::new();
        let mut desks: Vec<Desk> = std::iter::from_fn(|| verdict.take_desk()).collect();
        assert_eq!(desks.len(), DESKS);
        let left = desks.pop().unwrap();
        verdict.begin(&left);
        verdict.leave_desk(left);
        let mut doubts = Doubts::new();
        verdict.doubt(&mut doubts);
        assert!(verdict.is_settled(&mut doubts), "who is gone tells nothing");
        assert!(verdict.take_desk().is_some());
    }
}
