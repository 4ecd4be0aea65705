//! Commands at work: from their turn, through the device, to their end.

use crate::bdev::{Done, Io, IoError, Op};
use crate::buf::Buf;
use crate::id::UnitId;
use crate::iscsi::conn::{Request, Solicit};
use crate::iscsi::error::Fatal;
use crate::iscsi::task::{Outcome, Phase};
use crate::limits;
use crate::net::Net;
use crate::reactor::message::Event;
use crate::reactor::planted::planted;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::Reactor;
use crate::reactor::unit::{self, Handed};
use crate::scsi::attention::Ua;
use crate::scsi::sense::Sense;
use crate::scsi::{self, Access, Extent, Plan, Status, table};
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Does what a connection asks for.
    pub(super) fn request(&mut self, conn: Key, request: Request, now: Tick) -> Result<(), Fatal> {
        match request {
            Request::Run(task) => self.run(conn, task, now),
            Request::Piece(task) => self.advance_write(conn, task, now),
            Request::Settle(task) => self.settle(conn, task, now),
            Request::Tmf(call) => self.tmf(conn, &call, now),
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
    fn run(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        if task.outcome.is_some() {
            return self.settle(conn, key, now);
        }
        let (place, attentions) = link.conn.place_and_attentions(task.number, &self.tables.views);
        let plan = scsi::admit(task.plan, &task.cdb, &place, attentions);
        task.plan = plan;
        let has_told_luns = task.cdb.opcode() == table::REPORT_LUNS && matches!(plan, Plan::Report(_))
            || plan == Plan::Refuse(Ua::LunsChanged.sense());
        let moves_bytes = task.moves_bytes;
        let unit = task.unit;
        if has_told_luns {
            link.conn.luns_told();
        }
        match plan {
            Plan::End(status) => self.end(conn, key, Outcome::of(status), now),
            Plan::Refuse(sense) => self.end(conn, key, Outcome::check(sense), now),
            Plan::Report(report) => {
                let bytes = report.bytes_max() as usize;
                let Some(mut out) = self.tables.solicited.take(bytes.max(1)) else {
                    return self.end(conn, key, Outcome::of(Status::Busy), now);
                };
                let Some(task) = self.tables.tasks.get(key) else { return };
                let (place, attentions) = link.conn.place_and_attentions(task.number, &self.tables.views);
                let filled = scsi::report::fill(&report, &place, attentions, &mut out);
                out.truncate(filled);
                link.conn.report(key, out, &mut self.tables.cx(now));
                self.activate(conn);
                self.run_queued(conn, now);
            }
            Plan::Read(_) | Plan::Write(_) if moves_bytes == 0 => self.end(conn, key, Outcome::GOOD, now),
            Plan::Read(_) => self.advance_read(conn, key, now),
            Plan::Write(_) => self.advance_write(conn, key, now),
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

    /// Decides how a command ends, and ends it as soon as nothing more is awaited.
    pub(super) fn end(&mut self, conn: Key, key: Key, outcome: Outcome, now: Tick) {
        if let Some(link) = self.conns.get_mut(conn) {
            link.conn.decide(key, outcome, &mut self.tables.cx(now));
        }
        self.settle(conn, key, now);
    }

    pub(super) fn settle(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        if link.conn.settle(key, &mut self.tables.cx(now)) {
            self.activate(conn);
            self.run_queued(conn, now);
        }
    }

    /// Runs commands that waited for their order or the gate.
    pub(super) fn run_queued(&mut self, conn: Key, now: Tick) {
        while let Some(link) = self.conns.get_mut(conn)
            && let Some(key) = link.conn.next_runnable(&mut self.tables.cx(now))
        {
            self.run(conn, key, now);
        }
    }

    /// Asks the device for the next pieces of a READ.
    pub(super) fn advance_read(&mut self, conn: Key, key: Key, now: Tick) {
        loop {
            let Some(link) = self.conns.get_mut(conn) else { return };
            let Some(task) = self.tables.tasks.get(key) else { return };
            let (Plan::Read(extent), Some(unit)) = (task.plan, task.unit) else { return };
            let left = task.moves_bytes.saturating_sub(task.read_bytes);
            if left == 0 || task.ios >= limits::PLAN_IOS || task.outcome.is_some() {
                return;
            }
            if link.conn.is_clogged() {
                link.has_stalled_reads = true;
                return;
            }
            let Some(view) = self.tables.view(unit) else {
                return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
            };
            let block_bytes = view.block_bytes;
            let bytes = left.min(limits::PIECE_BYTES_MAX);
            let blocks = bytes.div_ceil(block_bytes);
            let offset = task.read_bytes;
            let Some(buf) = self.tables.solicited.take((blocks * block_bytes) as usize) else {
                return self.go_hungry(conn, key);
            };
            if let Some(task) = self.tables.tasks.get_mut(key) {
                task.read_bytes += bytes;
            }
            let op = Op::Read { lba: extent.lba + u64::from(offset / block_bytes), blocks };
            self.submit(conn, key, unit, op, Some(buf), offset, bytes, now);
        }
    }

    /// Moves a WRITE on: hands a full piece to the device, takes a buffer for the next, asks for its data.
    pub(super) fn advance_write(&mut self, conn: Key, key: Key, now: Tick) {
        if planted!(self, PartialWrite)
            && self
                .tables
                .tasks
                .get(key)
                .is_some_and(|task| task.unsolicited.is_some() && task.outcome.is_none())
            && let Some(link) = self.conns.get_mut(conn)
            && let Some((buf, start)) = link.conn.take_piece(key, &mut self.tables.cx(now))
        {
            return self.write_piece(conn, key, buf, start, now);
        }
        loop {
            let Some(link) = self.conns.get_mut(conn) else { return };
            let mut cx = self.tables.cx(now);
            let solicit = link.conn.solicit(key, &mut cx);
            match solicit {
                Solicit::Asked => break,
                Solicit::NeedsBuffer(bytes) => {
                    if cx.tasks.get(key).is_none_or(|task| task.ios >= limits::PLAN_IOS) {
                        break;
                    }
                    let Some(buf) = cx.solicited.take(bytes) else { return self.go_hungry(conn, key) };
                    link.conn.give_buffer(key, buf, &mut cx);
                }
                Solicit::PieceFull => {
                    let Some((buf, start)) = link.conn.take_piece(key, &mut cx) else { break };
                    self.write_piece(conn, key, buf, start, now);
                }
            }
        }
        if self.conns.get(conn).is_some_and(|link| link.conn.has_output()) {
            self.activate(conn);
        }
    }

    fn write_piece(&mut self, conn: Key, key: Key, buf: Buf, start: u32, now: Tick) {
        let Some(task) = self.tables.tasks.get(key) else { return };
        let (Plan::Write(extent), Some(unit)) = (task.plan, task.unit) else { return };
        let Some(view) = self.tables.view(unit) else {
            return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        let block_bytes = view.block_bytes;
        let bytes = u32::try_from(buf.len()).unwrap_or(0);
        let op = Op::Write {
            lba: extent.lba + u64::from(start / block_bytes),
            blocks: bytes / block_bytes,
            fua: extent.fua && !planted!(self, FuaDropped),
        };
        self.submit(conn, key, unit, op, Some(buf), start, bytes, now);
    }

    /// Puts a task into the queue for a buffer.
    fn go_hungry(&mut self, conn: Key, key: Key) {
        if let Some(task) = self.tables.tasks.get_mut(key)
            && !task.is_waiting_for_buffer
        {
            task.is_waiting_for_buffer = true;
            self.hungry.push_back((conn, key));
        }
    }

    /// Lets those that wait for a buffer try again, in order, until one finds none.
    pub(super) fn feed(&mut self, now: Tick) {
        for _ in 0..self.hungry.len() {
            let Some((conn, key)) = self.hungry.pop_front() else { return };
            let Some(task) = self.tables.tasks.get_mut(key) else { continue };
            task.is_waiting_for_buffer = false;
            let is_read = matches!(task.plan, Plan::Read(_));
            let before = self.hungry.len();
            if is_read {
                self.advance_read(conn, key, now);
            } else {
                self.advance_write(conn, key, now);
            }
            if self.hungry.len() > before {
                // It keeps its place.
                if let Some(last) = self.hungry.pop_back() {
                    self.hungry.push_front(last);
                }
                return;
            }
        }
    }

    /// Moves stalled READs on, now that less waits to be sent.
    pub(super) fn unstall(&mut self, conn: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        link.has_stalled_reads = false;
        let mut at = link.conn.tasks().first();
        while let Some(key) = at {
            let Some(task) = self.tables.tasks.get(key) else { break };
            at = self.tables.tasks.next(key);
            if task.phase == Phase::Running && matches!(task.plan, Plan::Read(_)) {
                self.advance_read(conn, key, now);
            }
        }
        if at.is_some()
            && let Some(link) = self.conns.get_mut(conn)
        {
            // The next one ended meanwhile: those behind it have their turn with the next send.
            link.has_stalled_reads = true;
            self.activate(conn);
        }
    }

    /// Hands an IO to the unit's channel, or parks it where there is no room.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of the record that is made here")]
    fn submit(
        &mut self,
        conn: Key,
        task: Key,
        unit: UnitId,
        op: Op,
        data: Option<Buf>,
        offset: u32,
        bytes: u32,
        now: Tick,
    ) {
        let Some(link) = self.conns.get(conn) else { return };
        let session = link.conn.session();
        self.serial += 1;
        let serial = self.serial;
        let hold = self.holds.granted_to(task);
        let record =
            InFlight { task, conn, session, unit, op, offset, bytes, serial, parked: None, next: None, hold };
        let Ok(key) = self.tables.ios.insert(record) else {
            // Cannot be: the slab holds PLAN_IOS for every task.
            return self.end(conn, task, Outcome::of(Status::Busy), now);
        };
        if let Some(record) = self.tables.ios.get_mut(key) {
            record.parked = Some(Io { tag: key, op, data });
        }
        if let Some(task) = self.tables.tasks.get_mut(task) {
            task.ios += 1;
        }
        self.enter(unit, key, now);
    }

    /// An IO comes to its unit, or comes back to it from a hold: behind those that wait for room. One that is made under
    /// a hold passes them, as they may be waiting for the end of that very hold.
    pub(super) fn enter(&mut self, unit: UnitId, key: Key, now: Tick) {
        let Some(slot) = unit::of(&mut self.units, unit) else {
            return self.finish(key, None, Err(IoError::Gone), now);
        };
        if !slot.is_busy {
            slot.is_busy = true;
            self.busy.push(unit);
        }
        let is_urgent = self.tables.ios.get(key).is_some_and(|io| io.hold.is_some());
        if slot.needs_room() && !is_urgent {
            slot.parked.push(key, &mut self.tables);
        } else {
            self.try_submit(unit, key, is_urgent, now);
        }
    }

    /// Checks an IO's permission once more, and hands it over. Whether it need not wait for room any more; where it must,
    /// whether it is the first to.
    fn try_submit(&mut self, unit: UnitId, key: Key, is_first: bool, now: Tick) -> bool {
        if let Err(sense) = self.recheck(key) {
            self.refuse(key, sense, now);
            return true;
        }
        let is_held = self.is_held(key);
        let Some(slot) = unit::of(&mut self.units, unit) else { return true };
        if is_held {
            slot.held.push(key, &mut self.tables);
            return true;
        }
        match unit::hand_over(slot, self.id, key, &mut self.tables, now) {
            Handed::Taken => true,
            Handed::Gone => {
                self.finish(key, None, Err(IoError::Gone), now);
                true
            }
            Handed::NoRoom if is_first => {
                slot.parked.push_front(key, &mut self.tables);
                false
            }
            Handed::NoRoom => {
                slot.parked.push(key, &mut self.tables);
                false
            }
        }
    }

    /// Tries parked IOs again, in order.
    pub(super) fn resubmit(&mut self, unit: UnitId, now: Tick) {
        while let Some(slot) = unit::of(&mut self.units, unit)
            && let Some(key) = slot.parked.pop(&mut self.tables)
        {
            if !self.try_submit(unit, key, true, now) {
                return;
            }
        }
    }

    /// Size, write protection and readiness may have changed since the command was admitted.
    fn recheck(&self, key: Key) -> Result<(), Sense> {
        let Some(record) = self.tables.ios.get(key) else { return Ok(()) };
        let (Some(link), Some(task)) = (self.conns.get(record.conn), self.tables.tasks.get(record.task))
        else {
            return Err(Sense::COMMAND_ABORTED);
        };
        let place = link.conn.place(task.number, &self.tables.views);
        if place.unit.is_some_and(|(view, _)| view.id != record.unit) {
            // The LUN leads to another unit by now.
            return Err(Sense::NO_SUCH_UNIT);
        }
        if planted!(self, NoRecheckAtSubmit) {
            return Ok(());
        }
        match record.op {
            Op::Read { lba, blocks } => {
                scsi::recheck(Extent { lba, blocks, fua: false }, Access::Read, &place)
            }
            Op::Write { lba, blocks, fua } => {
                scsi::recheck(Extent { lba, blocks, fua }, Access::Write, &place)
            }
            Op::Flush if place.unit.is_none() => Err(Sense::NO_SUCH_UNIT),
            Op::Flush => Ok(()),
        }
    }

    /// An IO ends before the device has seen it.
    fn refuse(&mut self, key: Key, sense: Sense, now: Tick) {
        let Some(record) = self.tables.ios.remove(key) else { return };
        if let Some(task) = self.tables.tasks.get_mut(record.task) {
            task.ios -= 1;
        }
        self.end(record.conn, record.task, Outcome::check(sense), now);
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
        let Some(record) = self.tables.ios.remove(key) else { return };
        let Some(task) = self.tables.tasks.get_mut(record.task) else { return };
        task.ios -= 1;
        if task.outcome.is_some() {
            return self.settle(record.conn, record.task, now);
        }
        if let Err(error) = result
            && !planted!(self, ErrorIgnored)
        {
            self.event(Event::DeviceError { unit: record.unit, error });
            return self.end(
                record.conn,
                record.task,
                Outcome::check(Sense::of_failure(error, record.op)),
                now,
            );
        }
        match (record.op, data) {
            (Op::Read { .. }, Some(mut data)) => {
                data.truncate(record.bytes as usize);
                self.read_came(record.conn, record.task, record.offset, data, now);
            }
            (Op::Write { .. }, _) => {
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
            (Op::Flush | Op::Read { .. }, _) => self.end(record.conn, record.task, Outcome::GOOD, now),
        }
    }

    /// A piece of a READ has come: it is queued in order.
    fn read_came(&mut self, conn: Key, key: Key, offset: u32, data: Buf, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        if offset != task.queued_bytes && !planted!(self, PiecesOutOfOrder) {
            task.parked = Some((offset, data));
            return;
        }
        let parked = task.parked.take();
        link.conn.data_in(key, data, &mut self.tables.cx(now));
        if let Some((_, data)) = parked {
            link.conn.data_in(key, data, &mut self.tables.cx(now));
        }
        self.activate(conn);
        if self.tables.tasks.get(key).is_some() {
            self.advance_read(conn, key, now);
        } else {
            self.run_queued(conn, now);
        }
    }
}
