//! Which blocks of an array take space: what its members tell, put together.
//!
//! A member is asked once, of all of its blocks that are in question, however many strips those are; and the runs that follow are as long
//! as can be. So the work is bounded by the members and the runs that are told, not by the blocks.

use std::sync::Arc;

use super::layout::{Layout, Run};
use crate::bdev::Bdev;
use crate::bdev::allocation::{Allocation, State};

/// What a member has told.
#[derive(Debug)]
struct Told {
    /// Where it begins on the member, and of how many blocks.
    first: u64,
    blocks: u64,
    /// None where it knows nothing: all of them are mapped then, as far as anybody knows.
    allocation: Option<Allocation>,
}

impl Told {
    const NOTHING: Told = Told { first: 0, blocks: 0, allocation: None };

    /// What a member tells of these blocks, or of fewer.
    fn by(member: &dyn Bdev, Run { lba, blocks, .. }: Run) -> Told {
        let allocation = member.allocation(lba, u32::try_from(blocks).unwrap_or(u32::MAX));
        let told: u64 = allocation.runs().iter().map(|run| u64::from(run.blocks)).sum();
        if told == 0 {
            return Told { first: lba, blocks, allocation: None };
        }
        Told { first: lba, blocks: told.min(blocks), allocation: Some(allocation) }
    }

    /// Behind the last block that something was told of.
    fn end(&self) -> u64 {
        self.first + self.blocks
    }

    /// Runs, in order: the block behind each, and what it is.
    fn runs(&self) -> impl Iterator<Item = (u64, State)> {
        let unknown = self.allocation.is_none().then(|| (self.end(), State::Mapped));
        let runs = self.allocation.as_ref().map_or(&[][..], Allocation::runs);
        let ends = runs.iter().scan(self.first, |end, run| {
            *end = end.saturating_add(run.blocks.into());
            Some((*end, run.state))
        });
        ends.chain(unknown)
    }

    /// What this block is.
    fn state(&self, lba: u64) -> Option<State> {
        self.runs().find(|(end, _)| *end > lba).map(|(_, state)| state)
    }

    /// The first block from this one on that is something else.
    fn other(&self, lba: u64, state: State) -> Option<u64> {
        let mut first = lba;
        for (end, is) in self.runs().filter(|(end, _)| *end > lba) {
            if is != state {
                return Some(first);
            }
            first = end;
        }
        None
    }
}

/// Which of these blocks of an array take space, or of fewer. It may block.
pub(super) fn allocation(layout: &Layout, members: &[Arc<dyn Bdev>], lba: u64, blocks: u32) -> Allocation {
    let mut end = lba.saturating_add(blocks.into()).min(layout.blocks());
    // Nothing is asked that is behind what an earlier one has told.
    let told: Vec<Told> = (0..)
        .zip(members)
        .map(|(member, bdev)| {
            let share = layout.share(lba, end.saturating_sub(lba), member);
            let Some(share) = share else { return Told::NOTHING };
            let told = Told::by(&**bdev, share);
            if told.blocks < share.blocks {
                end = end.min(layout.of_member(member, told.end()));
            }
            told
        })
        .collect();
    let mut allocation = Allocation::default();
    let mut at = lba;
    while at < end {
        let here = layout.run(at, 1);
        let state = here.and_then(|here| told.get(here.member)?.state(here.lba));
        let Some(state) = state else { break };
        // Where a member has the first block of another kind.
        let other = |(member, told): (usize, &Told)| {
            let share = layout.share(at, end - at, member)?;
            let other = told.other(share.lba, state).filter(|other| *other < share.lba + share.blocks)?;
            Some(layout.of_member(member, other))
        };
        let next = told.iter().enumerate().filter_map(other).fold(end, u64::min);
        if !allocation.push(u32::try_from(next - at).unwrap_or(u32::MAX), state) {
            break;
        }
        at = next;
    }
    allocation
}

#[cfg(test)]
mod tests;
