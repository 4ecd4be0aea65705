//! CDBs to plans: data lengths, limits, refusals.

use super::{anchoring, planned, thin, work};
use crate::id::NexusId;
use crate::scsi::sense::Sense;
use crate::scsi::tests::unit;
use crate::scsi::view::{LunNumber, UnitView};
use crate::scsi::work::{Kind, Work, compare_and_write_blocks_max};
use crate::scsi::{Access, Extent, Place, Plan, Status};

const fn extent(lba: u64, blocks: u32, fua: bool) -> Extent {
    Extent { lba, blocks, fua }
}

/// What a plan refuses with.
#[track_caller]
fn refused(bytes: &[u8], unit: &UnitView) -> Sense {
    match planned(bytes, unit) {
        Plan::Refuse(sense) => sense,
        other => panic!("{bytes:02x?} is not refused but {other:?}"),
    }
}

#[test]
fn verify_of_every_length() {
    let unit = thin();
    for (byte_1, kind, bytes) in
        [(0x10, Kind::Verify, 0), (0x12, Kind::Compare, 3 * 512), (0x16, Kind::CompareEach, 512)]
    {
        for cdb in [
            &[0x2f, byte_1, 0, 1, 2, 3, 0, 0, 3, 0][..],
            &[0xaf, byte_1, 0, 1, 2, 3, 0, 0, 0, 3, 0, 0],
            &[0x8f, byte_1, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 3, 0, 0],
        ] {
            let work = work(cdb, &unit);
            assert_eq!(work, Work::new(kind, extent(0x1_0203, 3, false)));
            assert_eq!((work.data_bytes(512), work.access()), (bytes, Access::Read));
            assert_eq!(work.is_piecewise(), kind == Kind::Compare);
        }
    }
    assert_eq!(refused(&[0x2f, 0x04, 0, 0, 0, 0, 0, 0, 1, 0], &unit), Sense::invalid_bit(1, 2), "BYTCHK 10b");
    // One block for none: nothing to compare, no data.
    assert_eq!(work(&[0x2f, 0x06, 0, 0, 0, 0, 0, 0, 0, 0], &unit).data_bytes(512), 0);
}

#[test]
fn verify_moves_no_more_than_one_command_may_but_reads_what_it_likes() {
    let unit = thin();
    // 8001h blocks are more than 16 MiB.
    let cdb = |byte_1| [0xaf, byte_1, 0, 0, 0, 0, 0, 0, 0x80, 0x01, 0, 0];
    assert_eq!(refused(&cdb(0x02), &unit), Sense::invalid_byte(6));
    assert_eq!(work(&cdb(0x00), &unit).data_bytes(512), 0);
    assert_eq!(work(&cdb(0x06), &unit).data_bytes(512), 512);
    let beyond = [0xaf, 0, 0, 0x20, 0, 0, 0, 0, 0, 1, 0, 0];
    assert_eq!(refused(&beyond, &unit), Sense::LBA_OUT_OF_RANGE.at(0x20_0000));
    let read_only = UnitView { read_only: true, ..unit };
    assert_eq!(work(&cdb(0x00), &read_only).access(), Access::Read, "a verify changes nothing");
}

#[test]
fn write_and_verify_is_forced_to_the_medium() {
    let unit = thin();
    for (byte_1, compares) in [(0x10, false), (0x12, true)] {
        for cdb in [
            &[0x2e, byte_1, 0, 1, 2, 3, 0, 0, 2, 0][..],
            &[0xae, byte_1, 0, 1, 2, 3, 0, 0, 0, 2, 0, 0],
            &[0x8e, byte_1, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 2, 0, 0],
        ] {
            let work = work(cdb, &unit);
            assert_eq!(work, Work::new(Kind::WriteVerify { compares }, extent(0x1_0203, 2, true)));
            assert_eq!(
                (work.data_bytes(512), work.access(), work.is_piecewise()),
                (1024, Access::Write, true)
            );
        }
    }
    assert_eq!(refused(&[0x2e, 0x06, 0, 0, 0, 0, 0, 0, 1, 0], &unit), Sense::invalid_bit(1, 2));
    let read_only = UnitView { read_only: true, ..unit };
    assert_eq!(refused(&[0x2e, 0, 0, 0, 0, 0, 0, 0, 1, 0], &read_only), Sense::WRITE_PROTECTED);
}

#[test]
fn orwrite_has_as_much_data_as_blocks() {
    let orwrite = [0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0];
    let work = work(&orwrite, &thin());
    assert_eq!(work, Work::new(Kind::OrWrite, extent(9, 4, true)));
    assert_eq!((work.data_bytes(512), work.is_piecewise()), (2048, true));
    assert_eq!(
        refused(&[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0], &thin()),
        Sense::invalid_byte(10)
    );
}

#[test]
fn compare_and_write_has_both_halves_in_one_buffer() {
    let swap = |blocks| [0x89, 0x08, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, blocks, 0, 0];
    let unit = thin();
    let work = work(&swap(3), &unit);
    assert_eq!(work, Work::new(Kind::CompareAndWrite, extent(9, 3, true)));
    assert_eq!((work.data_bytes(512), work.is_piecewise(), work.access()), (3072, false, Access::Write));
    let max = [512, 1024, 2048, 4096].map(compare_and_write_blocks_max);
    assert_eq!(max, [255, 128, 64, 32], "one byte, or 128 KiB");
    let large = UnitView { block_bytes: 4096, ..unit };
    assert!(matches!(planned(&swap(32), &large), Plan::Work(_)));
    assert_eq!(refused(&swap(33), &large), Sense::invalid_byte(13));
}

#[test]
fn compare_and_write_wants_the_initiator_to_agree_on_its_length() {
    let (target, unit) = (crate::scsi::tests::target(), thin());
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let check = |cdb: &[u8], expected| planned(cdb, &unit).check_expected(expected, &place);
    let swap = |blocks| [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, blocks, 0, 0];
    assert_eq!(check(&swap(2), 2048), Ok(()));
    assert_eq!(check(&swap(2), 1024), Err(Sense::invalid_byte(13)));
    assert_eq!(check(&swap(2), 2560), Err(Sense::invalid_byte(13)));
    // 256 blocks do not fit the field, and are none.
    assert_eq!(check(&swap(0), 0), Ok(()));
    assert_eq!(check(&swap(0), 262_144), Err(Sense::invalid_byte(13)));
    assert_eq!(check(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], 1024), Ok(()), "others have residuals");
}

#[test]
fn write_same_wants_the_initiator_to_agree_on_its_length() {
    let (target, unit) = (crate::scsi::tests::target(), thin());
    let place =
        Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let check = |cdb: &[u8], expected| planned(cdb, &unit).check_expected(expected, &place);
    let wrong = Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
    let short = [0x41, 0x08, 0, 0, 0, 5, 0, 0, 7, 0];
    assert_eq!([0, 256, 512, 1024].map(|bytes| check(&short, bytes)), [wrong, wrong, Ok(()), wrong]);
    let none = [0x93, 0x09, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0];
    assert_eq!([0, 512].map(|bytes| check(&none, bytes)), [Ok(()), wrong], "NDOB");
}

#[test]
fn write_same_with_and_without_data() {
    let unit = thin();
    let same = |kind, blocks| Plan::Work(Work::new(kind, extent(5, blocks, false)));
    let with = |unmap| Kind::WriteSame { unmap, has_data: true };
    let none = Kind::WriteSame { unmap: true, has_data: false };
    let short = |byte_1| [0x41, byte_1, 0, 0, 0, 5, 0, 0, 7, 0];
    let long = |byte_1| [0x93, byte_1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0];
    assert_eq!(planned(&short(0x00), &unit), same(with(false), 7));
    assert_eq!(planned(&short(0x08), &unit), same(with(true), 7));
    assert_eq!(planned(&long(0x08), &unit), same(with(true), 7));
    assert_eq!(planned(&long(0x09), &unit), same(none, 7), "NDOB");
    let bytes = |bytes: &[u8]| work(bytes, &unit).data_bytes(512);
    assert_eq!((bytes(&short(0)), bytes(&long(0)), bytes(&long(0x09))), (512, 512, 0));
    // WRITE SAME(10) has no NDOB: that bit was RELADR.
    assert_eq!(planned(&short(0x01), &unit), same(with(false), 7));
}

#[test]
fn write_same_within_its_limits() {
    let unit = thin();
    let long = |byte_1, blocks: u32| {
        let [a, b, c, d] = blocks.to_be_bytes();
        [0x93, byte_1, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
    };
    assert!(matches!(planned(&long(0, 0x8000), &unit), Plan::Work(_)));
    assert_eq!(refused(&long(0, 0x8001), &unit), Sense::invalid_byte(10), "MAXIMUM WRITE SAME LENGTH");
    assert_eq!(refused(&long(0, 0), &unit), Sense::invalid_byte(10), "WSNZ");
    assert_eq!(refused(&[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0], &unit), Sense::invalid_byte(7), "WSNZ");
    let thick = super::unit();
    assert_eq!(refused(&long(0x08, 1), &thick), Sense::invalid_bit(1, 3), "UNMAP where nothing is unmapped");
    assert!(matches!(planned(&long(0x01, 1), &thick), Plan::Work(_)), "NDOB without UNMAP");
}

#[test]
fn unmap_needs_a_unit_that_can() {
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0x01, 0x18, 0];
    let work = work(&unmap, &thin());
    assert!(work.is_unmap() && !work.is_piecewise());
    assert_eq!((work.data_bytes(512), work.access()), (0x118, Access::Write));
    assert_eq!(refused(&unmap, &unit()), Sense::INVALID_OPCODE);
    assert_eq!(refused(&unmap, &UnitView { read_only: true, ..thin() }), Sense::WRITE_PROTECTED);
}

#[test]
fn anchors_are_for_units_that_have_them() {
    let unmap = [0x42, 0x01, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(refused(&unmap, &thin()), Sense::invalid_bit(1, 0));
    assert_eq!(
        work(&unmap, &anchoring()),
        Work::new(Kind::Unmap { bytes: 24, anchors: true }, crate::scsi::work::NOTHING)
    );
    assert!(work(&unmap, &anchoring()).is_unmap(), "durable as an UNMAP is");
    let short = |flags: u8| [0x41, flags, 0, 0, 0, 5, 0, 0, 7, 0].to_vec();
    let long = |flags: u8| [0x93, flags, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 7, 0, 0].to_vec();
    let longer = |flags: u8| {
        let mut cdb = vec![0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 0x0d, flags];
        cdb.extend([0; 21]);
        (cdb[19], cdb[31]) = (5, 7);
        cdb
    };
    for (cdb, at) in [(&short as &dyn Fn(u8) -> Vec<u8>, 1), (&long, 1), (&longer, 10)] {
        let anchor = Sense::invalid_bit(at, 4);
        assert_eq!(refused(&cdb(0x18), &thin()), anchor);
        assert_eq!(refused(&cdb(0x10), &anchoring()), anchor, "without UNMAP");
        assert_eq!(refused(&cdb(0x18), &unit()), Sense::invalid_bit(at, 3), "UNMAP");
        let kept = Work::new(Kind::WriteSame { unmap: false, has_data: true }, extent(5, 7, false));
        assert_eq!(work(&cdb(0x18), &anchoring()), kept);
        let freed = Work::new(Kind::WriteSame { unmap: true, has_data: true }, extent(5, 7, false));
        assert_eq!(work(&cdb(0x08), &anchoring()), freed);
    }
    assert_eq!(work(&long(0x19), &anchoring()).data_bytes(512), 0, "NDOB");
}

#[test]
fn pre_fetch_does_nothing_within_the_medium() {
    let unit = thin();
    assert_eq!(planned(&[0x34, 0x02, 0, 0, 0, 0, 0, 0, 0, 0], &unit), Plan::End(Status::Good));
    assert_eq!(
        planned(&[0x90, 0, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0, 0, 0, 1, 0, 0], &unit),
        Plan::End(Status::Good)
    );
    assert_eq!(
        refused(&[0x34, 0, 0, 0x1f, 0xff, 0xff, 0, 0, 2, 0], &unit),
        Sense::LBA_OUT_OF_RANGE.at(0x20_0000)
    );
}

#[test]
fn write_atomic_is_bounded_by_the_device_and_by_a_piece() {
    let atomic = |blocks| {
        let offloads = crate::bdev::Offloads { atomic_write_blocks: blocks, ..Default::default() };
        UnitView { offloads, ..thin() }
    };
    let cdb = |lba: u8, boundary: u8, blocks: [u8; 2]| {
        [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, lba, 0, boundary, blocks[0], blocks[1], 0, 0]
    };
    assert_eq!(work(&cdb(9, 0, [0, 4]), &atomic(4)), Work::new(Kind::WriteAtomic, extent(9, 4, false)));
    assert_eq!(refused(&cdb(9, 0, [0, 5]), &atomic(4)), Sense::invalid_byte(12));
    assert_eq!(work(&cdb(0, 0, [2, 0]), &atomic(u32::MAX)).data_bytes(512), 256 * 1024);
    assert_eq!(refused(&cdb(0, 0, [2, 1]), &atomic(u32::MAX)), Sense::invalid_byte(12));
    assert_eq!(refused(&cdb(9, 1, [0, 2]), &atomic(4)), Sense::invalid_byte(10), "ATOMIC BOUNDARY");
    assert_eq!(refused(&cdb(9, 0, [0, 1]), &thin()), Sense::INVALID_OPCODE);
    let beyond = [0x9c, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(planned(&beyond, &atomic(4)), Plan::Work(_)), "no blocks at the end");
}
