//! Parameter data, byte by byte.

use super::{answered, target, unit};
use crate::limits::{PARAMETER_BYTES_MAX, TARGET_LUNS_MAX};
use crate::scsi::view::{LunNumber, Mapping, Medium, TargetView, UnitView};
use crate::scsi::{Place, Plan, plan, report};

/// INQUIRY for a vital product data page.
fn page(code: u8, unit: &UnitView) -> Vec<u8> {
    answered(&[0x12, 0x01, code, 0x02, 0x00, 0], Some(unit), None)
}

#[test]
fn standard_inquiry() {
    let mut want = Vec::new();
    want.extend([0x00, 0x00, 0x06, 0x12, 91, 0x00, 0x00, 0x02]);
    want.extend(b"LUNETTE RAM disk        0.1 ");
    want.extend([0; 22]);
    want.extend([0x00, 0xa0, 0x09, 0x60, 0x04, 0x60, 0x05, 0xc0, 0x04, 0xc0, 0x06, 0x00]);
    want.extend([0; 26]);
    assert_eq!(answered(&[0x12, 0, 0, 0x01, 0x00, 0], Some(&unit()), None), want);
    // ADDITIONAL LENGTH is that of the whole, however little is wanted.
    assert_eq!(answered(&[0x12, 0, 0, 0, 5, 0], Some(&unit()), None), [0x00, 0x00, 0x06, 0x12, 91]);
    assert_eq!(answered(&[0x12, 0, 0, 0, 4, 0], Some(&unit()), None), [0x00, 0x00, 0x06, 0x12]);
    assert_eq!(answered(&[0x12, 0, 0, 0, 0, 0], Some(&unit()), None), Vec::<u8>::new());
}

#[test]
fn inquiry_nowhere() {
    let removed = UnitView { medium: Medium::Removed, ..unit() };
    for unit in [None, Some(&removed)] {
        let data = answered(&[0x12, 0, 0, 0, 36, 0], unit, None);
        assert_eq!(data[..8], [0x7f, 0x00, 0x06, 0x12, 91, 0x00, 0x00, 0x02]);
        assert_eq!(data[8..], [b' '; 28]);
        assert_eq!(answered(&[0x12, 1, 0, 0, 36, 0], unit, None), [0x7f, 0x00, 0x00, 0x01, 0x00]);
    }
}

#[test]
fn supported_pages() {
    assert_eq!(page(0x00, &unit()), [0, 0, 0, 7, 0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    assert_eq!(answered(&[0x12, 1, 0, 0, 6, 0], Some(&unit()), None), [0, 0, 0, 7, 0x00, 0x80]);
}

#[test]
fn serial_number() {
    assert_eq!(page(0x80, &unit()), b"\x00\x80\x00\x100123456789abcdef");
    let mut long = unit();
    long.identity.serial = "x".repeat(65);
    assert_eq!(page(0x80, &long).len(), 4 + 64);
}

#[test]
fn device_identification() {
    let mut want = Vec::new();
    want.extend([0x00, 0x83, 0x00, 144]);
    want.extend([0x01, 0x03, 0x00, 8, 0x35, 1, 2, 3, 4, 5, 6, 7]);
    want.extend([0x02, 0x01, 0x00, 40]);
    want.extend(b"LUNETTE RAM disk        0123456789abcdef");
    want.extend([0x51, 0x94, 0x00, 4, 0x00, 0x00, 0x01, 0x02]);
    want.extend([0x51, 0x95, 0x00, 4, 0x00, 0x00, 0x03, 0x04]);
    want.extend([0x53, 0x98, 0x00, 36]);
    want.extend(b"iqn.2026-11.example:disk,t,0x0a1b\0\0\0");
    want.extend([0x53, 0xa8, 0x00, 28]);
    want.extend(b"iqn.2026-11.example:disk\0\0\0\0");
    assert_eq!(page(0x83, &unit()), want);
}

#[test]
fn the_longest_identification_fits() {
    let mut unit = unit();
    unit.identity.serial = "s".repeat(64);
    let target = TargetView { name: "n".repeat(300), ..target() };
    let place = Place { target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let Plan::Report(report) = plan(&super::cdb(&[0x12, 1, 0x83, 0xff, 0xff]), &place) else { panic!() };
    let mut out = [0; 1024];
    let length = report::fill(&report, &place, None, &mut out);
    // 12 + (4 + 88) + 8 + 8 + (4 + 236) + (4 + 224), after the header.
    assert_eq!(out[..4], [0x00, 0x83, 0x02, 0x4c]);
    assert_eq!(length, 4 + 588);
    assert_eq!(out[124..128], [0x53, 0x98, 0x00, 236]);
    assert_eq!(out[364..368], [0x53, 0xa8, 0x00, 224]);
}

#[test]
fn extended_inquiry() {
    let mut want = [0; 64];
    want[..8].copy_from_slice(&[0x00, 0x86, 0x00, 0x3c, 0x00, 0x07, 0x00, 0x01]);
    assert_eq!(page(0x86, &unit()), want);
    want[6] = 0x01;
    assert_eq!(page(0x86, &UnitView { write_cache: true, ..unit() }), want);
}

#[test]
fn block_limits() {
    let mut want = [0; 64];
    want[..12].copy_from_slice(&[0x00, 0xb0, 0x00, 0x3c, 0, 0, 0, 8, 0x00, 0x00, 0x80, 0x00]);
    assert_eq!(page(0xb0, &unit()), want);
    let large = UnitView { block_bytes: 4096, ..unit() };
    want[6..12].copy_from_slice(&[0, 1, 0x00, 0x00, 0x10, 0x00]);
    assert_eq!(page(0xb0, &large), want);
}

#[test]
fn block_characteristics_and_provisioning() {
    let mut want = [0; 64];
    want[..6].copy_from_slice(&[0x00, 0xb1, 0x00, 0x3c, 0x00, 0x01]);
    assert_eq!(page(0xb1, &unit()), want);
    want[5] = 0;
    assert_eq!(page(0xb1, &UnitView { rotational: true, ..unit() }), want);
    assert_eq!(page(0xb2, &unit()), [0x00, 0xb2, 0x00, 0x04, 0, 0, 0, 0]);
}

#[test]
fn request_sense() {
    let ask = [0x03, 0, 0, 0, 252, 0];
    let away = UnitView { medium: Medium::NotReady, ..unit() };
    assert_eq!(
        answered(&ask, Some(&away), None),
        [0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0, 0, 0, 0, 0]
    );
    assert_eq!(answered(&ask, None, None), [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0]);
    assert_eq!(answered(&[0x03, 1, 0, 0, 252, 0], Some(&unit()), None), [0x72, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(answered(&[0x03, 0, 0, 0, 3, 0], Some(&away), None), [0x70, 0, 2]);
}

#[test]
fn report_luns() {
    let ask = |select| [0xa0, 0, select, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    #[rustfmt::skip]
    let all = [
        0, 0, 0, 24, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 5, 0, 0, 0, 0, 0, 0,
        0x41, 0x2c, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(answered(&ask(0), Some(&unit()), None), all);
    assert_eq!(answered(&ask(2), None, None), all, "served at any LUN");
    assert_eq!(answered(&ask(1), Some(&unit()), None), [0; 8]);
    assert_eq!(answered(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 18, 0, 0], None, None), all[..18]);
}

#[test]
fn the_longest_list_of_luns_fits() {
    let mut target = target();
    let mapping = |number| Mapping { number: LunNumber(number), ..target.mappings[0] };
    target.mappings = (0..16_384).step_by(16_384 / TARGET_LUNS_MAX).map(mapping).collect();
    let place = Place { target: &target, number: LunNumber(0), unit: None };
    let Plan::Report(report) = plan(&super::cdb(&[0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), &place)
    else {
        panic!()
    };
    let mut out = vec![0; PARAMETER_BYTES_MAX as usize];
    assert_eq!(report::fill(&report, &place, None, &mut out), 8 + 8 * TARGET_LUNS_MAX);
    assert_eq!(out[..8], [0, 0, 0x20, 0, 0, 0, 0, 0]);
}

#[test]
fn read_capacity() {
    let long = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(answered(&[0x25], Some(&unit()), None), [0, 0, 3, 0xe7, 0, 0, 2, 0]);
    let mut want = [0; 32];
    want[..14].copy_from_slice(&[0, 0, 0, 0, 0, 0, 3, 0xe7, 0, 0, 2, 0, 0, 3]);
    assert_eq!(answered(&long, Some(&unit()), None), want);

    let huge = UnitView { blocks: 0x1_0000_0001, block_bytes: 4096, physical_block_bytes: 4096, ..unit() };
    assert_eq!(answered(&[0x25], Some(&huge), None), [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
    want[..14].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
    assert_eq!(answered(&long, Some(&huge), None), want);

    // The largest that READ CAPACITY(10) can say, and the first it cannot.
    let edge = |blocks| answered(&[0x25], Some(&UnitView { blocks, ..unit() }), None)[..4].to_vec();
    assert_eq!(edge(0xffff_ffff), [0xff, 0xff, 0xff, 0xfe]);
    assert_eq!(edge(0x1_0000_0000), [0xff, 0xff, 0xff, 0xff]);

    for length in 0..16 {
        let mut short = long;
        short[13] = length;
        assert_eq!(answered(&short, Some(&huge), None), want[..usize::from(length)]);
    }
}

const CACHING: [u8; 20] = [0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x0a, 10, 0x20, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x1c, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SHORT: [u8; 8] = [0, 0, 3, 0xe8, 0, 0, 2, 0];

#[test]
fn mode_sense_6() {
    let sense = |bytes: &[u8]| answered(bytes, Some(&unit()), None);
    let all = [&[55, 0, 0x10, 8][..], &SHORT, &CACHING, &CONTROL, &EXCEPTIONS].concat();
    assert_eq!(sense(&[0x1a, 0, 0x3f, 0, 255, 0]), all);
    assert_eq!(sense(&[0x1a, 0, 0x3f, 0xff, 255, 0]), all, "all subpages");
    assert_eq!(sense(&[0x1a, 0, 0xbf, 0, 255, 0]), all, "default values");
    assert_eq!(sense(&[0x1a, 0, 0x3f, 0, 4, 0]), all[..4]);
    assert_eq!(sense(&[0x1a, 8, 0x08, 0, 255, 0]), [&[23, 0, 0x10, 0][..], &CACHING].concat());
    assert_eq!(sense(&[0x1a, 8, 0x0a, 0xff, 255, 0]), [&[15, 0, 0x10, 0][..], &CONTROL].concat());
    assert_eq!(sense(&[0x1a, 8, 0x1c, 0, 255, 0]), [&[15, 0, 0x10, 0][..], &EXCEPTIONS].concat());
    assert_eq!(
        sense(&[0x1a, 8, 0x7f, 0, 255, 0]),
        [&[47, 0, 0x10, 0, 0x08, 18][..], &[0; 18], &[0x0a, 10], &[0; 10], &[0x1c, 10], &[0; 10]].concat(),
        "nothing is changeable"
    );
}

#[test]
fn mode_sense_10() {
    let sense = |bytes: &[u8]| answered(bytes, Some(&unit()), None);
    assert_eq!(
        sense(&[0x5a, 0, 0x0a, 0, 0, 0, 0, 1, 0, 0]),
        [&[0, 26, 0, 0x10, 0, 0, 0, 8][..], &SHORT, &CONTROL].concat()
    );
    assert_eq!(
        sense(&[0x5a, 0x10, 0x0a, 0, 0, 0, 0, 1, 0, 0]),
        [
            &[0, 34, 0, 0x10, 1, 0, 0, 16][..],
            &[0, 0, 0, 0, 0, 0, 3, 0xe8],
            &[0, 0, 0, 0, 0, 0, 2, 0],
            &CONTROL
        ]
        .concat()
    );
    assert_eq!(
        sense(&[0x5a, 0x18, 0x0a, 0, 0, 0, 0, 0, 10, 0]),
        [0, 18, 0, 0x10, 0, 0, 0, 0, 0x0a, 10],
        "without block descriptor there is no long one"
    );
}

#[test]
fn mode_pages_show_the_logical_unit() {
    let unit = UnitView {
        read_only: true,
        write_cache: true,
        descriptor_sense: true,
        blocks: 0x1_0000_0000,
        block_bytes: 4096,
        ..unit()
    };
    let data = answered(&[0x1a, 0, 0x3f, 0, 255, 0], Some(&unit), None);
    assert_eq!(data[..15], [55, 0, 0x90, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0, 0x08, 18, 0x04]);
    assert_eq!(data[32..36], [0x0a, 10, 0x24, 0x10]);
}

#[test]
fn all_operation_codes() {
    #[rustfmt::skip]
    let want = [
        0, 0, 0, 152,
        0x00, 0, 0, 0, 0, 0, 0, 6,
        0x03, 0, 0, 0, 0, 0, 0, 6,
        0x08, 0, 0, 0, 0, 0, 0, 6,
        0x0a, 0, 0, 0, 0, 0, 0, 6,
        0x12, 0, 0, 0, 0, 0, 0, 6,
        0x1a, 0, 0, 0, 0, 0, 0, 6,
        0x25, 0, 0, 0, 0, 0, 0, 10,
        0x28, 0, 0, 0, 0, 0, 0, 10,
        0x2a, 0, 0, 0, 0, 0, 0, 10,
        0x35, 0, 0, 0, 0, 0, 0, 10,
        0x5a, 0, 0, 0, 0, 0, 0, 10,
        0x88, 0, 0, 0, 0, 0, 0, 16,
        0x8a, 0, 0, 0, 0, 0, 0, 16,
        0x91, 0, 0, 0, 0, 0, 0, 16,
        0x9e, 0, 0, 0x10, 0, 1, 0, 16,
        0xa0, 0, 0, 0, 0, 0, 0, 12,
        0xa3, 0, 0, 0x0c, 0, 1, 0, 12,
        0xa8, 0, 0, 0, 0, 0, 0, 12,
        0xaa, 0, 0, 0, 0, 0, 0, 12,
    ];
    let ask = |options, length: u8| [0xa3, 0x0c, options, 0, 0, 0, 0, 0, 4, length, 0, 0];
    assert_eq!(answered(&ask(0, 0), Some(&unit()), None), want);
    let mut short = ask(0, 10);
    short[8] = 0;
    assert_eq!(answered(&short, Some(&unit()), None), want[..10]);

    let with_timeouts = answered(&ask(0x80, 0), Some(&unit()), None);
    assert_eq!(with_timeouts.len(), 4 + 19 * 20);
    assert_eq!(with_timeouts[..4], [0, 0, 0x01, 0x7c]);
    assert_eq!(
        with_timeouts[284..304],
        [0x9e, 0, 0, 0x10, 0, 3, 0, 16, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
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
    assert_eq!(ask(0x82, 0x9e, 0x12), unsupported);
    assert_eq!(ask(2, 0xff, 0), unsupported);
    assert_eq!(ask(3, 0x28, 1), unsupported);
    assert_eq!(ask(3, 0x9e, 0), unsupported);
    let wide = [0xa3, 0x0c, 2, 0x9e, 0x01, 0x10, 0, 0, 1, 0, 0, 0];
    assert_eq!(answered(&wide, Some(&unit()), None), unsupported, "a service action of more than a byte");
}
