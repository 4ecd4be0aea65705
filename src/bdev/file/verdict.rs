//! Whether what was flushed is durable: the channels of a disk are judged together.
//!
//! The kernel tells a failure to write back once for each open file description, and all channels share one; a device may
//! fail one of two flushes that overlap and have forgotten by the other what it lost. So a channel that meets the failure
//! tells the others (the **latch**), and a sync that went well counts only when those that overlap it have
//! come back and told. A sync here is whatever makes the device flush: an fdatasync, and a write with RWF_DSYNC.
//!
//! Each reactor has a *desk* where its syncs in the kernel are counted, those of all its channels: each part of a disk has channels of its
//! own. Threads that are no reactor's share one. A desk counts in *rounds*: a sync belongs to the round in which it began, and the next
//! but one begins when all of it are back. So who waits for those of a desk waits for a round, and not for what begins
//! meanwhile. Nothing waits for another's judgement, only for its result, so that no two wait for each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use super::ring::FLIGHTS_MAX;
use crate::id::ReactorId;
use crate::limits::{BDEVS_MAX, REACTORS_MAX};

/// One for each reactor, one for all others.
const DESKS: usize = REACTORS_MAX + 1;

/// Syncs out of one round, at most.
const OUT_BITS: u32 = 22;
const OUT_MASK: u64 = (1 << OUT_BITS) - 1;
const ROUND_SHIFT: u32 = 2 * OUT_BITS;
const ROUND_MASK: u64 = u64::MAX >> ROUND_SHIFT;
// Each channel has one sync beside its flights; of a disk there are as many on a reactor as bdevs can be made of it.
const _: () = assert!((FLIGHTS_MAX as u64 + 1) * (BDEVS_MAX as u64 + 1) < OUT_MASK);

/// A channel's place in a [`Verdict`].
#[derive(Debug)]
pub(super) struct Desk {
    index: usize,
    /// Its syncs in the kernel, of even and of odd rounds.
    out: [u32; 2],
}

/// A sync that is in the kernel: in which round it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    is_odd: bool,
}

/// What is out at a desk. One word: round, then the counts of the former and of the present round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tally {
    round: u64,
    former: u64,
    present: u64,
}

/// Apart from the others, as each reactor writes its own.
#[derive(Debug)]
#[repr(align(64))]
struct Place(AtomicU64);

/// The desks of a disk, and its latch.
#[derive(Debug)]
pub(super) struct Verdict {
    failed: AtomicBool,
    desks: [Place; DESKS],
}

/// Syncs that overlap one's own: desk, and the round that begins when they are back.
#[derive(Debug)]
pub(super) struct Doubts(Vec<(usize, u64)>);

impl Doubts {
    pub(super) fn new() -> Doubts {
        Doubts(Vec::with_capacity(DESKS))
    }
}

impl Desk {
    /// For a channel of this reactor.
    pub(super) fn of(reactor: ReactorId) -> Desk {
        Desk { index: usize::from(reactor.0).min(REACTORS_MAX), out: [0; 2] }
    }
}

impl Tally {
    fn of(word: u64) -> Tally {
        Tally { round: word >> ROUND_SHIFT, former: word >> OUT_BITS & OUT_MASK, present: word & OUT_MASK }
    }

    fn word(self) -> u64 {
        self.round << ROUND_SHIFT | self.former << OUT_BITS | self.present
    }

    fn is_odd(self) -> bool {
        self.round % 2 == 1
    }

    fn is_idle(self) -> bool {
        self.former + self.present == 0
    }

    /// The round after so many more.
    fn later(self, rounds: u64) -> u64 {
        self.round.wrapping_add(rounds) & ROUND_MASK
    }

    /// So many of a round that is the present or the former one are back.
    #[must_use]
    fn back(self, is_odd: bool, count: u64) -> Tally {
        let mut tally = self;
        let of_round = if is_odd == self.is_odd() { &mut tally.present } else { &mut tally.former };
        *of_round = of_round.saturating_sub(count);
        match (tally.former, tally.present) {
            (0, 0) => Tally { round: tally.later(2), ..tally },
            (0, present) => Tally { round: tally.later(1), former: present, present: 0 },
            _ => tally,
        }
    }
}

impl Verdict {
    pub(super) fn new() -> Verdict {
        Verdict { failed: AtomicBool::new(false), desks: [const { Place(AtomicU64::new(0)) }; DESKS] }
    }

    /// Whether a sync has failed: nothing can be relied on that was written since the one before it.
    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// A sync has failed.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// A sync is about to be given to the kernel.
    #[must_use]
    pub(super) fn begin(&self, desk: &mut Desk) -> Ticket {
        let is_odd = Tally::of(self.desks[desk.index].0.fetch_add(1, Ordering::Relaxed)).is_odd();
        // Before the kernel may take the failure from under another sync.
        fence(Ordering::SeqCst);
        desk.out[usize::from(is_odd)] += 1;
        Ticket { is_odd }
    }

    /// The kernel's answer has been seen, and a failure told by [`Verdict::fail`].
    pub(super) fn came(&self, desk: &mut Desk, ticket: Ticket) {
        desk.out[usize::from(ticket.is_odd)] -= 1;
        self.back(desk.index, ticket.is_odd, 1);
    }

    /// The channel is gone: of what it has in the kernel nobody will hear.
    pub(super) fn leave(&self, desk: &mut Desk) {
        for (is_odd, count) in [(false, desk.out[0]), (true, desk.out[1])] {
            if count > 0 {
                self.back(desk.index, is_odd, count.into());
            }
        }
        desk.out = [0; 2];
    }

    fn back(&self, index: usize, is_odd: bool, count: u64) {
        let back = |word| Some(Tally::of(word).back(is_odd, count).word());
        // It always has something to store.
        let _ = self.desks[index].0.fetch_update(Ordering::Release, Ordering::Relaxed, back);
    }

    /// After [`Verdict::came`]: which syncs are still out.
    pub(super) fn doubt(&self, doubts: &mut Doubts) {
        fence(Ordering::SeqCst);
        let tallies = self.desks.iter().map(|desk| Tally::of(desk.0.load(Ordering::Acquire))).enumerate();
        doubts.0.clear();
        let out = tallies.filter(|(_, tally)| !tally.is_idle());
        doubts.0.extend(out.map(|(index, tally)| (index, tally.later(2))));
    }

    /// Whether all of them have come back. Then [`Verdict::is_failed`] tells what they met.
    pub(super) fn is_settled(&self, doubts: &mut Doubts) -> bool {
        doubts.0.retain(|(index, until)| {
            let tally = Tally::of(self.desks[*index].0.load(Ordering::Acquire));
            let is_before = tally.round.wrapping_sub(*until) & ROUND_MASK > ROUND_MASK / 2;
            is_before && !tally.is_idle()
        });
        doubts.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::GUEST;

    fn desks<const COUNT: usize>() -> [Desk; COUNT] {
        std::array::from_fn(|index| Desk::of(ReactorId(u16::try_from(index).unwrap())))
    }

    #[test]
    fn a_good_sync_waits_for_those_that_overlap_it_and_for_no_other() {
        let verdict = Verdict::new();
        let [mut a, mut b, mut c] = desks();
        let mut doubts = Doubts::new();
        let (of_a, of_b) = (verdict.begin(&mut a), verdict.begin(&mut b));
        verdict.came(&mut b, of_b);
        verdict.doubt(&mut doubts);
        assert!(!verdict.is_settled(&mut doubts));
        // Too late to have taken anything from b.
        let _ = verdict.begin(&mut c);
        verdict.fail();
        verdict.came(&mut a, of_a);
        // a's next one is not the one that b waits for.
        let _ = verdict.begin(&mut a);
        assert!(verdict.is_settled(&mut doubts));
        assert!(verdict.is_failed());
    }

    #[test]
    fn syncs_that_overlap_do_not_wait_for_each_other() {
        let verdict = Verdict::new();
        let mut desks = desks::<2>();
        let tickets = desks.each_mut().map(|desk| verdict.begin(desk));
        let mut doubts = [Doubts::new(), Doubts::new()];
        for ((desk, ticket), doubts) in desks.iter_mut().zip(tickets).zip(&mut doubts) {
            verdict.came(desk, ticket);
            verdict.doubt(doubts);
        }
        assert!(doubts.iter_mut().all(|doubts| verdict.is_settled(doubts)));
        assert!(!verdict.is_failed());
    }

    /// Several are out at a desk at any moment, and come back in any order: who waits, waits for each that was out, and no
    /// longer than until those are back and what began beside them.
    #[test]
    fn of_several_at_one_desk_each_is_waited_for_and_none_that_comes_later() {
        let verdict = Verdict::new();
        let mut doubts = Doubts::new();
        for last in 0..3 {
            // Two channels of one reactor.
            let mut channels = [Desk::of(ReactorId(3)), Desk::of(ReactorId(3))];
            let out = [0, 1, 0].map(|channel| (channel, verdict.begin(&mut channels[channel])));
            verdict.doubt(&mut doubts);
            let mut beside = Vec::new();
            for (channel, ticket) in [1, 2, 0].map(|step| out[(last + step) % 3]) {
                assert!(!verdict.is_settled(&mut doubts), "{last}");
                beside.push(verdict.begin(&mut channels[1]));
                verdict.came(&mut channels[channel], ticket);
            }
            // Those that began in the round that was waited for, at most.
            let late = verdict.begin(&mut channels[0]);
            let before = beside.pop().unwrap();
            beside.into_iter().for_each(|ticket| verdict.came(&mut channels[1], ticket));
            assert!(verdict.is_settled(&mut doubts), "{last}");
            verdict.came(&mut channels[1], before);
            verdict.came(&mut channels[0], late);
            assert!(channels.iter().all(|desk| desk.out == [0; 2]));
        }
        assert!(verdict.desks.iter().all(|desk| Tally::of(desk.0.load(Ordering::Relaxed)).is_idle()));
    }

    #[test]
    fn rounds_begin_anew_after_the_last() {
        let verdict = Verdict::new();
        let [mut desk] = desks();
        let near_the_end = Tally { round: ROUND_MASK - 1, former: 0, present: 0 };
        verdict.desks[0].0.store(near_the_end.word(), Ordering::Relaxed);
        let mut doubts = Doubts::new();
        let ticket = verdict.begin(&mut desk);
        verdict.doubt(&mut doubts);
        assert!(!verdict.is_settled(&mut doubts));
        verdict.came(&mut desk, ticket);
        let _ = verdict.begin(&mut desk);
        assert!(verdict.is_settled(&mut doubts));
    }

    #[test]
    fn who_is_gone_tells_nothing() {
        let verdict = Verdict::new();
        let (mut left, mut stays) = (Desk::of(GUEST), Desk::of(GUEST));
        let mut doubts = Doubts::new();
        let _ = [(); 2].map(|()| verdict.begin(&mut left));
        let ticket = verdict.begin(&mut stays);
        verdict.doubt(&mut doubts);
        verdict.leave(&mut left);
        assert!(!verdict.is_settled(&mut doubts), "the other guest is still there");
        verdict.came(&mut stays, ticket);
        assert!(verdict.is_settled(&mut doubts));
    }
}
