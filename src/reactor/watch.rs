//! What was written to a unit lately: data of a READ may be read once more only if they are the same still.
//!
//! Only writes of this reactor are seen; where there are several, nothing is known to be unchanged.

use crate::limits::WATCHED_WRITES;

/// The last writes.
#[derive(Debug)]
pub(super) struct Watch {
    ring: [(u64, u32); WATCHED_WRITES],
    /// All there were.
    count: u64,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch { ring: [(0, 0); WATCHED_WRITES], count: 0 }
    }

    /// How many writes there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Blocks are about to change.
    pub(super) fn note(&mut self, lba: u64, blocks: u32) {
        self.ring[place(self.count)] = (lba, blocks);
        self.count += 1;
    }

    /// Whether none of these blocks has changed since the count was this.
    pub(super) fn is_unchanged(&self, since: u64, lba: u64, blocks: u32) -> bool {
        let end = lba.saturating_add(blocks.into());
        let meets = |(first, count): (u64, u32)| first < end && lba < first.saturating_add(count.into());
        let is_known = self.count - since <= WATCHED_WRITES as u64;
        is_known && (since..self.count).all(|number| !meets(self.ring[place(number)]))
    }
}

/// Where a write is remembered.
fn place(number: u64) -> usize {
    usize::try_from(number % WATCHED_WRITES as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_since_is_known_for_so_many_writes() {
        let mut watch = Watch::new();
        watch.note(8, 8);
        let since = watch.count();
        assert!(watch.is_unchanged(since, 0, 100), "that was before");
        watch.note(100, 1);
        assert!(watch.is_unchanged(since, 0, 100) && watch.is_unchanged(since, 101, 1));
        assert!(!watch.is_unchanged(since, 100, 1) && !watch.is_unchanged(since, 0, 101));
        for _ in 0..WATCHED_WRITES {
            watch.note(1000, 1);
        }
        assert!(!watch.is_unchanged(since, 0, 1), "too long ago to know");
    }
}
