//! A RAM disk: memory of the process, gone at its end.
//!
//! Data are copied when an IO is submitted; the next poll brings its [`Done`](super::Done), in order. All reactors copy from and
//! into the same memory without a lock, so there is no atomicity across cores: a read that meets a write on another
//! core may see part of it. One core's IOs are never mixed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::allocation::{Allocation, Teller};
use super::instant::{InstantChannel, Perform, blocks_of};
use super::protection::{Checks, Protection, TUPLE, TUPLE_BYTES, Tuple};
use super::queue::extent_bytes;
use super::{Bdev, Channel, Info, IoError, Offloads, Op, Unmap};
use crate::buf::{Hugepages, MapFailed, Medium, Memory, Pages};
use crate::id::ReactorId;

/// What to make a RAM disk of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipe {
    /// The operator's name for it.
    pub name: String,
    /// Its size at first, in blocks; at least 1.
    pub blocks: u64,
    /// What it can grow to ([`Malloc::resize`]), in blocks; address space is set aside for it at once.
    pub blocks_max: u64,
    /// 512 or 4096.
    pub block_bytes: u32,
    /// What initiators are told of: a power of two from a block to 64 KiB.
    pub physical_block_bytes: u32,
    /// What names the medium; a new random one unless the operator gave it, as the data are new.
    pub uuid: [u8; 16],
    /// What its memory is made of.
    pub hugepages: Hugepages,
}

/// Why there is no RAM disk, or not of that size.
#[derive(Debug, thiserror::Error)]
pub enum MallocError {
    /// Neither 512 nor 4096.
    #[error("a block has 512 or 4096 bytes, not {0}")]
    BlockBytes(u32),
    /// No power of two from a block to 64 KiB.
    #[error("a physical block has a power of two bytes, from a block to 65536, not {0}")]
    PhysicalBlockBytes(u32),
    /// No blocks, or more than set aside.
    #[error("{blocks} blocks are not between 1 and {blocks_max}")]
    Blocks {
        /// Asked for.
        blocks: u64,
        /// Possible.
        blocks_max: u64,
    },
    /// More bytes than there are addresses.
    #[error("{0} blocks are more than this machine can address")]
    TooLarge(u64),
    /// The kernel gave no memory.
    #[error(transparent)]
    Memory(#[from] MapFailed),
}

/// A RAM disk. It is resident only as far as it was written and not unmapped since.
#[derive(Debug)]
pub struct Malloc {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    block_bytes: u32,
    physical_block_bytes: u32,
    uuid: [u8; 16],
    blocks_max: u64,
    /// Invariant: 1 to `blocks_max`, for which `medium` has room.
    blocks: AtomicU64,
    /// The most that it ever had: what is beyond `blocks` was cut off, and is kept.
    blocks_ever: AtomicU64,
    medium: Arc<Medium>,
    pages: Pages,
    protected: Option<Protected>,
    /// Channels that are open.
    channels: AtomicU32,
}

impl Malloc {
    /// Maps the memory and makes a disk of it: zeroed, nothing resident.
    pub fn new(recipe: Recipe) -> Result<Malloc, MallocError> {
        Malloc::with_protection(recipe, None)
    }

    /// The same, with protection information beside each block.
    pub fn with_protection(recipe: Recipe, protection: Option<Protection>) -> Result<Malloc, MallocError> {
        let Recipe { name, blocks, blocks_max, block_bytes, physical_block_bytes, uuid, hugepages } = recipe;
        if block_bytes != 512 && block_bytes != 4096 {
            return Err(MallocError::BlockBytes(block_bytes));
        }
        if !physical_block_bytes.is_power_of_two() || !(block_bytes..=1 << 16).contains(&physical_block_bytes)
        {
            return Err(MallocError::PhysicalBlockBytes(physical_block_bytes));
        }
        if blocks == 0 || blocks > blocks_max {
            return Err(MallocError::Blocks { blocks, blocks_max });
        }
        let bytes =
            blocks_max.checked_mul(u64::from(block_bytes)).and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.ok_or(MallocError::TooLarge(blocks_max))?;
        let memory = Memory::map_preferring_huge(bytes, hugepages, Memory::map_untouched)?;
        let pages = memory.pages();
        let protected = protection.map(|kind| Protected::new(kind, blocks_max)).transpose()?;
        let (blocks_ever, blocks) = (AtomicU64::new(blocks), AtomicU64::new(blocks));
        let medium = Arc::new(Medium::new(memory));
        Ok(Malloc {
            shared: Arc::new(Shared {
                name,
                block_bytes,
                physical_block_bytes,
                uuid,
                blocks_max,
                blocks,
                blocks_ever,
                medium,
                pages,
                protected,
                channels: AtomicU32::new(0),
            }),
        })
    }

    /// What its memory is made of.
    pub fn pages(&self) -> Pages {
        self.shared.pages
    }

    /// Makes it larger or smaller; IOs submitted from now on meet the new size. Blocks that are cut off keep what they
    /// held and come back with it when the disk grows again.
    pub fn resize(&self, blocks: u64) -> Result<(), MallocError> {
        let blocks_max = self.shared.blocks_max;
        if blocks == 0 || blocks > blocks_max {
            return Err(MallocError::Blocks { blocks, blocks_max });
        }
        // A reactor that still sees the old size is what the resize barrier is for.
        self.shared.blocks.store(blocks, Ordering::Relaxed);
        self.shared.blocks_ever.fetch_max(blocks, Ordering::Relaxed);
        Ok(())
    }
}

impl Bdev for Malloc {
    fn info(&self) -> Info {
        let blocks = self.shared.blocks.load(Ordering::Relaxed);
        // What was cut off comes back when it grows: who erases all blocks does not reach it.
        let erase = blocks >= self.shared.blocks_ever.load(Ordering::Relaxed);
        Info {
            name: self.shared.name.clone(),
            blocks,
            block_bytes: self.shared.block_bytes,
            physical_block_bytes: self.shared.physical_block_bytes,
            read_only: false,
            write_cache: false,
            rotational: false,
            uuid: self.shared.uuid,
            unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false }),
            offloads: Offloads { erase, ..OFFLOADS },
            protection: self.shared.protected.as_ref().map(|protected| protected.kind),
            passes: None,
        }
    }

    /// As long as it is there.
    fn own(&self) -> Option<[u8; 16]> {
        Some(self.shared.uuid)
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(InstantChannel::new(Arc::clone(&self.shared)))
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        self.shared.allocation(lba, blocks)
    }
}

/// What saves a way through the host.
const OFFLOADS: Offloads = Offloads {
    compare_and_write_blocks: 0,
    verify: false,
    compare: true,
    copy: true,
    write_uncorrectable: false,
    // Whatever ends the process takes all of the medium with it.
    atomic_write_blocks: u32::MAX,
    erase: true,
    erase_blocks: false,
    erase_key: false,
};

/// The protection information of a disk, block by block.
#[derive(Debug)]
struct Protected {
    kind: Protection,
    /// Each tuple with all of its bits the other way round: memory that nobody has written stands for FFh in all bytes, which says that
    /// there is nothing to check (SBC-4 §4.22.2).
    tuples: Medium,
}

/// A reader on another core may meet a write half done: so often it looks again before it believes that a tuple is wrong.
const LOOKS: u32 = 64;

impl Protected {
    fn new(kind: Protection, blocks_max: u64) -> Result<Protected, MallocError> {
        let bytes =
            blocks_max.checked_mul(u64::from(TUPLE_BYTES)).and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.and_then(|bytes| bytes.checked_next_multiple_of(PIECE_BYTES));
        let memory = Memory::map_untouched(bytes.ok_or(MallocError::TooLarge(blocks_max))?, Pages::Ordinary)?;
        Ok(Protected { kind, tuples: Medium::new(memory) })
    }

    fn tuple(&self, lba: u64) -> Tuple {
        let mut tuple = [0; TUPLE];
        self.tuples.read(place(lba), &mut tuple);
        tuple.map(|byte| !byte)
    }

    fn set(&self, lba: u64, tuple: Tuple) {
        self.tuples.write(place(lba), &tuple.map(|byte| !byte));
    }

    /// What belongs to these blocks from now on.
    fn make(&self, lba: u64, data: &[u8], block_bytes: usize) {
        for (lba, block) in (lba..).zip(data.chunks_exact(block_bytes)) {
            self.set(lba, self.kind.tuple(lba, block));
        }
    }

    fn forget(&self, lba: u64, blocks: u32) {
        self.tuples.zero(place(lba), blocks as usize * TUPLE);
    }
}

/// Where the tuple of a block is. Invariant: the block is one of the disk's.
fn place(lba: u64) -> usize {
    usize::try_from(lba).map_or(usize::MAX, |lba| lba.saturating_mul(TUPLE))
}

/// So much is looked at to tell which blocks take space: the kernel goes through as many pages.
const TOLD_BYTES_MAX: u32 = 2 << 30;

/// A multiple of these is copied or compared at a time.
const PIECE_BYTES: usize = 4096;

impl Shared {
    fn compare(&self, start: usize, with: &[u8]) -> Result<(), IoError> {
        let mut piece = [0; PIECE_BYTES];
        for (at, with) in (start..).step_by(PIECE_BYTES).zip(with.chunks(PIECE_BYTES)) {
            let piece = &mut piece[..with.len()];
            self.medium.read(at, piece);
            if piece != with {
                return Err(IoError::Miscompare);
            }
        }
        Ok(())
    }

    fn copy(&self, from: usize, to: usize, bytes: usize) {
        let mut piece = [0; PIECE_BYTES];
        for at in (0..bytes).step_by(PIECE_BYTES) {
            let piece = &mut piece[..PIECE_BYTES.min(bytes - at)];
            self.medium.read(from + at, piece);
            self.medium.write(to + at, piece);
        }
    }

    /// Reads a block and what belongs to it.
    fn read_checked(&self, lba: u64, block: &mut [u8], checks: Checks) -> Result<Tuple, IoError> {
        let extent = self.extent(lba, 1)?;
        let Some(protected) = &self.protected else { return Err(IoError::Unsupported) };
        let mut looks = 0;
        loop {
            self.medium.read(extent.start, block);
            let tuple = protected.tuple(lba);
            looks += 1;
            match protected.kind.check(checks, lba, block, &tuple) {
                Ok(()) => return Ok(tuple),
                Err(error) if looks >= LOOKS => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// What belongs to blocks that were read, which have to be right.
    fn check_read(&self, lba: u64, data: &mut [u8]) -> Result<(), IoError> {
        let Some(protected) = &self.protected else { return Ok(()) };
        let mut blocks = (lba..).zip(data.chunks_exact_mut(self.block_bytes as usize));
        blocks.try_for_each(|(lba, block)| self.read_checked(lba, block, protected.kind.plain()).map(drop))
    }

    /// Whether what belongs to blocks is right.
    fn verify(&self, lba: u64, blocks: u32, checks: Checks) -> Result<(), IoError> {
        let mut piece = [0; PIECE_BYTES];
        let block = &mut piece[..self.block_bytes as usize];
        (lba..).take(blocks as usize).try_for_each(|lba| self.read_checked(lba, block, checks).map(drop))
    }

    /// Blocks with their tuples, one after the other.
    fn read_protected(&self, lba: u64, data: &mut [u8], checks: Checks) -> Result<(), IoError> {
        let block_bytes = self.block_bytes as usize;
        for (lba, both) in (lba..).zip(data.chunks_exact_mut(block_bytes + TUPLE)) {
            let (block, tuple) = both.split_at_mut(block_bytes);
            tuple.copy_from_slice(&self.read_checked(lba, block, checks)?);
        }
        Ok(())
    }

    fn write_protected(&self, lba: u64, data: &[u8], checks: Checks) -> Result<(), IoError> {
        let Some(protected) = &self.protected else { return Err(IoError::Unsupported) };
        let block_bytes = self.block_bytes as usize;
        let pairs = || {
            let both = (lba..).zip(data.chunks_exact(block_bytes + TUPLE));
            both.filter_map(|(lba, both)| {
                let (block, tuple) = both.split_at(block_bytes);
                Some((lba, block, tuple.first_chunk::<TUPLE>()?))
            })
        };
        for (lba, block, tuple) in pairs() {
            protected.kind.check(checks, lba, block, tuple)?;
        }
        for (lba, block, tuple) in pairs() {
            self.medium.write(self.extent(lba, 1)?.start, block);
            protected.set(lba, *tuple);
        }
        Ok(())
    }

    /// Makes anew what belongs to blocks that were changed without it.
    fn protect(&self, lba: u64, blocks: u32) -> Result<(), IoError> {
        let Some(protected) = &self.protected else { return Ok(()) };
        let mut piece = [0; PIECE_BYTES];
        let block = &mut piece[..self.block_bytes as usize];
        for lba in (lba..).take(blocks as usize) {
            self.medium.read(self.extent(lba, 1)?.start, block);
            protected.make(lba, block, block.len());
        }
        Ok(())
    }

    /// Page by page: what shares one with a block that was written is mapped, too, and hugepages are never given back.
    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        let left = self.blocks.load(Ordering::Relaxed).saturating_sub(lba);
        let most = (TOLD_BYTES_MAX / self.block_bytes).min(blocks);
        let blocks = u32::try_from(left).unwrap_or(u32::MAX).min(most);
        let mut teller = Teller::new(lba, blocks, self.block_bytes);
        let Ok(extent) = self.extent(lba, blocks) else { return Allocation::default() };
        let end = teller.bytes().end;
        let mut is_wanted = true;
        let told = self.medium.touched(extent.start, extent.len(), &mut |pages| {
            is_wanted = teller.hole_to(pages.start) && teller.data_to(pages.end);
            is_wanted
        });
        if told.is_ok() && is_wanted {
            teller.hole_to(end);
        }
        teller.finish()
    }

    fn extent(&self, lba: u64, blocks: u32) -> Result<Range<usize>, IoError> {
        extent_bytes(lba, blocks, self.block_bytes, self.blocks.load(Ordering::Relaxed))
    }
}

impl Perform for Shared {
    fn perform(&self, op: Op, mut data: Option<&mut [u8]>) -> Result<(), IoError> {
        let Some((lba, blocks)) = op.extent() else {
            return if op == Op::Flush { Ok(()) } else { Err(IoError::Unsupported) };
        };
        let extent = self.extent(lba, blocks)?;
        let (start, bytes) = (extent.start, extent.len());
        let with_tuples = bytes + blocks as usize * TUPLE;
        match (op, &mut data) {
            (Op::ReadProtected { checks, .. }, Some(data)) => {
                return self.read_protected(lba, &mut data[..with_tuples], checks);
            }
            (Op::WriteProtected { checks, .. }, Some(data)) => {
                return self.write_protected(lba, &data[..with_tuples], checks);
            }
            _ => {}
        }
        let data = data.map(|data| &mut data[..bytes]);
        match op {
            Op::Read { .. } => {
                let data = data.expect("a read comes with memory");
                self.medium.read(start, data);
                return self.check_read(lba, data);
            }
            Op::Write { .. } => {
                self.medium.write(start, data.expect("a write comes with memory"));
                return self.protect(lba, blocks);
            }
            Op::Unmap { .. } | Op::WriteZeroes { may_unmap: true, .. } => {
                self.medium.free(start, bytes);
                if let Some(protected) = &self.protected {
                    protected.forget(lba, blocks);
                }
            }
            Op::WriteZeroes { .. } => {
                self.medium.zero(start, bytes);
                return self.protect(lba, blocks);
            }
            Op::Compare { .. } => {
                return self.compare(start, data.expect("a comparison comes with memory"));
            }
            Op::Copy { from, .. } => {
                let from = self.extent(from, blocks)?.start;
                if op.overlaps() {
                    return Err(IoError::Unsupported);
                }
                self.copy(from, start, bytes);
                return self.protect(lba, blocks);
            }
            Op::Verify { checks: Some(checks), .. } => return self.verify(lba, blocks, checks),
            Op::CompareAndWrite { .. }
            | Op::Verify { .. }
            | Op::WriteUncorrectable { .. }
            | Op::Pass { .. }
            | Op::ReadProtected { .. }
            | Op::WriteProtected { .. } => {
                return Err(IoError::Unsupported);
            }
            Op::Flush => {}
        }
        Ok(())
    }

    fn load(&self, lba: u64, data: &mut [u8]) -> bool {
        let Ok(extent) = self.extent(lba, blocks_of(data.len(), self.block_bytes)) else { return false };
        let data = &mut data[..extent.len()];
        self.medium.read(extent.start, data);
        // Where it is wrong, the longer way says how.
        self.protected.is_none() || self.check_read(lba, data).is_ok()
    }

    fn store(&self, lba: u64, data: &[u8]) -> bool {
        let Ok(extent) = self.extent(lba, blocks_of(data.len(), self.block_bytes)) else { return false };
        let data = &data[..extent.len()];
        self.medium.write(extent.start, data);
        if let Some(protected) = &self.protected {
            protected.make(lba, data, self.block_bytes as usize);
        }
        true
    }

    /// While one reactor alone serves the disk: what another wrote meanwhile would be sent half new, half old. One that
    /// opens it in this very moment is late by a turn at most, and then finds what any two that share the disk find.
    fn lendable(&self, lba: u64, blocks: u32) -> Option<Range<usize>> {
        // What is lent is not checked.
        let may = self.channels.load(Ordering::Relaxed) == 1 && self.protected.is_none();
        if may { self.extent(lba, blocks).ok() } else { None }
    }

    fn medium(&self) -> Option<&Arc<Medium>> {
        Some(&self.medium)
    }

    fn opened(&self, more: bool) {
        if more {
            self.channels.fetch_add(1, Ordering::Relaxed);
        } else {
            self.channels.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::contract::{Made, Subject, suite};

    fn recipe() -> Recipe {
        Recipe {
            name: "Malloc0".to_owned(),
            blocks: 100,
            blocks_max: 200,
            block_bytes: 512,
            physical_block_bytes: 512,
            uuid: [7; 16],
            hugepages: Hugepages::Off,
        }
    }

    #[test]
    fn passes_the_contract() {
        for block_bytes in [512, 4096] {
            let make = || {
                let recipe = Recipe { block_bytes, physical_block_bytes: 4096, ..recipe() };
                let disk = Arc::new(Malloc::new(recipe).unwrap());
                let bdev = Arc::clone(&disk);
                Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(blocks).unwrap())) }
            };
            suite(&Subject { name: "malloc", make: &make, keeps_data: true, frees_on_drop: true });
        }
    }

    #[test]
    fn impossible_disks_are_refused() {
        let refused = |recipe| Malloc::new(recipe).unwrap_err().to_string();
        assert_eq!(
            refused(Recipe { block_bytes: 520, ..recipe() }),
            "a block has 512 or 4096 bytes, not 520"
        );
        for bytes in [0, 256, 1000, 1 << 17] {
            assert_eq!(
                refused(Recipe { physical_block_bytes: bytes, ..recipe() }),
                format!("a physical block has a power of two bytes, from a block to 65536, not {bytes}")
            );
        }
        assert_eq!(refused(Recipe { blocks: 0, ..recipe() }), "0 blocks are not between 1 and 200");
        assert_eq!(refused(Recipe { blocks: 201, ..recipe() }), "201 blocks are not between 1 and 200");
        let huge = Recipe { blocks_max: u64::MAX, ..recipe() };
        assert_eq!(refused(huge), "18446744073709551615 blocks are more than this machine can address");
    }

    #[test]
    fn sizes_change_within_what_was_set_aside() {
        let disk = Malloc::new(recipe()).unwrap();
        disk.resize(200).unwrap();
        assert_eq!(disk.info().blocks, 200);
        assert_eq!(disk.resize(201).unwrap_err().to_string(), "201 blocks are not between 1 and 200");
        assert!(disk.resize(0).is_err());
        assert_eq!(disk.info().blocks, 200);
    }

    #[test]
    fn it_tells_no_more_than_it_has() {
        let disk = Malloc::new(recipe()).unwrap();
        let told =
            |lba, blocks| disk.allocation(lba, blocks).runs().iter().map(|run| run.blocks).sum::<u32>();
        assert_eq!([told(0, u32::MAX), told(99, 5), told(10, 5)], [100, 1, 5]);
        assert_eq!([told(100, 1), told(u64::MAX, 1), told(3, 0)], [0, 0, 0]);
        disk.resize(200).unwrap();
        assert_eq!(told(0, u32::MAX), 200);
        disk.resize(10).unwrap();
        assert_eq!(told(0, u32::MAX), 10);
    }

    #[test]
    fn what_was_cut_off_cannot_be_erased() {
        let disk = Malloc::new(recipe()).unwrap();
        for (blocks, erase) in [(150, true), (149, false), (150, true), (200, true), (150, false)] {
            disk.resize(blocks).unwrap();
            assert_eq!(disk.info().offloads.erase, erase, "{blocks}");
        }
    }
}
