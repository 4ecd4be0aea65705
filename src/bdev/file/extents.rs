//! Where a file has holes, and where it has space that nothing was written to: what the file system tells by `SEEK_DATA` and
//! `SEEK_HOLE` (lseek(2)), and by FIEMAP.
//!
//! Only file systems are believed that see to it that what was written is data from then on, in the page cache as on the disk. To
//! `SEEK_DATA` space that was reserved and never written is a hole, so FIEMAP is asked about holes where the file system anchors.
//!
//! FIEMAP knows nothing of the page cache. To have that written back first (`FIEMAP_FLAG_SYNC`) would let a command that changes
//! nothing wait for the device, and would not tell of what is written meanwhile. So nothing is written back: when FIEMAP has told,
//! `SEEK_DATA` is asked once more, and what is data by then is data, whatever FIEMAP said.

use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::fiemap::{Extent, extents};
use super::open::Medium;
use crate::bdev::allocation::{Allocation, State, Teller};

/// FIEMAP is asked so often at most. Of what is beyond nothing is told; who wants to know asks from there on.
const ASKED_MAX: u32 = 64;

impl Medium {
    /// Which of these blocks are holes and which are reserved; nothing where that is not known. It may block.
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
        let Range { start: mut at, end } = teller.bytes();
        let mut asked = 0;
        // An error ends it: of what is left nothing is known.
        while let Ok(data) = self.data(at, size) {
            let hole = at..data.min(end);
            if self.anchors && !hole.is_empty() {
                asked += 1;
                match self.look_into(hole, size, &mut teller) {
                    Ok(Some(to)) if asked < ASKED_MAX => at = to,
                    _ => break,
                }
                continue;
            }
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

    /// The first byte from this one on that is not in a hole; the file's end where there is none.
    fn data(&self, at: u64, size: u64) -> Result<u64, Errno> {
        match seek(&self.fd, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => Ok(size),
            data => data,
        }
    }

    /// Tells what of a hole is reserved, up to the byte that it returns; none where no more is wanted.
    fn look_into(&self, hole: Range<u64>, size: u64, teller: &mut Teller) -> Result<Option<u64>, Errno> {
        let mut found: Vec<Extent> = Vec::new();
        let is_all = match extents(&self.fd, hole.clone(), &mut |extent| found.push(extent)) {
            // A file system that does not say.
            Err(Errno::OPNOTSUPP | Errno::NOTTY) => true,
            told => told?,
        };
        let told_to = if is_all { hole.end } else { found.last().map_or(hole.start, |last| last.bytes.end) };
        // What was written since.
        let to = told_to.min(hole.end).min(self.data(hole.start, size)?);
        let mut is_wanted = true;
        for Extent { bytes, is_unwritten } in found.into_iter().filter(|extent| extent.bytes.start < to) {
            let state = if is_unwritten { State::Anchored } else { State::Mapped };
            is_wanted = is_wanted && teller.hole_to(bytes.start) && teller.is_to(bytes.end.min(to), state);
        }
        Ok((is_wanted && teller.hole_to(to)).then_some(to))
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
