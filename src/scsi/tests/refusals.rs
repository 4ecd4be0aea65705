//! Each way to be refused, with its sense codes and field pointer.

use super::{planned, planned_nowhere, refused, target, unit};
use crate::id::NexusId;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::{FieldPointer, Sense};
use crate::scsi::view::{LunNumber, Medium, UnitView};
use crate::scsi::{Place, Plan, plan};

/// Key, codes, LBA.
fn codes(sense: Sense) -> (u8, u8, u8, Option<u64>) {
    (sense.key.code(), sense.asc, sense.ascq, sense.information)
}

/// INVALID FIELD IN CDB at this byte, and bit if there is one.
#[track_caller]
fn invalid_field(bytes: &[u8], byte: u16, bit: Option<u8>) {
    let sense = refused(bytes, &unit());
    assert_eq!(codes(sense), (0x5, 0x24, 0x00, None), "{bytes:02x?}");
    assert_eq!(sense.field, Some(FieldPointer { is_in_cdb: true, byte, bit }), "{bytes:02x?}");
}

#[test]
fn unknown_operation_codes() {
    for opcode in [0x01, 0x0d, 0x42, 0x4c, 0x7e, 0x82, 0x9c, 0xff] {
        assert_eq!(codes(refused(&[opcode], &unit())), (0x5, 0x20, 0x00, None));
    }
}

#[test]
fn unknown_service_actions_point_at_the_field() {
    invalid_field(&[0x9e, 0x13], 1, Some(4));
    invalid_field(&[0xa3, 0x0b], 1, Some(4));
    // XDWRITEREAD(32), and more than a byte.
    invalid_field(&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 7], 8, None);
    invalid_field(&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 1, 9], 8, None);
}

#[test]
fn reserved_bits() {
    invalid_field(&[0x00, 0x10, 0, 0, 0, 0], 1, Some(4));
    invalid_field(&[0x00, 0, 0, 0, 0x80, 0], 4, Some(7));
    invalid_field(&[0x12, 0x04, 0, 0, 36, 0], 1, Some(2));
    invalid_field(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0x02, 0], 8, Some(1));
    invalid_field(&[0x5a, 0, 0x3f, 0, 0, 0, 0x01, 0, 255, 0], 6, Some(0));
    invalid_field(&[0x9e, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], 1, Some(5));
    invalid_field(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0x02, 0], 14, Some(1));
    invalid_field(&[0xa0, 0, 0, 0x40, 0, 0, 0, 0, 0, 16, 0, 0], 3, Some(6));
    invalid_field(&[0xa3, 0x0c, 0x08, 0, 0, 0, 0, 0, 0, 16, 0, 0], 2, Some(3));
    invalid_field(&[0x28, 0, 0, 0, 0, 0, 0x40, 0, 1, 0], 6, Some(6));
    invalid_field(&[0x88, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 1, Some(0));
}

#[test]
fn of_several_reserved_bits_the_first_is_named() {
    invalid_field(&[0x00, 0, 0x06, 0xff, 0xff, 0x3c], 2, Some(2));
}

#[test]
fn naca_and_reserved_control_bits() {
    invalid_field(&[0x00, 0, 0, 0, 0, 0x04], 5, Some(2));
    invalid_field(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04], 9, Some(2));
    invalid_field(&[0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x04], 11, Some(2));
    invalid_field(&[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x04], 15, Some(2));
    invalid_field(&[0x12, 0, 0, 0, 36, 0x20], 5, Some(5));
}

#[test]
fn protection_is_not_supported() {
    for opcode in [0x28, 0x2a, 0x88, 0x8a, 0xa8, 0xaa] {
        invalid_field(&[opcode, 0x20], 1, Some(5));
        invalid_field(&[opcode, 0xe0], 1, Some(7));
    }
}

#[test]
fn blocks_that_are_not_there() {
    let unit = unit();
    let out_of_range = |bytes: &[u8], lba| {
        assert_eq!(codes(refused(bytes, &unit)), (0x5, 0x21, 0x00, Some(lba)), "{bytes:02x?}");
    };
    // The first block that is not there: the capacity, unless the command begins beyond.
    out_of_range(&[0x08, 0, 3, 0xe7, 2, 0], 1000);
    out_of_range(&[0x0a, 0, 3, 0, 0, 0], 1000);
    out_of_range(&[0x28, 0, 0, 0, 3, 0xe8, 0, 0, 1, 0], 1000);
    out_of_range(&[0x28, 0, 0, 0, 3, 0xe9, 0, 0, 0, 0], 1001);
    out_of_range(&[0x2a, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0], 0xffff_ffff);
    out_of_range(&[0xaa, 0, 0, 0, 3, 0xe7, 0, 0, 0, 2, 0, 0], 1000);
    let last = [0xff; 8];
    out_of_range(&[&[0x88, 0], &last[..], &[0, 0, 0, 1, 0, 0]].concat(), u64::MAX);
    out_of_range(&[&[0x8a, 0], &last[..], &[0xff, 0xff, 0xff, 0xff, 0, 0]].concat(), u64::MAX);
    out_of_range(&[0x35, 0, 0, 0, 3, 0xe7, 0, 0, 2, 0], 1000);
    out_of_range(&[&[0x91, 0], &last[..], &[0, 0, 0, 1, 0, 0]].concat(), u64::MAX);
}

#[test]
fn more_than_the_maximum_transfer_length() {
    let big = UnitView { blocks: 1 << 33, block_bytes: 4096, ..unit() };
    let pointed = |bytes: &[u8]| {
        let sense = refused(bytes, &big);
        assert_eq!(codes(sense), (0x5, 0x24, 0x00, None));
        sense.field
    };
    // 4096 blocks of 4096 bytes are 16 MiB.
    assert!(matches!(planned(&[0x28, 0, 0, 0, 0, 0, 0, 0x10, 0x00, 0], &big), Plan::Read(_)));
    assert_eq!(
        pointed(&[0x28, 0, 0, 0, 0, 0, 0, 0x10, 0x01, 0]),
        Some(FieldPointer { is_in_cdb: true, byte: 7, bit: None })
    );
    assert_eq!(
        pointed(&[0xaa, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        Some(FieldPointer { is_in_cdb: true, byte: 6, bit: None })
    );
    assert_eq!(
        pointed(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
        Some(FieldPointer { is_in_cdb: true, byte: 10, bit: None })
    );
}

#[test]
fn write_protected() {
    let read_only = UnitView { read_only: true, ..unit() };
    for opcode in [0x0a, 0x2a, 0x8a, 0xaa] {
        assert_eq!(codes(refused(&[opcode], &read_only)), (0x7, 0x27, 0x00, None));
    }
    assert!(matches!(planned(&[0x28], &read_only), Plan::Read(_)));
    assert_eq!(planned(&[0x35], &read_only), Plan::Flush);

    // Through a read-only mapping too.
    let (target, unit) = (target(), unit());
    let place = Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, true)) };
    let mut write = [0; 16];
    write[0] = 0x2a;
    assert_eq!(plan(&Cdb::new(write), &place), Plan::Refuse(Sense::WRITE_PROTECTED));
}

#[test]
fn not_ready() {
    for (medium, ascq) in [(Medium::NotReady, 0x00), (Medium::Unsettled, 0x07)] {
        let away = UnitView { medium, ..unit() };
        for opcode in [0x00, 0x08, 0x0a, 0x25, 0x28, 0x2a, 0x35, 0x88, 0x8a, 0x91, 0xa8, 0xaa] {
            assert_eq!(codes(refused(&[opcode], &away)), (0x2, 0x04, ascq, None), "{opcode:02x}");
        }
        assert_eq!(codes(refused(&[0x9e, 0x10], &away)), (0x2, 0x04, ascq, None));
        for bytes in [&[0x12][..], &[0x03], &[0x1a, 0, 0x3f], &[0xa0], &[0xa3, 0x0c]] {
            assert!(matches!(planned(bytes, &away), Plan::Report(_)), "{bytes:02x?}");
        }
    }
}

#[test]
fn no_such_logical_unit() {
    let removed = UnitView { medium: Medium::Removed, ..unit() };
    for opcode in [0x00, 0x1a, 0x25, 0x28, 0x2a, 0x35, 0x5a, 0x88, 0x9e, 0xa3, 0xff] {
        // A LUN that leads nowhere comes before whatever else is wrong.
        for bytes in [[opcode, 0, 0, 0, 0, 0], [opcode, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(planned_nowhere(&bytes), Plan::Refuse(Sense::NO_SUCH_UNIT));
            assert_eq!(codes(refused(&bytes, &removed)), (0x5, 0x25, 0x00, None));
        }
    }
}

#[test]
fn inquiry_pages() {
    invalid_field(&[0x12, 0, 0x01, 0, 255, 0], 2, None);
    invalid_field(&[0x12, 0x01, 0x81, 0, 255, 0], 2, None);
    let Plan::Refuse(sense) = planned_nowhere(&[0x12, 0x01, 0x80, 0, 255, 0]) else { panic!() };
    assert_eq!(sense, Sense::invalid_byte(2));
}

#[test]
fn mode_pages() {
    invalid_field(&[0x1a, 0, 0x00, 0, 255, 0], 2, Some(5));
    invalid_field(&[0x5a, 0, 0x01, 0, 0, 0, 0, 0, 255, 0], 2, Some(5));
    invalid_field(&[0x1a, 0, 0x0a, 0x01, 255, 0], 3, None);
    invalid_field(&[0x1a, 0, 0x3f, 0x01, 255, 0], 3, None);
    assert_eq!(codes(refused(&[0x1a, 0, 0xff, 0, 255, 0], &unit())), (0x5, 0x39, 0x00, None));
    assert_eq!(codes(refused(&[0x5a, 0, 0xc8, 0, 0, 0, 0, 0, 255, 0], &unit())), (0x5, 0x39, 0x00, None));
}

#[test]
fn select_report() {
    for select in [0x03, 0x10, 0x11, 0x12, 0xff] {
        invalid_field(&[0xa0, 0, select, 0, 0, 0, 0, 0, 0, 16, 0, 0], 2, None);
    }
}

#[test]
fn reporting_options() {
    for options in 4..8 {
        invalid_field(&[0xa3, 0x0c, options, 0, 0, 0, 0, 0, 0, 16, 0, 0], 2, Some(2));
    }
    invalid_field(&[0xa3, 0x0c, 1, 0x9e, 0, 0x10, 0, 0, 0, 16, 0, 0], 3, None);
    invalid_field(&[0xa3, 0x0c, 2, 0x28, 0, 0, 0, 0, 0, 16, 0, 0], 3, None);
}
