//! Recovery within a session (RFC 7143 §7.2.2, §7.8): data sent again, commands taken over by another connection.

use crate::iscsi::conn::{GoOn, Resent, TmfCall, TmfReply};
use crate::iscsi::sn::Sn;
use crate::net::Net;
use crate::reactor::message::{CloseCause, TmfTicket, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::turn::Reactor;
use crate::slab::Key;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Queues data that are to be sent again.
    pub(super) fn resend(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        match link.conn.resend(key, &mut self.tables.cx(link.conn.session_key(), now)) {
            Resent::All => {}
            // As with data that are sent for the first time: `unstall` goes on.
            Resent::Clogged => link.has_stalled_reads = true,
            Resent::NoBuffer => self.go_hungry(key),
            Resent::Refused => self.settle(conn, key, now),
        }
        self.activate(conn);
    }

    /// A READ that has not been answered is to be sent from its beginning (RFC 7143 §11.16.3).
    pub(super) fn read_anew(&mut self, conn: Key, key: Key, now: Tick) {
        let Some(link) = self.conns.get_mut(conn) else { return };
        link.conn.begin_anew(key, self.serial + 1, &mut self.tables.cx(link.conn.session_key(), now));
        self.advance_read(conn, key, now);
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
