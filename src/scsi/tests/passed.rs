//! Commands that go to the device as they came, and those that do not.

use super::{cdb, planned, refused, target, unit};
use crate::id::NexusId;
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, LunNumber, Medium, UnitView};
use crate::scsi::{Outcome, Place, Plan, Transfer, pass};

fn disk() -> UnitView {
    UnitView { kind: DeviceKind::Passed { is_blocks: true }, ..unit() }
}

fn tape() -> UnitView {
    UnitView { kind: DeviceKind::Passed { is_blocks: false }, blocks: 1, ..unit() }
}

const PASS: Plan = Plan::Pass { cut_bytes: None };

#[test]
fn whatever_the_device_may_know_is_passed() {
    for bytes in [
        &[0x00][..],
        &[0x01],
        &[0x12, 1, 0xb0, 0xff, 0xff, 0xff],
        &[0x03, 0xff],
        &[0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x04],
        &[0x5a, 8, 0x3f],
        &[0x83, 0x10],
        &[0xa5],
        &[0xa3, 0x0a],
        &[0xc1, 1, 2, 3],
    ] {
        assert_eq!(planned(bytes, &tape()), PASS, "{bytes:02x?}");
    }
    // Those that say their length themselves, up to 32 bytes.
    let long = |additional: u8, action: u8| {
        let mut long = [0; 32];
        long[..11].copy_from_slice(&[0x7f, 0, 0, 0, 0, 0, 0, additional, 0, action, 0]);
        long[31] = 9;
        long
    };
    assert_eq!(planned(&long(0x18, 9), &disk()), Plan::Pass { cut_bytes: Some(9 * 512) });
    assert_eq!(planned(&long(0x18, 11), &disk()), Plan::Pass { cut_bytes: Some(9 * 512) });
    for (additional, action) in [(0x04, 9), (0x14, 11), (0x18, 10), (0x18, 0x88)] {
        assert_eq!(planned(&long(additional, action), &disk()), PASS, "{additional:02x} {action:02x}");
    }
    for additional in [0, 3, 0x16, 0x19, 0x1c, 0xf4, 0xff] {
        assert_eq!(refused(&long(additional, 9), &disk()), Sense::invalid_byte(7), "{additional:02x}");
    }
    let mut protected = long(0x18, 9);
    protected[10] = 0x20;
    assert_eq!(planned(&protected, &disk()), PASS, "blocks do not come alone");
    assert_eq!(planned(&[0x28, 0, 0, 0, 0, 0, 0, 0, 9, 0], &disk()), Plan::Pass { cut_bytes: Some(9 * 512) });
    assert_eq!(planned(&[0x08, 0, 0, 0, 0, 0], &disk()), Plan::Pass { cut_bytes: Some(256 * 512) });
    assert_eq!(planned(&[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &disk()), PASS);
}

#[test]
fn what_tells_initiators_apart_is_ours() {
    for bytes in [
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0][..],
        &[0x16, 0, 0, 0, 0, 0],
        &[0x17, 0, 0, 0, 0, 0],
        &[0x56],
        &[0x57],
        &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0],
        &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0],
    ] {
        assert!(matches!(planned(bytes, &tape()), Plan::Report(_) | Plan::Ask { .. }), "{bytes:02x?}");
    }
}

#[test]
fn the_initiator_says_how_much_moves() {
    let target = target();
    let disk = disk();
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&disk, false)) };
    assert_eq!(PASS.transfer(&place), Transfer::Expected);
    let cut = |bytes| Plan::Pass { cut_bytes: Some(bytes) };
    for (plan, expected_bytes, wanted) in [
        (PASS, 0, Ok(())),
        (PASS, 256 << 10, Ok(())),
        (PASS, (256 << 10) + 1, Err(Sense::INVALID_FIELD)),
        (cut(512), 4096, Ok(())),
        (cut(1 << 20), 1 << 20, Ok(())),
        (cut(1 << 20), 1 << 19, Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)),
        (cut(1 << 24), 1 << 24, Ok(())),
        (cut(1 << 25), 1 << 25, Err(Sense::INVALID_FIELD)),
    ] {
        assert_eq!(plan.check_expected(expected_bytes, &place), wanted, "{plan:?} {expected_bytes}");
    }
}

#[test]
fn what_may_change_something_is_kept_from_who_may_only_read() {
    let read_only = UnitView { read_only: true, ..tape() };
    for bytes in [&[0x0a][..], &[0x01], &[0x19], &[0x15], &[0xa5], &[0xc1], &[0x3b], &[0x1b, 0, 0, 0, 2]] {
        assert_eq!(refused(bytes, &read_only), Sense::WRITE_PROTECTED, "{bytes:02x?}");
    }
    let long = |action: u8| [&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action][..], &[0; 22]].concat();
    for action in [0x0b, 0x0c, 0x0d, 0x0e, 0x88] {
        assert_eq!(refused(&long(action), &read_only), Sense::WRITE_PROTECTED, "{action:02x}");
    }
    for action in [0x09, 0x0a] {
        assert!(matches!(planned(&long(action), &read_only), Plan::Pass { .. }), "{action:02x}");
    }
    for bytes in [&[0x00][..], &[0x03], &[0x08], &[0x12], &[0x1a], &[0x25], &[0x28], &[0x4d], &[0x5a]] {
        assert!(matches!(planned(bytes, &read_only), Plan::Pass { .. }), "{bytes:02x?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_not_ready() {
    let absent = UnitView { medium: Medium::NotReady, ..tape() };
    for bytes in [&[0x00][..], &[0x12], &[0x28]] {
        assert_eq!(refused(bytes, &absent), Sense::NOT_READY, "{bytes:02x?}");
    }
    let unsettled = UnitView { medium: Medium::Unsettled, ..tape() };
    assert_eq!(refused(&[0x28], &unsettled), Sense::OPERATION_IN_PROGRESS);
    assert_eq!(planned(&[0x12], &unsettled), PASS);
    let gone = UnitView { medium: Medium::Removed, ..tape() };
    assert_eq!(refused(&[0x28], &gone), Sense::NO_SUCH_UNIT);
    let (target, tape) = (target(), tape());
    let place = |unit| Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit };
    assert_eq!(pass::recheck(&cdb(&[0x28]), &place(Some((&tape, false)))), Ok(()));
    let write_protected = Err(Outcome::check(Sense::WRITE_PROTECTED));
    assert_eq!(pass::recheck(&cdb(&[0x2a]), &place(Some((&tape, true)))), write_protected);
    let no_unit = Err(Outcome::check(Sense::NO_SUCH_UNIT));
    assert_eq!(pass::recheck(&cdb(&[0x2a]), &place(None)), no_unit);
}
