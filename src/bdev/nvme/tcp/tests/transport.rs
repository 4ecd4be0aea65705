//! Whole connections: sockets that break, stall and take their time, and the administration over them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use super::target::{PLAIN, Random, Style, Target};
use super::{Memory, Piece, digests};
use crate::bdev::Wake;
use crate::bdev::nvme::queue::{Payload, PushError, Queue};
use crate::bdev::nvme::spec::{Command, admin, extent_words, nvm};
use crate::bdev::nvme::tcp::queue::TcpQueue;
use crate::bdev::nvme::tcp::socket::{STALL_NS, Stream};
use crate::bdev::nvme::tcp::transport::{Options, TcpTransport};
use crate::bdev::nvme::tcp::wire::{Data, Wire};
use crate::bdev::nvme::transport::{AdminData, Limits, Progress, Transport};
use crate::buf::{Class, Pool};
use crate::time::{SECOND_NS, Tick};

/// A stream and the other end of its socket, which does not wait either.
fn pair(style: &Style) -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Stream::new(Arc::new(ours.into()), Wire::new(1, 8, digests(style))), theirs)
}

/// Feeds the target what came, as much as there is.
fn serve(target: &mut Target, socket: &mut UnixStream) {
    let mut chunk = vec![0; 1 << 16];
    while let Ok(bytes @ 1..) = socket.read(&mut chunk) {
        target.feed(&chunk[..bytes]);
    }
}

/// Greets.
fn open(stream: &mut Stream, target: &mut Target, socket: &mut UnixStream) {
    assert_eq!(stream.next(&mut Memory::default(), Tick::ZERO), None);
    serve(target, socket);
    socket.write_all(&std::mem::take(&mut target.output)).unwrap();
    assert_eq!(stream.next(&mut Memory::default(), Tick::ZERO), None);
    assert!(stream.wire.is_open());
}

fn read_command(blocks: u32) -> Command {
    let [low, high, count] = extent_words(0, blocks);
    Command { opcode: nvm::READ, nsid: 1, cdw10: [low, high, count, 0, 0, 0], ..Command::default() }
}

#[test]
fn a_connection_that_ends_anywhere_breaks_its_queue_only() {
    for seed in 0..200 {
        let (mut stream, mut socket) = pair(&PLAIN);
        let mut target = Target::new(PLAIN, seed);
        open(&mut stream, &mut target, &mut socket);
        let mut memory = Memory(vec![Piece { cid: 1, is_read: true, data: vec![0xEE; 4096] }]);
        assert!(stream.wire.push(1, 1, &read_command(8), Data::In(4096)));
        stream.flush(&memory);
        serve(&mut target, &mut socket);
        // 24 + 4096 + 24 bytes.
        let at = Random(seed).below(target.output.len());
        socket.write_all(&target.output[..at]).unwrap();
        drop(socket);
        for _ in 0..100 {
            assert_eq!(stream.next(&mut memory, Tick::ZERO), None, "it is not complete");
        }
        assert_eq!(stream.wire.fault(), Some("the controller closed the connection"), "seed {seed}");
    }
}

#[test]
fn a_controller_that_stops_in_a_pdu_is_given_up() {
    let (mut stream, mut socket) = pair(&PLAIN);
    let mut target = Target::new(PLAIN, 1);
    open(&mut stream, &mut target, &mut socket);
    let mut memory = Memory::default();
    let second = |n: u64| Tick::from_ns(n * SECOND_NS);
    // Silence alone is none.
    for at in 0..100 {
        assert_eq!(stream.next(&mut memory, second(at)), None);
    }
    assert_eq!(stream.wire.fault(), None);
    socket.write_all(&[5, 0, 24]).unwrap();
    let stall = STALL_NS / SECOND_NS;
    for at in 100..=100 + stall {
        assert_eq!(stream.next(&mut memory, second(at)), None);
        assert_eq!(stream.wire.fault(), None);
    }
    for _ in 0..3 {
        assert_eq!(stream.next(&mut memory, second(102 + stall)), None);
    }
    assert_eq!(stream.wire.fault(), Some("the controller stopped in the middle of a PDU"));
}

#[test]
fn what_the_socket_does_not_take_is_sent_later() {
    let style = Style { capsule_bytes: 0, ..PLAIN };
    let (mut stream, mut socket) = pair(&style);
    let mut target = Target::new(style, 1);
    open(&mut stream, &mut target, &mut socket);
    stream.wire.set_capsule_bytes(1 << 20);
    // More than a socket's buffers; the target is not asked to understand it.
    let bytes = 1 << 20;
    let mut memory = Memory(vec![Piece { cid: 1, is_read: false, data: vec![0x5A; bytes] }]);
    let command = Command { opcode: nvm::WRITE, nsid: 1, ..Command::default() };
    assert!(stream.wire.push(1, 1, &command, Data::Out(bytes)));
    stream.flush(&memory);
    assert!(stream.wire.has_unsent());
    let (mut came, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
    for _ in 0..1000 {
        while let Ok(bytes @ 1..) = socket.read(&mut chunk) {
            came.extend_from_slice(&chunk[..bytes]);
        }
        assert_eq!(stream.next(&mut memory, Tick::ZERO), None);
    }
    assert!(!stream.wire.has_unsent());
    assert_eq!(came.len(), 72 + bytes);
    assert!(came[72..].iter().all(|byte| *byte == 0x5A));
}

#[test]
fn a_queue_says_how_it_is_waited_for() {
    let (mut stream, mut socket) = pair(&PLAIN);
    let mut target = Target::new(PLAIN, 1);
    open(&mut stream, &mut target, &mut socket);
    let mut queue = TcpQueue::new(8, stream);
    assert_eq!((queue.depth(), queue.wake()), (8, Wake::Idle));
    let pool = Pool::ordinary(&[Class { bytes: 4096, count: 1 }]).unwrap();
    let buf = pool.take(4096).unwrap();
    let mut memory = Memory(vec![Piece { cid: 0x101, is_read: true, data: vec![0; 4096] }]);
    queue.push(1, 0x101, &read_command(8), Payload::Read(&buf, (0, 4096))).unwrap();
    assert_eq!(queue.wake(), Wake::MustPoll);
    queue.ring(&mut memory);
    assert!(matches!(queue.wake(), Wake::Fd(_)));
    serve(&mut target, &mut socket);
    socket.write_all(&target.output).unwrap();
    let completion = std::iter::repeat_with(|| queue.pop(&mut memory, Tick::ZERO)).take(10).flatten().next();
    assert_eq!(completion.map(|completion| completion.cid), Some(0x101));
    assert_eq!(queue.wake(), Wake::Idle);
    drop(socket);
    while queue.fault().is_none() {
        assert_eq!(queue.pop(&mut memory, Tick::ZERO), None);
    }
    assert_eq!(queue.wake(), Wake::MustPoll);
    let refused = queue.push(1, 1, &read_command(1), Payload::None);
    assert_eq!(refused, Err(PushError::Broken));
}

/// Targets behind a port, one for each connection, until it is dropped.
struct Server {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(style: Style) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let mut connection = connection.unwrap();
                std::thread::spawn(move || {
                    let mut target = Target::new(style, 1);
                    let mut chunk = vec![0; 1 << 16];
                    while let Ok(bytes @ 1..) = connection.read(&mut chunk) {
                        target.feed(&chunk[..bytes]);
                        if connection.write_all(&std::mem::take(&mut target.output)).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Server { address, is_over, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.take().map(JoinHandle::join);
    }
}

/// Real time, and patience for what takes some.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Tick {
        Tick::from_ns(u64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }

    fn until<T>(&self, mut poll: impl FnMut(Tick) -> Option<T>) -> T {
        while self.0.elapsed().as_secs() < 30 {
            if let Some(value) = poll(self.now()) {
                return value;
            }
            std::thread::yield_now();
        }
        panic!("it takes too long");
    }

    fn settle<T>(&self, mut poll: impl FnMut(Tick) -> Progress<T>) -> Result<T, String> {
        self.until(|now| match poll(now) {
            Progress::Pending => None,
            Progress::Ready(value) => Some(Ok(value)),
            Progress::Failed(why) => Some(Err(why)),
        })
    }
}

fn options(address: SocketAddr, style: &Style) -> Options {
    let digests = digests(style);
    Options { digests, ..Options::new(address, "nqn.test:s", "nqn.test:h", [7; 16]) }
}

#[test]
fn a_controller_is_brought_up_used_reset_and_shut_down() {
    let style = Style { header_digest: true, data_digest: true, alignment: 3, ..PLAIN };
    let server = Server::start(style);
    let clock = Clock(Instant::now());
    let mut transport = TcpTransport::new(options(server.address, &style));
    assert!(transport.check().is_err());
    for round in 0..3 {
        transport.start(clock.now());
        let limits = clock.settle(|now| transport.poll_start(now)).unwrap();
        let expected =
            Limits { entries_max: 64, version: 0x0001_0400, page_bytes_min: 4096, needs_keep_alive: true };
        assert_eq!(limits, expected);
        assert_eq!(transport.check(), Ok(()));

        let identify = Command { opcode: admin::IDENTIFY, cdw10: [1, 0, 0, 0, 0, 0], ..Command::default() };
        assert!(transport.submit(5, &identify, AdminData::In));
        assert!(!transport.submit(5, &identify, AdminData::In), "an id is used once at a time");
        let (cid, model) = clock.until(|now| {
            let (completion, page) = transport.pop(now)?;
            Some((completion.cid, page.unwrap()[24..28].to_vec()))
        });
        assert_eq!((cid, &*model), (5, &b"mock"[..]));

        let mut queue = clock.settle(|now| transport.poll_queue(2, 17, now)).unwrap();
        assert_eq!(queue.depth(), 16);
        assert!(!transport.is_quiet());
        let pool = Pool::ordinary(&[Class { bytes: 65536, count: 2 }]).unwrap();
        let mut buf = pool.take(65536).unwrap();
        buf.fill(0xA0 + round);
        let [low, high, count] = extent_words(64, 128);
        let cdw10 = [low, high, count, 0, 0, 0];
        let mut memory = Memory(vec![
            Piece { cid: 0x100, is_read: false, data: buf.to_vec() },
            Piece { cid: 0x200, is_read: true, data: vec![0; 65536] },
        ]);
        for (cid, opcode) in [(0x100, nvm::WRITE), (0x200, nvm::READ)] {
            let command = Command { opcode, nsid: 1, cdw10, ..Command::default() };
            let extent = (0, 65536);
            let payload =
                if opcode == nvm::WRITE { Payload::Write(&buf, extent) } else { Payload::Read(&buf, extent) };
            queue.push(0, cid, &command, payload).unwrap();
            queue.ring(&mut memory);
            let completion = clock.until(|now| queue.pop(&mut memory, now));
            assert_eq!((completion.cid, completion.status.is_ok()), (cid, true));
        }
        assert!(memory.take(0x200).unwrap().data == *buf, "what was written is read");

        match round {
            // The next start ends it under the lane's hands.
            0 => {
                transport.start(clock.now());
                assert!(!transport.is_quiet());
                clock.settle(|now| transport.poll_start(now)).unwrap();
                assert!(transport.is_quiet());
                clock.until(|now| {
                    assert_eq!(queue.pop(&mut memory, now), None);
                    queue.fault()
                });
            }
            1 => {
                clock.until(|now| transport.poll_delete(2, now).then_some(()));
                transport.forget_queue(2);
                assert!(transport.is_quiet());
            }
            _ => {}
        }
    }
    transport.stop(clock.now());
    clock.settle(|now| transport.poll_stop(now)).unwrap();
    assert!(transport.is_quiet() && transport.check().is_err());
}

#[test]
fn who_is_not_there_or_speaks_something_else_is_told_apart() {
    let clock = Clock(Instant::now());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut transport = TcpTransport::new(options(address, &PLAIN));
    let answer = |text: &'static [u8]| {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            connection.write_all(text).unwrap();
            let _ = connection.read_to_end(&mut Vec::new());
        })
    };
    let other = answer(b"220 mail.test ESMTP ready\r\n");
    transport.start(clock.now());
    let why = clock.settle(|now| transport.poll_start(now)).unwrap_err();
    assert!(why.ends_with("the controller sent a PDU of a type that it has not"), "{why}");
    other.join().unwrap();

    // Silence: time is given by hand.
    let silent = answer(b"");
    transport.start(Tick::ZERO);
    let mut now = Tick::ZERO;
    let why = loop {
        match transport.poll_start(now) {
            Progress::Failed(why) => break why,
            Progress::Ready(limits) => panic!("{limits:?}"),
            Progress::Pending => now = now.after_ns(SECOND_NS / 1000),
        }
        assert!(now.ns() < 60 * SECOND_NS);
    };
    assert!(why.ends_with("it answers, but does not speak NVMe/TCP"), "{why}");
    silent.join().unwrap();

    drop(listener);
    transport.start(clock.now());
    let why = clock.settle(|now| transport.poll_start(now)).unwrap_err();
    assert!(why.contains("refused"), "{why}");
    assert!(transport.is_quiet());
}
