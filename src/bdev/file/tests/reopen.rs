//! Disks that are opened anew.

use std::time::Duration;

use super::*;
use crate::bdev::file::reopen::Origin;

/// Nothing is in flight.
const AT_ONCE: Duration = Duration::ZERO;

fn submitted(bench: &mut Bench, op: Op) -> Result<(), Refused> {
    let data = op.extent().map(|_| bench.pool.take(65536).unwrap());
    bench.channel.submit(Io { tag: Key { index: 1, generation: 2 }, op, data }, Tick::ZERO)
}

#[test]
fn a_latched_disk_serves_again_and_says_what_may_be_lost() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let disk = disk(recipe(&path)).unwrap();
    let [mut bench, mut other, mut idle] = [(); 3].map(|()| Bench::new(&disk));
    assert_eq!((bench.result(FUA), other.result(WRITE)), (Ok(()), Ok(())));
    disk.term().verdict.fail();
    assert_eq!(bench.result(WRITE), Err(IoError::FlushFailed));
    let before = disk.info();

    disk.close();
    assert_eq!(
        disk.info(),
        Info { blocks: 0, physical_block_bytes: 512, rotational: false, unmap: None, ..before.clone() }
    );
    assert_eq!(
        disk.probe().unwrap_err().to_string(),
        format!("{} is about to be opened anew", path.display())
    );
    assert!(matches!(submitted(&mut bench, Op::Flush), Err(Refused::NotReady(_))));
    assert_eq!(bench.channel.state(), ChannelState::Opening);
    let left = disk.reopen(AT_ONCE).unwrap();
    assert_eq!(left, Left { is_flush_failed: true, may_have_lost: true });
    assert_eq!(disk.info(), before);
    assert!(!disk.is_flush_failed());
    for bench in [&mut bench, &mut other, &mut idle] {
        for op in [WRITE, FUA, Op::Flush, READ, UNMAP] {
            assert_eq!(bench.result(op), Ok(()), "{op:?}");
        }
    }
    // The new opener has the lock.
    assert!(refused(recipe(&path)).ends_with("or it is given twice"));
}

#[test]
fn nothing_is_lost_where_all_was_well() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let mut bench = Bench::new(&disk);
    assert_eq!(bench.result(WRITE), Ok(()));
    disk.close();
    assert_eq!(disk.reopen(AT_ONCE).unwrap(), Left::default());
    assert_eq!(bench.run(READ).data.unwrap()[..4096], [0xA5; 4096]);
}

#[test]
fn what_cannot_be_made_durable_as_it_is_closed_may_be_lost() {
    let directory = Directory::new();
    let zero = fs::OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap();
    let disk = disk_at(&directory.file("disk", 1 << 20), zero, true);
    disk.close();
    assert_eq!(disk.reopen(AT_ONCE).unwrap(), Left { is_flush_failed: false, may_have_lost: true });
}

#[test]
fn it_is_not_opened_before_everything_has_come_back() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let disk = disk(recipe(&path)).unwrap();
    let mut bench = Bench::new(&disk);
    submitted(&mut bench, READ).unwrap();
    bench.channel.kick();
    disk.close();
    let message = format!(
        "{} still has IO that was sent before it was closed; it is opened when that has come back",
        path.display()
    );
    assert_eq!(disk.reopen(Duration::from_millis(10)).unwrap_err().to_string(), message);
    assert_eq!(disk.probe().unwrap_err().to_string(), message);
    assert!(matches!(submitted(&mut bench, READ), Err(Refused::Full(_))));
    let mut out = Vec::with_capacity(1);
    while out.is_empty() {
        bench.channel.poll(&mut out, 1, Tick::ZERO);
    }
    assert_eq!(out[0].result, Ok(()));
    disk.probe().unwrap();
    assert_eq!((disk.info().blocks, bench.result(WRITE)), (2048, Ok(())));
}

#[test]
fn another_disk_in_its_place_is_refused_and_the_same_one_comes_back() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let uuid = Some([9; 16]);
    let disk = disk(Recipe { uuid, ..recipe(&path) }).unwrap();
    let mut bench = Bench::new(&disk);
    assert_eq!(bench.result(WRITE), Ok(()));
    let away = directory.0.join("away");
    fs::rename(&path, &away).unwrap();
    disk.close();
    assert!(matches!(disk.reopen(AT_ONCE), Err(OpenError::Missing(_))));
    directory.file("disk", 1 << 20);
    let message =
        format!("{} is not the disk that was served: serve it as a disk of its own", path.display());
    assert_eq!(disk.probe().unwrap_err().to_string(), message);
    assert_eq!((disk.info().blocks, disk.info().uuid), (0, [9; 16]));
    fs::rename(&away, &path).unwrap();
    disk.probe().unwrap();
    assert_eq!(bench.run(READ).data.unwrap()[..4096], [0xA5; 4096]);
}

#[test]
fn a_file_that_was_deleted_is_not_made_again() {
    let directory = Directory::new();
    let path = directory.0.join("disk");
    let disk = disk(Recipe { create_bytes: Some(1 << 20), ..recipe(&path) }).unwrap();
    disk.close();
    fs::remove_file(&path).unwrap();
    assert!(matches!(disk.reopen(AT_ONCE), Err(OpenError::Missing(_))));
    assert!(!path.exists());
}

#[test]
fn a_file_with_the_inode_of_one_that_was_deleted_is_another_disk() {
    let directory = Directory::new();
    let path = directory.file("disk", 1 << 20);
    let disk = disk(recipe(&path)).unwrap();
    let origin = disk.origin.get().unwrap();
    assert!(origin.born.is_some(), "the file system has no times of birth");
    // As if it had been made earlier.
    let other = FileDisk {
        origin: Origin { born: Some((1, 0)), ..*origin }.into(),
        habits: disk.habits,
        ..FileDisk::new(recipe(&path)).unwrap()
    };
    drop(disk);
    assert!(matches!(other.open_or_rescan(), Err(OpenError::OtherDisk(_))));
}

#[test]
fn a_disk_that_was_never_there_is_looked_for() {
    let directory = Directory::new();
    let path = directory.0.join("disk");
    let disk = FileDisk::new(recipe(&path)).unwrap();
    disk.close();
    assert!(matches!(disk.reopen(AT_ONCE), Err(OpenError::Missing(_))));
    directory.file("disk", 1 << 20);
    assert_eq!(disk.reopen(AT_ONCE).unwrap(), Left::default());
    assert_eq!(Bench::new(&disk).result(WRITE), Ok(()));
}
