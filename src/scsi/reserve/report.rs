//! PERSISTENT RESERVE IN: its parameter data (SPC-5 §6.16).

use crate::scsi::reserve::state::Registration;
use crate::scsi::reserve::{Persistence, State, Type};

/// SERVICE ACTION of PERSISTENT RESERVE IN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum In {
    /// 00h, READ KEYS.
    Keys,
    /// 01h, READ RESERVATION.
    Reservation,
    /// 02h, REPORT CAPABILITIES.
    Capabilities,
    /// 03h, READ FULL STATUS.
    FullStatus,
}

/// A full status descriptor without its TransportID.
const DESCRIPTOR_BYTES: usize = 24;

/// Byte 2: CRH, as RESERVE and RELEASE follow SPC-5 §5.14.3; SIP_C and ATP_C; no RLR_C.
const CAPABLE: u8 = 0x10 | 0x08 | 0x04;
/// Byte 2: what is registered can survive a power loss.
const PTPL_C: u8 = 0x01;
/// Byte 3: TMV, the type mask is valid; ALLOW COMMANDS 011b: TEST UNIT READY goes through every reservation, MODE SENSE and
/// its like through those that are write exclusive.
const ALLOWS: u8 = 0x80 | 0b011 << 4;
/// Byte 3: and does.
const PTPL_A: u8 = 0x01;
/// All six types: WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC and WR_EX, then EX_AC_AR.
const TYPES: [u8; 2] = [0x80 | 0x40 | 0x20 | 0x08 | 0x02, 0x01];

impl In {
    /// By its code; none where that is reserved.
    pub const fn decode(action: u8) -> Option<In> {
        Some(match action {
            0x00 => In::Keys,
            0x01 => In::Reservation,
            0x02 => In::Capabilities,
            0x03 => In::FullStatus,
            _ => return None,
        })
    }
}

impl State {
    /// Hands the whole of the parameter data to `put`, part by part; the caller cuts it to the ALLOCATION LENGTH. Does not
    /// allocate.
    pub fn report(&self, what: In, put: &mut impl FnMut(&[u8])) {
        match what {
            In::Keys => self.report_keys(put),
            In::Reservation => self.report_reservation(put),
            In::Capabilities => self.report_capabilities(put),
            In::FullStatus => self.report_full_status(put),
        }
    }

    fn report_capabilities(&self, put: &mut impl FnMut(&[u8])) {
        let (capable, active) = match self.persistence {
            Persistence::Never => (0, 0),
            Persistence::Off => (PTPL_C, 0),
            Persistence::On => (PTPL_C, PTPL_A),
        };
        put(&[0, 8, CAPABLE | capable, ALLOWS | active, TYPES[0], TYPES[1], 0, 0]);
    }

    fn report_keys(&self, put: &mut impl FnMut(&[u8])) {
        self.report_head(self.registrations.len() * 8, put);
        for registration in &self.registrations {
            put(&registration.key.to_be_bytes());
        }
    }

    fn report_reservation(&self, put: &mut impl FnMut(&[u8])) {
        let Some(reservation) = self.reservation() else { return self.report_head(0, put) };
        self.report_head(16, put);
        // SPC-5 §6.16.3: 0 where all registrants are holders.
        let key = match reservation.kind.is_all_registrants() {
            true => 0,
            false => self.key(reservation.holder).unwrap_or(0),
        };
        put(&key.to_be_bytes());
        put(&[0, 0, 0, 0, 0, scope_and_type(reservation.kind), 0, 0]);
    }

    fn report_full_status(&self, put: &mut impl FnMut(&[u8])) {
        let bytes = |registration: &Registration| DESCRIPTOR_BYTES + registration.nexus.initiator.id_bytes();
        self.report_head(self.registrations.iter().map(bytes).sum(), put);
        for registration in &self.registrations {
            let Registration { nexus, key } = registration;
            // R_HOLDER; SCOPE and TYPE mean something with it only.
            let held = self.reservation().filter(|_| self.is_holder(nexus.id));
            let flags = u8::from(held.is_some());
            let kind = held.map_or(0, |reservation| scope_and_type(reservation.kind));
            put(&key.to_be_bytes());
            put(&[0, 0, 0, 0, flags, kind, 0, 0, 0, 0]);
            put(&nexus.target_port.to_be_bytes());
            put(&length(nexus.initiator.id_bytes()));
            nexus.initiator.write(put);
        }
    }

    /// PRGENERATION and ADDITIONAL LENGTH, the latter of all that follows, however much of it is wanted.
    fn report_head(&self, bytes: usize, put: &mut impl FnMut(&[u8])) {
        put(&self.generation.to_be_bytes());
        put(&length(bytes));
    }
}

/// SCOPE is always LU_SCOPE, 0h.
const fn scope_and_type(kind: Type) -> u8 {
    kind.code()
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}
