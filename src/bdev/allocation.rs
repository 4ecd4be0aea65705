//! Which blocks of a device take space (SBC-4 §4.7.4), as far as it can tell: what GET LBA STATUS answers with.
//!
//! A device tells in bytes, which need not end where blocks do: a block is deallocated where all of it is a hole.

use arrayvec::ArrayVec;

/// Runs that are told at a time.
pub const RUNS_MAX: usize = 32;

/// Blocks of one kind that follow one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// How many; at least 1.
    pub blocks: u32,
    /// They take no space and read as zeroes. Else they are mapped, or it is not known.
    pub is_deallocated: bool,
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

    /// Appends blocks; those of the same kind as the last are counted with them. Whether there was room.
    fn push(&mut self, blocks: u32, is_deallocated: bool) -> bool {
        match self.runs.last_mut() {
            Some(last) if last.is_deallocated == is_deallocated => {
                last.blocks = last.blocks.saturating_add(blocks);
                true
            }
            _ => self.runs.try_push(Run { blocks, is_deallocated }).is_ok(),
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
}

impl Teller {
    /// About these blocks of so many bytes.
    pub fn new(lba: u64, blocks: u32, block_bytes: u32) -> Teller {
        let end = lba.saturating_add(blocks.into());
        Teller { allocation: Allocation::default(), block_bytes: u64::from(block_bytes.max(1)), at: lba, end }
    }

    /// The bytes that something is to be told of: from the first block that was asked for to the end of the last.
    pub fn bytes(&self) -> std::ops::Range<u64> {
        self.at.saturating_mul(self.block_bytes)..self.end.saturating_mul(self.block_bytes)
    }

    /// Up to this byte there is a hole. Whether more is wanted.
    pub fn hole_to(&mut self, byte: u64) -> bool {
        self.tell(byte / self.block_bytes, true)
    }

    /// Up to this byte there may be something. Whether more is wanted.
    pub fn data_to(&mut self, byte: u64) -> bool {
        self.tell(byte.div_ceil(self.block_bytes), false)
    }

    /// What was told.
    pub fn finish(self) -> Allocation {
        self.allocation
    }

    fn tell(&mut self, to: u64, is_deallocated: bool) -> bool {
        let to = to.min(self.end);
        let blocks = u32::try_from(to.saturating_sub(self.at)).unwrap_or(u32::MAX);
        if blocks > 0 {
            if !self.allocation.push(blocks, is_deallocated) {
                self.end = self.at;
                return false;
            }
            self.at = to;
        }
        self.at < self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(teller: Teller) -> Vec<(u32, bool)> {
        teller.finish().runs().iter().map(|run| (run.blocks, run.is_deallocated)).collect()
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
        assert_eq!(runs(teller), [(1, true), (2, false), (2, true), (3, false)]);
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
        assert_eq!((told.len(), told[RUNS_MAX - 1]), (RUNS_MAX, (9, false)));
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
