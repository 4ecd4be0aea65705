//! A reactor's thread: pinning, the clock, and what it does when there is nothing to do.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::buf::{Class, Hugepages, MapFailed, Memory, Pages, Pool};
use crate::id::ReactorId;
use crate::limits;
use crate::meter::ReactorMeter;
use crate::net::kernel::KernelNet;
use crate::net::wake::WakeFd;
use crate::net::{Net, Wait};
use crate::reactor::message::{ToControl, ToReactor};
use crate::reactor::port::{Receiver, Sender};
use crate::reactor::spin::Spin;
use crate::reactor::turn::{Reactor, Setup};
use crate::reactor::{Planted, Sizes};
use crate::time::Tick;

/// What a reactor does when there is nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Poll on: for a core of its own.
    Spin,
    /// Poll for [`limits::SPIN_NS`] where work has come within that, then wait in the kernel.
    #[default]
    Adaptive,
    /// Wait in the kernel at once.
    Park,
}

/// What a reactor is made from, on its own thread: the recipe crosses, the reactor never does.
#[derive(Debug)]
pub struct Recipe {
    /// Its number.
    pub id: ReactorId,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// What it does when there is nothing to do.
    pub idle: Idle,
    /// What its buffers are made of.
    pub hugepages: Hugepages,
    /// How much memory its buffers get, in bytes; at least [`limits::POOL_BYTES_MIN`].
    pub pool_bytes: usize,
    /// The start of time.
    pub epoch: Instant,
    /// Messages from control and from other reactors.
    pub inbox: Receiver<ToReactor<OwnedFd>>,
    /// What wakes it for them.
    pub wake: WakeFd,
    /// Messages to control.
    pub to_control: Sender<ToControl>,
    /// Messages to each reactor, in their order; its own is not used.
    pub peers: Vec<Sender<ToReactor<OwnedFd>>>,
    /// The bug planted in it.
    pub planted: Planted,
}

/// Why a reactor could not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No memory for its buffers.
    #[error("reactor {}: {source}", .reactor.0)]
    Memory {
        /// Which.
        reactor: ReactorId,
        /// What the kernel said.
        source: MapFailed,
    },
    /// No thread, or no descriptors.
    #[error("reactor {}: {source}", .reactor.0)]
    Os {
        /// Which.
        reactor: ReactorId,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A reactor that runs.
#[derive(Debug)]
pub struct Running {
    /// Its thread; it ends after [`ToControl::Stopped`].
    pub thread: JoinHandle<()>,
    /// What its buffers are made of.
    pub pages: Pages,
    /// Where it counts what it does.
    pub meter: Arc<ReactorMeter>,
}

/// Starts a reactor. Its buffers are mapped before this returns.
///
/// # Errors
/// Where the system has no memory (or, if required, no hugepages), threads or descriptors left.
pub fn spawn(recipe: Recipe) -> Result<Running, SpawnError> {
    let id = recipe.id;
    let memory = |source| SpawnError::Memory { reactor: id, source };
    let os = |source| SpawnError::Os { reactor: id, source };
    let classes = classes(recipe.pool_bytes / 2);
    let map = || Memory::map_preferring_huge(Pool::bytes_needed(&classes), recipe.hugepages, Memory::map);
    let (unsolicited, solicited) = (map().map_err(memory)?, map().map_err(memory)?);
    let pages = solicited.pages();
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let net = match network(&recipe.wake) {
            Ok(net) => net,
            Err(error) => return drop(ready.send(Err(error))),
        };
        if let Some(cpu) = recipe.cpu {
            core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
        }
        let reactor = Reactor::new(Setup {
            id,
            net,
            inbox: recipe.inbox,
            to_control: recipe.to_control,
            peers: recipe.peers,
            unsolicited: Pool::new(unsolicited, &classes),
            solicited: Pool::new(solicited, &classes),
            sizes: Sizes::default(),
            planted: recipe.planted,
        });
        drop(ready.send(Ok(Arc::clone(reactor.meter()))));
        run(reactor, recipe.idle, &recipe.wake, recipe.epoch);
    };
    let thread = std::thread::Builder::new().name(format!("reactor-{}", id.0)).spawn(run).map_err(os)?;
    let gone = || io::Error::other("its thread ended at once");
    let meter = is_ready.recv().unwrap_or_else(|_| Err(gone())).map_err(os)?;
    Ok(Running { thread, pages, meter })
}

fn network(wake: &WakeFd) -> io::Result<KernelNet> {
    let mut net = KernelNet::new(limits::CONNS_MAX)?;
    net.register(wake.raw())?;
    Ok(net)
}

/// Turns until the reactor has stopped.
fn run(mut reactor: Reactor<KernelNet>, idle: Idle, wake: &WakeFd, epoch: Instant) {
    let now = || Tick::from_ns(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let meter = Arc::clone(reactor.meter());
    let mut spin = Spin::new(idle);
    let mut worked_at = now();
    // The beginning of the last turn, if there was something to do: it ended when the next begins.
    let mut began = None;
    while !reactor.is_stopped() {
        let at = now();
        let last_began = began.take();
        if let Some(began) = last_began {
            meter.turns.add(at.since_ns(began));
        }
        if reactor.turn(at) {
            if last_began.is_none() {
                spin.learn(at.since_ns(worked_at));
            }
            worked_at = at;
            began = Some(at);
            continue;
        }
        // The turn that says so may have had nothing else to do: no message would end a wait any more.
        if reactor.is_stopped() {
            break;
        }
        let wait = if spin.is_over(at.since_ns(worked_at)) { reactor.may_wait(at) } else { Wait::Poll };
        if wait == Wait::Poll {
            std::hint::spin_loop();
        } else {
            meter.waits.add(1);
            reactor.wait(wait);
            wake.drain();
        }
    }
}

/// The buffers that `bytes` make: half of the memory in the largest, an eighth in the smallest.
fn classes(bytes: usize) -> [Class; 4] {
    const KIB: usize = 1024;
    [(4 * KIB, 8), (16 * KIB, 8), (64 * KIB, 4), (limits::PIECE_BYTES_MAX as usize, 2)]
        .map(|(size, share)| Class { bytes: size, count: (bytes / share / size).max(1) })
}
