//! A mock controller on a thread of its own, with the driver above it as it really runs: for tests with real reactors.
#![expect(clippy::disallowed_methods, reason = "a thread of tests")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::TimeOuts;
use super::controller::shared::Options;
use super::mock::{Config, Fault, Medium, Mock, Note};
use super::namespace::{NvmeBdev, Tenant};
use super::pci::PciTransport;
use super::thread::Handle;
use crate::bdev::Bdev;
use crate::sim::rng::Rng;
use crate::time::SECOND_NS;

/// The controller comes up, and goes, within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a controller without anything to do sleeps at most: it is woken when a register is written.
const NAP: Duration = Duration::from_millis(1);
/// Nothing that is served here takes so long, however busy the machine is.
const TIMES: TimeOuts = TimeOuts { command_ns: 60 * SECOND_NS, abort_ns: 10 * SECOND_NS };

/// Lanes are found by their controller's number.
static NUMBERS: AtomicU64 = AtomicU64::new(1 << 48);

/// A command that the controller has taken from an IO queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its opcode (NVM §3).
    pub opcode: u8,
    /// Which half of a fused operation it is: 1 or 2; 0 where it is none.
    pub fuse: u8,
    /// Its first block.
    pub lba: u64,
    /// How many.
    pub blocks: u32,
}

/// A controller with one namespace.
pub struct Served {
    mock: Mock,
    handle: Arc<Handle>,
    number: u64,
    is_over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    /// Brings up a controller that moves at most 64 KiB per command, for so many reactors.
    ///
    /// # Errors
    /// Where the driver does not come up: why.
    pub fn start(reactors: u16, blocks: u64, block_bytes: usize) -> Result<Served, String> {
        Served::start_with(reactors, blocks, block_bytes, None)
    }

    /// The same of a controller that knows FORMAT NVM, where its FNA is given.
    ///
    /// # Errors
    /// Where the driver does not come up: why.
    pub fn start_with(
        reactors: u16,
        blocks: u64,
        block_bytes: usize,
        format: Option<u8>,
    ) -> Result<Served, String> {
        let mock = Mock::new(Config { mdts: 4, format, ..Config::default() }, 1);
        mock.attach(1, Medium::new(blocks, block_bytes));
        let is_over = Arc::new(AtomicBool::new(false));
        let (its, ends) = (mock.clone(), Arc::clone(&is_over));
        let server = std::thread::spawn(move || {
            let mut rng = Rng::new(1);
            while !ends.load(Ordering::Relaxed) {
                if !its.step(&mut rng) {
                    std::thread::park_timeout(NAP);
                }
            }
        });
        mock.wakes(server.thread().clone());
        let transport = Box::new(PciTransport::new(Arc::new(mock.clone()), "mock"));
        let handle = Handle::attach(transport, Options::pcie("mock".to_owned(), reactors), Arc::new(|_| ()))?;
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let served = Served { mock, handle: Arc::new(handle), number, is_over, server: Some(server) };
        served.handle.wait_attached(PATIENCE)?;
        Ok(served)
    }

    /// Its namespace; none where it is gone.
    pub fn bdev(&self) -> Option<Arc<dyn Bdev>> {
        let shared = Arc::clone(self.handle.shared());
        let disk = shared.disks().into_iter().next()?;
        let [handle, asked, erasing] = [(); 3].map(|()| Arc::clone(&self.handle));
        let tenant = Tenant {
            controller: self.number,
            shared,
            disk,
            times: TIMES,
            connect: Arc::new(move |reactor| handle.port(reactor)),
            ask: Arc::new(move |query| asked.query(query, PATIENCE)),
            erase: Arc::new(move |wanted| erasing.erase(wanted)),
        };
        Some(Arc::new(NvmeBdev::new("nvme".to_owned(), tenant)))
    }

    /// What the controller has taken since the last call; from the first call on it is written down.
    pub fn taken(&self) -> Vec<Taken> {
        let taken = |note| match note {
            Note::Taken { opcode, fuse, lba, blocks, .. } => Some(Taken { opcode, fuse, lba, blocks }),
            Note::Enabled => None,
        };
        self.mock.take_notes().into_iter().filter_map(taken).collect()
    }

    /// Whether FORMAT NVM fails from now on.
    pub fn fail_formats(&self, do_fail: bool) {
        if do_fail { self.mock.misbehave(Fault::FormatFails, 1) } else { self.mock.behave() }
    }

    /// What the driver did wrong.
    pub fn violations(&self) -> Vec<String> {
        self.mock.violations()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Where it does not go the memory that it may write to is kept; it writes nothing once its thread has ended.
        let _ = self.handle.detach(PATIENCE);
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            server.thread().unpark();
            let _ = server.join();
        }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("mock", &self.mock).finish_non_exhaustive()
    }
}
