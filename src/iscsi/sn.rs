//! Serial numbers that wrap (RFC 1982 with SERIAL_BITS = 32; RFC 7143 §4.2.2.1).

/// CmdSN, StatSN, DataSN or R2TSN. It has no order of its own: 2^31 steps ahead is as far as behind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Sn(pub u32);

impl Sn {
    /// The number `steps` later.
    #[must_use]
    pub const fn plus(self, steps: u32) -> Sn {
        Sn(self.0.wrapping_add(steps))
    }

    /// The number before.
    #[must_use]
    pub const fn previous(self) -> Sn {
        Sn(self.0.wrapping_sub(1))
    }

    /// Whether this comes before `other`.
    pub const fn is_before(self, other: Sn) -> bool {
        let ahead = other.0.wrapping_sub(self.0);
        ahead != 0 && ahead < 1 << 31
    }

    /// Steps from `earlier` to this, or none where `earlier` is later.
    pub const fn steps_from(self, earlier: Sn) -> Option<u32> {
        let ahead = self.0.wrapping_sub(earlier.0);
        if ahead < 1 << 31 { Some(ahead) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::Sn;

    #[test]
    fn it_wraps() {
        let last = Sn(u32::MAX);
        assert_eq!(last.plus(1), Sn(0));
        assert!(last.is_before(Sn(0)) && !Sn(0).is_before(last) && !last.is_before(last));
        assert_eq!((Sn(2).steps_from(last), last.steps_from(Sn(2))), (Some(3), None));
    }
}
