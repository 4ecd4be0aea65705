//! What is asked of a device, and how it ends.

use crate::bdev::pass::{Cdb, Flow};
use crate::bdev::protection::Checks;
use crate::buf::Buf;
use crate::slab::Key;

/// What an IO does. Extents are in blocks of the device's `block_bytes`, already checked against its size by the caller;
/// a channel that finds one out of range (the device shrank) answers [`IoError::OutOfRange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Fill the buffer's first `blocks` blocks from the medium.
    Read {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
    },
    /// Store the buffer's first `blocks` blocks.
    Write {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Done only when every write that was done before is on stable storage.
    Flush,
    /// Free the blocks' space, as far as the device does ([`Info::unmap`](super::Info::unmap)); it counts as a write of what they then hold.
    /// Of at most [`ZERO_BYTES_MAX`](super::ZERO_BYTES_MAX).
    Unmap {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
    },
    /// Make the blocks zeroes, of at most [`ZERO_BYTES_MAX`](super::ZERO_BYTES_MAX). Every device can.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// Done only when on stable storage.
        fua: bool,
        /// The blocks' space may be freed; else it stays, or becomes, theirs.
        may_unmap: bool,
    },
    /// Compare the blocks with the buffer's first `blocks` blocks and, where they are equal, store its second `blocks`
    /// blocks; else [`IoError::Miscompare`]. As one ([`Offloads::compare_and_write_blocks`](super::Offloads::compare_and_write_blocks)).
    CompareAndWrite {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Fill the buffer with the blocks, each followed by its protection information ([`Info::protection`](super::Info::protection)).
    ReadProtected {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// What has to be right of it.
        checks: Checks,
    },
    /// Store blocks of which each is followed by its protection information in the buffer ([`Info::protection`](super::Info::protection)): none of them where
    /// a check fails.
    WriteProtected {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// Done only when on stable storage.
        fua: bool,
        /// What has to be right of it.
        checks: Checks,
    },
    /// Find out whether the blocks can be read ([`Offloads::verify`](super::Offloads::verify)), of at most [`ZERO_BYTES_MAX`](super::ZERO_BYTES_MAX); or whether what belongs to them is right
    /// ([`Info::protection`](super::Info::protection)), of at most a piece.
    Verify {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// What has to be right of their protection information.
        checks: Option<Checks>,
    },
    /// Compare the blocks with the buffer's first `blocks` blocks: [`IoError::Miscompare`] where they differ
    /// ([`Offloads::compare`](super::Offloads::compare)). NVM command set §3.2.1; SBC-4, VERIFY with BYTCHK 01b.
    Compare {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
    },
    /// Store in the blocks what others of the same device hold ([`Offloads::copy`](super::Offloads::copy)). Of at most [`ZERO_BYTES_MAX`](super::ZERO_BYTES_MAX). The two
    /// extents have no block in common, else it is [`IoError::Unsupported`]. NVM command set §3.2.2; SPC-4, EXTENDED COPY from
    /// block device to block device.
    Copy {
        /// First block of those that are read ([`Op::source`]).
        from: u64,
        /// First block of those that are written.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
        /// Done only when on stable storage.
        fua: bool,
    },
    /// Make the blocks such that reading one is [`IoError::Medium`] until it is written ([`Offloads::write_uncorrectable`](super::Offloads::write_uncorrectable)).
    /// Of at most [`ZERO_BYTES_MAX`](super::ZERO_BYTES_MAX). NVM command set §3.2.7; SBC-4, WRITE LONG with WR_UNCOR.
    WriteUncorrectable {
        /// First block.
        lba: u64,
        /// How many; at least 1.
        blocks: u32,
    },
    /// Carry out a SCSI command as it is ([`Info::passes`](super::Info::passes)). It ends well where the device has ended it, however:
    /// [`Channel::told`](super::Channel::told).
    Pass {
        /// The CDB.
        cdb: Cdb,
        /// Which way the buffer's data go.
        flow: Flow,
        /// How many: of the buffer, from its first on.
        bytes: u32,
    },
}

impl Op {
    /// The first block and how many: none for a flush, which is about all of them, and what only the device knows. Of a copy those that are written.
    pub const fn extent(mut self) -> Option<(u64, u32)> {
        match self.extent_mut() {
            Some((lba, blocks)) => Some((*lba, *blocks)),
            None => None,
        }
    }

    /// The same, to be changed.
    pub const fn extent_mut(&mut self) -> Option<(&mut u64, &mut u32)> {
        match self {
            Op::Read { lba, blocks }
            | Op::Write { lba, blocks, .. }
            | Op::Unmap { lba, blocks }
            | Op::WriteZeroes { lba, blocks, .. }
            | Op::CompareAndWrite { lba, blocks, .. }
            | Op::Verify { lba, blocks, .. }
            | Op::Compare { lba, blocks }
            | Op::Copy { lba, blocks, .. }
            | Op::WriteUncorrectable { lba, blocks }
            | Op::ReadProtected { lba, blocks, .. }
            | Op::WriteProtected { lba, blocks, .. } => Some((lba, blocks)),
            Op::Flush | Op::Pass { .. } => None,
        }
    }

    /// Of a copy, the extent that is read.
    pub const fn source(self) -> Option<(u64, u32)> {
        match self {
            Op::Copy { from, blocks, .. } => Some((from, blocks)),
            _ => None,
        }
    }

    /// Whether a copy reads blocks that it writes.
    pub const fn overlaps(self) -> bool {
        match self {
            Op::Copy { from, lba, blocks, .. } => from.abs_diff(lba) < blocks as u64,
            _ => false,
        }
    }
}

/// One operation on its way to a device, with its memory.
#[derive(Debug)]
pub struct Io {
    /// The caller's name for it, given back in [`Done`].
    pub tag: Key,
    /// What to do.
    pub op: Op,
    /// The memory, at least as long as the extent, twice so for compare and write; only for those that move data.
    pub data: Option<Buf>,
}

/// Why an IO failed. What initiators are told is decided in `reactor`, from the table in `scsi::sense`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoError {
    /// The medium failed at this block (of the device, not of the extent), or somewhere.
    Medium {
        /// The first bad block, where known.
        lba: Option<u64>,
    },
    /// No space is left for a write.
    NoSpace,
    /// The extent is not (or no longer) on the device.
    OutOfRange,
    /// The device refuses writes.
    ReadOnly,
    /// A flush failed earlier: what was written may be lost.
    FlushFailed,
    /// The device cannot do that ([`Info::unmap`](super::Info::unmap)).
    Unsupported,
    /// Given up because asked to ([`Channel::cancel`](super::Channel::cancel)); nothing more will reach the medium.
    Cancelled,
    /// It did not do its work, and nobody is to say whether a part of it happened: a write is not repeated here, who sent it
    /// may send it again.
    Aborted,
    /// The device does not let this host.
    AccessDenied,
    /// What was compared differs.
    Miscompare,
    /// Protection information: the guard (a CRC) does not match its block.
    Guard,
    /// Protection information: the application tag is another.
    ApplicationTag,
    /// Protection information: the reference tag is another.
    ReferenceTag,
    /// The device is gone.
    Gone,
}

/// The end of an IO. From here on nothing touches its memory or the medium on its behalf.
#[derive(Debug)]
pub struct Done {
    /// The tag it was submitted under.
    pub tag: Key,
    /// Its memory, back.
    pub data: Option<Buf>,
    /// How it ended.
    pub result: Result<(), IoError>,
}

/// Why a submission was not taken; the IO comes back unharmed.
#[derive(Debug)]
pub enum Refused {
    /// The channel is still opening: keep it and try again after a poll.
    NotReady(Io),
    /// The queue is full: keep it and try again after a completion.
    Full(Io),
    /// The device is gone for good.
    Gone(Io),
}
