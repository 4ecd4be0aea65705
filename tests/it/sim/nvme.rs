//! Initiators of an NVMe controller that fails: whatever it does, each of their commands ends in bounded time, in GOOD or in
//! what they know how to repeat, and what they read is right. What they see is a pause, or a unit attention.

use std::collections::BTreeMap;

use lunette::control::done::Done;
use lunette::control::registry::BdevSpec;
use lunette::reactor::Census;
use lunette::sim::nvme::Controller;
use lunette::sim::rng::Rng;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::config::Config;
use lunette_initiator::lun as lun_field;
use lunette_initiator::scsi::status;
use lunette_initiator::session::{Attribute, Completion, Function, Tmf};

use super::cell::{Codes, codes};
use super::what::What;
use super::world::{DiskOptions, Options, TARGET, World, lun};

/// The controller's namespace; unit 0 is a disk that never fails.
const UNIT: usize = 1;
const BLOCKS: u64 = 64;
/// Steps with faults.
const STEPS: u64 = 250;
const SEEDS: u64 = 64;
/// Within this time everything is answered once the faults have stopped: time-outs of commands, aborts, admin commands and
/// of all tries to reset.
const ANSWERED_NS: u64 = 120 * SECOND_NS;

const GOOD: (u8, Codes) = (status::GOOD, None);
const WRITE_ABORTED: (u8, Codes) = (status::CHECK_CONDITION, Some((0xB, 0, 0)));

/// A target with both units, and two initiators, each on a reactor of its own.
struct Life {
    world: World,
    controller: Controller,
    /// The session of each initiator.
    sessions: [usize; 2],
    ends: BTreeMap<(u8, Codes), usize>,
}

impl Life {
    fn new(seed: u64) -> Result<Life, String> {
        let small = DiskOptions { blocks: 8, block_bytes: 512 };
        let options = Options::quiet(2, vec![small], [64, 32, 16, 6], None);
        let controller = Controller::new(Rng::new(!seed), BLOCKS, 512);
        let mut world = World::new(seed, options);
        world.now = controller.now();
        // The world's own disks end what they have at once; this one is not its own.
        world.disks[0].set_latency(0);
        world.options.disks.push(DiskOptions { blocks: BLOCKS, block_bytes: 512 });
        let bdev = controller.bdev().expect("a namespace");
        let name = bdev.info().name;
        let (product, recipe, bases) = ("sim".to_owned(), String::new(), Vec::new());
        world.control.register_bdev(BdevSpec { bdev, product, recipe, bases }).expect("a bdev");
        world.control.add_lun(TARGET, &name, Some(lun(UNIT))).expect("a LUN");
        // Media fail, and a controller that is gone takes its unit with it.
        (world.has_failed, world.has_removed) = (true, true);
        let mut life = Life { world, controller, sessions: [0, 0], ends: BTreeMap::new() };
        for client in 0..2 {
            life.log_in(client)?;
        }
        // The medium is of zeroes, which are no block of the oracle's.
        for lba in (0..BLOCKS).step_by(8) {
            life.insist(0, UNIT, What::Write { lba, blocks: 8, fua: false })?;
        }
        Ok(life)
    }

    fn log_in(&mut self, client: usize) -> Result<(), String> {
        let config = Config::new(&format!("iqn.2026-01.sim:i{client}"), TARGET);
        let index = self.world.open(client, config, 1 << 20);
        self.world.sessions[index].keeps_answers = true;
        self.sessions[client] = index;
        self.until("a login", |life| life.world.sessions[index].is_logged_in)
    }

    /// Everything does something, and time passes.
    fn turn(&mut self, ns: u64) -> Result<(), String> {
        let world = &mut self.world;
        world.step += 1;
        world.now = world.now.after_ns(ns);
        self.controller.turn(world.now);
        // From then on, until its bdev is taken away, the unit is not ready.
        world.has_lost |= self.controller.is_gone();
        while world.disks[0].in_flight_count() > 0 {
            world.disks[0].end_one(0);
        }
        world.look()?;
        for index in 0..world.cores.len() {
            while world.relay_down(index) || world.relay_up(index) {}
        }
        world.turn_control();
        for index in 0..world.cores.len() {
            world.turn(index)?;
        }
        world.step += 1;
        for index in self.sessions {
            if !world.sessions[index].is_over {
                world.sessions[index].wire.deliver_to_target(usize::MAX);
                world.pump(index);
                world.deliver(index, usize::MAX)?;
            }
        }
        Ok(())
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&Life) -> bool) -> Result<(), String> {
        let end = self.world.now.after_ns(ANSWERED_NS);
        while !is_it(self) {
            if self.world.now > end {
                return Err(format!("{what}: never; {:?}", self.controller));
            }
            self.turn(MS_NS)?;
        }
        Ok(())
    }

    fn issue(&mut self, client: usize, unit: usize, what: What) -> Option<u64> {
        self.world.issue(self.sessions[client], unit, what, Attribute::Simple, false)
    }

    /// How a command of this initiator's has ended.
    fn ended(&self, client: usize, op: u64) -> Option<Option<Completion>> {
        let ended = &self.world.sessions[self.sessions[client]].ended;
        ended.iter().find(|(tag, _)| *tag == op).map(|(_, completion)| completion.clone())
    }

    fn ask(&mut self, client: usize, unit: usize, what: What) -> Result<(u8, Codes), String> {
        let op = self.issue(client, unit, what).ok_or("no room for a command")?;
        self.until("an answer", |life| life.ended(client, op).is_some())?;
        let completion = self.ended(client, op).flatten().ok_or("it was aborted")?;
        Ok(codes(&completion))
    }

    /// Asks until it is GOOD, as an initiator does: the unit attentions of both units come first.
    fn insist(&mut self, client: usize, unit: usize, what: What) -> Result<(), String> {
        let mut seen = Vec::new();
        while seen.len() < 12 {
            let answer = self.ask(client, unit, what)?;
            if answer == GOOD {
                return Ok(());
            }
            seen.push(answer);
        }
        Err(format!("{what:?} is not served: {seen:?}"))
    }

    fn is_answered(&self) -> bool {
        self.sessions.iter().all(|index| self.world.sessions[*index].ops.is_empty())
    }

    /// IO under these faults, with resets of all kinds.
    fn chaos(&mut self, faults: &[(usize, u64)]) -> Result<(), String> {
        faults.iter().for_each(|(fault, one_in)| self.controller.misbehave(*fault, *one_in));
        for _ in 0..STEPS {
            let client = self.world.rng.index(2);
            for _ in 0..self.world.rng.below(3) {
                let what = self.draw();
                self.issue(client, UNIT, what);
            }
            if self.world.rng.one_in(100) {
                let tmf = Tmf::new(Function::LogicalUnitReset, lun_field::from_number(1));
                self.world.manage(self.sessions[client], UNIT, tmf);
            }
            if self.world.rng.one_in(100) {
                self.controller.reset();
            }
            let ns = self.world.rng.pick(&[10_000, MS_NS, 20 * MS_NS, 100 * MS_NS]);
            self.turn(ns)?;
            self.revive()?;
        }
        self.controller.behave();
        Ok(())
    }

    fn draw(&mut self) -> What {
        let rng = &mut self.world.rng;
        let (lba, blocks) = (rng.below(BLOCKS - 8), 1 + rng.pick(&[0, 0, 1, 7]));
        match rng.below(20) {
            0..8 => What::Read { lba, blocks },
            8..15 => What::Write { lba, blocks, fua: rng.one_in(4) },
            15 => What::Same { lba, blocks },
            16 => What::Zero { lba, blocks, is_unmap: rng.one_in(2) },
            17 => What::Sync,
            _ => What::TestUnitReady,
        }
    }

    /// Who was told that a reset failed begins anew.
    fn revive(&mut self) -> Result<(), String> {
        for client in 0..2 {
            if self.world.sessions[self.sessions[client]].is_over {
                self.tally(client);
                self.log_in(client)?;
            }
        }
        Ok(())
    }

    fn tally(&mut self, client: usize) {
        for (_, completion) in self.world.sessions[self.sessions[client]].ended.drain(..) {
            *self.ends.entry(completion.map_or((0xFF, None), |end| codes(&end))).or_default() += 1;
        }
    }

    /// Each initiator reads and writes every block.
    fn read_and_write(&mut self) -> Result<(), String> {
        for client in 0..2 {
            for lba in (0..BLOCKS).step_by(8) {
                self.insist(client, UNIT, What::Read { lba, blocks: 8 })?;
                self.insist(client, UNIT, What::Write { lba, blocks: 8, fua: false })?;
            }
        }
        Ok(())
    }

    /// All is answered; then all is read and written again, or the unit is gone and nothing else.
    fn end(&mut self) -> Result<(), String> {
        let census = |life: &Life| life.world.census();
        self.until("answers", Life::is_answered)?;
        self.revive()?;
        self.until("the controller works or is gone", |life| {
            life.controller.is_gone() || life.controller.bdev().is_some()
        })?;
        (0..2).for_each(|client| self.tally(client));
        // What a fault has left behind may still be found, and be one reset too many.
        let served = self.read_and_write();
        if self.controller.is_gone() {
            self.world.control.unregister_bdev("nvme1", Done::nobody()).map_err(|error| error.to_string())?;
            for client in 0..2 {
                if self.ask(client, UNIT, What::Read { lba: 0, blocks: 8 })? == GOOD {
                    return Err("what is gone was read".to_owned());
                }
            }
        } else {
            served?;
        }
        for client in 0..2 {
            self.insist(client, 0, What::TestUnitReady)?;
        }
        self.until("nothing is held", |life| {
            let Census { tasks, items, ios, waits, holds, .. } = census(life);
            (tasks, items, ios, waits, holds, life.world.buffers_out()) == (0, 0, 0, 0, 0, 0)
        })?;
        let violations = self.controller.violations();
        if violations.is_empty() { Ok(()) } else { Err(format!("{violations:?}")) }
    }
}

/// Each comes in its turn, with commands that never complete, which make the driver reset the controller, and now and then
/// with others.
fn faults(seed: u64) -> Vec<(usize, u64)> {
    let mut rng = Rng::new(seed);
    let mut faults = vec![usize::try_from(seed).expect("few") % Controller::FAULTS, 0];
    while rng.one_in(3) {
        faults.push(rng.index(Controller::FAULTS));
    }
    faults.into_iter().map(|fault| (fault, rng.pick(Controller::rates(fault)))).collect()
}

#[test]
fn whatever_a_controller_does_its_initiators_go_on() {
    let seeds = super::number("LUNETTE_NVME_SEEDS").unwrap_or(SEEDS);
    let (mut ends, mut struck, mut gone_count) = (BTreeMap::new(), Vec::new(), 0);
    for seed in 0..seeds {
        let mut life = Life::new(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let lived = life.chaos(&faults(seed)).and_then(|()| life.end());
        assert_eq!(lived, Ok(()), "seed {seed}: {:?}", life.controller);
        life.ends.into_iter().for_each(|(end, count)| *ends.entry(end).or_insert(0) += count);
        struck.extend(life.controller.struck());
        gone_count += u64::from(life.controller.is_gone());
    }
    println!("{seeds} seeds, {gone_count} controllers were given up; commands ended as {ends:x?}");
    for fault in 0..Controller::FAULTS {
        assert!(struck.contains(&fault), "fault {fault} never happened");
    }
    assert!(gone_count > 0 && gone_count < seeds / 2, "{gone_count} were given up");
    assert!(ends[&GOOD] > 0 && ends[&WRITE_ABORTED] > 0, "{ends:x?}");
}

#[test]
fn a_controller_that_stops_answering_is_a_pause_for_reads() {
    let mut life = Life::new(1).unwrap();
    for client in 0..2 {
        life.insist(client, UNIT, What::TestUnitReady).unwrap();
    }
    life.controller.misbehave(0, 1);
    let read = life.issue(0, UNIT, What::Read { lba: 0, blocks: 8 }).unwrap();
    let write = life.issue(1, UNIT, What::Write { lba: 8, blocks: 8, fua: false }).unwrap();
    for _ in 0..1000 {
        life.turn(MS_NS).unwrap();
    }
    assert_eq!((life.ended(0, read), life.ended(1, write)), (None, None), "they wait");
    life.controller.behave();
    life.until("answers", Life::is_answered).unwrap();
    assert_eq!(codes(&life.ended(0, read).unwrap().unwrap()), GOOD, "it was read again");
    // It may have reached the medium: only the initiator may send it again.
    assert_eq!(codes(&life.ended(1, write).unwrap().unwrap()), WRITE_ABORTED);
    assert!(!life.controller.is_gone());
    life.end().unwrap();
}

#[test]
fn a_controller_that_is_pulled_out_takes_its_own_unit_only() {
    for seed in 0..10 {
        let mut life = Life::new(seed).unwrap();
        for client in 0..2 {
            life.insist(client, UNIT, What::TestUnitReady).unwrap();
        }
        life.controller.misbehave(0, 3);
        for _ in 0..20 {
            let (client, what) = (life.world.rng.index(2), life.draw());
            life.issue(client, UNIT, what);
            life.turn(10_000).unwrap();
        }
        life.controller.remove();
        life.until("answers", Life::is_answered).unwrap();
        life.until("the driver gives it up", |life| life.controller.is_gone()).unwrap();
        life.end().unwrap();
    }
}
