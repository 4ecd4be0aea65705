mod anchors;
mod reopen;
mod system;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU32;

use super::open::Medium;
use super::*;
use crate::bdev::allocation::State;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::{ChannelState, Done, Io, IoError, Op, Refused, Wake};
use crate::buf::{Class, Pool};
use crate::slab::Key;
use crate::time::Tick;

/// A directory of its own for each test, gone with it.
pub(super) struct Directory(PathBuf);

static DIRECTORIES: AtomicU32 = AtomicU32::new(0);

impl Directory {
    pub(super) fn new() -> Directory {
        Directory::under(&std::env::temp_dir())
    }

    pub(super) fn under(parent: &Path) -> Directory {
        let count = DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("lunette-file-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    /// A file of so many bytes of a hole.
    pub(super) fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.0.join(name);
        fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(super) fn recipe(path: &Path) -> Recipe {
    Recipe {
        name: "File0".to_owned(),
        path: path.to_owned(),
        create_bytes: None,
        block_bytes: None,
        cache: Cache::WriteBack,
        read_only: false,
        uuid: None,
    }
}

impl FileDisk {
    /// From now on there are no rings for its channels.
    pub(crate) fn deny_rings(&self) {
        self.term().rings.are_none.store(true, Ordering::Relaxed);
    }
}

/// One that does not wait for another opener.
pub(super) fn disk(recipe: Recipe) -> Result<FileDisk, OpenError> {
    let habits = Habits { lock_patience: Duration::ZERO, direct: true };
    let disk = FileDisk { habits, ..FileDisk::new(recipe)? };
    disk.open_or_rescan()?;
    Ok(disk)
}

fn refused(recipe: Recipe) -> String {
    disk(recipe).unwrap_err().to_string()
}

/// A disk whose medium is any file at all.
fn disk_of(file: impl Into<OwnedFd>, is_direct: bool) -> FileDisk {
    disk_at(Path::new("none"), file, is_direct)
}

/// The same, and opened anew it is what is at `path`.
fn disk_at(path: &Path, file: impl Into<OwnedFd>, is_direct: bool) -> FileDisk {
    let disk = FileDisk::new(recipe(path)).unwrap();
    let term = disk.term();
    term.blocks.store(1 << 20, Ordering::Relaxed);
    term.medium.set(Arc::new(Medium::of(file.into(), is_direct))).unwrap();
    disk
}

/// A channel and memory for it.
struct Bench {
    channel: Box<dyn Channel>,
    pool: Pool,
}

impl Bench {
    fn new(disk: &FileDisk) -> Bench {
        Bench {
            channel: disk.open(ReactorId(0)),
            pool: Pool::ordinary(&[Class { bytes: 65536, count: 4 }]).unwrap(),
        }
    }

    fn run(&mut self, op: Op) -> Done {
        let data = matches!(op, Op::Read { .. } | Op::Write { .. }).then(|| {
            let mut data = self.pool.take(65536).unwrap();
            data.fill(0xA5);
            data
        });
        let tag = Key { index: 1, generation: 2 };
        self.channel.submit(Io { tag, op, data }, Tick::ZERO).unwrap();
        self.channel.kick();
        let mut out = Vec::with_capacity(1);
        while out.is_empty() {
            self.channel.poll(&mut out, 1, Tick::ZERO);
        }
        assert_eq!(self.channel.in_flight(), 0);
        out.remove(0)
    }

    fn result(&mut self, op: Op) -> Result<(), IoError> {
        self.run(op).result
    }
}

const READ: Op = Op::Read { lba: 8, blocks: 8 };
const WRITE: Op = Op::Write { lba: 8, blocks: 8, fua: false };
const FUA: Op = Op::Write { lba: 8, blocks: 8, fua: true };
const UNMAP: Op = Op::Unmap { lba: 8, blocks: 8 };

fn zeroes(fua: bool, may_unmap: bool) -> Op {
    Op::WriteZeroes { lba: 8, blocks: 8, fua, may_unmap }
}

fn contract_in(parent: &Path) {
    for (block_bytes, direct, cache) in [
        (512, true, Cache::WriteBack),
        (4096, true, Cache::WriteThrough),
        (512, false, Cache::WriteThrough),
        (2048, false, Cache::WriteBack),
        (4096, false, Cache::WriteBack),
    ] {
        let directory = Directory::under(parent);
        let made = AtomicU32::new(0);
        let make = || {
            let name = format!("disk{}", made.fetch_add(1, Ordering::Relaxed));
            let path = directory.file(&name, 100 * u64::from(block_bytes));
            let recipe = Recipe { block_bytes: Some(block_bytes), cache, ..recipe(&path) };
            let habits = Habits { lock_patience: Duration::ZERO, direct };
            let disk = Arc::new(FileDisk { habits, ..FileDisk::new(recipe).unwrap() });
            disk.open_or_rescan().unwrap();
            assert!(direct || disk.is_buffered() == Some(true));
            let bdev = Arc::clone(&disk);
            let resize = move |blocks: u64| {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(blocks * u64::from(block_bytes)).unwrap();
                disk.probe().unwrap();
            };
            Made { bdev, resize: Some(Box::new(resize)) }
        };
        let name = format!("file, {block_bytes} bytes, direct {direct}, {cache:?}");
        suite(&Subject { name: &name, make: &make, keeps_data: true, frees_on_drop: true });
    }
}

#[test]
fn passes_the_contract() {
    contract_in(&std::env::temp_dir());
}

#[test]
fn passes_the_contract_on_tmpfs() {
    contract_in(Path::new("/dev/shm"));
}

#[test]
fn what_is_written_is_in_the_file_and_only_there() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let mut bench = Bench::new(&disk(recipe(&path)).unwrap());
    assert_eq!(bench.result(FUA), Ok(()));
    let content = fs::read(&path).unwrap();
    assert!(content[4096..8192].iter().all(|byte| *byte == 0xA5));
    assert!(content[..4096].iter().chain(&content[8192..]).all(|byte| *byte == 0));
}

#[test]
fn holes_are_punched_and_zeroes_keep_their_space() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let disk = disk(recipe(&path)).unwrap();
    let mut bench = Bench::new(&disk);
    let used = || fs::metadata(&path).unwrap().blocks();
    let info = disk.info();
    let unmap = info.unmap.map(|unmap| (unmap.granularity_blocks, unmap.reads_zeroes));
    assert_eq!(unmap, Some((8, true)));
    assert_eq!((info.blocks, info.block_bytes, info.physical_block_bytes), (2048, 512, 4096));
    let (write, flush) = (Op::Write { lba: 0, blocks: 128, fua: true }, Op::Flush);
    for (op, left) in [(UNMAP, 120), (zeroes(true, true), 120), (zeroes(true, false), 128)] {
        assert_eq!(bench.result(write), Ok(()));
        assert_eq!(used(), 128);
        assert_eq!((bench.result(op), bench.result(flush)), (Ok(()), Ok(())));
        assert_eq!(used(), left, "{op:?}");
        let data = bench.run(READ).data.unwrap();
        assert!(data[..4096].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn holes_are_told_where_the_file_system_is_believed() {
    for parent in [Path::new("/dev/shm"), &std::env::temp_dir()] {
        let directory = Directory::under(parent);
        let path = directory.file("disk", 1 << 20);
        let disk = disk(recipe(&path)).unwrap();
        let told = |lba, blocks| {
            let allocation = disk.allocation(lba, blocks);
            let runs = allocation.runs().iter().map(|run| (run.blocks, run.state == State::Deallocated));
            runs.collect::<Vec<_>>()
        };
        let magic = rustix::fs::statfs(parent).unwrap().f_type;
        if ![libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC, libc::TMPFS_MAGIC].contains(&magic) {
            assert!(told(0, u32::MAX).is_empty(), "nothing is known");
            continue;
        }
        assert_eq!(told(0, u32::MAX), [(2048, true)]);
        let mut bench = Bench::new(&disk);
        for lba in [64, 2040] {
            assert_eq!(bench.result(Op::Write { lba, blocks: 8, fua: false }), Ok(()));
        }
        assert_eq!(told(0, u32::MAX), [(64, true), (8, false), (1968, true), (8, false)]);
        assert_eq!(told(66, 10), [(6, false), (4, true)]);
        assert_eq!(told(2047, 9), [(1, false)], "to the end");
        assert!(told(2048, 1).is_empty());
        assert_eq!(bench.result(Op::Unmap { lba: 64, blocks: 8 }), Ok(()));
        assert_eq!(told(0, 100), [(100, true)]);
        // What others have cut off is not known.
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 19).unwrap();
        assert_eq!(told(1000, 100), [(24, true)]);
        assert!(told(1024, 100).is_empty());
    }
}

#[test]
fn read_only_is_read_only() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let disk = disk(Recipe { read_only: true, ..recipe(&path) }).unwrap();
    let info = disk.info();
    assert_eq!((info.read_only, info.write_cache, info.unmap), (true, false, None));
    let mut bench = Bench::new(&disk);
    assert_eq!((bench.result(READ), bench.result(Op::Flush)), (Ok(()), Ok(())));
    for op in [WRITE, UNMAP, zeroes(false, false)] {
        assert_eq!(bench.result(op), Err(IoError::ReadOnly));
    }
}

#[test]
fn a_failed_flush_latches_for_every_channel() {
    // Writes to it go well, and it cannot be synced.
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap();
    let disk = disk_of(null, true);
    let mut other = Bench::new(&disk);
    let mut bench = Bench::new(&disk);
    assert_eq!((bench.result(WRITE), other.result(WRITE)), (Ok(()), Ok(())));
    assert!(!disk.is_flush_failed());
    assert_eq!(bench.result(Op::Flush), Err(IoError::FlushFailed));
    assert!(disk.is_flush_failed());
    for bench in [&mut bench, &mut other] {
        for op in [WRITE, FUA, UNMAP, zeroes(false, false), Op::Flush] {
            assert_eq!(bench.result(op), Err(IoError::FlushFailed), "{op:?}");
        }
        assert_eq!(bench.result(READ), Ok(()));
    }
}

#[test]
fn a_failed_sync_fails_what_waits_for_it_through_the_cache() {
    let zero = fs::OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap();
    let disk = disk_of(zero, false);
    let mut bench = Bench::new(&disk);
    assert_eq!(bench.result(WRITE), Ok(()));
    assert_eq!(bench.result(FUA), Err(IoError::FlushFailed));
    assert!(disk.is_flush_failed());
}

#[test]
fn errors_of_the_kernel_come_back_by_name() {
    let full = || fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    // Memory that is not there cannot be read.
    let bad = || fs::File::open("/proc/self/mem").unwrap();
    let disk = disk_of(full(), true);
    for op in [WRITE, FUA] {
        assert_eq!(Bench::new(&disk).result(op), Err(IoError::NoSpace), "{op:?}");
    }
    // The kernel punches holes in files and block devices only, and says so like this.
    for op in [zeroes(false, false), zeroes(false, true), UNMAP] {
        assert_eq!(Bench::new(&disk).result(op), Err(IoError::Gone), "{op:?}");
    }
    assert!(!disk.is_flush_failed(), "no space is no failed flush");
    let disk = disk_of(bad(), true);
    assert_eq!(Bench::new(&disk).result(READ), Err(IoError::Medium { lba: Some(8) }));
    // It is open for reading only.
    assert_eq!(Bench::new(&disk).result(WRITE), Err(IoError::Gone));
    assert!(!disk.is_flush_failed());
}

#[test]
fn a_second_opener_is_refused() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let link = directory.0.join("link");
    fs::hard_link(&path, &link).unwrap();
    let first = disk(recipe(&path)).unwrap();
    let message = "is locked: another lunette or a virtual machine uses it, or it is given twice";
    assert_eq!(refused(recipe(&path)), format!("{} {message}", path.display()));
    assert_eq!(refused(recipe(&link)), format!("{} {message}", link.display()));
    let reader = Recipe { read_only: true, ..recipe(&path) };
    assert_eq!(refused(reader.clone()), format!("{} {message}", path.display()));
    let mut bench = Bench::new(&first);
    assert_eq!(bench.result(WRITE), Ok(()));
    // A channel keeps the file open.
    drop(first);
    assert_eq!(refused(reader.clone()), format!("{} {message}", path.display()));
    drop(bench);
    let readers = [disk(reader.clone()).unwrap(), disk(reader).unwrap()];
    assert_eq!(refused(recipe(&path)), format!("{} {message}", path.display()));
    drop(readers);
    disk(recipe(&path)).unwrap();
}

#[test]
fn a_missing_file_keeps_its_channels_opening_until_it_comes() {
    let directory = Directory::new();
    let path = directory.0.join("disk");
    let disk = FileDisk::new(recipe(&path)).unwrap();
    let mut bench = Bench::new(&disk);
    assert_eq!((disk.info().blocks, bench.channel.state()), (0, ChannelState::Opening));
    let message = disk.probe().unwrap_err().to_string();
    let expected = "does not exist; it will be used when it appears, or is made where a size is given";
    assert_eq!(message, format!("{} {expected}", path.display()));
    let io = Io { tag: Key { index: 0, generation: 0 }, op: Op::Flush, data: None };
    assert!(matches!(bench.channel.submit(io, Tick::ZERO), Err(Refused::NotReady(_))));
    assert_eq!((bench.channel.wake(), bench.channel.in_flight()), (Wake::Idle, 0));
    directory.file("disk", 1 << 20);
    disk.probe().unwrap();
    bench.channel.poll(&mut Vec::with_capacity(1), 1, Tick::ZERO);
    assert_eq!((disk.info().blocks, bench.channel.state()), (2048, ChannelState::Ready));
    assert_eq!(bench.result(WRITE), Ok(()));
}

#[test]
fn sizes_are_seen_at_the_next_probe() {
    let directory = Directory::new();
    let path = directory.file("disk", 16 * 512);
    let disk = disk(recipe(&path)).unwrap();
    let mut bench = Bench::new(&disk);
    assert_eq!(bench.result(WRITE), Ok(()));
    let beyond = Op::Read { lba: 16, blocks: 1 };
    assert_eq!(bench.result(beyond), Err(IoError::OutOfRange));
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(20 * 512 + 100).unwrap();
    disk.probe().unwrap();
    assert_eq!((disk.info().blocks, bench.result(beyond)), (20, Ok(())));
    // Cut off behind our back.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    assert_eq!(bench.result(READ), Err(IoError::OutOfRange));
    disk.probe().unwrap();
    assert_eq!(disk.info().blocks, 8);
    assert_eq!(bench.result(WRITE), Err(IoError::OutOfRange));
}

#[test]
fn new_files_are_made_sparse_and_old_ones_left_alone() {
    let directory = Directory::new();
    let path = directory.0.join("disk");
    let make = |bytes| Recipe { create_bytes: Some(bytes), ..recipe(&path) };
    drop(disk(make(1 << 30)).unwrap());
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.blocks(), metadata.mode() & 0o777), (1 << 30, 0, 0o600));
    drop(disk(make(1 << 30)).unwrap());
    assert_eq!(
        refused(make(1 << 20)),
        format!(
            "{} is there already and has 1073741824 bytes, not 1048576; leave the size out to use it as it is",
            path.display()
        )
    );
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 30);
    let made = |bytes| FileDisk::new(make(bytes)).unwrap_err().to_string();
    assert_eq!(made(1000), "1000 bytes are not a whole number of blocks of 512 bytes");
    let device = Recipe { path: "/dev/lunette-none".into(), ..make(1 << 20) };
    assert!(matches!(disk(device), Err(OpenError::Missing(_))));
}

#[test]
fn what_is_no_disk_is_refused() {
    let directory = Directory::new();
    let empty = directory.file("empty", 511);
    assert_eq!(
        refused(recipe(&empty)),
        format!(
            "{} has 511 bytes, less than one block of 512; give a size to make a disk of it",
            empty.display()
        )
    );
    let message = format!("{} is a directory; give a file in it", directory.0.display());
    assert_eq!(refused(recipe(&directory.0)), message);
    let message = "/dev/null is neither a regular file nor a block device";
    assert_eq!(refused(recipe(Path::new("/dev/null"))), message);
    let odd = Recipe { block_bytes: Some(520), ..recipe(&empty) };
    assert_eq!(refused(odd), "a block has 512, 1024, 2048 or 4096 bytes, not 520");
}

#[test]
fn a_file_is_named_by_its_inode_and_not_by_its_path() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let uuid = disk(recipe(&path)).unwrap().info().uuid;
    let moved = directory.0.join("moved");
    fs::rename(&path, &moved).unwrap();
    assert_eq!(disk(recipe(&moved)).unwrap().info().uuid, uuid);
    let other = directory.file("disk", 1 << 20);
    assert_ne!(disk(recipe(&other)).unwrap().info().uuid, uuid);
    let given = Recipe { uuid: Some([3; 16]), ..recipe(&other) };
    assert_eq!(disk(given).unwrap().info().uuid, [3; 16]);
}

#[test]
fn syncs_that_wait_together_are_one() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let mut bench = Bench::new(&disk);
    for index in 0..100 {
        let io = Io { tag: Key { index, generation: 0 }, op: Op::Flush, data: None };
        bench.channel.submit(io, Tick::ZERO).unwrap();
    }
    bench.channel.kick();
    let mut out = Vec::with_capacity(100);
    while out.len() < 100 {
        bench.channel.poll(&mut out, 100, Tick::ZERO);
        // The first of them alone, then all others.
        assert!([0, 1, 100].contains(&out.len()), "{}", out.len());
    }
    let tags: Vec<u32> = out.iter().map(|done| done.tag.index).collect();
    assert_eq!(tags, (0..100).collect::<Vec<u32>>());
}
