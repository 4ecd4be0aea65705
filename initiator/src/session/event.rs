//! What a session reports: events, and the target's offences.

use crate::config::Params;
use crate::login::LoginError;
use crate::pdu::response::{Async, LogoutResponse};
use crate::pdu::{Bhs, FrameError, Pdu};

/// Difference between what was expected and what there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residual {
    /// None.
    #[default]
    None,
    /// So many bytes of the expected were not transferred.
    Under(u32),
    /// So many bytes beyond the expected were not transferred.
    Over(u32),
}

/// The end of a SCSI command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Completion {
    /// Initiator Task Tag.
    pub itt: u32,
    /// The command's tag.
    pub tag: u64,
    /// The iSCSI response code: 0, completed at target.
    pub response: u8,
    /// SCSI status; 0 is GOOD.
    pub status: u8,
    /// Sense data, without their length field.
    pub sense: Vec<u8>,
    /// What was read; empty without `keep_read_data`.
    pub data: Vec<u8>,
    /// Bytes read.
    pub received_bytes: u32,
    /// The residual fields.
    pub residual: Residual,
}

impl Completion {
    /// GOOD, and completed at the target.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.response == 0 && self.status == 0
    }
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Full feature phase.
    LoggedIn(Box<Params>),
    /// The login failed; the session has ended.
    LoginFailed(LoginError),
    /// A command ended with a status.
    Completed(Completion),
    /// A command ended without one: the task management function `by` took it, or a Reject (`None`).
    Aborted {
        /// Initiator Task Tag.
        itt: u32,
        /// The command's tag.
        tag: u64,
        /// The tag of the function.
        by: Option<u32>,
    },
    /// A task management function was answered.
    TmfResponse {
        /// Initiator Task Tag.
        itt: u32,
        /// Response code; 0 is function complete.
        response: u8,
    },
    /// A NOP-In: the answer to our NOP-Out, or a question of the target.
    NopIn {
        /// Our tag, or all ones.
        itt: u32,
        /// The target's tag, or all ones.
        ttt: u32,
        /// LUN field.
        lun: u64,
        /// Ping data.
        data: Vec<u8>,
    },
    /// An asynchronous message with its data.
    Async(Async, Vec<u8>),
    /// A Reject.
    Reject {
        /// Reason.
        reason: u8,
        /// The header that was rejected, when it came whole.
        bhs: Option<Bhs>,
    },
    /// The whole answer to a text request.
    TextResponse {
        /// Initiator Task Tag.
        itt: u32,
        /// The keys as text.
        text: Vec<u8>,
    },
    /// A logout was answered. With response 0 the session has ended.
    LogoutResponse(LogoutResponse),
    /// A PDU that answers nothing known, when those are tolerated.
    Unmatched(Pdu),
}

/// Something that no target may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{offence} in {bhs:?}")]
pub struct Violation {
    /// What it did.
    pub offence: Offence,
    /// The header of the PDU in question, if there is one.
    pub bhs: Option<Bhs>,
}

/// The offences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Offence {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("opcode {0:#04x} is no target's")]
    Opcode(u8),
    #[error("a PDU after the end of the session")]
    AfterEnd,
    #[error("more events than were fetched")]
    Flood,
    #[error("StatSN {found}, expected {expected}")]
    StatSn { found: u32, expected: u32 },
    #[error("ExpCmdSN {found} goes back behind {before}")]
    ExpCmdSnBack { found: u32, before: u32 },
    #[error("ExpCmdSN {found} is beyond the next CmdSN, {next}")]
    ExpCmdSnAhead { found: u32, next: u32 },
    #[error("ExpCmdSN {found} of the login is not the first CmdSN, {first}")]
    ExpCmdSnLogin { found: u32, first: u32 },
    #[error("MaxCmdSN {found} goes back behind {before}")]
    MaxCmdSnBack { found: u32, before: u32 },
    #[error("MaxCmdSN {max} lies before ExpCmdSN {exp} less one")]
    Window { exp: u32, max: u32 },
    #[error("answers a command that ExpCmdSN {exp} does not cover")]
    NotReceived { exp: u32 },
    #[error("an Initiator Task Tag that is not in use, or not for this")]
    UnknownItt,
    #[error("answers a command that was not sent yet")]
    NotSent,
    #[error("{0} is wrong")]
    Field(&'static str),
    #[error("data for a command that reads none")]
    NotARead,
    #[error("R2T for a command that writes nothing")]
    NotAWrite,
    #[error("DataSN {found}, expected {expected}")]
    DataSn { found: u32, expected: u32 },
    #[error("R2TSN {found}, expected {expected}")]
    R2tSn { found: u32, expected: u32 },
    #[error("buffer offset {found}, expected {expected}")]
    Offset { found: u32, expected: u32 },
    #[error("offset {offset} and length {bytes} exceed the expected length {expected}")]
    Beyond { offset: u32, bytes: u32, expected: u32 },
    #[error("the same bytes twice")]
    Overlap,
    #[error("a sequence or R2T of {bytes} bytes, above MaxBurstLength {bytes_max}")]
    Burst { bytes: u32, bytes_max: u32 },
    #[error("an R2T for nothing")]
    EmptyR2t,
    #[error("more R2Ts than MaxOutstandingR2T")]
    TooManyR2ts,
    #[error("Target Transfer Tag all ones, or one in use")]
    TransferTag,
    #[error("status while a data sequence lacks its final bit")]
    OpenSequence,
    #[error("status in a Data-In without its final bit")]
    StatusNotFinal,
    #[error("CHECK CONDITION in a Data-In")]
    SenseInDataIn,
    #[error("CHECK CONDITION without sense data")]
    NoSense,
    #[error("SenseLength {found} in {bytes} bytes")]
    SenseLength { found: u32, bytes: u32 },
    #[error("ExpDataSN {found}, {sent} were sent")]
    ExpDataSn { found: u32, sent: u32 },
    #[error("residual flags or count")]
    Residual,
    #[error("GOOD, residual {residual:?}, but {moved} of {expected} bytes moved")]
    Amount { residual: Residual, moved: u32, expected: u32 },
    #[error("ping data differ")]
    PingData,
    #[error("a text answer without end")]
    Text,
}
