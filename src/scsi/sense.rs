//! Sense data (SPC-5 §4.4): what a CHECK CONDITION says, and the names of all that are used.

use crate::bdev::pass::Flow;
use crate::bdev::{IoError, Op};
use crate::limits::SENSE_BYTES_MAX;

/// SENSE KEY (SPC-5 §4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SenseKey {
    /// 0h.
    NoSense,
    /// 2h.
    NotReady,
    /// 3h.
    MediumError,
    /// 4h.
    HardwareError,
    /// 5h.
    IllegalRequest,
    /// 6h.
    UnitAttention,
    /// 7h.
    DataProtect,
    /// Ah.
    CopyAborted,
    /// Bh.
    AbortedCommand,
    /// Eh.
    Miscompare,
}

impl SenseKey {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            SenseKey::NoSense => 0x0,
            SenseKey::NotReady => 0x2,
            SenseKey::MediumError => 0x3,
            SenseKey::HardwareError => 0x4,
            SenseKey::IllegalRequest => 0x5,
            SenseKey::UnitAttention => 0x6,
            SenseKey::DataProtect => 0x7,
            SenseKey::CopyAborted => 0xa,
            SenseKey::AbortedCommand => 0xb,
            SenseKey::Miscompare => 0xe,
        }
    }
}

/// Which field of the CDB or of the parameter list is wrong (the field pointer of SPC-5 §4.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldPointer {
    /// Of the CDB (C/D), else of the parameter list.
    pub is_in_cdb: bool,
    /// Byte of it.
    pub byte: u16,
    /// The field's leftmost bit, 7 to 0, where it is narrower than its bytes.
    pub bit: Option<u8>,
}

/// Why a command ended in CHECK CONDITION.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sense {
    /// SENSE KEY.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// INFORMATION: the LBA the trouble is at, or the offset of a byte that differs.
    pub information: Option<u64>,
    /// The field at fault, with ILLEGAL REQUEST only.
    pub field: Option<FieldPointer>,
    /// PROGRESS INDICATION, in 65536ths, with NOT READY only.
    pub progress: Option<u16>,
}

impl Sense {
    /// Nothing to say: what REQUEST SENSE answers at rest.
    pub const NO_SENSE: Sense = Sense::new(SenseKey::NoSense, 0x00, 0x00);
    /// INSUFFICIENT REGISTRATION RESOURCES.
    pub const NO_REGISTRATION_RESOURCES: Sense = Sense::new(SenseKey::IllegalRequest, 0x55, 0x04);
    /// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE.
    pub const NOT_READY: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x00);
    /// LOGICAL UNIT NOT READY, OPERATION IN PROGRESS: it will be ready by itself.
    pub const OPERATION_IN_PROGRESS: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x07);
    /// LOGICAL UNIT NOT READY, FORMAT IN PROGRESS.
    pub const FORMAT_IN_PROGRESS: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x04);
    /// LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS.
    pub const SANITIZE_IN_PROGRESS: Sense = Sense::new(SenseKey::NotReady, 0x04, 0x1b);
    /// FORMAT COMMAND FAILED.
    pub const FORMAT_FAILED: Sense = Sense::new(SenseKey::MediumError, 0x31, 0x01);
    /// SANITIZE COMMAND FAILED.
    pub const SANITIZE_FAILED: Sense = Sense::new(SenseKey::MediumError, 0x31, 0x03);
    /// MEDIUM NOT PRESENT.
    pub const NO_MEDIUM: Sense = Sense::new(SenseKey::NotReady, 0x3a, 0x00);
    /// MEDIUM NOT PRESENT - TRAY CLOSED.
    pub const NO_MEDIUM_TRAY_CLOSED: Sense = Sense::new(SenseKey::NotReady, 0x3a, 0x01);
    /// MEDIUM NOT PRESENT - TRAY OPEN.
    pub const NO_MEDIUM_TRAY_OPEN: Sense = Sense::new(SenseKey::NotReady, 0x3a, 0x02);
    /// WRITE ERROR, also after a failed flush.
    pub const WRITE_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x0c, 0x00);
    /// UNRECOVERED READ ERROR.
    pub const READ_ERROR: Sense = Sense::new(SenseKey::MediumError, 0x11, 0x00);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL_FAILURE: Sense = Sense::new(SenseKey::HardwareError, 0x44, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPCODE: Sense = Sense::new(SenseKey::IllegalRequest, 0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Sense = Sense::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD: Sense = Sense::new(SenseKey::IllegalRequest, 0x24, 0x00);
    /// LOGICAL UNIT NOT SUPPORTED.
    pub const NO_SUCH_UNIT: Sense = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_PARAMETER: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x00);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    /// INVALID TOKEN OPERATION, CAUSE NOT REPORTABLE.
    pub const TOKEN_OPERATION: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x00);
    /// INVALID TOKEN OPERATION, UNSUPPORTED TOKEN TYPE.
    pub const TOKEN_TYPE: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x01);
    /// INVALID TOKEN OPERATION, REMOTE TOKEN USAGE NOT SUPPORTED: its unit is none that the session reaches.
    pub const TOKEN_REMOTE: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x02);
    /// INVALID TOKEN OPERATION, TOKEN UNKNOWN.
    pub const TOKEN_UNKNOWN: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x04);
    /// INVALID TOKEN OPERATION, TOKEN REVOKED: its blocks have changed.
    pub const TOKEN_REVOKED: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x06);
    /// INVALID TOKEN OPERATION, INVALID TOKEN LENGTH.
    pub const TOKEN_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x23, 0x0a);
    /// INSUFFICIENT RESOURCES TO CREATE ROD TOKEN.
    pub const TOKEN_RESOURCES: Sense = Sense::new(SenseKey::IllegalRequest, 0x55, 0x0d);
    /// COMMAND SEQUENCE ERROR.
    pub const COMMAND_SEQUENCE: Sense = Sense::new(SenseKey::IllegalRequest, 0x2c, 0x00);
    /// TOO MANY TARGET DESCRIPTORS.
    pub const TOO_MANY_CSCDS: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x06);
    /// UNSUPPORTED TARGET DESCRIPTOR TYPE CODE.
    pub const UNSUPPORTED_CSCD: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x07);
    /// TOO MANY SEGMENT DESCRIPTORS.
    pub const TOO_MANY_SEGMENTS: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x08);
    /// UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE.
    pub const UNSUPPORTED_SEGMENT: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x09);
    /// INLINE DATA LENGTH EXCEEDED.
    pub const INLINE_DATA_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x0b);
    /// COPY SEGMENT GRANULARITY VIOLATION.
    pub const COPY_SEGMENT_GRANULARITY: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x0d);
    /// A copy was ended by what its parameter list asks for.
    pub const COPY_ABORTED: Sense = Sense::new(SenseKey::CopyAborted, 0x00, 0x00);
    /// UNREACHABLE COPY TARGET.
    pub const COPY_TARGET_UNREACHABLE: Sense = Sense::new(SenseKey::CopyAborted, 0x08, 0x04);
    /// THIRD PARTY DEVICE FAILURE: one of the two sides has failed, or refuses.
    pub const THIRD_PARTY_FAILURE: Sense = Sense::new(SenseKey::CopyAborted, 0x0d, 0x01);
    /// INCORRECT COPY TARGET DEVICE TYPE.
    pub const COPY_TARGET_TYPE: Sense = Sense::new(SenseKey::CopyAborted, 0x0d, 0x03);
    /// MISCOMPARE DURING VERIFY OPERATION.
    pub const MISCOMPARE: Sense = Sense::new(SenseKey::Miscompare, 0x1d, 0x00);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const SAVING_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x39, 0x00);
    /// MEDIUM REMOVAL PREVENTED.
    pub const REMOVAL_PREVENTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x53, 0x02);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x00);
    /// SPACE ALLOCATION FAILED WRITE PROTECT. ESXi pauses the VM on exactly this.
    pub const NO_SPACE: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x07);
    /// ACCESS DENIED - NO ACCESS RIGHTS.
    pub const ACCESS_DENIED: Sense = Sense::new(SenseKey::IllegalRequest, 0x20, 0x02);
    /// LOGICAL BLOCK GUARD CHECK FAILED.
    pub const GUARD_CHECK_FAILED: Sense = Sense::new(SenseKey::AbortedCommand, 0x10, 0x01);
    /// LOGICAL BLOCK APPLICATION TAG CHECK FAILED.
    pub const APPLICATION_TAG_CHECK_FAILED: Sense = Sense::new(SenseKey::AbortedCommand, 0x10, 0x02);
    /// LOGICAL BLOCK REFERENCE TAG CHECK FAILED.
    pub const REFERENCE_TAG_CHECK_FAILED: Sense = Sense::new(SenseKey::AbortedCommand, 0x10, 0x03);
    /// Aborted, with nothing to add.
    pub const COMMAND_ABORTED: Sense = Sense::new(SenseKey::AbortedCommand, 0x00, 0x00);
    /// WRITE ERROR - UNEXPECTED UNSOLICITED DATA (RFC 7143 §11.4.7.2).
    pub const UNEXPECTED_UNSOLICITED_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0c);
    /// WRITE ERROR - NOT ENOUGH UNSOLICITED DATA (RFC 7143 §11.4.7.2).
    pub const NOT_ENOUGH_UNSOLICITED_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0d);
    /// PROTOCOL SERVICE CRC ERROR: a data digest was wrong (RFC 7143 §11.4.7.2).
    pub const CRC_ERROR: Sense = Sense::new(SenseKey::AbortedCommand, 0x47, 0x05);
    /// SNACK REJECTED (RFC 7143 §11.4.7.2): READ ERROR - FAILED RETRANSMISSION REQUEST.
    pub const SNACK_REJECTED: Sense = Sense::new(SenseKey::AbortedCommand, 0x11, 0x13);

    /// INVALID FIELD IN COMMAND INFORMATION UNIT: the R and W bits contradict the CDB.
    pub const INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT: Sense =
        Sense::new(SenseKey::IllegalRequest, 0x0e, 0x03);
    /// DATA PHASE ERROR: Data-Out PDUs came out of order.
    pub const DATA_PHASE_ERROR: Sense = Sense::new(SenseKey::AbortedCommand, 0x4b, 0x00);
    /// TOO MUCH WRITE DATA: more than was asked for or allowed unasked.
    pub const TOO_MUCH_WRITE_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x4b, 0x02);

    /// Key and codes, and nothing about where.
    pub const fn new(key: SenseKey, asc: u8, ascq: u8) -> Sense {
        Sense { key, asc, ascq, information: None, field: None, progress: None }
    }

    /// The same, at this LBA.
    pub const fn at(self, lba: u64) -> Sense {
        Sense { information: Some(lba), ..self }
    }

    /// INVALID FIELD IN CDB, the field being one or more whole bytes from `byte` on.
    pub const fn invalid_byte(byte: u8) -> Sense {
        let byte = byte as u16;
        Sense { field: Some(FieldPointer { is_in_cdb: true, byte, bit: None }), ..Sense::INVALID_FIELD }
    }

    /// INVALID FIELD IN CDB, the field beginning at `bit` (7 to 0) of `byte`.
    pub const fn invalid_bit(byte: u8, bit: u8) -> Sense {
        let byte = byte as u16;
        Sense { field: Some(FieldPointer { is_in_cdb: true, byte, bit: Some(bit) }), ..Sense::INVALID_FIELD }
    }

    /// INVALID FIELD IN PARAMETER LIST, the field being one or more whole bytes from `byte` on.
    pub const fn invalid_parameter(byte: u16) -> Sense {
        Sense { field: Some(FieldPointer { is_in_cdb: false, byte, bit: None }), ..Sense::INVALID_PARAMETER }
    }

    /// INVALID FIELD IN PARAMETER LIST, the field beginning at `bit` (7 to 0) of `byte`.
    pub const fn invalid_parameter_bit(byte: u16, bit: u8) -> Sense {
        Sense {
            field: Some(FieldPointer { is_in_cdb: false, byte, bit: Some(bit) }),
            ..Sense::INVALID_PARAMETER
        }
    }

    /// What an initiator is told of a device IO that failed.
    pub const fn of_failure(error: IoError, op: Op) -> Sense {
        match error {
            IoError::Medium { lba } => Sense { information: lba, ..medium_error(op) },
            IoError::NoSpace => Sense::NO_SPACE,
            IoError::OutOfRange => Sense::LBA_OUT_OF_RANGE,
            IoError::ReadOnly => Sense::WRITE_PROTECTED,
            IoError::FlushFailed => Sense::WRITE_ERROR,
            // What was planned on the device's word that it can.
            IoError::Unsupported => Sense::INTERNAL_FAILURE,
            IoError::Cancelled => Sense::COMMAND_ABORTED,
            IoError::Aborted => Sense::COMMAND_ABORTED,
            IoError::AccessDenied => Sense::ACCESS_DENIED,
            IoError::Miscompare => Sense::MISCOMPARE,
            IoError::Guard => Sense::GUARD_CHECK_FAILED,
            IoError::ApplicationTag => Sense::APPLICATION_TAG_CHECK_FAILED,
            IoError::ReferenceTag => Sense::REFERENCE_TAG_CHECK_FAILED,
            IoError::Gone => Sense::NOT_READY,
        }
    }

    /// Writes the sense data, in fixed (70h) or descriptor (72h) format, and returns their length.
    pub fn encode(&self, descriptor_format: bool, out: &mut [u8; SENSE_BYTES_MAX]) -> usize {
        if descriptor_format { self.encode_descriptors(out) } else { self.encode_fixed(out) }
    }

    /// Sense key specific data (SPC-5 §4.4.2.4): SKSV and a field pointer or a progress indication.
    fn specific(&self) -> Option<[u8; 3]> {
        match (self.field, self.progress) {
            (Some(field), _) => Some(field.encode()),
            (None, Some(progress)) => {
                let [high, low] = progress.to_be_bytes();
                Some([0x80, high, low])
            }
            (None, None) => None,
        }
    }

    /// Fixed format, 70h.
    fn encode_fixed(&self, out: &mut [u8; SENSE_BYTES_MAX]) -> usize {
        let data = &mut out[..FIXED_BYTES];
        data.fill(0);
        data[0] = 0x70;
        data[2] = self.key.code();
        // VALID only with what fits the four bytes of INFORMATION; descriptor format has eight.
        if let Some(lba) = self.information.and_then(|lba| u32::try_from(lba).ok()) {
            data[0] |= 0x80;
            data[3..7].copy_from_slice(&lba.to_be_bytes());
        }
        data[7] = 10; // ADDITIONAL SENSE LENGTH: bytes 8 to 17.
        data[12] = self.asc;
        data[13] = self.ascq;
        if let Some(specific) = self.specific() {
            data[15..18].copy_from_slice(&specific);
        }
        FIXED_BYTES
    }

    /// Descriptor format, 72h.
    fn encode_descriptors(&self, out: &mut [u8; SENSE_BYTES_MAX]) -> usize {
        out[..8].copy_from_slice(&[0x72, self.key.code(), self.asc, self.ascq, 0, 0, 0, 0]);
        let mut length: u8 = 8;
        if let Some(lba) = self.information {
            // Information descriptor: type 00h, VALID.
            out[8..12].copy_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            out[12..20].copy_from_slice(&lba.to_be_bytes());
            length += 12;
        }
        if let Some([first, second, third]) = self.specific() {
            let at = usize::from(length);
            // Sense key specific descriptor: type 02h.
            out[at..at + 8].copy_from_slice(&[0x02, 0x06, 0, 0, first, second, third, 0]);
            length += 8;
        }
        out[7] = length - 8;
        usize::from(length)
    }
}

impl FieldPointer {
    /// Sense key specific data: SKSV, C/D, BPV and BIT POINTER, FIELD POINTER.
    fn encode(self) -> [u8; 3] {
        let which = if self.is_in_cdb { 0xc0 } else { 0x80 };
        let bit = self.bit.map_or(0, |bit| 0x08 | (bit & 0x07));
        let [high, low] = self.byte.to_be_bytes();
        [which | bit, high, low]
    }
}

const FIXED_BYTES: usize = 18;
const _: () = assert!(SENSE_BYTES_MAX >= FIXED_BYTES && SENSE_BYTES_MAX >= 8 + 12 + 8);

/// What a bad medium means to each operation.
const fn medium_error(op: Op) -> Sense {
    match op {
        Op::Read { .. }
        | Op::ReadProtected { .. }
        | Op::Verify { .. }
        | Op::Compare { .. }
        | Op::Pass { flow: Flow::In, .. } => Sense::READ_ERROR,
        Op::Write { .. }
        | Op::Flush
        | Op::Unmap { .. }
        | Op::WriteZeroes { .. }
        | Op::CompareAndWrite { .. }
        | Op::Copy { .. }
        | Op::WriteProtected { .. }
        | Op::WriteUncorrectable { .. }
        | Op::Pass { .. } => Sense::WRITE_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(sense: Sense, descriptor_format: bool) -> Vec<u8> {
        let mut out = [0xee; SENSE_BYTES_MAX];
        let length = sense.encode(descriptor_format, &mut out);
        assert!(out[length..].iter().all(|byte| *byte == 0xee));
        out[..length].to_vec()
    }

    #[test]
    fn fixed_format() {
        assert_eq!(
            encoded(Sense::INVALID_OPCODE, false),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            encoded(Sense::READ_ERROR.at(0x0102_0304), false),
            [0xf0, 0, 3, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            encoded(Sense::LBA_OUT_OF_RANGE.at(0x1_0000_0000), false),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0],
            "an LBA of more than 32 bits is left out"
        );
        assert_eq!(
            encoded(Sense::invalid_bit(1, 7), false),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 1]
        );
        assert_eq!(
            encoded(Sense::invalid_byte(10), false),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xc0, 0, 10]
        );
    }

    #[test]
    fn descriptor_format() {
        assert_eq!(encoded(Sense::NOT_READY, true), [0x72, 2, 4, 0, 0, 0, 0, 0]);
        assert_eq!(
            encoded(Sense::WRITE_ERROR.at(0x0102_0304_0506_0708), true),
            [0x72, 3, 0x0c, 0, 0, 0, 0, 12, 0, 0x0a, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!(
            encoded(Sense::invalid_bit(9, 2), true),
            [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xca, 0, 9, 0]
        );
        let both = Sense {
            field: Some(FieldPointer { is_in_cdb: true, byte: 2, bit: None }),
            ..Sense::LBA_OUT_OF_RANGE.at(9)
        };
        assert_eq!(
            encoded(both, true),
            [
                0x72, 5, 0x21, 0, 0, 0, 0, 20, 0, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 9, 2, 6, 0, 0, 0xc0, 0,
                2, 0
            ]
        );
    }

    #[test]
    fn progress() {
        let half = Sense { progress: Some(0x8001), ..Sense::SANITIZE_IN_PROGRESS };
        assert_eq!(
            encoded(half, false),
            [0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x04, 0x1b, 0, 0x80, 0x80, 0x01]
        );
        assert_eq!(encoded(half, true), [0x72, 2, 4, 0x1b, 0, 0, 0, 8, 2, 6, 0, 0, 0x80, 0x80, 0x01, 0]);
    }

    #[test]
    fn failures_have_names() {
        let read = Op::Read { lba: 0, blocks: 1 };
        let write = Op::Write { lba: 0, blocks: 1, fua: false };
        let codes = |error, op| {
            let Sense { key, asc, ascq, information, .. } = Sense::of_failure(error, op);
            (key.code(), asc, ascq, information)
        };
        assert_eq!(codes(IoError::Medium { lba: Some(77) }, read), (0x3, 0x11, 0x00, Some(77)));
        assert_eq!(codes(IoError::Medium { lba: None }, write), (0x3, 0x0c, 0x00, None));
        assert_eq!(codes(IoError::Medium { lba: None }, Op::Flush), (0x3, 0x0c, 0x00, None));
        assert_eq!(codes(IoError::NoSpace, write), (0x7, 0x27, 0x07, None));
        assert_eq!(codes(IoError::OutOfRange, read), (0x5, 0x21, 0x00, None));
        assert_eq!(codes(IoError::ReadOnly, write), (0x7, 0x27, 0x00, None));
        assert_eq!(codes(IoError::FlushFailed, write), (0x3, 0x0c, 0x00, None));
        assert_eq!(codes(IoError::Unsupported, Op::Unmap { lba: 0, blocks: 1 }), (0x4, 0x44, 0x00, None));
        assert_eq!(codes(IoError::Cancelled, read), (0xb, 0x00, 0x00, None));
        assert_eq!(codes(IoError::Gone, read), (0x2, 0x04, 0x00, None));
    }
}
