//! Watches: the blocks that tokens stand for ([`scsi::copy::rod`](crate::scsi::copy::rod)). Every reactor has those of every token, and
//! breaks a token when it gives a device an IO that changes one of its blocks.
//!
//! A reactor knows of its own IOs only. What all of them know is asked for by a hold: it is granted with the word of each that
//! the token is whole there, and until it ends none can break it.

use crate::id::UnitId;
use crate::limits::WATCHES_MAX;
use crate::reactor::message::{HoldRange, Watch};
use crate::scsi::copy::rod::{Known, TokenId};
use crate::time::Tick;

#[derive(Clone, Copy, Debug)]
struct Entry {
    range: HoldRange,
    watch: Watch,
    is_broken: bool,
}

/// What a reactor watches.
#[derive(Debug)]
pub(in crate::reactor) struct Watches {
    entries: Vec<Entry>,
    /// Those whose token is not broken.
    whole: usize,
}

/// Where blocks of a token are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::reactor) enum Found {
    /// Here, and so many behind them.
    At { unit: UnitId, lba: u64, blocks: u32 },
    /// The token has fewer.
    Beyond,
    /// Nobody knows the token, or does so any more.
    Nowhere,
}

impl Watches {
    pub(super) fn new() -> Watches {
        Watches { entries: Vec::with_capacity(WATCHES_MAX), whole: 0 }
    }

    /// Whether no IO can break a token.
    pub(super) fn is_idle(&self) -> bool {
        self.whole == 0
    }

    /// Watches the next range of a token from now on. Where there is no room, or the ranges before it are not all watched any more,
    /// the token is not whole.
    pub(super) fn add(&mut self, range: HoldRange, watch: Watch, now: Tick) {
        self.expire(now);
        if self.entries.len() == WATCHES_MAX {
            self.entries.retain(|entry| !entry.is_broken);
        }
        let before = self.entries.iter().filter(|entry| entry.watch.token == watch.token && !entry.is_broken);
        let before: u64 = before.map(|entry| u64::from(entry.range.blocks)).sum();
        if before == watch.offset_blocks && self.entries.len() < WATCHES_MAX {
            self.entries.push(Entry { range, watch, is_broken: false });
            self.count();
        } else {
            self.forget(watch.token);
        }
    }

    /// Forgets tokens whose time is over.
    pub(super) fn expire(&mut self, now: Tick) {
        if !self.entries.is_empty() {
            self.entries.retain(|entry| entry.watch.until > now);
            self.count();
        }
    }

    fn count(&mut self) {
        self.whole = self.entries.iter().filter(|entry| !entry.is_broken).count();
    }

    /// Whether a token stands for what its blocks hold, as far as this reactor knows.
    pub(super) fn is_whole(&self, token: TokenId) -> bool {
        let mut ranges = self.entries.iter().filter(|entry| entry.watch.token == token).peekable();
        ranges.peek().is_some() && ranges.all(|entry| !entry.is_broken)
    }

    /// Where a token's block is that stands at this place in it.
    pub(in crate::reactor) fn find(&self, token: TokenId, offset_blocks: u64) -> Found {
        let mut ranges = self.entries.iter().filter(|entry| entry.watch.token == token).peekable();
        if ranges.peek().is_none() {
            return Found::Nowhere;
        }
        let within = ranges.find_map(|Entry { range, watch, .. }| {
            let skipped = u32::try_from(offset_blocks.checked_sub(watch.offset_blocks)?).ok()?;
            let blocks = range.blocks.checked_sub(skipped).filter(|blocks| *blocks > 0)?;
            Some(Found::At { unit: range.unit, lba: range.lba + u64::from(skipped), blocks })
        });
        within.unwrap_or(Found::Beyond)
    }

    /// Blocks are about to change: tokens that stand for any of them are broken.
    pub(in crate::reactor) fn change(&mut self, unit: UnitId, lba: u64, blocks: u64) {
        if self.whole == 0 {
            return;
        }
        let end = lba.saturating_add(blocks);
        while let Some(token) = self.entries.iter().find_map(|Entry { range, watch, is_broken }| {
            let is_met = range.unit == unit
                && lba < range.lba.saturating_add(u64::from(range.blocks))
                && range.lba < end;
            (is_met && !is_broken).then_some(watch.token)
        }) {
            self.forget(token);
        }
    }

    /// A token is not to be used any more.
    pub(in crate::reactor) fn forget(&mut self, token: TokenId) {
        for entry in self.entries.iter_mut().filter(|entry| entry.watch.token == token) {
            entry.is_broken = true;
        }
        self.count();
    }
}

impl Known for Watches {
    /// As far as this reactor knows. Of one that is being made there is as much as is watched.
    fn tokens_of(&self, unit: UnitId, now: Tick, told: &mut dyn FnMut(TokenId, u64)) {
        let is_there = |entry: &&Entry| !entry.is_broken && entry.watch.until > now;
        for first in self.entries.iter().filter(is_there) {
            if first.range.unit != unit || first.watch.offset_blocks != 0 {
                continue;
            }
            let ranges = self.entries.iter().filter(|entry| entry.watch.token == first.watch.token);
            told(first.watch.token, ranges.map(|entry| u64::from(entry.range.blocks)).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: UnitId = UnitId(3);

    fn add(watches: &mut Watches, token: TokenId, lba: u64, blocks: u32, offset_blocks: u64) -> bool {
        let range = HoldRange { unit: UNIT, lba, blocks };
        watches.add(range, Watch { token, offset_blocks, until: Tick::from_ns(100) }, Tick::ZERO);
        watches.is_whole(token)
    }

    #[test]
    fn blocks_are_found_in_order() {
        let mut watches = Watches::new();
        assert!(watches.is_idle());
        assert!(add(&mut watches, 7, 100, 10, 0) && add(&mut watches, 7, 50, 4, 10));
        assert_eq!(watches.find(7, 0), Found::At { unit: UNIT, lba: 100, blocks: 10 });
        assert_eq!(watches.find(7, 9), Found::At { unit: UNIT, lba: 109, blocks: 1 });
        assert_eq!(watches.find(7, 11), Found::At { unit: UNIT, lba: 51, blocks: 3 });
        assert_eq!(watches.find(7, 14), Found::Beyond);
        assert_eq!(watches.find(8, 0), Found::Nowhere);
    }

    #[test]
    fn one_changed_block_breaks_the_whole_token_and_no_other() {
        let mut watches = Watches::new();
        assert!(
            add(&mut watches, 7, 100, 10, 0)
                && add(&mut watches, 7, 50, 4, 10)
                && add(&mut watches, 8, 200, 1, 0)
        );
        for (unit, lba, blocks) in [(UNIT, 90, 10), (UNIT, 110, 1), (UnitId(4), 100, 1), (UNIT, 54, 46)] {
            watches.change(unit, lba, blocks);
        }
        assert!(watches.is_whole(7) && watches.is_whole(8) && !watches.is_whole(9));
        watches.change(UNIT, 53, 1);
        assert!(!watches.is_whole(7) && watches.is_whole(8) && !watches.is_idle());
        watches.change(UNIT, 0, u64::MAX);
        assert!(!watches.is_whole(8) && watches.is_idle());
    }

    #[test]
    fn a_token_of_which_a_range_is_not_watched_is_not_whole() {
        let mut watches = Watches::new();
        assert!(add(&mut watches, 7, 100, 10, 0));
        for token in 1000..1000 + WATCHES_MAX as u128 - 1 {
            assert!(add(&mut watches, token, 0, 1, 0));
        }
        assert!(!add(&mut watches, 7, 200, 10, 10), "no room for its second range");

        // Broken between two ranges, and forgotten to make room.
        watches.forget(1000);
        assert!(add(&mut watches, 8, 100, 10, 0));
        watches.change(UNIT, 100, 1);
        assert!(!add(&mut watches, 8, 200, 10, 10));
    }

    #[test]
    fn time_and_room_end() {
        let mut watches = Watches::new();
        for token in 0..WATCHES_MAX as u128 {
            assert!(add(&mut watches, token, 0, 1, 0));
        }
        assert!(!add(&mut watches, 1000, 0, 1, 0), "there is no room");
        watches.forget(5);
        assert!(add(&mut watches, 1001, 0, 1, 0), "where a broken one was there is");
        watches.expire(Tick::from_ns(99));
        assert!(watches.is_whole(1001));
        watches.expire(Tick::from_ns(100));
        assert!(!watches.is_whole(1001) && watches.is_idle());
    }

    #[test]
    fn tokens_that_are_whole_are_told() {
        let told = |watches: &Watches, unit, now| {
            let mut told = Vec::new();
            watches.tokens_of(unit, Tick::from_ns(now), &mut |token, blocks| told.push((token, blocks)));
            told
        };
        let mut watches = Watches::new();
        assert!(add(&mut watches, 7, 100, 10, 0) && add(&mut watches, 8, 300, 5, 0));
        assert!(add(&mut watches, 7, 50, 4, 10));
        assert_eq!(told(&watches, UNIT, 0), [(7, 14), (8, 5)]);
        assert!(told(&watches, UnitId(4), 0).is_empty());
        assert!(told(&watches, UNIT, 100).is_empty(), "their time is over");
        watches.change(UNIT, 51, 1);
        assert_eq!(told(&watches, UNIT, 0), [(8, 5)]);
    }
}
