//! A discovery session (RFC 7143 §4.3, appendix C), on the control thread: SendTargets, NOP-Out and Logout.
//!
//! Everything else is rejected. It has one connection and error recovery level 0: what is out of order or damaged
//! closes it. Silence is for control to end.

#[cfg(test)]
mod tests;

use super::frames::{self, Frame, FrameError, Frames};
use super::login::{Authority, Established, Which, iscsi_name};
use super::negotiate::{TextOffence, answer_discovery_keys};
use super::params::Params;
use super::send_targets;
use super::sn::Sn;
use super::text::{self, Inbox, Outbox};
use super::wire::{
    Bhs, LogoutRequest, LogoutResponse, NopIn, NopOut, Reject, Request, TAG_NONE, TextRequest, TextResponse,
    stamp,
};
use crate::scsi::view::TargetView;

/// What control does next. Whatever it is, [`Discovery::outgoing`] may hold bytes to write first.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Go on: write, and read while [`Discovery::wants_input`].
    More,
    /// Read no more; write what is outgoing and close.
    Finished,
    /// Close.
    Closed(Why),
}

/// Why a discovery session was closed on the initiator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// A digest was wrong.
    Digest,
    /// A PDU is longer than we declared to take, or has additional header segments; the bytes concerned.
    TooLong(u32),
    /// A CmdSN ahead of its turn: a command was lost.
    CommandLost,
}

/// The initiator does not get more than this ahead of it.
const OUTGOING_BYTES_MAX: usize = 64 * 1024;
/// One PDU's data, at most, whatever the initiator would take.
const SEGMENT_BYTES_MAX: u32 = 64 * 1024;
/// The only target transfer tag there is: there is one exchange of text at a time.
const TEXT_TAG: u32 = 1;

/// Reject reasons (RFC 7143 §11.17.1).
const PROTOCOL_ERROR: u8 = 0x04;
const COMMAND_NOT_SUPPORTED: u8 = 0x05;

/// A discovery session.
#[derive(Debug)]
pub struct Discovery {
    initiator: String,
    cid: u16,
    params: Params,
    window: u32,
    stat_sn: Sn,
    exp_cmd_sn: Sn,
    frames: Frames,
    outgoing: Vec<u8>,
    /// The initiator task tag of the exchange of text that is not over.
    text_itt: Option<u32>,
    inbox: Inbox,
    outbox: Outbox,
    outcome: Progress,
}

impl Discovery {
    /// Goes on where a login ended. Call [`Discovery::received`] with no bytes at once, for what login left over.
    pub fn new(established: Established) -> Discovery {
        let Established { initiator, cid, params, granted, stat_sn, exp_cmd_sn, leftover, .. } = established;
        Discovery {
            initiator,
            cid,
            params,
            window: granted.window,
            stat_sn,
            exp_cmd_sn,
            frames: Frames::new(leftover, params.header_digest, params.data_digest),
            outgoing: Vec::new(),
            text_itt: None,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            outcome: Progress::More,
        }
    }

    /// Takes bytes from the initiator. Requests wait while it does not take its answers: after [`Discovery::sent`] has
    /// made [`Discovery::wants_input`] true again, call this once more, with no bytes if there are none.
    pub fn received(&mut self, bytes: &[u8], authority: &dyn Authority) -> Progress {
        if self.outcome == Progress::More {
            self.frames.push(bytes);
        }
        while self.outcome == Progress::More && self.wants_input() {
            match self.frames.next(self.params.recv_segment_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => self.request(&frame, authority),
                Err(FrameError::HeaderDigest | FrameError::DataDigest) => {
                    self.outcome = Progress::Closed(Why::Digest);
                }
                Err(FrameError::TooLong(bytes)) => self.outcome = Progress::Closed(Why::TooLong(bytes)),
            }
        }
        self.outcome
    }

    /// Bytes for the initiator.
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The first `bytes` of [`Discovery::outgoing`] have been written.
    pub fn sent(&mut self, bytes: usize) {
        self.outgoing.drain(..bytes.min(self.outgoing.len()));
    }

    /// Whether to read: not while the initiator does not take its answers.
    pub fn wants_input(&self) -> bool {
        self.outgoing.len() < OUTGOING_BYTES_MAX
    }

    fn request(&mut self, frame: &Frame, authority: &dyn Authority) {
        let request = Request::parse(&frame.bhs);
        if let Some((cmd_sn, immediate)) = numbered(&request)
            && !self.is_due(cmd_sn, immediate)
        {
            return;
        }
        match request {
            Request::Text(text) => self.text(&text, frame, authority),
            Request::NopOut(nop) => self.nop(&nop, &frame.data),
            Request::Logout(logout) => self.logout(&logout),
            // RFC 7143 §4.3: everything else is to be rejected.
            Request::ScsiCommand(_)
            | Request::Tmf(_)
            | Request::Login(_)
            | Request::DataOut(_)
            | Request::Snack(_) => self.reject(PROTOCOL_ERROR, &frame.bhs),
            Request::Unknown(_) => self.reject(COMMAND_NOT_SUPPORTED, &frame.bhs),
        }
    }

    /// Whether a command's turn has come; it counts if so. One that came before or is outside of the window is ignored
    /// (RFC 7143 §4.2.2.1). With one connection nothing can fill a gap.
    fn is_due(&mut self, cmd_sn: Sn, immediate: bool) -> bool {
        if immediate {
            return true;
        }
        match cmd_sn.steps_from(self.exp_cmd_sn) {
            Some(0) => {
                self.exp_cmd_sn = self.exp_cmd_sn.plus(1);
                true
            }
            Some(ahead) if ahead < self.window => {
                self.outcome = Progress::Closed(Why::CommandLost);
                false
            }
            _ => false,
        }
    }

    fn text(&mut self, request: &TextRequest, frame: &Frame, authority: &dyn Authority) {
        let is_new = request.ttt == TAG_NONE;
        if is_new {
            // RFC 7143 §11.10.4: this abandons an exchange that was not over.
            (self.inbox, self.outbox) = (Inbox::default(), Outbox::default());
            self.text_itt = Some(request.itt);
        }
        if self.text_itt != Some(request.itt)
            || !(is_new || request.ttt == TEXT_TAG)
            || request.itt == TAG_NONE
            || (request.is_final && request.is_continued)
        {
            return self.refuse_text(&frame.bhs);
        }
        if self.outbox.is_empty() {
            match self.inbox.push(&frame.data, request.is_continued) {
                Ok(None) => {}
                Ok(Some(text)) => match self.answer(&text, authority) {
                    Ok(answer) => *self.outbox.text() = answer,
                    Err(_) => return self.refuse_text(&frame.bhs),
                },
                Err(_) => return self.refuse_text(&frame.bhs),
            }
        } else if !frame.data.is_empty() || request.is_continued {
            // RFC 7143 §6.2: while our answer has the C bit, the other side sends empty requests.
            return self.refuse_text(&frame.bhs);
        }
        let bytes_max = self.params.send_segment_bytes_max.min(SEGMENT_BYTES_MAX) as usize;
        let data = self.outbox.take(bytes_max).to_vec();
        let is_continued = !self.outbox.is_empty();
        let is_final = request.is_final && !is_continued;
        if is_final {
            self.text_itt = None;
        }
        let response = TextResponse {
            is_final,
            is_continued,
            lun: [0; 8],
            itt: request.itt,
            ttt: if is_final { TAG_NONE } else { TEXT_TAG },
        };
        self.send(response.encode(), &data);
    }

    /// The answer to a complete text.
    fn answer(&mut self, text: &[u8], authority: &dyn Authority) -> Result<Vec<u8>, TextOffence> {
        let initiator = &self.initiator;
        answer_discovery_keys(text, &mut self.params, |value, out| {
            let mut each = |target: &TargetView| send_targets::render(target, out);
            match (value, iscsi_name(value)) {
                ("All", _) => authority.send_targets(initiator, Which::All, &mut each),
                (_, Some(name)) => authority.send_targets(initiator, Which::Name(&name), &mut each),
                // RFC 7143 appendix C: the session's own target, of which there is none here.
                (_, None) => text::push(out, "SendTargets", "Reject"),
            }
        })
    }

    fn refuse_text(&mut self, bhs: &Bhs) {
        (self.inbox, self.outbox) = (Inbox::default(), Outbox::default());
        self.text_itt = None;
        self.reject(PROTOCOL_ERROR, bhs);
    }

    fn nop(&mut self, request: &NopOut, data: &[u8]) {
        // RFC 7143 §11.18: without a task tag it wants no answer.
        if request.itt == TAG_NONE {
            return;
        }
        let most = data.len().min(self.params.send_segment_bytes_max as usize);
        let response = NopIn { lun: request.lun, itt: request.itt, ttt: TAG_NONE };
        self.send(response.encode(), &data[..most]);
    }

    fn logout(&mut self, request: &LogoutRequest) {
        // RFC 7143 §11.15.1.
        let response = match request.reason {
            0 => 0,
            1 if request.cid == self.cid => 0,
            1 => 1,
            _ => 2,
        };
        let Params { time2wait, time2retain, .. } = self.params;
        let pdu = LogoutResponse { itt: request.itt, response, time2wait, time2retain };
        self.send(pdu.encode(), &[]);
        if response == 0 {
            self.outcome = Progress::Finished;
        }
    }

    fn reject(&mut self, reason: u8, bhs: &Bhs) {
        self.send(Reject { reason }.encode(), &bhs.0);
    }

    fn send(&mut self, mut bhs: Bhs, data: &[u8]) {
        let max_cmd_sn = self.exp_cmd_sn.plus(self.window).previous();
        stamp(&mut bhs, Some(self.stat_sn), self.exp_cmd_sn, max_cmd_sn);
        self.stat_sn = self.stat_sn.plus(1);
        frames::write(&mut self.outgoing, bhs, data, self.params.header_digest, self.params.data_digest);
    }
}

/// CmdSN and the I bit of a request that has them.
const fn numbered(request: &Request) -> Option<(Sn, bool)> {
    match request {
        Request::NopOut(request) => Some((request.cmd_sn, request.immediate)),
        Request::ScsiCommand(request) => Some((request.cmd_sn, request.immediate)),
        Request::Tmf(request) => Some((request.cmd_sn, request.immediate)),
        Request::Text(request) => Some((request.cmd_sn, request.immediate)),
        Request::Logout(request) => Some((request.cmd_sn, request.immediate)),
        Request::Login(_) | Request::DataOut(_) | Request::Snack(_) | Request::Unknown(_) => None,
    }
}
