//! The connections of a session.

use super::Session;
use crate::iscsi::sn::Sn;
use crate::limits;
use crate::slab::Key;

impl Session {
    /// Its connections, oldest first.
    pub fn conns(&self) -> &[Key] {
        &self.conns
    }

    /// Adds a connection. Whether there was room.
    pub fn enter(&mut self, conn: Key) -> bool {
        self.conns.try_push(conn).is_ok()
    }

    /// A connection is gone.
    pub fn leave(&mut self, conn: Key) {
        self.conns.retain(|key| *key != conn);
    }

    /// Whether commands come in one order only, as they do on a single connection.
    pub(in crate::iscsi) fn is_single(&self) -> bool {
        self.conns.len() == 1
    }

    /// Whether all commands before this one have come, or are on no connection: of one alone nothing that was lost comes any more.
    pub fn has_all_before(&self, cmd_sn: Sn) -> bool {
        self.is_single() || !self.window.expected().is_before(cmd_sn)
    }

    /// ExpCmdSN, where control has to be told anew.
    pub fn cmd_sn_to_tell(&mut self) -> Option<Sn> {
        let expected = self.window.expected();
        let steps = expected.steps_from(self.told_cmd_sn).unwrap_or(u32::MAX);
        (steps >= limits::CMD_SN_TOLD_STEPS).then(|| {
            self.told_cmd_sn = expected;
            expected
        })
    }
}
