//! A connection that control serves itself: a login, or a discovery session. Its bytes, its deadline, its end.

use std::io::{IoSlice, IoSliceMut};

use super::Origin;
use super::desk::{Desk, Grant};
use crate::iscsi::discovery::{self, Discovery};
use crate::iscsi::login::{self, Established, Login};
use crate::iscsi::sn::Sn;
use crate::limits::{DISCOVERY_IDLE_NS, LOGIN_NS, LOGIN_TURN_BYTES, REFUSED_NS};
use crate::net::{Net, Readiness, Rx, Tx};
use crate::time::Tick;

/// Why a connection is closed, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// The peer closed it or it broke.
    PeerGone,
    /// It took too long.
    TooLate,
    /// There are too many of them.
    Evicted,
    /// The nexus's next session is faster.
    Superseded,
    /// The target was removed while the login was on its way.
    TargetGone,
    /// Answered with a status.
    Refused(login::Why),
    /// Closed on the peer.
    Login(login::Why),
    /// Closed on the peer.
    Discovery(discovery::Why),
    /// A discovery session that logged out.
    LoggedOut,
    /// The daemon stops.
    Stopping,
}

/// What the connection is at.
#[derive(Debug)]
pub(super) enum Stage {
    /// Logging in.
    Login(Login),
    /// Logged in; its reactor gets it once the nexus's former session has ended. It is not read from.
    Waiting(Box<Established>),
    /// A discovery session.
    Discovery(Discovery),
    /// None of these any more: it is being passed on.
    Over,
}

/// What comes once everything outgoing is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Full feature phase.
    Established,
    /// The end.
    Close(Cause),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Entrance<S> {
    pub(super) sock: S,
    pub(super) origin: Origin,
    pub(super) since: Tick,
    pub(super) stage: Stage,
    pub(super) deadline: Tick,
    pub(super) grant: Option<Grant>,
    /// As told by the initiator of a discovery session; a login knows its own.
    pub(super) discoverer: String,
    /// The ISID of a discovery session.
    pub(super) isid: [u8; 6],
    ending: Option<Ending>,
    is_readable: bool,
    is_writable: bool,
}

impl<S: Copy> Entrance<S> {
    /// A connection of which nothing was read. `stat_sn` is that of the first response.
    pub(super) fn new(sock: S, origin: Origin, stat_sn: Sn, now: Tick) -> Entrance<S> {
        Entrance {
            sock,
            origin,
            since: now,
            stage: Stage::Login(Login::new(stat_sn)),
            deadline: now.after_ns(LOGIN_NS),
            grant: None,
            discoverer: String::new(),
            isid: [0; 6],
            ending: None,
            is_readable: true,
            is_writable: true,
        }
    }

    /// It goes on as a discovery session.
    pub(super) fn discover(&mut self, established: Established, desk: &mut Desk<'_>, now: Tick) {
        self.discoverer.clone_from(&established.initiator);
        self.isid = established.isid;
        self.stage = Stage::Discovery(Discovery::new(established));
        self.ending = None;
        self.deadline = now.after_ns(DISCOVERY_IDLE_NS);
        // What login left over.
        self.received(&[], desk, now);
    }

    /// Who the initiator says it is.
    pub(super) fn initiator(&self) -> Option<&str> {
        match &self.stage {
            Stage::Login(login) => login.initiator(),
            Stage::Waiting(established) => Some(&established.initiator),
            Stage::Discovery(_) => Some(&self.discoverer),
            Stage::Over => None,
        }
    }

    pub(super) fn is_discovery(&self) -> bool {
        matches!(self.stage, Stage::Discovery(_))
    }

    /// Whether it is the discovery session that one more of this initiator port at this place takes the place of (RFC 7143 §7.4.2.1).
    pub(super) fn is_reinstated_by(&self, established: &Established, origin: &Origin) -> bool {
        self.is_discovery()
            && (&self.discoverer, self.isid) == (&established.initiator, established.isid)
            && self.origin.local == origin.local
    }

    pub(super) fn readiness(&mut self, readiness: Readiness) {
        self.is_readable |= readiness.readable;
        self.is_writable |= readiness.writable;
    }

    /// Whether [`Entrance::serve`] would have something to do.
    pub(super) fn is_due(&self) -> bool {
        if matches!(self.stage, Stage::Waiting(_) | Stage::Over) {
            return false;
        }
        let has_output = !self.outgoing().is_empty();
        (has_output && self.is_writable) || (!has_output && self.ending.is_some()) || self.wants_input()
    }

    /// Writes and reads, bounded; says how it ends, if it does.
    pub(super) fn serve<N: Net<Sock = S>>(
        &mut self,
        net: &mut N,
        scratch: &mut [u8],
        desk: &mut Desk<'_>,
        now: Tick,
    ) -> Option<Ending> {
        let mut budget = LOGIN_TURN_BYTES;
        loop {
            if let Err(cause) = self.write(net) {
                return Some(Ending::Close(cause));
            }
            if self.outgoing().is_empty()
                && let Some(ending) = self.ending.clone()
            {
                return Some(ending);
            }
            if !self.wants_input() || budget == 0 {
                return None;
            }
            let room = budget.min(scratch.len());
            match net.recv(self.sock, &mut [IoSliceMut::new(&mut scratch[..room])]) {
                Rx::Received { bytes, drained } => {
                    self.is_readable = !drained;
                    budget -= bytes;
                    self.received(&scratch[..bytes], desk, now);
                }
                Rx::WouldBlock => self.is_readable = false,
                Rx::Closed | Rx::Broken => return Some(Ending::Close(Cause::PeerGone)),
            }
        }
    }

    /// Before a refused connection is closed: what the peer has sent already is taken and dropped, as closing with
    /// unread bytes would reset the connection, and a reset can overtake the answer.
    pub(super) fn discard_input<N: Net<Sock = S>>(&self, net: &mut N, scratch: &mut [u8]) {
        let mut budget = LOGIN_TURN_BYTES;
        while budget > 0 {
            let room = budget.min(scratch.len());
            match net.recv(self.sock, &mut [IoSliceMut::new(&mut scratch[..room])]) {
                Rx::Received { bytes, .. } => budget -= bytes,
                Rx::WouldBlock | Rx::Closed | Rx::Broken => return,
            }
        }
    }

    fn outgoing(&self) -> &[u8] {
        match &self.stage {
            Stage::Login(login) => login.outgoing(),
            Stage::Waiting(_) | Stage::Over => &[],
            Stage::Discovery(discovery) => discovery.outgoing(),
        }
    }

    /// A login answers each request before it takes the next; a discovery session knows itself.
    fn wants_input(&self) -> bool {
        let wants = match &self.stage {
            Stage::Login(login) => login.outgoing().is_empty(),
            Stage::Waiting(_) | Stage::Over => false,
            Stage::Discovery(discovery) => discovery.wants_input(),
        };
        wants && self.is_readable && self.ending.is_none()
    }

    fn write<N: Net<Sock = S>>(&mut self, net: &mut N) -> Result<(), Cause> {
        while self.is_writable && !self.outgoing().is_empty() {
            match net.send(self.sock, &[IoSlice::new(self.outgoing())]) {
                Tx::Sent(bytes) => match &mut self.stage {
                    Stage::Login(login) => login.sent(bytes),
                    Stage::Waiting(_) | Stage::Over => {}
                    Stage::Discovery(discovery) => discovery.sent(bytes),
                },
                Tx::WouldBlock => self.is_writable = false,
                Tx::Broken => return Err(Cause::PeerGone),
            }
        }
        Ok(())
    }

    fn received(&mut self, bytes: &[u8], desk: &mut Desk<'_>, now: Tick) {
        match &mut self.stage {
            Stage::Login(login) => match login.received(bytes, desk) {
                login::Progress::More => {}
                login::Progress::Established => self.ending = Some(Ending::Established),
                login::Progress::Refused(why) => self.finish(Cause::Refused(why), now),
                login::Progress::Closed(why) => self.finish(Cause::Login(why), now),
            },
            Stage::Waiting(_) | Stage::Over => {}
            Stage::Discovery(discovery) => {
                self.deadline = now.after_ns(DISCOVERY_IDLE_NS);
                match discovery.received(bytes, desk) {
                    discovery::Progress::More => {}
                    discovery::Progress::Finished => self.finish(Cause::LoggedOut, now),
                    discovery::Progress::Closed(why) => self.finish(Cause::Discovery(why), now),
                }
            }
        }
    }

    fn finish(&mut self, cause: Cause, now: Tick) {
        self.ending = Some(Ending::Close(cause));
        self.deadline = self.deadline.min(now.after_ns(REFUSED_NS));
    }
}
