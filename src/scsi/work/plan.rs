//! From CDBs to [`Work`].

use super::{
    Kind, WRITE_SAME_BLOCKS_MAX, Work, can_anchor, can_unmap, compare_and_write_blocks_max,
    write_atomic_blocks_max,
};
use crate::scsi::cdb::Cdb;
use crate::scsi::medium::{self, extent_10, extent_12, extent_16, extent_32};
use crate::scsi::sense::Sense;
use crate::scsi::{Access, Extent, Plan, Served, Status};

/// What VERIFY and WRITE AND VERIFY compare (SBC-4, BYTCHK).
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByteCheck {
    Nothing,
    Data,
    OneBlock,
}

/// Where in a CDB the fields are that are not the extent's: byte 1, or byte 10 of 32.
#[derive(Clone, Copy)]
struct Fields {
    /// Of the flags, BYTCHK among them.
    flags: u8,
    /// Of the length.
    length: u8,
}

const OF_10: Fields = Fields { flags: 1, length: 7 };
const OF_12: Fields = Fields { flags: 1, length: 6 };
const OF_16: Fields = Fields { flags: 1, length: 10 };
const OF_32: Fields = Fields { flags: 10, length: 28 };

impl Fields {
    fn flags(self, cdb: &Cdb) -> u8 {
        cdb.byte(usize::from(self.flags))
    }

    fn byte_check(self, cdb: &Cdb) -> Result<ByteCheck, Sense> {
        match self.flags(cdb) >> 1 & 0b11 {
            0b00 => Ok(ByteCheck::Nothing),
            0b01 => Ok(ByteCheck::Data),
            0b11 => Ok(ByteCheck::OneBlock),
            _ => Err(Sense::invalid_bit(self.flags, 2)),
        }
    }
}

pub(in crate::scsi) fn verify_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    verify(cdb, extent_10(cdb), OF_10, unit)
}

pub(in crate::scsi) fn verify_12(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    verify(cdb, extent_12(cdb), OF_12, unit)
}

pub(in crate::scsi) fn verify_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    verify(cdb, extent_16(cdb), OF_16, unit)
}

pub(in crate::scsi) fn verify_32(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    verify(cdb, extent_32(cdb), OF_32, unit)
}

fn verify(cdb: &Cdb, extent: Extent, fields: Fields, unit: Served<'_>) -> Result<Plan, Sense> {
    let kind = match fields.byte_check(cdb)? {
        ByteCheck::Nothing => Kind::Verify,
        ByteCheck::Data => Kind::Compare,
        ByteCheck::OneBlock => Kind::CompareEach,
    };
    let extent = Extent { fua: false, ..extent };
    if kind == Kind::Compare {
        medium::check_transfer(extent, fields.length, Access::Read, unit)?;
    } else {
        medium::check(extent, Access::Read, unit)?;
    }
    Ok(Plan::Work(Work::new(kind, extent)))
}

pub(in crate::scsi) fn write_and_verify_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_and_verify(cdb, extent_10(cdb), OF_10, unit)
}

pub(in crate::scsi) fn write_and_verify_12(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_and_verify(cdb, extent_12(cdb), OF_12, unit)
}

pub(in crate::scsi) fn write_and_verify_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_and_verify(cdb, extent_16(cdb), OF_16, unit)
}

pub(in crate::scsi) fn write_and_verify_32(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_and_verify(cdb, extent_32(cdb), OF_32, unit)
}

/// The medium is what is verified, so the blocks go to it first: each write is forced.
fn write_and_verify(cdb: &Cdb, extent: Extent, fields: Fields, unit: Served<'_>) -> Result<Plan, Sense> {
    let compares = match fields.byte_check(cdb)? {
        ByteCheck::Nothing => false,
        ByteCheck::Data => true,
        ByteCheck::OneBlock => return Err(Sense::invalid_bit(fields.flags, 2)),
    };
    medium::check_transfer(extent, fields.length, Access::Write, unit)?;
    Ok(Plan::Work(Work::new(Kind::WriteVerify { compares }, Extent { fua: true, ..extent })))
}

pub(in crate::scsi) fn orwrite_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let extent = extent_16(cdb);
    medium::check_transfer(extent, 10, Access::Write, unit)?;
    Ok(Plan::Work(Work::new(Kind::OrWrite, extent)))
}

pub(in crate::scsi) fn compare_and_write(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let extent = Extent { blocks: u32::from(cdb.byte(13)), ..extent_16(cdb) };
    if cdb.byte(13) > compare_and_write_blocks_max(unit.view.block_bytes) {
        return Err(Sense::invalid_byte(13));
    }
    medium::check(extent, Access::Write, unit)?;
    Ok(Plan::Work(Work::new(Kind::CompareAndWrite, extent)))
}

/// All data are there before the first block is written, and nobody sees some of them (SBC-4 §4.29).
pub(in crate::scsi) fn write_atomic_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let extent = Extent { blocks: u32::from(cdb.be16(12)), ..extent_16(cdb) };
    if cdb.be16(10) != 0 {
        // MAXIMUM ATOMIC TRANSFER LENGTH WITH ATOMIC BOUNDARY of VPD B0h is 0: a command is one atomic write.
        return Err(Sense::invalid_byte(10));
    }
    medium::check(extent, Access::Write, unit)?;
    if extent.blocks > write_atomic_blocks_max(unit.view) {
        return Err(Sense::invalid_byte(12));
    }
    Ok(Plan::Work(Work::new(Kind::WriteAtomic, extent)))
}

pub(in crate::scsi) fn write_same_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_same(cdb, extent_10(cdb), OF_10, true, unit)
}

pub(in crate::scsi) fn write_same_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_same(cdb, extent_16(cdb), OF_16, cdb.byte(1) & 0x01 == 0, unit)
}

pub(in crate::scsi) fn write_same_32(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    write_same(cdb, extent_32(cdb), OF_32, cdb.byte(10) & 0x01 == 0, unit)
}

fn write_same(
    cdb: &Cdb,
    extent: Extent,
    fields: Fields,
    has_data: bool,
    unit: Served<'_>,
) -> Result<Plan, Sense> {
    let (unmap, anchor) = (fields.flags(cdb) & 0x08 != 0, fields.flags(cdb) & 0x10 != 0);
    if unmap && !can_unmap(unit.view) {
        return Err(Sense::invalid_bit(fields.flags, 3));
    }
    // SBC-4 §5.50: ANCHOR goes with UNMAP alone, and where ANC_SUP=1.
    if anchor && !(unmap && can_anchor(unit.view)) {
        return Err(Sense::invalid_bit(fields.flags, 4));
    }
    let unmap = unmap && !anchor;
    // WSNZ of VPD B0h: no length does not stand for the rest of the medium.
    if extent.blocks == 0 || extent.blocks > WRITE_SAME_BLOCKS_MAX {
        return Err(Sense::invalid_byte(fields.length));
    }
    let extent = Extent { fua: false, ..extent };
    medium::check(extent, Access::Write, unit)?;
    Ok(Plan::Work(Work::new(Kind::WriteSame { unmap, has_data }, extent)))
}

/// The medium can be read: the first block of it.
pub(in crate::scsi) fn self_test(unit: Served<'_>) -> Result<Plan, Sense> {
    let extent = Extent { lba: 0, blocks: 1, fua: false };
    medium::check(extent, Access::Read, unit)?;
    Ok(Plan::Work(Work::new(Kind::Verify, extent)))
}

/// SEND DIAGNOSTIC with so many bytes of parameter list.
pub(in crate::scsi) fn diagnostic(bytes: u16) -> Plan {
    Plan::Work(Work::new(Kind::Diagnostic { bytes }, super::NOTHING))
}

pub(in crate::scsi) fn pre_fetch_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    pre_fetch(extent_10(cdb), unit)
}

pub(in crate::scsi) fn pre_fetch_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    pre_fetch(extent_16(cdb), unit)
}

/// SBC-4 §5.16: GOOD says that not all of the blocks are in a cache now; there is no cache of ours to put them into.
fn pre_fetch(extent: Extent, unit: Served<'_>) -> Result<Plan, Sense> {
    medium::check(extent, Access::Read, unit).map(|()| Plan::End(Status::Good))
}
