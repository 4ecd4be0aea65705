//! Parameter data, byte by byte.

use super::{answered, refused, target, unit};
use crate::bdev::allocation::{Allocation, State, Teller};
use crate::bdev::{Offloads, Unmap};
use crate::id::NexusId;
use crate::limits::{PARAMETER_BYTES_MAX, TARGET_LUNS_MAX};
use crate::scsi::buffers::Buffers;
use crate::scsi::copy::Results;
use crate::scsi::report::{Facts, Report};
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, LunNumber, Mapping, Medium, TargetView, UnitView};
use crate::scsi::{Place, Plan, plan, report};
use crate::time::Tick;

/// What is written of a report.
fn filled(report: &Report, place: &Place<'_>, out: &mut [u8]) -> usize {
    let facts = Facts {
        protocol_level: 0,
        attentions: None,
        now: Tick::ZERO,
        buffers: &Buffers::default(),
        copies: &Results::default(),
        tokens: None,
        allocation: None,
    };
    report::fill(report, place, facts, out).unwrap()
}

/// INQUIRY for a vital product data page.
fn page(code: u8, unit: &UnitView) -> Vec<u8> {
    answered(&[0x12, 0x01, code, 0x02, 0x00, 0], Some(unit), None)
}

#[test]
fn standard_inquiry() {
    let mut want = Vec::new();
    want.extend([0x00, 0x00, 0x06, 0x12, 91, 0x18, 0x00, 0x02]);
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
        assert_eq!(data[..8], [0x7f, 0x00, 0x06, 0x12, 91, 0x18, 0x00, 0x02]);
        assert_eq!(data[8..], [b' '; 28]);
        assert_eq!(answered(&[0x12, 1, 0, 0, 36, 0], unit, None), [0x7f, 0x00, 0x00, 0x01, 0x00]);
    }
}

#[test]
fn supported_pages() {
    assert_eq!(
        page(0x00, &unit()),
        [0, 0, 0, 10, 0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2]
    );
    assert_eq!(answered(&[0x12, 1, 0, 0, 6, 0], Some(&unit()), None), [0, 0, 0, 10, 0x00, 0x80]);
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
fn designators_that_were_chosen_stand_for_those_of_the_unit() {
    let mut unit = unit();
    unit.identity.designators = vec![0x01, 0x01, 0, 3, 0x49, 0x00, 0xff, 0x02, 0x01, 0, 1, b'x'];
    let page = page(0x83, &unit);
    assert_eq!(page[4..16], [0x01, 0x01, 0, 3, 0x49, 0x00, 0xff, 0x02, 0x01, 0, 1, b'x']);
    assert_eq!(page[16..24], [0x51, 0x94, 0x00, 4, 0, 0, 1, 2], "then those of the port");
}

#[test]
fn the_longest_identification_fits() {
    let mut unit = unit();
    unit.identity.t10 = Some("t".repeat(64));
    unit.identity.naa = [0x60; 16].into();
    unit.identity.eui64 = Some([7; 8]);
    let target = TargetView { name: "n".repeat(300), ..target() };
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let Plan::Report(report) = plan(&super::cdb(&[0x12, 1, 0x83, 0xff, 0xff]), &place) else { panic!() };
    let mut out = [0; 1024];
    let length = filled(&report, &place, &mut out);
    // (4 + 16) + (4 + 8) + (4 + 72) + 8 + 8 + (4 + 236) + (4 + 224), after the header.
    assert_eq!(out[..8], [0x00, 0x83, 0x02, 0x50, 0x01, 0x03, 0x00, 16]);
    assert_eq!(out[24..36], [0x01, 0x02, 0x00, 8, 7, 7, 7, 7, 7, 7, 7, 7]);
    assert_eq!(out[36..52], *b"\x02\x01\x00\x48LUNETTE tttt");
    assert_eq!(length, 4 + 592);
    assert_eq!(out[128..132], [0x53, 0x98, 0x00, 236]);
    assert_eq!(out[368..372], [0x53, 0xa8, 0x00, 224]);
}

#[test]
fn every_port_of_the_target() {
    let mut want = vec![0x00, 0x88, 0x00, 104];
    want.extend([0, 0, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 40, 0x53, 0x98, 0, 36]);
    want.extend(b"iqn.2026-11.example:disk,t,0x0a1b\0\0\0");
    want.extend([0, 0, 0x02, 0x03, 0, 0, 0, 0, 0, 0, 0, 40, 0x53, 0x98, 0, 36]);
    want.extend(b"iqn.2026-11.example:disk,t,0x0002\0\0\0");
    assert_eq!(page(0x88, &unit()), want);
}

#[test]
fn where_the_status_page_is() {
    let url = |url: &str| UnitView { status_url: Some(url.into()), ..unit() };
    let shown = page(0x85, &url("http://192.0.2.1:81/"));
    assert_eq!(shown, [&[0x00, 0x85, 0, 28, 0x43, 0, 0, 24][..], b"http://192.0.2.1:81/\0\0\0\0"].concat());
    let shown = page(0x85, &url("http://192.0.2.1:9100/"));
    assert_eq!(shown, [&[0x00, 0x85, 0, 28, 0x43, 0, 0, 24][..], b"http://192.0.2.1:9100/\0\0"].concat());
    assert_eq!(page(0x00, &url("http://192.0.2.1/"))[3..9], [11, 0x00, 0x80, 0x83, 0x85, 0x86]);
    assert_eq!(refused(&[0x12, 1, 0x85, 0, 255, 0], &unit()), Sense::invalid_byte(2), "there is none");
    let drive = UnitView { kind: DeviceKind::CdRom, ..url("http://192.0.2.1/") };
    assert_eq!(page(0x00, &drive)[3..], [3, 0x00, 0x80, 0x83]);
}

#[test]
fn extended_inquiry() {
    let mut want = [0; 64];
    want[..8].copy_from_slice(&[0x00, 0x86, 0x00, 0x3c, 0x00, 0x07, 0x00, 0x01]);
    assert_eq!(page(0x86, &unit()), want);
    want[6] = 0x01;
    assert_eq!(page(0x86, &UnitView { write_cache: true, ..unit() }), want);
}

/// Space is freed in units of 64 KiB.
fn thin() -> UnitView {
    UnitView { unmap: Some(Unmap { granularity_blocks: 128, reads_zeroes: true, anchors: false }), ..unit() }
}

#[test]
fn block_limits() {
    #[rustfmt::skip]
    let mut want = [
        0x00, 0xb0, 0x00, 0x3c,
        0x01, 255, 0, 8, // WSNZ, COMPARE AND WRITE of a byte's worth, granularity
        0x00, 0x00, 0x80, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, // MAXIMUM TRANSFER LENGTH 16 MiB
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // no UNMAP
        0, 0, 0, 0, 0x00, 0x00, 0x80, 0x00, // MAXIMUM WRITE SAME LENGTH
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(page(0xb0, &unit()), want);

    want[20..36].copy_from_slice(&[0x00, 0x10, 0x00, 0x00, 0, 0, 1, 0, 0, 0, 0, 128, 0x80, 0, 0, 0]);
    assert_eq!(page(0xb0, &thin()), want);

    let large = UnitView { block_bytes: 4096, ..unit() };
    want[4..12].copy_from_slice(&[0x01, 32, 0, 1, 0x00, 0x00, 0x10, 0x00]);
    want[20..36].fill(0);
    assert_eq!(page(0xb0, &large), want);

    // MAXIMUM ATOMIC TRANSFER LENGTH: 256 KiB, or what the device says.
    let offloads = Offloads { atomic_write_blocks: u32::MAX, ..Offloads::default() };
    want[44..48].copy_from_slice(&[0, 0, 0, 64]);
    assert_eq!(page(0xb0, &UnitView { offloads, ..large.clone() }), want);
    let offloads = Offloads { atomic_write_blocks: 8, ..Offloads::default() };
    want[44..48].copy_from_slice(&[0, 0, 0, 8]);
    assert_eq!(page(0xb0, &UnitView { offloads, ..large }), want);
}

#[test]
fn mode_page_policy() {
    assert_eq!(page(0x87, &unit()), [0x00, 0x87, 0x00, 0x04, 0x3f, 0xff, 0x00, 0]);
}

#[test]
fn block_characteristics_and_provisioning() {
    let mut want = [0; 64];
    want[..6].copy_from_slice(&[0x00, 0xb1, 0x00, 0x3c, 0x00, 0x01]);
    assert_eq!(page(0xb1, &unit()), want);
    want[5] = 0;
    assert_eq!(page(0xb1, &UnitView { rotational: true, ..unit() }), want);
    (want[5], want[7]) = (1, 0x40);
    let offloads = Offloads { erase: true, ..Offloads::default() };
    assert_eq!(page(0xb1, &UnitView { offloads, ..unit() }), want, "WABEREQ");
    want[7] = 0x50;
    let offloads = Offloads { erase_blocks: true, erase_key: true, ..Offloads::default() };
    assert_eq!(page(0xb1, &UnitView { offloads, ..unit() }), want, "WABEREQ, WACEREQ");
    assert_eq!(page(0xb2, &unit()), [0x00, 0xb2, 0x00, 0x04, 0, 0, 0, 0]);
    assert_eq!(page(0xb2, &thin()), [0x00, 0xb2, 0x00, 0x04, 0, 0xe4, 0x02, 0]);
    let anchors = UnitView { unmap: thin().unmap.map(|unmap| Unmap { anchors: true, ..unmap }), ..unit() };
    assert_eq!(page(0xb2, &anchors), [0x00, 0xb2, 0x00, 0x04, 0, 0xe6, 0x02, 0], "ANC_SUP");
    let stale = UnitView {
        unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: false, anchors: false }),
        ..unit()
    };
    assert_eq!(page(0xb2, &stale), [0x00, 0xb2, 0x00, 0x04, 0, 0xe0, 0x02, 0]);
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
    let place = Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: None };
    let Plan::Report(report) = plan(&super::cdb(&[0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), &place)
    else {
        panic!()
    };
    let mut out = vec![0; PARAMETER_BYTES_MAX as usize];
    assert_eq!(filled(&report, &place, &mut out), 8 + 8 * TARGET_LUNS_MAX);
    assert_eq!(out[..8], [0, 0, 0x20, 0, 0, 0, 0, 0]);
}

#[test]
fn read_capacity() {
    let long = [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    assert_eq!(answered(&[0x25], Some(&unit()), None), [0, 0, 3, 0xe7, 0, 0, 2, 0]);
    let mut want = [0; 32];
    want[..14].copy_from_slice(&[0, 0, 0, 0, 0, 0, 3, 0xe7, 0, 0, 2, 0, 0, 3]);
    assert_eq!(answered(&long, Some(&unit()), None), want);
    want[14] = 0xc0;
    assert_eq!(answered(&long, Some(&thin()), None), want, "LBPME and LBPRZ");
    want[14] = 0x80;
    let stale = UnitView {
        unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: false, anchors: false }),
        ..unit()
    };
    assert_eq!(answered(&long, Some(&stale), None), want, "LBPME alone");
    want[14] = 0;

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

#[test]
fn lba_status() {
    let ask = |lba: u8, length| {
        let cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 3, lba, 0, 0, 0, length, 0, 0];
        answered(&cdb, Some(&unit()), None)
    };
    #[rustfmt::skip]
    let want = [
        0, 0, 0, 20, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 3, 0xe0, 0, 0, 0, 8, 0, 0, 0, 0,
    ];
    assert_eq!(ask(0xe0, 255), want);
    assert_eq!(ask(0xe0, 24), want);
    assert_eq!(ask(0xe0, 18), want[..18]);
    let huge = UnitView { blocks: 0x1_0000_0009, ..unit() };
    let cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 24, 0, 0];
    #[rustfmt::skip]
    let want = [
        0, 0, 0, 20, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
    ];
    assert_eq!(answered(&cdb, Some(&huge), None), want, "as many as the field can say");
}

#[test]
fn lba_status_as_the_device_tells_it() {
    let thin = UnitView {
        blocks: 0x400,
        unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false }),
        ..unit()
    };
    let target = target();
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&thin, false)) };
    let report_of = |length| {
        let cdb = super::cdb(&[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 3, 0xe0, 0, 0, 0, length, 0, 0]);
        let Plan::Report(report) = plan(&cdb, &place) else { panic!() };
        report
    };
    assert!(!report_of(8).asks_device(), "no descriptor is wanted");
    let report = report_of(56);
    assert!(report.asks_device());
    let told = |allocation: &Allocation| {
        let facts = Facts {
            protocol_level: 0,
            attentions: None,
            now: Tick::ZERO,
            buffers: &Buffers::default(),
            copies: &Results::default(),
            tokens: None,
            allocation: Some(allocation),
        };
        let mut out = [0xee; 64];
        let length = report::fill(&report, &place, facts, &mut out).unwrap();
        out[..length].to_vec()
    };
    let mut teller = Teller::new(0x3e0, 100, 512);
    teller.hole_to(0x3f0 * 512);
    teller.data_to(0x3f8 * 512);
    teller.is_to(u64::MAX, State::Anchored);
    #[rustfmt::skip]
    let want = [
        0, 0, 0, 52, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 3, 0xe0, 0, 0, 0, 16, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 3, 0xf0, 0, 0, 0, 8, 0, 0, 0, 0,
        // There are no more blocks.
        0, 0, 0, 0, 0, 0, 3, 0xf8, 0, 0, 0, 8, 2, 0, 0, 0,
    ];
    assert_eq!(told(&teller.finish()), want);
    #[rustfmt::skip]
    let unknown = [
        0, 0, 0, 20, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 3, 0xe0, 0, 0, 0, 32, 0, 0, 0, 0,
    ];
    assert_eq!(told(&Allocation::default()), unknown);
}

#[test]
fn defects() {
    let unit = unit();
    let short = |request| answered(&[0x37, 0, request, 0, 0, 0, 0, 0, 32, 0], Some(&unit), None);
    assert_eq!(short(0x00), [0, 0x00, 0, 0]);
    assert_eq!(short(0x1d), [0, 0x1d, 0, 0], "both lists, in physical sector format");
    let long = |request| answered(&[0xb7, request, 0, 0, 0, 9, 0, 0, 0, 32, 0, 0], Some(&unit), None);
    assert_eq!(long(0x0b), [0, 0x0b, 0, 0, 0, 0, 0, 0], "the grown list, in long block format");
}

#[test]
fn task_management_functions() {
    let ask = |repd| answered(&[0xa3, 0x0d, repd, 0, 0, 0, 0, 0, 0, 64, 0, 0], Some(&unit()), None);
    assert_eq!(ask(0), [0xd8, 0, 0, 0]);
    assert_eq!(ask(0x80), [0xd8, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn target_port_groups() {
    let ask =
        |format: u8| answered(&[0xa3, format | 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], Some(&unit()), None);
    let groups = [
        [0x00, 0x8f, 0x01, 0x02, 0, 0, 0, 1, 0, 0, 0x01, 0x02],
        [0x00, 0x8f, 0x02, 0x03, 0, 0, 0, 1, 0, 0, 0x02, 0x03],
    ]
    .concat();
    assert_eq!(ask(0x00), [&[0, 0, 0, 24][..], &groups].concat());
    assert_eq!(ask(0x20), [&[0, 0, 0, 28, 0x10, 0, 0, 0][..], &groups].concat());
}
