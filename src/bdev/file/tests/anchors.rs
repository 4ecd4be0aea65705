//! Anchored blocks on real file systems. Those that it takes and that are not here are named by the tests that did not run.

use super::fiemap::extents;
use super::*;

const MAPPED: State = State::Mapped;
const ANCHORED: State = State::Anchored;
const HOLE: State = State::Deallocated;

fn runs(disk: &FileDisk, lba: u64, blocks: u32) -> Vec<(u32, State)> {
    disk.allocation(lba, blocks).runs().iter().map(|run| (run.blocks, run.state)).collect()
}

fn anchor(lba: u64, blocks: u32) -> Op {
    Op::WriteZeroes { lba, blocks, fua: false, may_unmap: false }
}

/// A directory on a file system that anchors, and a file of 1 MiB there; none where there is no such file system.
fn place() -> Option<(Directory, PathBuf)> {
    let parent = std::env::temp_dir();
    let magic = rustix::fs::statfs(&parent).unwrap().f_type;
    if ![libc::EXT4_SUPER_MAGIC, libc::XFS_SUPER_MAGIC].contains(&magic) {
        eprintln!("not run, as {} is neither ext4 nor XFS", parent.display());
        return None;
    }
    let directory = Directory::under(&parent);
    let path = directory.file("disk", 1 << 20);
    Some((directory, path))
}

#[test]
fn anchored_blocks_have_space_and_hold_nothing() {
    let Some((_directory, path)) = place() else { return };
    let disk = disk(recipe(&path)).unwrap();
    assert!(disk.info().unmap.unwrap().anchors);
    let used = || fs::metadata(&path).unwrap().blocks();
    assert_eq!(used(), 0, "to find that out takes nothing");
    let mut bench = Bench::new(&disk);
    for op in [Op::Write { lba: 64, blocks: 8, fua: false }, anchor(128, 24)] {
        assert_eq!(bench.result(op), Ok(()), "{op:?}");
    }
    let told = [(64, HOLE), (8, MAPPED), (56, HOLE), (24, ANCHORED), (1896, HOLE)];
    assert_eq!((runs(&disk, 0, u32::MAX), used()), (told.to_vec(), 32));
    assert_eq!(runs(&disk, 130, 30), [(22, ANCHORED), (8, HOLE)], "from within");

    // From mapped, and into each of the others.
    for op in
        [anchor(64, 8), Op::Write { lba: 128, blocks: 8, fua: false }, Op::Unmap { lba: 144, blocks: 8 }]
    {
        assert_eq!(bench.result(op), Ok(()), "{op:?}");
    }
    let told = [(64, HOLE), (8, ANCHORED), (56, HOLE), (8, MAPPED), (8, ANCHORED), (1904, HOLE)];
    assert_eq!((runs(&disk, 0, u32::MAX), used()), (told.to_vec(), 24));
    assert_eq!(bench.result(Op::Flush), Ok(()));
    let data = bench.run(Op::Read { lba: 64, blocks: 8 }).data.unwrap();
    assert!(data[..4096].iter().all(|byte| *byte == 0));

    // Where units of space are cut there may be zeroes instead, and space in any case.
    assert_eq!(bench.result(anchor(201, 22)), Ok(()));
    assert!(runs(&disk, 201, 22).iter().all(|(_, state)| *state != HOLE));
}

/// What is in the page cache is there, whatever the disk knows of it.
#[test]
fn what_was_written_through_the_page_cache_is_mapped_at_once() {
    let Some((_directory, path)) = place() else { return };
    let habits = Habits { lock_patience: Duration::ZERO, direct: false };
    let disk = FileDisk { habits, ..FileDisk::new(recipe(&path)).unwrap() };
    disk.open_or_rescan().unwrap();
    assert_eq!(disk.is_buffered(), Some(true));
    let mut bench = Bench::new(&disk);
    for op in [
        anchor(0, 64),
        Op::Write { lba: 16, blocks: 8, fua: false },
        Op::Write { lba: 128, blocks: 8, fua: false },
    ] {
        assert_eq!(bench.result(op), Ok(()), "{op:?}");
    }
    let told = [(16, ANCHORED), (8, MAPPED), (40, ANCHORED), (64, HOLE), (8, MAPPED), (1912, HOLE)].to_vec();
    assert_eq!(runs(&disk, 0, u32::MAX), told);
    assert_eq!(bench.result(Op::Flush), Ok(()));
    assert_eq!(runs(&disk, 0, u32::MAX), told, "and when it is on the disk");
}

#[test]
fn memory_has_no_anchors() {
    let directory = Directory::under(Path::new("/dev/shm"));
    let path = directory.file("disk", 1 << 20);
    let disk = disk(recipe(&path)).unwrap();
    if rustix::fs::statfs("/dev/shm").unwrap().f_type != libc::TMPFS_MAGIC {
        return eprintln!("not run, as /dev/shm is no tmpfs");
    }
    assert!(!disk.info().unmap.unwrap().anchors);
    // Zeroes that keep their space are written there.
    assert_eq!(Bench::new(&disk).result(anchor(128, 8)), Ok(()));
    assert_eq!(runs(&disk, 0, u32::MAX), [(128, HOLE), (8, MAPPED), (1912, HOLE)]);
}

#[test]
fn more_extents_than_are_told_at_a_time_are_asked_for_again() {
    let Some((_directory, path)) = place() else { return };
    let disk = disk(recipe(&path)).unwrap();
    let mut bench = Bench::new(&disk);
    for lba in (0..1600).step_by(16) {
        assert_eq!(bench.result(anchor(lba, 8)), Ok(()));
    }
    let file = fs::File::open(&path).unwrap();
    let extents = |bytes| {
        let mut found = Vec::new();
        let is_all = extents(&file, bytes, &mut |extent| found.push(extent)).unwrap();
        (found, is_all)
    };
    let (first, is_all) = extents(0..1 << 20);
    assert_eq!((first.len(), is_all), (64, false));
    let behind = first[63].bytes.end;
    assert_eq!((first[63].is_unwritten, behind), (true, (63 * 16 + 8) * 512));
    let (rest, is_all) = extents(behind..1 << 20);
    assert_eq!((rest.len(), is_all, &rest[0].bytes), (36, true, &(524_288..528_384)));
    assert_eq!(extents(4096..8192), (Vec::new(), true));
    assert_eq!(extents(0..0), (Vec::new(), true));
    let (first, rest) = (runs(&disk, 0, u32::MAX), runs(&disk, 256, u32::MAX));
    assert_eq!((first.len(), &first), (32, &rest));
    assert!(first.chunks(2).all(|pair| pair == [(8, ANCHORED), (8, HOLE)]));
}

#[test]
fn kinds_of_files_are_told() {
    let directory = Directory::new();
    let file = fs::File::open(directory.file("any", 4096)).unwrap();
    // Not every file system has the question.
    assert_ne!(fiemap::is_realtime(&file), Ok(true));
    assert!(fiemap::is_realtime(fs::File::open("/dev/null").unwrap()).is_err());
}
