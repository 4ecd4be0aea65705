//! A part of a device as a device of its own: so many blocks from a block on.
//!
//! Parts do not overlap and share the device's channels with nobody: each opens its own. A part stays where it is when the device
//! grows; of what a device that shrank no longer has, a part loses its end. Where the parts of a device are that was never there is
//! settled, and kept, when it comes.

use std::error::Error;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use super::allocation::Allocation;
use super::protection::Protection;
use super::queue::{DoneQueue, room};
use super::space::Temperature;
use super::{
    Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Offloads, Op, Refused, Unmap, Wake, made_of,
};
use crate::buf::Lent;
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// How large a part is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// So many blocks.
    Blocks(u64),
    /// So many bytes.
    Bytes(u64),
    /// An equal share: the device in so many parts.
    Share(u32),
}

impl Size {
    /// In blocks of this device, which is there.
    pub fn blocks(self, base: &Info) -> u64 {
        match self {
            Size::Blocks(blocks) => blocks,
            Size::Bytes(bytes) => bytes / u64::from(base.block_bytes.max(1)),
            Size::Share(count) => base.blocks / u64::from(count.max(1)),
        }
    }
}

/// Keeps the size of parts for the next start.
pub trait Keeps: Debug + Send + Sync {
    /// Returns when it is kept: so many blocks. It may block.
    ///
    /// # Errors
    /// It is not kept, for people.
    fn keep(&self, blocks: u64) -> Result<(), String>;
}

/// Where the parts of a device are: one behind the other from its first block on, all of one size.
#[derive(Debug)]
pub struct Layout {
    count: u32,
    /// Blocks of a part, once that is known.
    blocks: OnceLock<u64>,
    /// Where it is known only when the device comes.
    awaited: Option<Awaited>,
    /// Of a block, as the device was seen last.
    block_bytes: AtomicU32,
}

#[derive(Debug)]
struct Awaited {
    size: Size,
    keeps: Box<dyn Keeps>,
    #[expect(
        clippy::disallowed_types,
        reason = "for threads that look for the device; no reactor comes here"
    )]
    settling: std::sync::Mutex<()>,
}

impl Layout {
    /// So many parts of so many blocks; none where those have no addresses.
    pub fn new(count: u32, blocks: u64) -> Option<Layout> {
        blocks.checked_mul(u64::from(count))?;
        Some(Layout { count, blocks: blocks.into(), awaited: None, block_bytes: AtomicU32::new(1) })
    }

    /// So many parts of a device that is not there yet. Nothing is to be had of them before it is kept how large they are: by the
    /// next start the device may have another size, and the parts would be elsewhere.
    pub fn awaited(count: u32, size: Size, keeps: Box<dyn Keeps>) -> Layout {
        let awaited = Awaited { size, keeps, settling: ().into() };
        Layout { count, blocks: OnceLock::new(), awaited: Some(awaited), block_bytes: AtomicU32::new(1) }
    }

    /// Blocks of a part; 0 while that is not known.
    fn blocks(&self) -> u64 {
        self.blocks.get().copied().unwrap_or_default()
    }

    /// The device's block that is the first of a part.
    fn first(&self, index: u32) -> u64 {
        // There is such an address.
        self.blocks().wrapping_mul(u64::from(index))
    }

    /// The device is like this.
    fn note(&self, base: &Info) {
        self.block_bytes.store(base.block_bytes.max(1), Ordering::Relaxed);
    }

    /// The device is there: its parts are where they will be for ever.
    fn settle(&self, base: &Info) -> Result<(), String> {
        let Some(awaited) = &self.awaited else { return Ok(()) };
        let _one = awaited.settling.lock().unwrap_or_else(PoisonError::into_inner);
        if self.blocks.get().is_some() {
            return Ok(());
        }
        let blocks = awaited.size.blocks(base);
        if blocks == 0 || blocks.checked_mul(u64::from(self.count)).is_none() {
            return Err(format!(
                "{} has {} blocks, of which no such parts can be made",
                base.name, base.blocks
            ));
        }
        awaited.keeps.keep(blocks)?;
        self.blocks.get_or_init(|| blocks);
        Ok(())
    }
}

/// A part of a device.
#[derive(Debug)]
pub struct Split {
    name: String,
    base: Arc<dyn Bdev>,
    index: u32,
    layout: Arc<Layout>,
}

impl Split {
    /// The part number `index` of `base`.
    pub fn new(name: String, base: Arc<dyn Bdev>, index: u32, layout: Arc<Layout>) -> Split {
        Split { name, base, index, layout }
    }
}

impl Bdev for Split {
    fn info(&self) -> Info {
        let base = self.base.info();
        self.layout.note(&base);
        let first = self.layout.first(self.index);
        let starts_at = |unit: u64| first.is_multiple_of(unit.max(1));
        let blocks_of_physical = u64::from(base.physical_block_bytes / base.block_bytes.max(1));
        let unmap = base.unmap.map(|unmap| Unmap {
            // Units are counted from the device's block 0.
            granularity_blocks: if starts_at(unmap.granularity_blocks.into()) {
                unmap.granularity_blocks
            } else {
                1
            },
            ..unmap
        });
        Info {
            name: self.name.clone(),
            blocks: base.blocks.saturating_sub(first).min(self.layout.blocks()),
            physical_block_bytes: if starts_at(blocks_of_physical) {
                base.physical_block_bytes
            } else {
                base.block_bytes
            },
            uuid: uuid(base.uuid, self.index),
            unmap,
            // Of what one write may cross, devices count from their own block 0. And a device erases the other parts with one.
            offloads: Offloads { atomic_write_blocks: 0, ..base.offloads.not_erasing() },
            // Reference tags are the device's block numbers, not the part's.
            protection: None::<Protection>,
            ..base
        }
    }

    fn temperature(&self) -> Option<Arc<Temperature>> {
        self.base.temperature()
    }

    fn measure(&self) {
        self.base.measure();
    }

    fn own(&self) -> Option<[u8; 16]> {
        Some(made_of(&format!("from block {}", self.layout.first(self.index)), &[self.base.own()?]))
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        match self.layout.first(self.index).checked_add(lba) {
            Some(lba) => self.base.allocation(lba, blocks),
            None => Allocation::default(),
        }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.layout.note(&self.base.info());
        Box::new(SplitChannel {
            inner: self.base.open(reactor),
            layout: Arc::clone(&self.layout),
            index: self.index,
            refused: DoneQueue::new(),
        })
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.base.info().blocks == 0 {
            self.base.probe()?;
        }
        let base = self.base.info();
        if base.blocks == 0 {
            return Err(format!("{} is not there", base.name).into());
        }
        self.layout.settle(&base)?;
        if self.info().blocks == 0 {
            let first = self.layout.first(self.index);
            let Info { name, blocks, .. } = base;
            return Err(format!(
                "{name} has {blocks} blocks: it ends before block {first}, where this part begins"
            )
            .into());
        }
        Ok(())
    }
}

/// A part's UUID (RFC 9562 §5.8, version 8): it follows from the device's and the part's number, so it is the same after every
/// start. A device without one has parts without one.
fn uuid(base: [u8; 16], index: u32) -> [u8; 16] {
    /// Odd, and with bits everywhere: 2¹²⁸ divided by the golden ratio.
    const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    if base == [0; 16] {
        return base;
    }
    let steps = STEP.wrapping_mul(u128::from(index) + 1);
    let mut uuid = u128::from_be_bytes(base).rotate_left(59).wrapping_add(steps).to_be_bytes();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[derive(Debug)]
struct SplitChannel {
    inner: Box<dyn Channel>,
    layout: Arc<Layout>,
    index: u32,
    /// What was refused here.
    refused: DoneQueue,
}

impl SplitChannel {
    fn first(&self) -> u64 {
        self.layout.first(self.index)
    }

    /// The device's block, where the whole extent is in the part.
    fn shift(&self, lba: u64, blocks: u64) -> Result<u64, IoError> {
        match lba.checked_add(blocks) {
            Some(end) if end <= self.layout.blocks() => Ok(self.first() + lba),
            _ => Err(IoError::OutOfRange),
        }
    }

    /// The same IO of the device.
    fn shifted(&self, mut op: Op) -> Result<Op, IoError> {
        if matches!(
            op,
            Op::ReadProtected { .. }
                | Op::WriteProtected { .. }
                | Op::Verify { checks: Some(_), .. }
                | Op::Pass { .. }
        ) {
            return Err(IoError::Unsupported);
        }
        if let Op::Copy { from, blocks, .. } = &mut op {
            *from = self.shift(*from, u64::from(*blocks))?;
        }
        if let Some((lba, blocks)) = op.extent_mut() {
            *lba = self.shift(*lba, u64::from(*blocks))?;
        }
        Ok(op)
    }

    /// So many bytes in blocks, whole ones.
    fn blocks_of(&self, bytes: usize) -> u64 {
        bytes as u64 / u64::from(self.layout.block_bytes.load(Ordering::Relaxed))
    }
}

impl Channel for SplitChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, mut io: Io, now: Tick) -> Result<(), Refused> {
        let own = io.op;
        match self.shifted(own) {
            Ok(op) => {
                io.op = op;
                let back = |io| Io { op: own, ..io };
                self.inner.submit(io, now).map_err(|refused| match refused {
                    Refused::NotReady(io) => Refused::NotReady(back(io)),
                    Refused::Full(io) => Refused::Full(back(io)),
                    Refused::Gone(io) => Refused::Gone(back(io)),
                })
            }
            Err(_) if self.refused.is_full() => Err(Refused::Full(io)),
            Err(error) => {
                self.refused.push(Done { tag: io.tag, data: io.data, result: Err(error) });
                Ok(())
            }
        }
    }

    fn does_at_once(&self) -> bool {
        self.inner.does_at_once()
    }

    fn lend(&mut self, lba: u64, blocks: u32, now: Tick) -> Option<Lent> {
        let lba = self.shift(lba, blocks.into()).ok()?;
        self.inner.lend(lba, blocks, now)
    }

    fn load(&mut self, lba: u64, data: &mut [u8], now: Tick) -> bool {
        let lba = self.shift(lba, self.blocks_of(data.len()));
        lba.is_ok_and(|lba| self.inner.load(lba, data, now))
    }

    fn store(&mut self, lba: u64, data: &[u8], fua: bool, now: Tick) -> bool {
        let lba = self.shift(lba, self.blocks_of(data.len()));
        lba.is_ok_and(|lba| self.inner.store(lba, data, fua, now))
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        let (max, before) = (room(out, max), out.len());
        self.refused.poll(out, max);
        let refused = out.len() - before;
        self.inner.poll(out, max - refused, now);
        for done in &mut out[before + refused..] {
            if let Err(IoError::Medium { lba: Some(lba) }) = &mut done.result {
                *lba = lba.saturating_sub(self.first());
            }
        }
    }

    fn cancel(&mut self, tag: Key) {
        self.inner.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.inner.fence()
    }

    fn wake(&self) -> Wake {
        if self.refused.is_empty() { self.inner.wake() } else { Wake::MustPoll }
    }

    fn in_flight(&self) -> u32 {
        self.refused.len() + self.inner.in_flight()
    }
}

#[cfg(test)]
mod tests;
