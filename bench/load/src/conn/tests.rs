//! A connection against a peer that says what the test likes, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use lunette_initiator::scsi::Capacity;

use super::*;
use crate::aim::{Aim, Unit};
use crate::clock::Clock;
use crate::ledger::Ledger;

const TERMS: Terms = Terms {
    digests: Digests { header: false, data: false },
    immediate_bytes: 512,
    unsolicited_bytes: 512,
    send_bytes_max: 1024,
    recv_bytes_max: 4096,
    cmd_sn: Serial(1),
    max_cmd_sn: Serial(2),
    exp_stat_sn: Serial(7),
};

struct Table {
    bench: Bench,
    conn: Conn,
    peer: TcpStream,
}

impl Table {
    /// IOs of 2048 bytes, one after the other, on a disk of 4 of them.
    fn new(rw: &str, depth: u32, terms: Terms) -> Table {
        Table::with(rw, depth, terms, false)
    }

    fn with(rw: &str, depth: u32, terms: Terms, is_verifying: bool) -> Table {
        let unit = Unit::new(1, Capacity { count_blocks: 16, block_bytes: 512 }, 2048, None).unwrap();
        let ledger = is_verifying.then(|| Ledger::new(&[unit], 1));
        let aim = Aim::new(vec![unit], rw.parse().unwrap(), 0);
        let bench = Bench::new(aim, 2048, depth, ledger, Clock::start());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let conn = Conn::new(stream, terms, Vec::new(), 0, depth, &bench);
        Table { bench, conn, peer }
    }

    fn pump(&mut self) {
        self.conn.pump(&mut self.bench).unwrap();
    }

    /// What comes next.
    fn get<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.peer.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Nothing comes: on loopback what was sent is there already.
    fn assert_silence(&mut self) {
        self.peer.set_nonblocking(true).unwrap();
        assert_eq!(self.peer.read(&mut [0; 1]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        self.peer.set_nonblocking(false).unwrap();
    }

    fn say(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        self.peer.write_all(bytes).unwrap();
        self.conn.receive(&mut self.bench)
    }
}

/// A header of 48 bytes with these at these places.
fn header(fields: &[(usize, &[u8])]) -> [u8; 48] {
    let mut bytes = [0; 48];
    for (at, field) in fields {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

/// A Data-In with status for all data of an IO: ITT, StatSN, MaxCmdSN.
fn data_in(itt: u8, stat_sn: u8, max_cmd_sn: u8) -> Vec<u8> {
    let fields: [(usize, &[u8]); 6] = [
        (0, &[0x25, 0x81]),
        (5, &[0, 8, 0]),
        (19, &[itt]),
        (20, &[0xff; 4]),
        (27, &[stat_sn]),
        (35, &[max_cmd_sn]),
    ];
    [&header(&fields)[..], &[0xaa; 2048]].concat()
}

fn response(itt: u8, status: u8, stat_sn: u8, data: &[u8]) -> Vec<u8> {
    let length = [u8::try_from(data.len()).unwrap()];
    let fields: [(usize, &[u8]); 6] =
        [(0, &[0x21, 0x80, 0, status]), (7, &length), (19, &[itt]), (27, &[stat_sn]), (31, &[2]), (35, &[9])];
    let mut bytes = [&header(&fields)[..], data].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A read command: ITT, CmdSN, ExpStatSN, LBA.
fn read(itt: u8, cmd_sn: u8, exp_stat_sn: u8, lba: u8) -> [u8; 48] {
    header(&[
        (0, &[0x01, 0xc1]),
        (9, &[1]),
        (19, &[itt]),
        (22, &[8]),
        (27, &[cmd_sn]),
        (31, &[exp_stat_sn]),
        (32, &[0x28, 0, 0, 0, 0, lba, 0, 0, 4]),
    ])
}

#[test]
fn commands_fill_the_window_and_no_more() {
    let mut table = Table::new("read", 8, TERMS);
    table.pump();
    assert_eq!(table.get(), read(0, 1, 7, 0));
    assert_eq!(table.get(), read(1, 2, 7, 4));
    table.assert_silence();
    assert_eq!(table.conn.in_flight(), 2);
    // The second is answered first; its slot is the next to be used.
    table.say(&data_in(1, 7, 3)).unwrap();
    table.pump();
    assert_eq!(table.get(), read(1, 3, 8, 8));
    table.assert_silence();
    assert_eq!((table.bench.tally.ios_ever, table.bench.tally.errors), (1, 0));
    // A window that seems to go back is old news.
    table.say(&data_in(0, 8, 1)).unwrap();
    table.pump();
    table.assert_silence();
}

#[test]
fn a_pdu_may_come_in_pieces_of_any_size() {
    let mut table = Table::new("read", 1, TERMS);
    table.pump();
    let _: [u8; 48] = table.get();
    for (index, byte) in data_in(0, 7, 2).iter().enumerate() {
        assert_eq!(table.bench.tally.ios_ever, 0, "before byte {index}");
        table.say(&[*byte]).unwrap();
    }
    assert_eq!((table.bench.tally.ios_ever, table.conn.in_flight()), (1, 0));
}

#[test]
fn data_of_a_read_may_come_in_several_pdus() {
    let mut table = Table::new("read", 1, TERMS);
    table.pump();
    let _: [u8; 48] = table.get();
    let fields: [(usize, &[u8]); 4] = [(0, &[0x25]), (5, &[0, 4, 0]), (20, &[0xff; 4]), (35, &[2])];
    table.say(&[&header(&fields)[..], &[0; 1024]].concat()).unwrap();
    let fields: [(usize, &[u8]); 4] = [(0, &[0x25, 0x80]), (5, &[0, 4, 0]), (20, &[0xff; 4]), (42, &[4, 0])];
    table.say(&[&header(&fields)[..], &[0; 1024]].concat()).unwrap();
    assert_eq!(table.bench.tally.ios_ever, 0, "the status is still to come");
    table.say(&response(0, 0, 7, &[])).unwrap();
    assert_eq!((table.bench.tally.ios_ever, table.bench.tally.errors), (1, 0));
}

#[test]
fn what_is_asked_for_is_sent_in_pdus_that_the_target_takes() {
    let mut table = Table::new("write", 1, TERMS);
    table.pump();
    let command = header(&[
        (0, &[0x01, 0xa1]),
        (5, &[0, 2, 0]),
        (9, &[1]),
        (22, &[8]),
        (27, &[1]),
        (31, &[7]),
        (32, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 4]),
    ]);
    assert_eq!(table.get(), command);
    let payload = table.bench.payload.clone();
    assert_eq!(table.get::<512>(), payload[..512]);
    table.assert_silence();
    // 1500 bytes from 512 on are wanted: 1024 and 476.
    let r2t = header(&[
        (0, &[0x31, 0x80]),
        (9, &[1]),
        (20, b"TTT!"),
        (27, &[7]),
        (35, &[2]),
        (42, &[2, 0]),
        (46, &[5, 0xdc]),
    ]);
    table.say(&r2t).unwrap();
    table.pump();
    let first = header(&[(0, &[0x05]), (5, &[0, 4, 0]), (9, &[1]), (20, b"TTT!"), (31, &[7]), (42, &[2, 0])]);
    assert_eq!(table.get(), first);
    assert_eq!(table.get::<1024>(), payload[512..1536]);
    let second = header(&[
        (0, &[0x05, 0x80]),
        (5, &[0, 1, 0xdc]),
        (9, &[1]),
        (20, b"TTT!"),
        (31, &[7]),
        (39, &[1]),
        (42, &[6, 0]),
    ]);
    assert_eq!(table.get(), second);
    assert_eq!(table.get::<476>(), payload[1536..2012]);
    table.assert_silence();
    table.say(&response(0, 0, 7, &[])).unwrap();
    assert_eq!((table.bench.tally.ios_ever, table.conn.in_flight()), (1, 0));
}

#[test]
fn unsolicited_data_follow_their_command() {
    let mut table = Table::new("write", 1, Terms { unsolicited_bytes: 1536, ..TERMS });
    table.pump();
    assert_eq!(table.get::<48>()[..8], [0x01, 0x21, 0, 0, 0, 0, 2, 0], "F is zero");
    let _: [u8; 512] = table.get();
    let data_out =
        header(&[(0, &[0x05, 0x80]), (5, &[0, 4, 0]), (20, &[0xff; 4]), (31, &[7]), (42, &[2, 0])]);
    assert_eq!(table.get(), data_out);
    let payload = table.bench.payload.clone();
    assert_eq!(table.get::<1024>(), payload[512..1536]);
    table.assert_silence();
}

#[test]
fn digests_follow_headers_and_data() {
    let digests = Digests { header: true, data: true };
    let mut table =
        Table::new("write", 1, Terms { digests, immediate_bytes: 2048, unsolicited_bytes: 2048, ..TERMS });
    table.pump();
    let command: [u8; 48] = table.get();
    let crc = lunette_initiator::pdu::crc32c;
    assert_eq!(table.get(), crc(&command).to_le_bytes());
    let data: [u8; 2048] = table.get();
    assert_eq!(table.get(), crc(&data).to_le_bytes());
    let answer = response(0, 0, 7, &[]);
    let wrong = [&answer[..], &(!crc(&answer)).to_le_bytes()].concat();
    assert_eq!(table.say(&wrong), Err(Lost("wrong header digest".to_owned())));

    let mut table = Table::new("read", 1, Terms { digests, ..TERMS });
    table.pump();
    let _: [u8; 52] = table.get();
    let answer = data_in(0, 7, 2);
    let (head, data) = answer.split_at(48);
    let digested = |data_crc: u32| [head, &crc(head).to_le_bytes(), data, &data_crc.to_le_bytes()].concat();
    table.say(&digested(crc(data))).unwrap();
    assert_eq!(table.bench.tally.ios_ever, 1);
    assert_eq!(table.say(&digested(!crc(data))), Err(Lost("wrong data digest".to_owned())));
}

#[test]
fn a_ping_is_answered_and_takes_no_number() {
    let mut table = Table::new("read", 0, TERMS);
    let ping = header(&[
        (0, &[0x20, 0x80]),
        (8, b"LLLLLLLL"),
        (16, &[0xff; 4]),
        (20, b"PING"),
        (27, &[7]),
        (35, &[2]),
    ]);
    table.say(&ping).unwrap();
    table.pump();
    let answer = header(&[
        (0, &[0x40, 0x80]),
        (8, b"LLLLLLLL"),
        (16, &[0xff; 4]),
        (20, b"PING"),
        (27, &[1]),
        (31, &[7]),
    ]);
    assert_eq!(table.get(), answer);
    // One that only tells of the window.
    table.say(&header(&[(0, &[0x20, 0x80]), (16, &[0xff; 8]), (27, &[7]), (35, &[2])])).unwrap();
    table.pump();
    table.assert_silence();
}

#[test]
fn a_unit_attention_means_once_more_and_an_error_does_not() {
    let mut table = Table::new("read", 1, TERMS);
    table.pump();
    assert_eq!(table.get(), read(0, 1, 7, 0));
    let start_ns = table.conn.slots[0].start_ns;
    let attention = [0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];
    table.say(&response(0, 2, 7, &attention)).unwrap();
    table.pump();
    assert_eq!(table.get(), read(0, 2, 8, 0));
    assert_eq!((table.bench.tally.retries, table.bench.tally.errors), (1, 0));
    assert_eq!(table.conn.slots[0].start_ns, start_ns, "the time until then counts");
    let medium = [0, 18, 0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
    table.say(&response(0, 2, 8, &medium)).unwrap();
    table.pump();
    assert_eq!(table.get(), read(0, 3, 9, 4));
    assert_eq!((table.bench.tally.errors, table.bench.tally.ios_ever), (1, 0));
    assert_eq!(table.bench.tally.troubles, ["read at block 0 of LUN 1: CHECK CONDITION, sense 3/11/00"]);
    // GOOD without the data.
    table.say(&response(0, 0, 9, &[])).unwrap();
    assert_eq!(table.bench.tally.troubles[1], "read at block 4 of LUN 1: GOOD with 0 bytes");
}

#[test]
fn data_that_nobody_wrote_are_found() {
    let mut table = Table::with("mixed:50", 1, TERMS, true);
    table.pump();
    for stat_sn in 7..60 {
        let request: [u8; 48] = table.get();
        if request[32] == 0x28 {
            table.say(&data_in(0, stat_sn, 90)).unwrap();
        } else {
            let _: [u8; 512] = table.get();
            table.say(&response(0, 0, stat_sn, &[])).unwrap();
        }
        table.pump();
    }
    let tally = &table.bench.tally;
    assert!(tally.verify_errors > 10 && tally.errors == 0, "{tally:?}");
    assert!(tally.troubles[0].contains("not what was written"), "{tally:?}");
}

#[test]
fn offences_end_the_connection() {
    let data_in_at = |offset: u8, bytes: u8| {
        let fields: [(usize, &[u8]); 4] =
            [(0, &[0x25, 0x81]), (5, &[0, bytes, 0]), (27, &[7]), (42, &[offset])];
        [&header(&fields)[..], &vec![0; usize::from(bytes) * 256]].concat()
    };
    let r2t = |bytes: u8| header(&[(0, &[0x31, 0x80]), (27, &[7]), (46, &[bytes, 0])]).to_vec();
    for (rw, what, words) in [
        ("read", data_in(0, 8, 2), "StatSN 0x8, expected 0x7"),
        ("read", data_in(1, 7, 2), "no task, ITT 0x1"),
        ("read", data_in_at(4, 4), "out of place"),
        ("read", data_in_at(0, 9), "out of place"),
        ("write", data_in(0, 7, 2), "out of place"),
        ("read", r2t(1), "R2T out of place"),
        ("write", r2t(9), "R2T out of place"),
        ("write", r2t(0), "R2T out of place"),
        ("read", data_in_at(0, 17), "a PDU with 4352 bytes"),
        ("read", header(&[(0, &[0x3f, 0x80, 0x09]), (27, &[7])]).to_vec(), "Reject, reason 0x09"),
        ("read", header(&[(0, &[0x32, 0x80]), (36, &[1])]).to_vec(), "asynchronous message, event 1"),
        ("read", header(&[(0, &[0x24])]).to_vec(), "opcode 0x24"),
    ] {
        let mut table = Table::new(rw, 1, TERMS);
        table.pump();
        let Err(Lost(why)) = table.say(&what) else { panic!("{words}: taken") };
        assert!(why.contains(words), "{why}");
    }
    let mut table = Table::new("read", 1, TERMS);
    table.peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(table.say(&[]), Err(Lost("the target closed the connection".to_owned())));
}
