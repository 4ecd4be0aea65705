//! SCSI, pure: a CDB and what control publishes of a logical unit go in, a [`Plan`] comes out.
//!
//! No socket, clock, thread or device. Sources: SAM-5, SPC-5, SBC-4.
//!
//! A command meets SCSI twice: [`plan`] when it arrives (which way data go and how much, early refusal),
//! and [`start`] when its turn has come (unit attentions, then everything that may have changed is checked again).
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

pub mod attention;
pub mod cdb;
pub mod report;
pub mod sense;
pub mod view;

use crate::scsi::report::Report;
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, TargetView, UnitView};

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
        }
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
    /// Make what was written durable.
    Flush,
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
}

/// Which nexus and logical unit a command is for.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The target the session is with.
    pub target: &'a TargetView,
    /// The LUN asked for, as it came.
    pub number: LunNumber,
    /// The logical unit there, with the mapping's read-only flag; none where no such LUN exists.
    pub unit: Option<(&'a UnitView, bool)>,
}
