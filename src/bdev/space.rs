//! What a device is looked at for now and then: how much of the space that a thinly provisioned one draws on it has taken, and how much
//! is left; how hot it is.
//!
//! Whoever may block measures ([`crate::bdev::Bdev::measure`]), at intervals; reactors read what was found last. So the
//! figures are a few seconds old, and say nothing of what others take meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

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

/// How hot a device is.
#[derive(Debug)]
pub struct Temperature(AtomicU16);

/// Of nothing that is as cold as that anybody could tell.
const UNKNOWN: u16 = 0;

impl Default for Temperature {
    fn default() -> Temperature {
        Temperature(AtomicU16::new(UNKNOWN))
    }
}

/// The same, not merely alike.
impl PartialEq for Temperature {
    fn eq(&self, other: &Temperature) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Temperature {}

impl Temperature {
    /// In degrees Celsius, as it was measured last; none where that was not done or did not succeed.
    pub fn celsius(&self) -> Option<i32> {
        let kelvin = self.0.load(Ordering::Relaxed);
        (kelvin != UNKNOWN).then(|| i32::from(kelvin) - 273)
    }

    /// What was measured now; none where nothing was told.
    pub fn set_kelvin(&self, kelvin: Option<u16>) {
        self.0.store(kelvin.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }
}
