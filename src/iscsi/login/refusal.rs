//! Why a login ends: what the initiator is told ([`Refusal`]) and what the log is told ([`Why`]).

use crate::iscsi::chap;
use crate::iscsi::text::TextError;

/// Status class and detail (RFC 7143 §11.13.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 0101h: try this `address:port[,tag]` for now.
    MovedTemporarily(String),
    /// 0102h: this `address:port[,tag]` from now on.
    MovedPermanently(String),
    /// 0200h: the initiator broke a rule.
    InitiatorError,
    /// 0201h: CHAP failed, or was needed and not done.
    AuthenticationFailure,
    /// 0202h: not allowed.
    Forbidden,
    /// 0203h: no such target.
    NotFound,
    /// 0204h: there was such a target.
    Removed,
    /// 0205h: version 0 is not among those offered.
    UnsupportedVersion,
    /// 0206h: no more connections for this session.
    TooManyConnections,
    /// 0207h: a name is missing.
    MissingParameter,
    /// 0208h: the session cannot have a connection here.
    CannotInclude,
    /// 0209h: neither Normal nor Discovery.
    SessionTypeNotSupported,
    /// 020Ah: no session with this TSIH.
    NoSuchSession,
    /// 020Bh: a request that has no place in login.
    InvalidDuringLogin,
    /// 0300h: our fault.
    TargetError,
    /// 0301h: not now.
    ServiceUnavailable,
    /// 0302h: no resources left.
    OutOfResources,
}

impl Refusal {
    /// Class and detail on the wire.
    pub const fn status(&self) -> [u8; 2] {
        match self {
            Refusal::MovedTemporarily(_) => [1, 0x01],
            Refusal::MovedPermanently(_) => [1, 0x02],
            Refusal::InitiatorError => [2, 0x00],
            Refusal::AuthenticationFailure => [2, 0x01],
            Refusal::Forbidden => [2, 0x02],
            Refusal::NotFound => [2, 0x03],
            Refusal::Removed => [2, 0x04],
            Refusal::UnsupportedVersion => [2, 0x05],
            Refusal::TooManyConnections => [2, 0x06],
            Refusal::MissingParameter => [2, 0x07],
            Refusal::CannotInclude => [2, 0x08],
            Refusal::SessionTypeNotSupported => [2, 0x09],
            Refusal::NoSuchSession => [2, 0x0a],
            Refusal::InvalidDuringLogin => [2, 0x0b],
            Refusal::TargetError => [3, 0x00],
            Refusal::ServiceUnavailable => [3, 0x01],
            Refusal::OutOfResources => [3, 0x02],
        }
    }
}

/// What ended a login, for the log. Peers cannot see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Control refused.
    Authority(Refusal),
    /// The first PDU was of another kind; the opcode. A port scanner, or a connection of something else.
    NotLogin(u8),
    /// A PDU of another kind in the middle of a login; the opcode.
    OtherRequest(u8),
    /// A header with additional header segments, or more data than a login PDU may have; the data segment in bytes.
    TooLong(u32),
    /// The I bit is clear.
    NotImmediate,
    /// Version-min is above 0.
    Version(u8),
    /// Flags or stages that cannot be: T with C, a stage that does not exist, a transit backwards, another stage than
    /// the login is in. The flags byte.
    Stage(u8),
    /// ISID, TSIH, ITT or CID is another than in the first request; or the CID or ITT is one that nobody may have.
    Changed,
    /// More requests than any login needs.
    TooManyRequests,
    /// Text that is not key=value pairs, or too much of it.
    Text(TextError),
    /// The initiator continues to talk while our answer is not all sent.
    Interrupted,
    /// This key was given twice.
    Repeated(String),
    /// This key has a value that cannot be.
    Value(String),
    /// This key is needed and was not given.
    Missing(&'static str),
    /// The initiator's name is malformed.
    InitiatorName,
    /// SessionType is neither Normal nor Discovery.
    SessionType,
    /// The initiator proposes to go on and authentication is not finished.
    NotAuthenticated,
    /// No common AuthMethod.
    AuthMethod,
    /// CHAP failed.
    Chap(chap::Failure),
}
