//! Files that are memory (tmpfs): the reactor copies by itself what is read and written, as with a RAM disk.
//!
//! There is no device to wait for, but tmpfs does not know requests that must not wait, so io_uring hands each of them to a
//! thread, which costs several times what the copy does. What has to become durable, and whatever does not go well, takes the
//! ring.

use std::os::fd::OwnedFd;

use rustix::io::{Errno, pread, pwrite};

use super::channel::FileChannel;
use crate::bdev::Op;
use crate::bdev::instant::blocks_of;

impl FileChannel {
    pub(super) fn load_at_once(&self, lba: u64, data: &mut [u8]) -> bool {
        let bytes = data.len();
        self.at_once(bytes, |blocks| Op::Read { lba, blocks }, |fd, offset| pread(fd, data, offset))
    }

    pub(super) fn store_at_once(&self, lba: u64, data: &[u8], fua: bool) -> bool {
        let op = |blocks| Op::Write { lba, blocks, fua };
        self.at_once(data.len(), op, |fd, offset| pwrite(fd, data, offset))
    }

    /// Whether all of it was transferred.
    fn at_once(
        &self,
        bytes: usize,
        op: impl FnOnce(u32) -> Op,
        transfer: impl FnOnce(&OwnedFd, u64) -> Result<usize, Errno>,
    ) -> bool {
        let Some(medium) = self.term.medium.get().filter(|medium| medium.is_memory) else { return false };
        let op = op(blocks_of(bytes, medium.block_bytes));
        let Some((lba, _)) = op.extent() else { return false };
        if self.promises(op) || self.admit(op).is_err() || self.term.next().is_some() {
            return false;
        }
        // Who opens the medium anew waits for those who are in.
        let is_first = self.flights() == 0;
        if is_first && !self.term.enter() {
            return false;
        }
        let result = transfer(&medium.fd, lba * u64::from(medium.block_bytes));
        if is_first {
            self.term.leave();
        }
        result == Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::bdev::Bdev;
    use crate::bdev::file::tests::{Directory, disk, recipe};
    use crate::bdev::file::{Cache, FileDisk, Recipe};
    use crate::id::ReactorId;
    use crate::time::Tick;

    /// A place that is tmpfs, where the machine has one.
    fn memory() -> Option<Directory> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        if mounts.contains(" /dev/shm tmpfs ") {
            return Some(Directory::under(Path::new("/dev/shm")));
        }
        println!("not run: /dev/shm is no tmpfs");
        None
    }

    fn load(disk: &FileDisk, lba: u64) -> Option<[u8; 1024]> {
        let (mut channel, mut data) = (disk.open(ReactorId(0)), [0; 1024]);
        (channel.does_at_once() && channel.load(lba, &mut data, Tick::ZERO)).then_some(data)
    }

    fn store(disk: &FileDisk, lba: u64, fua: bool) -> bool {
        let mut channel = disk.open(ReactorId(0));
        channel.does_at_once() && channel.store(lba, &[7; 1024], fua, Tick::ZERO)
    }

    #[test]
    fn what_is_memory_is_copied_at_once() {
        let Some(directory) = memory() else { return };
        let path = directory.file("disk", 4096);
        let disk = disk(recipe(&path)).unwrap();
        assert!(store(&disk, 1, false));
        assert_eq!(load(&disk, 1), Some([7; 1024]));
        let mut expected = [0; 4096];
        expected[512..1536].fill(7);
        assert_eq!(fs::read(&path).unwrap(), expected);
        // Beyond the end, and cut off behind our back.
        assert!(!store(&disk, 7, false));
        assert_eq!(load(&disk, 7), None);
        fs::File::options().write(true).open(&path).unwrap().set_len(1024).unwrap();
        assert_eq!(load(&disk, 1), None);
        assert_eq!(load(&disk, 0).map(|data| (data[0], data[512])), Some((0, 7)));
    }

    #[test]
    fn what_has_to_last_or_may_not_be_written_is_not() {
        let Some(directory) = memory() else { return };
        let path = directory.file("disk", 4096);
        let through = disk(Recipe { cache: Cache::WriteThrough, ..recipe(&path) }).unwrap();
        assert!(!store(&through, 0, false));
        assert_eq!(load(&through, 0), Some([0; 1024]));
        drop(through);
        let read_only = disk(Recipe { read_only: true, ..recipe(&path) }).unwrap();
        assert!(!store(&read_only, 0, false));
        drop(read_only);
        let back = disk(recipe(&path)).unwrap();
        assert!(!store(&back, 0, true));
        back.term().verdict.fail();
        assert!(!store(&back, 0, false));
        assert_eq!(fs::read(&path).unwrap(), [0; 4096]);
    }

    #[test]
    fn nothing_is_done_to_a_medium_of_before() {
        let Some(directory) = memory() else { return };
        let disk = disk(recipe(&directory.file("disk", 4096))).unwrap();
        let mut channel = disk.open(ReactorId(0));
        disk.term().end();
        assert!(!channel.store(0, &[7; 512], false, Tick::ZERO));
        assert!(!channel.load(0, &mut [0; 512], Tick::ZERO));
    }
}
