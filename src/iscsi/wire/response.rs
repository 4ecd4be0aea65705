//! What the target sends.

use super::{BHS_BYTES, Bhs, TAG_NONE};
use crate::iscsi::sn::Sn;

const FINAL: u8 = 0x80;

/// A header with the opcode and the flags byte set, all else zero.
const fn header(opcode: u8, flags: u8) -> Bhs {
    let mut bytes = [0; BHS_BYTES];
    bytes[0] = opcode;
    bytes[1] = flags;
    Bhs(bytes)
}

/// Writes StatSN, ExpCmdSN and MaxCmdSN, which stand at the same place in every response. A StatSN of none leaves
/// the field as it is (Data-In without status: reserved).
pub fn stamp(bhs: &mut Bhs, stat_sn: Option<Sn>, exp_cmd_sn: Sn, max_cmd_sn: Sn) {
    if let Some(sn) = stat_sn {
        bhs.put(24, sn.0.to_be_bytes());
    }
    bhs.put(28, exp_cmd_sn.0.to_be_bytes());
    bhs.put(32, max_cmd_sn.0.to_be_bytes());
}

/// The difference between what the initiator expected to move and what the command moves (RFC 7143 §11.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Residual {
    /// They agree.
    #[default]
    None,
    /// U bit: so many bytes fewer moved than expected.
    Under(u32),
    /// O bit: so many bytes more would have moved than expected.
    Over(u32),
}

impl Residual {
    const fn flags(self) -> u8 {
        match self {
            Residual::None => 0,
            Residual::Under(_) => 0x02,
            Residual::Over(_) => 0x04,
        }
    }

    const fn count(self) -> u32 {
        match self {
            Residual::None => 0,
            Residual::Under(bytes) | Residual::Over(bytes) => bytes,
        }
    }
}

/// SCSI Response (RFC 7143 §11.4). The status qualifier (bytes 8 and 9, RFC 7144) is 0: SAM-5 has it say when to try
/// again after BUSY, TASK SET FULL or RESERVATION CONFLICT, which nobody here can tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScsiResponse {
    /// Initiator task tag.
    pub itt: u32,
    /// iSCSI service response: 0 command completed, 1 target failure.
    pub response: u8,
    /// SCSI status code.
    pub status: u8,
    /// SNACK Tag of the command's last R-Data SNACK, or 0.
    pub snack_tag: u32,
    /// Data-In PDUs sent for the command.
    pub exp_data_sn: Sn,
    /// Residual.
    pub residual: Residual,
}

impl ScsiResponse {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x21, FINAL | self.residual.flags());
        bhs.put(2, [self.response, self.status]);
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(20, self.snack_tag.to_be_bytes());
        bhs.put(36, self.exp_data_sn.0.to_be_bytes());
        bhs.put(44, self.residual.count().to_be_bytes());
        bhs
    }
}

/// SCSI Data-In (RFC 7143 §11.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataIn {
    /// F bit: the last of its sequence.
    pub is_final: bool,
    /// S bit: the command's status (GOOD or another without sense) and residual ride along.
    pub status: Option<(u8, Residual)>,
    /// Initiator task tag.
    pub itt: u32,
    /// DataSN.
    pub data_sn: Sn,
    /// Offset of the data in the command's, in bytes.
    pub offset: u32,
}

impl DataIn {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x25, if self.is_final { FINAL } else { 0 });
        bhs.put(20, TAG_NONE.to_be_bytes());
        if let Some((status, residual)) = self.status {
            bhs.0[1] |= 0x01 | residual.flags();
            bhs.0[3] = status;
            bhs.put(44, residual.count().to_be_bytes());
        }
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(36, self.data_sn.0.to_be_bytes());
        bhs.put(40, self.offset.to_be_bytes());
        bhs
    }
}

/// Ready To Transfer (RFC 7143 §11.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2t {
    /// Logical unit.
    pub lun: [u8; 8],
    /// Initiator task tag.
    pub itt: u32,
    /// Target transfer tag.
    pub ttt: u32,
    /// R2TSN.
    pub r2t_sn: Sn,
    /// Where the data wanted begin, in bytes.
    pub offset: u32,
    /// How many bytes are wanted.
    pub desired_bytes: u32,
}

impl R2t {
    /// Its opcode.
    pub const OPCODE: u8 = 0x31;

    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(Self::OPCODE, FINAL);
        bhs.put(8, self.lun);
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(20, self.ttt.to_be_bytes());
        bhs.put(36, self.r2t_sn.0.to_be_bytes());
        bhs.put(40, self.offset.to_be_bytes());
        bhs.put(44, self.desired_bytes.to_be_bytes());
        bhs
    }
}

/// Task Management Function Response (RFC 7143 §11.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TmfResponse {
    /// Initiator task tag.
    pub itt: u32,
    /// Response code.
    pub response: u8,
    /// Additional response information (RFC 7144 §6.4.1).
    pub information: [u8; 3],
}

impl TmfResponse {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x22, FINAL);
        bhs.0[2] = self.response;
        bhs.put(8, self.information);
        bhs.put(16, self.itt.to_be_bytes());
        bhs
    }
}

/// NOP-In (RFC 7143 §11.19).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopIn {
    /// Logical unit.
    pub lun: [u8; 8],
    /// Initiator task tag of the NOP-Out answered, or none.
    pub itt: u32,
    /// Target transfer tag where an answer is wanted, or none.
    pub ttt: u32,
}

impl NopIn {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x20, FINAL);
        bhs.put(8, self.lun);
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(20, self.ttt.to_be_bytes());
        bhs
    }
}

/// Text Response (RFC 7143 §11.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextResponse {
    /// F bit.
    pub is_final: bool,
    /// C bit.
    pub is_continued: bool,
    /// Logical unit.
    pub lun: [u8; 8],
    /// Initiator task tag.
    pub itt: u32,
    /// Target transfer tag: none when final.
    pub ttt: u32,
}

impl TextResponse {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let flags = if self.is_final { FINAL } else { 0 } | if self.is_continued { 0x40 } else { 0 };
        let mut bhs = header(0x24, flags);
        bhs.put(8, self.lun);
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(20, self.ttt.to_be_bytes());
        bhs
    }
}

/// Logout Response (RFC 7143 §11.15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogoutResponse {
    /// Initiator task tag.
    pub itt: u32,
    /// 0 closed, 1 CID not found, 2 recovery not supported, 3 cleanup failed.
    pub response: u8,
    /// Seconds to wait before a new login.
    pub time2wait: u16,
    /// Seconds that tasks are kept after that.
    pub time2retain: u16,
}

impl LogoutResponse {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x26, FINAL);
        bhs.0[2] = self.response;
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(40, self.time2wait.to_be_bytes());
        bhs.put(42, self.time2retain.to_be_bytes());
        bhs
    }
}

/// Asynchronous Message (RFC 7143 §11.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AsyncMessage {
    /// Logical unit, for SCSI events.
    pub lun: [u8; 8],
    /// AsyncEvent.
    pub event: u8,
    /// Parameter1 to Parameter3.
    pub parameters: [u16; 3],
}

impl AsyncMessage {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x32, FINAL);
        bhs.put(8, self.lun);
        bhs.put(16, TAG_NONE.to_be_bytes());
        bhs.0[36] = self.event;
        for (at, parameter) in [38, 40, 42].into_iter().zip(self.parameters) {
            bhs.put(at, parameter.to_be_bytes());
        }
        bhs
    }
}

/// Reject (RFC 7143 §11.17); its data segment is the header refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reject {
    /// Reason code.
    pub reason: u8,
}

impl Reject {
    /// The header.
    pub fn encode(&self) -> Bhs {
        let mut bhs = header(0x3f, FINAL);
        bhs.0[2] = self.reason;
        bhs.put(16, TAG_NONE.to_be_bytes());
        bhs
    }
}

/// Login Response (RFC 7143 §11.13).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginResponse {
    /// T bit.
    pub transit: bool,
    /// C bit.
    pub is_continued: bool,
    /// Current stage.
    pub current_stage: u8,
    /// Next stage.
    pub next_stage: u8,
    /// ISID, as it came.
    pub isid: [u8; 6],
    /// TSIH: the session's in the last response of a leading login.
    pub tsih: u16,
    /// Initiator task tag.
    pub itt: u32,
    /// Status class and detail.
    pub status: [u8; 2],
}

impl LoginResponse {
    /// The header; version 0 both ways.
    pub fn encode(&self) -> Bhs {
        let flags = if self.transit { 0x80 } else { 0 }
            | if self.is_continued { 0x40 } else { 0 }
            | (self.current_stage & 3) << 2
            | self.next_stage & 3;
        let mut bhs = header(0x23, flags);
        bhs.put(8, self.isid);
        bhs.put(14, self.tsih.to_be_bytes());
        bhs.put(16, self.itt.to_be_bytes());
        bhs.put(36, self.status);
        bhs
    }
}
