//! What of a logical unit's reservations outlives the process (SPC-5 §5.14.5): registrations, and the reservation that one of
//! them made. PRGENERATION begins at 0 again (SPC-5 §6.16.2).

use crate::id::NexusId;
use crate::limits::REGISTRATIONS_MAX;
use crate::scsi::reserve::state::{Held, Registration, Reservation};
use crate::scsi::reserve::{Nexus, State, Type};

/// Whether registrations outlive the process.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Persistence {
    /// They cannot: there is no place to save them.
    #[default]
    Never,
    /// They do not.
    Off,
    /// They do: APTPL was set in the last command that has it.
    On,
}

/// What outlives the process.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Saved {
    /// Who is registered, each with its key.
    pub registrations: Vec<(Nexus, u64)>,
    /// TYPE and the holder; none where all registrants are.
    pub reservation: Option<(Type, Option<NexusId>)>,
}

impl State {
    /// What is to be saved; none where nothing is.
    pub fn to_save(&self) -> Option<Saved> {
        if self.persistence != Persistence::On || self.registrations.is_empty() {
            return None;
        }
        let registrations = self.registrations.iter();
        Some(Saved {
            registrations: registrations.map(|known| (known.nexus.clone(), known.key)).collect(),
            reservation: self
                .reservation()
                .map(|Reservation { kind, holder }| (kind, (!kind.is_all_registrants()).then_some(holder))),
        })
    }

    /// As it was saved; none where that cannot have been.
    pub fn restored(saved: Saved) -> Option<State> {
        let Saved { registrations, reservation } = saved;
        if registrations.is_empty() || registrations.len() > REGISTRATIONS_MAX {
            return None;
        }
        let mut registrations: Vec<Registration> =
            registrations.into_iter().map(|(nexus, key)| Registration { nexus, key }).collect();
        registrations.sort_unstable_by_key(|known| known.nexus.id);
        let is_sound = registrations.iter().all(|known| known.key != 0)
            && registrations.windows(2).all(|pair| pair[0].nexus.id != pair[1].nexus.id);
        let first = registrations[0].nexus.id;
        let held = match reservation {
            None => Held::Free,
            Some((kind, Some(holder))) => Held::Persistent(Reservation { kind, holder }),
            // Nothing hangs on who made it, and any registrant will do.
            Some((kind, None)) if kind.is_all_registrants() => {
                Held::Persistent(Reservation { kind, holder: first })
            }
            Some((_, None)) => return None,
        };
        let state = State { generation: 0, registrations, held, persistence: Persistence::On };
        (is_sound && !state.loses_its_last_holder()).then_some(state)
    }
}
