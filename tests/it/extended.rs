//! CDBs of more than 16 bytes, in additional header segments (RFC 7143 §11.2.2), and segments that mean nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette_initiator::pdu::request::ScsiCommand;
use lunette_initiator::pdu::response::{Reject, Response};
use lunette_initiator::scsi::status;
use lunette_initiator::socket::Wire;
use lunette_initiator::{Command, Config, Data, Offer};

use crate::harness::{Setup, World, config, pattern, read, sense, test_unit_ready};

const FLAGS_NONE: u8 = 0;
/// BYTCHK of 01b.
const COMPARED: u8 = 0x02;

/// The first half of a CDB of 32 bytes.
fn first(action: u8, flags: u8) -> [u8; 16] {
    [0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, flags, 0, 0, 0, 0, 0]
}

/// AHSLength of 17, type 1, a reserved byte, and the other half: two blocks from block 5.
const REST: [u8; 20] = [0, 17, 1, 0, 0, 0, 0, 5, 0, 0, 0, 5, 0xab, 0xcd, 0xff, 0xff, 0, 0, 0, 2];

fn long(action: u8, flags: u8, data: Data) -> Command {
    Command { ahs: REST.to_vec(), ..Command::new(0, first(action, flags), data) }
}

fn out(action: u8, flags: u8, bytes: Vec<u8>) -> Command {
    long(action, flags, Data::Out(bytes.into()))
}

#[test]
fn commands_of_32_bytes_do_what_they_say() {
    let world = World::start(Setup::default());
    for (header_digest, initial_r2t) in [("None", false), ("CRC32C", false), ("CRC32C", true)] {
        let offer = Offer {
            header_digest: Some(header_digest.to_owned()),
            data_digest: Some(header_digest.to_owned()),
            initial_r2t: Some(initial_r2t),
            immediate_data: Some(!initial_r2t),
            ..Offer::usual()
        };
        let mut client = world.login(Config { offer, ..config("a") });
        client.write(0, &vec![0; 512 * 16]).unwrap();
        let data = pattern(1, 5, 2, 512);
        assert!(client.run(out(0x0b, FLAGS_NONE, data.clone())).unwrap().is_good());
        assert!(client.run(read(5, 2)).unwrap().data == data, "WRITE(32) wrote");
        assert!(client.run(read(4, 1)).unwrap().data == vec![0; 512], "nothing beside it");
        assert!(client.run(read(7, 1)).unwrap().data == vec![0; 512], "nothing beside it");
        let end = client.run(long(0x09, FLAGS_NONE, Data::In(1024))).unwrap();
        assert!(end.is_good() && end.data == data, "READ(32) reads");

        assert!(client.run(out(0x0a, COMPARED, data.clone())).unwrap().is_good());
        assert_eq!(sense(&client.run(out(0x0a, COMPARED, vec![7; 1024])).unwrap()), (0xe, 0x1d, 0x00));
        assert!(client.run(out(0x0c, COMPARED, vec![7; 1024])).unwrap().is_good());
        assert!(client.run(read(5, 2)).unwrap().data == vec![7; 1024], "WRITE AND VERIFY(32) wrote");
        assert!(client.run(out(0x0d, FLAGS_NONE, vec![9; 512])).unwrap().is_good());
        assert!(client.run(read(5, 2)).unwrap().data == vec![9; 1024], "WRITE SAME(32) wrote");
        client.logout().unwrap();
    }
}

#[test]
fn what_is_not_served_ends_its_command_alone() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    // XDWRITEREAD(32), whose data go both ways; and the longest CDB that there can be.
    assert_eq!(sense(&client.run(long(0x07, FLAGS_NONE, Data::None)).unwrap()), (0x5, 0x24, 0x00));
    let mut cdb = first(0x09, FLAGS_NONE);
    cdb[7] = 0xfc;
    let mut ahs = vec![0, 245, 1, 0];
    ahs.resize(4 + 244, 0);
    let longest = Command { ahs, ..Command::new(0, cdb, Data::None) };
    assert_eq!(sense(&client.run(longest).unwrap()), (0x5, 0x24, 0x00));
    assert!(client.run(test_unit_ready(0)).unwrap().is_good());
}

/// A bidirectional command is refused in full, its data taken and dropped.
#[test]
fn data_that_go_both_ways_are_refused() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    client.write(5, &pattern(1, 5, 2, 512)).unwrap();
    let both = Command {
        ahs: [&REST[..], &[0, 5, 2, 0, 0, 0, 4, 0]].concat(),
        ..Command::write(0, first(0x0b, FLAGS_NONE), vec![3; 1024])
    };
    assert_eq!(sense(&client.run(both).unwrap()), (0x5, 0x0e, 0x03));
    assert!(client.read(5, 2).unwrap() == pattern(1, 5, 2, 512), "nothing was written");
}

fn next(wire: &mut Wire) -> (Response, Vec<u8>) {
    let pdu = wire.receive().unwrap().expect("a PDU");
    (Response::decode(&pdu.bhs), pdu.data)
}

#[test]
fn malformed_segments_are_rejected_and_their_commands_end() {
    let world = World::start(Setup::default());
    let (mut wire, outcome) = world.wire(&config("a"));
    let read_10 = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    let cases: [([u8; 16], &[u8]); 5] = [
        // A segment longer than what there is; half a CDB; one of an unknown type; more CDB than READ(10) has.
        (first(0x09, 0), &[0, 18, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
        (first(0x09, 0), &[0, 9, 1, 0, 0, 0, 0, 5, 0, 0, 0, 0]),
        (first(0x09, 0), &[0, 1, 9, 0]),
        (read_10, &[0, 5, 1, 0, 0, 0, 0, 0]),
        // A header that promises segments and has no sense in them.
        (read_10, &[0xff; 256]),
    ];
    let mut cmd_sn = outcome.exp_cmd_sn.0;
    for (cdb, ahs) in cases {
        let command = ScsiCommand {
            final_bit: true,
            read: true,
            itt: 7,
            cmd_sn,
            expected_bytes: 512,
            cdb,
            ..Default::default()
        };
        let mut pdu = command.with([]);
        pdu.ahs = ahs.to_vec();
        wire.send(&pdu).unwrap();
        let (Response::Reject(Reject { reason, .. }), header) = next(&mut wire) else { panic!("no Reject") };
        assert_eq!(reason, 0x09, "invalid PDU field");
        assert_eq!(header[..4], [0x01, 0xc0, 0, 0]);
        assert_eq!((usize::from(header[4]) * 4, &header[32..48]), (ahs.len(), &cdb[..]));
        let (Response::Scsi(end), data) = next(&mut wire) else { panic!("no status") };
        assert_eq!((end.itt, end.status), (7, status::CHECK_CONDITION));
        assert_eq!((data[4], data[14], data[15]), (0x5, 0x0e, 0x03));
        cmd_sn += 1;
    }
    // 32 bytes are told, 16 have come: nobody sent a segment that could be rejected.
    let half = ScsiCommand { final_bit: true, itt: 7, cmd_sn, cdb: first(0x09, 0), ..Default::default() };
    wire.send(&half.with([])).unwrap();
    let (Response::Scsi(end), data) = next(&mut wire) else { panic!("no status") };
    assert_eq!((end.itt, end.status), (7, status::CHECK_CONDITION));
    assert_eq!((data[4], data[14], data[15]), (0x5, 0x0e, 0x03));
}
