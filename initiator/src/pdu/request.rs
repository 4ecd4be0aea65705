//! What an initiator sends (RFC 7143 §11.3, 11.5, 11.7, 11.10, 11.12, 11.14, 11.16, 11.18).

use super::{Be16, Be32, Be64, Bhs, Bit, Bits, Byte, Bytes, kind, opcode};

kind! {
    /// SCSI Command (§11.3).
    ScsiCommand = opcode::SCSI_COMMAND, fixed 0 {
        /// I: delivered out of the command window.
        immediate: bool = Bit(0, 0x40),
        /// F: no unsolicited Data-Out follows.
        final_bit: bool = Bit(1, 0x80),
        /// R: data flow to the initiator.
        read: bool = Bit(1, 0x40),
        /// W: data flow to the target.
        write: bool = Bit(1, 0x20),
        /// ATTR: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
        attributes: u8 = Bits(1, 0x07),
        /// PRI (RFC 7144): 0 none, 1 the highest.
        priority: u8 = Bits(2, 0xf0),
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Expected Data Transfer Length, bytes.
        expected_bytes: u32 = Be32(20),
        /// CmdSN.
        cmd_sn: u32 = Be32(24),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
        /// The CDB; longer ones go on in an additional header segment.
        cdb: [u8; 16] = Bytes(32),
    }
}

kind! {
    /// Task Management Function Request (§11.5).
    TmfRequest = opcode::TMF_REQUEST, fixed 0x80 {
        /// I.
        immediate: bool = Bit(0, 0x40),
        /// Function: 1 to 8.
        function: u8 = Bits(1, 0x7f),
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Referenced Task Tag.
        referenced_itt: u32 = Be32(20),
        /// CmdSN.
        cmd_sn: u32 = Be32(24),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
        /// RefCmdSN.
        ref_cmd_sn: u32 = Be32(32),
        /// ExpDataSN, for TASK REASSIGN.
        exp_data_sn: u32 = Be32(36),
    }
}

kind! {
    /// SCSI Data-Out (§11.7).
    DataOut = opcode::DATA_OUT, fixed 0 {
        /// F: the last of its sequence.
        final_bit: bool = Bit(1, 0x80),
        /// Logical unit; set when the transfer tag is.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Target Transfer Tag of the R2T; [`NO_TAG`](super::NO_TAG) when unsolicited.
        ttt: u32 = Be32(20),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
        /// DataSN within the sequence.
        data_sn: u32 = Be32(36),
        /// Buffer Offset, bytes.
        offset_bytes: u32 = Be32(40),
    }
}

kind! {
    /// Text Request (§11.10).
    TextRequest = opcode::TEXT_REQUEST, fixed 0 {
        /// I.
        immediate: bool = Bit(0, 0x40),
        /// F: the initiator has said all it wants to say.
        final_bit: bool = Bit(1, 0x80),
        /// C: the text goes on in the next request.
        more: bool = Bit(1, 0x40),
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Target Transfer Tag.
        ttt: u32 = Be32(20),
        /// CmdSN.
        cmd_sn: u32 = Be32(24),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
    }
}

kind! {
    /// Login Request (§11.12); always immediate.
    LoginRequest = 0x40 | opcode::LOGIN_REQUEST, fixed 0 {
        /// T: ready for the next stage.
        transit: bool = Bit(1, 0x80),
        /// C: the text goes on in the next request.
        more: bool = Bit(1, 0x40),
        /// CSG: the current stage.
        current_stage: u8 = Bits(1, 0x0c),
        /// NSG: the next stage.
        next_stage: u8 = Bits(1, 0x03),
        /// Version-max.
        version_max: u8 = Byte(2),
        /// Version-min.
        version_min: u8 = Byte(3),
        /// ISID.
        isid: [u8; 6] = Bytes(8),
        /// TSIH; zero asks for a new session.
        tsih: u16 = Be16(14),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// CID.
        cid: u16 = Be16(20),
        /// CmdSN.
        cmd_sn: u32 = Be32(24),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
    }
}

kind! {
    /// Logout Request (§11.14).
    LogoutRequest = opcode::LOGOUT_REQUEST, fixed 0x80 {
        /// I.
        immediate: bool = Bit(0, 0x40),
        /// Reason: 0 close the session, 1 close the connection, 2 remove it for recovery.
        reason: u8 = Bits(1, 0x7f),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// CID.
        cid: u16 = Be16(20),
        /// CmdSN.
        cmd_sn: u32 = Be32(24),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
    }
}

kind! {
    /// SNACK Request (§11.16).
    Snack = opcode::SNACK, fixed 0x80 {
        /// Type: 0 Data or R2T, 1 Status, 2 DataACK, 3 R-Data.
        kind: u8 = Bits(1, 0x0f),
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag.
        itt: u32 = Be32(16),
        /// Target Transfer Tag or SNACK Tag.
        ttt: u32 = Be32(20),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
        /// BegRun.
        begin: u32 = Be32(40),
        /// RunLength.
        run: u32 = Be32(44),
    }
}

kind! {
    /// NOP-Out (§11.18).
    NopOut = opcode::NOP_OUT, fixed 0x80 {
        /// I.
        immediate: bool = Bit(0, 0x40),
        /// Logical unit.
        lun: u64 = Be64(8),
        /// Initiator Task Tag; [`NO_TAG`](super::NO_TAG) when it is an answer.
        itt: u32 = Be32(16),
        /// Target Transfer Tag of the NOP-In it answers.
        ttt: u32 = Be32(20),
        /// CmdSN.
        cmd_sn: u32 = Be32(24),
        /// ExpStatSN.
        exp_stat_sn: u32 = Be32(28),
    }
}

/// Any PDU of an initiator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are named after their PDUs")]
pub enum Request {
    NopOut(NopOut),
    ScsiCommand(ScsiCommand),
    Tmf(TmfRequest),
    Login(LoginRequest),
    Text(TextRequest),
    DataOut(DataOut),
    Logout(LogoutRequest),
    Snack(Snack),
    /// An opcode that no initiator sends.
    Unknown(u8),
}

impl Request {
    /// Decodes a header; total.
    #[must_use]
    pub fn decode(bhs: &Bhs) -> Self {
        match bhs.opcode() {
            opcode::NOP_OUT => Self::NopOut(NopOut::from_bhs(bhs)),
            opcode::SCSI_COMMAND => Self::ScsiCommand(ScsiCommand::from_bhs(bhs)),
            opcode::TMF_REQUEST => Self::Tmf(TmfRequest::from_bhs(bhs)),
            opcode::LOGIN_REQUEST => Self::Login(LoginRequest::from_bhs(bhs)),
            opcode::TEXT_REQUEST => Self::Text(TextRequest::from_bhs(bhs)),
            opcode::DATA_OUT => Self::DataOut(DataOut::from_bhs(bhs)),
            opcode::LOGOUT_REQUEST => Self::Logout(LogoutRequest::from_bhs(bhs)),
            opcode::SNACK => Self::Snack(Snack::from_bhs(bhs)),
            other => Self::Unknown(other),
        }
    }
}
