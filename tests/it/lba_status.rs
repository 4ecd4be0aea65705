//! GET LBA STATUS: initiators are told what a disk holds, and one that does not answer the question holds up nobody else.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use lunette::bdev::allocation::Allocation;
use lunette::bdev::{Bdev, Channel, Info, file, raid, split};
use lunette::id::ReactorId;
use lunette_initiator::scsi::cdb;
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::{Client, Command, Data, lun};

use crate::harness::{Setup, TARGET, World, disk, not_run, read, sense, spec, test_unit_ready, until, write};

const COMPLETE: u8 = 0;
const MAPPED: u8 = 0;
const DEALLOCATED: u8 = 1;
const ANCHORED: u8 = 2;

fn get_lba_status(number: u16, lba: u64, bytes: u32) -> Command {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[0x9e, 0x12]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&bytes.to_be_bytes());
    Command::read(lun::from_number(number), cdb, bytes)
}

/// What is told from this block on: where a run begins, its blocks, its provisioning status.
fn runs(client: &mut Client, number: u16, lba: u64) -> Vec<(u64, u32, u8)> {
    let completion = client.run(get_lba_status(number, lba, 8 + 16 * 32)).unwrap();
    assert!(completion.is_good(), "{completion:?}");
    let data = completion.data;
    assert_eq!(u32::from_be_bytes(data[..4].try_into().unwrap()) as usize, data.len() - 4);
    let descriptors = data[8..].chunks_exact(16).map(|bytes| {
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        assert_eq!(bytes[13..], [0; 3]);
        (number(0..8), u32::try_from(number(8..12)).unwrap(), bytes[12])
    });
    descriptors.collect()
}

fn unmap(client: &mut Client, number: u16, lba: u64, blocks: u32) {
    let list = cdb::unmap_list(&[(lba, blocks)]);
    let cdb = cdb::unmap(u16::try_from(list.len()).unwrap());
    let unmap = Command::write(lun::from_number(number), cdb, list);
    assert!(client.run(unmap).unwrap().is_good());
}

/// Whether the kernel takes pages of 4096 bytes one by one.
fn has_small_pages() -> bool {
    let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    rustix::param::page_size() == 4096 && !huge.is_ok_and(|huge| huge.contains("[always]"))
}

/// A world whose LUN 0 is a RAM disk of 1024 blocks, where it can tell pages one by one.
fn with_small_pages() -> Option<World> {
    if !has_small_pages() {
        not_run("the kernel makes hugepages of a RAM disk as it likes");
        return None;
    }
    Some(World::start(Setup { disks: vec![(1024, 512)], ..Setup::default() }))
}

#[test]
fn a_ram_disk_tells_what_was_written_and_not_unmapped_since() {
    let Some(world) = with_small_pages() else { return };
    let mut client = world.client("first");
    assert_eq!(runs(&mut client, 0, 0), [(0, 1024, DEALLOCATED)]);
    assert!(client.run(write(1, 16, 8)).unwrap().is_good());
    assert!(client.run(write(1, 100, 1)).unwrap().is_good());
    let told = [
        (0, 16, DEALLOCATED),
        (16, 8, MAPPED),
        (24, 72, DEALLOCATED),
        (96, 8, MAPPED),
        (104, 920, DEALLOCATED),
    ];
    assert_eq!(runs(&mut client, 0, 0), told);
    assert_eq!(runs(&mut client, 0, 18), [&[(18, 6, MAPPED)], &told[2..]].concat());
    assert_eq!(runs(&mut client, 0, 1023), [(1023, 1, DEALLOCATED)]);
    // As much of it as is wanted, of a length that is told.
    let short = client.run(get_lba_status(0, 0, 24)).unwrap().data;
    assert_eq!(short, [0, 0, 0, 84, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 1, 0, 0, 0]);

    // What is left of a page keeps it.
    unmap(&mut client, 0, 97, 7);
    assert_eq!(runs(&mut client, 0, 0), told);
    unmap(&mut client, 0, 16, 8);
    assert_eq!(runs(&mut client, 0, 0), [&[(0, 96, DEALLOCATED)], &told[3..]].concat());
    assert!(client.run(read(0, 32)).unwrap().data == vec![0; 32 * 512], "as LBPRZ says");
    let zeroes = cdb::write_same_16(96, 8, true);
    assert!(client.run(Command::write(0, zeroes, vec![0; 512])).unwrap().is_good());
    assert_eq!(runs(&mut client, 0, 32), [(32, 992, DEALLOCATED)]);

    let beyond = client.run(get_lba_status(0, 1024, 24)).unwrap();
    assert_eq!(sense(&beyond), (0x5, 0x21, 0x00));
}

#[test]
fn more_runs_than_are_told_at_a_time_are_asked_for_again() {
    let Some(world) = with_small_pages() else { return };
    let mut client = world.client("first");
    for lba in (0..1024).step_by(16) {
        assert!(client.run(write(1, lba, 1)).unwrap().is_good());
    }
    let first = runs(&mut client, 0, 0);
    let (lba, blocks, _) = first[31];
    assert_eq!((first.len(), lba + u64::from(blocks)), (32, 256));
    for lba in [0, 256, 512, 768] {
        for (index, run) in (0..).zip(runs(&mut client, 0, lba)) {
            let status = if index % 2 == 0 { MAPPED } else { DEALLOCATED };
            assert_eq!(run, (lba + index * 8, 8, status));
        }
    }
}

/// LUN 1: strips of 8 KiB over a RAM disk of 512 blocks and the second part of one of 1024; LUN 2: the first part of that.
fn serve_strips(world: &World) {
    let (_, _, whole) = disk(71, 512, 512);
    let (_, _, base) = disk(72, 1024, 512);
    let layout = Arc::new(split::Layout::new(2, 512).unwrap());
    let part = |index| {
        let name = format!("part{index}");
        Arc::new(split::Split::new(name, Arc::clone(&base), index, Arc::clone(&layout)))
    };
    let (first, second) = (part(0), part(1));
    let strips = raid::Raid::new(raid::Recipe {
        name: "strips".to_owned(),
        uuid: [73; 16],
        level: raid::Level::Striped,
        strip_bytes: 8192,
        members: vec![whole, second],
        known: None,
        keeps: None,
    });
    world.control(move |control| {
        control.register_bdev(spec(Arc::new(strips))).unwrap();
        control.register_bdev(spec(first)).unwrap();
        control.add_lun(TARGET, "strips", None).unwrap();
        control.add_lun(TARGET, "part0", None).unwrap();
    });
}

#[test]
fn what_is_made_of_other_disks_tells_what_those_do() {
    let Some(world) = with_small_pages() else { return };
    serve_strips(&world);
    let mut client = world.client("first");
    for number in [1, 2] {
        assert_eq!(sense(&client.run(test_unit_ready(number)).unwrap()).0, 0x6, "POWER ON");
    }
    assert_eq!(runs(&mut client, 1, 0), [(0, 1024, DEALLOCATED)]);
    assert_eq!(runs(&mut client, 2, 0), [(0, 512, DEALLOCATED)]);
    let mut write = |number, lba, blocks: u32| {
        let cdb = cdb::write_16(lba, blocks, cdb::Flags::default());
        let write = Command::write(lun::from_number(number), cdb, vec![7; blocks as usize * 512]);
        assert!(client.run(write).unwrap().is_good());
    };
    // Over the end of a strip, so on both members, and in another one.
    write(1, 24, 16);
    write(1, 80, 8);
    write(2, 504, 8);
    let told = [
        (0, 24, DEALLOCATED),
        (24, 16, MAPPED),
        (40, 40, DEALLOCATED),
        (80, 8, MAPPED),
        (88, 936, DEALLOCATED),
    ];
    assert_eq!(runs(&mut client, 1, 0), told);
    assert_eq!(runs(&mut client, 1, 30), [&[(30, 10, MAPPED)], &told[2..]].concat());
    assert_eq!(runs(&mut client, 1, 1023), [(1023, 1, DEALLOCATED)]);
    assert_eq!(runs(&mut client, 2, 0), [(0, 504, DEALLOCATED), (504, 8, MAPPED)]);
    unmap(&mut client, 1, 24, 16);
    assert_eq!(runs(&mut client, 1, 0), [&[(0, 80, DEALLOCATED)], &told[3..]].concat());
}

/// A new file of 1 MiB in this directory as LUN 1, gone with the test.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn serve(world: &World, directory: &std::path::Path) -> Scratch {
        let path = directory.join(format!("lunette-it-{}-anchors", std::process::id()));
        let recipe = file::Recipe {
            name: "file".to_owned(),
            path: path.clone(),
            create_bytes: Some(1 << 20),
            block_bytes: None,
            cache: file::Cache::WriteBack,
            read_only: false,
            uuid: Some([0x77; 16]),
        };
        let disk = file::FileDisk::new(recipe).unwrap();
        disk.probe().unwrap();
        world.control(|control| {
            control.register_bdev(spec(Arc::new(disk))).unwrap();
            control.add_lun(TARGET, "file", None).unwrap();
        });
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// ANC_SUP of VPD B2h.
fn has_anchors(client: &mut Client, number: u16) -> bool {
    let page = Command::read(lun::from_number(number), cdb::inquiry_vpd(0xb2, 64), 64);
    client.run(page).unwrap().data[5] & 0x02 != 0
}

/// UNMAP with ANCHOR=1.
fn unmap_anchored(number: u16, lba: u64, blocks: u32) -> Command {
    let list = cdb::unmap_list(&[(lba, blocks)]);
    let mut unmap = cdb::unmap(u16::try_from(list.len()).unwrap());
    unmap[1] |= 0x01;
    Command::write(lun::from_number(number), unmap, list)
}

/// WRITE SAME of zeroes with UNMAP=1 ANCHOR=1.
fn write_same_anchored(number: u16, lba: u64, blocks: u32) -> Command {
    let mut same = cdb::write_same_16(lba, blocks, true);
    same[1] |= 0x10;
    Command::write(lun::from_number(number), same, vec![0; 512])
}

#[test]
fn a_file_anchors_where_its_file_system_does() {
    let directory = std::env::temp_dir();
    let magic = rustix::fs::statfs(&directory).unwrap().f_type;
    // ext4, XFS.
    if ![0xef53, 0x5846_5342].contains(&magic) {
        return not_run("the directory for temporary files is neither on ext4 nor on XFS");
    }
    let world = World::start(Setup { disks: vec![(1024, 512)], ..Setup::default() });
    let _scratch = Scratch::serve(&world, &directory);
    let mut client = world.client("anchors");
    assert!(has_anchors(&mut client, 1));
    // POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
    assert_eq!(sense(&client.run(test_unit_ready(1)).unwrap()), (0x6, 0x29, 0x00));
    let write = |lba, blocks: u32| {
        let cdb = cdb::write_16(lba, blocks, cdb::Flags::default());
        Command::write(lun::from_number(1), cdb, vec![7; blocks as usize * 512])
    };
    let commands = [
        write(64, 16),
        unmap_anchored(1, 72, 8),
        unmap_anchored(1, 256, 16),
        write_same_anchored(1, 512, 8),
        Command::new(lun::from_number(1), cdb::synchronize_cache_10(0, 0), Data::None),
    ];
    for command in commands {
        let completion = client.run(command).unwrap();
        assert!(completion.is_good(), "{completion:?}");
    }
    let told = [
        (0, 64, DEALLOCATED),
        (64, 8, MAPPED),
        (72, 8, ANCHORED),
        (80, 176, DEALLOCATED),
        (256, 16, ANCHORED),
        (272, 240, DEALLOCATED),
        (512, 8, ANCHORED),
        (520, 1528, DEALLOCATED),
    ];
    assert_eq!(runs(&mut client, 1, 0), told);
    assert_eq!(runs(&mut client, 1, 260)[0], (260, 12, ANCHORED));
    let blocks = Command::read(lun::from_number(1), cdb::read_16(64, 16, cdb::Flags::default()), 16 * 512);
    let data = client.run(blocks).unwrap().data;
    assert!(data[..8 * 512] == [7; 8 * 512] && data[8 * 512..] == [0; 8 * 512]);
    assert!(client.run(write(256, 8)).unwrap().is_good());
    assert_eq!(runs(&mut client, 1, 256)[..2], [(256, 8, MAPPED), (264, 8, ANCHORED)]);
}

#[test]
fn who_cannot_anchor_says_so() {
    let world = World::start(Setup { disks: vec![(1024, 512)], ..Setup::default() });
    let mut client = world.client("plain");
    assert!(!has_anchors(&mut client, 0));
    assert!(client.run(write(1, 16, 8)).unwrap().is_good());
    for command in [unmap_anchored(0, 16, 8), write_same_anchored(0, 16, 8)] {
        assert_eq!(sense(&client.run(command).unwrap()), (0x5, 0x24, 0x00));
    }
    assert!(client.run(read(16, 8)).unwrap().data != vec![0; 8 * 512], "nothing was done");
}

/// A disk that does not say which blocks take space until the test lets it.
#[derive(Debug)]
struct Mute {
    inner: Arc<dyn Bdev>,
    gate: Mutex<Receiver<()>>,
    asked: AtomicU32,
}

impl Bdev for Mute {
    fn info(&self) -> Info {
        Info { name: "mute".to_owned(), ..self.inner.info() }
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        self.inner.open(reactor)
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        self.asked.fetch_add(1, Ordering::Release);
        self.gate.lock().unwrap().recv().unwrap();
        self.inner.allocation(lba, blocks)
    }
}

#[test]
fn a_disk_that_does_not_answer_holds_up_nobody_else() {
    let world = World::start(Setup { disks: vec![(1024, 512)], ..Setup::default() });
    let (let_go, gate) = mpsc::channel();
    let (_, _, inner) = disk(77, 64, 512);
    let mute = Arc::new(Mute { inner, gate: Mutex::new(gate), asked: AtomicU32::new(0) });
    let registered = Arc::clone(&mute);
    world.control(|control| {
        control.register_bdev(spec(registered)).unwrap();
        control.add_lun(TARGET, "mute", None).unwrap();
    });
    let (mut client, mut other) = (world.client("first"), world.client("other"));
    for client in [&mut client, &mut other] {
        assert_eq!(sense(&client.run(test_unit_ready(1)).unwrap()).0, 0x6, "POWER ON");
    }
    let held = client.session().command(get_lba_status(1, 0, 24)).unwrap();
    until("it is asked", || {
        client.ping(b"").unwrap();
        mute.asked.load(Ordering::Acquire) == 1
    });
    let behind = client.session().command(get_lba_status(1, 0, 24)).unwrap();
    for client in [&mut client, &mut other] {
        assert!(!runs(client, 0, 0).is_empty());
        assert!(client.run(write(1, 0, 8)).unwrap().is_good());
    }
    // Whoever gives up is answered at once, what waits behind it, too.
    for itt in [behind, held] {
        let tmf = Tmf { referenced_itt: itt, ..Tmf::new(Function::AbortTask, lun::from_number(1)) };
        assert_eq!(client.task_management(tmf).unwrap(), COMPLETE);
    }
    // One of another session, which a reset ends.
    let reset = other.session().command(get_lba_status(1, 0, 24)).unwrap();
    other.ping(b"").unwrap();
    let tmf = Tmf::new(Function::LogicalUnitReset, lun::from_number(1));
    assert_eq!(client.task_management(tmf).unwrap(), COMPLETE);
    assert_eq!(other.completion(reset).unwrap().status, 0x40);
    assert_eq!(mute.asked.load(Ordering::Acquire), 1, "one thread for a unit");

    let_go.send(()).unwrap();
    let_go.send(()).unwrap();
    for client in [&mut client, &mut other] {
        assert_eq!(sense(&client.run(test_unit_ready(1)).unwrap()).0, 0x6);
    }
    assert_eq!(runs(&mut client, 1, 0).iter().map(|run| run.1).sum::<u32>(), 64);
}
