//! Reservations, pure: who may do what with a logical unit, and how PERSISTENT RESERVE OUT, RESERVE and RELEASE change it
//! (SPC-5 §5.14, §6.16 and §6.17; SPC-2 §5.5 for RESERVE and RELEASE).
//!
//! Control keeps one [`State`] per logical unit. [`State::out`] turns a [`Request`] into an [`Effect`]: the next state, whom to
//! tell, whose tasks to abort. What it publishes are [`Permits`]: reactors ask them before each command and each
//! device IO, and answer PERSISTENT RESERVE IN out of them.
//!
//! Everything SPC-5 knows is offered. APTPL (registrations that survive a power loss) needs a place to save them: where control
//! has none it is refused with a pointer to the bit, and REPORT CAPABILITIES says so.

mod class;
mod out;
mod permits;
mod port;
mod report;
mod request;
mod saved;
mod state;

#[cfg(test)]
mod tests;

pub use crate::scsi::reserve::class::Class;
pub use crate::scsi::reserve::out::{Effect, Refusal};
pub use crate::scsi::reserve::permits::Permits;
pub use crate::scsi::reserve::port::InitiatorPort;
pub use crate::scsi::reserve::report::In;
pub(super) use crate::scsi::reserve::request::plan;
pub use crate::scsi::reserve::request::{Registering, Request, parameter_bytes};
pub use crate::scsi::reserve::saved::{Persistence, Saved};
pub use crate::scsi::reserve::state::{Nexus, State};

/// TYPE of a persistent reservation (SPC-5 §6.16.3). The holder may do everything; this says what others may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// 1h: read.
    WriteExclusive,
    /// 3h: nothing.
    ExclusiveAccess,
    /// 5h: registrants everything, others read.
    WriteExclusiveRegistrantsOnly,
    /// 6h: registrants everything, others nothing.
    ExclusiveAccessRegistrantsOnly,
    /// 7h: as 5h, and every registrant is a holder.
    WriteExclusiveAllRegistrants,
    /// 8h: as 6h, and every registrant is a holder.
    ExclusiveAccessAllRegistrants,
}

impl Type {
    /// By its code on the wire; none where that is reserved or obsolete.
    pub const fn decode(code: u8) -> Option<Type> {
        Some(match code {
            0x1 => Type::WriteExclusive,
            0x3 => Type::ExclusiveAccess,
            0x5 => Type::WriteExclusiveRegistrantsOnly,
            0x6 => Type::ExclusiveAccessRegistrantsOnly,
            0x7 => Type::WriteExclusiveAllRegistrants,
            0x8 => Type::ExclusiveAccessAllRegistrants,
            _ => return None,
        })
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Type::WriteExclusive => 0x1,
            Type::ExclusiveAccess => 0x3,
            Type::WriteExclusiveRegistrantsOnly => 0x5,
            Type::ExclusiveAccessRegistrantsOnly => 0x6,
            Type::WriteExclusiveAllRegistrants => 0x7,
            Type::ExclusiveAccessAllRegistrants => 0x8,
        }
    }

    /// Every registrant is a holder.
    const fn is_all_registrants(self) -> bool {
        matches!(self, Type::WriteExclusiveAllRegistrants | Type::ExclusiveAccessAllRegistrants)
    }

    /// Every registrant may do what a holder may.
    const fn admits_registrants(self) -> bool {
        !matches!(self, Type::WriteExclusive | Type::ExclusiveAccess)
    }

    /// Whoever may do nothing else may read.
    const fn admits_reads(self) -> bool {
        matches!(
            self,
            Type::WriteExclusive | Type::WriteExclusiveRegistrantsOnly | Type::WriteExclusiveAllRegistrants
        )
    }
}
