//! Who a passed-through device is, asked once when it is found: on a helper thread, in its own commands.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::slots::{Slots, read};
use super::told;
use crate::bdev::file::{machine_uuid, uuid_of};
use crate::bdev::pass::{CDB_BYTES_MAX, Cdb, Flow, Told};
use crate::bdev::{Io, Op};
use crate::buf::{Class, Pool};
use crate::slab::Key;

/// What is known of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// PERIPHERAL DEVICE TYPE (SPC-5 §6.7.2).
    pub device_type: u8,
    /// Vendor, product and revision, as INQUIRY tells them.
    pub product: String,
    /// RMB.
    pub is_removable: bool,
    /// Made of the device's own identification: the same however it is reached, and after a restart.
    pub uuid: [u8; 16],
    /// Its blocks and their length, where it has a medium with such.
    pub capacity: Option<(u64, u32)>,
}

/// PERIPHERAL DEVICE TYPE of a tape.
pub(super) const TAPE: u8 = 0x01;
/// Of a CD, DVD or BD drive.
pub(super) const CD_ROM: u8 = 0x05;
/// Of a medium changer.
pub(super) const CHANGER: u8 = 0x08;

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.device_type {
            0x00 => "disk",
            TAPE => "tape",
            CD_ROM => "CD-ROM",
            0x07 => "optical disk",
            CHANGER => "medium changer",
            0x0e => "simplified disk",
            _ => "device",
        };
        write!(f, "{} ({kind})", self.product)
    }
}

/// Whether READ and WRITE of this type count blocks.
pub(super) fn has_blocks(device_type: u8) -> bool {
    matches!(device_type, 0x00 | CD_ROM | 0x07 | 0x0e)
}

/// What one question may bring.
const DATA_BYTES: u32 = 255;
/// A device that does not answer so long is not there.
const TIMEOUT_MS: u32 = 10_000;
/// Unit attentions, of which a device may have a few, each of which is told once.
const TRIES: u32 = 4;

/// Asks the device.
pub(super) fn identify(file: BorrowedFd<'_>) -> io::Result<About> {
    let mut session = Session::new(file)?;
    let inquiry = session.ask([0x12, 0, 0, 0, 0xff, 0])?.ok_or_else(|| refused("INQUIRY"))?;
    let (Some(&[first, second, ..]), Some(text)) = (inquiry.first_chunk::<2>(), inquiry.get(8..36)) else {
        return Err(refused("INQUIRY"));
    };
    if first >> 5 != 0 {
        return Err(io::Error::other("no device is connected at this address"));
    }
    let device_type = first & 0x1f;
    let product: String = text.iter().map(|byte| printable(*byte)).collect();
    let product = product.split_whitespace().collect::<Vec<_>>().join(" ");
    let serial = session.ask([0x12, 1, 0x80, 0, 0xff, 0])?.unwrap_or_default();
    let names = session.ask([0x12, 1, 0x83, 0, 0xff, 0])?.unwrap_or_default();
    let uuid = match (designator(&names), serial.get(4..)) {
        (Some(name), _) => uuid_of("passed through", &format!("{name:02x?}")),
        (None, Some(serial)) if serial.iter().any(|byte| *byte > b' ') => {
            uuid_of("passed through", &format!("{product} {}", String::from_utf8_lossy(serial).trim()))
        }
        // It does not say who it is: two of the same kind at one host cannot be told apart.
        _ => uuid_of(&format!("{:02x?}", machine_uuid()), &product),
    };
    let capacity = if has_blocks(device_type) { session.capacity()? } else { None };
    Ok(About { device_type, product, is_removable: second & 0x80 != 0, uuid, capacity })
}

fn refused(what: &str) -> io::Error {
    io::Error::other(format!("the device does not answer {what}"))
}

fn printable(byte: u8) -> char {
    if (0x20..0x7f).contains(&byte) { char::from(byte) } else { ' ' }
}

/// The best name of the logical unit itself among the designators of VPD 83h (SPC-5 §7.8.6): NAA before EUI-64, SCSI name and
/// T10 vendor identification.
fn designator(page: &[u8]) -> Option<&[u8]> {
    let mut best = None;
    let mut rest = page.get(4..)?;
    while let Some((&[_, flags, _, bytes], behind)) = rest.split_first_chunk::<4>() {
        let Some((name, next)) = behind.split_at_checked(bytes.into()) else { break };
        let rank = match (flags >> 4 & 0x03, flags & 0x0f) {
            (0, 0x3) => 4,
            (0, 0x2) => 3,
            (0, 0x8) => 2,
            (0, 0x1) => 1,
            _ => 0,
        };
        if rank > 0 && !name.is_empty() && best.is_none_or(|(of, _)| rank > of) {
            best = Some((rank, name));
        }
        rest = next;
    }
    best.map(|(_, name)| name)
}

/// Questions, one at a time.
struct Session<'a> {
    file: BorrowedFd<'a>,
    slots: Slots,
    pool: Pool,
}

impl Session<'_> {
    fn new(file: BorrowedFd<'_>) -> io::Result<Session<'_>> {
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 1 }]).map_err(io::Error::other)?;
        Ok(Session { file, slots: Slots::new(1), pool })
    }

    /// Blocks and their length: none where there is no medium.
    fn capacity(&mut self) -> io::Result<Option<(u64, u32)>> {
        let Some(short) = self.ask([0x25])? else { return Ok(None) };
        let Some(&[last, block_bytes]) = short.as_chunks::<4>().0.first_chunk::<2>() else { return Ok(None) };
        let (last, block_bytes) = (u32::from_be_bytes(last), u32::from_be_bytes(block_bytes));
        if last < u32::MAX {
            return Ok(Some((u64::from(last) + 1, block_bytes)));
        }
        // READ CAPACITY(16).
        let long = self.ask([0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32])?.unwrap_or_default();
        let last = long.first_chunk::<8>().map(|last| u64::from_be_bytes(*last));
        Ok(last.and_then(|last| last.checked_add(1)).map(|blocks| (blocks, block_bytes)))
    }

    /// The answer to a question; none where the device refuses it.
    fn ask<const N: usize>(&mut self, question: [u8; N]) -> io::Result<Option<Vec<u8>>> {
        let mut cdb = [0; CDB_BYTES_MAX];
        cdb[..N].copy_from_slice(&question);
        for _ in 0..TRIES {
            let (told, data, sense_key) = self.once(cdb)?;
            match told.status {
                0 => return Ok(Some(data)),
                0x02 if sense_key == 0x06 => {}
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn once(&mut self, cdb: Cdb) -> io::Result<(Told, Vec<u8>, u8)> {
        let mut data = self.pool.take(DATA_BYTES as usize).ok_or(io::ErrorKind::OutOfMemory)?;
        data.fill(0);
        let op = Op::Pass { cdb, flow: Flow::In, bytes: DATA_BYTES };
        self.slots.put(0, Io { tag: Key { index: 0, generation: 0 }, op, data: Some(data) });
        let ask = self.slots.ask(0, cdb, (Flow::In, 0, DATA_BYTES), TIMEOUT_MS);
        if let Err(error) = ask.write(self.file) {
            self.slots.answered(0);
            self.slots.take(0);
            return Err(error);
        }
        let patience = Timespec { tv_sec: i64::from(2 * TIMEOUT_MS / 1000), tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&patience))?;
        let answer = read(self.file.as_fd())?.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        self.slots.answered(0);
        let Some((_, sense)) = self.slots.get(0) else { return Err(io::ErrorKind::InvalidData.into()) };
        let told = told::of_answer(&answer, sense).map_err(|_| io::Error::from(io::ErrorKind::NotConnected));
        // SPC-5 §4.4: the key is in byte 2 of the fixed format, 1 of that with descriptors.
        let sense_key = if sense[0] & 0x7f >= 0x72 { sense[1] } else { sense[2] } & 0x0f;
        let io = self.slots.take(0);
        let told = told?;
        let moved = DATA_BYTES.saturating_sub(told.residual_bytes) as usize;
        let data = io.and_then(|io| io.data).and_then(|data| Some(data.get(..moved)?.to_vec()));
        Ok((told, data.unwrap_or_default(), sense_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_own_name_is_found_among_others() {
        let page = [
            0x00, 0x83, 0, 43, //
            0x02, 0x01, 0, 5, b'V', b'e', b'n', b' ', b'1', // T10, of the unit
            0x61, 0x93, 0, 8, 0x50, 0, 0, 0, 0, 0, 0, 9, // NAA, of the port
            0x01, 0x03, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7, // NAA, of the unit
            0x01, 0x02, 0, 9, 0, // longer than the page
        ];
        assert_eq!(designator(&page), Some(&[0x50, 1, 2, 3, 4, 5, 6, 7][..]));
        assert_eq!(designator(&page[..13]), Some(&b"Ven 1"[..]));
        assert_eq!(designator(&page[..4]), None);
        assert_eq!(designator(&[]), None);
    }
}
