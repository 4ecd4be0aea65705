//! Arrays of RAM disks: the contract, where data are, and members that fail, fill up, shrink or come late.

use std::sync::{Arc, Mutex};

use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
use crate::bdev::malloc::{self, Malloc};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::buf::{Class, Hugepages, Pool};
use crate::slab::Key;
use crate::time::Tick;

fn disk(number: u8, blocks: u64) -> Arc<Malloc> {
    disk_of(number, blocks, 512)
}

fn disk_of(number: u8, blocks: u64, block_bytes: u32) -> Arc<Malloc> {
    let recipe = malloc::Recipe {
        name: format!("M{number}"),
        blocks,
        blocks_max: 1000,
        block_bytes,
        physical_block_bytes: block_bytes,
        uuid: [number; 16],
        hugepages: Hugepages::Off,
    };
    Arc::new(Malloc::new(recipe).unwrap())
}

fn raid(level: Level, members: Vec<Arc<dyn Bdev>>) -> Raid {
    let (name, uuid) = ("R0".to_owned(), [0xA5; 16]);
    Raid::new(Recipe { name, uuid, level, strip_bytes: 4096, members, known: None, keeps: None })
}

#[test]
fn passes_the_contract() {
    for level in [Level::Striped, Level::Concat] {
        let make = || {
            let disks = [disk(1, 64), disk(2, 64), disk(3, 64)];
            let members: Vec<Arc<dyn Bdev>> = disks.iter().map(|disk| Arc::clone(disk) as _).collect();
            let bdev = Arc::new(raid(level, members));
            // It keeps its size: see below what becomes of it where members do not.
            Made { bdev, resize: None }
        };
        suite(&Subject { name: "raid", make: &make, keeps_data: true, frees_on_drop: true });
    }
}

const NOW: Tick = Tick::ZERO;
const TAG: Key = Key { index: 7, generation: 3 };

/// A channel and memory for it.
struct Rig {
    channel: Box<dyn Channel>,
    pool: Pool,
}

impl Rig {
    fn new(bdev: &dyn Bdev) -> Rig {
        Rig {
            channel: bdev.open(ReactorId(0)),
            pool: Pool::ordinary(&[Class { bytes: 65536, count: 2 }]).unwrap(),
        }
    }

    fn io(&self, op: Op, byte: impl Fn(usize) -> u8) -> Io {
        let mut data = self.pool.take(32768).unwrap();
        data.iter_mut().enumerate().for_each(|(index, at)| *at = byte(index));
        Io { tag: TAG, op, data: Some(data) }
    }

    fn poll(&mut self) -> Vec<Done> {
        let mut out = Vec::with_capacity(4);
        self.channel.poll(&mut out, 4, NOW);
        out
    }

    /// Submits and lets it end.
    fn run(&mut self, io: Io) -> Done {
        self.channel.submit(io, NOW).unwrap();
        self.channel.kick();
        for _ in 0..100 {
            if let Some(done) = self.poll().pop() {
                assert_eq!((done.tag, self.channel.in_flight(), self.channel.wake()), (TAG, 0, Wake::Idle));
                return done;
            }
        }
        panic!("it never ends");
    }

    fn write(&mut self, lba: u64, blocks: u32) -> Result<(), IoError> {
        let io = self.io(Op::Write { lba, blocks, fua: false }, |index| number(lba, index));
        self.run(io).result
    }

    /// The byte that each block begins with, and whether the rest of its buffer was left alone.
    fn read(&mut self, lba: u64, blocks: u32) -> Vec<u8> {
        let io = self.io(Op::Read { lba, blocks }, |_| 0xEE);
        let done = self.run(io);
        assert_eq!(done.result, Ok(()));
        let data = done.data.unwrap();
        assert_eq!(data.len(), 32768);
        let (read, rest) = data.split_at(blocks as usize * 512);
        assert!(rest.iter().all(|byte| *byte == 0xEE));
        read.chunks(512).map(|block| block[0]).collect()
    }
}

/// What the block of the array holds that a byte of a buffer goes to.
fn number(lba: u64, index: usize) -> u8 {
    (lba as usize + index / 512) as u8
}

#[test]
fn an_io_over_several_members_is_one() {
    let disks = [disk(1, 64), disk(2, 64), disk(3, 64)];
    let members: Vec<Arc<dyn Bdev>> = disks.iter().map(|disk| Arc::clone(disk) as _).collect();
    let mut rig = Rig::new(&raid(Level::Striped, members));
    assert_eq!(rig.write(5, 40), Ok(()));
    assert_eq!(rig.read(5, 40), (5..45).collect::<Vec<u8>>());
    assert_eq!(rig.read(13, 3), [13, 14, 15]);
    // Strips of eight blocks, in turn.
    let mut second = Rig::new(&*disks[1]);
    assert_eq!(second.read(0, 16), (8..16).chain(32..40).collect::<Vec<u8>>());
    let zero = Op::WriteZeroes { lba: 10, blocks: 26, fua: false, may_unmap: false };
    assert_eq!(rig.run(Io { tag: TAG, op: zero, data: None }).result, Ok(()));
    let expected: Vec<u8> = (5..45).map(|block| if (10..36).contains(&block) { 0 } else { block }).collect();
    assert_eq!(rig.read(5, 40), expected);
    let beyond = rig.io(Op::Read { lba: 191, blocks: 2 }, |_| 0);
    assert_eq!(rig.run(beyond).result, Err(IoError::OutOfRange));
    assert_eq!(rig.pool.in_use_count(), 0);
}

/// Two members, the second with faults to order.
fn faulty() -> (Raid, Faults) {
    let faults = Faults::new();
    let second = Arc::new(Faulty::new(disk(2, 64), faults.clone()));
    (raid(Level::Striped, vec![disk(1, 64), second]), faults)
}

#[test]
fn an_error_ends_the_whole_and_names_the_arrays_block() {
    let (raid, faults) = faulty();
    let mut rig = Rig::new(&raid);
    let bad = Rule {
        first_lba: 9,
        last_lba: 9,
        ..Rule::everywhere(Kind::Read, Fault::Fail(IoError::Medium { lba: Some(9) }))
    };
    faults.add(bad, u32::MAX).unwrap();
    let io = rig.io(Op::Read { lba: 0, blocks: 40 }, |_| 0);
    let done = rig.run(io);
    // The second member's second strip is the array's fourth.
    assert_eq!((done.result, done.data.unwrap().len()), (Err(IoError::Medium { lba: Some(25) }), 32768));
    assert_eq!(rig.read(0, 8), [0; 8]);
}

#[test]
fn a_member_without_room_is_waited_for_in_the_middle_and_refuses_at_the_beginning() {
    let (raid, faults) = faulty();
    let mut rig = Rig::new(&raid);
    faults.add(Rule::everywhere(Kind::Write, Fault::Full), 3).unwrap();
    let io = rig.io(Op::Write { lba: 8, blocks: 8, fua: false }, |index| number(8, index));
    let Err(Refused::Full(io)) = rig.channel.submit(io, NOW) else { panic!("it is full") };
    assert_eq!(
        (io.tag, io.op, io.data.as_ref().unwrap().len()),
        (TAG, Op::Write { lba: 8, blocks: 8, fua: false }, 32768)
    );
    drop(io);
    // Begins on the first member; the second has room the third time.
    assert_eq!(rig.write(0, 20), Ok(()));
    assert_eq!(rig.read(0, 20), (0..20).collect::<Vec<u8>>());
}

#[test]
fn what_is_cancelled_or_fenced_begins_no_further_leg() {
    for is_fence in [false, true] {
        let (raid, faults) = faulty();
        let mut rig = Rig::new(&raid);
        let hold = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
        let io = rig.io(Op::Write { lba: 0, blocks: 32, fua: false }, |index| number(0, index) + 1);
        rig.channel.submit(io, NOW).unwrap();
        assert!(rig.poll().is_empty(), "the second leg is held");
        match is_fence {
            true => assert_eq!(rig.channel.fence(), Fence::Fenced),
            false => rig.channel.cancel(TAG),
        }
        faults.release(hold);
        let done: Vec<Done> = (0..3).flat_map(|_| rig.poll()).collect();
        assert_eq!(done.iter().map(|done| done.result).collect::<Vec<_>>(), [Err(IoError::Cancelled)]);
        drop(done);
        assert_eq!(rig.read(0, 32), (1..9).chain([0; 24]).collect::<Vec<u8>>());
    }
}

#[test]
fn a_member_that_is_gone_takes_the_array_along() {
    let (raid, faults) = faulty();
    let mut rig = Rig::new(&raid);
    faults.set_state(ChannelState::Opening);
    let io = rig.io(Op::Read { lba: 0, blocks: 1 }, |_| 0);
    let Err(Refused::NotReady(io)) = rig.channel.submit(io, NOW) else { panic!("it is opening") };
    faults.set_state(ChannelState::Gone);
    assert_eq!(rig.channel.state(), ChannelState::Gone);
    // The array is gone; who asks nevertheless is answered by the member that has the block, which may have come back.
    rig.channel.submit(io, NOW).unwrap();
    assert_eq!(rig.poll().iter().map(|done| done.result).collect::<Vec<_>>(), [Ok(())]);
    let io = rig.io(Op::Read { lba: 8, blocks: 1 }, |_| 0);
    let Err(Refused::Gone(io)) = rig.channel.submit(io, NOW) else { panic!("it is gone") };
    faults.set_state(ChannelState::Ready);
    rig.channel.submit(io, NOW).unwrap();
    assert_eq!(rig.poll().iter().map(|done| done.result).collect::<Vec<_>>(), [Ok(())]);
}

fn known(blocks: &[u64]) -> Known {
    Known { blocks: blocks.to_vec(), block_bytes: Some(512) }
}

/// A place where a disk comes and goes, and of which nothing is known before.
#[derive(Debug, Default)]
struct Place(Arc<Mutex<Option<Arc<Malloc>>>>);

impl Place {
    fn put(&self, disk: Option<Arc<Malloc>>) {
        *self.0.lock().unwrap() = disk;
    }
}

impl Bdev for Place {
    fn info(&self) -> Info {
        let none = || Info { blocks: 0, ..disk(1, 8).info() };
        self.0.lock().unwrap().as_ref().map_or_else(none, |disk| disk.info())
    }

    fn open(&self, _: ReactorId) -> Box<dyn Channel> {
        Box::new(PlaceChannel(Arc::clone(&self.0), None))
    }
}

/// Goes to who is there when it is first used.
#[derive(Debug)]
struct PlaceChannel(Arc<Mutex<Option<Arc<Malloc>>>>, Option<Box<dyn Channel>>);

impl Channel for PlaceChannel {
    fn state(&self) -> ChannelState {
        let is_there = self.0.lock().unwrap().is_some();
        if is_there { ChannelState::Ready } else { ChannelState::Gone }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        let there = self.0.lock().unwrap().clone();
        let Some(disk) = there else { return Err(Refused::Gone(io)) };
        self.1.get_or_insert_with(|| disk.open(ReactorId(0))).submit(io, now)
    }

    fn kick(&mut self) {}

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.1.iter_mut().for_each(|inner| inner.poll(out, max, now));
    }

    fn cancel(&mut self, _: Key) {}

    fn fence(&mut self) -> Fence {
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        self.1.as_ref().map_or(Wake::Idle, |inner| inner.wake())
    }

    fn in_flight(&self) -> u32 {
        self.1.as_ref().map_or(0, |inner| inner.in_flight())
    }
}

/// Remembers what it was given, unless it is full.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<(Vec<Known>, bool)>>);

impl Keeps for Kept {
    fn keep(&self, known: Known) -> Result<(), String> {
        let mut kept = self.0.lock().unwrap();
        if kept.1 {
            return Err("full".to_owned());
        }
        kept.0.push(known);
        Ok(())
    }
}

/// A channel that was opened before anybody knew the members' blocks moves those that they have.
#[test]
fn what_is_not_known_yet_is_waited_for_and_kept_before_it_is_used() {
    let places = [Arc::new(Place::default()), Arc::new(Place::default())];
    let members: Vec<Arc<dyn Bdev>> = places.iter().map(|place| Arc::clone(place) as _).collect();
    let kept = Kept::default();
    let raid = Raid::new(Recipe {
        name: "R0".to_owned(),
        uuid: [1; 16],
        level: Level::Striped,
        strip_bytes: 4096,
        members,
        known: None,
        keeps: Some(Box::new(kept.clone())),
    });
    let mut rig = Rig::new(&raid);
    places[0].put(Some(disk_of(1, 20, 4096)));
    assert_eq!((raid.probe().is_err(), raid.info().blocks), (true, 0));
    places[1].put(Some(disk_of(2, 16, 4096)));
    kept.0.lock().unwrap().1 = true;
    assert_eq!((raid.probe().unwrap_err().to_string(), raid.info().blocks), ("full".to_owned(), 0));
    let io = rig.io(Op::Read { lba: 0, blocks: 1 }, |_| 0);
    assert!(matches!(rig.channel.submit(io, NOW), Err(Refused::NotReady(_))));
    kept.0.lock().unwrap().1 = false;
    assert!(raid.probe().is_ok() && raid.probe().is_ok());
    assert_eq!(kept.0.lock().unwrap().0, [Known { blocks: vec![20, 16], block_bytes: Some(4096) }]);
    assert_eq!((raid.info().blocks, raid.info().block_bytes), (32, 4096));
    let io = rig.io(Op::Write { lba: 0, blocks: 8, fua: false }, |index| (index / 4096) as u8 + 1);
    assert_eq!(rig.run(io).result, Ok(()));
    let io = rig.io(Op::Read { lba: 0, blocks: 8 }, |_| 0);
    let data = rig.run(io).data.unwrap();
    let first: Vec<u8> = data.chunks(4096).map(|block| block[0]).collect();
    assert_eq!(first, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_member_that_comes_back_with_other_blocks_or_fewer_is_not_taken_in() {
    for (disk, why) in [
        (
            disk_of(2, 64, 4096),
            "member M2 has blocks of 4096 bytes and is not taken in: the array's are of 512",
        ),
        (disk(2, 39), "member M2 has 39 blocks and is not taken in: the array has data in 40"),
    ] {
        let place = Arc::new(Place::default());
        place.put(Some(self::disk(2, 40)));
        let array = raid(Level::Concat, vec![self::disk(1, 64), Arc::clone(&place) as _]);
        assert_eq!(array.info().blocks, 104);
        place.put(Some(Arc::clone(&disk)));
        assert_eq!((array.info().blocks, array.info().block_bytes), (0, 512));
        assert_eq!(array.probe().unwrap_err().to_string(), why);
        // Nor where it comes after another start.
        let (name, uuid, level) = ("R0".to_owned(), [1; 16], Level::Concat);
        let members: Vec<Arc<dyn Bdev>> = vec![self::disk(1, 64), disk];
        let known = Some(known(&[64, 40]));
        let again = Raid::new(Recipe { name, uuid, level, strip_bytes: 4096, members, known, keeps: None });
        assert_eq!((again.info().blocks, again.info().block_bytes), (0, 512));
        assert_eq!(again.probe().unwrap_err().to_string(), why);
        assert_eq!(again.open(ReactorId(0)).state(), ChannelState::Opening);
    }
}

#[test]
fn it_is_there_when_all_members_are_and_stays_as_it_was_made() {
    let (first, second) = (disk(1, 64), disk(2, 32));
    let members: Vec<Arc<dyn Bdev>> = vec![Arc::clone(&first) as _, Arc::clone(&second) as _];
    let concat = raid(Level::Concat, members.clone());
    assert_eq!((concat.info().blocks, concat.known()), (96, Some(known(&[64, 32]))));
    first.resize(128).unwrap();
    assert_eq!(concat.info().blocks, 96, "what follows does not move");
    let again = |blocks: &[u64]| {
        let (name, uuid, level) = ("R0".to_owned(), [1; 16], Level::Concat);
        let (members, known) = (members.clone(), Some(known(blocks)));
        Raid::new(Recipe { name, uuid, level, strip_bytes: 4096, members, known, keeps: None })
    };
    assert_eq!(again(&[64, 32]).info().blocks, 96, "nor after another start");
    second.resize(31).unwrap();
    assert_eq!((concat.info().blocks, concat.probe().is_err()), (0, true), "a part of it is missing");
    second.resize(32).unwrap();
    assert_eq!((concat.info().blocks, concat.probe().is_ok()), (96, true));
    let shrunk = again(&[64, 40]);
    assert_eq!((shrunk.info().blocks, shrunk.open(ReactorId(0)).state()), (0, ChannelState::Opening));
    assert!(shrunk.probe().is_err());
    second.resize(40).unwrap();
    assert_eq!((shrunk.probe().is_ok(), shrunk.info().blocks), (true, 104));
}

#[test]
fn info_is_what_all_members_have_in_common() {
    let striped = raid(Level::Striped, vec![disk(1, 64), disk(2, 70)]).info();
    assert_eq!((striped.blocks, striped.block_bytes, striped.uuid), (128, 512, [0xA5; 16]));
    assert_eq!((striped.offloads, striped.protection), (Offloads::default(), None));
    let unmap = disk(1, 64).info().unmap;
    assert_eq!(striped.unmap, unmap);
}

#[test]
fn a_row_anchors_where_all_of_it_does() {
    #[derive(Debug)]
    struct Anchors(Arc<Malloc>);
    impl Bdev for Anchors {
        fn info(&self) -> Info {
            let info = self.0.info();
            Info { unmap: info.unmap.map(|unmap| Unmap { anchors: true, ..unmap }), ..info }
        }
        fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
            self.0.open(reactor)
        }
    }
    let row = |members: Vec<Arc<dyn Bdev>>| raid(Level::Striped, members).info().unmap.unwrap().anchors;
    let anchors = |number| Arc::new(Anchors(disk(number, 64)));
    assert!(row(vec![anchors(1), anchors(2)]));
    assert!(!row(vec![anchors(1), disk(2, 64)]));
}
