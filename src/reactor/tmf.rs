//! Task management functions, as far as one reactor can carry them out.

use crate::id::UnitId;
use crate::iscsi::conn::{TmfCall, TmfFunction, TmfReply};
use crate::iscsi::session::{is_of_own, is_to_abort};
use crate::net::Net;
use crate::reactor::look::Why;
use crate::reactor::message::{TaskTicket, TmfAsk, TmfTicket, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::reactor::wait::{Then, What};
use crate::scsi::view::LunNumber;
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Carries a function out when the commands that it covers have come.
    pub(super) fn tmf(&mut self, conn: Key, call: &TmfCall, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        let is_complete = self.tables.sessions[session].has_all_before(call.cmd_sn);
        if is_complete || !call.function.is_of_many() {
            return self.act(conn, call, now);
        }
        // RFC 7143 §4.2.3.3: they are on their way on other connections.
        let what = What::Missing { session: self.tables.sessions[session].id(), before: call.cmd_sn };
        self.drain_for(what, Then::Act { conn, call: *call }, now);
    }

    /// Whether some request of the session that is no command, and is not over, has this tag.
    fn is_no_command(&self, session: Key, itt: u32) -> bool {
        let conns = self.tables.sessions[session].conns().iter();
        conns.filter_map(|conn| self.conns.get(*conn)).any(|link| link.conn.is_no_command(itt))
    }

    /// Carries a function out, or asks control to where it concerns other sessions.
    pub(super) fn act(&mut self, conn: Key, call: &TmfCall, now: Tick) {
        let Some(session_key) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        let is_no_command = self.is_no_command(session_key, call.referenced_itt);
        let function = call.function.code();
        if call.function.aborts() {
            self.hand_out(conn, Why::Aborted { function });
        }
        let Some(link) = self.conns.get_mut(conn) else { return };
        let session = link.conn.session();
        let ticket = TmfTicket { conn, itt: call.itt };
        let unit = call
            .number
            .and_then(|number| self.tables.sessions[link.conn.session_key()].target().mapping(number))
            .map(|(_, mapping)| (mapping.number, mapping.unit));
        let reply = match (call.function, unit) {
            // RFC 7143 §11.5.1.
            (TmfFunction::AbortTask | TmfFunction::TaskReassign, _) if is_no_command => TmfReply::Rejected,
            (TmfFunction::AbortTask, _) => {
                match link.conn.referenced(call, &mut self.tables.cx(link.conn.session_key(), now)) {
                    Ok(task) => {
                        // One that was given up before is waited for again.
                        if self.tables.tasks.get(task).is_some_and(|task| !task.is_over()) {
                            self.abort(task, planted!(self, AnswerAfterAbort), now);
                            self.run_queued(conn, now);
                        }
                        let then = Then::Answer { ticket, function, is_of_many: false };
                        return self.wait_for(What::Task(task), then, now);
                    }
                    Err(reply) => reply,
                }
            }
            (TmfFunction::AbortTaskSet | TmfFunction::ClearTaskSet, Some((number, unit))) => {
                // The control mode page says TST = 001b: the task set is the nexus's own.
                let before = self.serial + 1;
                self.abort_older(conn, Some(number), call, now);
                let what = What::Session { session, unit: Some(unit), before };
                return self.wait_for(what, Then::Answer { ticket, function, is_of_many: true }, now);
            }
            (TmfFunction::LogicalUnitReset, Some((number, _))) => {
                self.abort_older(conn, Some(number), call, now);
                return self.ask_control(ticket, session, TmfAsk::UnitReset(number));
            }
            (TmfFunction::AbortTaskSet | TmfFunction::ClearTaskSet | TmfFunction::LogicalUnitReset, None) => {
                TmfReply::NoLun
            }
            (TmfFunction::TargetWarmReset, _) => {
                self.abort_older(conn, None, call, now);
                return self.ask_control(ticket, session, TmfAsk::TargetWarmReset);
            }
            (TmfFunction::TargetColdReset, _) => {
                self.abort_older(conn, None, call, now);
                return self.ask_control(ticket, session, TmfAsk::TargetColdReset);
            }
            (TmfFunction::TaskReassign, _) => return self.reassign(conn, call, now),
            (
                TmfFunction::QueryTask
                | TmfFunction::QueryTaskSet
                | TmfFunction::NexusReset
                | TmfFunction::QueryAsyncEvent,
                _,
            ) if !link.conn.may_query() => TmfReply::NotSupported,
            (TmfFunction::QueryTask, Some(_)) => {
                link.conn.query_task(call, &self.tables.cx(link.conn.session_key(), now))
            }
            (TmfFunction::QueryTaskSet, Some((number, _))) => {
                let session = &self.tables.sessions[link.conn.session_key()];
                let has_one = session.has_task_at(number, &self.tables.tasks);
                if has_one { TmfReply::Succeeded([0; 3]) } else { TmfReply::Complete }
            }
            (TmfFunction::QueryAsyncEvent, Some((number, _))) => {
                let event = self.tables.sessions[link.conn.session_key()].event_at(number);
                event.map_or(TmfReply::Complete, TmfReply::Succeeded)
            }
            (TmfFunction::QueryTask | TmfFunction::QueryTaskSet | TmfFunction::QueryAsyncEvent, None) => {
                TmfReply::NoLun
            }
            (TmfFunction::NexusReset, _) => {
                let before = self.serial + 1;
                self.abort_older(conn, None, call, now);
                let what = What::Session { session, unit: None, before };
                return self.wait_for(what, Then::Answer { ticket, function, is_of_many: true }, now);
            }
            (TmfFunction::ClearAca | TmfFunction::Unknown(_), _) => TmfReply::NotSupported,
        };
        self.answer_tmf(ticket, function, reply, now);
    }

    /// Gives up a nexus's own commands that came before the function, without an answer. What comes after it and meets
    /// the reset of a barrier all the same is told.
    fn abort_older(&mut self, conn: Key, number: Option<LunNumber>, call: &TmfCall, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        if call.function.is_of_many() {
            self.tell_terminated(session, Some(conn), &|task| is_of_own(task, number, call), now);
        }
        while let Some(task) = self.tables.sessions[session].next_of_own(number, call, &self.tables.tasks) {
            self.abort(task, false, now);
        }
        // Only now: a command that waited behind one of those must not start before it is given up itself.
        self.run_queued_of(session, now);
    }

    fn ask_control(&mut self, ticket: TmfTicket, session: crate::id::SessionId, request: TmfAsk) {
        let reactor = self.id;
        self.tell(ToControl::Tmf { reactor, ticket, session, request });
    }

    /// Gives up a command at its initiator's wish: without an answer, so `is_told` is for a planted bug only.
    fn abort(&mut self, task: Key, is_told: bool, now: Tick) {
        #[cfg(feature = "sim")]
        self.free_tags(|io| io.task == task);
        if planted!(self, BufferLeak)
            && let Some(task) = self.tables.tasks.get_mut(task)
        {
            std::mem::forget(task.piece.take());
        }
        self.give_up(task, is_told, now);
    }

    /// Aborts a command, silently or with TASK ABORTED: what no device has of it, and control has not decided, does not happen.
    pub(super) fn give_up(&mut self, key: Key, is_told: bool, now: Tick) {
        let Some(task) = self.tables.tasks.get(key) else { return };
        let (conn, has_ios) = (task.conn, task.ios > 0);
        self.leave_pace(key);
        let Some(task) = self.tables.tasks.get(key) else { return };
        if task.is_asked
            && let Some(unit) = task.unit
        {
            let ticket = TaskTicket { conn, task: key };
            self.tell(ToControl::Withdraw { reactor: self.id, ticket, unit });
        }
        let Some(link) = self.conns.get_mut(conn) else { return };
        link.conn.abort(key, is_told, &mut self.tables.cx(link.conn.session_key(), now));
        if link.conn.has_output() {
            self.activate(conn);
        }
        if has_ios {
            self.drop_parked(|io| io.task == key, now);
        }
    }

    /// Gives up every command at `units`, of every session, with TASK ABORTED. The session that asked has given up its
    /// own already; what it has sent since is told like the others'.
    pub(super) fn reset(&mut self, units: &[UnitId], now: Tick) {
        for index in 0..self.tables.sessions.used() {
            let Some(session) = self.tables.sessions.key_at(index) else { continue };
            for unit in units {
                self.tell_terminated(session, None, &|task| is_to_abort(task, *unit), now);
                while let Some(task) = self.tables.next_to_abort(session, *unit, None) {
                    self.give_up(task, true, now);
                }
            }
            self.run_queued_of(session, now);
        }
    }
}
