//! Changes of the same blocks come one after the other, whichever reactors they are of: else one member would have them in another
//! order than the next, and nobody would know.
//!
//! Within a channel extents are compared. Between channels there is a word for each region of the array, some regions sharing
//! one: the channel that changes something there, and how often. Others wait, and say so: then no more of the owner's begin before
//! all have ended.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a region.
const REGION_BYTES: u32 = 128 * 1024;
/// Words: more than regions of one change.
const WORDS: u64 = 1024;
const _: () = assert!(WORDS > (crate::bdev::ZERO_BYTES_MAX / REGION_BYTES) as u64 + 1);
const COUNT: u32 = 0x1ff;
const WANTED: u32 = 1 << 31;
const OWNER_SHIFT: u32 = 9;
const OWNERS: u32 = (1 << 22) - 1;

#[derive(Debug)]
pub(super) struct Regions(Box<[AtomicU32]>);

impl Regions {
    pub(super) fn new() -> Regions {
        Regions((0..WORDS).map(|_| AtomicU32::new(0)).collect())
    }

    /// The regions of an extent.
    pub(super) fn of(lba: u64, blocks: u32, block_bytes: u32) -> Range<u64> {
        let region_blocks = u64::from((REGION_BYTES / block_bytes.max(512)).max(1));
        let last = lba.saturating_add(u64::from(blocks.max(1)) - 1) / region_blocks;
        lba / region_blocks..last.saturating_add(1)
    }

    fn word(&self, region: u64) -> Option<&AtomicU32> {
        self.0.get(usize::try_from(region % WORDS).ok()?)
    }

    fn owned(owner: u32) -> u32 {
        // 0 is nobody.
        (owner % OWNERS + 1) << OWNER_SHIFT
    }

    /// Takes the regions for a change of this channel: all of them, or none.
    pub(super) fn take(&self, regions: Range<u64>, owner: u32) -> bool {
        for region in regions.clone() {
            if !self.take_one(region, owner) {
                self.give(regions.start..region);
                return false;
            }
        }
        true
    }

    fn take_one(&self, region: u64, owner: u32) -> bool {
        let Some(word) = self.word(region) else { return false };
        let owned = Regions::owned(owner);
        let take = |held: u32| match held {
            0 => Some(owned | 1),
            held if held & !COUNT == owned && held & COUNT < COUNT => Some(held + 1),
            _ => None,
        };
        if word.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok() {
            return true;
        }
        // Somebody who is not the owner waits: see `take`, which finds this no longer equal to the owner alone.
        let want = |held: u32| (held & COUNT > 0).then_some(held | WANTED);
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, want);
        false
    }

    /// Gives them back.
    pub(super) fn give(&self, regions: Range<u64>) {
        for word in regions.filter_map(|region| self.word(region)) {
            let give = |held: u32| Some(if held & COUNT <= 1 { 0 } else { held - 1 });
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, give);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_one_channels_at_a_time_and_who_waits_gets_it() {
        let regions = Regions::new();
        assert_eq!(
            (Regions::of(0, 256, 512), Regions::of(255, 2, 512), Regions::of(512, 1, 512)),
            (0..1, 0..2, 2..3)
        );
        assert!(regions.take(0..3, 7) && regions.take(2..4, 7));
        assert!(!regions.take(3..9, 8), "it is the other one's");
        assert!(!regions.take(3..4, 7), "somebody waits");
        assert!(regions.take(4..9, 8), "nothing of what failed is kept");
        assert!(!regions.take(WORDS + 4..WORDS + 5, 7), "they share a word");
        regions.give(2..4);
        assert!(regions.take(3..4, 8) && !regions.take(2..3, 8));
        regions.give(0..3);
        assert!(regions.take(2..3, 8));
    }
}
