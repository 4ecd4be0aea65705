//! Twenty cells: what interrupts a command, times where the command is when it does.
//!
//! Each world is driven by hand: nothing is delivered or ended unless the test says so.

use lunette::bdev::Info;
use lunette::reactor::Census;
use lunette::reactor::message::NopInTimes;
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::config::{Config, Offer};
use lunette_initiator::lun as lun_field;
use lunette_initiator::scsi::{Sense, status};
use lunette_initiator::session::{Attribute, Completion, Function, Tmf};

use super::oracle::stamp;
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

const LBA: u64 = 8;
const WRITE: What = What::Write { lba: LBA, blocks: 16, fua: false };
const READ: What = What::Read { lba: LBA, blocks: 64 };

/// A world of two sessions, of which the first has a command somewhere.
pub(super) struct Cell {
    pub(super) world: World,
    op: u64,
    /// Bytes between the target and the first session stand still.
    holds_to_target: bool,
    holds_to_initiator: bool,
}

fn config(client: usize, immediate_data: bool) -> Config {
    let offer = Offer { immediate_data: Some(immediate_data), initial_r2t: Some(true), ..Offer::usual() };
    Config { offer, ..Config::new(&format!("iqn.2026-01.sim:i{client}"), TARGET) }
}

impl Cell {
    pub(super) fn new(at: At) -> Cell {
        let options = Options {
            reactors: 2,
            disks: vec![DiskOptions { blocks: 512, block_bytes: 512 }],
            bug: None,
            buffers: [8, 8, 4, 2],
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
        };
        let mut cell = Cell::idle(options, at != At::R2tSent);
        cell.begin(at);
        cell
    }

    /// A world of two sessions that have asked for nothing.
    pub(super) fn idle(options: Options, immediate_data: bool) -> Cell {
        let world = World::new(1, options);
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

    fn open(&mut self, client: usize, immediate_data: bool) -> usize {
        let index = self.world.open(client, config(client, immediate_data), 1 << 20);
        self.world.sessions[index].keeps_answers = true;
        self.settle();
        assert!(self.world.sessions[index].is_logged_in);
        index
    }

    /// Brings the first session's command to its place.
    fn begin(&mut self, at: At) {
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
        loop {
            let mut has_moved = false;
            self.world.step += 1;
            self.world.now = self.world.now.after_ns(10_000);
            for index in 0..self.world.cores.len() {
                while self.world.relay_down(index) || self.world.relay_up(index) {
                    has_moved = true;
                }
            }
            self.world.turn_control();
            for index in 0..self.world.cores.len() {
                has_moved |= self.world.turn(index).unwrap();
            }
            self.world.step += 1;
            for index in (0..self.world.sessions.len())
                .filter(|index| !self.world.sessions[*index].is_over)
                .collect::<Vec<_>>()
            {
                if index != 0 || !self.holds_to_target {
                    let wire = &self.world.sessions[index].wire;
                    has_moved |= wire.flying_to_target() > 0;
                    wire.deliver_to_target(usize::MAX);
                }
                has_moved |= self.world.pump(index);
                if index != 0 || !self.holds_to_initiator {
                    has_moved |= self.world.deliver(index, usize::MAX).unwrap();
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    fn release(&mut self) {
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

    fn unit_ready_at(&mut self, session: usize, unit: usize) -> (u8, Codes) {
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

    fn log_out(&mut self, index: usize) {
        self.world.sessions[index].initiator.logout(0, true).unwrap();
        self.world.pump(index);
        self.settle();
    }

    fn reset_connection(&mut self) {
        self.world.sessions[0].wire.reset();
        self.world.lose(0);
        self.settle();
    }

    fn has_logged_out(&self) -> bool {
        self.world.sessions[0].initiator.has_ended()
    }

    /// Whether the write, and nothing but all of it, is on the medium.
    pub(super) fn is_written(&self) -> bool {
        let found: Vec<u64> = (LBA..LBA + 16).map(|lba| self.world.disks[0].content(lba)).collect();
        let written: Vec<u64> = (LBA..LBA + 16).map(|lba| stamp(self.op, lba)).collect();
        assert!(found == written || found == [0; 16], "{found:x?}");
        found == written
    }

    fn sessions(&self) -> usize {
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

const TOLD_OF_RESET: (u8, Codes) = (status::CHECK_CONDITION, Some((6, 0x29, 0x03)));
const ABORTED: Option<(u8, Codes)> = Some((status::TASK_ABORTED, None));
const GOOD: Option<(u8, Codes)> = Some((status::GOOD, None));
const NO_LUN: (u8, Codes) = (status::CHECK_CONDITION, Some((5, 0x25, 0x00)));
const CAPACITY_CHANGED: (u8, Codes) = (status::CHECK_CONDITION, Some((6, 0x2a, 0x09)));
const OUT_OF_RANGE: (u8, Codes) = (status::CHECK_CONDITION, Some((5, 0x21, 0x00)));

// A LOGICAL UNIT RESET by the other session.

#[test]
fn tmf_receiving() {
    let mut cell = Cell::new(At::Receiving);
    let itt = cell.reset_unit();
    assert_eq!(cell.tmf_answer(1, itt), Some(0), "no device has anything to wait for");
    assert_eq!(cell.outcome(), None, "ExpCmdSN does not cover it yet");
    cell.release();
    assert_eq!(cell.outcome(), ABORTED);
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    assert!(!cell.is_written());
    cell.finish();
}

#[test]
fn tmf_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    let itt = cell.reset_unit();
    assert_eq!(cell.tmf_answer(1, itt), Some(0), "no device has anything to wait for");
    cell.release();
    assert_eq!(cell.outcome(), ABORTED);
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    assert!(!cell.is_written());
    cell.finish();
}

#[test]
fn tmf_in_device() {
    let mut cell = Cell::new(At::InDevice);
    let itt = cell.reset_unit();
    assert_eq!((cell.tmf_answer(1, itt), cell.outcome()), (None, None), "both wait for the device");
    cell.end_ios();
    assert_eq!((cell.tmf_answer(1, itt), cell.outcome()), (Some(0), ABORTED));
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    cell.finish();
}

#[test]
fn tmf_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    let itt = cell.reset_unit();
    assert_eq!(cell.tmf_answer(1, itt), Some(0));
    cell.release();
    assert_eq!(cell.outcome(), GOOD, "it had ended before");
    assert_eq!(cell.unit_ready(0), TOLD_OF_RESET);
    cell.finish();
}

// The session logs out.

#[test]
fn logout_receiving() {
    let mut cell = Cell::new(At::Receiving);
    // It stands behind the rest of the command.
    cell.log_out(0);
    cell.release();
    assert!(cell.has_logged_out());
    assert_eq!((cell.outcome(), cell.sessions()), (None, 2), "its IO is in the device");
    cell.end_ios();
    assert_eq!((cell.outcome(), cell.sessions(), cell.is_written()), (None, 1, true));
    cell.finish();
}

#[test]
fn logout_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    cell.log_out(0);
    cell.release();
    assert!(cell.has_logged_out());
    assert_eq!((cell.outcome(), cell.sessions(), cell.is_written()), (None, 1, false));
    assert_eq!((cell.world.census().tasks, cell.world.buffers_out()), (0, 0));
    cell.finish();
}

#[test]
fn logout_in_device() {
    let mut cell = Cell::new(At::InDevice);
    cell.log_out(0);
    assert!(cell.has_logged_out(), "it does not wait for the device");
    assert_eq!((cell.outcome(), cell.sessions(), cell.world.buffers_out()), (None, 2, 1));
    cell.end_ios();
    assert_eq!((cell.outcome(), cell.sessions(), cell.world.buffers_out()), (None, 1, 0));
    assert!(cell.is_written());
    cell.finish();
}

#[test]
fn logout_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    cell.log_out(0);
    assert!(!cell.has_logged_out());
    cell.release();
    assert_eq!(cell.outcome(), GOOD, "what is queued is sent before the Logout Response");
    assert!(cell.has_logged_out());
    assert_eq!(cell.sessions(), 1);
    cell.finish();
}

// The connection breaks.

#[test]
fn connection_loss_receiving() {
    let mut cell = Cell::new(At::Receiving);
    cell.reset_connection();
    assert_eq!((cell.world.census().conns, cell.world.census().tasks, cell.world.buffers_out()), (1, 0, 0));
    assert_eq!((cell.sessions(), cell.is_written()), (1, false));
    cell.finish();
}

#[test]
fn connection_loss_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    cell.reset_connection();
    assert_eq!((cell.world.census().conns, cell.world.census().tasks, cell.world.buffers_out()), (1, 0, 0));
    assert_eq!((cell.sessions(), cell.is_written()), (1, false));
    cell.finish();
}

#[test]
fn connection_loss_in_device() {
    let mut cell = Cell::new(At::InDevice);
    cell.reset_connection();
    assert_eq!((cell.world.census().conns, cell.world.census().ios, cell.world.buffers_out()), (1, 1, 1));
    // The nexus's next session logs in at once, and is served once the device has given the write back.
    let next = cell.open(0, true);
    let op = cell.issue(next, What::TestUnitReady);
    cell.settle();
    assert_eq!(cell.ended(next, op), None, "the gate is shut");
    cell.end_ios();
    assert!(cell.is_written());
    let told = cell.ended(next, op).expect("an answer").expect("a status");
    assert_eq!(codes(&told), (status::CHECK_CONDITION, Some((6, 0x29, 0x07))), "I_T NEXUS LOSS OCCURRED");
    assert_eq!(cell.unit_ready(next), (status::GOOD, None));
    assert_eq!((cell.sessions(), cell.world.buffers_out()), (2, 0));
    cell.finish();
}

#[test]
fn connection_loss_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    assert_eq!(cell.world.buffers_out(), 1);
    cell.reset_connection();
    assert_eq!((cell.world.census().items, cell.world.buffers_out(), cell.sessions()), (0, 0, 1));
    cell.finish();
}

// The LUN is taken from the target.

fn remove_lun(cell: &mut Cell) {
    cell.world.map(0, false);
    cell.settle();
}

#[test]
fn lun_removal_receiving() {
    let mut cell = Cell::new(At::Receiving);
    remove_lun(&mut cell);
    cell.release();
    assert_eq!((cell.outcome(), cell.is_written()), (Some(NO_LUN), false));
    cell.finish();
}

#[test]
fn lun_removal_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    remove_lun(&mut cell);
    cell.release();
    assert_eq!((cell.outcome(), cell.is_written()), (Some(NO_LUN), false));
    assert_eq!(cell.world.disks[0].held_count(), 0);
    cell.finish();
}

#[test]
fn lun_removal_in_device() {
    let mut cell = Cell::new(At::InDevice);
    remove_lun(&mut cell);
    assert_eq!(cell.unit_ready(1), NO_LUN);
    cell.end_ios();
    assert_eq!((cell.outcome(), cell.is_written()), (GOOD, true));
    assert_eq!(cell.unit_ready(0), NO_LUN);
    cell.finish();
}

#[test]
fn lun_removal_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    remove_lun(&mut cell);
    cell.release();
    assert_eq!(cell.outcome(), GOOD);
    assert_eq!(cell.unit_ready(0), NO_LUN);
    cell.finish();
}

// The disk shrinks below the command's extent.

fn shrink(cell: &mut Cell) {
    cell.world.resize(0, LBA);
    let Info { blocks, .. } = lunette::bdev::Bdev::info(&cell.world.disks[0]);
    assert_eq!(blocks, LBA);
    cell.settle();
}

#[test]
fn resize_receiving() {
    let mut cell = Cell::new(At::Receiving);
    shrink(&mut cell);
    cell.release();
    // Its turn comes after the change: it is told of that instead.
    assert_eq!((cell.outcome(), cell.is_written()), (Some(CAPACITY_CHANGED), false));
    cell.finish();
}

#[test]
fn resize_r2t_sent() {
    let mut cell = Cell::new(At::R2tSent);
    shrink(&mut cell);
    cell.release();
    // Its turn came before the change: the write is checked again when its data are there.
    assert_eq!((cell.outcome(), cell.is_written()), (Some(OUT_OF_RANGE), false));
    assert_eq!(cell.unit_ready(0), CAPACITY_CHANGED);
    cell.finish();
}

#[test]
fn resize_in_device() {
    let mut cell = Cell::new(At::InDevice);
    shrink(&mut cell);
    assert_eq!(cell.world.census().waits, 1, "one reactor has not acknowledged");
    cell.end_ios();
    assert_eq!((cell.world.census().waits, cell.outcome(), cell.is_written()), (0, GOOD, true));
    assert_eq!(cell.unit_ready(0), CAPACITY_CHANGED);
    cell.finish();
}

#[test]
fn resize_in_transmit_queue() {
    let mut cell = Cell::new(At::InTransmitQueue);
    shrink(&mut cell);
    assert_eq!(cell.world.census().waits, 0);
    cell.release();
    assert_eq!(cell.outcome(), GOOD);
    assert_eq!(cell.unit_ready(0), CAPACITY_CHANGED);
    cell.finish();
}
