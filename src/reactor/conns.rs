//! The beginning and the end of connections and sessions.

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::id::SessionId;
use crate::iscsi::conn::{Conn, ConnSetup, OtherLogout};
use crate::iscsi::session::{Session, SessionSetup};
use crate::limits;
use crate::net::Net;
use crate::reactor::look::Why;
use crate::reactor::message::{Adopt, CloseCause, Event, Join, Retired, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::turn::{Link, Reactor, cause};
use crate::reactor::wait::{Then, What};
use crate::slab::Key;
use crate::time::Tick;

/// The connections of one session.
type ConnKeys = ArrayVec<Key, { limits::SESSION_CONNS_MAX }>;

impl<N: Net> Reactor<N> {
    /// The connections of a session that is here; none of one that is not.
    pub(super) fn conns_of(&self, session: SessionId) -> ConnKeys {
        let session = self.tables.sessions.find(session);
        session.map_or_else(ConnKeys::new, |key| self.tables.sessions[key].conns().iter().copied().collect())
    }

    /// A session begins, with its first connection.
    pub(super) fn adopt(&mut self, adopt: Adopt<N::Handle>, now: Tick) {
        #[cfg(feature = "sim")]
        if planted!(self, TurnNeverEnds) {
            crate::reactor::planted::hang();
        }
        let session = adopt.session;
        self.make_room();
        let began = self.tables.sessions.insert(Session::new(SessionSetup {
            reactor: self.id,
            id: session,
            nexus: adopt.nexus,
            target: adopt.target,
            exp_cmd_sn: adopt.exp_cmd_sn,
            attention: adopt.attention,
            owed: adopt.owed,
            is_gated: adopt.is_gated && !planted!(self, GhostWrite),
            meter: adopt.meter,
            stages: Arc::clone(&self.meter.stages),
            pace: adopt.pace,
        }));
        #[cfg(feature = "sim")]
        if planted!(self, OrderOfArrival)
            && let Ok(key) = began
        {
            self.tables.sessions[key].order_by_arrival();
        }
        let Ok(session_key) = began else {
            // Cannot be: there is room for as many sessions as connections, and control knows how many those are.
            debug_assert!(false, "more sessions than a reactor has room for");
            return self.never_began(session);
        };
        // The key is known before the connection is made: its next tenancy.
        let entered = self.conns.next_key().and_then(|key| {
            let setup = ConnSetup {
                key,
                session_key,
                session,
                nexus: adopt.nexus,
                params: adopt.params,
                stat_sn: adopt.stat_sn,
                cid: adopt.cid,
                retains: adopt.params.error_recovery_level > 0,
                ask_ns: adopt.nop_in.ask_ns,
                close_ns: adopt.nop_in.close_ns,
            };
            self.take_in(setup, adopt.handle, now)
        });
        match entered {
            Some(key) => self.begin(key, &adopt.leftover, now),
            None => {
                self.tables.sessions.remove(session_key);
                self.never_began(session);
            }
        }
    }

    /// A further connection of a session. It replaces one with the same CID (RFC 7143 §6.3.4).
    pub(super) fn join(&mut self, join: Join<N::Handle>, now: Tick) {
        let session = join.session;
        let Some(session_key) = self.tables.sessions.find(session) else {
            // Control has been told that it is gone, or will be.
            if let Some(key) = self.conns.next_key()
                && let Ok(sock) = self.net.adopt(join.handle, key)
            {
                self.net.close(sock);
            }
            return;
        };
        let nexus = self.tables.sessions[session_key].nexus();
        self.make_room();
        let Some(key) = self.conns.next_key() else { return self.never_joined(session, join.cid) };
        let setup = ConnSetup {
            key,
            session_key,
            session,
            nexus,
            params: join.params,
            stat_sn: join.stat_sn,
            cid: join.cid,
            retains: join.params.error_recovery_level > 0,
            ask_ns: join.nop_in.ask_ns,
            close_ns: join.nop_in.close_ns,
        };
        let old = self.conn_with(session_key, join.cid);
        let Some(key) = self.take_in(setup, join.handle, now) else {
            return self.never_joined(session, join.cid);
        };
        // Only now: the session does not end in between.
        match old {
            // RFC 7143 §6.3.4: it is logged out for recovery.
            Some(old) if self.recovers(old) => self.release(old, join.exp_stat_sn, now),
            Some(old) => self.close(old, CloseCause::Replaced, now),
            None => {}
        }
        self.begin(key, &join.leftover, now);
    }

    /// Whether the commands of a connection may be taken over by another.
    fn recovers(&self, key: Key) -> bool {
        self.conns.get(key).is_some_and(|link| link.conn.may_recover() || link.conn.is_lost())
    }

    fn make_room(&mut self) {
        self.tables.hold(u32::try_from(self.conns.len() + 1).unwrap_or(u32::MAX));
        self.paced.hold(self.tables.tasks.capacity());
    }

    /// Makes a connection and takes it into its session.
    fn take_in(&mut self, mut setup: ConnSetup, handle: N::Handle, now: Tick) -> Option<Key> {
        let (key, session) = (setup.key, setup.session_key);
        let sock = self.net.adopt(handle, key).ok()?;
        if !self.tables.sessions[session].enter(key) {
            self.net.close(sock);
            return None;
        }
        setup.retains = setup.retains && self.tables.retain();
        if setup.retains {
            self.paced.hold(self.tables.tasks.capacity());
        }
        let conn = Conn::new(setup, now);
        #[cfg(feature = "sim")]
        let conn = if planted!(self, RetainedRenumbered) { conn.renumbering_retained() } else { conn };
        #[cfg(feature = "sim")]
        let conn = if planted!(self, RetainedMisplaced) { conn.misplacing_retained() } else { conn };
        let inserted = self.conns.insert(Link::new(conn, sock));
        debug_assert!(inserted.is_ok_and(|inserted| inserted == key), "next_key names the next tenancy");
        Some(key)
    }

    /// Takes what came behind the login.
    fn begin(&mut self, key: Key, leftover: &[u8], now: Tick) {
        if let Err(fatal) = self.consume(key, leftover, false, now) {
            self.close(key, cause(fatal), now);
        }
        self.activate(key);
    }

    /// A session whose only connection cannot be served after all.
    fn never_began(&mut self, session: SessionId) {
        self.event(Event::Closed { session, cause: CloseCause::PeerGone });
        self.tell(ToControl::SessionEnded { session, is_logout: false });
        self.tell(ToControl::SessionDrained { session });
    }

    /// A further connection that cannot be served after all.
    fn never_joined(&mut self, session: SessionId, cid: u16) {
        self.tell(ToControl::ConnEnded { session, cid });
    }

    /// The connection of a session that has this CID: the newest, where one has taken another's place.
    fn conn_with(&self, session: Key, cid: u16) -> Option<Key> {
        let has_it = |key: &Key| self.conns.get(*key).is_some_and(|link| link.conn.cid() == cid);
        self.tables.sessions[session].conns().iter().rev().copied().find(has_it)
    }

    /// A connection asks for the end of another one of its session.
    pub(super) fn log_out(&mut self, conn: Key, other: OtherLogout, now: Tick) {
        let Some(session) = self.conns.get(conn).map(|link| link.conn.session_key()) else { return };
        let found = self.conn_with(session, other.cid);
        match found {
            Some(found) if other.is_recovery && self.recovers(found) => {
                self.release(found, other.exp_stat_sn, now)
            }
            Some(found) => self.close(found, CloseCause::LoggedOutByAnother, now),
            None => {}
        }
        if let Some(link) = self.conns.get_mut(conn) {
            link.conn.logged_out_other(other, found.is_some(), &mut self.tables.cx(session, now));
            self.activate(conn);
        }
    }

    /// A connection has logged out, or logged the session out: then the others go at once.
    pub(super) fn logged_out(&mut self, conn: Key, is_session: bool, now: Tick) {
        self.leave_pace_of(conn);
        let Some(link) = self.conns.get_mut(conn) else { return };
        let session = link.conn.session_key();
        link.conn.abandon_all(&mut self.tables.cx(session, now));
        if !is_session {
            return;
        }
        let others: ConnKeys = self.tables.sessions[session].conns().iter().copied().collect();
        for other in others.into_iter().filter(|other| *other != conn) {
            self.close(other, CloseCause::LoggedOutByAnother, now);
        }
    }

    /// Ends a connection, and with the last one its session.
    pub(super) fn close(&mut self, key: Key, cause: CloseCause, now: Tick) {
        if self.suspend(key, cause, now) {
            return;
        }
        self.leave_pace_of(key);
        if cause.is_trouble() {
            self.hand_out(key, Why::Closed(cause));
        }
        let Some(mut link) = self.conns.remove(key) else { return };
        if link.conn.retains() {
            self.tables.let_go();
        }
        self.deactivate(key);
        let (session, session_key) = (link.conn.session(), link.conn.session_key());
        #[cfg(feature = "sim")]
        self.free_tags(|io| io.conn == key);
        let was_lost = link.conn.is_lost();
        link.conn.close(&mut self.tables.cx(session_key, now));
        if !was_lost {
            self.net.close(link.sock);
        }
        self.drop_parked(|io| io.conn == key, now);
        // Those that another connection has taken over stay.
        self.hungry.retain(|task| self.tables.tasks.get(task).is_some());
        self.event(Event::Closed { session, cause });
        self.tables.sessions[session_key].leave(key);
        if self.tables.sessions[session_key].conns().is_empty() {
            return self.end_session(session_key, link.conn.is_logged_out(), now);
        }
        self.tell(ToControl::ConnEnded { session, cid: link.conn.cid() });
        if self.tables.ios.iter().any(|(_, io)| io.conn == key) && !planted!(self, GhostWrite) {
            // What the device has of it may land at any time: until it has, nothing new goes there.
            self.tables.sessions[session_key].close_gate();
            self.wait_for(What::Conn(key), Then::Ungate(session), now);
        }
        self.run_queued_of(session_key, now);
    }

    /// The last connection of a session is gone.
    fn end_session(&mut self, key: Key, is_logout: bool, now: Tick) {
        let Some(over) = self.tables.sessions.remove(key) else { return };
        let session = over.id();
        self.tables.spare_window += over.grown_by();
        self.tell(ToControl::SessionEnded { session, is_logout });
        let (target, pace) = over.into_parts();
        self.tell(ToControl::Retired(Retired::Target(target)));
        self.retire_pace(pace);
        let what = What::Session { session, unit: None, before: self.serial + 1 };
        self.wait_for(what, Then::Drained(session), now);
    }

    /// One reason less for a session's commands to wait.
    pub(super) fn open_gate(&mut self, session: SessionId, now: Tick) {
        if let Some(key) = self.tables.sessions.find(session) {
            self.tables.sessions[key].open_gate();
            self.run_queued_of(key, now);
        }
    }
}
