//! What PERSISTENT RESERVE OUT, RESERVE and RELEASE do (SPC-5 §5.14).

use std::sync::Arc;

use crate::id::NexusId;
use crate::limits::REGISTRATIONS_MAX;
use crate::scsi::attention::Ua;
use crate::scsi::reserve::state::{Held, Registration, Reservation};
use crate::scsi::reserve::{Nexus, Persistence, Registering, Request, State, Type};
use crate::scsi::sense::{Sense, SenseKey};

/// INVALID RELEASE OF PERSISTENT RESERVATION.
const INVALID_RELEASE: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x04);

/// What follows from a command that ends in GOOD.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Effect {
    /// The state from now on; none where it stays as it is, and then nothing else follows either.
    pub next: Option<State>,
    /// Who is to be told what, before the command is answered.
    pub attentions: Vec<(NexusId, Ua)>,
    /// Whose tasks at the logical unit are aborted, all but the very command that does it (SPC-5 §5.14.11.2.7).
    pub aborts: Vec<NexusId>,
    /// Somebody loses leave to read or write: each reactor waits, before the command is answered, for those IOs in a device that
    /// [`State::allows`] no longer.
    pub drains: bool,
}

/// How a command ends that is not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    Check(Sense),
}

/// A change in the making.
struct Change<'a> {
    old: &'a State,
    from: NexusId,
    effect: Effect,
    next: State,
}

impl State {
    /// What `request` does when it comes from `from`. `named` are the other nexuses that it names, known to control, or made
    /// known for this: of [`Request::RegisterAndMove`] the one that the reservation goes to, if there can be such a one; of
    /// the two that register those that ALL_TG_PT and SPEC_I_PT add.
    ///
    /// # Errors
    /// The command ends otherwise than in GOOD and changes nothing.
    pub fn out(&self, request: &Request, from: &Nexus, named: &[Nexus]) -> Result<Effect, Refusal> {
        match *request {
            Request::LegacyReserve => return self.legacy_reserve(from.id),
            Request::LegacyRelease => return self.legacy_release(from.id),
            _ => {}
        }
        // SPC-2 §5.5.1: the two ways to reserve exclude one another, whoever asks.
        if matches!(self.held, Held::Legacy(_)) {
            return Err(Refusal::Conflict);
        }
        match request {
            Request::Register { key, new_key, how } => {
                // SPC-5 §5.14.7: 0 stands for not being registered.
                if *key != self.key(from.id).unwrap_or(0) {
                    return Err(Refusal::Conflict);
                }
                self.check_named(from, *key, how, named)?;
                self.register(from, named, *new_key, how)
            }
            Request::RegisterAndIgnore { new_key, how } => self.register(from, named, *new_key, how),
            Request::Reserve { key, kind } => self.reserve(from.id, *key, *kind),
            Request::Release { key, kind } => self.release(from.id, *key, *kind),
            Request::Clear { key } => self.clear(from.id, *key),
            Request::Preempt { key, victim, kind, abort } => {
                self.preempt(from.id, *key, *victim, *kind, *abort)
            }
            Request::RegisterAndMove { key, new_key, unregister, persists, .. } => {
                let persistence = self.persistence(*persists, 17)?;
                self.register_and_move(from.id, (*key, *new_key), *unregister, named.first(), persistence)
            }
            Request::LegacyReserve | Request::LegacyRelease => Ok(Effect::default()),
        }
    }

    /// Whether REGISTER may do the same to the nexuses that it names (SPC-5 §5.14.7, table "Register behaviors").
    fn check_named(&self, from: &Nexus, key: u64, how: &Registering, named: &[Nexus]) -> Result<(), Refusal> {
        let is_registered = |nexus: &Nexus| self.key(nexus.id).is_some();
        // A name of which no port is known registers nobody: GOOD would say that it did.
        let is_known =
            |name: &Arc<str>| std::iter::once(from).chain(named).any(|nexus| nexus.initiator.name == *name);
        if !how.names.iter().all(is_known) {
            return Err(Refusal::Check(Sense::invalid_parameter(28)));
        }
        if !how.initiators.is_empty() || !how.names.is_empty() {
            if is_registered(from) {
                // Only who is not registered can register others.
                return Err(Refusal::Check(Sense::invalid_parameter_bit(20, 3)));
            }
            let is_specified = |nexus: &&Nexus| nexus.initiator != from.initiator;
            if named.iter().filter(is_specified).any(is_registered) {
                return Err(Refusal::Check(Sense::invalid_parameter(28)));
            }
        }
        // Through its other ports the initiator's key may be this one or none.
        match named.iter().all(|nexus| self.key(nexus.id).is_none_or(|other| other == key)) {
            true => Ok(()),
            false => Err(Refusal::Conflict),
        }
    }

    /// What APTPL at byte `at` makes of it.
    fn persistence(&self, persists: bool, at: u16) -> Result<Persistence, Refusal> {
        match (self.persistence, persists) {
            (Persistence::Never, true) => Err(Refusal::Check(Sense::invalid_parameter_bit(at, 0))),
            (Persistence::Never, false) => Ok(Persistence::Never),
            // SPC-5 §5.14.5: the bit received last governs.
            (Persistence::Off | Persistence::On, true) => Ok(Persistence::On),
            (Persistence::Off | Persistence::On, false) => Ok(Persistence::Off),
        }
    }

    /// SPC-5 §5.14.7 and §5.14.11.3.
    fn register(
        &self,
        from: &Nexus,
        named: &[Nexus],
        new_key: u64,
        how: &Registering,
    ) -> Result<Effect, Refusal> {
        let persistence = self.persistence(how.persists, 20)?;
        let is_meant = |nexus: NexusId| nexus == from.id || named.iter().any(|other| other.id == nexus);
        if new_key == 0 && !self.registrations.iter().any(|registration| is_meant(registration.nexus.id)) {
            // Table "Register behaviors": nothing but GOOD.
            return Ok(Effect::default());
        }
        let mut change = Change::counted(self, from.id);
        change.next.persistence = persistence;
        if new_key != 0 {
            for nexus in std::iter::once(from).chain(named) {
                change.next.insert(nexus, new_key)?;
            }
            return Ok(change.done());
        }
        change.next.remove(|registration| is_meant(registration.nexus.id));
        if let Some(Reservation { kind, .. }) = self.reservation()
            && change.next.loses_its_last_holder()
        {
            change.next.held = Held::Free;
            if kind.admits_registrants() {
                change.tell_others(Ua::ReservationsReleased);
            }
        }
        Ok(change.done())
    }

    /// SPC-5 §5.14.9.
    fn reserve(&self, from: NexusId, key: u64, kind: Type) -> Result<Effect, Refusal> {
        self.authorise(from, key)?;
        match self.reservation() {
            Some(reservation) if self.is_holder(from) && reservation.kind == kind => Ok(Effect::default()),
            Some(_) => Err(Refusal::Conflict),
            None => {
                let mut change = Change::new(self, from);
                change.next.held = Held::Persistent(Reservation { kind, holder: from });
                Ok(change.done())
            }
        }
    }

    /// SPC-5 §5.14.11.2.2.
    fn release(&self, from: NexusId, key: u64, kind: Type) -> Result<Effect, Refusal> {
        self.authorise(from, key)?;
        let Some(reservation) = self.reservation().filter(|_| self.is_holder(from)) else {
            return Ok(Effect::default());
        };
        if reservation.kind != kind {
            return Err(Refusal::Check(INVALID_RELEASE));
        }
        let mut change = Change::new(self, from);
        change.next.held = Held::Free;
        if kind.admits_registrants() {
            change.tell_others(Ua::ReservationsReleased);
        }
        Ok(change.done())
    }

    /// SPC-5 §5.14.11.2.8.
    fn clear(&self, from: NexusId, key: u64) -> Result<Effect, Refusal> {
        self.authorise(from, key)?;
        let mut change = Change::counted(self, from);
        change.tell_others(Ua::ReservationsPreempted);
        change.next.registrations.clear();
        change.next.held = Held::Free;
        Ok(change.done())
    }

    /// SPC-5 §5.14.11.2.4 to §5.14.11.2.7.
    fn preempt(
        &self,
        from: NexusId,
        key: u64,
        victim: u64,
        kind: Result<Type, Sense>,
        abort: bool,
    ) -> Result<Effect, Refusal> {
        self.authorise(from, key)?;
        let preempted =
            self.reservation().filter(|reservation| match reservation.kind.is_all_registrants() {
                true => victim == 0,
                false => self.key(reservation.holder) == Some(victim),
            });
        // SPC-5 §5.14.11.2.4, table "Preempting actions".
        if victim == 0 && preempted.is_none() {
            return Err(Refusal::Check(Sense::invalid_parameter(8)));
        }
        let is_named = |registration: &Registration| victim == 0 || registration.key == victim;
        let mut change = Change::counted(self, from);
        if let Some(old) = preempted {
            let kind = kind.map_err(Refusal::Check)?;
            change.next.remove(|registration| registration.nexus.id != from && is_named(registration));
            change.next.held = Held::Persistent(Reservation { kind, holder: from });
            if old.kind != kind {
                change.tell_others(Ua::ReservationsReleased);
            }
        } else {
            if !self.registrations.iter().any(is_named) {
                return Err(Refusal::Conflict);
            }
            // Its own registration too, where that has the key.
            change.next.remove(is_named);
            if change.next.loses_its_last_holder() {
                change.next.held = Held::Free;
            }
        }
        change.tell_removed(Ua::RegistrationsPreempted);
        if abort {
            let named = self.registrations.iter().filter(|registration| is_named(registration));
            // With a key of 0 everyone else is meant.
            change.effect.aborts = named
                .map(|registration| registration.nexus.id)
                .filter(|id| victim != 0 || *id != from)
                .collect();
        }
        Ok(change.done())
    }

    /// SPC-5 §5.14.8.
    fn register_and_move(
        &self,
        from: NexusId,
        (key, new_key): (u64, u64),
        unregister: bool,
        destination: Option<&Nexus>,
        persistence: Persistence,
    ) -> Result<Effect, Refusal> {
        self.authorise(from, key)?;
        // SERVICE ACTION is the field that cannot be carried out.
        let reservation = self.reservation().ok_or(Refusal::Check(Sense::invalid_bit(1, 4)))?;
        if reservation.kind.is_all_registrants() || reservation.holder != from {
            return Err(Refusal::Conflict);
        }
        // The initiator port can be any; what is not there is the target port.
        let destination = destination.ok_or(Refusal::Check(Sense::invalid_parameter(18)))?;
        if destination.id == from {
            return Err(Refusal::Check(Sense::invalid_parameter(24)));
        }
        let mut change = Change::counted(self, from);
        if unregister {
            change.next.remove(|registration| registration.nexus.id == from);
        }
        change.next.insert(destination, new_key)?;
        change.next.persistence = persistence;
        change.next.held = Held::Persistent(Reservation { holder: destination.id, ..reservation });
        Ok(change.done())
    }

    fn legacy_reserve(&self, from: NexusId) -> Result<Effect, Refusal> {
        match self.held {
            _ if !self.registrations.is_empty() => self.legacy_beside_registrations(from),
            Held::Legacy(holder) if holder != from => Err(Refusal::Conflict),
            Held::Legacy(_) => Ok(Effect::default()),
            Held::Free | Held::Persistent(_) => {
                let mut change = Change::new(self, from);
                change.next.held = Held::Legacy(from);
                Ok(change.done())
            }
        }
    }

    fn legacy_release(&self, from: NexusId) -> Result<Effect, Refusal> {
        match self.held {
            _ if !self.registrations.is_empty() => self.legacy_beside_registrations(from),
            Held::Legacy(holder) if holder == from => {
                let mut change = Change::new(self, from);
                change.next.held = Held::Free;
                Ok(change.done())
            }
            // SPC-2 §7.11: no error, and no effect.
            Held::Free | Held::Legacy(_) | Held::Persistent(_) => Ok(Effect::default()),
        }
    }

    /// RESERVE and RELEASE while somebody is registered do nothing, and some are told so (SPC-5 §5.14.3, SPC-2 §5.5.1).
    fn legacy_beside_registrations(&self, from: NexusId) -> Result<Effect, Refusal> {
        let is_harmless = self.reservation().is_some_and(|reservation| {
            self.is_holder(from) || (reservation.kind.admits_registrants() && self.key(from).is_some())
        });
        if is_harmless { Ok(Effect::default()) } else { Err(Refusal::Conflict) }
    }

    /// Most service actions are for registrants that know their own key.
    fn authorise(&self, from: NexusId, key: u64) -> Result<(), Refusal> {
        if self.key(from) == Some(key) { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Registers the nexus, or changes its key.
    fn insert(&mut self, nexus: &Nexus, key: u64) -> Result<(), Refusal> {
        match self.position(nexus.id) {
            Ok(at) => self.registrations[at].key = key,
            Err(_) if self.registrations.len() >= REGISTRATIONS_MAX => {
                return Err(Refusal::Check(Sense::NO_REGISTRATION_RESOURCES));
            }
            Err(at) => self.registrations.insert(at, Registration { nexus: nexus.clone(), key }),
        }
        Ok(())
    }

    fn remove(&mut self, is_removed: impl Fn(&Registration) -> bool) {
        self.registrations.retain(|registration| !is_removed(registration));
    }

    /// A persistent reservation is there whose holder has just been removed, or all of whose holders have.
    pub(super) fn loses_its_last_holder(&self) -> bool {
        self.reservation().is_some_and(|reservation| match reservation.kind.is_all_registrants() {
            true => self.registrations.is_empty(),
            false => self.position(reservation.holder).is_err(),
        })
    }
}

impl<'a> Change<'a> {
    fn new(old: &'a State, from: NexusId) -> Change<'a> {
        Change { old, from, effect: Effect::default(), next: old.clone() }
    }

    /// One that PRGENERATION counts: all but RESERVE and RELEASE (SPC-5 §6.16.2).
    fn counted(old: &'a State, from: NexusId) -> Change<'a> {
        let mut change = Change::new(old, from);
        change.next.generation = old.generation.wrapping_add(1);
        change
    }

    /// Every nexus that is registered now, the sender excepted, is to be told.
    fn tell_others(&mut self, ua: Ua) {
        let others = self.next.registrations.iter().map(|registration| registration.nexus.id);
        self.effect.attentions.extend(others.filter(|id| *id != self.from).map(|id| (id, ua)));
    }

    /// Every nexus that is registered no longer, the sender excepted, is to be told.
    fn tell_removed(&mut self, ua: Ua) {
        let old = self.old.registrations.iter().map(|registration| registration.nexus.id);
        let removed = old.filter(|id| *id != self.from && self.next.position(*id).is_err());
        self.effect.attentions.extend(removed.map(|id| (id, ua)));
    }

    fn done(self) -> Effect {
        let drains = self.old.takes_away(&self.next);
        Effect { drains, next: Some(self.next), ..self.effect }
    }
}
