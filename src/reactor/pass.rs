//! Commands that the device carries out as they came ([`scsi::pass`]): one piece at a time to the initiator, and how the
//! device has ended them in its own words.

use crate::bdev::Op;
use crate::bdev::pass::{Flow, SENSE_BYTES_MAX, Told};
use crate::buf::Buf;
use crate::iscsi::task::{Outcome, Phase};
use crate::iscsi::wire::Residual;
use crate::limits;
use crate::net::Net;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::scsi::sense::Sense;
use crate::scsi::{self, Plan, Status};
use crate::slab::Key;
use crate::time::Tick;

/// RFC 7143 §11.4.7.2: the length of the sense data goes before them.
const LENGTH_BYTES: usize = 2;

impl<N: Net> Reactor<N> {
    /// Moves a command on that is passed to the device.
    pub(super) fn advance_pass(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        if task.outcome.is_some() || task.phase != Phase::Running {
            return;
        }
        let Some(unit) = task.unit else {
            return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        if task.takes_in && (task.ios > 0 || task.read_bytes >= task.moves_bytes && task.moves_bytes > 0) {
            return;
        }
        if task.takes_in && task.moves_bytes > 0 && link.conn.is_clogged() {
            link.has_stalled_reads = true;
            return;
        }
        if task.moves_bytes > 0 && !task.takes_in {
            return self.advance_write(conn, key, now);
        }
        if !self.has_room_for_told(key) {
            return self.go_hungry(key);
        }
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        if task.moves_bytes == 0 {
            let op = Op::Pass { cdb: task.cdb.bytes, flow: Flow::None, bytes: 0 };
            return self.submit(conn, key, unit, op, None, 0, 0, now);
        }
        let offset = task.read_bytes;
        let bytes = (task.moves_bytes - offset).min(limits::PIECE_BYTES_MAX);
        let Some(buf) = self.tables.solicited.take(bytes as usize) else {
            // Who waits for a buffer holds none.
            task.told = None;
            return self.go_hungry(key);
        };
        task.read_bytes += bytes;
        self.submit_pass(conn, key, Flow::In, buf, offset, now);
    }

    /// Sees to it that what the device will say of a command has its place, before anything else is taken for it. Whether it is so; of
    /// a command that is not passed on it always is.
    pub(super) fn has_room_for_told(&mut self, key: Key) -> bool {
        let Some(task) = self.tables.tasks.get_mut(key) else { return true };
        if task.told.is_none() && task.outcome.is_none() && matches!(task.plan, Plan::Pass { .. }) {
            task.told = self.tables.solicited.take(LENGTH_BYTES + SENSE_BYTES_MAX);
            return task.told.is_some();
        }
        true
    }

    /// Has the device carry out the part of a command whose data are `buf`, from `offset` of the command's on.
    pub(super) fn submit_pass(&mut self, conn: Key, key: Key, flow: Flow, buf: Buf, offset: u32, now: Tick) {
        let Some(task) = self.tables.tasks.get(key) else { return };
        let Some((unit, view)) = task.unit.and_then(|unit| Some((unit, self.tables.view(unit)?))) else {
            return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        let bytes = u32::try_from(buf.len()).unwrap_or(0);
        let cdb = scsi::pass::part(&task.cdb, task.moves_bytes, offset, bytes, view.block_bytes);
        let op = Op::Pass { cdb, flow, bytes };
        self.submit(conn, key, unit, op, Some(buf), offset, bytes, now);
    }

    /// How the device has ended a part of a command, with its sense data in the task, if it is the first that has failed. Asked in any
    /// case, so that the channel can forget it.
    pub(super) fn ask_told(&mut self, record: &InFlight, tag: Key) -> Option<Told> {
        let channel = unit::of(&mut self.units, record.unit)?.channel.as_mut()?;
        let task = self.tables.tasks.get_mut(record.task).filter(|task| task.outcome.is_none());
        let told = task.and_then(|task| task.told.as_deref_mut());
        channel.told(tag, told.and_then(|told| told.get_mut(LENGTH_BYTES..)).unwrap_or(&mut []))
    }

    /// A part of a command has come back from the device.
    pub(super) fn pass_came(&mut self, record: &InFlight, data: Option<Buf>, told: Option<Told>, now: Tick) {
        let (conn, key) = (record.conn, record.task);
        let Some(told) = told else {
            return self.end(conn, key, Outcome::check(Sense::INTERNAL_FAILURE), now);
        };
        let Some(link) = self.conns.get_mut(conn) else { return };
        let session = link.conn.session_key();
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        let moved = record.bytes.saturating_sub(told.residual_bytes);
        let upto = record.offset + moved;
        let is_good = told.status == Status::Good.code();
        let is_short = moved < record.bytes;
        if !is_good || is_short {
            task.residual = match task.expected_bytes.saturating_sub(upto) {
                0 => Residual::None,
                left => Residual::Under(left),
            };
        }
        let data = data.filter(|_| task.takes_in && moved > 0).map(|mut data| {
            data.truncate(moved as usize);
            data
        });
        if !is_good {
            match &mut task.told {
                Some(sense) if told.sense_bytes > 0 => {
                    let [low, high] = u16::try_from(told.sense_bytes).unwrap_or(0).to_le_bytes();
                    sense[..LENGTH_BYTES].copy_from_slice(&[high, low]);
                    sense.truncate(LENGTH_BYTES + told.sense_bytes);
                }
                sense => *sense = None,
            }
            // RFC 7143 §11.4.7.2: CHECK CONDITION comes with sense data. A device that does not say why has failed.
            let is_mute = told.status == Status::CheckCondition.code() && task.told.is_none();
            if let Some(data) = data {
                link.conn.data_before_status(key, data, &mut self.tables.cx(session, now));
                self.activate(conn);
            }
            let outcome = match is_mute {
                true => Outcome::check(Sense::INTERNAL_FAILURE),
                false => Outcome::of(Status::Told(told.status)),
            };
            return self.end(conn, key, outcome, now);
        }
        if !task.takes_in {
            let is_over = is_short || task.ios == 0 && task.submitted_bytes >= task.moves_bytes;
            return match is_over {
                true => self.end(conn, key, Outcome::GOOD, now),
                false => self.advance_write(conn, key, now),
            };
        }
        if is_short {
            task.moves_bytes = upto;
        }
        let Some(data) = data else { return self.end(conn, key, Outcome::GOOD, now) };
        link.conn.data_in(key, data, &mut self.tables.cx(session, now));
        self.activate(conn);
        match self.tables.tasks.get(key) {
            Some(task) if task.phase == Phase::Running => self.advance_pass(conn, key, now),
            _ => self.run_queued(conn, now),
        }
    }
}
