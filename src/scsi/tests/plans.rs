//! Commands that are done, not refused.

use super::{cdb, planned, planned_nowhere, target, unit};
use crate::id::NexusId;
use crate::scsi::cdb::Cdb;
use crate::scsi::view::LunNumber;
use crate::scsi::{Access, Extent, Place, Plan, Status, Transfer, plain, plan};

const fn extent(lba: u64, blocks: u32, fua: bool) -> Extent {
    Extent { lba, blocks, fua }
}

#[test]
fn test_unit_ready() {
    assert_eq!(planned(&[0, 0, 0, 0, 0, 0], &unit()), Plan::End(Status::Good));
}

#[test]
fn reads_and_writes_of_every_length() {
    let huge = crate::scsi::view::UnitView { blocks: 1 << 40, ..unit() };
    for (read, write, length, want) in [
        (0x08, 0x0a, &[0x01, 0x02, 0x03, 9, 0][..], extent(0x1_0203, 9, false)),
        (0x08, 0x0a, &[0xe0, 0x02, 0x03, 0, 0], extent(0x203, 256, false)),
        (0x28, 0x2a, &[0x08, 0x81, 2, 3, 4, 0x3f, 0x12, 0x34, 0], extent(0x8102_0304, 0x1234, true)),
        (0x28, 0x2a, &[0x10, 0, 0, 0, 7, 0, 0, 0, 0], extent(7, 0, false)),
        (0xa8, 0xaa, &[0x18, 0, 2, 3, 4, 0, 0, 0x12, 0x34, 0, 0], extent(0x2_0304, 0x1234, true)),
        (
            0x88,
            0x8a,
            &[0x08, 0, 0, 0, 0x91, 0x22, 3, 4, 5, 0, 0, 0x80, 0, 0x3f, 0],
            extent(0x91_2203_0405, 0x8000, true),
        ),
    ] {
        let with = |opcode: u8| [&[opcode], length].concat();
        assert_eq!(planned(&with(read), &huge), Plan::Read(want));
        assert_eq!(planned(&with(write), &huge), Plan::Write(want));
    }
}

#[test]
fn obsolete_and_vendor_specific_bits_are_ignored() {
    let unit = unit();
    let read = Plan::Read(extent(0, 1, false));
    assert_eq!(
        planned(&[0x08, 0xe0, 0, 0, 1, 0xc3], &unit),
        read,
        "LUN, and vendor-specific, FLAG and LINK bits"
    );
    assert_eq!(planned(&[0x28, 0x07, 0, 0, 0, 0, 0, 0, 1, 0xc3], &unit), read, "RARC, FUA_NV, RelAdr");
    assert_eq!(
        planned(&[0x2a, 0x07, 0, 0, 0, 0, 0, 0, 1, 0], &unit),
        Plan::Write(extent(0, 1, false)),
        "EBP"
    );
    assert_eq!(planned(&[0, 0xe0, 0, 0, 0, 0], &unit), Plan::End(Status::Good));
    assert!(matches!(planned(&[0x12, 0xe2, 0, 0, 36, 0], &unit), Plan::Report(_)), "CMDDT");
    assert!(
        matches!(planned(&[0x25, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0], &unit), Plan::Report(_)),
        "LBA and PMI"
    );
    // What follows a short CDB in the header is nobody's.
    assert_eq!(planned(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff], &unit), Plan::End(Status::Good));
}

#[test]
fn the_last_block_can_be_reached() {
    let unit = unit();
    assert_eq!(planned(&[0x28, 0, 0, 0, 3, 0xe7, 0, 0, 1, 0], &unit), Plan::Read(extent(999, 1, false)));
    assert_eq!(planned(&[0x28, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0], &unit), Plan::Read(extent(1000, 0, false)));
}

#[test]
fn caches_are_flushed() {
    let unit = unit();
    assert_eq!(planned(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &unit), Plan::Flush);
    assert_eq!(
        planned(&[0x35, 0x07, 0, 0, 3, 0, 0, 0, 0xe8, 0], &unit),
        Plan::Flush,
        "IMMED and obsolete bits"
    );
    assert_eq!(planned(&[0x91, 0x02, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0], &unit), Plan::Flush);
}

#[test]
fn transfers_are_as_long_as_the_cdb_says() {
    let (target, unit) = (target(), unit());
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let transfer = |bytes: &[u8]| plan(&cdb(bytes), &place).transfer(&place);
    assert_eq!(transfer(&[0, 0, 0, 0, 0, 0]), Transfer::None);
    assert_eq!(transfer(&[0xff]), Transfer::None);
    assert_eq!(transfer(&[0x35]), Transfer::None);
    assert_eq!(transfer(&[0x28, 0, 0, 0, 0, 0, 0, 0, 3, 0]), Transfer::In(1536));
    assert_eq!(transfer(&[0x0a, 0, 0, 0, 0, 0]), Transfer::Out(131_072));
    assert_eq!(transfer(&[0x12, 0, 0, 0x01, 0x04, 0]), Transfer::In(260));
    assert_eq!(transfer(&[0x25]), Transfer::In(8));
    assert_eq!(transfer(&[0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]), Transfer::In(65_536));
}

#[test]
fn nowhere_only_three_commands_are_served() {
    assert!(matches!(planned_nowhere(&[0x12, 0, 0, 0, 36, 0]), Plan::Report(_)));
    assert!(matches!(planned_nowhere(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0]), Plan::Report(_)));
    assert!(matches!(planned_nowhere(&[0x03, 0, 0, 0, 18, 0]), Plan::Report(_)));
}

#[test]
fn the_plain_form_is_what_the_plan_is() {
    let unit = unit();
    let target = target();
    let place =
        Place { nexus: NexusId(7), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let read_only = Place { unit: Some((&unit, true)), ..place };
    let forms = [
        [0x28, 0, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [0x2a, 0x08, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [0x88, 0x10, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0],
        [0x8a, 0x18, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0],
    ];
    for bytes in forms {
        let access = if bytes[0] & 0x0f == 8 { Access::Read } else { Access::Write };
        let extent = Extent { lba: 2, blocks: 1, fua: bytes[1] & 8 != 0 };
        assert_eq!(plain(&bytes, &place), Some((extent, access)));
        let allowed = plain(&bytes, &read_only);
        assert_eq!(allowed.is_some(), access == Access::Read);
        // Every CDB that differs in one byte.
        for at in 0..16 {
            for byte in 0..=u8::MAX {
                let mut other = bytes;
                other[at] = byte;
                let cdb = Cdb::new(other);
                match (plain(&other, &place), plan(&cdb, &place)) {
                    (Some((extent, Access::Read)), plan) => {
                        assert_eq!(plan, Plan::Read(extent), "{other:x?}")
                    }
                    (Some((extent, Access::Write)), plan) => {
                        assert_eq!(plan, Plan::Write(extent), "{other:x?}")
                    }
                    (None, _) => {}
                }
            }
        }
    }
}
