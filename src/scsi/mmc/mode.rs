//! MODE SENSE(6) and (10) of a drive (MMC-6 §7): nothing of the pages can be changed.

use crate::scsi::cdb::Cdb;
use crate::scsi::mmc::{Request as Mmc, answer};
use crate::scsi::report::writer::Writer;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scsi) struct Request {
    is_long_header: bool,
    /// Masks of what can be changed: zeroes.
    is_changeable: bool,
    page: u8,
}

const ALL_PAGES: u8 = 0x3f;
const ALL_SUBPAGES: u8 = 0xff;
/// The page that says what the drive can do.
const CAPABILITIES: u8 = 0x2a;

/// Each page with its header, ascending.
static PAGES: [&[u8]; 3] = [
    // Read error recovery: as the drive thinks best.
    &[0x01, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // Timeout and protect: no timeouts.
    &[0x1d, 8, 0, 0, 0, 0, 0, 0, 0, 0],
    // Capabilities, as MMC-3 had them, which initiators still read: CD-R, CD-RW and DVD-ROM are read, nothing is written, no audio; a
    // tray that ejects and can be locked, and is not when the power comes on; 8800 kB/s (50 times a CD), at most and now.
    &[CAPABILITIES, 20, 0x0b, 0, 0, 0, 0x2d, 0, 0x22, 0x60, 0, 0, 0, 0, 0x22, 0x60, 0, 0, 0, 0, 0, 0],
];

/// LOCK STATE, in byte 6 of the capabilities.
const LOCK_STATE: u8 = 0x02;

pub(in crate::scsi) fn plan_6(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(answer(request(cdb, false)?, cdb.byte(4)))
}

pub(in crate::scsi) fn plan_10(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(answer(request(cdb, true)?, cdb.be16(7)))
}

fn request(cdb: &Cdb, is_long_header: bool) -> Result<Mmc, Sense> {
    let (control, page, subpage) = (cdb.byte(2) >> 6, cdb.byte(2) & 0x3f, cdb.byte(3));
    if control == 0b11 {
        return Err(Sense::SAVING_NOT_SUPPORTED);
    }
    if page != ALL_PAGES && !PAGES.iter().any(|bytes| bytes.first() == Some(&page)) {
        return Err(Sense::invalid_bit(2, 5));
    }
    if subpage != 0 && subpage != ALL_SUBPAGES {
        return Err(Sense::invalid_byte(3));
    }
    Ok(Mmc::Mode(Request { is_long_header, is_changeable: control == 0b01, page }))
}

pub(super) fn fill(request: Request, unit: &UnitView, writer: &mut Writer<'_>) {
    // MMC-6 §7.2.2: no medium type, no device-specific parameter, no block descriptor.
    writer.zeros(if request.is_long_header { 8 } else { 4 });
    for page in PAGES {
        let &[code, length, ref values @ ..] = page else { continue };
        if ![code, ALL_PAGES].contains(&request.page) {
            continue;
        }
        writer.put(&[code, length]);
        for (at, value) in (2..).zip(values) {
            let is_lock = code == CAPABILITIES && at == 6 && unit.tray.is_locked;
            let value = value | if is_lock { LOCK_STATE } else { 0 };
            writer.put(&[if request.is_changeable { 0 } else { value }]);
        }
    }
    if request.is_long_header {
        writer.length_16(0, 2);
    } else {
        writer.length_8(0, 1);
    }
}
