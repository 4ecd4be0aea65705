//! Commands that are worked off in steps ([`scsi::work`]), and those that control decides.

use crate::bdev::allocation::Allocation;
use crate::bdev::protection::TUPLE_BYTES;
use crate::bdev::{IoError, Op};
use crate::buf::Buf;
use crate::id::UnitId;
use crate::iscsi::task::{Job, Outcome, Running};
use crate::net::Net;
use crate::reactor::message::{Ask, Event, Retired, TaskTicket, ToControl};
use crate::reactor::tables::{InFlight, Outlives};
use crate::reactor::turn::Reactor;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::work::Step;
use crate::scsi::{Plan, Status};
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// The data that a command waited for are there: all of them, or one piece that begins at `start`.
    pub(super) fn data_came(&mut self, conn: Key, key: Key, data: Option<Buf>, start: u32, now: Tick) {
        let Some(link) = self.conns.get(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        match task.plan {
            Plan::Work(work) => {
                let session = &self.tables.sessions[link.conn.session_key()];
                let place = session.place(task.number, &self.tables.views);
                match work.begin(start, data.as_deref().unwrap_or(&[]), &place) {
                    Ok(run) => {
                        task.job = Some(Job { run: Running::Work(run), data, scratch: None });
                        self.work_on(conn, key, now);
                    }
                    Err(sense) => self.end(conn, key, Outcome::check(sense), now),
                }
            }
            Plan::Copy(copy) => self.begin_copy(conn, key, copy, data, now),
            Plan::Keep(write) => {
                if let Some(unit) = task.unit {
                    self.buffers.write(write, link.conn.nexus(), unit, data.as_deref().unwrap_or(&[]));
                }
                self.end(conn, key, Outcome::GOOD, now);
            }
            Plan::Ask { .. } => self.ask(conn, key, data, now),
            _ => {}
        }
    }

    /// Asks control about a command, with its parameter list.
    pub(super) fn ask(&mut self, conn: Key, key: Key, data: Option<Buf>, now: Tick) {
        let Some(link) = self.conns.get(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        let Some(unit) = task.unit else {
            return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        let (cdb, session) = (task.cdb, link.conn.session());
        // No IO, but a change of configuration or a question about the medium, so it may allocate.
        let parameters = data.as_deref().unwrap_or(&[]).into();
        task.is_asked = true;
        let ticket = TaskTicket { conn, task: key };
        let reactor = self.id;
        self.tell(ToControl::Ask(Box::new(Ask { reactor, ticket, session, unit, cdb, parameters })));
    }

    /// Does a command's next step.
    pub(super) fn work_on(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        let Some(unit) = task.unit else { return };
        let Some(job) = &mut task.job else { return };
        let run = match &mut job.run {
            Running::Work(run) => run,
            Running::Copy(_) => return self.copy_on(conn, key, now),
            Running::Token { .. } => return self.token_on(conn, key, now),
        };
        let step = run.step();
        if step == Step::Done {
            return self.worked_off(conn, key, now);
        }
        let (blocks, with_tuples) = step.scratch();
        let mut scratch = None;
        if blocks > 0 {
            let Some(view) = self.tables.views.get(unit.index()).and_then(Option::as_ref) else {
                return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
            };
            let tuple_bytes = if with_tuples { TUPLE_BYTES } else { 0 };
            let bytes = blocks as usize * (view.block_bytes + tuple_bytes) as usize;
            let kept = job.scratch.take().filter(|scratch| scratch.len() >= bytes);
            let Some(mut buf) = kept.or_else(|| self.tables.solicited.take_kept(bytes)) else {
                return self.go_hungry(key);
            };
            buf.truncate(bytes);
            scratch = Some(buf);
        }
        let op = match step {
            Step::Done => return,
            Step::Hold { lba, blocks } => {
                job.scratch = scratch;
                return self.ask_hold(conn, key, unit, lba, blocks, now);
            }
            Step::Read { lba, blocks } => Op::Read { lba, blocks },
            Step::Write { lba, blocks, fua } => {
                run.fill(job.data.as_deref().unwrap_or(&[]), scratch.as_deref_mut().unwrap_or(&mut []));
                Op::Write { lba, blocks, fua }
            }
            Step::ReadProtected { lba, blocks, checks } => Op::ReadProtected { lba, blocks, checks },
            Step::WriteProtected { lba, blocks, fua, checks } => {
                run.fill(job.data.as_deref().unwrap_or(&[]), scratch.as_deref_mut().unwrap_or(&mut []));
                Op::WriteProtected { lba, blocks, fua, checks }
            }
            Step::WriteZeroes { lba, blocks, may_unmap } => {
                Op::WriteZeroes { lba, blocks, fua: false, may_unmap }
            }
            Step::CompareAndWrite { lba, blocks, fua } => {
                scratch = job.data.take();
                Op::CompareAndWrite { lba, blocks, fua }
            }
            Step::Verify { lba, blocks, checks } => Op::Verify { lba, blocks, checks },
            Step::Unmap { lba, blocks } => Op::Unmap { lba, blocks },
        };
        self.submit(conn, key, unit, op, scratch, 0, 0, now);
    }

    /// A step's IO has come back, with what it read or wrote.
    pub(super) fn io_finished(&mut self, conn: Key, key: Key, scratch: Option<Buf>, now: Tick) {
        if let Some(job) = self.tables.tasks.get_mut(key).and_then(|task| task.job.as_mut()) {
            job.scratch = scratch;
        }
        self.step_finished(conn, key, now);
    }

    /// A step is done: its IO has come back, or its hold is granted.
    pub(super) fn step_finished(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        let Some(job) = &mut task.job else { return };
        let (data, scratch) = (job.data.as_deref(), job.scratch.as_deref());
        if matches!(job.run, Running::Token { .. }) {
            return self.token_step_finished(conn, key, now);
        }
        let finished = match &mut job.run {
            Running::Work(run) => run.finished(data.unwrap_or(&[]), scratch.unwrap_or(&[])),
            Running::Copy(run) => {
                run.finished();
                Ok(())
            }
            Running::Token { .. } => Ok(()),
        };
        match finished {
            Ok(()) => self.work_on(conn, key, now),
            Err(sense) => self.end(conn, key, Outcome::check(sense), now),
        }
    }

    /// A run is over: the command, too, unless more of its data are to come.
    fn worked_off(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        task.job = None;
        let is_over = !task.plan.is_in_blocks() || task.submitted_bytes >= task.moves_bytes;
        let (unit, is_unmap) = (task.unit, matches!(task.plan, Plan::Work(work) if work.is_unmap()));
        self.release_hold(key);
        match unit {
            // An unmapping is not done with force unit access.
            Some(unit) if is_unmap && self.tables.view(unit).is_some_and(UnitView::is_write_through) => {
                self.submit(conn, key, unit, Op::Flush, None, 0, 0, now);
            }
            _ if is_over => self.end(conn, key, Outcome::GOOD, now),
            _ => self.advance_write(conn, key, now),
        }
    }

    /// Control has decided a command. A flush that belongs to it is made whoever is left to wait for it: what the command has
    /// changed holds, and everybody sees it.
    pub(super) fn answered(
        &mut self,
        ticket: TaskTicket,
        outcome: Outcome,
        flushes: Option<UnitId>,
        now: Tick,
    ) {
        let TaskTicket { conn, task: key } = ticket;
        let conn = self.allegiance(key, conn);
        let flushes = flushes.filter(|_| outcome.status == Status::Good);
        let task = self.tables.tasks.get_mut(key);
        let is_awaited = task.is_some_and(|task| {
            task.is_asked = false;
            task.outcome.is_none()
        });
        match flushes {
            Some(unit) if is_awaited => self.submit_lasting_flush(conn, key, unit, now),
            Some(unit) => {
                self.end(conn, key, outcome, now);
                self.flush(unit, now);
            }
            None => self.end(conn, key, outcome, now),
        }
    }

    /// An IO that nobody waits for has come back, or was given up.
    pub(super) fn ended_for_nobody(&mut self, record: &InFlight, result: Result<(), IoError>, now: Tick) {
        let (true, Err(error)) = (record.outlives != Outlives::No, result) else { return };
        if error != IoError::Cancelled || !record.is_cut() {
            self.event(Event::DeviceError { unit: record.unit, error });
        } else if self.stopping.is_none() {
            // At the end of the reactor everything is flushed anyway.
            self.flush(record.unit, now);
        }
    }

    /// Flushes a unit for nobody. Where there is no place for that, who asks again has it made.
    fn flush(&mut self, unit: UnitId, now: Tick) {
        let waits = |io: &InFlight| io.is_of_nobody() && io.outlives != Outlives::No && io.parked.is_some();
        if self.tables.ios.iter().any(|(_, io)| io.unit == unit && waits(io)) {
            // It comes after what this one is for.
            return;
        }
        self.serial += 1;
        let flush = InFlight::of_nobody(unit, Op::Flush, self.serial);
        if let Some(key) = self.tables.add_io(InFlight { outlives: Outlives::Yes, ..flush }, None) {
            self.enter(unit, key, now);
        }
    }

    /// The device has told which of its blocks take space.
    pub(super) fn surveyed(&mut self, ticket: TaskTicket, allocation: Box<Allocation>, now: Tick) {
        let task = self.tables.tasks.get_mut(ticket.task);
        match task.map(|task| (task.plan, task.outcome.is_some())) {
            Some((Plan::Report(report), false)) => {
                let conn = self.allegiance(ticket.task, ticket.conn);
                if let Some(task) = self.tables.tasks.get_mut(ticket.task) {
                    task.is_asked = false;
                }
                self.report(conn, ticket.task, &report, Some(&allocation), now);
            }
            // It was given up meanwhile.
            _ => self.answered(ticket, Outcome::of(Status::TaskAborted), None, now),
        }
        self.tell(ToControl::Retired(Retired::Allocation(allocation)));
    }
}
