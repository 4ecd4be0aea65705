//! Ceilings and guarantees: what is kept of them over virtual seconds.

use std::collections::BTreeMap;

use lunette::limits::WINDOW_MIN;
use lunette::qos::{Limits, Waited};
use lunette::reactor::Bug;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::config::{Config, Offer};
use lunette_initiator::scsi::status;
use lunette_initiator::session::Attribute;

use super::what::What;
use super::world::{DiskOptions, Options, TARGET, World};

pub(super) const READ: What = What::Read { lba: 0, blocks: 1 };
const STEP_NS: u64 = 100_000;

pub(super) fn ios(ios: u64) -> Limits {
    Limits { ios, ..Limits::NONE }
}

fn name(client: usize) -> String {
    format!("iqn.2026-01.sim:i{client}")
}

/// What a session asks for all the time.
#[derive(Clone, Copy, Debug)]
struct Stream {
    session: usize,
    unit: usize,
    what: What,
    depth: usize,
    outstanding: usize,
    good: u64,
}

/// A world whose initiators ask for more than there is.
struct Crowd {
    world: World,
    streams: Vec<Stream>,
    /// Which stream each command is of.
    ops: BTreeMap<u64, usize>,
}

impl Crowd {
    fn new(reactors: u16, disks: usize, bug: Option<Bug>) -> Crowd {
        let options = Options::quiet(
            reactors,
            vec![DiskOptions { blocks: 256, block_bytes: 4096 }; disks],
            [256, 64, 16, 8],
            bug,
        );
        let world = World::new(7, options);
        world.disks.iter().for_each(|disk| disk.set_latency(STEP_NS));
        Crowd { world, streams: Vec::new(), ops: BTreeMap::new() }
    }

    fn limit(&mut self, unit: usize, limits: Limits) {
        self.world.control.set_bdev_limits(&format!("disk{unit}"), limits).unwrap();
    }

    fn limit_initiator(&mut self, client: usize, limits: Limits) {
        self.world.control.set_initiator_limits(&name(client), limits).unwrap();
    }

    /// A session of an initiator, which asks for this at a unit all the time.
    fn open(&mut self, client: usize, unit: usize, what: What, depth: usize) -> usize {
        self.open_with(client, Offer::usual(), unit, what, depth)
    }

    fn open_with(&mut self, client: usize, offer: Offer, unit: usize, what: What, depth: usize) -> usize {
        let isid = [0x80, 0, 0, 0, 0, u8::try_from(self.world.sessions.len()).unwrap()];
        let config = Config { isid, offer, ..Config::new(&name(client), TARGET) };
        let session = self.world.open(client, config, 1 << 20);
        self.world.sessions[session].keeps_answers = true;
        self.ask(session, unit, what, depth);
        session
    }

    fn ask(&mut self, session: usize, unit: usize, what: What, depth: usize) {
        self.streams.push(Stream { session, unit, what, depth, outstanding: 0, good: 0 });
    }

    fn step(&mut self) {
        let world = &mut self.world;
        world.step += 1;
        world.now = world.now.after_ns(STEP_NS);
        for index in 0..world.cores.len() {
            while world.relay_down(index) || world.relay_up(index) {}
        }
        world.turn_control();
        world.disks.iter().for_each(|disk| disk.end_due(world.now));
        world.look().unwrap();
        for index in 0..world.cores.len() {
            world.turn(index).unwrap();
        }
        world.step += 1;
        for index in 0..world.sessions.len() {
            world.deliver(index, usize::MAX).unwrap();
            for (op, completion) in std::mem::take(&mut world.sessions[index].ended) {
                let stream = &mut self.streams[self.ops.remove(&op).expect("a stream's")];
                stream.outstanding -= 1;
                let is_good = completion.expect("nothing is aborted").status == status::GOOD;
                stream.good += u64::from(is_good);
            }
        }
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let Stream { session, unit, what, depth, .. } = *stream;
            while stream.outstanding < depth && world.sessions[session].is_logged_in {
                let op = world.issue(session, unit, what, Attribute::Simple, false);
                self.ops.insert(op.expect("it is taken"), index);
                stream.outstanding += 1;
            }
            world.pump(session);
            world.sessions[session].wire.deliver_to_target(usize::MAX);
        }
        let oldest = world.sessions.iter().flat_map(|session| session.ops.values()).map(|op| op.start).min();
        world.oracle.prune(oldest.unwrap_or(world.step));
    }

    fn run(&mut self, ns: u64) {
        let until = self.world.now.after_ns(ns);
        while self.world.now < until {
            self.step();
        }
    }

    /// How much of each stream is done in a virtual second, when all have begun.
    fn second(&mut self) -> Vec<u64> {
        self.run(SECOND_NS / 8);
        self.done_in(SECOND_NS)
    }

    fn done_in(&mut self, ns: u64) -> Vec<u64> {
        self.streams.iter_mut().for_each(|stream| stream.good = 0);
        self.run(ns);
        self.streams.iter().map(|stream| stream.good).collect()
    }
}

/// Whether it is within 1 % of what is right.
fn is_near(found: u64, right: u64) -> bool {
    found.abs_diff(right) * 100 <= right
}

fn one_unit_of_three_reactors(bug: Option<Bug>) -> Vec<u64> {
    let mut crowd = Crowd::new(3, 1, bug);
    crowd.limit(0, ios(4000));
    for client in 0..3 {
        crowd.open(client, 0, READ, 2);
    }
    crowd.second()
}

#[test]
fn the_ceiling_of_a_unit_is_that_of_all_reactors_together() {
    let done = one_unit_of_three_reactors(None);
    assert!(is_near(done.iter().sum(), 4000) && done.iter().all(|done| is_near(*done, 1333)), "{done:?}");
}

#[test]
fn who_waits_is_counted_by_what_it_waits_for() {
    let mut crowd = Crowd::new(2, 2, None);
    crowd.limit(0, ios(1000));
    crowd.limit_initiator(1, ios(500));
    crowd.open(0, 0, READ, 8);
    crowd.open(1, 1, READ, 4);
    crowd.run(SECOND_NS);
    let control = &crowd.world.control;
    let ledger = control.sessions().work();
    let waited: Vec<[Waited; 2]> = ledger.iter().map(|(_, work)| work.waited).collect();
    let [[by_unit, nobody], [nothing, by_initiator]] = waited[..] else { panic!("{waited:?}") };
    assert_eq!((nobody, nothing), (Waited::default(), Waited::default()));
    let mean_ms = |waited: Waited| waited.ns / waited.commands / MS_NS;
    // Eight share 1000 a second, four share 500; each is asked again a moment after it was answered.
    assert!((900..=1100).contains(&by_unit.commands) && (6..=8).contains(&mean_ms(by_unit)), "{by_unit:?}");
    assert!(
        (450..=550).contains(&by_initiator.commands) && (6..=8).contains(&mean_ms(by_initiator)),
        "{by_initiator:?}"
    );
    // The unit has counted those that waited for it, and for no other.
    let of_bdev = |name: &str| control.bdev(name).unwrap().waits.waited();
    assert_eq!((of_bdev("disk0"), of_bdev("disk1")), (by_unit, Waited::default()));
}

#[test]
fn a_ceiling_that_is_ignored_is_found() {
    let done = one_unit_of_three_reactors(Some(Bug::CeilingIgnored));
    assert!(!is_near(done.iter().sum(), 4000), "{done:?}");
}

#[test]
fn whoever_asks_for_more_gets_more_and_nobody_starves() {
    let mut crowd = Crowd::new(2, 1, None);
    crowd.limit(0, ios(3000));
    crowd.open(0, 0, READ, 8);
    crowd.open(1, 0, READ, 1);
    let done = crowd.second();
    // By the order in which they come: one of nine.
    assert!(is_near(done.iter().sum(), 3000) && is_near(done[1], 333), "{done:?}");
}

#[test]
fn writes_are_slowed_down_and_reads_are_not() {
    let mut crowd = Crowd::new(1, 1, None);
    crowd.limit(0, Limits { write_bytes: 4096 * 1000, ..Limits::NONE });
    crowd.open(0, 0, What::Write { lba: 8, blocks: 2, fua: true }, 8);
    crowd.open(1, 0, READ, 1);
    let done = crowd.second();
    assert!(is_near(done[0], 500) && done[1] > 2000, "{done:?}");
    crowd.limit(0, Limits { bytes: 4096 * 2000, ..Limits::NONE });
    let done = crowd.second();
    assert!(is_near(2 * done[0] + done[1], 2000), "{done:?}");
}

#[test]
fn an_initiator_has_one_ceiling_for_all_its_sessions() {
    let mut crowd = Crowd::new(2, 2, None);
    crowd.limit_initiator(0, ios(1000));
    for unit in 0..2 {
        crowd.open(0, unit, READ, 4);
    }
    crowd.open(1, 0, READ, 1);
    let done = crowd.second();
    assert!(is_near(done[0] + done[1], 1000) && done[2] > 2000, "{done:?}");
    // It is changed while they are logged in, and taken away.
    crowd.limit_initiator(0, ios(3000));
    let done = crowd.second();
    assert!(is_near(done[0] + done[1], 3000), "{done:?}");
    crowd.limit_initiator(0, Limits::NONE);
    let done = crowd.done_in(SECOND_NS / 8);
    assert!(done[0] + done[1] > 1000, "{done:?}");
}

#[test]
fn an_initiator_has_what_it_is_guaranteed_of_a_ceiling() {
    let mut crowd = Crowd::new(2, 1, None);
    crowd.limit(0, ios(4000));
    crowd.limit_initiator(0, Limits { guaranteed_ios: 3000, ..Limits::NONE });
    crowd.open(0, 0, READ, 4);
    crowd.open(1, 0, READ, 60);
    let done = crowd.second();
    assert!(is_near(done.iter().sum(), 4000) && done[0] >= 2850 && done[1] >= 700, "{done:?}");
}

#[test]
fn a_unit_has_what_it_is_guaranteed_of_its_initiators_ceiling() {
    let mut crowd = Crowd::new(1, 2, None);
    crowd.limit_initiator(0, ios(4000));
    crowd.limit(1, Limits { guaranteed_ios: 2500, ..Limits::NONE });
    let session = crowd.open(0, 0, READ, 60);
    crowd.ask(session, 1, READ, 4);
    let done = crowd.second();
    assert!(is_near(done.iter().sum(), 4000) && done[1] >= 2375 && done[0] >= 1000, "{done:?}");
}

#[test]
fn commands_that_wait_do_not_keep_those_to_other_units_out() {
    let mut crowd = Crowd::new(1, 2, None);
    crowd.limit(0, ios(100));
    let session = crowd.open(0, 0, READ, 32);
    crowd.ask(session, 1, READ, 1);
    let done = crowd.second();
    assert!(is_near(done[0], 100) && done[1] > 2000, "{done:?}");
}

#[test]
fn the_window_does_not_grow_for_commands_that_wait() {
    let mut crowd = Crowd::new(1, 1, None);
    crowd.limit(0, ios(100));
    crowd.open(0, 0, READ, 64);
    let done = crowd.second();
    assert!(is_near(done[0], 100), "{done:?}");
    assert!(crowd.world.census().tasks <= WINDOW_MIN as usize, "{:?}", crowd.world.census());
}

/// What is done of each of these streams in a second at a unit that has limits, while a neighbour asks for all it can get of another
/// unit of the same reactor: which is no less than without them.
fn beside_a_neighbour(limits: Limits, streams: &[(What, usize)]) -> Vec<u64> {
    let mut crowd = Crowd::new(1, 2, None);
    crowd.open(streams.len(), 1, READ, 4);
    let alone = crowd.second()[0];
    crowd.limit(0, limits);
    for (client, (what, depth)) in streams.iter().enumerate() {
        crowd.open(client, 0, *what, *depth);
    }
    let done = crowd.second();
    assert!(done[0] + 4 >= alone && alone > 4000, "{done:?} and {alone} alone");
    done[1..].to_vec()
}

/// 16 KiB.
const READ_4: What = What::Read { lba: 0, blocks: 4 };
const WRITE_4: What = What::Write { lba: 8, blocks: 4, fua: false };
const KIB: u64 = 1024;

#[test]
fn commands_a_second_are_what_the_ceiling_says() {
    let done = beside_a_neighbour(ios(2000), &[(READ_4, 16), (WRITE_4, 16)]);
    assert!(is_near(done.iter().sum(), 2000), "{done:?}");
}

#[test]
fn bytes_a_second_are_what_the_ceiling_says() {
    let limits = Limits { bytes: 16 * 1024 * KIB, ..Limits::NONE };
    let done = beside_a_neighbour(limits, &[(READ_4, 16), (WRITE_4, 16)]);
    assert!(is_near(done.iter().sum(), 1024), "{done:?}");
}

#[test]
fn bytes_read_and_bytes_written_have_ceilings_of_their_own() {
    let limits = Limits { read_bytes: 16 * 1024 * KIB, write_bytes: 4 * 1024 * KIB, ..Limits::NONE };
    let done = beside_a_neighbour(limits, &[(READ_4, 16), (WRITE_4, 16)]);
    assert!(is_near(done[0], 1024) && is_near(done[1], 256), "{done:?}");
}

#[test]
fn the_lowest_of_several_ceilings_counts() {
    let limits = Limits { ios: 1000, bytes: 64 * 1024 * KIB, write_bytes: 4 * 1024 * KIB, ..Limits::NONE };
    let done = beside_a_neighbour(limits, &[(READ_4, 16), (WRITE_4, 16)]);
    assert!(is_near(done.iter().sum(), 1000) && is_near(done[1], 256), "{done:?}");
}

#[test]
fn writes_that_wait_hold_no_buffers() {
    let mut crowd = Crowd::new(1, 2, None);
    crowd.limit(0, Limits { write_bytes: 4 * 1024 * KIB, ..Limits::NONE });
    let offer = Offer { immediate_data: Some(false), initial_r2t: Some(true), ..Offer::usual() };
    crowd.open_with(0, offer, 0, WRITE_4, 32);
    crowd.run(SECOND_NS / 8);
    crowd.streams[0].good = 0;
    let end = crowd.world.now.after_ns(SECOND_NS);
    let mut least = usize::MAX;
    while crowd.world.now < end {
        crowd.step();
        let (census, buffers) = (crowd.world.census(), crowd.world.buffers_out());
        assert!(buffers <= census.tasks - census.paced, "{buffers} with {census:?}");
        least = least.min(census.paced);
    }
    assert!(is_near(crowd.streams[0].good, 256) && least >= 24, "{} with {least}", crowd.streams[0].good);
}
