//! Reactors that talk to each other, with plain WRITEs in the place of commands that hold: one whose data are still to
//! come asks for a hold, and its data end it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Phase;
use crate::buf::{Class, Pool};
use crate::id::{BarrierId, ReactorId, SessionId, UnitId};
use crate::iscsi::negotiate::DEFAULTS;
use crate::iscsi::sn::Sn;
use crate::limits;
use crate::reactor::message::{Adopt, Change, EndReason, NopInTimes, ToControl, ToReactor};
use crate::reactor::port::{Receiver, Sender, channel};
use crate::reactor::{Planted, Reactor, Setup, Sizes};
use crate::scsi::attention::Ua;
use crate::scsi::view::{Identity, LunNumber, Mapping, Medium, TargetView, UnitView};
use crate::sim::disk::Disk;
use crate::sim::net::{Plug, SimNet, Wire};
use crate::sim::no_waker;
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

const UNITS: u32 = 3;
const BLOCKS: u64 = 2048;

struct Session {
    reactor: usize,
    id: SessionId,
    wire: Wire,
    conn: Key,
    /// The last command: ITT and CmdSN.
    number: u8,
    /// By ITT: status and, of sense data, the key.
    ends: BTreeMap<u8, (u8, u8)>,
    /// By ITT: target transfer tag.
    r2ts: BTreeMap<u8, [u8; 4]>,
}

struct World {
    reactors: Vec<Reactor<SimNet>>,
    to: Vec<Sender<ToReactor<Plug>>>,
    /// What a reactor would send to itself.
    to_self: Vec<Receiver<ToReactor<Plug>>>,
    from: Receiver<ToControl>,
    disks: Vec<Disk>,
    sessions: Vec<Session>,
    now: Tick,
}

fn unit_view(id: u32) -> UnitView {
    let identity = Identity {
        vendor: *b"EXAMPLE ",
        product: *b"DISK            ",
        revision: *b"1   ",
        serial: "1".to_owned(),
        naa: [0x30; 8],
    };
    UnitView {
        id: UnitId(id),
        blocks: BLOCKS,
        block_bytes: 512,
        physical_block_bytes: 512,
        identity,
        read_only: false,
        write_cache: false,
        rotational: false,
        descriptor_sense: false,
        medium: Medium::Ready,
    }
}

impl World {
    /// So many reactors, whose queues take so many messages, and three units with slow disks: an IO ends when asked to.
    fn new(reactors: u16, mailbox: usize) -> World {
        let (to_control, from) = channel(limits::MAILBOX, no_waker());
        let (to, inboxes): (Vec<Sender<_>>, Vec<_>) =
            (0..reactors).map(|_| channel(mailbox, no_waker())).unzip();
        let mut to_self = Vec::new();
        let reactors = (0u16..).zip(inboxes).map(|(number, inbox)| {
            let mut peers = to.clone();
            let (sender, receiver) = channel(mailbox, no_waker());
            peers[usize::from(number)] = sender;
            to_self.push(receiver);
            let classes = [Class { bytes: 4096, count: 64 }];
            Reactor::new(Setup {
                id: ReactorId(number),
                net: SimNet::new(),
                inbox,
                to_control: to_control.clone(),
                peers,
                unsolicited: Pool::ordinary(&classes).unwrap(),
                solicited: Pool::ordinary(&classes).unwrap(),
                sizes: Sizes { conns: 8, spare_window: 64, staging_bytes: 64 << 10 },
                planted: Planted::default(),
            })
        });
        let reactors = reactors.collect();
        let disks: Vec<Disk> = (0..UNITS).map(|_| Disk::new("disk", BLOCKS, 512, Rng::new(1))).collect();
        let mut world =
            World { reactors, to, to_self, from, disks, sessions: Vec::new(), now: Tick::from_ns(1) };
        for (id, disk) in (0..).zip(world.disks.clone()) {
            disk.set_latency(u64::MAX);
            for index in 0..world.reactors.len() {
                let bdev = Arc::new(disk.clone());
                world.tell(index, ToReactor::AddUnit { view: Arc::new(unit_view(id)), bdev });
            }
        }
        world
    }

    fn tell(&mut self, reactor: usize, message: ToReactor<Plug>) {
        self.to[reactor].send(message).unwrap();
        self.reactors[reactor].turn(self.now);
    }

    /// Everyone has turns until all there is to say has been said.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.reactors.iter_mut().filter(|reactor| !reactor.is_stopped()).for_each(|reactor| {
                reactor.turn(self.now);
            });
        }
        for index in 0..self.sessions.len() {
            self.read_answers(index);
        }
        assert!(self.to_self.iter().all(|own| own.receive().is_none()), "nobody writes to himself");
    }

    fn read_answers(&mut self, session: usize) {
        let session = &mut self.sessions[session];
        let stream = session.wire.deliver_to_initiator(usize::MAX);
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let data_bytes = usize::from(rest[6]) << 8 | usize::from(rest[7]);
            let (pdu, behind) = rest.split_at(48 + data_bytes.next_multiple_of(4));
            let itt = pdu[19];
            match pdu[0] {
                0x21 => {
                    let key = if data_bytes > 0 { pdu[48 + 2 + 2] & 0xf } else { 0 };
                    assert_eq!(session.ends.insert(itt, (pdu[3], key)), None);
                }
                0x31 => drop(session.r2ts.insert(itt, [pdu[20], pdu[21], pdu[22], pdu[23]])),
                0x25 if pdu[1] & 1 != 0 => assert_eq!(session.ends.insert(itt, (pdu[3], 0)), None),
                0x25 => {}
                other => panic!("a PDU {other:#04x}"),
            }
            rest = behind;
        }
    }

    /// A session whose unit attentions have been told.
    fn session(&mut self, reactor: usize) -> usize {
        let (wire, plug) = Wire::new(1 << 20);
        let mappings = (0..UNITS).map(|id| Mapping {
            number: LunNumber(u16::try_from(id).unwrap()),
            unit: UnitId(id),
            read_only: false,
        });
        let target = TargetView {
            name: "iqn.2026-11.io.example:t".to_owned(),
            alias: String::new(),
            relative_port: 1,
            port_group: 1,
            portal_group: 1,
            portals: Vec::new(),
            mappings: mappings.collect(),
        };
        let id = SessionId(self.sessions.len() as u64 + 1);
        let adopt = Adopt {
            handle: plug,
            session: id,
            target: Arc::new(target),
            params: DEFAULTS,
            stat_sn: Sn(1),
            exp_cmd_sn: Sn(1),
            cid: 0,
            leftover: Vec::new(),
            attention: Ua::PowerOn,
            is_gated: false,
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
        };
        self.tell(reactor, ToReactor::Adopt(Box::new(adopt)));
        let links = &self.reactors[reactor].conns;
        let conn = links.iter().find(|(_, link)| link.conn.session() == id).map(|(key, _)| key).unwrap();
        let (ends, r2ts) = (BTreeMap::new(), BTreeMap::new());
        self.sessions.push(Session { reactor, id, wire, conn, number: 0, ends, r2ts });
        let session = self.sessions.len() - 1;
        for lun in 0..3 {
            let itt = self.command(session, lun, 0x80, 0, &[0; 6], &[]);
            self.settle();
            assert_eq!(self.end_of(session, itt), Some((2, 6)));
        }
        session
    }

    fn command(&mut self, session: usize, lun: u8, flags: u8, bytes: u16, cdb: &[u8], data: &[u8]) -> u8 {
        let session = &mut self.sessions[session];
        session.number += 1;
        let mut pdu = [0; 48];
        (pdu[0], pdu[1]) = (0x01, flags);
        pdu[6..8].copy_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        (pdu[9], pdu[19], pdu[27]) = (lun, session.number, session.number);
        pdu[22..24].copy_from_slice(&bytes.to_be_bytes());
        pdu[32..32 + cdb.len()].copy_from_slice(cdb);
        session.wire.send(&pdu);
        session.wire.send(data);
        session.wire.deliver_to_target(usize::MAX);
        session.number
    }

    /// A WRITE of one block with its data.
    fn write(&mut self, session: usize, unit: u8, lba: u16) -> u8 {
        let [high, low] = lba.to_be_bytes();
        let itt = self.command(session, unit, 0xa0, 512, &[0x2a, 0, 0, 0, high, low, 0, 0, 1, 0], &[7; 512]);
        self.settle();
        itt
    }

    fn read(&mut self, session: usize, unit: u8, lba: u16) -> u8 {
        let [high, low] = lba.to_be_bytes();
        let itt = self.command(session, unit, 0xc0, 512, &[0x28, 0, 0, 0, high, low, 0, 0, 1, 0], &[]);
        self.settle();
        itt
    }

    /// A WRITE of one block, whose data are still to come.
    fn begin(&mut self, session: usize, unit: u8, lba: u16) -> u8 {
        let [high, low] = lba.to_be_bytes();
        let itt = self.command(session, unit, 0xa0, 512, &[0x2a, 0, 0, 0, high, low, 0, 0, 1, 0], &[]);
        self.settle();
        itt
    }

    /// A WRITE of the first block, whose data are still to come, asks for a hold.
    fn ask(&mut self, session: usize, unit: u8, lba: u16, blocks: u32) -> u8 {
        let itt = self.begin(session, unit, lba);
        self.ask_for(session, itt, unit, lba, blocks);
        itt
    }

    fn ask_for(&mut self, session: usize, itt: u8, unit: u8, lba: u16, blocks: u32) {
        let task = self.task(session, itt).unwrap();
        let Session { reactor, conn, .. } = self.sessions[session];
        let unit = UnitId(u32::from(unit));
        self.reactors[reactor].ask_hold(conn, task, unit, u64::from(lba), blocks, self.now);
    }

    /// The data of a WRITE that asked for a hold.
    fn send_data(&mut self, session: usize, itt: u8) {
        let session = &mut self.sessions[session];
        let mut pdu = [0; 48];
        (pdu[0], pdu[1], pdu[6], pdu[19]) = (0x05, 0x80, 2, itt);
        pdu[20..24].copy_from_slice(&session.r2ts.remove(&itt).unwrap());
        session.wire.send(&pdu);
        session.wire.send(&[9; 512]);
        session.wire.deliver_to_target(usize::MAX);
        self.settle();
    }

    /// Sees a WRITE that holds to its end.
    fn finish(&mut self, session: usize, itt: u8, unit: usize) {
        self.send_data(session, itt);
        self.end_io(unit);
        assert_eq!(self.end_of(session, itt), Some((0, 0)));
    }

    fn task(&self, session: usize, itt: u8) -> Option<Key> {
        let session = &self.sessions[session];
        let reactor = &self.reactors[session.reactor];
        let tasks = &reactor.tables.tasks;
        let mut at = reactor.conns.get(session.conn)?.conn.tasks().first();
        while let Some(key) = at {
            if tasks.get(key)?.itt == u32::from(itt) {
                return Some(key);
            }
            at = tasks.next(key);
        }
        None
    }

    /// Where the hold that a command asked for stands.
    fn phase(&self, session: usize, itt: u8) -> Option<Phase> {
        let task = self.task(session, itt)?;
        let reactor = &self.reactors[self.sessions[session].reactor];
        reactor.holds.own.iter().find(|(_, own)| own.task == task).map(|(_, own)| own.phase)
    }

    /// How a command ended: status and sense key.
    fn end_of(&self, session: usize, itt: u8) -> Option<(u8, u8)> {
        self.sessions[session].ends.get(&itt).copied()
    }

    /// IOs that a unit's disk has.
    fn in_device(&self, unit: usize) -> usize {
        self.disks[unit].in_flight_count()
    }

    /// The oldest IO that a disk has comes back.
    fn end_io(&mut self, unit: usize) {
        assert!(self.in_device(unit) > 0);
        self.disks[unit].end_one(0);
        self.settle();
    }

    fn pass(&mut self, ns: u64) {
        self.now = self.now.after_ns(ns);
        self.settle();
    }

    fn close(&mut self, session: usize) {
        let Session { reactor, id, .. } = self.sessions[session];
        self.tell(reactor, ToReactor::EndSession { session: id, reason: EndReason::Removed });
    }

    fn holds(&self) -> usize {
        self.reactors.iter().map(|reactor| reactor.census().holds).sum()
    }

    /// What reactors have that is not over.
    fn left(&self) -> usize {
        let census = |reactor: &Reactor<SimNet>| {
            let census = reactor.census();
            census.holds + census.waits + census.ios + census.tasks
        };
        self.reactors.iter().filter(|reactor| !reactor.is_stopped()).map(census).sum()
    }
}

#[test]
fn one_reactor_alone_needs_one_turn_and_no_message() {
    let mut world = World::new(1, 64);
    let session = world.session(0);
    let owner = world.ask(session, 2, 8, 4);
    world.reactors[0].turn(world.now);
    assert_eq!(world.phase(session, owner), Some(Phase::Granted));
    world.finish(session, owner, 2);
    assert_eq!(world.left(), 0);
}

/// With queues of one message too: what cannot be said is said later.
#[test]
fn holds_that_overlap_are_granted_in_the_order_of_asking() {
    for (mailbox, unit) in [(64, 0), (64, 1), (64, 2), (1, 0), (1, 1), (1, 2)] {
        let mut world = World::new(3, mailbox);
        let [a, b, c] = [0, 1, 2].map(|reactor| world.session(reactor));
        let phases = |world: &World, owners: &[(usize, u8)]| -> Vec<Option<Phase>> {
            owners.iter().map(|&(session, itt)| world.phase(session, itt)).collect()
        };
        let mut owners = Vec::new();
        for (session, lba, blocks) in [(a, 0, 8), (b, 4, 8), (c, 20, 4), (c, 11, 1), (a, 12, 8)] {
            owners.push((session, world.ask(session, unit, lba, blocks)));
            world.settle();
        }
        let (asked, granted) = (Some(Phase::Asked), Some(Phase::Granted));
        // The fourth meets only the second, which itself waits; the last touches others without overlap.
        assert_eq!(phases(&world, &owners), [granted, asked, granted, asked, granted]);
        world.finish(owners[0].0, owners[0].1, usize::from(unit));
        assert_eq!(phases(&world, &owners), [None, granted, granted, asked, granted]);
        world.finish(owners[1].0, owners[1].1, usize::from(unit));
        assert_eq!(phases(&world, &owners), [None, None, granted, granted, granted]);
        for &(session, itt) in &owners[2..] {
            world.finish(session, itt, usize::from(unit));
        }
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn a_hold_waits_for_what_devices_have_in_its_range_and_for_nothing_else() {
    let mut world = World::new(2, 64);
    let (near, far) = (world.session(0), world.session(1));
    for unit in [0, 1] {
        let before = world.write(near, unit, 7);
        let inside = world.read(near, unit, 8);
        let last = world.write(far, unit, 11);
        world.write(far, unit, 12);
        let owner = world.ask(far, unit, 8, 4);
        world.settle();
        assert_eq!((world.phase(far, owner), world.in_device(usize::from(unit))), (Some(Phase::Asked), 4));
        let disk = world.disks[usize::from(unit)].clone();
        // The block before, the first inside, the last inside, the one behind: this one takes the place of the second.
        disk.end_one(1);
        world.settle();
        assert_eq!(world.end_of(near, inside), Some((0, 0)));
        assert_eq!(world.phase(far, owner), Some(Phase::Asked));
        disk.end_one(2);
        world.settle();
        assert_eq!(world.end_of(far, last), Some((0, 0)));
        assert_eq!(world.phase(far, owner), Some(Phase::Granted));
        assert_eq!((world.end_of(near, before), world.in_device(usize::from(unit))), (None, 2));
        world.end_io(usize::from(unit));
        world.end_io(usize::from(unit));
        world.finish(far, owner, usize::from(unit));
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn what_meets_a_hold_waits_for_its_end_in_order_and_the_rest_passes() {
    let mut world = World::new(2, 64);
    let (owner, near, far) = (world.session(0), world.session(0), world.session(1));
    for unit in [0, 1] {
        let hold = world.ask(owner, unit, 8, 2);
        world.settle();
        let device = usize::from(unit);
        let waiting: Vec<_> = [near, far]
            .map(|session| {
                let commands = [
                    world.write(session, unit, 8),
                    world.read(session, unit, 9),
                    world.write(session, unit, 9),
                ];
                commands.map(|itt| (session, itt))
            })
            .concat();
        assert_eq!(world.in_device(device), 0);
        // Neighbours, another unit, and a flush are not in the way.
        for (session, passing_unit, lba) in [(near, unit, 7), (far, unit, 10), (far, 2, 8)] {
            let passing = world.write(session, passing_unit, lba);
            world.end_io(usize::from(passing_unit));
            assert_eq!(world.end_of(session, passing), Some((0, 0)));
        }
        let flush = world.command(far, unit, 0x80, 0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        world.settle();
        world.end_io(device);
        assert_eq!(world.end_of(far, flush), Some((0, 0)));

        world.send_data(owner, hold);
        assert_eq!(world.in_device(device), 1, "its own IO passes");
        world.disks[device].set_queue_max(1);
        world.end_io(device);
        assert_eq!((world.end_of(owner, hold), world.holds()), (Some((0, 0)), 0));
        // They go in the order in which they came, as far as one reactor knows it.
        let mut ended: Vec<(usize, u8)> = Vec::new();
        while world.in_device(device) > 0 {
            world.end_io(device);
            let is_new = |command: &&(usize, u8)| {
                world.end_of(command.0, command.1).is_some() && !ended.contains(command)
            };
            let new: Vec<_> = waiting.iter().filter(is_new).copied().collect();
            assert_eq!(new.len(), 1);
            ended.extend(new);
        }
        for session in [near, far] {
            let order: Vec<_> = ended.iter().filter(|end| end.0 == session).copied().collect();
            let expected: Vec<_> = waiting.iter().filter(|command| command.0 == session).copied().collect();
            assert_eq!(order, expected);
        }
        world.disks[device].set_queue_max(64);
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn a_hold_passes_what_waits_for_room_as_that_may_wait_for_the_hold() {
    let mut world = World::new(1, 64);
    let (owner, other) = (world.session(0), world.session(0));
    world.disks[0].set_queue_max(1);
    let first = world.write(other, 0, 100);
    let in_the_way = world.write(other, 0, 8);
    let behind = world.write(other, 0, 101);
    let hold = world.ask(owner, 0, 8, 1);
    world.settle();
    // What only waits for room is in no device.
    assert_eq!(world.phase(owner, hold), Some(Phase::Granted));
    world.send_data(owner, hold);
    assert_eq!(world.end_of(owner, hold), None);
    world.end_io(0);
    assert_eq!((world.end_of(other, first), world.in_device(0)), (Some((0, 0)), 1));
    world.end_io(0);
    assert_eq!(world.end_of(owner, hold), Some((0, 0)), "it was the first to find room");
    world.end_io(0);
    world.end_io(0);
    assert_eq!([in_the_way, behind].map(|itt| world.end_of(other, itt)), [Some((0, 0)); 2]);
    assert_eq!(world.left(), 0);
}

#[test]
fn a_hold_ends_with_its_session_wherever_it_stands() {
    for unit in [0, 1] {
        let device = usize::from(unit);
        for state in ["new", "asked", "behind another", "granted", "in the device"] {
            let mut world = World::new(2, 64);
            let (dying, living) = (world.session(0), world.session(1));
            let busy = (state == "asked").then(|| world.write(living, unit, 8));
            let first = (state == "behind another").then(|| world.ask(living, unit, 8, 1));
            world.settle();
            let hold = world.ask(dying, unit, 8, 2);
            if state != "new" {
                world.settle();
            }
            if state == "in the device" {
                world.send_data(dying, hold);
                world.disks[device].set_manners(false, false);
            }
            world.close(dying);
            let next = world.ask(living, unit, 9, 1);
            world.settle();
            let has_to_wait = state == "in the device";
            let phase = if has_to_wait { Phase::Asked } else { Phase::Granted };
            assert_eq!(world.phase(living, next), Some(phase), "{state}");
            if has_to_wait || busy.is_some() {
                world.end_io(device);
            }
            world.finish(living, next, device);
            if let Some(first) = first {
                assert_eq!(world.phase(living, first), Some(Phase::Granted));
                world.finish(living, first, device);
            }
            assert_eq!(world.left(), 0, "{state}");
        }
    }
}

#[test]
fn commands_that_wait_for_a_hold_can_be_given_up() {
    let mut world = World::new(2, 64);
    let (owner, reset, closed) = (world.session(0), world.session(1), world.session(1));
    let hold = world.ask(owner, 0, 8, 1);
    world.settle();
    let told = world.write(reset, 0, 8);
    let silent = world.write(closed, 0, 8);
    world.close(closed);
    let change = Change::Reset { units: [UnitId(0)].into(), attention: Ua::UnitReset };
    world.tell(1, ToReactor::Barrier { id: BarrierId(1), change });
    world.settle();
    assert_eq!(world.end_of(reset, told), Some((0x40, 0)), "TASK ABORTED");
    assert_eq!(world.end_of(closed, silent), None);
    let is_acknowledged = |message| matches!(message, ToControl::BarrierDone { is_clean: true, .. });
    assert!(std::iter::from_fn(|| world.from.receive()).any(is_acknowledged));
    world.finish(owner, hold, 0);
    assert_eq!(world.left(), 0);
}

#[test]
fn a_device_that_keeps_an_io_costs_the_hold_unless_it_can_be_fenced() {
    for (can_fence, unit) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
        let mut world = World::new(2, 64);
        let (owner, other) = (world.session(0), world.session(1));
        world.disks[usize::from(unit)].set_manners(can_fence, false);
        world.write(other, unit, 8);
        let hold = world.ask(owner, unit, 8, 1);
        world.settle();
        let held = world.write(other, unit, 8);
        world.pass(limits::DRAIN_NS - 1);
        assert_eq!(world.phase(owner, hold), Some(Phase::Asked));
        world.pass(1);
        if can_fence {
            assert_eq!(world.phase(owner, hold), Some(Phase::Granted));
            world.finish(owner, hold, usize::from(unit));
        } else {
            assert_eq!(world.end_of(owner, hold), None, "its own data are still owed");
            world.send_data(owner, hold);
            assert_eq!(world.end_of(owner, hold), Some((8, 0)), "BUSY");
            world.end_io(usize::from(unit));
        }
        assert_eq!((world.holds(), world.in_device(usize::from(unit))), (0, 1));
        world.end_io(usize::from(unit));
        assert_eq!(world.end_of(other, held), Some((0, 0)));
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn a_command_that_does_not_give_its_hold_up_in_time_is_ended() {
    let mut world = World::new(2, 64);
    let (slow, next) = (world.session(0), world.session(1));
    let first = world.ask(slow, 1, 8, 1);
    world.settle();
    world.pass(SECOND_NS);
    let second = world.ask(next, 1, 8, 1);
    world.settle();
    world.pass(limits::HOLD_NS - SECOND_NS - 1);
    assert_eq!(
        [world.phase(slow, first), world.phase(next, second)],
        [Some(Phase::Granted), Some(Phase::Asked)]
    );
    world.pass(1);
    assert_eq!(world.phase(next, second), Some(Phase::Granted));
    world.send_data(slow, first);
    assert_eq!(world.end_of(slow, first), Some((2, 0xb)), "ABORTED COMMAND");
    world.finish(next, second, 1);
    assert_eq!(world.left(), 0);
}

#[test]
fn one_hold_too_many_is_refused() {
    let mut world = World::new(1, 64);
    let session = world.session(0);
    let many = world.ask(session, 0, 8, 1);
    for _ in 1..limits::HOLDS_MAX {
        world.ask_for(session, many, 0, 8, 1);
    }
    let one_more = world.ask(session, 0, 100, 1);
    world.send_data(session, one_more);
    assert_eq!(world.end_of(session, one_more), Some((8, 0)), "BUSY");
    assert_eq!(world.in_device(0), 0);
    world.close(session);
    world.settle();
    assert_eq!(world.left(), 0);
}

#[test]
fn nobody_waits_for_a_reactor_that_has_stopped() {
    let mut world = World::new(2, 64);
    let (at_home, away) = (world.session(0), world.session(1));
    let hold = world.ask(at_home, 0, 8, 1);
    world.settle();
    // The one that stops has nothing but a session to end, which it does at once.
    world.tell(1, ToReactor::Stop);
    world.settle();
    assert_eq!((world.reactors[0].is_stopped(), world.reactors[1].is_stopped()), (false, true));
    assert!(world.sessions[away].wire.is_closed_by_target());
    world.finish(at_home, hold, 0);
    let alone = world.ask(at_home, 0, 8, 1);
    world.settle();
    assert_eq!(world.phase(at_home, alone), Some(Phase::Granted));
    world.finish(at_home, alone, 0);
    // Its own units have lost their home.
    let homeless = world.ask(at_home, 1, 8, 1);
    world.settle();
    world.send_data(at_home, homeless);
    assert_eq!(world.end_of(at_home, homeless), Some((8, 0)), "BUSY");
    assert_eq!(world.left(), 0);
}

#[test]
fn what_is_on_its_way_to_a_reactor_that_stops_is_not_waited_for() {
    let mut world = World::new(2, 64);
    let session = world.session(0);
    let [granted, refused] = [0, 1].map(|unit| world.begin(session, unit, 8));
    world.tell(1, ToReactor::Stop);
    for _ in 0..3 {
        world.reactors[1].turn(world.now);
    }
    assert!(world.reactors[1].is_stopped());
    // Both are said before the news has been read.
    world.ask_for(session, granted, 0, 8, 1);
    world.ask_for(session, refused, 1, 8, 1);
    world.reactors[0].settle_holds(world.now);
    assert_eq!([granted, refused].map(|itt| world.phase(session, itt)), [Some(Phase::Asked); 2]);
    world.settle();
    assert_eq!(world.phase(session, granted), Some(Phase::Granted));
    world.finish(session, granted, 0);
    world.send_data(session, refused);
    assert_eq!(world.end_of(session, refused), Some((8, 0)), "BUSY");
    assert_eq!(world.left(), 0);
}

#[test]
fn a_home_stays_as_long_as_it_is_needed() {
    let mut world = World::new(2, 64);
    let owner = world.session(1);
    let hold = world.ask(owner, 0, 8, 1);
    world.settle();
    world.tell(0, ToReactor::Drain { seconds: 10 });
    world.settle();
    world.pass(9 * SECOND_NS);
    assert!(!world.reactors[0].is_stopped());
    world.finish(owner, hold, 0);
    assert!(world.reactors[0].is_stopped());
    assert_eq!(world.left(), 0);
}
