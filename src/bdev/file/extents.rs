//! Where a file has holes: what the file system tells by `SEEK_DATA` and `SEEK_HOLE` (lseek(2)).
//!
//! Only file systems are believed that see to it that what was written is data from then on, in the page cache as on the disk. Space that
//! was reserved and never written counts as a hole: it reads as zeroes.

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::open::Medium;
use crate::bdev::allocation::{Allocation, Teller};

impl Medium {
    /// Which of these blocks are holes; nothing where that is not known. It may block.
    pub(super) fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        let size = self.believed_size().unwrap_or(0);
        let block_bytes = u64::from(self.block_bytes);
        // Behind its end there is no hole, but nothing.
        let there = (size / block_bytes).saturating_sub(lba);
        let blocks = u32::try_from(there).unwrap_or(u32::MAX).min(blocks);
        if blocks == 0 {
            return Allocation::default();
        }
        let mut teller = Teller::new(lba, blocks, self.block_bytes);
        let mut at = teller.bytes().start;
        // An error ends it: of what is left nothing is known.
        loop {
            let data = match seek(&self.fd, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => size,
                Err(_) => break,
            };
            if !teller.hole_to(data) {
                break;
            }
            match seek(&self.fd, SeekFrom::Hole(data)) {
                Ok(hole) if hole > data && teller.data_to(hole) => at = hole,
                _ => break,
            }
        }
        teller.finish()
    }

    /// How long it is, where it is a file of a file system that tells its holes as they are.
    fn believed_size(&self) -> Option<u64> {
        let system = rustix::fs::fstatfs(&self.fd).ok()?;
        let is_believed =
            [libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC, libc::TMPFS_MAGIC].contains(&system.f_type);
        let stat = rustix::fs::fstat(&self.fd).ok()?;
        if self.is_device() || !is_believed {
            return None;
        }
        u64::try_from(stat.st_size).ok()
    }
}
