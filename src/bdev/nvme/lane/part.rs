//! How an IO is cut into commands.

use crate::bdev::Op;
use crate::bdev::nvme::planted::planted;
use crate::bdev::nvme::queue::Payload;
use crate::bdev::nvme::spec::{self, Command};
use crate::bdev::nvme::table::{self, Job};

/// What a lane needs to know of a namespace to make commands for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bdev::nvme) struct Shape {
    pub(in crate::bdev::nvme) nsid: u32,
    pub(in crate::bdev::nvme) block_bytes: u32,
    /// The most bytes that a command may move, as far as the controller is concerned; at least a block.
    pub(in crate::bdev::nvme) bytes_max: usize,
    /// The most blocks that WRITE ZEROES may cover; none where the controller does not know it.
    pub(in crate::bdev::nvme) zeroes_blocks_max: Option<u32>,
    /// It knows DATASET MANAGEMENT.
    pub(in crate::bdev::nvme) unmaps: bool,
    /// Its blocks have protection information, which the controller makes and checks itself: bits for word 12 of writes, and
    /// of reads.
    pub(in crate::bdev::nvme) protection: Option<(u32, u32)>,
}

/// The next part of an IO that one command does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    lba: u64,
    pub(super) blocks: u32,
    pub(super) from: usize,
    pub(super) bytes: usize,
}

impl Part {
    pub(super) fn of(job: &Job, shape: &Shape, queue_bytes_max: usize) -> Part {
        let Some((lba, blocks)) = job.op.extent() else {
            return Part { lba: 0, blocks: 0, from: 0, bytes: 0 };
        };
        let block_bytes = shape.block_bytes as usize;
        let moved_max = (shape.bytes_max.min(queue_bytes_max) / block_bytes).clamp(1, 1 << 16);
        let moved_max = u32::try_from(moved_max).unwrap_or(1);
        let most = match job.op {
            Op::Unmap { .. } => blocks,
            Op::WriteZeroes { .. } => shape.zeroes_blocks_max.unwrap_or(moved_max),
            _ => moved_max,
        };
        let part = (blocks - job.issued_blocks).min(most);
        let from = job.issued_blocks as usize * block_bytes;
        Part {
            lba: lba + u64::from(job.issued_blocks),
            blocks: part,
            from,
            bytes: part as usize * block_bytes,
        }
    }

    pub(super) fn command(&self, op: Op, shape: &Shape) -> Command {
        let opcode = table::opcode(op, shape.zeroes_blocks_max.is_some());
        let mut cdw10 = [0; 6];
        match op {
            Op::Flush => {}
            // One range; the attribute says that it is to be deallocated.
            Op::Unmap { .. } => cdw10[1] = spec::AD,
            Op::Read { .. } | Op::Write { .. } | Op::WriteZeroes { .. } => {
                cdw10[..3].copy_from_slice(&spec::extent_words(self.lba, self.blocks));
                if let Some((writes, reads)) = shape.protection {
                    cdw10[2] |= if matches!(op, Op::Read { .. }) { reads } else { writes };
                    // The reference tag of the first block: the low half of its LBA.
                    cdw10[4] = cdw10[0];
                }
            }
        }
        match op {
            Op::Write { fua: true, .. } | Op::WriteZeroes { fua: true, .. } if !planted!(FuaDropped) => {
                cdw10[2] |= spec::FUA;
            }
            _ => {}
        }
        if let Op::WriteZeroes { may_unmap: true, .. } = op
            && shape.zeroes_blocks_max.is_some()
        {
            cdw10[2] |= spec::DEALLOCATE;
        }
        Command { opcode, nsid: shape.nsid, cdw10, ..Command::default() }
    }

    pub(super) fn payload<'a>(&self, job: &'a Job, shape: &Shape) -> Payload<'a> {
        match (job.op, &job.data) {
            (Op::Read { .. }, Some(data)) => Payload::Read(data, (self.from, self.bytes)),
            (Op::Write { .. }, Some(data)) => Payload::Write(data, (self.from, self.bytes)),
            (Op::WriteZeroes { .. }, _) if shape.zeroes_blocks_max.is_none() => Payload::Zeroes(self.bytes),
            (Op::Unmap { .. }, _) => Payload::Inline(spec::dataset_range(self.lba, self.blocks)),
            _ => Payload::None,
        }
    }
}
