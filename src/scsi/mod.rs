//! SCSI, pure: a CDB and what control publishes of a logical unit go in, a [`Plan`] comes out.
//!
//! No socket, clock, thread or device. Sources: SAM-5, SPC-5, SBC-4.
//!
//! A command meets SCSI twice: [`plan`] when it arrives (which way data go and how much, early refusal), and
//! [`admit`] when its turn has come (unit attentions, then everything that may have changed is checked again). Each piece of a
//! cut-up IO goes through [`recheck`] before it is submitted.
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::too_many_lines
    )
)]

pub mod alua;
pub mod attention;
pub mod buffers;
pub mod cdb;
pub mod chore;
pub mod copy;
mod lun;
mod medium;
mod mmc;
pub mod pass;
pub mod power;
pub mod protect;
pub mod provisioning;
pub mod report;
pub mod reserve;
pub mod sense;
pub mod spoken;
pub mod table;
pub mod view;
pub mod work;

#[cfg(test)]
mod tests;

use crate::bdev::protection::TUPLE_BYTES;
use crate::id::NexusId;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::cdb::Cdb;
use crate::scsi::protect::Protected;
use crate::scsi::report::Report;
use crate::scsi::reserve::Class;
use crate::scsi::sense::Sense;
use crate::scsi::table::{Run, Table};
use crate::scsi::view::{DeviceKind, LunNumber, Medium, TargetView, UnitView};
use crate::scsi::work::Work;

pub use crate::scsi::medium::TRANSFER_BYTES_MAX;

/// SCSI status codes (SAM-5 §5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// 00h.
    Good,
    /// 02h, with sense data.
    CheckCondition,
    /// 04h.
    ConditionMet,
    /// 08h.
    Busy,
    /// 18h.
    ReservationConflict,
    /// 28h.
    TaskSetFull,
    /// 40h.
    TaskAborted,
    /// What a device has said to whom its commands are passed on.
    Told(u8),
}

impl Status {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Status::Good => 0x00,
            Status::CheckCondition => 0x02,
            Status::ConditionMet => 0x04,
            Status::Busy => 0x08,
            Status::ReservationConflict => 0x18,
            Status::TaskSetFull => 0x28,
            Status::TaskAborted => 0x40,
            Status::Told(code) => code,
        }
    }
}

/// How a command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// SCSI status.
    pub status: Status,
    /// Sense data, with CHECK CONDITION.
    pub sense: Option<Sense>,
}

impl Outcome {
    /// GOOD.
    pub const GOOD: Outcome = Outcome::of(Status::Good);

    /// A status without sense.
    pub const fn of(status: Status) -> Outcome {
        Outcome { status, sense: None }
    }

    /// CHECK CONDITION with `sense`.
    pub const fn check(sense: Sense) -> Outcome {
        Outcome { status: Status::CheckCondition, sense: Some(sense) }
    }
}

/// Blocks that a command reads or writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First block.
    pub lba: u64,
    /// How many; 0 is legal and moves nothing.
    pub blocks: u32,
    /// Force unit access.
    pub fua: bool,
}

/// What a command will do, decided from its CDB alone plus the unit's size. Small and held by value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// End at once with this status.
    End(Status),
    /// End with CHECK CONDITION and this sense.
    Refuse(Sense),
    /// Answer with parameter data made by [`report::fill`].
    Report(Report),
    /// Read blocks.
    Read(Extent),
    /// Write blocks.
    Write(Extent),
    /// Read or write blocks with their protection information.
    Protected(Protected),
    /// Make what was written durable.
    Flush,
    /// A sequence of device IOs.
    Work(Work),
    /// Keep what comes for READ BUFFER.
    Keep(buffers::Write),
    /// Copy blocks from LUN to LUN.
    Copy(copy::Copy),
    /// Give up a copy that was asked for.
    AbortCopy {
        /// Its LIST IDENTIFIER.
        id: u32,
    },
    /// The device carries it out, as it came.
    Pass {
        /// So many bytes of blocks, where it is a READ or WRITE of such: it may be done in pieces.
        cut_bytes: Option<u32>,
    },
    /// Control decides, given the CDB and so many bytes of parameter list.
    Ask {
        /// PARAMETER LIST LENGTH.
        parameter_bytes: u32,
    },
}

/// Data a plan moves, in bytes, as the CDB asks (the initiator's expected length may differ: residuals).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// None.
    None,
    /// To the initiator, at most so many.
    In(u64),
    /// From the initiator, so many.
    Out(u64),
    /// As the initiator says: the CDB is not for us to know.
    Expected,
}

/// Which nexus and logical unit a command is for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose command it is.
    pub nexus: NexusId,
    /// The target the session is with.
    pub target: &'a TargetView,
    /// The LUN asked for, as it came.
    pub number: LunNumber,
    /// The logical unit there, with the mapping's read-only flag; none where no such LUN exists.
    pub unit: Option<(&'a UnitView, bool)>,
}

impl Plan {
    /// Which way data go and how many bytes, as the CDB asks.
    pub fn transfer(&self, place: &Place<'_>) -> Transfer {
        let bytes = |extent: &Extent| {
            u64::from(extent.blocks) * place.unit.map_or(0, |(view, _)| u64::from(view.block_bytes))
        };
        let tuples = |extent: &Extent| u64::from(extent.blocks) * u64::from(TUPLE_BYTES);
        let out = |bytes| if bytes > 0 { Transfer::Out(bytes) } else { Transfer::None };
        match self {
            Plan::End(_) | Plan::Refuse(_) | Plan::Flush | Plan::AbortCopy { .. } => Transfer::None,
            Plan::Report(report) => Transfer::In(u64::from(report.bytes_max())),
            Plan::Read(extent) => Transfer::In(bytes(extent)),
            Plan::Write(extent) => Transfer::Out(bytes(extent)),
            Plan::Protected(Protected { extent, access: Access::Read, .. }) => {
                Transfer::In(bytes(extent) + tuples(extent))
            }
            Plan::Protected(Protected { extent, access: Access::Write, .. }) => {
                Transfer::Out(bytes(extent) + tuples(extent))
            }
            Plan::Work(work) => out(work.data_bytes(place.unit.map_or(0, |(view, _)| view.block_bytes))),
            Plan::Keep(write) => out(u64::from(write.bytes())),
            Plan::Copy(copy) => out(u64::from(copy.bytes())),
            Plan::Ask { parameter_bytes } => out(u64::from(*parameter_bytes)),
            Plan::Pass { .. } => Transfer::Expected,
        }
    }

    /// Whether the initiator may expect to move so many bytes, whatever the CDB says: then there is a residual.
    ///
    /// # Errors
    /// COMPARE AND WRITE: where its halves end is not known unless both agree. The field at fault is the CDB's NUMBER OF
    /// LOGICAL BLOCKS. WRITE SAME: its one block goes over many, so that one which is not meant so does most harm.
    pub fn check_expected(&self, expected_bytes: u32, place: &Place<'_>) -> Result<(), Sense> {
        let block_bytes = place.unit.map_or(0, |(view, _)| view.block_bytes);
        match self {
            Plan::Pass { cut_bytes } => pass::check_expected(*cut_bytes, expected_bytes),
            Plan::Work(work)
                if work.has_halves() && work.data_bytes(block_bytes) != u64::from(expected_bytes) =>
            {
                Err(Sense::invalid_byte(13))
            }
            Plan::Work(work)
                if work.is_write_same() && work.data_bytes(block_bytes) != u64::from(expected_bytes) =>
            {
                Err(Sense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)
            }
            _ => Ok(()),
        }
    }

    /// The blocks that it reads for the initiator, where it is a READ.
    pub fn reads(&self) -> Option<Extent> {
        match self {
            Plan::Read(extent) | Plan::Protected(Protected { extent, access: Access::Read, .. }) => {
                Some(*extent)
            }
            _ => None,
        }
    }

    /// What goes over the wire with each block of so many bytes.
    pub fn wire_bytes(&self, block_bytes: u32) -> u32 {
        block_bytes + if matches!(self, Plan::Protected(_)) { TUPLE_BYTES } else { 0 }
    }

    /// Whether data that come with the command are taken block by block: what is no whole block is not written.
    pub fn is_in_blocks(&self) -> bool {
        match self {
            Plan::Write(_) | Plan::Protected(Protected { access: Access::Write, .. }) => true,
            Plan::Work(work) => work.is_piecewise(),
            _ => false,
        }
    }
}

/// Whether data of the initiator's could have been dropped because of this plan: it is final then.
fn is_final(plan: Plan) -> bool {
    match plan {
        Plan::Refuse(_) => true,
        Plan::End(status) => status != Status::Good,
        _ => false,
    }
}

/// What a piece of IO wants of the medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To read it.
    Read,
    /// To change it.
    Write,
}

impl Access {
    /// What reservations make of it.
    pub const fn class(self) -> Class {
        match self {
            Access::Read => Class::Read,
            Access::Write => Class::Write,
        }
    }
}

/// What the command will do, as things stand. Called when it arrives, before its data are placed.
pub fn plan(cdb: &Cdb, place: &Place<'_>) -> Plan {
    decide(cdb, place).unwrap_or_else(Plan::Refuse)
}

/// What the command does, now that its turn has come: a pending unit attention is reported first (and is then no longer
/// pending), then everything that may have changed since `plan` was made is checked again. A command that its plan
/// refused stays refused, since its data were not kept.
///
/// [`Ua::LunsChanged`] is per target: whoever sees it in the answer, or lets a REPORT LUNS through, clears it for the
/// nexus's other logical units of the target too.
pub fn admit(plan: Plan, cdb: &Cdb, place: &Place<'_>, attentions: Option<&mut Attentions>) -> Plan {
    if let Some(attentions) = attentions
        && !attentions.is_empty()
    {
        // SAM-5 §5.14: INQUIRY, REPORT LUNS and REQUEST SENSE neither report nor, with one exception, clear them.
        let kind = place.unit.map_or(DeviceKind::Disk, |(view, _)| view.kind);
        if !Table::of(kind).find(cdb).is_ok_and(|row| row.always()) {
            if let Some(ua) = attentions.take() {
                return Plan::Refuse(ua.sense());
            }
        } else if cdb.opcode() == table::REPORT_LUNS && matches!(plan, Plan::Report(_)) {
            // SPC-5, REPORT LUNS: an initiator is told what has changed by its own answer.
            attentions.clear(Ua::LunsChanged);
        }
    }
    if is_final(plan) { plan } else { self::plan(cdb, place) }
}

/// Whether this piece of a command may still be submitted: the medium may have gone, shrunk or become read-only since, or
/// another nexus may have reserved it.
///
/// # Errors
/// How the command ends.
#[inline(always)]
pub fn recheck(piece: Extent, access: Access, place: &Place<'_>) -> Result<(), Outcome> {
    let unit = Served::at(place).ok_or(Outcome::check(Sense::NO_SUCH_UNIT))?;
    unit.view.alua.check_medium(place.target.port_group).map_err(Outcome::check)?;
    if !unit.view.permits.allows(place.nexus, access.class()) {
        return Err(Outcome::of(Status::ReservationConflict));
    }
    medium::check(piece, access, unit).map_err(Outcome::check)
}

/// What a READ or WRITE of 10 or 16 bytes asks for, where it is in its plainest form (of all flags DPO and FUA only), moves something
/// and is allowed: then this is what [`plan`] says too. None says nothing.
///
/// The CDB is read where it was received: of a copy, a field across two words would be waited for until both, and all that was
/// stored before them, had left the processor.
#[inline(always)]
pub fn plain(cdb: &[u8; 16], place: &Place<'_>) -> Option<(Extent, Access)> {
    const FLAGS: u8 = 0x18;
    const FUA: u8 = 0x08;
    const READ_10: u8 = 0x28;
    const WRITE_10: u8 = 0x2a;
    const READ_16: u8 = 0x88;
    const WRITE_16: u8 = 0x8a;
    let [opcode, flags, ..] = *cdb;
    // The last are GROUP NUMBER and CONTROL.
    let (lba, blocks, rest) = match (opcode, cdb) {
        (READ_10 | WRITE_10, &[_, _, a, b, c, d, group, e, f, control, ..]) => {
            let lba = u32::from_be_bytes([a, b, c, d]);
            (u64::from(lba), u32::from(u16::from_be_bytes([e, f])), group | control)
        }
        (READ_16 | WRITE_16, &[_, _, a, b, c, d, e, f, g, h, i, j, k, l, group, control]) => {
            let lba = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (lba, u32::from_be_bytes([i, j, k, l]), group | control)
        }
        _ => return None,
    };
    if flags & !FLAGS != 0 || rest != 0 || blocks == 0 {
        return None;
    }
    let extent = Extent { lba, blocks, fua: flags & FUA != 0 };
    let access = if matches!(opcode, READ_10 | READ_16) { Access::Read } else { Access::Write };
    recheck(extent, access, place).is_ok().then_some((extent, access))
}

/// A logical unit that is there to serve.
#[derive(Clone, Copy, Debug)]
struct Served<'a> {
    view: &'a UnitView,
    /// For everybody or for those who come this way.
    read_only: bool,
}

impl<'a> Served<'a> {
    /// The logical unit at this place; one that is being removed is there no more.
    fn at(place: &Place<'a>) -> Option<Served<'a>> {
        let (view, read_only) = place.unit?;
        (view.medium != Medium::Removed)
            .then_some(Served { view, read_only: read_only || view.is_write_protected() })
    }
}

fn decide(cdb: &Cdb, place: &Place<'_>) -> Result<Plan, Sense> {
    let unit = Served::at(place);
    if let Some(unit) = unit.filter(|unit| pass::is_passed(*unit) && !pass::is_ours(cdb)) {
        return pass::plan(cdb, place, unit);
    }
    // SAM-5 §4.7: at a LUN that leads nowhere only three commands are served, whatever else is wrong.
    let table = Table::of(unit.map_or(DeviceKind::Disk, |unit| unit.view.kind));
    let row = table.find(cdb).map_err(|sense| if unit.is_some() { sense } else { Sense::NO_SUCH_UNIT })?;
    match row.run() {
        Run::Always(run) => {
            row.check(cdb)?;
            run(cdb, unit)
        }
        Run::Unit(run) => {
            let unit = unit.ok_or(Sense::NO_SUCH_UNIT)?;
            if !row.is_served(unit.view) {
                return Err(row.not_served());
            }
            if protect::is_refused(cdb, unit.view) {
                return Err(Sense::INVALID_OPCODE);
            }
            let at = protect::field(row, unit.view);
            let (cdb, field) = at.map_or((*cdb, 0), |at| protect::split(cdb, at));
            row.check(&cdb)?;
            unit.view.alua.check(place.target.port_group, &cdb)?;
            if !unit.view.permits.allows(place.nexus, row.class.of(&cdb)) {
                return Ok(Plan::End(Status::ReservationConflict));
            }
            protect::apply(run(&cdb, unit)?, &cdb, (at, field), unit)
        }
    }
}
