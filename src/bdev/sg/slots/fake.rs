//! The driver and a device behind it, for tests: the other end of a socket that stands for the open file. Headers are messages,
//! so the calls are the very ones that a real file is used by.
#![expect(unsafe_code, reason = "plays the kernel, which follows the addresses in headers")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender};

use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};

use super::{FROM_DEVICE, HEADER_BYTES, Header, TO_DEVICE};
use crate::bdev::pass::SENSE_BYTES_MAX;
use crate::bdev::sg::worker::Door;
use crate::bdev::sg::{OpenError, OpensFirst};

/// A command as the driver gets it.
pub(in crate::bdev::sg) struct Command<'a> {
    /// As long as is said.
    pub(in crate::bdev::sg) cdb: &'a [u8],
    /// Its data go to the device.
    pub(in crate::bdev::sg) is_out: bool,
    pub(in crate::bdev::sg) data: &'a mut [u8],
    pub(in crate::bdev::sg) timeout_ms: u32,
}

/// What becomes of a command.
pub(in crate::bdev::sg) enum Reply {
    Ended {
        status: u8,
        host: u16,
        sense: Vec<u8>,
        /// Bytes of data that were not moved.
        residual: usize,
    },
    /// The next one is answered first.
    Later,
    /// It goes well, and the device is pulled out then.
    Last,
    /// The device is pulled out, and what it has is never answered.
    Gone,
    /// The device is pulled out: no more commands are taken, which is told. Once `until` says so, those before that were not answered yet go well, and
    /// this one is told to have reached nobody.
    Leaving { is_gone: Sender<()>, until: Receiver<()> },
}

impl Reply {
    pub(in crate::bdev::sg) const GOOD: Reply =
        Reply::Ended { status: 0, host: 0, sense: Vec::new(), residual: 0 };
}

/// DID_NO_CONNECT.
const NO_CONNECT: u16 = 1;

type Device = dyn Fn(Command<'_>) -> Reply + Send + Sync;

/// It.
pub(in crate::bdev::sg) struct Fake {
    device: Arc<Device>,
    part_bytes_max: u32,
    /// What the system says to whoever opens it once more; 0: nothing.
    refusal: Arc<AtomicI32>,
}

impl Fake {
    pub(in crate::bdev::sg) fn new(
        part_bytes_max: u32,
        device: impl Fn(Command<'_>) -> Reply + Send + Sync + 'static,
    ) -> Arc<Fake> {
        Arc::new(Fake { device: Arc::new(device), part_bytes_max, refusal: Arc::default() })
    }

    /// From now on it is not opened once more, with this errno; 0: it is.
    pub(in crate::bdev::sg) fn refuse(&self, errno: i32) {
        self.refusal.store(errno, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl OpensFirst for Fake {
    fn open_first(&self) -> Result<(Arc<dyn Door>, u32), OpenError> {
        let behind = Behind(Arc::clone(&self.device), Arc::clone(&self.refusal));
        Ok((Arc::new(behind), self.part_bytes_max))
    }
}

struct Behind(Arc<Device>, Arc<AtomicI32>);

impl Door for Behind {
    fn open(&self) -> io::Result<OwnedFd> {
        match self.1.load(Ordering::Relaxed) {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let device = Arc::clone(&self.0);
        // Named, as else it would have the name of the device's own thread.
        std::thread::Builder::new().name("played".to_owned()).spawn(move || serve(&theirs, &*device))?;
        Ok(ours)
    }
}

/// Until the file is closed or the device gone.
fn serve(file: &OwnedFd, device: &Device) {
    let mut later = Vec::new();
    loop {
        let mut bytes = [0_u8; HEADER_BYTES];
        if rustix::io::read(file, &mut bytes) != Ok(HEADER_BYTES) {
            return;
        }
        // SAFETY: what was written were the bytes of a header.
        let mut header: Header = unsafe { std::mem::transmute(bytes) };
        let data = header.dxfer_len as usize;
        let data = match header.dxferp.is_null() {
            true => &mut [],
            // SAFETY: who wrote it keeps the memory until it is answered, and does not touch it.
            false => unsafe { std::slice::from_raw_parts_mut(header.dxferp.cast(), data) },
        };
        // SAFETY: as above.
        let cdb = unsafe { std::slice::from_raw_parts(header.cmdp, header.cmd_len.into()) };
        assert_eq!(header.dxfer_len == 0, !matches!(header.dxfer_direction, TO_DEVICE | FROM_DEVICE));
        assert_eq!(usize::from(header.mx_sb_len), SENSE_BYTES_MAX);
        let is_out = header.dxfer_direction == TO_DEVICE;
        match device(Command { cdb, is_out, data, timeout_ms: header.timeout }) {
            Reply::Gone => return,
            Reply::Last => return answer(file, header),
            Reply::Later => later.push(header),
            Reply::Leaving { is_gone, until } => {
                shutdown(file, Shutdown::Read).unwrap();
                is_gone.send(()).unwrap();
                // Or the test is over.
                let _ = until.recv();
                later.into_iter().for_each(|header| answer(file, header));
                header.host_status = NO_CONNECT;
                return answer(file, header);
            }
            Reply::Ended { status, host, sense, residual } => {
                // SAFETY: as above.
                let place = unsafe { std::slice::from_raw_parts_mut(header.sbp, SENSE_BYTES_MAX) };
                place[..sense.len()].copy_from_slice(&sense);
                header.status = status;
                header.host_status = host;
                header.sb_len_wr = u8::try_from(sense.len()).unwrap();
                header.resid = i32::try_from(residual).unwrap();
                answer(file, header);
                later.drain(..).for_each(|header| answer(file, header));
            }
        }
    }
}

fn answer(file: &OwnedFd, header: Header) {
    // SAFETY: the header is as long as is said.
    let written = unsafe { libc::write(file.as_fd().as_raw_fd(), (&raw const header).cast(), HEADER_BYTES) };
    // Else who asked is gone.
    let _ = usize::try_from(written);
}
