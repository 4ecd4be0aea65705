//! A daemon of this process on loopback, its disks with faults to order, and initiators that log in to it.
//!
//! Each test has a daemon of its own, on a port that the system chose. When a [`World`] is dropped its sessions are
//! ended, its devices give everything back, and the daemon has to stop cleanly.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lunette::bdev::count::Counted;
use lunette::bdev::delay::{Delay, Delays};
use lunette::bdev::error::{Fault, Faults, Faulty, Kind, Rule, RuleId};
use lunette::bdev::malloc::{Malloc, Recipe};
use lunette::bdev::{Bdev, ChannelState};
use lunette::buf::Hugepages;
use lunette::control::Control;
use lunette::control::access::{InitiatorGroup, NameRule};
use lunette::control::auth::{Auth, AuthGroup, Chap};
use lunette::control::done::{Done, Outcome};
use lunette::control::error::ChangeError;
use lunette::control::options;
use lunette::control::registry::BdevSpec;
use lunette::control::targets::NewTarget;
use lunette::control::thread::{Daemon, Options, Remote};
use lunette::id::ReactorId;
use lunette::iscsi::chap::Account;
use lunette::iscsi::negotiate::Offer;
use lunette::net::kernel::KernelNet;
use lunette::reactor::message::NopInTimes;
use lunette::reactor::{Idle, Planted};
use lunette::scsi::view::DeviceKind;
use lunette::time::Tick;
use lunette_initiator::scsi::{Sense, cdb, status};
use lunette_initiator::session::Completion;
use lunette_initiator::socket::Wire;
use lunette_initiator::{Client, Command, Config, Data, lun};

/// The name of the one target.
pub(crate) const TARGET: &str = "iqn.2026-11.io.example:disks";

/// Says why a test does not run here. Where everything that tests want was installed (`LUNETTE_PEERS`, as scripts/ci.sh sets it),
/// that is a failure.
#[track_caller]
pub(crate) fn not_run(why: &str) {
    assert!(std::env::var_os("LUNETTE_PEERS").is_none(), "not run: {why}");
    eprintln!("not run: {why}");
}

/// Nothing a test waits for takes so long.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What a daemon is to be like; change what matters to the test.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) reactors: usize,
    pub(crate) pool_bytes: usize,
    pub(crate) nop_in: NopInTimes,
    pub(crate) portals: Vec<SocketAddr>,
    /// Of each LUN: blocks, and bytes of a block.
    pub(crate) disks: Vec<(u64, u32)>,
    /// Who may come, as a rule of an initiator group.
    pub(crate) initiators: &'static str,
    /// Who can prove who it is.
    pub(crate) accounts: Vec<Account>,
    /// What has to be proved to the target, and in discovery.
    pub(crate) chap: Chap,
    pub(crate) discovery_chap: Chap,
    pub(crate) planted: Planted,
    /// How slow the disks are.
    pub(crate) delays: Delays,
    /// What initiators see in them.
    pub(crate) kind: DeviceKind,
    /// Our side of negotiations.
    pub(crate) offer: Offer,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            reactors: 1,
            pool_bytes: 16 << 20,
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
            portals: vec![([127, 0, 0, 1], 0).into()],
            disks: vec![(16 * 1024, 512)],
            initiators: "ANY",
            accounts: Vec::new(),
            chap: Chap::Either,
            discovery_chap: Chap::Either,
            planted: Planted::default(),
            delays: Delays { read_ns: 0, write_ns: 0, flush_ns: 0 },
            kind: DeviceKind::Disk,
            offer: Offer::DEFAULT,
        }
    }
}

/// A disk of the daemon.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) medium: Arc<Malloc>,
    pub(crate) faults: Faults,
}

impl Disk {
    /// Orders a fault for the next `count` IOs of a kind.
    pub(crate) fn order(&self, kind: Kind, fault: Fault, count: u32) -> RuleId {
        self.faults.add(Rule::everywhere(kind, fault), count).unwrap()
    }
}

/// A daemon that serves one target.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) portals: Vec<SocketAddr>,
    pub(crate) disks: Vec<Disk>,
    remote: Remote,
    thread: Option<JoinHandle<bool>>,
}

impl World {
    /// Starts one. Control lives on the thread that it is started on.
    pub(crate) fn start(setup: Setup) -> World {
        let (started, is_started) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let (daemon, disks) = serve(setup);
            started.send((daemon.portals(), daemon.remote(), disks)).unwrap();
            daemon.run()
        });
        let (portals, remote, disks) = is_started.recv().expect("the daemon starts");
        World { portals, disks, remote, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.portals[0]
    }

    /// A way to the daemon.
    pub(crate) fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Changes what is served, on control's thread.
    pub(crate) fn control<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>) -> R + Send + 'static,
    ) -> R {
        self.remote.call(|control, _| change(control)).expect("the daemon runs")
    }

    /// Begins a change that takes its time.
    pub(crate) fn change(
        &self,
        change: impl FnOnce(&mut Control<KernelNet>, Done, Tick) -> Result<(), ChangeError> + Send + 'static,
    ) -> mpsc::Receiver<Outcome> {
        let (outcome, done) = mpsc::sync_channel(1);
        let call = Done::new(move |ended| drop(outcome.send(ended)));
        let begun = self.remote.call(move |control, now| change(control, call, now));
        begun.expect("the daemon runs").unwrap();
        done
    }

    /// Asks it to stop, as SIGTERM does.
    pub(crate) fn drain(&self) {
        self.remote.drain();
    }

    /// Whether it stopped in time with everything given back. To be called after [`World::drain`].
    pub(crate) fn stopped(&mut self) -> bool {
        self.thread.take().is_some_and(|thread| thread.join().unwrap())
    }

    /// A session, its first unit attentions taken.
    pub(crate) fn login(&self, config: Config) -> Client {
        let mut client = Client::connect(self.address(), config).unwrap();
        for number in (0u16..).take(self.disks.len()) {
            client.set_lun(lun::from_number(number));
            client.command(cdb::test_unit_ready(), Data::None).unwrap();
        }
        client.set_lun(0);
        client
    }

    /// A session of its own for each name, with the usual offers.
    pub(crate) fn client(&self, name: &str) -> Client {
        self.login(config(name))
    }

    /// A logged-in connection for PDUs of the test's own making, its unit attentions still to come.
    pub(crate) fn wire(&self, config: &Config) -> (Wire, lunette_initiator::login::Outcome) {
        let mut wire = Wire::connect(self.address()).unwrap();
        let outcome = wire.login(config).unwrap();
        (wire, outcome)
    }

    /// Where each session is served, in the order of their logins.
    pub(crate) fn placement(&self) -> Vec<ReactorId> {
        self.control(|control| control.sessions().iter().map(|(_, session)| session.reactor).collect())
    }

    /// Ends every session, as an operator would.
    pub(crate) fn end_sessions(&self) {
        self.remote.call(|control, now| {
            let sessions: Vec<_> = control.sessions().iter().map(|(id, _)| id).collect();
            sessions.into_iter().for_each(|id| control.end_session(id, now));
        });
    }

    /// Waits until so many sessions are left, those included that a device still has IO of.
    pub(crate) fn wait_sessions(&self, count: usize) {
        until("sessions end", || self.control(|control| control.sessions().count()) == count);
    }
}

impl World {
    /// Waits until so many connections are in full feature phase.
    pub(crate) fn wait_connections(&self, count: usize) {
        until("connections end", || self.control(|control| control.connections().len()) == count);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for disk in &self.disks {
            disk.faults.set_state(ChannelState::Gone);
        }
        self.end_sessions();
        self.remote.drain();
        if let Some(thread) = self.thread.take() {
            let is_clean = thread.join();
            if !std::thread::panicking() {
                assert!(is_clean.unwrap(), "a reactor did not stop");
            }
        }
    }
}

/// A daemon that serves its disks as the LUNs of one target.
fn serve(setup: Setup) -> (Daemon, Vec<Disk>) {
    let mut daemon = Daemon::start(Options {
        cores: (0..setup.reactors).collect(),
        idle: Idle::Park,
        hugepages: Hugepages::Off,
        pool_bytes: setup.pool_bytes,
        iscsi: options::Options {
            nop_in: setup.nop_in,
            discovery: Auth { chap: setup.discovery_chap, group: 1 },
            offer: setup.offer,
            ..options::Options::default()
        },
        planted: setup.planted,
    })
    .unwrap();
    let control = daemon.control();
    let disks: Vec<Disk> = (0u8..)
        .zip(setup.disks)
        .map(|(number, (blocks, block_bytes))| {
            let (medium, faults, bdev) = disk(number, blocks, block_bytes);
            let name = bdev.info().name;
            let spec = spec(Arc::new(Counted::new(Arc::new(Delay::new(bdev, setup.delays)))));
            control.register_bdev_as(spec, setup.kind).unwrap();
            Disk { name, medium, faults }
        })
        .collect();
    control.create_auth_group(AuthGroup { tag: 1, accounts: setup.accounts }).unwrap();
    let initiators = vec![NameRule::parse(setup.initiators).unwrap()];
    control.create_initiator_group(InitiatorGroup { initiators, ..InitiatorGroup::any(1) }).unwrap();
    control.create_portal_group(1, &setup.portals, false, true).unwrap();
    let names: Vec<&str> = disks.iter().map(|disk| disk.name.as_str()).collect();
    let target = NewTarget { auth: Auth { chap: setup.chap, group: 1 }, ..target(TARGET, &names, &[(1, 1)]) };
    control.create_target(&target).unwrap();
    (daemon, disks)
}

/// A device as control takes it in.
pub(crate) fn spec(bdev: Arc<dyn Bdev>) -> BdevSpec {
    BdevSpec { bdev, product: "test disk".to_owned(), recipe: String::new(), bases: Vec::new() }
}

/// A target with these bdevs as its LUNs from 0 on, at pairs of portal group and initiator group.
pub(crate) fn target(name: &str, bdevs: &[&str], maps: &[(u16, u32)]) -> NewTarget {
    NewTarget {
        name: name.to_owned(),
        alias: String::new(),
        luns: bdevs.iter().map(|&bdev| (bdev.to_owned(), None)).collect(),
        maps: maps.to_vec(),
        auth: Auth::default(),
        demands_header_digest: false,
        demands_data_digest: false,
        queue_depth: 64,
        relative_ports: Vec::new(),
    }
}

/// A RAM disk behind faults.
pub(crate) fn disk(number: u8, blocks: u64, block_bytes: u32) -> (Arc<Malloc>, Faults, Arc<dyn Bdev>) {
    let recipe = Recipe {
        name: format!("disk{number}"),
        blocks,
        blocks_max: 2 * blocks,
        block_bytes,
        physical_block_bytes: block_bytes,
        uuid: [number; 16],
        hugepages: Hugepages::Off,
    };
    let (medium, faults) = (Arc::new(Malloc::new(recipe).unwrap()), Faults::new());
    let faulty = Faulty::new(Arc::clone(&medium) as Arc<dyn Bdev>, faults.clone());
    (medium, faults, Arc::new(faulty))
}

/// An initiator's usual offers, under a name (and so a nexus) of its own.
pub(crate) fn config(name: &str) -> Config {
    Config::new(&format!("iqn.2026-11.io.example:{name}"), TARGET)
}

/// Looks again and again until something has become true; for what no socket tells.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Contents that belong to one place of a disk and one `seed`: each block begins with both.
pub(crate) fn pattern(seed: u32, lba: u64, blocks: u32, block_bytes: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity((blocks * block_bytes) as usize);
    for lba in (lba..).take(blocks as usize) {
        let end = out.len() + block_bytes as usize;
        let mut word = lba.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(seed) << 32;
        while out.len() < end {
            out.extend_from_slice(&word.to_be_bytes());
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
    }
    out
}

/// A WRITE (16) of `pattern` on disks of 512-byte blocks.
pub(crate) fn write(seed: u32, lba: u64, blocks: u32) -> Command {
    let cdb = cdb::write_16(lba, blocks, cdb::Flags::default());
    Command::write(0, cdb, pattern(seed, lba, blocks, 512))
}

/// A READ (16) on disks of 512-byte blocks.
pub(crate) fn read(lba: u64, blocks: u32) -> Command {
    Command::read(0, cdb::read_16(lba, blocks, cdb::Flags::default()), blocks * 512)
}

pub(crate) fn test_unit_ready(number: u16) -> Command {
    Command::new(lun::from_number(number), cdb::test_unit_ready(), Data::None)
}

/// Sense key, additional sense code and qualifier of a CHECK CONDITION.
pub(crate) fn sense(completion: &Completion) -> (u8, u8, u8) {
    assert_eq!(completion.status, status::CHECK_CONDITION, "{completion:?}");
    let sense = Sense::decode(&completion.sense).unwrap();
    (sense.key, sense.asc.0, sense.asc.1)
}
