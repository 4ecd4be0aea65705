//! A reactor's part in a change of reservations (SPC-5 §5.14): control decides, each reactor fences.

use crate::bdev::Op;
use crate::id::{BarrierId, NexusId, ReactorId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Reserve, Retired, TaskTicket, ToControl};
use crate::reactor::planted::planted;
use crate::reactor::submit::access;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::reactor::wait::{Then, What};
use crate::scsi::reserve::Permits;
use crate::time::Tick;

impl<N: Net> Reactor<N> {
    /// Puts the change in force: from here on no command is admitted and no IO submitted that it does not permit.
    pub(super) fn reserve(&mut self, id: BarrierId, change: Reserve, now: Tick) {
        let Reserve { view, attentions, aborts, by, is_drained } = change;
        let unit = view.id;
        if is_drained {
            self.forbid(unit, &view.permits, &aborts);
        }
        // Before a command that waited behind an aborted one can start.
        if let Some(slot) = self.tables.views.get_mut(unit.index())
            && slot.as_ref().is_some_and(|old| old.id == unit)
            && let Some(old) = slot.replace(view)
        {
            self.tell(ToControl::Retired(Retired::Unit(old)));
        }
        if !aborts.is_empty() {
            self.abort_of(unit, &aborts, by, now);
        }
        if !attentions.is_empty() {
            for index in 0..self.tables.sessions.used() {
                let Some(key) = self.tables.sessions.key_at(index) else { continue };
                let session = &mut self.tables.sessions[key];
                let told = session.nexus();
                for (_, ua) in attentions.iter().filter(|(nexus, _)| *nexus == told) {
                    session.attend(unit, *ua);
                }
            }
        }
        if is_drained && !planted!(self, ReserveReplyBeforeDrain) {
            self.drain_for(What::Forbidden { unit }, Then::Acknowledge(id), now);
        } else {
            self.tell(ToControl::BarrierDone { id, reactor: self.id, is_clean: true });
        }
    }

    /// Marks what devices have and shall no longer have, and asks for the early end of what is aborted.
    fn forbid(&mut self, unit: UnitId, permits: &Permits, aborts: &[NexusId]) {
        for (key, io) in self.tables.ios.iter_mut() {
            if io.parked.is_some() {
                continue;
            }
            // A copy is aborted with the unit that it was asked of, wherever it writes; where it writes leave is needed.
            let is_aborted = io.of == unit && aborts.contains(&io.nexus);
            let may_stay =
                io.unit != unit || io.op == Op::Flush || permits.allows(io.nexus, access(&io.op).class());
            io.is_forbidden |= is_aborted || !may_stay;
            if is_aborted
                && let Some(channel) =
                    unit::of(&mut self.units, io.unit).and_then(|unit| unit.channel.as_mut())
            {
                io.cut();
                channel.cancel(key);
            }
        }
    }

    /// Gives up the tasks of these nexuses at a unit: PREEMPT AND ABORT (SPC-5 §5.14.11.2.7). SAM-5 §5.6: TAS = 1 has
    /// other nexuses told; what a nexus does to itself it knows.
    fn abort_of(&mut self, unit: UnitId, aborts: &[NexusId], by: Option<(ReactorId, TaskTicket)>, now: Tick) {
        let by = by.filter(|(reactor, _)| *reactor == self.id).map(|(_, ticket)| ticket);
        let by_session =
            by.and_then(|ticket| self.conns.get(ticket.conn)).map(|link| link.conn.session_key());
        for index in 0..self.tables.sessions.used() {
            let Some(session) = self.tables.sessions.key_at(index) else { continue };
            if !aborts.contains(&self.tables.sessions[session].nexus()) {
                continue;
            }
            let own = by.filter(|_| by_session == Some(session));
            let spared = own.map(|ticket| ticket.task);
            while let Some(task) = self.tables.next_to_abort(session, unit, spared) {
                self.give_up(task, own.is_none(), now);
            }
            self.run_queued_of(session, now);
        }
    }
}
