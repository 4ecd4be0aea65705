//! Control between a network in memory and reactors that the test plays.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use crate::bdev::{Bdev, Channel, Info, Offloads};
use crate::control::access::{InitiatorGroup, NameRule};
use crate::control::auth::Auth;
use crate::control::options::Options;
use crate::control::portals::{Portal, PortalGroup};
use crate::control::registry::BdevSpec;
use crate::control::store::{Records, Saver};
use crate::control::targets::NewTarget;
use crate::control::{Config, Control, Origin, Random};
use crate::id::{ReactorId, SessionId};
use crate::net::{Net, Readiness, Rx, Tx, Wait, Waker};
use crate::reactor::message::{Adopt, ToControl, ToReactor};
use crate::reactor::port::{Receiver, Sender, channel};
use crate::scsi::view::LunNumber;
use crate::slab::{Key, Slab};
use crate::time::{MS_NS, Tick};

pub(super) const TARGET: &str = "iqn.2026-11.io.example:t";
pub(super) const ALICE: &str = "iqn.2026-11.io.example:alice";

#[derive(Debug, Default)]
struct Wire {
    to_control: Vec<u8>,
    to_initiator: Vec<u8>,
    is_closed: bool,
    is_fresh: bool,
}

/// Both ends of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Cable(Arc<Mutex<Wire>>);

impl Cable {
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut wire = self.0.lock().unwrap();
        wire.to_control.extend_from_slice(bytes);
        wire.is_fresh = true;
    }

    /// What control has written since.
    pub(super) fn read(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().to_initiator)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().unwrap().is_closed
    }
}

#[derive(Debug)]
pub(super) struct FakeNet(Slab<(Cable, Key)>);

impl Net for FakeNet {
    type Sock = Key;
    type Handle = Cable;

    fn adopt(&mut self, handle: Cable, id: Key) -> std::io::Result<Key> {
        self.0.insert((handle, id)).map_err(|_| std::io::Error::other("full"))
    }

    fn release(&mut self, sock: Key) -> Cable {
        self.0.remove(sock).unwrap().0
    }

    fn register(&mut self, _fd: RawFd) -> std::io::Result<()> {
        Ok(())
    }

    fn ready(&mut self, out: &mut Vec<Readiness>, _wait: Wait) {
        for (_, (cable, id)) in self.0.iter() {
            if std::mem::take(&mut cable.0.lock().unwrap().is_fresh) {
                out.push(Readiness { id: *id, readable: true, writable: false });
            }
        }
    }

    fn recv(&mut self, sock: Key, to: &mut [IoSliceMut<'_>]) -> Rx {
        let mut wire = self.0.get(sock).unwrap().0.0.lock().unwrap();
        if wire.to_control.is_empty() {
            return if wire.is_closed { Rx::Closed } else { Rx::WouldBlock };
        }
        let bytes = wire.to_control.len().min(to[0].len());
        to[0][..bytes].copy_from_slice(&wire.to_control[..bytes]);
        wire.to_control.drain(..bytes);
        Rx::Received { bytes, drained: wire.to_control.is_empty() }
    }

    fn send(&mut self, sock: Key, from: &[IoSlice<'_>]) -> Tx {
        let mut wire = self.0.get(sock).unwrap().0.0.lock().unwrap();
        if wire.is_closed {
            return Tx::Broken;
        }
        // Not all at once, so that the rest has to be remembered.
        let bytes = from[0].len().min(20);
        wire.to_initiator.extend_from_slice(&from[0][..bytes]);
        Tx::Sent(bytes)
    }

    fn close(&mut self, sock: Key) {
        self.0.remove(sock).unwrap().0.0.lock().unwrap().is_closed = true;
    }
}

#[derive(Debug)]
struct NoWaker;

impl Waker for NoWaker {
    fn wake(&self) {}
}

#[derive(Debug)]
struct Counting(u8);

impl Random for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}

/// A disk by its number.
#[derive(Debug)]
pub(super) struct Disk(pub(super) u8);

impl Bdev for Disk {
    fn info(&self) -> Info {
        Info {
            name: format!("disk{}", self.0),
            blocks: 8,
            block_bytes: 512,
            physical_block_bytes: 512,
            read_only: false,
            write_cache: true,
            rotational: false,
            uuid: [self.0 + 1; 16],
            unmap: None,
            offloads: Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        unreachable!("control opens no channel")
    }
}

pub(super) struct World {
    pub(super) control: Control<FakeNet>,
    pub(super) reactors: Vec<Receiver<ToReactor<Cable>>>,
    pub(super) to_control: Sender<ToControl>,
    now: Tick,
}

impl World {
    /// One target with LUNs 0 and 5 of one unit, at portal group 1: 192.0.2.1:3260 and every address's port 3261. Anybody
    /// may come.
    pub(super) fn new(reactor_count: usize) -> World {
        World::for_initiators(reactor_count, "ANY")
    }

    pub(super) fn for_initiators(reactor_count: usize, rule: &str) -> World {
        World::build(reactor_count, rule, |_| ())
    }

    /// One that keeps what must survive.
    pub(super) fn keeping(records: Records, saver: Box<dyn Saver>) -> World {
        World::build(2, "ANY", |control| control.keep(records, saver))
    }

    fn build(reactor_count: usize, rule: &str, prepare: impl FnOnce(&mut Control<FakeNet>)) -> World {
        let (to_control, inbox) = channel(64, Arc::new(NoWaker));
        let (senders, reactors) = (0..reactor_count).map(|_| channel(64, Arc::new(NoWaker))).unzip();
        let mut control = Control::new(Config {
            net: FakeNet(Slab::new(512)),
            inbox,
            reactors: senders,
            random: Box::new(Counting(0)),
            options: Options::default(),
        });
        prepare(&mut control);
        control.register_bdev(bdev(0)).unwrap();
        control.add_portal_group(portal_group(1, &["192.0.2.1:3260", "0.0.0.0:3261"])).unwrap();
        let initiators = vec![NameRule::parse(rule).unwrap()];
        control.create_initiator_group(InitiatorGroup { initiators, ..InitiatorGroup::any(1) }).unwrap();
        let lun = |number| ("disk0".to_owned(), Some(LunNumber(number)));
        control.create_target(&target(TARGET, vec![lun(5), lun(0)])).unwrap();
        let world = World { control, reactors, to_control, now: Tick::ZERO };
        for reactor in &world.reactors {
            assert!(matches!(reactor.receive(), Some(ToReactor::AddUnit { .. })));
        }
        world
    }

    /// A connection from `peer` to portal group 1, of which nothing was written yet.
    pub(super) fn connect(&mut self, peer: &str) -> Cable {
        self.connect_at(1, peer)
    }

    pub(super) fn connect_at(&mut self, portal_group: u16, peer: &str) -> Cable {
        let cable = Cable::default();
        let local: SocketAddr = "198.51.100.9:3261".parse().unwrap();
        let origin = Origin { peer: peer.parse().unwrap(), local, portal_group };
        self.control.accepted(cable.clone(), origin, self.now);
        cable
    }

    /// A millisecond passes, and control has a turn.
    pub(super) fn turn(&mut self) {
        self.pass(MS_NS);
    }

    pub(super) fn pass(&mut self, ns: u64) {
        self.now = self.now.after_ns(ns);
        self.control.turn(self.now);
    }

    pub(super) fn now(&self) -> Tick {
        self.now
    }

    /// A reactor tells.
    pub(super) fn tell(&mut self, message: ToControl) {
        self.to_control.send(message).unwrap();
        self.turn();
    }

    pub(super) fn ended(&mut self, session: SessionId) {
        self.tell(ToControl::SessionEnded { session, is_logout: false });
    }

    pub(super) fn drained(&mut self, session: SessionId) {
        self.tell(ToControl::SessionDrained { session });
    }

    /// The next message for a reactor, which adopts.
    pub(super) fn adopt(&self, reactor: usize) -> Adopt<Cable> {
        match self.reactors[reactor].receive() {
            Some(ToReactor::Adopt(adopt)) => *adopt,
            other => panic!("no adoption but {other:?}"),
        }
    }

    /// Logs `initiator` in with ISID 00023D00000`isid`h, TSIH 0 and CID 1, and returns the status.
    pub(super) fn log_in(&mut self, initiator: &str, isid: u8) -> (Cable, [u8; 2]) {
        let cable = self.connect("203.0.113.5:40000");
        cable.write(&login(isid, 0, 1, &normal(initiator)));
        self.turn();
        let answer = cable.read();
        (cable, status(&answer))
    }
}

pub(super) fn bdev(number: u8) -> BdevSpec {
    let (product, recipe) = ("RAM disk".to_owned(), String::new());
    BdevSpec { bdev: Arc::new(Disk(number)), product, recipe, bases: Vec::new() }
}

pub(super) fn portal_group(tag: u16, addresses: &[&str]) -> PortalGroup {
    let portals = addresses.iter().map(|address| Portal::without_listener(address.parse().unwrap()));
    PortalGroup { tag, portals: portals.collect(), is_private: false, is_started: true, discovery: None }
}

/// A target at portal group 1, for initiator group 1.
pub(super) fn target(name: &str, luns: Vec<(String, Option<LunNumber>)>) -> NewTarget {
    NewTarget {
        name: name.to_owned(),
        alias: String::new(),
        luns,
        maps: vec![(1, 1)],
        auth: Auth::default(),
        demands_header_digest: false,
        demands_data_digest: false,
        queue_depth: 64,
        relative_ports: Vec::new(),
    }
}

/// The text of a login with the target.
pub(super) fn normal(initiator: &str) -> String {
    format!("InitiatorName={initiator}\0SessionType=Normal\0TargetName={TARGET}\0")
}

/// A Login request (RFC 7143 §11.12) from the operational stage straight to full feature phase: CmdSN 9, ITT 77.
pub(super) fn login(isid: u8, tsih: u16, cid: u16, text: &str) -> Vec<u8> {
    let mut pdu = vec![0x43, 0x87, 0, 0, 0, 0, 0, 0, 0x00, 0x02, 0x3d, 0, 0, isid];
    pdu.extend(tsih.to_be_bytes());
    pdu.extend([0, 0, 0, 77]);
    pdu.extend(cid.to_be_bytes());
    pdu.extend([0, 0, 0, 0, 0, 9]);
    pdu.resize(48, 0);
    with_text(pdu, text)
}

/// Appends a data segment.
pub(super) fn with_text(mut pdu: Vec<u8>, text: &str) -> Vec<u8> {
    pdu[7] = u8::try_from(text.len()).unwrap();
    pdu.extend(text.as_bytes());
    pdu.resize(pdu.len().next_multiple_of(4), 0);
    pdu
}

/// Status class and detail of a Login response (RFC 7143 §11.13).
pub(super) fn status(answer: &[u8]) -> [u8; 2] {
    assert_eq!(answer[0], 0x23, "a Login response");
    [answer[36], answer[37]]
}
