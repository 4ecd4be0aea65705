//! Channels that have no ring, as the system has none for them now: how many there are, and why.
//!
//! Reactors tell no operator; whoever looks for media that are not there does ([`Bdev::probe`]).
//!
//! [`Bdev::probe`]: crate::bdev::Bdev::probe

use std::io;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use super::open::Medium;
use super::ring::Ring;

/// The rings of a disk's channels.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// Channels that lack theirs.
    lacking: AtomicU32,
    /// What the system said to the last of them; 0 where that has no number.
    errno: AtomicI32,
    /// There are none to be had.
    #[cfg(test)]
    pub(super) are_none: AtomicBool,
}

impl Rings {
    /// One for the thread that asks.
    pub(super) fn make(&self, medium: &Arc<Medium>) -> io::Result<Ring> {
        #[cfg(test)]
        if self.are_none.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        Ring::new(Arc::clone(medium))
    }

    /// A channel has none, for the first time or still.
    pub(super) fn lacks(&self, error: &io::Error, is_first: bool) {
        self.errno.store(error.raw_os_error().unwrap_or_default(), Ordering::Relaxed);
        if is_first {
            self.lacking.fetch_add(1, Ordering::Release);
        }
    }

    /// A channel that had none has one, or is gone.
    pub(super) fn lacks_no_more(&self) {
        self.lacking.fetch_sub(1, Ordering::Relaxed);
    }

    /// Why any channel has none; nothing where all have.
    pub(super) fn lacking(&self) -> Option<io::Error> {
        if self.lacking.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(match self.errno.load(Ordering::Relaxed) {
            0 => io::Error::other("the kernel cannot"),
            errno => io::Error::from_raw_os_error(errno),
        })
    }
}
