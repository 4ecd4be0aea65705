//! Block devices: what a logical unit is made of.
//!
//! A [`Bdev`] is shared by all threads; each reactor opens its own [`Channel`] to it (a queue pair of its own) and
//! never hands it on. Memory in flight belongs to the channel: [`Channel::submit`] moves the [`Io`] in,
//! [`Done`] brings its buffer back. Every channel passes the suite in `contract`.
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::too_many_lines
    )
)]

pub mod allocation;
pub mod count;
pub mod delay;
pub mod drive;
pub mod error;
pub mod file;
mod instant;
mod io;
pub mod malloc;
pub mod null;
pub mod nvme;
pub mod pass;
pub mod protection;
mod queue;
pub mod raid;
pub mod sg;
pub mod space;
#[cfg(feature = "spdk")]
pub mod spdk;
pub mod split;

#[cfg(any(test, feature = "sim"))]
pub mod contract;

pub use io::{Done, Io, IoError, Op, Refused};

use std::error::Error;
use std::fmt::Debug;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::bdev::allocation::Allocation;
use crate::bdev::pass::{Passes, Told};
use crate::bdev::protection::Protection;
use crate::bdev::space::{Space, Temperature};
use crate::buf::Lent;
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// The most that one [`Op::Unmap`] or [`Op::WriteZeroes`] covers: who has more to clear cuts it up, so that no single
/// submission keeps a reactor busy for long.
pub const ZERO_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// What a device is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Info {
    /// The operator's name for it, unique in the process.
    pub name: String,
    /// Capacity, in blocks of `block_bytes`; 0 while the medium is not there ([`Bdev::probe`]).
    pub blocks: u64,
    /// Logical block size: a power of two, 512 to 4096.
    pub block_bytes: u32,
    /// Physical block size: a power of two, at least `block_bytes`.
    pub physical_block_bytes: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Writes answered without FUA may be lost at a power cut until a flush.
    pub write_cache: bool,
    /// The device spins (affects only what initiators are told).
    pub rotational: bool,
    /// 16 random bytes that name the medium for ever (an RFC 9562 UUID).
    pub uuid: [u8; 16],
    /// What [`Op::Unmap`] does; none where the device cannot.
    pub unmap: Option<Unmap>,
    /// What the device does by itself that can be done without it.
    pub offloads: Offloads,
    /// The protection information that it keeps with each block, for [`Op::ReadProtected`] and [`Op::WriteProtected`].
    pub protection: Option<Protection>,
    /// It takes SCSI commands as they are, and nothing else: [`Op::Pass`].
    pub passes: Option<Passes>,
}

/// What a device does by itself; what it does not is done by reading and writing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Offloads {
    /// [`Op::CompareAndWrite`] covers so many blocks, and others who use the medium past us see it as one; 0 where it cannot.
    pub compare_and_write_blocks: u32,
    /// It knows [`Op::Verify`].
    pub verify: bool,
    /// It knows [`Op::Compare`].
    pub compare: bool,
    /// It knows [`Op::Copy`].
    pub copy: bool,
    /// It knows [`Op::WriteUncorrectable`].
    pub write_uncorrectable: bool,
    /// One [`Op::Write`] of so many blocks happens as a whole or not at all, whatever becomes of the device meanwhile; 0 where it
    /// does not say so.
    pub atomic_write_blocks: u32,
    /// What [`Op::WriteZeroes`] covers without `may_unmap` cannot be had back by any means: it is overwritten in the only place
    /// where it is. And all that the device holds is among its blocks.
    pub erase: bool,
    /// [`Bdev::erase`] knows [`Erasure::Blocks`].
    pub erase_blocks: bool,
    /// [`Bdev::erase`] knows [`Erasure::Key`].
    pub erase_key: bool,
}

/// How [`Bdev::erase`] makes all that a device holds such that it cannot be had back by any means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Erasure {
    /// Every block's medium is erased, those that are spare or worn out included: SBC-4, SANITIZE with BLOCK ERASE; NVMe, user data erase.
    Blocks,
    /// The key is changed by which all is encrypted: SBC-4, CRYPTOGRAPHIC ERASE; NVMe, the same.
    Key,
}

impl Offloads {
    /// Whether [`Bdev::erase`] knows this.
    pub const fn erases(&self, how: Erasure) -> bool {
        match how {
            Erasure::Blocks => self.erase_blocks,
            Erasure::Key => self.erase_key,
        }
    }

    /// The same of who does not pass [`Bdev::erase`] on.
    pub const fn not_erasing(self) -> Offloads {
        Offloads { erase_blocks: false, erase_key: false, ..self }
    }

    /// Whether the device does it: everything that is no offload, and the offloads that it has.
    pub const fn has(&self, op: Op) -> bool {
        match op {
            Op::CompareAndWrite { blocks, .. } => blocks <= self.compare_and_write_blocks,
            Op::Verify { checks: None, .. } => self.verify,
            Op::Compare { .. } => self.compare,
            Op::Copy { .. } => self.copy,
            Op::WriteUncorrectable { .. } => self.write_uncorrectable,
            // See `Info::protection`.
            Op::ReadProtected { .. } | Op::WriteProtected { .. } | Op::Verify { .. } => false,
            // See `Info::passes`.
            Op::Pass { .. } => false,
            Op::Read { .. } | Op::Write { .. } | Op::Flush | Op::Unmap { .. } | Op::WriteZeroes { .. } => {
                true
            }
        }
    }
}

/// How a device deallocates blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unmap {
    /// Space is freed in units of so many blocks, counted from block 0; less than a whole one may free nothing. At least 1.
    pub granularity_blocks: u32,
    /// Every unmapped block reads as zeroes from then on, whether or not its space was freed.
    pub reads_zeroes: bool,
    /// [`Op::WriteZeroes`] without `may_unmap` **anchors** (SBC-4 §4.7.4): blocks have their space then, whatever they had before, and the
    /// device knows that they hold nothing. At an edge that its units of space do not fall on, they may be zeroes that are stored.
    pub anchors: bool,
}

/// A device that can be opened by any number of reactors.
pub trait Bdev: Send + Sync + Debug {
    /// What the device is at this moment. Control asks; reactors use what control publishes.
    fn info(&self) -> Info;
    /// A channel for `reactor`, made on the reactor's own thread. It returns at once, perhaps still
    /// [`ChannelState::Opening`].
    fn open(&self, reactor: ReactorId) -> Box<dyn Channel>;
    /// The device that it hands its IO on to, block by block, where it does: what it does not say of its medium by itself, that one says.
    fn base(&self) -> Option<&dyn Bdev> {
        None
    }
    /// Whether it has a medium that was not found yet: [`Bdev::probe`] is worth a try.
    fn is_awaited(&self) -> bool {
        self.info().blocks == 0
    }
    /// Looks at the medium: opens it where that was not done, or reads its size anew; [`Bdev::info`] tells what came of
    /// it. An error says what to do. It may block for as long as the device likes: for helper threads only.
    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.base().map_or(Ok(()), Bdev::probe)
    }
    /// The space that its blocks take of what is less than their sum, where it can tell. Figures are as of the last
    /// [`Bdev::measure`].
    fn space(&self) -> Option<Arc<Space>> {
        self.base()?.space()
    }
    /// How hot it is, where it can tell: as of the last [`Bdev::measure`].
    fn temperature(&self) -> Option<Arc<Temperature>> {
        self.base()?.temperature()
    }
    /// Measures both. It may block for as long as the device likes: for helper threads only.
    fn measure(&self) {
        self.base().into_iter().for_each(Bdev::measure);
    }
    /// Which blocks take space, from this one on: of so many of them, or of fewer. What is told was so at some moment between the call
    /// and its return. It may block for as long as the device likes: for helper threads only.
    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        self.base().map_or_else(Allocation::default, |base| base.allocation(lba, blocks))
    }
    /// Erases all that it holds, at once; [`Info::offloads`] says how it can. What its blocks hold then is open. To be called when
    /// nothing is in the device. An error says why not, and blocks may hold anything. It may block for hours: for helper threads only.
    fn erase(&self, how: Erasure) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.base().map_or_else(|| Err("the device cannot erase itself".into()), |base| base.erase(how))
    }
    /// All that is ever asked of it; none where nobody counts ([`count`]).
    fn ledger(&self) -> Option<Arc<count::Ledger>> {
        None
    }
    /// Puts another medium in, or none. Whether it is a drive, which can. To be called when nothing is in the device.
    fn change_medium(&self, _medium: Option<Arc<dyn Bdev>>) -> bool {
        false
    }
    /// What the medium is by itself, whatever it is called and whoever says so, while it is there: the same at each start, on each
    /// machine, and no other medium's. None where nothing tells.
    fn own(&self) -> Option<[u8; 16]> {
        self.base()?.own()
    }
    /// Nobody can ask for it any more, and no reactor has a channel to it.
    fn unregistered(&self) {}
    /// What its members do, where it is a mirror ([`raid::mirror`]).
    fn doing(&self) -> Vec<raid::mirror::Doing> {
        Vec::new()
    }
    /// What was asked of it; none where nobody counts ([`count`]).
    fn counts(&self) -> Option<count::Counts> {
        None
    }
    /// The same by reactor, of those that ever asked for something; nothing where nobody counts.
    fn counts_by_reactor(&self) -> Vec<(ReactorId, count::Counts)> {
        Vec::new()
    }
    /// What each reactor has asked of it, of those that ever did; nothing where nobody counts.
    fn figures(&self) -> Vec<(ReactorId, count::Figures)> {
        Vec::new()
    }
    /// Which reactors have channels to it now, and how many each; nothing where nobody counts.
    fn open_channels(&self) -> Vec<(ReactorId, usize)> {
        Vec::new()
    }
    /// Begins to count how long IOs of this kind take, on so many reactors, or ends it; nothing happens where nobody counts.
    fn time(&self, _timed: Option<count::Timed>, _reactors: usize) {}
    /// Of what kind they are and how many took how long, in the buckets of [`crate::histogram`], while that is counted.
    fn times(&self) -> Option<(count::Timed, Vec<u64>)> {
        None
    }
    /// Begins to count anew.
    fn forget_counts(&self) {}
    /// Forgets the longest and the shortest times only.
    fn forget_extremes(&self) {}
}

/// By what a device is known that is made of others ([`Bdev::own`]): by what it makes of them, and by them.
fn made_of(how: &str, bases: &[[u8; 16]]) -> [u8; 16] {
    file::uuid_of("", &format!("{how} of {bases:02x?}"))
}

/// A channel's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelState {
    /// Not yet: submissions come back [`Refused::NotReady`].
    Opening,
    /// In service.
    Ready,
    /// Gone: submissions come back [`Refused::Gone`].
    Gone,
}

/// How a reactor with IO in flight here may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake {
    /// Nothing is in flight: no reason to wake.
    Idle,
    /// This descriptor becomes readable when something completes; the channel drains it in `poll`.
    Fd(RawFd),
    /// Something completes at this moment at the earliest (delay wrappers).
    At(Tick),
    /// Only polling tells.
    MustPoll,
}

impl Wake {
    /// How to wait for the first of several things.
    fn first_of(wakes: impl Iterator<Item = Wake>) -> Wake {
        let busy = wakes.filter(|wake| *wake != Wake::Idle);
        busy.reduce(|one, other| match (one, other) {
            (Wake::At(one), Wake::At(other)) => Wake::At(one.min(other)),
            // Two reasons that one answer cannot name.
            _ => Wake::MustPoll,
        })
        .unwrap_or(Wake::Idle)
    }
}

/// What a fence found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fence {
    /// Every IO in flight ends in a [`Done`] at the next polls and nothing more can reach the medium.
    Fenced,
    /// This kind of device cannot say so: only each IO's own `Done` will.
    Cannot,
}

/// One reactor's own way to a device. It never leaves its thread and never blocks it.
pub trait Channel: Debug {
    /// Where in its life it is.
    fn state(&self) -> ChannelState;
    /// Takes the IO, or says why not and gives it back.
    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused>;
    /// Whether it is worth asking to [`Channel::lend`], [`Channel::load`] or [`Channel::store`].
    fn does_at_once(&self) -> bool {
        false
    }
    /// The blocks, uncopied, where the device is memory that may be lent now: that is all of the read, and no [`Done`] follows.
    /// None where they are to be read by [`Channel::submit`]. What is lent is not kept beyond the turn.
    fn lend(&mut self, _lba: u64, _blocks: u32, _now: Tick) -> Option<Lent> {
        None
    }
    /// Fills the whole of `data` with blocks, if the device does that at once. Whether it has: that is all of the read, and no
    /// [`Done`] follows. If not, they are to be read by [`Channel::submit`].
    fn load(&mut self, _lba: u64, _data: &mut [u8], _now: Tick) -> bool {
        false
    }
    /// Stores the blocks that are the whole of `data`, durably where `fua` says so, if the device does that at once. Whether it
    /// has: that is all of the write, and no [`Done`] follows. If not, what the blocks hold is not known, and they are to be written
    /// by [`Channel::submit`].
    fn store(&mut self, _lba: u64, _data: &[u8], _fua: bool, _now: Tick) -> bool {
        false
    }
    /// Tells the device of all that was submitted (doorbells): once a turn; and when the unit's size is another, or its medium is
    /// away, so that what is gone is let go of.
    fn kick(&mut self);
    /// Appends finished IOs while `out` has spare capacity and fewer than `max` were appended.
    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick);
    /// How an [`Op::Pass`] that has ended well was ended; its sense data go into `sense`. To be asked once for each, as it is
    /// kept until then.
    fn told(&mut self, _tag: Key, _sense: &mut [u8]) -> Option<Told> {
        None
    }
    /// Asks for an early end. A hint: the `Done` comes in any case.
    fn cancel(&mut self, tag: Key);
    /// Makes sure that nothing in flight can reach the medium any more, where the device can.
    fn fence(&mut self) -> Fence;
    /// May the reactor sleep?
    fn wake(&self) -> Wake;
    /// IOs taken and not yet done.
    fn in_flight(&self) -> u32;
}
