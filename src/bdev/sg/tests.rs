//! A device behind a driver that is played, reached through the calls that a real one is.

mod finding;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::slots::fake::{Command, Fake, Reply};
use super::*;
use crate::bdev::pass::{Flow, SENSE_BYTES_MAX, Told};
use crate::bdev::{ChannelState, Done, Io, IoError, Op, Refused, Wake};
use crate::buf::{Buf, Class, Pool};
use crate::slab::Key;
use crate::time::Tick;

const SOON: Duration = Duration::from_secs(10);
const DISK: [u8; 36] = *b"\0\0\x06\x02\x1f\0\0\0ACME    Rocket disk     0042";
const NAA: [u8; 16] = [0, 0x83, 0, 12, 0x01, 0x03, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7];

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn bytes_of(text: &[u8], data: &mut [u8]) -> Reply {
    let moved = text.len().min(data.len());
    data[..moved].copy_from_slice(&text[..moved]);
    Reply::Ended { status: 0, host: 0, sense: Vec::new(), residual: data.len() - moved }
}

/// What says who it is, as a disk of 1000 blocks of 512 bytes; none for all other commands.
fn disk(command: &mut Command<'_>) -> Option<Reply> {
    let said: &[u8] = match command.cdb {
        [0x12, 0, ..] => &DISK,
        [0x12, 1, 0x80, ..] => &[0, 0x80, 0, 2, b'4', b'2'],
        [0x12, 1, 0x83, ..] => &NAA,
        [0x25, ..] => &[0, 0, 0x03, 0xe7, 0, 0, 0x02, 0],
        _ => return None,
    };
    Some(bytes_of(said, command.data))
}

/// A disk that does this with what does not ask who it is.
fn passed(
    part_bytes_max: u32,
    device: impl Fn(Command<'_>) -> Reply + Send + Sync + 'static,
) -> (Rig, SgDisk) {
    let fake =
        Fake::new(part_bytes_max, move |mut command| disk(&mut command).unwrap_or_else(|| device(command)));
    let disk = SgDisk::behind(recipe(None), fake);
    disk.find().unwrap();
    (Rig::new(&disk), disk)
}

fn recipe(uuid: Option<[u8; 16]>) -> Recipe {
    Recipe { name: "sg0".to_owned(), path: "/dev/sg0".into(), read_only: false, timeout_ms: 5000, uuid }
}

fn cdb(bytes: &[u8]) -> Cdb {
    let mut cdb = [0; 32];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

fn key(index: u32) -> Key {
    Key { index, generation: 7 }
}

struct Rig {
    channel: Box<dyn Channel>,
    pool: Pool,
    out: Vec<Done>,
}

impl Rig {
    fn new(disk: &SgDisk) -> Rig {
        let channel = disk.open(ReactorId(0));
        let pool = Pool::ordinary(&[Class { bytes: 8192, count: 32 }]).unwrap();
        let mut rig = Rig { channel, pool, out: Vec::with_capacity(64) };
        until("it is opened", || {
            rig.channel.poll(&mut rig.out, 64, Tick::ZERO);
            rig.channel.state() != ChannelState::Opening
        });
        rig
    }

    fn buf(&self, bytes: usize) -> Buf {
        let mut buf = self.pool.take(bytes).unwrap();
        buf.fill(0xee);
        buf
    }

    fn submit(&mut self, tag: u32, cdb: Cdb, flow: Flow, data: Option<Buf>) {
        let bytes = data.as_ref().map_or(0, |data| u32::try_from(data.len()).unwrap());
        let op = Op::Pass { cdb, flow, bytes };
        self.channel.submit(Io { tag: key(tag), op, data }, Tick::ZERO).unwrap();
    }

    /// The next command that has ended. Waits as a reactor does.
    fn ended(&mut self) -> Done {
        let until = Instant::now() + SOON;
        loop {
            self.channel.poll(&mut self.out, 1, Tick::ZERO);
            if let Some(done) = self.out.pop() {
                return done;
            }
            assert!(Instant::now() < until, "not in time");
            let Wake::Fd(fd) = self.channel.wake() else { continue };
            wait(fd);
        }
    }

    fn told(&mut self, tag: u32) -> (Option<Told>, Vec<u8>) {
        let mut sense = [0xee; SENSE_BYTES_MAX];
        let told = self.channel.told(key(tag), &mut sense);
        (told, sense[..told.map_or(0, |told| told.sense_bytes)].to_vec())
    }

    /// One command, from begin to end.
    fn run(&mut self, cdb: Cdb, flow: Flow, data: Option<Buf>) -> (Told, Vec<u8>, Option<Buf>) {
        self.submit(1, cdb, flow, data);
        let done = self.ended();
        assert_eq!((done.tag, done.result), (key(1), Ok(())));
        let (told, sense) = self.told(1);
        (told.unwrap(), sense, done.data)
    }
}

#[expect(unsafe_code, reason = "names a descriptor that the channel only lends as a number")]
fn wait(fd: i32) {
    // SAFETY: the channel keeps it open, and is not used meanwhile.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap();
}

const GOOD: Told = Told { status: 0, residual_bytes: 0, sense_bytes: 0 };

#[test]
fn data_go_both_ways_as_they_are() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (mut rig, _disk) = passed(1 << 18, move |command| {
        log.lock().unwrap().push((
            command.cdb.to_vec(),
            command.is_out,
            command.data.to_vec(),
            command.timeout_ms,
        ));
        if command.is_out { Reply::GOOD } else { bytes_of(b"what it said", command.data) }
    });
    let (told, _, data) = rig.run(cdb(&[0xb8, 0, 0, 1]), Flow::In, Some(rig.buf(12)));
    assert_eq!((told, data.as_deref()), (GOOD, Some(&b"what it said"[..])));
    let (told, _, data) = rig.run(cdb(&[0xb8, 0, 0, 2]), Flow::In, Some(rig.buf(20)));
    assert_eq!(told, Told { residual_bytes: 8, ..GOOD });
    assert_eq!(&data.unwrap()[..12], b"what it said");
    let mut data = rig.buf(6);
    data.copy_from_slice(b"to it.");
    assert_eq!(rig.run(cdb(&[0x0a, 0, 0, 0, 6]), Flow::Out, Some(data)).0, GOOD);
    assert_eq!(rig.run(cdb(&[0x01]), Flow::None, None).0, GOOD);
    let expected = [
        (cdb(&[0xb8, 0, 0, 1])[..12].to_vec(), false, vec![0xee; 12], 5000),
        (cdb(&[0xb8, 0, 0, 2])[..12].to_vec(), false, vec![0xee; 20], 5000),
        (vec![0x0a, 0, 0, 0, 6, 0], true, b"to it.".to_vec(), 5000),
        // A rewind takes its time.
        (vec![0x01, 0, 0, 0, 0, 0], false, Vec::new(), 14_400_000),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn sense_data_come_back_as_they_are() {
    // A tape block that is shorter than asked for: data and CHECK CONDITION (ILI).
    let sense: Vec<u8> = [0xf0, 0, 0x20, 0, 0, 0, 8, 88].into_iter().chain(8..96).collect();
    let said = sense.clone();
    let (mut rig, _disk) = passed(1 << 18, move |command| {
        command.data[..4].copy_from_slice(b"tape");
        Reply::Ended { status: 2, host: 0, sense: said.clone(), residual: 8 }
    });
    let (told, told_sense, data) = rig.run(cdb(&[0x08, 0, 0, 0, 12]), Flow::In, Some(rig.buf(12)));
    assert_eq!(told, Told { status: 2, residual_bytes: 8, sense_bytes: 96 });
    assert_eq!(told_sense, sense);
    assert_eq!(&data.unwrap()[..4], b"tape");
    assert_eq!(rig.told(1).0, None, "asked once");
}

#[test]
fn a_host_that_fails_is_told_as_sense_data() {
    let (mut rig, _disk) = passed(1 << 18, |command| Reply::Ended {
        status: 0,
        host: u16::from(command.cdb[5]),
        sense: Vec::new(),
        residual: 0,
    });
    let (told, sense, _) = rig.run(cdb(&[0, 0, 0, 0, 0, 3]), Flow::None, None);
    assert_eq!(
        (told.status, &sense[..]),
        (2, &[0x70, 0, 0xb, 0, 0, 0, 0, 10, 0, 0, 0, 0, 8, 1, 0, 0, 0, 0][..])
    );
    assert_eq!(rig.run(cdb(&[0, 0, 0, 0, 0, 2]), Flow::None, None).0.status, 8);
    rig.submit(1, cdb(&[0, 0, 0, 0, 0, 1]), Flow::None, None);
    assert_eq!(rig.ended().result, Err(IoError::Gone));
}

#[test]
fn reads_of_more_than_the_host_moves_are_cut() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (mut rig, _disk) = passed(1536, move |command| {
        log.lock().unwrap().push((command.cdb[5], command.cdb[8], command.data.len()));
        command.data.fill(command.cdb[5]);
        match command.cdb[5] {
            26 => Reply::Ended { status: 2, host: 0, sense: vec![0x70, 0, 3], residual: 512 },
            _ => Reply::GOOD,
        }
    });
    let read = |lba: u8| cdb(&[0x28, 0, 0, 0, 0, lba, 0, 0, 8, 0]);
    let (told, _, data) = rig.run(read(5), Flow::In, Some(rig.buf(4096)));
    let expected: Vec<u8> = [vec![5; 1536], vec![8; 1536], vec![11; 1024]].concat();
    assert_eq!((told, data.as_deref()), (GOOD, Some(&expected[..])));
    assert_eq!(*seen.lock().unwrap(), [(5, 3, 1536), (8, 3, 1536), (11, 2, 1024)]);
    // The second part fails behind two of its blocks.
    let (told, sense, _) = rig.run(read(23), Flow::In, Some(rig.buf(4096)));
    assert_eq!(told, Told { status: 2, residual_bytes: 4096 - 1536 - 1024, sense_bytes: 3 });
    assert_eq!(sense, [0x70, 0, 3]);
    // What is no block of data is the device's affair.
    seen.lock().unwrap().clear();
    assert_eq!(rig.run(cdb(&[0x3c, 2, 0, 0, 0, 0, 0, 0x10]), Flow::In, Some(rig.buf(4096))).0, GOOD);
    assert_eq!(*seen.lock().unwrap(), [(0, 0, 4096)]);
}

#[test]
fn long_cdbs_go_whole_and_are_cut_with_their_tags() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (mut rig, _disk) = passed(2048, move |command| {
        log.lock().unwrap().push((command.cdb.to_vec(), command.data.len()));
        Reply::GOOD
    });
    let long = |action: u8, flags: u8, lba: u8, tag: u8, blocks: u8| {
        let mut long = cdb(&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, action, flags]);
        (long[19], long[23], long[31]) = (lba, tag, blocks);
        long[24..28].copy_from_slice(&[0xab, 0xcd, 0xff, 0xff]);
        long
    };
    for (action, flow) in [(0x09, Flow::In), (0x0b, Flow::Out)] {
        rig.run(long(action, 0, 7, 9, 8), flow, Some(rig.buf(4096)));
        let part = |lba, tag| (long(action, 0, lba, tag, 4).to_vec(), 2048);
        assert_eq!(*seen.lock().unwrap(), [part(7, 9), part(11, 13)]);
        seen.lock().unwrap().clear();
        // With protection information among its data it is asked for as it is: whether it can be done, its way decides.
        rig.run(long(action, 0x20, 7, 9, 4), flow, Some(rig.buf(4 * 520)));
        rig.run(long(action, 0x20, 7, 9, 8), flow, Some(rig.buf(4096)));
        let whole = |blocks, bytes| (long(action, 0x20, 7, 9, blocks).to_vec(), bytes);
        assert_eq!(*seen.lock().unwrap(), [whole(4, 2080), whole(8, 4096)]);
        seen.lock().unwrap().clear();
    }
    // Shorter ones of variable length.
    rig.run(cdb(&[0x7f, 0, 0, 0, 0, 0, 0, 0x0c, 0x88, 1]), Flow::None, None);
    assert_eq!(*seen.lock().unwrap(), [(cdb(&[0x7f, 0, 0, 0, 0, 0, 0, 0x0c, 0x88, 1])[..20].to_vec(), 0)]);
}

#[test]
fn answers_come_in_any_order_and_there_is_room_for_sixteen() {
    let (mut rig, _disk) =
        passed(1 << 18, |command| if command.cdb[5] == 0 { Reply::Later } else { Reply::GOOD });
    for tag in 0..16 {
        rig.submit(tag, cdb(&[0, 0, 0, 0, 0, u8::try_from(tag).unwrap()]), Flow::None, None);
    }
    let op = Op::Pass { cdb: cdb(&[0]), flow: Flow::None, bytes: 0 };
    let io = Io { tag: key(16), op, data: None };
    let Err(Refused::Full(io)) = rig.channel.submit(io, Tick::ZERO) else { panic!("sixteen are the most") };
    let tags: Vec<u32> = (0..16).map(|_| rig.ended().tag.index).collect();
    assert_eq!(tags[..3], [1, 0, 2]);
    assert_eq!((rig.channel.in_flight(), rig.channel.wake()), (0, Wake::Idle));
    // They are kept until they were asked.
    let Err(Refused::Full(io)) = rig.channel.submit(io, Tick::ZERO) else { panic!("nobody has asked") };
    for tag in 0..16 {
        assert_eq!(rig.told(tag).0, Some(GOOD));
    }
    rig.channel.submit(io, Tick::ZERO).unwrap();
}

/// Whether a reactor that waits for it would wake now.
#[expect(unsafe_code, reason = "names a descriptor that the channel only lends as a number")]
fn wakes(fd: i32) -> bool {
    // SAFETY: the channel keeps it open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&Timespec::default())).unwrap() > 0
}

#[test]
fn a_channel_with_nothing_in_flight_wakes_nobody() {
    let (mut rig, _disk) = passed(1 << 18, |command| match command.cdb[5] {
        0 => Reply::GOOD,
        _ => Reply::Last,
    });
    for last in [0, 1] {
        rig.submit(1, cdb(&[0, 0, 0, 0, 0, last]), Flow::None, None);
        let Wake::Fd(fd) = rig.channel.wake() else { panic!("something is in flight") };
        assert_eq!(rig.ended().result, Ok(()));
        rig.told(1);
        assert_eq!((wakes(fd), rig.channel.wake()), (false, Wake::Idle), "{last}");
    }
    rig.submit(1, cdb(&[0]), Flow::None, None);
    assert_eq!(rig.ended().result, Err(IoError::Gone));
}

#[test]
fn a_device_that_is_pulled_out_is_gone() {
    let (mut rig, disk) = passed(1 << 18, |command| match command.cdb[5] {
        0 => Reply::Later,
        _ => Reply::Gone,
    });
    let data = rig.buf(512);
    rig.submit(1, cdb(&[0x12]), Flow::None, None);
    assert_eq!(rig.ended().result, Ok(()));
    rig.submit(2, cdb(&[0xb8]), Flow::In, Some(data));
    rig.submit(3, cdb(&[0, 0, 0, 0, 0, 1]), Flow::None, None);
    let mut ended = [rig.ended(), rig.ended()];
    ended.sort_by_key(|done| done.tag.index);
    let [two, three] = ended;
    assert_eq!((two.tag, two.result), (key(2), Err(IoError::Gone)));
    assert!(two.data.is_none(), "what the driver has is not used again");
    assert_eq!((three.tag, three.result), (key(3), Err(IoError::Gone)));
    drop(disk);
}

/// What a device replies that is pulled out once, who hears of it, and who has it answer what it has then.
fn leaving() -> (impl Fn() -> Option<Reply>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (is_gone, gone) = mpsc::channel();
    let (answer, until) = mpsc::channel();
    let reply = Mutex::new(Some(Reply::Leaving { is_gone, until }));
    (move || reply.lock().unwrap().take(), gone, answer)
}

#[test]
fn what_a_device_that_is_pulled_out_still_answers_is_told() {
    let (leave, gone, answer) = leaving();
    let (mut rig, _disk) = passed(1 << 18, move |command| match command.cdb[..] {
        [0xb8, ..] => {
            command.data.fill(7);
            Reply::Later
        }
        [0, 0, 0, 0, 0, 9] => leave().unwrap(),
        _ => Reply::GOOD,
    });
    let data = rig.buf(512);
    rig.submit(1, cdb(&[0xb8]), Flow::In, Some(data));
    rig.submit(2, cdb(&[0, 0, 0, 0, 0, 9]), Flow::None, None);
    gone.recv_timeout(SOON).unwrap();
    // One that is not taken gives nothing up that was.
    rig.submit(3, cdb(&[0]), Flow::None, None);
    let done = rig.ended();
    assert_eq!((done.tag, done.result), (key(3), Err(IoError::Gone)));
    for _ in 0..3 {
        rig.channel.poll(&mut rig.out, 64, Tick::ZERO);
    }
    assert_eq!((rig.out.len(), rig.channel.in_flight(), rig.channel.state()), (0, 2, ChannelState::Gone));
    let Wake::Fd(fd) = rig.channel.wake() else { panic!("two are in flight") };
    assert!(!wakes(fd), "nothing has come");
    let op = Op::Pass { cdb: cdb(&[0]), flow: Flow::None, bytes: 0 };
    let refused = rig.channel.submit(Io { tag: key(4), op, data: None }, Tick::ZERO);
    assert!(matches!(refused, Err(Refused::Gone(_))));
    answer.send(()).unwrap();
    let done = rig.ended();
    assert_eq!((done.tag, done.result, done.data.as_deref()), (key(1), Ok(()), Some(&[7; 512][..])));
    assert_eq!(rig.told(1).0, Some(GOOD));
    let done = rig.ended();
    assert_eq!((done.tag, done.result), (key(2), Err(IoError::Gone)));
    assert_eq!((rig.channel.in_flight(), rig.channel.wake()), (0, Wake::Idle));
}

#[test]
fn nothing_but_commands_is_done() {
    let (mut rig, _disk) = passed(1 << 18, |_| Reply::GOOD);
    for op in [Op::Flush, Op::Read { lba: 0, blocks: 1 }] {
        let data = Some(rig.buf(512));
        rig.channel.submit(Io { tag: key(1), op, data }, Tick::ZERO).unwrap();
        assert_eq!(rig.ended().result, Err(IoError::Unsupported));
    }
}
