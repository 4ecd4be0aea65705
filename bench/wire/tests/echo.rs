//! Both halves of the echo pair: the program here, and what `lunette-load --wire` does.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lunette_load::Options;

/// A server with a disk of 4 MiB; it ends with the test.
struct Wire {
    child: Child,
    address: String,
}

impl Wire {
    fn start() -> Wire {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunette-wire"));
        command.args(["--listen", "127.0.0.1:0", "--bytes", "4M"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().trim_end().to_owned();
        Wire { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A SCSI Command with this ITT, length and CDB; CmdSN 9.
fn command(itt: u8, bytes: u32, cdb: &[u8]) -> [u8; 48] {
    let mut header = [0; 48];
    header[..2].copy_from_slice(&[0x01, 0x80]);
    header[19] = itt;
    header[20..24].copy_from_slice(&bytes.to_be_bytes());
    header[27] = 9;
    header[32..32 + cdb.len()].copy_from_slice(cdb);
    header
}

#[test]
fn requests_are_answered_to_the_byte() {
    let wire = Wire::start();
    let mut stream = wire.connect();
    let mut write = command(3, 512, &[0x2a, 0, 0, 0, 0, 5, 0, 0, 1, 0]);
    write[6] = 2;
    let mut request = write.to_vec();
    request.extend([0xab; 512]);
    request.extend(command(4, 1024, &[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]));
    request.extend(command(5, 32, &[0x9e, 0x10]));
    // In pieces that end within headers and data.
    for piece in request.chunks(100) {
        stream.write_all(piece).unwrap();
    }
    let mut answer = [0; 48 + 48 + 1024 + 48 + 32];
    stream.read_exact(&mut answer).unwrap();
    let mut expected = [0; 48];
    expected[..2].copy_from_slice(&[0x21, 0x80]);
    (expected[19], expected[27], expected[31], expected[34], expected[35]) = (3, 1, 10, 0x10, 9);
    assert_eq!(answer[..48], expected);
    let mut expected = [0; 48];
    expected[..2].copy_from_slice(&[0x25, 0x81]);
    expected[20..24].fill(0xff);
    (expected[6], expected[19], expected[27], expected[31], expected[34], expected[35]) =
        (4, 4, 2, 10, 0x10, 9);
    assert_eq!(answer[48..96], expected);
    assert_eq!((&answer[96..608], &answer[608..610]), (&[0xab; 512][..], &[0, 0][..]));
    assert_eq!(answer[1120..1124], [0x25, 0x81, 0, 0]);
    assert_eq!(answer[1168..1180], [0, 0, 0, 0, 0, 0, 0x1f, 0xff, 0, 0, 2, 0]);
}

#[test]
fn what_it_does_not_know_ends_the_connection_and_nothing_else() {
    let wire = Wire::start();
    let mut short = command(1, 1024, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    short[6] = 2;
    for header in [
        command(1, 0, &[0x12]),
        // Past the end, by a block and by far.
        command(1, 1024, &[0x28, 0, 0, 0, 0x1f, 0xff, 0, 0, 2, 0]),
        command(1, 512, &[0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1]),
        // Data that would have to be asked for.
        short,
        command(1, 64, &[0x9e, 0x10]),
    ] {
        let mut stream = wire.connect();
        stream.write_all(&header).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "{header:?}");
    }
    let mut stream = wire.connect();
    stream.write_all(&command(1, 512, &[0x28])).unwrap();
    stream.read_exact(&mut [0; 560]).unwrap();
}

#[test]
fn data_come_back_as_they_were_written() {
    let wire = Wire::start();
    for line in [
        "--rw mixed:50",
        "--rw mixed:50 --bs 512 --connections 4",
        "--rw mixed:50 --bs 64K --qd 8 --connections 2",
        "--rw mixed:50 --bs 256K --qd 2",
        "--rw write --bs 128K --qd 8",
    ] {
        let line =
            format!("lunette-load --wire --portal {} --verify --seconds 0.3 --warmup 0 {line}", wire.address);
        let options = <Options as clap::Parser>::try_parse_from(line.split_whitespace()).unwrap();
        let report = lunette_load::run(&options).unwrap();
        assert!(report.is_clean() && report.ios > report.unchecked, "{line}: {report:?}");
    }
}
