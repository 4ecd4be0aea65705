//! REPORT TARGET PORT GROUPS (SPC-5 §6.37): every path is as good as any other, and stays so.
//!
//! The group told of is that of the port which is asked. Ports of other targets that lead to the same logical unit
//! have groups of their own, which are told to those who ask there.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::TargetView;
use crate::scsi::{Plan, Served};

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    // PARAMETER DATA FORMAT.
    let is_extended = match cdb.byte(1) >> 5 {
        0b000 => false,
        0b001 => true,
        _ => return Err(Sense::invalid_bit(1, 7)),
    };
    Ok(answer(Kind::PortGroups { is_extended }, cdb.be32(6)))
}

pub(super) fn fill(is_extended: bool, target: &TargetView, writer: &mut Writer<'_>) {
    writer.zeros(4);
    if is_extended {
        // FORMAT TYPE 001b. IMPLICIT TRANSITION TIME 0: not told, as there are no transitions.
        writer.put(&[0x10, 0, 0, 0]);
    }
    let [group_high, group_low] = target.port_group.to_be_bytes();
    let [port_high, port_low] = target.relative_port.to_be_bytes();
    writer.put(&[
        0x00, // Not preferred to another; active/optimized,
        0x01, // AO_SUP: which is all there is.
        group_high, group_low, 0, 0x00, // STATUS CODE: no state has changed.
        0, 1, // TARGET PORT COUNT.
        0, 0, port_high, port_low,
    ]);
    writer.length_32(0, 4);
}
