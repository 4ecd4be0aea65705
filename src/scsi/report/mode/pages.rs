//! The mode pages: caching (SBC-4 §6.5.6), control and informational exceptions control (SPC-5 §7.5); where a unit can tell what its
//! blocks take, also read-write error recovery, for its LBPERE bit, and logical block provisioning (SBC-4 §6.5.10, §6.5.9).

use crate::scsi::provisioning::{self, Threshold};
use crate::scsi::sense::Sense;
use crate::scsi::view::{Modes, UnitView};

/// The longest page, with its header.
pub(super) const PAGE_BYTES_MAX: usize = 32;

/// Bytes of a page, of which there are [`Page::bytes`].
pub(super) type Bytes = [u8; PAGE_BYTES_MAX];

/// A mode page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// PAGE CODE.
    pub(super) code: u8,
    /// SUBPAGE CODE; 0 is none, and such a page has a header of its own.
    pub(super) subpage: u8,
    /// Its length, header included.
    pub(super) bytes: usize,
    /// The page without its header, as these modes have it.
    values: fn(&Modes, &mut Bytes),
    /// The bits of it that can be changed.
    mask: fn(&UnitView, &mut Bytes),
    /// Takes what can be changed out of a page.
    store: fn(&Bytes, &mut Modes),
    /// In each byte, the bits at which a field begins.
    fields: &'static [u8],
    /// Whether a unit has it.
    is_had_by: fn(&UnitView) -> bool,
}

/// Every page, ascending (SPC-5: the order in which they are returned).
pub(super) static PAGES: [Page; 5] = [
    Page {
        code: 0x01,
        subpage: 0,
        bytes: 12,
        values: |modes, page| page[7] = if modes.thresholds.is_told { LBPERE } else { 0 },
        mask: |_, page| page[7] = LBPERE,
        store: |page, modes| modes.thresholds.is_told = page[7] & LBPERE != 0,
        fields: &[0x80, 0x80, 0xff, 0x80, 0x80, 0x80, 0x80, 0xd2, 0x80, 0x80, 0x80, 0],
        is_had_by: |unit| provisioning::space(unit).is_some(),
    },
    Page {
        code: 0x08,
        subpage: 0,
        bytes: 20,
        values: caching,
        mask: |unit, page| page[2] = if unit.write_cache { WCE } else { 0 },
        store: |page, modes| modes.write_cache = page[2] & WCE != 0,
        fields: &[
            0x80, 0x80, 0xff, 0x88, 0x80, 0, 0x80, 0, 0x80, 0, 0x80, 0, 0xf5, 0x80, 0x80, 0, 0x80, 0x80, 0, 0,
        ],
        is_had_by: |_| true,
    },
    Page {
        code: 0x0a,
        subpage: 0,
        bytes: 12,
        values: control,
        mask: |_, page| (page[2], page[4]) = (D_SENSE, SWP),
        store: |page, modes| {
            modes.descriptor_sense = page[2] & D_SENSE != 0;
            modes.write_protect = page[4] & SWP != 0;
        },
        fields: &[0x80, 0x80, 0x9f, 0x8d, 0xef, 0xfc, 0x80, 0, 0x80, 0, 0x80, 0],
        is_had_by: |_| true,
    },
    Page {
        code: EXCEPTIONS,
        subpage: 0,
        bytes: 12,
        values: |modes, page| page[2..12].copy_from_slice(&modes.exceptions),
        // PERF, EWASC, DEXCPT, LOGERR; MRIE; INTERVAL TIMER and REPORT COUNT. TEST would ask for an exception to be
        // reported, EBF and EBACKERR for background functions.
        mask: |_, page| page[2..12].copy_from_slice(&[0x99, 0x0f, 255, 255, 255, 255, 255, 255, 255, 255]),
        store: |page, modes| modes.exceptions.copy_from_slice(&page[2..12]),
        fields: &[0x80, 0x80, 0xff, 0x88, 0x80, 0, 0, 0, 0x80, 0, 0, 0],
        is_had_by: |_| true,
    },
    Page {
        code: EXCEPTIONS,
        subpage: PROVISIONING,
        bytes: 32,
        // SITUA=0: every nexus is told.
        values: |modes, page| {
            descriptor(&mut page[16..24], modes.thresholds.available, [ARMED_DECREASING, AVAILABLE]);
            descriptor(&mut page[24..32], modes.thresholds.used, [ARMED_INCREASING, USED]);
        },
        mask: |_, page| {
            let any = Threshold { is_enabled: true, sets: u32::MAX };
            descriptor(&mut page[16..24], any, [0, 0]);
            descriptor(&mut page[24..32], any, [0, 0]);
        },
        store: |page, modes| {
            modes.thresholds.available = threshold(&page[16..24]);
            modes.thresholds.used = threshold(&page[24..32]);
        },
        fields: &[
            0x80, 0x80, 0x80, 0, 0x81, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            0xe4, 0x80, 0x80, 0, 0x80, 0, 0, 0, 0xe4, 0x80, 0x80, 0, 0x80, 0, 0, 0,
        ],
        is_had_by: |unit| provisioning::space(unit).is_some(),
    },
];

/// SUBPAGE FORMAT, in byte 0: the header has a subpage code and a longer length.
pub(super) const SPF: u8 = 0x40;

const EXCEPTIONS: u8 = 0x1c;
/// SUBPAGE CODE of logical block provisioning.
const PROVISIONING: u8 = 0x02;
/// THRESHOLD ARMING, and THRESHOLD RESOURCE: the code of a parameter of log page 0Ch.
const ARMED_DECREASING: u8 = 0x00;
const ARMED_INCREASING: u8 = 0x01;
const AVAILABLE: u8 = 0x01;
const USED: u8 = 0x02;
/// ENABLED, in byte 0 of a threshold descriptor.
const ENABLED: u8 = 0x80;
/// Logical block provisioning error reporting enabled, in byte 7 of the read-write error recovery page.
const LBPERE: u8 = 0x80;

/// Write cache enable, in byte 2 of the caching page.
const WCE: u8 = 0x04;
/// Descriptor format sense data, in byte 2 of the control page.
const D_SENSE: u8 = 0x04;
/// Software write protect, in byte 4 of the control page.
const SWP: u8 = 0x08;

fn caching(modes: &Modes, page: &mut Bytes) {
    page[2] = if modes.write_cache { WCE } else { 0 };
}

fn control(modes: &Modes, page: &mut Bytes) {
    // TST 001b: a task set per I_T nexus.
    page[2] = 0x20 | if modes.descriptor_sense { D_SENSE } else { 0 };
    // QUEUE ALGORITHM MODIFIER 1: simple commands may pass one another. QERR 00b.
    page[3] = 0x10;
    // No unit attention interlock.
    page[4] = if modes.write_protect { SWP } else { 0 };
    // TAS: a command that another nexus aborts ends in TASK ABORTED.
    page[5] = 0x40;
    // BUSY TIMEOUT PERIOD undefined, no self-test.
}

/// A threshold descriptor, THRESHOLD TYPE 000b.
fn descriptor(out: &mut [u8], threshold: Threshold, [arming, resource]: [u8; 2]) {
    out[0] = arming | if threshold.is_enabled { ENABLED } else { 0 };
    out[1] = resource;
    out[4..8].copy_from_slice(&threshold.sets.to_be_bytes());
}

fn threshold(descriptor: &[u8]) -> Threshold {
    let sets = descriptor[4..8].iter().fold(0, |sets: u32, byte| sets << 8 | u32::from(*byte));
    Threshold { is_enabled: descriptor[0] & ENABLED != 0, sets }
}

impl Page {
    /// The page of this unit with this code.
    pub(super) fn find(code: u8, subpage: u8, unit: &UnitView) -> Option<&'static Page> {
        Page::of_unit(unit).find(|page| (page.code, page.subpage) == (code, subpage))
    }

    /// All pages that this unit has.
    pub(super) fn of_unit(unit: &UnitView) -> impl Iterator<Item = &'static Page> {
        PAGES.iter().filter(|page| (page.is_had_by)(unit))
    }

    /// The page as these modes have it.
    pub(super) fn of(&self, modes: &Modes) -> Bytes {
        let mut page = self.header();
        (self.values)(modes, &mut page);
        page
    }

    /// The bits that can be changed, behind the page's header.
    pub(super) fn changeable(&self, unit: &UnitView) -> Bytes {
        let mut page = self.header();
        (self.mask)(unit, &mut page);
        page
    }

    fn header(&self) -> Bytes {
        let mut page = [0; PAGE_BYTES_MAX];
        let body_bytes = u8::try_from(self.bytes - self.header_bytes()).unwrap_or(0);
        if self.subpage == 0 {
            page[..2].copy_from_slice(&[self.code, body_bytes]);
        } else {
            page[..4].copy_from_slice(&[SPF | self.code, self.subpage, 0, body_bytes]);
        }
        page
    }

    /// Codes, and the length of what follows.
    pub(super) fn header_bytes(&self) -> usize {
        if self.subpage == 0 { 2 } else { 4 }
    }

    /// Takes over a page that an initiator has sent, with the right header, into `modes`.
    ///
    /// # Errors
    /// It changes what cannot be changed, or to what means nothing; `at_bytes` is where it stands in the parameter list.
    pub(super) fn select(
        &self,
        sent: &[u8],
        at_bytes: usize,
        unit: &UnitView,
        modes: &mut Modes,
    ) -> Result<(), Sense> {
        let (present, mask) = (self.of(&unit.modes), self.changeable(unit));
        let mut page = present;
        for at in self.header_bytes()..self.bytes {
            let byte = sent.get(at).copied().unwrap_or(0);
            let wrong = (byte ^ present[at]) & !mask[at];
            if wrong != 0 {
                return Err(self.at_fault(at, wrong, at_bytes));
            }
            page[at] = byte;
        }
        // SPC-5: of the methods of reporting, 1h is obsolete and those from 7h on are reserved or vendor-specific.
        if (self.code, self.subpage) == (EXCEPTIONS, 0) && !matches!(page[3], 0 | 2..=6) {
            return Err(self.at_fault(3, 0x0f, at_bytes));
        }
        (self.store)(&page, modes);
        Ok(())
    }

    /// INVALID FIELD IN PARAMETER LIST for the field that the first of the `wrong` bits of byte `at` is in.
    fn at_fault(&self, at: usize, wrong: u8, at_bytes: usize) -> Sense {
        let mut at = at;
        let mut begins = self.fields[at] & (0x80_u8 >> wrong.leading_zeros()).wrapping_neg();
        while begins == 0 && at > 0 {
            at -= 1;
            begins = self.fields[at];
        }
        let byte = u16::try_from(at_bytes + at).unwrap_or(u16::MAX);
        if self.fields[at] == 0x80 {
            return Sense::invalid_parameter(byte);
        }
        Sense::invalid_parameter_bit(byte, u8::try_from(begins.trailing_zeros()).unwrap_or(0))
    }
}
