//! What a connection in full feature phase cannot live with, and what a Reject says.

/// Why the connection is to be closed. Each is the peer's doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fatal {
    /// A header digest does not match, so the length of what follows is not known (RFC 7143 §7.7).
    HeaderDigest,
    /// The peer broke the protocol beyond what a Reject can answer.
    Protocol(&'static str),
    /// A PDU was begun and not finished in time.
    PduUnfinished,
    /// Nothing was heard for too long, a NOP-In included.
    Silent,
    /// What we send was not taken for too long, or too many answers pile up.
    SlowReader,
    /// Data that were asked for did not come in time.
    DataOutLate,
    /// A connection that was lost was not recovered in time.
    NotRecovered,
}

/// Reject reason codes (RFC 7143 §11.17.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectReason {
    /// 02h.
    DataDigest,
    /// 03h.
    SnackReject,
    /// 04h.
    ProtocolError,
    /// 05h.
    CommandNotSupported,
    /// 06h.
    TooManyImmediate,
    /// 08h.
    InvalidDataAck,
    /// 09h.
    InvalidField,
    /// 0Ah.
    NoTransferTag,
}

impl RejectReason {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            RejectReason::DataDigest => 0x02,
            RejectReason::SnackReject => 0x03,
            RejectReason::ProtocolError => 0x04,
            RejectReason::CommandNotSupported => 0x05,
            RejectReason::TooManyImmediate => 0x06,
            RejectReason::InvalidDataAck => 0x08,
            RejectReason::InvalidField => 0x09,
            RejectReason::NoTransferTag => 0x0a,
        }
    }
}
