//! CDBs of 32 bytes.

use super::{planned, refused, unit};
use crate::bdev::Unmap;
use crate::bdev::protection::Protection;
use crate::scsi::sense::{FieldPointer, Sense};
use crate::scsi::view::UnitView;
use crate::scsi::{Extent, Plan};

/// Blocks 6 and 7, with these flags; the tags are as a host may send them.
fn cdb(action: u8, flags: u8) -> [u8; 32] {
    [
        0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, flags, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 6, 0xab, 0xcd,
        0xff, 0xff, 0, 0, 0, 2,
    ]
}

#[test]
fn each_does_what_its_shorter_kin_does() {
    let thin = UnitView {
        unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false }),
        ..unit()
    };
    for (action, flags, kin) in [
        (0x09, 0x00, 0x88),
        (0x09, 0x18, 0x88),
        (0x0a, 0x00, 0x8f),
        (0x0a, 0x12, 0x8f),
        (0x0a, 0x06, 0x8f),
        (0x0b, 0x10, 0x8a),
        (0x0b, 0x0a, 0x8a),
        (0x0c, 0x00, 0x8e),
        (0x0c, 0x02, 0x8e),
        (0x0d, 0x00, 0x93),
        (0x0d, 0x09, 0x93),
    ] {
        let kin = planned(&[kin, flags, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 2, 0, 0], &thin);
        assert!(!matches!(kin, Plan::Refuse(_) | Plan::End(_)), "{kin:?}");
        assert_eq!(planned(&cdb(action, flags), &thin), kin, "{action:02x}h, {flags:02x}h");
    }
}

#[test]
fn wide_fields_are_read_whole() {
    let far = UnitView { blocks: u64::MAX, ..unit() };
    let mut read = cdb(0x09, 0);
    read[12..20].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    read[28..].copy_from_slice(&[0, 0, 0x12, 0x34]);
    let extent = Extent { lba: 0x0102_0304_0506_0708, blocks: 0x1234, fua: false };
    assert_eq!(planned(&read, &far), Plan::Read(extent));
}

#[test]
fn refusals_point_at_their_fields() {
    let at = |cdb: &[u8; 32]| {
        let sense = refused(cdb, &unit());
        assert_eq!((sense.key.code(), sense.asc, sense.ascq), (0x5, 0x24, 0x00));
        sense.field
    };
    let pointer = |byte, bit| Some(FieldPointer { is_in_cdb: true, byte, bit });
    let with = |action, byte: usize, value| {
        let mut cdb = cdb(action, 0);
        cdb[byte] = value;
        cdb
    };
    // NACA, and a reserved bit beside GROUP NUMBER.
    assert_eq!(at(&with(0x09, 1, 0x04)), pointer(1, Some(2)));
    assert_eq!(at(&with(0x09, 6, 0x40)), pointer(6, Some(6)));
    assert_eq!(at(&with(0x09, 7, 0x17)), pointer(7, None));
    assert_eq!(at(&with(0x0b, 11, 0x01)), pointer(11, Some(0)));
    // RDPROTECT; BYTCHK of 10b, and of 11b with WRITE AND VERIFY; UNMAP where there is none.
    assert_eq!(at(&cdb(0x09, 0x20)), pointer(10, Some(5)));
    assert_eq!(at(&cdb(0x0a, 0x04)), pointer(10, Some(2)));
    assert_eq!(at(&cdb(0x0c, 0x06)), pointer(10, Some(2)));
    assert_eq!(at(&cdb(0x0d, 0x08)), pointer(10, Some(3)));
    // More than MAXIMUM TRANSFER LENGTH, and no blocks at all to WRITE SAME.
    let far = UnitView { blocks: 1 << 40, ..unit() };
    assert_eq!(refused(&with(0x0b, 28, 1), &far).field, pointer(28, None));
    assert_eq!(at(&with(0x0d, 31, 0)), pointer(28, None));
}

#[test]
fn they_are_not_served_beside_protection_information_of_types_1_and_3() {
    for protection in [Protection::Type1, Protection::Type3] {
        let unit = UnitView { protection: Some(protection), ..unit() };
        for action in 0x09..=0x0d {
            assert_eq!(refused(&cdb(action, 0), &unit), Sense::invalid_byte(8));
        }
    }
}
