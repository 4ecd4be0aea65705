//! Commands that are more than moving data to or from the medium: VERIFY, WRITE AND VERIFY, ORWRITE, COMPARE AND WRITE,
//! WRITE ATOMIC, WRITE SAME and UNMAP (SBC-4 §5).
//!
//! Such a command is worked off in [`Step`]s, one device IO at a time. A [`Run`] is the part of it that can go ahead: the
//! whole command, or one piece where the data that come with it are cut into pieces.

mod plan;
mod protected;
mod unmap;

#[cfg(test)]
mod tests;

pub(super) use plan::{
    compare_and_write, diagnostic, orwrite_16, pre_fetch_10, pre_fetch_16, self_test, verify_10, verify_12,
    verify_16, verify_32, write_and_verify_10, write_and_verify_12, write_and_verify_16, write_and_verify_32,
    write_atomic_16, write_same_10, write_same_16, write_same_32,
};
pub(super) use unmap::unmap;

use crate::bdev::ZERO_BYTES_MAX;
use crate::bdev::protection::{Checks, Protection, TUPLE_BYTES};
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::report::diagnostic;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Access, Extent, Place, Served, medium};

pub use unmap::{UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX};

/// MAXIMUM WRITE SAME LENGTH of VPD B0h. libiscsi's conformance tests write and read in one command what a longer one would
/// cover.
pub const WRITE_SAME_BLOCKS_MAX: u32 = 32 * 1024;

/// Blocks that one COMPARE AND WRITE may concern: both halves of its data go into one buffer, and the field has 8 bits.
pub fn compare_and_write_blocks_max(block_bytes: u32) -> u8 {
    u8::try_from(PIECE_BYTES_MAX / 2 / block_bytes).unwrap_or(u8::MAX)
}

/// Blocks that one WRITE ATOMIC may concern (MAXIMUM ATOMIC TRANSFER LENGTH of VPD B0h): what the device writes as a whole, as
/// far as one IO goes. 0 where it is not served.
pub fn write_atomic_blocks_max(unit: &UnitView) -> u32 {
    unit.offloads.atomic_write_blocks.min(PIECE_BYTES_MAX / unit.block_bytes)
}

/// A command to be worked off in steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Work {
    kind: Kind,
    /// The blocks concerned; for UNMAP they stand in the parameter list.
    extent: Extent,
    /// What is checked of protection information ([`protect`](crate::scsi::protect)), which then goes with the blocks that are sent.
    checks: Option<Checks>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// VERIFY: the blocks can be read.
    Verify,
    /// VERIFY with BYTCHK 01b: they are as sent.
    Compare,
    /// VERIFY with BYTCHK 11b: each is as the one sent.
    CompareEach,
    /// WRITE AND VERIFY.
    WriteVerify { compares: bool },
    /// ORWRITE.
    OrWrite,
    /// COMPARE AND WRITE.
    CompareAndWrite,
    /// WRITE ATOMIC.
    WriteAtomic,
    /// WRITE SAME; `unmap` is UNMAP=1 and ANCHOR=0, `has_data` is NDOB=0. With ANCHOR=1 it is what it is with UNMAP=0: devices that
    /// anchor do so with every zeroing that is not to give space back.
    WriteSame { unmap: bool, has_data: bool },
    /// UNMAP, with so many bytes of parameter list; `anchors` is ANCHOR=1.
    Unmap { bytes: u16, anchors: bool },
    /// SEND DIAGNOSTIC, with so many bytes of parameter list.
    Diagnostic { bytes: u16 },
}

/// What a run wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// That no other IO touches these blocks until the command has ended.
    Hold {
        /// First block.
        lba: u64,
        /// How many.
        blocks: u32,
    },
    /// To read these blocks into a scratch buffer.
    Read {
        /// First block.
        lba: u64,
        /// How many; at most a piece.
        blocks: u32,
    },
    /// To write these blocks out of a scratch buffer that [`Run::fill`] has filled.
    Write {
        /// First block.
        lba: u64,
        /// How many; at most a piece.
        blocks: u32,
        /// Force unit access.
        fua: bool,
    },
    /// To read these blocks with their protection information into a scratch buffer.
    ReadProtected {
        /// First block.
        lba: u64,
        /// How many; at most a piece, with what goes with them.
        blocks: u32,
        /// What has to be right.
        checks: Checks,
    },
    /// To write these blocks with their protection information out of a scratch buffer that [`Run::fill`] has filled.
    WriteProtected {
        /// First block.
        lba: u64,
        /// How many; at most a piece, with what goes with them.
        blocks: u32,
        /// Force unit access.
        fua: bool,
        /// What has to be right.
        checks: Checks,
    },
    /// To compare these blocks with the first half of the command's data and to write the second, as one.
    CompareAndWrite {
        /// First block.
        lba: u64,
        /// How many.
        blocks: u32,
        /// Force unit access.
        fua: bool,
    },
    /// To find out whether these blocks can be read.
    Verify {
        /// First block.
        lba: u64,
        /// How many; at most [`ZERO_BYTES_MAX`] bytes, and a piece where something is checked.
        blocks: u32,
        /// Of their protection information.
        checks: Option<Checks>,
    },
    /// To make these blocks zero.
    WriteZeroes {
        /// First block.
        lba: u64,
        /// How many; at most [`ZERO_BYTES_MAX`] bytes.
        blocks: u32,
        /// The space may be given back.
        may_unmap: bool,
    },
    /// To give these blocks back.
    Unmap {
        /// First block.
        lba: u64,
        /// How many; at most [`ZERO_BYTES_MAX`] bytes.
        blocks: u32,
    },
    /// Nothing: the run is over.
    Done,
}

impl Step {
    /// The scratch buffer that it wants, in blocks, and whether their protection information is to be in it.
    pub fn scratch(&self) -> (u32, bool) {
        match *self {
            // The buffer comes before the hold: those that wait for the hold have buffers.
            Step::Hold { blocks, .. } | Step::Read { blocks, .. } | Step::Write { blocks, .. } => {
                (blocks, false)
            }
            Step::ReadProtected { blocks, .. } | Step::WriteProtected { blocks, .. } => (blocks, true),
            Step::CompareAndWrite { .. }
            | Step::Verify { .. }
            | Step::WriteZeroes { .. }
            | Step::Unmap { .. }
            | Step::Done => (0, false),
        }
    }
}

/// Where a run stands within the blocks from `at` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Hold,
    Read,
    Write,
}

/// A command, or a piece of one, at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    kind: Kind,
    /// What of the medium this run concerns now: one descriptor's blocks in the case of UNMAP.
    extent: Extent,
    block_bytes: u32,
    /// What the device does of it by itself.
    is_offloaded: bool,
    /// Blocks of the extent that are done.
    done_blocks: u32,
    /// UNMAP: descriptors that are done.
    done_descriptors: usize,
    stage: Stage,
    /// Where the run's data begin in the command's, in bytes.
    start_bytes: u32,
    /// WRITE SAME: the block is zero, and nothing else is to be kept with it.
    is_zero: bool,
    /// As the command's.
    checks: Option<Checks>,
    /// WRITE SAME: each block has the reference tag after that of the one before.
    counts_tags: bool,
}

impl Work {
    const fn new(kind: Kind, extent: Extent) -> Work {
        Work { kind, extent, checks: None }
    }

    /// Data that come with it, in bytes.
    pub fn data_bytes(&self, block_bytes: u32) -> u64 {
        let blocks = match self.kind {
            Kind::Verify | Kind::WriteSame { has_data: false, .. } => 0,
            Kind::Compare | Kind::WriteVerify { .. } | Kind::OrWrite | Kind::WriteAtomic => {
                u64::from(self.extent.blocks)
            }
            Kind::CompareEach | Kind::WriteSame { has_data: true, .. } => u64::from(self.extent.blocks > 0),
            Kind::CompareAndWrite => 2 * u64::from(self.extent.blocks),
            Kind::Unmap { bytes, .. } | Kind::Diagnostic { bytes } => return u64::from(bytes),
        };
        blocks * u64::from(wire_bytes(block_bytes, self.checks))
    }

    /// Whether a part of the data is enough for a part of the command. Else all must have come first, and they fit one
    /// buffer.
    pub fn is_piecewise(&self) -> bool {
        matches!(self.kind, Kind::Compare | Kind::WriteVerify { .. } | Kind::OrWrite) && self.checks.is_none()
    }

    /// Whether it is COMPARE AND WRITE, whose data are those to compare and those to write.
    pub fn has_halves(&self) -> bool {
        self.kind == Kind::CompareAndWrite
    }

    /// Whether it is WRITE SAME.
    pub fn is_write_same(&self) -> bool {
        matches!(self.kind, Kind::WriteSame { .. })
    }

    /// The same with protection information: VERIFY without data, WRITE AND VERIFY and WRITE SAME of a block that is sent; none of what
    /// goes without.
    pub(super) fn checking(self, checks: Checks) -> Option<Work> {
        let can = matches!(
            self.kind,
            Kind::Verify | Kind::WriteVerify { .. } | Kind::WriteSame { has_data: true, .. }
        );
        can.then_some(Work { checks: Some(checks), ..self })
    }

    /// The blocks concerned.
    pub(super) fn first(&self) -> u64 {
        self.extent.lba
    }

    /// Whether it is UNMAP.
    pub fn is_unmap(&self) -> bool {
        matches!(self.kind, Kind::Unmap { .. })
    }

    /// Whether it changes the medium.
    pub fn access(&self) -> Access {
        match self.kind {
            Kind::Verify | Kind::Compare | Kind::CompareEach | Kind::Diagnostic { .. } => Access::Read,
            _ => Access::Write,
        }
    }

    /// Begins with the data that came, `start_bytes` being where they stand in the command's data.
    ///
    /// # Errors
    /// The data are not what the command needs, or the unit is not there.
    pub fn begin(&self, start_bytes: u32, data: &[u8], place: &Place<'_>) -> Result<Run, Sense> {
        let unit = Served::at(place).ok_or(Sense::NO_SUCH_UNIT)?;
        let block_bytes = unit.view.block_bytes;
        let mut run = Run {
            kind: self.kind,
            extent: self.extent,
            block_bytes,
            is_offloaded: match self.kind {
                Kind::Verify => unit.view.offloads.verify && self.checks.is_none(),
                Kind::CompareAndWrite => unit.view.offloads.compare_and_write_blocks >= self.extent.blocks,
                _ => false,
            },
            done_blocks: 0,
            done_descriptors: 0,
            stage: Stage::Write,
            start_bytes,
            is_zero: false,
            checks: self.checks,
            // SBC-4 §5.50: of type 3 the tag is nobody's.
            counts_tags: unit.view.protection != Some(Protection::Type3),
        };
        match self.kind {
            Kind::Unmap { .. } => unmap::check(data, unit)?,
            Kind::Diagnostic { bytes } if usize::from(bytes) != data.len() => {
                return Err(Sense::PARAMETER_LIST_LENGTH);
            }
            Kind::Diagnostic { .. } => diagnostic::check(data)?,
            _ => medium::check(self.extent, self.access(), unit)?,
        }
        match self.kind {
            Kind::Verify => run.stage = Stage::Read,
            _ if self.is_piecewise() => {
                run.extent.lba += u64::from(start_bytes / block_bytes);
                run.extent.blocks = u32::try_from(data.len()).unwrap_or(0) / block_bytes;
                run.stage = match self.kind {
                    Kind::Compare => Stage::Read,
                    Kind::OrWrite => Stage::Hold,
                    _ => Stage::Write,
                };
            }
            Kind::Compare
            | Kind::WriteVerify { .. }
            | Kind::OrWrite
            | Kind::CompareEach
            | Kind::CompareAndWrite
            | Kind::WriteAtomic
            | Kind::WriteSame { .. } => {
                if data.len() as u64 != self.data_bytes(block_bytes) {
                    // The initiator sent less than the CDB says.
                    return Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT);
                }
                run.is_zero = match self.checks {
                    None => data.iter().all(|byte| *byte == 0),
                    Some(_) => {
                        matches!(self.kind, Kind::WriteSame { unmap: true, .. })
                            && protected::is_unmapped(data)
                    }
                };
                run.stage = match self.kind {
                    Kind::CompareEach => Stage::Read,
                    Kind::CompareAndWrite | Kind::WriteAtomic => Stage::Hold,
                    _ => Stage::Write,
                };
            }
            Kind::Unmap { .. } => {
                run.extent = unmap::descriptor(data, 0).unwrap_or(NOTHING);
                run.next_descriptor(data);
            }
            // It has no blocks.
            Kind::Diagnostic { .. } => {}
        }
        Ok(run)
    }
}

const NOTHING: Extent = Extent { lba: 0, blocks: 0, fua: false };

impl Run {
    /// What comes next. The same answer until [`Run::finished`] is called.
    pub fn step(&self) -> Step {
        let lba = self.extent.lba + u64::from(self.done_blocks);
        let left = self.extent.blocks - self.done_blocks;
        if left == 0 {
            return Step::Done;
        }
        if let Some(checks) = self.checks.filter(|_| !self.is_zero) {
            return self.protected_step(lba, left, checks);
        }
        let blocks = left.min(PIECE_BYTES_MAX / self.block_bytes);
        let zeroes = left.min(ZERO_BYTES_MAX / self.block_bytes);
        match (self.kind, self.stage) {
            (_, Stage::Hold) => Step::Hold { lba, blocks },
            (Kind::Verify, Stage::Read) if self.is_offloaded => {
                Step::Verify { lba, blocks: zeroes, checks: None }
            }
            (_, Stage::Read) => Step::Read { lba, blocks },
            // It was read and is equal. What is told apart now was written by somebody past us.
            (Kind::CompareAndWrite, Stage::Write) if self.is_offloaded => {
                Step::CompareAndWrite { lba, blocks, fua: self.extent.fua }
            }
            (Kind::Unmap { anchors: false, .. }, Stage::Write) => Step::Unmap { lba, blocks: zeroes },
            (Kind::Unmap { anchors: true, .. }, Stage::Write) => {
                Step::WriteZeroes { lba, blocks: zeroes, may_unmap: false }
            }
            (Kind::WriteSame { unmap, .. }, Stage::Write) if self.is_zero => {
                Step::WriteZeroes { lba, blocks: zeroes, may_unmap: unmap }
            }
            (_, Stage::Write) => Step::Write { lba, blocks, fua: self.extent.fua },
        }
    }

    /// The same of a command whose protection information is checked.
    fn protected_step(&self, lba: u64, left: u32, checks: Checks) -> Step {
        let blocks = left.min(PIECE_BYTES_MAX / wire_bytes(self.block_bytes, self.checks));
        match (self.kind, self.stage) {
            (Kind::WriteVerify { compares: true }, Stage::Read) => {
                Step::ReadProtected { lba, blocks, checks }
            }
            (_, Stage::Hold | Stage::Read) => Step::Verify { lba, blocks, checks: Some(checks) },
            (_, Stage::Write) => Step::WriteProtected { lba, blocks, fua: self.extent.fua, checks },
        }
    }

    /// Prepares what [`Step::Write`] writes. ORWRITE finds there what was read.
    pub fn fill(&self, data: &[u8], scratch: &mut [u8]) {
        match self.kind {
            Kind::WriteSame { .. } if self.checks.is_some() => {
                let first = if self.counts_tags { Some(self.done_blocks) } else { None };
                protected::fill_same(data, first, scratch);
            }
            Kind::WriteSame { .. } => {
                for block in scratch.chunks_exact_mut(data.len().max(1)) {
                    block.copy_from_slice(data);
                }
            }
            Kind::OrWrite => {
                for (to, from) in scratch.iter_mut().zip(data) {
                    *to |= from;
                }
            }
            Kind::CompareAndWrite => copy(&data[data.len() / 2..], scratch),
            _ => copy(data, scratch),
        }
    }

    /// The step is done; `scratch` is what was read.
    ///
    /// # Errors
    /// MISCOMPARE.
    pub fn finished(&mut self, data: &[u8], scratch: &[u8]) -> Result<(), Sense> {
        let moved = match self.step() {
            Step::Hold { .. } | Step::Done => 0,
            Step::Read { blocks, .. }
            | Step::Write { blocks, .. }
            | Step::ReadProtected { blocks, .. }
            | Step::WriteProtected { blocks, .. }
            | Step::CompareAndWrite { blocks, .. }
            | Step::Verify { blocks, .. }
            | Step::WriteZeroes { blocks, .. }
            | Step::Unmap { blocks, .. } => blocks,
        };
        match (self.kind, self.stage) {
            (Kind::WriteAtomic, Stage::Hold) => self.stage = Stage::Write,
            (_, Stage::Hold) => self.stage = Stage::Read,
            (Kind::Compare, Stage::Read) => {
                // A piece is read in one step.
                compare(data, scratch, self.start_bytes)?;
                self.done_blocks += moved;
            }
            (Kind::CompareEach, Stage::Read) => {
                for block in scratch.chunks_exact(data.len().max(1)) {
                    compare(data, block, 0)?;
                }
                self.done_blocks += moved;
            }
            (Kind::CompareAndWrite, Stage::Read) => {
                compare(&data[..data.len() / 2], scratch, 0)?;
                self.stage = Stage::Write;
            }
            (Kind::OrWrite, Stage::Read) => self.stage = Stage::Write,
            (Kind::WriteVerify { compares }, Stage::Read) => {
                if compares {
                    // With what goes with the blocks, where that was sent.
                    compare(data, scratch, self.start_bytes)?;
                }
                self.done_blocks += moved;
            }
            (Kind::WriteVerify { .. }, Stage::Write) => self.stage = Stage::Read,
            (_, Stage::Read | Stage::Write) => self.done_blocks += moved,
        }
        if matches!(self.kind, Kind::Unmap { .. }) {
            self.next_descriptor(data);
        }
        Ok(())
    }

    /// UNMAP: goes on to the next descriptor that names blocks, where those of the present one are done.
    fn next_descriptor(&mut self, data: &[u8]) {
        while self.done_blocks == self.extent.blocks {
            self.done_descriptors += 1;
            let Some(next) = unmap::descriptor(data, self.done_descriptors) else { return };
            self.extent = next;
            self.done_blocks = 0;
        }
    }
}

/// What goes over the wire with each block of a command that has these checks.
fn wire_bytes(block_bytes: u32, checks: Option<Checks>) -> u32 {
    if checks.is_some() { block_bytes + TUPLE_BYTES } else { block_bytes }
}

fn copy(from: &[u8], to: &mut [u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// SBC-4 §5.3: INFORMATION is the offset of the first byte that differs, in the data of the command, of which `data` are
/// those from `start_bytes` on.
fn compare(data: &[u8], medium: &[u8], start_bytes: u32) -> Result<(), Sense> {
    if data.get(..medium.len()) == Some(medium) {
        return Ok(());
    }
    let same = data.iter().zip(medium).take_while(|(data, medium)| data == medium).count();
    Err(Sense::MISCOMPARE.at(u64::from(start_bytes) + same as u64))
}

/// Whether the unit gives blocks back (LBPME).
pub(super) fn can_unmap(view: &UnitView) -> bool {
    view.unmap.is_some()
}

/// Whether it anchors them (ANC_SUP).
fn can_anchor(view: &UnitView) -> bool {
    view.unmap.is_some_and(|unmap| unmap.anchors)
}
