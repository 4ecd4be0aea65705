//! Who a device is, what follows from that, and that it is found again.

use std::sync::{Arc, Mutex};

use super::{DISK, NAA, Rig, bytes_of, cdb, disk, key, recipe, until};
use crate::bdev::pass::{Flow, Passes};
use crate::bdev::sg::slots::fake::{Command, Fake, Reply};
use crate::bdev::sg::{OpenError, OpensFirst, Recipe, SgDisk, told};
use crate::bdev::{Bdev, ChannelState, Io, IoError, Op, Refused};
use crate::limits::PROBE_NS;
use crate::time::Tick;

#[test]
fn a_device_says_who_it_is() {
    let fake = Fake::new(1 << 18, |mut command| disk(&mut command).unwrap_or(Reply::GOOD));
    let sg = SgDisk::behind(recipe(None), fake);
    assert_eq!((sg.info().blocks, sg.info().passes), (0, Some(Passes { is_blocks: false })));
    sg.find().unwrap();
    let about = sg.about().unwrap();
    assert_eq!(about.to_string(), "ACME Rocket disk 0042 (disk)");
    assert_eq!((about.capacity, about.is_removable), (Some((1000, 512)), false));
    let info = sg.info();
    assert_eq!((info.blocks, info.block_bytes), (1000, 512));
    assert_eq!(info.passes, Some(Passes { is_blocks: true }));
    assert_eq!((info.uuid, info.uuid[6] >> 4), (about.uuid, 8));
}

#[test]
fn another_device_at_its_path_is_not_served() {
    let fake = Fake::new(1 << 18, |mut command| disk(&mut command).unwrap_or(Reply::GOOD));
    let uuid = {
        let sg = SgDisk::behind(recipe(None), Arc::clone(&fake) as Arc<dyn OpensFirst>);
        sg.find().unwrap();
        sg.info().uuid
    };
    SgDisk::behind(recipe(Some(uuid)), Arc::clone(&fake) as Arc<dyn OpensFirst>).find().unwrap();
    let error = SgDisk::behind(recipe(Some([9; 16])), fake).find().unwrap_err();
    assert!(matches!(error, OpenError::Another { .. }), "{error}");
}

#[test]
fn a_tape_has_no_blocks_and_a_unit_attention_is_asked_past() {
    let attentions = Mutex::new(2);
    let fake = Fake::new(1 << 18, move |command| {
        let mut attentions = attentions.lock().unwrap();
        if command.cdb[1] == 1 && *attentions > 0 {
            *attentions -= 1;
            let sense = vec![0x72, 6, 0x29, 0, 0, 0, 0, 0];
            return Reply::Ended { status: 2, host: 0, sense, residual: command.data.len() };
        }
        match command.cdb {
            [0x12, 0, ..] => {
                bytes_of(b"\x01\x80\x06\x02\x1f\0\0\0ACME    Reel            0001", command.data)
            }
            [0x12, 1, 0x80, ..] => bytes_of(&[1, 0x80, 0, 2, b'7', b'7'], command.data),
            _ => Reply::Ended { status: 2, host: 0, sense: vec![0x70, 0, 5, 0], residual: 0 },
        }
    });
    let sg = SgDisk::behind(recipe(None), fake);
    sg.find().unwrap();
    assert_eq!(sg.about().unwrap().to_string(), "ACME Reel 0001 (tape)");
    assert_eq!((sg.about().unwrap().is_removable, sg.info().blocks), (true, 1));
    assert_eq!(sg.info().passes, Some(Passes { is_blocks: false }));
}

/// A device of this type without a medium, which does this with what does not ask who it is.
fn empty(
    device_type: u8,
    part_bytes_max: u32,
    device: impl Fn(Command<'_>) -> Reply + Send + Sync + 'static,
) -> SgDisk {
    let fake = Fake::new(part_bytes_max, move |command| match command.cdb {
        [0x12, 0, ..] => {
            let mut said = DISK;
            said[0] = device_type;
            bytes_of(&said, command.data)
        }
        // NOT READY, MEDIUM NOT PRESENT.
        [0x12, ..] | [0x25, ..] => {
            let sense = vec![0x70, 0, 2, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3a, 0];
            Reply::Ended { status: 2, host: 0, sense, residual: command.data.len() }
        }
        _ => device(command),
    });
    let sg = SgDisk::behind(recipe(None), fake);
    sg.find().unwrap();
    sg
}

#[test]
fn what_is_moved_by_motors_has_time() {
    for (device_type, cdb_bytes, timeout_ms) in [
        (0x01, &[0x08, 0, 0, 0, 12][..], 900_000),
        (0x08, &[0xb8, 0, 0, 0], 900_000),
        (0x01, &[0x13], 14_400_000),
        (0x0d, &[0x1c, 1, 2], 5000),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let sg = empty(device_type, 1 << 18, move |command| {
            log.lock().unwrap().push(command.timeout_ms);
            Reply::GOOD
        });
        let mut rig = Rig::new(&sg);
        rig.run(cdb(cdb_bytes), Flow::None, None);
        assert_eq!(*seen.lock().unwrap(), [timeout_ms], "{device_type:#x} {cdb_bytes:02x?}");
    }
    for opcode in [0x0b, 0x13, 0x2f, 0x3b, 0x54, 0x85, 0x8f, 0xaf, 0xb5] {
        assert!(told::takes_long(&cdb(&[opcode])), "{opcode:#x}");
    }
}

#[test]
fn what_a_drive_reads_is_cut_though_it_was_empty_when_it_was_found() {
    for (device_type, block_bytes, count) in [(0x05, 2048, 4), (0x00, 512, 16)] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let sg = empty(device_type, 4096, move |command| {
            log.lock().unwrap().push((command.cdb[5], command.cdb[8], command.data.len()));
            Reply::GOOD
        });
        assert_eq!((sg.info().blocks, sg.info().block_bytes), (1, block_bytes));
        assert_eq!(sg.info().passes, Some(Passes { is_blocks: true }));
        let mut rig = Rig::new(&sg);
        rig.run(cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, count]), Flow::In, Some(rig.buf(8192)));
        let half = count / 2;
        assert_eq!(*seen.lock().unwrap(), [(0, half, 4096), (half, half, 4096)]);
        // A medium with other blocks.
        seen.lock().unwrap().clear();
        rig.run(cdb(&[0x28, 0, 0, 0, 0, 0, 0, 0, 7]), Flow::In, Some(rig.buf(8192)));
        assert_eq!(*seen.lock().unwrap(), [(0, 7, 8192)]);
    }
}

/// Whether it is ready, once its channel has looked.
fn is_served(rig: &mut Rig) -> bool {
    rig.channel.poll(&mut rig.out, 64, Tick::ZERO);
    rig.channel.state() == ChannelState::Ready
}

/// A device that is plugged in again, at whose path there was another one meanwhile.
#[test]
fn a_device_that_comes_back_is_served_again() {
    let serial = Arc::new(Mutex::new(b'5'));
    let plugged = Arc::clone(&serial);
    let fake = Fake::new(1 << 18, move |mut command| match command.cdb {
        [0x12, 1, 0x83, ..] => {
            let mut said = NAA;
            said[15] = *plugged.lock().unwrap();
            bytes_of(&said, command.data)
        }
        [0, 0, 0, 0, 0, 1] => {
            // From now on.
            *plugged.lock().unwrap() = b'6';
            Reply::Gone
        }
        _ => disk(&mut command).unwrap_or(Reply::GOOD),
    });
    let disk = SgDisk::behind(recipe(None), fake);
    disk.find().unwrap();
    let mut rig = Rig::new(&disk);
    rig.submit(1, cdb(&[0, 0, 0, 0, 0, 1]), Flow::None, None);
    assert_eq!(rig.ended().result, Err(IoError::Gone));
    assert!(disk.finder.find(Some(disk.info().uuid)).is_err(), "it is another one");
    assert!(!is_served(&mut rig));
    *serial.lock().unwrap() = b'5';
    until("it is looked for every second", || is_served(&mut rig));
    assert_eq!(rig.run(cdb(&[0x12, 0, 0, 0, 36]), Flow::In, Some(rig.buf(36))).2.as_deref(), Some(&DISK[..]));
}

/// A reactor that gets no file takes the device away from no other, and has one as soon as there is room.
#[test]
fn one_that_cannot_be_opened_once_more_is_not_gone() {
    let fake = Fake::new(1 << 18, |mut command| disk(&mut command).unwrap_or(Reply::GOOD));
    let sg = SgDisk::behind(recipe(None), Arc::clone(&fake) as Arc<dyn OpensFirst>);
    sg.find().unwrap();
    let mut first = Rig::new(&sg);
    for errno in [libc::EMFILE, libc::ENOMEM, libc::EBUSY, libc::EACCES] {
        fake.refuse(errno);
        let mut second = Rig::new(&sg);
        assert_eq!(second.channel.state(), ChannelState::Gone);
        assert_eq!(first.run(cdb(&[0]), Flow::None, None).0.status, 0);
        assert_eq!(first.channel.state(), ChannelState::Ready, "{errno}");
        second.channel.poll(&mut second.out, 64, Tick::ZERO);
        assert_eq!(second.channel.state(), ChannelState::Gone, "nobody uses it");
        let io =
            || Io { tag: key(9), op: Op::Pass { cdb: cdb(&[0]), flow: Flow::None, bytes: 0 }, data: None };
        let asks = |second: &mut Rig, now, is_refused| {
            fake.refuse(if is_refused { errno } else { 0 });
            // The thread may be as fast.
            match second.channel.submit(io(), now) {
                Err(Refused::NotReady(_)) => {}
                Err(Refused::Gone(_)) => assert!(is_refused, "{errno}"),
                Ok(()) => {
                    assert!(!is_refused, "{errno}");
                    second.ended();
                    second.told(9);
                }
                Err(Refused::Full(_)) => panic!("{errno}"),
            }
            until("it is tried", || {
                second.channel.poll(&mut second.out, 64, now);
                second.channel.state() != ChannelState::Opening
            });
        };
        asks(&mut second, Tick::ZERO, true);
        // What has waited for that is told so.
        assert!(matches!(second.channel.submit(io(), Tick::ZERO), Err(Refused::Gone(_))));
        asks(&mut second, Tick::ZERO.after_ns(PROBE_NS), false);
        assert_eq!(second.run(cdb(&[0]), Flow::None, None).0.status, 0);
    }
}

/// Threads of this process that have such a name.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|of| of.trim() == name).count()
}

#[test]
fn one_thread_looks_for_a_device_however_often_it_is_lost() {
    let fake = Fake::new(1 << 18, |mut command| match command.cdb {
        [0, 0, 0, 0, 0, 1] => Reply::Gone,
        _ => disk(&mut command).unwrap_or(Reply::GOOD),
    });
    let sg = SgDisk::behind(Recipe { name: "often".to_owned(), ..recipe(None) }, fake);
    assert_eq!(threads("sg-often"), 0);
    sg.find().unwrap();
    // Another reactor's, which hears of nothing.
    let mut other = Rig::new(&sg);
    let mut rig = Rig::new(&sg);
    for _ in 0..4 {
        rig.submit(1, cdb(&[0, 0, 0, 0, 0, 1]), Flow::None, None);
        assert_eq!(rig.ended().result, Err(IoError::Gone));
        until("it is found again", || is_served(&mut rig));
        assert_eq!(rig.run(cdb(&[0]), Flow::None, None).0.status, 0);
        // One that it has begun has its name until it gives itself another.
        until("there is one thread", || threads("sg-often") == 1);
    }
    // It does not try the file of a device that is known to be gone.
    until("it goes on too", || is_served(&mut other));
    assert_eq!(other.run(cdb(&[0]), Flow::None, None).0.status, 0);
    drop((sg, rig, other));
    until("it ends with its device", || threads("sg-often") == 0);
}
