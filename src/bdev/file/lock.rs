//! The lock on a regular file: of the open file description, so that it is gone with the last descriptor and conflicts
//! within the process too.
//!
//! An island of `unsafe`: rustix has no call for it. QEMU locks its images the same way.
#![expect(unsafe_code, reason = "fcntl with a command that no safe wrapper knows")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Locks the whole file, against everybody or (read-only) against writers. Whether nobody else had it.
pub(super) fn try_lock(fd: BorrowedFd<'_>, read_only: bool) -> io::Result<bool> {
    let error = match set(fd, if read_only { libc::F_RDLCK } else { libc::F_WRLCK }) {
        Ok(()) => return Ok(true),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Gives the lock up, whoever still has the file open.
pub(super) fn unlock(fd: BorrowedFd<'_>) {
    // On a file system that is gone there is no lock either.
    let _ = set(fd, libc::F_UNLCK);
}

fn set(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: a `flock` is plain numbers, for which zeroes are good; from 0 for 0 bytes is the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::c_short::try_from(kind).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads exactly this structure.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
