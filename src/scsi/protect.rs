//! Protection information on the wire (SBC-4 §4.22): RDPROTECT, WRPROTECT and VRPROTECT of logical units that were formatted with it.
//!
//! A command whose field is 0 moves blocks alone: the device checks what it has, or makes what it is to keep. With another value each
//! block is followed by its eight bytes.

use crate::bdev::protection::{Checks, Protection, TUPLE_BYTES, shift};
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::cdb::{Cdb, VARIABLE_LENGTH};
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

/// The field, in byte 1 or, of 32 bytes, in byte 10.
const FIELD: u8 = 0xe0;
/// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG, in 32 bytes.
const REFERENCE_TAG: std::ops::Range<usize> = 20..24;

/// Blocks that one command may move with their protection information: they are one piece. MAXIMUM TRANSFER LENGTH of VPD B0h
/// says so for all commands of such a unit.
pub(super) fn blocks_max(unit: &UnitView) -> u32 {
    PIECE_BYTES_MAX / (unit.block_bytes + TUPLE_BYTES)
}

/// In which byte the command has the field, where it has it at this unit: of type 2 in those of 32 bytes, which say what is expected, of the
/// others in READ(10), (12), (16), WRITE, WRITE AND VERIFY and VERIFY of the same, WRITE SAME(10) and (16).
pub(super) fn field(row: &Row, unit: &UnitView) -> Option<u8> {
    match (unit.protection?, row.opcode, row.action) {
        (Protection::Type2, VARIABLE_LENGTH, Some(0x09..=0x0d)) => Some(10),
        (
            Protection::Type1 | Protection::Type3,
            0x28 | 0x2a | 0x2e | 0x2f | 0x41 | 0x88 | 0x8a | 0x8e | 0x8f | 0x93 | 0xa8 | 0xaa | 0xae | 0xaf,
            _,
        ) => Some(1),
        _ => None,
    }
}

/// Whether commands of 32 bytes are served at a unit (SBC-4 §5.13): with protection information of type 2, and where there is none at all.
pub(super) fn takes_long(unit: &UnitView) -> bool {
    matches!(unit.protection, None | Some(Protection::Type2))
}

/// SBC-4 §4.22.2.4: with type 2 these commands are there without protection information only, as they could not say what is expected.
pub(super) fn is_refused(cdb: &Cdb, unit: &UnitView) -> bool {
    let has_field = matches!(
        cdb.opcode(),
        // And WRITE SAME(10) and (16), COMPARE AND WRITE, ORWRITE(16), WRITE ATOMIC(16).
        0x28 | 0x2a | 0x2e | 0x2f | 0x41 | 0x88
            ..=0x8b | 0x8e | 0x8f | 0x93 | 0x9c | 0xa8 | 0xaa | 0xae | 0xaf
    );
    unit.protection == Some(Protection::Type2) && has_field && cdb.byte(1) & FIELD != 0
}

/// The CDB without the field, and the field.
pub(super) fn split(cdb: &Cdb, at: u8) -> (Cdb, u8) {
    let mut cdb = *cdb;
    let Some(byte) = cdb.bytes.get_mut(usize::from(at)) else { return (cdb, 0) };
    let field = *byte >> 5;
    *byte &= !FIELD;
    (cdb, field)
}

/// CDB USAGE DATA of a command that has the field: that is looked at and, of 32 bytes, the reference tag (the application tag is not, as
/// ATO is 0).
pub(super) fn use_field(usage: &mut [u8], at: u8) {
    if let Some(byte) = usage.get_mut(usize::from(at)) {
        *byte |= FIELD;
    }
    if let Some(tag) = usage.get_mut(REFERENCE_TAG) {
        tag.fill(0xff);
    }
}

/// What a command does, the field being in this byte, and this.
pub(super) fn apply(
    plan: Plan,
    cdb: &Cdb,
    (at, field): (Option<u8>, u8),
    unit: Served<'_>,
) -> Result<Plan, Sense> {
    let Some(at) = at.filter(|_| field != 0) else { return Ok(plan) };
    let refused = Sense::invalid_bit(at, 7);
    let checks = checks(field, unit.view.protection).ok_or(refused)?;
    let of = |lba| match unit.view.protection {
        Some(Protection::Type2) => Checks { shift: shift(lba, cdb.be32(REFERENCE_TAG.start)), ..checks },
        _ => checks,
    };
    let (extent, access) = match plan {
        Plan::Read(extent) => (extent, Access::Read),
        Plan::Write(extent) => (extent, Access::Write),
        Plan::Work(work) => {
            // What compares or merges blocks does so without.
            let work = work.checking(of(work.first())).ok_or(refused)?;
            // They are one piece, as below.
            let is_too_much = work.data_bytes(unit.view.block_bytes) > u64::from(PIECE_BYTES_MAX);
            return if is_too_much { Err(Sense::INVALID_FIELD) } else { Ok(Plan::Work(work)) };
        }
        other => return Ok(other),
    };
    if extent.blocks > blocks_max(unit.view) {
        return Err(Sense::INVALID_FIELD);
    }
    Ok(Plan::Protected(Protected { extent, access, checks: of(extent.lba) }))
}

/// SBC-4 tables 109 and 141: what each value has checked. None of those that are reserved.
fn checks(field: u8, protection: Option<Protection>) -> Option<Checks> {
    protection?;
    let of = |guard, reference| Some(Checks { guard, reference, shift: 0 });
    match field {
        0b001 | 0b101 => Some(Checks::ALL),
        0b010 => of(false, true),
        0b011 => of(false, false),
        0b100 => of(true, false),
        _ => None,
    }
}

/// P_TYPE and PROT_EN of READ CAPACITY(16).
pub(super) fn capacity_byte(unit: &UnitView) -> u8 {
    match unit.protection {
        None => 0x00,
        Some(Protection::Type1) => 0x01,
        Some(Protection::Type2) => 0x03,
        Some(Protection::Type3) => 0x05,
    }
}

/// SPT, GRD_CHK, APP_CHK and REF_CHK of the extended INQUIRY data.
pub(super) fn extended_inquiry_byte(unit: &UnitView) -> u8 {
    match unit.protection {
        None => 0x00,
        // Type 1; type 2; type 3, in which nobody checks reference tags.
        Some(Protection::Type1) => 0x05,
        Some(Protection::Type2) => 0x15,
        Some(Protection::Type3) => 0x24,
    }
}
