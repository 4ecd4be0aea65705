//! A connection's deadlines: keep-alive, a PDU that does not end, a peer that does not read, data that do not come.

use super::{Conn, Cx, Life};
use crate::iscsi::error::Fatal;
use crate::iscsi::task::{Phase, Task};
use crate::iscsi::tx::StatSn;
use crate::iscsi::wire::{NopIn, TAG_NONE};
use crate::limits;
use crate::time::Tick;

/// What is remembered of the past.
#[derive(Debug)]
pub(super) struct Timers {
    /// The last PDU was complete.
    heard_at: Tick,
    /// The PDU that is under way began.
    pdu_at: Option<Tick>,
    /// Our NOP-In that is not answered went out.
    asked_at: Option<Tick>,
    /// The last byte was taken, or the queue began to fill.
    sent_at: Option<Tick>,
    closing_at: Option<Tick>,
    ask_ns: u64,
    close_ns: u64,
    nop_count: u32,
}

impl Timers {
    pub(super) fn new(now: Tick, ask_ns: u64, close_ns: u64) -> Timers {
        Timers {
            heard_at: now,
            pdu_at: None,
            asked_at: None,
            sent_at: None,
            closing_at: None,
            ask_ns,
            close_ns,
            nop_count: 0,
        }
    }

    /// A PDU is complete.
    pub(super) fn heard(&mut self, now: Tick) {
        self.heard_at = now;
        self.asked_at = None;
        self.pdu_at = None;
    }

    /// Something was queued.
    pub(super) fn queued(&mut self, now: Tick) {
        self.sent_at.get_or_insert(now);
    }

    /// The socket took something.
    pub(super) fn sent(&mut self, now: Tick) {
        self.sent_at = Some(now);
    }

    /// Nothing waits to be sent.
    pub(super) fn all_sent(&mut self) {
        self.sent_at = None;
    }

    /// The connection is to end.
    pub(super) fn closing(&mut self, now: Tick) {
        self.closing_at = Some(now);
    }
}

impl Conn {
    /// To be called when all received bytes were gone through: whether a PDU is left unfinished.
    pub fn input_ended(&mut self, now: Tick) {
        if self.deframer.is_inside() {
            self.timers.pdu_at.get_or_insert(now);
        }
    }

    /// When [`Conn::expired`] wants to be called next.
    pub fn deadline(&self, cx: &Cx<'_>) -> Option<Tick> {
        if let Some(until) = self.lost_until() {
            return Some(until);
        }
        if self.life == Life::Overflowed {
            return Some(cx.now);
        }
        let timers = &self.timers;
        let silence =
            if timers.ask_ns == 0 || timers.asked_at.is_some() { timers.close_ns } else { timers.ask_ns };
        let silence = (silence > 0).then(|| timers.heard_at.after_ns(silence));
        [
            silence,
            timers.pdu_at.map(|at| at.after_ns(limits::PDU_NS)),
            timers.sent_at.map(|at| at.after_ns(limits::SEND_NS)),
            timers.closing_at.map(|at| at.after_ns(limits::LINGER_NS)),
            self.data_owed_since(cx).map(|at| at.after_ns(limits::DATA_OUT_NS)),
            self.gap_since(cx).map(|at| at.after_ns(limits::DATA_OUT_NS)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what the time asks for.
    pub fn expired(&mut self, cx: &mut Cx<'_>) -> Result<(), Fatal> {
        let now = cx.now;
        if let Some(until) = self.lost_until() {
            return if until <= now { Err(Fatal::NotRecovered) } else { Ok(()) };
        }
        if self.life == Life::Overflowed {
            return Err(Fatal::SlowReader);
        }
        let is_over = |at: Option<Tick>, ns| at.is_some_and(|at: Tick| at.after_ns(ns) <= now);
        let timers = &self.timers;
        if is_over(timers.closing_at, limits::LINGER_NS) || is_over(timers.sent_at, limits::SEND_NS) {
            return Err(Fatal::SlowReader);
        }
        if is_over(timers.pdu_at, limits::PDU_NS) {
            return Err(Fatal::PduUnfinished);
        }
        if is_over(self.data_owed_since(cx), limits::DATA_OUT_NS) {
            return Err(Fatal::DataOutLate);
        }
        if is_over(self.gap_since(cx), limits::DATA_OUT_NS) {
            return Err(Fatal::Protocol("a command is missing, and those behind it wait"));
        }
        if timers.close_ns > 0 && is_over(Some(timers.heard_at), timers.close_ns) {
            return Err(Fatal::Silent);
        }
        let is_silent = timers.ask_ns > 0 && is_over(Some(timers.heard_at), timers.ask_ns);
        if is_silent && timers.asked_at.is_none() && self.life == Life::Open {
            self.timers.asked_at = Some(now);
            self.ask(cx);
        }
        Ok(())
    }

    /// Asks for a NOP-Out, which acknowledges what was sent (RFC 7143 §4.2.2.3.3), where that is not acknowledged.
    pub fn ask_acknowledgement(&mut self, cx: &mut Cx<'_>) {
        if !self.is_acknowledged() {
            self.ask(cx);
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>) {
        self.timers.nop_count = self.timers.nop_count.wrapping_add(1) & 0x7fff_ffff;
        let nop = NopIn { lun: [0; 8], itt: TAG_NONE, ttt: self.timers.nop_count };
        self.push_control(nop.encode(), None, StatSn::Show, cx);
    }

    /// Since when the oldest of those commands has waited that stand behind one which cannot come any more: at error recovery level 0
    /// on the only connection. One that was lost at another level is sent again, and one on its way on another connection comes.
    fn gap_since(&self, cx: &Cx<'_>) -> Option<Tick> {
        let is_for_ever = self.params.error_recovery_level == 0 && cx.session.is_single();
        if !is_for_ever || !cx.session.window.has_early() {
            return None;
        }
        let waits = |task: &Task| task.phase == Phase::Early && !task.is_immediate;
        cx.tasks.find(&cx.session.tasks, waits).and_then(|key| cx.tasks.get(key)).map(|task| task.came_at)
    }

    /// Since when the task that has waited longest has waited for data. Aborted ones do not count, as their initiator may have
    /// stopped sending, unless it was told to say so.
    fn data_owed_since(&self, cx: &Cx<'_>) -> Option<Tick> {
        let mut since: Option<Tick> = None;
        let mut at = cx.session.tasks.first();
        while let Some(key) = at {
            let task = cx.tasks.get(key)?;
            if task.conn == self.key
                && task.is_owed_data()
                && task.phase != Phase::Early
                && (task.phase != Phase::Swallowing || task.terminated.is_some())
            {
                since = Some(since.map_or(task.data_at, |earliest| earliest.min(task.data_at)));
            }
            at = cx.tasks.next(key);
        }
        since
    }
}
