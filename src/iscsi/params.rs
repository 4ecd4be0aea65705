//! What a session and its connection agreed on at login, typed (RFC 7143 §13).

/// The outcome of negotiation. Lengths are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params {
    /// CRC32C after each header, both ways.
    pub header_digest: bool,
    /// CRC32C after each data segment, both ways.
    pub data_digest: bool,
    /// No unsolicited Data-Out PDUs.
    pub initial_r2t: bool,
    /// Data may ride in the command PDU.
    pub immediate_data: bool,
    /// A solicited sequence of data, at most.
    pub max_burst_bytes: u32,
    /// Unsolicited data of a command, immediate data included, at most.
    pub first_burst_bytes: u32,
    /// A data segment that the initiator takes, at most.
    pub send_segment_bytes_max: u32,
    /// A data segment that we take, at most.
    pub recv_segment_bytes_max: u32,
    /// R2Ts outstanding per task, at most; 1 to 65535.
    pub outstanding_r2t_max: u16,
    /// TaskReporting is FastAbort.
    pub fast_abort: bool,
    /// iSCSIProtocolLevel: 2 where RFC 7144 holds.
    pub protocol_level: u8,
    /// Connections of the session, at most.
    pub connections_max: u16,
    /// 0, 1 or 2.
    pub error_recovery_level: u8,
    /// Seconds.
    pub time2wait: u16,
    /// Seconds.
    pub time2retain: u16,
}
