//! Work on a whole logical unit that goes on by itself: SANITIZE (SBC-4 §4.11, §5.30) and FORMAT UNIT of what is thinly
//! provisioned (§5.4).
//!
//! While it lasts commands that need the medium end in NOT READY, and say how far it is. It belongs to the unit, not to the
//! command: no abort, reset or lost nexus ends it. Control decides that it begins, and every reactor has shown that the
//! medium is not ready, before the unit's home reactor does it, one device IO at a time ([`Chore::next`]); or before the device does it
//! by itself ([`Chore::erasure`]).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::bdev::{Erasure, Op, ZERO_BYTES_MAX};
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::{Access, Extent, Plan, Served, Status, medium, work};

/// FORMAT UNIT.
pub(crate) const FORMAT_UNIT: u8 = 0x04;
/// SANITIZE.
pub(crate) const SANITIZE: u8 = 0x48;
/// SERVICE ACTION of SANITIZE, OVERWRITE.
pub(crate) const OVERWRITE: u8 = 0x01;
/// SERVICE ACTION of SANITIZE, BLOCK ERASE.
pub(crate) const BLOCK_ERASE: u8 = 0x02;
/// SERVICE ACTION of SANITIZE, CRYPTOGRAPHIC ERASE.
pub(crate) const CRYPTOGRAPHIC_ERASE: u8 = 0x03;
/// SERVICE ACTION of SANITIZE, EXIT FAILURE MODE.
pub(crate) const EXIT_FAILURE_MODE: u8 = 0x1f;

/// FMTDATA in byte 1 of FORMAT UNIT.
const FMTDATA: u8 = 0x10;
/// LONGLIST.
const LONGLIST: u8 = 0x20;
/// What an overwrite's parameter list has before its pattern.
const OVERWRITE_HEADER_BYTES: usize = 4;

/// A chore of a unit.
#[derive(Debug)]
pub struct Chore {
    task: Task,
    blocks: u64,
    block_bytes: u32,
    /// Times that the whole medium is gone over; at least 1.
    passes: u8,
    /// Blocks done, of all passes. Written by the reactor whose chore it is.
    done_blocks: AtomicU64,
    /// AUSE: if it fails, EXIT FAILURE MODE is allowed.
    may_exit: bool,
    is_immediate: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Task {
    /// Each block is to hold the pattern, again and again, inverted in every second pass where asked for, so that the last is not.
    Overwrite { pattern: Box<[u8]>, inverts: bool },
    /// Every block is overwritten with zeroes where that is all there is of it, then given back where the unit can: piece by
    /// piece, so that no more of a thin medium is there at a time. A pass is either of both.
    Erase,
    /// The device erases all that it holds by itself, and does not say how far it is.
    Whole(Erasure),
    /// Every block is given back.
    Unmap,
}

/// The same, not merely alike.
impl PartialEq for Chore {
    fn eq(&self, other: &Chore) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Chore {}

/// What a command asks for that only control can do.
#[derive(Debug)]
pub enum Decision {
    /// This chore.
    Begin(Chore),
    /// Nothing is to be done.
    Nothing,
    /// To forget that a chore has failed.
    ExitFailureMode,
}

/// What came of a chore that a reactor or a device has had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All of it is done, and durable.
    Done,
    /// The device has failed.
    Failed,
    /// The unit was not as the chore found it at first: smaller, gone or without its medium.
    Refused,
}

impl Decision {
    /// Whether it may be done on a unit whose SANITIZE has failed.
    pub fn mends(&self) -> bool {
        match self {
            Decision::Begin(chore) => chore.is_sanitize(),
            Decision::Nothing => false,
            Decision::ExitFailureMode => true,
        }
    }
}

impl Chore {
    /// What SANITIZE or FORMAT UNIT asks for, `list` being what came of the parameter list.
    ///
    /// # Errors
    /// The list is not what the command needs.
    pub fn decide(cdb: &Cdb, list: &[u8], unit: &UnitView) -> Result<Decision, Sense> {
        match (cdb.opcode(), cdb.service_action()) {
            (SANITIZE, OVERWRITE) => overwrite(cdb, list, unit).map(Decision::Begin),
            (SANITIZE, BLOCK_ERASE) if unit.offloads.erase => Ok(Decision::Begin(erase(cdb, unit))),
            (SANITIZE, BLOCK_ERASE) => whole(cdb, Erasure::Blocks, unit).map(Decision::Begin),
            (SANITIZE, CRYPTOGRAPHIC_ERASE) => whole(cdb, Erasure::Key, unit).map(Decision::Begin),
            (SANITIZE, _) => Ok(Decision::ExitFailureMode),
            _ => format(cdb, list, unit),
        }
    }

    fn new(task: Task, passes: u8, unit: &UnitView) -> Chore {
        let done_blocks = AtomicU64::new(0);
        let (blocks, block_bytes) = (unit.blocks, unit.block_bytes);
        Chore { task, blocks, block_bytes, passes, done_blocks, may_exit: false, is_immediate: false }
    }

    /// The same from the beginning, on a unit that has so many blocks by now.
    #[must_use]
    pub fn again(&self, blocks: u64) -> Chore {
        let &Chore { block_bytes, passes, may_exit, is_immediate, .. } = self;
        let (task, done_blocks) = (self.task.clone(), AtomicU64::new(0));
        Chore { task, blocks, block_bytes, passes, done_blocks, may_exit, is_immediate }
    }

    /// Blocks that it is done on.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Whether the command ends when the chore has begun.
    pub fn is_immediate(&self) -> bool {
        self.is_immediate
    }

    /// Whether it sanitizes: if it fails, nothing is served before another has gone well.
    pub fn is_sanitize(&self) -> bool {
        matches!(self.task, Task::Overwrite { .. } | Task::Erase | Task::Whole(_))
    }

    /// Whether it relies on what [`crate::bdev::Offloads::erase`] says.
    pub fn is_erase(&self) -> bool {
        self.task == Task::Erase
    }

    /// What [`crate::bdev::Bdev::erase`] is to do: nobody calls [`Chore::next`] then.
    pub fn erasure(&self) -> Option<Erasure> {
        match self.task {
            Task::Whole(how) => Some(how),
            Task::Overwrite { .. } | Task::Erase | Task::Unmap => None,
        }
    }

    /// Whether EXIT FAILURE MODE is allowed.
    pub fn may_exit(&self) -> bool {
        self.may_exit
    }

    /// The next IO, none where all is done. The same answer until [`Chore::finished`] is called.
    pub fn next(&self) -> Option<Op> {
        let piece = |left, most| u32::try_from(left).unwrap_or(u32::MAX).min(most / self.block_bytes);
        match self.task {
            Task::Overwrite { .. } => {
                let (lba, left) = self.at()?;
                Some(Op::Write { lba, blocks: piece(left, PIECE_BYTES_MAX), fua: false })
            }
            Task::Erase => self.next_to_erase(PIECE_BYTES_MAX / self.block_bytes),
            Task::Whole(_) => None,
            Task::Unmap => {
                let (lba, left) = self.at()?;
                Some(Op::Unmap { lba, blocks: piece(left, ZERO_BYTES_MAX) })
            }
        }
    }

    /// All passes over a piece, then the next one.
    fn next_to_erase(&self, most: u32) -> Option<Op> {
        let done = self.done_blocks.load(Ordering::Relaxed);
        if done >= self.total() {
            return None;
        }
        let both = u64::from(most) * u64::from(self.passes);
        let lba = done.checked_div(both)? * u64::from(most);
        let blocks = u32::try_from(self.blocks - lba).unwrap_or(u32::MAX).min(most);
        Some(if done % both < u64::from(blocks) {
            Op::WriteZeroes { lba, blocks, fua: false, may_unmap: false }
        } else {
            Op::Unmap { lba, blocks }
        })
    }

    /// Bytes of memory that the next IO wants.
    pub fn next_bytes(&self) -> usize {
        match self.next() {
            Some(Op::Write { blocks, .. }) => blocks as usize * self.block_bytes as usize,
            _ => 0,
        }
    }

    /// Fills that memory.
    pub fn fill(&self, out: &mut [u8]) {
        let Task::Overwrite { pattern, inverts } = &self.task else { return };
        let pass = self.done_blocks.load(Ordering::Relaxed).checked_div(self.blocks).unwrap_or(0);
        let is_inverted = *inverts && (u64::from(self.passes) - 1).saturating_sub(pass) % 2 == 1;
        let mask = if is_inverted { 0xff } else { 0 };
        // SBC-4: each block begins with the pattern.
        let (first, rest) = out.split_at_mut(out.len().min(self.block_bytes as usize));
        for (to, from) in first.iter_mut().zip(pattern.iter().cycle()) {
            *to = from ^ mask;
        }
        for block in rest.chunks_mut(first.len().max(1)) {
            block.copy_from_slice(&first[..block.len()]);
        }
    }

    /// The next IO has gone well.
    pub fn finished(&self) {
        if let Some((_, blocks)) = self.next().and_then(Op::extent) {
            self.done_blocks.fetch_add(u64::from(blocks), Ordering::Relaxed);
        }
    }

    /// Where it stands, and how many blocks of the pass are left.
    fn at(&self) -> Option<(u64, u64)> {
        let done = self.done_blocks.load(Ordering::Relaxed);
        let lba = done.checked_rem(self.blocks)?;
        (done < self.total()).then_some((lba, self.blocks - lba))
    }

    fn total(&self) -> u64 {
        self.blocks.saturating_mul(u64::from(self.passes))
    }

    /// Why commands are not served meanwhile, with PROGRESS INDICATION: how many 65536ths are done.
    pub fn sense(&self) -> Sense {
        let done = u128::from(self.done_blocks.load(Ordering::Relaxed)) << 16;
        let progress = done / u128::from(self.total().max(1));
        let progress = u16::try_from(progress).unwrap_or(u16::MAX);
        let sense = if self.is_sanitize() { Sense::SANITIZE_IN_PROGRESS } else { Sense::FORMAT_IN_PROGRESS };
        Sense { progress: Some(progress), ..sense }
    }
}

/// SANITIZE: of parameter lists only as far as their length goes, since they have not come.
pub(super) fn plan_sanitize(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let parameter_bytes = u32::from(cdb.be16(7));
    let wanted = match cdb.service_action() {
        // Four bytes and a pattern of one to a whole block.
        OVERWRITE => 5..=4 + unit.view.block_bytes,
        _ => 0..=0,
    };
    if !wanted.contains(&parameter_bytes) {
        return Err(Sense::invalid_byte(7));
    }
    // One that has failed may be tried again.
    if unit.view.medium != Medium::Failed {
        medium::ready(unit)?;
    }
    if unit.read_only {
        return Err(Sense::WRITE_PROTECTED);
    }
    Ok(Plan::Ask { parameter_bytes })
}

/// FORMAT UNIT: without protection information, as there is none.
pub(super) fn plan_format(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    medium::check(Extent { lba: 0, blocks: 0, fua: false }, Access::Write, unit)?;
    let options = cdb.byte(1);
    if options & FMTDATA == 0 {
        // SBC-4: all of them mean something with a parameter list alone.
        return match options {
            0 if work::can_unmap(unit.view) => Ok(Plan::Ask { parameter_bytes: 0 }),
            0 => Ok(Plan::End(Status::Good)),
            _ => Err(Sense::invalid_bit(1, 4)),
        };
    }
    Ok(Plan::Ask { parameter_bytes: if options & LONGLIST != 0 { 8 } else { 4 } })
}

/// Whether BLOCK ERASE does what it promises.
pub(super) fn can_erase(unit: &UnitView) -> bool {
    unit.offloads.erase || unit.offloads.erase_blocks
}

/// The same of CRYPTOGRAPHIC ERASE.
pub(super) fn can_erase_key(unit: &UnitView) -> bool {
    unit.offloads.erase_key
}

/// What AUSE and IMMED of SANITIZE say is so of all of its service actions.
fn sanitize(cdb: &Cdb, task: Task, passes: u8, unit: &UnitView) -> Chore {
    let (may_exit, is_immediate) = (cdb.byte(1) & 0x20 != 0, cdb.byte(1) & 0x80 != 0);
    Chore { may_exit, is_immediate, ..Chore::new(task, passes, unit) }
}

/// What the device does by itself. It may have become another one since the command was looked at.
fn whole(cdb: &Cdb, how: Erasure, unit: &UnitView) -> Result<Chore, Sense> {
    if !unit.offloads.erases(how) {
        return Err(Sense::invalid_bit(1, 4));
    }
    Ok(sanitize(cdb, Task::Whole(how), 1, unit))
}

fn erase(cdb: &Cdb, unit: &UnitView) -> Chore {
    let passes = if work::can_unmap(unit) { 2 } else { 1 };
    sanitize(cdb, Task::Erase, passes, unit)
}

fn overwrite(cdb: &Cdb, list: &[u8], unit: &UnitView) -> Result<Chore, Sense> {
    if list.len() != usize::from(cdb.be16(7)) {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let Some((&[options, reserved, high, low], rest)) = list.split_first_chunk::<OVERWRITE_HEADER_BYTES>()
    else {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    };
    // TEST asks for what a vendor likes; 00b for nothing.
    if options & 0x60 != 0 {
        return Err(Sense::invalid_parameter_bit(0, 6));
    }
    let passes = options & 0x1f;
    if passes == 0 {
        return Err(Sense::invalid_parameter_bit(0, 4));
    }
    if reserved != 0 {
        return Err(Sense::invalid_parameter(1));
    }
    let pattern_bytes = usize::from(u16::from_be_bytes([high, low]));
    if pattern_bytes == 0 || pattern_bytes > unit.block_bytes as usize || pattern_bytes > rest.len() {
        return Err(Sense::invalid_parameter(2));
    }
    let task = Task::Overwrite { pattern: rest[..pattern_bytes].into(), inverts: options & 0x80 != 0 };
    Ok(sanitize(cdb, task, passes, unit))
}

/// What is fully provisioned stays as it is: SBC-4 leaves open what blocks hold after a format. What is thinly provisioned is
/// given back.
fn format(cdb: &Cdb, list: &[u8], unit: &UnitView) -> Result<Decision, Sense> {
    let (is_long, has_list) = (cdb.byte(1) & LONGLIST != 0, cdb.byte(1) & FMTDATA != 0);
    let mut is_immediate = false;
    if has_list {
        let (usage, options) = match *list {
            [usage, options, high, low] if !is_long => {
                check_defects(&[high, low], 2)?;
                (usage, options)
            }
            [usage, options, _, interval, ref defects @ ..] if is_long && defects.len() == 4 => {
                if interval != 0 {
                    return Err(Sense::invalid_parameter(3));
                }
                check_defects(defects, 4)?;
                (usage, options)
            }
            _ => return Err(Sense::PARAMETER_LIST_LENGTH),
        };
        if usage & 0x07 != 0 {
            return Err(Sense::invalid_parameter_bit(0, 2));
        }
        // IP: an initialization pattern. SANITIZE overwrites.
        if options & 0x08 != 0 {
            return Err(Sense::invalid_parameter_bit(1, 3));
        }
        is_immediate = options & 0x02 != 0;
    }
    if !work::can_unmap(unit) {
        return Ok(Decision::Nothing);
    }
    Ok(Decision::Begin(Chore { is_immediate, ..Chore::new(Task::Unmap, 1, unit) }))
}

/// DEFECT LIST LENGTH: there are no defects to take.
fn check_defects(length: &[u8], at: u16) -> Result<(), Sense> {
    if length.iter().any(|byte| *byte != 0) { Err(Sense::invalid_parameter(at)) } else { Ok(()) }
}
