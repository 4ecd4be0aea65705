//! What the rest of the process sees of a controller, and how it is told of changes.
#![expect(
    clippy::disallowed_types,
    reason = "control and the controller's thread only; reactors read atomics"
)]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use sha2::{Digest, Sha256};

use super::super::port::{Port, Reply};
use super::super::spec::identify::{self, Namespace};
use super::super::transport::Limits;
pub(crate) use super::erase::Wanted;
pub(crate) use super::logs::{ErrorEntry, Health};
use crate::time::{MS_NS, SECOND_NS};

/// The longest that a controller may take to erase a namespace.
const ERASE_NS: u64 = 4 * 3600 * SECOND_NS;

/// How often a controller that does not come up is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// So many times in a row, with a reset from outside in between (PCIe).
    Tries(u32),
    /// For so long after it was lost, for ever where that is none, with a pause after each try (fabrics). It is tried once
    /// only when it is attached.
    Time {
        /// How long.
        total_ns: Option<u64>,
        /// The pause.
        pause_ns: u64,
    },
}

/// How a controller is driven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// The operator's name for it.
    pub(crate) name: String,
    /// Pairs of IO queues that it must grant: one for each reactor.
    pub(crate) reactors: u16,
    /// How often it is tried.
    pub(crate) patience: Patience,
    /// An admin command has so long.
    pub(crate) admin_ns: u64,
    /// To erase a namespace it has so long, and whatever else it is asked meanwhile.
    pub(crate) erase_ns: u64,
    /// Keep-alive time-out, for transports that want one.
    pub(crate) keep_alive_ms: u32,
}

impl Options {
    /// For a controller on the PCIe bus.
    pub(crate) fn pcie(name: String, reactors: u16) -> Options {
        Options {
            name,
            reactors,
            patience: Patience::Tries(2),
            admin_ns: 10 * SECOND_NS,
            erase_ns: ERASE_NS,
            keep_alive_ms: 10_000,
        }
    }

    /// For a controller behind a network.
    pub(crate) fn fabrics(name: String, reactors: u16, loss_ns: Option<u64>) -> Options {
        let patience = Patience::Time { total_ns: loss_ns, pause_ns: 2000 * MS_NS };
        Options { patience, ..Options::pcie(name, reactors) }
    }
}

/// Where a controller is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// It has not worked yet.
    Attaching,
    /// It works.
    Running,
    /// It is being reset, or reached for again.
    Recovering,
    /// It is gone for good, or never came: why.
    Gone(String),
    /// It was given back.
    Detached,
}

/// What a controller that works says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct About {
    /// Its answer to Identify.
    pub(crate) identity: identify::Controller,
    /// What it allows.
    pub(crate) limits: Limits,
    /// What it allows of commands that move no data.
    pub(crate) nvm: identify::NvmLimits,
    /// Pairs of IO queues that it granted.
    pub(crate) queues: u16,
    /// Where it is: [`super::super::transport::Transport::name`].
    pub(crate) place: String,
}

/// By what a namespace is known, all zeroes where it has no such name.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Identity {
    /// UUID.
    pub(crate) uuid: [u8; 16],
    /// NGUID.
    pub(crate) nguid: [u8; 16],
    /// EUI-64.
    pub(crate) eui64: [u8; 8],
}

impl Identity {
    /// A name for the medium for ever: its UUID or NGUID, or else one made of its EUI-64, or of its controller's serial
    /// number and its own number (RFC 9562 §5.8).
    pub(crate) fn name(&self, controller: &identify::Controller, nsid: u32) -> [u8; 16] {
        if self.uuid != [0; 16] {
            return self.uuid;
        }
        if self.nguid != [0; 16] {
            return self.nguid;
        }
        let hash = Sha256::new().chain_update("lunette namespace\0");
        let hash = if self.eui64 == [0; 8] {
            let hash =
                hash.chain_update(&controller.model).chain_update("\0").chain_update(&controller.serial);
            hash.chain_update("\0").chain_update(nsid.to_le_bytes())
        } else {
            hash.chain_update(self.eui64)
        };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&hash.finalize()[..16]);
        uuid[6] = (uuid[6] & 0x0f) | 0x80;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        uuid
    }
}

/// A namespace, for as long as it is the same medium: what comes later under its number is another `Disk`.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Its number.
    pub(crate) nsid: u32,
    /// By what it is known.
    pub(crate) identity: Identity,
    /// [`Identity::name`].
    pub(crate) uuid: [u8; 16],
    is_removed: AtomicBool,
    /// As in `namespace`.
    blocks: AtomicU64,
    namespace: Mutex<Namespace>,
}

impl Disk {
    pub(in crate::bdev::nvme) fn new(
        nsid: u32,
        identity: Identity,
        uuid: [u8; 16],
        namespace: Namespace,
    ) -> Disk {
        let blocks = AtomicU64::new(namespace.blocks);
        Disk {
            nsid,
            identity,
            uuid,
            is_removed: AtomicBool::new(false),
            blocks,
            namespace: Mutex::new(namespace),
        }
    }

    /// Whether it was taken away for good: its number may belong to another medium. Reactors may ask.
    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// Its size, as of the last look. Reactors may ask.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    /// What it says of itself, as of the last look. Not for reactors.
    pub(crate) fn namespace(&self) -> Namespace {
        *lock(&self.namespace)
    }

    pub(super) fn set(&self, namespace: Namespace) {
        *lock(&self.namespace) = namespace;
        self.blocks.store(namespace.blocks, Ordering::Release);
    }

    pub(in crate::bdev::nvme) fn remove(&self) {
        self.is_removed.store(true, Ordering::Release);
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Severity {
    /// Good to know.
    Info,
    /// Something went wrong, and was dealt with.
    Warn,
    /// The operator has to do something.
    Error,
}

/// What happened to a controller.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A namespace is there.
    Attached(Arc<Disk>),
    /// Its size is another.
    Resized(Arc<Disk>),
    /// It is gone for good.
    Removed(Arc<Disk>),
    /// The controller does not work at the moment.
    Lost,
    /// It works again.
    Recovered,
    /// It is gone for good; its namespaces were removed before.
    Gone,
    /// A line for the log.
    Said(Severity, String),
}

/// Who is told of events, on the controller's thread: it must not wait for that thread.
pub(crate) type Hook = Arc<dyn Fn(Event) + Send + Sync>;

/// What a controller can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Query {
    /// How its health is (log page 02h).
    Health,
    /// Its error log (01h).
    Errors,
}

/// The answer to a [`Query`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// To [`Query::Health`].
    Health(Health),
    /// To [`Query::Errors`], the newest first.
    Errors(Vec<ErrorEntry>),
}

/// What the rest of the process wants of the controller's thread.
#[derive(Debug)]
pub(crate) enum Order {
    /// An answer.
    Query(Query, mpsc::Sender<Result<Answer, String>>),
    /// A namespace erased. What came of it is told within hours, or when the controller is reset or given back.
    Erase(Wanted, mpsc::Sender<Result<(), String>>),
    /// Look at the namespaces again.
    Rescan,
    /// Reset the controller.
    Reset,
    /// Give the controller back.
    Detach,
}

#[derive(Debug)]
struct Published {
    life: Life,
    about: Option<Arc<About>>,
    disks: Vec<Arc<Disk>>,
}

/// What the controller's thread shares.
pub(crate) struct Shared {
    published: Mutex<Published>,
    changed: Condvar,
    pub(super) ports: SegQueue<Arc<Port>>,
    pub(super) orders: SegQueue<Order>,
    is_over: AtomicBool,
}

impl Shared {
    pub(crate) fn new() -> Shared {
        let published = Published { life: Life::Attaching, about: None, disks: Vec::new() };
        Shared {
            published: Mutex::new(published),
            changed: Condvar::new(),
            ports: SegQueue::new(),
            orders: SegQueue::new(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Of a controller that could not be reached: why.
    pub(crate) fn gone(why: String) -> Shared {
        let shared = Shared::new();
        shared.set_life(Life::Gone(why));
        shared.set_over();
        shared
    }

    /// Where it is in its life.
    pub(crate) fn life(&self) -> Life {
        lock(&self.published).life.clone()
    }

    /// What it says of itself; none where it has not worked yet.
    pub(crate) fn about(&self) -> Option<Arc<About>> {
        lock(&self.published).about.clone()
    }

    /// Its namespaces, in the order of their numbers.
    pub(crate) fn disks(&self) -> Vec<Arc<Disk>> {
        lock(&self.published).disks.clone()
    }

    /// Waits until its life is one that `is_it` says; the life it has then, which may be another when `patience` is over.
    pub(crate) fn wait(&self, patience: Duration, is_it: impl Fn(&Life) -> bool) -> Life {
        let published = lock(&self.published);
        let waited =
            self.changed.wait_timeout_while(published, patience, |published| !is_it(&published.life));
        waited.unwrap_or_else(PoisonError::into_inner).0.life.clone()
    }

    /// Waits until nothing of the controller's can touch memory any more; false where that takes longer.
    pub(crate) fn wait_over(&self, patience: Duration) -> bool {
        let published = lock(&self.published);
        let waited = self.changed.wait_timeout_while(published, patience, |_| !self.is_over());
        drop(waited);
        self.is_over()
    }

    /// Whether nothing of the controller's can touch memory any more, for good.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// A lane's port is served from now on. It is told at once where the controller is gone. Reactors may do this.
    pub(crate) fn register(&self, port: Arc<Port>) {
        self.ports.push(port);
        self.refuse_late();
    }

    /// The controller's thread is to do this. Nothing comes of it where the controller is gone.
    pub(crate) fn order(&self, order: Order) {
        self.orders.push(order);
        self.refuse_late();
    }

    fn refuse_late(&self) {
        if self.is_over() {
            while let Some(port) = self.ports.pop() {
                // A new port has room.
                let _ = port.answer(Reply::Gone);
            }
            while self.orders.pop().is_some() {}
        }
    }

    pub(super) fn set_life(&self, life: Life) {
        lock(&self.published).life = life;
        self.changed.notify_all();
    }

    pub(super) fn set_about(&self, about: About) {
        lock(&self.published).about = Some(Arc::new(about));
    }

    pub(super) fn set_disks(&self, disks: Vec<Arc<Disk>>) {
        lock(&self.published).disks = disks;
    }

    /// The controller has been dropped after its end. Lanes and orders that come later are refused at once.
    pub(crate) fn set_over(&self) {
        self.is_over.store(true, Ordering::Release);
        self.refuse_late();
        drop(lock(&self.published));
        self.changed.notify_all();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("published", &self.published).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
