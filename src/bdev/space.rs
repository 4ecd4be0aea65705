//! How much of the space that a thinly provisioned device draws on it has taken, and how much is left.
//!
//! Whoever may block measures ([`crate::bdev::Bdev::measure_space`]), at intervals; reactors read what was found last. So the
//! figures are a few seconds old, and say nothing of what others take meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The figures of one device.
#[derive(Debug, Default)]
pub struct Space {
    used_bytes: AtomicU64,
    available_bytes: AtomicU64,
    is_measured: AtomicBool,
}

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Figures {
    /// Space that the device's blocks take.
    pub used_bytes: u64,
    /// Space that is left for more of them. Others may draw on it too.
    pub available_bytes: u64,
}

/// The same, not merely alike.
impl PartialEq for Space {
    fn eq(&self, other: &Space) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Space {}

impl Space {
    /// What was found last; none before the first time.
    pub fn figures(&self) -> Option<Figures> {
        self.is_measured.load(Ordering::Acquire).then(|| Figures {
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            available_bytes: self.available_bytes.load(Ordering::Relaxed),
        })
    }

    /// What was found now.
    pub fn set(&self, figures: Figures) {
        self.used_bytes.store(figures.used_bytes, Ordering::Relaxed);
        self.available_bytes.store(figures.available_bytes, Ordering::Relaxed);
        self.is_measured.store(true, Ordering::Release);
    }
}
