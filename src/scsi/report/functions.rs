//! REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5 §6.38): what `iscsi` and `reactor` carry out.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served};

/// ATS, ATSS, CTSS and LURS: ABORT TASK, ABORT TASK SET, CLEAR TASK SET and LOGICAL UNIT RESET. No CLEAR ACA, no QUERY TASK;
/// the target resets that iSCSI has are obsolete to SPC-5.
const SUPPORTED: u8 = 0xd8;
/// Neither QUERY ASYNCHRONOUS EVENT, nor QUERY TASK SET, nor I_T NEXUS RESET, for which iSCSI has no code (RFC 7143 §11.5.1).
const SUPPORTED_MORE: u8 = 0x00;

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let is_extended = cdb.byte(2) & 0x80 != 0; // REPD
    Ok(answer(Kind::Functions { is_extended }, cdb.be32(6)))
}

pub(super) fn fill(is_extended: bool, writer: &mut Writer<'_>) {
    writer.put(&[SUPPORTED, SUPPORTED_MORE, 0, 0]);
    if is_extended {
        // TMFTMOV 0: no function has a time-out of its own, so no time means anything.
        writer.zeros(12);
        writer.length_8(3, 4);
    }
}
