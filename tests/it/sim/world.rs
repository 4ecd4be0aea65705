//! A world: reactors, control, disks and initiators on one thread, with every message and byte under the world's hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use lunette::bdev::{Bdev, ChannelState, Op};
use lunette::buf::{Class, Pool};
use lunette::control::access::InitiatorGroup;
use lunette::control::auth::Auth;
use lunette::control::done::Done;
use lunette::control::options;
use lunette::control::portals::{Portal, PortalGroup};
use lunette::control::registry::BdevSpec;
use lunette::control::targets::NewTarget;
use lunette::control::{Config as ControlConfig, Control, Origin, Random};
use lunette::id::{BarrierId, ReactorId, UnitId};
use lunette::net::Wait;
use lunette::reactor::message::{Change, NopInTimes, ToControl, ToReactor};
use lunette::reactor::port::{Receiver, Sender, channel};
use lunette::reactor::{Bug, Census, Planted, Reactor, Setup, Sizes};
use lunette::scsi::Outcome;
use lunette::scsi::view::{LunNumber, Mapping};
use lunette::sim::disk::{Disk, Note};
use lunette::sim::net::{Plug, SimNet, Wire};
use lunette::sim::no_waker;
use lunette::sim::rng::Rng;
use lunette::time::Tick;

use super::oracle::{Oracle, Step};
use super::session::Session;
use super::views::Published;
use super::what::Made;

/// The one target.
pub(super) const TARGET: &str = "iqn.2026-01.sim:t";

/// A disk that a world has.
#[derive(Debug, Clone, Copy)]
pub(super) struct DiskOptions {
    pub(super) blocks: u64,
    pub(super) block_bytes: u32,
}

/// What a world is like.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) reactors: u16,
    pub(super) disks: Vec<DiskOptions>,
    pub(super) bug: Option<Bug>,
    /// Buffers of each class in either pool.
    pub(super) buffers: [usize; 4],
    pub(super) nop_in: NopInTimes,
}

impl Options {
    /// Where nobody asks whether initiators are still there.
    pub(super) fn quiet(
        reactors: u16,
        disks: Vec<DiskOptions>,
        buffers: [usize; 4],
        bug: Option<Bug>,
    ) -> Options {
        Options { reactors, disks, bug, buffers, nop_in: NopInTimes { ask_ns: 0, close_ns: 0 } }
    }
}

/// What a reactor may still take as a unit's size.
#[derive(Debug, Clone, Copy)]
struct Limit {
    barrier: Option<BarrierId>,
    unit: usize,
    blocks: u64,
}

/// A reactor with the queues around it.
pub(super) struct Core {
    pub(super) reactor: Reactor<SimNet>,
    /// Control's side of its inbox: messages on their way.
    from_control: Receiver<ToReactor<Plug>>,
    inbox: Sender<ToReactor<Plug>>,
    outbox: Receiver<ToControl>,
    to_control: VecDeque<ToControl>,
    pools: [Pool; 2],
    /// Sizes as sent to it, the oldest that it may still go by first; and whether the unit is mapped.
    sizes: Vec<Limit>,
    mapped: Vec<Limit>,
    /// It is not run before this step.
    pub(super) stalled_until: Step,
}

#[derive(Debug)]
struct SeededRandom(Rng);

impl Random for SeededRandom {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill_with(|| self.0.word().to_le_bytes()[0]);
    }
}

/// The world.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Tick,
    /// Steps so far: the oracle's time.
    pub(super) step: Step,
    pub(super) cores: Vec<Core>,
    pub(super) control: Control<SimNet>,
    control_inbox: Sender<ToControl>,
    pub(super) disks: Vec<Disk>,
    /// The disk of each unit there has been.
    units: BTreeMap<UnitId, usize>,
    pub(super) options: Options,
    pub(super) oracle: Oracle,
    pub(super) sessions: Vec<Session>,
    /// By initiator: writes of any session that have not ended, with their session and unit.
    pub(super) unended: Vec<BTreeMap<u64, (u64, usize)>>,
    pub(super) session_last: u64,
    pub(super) op_last: u64,
    /// Faults were made that explain medium errors.
    pub(super) has_failed: bool,
    pub(super) has_resized: bool,
    pub(super) has_removed: bool,
    pub(super) has_reserved: bool,
    pub(super) has_selected: bool,
    /// A device kept an IO beyond a deadline.
    pub(super) has_lost: bool,
    pub(super) published: Published,
    /// The client of each initiator name, and that which asked for each op.
    pub(super) names: BTreeMap<String, usize>,
    pub(super) askers: BTreeMap<u64, usize>,
    /// Tokens that somebody knows, and what they stand for.
    pub(super) tokens: Vec<Vec<u8>>,
    pub(super) made: Vec<Made>,
    /// Each SANITIZE that was asked for, and the disks that a chore is at work on.
    pub(super) sanitizes: BTreeSet<u64>,
    chores: BTreeSet<usize>,
    removed: BTreeSet<UnitId>,
    hash: u64,
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> World {
        // So little that receives often end within a command.
        World::with_room(seed, options, Sizes { conns: 32, spare_window: 128, staging_bytes: 20_000 })
    }

    /// One whose reactors hold so much.
    pub(super) fn with_room(seed: u64, options: Options, sizes: Sizes) -> World {
        let mut rng = Rng::new(seed);
        let (control_inbox, inbox) = channel(8192, no_waker());
        let mut lanes = Vec::new();
        let ports: Vec<_> = (0..options.reactors).map(|_| channel(1024, no_waker())).collect();
        // What reactors say to each other needs no delay of the world's: their turns come in any order.
        let peers: Vec<_> = ports.iter().map(|(sender, _)| Sender::clone(sender)).collect();
        let mut ports = ports.into_iter();
        let cores = (0..options.reactors).map(|id| {
            let (lane, from_control) = channel(1024, no_waker());
            lanes.push(lane);
            let (inbox, receiver) = ports.next().expect("one a reactor");
            // What control tells first, where it is asked to.
            assert!(inbox.send(ToReactor::Secret([7; 16])).is_ok(), "a new inbox has room");
            core(ReactorId(id), from_control, (inbox, receiver), peers.clone(), &options, sizes)
        });
        let cores = cores.collect();
        let mut control = Control::new(ControlConfig {
            net: SimNet::new(),
            inbox,
            reactors: lanes,
            random: Box::new(SeededRandom(rng.fork())),
            options: options::Options { nop_in: options.nop_in, ..options::Options::default() },
        });
        let mut disks = Vec::new();
        let mut luns = Vec::new();
        for (index, disk) in options.disks.iter().enumerate() {
            let disk = Disk::new(&disk_name(index), disk.blocks, disk.block_bytes, rng.fork());
            register(&mut control, &disk, &disk_name(index));
            luns.push((disk_name(index), Some(lun(index))));
            disks.push(disk);
        }
        let portals = vec![Portal::without_listener(address(3260))];
        let group = PortalGroup { tag: 1, portals, is_private: false, is_started: true, discovery: None };
        control.add_portal_group(group).expect("a portal group");
        control.create_initiator_group(InitiatorGroup::any(1)).expect("an initiator group");
        let target = NewTarget {
            name: TARGET.to_owned(),
            alias: String::new(),
            luns,
            maps: vec![(1, 1)],
            auth: Auth::default(),
            demands_header_digest: false,
            demands_data_digest: false,
            queue_depth: 64,
            relative_ports: Vec::new(),
        };
        control.create_target(&target).expect("a target");
        World {
            rng,
            now: Tick::from_ns(1),
            step: 1,
            cores,
            control,
            control_inbox,
            disks,
            units: BTreeMap::new(),
            options,
            oracle: Oracle::default(),
            sessions: Vec::new(),
            unended: Vec::new(),
            session_last: 0,
            op_last: 0,
            has_failed: false,
            has_resized: false,
            has_removed: false,
            has_reserved: false,
            has_selected: false,
            has_lost: false,
            published: Published::default(),
            names: BTreeMap::new(),
            askers: BTreeMap::new(),
            tokens: Vec::new(),
            made: Vec::new(),
            sanitizes: BTreeSet::new(),
            chores: BTreeSet::new(),
            removed: BTreeSet::new(),
            hash: 0xcbf2_9ce4_8422_2325,
            trace: None,
        }
    }

    /// Adds to the trace and its hash.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(7);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>5} {:?} {}", self.step, self.now, what()));
        }
    }

    /// What has happened so far, in one word.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// A new connection to the target.
    pub(super) fn connect(&mut self, capacity_bytes: usize) -> Wire {
        let (wire, plug) = Wire::new(capacity_bytes);
        let origin = Origin { peer: address(40000), local: address(3260), portal_group: 1 };
        self.control.accepted(plug, origin, self.now);
        wire
    }

    /// A reactor's turn.
    pub(super) fn turn(&mut self, index: usize) -> Result<bool, String> {
        let now = self.now;
        let core = &mut self.cores[index];
        let mut worked = core.reactor.turn(now);
        // What has landed in this turn has done so before what is acknowledged in it.
        self.look()?;
        let id = ReactorId(u16::try_from(index).unwrap_or(0));
        let (core, reactors) = (&mut self.cores[index], usize::from(self.options.reactors));
        while let Some(message) = core.outbox.receive() {
            worked = true;
            if let ToControl::BarrierDone { id: barrier, is_clean, .. } = &message {
                acknowledged(&mut core.sizes, *barrier);
                acknowledged(&mut core.mapped, *barrier);
                self.published.acknowledged(*barrier, *is_clean, reactors, self.step);
                self.has_lost |= !is_clean;
            }
            self.has_lost |= matches!(message, ToControl::Unsettled { .. });
            core.to_control.push_back(message);
        }
        self.limit(id);
        Ok(worked)
    }

    /// Tells the disks what a reactor may go by.
    fn limit(&mut self, id: ReactorId) {
        let core = &self.cores[usize::from(id.0)];
        for (unit, disk) in self.disks.iter().enumerate() {
            let most = |limits: &[Limit]| {
                limits
                    .iter()
                    .filter(|limit| limit.unit == unit)
                    .map(|limit| limit.blocks)
                    .max()
                    .unwrap_or(u64::MAX)
            };
            disk.set_limit(id, most(&core.sizes).min(most(&core.mapped)));
        }
    }

    /// Looks at what the disks have noted.
    pub(super) fn look(&mut self) -> Result<(), String> {
        for (unit, disk) in self.disks.iter().enumerate() {
            for note in disk.take_notes() {
                match note {
                    Note::Landed { lba, stamp } => {
                        let ops = self.oracle.landed(unit, lba, stamp, self.step)?;
                        let clients = ops.iter().filter_map(|op| self.askers.get(op));
                        let mut verdicts = clients.map(|client| self.published.may_land(unit, *client));
                        // Who it was cannot always be told.
                        if let Some(Err(error)) = verdicts.next()
                            && verdicts.all(|verdict| verdict.is_err())
                        {
                            return Err(error);
                        }
                        if self.chores.contains(&unit) && !ops.iter().any(|op| self.sanitizes.contains(op)) {
                            return Err(format!(
                                "unit {unit} block {lba}: {stamp:#x} of {ops:?} landed while it is sanitized"
                            ));
                        }
                    }
                    // A chore needs no LUN that leads to its unit.
                    Note::Beyond { reactor, op }
                        if self.chores.contains(&unit) && self.is_within(unit, reactor, op) => {}
                    Note::Beyond { reactor, op } => {
                        return Err(format!(
                            "unit {unit}: {op:?} by {reactor:?}, which had acknowledged its end"
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a reactor may take the unit to be large enough, be it mapped or not.
    fn is_within(&self, unit: usize, reactor: ReactorId, op: Op) -> bool {
        let end = op.extent().map_or(0, |(lba, blocks)| lba + u64::from(blocks));
        let sizes = &self.cores[usize::from(reactor.0)].sizes;
        sizes.iter().any(|limit| limit.unit == unit && end <= limit.blocks)
    }

    /// Passes one message on to a reactor.
    pub(super) fn relay_down(&mut self, index: usize) -> bool {
        let core = &mut self.cores[index];
        let Some(message) = core.from_control.receive() else { return false };
        let id = ReactorId(u16::try_from(index).unwrap_or(0));
        if let ToReactor::Answered { asked, outcome, .. } = &message
            && *outcome == Outcome::GOOD
        {
            self.published.answered((id, *asked), self.step);
        }
        let mut begun = None;
        if let ToReactor::Chore { unit, .. } = &message
            && !self.removed.contains(unit)
            && let Some(&unit) = self.units.get(unit)
        {
            self.chores.insert(unit);
            begun = Some(unit);
        }
        if let ToReactor::Barrier { id, change } = &message {
            self.published.sent(*id, change, &self.units);
            match change {
                Change::Unit { view, .. } => {
                    if let Some(&unit) = self.units.get(&view.id) {
                        if view.chore.is_none() {
                            self.chores.remove(&unit);
                        }
                        core.sizes.push(Limit { barrier: Some(*id), unit, blocks: view.blocks });
                    }
                }
                Change::Target { target, .. } => {
                    for unit in 0..self.disks.len() {
                        let is_it = |mapping: &Mapping| self.units.get(&mapping.unit) == Some(&unit);
                        let is_mapped = target.mappings.iter().any(is_it);
                        let blocks = if is_mapped { u64::MAX } else { 0 };
                        core.mapped.push(Limit { barrier: Some(*id), unit, blocks });
                    }
                }
                Change::RemoveUnit { unit: gone } => {
                    if let Some(&unit) = self.units.get(gone) {
                        self.chores.remove(&unit);
                        self.removed.insert(*gone);
                        core.mapped.push(Limit { barrier: Some(*id), unit, blocks: 0 });
                    }
                }
                Change::Reset { .. } | Change::Nothing | Change::Reservations(_) => {}
            }
        } else if let ToReactor::AddUnit { view, bdev } = &message {
            let name = bdev.info().name;
            let unit = (0..self.disks.len()).find(|&unit| disk_name(unit) == name);
            if let Some(unit) = unit {
                self.units.insert(view.id, unit);
                self.published.added(unit, view, self.step);
                core.sizes.push(Limit { barrier: None, unit, blocks: view.blocks });
                core.mapped.push(Limit { barrier: None, unit, blocks: u64::MAX });
            }
        }
        assert!(core.inbox.send(message).is_ok(), "a reactor's inbox holds what a world can say");
        self.limit(id);
        if let Some(unit) = begun {
            self.note(|| format!("unit {unit} is being sanitized"), &[30]);
        }
        true
    }

    /// Passes one message on to control.
    pub(super) fn relay_up(&mut self, index: usize) -> bool {
        let Some(message) = self.cores[index].to_control.pop_front() else { return false };
        assert!(self.control_inbox.send(message).is_ok(), "control's inbox holds what a world can say");
        true
    }

    /// Control's turn.
    pub(super) fn turn_control(&mut self) {
        self.control.turn(self.now);
        for (id, session) in self.control.sessions().iter() {
            if let Some(client) = self.names.get(&session.nexus.initiator)
                && let Some(nexus) = self.control.sessions().nexus_of(id)
            {
                self.published.nexuses.insert(*client, nexus);
            }
        }
    }

    /// The next moment at which anything has to be done.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        let waits = self.cores.iter().filter_map(|core| match core.reactor.may_wait(self.now) {
            Wait::Poll => Some(self.now),
            Wait::AtMostNs(ns) => Some(self.now.after_ns(ns)),
            Wait::Forever => None,
        });
        waits.chain(self.control.next_deadline()).min()
    }

    /// Changes a unit's size, as an operator would.
    pub(super) fn resize(&mut self, unit: usize, blocks: u64) {
        self.has_resized = true;
        self.disks[unit].tell_blocks(blocks);
        // Refused where it has been pulled out: it is read again when it comes back.
        let _ = self.control.reread_bdev(&disk_name(unit), Done::nobody());
    }

    /// Takes a disk out of service, LUN and all, until [`World::map`] brings it back.
    pub(super) fn pull(&mut self, unit: usize) {
        self.has_removed = true;
        // Refused where it is going already, or gone.
        let _ = self.control.unregister_bdev(&disk_name(unit), Done::nobody());
    }

    /// Takes a LUN away, or gives it back; a disk that has been pulled out first comes back too, once it is gone.
    pub(super) fn map(&mut self, unit: usize, is_mapped: bool) {
        if is_mapped {
            if self.control.bdev(&disk_name(unit)).is_none() {
                register(&mut self.control, &self.disks[unit], &disk_name(unit));
            }
            // Refused where it is there.
            let _ = self.control.add_lun(TARGET, &disk_name(unit), Some(lun(unit)));
        } else {
            self.has_removed = true;
            let _ = self.control.remove_lun(TARGET, lun(unit), Done::nobody());
        }
    }

    /// Undoes all faults.
    pub(super) fn heal(&mut self) {
        for (unit, disk) in self.disks.clone().iter().enumerate() {
            disk.set_state(ChannelState::Ready);
            disk.set_queue_max(64);
            disk.fail_next(0);
            self.resize(unit, self.options.disks[unit].blocks);
        }
        self.cores.iter_mut().for_each(|core| core.stalled_until = 0);
    }

    /// Every disk is there and every LUN leads to its own, as soon as what was pulled out is gone.
    pub(super) fn restore(&mut self) {
        (0..self.disks.len()).for_each(|unit| self.map(unit, true));
    }

    /// What all reactors hold together.
    pub(super) fn census(&self) -> Census {
        self.cores.iter().map(|core| core.reactor.census()).fold(Census::default(), |sum, one| Census {
            conns: sum.conns + one.conns,
            tasks: sum.tasks + one.tasks,
            items: sum.items + one.items,
            ios: sum.ios + one.ios,
            paced: sum.paced + one.paced,
            waits: sum.waits + one.waits,
            holds: sum.holds + one.holds,
        })
    }

    /// Buffers that are out.
    pub(super) fn buffers_out(&self) -> usize {
        self.cores.iter().flat_map(|core| &core.pools).map(Pool::in_use_count).sum()
    }
}

fn core(
    id: ReactorId,
    from_control: Receiver<ToReactor<Plug>>,
    (inbox, receiver): (Sender<ToReactor<Plug>>, Receiver<ToReactor<Plug>>),
    peers: Vec<Sender<ToReactor<Plug>>>,
    options: &Options,
    sizes: Sizes,
) -> Core {
    const CLASSES: [usize; 4] = [4096, 16384, 65536, 262_144];
    let classes: Vec<Class> =
        CLASSES.iter().zip(options.buffers).map(|(&bytes, count)| Class { bytes, count }).collect();
    let pool = || Pool::ordinary(&classes).expect("memory");
    let pools = [pool(), pool()];
    let (to_control, outbox) = channel(1024, no_waker());
    let reactor = Reactor::new(Setup {
        id,
        net: SimNet::new(),
        inbox: receiver,
        to_control,
        peers,
        unsolicited: pools[0].clone(),
        solicited: pools[1].clone(),
        sizes,
        planted: options.bug.map_or_else(Planted::default, Planted::bug),
    });
    Core {
        reactor,
        from_control,
        inbox,
        outbox,
        to_control: VecDeque::new(),
        pools,
        sizes: Vec::new(),
        mapped: Vec::new(),
        stalled_until: 0,
    }
}

/// From here on nothing older than this barrier counts.
fn acknowledged(limits: &mut Vec<Limit>, barrier: BarrierId) {
    let mut at = 0;
    while at < limits.len() {
        let Limit { unit, .. } = limits[at];
        let is_outdated =
            limits[at + 1..].iter().any(|later| later.barrier == Some(barrier) && later.unit == unit);
        if is_outdated {
            limits.remove(at);
        } else {
            at += 1;
        }
    }
}

/// The LUN that leads to a unit.
pub(super) fn lun(unit: usize) -> LunNumber {
    LunNumber(u16::try_from(unit).unwrap_or(u16::MAX))
}

fn register(control: &mut Control<SimNet>, disk: &Disk, name: &str) {
    let bdev: Arc<dyn Bdev> = Arc::new(disk.clone());
    let (product, recipe, bases) = ("sim".to_owned(), String::new(), Vec::new());
    let registered = control.register_bdev(BdevSpec { bdev, product, recipe, bases });
    assert_eq!(registered, Ok(()), "{name} is not there");
}

fn disk_name(unit: usize) -> String {
    format!("disk{unit}")
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}
