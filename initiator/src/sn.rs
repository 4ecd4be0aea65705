//! Serial numbers: 32-bit counters that wrap (RFC 1982, RFC 7143 §4.2.2.1).

use std::fmt;

/// A CmdSN, StatSN or DataSN. It has no `<`: wrapping counters have only a distance.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Serial(pub u32);

impl Serial {
    /// The number `n` steps later.
    #[must_use]
    pub fn plus(self, n: u32) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// Steps from `earlier` to `self`, negative when `self` lies before it.
    #[must_use]
    pub fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// Whether `self` lies strictly before `other`.
    #[must_use]
    pub fn precedes(self, other: Self) -> bool {
        self.since(other) < 0
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = Serial(0xffff_ffff);
        assert_eq!(last.plus(2), Serial(1));
        assert!(last.precedes(Serial(0)));
        assert!(!Serial(0).precedes(last));
        assert_eq!(Serial(3).since(last), 4);
    }
}
