use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::malloc::{Malloc, Recipe};
use crate::buf::{Buf, Class, Hugepages, Pool};

const ALWAYS: u32 = u32::MAX;

fn disk() -> Arc<Malloc> {
    let recipe = Recipe {
        name: "Malloc0".to_owned(),
        blocks: 100,
        blocks_max: 100,
        block_bytes: 512,
        physical_block_bytes: 512,
        uuid: [7; 16],
        hugepages: Hugepages::Off,
    };
    Arc::new(Malloc::new(recipe).unwrap())
}

struct Bench {
    faults: Faults,
    channel: Box<dyn Channel>,
    pool: Pool,
}

fn bench() -> Bench {
    let faults = Faults::new();
    let channel = Faulty::new(disk(), faults.clone()).open(ReactorId(0));
    Bench { faults, channel, pool: Pool::ordinary(&[Class { bytes: 4096, count: 300 }]).unwrap() }
}

impl Bench {
    fn block(&self, byte: u8) -> Option<Buf> {
        let mut buf = self.pool.take(512).unwrap();
        buf.fill(byte);
        Some(buf)
    }

    fn write(&mut self, index: u32, lba: u64, byte: u8) -> Result<(), Refused> {
        let op = Op::Write { lba, blocks: 1, fua: false };
        let io = Io { tag: Key { index, generation: 0 }, op, data: self.block(byte) };
        self.channel.submit(io, Tick::ZERO)
    }

    fn read(&mut self, lba: u64) -> (u8, Result<(), IoError>) {
        let op = Op::Read { lba, blocks: 1 };
        let io = Io { tag: Key { index: 99, generation: 0 }, op, data: self.block(0xEE) };
        self.channel.submit(io, Tick::ZERO).unwrap();
        let mut out = Vec::with_capacity(1);
        self.channel.poll(&mut out, 1, Tick::ZERO);
        (out[0].data.as_ref().unwrap()[0], out[0].result)
    }

    fn ended(&mut self) -> Vec<(u32, Result<(), IoError>)> {
        let mut out = Vec::with_capacity(8);
        self.channel.poll(&mut out, 8, Tick::ZERO);
        out.iter().map(|done| (done.tag.index, done.result)).collect()
    }
}

#[test]
fn passes_the_contract_without_faults() {
    let make = || {
        let disk = disk();
        let bdev = Arc::new(Faulty::new(Arc::clone(&disk) as Arc<dyn Bdev>, Faults::new()));
        Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(blocks).unwrap())) }
    };
    suite(&Subject { name: "error", make: &make, keeps_data: true, frees_on_drop: true });
}

#[test]
fn passes_the_contract_with_writes_that_are_held_and_let_go() {
    let make = || {
        let disk = disk();
        let faults = Faults::new();
        let rule = faults.add(Rule::everywhere(Kind::Write, Fault::Hold), ALWAYS).unwrap();
        let inner =
            Arc::new(LetsGo { inner: Faulty::new(Arc::clone(&disk) as _, faults.clone()), faults, rule });
        Made { bdev: inner, resize: Some(Box::new(move |blocks| disk.resize(blocks).unwrap())) }
    };
    suite(&Subject { name: "error, holding", make: &make, keeps_data: true, frees_on_drop: true });
}

/// Releases all that is held whenever it is told to go on.
#[derive(Debug)]
struct LetsGo<T> {
    inner: T,
    faults: Faults,
    rule: RuleId,
}

impl Bdev for LetsGo<Faulty> {
    fn info(&self) -> Info {
        self.inner.info()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(LetsGo { inner: self.inner.open(reactor), faults: self.faults.clone(), rule: self.rule })
    }
}

impl Channel for LetsGo<Box<dyn Channel>> {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }
    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        self.inner.submit(io, now)
    }
    fn kick(&mut self) {
        self.faults.release(self.rule);
        self.inner.kick();
    }
    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.inner.poll(out, max, now);
    }
    fn cancel(&mut self, tag: Key) {
        self.inner.cancel(tag);
    }
    fn fence(&mut self) -> Fence {
        self.inner.fence()
    }
    fn wake(&self) -> Wake {
        self.inner.wake()
    }
    fn in_flight(&self) -> u32 {
        self.inner.in_flight()
    }
}

#[test]
fn a_rule_fails_its_kind_in_its_range_so_often() {
    let mut bench = bench();
    let error = IoError::Medium { lba: Some(5) };
    let rule = Rule { kind: Kind::Write, first_lba: 5, last_lba: 6, fault: Fault::Fail(error) };
    let id = bench.faults.add(rule, 2).unwrap();
    for (index, lba) in [(0, 4), (1, 5), (2, 7), (3, 6), (4, 5)] {
        bench.write(index, lba, 0xAB).unwrap();
    }
    let mut ended = bench.ended();
    ended.sort_by_key(|(index, _)| *index);
    assert_eq!(ended, [(0, Ok(())), (1, Err(error)), (2, Ok(())), (3, Err(error)), (4, Ok(()))]);
    assert_eq!(bench.read(6), (0, Ok(())), "what failed was not written");
    assert_eq!(bench.faults.left(id), 0);
    bench.faults.arm(id, 1);
    bench.write(5, 5, 1).unwrap();
    assert_eq!(bench.ended(), [(5, Err(error))]);
}

#[test]
fn a_held_write_lands_when_let_go_and_not_before() {
    let mut bench = bench();
    let id = bench.faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 1).unwrap();
    bench.faults.release(id);
    bench.write(0, 9, 0x11).unwrap();
    assert_eq!(bench.ended(), []);
    assert_eq!((bench.channel.in_flight(), bench.channel.wake()), (1, Wake::MustPoll));
    bench.write(1, 9, 0x22).unwrap();
    assert_eq!(bench.ended(), [(1, Ok(()))]);
    assert_eq!(bench.read(9).0, 0x22);
    bench.faults.release(id);
    assert_eq!(bench.ended(), [(0, Ok(()))]);
    assert_eq!(bench.read(9).0, 0x11, "a ghost write");
}

#[test]
fn hold_can_be_cancelled_and_fenced_and_lose_cannot() {
    let mut bench = bench();
    bench.faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 2).unwrap();
    let lost = bench.faults.add(Rule::everywhere(Kind::Write, Fault::Lose), 1).unwrap();
    for index in 0..2 {
        bench.write(index, 0, 0x33).unwrap();
    }
    bench.channel.cancel(Key { index: 0, generation: 0 });
    assert_eq!(bench.ended(), [(0, Err(IoError::Cancelled))]);
    assert_eq!(bench.channel.fence(), Fence::Fenced);
    assert_eq!(bench.ended(), [(1, Err(IoError::Cancelled))]);
    bench.write(2, 0, 0x44).unwrap();
    bench.channel.cancel(Key { index: 2, generation: 0 });
    assert_eq!(bench.channel.fence(), Fence::Cannot);
    assert_eq!(bench.ended(), []);
    assert_eq!(bench.read(0).0, 0);
    bench.faults.release(lost);
    assert_eq!(bench.ended(), [(2, Ok(()))]);
    assert_eq!(bench.read(0).0, 0x44);
}

#[test]
fn full_is_refused_so_often() {
    let mut bench = bench();
    bench.faults.add(Rule::everywhere(Kind::Any, Fault::Full), 2).unwrap();
    for _ in 0..2 {
        let Err(Refused::Full(io)) = bench.write(7, 1, 0x55) else { panic!("refused twice") };
        assert_eq!((io.tag.index, io.data.unwrap()[0]), (7, 0x55));
    }
    bench.write(7, 1, 0x55).unwrap();
    assert_eq!(bench.ended(), [(7, Ok(()))]);
}

#[test]
fn a_device_that_goes_ends_what_it_holds() {
    let mut bench = bench();
    bench.faults.set_state(ChannelState::Opening);
    assert!(matches!(bench.write(0, 0, 0), Err(Refused::NotReady(_))));
    bench.faults.set_state(ChannelState::Ready);
    bench.faults.add(Rule::everywhere(Kind::Write, Fault::Lose), ALWAYS).unwrap();
    bench.write(0, 0, 0).unwrap();
    bench.faults.set_state(ChannelState::Gone);
    assert_eq!(bench.channel.state(), ChannelState::Gone);
    assert!(matches!(bench.write(1, 0, 0), Err(Refused::Gone(_))));
    assert_eq!(bench.ended(), [(0, Err(IoError::Gone))]);
    assert_eq!((bench.channel.in_flight(), bench.pool.in_use_count()), (0, 0));
}

#[test]
fn held_and_failed_ios_are_bounded() {
    let mut bench = bench();
    bench.faults.add(Rule::everywhere(Kind::Write, Fault::Hold), 200).unwrap();
    bench.faults.add(Rule::everywhere(Kind::Write, Fault::Fail(IoError::NoSpace)), ALWAYS).unwrap();
    for index in 0..256 {
        bench.write(index, 0, 0).unwrap();
    }
    assert!(matches!(bench.write(256, 0, 0), Err(Refused::Full(_))));
    assert_eq!(bench.channel.fence(), Fence::Fenced);
    assert_eq!(bench.channel.in_flight(), 256);
}

#[test]
fn rules_are_bounded() {
    let faults = Faults::new();
    for _ in 0..RULES_MAX {
        faults.add(Rule::everywhere(Kind::Any, Fault::Full), 0).unwrap();
    }
    assert_eq!(faults.add(Rule::everywhere(Kind::Any, Fault::Full), 0), Err(RulesUsedUp));
}
