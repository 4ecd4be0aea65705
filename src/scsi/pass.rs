//! Commands for a device that takes them as they are: who may have which carried out, and how much they move.
//!
//! The device decides what a command means. Ours are REPORT LUNS and all reservations: it sees one host, however many
//! initiators there are, so it could not tell them apart.

use crate::bdev::pass;
use crate::id::NexusId;
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::cdb::{Cdb, VARIABLE_LENGTH};
use crate::scsi::reserve::Class;
use crate::scsi::sense::Sense;
use crate::scsi::table::{REPORT_LUNS, Table};
use crate::scsi::view::{DeviceKind, Medium};
use crate::scsi::{Outcome, Place, Plan, Served, Status, medium};

/// Whether it is served here, and not by the device: REPORT LUNS, RESERVE, RELEASE, PERSISTENT RESERVE IN and OUT.
pub(super) fn is_ours(cdb: &Cdb) -> bool {
    matches!(cdb.opcode(), REPORT_LUNS | 0x16 | 0x17 | 0x56 | 0x57 | 0x5e | 0x5f)
}

/// Whether the unit is such a device.
pub(super) fn is_passed(unit: Served<'_>) -> bool {
    matches!(unit.view.kind, DeviceKind::Passed { .. })
}

/// Whether all of a CDB that says its length itself is there, and long enough to say what it asks for (SPC-5 §4.2.3.3): longer ones than
/// are kept here no device gets.
fn is_whole(cdb: &Cdb) -> bool {
    let additional = cdb.byte(7);
    cdb.opcode() != VARIABLE_LENGTH
        || additional.is_multiple_of(4) && (4..=pass::CDB_BYTES_MAX - 8).contains(&usize::from(additional))
}

/// The command goes to the device.
pub(super) fn plan(cdb: &Cdb, place: &Place<'_>, unit: Served<'_>) -> Result<Plan, Sense> {
    if !is_whole(cdb) {
        return Err(Sense::invalid_byte(7));
    }
    match check(cdb, place.nexus, place.target.port_group, unit) {
        Ok(()) => Ok(Plan::Pass { cut_bytes: cut_bytes(cdb, unit) }),
        Err(Outcome { sense: Some(sense), .. }) => Err(sense),
        Err(Outcome { status, sense: None }) => Ok(Plan::End(status)),
    }
}

/// The same, immediately before the device gets it.
///
/// # Errors
/// How the command ends.
pub fn recheck(cdb: &Cdb, place: &Place<'_>) -> Result<(), Outcome> {
    let unit = Served::at(place).ok_or(Outcome::check(Sense::NO_SUCH_UNIT))?;
    check(cdb, place.nexus, place.target.port_group, unit)
}

fn check(cdb: &Cdb, nexus: NexusId, port_group: u16, unit: Served<'_>) -> Result<(), Outcome> {
    let of_disk = of_disk(cdb);
    let class = if is_like_disk(cdb, unit) { of_disk } else { Class::Write };
    if class != Class::Always || unit.view.medium != Medium::Unsettled {
        medium::ready(unit).map_err(Outcome::check)?;
    }
    if class != Class::Always {
        unit.view.alua.check(port_group, cdb).map_err(Outcome::check)?;
    }
    if !unit.view.permits.allows(nexus, class) {
        return Err(Outcome::of(Status::ReservationConflict));
    }
    if unit.read_only && of_disk == Class::Write {
        return Err(Outcome::check(Sense::WRITE_PROTECTED));
    }
    Ok(())
}

/// What disks make of it, and of what these do not know that it changes something. It decides on write protection.
fn of_disk(cdb: &Cdb) -> Class {
    Table::of(DeviceKind::Disk).find(cdb).map_or(Class::Write, |row| row.class.of(cdb))
}

/// Whether reservations make of it what they do at disks. Elsewhere that holds for what is the same for all kinds of devices (SPC-5
/// §6) only: a tape is moved by what is READ(6) or START STOP UNIT there, under the hands of whoever has reserved it.
fn is_like_disk(cdb: &Cdb, unit: Served<'_>) -> bool {
    let is_common = matches!(
        cdb.opcode(),
        0x00 // TEST UNIT READY
            | 0x03 // REQUEST SENSE
            | 0x12 // INQUIRY
            | 0x1a // MODE SENSE(6)
            | 0x1c // RECEIVE DIAGNOSTIC RESULTS
            | 0x1e // PREVENT ALLOW MEDIUM REMOVAL
            | 0x3c // READ BUFFER(10)
            | 0x4d // LOG SENSE
            | 0x5a // MODE SENSE(10)
            | 0xa3 // MAINTENANCE IN
    );
    is_common || unit.view.kind == DeviceKind::Passed { is_blocks: true }
}

/// The bytes of a READ or WRITE that can be done in pieces.
fn cut_bytes(cdb: &Cdb, unit: Served<'_>) -> Option<u32> {
    match unit.view.kind {
        DeviceKind::Passed { is_blocks: true } => {
            pass::blocks(&cdb.bytes)?.checked_mul(unit.view.block_bytes)
        }
        _ => None,
    }
}

/// Whether so much can be moved, as the initiator expects it.
pub(super) fn check_expected(cut_bytes: Option<u32>, expected_bytes: u32) -> Result<(), Sense> {
    if expected_bytes <= PIECE_BYTES_MAX {
        return Ok(());
    }
    match cut_bytes {
        Some(bytes) if bytes != expected_bytes => Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT),
        Some(bytes) if bytes <= pass::CUT_BYTES_MAX => Ok(()),
        _ => Err(Sense::INVALID_FIELD),
    }
}

/// The CDB of the part of a command's data that begins at `offset`: the whole one, where it has only one part.
pub fn part(cdb: &Cdb, moves_bytes: u32, offset: u32, bytes: u32, block_bytes: u32) -> pass::Cdb {
    if bytes == moves_bytes {
        return cdb.bytes;
    }
    pass::piece(&cdb.bytes, offset / block_bytes, bytes / block_bytes)
}
