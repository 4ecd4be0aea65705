//! READ DISC STRUCTURE (MMC-6 §6.22): what the lead-in of a DVD says. A CD has none.

use crate::scsi::cdb::Cdb;
use crate::scsi::mmc::toc::INCOMPATIBLE_FORMAT;
use crate::scsi::mmc::{Disc, Request, answer_of_disc};
use crate::scsi::report::writer::Writer;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served, medium};

const PHYSICAL: u8 = 0x00;
const COPYRIGHT: u8 = 0x01;
const MANUFACTURING: u8 = 0x04;
/// Which of these there are.
const LIST: u8 = 0xff;

/// Where the data area of a DVD begins.
const FIRST_SECTOR: u32 = 0x0003_0000;
/// Of formats that are sectors.
const SECTOR_BYTES: usize = 2048;

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    medium::ready(unit)?;
    if Disc::of(unit.view) != Disc::Dvd {
        return Err(INCOMPATIBLE_FORMAT);
    }
    // MEDIA TYPE: DVD.
    if cdb.byte(1) & 0x0f != 0 {
        return Err(Sense::invalid_bit(1, 3));
    }
    // One layer.
    if cdb.byte(6) != 0 {
        return Err(Sense::invalid_byte(6));
    }
    let format = cdb.byte(7);
    if ![PHYSICAL, COPYRIGHT, MANUFACTURING, LIST].contains(&format) {
        return Err(Sense::invalid_byte(7));
    }
    answer_of_disc(unit, Request::Structure { format }, cdb.be16(8))
}

pub(super) fn fill(format: u8, unit: &UnitView, writer: &mut Writer<'_>) {
    writer.zeros(4);
    match format {
        PHYSICAL => {
            // DVD-ROM, part version 1; 120 mm, no least rate; one layer, embossed; usual densities.
            writer.put(&[0x01, 0x0f, 0x01, 0x00]);
            let last = u32::try_from(unit.blocks.saturating_sub(1)).unwrap_or(u32::MAX);
            writer.put(&FIRST_SECTOR.to_be_bytes());
            writer.put(&FIRST_SECTOR.saturating_add(last).to_be_bytes());
            writer.zeros_to(4 + SECTOR_BYTES);
        }
        // No copy protection, playable everywhere.
        COPYRIGHT => writer.zeros(4),
        MANUFACTURING => writer.zeros(SECTOR_BYTES),
        _ => {
            // Each can be read (RDS); with its length, header included.
            for (format, length) in [(PHYSICAL, 2052_u16), (COPYRIGHT, 8), (MANUFACTURING, 2052)] {
                let [high, low] = length.to_be_bytes();
                writer.put(&[format, 0x40, high, low]);
            }
        }
    }
    writer.length_16(0, 2);
}
