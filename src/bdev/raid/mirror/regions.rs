//! Changes of the same blocks come one after the other, whichever reactors they are of: else one member would have them in another
//! order than the next, and nobody would know.
//!
//! Within a channel extents are compared. Between channels there is a word for each region of the array, some regions sharing
//! one: the channel that changes something there, how often, and who waits for it. A change takes its words one after the other and keeps
//! those that it has, all changes in the order of the words, so that no two wait for each other, and one of many regions gets them all in the
//! end. A word that somebody waits for is given to nobody else: not to its owner again either.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a region.
const REGION_BYTES: u32 = 128 * 1024;
/// Words: more than regions of one change.
const WORDS: u64 = 1024;
const _: () = assert!(WORDS > (crate::bdev::ZERO_BYTES_MAX / REGION_BYTES) as u64 + 1);

/// Of a word: how many changes of its owner are there; none while it is kept for the owner.
const COUNT_BITS: u32 = 10;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const _: () = assert!(crate::bdev::queue::IN_FLIGHT_MAX as u64 <= COUNT);
/// Channels are told apart, and 0 is none of them.
const OWNER_BITS: u32 = 27;
const OWNERS: u64 = (1 << OWNER_BITS) - 1;
const WAITS_SHIFT: u32 = COUNT_BITS + OWNER_BITS;

#[derive(Debug)]
pub(super) struct Regions(Box<[AtomicU64]>);

/// What a word says.
#[derive(Clone, Copy)]
struct Word {
    count: u64,
    /// Whose it is; 0: nobody's.
    owner: u64,
    /// Who has it next; 0: whoever comes.
    waits: u64,
}

impl Word {
    fn of(word: u64) -> Word {
        Word { count: word & COUNT, owner: word >> COUNT_BITS & OWNERS, waits: word >> WAITS_SHIFT }
    }

    fn word(self) -> u64 {
        self.count | self.owner << COUNT_BITS | self.waits << WAITS_SHIFT
    }
}

impl Regions {
    pub(super) fn new() -> Regions {
        Regions((0..WORDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// The regions of an extent.
    pub(super) fn of(lba: u64, blocks: u32, block_bytes: u32) -> Range<u64> {
        let region_blocks = u64::from((REGION_BYTES / block_bytes.max(512)).max(1));
        let last = lba.saturating_add(u64::from(blocks.max(1)) - 1) / region_blocks;
        lba / region_blocks..last.saturating_add(1)
    }

    /// The word of regions that comes in this place, in the order of words.
    fn word(&self, regions: &Range<u64>, place: u64) -> Option<&AtomicU64> {
        let (first, count) = (regions.start % WORDS, regions.end.saturating_sub(regions.start));
        // So many are beyond the last word, which are the first.
        let wrapped = (first + count).saturating_sub(WORDS);
        let index = if place < wrapped { place } else { first + place - wrapped };
        self.0.get(usize::try_from(index).ok().filter(|_| place < count)?)
    }

    fn owner(channel: u32) -> u64 {
        u64::from(channel) % OWNERS + 1
    }

    /// Takes what is still to be taken for a change of this channel, which has the first `held`, as far as that goes. Whether it has all.
    pub(super) fn take(&self, regions: &Range<u64>, held: &mut u64, channel: u32) -> bool {
        let own = Regions::owner(channel);
        while let Some(word) = self.word(regions, *held) {
            let take = |word: u64| {
                let Word { count, owner, waits } = Word::of(word);
                // Where somebody waits the owner takes no more.
                let is_free = owner == 0 || (owner == own && (waits == 0 || count == 0) && count < COUNT);
                is_free.then(|| Word { count: count + 1, owner: own, waits }.word())
            };
            if word.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
                let wait = |word: u64| {
                    let Word { count, owner, waits } = Word::of(word);
                    // It is free by now, or somebody else is first.
                    (owner != 0 && owner != own && waits == 0)
                        .then(|| Word { count, owner, waits: own }.word())
                };
                let is_free = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, wait);
                if is_free.is_err_and(|word| Word::of(word).owner == 0) {
                    continue;
                }
                return false;
            }
            *held += 1;
        }
        true
    }

    /// Gives back the first `held`. Who has not got all of them waits for the next one no more.
    pub(super) fn give(&self, regions: &Range<u64>, held: u64, channel: u32) {
        for word in (0..held).filter_map(|place| self.word(regions, place)) {
            let give = |word: u64| {
                let Word { count, owner, waits } = Word::of(word);
                Some(if count > 1 {
                    Word { count: count - 1, owner, waits }.word()
                } else {
                    // It is kept for who waits.
                    Word { count: 0, owner: waits, waits: 0 }.word()
                })
            };
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, give);
        }
        let own = Regions::owner(channel);
        let forget = |word: u64| match Word::of(word) {
            Word { count: 0, owner, waits } if owner == own => {
                Some(Word { count: 0, owner: waits, waits: 0 }.word())
            }
            Word { count, owner, waits } if waits == own => Some(Word { count, owner, waits: 0 }.word()),
            _ => None,
        };
        if let Some(word) = self.word(regions, held) {
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, forget);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(regions: &Regions, range: Range<u64>, channel: u32) -> bool {
        let mut held = 0;
        let has_all = regions.take(&range, &mut held, channel);
        if !has_all {
            regions.give(&range, held, channel);
        }
        has_all
    }

    fn give(regions: &Regions, range: Range<u64>, channel: u32) {
        regions.give(&range, range.end - range.start, channel);
    }

    #[test]
    fn a_region_is_one_channels_at_a_time() {
        let regions = Regions::new();
        assert_eq!(
            (Regions::of(0, 256, 512), Regions::of(255, 2, 512), Regions::of(512, 1, 512)),
            (0..1, 0..2, 2..3)
        );
        assert!(take(&regions, 0..3, 7) && take(&regions, 2..4, 7));
        assert!(!take(&regions, 3..9, 8), "it is the other one's");
        assert!(take(&regions, 3..4, 7), "who was given up waits no more");
        give(&regions, 3..4, 7);
        assert!(take(&regions, 4..9, 8), "nothing of what failed is kept");
        assert!(!take(&regions, WORDS + 4..WORDS + 5, 7), "they share a word");
        give(&regions, 2..4, 7);
        assert!(take(&regions, 3..4, 8) && !take(&regions, 2..3, 8));
        give(&regions, 0..3, 7);
        assert!(take(&regions, 2..3, 8));
    }

    /// Small changes that never stop would keep it waiting for ever.
    #[test]
    fn a_large_change_gets_what_it_waits_for_though_small_ones_never_stop() {
        let regions = Regions::new();
        let (large, mut held) = (0..8, 0);
        for region in 0..8 {
            assert!(take(&regions, region..region + 1, 7));
        }
        for region in 0..8 {
            assert!(!regions.take(&large, &mut held, 8));
            assert_eq!(held, region);
            assert!(!take(&regions, region..region + 1, 7), "somebody waits");
            assert!(region == 7 || take(&regions, 7..8, 7), "nobody waits there yet");
            // As soon as it is given back it is kept for who waits.
            give(&regions, region..region + 1, 7);
            assert!(!take(&regions, region..region + 1, 7));
            assert!(!take(&regions, region..region + 1, 9));
            for _ in 0..if region == 6 { 7 } else { 0 } {
                give(&regions, 7..8, 7);
            }
        }
        assert!(regions.take(&large, &mut held, 8));
        assert_eq!(held, 8);
        give(&regions, large, 8);
        assert!(
            regions.0.iter().all(|word| word.load(Ordering::Relaxed) & (COUNT | OWNERS << COUNT_BITS) == 0)
        );
    }

    /// Else they would wait for each other: each has what the other one lacks.
    #[test]
    fn words_are_taken_in_one_order_whichever_regions_they_are_of() {
        let regions = Regions::new();
        let (wrapped, plain) = (WORDS - 2..WORDS + 2, 0..4);
        let order = |range: &Range<u64>| -> Vec<u64> {
            let index = |word: &AtomicU64| {
                regions.0.iter().position(|other| std::ptr::eq(word, other)).unwrap() as u64
            };
            (0..5).filter_map(|place| regions.word(range, place)).map(index).collect()
        };
        assert_eq!(order(&wrapped), [0, 1, WORDS - 2, WORDS - 1]);
        assert_eq!(order(&plain), [0, 1, 2, 3]);
        assert_eq!(order(&(5..6)), [5]);
    }
}
