//! Opening a file or a block device: one opener, past the page cache where that works, and what is to be known of it.
//!
//! Everything here may block for as long as the file system likes: it runs on helper threads, never on control or on a
//! reactor.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dev, FallocateFlags, FileType, Mode, OFlags, SeekFrom, Stat, StatxFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::job::ZERO_WRITE_BYTES;
use super::{OpenError, Recipe, fiemap, lock, ring, sysfs};
use crate::bdev::space::Figures;
use crate::buf::{Memory, Pages};

/// Between two looks whether another opener is gone.
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// How a disk is opened; tests do it otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// So long another opener gets to leave.
    pub(super) lock_patience: Duration,
    /// Past the page cache, where that works.
    pub(super) direct: bool,
}

/// What a medium is by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own {
    /// Made of the machine, the device and the inode: another file may have had it before, and it may have another one after
    /// a restart, where the file system numbers its devices as they come.
    pub uuid: [u8; 16],
    /// When a file was made: seconds and nanoseconds, where the file system knows.
    pub born: Option<(i64, u32)>,
}

/// An open file or block device. It stays open, and locked, as long as this lives.
pub(super) struct Medium {
    pub(super) fd: OwnedFd,
    pub(super) is_direct: bool,
    /// Nothing but memory: no device is behind it.
    pub(super) is_memory: bool,
    pub(super) block_bytes: u32,
    pub(super) physical_block_bytes: u32,
    pub(super) rotational: bool,
    pub(super) uuid: [u8; 16],
    /// What it is, whatever it is called: made of the machine, the device and the inode.
    pub(super) own_uuid: [u8; 16],
    /// When a file was made: seconds and nanoseconds, where the file system knows.
    pub(super) born: Option<(i64, u32)>,
    /// As [`crate::bdev::Bdev::own`]: numbers that devices get as they come have no part in it.
    pub(super) lasting: Option<[u8; 16]>,
    /// The unit in which space is freed, in bytes; none where it cannot be.
    pub(super) hole_bytes: Option<u64>,
    /// Zeroing that keeps the space reserves it where there was none, and the file system remembers that nothing is there.
    pub(super) anchors: bool,
    /// At least [`ZERO_WRITE_BYTES`] that nobody writes: the kernel's one page of zeroes, again and again.
    pub(super) zeroes: Memory,
    /// Of a block device: its number, and which of those that have had it since the system started.
    device: Option<(Dev, Option<String>)>,
}

/// Opens what the recipe says, and tells its size in blocks.
pub(super) fn open(recipe: &Recipe, habits: Habits) -> Result<(Medium, u64), OpenError> {
    let path = recipe.path.as_path();
    let failed = |what| move |errno: Errno| system(path, what, errno.into());
    ring::build(1).map_err(OpenError::IoUring)?;
    let (fd, mut is_direct) = open_alone(recipe, habits)?;
    let stat = rustix::fs::fstat(&fd).map_err(failed("read the attributes"))?;
    let is_device = file_type(&stat) == FileType::BlockDevice;
    let block_bytes = block_bytes(recipe, &fd, is_device)?;
    if let Some(wanted_bytes) = recipe.create_bytes.filter(|_| !is_device) {
        make(path, &fd, wanted_bytes)?;
    }
    if is_direct && !reads_directly(&fd, block_bytes as usize) {
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(failed("read the flags"))?;
        rustix::fs::fcntl_setfl(&fd, flags - OFlags::DIRECT).map_err(failed("set the flags"))?;
        is_direct = false;
    }
    let at = if is_device { stat.st_rdev } else { stat.st_dev };
    let physical_bytes = if is_device {
        rustix::fs::ioctl_blkpbszget(&fd).unwrap_or(block_bytes)
    } else {
        u32::try_from(stat.st_blksize).unwrap_or(block_bytes)
    };
    let own_uuid = uuid(&stat, is_device);
    let born = if is_device { None } else { born(&fd) };
    let hole_bytes = if recipe.read_only { None } else { hole_bytes(&fd, &stat, is_device) };
    let medium = Medium {
        is_direct,
        is_memory: !is_device && is_in_memory(&fd),
        block_bytes,
        physical_block_bytes: physical_block_bytes(physical_bytes, block_bytes),
        rotational: sysfs::queue_number(at, "rotational") == Some(1),
        uuid: recipe.uuid.unwrap_or(own_uuid),
        own_uuid,
        born,
        lasting: lasting_name(&fd, &stat, born).map(|name| uuid_of("", &name)),
        hole_bytes,
        anchors: hole_bytes.is_some() && !is_device && anchors(&fd),
        zeroes: Memory::map(ZERO_WRITE_BYTES as usize, Pages::Ordinary)?,
        device: is_device.then(|| (stat.st_rdev, sysfs::sequence(stat.st_rdev))),
        fd,
    };
    let blocks = medium.blocks(path)?;
    if blocks == 0 {
        let bytes = medium.bytes().map_err(failed("read the size"))?;
        return Err(OpenError::Empty { path: path.to_owned(), bytes, block_bytes });
    }
    Ok((medium, blocks))
}

impl Medium {
    /// How many whole blocks it has at this moment.
    pub(super) fn blocks(&self, path: &Path) -> Result<u64, OpenError> {
        let bytes = self.bytes().map_err(|errno| system(path, "read the size", errno.into()))?;
        Ok(bytes / u64::from(self.block_bytes))
    }

    pub(super) fn is_device(&self) -> bool {
        self.device.is_some()
    }

    /// Whether it is a block device, and still the one at `path`: it was not pulled since it was opened.
    pub(super) fn is_same_device(&self, path: &Path) -> bool {
        let there = rustix::fs::stat(path).ok().filter(|stat| file_type(stat) == FileType::BlockDevice);
        let there = there.map(|stat| (stat.st_rdev, sysfs::sequence(stat.st_rdev)));
        there.is_some() && there == self.device && self.bytes().is_ok_and(|bytes| bytes > 0)
    }

    /// How long it is at this moment.
    fn bytes(&self) -> Result<u64, Errno> {
        if self.is_device() {
            rustix::fs::seek(&self.fd, SeekFrom::End(0))
        } else {
            let stat = rustix::fs::fstat(&self.fd)?;
            u64::try_from(stat.st_size).map_err(|_| Errno::OVERFLOW)
        }
    }

    /// What a file takes of its file system, and what that has left for us (not for root: who fills that up harms more than
    /// this disk).
    pub(super) fn space(&self) -> Option<Figures> {
        const STAT_BLOCK_BYTES: u64 = 512;
        let stat = rustix::fs::fstat(&self.fd).ok()?;
        let system = rustix::fs::fstatvfs(&self.fd).ok()?;
        // tmpfs without a size has no figures, and no end.
        let is_bounded = system.f_blocks > 0;
        Some(Figures {
            used_bytes: u64::try_from(stat.st_blocks).ok()?.saturating_mul(STAT_BLOCK_BYTES),
            available_bytes: if is_bounded {
                system.f_bavail.saturating_mul(system.f_frsize)
            } else {
                u64::MAX
            },
        })
    }

    /// A medium of any descriptor at all, for tests of errors.
    #[cfg(test)]
    pub(super) fn of(fd: OwnedFd, is_direct: bool) -> Medium {
        Medium {
            fd,
            is_direct,
            is_memory: false,
            block_bytes: 512,
            physical_block_bytes: 512,
            rotational: false,
            uuid: [7; 16],
            own_uuid: [7; 16],
            born: None,
            lasting: None,
            hole_bytes: Some(512),
            anchors: false,
            zeroes: Memory::map(ZERO_WRITE_BYTES as usize, Pages::Ordinary).expect("memory for a test"),
            device: None,
        }
    }
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Medium")
            .field("fd", &self.fd)
            .field("is_direct", &self.is_direct)
            .finish_non_exhaustive()
    }
}

fn system(path: &Path, what: &'static str, source: io::Error) -> OpenError {
    OpenError::System { path: path.to_owned(), what, source }
}

/// What a file or block device is, whatever it is called, without opening it. May block.
///
/// # Errors
/// It is not there (`NotFound`), or cannot be seen.
pub fn own(path: &Path) -> io::Result<Own> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    let is_device = file_type(&stat) == FileType::BlockDevice;
    Ok(Own { uuid: uuid(&stat, is_device), born: if is_device { None } else { born(&fd) } })
}

fn born(fd: &OwnedFd) -> Option<(i64, u32)> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let is_known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    is_known.then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens it so that nobody else does: a block device claimed (O_EXCL), a file locked.
fn open_alone(recipe: &Recipe, habits: Habits) -> Result<(OwnedFd, bool), OpenError> {
    let path = recipe.path.as_path();
    let mut patience = habits.lock_patience;
    loop {
        let (kind, device) = match rustix::fs::stat(path) {
            Ok(stat) => (file_type(&stat), stat.st_rdev),
            // On devtmpfs a missing device is not a file to make.
            Err(Errno::NOENT) if recipe.create_bytes.is_some() && !is_in_dev(path) => {
                (FileType::RegularFile, 0)
            }
            Err(Errno::NOENT) => return Err(OpenError::Missing(path.to_owned())),
            Err(errno) => return Err(system(path, "look at it", errno.into())),
        };
        let mut flags = if recipe.read_only { OFlags::RDONLY } else { OFlags::RDWR } | OFlags::CLOEXEC;
        match kind {
            FileType::BlockDevice => flags |= OFlags::EXCL,
            FileType::RegularFile if recipe.create_bytes.is_some() => flags |= OFlags::CREATE,
            FileType::RegularFile => {}
            FileType::Directory => return Err(OpenError::Directory(path.to_owned())),
            _ => return Err(OpenError::NotADisk(path.to_owned())),
        }
        match open_once(path, flags, habits.direct) {
            Err(Errno::BUSY) if kind == FileType::BlockDevice => {
                if let Some(at) = sysfs::mount_point(device) {
                    return Err(OpenError::Mounted { path: path.to_owned(), at });
                }
            }
            Err(errno) => return Err(system(path, "open it", errno.into())),
            Ok(opened) if kind == FileType::BlockDevice => return Ok(opened),
            Ok(opened) => {
                let is_ours = lock::try_lock(opened.0.as_fd(), recipe.read_only)
                    .map_err(|source| system(path, "lock it", source))?;
                if is_ours {
                    return Ok(opened);
                }
            }
        }
        match patience.checked_sub(LOCK_RETRY) {
            Some(left) => patience = left,
            None if kind == FileType::BlockDevice => return Err(OpenError::Busy(path.to_owned())),
            None => return Err(OpenError::Locked(path.to_owned())),
        }
        rest();
    }
}

#[expect(clippy::disallowed_methods, reason = "a helper thread waits for another process")]
fn rest() {
    std::thread::sleep(LOCK_RETRY);
}

fn is_in_dev(path: &Path) -> bool {
    path.starts_with("/dev") && !path.starts_with("/dev/shm")
}

/// Whether it was opened past the page cache.
fn open_once(path: &Path, flags: OFlags, direct: bool) -> Result<(OwnedFd, bool), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    if direct {
        match rustix::fs::open(path, flags | OFlags::DIRECT, mode) {
            Err(Errno::INVAL) => {}
            opened => return Ok((opened?, true)),
        }
    }
    Ok((rustix::fs::open(path, flags, mode)?, false))
}

fn block_bytes(recipe: &Recipe, fd: &OwnedFd, is_device: bool) -> Result<u32, OpenError> {
    if !is_device {
        return Ok(recipe.block_bytes.unwrap_or(super::BLOCK_BYTES));
    }
    let device_bytes = rustix::fs::ioctl_blksszget(fd)
        .map_err(|errno| system(&recipe.path, "read the block size", errno.into()))?;
    let block_bytes = recipe.block_bytes.unwrap_or(device_bytes);
    super::check_block_bytes(block_bytes)?;
    if block_bytes < device_bytes {
        return Err(OpenError::DeviceBlocks { path: recipe.path.clone(), device_bytes, block_bytes });
    }
    Ok(block_bytes)
}

/// Gives a new file its size, for good. One with data is left alone.
fn make(path: &Path, fd: &OwnedFd, wanted_bytes: u64) -> Result<(), OpenError> {
    let failed = |errno: Errno| system(path, "make it", errno.into());
    let stat = rustix::fs::fstat(fd).map_err(failed)?;
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    if bytes == wanted_bytes {
        return Ok(());
    }
    if bytes > 0 {
        return Err(OpenError::OtherSize { path: path.to_owned(), bytes, wanted_bytes });
    }
    rustix::fs::ftruncate(fd, wanted_bytes).map_err(failed)?;
    rustix::fs::fsync(fd).map_err(failed)?;
    // Its name must last, too.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory =
        rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    rustix::fs::fsync(directory.map_err(failed)?).map_err(failed)
}

/// Whether a block can be read past the page cache: only trying tells of all file systems.
fn reads_directly(fd: &OwnedFd, block_bytes: usize) -> bool {
    let mut memory = [0; 3 * 4096];
    // What lies at a multiple of 512 only is what the rest of a short transfer meets.
    let at = memory.as_ptr().align_offset(4096) + block_bytes;
    rustix::io::pread(fd, &mut memory[at..at + block_bytes], block_bytes as u64).is_ok()
}

/// Whether it is a file of tmpfs.
fn is_in_memory(fd: &OwnedFd) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|stat| stat.f_type == libc::TMPFS_MAGIC)
}

fn physical_block_bytes(bytes: u32, block_bytes: u32) -> u32 {
    if bytes.is_power_of_two() { bytes.clamp(block_bytes, 4096) } else { block_bytes }
}

/// The unit in which holes are punched, where they can be.
fn hole_bytes(fd: &OwnedFd, stat: &Stat, is_device: bool) -> Option<u64> {
    if is_device {
        // PUNCH_HOLE on a block device is an unmapping write of zeroes.
        let can = sysfs::queue_number(stat.st_rdev, "write_zeroes_max_bytes")? > 0
            && sysfs::queue_number(stat.st_rdev, "discard_max_bytes")? > 0;
        return can.then(|| sysfs::queue_number(stat.st_rdev, "discard_granularity").unwrap_or(0));
    }
    // Behind the end there is nothing to lose.
    let end = u64::try_from(stat.st_size).ok()?.checked_next_multiple_of(1 << 20)?;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(fd, flags, end + (1 << 20), 1 << 20).ok()?;
    u64::try_from(stat.st_blksize).ok()
}

/// Whether zeroes can be made of space that is reserved. Trying would leave a block behind the end, which ext4 does not take back.
fn anchors(fd: &OwnedFd) -> bool {
    /// `FS_EXTENT_FL`: it has extents, as all files of ext4 have that were not taken over from ext3.
    const HAS_EXTENTS: u32 = 0x0008_0000;
    match rustix::fs::fstatfs(fd).map(|system| system.f_type) {
        Ok(libc::EXT4_SUPER_MAGIC) => {
            rustix::fs::ioctl_getflags(fd).is_ok_and(|flags| flags.bits() & HAS_EXTENTS != 0)
        }
        // On a realtime device what is written may always go to where nothing is.
        Ok(libc::XFS_SUPER_MAGIC) => fiemap::is_realtime(fd) == Ok(false),
        _ => false,
    }
}

/// Names the medium: this machine's, on that device, with that inode; or by what the device is called for life. Never
/// by a path, and never the same on two machines.
fn uuid(stat: &Stat, is_device: bool) -> [u8; 16] {
    let medium = if is_device {
        sysfs::serial(stat.st_rdev).unwrap_or_else(|| format!("device {:x}", stat.st_rdev))
    } else {
        format!("inode {} on {:x}", stat.st_ino, stat.st_dev)
    };
    uuid_of(machine().trim(), &medium)
}

/// What a medium is wherever it is put: a device by what it is called for life, where it is. A file by its number and when it was made: another
/// one can have had the number before, and those of other file systems have it, but they were not made at the same time; and there are file
/// systems that have a name of their own.
fn lasting_name(fd: &OwnedFd, stat: &Stat, born: Option<(i64, u32)>) -> Option<String> {
    if file_type(stat) == FileType::BlockDevice {
        return sysfs::serial_of_part(stat.st_rdev).map(|serial| format!("device {serial}"));
    }
    let has_name = |kind| matches!(kind, libc::EXT4_SUPER_MAGIC | libc::BTRFS_SUPER_MAGIC);
    let has_name = rustix::fs::fstatfs(fd).is_ok_and(|system| has_name(system.f_type));
    let system = if has_name { rustix::fs::fstatvfs(fd).map_or(0, |system| system.f_fsid) } else { 0 };
    Some(match born {
        Some((seconds, ns)) => format!("file {} of {system:x} born {seconds}.{ns:09}", stat.st_ino),
        // A file system that does not tell: rather is the same file taken for another one than the other way round.
        None => format!("file {} on {:x} of {}", stat.st_ino, stat.st_dev, machine().trim()),
    })
}

/// Names this machine, as a host that uses disks of others.
pub(in crate::bdev) fn machine_uuid() -> [u8; 16] {
    uuid_of(machine().trim(), "host")
}

fn machine() -> String {
    ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"]
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .find(|id| !id.trim().is_empty())
        .unwrap_or_default()
}

/// RFC 9562 §5.8: version 8, made as we like.
pub(in crate::bdev) fn uuid_of(machine: &str, medium: &str) -> [u8; 16] {
    let hash = Sha256::new().chain_update("lunette disk\0").chain_update(machine).chain_update("\0");
    let hash = hash.chain_update(medium).finalize();
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash[..16]);
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_the_machines_and_the_mediums() {
        let uuid = uuid_of("machine", "inode 7 on 801");
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 2));
        assert_eq!(uuid, uuid_of("machine", "inode 7 on 801"));
        assert_ne!(uuid, uuid_of("other", "inode 7 on 801"));
        assert_ne!(uuid, uuid_of("machine", "inode 8 on 801"));
    }

    #[test]
    fn physical_blocks_are_what_scsi_can_say() {
        assert_eq!(physical_block_bytes(4096, 512), 4096);
        assert_eq!(physical_block_bytes(512, 4096), 4096);
        assert_eq!(physical_block_bytes(1 << 20, 512), 4096);
        assert_eq!(physical_block_bytes(3000, 512), 512);
    }
}
