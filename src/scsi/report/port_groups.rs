//! REPORT TARGET PORT GROUPS (SPC-5 §6.37).
//!
//! Told are the groups of the SCSI device that is asked, which is the target (RFC 7143 §4.4.1): each of its ports is in one,
//! alone unless the operator has put several together. Ports of other targets that lead to the same logical unit are in
//! groups of their own, which are told to those who ask there.

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
    let groups = &target.port_groups;
    for (index, &number) in
        groups.iter().enumerate().filter(|&(index, number)| !groups[..index].contains(number))
    {
        // As the ports are: a group stands where its first port does.
        let [high, low] = number.to_be_bytes();
        let group = unit.alua.group(number);
        let members = target.ports.iter().zip(groups).skip(index).filter(|&(_, other)| *other == number);
        let count = members.clone().count();
        writer.put(&[
            u8::from(group.is_preferred) << 7 | group.state.code(),
            SUPPORTED,
            high,
            low,
            0,
            group.cause.code(),
            0,
            // TARGET PORT COUNT: a target has fewer ports than that.
            u8::try_from(count).unwrap_or(u8::MAX),
        ]);
        for (port, _) in members {
            let [high, low] = port.to_be_bytes();
            writer.put(&[0, 0, high, low]);
        }
    }
    writer.length_32(0, 4);
}
