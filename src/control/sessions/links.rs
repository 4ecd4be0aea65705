//! Further connections of a session that is live (RFC 7143 §6.3.4).

use std::collections::BTreeSet;

use super::{Nexus, Sessions, State, Step};
use crate::control::Origin;
use crate::id::{ReactorId, SessionId};
use crate::iscsi::login::{Joined, Refusal};
use crate::iscsi::sn::Sn;
use crate::limits::SESSION_CONNS_MAX;
use crate::slab::Key;

/// A connection of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Connection ID.
    pub cid: u16,
    /// Where it comes from and came to.
    pub origin: Origin,
    /// Control has it still, under this key: its login is being finished.
    pub entering: Option<Key>,
}

impl Sessions {
    /// A login with a TSIH that is not 0 that is about to succeed: a further connection of a session, or one in the place of
    /// one that it has. `conn` is control's key of it.
    ///
    /// # Errors
    /// No such session, or it has all the connections that it may have.
    pub fn join(
        &mut self,
        nexus: &Nexus,
        tsih: u16,
        cid: u16,
        conn: Key,
        origin: Origin,
    ) -> Result<(SessionId, Joined), Refusal> {
        let of_nexus = self.of_nexus(nexus);
        let is_meant = |id: &&SessionId| self.all.get(id).is_some_and(|session| session.tsih == tsih);
        let Some(&id) = of_nexus.iter().find(is_meant) else { return Err(Refusal::NoSuchSession) };
        let Some(session) = self.all.get_mut(&id) else { return Err(Refusal::NoSuchSession) };
        match session.state {
            State::Live { .. } => {}
            // It waits for its predecessor.
            State::Entering(_) => return Err(Refusal::ServiceUnavailable),
            State::Ending | State::Draining => return Err(Refusal::NoSuchSession),
        }
        // RFC 7143 §6.3.4: at error recovery level 2 a second connection may come to clean up the first.
        let spare = u16::from(session.first.params.error_recovery_level == 2);
        let count_max = usize::from(session.first.params.connections_max.max(1 + spare));
        // One login of it at a time, the last: those before it have broken.
        let broken = session.links.iter().filter(|link| link.cid == cid).filter_map(|link| link.entering);
        self.steps.extend(broken.map(Step::Drop));
        session.links.retain(|link| link.cid != cid || link.entering.is_none());
        // One that is kept for recovery does not count beside its successor.
        let others: BTreeSet<u16> =
            session.links.iter().map(|link| link.cid).filter(|other| *other != cid).collect();
        if others.len() >= count_max.min(SESSION_CONNS_MAX) {
            return Err(Refusal::TooManyConnections);
        }
        session.links.push(Link { cid, origin, entering: Some(conn) });
        Ok((id, session.first))
    }

    /// The login of a further connection is finished: where it goes, or none where its session is no more.
    pub fn joined(&mut self, id: SessionId, cid: u16) -> Option<ReactorId> {
        let session = self.all.get_mut(&id)?;
        if !matches!(session.state, State::Live { .. }) {
            return None;
        }
        let link = session.links.iter_mut().find(|link| link.cid == cid && link.entering.is_some())?;
        link.entering = None;
        Some(session.reactor)
    }

    /// A further connection broke before its login was finished.
    pub fn withdraw_join(&mut self, id: SessionId, conn: Key) {
        if let Some(session) = self.all.get_mut(&id) {
            session.links.retain(|link| link.entering != Some(conn));
        }
    }

    /// Its reactor says that a connection of the session is gone: where one has taken its place, the older one.
    pub fn conn_ended(&mut self, id: SessionId, cid: u16) {
        if let Some(session) = self.all.get_mut(&id)
            && let Some(at) = session.links.iter().position(|link| link.cid == cid && link.entering.is_none())
        {
            session.links.remove(at);
        }
    }

    /// Its reactor says how far the session's ExpCmdSN is.
    pub fn cmd_sn(&mut self, id: SessionId, exp_cmd_sn: Sn) {
        if let Some(session) = self.all.get_mut(&id) {
            session.first.exp_cmd_sn = exp_cmd_sn;
        }
    }
}
