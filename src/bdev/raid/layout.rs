//! Where the blocks of an array are. Pure arithmetic.
//!
//! The same as SPDK's without a superblock, so that an array made there reads here: members are used from block 0 on, in whole
//! strips.

use super::planted::planted;
use crate::bdev::Info;

/// Why an array cannot be used as its members are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Misfit {
    /// One is not there.
    #[error("member {0} is not there")]
    Away(String),
    /// Its blocks are of another size than the array was made with.
    #[error("member {name} has blocks of {is} bytes and is not taken in: the array's are of {was}")]
    BlockSize { name: String, is: u32, was: u32 },
    /// It has lost blocks.
    #[error("member {name} has {is} blocks and is not taken in: the array has data in {was}")]
    Smaller { name: String, is: u64, was: u64 },
    /// There is no room for a strip.
    #[error("a member has no room for a strip")]
    NoRoom,
}

impl Misfit {
    /// Whether a member has so many blocks of this size.
    pub(super) fn check(info: &Info, block_bytes: u32, blocks: u64) -> Result<(), Misfit> {
        let name = || info.name.clone();
        if info.blocks == 0 {
            Err(Misfit::Away(name()))
        } else if info.block_bytes != block_bytes {
            Err(Misfit::BlockSize { name: name(), is: info.block_bytes, was: block_bytes })
        } else if info.blocks < blocks {
            Err(Misfit::Smaller { name: name(), is: info.blocks, was: blocks })
        } else {
            Ok(())
        }
    }
}

/// How blocks are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Strip by strip, over all members in turn (RAID 0).
    Striped,
    /// One member after the other.
    Concat,
}

/// A run of blocks on one member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    /// Which member.
    pub(super) member: usize,
    /// Its first block there.
    pub(super) lba: u64,
    /// How many blocks.
    pub(super) blocks: u64,
}

/// Where blocks are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    level: Level,
    strip_blocks: u64,
    /// Of a block: of the array's as of each member's.
    block_bytes: u32,
    /// What is used of each member: a multiple of `strip_blocks`, of a striped array the same of all.
    used: Vec<u64>,
}

impl Layout {
    /// Of members with so many blocks; none where the array has none, or no addresses for them.
    pub(super) fn new(level: Level, strip_blocks: u64, block_bytes: u32, members: &[u64]) -> Option<Layout> {
        let whole = |blocks: u64| blocks / strip_blocks.max(1) * strip_blocks.max(1);
        let least = members.iter().copied().map(whole).min()?;
        let used: Vec<u64> = match level {
            Level::Striped => members.iter().map(|_| least).collect(),
            Level::Concat => members.iter().copied().map(whole).collect(),
        };
        let total = used.iter().try_fold(0u64, |sum, blocks| sum.checked_add(*blocks))?;
        let strip_blocks = strip_blocks.max(1);
        (total > 0 && least > 0).then_some(Layout { level, strip_blocks, block_bytes, used })
    }

    /// Bytes of a block.
    pub(super) fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.used.iter().sum()
    }

    /// Whether the whole extent is on the array.
    pub(super) fn has(&self, lba: u64, blocks: u64) -> bool {
        lba.checked_add(blocks).is_some_and(|end| end <= self.blocks())
    }

    /// Whether the members still have all that is used of them.
    pub(super) fn check(&self, members: &[Info]) -> Result<(), Misfit> {
        self.used
            .iter()
            .zip(members)
            .try_for_each(|(used, info)| Misfit::check(info, self.block_bytes, *used))
    }

    fn count(&self) -> u64 {
        self.used.len() as u64
    }

    /// The longest run from `lba` on, of at most `blocks`; none beyond the end.
    pub(super) fn run(&self, lba: u64, blocks: u64) -> Option<Run> {
        if !self.has(lba, 1) {
            return None;
        }
        match self.level {
            Level::Striped => {
                let (strip, within) = (lba / self.strip_blocks, lba % self.strip_blocks);
                let member = usize::try_from(strip % self.count()).ok()?;
                let at = strip / self.count() * self.strip_blocks + within;
                let left = self.strip_blocks - within + u64::from(planted!(StripTooLong));
                Some(Run { member, lba: at, blocks: blocks.min(left) })
            }
            Level::Concat => {
                let mut first = 0;
                let found = self.used.iter().position(|used| {
                    let is_here = lba - first < *used;
                    first += if is_here { 0 } else { *used };
                    is_here
                });
                let member = found?;
                let at = lba - first;
                Some(Run { member, lba: at, blocks: blocks.min(self.used[member] - at) })
            }
        }
    }

    /// What of an extent is on a member, which is one run; none where nothing is.
    pub(super) fn share(&self, lba: u64, blocks: u64, member: usize) -> Option<Run> {
        let used = *self.used.get(member)?;
        let below = |end: u64| match self.level {
            // How many of the blocks before `end` are on this member.
            Level::Striped => {
                let (strip, within) = (end / self.strip_blocks, end % self.strip_blocks);
                let (round, turn) = (strip / self.count(), strip % self.count());
                let member = member as u64;
                let more = match turn.cmp(&member) {
                    std::cmp::Ordering::Less => 0,
                    std::cmp::Ordering::Equal => within,
                    std::cmp::Ordering::Greater => self.strip_blocks,
                };
                round * self.strip_blocks + more
            }
            Level::Concat => {
                let first: u64 = self.used[..member].iter().sum();
                end.saturating_sub(first).min(used)
            }
        };
        let (first, end) = (below(lba), below(lba.checked_add(blocks)?));
        (end > first).then(|| Run { member, lba: first, blocks: end - first })
    }

    /// The array's block that is this one of a member.
    pub(super) fn of_member(&self, member: usize, lba: u64) -> u64 {
        match self.level {
            Level::Striped => {
                let (round, within) = (lba / self.strip_blocks, lba % self.strip_blocks);
                (round * self.count() + member as u64) * self.strip_blocks + within
            }
            Level::Concat => lba + self.used[..member].iter().sum::<u64>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_go_round() {
        let layout = Layout::new(Level::Striped, 8, 512, &[35, 40, 33]).unwrap();
        assert_eq!(layout.blocks(), 3 * 32);
        for (lba, blocks, expected) in [
            (0, 8, Run { member: 0, lba: 0, blocks: 8 }),
            (5, 8, Run { member: 0, lba: 5, blocks: 3 }),
            (8, 3, Run { member: 1, lba: 0, blocks: 3 }),
            (24, 99, Run { member: 0, lba: 8, blocks: 8 }),
            (95, 1, Run { member: 2, lba: 31, blocks: 1 }),
        ] {
            assert_eq!(layout.run(lba, blocks), Some(expected), "{lba}");
        }
        assert_eq!((layout.run(96, 1), layout.has(95, 2), layout.has(u64::MAX, 2)), (None, false, false));
        assert_eq!(layout.share(5, 30, 0), Some(Run { member: 0, lba: 5, blocks: 11 }));
        assert_eq!(layout.share(5, 30, 1), Some(Run { member: 1, lba: 0, blocks: 11 }));
        assert_eq!(layout.share(5, 30, 2), Some(Run { member: 2, lba: 0, blocks: 8 }));
        assert_eq!(layout.share(0, 8, 1), None);
    }

    #[test]
    fn members_follow_one_another() {
        let layout = Layout::new(Level::Concat, 8, 512, &[17, 8, 24]).unwrap();
        assert_eq!(layout.blocks(), 16 + 8 + 24);
        assert_eq!(layout.run(10, 20), Some(Run { member: 0, lba: 10, blocks: 6 }));
        assert_eq!(layout.run(16, 20), Some(Run { member: 1, lba: 0, blocks: 8 }));
        assert_eq!(layout.run(47, 20), Some(Run { member: 2, lba: 23, blocks: 1 }));
        assert_eq!(layout.run(48, 1), None);
        assert_eq!(layout.share(10, 20, 1), Some(Run { member: 1, lba: 0, blocks: 8 }));
        assert_eq!(layout.share(10, 20, 2), Some(Run { member: 2, lba: 0, blocks: 6 }));
        assert_eq!(layout.share(24, 2, 0), None);
    }

    /// Every block is somewhere, no two are in one place, runs and shares agree, and the way back leads back.
    #[test]
    fn each_block_has_its_place() {
        for (level, members) in
            [(Level::Striped, [35, 40, 33]), (Level::Concat, [17, 8, 24]), (Level::Striped, [8, 8, 8])]
        {
            let layout = Layout::new(level, 8, 512, &members).unwrap();
            let mut seen = Vec::new();
            for lba in 0..layout.blocks() {
                let run = layout.run(lba, 1).unwrap();
                assert!(run.lba < members[run.member]);
                assert_eq!(layout.of_member(run.member, run.lba), lba);
                assert!(!seen.contains(&(run.member, run.lba)));
                seen.push((run.member, run.lba));
                for member in 0..3 {
                    let here = (member == run.member).then_some(run);
                    assert_eq!(layout.share(lba, 1, member), here, "{level:?} {lba}");
                }
            }
            let shares = (0..3).filter_map(|member| layout.share(0, layout.blocks(), member));
            assert_eq!(shares.map(|run| run.blocks).sum::<u64>(), layout.blocks());
        }
    }

    #[test]
    fn what_has_no_room_for_a_strip_is_no_array() {
        assert_eq!(Layout::new(Level::Striped, 8, 512, &[7, 100]), None);
        assert_eq!(Layout::new(Level::Concat, 8, 512, &[7, 100]), None);
        assert_eq!(Layout::new(Level::Concat, 8, 512, &[u64::MAX, u64::MAX]), None);
        assert_eq!(Layout::new(Level::Striped, 8, 512, &[]), None);
    }
}
