//! Login (RFC 7143 §6.3, §11.12, §11.13): from the first byte of a connection to full feature phase.
//!
//! Sans-IO and on the control thread: it may allocate, bounded in bytes and requests; deadlines are control's. The
//! stage a login is in is a type that owns what was established so far, and only what a stage returns leads to the
//! next: what the initiator claims to have reached counts for nothing.

mod authority;
mod refusal;

use std::sync::Arc;

pub use authority::{Access, Authority, Claim, Granted, Joined, TargetAccess, Which};
pub use refusal::{Refusal, Why};

use crate::iscsi::params::Params;
use crate::iscsi::sn::Sn;
use crate::scsi::view::TargetView;

/// How an initiator proved who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proof {
    /// Not at all; it was not required.
    None,
    /// By CHAP.
    Chap {
        /// CHAP_N.
        user: String,
        /// We proved ourselves too.
        is_mutual: bool,
    },
}

/// A connection in full feature phase.
#[derive(Debug)]
pub struct Established {
    /// The initiator's name, lower case.
    pub initiator: String,
    /// InitiatorAlias.
    pub alias: Option<String>,
    /// ISID.
    pub isid: [u8; 6],
    /// Connection ID.
    pub cid: u16,
    /// None for a discovery session.
    pub target: Option<Arc<TargetView>>,
    /// What was negotiated.
    pub params: Params,
    /// How the initiator proved who it is.
    pub proof: Proof,
    /// The session, as [`Authority::claim`] gave it.
    pub granted: Granted,
    /// StatSN of the next response.
    pub stat_sn: Sn,
    /// CmdSN of the next command; MaxCmdSN was told to be this + `granted.window` - 1.
    pub exp_cmd_sn: Sn,
    /// Bytes that came after the last login request.
    pub leftover: Vec<u8>,
}

/// What control does next. Whatever it is, [`Login::outgoing`] may hold bytes to write first.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Go on reading.
    More,
    /// Read no more; write what is outgoing, then call [`Login::into_established`].
    Established,
    /// Read no more; write what is outgoing, which tells the initiator a status, and close.
    Refused(Why),
    /// Close; the peer is told nothing.
    Closed(Why),
}

/// A login in progress.
#[derive(Debug)]
pub struct Login {}

impl Login {
    /// A connection of which no byte has been read. `stat_sn` is that of the first response.
    pub fn new(stat_sn: Sn) -> Login {
        let _ = stat_sn;
        Login {}
    }

    /// Takes bytes from the initiator, as many as came. To be called while it says [`Progress::More`]; after that it
    /// repeats what it said.
    pub fn received(&mut self, bytes: &[u8], authority: &mut dyn Authority) -> Progress {
        let _ = (bytes, authority);
        Progress::More
    }

    /// Bytes for the initiator.
    pub fn outgoing(&self) -> &[u8] {
        &[]
    }

    /// The first `bytes` of [`Login::outgoing`] have been written.
    pub fn sent(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// The initiator's name, lower case, once it has told it; for the log.
    pub fn initiator(&self) -> Option<&str> {
        None
    }

    /// What [`Authority::claim`] granted, if it was reached: to be taken back where the connection breaks.
    pub fn granted(&self) -> Option<&Granted> {
        None
    }

    /// The outcome.
    ///
    /// # Errors
    /// The login itself where it has not succeeded or the final response has not been written to the end.
    pub fn into_established(self) -> Result<Established, Box<Login>> {
        Err(Box::new(self))
    }
}
