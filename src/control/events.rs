//! The log: session-scale facts, each line with who, what and why. Whatever a peer can cause is paced.

use std::fmt::Debug;
use std::net::SocketAddr;

use super::Origin;
use super::pace::Limiter;
use super::sessions::Session;
use crate::id::SessionId;
use crate::reactor::message::{CloseCause, Event};
use crate::time::Tick;

/// Kinds of lines, each paced on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    SessionUp,
    SessionDown,
    LoginRefused,
    LoginClosed,
    Evicted,
    DiscoveryClosed,
    Rejected,
    Tmf,
    DeviceError,
    Unsettled,
    Lost,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::SessionUp,
        Kind::SessionDown,
        Kind::LoginRefused,
        Kind::LoginClosed,
        Kind::Evicted,
        Kind::DiscoveryClosed,
        Kind::Rejected,
        Kind::Tmf,
        Kind::DeviceError,
        Kind::Unsettled,
        Kind::Lost,
    ];
}

/// What the log says of a session that it knows nothing more about.
const UNKNOWN: &str = "?";

/// Writes lines by `tracing`.
#[derive(Debug)]
pub(super) struct Log {
    limiter: Limiter<{ Kind::ALL.len() }>,
}

impl Log {
    pub(super) const fn new() -> Log {
        Log { limiter: Limiter::new() }
    }

    fn allow(&mut self, kind: Kind, now: Tick) -> bool {
        self.limiter.allow(kind as usize, now)
    }

    /// A session goes to its reactor.
    pub(super) fn session_up(&mut self, id: SessionId, session: &Session, proof: &dyn Debug, now: Tick) {
        if self.allow(Kind::SessionUp, now) {
            let Session { nexus, origin: Origin { peer, .. }, tsih, reactor, .. } = session;
            let (initiator, target, reactor) = (&nexus.initiator, &nexus.target, reactor.0);
            tracing::info!(session = id.0, %peer, initiator, target, tsih, reactor, ?proof, "session begins");
        }
    }

    /// A session has one connection more.
    pub(super) fn connection_up(
        &mut self,
        id: SessionId,
        session: &Session,
        cid: u16,
        peer: SocketAddr,
        now: Tick,
    ) {
        if self.allow(Kind::SessionUp, now) {
            let Session { nexus, tsih, .. } = session;
            let (initiator, target) = (&nexus.initiator, &nexus.target);
            tracing::info!(session = id.0, %peer, initiator, target, tsih, cid, "connection joins");
        }
    }

    /// A session's connection is gone.
    pub(super) fn session_down(&mut self, id: SessionId, session: &Session, now: Tick) {
        if !self.allow(Kind::SessionDown, now) {
            return;
        }
        let (peer, initiator, target) =
            (session.origin.peer, &session.nexus.initiator, &session.nexus.target);
        match session.cause {
            // What everybody does at some time. Its event may have been lost.
            None
            | Some(
                CloseCause::LoggedOut | CloseCause::PeerGone | CloseCause::Ended(_) | CloseCause::Stopping,
            ) => {
                let cause = session.cause.map_or_else(|| UNKNOWN.to_owned(), |cause| format!("{cause:?}"));
                tracing::info!(session = id.0, %peer, initiator, target, cause, "session ends");
            }
            Some(cause) => {
                tracing::warn!(session = id.0, %peer, initiator, target, ?cause, "session ends for cause");
            }
        }
    }

    /// A login was answered with a status that is not success.
    pub(super) fn login_refused(
        &mut self,
        peer: SocketAddr,
        initiator: Option<&str>,
        why: &dyn Debug,
        now: Tick,
    ) {
        if self.allow(Kind::LoginRefused, now) {
            tracing::warn!(%peer, initiator = initiator.unwrap_or(UNKNOWN), ?why, "login refused");
        }
    }

    /// A connection was closed before it had logged in.
    pub(super) fn login_closed(
        &mut self,
        peer: SocketAddr,
        initiator: Option<&str>,
        why: &dyn Debug,
        now: Tick,
    ) {
        if self.allow(Kind::LoginClosed, now) {
            tracing::info!(%peer, initiator = initiator.unwrap_or(UNKNOWN), ?why, "connection closed before login");
        }
    }

    /// A connection had to make room for another.
    pub(super) fn evicted(&mut self, peer: SocketAddr, initiator: Option<&str>, now: Tick) {
        if self.allow(Kind::Evicted, now) {
            let initiator = initiator.unwrap_or(UNKNOWN);
            tracing::warn!(%peer, initiator, "connection closed to make room: too many have not logged in");
        }
    }

    /// A discovery session was closed for cause.
    pub(super) fn discovery_closed(&mut self, peer: SocketAddr, initiator: &str, why: &dyn Debug, now: Tick) {
        if self.allow(Kind::DiscoveryClosed, now) {
            tracing::info!(%peer, initiator, ?why, "discovery session closed");
        }
    }

    /// What a reactor tells. `session` is the one the event names, if it is known still.
    pub(super) fn event(&mut self, event: Event, session: Option<&Session>, now: Tick) {
        let kind = match event {
            // Told by `session_down`.
            Event::Closed { .. } => return,
            Event::Rejected { .. } => Kind::Rejected,
            Event::Tmf { .. } => Kind::Tmf,
            Event::DeviceError { .. } => Kind::DeviceError,
            Event::Lost { .. } => Kind::Lost,
        };
        if !self.allow(kind, now) {
            return;
        }
        let peer = session.map_or_else(|| UNKNOWN.to_owned(), |session| session.origin.peer.to_string());
        let initiator = session.map_or(UNKNOWN, |session| session.nexus.initiator.as_str());
        match event {
            Event::Closed { .. } => {}
            Event::Rejected { session, reason } => {
                tracing::warn!(session = session.0, peer, initiator, reason, "PDU rejected");
            }
            Event::Tmf { session, function, response } => {
                tracing::info!(session = session.0, peer, initiator, function, response, "task management");
            }
            Event::DeviceError { unit, error } => tracing::error!(unit = unit.0, ?error, "device error"),
            Event::Lost { count } => tracing::warn!(count, "events were lost: more came than can be told"),
        }
    }

    /// A device keeps writes that were given up, or has given them back.
    pub(super) fn unsettled(&mut self, bdev: &str, is_so: bool, now: Tick) {
        if !self.allow(Kind::Unsettled, now) {
            return;
        }
        if is_so {
            tracing::error!(
                bdev,
                "a device keeps writes that were given up: its LUNs are not ready until it has given them back"
            );
        } else {
            tracing::info!(bdev, "the device has given back what it kept: its LUNs are ready again");
        }
    }

    /// When [`Log::summarize`] has something to say.
    pub(super) fn deadline(&self) -> Option<Tick> {
        self.limiter.summary_due()
    }

    /// Says what was left out, if it is time.
    pub(super) fn summarize(&mut self, now: Tick) {
        let Some(counts) = self.limiter.summary(now) else { return };
        let told = Kind::ALL.iter().zip(counts).filter(|&(_, count)| count > 0);
        let suppressed =
            told.map(|(kind, count)| format!("{kind:?}: {count}")).collect::<Vec<_>>().join(", ");
        tracing::warn!(suppressed, "log lines were left out in the last minute");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_their_own_index() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }
}
