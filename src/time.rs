//! Time as an argument: nanoseconds since the process (or the simulated world) began.
//!
//! Nothing here reads a clock. The reactor's and control's threads do, once per turn, and hand a [`Tick`] down.

use std::fmt;

/// Nanoseconds in a millisecond.
pub const MS_NS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// A moment: nanoseconds since start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Tick(u64);

impl Tick {
    /// The start.
    pub const ZERO: Tick = Tick(0);

    /// The moment `ns` nanoseconds after the start.
    pub const fn from_ns(ns: u64) -> Tick {
        Tick(ns)
    }

    /// Nanoseconds since the start.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// The moment `ns` nanoseconds after this one.
    #[must_use]
    pub const fn after_ns(self, ns: u64) -> Tick {
        Tick(self.0.saturating_add(ns))
    }

    /// How long after `earlier` this is, in nanoseconds; 0 where it is not after.
    pub const fn since_ns(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / SECOND_NS, self.0 % SECOND_NS)
    }
}
