//! What initiators send.

use super::Bhs;
use crate::iscsi::sn::Sn;

/// A request of any kind, by its opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// 00h.
    NopOut(NopOut),
    /// 01h.
    ScsiCommand(ScsiCommand),
    /// 02h.
    Tmf(TmfRequest),
    /// 03h.
    Login(LoginRequest),
    /// 04h.
    Text(TextRequest),
    /// 05h.
    DataOut(DataOut),
    /// 06h.
    Logout(LogoutRequest),
    /// 10h.
    Snack(Snack),
    /// Anything else, vendor-specific opcodes included.
    Unknown(u8),
}

impl Request {
    /// The typed view of a header.
    pub fn parse(bhs: &Bhs) -> Request {
        match bhs.opcode() {
            0x00 => Request::NopOut(NopOut::parse(bhs)),
            0x01 => Request::ScsiCommand(ScsiCommand::parse(bhs)),
            0x02 => Request::Tmf(TmfRequest::parse(bhs)),
            0x03 => Request::Login(LoginRequest::parse(bhs)),
            0x04 => Request::Text(TextRequest::parse(bhs)),
            0x05 => Request::DataOut(DataOut::parse(bhs)),
            0x06 => Request::Logout(LogoutRequest::parse(bhs)),
            0x10 => Request::Snack(Snack::parse(bhs)),
            other => Request::Unknown(other),
        }
    }
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = |$bhs:ident| $value:expr,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl $name {
            /// Reads the fields of a header, whatever its opcode.
            pub fn parse(bhs: &Bhs) -> $name {
                $name { $($field: { let $bhs = bhs; $value },)* }
            }
        }
    )*};
}

requests! {
    /// SCSI Command (RFC 7143 §11.3).
    ScsiCommand {
        /// I bit.
        immediate: bool = |b| b.immediate(),
        /// F bit: no unsolicited Data-Out follows.
        is_final: bool = |b| b.is_final(),
        /// R bit.
        read: bool = |b| b.0[1] & 0x40 != 0,
        /// W bit.
        write: bool = |b| b.0[1] & 0x20 != 0,
        /// Task attribute: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
        attribute: u8 = |b| b.0[1] & 7,
        /// PRI, the command's priority (RFC 7144): 0 none, 1 the highest. It decides nothing: SAM-5 lets a device server
        /// take the commands of one attribute in the order of its choice, which is the order in which they came.
        priority: u8 = |b| b.0[2] >> 4,
        /// Logical unit.
        lun: [u8; 8] = |b| b.lun(),
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Expected data transfer length in bytes.
        expected_bytes: u32 = |b| b.u32(20),
        /// CmdSN.
        cmd_sn: Sn = |b| b.sn(24),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
        /// The CDB's first 16 bytes.
        cdb: [u8; 16] = |b| b.bytes(32),
    }
    /// SCSI Data-Out (RFC 7143 §11.7).
    DataOut {
        /// F bit: the last of its sequence.
        is_final: bool = |b| b.is_final(),
        /// Logical unit.
        lun: [u8; 8] = |b| b.lun(),
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Target transfer tag of the R2T answered, or [`super::TAG_NONE`].
        ttt: u32 = |b| b.u32(20),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
        /// DataSN within its sequence.
        data_sn: Sn = |b| b.sn(36),
        /// Offset of the data in the command's, in bytes.
        offset: u32 = |b| b.u32(40),
    }
    /// NOP-Out (RFC 7143 §11.18).
    NopOut {
        /// I bit.
        immediate: bool = |b| b.immediate(),
        /// Logical unit.
        lun: [u8; 8] = |b| b.lun(),
        /// Initiator task tag, or none for an answer or a bare ExpStatSN.
        itt: u32 = |b| b.itt(),
        /// Target transfer tag of the NOP-In answered.
        ttt: u32 = |b| b.u32(20),
        /// CmdSN.
        cmd_sn: Sn = |b| b.sn(24),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
    }
    /// Task Management Function Request (RFC 7143 §11.5).
    TmfRequest {
        /// I bit.
        immediate: bool = |b| b.immediate(),
        /// Function code, 7 bits.
        function: u8 = |b| b.0[1] & 0x7f,
        /// Logical unit.
        lun: [u8; 8] = |b| b.lun(),
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Referenced task tag.
        referenced_itt: u32 = |b| b.u32(20),
        /// CmdSN.
        cmd_sn: Sn = |b| b.sn(24),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
        /// RefCmdSN.
        ref_cmd_sn: Sn = |b| b.sn(32),
        /// ExpDataSN.
        exp_data_sn: Sn = |b| b.sn(36),
    }
    /// Login Request (RFC 7143 §11.12).
    LoginRequest {
        /// I bit; has to be set.
        immediate: bool = |b| b.immediate(),
        /// T bit.
        transit: bool = |b| b.0[1] & 0x80 != 0,
        /// C bit.
        is_continued: bool = |b| b.0[1] & 0x40 != 0,
        /// Current stage, 0 to 3.
        current_stage: u8 = |b| (b.0[1] >> 2) & 3,
        /// Next stage, 0 to 3.
        next_stage: u8 = |b| b.0[1] & 3,
        /// Version-max.
        version_max: u8 = |b| b.0[2],
        /// Version-min.
        version_min: u8 = |b| b.0[3],
        /// ISID.
        isid: [u8; 6] = |b| b.bytes(8),
        /// TSIH.
        tsih: u16 = |b| b.u16(14),
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Connection ID.
        cid: u16 = |b| b.u16(20),
        /// CmdSN.
        cmd_sn: Sn = |b| b.sn(24),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
    }
    /// Text Request (RFC 7143 §11.10).
    TextRequest {
        /// I bit.
        immediate: bool = |b| b.immediate(),
        /// F bit.
        is_final: bool = |b| b.is_final(),
        /// C bit.
        is_continued: bool = |b| b.0[1] & 0x40 != 0,
        /// Logical unit.
        lun: [u8; 8] = |b| b.lun(),
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Target transfer tag: none at the start, then what the target gave.
        ttt: u32 = |b| b.u32(20),
        /// CmdSN.
        cmd_sn: Sn = |b| b.sn(24),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
    }
    /// Logout Request (RFC 7143 §11.14).
    LogoutRequest {
        /// I bit.
        immediate: bool = |b| b.immediate(),
        /// Reason code: 0 close the session, 1 close the connection, 2 remove the connection for recovery.
        reason: u8 = |b| b.0[1] & 0x7f,
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Connection ID.
        cid: u16 = |b| b.u16(20),
        /// CmdSN.
        cmd_sn: Sn = |b| b.sn(24),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
    }
    /// SNACK Request (RFC 7143 §11.16).
    Snack {
        /// Type.
        kind: u8 = |b| b.0[1] & 0x0f,
        /// Initiator task tag.
        itt: u32 = |b| b.itt(),
        /// Target transfer tag.
        ttt: u32 = |b| b.u32(20),
        /// ExpStatSN.
        exp_stat_sn: Sn = |b| b.sn(28),
        /// BegRun.
        first: u32 = |b| b.u32(40),
        /// RunLength.
        count: u32 = |b| b.u32(44),
    }
}
