//! What is counted while it happens: numbers that one thread alone adds to and every other may read.
//!
//! To count is a load, an addition and a store, nothing that is locked and nothing that waits; who reads sees each number
//! by itself, a moment old. Nothing here asks, adds up or shows: that is [`crate::metrics`].

mod reactor;
mod session;
mod times;

use std::sync::atomic::{AtomicU64, Ordering};

pub use reactor::{PoolMeter, ReactorMeter, STAGES, Stages, add_stages};
pub use session::{ENDINGS, Moved, SessionMeter, Work};
pub use times::{Spread, TIMES_BOUNDS_NS, Times};

/// A number that one thread alone writes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it, on the thread that does.
    #[inline(always)]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Puts another in its place, on the thread that does.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
