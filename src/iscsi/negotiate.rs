//! Negotiation of text keys, driven by the table in [`super::keys`].

use crate::limits::PIECE_BYTES_MAX;

/// What we say about a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestOffer {
    /// The first of the initiator's list, be it None or CRC32C.
    Either,
    /// CRC32C or no session.
    Required,
    /// None or no session.
    Never,
}

/// Our side of the negotiation: limits that the outcome does not exceed. Set per target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// HeaderDigest.
    pub header_digest: DigestOffer,
    /// DataDigest.
    pub data_digest: DigestOffer,
    /// MaxRecvDataSegmentLength, declared: 512 to 2^24 - 1.
    pub recv_segment_bytes_max: u32,
    /// MaxBurstLength: 512 to 2^24 - 1.
    pub max_burst_bytes: u32,
    /// FirstBurstLength: 512 to [`PIECE_BYTES_MAX`].
    pub first_burst_bytes: u32,
    /// Yes: unsolicited Data-Out is not wanted whatever the initiator says.
    pub initial_r2t: bool,
    /// No: immediate data are not wanted whatever the initiator says.
    pub immediate_data: bool,
    /// MaxOutstandingR2T: 1 to 65535.
    pub outstanding_r2t_max: u16,
    /// DefaultTime2Wait in seconds; the larger counts.
    pub time2wait: u16,
    /// DefaultTime2Retain in seconds; the smaller counts.
    pub time2retain: u16,
}

impl Offer {
    /// What suits a target that nobody tuned.
    pub const DEFAULT: Offer = Offer {
        header_digest: DigestOffer::Either,
        data_digest: DigestOffer::Either,
        recv_segment_bytes_max: PIECE_BYTES_MAX,
        max_burst_bytes: 1024 * 1024,
        first_burst_bytes: PIECE_BYTES_MAX,
        initial_r2t: false,
        immediate_data: true,
        outstanding_r2t_max: 16,
        time2wait: 2,
        time2retain: 0,
    };
}
