//! Commands on their way through the kernel's generic SCSI driver, and the memory that it has of each.
//!
//! An island of `unsafe`. Version 3 of the driver's interface: a header that names memory by its address is written to ask,
//! and read back when the device has answered. The memory is the slot's own, which stays here until then; where an answer never
//! comes, it is leaked rather than used again. The driver copies: the device itself never reaches it.
#![expect(unsafe_code, reason = "hands addresses to the kernel until the device has answered")]

#[cfg(test)]
pub(super) mod fake;

use std::ffi::{c_int, c_void};
use std::fmt;
use std::io;
use std::mem::{ManuallyDrop, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use crate::bdev::Io;
use crate::bdev::pass::{CDB_BYTES_MAX, Cdb, Flow, SENSE_BYTES_MAX, cdb_bytes};
use crate::slab::Key;

/// `struct sg_io_hdr` of the kernel.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Header {
    interface_id: c_int,
    dxfer_direction: c_int,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut c_void,
    cmdp: *mut u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: c_int,
    usr_ptr: *mut c_void,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: c_int,
    duration: u32,
    info: u32,
}

impl Header {
    /// One that names no memory.
    const BLANK: Header = Header {
        interface_id: INTERFACE,
        dxfer_direction: 0,
        cmd_len: 0,
        mx_sb_len: 0,
        iovec_count: 0,
        dxfer_len: 0,
        dxferp: null_mut(),
        cmdp: null_mut(),
        sbp: null_mut(),
        timeout: 0,
        flags: 0,
        pack_id: -1,
        usr_ptr: null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
}

const HEADER_BYTES: usize = 88;
const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

const INTERFACE: c_int = b'S' as c_int;
const TO_NOBODY: c_int = -1;
const TO_DEVICE: c_int = -2;
const FROM_DEVICE: c_int = -3;
/// Behind what was asked before; the driver would put it in front.
const AT_TAIL: u32 = 0x10;

/// A command for the driver. It can be written on any thread, once.
pub(super) struct Ask {
    header: Header,
}

// SAFETY: the addresses are passed on, never followed here; what they lead to stays in its slot until the answer has come,
// whichever thread asks.
unsafe impl Send for Ask {}

impl Ask {
    /// Gives it to the driver. It may sleep until the host has room for a command.
    pub(super) fn write(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let header = &raw const self.header;
        // SAFETY: the header is as long as is said, and the driver has copied it when the call is over.
        let written = unsafe { libc::write(file.as_raw_fd(), header.cast(), HEADER_BYTES) };
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ask({})", self.header.pack_id)
    }
}

/// What the driver says of a command that is over.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Answer {
    pub(super) slot: usize,
    /// SCSI status.
    pub(super) status: u8,
    /// What the host adapter says (DID_*).
    pub(super) host: u16,
    /// Bytes of the slot's sense data.
    pub(super) sense_bytes: usize,
    /// Bytes that were not moved.
    pub(super) residual_bytes: u32,
}

/// A command that is over, if there is one.
pub(super) fn read(file: BorrowedFd<'_>) -> io::Result<Option<Answer>> {
    let mut header = Header::BLANK;
    let came = loop {
        // SAFETY: the header is as long as is said, and any bytes are one. What else the driver writes to is the memory of the
        // command's slot, which nobody else touches.
        let came = unsafe { libc::read(file.as_raw_fd(), (&raw mut header).cast(), HEADER_BYTES) };
        if came >= 0 {
            break came;
        }
        let error = io::Error::last_os_error();
        match error.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    };
    if usize::try_from(came) != Ok(HEADER_BYTES) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Answer {
        slot: usize::try_from(header.pack_id).unwrap_or(usize::MAX),
        status: header.status,
        host: header.host_status,
        sense_bytes: usize::from(header.sb_len_wr).min(SENSE_BYTES_MAX),
        // What a device says it moved too much is none of it.
        residual_bytes: u32::try_from(header.resid).unwrap_or(0),
    }))
}

/// A command's memory.
struct Slot {
    io: ManuallyDrop<Option<Io>>,
    own: ManuallyDrop<Box<Own>>,
    /// Invariant: while this is set the kernel may touch the memory, and nobody else does.
    is_asked: bool,
}

/// What the kernel has beside the data.
struct Own {
    cdb: Cdb,
    sense: [u8; SENSE_BYTES_MAX],
}

const NOTHING: Own = Own { cdb: [0; CDB_BYTES_MAX], sense: [0; SENSE_BYTES_MAX] };

/// The commands of one open file.
pub(super) struct Slots(Box<[Slot]>);

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        let slot = |_| Slot {
            io: ManuallyDrop::new(None),
            own: ManuallyDrop::new(Box::new(NOTHING)),
            is_asked: false,
        };
        Slots((0..count).map(slot).collect())
    }

    /// Takes an IO into this slot, which has none.
    pub(super) fn put(&mut self, slot: usize, io: Io) {
        debug_assert!(self.0[slot].io.is_none(), "a slot has one command");
        *self.0[slot].io = Some(io);
    }

    /// What asks the device for `bytes` bytes of the command's data, `from` being where they stand in its buffer.
    ///
    /// # Panics
    /// Where the slot has been asked already, or the buffer is shorter.
    pub(super) fn ask(
        &mut self,
        slot: usize,
        cdb: Cdb,
        (flow, from, bytes): (Flow, usize, u32),
        timeout_ms: u32,
    ) -> Ask {
        let index = slot;
        let slot = &mut self.0[slot];
        assert!(!slot.is_asked, "its memory is the kernel's");
        let data: *mut c_void = match (flow, slot.io.as_mut().and_then(|io| io.data.as_mut())) {
            (Flow::None, _) | (_, None) => null_mut(),
            (_, Some(data)) => data[from..from + bytes as usize].as_mut_ptr().cast(),
        };
        let flow = if data.is_null() || bytes == 0 { Flow::None } else { flow };
        slot.is_asked = true;
        slot.own.cdb = cdb;
        let header = Header {
            dxfer_direction: match flow {
                Flow::None => TO_NOBODY,
                Flow::In => FROM_DEVICE,
                Flow::Out => TO_DEVICE,
            },
            cmd_len: cdb_bytes(&cdb),
            mx_sb_len: u8::try_from(SENSE_BYTES_MAX).unwrap_or(u8::MAX),
            dxfer_len: if flow == Flow::None { 0 } else { bytes },
            dxferp: data,
            cmdp: slot.own.cdb.as_mut_ptr(),
            sbp: slot.own.sense.as_mut_ptr(),
            timeout: timeout_ms,
            flags: AT_TAIL,
            pack_id: c_int::try_from(index).unwrap_or(c_int::MAX),
            ..Header::BLANK
        };
        Ask { header }
    }

    /// The driver has answered, or did not take it. Whether it had been asked.
    pub(super) fn answered(&mut self, slot: usize) -> bool {
        self.0.get_mut(slot).is_some_and(|slot| std::mem::take(&mut slot.is_asked))
    }

    /// The command and its sense data; none while the kernel has them.
    pub(super) fn get(&mut self, slot: usize) -> Option<(&mut Io, &mut [u8; SENSE_BYTES_MAX])> {
        let slot = self.0.get_mut(slot).filter(|slot| !slot.is_asked)?;
        Some((slot.io.as_mut()?, &mut slot.own.sense))
    }

    /// Sense data of a command that was taken out.
    pub(super) fn sense(&self, slot: usize) -> &[u8] {
        self.0.get(slot).filter(|slot| !slot.is_asked).map_or(&[], |slot| slot.own.sense.as_slice())
    }

    /// Gives a command up that the kernel has and will not answer: its memory is leaked. The command's tag.
    pub(super) fn abandon(&mut self, slot: usize) -> Option<Key> {
        let slot = self.0.get_mut(slot).filter(|slot| slot.is_asked)?;
        let io = slot.io.take()?;
        let tag = io.tag;
        std::mem::forget(io);
        // The old one stays the kernel's.
        slot.own = ManuallyDrop::new(Box::new(NOTHING));
        slot.is_asked = false;
        Some(tag)
    }

    /// Takes the command out; none while the kernel has its memory.
    pub(super) fn take(&mut self, slot: usize) -> Option<Io> {
        self.0.get_mut(slot).filter(|slot| !slot.is_asked)?.io.take()
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in self.0.iter_mut().filter(|slot| !slot.is_asked) {
            // SAFETY: nobody looks at the slot any more, and the kernel does not have its memory.
            unsafe { ManuallyDrop::drop(&mut slot.io) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut slot.own) };
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.0.iter().filter(|slot| slot.is_asked).count();
        write!(f, "Slots({asked} of {} asked)", self.0.len())
    }
}
