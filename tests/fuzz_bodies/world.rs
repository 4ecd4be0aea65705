//! One reactor on a network that the fuzzer holds in its hands, with control played by the world.
//!
//! Making a reactor costs more than running it, so a world serves one execution after the other; each must leave it as
//! it was: no connection, no IO, every buffer back.

mod net;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use lunette::bdev::error::{Fault, Faults, Faulty, Kind, Rule, RuleId};
use lunette::bdev::malloc::{Malloc, Recipe};
use lunette::bdev::{Bdev, IoError};
use lunette::buf::{Class, Hugepages, Pool};
use lunette::id::{BarrierId, NexusId, ReactorId, SessionId};
use lunette::iscsi::params::Params;
use lunette::iscsi::sn::Sn;
use lunette::limits;
use lunette::net::Waker;
use lunette::reactor::message::{
    Adopt, Change, EndReason, NopInTimes, Reserve, TmfOutcome, TmfTicket, ToControl, ToReactor,
};
use lunette::reactor::port::{Receiver, Sender, channel};
use lunette::reactor::{Planted, Reactor, Setup, Sizes};
use lunette::scsi::Outcome;
use lunette::scsi::attention::Ua;
use lunette::scsi::view::{TargetView, UnitView};
use lunette::time::{SECOND_NS, Tick};

use super::views;
pub(super) use net::{FakeNet, Wire, Wires};

/// Turns of one settling; a reactor that still has something to do then is busy with nothing.
const TURNS_MAX: usize = 20_000;
/// SERVICE ACTION IN(16): of what control is asked about it is this.
const GET_LBA_STATUS: u8 = 0x9e;

#[derive(Debug)]
struct Nobody;

impl Waker for Nobody {
    fn wake(&self) {}
}

/// The rules of the faulty disk.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) hold: RuleId,
    pub(super) fail: RuleId,
    pub(super) full: RuleId,
}

#[derive(Debug, Default)]
struct Life {
    is_ended: bool,
    is_drained: bool,
}

#[derive(Debug)]
pub(super) struct World {
    reactor: Reactor<FakeNet>,
    wires: Wires,
    to_reactor: Sender<ToReactor<usize>>,
    from_reactor: Receiver<ToControl>,
    pools: [Pool; 2],
    pub(super) faults: Faults,
    pub(super) rules: Rules,
    pub(super) now: Tick,
    sessions: HashMap<SessionId, Life>,
    next_session: u64,
    resets: HashMap<BarrierId, Option<TmfTicket>>,
    next_barrier: u64,
    target: Arc<TargetView>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Runs one execution in this thread's world. One in which something went wrong is not used again.
pub(super) fn with(run: impl FnOnce(&mut World)) {
    let mut world = WORLD.take().unwrap_or_else(World::new);
    run(&mut world);
    world.finish();
    WORLD.set(Some(world));
}

impl World {
    fn new() -> World {
        let classes =
            [(4, 8), (16, 4), (64, 2), (256, 2)].map(|(kib, count)| Class { bytes: kib * 1024, count });
        let pools = [(); 2].map(|()| Pool::ordinary(&classes).unwrap());
        let (to_reactor, inbox) = channel(limits::MAILBOX, Arc::new(Nobody));
        let (to_control, from_reactor) = channel(limits::MAILBOX, Arc::new(Nobody));
        let wires = Wires::default();
        let reactor = Reactor::new(Setup {
            id: ReactorId(0),
            net: FakeNet::new(Rc::clone(&wires)),
            inbox,
            to_control,
            peers: Vec::new(),
            unsolicited: pools[0].clone(),
            solicited: pools[1].clone(),
            sizes: Sizes { conns: 8, spare_window: 128, staging_bytes: 64 << 10 },
            planted: Planted::default(),
        });
        let disk = Recipe {
            name: "disk".to_owned(),
            blocks: views::BLOCKS,
            blocks_max: views::BLOCKS,
            block_bytes: views::BLOCK_BYTES,
            physical_block_bytes: views::BLOCK_BYTES,
            uuid: [1; 16],
            hugepages: Hugepages::Off,
        };
        let faults = Faults::new();
        let rule = |fault| faults.add(Rule::everywhere(Kind::Any, fault), 0).unwrap();
        let rules = Rules {
            full: rule(Fault::Full),
            hold: rule(Fault::Hold),
            fail: rule(Fault::Fail(IoError::Medium { lba: None })),
        };
        let disk: Arc<dyn Bdev> = Arc::new(Malloc::new(disk).unwrap());
        let bdev: Arc<dyn Bdev> = Arc::new(Faulty::new(disk, faults.clone()));
        let view = Arc::new(views::unit());
        to_reactor.send(ToReactor::AddUnit { view, bdev }).unwrap();
        World {
            reactor,
            wires,
            to_reactor,
            from_reactor,
            pools,
            faults,
            rules,
            now: Tick::from_ns(SECOND_NS),
            sessions: HashMap::new(),
            next_session: 1,
            resets: HashMap::new(),
            next_barrier: 1,
            target: Arc::new(views::target()),
        }
    }

    /// A connection that has just logged in: its wire.
    pub(super) fn adopt(&mut self, params: Params, leftover: &[u8], keep_alive: bool) -> usize {
        let handle = self.wires.borrow().len();
        self.wires.borrow_mut().push(Wire::default());
        let session = SessionId(self.next_session);
        self.next_session += 1;
        self.sessions.insert(session, Life::default());
        let times = |seconds| if keep_alive { seconds * SECOND_NS } else { 0 };
        let adopt = Adopt {
            handle,
            session,
            nexus: nexus(session),
            target: Arc::clone(&self.target),
            params,
            stat_sn: Sn(u32::MAX),
            exp_cmd_sn: Sn(1),
            cid: 0,
            leftover: leftover.to_vec(),
            attention: Ua::PowerOn,
            owed: Vec::new(),
            is_gated: false,
            nop_in: NopInTimes { ask_ns: times(5), close_ns: times(10) },
            meter: Arc::default(),
            pace: None,
        };
        self.tell(ToReactor::Adopt(Box::new(adopt)));
        handle
    }

    pub(super) fn wire<T>(&self, wire: usize, with: impl FnOnce(&mut Wire) -> T) -> T {
        with(&mut self.wires.borrow_mut()[wire])
    }

    fn tell(&self, message: ToReactor<usize>) {
        self.to_reactor.send(message).expect("the mailbox is emptied after each step");
    }

    /// A change at one point of the reactor's time.
    pub(super) fn barrier(&mut self, change: Change, ticket: Option<TmfTicket>) {
        let id = BarrierId(self.next_barrier);
        self.next_barrier += 1;
        self.resets.insert(id, ticket);
        self.tell(ToReactor::Barrier { id, change });
    }

    /// The logical unit's view becomes this.
    pub(super) fn show(&mut self, view: UnitView, attention: Option<Ua>, is_drained: bool) {
        self.barrier(Change::Unit { view: Arc::new(view), attention, except: None, is_drained }, None);
    }

    /// The logical unit is reserved, or free, for all by this view; all live nexuses are told this, or lose their tasks.
    pub(super) fn reserve(&mut self, view: UnitView, attention: Option<Ua>, is_aborted: bool) {
        let all = || self.sessions.keys().map(|session| nexus(*session));
        let change = Reserve {
            view: Arc::new(view),
            attentions: attention.map_or_else(Arc::default, |ua| all().map(|nexus| (nexus, ua)).collect()),
            aborts: if is_aborted { all().collect() } else { Arc::default() },
            by: None,
            is_drained: true,
        };
        self.barrier(Change::Reservations(change), None);
    }

    /// Ends the youngest session, if it has not ended.
    pub(super) fn end_session(&mut self) {
        let session = SessionId(self.next_session - 1);
        self.tell(ToReactor::EndSession { session, reason: EndReason::Removed });
    }

    /// Time passes.
    pub(super) fn sleep(&mut self, ns: u64) {
        self.now = self.now.after_ns(ns);
    }

    /// Turns until there is nothing to do, or as long as the disk holds something back, a few.
    pub(super) fn settle(&mut self, turns: usize) {
        for _ in 0..turns {
            let worked = self.reactor.turn(self.now);
            if !self.control() && !worked {
                return;
            }
        }
    }

    /// Control's part. Whether it had any.
    fn control(&mut self) -> bool {
        let mut any = false;
        while let Some(message) = self.from_reactor.receive() {
            any = true;
            match message {
                ToControl::SessionEnded { session, .. } => {
                    let life = self.sessions.get_mut(&session).expect("a session that began");
                    assert!(!life.is_ended, "{session:?} ended twice");
                    life.is_ended = true;
                }
                ToControl::SessionDrained { session } => {
                    let life = self.sessions.get_mut(&session).expect("a session that began");
                    assert!(life.is_ended && !life.is_drained, "{session:?} drained at a wrong moment");
                    life.is_drained = true;
                }
                ToControl::Tmf { ticket, .. } => {
                    let units = [views::UNIT].into();
                    let reset = Change::Reset { units, attention: Ua::UnitReset };
                    self.barrier(reset, Some(ticket));
                }
                ToControl::BarrierDone { id, is_clean, .. } => {
                    let ticket = self.resets.remove(&id).expect("acknowledged once");
                    let outcome = if is_clean { TmfOutcome::Complete } else { TmfOutcome::Rejected };
                    if let Some(asked) = ticket {
                        self.tell(ToReactor::TmfEnded { asked, outcome });
                    }
                }
                ToControl::Ask(ask) if ask.cdb.opcode() == GET_LBA_STATUS => {
                    self.tell(ToReactor::Surveyed { asked: ask.ticket, allocation: Box::default() });
                }
                ToControl::Ask(ask) => {
                    self.tell(ToReactor::Answered {
                        asked: ask.ticket,
                        outcome: Outcome::GOOD,
                        flushes: (ask.parameters.len() % 2 == 1).then_some(ask.unit),
                    });
                }
                ToControl::ConnEnded { .. } => panic!("each session has one connection"),
                ToControl::CmdSn { .. }
                | ToControl::Event(_)
                | ToControl::ChoreEnded { .. }
                | ToControl::Looked(_)
                | ToControl::Recorded { .. }
                | ToControl::Retired(_)
                | ToControl::UnitReleased { .. }
                | ToControl::Unsettled { .. }
                | ToControl::Withdraw { .. } => {}
                ToControl::Stopped { .. } => panic!("nobody stopped it"),
            }
        }
        any
    }

    /// Everybody leaves; nothing may be left.
    fn finish(&mut self) {
        for rule in [self.rules.full, self.rules.hold, self.rules.fail] {
            self.faults.arm(rule, 0);
        }
        self.faults.release(self.rules.hold);
        for wire in self.wires.borrow_mut().iter_mut() {
            wire.recv_bytes_max = usize::MAX;
            wire.end(false);
        }
        self.show(views::unit(), None, false);
        // As long as anything here takes: what the disk or the peer owes is given up after a while.
        for _ in 0..12 {
            self.settle(TURNS_MAX);
            if self.sessions.values().all(|life| life.is_drained) && self.resets.is_empty() {
                break;
            }
            self.sleep(5 * SECOND_NS);
        }
        for (session, life) in self.sessions.drain() {
            assert!(life.is_ended, "{session:?} has not ended");
            assert!(life.is_drained, "{session:?} has IO that nobody has");
        }
        assert!(self.wires.borrow().iter().all(Wire::is_closed), "a socket is left open");
        assert!(self.resets.is_empty(), "a barrier was not acknowledged");
        self.wires.borrow_mut().clear();
        for pool in &self.pools {
            assert_eq!(pool.in_use_count(), 0, "buffers leak: {pool:?}");
        }
    }
}

/// Each session is a nexus of its own.
fn nexus(session: SessionId) -> NexusId {
    NexusId(u32::try_from(session.0).unwrap_or(u32::MAX))
}
