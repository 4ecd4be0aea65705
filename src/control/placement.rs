//! Which reactor a session goes to.
//!
//! Sessions of one target are spread, so that one LUN is served by every core; then those of one initiator, so that a
//! host with several sessions gets several cores; then all of them.

use crate::id::ReactorId;

/// What a reactor has already.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Load {
    /// Sessions of the same target. Compared first.
    pub same_target: u32,
    /// Sessions of the same initiator.
    pub same_initiator: u32,
    /// Sessions.
    pub all: u32,
}

/// The reactor for one more session; the first of equals. `loads` is in the order of reactors.
pub fn place(loads: &[Load]) -> ReactorId {
    let best = (0u16..).zip(loads).min_by_key(|&(_, load)| load);
    ReactorId(best.map_or(0, |(index, _)| index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(same_target: u32, same_initiator: u32, all: u32) -> Load {
        Load { same_target, same_initiator, all }
    }

    #[test]
    fn the_target_is_spread_first() {
        assert_eq!(place(&[load(1, 0, 1), load(0, 5, 9)]), ReactorId(1));
    }

    #[test]
    fn then_the_initiator() {
        assert_eq!(place(&[load(1, 1, 1), load(1, 0, 9)]), ReactorId(1));
    }

    #[test]
    fn then_all_and_the_first_of_equals() {
        assert_eq!(place(&[load(1, 1, 3), load(1, 1, 2), load(1, 1, 2)]), ReactorId(1));
        assert_eq!(place(&[Load::default(), Load::default()]), ReactorId(0));
    }
}
