//! Seeds against misbehaviours: whatever the controller does, each IO ends once, data are right, memory is never given back
//! too early, and everything is answered in bounded time once the faults stop.

mod oracle;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::oracle::Oracle;
use crate::bdev::nvme::controller::shared::{Life, Order};
use crate::bdev::nvme::mock::{Config, Fault, Medium, Mock, Note};
use crate::bdev::nvme::planted::{Bug, plant};
use crate::bdev::nvme::rig::Rig;
use crate::bdev::nvme::spec::identify::oncs;
use crate::bdev::nvme::spec::nvm;
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, Op, Refused};
use crate::buf::{Buf, Class, Pool};
use crate::id::ReactorId;
use crate::sim::disk::{Stamp, ZEROES, fill, stamp_of};
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::{MS_NS, SECOND_NS};

/// Blocks of each namespace.
const BLOCKS: u64 = 64;
/// Of an IO, at most.
const EXTENT_MAX: u64 = 12;
/// Turns with faults.
const TURNS: usize = 300;
/// Within this time everything is answered once the faults have stopped: time-outs of commands, aborts, admin commands and
/// of all tries to reset.
const ANSWERED_NS: u64 = 120 * SECOND_NS;
/// Seeds of a test run; LUNETTE_NVME_SEEDS says otherwise.
const SEEDS: u64 = 120;

/// A reactor's channel to a namespace.
#[derive(Debug)]
struct Way {
    reactor: usize,
    nsid: u32,
    block_bytes: usize,
    unmaps: bool,
    channel: Box<dyn Channel>,
}

#[derive(Debug)]
struct Flying {
    way: usize,
    tag: Key,
    op: Op,
    stamps: Vec<Stamp>,
    address: Option<usize>,
}

#[derive(Debug)]
struct World {
    rng: Rng,
    rig: Rig,
    pools: Vec<Pool>,
    ways: Vec<Way>,
    flying: Vec<Flying>,
    oracle: Oracle,
    tags: u32,
    stamps: Stamp,
    /// First stamps of WRITE commands that the device has taken.
    taken: BTreeSet<Stamp>,
    ok_count: usize,
    failed_count: usize,
}

fn config(rng: &mut Rng) -> Config {
    let all = Config::default().oncs;
    Config {
        entries_max: rng.pick(&[4, 8, 64, 300]),
        doorbell_stride: rng.index(3) as u32,
        mdts: rng.pick(&[0, 1, 2, 5]),
        zeroes_max: rng.pick(&[0, 1, 3]),
        verify_max: rng.pick(&[0, 1, 3]),
        unmap_blocks_max: rng.pick(&[0, 1, 5]),
        oncs: rng.pick(&[all, all, all & !oncs::WRITE_ZEROES, all & !oncs::DATASET_MANAGEMENT]),
        has_shadow_doorbells: rng.one_in(3),
        is_scattered: rng.one_in(3),
        ..Config::default()
    }
}

impl World {
    /// Two namespaces, of 512 and of 4096 bytes, and two reactors that use both.
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let mock = Mock::new(config(&mut rng), rng.word());
        mock.attach(1, Medium::new(BLOCKS, 512));
        mock.attach(2, Medium::new(BLOCKS, 4096));
        assert_eq!(mock.take_notes(), []);
        let rig = Rig::new(&mock, Arc::new(mock.clone()));
        let classes = [Class { bytes: 4096, count: 64 }, Class { bytes: 65536, count: 32 }];
        let pools: Vec<Pool> = (0..2).map(|_| Pool::ordinary(&classes).unwrap()).collect();
        for pool in &pools {
            let region = pool.take(1).unwrap().region().unwrap();
            mock.guard(region.base(), region.bytes());
        }
        let mut world = World {
            rng,
            rig,
            pools,
            ways: Vec::new(),
            flying: Vec::new(),
            oracle: Oracle::new(),
            tags: 0,
            stamps: 0,
            taken: BTreeSet::new(),
            ok_count: 0,
            failed_count: 0,
        };
        let mut rng = world.rng.fork();
        assert!(world.rig.bring_up(&mut rng), "{:?}", world.rig.said());
        for (reactor, nsid) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            world.open(reactor, nsid);
        }
        world
    }

    fn open(&mut self, reactor: usize, nsid: u32) {
        let Some(bdev) = self.rig.bdev(nsid) else { return };
        let info = bdev.info();
        let channel = bdev.open(ReactorId(reactor as u16));
        let (block_bytes, unmaps) = (info.block_bytes as usize, info.unmap.is_some());
        self.ways.push(Way { reactor, nsid, block_bytes, unmaps, channel });
    }

    fn stamps(&mut self, count: u64) -> Vec<Stamp> {
        self.stamps += count;
        (self.stamps - count + 1..=self.stamps).collect()
    }

    /// One IO of any kind on blocks that nobody else is at.
    fn submit_any(&mut self) {
        let way = self.rng.index(self.ways.len());
        let blocks = 1 + self.rng.below(EXTENT_MAX);
        let lba = self.rng.below(BLOCKS - blocks + 1);
        let count = u32::try_from(blocks).unwrap();
        let op = match self.rng.below(100) {
            0..45 => Op::Read { lba, blocks: count },
            45..80 => Op::Write { lba, blocks: count, fua: self.rng.one_in(4) },
            80..88 => {
                Op::WriteZeroes { lba, blocks: count, fua: self.rng.one_in(4), may_unmap: self.rng.one_in(2) }
            }
            88..95 if self.ways[way].unmaps => Op::Unmap { lba, blocks: count },
            _ => Op::Flush,
        };
        self.submit(way, op);
    }

    fn submit(&mut self, way: usize, op: Op) {
        let Way { reactor, nsid, block_bytes, .. } = self.ways[way];
        if self.ways[way].channel.state() != ChannelState::Ready || !self.oracle.is_free(nsid, op.extent()) {
            return;
        }
        let blocks = op.extent().map_or(0, |(_, blocks)| u64::from(blocks));
        let stamps = match op {
            Op::Write { .. } => self.stamps(blocks),
            Op::WriteZeroes { .. } | Op::Unmap { .. } => vec![ZEROES; usize::try_from(blocks).unwrap()],
            _ => Vec::new(),
        };
        let mut data = None;
        if matches!(op, Op::Read { .. } | Op::Write { .. }) {
            let Some(mut buf) = self.pools[reactor].take(usize::try_from(blocks).unwrap() * block_bytes)
            else {
                return;
            };
            buf.fill(0xEE);
            buf.chunks_exact_mut(block_bytes).zip(&stamps).for_each(|(block, stamp)| fill(block, *stamp));
            self.rig.mock.lend(buf.address(), buf.len());
            data = Some(buf);
        }
        self.tags += 1;
        let tag = Key { index: self.tags, generation: 3 };
        let address = data.as_ref().map(Buf::address);
        match self.ways[way].channel.submit(Io { tag, op, data }, self.rig.now) {
            Ok(()) => {
                self.oracle.begin(nsid, op.extent(), &stamps);
                self.flying.push(Flying { way, tag, op, stamps, address });
            }
            Err(Refused::NotReady(io) | Refused::Full(io) | Refused::Gone(io)) => {
                assert_eq!(io.data.as_ref().map(Buf::address), address, "its own memory comes back");
                address.into_iter().for_each(|address| self.rig.mock.take_back(address));
            }
        }
    }

    fn done(&mut self, done: Done) {
        let at = self.flying.iter().position(|io| io.tag == done.tag);
        let io = self.flying.swap_remove(at.unwrap_or_else(|| panic!("{:?} ended twice", done.tag)));
        assert_eq!(done.data.as_ref().map(Buf::address), io.address, "its own memory");
        io.address.into_iter().for_each(|address| self.rig.mock.take_back(address));
        let Way { nsid, block_bytes, .. } = self.ways[io.way];
        let is_ok = done.result.is_ok();
        (self.ok_count, self.failed_count) =
            (self.ok_count + usize::from(is_ok), self.failed_count + usize::from(!is_ok));
        let seen: Vec<Stamp> = match (io.op, &done.data) {
            (Op::Read { .. }, Some(data)) if is_ok => data.chunks_exact(block_bytes).map(stamp_of).collect(),
            _ => Vec::new(),
        };
        self.oracle.end(nsid, io.op.extent(), &io.stamps, is_ok, &seen);
    }

    /// Reactors, controller's thread and device do something, and time passes.
    fn turn(&mut self, ns: u64) {
        let mut out = Vec::with_capacity(64);
        for way in 0..self.ways.len() {
            if self.rng.one_in(4) {
                continue;
            }
            self.ways[way].channel.kick();
            self.ways[way].channel.poll(&mut out, 1 + self.rng.index(32), self.rig.now);
            out.drain(..).for_each(|done| self.done(done));
        }
        let mut rng = self.rng.fork();
        self.rig.turn(&mut rng, ns);
        self.look_at_notes();
        let violations = self.rig.mock.violations();
        assert!(violations.is_empty(), "{violations:?}; {:?}; {:?}", self.rig.mock, self.rig.said());
    }

    /// A write that the device has seen is never sent again.
    fn look_at_notes(&mut self) {
        for note in self.rig.mock.take_notes() {
            if let Note::Taken { opcode: nvm::WRITE, stamp: Some(stamp), lba, .. } = note
                && stamp != 0
            {
                assert!(self.taken.insert(stamp), "the write of {stamp} at {lba} was sent twice");
            }
        }
    }

    /// IO under faults.
    fn chaos(&mut self, faults: &[(Fault, u64)], surprises: bool) {
        for (fault, one_in) in faults {
            self.rig.mock.misbehave(*fault, *one_in);
        }
        for _ in 0..TURNS {
            for _ in 0..self.rng.below(6) {
                self.submit_any();
            }
            if self.rng.one_in(30) && !self.flying.is_empty() {
                let at = self.rng.index(self.flying.len());
                let (way, tag) = (self.flying[at].way, self.flying[at].tag);
                self.ways[way].channel.cancel(tag);
            }
            if self.rng.one_in(150) {
                let way = self.rng.index(self.ways.len());
                let _ = self.ways[way].channel.fence();
            }
            if surprises && self.rng.one_in(40) {
                self.surprise();
            }
            let ns = self.rng.pick(&[10_000, MS_NS, 20 * MS_NS, 100 * MS_NS]);
            self.turn(ns);
        }
        self.rig.mock.behave();
    }

    fn surprise(&mut self) {
        match self.rng.below(4) {
            0 => self.rig.mock.resize(1, BLOCKS - self.rng.below(20)),
            1 => self.rig.mock.resize(2, BLOCKS + self.rng.below(20)),
            2 => self.rig.shared.order(Order::Reset),
            _ => self.rig.shared.order(Order::Rescan),
        }
    }

    /// Until `is_it`, in bounded time.
    #[track_caller]
    fn settle(&mut self, what: &str, is_it: impl Fn(&World) -> bool) {
        let end = self.rig.now.after_ns(ANSWERED_NS);
        while !is_it(self) {
            assert!(
                self.rig.now < end,
                "{what}: never; {} in flight, {:?}, {:?}",
                self.flying.len(),
                self.rig.shared.life(),
                self.rig.said()
            );
            self.turn(5 * MS_NS);
        }
    }

    /// Faults have stopped: everything is answered, what can be read is right, and nothing is left behind.
    fn end(mut self) -> Ended {
        self.settle("all are answered", |world| world.flying.is_empty());
        let is_steady =
            |world: &World| world.ways.iter().all(|way| way.channel.state() != ChannelState::Opening);
        self.settle("channels know what they are", is_steady);
        for way in 0..self.ways.len() {
            for lba in (0..BLOCKS).step_by(4) {
                self.submit(way, Op::Read { lba, blocks: 4 });
                self.settle("a read is answered", |world| world.flying.is_empty());
            }
        }
        self.ways.clear();
        let mut rng = self.rng.fork();
        assert!(self.rig.detach(&mut rng), "it is not given back: {:?}", self.rig.said());
        let World { rig, pools, ok_count, failed_count, .. } = self;
        let (mock, life, said) = (rig.mock.clone(), rig.shared.life(), rig.said());
        drop(rig);
        while mock.step(&mut rng) {}
        assert_eq!(mock.violations(), Vec::<String>::new());
        assert_eq!(mock.window_count(), 0, "nothing is mapped: {said:?}");
        // One that does not stop keeps its queues, and reaches no memory.
        let is_stuck = mock.struck().contains(&Fault::NeverStops);
        assert!(is_stuck || mock.queue_count() == 0, "it has no queues: {said:?}");
        assert_eq!(pools.iter().map(Pool::in_use_count).sum::<usize>(), 0);
        Ended { ok_count, failed_count, life, struck: mock.struck() }
    }
}

/// What came of a world: IOs that went well and that did not, the controller's end, and the faults that happened.
#[derive(Debug)]
struct Ended {
    ok_count: usize,
    failed_count: usize,
    life: Life,
    struck: Vec<Fault>,
}

/// Runs `work` and says which seed it was.
fn with_seed<T>(seed: u64, work: impl FnOnce() -> T) -> T {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("NVMe world: seed {}", self.0);
            }
        }
    }
    let _told = Told(seed);
    work()
}

fn seeds() -> u64 {
    std::env::var("LUNETTE_NVME_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

/// The faults of a seed: each comes first in its turn, with others beside it now and then.
fn faults(seed: u64, rng: &mut Rng) -> Vec<(Fault, u64)> {
    let at = usize::try_from(seed).unwrap() % Fault::ALL.len();
    let mut faults = vec![Fault::ALL[at]];
    while rng.one_in(2) {
        faults.push(rng.pick(&Fault::ALL));
    }
    // A controller that resists being reset is met when something else makes the driver reset it.
    if faults.iter().any(|fault| matches!(fault, Fault::NeverStops | Fault::NeverReady | Fault::ResetFails)) {
        faults.push(rng.pick(&[Fault::NeverCompletes, Fault::UnknownCommand]));
        faults.push(Fault::NeverStops);
    }
    faults.into_iter().map(|fault| (fault, how_often(fault, rng))).collect()
}

fn how_often(fault: Fault, rng: &mut Rng) -> u64 {
    match fault {
        Fault::NeverReady
        | Fault::NeverStops
        | Fault::ResetFails
        | Fault::RefusesQueues
        | Fault::GarbageIdentify
        | Fault::DeleteHangs
        | Fault::CompletesAfterDelete => rng.pick(&[1, 2, 3]),
        Fault::Fatal => rng.pick(&[50, 300]),
        _ => rng.pick(&[2, 10, 40, 150]),
    }
}

/// One seed.
fn run(seed: u64) -> Ended {
    with_seed(seed, || {
        let mut world = World::new(seed);
        let mut rng = Rng::new(!seed);
        let faults = faults(seed, &mut rng);
        world.chaos(&faults, rng.one_in(2));
        world.end()
    })
}

#[test]
fn a_controller_that_behaves_serves_everything() {
    for seed in 0..20 {
        with_seed(seed, || {
            let mut world = World::new(seed);
            world.chaos(&[], false);
            let ended = world.end();
            // What is cancelled fails.
            assert_eq!(ended.life, Life::Detached);
            assert!(ended.failed_count < ended.ok_count / 10, "{} failed", ended.failed_count);
            assert!(ended.ok_count > 200, "{} went well", ended.ok_count);
        });
    }
}

#[test]
fn whatever_a_controller_does_each_io_ends_once() {
    let (mut ok_count, mut failed_count, mut struck) = (0, 0, Vec::new());
    for seed in 0..seeds() {
        let ended = run(seed);
        (ok_count, failed_count) = (ok_count + ended.ok_count, failed_count + ended.failed_count);
        struck.extend(ended.struck);
    }
    for fault in Fault::ALL {
        assert!(struck.contains(&fault), "{fault:?} never happened");
    }
    eprintln!("NVMe world: {ok_count} IOs went well, {failed_count} did not");
    assert!(ok_count > 0 && failed_count > 0);
}

#[test]
fn a_device_that_is_pulled_out_answers_everything() {
    for seed in 0..20 {
        with_seed(seed, || {
            let mut world = World::new(seed);
            world.chaos(&[(Fault::NeverCompletes, 20)], false);
            for _ in 0..20 {
                world.submit_any();
            }
            world.rig.mock.remove();
            world.settle("all are answered", |world| world.flying.is_empty());
            world.settle("it is gone", |world| {
                world.ways.iter().all(|way| way.channel.state() == ChannelState::Gone)
            });
            assert!(matches!(world.rig.shared.life(), Life::Gone(_)), "{:?}", world.rig.shared.life());
            world.end();
        });
    }
}

#[test]
fn namespaces_come_and_go() {
    for seed in 0..20 {
        with_seed(seed, || {
            let mut world = World::new(seed);
            world.chaos(&[], false);
            world.rig.mock.detach(2);
            world.settle("namespace 2 is gone", |world| {
                world.ways.iter().all(|way| (way.channel.state() == ChannelState::Gone) == (way.nsid == 2))
            });
            world.rig.mock.attach(3, Medium::new(BLOCKS, 512));
            world.settle("namespace 3 is there", |world| world.rig.bdev(3).is_some());
            world.open(0, 3);
            world.rig.mock.resize(3, 32);
            world.settle("it is smaller", |world| world.rig.bdev(3).unwrap().info().blocks == 32);
            world.chaos(&[], false);
            world.end();
        });
    }
}

/// Whether some seed finds the bug, with these faults.
fn is_found(bug: Bug, faults: &[(Fault, u64)]) -> bool {
    let find = |seed| {
        let run = move || {
            plant(Some(bug));
            let mut world = World::new(seed);
            world.chaos(faults, false);
            world.end();
        };
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err();
        plant(None);
        found
    };
    (0..40).any(find)
}

#[test]
fn memory_that_is_given_back_too_early_is_found() {
    assert!(is_found(Bug::MemoryAtTimeOut, &[(Fault::NeverCompletes, 20)]));
    assert!(is_found(Bug::SweptTooEarly, &[(Fault::UnknownCommand, 40)]));
}

#[test]
fn a_write_that_is_sent_again_is_found() {
    assert!(is_found(Bug::WriteRetried, &[(Fault::NeverCompletes, 20)]));
}

#[test]
fn a_stale_completion_that_is_believed_is_found() {
    assert!(is_found(Bug::GenerationIgnored, &[(Fault::CompletesTwice, 30)]));
}
