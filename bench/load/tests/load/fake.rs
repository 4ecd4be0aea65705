//! A server of a few lines that speaks the echo pair's headers, and has manners of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use lunette_initiator::pdu::request::ScsiCommand;
use lunette_initiator::pdu::response::{DataIn, ScsiResponse};
use lunette_initiator::pdu::{Bhs, Digests};

/// What it does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manners {
    Honest,
    /// Writes are answered and not stored.
    ForgetsWrites,
    /// Each connection is closed after so many requests.
    DiesAfter(u32),
}

const DISK_BYTES: usize = 1 << 20;

/// It serves until the test's process ends; each connection has a thread and a disk of its own.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
}

impl Fake {
    pub(crate) fn start(manners: Manners) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                std::thread::spawn(move || serve(stream, manners));
            }
        });
        Fake { address }
    }
}

/// Returns when the peer is gone.
fn serve(mut stream: TcpStream, manners: Manners) {
    let mut disk = vec![0; DISK_BYTES];
    let mut header = [0; 48];
    for count in 0.. {
        if manners == Manners::DiesAfter(count) || stream.read_exact(&mut header).is_err() {
            return;
        }
        let command = ScsiCommand::from_bhs(&Bhs(header));
        let cdb = command.cdb;
        let start = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize * 512;
        let bytes = command.expected_bytes as usize;
        let (stat_sn, max_cmd_sn) = (count + 1, command.cmd_sn + 100);
        let mut out = Vec::new();
        if command.write {
            let mut data = vec![0; bytes];
            stream.read_exact(&mut data).unwrap();
            if manners != Manners::ForgetsWrites {
                disk[start..start + bytes].copy_from_slice(&data);
            }
            let response = ScsiResponse { itt: command.itt, stat_sn, max_cmd_sn, ..ScsiResponse::default() };
            response.with([]).encode(Digests::default(), &mut out);
        } else {
            let data = match cdb[0] {
                0x9e => [&[0, 0, 0, 0, 0, 0, 7, 255, 0, 0, 2, 0][..], &[0; 20]].concat(),
                _ => disk[start..start + bytes].to_vec(),
            };
            let (final_bit, has_status, itt) = (true, true, command.itt);
            let data_in = DataIn { final_bit, has_status, itt, stat_sn, max_cmd_sn, ..DataIn::default() };
            data_in.with(data).encode(Digests::default(), &mut out);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}
