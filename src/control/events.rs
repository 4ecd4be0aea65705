//! What is told: session-scale facts, each with who, what and why. Each goes to the [`Feed`], and to the log as a line; lines
//! that a peer can cause are paced.

use std::fmt::Debug;
use std::net::SocketAddr;

use super::Origin;
use super::feed::{Feed, Value};
use super::looks::Parties;
use super::pace::Limiter;
use super::sessions::Session;
use crate::id::SessionId;
use crate::iscsi::slow::SlowIo;
use crate::reactor::message::{CloseCause, Event};
use crate::scsi::spoken;
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
    Slow,
    Recorded,
    Lost,
    Threshold,
    NotErased,
}

impl Kind {
    const ALL: [Kind; 15] = [
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
        Kind::Slow,
        Kind::Recorded,
        Kind::Lost,
        Kind::Threshold,
        Kind::NotErased,
    ];
}

/// What the log says of a session that it knows nothing more about.
const UNKNOWN: &str = "?";

/// Writes lines by `tracing`, and tells whoever listens.
#[derive(Debug)]
pub(super) struct Log {
    feed: Feed,
    limiter: Limiter<{ Kind::ALL.len() }>,
}

impl Log {
    pub(super) fn new() -> Log {
        Log { feed: Feed::default(), limiter: Limiter::new() }
    }

    /// For whoever listens.
    pub(super) fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Tells whoever listens, and nobody else: an operator did it.
    pub(super) fn fact(&self, kind: &'static str, fields: Vec<(&'static str, Value)>, now: Tick) {
        self.feed.push(now, kind, fields);
    }

    fn allow(&mut self, kind: Kind, now: Tick) -> bool {
        self.limiter.allow(kind as usize, now)
    }

    /// A session goes to its reactor.
    pub(super) fn session_up(&mut self, id: SessionId, session: &Session, proof: &dyn Debug, now: Tick) {
        let mut fields = who(id, session, session.origin.peer);
        fields.push(("reactor", u64::from(session.reactor.0).into()));
        self.feed.push(now, "session_up", fields);
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
        let mut fields = who(id, session, peer);
        fields.push(("cid", u64::from(cid).into()));
        self.feed.push(now, "session_up", fields);
        if self.allow(Kind::SessionUp, now) {
            let Session { nexus, tsih, .. } = session;
            let (initiator, target) = (&nexus.initiator, &nexus.target);
            tracing::info!(session = id.0, %peer, initiator, target, tsih, cid, "connection joins");
        }
    }

    /// A session's connection is gone.
    pub(super) fn session_down(&mut self, id: SessionId, session: &Session, now: Tick) {
        let mut fields = who(id, session, session.origin.peer);
        fields.push((
            "cause",
            session.cause.map_or_else(|| UNKNOWN.to_owned(), |cause| format!("{cause:?}")).into(),
        ));
        self.feed.push(now, "session_down", fields);
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
        reason: &'static str,
        now: Tick,
    ) {
        self.login_failed(peer, initiator, why, reason, now);
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
        reason: &'static str,
        now: Tick,
    ) {
        self.login_failed(peer, initiator, why, reason, now);
        if self.allow(Kind::LoginClosed, now) {
            tracing::info!(%peer, initiator = initiator.unwrap_or(UNKNOWN), ?why, "connection closed before login");
        }
    }

    /// A connection had to make room for another.
    pub(super) fn evicted(&mut self, peer: SocketAddr, initiator: Option<&str>, now: Tick) {
        self.login_failed(peer, initiator, &"Evicted", "evicted", now);
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

    /// `reason` is one of few, and says nothing of what the peer has said.
    fn login_failed(
        &self,
        peer: SocketAddr,
        initiator: Option<&str>,
        why: &dyn Debug,
        reason: &'static str,
        now: Tick,
    ) {
        let fields = vec![
            ("peer", peer.to_string().into()),
            ("initiator", initiator.unwrap_or(UNKNOWN).into()),
            ("why", format!("{why:?}").into()),
            ("reason", reason.into()),
        ];
        self.feed.push(now, "login_refused", fields);
    }

    /// What a connection had recorded was handed out.
    pub(super) fn recorded(&mut self, id: SessionId, cid: u16, parties: &Parties, why: &str, now: Tick) {
        let Parties { initiator, target, peer, .. } = parties;
        let fields = vec![
            ("session", id.0.into()),
            ("cid", u64::from(cid).into()),
            ("initiator", initiator.as_str().into()),
            ("target", target.as_str().into()),
            ("peer", peer.to_string().into()),
            ("why", why.into()),
        ];
        self.feed.push(now, "recorded", fields);
        if self.allow(Kind::Recorded, now) {
            tracing::info!(session = id.0, cid, %peer, initiator, target, why, "what the connection has recorded is kept");
        }
    }

    fn slow(&mut self, slow: &SlowIo, session: Option<&Session>, bdev: &str, now: Tick) {
        let name = spoken::name(&slow.cdb);
        let (lba, blocks) = spoken::blocks(&slow.cdb).unzip();
        let us = |ns: u64| ns / 1000;
        let (initiator, target) = session.map_or((UNKNOWN, UNKNOWN), |session| {
            (session.nexus.initiator.as_str(), session.nexus.target.as_str())
        });
        let mut fields: Vec<(&'static str, Value)> = vec![
            ("session", slow.session.0.into()),
            ("initiator", initiator.into()),
            ("target", target.into()),
            ("itt", u64::from(slow.itt).into()),
            ("bdev", bdev.into()),
            ("command", name.clone().into()),
        ];
        fields.extend(slow.number.map(|number| ("lun", u64::from(number.0).into())));
        fields.extend(lba.map(|lba| ("lba", lba.into())));
        fields.extend(blocks.map(|blocks| ("blocks", u64::from(blocks).into())));
        fields.extend(slow.status.map(|status| ("status", u64::from(status).into())));
        fields.extend([
            ("bytes", u64::from(slow.bytes).into()),
            ("us", us(slow.ns()).into()),
            ("queue_us", us(slow.queue_ns).into()),
            ("receive_us", us(slow.receive_ns).into()),
            ("device_us", us(slow.device_ns).into()),
            ("send_us", us(slow.send_ns).into()),
            ("untold", slow.untold.into()),
        ]);
        self.feed.push(now, "slow_io", fields);
        if self.allow(Kind::Slow, now) {
            let SlowIo { session, itt, bytes, untold, .. } = *slow;
            let lun = slow.number.map(|number| number.0);
            let (queue_us, receive_us) = (us(slow.queue_ns), us(slow.receive_ns));
            let (device_us, send_us) = (us(slow.device_ns), us(slow.send_ns));
            tracing::warn!(
                session = session.0,
                initiator,
                target,
                lun,
                bdev,
                itt,
                command = name,
                lba,
                blocks,
                bytes,
                status = slow.status,
                us = us(slow.ns()),
                queue_us,
                receive_us,
                device_us,
                send_us,
                untold,
                "slow IO"
            );
        }
    }

    /// What a reactor tells. `session` is the one the event names, if it is known still; `bdev`, the block device of its unit.
    pub(super) fn event(&mut self, event: Event, session: Option<&Session>, bdev: Option<&str>, now: Tick) {
        let bdev = bdev.unwrap_or(UNKNOWN);
        if let Event::Slow(slow) = event {
            return self.slow(&slow, session, bdev, now);
        }
        self.event_fact(event, session, bdev, now);
        let kind = match event {
            // Told by `session_down`.
            Event::Closed { .. } | Event::Slow(_) => return,
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
            Event::Closed { .. } | Event::Slow(_) => {}
            Event::Rejected { session, reason } => {
                tracing::warn!(session = session.0, peer, initiator, reason, "PDU rejected");
            }
            Event::Tmf { session, function, response } => {
                tracing::info!(session = session.0, peer, initiator, function, response, "task management");
            }
            Event::DeviceError { unit, error } => {
                tracing::error!(unit = unit.0, bdev, ?error, "device error");
            }
            Event::Lost { count } => tracing::warn!(count, "events were lost: more came than can be told"),
        }
    }

    fn event_fact(&self, event: Event, session: Option<&Session>, bdev: &str, now: Tick) {
        let initiator = session.map_or(UNKNOWN, |session| session.nexus.initiator.as_str());
        let (kind, fields): (_, Vec<(_, Value)>) = match event {
            Event::Closed { .. } | Event::Slow(_) => return,
            Event::Rejected { session, reason } => (
                "pdu_rejected",
                vec![
                    ("session", session.0.into()),
                    ("initiator", initiator.into()),
                    ("reason", u64::from(reason).into()),
                ],
            ),
            Event::Tmf { session, function, response } => (
                "task_management",
                vec![
                    ("session", session.0.into()),
                    ("initiator", initiator.into()),
                    ("function", u64::from(function).into()),
                    ("response", u64::from(response).into()),
                ],
            ),
            Event::DeviceError { error, .. } => {
                ("device_error", vec![("bdev", bdev.into()), ("error", format!("{error:?}").into())])
            }
            Event::Lost { count } => ("events_lost", vec![("count", count.into())]),
        };
        self.feed.push(now, kind, fields);
    }

    /// A device keeps writes that were given up, or has given them back.
    pub(super) fn unsettled(&mut self, bdev: &str, is_so: bool, now: Tick) {
        self.feed.push(now, "device_unsettled", vec![("bdev", bdev.into()), ("is_so", is_so.into())]);
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

    /// A threshold is met that an initiator may have set a moment ago.
    pub(super) fn threshold_met(&mut self, bdev: &str, resources: &dyn Debug, now: Tick) {
        if self.allow(Kind::Threshold, now) {
            tracing::warn!(bdev, ?resources, "a soft threshold of its space is met: initiators are told");
        }
    }

    /// A device has not erased itself, which an initiator may ask for again and again.
    pub(super) fn not_erased(&mut self, bdev: Option<&str>, why: &str, now: Tick) {
        if self.allow(Kind::NotErased, now) {
            tracing::error!(bdev, why, "a SANITIZE has failed: its disk has not erased itself");
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

/// Whose session it is.
fn who(id: SessionId, session: &Session, peer: SocketAddr) -> Vec<(&'static str, Value)> {
    vec![
        ("session", id.0.into()),
        ("initiator", session.nexus.initiator.as_str().into()),
        ("target", session.nexus.target.as_str().into()),
        ("peer", peer.to_string().into()),
    ]
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
