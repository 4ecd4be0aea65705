//! A disk that is a regular file or a block device, by io_uring.
//!
//! Each channel has a ring of its own; all of them use one open file description, past the page cache (O_DIRECT) where
//! the file system lets us. Opening and looking at the size may block and are for a helper thread ([`Bdev::probe`]); a
//! channel that serves makes no other system call than `io_uring_enter`, which does not wait. Where the file is memory, it
//! copies by itself (`at_once`).
//!
//! What it reports as done is durable when it was written with FUA or flushed since; O_DIRECT alone is not. A failed
//! flush **latches** for all channels (`verdict`): what the kernel could not write it may have forgotten, and a second fsync
//! would say that all is well. From then on only reads are served, until the disk is opened anew ([`FileDisk::reopen`]).
//!
//! It cannot be fenced: what the kernel has, it keeps until the device answers.

mod aside;
mod at_once;
mod channel;
mod extents;
mod fiemap;
mod job;
mod lack;
mod lock;
mod open;
mod refusal;
mod reopen;
mod ring;
pub(super) mod sysfs;
mod term;
#[cfg(test)]
mod tests;
mod verdict;

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

pub use self::aside::Opening;
pub use self::open::{Own, own};
pub(in crate::bdev) use self::open::{machine_uuid, uuid_of};
pub use self::refusal::OpenError;
pub use self::reopen::Left;

use self::channel::FileChannel;
use self::open::Habits;
use self::reopen::{Former, Origin};
use self::term::Term;
use super::allocation::Allocation;
use super::space::Space;
use super::{Bdev, Channel, Info, Offloads, Unmap};
use crate::id::ReactorId;

/// Block size of a regular file, unless given.
const BLOCK_BYTES: u32 = 512;
/// So long another opener gets to leave: a daemon that is restarted meets its predecessor.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const HABITS: Habits = Habits { lock_patience: LOCK_PATIENCE, direct: true };

/// When a write is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    /// When the system has it; a flush or FUA makes it durable.
    WriteBack,
    /// When it is durable.
    WriteThrough,
}

/// What to make a disk of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// The operator's name for it.
    pub name: String,
    /// The file or block device.
    pub path: PathBuf,
    /// Where no such file is, make one of this size: sparse. One that is there must have it, or be empty.
    pub create_bytes: Option<u64>,
    /// 512, 1024, 2048 or 4096; unless given 512 for files, and a block device's own.
    pub block_bytes: Option<u32>,
    /// When a write is done.
    pub cache: Cache,
    /// Writes are refused, and the file is opened for reading only.
    pub read_only: bool,
    /// What names the medium, where that was saved; else it is made from the machine, the device and the inode.
    pub uuid: Option<[u8; 16]>,
}

impl Recipe {
    fn is_write_through(&self) -> bool {
        self.cache == Cache::WriteThrough
    }
}

/// A disk that is a file. Until its medium was opened by [`Bdev::probe`] it has no blocks, and its channels are opening.
#[derive(Debug)]
pub struct FileDisk {
    recipe: Arc<Recipe>,
    /// The present one.
    #[expect(
        clippy::disallowed_types,
        reason = "held for an assignment; reactors ask once for each channel"
    )]
    term: std::sync::Mutex<Arc<Term>>,
    #[expect(clippy::disallowed_types, reason = "helper threads only: one of them opens at a time")]
    opening: std::sync::Mutex<Opener>,
    /// Set when it was opened for the first time.
    origin: OnceLock<Origin>,
    space: Arc<Space>,
    habits: Habits,
}

/// What whoever opens the medium has to know.
#[derive(Debug, Default)]
struct Opener {
    former: Option<Former>,
    /// It was closed, and is to stay so for now.
    is_held: bool,
}

/// Block sizes that there are.
fn check_block_bytes(block_bytes: u32) -> Result<(), OpenError> {
    if matches!(block_bytes, 512 | 1024 | 2048 | 4096) {
        return Ok(());
    }
    Err(OpenError::BlockBytes(block_bytes))
}

impl FileDisk {
    /// A disk that is not open yet. It touches nothing.
    pub fn new(recipe: Recipe) -> Result<FileDisk, OpenError> {
        let block_bytes = recipe.block_bytes.unwrap_or(BLOCK_BYTES);
        check_block_bytes(block_bytes)?;
        if let Some(bytes) = recipe.create_bytes
            && (bytes == 0 || !bytes.is_multiple_of(u64::from(block_bytes)))
        {
            return Err(OpenError::CreateBytes { bytes, block_bytes });
        }
        let recipe = Arc::new(recipe);
        let term = Arc::new(Term::new(Arc::clone(&recipe)));
        let origin = OnceLock::new();
        let (opening, space) = (Default::default(), Arc::default());
        Ok(FileDisk { recipe, term: term.into(), opening, origin, space, habits: HABITS })
    }

    /// Opens the medium, or reads the size of an open one anew. It may block: for helper threads.
    pub fn open_or_rescan(&self) -> Result<(), OpenError> {
        self.open_with(self.habits)
    }

    fn open_with(&self, habits: Habits) -> Result<(), OpenError> {
        let mut opening = self.opening();
        let term = self.term();
        match term.medium.get() {
            None => drop(self.open_medium(&mut opening, habits)?),
            Some(medium) => {
                term.blocks.store(medium.blocks(&self.recipe.path)?, Ordering::Relaxed);
                self.measure();
            }
        }
        Ok(())
    }

    /// Whether the page cache is in between, as the file system has no direct IO; none while it is not open.
    pub fn is_buffered(&self) -> Option<bool> {
        Some(!self.term().medium.get()?.is_direct)
    }

    /// Whether a flush has failed: then only reads are served, until the disk is opened anew.
    pub fn is_flush_failed(&self) -> bool {
        self.term().verdict.is_failed()
    }

    fn term(&self) -> Arc<Term> {
        Arc::clone(&self.term_mut())
    }

    fn term_mut(&self) -> std::sync::MutexGuard<'_, Arc<Term>> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> std::sync::MutexGuard<'_, Opener> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bdev for FileDisk {
    fn info(&self) -> Info {
        let (recipe, term) = (&self.recipe, self.term());
        let (medium, origin) = (term.medium.get(), self.origin.get());
        // Of a medium that was closed, who it is stays known.
        let block_bytes =
            origin.map_or(recipe.block_bytes.unwrap_or(BLOCK_BYTES), |origin| origin.block_bytes);
        let anchors = medium.is_some_and(|medium| medium.anchors);
        let unmap = medium.and_then(|medium| medium.hole_bytes).map(|bytes| {
            let granularity_blocks = u32::try_from(bytes / u64::from(block_bytes)).unwrap_or(1).max(1);
            Unmap { granularity_blocks, reads_zeroes: true, anchors }
        });
        Info {
            name: recipe.name.clone(),
            blocks: term.blocks.load(Ordering::Relaxed),
            block_bytes,
            physical_block_bytes: medium.map_or(block_bytes, |medium| medium.physical_block_bytes),
            read_only: recipe.read_only,
            write_cache: recipe.cache == Cache::WriteBack && !recipe.read_only,
            rotational: medium.is_some_and(|medium| medium.rotational),
            uuid: origin.map_or(recipe.uuid.unwrap_or_default(), |origin| origin.uuid),
            unmap,
            offloads: Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(FileChannel::new(self.term(), reactor))
    }

    /// Also where a channel lacks its ring: it looks for one by itself, and who asks here is told why.
    fn is_awaited(&self) -> bool {
        let term = self.term();
        term.blocks.load(Ordering::Relaxed) == 0 || term.rings.lacking().is_some()
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        // Whoever looks for media does so again soon.
        self.open_with(Habits { lock_patience: Duration::ZERO, ..self.habits })?;
        match self.term().rings.lacking() {
            Some(source) => Err(OpenError::NoRing { path: self.recipe.path.clone(), source }.into()),
            None => Ok(()),
        }
    }

    fn own(&self) -> Option<[u8; 16]> {
        self.origin.get()?.lasting
    }

    /// A file's is its file system's. What a block device is made of does not tell.
    fn space(&self) -> Option<Arc<Space>> {
        self.term().medium.get().filter(|medium| !medium.is_device()).map(|_| Arc::clone(&self.space))
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        self.term().medium.get().map(|medium| medium.allocation(lba, blocks)).unwrap_or_default()
    }

    fn measure(&self) {
        // One that cannot be measured now keeps the figures that it had.
        if let Some(figures) = self.term().medium.get().and_then(|medium| medium.space()) {
            self.space.set(figures);
        }
    }
}
