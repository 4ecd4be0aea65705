//! What can be asked of a session.

use std::sync::Arc;

/// Where the data of a command go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Nowhere.
    None,
    /// To us: at most so many bytes.
    In(u32),
    /// To the target. Shared, so that a load generator need not copy its patterns.
    Out(Arc<Vec<u8>>),
}

/// Task attributes as the ATTR field has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are SAM's")]
pub enum Attribute {
    Untagged,
    #[default]
    Simple,
    Ordered,
    HeadOfQueue,
    Aca,
    /// Any three bits.
    Other(u8),
}

impl Attribute {
    /// The field's value.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Untagged => 0,
            Self::Simple => 1,
            Self::Ordered => 2,
            Self::HeadOfQueue => 3,
            Self::Aca => 4,
            Self::Other(bits) => bits,
        }
    }
}

/// A SCSI command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The LUN field; see [`lun`](crate::lun).
    pub lun: u64,
    /// The CDB, padded with zeros.
    pub cdb: [u8; 16],
    /// Additional header segments as they stand, for longer CDBs.
    pub ahs: Vec<u8>,
    /// Its data.
    pub data: Data,
    /// Task attribute.
    pub attribute: Attribute,
    /// Send it out of the command window.
    pub immediate: bool,
    /// Handed back with the completion.
    pub tag: u64,
}

impl Command {
    /// A SIMPLE command with this data phase.
    #[must_use]
    pub fn new(lun: u64, cdb: [u8; 16], data: Data) -> Self {
        Self { lun, cdb, ahs: Vec::new(), data, attribute: Attribute::Simple, immediate: false, tag: 0 }
    }

    /// A command that reads at most `bytes`.
    #[must_use]
    pub fn read(lun: u64, cdb: [u8; 16], bytes: u32) -> Self {
        Self::new(lun, cdb, Data::In(bytes))
    }

    /// A command that writes `bytes`.
    #[must_use]
    pub fn write(lun: u64, cdb: [u8; 16], bytes: Vec<u8>) -> Self {
        Self::new(lun, cdb, Data::Out(Arc::new(bytes)))
    }

    /// The same with a tag.
    #[must_use]
    pub fn tagged(self, tag: u64) -> Self {
        Self { tag, ..self }
    }
}

/// Task management functions (RFC 7143 §11.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Function {
    AbortTask,
    AbortTaskSet,
    ClearAca,
    ClearTaskSet,
    LogicalUnitReset,
    TargetWarmReset,
    TargetColdReset,
    TaskReassign,
    QueryTask,
    QueryTaskSet,
    NexusReset,
    QueryAsyncEvent,
    Other(u8),
}

impl Function {
    /// The field's value.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::AbortTask => 1,
            Self::AbortTaskSet => 2,
            Self::ClearAca => 3,
            Self::ClearTaskSet => 4,
            Self::LogicalUnitReset => 5,
            Self::TargetWarmReset => 6,
            Self::TargetColdReset => 7,
            Self::TaskReassign => 8,
            Self::QueryTask => 9,
            Self::QueryTaskSet => 10,
            Self::NexusReset => 11,
            Self::QueryAsyncEvent => 12,
            Self::Other(number) => number,
        }
    }

    /// Whether it covers commands that it does not name (RFC 7143 §4.2.3.2).
    pub(super) fn is_of_many(self) -> bool {
        matches!(
            self,
            Self::AbortTaskSet
                | Self::ClearTaskSet
                | Self::LogicalUnitReset
                | Self::TargetWarmReset
                | Self::TargetColdReset
        )
    }
}

/// A task management request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tmf {
    /// What to do.
    pub function: Function,
    /// The LUN field.
    pub lun: u64,
    /// The task meant by ABORT TASK and TASK REASSIGN.
    pub referenced_itt: u32,
    /// RefCmdSN; `None` takes that of the referenced task, if it was sent.
    pub ref_cmd_sn: Option<u32>,
    /// Send it out of the command window, as initiators usually do.
    pub immediate: bool,
}

impl Tmf {
    /// An immediate request for a logical unit.
    #[must_use]
    pub fn new(function: Function, lun: u64) -> Self {
        Self { function, lun, referenced_itt: crate::pdu::NO_TAG, ref_cmd_sn: None, immediate: true }
    }

    /// Whether a command of this session with this tag, at this LUN, that was sent before is aborted by it.
    pub(super) fn covers(&self, itt: u32, lun: u64) -> bool {
        match self.function {
            Function::AbortTask => itt == self.referenced_itt,
            Function::AbortTaskSet | Function::ClearTaskSet | Function::LogicalUnitReset => lun == self.lun,
            Function::TargetWarmReset | Function::TargetColdReset | Function::NexusReset => true,
            Function::ClearAca
            | Function::TaskReassign
            | Function::QueryTask
            | Function::QueryTaskSet
            | Function::QueryAsyncEvent
            | Function::Other(_) => false,
        }
    }

    /// ABORT TASK.
    #[must_use]
    pub fn abort(lun: u64, itt: u32) -> Self {
        Self { referenced_itt: itt, ..Self::new(Function::AbortTask, lun) }
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("as many requests as Config::commands_max allows are held already")]
    Full,
    #[error("the session has ended")]
    Ended,
}
