//! What hosts that cannot be here send, in their order (docs/hosts.md): VMware's detection, locking, zeroing and unmapping (VAAI),
//! and what Windows asks of a disk before a cluster may have it. Copies are in `copy`.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette_initiator::scsi::{Sense, cdb, status};
use lunette_initiator::session::Completion;
use lunette_initiator::{Client, Command};

use crate::harness::{Setup, World, pattern, read, sense, test_unit_ready, write};

/// 8 MiB with blocks of 512 bytes, and two cores.
fn world() -> World {
    World::start(Setup { reactors: 2, ..Setup::default() })
}

fn asked(client: &mut Client, cdb: cdb::Cdb) -> Vec<u8> {
    let end = client.run(Command::read(0, cdb, 4096)).unwrap();
    assert!(end.is_good(), "{cdb:02x?}: {end:?}");
    end.data
}

#[track_caller]
fn good(end: &Completion) {
    assert!(end.is_good(), "{end:?}");
}

#[track_caller]
fn conflict(end: &Completion) {
    assert_eq!(end.status, status::RESERVATION_CONFLICT, "{end:?}");
}

fn be32(page: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(page[at..at + 4].try_into().unwrap())
}

/// Whether a VPD page 83h has a NAA designator of the logical unit.
fn has_naa(page: &[u8]) -> bool {
    let mut rest = &page[4..];
    while let [_, kind, _, length, ..] = *rest {
        if kind & 0x3f == 0x03 {
            return true;
        }
        rest = &rest[4 + usize::from(length)..];
    }
    false
}

#[test]
fn vmware_finds_out_what_a_disk_can_do() {
    let world = world();
    let mut client = world.client("esx");
    assert_eq!(asked(&mut client, cdb::inquiry(96))[5] & 0x08, 0x08, "3PC");
    assert!(has_naa(&asked(&mut client, cdb::inquiry_vpd(0x83, 255))));
    let limits = asked(&mut client, cdb::inquiry_vpd(0xb0, 64));
    assert!(limits[5] >= 1, "MAXIMUM COMPARE AND WRITE LENGTH");
    assert!(
        be32(&limits, 20) >= 2048 && be32(&limits, 24) >= 1,
        "MAXIMUM UNMAP LBA COUNT, and of descriptors"
    );
    assert_eq!(asked(&mut client, cdb::inquiry_vpd(0xb2, 64))[5] & 0xc0, 0xc0, "LBPU, LBPWS");
    let capacity = asked(&mut client, cdb::read_capacity_16(32));
    assert_eq!(capacity[14] & 0x80, 0x80, "LBPME");
    // COMPARE AND WRITE, WRITE SAME(16), UNMAP, EXTENDED COPY(LID1), RECEIVE COPY OPERATING PARAMETERS.
    for (options, opcode, action) in
        [(1, 0x89, 0), (1, 0x93, 0), (1, 0x42, 0), (2, 0x83, 0x00), (2, 0x84, 0x03)]
    {
        let cdb = cdb::report_supported_operation_codes(options, false, opcode, action, 64);
        assert_eq!(asked(&mut client, cdb)[1] & 0x07, 0x03, "{opcode:02x}h: as the standard has it");
    }
}

/// ATS: a lock is a block that nobody but its owner changes. Both hosts believe that it is free; one gets it, the other is told where
/// the block is not what it believed, reads it again and waits.
#[test]
fn vmware_locks_by_compare_and_write() {
    const LOCK: u64 = 4000;
    let world = world();
    let [mut one, mut other] = ["esx1", "esx2"].map(|name| world.client(name));
    let ats = |expected: &[u8], wanted: &[u8]| {
        Command::write(0, cdb::compare_and_write(LOCK, 1), [expected, wanted].concat())
    };
    let free = pattern(1, LOCK, 1, 512);
    let held = |owner: u8| {
        let mut block = free.clone();
        block[16..32].fill(owner);
        block
    };
    one.write(LOCK, &free).unwrap();
    good(&one.run(ats(&free, &held(1))).unwrap());
    let late = other.run(ats(&free, &held(2))).unwrap();
    assert_eq!(sense(&late), (0x0e, 0x1d, 0x00), "MISCOMPARE DURING VERIFY OPERATION");
    // SBC-4 §5.3: the offset of the first byte that differs.
    assert_eq!(Sense::decode(&late.sense).unwrap().information, Some(16));
    assert!(other.read(LOCK, 1).unwrap() == held(1), "nothing was written");
    // Its heartbeat, and then it lets go.
    good(&one.run(ats(&held(1), &held(9))).unwrap());
    good(&one.run(ats(&held(9), &free)).unwrap());
    good(&other.run(ats(&free, &held(2))).unwrap());
    assert!(one.read(LOCK, 1).unwrap() == held(2));
}

#[test]
fn vmware_zeroes_and_gives_back() {
    const BLOCKS: u32 = 2048;
    let world = world();
    let mut client = world.client("esx");
    client.write(0, &pattern(3, 0, BLOCKS, 512)).unwrap();
    client.write(u64::from(BLOCKS), &pattern(3, u64::from(BLOCKS), BLOCKS, 512)).unwrap();
    // Block zero: one zero block over 1 MiB less its edges.
    let zero = Command::write(0, cdb::write_same_16(1, BLOCKS - 2, false), vec![0; 512]);
    good(&client.run(zero).unwrap());
    let found = client.read(0, BLOCKS).unwrap();
    assert!(found[..512] == pattern(3, 0, 1, 512) && found[found.len() - 512..] == pattern(3, 2047, 1, 512));
    assert!(found[512..found.len() - 512].iter().all(|byte| *byte == 0));
    // UNMAP of a file that was deleted, in two parts.
    let list = cdb::unmap_list(&[(2048, 1024), (3072, 1000)]);
    good(&client.run(Command::write(0, cdb::unmap(u16::try_from(list.len()).unwrap()), list)).unwrap());
    let found = client.read(2048, BLOCKS).unwrap();
    assert!(found[..2024 * 512].iter().all(|byte| *byte == 0), "LBPRZ");
    assert!(found[2024 * 512..] == pattern(3, 4072, 24, 512), "the rest is nobody's");
}

const RESERVE: u8 = 1;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const IGNORE: u8 = 6;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
/// Keys of the nodes.
const A: u64 = 0x0000_0001_6672_6d70;
const B: u64 = 0x0000_0002_6672_6d70;

fn out(client: &mut Client, action: u8, key: u64, action_key: u64) -> Completion {
    let list = cdb::persistent_reserve_out_list(key, action_key);
    let cdb = cdb::persistent_reserve_out(action, WRITE_EXCLUSIVE_REGISTRANTS, 24);
    client.run(Command::write(0, cdb, list)).unwrap()
}

/// READ KEYS, ascending, and READ RESERVATION: the holder's key and the type.
fn seen(client: &mut Client) -> (Vec<u64>, Option<(u64, u8)>) {
    let key = |bytes: &[u8]| u64::from_be_bytes(bytes[..8].try_into().unwrap());
    let mut keys: Vec<u64> =
        asked(client, cdb::persistent_reserve_in(0, 1024))[8..].chunks(8).map(key).collect();
    keys.sort_unstable();
    let held = asked(client, cdb::persistent_reserve_in(1, 1024));
    (keys, held.get(8..24).map(|held| (key(held), held[13])))
}

#[test]
fn windows_validates_a_disk_for_a_cluster() {
    let world = world();
    let [mut a, mut b] = ["node-a", "node-b"].map(|name| world.client(name));
    assert!(has_naa(&asked(&mut a, cdb::inquiry_vpd(0x83, 255))));
    assert_eq!(seen(&mut a), (vec![], None));
    // The first node registers, whatever was there before, and reserves.
    good(&out(&mut a, IGNORE, 0, A));
    good(&out(&mut a, RESERVE, A, 0));
    let held = (A, WRITE_EXCLUSIVE_REGISTRANTS);
    assert_eq!(seen(&mut b), (vec![A], Some(held)));
    // The second reads, and writes when it has registered; it cannot reserve.
    good(&b.run(read(0, 8)).unwrap());
    conflict(&b.run(write(1, 0, 8)).unwrap());
    good(&out(&mut b, IGNORE, 0, B));
    good(&b.run(write(1, 0, 8)).unwrap());
    conflict(&out(&mut b, RESERVE, B, 0));
    // The owner renews its key: the reservation goes with it.
    let renewed = A + 1;
    good(&out(&mut a, IGNORE, 0, renewed));
    assert_eq!(seen(&mut b), (vec![renewed, B], Some((renewed, WRITE_EXCLUSIVE_REGISTRANTS))));
    // It is challenged and does not defend: the other takes over.
    good(&out(&mut b, PREEMPT, B, renewed));
    assert_eq!(seen(&mut b), (vec![B], Some((B, WRITE_EXCLUSIVE_REGISTRANTS))));
    assert_eq!(sense(&a.run(test_unit_ready(0)).unwrap()), (0x6, 0x2a, 0x05), "REGISTRATIONS PREEMPTED");
    conflict(&a.run(write(2, 0, 8)).unwrap());
    conflict(&out(&mut a, CLEAR, renewed, 0));
    assert!(a.read(0, 8).unwrap() == pattern(1, 0, 8, 512));
    // Back, and away.
    good(&out(&mut a, IGNORE, 0, A));
    good(&a.run(write(3, 0, 8)).unwrap());
    good(&out(&mut a, CLEAR, A, 0));
    assert_eq!(sense(&b.run(test_unit_ready(0)).unwrap()), (0x6, 0x2a, 0x03), "RESERVATIONS PREEMPTED");
    assert_eq!(seen(&mut b), (vec![], None));
    good(&world.client("stranger").run(write(4, 0, 8)).unwrap());
}
