//! Commands at work: from their turn to their end.

use crate::bdev::allocation::Allocation;
use crate::bdev::{Done, IoError, Op};
use crate::buf::Buf;
use crate::iscsi::conn::Request;
use crate::iscsi::error::Fatal;
use crate::iscsi::task::{Outcome, Task};
use crate::net::Net;
use crate::reactor::message::Event;
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::scsi::attention::Ua;
use crate::scsi::copy::rod::Known;
use crate::scsi::report::{Facts, Report};
use crate::scsi::sense::Sense;
use crate::scsi::{self, Plan, Status, table};
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Does what a connection asks for.
    pub(super) fn request(&mut self, conn: Key, request: Request, now: Tick) -> Result<(), Fatal> {
        match request {
            Request::Run(task) => {
                // It may have come on another connection of the session.
                self.run(self.allegiance(task, conn), task, now);
            }
            Request::Piece(task) => self.advance_write(conn, task, now),
            Request::Settle(task) => self.settle(conn, task, now),
            Request::Tmf(call) => self.tmf(conn, &call, now),
            Request::Resend(task) => self.resend(conn, task, now),
            Request::ReadAnew(task) => self.read_anew(conn, task, now),
            Request::LogOut(other) => self.log_out(conn, other, now),
            Request::LoggedOut { is_session } => self.logged_out(conn, is_session, now),
            Request::Terminated => self.terminated(conn, now),
            Request::Flush => {
                self.transmit(conn, now);
                if self.conns.get(conn).is_some_and(|link| link.conn.is_flooded()) {
                    return Err(Fatal::SlowReader);
                }
            }
        }
        Ok(())
    }

    /// A command's turn has come.
    pub(super) fn run(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        task.ran_at.get_or_insert(now);
        if task.outcome.is_some() {
            return self.settle(conn, key, now);
        }
        let (place, attentions) =
            self.tables.sessions[session].place_and_attentions(task.number, &self.tables.views);
        let has_ceiling = place.unit.is_some_and(|(view, _)| view.pace.is_some());
        let plan = scsi::admit(task.plan, &task.cdb, &place, attentions);
        task.plan = plan;
        let has_told_luns = task.cdb.opcode() == table::REPORT_LUNS && matches!(plan, Plan::Report(_))
            || plan == Plan::Refuse(Ua::LunsChanged.sense());
        let moves_bytes = task.moves_bytes;
        let unit = task.unit;
        if has_told_luns {
            self.tables.sessions[session].luns_told();
        }
        if (has_ceiling || self.tables.sessions[session].pace().is_some()) && self.is_paced(conn, key, now) {
            return;
        }
        match plan {
            Plan::End(status) => self.end(conn, key, Outcome::of(status), now),
            Plan::Refuse(sense) => self.end(conn, key, Outcome::check(sense), now),
            Plan::Report(report) if report.asks_device() => self.ask(conn, key, None, now),
            Plan::Report(report) => self.report(conn, key, &report, None, now),
            Plan::AbortCopy { id } => self.abort_copy(conn, key, id, now),
            Plan::Pass { .. } => self.advance_pass(conn, key, now),
            Plan::Work(work) if work.data_bytes(1) == 0 => self.data_came(conn, key, None, 0, now),
            Plan::Read(_) | Plan::Write(_) | Plan::Work(_) | Plan::Protected(_)
                if moves_bytes == 0 && (plan.is_in_blocks() || plan.reads().is_some()) =>
            {
                self.end(conn, key, Outcome::GOOD, now);
            }
            Plan::Work(_) | Plan::Keep(_) | Plan::Copy(_) | Plan::Ask { .. } if moves_bytes == 0 => {
                self.data_came(conn, key, None, 0, now)
            }
            Plan::Read(_) => self.advance_read(conn, key, now),
            Plan::Protected(_) if plan.reads().is_some() => self.advance_read(conn, key, now),
            Plan::Write(_)
            | Plan::Work(_)
            | Plan::Keep(_)
            | Plan::Copy(_)
            | Plan::Ask { .. }
            | Plan::Protected(_) => self.advance_write(conn, key, now),
            Plan::Flush => {
                if planted!(self, FlushNotWaitedFor) {
                    return self.end(conn, key, Outcome::GOOD, now);
                }
                match unit {
                    Some(unit) => self.submit(conn, key, unit, Op::Flush, None, 0, 0, now),
                    None => self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now),
                }
            }
        }
    }

    /// Answers a command with parameter data, `allocation` being what the device was asked, if it was.
    pub(super) fn report(
        &mut self,
        conn: Key,
        key: Key,
        report: &Report,
        allocation: Option<&Allocation>,
        now: Tick,
    ) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let session = link.conn.session_key();
        let bytes = report.bytes_max() as usize;
        let Some(mut out) = self.tables.solicited.take(bytes.max(1)) else {
            return self.end(conn, key, Outcome::of(Status::Busy), now);
        };
        let tasks = &self.tables.tasks;
        let Some(task) = tasks.get(key) else { return };
        self.copies.lose(|copy| tasks.get(copy).is_none_or(|task| task.outcome.is_some()));
        let (place, attentions) =
            self.tables.sessions[session].place_and_attentions(task.number, &self.tables.views);
        let protocol_level = link.conn.params().protocol_level;
        let (buffers, copies, tokens) =
            (&self.buffers, &self.copies, Some(&self.holds.watches as &dyn Known));
        let facts = Facts { attentions, protocol_level, now, buffers, copies, tokens, allocation };
        match scsi::report::fill(report, &place, facts, &mut out) {
            Ok(filled) => out.truncate(filled),
            Err(sense) => return self.end(conn, key, Outcome::check(sense), now),
        }
        link.conn.report(key, out, &mut self.tables.cx(session, now));
        self.activate(conn);
        self.run_queued(conn, now);
    }

    /// Decides how a command ends, and ends it as soon as nothing more is awaited.
    pub(super) fn end(&mut self, conn: Key, key: Key, outcome: Outcome, now: Tick) {
        let conn = self.allegiance(key, conn);
        let outcome = match self.tables.tasks.get(key) {
            Some(Task { plan: Plan::Copy(copy), outcome: None, .. }) => self.copy_ended(key, *copy, outcome),
            _ => outcome,
        };
        if let Some(link) = self.conns.get_mut(conn) {
            link.conn.decide(key, outcome, &mut self.tables.cx(link.conn.session_key(), now));
        }
        if !self.is_behind_fence(key, now) {
            self.settle(conn, key, now);
        }
    }

    /// The connection that a task is with now: another one may have taken it over since `before`.
    pub(super) fn allegiance(&self, key: Key, before: Key) -> Key {
        self.tables.tasks.get(key).map_or(before, |task| task.conn)
    }

    pub(super) fn settle(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        if link.conn.settle(key, &mut self.tables.cx(link.conn.session_key(), now)) {
            self.activate(conn);
            self.run_queued(conn, now);
        }
    }

    /// Runs commands that waited for their order or the gate.
    pub(super) fn run_queued(&mut self, conn: Key, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        self.run_queued_of(session, now);
    }

    /// Runs commands of a session that waited for their order or the gate.
    pub(super) fn run_queued_of(&mut self, session: Key, now: Tick) {
        while let Some(key) = self.tables.next_runnable(session)
            && let Some(task) = self.tables.tasks.get(key)
        {
            self.run(task.conn, key, now);
        }
    }

    /// Runs commands of a connection's session whose CmdSN has become due with nothing having come on a connection.
    pub(super) fn run_due(&mut self, conn: Key, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        while let Some(key) = self.tables.sessions[session].next_due(&mut self.tables.tasks)
            && let Some(task) = self.tables.tasks.get(key)
        {
            self.run(task.conn, key, now);
        }
    }

    /// A completion has come.
    pub(super) fn done(&mut self, done: Done, now: Tick) {
        let key = if planted!(self, TagReuse) {
            self.tables.ios.key_at(done.tag.index).unwrap_or(done.tag)
        } else {
            done.tag
        };
        self.finish(key, done.data, done.result, now);
    }

    /// An IO has ended.
    pub(super) fn finish(&mut self, key: Key, data: Option<Buf>, result: Result<(), IoError>, now: Tick) {
        let Some(mut record) = self.tables.ios.remove(key) else { return };
        if record.is_lost {
            self.found(record.unit);
        }
        let told = if let Op::Pass { .. } = record.op { self.ask_told(&record, key) } else { None };
        let Some(task) = self.tables.tasks.get_mut(record.task) else {
            if record.is_chore {
                self.chore_io_ended(record.unit, data, result);
            } else {
                self.ended_for_nobody(&record, result, now);
            }
            return;
        };
        task.ios -= 1;
        task.done_at = Some(now);
        // Another connection may have taken it over.
        if !planted!(self, AllegianceForgotten) {
            record.conn = task.conn;
        }
        if task.outcome.is_some() {
            self.settle(record.conn, record.task, now);
            return self.ended_for_nobody(&record, result, now);
        }
        if record.serial < task.restarted_at && !planted!(self, RestartOverlooked) {
            return self.advance_read(record.conn, record.task, now);
        }
        if let Err(error) = result
            && !planted!(self, ErrorIgnored)
        {
            self.event(Event::DeviceError { unit: record.unit, error });
            let outcome = Outcome::check(Sense::of_failure(error, record.op));
            self.end(record.conn, record.task, outcome, now);
            if error == IoError::Cancelled && record.is_cut() {
                // What it belongs to is in force all the same.
                self.ended_for_nobody(&record, result, now);
            }
            return;
        }
        if let Op::Pass { .. } = record.op {
            return self.pass_came(&record, data, told, now);
        }
        if task.job.is_some() {
            return self.io_finished(record.conn, record.task, data, now);
        }
        match (record.op, data) {
            (Op::Read { .. } | Op::ReadProtected { .. }, Some(mut data)) => {
                data.truncate(record.bytes as usize);
                self.read_came(record.conn, record.task, record.offset, data, now);
            }
            (Op::Write { .. } | Op::WriteProtected { .. }, _) => {
                if planted!(self, AnswerBeforeDone) && task.submitted_bytes >= task.moves_bytes {
                    task.ios = 0;
                }
                let is_over = task.ios == 0 && task.submitted_bytes >= task.moves_bytes;
                if is_over {
                    self.end(record.conn, record.task, Outcome::GOOD, now);
                } else {
                    self.advance_write(record.conn, record.task, now);
                }
            }
            (_, _) => self.end(record.conn, record.task, Outcome::GOOD, now),
        }
    }
}
