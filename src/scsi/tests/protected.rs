//! Units formatted with protection information (SBC-4 §4.22).

use super::{answered, cdb, planned, refused, target, unit};
use crate::bdev::Offloads;
use crate::bdev::protection::{Checks, Protection};
use crate::id::NexusId;
use crate::scsi::protect::Protected;
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, UnitView};
use crate::scsi::{Access, Extent, Place, Plan, Transfer, plain};

fn formatted() -> UnitView {
    UnitView { protection: Some(Protection::Type1), ..unit() }
}

const EXTENT: Extent = Extent { lba: 5, blocks: 2, fua: false };

fn protected(access: Access, guard: bool, reference: bool) -> Plan {
    Plan::Protected(Protected { extent: EXTENT, access, checks: Checks { guard, reference, shift: 0 } })
}

#[test]
fn it_is_told() {
    let of = |kind| {
        let unit = UnitView { protection: kind, ..unit() };
        let capacity =
            answered(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0], Some(&unit), None)[12];
        let inquiry = answered(&[0x12, 0, 0, 0, 96, 0], Some(&unit), None)[5];
        let extended = answered(&[0x12, 1, 0x86, 0, 64, 0], Some(&unit), None)[4];
        let limits = answered(&[0x12, 1, 0xb0, 0, 64, 0], Some(&unit), None)[8..12].to_vec();
        (capacity, inquiry & 0x01, extended, limits)
    };
    // 16 MiB in blocks; 504 blocks of 520 bytes are 256 KiB.
    assert_eq!(of(None), (0x00, 0x00, 0x00, vec![0, 0, 0x80, 0]));
    assert_eq!(of(Some(Protection::Type1)), (0x01, 0x01, 0x05, vec![0, 0, 0x01, 0xf8]));
    assert_eq!(of(Some(Protection::Type2)), (0x03, 0x01, 0x15, vec![0, 0, 0x01, 0xf8]));
    assert_eq!(of(Some(Protection::Type3)), (0x05, 0x01, 0x24, vec![0, 0, 0x01, 0xf8]));
    let usage = |unit: &UnitView| {
        answered(&[0xa3, 0x0c, 1, 0x28, 0, 0, 0, 0, 1, 0, 0, 0], Some(unit), None)[4..7].to_vec()
    };
    assert_eq!(usage(&unit()), [0x28, 0x18, 0xff]);
    assert_eq!(usage(&formatted()), [0x28, 0xf8, 0xff]);
}

#[test]
fn each_value_of_the_field_checks_its_own() {
    let forms = [
        (vec![0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0], Access::Read),
        (vec![0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0], Access::Read),
        (vec![0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0], Access::Read),
        (vec![0x2a, 0, 0, 0, 0, 5, 0, 0, 2, 0], Access::Write),
        (vec![0xaa, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0], Access::Write),
        (vec![0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0], Access::Write),
    ];
    for (form, access) in forms {
        let with = |field: u8| {
            let mut bytes = form.clone();
            bytes[1] = field << 5;
            bytes
        };
        let plain = if access == Access::Read { Plan::Read(EXTENT) } else { Plan::Write(EXTENT) };
        assert_eq!(planned(&with(0), &formatted()), plain);
        for (field, guard, reference) in
            [(1, true, true), (2, false, true), (3, false, false), (4, true, false), (5, true, true)]
        {
            assert_eq!(planned(&with(field), &formatted()), protected(access, guard, reference), "{field}");
            let pointer = Sense::invalid_bit(
                1,
                if field & 4 != 0 {
                    7
                } else if field & 2 != 0 {
                    6
                } else {
                    5
                },
            );
            assert_eq!(refused(&with(field), &unit()), pointer, "a unit without it");
        }
        for field in [6, 7] {
            assert_eq!(refused(&with(field), &formatted()), Sense::invalid_bit(1, 7));
        }
        // Never by the short way.
        let target = target();
        let unit = formatted();
        let place =
            Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
        assert_eq!(crate::scsi::plain(cdb(&with(1)).bytes.first_chunk().unwrap(), &place), None);
    }
    assert!(plain_is_served());
}

fn plain_is_served() -> bool {
    let (target, unit) = (target(), formatted());
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    plain(cdb(&[0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0]).bytes.first_chunk().unwrap(), &place).is_some()
}

#[test]
fn eight_bytes_go_with_each_block() {
    let (target, unit) = (target(), formatted());
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let transfer = |bytes: &[u8]| planned(bytes, &unit).transfer(&place);
    assert_eq!(transfer(&[0x28, 0x20, 0, 0, 0, 5, 0, 0, 2, 0]), Transfer::In(1040));
    assert_eq!(transfer(&[0x2a, 0x60, 0, 0, 0, 5, 0, 0, 2, 0]), Transfer::Out(1040));
    assert_eq!(transfer(&[0x28, 0x20, 0, 0, 0, 0, 0, 1, 0xf8, 0]), Transfer::In(504 * 520));
    assert_eq!(refused(&[0x28, 0x20, 0, 0, 0, 0, 0, 1, 0xf9, 0], &unit), Sense::INVALID_FIELD);
    assert_eq!(refused(&[0x28, 0x20, 0, 0, 3, 0xe8, 0, 0, 1, 0], &unit), Sense::LBA_OUT_OF_RANGE.at(1000));
}

#[test]
fn what_compares_blocks_does_so_without() {
    assert!(matches!(planned(&[0x2f, 0x20, 0, 0, 0, 5, 0, 0, 2, 0], &formatted()), Plan::Work(_)));
    assert_eq!(refused(&[0x2f, 0x22, 0, 0, 0, 5, 0, 0, 2, 0], &formatted()), Sense::invalid_bit(1, 7));
    assert_eq!(
        refused(&[0x04, 0, 0, 0, 0, 0], &formatted()),
        Sense::INVALID_OPCODE,
        "it stays as it was made"
    );
    // COMPARE AND WRITE, ORWRITE, WRITE ATOMIC.
    for opcode in [0x89, 0x8b, 0x9c] {
        let bytes = [opcode, 0x20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0];
        let unit =
            UnitView { offloads: Offloads { atomic_write_blocks: 8, ..Offloads::default() }, ..formatted() };
        assert_eq!(refused(&bytes, &unit), Sense::invalid_bit(1, 5), "{opcode:02x}");
    }
}

#[test]
fn write_and_verify_and_write_same_take_what_goes_with_their_blocks() {
    let data_bytes = |bytes: &[u8], unit: &UnitView| match planned(bytes, unit) {
        Plan::Work(work) => work.data_bytes(512),
        other => panic!("{bytes:02x?} is {other:?}"),
    };
    for (opcode, want) in [(0x2e, 3 * 520), (0x41, 520)] {
        let cdb = |field: u8| [opcode, field << 5, 0, 0, 0, 5, 0, 0, 3, 0];
        assert_eq!(data_bytes(&cdb(0), &formatted()), want - want / 520 * 8);
        for field in 1..=5 {
            assert_eq!(data_bytes(&cdb(field), &formatted()), want);
        }
        for field in [6, 7] {
            assert_eq!(refused(&cdb(field), &formatted()), Sense::invalid_bit(1, 7));
        }
        assert_eq!(refused(&cdb(1), &unit()), Sense::invalid_bit(1, 5), "a unit without it");
    }
    // All data of a WRITE AND VERIFY are one piece; of a WRITE SAME there is one block.
    assert_eq!(data_bytes(&[0x2e, 0x20, 0, 0, 0, 0, 0, 1, 0xf8, 0], &formatted()), 504 * 520);
    assert_eq!(refused(&[0x2e, 0x20, 0, 0, 0, 0, 0, 1, 0xf9, 0], &formatted()), Sense::INVALID_FIELD);
    assert_eq!(data_bytes(&[0x41, 0x20, 0, 0, 0, 0, 0, 3, 0xe8, 0], &formatted()), 520);
    // NDOB: there is no block, and nothing with it.
    let ndob = [0x93, 0x21, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0];
    assert_eq!(refused(&ndob, &formatted()), Sense::invalid_bit(1, 7));
    assert_eq!(data_bytes(&long(0x0c, 0x20), &type_2()), 2 * 520);
    assert_eq!(data_bytes(&long(0x0d, 0x20), &type_2()), 520);
}

/// Blocks 6 and 7 of a unit of type 2, the first of which is expected to have the tag 9.
fn long(action: u8, flags: u8) -> [u8; 32] {
    [
        0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, flags, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 9, 0xab, 0xcd,
        0xff, 0xff, 0, 0, 0, 2,
    ]
}

fn type_2() -> UnitView {
    UnitView { protection: Some(Protection::Type2), ..unit() }
}

#[test]
fn in_type_2_those_of_32_bytes_say_what_is_expected() {
    let extent = Extent { lba: 6, ..EXTENT };
    for (action, access) in [(0x09, Access::Read), (0x0b, Access::Write)] {
        let plain = if access == Access::Read { Plan::Read(extent) } else { Plan::Write(extent) };
        assert_eq!(planned(&long(action, 0), &type_2()), plain);
        for (field, guard, reference) in
            [(1, true, true), (2, false, true), (3, false, false), (4, true, false), (5, true, true)]
        {
            let checks = Checks { guard, reference, shift: 3 };
            let want = Plan::Protected(Protected { extent, access, checks });
            assert_eq!(planned(&long(action, field << 5), &type_2()), want, "{field}");
        }
        for field in [6, 7] {
            assert_eq!(refused(&long(action, field << 5), &type_2()), Sense::invalid_bit(10, 7));
        }
        assert_eq!(refused(&long(action, 0x20), &unit()), Sense::invalid_bit(10, 5), "a unit without it");
    }
    // VERIFY without data checks; where blocks are compared it does not.
    assert_ne!(planned(&long(0x0a, 0x20), &type_2()), planned(&long(0x0a, 0), &type_2()));
    assert!(matches!(planned(&long(0x0a, 0x20), &type_2()), Plan::Work(_)));
    assert_eq!(refused(&long(0x0a, 0x22), &type_2()), Sense::invalid_bit(10, 7));
}

#[test]
fn in_type_2_shorter_ones_go_without() {
    assert_eq!(planned(&[0x28, 0, 0, 0, 0, 5, 0, 0, 2, 0], &type_2()), Plan::Read(EXTENT));
    assert_eq!(planned(&[0x2a, 0, 0, 0, 0, 5, 0, 0, 2, 0], &type_2()), Plan::Write(EXTENT));
    for opcode in
        [0x28, 0x2a, 0x2e, 0x2f, 0x41, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x93, 0xa8, 0xaa, 0xae, 0xaf]
    {
        let bytes = [opcode, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(refused(&bytes, &type_2()), Sense::INVALID_OPCODE, "{opcode:02x}");
    }
    let usage = |action: u8| {
        let asked = [0xa3, 0x0c, 2, 0x7f, 0, action, 0, 0, 1, 0, 0, 0];
        answered(&asked, Some(&type_2()), None)[4..].to_vec()
    };
    assert_eq!(usage(0x09)[10], 0xf8);
    assert_eq!(usage(0x09)[20..28], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!((usage(0x0d)[10], usage(0x0d)[20]), (0xf9, 0xff));
    let short = answered(&[0xa3, 0x0c, 1, 0x28, 0, 0, 0, 0, 1, 0, 0, 0], Some(&type_2()), None);
    assert_eq!(short[4..7], [0x28, 0x18, 0xff]);
}
