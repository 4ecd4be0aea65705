//! Any bdev of SPDK's as a disk: the feature `spdk`, with an SPDK that is installed.
//!
//! [`Spdk::start`] brings SPDK up from a configuration in SPDK's own form, without SPDK's event framework: a thread of lunette's
//! (`caretaker`) runs SPDK's first thread, and each reactor has one of SPDK's threads to itself (`seat`), which it polls once in a
//! turn while it has IO in it. Reactors open and close their channels by messages (`line`).
//!
//! What it does not do: blocks with metadata or protection information, zoned bdevs, bdevs that take whole stripes only. Blocks
//! that must stay alone (COMPARE AND WRITE) are kept so by lunette's own holds. DMA by devices on PCI reaches memory that SPDK has
//! registered; other memory is copied (`dma`).

mod caretaker;
mod channel;
mod disk;
mod dma;
mod environment;
mod flight;
mod line;
mod log;
mod seat;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use rustix::io::Errno;

pub use self::disk::Notice;
pub use self::log::Severity;

use self::caretaker::{Order, Setup};
use self::channel::SpdkChannel;
use self::disk::Disk;
use self::environment::Needs;
use self::line::Line;
use super::{Bdev, Channel, Info};
use crate::buf::Hugepages;
use crate::id::ReactorId;

/// What to start SPDK with.
#[derive(Clone, Debug)]
pub struct Options {
    /// A configuration as SPDK's programs save it: JSON.
    pub config: Vec<u8>,
    /// What SPDK's memory is made of. Without hugepages there is no PCI.
    pub hugepages: Hugepages,
    /// How much memory SPDK takes at its start; unless given as much as it asks for, and 1024 MiB without hugepages.
    pub memory_mib: Option<u32>,
    /// Gets the lines of SPDK's log, on a thread of its own.
    pub log: fn(Severity, &str),
}

/// Why SPDK does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was started before.
    #[error("SPDK can be started once only")]
    Again,
    /// No thread, or no say in where it runs.
    #[error("the kernel refused what SPDK needs: {0}")]
    System(Errno),
    /// No thread.
    #[error("the kernel refused a thread for SPDK: {0}")]
    Thread(io::Error),
    /// A part of SPDK does not come up.
    #[error("SPDK's {what} did not come up: {errno}; the log has what SPDK says")]
    Spdk {
        /// Which.
        what: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// A call in the configuration failed.
    #[error("SPDK refuses the configuration; the log has what SPDK says")]
    Config,
    /// A bdev cannot be opened.
    #[error("SPDK's bdev {name} cannot be opened: {errno}")]
    Open {
        /// Which.
        name: String,
        /// What SPDK said.
        errno: Errno,
    },
    /// The thread ended.
    #[error("SPDK's thread ended")]
    Ended,
}

/// SPDK, running; it is taken down when this is dropped. The disks are to be dropped before.
#[derive(Debug)]
pub struct Spdk {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What a start gives.
#[derive(Debug)]
pub struct Running {
    /// SPDK.
    pub spdk: Spdk,
    /// Every bdev that no other bdev is made of and that can be served, in SPDK's order.
    pub disks: Vec<Arc<SpdkDisk>>,
    /// What happens to them.
    pub notices: Receiver<Notice>,
}

/// What the caretaker tells when it has started.
#[derive(Debug)]
struct Started {
    disks: Vec<Arc<Disk>>,
    has_dma: bool,
}

/// SPDK is one for the process.
static IS_STARTED: AtomicBool = AtomicBool::new(false);

impl Spdk {
    /// Starts it, once for the process. It may take seconds.
    pub fn start(options: Options) -> Result<Running, StartError> {
        if IS_STARTED.swap(true, Ordering::Relaxed) {
            return Err(StartError::Again);
        }
        let (orders, orders_taken) = mpsc::channel();
        let (notices_given, notices) = mpsc::channel();
        let setup = Setup {
            config: options.config,
            needs: Needs { hugepages: options.hugepages, memory_mib: options.memory_mib },
            log: options.log,
            orders: orders_taken,
            notices: notices_given,
        };
        let (started, has_started) = mpsc::sync_channel(1);
        let run = move || caretaker::run(setup, &started);
        let thread =
            std::thread::Builder::new().name("spdk".to_owned()).spawn(run).map_err(StartError::Thread)?;
        let spdk = Spdk { orders: orders.clone(), thread: Some(thread) };
        let Started { disks, has_dma } = has_started.recv().map_err(|_| StartError::Ended)??;
        let disk = |disk| Arc::new(SpdkDisk { disk, orders: orders.clone(), needs_dma: has_dma });
        Ok(Running { spdk, disks: disks.into_iter().map(disk).collect(), notices })
    }

    /// What SPDK calls itself.
    pub fn version() -> String {
        environment::version()
    }
}

impl Drop for Spdk {
    fn drop(&mut self) {
        // One that has ended needs no order.
        let _ = self.orders.send(Order::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of its was told when it happened.
            let _ = thread.join();
        }
    }
}

/// A bdev of SPDK's.
#[derive(Debug)]
pub struct SpdkDisk {
    disk: Arc<Disk>,
    orders: Sender<Order>,
    needs_dma: bool,
}

impl SpdkDisk {
    /// What SPDK calls its kind.
    pub fn product(&self) -> &str {
        &self.disk.product
    }

    fn channel(&self, needs_dma: bool) -> Box<dyn Channel> {
        let line = Arc::new(Line::new(Arc::clone(&self.disk)));
        // Where the caretaker has ended it stays opening: the process ends.
        let _ = self.orders.send(Order::Open(Arc::clone(&line)));
        Box::new(SpdkChannel::new(line, self.orders.clone(), needs_dma))
    }
}

impl Bdev for SpdkDisk {
    fn info(&self) -> Info {
        self.disk.info()
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        self.channel(self.needs_dma)
    }
}

impl Drop for SpdkDisk {
    fn drop(&mut self) {
        // Where the caretaker has ended everything is closed.
        let _ = self.orders.send(Order::CloseDisk(Arc::clone(&self.disk)));
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Open(_) => "Open",
            Order::Close(_) => "Close",
            Order::CloseDisk(_) => "CloseDisk",
            #[cfg(test)]
            Order::Run(_) => "Run",
            Order::Stop => "Stop",
        })
    }
}
