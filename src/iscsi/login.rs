//! Login (RFC 7143 §6.3, §11.12, §11.13): from the first byte of a connection to full feature phase.
//!
//! Sans-IO and on the control thread: it may allocate, bounded in bytes and requests; deadlines are control's. The
//! stage a login is in is a type that owns what was established so far, and only what a stage returns leads to the
//! next: what the initiator claims to have reached counts for nothing.

mod authority;
mod names;
mod refusal;
mod security;
mod stages;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use authority::{Access, Authority, Claim, Granted, Joined, TargetAccess, Which};
pub use names::iscsi_name;
use names::{Asked, Names};
pub use refusal::{Refusal, Why};
use security::{Proven, Security};

use super::frames::Frames;
use super::negotiate::{LOGIN_SEGMENT_BYTES_MAX, Negotiation, Offence};
use super::params::Params;
use super::sn::Sn;
use super::text::{self, Inbox, Outbox, TextError};
use super::wire::LoginRequest;
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
    /// ExpStatSN of the first request: that of the connection which this one replaces (RFC 7143 §11.12.9).
    pub exp_stat_sn: Sn,
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

const OPCODE_LOGIN: u8 = 0x03;

/// A login in progress.
#[derive(Debug)]
pub struct Login {
    frames: Frames,
    outgoing: Vec<u8>,
    stat_sn: Sn,
    /// The first request's header: what must not change, and what answers are addressed to.
    first: Option<LoginRequest>,
    /// Of the latest request that was in order; on the wire.
    current_stage: u8,
    requests: u32,
    inbox: Inbox,
    outbox: Outbox,
    stage: Stage,
    asked: Option<Asked>,
    outcome: Progress,
}

/// What has been established so far.
#[derive(Debug)]
enum Stage {
    /// Nothing: the first request is not complete.
    Opening,
    /// Who wants what, and whether it may.
    Negotiating(Box<Opened>, Gate),
    /// The final response is made.
    Established(Box<Established>),
    /// Over.
    Failed,
}

/// Between the stages of negotiation.
#[derive(Debug)]
enum Gate {
    /// The security stage: it has yet to be shown that the initiator may go on.
    Closed(Security),
    /// The operational stage, with the evidence.
    Open(Proven),
}

/// What the first request led to.
#[derive(Debug)]
struct Opened {
    names: Names,
    initiator: String,
    target: Option<Arc<TargetView>>,
    negotiation: Negotiation,
}

/// How a login ends without success.
#[derive(Debug)]
enum End {
    Refuse(Refusal, Why),
    Close(Why),
}

/// What control says.
impl From<Refusal> for End {
    fn from(refusal: Refusal) -> End {
        End::Refuse(refusal.clone(), Why::Authority(refusal))
    }
}

impl From<TextError> for End {
    fn from(error: TextError) -> End {
        End::Refuse(Refusal::InitiatorError, Why::Text(error))
    }
}

impl From<Offence<'_>> for End {
    fn from(offence: Offence<'_>) -> End {
        let why = match offence {
            Offence::Repeated(key) => Why::Repeated(key.to_owned()),
            Offence::Required(key) => Why::Value(key.to_owned()),
        };
        End::Refuse(Refusal::InitiatorError, why)
    }
}

impl Login {
    /// A connection of which no byte has been read. `stat_sn` is that of the first response.
    pub fn new(stat_sn: Sn) -> Login {
        Login {
            frames: Frames::default(),
            outgoing: Vec::new(),
            stat_sn,
            first: None,
            current_stage: 0,
            requests: 0,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            stage: Stage::Opening,
            asked: None,
            outcome: Progress::More,
        }
    }

    /// Takes bytes from the initiator, as many as came. To be called while it says [`Progress::More`]; after that it
    /// ignores the bytes and repeats what it said.
    pub fn received(&mut self, bytes: &[u8], authority: &mut dyn Authority) -> Progress {
        if self.outcome == Progress::More {
            self.frames.push(bytes);
        }
        while self.outcome == Progress::More {
            match self.request(authority) {
                Ok(true) => {}
                Ok(false) => break,
                Err(end) => self.end(end),
            }
        }
        self.outcome.clone()
    }

    /// Bytes for the initiator.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The first `bytes` of [`Login::outgoing`] have been written.
    pub fn sent(&mut self, bytes: usize) {
        self.outgoing.drain(..bytes.min(self.outgoing.len()));
    }

    /// The initiator's name, lower case, once it has told it; for the log.
    pub fn initiator(&self) -> Option<&str> {
        self.asked.as_ref().map(|asked| asked.initiator.as_str())
    }

    /// The name of the target that it wants, lower case; none in a discovery session; for the log.
    pub fn target(&self) -> Option<&str> {
        self.asked.as_ref()?.target.as_deref()
    }

    /// What [`Authority::claim`] granted, if it was reached: to be taken back where the connection breaks.
    pub fn granted(&self) -> Option<&Granted> {
        match &self.stage {
            Stage::Established(established) => Some(&established.granted),
            _ => None,
        }
    }

    /// The outcome.
    ///
    /// # Errors
    /// The login itself where it has not succeeded or the final response has not been written to the end.
    pub fn into_established(self) -> Result<Established, Box<Login>> {
        match self.stage {
            Stage::Established(established) if self.outgoing.is_empty() => Ok(*established),
            stage => Err(Box::new(Login { stage, ..self })),
        }
    }

    /// Handles the next request; says whether there was one.
    fn request(&mut self, authority: &mut dyn Authority) -> Result<bool, End> {
        let Some(bhs) = self.frames.header() else { return Ok(false) };
        // RFC 7143 §6.3: another PDU closes the connection; once login has begun it is told so.
        if bhs.opcode() != OPCODE_LOGIN {
            return Err(match self.first {
                None => End::Close(Why::NotLogin(bhs.opcode())),
                Some(_) => End::Refuse(Refusal::InvalidDuringLogin, Why::OtherRequest(bhs.opcode())),
            });
        }
        let request = LoginRequest::parse(&bhs);
        let first = *self.first.get_or_insert(request);
        let frame = self
            .frames
            .next(LOGIN_SEGMENT_BYTES_MAX)
            .map_err(|_| initiator_error(Why::TooLong(bhs.data_bytes())))?;
        let Some(frame) = frame else { return Ok(false) };
        self.requests += 1;
        self.check(&first, &request, bhs.0[1])?;
        self.current_stage = request.current_stage;
        if !self.outbox.is_empty() {
            // RFC 7143 §6.2: while our answer has the C bit, the other side sends empty requests.
            if !frame.data.is_empty() || request.is_continued {
                return Err(initiator_error(Why::Interrupted));
            }
        } else if let Some(text) = self.inbox.push(&frame.data, request.is_continued)? {
            let keys = text::pairs(&text).collect::<Result<Vec<_>, _>>()?;
            self.keys(&request, &keys, authority)?;
        }
        self.answer(&first, &request, authority)?;
        Ok(true)
    }
}

const fn initiator_error(why: Why) -> End {
    End::Refuse(Refusal::InitiatorError, why)
}
