//! Reactors on simulated sockets and disks, which do only what they are told to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Phase;
use crate::buf::{Class, Pool};
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::iscsi::negotiate::DEFAULTS;
use crate::iscsi::sn::Sn;
use crate::limits;
use crate::reactor::message::{Adopt, EndReason, NopInTimes, ToControl, ToReactor};
use crate::reactor::port::{Receiver, Sender, channel};
use crate::reactor::{Planted, Reactor, Setup, Sizes};
use crate::scsi::attention::Ua;
use crate::scsi::view::{Identity, LunNumber, Mapping, TargetView, UnitView};
use crate::sim::disk::Disk;
use crate::sim::net::{Plug, SimNet, Wire};
use crate::sim::no_waker;
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::Tick;

const UNITS: u32 = 3;
const BLOCKS: u64 = 2048;

pub(super) struct Session {
    pub(super) reactor: usize,
    pub(super) id: SessionId,
    pub(super) wire: Wire,
    pub(super) conn: Key,
    /// The last command: ITT and CmdSN.
    pub(super) number: u8,
    /// By ITT: status and, of sense data, the key.
    pub(super) ends: BTreeMap<u8, (u8, u8)>,
    /// By ITT: target transfer tag.
    pub(super) r2ts: BTreeMap<u8, [u8; 16]>,
}

pub(super) struct World {
    pub(super) reactors: Vec<Reactor<SimNet>>,
    pub(super) to: Vec<Sender<ToReactor<Plug>>>,
    /// What a reactor would send to itself.
    pub(super) to_self: Vec<Receiver<ToReactor<Plug>>>,
    pub(super) from: Receiver<ToControl>,
    pub(super) disks: Vec<Disk>,
    pub(super) sessions: Vec<Session>,
    pub(super) now: Tick,
}

fn unit_view(id: u32) -> UnitView {
    let identity = Identity {
        vendor: *b"EXAMPLE ",
        product: *b"DISK            ",
        revision: *b"1   ",
        serial: "1".to_owned(),
        naa: [0x30; 8].into_iter().collect(),
        eui64: None,
        t10: None,
        designators: Vec::new(),
    };
    UnitView::new(UnitId(id), BLOCKS, 512, identity)
}

impl World {
    /// So many reactors, whose queues take so many messages, and three units with slow disks: an IO ends when asked to.
    pub(super) fn new(reactors: u16, mailbox: usize) -> World {
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

    pub(super) fn tell(&mut self, reactor: usize, message: ToReactor<Plug>) {
        self.to[reactor].send(message).unwrap();
        self.reactors[reactor].turn(self.now);
    }

    /// Everyone has turns until all there is to say has been said.
    pub(super) fn settle(&mut self) {
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
                0x31 => drop(session.r2ts.insert(itt, pdu[8..24].try_into().unwrap())),
                0x25 if pdu[1] & 1 != 0 => assert_eq!(session.ends.insert(itt, (pdu[3], 0)), None),
                0x25 => {}
                other => panic!("a PDU {other:#04x}"),
            }
            rest = behind;
        }
    }

    /// A session whose unit attentions have been told.
    pub(super) fn session(&mut self, reactor: usize) -> usize {
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
            ports: vec![1],
            port_groups: vec![1],
            portal_groups: vec![1],
            histogram: None,
            port_group: 1,
            portal_group: 1,
            lun_map: None,
            portals: Vec::new(),
            mappings: mappings.collect(),
        };
        let id = SessionId(self.sessions.len() as u64 + 1);
        let adopt = Adopt {
            handle: plug,
            session: id,
            nexus: NexusId(u32::try_from(id.0).unwrap()),
            target: Arc::new(target),
            params: DEFAULTS,
            stat_sn: Sn(1),
            exp_cmd_sn: Sn(1),
            cid: 0,
            leftover: Vec::new(),
            attention: Ua::PowerOn,
            owed: Vec::new(),
            is_gated: false,
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
            meter: Arc::default(),
            pace: None,
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

    pub(super) fn command(
        &mut self,
        session: usize,
        lun: u8,
        flags: u8,
        bytes: u16,
        cdb: &[u8],
        data: &[u8],
    ) -> u8 {
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
    pub(super) fn write(&mut self, session: usize, unit: u8, lba: u16) -> u8 {
        let [high, low] = lba.to_be_bytes();
        let itt = self.command(session, unit, 0xa0, 512, &[0x2a, 0, 0, 0, high, low, 0, 0, 1, 0], &[7; 512]);
        self.settle();
        itt
    }

    pub(super) fn read(&mut self, session: usize, unit: u8, lba: u16) -> u8 {
        let [high, low] = lba.to_be_bytes();
        let itt = self.command(session, unit, 0xc0, 512, &[0x28, 0, 0, 0, high, low, 0, 0, 1, 0], &[]);
        self.settle();
        itt
    }

    /// A WRITE of one block, whose data are still to come.
    pub(super) fn begin(&mut self, session: usize, unit: u8, lba: u16) -> u8 {
        let [high, low] = lba.to_be_bytes();
        let itt = self.command(session, unit, 0xa0, 512, &[0x2a, 0, 0, 0, high, low, 0, 0, 1, 0], &[]);
        self.settle();
        itt
    }

    /// A WRITE of the first block, whose data are still to come, asks for a hold.
    pub(super) fn ask(&mut self, session: usize, unit: u8, lba: u16, blocks: u32) -> u8 {
        let itt = self.begin(session, unit, lba);
        self.ask_for(session, itt, unit, lba, blocks);
        itt
    }

    pub(super) fn ask_for(&mut self, session: usize, itt: u8, unit: u8, lba: u16, blocks: u32) {
        let task = self.task(session, itt).unwrap();
        let Session { reactor, conn, .. } = self.sessions[session];
        let unit = UnitId(u32::from(unit));
        self.reactors[reactor].ask_hold(conn, task, unit, u64::from(lba), blocks, self.now);
    }

    /// The data of a WRITE that asked for a hold.
    pub(super) fn send_data(&mut self, session: usize, itt: u8) {
        let session = &mut self.sessions[session];
        let mut pdu = [0; 48];
        (pdu[0], pdu[1], pdu[6]) = (0x05, 0x80, 2);
        // LUN and tags.
        pdu[8..24].copy_from_slice(&session.r2ts.remove(&itt).unwrap());
        session.wire.send(&pdu);
        session.wire.send(&[9; 512]);
        session.wire.deliver_to_target(usize::MAX);
        self.settle();
    }

    /// Sees a WRITE that holds to its end.
    pub(super) fn finish(&mut self, session: usize, itt: u8, unit: usize) {
        self.send_data(session, itt);
        self.end_io(unit);
        assert_eq!(self.end_of(session, itt), Some((0, 0)));
    }

    pub(super) fn task(&self, session: usize, itt: u8) -> Option<Key> {
        let session = &self.sessions[session];
        let reactor = &self.reactors[session.reactor];
        let tasks = &reactor.tables.tasks;
        let session = reactor.conns.get(session.conn)?.conn.session_key();
        let mut at = reactor.tables.sessions[session].tasks().first();
        while let Some(key) = at {
            if tasks.get(key)?.itt == u32::from(itt) {
                return Some(key);
            }
            at = tasks.next(key);
        }
        None
    }

    /// Where the hold that a command asked for stands.
    pub(super) fn phase(&self, session: usize, itt: u8) -> Option<Phase> {
        let task = self.task(session, itt)?;
        let reactor = &self.reactors[self.sessions[session].reactor];
        reactor.holds.own.iter().find(|(_, own)| own.task == task).map(|(_, own)| own.phase)
    }

    /// How a command ended: status and sense key.
    pub(super) fn end_of(&self, session: usize, itt: u8) -> Option<(u8, u8)> {
        self.sessions[session].ends.get(&itt).copied()
    }

    /// IOs that a unit's disk has.
    pub(super) fn in_device(&self, unit: usize) -> usize {
        self.disks[unit].in_flight_count()
    }

    /// The oldest IO that a disk has comes back.
    pub(super) fn end_io(&mut self, unit: usize) {
        assert!(self.in_device(unit) > 0);
        self.disks[unit].end_one(0);
        self.settle();
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.now = self.now.after_ns(ns);
        self.settle();
    }

    pub(super) fn close(&mut self, session: usize) {
        let Session { reactor, id, .. } = self.sessions[session];
        self.tell(reactor, ToReactor::EndSession { session: id, reason: EndReason::Removed });
    }

    pub(super) fn holds(&self) -> usize {
        self.reactors.iter().map(|reactor| reactor.census().holds).sum()
    }

    /// What reactors have that is not over.
    pub(super) fn left(&self) -> usize {
        let census = |reactor: &Reactor<SimNet>| {
            let census = reactor.census();
            census.holds + census.waits + census.ios + census.tasks
        };
        self.reactors.iter().filter(|reactor| !reactor.is_stopped()).map(census).sum()
    }
}
