//! Questions to reactors, and recordings that they hand out when something goes wrong.

use std::net::SocketAddr;
#[cfg(feature = "metrics")]
use std::sync::Arc;
use std::sync::mpsc;

use super::Control;
use super::feed::Feed;
use super::sessions::Session;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::iscsi::conn::TmfFunction;
use crate::iscsi::recorder::Recorder;
use crate::net::Net;
use crate::reactor::look::{Look, Question, Recording, Why};
use crate::reactor::message::ToReactor;
use crate::time::Tick;

/// Between whom a connection is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parties {
    /// The initiator's name.
    pub initiator: String,
    /// The target's name.
    pub target: String,
    /// The initiator's end.
    pub peer: SocketAddr,
    /// The end here.
    pub local: SocketAddr,
}

impl Parties {
    fn of(session: &Session, cid: u16) -> Parties {
        let link = session.links.iter().find(|link| link.cid == cid);
        let origin = link.map_or(session.origin, |link| link.origin);
        let nexus = &session.nexus;
        Parties {
            initiator: nexus.initiator.clone(),
            target: nexus.target.clone(),
            peer: origin.peer,
            local: origin.local,
        }
    }
}

/// A recording that was handed out unasked.
#[derive(Debug)]
pub struct HandedOut {
    /// By whom: it wants another empty recorder, by [`Control::spare_recorder`], before it hands out the next.
    pub reactor: ReactorId,
    /// What it is.
    pub recording: Recording,
    /// Between whom the connection is.
    pub parties: Parties,
    /// What has gone wrong, in words.
    pub why: String,
    /// When.
    pub at: Tick,
}

impl<N: Net> Control<N> {
    /// What has happened, for listeners.
    pub fn feed(&self) -> Feed {
        self.log.feed()
    }

    /// Asks a reactor. One that has stopped does not answer: the question is dropped.
    pub fn ask_reactor(&mut self, reactor: ReactorId, look: Look, then: impl FnOnce(Look) + Send + 'static) {
        self.outbox.send(reactor, ToReactor::Look(Box::new(Question::new(look, then))));
    }

    /// The name of a logical unit's block device.
    pub fn bdev_of(&self, unit: UnitId) -> Option<String> {
        self.catalog.registry.entry_of(unit).map(|entry| entry.name.clone())
    }

    /// Between whom a session's connection is; none where the session is gone.
    pub fn parties(&self, session: SessionId, cid: u16) -> Option<Parties> {
        Some(Parties::of(self.sessions.get(session)?, cid))
    }

    /// From now on what connections have recorded is sent there when something goes wrong on them, one at a time from each reactor;
    /// none: nothing is any more.
    pub fn hand_out_recordings(&mut self, to: Option<mpsc::Sender<HandedOut>>) {
        let had_none = self.recordings.is_none();
        self.recordings = to;
        if had_none && self.recordings.is_some() {
            // A reactor that has one still from before drops the old one.
            self.outbox.broadcast(|| ToReactor::Spare(Recorder::new()));
        }
    }

    /// A reactor may hand out another recording.
    pub fn spare_recorder(&mut self, reactor: ReactorId) {
        if self.recordings.is_some() {
            self.outbox.send(reactor, ToReactor::Spare(Recorder::new()));
        }
    }

    /// A reactor has handed out a recording.
    pub(super) fn handed_out(&mut self, reactor: ReactorId, recording: Recording, why: Why, now: Tick) {
        let Some(session) = self.sessions.get(recording.session) else {
            // Between whom it was is not known any more: the next one may be of more use.
            return self.spare_recorder(reactor);
        };
        let parties = Parties::of(session, recording.cid);
        let why = words(why);
        self.log.recorded(recording.session, recording.cid, &parties, &why, now);
        if let Some(to) = &self.recordings {
            // Where nobody takes them any more they are dropped.
            let _ = to.send(HandedOut { reactor, recording, parties, why, at: now });
        }
    }

    /// From now on commands that take so long are told as slow; none: no command is.
    pub fn set_slow_io(&mut self, threshold_ns: Option<u64>) {
        self.slow_ns = threshold_ns;
        let threshold_ns = threshold_ns.unwrap_or(u64::MAX);
        self.outbox.broadcast(|| ToReactor::SlowIo { threshold_ns });
    }

    /// Where the status page is: units that are made from now on tell it (VPD 85h).
    #[cfg(feature = "metrics")]
    pub fn set_status_url(&mut self, url: Option<String>) {
        self.catalog.registry.status_url = url.map(Arc::from);
    }

    /// What takes so many nanoseconds is told as slow.
    pub fn slow_io(&self) -> Option<u64> {
        self.slow_ns
    }
}

fn words(why: Why) -> String {
    match why {
        Why::Closed(cause) => format!("closed: {cause:?}"),
        Why::Aborted { function } => {
            format!("the initiator asked for {:?}", TmfFunction::from_code(function))
        }
    }
}
