//! Every command of a drive.

use crate::scsi::cdb::Cdb;
use crate::scsi::mmc::{events, features, mode, structure, toc};
use crate::scsi::report::{capacity, functions, inquiry, luns, opcodes, request_sense};
use crate::scsi::reserve::Class;
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::table::{
    Direction, PREVENT_ALLOW_MEDIUM_REMOVAL, REPORT_LUNS, Row, Run, START_STOP_UNIT, Table, action, row,
};
use crate::scsi::{Access, Extent, Plan, Served, Status, medium, power, work};

/// ILLEGAL MODE FOR THIS TRACK.
const ILLEGAL_MODE: Sense = Sense::new(SenseKey::IllegalRequest, 0x64, 0x00);

/// The commands, as REPORT SUPPORTED OPERATION CODES tells them.
pub(in crate::scsi) static TABLE: Table = Table::new(&ROWS);

/// Bits of byte 1 that were the LUN: obsolete.
const LUN: (usize, u8) = (1, 0xe0);
/// RARC or FUA_NV, and RelAdr.
const READ_BITS: &[(usize, u8)] = &[(1, 0xe7)];

#[rustfmt::skip]
static ROWS: [Row; 25] = {
    use Class as C;
    use Direction::{In, None as Nothing, Out};
    use Run::{Always, Unit};
    [
        row("TEST UNIT READY", C::Status, Nothing, &[0x00, 0, 0, 0, 0, 0], &[LUN], Unit(medium::test_unit_ready)),
        row("REQUEST SENSE", C::Always, In, &[0x03, 0x01, 0, 0, 0xff, 0], &[LUN], Always(request_sense::plan)),
        row("INQUIRY", C::Always, In, &[0x12, 0x01, 0xff, 0xff, 0xff, 0], &[LUN, (1, 0x02)], Always(inquiry::plan)),
        row("MODE SENSE(6)", C::Read, In, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0], &[LUN], Unit(mode::plan_6)),
        row("START STOP UNIT", C::StartStop, Nothing, &[START_STOP_UNIT, 0x01, 0, 0, 0xf7, 0], &[LUN], Unit(power::start_stop_unit)),
        row("PREVENT ALLOW MEDIUM REMOVAL", C::Prevent, Nothing, &[PREVENT_ALLOW_MEDIUM_REMOVAL, 0, 0, 0, 0x01, 0],
            &[LUN, (4, 0x02)], Unit(power::prevent_allow_medium_removal)),
        row("READ CAPACITY(10)", C::Status, In, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[(1, 0xe1), (2, 0xff), (3, 0xff), (4, 0xff), (5, 0xff), (8, 0x01)], Unit(capacity::plan_10)),
        row("READ(10)", C::Read, In, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0], READ_BITS, Unit(medium::read_10)),
        row("SEEK(10)", C::Read, Nothing, &[0x2b, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], &[LUN], Unit(seek)),
        row("VERIFY(10)", C::Read, Out, &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0], &[(1, 0x09)], Unit(work::verify_10)),
        row("READ TOC/PMA/ATIP", C::Read, In, &[0x43, 0x02, 0x0f, 0, 0, 0, 0xff, 0xff, 0xff, 0], &[LUN], Unit(toc::plan)),
        row("GET CONFIGURATION", C::Always, In, &[0x46, 0x03, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], &[LUN], Always(features::plan)),
        row("GET EVENT STATUS NOTIFICATION", C::Always, In, &[0x4a, 0x01, 0, 0, 0xff, 0, 0, 0xff, 0xff, 0], &[LUN], Always(events::plan)),
        row("READ DISC INFORMATION", C::Read, In, &[0x51, 0x07, 0, 0, 0, 0, 0, 0xff, 0xff, 0], &[LUN], Unit(toc::plan_disc)),
        row("READ TRACK INFORMATION", C::Read, In, &[0x52, 0x03, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0], &[LUN], Unit(toc::plan_track)),
        row("MODE SENSE(10)", C::Read, In, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0], &[LUN], Unit(mode::plan_10)),
        row("READ(16)", C::Read, In, &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0],
            &[(1, 0x06)], Unit(medium::read_16)),
        action("READ CAPACITY(16)", C::Status, In, &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            &[(2, 0xff), (3, 0xff), (4, 0xff), (5, 0xff), (6, 0xff), (7, 0xff), (8, 0xff), (9, 0xff), (14, 0x01)],
            Unit(capacity::plan_16)),
        row("REPORT LUNS", C::Always, In, &[REPORT_LUNS, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Always(luns::plan)),
        action("REPORT SUPPORTED OPERATION CODES", C::Read, In,
            &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(opcodes::plan)),
        action("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", C::Read, In,
            &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0], &[], Unit(functions::plan)),
        row("READ(12)", C::Read, In, &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbf, 0], READ_BITS, Unit(medium::read_12)),
        row("READ DISC STRUCTURE", C::Read, In, &[0xad, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0], &[LUN], Unit(structure::plan)),
        row("MECHANISM STATUS", C::Status, In, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], &[LUN], Unit(events::plan_mechanism)),
        row("READ CD", C::Read, In, &[0xbe, 0x1e, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0x07, 0], &[(1, 0xe1)], Unit(read_cd)),
    ]
};

/// SEEK(10): nothing moves; the address is checked.
fn seek(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let extent = Extent { blocks: 1, ..medium::extent_10(cdb) };
    medium::check(extent, Access::Read, unit).map(|()| Plan::End(Status::Good))
}

/// READ CD (MMC-6 §6.15): the user data of the blocks, or nothing of them. What else a sector of a CD has, an image has not.
fn read_cd(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    const ANY: u8 = 0b000;
    const MODE_1: u8 = 0b010;
    const USER_DATA: u8 = 0x10;
    if ![ANY, MODE_1].contains(&(cdb.byte(1) >> 2 & 0b111)) {
        return Err(ILLEGAL_MODE);
    }
    if cdb.byte(10) != 0 {
        return Err(Sense::invalid_bit(10, 2));
    }
    let extent = Extent { lba: u64::from(cdb.be32(2)), blocks: cdb.be32(5) & 0x00ff_ffff, fua: false };
    medium::check_transfer(extent, 6, Access::Read, unit)?;
    match cdb.byte(9) {
        0 => Ok(Plan::End(Status::Good)),
        USER_DATA => Ok(Plan::Read(extent)),
        _ => Err(Sense::invalid_byte(9)),
    }
}
