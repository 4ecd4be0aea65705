//! Requests that are no SCSI commands: NOP-Out, Text, Logout; and what we tell unasked.

use super::deframe::To;
use super::{Conn, Cx, Life, OtherLogout, Request};
use crate::buf::Buf;
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::negotiate;
use crate::iscsi::tx::{StatSn, TxItem};
use crate::iscsi::wire::{
    AsyncMessage, Bhs, LogoutRequest, LogoutResponse, NopIn, NopOut, TAG_NONE, TextRequest, TextResponse,
};
use crate::limits;
use crate::scsi::sense::Sense;
use crate::scsi::view::LunNumber;

/// A text negotiation that takes more than one PDU either way; there is one at a time (RFC 7143 §11.10).
#[derive(Debug, Default)]
pub(super) struct TextExchange {
    /// What has come with the C bit.
    input: Option<(Buf, usize)>,
    /// What is left to be sent: the buffer, and from where.
    output: Option<(Buf, usize)>,
    /// The initiator was given the tag to go on with: its own tag for it.
    open: Option<u32>,
}

impl TextExchange {
    /// Whether it goes on under this initiator task tag.
    pub(super) fn is_of(&self, itt: u32) -> bool {
        self.open == Some(itt)
    }
}

/// Logout responses (RFC 7143 §11.15.1).
const LOGOUT_DONE: u8 = 0;
const LOGOUT_NO_CID: u8 = 1;
const LOGOUT_NO_RECOVERY: u8 = 2;

/// Target transfer tag of a text exchange that goes on; there is one at a time.
const TEXT_TTT: u32 = 1;

impl Conn {
    /// RFC 7143 §11.18.
    pub(super) fn nop_out(
        &mut self,
        nop: &NopOut,
        bhs: &Bhs,
        data: To,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        if nop.itt == TAG_NONE {
            return Ok(self.terminated(nop, cx).then_some(Request::Terminated));
        }
        if !cx.session.take_cmd_sn(nop.immediate, nop.cmd_sn, cx.tasks) {
            return Ok(None);
        }
        let echo = match data {
            To::Buf(mut buf) => {
                buf.truncate(self.params.send_segment_bytes_max as usize);
                Some(buf)
            }
            // There was no memory for its data, or too much waits to be sent already.
            _ if bhs.data_bytes() > 0 => {
                self.reject(bhs, RejectReason::TooManyImmediate, cx)?;
                return Ok(None);
            }
            _ => None,
        };
        let answer = NopIn { lun: nop.lun, itt: nop.itt, ttt: TAG_NONE };
        self.push_control(answer.encode(), echo, StatSn::Consume, cx);
        Ok(None)
    }

    /// RFC 7143 §11.10.
    pub(super) fn text(
        &mut self,
        text: &TextRequest,
        bhs: &Bhs,
        data: To,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        if !cx.session.take_cmd_sn(text.immediate, text.cmd_sn, cx.tasks) {
            return Ok(None);
        }
        let bytes: &[u8] = match &data {
            To::Buf(buf) => buf,
            _ if bhs.data_bytes() > 0 => return self.refuse_text(bhs, RejectReason::NoTransferTag, cx),
            _ => &[],
        };
        if text.ttt == TAG_NONE {
            // A new exchange ends the one before.
            self.text = TextExchange::default();
        } else if text.ttt != TEXT_TTT || self.text.open.is_none() {
            return self.refuse_text(bhs, RejectReason::ProtocolError, cx);
        }
        if text.is_continued && text.is_final {
            return self.refuse_text(bhs, RejectReason::ProtocolError, cx);
        }
        if self.text.output.is_some() {
            return self.send_text(text, cx);
        }
        if text.is_continued || self.text.input.is_some() {
            let input = match self.text.input.take() {
                Some(input) => Some(input),
                None => cx.unsolicited.take(limits::TEXT_BYTES_MAX).map(|buf| (buf, 0)),
            };
            let Some((mut buf, have)) = input else {
                return self.refuse_text(bhs, RejectReason::NoTransferTag, cx);
            };
            let Some(room) = buf.get_mut(have..have + bytes.len()) else {
                return self.refuse_text(bhs, RejectReason::ProtocolError, cx);
            };
            room.copy_from_slice(bytes);
            let have = have + bytes.len();
            if text.is_continued {
                self.text.input = Some((buf, have));
                self.text.open = Some(text.itt);
                let answer = TextResponse {
                    is_final: false,
                    is_continued: false,
                    lun: text.lun,
                    itt: text.itt,
                    ttt: TEXT_TTT,
                };
                self.push_control(answer.encode(), None, StatSn::Consume, cx);
                return Ok(None);
            }
            return self.answer_text(text, &buf[..have], bhs, cx);
        }
        self.answer_text(text, bytes, bhs, cx)
    }

    fn refuse_text(
        &mut self,
        bhs: &Bhs,
        reason: RejectReason,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        self.text = TextExchange::default();
        self.reject(bhs, reason, cx)?;
        Ok(None)
    }

    /// The whole request is there.
    fn answer_text(
        &mut self,
        text: &TextRequest,
        request: &[u8],
        bhs: &Bhs,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        let Some(mut out) = cx.solicited.take(limits::TEXT_BYTES_MAX) else {
            return self.refuse_text(bhs, RejectReason::NoTransferTag, cx);
        };
        let segment_bytes_max = self.params.send_segment_bytes_max;
        match negotiate::answer_in_full_feature(request, cx.session.target(), &mut self.params, &mut out) {
            Ok(bytes) => out.truncate(bytes),
            Err(_) => return self.refuse_text(bhs, RejectReason::ProtocolError, cx),
        }
        if self.params.send_segment_bytes_max != segment_bytes_max {
            self.mix(cx);
        }
        self.text.output = Some((out, 0));
        self.send_text(text, cx)
    }

    /// Sends the next part of an answer.
    fn send_text(&mut self, text: &TextRequest, cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        let Some((out, at)) = self.text.output.take() else { return Ok(None) };
        let left = out.len() - at;
        let bytes = left.min(self.params.send_segment_bytes_max as usize);
        let is_all = bytes == left;
        let is_final = is_all && text.is_final;
        self.text.open = (!is_final).then_some(text.itt);
        let answer = TextResponse {
            is_final,
            is_continued: !is_all,
            lun: text.lun,
            itt: text.itt,
            ttt: if is_final { TAG_NONE } else { TEXT_TTT },
        };
        let data = if is_all && at == 0 {
            (bytes > 0).then_some(out)
        } else {
            let Some(mut part) = cx.solicited.take(bytes) else {
                return Err(Fatal::Protocol("a long text answer, and memory for it is spent"));
            };
            part.copy_from_slice(&out[at..at + bytes]);
            if !is_all {
                self.text.output = Some((out, at + bytes));
            }
            Some(part)
        };
        self.push_control(answer.encode(), data, StatSn::Consume, cx);
        Ok(None)
    }

    /// RFC 7143 §11.14: what is outstanding is given up, what is queued is still sent, then the connection ends.
    pub(super) fn logout(
        &mut self,
        logout: &LogoutRequest,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        if !cx.session.take_cmd_sn(logout.immediate, logout.cmd_sn, cx.tasks) {
            return Ok(None);
        }
        let other = OtherLogout {
            itt: logout.itt,
            cid: logout.cid,
            is_recovery: logout.reason == 2,
            exp_stat_sn: logout.exp_stat_sn,
        };
        match logout.reason {
            0 => {}
            1 if logout.cid == self.cid => {}
            1 => return Ok(Some(Request::LogOut(other))),
            2 if self.params.error_recovery_level == 2 && logout.cid != self.cid => {
                return Ok(Some(Request::LogOut(other)));
            }
            2 if self.may_recover() => self.is_recovery = true,
            // Recovery needs error recovery level 2.
            _ => {
                self.push_logout(logout.itt, LOGOUT_NO_RECOVERY, false, cx);
                return Ok(None);
            }
        }
        self.life = Life::LoggingOut;
        self.is_logged_out = true;
        self.timers.closing(cx.now);
        self.push_logout(logout.itt, LOGOUT_DONE, true, cx);
        Ok((!self.is_recovery).then_some(Request::LoggedOut { is_session: logout.reason == 0 }))
    }

    /// Another connection of the session has been closed at this one's wish, or there is none of that CID.
    pub fn logged_out_other(&mut self, other: OtherLogout, is_found: bool, cx: &mut Cx<'_>) {
        let response = if is_found { LOGOUT_DONE } else { LOGOUT_NO_CID };
        self.push_logout(other.itt, response, false, cx);
    }

    fn push_logout(&mut self, itt: u32, response: u8, closes: bool, cx: &mut Cx<'_>) {
        // RFC 7143 §11.15.3, §11.15.4: after recovery they say when commands may be taken over.
        let time2retain = if self.params.error_recovery_level == 2 { self.params.time2retain } else { 0 };
        let time2wait = if response == LOGOUT_DONE && time2retain == 0 { 0 } else { self.params.time2wait };
        let bhs = LogoutResponse { itt, response, time2wait, time2retain }.encode();
        self.push(TxItem::Pdu { bhs, data: None, stat_sn: StatSn::Consume, is_control: true, closes }, cx);
    }

    /// RFC 7143 §11.9: tells the initiator to log out within `seconds` (event 1).
    pub fn ask_for_logout(&mut self, seconds: u16, cx: &mut Cx<'_>) {
        if self.life == Life::Open {
            let message = AsyncMessage { lun: [0; 8], event: 1, parameters: [0, 0, seconds] };
            self.push_control(message.encode(), None, StatSn::Consume, cx);
        }
    }

    /// Whether a SCSI event may be told here: it is told only where that takes nobody's place, as a unit attention tells it anyway.
    pub fn may_tell_event(&self) -> bool {
        self.life == Life::Open && self.tx.control_count() < limits::CONTROL_REPLIES_MAX / 2
    }

    /// RFC 7143 §11.9.1, §11.9.4: tells of something that has happened at a LUN (event 0), if there is a buffer for it. Its sense data
    /// are in fixed format, whatever commands have: those initiators that look at them look at bytes 12 and 13.
    pub fn tell_event(&mut self, number: LunNumber, sense: Sense, cx: &mut Cx<'_>) {
        let mut bytes = [0; limits::SENSE_BYTES_MAX];
        let count = sense.encode(false, &mut bytes);
        let Some(mut data) = cx.solicited.take(2 + count) else { return };
        data[..2].copy_from_slice(&[0, count.to_le_bytes()[0]]);
        data[2..].copy_from_slice(&bytes[..count]);
        let message = AsyncMessage { lun: number.encode(), event: 0, parameters: [0; 3] };
        self.push_control(message.encode(), Some(data), StatSn::Consume, cx);
    }
}
