//! The daemon: control on its own thread (the caller's), with listeners, signals, and reactors on theirs.
//!
//! SIGTERM and SIGINT drain: no more connections, sessions are asked to log out, then the reactors stop. A second signal
//! ends the process at once, from the signal handler.

mod helpers;
mod remote;

pub use remote::Remote;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Instant;

use signal_hook::consts::{SIGINT, SIGTERM};

use remote::Order;

use super::error::ChangeError;
use super::portals::{Listening, Portal, PortalGroup};
use super::probe::Prober;
use super::space::Surveyor;
use super::store::disk::Opened;
use super::{Config, Control, Origin, Random, options};
use crate::buf::{Hugepages, Pages};
use crate::id::ReactorId;
use crate::limits::{ACCEPTS_PER_TURN, DISCOVERIES_MAX, LOGINS_MAX, MAILBOX, REACTORS_MAX, TO_CONTROL_MAX};
use crate::net::kernel::KernelNet;
use crate::net::listen::{Accepted, accept};
use crate::net::wake::{WakeFd, wake_pair};
use crate::net::{Net, Wait};
use crate::reactor::port::channel;
use crate::reactor::{Idle, Planted, Recipe, Running, SpawnError, spawn};
use crate::time::Tick;

/// What the daemon is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU of each reactor; at least one.
    pub cores: Vec<usize>,
    /// What reactors do when there is nothing to do.
    pub idle: Idle,
    /// What buffers are made of.
    pub hugepages: Hugepages,
    /// Buffer memory of each reactor.
    pub pool_bytes: usize,
    /// What holds for every target.
    pub iscsi: options::Options,
    /// The bug planted in its reactors, where a test wants to see itself fail.
    pub planted: Planted,
}

impl Options {
    /// One reactor, on the first CPU, that waits in the kernel and has little memory: for tests.
    pub fn small() -> Options {
        Options {
            cores: vec![0],
            idle: Idle::Park,
            hugepages: Hugepages::Off,
            pool_bytes: 16 << 20,
            iscsi: options::Options::default(),
            planted: Planted::default(),
        }
    }
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option out of range.
    #[error(transparent)]
    Option(#[from] ChangeError),
    /// No epoll, eventfd or pipe.
    #[error("the kernel refused what every daemon needs: {0}")]
    Kernel(#[from] io::Error),
    /// More CPUs than there can be reactors.
    #[error("{0} CPUs were given, and {REACTORS_MAX} reactors are the most: give fewer with --cores")]
    TooManyCores(usize),
    /// A reactor did not come up.
    #[error("cannot start {0}; --mem-size and --hugepages decide what it asks for")]
    Reactor(#[from] SpawnError),
}

/// The system's randomness.
#[derive(Debug)]
pub struct SystemRandom;

impl SystemRandom {
    /// A new name for a medium (RFC 9562 §5.4).
    pub fn uuid() -> [u8; 16] {
        let mut uuid = [0; 16];
        SystemRandom.fill(&mut uuid);
        uuid[6] = 0x40 | uuid[6] & 0x0f;
        uuid[8] = 0x80 | uuid[8] & 0x3f;
        uuid
    }
}

impl Random for SystemRandom {
    /// # Panics
    /// Where the kernel has no randomness to give: nothing safe can be done then.
    fn fill(&mut self, out: &mut [u8]) {
        getrandom::fill(out).expect("getrandom(2) does not fail once the system has booted");
    }
}

impl Control<KernelNet> {
    /// Listens at `addresses` and takes them into service under a tag: at once, or when
    /// [`Control::start_portal_group`] says so. Port 0 lets the system choose.
    ///
    /// # Errors
    /// The tag is taken, an address cannot be listened at, too many, the daemon stops.
    pub fn create_portal_group(
        &mut self,
        tag: u16,
        addresses: &[SocketAddr],
        is_private: bool,
        is_started: bool,
    ) -> Result<(), ChangeError> {
        // Before its own portals are found to be taken.
        self.catalog.portals.has_room(tag, addresses.len())?;
        let portals = addresses.iter().map(|&address| Portal::listen(address)).collect::<Result<_, _>>()?;
        self.add_portal_group(PortalGroup { tag, portals, is_private, is_started, discovery: None })
    }
}

/// A daemon that listens and whose reactors run.
#[derive(Debug)]
pub struct Daemon {
    control: Control<KernelNet>,
    wake: WakeFd,
    signals: UnixStream,
    /// Given up for a moment to accept and close a connection when no descriptor is left.
    reserve: Option<File>,
    reactors: Vec<Running>,
    remote: Remote,
    orders: mpsc::Receiver<Order>,
    told_of_drain: Vec<mpsc::Sender<()>>,
    prober: Prober,
    surveyor: Surveyor,
    epoch: Instant,
}

impl Daemon {
    /// Listens and starts the reactors. Connections are accepted by [`Daemon::run`].
    ///
    /// # Errors
    /// What is in the way.
    pub fn start(options: Options) -> Result<Daemon, StartError> {
        let epoch = Instant::now();
        options.iscsi.check()?;
        let signals = watch_signals()?;
        let mut net = KernelNet::new(LOGINS_MAX + DISCOVERIES_MAX)?;
        let (waker, wake) = wake_pair()?;
        let waker = Arc::new(waker);
        let (remote, orders) = mpsc::channel();
        let remote = Remote::new(remote, Arc::clone(&waker));
        let (to_control, inbox) = channel(TO_CONTROL_MAX, waker);
        for fd in [wake.raw(), signals.as_raw_fd()] {
            net.register(fd)?;
        }
        if options.cores.len() > REACTORS_MAX {
            return Err(StartError::TooManyCores(options.cores.len()));
        }
        // All of them first: each reactor can send to every other.
        let (mut senders, mut inboxes) = (Vec::new(), Vec::new());
        for _ in &options.cores {
            let (waker, wake) = wake_pair()?;
            let (sender, inbox) = channel(MAILBOX, Arc::new(waker));
            senders.push(sender);
            inboxes.push((wake, inbox));
        }
        let mut reactors = Vec::new();
        for ((index, &cpu), (wake, inbox)) in (0u16..).zip(&options.cores).zip(inboxes) {
            let recipe = Recipe {
                id: ReactorId(index),
                cpu: Some(cpu),
                idle: options.idle,
                hugepages: options.hugepages,
                pool_bytes: options.pool_bytes,
                inbox,
                wake,
                epoch,
                to_control: to_control.clone(),
                peers: senders.clone(),
                planted: options.planted,
            };
            reactors.push(spawn(recipe)?);
        }
        let mut control = Control::new(Config {
            net,
            inbox,
            reactors: senders,
            random: Box::new(SystemRandom),
            options: options.iscsi,
        });
        control.set_meters(reactors.iter().map(|reactor| Arc::clone(&reactor.meter)).collect());
        control.ask_on_threads();
        let mut secret = [0; 16];
        SystemRandom.fill(&mut secret);
        control.share_secret(secret);
        if options.hugepages == Hugepages::Auto
            && reactors.iter().any(|reactor| reactor.pages == Pages::Ordinary)
        {
            tracing::info!("not enough free hugepages: buffers are ordinary memory");
        }
        let reserve = File::open("/dev/null").ok();
        Ok(Daemon {
            control,
            wake,
            signals,
            reserve,
            reactors,
            remote,
            orders,
            told_of_drain: Vec::new(),
            prober: Prober::default(),
            surveyor: Surveyor::default(),
            epoch,
        })
    }

    /// Where it listens, with the ports that the system chose.
    pub fn portals(&self) -> Vec<SocketAddr> {
        let portals = self.control.portal_groups().flat_map(|group| &group.portals);
        portals.map(|portal| portal.address).collect()
    }

    /// The control side, to say what is served.
    pub fn control(&mut self) -> &mut Control<KernelNet> {
        &mut self.control
    }

    /// Keeps in a file what must survive. To be called before anything is served.
    ///
    /// # Errors
    /// No thread.
    pub fn keep_state(&mut self, opened: Opened) -> io::Result<()> {
        let remote = self.remote();
        let mut is_failing = false;
        let (records, saver) = opened.saver(move |revision, ended| {
            let is_saved = ended.is_ok();
            match &ended {
                Err(error) if !is_failing => {
                    tracing::error!(%error, "the state file cannot be written: it is tried again every second");
                }
                Ok(()) if is_failing => tracing::info!("the state file can be written again"),
                _ => {}
            }
            is_failing = !is_saved;
            remote.order(Box::new(move |daemon, now| daemon.control.saved(revision, is_saved, now)));
        })?;
        self.control.keep(records, saver);
        Ok(())
    }

    /// A way to it for other threads, once [`Daemon::run`] has it.
    pub fn remote(&self) -> Remote {
        self.remote.clone()
    }

    /// Serves until asked to stop. Says whether every reactor stopped in time; one that did not has IO in a device
    /// that does not return it.
    pub fn run(mut self) -> bool {
        loop {
            let now = self.now();
            self.read_signals(now);
            self.control.observe(now);
            while let Ok(order) = self.orders.try_recv() {
                order(&mut self, now);
            }
            self.accept(now);
            self.probe(now);
            self.survey(now);
            self.control.turn(now);
            if self.control.has_stopped() {
                break;
            }
            self.ask_devices();
            self.erase_devices();
            let survey = self.surveyor.deadline(&self.control);
            let deadlines = [self.control.next_deadline(), self.prober.deadline(), survey];
            let wait = match deadlines.into_iter().flatten().min() {
                None => Wait::Forever,
                Some(deadline) => match deadline.since_ns(self.now()) {
                    0 => Wait::Poll,
                    ns => Wait::AtMostNs(ns),
                },
            };
            self.control.wait(wait);
            self.wake.drain();
        }
        let stuck = self.control.running();
        for (index, reactor) in (0u16..).zip(self.reactors) {
            if stuck.contains(&ReactorId(index)) {
                tracing::error!(reactor = index, "a device kept its IO: the reactor is left behind");
            } else if reactor.thread.join().is_err() {
                tracing::error!(reactor = index, "the reactor had panicked");
            }
        }
        stuck.is_empty()
    }

    fn now(&self) -> Tick {
        Tick::from_ns(u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn read_signals(&mut self, now: Tick) {
        let mut bytes = [0; 8];
        if !matches!(self.signals.read(&mut bytes), Ok(1..)) {
            return;
        }
        tracing::info!("asked to stop: sessions are asked to log out; a second signal stops at once");
        self.drain(now);
    }

    fn drain(&mut self, now: Tick) {
        self.control.drain(now);
        for told in &self.told_of_drain {
            // Who wanted to know may have gone.
            let _ = told.send(());
        }
    }

    fn accept(&mut self, now: Tick) {
        let mut index = 0;
        while let Some(Listening { group, address, .. }) = self.control.listening(index) {
            for _ in 0..ACCEPTS_PER_TURN {
                match self.accept_at(index) {
                    Accepted::Connection { socket, peer } => self.accepted(socket, peer, group, address, now),
                    Accepted::Nobody => break,
                    Accepted::Lost => {}
                    Accepted::Exhausted(error) => {
                        self.shed(index, &error);
                        break;
                    }
                    Accepted::Failed(error) => {
                        tracing::error!(portal = %address, %error, "cannot accept any more");
                        self.control.lose_listener(index);
                        break;
                    }
                }
            }
            index += 1;
        }
    }

    fn accept_at(&self, index: usize) -> Accepted {
        self.control.listening(index).map_or(Accepted::Nobody, |listening| accept(listening.listener))
    }

    fn accepted(&mut self, socket: OwnedFd, peer: SocketAddr, portal_group: u16, at: SocketAddr, now: Tick) {
        let local = rustix::net::getsockname(&socket).ok().and_then(|local| SocketAddr::try_from(local).ok());
        self.control.accepted(socket, Origin { peer, local: local.unwrap_or(at), portal_group }, now);
    }

    /// No descriptor is left. A connection that is not accepted would go on ending every wait, so it is accepted with
    /// the descriptor held in reserve, and closed.
    fn shed(&mut self, index: usize, error: &io::Error) {
        let had_reserve = self.reserve.take().is_some();
        if let Accepted::Connection { socket, peer } = self.accept_at(index) {
            drop(socket);
            self.control.turned_away(peer, error, self.now());
        }
        self.reserve = File::open("/dev/null").ok();
        if !had_reserve || self.reserve.is_none() {
            // The whole system is out of descriptors or memory. This is the one place where control waits for
            // something other than its network: else it would spin on the listener.
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// A stream that becomes readable at the first SIGTERM or SIGINT; the second ends the process.
fn watch_signals() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    let is_asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag clear, and sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_asked))?;
        signal_hook::flag::register(signal, Arc::clone(&is_asked))?;
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}
