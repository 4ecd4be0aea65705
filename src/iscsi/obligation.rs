//! The duty to end a command: exactly once, by an answer or for a reason that excuses from it.

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A status was queued.
    Answered,
    /// Its initiator aborted it and expects no status.
    Aborted,
    /// It was discarded before it counted as received; its initiator retries it (RFC 7143 §7.2.1).
    Discarded,
    /// Its connection is gone or logged out.
    ConnectionGone,
}

/// What every accepted command owes. In builds with debug assertions (tests, the simulator, fuzzers) it shouts when it is
/// dropped unmet, and when it is met twice.
#[derive(Debug, Default)]
pub struct Obligation {
    met: Option<End>,
}

impl Obligation {
    /// A command was accepted.
    pub const fn new() -> Obligation {
        Obligation { met: None }
    }

    /// The command has ended.
    pub fn meet(&mut self, end: End) {
        debug_assert!(self.met.is_none(), "a command ended twice: {:?}, then {end:?}", self.met);
        self.met = Some(end);
    }

    /// Whether the command has ended by an answer.
    pub fn is_answered(&self) -> bool {
        self.met == Some(End::Answered)
    }

    /// Whether the command has ended.
    pub const fn is_met(&self) -> bool {
        self.met.is_some()
    }
}

impl Drop for Obligation {
    fn drop(&mut self) {
        debug_assert!(self.met.is_some(), "a command was dropped without an end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_met_once() {
        let mut obligation = Obligation::new();
        assert!(!obligation.is_met());
        obligation.meet(End::Answered);
        assert!(obligation.is_met());
    }

    #[test]
    #[should_panic(expected = "without an end")]
    fn it_shouts_when_dropped() {
        drop(Obligation::new());
    }

    #[test]
    #[should_panic(expected = "ended twice")]
    fn it_shouts_when_met_twice() {
        let mut obligation = Obligation::new();
        obligation.meet(End::Aborted);
        obligation.meet(End::Answered);
    }
}
