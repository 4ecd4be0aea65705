//! What control tells a reactor, and the beginning and end of its connections.

use crate::bdev::{Io, IoError, Op};
use crate::id::{BarrierId, SessionId, UnitId};
use crate::iscsi::conn::{Conn, ConnSetup, TmfReply};
use crate::iscsi::session::{Session, SessionSetup};
use crate::limits;
use crate::net::Net;
use crate::reactor::message::{
    Adopt, Change, CloseCause, Event, Retired, TmfOutcome, TmfTicket, ToControl, ToReactor,
};
use crate::reactor::planted::planted;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::{Link, Reactor, cause};
use crate::reactor::unit::{self, Unit};
use crate::reactor::wait::{Then, What};
use crate::scsi::attention::Ua;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

impl<N: Net> Reactor<N> {
    pub(super) fn handle_message(&mut self, message: ToReactor<N::Handle>, now: Tick) {
        match message {
            ToReactor::Adopt(adopt) => self.adopt(*adopt, now),
            ToReactor::AddUnit { view, bdev } => {
                let index = view.id.index();
                if self.units.len() <= index {
                    self.units.resize_with(index + 1, || None);
                    self.tables.views.resize_with(index + 1, || None);
                    self.busy.reserve(index + 1 - self.busy.len().min(index));
                }
                self.units[index] = Some(Unit::new(view.id, bdev));
                self.tables.views[index] = Some(view);
            }
            ToReactor::Barrier { id, change } => self.barrier(id, change, now),
            ToReactor::EndSession { session, reason } => {
                if let Some(key) = self.conn_of(session) {
                    // What has been said is sent: the answer to TARGET COLD RESET above all (RFC 7143 §11.5.1).
                    self.transmit(key, now);
                    self.close(key, CloseCause::Ended(reason), now);
                }
            }
            ToReactor::AskLogout { session, seconds } => {
                if let Some(key) = self.conn_of(session)
                    && let Some(link) = self.conns.get_mut(key)
                {
                    link.conn.ask_for_logout(seconds, &mut self.tables.cx(link.conn.session_key(), now));
                    self.activate(key);
                }
            }
            ToReactor::OpenGate { session } => {
                if let Some(session) = self.tables.sessions.find(session) {
                    self.tables.sessions[session].open_gate();
                    self.run_queued_of(session, now);
                }
            }
            ToReactor::TmfEnded { asked, outcome } => self.tmf_ended(asked, outcome, now),
            ToReactor::Answered { asked, outcome, is_flushed } => {
                self.answered(asked, outcome, is_flushed, now);
            }
            ToReactor::Drain { seconds } => {
                self.stopping = Some(now.after_ns(u64::from(seconds) * SECOND_NS));
                for index in 0..self.conn_slots() {
                    if let Some(key) = self.conns.key_at(index)
                        && let Some(link) = self.conns.get_mut(key)
                    {
                        let session = link.conn.session_key();
                        link.conn.ask_for_logout(seconds, &mut self.tables.cx(session, now));
                        self.activate(key);
                    }
                }
            }
            ToReactor::Stop => self.stopping = Some(now),
            ToReactor::Peer(message) => self.hear(message, now),
        }
    }

    /// The connection of a session that is here.
    fn conn_of(&self, session: SessionId) -> Option<Key> {
        self.conns.iter().find(|(_, link)| link.conn.session() == session).map(|(key, _)| key)
    }

    /// Queues a unit attention for every session that maps the unit, perhaps except one.
    fn attend(&mut self, unit: UnitId, attention: Ua, except: Option<SessionId>) {
        for index in 0..self.tables.sessions.used() {
            if let Some(key) = self.tables.sessions.key_at(index)
                && except != Some(self.tables.sessions[key].id())
            {
                self.tables.sessions[key].attend(unit, attention);
            }
        }
    }

    /// A function that went through control has ended. Like every one that covers several tasks it is answered when the
    /// data still owed for them have come, or after a while.
    fn tmf_ended(&mut self, ticket: TmfTicket, outcome: TmfOutcome, now: Tick) {
        let Some(link) = self.conns.get(ticket.conn) else { return };
        let session = link.conn.session();
        let is_owed = self.tables.sessions[link.conn.session_key()].is_swallowing(None, &self.tables.tasks);
        match outcome {
            TmfOutcome::Complete if is_owed => {
                // What the session itself has given up may be at a LUN that its target has no more.
                let what = What::Session { session, unit: None, before: self.serial + 1 };
                self.drain_for(what, Then::Answer { ticket, function: 0, is_of_many: true }, now);
            }
            TmfOutcome::Complete => self.answer_tmf(ticket, 0, TmfReply::Complete, now),
            TmfOutcome::Rejected => self.answer_tmf(ticket, 0, TmfReply::Rejected, now),
        }
    }

    fn adopt(&mut self, adopt: Adopt<N::Handle>, now: Tick) {
        let session = adopt.session;
        self.tables.hold(u32::try_from(self.conns.len() + 1).unwrap_or(u32::MAX));
        let began = self.tables.sessions.insert(Session::new(SessionSetup {
            reactor: self.id,
            id: session,
            nexus: adopt.nexus,
            target: adopt.target,
            exp_cmd_sn: adopt.exp_cmd_sn,
            attention: adopt.attention,
            owed: adopt.owed,
            is_gated: adopt.is_gated && !planted!(self, GhostWrite),
        }));
        // The key is known before the connection is made: its next tenancy.
        let (Ok(session_key), Some(key)) = (began, self.conns.next_key()) else {
            // Cannot be: there is room for as many sessions as connections, and control knows how many those are.
            debug_assert!(false, "more sessions than a reactor has room for");
            never_began(self, session);
            return;
        };
        let setup = ConnSetup {
            key,
            session_key,
            session,
            nexus: adopt.nexus,
            params: adopt.params,
            stat_sn: adopt.stat_sn,
            cid: adopt.cid,
            ask_ns: adopt.nop_in.ask_ns,
            close_ns: adopt.nop_in.close_ns,
        };
        let conn = Conn::new(setup, now);
        match self.net.adopt(adopt.handle, key) {
            Ok(sock) => {
                let inserted = self.conns.insert(Link::new(conn, sock));
                debug_assert!(
                    inserted.is_ok_and(|inserted| inserted == key),
                    "next_key names the next tenancy"
                );
                if let Err(fatal) = self.consume(key, &adopt.leftover, false, now) {
                    self.close(key, cause(fatal), now);
                }
                self.activate(key);
            }
            Err(_) => {
                self.tables.sessions.remove(session_key);
                never_began(self, session);
            }
        }
    }

    fn barrier(&mut self, id: BarrierId, change: Change, now: Tick) {
        let before = self.serial + 1;
        match change {
            Change::Reset { units, attention } => {
                self.reset(&units, now);
                if !planted!(self, AttentionAfterReply) {
                    units.iter().for_each(|unit| self.attend(*unit, attention, None));
                }
                self.wait_for(What::Units { units, before }, Then::Acknowledge(id), now);
            }
            Change::Unit { view, attention, except, is_drained } => {
                let unit = view.id;
                // Not of a unit that was removed, which has no view any more.
                if let Some(slot) = self.tables.views.get_mut(unit.index())
                    && slot.as_ref().is_some_and(|old| old.id == unit)
                    && let Some(old) = slot.replace(view)
                {
                    self.tell(ToControl::Retired(Retired::Unit(old)));
                }
                if let Some(attention) = attention {
                    self.attend(unit, attention, except);
                }
                if is_drained {
                    self.drain_for(What::Units { units: [unit].into(), before }, Then::Acknowledge(id), now);
                } else {
                    self.tell(ToControl::BarrierDone { id, reactor: self.id, is_clean: true });
                }
            }
            Change::Nothing => self.tell(ToControl::BarrierDone { id, reactor: self.id, is_clean: true }),
            Change::Reservations(change) => self.reserve(id, change, now),
            Change::Target { target, attention, drained } => {
                for index in 0..self.tables.sessions.used() {
                    let Some(key) = self.tables.sessions.key_at(index) else { continue };
                    let session = &mut self.tables.sessions[key];
                    let (old, new) = (session.target(), &target);
                    if old.name == new.name && old.portal_group == new.portal_group {
                        let old = session.retarget(std::sync::Arc::clone(&target), attention);
                        self.tell(ToControl::Retired(Retired::Target(old)));
                    }
                }
                if drained.is_empty() {
                    self.tell(ToControl::BarrierDone { id, reactor: self.id, is_clean: true });
                } else {
                    self.drain_for(What::Units { units: drained, before }, Then::Acknowledge(id), now);
                }
            }
            Change::RemoveUnit { unit } => {
                if let Some(slot) = self.tables.views.get_mut(unit.index())
                    && slot.as_ref().is_some_and(|view| view.id == unit)
                    && let Some(old) = slot.take()
                {
                    self.tell(ToControl::Retired(Retired::Unit(old)));
                }
                if let Some(unit) = unit::of(&mut self.units, unit) {
                    unit.is_leaving = true;
                }
                // What waits for room in it, or for a hold, finds it gone.
                self.resubmit(unit, now);
                self.retry_held(unit, now);
                self.drain_for(What::Units { units: [unit].into(), before }, Then::Acknowledge(id), now);
                self.let_unit_go(unit);
            }
        }
    }

    /// Closes the channel of a unit that is leaving, if nothing is in it, and forgets the unit.
    pub(super) fn let_unit_go(&mut self, id: UnitId) {
        if unit::of(&mut self.units, id).is_some_and(|unit| unit.may_go())
            && let Some(unit) = self.units.get_mut(id.index()).and_then(Option::take)
        {
            let bdev = unit.into_bdev();
            self.tell(ToControl::UnitReleased { unit: id, reactor: self.id, bdev });
        }
    }

    /// Ends a connection and its session.
    pub(super) fn close(&mut self, key: Key, cause: CloseCause, now: Tick) {
        let Some(mut link) = self.conns.remove(key) else { return };
        self.deactivate(key);
        let session = link.conn.session();
        let is_logout = link.conn.is_logged_out();
        #[cfg(feature = "sim")]
        self.free_tags(|io| io.session == session);
        let session_key = link.conn.session_key();
        link.conn.close(&mut self.tables.cx(session_key, now));
        let Some(over) = self.tables.sessions.remove(session_key) else { return };
        self.tables.spare_window += over.grown_by();
        self.net.close(link.sock);
        self.drop_parked(|io| io.session == session, now);
        self.hungry.retain(|(conn, _)| *conn != key);
        self.event(Event::Closed { session, cause });
        self.tell(ToControl::SessionEnded { session, is_logout });
        self.tell(ToControl::Retired(Retired::Target(over.into_target())));
        let what = What::Session { session, unit: None, before: self.serial + 1 };
        self.wait_for(what, Then::Drained(session), now);
    }

    /// Gives up IOs that no device has.
    pub(super) fn drop_parked(&mut self, is_given_up: impl Fn(&InFlight) -> bool, now: Tick) {
        for id in 0..self.units.len() {
            let Some(unit) = self.units.get_mut(id).and_then(Option::as_mut) else { continue };
            let tables = &mut self.tables;
            for given_up in [&mut unit.parked, &mut unit.held].map(|list| list.take(tables, &is_given_up)) {
                let mut given_up = given_up;
                while let Some(record) = given_up {
                    given_up = self.tables.ios.get(record).and_then(|io| io.next);
                    self.finish(record, None, Err(IoError::Cancelled), now);
                }
            }
        }
    }

    /// The end of a drain: once the connections are gone, and the holds that other reactors may have from this one, or the
    /// time is over, devices flush, and the reactor stops. The others do not count on it any more then.
    pub(super) fn stop_when_drained(&mut self, now: Tick) {
        let Some(until) = self.stopping else { return };
        if self.is_flushed {
            return;
        }
        if !self.conns.is_empty() || self.holds.is_needed() {
            if now < until {
                return;
            }
            for index in 0..self.conn_slots() {
                if let Some(key) = self.conns.key_at(index) {
                    self.close(key, CloseCause::Stopping, now);
                }
            }
        }
        match self.last_flush {
            None => {
                self.last_flush = Some(now.after_ns(limits::LAST_FLUSH_NS));
                self.flush_all(now);
            }
            Some(give_up_at) if self.busy.is_empty() || now >= give_up_at => {
                self.is_flushed = true;
                self.leave(self.busy.is_empty());
                self.tell(ToControl::Stopped { reactor: self.id });
            }
            Some(_) => {}
        }
    }

    /// Sends a flush to every open channel. Nobody waits for its answer but the end itself.
    fn flush_all(&mut self, now: Tick) {
        for unit in self.units.iter_mut().flatten() {
            let Some(channel) = &mut unit.channel else { continue };
            let id = unit.id;
            let tag = Key { index: u32::MAX, generation: 0 };
            if channel.submit(Io { tag, op: Op::Flush, data: None }, now).is_ok() {
                unit.needs_kick = true;
                if !unit.is_busy {
                    unit.is_busy = true;
                    self.busy.push(id);
                }
            }
        }
    }
}

/// A connection that cannot be served after all: the session never began.
fn never_began<N: Net>(reactor: &mut Reactor<N>, session: SessionId) {
    reactor.event(Event::Closed { session, cause: CloseCause::PeerGone });
    reactor.tell(ToControl::SessionEnded { session, is_logout: false });
    reactor.tell(ToControl::SessionDrained { session });
}
