//! MODE SENSE and MODE SELECT, byte by byte.

use super::{answered, cdb, planned, refused, unit};
use crate::scsi::report::mode::select;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Modes, UnitView};
use crate::scsi::{Plan, Status};

const CACHING: [u8; 20] = [0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const CONTROL: [u8; 12] = [0x0a, 10, 0x20, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x1c, 10, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SHORT: [u8; 8] = [0, 0, 3, 0xe8, 0, 0, 2, 0];

/// A unit whose device has a volatile cache, in use.
fn cached() -> UnitView {
    UnitView { write_cache: true, modes: Modes::new(true), ..unit() }
}

/// MODE SELECT(6) of `list`, with PF.
fn select_6(list: &[u8], unit: &UnitView) -> Result<Modes, Sense> {
    select(&cdb(&[0x15, 0x10, 0, 0, u8::try_from(list.len()).unwrap(), 0]), list, unit)
}

/// MODE SELECT(10) of `list`, with PF.
fn select_10(list: &[u8], unit: &UnitView) -> Result<Modes, Sense> {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    select(&cdb(&[0x55, 0x10, 0, 0, 0, 0, 0, high, low, 0]), list, unit)
}

/// MODE SELECT(6) of one page without block descriptor.
fn select_page(page: &[u8], unit: &UnitView) -> Result<Modes, Sense> {
    select_6(&[&[0; 4], page].concat(), unit)
}

/// A page with some bytes replaced.
fn with<const N: usize>(mut page: [u8; N], bytes: &[(usize, u8)]) -> [u8; N] {
    bytes.iter().for_each(|(at, byte)| page[*at] = *byte);
    page
}

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
fn what_can_be_changed_is_told() {
    let caching = |wce| with(CACHING, &[(2, wce)]);
    let control = [0x0a, 10, 0x04, 0, 0x08, 0, 0, 0, 0, 0, 0, 0];
    let exceptions = [0x1c, 10, 0x99, 0x0f, 255, 255, 255, 255, 255, 255, 255, 255];
    let ask = [0x1a, 8, 0x7f, 0, 255, 0];
    assert_eq!(
        answered(&ask, Some(&cached()), None),
        [&[47, 0, 0x10, 0][..], &caching(0x04), &control, &exceptions].concat()
    );
    assert_eq!(
        answered(&ask, Some(&unit()), None),
        [&[47, 0, 0x10, 0][..], &caching(0), &control, &exceptions].concat(),
        "a cache that is not there cannot be switched on"
    );
}

#[test]
fn current_and_default_values_differ_once_changed() {
    let modes = Modes {
        write_cache: false,
        descriptor_sense: true,
        write_protect: true,
        exceptions: [0x10, 6, 0, 0, 0, 7, 0, 0, 0, 9],
        ..Modes::new(true)
    };
    let unit = UnitView { modes, ..cached() };
    assert_eq!(
        answered(&[0x1a, 8, 0x3f, 0, 255, 0], Some(&unit), None),
        [
            &[47, 0, 0x90, 0][..],
            &CACHING,
            &[0x0a, 10, 0x24, 0x10, 0x08, 0x40, 0, 0, 0, 0, 0, 0],
            &[0x1c, 10, 0x10, 6, 0, 0, 0, 7, 0, 0, 0, 9]
        ]
        .concat()
    );
    assert_eq!(
        answered(&[0x1a, 8, 0xbf, 0, 255, 0], Some(&unit), None),
        [&[47, 0, 0x90, 0][..], &with(CACHING, &[(2, 0x04)]), &CONTROL, &EXCEPTIONS].concat()
    );
}

#[test]
fn mode_pages_show_the_logical_unit() {
    let unit = UnitView { read_only: true, blocks: 0x1_0000_0000, block_bytes: 4096, ..cached() };
    let data = answered(&[0x1a, 0, 0x3f, 0, 255, 0], Some(&unit), None);
    assert_eq!(data[..15], [55, 0, 0x90, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0, 0x08, 18, 0x04]);
}

#[test]
fn mode_select_is_planned() {
    assert_eq!(planned(&[0x15, 0x10, 0, 0, 16, 0], &unit()), Plan::Ask { parameter_bytes: 16 });
    assert_eq!(
        planned(&[0x55, 0x10, 0, 0, 0, 0, 0, 0x01, 0x02, 0], &unit()),
        Plan::Ask { parameter_bytes: 0x102 }
    );
    assert_eq!(planned(&[0x15, 0x10, 0, 0, 0, 0], &unit()), Plan::End(Status::Good), "nothing to select");
    assert_eq!(planned(&[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0], &unit()), Plan::End(Status::Good));
    assert_eq!(refused(&[0x15, 0, 0, 0, 16, 0], &unit()), Sense::invalid_bit(1, 4), "PF=0");
    assert_eq!(refused(&[0x15, 0x11, 0, 0, 16, 0], &unit()), Sense::invalid_bit(1, 0), "SP=1");
    assert_eq!(refused(&[0x55, 0x12, 0, 0, 0, 0, 0, 0, 16, 0], &unit()), Sense::invalid_bit(1, 1), "RTD=1");
}

#[test]
fn each_changeable_field_is_selected() {
    let unit = cached();
    let was = Modes::new(true);
    assert_eq!(select_page(&with(CACHING, &[(2, 0x04)]), &unit), Ok(was), "as it is");
    assert_eq!(select_page(&CACHING, &unit), Ok(Modes { write_cache: false, ..was }));
    assert_eq!(select_page(&with(CONTROL, &[(2, 0x24)]), &unit), Ok(Modes { descriptor_sense: true, ..was }));
    assert_eq!(select_page(&with(CONTROL, &[(4, 0x08)]), &unit), Ok(Modes { write_protect: true, ..was }));
    assert_eq!(
        select_page(&[0x1c, 10, 0x91, 4, 1, 2, 3, 4, 5, 6, 7, 8], &unit),
        Ok(Modes { exceptions: [0x91, 4, 1, 2, 3, 4, 5, 6, 7, 8], ..was })
    );
    // What was changed before stays, and can be taken back.
    let changed = UnitView { modes: Modes { write_cache: false, write_protect: true, ..was }, ..unit };
    assert_eq!(select_page(&CONTROL, &changed), Ok(Modes { write_cache: false, ..was }));
}

#[test]
fn several_pages_after_either_header_and_block_descriptor() {
    let unit = cached();
    let pages = [&CACHING[..], &with(CONTROL, &[(2, 0x24)])].concat();
    let want = Ok(Modes { write_cache: false, descriptor_sense: true, ..Modes::new(true) });
    // MODE DATA LENGTH and the device-specific parameter come back from MODE SENSE and mean nothing.
    assert_eq!(select_6(&[&[55, 0, 0x90, 8][..], &SHORT, &pages].concat(), &unit), want);
    assert_eq!(select_10(&[&[0, 66, 0, 0x10, 0, 0, 0, 8][..], &SHORT, &pages].concat(), &unit), want);
    let long = [0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 2, 0];
    assert_eq!(select_10(&[&[0, 0, 0, 0, 1, 0, 0, 16][..], &long, &pages].concat(), &unit), want);
    assert_eq!(select_10(&[&[0; 8][..], &pages].concat(), &unit), want);
    assert_eq!(select_6(&[0; 4], &unit), Ok(Modes::new(true)), "a header alone");
}

#[test]
fn the_capacity_is_not_for_selection() {
    let unit = unit();
    let short = |blocks: [u8; 4], length: [u8; 3]| {
        let list = [&[0, 0, 0, 8][..], &blocks, &[0], &length].concat();
        select_6(&list, &unit).map(|_| ())
    };
    assert_eq!(short([0, 0, 3, 0xe8], [0, 2, 0]), Ok(()));
    assert_eq!(short([0; 4], [0, 2, 0]), Ok(()), "as it is");
    assert_eq!(short([0xff; 4], [0, 2, 0]), Ok(()), "the most there is");
    assert_eq!(short([0, 0, 3, 0xe7], [0, 2, 0]), Err(Sense::invalid_parameter(4)));
    assert_eq!(short([0, 0, 3, 0xe8], [0, 0x10, 0]), Err(Sense::invalid_parameter(9)));
    let long = |blocks: [u8; 8], length: [u8; 4]| {
        let list = [&[0, 0, 0, 0, 1, 0, 0, 16][..], &blocks, &[0; 4], &length].concat();
        select_10(&list, &unit).map(|_| ())
    };
    assert_eq!(long([0, 0, 0, 0, 0, 0, 3, 0xe8], [0, 0, 2, 0]), Ok(()));
    assert_eq!(long([0, 0, 0, 1, 0, 0, 3, 0xe8], [0, 0, 2, 0]), Err(Sense::invalid_parameter(8)));
    assert_eq!(long([0; 8], [0, 0, 2, 1]), Err(Sense::invalid_parameter(20)));
}

#[test]
fn headers_that_are_wrong() {
    let unit = unit();
    assert_eq!(select_6(&[0, 1, 0, 0], &unit), Err(Sense::invalid_parameter(1)), "MEDIUM TYPE");
    assert_eq!(select_10(&[0, 0, 1, 0, 0, 0, 0, 0], &unit), Err(Sense::invalid_parameter(2)));
    for length in [1, 7, 9, 16] {
        let list = [&[0, 0, 0, length][..], &[0; 16]].concat();
        assert_eq!(select_6(&list, &unit), Err(Sense::invalid_parameter(3)), "{length}");
    }
    let list = [&[0, 0, 0, 0, 1, 0, 0, 8][..], &SHORT].concat();
    assert_eq!(select_10(&list, &unit), Err(Sense::invalid_parameter(6)), "LONGLBA with a short descriptor");
    let list = [&[0, 0, 0, 0, 0, 0, 1, 8][..], &[0; 264]].concat();
    assert_eq!(select_10(&list, &unit), Err(Sense::invalid_parameter(6)), "two bytes of length");
}

#[test]
fn lists_that_are_cut_off() {
    let unit = cached();
    let list = [&[0, 0, 0, 8][..], &SHORT, &CACHING, &CONTROL].concat();
    for length in 1..list.len() {
        // The pages of a whole number of them are complete.
        let want = match length {
            12 => Ok(Modes::new(true)),
            32 => Ok(Modes { write_cache: false, ..Modes::new(true) }),
            _ => Err(Sense::PARAMETER_LIST_LENGTH),
        };
        assert_eq!(select_6(&list[..length], &unit), want, "{length}");
    }
    // Less came than the CDB says, or more.
    let says = |length| cdb(&[0x15, 0x10, 0, 0, length, 0]);
    assert_eq!(select(&says(33), &list[..32], &unit), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(select(&says(31), &list[..32], &unit), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(select(&says(4), &[], &unit), Err(Sense::PARAMETER_LIST_LENGTH));
}

#[test]
fn pages_that_are_not_there() {
    let unit = cached();
    let at = |byte, bit| Err(Sense::invalid_parameter_bit(byte, bit));
    assert_eq!(select_page(&[0x01, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &unit), at(4, 5));
    assert_eq!(select_page(&[0x3f, 0], &unit), at(4, 5));
    assert_eq!(select_page(&with(CONTROL, &[(0, 0x8a)]), &unit), at(4, 7), "PS");
    assert_eq!(select_page(&[0x4a, 0x01, 0, 28], &unit), Err(Sense::invalid_parameter(5)), "a subpage");
    assert_eq!(select_page(&[0x41, 0x01, 0, 28], &unit), at(4, 5), "a subpage of a page that is not there");
    assert_eq!(select_page(&with(CONTROL, &[(1, 9)]), &unit), Err(Sense::invalid_parameter(5)));
    assert_eq!(select_page(&with(CACHING, &[(1, 10)]), &unit), Err(Sense::invalid_parameter(5)));
    // The second of two.
    let list = [&CACHING[..], &[0x0a, 9]].concat();
    assert_eq!(select_page(&list, &unit), Err(Sense::invalid_parameter(25)));
}

#[test]
fn what_cannot_be_changed_is_named() {
    let unit = cached();
    let caching = |at, byte| select_page(&with(CACHING, &[(2, 0x04), (at, byte)]), &unit).unwrap_err();
    let control = |at, byte| select_page(&with(CONTROL, &[(at, byte)]), &unit).unwrap_err();
    let exceptions = |at, byte| select_page(&with(EXCEPTIONS, &[(at, byte)]), &unit).unwrap_err();
    let bit = Sense::invalid_parameter_bit;
    let byte = Sense::invalid_parameter;
    assert_eq!(caching(2, 0x05), bit(6, 0), "RCD");
    assert_eq!(caching(2, 0x85), bit(6, 7), "IC comes before RCD");
    assert_eq!(caching(3, 0x10), bit(7, 7), "DEMAND READ RETENTION PRIORITY");
    assert_eq!(caching(3, 0x01), bit(7, 3), "WRITE RETENTION PRIORITY");
    assert_eq!(caching(5, 0x01), byte(8), "DISABLE PREFETCH TRANSFER LENGTH");
    assert_eq!(caching(12, 0x20), bit(16, 5), "DRA");
    assert_eq!(caching(13, 0x01), byte(17), "NUMBER OF CACHE SEGMENTS");
    assert_eq!(caching(19, 0x01), byte(21));
    assert_eq!(control(2, 0x00), bit(6, 7), "TST");
    assert_eq!(control(2, 0x21), bit(6, 0), "RLEC");
    assert_eq!(control(3, 0x00), bit(7, 7), "QUEUE ALGORITHM MODIFIER");
    assert_eq!(control(3, 0x12), bit(7, 2), "QERR");
    assert_eq!(control(4, 0x10), bit(8, 5), "UA_INTLCK_CTRL");
    assert_eq!(control(5, 0x00), bit(9, 6), "TAS");
    assert_eq!(control(5, 0x41), bit(9, 2), "AUTOLOAD MODE");
    assert_eq!(control(9, 0x01), byte(12), "BUSY TIMEOUT PERIOD");
    assert_eq!(exceptions(2, 0x0c), bit(6, 2), "TEST");
    assert_eq!(exceptions(3, 0x10), bit(7, 7), "reserved");
    for method in [0x1, 0x7, 0xc, 0xf] {
        assert_eq!(exceptions(3, method), bit(7, 3), "MRIE {method:x}h");
    }
    let no_cache = super::unit();
    assert_eq!(
        select_page(&with(CACHING, &[(2, 0x04)]), &no_cache),
        Err(Sense::invalid_parameter_bit(6, 2)),
        "WCE where there is no cache"
    );
}

#[test]
fn all_of_it_is_judged_before_any_of_it_holds() {
    // `select` has no effect but its result: a good page before a bad one yields nothing.
    let list = [&[0; 4][..], &CACHING, &with(CONTROL, &[(5, 0)])].concat();
    assert_eq!(select_6(&list, &cached()), Err(Sense::invalid_parameter_bit(29, 6)));
}

#[test]
fn a_unit_that_an_initiator_protects_is_write_protected() {
    let unit = UnitView { modes: Modes { write_protect: true, ..Modes::new(false) }, ..unit() };
    assert_eq!(refused(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], &unit), Sense::WRITE_PROTECTED);
    assert!(matches!(planned(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &unit), Plan::Read(_)));
    assert!(
        matches!(planned(&[0x15, 0x10, 0, 0, 16, 0], &unit), Plan::Ask { .. }),
        "so that it can be undone"
    );
}

#[test]
fn writes_go_through_a_cache_that_is_switched_off() {
    let off = Modes::new(false);
    assert!(!cached().is_write_through());
    assert!(UnitView { modes: off, ..cached() }.is_write_through());
    assert!(!UnitView { modes: off, ..unit() }.is_write_through(), "no cache, nothing to go through");
}
