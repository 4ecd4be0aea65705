//! Third-party copies (SPC-5 §5.18, §6.6, §6.7, §6.17 to §6.21): EXTENDED COPY from block device to block device, as VMware sends it,
//! and what RECEIVE COPY RESULTS tells of it.
//!
//! A copy goes from any LUN of the session's target to any other: what the session cannot reach it cannot copy. It is worked
//! off as [`scsi::work`](crate::scsi::work) is, in [`Step`]s; the parameter list stays where it came in, and each segment is read
//! from there when its turn comes. Every piece is checked on both sides when it is submitted.

mod list;
mod results;
pub mod rod;

#[cfg(test)]
mod tests;

pub use results::Results;
pub(in crate::scsi) use results::{Told, all_tokens, plan_results, third_party_copy};

use std::sync::Arc;

use crate::bdev::{Op, ZERO_BYTES_MAX};
use crate::id::UnitId;
use crate::limits::PIECE_BYTES_MAX;
use crate::scsi::cdb::Cdb;
use crate::scsi::copy::list::{List, Segment};
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::view::{LunNumber, UnitView};
use crate::scsi::{Access, Extent, Outcome, Place, Plan, Served, Status, medium, pass};

/// MAXIMUM CSCD DESCRIPTOR COUNT.
pub(in crate::scsi) const CSCDS_MAX: u16 = 16;
/// MAXIMUM SEGMENT DESCRIPTOR COUNT.
pub(in crate::scsi) const SEGMENTS_MAX: u16 = 64;
/// MAXIMUM DESCRIPTOR LIST LENGTH: as many as there may be of both.
pub(in crate::scsi) const DESCRIPTORS_BYTES_MAX: u32 = CSCDS_MAX as u32 * 32 + SEGMENTS_MAX as u32 * 28;

/// Memory that a copy works with.
pub const BUFFER_BYTES: usize = PIECE_BYTES_MAX as usize;

/// What a device is to copy by itself at once: a device that is memory does so before anything else is done.
pub const OFFLOADED_BYTES_MAX: u32 = 1024 * 1024;
const _: () = assert!(OFFLOADED_BYTES_MAX <= ZERO_BYTES_MAX);

/// SERVICE ACTION of EXTENDED COPY(LID1).
pub(in crate::scsi) const LID1: u8 = 0x00;
/// SERVICE ACTION of EXTENDED COPY(LID4).
pub(in crate::scsi) const LID4: u8 = 0x01;
/// SERVICE ACTION of COPY OPERATION ABORT.
pub(in crate::scsi) const ABORT: u8 = 0x1c;

/// A copy that is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copy {
    action: u8,
    /// PARAMETER LIST LENGTH.
    bytes: u32,
}

/// A LUN that blocks are read from or written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Side {
    /// Where the session finds it.
    pub number: LunNumber,
    /// The unit there.
    pub unit: UnitId,
    block_bytes: u32,
}

/// What a copy wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// That the next segment is looked up: [`Run::load`].
    Load,
    /// To read these blocks into a scratch buffer.
    Read {
        /// Where from.
        side: Side,
        /// First block.
        lba: u64,
        /// How many; at most a piece.
        blocks: u32,
    },
    /// To write what was read.
    Write {
        /// Where to.
        side: Side,
        /// First block.
        lba: u64,
        /// How many; at most a piece.
        blocks: u32,
    },
    /// To have the device copy blocks by itself.
    Copy {
        /// Where, both.
        side: Side,
        /// First block of those that are read.
        from: u64,
        /// First block of those that are written; none is one of the others.
        lba: u64,
        /// How many; at most [`OFFLOADED_BYTES_MAX`].
        blocks: u32,
    },
    /// Nothing: the copy is over.
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Load,
    Read,
    Write,
    Copy,
}

impl Stage {
    /// What one step does, at most.
    const fn bytes_max(self) -> u32 {
        match self {
            Stage::Copy => OFFLOADED_BYTES_MAX,
            Stage::Load | Stage::Read | Stage::Write => PIECE_BYTES_MAX,
        }
    }
}

/// A copy at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    list: List,
    /// Segments that are done.
    segments: u16,
    /// The present one.
    now: Option<Segment>,
    /// Bytes of it that are done.
    done_bytes: u32,
    /// Bytes copied in all.
    moved_bytes: u64,
    stage: Stage,
}

impl Copy {
    /// Data that come with it, in bytes.
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether it makes a token.
    pub const fn makes_token(&self) -> bool {
        self.action == rod::POPULATE
    }

    /// Whether it makes a token or uses one: [`rod::Run`].
    pub const fn has_token(&self) -> bool {
        self.action == rod::POPULATE || self.action == rod::WRITE
    }

    /// Begins with the parameter list that came.
    ///
    /// # Errors
    /// It is not what SPC says. Nothing is copied then.
    pub fn begin(&self, data: &[u8]) -> Result<Run, Sense> {
        if data.len() as u64 != u64::from(self.bytes) {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        let list = List::read(self.action, data)?;
        Ok(Run { list, segments: 0, now: None, done_bytes: 0, moved_bytes: 0, stage: Stage::Load })
    }
}

impl Run {
    /// LIST IDENTIFIER, where results are to be kept under it.
    pub fn list_id(&self) -> Option<u32> {
        self.list.id
    }

    /// Segments that are done, and bytes copied.
    pub fn progress(&self) -> (u16, u64) {
        (self.segments, self.moved_bytes)
    }

    /// What comes next. The same answer until [`Run::load`] or [`Run::finished`] is called.
    pub fn step(&self) -> Step {
        let Some(segment) = &self.now else {
            return if self.segments < self.list.segment_count { Step::Load } else { Step::Done };
        };
        let bytes = (segment.bytes - self.done_bytes).min(self.stage.bytes_max());
        let at = |side: Side, lba| {
            (side, lba + u64::from(self.done_bytes / side.block_bytes), bytes / side.block_bytes)
        };
        let (from, to) =
            (at(segment.source, segment.source_lba), at(segment.destination, segment.destination_lba));
        match (self.stage, from, to) {
            (Stage::Load, ..) => Step::Load,
            (Stage::Read, (side, lba, blocks), _) => Step::Read { side, lba, blocks },
            (Stage::Write, _, (side, lba, blocks)) => Step::Write { side, lba, blocks },
            (Stage::Copy, (_, from, _), (side, lba, blocks)) => Step::Copy { side, from, lba, blocks },
        }
    }

    /// Looks the next segment up in the parameter list, and the LUNs that it names at this place.
    ///
    /// # Errors
    /// COPY ABORTED: it names what is not there.
    pub fn load(
        &mut self,
        data: &[u8],
        place: &Place<'_>,
        units: &[Option<Arc<UnitView>>],
    ) -> Result<(), Sense> {
        let segment = self.list.segment(self.segments, data, place, units)?;
        let check = |side: Side, lba, access| {
            let unit = find(side, place, units).ok_or(Sense::COPY_TARGET_UNREACHABLE)?;
            let blocks = segment.bytes / side.block_bytes;
            medium::check(Extent { lba, blocks, fua: false }, access, unit).map_err(aborted)
        };
        check(segment.source, segment.source_lba, Access::Read)?;
        check(segment.destination, segment.destination_lba, Access::Write)?;
        let unit = find(segment.destination, place, units).map(|unit| unit.view);
        self.stage =
            if unit.is_some_and(|view| segment.is_left_to(view)) { Stage::Copy } else { Stage::Read };
        if segment.bytes > 0 {
            self.now = Some(segment);
        } else {
            self.segments += 1;
        }
        Ok(())
    }

    /// The step's IO is done.
    pub fn finished(&mut self) {
        let Some(segment) = &self.now else { return };
        if self.stage == Stage::Read {
            self.stage = Stage::Write;
            return;
        }
        let bytes = (segment.bytes - self.done_bytes).min(self.stage.bytes_max());
        self.done_bytes += bytes;
        self.moved_bytes += u64::from(bytes);
        if self.stage == Stage::Write {
            self.stage = Stage::Read;
        }
        if self.done_bytes == segment.bytes {
            self.now = None;
            self.done_bytes = 0;
            self.segments += 1;
        }
    }
}

impl Segment {
    /// Whether the device does it by itself: both sides are of this unit, which can, and have no block in common. Protection
    /// information goes with its block, and says which that is.
    fn is_left_to(&self, destination: &UnitView) -> bool {
        let (from, lba) = (self.source_lba, self.destination_lba);
        let op = Op::Copy { from, lba, blocks: self.bytes / destination.block_bytes, fua: false };
        self.source.unit == destination.id
            && destination.offloads.copy
            && destination.protection.is_none()
            && !op.overlaps()
    }
}

impl Side {
    /// A LUN of the target that leads to this unit.
    pub fn of_unit(unit: UnitId, place: &Place<'_>, units: &[Option<Arc<UnitView>>]) -> Option<Side> {
        let mapping = place.target.mappings.iter().find(|mapping| mapping.unit == unit)?;
        let view = UnitView::find(units, unit)?;
        Some(Side { number: mapping.number, unit, block_bytes: view.block_bytes })
    }

    /// Whether its blocks are as long as this unit's.
    pub fn fits(&self, view: &UnitView) -> bool {
        self.block_bytes == view.block_bytes
    }
}

/// The LUN, as it is now.
fn find<'a>(side: Side, place: &Place<'a>, units: &'a [Option<Arc<UnitView>>]) -> Option<Served<'a>> {
    let (_, mapping) = place.target.mapping(side.number)?;
    let unit = UnitView::find(units, mapping.unit).filter(|view| view.id == side.unit)?;
    let served = Served::at(&Place { number: side.number, unit: Some((unit, mapping.read_only)), ..*place })?;
    // What commands are passed on to does nothing but those.
    (!pass::is_passed(served)).then_some(served)
}

/// What a copy ends with whose IO ended so (SPC-5 §6.6.3.3). That space has run out is told as such.
pub fn outcome(outcome: Outcome) -> Outcome {
    match (outcome.status, outcome.sense) {
        (Status::CheckCondition, Some(sense)) => Outcome::check(aborted(sense)),
        (Status::ReservationConflict, _) => Outcome::check(Sense::THIRD_PARTY_FAILURE),
        _ => outcome,
    }
}

fn aborted(sense: Sense) -> Sense {
    match sense.key {
        SenseKey::CopyAborted | SenseKey::UnitAttention | SenseKey::AbortedCommand => sense,
        SenseKey::IllegalRequest if sense.asc == Sense::LBA_OUT_OF_RANGE.asc => Sense::COPY_ABORTED,
        // What is wrong with the parameter list.
        SenseKey::IllegalRequest => sense,
        _ if sense == Sense::NO_SPACE => sense,
        _ => Sense::THIRD_PARTY_FAILURE,
    }
}

/// EXTENDED COPY.
pub(super) fn plan_copy(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let bytes = cdb.be32(10);
    match bytes {
        // SPC-5: no parameter list is not an error.
        0 => Ok(Plan::End(Status::Good)),
        _ if bytes > list::LIST_BYTES_MAX => Err(Sense::PARAMETER_LIST_LENGTH),
        _ => Ok(Plan::Copy(Copy { action: cdb.service_action(), bytes })),
    }
}

/// COPY OPERATION ABORT. Which copy that is the reactor knows.
pub(super) fn plan_abort(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(Plan::AbortCopy { id: cdb.be32(2) })
}
