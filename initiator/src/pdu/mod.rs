//! PDUs as they stand on the wire (RFC 7143 §11).
//!
//! [`Bhs`] is 48 bytes with setters and getters; a [`Pdu`] adds the additional header segment and the data. The
//! structs in [`request`] and [`response`] name the fields of each kind and convert from and to a `Bhs`. Lengths and
//! digests are put in by [`Pdu::encode`]; who wants them wrong uses [`Pdu::encode_flawed`] or sends any bytes.

use std::fmt;

mod bhs;
mod frame;
pub mod request;
pub mod response;

pub use bhs::{Be16, Be32, Be64, Bhs, Bit, Bits, Byte, Bytes, Place};
pub use frame::{Deframer, Digests, Flaw, FrameError, PduRef, crc32c};
pub use request::Request;
pub use response::Response;

/// The tag that means "no task" and "no transfer".
pub const NO_TAG: u32 = 0xffff_ffff;

/// Operation codes (RFC 7143 §11.2.1.2), without the immediate bit.
#[expect(missing_docs, reason = "the names are the RFC's")]
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TMF_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TMF_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// A PDU: header, additional header segments (whole, with their own headers) and data.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Pdu {
    /// The basic header segment. Its two lengths are overwritten by [`Pdu::encode`].
    pub bhs: Bhs,
    /// Additional header segments; padded to four bytes when encoded.
    pub ahs: Vec<u8>,
    /// The data segment, without padding.
    pub data: Vec<u8>,
}

impl Pdu {
    /// A PDU without additional header segments; its header gets the length of the data.
    pub fn new(mut bhs: Bhs, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        bhs.set_data_bytes(length(data.len()));
        Self { bhs, ahs: Vec::new(), data }
    }

    /// Appends the PDU to `out`, lengths and digests right.
    pub fn encode(&self, digests: Digests, out: &mut Vec<u8>) {
        frame::encode(self.bhs, &self.ahs, &self.data, digests, out);
    }

    /// Appends the PDU to `out` with the faults asked for.
    pub fn encode_flawed(&self, digests: Digests, flaw: Flaw, out: &mut Vec<u8>) {
        frame::encode_flawed(self, digests, flaw, out);
    }

    /// The PDU as a borrowed view.
    #[must_use]
    pub fn as_view(&self) -> PduRef<'_> {
        PduRef { bhs: self.bhs, ahs: &self.ahs, data: &self.data }
    }
}

impl fmt::Debug for Pdu {
    /// The header, and the data cut short.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.data[..self.data.len().min(32)];
        write!(f, "Pdu({:?}, ahs {:02x?}, {} bytes {shown:02x?})", self.bhs, self.ahs, self.data.len())
    }
}

pub(crate) use frame::encode as encode_parts;

/// The `u32` for a length; lengths here come from memory that a PDU or a command holds.
pub(crate) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The `usize` for a wire length.
pub(crate) fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Declares a PDU kind: a struct with public fields, and its conversion from and to a header.
macro_rules! kind {
    ($(#[$doc:meta])* $name:ident = $opcode:expr, fixed $fixed:literal {
        $( $(#[$field_doc:meta])* $field:ident: $value:ty = $place:expr, )*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $value, )* }

        impl $name {
            /// The header with these fields.
            #[must_use]
            pub fn bhs(&self) -> $crate::pdu::Bhs {
                let mut bhs = $crate::pdu::Bhs::new($opcode);
                bhs.0[1] = $fixed;
                $( $crate::pdu::Place::store(&$place, &mut bhs, self.$field); )*
                bhs
            }

            /// The fields of a header, whatever its opcode says.
            #[must_use]
            pub fn from_bhs(bhs: &$crate::pdu::Bhs) -> Self {
                Self { $( $field: $crate::pdu::Place::load(&$place, bhs), )* }
            }

            /// The PDU with this header and `data`.
            pub fn with(&self, data: impl Into<Vec<u8>>) -> $crate::pdu::Pdu {
                $crate::pdu::Pdu::new(self.bhs(), data)
            }
        }
    };
}
pub(crate) use kind;

#[cfg(test)]
mod tests;
