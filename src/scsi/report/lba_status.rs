//! GET LBA STATUS (SBC-4 §5.11). Devices are not asked what they have allocated: every block is told to be mapped or in an
//! unknown state, which is what PROVISIONING STATUS 0h says.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Access, Extent, Plan, Served, medium};

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let lba = cdb.be64(2);
    medium::check(Extent { lba, blocks: 1, fua: false }, Access::Read, unit)?;
    Ok(answer(Kind::LbaStatus { lba }, cdb.be32(10)))
}

/// One descriptor, from the block asked for to the end of the medium or as far as its length goes.
pub(super) fn fill(lba: u64, unit: &UnitView, writer: &mut Writer<'_>) {
    let blocks = u32::try_from(unit.blocks.saturating_sub(lba)).unwrap_or(u32::MAX);
    // PARAMETER DATA LENGTH, below; COMPLETION CONDITION 000b and RTP 0 tell nothing.
    writer.zeros(8);
    writer.put(&lba.to_be_bytes());
    writer.put(&blocks.to_be_bytes());
    writer.zeros(4);
    writer.length_32(0, 4);
}
