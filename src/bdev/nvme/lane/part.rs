//! How an IO is cut into commands.

use crate::bdev::nvme::planted::planted;
use crate::bdev::nvme::queue::Payload;
use crate::bdev::nvme::spec::{self, Command, Fuse, Range, nvm};
use crate::bdev::nvme::table::Job;
use crate::bdev::{Io, IoError, Offloads, Op};

/// What a lane needs to know of a namespace to make commands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bdev::nvme) struct Shape {
    pub(in crate::bdev::nvme) nsid: u32,
    pub(in crate::bdev::nvme) block_bytes: u32,
    /// The most bytes that a command may move, as far as the controller is concerned; at least a block.
    pub(in crate::bdev::nvme) bytes_max: usize,
    /// The most blocks that WRITE ZEROES may cover; none where the controller does not know it.
    pub(in crate::bdev::nvme) zeroes_blocks_max: Option<u32>,
    /// The most blocks that VERIFY may cover.
    pub(in crate::bdev::nvme) verify_blocks_max: u32,
    /// The most blocks that DATASET MANAGEMENT may cover; none where the controller does not know it.
    pub(in crate::bdev::nvme) unmap_blocks_max: Option<u32>,
    /// What it does by itself.
    pub(in crate::bdev::nvme) offloads: Offloads,
    /// The most blocks that WRITE UNCORRECTABLE may cover.
    pub(in crate::bdev::nvme) uncorrectable_blocks_max: u32,
    /// The most blocks that COPY may cover.
    pub(in crate::bdev::nvme) copy_blocks_max: u32,
    /// Its blocks have protection information, which the controller makes and checks itself.
    pub(in crate::bdev::nvme) protection: Option<PrInfo>,
}

impl Shape {
    /// Whether an IO is one that a disk of this shape, of so many blocks, can do.
    pub(super) fn admits(&self, op: Op, blocks: u64) -> Result<(), IoError> {
        let is_within =
            |(lba, count): (u64, u32)| lba.checked_add(u64::from(count)).is_some_and(|end| end <= blocks);
        if !(op.extent().is_none_or(is_within) && op.source().is_none_or(is_within)) {
            return Err(IoError::OutOfRange);
        }
        let is_known =
            self.offloads.has(op) && (self.unmap_blocks_max.is_some() || !matches!(op, Op::Unmap { .. }));
        if is_known && !op.overlaps() { Ok(()) } else { Err(IoError::Unsupported) }
    }
}

/// What word 12 says about protection information.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bdev::nvme) struct PrInfo {
    /// Of commands that write.
    pub(in crate::bdev::nvme) writes: u32,
    /// Of commands that read.
    pub(in crate::bdev::nvme) reads: u32,
}

/// The next part of an IO that one command does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    lba: u64,
    /// Blocks of the command.
    count: u32,
    /// Blocks of the IO that need no other command.
    pub(super) blocks: u32,
    /// Which bytes of the IO's buffer are its own.
    pub(super) from: usize,
    pub(super) bytes: usize,
    pub(super) fuse: Fuse,
}

impl Part {
    /// The command of a read or a write, and how many bytes it moves, where it needs only one that moves data as they are;
    /// `blocks` are the disk's.
    #[inline(always)]
    pub(super) fn whole<'a>(
        io: &'a Io,
        shape: &Shape,
        blocks: u64,
        queue_bytes_max: usize,
    ) -> Option<(Command, Payload<'a>, usize)> {
        let (opcode, lba, count, flags) = match io.op {
            Op::Read { lba, blocks } => (nvm::READ, lba, blocks, 0),
            Op::Write { lba, blocks, fua } => (nvm::WRITE, lba, blocks, fua_bit(fua)),
            _ => return None,
        };
        let bytes = (count as usize) << shape.block_bytes.trailing_zeros();
        let end = lba.checked_add(u64::from(count))?;
        // Word 12 has 16 bits for one block less.
        let words = count.wrapping_sub(1);
        if words > 0xFFFF
            || bytes > shape.bytes_max.min(queue_bytes_max)
            || end > blocks
            || shape.protection.is_some()
        {
            return None;
        }
        let data = io.data.as_ref()?;
        let [low, high, _] = spec::extent_words(lba, count);
        let cdw10 = [low, high, words | flags, 0, 0, 0];
        let command = Command { opcode, nsid: shape.nsid, cdw10, ..Command::default() };
        let is_read = opcode == nvm::READ;
        let payload =
            if is_read { Payload::Read(data, (0, bytes)) } else { Payload::Write(data, (0, bytes)) };
        Some((command, payload, bytes))
    }

    pub(super) fn of(job: &Job, shape: &Shape, queue_bytes_max: usize) -> Part {
        // A flush is about one block, so to speak.
        let (lba, all) = job.io.op.extent().unwrap_or((0, 1));
        // Blocks are a power of two bytes; word 12 counts at most 2^16 of them.
        let shift = shape.block_bytes.trailing_zeros();
        let moved_max = (shape.bytes_max.min(queue_bytes_max) >> shift).clamp(1, 1 << 16);
        let moved_max = u32::try_from(moved_max).unwrap_or(1);
        let most = match job.io.op {
            Op::CompareAndWrite { .. } => all,
            Op::Unmap { .. } => shape.unmap_blocks_max.unwrap_or(all),
            Op::Verify { .. } => moved_max.min(shape.verify_blocks_max),
            Op::WriteZeroes { .. } => shape.zeroes_blocks_max.unwrap_or(moved_max),
            Op::WriteUncorrectable { .. } => moved_max.min(shape.uncorrectable_blocks_max),
            Op::Copy { .. } => shape.copy_blocks_max.max(1),
            _ => moved_max,
        };
        let (issued, count) = (all - job.left_blocks, job.left_blocks.min(most));
        let bytes = (count as usize) << shift;
        let (blocks, from, fuse) = match job.io.op {
            Op::CompareAndWrite { .. } if job.is_issued => (count, bytes, Fuse::Second),
            Op::CompareAndWrite { .. } => (0, 0, Fuse::First),
            _ => (count, (issued as usize) << shift, Fuse::Alone),
        };
        Part { lba: lba + u64::from(issued), count, blocks, from, bytes, fuse }
    }

    /// Makes the command; `range` is memory that its data may be in. None where the IO does not have the memory that it needs.
    pub(super) fn describe<'a>(
        &self,
        io: &'a Io,
        shape: &Shape,
        command: &mut Command,
        range: &'a mut Range,
    ) -> Option<Payload<'a>> {
        let part = (self.from, self.bytes);
        let [low, high, count] = spec::extent_words(self.lba, self.count);
        (command.fuse, command.nsid) = (self.fuse, shape.nsid);
        command.cdw10[..3].copy_from_slice(&[low, high, count]);
        let (mut reads, mut writes) = (0, 0);
        if let Some(protection) = shape.protection {
            (reads, writes) = (protection.reads, protection.writes);
            // The reference tag of the first block: the low half of its LBA.
            command.cdw10[4] = low;
        }
        let (opcode, flags, payload) = match (io.op, &io.data) {
            (Op::Read { .. }, Some(data)) => (nvm::READ, reads, Payload::Read(data, part)),
            (Op::Write { fua, .. }, Some(data)) => {
                (nvm::WRITE, writes | fua_bit(fua), Payload::Write(data, part))
            }
            (Op::CompareAndWrite { .. }, Some(data)) if self.fuse == Fuse::First => {
                (nvm::COMPARE, 0, Payload::Write(data, part))
            }
            (Op::CompareAndWrite { fua, .. }, Some(data)) => {
                (nvm::WRITE, fua_bit(fua), Payload::Write(data, part))
            }
            (Op::Verify { checks: None, .. }, _) => (nvm::VERIFY, reads & !spec::PRACT, Payload::None),
            (Op::WriteZeroes { fua, .. }, _) if shape.zeroes_blocks_max.is_none() => {
                (nvm::WRITE, writes | fua_bit(fua), Payload::Zeroes(self.bytes))
            }
            (Op::WriteZeroes { fua, may_unmap, .. }, _) => {
                let deallocate = if may_unmap { spec::DEALLOCATE } else { 0 };
                (nvm::WRITE_ZEROES, writes | fua_bit(fua) | deallocate, Payload::None)
            }
            (Op::Unmap { .. }, _) => {
                // One range; the attribute says that it is to be deallocated.
                command.cdw10 = [0, spec::AD, 0, 0, 0, 0];
                *range = Range::of_dataset(self.lba, self.count);
                (nvm::DATASET_MANAGEMENT, 0, Payload::Inline(range))
            }
            (Op::Compare { .. }, Some(data)) => (nvm::COMPARE, 0, Payload::Write(data, part)),
            (Op::Copy { from, lba, fua, .. }, _) => {
                // One range (0's based), in descriptor format 0.
                command.cdw10[2] = 0;
                *range = Range::of_copy(from + (self.lba - lba), self.count);
                (nvm::COPY, fua_bit(fua), Payload::Inline(range))
            }
            (Op::WriteUncorrectable { .. }, _) => (nvm::WRITE_UNCORRECTABLE, 0, Payload::None),
            (Op::Flush, _) => {
                command.cdw10 = [0; 6];
                (nvm::FLUSH, 0, Payload::None)
            }
            (Op::Read { .. } | Op::Write { .. } | Op::Compare { .. } | Op::CompareAndWrite { .. }, None) => {
                return None;
            }
            // What a namespace keeps of it, its controller makes and checks.
            (
                Op::ReadProtected { .. }
                | Op::WriteProtected { .. }
                | Op::Verify { checks: Some(_), .. }
                | Op::Pass { .. },
                _,
            ) => return None,
        };
        command.opcode = opcode;
        command.cdw10[2] |= flags;
        Some(payload)
    }
}

#[inline]
fn fua_bit(fua: bool) -> u32 {
    if fua && !planted!(FuaDropped) { spec::FUA } else { 0 }
}
