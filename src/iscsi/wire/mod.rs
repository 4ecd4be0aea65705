//! PDUs on the wire (RFC 7143 §11): the 48-byte basic header segment and typed views of each kind.
//!
//! A request is parsed whole by a function that cannot fail: every field of the header is there, and what its value
//! means is the caller's to judge. A response is made without serial numbers and stamped when its turn to be sent
//! has come ([`stamp`]).

mod ahs;
mod digest;
mod request;
mod response;

pub use ahs::{Extended, Malformed};
pub use digest::crc32c;
pub use request::{
    DataOut, LoginRequest, LogoutRequest, NopOut, Request, ScsiCommand, Snack, TextRequest, TmfRequest,
};
pub use response::{
    AsyncMessage, DataIn, LoginResponse, LogoutResponse, NopIn, R2t, Reject, Residual, ScsiResponse,
    TextResponse, TmfResponse, stamp,
};

use crate::iscsi::sn::Sn;

/// Length of the basic header segment.
pub const BHS_BYTES: usize = 48;
/// Length of a digest.
pub const DIGEST_BYTES: usize = 4;
/// The initiator or target task tag that means "none" (RFC 7143 §11.2.1.8).
pub const TAG_NONE: u32 = 0xffff_ffff;

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bhs(pub [u8; BHS_BYTES]);

impl Bhs {
    /// The opcode without the immediate bit.
    pub const fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// The I bit.
    pub const fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The F (or T) bit.
    pub const fn is_final(&self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// Length of the additional header segments in bytes.
    pub const fn ahs_bytes(&self) -> usize {
        self.0[4] as usize * 4
    }

    /// Length of the data segment in bytes, without padding: up to 2^24 - 1.
    pub const fn data_bytes(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// The LUN field.
    pub fn lun(&self) -> [u8; 8] {
        self.bytes(8)
    }

    /// The initiator task tag.
    pub fn itt(&self) -> u32 {
        self.u32(16)
    }

    /// The header with this StatSN, which stands at the same place in every response.
    #[must_use]
    pub fn numbered(mut self, stat_sn: Sn) -> Bhs {
        self.put(24, stat_sn.0.to_be_bytes());
        self
    }

    /// The header of a SCSI Response with this SNACK Tag and ExpDataSN.
    #[must_use]
    pub fn tagged(mut self, snack_tag: u32, exp_data_sn: Sn) -> Bhs {
        self.put(20, snack_tag.to_be_bytes());
        self.put(36, exp_data_sn.0.to_be_bytes());
        self
    }

    /// ExpStatSN: at the same place in every request.
    pub fn exp_stat_sn(&self) -> Sn {
        self.sn(28)
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.0[at..at + N]);
        out
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    fn sn(&self, at: usize) -> Sn {
        Sn(self.u32(at))
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    /// Sets the data segment length; `bytes` is under 2^24.
    pub fn set_data_bytes(&mut self, bytes: u32) {
        let [_, high, middle, low] = bytes.to_be_bytes();
        self.put(5, [high, middle, low]);
    }
}

/// Bytes that pad a data segment of `bytes` to a multiple of four.
pub const fn padding_bytes(bytes: usize) -> usize {
    bytes.wrapping_neg() & 3
}
