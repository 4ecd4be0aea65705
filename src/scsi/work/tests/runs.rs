//! Runs, step by step.

use super::{anchoring, begin, done, thin, work};
use crate::bdev::Offloads;
use crate::scsi::sense::Sense;
use crate::scsi::tests::unit;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::work::Step::{self, Done, Hold, Read, Unmap, Write, WriteZeroes};

/// Blocks of 512 bytes, each of one value.
fn blocks(values: &[u8]) -> Vec<u8> {
    values.iter().flat_map(|value| [*value; 512]).collect()
}

/// The first bytes of the blocks.
fn values(medium: &[u8]) -> Vec<u8> {
    medium.chunks(512).map(|block| block[0]).collect()
}

const fn read(lba: u64, blocks: u32) -> Step {
    Read { lba, blocks }
}

const fn write(lba: u64, blocks: u32, fua: bool) -> Step {
    Write { lba, blocks, fua }
}

#[test]
fn verify_reads_piece_by_piece() {
    let mut medium = vec![0; 2000 * 512];
    // 1100 blocks of 512 bytes in pieces of 256 KiB.
    let cdb = [0x2f, 0, 0, 0, 0, 7, 0, 0x04, 0x4c, 0];
    assert_eq!(
        done(&cdb, &[], &thin(), &mut medium),
        Ok(vec![read(7, 512), read(519, 512), read(1031, 76), Done])
    );
    assert_eq!(done(&[0x2f, 0, 0, 0, 0, 7, 0, 0, 0, 0], &[], &thin(), &mut medium), Ok(vec![Done]));
}

#[test]
fn verify_compares_and_tells_where_it_differs() {
    let mut medium = blocks(&[1, 2, 3, 4]);
    let cdb = [0x2f, 0x02, 0, 0, 0, 1, 0, 0, 2, 0];
    assert_eq!(done(&cdb, &blocks(&[2, 3]), &thin(), &mut medium), Ok(vec![read(1, 2), Done]));
    let mut data = blocks(&[2, 3]);
    data[700] = 0;
    data[900] = 0;
    assert_eq!(done(&cdb, &data, &thin(), &mut medium), Err((vec![read(1, 2)], Sense::MISCOMPARE.at(700))));
}

#[test]
fn a_later_piece_counts_from_the_beginning_of_the_data() {
    let unit = thin();
    let verify = work(&[0x2f, 0x02, 0, 0, 0, 1, 0, 4, 0, 0], &unit);
    let mut data = blocks(&[9, 9]);
    data[3] = 8;
    let mut run = begin(&verify, 512 * 512, &data, &unit).unwrap();
    assert_eq!(run.step(), read(513, 2));
    assert_eq!(run.finished(&data, &blocks(&[9, 9])), Err(Sense::MISCOMPARE.at(512 * 512 + 3)));
}

#[test]
fn verify_of_many_by_one_block() {
    let mut medium = blocks(&[7; 600]);
    let cdb = [0x2f, 0x06, 0, 0, 0, 0, 0, 0x02, 0x58, 0];
    assert_eq!(done(&cdb, &blocks(&[7]), &thin(), &mut medium), Ok(vec![read(0, 512), read(512, 88), Done]));
    medium[550 * 512 + 5] = 6;
    let (steps, sense) = done(&cdb, &blocks(&[7]), &thin(), &mut medium).unwrap_err();
    assert_eq!((steps.len(), sense), (2, Sense::MISCOMPARE.at(5)));
}

#[test]
fn write_and_verify_reads_back() {
    for (byte_1, fails) in [(0x00, false), (0x02, true)] {
        let unit = thin();
        let run = work(&[0x2e, byte_1, 0, 0, 0, 2, 0, 0, 2, 0], &unit);
        let data = blocks(&[5, 6]);
        let mut run = begin(&run, 0, &data, &unit).unwrap();
        assert_eq!(run.step(), write(2, 2, true));
        let mut scratch = blocks(&[0, 0]);
        run.fill(&data, &mut scratch);
        assert_eq!(scratch, data);
        assert_eq!(run.finished(&data, &scratch), Ok(()));
        assert_eq!(run.step(), read(2, 2));
        // The medium did not keep it.
        let finished = run.finished(&data, &blocks(&[5, 5]));
        assert_eq!(finished, if fails { Err(Sense::MISCOMPARE.at(512)) } else { Ok(()) });
        assert_eq!(run.step() == Done, !fails);
    }
}

#[test]
fn orwrite_holds_reads_and_writes() {
    let mut medium = blocks(&[0x01, 0x02, 0x04]);
    let cdb = [0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0];
    assert_eq!(
        done(&cdb, &blocks(&[0x10, 0x24]), &thin(), &mut medium),
        Ok(vec![Hold { lba: 1, blocks: 2 }, read(1, 2), write(1, 2, true), Done])
    );
    assert_eq!(values(&medium), [0x01, 0x12, 0x24]);
}

#[test]
fn compare_and_write_writes_only_where_it_compares() {
    let mut medium = blocks(&[1, 2, 3]);
    let cdb = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0];
    let hold = Hold { lba: 1, blocks: 2 };
    assert_eq!(
        done(&cdb, &blocks(&[2, 3, 8, 9]), &thin(), &mut medium),
        Ok(vec![hold, read(1, 2), write(1, 2, false), Done])
    );
    assert_eq!(values(&medium), [1, 8, 9]);
    assert_eq!(
        done(&cdb, &blocks(&[8, 3, 0, 0]), &thin(), &mut medium),
        Err((vec![hold, read(1, 2)], Sense::MISCOMPARE.at(512)))
    );
    assert_eq!(values(&medium), [1, 8, 9]);
    let none = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(done(&none, &[], &thin(), &mut medium), Ok(vec![Done]));
}

#[test]
fn what_the_device_does_by_itself_it_is_left_to_do() {
    let offloads = Offloads { compare_and_write_blocks: 2, verify: true, ..Offloads::default() };
    let unit = UnitView { offloads, ..thin() };
    let mut medium = blocks(&[1, 2, 3, 4]);
    let swap = |count| [0x89, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, count, 0, 0];
    let hold = |blocks| Hold { lba: 1, blocks };
    assert_eq!(
        done(&swap(2), &blocks(&[2, 3, 8, 9]), &unit, &mut medium),
        Ok(vec![hold(2), read(1, 2), Step::CompareAndWrite { lba: 1, blocks: 2, fua: true }, Done])
    );
    assert_eq!(values(&medium), [1, 8, 9, 4]);
    assert_eq!(
        done(&swap(3), &blocks(&[8, 9, 4, 0, 0, 0]), &unit, &mut medium),
        Ok(vec![hold(3), read(1, 3), write(1, 3, true), Done])
    );
    let verify = [0x8F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0];
    assert_eq!(
        done(&verify, &[], &unit, &mut medium),
        Ok(vec![Step::Verify { lba: 0, blocks: 4, checks: None }, Done])
    );
}

#[test]
fn data_that_must_be_whole_are() {
    let unit = thin();
    for (cdb, whole) in [
        (&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0][..], 2048),
        (&[0x93, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0], 512),
        (&[0x2f, 0x06, 0, 0, 0, 1, 0, 0, 2, 0], 512),
    ] {
        let work = work(cdb, &unit);
        let refused = |bytes| begin(&work, 0, &vec![0; bytes], &unit).err();
        assert_eq!(refused(whole), None);
        for short in [0, whole - 512, whole - 1] {
            assert_eq!(refused(short), Some(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT));
        }
    }
}

#[test]
fn write_same_repeats_a_block() {
    let mut medium = blocks(&[0; 700]);
    let cdb = [0x41, 0, 0, 0, 0, 1, 0, 0x02, 0x58, 0];
    let mut block = blocks(&[3]);
    block[511] = 4;
    assert_eq!(
        done(&cdb, &block, &thin(), &mut medium),
        Ok(vec![write(1, 512, false), write(513, 88, false), Done])
    );
    assert!(medium[512..601 * 512].chunks(512).all(|written| written == block));
    assert_eq!(values(&medium[601 * 512..]), [0; 99]);
}

#[test]
fn write_same_of_zeroes_is_left_to_the_device() {
    let mut medium = blocks(&[1; 20_000]);
    // 16385 blocks: one more than the 8 MiB of one step.
    let cdb = |byte_1| [0x93, byte_1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x40, 0x01, 0, 0];
    let zero = |lba, blocks, may_unmap| WriteZeroes { lba, blocks, may_unmap };
    assert_eq!(
        done(&cdb(0x00), &[0; 512], &thin(), &mut medium),
        Ok(vec![zero(2, 16_384, false), zero(16_386, 1, false), Done])
    );
    assert_eq!(
        done(&cdb(0x09), &[], &thin(), &mut medium),
        Ok(vec![zero(2, 16_384, true), zero(16_386, 1, true), Done])
    );
    // With UNMAP, but not of zeroes: written.
    let ones = [0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0];
    assert_eq!(done(&ones, &blocks(&[1]), &thin(), &mut medium), Ok(vec![write(2, 1, false), Done]));
}

#[test]
fn what_is_anchored_is_zeroed_and_keeps_its_space() {
    let mut medium = blocks(&[1; 20_000]);
    let zero = |lba, blocks| WriteZeroes { lba, blocks, may_unmap: false };
    let same = [0x93, 0x18, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x40, 0x01, 0, 0];
    assert_eq!(
        done(&same, &[0; 512], &anchoring(), &mut medium),
        Ok(vec![zero(2, 16_384), zero(16_386, 1), Done])
    );
    let ones = [0x93, 0x18, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0];
    assert_eq!(done(&ones, &blocks(&[1]), &anchoring(), &mut medium), Ok(vec![write(2, 1, false), Done]));
    let list = unmap_list(&[(8, 4), (0, 0), (100, 16_385)]);
    let cdb = |flags| [0x42, flags, 0, 0, 0, 0, 0, 0, 56, 0];
    assert_eq!(
        done(&cdb(0x01), &list, &anchoring(), &mut medium),
        Ok(vec![zero(8, 4), zero(100, 16_384), zero(16_484, 1), Done])
    );
    let unmap = |lba, blocks| Unmap { lba, blocks };
    assert_eq!(
        done(&cdb(0x00), &list, &anchoring(), &mut medium),
        Ok(vec![unmap(8, 4), unmap(100, 16_384), unmap(16_484, 1), Done])
    );
}

/// An UNMAP parameter list of these descriptors.
fn unmap_list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let bytes = u16::try_from(16 * descriptors.len()).unwrap();
    let mut list = [&(bytes + 6).to_be_bytes()[..], &bytes.to_be_bytes(), &[0; 4]].concat();
    for (lba, blocks) in descriptors {
        list.extend([&lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[0; 4]].concat());
    }
    list
}

fn unmap(list: &[u8], unit: &UnitView) -> Result<Vec<Step>, Sense> {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    let mut medium = blocks(&[1; 20_000]);
    done(&[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list, unit, &mut medium).map_err(|(_, sense)| sense)
}

#[test]
fn unmap_goes_through_its_descriptors() {
    let unit = thin();
    let step = |lba, blocks| Unmap { lba, blocks };
    assert_eq!(
        unmap(&unmap_list(&[(8, 4), (100, 16_385), (2, 1)]), &unit),
        Ok(vec![step(8, 4), step(100, 16_384), step(16_484, 1), step(2, 1), Done])
    );
    assert_eq!(
        unmap(&unmap_list(&[(0, 0), (5, 0), (7, 1), (9, 0), (11, 2), (0, 0)]), &unit),
        Ok(vec![step(7, 1), step(11, 2), Done]),
        "descriptors of no blocks are passed over"
    );
    assert_eq!(unmap(&unmap_list(&[(0, 0)]), &unit), Ok(vec![Done]));
    assert_eq!(unmap(&unmap_list(&[]), &unit), Ok(vec![Done]));
    assert_eq!(unmap(&[], &unit), Ok(vec![Done]), "no parameter list");
}

#[test]
fn an_unmap_list_is_as_long_as_the_shorter_of_what_it_says_and_what_came() {
    let unit = thin();
    let list = unmap_list(&[(8, 4), (16, 4)]);
    let first = Ok(vec![Unmap { lba: 8, blocks: 4 }, Done]);
    assert_eq!(unmap(&list[..39], &unit), first, "the second is cut off");
    let mut one = list.clone();
    one[3] = 31;
    assert_eq!(unmap(&one, &unit), first, "so it says");
    for length in 1..8 {
        assert_eq!(unmap(&list[..length], &unit), Err(Sense::PARAMETER_LIST_LENGTH), "{length}");
    }
}

#[test]
fn an_unmap_list_is_judged_before_any_block_goes() {
    let unit = thin();
    assert_eq!(
        unmap(&unmap_list(&[(8, 4), (0x1f_ffff, 2)]), &unit),
        Err(Sense::LBA_OUT_OF_RANGE.at(0x20_0000))
    );
    assert_eq!(unmap(&unmap_list(&[(u64::MAX, 1)]), &unit), Err(Sense::LBA_OUT_OF_RANGE.at(u64::MAX)));
    assert_eq!(unmap(&unmap_list(&[(0, 0); 256]), &unit), Ok(vec![Done]));
    assert_eq!(unmap(&unmap_list(&[(0, 0); 257]), &unit), Err(Sense::invalid_parameter(2)));
    let half = (0, 0x8_0000);
    assert_eq!(
        unmap(&unmap_list(&[half, half, (0, 1)]), &unit),
        Err(Sense::INVALID_PARAMETER),
        "more blocks than MAXIMUM UNMAP LBA COUNT"
    );
    let gone = UnitView { read_only: true, ..thin() };
    let list = unmap_list(&[(8, 4)]);
    let planned_before = work(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &unit);
    assert_eq!(begin(&planned_before, 0, &list, &gone).err(), Some(Sense::WRITE_PROTECTED));
}

#[test]
fn what_has_changed_since_the_plan_is_seen() {
    let before = thin();
    let verify = work(&[0x2f, 0, 0, 0, 0x03, 0xe7, 0, 0, 2, 0], &before);
    assert_eq!(begin(&verify, 0, &[], &unit()).err(), Some(Sense::LBA_OUT_OF_RANGE.at(1000)), "a shrink");
    let away = UnitView { medium: Medium::NotReady, ..thin() };
    assert_eq!(begin(&verify, 0, &[], &away).err(), Some(Sense::NOT_READY));
    let removed = UnitView { medium: Medium::Removed, ..thin() };
    assert_eq!(begin(&verify, 0, &[], &removed).err(), Some(Sense::NO_SUCH_UNIT));
}

#[test]
fn write_atomic_writes_all_at_once_under_a_hold() {
    let offloads = Offloads { atomic_write_blocks: 4, ..Offloads::default() };
    let unit = UnitView { offloads, ..thin() };
    let mut medium = blocks(&[1, 1, 1, 1]);
    let cdb = |blocks: u8| [0x9c, 0x08, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, blocks, 0, 0];
    assert_eq!(
        done(&cdb(2), &blocks(&[7, 8]), &unit, &mut medium),
        Ok(vec![Hold { lba: 1, blocks: 2 }, write(1, 2, true), Done])
    );
    assert_eq!(values(&medium), [1, 7, 8, 1]);
    // Less than all of it is nothing of it.
    let short = begin(&work(&cdb(2), &unit), 0, &blocks(&[7]), &unit);
    assert_eq!(short, Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT));
    assert_eq!(done(&cdb(0), &[], &unit, &mut medium), Ok(vec![Done]));
}

#[test]
fn a_diagnostic_page_that_there_is() {
    let send = work(&[0x1d, 0x10, 0, 0, 4, 0], &unit());
    assert_eq!(begin(&send, 0, &[0, 0, 0, 0], &unit()).unwrap().step(), Done);
    assert_eq!(begin(&send, 0, &[0, 0, 0], &unit()), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(begin(&send, 0, &[0x40, 0, 0, 0], &unit()), Err(Sense::invalid_parameter(0)));
    assert_eq!(begin(&send, 0, &[0, 0, 0, 1], &unit()), Err(Sense::PARAMETER_LIST_LENGTH));
}
