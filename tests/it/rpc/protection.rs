//! RAM disks with protection information (SBC-4 §4.22), made by SPDK's parameters: what is written wrong is refused with its sense, what
//! is right comes back with its blocks.

use std::net::SocketAddr;

use lunette_initiator::session::Completion;
use lunette_initiator::{Client, Command, Config};
use serde_json::json;

use super::daemon::Managed;
use crate::harness::{pattern, sense, test_unit_ready};

const TARGET: &str = "iqn.2026-11.io.example:protected";
const GUARD: (u8, u8, u8) = (0xb, 0x10, 0x01);
const REFERENCE_TAG: (u8, u8, u8) = (0xb, 0x10, 0x03);

/// A block of FFh bytes, and its CRC-16/T10-DIF.
const BLOCK: [u8; 512] = [0xff; 512];
const BLOCK_GUARD: [u8; 2] = BLOCK_CRC.to_be_bytes();
const BLOCK_CRC: u16 = crc(&BLOCK);

/// Bit by bit, unlike the code under test.
const fn crc(bytes: &[u8]) -> u16 {
    let (mut crc, mut at) = (0_u16, 0);
    while at < 8 * bytes.len() {
        let bit = bytes[at / 8] >> (7 - at % 8) & 1 == 1;
        let top = crc & 0x8000 != 0;
        crc <<= 1;
        if bit != top {
            crc ^= 0x8bb7;
        }
        at += 1;
    }
    crc
}

fn serve(dif_type: u32) -> (Managed, Client) {
    let daemon = Managed::start();
    let disk = json!({"name": "m", "num_blocks": 4096, "block_size": 512, "md_size": 8, "md_interleave": true, "dif_type": dif_type,
        "dif_is_head_of_md": true, "dif_pi_format": 0});
    daemon.ok("bdev_malloc_create", &disk.to_string());
    daemon.ok("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#);
    daemon.ok("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#);
    let target = json!({"name": TARGET, "alias_name": "", "queue_depth": 8, "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
        "luns": [{"bdev_name": "m", "lun_id": 0}]});
    daemon.ok("iscsi_create_target_node", &target.to_string());
    let port = daemon.ok("iscsi_get_portal_groups", "{}")[0]["portals"][0]["port"].clone();
    let address = SocketAddr::from(([127, 0, 0, 1], port.as_str().unwrap().parse().unwrap()));
    let mut client = Client::connect(address, Config::new("iqn.2026-11.io.example:host", TARGET)).unwrap();
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x00));
    (daemon, client)
}

/// READ(10) or WRITE(10) with the protection field.
fn cdb(opcode: u8, field: u8, lba: u8, blocks: u16) -> [u8; 16] {
    let [high, low] = blocks.to_be_bytes();
    let mut cdb = [0; 16];
    cdb[..10].copy_from_slice(&[opcode, field << 5, 0, 0, 0, lba, 0, high, low, 0]);
    cdb
}

fn read(client: &mut Client, field: u8, lba: u8, blocks: u16) -> Completion {
    let bytes = u32::from(blocks) * if field == 0 { 512 } else { 520 };
    client.run(Command::read(0, cdb(0x28, field, lba, blocks), bytes)).unwrap()
}

fn write(client: &mut Client, field: u8, lba: u8, data: Vec<u8>) -> Completion {
    let blocks = u16::try_from(data.len() / if field == 0 { 512 } else { 520 }).unwrap();
    client.run(Command::write(0, cdb(0x2a, field, lba, blocks), data)).unwrap()
}

/// A block and a tuple.
fn with(tuple: [u8; 8]) -> Vec<u8> {
    [&BLOCK[..], &tuple].concat()
}

fn right(lba: u8) -> [u8; 8] {
    [BLOCK_GUARD[0], BLOCK_GUARD[1], 0x12, 0x34, 0, 0, 0, lba]
}

#[test]
fn what_is_written_without_comes_back_with_what_belongs_to_it() {
    let (daemon, mut client) = serve(1);
    let shown = daemon.ok("bdev_get_bdevs", "{}")[0].clone();
    let told = ["md_size", "md_interleave", "dif_type", "dif_is_head_of_md"].map(|name| shown[name].clone());
    assert_eq!(told, [json!(8), json!(true), json!(1), json!(true)]);
    // Never written: nothing to check.
    let untouched = read(&mut client, 1, 9, 1);
    assert_eq!(untouched.data, [&[0; 512][..], &[0xff; 8]].concat());
    assert!(write(&mut client, 0, 7, [BLOCK, BLOCK].concat()).is_good());
    let [g, h] = BLOCK_GUARD;
    let want = [&BLOCK[..], &[g, h, 0, 0, 0, 0, 0, 7], &BLOCK, &[g, h, 0, 0, 0, 0, 0, 8]].concat();
    for field in 1..=5 {
        assert!(read(&mut client, field, 7, 2).data == want, "RDPROTECT {field}");
    }
    assert!(read(&mut client, 0, 7, 2).data == [BLOCK, BLOCK].concat());
    for field in [6, 7] {
        assert_eq!(sense(&read(&mut client, field, 7, 1)), (0x5, 0x24, 0x00));
    }
}

#[test]
fn what_is_wrong_is_refused_by_what_is_wrong_and_not_written() {
    let (_daemon, mut client) = serve(1);
    assert!(write(&mut client, 1, 7, with(right(7))).is_good());
    assert!(read(&mut client, 1, 7, 1).data == with(right(7)), "the application tag is the initiator's");
    let [g, h, a, b, ..] = right(7);
    let (bad_guard, bad_tag) = ([g, h ^ 1, a, b, 0, 0, 0, 8], [g, h, a, b, 0, 0, 0, 9]);
    for (field, tuple, want) in [
        (1, bad_guard, Some(GUARD)),
        (1, bad_tag, Some(REFERENCE_TAG)),
        (2, bad_tag, Some(REFERENCE_TAG)),
        (4, bad_guard, Some(GUARD)),
        (5, bad_guard, Some(GUARD)),
        (5, bad_tag, Some(REFERENCE_TAG)),
    ] {
        // A right block before it is not written either.
        let data = [with(right(7)), with(tuple)].concat();
        assert_eq!(Some(sense(&write(&mut client, field, 7, data))), want, "WRPROTECT {field}, {tuple:x?}");
        assert!(read(&mut client, 0, 8, 1).data == [0; 512]);
    }
    // What is not to be checked is taken, and then found wrong by who checks.
    assert!(write(&mut client, 2, 8, with(bad_guard)).is_good());
    assert_eq!(sense(&read(&mut client, 1, 8, 1)), GUARD);
    assert_eq!(sense(&read(&mut client, 0, 8, 1)), GUARD, "also where it is not sent");
    assert!(read(&mut client, 3, 8, 1).data == with(bad_guard));
    assert!(write(&mut client, 4, 8, with(bad_tag)).is_good());
    assert_eq!(sense(&read(&mut client, 2, 8, 1)), REFERENCE_TAG);
    assert!(read(&mut client, 4, 8, 1).is_good());
    // Application tag FFFFh: nothing of it is checked.
    let open = [0, 0, 0xff, 0xff, 1, 2, 3, 4];
    assert!(write(&mut client, 1, 8, with(open)).is_good());
    assert!(read(&mut client, 1, 8, 1).data == with(open));
    // VERIFY reads, and so checks.
    assert!(write(&mut client, 3, 8, with(bad_guard)).is_good());
    let mut verify = [0; 16];
    verify[..10].copy_from_slice(&[0x2f, 0x20, 0, 0, 0, 8, 0, 0, 1, 0]);
    let verify = Command::new(0, verify, lunette_initiator::Data::None);
    assert_eq!(sense(&client.run(verify.clone()).unwrap()), GUARD);
    assert!(write(&mut client, 0, 8, BLOCK.to_vec()).is_good());
    assert!(client.run(verify).unwrap().is_good());
}

#[test]
fn as_much_as_one_command_may_move() {
    let (_daemon, mut client) = serve(1);
    let blocks = pattern(3, 0, 504, 512);
    let data: Vec<u8> = (0_u32..)
        .zip(blocks.chunks(512))
        .flat_map(|(lba, block)| [block, &crc(block).to_be_bytes(), &[0, 0], &lba.to_be_bytes()].concat())
        .collect();
    assert_eq!(data.len(), 504 * 520);
    assert!(write(&mut client, 1, 0, data.clone()).is_good());
    assert!(read(&mut client, 1, 0, 504).data == data);
    assert!(read(&mut client, 0, 0, 504).data == blocks);
    assert_eq!(sense(&read(&mut client, 1, 0, 505)), (0x5, 0x24, 0x00));
}

#[test]
fn type_3_has_no_reference_tag() {
    let (_daemon, mut client) = serve(3);
    let [g, h, ..] = right(0);
    assert!(write(&mut client, 1, 7, with([g, h, 1, 2, 3, 4, 5, 6])).is_good());
    assert!(read(&mut client, 1, 7, 1).data == with([g, h, 1, 2, 3, 4, 5, 6]));
    assert_eq!(sense(&write(&mut client, 1, 7, with([g, h ^ 1, 1, 2, 3, 4, 5, 6]))), GUARD);
}

/// A command of 32 bytes, of one block, whose reference tag is expected to be `tag`.
fn long(action: u8, field: u8, lba: u8, tag: u8, data: lunette_initiator::Data) -> Command {
    long_of(1, action, field << 5, lba, tag, data)
}

/// The same of so many blocks, with the flags that stand beside the field.
fn long_of(blocks: u8, action: u8, flags: u8, lba: u8, tag: u8, data: lunette_initiator::Data) -> Command {
    let first = [0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, flags, 0, 0, 0, 0, 0];
    let rest = [0, 17, 1, 0, 0, 0, 0, lba, 0, 0, 0, tag, 0x12, 0x34, 0xff, 0xff, 0, 0, 0, blocks];
    Command { ahs: rest.to_vec(), ..Command::new(0, first, data) }
}

#[test]
fn type_2_has_the_reference_tags_that_its_commands_say() {
    use lunette_initiator::Data;
    let (daemon, mut client) = serve(2);
    assert_eq!(daemon.ok("bdev_get_bdevs", "{}")[0]["dif_type"], json!(2));
    let [g, h, ..] = right(0);
    let tagged = |tag| with([g, h, 1, 2, 0, 0, 0, tag]);
    let mut run = |action, field, tag, data| client.run(long(action, field, 7, tag, data)).unwrap();
    // WRITE(32), READ(32), VERIFY(32): the tag is not the address.
    assert_eq!(sense(&run(0x0b, 1, 7, Data::Out(tagged(99).into()))), REFERENCE_TAG);
    assert!(run(0x0b, 1, 99, Data::Out(tagged(99).into())).is_good());
    assert!(run(0x09, 1, 99, Data::In(520)).data == tagged(99));
    assert_eq!(sense(&run(0x09, 1, 7, Data::In(520))), REFERENCE_TAG);
    assert!(run(0x09, 4, 7, Data::In(520)).data == tagged(99), "only the guard");
    assert!(run(0x0a, 1, 99, Data::None).is_good());
    assert_eq!(sense(&run(0x0a, 1, 7, Data::None)), REFERENCE_TAG);
    assert!(run(0x0a, 4, 7, Data::None).is_good());
    // A guard that is wrong.
    let wrong = with([g, h ^ 1, 1, 2, 0, 0, 0, 99]);
    assert_eq!(sense(&run(0x0b, 1, 99, Data::Out(wrong.clone().into()))), GUARD);
    assert!(run(0x0b, 2, 99, Data::Out(wrong.into())).is_good());
    assert_eq!(sense(&run(0x0a, 1, 99, Data::None)), GUARD);
    assert_eq!(sense(&read(&mut client, 0, 7, 1)), GUARD, "also where nothing is expected");
    // Shorter ones go without; what they write has a tag that nobody expects.
    assert_eq!(sense(&read(&mut client, 1, 7, 1)), (0x5, 0x20, 0x00));
    assert_eq!(sense(&write(&mut client, 1, 7, tagged(7))), (0x5, 0x20, 0x00));
    assert!(write(&mut client, 0, 7, BLOCK.to_vec()).is_good());
    assert!(read(&mut client, 0, 7, 1).data == BLOCK);
    let made = client.run(long(0x09, 4, 7, 7, Data::In(520))).unwrap();
    assert!(made.data == with([g, h, 0, 0, 0xff, 0xff, 0xff, 0xff]));
}

#[test]
fn write_and_verify_and_write_same_of_type_2() {
    use lunette_initiator::Data;
    let (_daemon, mut client) = serve(2);
    let [g, h, ..] = right(0);
    let tagged = |tag| with([g, h, 1, 2, 0, 0, 0, tag]);
    let tags = |from: u8| (from..from + 3).flat_map(tagged).collect::<Vec<u8>>();
    let mut run = |action, flags, tag, data| client.run(long_of(3, action, flags, 7, tag, data)).unwrap();
    // WRITE AND VERIFY(32), without and with a comparison.
    for (flags, tag) in [(0x20, 50), (0x22, 60)] {
        assert_eq!(sense(&run(0x0c, flags, tag + 1, Data::Out(tags(tag).into()))), REFERENCE_TAG);
        assert!(run(0x0c, flags, tag, Data::Out(tags(tag).into())).is_good());
        assert!(run(0x09, 0x20, tag, Data::In(3 * 520)).data == tags(tag));
    }
    let wrong = [tagged(60), tagged(61), with([g, h ^ 1, 1, 2, 0, 0, 0, 62])].concat();
    assert_eq!(sense(&run(0x0c, 0x20, 60, Data::Out(wrong.into()))), GUARD);
    assert!(run(0x09, 0x20, 60, Data::In(3 * 520)).data == tags(60), "nothing of it is written");

    // WRITE SAME(32): the reference tags go on from the one that is sent.
    assert_eq!(sense(&run(0x0d, 0x20, 71, Data::Out(tagged(70).into()))), REFERENCE_TAG);
    assert!(run(0x09, 0x20, 60, Data::In(3 * 520)).data == tags(60));
    assert!(run(0x0d, 0x20, 70, Data::Out(tagged(70).into())).is_good());
    assert!(run(0x09, 0x20, 70, Data::In(3 * 520)).data == tags(70));
    let wrong = with([g, h ^ 1, 1, 2, 0, 0, 0, 70]);
    assert_eq!(sense(&run(0x0d, 0x20, 70, Data::Out(wrong.into()))), GUARD);
    // A block without its tuple is no data of this command.
    assert_eq!(sense(&run(0x0d, 0x20, 70, Data::Out(BLOCK.to_vec().into()))).0, 0x5);
    // What unmapped blocks read as unmaps.
    let unmapped = [&[0; 512][..], &[0xff; 8]].concat();
    assert!(run(0x0d, 0x28, 70, Data::Out(unmapped.clone().into())).is_good());
    assert!(run(0x09, 0x20, 70, Data::In(3 * 520)).data == unmapped.repeat(3));
}

#[test]
fn what_scsi_cannot_show_is_refused() {
    let daemon = Managed::start();
    for (size, kind, format, why) in [
        (8, 0, 0, "md_size: without dif_type nobody could reach metadata"),
        (16, 1, 0, "md_size: protection information has 8 bytes, and there is nothing beside it"),
        (8, 1, 1, "dif_pi_format: a guard of 16 bits (0) is all that SCSI knows"),
        (8, 9, 0, "dif_type: 0, 1, 2 or 3"),
    ] {
        let disk = json!({"name": "m", "num_blocks": 8, "block_size": 512, "md_size": size, "dif_type": kind, "dif_pi_format": format});
        let refused = daemon.refused("bdev_malloc_create", &disk.to_string());
        assert_eq!(refused, (-22, format!("Invalid argument: {why}")));
    }
}
