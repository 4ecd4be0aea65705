//! How an IO is cut into commands.

use crate::bdev::Op;
use crate::bdev::nvme::planted::planted;
use crate::bdev::nvme::queue::Payload;
use crate::bdev::nvme::spec::{self, Command, Fuse, nvm};
use crate::bdev::nvme::table::Job;

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
    /// Its blocks have protection information, which the controller makes and checks itself.
    pub(in crate::bdev::nvme) protection: Option<PrInfo>,
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
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Part {
    lba: u64,
    pub(super) blocks: u32,
    pub(super) from: usize,
    pub(super) bytes: usize,
    pub(super) fuse: Fuse,
}

impl Part {
    pub(super) fn of(job: &Job, shape: &Shape, queue_bytes_max: usize) -> Part {
        let Some((lba, blocks)) = job.op.extent() else { return Part::default() };
        let block_bytes = shape.block_bytes as usize;
        let moved_max = (shape.bytes_max.min(queue_bytes_max) / block_bytes).clamp(1, 1 << 16);
        let moved_max = u32::try_from(moved_max).unwrap_or(1);
        let most = match job.op {
            Op::CompareAndWrite { .. } => blocks,
            Op::Unmap { .. } => shape.unmap_blocks_max.unwrap_or(blocks),
            Op::Verify { .. } => moved_max.min(shape.verify_blocks_max),
            Op::WriteZeroes { .. } => shape.zeroes_blocks_max.unwrap_or(moved_max),
            _ => moved_max,
        };
        let part = (blocks - job.issued_blocks).min(most);
        let bytes = part as usize * block_bytes;
        let (from, fuse) = match job.op {
            Op::CompareAndWrite { .. } if job.is_issued => (bytes, Fuse::Second),
            Op::CompareAndWrite { .. } => (0, Fuse::First),
            _ => (job.issued_blocks as usize * block_bytes, Fuse::Alone),
        };
        Part { lba: lba + u64::from(job.issued_blocks), blocks: part, from, bytes, fuse }
    }

    pub(super) fn command(&self, op: Op, shape: &Shape) -> Command {
        let mut cdw10 = [0; 6];
        cdw10[..3].copy_from_slice(&spec::extent_words(self.lba, self.blocks));
        let opcode = match op {
            Op::Read { .. } => nvm::READ,
            Op::Verify { .. } => nvm::VERIFY,
            Op::Write { .. } => nvm::WRITE,
            Op::WriteZeroes { .. } if shape.zeroes_blocks_max.is_none() => nvm::WRITE,
            Op::WriteZeroes { may_unmap, .. } => {
                cdw10[2] |= if may_unmap { spec::DEALLOCATE } else { 0 };
                nvm::WRITE_ZEROES
            }
            Op::CompareAndWrite { .. } if self.fuse == Fuse::First => nvm::COMPARE,
            Op::CompareAndWrite { .. } => nvm::WRITE,
            Op::Flush => {
                cdw10 = [0; 6];
                nvm::FLUSH
            }
            Op::Unmap { .. } => {
                // One range; the attribute says that it is to be deallocated.
                cdw10 = [0, spec::AD, 0, 0, 0, 0];
                nvm::DATASET_MANAGEMENT
            }
        };
        if let Op::Write { fua: true, .. }
        | Op::WriteZeroes { fua: true, .. }
        | Op::CompareAndWrite { fua: true, .. } = op
            && opcode != nvm::COMPARE
            && !planted!(FuaDropped)
        {
            cdw10[2] |= spec::FUA;
        }
        if let Some(protection) = shape.protection {
            cdw10[2] |= match op {
                Op::Read { .. } => protection.reads,
                Op::Verify { .. } => protection.reads & !spec::PRACT,
                Op::Write { .. } | Op::WriteZeroes { .. } => protection.writes,
                Op::Flush | Op::Unmap { .. } | Op::CompareAndWrite { .. } => 0,
            };
            // The reference tag of the first block: the low half of its LBA.
            cdw10[4] = cdw10[0];
        }
        Command { opcode, fuse: self.fuse, nsid: shape.nsid, cdw10, ..Command::default() }
    }

    pub(super) fn payload<'a>(&self, job: &'a Job, shape: &Shape) -> Payload<'a> {
        match (job.op, &job.data) {
            (Op::Read { .. }, Some(data)) => Payload::Read(data, (self.from, self.bytes)),
            (Op::Write { .. } | Op::CompareAndWrite { .. }, Some(data)) => {
                Payload::Write(data, (self.from, self.bytes))
            }
            (Op::WriteZeroes { .. }, _) if shape.zeroes_blocks_max.is_none() => Payload::Zeroes(self.bytes),
            (Op::Unmap { .. }, _) => Payload::Inline(spec::dataset_range(self.lba, self.blocks)),
            _ => Payload::None,
        }
    }
}
