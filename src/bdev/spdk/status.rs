//! What SPDK says of an IO that failed, in lunette's words.

use rustix::io::Errno;
use spdk_sys::spdk_nvme_command_specific_status_code as specific;
use spdk_sys::spdk_nvme_generic_command_status_code as generic;
use spdk_sys::spdk_nvme_status_code_type as kind;

use crate::bdev::IoError;

const SOMEWHERE: IoError = IoError::Medium { lba: None };

/// Of an IO that ended: by a system call's error where its bdev makes such, else by an NVMe status. SPDK shows every other
/// failure as the NVMe status "internal error" and as the error EIO.
pub(super) fn of_end(aio_result: i32, sct: i32, sc: i32) -> IoError {
    match errno(aio_result) {
        Errno::NOSPC | Errno::DQUOT => IoError::NoSpace,
        Errno::ROFS => IoError::ReadOnly,
        Errno::OPNOTSUPP => IoError::Unsupported,
        Errno::NODEV | Errno::NXIO => IoError::Gone,
        _ => of_nvme(sct, sc),
    }
}

/// NVM Express Base Specification, "Status Code", and the NVM Command Set's.
fn of_nvme(sct: i32, sc: i32) -> IoError {
    let (Ok(sct), Ok(sc)) = (u32::try_from(sct), u32::try_from(sc)) else { return SOMEWHERE };
    match (sct, sc) {
        (kind::SPDK_NVME_SCT_GENERIC, sc) => match sc {
            generic::SPDK_NVME_SC_LBA_OUT_OF_RANGE => IoError::OutOfRange,
            generic::SPDK_NVME_SC_CAPACITY_EXCEEDED => IoError::NoSpace,
            generic::SPDK_NVME_SC_COMMAND_NAMESPACE_IS_PROTECTED => IoError::ReadOnly,
            generic::SPDK_NVME_SC_INVALID_OPCODE => IoError::Unsupported,
            generic::SPDK_NVME_SC_ABORTED_BY_REQUEST | generic::SPDK_NVME_SC_ABORTED_SQ_DELETION => {
                IoError::Cancelled
            }
            _ => SOMEWHERE,
        },
        (kind::SPDK_NVME_SCT_COMMAND_SPECIFIC, specific::SPDK_NVME_SC_ATTEMPTED_WRITE_TO_RO_RANGE) => {
            IoError::ReadOnly
        }
        _ => SOMEWHERE,
    }
}

/// Of an IO that SPDK did not take, by the errno it gave; none where it may take it later.
pub(super) fn of_refusal(result: i32) -> Option<IoError> {
    match errno(result) {
        Errno::NOMEM | Errno::AGAIN => None,
        Errno::INVAL => Some(IoError::OutOfRange),
        Errno::BADF => Some(IoError::ReadOnly),
        Errno::OPNOTSUPP => Some(IoError::Unsupported),
        Errno::NODEV => Some(IoError::Gone),
        _ => Some(SOMEWHERE),
    }
}

/// The error of a call that returned this, as SPDK's do: negative. What is none is taken for EIO.
pub(super) fn errno(result: i32) -> Errno {
    match result.checked_neg() {
        Some(errno @ 1..4096) => Errno::from_raw_os_error(errno),
        _ => Errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        // EIO stands for "no system call's error".
        for (sct, sc, expected) in [
            (0, 0x80, IoError::OutOfRange),
            (0, 0x81, IoError::NoSpace),
            (0, 0x20, IoError::ReadOnly),
            (0, 0x01, IoError::Unsupported),
            (0, 0x07, IoError::Cancelled),
            (0, 0x08, IoError::Cancelled),
            (0, 0x06, SOMEWHERE),
            (1, 0x82, IoError::ReadOnly),
            (2, 0x81, SOMEWHERE),
            (3, 0x80, SOMEWHERE),
            (-1, -1, SOMEWHERE),
        ] {
            assert_eq!(of_end(-5, sct, sc), expected, "{sct:x}/{sc:x}");
        }
        for (errno, expected) in [
            (-28, IoError::NoSpace),
            (-30, IoError::ReadOnly),
            (-95, IoError::Unsupported),
            (-19, IoError::Gone),
            (-5, SOMEWHERE),
            (0, SOMEWHERE),
            (i32::MIN, SOMEWHERE),
        ] {
            assert_eq!(of_end(errno, 0, 6), expected, "{errno}");
        }
    }

    #[test]
    fn refusals() {
        for (errno, expected) in [
            (-12, None),
            (-11, None),
            (-22, Some(IoError::OutOfRange)),
            (-9, Some(IoError::ReadOnly)),
            (-95, Some(IoError::Unsupported)),
            (-19, Some(IoError::Gone)),
            (-1, Some(SOMEWHERE)),
        ] {
            assert_eq!(of_refusal(errno), expected, "{errno}");
        }
    }
}
