//! What control tells a reactor, and the beginning and end of its connections.

use crate::bdev::{Io, IoError, Op};
use crate::id::{BarrierId, SessionId, UnitId};
use crate::iscsi::conn::{TmfFunction, TmfReply};
use crate::limits;
use crate::net::Net;
use crate::reactor::message::{Change, CloseCause, Retired, TmfOutcome, TmfTicket, ToControl, ToReactor};
use crate::reactor::planted::planted;
use crate::reactor::tables::InFlight;
use crate::reactor::token::Mint;
use crate::reactor::turn::Reactor;
use crate::reactor::unit::{self, Unit};
use crate::reactor::wait::{Then, What};
use crate::scsi::attention::Ua;
use crate::scsi::view::LunNumber;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

impl<N: Net> Reactor<N> {
    pub(super) fn handle_message(&mut self, message: ToReactor<N::Handle>, now: Tick) {
        match message {
            ToReactor::Adopt(adopt) => self.adopt(*adopt, now),
            ToReactor::Join(join) => self.join(*join, now),
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
                for key in self.conns_of(session) {
                    // What has been said is sent: the answer to TARGET COLD RESET above all (RFC 7143 §11.5.1).
                    self.transmit(key, now);
                    self.close(key, CloseCause::Ended(reason), now);
                }
            }
            ToReactor::AskLogout { session, seconds } => {
                for key in self.conns_of(session) {
                    let Some(link) = self.conns.get_mut(key) else { continue };
                    link.conn.ask_for_logout(seconds, &mut self.tables.cx(link.conn.session_key(), now));
                    self.activate(key);
                }
            }
            ToReactor::OpenGate { session } => self.open_gate(session, now),
            ToReactor::Pace { session, pace } => self.repace_session(session, pace, now),
            ToReactor::TmfEnded { asked, outcome } => self.tmf_ended(asked, outcome, now),
            ToReactor::Answered { asked, outcome, flushes } => self.answered(asked, outcome, flushes, now),
            ToReactor::Surveyed { asked, allocation } => self.surveyed(asked, allocation, now),
            ToReactor::Secret(secret) => self.mint = Mint::new(secret),
            ToReactor::Chore { unit, chore } => self.begin_chore(unit, chore),
            ToReactor::Look(question) => self.look(question, now),
            ToReactor::Spare(recorder) => self.spare = Some(recorder),
            ToReactor::SlowIo { threshold_ns } => self.tables.tasks.slow.set_threshold(threshold_ns),
            ToReactor::Drain { seconds } => {
                self.stopping = Some(now.after_ns(u64::from(seconds) * SECOND_NS));
                for index in 0..self.conn_slots() {
                    if let Some(key) = self.conns.key_at(index)
                        && let Some(link) = self.conns.get_mut(key)
                    {
                        if link.conn.is_lost() {
                            // Nobody comes back to it any more.
                            self.close(key, CloseCause::Stopping, now);
                            continue;
                        }
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

    /// Queues a unit attention for every session that maps the unit, perhaps except one.
    fn attend(&mut self, unit: UnitId, attention: Ua, except: Option<SessionId>, now: Tick) {
        for index in 0..self.tables.sessions.used() {
            if let Some(key) = self.tables.sessions.key_at(index)
                && except != Some(self.tables.sessions[key].id())
            {
                let number = self.tables.sessions[key].attend(unit, attention);
                if let Some(number) = number {
                    self.announce(key, number, attention, now);
                }
            }
        }
    }

    /// A function that went through control has ended. Like every one that covers several tasks it is answered when the
    /// data still owed for them have come, or after a while.
    fn tmf_ended(&mut self, ticket: TmfTicket, outcome: TmfOutcome, now: Tick) {
        let Some(link) = self.conns.get(ticket.conn) else { return };
        let session = link.conn.session();
        let function = link.conn.unanswered_tmf(ticket.itt).map_or(0, TmfFunction::code);
        let is_owed = self.tables.sessions[link.conn.session_key()].is_swallowing(None, &self.tables.tasks);
        match outcome {
            TmfOutcome::Complete if is_owed => {
                // What the session itself has given up may be at a LUN that its target has no more.
                let what = What::Session { session, unit: None, before: self.serial + 1 };
                self.drain_for(what, Then::Answer { ticket, function, is_of_many: true }, now);
            }
            TmfOutcome::Complete => self.answer_tmf_of_many(ticket, function, now),
            TmfOutcome::Rejected => {
                self.excuse_on(ticket.conn, now);
                self.answer_tmf(ticket, function, TmfReply::Rejected, now);
            }
        }
    }

    fn barrier(&mut self, id: BarrierId, change: Change, now: Tick) {
        let before = self.serial + 1;
        match change {
            Change::Reset { units, attention } => {
                self.reset(&units, now);
                if !planted!(self, AttentionAfterReply) {
                    units.iter().for_each(|unit| self.attend(*unit, attention, None, now));
                }
                self.wait_for(What::Commands { units, before }, Then::Acknowledge(id), now);
            }
            Change::Unit { view, attention, except, is_drained } => {
                let unit = view.id;
                let is_drained = is_drained && !(planted!(self, ChoreNotDrained) && view.chore.is_some());
                // Of another size, or away: tokens stand for nothing there.
                let is_changed = self
                    .tables
                    .view(unit)
                    .is_none_or(|old| (old.blocks, old.medium) != (view.blocks, view.medium));
                let is_gone = is_changed && view.blocks == 0;
                // Not of a unit that was removed, which has no view any more.
                let is_repaced = self.tables.view(unit).is_some_and(|old| old.pace != view.pace);
                if is_repaced {
                    self.unbook_unit(unit);
                }
                if let Some(slot) = self.tables.views.get_mut(unit.index())
                    && slot.as_ref().is_some_and(|old| old.id == unit)
                    && let Some(old) = slot.replace(view)
                {
                    self.tell(ToControl::Retired(Retired::Unit(old)));
                }
                self.run_anew(now);
                if let Some(attention) = attention {
                    self.attend(unit, attention, except, now);
                }
                if is_changed {
                    self.holds.watches.change(unit, 0, u64::MAX);
                    // Its channel lets go of a device that is gone: nobody may use it for a long time.
                    if let Some(unit) = unit::of(&mut self.units, unit)
                        && let Some(channel) = &mut unit.channel
                    {
                        channel.kick();
                        unit.watched = None;
                    }
                }
                if is_gone {
                    // What they were to keep may be lost by when the device is back: that must not be said to be kept. What else
                    // waits for room finds that the unit is not ready.
                    self.end_parked(|io| io.unit == unit && io.op == Op::Flush, IoError::Gone, now);
                    self.resubmit(unit, now);
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
                    if old.name == new.name
                        && (old.portal_group, old.lun_map) == (new.portal_group, new.lun_map)
                    {
                        let news = attention.filter(|ua| !session.owes(*ua));
                        let old = session.retarget(std::sync::Arc::clone(&target), attention);
                        self.tell(ToControl::Retired(Retired::Target(old)));
                        if let Some(ua) = news {
                            let first = target.mappings.first().map_or(LunNumber(0), |first| first.number);
                            self.announce(key, first, ua, now);
                        }
                    }
                }
                if drained.is_empty() {
                    self.tell(ToControl::BarrierDone { id, reactor: self.id, is_clean: true });
                } else {
                    self.drain_for(What::Units { units: drained, before }, Then::Acknowledge(id), now);
                }
            }
            Change::RemoveUnit { unit } => {
                self.unbook_unit(unit);
                if let Some(slot) = self.tables.views.get_mut(unit.index())
                    && slot.as_ref().is_some_and(|view| view.id == unit)
                    && let Some(old) = slot.take()
                {
                    self.tell(ToControl::Retired(Retired::Unit(old)));
                }
                self.holds.watches.change(unit, 0, u64::MAX);
                if let Some(unit) = unit::of(&mut self.units, unit) {
                    unit.is_leaving = true;
                }
                // What waits for room in it, or for a hold, finds it gone.
                self.resubmit(unit, now);
                self.retry_held(unit, now);
                self.run_anew(now);
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

    /// Gives up IOs that no device has.
    pub(super) fn drop_parked(&mut self, is_given_up: impl Fn(&InFlight) -> bool, now: Tick) {
        self.end_parked(is_given_up, IoError::Cancelled, now);
    }

    /// Ends IOs that no device has, with this error.
    fn end_parked(&mut self, is_ended: impl Fn(&InFlight) -> bool, error: IoError, now: Tick) {
        for id in 0..self.units.len() {
            let Some(unit) = self.units.get_mut(id).and_then(Option::as_mut) else { continue };
            let tables = &mut self.tables;
            for given_up in [&mut unit.parked, &mut unit.held].map(|list| list.take(tables, &is_ended)) {
                let mut given_up = given_up;
                while let Some(record) = given_up {
                    given_up = self.tables.ios.get(record).and_then(|io| io.next);
                    self.finish(record, None, Err(error), now);
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
