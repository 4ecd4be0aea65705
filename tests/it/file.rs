//! A file as a disk: what is particular to it on its way through the whole target.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lunette::bdev::Bdev;
use lunette::bdev::file::{Cache, FileDisk, Recipe};
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config};

use crate::harness::{SOON, Setup, World, pattern, sense, spec, target, test_unit_ready};

const TARGET: &str = "iqn.2026-11.io.example:file";

/// A file in the system's directory for such, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("lunette-it-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// Serves a new file of 1 MiB as LUN 0 of a target of its own, and logs in there.
fn serve(world: &World, scratch: &Scratch) -> (Arc<FileDisk>, Client) {
    let recipe = Recipe {
        name: "file".to_owned(),
        path: scratch.0.clone(),
        create_bytes: Some(1 << 20),
        block_bytes: None,
        cache: Cache::WriteBack,
        read_only: false,
        uuid: Some([0x77; 16]),
    };
    let disk = Arc::new(FileDisk::new(recipe).unwrap());
    disk.probe().unwrap();
    let registered = Arc::clone(&disk);
    world.control(|control| {
        control.register_bdev(spec(registered)).unwrap();
        control.create_target(&target(TARGET, &["file"], &[(1, 1)])).unwrap();
    });
    (disk, world.login(Config::new("iqn.2026-11.io.example:filer", TARGET)))
}

/// The reactors of these tests wait in the kernel at once when there is nothing to do. Where a completion did not end
/// that wait, the next look at the deadlines would, a tenth of a second later.
#[test]
fn completions_end_a_reactors_wait() {
    let (scratch, world) = (Scratch::new("wakes"), World::start(Setup::default()));
    let (_disk, mut client) = serve(&world, &scratch);
    let begin = Instant::now();
    for index in 0u32..100 {
        let lba = u64::from(index * 8);
        let data = pattern(index, lba, 8, 512);
        client.write(lba, &data).unwrap();
        assert!(client.read(lba, 8).unwrap() == data, "block {lba}");
    }
    let elapsed = begin.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?} for 200 commands");
}

/// Initiators are told that the disk was away, and find everything else as it was.
#[test]
fn a_disk_that_is_opened_anew_is_the_same_logical_unit() {
    const KEY: u64 = 0xaaaa_0000_0000_000a;
    let (scratch, world) = (Scratch::new("reopened"), World::start(Setup::default()));
    let (disk, mut client) = serve(&world, &scratch);
    let ask = |client: &mut Client, cdb| client.run(Command::read(0, cdb, 64)).unwrap().data;
    let serial = ask(&mut client, cdb::inquiry_vpd(0x80, 64));
    let register =
        Command::write(0, cdb::persistent_reserve_out(0, 0, 24), cdb::persistent_reserve_out_list(0, KEY));
    assert!(client.run(register).unwrap().is_good());
    let data = pattern(1, 8, 8, 512);
    client.write(8, &data).unwrap();

    let reread = || {
        let shown = world.change(|control, done, _| control.reread_bdev("file", done));
        assert!(shown.recv_timeout(SOON).unwrap().is_clean);
    };
    disk.close();
    reread();
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x2, 0x04, 0x00));
    disk.reopen(SOON).unwrap();
    reread();
    // NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED; once.
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x28, 0x00));
    assert!(client.run(test_unit_ready(0)).unwrap().is_good());
    assert!(client.read(8, 8).unwrap() == data);
    assert_eq!(ask(&mut client, cdb::inquiry_vpd(0x80, 64)), serial);
    // PRGENERATION 1, one key.
    let keys = ask(&mut client, cdb::persistent_reserve_in(0, 64));
    assert_eq!(keys, [&[0, 0, 0, 1, 0, 0, 0, 8][..], &KEY.to_be_bytes()].concat());
}
