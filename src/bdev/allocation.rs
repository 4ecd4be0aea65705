//! Which blocks of a device take space (SBC-4 §4.7.4), as far as it can tell: what GET LBA STATUS answers with.
//!
//! A device tells in bytes, which need not end where blocks do: a block is deallocated where all of it is a hole, and anchored where
//! all of it is reserved and holds nothing. One that is partly this and partly that counts as mapped.

use arrayvec::ArrayVec;

/// Runs that are told at a time.
pub const RUNS_MAX: usize = 32;

/// What is known of a block (SBC-4 §4.7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is mapped, or nothing is known.
    Mapped,
    /// It has its space, holds nothing and reads as zeroes: a write needs no more space.
    Anchored,
    /// It takes no space and reads as zeroes.
    Deallocated,
}

/// Blocks of one kind that follow one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// How many; at least 1.
    pub blocks: u32,
    /// What they are.
    pub state: State,
}

/// Runs, one after the other, from a block on that was asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Allocation {
    runs: ArrayVec<Run, RUNS_MAX>,
}

impl Allocation {
    /// The runs; none where the device cannot tell. Of what is beyond the last nothing is known.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The same of a device that has no anchors, whatever it is made of: blocks that are anchored there are mapped here.
    pub(super) fn without_anchors(self) -> Allocation {
        let mut allocation = Allocation::default();
        for Run { blocks, state } in self.runs {
            let state = if state == State::Anchored { State::Mapped } else { state };
            // There is room: runs only become fewer.
            allocation.push(blocks, state);
        }
        allocation
    }

    /// Appends blocks; those of the same kind as the last are counted with them. Whether there was room.
    pub(super) fn push(&mut self, blocks: u32, state: State) -> bool {
        match self.runs.last_mut() {
            Some(last) if last.state == state => {
                last.blocks = last.blocks.saturating_add(blocks);
                true
            }
            _ => self.runs.try_push(Run { blocks, state }).is_ok(),
        }
    }
}

/// Makes runs of blocks out of what is known of bytes, in order.
#[derive(Debug)]
pub struct Teller {
    allocation: Allocation,
    block_bytes: u64,
    /// The first block of which nothing was told yet.
    at: u64,
    /// Where it ends.
    end: u64,
    /// What was told last, the first byte of that, and the first behind it.
    state: State,
    since: u64,
    to: u64,
}

impl Teller {
    /// About these blocks of so many bytes.
    pub fn new(lba: u64, blocks: u32, block_bytes: u32) -> Teller {
        let block_bytes = u64::from(block_bytes.max(1));
        let (end, start) = (lba.saturating_add(blocks.into()), lba.saturating_mul(block_bytes));
        let allocation = Allocation::default();
        Teller { allocation, block_bytes, at: lba, end, state: State::Mapped, since: start, to: start }
    }

    /// The bytes that something is to be told of: from the first block that was asked for to the end of the last.
    pub fn bytes(&self) -> std::ops::Range<u64> {
        self.at.saturating_mul(self.block_bytes)..self.end.saturating_mul(self.block_bytes)
    }

    /// Up to this byte there is a hole. Whether more is wanted.
    pub fn hole_to(&mut self, byte: u64) -> bool {
        self.is_to(byte, State::Deallocated)
    }

    /// Up to this byte there may be something. Whether more is wanted.
    pub fn data_to(&mut self, byte: u64) -> bool {
        self.is_to(byte, State::Mapped)
    }

    /// Up to this byte it is so. Whether more is wanted.
    pub fn is_to(&mut self, byte: u64, state: State) -> bool {
        if byte > self.to {
            if state != self.state {
                self.since = self.to;
            }
            (self.state, self.to) = (state, byte);
        } else if state != self.state {
            return self.is_wanted();
        }
        if state == State::Mapped {
            return self.tell(byte.div_ceil(self.block_bytes), state);
        }
        let (first, end) = (self.since.div_ceil(self.block_bytes), byte / self.block_bytes);
        // One that begins as something else is neither.
        self.tell(first.min(end), State::Mapped) && self.tell(end, state)
    }

    /// What was told.
    pub fn finish(self) -> Allocation {
        self.allocation
    }

    fn is_wanted(&self) -> bool {
        self.at < self.end
    }

    fn tell(&mut self, to: u64, state: State) -> bool {
        let to = to.min(self.end);
        let blocks = u32::try_from(to.saturating_sub(self.at)).unwrap_or(u32::MAX);
        if blocks > 0 {
            if !self.allocation.push(blocks, state) {
                self.end = self.at;
                return false;
            }
            self.at = to;
        }
        self.is_wanted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPED: State = State::Mapped;
    const ANCHORED: State = State::Anchored;
    const HOLE: State = State::Deallocated;

    fn runs(teller: Teller) -> Vec<(u32, State)> {
        teller.finish().runs().iter().map(|run| (run.blocks, run.state)).collect()
    }

    #[test]
    fn a_block_is_deallocated_where_all_of_it_is_a_hole() {
        let mut teller = Teller::new(2, 8, 4096);
        assert_eq!(teller.bytes(), 8192..40960);
        assert!(teller.hole_to(13_000), "block 2; of block 3 there is something");
        assert!(teller.data_to(16_385), "and of block 4");
        assert!(teller.hole_to(24_576), "block 5");
        assert!(teller.data_to(24_576), "nothing");
        assert!(teller.hole_to(28_672), "block 6");
        assert!(!teller.data_to(u64::MAX));
        assert!(!teller.hole_to(u64::MAX));
        assert_eq!(runs(teller), [(1, HOLE), (2, MAPPED), (2, HOLE), (3, MAPPED)]);
    }

    #[test]
    fn a_block_of_two_kinds_is_neither() {
        let mut teller = Teller::new(0, 10, 4096);
        assert!(teller.hole_to(5000), "block 0");
        assert!(teller.is_to(6000, ANCHORED), "of block 1");
        assert!(teller.is_to(12_288, ANCHORED), "block 2");
        assert!(teller.is_to(13_000, ANCHORED));
        assert!(teller.is_to(16_384, ANCHORED), "block 3, told in parts");
        assert!(teller.hole_to(18_000));
        assert!(teller.is_to(19_000, ANCHORED));
        assert!(teller.hole_to(20_480), "block 4 is all three");
        assert!(teller.hole_to(24_576), "block 5");
        assert!(teller.is_to(28_672, ANCHORED), "block 6");
        assert!(teller.data_to(28_673), "block 7");
        assert!(teller.is_to(36_864, ANCHORED), "block 8");
        assert!(!teller.data_to(u64::MAX));
        let want = [(1, HOLE), (1, MAPPED), (2, ANCHORED), (1, MAPPED), (1, HOLE)];
        let then = [(1, ANCHORED), (1, MAPPED), (1, ANCHORED), (1, MAPPED)];
        assert_eq!(runs(teller), [&want[..], &then].concat());
    }

    #[test]
    fn no_more_is_told_than_there_is_room_for() {
        let mut teller = Teller::new(0, u32::MAX, 512);
        for run in 1..=RUNS_MAX as u64 {
            let byte = run * 512;
            assert!(if run % 2 == 0 { teller.data_to(byte) } else { teller.hole_to(byte) });
        }
        assert!(teller.data_to(40 * 512), "as the last");
        assert!(!teller.hole_to(41 * 512));
        assert!(!teller.data_to(42 * 512), "nothing may be left out");
        let told = runs(teller);
        assert_eq!((told.len(), told[RUNS_MAX - 1]), (RUNS_MAX, (9, MAPPED)));
    }

    #[test]
    fn who_has_no_anchors_tells_of_none() {
        let mut teller = Teller::new(0, 10, 512);
        for (block, state) in [(2, HOLE), (3, MAPPED), (5, ANCHORED), (6, MAPPED), (9, HOLE), (10, ANCHORED)]
        {
            teller.is_to(block * 512, state);
        }
        let told = teller.finish().without_anchors();
        let runs: Vec<_> = told.runs().iter().map(|run| (run.blocks, run.state)).collect();
        assert_eq!(runs, [(2, HOLE), (4, MAPPED), (3, HOLE), (1, MAPPED)]);
    }

    #[test]
    fn nothing_is_told_of_nothing() {
        let mut teller = Teller::new(7, 0, 512);
        assert!(!teller.hole_to(u64::MAX));
        assert!(runs(teller).is_empty());
        let mut teller = Teller::new(u64::MAX, 5, 512);
        assert!(!teller.data_to(u64::MAX));
        assert!(runs(teller).is_empty());
    }
}
