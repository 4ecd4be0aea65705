//! A world of two sessions that is driven by hand: nothing is delivered or ended unless the test says so.

use lunette::reactor::Census;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::config::{Config, Offer};
use lunette_initiator::lun as lun_field;
use lunette_initiator::scsi::{Sense, status};
use lunette_initiator::session::{Attribute, Completion, Function, Tmf};

use super::oracle::stamp;
use super::round::Still;
use super::what::What;
use super::world::{DiskOptions, Options, TARGET, World};

/// Where the command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    Receiving,
    R2tSent,
    InDevice,
    InTransmitQueue,
}

pub(super) const LBA: u64 = 8;
const WRITE: What = What::Write { lba: LBA, blocks: 16, fua: false };
const READ: What = What::Read { lba: LBA, blocks: 64 };

/// A world of two sessions, of which the first has a command somewhere.
pub(super) struct Cell {
    pub(super) world: World,
    pub(super) op: u64,
    /// Bytes between the target and the first session stand still.
    pub(super) holds_to_target: bool,
    pub(super) holds_to_initiator: bool,
}

fn config(client: usize, immediate_data: bool) -> Config {
    let offer = Offer { immediate_data: Some(immediate_data), initial_r2t: Some(true), ..Offer::usual() };
    Config { offer, ..Config::new(&format!("iqn.2026-01.sim:i{client}"), TARGET) }
}

impl Cell {
    pub(super) fn new(at: At) -> Cell {
        let options =
            Options::quiet(2, vec![DiskOptions { blocks: 512, block_bytes: 512 }], [8, 8, 4, 2], None);
        let mut cell = Cell::idle(options, at != At::R2tSent);
        cell.begin(at);
        cell
    }

    /// A world of two sessions that have asked for nothing.
    pub(super) fn idle(options: Options, immediate_data: bool) -> Cell {
        Cell::of(World::new(1, options), immediate_data)
    }

    /// The same of a world that is new.
    pub(super) fn of(world: World, immediate_data: bool) -> Cell {
        for disk in &world.disks {
            disk.set_latency(u64::MAX / 4);
            disk.set_manners(true, false);
        }
        let mut cell = Cell { world, op: 0, holds_to_target: false, holds_to_initiator: false };
        for client in 0..2 {
            cell.open(client, immediate_data);
            // The unit attention of the login, then GOOD.
            for unit in 0..cell.world.disks.len() {
                assert_eq!(
                    cell.unit_ready_at(client, unit),
                    (status::CHECK_CONDITION, Some((6, 0x29, 0x00)))
                );
                assert_eq!(cell.unit_ready_at(client, unit), (status::GOOD, None));
            }
        }
        cell
    }

    pub(super) fn open(&mut self, client: usize, immediate_data: bool) -> usize {
        let index = self.world.open(client, config(client, immediate_data), 1 << 20);
        self.world.sessions[index].keeps_answers = true;
        self.settle();
        assert!(self.world.sessions[index].is_logged_in);
        index
    }

    /// Brings the first session's command to its place.
    pub(super) fn begin(&mut self, at: At) {
        match at {
            At::Receiving => {
                self.holds_to_target = true;
                self.op = self.issue(0, WRITE);
                self.world.sessions[0].wire.deliver_to_target(48 + 1000);
                self.settle();
                assert_eq!((self.world.census().tasks, self.world.disks[0].held_count()), (1, 0));
            }
            At::R2tSent => {
                self.holds_to_initiator = true;
                self.op = self.issue(0, WRITE);
                self.settle();
                assert_eq!(self.world.sessions[0].wire.flying_to_initiator(), 48);
                assert_eq!((self.world.census().tasks, self.world.disks[0].held_count()), (1, 0));
            }
            At::InDevice => {
                self.op = self.issue(0, WRITE);
                self.settle();
                assert_eq!((self.world.census().ios, self.world.disks[0].in_flight_count()), (1, 1));
            }
            At::InTransmitQueue => {
                self.world.sessions[0].wire.set_capacity_to_initiator(1000);
                self.holds_to_initiator = true;
                self.op = self.issue(0, READ);
                self.settle();
                self.end_ios();
                assert_eq!(self.world.sessions[0].wire.flying_to_initiator(), 1000);
                assert_eq!((self.world.census().tasks, self.world.census().items), (0, 1));
            }
        }
    }

    pub(super) fn issue(&mut self, index: usize, what: What) -> u64 {
        self.issue_at(index, 0, what)
    }

    pub(super) fn issue_at(&mut self, index: usize, unit: usize, what: What) -> u64 {
        self.world.step += 1;
        self.world.issue(index, unit, what, Attribute::Simple, false).expect("a command is taken")
    }

    /// Runs everything that may run until nothing moves.
    pub(super) fn settle(&mut self) {
        let first = Still { to_target: self.holds_to_target, to_initiator: self.holds_to_initiator };
        let still = |session| if session == 0 { first } else { Still::default() };
        while self.world.round(false, still).unwrap() {}
    }

    pub(super) fn release(&mut self) {
        (self.holds_to_target, self.holds_to_initiator) = (false, false);
        self.settle();
    }

    pub(super) fn end_ios(&mut self) {
        while let Some(unit) = self.world.disks.iter().position(|disk| disk.in_flight_count() > 0) {
            self.end_io(unit);
        }
    }

    /// Ends the oldest IO of a disk.
    pub(super) fn end_io(&mut self, unit: usize) {
        self.world.step += 1;
        self.world.disks[unit].end_one(0);
        self.world.look().unwrap();
        self.settle();
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.world.now = self.world.now.after_ns(ns);
        self.settle();
    }

    /// How an op has ended: not at all, or with a completion (none where it was aborted).
    pub(super) fn ended(&self, session: usize, op: u64) -> Option<Option<Completion>> {
        let ended = &self.world.sessions[session].ended;
        ended.iter().find(|(tag, _)| *tag == op).map(|(_, completion)| completion.clone())
    }

    /// The status and sense of the first session's command.
    pub(super) fn outcome(&self) -> Option<(u8, Codes)> {
        self.ended(0, self.op).map(|completion| codes(&completion.expect("a status")))
    }

    /// TEST UNIT READY, answered.
    pub(super) fn unit_ready(&mut self, session: usize) -> (u8, Codes) {
        self.unit_ready_at(session, 0)
    }

    pub(super) fn unit_ready_at(&mut self, session: usize, unit: usize) -> (u8, Codes) {
        let op = self.issue_at(session, unit, What::TestUnitReady);
        self.settle();
        codes(&self.ended(session, op).expect("an answer").expect("a status"))
    }

    /// The second session asks for a LOGICAL UNIT RESET.
    pub(super) fn reset_unit(&mut self) -> u32 {
        self.manage(1, Function::LogicalUnitReset)
    }

    /// A session asks for a function that concerns the first unit.
    pub(super) fn manage(&mut self, session: usize, function: Function) -> u32 {
        self.world.step += 1;
        let itt = self.world.manage(session, 0, Tmf::new(function, lun_field::from_number(0))).unwrap();
        self.settle();
        itt
    }

    pub(super) fn tmf_answer(&self, session: usize, itt: u32) -> Option<u8> {
        let answers = &self.world.sessions[session].tmf_answers;
        answers.iter().find(|answer| answer.0 == itt).map(|answer| answer.1)
    }

    pub(super) fn log_out(&mut self, index: usize) {
        self.world.sessions[index].initiator.logout(0, true).unwrap();
        self.world.pump(index);
        self.settle();
    }

    pub(super) fn reset_connection(&mut self) {
        self.world.sessions[0].wire.reset();
        self.world.lose(0);
        self.settle();
    }

    pub(super) fn has_logged_out(&self) -> bool {
        self.world.sessions[0].initiator.has_ended()
    }

    /// Whether the write, and nothing but all of it, is on the medium.
    pub(super) fn is_written(&self) -> bool {
        let found: Vec<u64> = (LBA..LBA + 16).map(|lba| self.world.disks[0].content(lba)).collect();
        let written: Vec<u64> = (LBA..LBA + 16).map(|lba| stamp(self.op, lba)).collect();
        assert!(found == written || found == [0; 16], "{found:x?}");
        found == written
    }

    pub(super) fn sessions(&self) -> usize {
        self.world.control.sessions().count()
    }

    /// Nothing is left of anything.
    pub(super) fn finish(mut self) {
        self.release();
        self.end_ios();
        for index in 0..self.world.sessions.len() {
            if !self.world.sessions[index].is_over && !self.world.sessions[index].initiator.has_ended() {
                self.log_out(index);
            }
        }
        self.pass(3 * SECOND_NS);
        self.pass(MS_NS);
        assert_eq!(self.world.census(), Census::default());
        let held: usize = self.world.disks.iter().map(|disk| disk.held_count()).sum();
        assert_eq!((self.world.buffers_out(), self.sessions(), held), (0, 0, 0));
    }
}

/// Sense key, additional sense code and qualifier.
pub(super) type Codes = Option<(u8, u8, u8)>;

pub(super) fn codes(completion: &Completion) -> (u8, Codes) {
    let sense = Sense::decode(&completion.sense).map(|sense| (sense.key, sense.asc.0, sense.asc.1));
    (completion.status, sense)
}
