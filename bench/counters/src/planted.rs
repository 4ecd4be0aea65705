//! What the counters must see, once a turn: an allocation, a locked addition, a copy of a block.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

const BLOCK_BYTES: usize = 512;

/// It, and what it works on.
#[derive(Debug)]
pub(crate) struct Planted {
    count: AtomicU64,
    blocks: [[u8; BLOCK_BYTES]; 2],
}

impl Planted {
    pub(crate) fn new() -> Planted {
        Planted { count: AtomicU64::new(0), blocks: [[0; BLOCK_BYTES]; 2] }
    }

    #[inline(never)]
    pub(crate) fn happen(&mut self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        drop(black_box(Box::new(count)));
        let [from, to] = &mut self.blocks;
        // As long as the compiler cannot know.
        let bytes = black_box(BLOCK_BYTES);
        to[..bytes].copy_from_slice(&black_box(from)[..bytes]);
    }
}
