//! The server's half of a bare echo pair: what kernel TCP can do on this machine with the bytes of iSCSI reads and writes.
//! `lunette-load --wire` is the other half.
//!
//! It knows the 48 bytes of a SCSI Command with READ or WRITE (10 or 16) in it, and READ CAPACITY (16), of blocks of 512
//! bytes; data of writes are immediate. No login, no digests, no window, no errors: what it does not know ends the
//! connection. One thread; a call each to wait, to receive all that is there and to send all answers.

mod memory;

use std::convert::Infallible;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use arrayvec::ArrayVec;
use clap::Parser;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, readv};
use rustix::net::{SendAncillaryBuffer, SendFlags, listen, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Serves a RAM disk to `lunette-load --wire`: the limit of kernel TCP on this machine.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 lets the system choose
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// Size of the disk: a number, perhaps with K, M or G behind it
    #[arg(long, value_name = "SIZE", value_parser = size)]
    bytes: usize,
    /// Run on this CPU
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let power = ["", "K", "M", "G"].iter().position(|unit| text[digits.len()..].eq_ignore_ascii_case(unit));
    let bytes = power.and_then(|power| digits.parse::<usize>().ok()?.checked_mul(1 << (10 * power)));
    bytes.filter(|&bytes| bytes > 0 && bytes % 512 == 0).ok_or_else(|| "a multiple of 512".to_owned())
}

const BLOCK_BYTES: u64 = 512;
/// Bytes received at once, beside the rest of a write's data.
const STAGING_BYTES: usize = 256 << 10;
/// The same when data are so long that copying them out of there would cost more than a call.
const LONG_BYTES: usize = 16 << 10;
const LONG_STAGING_BYTES: usize = 512;
/// Slices of one send: the kernel's bound.
const SLICES_MAX: usize = 1024;
/// Empty looks before waiting in the kernel: about 50 µs.
const LOOKS: u32 = 500;
/// What the listener's events carry.
const LISTENER: u64 = u64::MAX;

fn main() -> ExitCode {
    let Err(error) = serve(&Options::parse());
    eprintln!("lunette-wire: {error}");
    ExitCode::FAILURE
}

fn serve(options: &Options) -> io::Result<Infallible> {
    if let Some(cpu) = options.cpu.filter(|&cpu| cpu < CpuSet::MAX_CPU) {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let disk = memory::map(options.bytes)?;
    let listener = TcpListener::bind(options.listen)?;
    listener.set_nonblocking(true)?;
    listen(&listener, 1024)?;
    println!("listening on {}", listener.local_addr()?);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut staging = vec![0; 48 + STAGING_BYTES];
    let mut events = [const { MaybeUninit::uninit() }; 256];
    let mut looks = 0;
    loop {
        looks += 1;
        let timeout = if looks < LOOKS { Some(&Timespec { tv_sec: 0, tv_nsec: 0 }) } else { None };
        let ready = match epoll::wait(&epoll, &mut events, timeout) {
            Err(Errno::INTR) => continue,
            waited => waited?.0,
        };
        for event in ready {
            looks = 0;
            let data = event.data;
            if data.u64() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    let index = usize::try_from(stream.as_raw_fd()).map_err(io::Error::other)?;
                    epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
                    conns.resize_with(conns.len().max(index + 1), || None);
                    conns[index] = Some(Conn::new(stream)?);
                }
                continue;
            }
            let slot = &mut conns[data.u64() as usize];
            let Some(conn) = slot else { continue };
            let was_blocked = conn.tx.is_blocked();
            match conn.turn(disk, &mut staging) {
                Ok(()) if conn.tx.is_blocked() == was_blocked => {}
                // While answers wait for room, no requests are taken.
                Ok(()) => {
                    let sought = if was_blocked { EventFlags::IN } else { EventFlags::OUT };
                    epoll::modify(&epoll, &conn.stream, data, sought)?;
                }
                Err(_) => *slot = None,
            }
        }
    }
}

struct Conn {
    stream: TcpStream,
    /// The beginning of a header.
    head: Vec<u8>,
    /// Where data of the write that was begun go, and the answer to it.
    data: Range<usize>,
    answer: [u8; 48],
    staging_bytes: usize,
    stat_sn: u32,
    tx: Tx,
}

impl Conn {
    /// With the options that lunette sets, and no others.
    fn new(stream: TcpStream) -> io::Result<Conn> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let (head, answer, tx, staging_bytes) = (Vec::new(), [0; 48], Tx::default(), STAGING_BYTES);
        Ok(Conn { stream, head, data: 0..0, answer, staging_bytes, stat_sn: 1, tx })
    }

    fn turn(&mut self, disk: &mut [u8], staging: &mut [u8]) -> Result<(), Errno> {
        if self.tx.is_blocked() {
            return self.tx.send(&self.stream, disk);
        }
        let head_bytes = self.head.len();
        let (head, room) = staging.split_at_mut(head_bytes);
        head.copy_from_slice(&self.head);
        let mut room =
            [IoSliceMut::new(&mut disk[self.data.clone()]), IoSliceMut::new(&mut room[..self.staging_bytes])];
        let bytes = match readv(&self.stream, &mut room) {
            Ok(0) => return Err(Errno::PIPE),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            received => received?,
        };
        let mut stored_bytes = 0;
        if !self.data.is_empty() {
            stored_bytes = bytes.min(self.data.len());
            self.data.start += stored_bytes;
            if !self.data.is_empty() {
                return Ok(());
            }
            self.tx.bytes(&self.answer);
        }
        self.parse(&staging[..head_bytes + bytes - stored_bytes], disk)?;
        self.tx.send(&self.stream, disk)
    }

    fn parse(&mut self, mut rest: &[u8], disk: &mut [u8]) -> Result<(), Errno> {
        while let Some((header, after)) = rest.split_first_chunk::<48>() {
            rest = after;
            let word =
                |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let bytes = word(20) as usize;
            let lba = match header[32] {
                0x28 | 0x2a => u64::from(word(34)),
                0x88 | 0x8a => u64::from(word(34)) << 32 | u64::from(word(38)),
                0x9e => 0,
                _ => return Err(Errno::PROTO),
            };
            let start = lba.checked_mul(BLOCK_BYTES).map_or(usize::MAX, |start| start as usize);
            let end = start.checked_add(bytes).filter(|&end| end <= disk.len()).ok_or(Errno::INVAL)?;
            let mut answer = [0; 48];
            answer[16..20].copy_from_slice(&header[16..20]);
            answer[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
            answer[28..32].copy_from_slice(&word(24).wrapping_add(1).to_be_bytes());
            answer[32..36].copy_from_slice(&word(24).wrapping_add(4096).to_be_bytes());
            self.stat_sn = self.stat_sn.wrapping_add(1);
            if header[32] & 0x02 != 0 && header[32] != 0x9e {
                // A SCSI Response, when the data are there.
                answer[..2].copy_from_slice(&[0x21, 0x80]);
                if word(4) as usize != bytes {
                    return Err(Errno::PROTO);
                }
                self.staging_bytes = if bytes < LONG_BYTES { STAGING_BYTES } else { LONG_STAGING_BYTES };
                let here = bytes.min(rest.len());
                disk[start..start + here].copy_from_slice(&rest[..here]);
                rest = &rest[here..];
                if here < bytes {
                    self.data = start + here..end;
                    self.answer = answer;
                    break;
                }
                self.tx.bytes(&answer);
                continue;
            }
            // Data-In, final, with status.
            answer[..2].copy_from_slice(&[0x25, 0x81]);
            answer[4..8].copy_from_slice(&word(20).to_be_bytes());
            answer[20..24].fill(0xff);
            self.tx.bytes(&answer);
            if header[32] == 0x9e {
                let mut data = [0; 32];
                data[..8].copy_from_slice(&(disk.len() as u64 / BLOCK_BYTES - 1).to_be_bytes());
                data[8..12].copy_from_slice(&(BLOCK_BYTES as u32).to_be_bytes());
                self.tx.bytes(data.get(..bytes).ok_or(Errno::INVAL)?);
            } else {
                self.tx.segments.push((true, start..end));
            }
        }
        self.head.clear();
        self.head.extend_from_slice(rest);
        Ok(())
    }
}

/// Answers: headers one behind the other, data where they lie.
#[derive(Default)]
struct Tx {
    headers: Vec<u8>,
    /// Ranges of the disk (true) or the headers.
    segments: Vec<(bool, Range<usize>)>,
    next: usize,
}

impl Tx {
    fn is_blocked(&self) -> bool {
        !self.segments.is_empty()
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let start = self.headers.len();
        self.headers.extend_from_slice(bytes);
        match self.segments.last_mut() {
            Some((false, last)) => last.end += bytes.len(),
            _ => self.segments.push((false, start..self.headers.len())),
        }
    }

    fn send(&mut self, stream: &TcpStream, disk: &[u8]) -> Result<(), Errno> {
        while self.next < self.segments.len() {
            let mut slices: ArrayVec<IoSlice<'_>, SLICES_MAX> = ArrayVec::new();
            slices.extend(self.segments[self.next..].iter().take(SLICES_MAX).map(|(is_disk, range)| {
                IoSlice::new(&if *is_disk { disk } else { &self.headers[..] }[range.clone()])
            }));
            let sent = sendmsg(stream, &slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL);
            drop(slices);
            let mut bytes = match sent {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                sent => sent?,
            };
            while let Some((_, range)) = self.segments.get_mut(self.next).filter(|_| bytes > 0) {
                let sent_bytes = bytes.min(range.len());
                range.start += sent_bytes;
                bytes -= sent_bytes;
                self.next += usize::from(range.start == range.end);
            }
        }
        self.next = 0;
        self.segments.clear();
        self.headers.clear();
        Ok(())
    }
}
