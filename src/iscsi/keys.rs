//! The text keys of RFC 7143 §12 and §13 and RFC 7144, as a table that [`super::negotiate`] interprets.

use super::negotiate::{DigestOffer, Offer};
use super::params::Params;
use super::text;

/// What becomes of a key that an initiator sends.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Yes where both say Yes.
    And(Boolean),
    /// Yes where one says Yes.
    Or(Boolean),
    /// The smaller of two numbers.
    Min(Number),
    /// The larger of two numbers.
    Max(Number),
    /// A number that each side declares for itself; no answer.
    Declared(Number),
    /// The first of the initiator's list that will do.
    List {
        /// What will do, in the words of the table.
        accepts: fn(&Offer, &str) -> bool,
        /// Stores what was chosen.
        set: fn(&mut Params, &str),
    },
    /// A name that login reads for itself; no answer. The same may be said again.
    Naming,
    /// A matter of authentication: in the security stage it goes to CHAP.
    Security,
    /// Always this answer.
    Constant(&'static str),
    /// Only targets send it; an initiator that does is told Reject.
    TargetOnly,
    /// Asked in full feature phase only.
    SendTargets,
}

/// How a boolean key is negotiated.
#[derive(Clone, Copy, Debug)]
pub struct Boolean {
    /// Our side.
    pub ours: fn(&Offer) -> bool,
    /// Stores the outcome.
    pub set: fn(&mut Params, bool),
}

/// How a numerical key is negotiated.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Smallest legal value.
    pub least: u32,
    /// Largest legal value.
    pub most: u32,
    /// Our side.
    pub ours: fn(&Offer) -> u32,
    /// Stores the outcome.
    pub set: fn(&mut Params, u32),
}

/// When a key may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// In the security stage.
    Security,
    /// During login.
    Login,
    /// During the leading connection's login ("LO").
    Leading,
    /// In full feature phase ("FFPO").
    FullFeature,
    /// At any time ("ALL").
    Always,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, as it stands on the wire.
    pub name: &'static str,
    /// When it may come.
    pub at: Use,
    /// Means nothing in a discovery session.
    pub is_normal_only: bool,
    /// What becomes of it.
    pub kind: Kind,
}

const fn key(name: &'static str, at: Use, kind: Kind) -> Key {
    Key { name, at, is_normal_only: false, kind }
}

const fn normal(name: &'static str, at: Use, kind: Kind) -> Key {
    Key { name, at, is_normal_only: true, kind }
}

const fn boolean(ours: fn(&Offer) -> bool, set: fn(&mut Params, bool)) -> Boolean {
    Boolean { ours, set }
}

const fn number(least: u32, most: u32, ours: fn(&Offer) -> u32, set: fn(&mut Params, u32)) -> Number {
    Number { least, most, ours, set }
}

/// The largest data segment and burst: 2^24 - 1.
pub const LENGTH_MAX: u32 = 0x00ff_ffff;

fn accepts_digest(offer: DigestOffer, value: &str) -> bool {
    match value {
        "None" => offer != DigestOffer::Required,
        "CRC32C" => offer != DigestOffer::Never,
        _ => false,
    }
}

/// The value of a number in the table that fits 16 bits by its range there.
fn short(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// FirstBurstLength, whose answer depends on others (RFC 7143 §13.14).
pub const FIRST_BURST: &str = "FirstBurstLength";
/// MaxOutstandingR2T, whose answer depends on ErrorRecoveryLevel (RFC 7143 §13.19).
pub const MAX_R2T: &str = "MaxOutstandingR2T";
/// MaxRecvDataSegmentLength.
pub const MAX_RECV: &str = "MaxRecvDataSegmentLength";
/// SendTargets.
pub const SEND_TARGETS: &str = "SendTargets";

/// Every key there is. A name that is not here is not understood, extension keys (`X-`, `Y-`, `Z-`) included.
pub const KEYS: &[Key] = &[
    // RFC 7143 §12.
    key("AuthMethod", Use::Security, Kind::Security),
    key("CHAP_A", Use::Security, Kind::Security),
    key("CHAP_I", Use::Security, Kind::Security),
    key("CHAP_C", Use::Security, Kind::Security),
    key("CHAP_N", Use::Security, Kind::Security),
    key("CHAP_R", Use::Security, Kind::Security),
    // §13.1.
    key(
        "HeaderDigest",
        Use::Login,
        Kind::List {
            accepts: |offer, value| accepts_digest(offer.header_digest, value),
            set: |params, value| params.header_digest = value == "CRC32C",
        },
    ),
    key(
        "DataDigest",
        Use::Login,
        Kind::List {
            accepts: |offer, value| accepts_digest(offer.data_digest, value),
            set: |params, value| params.data_digest = value == "CRC32C",
        },
    ),
    // §13.2 to §13.9.
    normal(
        "MaxConnections",
        Use::Leading,
        Kind::Min(number(
            1,
            65535,
            |offer| u32::from(offer.connections_max),
            |params, value| params.connections_max = short(value),
        )),
    ),
    key(SEND_TARGETS, Use::FullFeature, Kind::SendTargets),
    key("TargetName", Use::Login, Kind::Naming),
    key("InitiatorName", Use::Login, Kind::Naming),
    key("TargetAlias", Use::Always, Kind::TargetOnly),
    key("InitiatorAlias", Use::Always, Kind::Naming),
    key("TargetAddress", Use::Always, Kind::TargetOnly),
    key("TargetPortalGroupTag", Use::Login, Kind::TargetOnly),
    // §13.10, §13.11.
    normal(
        "InitialR2T",
        Use::Leading,
        Kind::Or(boolean(|offer| offer.initial_r2t, |params, value| params.initial_r2t = value)),
    ),
    normal(
        "ImmediateData",
        Use::Leading,
        Kind::And(boolean(|offer| offer.immediate_data, |params, value| params.immediate_data = value)),
    ),
    // §13.12 to §13.14.
    key(
        MAX_RECV,
        Use::Always,
        Kind::Declared(number(
            512,
            LENGTH_MAX,
            |offer| offer.recv_segment_bytes_max,
            |params, value| params.send_segment_bytes_max = value,
        )),
    ),
    normal(
        "MaxBurstLength",
        Use::Leading,
        Kind::Min(number(
            512,
            LENGTH_MAX,
            |offer| offer.max_burst_bytes,
            |params, value| params.max_burst_bytes = value,
        )),
    ),
    normal(
        FIRST_BURST,
        Use::Leading,
        Kind::Min(number(
            512,
            LENGTH_MAX,
            |offer| offer.first_burst_bytes,
            |params, value| params.first_burst_bytes = value,
        )),
    ),
    // §13.15 to §13.17.
    key(
        "DefaultTime2Wait",
        Use::Leading,
        Kind::Max(number(
            0,
            3600,
            |offer| u32::from(offer.time2wait),
            |params, value| params.time2wait = short(value),
        )),
    ),
    key(
        "DefaultTime2Retain",
        Use::Leading,
        Kind::Min(number(
            0,
            3600,
            |offer| u32::from(offer.time2retain),
            |params, value| params.time2retain = short(value),
        )),
    ),
    normal(
        MAX_R2T,
        Use::Leading,
        Kind::Min(number(
            1,
            65535,
            |offer| u32::from(offer.outstanding_r2t_max),
            |params, value| params.outstanding_r2t_max = short(value),
        )),
    ),
    // §13.18, §13.19: always in order.
    normal("DataPDUInOrder", Use::Leading, Kind::Or(boolean(|_| true, |_, _| ()))),
    normal("DataSequenceInOrder", Use::Leading, Kind::Or(boolean(|_| true, |_, _| ()))),
    // §13.20.
    key(
        "ErrorRecoveryLevel",
        Use::Leading,
        Kind::Min(number(
            0,
            2,
            |offer| u32::from(offer.error_recovery_level),
            |params, value| params.error_recovery_level = u8::try_from(value).unwrap_or(0),
        )),
    ),
    // §13.21.
    key("SessionType", Use::Login, Kind::Naming),
    // §13.23: responses are fenced whatever is agreed on.
    normal(
        "TaskReporting",
        Use::Leading,
        Kind::List {
            accepts: |_, value| matches!(value, "FastAbort" | "ResponseFence" | "RFC3720"),
            set: |params, value| params.fast_abort = value == "FastAbort",
        },
    ),
    // §13.24: no reserved values are sent back to a declaration.
    key("NodeArchitecture", Use::Login, Kind::Naming),
    // §13.25: these must not be called not understood.
    key("IFMarker", Use::Leading, Kind::Constant("No")),
    key("OFMarker", Use::Leading, Kind::Constant("No")),
    key("IFMarkInt", Use::Leading, Kind::Constant("Reject")),
    key("OFMarkInt", Use::Leading, Kind::Constant("Reject")),
    // RFC 7144 §7.1: 2 is with its additions.
    normal(
        "iSCSIProtocolLevel",
        Use::Leading,
        Kind::Min(number(
            0,
            31,
            |_| 2,
            |params, value| params.protocol_level = u8::try_from(value).unwrap_or(0),
        )),
    ),
];

/// The row of a key and its index.
pub fn find(name: &str) -> Option<(usize, &'static Key)> {
    KEYS.iter().enumerate().find(|(_, key)| key.name == name)
}

/// A value of the given kind: what it says, or none where it is not such a value.
pub(super) fn yes_or_no(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

impl Number {
    /// A legal value.
    pub(super) fn parse(&self, value: &str) -> Option<u32> {
        text::number(value).filter(|value| (self.least..=self.most).contains(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert_eq!(find(key.name).map(|(at, _)| at), Some(index), "{}", key.name);
            assert!(key.name.len() <= text::KEY_BYTES_MAX);
        }
        assert!(find("headerdigest").is_none() && find("X-lunette").is_none());
    }
}
