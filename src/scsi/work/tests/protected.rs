//! What is done with blocks and the protection information that goes with them.

use super::{begin, work};
use crate::bdev::protection::{Checks, Protection};
use crate::scsi::sense::Sense;
use crate::scsi::tests::unit;
use crate::scsi::view::UnitView;
use crate::scsi::work::Step;

fn formatted(protection: Protection) -> UnitView {
    let unmap = Some(crate::bdev::Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false });
    UnitView { protection: Some(protection), blocks: 0x1_0000, unmap, ..unit() }
}

/// A block of `byte` with a tuple.
fn with(byte: u8, tuple: [u8; 8]) -> Vec<u8> {
    [&[byte; 512][..], &tuple].concat()
}

const TAGGED: [u8; 8] = [1, 2, 3, 4, 0, 0, 1, 0xff];

/// WRITE AND VERIFY(32) or WRITE SAME(32) from block 6 on, whose first reference tag is expected to be 1FFh.
fn long(action: u8, flags: u8, blocks: u16) -> [u8; 32] {
    let [high, low] = blocks.to_be_bytes();
    [
        0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, flags, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0, 0, 0,
        0, 0, high, low,
    ]
}

const CHECKS: Checks = Checks { guard: true, reference: true, shift: 0x1f9 };

#[test]
fn write_and_verify_checks_what_it_has_written() {
    let type_2 = formatted(Protection::Type2);
    let data = [with(7, TAGGED), with(8, TAGGED)].concat();
    let written = Step::WriteProtected { lba: 6, blocks: 2, fua: true, checks: CHECKS };
    for (flags, then) in [
        (0x20, Step::Verify { lba: 6, blocks: 2, checks: Some(CHECKS) }),
        (0x22, Step::ReadProtected { lba: 6, blocks: 2, checks: CHECKS }),
    ] {
        let work = work(&long(0x0c, flags, 2), &type_2);
        assert!(!work.is_piecewise(), "they are one piece");
        let mut run = begin(&work, 0, &data, &type_2).unwrap();
        assert_eq!(run.step(), written);
        assert_eq!(run.step().scratch(), (2, true));
        let mut scratch = vec![0xee; 2 * 520];
        run.fill(&data, &mut scratch);
        assert_eq!(scratch, data, "as it came");
        run.finished(&data, &scratch).unwrap();
        assert_eq!(run.step(), then);
        // The last byte of the second tuple is another on the medium.
        let mut other = run;
        *scratch.last_mut().unwrap() ^= 1;
        let compared = if flags & 0x02 == 0 { Ok(()) } else { Err(Sense::MISCOMPARE.at(1039)) };
        assert_eq!(other.finished(&data, &scratch), compared);
        run.finished(&data, &data).unwrap();
        assert_eq!(run.step(), Step::Done);

        let short = begin(&work, 0, &data[..520], &type_2);
        assert_eq!(short.err(), Some(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT));
    }
    // Zeroes are no reason to do less.
    let zeroes = [with(0, [0; 8]), with(0, [0; 8])].concat();
    assert_eq!(begin(&work(&long(0x0c, 0x20, 2), &type_2), 0, &zeroes, &type_2).unwrap().step(), written);
}

#[test]
fn write_same_counts_reference_tags_from_the_one_that_is_sent() {
    for (protection, opcode, tags) in [
        (Protection::Type1, 0x41, [0x1ff_u32, 0x200, 0x3f6, 0x3f7]),
        (Protection::Type2, 0x7f, [0x1ff, 0x200, 0x3f6, 0x3f7]),
        (Protection::Type3, 0x41, [0x1ff; 4]),
    ] {
        let unit = formatted(protection);
        let short = [0x41, 0x20, 0, 0, 0, 6, 0, 3, 0xe8, 0];
        let bytes: &[u8] = if opcode == 0x7f { &long(0x0d, 0x20, 1000) } else { &short };
        let data = with(9, TAGGED);
        let mut run = begin(&work(bytes, &unit), 0, &data, &unit).unwrap();
        let shift = if opcode == 0x7f { 0x1f9 } else { 0 };
        let checks = Checks { shift, ..CHECKS };
        let mut found = Vec::new();
        for (lba, blocks) in [(6, 504), (510, 496)] {
            // 504 blocks of 520 bytes are a piece.
            assert_eq!(run.step(), Step::WriteProtected { lba, blocks, fua: false, checks });
            let mut scratch = vec![0xee; blocks as usize * 520];
            run.fill(&data, &mut scratch);
            for block in scratch.chunks(520) {
                assert_eq!(block[..516], data[..516]);
                found.push(u32::from_be_bytes(block[516..].try_into().unwrap()));
            }
            run.finished(&data, &[]).unwrap();
        }
        assert_eq!(run.step(), Step::Done);
        assert_eq!([found[0], found[1], found[503], found[504]], tags, "{protection:?}");
    }
}

#[test]
fn write_same_unmaps_where_block_and_tuple_are_those_of_unmapped_blocks() {
    let type_2 = formatted(Protection::Type2);
    let step =
        |flags, data: &[u8]| begin(&work(&long(0x0d, flags, 2), &type_2), 0, data, &type_2).unwrap().step();
    let written = Step::WriteProtected { lba: 6, blocks: 2, fua: false, checks: CHECKS };
    let unmapped = Step::WriteZeroes { lba: 6, blocks: 2, may_unmap: true };
    assert_eq!(step(0x28, &with(0, [0xff; 8])), unmapped);
    assert_eq!(step(0x20, &with(0, [0xff; 8])), written, "it was not asked for");
    assert_eq!(step(0x28, &with(0, [0; 8])), written);
    assert_eq!(step(0x28, &with(1, [0xff; 8])), written);
}
