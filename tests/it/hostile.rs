//! The daemon under bad input, with a verifying client beside it.
//!
//! Each test starts a daemon of its own on two reactors, does one bad thing over and over for
//! `LUNETTE_HOSTILE_SECONDS` (2 unless set), and looks at what the operator and the other initiators would notice:
//! their data, the daemon's memory, its log, its end.
#![expect(clippy::unwrap_used, reason = "a test may end where it stands")]

mod daemon;
mod neighbour;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lunette_initiator::pdu::request::{DataOut, LoginRequest, NopOut, ScsiCommand};
use lunette_initiator::pdu::{NO_TAG, Pdu};
use lunette_initiator::scsi::cdb;
use lunette_initiator::socket::Wire;
use lunette_initiator::{Config, Offer};

use daemon::Daemon;
use neighbour::Neighbour;

/// Resident memory may grow by so much.
const GROWTH_KIB_MAX: u64 = 64 * 1024;
/// Log lines a minute, at most.
const LINES_PER_MINUTE: usize = 20;
/// Connections of the storms that are open at a time.
const OPEN_MAX: usize = 64;

fn seconds() -> u64 {
    std::env::var("LUNETTE_HOSTILE_SECONDS")
        .map_or(2, |seconds| seconds.parse().expect("a number of seconds"))
}

/// Does `bad` to a fresh daemon again and again while a neighbour verifies its data. The log says `why`, of whom.
fn endure(why: &str, mut bad: impl FnMut(SocketAddr, u32)) {
    let daemon = Daemon::start();
    // What the daemon sets aside once it serves anybody is no growth.
    let mut neighbour = Neighbour::start(daemon.address());
    neighbour.wait_for_rounds(4);
    let before_kib = daemon.resident_kib();
    let begin = Instant::now();
    let (mut round, mut peak_kib) = (0, 0);
    while begin.elapsed() < Duration::from_secs(seconds()) {
        bad(daemon.address(), round);
        round += 1;
        peak_kib = peak_kib.max(daemon.resident_kib());
    }
    drop(bad);
    neighbour.wait_for_rounds(4);
    let grown_kib = peak_kib.max(daemon.resident_kib()).saturating_sub(before_kib);
    let verified = neighbour.stop();
    let log = daemon.stop();
    let lines = log.lines().filter(|line| !line.is_empty()).count();
    println!("{round} rounds, {verified} verified, {grown_kib} KiB grown, {lines} lines");
    assert!(grown_kib < GROWTH_KIB_MAX, "memory grew by {grown_kib} KiB");
    let is_said =
        log.lines().any(|line| line.contains(why) && line.contains("peer=") && line.contains("127.0.0.1"));
    assert!(is_said, "nobody says '{why}':\n{log}");
    // Those of the start and of the end are not the peers' doing.
    let most = lines_in_a_minute(&log);
    assert!(most <= LINES_PER_MINUTE + daemon::OWN_LINES, "{most} lines in a minute:\n{log}");
}

/// The most lines that fall into any 60 seconds. The log's own thread sets their times, so that they are a little late.
fn lines_in_a_minute(log: &str) -> usize {
    const MINUTE_MS: u64 = 60_000 - 500;
    const DAY_MS: u64 = 24 * 3600 * 1000;
    let mut times: Vec<u64> = log.lines().filter(|line| !line.is_empty()).map(time_ms).collect();
    if let Some(midnight) = times.windows(2).position(|pair| pair[1] + DAY_MS / 2 < pair[0]) {
        times[midnight + 1..].iter_mut().for_each(|time| *time += DAY_MS);
    }
    let from = |first: usize| times[first..].iter().take_while(|&&at| at < times[first] + MINUTE_MS).count();
    (0..times.len()).map(from).max().unwrap_or(0)
}

/// The time of day of a line that begins with `2026-11-21T05:56:10.837093Z`, in milliseconds.
fn time_ms(line: &str) -> u64 {
    let number = |from: usize, to: usize| -> u64 {
        line.get(from..to).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no time: {line}"))
    };
    ((number(11, 13) * 60 + number(14, 16)) * 60 + number(17, 19)) * 1000 + number(20, 23)
}

#[test]
fn lines_are_counted_in_any_minute() {
    let log =
        "2026-11-21T05:56:10.000000Z a\n2026-11-21T05:56:50.500000Z b\n\n2026-11-21T05:57:10.000001Z c\n";
    assert_eq!(lines_in_a_minute(log), 2);
    assert_eq!(lines_in_a_minute(""), 0);
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the daemon accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Reads until the daemon closes, resets, or has nothing to say in the socket's time. What it said.
fn said(stream: &mut TcpStream) -> usize {
    let mut bytes = [0; 65536];
    let mut total = 0;
    loop {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return total,
            Ok(count) => total += count,
        }
    }
}

/// The daemon ends the connection within the socket's time.
fn is_closed_by_peer(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 65536];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// A session of an initiator with this number.
fn session(address: SocketAddr, number: u32, offer: Offer) -> Wire {
    let mut wire = Wire::connect(address).unwrap();
    let [_, a, b, c] = number.to_be_bytes();
    let config = Config {
        isid: [0x80, 0, 1, a, b, c],
        offer,
        ..Config::new("iqn.2025-01.com.example:hostile", daemon::TARGET)
    };
    wire.login(&config).unwrap();
    wire
}

fn some_bytes(seed: u32, count: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn port_scanner() {
    endure("closed before login", |address, round| {
        let mut open: Vec<TcpStream> = (0..OPEN_MAX).map(|_| connect(address)).collect();
        if round % 2 == 0 {
            // As a scanner that waits for a banner does.
            open.iter_mut().for_each(|stream| stream.write_all(b"\r\n\r\n").unwrap());
        }
    });
}

#[test]
fn random_bytes() {
    endure("NotLogin(", |address, round| {
        let mut stream = connect(address);
        // It may close before it has got all.
        let _ = stream.write_all(&some_bytes(round, 1000));
        assert!(is_closed_by_peer(&mut stream), "random bytes are no login");
        let mut wire = session(address, round, Offer::usual());
        let _ = wire.send_bytes(&some_bytes(round, 10_000));
        wire.shutdown_write().ok();
        while matches!(wire.receive(), Ok(Some(_))) {}
    });
}

#[test]
fn half_a_pdu_and_silence() {
    // Held until the daemon has ended: silence does not keep it from that either.
    let mut held = Vec::new();
    endure("session begins", |address, round| {
        // A bounded number is kept open in silence; each is half a header, before login or after it.
        if held.len() < OPEN_MAX {
            let mut stream = connect(address);
            stream.write_all(&[0x43; 24]).unwrap();
            held.push((Some(stream), None));
            let mut wire = session(address, round, Offer::usual());
            wire.send_bytes(&[0x01; 24]).unwrap();
            held.push((None, Some(wire)));
        } else {
            // Others still get in.
            drop(session(address, round, Offer::usual()));
        }
    });
}

#[test]
fn oversized_length() {
    endure("longer than our MaxRecvDataSegmentLength", |address, round| {
        let mut login = [0; 48];
        (login[0], login[1]) = (0x43, 0x87);
        login[5..8].fill(0xff);
        let mut stream = connect(address);
        stream.write_all(&login).unwrap();
        assert!(is_closed_by_peer(&mut stream), "a login of 16 MiB");
        let mut wire = session(address, round, Offer::usual());
        let mut nop = [0; 48];
        (nop[0], nop[1]) = (0x40, 0x80);
        nop[5..8].fill(0xff);
        wire.send_bytes(&nop).unwrap();
        assert_eq!(wire.receive().unwrap(), None, "a PDU of 16 MiB");
    });
}

#[test]
fn login_flood() {
    let names = ["iqn.2025-01.com.example:nowhere", daemon::TARGET];
    endure("NotFound", |address, round| {
        let flood: Vec<_> = (0..OPEN_MAX)
            .map(|index| {
                let mut stream = connect(address);
                let mut bytes = Vec::new();
                let text = format!(
                    "InitiatorName=iqn.2025-01.com.example:flood{index}\0TargetName={}\0SessionType=Normal\0",
                    names[(round as usize + index) % 2]
                );
                let isid = [0x80, 0, 2, 0, 0, index as u8];
                let request = LoginRequest {
                    transit: true,
                    current_stage: 1,
                    next_stage: 3,
                    isid,
                    itt: 1,
                    cmd_sn: 1,
                    ..LoginRequest::default()
                };
                Pdu::new(request.bhs(), text).encode(Default::default(), &mut bytes);
                // Every third stops in the middle.
                let bytes = if index % 3 == 0 { &bytes[..bytes.len() / 2] } else { &bytes };
                let _ = stream.write_all(bytes);
                stream
            })
            .collect();
        let answered = flood.into_iter().enumerate().filter(|(index, _)| index % 3 != 0);
        for (_, mut stream) in answered.take(4) {
            let mut header = [0; 48];
            // Too many at once are closed without a word.
            if stream.read_exact(&mut header).is_ok() {
                assert_eq!(header[0], 0x23);
            }
        }
    });
}

#[test]
fn slow_reader() {
    let mut readers: Vec<Wire> = Vec::new();
    endure("session begins", move |address, round| {
        if readers.len() < 8 {
            readers.push(session(address, round, Offer::usual()));
            let reader = readers.last_mut().unwrap();
            for number in 0..8 {
                let read = ScsiCommand {
                    final_bit: true,
                    read: true,
                    attributes: 1,
                    itt: number,
                    expected_bytes: 2048 * 512,
                    cmd_sn: number + 1,
                    cdb: cdb::read_16(0, 2048, cdb::Flags::default()),
                    ..ScsiCommand::default()
                };
                reader.send(&Pdu::new(read.bhs(), [])).unwrap();
            }
        } else {
            let index = round as usize % readers.len();
            let mut some = [0; 100];
            let _ = readers[index].stream().read(&mut some);
            // Others still get in.
            drop(session(address, round, Offer::usual()));
        }
    });
}

#[test]
fn nops_whose_answers_are_never_read() {
    endure("SlowReader", |address, round| {
        let mut wire = session(address, round, Offer::usual());
        let mut bytes = Vec::new();
        for itt in 0..20_000 {
            let nop = NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn: 1, ..NopOut::default() };
            Pdu::new(nop.bhs(), [0x5a; 512]).encode(Default::default(), &mut bytes);
        }
        wire.set_timeout(Duration::from_secs(60));
        // 11 MB each way; it may close long before it has taken them.
        let _ = wire.send_bytes(&bytes);
        let mut answers = 0;
        while answers < 20_000 {
            match wire.receive() {
                Ok(Some(answer)) => assert_eq!(answer.bhs.0[0], 0x20),
                Ok(None) => break,
                Err(error) => panic!("neither answered nor closed after {answers} answers: {error}"),
            }
            answers += 1;
        }
    });
}

#[test]
fn a_client_that_vanishes_while_it_writes() {
    endure("PeerGone", |address, round| {
        let offer = Offer { initial_r2t: Some(round % 2 == 0), ..Offer::usual() };
        let mut wire = session(address, round, offer);
        let test_unit_ready =
            ScsiCommand { final_bit: true, attributes: 1, itt: 1, cmd_sn: 1, ..ScsiCommand::default() };
        wire.send(&Pdu::new(test_unit_ready.bhs(), [])).unwrap();
        wire.receive().unwrap().expect("the unit attention of a new session");
        let write = ScsiCommand {
            final_bit: round % 2 == 0,
            write: true,
            attributes: 1,
            itt: 2,
            expected_bytes: 512 * 512,
            cmd_sn: 2,
            cdb: cdb::write_16(daemon::SPARE_LBA, 512, cdb::Flags::default()),
            ..ScsiCommand::default()
        };
        wire.send(&Pdu::new(write.bhs(), [0xee; 8192])).unwrap();
        let ttt = if round % 2 == 0 {
            let r2t = wire.receive().unwrap().expect("an R2T");
            assert_eq!(r2t.bhs.0[0], 0x31);
            u32::from_be_bytes(r2t.bhs.0[20..24].try_into().unwrap())
        } else {
            NO_TAG
        };
        let data = DataOut { itt: 2, ttt, offset_bytes: 8192, ..DataOut::default() };
        let mut bytes = Vec::new();
        Pdu::new(data.bhs(), [0xee; 8192]).encode(Default::default(), &mut bytes);
        // Gone in the middle of a PDU.
        wire.send_bytes(&bytes[..4000]).unwrap();
    });
}

#[test]
fn a_talker_before_login_is_cut_off() {
    endure("NotLogin(", |address, _| {
        let mut stream = connect(address);
        let mut nop = [0; 48];
        (nop[0], nop[1]) = (0x40, 0x80);
        let _ = stream.write_all(&nop);
        assert_eq!(said(&mut stream), 0, "nobody is told anything before login");
    });
}
