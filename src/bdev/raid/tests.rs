//! Arrays of RAM disks: the contract, where data are, and members that fail, fill up, shrink or come late.

use std::sync::Arc;

use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
use crate::bdev::malloc::{self, Malloc};
use crate::bdev::{ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::buf::{Class, Hugepages, Pool};
use crate::slab::Key;
use crate::time::Tick;

fn disk(number: u8, blocks: u64) -> Arc<Malloc> {
    let recipe = malloc::Recipe {
        name: format!("M{number}"),
        blocks,
        blocks_max: 1000,
        block_bytes: 512,
        physical_block_bytes: 512,
        uuid: [number; 16],
        hugepages: Hugepages::Off,
    };
    Arc::new(Malloc::new(recipe).unwrap())
}

fn raid(level: Level, members: Vec<Arc<dyn Bdev>>) -> Raid {
    let (name, uuid) = ("R0".to_owned(), [0xA5; 16]);
    Raid::new(Recipe { name, uuid, level, strip_bytes: 4096, members, blocks: Vec::new() })
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

#[test]
fn it_is_there_when_all_members_are_and_stays_as_it_was_made() {
    let (first, second) = (disk(1, 64), disk(2, 32));
    let members: Vec<Arc<dyn Bdev>> = vec![Arc::clone(&first) as _, Arc::clone(&second) as _];
    let concat = raid(Level::Concat, members.clone());
    assert_eq!((concat.info().blocks, concat.member_blocks()), (96, Some(vec![64, 32])));
    first.resize(128).unwrap();
    assert_eq!(concat.info().blocks, 96, "what follows does not move");
    let again = |blocks: &[u64]| {
        let (name, uuid, blocks) = ("R0".to_owned(), [1; 16], blocks.to_vec());
        Raid::new(Recipe {
            name,
            uuid,
            level: Level::Concat,
            strip_bytes: 4096,
            members: members.clone(),
            blocks,
        })
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
