//! REPORT TARGET PORT GROUPS (SPC-5 §6.37): every path is as good as any other, and stays so.
//!
//! Told are the groups of the SCSI device that is asked, which is the target (RFC 7143 §4.4.1): each of its ports is one. Ports
//! of other targets that lead to the same logical unit have groups of their own, which are told to those who ask there.

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
    for port in &target.ports {
        // A port is a group of its own, under the same number (`TargetView::port_group`).
        let [high, low] = port.to_be_bytes();
        writer.put(&[
            0x00, // Not preferred to another; active/optimized,
            0x01, // AO_SUP: which is all there is.
            high, low, 0, 0x00, // STATUS CODE: no state has changed.
            0, 1, // TARGET PORT COUNT.
            0, 0, high, low,
        ]);
    }
    writer.length_32(0, 4);
}
