//! REPORT SUPPORTED OPERATION CODES, byte by byte.

use super::{answered, unit};
use crate::bdev::protection::Protection;
use crate::bdev::{Offloads, Unmap};
use crate::scsi::view::UnitView;

#[test]
fn all_operation_codes() {
    #[rustfmt::skip]
    let want = [
        0, 0, 0x02, 0xa8,
        0x00, 0, 0, 0, 0, 0, 0, 6,
        0x03, 0, 0, 0, 0, 0, 0, 6,
        0x04, 0, 0, 0, 0, 0, 0, 6,
        0x08, 0, 0, 0, 0, 0, 0, 6,
        0x0a, 0, 0, 0, 0, 0, 0, 6,
        0x12, 0, 0, 0, 0, 0, 0, 6,
        0x15, 0, 0, 0, 0, 0, 0, 6,
        0x16, 0, 0, 0, 0, 0, 0, 6,
        0x17, 0, 0, 0, 0, 0, 0, 6,
        0x1a, 0, 0, 0, 0, 0, 0, 6,
        0x1b, 0, 0, 0, 0, 0, 0, 6,
        0x1c, 0, 0, 0, 0, 0, 0, 6,
        0x1d, 0, 0, 0, 0, 0, 0, 6,
        0x1e, 0, 0, 0, 0, 0, 0, 6,
        0x25, 0, 0, 0, 0, 0, 0, 10,
        0x28, 0, 0, 0, 0, 0, 0, 10,
        0x2a, 0, 0, 0, 0, 0, 0, 10,
        0x2e, 0, 0, 0, 0, 0, 0, 10,
        0x2f, 0, 0, 0, 0, 0, 0, 10,
        0x34, 0, 0, 0, 0, 0, 0, 10,
        0x35, 0, 0, 0, 0, 0, 0, 10,
        0x37, 0, 0, 0, 0, 0, 0, 10,
        0x3b, 0, 0, 0, 0, 0, 0, 10,
        0x3c, 0, 0, 0, 0, 0, 0, 10,
        0x41, 0, 0, 0, 0, 0, 0, 10,
        0x48, 0, 0, 0x01, 0, 1, 0, 10,
        0x48, 0, 0, 0x1f, 0, 1, 0, 10,
        0x4d, 0, 0, 0, 0, 0, 0, 10,
        0x55, 0, 0, 0, 0, 0, 0, 10,
        0x56, 0, 0, 0, 0, 0, 0, 10,
        0x57, 0, 0, 0, 0, 0, 0, 10,
        0x5a, 0, 0, 0, 0, 0, 0, 10,
        0x5e, 0, 0, 0, 0, 1, 0, 10,
        0x5e, 0, 0, 1, 0, 1, 0, 10,
        0x5e, 0, 0, 2, 0, 1, 0, 10,
        0x5e, 0, 0, 3, 0, 1, 0, 10,
        0x5f, 0, 0, 0, 0, 1, 0, 10,
        0x5f, 0, 0, 1, 0, 1, 0, 10,
        0x5f, 0, 0, 2, 0, 1, 0, 10,
        0x5f, 0, 0, 3, 0, 1, 0, 10,
        0x5f, 0, 0, 4, 0, 1, 0, 10,
        0x5f, 0, 0, 5, 0, 1, 0, 10,
        0x5f, 0, 0, 6, 0, 1, 0, 10,
        0x5f, 0, 0, 7, 0, 1, 0, 10,
        0x7f, 0, 0, 0x09, 0, 1, 0, 32,
        0x7f, 0, 0, 0x0a, 0, 1, 0, 32,
        0x7f, 0, 0, 0x0b, 0, 1, 0, 32,
        0x7f, 0, 0, 0x0c, 0, 1, 0, 32,
        0x7f, 0, 0, 0x0d, 0, 1, 0, 32,
        0x83, 0, 0, 0x00, 0, 1, 0, 16,
        0x83, 0, 0, 0x01, 0, 1, 0, 16,
        0x83, 0, 0, 0x10, 0, 1, 0, 16,
        0x83, 0, 0, 0x11, 0, 1, 0, 16,
        0x83, 0, 0, 0x1c, 0, 1, 0, 16,
        0x84, 0, 0, 0x00, 0, 1, 0, 16,
        0x84, 0, 0, 0x03, 0, 1, 0, 16,
        0x84, 0, 0, 0x04, 0, 1, 0, 16,
        0x84, 0, 0, 0x05, 0, 1, 0, 16,
        0x84, 0, 0, 0x07, 0, 1, 0, 16,
        0x84, 0, 0, 0x08, 0, 1, 0, 16,
        0x88, 0, 0, 0, 0, 0, 0, 16,
        0x89, 0, 0, 0, 0, 0, 0, 16,
        0x8a, 0, 0, 0, 0, 0, 0, 16,
        0x8b, 0, 0, 0, 0, 0, 0, 16,
        0x8e, 0, 0, 0, 0, 0, 0, 16,
        0x8f, 0, 0, 0, 0, 0, 0, 16,
        0x90, 0, 0, 0, 0, 0, 0, 16,
        0x91, 0, 0, 0, 0, 0, 0, 16,
        0x93, 0, 0, 0, 0, 0, 0, 16,
        0x9e, 0, 0, 0x10, 0, 1, 0, 16,
        0x9e, 0, 0, 0x12, 0, 1, 0, 16,
        0xa0, 0, 0, 0, 0, 0, 0, 12,
        0xa3, 0, 0, 0x05, 0, 1, 0, 12,
        0xa3, 0, 0, 0x0a, 0, 1, 0, 12,
        0xa3, 0, 0, 0x0c, 0, 1, 0, 12,
        0xa3, 0, 0, 0x0d, 0, 1, 0, 12,
        0xa3, 0, 0, 0x0f, 0, 1, 0, 12,
        0xa4, 0, 0, 0x06, 0, 1, 0, 12,
        0xa4, 0, 0, 0x0a, 0, 1, 0, 12,
        0xa4, 0, 0, 0x0f, 0, 1, 0, 12,
        0xa8, 0, 0, 0, 0, 0, 0, 12,
        0xaa, 0, 0, 0, 0, 0, 0, 12,
        0xae, 0, 0, 0, 0, 0, 0, 12,
        0xaf, 0, 0, 0, 0, 0, 0, 12,
        0xb7, 0, 0, 0, 0, 0, 0, 12,
    ];
    let ask = |options, length: u8| [0xa3, 0x0c, options, 0, 0, 0, 0, 0, 8, length, 0, 0];
    assert_eq!(answered(&ask(0, 0), Some(&unit()), None), want);
    let mut short = ask(0, 10);
    short[8] = 0;
    assert_eq!(answered(&short, Some(&unit()), None), want[..10]);

    let with_timeouts = answered(&ask(0x80, 0), Some(&unit()), None);
    assert_eq!(with_timeouts.len(), 4 + 85 * 20);
    assert_eq!(with_timeouts[..4], [0, 0, 0x06, 0xa4]);
    assert_eq!(
        with_timeouts[1384..1404],
        [0x9e, 0, 0, 0x10, 0, 3, 0, 16, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn what_a_unit_does_not_have_is_not_told() {
    let ask = |opcode, unit: &UnitView| {
        answered(&[0xa3, 0x0c, 1, opcode, 0, 0, 0, 0, 0, 4, 0, 0], Some(unit), None)
    };
    let thin = UnitView {
        unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false }),
        ..unit()
    };
    let offloads = Offloads { atomic_write_blocks: 1, ..Offloads::default() };
    let atomic = UnitView { offloads, ..unit() };
    for (opcode, has, has_not) in [(0x42, &thin, &atomic), (0x9c, &atomic, &thin)] {
        assert_eq!(ask(opcode, has)[..2], [0, 3]);
        assert_eq!(ask(opcode, has_not)[..2], [0, 1]);
    }
    let erased = UnitView { offloads: Offloads { erase: true, ..Offloads::default() }, ..unit() };
    let ask_erase =
        |unit: &UnitView| answered(&[0xa3, 0x0c, 2, 0x48, 0, 2, 0, 0, 0, 4, 0, 0], Some(unit), None);
    assert_eq!(ask_erase(&erased)[..2], [0, 3]);
    assert_eq!(ask_erase(&unit())[..2], [0, 1]);
    let ask_key =
        |unit: &UnitView| answered(&[0xa3, 0x0c, 2, 0x48, 0, 3, 0, 0, 0, 4, 0, 0], Some(unit), None);
    for (erase_blocks, erase_key) in [(false, false), (false, true), (true, false), (true, true)] {
        let offloads = Offloads { erase_blocks, erase_key, ..Offloads::default() };
        let unit = UnitView { offloads, ..unit() };
        assert_eq!(ask_erase(&unit)[1] == 3, erase_blocks);
        assert_eq!(ask_key(&unit)[1] == 3, erase_key);
    }
    assert_eq!(ask_key(&erased)[..2], [0, 1]);
    let ask_long =
        |unit: &UnitView| answered(&[0xa3, 0x0c, 2, 0x7f, 0, 9, 0, 0, 0, 4, 0, 0], Some(unit), None);
    assert_eq!(ask_long(&unit())[..2], [0, 3]);
    assert_eq!(ask_long(&UnitView { protection: Some(Protection::Type1), ..unit() })[..2], [0, 1]);
}

#[test]
fn one_operation_code() {
    let ask = |options, opcode, action| {
        answered(&[0xa3, 0x0c, options, opcode, 0, action, 0, 0, 1, 0, 0, 0], Some(&unit()), None)
    };
    let read = [0, 3, 0, 10, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0];
    assert_eq!(ask(1, 0x28, 0), read);
    assert_eq!(ask(3, 0x28, 0), read);
    let capacity = [0, 3, 0, 16, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
    assert_eq!(ask(2, 0x9e, 0x10), capacity);
    let write_same = [
        0, 3, 0, 32, 0x7f, 0, 0, 0, 0, 0, 0x3f, 0x18, 0, 0x0d, 0x19, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ];
    assert_eq!(ask(2, 0x7f, 0x0d), write_same);
    assert_eq!(ask(3, 0x7f, 0x0d), write_same);
    assert_eq!(ask(3, 0x9e, 0x10), capacity);
    assert_eq!(
        ask(0x82, 0xa3, 0x0c),
        [
            0, 0x83, 0, 12, 0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x0a, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    let unsupported = [0, 1, 0, 0];
    assert_eq!(ask(1, 0xff, 0), unsupported);
    assert_eq!(ask(0x82, 0x9e, 0x13), unsupported);
    assert_eq!(ask(2, 0xff, 0), unsupported);
    assert_eq!(ask(3, 0x28, 1), unsupported);
    assert_eq!(ask(3, 0x7f, 7), unsupported, "XDWRITEREAD(32)");
    assert_eq!(ask(3, 0x9e, 0), unsupported);
    let wide = [0xa3, 0x0c, 2, 0x9e, 0x01, 0x10, 0, 0, 1, 0, 0, 0];
    assert_eq!(answered(&wide, Some(&unit()), None), unsupported, "a service action of more than a byte");
}
