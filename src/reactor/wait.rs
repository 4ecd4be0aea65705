//! Waiting for devices to give back what was aborted or is in the way: task management functions, barriers, session ends
//! and holds.
//!
//! Only what the *device* has counts; commands that wait for data, buffers or a channel hold nothing up.

use std::sync::Arc;

use crate::bdev::pass::Flow;
use crate::bdev::{Fence, Op};
use crate::id::{BarrierId, SessionId, UnitId};
use crate::iscsi::conn::{TmfCall, TmfFunction, TmfReply};
use crate::iscsi::sn::Sn;
use crate::iscsi::task::Tasks;
use crate::limits;
use crate::net::Net;
use crate::reactor::message::{CloseCause, EndReason, Event, HoldId, HoldRange, TmfTicket, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::slab::Key;
use crate::time::Tick;

/// Which IOs are waited for.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Those of one command.
    Task(Key),
    /// Those of one connection.
    Conn(Key),
    /// Those of a session's commands, at one unit or all, older than this.
    Session { session: SessionId, unit: Option<UnitId>, before: u64 },
    /// Those at these units, older than this, whoever has made them.
    Units { units: Arc<[UnitId]>, before: u64 },
    /// Those of commands at these units, older than this, of every session, wherever they go.
    Commands { units: Arc<[UnitId]>, before: u64 },
    /// Those at this unit, or of its commands, that a change of its reservations has forbidden.
    Forbidden { unit: UnitId },
    /// Those that touch a hold's range; it keeps newer ones away.
    Range(HoldRange),
    /// None; commands of a session that have not come.
    Missing { session: SessionId, before: Sn },
    /// None; that an initiator has acknowledged all it was told on each connection of a session, which then is behind its fence.
    Acknowledged { session: SessionId, is_raised: bool },
    /// The same on one connection: the fenced response.
    AcknowledgedOn { conn: Key },
}

impl What {
    fn covers(&self, io: &InFlight) -> bool {
        match self {
            What::Task(task) => io.task == *task,
            What::Conn(conn) => io.conn == *conn,
            What::Session { session, unit, before } => {
                io.session == *session && io.serial < *before && unit.is_none_or(|unit| unit == io.of)
            }
            What::Units { units, before } => io.serial < *before && units.contains(&io.unit),
            What::Commands { units, before } => io.serial < *before && units.contains(&io.of),
            What::Forbidden { unit } => io.is_forbidden && [io.unit, io.of].contains(unit),
            What::Range(range) => range.meets(io),
            What::Missing { .. } | What::Acknowledged { .. } | What::AcknowledgedOn { .. } => false,
        }
    }

    /// The same; but what a session has given up is all that its functions wait for, not what has come behind them.
    fn awaits(&self, io: &InFlight, tasks: &Tasks) -> bool {
        let is_spared =
            matches!(self, What::Session { .. }) && tasks.get(io.task).is_some_and(|task| !task.is_over());
        !is_spared && self.covers(io)
    }
}

/// What happens then.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// A task management function is answered; one that covers several tasks waits for data still owed, too.
    Answer { ticket: TmfTicket, function: u8, is_of_many: bool },
    /// A barrier is acknowledged.
    Acknowledge(BarrierId),
    /// A session has ended for good.
    Drained(SessionId),
    /// A session has nothing in a device of a connection that is gone: its commands may go on.
    Ungate(SessionId),
    /// A hold is in force here.
    HoldApplied(HoldId),
    /// A task management function is carried out.
    Act { conn: Key, call: TmfCall },
    /// A fenced task management function is answered.
    AnswerFenced { session: SessionId, ticket: TmfTicket, function: u8 },
    /// A fenced command ends.
    EndFenced { session: SessionId, task: Key },
    /// A session's fence is lowered.
    LowerFence(SessionId),
    /// A command that has aborted a copy ends.
    EndAbort { task: Key },
}

/// Something that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) what: What,
    pub(super) then: Then,
    /// When the channels are fenced, and after that given up.
    deadline: Tick,
    /// When data still owed are given up.
    swallow_until: Tick,
    /// When time changes something.
    pub(super) look_at: Tick,
    is_fenced: bool,
}

impl Waiting {
    /// Whether nobody but this hold waits.
    pub(super) fn is_for_hold(&self, id: HoldId) -> bool {
        matches!(self.then, Then::HoldApplied(hold) if hold == id)
    }

    /// Whether it is to raise a fence for a command that has been aborted.
    fn is_for_nobody(&self, tasks: &Tasks) -> bool {
        match (&self.what, self.then) {
            (What::Acknowledged { is_raised: false, .. }, Then::EndFenced { task, .. }) => {
                tasks.get(task).is_none()
            }
            _ => false,
        }
    }
}

impl<N: Net> Reactor<N> {
    /// Asks for the early end of IOs, and waits for them.
    pub(super) fn wait_for(&mut self, what: What, then: Then, now: Tick) {
        for (key, io) in self.tables.ios.iter_mut() {
            if what.awaits(io, &self.tables.tasks)
                && io.parked.is_none()
                && let Some(channel) =
                    unit::of(&mut self.units, io.unit).and_then(|unit| unit.channel.as_mut())
            {
                io.cut();
                channel.cancel(key);
            }
        }
        self.drain_for(what, then, now);
    }

    /// Waits for IOs to end in their own time.
    pub(super) fn drain_for(&mut self, what: What, then: Then, now: Tick) {
        let swallow_until = now.after_ns(limits::SWALLOW_NS);
        self.waits.push(Waiting {
            what,
            then,
            deadline: now.after_ns(limits::DRAIN_NS),
            swallow_until,
            look_at: swallow_until,
            is_fenced: false,
        });
    }

    /// Ends the waits that are over. Once a turn.
    pub(super) fn settle_waits(&mut self, now: Tick) {
        // Or a peer could have any number of them made.
        self.waits.retain(|waiting| !waiting.is_for_nobody(&self.tables.tasks));
        let mut index = 0;
        while index < self.waits.len() {
            if let Some(is_clean) = self.is_over(index, now) {
                // In order: what was asked first is answered first.
                let waiting = self.waits.remove(index);
                // A hold that is refused leaves nobody in the belief that something is over.
                let is_lost = !is_clean && !matches!(waiting.then, Then::HoldApplied(_));
                // Who waits for a fence and was passed by while another one was up comes before those behind it.
                let may_lower = matches!(waiting.then, Then::LowerFence(_) | Then::EndFenced { .. });
                if is_lost {
                    self.lose(&waiting.what);
                }
                self.carry_on(waiting.then, is_clean, now);
                if is_lost {
                    self.run_all_queued(now);
                }
                if may_lower {
                    index = 0;
                }
            } else {
                index += 1;
            }
        }
    }

    /// Gives up IOs that a device keeps. Those that may yet change the medium make their units not ready: whoever waited
    /// for them has to see that it is not over.
    fn lose(&mut self, what: &What) {
        for index in 0..self.tables.ios.used() {
            let Some(key) = self.tables.ios.key_at(index) else { continue };
            let Some(io) = self.tables.ios.get(key) else { continue };
            if io.parked.is_some() || io.is_lost || !what.awaits(io, &self.tables.tasks) {
                continue;
            }
            if let Some(task) = self.tables.tasks.get_mut(io.task) {
                task.is_given_up = true;
            }
            if !changes_medium(&io.op) {
                continue;
            }
            let unit = io.unit;
            let is_first = !self.has_lost(unit);
            if let Some(io) = self.tables.ios.get_mut(key) {
                io.is_lost = true;
            }
            if is_first {
                self.tell(ToControl::Unsettled { unit, reactor: self.id, is_so: true });
            }
        }
    }

    /// Runs commands that waited for an IO which was given up.
    fn run_all_queued(&mut self, now: Tick) {
        for index in 0..self.tables.sessions.used() {
            if let Some(session) = self.tables.sessions.key_at(index) {
                self.run_queued_of(session, now);
            }
        }
    }

    /// An IO that was given up has come back after all.
    pub(super) fn found(&mut self, unit: UnitId) {
        if !self.has_lost(unit) {
            self.tell(ToControl::Unsettled { unit, reactor: self.id, is_so: false });
        }
    }

    fn has_lost(&self, unit: UnitId) -> bool {
        self.tables.ios.iter().any(|(_, io)| io.is_lost && io.unit == unit)
    }

    /// Whether a wait is over, and whether everything came back.
    fn is_over(&mut self, index: usize, now: Tick) -> Option<bool> {
        let waiting = &self.waits[index];
        if let What::Missing { session, before } = waiting.what {
            // Bounded, as what is on a connection that is broken may never come.
            let session = self.tables.sessions.find(session);
            let has_come = session.is_none_or(|key| self.tables.sessions[key].has_all_before(before));
            return (has_come || now >= waiting.swallow_until).then_some(true);
        }
        if let What::Acknowledged { session, is_raised } = waiting.what {
            return self.is_acknowledged(index, session, is_raised, now).then_some(true);
        }
        if let What::AcknowledgedOn { conn } = waiting.what {
            let is_late = now >= waiting.deadline;
            self.waits[index].look_at = waiting.deadline;
            return (is_late || self.has_acknowledged_on(conn)).then_some(true);
        }
        let is_in_device = |io: &InFlight| io.parked.is_none() && waiting.what.awaits(io, &self.tables.tasks);
        let is_in_any = self.tables.ios.iter().any(|(_, io)| is_in_device(io));
        // A command that control may yet carry out counts too: nothing of it happens after the answer.
        let is_asked = match (&waiting.what, waiting.then) {
            (What::Task(task), _) => self.tables.tasks.get(*task).is_some_and(|task| task.is_asked),
            (What::Session { unit, .. }, Then::Answer { ticket, .. }) => {
                let unit = *unit;
                let link = self.conns.get(ticket.conn);
                link.is_some_and(|link| {
                    self.tables.sessions[link.conn.session_key()].is_asking(unit, &self.tables.tasks)
                })
            }
            _ => false,
        };
        let is_pending = !planted!(self, ReplyBeforeDrain) && (is_in_any || is_asked);
        let waiting = &self.waits[index];
        let is_in_device = |io: &InFlight| io.parked.is_none() && waiting.what.awaits(io, &self.tables.tasks);
        if !is_pending {
            return (!self.is_owed_data(index, now)).then_some(true);
        }
        if now < waiting.deadline {
            self.waits[index].look_at = self.waits[index].deadline;
            return None;
        }
        if matches!(waiting.then, Then::Drained(_) | Then::Ungate(_)) {
            // A session's end waits as long as it takes: nobody is kept waiting but its successor.
            self.waits[index].look_at = now.after_ns(limits::DRAIN_NS);
            return None;
        }
        if waiting.is_fenced {
            return Some(false);
        }
        let mut is_fenced = true;
        for (_, io) in self.tables.ios.iter().filter(|(_, io)| is_in_device(io)) {
            let channel = unit::of(&mut self.units, io.unit).and_then(|unit| unit.channel.as_mut());
            is_fenced &= channel.is_none_or(|channel| channel.fence() == Fence::Fenced);
        }
        // A fence ends all that its channel has, whoever waits for it.
        self.tables.ios.iter_mut().for_each(|(_, io)| io.cut());
        if !is_fenced {
            return Some(false);
        }
        // Its completions come with the next polls.
        let waiting = &mut self.waits[index];
        waiting.is_fenced = true;
        waiting.deadline = now.after_ns(limits::SWALLOW_NS);
        waiting.look_at = waiting.deadline;
        None
    }

    /// Whether all of a session has been acknowledged, or that has been waited for long enough; its fence is raised first.
    fn is_acknowledged(&mut self, index: usize, session: SessionId, is_raised: bool, now: Tick) -> bool {
        if !is_raised {
            let deadline = now.after_ns(limits::DRAIN_NS);
            self.waits[index].look_at = deadline;
            if !self.raise_fence(session, now) {
                return false;
            }
            let waiting = &mut self.waits[index];
            (waiting.what, waiting.deadline) = (What::Acknowledged { session, is_raised: true }, deadline);
        }
        self.waits[index].look_at = self.waits[index].deadline;
        now >= self.waits[index].deadline || self.has_acknowledged(session)
    }

    /// RFC 7143 §4.2.3.3: the response to a function that covers several tasks waits for the data that the initiator
    /// still owes for them, here for a bounded time.
    fn is_owed_data(&mut self, index: usize, now: Tick) -> bool {
        let waiting = &self.waits[index];
        let Then::Answer { ticket, is_of_many, function } = waiting.then else { return false };
        let unit = match &waiting.what {
            What::Session { unit, .. } => *unit,
            _ => None,
        };
        let until = waiting.swallow_until;
        let Some(link) = self.conns.get_mut(ticket.conn) else { return false };
        let session = link.conn.session_key();
        if !is_of_many {
            // Data in flight for it find no task and are dropped; most initiators send none after ABORT TASK.
            if let What::Task(task) = waiting.what
                && let Some(conn) = self.tables.tasks.get(task).map(|task| task.conn)
                && let Some(link) = self.conns.get_mut(conn)
            {
                link.conn.retire(task, &mut self.tables.cx(session, now));
            }
            return false;
        }
        if link.conn.is_fast_abort() && function != TmfFunction::NexusReset.code() {
            // RFC 7143 §4.2.3.4: nothing more is sent for them on this connection, and elsewhere they wait by themselves. Who
            // was not told of them may send data, as without FastAbort.
            self.retire_on(ticket.conn, now);
            while let Some(task) =
                self.tables.sessions[session].next_untold(unit, ticket.conn, &self.tables.tasks)
            {
                if now < until {
                    self.waits[index].look_at = until;
                    return true;
                }
                let conn = self.tables.tasks.get(task).map(|task| task.conn);
                let Some(link) = conn.and_then(|conn| self.conns.get_mut(conn)) else { break };
                link.conn.retire(task, &mut self.tables.cx(session, now));
            }
            return false;
        }
        if !self.tables.sessions[session].is_swallowing(unit, &self.tables.tasks) {
            return false;
        }
        if now < until {
            self.waits[index].look_at = until;
            return true;
        }
        while let Some(task) = self.tables.sessions[session].next_to_retire(&self.tables.tasks)
            && let Some(conn) = self.tables.tasks.get(task).map(|task| task.conn)
            && let Some(link) = self.conns.get_mut(conn)
        {
            link.conn.retire(task, &mut self.tables.cx(session, now));
        }
        false
    }

    fn carry_on(&mut self, then: Then, is_clean: bool, now: Tick) {
        match then {
            Then::Answer { ticket, function, is_of_many: true } if is_clean => {
                self.answer_tmf_of_many(ticket, function, now);
            }
            Then::Answer { ticket, function, is_of_many } => {
                if is_of_many && function != TmfFunction::NexusReset.code() {
                    self.excuse_on(ticket.conn, now);
                }
                let reply = if is_clean { TmfReply::Complete } else { TmfReply::Rejected };
                self.answer_tmf(ticket, function, reply, now);
            }
            Then::Acknowledge(id) => self.tell(ToControl::BarrierDone { id, reactor: self.id, is_clean }),
            Then::Drained(session) => self.tell(ToControl::SessionDrained { session }),
            Then::HoldApplied(id) => self.hold_applied(id, is_clean),
            Then::Ungate(session) => self.open_gate(session, now),
            Then::Act { conn, call } => {
                self.act(conn, &call, now);
                // What it has aborted may have been all that the commands behind waited for, and nothing more need come.
                self.run_due(conn, now);
            }
            Then::AnswerFenced { session, ticket, function } => {
                self.answer_fenced(session, ticket, function, now);
            }
            Then::EndFenced { session, task } => self.end_fenced(session, task, now),
            Then::LowerFence(session) => self.lower_fence(session, now),
            Then::EndAbort { task } => self.end_abort(task, is_clean, now),
        }
    }

    pub(super) fn answer_tmf(&mut self, ticket: TmfTicket, function: u8, reply: TmfReply, now: Tick) {
        let Some(link) = self.conns.get_mut(ticket.conn) else { return };
        link.conn.tmf_reply(ticket.itt, reply, &mut self.tables.cx(link.conn.session_key(), now));
        let session = link.conn.session();
        self.activate(ticket.conn);
        self.event(Event::Tmf { session, function, response: reply.code() });
        if function == TmfFunction::NexusReset.code() && reply == TmfReply::Complete {
            // RFC 7144 §6.3: the session ends with all its connections, at once and whatever it retains.
            self.transmit(ticket.conn, now);
            for conn in self.conns_of(session) {
                self.close(conn, CloseCause::Ended(EndReason::NexusReset), now);
            }
        }
    }
}

/// Whether the medium is different after it.
fn changes_medium(op: &Op) -> bool {
    match op {
        Op::Write { .. }
        | Op::Unmap { .. }
        | Op::WriteZeroes { .. }
        | Op::CompareAndWrite { .. }
        | Op::Copy { .. }
        | Op::WriteProtected { .. }
        | Op::WriteUncorrectable { .. } => true,
        Op::Pass { flow, .. } => *flow != Flow::In,
        Op::Read { .. } | Op::ReadProtected { .. } | Op::Verify { .. } | Op::Compare { .. } | Op::Flush => {
            false
        }
    }
}
