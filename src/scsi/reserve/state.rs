//! Registrations and the reservation of one logical unit, and what they allow.

use crate::id::NexusId;
use crate::scsi::reserve::{Class, InitiatorPort, Persistence, Type};

/// An I_T nexus as a registration names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nexus {
    /// Which.
    pub id: NexusId,
    /// Its initiator port.
    pub initiator: InitiatorPort,
    /// Its target port's relative target port identifier.
    pub target_port: u16,
}

/// A registered nexus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Registration {
    pub(super) nexus: Nexus,
    /// Not 0.
    pub(super) key: u64,
}

/// Who has the unit.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Held {
    /// Nobody.
    #[default]
    Free,
    /// This nexus, by RESERVE. Then nobody is registered: RESERVE is refused while anybody is, and registering is refused
    /// now.
    Legacy(NexusId),
    /// Registrants, by PERSISTENT RESERVE OUT.
    Persistent(Reservation),
}

/// A persistent reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reservation {
    pub(super) kind: Type,
    /// The registrant that made it. Nothing hangs on it where all registrants are holders, and it may be registered no more.
    pub(super) holder: NexusId,
}

/// What a nexus is to the reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Holder,
    Registrant,
    Stranger,
}

/// The reservations of one logical unit. The default is that there are none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct State {
    /// PRGENERATION.
    pub(super) generation: u32,
    /// Ascending by nexus, at most [`REGISTRATIONS_MAX`](crate::limits::REGISTRATIONS_MAX).
    pub(super) registrations: Vec<Registration>,
    // Invariant: the holder of a persistent reservation is registered; where all registrants are holders, someone is.
    pub(super) held: Held,
    pub(super) persistence: Persistence,
}

impl State {
    /// Nobody is registered. `can_persist`: registrations can be kept through a power loss.
    pub fn new(can_persist: bool) -> State {
        let persistence = if can_persist { Persistence::Off } else { Persistence::Never };
        State { persistence, ..State::default() }
    }

    /// Nobody is kept from anything.
    pub fn is_free(&self) -> bool {
        self.held == Held::Free
    }

    /// Whether anything here is in the name of this nexus.
    pub fn names(&self, nexus: NexusId) -> bool {
        self.position(nexus).is_ok() || self.legacy_holder() == Some(nexus)
    }

    /// Who is registered with which key, and the type of the persistent reservation: for lists.
    pub fn shown(&self) -> (impl Iterator<Item = (&Nexus, u64)>, Option<Type>) {
        let registrations = self.registrations.iter().map(|known| (&known.nexus, known.key));
        (registrations, self.reservation().map(|reservation| reservation.kind))
    }

    /// Whether this nexus is a holder of the persistent reservation.
    pub fn holds(&self, nexus: NexusId) -> bool {
        self.is_holder(nexus)
    }

    /// Whether commands of this class are served for this nexus. [`Class::StartStop`] and [`Class::Prevent`] are taken for
    /// what is stricter: see [`Class::of`].
    pub fn allows(&self, nexus: NexusId, class: Class) -> bool {
        self.is_free() || self.allows_role(self.role(nexus), class)
    }

    /// A session of this nexus has ended: what it had by RESERVE is free (SPC-2 §5.5.2). Registrations and persistent
    /// reservations survive (SPC-5 §5.14.4). Returns what becomes of the state, where that changes anything.
    #[must_use]
    pub fn nexus_lost(&self, nexus: NexusId) -> Option<State> {
        (self.held == Held::Legacy(nexus)).then(|| State { held: Held::Free, ..self.clone() })
    }

    /// The logical unit or its target was reset: as with [`State::nexus_lost`], whoever has it.
    #[must_use]
    pub fn reset(&self) -> Option<State> {
        matches!(self.held, Held::Legacy(_)).then(|| State { held: Held::Free, ..self.clone() })
    }

    /// Whether there is anyone, known here or not, who could read or write and in `next` no longer can: what such nexuses
    /// have in a device has to come back before the change is answered.
    pub(super) fn takes_away(&self, next: &State) -> bool {
        if next.is_free() {
            return false;
        }
        [Class::Read, Class::Write].into_iter().any(|class| {
            let loses = |was: Role, is: Role| self.allows_role(was, class) && !next.allows_role(is, class);
            let known = self.registrations.iter().chain(&next.registrations);
            let known = known.map(|registration| registration.nexus.id).chain(self.legacy_holder());
            loses(Role::Stranger, Role::Stranger)
                || known.into_iter().any(|nexus| loses(self.role(nexus), next.role(nexus)))
        })
    }

    /// The key this nexus is registered with.
    pub(super) fn key(&self, nexus: NexusId) -> Option<u64> {
        let at = self.position(nexus).ok()?;
        Some(self.registrations[at].key)
    }

    /// The persistent reservation.
    pub(super) fn reservation(&self) -> Option<Reservation> {
        match self.held {
            Held::Persistent(reservation) => Some(reservation),
            Held::Free | Held::Legacy(_) => None,
        }
    }

    /// Whether this nexus is a holder of the persistent reservation.
    pub(super) fn is_holder(&self, nexus: NexusId) -> bool {
        self.reservation().is_some() && self.role(nexus) == Role::Holder
    }

    /// Where the registration of this nexus is, or would be.
    pub(super) fn position(&self, nexus: NexusId) -> Result<usize, usize> {
        self.registrations.binary_search_by_key(&nexus, |registration| registration.nexus.id)
    }

    fn legacy_holder(&self) -> Option<NexusId> {
        match self.held {
            Held::Legacy(holder) => Some(holder),
            Held::Free | Held::Persistent(_) => None,
        }
    }

    fn role(&self, nexus: NexusId) -> Role {
        match self.held {
            Held::Legacy(holder) if holder == nexus => Role::Holder,
            Held::Persistent(reservation) if self.position(nexus).is_ok() => {
                if reservation.kind.is_all_registrants() || reservation.holder == nexus {
                    Role::Holder
                } else {
                    Role::Registrant
                }
            }
            Held::Free | Held::Legacy(_) | Held::Persistent(_) => Role::Stranger,
        }
    }

    fn allows_role(&self, role: Role, class: Class) -> bool {
        match (self.held, class) {
            (Held::Free, _) | (_, Class::Always) => true,
            // SPC-2 §5.5.1: the two ways to reserve exclude one another, whoever asks.
            (Held::Legacy(_), Class::Persistent) => false,
            (Held::Legacy(_), _) => role == Role::Holder,
            (Held::Persistent(_), Class::Status | Class::Persistent) => true,
            (Held::Persistent(Reservation { kind, .. }), _) => match role {
                Role::Holder => true,
                Role::Registrant if kind.admits_registrants() => true,
                Role::Registrant | Role::Stranger => class == Class::Read && kind.admits_reads(),
            },
        }
    }
}
