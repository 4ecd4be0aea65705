//! SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS (SPC-5 §6.36, §6.22): a self-test that reads a block, and the list of the
//! diagnostic pages, which has itself alone.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served, Status, work};

/// SUPPORTED DIAGNOSTIC PAGES.
const SUPPORTED: u8 = 0x00;
/// SELF-TEST CODE 101b: short, before status.
const FOREGROUND_SHORT: u8 = 0b101;

/// Self-tests in the background, and extended ones, are refused: what they would look for the device's own host looks after.
/// DEVOFFL and UNITOFFL allow what is not done.
pub(in crate::scsi) fn plan_send(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let (code, options, bytes) = (cdb.byte(1) >> 5, cdb.byte(1), cdb.be16(3));
    let (is_page_format, is_self_test) = (options & 0x10 != 0, options & 0x04 != 0);
    match (code, is_self_test) {
        (0, false) if bytes == 0 => Ok(Plan::End(Status::Good)),
        (0, false) if !is_page_format => Err(Sense::invalid_bit(1, 4)),
        (0, false) => Ok(work::diagnostic(bytes)),
        // SPC-5: a self-test has no parameter list.
        (0, true) | (FOREGROUND_SHORT, false) if bytes != 0 => Err(Sense::invalid_byte(3)),
        (0, true) | (FOREGROUND_SHORT, false) => work::self_test(unit),
        _ => Err(Sense::invalid_bit(1, 7)),
    }
}

/// What SEND DIAGNOSTIC asks for, which is no other page either.
pub(in crate::scsi) fn check(list: &[u8]) -> Result<(), Sense> {
    match list {
        [] | [SUPPORTED, 0, 0, 0] => Ok(()),
        [SUPPORTED, 0, 0, ..] => Err(Sense::PARAMETER_LIST_LENGTH),
        [SUPPORTED, ..] => Err(Sense::invalid_parameter(1)),
        _ => Err(Sense::invalid_parameter(0)),
    }
}

pub(in crate::scsi) fn plan_receive(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let is_page_code_valid = cdb.byte(1) & 0x01 != 0;
    if is_page_code_valid && cdb.byte(2) != SUPPORTED {
        return Err(Sense::invalid_byte(2));
    }
    Ok(answer(Kind::Diagnostics, cdb.be16(3)))
}

pub(super) fn fill(writer: &mut Writer<'_>) {
    writer.put(&[SUPPORTED, 0, 0, 1, SUPPORTED]);
}
