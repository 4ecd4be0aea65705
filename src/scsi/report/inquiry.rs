//! INQUIRY (SPC-5): standard data here, vital product data in `vpd`.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer, vpd};
use crate::scsi::sense::Sense;
use crate::scsi::view::DeviceKind;
use crate::scsi::{Plan, Served};

/// PERIPHERAL QUALIFIER 011b, PERIPHERAL DEVICE TYPE 1Fh: no logical unit can be here.
pub(super) const NOWHERE: u8 = 0x7f;

/// VERSION: SPC-4. Initiators treat SPC-5 (07h, claimed by a version descriptor) no differently, and libiscsi's conformance
/// tests take 07h for an error.
const VERSION: u8 = 0x06;

/// VERSION DESCRIPTORs, no version claimed: SAM-5, iSCSI (its protocol level is added), SPC-4, SPC-5, and of disks SBC-3, SBC-4, of drives MMC-6.
const ISCSI_DESCRIPTOR: u16 = 0x0960;
const VERSION_DESCRIPTORS: [u16; 4] = [0x00a0, ISCSI_DESCRIPTOR, 0x0460, 0x05c0];
const DISK_DESCRIPTORS: &[u16] = &[0x04c0, 0x0600];
const DRIVE_DESCRIPTORS: &[u16] = &[0x04e0];

/// Length of the standard data.
const STANDARD_BYTES: usize = 96;

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Option<Served<'_>>) -> Result<Plan, Sense> {
    let vital = cdb.byte(1) & 0x01 != 0;
    let page = cdb.byte(2);
    let kind = match (vital, page) {
        (true, page) if vpd::known(page, unit.map(|unit| unit.view)) => Kind::Vpd { page },
        (false, 0) => Kind::Inquiry,
        // SPC-5: PAGE CODE must be 0 without EVPD.
        _ => return Err(Sense::invalid_byte(2)),
    };
    Ok(answer(kind, cdb.be16(3)))
}

pub(super) fn fill(unit: Option<Served<'_>>, protocol_level: u8, writer: &mut Writer<'_>) {
    let identity = unit.map(|unit| &unit.view.identity);
    let kind = unit.map_or(DeviceKind::Disk, |unit| unit.view.kind);
    let is_protected = unit.is_some_and(|unit| unit.view.protection.is_some());
    writer.put(&[
        // PERIPHERAL QUALIFIER 000b: it is there.
        if unit.is_some() { kind.device_type() } else { NOWHERE },
        // RMB; no conglomerate.
        if kind.is_removable() { 0x80 } else { 0 },
        VERSION, //
        0x12,    // HISUP, RESPONSE DATA FORMAT 2; NACA is not supported.
        0,       // ADDITIONAL LENGTH, below.
        // TPGS, and 3PC, of disks; PROTECT.
        if kind == DeviceKind::CdRom {
            0
        } else {
            unit.map_or(0b01, |unit| unit.view.alua.tpgs()) << 4 | 0x08 | u8::from(is_protected)
        },
        0,
        0x02, // CMDQUE.
    ]);
    writer.put(identity.map_or(&[b' '; 8], |identity| &identity.vendor));
    writer.put(identity.map_or(&[b' '; 16], |identity| &identity.product));
    writer.put(identity.map_or(&[b' '; 4], |identity| &identity.revision));
    writer.zeros_to(58);
    let of_kind = if kind == DeviceKind::CdRom { DRIVE_DESCRIPTORS } else { DISK_DESCRIPTORS };
    for descriptor in VERSION_DESCRIPTORS.iter().chain(of_kind) {
        // RFC 7144 §4.2.
        let level = if *descriptor == ISCSI_DESCRIPTOR { u16::from(protocol_level) } else { 0 };
        writer.put(&(descriptor + level).to_be_bytes());
    }
    writer.zeros_to(STANDARD_BYTES);
    writer.length_8(4, 5);
}
