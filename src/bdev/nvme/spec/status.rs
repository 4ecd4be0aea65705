//! How a command ended (Base §3.3.3.2.1), and what a block device says of it.

use crate::bdev::IoError;

/// The status field without its phase bit: code, code type, retry delay, more, do not retry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Status(u16);

/// Status code types.
const GENERIC: u8 = 0;
const COMMAND_SPECIFIC: u8 = 1;
const MEDIA: u8 = 2;

impl Status {
    /// Of the 15 bits above the phase.
    pub(crate) const fn from_bits(bits: u16) -> Status {
        Status(bits & 0x7FFF)
    }

    /// The 15 bits.
    pub(crate) const fn bits(self) -> u16 {
        self.0
    }

    /// Status code type.
    pub(crate) const fn kind(self) -> u8 {
        (self.0 >> 8 & 7) as u8
    }

    /// Status code.
    pub(crate) const fn code(self) -> u8 {
        (self.0 & 0xFF) as u8
    }

    /// More is to be found in the error log.
    pub(crate) const fn has_more(self) -> bool {
        self.0 & 1 << 13 != 0
    }

    /// Success.
    pub(crate) const fn is_ok(self) -> bool {
        self.0 & 0x7FF == 0
    }

    /// Whether the medium is to blame, so that the error log may know the block.
    pub(crate) const fn is_media_error(self) -> bool {
        self.kind() == MEDIA && matches!(self.code(), 0x80 | 0x81 | 0x88)
    }

    /// Somebody has asked for its abort, and it was done.
    pub(crate) const fn is_abort_requested(self) -> bool {
        self.kind() == GENERIC && self.code() == 0x07
    }

    /// What the block device's user is told. The first bad block is filled in by who knows it.
    pub(crate) fn outcome(self) -> Result<(), IoError> {
        if self.is_ok() {
            return Ok(());
        }
        Err(match (self.kind(), self.code()) {
            // LBA out of range.
            (GENERIC, 0x80) => IoError::OutOfRange,
            // Capacity exceeded.
            (GENERIC, 0x81) => IoError::NoSpace,
            // Namespace is write protected; attempted write to read only range.
            (GENERIC, 0x20) | (COMMAND_SPECIFIC, 0x82) => IoError::ReadOnly,
            // Invalid namespace or format: it was detached, or formatted anew.
            (GENERIC, 0x0B) => IoError::Gone,
            // Invalid opcode; invalid field.
            (GENERIC, 0x01 | 0x02) => IoError::Unsupported,
            // Abort requested, aborted as its queue was deleted, aborted as its fused half failed.
            (GENERIC, 0x07..=0x0A) => IoError::Cancelled,
            // Write fault, unrecovered read error, deallocated or unwritten block.
            (MEDIA, 0x80 | 0x81 | 0x87 | 0x88) => IoError::Medium { lba: None },
            // Guard, application tag, reference tag.
            (MEDIA, 0x82) => IoError::Guard,
            (MEDIA, 0x83) => IoError::ApplicationTag,
            (MEDIA, 0x84) => IoError::ReferenceTag,
            (MEDIA, 0x85) => IoError::Miscompare,
            (MEDIA, 0x86) => IoError::AccessDenied,
            // Everything else: the command did not do its work, and who sent it may send it again.
            _ => IoError::Aborted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_outcome() {
        let of = |kind: u16, code: u16| Status::from_bits(kind << 8 | code).outcome();
        assert_eq!(of(0, 0), Ok(()));
        assert_eq!(of(0, 0x80), Err(IoError::OutOfRange));
        assert_eq!(of(0, 0x81), Err(IoError::NoSpace));
        assert_eq!(of(1, 0x82), Err(IoError::ReadOnly));
        assert_eq!(of(2, 0x81), Err(IoError::Medium { lba: None }));
        assert_eq!(of(2, 0x82), Err(IoError::Guard));
        assert_eq!(of(2, 0x86), Err(IoError::AccessDenied));
        assert_eq!(of(7, 0x42), Err(IoError::Aborted));
    }

    #[test]
    fn flags_do_not_make_an_error() {
        let status = Status::from_bits(0x6000);
        assert!(status.is_ok() && status.has_more());
    }
}
