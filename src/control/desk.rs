//! What login and discovery ask of control: [`Authority`] for one connection.

use super::access::Who;
use super::catalog::Catalog;
use super::sessions::{Nexus, Sessions};
use super::{Origin, Random};
use crate::iscsi::login::{Access, Authority, Claim, Granted, Joined, Refusal, TargetAccess, Which};
use crate::limits::WINDOW_MIN;
use crate::scsi::view::TargetView;
use crate::slab::Key;

/// What a login was granted, to be taken back where the connection breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Grant {
    /// A session with a target.
    Session(crate::id::SessionId),
    /// A further connection of a session, by its CID.
    Connection(crate::id::SessionId, u16),
    /// A discovery session, by its TSIH.
    Discovery(u16),
}

/// Control, as one connection sees it.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) sessions: &'a mut Sessions,
    pub(super) random: &'a mut dyn Random,
    pub(super) conn: Key,
    pub(super) origin: Origin,
    /// Set by [`Authority::claim`].
    pub(super) grant: &'a mut Option<Grant>,
}

impl Desk<'_> {
    fn granted(&mut self, grant: Grant, session: crate::id::SessionId, tsih: u16) -> Granted {
        *self.grant = Some(grant);
        Granted { session, tsih, window: WINDOW_MIN, joined: None }
    }

    fn who<'b>(&self, initiator: &'b str) -> Who<'b> {
        Who { initiator, address: self.origin.peer.ip() }
    }
}

impl Authority for Desk<'_> {
    fn discovery(&self, _initiator: &str) -> Result<Access, Refusal> {
        Ok(self.catalog.discovery_access(self.origin.portal_group))
    }

    fn target(&self, name: &str, initiator: &str) -> Result<TargetAccess, Refusal> {
        self.catalog.admit(name, self.origin.portal_group, self.who(initiator))
    }

    fn claim(&mut self, claim: &Claim<'_>) -> Result<Granted, Refusal> {
        let Some(target) = claim.target else {
            if claim.tsih != 0 {
                // RFC 7143 §4.3: a discovery session has one connection.
                return Err(Refusal::NoSuchSession);
            }
            let (session, tsih) = self.sessions.open_discovery();
            return Ok(self.granted(Grant::Discovery(tsih), session, tsih));
        };
        // It may have been deleted or mapped otherwise while the initiator was proving who it is.
        let who = self.who(claim.initiator);
        let admitted = self.catalog.admit(&target.name, self.origin.portal_group, who)?.target;
        let nexus = Nexus {
            initiator: claim.initiator.to_owned(),
            isid: claim.isid,
            target: target.name.clone(),
            portal_group: target.portal_group,
        };
        if claim.tsih != 0 {
            let (session, joined) =
                self.sessions.join(&nexus, claim.tsih, claim.cid, self.conn, self.origin)?;
            *self.grant = Some(Grant::Connection(session, claim.cid));
            return Ok(Granted { session, tsih: claim.tsih, window: 0, joined: Some(joined) });
        }
        let first = Joined { params: *claim.params, exp_cmd_sn: claim.cmd_sn };
        let (session, tsih) = self.sessions.open(nexus, claim.cid, self.conn, self.origin, first)?;
        let by = self.catalog.let_in_by(&target.name, self.origin.portal_group, who);
        self.sessions.let_in(session, by, admitted.lun_map);
        Ok(self.granted(Grant::Session(session), session, tsih))
    }

    fn random(&mut self, out: &mut [u8]) {
        self.random.fill(out);
    }

    fn send_targets(&self, initiator: &str, which: Which<'_>, out: &mut dyn FnMut(&TargetView)) {
        self.catalog.send_targets(self.who(initiator), self.origin.local, which, out);
    }
}
