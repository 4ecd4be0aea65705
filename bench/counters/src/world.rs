//! Reactors with all that is around them, on one thread, turn by turn.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use lunette::bdev::count::Counted;
use lunette::bdev::malloc::{Malloc, Recipe};
use lunette::bdev::null::Null;
use lunette::bdev::{Bdev, Info};
use lunette::buf::{Class, Hugepages, Pool};
use lunette::id::{NexusId, ReactorId, SessionId, UnitId};
use lunette::iscsi::negotiate::Offer;
use lunette::iscsi::params::Params;
use lunette::iscsi::sn::Sn;
use lunette::limits;
use lunette::net::Waker;
use lunette::reactor::message::{Adopt, NopInTimes, ToControl, ToReactor};
use lunette::reactor::port::{Receiver, Sender, channel};
use lunette::reactor::{Reactor, Setup, Sizes};
use lunette::scsi::attention::Ua;
use lunette::scsi::view::{Identity, LunNumber, Mapping, Modes, TargetView, UnitView};
use lunette::time::Tick;

use crate::allocations;
use crate::case::{Case, Disk};
use crate::initiator::Initiator;
use crate::net::{Calls, ReplayNet};
use crate::planted::Planted;

/// Of each disk: 16 MiB.
const BLOCKS: u32 = 32_768;
const BLOCK_BYTES: u32 = 512;
/// Time that passes from turn to turn.
const TURN_NS: u64 = 10_000;
/// Turns without an answer after which a target is taken to hang.
const PATIENCE: u32 = 100;

#[derive(Debug)]
struct Nobody;

impl Waker for Nobody {
    fn wake(&self) {}
}

/// A reactor with the ends of its queues, and its initiator.
struct Core {
    reactor: Reactor<ReplayNet>,
    inbox: Sender<ToReactor<()>>,
    initiator: Rc<RefCell<Initiator>>,
}

/// What was counted, in all.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) commands: u64,
    pub(crate) turns: u64,
    pub(crate) recv: u64,
    pub(crate) send: u64,
    pub(crate) allocations: u64,
    pub(crate) messages: u64,
}

/// The world.
pub(crate) struct World {
    case: Case,
    cores: Vec<Core>,
    /// By reactor: what the others say to it, which is passed on here, and counted.
    between: Vec<Receiver<ToReactor<()>>>,
    to_control: Receiver<ToControl>,
    calls: Rc<RefCell<Calls>>,
    now: Tick,
    turns: u64,
    messages: u64,
    is_counting: bool,
    planted: Option<Planted>,
}

impl World {
    /// With sessions that have logged in and asked nothing yet.
    pub(crate) fn new(case: Case, planted: Option<Planted>) -> World {
        let (to_control, from_reactors) = channel(limits::TO_CONTROL_MAX, Arc::new(Nobody));
        let ports = |_| channel(limits::MAILBOX, Arc::new(Nobody));
        let (peers, between): (Vec<_>, Vec<_>) = (0..case.reactors).map(ports).unzip();
        let disks: Vec<_> = (0..case.luns).map(|number| disk(case, number)).collect();
        let target = Arc::new(target_view(case.luns));
        let calls = Rc::new(RefCell::new(Calls::default()));
        let core = |id: u16| {
            let params = params(case);
            let initiator = Rc::new(RefCell::new(Initiator::new(case, params, BLOCKS, 1, 1)));
            let (inbox, receiver) = channel(limits::MAILBOX, Arc::new(Nobody));
            for (view, bdev) in &disks {
                inbox
                    .send(ToReactor::AddUnit { view: Arc::clone(view), bdev: Arc::clone(bdev) })
                    .expect("room in a new queue");
            }
            let adopt = adopt(id, Arc::clone(&target), params);
            inbox.send(ToReactor::Adopt(Box::new(adopt))).expect("room in a new queue");
            let reactor = Reactor::new(Setup {
                id: ReactorId(id),
                net: ReplayNet::new(Rc::clone(&initiator), Rc::clone(&calls)),
                inbox: receiver,
                to_control: to_control.clone(),
                peers: peers.clone(),
                unsolicited: pool(),
                solicited: pool(),
                sizes: Sizes::default(),
                planted: lunette::reactor::Planted::default(),
            });
            Core { reactor, inbox, initiator }
        };
        let cores = (0..case.reactors).map(core).collect();
        let now = Tick::from_ns(1);
        World {
            case,
            cores,
            between,
            to_control: from_reactors,
            calls,
            now,
            turns: 0,
            messages: 0,
            is_counting: false,
            planted,
        }
    }

    /// Until windows are open and every LUN has told its unit attention.
    pub(crate) fn warm_up(&mut self) {
        // Units are added in more than one turn.
        for _ in 0..=usize::from(self.case.luns) / limits::MESSAGES_PER_TURN {
            self.turn();
        }
        self.replay(self.case.depth * 16 + 4 * u32::from(self.case.luns));
        let refusals = |core: &Core| core.initiator.borrow().refusals;
        let refused = self.cores.iter().map(refusals).max();
        assert!(refused <= Some(u32::from(self.case.luns)), "more refusals than unit attentions");
        self.cores.iter().for_each(|core| core.initiator.borrow_mut().refusals = 0);
    }

    /// What counts: all costs of before are zeroed when callgrind sees this name.
    #[inline(never)]
    pub(crate) fn measure(&mut self) -> Counts {
        (*self.calls.borrow_mut(), self.turns, self.messages) = (Calls::default(), 0, 0);
        self.is_counting = true;
        self.replay(self.case.commands);
        assert!(self.cores.iter().all(|core| core.initiator.borrow().refusals == 0), "all answers are GOOD");
        let calls = *self.calls.borrow();
        Counts {
            commands: u64::from(self.case.commands) * u64::from(self.case.reactors),
            turns: self.turns,
            recv: calls.recv,
            send: calls.send,
            allocations: allocations::counted(),
            messages: self.messages,
        }
    }

    /// So many commands of each session, as many at a time as its depth; the next are asked when all are answered.
    fn replay(&mut self, commands: u32) {
        let mut left: Vec<u32> = self.cores.iter().map(|_| commands).collect();
        while left.iter().any(|left| *left > 0) {
            for (core, left) in self.cores.iter().zip(&mut left) {
                *left -= core.initiator.borrow_mut().ask(*left);
            }
            let mut patience = PATIENCE;
            while self.cores.iter().any(|core| core.initiator.borrow().unanswered > 0) {
                self.turn();
                patience -= 1;
                assert!(patience > 0, "the target does not answer");
            }
        }
    }

    fn turn(&mut self) {
        self.now = self.now.after_ns(TURN_NS);
        allocations::count(self.is_counting);
        for core in &mut self.cores {
            counted_turn(&mut core.reactor, self.now, &mut self.planted);
        }
        allocations::count(false);
        self.turns += self.cores.len() as u64;
        for (core, between) in self.cores.iter().zip(&self.between) {
            while let Some(message) = between.receive() {
                self.messages += 1;
                core.inbox.send(message).expect("an inbox holds what others say in a turn");
            }
        }
        while self.to_control.receive().is_some() {
            self.messages += 1;
        }
    }
}

/// What callgrind counts, less what is outside: its name is known to scripts/counters.py.
#[inline(never)]
fn counted_turn(reactor: &mut Reactor<ReplayNet>, now: Tick, planted: &mut Option<Planted>) -> bool {
    if let Some(planted) = planted {
        planted.happen();
    }
    reactor.turn(now)
}

/// The buffers that a reactor has unless the operator says otherwise.
fn pool() -> Pool {
    const BYTES: usize = limits::POOL_BYTES / 2;
    const PIECE_BYTES: usize = limits::PIECE_BYTES_MAX as usize;
    let classes = [(4096, 8), (16_384, 8), (65_536, 4), (PIECE_BYTES, 2)]
        .map(|(bytes, share)| Class { bytes, count: BYTES / share / bytes });
    Pool::ordinary(&classes).expect("memory for buffers")
}

/// What Linux's initiator agrees on with a target that nobody tuned, its segments aside, which are as large as ours.
fn params(case: Case) -> Params {
    Params {
        header_digest: case.digests,
        data_digest: case.digests,
        initial_r2t: case.is_solicited,
        immediate_data: !case.is_solicited,
        max_burst_bytes: Offer::DEFAULT.max_burst_bytes,
        first_burst_bytes: Offer::DEFAULT.first_burst_bytes,
        send_segment_bytes_max: Offer::DEFAULT.recv_segment_bytes_max,
        recv_segment_bytes_max: Offer::DEFAULT.recv_segment_bytes_max,
        outstanding_r2t_max: 1,
        protocol_level: 1,
        connections_max: 1,
        error_recovery_level: 0,
        fast_abort: false,
        time2wait: 2,
        time2retain: 0,
    }
}

fn adopt(number: u16, target: Arc<TargetView>, params: Params) -> Adopt<()> {
    Adopt {
        handle: (),
        session: SessionId(u64::from(number) + 1),
        nexus: NexusId(u32::from(number) + 1),
        target,
        params,
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
    }
}

fn disk(case: Case, number: u16) -> (Arc<UnitView>, Arc<dyn Bdev>) {
    let name = format!("disk{number}");
    let disk: Arc<dyn Bdev> = match case.disk {
        Disk::Null => Arc::new(Null::new(name, u64::from(BLOCKS), BLOCK_BYTES, [7; 16])),
        Disk::Ram => Arc::new(
            Malloc::new(Recipe {
                name,
                blocks: u64::from(BLOCKS),
                blocks_max: u64::from(BLOCKS),
                block_bytes: BLOCK_BYTES,
                physical_block_bytes: BLOCK_BYTES,
                uuid: [7; 16],
                hugepages: Hugepages::Off,
            })
            .expect("memory for a disk"),
        ),
    };
    // As in a daemon, stages are counted with the unit; what a device that counts costs is not.
    let counted = Counted::new(Arc::clone(&disk));
    (0..case.reactors).for_each(|reactor| drop(counted.open(ReactorId(reactor))));
    (Arc::new(UnitView { ledger: counted.ledger(), ..unit_view(number, &disk.info()) }), disk)
}

fn unit_view(number: u16, info: &Info) -> UnitView {
    let identity = Identity {
        vendor: *b"LUNETTE ",
        product: *b"disk            ",
        revision: *b"0001",
        serial: number.to_string(),
        naa: [0x30, 0, 0, 0, 0, 0, 0, 1].into_iter().collect(),
        eui64: None,
        t10: None,
        designators: Vec::new(),
    };
    UnitView {
        physical_block_bytes: info.physical_block_bytes,
        write_cache: info.write_cache,
        modes: Modes::new(info.write_cache),
        unmap: info.unmap,
        offloads: info.offloads,
        ..UnitView::new(UnitId(u32::from(number)), info.blocks, info.block_bytes, identity)
    }
}

fn target_view(luns: u16) -> TargetView {
    let mapping =
        |number| Mapping { number: LunNumber(number), unit: UnitId(u32::from(number)), read_only: false };
    TargetView {
        name: "iqn.2025-01.com.example:disk".to_owned(),
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
        mappings: (0..luns).map(mapping).collect(),
    }
}
