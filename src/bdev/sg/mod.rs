//! SCSI devices of this host, passed through: what the kernel calls `/dev/sgN`.
//!
//! Commands go to the device as they came and its data, status and sense data come back as they are ([`Op::Pass`]); it can do
//! nothing else. The driver's asynchronous interface is used: written to by a helper thread, as that may sleep, and polled
//! by reactors, each of which has an open file, and with it a queue of commands, of its own.
//!
//! A device that is pulled out is looked for every second, by the thread of its own; where the very same is at its path again,
//! channels go on with that (`worker`), each when the kernel has answered what it had of the former file.
//!
//! Nothing is emulated here, with one exception: how much the device takes at once is told as the lesser of what it and the
//! way to it can do (`told`). READ and WRITE of more than the host adapter moves at once are done in parts.
//!
//! [`Op::Pass`]: super::Op::Pass

mod channel;
mod identify;
mod open;
mod slots;
mod told;
mod worker;

#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

pub use self::identify::About;
pub use self::open::{OpenError, is_generic};

use self::channel::SgChannel;
use self::identify::{CD_ROM, CHANGER, TAPE};
use self::open::Sg;
use self::worker::{Door, Worker};
use super::pass::{self, Cdb, Passes};
use super::{Bdev, Channel, Info, Offloads};
use crate::id::ReactorId;

/// Commands of one open file: the driver takes no more.
const FLIGHTS_MAX: usize = 16;
/// What takes long may take four hours.
const LONG_MS: u32 = 4 * 60 * 60 * 1000;
/// Of a tape or a changer nothing is quick: any command may wait for a rewind, or for a robot that is under way.
const MECHANICAL_MS: u32 = 15 * 60 * 1000;

/// What to pass through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// The operator's name for it.
    pub name: String,
    /// The device.
    pub path: PathBuf,
    /// Only commands that are known to change nothing are passed on.
    pub read_only: bool,
    /// How long a command may take that neither moves nor erases a medium; at a tape or a changer a quarter of an hour at least.
    pub timeout_ms: u32,
    /// What it said of itself when it was served first: another one that has its path by now is not served in its stead.
    pub uuid: Option<[u8; 16]>,
}

/// A device that is passed through. Until it was found by [`Bdev::probe`] it has no blocks, and its channels are opening.
#[derive(Debug)]
pub struct SgDisk {
    recipe: Recipe,
    shared: Arc<Shared>,
    finder: Finder,
}

/// What its channels share.
#[derive(Debug)]
struct Shared {
    timeout_ms: u32,
    /// Once the device was found.
    worker: OnceLock<Worker>,
}

impl Shared {
    /// The device as it was found last: not for reactors.
    fn latest(&self) -> Option<Arc<Opened>> {
        self.worker.get().map(Worker::latest)
    }
}

/// Finds a device.
#[derive(Clone, Debug)]
struct Finder {
    name: String,
    path: PathBuf,
    door: Arc<dyn OpensFirst>,
}

impl Finder {
    /// The device at the path, if it is this one, where that is known. It may block.
    fn find(&self, uuid: Option<[u8; 16]>) -> Result<Found, OpenError> {
        let (door, part_bytes_max) = self.door.open_first()?;
        let system = |source| OpenError::System { path: self.path.clone(), source };
        let about = door
            .open()
            .and_then(|file| identify::identify(std::os::fd::AsFd::as_fd(&file)))
            .map_err(system)?;
        if uuid.is_some_and(|uuid| uuid != about.uuid) {
            return Err(OpenError::Another { path: self.path.clone(), product: about.product });
        }
        Ok(Found { door, about, part_bytes_max })
    }
}

/// A device that was found.
struct Found {
    /// What opens it again.
    door: Arc<dyn Door>,
    about: About,
    /// What the host adapter moves by one command.
    part_bytes_max: u32,
}

/// What is known of a device that was found.
#[derive(Debug)]
struct Opened {
    /// How often it had been found then.
    round: u64,
    about: About,
    part_bytes_max: u32,
}

/// Opens the device when it is not known yet which one it is.
trait OpensFirst: Send + Sync + std::fmt::Debug {
    /// What opens the very same again, and what the host adapter moves at once.
    fn open_first(&self) -> Result<(Arc<dyn Door>, u32), OpenError>;
}

impl SgDisk {
    /// A device that is not open yet. It touches nothing.
    pub fn new(recipe: Recipe) -> SgDisk {
        let door = Arc::new(Sg(recipe.path.clone()));
        SgDisk::behind(recipe, door)
    }

    fn behind(recipe: Recipe, door: Arc<dyn OpensFirst>) -> SgDisk {
        let shared = Arc::new(Shared { timeout_ms: recipe.timeout_ms, worker: OnceLock::new() });
        let finder = Finder { name: recipe.name.clone(), path: recipe.path.clone(), door };
        SgDisk { recipe, shared, finder }
    }

    /// Finds the device, where that was not done. It may block: for helper threads.
    ///
    /// # Errors
    /// It is not there, another one is, or it is none that can be passed through.
    pub fn find(&self) -> Result<(), OpenError> {
        if self.shared.worker.get().is_none() {
            let found = self.finder.find(self.recipe.uuid)?;
            let system = |source| OpenError::System { path: self.recipe.path.clone(), source };
            let worker = Worker::start(found, self.finder.clone()).map_err(system)?;
            // Two at once find the same.
            let _ = self.shared.worker.set(worker);
        }
        Ok(())
    }

    /// What is known of it, once it was found.
    pub fn about(&self) -> Option<About> {
        self.shared.latest().map(|opened| opened.about.clone())
    }
}

impl Opened {
    /// Bytes of a block, where there are blocks that a unit can have. Of a drive that was empty when it was found they are the usual
    /// ones: where its medium has others, a command's data are no such blocks, and it is not cut.
    fn block_bytes(&self) -> Option<u32> {
        let About { device_type, capacity, .. } = self.about;
        let usual =
            identify::has_blocks(device_type).then_some(if device_type == CD_ROM { 2048 } else { 512 });
        let is_fit = |bytes: &u32| matches!(bytes, 512 | 1024 | 2048 | 4096);
        capacity.map_or(usual, |(_, block_bytes)| Some(block_bytes).filter(is_fit))
    }

    /// What the device is asked for behind `done_bytes` of a command of `bytes`: all that is left, unless it can be cut and has to.
    fn part(&self, cdb: &Cdb, done_bytes: u32, bytes: u32) -> (Cdb, u32) {
        let left = bytes - done_bytes;
        let whole = (*cdb, left);
        let Some(block_bytes) = self.block_bytes() else { return whole };
        let blocks_max = self.part_bytes_max / block_bytes;
        let is_agreed = pass::blocks(cdb)
            .and_then(|blocks| blocks.checked_mul(block_bytes))
            .is_some_and(|of_blocks| of_blocks == bytes);
        if !is_agreed || bytes <= self.part_bytes_max || blocks_max == 0 {
            return whole;
        }
        let blocks = (left / block_bytes).min(blocks_max);
        (pass::piece(cdb, done_bytes / block_bytes, blocks), blocks * block_bytes)
    }

    fn timeout_ms(&self, cdb: &Cdb, usual_ms: u32) -> u32 {
        match self.about.device_type {
            _ if told::takes_long(cdb) => LONG_MS.max(usual_ms),
            TAPE | CHANGER => MECHANICAL_MS.max(usual_ms),
            _ => usual_ms,
        }
    }
}

impl Bdev for SgDisk {
    fn info(&self) -> Info {
        let opened = self.shared.latest();
        let block_bytes = opened.as_ref().and_then(|opened| opened.block_bytes());
        let blocks = opened.as_ref().map_or(0, |opened| match (block_bytes, opened.about.capacity) {
            (Some(_), Some((blocks, _))) => blocks.max(1),
            // It is there, and nobody asks it for blocks.
            _ => 1,
        });
        Info {
            name: self.recipe.name.clone(),
            blocks,
            block_bytes: block_bytes.unwrap_or(512),
            physical_block_bytes: block_bytes.unwrap_or(512),
            read_only: self.recipe.read_only,
            write_cache: false,
            rotational: false,
            uuid: opened.map_or(self.recipe.uuid.unwrap_or_default(), |opened| opened.about.uuid),
            unmap: None,
            offloads: Offloads::default(),
            protection: None,
            passes: Some(Passes { is_blocks: block_bytes.is_some() }),
        }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(SgChannel::new(Arc::clone(&self.shared)))
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.find()?)
    }
}
