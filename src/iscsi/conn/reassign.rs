//! Connection recovery (RFC 7143 §7.2.2, §7.5, §11.14): a connection that is lost at error recovery level 2 keeps its commands for
//! a while, and TASK REASSIGN takes them over to another one.
//!
//! What a command has had is not kept: a READ begins again where the initiator says, a WRITE asks again for what was not handed
//! to the device, and what is over is answered anew. So a connection that is lost keeps no buffers.

use super::deframe::Deframer;
use super::{Conn, Cx, Life, TmfReply};
use crate::iscsi::obligation::End;
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Phase, R2ts};
use crate::iscsi::tx::offset_of;
use crate::scsi::Plan;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

/// What the reactor does with a command that goes on here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GoOn {
    /// Nothing: it waits for its turn, a device or control.
    Wait,
    /// A READ is to be read from here on.
    Read,
    /// A command with data from the initiator asks for what is missing.
    Write,
    /// It is to be begun anew: what it reported is not kept.
    Run,
    /// It is over, and to be answered.
    Answer,
}

impl Conn {
    /// Whether the connection's commands are kept when it ends now.
    pub fn may_recover(&self) -> bool {
        self.params.error_recovery_level == 2
            && self.retains
            && self.params.time2retain > 0
            && (self.life == Life::Open || self.life == Life::LoggingOut && self.is_recovery)
    }

    /// Whether it is kept for recovery only.
    pub fn is_lost(&self) -> bool {
        matches!(self.life, Life::Lost { .. })
    }

    /// The connection is gone. Its commands go on, as far as they need nobody, and wait for another connection; those whose
    /// turn has not come were not received (RFC 7143 §11.14). It may be logged out already.
    pub fn lose(&mut self, is_logged_out: bool, cx: &mut Cx<'_>) {
        if let Life::Lost { is_logged_out: was, .. } = &mut self.life {
            *was |= is_logged_out;
            return;
        }
        let seconds = u64::from(self.params.time2wait) + u64::from(self.params.time2retain);
        let is_logged_out = is_logged_out || self.is_recovery;
        self.life = Life::Lost { until: cx.now.after_ns(seconds * SECOND_NS), is_logged_out };
        while let Some(key) =
            cx.tasks.find(&cx.session.tasks, |task| task.conn == self.key && task.phase == Phase::Early)
        {
            if let Some(task) = cx.tasks.get_mut(key) {
                task.obligation.meet(End::Discarded);
                // An immediate one has none of its own.
                if !task.is_immediate {
                    cx.session.window.give_back(task.cmd_sn);
                }
            }
            self.forget(key, cx);
        }
        self.deframer = Deframer::new();
        self.text = super::other::TextExchange::default();
        let unsent = self.tx.clear(cx.tx);
        // Their answers are not on their way any more.
        cx.session.window.end(unsent);
        let mut at = cx.session.tasks.first();
        while let Some(key) = at {
            at = cx.tasks.next(key);
            if let Some(task) = cx.tasks.get_mut(key).filter(|task| task.conn == self.key) {
                task.drop_buffers();
            }
        }
        self.tx.drop_retained_data();
    }

    /// The connection, which is lost, is logged out; the initiator has had of it what `exp_stat_sn` says. From now on its
    /// commands may be taken over.
    pub fn release(&mut self, exp_stat_sn: Sn, cx: &mut Cx<'_>) {
        self.lose(true, cx);
        self.acknowledge(exp_stat_sn, cx);
    }

    /// When a lost connection is given up.
    pub(super) fn lost_until(&self) -> Option<Tick> {
        match self.life {
            Life::Lost { until, .. } => Some(until),
            Life::Open | Life::LoggingOut | Life::Overflowed => None,
        }
    }

    /// Whether its commands may be taken over.
    pub fn is_recoverable(&self) -> bool {
        matches!(self.life, Life::Lost { is_logged_out: true, .. })
    }

    /// Whether it has commands.
    pub fn has_tasks(&self, cx: &Cx<'_>) -> bool {
        cx.tasks.find(&cx.session.tasks, |task| task.conn == self.key).is_some()
    }

    /// The task that TASK REASSIGN names, wherever it is allegiant.
    ///
    /// # Errors
    /// The answer, where there is none or it cannot be.
    pub fn to_reassign(&self, itt: u32, is_immediate: bool, cx: &Cx<'_>) -> Result<Key, TmfReply> {
        if self.params.error_recovery_level < 2 {
            return Err(TmfReply::ReassignNotSupported);
        }
        if !is_immediate {
            // RFC 7143 §11.5.1: it has to be.
            return Err(TmfReply::Rejected);
        }
        let found =
            cx.tasks.find(&cx.session.tasks, |task| task.itt == itt && task.phase != Phase::Swallowing);
        let key = found.ok_or(TmfReply::NoTask)?;
        match cx.tasks.get(key) {
            // What its device said is not kept, and to ask once more is to do it once more.
            Some(task) if matches!(task.plan, Plan::Pass { .. }) => Err(TmfReply::ReassignNotSupported),
            _ => Ok(key),
        }
    }

    /// Data-In PDUs from here on are of another length than those before.
    pub(super) fn mix(&self, cx: &mut Cx<'_>) {
        let mut at = cx.session.tasks.first();
        while let Some(key) = at {
            at = cx.tasks.next(key);
            if let Some(task) = cx.tasks.get_mut(key).filter(|task| task.conn == self.key) {
                task.is_mixed |= task.data_sn != Sn(0);
            }
        }
    }

    /// Gives a task away. The length of the data segments it was sent in.
    pub fn hand_off(&mut self, key: Key, cx: &mut Cx<'_>) -> u32 {
        if cx.tasks.get(key).is_some_and(|task| task.is_immediate && task.phase != Phase::Answered) {
            self.immediate_count -= 1;
        }
        self.params.send_segment_bytes_max
    }

    /// Takes a task over. `exp_data_sn`: the first Data-In or R2T that the initiator has not had; `serial`: that of the next IO;
    /// `block_bytes`: of its unit; `segment_bytes`: what [`Conn::hand_off`] said.
    pub fn take_over(
        &mut self,
        key: Key,
        exp_data_sn: Sn,
        segment_bytes: u32,
        serial: u64,
        block_bytes: u32,
        cx: &mut Cx<'_>,
    ) -> GoOn {
        let Some(task) = cx.tasks.get_mut(key) else { return GoOn::Wait };
        task.conn = self.key;
        task.data_at = cx.now;
        // What is asked for once more here has not been asked for here.
        task.asked_before_bytes = 0;
        task.again = None;
        task.terminated = None;
        // RFC 7143 §7.2.2: 0 until it is tagged on this connection.
        task.snack_tag = 0;
        let was_answered = task.phase == Phase::Answered;
        if task.is_immediate {
            self.immediate_count += 1;
        }
        let was_owed = task.is_owed_data();
        if was_owed {
            // It does not come any more, and is asked for anew if it is wanted.
            task.r2ts = R2ts::default();
            task.unsolicited = None;
            task.is_damaged = false;
            task.data_out_sn = Sn(0);
            task.asked_bytes = task.arrived_bytes;
            if exp_data_sn.0 <= task.data_sn.0 {
                task.data_sn = exp_data_sn;
            }
        }
        if matches!(task.phase, Phase::Queued | Phase::Paced) {
            return GoOn::Wait;
        }
        let is_failed = task.outcome.is_some_and(|outcome| outcome.status != crate::scsi::Status::Good);
        let go_on = match task.plan {
            _ if is_failed => GoOn::Answer,
            plan if plan.reads().is_some() => {
                // Data-In PDUs of another length do not count the same bytes, be it that of this connection, or that it was another at
                // first.
                let is_alike = segment_bytes == self.params.send_segment_bytes_max && !task.is_mixed;
                let exp_data_sn = if is_alike { exp_data_sn } else { Sn(0) };
                let offset = offset_of(&self.params, exp_data_sn.0, task.queued_bytes);
                // A block in two parts of different times would be neither: it is begun at a block, if need be at the first.
                let is_whole = offset.is_multiple_of(plan.wire_bytes(block_bytes).max(1));
                let (offset, data_sn) = if is_whole && exp_data_sn.0 <= task.data_sn.0 {
                    (offset, exp_data_sn)
                } else {
                    (0, Sn(0))
                };
                (task.read_bytes, task.queued_bytes, task.data_sn) = (offset, offset, data_sn);
                task.parked = None;
                task.is_mixed &= offset > 0;
                task.outcome = None;
                task.restarted_at = serial;
                if offset >= task.moves_bytes { GoOn::Answer } else { GoOn::Read }
            }
            // What it said when nobody could be told is lost.
            // One for which a device is asked goes on when that has answered.
            Plan::Report(_)
                if !task.is_asked
                    && (task.data_sn != Sn(0) || !was_answered && !task.is_waiting_for_buffer) =>
            {
                (task.queued_bytes, task.data_sn) = (0, Sn(0));
                task.outcome = None;
                GoOn::Run
            }
            _ if was_answered => GoOn::Answer,
            Plan::Report(_) => GoOn::Wait,
            _ if was_owed || task.asked_bytes < task.moves_bytes => GoOn::Write,
            _ => GoOn::Wait,
        };
        if go_on == GoOn::Answer && task.outcome.is_none() {
            task.outcome = Some(crate::scsi::Outcome::GOOD);
        }
        cx.session.reopen(task);
        go_on
    }
}
