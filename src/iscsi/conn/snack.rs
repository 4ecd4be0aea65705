//! SNACK and acknowledgement (RFC 7143 §7.8, §11.16): what was sent is sent again, at error recovery levels above 0.
//!
//! Numbered PDUs are kept until ExpStatSN acknowledges them. Data are not: those of a READ are read again by the reactor, if
//! nothing has written there since, in other segments with R-Data; those of other commands are refused. No Data-In asks for
//! acknowledgement, so a DataACK is none.

use super::{Conn, Cx, Request};
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Again, Outcome, Phase};
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
        match answered {
            // An IO of it is still in a device: it is over with that.
            Some(key) if cx.tasks.get(key).is_some_and(|task| task.ios > 0) => {
                if let Some(task) = cx.tasks.get_mut(key) {
                    task.again = None;
                }
                cx.session.swallow(key, cx.tasks);
            }
            Some(key) => self.forget(key, cx),
            None => {}
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
            Plan::Read(_) if task.moves_bytes <= limits::RESEND_BYTES_MAX => {
                let at = offset_of(&self.params, snack.first, task.queued_bytes);
                let end = offset_of(&self.params, last, task.queued_bytes);
                let sent = task.data_sn.0;
                if at == end || last > sent && snack.count > 0 {
                    return self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None);
                }
                let again = task.again.get_or_insert(Again { at, end, asked: *bhs, snack_tag: None });
                (again.at, again.end) = (again.at.min(at), again.end.max(end));
                // While it is read for the first time, this waits until all of it has been sent.
                Ok((task.phase == Phase::Answered).then_some(Request::Resend(key)))
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
        if !matches!(task.plan, Plan::Read(_)) || task.moves_bytes > limits::RESEND_BYTES_MAX {
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
            task.restarted_at = serial;
        }
    }

    /// All that was to be sent again of a READ has been queued.
    pub fn sent_again(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        let Some(again) = task.again.take() else { return };
        let Some(snack_tag) = again.snack_tag else { return };
        task.data_sn = Sn(data_sn_at(&self.params, task.queued_bytes));
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

    /// The data of a READ that were to be sent again cannot be.
    pub fn cannot_resend(&mut self, key: Key, cx: &mut Cx<'_>) {
        if let Some(again) = cx.tasks.get_mut(key).and_then(|task| task.again.take()) {
            self.reject(&again.asked, RejectReason::SnackReject, cx).ok();
        }
    }
}

/// A count that `RETAINED_MAX` bounds.
fn kept_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
