//! Opening `/dev/sgN`: what is one, and that it stays the same one.
#![expect(unsafe_code, reason = "ioctls that no safe wrapper has")]

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpensFirst;
use super::worker::Door;
use crate::limits::PIECE_BYTES_MAX;

/// Why a device cannot be passed through.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("{} is not there: `modprobe sg`, and `lsscsi -g` shows which device has which number", .0.display())]
    Missing(PathBuf),
    /// It is something else.
    #[error("{} is no generic SCSI device: give /dev/sgN, as `lsscsi -g` shows it", .0.display())]
    NotSg(PathBuf),
    /// The path leads to another one than before: numbers are given anew at each start of the host.
    #[error("{} is another device by now ({product}): give the path that the former one has, or leave out `uuid`", path.display())]
    Another {
        /// The path.
        path: PathBuf,
        /// What it is.
        product: String,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// Whether a path leads to a generic SCSI device, as far as the file says.
pub fn is_generic(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| is_sg(&metadata))
}

fn is_sg(metadata: &std::fs::Metadata) -> bool {
    metadata.file_type().is_char_device() && rustix::fs::major(metadata.rdev()) == SG_MAJOR
}

/// The driver's number (Documentation/admin-guide/devices.txt of the kernel).
const SG_MAJOR: u32 = 21;

/// A path that leads to it.
#[derive(Debug)]
pub(super) struct Sg(pub(super) PathBuf);

impl OpensFirst for Sg {
    fn open_first(&self) -> Result<(Arc<dyn Door>, u32), OpenError> {
        let file = open(&self.0).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OpenError::Missing(self.0.clone()),
            _ => OpenError::System { path: self.0.clone(), source },
        })?;
        // Other devices know some of its calls too. Only version 3 and later has this interface.
        let is_sg = file.metadata().is_ok_and(|metadata| is_sg(&metadata));
        if !is_sg || ask(&file, SG_GET_VERSION_NUM).is_none_or(|version| version < 30_000) {
            return Err(OpenError::NotSg(self.0.clone()));
        }
        let bytes = ask(&file, BLKSECTGET).and_then(|bytes| u32::try_from(bytes).ok());
        let part_bytes_max = bytes.filter(|bytes| *bytes > 0).unwrap_or(PIECE_BYTES_MAX).min(PIECE_BYTES_MAX);
        Ok((Arc::new(Held { file: file.into() }), part_bytes_max))
    }
}

/// A file that is kept open: so long the kernel gives its number to no other device.
struct Held {
    file: OwnedFd,
}

impl Door for Held {
    fn open(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        open(path.as_ref()).map(OwnedFd::from)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

const SG_GET_VERSION_NUM: u32 = 0x2282;
/// Of a generic SCSI device it is in bytes.
const BLKSECTGET: u32 = 0x1267;

/// What a question that is answered with a number is answered.
fn ask(file: &File, question: u32) -> Option<c_int> {
    let mut answer: c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed; both questions are answered by an `int`, to nothing else.
    let result = unsafe {
        let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(file);
        libc::ioctl(fd.as_raw_fd(), question.into(), &raw mut answer)
    };
    (result >= 0).then_some(answer)
}
