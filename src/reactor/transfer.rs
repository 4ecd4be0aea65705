//! READ and WRITE, piece by piece.

use crate::bdev::Op;
use crate::bdev::pass::Flow;
use crate::buf::Buf;
use crate::iscsi::conn::Solicit;
use crate::iscsi::task::{Outcome, Phase, Task};
use crate::limits;
use crate::net::Net;
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::scsi::Plan;
use crate::scsi::protect::Protected;
use crate::scsi::sense::Sense;
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Asks the device for the next pieces of a READ.
    pub(super) fn advance_read(&mut self, conn: Key, key: Key, now: Tick) {
        loop {
            let Some(link) = self.conns.get_mut(conn) else { return };
            let Some(task) = self.tables.tasks.get(key) else { return };
            let plan = task.plan;
            let (Some(extent), Some(unit)) = (plan.reads(), task.unit) else { return };
            let left = task.moves_bytes.saturating_sub(task.read_bytes);
            // Invariant: what has come before its predecessor counts, so that there is a place for it, and one piece at most to go
            // there.
            let is_parked = task.parked.is_some() && !planted!(self, ParkedNotCounted);
            let ahead = task.ios + u8::from(is_parked);
            if left == 0 || ahead >= limits::PLAN_IOS || task.outcome.is_some() {
                return;
            }
            if link.conn.is_clogged() {
                link.has_stalled_reads = true;
                return;
            }
            let Some(view) = self.tables.view(unit) else {
                return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
            };
            let block_bytes = plan.wire_bytes(view.block_bytes);
            let bytes = left.min(limits::PIECE_BYTES_MAX);
            let blocks = bytes.div_ceil(block_bytes);
            let offset = task.read_bytes;
            let Some(buf) = self.tables.solicited.take((blocks * block_bytes) as usize) else {
                return self.go_hungry(key);
            };
            if let Some(task) = self.tables.tasks.get_mut(key) {
                task.read_bytes += bytes;
            }
            let lba = extent.lba + u64::from(offset / block_bytes);
            let op = match plan {
                Plan::Protected(Protected { checks, .. }) => Op::ReadProtected { lba, blocks, checks },
                _ => Op::Read { lba, blocks },
            };
            self.submit(conn, key, unit, op, Some(buf), offset, bytes, now);
        }
    }

    /// A piece of a READ has come: it is queued in order.
    pub(super) fn read_came(&mut self, conn: Key, key: Key, offset: u32, data: Buf, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let Some(task) = self.tables.tasks.get_mut(key) else { return };
        if offset != task.queued_bytes && !planted!(self, PiecesOutOfOrder) {
            // For a connection that is gone nothing is kept.
            task.parked = (!link.conn.is_lost()).then_some((offset, data));
            return;
        }
        let parked = task.parked.take();
        let next = u32::try_from(data.len()).ok().and_then(|bytes| task.queued_bytes.checked_add(bytes));
        let session = link.conn.session_key();
        link.conn.data_in(key, data, &mut self.tables.cx(session, now));
        if let Some((offset, data)) = parked {
            if next != Some(offset) {
                // Cannot be: a READ has no more than two pieces at once. Data at a place that is not theirs would pass for good.
                return self.end(conn, key, Outcome::check(Sense::INTERNAL_FAILURE), now);
            }
            link.conn.data_in(key, data, &mut self.tables.cx(session, now));
        }
        self.activate(conn);
        match self.tables.tasks.get(key) {
            Some(task) if task.phase != Phase::Answered => self.advance_read(conn, key, now),
            _ => self.run_queued(conn, now),
        }
    }

    /// Moves a WRITE on: hands a full piece to the device, takes a buffer for the next, asks for its data.
    pub(super) fn advance_write(&mut self, conn: Key, key: Key, now: Tick) {
        if !self.has_room_for_told(key) {
            return self.go_hungry(key);
        }
        if planted!(self, PartialWrite)
            && self
                .tables
                .tasks
                .get(key)
                .is_some_and(|task| task.unsolicited.is_some() && task.outcome.is_none())
            && let Some(link) = self.conns.get_mut(conn)
            && let Some((buf, start)) =
                link.conn.take_piece(key, &mut self.tables.cx(link.conn.session_key(), now))
        {
            return self.write_piece(conn, key, buf, start, now);
        }
        loop {
            let Some(link) = self.conns.get_mut(conn) else { return };
            let mut cx = self.tables.cx(link.conn.session_key(), now);
            let solicit = link.conn.solicit(key, &mut cx);
            match solicit {
                Solicit::Asked => break,
                Solicit::NeedsBuffer(bytes) => {
                    // A command that is worked off in steps takes one piece at a time.
                    let is_busy = |task: &Task| task.ios >= limits::PLAN_IOS || task.job.is_some();
                    if cx.tasks.get(key).is_none_or(is_busy) {
                        break;
                    }
                    let Some(buf) = cx.solicited.take(bytes) else {
                        if let Some(task) = cx.tasks.get_mut(key).filter(|task| task.ios == 0) {
                            // Who waits for a buffer holds none.
                            task.told = None;
                        }
                        return self.go_hungry(key);
                    };
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

    /// A piece of the data that come with a command is full.
    fn write_piece(&mut self, conn: Key, key: Key, buf: Buf, start: u32, now: Tick) {
        let Some(task) = self.tables.tasks.get(key) else { return };
        let (extent, checks, unit) = match (task.plan, task.unit) {
            (Plan::Write(extent), Some(unit)) => (extent, None, unit),
            (Plan::Protected(Protected { extent, checks, .. }), Some(unit)) => (extent, Some(checks), unit),
            (Plan::Pass { .. }, _) => return self.submit_pass(conn, key, Flow::Out, buf, start, now),
            _ => return self.data_came(conn, key, Some(buf), start, now),
        };
        let plan = task.plan;
        let Some(view) = self.tables.view(unit) else {
            return self.end(conn, key, Outcome::check(Sense::NO_SUCH_UNIT), now);
        };
        let block_bytes = plan.wire_bytes(view.block_bytes);
        let bytes = u32::try_from(buf.len()).unwrap_or(0);
        let (lba, blocks) = (extent.lba + u64::from(start / block_bytes), bytes / block_bytes);
        let fua = extent.fua && !planted!(self, FuaDropped);
        let op = match checks {
            None => Op::Write { lba, blocks, fua },
            Some(checks) => Op::WriteProtected { lba, blocks, fua, checks },
        };
        self.submit(conn, key, unit, op, Some(buf), start, bytes, now);
    }

    /// Moves stalled READs on, now that less waits to be sent.
    pub(super) fn unstall(&mut self, conn: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        link.has_stalled_reads = false;
        let mut at = self.tables.sessions[link.conn.session_key()].tasks().first();
        while let Some(key) = at {
            let Some(task) = self.tables.tasks.get(key) else { break };
            at = self.tables.tasks.next(key);
            if task.conn != conn {
                continue;
            }
            let (is_running, reads) = (task.phase == Phase::Running, task.plan.reads().is_some());
            let takes_in = task.takes_in;
            if task.again.is_some() {
                self.resend(conn, key, now);
            }
            if is_running && reads {
                self.advance_read(conn, key, now);
            } else if is_running && takes_in {
                self.advance_pass(conn, key, now);
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
}
