//! Media that come out: what is asked of control, and what is said when they are out.

use super::{answered, cdb, planned, refused, unit};
use crate::scsi::power::Motion;
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, Medium, UnitView};
use crate::scsi::{Plan, Status};

fn removable() -> UnitView {
    UnitView { kind: DeviceKind::RemovableDisk, ..unit() }
}

const ASK: Plan = Plan::Ask { parameter_bytes: 0 };

#[test]
fn control_is_asked_to_move_or_to_lock_a_medium() {
    for options in [0x02, 0x03, 0x06] {
        assert_eq!(planned(&[0x1b, 0, 0, 0, options, 0], &removable()), ASK);
        assert_eq!(refused(&[0x1b, 0, 0, 0, options, 0], &unit()), Sense::invalid_bit(4, 1));
    }
    for prevents in [0, 1] {
        assert_eq!(planned(&[0x1e, 0, 0, 0, prevents, 0], &removable()), ASK);
        assert_eq!(planned(&[0x1e, 0, 0, 0, prevents, 0], &unit()), Plan::End(Status::Good));
    }
    assert_eq!(planned(&[0x1b, 0, 0, 0, 0x00, 0], &removable()), Plan::Flush, "stopped, not taken out");
    assert_eq!(planned(&[0x1b, 0, 0, 0, 0x12, 0], &removable()), Plan::End(Status::Good), "LOEJ with ACTIVE");
}

#[test]
fn what_moves_how() {
    let of = |bytes: &[u8]| Motion::of(&cdb(bytes));
    assert_eq!(of(&[0x1b, 0, 0, 0, 0x02, 0]), Motion::Eject);
    assert_eq!(of(&[0x1b, 0, 0, 0, 0x03, 0]), Motion::Load);
    assert_eq!(of(&[0x1e, 0, 0, 0, 0x01, 0]), Motion::Prevent);
    assert_eq!(of(&[0x1e, 0, 0, 0, 0x00, 0]), Motion::Allow);
    assert_eq!(of(&[0x1e, 0, 0, 0, 0x02, 0]), Motion::Allow);
}

#[test]
fn a_medium_that_is_out_is_not_present() {
    let out = UnitView { medium: Medium::Ejected, ..removable() };
    let codes = |sense: Sense| (sense.key.code(), sense.asc, sense.ascq);
    for opcode in [0x00, 0x08, 0x0a, 0x25, 0x28, 0x2a, 0x35, 0x88, 0x8a, 0x91, 0xa8, 0xaa] {
        assert_eq!(codes(refused(&[opcode], &out)), (0x2, 0x3a, 0x00), "{opcode:02x}");
    }
    assert_eq!(planned(&[0x1b, 0, 0, 0, 0x03, 0], &out), ASK);
    assert_eq!(
        answered(&[0x03, 0, 0, 0, 18, 0], Some(&out), None)[..14],
        [0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3a, 0x00]
    );
}

#[test]
fn inquiry_says_so() {
    assert_eq!(answered(&[0x12, 0, 0, 0, 2, 0], Some(&removable()), None), [0x00, 0x80]);
    assert_eq!(answered(&[0x12, 0, 0, 0, 2, 0], Some(&unit()), None), [0x00, 0x00]);
}
