//! SANITIZE and FORMAT UNIT: what is asked for, and the IOs that follow.

use super::{answered, cdb, planned, refused, unit};
use std::sync::Arc;

use crate::bdev::{Erasure, Offloads, Op, Unmap};
use crate::scsi::chore::{Chore, Decision};
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::{Plan, Status};

const fn sanitize(options: u8, bytes: u16) -> [u8; 10] {
    let [high, low] = bytes.to_be_bytes();
    [0x48, options, 0, 0, 0, 0, 0, high, low, 0]
}

/// 1000 blocks of 512 bytes that can be given back.
fn thin() -> UnitView {
    UnitView { unmap: Some(Unmap { granularity_blocks: 8, reads_zeroes: true, anchors: false }), ..unit() }
}

#[track_caller]
fn begun(bytes: &[u8], list: &[u8], unit: &UnitView) -> Chore {
    match Chore::decide(&cdb(bytes), list, unit) {
        Ok(Decision::Begin(chore)) => chore,
        other => panic!("{bytes:02x?} {list:02x?}: {other:?}"),
    }
}

fn wrong(bytes: &[u8], list: &[u8], unit: &UnitView) -> Sense {
    Chore::decide(&cdb(bytes), list, unit).unwrap_err()
}

#[test]
fn sanitize_plans() {
    assert_eq!(planned(&sanitize(0x01, 5), &unit()), Plan::Ask { parameter_bytes: 5 });
    assert_eq!(planned(&sanitize(0xa1, 516), &unit()), Plan::Ask { parameter_bytes: 516 });
    for bytes in [0, 4, 517] {
        assert_eq!(refused(&sanitize(0x01, bytes), &unit()), Sense::invalid_byte(7));
    }
    assert_eq!(refused(&sanitize(0x41, 516), &unit()), Sense::invalid_bit(1, 6), "ZNR");
    let ram = UnitView { offloads: Offloads { erase: true, ..Offloads::default() }, ..unit() };
    assert_eq!(planned(&sanitize(0xa2, 0), &ram), Plan::Ask { parameter_bytes: 0 });
    assert_eq!(refused(&sanitize(0x02, 4), &ram), Sense::invalid_byte(7));
    assert_eq!(refused(&sanitize(0x42, 0), &ram), Sense::invalid_bit(1, 6), "ZNR");
    assert_eq!(refused(&sanitize(0x03, 0), &ram), Sense::invalid_bit(1, 4), "there is no key");
    for action in [0x00, 0x02, 0x03, 0x04, 0x1e] {
        assert_eq!(refused(&sanitize(action, 0), &unit()), Sense::invalid_bit(1, 4), "{action:02x}");
    }
    assert_eq!(planned(&sanitize(0x1f, 0), &unit()), Plan::Ask { parameter_bytes: 0 });
    assert_eq!(refused(&sanitize(0x1f, 8), &unit()), Sense::invalid_byte(7));
    let protected = UnitView { read_only: true, ..unit() };
    assert_eq!(refused(&sanitize(0x01, 5), &protected), Sense::WRITE_PROTECTED);
}

#[test]
fn an_overwrite_list_is_judged_whole() {
    let cdb = sanitize(0x01, 6);
    assert_eq!(wrong(&cdb, &[1, 0, 0, 2, 7], &unit()), Sense::PARAMETER_LIST_LENGTH);
    assert_eq!(wrong(&cdb, &[0x21, 0, 0, 2, 7, 8], &unit()), Sense::invalid_parameter_bit(0, 6));
    assert_eq!(wrong(&cdb, &[0x80, 0, 0, 2, 7, 8], &unit()), Sense::invalid_parameter_bit(0, 4));
    assert_eq!(wrong(&cdb, &[1, 1, 0, 2, 7, 8], &unit()), Sense::invalid_parameter(1));
    assert_eq!(wrong(&cdb, &[1, 0, 0, 0, 7, 8], &unit()), Sense::invalid_parameter(2));
    assert_eq!(wrong(&cdb, &[1, 0, 0, 3, 7, 8], &unit()), Sense::invalid_parameter(2));
}

#[test]
fn an_overwrite_goes_over_all_blocks() {
    // 1000 blocks in pieces of 256 KiB, twice, the first time inverted.
    let chore = begun(&sanitize(0xa1, 7), &[0x82, 0, 0, 3, 1, 2, 3], &unit());
    assert!(chore.is_immediate() && chore.is_sanitize() && chore.may_exit());
    let mut out = vec![0; 1024];
    for (lba, blocks, first, progress) in
        [(0, 512, 0xfe, 0), (512, 488, 0xfe, 0x4189), (0, 512, 1, 0x8000), (512, 488, 1, 0xc189)]
    {
        assert_eq!(chore.next(), Some(Op::Write { lba, blocks, fua: false }));
        assert_eq!(chore.next_bytes(), blocks as usize * 512);
        chore.fill(&mut out);
        let invert = if first == 1 { 0 } else { 0xff };
        assert_eq!(out[..4], [1, 2, 3, 1].map(|byte: u8| byte ^ invert));
        assert_eq!(out[512..514], [1, 2].map(|byte: u8| byte ^ invert), "each block begins anew");
        let sense = Sense { progress: Some(progress), ..Sense::SANITIZE_IN_PROGRESS };
        assert_eq!(chore.sense(), sense);
        chore.finished();
    }
    assert_eq!(chore.next(), None);
    assert_eq!(chore.sense().progress, Some(0xffff));
}

/// 1200 blocks in pieces of 256 KiB, each of which is overwritten and then given back.
#[test]
fn an_erase_overwrites_and_gives_back_piece_by_piece() {
    let offloads = Offloads { erase: true, ..Offloads::default() };
    let large = UnitView { blocks: 1200, offloads, ..thin() };
    let chore = begun(&sanitize(0x82, 0), &[], &large);
    assert!(chore.is_immediate() && chore.is_sanitize() && chore.is_erase() && !chore.may_exit());
    for (lba, blocks) in [(0, 512), (512, 512), (1024, 176)] {
        let zeroes = Op::WriteZeroes { lba, blocks, fua: false, may_unmap: false };
        assert_eq!((chore.next(), chore.next_bytes()), (Some(zeroes), 0));
        chore.finished();
        assert_eq!((chore.next(), chore.next_bytes()), (Some(Op::Unmap { lba, blocks }), 0));
        chore.finished();
    }
    assert_eq!(chore.next(), None);
    // What cannot give back is overwritten.
    let chore = begun(&sanitize(0x22, 0), &[], &UnitView { offloads, ..unit() });
    assert!(chore.may_exit() && !chore.is_immediate());
    for (lba, blocks) in [(0, 512), (512, 488)] {
        assert_eq!(chore.next(), Some(Op::WriteZeroes { lba, blocks, fua: false, may_unmap: false }));
        chore.finished();
    }
    assert_eq!(chore.next(), None);
}

#[test]
fn a_device_erases_itself_as_it_says_it_can() {
    let flash = |erase_blocks, erase_key| {
        let offloads = Offloads { erase_blocks, erase_key, ..Offloads::default() };
        UnitView { offloads, ..thin() }
    };
    for (action, how) in [(0x02, Erasure::Blocks), (0x03, Erasure::Key)] {
        let both = flash(true, true);
        assert_eq!(planned(&sanitize(0xa0 | action, 0), &both), Plan::Ask { parameter_bytes: 0 });
        assert_eq!(refused(&sanitize(action, 4), &both), Sense::invalid_byte(7));
        assert_eq!(refused(&sanitize(0x40 | action, 0), &both), Sense::invalid_bit(1, 6), "ZNR");
        let chore = begun(&sanitize(0xa0 | action, 0), &[], &both);
        assert!(chore.is_immediate() && chore.may_exit() && chore.is_sanitize() && !chore.is_erase());
        assert_eq!(chore.erasure(), Some(how));
        assert_eq!(chore.sense(), Sense { progress: Some(0), ..Sense::SANITIZE_IN_PROGRESS });
        let chore = begun(&sanitize(action, 0), &[], &both);
        assert!(!chore.is_immediate() && !chore.may_exit());
        let other = flash(how == Erasure::Key, how == Erasure::Blocks);
        assert_eq!(refused(&sanitize(action, 0), &other), Sense::invalid_bit(1, 4));
        // It has lost that since the command was looked at.
        assert_eq!(wrong(&sanitize(action, 0), &[], &other), Sense::invalid_bit(1, 4));
    }
    assert_eq!(begun(&sanitize(0x01, 5), &[1, 0, 0, 1, 7], &flash(true, true)).erasure(), None);
}

#[test]
fn format_gives_back_what_is_thin_and_leaves_the_rest() {
    assert_eq!(planned(&[0x04, 0, 0, 0, 0, 0], &unit()), Plan::End(Status::Good));
    assert_eq!(planned(&[0x04, 0, 0, 0, 0, 0], &thin()), Plan::Ask { parameter_bytes: 0 });
    assert_eq!(planned(&[0x04, 0x18, 0, 0, 0, 0], &unit()), Plan::Ask { parameter_bytes: 4 });
    assert_eq!(planned(&[0x04, 0x30, 0, 0, 1, 0], &unit()), Plan::Ask { parameter_bytes: 8 });
    assert_eq!(refused(&[0x04, 0x40, 0, 0, 0, 0], &unit()), Sense::invalid_bit(1, 6), "FMTPINFO");
    assert_eq!(refused(&[0x04, 0x08, 0, 0, 0, 0], &unit()), Sense::invalid_bit(1, 4), "CMPLST alone");

    let (short, long) = (&[0x04, 0x10, 0, 0, 0, 0], &[0x04, 0x30, 0, 0, 0, 0]);
    assert!(matches!(Chore::decide(&cdb(short), &[0, 0x02, 0, 0], &unit()), Ok(Decision::Nothing)));
    assert_eq!(wrong(short, &[1, 0, 0, 0], &unit()), Sense::invalid_parameter_bit(0, 2));
    assert_eq!(wrong(short, &[0, 0x88, 0, 0], &unit()), Sense::invalid_parameter_bit(1, 3));
    assert_eq!(wrong(short, &[0, 0, 0, 8], &unit()), Sense::invalid_parameter(2));
    assert_eq!(wrong(short, &[0, 0, 0], &unit()), Sense::PARAMETER_LIST_LENGTH);
    assert_eq!(wrong(long, &[0, 0, 0, 0, 0, 0, 0, 8], &unit()), Sense::invalid_parameter(4));
    assert_eq!(wrong(long, &[0, 0, 0, 1, 0, 0, 0, 0], &unit()), Sense::invalid_parameter(3));

    let large = UnitView { blocks: 20_000, ..thin() };
    let chore = begun(long, &[0, 0x02, 0, 0, 0, 0, 0, 0], &large);
    assert!(chore.is_immediate() && !chore.is_sanitize());
    for (lba, blocks) in [(0, 16_384), (16_384, 3616)] {
        assert_eq!((chore.next(), chore.next_bytes()), (Some(Op::Unmap { lba, blocks }), 0));
        chore.finished();
    }
    assert_eq!(chore.next(), None);
}

#[test]
fn what_is_served_meanwhile() {
    let chore = Arc::new(begun(&sanitize(0x01, 5), &[1, 0, 0, 1, 0], &unit()));
    let busy = UnitView { medium: Medium::Busy, chore: Some(Arc::clone(&chore)), ..unit() };
    chore.finished();
    let sense = Sense { progress: Some(0x8312), ..Sense::SANITIZE_IN_PROGRESS };
    for bytes in [&[0x00][..], &[0x1b, 0, 0, 0, 1], &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], &sanitize(0x01, 5)] {
        assert_eq!(refused(bytes, &busy), sense, "{bytes:02x?}");
    }
    let told = answered(&[0x03, 0, 0, 0, 18, 0], Some(&busy), None);
    assert_eq!(told, [0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x1b, 0, 0x80, 0x83, 0x12]);
    assert!(matches!(planned(&[0x12, 0, 0, 0, 36, 0], &busy), Plan::Report(_)));

    let failed = UnitView { medium: Medium::Failed, ..unit() };
    assert_eq!(refused(&[0x00], &failed), Sense::SANITIZE_FAILED);
    assert!(matches!(planned(&sanitize(0x01, 5), &failed), Plan::Ask { .. }), "it may be tried again");
}
