//! Why a file or block device cannot be served, in the words of what to do about it.

use std::io;
use std::path::PathBuf;

use crate::buf::MapFailed;

/// Why a disk cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a size that SCSI has.
    #[error("a block has 512, 1024, 2048 or 4096 bytes, not {0}")]
    BlockBytes(u32),
    /// A new file of that size would end within a block, or have none.
    #[error("{bytes} bytes are not a whole number of blocks of {block_bytes} bytes")]
    CreateBytes {
        /// Asked for.
        bytes: u64,
        /// The block size.
        block_bytes: u32,
    },
    /// There is nothing.
    #[error("{} does not exist; it will be used when it appears, or is made where a size is given", .0.display())]
    Missing(PathBuf),
    /// A directory.
    #[error("{} is a directory; give a file in it", .0.display())]
    Directory(PathBuf),
    /// Neither a regular file nor a block device.
    #[error("{} is neither a regular file nor a block device", .0.display())]
    NotADisk(PathBuf),
    /// Not even one block.
    #[error("{} has {bytes} bytes, less than one block of {block_bytes}; give a size to make a disk of it", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The block size.
        block_bytes: u32,
    },
    /// It is there, and of another size than the one to make.
    #[error("{} is there already and has {bytes} bytes, not {wanted_bytes}; leave the size out to use it as it is", .path.display())]
    OtherSize {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// What was asked for.
        wanted_bytes: u64,
    },
    /// A block device that is mounted.
    #[error("{} is mounted on {at}; unmount it first", .path.display())]
    Mounted {
        /// The device.
        path: PathBuf,
        /// Where.
        at: String,
    },
    /// A block device that something else has.
    #[error("{} is in use (swap, LVM, RAID, or another process that claims it); release it first", .0.display())]
    Busy(PathBuf),
    /// A file that something else has.
    #[error("{} is locked: another lunette or a virtual machine uses it, or it is given twice", .0.display())]
    Locked(PathBuf),
    /// A block device whose logical blocks are larger than asked for.
    #[error("{} has blocks of {device_bytes} bytes; it cannot be served with blocks of {block_bytes}", .path.display())]
    DeviceBlocks {
        /// The device.
        path: PathBuf,
        /// Its own.
        device_bytes: u32,
        /// Asked for.
        block_bytes: u32,
    },
    /// What is there is not what was served before.
    #[error("{} is not the disk that was served: serve it as a disk of its own", .0.display())]
    OtherDisk(PathBuf),
    /// It has not given everything back.
    #[error("{} still has IO that was sent before it was closed; it is opened when that has come back", .0.display())]
    Draining(PathBuf),
    /// It was closed and is to stay so for now.
    #[error("{} is about to be opened anew", .0.display())]
    Closed(PathBuf),
    /// The kernel does not let us use io_uring.
    #[error(
        "io_uring cannot be used: {0}; see the sysctl kernel.io_uring_disabled and the container's seccomp profile"
    )]
    IoUring(#[source] io::Error),
    /// It is open, and reactors cannot serve it.
    #[error(
        "{}: a reactor has got no io_uring of its own for it: {source}; it tries again every second it is asked for something (limits: open files, locked memory)", .path.display()
    )]
    NoRing {
        /// The file.
        path: PathBuf,
        /// What the system said last.
        source: io::Error,
    },
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MapFailed),
    /// No thread to open it on.
    #[error("cannot start a thread to open it on: {0}")]
    Thread(#[source] io::Error),
    /// The system said no.
    #[error("{}: cannot {what}: {source}", .path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}
