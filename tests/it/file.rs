//! A file as a disk: what is particular to it on its way through the whole target.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lunette::bdev::Bdev;
use lunette::bdev::file::{Cache, FileDisk, Recipe};
use lunette_initiator::{Client, Config};

use crate::harness::{Setup, World, pattern, spec, target};

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
fn serve(world: &World, scratch: &Scratch) -> Client {
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
    world.control(|control| {
        control.register_bdev(spec(disk)).unwrap();
        control.create_target(&target(TARGET, &["file"], &[(1, 1)])).unwrap();
    });
    world.login(Config::new("iqn.2026-11.io.example:filer", TARGET))
}

/// The reactors of these tests wait in the kernel at once when there is nothing to do. Where a completion did not end
/// that wait, the next look at the deadlines would, a tenth of a second later.
#[test]
fn completions_end_a_reactors_wait() {
    let (scratch, world) = (Scratch::new("wakes"), World::start(Setup::default()));
    let mut client = serve(&world, &scratch);
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
