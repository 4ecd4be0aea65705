//! Protection information on the wire (SBC-4 §4.22): RDPROTECT, WRPROTECT and VRPROTECT of logical units that were formatted with it.
//!
//! A command whose field is 0 moves blocks alone: the device checks what it has, or makes what it is to keep. With another value each
//! block is followed by its eight bytes.

use crate::bdev::protection::{Checks, Protection, TUPLE_BYTES};
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::table::Row;
use crate::scsi::view::UnitView;
use crate::scsi::{Access, Extent, Plan, Served};

/// A READ or WRITE of blocks with their protection information.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Protected {
    /// The blocks.
    pub extent: Extent,
    /// To read or to write them.
    pub access: Access,
    /// What is checked on the way.
    pub checks: Checks,
}

/// The field, in byte 1.
pub(super) const FIELD: u8 = 0xe0;

/// Blocks that one command may move with their protection information: they are one piece. MAXIMUM TRANSFER LENGTH of VPD B0h
/// says so for all commands of such a unit.
pub(super) fn blocks_max(unit: &UnitView) -> u32 {
    PIECE_BYTES_MAX / (unit.block_bytes + TUPLE_BYTES)
}

/// Whether the command has the field where a unit is formatted with protection information.
pub(super) fn is_carried_by(row: &Row, unit: &UnitView) -> bool {
    // READ(10), (12), (16), WRITE, WRITE AND VERIFY and VERIFY of the same.
    unit.protection.is_some()
        && matches!(
            row.opcode,
            0x28 | 0x2a | 0x2e | 0x2f | 0x88 | 0x8a | 0x8e | 0x8f | 0xa8 | 0xaa | 0xae | 0xaf
        )
}

/// The CDB without the field, and the field.
pub(super) fn split(cdb: &Cdb) -> (Cdb, u8) {
    let mut cdb = *cdb;
    let field = cdb.bytes[1] >> 5;
    cdb.bytes[1] &= !FIELD;
    (cdb, field)
}

/// What a command does, its field being this.
pub(super) fn apply(plan: Plan, field: u8, unit: Served<'_>) -> Result<Plan, Sense> {
    if field == 0 {
        return Ok(plan);
    }
    let checks = checks(field, unit.view.protection).ok_or(Sense::invalid_bit(1, 7))?;
    let (extent, access) = match plan {
        Plan::Read(extent) => (extent, Access::Read),
        Plan::Write(extent) => (extent, Access::Write),
        // VERIFY without data: what the device has is checked as it is read.
        Plan::Work(work) if work.data_bytes(1) == 0 => return Ok(plan),
        // The comparison is of blocks alone.
        Plan::Work(_) => return Err(Sense::invalid_bit(1, 7)),
        other => return Ok(other),
    };
    if extent.blocks > blocks_max(unit.view) {
        return Err(Sense::INVALID_FIELD);
    }
    Ok(Plan::Protected(Protected { extent, access, checks }))
}

/// SBC-4 tables 109 and 141: what each value has checked. None of those that are reserved.
fn checks(field: u8, protection: Option<Protection>) -> Option<Checks> {
    protection?;
    match field {
        0b001 | 0b101 => Some(Checks::ALL),
        0b010 => Some(Checks { guard: false, reference: true }),
        0b011 => Some(Checks { guard: false, reference: false }),
        0b100 => Some(Checks { guard: true, reference: false }),
        _ => None,
    }
}

/// P_TYPE and PROT_EN of READ CAPACITY(16).
pub(super) fn capacity_byte(unit: &UnitView) -> u8 {
    match unit.protection {
        None => 0x00,
        Some(Protection::Type1) => 0x01,
        Some(Protection::Type3) => 0x05,
    }
}

/// SPT, GRD_CHK, APP_CHK and REF_CHK of the extended INQUIRY data.
pub(super) fn extended_inquiry_byte(unit: &UnitView) -> u8 {
    match unit.protection {
        None => 0x00,
        // Type 1; type 3, in which nobody checks reference tags.
        Some(Protection::Type1) => 0x05,
        Some(Protection::Type3) => 0x24,
    }
}
