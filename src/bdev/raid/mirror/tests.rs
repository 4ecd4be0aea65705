//! Mirrors of RAM disks: the contract, what is answered when a member fails, what a start reads, and how members are filled.

mod away;
mod deciding;
mod flushing;
mod mending;
mod telling;

use std::sync::{Arc, Mutex};

use super::record::{Start, There};
use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
use crate::bdev::malloc::{self, Malloc};
use crate::bdev::{ChannelState, Done, Fence, Io, IoError, Op};
use crate::buf::{Class, Pool};
use crate::slab::Key;
use crate::time::{MS_NS, Tick};

const BLOCKS: u64 = 64;
const TIMES: Times = Times {
    missing_ns: 50 * MS_NS,
    calm_ns: 20 * MS_NS,
    again_ns: 10 * MS_NS,
    look_ns: MS_NS,
    window_bytes: 8192,
};

fn disk(number: u8) -> Arc<Malloc> {
    let recipe = malloc::Recipe {
        name: format!("M{number}"),
        blocks: BLOCKS,
        blocks_max: 1000,
        block_bytes: 512,
        physical_block_bytes: 512,
        uuid: [number; 16],
        hugepages: Hugepages::Off,
    };
    Arc::new(Malloc::new(recipe).unwrap())
}

/// What was kept, and whether that goes well.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<(Vec<Record>, bool)>>);

impl Kept {
    fn last(&self) -> (Vec<u8>, bool) {
        let kept = self.0.lock().unwrap();
        let record = kept.0.last().unwrap();
        (record.current.iter().map(|uuid| uuid[0]).collect(), record.is_dirty)
    }

    fn fail(&self, fails: bool) {
        self.0.lock().unwrap().1 = fails;
    }
}

impl Records for Kept {
    fn save(&mut self, record: &Record) -> Result<(), String> {
        let mut kept = self.0.lock().unwrap();
        if kept.1 {
            return Err("full".to_owned());
        }
        kept.0.push(record.clone());
        Ok(())
    }
}

fn record(current: &[u8], is_dirty: bool) -> Record {
    Record {
        blocks: BLOCKS,
        block_bytes: 512,
        members: Vec::new(),
        current: current.iter().map(|number| [*number; 16]).collect(),
        is_dirty,
    }
}

fn recipe(members: Vec<Arc<dyn Bdev>>, record: Record, kept: &Kept) -> Recipe {
    Recipe {
        name: "R".to_owned(),
        uuid: [0xA5; 16],
        volatile: vec![false; members.len()],
        members,
        record,
        is_new: false,
        records: Box::new(kept.clone()),
        hugepages: Hugepages::Off,
        times: TIMES,
    }
}

#[test]
fn passes_the_contract() {
    let make = || {
        let members: Vec<Arc<dyn Bdev>> = vec![disk(1), disk(2)];
        let recipe = recipe(members, record(&[1], false), &Kept::default());
        let (mirror, starter) = Mirror::new(Recipe { is_new: true, ..recipe });
        let handle = starter.handle();
        starter.start().unwrap();
        while !handle.is_begun() {
            std::thread::yield_now();
        }
        Made { bdev: Arc::new(mirror), resize: None }
    };
    suite(&Subject { name: "mirror", make: &make, keeps_data: true, frees_on_drop: true });
}

const TAG: Key = Key { index: 7, generation: 3 };
const OTHER: Key = Key { index: 8, generation: 3 };
const THIRD: Key = Key { index: 9, generation: 3 };

/// A mirror, a channel to it, and time.
struct Rig {
    mirror: Mirror,
    warden: Warden,
    channel: Box<dyn Channel>,
    pool: Pool,
    kept: Kept,
    now: Tick,
}

impl Rig {
    fn new(members: Vec<Arc<dyn Bdev>>, record: Record) -> Rig {
        let kept = Kept::default();
        let (mirror, warden) = Mirror::staged(recipe(members, record, &kept));
        let channel = mirror.open(ReactorId(0));
        let pool = Pool::ordinary(&[Class { bytes: 32768, count: 4 }]).unwrap();
        Rig { mirror, warden, channel, pool, kept, now: Tick::ZERO }
    }

    /// One whose members are all current and ready to be written.
    fn ready(members: Vec<Arc<dyn Bdev>>) -> Rig {
        let current: Vec<u8> = members.iter().map(|member| member.info().uuid[0]).collect();
        let mut rig = Rig::new(members, record(&current, false));
        rig.pass(2);
        assert_eq!(rig.write(0, 1, 0), Ok(()));
        rig
    }

    /// Lets the warden have so many milliseconds, and the channel too.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms * 4 {
            self.now = self.now.after_ns(MS_NS / 4);
            self.warden.step(self.now);
            assert!(self.poll().is_empty());
        }
    }

    fn poll(&mut self) -> Vec<Done> {
        let mut out = Vec::with_capacity(4);
        self.channel.poll(&mut out, 4, self.now);
        out
    }

    fn io(&self, op: Op, byte: u8) -> Io {
        let mut data = self.pool.take(32768).unwrap();
        data.fill(byte);
        Io { tag: TAG, op, data: Some(data) }
    }

    fn submit(&mut self, op: Op, byte: u8) {
        self.submit_as(TAG, op, byte);
    }

    fn submit_as(&mut self, tag: Key, op: Op, byte: u8) {
        let io = Io { tag, ..self.io(op, byte) };
        self.channel.submit(io, self.now).unwrap();
        self.channel.kick();
    }

    /// What a channel has to say without the warden.
    fn alone(&mut self) -> Vec<Result<(), IoError>> {
        (0..20).flat_map(|_| self.poll()).map(|done| done.result).collect()
    }

    fn end(&mut self) -> Done {
        for _ in 0..400 {
            if let Some(done) = self.poll().pop() {
                return done;
            }
            self.now = self.now.after_ns(MS_NS / 4);
            self.warden.step(self.now);
        }
        panic!("it never ends");
    }

    fn write(&mut self, lba: u64, blocks: u32, byte: u8) -> Result<(), IoError> {
        self.submit(Op::Write { lba, blocks, fua: false }, byte);
        self.end().result
    }

    fn read(&mut self, lba: u64) -> Result<u8, IoError> {
        self.submit(Op::Read { lba, blocks: 1 }, 0xEE);
        let done = self.end();
        done.result.map(|()| done.data.unwrap()[0])
    }

    fn doing(&self) -> Vec<Doing> {
        self.mirror.doing()
    }
}

fn held(disk: &Arc<Malloc>, lba: u64) -> u8 {
    let mut channel = disk.open(ReactorId(0));
    let mut data = [0; 512];
    assert!(channel.load(lba, &mut data, Tick::ZERO));
    data[0]
}

use Doing::{Current, Out};

#[test]
fn a_write_is_on_all_members_and_only_after_the_state_file_says_that_they_may_differ() {
    let disks = [disk(1), disk(2)];
    let members: Vec<Arc<dyn Bdev>> = disks.iter().map(|disk| Arc::clone(disk) as _).collect();
    let mut rig = Rig::new(members, record(&[1, 2], false));
    assert_eq!((rig.channel.state(), rig.mirror.info().blocks), (ChannelState::Opening, 0));
    rig.pass(2);
    assert_eq!((rig.channel.state(), rig.mirror.info().blocks), (ChannelState::Ready, BLOCKS));
    rig.kept.fail(true);
    rig.submit(Op::Write { lba: 3, blocks: 1, fua: false }, 7);
    rig.pass(5);
    assert_eq!((held(&disks[0], 3), held(&disks[1], 3)), (0, 0));
    rig.kept.fail(false);
    assert_eq!(rig.end().result, Ok(()));
    assert_eq!((held(&disks[0], 3), held(&disks[1], 3)), (7, 7));
    assert_eq!(rig.kept.last(), (vec![1, 2], true));
    // When all is calm they are equal.
    rig.pass(40);
    assert_eq!(rig.kept.last(), (vec![1, 2], false));
    let zero = Op::Unmap { lba: 3, blocks: 1 };
    rig.channel.submit(Io { tag: TAG, op: zero, data: None }, rig.now).unwrap();
    assert_eq!(rig.end().result, Ok(()));
    assert_eq!((held(&disks[0], 3), held(&disks[1], 3)), (0, 0));
    let beyond = rig.io(Op::Read { lba: BLOCKS, blocks: 1 }, 0);
    rig.channel.submit(beyond, rig.now).unwrap();
    assert_eq!(rig.end().result, Err(IoError::OutOfRange));
}

/// Members of which one does as it is told.
fn faulty(first: &Arc<Malloc>, second: &Arc<Malloc>, is_first: bool) -> (Vec<Arc<dyn Bdev>>, Faults) {
    let faults = Faults::new();
    let bad = if is_first { first } else { second };
    let bad: Arc<dyn Bdev> = Arc::new(Faulty::new(Arc::clone(bad) as _, faults.clone()));
    let good = Arc::clone(if is_first { second } else { first });
    (if is_first { vec![bad, good] } else { vec![good, bad] }, faults)
}

fn fail(faults: &Faults, kind: Kind) {
    faults.add(Rule::everywhere(kind, Fault::Fail(IoError::Medium { lba: None })), 1).unwrap();
}

#[test]
fn a_member_that_fails_a_write_is_out_durably_before_the_write_is_answered() {
    for is_first in [true, false] {
        let (first, second) = (disk(1), disk(2));
        let (members, faults) = faulty(&first, &second, is_first);
        let mut rig = Rig::ready(members);
        fail(&faults, Kind::Write);
        rig.submit(Op::Write { lba: 1, blocks: 1, fua: false }, 9);
        assert!(rig.alone().is_empty());
        rig.kept.fail(true);
        rig.pass(5);
        rig.kept.fail(false);
        assert_eq!(rig.end().result, Ok(()));
        let (left, doing) = if is_first { (2, [Out, Current]) } else { (1, [Current, Out]) };
        assert_eq!((rig.kept.last(), rig.doing()), ((vec![left], true), doing.to_vec()));
        assert_eq!(rig.read(1), Ok(9));
        // It is filled again after a while, then the other one can fail.
        rig.pass(60);
        assert_eq!((rig.kept.last().0, rig.doing()), (vec![1, 2], vec![Current, Current]));
        assert_eq!((held(&first, 1), held(&second, 1)), (9, 9));
    }
}

#[test]
fn what_cannot_be_read_is_read_from_another_member() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    assert_eq!(rig.write(5, 1, 4), Ok(()));
    // One that does not answer is out; for a bad medium see `mending`.
    faults.add(Rule::everywhere(Kind::Read, Fault::Fail(IoError::Aborted)), 1).unwrap();
    assert_eq!(rig.read(5), Ok(4));
    assert_eq!((rig.kept.last(), rig.doing()), ((vec![2], true), vec![Out, Current]));
    // The last one stays, and says what it cannot do.
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::new(members, record(&[1], false));
    faults.set_state(ChannelState::Ready);
    rig.pass(1);
    faults
        .add(Rule::everywhere(Kind::Read, Fault::Fail(IoError::Medium { lba: Some(5) })), u32::MAX)
        .unwrap();
    assert_eq!(rig.read(5), Err(IoError::Medium { lba: Some(5) }));
    assert_eq!(rig.doing()[0], Current);
}

/// Else it would have what the one that is read has not.
#[test]
fn who_is_being_filled_begins_anew_when_the_last_member_fails_a_write() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::new(members, record(&[1], false));
    let hold = faults.add(Rule::everywhere(Kind::Read, Fault::Hold), 1).unwrap();
    rig.pass(3);
    assert_eq!(rig.doing(), [Current, Doing::Filling(0)]);
    fail(&faults, Kind::Write);
    assert_eq!(rig.write(60, 1, 3), Err(IoError::Medium { lba: None }));
    assert_eq!((rig.doing(), held(&second, 60)), (vec![Current, Out], 3));
    faults.release(hold);
    rig.pass(60);
    assert_eq!((rig.doing(), held(&second, 60)), (vec![Current, Current], 0));
}

#[test]
fn a_flush_reaches_all_and_who_cannot_is_out() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, false);
    let mut rig = Rig::ready(members);
    faults.add(Rule::everywhere(Kind::Flush, Fault::Fail(IoError::FlushFailed)), 1).unwrap();
    rig.channel.submit(Io { tag: TAG, op: Op::Flush, data: None }, rig.now).unwrap();
    assert_eq!(rig.end().result, Ok(()));
    assert_eq!((rig.kept.last().0, rig.doing()), (vec![1], vec![Current, Out]));
}

#[test]
fn a_member_that_goes_is_out_and_what_has_begun_cannot_be_fenced() {
    let (first, second) = (disk(1), disk(2));
    let (members, faults) = faulty(&first, &second, true);
    let mut rig = Rig::ready(members);
    let hold = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    rig.submit(Op::Write { lba: 2, blocks: 1, fua: false }, 8);
    rig.channel.cancel(TAG);
    assert!(rig.alone().is_empty());
    assert_eq!(rig.channel.fence(), Fence::Cannot);
    faults.release(hold);
    assert_eq!(rig.end().result, Ok(()), "it went on to all");
    assert_eq!((held(&first, 2), held(&second, 2)), (8, 8));
    faults.set_state(ChannelState::Gone);
    assert_eq!(rig.write(2, 1, 9), Ok(()));
    assert_eq!((rig.read(2), rig.doing()[0]), (Ok(9), Out));
}

#[test]
fn after_a_crash_one_member_is_right_and_the_others_are_filled() {
    let disks = [disk(1), disk(2)];
    let members: Vec<Arc<dyn Bdev>> = disks.iter().map(|disk| Arc::clone(disk) as _).collect();
    for (number, disk) in (1..).zip(&disks) {
        assert!(disk.open(ReactorId(0)).store(40, &[number; 512], false, Tick::ZERO));
    }
    let mut rig = Rig::new(members.clone(), record(&[1, 2], true));
    rig.pass(1);
    assert_eq!((rig.kept.last(), rig.doing()[0], rig.read(40)), ((vec![1], false), Current, Ok(1)));
    // What is changed meanwhile is not lost.
    assert_eq!(rig.write(41, 1, 5), Ok(()));
    rig.pass(40);
    assert_eq!(rig.doing(), [Current, Current]);
    assert_eq!((held(&disks[1], 40), held(&disks[1], 41)), (1, 5));
    // Who was out is not read, though it comes first.
    assert!(disks[0].open(ReactorId(0)).store(40, &[9; 512], false, Tick::ZERO));
    let mut rig = Rig::new(members, record(&[2], false));
    rig.pass(1);
    assert_eq!((rig.read(40), rig.doing()[1]), (Ok(1), Current));
    rig.pass(40);
    assert_eq!((held(&disks[0], 40), rig.doing()), (1, vec![Current, Current]));
}

#[test]
fn a_start_waits_for_members_and_reads_none_that_is_old() {
    let info = |number: u8| There::of(&*disk(number));
    let (none, all) = (Set::EMPTY, Set(0b11));
    let start = |record: Record, there: &[Option<There>], volatile, is_late| match record
        .start(there, volatile, is_late)
    {
        Start::With(members) => Some(members),
        Start::Wait(_) => None,
    };
    let both = [info(1), info(2)];
    assert_eq!(start(record(&[1, 2], false), &both, none, false), Some(all));
    assert_eq!(start(record(&[1, 2], true), &both, none, false), Some(Set(1)));
    assert_eq!(start(record(&[2], true), &both, none, false), Some(Set(2)));
    for is_late in [false, true] {
        let one = [info(1), None];
        assert_eq!(start(record(&[1, 2], false), &one, none, is_late), is_late.then_some(Set(1)));
        assert_eq!(start(record(&[2], false), &one, none, is_late), None, "it is old");
        assert_eq!(start(record(&[], false), &both, none, is_late), None, "nobody knows");
        // What forgets is filled from what does not; where there is only that, it begins anew.
        assert_eq!(start(record(&[1, 2], false), &both, Set(1), is_late), Some(Set(2)));
        assert_eq!(start(record(&[1], false), &both, Set(1), is_late), None);
        assert_eq!(start(record(&[1, 2], false), &both, all, is_late), Some(Set(1)));
        // Another medium under the same name and UUID is another member; one that is there twice is one.
        let other = |number: u8, own: u8| info(number).map(|there| There { own: [own; 16], ..there });
        assert_eq!(start(record(&[1], false), &[other(1, 3), info(2)], none, is_late), None);
        assert_eq!(
            start(record(&[1, 2], false), &[other(1, 3), info(2)], none, is_late),
            Some(Set(2)),
            "all places are known: nobody is waited for"
        );
        assert_eq!(start(record(&[1], false), &[other(1, 2), other(2, 1)], none, is_late), Some(Set(2)));
        assert_eq!(start(record(&[1, 2], false), &[info(1), other(2, 1)], none, is_late), Some(Set(1)));
        let larger = Record { blocks: BLOCKS + 1, ..record(&[1, 2], false) };
        assert_eq!(start(larger, &both, none, is_late), None);
    }
}

#[test]
fn an_operator_takes_members_out_and_adds_them() {
    let members: Vec<Arc<dyn Bdev>> = vec![disk(1), disk(2)];
    let mut rig = Rig::ready(members);
    let handle = Handle(Arc::clone(&rig.mirror.shared));
    let ask = |rig: &mut Rig, what: fn(&Handle) -> Result<(), String>| {
        let handle = handle.clone();
        let asked = std::thread::spawn(move || what(&handle));
        while !asked.is_finished() {
            rig.pass(1);
        }
        asked.join().unwrap()
    };
    assert_eq!(ask(&mut rig, |handle| handle.remove(0)), Ok(()));
    rig.pass(60);
    assert_eq!((rig.kept.last().0, rig.doing()), (vec![2], vec![Out, Current]));
    assert!(ask(&mut rig, |handle| handle.remove(1)).is_err());
    assert!(ask(&mut rig, |handle| handle.add(1)).is_err());
    assert_eq!(ask(&mut rig, |handle| handle.add(0)), Ok(()));
    rig.pass(60);
    assert_eq!((rig.kept.last().0, rig.doing()), (vec![1, 2], vec![Current, Current]));
}
