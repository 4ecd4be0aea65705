//! A daemon of this process on loopback, on a port that the system chose, with disks that are slow or fail to order.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use lunette::bdev::delay::{Delay, Delays};
use lunette::bdev::error::{Faults, Faulty};
use lunette::bdev::malloc::{Malloc, Recipe};
use lunette::bdev::{Bdev, ChannelState};
use lunette::buf::Hugepages;
use lunette::control::access::{InitiatorGroup, NameRule};
use lunette::control::auth::{Auth, AuthGroup, Chap};
use lunette::control::options;
use lunette::control::registry::BdevSpec;
use lunette::control::targets::NewTarget;
use lunette::control::thread::{self, Daemon, Remote};
use lunette::iscsi::chap::Account;
use lunette::iscsi::negotiate::Offer;
use lunette::reactor::message::NopInTimes;
use lunette::reactor::{Idle, Planted};
use lunette_load::{LoadError, Options, Report};

const TARGET: &str = "iqn.2026-11.io.example:disks";

/// What a daemon is to be like.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) offer: Offer,
    pub(crate) nop_in: NopInTimes,
    /// Blocks of 512 bytes of each LUN.
    pub(crate) disks: Vec<u64>,
    /// Who can, and then must, prove who it is.
    pub(crate) accounts: Vec<Account>,
    pub(crate) delays: Delays,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            offer: Offer::DEFAULT,
            nop_in: NopInTimes { ask_ns: 0, close_ns: 0 },
            disks: vec![16 * 1024],
            accounts: Vec::new(),
            delays: Delays { read_ns: 0, write_ns: 0, flush_ns: 0 },
        }
    }
}

/// A daemon that serves one target.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) portal: SocketAddr,
    pub(crate) faults: Vec<Faults>,
    remote: Remote,
    thread: Option<JoinHandle<bool>>,
}

impl World {
    pub(crate) fn start(setup: Setup) -> World {
        let (started, is_started) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let (daemon, faults) = serve(setup);
            started.send((daemon.portals()[0], daemon.remote(), faults)).unwrap();
            daemon.run()
        });
        let (portal, remote, faults) = is_started.recv().expect("the daemon starts");
        World { portal, faults, remote, thread: Some(thread) }
    }

    /// Puts load on it.
    pub(crate) fn load(&self, line: &str) -> Result<Report, LoadError> {
        load(self.portal, line)
    }

    /// Waits until there are so many sessions.
    pub(crate) fn wait_sessions(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.remote.call(|control, _| control.sessions().count()).unwrap() != count {
            assert!(Instant::now() < deadline, "never {count} sessions");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Ends every session, as an operator would.
    pub(crate) fn end_sessions(&self) {
        let ended = self.remote.call(|control, now| {
            let sessions: Vec<_> = control.sessions().iter().map(|(id, _)| id).collect();
            sessions.into_iter().for_each(|id| control.end_session(id, now));
        });
        ended.expect("the daemon runs");
    }
}

/// Puts load on whatever listens there: short runs, unless `line` says otherwise.
pub(crate) fn load(portal: SocketAddr, line: &str) -> Result<Report, LoadError> {
    let mut line = format!("lunette-load --portal {portal} {line}");
    for (switch, value) in [("--seconds", "0.3"), ("--warmup", "0"), ("--qd", "8")] {
        if !line.contains(switch) {
            line = format!("{line} {switch} {value}");
        }
    }
    lunette_load::run(&Options::try_parse_from(line.split_whitespace()).unwrap())
}

impl Drop for World {
    fn drop(&mut self) {
        self.faults.iter().for_each(|faults| faults.set_state(ChannelState::Gone));
        self.remote.drain();
        if let Some(thread) = self.thread.take() {
            let is_clean = thread.join();
            if !std::thread::panicking() {
                assert!(is_clean.unwrap(), "a reactor did not stop");
            }
        }
    }
}

fn serve(setup: Setup) -> (Daemon, Vec<Faults>) {
    let mut daemon = Daemon::start(thread::Options {
        cores: vec![0],
        idle: Idle::Park,
        hugepages: Hugepages::Off,
        pool_bytes: 16 << 20,
        iscsi: options::Options { nop_in: setup.nop_in, offer: setup.offer, ..options::Options::default() },
        planted: Planted::default(),
    })
    .unwrap();
    let control = daemon.control();
    let mut names = Vec::new();
    let mut all_faults = Vec::new();
    for (number, blocks) in (0..).zip(setup.disks) {
        let (name, faults) = (format!("disk{number}"), Faults::new());
        let bdev = Faulty::new(disk(&name, number, blocks), faults.clone());
        let bdev = Arc::new(Delay::new(Arc::new(bdev), setup.delays));
        let spec =
            BdevSpec { bdev, product: "test disk".to_owned(), recipe: String::new(), bases: Vec::new() };
        control.register_bdev(spec).unwrap();
        names.push((name, None));
        all_faults.push(faults);
    }
    let chap = if setup.accounts.is_empty() { Chap::Either } else { Chap::Required };
    control.create_auth_group(AuthGroup { tag: 1, accounts: setup.accounts }).unwrap();
    let initiators = vec![NameRule::parse("ANY").unwrap()];
    control.create_initiator_group(InitiatorGroup { initiators, ..InitiatorGroup::any(1) }).unwrap();
    control.create_portal_group(1, &[([127, 0, 0, 1], 0).into()], false, true).unwrap();
    let target = NewTarget {
        name: TARGET.to_owned(),
        alias: String::new(),
        luns: names,
        maps: vec![(1, 1)],
        auth: Auth { chap, group: 1 },
        demands_header_digest: false,
        demands_data_digest: false,
        queue_depth: 64,
        relative_ports: Vec::new(),
    };
    control.create_target(&target).unwrap();
    (daemon, all_faults)
}

fn disk(name: &str, number: u8, blocks: u64) -> Arc<dyn Bdev> {
    let recipe = Recipe {
        name: name.to_owned(),
        blocks,
        blocks_max: blocks,
        block_bytes: 512,
        physical_block_bytes: 512,
        uuid: [number; 16],
        hugepages: Hugepages::Off,
    };
    Arc::new(Malloc::new(recipe).unwrap())
}
