//! Commands that need the medium: TEST UNIT READY (SPC-5), READ, WRITE and SYNCHRONIZE CACHE (SBC-4).

use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, Medium};
use crate::scsi::{Access, Extent, Plan, Served, Status};

/// Data of one READ or WRITE, at most: MAXIMUM TRANSFER LENGTH of VPD B0h is this in blocks.
pub const TRANSFER_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// FUA in byte 1 of the 10, 12 and 16 byte CDBs, and in byte 10 of those of 32 bytes.
const FUA: u8 = 0x08;

/// The medium can be reached.
#[inline(never)]
pub(super) fn ready(unit: Served<'_>) -> Result<(), Sense> {
    match unit.view.medium {
        Medium::Ready => Ok(()),
        Medium::NotReady => Err(Sense::NOT_READY),
        Medium::Unsettled => Err(Sense::OPERATION_IN_PROGRESS),
        Medium::Busy => {
            Err(unit.view.chore.as_ref().map_or(Sense::OPERATION_IN_PROGRESS, |chore| chore.sense()))
        }
        Medium::Failed => Err(Sense::SANITIZE_FAILED),
        Medium::Ejected if unit.view.kind == DeviceKind::CdRom => Err(Sense::NO_MEDIUM_TRAY_OPEN),
        Medium::Empty if unit.view.kind == DeviceKind::CdRom => Err(Sense::NO_MEDIUM_TRAY_CLOSED),
        Medium::Ejected | Medium::Empty => Err(Sense::NO_MEDIUM),
        Medium::Removed => Err(Sense::NO_SUCH_UNIT),
    }
}

/// The extent is on the medium and the access is allowed.
#[inline(always)]
pub(super) fn check(extent: Extent, access: Access, unit: Served<'_>) -> Result<(), Sense> {
    let end = extent.lba.checked_add(u64::from(extent.blocks));
    let is_on_it = end.is_some_and(|end| end <= unit.view.blocks);
    let is_allowed = access == Access::Read || !unit.read_only;
    if unit.view.medium == Medium::Ready && is_on_it && is_allowed {
        return Ok(());
    }
    ready(unit)?;
    // SBC-4: INFORMATION is the first LBA that is not there.
    let beyond = Sense::LBA_OUT_OF_RANGE.at(extent.lba.max(unit.view.blocks));
    Err(if is_on_it { Sense::WRITE_PROTECTED } else { beyond })
}

pub(super) fn test_unit_ready(_: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    ready(unit).map(|()| Plan::End(Status::Good))
}

pub(super) fn read_6(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_6(cdb), 4, Access::Read, unit)
}

pub(super) fn read_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_10(cdb), 7, Access::Read, unit)
}

pub(super) fn read_12(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_12(cdb), 6, Access::Read, unit)
}

pub(super) fn read_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_16(cdb), 10, Access::Read, unit)
}

pub(super) fn read_32(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_32(cdb), 28, Access::Read, unit)
}

pub(super) fn write_6(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_6(cdb), 4, Access::Write, unit)
}

pub(super) fn write_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_10(cdb), 7, Access::Write, unit)
}

pub(super) fn write_12(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_12(cdb), 6, Access::Write, unit)
}

pub(super) fn write_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_16(cdb), 10, Access::Write, unit)
}

pub(super) fn write_32(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    transfer(extent_32(cdb), 28, Access::Write, unit)
}

pub(super) fn synchronize_cache_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    flush(extent_10(cdb), unit)
}

pub(super) fn synchronize_cache_16(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    flush(extent_16(cdb), unit)
}

fn transfer(extent: Extent, length_byte: u8, access: Access, unit: Served<'_>) -> Result<Plan, Sense> {
    check_transfer(extent, length_byte, access, unit)?;
    Ok(match access {
        Access::Read => Plan::Read(extent),
        Access::Write => Plan::Write(extent),
    })
}

/// The same as [`check`], and the extent's data are not more than one command may move. `length_byte` is where the CDB's
/// TRANSFER LENGTH begins.
pub(super) fn check_transfer(
    extent: Extent,
    length_byte: u8,
    access: Access,
    unit: Served<'_>,
) -> Result<(), Sense> {
    check(extent, access, unit)?;
    if u64::from(extent.blocks) * u64::from(unit.view.block_bytes) > u64::from(TRANSFER_BYTES_MAX) {
        // SBC-4: more than MAXIMUM TRANSFER LENGTH.
        return Err(Sense::invalid_byte(length_byte));
    }
    Ok(())
}

/// The whole cache is flushed, whatever the extent, and before status even with IMMED: an error is then reported by the
/// command that asked. No blocks means up to the end.
fn flush(extent: Extent, unit: Served<'_>) -> Result<Plan, Sense> {
    check(extent, Access::Read, unit).map(|()| Plan::Flush)
}

/// SBC-4: 21 bits of address; a TRANSFER LENGTH of 0 is 256 blocks.
fn extent_6(cdb: &Cdb) -> Extent {
    let lba = u64::from(cdb.be32(0) & 0x001f_ffff);
    let blocks = match cdb.byte(4) {
        0 => 256,
        blocks => u32::from(blocks),
    };
    Extent { lba, blocks, fua: false }
}

pub(super) fn extent_10(cdb: &Cdb) -> Extent {
    Extent { lba: u64::from(cdb.be32(2)), blocks: u32::from(cdb.be16(7)), fua: cdb.byte(1) & FUA != 0 }
}

pub(super) fn extent_12(cdb: &Cdb) -> Extent {
    Extent { lba: u64::from(cdb.be32(2)), blocks: cdb.be32(6), fua: cdb.byte(1) & FUA != 0 }
}

pub(super) fn extent_16(cdb: &Cdb) -> Extent {
    Extent { lba: cdb.be64(2), blocks: cdb.be32(10), fua: cdb.byte(1) & FUA != 0 }
}

pub(super) fn extent_32(cdb: &Cdb) -> Extent {
    Extent { lba: cdb.be64(12), blocks: cdb.be32(28), fua: cdb.byte(10) & FUA != 0 }
}
