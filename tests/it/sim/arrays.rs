//! Initiators of an array whose members are slow, full, opening or fail: what they read, and what a power cut leaves, is what
//! they wrote; and each block is on the member where SPDK has it. Bugs planted in the array are found.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lunette::bdev::raid::mirror::Mirror;
use lunette::bdev::raid::planted::{Bug, plant};
use lunette::bdev::raid::{Level, Raid, Recipe};
use lunette::bdev::{Bdev, ChannelState, IoError};
use lunette::control::registry::BdevSpec;
use lunette::reactor::message::NopInTimes;
use lunette::sim::disk::{Disk, Stamp};
use lunette::sim::rng::Rng;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::config::Config;
use lunette_initiator::lun as lun_field;
use lunette_initiator::scsi::status;
use lunette_initiator::session::{Attribute, Function, Tmf};

use super::cell::codes;
use super::mirrors::{Watched, is_whole};
use super::what::What;
use super::world::{DiskOptions, Options, TARGET, World, lun};

/// The array; unit 0 is a disk that never fails.
pub(super) const UNIT: usize = 1;
const MEMBERS: usize = 3;
/// Blocks of a strip.
const STRIP: usize = 8;
/// Blocks that are used of a member, which has half a strip more.
const MEMBER: usize = 24;
pub(super) const BLOCKS: u64 = (MEMBERS * MEMBER) as u64;
/// Steps with faults.
const STEPS: u64 = 200;
const SEEDS: u64 = 40;
const BUG_SEEDS: u64 = 400;
/// Within this time everything is answered once the faults have stopped.
const ANSWERED_NS: u64 = 60 * SECOND_NS;

/// A target with both units, and two initiators, each on a reactor of its own.
struct Life {
    world: World,
    level: Level,
    /// It is a mirror.
    watched: Option<Watched>,
    mirror: Option<Arc<Mirror>>,
    members: Vec<Disk>,
    /// The session of each initiator.
    sessions: [usize; 2],
}

impl Life {
    fn new(seed: u64, is_mirror: bool) -> Result<Life, String> {
        let small = DiskOptions { blocks: 8, block_bytes: 512 };
        let options = Options {
            reactors: 2,
            disks: vec![small],
            bug: None,
            buffers: [64, 32, 16, 6],
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
        };
        let mut world = World::new(seed, options);
        // The world's own disks end what they have at once; the members are not its own.
        world.disks[0].set_latency(0);
        world.options.disks.push(DiskOptions { blocks: BLOCKS, block_bytes: 512 });
        let blocks = if is_mirror { BLOCKS + 4 } else { (MEMBER + STRIP / 2) as u64 };
        let member =
            |index: usize| Disk::new(&format!("member{index}"), blocks, 512, Rng::new(seed + index as u64));
        let members: Vec<Disk> = (0..MEMBERS).map(member).collect();
        for member in &members {
            member.set_manners(world.rng.one_in(2), world.rng.one_in(2));
            member.set_latency(2 * MS_NS);
        }
        let level = if seed % 4 == 3 { Level::Concat } else { Level::Striped };
        let (mirror, watched) = is_mirror
            .then(|| Watched::new(&members, seed))
            .map(|(mirror, watched)| (Arc::new(mirror), watched))
            .unzip();
        let array = Raid::new(Recipe {
            name: "array".to_owned(),
            uuid: [0xA7; 16],
            level,
            strip_bytes: (STRIP * 512) as u64,
            members: members.iter().map(|member| Arc::new(member.clone()) as Arc<dyn Bdev>).collect(),
            known: None,
            keeps: None,
        });
        let (product, recipe, bases) = ("sim".to_owned(), String::new(), Vec::new());
        let bdev: Arc<dyn Bdev> =
            mirror.clone().map_or_else(|| Arc::new(array) as _, |mirror: Arc<Mirror>| mirror as _);
        let spec = BdevSpec { bdev, product, recipe, bases };
        world.control.register_bdev(spec).expect("a bdev");
        world.control.add_lun(TARGET, "array", Some(lun(UNIT))).expect("a LUN");
        world.has_failed = true;
        let mut life = Life { world, level, watched, mirror, members, sessions: [0, 0] };
        for client in 0..2 {
            life.log_in(client)?;
        }
        for client in 0..2 {
            life.insist(client, UNIT, What::TestUnitReady)?;
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
        self.watched.iter_mut().for_each(|watched| watched.turn(world.now));
        world.step += 1;
        for index in self.sessions {
            if !world.sessions[index].is_over {
                world.sessions[index].wire.deliver_to_target(usize::MAX);
                world.pump(index);
                world.deliver(index, usize::MAX)?;
            }
        }
        // The oracle knows the array's blocks, not its members'.
        for member in &self.members {
            drop(member.take_notes());
        }
        Ok(())
    }

    fn until(&mut self, what: &str, is_it: impl Fn(&Life) -> bool) -> Result<(), String> {
        let end = self.world.now.after_ns(ANSWERED_NS);
        while !is_it(self) {
            if self.world.now > end {
                return Err(format!("{what}: never"));
            }
            self.turn(MS_NS)?;
        }
        Ok(())
    }

    fn issue(&mut self, client: usize, unit: usize, what: What) -> Option<u64> {
        self.world.issue(self.sessions[client], unit, what, Attribute::Simple, false)
    }

    /// Asks until it is GOOD, as an initiator does: unit attentions come first.
    fn insist(&mut self, client: usize, unit: usize, what: What) -> Result<(), String> {
        let mut seen = Vec::new();
        while seen.len() < 12 {
            let op = self.issue(client, unit, what).ok_or("no room for a command")?;
            let index = self.sessions[client];
            let is_it = move |tag: &u64| *tag == op;
            self.until("an answer", |life| {
                life.world.sessions[index].ended.iter().any(|(tag, _)| is_it(tag))
            })?;
            let ended = &self.world.sessions[index].ended;
            let completion = ended.iter().find(|(tag, _)| is_it(tag)).and_then(|(_, end)| end.clone());
            let answer = codes(&completion.ok_or("it was aborted")?);
            if answer == (status::GOOD, None) {
                return Ok(());
            }
            seen.push(answer);
        }
        Err(format!("{what:?} is not served: {seen:?}"))
    }

    fn draw(&mut self) -> What {
        let rng = &mut self.world.rng;
        let (lba, blocks) = (rng.below(BLOCKS - 32), 1 + rng.pick(&[0, 0, 1, 7, 15, 31]));
        match rng.below(20) {
            0..7 => What::Read { lba, blocks },
            7..14 => What::Write { lba, blocks, fua: rng.one_in(4) },
            14 => What::Same { lba, blocks },
            15 => What::Zero { lba, blocks, is_unmap: rng.one_in(2) },
            16..19 => What::Sync,
            _ => What::TestUnitReady,
        }
    }

    fn fault(&mut self) {
        self.watched.iter_mut().for_each(Watched::fault);
        let rng = &mut self.world.rng;
        let member = &self.members[rng.index(MEMBERS)];
        match rng.below(6) {
            // Who has only a bad block stays in a mirror.
            0 if self.watched.is_some() && rng.one_in(2) => member.fail_next_with(1, IoError::Aborted),
            0 => member.fail_next(1),
            1 => member.set_queue_max(rng.index(3)),
            2 => member.set_state(ChannelState::Opening),
            3 => member.set_latency(rng.pick(&[10_000, 2 * MS_NS, 50 * MS_NS])),
            _ => {
                member.set_queue_max(64);
                member.set_state(ChannelState::Ready);
            }
        }
    }

    /// IO, resets and faults of the members.
    fn chaos(&mut self) -> Result<(), String> {
        for step in 0..STEPS {
            let client = self.world.rng.index(2);
            for _ in 0..self.world.rng.below(3) {
                let what = self.draw();
                self.issue(client, UNIT, what);
            }
            if self.world.rng.one_in(60) {
                let tmf = Tmf::new(Function::LogicalUnitReset, lun_field::from_number(1));
                self.world.manage(self.sessions[client], UNIT, tmf);
            }
            if self.world.rng.one_in(10) {
                self.fault();
            }
            let ns = self.world.rng.pick(&[10_000, 100_000, MS_NS, 5 * MS_NS]);
            self.turn(ns)?;
            self.revive()?;
            if step % 8 == 0 {
                self.cut_power()?;
            }
        }
        for member in &self.members {
            member.set_queue_max(64);
            member.set_state(ChannelState::Ready);
            member.set_latency(MS_NS);
            member.fail_next(0);
        }
        self.watched.iter().for_each(Watched::heal);
        Ok(())
    }

    /// Who was told that a reset failed begins anew.
    fn revive(&mut self) -> Result<(), String> {
        for client in 0..2 {
            self.world.sessions[self.sessions[client]].ended.clear();
            if self.world.sessions[self.sessions[client]].is_over {
                self.log_in(client)?;
            }
        }
        Ok(())
    }

    /// The array's blocks, put together from its members' by other means than its own.
    fn put_together(&self, of: impl Fn(&Disk) -> Vec<Stamp>) -> Vec<Stamp> {
        let members: Vec<Vec<Stamp>> = self.members.iter().map(of).collect();
        let block = |lba: usize| match self.level {
            Level::Striped => members[lba / STRIP % MEMBERS][lba / STRIP / MEMBERS * STRIP + lba % STRIP],
            Level::Concat => members[lba / MEMBER][lba % MEMBER],
        };
        (0..MEMBERS * MEMBER).map(block).collect()
    }

    /// What would be left if the power were cut now.
    fn cut_power(&mut self) -> Result<(), String> {
        if let Some(watched) = &self.watched {
            watched.check(&self.members, &self.world.oracle, self.world.step)?;
        } else {
            let contents = self.put_together(Disk::after_power_cut);
            self.world.oracle.after_power_cut(UNIT, &contents)?;
        }
        let ops = self.world.sessions.iter().flat_map(|session| session.ops.values());
        let oldest = ops.map(|op| op.start).min().unwrap_or(self.world.step);
        self.world.oracle.prune(oldest);
        Ok(())
    }

    /// All is answered, read by both initiators, and where it belongs.
    fn end(&mut self) -> Result<(), String> {
        self.until("answers", |life| {
            life.sessions.iter().all(|index| life.world.sessions[*index].ops.is_empty())
        })?;
        self.revive()?;
        for client in 0..2 {
            for lba in (0..BLOCKS).step_by(12) {
                self.insist(client, UNIT, What::Read { lba, blocks: 12 })?;
            }
            self.insist(client, UNIT, What::Sync)?;
        }
        self.cut_power()?;
        if self.watched.is_some() {
            self.until("all members are equal", |life| {
                life.mirror.iter().zip(&life.watched).all(|(mirror, watched)| is_whole(&**mirror, watched))
            })?;
            self.cut_power()?;
        }
        let now = self.world.step;
        let held = |disk: &Disk| (0..MEMBER as u64).map(|lba| disk.content(lba)).collect();
        let put_together = if self.watched.is_some() { Vec::new() } else { self.put_together(held) };
        for (lba, stamp) in (0..).zip(put_together) {
            self.world.oracle.read(UNIT, lba, stamp, now, now)?;
        }
        self.until("nothing is held", |life| {
            let census = life.world.census();
            (census.tasks, census.ios, life.world.buffers_out()) == (0, 0, 0)
        })
    }
}

/// Lives through a seed, with this bug or none.
pub(super) fn run(seed: u64, is_mirror: bool, bug: Option<Bug>) -> Result<(), String> {
    plant(bug);
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut life = Life::new(seed, is_mirror)?;
        life.chaos()?;
        life.end()
    }));
    plant(None);
    lived.unwrap_or_else(|_| Err("a panic".to_owned()))
}

#[test]
fn whatever_members_do_an_array_holds_what_was_written() {
    for seed in 0..super::number("LUNETTE_ARRAY_SEEDS").unwrap_or(SEEDS) {
        assert_eq!(run(seed, false, None), Ok(()), "seed {seed}");
    }
}

fn find(bug: Bug) {
    let found = (0..BUG_SEEDS).find_map(|seed| Some((seed, run(seed, false, Some(bug)).err()?)));
    let (seed, error) = found.unwrap_or_else(|| panic!("{bug:?} was not found by {BUG_SEEDS} seeds"));
    println!("{bug:?}: seed {seed}: {error}");
}

macro_rules! bugs {
    ($($name:ident: $bug:ident,)*) => {
        $(
            #[test]
            fn $name() {
                find(Bug::$bug);
            }
        )*
    };
}

bugs! {
    strip_too_long: StripTooLong,
    first_leg_only: FirstLegOnly,
    flush_of_one: FlushOfOne,
    window_not_moved: WindowNotMoved,
    error_ignored: ErrorIgnored,
}
