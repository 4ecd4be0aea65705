//! What an initiator is told before it logs in, and what the login settles.

use crate::chap::{Algorithm, Encoding};
use crate::pdu::Digests;

/// All that a session needs to know. A new [`Initiator`](crate::Initiator) from the same `Config` logs in again with
/// the same ISID.
#[derive(Debug, Clone)]
pub struct Config {
    /// InitiatorName.
    pub initiator_name: String,
    /// InitiatorAlias, if any.
    pub initiator_alias: Option<String>,
    /// TargetName; `None` makes a discovery session.
    pub target_name: Option<String>,
    /// How to authenticate.
    pub auth: Auth,
    /// The operational keys offered.
    pub offer: Offer,
    /// More keys, sent as they stand after the others in the operational stage.
    pub extra_keys: Vec<(String, String)>,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH: zero for a new session.
    pub tsih: u16,
    /// CID.
    pub cid: u16,
    /// The first CmdSN.
    pub cmd_sn: u32,
    /// Text of one login request is cut at this length and continued by the C bit.
    pub login_text_bytes_max: usize,
    /// Answer NOP-Ins that want it.
    pub answer_nop_in: bool,
    /// Send less in one Data-Out than the target would take.
    pub data_out_bytes_max: Option<u32>,
    /// Use immediate data where it was negotiated.
    pub use_immediate_data: bool,
    /// Use unsolicited Data-Out where it was negotiated.
    pub use_unsolicited_data: bool,
    /// Put the data of reads into their completions; without, they are checked and dropped.
    pub keep_read_data: bool,
    /// PDUs that answer nothing known are [`Event::Unmatched`](crate::Event::Unmatched), no violation: for tests that
    /// send PDUs of their own.
    pub tolerate_unmatched: bool,
    /// Overlook what well-known targets get wrong to no harm: ExpDataSN, and Data-In sequences over MaxBurstLength.
    pub lenient: bool,
    /// Commands and requests held at a time, queued or sent.
    pub commands_max: usize,
}

impl Config {
    /// A normal session with the usual offers, without authentication.
    #[must_use]
    pub fn new(initiator_name: &str, target_name: &str) -> Self {
        Self {
            initiator_name: initiator_name.to_owned(),
            initiator_alias: None,
            target_name: Some(target_name.to_owned()),
            auth: Auth::None,
            offer: Offer::usual(),
            extra_keys: Vec::new(),
            // RFC 7143 §11.12.5: the "random" format, with a constant for the number.
            isid: [0x80, 0x12, 0x34, 0x56, 0, 1],
            tsih: 0,
            cid: 0,
            cmd_sn: 1,
            login_text_bytes_max: 8192,
            answer_nop_in: true,
            data_out_bytes_max: None,
            use_immediate_data: true,
            use_unsolicited_data: true,
            keep_read_data: true,
            tolerate_unmatched: false,
            lenient: false,
            commands_max: 4096,
        }
    }

    /// A discovery session.
    #[must_use]
    pub fn discovery(initiator_name: &str) -> Self {
        Self { target_name: None, ..Self::new(initiator_name, "") }
    }

    /// A further connection of a session that was begun with this: it offers what each connection has for itself.
    #[must_use]
    pub fn joining(&self, tsih: u16, cid: u16) -> Self {
        let Offer { header_digest, data_digest, max_recv_bytes, .. } = self.offer.clone();
        Self {
            tsih,
            cid,
            offer: Offer { header_digest, data_digest, max_recv_bytes, ..Offer::default() },
            ..self.clone()
        }
    }
}

/// The security stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// No security stage: the first request is already in the operational stage.
    Skip,
    /// Offer `AuthMethod=None`.
    None,
    /// Offer `AuthMethod=CHAP`.
    Chap(Chap),
}

/// CHAP of the initiator, perhaps of the target too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chap {
    /// CHAP_N.
    pub user: String,
    /// The secret.
    pub secret: Vec<u8>,
    /// The algorithms offered, in this order.
    pub algorithms: Vec<Algorithm>,
    /// How CHAP_R and our CHAP_C are written.
    pub encoding: Encoding,
    /// Offer `CHAP,None` rather than `CHAP`.
    pub allow_none: bool,
    /// Ask the target to prove itself.
    pub mutual: Option<Mutual>,
}

impl Chap {
    /// One-way CHAP with all algorithms, in hex.
    #[must_use]
    pub fn new(user: &str, secret: &[u8]) -> Self {
        Self {
            user: user.to_owned(),
            secret: secret.to_vec(),
            algorithms: Algorithm::ALL.to_vec(),
            encoding: Encoding::Hex,
            allow_none: false,
            mutual: None,
        }
    }
}

/// The other direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutual {
    /// The CHAP_N expected of the target; `None` takes any.
    pub user: Option<String>,
    /// The target's secret.
    pub secret: Vec<u8>,
    /// CHAP_I that we send.
    pub identifier: u8,
    /// CHAP_C that we send.
    pub challenge: Vec<u8>,
}

/// Operational keys to offer; `None` leaves a key out, so that its default is in force. The fields are the RFC's keys
/// (RFC 7143 §13, RFC 7144 §7.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub struct Offer {
    /// A list, such as `CRC32C,None`.
    pub header_digest: Option<String>,
    /// A list, such as `CRC32C,None`.
    pub data_digest: Option<String>,
    pub initial_r2t: Option<bool>,
    pub immediate_data: Option<bool>,
    pub max_burst_bytes: Option<u32>,
    pub first_burst_bytes: Option<u32>,
    /// Our MaxRecvDataSegmentLength, a declaration.
    pub max_recv_bytes: Option<u32>,
    pub max_connections: Option<u32>,
    pub max_outstanding_r2t: Option<u32>,
    pub data_pdu_in_order: Option<bool>,
    pub data_sequence_in_order: Option<bool>,
    pub error_recovery_level: Option<u32>,
    pub default_time2wait_s: Option<u32>,
    pub default_time2retain_s: Option<u32>,
    /// A list, such as `FastAbort,RFC3720`.
    pub task_reporting: Option<String>,
    pub protocol_level: Option<u32>,
}

impl Offer {
    /// About what a Linux initiator offers.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            header_digest: Some("None".to_owned()),
            data_digest: Some("None".to_owned()),
            initial_r2t: Some(false),
            immediate_data: Some(true),
            max_burst_bytes: Some(16_776_192),
            first_burst_bytes: Some(262_144),
            max_recv_bytes: Some(262_144),
            max_connections: Some(1),
            max_outstanding_r2t: Some(1),
            data_pdu_in_order: Some(true),
            data_sequence_in_order: Some(true),
            error_recovery_level: Some(0),
            default_time2wait_s: Some(2),
            default_time2retain_s: Some(0),
            task_reporting: None,
            protocol_level: None,
        }
    }

    /// The usual offer, insisting on these digests.
    #[must_use]
    pub fn with_digests(header: bool, data: bool) -> Self {
        let value = |on| Some(if on { "CRC32C" } else { "None" }.to_owned());
        Self { header_digest: value(header), data_digest: value(data), ..Self::usual() }
    }
}

/// What a login settled.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub struct Params {
    pub digests: Digests,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    pub max_burst_bytes: u32,
    pub first_burst_bytes: u32,
    /// The target's MaxRecvDataSegmentLength: what we may send.
    pub send_bytes_max: u32,
    /// Ours: what the target may send.
    pub recv_bytes_max: u32,
    pub max_connections: u32,
    pub max_outstanding_r2t: u32,
    pub data_pdu_in_order: bool,
    pub data_sequence_in_order: bool,
    pub error_recovery_level: u32,
    pub default_time2wait_s: u32,
    pub default_time2retain_s: u32,
    pub task_reporting: String,
    pub protocol_level: u32,
    /// The session handle from the final response.
    pub tsih: u16,
    pub target_portal_group_tag: Option<u16>,
    pub target_alias: Option<String>,
    /// The CHAP algorithm in use, if CHAP was.
    pub chap: Option<Algorithm>,
    /// Every key that the target sent, in order, for tests.
    pub target_keys: Vec<(String, String)>,
}
