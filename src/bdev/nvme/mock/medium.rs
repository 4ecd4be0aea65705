//! A namespace's blocks, with a volatile write cache.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
use crate::sim::rng::Rng;

/// A namespace.
#[derive(Clone, Debug)]
pub(crate) struct Medium {
    /// Its size.
    pub(crate) blocks: u64,
    /// Of its data.
    pub(crate) block_bytes: usize,
    /// Type of protection information, 0 where it has none.
    pub(crate) protection: u8,
    /// NSATTR bit 0.
    pub(crate) is_read_only: bool,
    /// Blocks that are not all zeroes.
    durable: BTreeMap<u64, Box<[u8]>>,
    /// What was written since the last flush, oldest first.
    cached: BTreeMap<u64, Vec<Box<[u8]>>>,
    /// Blocks of WRITE UNCORRECTABLE.
    bad: BTreeSet<u64>,
}

impl Medium {
    /// All zeroes.
    pub(crate) fn new(blocks: u64, block_bytes: usize) -> Medium {
        Medium {
            blocks,
            block_bytes,
            protection: 0,
            is_read_only: false,
            durable: BTreeMap::new(),
            cached: BTreeMap::new(),
            bad: BTreeSet::new(),
        }
    }

    pub(super) fn has(&self, lba: u64, blocks: u64) -> bool {
        lba.checked_add(blocks).is_some_and(|end| end <= self.blocks)
    }

    /// What a read gives.
    pub(crate) fn block(&self, lba: u64) -> Box<[u8]> {
        let cached = self.cached.get(&lba).and_then(|versions| versions.last());
        let zeroes = || vec![0; self.block_bytes].into_boxed_slice();
        cached.or_else(|| self.durable.get(&lba)).cloned().unwrap_or_else(zeroes)
    }

    pub(in crate::bdev::nvme) fn write(&mut self, lba: u64, data: &[u8], is_durable: bool) {
        self.bad.remove(&lba);
        if is_durable {
            self.cached.remove(&lba);
            self.durable.insert(lba, data.into());
        } else {
            self.cached.entry(lba).or_default().push(data.into());
        }
    }

    pub(super) fn spoil(&mut self, lba: u64) {
        self.bad.insert(lba);
    }

    /// The first block of these that cannot be read.
    pub(super) fn first_bad(&self, lba: u64, blocks: u64) -> Option<u64> {
        self.bad.range(lba..lba + blocks).next().copied()
    }

    /// Nothing is left of it.
    pub(super) fn erase(&mut self) {
        self.durable.clear();
        self.cached.clear();
        self.bad.clear();
    }

    pub(super) fn flush(&mut self) {
        for (lba, mut versions) in std::mem::take(&mut self.cached) {
            if let Some(last) = versions.pop() {
                self.durable.insert(lba, last);
            }
        }
    }

    /// Power is cut: of each block some version since the last flush is left, or the one before.
    #[cfg(test)]
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        for (lba, mut versions) in std::mem::take(&mut self.cached) {
            let kept = rng.index(versions.len() + 1);
            if kept < versions.len() {
                self.durable.insert(lba, versions.swap_remove(kept));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loses_what_was_not_flushed_and_nothing_else() {
        let mut lost = 0;
        for seed in 0..32 {
            let mut medium = Medium::new(8, 4);
            medium.write(1, &[1; 4], false);
            medium.flush();
            medium.write(1, &[2; 4], false);
            medium.write(2, &[3; 4], true);
            assert_eq!(&*medium.block(1), [2; 4]);
            medium.crash(&mut Rng::new(seed));
            assert_eq!((&*medium.block(0), &*medium.block(2)), (&[0; 4][..], &[3; 4][..]));
            match medium.block(1)[0] {
                1 => lost += 1,
                2 => {}
                other => panic!("{other} was never written"),
            }
        }
        assert!((4..28).contains(&lost), "{lost} of 32");
    }
}
