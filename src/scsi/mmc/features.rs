//! GET CONFIGURATION (MMC-6 §6.6): the drive's profiles and features.

use crate::scsi::cdb::Cdb;
use crate::scsi::mmc::{Disc, Request as Mmc, answer};
use crate::scsi::report::writer::Writer;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

/// Profile numbers.
const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;

/// Which features.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scsi) struct Request {
    which: Which,
    /// STARTING FEATURE NUMBER.
    from: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    All,
    Current,
    One,
}

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Option<Served<'_>>) -> Result<Plan, Sense> {
    unit.ok_or(Sense::NO_SUCH_UNIT)?;
    let which = match cdb.byte(1) & 0x03 {
        0 => Which::All,
        1 => Which::Current,
        2 => Which::One,
        _ => return Err(Sense::invalid_bit(1, 1)),
    };
    Ok(answer(Mmc::Configuration(Request { which, from: cdb.be16(2) }), cdb.be16(7)))
}

/// A feature: its number, its version, with which discs it is current, and what follows.
struct Feature {
    number: u16,
    version: u8,
    current: Current,
    data: &'static [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Current {
    Always,
    WithDisc,
    WithCd,
    WithDvd,
}

/// MMC-6 §5.3, ascending. The profile list is made where it is told.
static FEATURES: [Feature; 7] = [
    // Core: of the SCSI family; DBE: events of class 6 are told.
    Feature { number: 0x0001, version: 2, current: Current::Always, data: &[0, 0, 0, 1, 0x01, 0, 0, 0] },
    // Morphing: OCEVENT: events of class 1 are told.
    Feature { number: 0x0002, version: 1, current: Current::Always, data: &[0x02, 0, 0, 0] },
    // Removable medium: a tray that opens, closes and can be locked.
    Feature { number: 0x0003, version: 2, current: Current::Always, data: &[0x39, 0, 0, 0] },
    // Random readable: blocks of 2048 bytes, one by one; PP: mode page 01h is there.
    Feature { number: 0x0010, version: 0, current: Current::WithDisc, data: &[0, 0, 8, 0, 0, 1, 1, 0] },
    // CD read: neither C2 error flags nor CD-Text.
    Feature { number: 0x001e, version: 2, current: Current::WithCd, data: &[0, 0, 0, 0] },
    // DVD read.
    Feature { number: 0x001f, version: 1, current: Current::WithDvd, data: &[0, 0, 0, 0] },
    // Timeout: mode page 1Dh is there.
    Feature { number: 0x0105, version: 1, current: Current::Always, data: &[0, 0, 0, 0] },
];

impl Current {
    fn is_so(self, disc: Disc) -> bool {
        match self {
            Current::Always => true,
            Current::WithDisc => disc != Disc::None,
            Current::WithCd => disc == Disc::Cd,
            Current::WithDvd => disc == Disc::Dvd,
        }
    }
}

impl Request {
    fn wants(&self, number: u16, is_current: bool) -> bool {
        match self.which {
            Which::All => number >= self.from,
            Which::Current => number >= self.from && is_current,
            Which::One => number == self.from,
        }
    }
}

pub(super) fn fill(request: Request, unit: &UnitView, writer: &mut Writer<'_>) {
    let disc = Disc::of(unit);
    let profile = match disc {
        Disc::None => 0,
        Disc::Cd => CD_ROM,
        Disc::Dvd => DVD_ROM,
    };
    writer.put(&[0, 0, 0, 0, 0, 0]);
    writer.put(&profile.to_be_bytes());
    if request.wants(0, true) {
        // The profile list: PERSISTENT, CURRENT.
        writer.put(&[0, 0, 0x03, 8]);
        for number in [DVD_ROM, CD_ROM] {
            let [high, low] = number.to_be_bytes();
            writer.put(&[high, low, u8::from(number == profile), 0]);
        }
    }
    for feature in &FEATURES {
        let is_current = feature.current.is_so(disc);
        if request.wants(feature.number, is_current) {
            let persistent = if feature.current == Current::Always { 0x02 } else { 0 };
            let length = u8::try_from(feature.data.len()).unwrap_or(0);
            writer.put(&feature.number.to_be_bytes());
            writer.put(&[feature.version << 2 | persistent | u8::from(is_current), length]);
            writer.put(feature.data);
        }
    }
    writer.length_32(0, 4);
}
