//! What becomes of a command: the device's own words where it has said any, ours where something on the way there went wrong.

use rustix::io::Errno;

use super::slots::Answer;
use crate::bdev::IoError;
use crate::bdev::pass::{CUT_BYTES_MAX, Cdb, SENSE_BYTES_MAX, Told};
use crate::limits::PIECE_BYTES_MAX;

/// The initiator sends the command again: it was not begun.
const BUSY: u8 = 0x08;
const CHECK_CONDITION: u8 = 0x02;

/// What host adapters say (DID_* of the kernel).
mod host {
    pub(super) const OK: u16 = 0x00;
    pub(super) const NO_CONNECT: u16 = 0x01;
    pub(super) const BUS_BUSY: u16 = 0x02;
    pub(super) const TIME_OUT: u16 = 0x03;
    pub(super) const BAD_TARGET: u16 = 0x04;
    pub(super) const ABORT: u16 = 0x05;
    pub(super) const PARITY: u16 = 0x06;
    pub(super) const RESET: u16 = 0x08;
    pub(super) const IMM_RETRY: u16 = 0x0c;
    pub(super) const REQUEUE: u16 = 0x0d;
    /// From here on the status is the device's: target failure, nexus failure, allocation failure, medium error.
    pub(super) const TARGET_FAILURE: u16 = 0x10;
    pub(super) const MEDIUM_ERROR: u16 = 0x13;
}

/// ABORTED COMMAND: perhaps it was begun, perhaps not.
const ABORTED: u8 = 0x0b;
const ILLEGAL_REQUEST: u8 = 0x05;
const HARDWARE_ERROR: u8 = 0x04;

/// What to tell of a command that the driver has given back. Sense data of ours go into `sense`.
///
/// # Errors
/// The device is not there any more.
pub(super) fn of_answer(answer: &Answer, sense: &mut [u8; SENSE_BYTES_MAX]) -> Result<Told, IoError> {
    let mut ours = |key, asc, ascq| Ok(say(sense, key, asc, ascq));
    match answer.host {
        host::OK | host::TARGET_FAILURE..=host::MEDIUM_ERROR => Ok(Told {
            status: answer.status,
            residual_bytes: answer.residual_bytes,
            sense_bytes: if answer.status == CHECK_CONDITION { answer.sense_bytes } else { 0 },
        }),
        host::NO_CONNECT | host::BAD_TARGET => Err(IoError::Gone),
        host::BUS_BUSY | host::IMM_RETRY | host::REQUEUE => Ok(busy()),
        // LOGICAL UNIT COMMUNICATION TIME-OUT.
        host::TIME_OUT => ours(ABORTED, 0x08, 0x01),
        // SCSI PARITY ERROR.
        host::PARITY => ours(ABORTED, 0x47, 0x00),
        // Given up by the host, or by somebody's reset, which the device tells by itself.
        host::ABORT | host::RESET => ours(ABORTED, 0x00, 0x00),
        // LOGICAL UNIT COMMUNICATION FAILURE.
        _ => ours(ABORTED, 0x08, 0x00),
    }
}

/// What to tell of a command that the driver did not take.
///
/// # Errors
/// The device is not there any more.
pub(super) fn of_refusal(errno: Errno, sense: &mut [u8; SENSE_BYTES_MAX]) -> Result<Told, IoError> {
    match errno {
        _ if is_gone(errno) => Err(IoError::Gone),
        // EDOM: the file's queue is full.
        Errno::DOM | Errno::AGAIN | Errno::BUSY | Errno::NOMEM | Errno::INTR => Ok(busy()),
        // INVALID COMMAND OPERATION CODE: the kernel lets only those with CAP_SYS_RAWIO send it.
        Errno::PERM | Errno::ACCESS => Ok(say(sense, ILLEGAL_REQUEST, 0x20, 0x00)),
        // INVALID FIELD IN CDB: more data than the host can move at once.
        Errno::INVAL => Ok(say(sense, ILLEGAL_REQUEST, 0x24, 0x00)),
        // INTERNAL TARGET FAILURE.
        _ => Ok(say(sense, HARDWARE_ERROR, 0x44, 0x00)),
    }
}

/// Whether the kernel takes no more commands for the device. It answers those it has all the same.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NODEV | Errno::NXIO | Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN)
}

fn busy() -> Told {
    Told { status: BUSY, residual_bytes: u32::MAX, sense_bytes: 0 }
}

/// CHECK CONDITION with sense data in fixed format (SPC-5 §4.4.3); nothing was moved, as far as anybody knows.
fn say(sense: &mut [u8; SENSE_BYTES_MAX], key: u8, asc: u8, ascq: u8) -> Told {
    let fixed = [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0];
    sense[..fixed.len()].copy_from_slice(&fixed);
    Told { status: CHECK_CONDITION, residual_bytes: u32::MAX, sense_bytes: fixed.len() }
}

/// The one thing that is changed in what a device says: how much it takes at once, where it says more than is passed.
/// `data`: what it has sent. `block_bytes`: of a device with blocks.
pub(super) fn amend(cdb: &Cdb, block_bytes: Option<u32>, data: &mut [u8]) {
    const BLOCK_LIMITS: u8 = 0xb0;
    match (cdb, block_bytes) {
        // INQUIRY, VPD B0h: MAXIMUM and OPTIMAL TRANSFER LENGTH, of which 0 is no limit (SBC-4 §6.6.4).
        ([0x12, 0x01, BLOCK_LIMITS, ..], Some(block_bytes)) => {
            let most = CUT_BYTES_MAX / block_bytes.max(1);
            for (at, is_limit) in [(8, true), (12, false)] {
                if let Some(field) = data.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
                    let said = u32::from_be_bytes(*field);
                    if said > most || said == 0 && is_limit {
                        *field = most.to_be_bytes();
                    }
                }
            }
        }
        // READ BLOCK LIMITS: MAXIMUM BLOCK LENGTH LIMIT (SSC-4 §7.6). With MLOI it says something else.
        ([0x05, flags, ..], None) if flags & 0x01 == 0 => {
            if let Some(field) = data.first_chunk_mut::<4>() {
                let [granularity, a, b, c] = *field;
                let said = u32::from_be_bytes([0, a, b, c]);
                if said == 0 || said > PIECE_BYTES_MAX {
                    let [_, a, b, c] = PIECE_BYTES_MAX.to_be_bytes();
                    *field = [granularity, a, b, c];
                }
            }
        }
        _ => {}
    }
}

/// Commands that take longer than any reading and writing: they move, erase, test or rewind a whole medium.
pub(super) fn takes_long(cdb: &Cdb) -> bool {
    // VERIFY(32), WRITE AND VERIFY(32), WRITE SAME(32).
    if let [0x7f, _, _, _, _, _, _, _, 0, 0x0a | 0x0c | 0x0d, ..] = cdb {
        return true;
    }
    matches!(
        cdb[0],
        0x01 // REWIND, REZERO
            | 0x04 // FORMAT UNIT
            | 0x07 // INITIALIZE ELEMENT STATUS
            | 0x0b // SET CAPACITY
            | 0x10 // WRITE FILEMARKS
            | 0x11 // SPACE
            | 0x13 // VERIFY(6)
            | 0x19 // ERASE
            | 0x1b // START STOP UNIT, LOAD UNLOAD
            | 0x1d // SEND DIAGNOSTIC
            | 0x2b // LOCATE(10)
            | 0x2f // VERIFY(10)
            | 0x35 // SYNCHRONIZE CACHE(10)
            | 0x37 // INITIALIZE ELEMENT STATUS WITH RANGE
            | 0x3b // WRITE BUFFER, which loads microcode
            | 0x41 // WRITE SAME(10)
            | 0x48 // SANITIZE
            | 0x54 // SEND OPC INFORMATION
            | 0x5b // CLOSE TRACK SESSION
            | 0x80 // WRITE FILEMARKS(16)
            | 0x85 // ATA PASS-THROUGH(16)
            | 0x8f // VERIFY(16)
            | 0x91 // SYNCHRONIZE CACHE(16), SPACE(16)
            | 0x92 // LOCATE(16)
            | 0x93 // WRITE SAME(16), ERASE(16)
            | 0xa1 // BLANK
            | 0xa5 // MOVE MEDIUM
            | 0xa6 // EXCHANGE MEDIUM
            | 0xaf // VERIFY(12)
            | 0xb5 // SECURITY PROTOCOL OUT
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense() -> [u8; SENSE_BYTES_MAX] {
        [0xee; SENSE_BYTES_MAX]
    }

    #[test]
    fn what_the_device_says_is_passed_on() {
        let answer = Answer { slot: 3, status: 0x02, host: 0, sense_bytes: 96, residual_bytes: 5 };
        let told = Told { status: 0x02, residual_bytes: 5, sense_bytes: 96 };
        let mut bytes = sense();
        assert_eq!(of_answer(&answer, &mut bytes), Ok(told));
        assert_eq!(bytes, sense());
        let conflict = Answer { status: 0x18, host: 0x11, sense_bytes: 8, ..answer };
        let told = Told { status: 0x18, residual_bytes: 5, sense_bytes: 0 };
        assert_eq!(of_answer(&conflict, &mut bytes), Ok(told));
    }

    #[test]
    fn what_went_wrong_on_the_way_has_sense_data_of_ours() {
        for (host, key, asc, ascq) in [
            (0x03, 0x0b, 0x08, 0x01),
            (0x05, 0x0b, 0x00, 0x00),
            (0x06, 0x0b, 0x47, 0x00),
            (0x07, 0x0b, 0x08, 0x00),
            (0x08, 0x0b, 0x00, 0x00),
            (0x0b, 0x0b, 0x08, 0x00),
            (0x0e, 0x0b, 0x08, 0x00),
            (0x14, 0x0b, 0x08, 0x00),
        ] {
            let mut bytes = sense();
            let told = of_answer(&Answer { host, ..Answer::default() }, &mut bytes).unwrap();
            assert_eq!(
                (told.status, told.sense_bytes, told.residual_bytes),
                (0x02, 18, u32::MAX),
                "{host:#x}"
            );
            let expected = [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0];
            assert_eq!(bytes[..18], expected, "{host:#x}");
        }
        for host in [0x02, 0x0c, 0x0d] {
            let told = of_answer(&Answer { host, ..Answer::default() }, &mut sense()).unwrap();
            assert_eq!((told.status, told.sense_bytes), (0x08, 0), "{host:#x}");
        }
        for host in [0x01, 0x04] {
            assert_eq!(of_answer(&Answer { host, ..Answer::default() }, &mut sense()), Err(IoError::Gone));
        }
    }

    #[test]
    fn what_the_driver_does_not_take() {
        assert_eq!(of_refusal(Errno::NODEV, &mut sense()), Err(IoError::Gone));
        assert_eq!(of_refusal(Errno::DOM, &mut sense()).unwrap().status, 0x08);
        for (errno, key, asc) in [(Errno::PERM, 5, 0x20), (Errno::INVAL, 5, 0x24), (Errno::IO, 4, 0x44)] {
            let mut bytes = sense();
            assert_eq!(of_refusal(errno, &mut bytes).unwrap().status, 0x02);
            assert_eq!((bytes[2], bytes[12]), (key, asc), "{errno}");
        }
    }

    #[test]
    fn a_device_takes_no_more_than_is_passed() {
        let page = |most: u32, optimal: u32| {
            let mut page = [0; 64];
            page[..4].copy_from_slice(&[0, 0xb0, 0, 60]);
            page[8..12].copy_from_slice(&most.to_be_bytes());
            page[12..16].copy_from_slice(&optimal.to_be_bytes());
            page
        };
        let of = |bytes: &[u8]| {
            let mut cdb = [0; 32];
            cdb[..bytes.len()].copy_from_slice(bytes);
            cdb
        };
        let cdb = of(&[0x12, 1, 0xb0, 0, 64]);
        for (said, shown) in
            [((0, 0), (32_768, 0)), ((100, 50), (100, 50)), ((32_769, 40_000), (32_768, 32_768))]
        {
            let mut data = page(said.0, said.1);
            amend(&cdb, Some(512), &mut data);
            assert_eq!(data, page(shown.0, shown.1));
        }
        let mut short = [0, 0xb0, 0, 60, 0, 0, 0, 0, 0, 0];
        amend(&cdb, Some(512), &mut short);
        assert_eq!(short, [0, 0xb0, 0, 60, 0, 0, 0, 0, 0, 0]);
        let limits = of(&[0x05]);
        for (said, shown) in [
            ([9, 0x80, 0, 0, 0, 1], [9, 0x04, 0, 0, 0, 1]),
            ([9, 0, 0, 0, 0, 1], [9, 0x04, 0, 0, 0, 1]),
            ([9, 0, 0x80, 0, 0, 1], [9, 0, 0x80, 0, 0, 1]),
        ] {
            let mut data = said;
            amend(&limits, None, &mut data);
            assert_eq!(data, shown);
        }
    }
}
