//! SNACK and acknowledgement (RFC 7143 §7.8, §11.16): what was sent is sent again, at error recovery levels above 0.
//!
//! Numbered PDUs are kept until ExpStatSN acknowledges them, and so are data of READs and reports, as far as there are buffers for
//! that; they are sent again out of these, in other segments with R-Data. Those of other commands are refused. No Data-In asks for
//! acknowledgement, so a DataACK is none.
//!
//! No device is asked again: RFC 7143 §11.16 wants exact replicas, and the blocks may have been written since, by this initiator or
//! another, on this reactor, another one, or past them all. The exception is a READ that is not over and begins anew with R-Data: all
//! that was sent of it is void.

use super::{Conn, Cx, Request};
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Again, Outcome, Phase, Task};
use crate::iscsi::tx::{Kept, SCSI_RESPONSE, StatSn, TxItem, data_sn_at, offset_of};
use crate::iscsi::wire::{Bhs, R2t, Request as Pdu, Snack, TAG_NONE};
use crate::limits;
use crate::scsi::protect::Protected;
use crate::scsi::sense::Sense;
use crate::scsi::{Access, Plan};
use crate::slab::Key;

/// Types of SNACK.
const DATA_OR_R2T: u8 = 0;
const STATUS: u8 = 1;
const DATA_ACK: u8 = 2;
const R_DATA: u8 = 3;

/// How far [`Conn::resend`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resent {
    /// All is queued, or nothing was to be sent.
    All,
    /// So much waits to be sent that the rest has to wait.
    Clogged,
    /// There is no buffer for the next copy.
    NoBuffer,
    /// It was not kept: the SNACK is rejected, and the command is decided where it was not over.
    Refused,
}

impl Conn {
    /// Whether a request's ExpStatSN is about this connection: in a Logout it is about the one that is to be closed (RFC 7143
    /// §11.14.4).
    pub(super) fn is_own_stat_sn(&self, bhs: &Bhs) -> bool {
        match Pdu::parse(bhs) {
            Pdu::Logout(logout) => logout.reason == 0 || logout.cid == self.cid,
            _ => true,
        }
    }

    /// The initiator has everything before this StatSN.
    pub(super) fn acknowledge(&mut self, exp_stat_sn: Sn, cx: &mut Cx<'_>) {
        if self.tx.stat_sn().is_before(exp_stat_sn) {
            // It cannot know what was not sent.
            return;
        }
        while let Some(kept) = self.tx.next_over(Some(exp_stat_sn)) {
            self.let_go(&kept, cx);
        }
    }

    /// More is kept than there is room for: the oldest goes unacknowledged.
    pub(super) fn drop_oldest(&mut self, cx: &mut Cx<'_>) {
        while let Some(kept) = self.tx.next_over(None) {
            self.let_go(&kept, cx);
        }
    }

    fn let_go(&mut self, kept: &Kept, cx: &mut Cx<'_>) {
        if kept.bhs.opcode() != SCSI_RESPONSE {
            return;
        }
        let itt = kept.bhs.itt();
        let answered = cx.tasks.find(&cx.session.tasks, |task| {
            task.conn == self.key && task.itt == itt && task.phase == Phase::Answered
        });
        if let Some(key) = answered {
            self.forget(key, cx);
        }
    }

    /// A SNACK is there.
    pub(super) fn snack(
        &mut self,
        snack: &Snack,
        bhs: &Bhs,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        if self.params.error_recovery_level == 0 {
            // RFC 7143 §11.16: SNACK is for error recovery levels above 0.
            return self.reject(bhs, RejectReason::SnackReject, cx).map(|()| None);
        }
        match snack.kind {
            DATA_OR_R2T => self.snack_data(snack, bhs, cx),
            STATUS => self.snack_status(snack, bhs, cx),
            DATA_ACK => self.reject(bhs, RejectReason::InvalidDataAck, cx).map(|()| None),
            R_DATA => self.snack_r_data(snack, bhs, cx),
            _ => self.refuse_snack(snack.itt, bhs, cx),
        }
    }

    fn snack_status(&mut self, snack: &Snack, bhs: &Bhs, cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        if self.is_clogged() {
            // Copies of echoes and texts are as long as these: who does not read them does not get more.
            return self.reject(bhs, RejectReason::SnackReject, cx).map(|()| None);
        }
        let next = self.tx.stat_sn();
        let Some(retained) = self.tx.retained() else {
            return self.reject(bhs, RejectReason::SnackReject, cx).map(|()| None);
        };
        let oldest = retained.first().unwrap_or(next);
        // RFC 7143 §11.16.6: 0 and 0 mean all that is not acknowledged.
        let is_all = snack.first == 0 && snack.count == 0;
        let first = if is_all { oldest } else { Sn(snack.first) };
        let end =
            if snack.count == 0 { oldest.plus(kept_count(retained.len())) } else { first.plus(snack.count) };
        let count = end.steps_from(first).unwrap_or(u32::MAX);
        let is_kept = !first.is_before(oldest) && count <= kept_count(retained.len());
        if !is_kept || oldest.plus(kept_count(retained.len())).is_before(end) {
            return self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None);
        }
        for step in 0..count {
            let item = self.tx.retained().and_then(|retained| retained.again(first.plus(step), cx.solicited));
            let Some(item) = item else {
                return self.reject(bhs, RejectReason::SnackReject, cx).map(|()| None);
            };
            self.push(item, cx);
        }
        Ok(None)
    }

    /// The command of this connection that a SNACK names, where something may have been sent for it.
    fn named_by_snack(&self, itt: u32, cx: &Cx<'_>) -> Option<Key> {
        cx.tasks.find(&cx.session.tasks, |task| {
            task.conn == self.key && task.itt == itt && matches!(task.phase, Phase::Running | Phase::Answered)
        })
    }

    fn snack_data(&mut self, snack: &Snack, bhs: &Bhs, cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        let found = self.named_by_snack(snack.itt, cx);
        let Some((key, task)) = found.and_then(|key| Some((key, cx.tasks.get_mut(key)?))) else {
            return self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None);
        };
        let last = if snack.count == 0 { u32::MAX } else { snack.first.saturating_add(snack.count) };
        match task.plan {
            Plan::Read(_) | Plan::Report(_) if task.moves_bytes <= limits::RESEND_BYTES_MAX => {
                let at = offset_of(&self.params, snack.first, task.queued_bytes);
                let end = offset_of(&self.params, last, task.queued_bytes);
                let sent = task.data_sn.0;
                if at == end || last > sent && snack.count > 0 {
                    return self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None);
                }
                let again = task.again.get_or_insert(Again { at, end, asked: *bhs, snack_tag: None });
                (again.at, again.end) = (again.at.min(at), again.end.max(end));
                Ok(Some(Request::Resend(key)))
            }
            Plan::Write(_)
            | Plan::Work(_)
            | Plan::Ask { .. }
            | Plan::Pass { .. }
            | Plan::Protected(Protected { access: Access::Write, .. })
                if task.phase == Phase::Running && !task.takes_in =>
            {
                let (lun, itt) = (task.lun, task.itt);
                let is_asked = |sn: Sn| (snack.first..last).contains(&sn.0);
                let mut r2ts = arrayvec::ArrayVec::<R2t, { limits::R2TS_MAX }>::new();
                for open in task.r2ts.iter().filter(|open| is_asked(open.r2t_sn)) {
                    let desired_bytes = open.end - open.start;
                    let (ttt, r2t_sn, offset) = (open.ttt, open.r2t_sn, open.start);
                    r2ts.push(R2t { lun, itt, ttt, r2t_sn, offset, desired_bytes });
                }
                if r2ts.is_empty() {
                    return self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None);
                }
                for r2t in r2ts {
                    let bhs = r2t.encode();
                    let stat_sn = StatSn::Show;
                    self.push(TxItem::Pdu { bhs, data: None, stat_sn, is_control: true, closes: false }, cx);
                }
                Ok(None)
            }
            _ => self.refuse_snack(snack.itt, bhs, cx),
        }
    }

    /// RFC 7143 §11.16.3: all data of a READ once more, numbered from 0 and in segments of the present length, and its response,
    /// with the SNACK Tag and under the StatSN that it has if it was sent already.
    fn snack_r_data(&mut self, snack: &Snack, bhs: &Bhs, cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        if matches!(snack.ttt, 0 | TAG_NONE) || snack.first != 0 || snack.count != 0 {
            return self.reject(bhs, RejectReason::InvalidField, cx).map(|()| None);
        }
        let found = self.named_by_snack(snack.itt, cx);
        let Some((key, task)) = found.and_then(|key| Some((key, cx.tasks.get_mut(key)?))) else {
            return self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None);
        };
        let may_come_again = match task.plan {
            Plan::Read(_) => true,
            // One that is behind a fence cannot begin anew.
            Plan::Report(_) => task.phase == Phase::Answered,
            _ => false,
        };
        if !may_come_again || task.moves_bytes > limits::RESEND_BYTES_MAX {
            return self.refuse_snack(snack.itt, bhs, cx);
        }
        if task.phase == Phase::Running {
            task.snack_tag = snack.ttt;
            task.again = None;
            if task.outcome == Some(Outcome::GOOD) && task.ios == 0 && task.moves_bytes > 0 {
                // All has been sent but its status, which waits for a fence.
                task.outcome = None;
            }
            return Ok(task.outcome.is_none().then_some(Request::ReadAnew(key)));
        }
        if !self.tx.retained().is_some_and(|retained| retained.has_response_to(snack.itt)) {
            // Its response waits to be sent; the SNACK may come again behind it.
            return self.reject(bhs, RejectReason::SnackReject, cx).map(|()| None);
        }
        task.snack_tag = snack.ttt;
        // What a command that failed had sent is gone through as well.
        let end = task.queued_bytes;
        task.again = Some(Again { at: 0, end, asked: *bhs, snack_tag: Some(snack.ttt) });
        Ok(Some(Request::Resend(key)))
    }

    /// A READ that is under way begins anew. `serial`: that of its next IO.
    pub fn begin_anew(&mut self, key: Key, serial: u64, cx: &mut Cx<'_>) {
        if let Some(task) = cx.tasks.get_mut(key) {
            (task.read_bytes, task.queued_bytes, task.data_sn) = (0, 0, Sn(0));
            task.parked = None;
            task.is_mixed = false;
            task.restarted_at = serial;
            self.tx.forget_data(task.itt, cx.tx);
            self.tx.forget(task.itt, self.tx.next_item(), cx.tx);
        }
    }

    /// Queues what is to be sent again of a command, as far as may be now.
    pub fn resend(&mut self, key: Key, cx: &mut Cx<'_>) -> Resent {
        // One that was aborted meanwhile says nothing more.
        let may_say = |task: &&Task| matches!(task.phase, Phase::Running | Phase::Answered);
        let wanted = |task: &Task| Some((task.itt, task.again?));
        while let Some((itt, again)) = cx.tasks.get(key).filter(may_say).and_then(wanted) {
            if again.at >= again.end {
                self.sent_again(key, cx);
                return Resent::All;
            }
            if self.is_clogged() {
                return Resent::Clogged;
            }
            let Some(kept) = self.tx.data_of(itt, again.at, cx.tx) else {
                self.cannot_resend(key, cx);
                return Resent::Refused;
            };
            let bytes = kept.len().min((again.end - again.at) as usize);
            let Some(mut data) = cx.solicited.take(bytes) else { return Resent::NoBuffer };
            data.copy_from_slice(&kept[..bytes]);
            let ends_piece = bytes == kept.len();
            self.data_again(key, data, again.at, ends_piece, cx);
        }
        Resent::All
    }

    /// All that was to be sent again of a command has been queued.
    fn sent_again(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        let Some(again) = task.again.take() else { return };
        let Some(snack_tag) = again.snack_tag else { return };
        task.data_sn = Sn(data_sn_at(&self.params, task.queued_bytes));
        task.is_mixed = false;
        match self.tx.tagged(task.itt, snack_tag, task.data_sn, cx.solicited) {
            Some(item) => self.push(item, cx),
            None => {
                self.reject(&again.asked, RejectReason::SnackReject, cx).ok();
            }
        }
    }

    /// RFC 7143 §7.8: a command whose data cannot be sent again ends in CHECK CONDITION, where its status has not been sent.
    fn refuse_snack(&mut self, itt: u32, bhs: &Bhs, cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        self.reject(bhs, RejectReason::SnackReject, cx)?;
        let running = cx.tasks.find(&cx.session.tasks, |task| {
            task.conn == self.key && task.itt == itt && task.phase == Phase::Running
        });
        Ok(running.map(|key| {
            self.decide(key, Outcome::check(Sense::SNACK_REJECTED), cx);
            Request::Settle(key)
        }))
    }

    /// The data of a command that were to be sent again cannot be. As [`Conn::refuse_snack`].
    fn cannot_resend(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        let Some(again) = task.again.take() else { return };
        // Its status may wait for a fence.
        if task.phase == Phase::Running && task.outcome.is_none_or(|outcome| outcome == Outcome::GOOD) {
            task.outcome = Some(Outcome::check(Sense::SNACK_REJECTED));
        }
        self.reject(&again.asked, RejectReason::SnackReject, cx).ok();
    }
}

/// A count that `RETAINED_MAX` bounds.
fn kept_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
