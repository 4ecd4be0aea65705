//! What each block may hold.
//!
//! Nobody reads or writes a block while another IO is at it. A write that failed may have happened or not, block by block; what is then
//! read is what it stays, as nothing may land after an IO's end.

use std::collections::BTreeMap;

use crate::sim::disk::{Stamp, ZEROES};

#[derive(Clone, Default, Debug)]
struct Block {
    /// Any of them; none: zeroes.
    may_hold: Vec<Stamp>,
    is_busy: bool,
}

/// What is known of the blocks.
#[derive(Debug)]
pub(super) struct Oracle {
    blocks: BTreeMap<(u32, u64), Block>,
}

type Extent = Option<(u64, u32)>;

fn blocks(extent: Extent) -> impl Iterator<Item = u64> {
    extent.into_iter().flat_map(|(lba, blocks)| lba..lba + u64::from(blocks))
}

impl Oracle {
    /// All zeroes.
    pub(super) fn new() -> Oracle {
        Oracle { blocks: BTreeMap::new() }
    }

    pub(super) fn is_free(&self, nsid: u32, extent: Extent) -> bool {
        blocks(extent).all(|lba| self.blocks.get(&(nsid, lba)).is_none_or(|block| !block.is_busy))
    }

    /// An IO was taken; `stamps` is what it writes.
    pub(super) fn begin(&mut self, nsid: u32, extent: Extent, stamps: &[Stamp]) {
        for (index, lba) in blocks(extent).enumerate() {
            let block = self.blocks.entry((nsid, lba)).or_default();
            if block.may_hold.is_empty() {
                block.may_hold.push(ZEROES);
            }
            block.is_busy = true;
            block.may_hold.extend(stamps.get(index));
        }
    }

    /// It has ended; `seen` is what it has read.
    #[track_caller]
    pub(super) fn end(&mut self, nsid: u32, extent: Extent, stamps: &[Stamp], is_ok: bool, seen: &[Stamp]) {
        for (index, lba) in blocks(extent).enumerate() {
            let block = self.blocks.entry((nsid, lba)).or_default();
            block.is_busy = false;
            if is_ok && let Some(stamp) = stamps.get(index) {
                block.may_hold = vec![*stamp];
            }
            if let Some(stamp) = seen.get(index) {
                let may_hold = &block.may_hold;
                assert!(
                    may_hold.contains(stamp),
                    "namespace {nsid}, block {lba}: {stamp:#x}, not of {may_hold:x?}"
                );
                block.may_hold = vec![*stamp];
            }
        }
    }
}
