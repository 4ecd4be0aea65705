//! Recovery within a session (RFC 7143 §7.2.2, §7.8): data sent again, commands taken over by another connection.

use crate::bdev::{IoError, Op};
use crate::buf::Buf;
use crate::iscsi::conn::{GoOn, TmfCall, TmfReply};
use crate::iscsi::sn::Sn;
use crate::iscsi::task::Phase;
use crate::limits;
use crate::net::Net;
use crate::reactor::message::{CloseCause, TmfTicket, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::reactor::watch::Watch;
use crate::scsi::Plan;
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// From now on writes to the units of a session's target are watched. Allocates, at logins.
    pub(super) fn watch(&mut self, session: Key) {
        for mapping in &self.tables.sessions[session].target().mappings {
            if let Some(unit) = unit::of(&mut self.units, mapping.unit) {
                unit.watch.get_or_insert_with(|| Box::new(Watch::new()));
            }
        }
    }

    /// A READ is begun: from here on it is known whether its blocks change.
    pub(super) fn begin_watching(&mut self, key: Key) {
        if let Some(task) = self.tables.tasks.get_mut(key)
            && task.watched_at.is_none()
            && self.peers.len() <= 1
            && let Some(id) = task.unit
            && let Some(unit) = unit::of(&mut self.units, id)
        {
            task.watched_at = unit.watch.as_ref().map(|watch| watch.count());
        }
    }

    /// Reads the next piece of what is to be sent again.
    pub(super) fn resend(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(task) = self.tables.tasks.get(key) else { return };
        let (Plan::Read(extent), Some(id), Some(again)) = (task.plan, task.unit, task.again) else { return };
        if task.ios > 0 || task.phase != Phase::Answered {
            return;
        }
        let watched_at = task.watched_at;
        let Some(link) = self.conns.get_mut(conn) else { return };
        if again.at >= again.end {
            link.conn.sent_again(key, &mut self.tables.cx(link.conn.session_key(), now));
            return self.activate(conn);
        }
        if link.conn.is_clogged() {
            // As with data that are sent for the first time: `unstall` goes on.
            link.has_stalled_reads = true;
            return;
        }
        let block_bytes = self.tables.view(id).map(|view| view.block_bytes);
        let blocks_of = |block_bytes: u32| {
            let piece_end = (again.at / limits::PIECE_BYTES_MAX + 1) * limits::PIECE_BYTES_MAX;
            let (first, end) = (again.at / block_bytes, again.end.min(piece_end).div_ceil(block_bytes));
            (extent.lba + u64::from(first), end - first, first * block_bytes, again.end.min(piece_end))
        };
        let range = block_bytes.map(blocks_of).filter(|(lba, blocks, ..)| {
            let watch = unit::of(&mut self.units, id).and_then(|unit| unit.watch.as_ref());
            watch.zip(watched_at).is_some_and(|(watch, since)| watch.is_unchanged(since, *lba, *blocks))
        });
        let (Some((lba, blocks, start, end)), Some(block_bytes)) = (range, block_bytes) else {
            return self.cannot_resend(conn, key, now);
        };
        let Some(buf) = self.tables.solicited.take((blocks * block_bytes) as usize) else {
            return self.go_hungry(key);
        };
        // The offset says where the blocks begin, the bytes how far what is wanted reaches.
        self.submit(conn, key, id, Op::Read { lba, blocks }, Some(buf), start, end - start, now);
    }

    /// Data that are to be sent again have been read.
    pub(super) fn read_again(
        &mut self,
        record: &InFlight,
        data: Option<Buf>,
        result: Result<(), IoError>,
        now: Tick,
    ) {
        let (conn, key) = (record.conn, record.task);
        let again = self.tables.tasks.get(key).and_then(|task| task.again);
        let (Ok(()), Some(mut data), Some(again)) = (result, data, again) else {
            return self.cannot_resend(conn, key, now);
        };
        // A SNACK may have come meanwhile that wants more: then the rest follows.
        let skip = again.at.saturating_sub(record.offset) as usize;
        let upto = (record.bytes as usize).min(data.len());
        if again.at < record.offset || skip >= upto {
            return self.resend(conn, key, now);
        }
        data.copy_within(skip..upto, 0);
        data.truncate(upto - skip);
        if let Some(link) = self.conns.get_mut(conn) {
            let session = link.conn.session_key();
            link.conn.data_again(key, data, again.at, &mut self.tables.cx(session, now));
            self.activate(conn);
        }
        self.resend(conn, key, now);
    }

    /// A READ that has not been answered is to be sent from its beginning (RFC 7143 §11.16.3).
    pub(super) fn read_anew(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        link.conn.begin_anew(key, self.serial + 1, &mut self.tables.cx(link.conn.session_key(), now));
        self.advance_read(conn, key, now);
    }

    fn cannot_resend(&mut self, conn: Key, key: Key, now: Tick) {
        if let Some(link) = self.conns.get_mut(conn) {
            let session = link.conn.session_key();
            link.conn.cannot_resend(key, &mut self.tables.cx(session, now));
            self.activate(conn);
        }
    }

    /// Keeps a connection that is gone for recovery, if it may be. Whether it is kept.
    pub(super) fn suspend(&mut self, key: Key, cause: CloseCause, now: Tick) -> bool {
        let is_final = matches!(
            cause,
            CloseCause::Ended(_)
                | CloseCause::Stopping
                | CloseCause::NotRecovered
                | CloseCause::LoggedOutByAnother
        );
        let Some(link) = self.conns.get_mut(key).filter(|link| !is_final && link.conn.may_recover()) else {
            return false;
        };
        let session = link.conn.session_key();
        link.conn.lose(cause == CloseCause::Replaced, &mut self.tables.cx(session, now));
        (link.is_readable, link.is_writable, link.has_stalled_reads) = (false, false, false);
        link.cut = None;
        self.net.close(link.sock);
        self.next_scan = now;
        self.run_queued_of(session, now);
        true
    }

    /// A connection is logged out for recovery by another one (RFC 7143 §11.14).
    pub(super) fn release(&mut self, key: Key, exp_stat_sn: Sn, now: Tick) {
        self.suspend(key, CloseCause::Replaced, now);
        if let Some(link) = self.conns.get_mut(key) {
            let session = link.conn.session_key();
            link.conn.release(exp_stat_sn, &mut self.tables.cx(session, now));
        }
        self.forget_recovered(key, now);
    }

    /// TASK REASSIGN (RFC 7143 §7.2.2).
    pub(super) fn reassign(&mut self, conn: Key, call: &TmfCall, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        let session = link.conn.session_key();
        let ticket = TmfTicket { conn, itt: call.itt };
        let found =
            link.conn.to_reassign(call.referenced_itt, call.is_immediate, &self.tables.cx(session, now));
        let allegiant = |key: &Key| {
            let owner = self.tables.tasks.get(*key).map_or(conn, |task| task.conn);
            (owner != conn && self.conns.get(owner).is_some_and(|link| link.conn.is_recoverable()))
                .then_some(owner)
        };
        let function = call.function.code();
        let (key, old) = match found.map(|key| (key, allegiant(&key))) {
            Ok((key, Some(old))) => (key, old),
            Ok((_, None)) => return self.answer_tmf(ticket, function, TmfReply::StillAllegiant, now),
            Err(reply) => return self.answer_tmf(ticket, function, reply, now),
        };
        // RFC 7143 §11.6: the answer goes before whatever the command has to say.
        self.answer_tmf(ticket, function, TmfReply::Complete, now);
        let unit = self.tables.tasks.get(key).and_then(|task| task.unit);
        let block_bytes = unit.and_then(|unit| self.tables.view(unit)).map_or(1, |view| view.block_bytes);
        for index in 0..self.tables.ios.used() {
            if let Some(io) = self.tables.ios.key_at(index).and_then(|io| self.tables.ios.get_mut(io))
                && io.task == key
                && !planted!(self, AllegianceForgotten)
            {
                io.conn = conn;
            }
        }
        let Some(link) = self.conns.get_mut(old) else { return };
        let segment_bytes = link.conn.hand_off(key, &mut self.tables.cx(session, now));
        let Some(link) = self.conns.get_mut(conn) else { return };
        let mut cx = self.tables.cx(session, now);
        let go_on =
            link.conn.take_over(key, call.exp_data_sn, segment_bytes, self.serial + 1, block_bytes, &mut cx);
        match go_on {
            GoOn::Wait => {}
            GoOn::Read => self.advance_read(conn, key, now),
            GoOn::Write => self.advance_write(conn, key, now),
            GoOn::Run => self.run(conn, key, now),
            GoOn::Answer => self.settle(conn, key, now),
        }
        self.forget_recovered(old, now);
    }

    /// A lost connection whose last command has been taken over is over.
    fn forget_recovered(&mut self, key: Key, now: Tick) {
        let Some(link) = self.conns.get(key).filter(|link| link.conn.is_recoverable()) else { return };
        let session = link.conn.session_key();
        let (id, cid) = (link.conn.session(), link.conn.cid());
        let has_tasks =
            self.conns.get(key).is_some_and(|link| link.conn.has_tasks(&self.tables.cx(session, now)));
        // The last connection of a session stays until its time is over.
        if !has_tasks && self.tables.sessions[session].conns().len() > 1 {
            if let Some(mut link) = self.conns.remove(key) {
                link.conn.close(&mut self.tables.cx(session, now));
            }
            self.tables.let_go();
            self.tables.sessions[session].leave(key);
            self.tell(ToControl::ConnEnded { session: id, cid });
        }
    }
}
