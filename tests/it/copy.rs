//! Copies and chores, as hosts that cannot be here ask for them: VMware's XCOPY (VAAI), Windows' offloaded data transfer
//! (docs/hosts.md has the sequences), and SANITIZE.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::IoError;
use lunette::bdev::delay::Delays;
use lunette::bdev::error::{Fault, Kind};
use lunette::control::done::Done;
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::{Client, Command, lun};

use crate::harness::{self, Setup, World, pattern, sense, test_unit_ready, until};

const MIB: u32 = 1 << 20;

/// Two disks of 8 MiB with blocks of 512 bytes, and two cores.
pub(crate) fn two_disks() -> World {
    World::start(Setup { reactors: 2, disks: vec![(16 * 1024, 512); 2], ..Setup::default() })
}

fn cdb(bytes: &[u8]) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

/// Parameter data of a command to a LUN.
fn asked(client: &mut Client, number: u16, bytes: &[u8]) -> Vec<u8> {
    let completion = client.run(Command::read(lun::from_number(number), cdb(bytes), 4096)).unwrap();
    assert!(completion.is_good(), "{bytes:02x?}: {completion:?}");
    completion.data
}

/// A command to a LUN with a parameter list, whose length is in bytes 10 to 13.
fn listed(number: u16, bytes: &[u8], list: &[u8]) -> Command {
    let mut cdb = cdb(bytes);
    cdb[10..14].copy_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
    Command::write(lun::from_number(number), cdb, list.to_vec())
}

fn is_good(client: &mut Client, command: Command) -> bool {
    client.run(command).unwrap().is_good()
}

/// The NAA identifier of a LUN, out of its device identification page.
pub(crate) fn naa(client: &mut Client, number: u16) -> [u8; 8] {
    let page = asked(client, number, &[0x12, 0x01, 0x83, 0x00, 0xff, 0]);
    assert_eq!(page[4..8], [0x01, 0x03, 0, 8]);
    page[8..16].try_into().unwrap()
}

pub(crate) fn fill(client: &mut Client, number: u16, seed: u32, lba: u64, blocks: u32) {
    client.set_lun(lun::from_number(number));
    client.write(lba, &pattern(seed, lba, blocks, 512)).unwrap();
}

pub(crate) fn holds(client: &mut Client, number: u16, lba: u64, expected: &[u8]) {
    client.set_lun(lun::from_number(number));
    let blocks = u32::try_from(expected.len() / 512).unwrap();
    assert!(client.read(lba, blocks).unwrap() == expected, "LUN {number} from {lba} on");
}

/// EXTENDED COPY(LID1) as ESXi sends it: two CSCD descriptors with NAA identifiers, one segment, list identifier usage 11b.
pub(crate) fn xcopy(from: [u8; 8], to: [u8; 8], source: u16, destination: u16, blocks: u16) -> Command {
    let cscd =
        |naa: [u8; 8]| [&[0xe4, 0, 0, 0, 0x01, 0x03, 0, 8][..], &naa, &[0; 13], &[0, 0x02, 0]].concat();
    let lba = |lba: u16| [&[0; 6][..], &lba.to_be_bytes()].concat();
    let segment = [
        &[0x02, 0x00, 0, 0x18, 0, 0, 0, 1, 0, 0][..],
        &blocks.to_be_bytes(),
        &lba(source),
        &lba(destination),
    ];
    let header = [0, 0x18, 0, 64, 0, 0, 0, 0, 0, 0, 0, 28, 0, 0, 0, 0];
    listed(0, &[0x83, 0x00], &[&header[..], &cscd(from), &cscd(to), &segment.concat()].concat())
}

#[test]
fn vmware_clones_a_disk() {
    let world = two_disks();
    let mut client = world.client("esx");
    // 3PC of INQUIRY, operating parameters, then the copy.
    assert_eq!(asked(&mut client, 0, &[0x12, 0, 0, 0, 36, 0])[5] & 0x08, 0x08);
    let parameters = asked(&mut client, 0, &[0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
    assert_eq!(parameters[8..12], [0, 16, 0, 64]);
    let [from, to] = [0, 1].map(|number| naa(&mut client, number));
    fill(&mut client, 0, 7, 100, 5000);
    assert!(is_good(&mut client, xcopy(from, to, 100, 9000, 5000)));
    holds(&mut client, 1, 9000, &pattern(7, 100, 5000, 512));
    // Within a datastore.
    assert!(is_good(&mut client, xcopy(from, from, 100, 8000, 600)));
    holds(&mut client, 0, 8000, &pattern(7, 100, 600, 512));
    // The device does that by itself: nothing is read.
    world.disks[0].order(Kind::Read, Fault::Fail(IoError::Medium { lba: None }), 1);
    assert!(is_good(&mut client, xcopy(from, from, 100, 9000, 5000)));
    let refused = client.run(xcopy(from, from, 100, 101, 8)).unwrap();
    assert_eq!(sense(&refused), (0xa, 0x0d, 0x01), "what overlaps is read and written");
    holds(&mut client, 0, 9000, &pattern(7, 100, 5000, 512));

    let refused = client.run(xcopy(from, [0x3f; 8], 0, 0, 8)).unwrap();
    assert_eq!(sense(&refused), (0xa, 0x08, 0x04), "no such disk");
    world.disks[1].order(Kind::Write, Fault::Fail(IoError::NoSpace), 1);
    let refused = client.run(xcopy(from, to, 0, 0, 8)).unwrap();
    assert_eq!(sense(&refused), (0x7, 0x27, 0x07), "what ESXi pauses a machine on");
    world.disks[0].order(Kind::Read, Fault::Fail(IoError::Medium { lba: None }), 1);
    let refused = client.run(xcopy(from, to, 0, 0, 8)).unwrap();
    assert_eq!(sense(&refused), (0xa, 0x0d, 0x01));
}

#[test]
fn how_a_copy_failed_is_told_to_who_asked_for_it() {
    let world = two_disks();
    let [mut client, mut other] = ["a", "b"].map(|name| world.client(name));
    let [from, to] = [0, 1].map(|number| naa(&mut client, number));
    let details = [0x84, 0x04, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0];
    let refused = |client: &mut Client| {
        let ask = Command::new(0, cdb(&details), lunette_initiator::Data::In(512));
        sense(&client.run(ask).unwrap())
    };
    assert_eq!(refused(&mut client), (0x5, 0x24, 0x00), "there was none");
    // LIST IDENTIFIER 5, which is held.
    let named = || {
        let mut command = xcopy(from, to, 0, 0, 8);
        if let lunette_initiator::Data::Out(list) = &mut command.data {
            let mut bytes = list.to_vec();
            bytes[..2].copy_from_slice(&[5, 0]);
            *list = bytes.into();
        }
        command
    };
    assert!(is_good(&mut client, named()));
    assert_eq!(asked(&mut client, 0, &details), [0; 4]);
    world.disks[0].order(Kind::Read, Fault::Fail(IoError::Medium { lba: None }), 1);
    assert_eq!(sense(&client.run(named()).unwrap()), (0xa, 0x0d, 0x01));
    let told = asked(&mut client, 0, &details);
    assert_eq!(
        (&told[..4], &told[56..]),
        (&[0, 0, 0, 64][..], &[2, 0, 0, 8, 0x72, 0xa, 0xd, 1, 0, 0, 0, 0][..])
    );
    assert_eq!(refused(&mut other), (0x5, 0x24, 0x00), "another's");
}

/// EXTENDED COPY(LID4) within LUN 0, one segment.
fn copy_lid4(id: u32, source: u16, destination: u16, blocks: u16) -> Command {
    let mut list = vec![0; 48];
    (list[0], list[3], list[16], list[45]) = (0x01, 0x20, 0xff, 28);
    list[20..24].copy_from_slice(&id.to_be_bytes());
    let lba = |lba: u16| [&[0; 6][..], &lba.to_be_bytes()].concat();
    list.extend([0x02, 0x00, 0, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    list.extend([&blocks.to_be_bytes()[..], &lba(source), &lba(destination)].concat());
    listed(0, &[0x83, 0x01], &list)
}

#[test]
fn a_copy_is_aborted_by_its_list_identifier() {
    let world = two_disks();
    let [mut client, mut other] = ["a", "b"].map(|name| world.client(name));
    fill(&mut client, 0, 7, 0, 2000);
    fill(&mut client, 0, 8, 1000, 1000);
    let abort = |id: u8| {
        let bytes = cdb(&[0x83, 0x1c, 0, 0, 1, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Command::new(0, bytes, lunette_initiator::Data::None)
    };
    let refused = |client: &mut Client, id| {
        let refused = client.run(abort(id)).unwrap();
        (sense(&refused), refused.sense[15..18].to_vec())
    };
    let no_such_copy = ((0x5, 0x24, 0x00), vec![0xc0, 0, 2]);
    assert_eq!(refused(&mut client, 9), no_such_copy, "there was none");
    // What overlaps is read and written; the second read does not come back.
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    let copy = client.session().command(copy_lid4(0x109, 0, 900, 1000)).unwrap();
    until("a device has it", || {
        client.ping(b"").unwrap();
        world.disks[0].faults.left(rule) == 0
    });
    assert_eq!(refused(&mut other, 9), no_such_copy, "it is another's");
    assert_eq!(refused(&mut client, 8), no_such_copy);
    let status =
        |client: &mut Client| asked(client, 0, &[0x84, 0x05, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0])[5];
    assert_eq!(status(&mut client), 0x10, "under way");
    let aborting = client.session().command(abort(9)).unwrap();
    client.ping(b"").unwrap();
    assert_eq!(client.next_event(), None, "a device still has some of it");
    world.disks[0].faults.release(rule);
    assert_eq!(client.completion(copy).unwrap().status, 0x40, "TASK ABORTED");
    assert!(client.completion(aborting).unwrap().is_good());
    assert_eq!(status(&mut client), 0x60, "terminated");
    assert_eq!(refused(&mut client, 9), no_such_copy, "it is over");
    // It went no further.
    holds(&mut client, 0, 1412, &pattern(8, 1412, 588, 512));
    assert!(is_good(&mut client, copy_lid4(0x109, 0, 4000, 8)));
    assert_eq!(status(&mut client), 0x01);
}

#[test]
fn all_tokens_of_a_disk_are_told() {
    let world = two_disks();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let all = |client: &mut Client, number| {
        let told = asked(client, number, &[0x84, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0]);
        assert_eq!(u32::from_be_bytes(told[..4].try_into().unwrap()) as usize, told.len() - 4);
        told[8..].chunks(96).map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    assert!(all(&mut one, 0).is_empty());
    let first = token(&mut one, 0, &[(100, 50), (500, 50)]);
    let second = token(&mut other, 0, &[(300, 10)]);
    let told = [first[..96].to_vec(), second[..96].to_vec()];
    for client in [&mut one, &mut other] {
        assert_eq!(all(client, 0), told, "wherever they were made");
        assert!(all(client, 1).is_empty());
    }
    assert_ne!(first[8..16], second[8..16]);
    fill(&mut one, 0, 9, 305, 1);
    assert_eq!(all(&mut one, 0), told[..1]);
}

#[test]
fn a_copy_asks_both_sides_for_leave() {
    let world = two_disks();
    let [mut owner, mut other] = ["a", "b"].map(|name| world.client(name));
    let [from, to] = [0, 1].map(|number| naa(&mut other, number));
    // RESERVE(6) of the destination by somebody else.
    let reserve = Command::new(lun::from_number(1), cdb(&[0x16]), lunette_initiator::Data::None);
    assert!(is_good(&mut owner, reserve));
    let refused = other.run(xcopy(from, to, 0, 0, 8)).unwrap();
    assert_eq!(sense(&refused), (0xa, 0x0d, 0x01));
    assert!(is_good(&mut other, xcopy(from, from, 0, 64, 8)));
    assert!(is_good(&mut owner, xcopy(from, to, 0, 0, 8)));
}

fn ranges(ranges: &[(u16, u16)]) -> Vec<u8> {
    let one = |(lba, blocks): &(u16, u16)| {
        [&[0; 6][..], &lba.to_be_bytes(), &[0; 2], &blocks.to_be_bytes(), &[0; 4]].concat()
    };
    ranges.iter().flat_map(one).collect()
}

fn populate(number: u16, id: u8, of: &[(u16, u16)]) -> Command {
    let ranges = ranges(of);
    let length = u8::try_from(ranges.len()).unwrap();
    let header = [0, length + 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, length];
    listed(number, &[0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, id], &[&header[..], &ranges].concat())
}

pub(crate) fn write_using(number: u16, id: u8, token: &[u8], to: &[(u16, u16)]) -> Command {
    write_from(number, id, token, 0, to)
}

/// WRITE USING TOKEN with an OFFSET INTO ROD.
fn write_from(number: u16, id: u8, token: &[u8], offset: u16, to: &[(u16, u16)]) -> Command {
    let ranges = ranges(to);
    let length = u16::try_from(ranges.len()).unwrap();
    let [a, b] = (length + 534).to_be_bytes();
    let [e, f] = offset.to_be_bytes();
    let head = [a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, e, f];
    let [c, d] = length.to_be_bytes();
    let list = [&head[..], token, &[0, 0, 0, 0, 0, 0, c, d], &ranges].concat();
    listed(number, &[0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, id], &list)
}

/// RECEIVE ROD TOKEN INFORMATION.
pub(crate) fn token_information(client: &mut Client, number: u16, id: u8) -> Vec<u8> {
    asked(client, number, &[0x84, 0x07, 0, 0, 0, id, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0])
}

/// A token of these blocks.
pub(crate) fn token(client: &mut Client, number: u16, of: &[(u16, u16)]) -> Vec<u8> {
    let made = client.run(populate(number, 1, of)).unwrap();
    assert!(made.is_good(), "{made:?}");
    let told = token_information(client, number, 1);
    assert_eq!(told[4..6], [0x10, 0x01], "completed without errors");
    assert_eq!(told[32..38], [0, 0, 2, 2, 0, 0]);
    told[38..550].to_vec()
}

#[test]
fn windows_copies_a_file() {
    let world = two_disks();
    let mut client = world.client("windows");
    let page = asked(&mut client, 0, &[0x12, 0x01, 0x8f, 0x02, 0x00, 0]);
    assert_eq!(page[4..8], [0, 0, 0, 32], "block device ROD limits come first");
    fill(&mut client, 0, 3, 100, 2000);
    fill(&mut client, 0, 4, 5000, 50);
    let token = token(&mut client, 0, &[(100, 2000), (5000, 50)]);
    // In two commands, the second to where the first ends; to the other disk.
    let written = client.run(write_using(1, 2, &token, &[(7000, 1000), (9000, 1050)])).unwrap();
    assert!(written.is_good(), "{written:?}");
    let expected = [pattern(3, 100, 2000, 512), pattern(4, 5000, 50, 512)].concat();
    holds(&mut client, 1, 7000, &expected[..1000 * 512]);
    holds(&mut client, 1, 9000, &expected[1000 * 512..]);
    let told = token_information(&mut client, 1, 2);
    assert_eq!((&told[4..6], &told[15..24]), (&[0x11, 0x01][..], &[0xf1, 0, 0, 0, 0, 0, 0, 0x08, 0x02][..]));
    assert_eq!(told.len(), 36, "no token");

    // More than the token has: what there is, which is told. None of it: refused, with a pointer to OFFSET INTO ROD.
    let written = client.run(write_from(1, 5, &token, 2040, &[(500, 20)])).unwrap();
    assert!(written.is_good(), "{written:?}");
    holds(&mut client, 1, 500, &expected[2040 * 512..]);
    let told = token_information(&mut client, 1, 5);
    assert_eq!((&told[4..6], &told[15..24]), (&[0x11, 0x03][..], &[0xf1, 0, 0, 0, 0, 0, 0, 0, 10][..]));
    let refused = client.run(write_from(1, 6, &token, 2050, &[(500, 1)])).unwrap();
    assert_eq!(sense(&refused), (0x5, 0x26, 0x00));
    assert_eq!(refused.sense[15..18], [0x80, 0, 8]);
    let told = token_information(&mut client, 1, 6);
    assert_eq!((told[5], &told[16..24]), (0x02, &[0; 8][..]));

    // The zero token, by which Windows clears.
    let mut zero = [0; 512];
    zero[..8].copy_from_slice(&[0xff, 0xff, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    assert!(is_good(&mut client, write_using(1, 3, &zero, &[(7000, 10)])));
    holds(&mut client, 1, 7000, &[0; 10 * 512]);

    let mut forged = token.clone();
    forged[130] ^= 1;
    let refused = client.run(write_using(1, 4, &forged, &[(0, 1)])).unwrap();
    assert_eq!(sense(&refused), (0x5, 0x23, 0x04));
}

#[test]
fn a_token_is_a_point_in_time() {
    let world = two_disks();
    // On two cores.
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    fill(&mut one, 0, 3, 100, 1000);
    type Change = fn(&mut Client);
    let changes: [Change; 3] = [
        |client| fill(client, 0, 9, 1099, 1),
        |client| {
            // UNMAP of the first block.
            let list = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 1, 0, 0, 0, 0];
            let unmap = Command::write(0, cdb(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24]), list.to_vec());
            assert!(client.run(unmap).unwrap().is_good());
        },
        |client| {
            let (from, to) = (naa(client, 1), naa(client, 0));
            let copied = client.run(xcopy(from, to, 0, 500, 8)).unwrap();
            assert!(copied.is_good());
        },
    ];
    for change in changes {
        for is_other in [false, true] {
            let token = token(&mut one, 0, &[(100, 1000)]);
            let changer = if is_other { &mut other } else { &mut one };
            // Beside it nothing happens to it.
            fill(changer, 0, 1, 99, 1);
            fill(changer, 0, 1, 1100, 1);
            assert!(is_good(&mut one, write_using(1, 2, &token, &[(4000, 1000)])));
            let changer = if is_other { &mut other } else { &mut one };
            change(changer);
            for client in [&mut one, &mut other] {
                let refused = client.run(write_using(1, 2, &token, &[(4000, 1000)])).unwrap();
                assert_eq!(sense(&refused), (0x5, 0x23, 0x06));
            }
        }
    }
    // A token of what has another size since.
    let token = token(&mut one, 0, &[(100, 1000)]);
    world.disks[0].medium.resize(15 * 1024).unwrap();
    world.control(|control| control.reread_bdev("disk0", Done::nobody())).unwrap();
    until("the disk is smaller", || {
        let end = one.run(write_using(1, 2, &token, &[(4000, 1000)])).unwrap();
        !end.is_good() && sense(&end) == (0x5, 0x23, 0x06)
    });
}

/// SANITIZE, OVERWRITE with a pattern of two bytes.
fn sanitize(options: u8) -> Command {
    Command::write(0, cdb(&[0x48, options | 0x01, 0, 0, 0, 0, 0, 0, 6, 0]), vec![1, 0, 0, 2, 0xa5, 0x5a])
}

const IN_PROGRESS: (u8, u8, u8) = (0x2, 0x04, 0x1b);

/// Whether TEST UNIT READY ends so.
fn is_told(client: &mut Client, codes: (u8, u8, u8)) -> bool {
    let completion = client.run(test_unit_ready(0)).unwrap();
    !completion.is_good() && sense(&completion) == codes
}

#[test]
fn sanitize_outlives_resets_and_sessions() {
    // 32 pieces, 60 ms each.
    let delays = Delays { read_ns: 0, write_ns: 60_000_000, flush_ns: 0 };
    let world = World::start(Setup { reactors: 2, delays, ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    assert!(is_good(&mut one, sanitize(0x80)), "IMMED");
    for client in [&mut one, &mut other] {
        let refused = client.run(test_unit_ready(0)).unwrap();
        assert_eq!(sense(&refused), IN_PROGRESS);
        assert_eq!(refused.sense[15] & 0x80, 0x80, "how far it is");
        assert_eq!(sense(&client.run(harness::read(0, 1)).unwrap()), IN_PROGRESS);
        assert_eq!(sense(&client.run(sanitize(0)).unwrap()), IN_PROGRESS);
        assert!(asked(client, 0, &[0x12, 0, 0, 0, 36, 0]).len() == 36);
    }
    assert_eq!(one.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    drop(one);
    assert_eq!(other.run(test_unit_ready(0)).unwrap().sense[2] & 0xf, 0x6, "the reset is told first");
    assert_eq!(sense(&other.run(test_unit_ready(0)).unwrap()), IN_PROGRESS, "it goes on");
    until("it is done", || is_good(&mut other, test_unit_ready(0)));
    let mut read = |lba| other.read(lba, 2).unwrap();
    assert!(read(0).chunks(2).all(|pair| pair == [0xa5, 0x5a]));
    assert!(read(16 * 1024 - 2).chunks(2).all(|pair| pair == [0xa5, 0x5a]));
}

#[test]
fn sanitize_covers_what_comes_while_it_goes_on() {
    let delays = Delays { read_ns: 0, write_ns: 60_000_000, flush_ns: 0 };
    let world = World::start(Setup { reactors: 2, delays, ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    for (blocks, is_immediate) in [(20 * 1024, true), (10 * 1024, true), (12 * 1024, false)] {
        let asked = std::thread::spawn(move || {
            let done = one.run(sanitize(if is_immediate { 0x80 } else { 0 })).unwrap();
            (one, done.is_good())
        });
        until("it goes on", || is_told(&mut other, IN_PROGRESS));
        world.disks[0].medium.resize(blocks).unwrap();
        world.control(|control| control.reread_bdev("disk0", Done::nobody())).unwrap();
        until("the other is told of the size", || is_told(&mut other, (0x6, 0x2a, 0x09)));
        assert_eq!(sense(&other.run(test_unit_ready(0)).unwrap()), IN_PROGRESS);
        until("it is done", || is_good(&mut other, test_unit_ready(0)));
        let (same, is_good) = asked.join().unwrap();
        one = same;
        assert!(is_good);
        assert_eq!(sense(&one.run(test_unit_ready(0)).unwrap()), (0x6, 0x2a, 0x09));
        let all = (0..blocks).step_by(512).flat_map(|lba| other.read(lba, 512).unwrap()).collect::<Vec<_>>();
        assert!(all.chunks(2).all(|pair| pair == [0xa5, 0x5a]), "{blocks}");
    }
}

/// SANITIZE, BLOCK ERASE.
fn erase(options: u8) -> Command {
    Command::new(0, cdb(&[0x48, options | 0x02, 0, 0, 0, 0, 0, 0, 0, 0]), lunette_initiator::Data::None)
}

/// A RAM disk is erased as a whole and said so, with what failed on the way; one of which a part was cut off is not.
#[test]
fn a_block_erase_leaves_nothing_of_a_ram_disk() {
    let world = World::start(Setup { reactors: 2, disks: vec![(40 * 1024, 512)], ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    for lba in [0, 16 * 1024 - 1, 16 * 1024, 40 * 1024 - 8] {
        one.write(lba, &pattern(7, lba, 8, 512)).unwrap();
    }
    for kind in [Kind::WriteZeroes, Kind::Unmap] {
        world.disks[0].order(kind, Fault::Fail(IoError::Medium { lba: None }), 1);
        assert_eq!(sense(&one.run(erase(0x20)).unwrap()), (0x3, 0x31, 0x03));
        assert_eq!(sense(&other.run(harness::read(0, 1)).unwrap()), (0x3, 0x31, 0x03));
    }
    let rule = world.disks[0].order(Kind::WriteZeroes, Fault::Hold, 1);
    assert!(is_good(&mut one, erase(0x80)), "IMMED");
    until("it goes on", || is_told(&mut other, IN_PROGRESS));
    assert_eq!(sense(&other.run(harness::read(0, 1)).unwrap()), IN_PROGRESS);
    // Every reactor shows it before its home begins: what is released too early is held all the same.
    until("the device has it", || world.disks[0].faults.left(rule) == 0);
    world.disks[0].faults.release(rule);
    until("it is done", || is_good(&mut other, test_unit_ready(0)));
    for lba in (0..40 * 1024).step_by(512) {
        assert!(other.read(lba, 512).unwrap() == vec![0; 512 * 512], "{lba}");
    }
    world.disks[0].medium.resize(30 * 1024).unwrap();
    world.control(|control| control.reread_bdev("disk0", Done::nobody())).unwrap();
    until("it is told of the size", || is_told(&mut one, (0x6, 0x2a, 0x09)));
    assert_eq!(sense(&one.run(erase(0)).unwrap()), (0x5, 0x24, 0x00), "what was cut off would stay");
}

/// A disk that is cut while it is erased is not erased.
#[test]
fn a_block_erase_that_has_lost_blocks_has_failed() {
    let world = World::start(Setup { disks: vec![(40 * 1024, 512)], ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let rule = world.disks[0].order(Kind::WriteZeroes, Fault::Hold, 1);
    let asked = std::thread::spawn(move || sense(&one.run(erase(0)).unwrap()));
    until("it goes on", || is_told(&mut other, IN_PROGRESS));
    until("the device has it", || world.disks[0].faults.left(rule) == 0);
    world.disks[0].medium.resize(16 * 1024).unwrap();
    world.control(|control| control.reread_bdev("disk0", Done::nobody())).unwrap();
    until("it is told of the size", || is_told(&mut other, (0x6, 0x2a, 0x09)));
    world.disks[0].faults.release(rule);
    assert_eq!(asked.join().unwrap(), (0x3, 0x31, 0x03));
    assert_eq!(sense(&other.run(harness::read(0, 1)).unwrap()), (0x3, 0x31, 0x03));
}

#[test]
fn who_waits_for_a_chore_is_told_that_its_unit_is_gone() {
    let delays = Delays { read_ns: 0, write_ns: 50_000_000, flush_ns: 0 };
    let world = World::start(Setup { delays, ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let asked = std::thread::spawn(move || sense(&one.run(sanitize(0)).unwrap()));
    until("it goes on", || is_told(&mut other, IN_PROGRESS));
    world.control(|control| control.unregister_bdev("disk0", Done::nobody())).unwrap();
    assert_eq!(asked.join().unwrap(), (0x5, 0x25, 0x00));
}

#[test]
fn a_sanitize_that_fails_is_not_forgotten() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    for (options, is_let_out) in [(0x00, false), (0x20, true)] {
        world.disks[0].order(Kind::Write, Fault::Fail(IoError::Medium { lba: None }), 1);
        assert_eq!(sense(&client.run(sanitize(options)).unwrap()), (0x3, 0x31, 0x03));
        assert_eq!(sense(&client.run(harness::read(0, 1)).unwrap()), (0x3, 0x31, 0x03));
        let exit = Command::new(0, cdb(&[0x48, 0x1f]), lunette_initiator::Data::None);
        let exited = client.run(exit).unwrap();
        if is_let_out {
            assert!(exited.is_good(), "{exited:?}");
        } else {
            assert_eq!(sense(&exited), (0x5, 0x24, 0x00), "AUSE was 0");
            assert!(is_good(&mut client, sanitize(0)), "another that goes well ends it");
        }
        assert!(is_good(&mut client, harness::read(0, 1)));
    }
}

#[test]
fn format_gives_everything_back() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    client.write(1000, &pattern(1, 1000, 2 * MIB / 512, 512)).unwrap();
    let format = Command::write(0, cdb(&[0x04, 0x10, 0, 0, 0, 0]), vec![0; 4]);
    assert!(is_good(&mut client, format));
    assert!(client.read(1000, 16).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn what_hosts_write_down_is_told_to_all() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let set = |what: u8, text: &[u8]| {
        let length = u8::try_from(text.len()).unwrap();
        Command::write(0, cdb(&[0xa4, 0x06, 0, 0, 0, 0, 0, 0, 0, length, what, 0]), text.to_vec())
    };
    assert!(is_good(&mut one, set(0x04, b"shelf 3\0")));
    assert_eq!(sense(&other.run(test_unit_ready(0)).unwrap()), (0x6, 0x3f, 0x05));
    let told = asked(&mut other, 0, &[0xa3, 0x05, 0, 0, 0, 0, 0, 0, 1, 4, 0x04, 0]);
    assert_eq!(told, *b"\0\0\0\x08shelf 3\0");
    let timestamp = Command::write(
        0,
        cdb(&[0xa4, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12]),
        vec![0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    );
    assert!(is_good(&mut one, timestamp));
    assert_eq!(sense(&other.run(test_unit_ready(0)).unwrap()), (0x6, 0x2a, 0x10));
    let told = asked(&mut other, 0, &[0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]);
    assert_eq!(told[..7], [0, 10, 0x02, 0, 1, 0, 0]);
    // Echo: each session its own.
    let echo = |byte| Command::write(0, cdb(&[0x3b, 0x0a, 0, 0, 0, 0, 0, 0, 1]), vec![byte]);
    assert!(is_good(&mut one, echo(1)) && is_good(&mut other, echo(2)));
    let read = [0x3c, 0x0a, 0, 0, 0, 0, 0, 0, 4, 0];
    assert_eq!((asked(&mut one, 0, &read), asked(&mut other, 0, &read)), (vec![1], vec![2]));
    // A self-test reads the medium.
    let test = || Command::new(0, cdb(&[0x1d, 0x04]), lunette_initiator::Data::None);
    assert!(is_good(&mut one, test()));
    world.disks[0].order(Kind::Read, Fault::Fail(IoError::Medium { lba: None }), 1);
    assert_eq!(sense(&one.run(test()).unwrap()), (0x3, 0x11, 0x00));
}
