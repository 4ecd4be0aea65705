//! What reactors have to say for the log.

use super::EndReason;
use crate::id::{SessionId, UnitId};
use crate::iscsi::slow::SlowIo;

/// Session-scale facts for the log; plain data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A connection was closed for cause.
    Closed {
        /// Whose.
        session: SessionId,
        /// Why.
        cause: CloseCause,
    },
    /// A PDU was answered with Reject.
    Rejected {
        /// Whose.
        session: SessionId,
        /// The Reject reason code.
        reason: u8,
    },
    /// A task management function was done.
    Tmf {
        /// Whose.
        session: SessionId,
        /// The function code.
        function: u8,
        /// The response code.
        response: u8,
    },
    /// A device refused, failed or lost an IO.
    DeviceError {
        /// Which unit.
        unit: UnitId,
        /// What went wrong.
        error: crate::bdev::IoError,
    },
    /// A command took too long.
    Slow(SlowIo),
    /// So many events were dropped because the ring was full.
    Lost {
        /// How many.
        count: u64,
    },
}

/// Why a connection was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCause {
    /// The initiator logged out.
    LoggedOut,
    /// The peer closed or reset it without logging out.
    PeerGone,
    /// Silence for longer than the keep-alive allows.
    Silent,
    /// It did not take what we send for too long.
    SlowReader,
    /// Data that were asked for did not come.
    DataOutLate,
    /// A PDU was begun and not finished.
    PduUnfinished,
    /// A header digest did not match.
    HeaderDigest,
    /// The peer broke the protocol beyond what a Reject can answer; the text says how.
    Protocol(&'static str),
    /// It was lost, and not recovered in time.
    NotRecovered,
    /// Another connection of its session has logged it out, or the session.
    LoggedOutByAnother,
    /// A connection with the same CID has taken its place (RFC 7143 §6.3.4).
    Replaced,
    /// A reinstatement, a removal or an operator.
    Ended(EndReason),
    /// The daemon is stopping.
    Stopping,
}
