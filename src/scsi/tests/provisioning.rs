//! Thin provisioning: VPD B2h, the mode pages of thresholds, log page 0Ch, byte by byte; and when a threshold is met.

use std::sync::Arc;

use super::{answered, cdb, refused, unit};
use crate::bdev::Unmap;
use crate::bdev::space::{Figures, Space};
use crate::scsi::provisioning::{Met, Resources, Threshold, Thresholds, met, resources, set_exponent};
use crate::scsi::report::mode::select;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Modes, UnitView};

const MIB: u64 = 1 << 20;
const RECOVERY: [u8; 12] = [0x01, 10, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0];
#[rustfmt::skip]
const PROVISIONING: [u8; 32] = [
    0x5c, 0x02, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x00, 1, 0, 0, 0, 0, 0, 0, // available, armed decreasing
    0x01, 2, 0, 0, 0, 0, 0, 0, // used, armed increasing
];

/// One that gives blocks back and has nothing measured yet.
fn thin() -> UnitView {
    let unmap = Some(Unmap { granularity_blocks: 8, reads_zeroes: true, anchors: false });
    UnitView { blocks: 1 << 21, unmap, space: Some(Arc::new(Space::default())), ..unit() }
}

/// One that takes so much and has so much left.
fn measured(used_bytes: u64, available_bytes: u64) -> UnitView {
    let unit = thin();
    unit.space.as_ref().unwrap().set(Figures { used_bytes, available_bytes });
    unit
}

fn ask(bytes: &[u8], unit: &UnitView) -> Vec<u8> {
    answered(bytes, Some(unit), None)
}

#[test]
fn the_vpd_page_says_how_large_a_threshold_set_is() {
    let page = |unit: &UnitView| ask(&[0x12, 1, 0xb2, 0, 255, 0], unit);
    assert_eq!(page(&unit()), [0, 0xb2, 0, 4, 0, 0, 0, 0], "not thin");
    assert_eq!(page(&UnitView { space: None, ..thin() }), [0, 0xb2, 0, 4, 0, 0xe4, 2, 0], "it cannot tell");
    assert_eq!(page(&thin()), [0, 0xb2, 0, 4, 11, 0xe4, 2, 0]);
    assert_eq!(page(&UnitView { block_bytes: 4096, ..thin() }), [0, 0xb2, 0, 4, 8, 0xe4, 2, 0]);
}

#[test]
fn sets_grow_with_the_capacity_so_that_32_bits_count_them() {
    let exponent = |blocks| set_exponent(&UnitView { blocks, ..thin() });
    assert_eq!(
        [exponent(1), exponent((1 << 43) - 1), exponent(1 << 43), exponent(u64::MAX)],
        [11, 11, 12, 32]
    );
}

#[test]
fn resources_are_counted_in_whole_sets() {
    assert_eq!(resources(&thin()), None);
    assert_eq!(resources(&UnitView { unmap: None, ..measured(1, 1) }), None);
    let counted = |used, available| resources(&measured(used, available)).unwrap();
    assert_eq!(counted(0, MIB - 1), Resources { available: 0, used: 0 });
    assert_eq!(counted(1, 2 * MIB), Resources { available: 2, used: 1 });
    assert_eq!(counted(u64::MAX, u64::MAX), Resources { available: u32::MAX, used: u32::MAX });
}

#[test]
fn the_log_page_tells_what_is_left_and_what_is_used() {
    let log = |from, unit: &UnitView| ask(&[0x4d, 0, 0x4c, 0, 0, 0, from, 0, 255, 0], unit);
    let filling = measured(0x12_3456 * MIB, 7 * MIB);
    let left = [0, 1, 3, 8, 0, 0, 0, 7, 0x02, 0, 0, 0];
    let used = [0, 2, 3, 8, 0, 0x12, 0x34, 0x56, 0x01, 0, 0, 0];
    assert_eq!(log(0, &filling), [&[0x0c, 0, 0, 24][..], &left, &used].concat());
    assert_eq!(log(2, &filling), [&[0x0c, 0, 0, 12][..], &used].concat());
    assert_eq!(log(0, &thin()), [0x0c, 0, 0, 0], "nothing was measured yet");
    assert_eq!(refused(&[0x4d, 0, 0x4c, 0, 0, 0, 3, 0, 255, 0], &filling), Sense::invalid_byte(5));
    assert_eq!(refused(&[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0], &unit()), Sense::invalid_bit(2, 5));
    assert_eq!(ask(&[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 255, 0], &filling), [0, 0, 0, 4, 0x00, 0x0c, 0x0d, 0x2f]);
}

#[test]
fn thin_units_have_the_pages_of_thresholds() {
    let sense = |page, subpage| ask(&[0x1a, 8, page, subpage, 255, 0], &thin());
    assert_eq!(sense(0x01, 0), [&[15, 0, 0x10, 0][..], &RECOVERY].concat());
    assert_eq!(sense(0x1c, 2), [&[35, 0, 0x10, 0][..], &PROVISIONING].concat());
    assert_eq!(sense(0x1c, 0).len(), 4 + 12, "without subpages");
    assert_eq!(sense(0x1c, 0xff)[16..], PROVISIONING, "after the page without a subpage code");
    assert_eq!(sense(0x3f, 0).len(), 4 + 12 + 20 + 12 + 12);
    assert_eq!(sense(0x3f, 0xff).len(), 4 + 12 + 20 + 12 + 12 + 32);
    let changeable = sense(0x5c, 2);
    assert_eq!(changeable[..20], [&[35, 0, 0x10, 0][..], &PROVISIONING[..16]].concat());
    assert_eq!(changeable[20..], [[0x80, 0, 0, 0, 255, 255, 255, 255]; 2].concat());
    assert_eq!(sense(0x41, 0)[4..], [0x01, 10, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0]);
    for page in [0x1c, 0x3f] {
        assert_eq!(refused(&[0x1a, 8, page, 3, 255, 0], &thin()), Sense::invalid_byte(3));
        assert_eq!(refused(&[0x1a, 8, page, 2, 255, 0], &unit()), Sense::invalid_byte(3));
    }
    assert_eq!(refused(&[0x1a, 8, 0x01, 0, 255, 0], &unit()), Sense::invalid_bit(2, 5));
}

fn select_page(page: &[u8], unit: &UnitView) -> Result<Thresholds, Sense> {
    let list = [&[0; 4], page].concat();
    let length = u8::try_from(list.len()).unwrap();
    select(&cdb(&[0x15, 0x10, 0, 0, length, 0]), &list, unit).map(|modes| modes.thresholds)
}

/// The provisioning page with some bytes replaced.
fn with(bytes: &[(usize, u8)]) -> [u8; 32] {
    let mut page = PROVISIONING;
    bytes.iter().for_each(|(at, byte)| page[*at] = *byte);
    page
}

#[test]
fn thresholds_are_selected() {
    let none = Thresholds::DEFAULT;
    assert_eq!(select_page(&RECOVERY, &thin()), Ok(none), "as it is");
    assert_eq!(
        select_page(&[0x01, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &thin()),
        Ok(Thresholds { is_told: false, ..none })
    );
    let available = Threshold { is_enabled: true, sets: 0x0102_0304 };
    let page = with(&[(16, 0x80), (20, 1), (21, 2), (22, 3), (23, 4)]);
    assert_eq!(select_page(&page, &thin()), Ok(Thresholds { available, ..none }));
    let used = Threshold { is_enabled: true, sets: 9 };
    assert_eq!(select_page(&with(&[(24, 0x81), (31, 9)]), &thin()), Ok(Thresholds { used, ..none }));
    // And told.
    let modes = Modes { thresholds: Thresholds { is_told: false, available, used }, ..Modes::new(false) };
    let unit = UnitView { modes, ..thin() };
    assert_eq!(
        ask(&[0x1a, 8, 0x1c, 2, 255, 0], &unit)[20..],
        [0x80, 1, 0, 0, 1, 2, 3, 4, 0x81, 2, 0, 0, 0, 0, 0, 9]
    );
    assert_eq!(ask(&[0x1a, 8, 0x01, 0, 255, 0], &unit)[11], 0);
    assert_eq!(ask(&[0x1a, 8, 0x9c, 2, 255, 0], &unit)[4..], PROVISIONING, "the default");
}

#[test]
fn what_cannot_be_selected_is_named() {
    let wrong = |bytes: &[(usize, u8)]| select_page(&with(bytes), &thin()).unwrap_err();
    // The list has four bytes before the page.
    assert_eq!(wrong(&[(4, 1)]), Sense::invalid_parameter_bit(8, 0), "SITUA");
    assert_eq!(wrong(&[(12, 1)]), Sense::invalid_parameter(9), "reserved");
    assert_eq!(wrong(&[(16, 0x08)]), Sense::invalid_parameter_bit(20, 5), "THRESHOLD TYPE");
    assert_eq!(wrong(&[(16, 0x01)]), Sense::invalid_parameter_bit(20, 2), "THRESHOLD ARMING");
    assert_eq!(wrong(&[(17, 2)]), Sense::invalid_parameter(21), "THRESHOLD RESOURCE");
    assert_eq!(wrong(&[(3, 20)]), Sense::invalid_parameter(6), "PAGE LENGTH");
    assert_eq!(wrong(&[(1, 3)]), Sense::invalid_parameter(5), "SUBPAGE CODE");
    assert_eq!(wrong(&[(0, 0xdc)]), Sense::invalid_parameter_bit(4, 7), "PS");
    assert_eq!(select_page(&PROVISIONING[..31], &thin()), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(select_page(&PROVISIONING[..3], &thin()), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(select_page(&PROVISIONING, &unit()), Err(Sense::invalid_parameter(5)), "not thin");
    let mut page = RECOVERY;
    page[7] = 0xc0;
    assert_eq!(select_page(&page, &thin()), Err(Sense::invalid_parameter_bit(11, 6)), "MWR");
}

#[test]
fn a_threshold_is_met_where_it_is_enabled_and_told() {
    let at = |sets| Threshold { is_enabled: true, sets };
    let is_met = |thresholds: Thresholds, used, available| {
        let mut unit = measured(used * MIB, available * MIB);
        unit.modes.thresholds = thresholds;
        met(&unit).exceeds(Met::default())
    };
    let left = Thresholds { available: at(5), ..Thresholds::DEFAULT };
    assert_eq!([4, 5, 6].map(|available| is_met(left, 0, available)), [true, true, false]);
    let used = Thresholds { used: at(5), ..Thresholds::DEFAULT };
    assert_eq!([4, 5, 6].map(|used_sets| is_met(used, used_sets, 0)), [false, true, true]);
    assert!(!is_met(Thresholds { is_told: false, ..left }, 0, 0));
    assert!(!is_met(Thresholds::DEFAULT, 99, 0), "none is enabled");
    // It is told once, and again when it was left meanwhile.
    let unit = |available| UnitView {
        modes: Modes { thresholds: left, ..Modes::new(false) },
        ..measured(0, available)
    };
    let (full, roomy) = (met(&unit(0)), met(&unit(99 * MIB)));
    assert!(full.exceeds(roomy) && !full.exceeds(full) && !roomy.exceeds(full));
}
