//! Reservations (SPC-5 §5.14): the state of each logical unit is in its view; what changes it comes here, is decided by
//! [`State::out`](crate::scsi::reserve::State::out) and put in force by a barrier.
//!
//! What is to survive is saved first: a change that cannot be saved does not happen. Of one unit one change at a time is in
//! flight; those behind it wait. Their number is bounded by the sessions' windows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::Control;
use super::keeper::Then;
use super::saving::{AfterSave, RESERVATIONS};
use super::sessions;
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::limits::REGISTRATIONS_MAX;
use crate::net::Net;
use crate::reactor::message::{Ask, Change, Reserve, TaskTicket, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::reserve::{Effect, InitiatorPort, Nexus, Permits, Refusal, Registering, Request, State};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Outcome, Status};

/// A change in flight.
#[derive(Debug)]
struct InFlight {
    /// Whose tasks it aborts: what they ask for until then is aborted, or comes at a bad time.
    aborts: Arc<[NexusId]>,
    /// Who is told what, where its session lasts until then.
    attentions: Arc<[(NexusId, Ua)]>,
    /// What comes next.
    waiting: VecDeque<Box<Ask>>,
}

/// A change that has been decided on, while it is being saved.
#[derive(Debug)]
pub(super) struct Decided {
    unit: UnitId,
    reactor: ReactorId,
    ticket: TaskTicket,
    effect: Effect,
}

/// The units whose reservations are being changed.
#[derive(Debug, Default)]
pub(super) struct Reserving {
    units: BTreeMap<UnitId, InFlight>,
}

impl<N: Net> Control<N> {
    /// PERSISTENT RESERVE OUT, RESERVE or RELEASE. It is answered exactly once, unless its session is over.
    pub(super) fn reserve(&mut self, ask: Box<Ask>) {
        let nexus = self.sessions.nexus_of(ask.session);
        let is_busy = match self.reserving.units.get_mut(&ask.unit) {
            None => false,
            // PREEMPT AND ABORT has ended it, or is about to: its reactor ignores this answer then.
            Some(change) if nexus.is_some_and(|nexus| change.aborts.contains(&nexus)) => true,
            Some(change) => return change.waiting.push_back(ask),
        };
        if is_busy || self.keeper.is_full() {
            return self.answer(&ask, Outcome::of(Status::Busy));
        }
        // One whose initiator is gone does nothing any more.
        if self.sessions.is_live(ask.session)
            && let Some(outcome) = self.decide(&ask).unwrap_or_else(Some)
        {
            self.answer(&ask, outcome);
        }
    }

    /// A command is aborted that was asked about. Where it waits for another it does not happen any more.
    pub(super) fn withdraw(&mut self, reactor: ReactorId, ticket: TaskTicket, unit: UnitId) {
        let Some(change) = self.reserving.units.get_mut(&unit) else { return };
        let waits = change.waiting.iter().position(|ask| (ask.reactor, ask.ticket) == (reactor, ticket));
        if let Some(ask) = waits.and_then(|at| change.waiting.remove(at)) {
            self.answer(&ask, Outcome::of(Status::TaskAborted));
        }
    }

    /// A session has ended, perhaps before its reactor heard of changes that it was to be told of: its nexus's next one will
    /// be. Rather twice than never.
    pub(super) fn owe_missed(&mut self, session: SessionId) {
        let Some(nexus) = self.sessions.nexus_of(session) else { return };
        for (unit, change) in &self.reserving.units {
            for (_, ua) in change.attentions.iter().filter(|(told, _)| *told == nexus) {
                self.sessions.owe(nexus, *unit, *ua);
            }
        }
    }

    /// The change of a unit's reservations that was in flight is in force.
    pub(super) fn reserve_next(&mut self, unit: UnitId) {
        let Some(change) = self.reserving.units.remove(&unit) else { return };
        for ask in change.waiting {
            // Behind the first that is a change the others wait again, in order.
            self.asked(ask);
        }
    }

    /// A session has ended: what its nexus has by RESERVE is free (SPC-2 §5.5.2).
    pub(super) fn nexus_lost(&mut self, session: SessionId) {
        if let Some(nexus) = self.sessions.nexus_of(session) {
            self.free(|view| view.permits.state().nexus_lost(nexus));
        }
    }

    /// These units are about to be reset: what anybody has by RESERVE is free. Reactors hear of it before the reset.
    pub(super) fn reset_reservations(&mut self, units: &[UnitId]) {
        self.free(|view| if units.contains(&view.id) { view.permits.state().reset() } else { None });
    }

    /// Forgets a nexus where too many are known: one that has neither session nor registration.
    pub(super) fn forget_nexuses(&mut self) {
        let catalog = &self.catalog;
        self.sessions.forget(|nexus| catalog.registry.views().any(|view| view.permits.state().names(nexus)));
    }

    fn free(&mut self, next: impl Fn(&UnitView) -> Option<State>) {
        let views: Vec<_> = self.catalog.registry.views().map(Arc::clone).collect();
        for old in views {
            if let Some(next) = next(&old) {
                self.enforce(&old, Effect { next: Some(next), ..Effect::default() }, None);
            }
        }
    }

    /// Decides a command; none where a barrier has to end first.
    fn decide(&mut self, ask: &Ask) -> Result<Option<Outcome>, Outcome> {
        let none = Outcome::check(Sense::NO_SUCH_UNIT);
        let old = Arc::clone(self.catalog.registry.view(ask.unit).ok_or(none)?);
        let request = Request::read(&ask.cdb, &ask.parameters).map_err(Outcome::check)?;
        if !old.permits.is_known() {
            return Err(Outcome::check(Sense::NOT_READY));
        }
        let from = self.registrant(ask.session).ok_or(none)?;
        let named = self.named(&request, ask, &from).map_err(Outcome::check)?;
        let effect = old.permits.state().out(&request, &from, &named);
        let effect = effect.map_err(|refusal| match refusal {
            Refusal::Conflict => Outcome::of(Status::ReservationConflict),
            Refusal::Check(sense) => Outcome::check(sense),
        });
        let begun = effect.and_then(|effect| self.begin(&old, ask, effect));
        // As often as one may have been made known.
        for _ in 0..=named.len() {
            self.forget_nexuses();
        }
        begun
    }

    /// Has a change saved, then put in force.
    fn begin(&mut self, old: &UnitView, ask: &Ask, effect: Effect) -> Result<Option<Outcome>, Outcome> {
        let Some(next) = &effect.next else { return Ok(Some(Outcome::GOOD)) };
        let record = self.reservations_record(next);
        let was_saved = self.reservations_record(old.permits.state());
        let key = self.record_key(RESERVATIONS, ask.unit).filter(|_| record != was_saved);
        if key.as_ref().is_some_and(|key| !self.store.fits(key, record.as_ref())) {
            return Err(Outcome::check(Sense::NO_REGISTRATION_RESOURCES));
        }
        let in_flight = InFlight {
            aborts: effect.aborts.clone().into(),
            attentions: effect.attentions.clone().into(),
            waiting: VecDeque::new(),
        };
        self.reserving.units.insert(ask.unit, in_flight);
        let decided = Decided { unit: ask.unit, reactor: ask.reactor, ticket: ask.ticket, effect };
        self.save(key.as_deref(), record, AfterSave::Reserve(Box::new(decided)));
        Ok(None)
    }

    /// A change is saved, or cannot be: then it does not happen.
    pub(super) fn decided(&mut self, decided: Decided, is_saved: bool) {
        let Decided { unit, reactor, ticket, effect } = decided;
        let view = self.catalog.registry.view(unit).map(Arc::clone);
        let sense = match view {
            Some(view) if is_saved => return self.enforce(&view, effect, Some((reactor, ticket))),
            Some(_) => Sense::INTERNAL_FAILURE,
            None => Sense::NO_SUCH_UNIT,
        };
        let outcome = Outcome::check(sense);
        self.outbox.send(reactor, ToReactor::Answered { asked: ticket, outcome, flushes: None });
        self.reserve_next(unit);
    }

    /// The nexus of a session, as registrations name it.
    fn registrant(&self, session: SessionId) -> Option<Nexus> {
        let id = self.sessions.nexus_of(session)?;
        let sessions::Nexus { initiator, isid, target, portal_group } = &self.sessions.get(session)?.nexus;
        let target_port = self.catalog.targets.get(target)?.port(*portal_group)?.relative_port;
        Some(Nexus { id, initiator: InitiatorPort::new(initiator, *isid), target_port })
    }

    /// The other nexuses that a request names, which need not have come yet.
    fn named(&mut self, request: &Request, ask: &Ask, from: &Nexus) -> Result<Vec<Nexus>, Sense> {
        Ok(match request {
            Request::RegisterAndMove { initiator, target_port, .. } => {
                self.destination(initiator, *target_port, ask.unit).into_iter().collect()
            }
            Request::Register { how, .. } | Request::RegisterAndIgnore { how, .. } => {
                self.registered_too(how, ask.session, from)?
            }
            _ => Vec::new(),
        })
    }

    /// Those that ALL_TG_PT and SPEC_I_PT add (SPC-5 §6.17.3): each of the initiators at the sender's port of the target, or at
    /// every port of it. Nobody is made known where they are more than can be registered.
    fn registered_too(
        &mut self,
        how: &Registering,
        session: SessionId,
        from: &Nexus,
    ) -> Result<Vec<Nexus>, Sense> {
        let Some(session) = self.sessions.get(session) else { return Ok(Vec::new()) };
        let sessions::Nexus { target, portal_group, .. } = session.nexus.clone();
        let Some(known) = self.catalog.targets.get(&target) else { return Ok(Vec::new()) };
        let is_meant = |tag: u16| how.all_ports || tag == portal_group;
        let ports = known.ports.iter().filter(|view| is_meant(view.portal_group));
        let ports: Vec<(u16, u16)> = ports.map(|view| (view.portal_group, view.relative_port)).collect();
        // SPC-5 §7.6.4.6: a name alone is every port that is known of it.
        let registry = &self.catalog.registry;
        let is_registered = |nexus| registry.views().any(|view| view.permits.state().names(nexus));
        let ports_of = |name: &Arc<str>| {
            let isids = self.sessions.isids_of(name, &target, is_registered);
            isids.into_iter().map(|isid| InitiatorPort { name: Arc::clone(name), isid }).collect::<Vec<_>>()
        };
        // Each once, however often the list says it.
        let names: BTreeSet<&Arc<str>> = how.names.iter().collect();
        let by_name: Vec<InitiatorPort> = names.into_iter().flat_map(ports_of).collect();
        if (how.initiators.len() + by_name.len()) * ports.len() > REGISTRATIONS_MAX {
            return Err(Sense::NO_REGISTRATION_RESOURCES);
        }
        let mut named: Vec<Nexus> = Vec::new();
        for initiator in std::iter::once(&from.initiator).chain(&how.initiators).chain(&by_name) {
            for &(portal_group, target_port) in &ports {
                let nexus = sessions::Nexus {
                    initiator: initiator.name.to_string(),
                    isid: initiator.isid,
                    target: target.clone(),
                    portal_group,
                };
                let id = self.sessions.know(&nexus);
                if id != from.id && named.iter().all(|known| known.id != id) {
                    named.push(Nexus { id, initiator: initiator.clone(), target_port });
                }
            }
        }
        Ok(named)
    }

    /// The nexus that REGISTER AND MOVE names; its target port has to lead to the unit.
    fn destination(&mut self, initiator: &InitiatorPort, target_port: u16, unit: UnitId) -> Option<Nexus> {
        let target = self.catalog.targets.port(target_port)?;
        if !self.catalog.targets.get(&target.name)?.maps_unit(unit) {
            return None;
        }
        let nexus = sessions::Nexus {
            initiator: initiator.name.to_string(),
            isid: initiator.isid,
            target: target.name.clone(),
            portal_group: target.portal_group,
        };
        Some(Nexus { id: self.sessions.know(&nexus), initiator: initiator.clone(), target_port })
    }

    /// Puts a change in force; `by` is answered when that is done.
    fn enforce(&mut self, old: &UnitView, effect: Effect, by: Option<(ReactorId, TaskTicket)>) {
        let Effect { next: Some(next), attentions, aborts, drains } = effect else { return };
        let unit = old.id;
        let view = Arc::new(UnitView { permits: Permits::new(Arc::new(next)), ..old.clone() });
        if self.catalog.registry.replace(Arc::clone(&view)).is_err() {
            return;
        }
        for (nexus, ua) in &attentions {
            self.sessions.owe(*nexus, unit, *ua);
        }
        let aborts: Arc<[NexusId]> = aborts.into();
        let is_drained = drains || !aborts.is_empty();
        let change = Reserve { view, attentions: attentions.into(), aborts, by, is_drained };
        let then = match by {
            Some((reactor, ticket)) => Then::Reserved { unit, reactor, ticket },
            None => Then::Nothing,
        };
        self.barrier(Change::Reservations(change), then);
    }
}
