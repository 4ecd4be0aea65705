//! Several devices that hold the same (RAID 1).
//!
//! What is safe here rests on these rules:
//! * **Who may be read is durable.** The state file has the members that are *current*: they have all that was answered GOOD. One that
//!   fails is taken out of it before the IO that it failed is answered. Members that are not current are never read, in this life or
//!   the next, before they were filled again.
//! * **The reader is written last** (`channel`): what was read once is on all members that may be read later. So there are no
//!   balanced reads: they would show what a member has and another one has not yet.
//! * **Changes of the same blocks come one after the other** (`regions`), so that all members have them in one order.
//! * **Dirty before different.** Before blocks are changed the state file says that members may differ; after a crash one of
//!   them is current and the others are filled from it. After some seconds without changes all are flushed and it says that they are
//!   equal.
//! * **One decides** (`warden`): roles change on one thread, and what follows waits until no channel has changes at work that
//!   began before.
//!
//! The layout is SPDK's without a superblock: nothing is on members but data.

mod channel;
mod copier;
mod fill;
mod plan;
mod record;
mod regions;
mod shared;
mod slot;
#[cfg(test)]
mod tests;
mod thread;
mod warden;

use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

pub use self::plan::MEMBERS_MAX;
pub use self::record::{News, Record, Records};
pub use self::warden::{Next, Warden};

use self::channel::MirrorChannel;
use self::plan::{Role, Set};
use self::shared::{Order, Shared, What};
use super::super::allocation::Allocation;
use super::super::{Bdev, Channel, Info, Offloads, Unmap};
use crate::buf::Hugepages;
use crate::id::ReactorId;
use crate::time::SECOND_NS;

/// What a mirror is made of.
#[derive(Debug)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What names the medium for ever.
    pub uuid: [u8; 16],
    /// Its members, at most [`MEMBERS_MAX`].
    pub members: Vec<Arc<dyn Bdev>>,
    /// Which of them forget what they hold at each start.
    pub volatile: Vec<bool>,
    /// What survived of it. Of a new one as it is to be: that is saved before anything is shown.
    pub record: Record,
    /// It is new: what survived before is of no account.
    pub is_new: bool,
    /// Keeps that.
    pub records: Box<dyn Records>,
    /// What the buffers are made of with which members are filled.
    pub hugepages: Hugepages,
    /// How long what takes.
    pub times: Times,
}

/// How long what takes, in nanoseconds, and how much is copied at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// A current member that is missing at the start is waited for.
    pub missing_ns: u64,
    /// Without changes for so long, members are flushed and found equal.
    pub calm_ns: u64,
    /// A member that failed is filled again after so long, and twice as long with each failure.
    pub again_ns: u64,
    /// Whether members are there is looked at so often, and what could not be saved is saved again.
    pub look_ns: u64,
    /// Bytes of the window that is copied while changes of it wait.
    pub window_bytes: u32,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            missing_ns: 30 * SECOND_NS,
            calm_ns: 5 * SECOND_NS,
            again_ns: 30 * SECOND_NS,
            look_ns: SECOND_NS / 2,
            window_bytes: 1024 * 1024,
        }
    }
}

/// A mirror.
#[derive(Debug)]
pub struct Mirror {
    uuid: [u8; 16],
    shared: Arc<Shared>,
}

/// What a mirror's members are doing, and how its operator has a say in that. It does not keep the mirror.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

/// Starts a mirror.
#[derive(Debug)]
pub struct Starter {
    shared: Arc<Shared>,
    recipe: Recipe,
}

impl Starter {
    /// From now on it has a thread that watches over it; where it is gone by now it ends at once.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self) -> std::io::Result<()> {
        thread::start(self.shared, self.recipe)
    }

    /// How to have a say in it.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// It is not to be started: nothing has happened to members, and nothing will.
    pub fn give_up(self) {
        self.shared.end();
        drop(self.recipe);
        self.shared.let_go();
    }
}

/// What a member of a mirror is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doing {
    /// Nothing: it is not read or written.
    Out,
    /// It is written, and so many of the array's blocks have been copied to it.
    Filling(u64),
    /// It has all that was answered GOOD.
    Current,
}

impl Doing {
    /// What it is called in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Doing::Out => "out",
            Doing::Filling(_) => "filling",
            Doing::Current => "current",
        }
    }
}

impl Mirror {
    /// A mirror, and what starts it: nothing happens to members before.
    pub fn new(recipe: Recipe) -> (Mirror, Starter) {
        let mirror = Mirror::of(&recipe);
        let shared = Arc::clone(&mirror.shared);
        (mirror, Starter { shared, recipe })
    }

    /// A mirror, and what watches over it: it is to be given time.
    pub fn staged(recipe: Recipe) -> (Mirror, Warden) {
        let mirror = Mirror::of(&recipe);
        let warden = Warden::new(Arc::clone(&mirror.shared), recipe);
        (mirror, warden)
    }

    fn of(recipe: &Recipe) -> Mirror {
        let shared = Shared::new(recipe.name.clone(), recipe.members.clone());
        Mirror { uuid: recipe.uuid, shared: Arc::new(shared) }
    }

    /// What the reader tells of blocks that take space. Others may be ahead of it, as it is written last: they may have unmapped what is
    /// still read. None where it is not the reader all the time: what it tells may be older than the question then.
    fn told(&self, lba: u64, blocks: u32) -> Option<Allocation> {
        let shape = self.shared.shape.get()?;
        let left = u32::try_from(shape.blocks.checked_sub(lba)?).unwrap_or(u32::MAX);
        let (term, plan) = (self.shared.term(), self.shared.plan());
        let reader = plan.reader().filter(|_| !plan.is_settling())?;
        let bdev = self.shared.places.get(reader)?.bdev().filter(|bdev| shape.fits(&bdev.info()))?;
        let told = bdev.allocation(lba, blocks.min(left));
        let (term_after, plan) = (self.shared.term(), self.shared.plan());
        (term_after == term && plan.reader() == Some(reader)).then_some(told)
    }

    fn infos(&self, members: Set) -> Vec<Info> {
        let bdev = |member: usize| Some(self.shared.places.get(member)?.bdev()?.info());
        members.iter().filter_map(bdev).collect()
    }
}

impl Handle {
    /// The mirror's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// It can be used.
    pub fn is_begun(&self) -> bool {
        self.0.shape.get().is_some()
    }

    /// Whether this member is the only one that has all data.
    pub fn is_last(&self, member: usize) -> bool {
        self.0.plan().current() == Set::of(member)
    }

    /// Takes a member out; it stays out.
    ///
    /// # Errors
    /// It is the last one, or that cannot be saved, for people.
    pub fn remove(&self, member: usize) -> Result<(), String> {
        self.order(What::Remove(member))
    }

    /// Fills a member again that is out.
    ///
    /// # Errors
    /// It is not out, or does not fit, for people.
    pub fn add(&self, member: usize) -> Result<(), String> {
        self.order(What::Add(member))
    }

    /// A member may lack writes that it has done: it is out, as one that failed, and is filled after a while, or
    /// [sooner](Handle::again). One that is out is left alone for that while, too.
    ///
    /// # Errors
    /// It is the last one, or that cannot be saved, for people.
    pub fn doubt(&self, member: usize) -> Result<(), String> {
        self.order(What::Doubt(member))
    }

    /// A member that is out is filled without waiting any longer, unless it was to stay out.
    ///
    /// # Errors
    /// Nobody decides any more, for people.
    pub fn again(&self, member: usize) -> Result<(), String> {
        self.order(What::Again(member))
    }

    fn order(&self, what: What) -> Result<(), String> {
        let (told, answer) = mpsc::sync_channel(1);
        self.0.order(Order { what, told });
        let answer = answer.recv_timeout(Duration::from_secs(30));
        answer.map_err(|_| "the array does not decide: is the state file writable?".to_owned())?
    }

    /// The mirror is gone.
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Nothing of it is in a device any more.
    pub fn is_ended(&self) -> bool {
        self.0.is_ended.load(Ordering::SeqCst)
    }
}

impl Bdev for Mirror {
    fn info(&self) -> Info {
        let plan = self.shared.plan();
        let shape = self.shared.shape.get();
        let written = if plan.written().is_empty() { Set(u8::MAX) } else { plan.written() };
        let infos = self.infos(written);
        let current = self.infos(plan.current());
        // Without anybody who is current nothing is there.
        let is_there = |shape: &&shared::Shape| current.iter().any(|info| shape.fits(info));
        let block_bytes = shape
            .map_or_else(|| infos.first().map_or(512, |info| info.block_bytes), |shape| shape.block_bytes);
        let unmaps: Option<Vec<Unmap>> = infos.iter().map(|info| info.unmap).collect();
        let granularity = |unmaps: Vec<Unmap>| unmaps.iter().map(|unmap| unmap.granularity_blocks).max();
        let any = |is_so: fn(&Info) -> bool| infos.iter().any(is_so);
        Info {
            name: self.shared.name.clone(),
            blocks: shape.filter(is_there).map_or(0, |shape| shape.blocks),
            block_bytes,
            physical_block_bytes: infos
                .iter()
                .map(|info| info.physical_block_bytes)
                .fold(block_bytes, u32::max),
            read_only: current.iter().any(|info| info.read_only),
            write_cache: any(|info| info.write_cache),
            rotational: any(|info| info.rotational),
            uuid: self.uuid,
            // See `Slot::leg`.
            unmap: unmaps.and_then(granularity).map(|granularity_blocks| Unmap {
                granularity_blocks,
                reads_zeroes: true,
                anchors: false,
            }),
            offloads: Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(MirrorChannel::new(Arc::clone(&self.shared), reactor))
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        self.told(lba, blocks).unwrap_or_default().without_anchors()
    }

    /// Its record says whose data it has.
    fn own(&self) -> Option<[u8; 16]> {
        Some(self.uuid)
    }

    /// Somebody who is looking at it may keep it for longer: its thread does not wait for that.
    fn unregistered(&self) {
        self.shared.end();
    }

    /// Until somebody was told that it can be used, too.
    fn is_awaited(&self) -> bool {
        !self.shared.is_told.load(Ordering::SeqCst) || self.info().blocks == 0
    }

    fn doing(&self) -> Vec<Doing> {
        let plan = self.shared.plan();
        let doing = |member| match plan.role(member) {
            Role::Out => Doing::Out,
            Role::Filling => Doing::Filling(self.shared.filled_blocks.load(Ordering::Relaxed)),
            Role::Current => Doing::Current,
        };
        (0..self.shared.places.len()).map(doing).collect()
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        for member in self.shared.places.iter().filter_map(shared::Place::bdev) {
            if member.info().blocks == 0 {
                // Others may do without it.
                drop(member.probe());
            }
        }
        self.shared.call();
        let is_there = self.info().blocks > 0;
        self.shared.is_told.store(is_there, Ordering::SeqCst);
        if is_there { Ok(()) } else { Err(self.shared.why().into()) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.end();
    }
}
