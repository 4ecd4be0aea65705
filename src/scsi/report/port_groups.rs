//! REPORT TARGET PORT GROUPS (SPC-5 §6.37).
//!
//! Told are the groups of the SCSI device that is asked, which is the target (RFC 7143 §4.4.1): each of its ports is one. Ports
//! of other targets that lead to the same logical unit have groups of their own, which are told to those who ask there.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::{TargetView, UnitView};
use crate::scsi::{Plan, Served};

/// T_SUP, U_SUP, S_SUP, AN_SUP and AO_SUP: the states that a group can be in.
const SUPPORTED: u8 = 0x80 | 0x08 | 0x04 | 0x02 | 0x01;

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    // PARAMETER DATA FORMAT.
    let is_extended = match cdb.byte(1) >> 5 {
        0b000 => false,
        0b001 => true,
        _ => return Err(Sense::invalid_bit(1, 7)),
    };
    Ok(answer(Kind::PortGroups { is_extended }, cdb.be32(6)))
}

pub(super) fn fill(is_extended: bool, target: &TargetView, unit: &UnitView, writer: &mut Writer<'_>) {
    writer.zeros(4);
    if is_extended {
        // FORMAT TYPE 001b. IMPLICIT TRANSITION TIME 0: not told, as it is the operator's.
        writer.put(&[0x10, 0, 0, 0]);
    }
    for port in &target.ports {
        // A port is a group of its own, under the same number (`TargetView::port_group`).
        let [high, low] = port.to_be_bytes();
        let group = unit.alua.group(*port);
        writer.put(&[
            u8::from(group.is_preferred) << 7 | group.state.code(),
            SUPPORTED,
            high,
            low,
            0,
            group.cause.code(),
            0,
            1, // TARGET PORT COUNT.
            0,
            0,
            high,
            low,
        ]);
    }
    writer.length_32(0, 4);
}
