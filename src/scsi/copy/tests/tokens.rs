//! Commands with tokens, and what is told of tokens.

use super::*;
use crate::scsi::copy::rod::{self, Token};

/// A CDB of POPULATE TOKEN or WRITE USING TOKEN with list identifier 9.
fn with_token(action: u8, length: usize) -> [u8; 16] {
    let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
    [0x83, action, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, high, low, 0, 0]
}

fn ranges(ranges: &[(u16, u16)]) -> Vec<u8> {
    let one = |(lba, blocks): &(u16, u16)| {
        [&[0; 6][..], &lba.to_be_bytes(), &[0; 2], &blocks.to_be_bytes(), &[0; 4]].concat()
    };
    ranges.iter().flat_map(one).collect()
}

fn populate(seconds: u8, of: &[(u16, u16)]) -> Vec<u8> {
    let ranges = ranges(of);
    let [high, low] = u16::try_from(ranges.len()).unwrap().to_be_bytes();
    let total = u16::try_from(ranges.len() + 14).unwrap().to_be_bytes();
    [&[total[0], total[1], 0, 0, 0, 0, 0, seconds, 0, 0, 0, 0, 0, 0, high, low][..], &ranges].concat()
}

fn write(token: &[u8], offset: u8, to: &[(u16, u16)]) -> Vec<u8> {
    let ranges = ranges(to);
    let [high, low] = u16::try_from(ranges.len()).unwrap().to_be_bytes();
    let total = u16::try_from(ranges.len() + 534).unwrap().to_be_bytes();
    let mut list = vec![total[0], total[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, offset];
    list.extend(token);
    list.extend([0, 0, 0, 0, 0, 0, high, low]);
    list.extend(ranges);
    list
}

fn begun(world: &World, action: u8, list: &[u8]) -> Result<rod::Run, Sense> {
    let bytes = with_token(action, list.len());
    assert!(matches!(world.planned(&bytes), Plan::Copy(copy) if copy.has_token()));
    rod::Run::begin(&cdb(&bytes), list, &world.place())
}

fn zero_token() -> [u8; 512] {
    let mut token = [0; 512];
    token[..8].copy_from_slice(&[0xff, 0xff, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    token
}

#[test]
fn a_token_watches_its_ranges() {
    let world = World::new();
    let list = populate(0, &[(100, 8), (7, 0), (200, 2000)]);
    let mut run = begun(&world, 0x10, &list).unwrap();
    assert_eq!((run.list_id, run.lasts_ns()), (9, 30_000_000_000));
    assert_eq!(run.step(), rod::Step::Watch { lba: 100, blocks: 8, offset_blocks: 0 });
    run.finished(&list);
    assert_eq!(run.step(), rod::Step::Watch { lba: 200, blocks: 2000, offset_blocks: 8 });
    run.finished(&list);
    assert_eq!((run.step(), run.moved_blocks()), (rod::Step::Done, 2008));
    assert_eq!(begun(&world, 0x10, &populate(5, &[(0, 1)])).unwrap().lasts_ns(), 5_000_000_000);

    let token = run.token(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, world.place().unit.unwrap().0).unwrap();
    let mut want = [0; 512];
    want[..8].copy_from_slice(&[0x00, 0x80, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    want[8..16].copy_from_slice(&[0x5d, 0xfb, 0xab, 0xee, 0xdf, 0x31, 0x8b, 0xf3]);
    want[16..24].copy_from_slice(&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 8]);
    want[24..32].copy_from_slice(&NAA);
    want[61..64].copy_from_slice(&[0x0f, 0xb0, 0x00]);
    want[128..144].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    assert_eq!(token.encode(), want);
    told(&world, token, &want);
}

/// Two tokens of the unit that is asked.
#[derive(Debug)]
struct Two;

impl rod::Known for Two {
    fn tokens_of(&self, unit: UnitId, _: Tick, told: &mut dyn FnMut(rod::TokenId, u64)) {
        assert_eq!(unit, UnitId(3));
        told(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, 2008);
        told(1, 1);
    }
}

#[test]
fn all_tokens_are_told_without_their_secrets() {
    let world = World::new();
    let bytes = [0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    assert_eq!(world.told(&bytes, &Results::default()), Ok(vec![0, 0, 0, 4, 0, 0, 0, 0]), "none");
    let Plan::Report(report) = world.planned(&bytes) else { panic!() };
    let facts = Facts {
        protocol_level: 0,
        attentions: None,
        now: Tick::ZERO,
        buffers: &Buffers::default(),
        copies: &Results::default(),
        tokens: Some(&Two),
        allocation: None,
    };
    let mut out = [0xee; 512];
    let length = report::fill(&report, &world.place(), facts, &mut out).unwrap();
    let mut want = [0; 8 + 2 * 96];
    want[3] = 4 + 2 * 96;
    want[8..16].copy_from_slice(&[0x00, 0x80, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    want[16..24].copy_from_slice(&[0x5d, 0xfb, 0xab, 0xee, 0xdf, 0x31, 0x8b, 0xf3]);
    want[24..32].copy_from_slice(&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 8]);
    want[32..40].copy_from_slice(&NAA);
    want[69..72].copy_from_slice(&[0x0f, 0xb0, 0x00]);
    want[104..112].copy_from_slice(&[0x00, 0x80, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    assert_eq!(out[..104], want[..104]);
    assert_eq!((length, &out[104..112], out[165], out[166]), (want.len(), &want[104..112], 0, 2));
    assert_ne!(out[16..24], out[112..120], "each has a label of its own");
}

/// RECEIVE ROD TOKEN INFORMATION tells of it.
fn told(world: &World, token: Token, encoded: &[u8; 512]) {
    let mut results = Results::default();
    let ask = |id| [0x84, 0x07, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    results.begin(TASK, NexusId(1), UnitId(3), 9, &cdb(&with_token(0x10, 32)));
    results.progress(TASK, 0, 2008);
    results.made(TASK, Some(token), false);
    results.end(TASK, Outcome::GOOD);
    let mut want = vec![0, 0, 2, 34, 0x10, 0x01, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 0xf1];
    want.extend([0, 0, 0, 0, 0, 0, 0x07, 0xd8, 0, 0, 0, 0, 0, 0, 0, 0]);
    want.extend([0, 0, 2, 2, 0, 0]);
    let answer = world.told(&ask(9), &results).unwrap();
    assert_eq!(answer[..38], want);
    assert_eq!(answer[38..], encoded[..answer.len() - 38]);
    assert_eq!(world.told(&ask(8), &results), Err(Sense::invalid_byte(2)));

    results.begin(TASK, NexusId(1), UnitId(3), 7, &cdb(&with_token(0x11, 568)));
    results.end(TASK, Outcome::check(Sense::TOKEN_REVOKED));
    let answer = world.told(&ask(7), &results).unwrap();
    assert_eq!(answer[..16], [0, 0, 0, 40, 0x11, 0x02, 0, 1, 0, 0, 3, 0xe8, 2, 8, 8, 0xf1]);
    assert_eq!(answer[32..], [0x72, 5, 0x23, 0x06, 0, 0, 0, 0, 0, 0, 0, 0], "no token");
}

#[test]
fn what_a_token_is_not_made_of() {
    let world = World::new();
    let refused = |list: &[u8]| begun(&world, 0x10, list).unwrap_err();
    let good = populate(0, &[(0, 8), (8, 8)]);
    for (at, value, sense) in [
        (2, 0x01, Sense::invalid_parameter_bit(2, 0)),
        (7, 61, Sense::invalid_parameter(4)),
        (15, 31, Sense::invalid_parameter(14)),
        (15, 48, Sense::PARAMETER_LIST_LENGTH),
        (39, 7, Sense::INVALID_PARAMETER),
        (38, 0x28, Sense::LBA_OUT_OF_RANGE.at(10_248)),
    ] {
        let mut list = good.clone();
        list[at] = value;
        assert_eq!(refused(&list), sense, "byte {at}");
    }
    let mut typed = good.clone();
    (typed[2], typed[9]) = (0x02, 0x80);
    assert_eq!(refused(&typed), Sense::invalid_parameter(8), "a type that is not served");
    typed[11] = 1;
    assert!(begun(&world, 0x10, &typed).is_ok());
    assert_eq!(refused(&good[..15]), Sense::PARAMETER_LIST_LENGTH);
    assert_eq!(refused(&populate(0, &[(0, 1); 17])), Sense::TOO_MANY_SEGMENTS);
}

#[test]
fn what_a_token_stands_for_is_written_piece_by_piece() {
    let world = World::new();
    let place = world.place();
    let (id, unit) = (77, place.unit.unwrap().0);
    let made = begun(&world, 0x10, &populate(0, &[(0, 8)])).unwrap();
    let token = made.token(id, unit).unwrap().encode();
    let list = write(&token, 4, &[(1000, 700), (3000, 3)]);
    let mut run = begun(&world, 0x11, &list).unwrap();
    // The token's present range has 100 blocks left, then plenty.
    for (offset_blocks, blocks, read, lba) in
        [(4, 512, 100, 1000), (104, 512, 512, 1100), (616, 88, 88, 1612), (704, 3, 3, 3000)]
    {
        assert_eq!(run.step(), rod::Step::Read { id, offset_blocks, blocks });
        run.read(read);
        assert_eq!(run.step(), rod::Step::Write { lba, blocks: read });
        run.finished(&list);
    }
    assert_eq!((run.step(), run.moved_blocks()), (rod::Step::Done, 703));
    assert_eq!(run.token(id, unit), None);

    // The token ends before the ranges do.
    let mut run = begun(&world, 0x11, &list).unwrap();
    assert_eq!(run.end_of_token(), Err(Sense::invalid_parameter(8)), "the offset leads beyond it");
    run.read(5);
    run.finished(&list);
    assert_eq!((run.end_of_token(), run.is_cut_short()), (Ok(()), true));
    assert_eq!((run.step(), run.moved_blocks()), (rod::Step::Done, 5));
}

#[test]
fn zeroes_and_tokens_that_are_none() {
    let world = World::new();
    let list = write(&zero_token(), 0, &[(10, 20)]);
    let mut run = begun(&world, 0x11, &list).unwrap();
    assert_eq!(run.step(), rod::Step::WriteZeroes { lba: 10, blocks: 20 });
    run.finished(&list);
    assert_eq!((run.step(), run.moved_blocks()), (rod::Step::Done, 20));
    let refused = |token: &[u8; 512]| begun(&world, 0x11, &write(token, 0, &[(0, 1)])).unwrap_err();
    let mut token = zero_token();
    token[7] = 0xf7;
    assert_eq!(refused(&token), Sense::TOKEN_LENGTH);
    let mut token = zero_token();
    token[3] = 2;
    assert_eq!(refused(&token), Sense::TOKEN_TYPE);
}
