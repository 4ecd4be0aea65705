//! The connections there are, for lists.

use std::net::SocketAddr;

use super::Control;
use super::entrance::{Entrance, Stage};
use super::sessions::{Link, Session, State};
use crate::id::{ReactorId, SessionId};
use crate::net::Net;

/// A connection, as far as it has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Its session, once it has one with a target.
    pub session: Option<SessionId>,
    /// TSIH, once there is one.
    pub tsih: Option<u16>,
    /// Connection ID, once known.
    pub cid: Option<u16>,
    /// Where it stands.
    pub phase: Phase,
    /// The initiator's name, once known.
    pub initiator: Option<String>,
    /// The target's name, once known; none in a discovery session.
    pub target: Option<String>,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// The address here.
    pub local: SocketAddr,
    /// Tag of the portal group it came in at.
    pub portal_group: u16,
    /// Where it is served; none while control has it.
    pub reactor: Option<ReactorId>,
}

/// Where a connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Logging in.
    Login,
    /// Logged in, and waiting for the session that it replaces to end.
    Waiting,
    /// A discovery session.
    Discovery,
    /// Served by its reactor.
    FullFeature,
    /// Being closed, or closed while a device still has IO of it.
    Ending,
}

impl<N: Net> Control<N> {
    /// Every connection, those that control has first.
    pub fn connections(&self) -> Vec<Connection> {
        let entrances = self.entrances.iter().map(|(_, entrance)| of_entrance(entrance));
        let served = self.sessions.iter().filter(|(_, session)| !matches!(session.state, State::Entering(_)));
        let links = served.flat_map(|(id, session)| {
            let here = session.links.iter().filter(|link| link.entering.is_none());
            here.map(move |link| of_session(id, session, link))
        });
        entrances.chain(links).collect()
    }
}

fn of_entrance<S: Copy>(entrance: &Entrance<S>) -> Connection {
    let (phase, target) = match &entrance.stage {
        Stage::Login(login) => (Phase::Login, login.target()),
        Stage::Waiting(established) => {
            (Phase::Waiting, established.target.as_ref().map(|target| target.name.as_str()))
        }
        Stage::Discovery(_) => (Phase::Discovery, None),
        Stage::Over => (Phase::Ending, None),
    };
    let waiting = match &entrance.stage {
        Stage::Waiting(established) => Some(established),
        _ => None,
    };
    Connection {
        session: waiting.map(|established| established.granted.session),
        tsih: waiting.map(|established| established.granted.tsih),
        cid: waiting.map(|established| established.cid),
        phase,
        initiator: entrance.initiator().map(str::to_owned),
        target: target.map(str::to_owned),
        peer: entrance.origin.peer,
        local: entrance.origin.local,
        portal_group: entrance.origin.portal_group,
        reactor: None,
    }
}

fn of_session(id: SessionId, session: &Session, link: &Link) -> Connection {
    let is_live = matches!(session.state, State::Live { .. });
    Connection {
        session: Some(id),
        tsih: Some(session.tsih),
        cid: Some(link.cid),
        phase: if is_live { Phase::FullFeature } else { Phase::Ending },
        initiator: Some(session.nexus.initiator.clone()),
        target: Some(session.nexus.target.clone()),
        peer: link.origin.peer,
        local: link.origin.local,
        portal_group: session.nexus.portal_group,
        reactor: Some(session.reactor),
    }
}
