//! A file on a file system that is full: what initiators are told of it, and that nothing hangs.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;

use lunette::bdev::Bdev;
use lunette::bdev::file::{Cache, FileDisk, Recipe};
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config};

use crate::harness::{Setup, World, not_run, pattern, read, sense, spec, target, test_unit_ready, write};

const TARGET: &str = "iqn.2026-11.io.example:full";
/// SPACE ALLOCATION FAILED WRITE PROTECT.
const NO_SPACE: (u8, u8, u8) = (0x7, 0x27, 0x07);
/// THIN PROVISIONING SOFT THRESHOLD REACHED.
const THRESHOLD: (u8, u8, u8) = (0x6, 0x38, 0x07);
/// MODE PARAMETERS CHANGED.
const MODES: (u8, u8, u8) = (0x6, 0x2a, 0x01);

/// A file system of 2 MiB, in memory, gone with the test.
struct Small(PathBuf);

impl Small {
    /// None, and why, where this needs rights that are not to be had.
    fn mount(name: &str) -> Option<Small> {
        let path = std::env::temp_dir().join(format!("lunette-it-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let mount = Process::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&path).output();
        if mount.as_ref().is_ok_and(|output| output.status.success()) {
            return Some(Small(path));
        }
        std::fs::remove_dir(&path).unwrap();
        not_run(&format!("it needs root to mount a tmpfs: {mount:?}"));
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        assert!(Process::new("umount").arg(&self.0).status().unwrap().success());
        std::fs::remove_dir(&self.0).unwrap();
    }
}

fn recipe(directory: &Path, cache: Cache) -> Recipe {
    Recipe {
        name: "file".to_owned(),
        path: directory.join("disk"),
        create_bytes: Some(64 << 20),
        block_bytes: None,
        cache,
        read_only: false,
        uuid: Some([0x78; 16]),
    }
}

/// Serves a sparse file of 64 MiB there as LUN 0.
fn serve(world: &World, small: &Small, cache: Cache) -> Client {
    let disk = Arc::new(FileDisk::new(recipe(&small.0, cache)).unwrap());
    disk.probe().unwrap();
    world.control(|control| {
        control.register_bdev(spec(disk)).unwrap();
        control.create_target(&target(TARGET, &["file"], &[(1, 1)])).unwrap();
    });
    client(world, "first")
}

fn client(world: &World, name: &str) -> Client {
    let mut client = world.login(Config::new(&format!("iqn.2026-11.io.example:{name}"), TARGET));
    while !client.run(test_unit_ready(0)).unwrap().is_good() {}
    client
}

/// Every way to write where nothing was written yet, 16 blocks at `lba`.
fn writes(lba: u64) -> Vec<(&'static str, Command)> {
    let one = |seed| pattern(seed, lba, 1, 512);
    let many = pattern(3, lba, 16, 512);
    let fua = cdb::Flags::FUA;
    vec![
        ("WRITE", write(3, lba, 16)),
        ("WRITE, FUA", Command::write(0, cdb::write_16(lba, 16, fua), many.clone())),
        ("WRITE AND VERIFY", Command::write(0, cdb::write_and_verify_16(lba, 16, false), many.clone())),
        ("ORWRITE", Command::write(0, cdb::orwrite_16(lba, 16), many)),
        ("WRITE SAME", Command::write(0, cdb::write_same_16(lba, 16, false), one(3))),
        ("WRITE SAME of zeroes", Command::write(0, cdb::write_same_16(lba, 16, false), vec![0; 512])),
        (
            "COMPARE AND WRITE",
            Command::write(0, cdb::compare_and_write(lba, 1), [vec![0; 512], one(3)].concat()),
        ),
    ]
}

#[test]
fn every_write_says_that_space_has_run_out_and_the_rest_goes_on() {
    for cache in [Cache::WriteBack, Cache::WriteThrough] {
        let Some(small) = Small::mount("full") else { return };
        let world = World::start(Setup { disks: Vec::new(), ..Setup::default() });
        let mut client = serve(&world, &small, cache);
        // 2 MiB are 4096 blocks. What was written stays, what was not reads as zeroes.
        let full =
            (0..).map(|index| index * 512).find(|lba| !client.run(write(1, *lba, 512)).unwrap().is_good());
        let full = full.unwrap();
        assert!((3072..=4096).contains(&full), "{full}");
        assert_eq!(sense(&client.run(write(1, full, 512)).unwrap()), NO_SPACE);
        let beyond = 8192;
        for (name, command) in writes(beyond) {
            let completion = client.run(command).unwrap();
            assert_eq!(sense(&completion), NO_SPACE, "{name}, {cache:?}");
        }
        assert!(client.run(read(0, 512)).unwrap().data == pattern(1, 0, 512, 512));
        assert!(client.run(read(beyond, 16)).unwrap().data == [0; 16 * 512]);
        let flush = Command::new(0, cdb::synchronize_cache_16(0, 0), lunette_initiator::Data::None);
        assert!(client.run(flush).unwrap().is_good(), "what was written is safe");
        // What is given back can be used.
        let list = cdb::unmap_list(&[(0, 512)]);
        let unmap = Command::write(0, cdb::unmap(u16::try_from(list.len()).unwrap()), list);
        assert!(client.run(unmap).unwrap().is_good());
        // The last finds the zeroes of the one before.
        for (name, command) in writes(beyond) {
            assert!(client.run(command).unwrap().is_good(), "{name}");
        }
    }
}

/// MODE SELECT(6) of the provisioning page with a threshold of so many MiB that are used.
fn threshold(mib: u8) -> Command {
    #[rustfmt::skip]
    let list = vec![
        0, 0, 0, 0,
        0x5c, 0x02, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x00, 1, 0, 0, 0, 0, 0, 0,
        0x81, 2, 0, 0, 0, 0, 0, mib,
    ];
    let mut select = cdb::test_unit_ready();
    select[..5].copy_from_slice(&[0x15, 0x10, 0, 0, 36]);
    Command::write(0, select, list)
}

#[test]
fn thresholds_are_told_to_every_nexus() {
    let Some(small) = Small::mount("threshold") else { return };
    let world = World::start(Setup { disks: Vec::new(), ..Setup::default() });
    let mut first = serve(&world, &small, Cache::WriteBack);
    let mut second = client(&world, "second");
    let told = first.run(Command::read(0, cdb::inquiry_vpd(0xb2, 64), 64)).unwrap().data;
    assert_eq!(told, [0, 0xb2, 0, 4, 11, 0xe4, 2, 0], "sets of 2048 blocks");
    let mut log = cdb::test_unit_ready();
    log[..9].copy_from_slice(&[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 64]);
    // What it had when it was opened: nothing used, 2 MiB left.
    let log = first.run(Command::read(0, log, 64)).unwrap().data;
    assert_eq!(log[..4], [0x0c, 0, 0, 24]);
    assert_eq!(
        log[4..],
        [[0, 1, 3, 8, 0, 0, 0, 2, 2, 0, 0, 0], [0, 2, 3, 8, 0, 0, 0, 0, 1, 0, 0, 0]].concat()
    );
    assert!(first.run(threshold(1)).unwrap().is_good());
    assert!(first.run(test_unit_ready(0)).unwrap().is_good(), "it is not met");
    assert_eq!(sense(&second.run(test_unit_ready(0)).unwrap()), MODES);
    assert!(second.run(test_unit_ready(0)).unwrap().is_good());
    // One that is met already: the next command says so, once.
    assert!(first.run(threshold(0)).unwrap().is_good());
    assert_eq!(sense(&first.run(test_unit_ready(0)).unwrap()), THRESHOLD);
    assert!(first.run(test_unit_ready(0)).unwrap().is_good());
    assert_eq!(sense(&second.run(test_unit_ready(0)).unwrap()), MODES);
    assert_eq!(sense(&second.run(test_unit_ready(0)).unwrap()), THRESHOLD);
    assert!(second.run(test_unit_ready(0)).unwrap().is_good());
}
