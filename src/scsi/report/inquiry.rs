//! INQUIRY (SPC-5): standard data here, vital product data in `vpd`.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer, vpd};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served};

/// PERIPHERAL QUALIFIER 000b, PERIPHERAL DEVICE TYPE 00h: a direct access block device, there.
pub(super) const DISK: u8 = 0x00;
/// PERIPHERAL QUALIFIER 011b, PERIPHERAL DEVICE TYPE 1Fh: no logical unit can be here.
pub(super) const NOWHERE: u8 = 0x7f;

/// VERSION: SPC-4. Initiators treat SPC-5 (07h, claimed by a version descriptor) no differently, and libiscsi's conformance
/// tests take 07h for an error.
const VERSION: u8 = 0x06;

/// VERSION DESCRIPTORs, no version claimed: SAM-5, iSCSI, SPC-4, SPC-5, SBC-3, SBC-4.
const VERSION_DESCRIPTORS: [u16; 6] = [0x00a0, 0x0960, 0x0460, 0x05c0, 0x04c0, 0x0600];

/// Length of the standard data.
const STANDARD_BYTES: usize = 96;

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Option<Served<'_>>) -> Result<Plan, Sense> {
    let vital = cdb.byte(1) & 0x01 != 0;
    let page = cdb.byte(2);
    let kind = match (vital, page) {
        (true, page) if vpd::known(page, unit.is_some()) => Kind::Vpd { page },
        (false, 0) => Kind::Inquiry,
        // SPC-5: PAGE CODE must be 0 without EVPD.
        _ => return Err(Sense::invalid_byte(2)),
    };
    Ok(answer(kind, cdb.be16(3)))
}

pub(super) fn fill(unit: Option<Served<'_>>, writer: &mut Writer<'_>) {
    let identity = unit.map(|unit| &unit.view.identity);
    writer.put(&[
        if unit.is_some() { DISK } else { NOWHERE },
        0,       // Not removable, no conglomerate.
        VERSION, //
        0x12,    // HISUP, RESPONSE DATA FORMAT 2; NACA is not supported.
        0,       // ADDITIONAL LENGTH, below.
        // TPGS; no third-party copy, no protection information.
        unit.map_or(0b01, |unit| unit.view.alua.tpgs()) << 4,
        0,
        0x02, // CMDQUE.
    ]);
    writer.put(identity.map_or(&[b' '; 8], |identity| &identity.vendor));
    writer.put(identity.map_or(&[b' '; 16], |identity| &identity.product));
    writer.put(identity.map_or(&[b' '; 4], |identity| &identity.revision));
    writer.zeros_to(58);
    for descriptor in VERSION_DESCRIPTORS {
        writer.put(&descriptor.to_be_bytes());
    }
    writer.zeros_to(STANDARD_BYTES);
    writer.length_8(4, 5);
}
