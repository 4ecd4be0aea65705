//! Copies: what is asked for, the steps that follow, what is told of them.

mod tokens;

use std::sync::Arc;

use super::{Copy, Results, Run, Side, Step};
use crate::bdev::Offloads;
use crate::bdev::protection::Protection;
use crate::id::{NexusId, UnitId};
use crate::scsi::buffers::Buffers;
use crate::scsi::report::{self, Facts};
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::tests::{cdb, target, unit};
use crate::scsi::view::{LunNumber, Mapping, TargetView, UnitView};
use crate::scsi::{Outcome, Place, Plan, Status, plan};
use crate::slab::Key;
use crate::time::Tick;

const NAA: [u8; 8] = [0x35, 1, 2, 3, 4, 5, 6, 7];
const OTHER_NAA: [u8; 8] = [0x36, 1, 2, 3, 4, 5, 6, 7];
const TASK: Key = Key { index: 7, generation: 1 };

/// Two units: of 512 bytes at LUNs 0, 5 and 300, of 4096 bytes at LUN 9.
struct World {
    target: TargetView,
    units: Vec<Option<Arc<UnitView>>>,
}

impl World {
    fn new() -> World {
        let mut target = target();
        target.mappings.insert(2, Mapping { number: LunNumber(9), unit: UnitId(4), read_only: false });
        let mut other = UnitView { id: UnitId(4), block_bytes: 4096, blocks: 100, ..unit() };
        other.identity.naa = OTHER_NAA.into_iter().collect();
        let big = UnitView { blocks: 10_000, ..unit() };
        World { target, units: vec![None, None, None, Some(Arc::new(big)), Some(Arc::new(other))] }
    }

    fn place(&self) -> Place<'_> {
        let unit = self.units[3].as_deref().map(|view| (view, false));
        Place { nexus: NexusId(1), target: &self.target, number: LunNumber(0), unit }
    }

    fn planned(&self, bytes: &[u8]) -> Plan {
        plan(&cdb(bytes), &self.place())
    }

    fn begin(&self, action: u8, list: &[u8]) -> Result<Run, Sense> {
        let length = u32::try_from(list.len()).unwrap().to_be_bytes();
        let mut bytes = [0x83, action, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[10..14].copy_from_slice(&length);
        let Plan::Copy(copy) = self.planned(&bytes) else { panic!("{bytes:02x?} is no copy") };
        copy.begin(list)
    }

    /// The steps of a copy, but for those that look segments up.
    fn steps(&self, action: u8, list: &[u8]) -> Result<Vec<Step>, (Vec<Step>, Sense)> {
        let mut run = self.begin(action, list).map_err(|sense| (Vec::new(), sense))?;
        let mut steps = Vec::new();
        loop {
            match run.step() {
                Step::Done => return Ok(steps),
                Step::Load => {
                    run.load(list, &self.place(), &self.units).map_err(|sense| (steps.clone(), sense))?;
                }
                step => {
                    assert_eq!(run.step(), step, "asked twice");
                    steps.push(step);
                    run.finished();
                }
            }
        }
    }

    fn told(&self, bytes: &[u8], results: &Results) -> Result<Vec<u8>, Sense> {
        let Plan::Report(report) = self.planned(bytes) else { panic!("{bytes:02x?} makes no report") };
        let mut out = vec![0xee; 512];
        let facts = Facts {
            protocol_level: 0,
            attentions: None,
            now: Tick::ZERO,
            buffers: &Buffers::default(),
            copies: results,
            tokens: None,
            allocation: None,
        };
        let length = report::fill(&report, &self.place(), facts, &mut out)?;
        out.truncate(length);
        Ok(out)
    }
}

const SMALL: Side = Side { number: LunNumber(0), unit: UnitId(3), block_bytes: 512 };
const LARGE: Side = Side { number: LunNumber(9), unit: UnitId(4), block_bytes: 4096 };

/// An identification descriptor for a disk.
fn cscd(naa: [u8; 8], block_bytes: u16) -> Vec<u8> {
    let [high, low] = block_bytes.to_be_bytes();
    [&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 8][..], &naa, &[0; 12], &[0, 0, high, low]].concat()
}

/// From block device to block device.
fn segment(options: u8, from: u8, to: u8, blocks: u16, source: u16, destination: u16) -> Vec<u8> {
    let ([high, low], source, destination) =
        (blocks.to_be_bytes(), source.to_be_bytes(), destination.to_be_bytes());
    let lbas = [&[0; 6][..], &source, &[0; 6], &destination].concat();
    [&[0x02, options, 0, 0x18, 0, from, 0, to, 0, 0, high, low][..], &lbas].concat()
}

fn lid1(id: u8, usage: u8, cscds: &[Vec<u8>], segments: &[Vec<u8>]) -> Vec<u8> {
    let (cscds, segments) = (cscds.concat(), segments.concat());
    let ([a, b], [c, d]) = (
        u16::try_from(cscds.len()).unwrap().to_be_bytes(),
        u16::try_from(segments.len()).unwrap().to_be_bytes(),
    );
    [&[id, usage << 3, a, b, 0, 0, 0, 0, 0, 0, c, d, 0, 0, 0, 0][..], &cscds, &segments].concat()
}

#[test]
fn as_vmware_sends_it() {
    let world = World::new();
    // One segment of 1 MiB within a datastore, both CSCD descriptors naming it; list identifier usage 11b.
    let list = lid1(0, 3, &[cscd(NAA, 512), cscd(NAA, 512)], &[segment(2, 0, 1, 2048, 0x100, 0x1000)]);
    let read = |lba| Step::Read { side: SMALL, lba, blocks: 512 };
    let write = |lba| Step::Write { side: SMALL, lba, blocks: 512 };
    let want: Vec<_> = (0..4).flat_map(|at| [read(0x100 + at * 512), write(0x1000 + at * 512)]).collect();
    assert_eq!(world.steps(0, &list), Ok(want));
    assert_eq!(world.begin(0, &list).unwrap().list_id(), None);
}

/// A disk that was brought over keeps the names that its former array told of it, and hosts know no others.
#[test]
fn a_unit_goes_by_the_designators_that_it_tells() {
    let mut world = World::new();
    const TOLD: [u8; 8] = [0x31, 9, 9, 9, 9, 9, 9, 9];
    let mut unit = UnitView::clone(world.units[3].as_ref().unwrap());
    unit.identity.designators = [&[2, 1, 0, 3][..], b"abc", &[1, 3, 0, 8], &TOLD].concat();
    world.units[3] = Some(Arc::new(unit));
    let steps = |cscd: Vec<u8>| {
        world.steps(0, &lid1(0, 3, &[cscd, self::cscd(OTHER_NAA, 4096)], &[segment(2, 0, 0, 8, 0, 16)]))
    };
    let copied = steps(cscd(TOLD, 512));
    assert!(copied.is_ok(), "{copied:?}");
    assert_eq!(steps(cscd(NAA, 512)), copied, "by its own as well");
    // T10 vendor ID.
    let mut by_name = cscd(NAA, 512);
    by_name[4..8].copy_from_slice(&[2, 1, 0, 3]);
    by_name[8..11].copy_from_slice(b"abc");
    assert_eq!(steps(by_name), copied);
    // The same body, but EUI-64 based.
    let mut other_type = cscd(TOLD, 512);
    other_type[5] = 2;
    assert!(steps(other_type).is_err());
}

#[test]
fn a_device_that_can_copies_within_itself() {
    let world = |view: fn(&mut UnitView)| {
        let mut world = World::new();
        let mut unit = UnitView {
            offloads: Offloads { copy: true, ..Offloads::default() },
            ..UnitView::clone(world.units[3].as_ref().unwrap())
        };
        view(&mut unit);
        world.units[3] = Some(Arc::new(unit));
        world
    };
    let can = world(|_| ());
    let within = |from, to, blocks| {
        lid1(0, 3, &[cscd(NAA, 512), cscd(OTHER_NAA, 4096)], &[segment(2, 0, 0, blocks, from, to)])
    };
    let copy = |from, lba, blocks| Step::Copy { side: SMALL, from, lba, blocks };
    // As much at once as it is left to do: 1 MiB.
    assert_eq!(
        can.steps(0, &within(0x10, 0x1000, 2049)),
        Ok(vec![copy(0x10, 0x1000, 2048), copy(0x810, 0x1800, 1)])
    );
    assert_eq!(can.steps(0, &within(8, 0, 8)), Ok(vec![copy(8, 0, 8)]), "they touch");
    let step = |list: &[u8], world: &World| world.steps(0, list).unwrap()[0];
    let read = |lba, blocks| Step::Read { side: SMALL, lba, blocks };
    assert_eq!(step(&within(7, 0, 8), &can), read(7, 8), "they overlap");
    assert_eq!(step(&within(8, 0, 8), &World::new()), read(8, 8), "it cannot");
    let protected = world(|view| view.protection = Some(Protection::Type1));
    assert_eq!(step(&within(8, 0, 8), &protected), read(8, 8), "the reference tags would be wrong");
    let across = lid1(0, 3, &[cscd(NAA, 512), cscd(OTHER_NAA, 4096)], &[segment(0, 0, 1, 8, 16, 2)]);
    assert_eq!(step(&across, &can), read(16, 8));
}

#[test]
fn between_units_of_different_blocks() {
    let world = World::new();
    // Eight blocks of 512 bytes; of the destination's 4096, one. Then two more of the destination's.
    let cscds = [cscd(NAA, 512), cscd(OTHER_NAA, 4096)];
    let segments = [segment(0, 0, 1, 8, 16, 2), segment(2, 0, 1, 2, 24, 3), segment(0, 0, 1, 0, 0, 0)];
    let steps = world.steps(0, &lid1(1, 0, &cscds, &segments)).unwrap();
    let want = [
        Step::Read { side: SMALL, lba: 16, blocks: 8 },
        Step::Write { side: LARGE, lba: 2, blocks: 1 },
        Step::Read { side: SMALL, lba: 24, blocks: 16 },
        Step::Write { side: LARGE, lba: 3, blocks: 2 },
    ];
    assert_eq!(steps, want);
    let uneven = lid1(1, 0, &cscds, &[segment(0, 0, 1, 7, 0, 0)]);
    assert_eq!(world.steps(0, &uneven), Err((vec![], Sense::COPY_SEGMENT_GRANULARITY)));
}

#[test]
fn lid4_names_its_own_unit() {
    let world = World::new();
    let mut list = vec![0; 48];
    (list[0], list[3], list[16]) = (0x01, 0x20, 0xff);
    list[20..24].copy_from_slice(&[1, 2, 3, 4]);
    list[45] = 28;
    let mut own = segment(0, 0, 0, 4, 1, 9);
    own[4..8].fill(0xff);
    list.extend(own);
    let want =
        [Step::Read { side: SMALL, lba: 1, blocks: 4 }, Step::Write { side: SMALL, lba: 9, blocks: 4 }];
    assert_eq!(world.steps(1, &list).unwrap(), want);
    assert_eq!(world.begin(1, &list).unwrap().list_id(), Some(0x0102_0304));
    for (at, value, sense) in [
        (0, 0x02, Sense::invalid_parameter(0)),
        (3, 0x1f, Sense::invalid_parameter(2)),
        (15, 0x01, Sense::invalid_parameter_bit(15, 0)),
        (16, 0xfe, Sense::invalid_parameter(16)),
    ] {
        let mut wrong = list.clone();
        wrong[at] = value;
        assert_eq!(world.begin(1, &wrong), Err(sense));
    }
}

#[test]
fn lists_that_are_refused() {
    let world = World::new();
    let (unit, whole) = (cscd(NAA, 512), segment(0, 0, 0, 8, 0, 100));
    let list = lid1(1, 0, std::slice::from_ref(&unit), std::slice::from_ref(&whole));
    let refused = |list: &[u8]| world.begin(0, list).unwrap_err();
    for cut in [15, 47, 75] {
        assert_eq!(refused(&list[..cut]), Sense::PARAMETER_LIST_LENGTH, "{cut}");
    }
    assert_eq!(Copy { action: 0, bytes: 77 }.begin(&list), Err(Sense::PARAMETER_LIST_LENGTH));
    let mut other = list.clone();
    other[16] = 0xe0;
    assert_eq!(refused(&other), Sense::UNSUPPORTED_CSCD);
    let mut other = list.clone();
    other[48] = 0x03;
    assert_eq!(refused(&other), Sense::UNSUPPORTED_SEGMENT);
    let mut other = list;
    other[15] = 1;
    assert_eq!(refused(&other), Sense::INLINE_DATA_LENGTH);
    assert_eq!(
        refused(&lid1(1, 0, &vec![unit.clone(); 17], std::slice::from_ref(&whole))),
        Sense::TOO_MANY_CSCDS
    );
    assert_eq!(
        refused(&lid1(1, 0, std::slice::from_ref(&unit), &vec![whole.clone(); 65])),
        Sense::TOO_MANY_SEGMENTS
    );
    assert_eq!(refused(&lid1(1, 0, &vec![unit; 17], &vec![whole; 65])), Sense::PARAMETER_LIST_LENGTH);
    assert_eq!(world.planned(&[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Plan::End(Status::Good));
}

#[test]
fn what_is_not_there_aborts_the_copy() {
    let mut world = World::new();
    let aborted = |world: &World, cscd: Vec<u8>, segment: Vec<u8>| {
        world.steps(0, &lid1(1, 0, &[cscd], &[segment])).unwrap_err()
    };
    let good = segment(0, 0, 0, 8, 0, 100);
    assert_eq!(
        aborted(&world, cscd(NAA, 512), segment(0, 0, 1, 8, 0, 9)),
        (vec![], Sense::COPY_TARGET_UNREACHABLE)
    );
    assert_eq!(aborted(&world, cscd([0x37; 8], 512), good.clone()), (vec![], Sense::COPY_TARGET_UNREACHABLE));
    assert_eq!(aborted(&world, cscd(NAA, 4096), good.clone()), (vec![], Sense::COPY_TARGET_TYPE));
    let beyond = segment(0, 0, 0, 8, 0, 9_993);
    assert_eq!(aborted(&world, cscd(NAA, 512), beyond), (vec![], Sense::COPY_ABORTED));
    for mapping in &mut world.target.mappings {
        mapping.read_only = true;
    }
    assert_eq!(aborted(&world, cscd(NAA, 512), good), (vec![], Sense::THIRD_PARTY_FAILURE));
}

#[test]
fn how_failures_are_told() {
    let check = |sense| super::outcome(Outcome::check(sense)).sense.unwrap();
    assert_eq!(check(Sense::READ_ERROR.at(7)), Sense::THIRD_PARTY_FAILURE);
    assert_eq!(check(Sense::NO_SPACE), Sense::NO_SPACE, "ESXi looks for exactly that");
    assert_eq!(check(Sense::LBA_OUT_OF_RANGE.at(7)), Sense::COPY_ABORTED);
    assert_eq!(check(Sense::TOO_MANY_CSCDS), Sense::TOO_MANY_CSCDS);
    assert_eq!(
        super::outcome(Outcome::of(Status::ReservationConflict)),
        Outcome::check(Sense::new(SenseKey::CopyAborted, 0x0d, 0x01))
    );
    assert_eq!(super::outcome(Outcome::of(Status::TaskAborted)), Outcome::of(Status::TaskAborted));
}

#[test]
fn results() {
    let world = World::new();
    let mut results = Results::default();
    let short = |id| [0x84, 0x00, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    let long = |id| [0x84, 0x05, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    assert_eq!(world.told(&short(9), &results), Err(Sense::invalid_byte(2)), "no such copy");
    results.begin(TASK, NexusId(1), UnitId(3), 9, &cdb(&[0x83, 0x00]));
    results.progress(TASK, 1, 0x1234);
    assert_eq!(world.told(&short(9), &results), Ok(vec![0, 0, 0, 8, 0x00, 0, 1, 0, 0, 0, 0x12, 0x34]));
    results.progress(TASK, 2, 1 << 32);
    results.end(TASK, Outcome::GOOD);
    // 4 GiB, in KiB.
    assert_eq!(world.told(&short(9), &results), Ok(vec![0, 0, 0, 8, 0x01, 0, 2, 1, 0, 0x40, 0, 0]));
    let mut want = vec![0, 0, 0, 28, 0x00, 0x01, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 0];
    want.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.told(&long(9), &results), Ok(want));

    results.begin(TASK, NexusId(1), UnitId(3), 8, &cdb(&[0x83, 0x01]));
    results.end(TASK, Outcome::check(Sense::COPY_ABORTED));
    assert_eq!(world.told(&short(8), &results).unwrap()[4], 0x02);
    let told = world.told(&long(8), &results).unwrap();
    assert_eq!(told[..16], [0, 0, 0, 36, 0x01, 0x02, 0, 1, 0, 0, 3, 0xe8, 0x02, 8, 8, 0]);
    assert_eq!(told[32..], [0x72, 0x0a, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.told(&short(9), &results).unwrap()[4], 0x01, "the other is still known");
    results.begin(TASK, NexusId(1), UnitId(3), 6, &cdb(&[0x83, 0x01]));
    results.lose(|_| false);
    assert_eq!(world.told(&short(6), &results).unwrap()[4], 0x00);
    results.lose(|task| task == TASK);
    assert_eq!(world.told(&long(6), &results).unwrap()[5], 0x60, "its command was aborted");
    results.begin(TASK, NexusId(2), UnitId(3), 7, &cdb(&[0x83, 0x00]));
    assert_eq!(world.told(&short(7), &results), Err(Sense::invalid_byte(2)), "another nexus's");
}

#[test]
fn a_copy_that_can_be_aborted_is_under_way_and_has_a_long_identifier() {
    let world = World::new();
    let abort = [0x83, 0x1c, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(world.planned(&abort), Plan::AbortCopy { id: 0x0102_0304 });
    let mut results = Results::default();
    let (nexus, unit) = (NexusId(1), UnitId(3));
    let other = Key { index: 8, generation: 1 };
    for (action, task, found) in
        [(0x01, TASK, Some(TASK)), (0x10, TASK, Some(TASK)), (0x11, other, Some(other)), (0x00, TASK, None)]
    {
        results.begin(task, nexus, unit, 9, &cdb(&[0x83, action]));
        assert_eq!(results.under_way(nexus, unit, 9), found, "{action:02x}h");
        assert_eq!(results.under_way(NexusId(2), unit, 9), None);
        assert_eq!(results.under_way(nexus, UnitId(4), 9), None);
        assert_eq!(results.under_way(nexus, unit, 8), None);
        results.end(task, Outcome::GOOD);
        assert_eq!(results.under_way(nexus, unit, 9), None, "it is over");
    }
}

#[test]
fn how_a_copy_failed() {
    let world = World::new();
    let mut results = Results::default();
    let ask = |id| [0x84, 0x04, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    assert_eq!(world.told(&ask(9), &results), Err(Sense::invalid_byte(2)), "no such copy");
    results.begin(TASK, NexusId(1), UnitId(3), 9, &cdb(&[0x83, 0x00]));
    assert_eq!(world.told(&ask(9), &results), Ok(vec![0; 4]), "at work");
    results.end(TASK, Outcome::GOOD);
    assert_eq!(world.told(&ask(9), &results), Ok(vec![0; 4]), "it has not failed");
    results.begin(TASK, NexusId(1), UnitId(3), 8, &cdb(&[0x83, 0x00]));
    results.end(TASK, Outcome::check(Sense::COPY_ABORTED));
    let told = world.told(&ask(8), &results).unwrap();
    let want = [0x02, 0, 0, 8, 0x72, 0x0a, 0, 0, 0, 0, 0, 0];
    assert_eq!((&told[..4], &told[56..]), (&[0, 0, 0, 64][..], &want[..]));
    assert!(told[4..56].iter().all(|byte| *byte == 0));
    assert_eq!(world.told(&ask(8), &results).unwrap(), told, "as often as it is asked for");
    // Aborted: nobody was told anything. And one with a long identifier is asked for otherwise.
    results.begin(TASK, NexusId(1), UnitId(3), 7, &cdb(&[0x83, 0x00]));
    results.lose(|_| true);
    assert_eq!(world.told(&ask(7), &results), Ok(vec![0; 4]));
    results.begin(TASK, NexusId(1), UnitId(3), 6, &cdb(&[0x83, 0x01]));
    results.end(TASK, Outcome::check(Sense::COPY_ABORTED));
    assert_eq!(world.told(&ask(6), &results), Err(Sense::invalid_byte(2)));
}

#[test]
fn operating_parameters_and_the_page() {
    let world = World::new();
    let told = world.told(&[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0], &Results::default());
    #[rustfmt::skip]
    let want = [
        0, 0, 0, 42, 1, 0, 0, 0, 0, 16, 0, 64, 0, 0, 0x09, 0x00,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 64, 9, 0, 0,
        0, 0, 0, 2, 0x02, 0xe4,
    ];
    assert_eq!(told, Ok(want.to_vec()));
    let page = world.told(&[0x12, 1, 0x8f, 2, 0, 0], &Results::default()).unwrap();
    #[rustfmt::skip]
    let want = [
        &[0x00, 0x8f, 0x01, 0x44][..],
        // Block device ROD limits: 16 ranges, 60 s, 30 s, 1 GiB, 64 MiB.
        &[0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 60, 0, 0, 0, 30],
        &[0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0],
        &[0, 1, 0, 16, 15, 0x83, 5, 0x00, 0x01, 0x10, 0x11, 0x1c, 0x84, 6, 0x00, 0x03, 0x04, 0x05, 0x07, 0x08],
        &[0, 4, 0, 28, 0, 0, 0, 0, 0, 16, 0, 64, 0, 0, 0x09, 0x00],
        &[0; 16],
        &[0, 8, 0, 4, 2, 0x02, 0xe4, 0],
        &[0, 0x0c, 0, 4, 0, 2, 0xff, 0xff],
        // ROD token features, types.
        &[0x01, 0x06, 0, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 30],
        &[0; 24],
        &[0x01, 0x08, 0, 132, 0, 0, 0, 128, 0x00, 0x80, 0x00, 0x01, 3, 0, 0, 0],
        &[0; 56],
        &[0xff, 0xff, 0x00, 0x01, 1, 0, 0, 0],
        &[0; 56],
        &[0x80, 1, 0, 32, 0, 0, 0, 64, 0, 0, 0, 64, 0, 0, 0, 0, 9, 0],
        &[0; 18],
    ];
    let want = want.concat();
    assert_eq!(page.len(), want.len());
    assert_eq!(page[2..4], (u16::try_from(want.len() - 4).unwrap()).to_be_bytes(), "{}", want.len());
    assert_eq!(page, want);
}
