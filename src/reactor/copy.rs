//! Copies from LUN to LUN ([`scsi::copy`](crate::scsi::copy)), a piece at a time, on the reactor of the session that asks.

use crate::bdev::Op;
use crate::buf::Buf;
use crate::iscsi::task::{Job, Outcome, Running};
use crate::net::Net;
use crate::reactor::turn::Reactor;
use crate::reactor::wait::{Then, What};
use crate::scsi::copy::{self, Copy, Step, rod};
use crate::scsi::sense::Sense;
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// The parameter list of a copy is there.
    pub(super) fn begin_copy(&mut self, conn: Key, key: Key, copy: Copy, data: Option<Buf>, now: Tick) {
        let Some(link) = self.conns.get(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        let list = data.as_deref().unwrap_or(&[]);
        let begun = if copy.has_token() {
            let session = &self.tables.sessions[link.conn.session_key()];
            let place = session.place(task.number, &self.tables.views);
            rod::Run::begin(&task.cdb, list, &place)
                .map(|run| (Some(run.list_id), Running::Token { run, id: None, reading: None }))
        } else {
            copy.begin(list).map(|run| (run.list_id(), Running::Copy(run)))
        };
        match begun {
            Ok((list_id, run)) => {
                if let (Some(id), Some(unit)) = (list_id, task.unit) {
                    self.copies.begin(key, link.conn.nexus(), unit, id, &task.cdb);
                }
                task.job = Some(Job { run, data, scratch: None });
                if copy.makes_token() {
                    let minted = self.mint();
                    if let Some(task) = self.tables.tasks.get_mut(key)
                        && let Some(Job { run: Running::Token { id, .. }, .. }) = &mut task.job
                    {
                        *id = minted;
                    }
                }
                self.work_on(conn, key, now);
            }
            Err(sense) => self.end(conn, key, Outcome::check(sense), now),
        }
    }

    /// Does a copy's next step.
    pub(super) fn copy_on(&mut self, conn: Key, key: Key, now: Tick) {
        loop {
            let Some(link) = self.conns.get(conn) else { return };
            let Some(task) = self.tables.tasks.get_mut(key) else { return };
            let number = task.number;
            let Some(Job { run: Running::Copy(run), data, scratch }) = &mut task.job else { return };
            let (segments, bytes) = run.progress();
            self.copies.progress(key, segments, bytes);
            let (side, op) = match run.step() {
                Step::Done => {
                    task.job = None;
                    return self.end(conn, key, Outcome::GOOD, now);
                }
                Step::Load => {
                    let session = &self.tables.sessions[link.conn.session_key()];
                    let place = session.place(number, &self.tables.views);
                    let list = data.as_deref().unwrap_or(&[]);
                    if let Err(sense) = run.load(list, &place, &self.tables.views) {
                        return self.end(conn, key, Outcome::check(sense), now);
                    }
                    continue;
                }
                Step::Read { side, lba, blocks } => (side, Op::Read { lba, blocks }),
                Step::Write { side, lba, blocks } => (side, Op::Write { lba, blocks, fua: false }),
                Step::Copy { side, from, lba, blocks } => {
                    let op = Op::Copy { from, lba, blocks, fua: false };
                    return self.submit_at((conn, key), side, op, None, now);
                }
            };
            let buf = match scratch.take() {
                Some(buf) => buf,
                None => {
                    let Some(buf) = self.tables.solicited.take_kept(copy::BUFFER_BYTES) else {
                        return self.go_hungry(key);
                    };
                    buf
                }
            };
            return self.submit_at((conn, key), side, op, Some(buf), now);
        }
    }

    /// A copy ends so: what its initiator is told.
    pub(super) fn copy_ended(&mut self, key: Key, copy: Copy, outcome: Outcome) -> Outcome {
        let outcome = if copy.has_token() { outcome } else { copy::outcome(outcome) };
        self.copies.end(key, outcome);
        outcome
    }

    /// COPY OPERATION ABORT (SPC-5 §6.3): the copy ends in TASK ABORTED; the command when no device has anything of it any more.
    pub(super) fn abort_copy(&mut self, conn: Key, key: Key, id: u32, now: Tick) {
        let Some(link) = self.conns.get(conn) else { return };
        let tasks = &self.tables.tasks;
        let Some(unit) = tasks.get(key).and_then(|task| task.unit) else {
            return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        self.copies.lose(|copy| tasks.get(copy).is_none_or(|task| task.outcome.is_some()));
        let Some(copy) = self.copies.under_way(link.conn.nexus(), unit, id) else {
            return self.end(conn, key, Outcome::check(Sense::invalid_byte(2)), now);
        };
        self.give_up(copy, true, now);
        self.wait_for(What::Task(copy), Then::EndAbort { task: key }, now);
    }

    /// The copy that a command has aborted is over, or a device keeps some of it.
    pub(super) fn end_abort(&mut self, key: Key, is_clean: bool, now: Tick) {
        let Some(task) = self.tables.tasks.get(key).filter(|task| task.outcome.is_none()) else { return };
        let conn = task.conn;
        let outcome = if is_clean { Outcome::GOOD } else { Outcome::check(Sense::INTERNAL_FAILURE) };
        self.end(conn, key, outcome, now);
    }
}
