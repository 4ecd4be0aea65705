//! Commands that change what a logical unit is to everybody: reactors ask, control decides.

use super::Control;
use crate::net::Net;
use crate::reactor::message::{Ask, ToReactor};
use crate::scsi::Outcome;
use crate::scsi::sense::Sense;

impl<N: Net> Control<N> {
    /// A command that a reactor asks about. It is answered exactly once.
    pub(super) fn asked(&mut self, ask: &Ask) {
        let outcome = Outcome::check(Sense::INVALID_OPCODE);
        let answer = ToReactor::Answered { asked: ask.ticket, outcome, is_flushed: false };
        self.outbox.send(ask.reactor, answer);
    }
}
