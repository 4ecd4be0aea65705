//! What a target sends (RFC 7143 §11.4, 11.6, 11.7, 11.8, 11.9, 11.11, 11.13, 11.15, 11.17, 11.19).

use super::{Be16, Be32, Be64, Bhs, Bit, Bits, Byte, Bytes, kind, opcode};

kind! {
    /// SCSI Response (§11.4).
    ScsiResponse = opcode::SCSI_RESPONSE, fixed 0x80 {
        /// O: more data than expected.
        overflow: bool = Bit(1, 0x04),
        /// U: less data than expected.
        underflow: bool = Bit(1, 0x02),
        /// o: overflow of the read part of a bidirectional command.
        read_overflow: bool = Bit(1, 0x10),
        /// u: underflow of the read part of a bidirectional command.
        read_underflow: bool = Bit(1, 0x08),
        /// Response: 0 completed at target, 1 target failure.
        response: u8 = Byte(2),
        /// SCSI status.
        status: u8 = Byte(3),
        /// Status Qualifier (RFC 7144); 0 says nothing.
        status_qualifier: u16 = Be16(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// SNACK Tag.
        snack_tag: u32 = Be32(20),
        /// StatSN.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// ExpDataSN: Data-In and R2T PDUs sent for the command.
        exp_data_sn: u32 = Be32(36),
        /// Bidirectional Read Residual Count.
        read_residual: u32 = Be32(40),
        /// Residual Count.
        residual: u32 = Be32(44),
    }
}

kind! {
    /// Task Management Function Response (§11.6).
    TmfResponse = opcode::TMF_RESPONSE, fixed 0x80 {
        /// Response: 0 complete, 1 no such task, 2 no such LUN, 5 not supported, 6 not authorized, 255 rejected.
        response: u8 = Byte(2),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// StatSN.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
    }
}

kind! {
    /// SCSI Data-In (§11.7).
    DataIn = opcode::DATA_IN, fixed 0 {
        /// F: the last of its sequence.
        final_bit: bool = Bit(1, 0x80),
        /// A: wants a DataACK.
        acknowledge: bool = Bit(1, 0x40),
        /// O: more data than expected; valid with S.
        overflow: bool = Bit(1, 0x04),
        /// U: less data than expected; valid with S.
        underflow: bool = Bit(1, 0x02),
        /// S: carries the status.
        has_status: bool = Bit(1, 0x01),
        /// SCSI status; valid with S.
        status: u8 = Byte(3),
        /// Logical unit; set when the transfer tag is.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Target Transfer Tag.
        ttt: u32 = Be32(20),
        /// StatSN; valid with S.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// DataSN within the command.
        data_sn: u32 = Be32(36),
        /// Buffer Offset, bytes.
        offset_bytes: u32 = Be32(40),
        /// Residual Count; valid with S and with O or U.
        residual: u32 = Be32(44),
    }
}

kind! {
    /// Ready To Transfer (§11.8).
    R2t = opcode::R2T, fixed 0x80 {
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Target Transfer Tag.
        ttt: u32 = Be32(20),
        /// The next StatSN; not consumed.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// R2TSN within the command.
        r2t_sn: u32 = Be32(36),
        /// Buffer Offset, bytes.
        offset_bytes: u32 = Be32(40),
        /// Desired Data Transfer Length, bytes.
        desired_bytes: u32 = Be32(44),
    }
}

kind! {
    /// Asynchronous Message (§11.9).
    Async = opcode::ASYNC, fixed 0x80 {
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Reserved, all ones.
        itt: u32 = Be32(16),
        /// StatSN.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// AsyncEvent: 0 SCSI, 1 logout wanted, 2 connection dropped, 3 session dropped, 4 negotiation wanted.
        event: u8 = Byte(36),
        /// AsyncVCode.
        vendor_code: u8 = Byte(37),
        /// Parameter1.
        parameter1: u16 = Be16(38),
        /// Parameter2.
        parameter2: u16 = Be16(40),
        /// Parameter3.
        parameter3: u16 = Be16(42),
    }
}

kind! {
    /// Text Response (§11.11).
    TextResponse = opcode::TEXT_RESPONSE, fixed 0 {
        /// F: the target has said all it wants to say.
        final_bit: bool = Bit(1, 0x80),
        /// C: the text goes on in the next response.
        more: bool = Bit(1, 0x40),
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Target Transfer Tag, to be sent back with the next request.
        ttt: u32 = Be32(20),
        /// StatSN.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
    }
}

kind! {
    /// Login Response (§11.13).
    LoginResponse = opcode::LOGIN_RESPONSE, fixed 0 {
        /// T: the stage changes.
        transit: bool = Bit(1, 0x80),
        /// C: the text goes on in the next response.
        more: bool = Bit(1, 0x40),
        /// CSG.
        current_stage: u8 = Bits(1, 0x0c),
        /// NSG.
        next_stage: u8 = Bits(1, 0x03),
        /// Version-max.
        version_max: u8 = Byte(2),
        /// Version-active.
        version_active: u8 = Byte(3),
        /// ISID.
        isid: [u8; 6] = Bytes(8),
        /// TSIH.
        tsih: u16 = Be16(14),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// StatSN; valid when the status class is 0.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// Status-Class.
        status_class: u8 = Byte(36),
        /// Status-Detail.
        status_detail: u8 = Byte(37),
    }
}

kind! {
    /// Logout Response (§11.15).
    LogoutResponse = opcode::LOGOUT_RESPONSE, fixed 0x80 {
        /// Response: 0 closed, 1 CID not found, 2 recovery not supported, 3 cleanup failed.
        response: u8 = Byte(2),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// StatSN.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// Time2Wait, seconds.
        time2wait_s: u16 = Be16(40),
        /// Time2Retain, seconds.
        time2retain_s: u16 = Be16(42),
    }
}

kind! {
    /// Reject (§11.17); the data are the header it rejects.
    Reject = opcode::REJECT, fixed 0x80 {
        /// Reason.
        reason: u8 = Byte(2),
        /// Reserved, all ones.
        itt: u32 = Be32(16),
        /// StatSN.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
        /// DataSN or R2TSN.
        data_sn: u32 = Be32(36),
    }
}

kind! {
    /// NOP-In (§11.19).
    NopIn = opcode::NOP_IN, fixed 0x80 {
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag of the NOP-Out it answers, or all ones.
        itt: u32 = Be32(16),
        /// Target Transfer Tag; not all ones when it wants an answer.
        ttt: u32 = Be32(20),
        /// StatSN; not consumed unless it answers a NOP-Out.
        stat_sn: u32 = Be32(24),
        /// ExpCmdSN.
        exp_cmd_sn: u32 = Be32(28),
        /// MaxCmdSN.
        max_cmd_sn: u32 = Be32(32),
    }
}

/// Any PDU of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are named after their PDUs")]
pub enum Response {
    NopIn(NopIn),
    Scsi(ScsiResponse),
    Tmf(TmfResponse),
    Login(LoginResponse),
    Text(TextResponse),
    DataIn(DataIn),
    Logout(LogoutResponse),
    R2t(R2t),
    Async(Async),
    Reject(Reject),
    /// An opcode that no target sends.
    Unknown(u8),
}

impl Response {
    /// Decodes a header; total.
    #[must_use]
    pub fn decode(bhs: &Bhs) -> Self {
        match bhs.opcode() {
            opcode::NOP_IN => Self::NopIn(NopIn::from_bhs(bhs)),
            opcode::SCSI_RESPONSE => Self::Scsi(ScsiResponse::from_bhs(bhs)),
            opcode::TMF_RESPONSE => Self::Tmf(TmfResponse::from_bhs(bhs)),
            opcode::LOGIN_RESPONSE => Self::Login(LoginResponse::from_bhs(bhs)),
            opcode::TEXT_RESPONSE => Self::Text(TextResponse::from_bhs(bhs)),
            opcode::DATA_IN => Self::DataIn(DataIn::from_bhs(bhs)),
            opcode::LOGOUT_RESPONSE => Self::Logout(LogoutResponse::from_bhs(bhs)),
            opcode::R2T => Self::R2t(R2t::from_bhs(bhs)),
            opcode::ASYNC => Self::Async(Async::from_bhs(bhs)),
            opcode::REJECT => Self::Reject(Reject::from_bhs(bhs)),
            other => Self::Unknown(other),
        }
    }
}
