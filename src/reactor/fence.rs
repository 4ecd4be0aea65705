//! Response fences (RFC 7143 §4.2.2.3): where a session has several connections, what says that commands were aborted is told after
//! all that was said before it, and before all that is said after it.
//!
//! A fence is raised: from then on no answer of a command leaves, and what has left is to be acknowledged. Then the fenced
//! response goes out, and when that is acknowledged as well, the fence is lowered and the rest follows. An initiator that does not
//! acknowledge, though it is asked, holds itself up for a bounded time. A session has one fence at a time.

use crate::id::SessionId;
use crate::iscsi::conn::{TmfFunction, TmfReply};
use crate::iscsi::task::{Passage, Phase, Task};
use crate::net::Net;
use crate::reactor::message::TmfTicket;
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::reactor::wait::{Then, What};
use crate::scsi::Plan;
use crate::scsi::attention::Ua;
use crate::slab::Key;
use crate::time::Tick;

/// Unit attentions for an abort by somebody else.
const OF_ABORTS: [Ua; 5] = [
    Ua::TargetReset,
    Ua::UnitReset,
    Ua::CommandsCleared,
    Ua::ReservationsPreempted,
    Ua::RegistrationsPreempted,
];

/// RFC 7143 §4.2.2.3.4: whether the end of a command is fenced, as one that reports a unit attention for an abort or ends a
/// PREEMPT AND ABORT. There is no ACA.
fn is_special(task: &Task) -> bool {
    const PREEMPT_AND_ABORT: (u8, u8) = (0x5f, 0x05);
    let sense = task.outcome.and_then(|outcome| outcome.sense);
    sense.is_some_and(|sense| OF_ABORTS.iter().any(|ua| ua.sense() == sense))
        || matches!(task.plan, Plan::Ask { .. })
            && (task.cdb.opcode(), task.cdb.service_action()) == PREEMPT_AND_ABORT
}

impl<N: Net> Reactor<N> {
    /// Answers a task management function that covered several tasks, all of which are over.
    pub(super) fn answer_tmf_of_many(&mut self, ticket: TmfTicket, function: u8, now: Tick) {
        let link = self.conns.get(ticket.conn);
        let session = link.map(|link| (link.conn.session_key(), link.conn.session()));
        // With I_T NEXUS RESET the session ends.
        let is_last = function == TmfFunction::NexusReset.code();
        match session.filter(|(key, _)| !is_last && self.has_several(*key)) {
            Some((_, session)) => {
                let what = What::Acknowledged { session, is_raised: false };
                self.drain_for(what, Then::AnswerFenced { session, ticket, function }, now);
            }
            None => self.answer_tmf(ticket, function, TmfReply::Complete, now),
        }
    }

    /// The end of a command has been decided: whether it waits for a fence, which is seen to.
    pub(super) fn is_behind_fence(&mut self, key: Key, now: Tick) -> bool {
        let Some(task) = self.tables.tasks.get(key) else { return false };
        let Some(link) = self.conns.get(task.conn) else { return false };
        let session = link.conn.session();
        let is_new = task.passage == Passage::Common && task.phase == Phase::Running && is_special(task);
        if !is_new || !self.has_several(link.conn.session_key()) {
            return task.passage == Passage::Waits;
        }
        if let Some(task) = self.tables.tasks.get_mut(key) {
            task.passage = Passage::Waits;
        }
        let what = What::Acknowledged { session, is_raised: false };
        self.drain_for(what, Then::EndFenced { session, task: key }, now);
        true
    }

    fn has_several(&self, session: Key) -> bool {
        !planted!(self, FenceNotRaised) && self.tables.sessions[session].conns().len() > 1
    }

    /// Raises a session's fence. Whether it did, and not another one is up.
    pub(super) fn raise_fence(&mut self, session: SessionId, now: Tick) -> bool {
        let Some(key) = self.tables.sessions.find(session) else { return true };
        let was_down = self.tables.sessions[key].raise_fence();
        if was_down {
            for conn in self.conns_of(session) {
                self.ask_acknowledgement(conn, now);
            }
        }
        was_down
    }

    /// Whether all that was said on the connections of a session has been acknowledged.
    pub(super) fn has_acknowledged(&self, session: SessionId) -> bool {
        self.conns_of(session).into_iter().all(|conn| self.has_acknowledged_on(conn))
    }

    /// Whether all that was said on a connection has been acknowledged; of one that is gone nothing more comes.
    pub(super) fn has_acknowledged_on(&self, conn: Key) -> bool {
        // On one connection alone the order in which it is told is fence enough; nor is it counted there.
        self.conns
            .get(conn)
            .is_none_or(|link| link.conn.is_acknowledged() || !self.has_several(link.conn.session_key()))
    }

    fn ask_acknowledgement(&mut self, conn: Key, now: Tick) {
        if let Some(link) = self.conns.get_mut(conn) {
            link.conn.ask_acknowledgement(&mut self.tables.cx(link.conn.session_key(), now));
            self.activate(conn);
        }
    }

    /// All that goes before the answer to a function has been acknowledged.
    pub(super) fn answer_fenced(&mut self, session: SessionId, ticket: TmfTicket, function: u8, now: Tick) {
        self.answer_tmf(ticket, function, TmfReply::Complete, now);
        self.lower_when_acknowledged(session, ticket.conn, now);
    }

    /// All that goes before the end of a command has been acknowledged.
    pub(super) fn end_fenced(&mut self, session: SessionId, key: Key, now: Tick) {
        let task = self.tables.tasks.get_mut(key);
        let Some(conn) = task.map(|task| {
            task.passage = Passage::Free;
            task.conn
        }) else {
            return self.lower_fence(session, now);
        };
        self.settle(conn, key, now);
        self.lower_when_acknowledged(session, conn, now);
    }

    fn lower_when_acknowledged(&mut self, session: SessionId, conn: Key, now: Tick) {
        self.ask_acknowledgement(conn, now);
        self.drain_for(What::AcknowledgedOn { conn }, Then::LowerFence(session), now);
    }

    /// The fenced response has been acknowledged: what waited behind it goes out.
    pub(super) fn lower_fence(&mut self, session: SessionId, now: Tick) {
        let Some(key) = self.tables.sessions.find(session) else { return };
        self.tables.sessions[key].lower_fence();
        while let Some(task) = self.tables.sessions[key].next_held(&self.tables.tasks)
            && let Some(conn) = self.tables.tasks.get(task).map(|task| task.conn)
        {
            self.settle(conn, task, now);
        }
    }
}
