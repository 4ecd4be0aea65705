//! A RAM disk: memory of the process, gone at its end.
//!
//! Data are copied when an IO is submitted; the next poll brings its [`Done`](super::Done), in order. All reactors copy from and
//! into the same memory without a lock, so there is no atomicity across cores: a read that meets a write on another
//! core may see part of it. One core's IOs are never mixed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::instant::{InstantChannel, Perform, blocks_of};
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
    medium: Arc<Medium>,
    pages: Pages,
    /// Channels that are open.
    channels: AtomicU32,
}

impl Malloc {
    /// Maps the memory and makes a disk of it: zeroed, nothing resident.
    pub fn new(recipe: Recipe) -> Result<Malloc, MallocError> {
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
        let (blocks, medium) = (AtomicU64::new(blocks), Arc::new(Medium::new(memory)));
        Ok(Malloc {
            shared: Arc::new(Shared {
                name,
                block_bytes,
                physical_block_bytes,
                uuid,
                blocks_max,
                blocks,
                medium,
                pages,
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
        Ok(())
    }
}

impl Bdev for Malloc {
    fn info(&self) -> Info {
        Info {
            name: self.shared.name.clone(),
            blocks: self.shared.blocks.load(Ordering::Relaxed),
            block_bytes: self.shared.block_bytes,
            physical_block_bytes: self.shared.physical_block_bytes,
            read_only: false,
            write_cache: false,
            rotational: false,
            uuid: self.shared.uuid,
            unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true }),
            offloads: OFFLOADS,
        }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(InstantChannel::new(Arc::clone(&self.shared)))
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
};

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

    fn extent(&self, lba: u64, blocks: u32) -> Result<Range<usize>, IoError> {
        extent_bytes(lba, blocks, self.block_bytes, self.blocks.load(Ordering::Relaxed))
    }
}

impl Perform for Shared {
    fn perform(&self, op: Op, data: Option<&mut [u8]>) -> Result<(), IoError> {
        let Some((lba, blocks)) = op.extent() else { return Ok(()) };
        let extent = self.extent(lba, blocks)?;
        let (start, bytes) = (extent.start, extent.len());
        let data = data.map(|data| &mut data[..bytes]);
        match op {
            Op::Read { .. } => self.medium.read(start, data.expect("a read comes with memory")),
            Op::Write { .. } => self.medium.write(start, data.expect("a write comes with memory")),
            Op::Unmap { .. } | Op::WriteZeroes { may_unmap: true, .. } => self.medium.free(start, bytes),
            Op::WriteZeroes { .. } => self.medium.zero(start, bytes),
            Op::Compare { .. } => {
                return self.compare(start, data.expect("a comparison comes with memory"));
            }
            Op::Copy { from, .. } => {
                let from = self.extent(from, blocks)?.start;
                if op.overlaps() {
                    return Err(IoError::Unsupported);
                }
                self.copy(from, start, bytes);
            }
            Op::CompareAndWrite { .. } | Op::Verify { .. } | Op::WriteUncorrectable { .. } => {
                return Err(IoError::Unsupported);
            }
            Op::Flush => {}
        }
        Ok(())
    }

    fn load(&self, lba: u64, data: &mut [u8]) -> bool {
        let Ok(extent) = self.extent(lba, blocks_of(data.len(), self.block_bytes)) else { return false };
        self.medium.read(extent.start, &mut data[..extent.len()]);
        true
    }

    fn store(&self, lba: u64, data: &[u8]) -> bool {
        let Ok(extent) = self.extent(lba, blocks_of(data.len(), self.block_bytes)) else { return false };
        self.medium.write(extent.start, &data[..extent.len()]);
        true
    }

    /// While one reactor alone serves the disk: what another wrote meanwhile would be sent half new, half old. One that
    /// opens it in this very moment is late by a turn at most, and then finds what any two that share the disk find.
    fn lendable(&self, lba: u64, blocks: u32) -> Option<Range<usize>> {
        if self.channels.load(Ordering::Relaxed) == 1 { self.extent(lba, blocks).ok() } else { None }
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
}
