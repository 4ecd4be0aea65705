//! Data: every way that iSCSI has to move it, verified block by block, and what is told where lengths disagree.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::IoError;
use lunette::bdev::error::{Fault, Kind};
use lunette_initiator::scsi::cdb::{self, Flags};
use lunette_initiator::session::{Attribute, Event, Residual};
use lunette_initiator::{Client, Command, Config, Data, Offer, lun};

use crate::harness::{Setup, World, config, pattern, read, sense, test_unit_ready, write};

const KIB: u32 = 1024;

/// FirstBurstLength, MaxBurstLength, both MaxRecvDataSegmentLengths, MaxOutstandingR2T.
const SHAPES: [(u32, u32, u32, u32); 7] = [
    (512, 512, 512, 1),
    (1000, 1000, 1000, 2),
    (1000, 5000, 777, 8),
    (64 * KIB, 256 * KIB, 8 * KIB, 4),
    (256 * KIB, 256 * KIB, 256 * KIB, 1),
    (256 * KIB, 1024 * KIB, 65_537, 3),
    (4096, 16_776_192, 262_144, 8),
];

fn shaped(name: &str, initial_r2t: bool, immediate_data: bool, shape: usize) -> Config {
    let (first, burst, segment, r2ts) = SHAPES[shape];
    let digest = |on: bool| Some(if on { "CRC32C" } else { "None" }.to_owned());
    let offer = Offer {
        // Every combination meets every other kind of shape.
        header_digest: digest(shape.is_multiple_of(2)),
        data_digest: digest(shape % 4 < 2 || initial_r2t != immediate_data),
        initial_r2t: Some(initial_r2t),
        immediate_data: Some(immediate_data),
        first_burst_bytes: Some(first),
        max_burst_bytes: Some(burst),
        max_recv_bytes: Some(segment),
        max_outstanding_r2t: Some(r2ts),
        ..Offer::usual()
    };
    Config { offer, data_out_bytes_max: Some(segment), ..config(name) }
}

/// What was negotiated is what both sides keep to (the initiator checks each PDU), and whatever is written this way is
/// what anybody reads.
fn matrix(initial_r2t: bool, immediate_data: bool) {
    let world = World::start(Setup { disks: vec![(9216, 512), (1152, 4096)], ..Setup::default() });
    let mut reference = world.client("reference");
    for (index, &(first, burst, segment, r2ts)) in SHAPES.iter().enumerate() {
        let mut client = world.login(shaped("shaped", initial_r2t, immediate_data, index));
        let params = client.params().unwrap();
        assert_eq!((params.initial_r2t, params.immediate_data), (initial_r2t, immediate_data));
        assert_eq!(params.recv_bytes_max, segment);
        // RFC 7143 §13.14: FirstBurstLength is irrelevant where no data go unasked.
        assert!(initial_r2t && !immediate_data || params.first_burst_bytes == first);
        assert_eq!(params.max_burst_bytes, burst.min(1024 * KIB));
        assert_eq!(params.max_outstanding_r2t, r2ts);
        for (disk, block_bytes) in [(0, 512), (1, 4096)] {
            client.set_lun(lun::from_number(disk));
            reference.set_lun(lun::from_number(disk));
            let piece = 256 * KIB / block_bytes;
            // One block, some, and what ends just before, at and after the end of a piece.
            let mut sizes = vec![1, 3, piece - 1, piece, piece + 1];
            if segment >= 8 * KIB {
                sizes.extend([2 * piece + 3, 16 * piece]);
            }
            for (seed, blocks) in (0u32..).zip(sizes) {
                let lba = u64::from(seed + 1);
                let data = pattern(seed, lba, blocks, block_bytes);
                client.write(lba, &data).unwrap();
                assert!(reference.read(lba, blocks).unwrap() == data, "written {index} {disk} {blocks}");
                let data = pattern(seed + 100, lba, blocks, block_bytes);
                reference.write(lba, &data).unwrap();
                assert!(client.read(lba, blocks).unwrap() == data, "read {index} {disk} {blocks}");
            }
        }
        client.logout().unwrap();
    }
}

#[test]
fn unsolicited_and_immediate_data() {
    matrix(false, true);
}

#[test]
fn unsolicited_without_immediate_data() {
    matrix(false, false);
}

#[test]
fn immediate_data_then_r2t() {
    matrix(true, true);
}

#[test]
fn r2t_for_everything() {
    matrix(true, false);
}

#[test]
fn an_initiator_may_send_less_unasked_than_was_agreed() {
    let world = World::start(Setup::default());
    let mut client = world.login(Config {
        use_immediate_data: false,
        use_unsolicited_data: false,
        ..shaped("shy", false, true, 5)
    });
    let data = pattern(1, 5, 1500, 512);
    client.write(5, &data).unwrap();
    assert!(client.read(5, 1500).unwrap() == data);
    assert!(client.session().counters().r2ts > 0);
}

#[test]
fn residuals_say_how_lengths_disagree() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    client.write(0, &pattern(1, 0, 8, 512)).unwrap();
    let read = |blocks, bytes| Command::read(0, cdb::read_16(0, blocks, Flags::default()), bytes);
    for (blocks, bytes, moved, residual) in [
        (1, 4096, 512, Residual::Under(3584)),
        (4, 1024, 1024, Residual::Over(1024)),
        (4, 1000, 1000, Residual::Over(1048)),
        (0, 512, 0, Residual::Under(512)),
        (2, 1024, 1024, Residual::None),
    ] {
        let end = client.run(read(blocks, bytes)).unwrap();
        assert!(end.is_good(), "{end:?}");
        assert_eq!((end.received_bytes, end.residual), (moved, residual), "READ {blocks} into {bytes}");
        assert_eq!(end.data, pattern(1, 0, 8, 512)[..moved as usize]);
    }
    // Of a WRITE whole blocks land, and nothing beyond what the CDB names.
    for (seed, blocks, bytes, landed, residual) in [
        (2, 1, 4096, 1, Residual::Under(3584)),
        (3, 4, 1024, 2, Residual::Over(1024)),
        (4, 4, 1000, 1, Residual::Over(1048)),
        (5, 0, 512, 0, Residual::Under(512)),
    ] {
        client.write(0, &pattern(1, 0, 8, 512)).unwrap();
        let data = pattern(seed, 0, 8, 512)[..bytes].to_vec();
        let end = client.run(Command::write(0, cdb::write_16(0, blocks, Flags::default()), data)).unwrap();
        assert!(end.is_good(), "{end:?}");
        assert_eq!(end.residual, residual, "WRITE {blocks} from {bytes}");
        let mut expected = pattern(seed, 0, landed, 512);
        expected.extend(pattern(1, 0, 8, 512).drain(expected.len()..));
        assert!(client.read(0, 8).unwrap() == expected, "WRITE {blocks} from {bytes}");
    }
    let end = client.run(Command::read(0, cdb::inquiry(255), 255)).unwrap();
    let there = end.received_bytes;
    assert_eq!(end.residual, Residual::Under(255 - there));
    assert_eq!(u32::from(end.data[4]) + 5, there, "ADDITIONAL LENGTH tells the same");
    let end = client.run(Command::read(0, cdb::inquiry(5), 255)).unwrap();
    assert_eq!((end.received_bytes, end.residual), (5, Residual::Under(250)));
    let end = client.run(Command::read(0, cdb::inquiry(36), 8)).unwrap();
    assert_eq!((end.received_bytes, end.residual), (8, Residual::Over(28)));
}

#[test]
fn every_read_and_write_meets_the_same_blocks() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let flags = Flags { fua: true, dpo: true, protect: 0 };
    let writes = [
        cdb::write_6(100, 3),
        cdb::write_10(103, 3, flags),
        cdb::write_12(106, 3, flags),
        cdb::write_16(109, 3, flags),
    ];
    for (lba, cdb) in (100..).step_by(3).zip(writes) {
        client.command(cdb, Data::Out(pattern(7, lba, 3, 512).into())).unwrap();
    }
    let reads = [
        cdb::read_6(100, 12),
        cdb::read_10(100, 12, flags),
        cdb::read_12(100, 12, flags),
        cdb::read_16(100, 12, flags),
    ];
    for cdb in reads {
        assert!(client.command(cdb, Data::In(12 * 512)).unwrap().data == pattern(7, 100, 12, 512));
    }
    // READ (6) and WRITE (6): 0 means 256 blocks (SBC-4 §5.8).
    client.command(cdb::write_6(200, 0), Data::Out(pattern(8, 200, 256, 512).into())).unwrap();
    assert!(
        client.command(cdb::read_6(200, 0), Data::In(256 * 512)).unwrap().data == pattern(8, 200, 256, 512)
    );
    for cdb in [cdb::synchronize_cache_10(100, 12), cdb::synchronize_cache_16(0, 0)] {
        client.command(cdb, Data::None).unwrap();
    }
}

#[test]
fn synchronize_cache_reaches_the_device_and_its_failure_the_initiator() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let flush = || Command::new(0, cdb::synchronize_cache_16(0, 0), Data::None);
    let rule = world.disks[0].order(Kind::Flush, Fault::Hold, 1);
    let itt = client.session().command(flush()).unwrap();
    client.ping(b"x").unwrap();
    assert_eq!(world.disks[0].faults.left(rule), 0, "the device has it");
    assert!(client.session().is_sent(itt), "it is not answered before the device is done");
    world.disks[0].faults.release(rule);
    assert!(client.completion(itt).unwrap().is_good());
    world.disks[0].order(Kind::Flush, Fault::Fail(IoError::FlushFailed), 1);
    assert_eq!(sense(&client.run(flush()).unwrap()), (0x3, 0x0c, 0x00));
}

#[test]
fn failures_of_the_device_become_sense_data() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    for (error, write_sense, read_sense) in [
        (IoError::Medium { lba: Some(7) }, (0x3, 0x0c, 0x00), (0x3, 0x11, 0x00)),
        (IoError::NoSpace, (0x7, 0x27, 0x07), (0x7, 0x27, 0x07)),
    ] {
        world.disks[0].order(Kind::Write, Fault::Fail(error), 1);
        assert_eq!(sense(&client.run(write(1, 0, 8)).unwrap()), write_sense);
        world.disks[0].order(Kind::Read, Fault::Fail(error), 1);
        assert_eq!(sense(&client.run(read(0, 8)).unwrap()), read_sense);
    }
    // A piece in the middle of a large READ: what came before it does not make it GOOD.
    let pieces = world.disks[0].faults.add(
        lunette::bdev::error::Rule {
            kind: Kind::Read,
            first_lba: 1024,
            last_lba: 1024,
            fault: Fault::Fail(IoError::Medium { lba: Some(1024) }),
        },
        1,
    );
    let end = client.run(read(0, 2048)).unwrap();
    assert_eq!(sense(&end), (0x3, 0x11, 0x00));
    assert_eq!(world.disks[0].faults.left(pieces.unwrap()), 0);
    assert!(client.run(read(0, 2048)).unwrap().is_good());
}

#[test]
fn a_device_with_a_full_queue_is_waited_for() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    world.disks[0].order(Kind::Any, Fault::Full, 40);
    for n in 0..16 {
        client.session().command(write(n, u64::from(n) * 8, 8).tagged(n.into())).unwrap();
    }
    completions(&mut client, 16);
    for n in 0..16 {
        assert!(client.read(u64::from(n) * 8, 8).unwrap() == pattern(n, u64::from(n) * 8, 8, 512));
    }
}

/// Waits for so many good ends.
fn completions(client: &mut Client, count: usize) -> Vec<lunette_initiator::session::Completion> {
    let mut ends = Vec::new();
    while ends.len() < count {
        match client.wait_event(crate::harness::SOON).unwrap().expect("an end in time") {
            Event::Completed(end) => {
                assert!(end.is_good(), "{end:?}");
                ends.push(end);
            }
            other => panic!("{other:?}"),
        }
    }
    ends
}

#[test]
fn reads_and_writes_pipelined_64_deep() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let mut client = world.login(Config { offer: Offer::with_digests(true, true), ..config("a") });
    // 64 slots of 64 blocks. Each is written in a round and read in the next, while others are written.
    let size = |slot: u32, round: u32| (slot * 7 + round * 13) % 64 + 1;
    let lba = |slot: u32| u64::from(slot) * 64;
    for round in 0..8u32 {
        for slot in 0..64 {
            let tag = u64::from(slot);
            let command = if (slot + round) % 2 == 0 {
                write(round, lba(slot), size(slot, round))
            } else if round > 0 {
                read(lba(slot), size(slot, round - 1))
            } else {
                test_unit_ready(0)
            };
            client.session().command(command.tagged(tag)).unwrap();
        }
        for end in completions(&mut client, 64) {
            let slot = u32::try_from(end.tag).unwrap();
            if (slot + round) % 2 != 0 && round > 0 {
                let blocks = size(slot, round - 1);
                assert!(end.data == pattern(round - 1, lba(slot), blocks, 512), "{round} {slot}");
            }
        }
    }
}

#[test]
fn the_window_grows_under_load() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let width = |client: &mut Client| {
        let (expected, max) = client.session().window();
        max.0.wrapping_sub(expected.0).wrapping_add(1)
    };
    assert_eq!(width(&mut client), 8, "RFC 7143 §4.2.2.1: what a session begins with");
    for round in 0..8 {
        for slot in 0..128u32 {
            client.session().command(write(round, u64::from(slot), 1)).unwrap();
        }
        completions(&mut client, 128);
    }
    assert_eq!(width(&mut client), 128);
}

#[test]
fn two_reactors_serve_one_unit_at_once() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let (mut writer, mut reader) = (world.client("writer"), world.client("reader"));
    let placement = world.placement();
    assert_ne!(placement[0], placement[1]);
    for round in 0..50u32 {
        let (lba, blocks) = (u64::from(round) * 37 % 1000, round * 29 % 700 + 1);
        writer.write(lba, &pattern(round, lba, blocks, 512)).unwrap();
        assert!(reader.read(lba, blocks).unwrap() == pattern(round, lba, blocks, 512), "{round}");
        std::mem::swap(&mut writer, &mut reader);
    }
}

#[test]
fn unsolicited_data_without_a_buffer_is_task_set_full() {
    // The least memory: 4 MiB for unsolicited data, 8 buffers of 256 KiB in it.
    let world = World::start(Setup { pool_bytes: 8 << 20, ..Setup::default() });
    let mut client = world.client("a");
    // The window opens wide enough first.
    for n in 0..64 {
        client.session().command(write(n, u64::from(n), 1)).unwrap();
    }
    completions(&mut client, 64);
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, u32::MAX);
    let itts: Vec<u32> =
        (0..12).map(|n| client.session().command(write(n, u64::from(n) * 512, 512)).unwrap()).collect();
    let mut full = 0;
    for &itt in &itts[8..] {
        let end = client.completion(itt).unwrap();
        full += u32::from(end.status == 0x28);
    }
    assert_eq!(full, 4);
    world.disks[0].faults.arm(rule, 0);
    world.disks[0].faults.release(rule);
    for (n, &itt) in (0u32..).zip(&itts[..8]) {
        assert!(client.completion(itt).unwrap().is_good());
        let lba = u64::from(n) * 512;
        assert!(client.read(lba, 512).unwrap() == pattern(n, lba, 512, 512));
    }
    // Buffers are back: the same again goes through.
    assert!(client.run(write(9, 0, 512)).unwrap().is_good());
}

#[test]
fn task_attributes_and_lun_forms_do_not_change_the_data() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    for (n, attribute) in [Attribute::Untagged, Attribute::Simple, Attribute::Ordered, Attribute::HeadOfQueue]
        .into_iter()
        .enumerate()
    {
        let n = u32::try_from(n).unwrap();
        let command = Command { attribute, lun: lun::flat(0), ..write(n, 8, 600) };
        assert!(client.run(command).unwrap().is_good());
        assert!(client.read(8, 600).unwrap() == pattern(n, 8, 600, 512));
    }
}
