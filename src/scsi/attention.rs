//! Unit attention conditions (SAM-5 §5.14): what one nexus has yet to be told of one logical unit.

use crate::limits::ATTENTIONS_MAX;
use crate::scsi::sense::{Sense, SenseKey};

/// Why a unit attention is owed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ua {
    /// NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED, 28h/00h: a medium that was not there is; nothing that an initiator knows
    /// of it need be true any more.
    MediumChanged,
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED, 29h/00h.
    PowerOnOrReset,
    /// POWER ON OCCURRED, 29h/01h.
    PowerOn,
    /// SCSI BUS RESET OCCURRED, 29h/02h: TARGET WARM RESET and TARGET COLD RESET.
    TargetReset,
    /// BUS DEVICE RESET FUNCTION OCCURRED, 29h/03h: LOGICAL UNIT RESET.
    UnitReset,
    /// I_T NEXUS LOSS OCCURRED, 29h/07h.
    NexusLoss,
    /// MODE PARAMETERS CHANGED, 2Ah/01h.
    ModeChanged,
    /// RESERVATIONS PREEMPTED, 2Ah/03h: another nexus cleared all registrations.
    ReservationsPreempted,
    /// RESERVATIONS RELEASED, 2Ah/04h.
    ReservationsReleased,
    /// REGISTRATIONS PREEMPTED, 2Ah/05h: another nexus took this one's registration away.
    RegistrationsPreempted,
    /// ASYMMETRIC ACCESS STATE CHANGED, 2Ah/06h.
    AccessChanged,
    /// CAPACITY DATA HAS CHANGED, 2Ah/09h.
    CapacityChanged,
    /// COMMANDS CLEARED BY ANOTHER INITIATOR, 2Fh/00h.
    CommandsCleared,
    /// TIMESTAMP CHANGED, 2Ah/10h.
    TimestampChanged,
    /// THIN PROVISIONING SOFT THRESHOLD REACHED, 38h/07h.
    SoftThreshold,
    /// INQUIRY DATA HAS CHANGED, 3Fh/03h.
    InquiryChanged,
    /// SOME COMMANDS CLEARED BY ISCSI PROTOCOL EVENT, 47h/7Fh: a connection of the session ended with commands on it (RFC 7143
    /// §11.14.5).
    CommandsClearedByProtocol,
    /// DEVICE IDENTIFIER CHANGED, 3Fh/05h: SET IDENTIFYING INFORMATION.
    IdentifierChanged,
    /// REPORTED LUNS DATA HAS CHANGED, 3Fh/0Eh. Per target: whoever reports it clears it in every logical unit of the
    /// nexus, as LUICLR of the extended INQUIRY data says.
    LunsChanged,
}

impl Ua {
    /// The sense data it is reported with.
    pub const fn sense(self) -> Sense {
        let (asc, ascq) = match self {
            Ua::MediumChanged => (0x28, 0x00),
            Ua::PowerOnOrReset => (0x29, 0x00),
            Ua::PowerOn => (0x29, 0x01),
            Ua::TargetReset => (0x29, 0x02),
            Ua::UnitReset => (0x29, 0x03),
            Ua::NexusLoss => (0x29, 0x07),
            Ua::ModeChanged => (0x2a, 0x01),
            Ua::ReservationsPreempted => (0x2a, 0x03),
            Ua::ReservationsReleased => (0x2a, 0x04),
            Ua::RegistrationsPreempted => (0x2a, 0x05),
            Ua::AccessChanged => (0x2a, 0x06),
            Ua::CapacityChanged => (0x2a, 0x09),
            Ua::CommandsCleared => (0x2f, 0x00),
            Ua::TimestampChanged => (0x2a, 0x10),
            Ua::SoftThreshold => (0x38, 0x07),
            Ua::InquiryChanged => (0x3f, 0x03),
            Ua::IdentifierChanged => (0x3f, 0x05),
            Ua::LunsChanged => (0x3f, 0x0e),
            Ua::CommandsClearedByProtocol => (0x47, 0x7f),
        };
        Sense::new(SenseKey::UnitAttention, asc, ascq)
    }

    /// SAM-5 §5.14: precedence among the 29h conditions, 1 being the highest; none for the others.
    const fn rank(self) -> Option<u8> {
        match self {
            Ua::PowerOnOrReset | Ua::PowerOn => Some(1),
            Ua::TargetReset => Some(2),
            Ua::UnitReset => Some(3),
            Ua::NexusLoss => Some(4),
            _ => None,
        }
    }
}

/// The conditions pending for one nexus at one logical unit, in the order they will be reported: one 29h condition at
/// most and first, then the others, oldest first, each once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Attentions {
    pending: [Option<Ua>; ATTENTIONS_MAX],
}

// Invariant: one 29h condition and each of fourteen others fit, so `push` never has to drop one.
const _: () = assert!(ATTENTIONS_MAX >= 15);

impl Attentions {
    /// Nothing is owed.
    pub const fn new() -> Self {
        Attentions { pending: [None; ATTENTIONS_MAX] }
    }

    /// Nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.pending[0].is_none()
    }

    /// Whether this condition is pending.
    pub fn owes(&self, ua: Ua) -> bool {
        self.pending.contains(&Some(ua))
    }

    /// The one to be reported next.
    pub fn first(&self) -> Option<Ua> {
        self.pending[0]
    }

    /// Establishes a condition. One that is pending already, or that a pending 29h condition supersedes, changes
    /// nothing. A power on supersedes all; the lesser resets only one another, since an initiator that is told of a lost nexus
    /// must still hear that the capacity has changed.
    pub fn push(&mut self, ua: Ua) {
        let Some(rank) = ua.rank() else {
            if !self.pending.contains(&Some(ua)) {
                self.append(ua);
            }
            return;
        };
        match self.first().and_then(Ua::rank) {
            Some(pending) if pending <= rank => return,
            Some(_) => self.pending[0] = Some(ua),
            None => {
                // The last place is free: see the invariant.
                self.pending.rotate_right(1);
                self.pending[0] = Some(ua);
            }
        }
        if rank == 1 {
            self.pending[1..].fill(None);
        }
    }

    /// Takes the one to be reported now.
    pub fn take(&mut self) -> Option<Ua> {
        let first = self.pending[0].take();
        self.pending.rotate_left(1);
        first
    }

    /// Forgets a condition that was made known in another way.
    pub fn clear(&mut self, ua: Ua) {
        if let Some(at) = self.pending.iter().position(|pending| *pending == Some(ua)) {
            self.pending[at] = None;
            self.pending[at..].rotate_left(1);
        }
    }

    /// Puts a condition into the first free place.
    fn append(&mut self, ua: Ua) {
        if let Some(free) = self.pending.iter_mut().find(|pending| pending.is_none()) {
            *free = Some(ua);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Ua; 17] = [
        Ua::TimestampChanged,
        Ua::IdentifierChanged,
        Ua::MediumChanged,
        Ua::PowerOnOrReset,
        Ua::PowerOn,
        Ua::TargetReset,
        Ua::UnitReset,
        Ua::NexusLoss,
        Ua::ModeChanged,
        Ua::ReservationsPreempted,
        Ua::ReservationsReleased,
        Ua::RegistrationsPreempted,
        Ua::CapacityChanged,
        Ua::CommandsCleared,
        Ua::SoftThreshold,
        Ua::InquiryChanged,
        Ua::LunsChanged,
    ];

    fn reported(pushed: &[Ua]) -> Vec<Ua> {
        let mut attentions = Attentions::new();
        pushed.iter().for_each(|ua| attentions.push(*ua));
        std::iter::from_fn(|| attentions.take()).collect()
    }

    #[test]
    fn codes() {
        let codes = ALL.map(|ua| (ua.sense().key.code(), ua.sense().asc, ua.sense().ascq));
        assert_eq!(
            codes,
            [
                (6, 0x2a, 0x10),
                (6, 0x3f, 0x05),
                (6, 0x28, 0x00),
                (6, 0x29, 0x00),
                (6, 0x29, 0x01),
                (6, 0x29, 0x02),
                (6, 0x29, 0x03),
                (6, 0x29, 0x07),
                (6, 0x2a, 0x01),
                (6, 0x2a, 0x03),
                (6, 0x2a, 0x04),
                (6, 0x2a, 0x05),
                (6, 0x2a, 0x09),
                (6, 0x2f, 0x00),
                (6, 0x38, 0x07),
                (6, 0x3f, 0x03),
                (6, 0x3f, 0x0e),
            ]
        );
    }

    #[test]
    fn oldest_first_and_each_once() {
        use Ua::{CapacityChanged, LunsChanged, ModeChanged};
        assert_eq!(
            reported(&[LunsChanged, CapacityChanged, LunsChanged, ModeChanged, CapacityChanged]),
            [LunsChanged, CapacityChanged, ModeChanged]
        );
    }

    #[test]
    fn resets_go_first_and_supersede_lesser_ones() {
        use Ua::{CapacityChanged, ModeChanged, NexusLoss, PowerOn, TargetReset, UnitReset};
        assert_eq!(reported(&[CapacityChanged, NexusLoss]), [NexusLoss, CapacityChanged]);
        assert_eq!(reported(&[NexusLoss, CapacityChanged, UnitReset]), [UnitReset, CapacityChanged]);
        assert_eq!(reported(&[TargetReset, NexusLoss, UnitReset]), [TargetReset]);
        assert_eq!(reported(&[CapacityChanged, NexusLoss, PowerOn]), [PowerOn]);
        assert_eq!(reported(&[PowerOn, TargetReset, ModeChanged]), [PowerOn, ModeChanged]);
    }

    #[test]
    fn clearing_keeps_the_order_of_the_others() {
        use Ua::{CapacityChanged, LunsChanged, ModeChanged};
        let mut attentions = Attentions::new();
        for ua in [ModeChanged, LunsChanged, CapacityChanged] {
            attentions.push(ua);
        }
        attentions.clear(LunsChanged);
        attentions.clear(LunsChanged);
        assert_eq!(attentions.take(), Some(ModeChanged));
        assert_eq!(attentions.first(), Some(CapacityChanged));
        assert_eq!(attentions.take(), Some(CapacityChanged));
        assert!(attentions.is_empty());
        assert_eq!(attentions.take(), None);
    }

    #[test]
    fn no_order_of_establishing_loses_one() {
        let mut seed = 1_u32;
        for _ in 0..2000 {
            let mut attentions = Attentions::new();
            let mut reset = false;
            for _ in 0..24 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let ua = ALL[(seed >> 16) as usize % ALL.len()];
                reset |= ua.rank().is_some();
                attentions.push(ua);
                assert!(ua.rank().is_some() || attentions.pending.contains(&Some(ua)));
                assert_eq!(attentions.first().and_then(Ua::rank).is_some(), reset);
            }
        }
    }
}
