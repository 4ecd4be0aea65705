//! READ CAPACITY(10) and (16) (SBC-4).

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served, medium, protect};

/// Length of READ CAPACITY(10) data: the CDB has no ALLOCATION LENGTH.
const SHORT_BYTES: u32 = 8;

pub(in crate::scsi) fn plan_10(_: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    medium::ready(unit)?;
    Ok(answer(Kind::Capacity10, SHORT_BYTES))
}

pub(in crate::scsi) fn plan_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    medium::ready(unit)?;
    Ok(answer(Kind::Capacity16, cdb.be32(10)))
}

/// The last LBA, or FFFF_FFFFh where READ CAPACITY(16) must be asked.
pub(super) fn fill_10(unit: &UnitView, writer: &mut Writer<'_>) {
    let last = u32::try_from(last_lba(unit)).unwrap_or(u32::MAX);
    writer.put(&last.to_be_bytes());
    writer.put(&unit.block_bytes.to_be_bytes());
}

pub(super) fn fill_16(unit: &UnitView, writer: &mut Writer<'_>) {
    writer.put(&last_lba(unit).to_be_bytes());
    writer.put(&unit.block_bytes.to_be_bytes());
    // LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT: four bits.
    writer.put(&[protect::capacity_byte(unit), physical_exponent(unit)]);
    // LBPME and LBPRZ; LBA 0 is aligned.
    let provisioning = match unit.unmap {
        None => 0,
        Some(unmap) => 0x80 | if unmap.reads_zeroes { 0x40 } else { 0 },
    };
    writer.put(&[provisioning, 0]);
    writer.zeros_to(32);
}

fn last_lba(unit: &UnitView) -> u64 {
    unit.blocks.saturating_sub(1)
}

fn physical_exponent(unit: &UnitView) -> u8 {
    let ratio = unit.physical_block_bytes.checked_div(unit.block_bytes).unwrap_or(1);
    u8::try_from(ratio.max(1).ilog2()).unwrap_or(0).min(15)
}
