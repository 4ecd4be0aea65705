//! How long a reactor with nothing to do polls before it waits in the kernel.
//!
//! Polling pays where work comes within [`SPIN_NS`]: it is seen at once, and nobody has to wake a CPU. Where work comes later
//! than that all polling is in vain. An adaptive reactor learns which it is from the last gaps between its work: so an idle
//! connection, or a slow one, costs the work it brings and no more.

use crate::limits::SPIN_NS;
use crate::reactor::spawn::Idle;

/// What has been learnt.
#[derive(Debug)]
pub(super) struct Spin {
    idle: Idle,
    /// What an adaptive reactor polls for.
    ns: u64,
}

impl Spin {
    pub(super) fn new(idle: Idle) -> Spin {
        Spin { idle, ns: SPIN_NS }
    }

    /// Work has come after there was none for so long.
    pub(super) fn learn(&mut self, gap_ns: u64) {
        self.ns = if gap_ns <= SPIN_NS { SPIN_NS } else { self.ns / 2 };
    }

    /// Whether to wait, `ns` after the last work.
    pub(super) fn is_over(&self, ns: u64) -> bool {
        match self.idle {
            Idle::Spin => false,
            Idle::Adaptive => ns >= self.ns,
            Idle::Park => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adaptive_one_polls_for_as_long_as_it_pays() {
        let mut spin = Spin::new(Idle::Adaptive);
        assert!(!spin.is_over(SPIN_NS - 1) && spin.is_over(SPIN_NS));
        // Every 100 µs: after some of them it does not poll at all.
        spin.learn(2 * SPIN_NS);
        assert!(!spin.is_over(SPIN_NS / 2 - 1) && spin.is_over(SPIN_NS / 2));
        (0..16).for_each(|_| spin.learn(2 * SPIN_NS));
        assert!(spin.is_over(0));
        // One that came soon is enough.
        spin.learn(SPIN_NS);
        assert!(!spin.is_over(SPIN_NS - 1));
    }

    #[test]
    fn the_others_learn_nothing() {
        let (mut spin, mut park) = (Spin::new(Idle::Spin), Spin::new(Idle::Park));
        for gap_ns in [2 * SPIN_NS, SPIN_NS, 0] {
            spin.learn(gap_ns);
            park.learn(gap_ns);
            assert!(!spin.is_over(u64::MAX) && park.is_over(0));
        }
    }
}
