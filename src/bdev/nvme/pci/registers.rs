//! Registers of a controller (Base §3.1.3), and what their bits mean.

use crate::bdev::nvme::bus::Bus;
use crate::bdev::nvme::transport::Limits;
use crate::time::MS_NS;

/// Controller capabilities, 64 bits.
pub(super) const CAP: usize = 0x00;
/// Version.
pub(super) const VS: usize = 0x08;
/// Controller configuration.
pub(super) const CC: usize = 0x14;
/// Controller status.
pub(super) const CSTS: usize = 0x1C;
/// Admin queue attributes.
pub(super) const AQA: usize = 0x24;
/// Admin submission queue's address, 64 bits.
pub(super) const ASQ: usize = 0x28;
/// Admin completion queue's address, 64 bits.
pub(super) const ACQ: usize = 0x30;
/// Controller ready time-outs.
const CRTO: usize = 0x68;
/// The first doorbell.
const DOORBELLS: usize = 0x1000;
/// Registers up to the doorbells of the admin queue, which every controller has.
pub(super) const REGISTER_BYTES_MIN: usize = DOORBELLS + 8;

/// CC: enable.
pub(super) const CC_EN: u32 = 1;
/// CC: shutdown notification, two bits.
pub(super) const CC_SHN: u32 = 3 << 14;
/// CC: shutdown notification, normal.
pub(super) const CC_SHN_NORMAL: u32 = 1 << 14;
/// CC: completion queue entries of 2^4 bytes, submission queue entries of 2^6. Pages of 4 KiB and round-robin
/// arbitration are zeroes.
const CC_ENTRY_SIZES: u32 = 4 << 20 | 6 << 16;
/// CC: all IO command sets that the controller has.
const CC_CSS_ALL: u32 = 6 << 4;

/// CSTS: ready.
const CSTS_RDY: u32 = 1;
/// CSTS: controller fatal status.
const CSTS_CFS: u32 = 1 << 1;
/// CSTS: shutdown status, two bits.
const CSTS_SHST: u32 = 3 << 2;
/// CSTS: shutdown is complete.
const CSTS_SHST_COMPLETE: u32 = 2 << 2;

/// CAP.TO and CRTO count in these.
const READY_UNIT_NS: u64 = 500 * MS_NS;
/// What CAP.TO may say at most: 255 units.
const READY_UNITS_MAX: u64 = 255;

/// What CSTS says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    /// All ones: the device does not answer any more.
    Gone,
    /// It is there.
    Present {
        /// It takes commands; when it does not, it has let go of all memory.
        is_ready: bool,
        /// It gave up.
        is_fatal: bool,
        /// An orderly shutdown is complete.
        is_shut_down: bool,
    },
}

impl Status {
    pub(super) fn read(bus: &dyn Bus) -> Status {
        match bus.read32(CSTS) {
            u32::MAX => Status::Gone,
            bits => Status::Present {
                is_ready: bits & CSTS_RDY != 0,
                is_fatal: bits & CSTS_CFS != 0,
                is_shut_down: bits & CSTS_SHST == CSTS_SHST_COMPLETE,
            },
        }
    }
}

/// What CAP and VS say, as far as the driver can live with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Capabilities {
    pub(super) limits: Limits,
    /// Bytes from one doorbell to the next.
    pub(super) doorbell_stride: usize,
    /// What to enable it with.
    pub(super) configuration: u32,
}

impl Capabilities {
    pub(super) fn read(bus: &dyn Bus) -> Result<Capabilities, String> {
        let cap = bus.read64(CAP);
        let version = bus.read32(VS);
        let field = |shift: u32, mask: u64| u32::try_from(cap >> shift & mask).unwrap_or(u32::MAX);
        let (entries_max, stride, sets, page_shift) =
            (field(0, 0xFFFF) + 1, field(32, 0xF), field(37, 0xFF), field(48, 0xF));
        if entries_max < 2 {
            return Err("the controller has queues of one entry only (CAP.MQES)".to_owned());
        }
        if page_shift != 0 {
            return Err(format!(
                "the controller wants pages of {} KiB at least (CAP.MPSMIN); this driver has pages of 4 KiB",
                4_u64 << page_shift
            ));
        }
        // Base figure 36, CSS: bit 0 is the NVM command set, bit 6 that sets are told by Identify.
        let configuration = match sets {
            sets if sets & 1 != 0 => CC_ENTRY_SIZES,
            sets if sets & 1 << 6 != 0 => CC_ENTRY_SIZES | CC_CSS_ALL,
            _ => return Err("the controller does not have the NVM command set (CAP.CSS)".to_owned()),
        };
        Ok(Capabilities {
            limits: Limits { entries_max, version, page_bytes_min: 4096, needs_keep_alive: false },
            doorbell_stride: 4 << stride,
            configuration,
        })
    }

    /// Where the doorbells of a pair of queues are: submission and completion.
    pub(super) fn doorbells(&self, bus: &dyn Bus, id: u16) -> Result<(usize, usize), String> {
        let submission = DOORBELLS + 2 * usize::from(id) * self.doorbell_stride;
        let completion = submission + self.doorbell_stride;
        if completion + 4 > bus.register_bytes() {
            return Err(format!("the doorbells of queue {id} are beyond the controller's registers"));
        }
        Ok((submission, completion))
    }
}

/// How long the controller may take to become ready, or not ready.
pub(super) fn ready_ns_max(bus: &dyn Bus) -> u64 {
    let cap = bus.read64(CAP);
    let mut units = cap >> 24 & READY_UNITS_MAX;
    // Base §3.1.3.20: CRTO is there where CAP.CRMS bit 0 says so, and its low half counts beyond 255.
    if cap >> 59 & 1 != 0 && cap != u64::MAX {
        units = units.max(u64::from(bus.read32(CRTO) & 0xFFFF).min(2 * READY_UNITS_MAX));
    }
    // One unit of grace: some say 0.
    (units + 1) * READY_UNIT_NS
}
