//! What every channel must do, as a suite: each kind of device runs it in its tests.
//!
//! A case panics where the contract is broken. Time is the suite's own: it moves to what [`Wake::At`] names.

mod cases;

use std::fmt;
use std::sync::Arc;

use super::{Bdev, Channel, ChannelState, Done, Io, Op, Refused, Wake};
use crate::buf::{Buf, Class, Hugepages, Memory, Pool};
use crate::id::ReactorId;
use crate::net::kernel::KernelNet;
use crate::net::{Net, Wait};
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

/// More IOs than any channel takes at once.
const IOS_MAX: usize = 4096;
/// Polls within which everything in flight must have ended; those that wait in the kernel wait up to a second each.
const POLLS_MAX: usize = 100_000_000;

/// A fresh device for one case, of at least 64 blocks.
pub struct Made {
    /// It.
    pub bdev: Arc<dyn Bdev>,
    /// Sets its size in blocks, where that can change.
    pub resize: Option<Box<dyn Fn(u64)>>,
}

/// What the suite is run on.
pub struct Subject<'a> {
    /// What panics call it.
    pub name: &'a str,
    /// Makes a device of its own for each case.
    pub make: &'a dyn Fn() -> Made,
    /// What is written can be read again.
    pub keeps_data: bool,
    /// A channel that is dropped with IO in flight gives its memory back. Else it keeps it for ever, as the device may still
    /// write there.
    pub frees_on_drop: bool,
}

/// Runs every case.
///
/// # Panics
/// Where one fails; standard error says which.
pub fn suite(subject: &Subject<'_>) {
    for (name, case) in cases::CASES {
        let _told = TellOnPanic { subject: subject.name, case: name };
        case(subject);
    }
}

/// Names the case that failed.
struct TellOnPanic<'a> {
    subject: &'a str,
    case: &'a str,
}

impl Drop for TellOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("contract of {}: {}", self.subject, self.case);
        }
    }
}

/// A device, one channel to it, memory, and a clock.
struct Rig {
    made: Made,
    block_bytes: usize,
    channel: Box<dyn Channel>,
    pool: Pool,
    now: Tick,
    waiter: KernelNet,
}

impl Rig {
    fn new(subject: &Subject<'_>) -> Rig {
        let made = (subject.make)();
        let info = made.bdev.info();
        assert!(info.blocks >= 64, "the suite needs 64 blocks");
        let channel = made.bdev.open(ReactorId(0));
        // A device without an IOMMU can reach hugepages only.
        let classes = [Class { bytes: 4096, count: IOS_MAX }, Class { bytes: 65536, count: 4 }];
        let memory = Memory::map_preferring_huge(Pool::bytes_needed(&classes), Hugepages::Auto, Memory::map);
        let pool = Pool::new(memory.expect("memory for a test"), &classes);
        let mut rig = Rig {
            block_bytes: usize::try_from(info.block_bytes).expect("a small number"),
            made,
            channel,
            pool,
            now: Tick::from_ns(SECOND_NS),
            waiter: KernelNet::new(0).expect("an epoll descriptor"),
        };
        rig.until_ready();
        rig
    }

    /// Waits for a channel that is still opening, and until it knows the buffers' memory: a device that must be told of it
    /// takes one IO at first.
    fn until_ready(&mut self) {
        for _ in 0..POLLS_MAX {
            if self.channel.state() == ChannelState::Ready {
                let first = self.read(0, 0, 1);
                assert_eq!(self.run(first).result, Ok(()));
                return;
            }
            self.poll(0);
            self.pass_time();
        }
        panic!("the channel never became ready");
    }

    /// The first 64 blocks are zeroes, where it keeps data.
    fn cleared(subject: &Subject<'_>) -> Rig {
        let mut rig = Rig::new(subject);
        assert_eq!(rig.run(Rig::zero(0, 0, 64, false, false)).result, Ok(()));
        rig
    }

    fn tag(index: usize) -> Key {
        Key { index: u32::try_from(index).expect("few"), generation: 9 }
    }

    /// A buffer of so many blocks, full of `byte`.
    fn filled(&self, blocks: usize, byte: u8) -> Buf {
        let mut buf = self.pool.take(blocks * self.block_bytes).expect("the pool is large enough");
        buf.fill(byte);
        buf
    }

    fn write(&self, index: usize, lba: u64, blocks: u32, byte: u8) -> Io {
        let data = Some(self.filled(usize::try_from(blocks).expect("few"), byte));
        Io { tag: Rig::tag(index), op: Op::Write { lba, blocks, fua: false }, data }
    }

    fn read(&self, index: usize, lba: u64, blocks: u32) -> Io {
        let data = Some(self.filled(usize::try_from(blocks).expect("few"), 0xEE));
        Io { tag: Rig::tag(index), op: Op::Read { lba, blocks }, data }
    }

    fn unmap(index: usize, lba: u64, blocks: u32) -> Io {
        Io { tag: Rig::tag(index), op: Op::Unmap { lba, blocks }, data: None }
    }

    fn zero(index: usize, lba: u64, blocks: u32, fua: bool, may_unmap: bool) -> Io {
        Io { tag: Rig::tag(index), op: Op::WriteZeroes { lba, blocks, fua, may_unmap }, data: None }
    }

    /// With a buffer of so many blocks as it is about, full of `byte`.
    fn with_data(&self, index: usize, op: Op, byte: u8) -> Io {
        let blocks = op.extent().map_or(0, |(_, blocks)| usize::try_from(blocks).expect("few"));
        Io { tag: Rig::tag(index), op, data: Some(self.filled(blocks, byte)) }
    }

    /// Without memory.
    fn bare(index: usize, op: Op) -> Io {
        Io { tag: Rig::tag(index), op, data: None }
    }

    fn flush(index: usize) -> Io {
        Io { tag: Rig::tag(index), op: Op::Flush, data: None }
    }

    /// Asserts that the blocks from `lba` on hold these bytes, each all over.
    #[track_caller]
    fn assert_blocks(&mut self, lba: u64, expected: &[u8]) {
        let io = self.read(0, lba, u32::try_from(expected.len()).expect("few"));
        let done = self.run(io);
        assert_eq!(done.result, Ok(()));
        let data = done.data.expect("a read");
        for (block, byte) in data.chunks(self.block_bytes).zip(expected) {
            assert!(block.iter().all(|b| b == byte), "all {byte:02X}");
        }
    }

    #[track_caller]
    fn submit(&mut self, io: Io) {
        self.channel.submit(io, self.now).expect("the channel takes an IO");
    }

    /// Submits writes of one block until the queue is full: how many were taken, and the one that was not.
    fn fill_queue(&mut self) -> (usize, Io) {
        for index in 0..IOS_MAX {
            let io = self.write(index, u64::try_from(index % 64).expect("few"), 1, 1);
            match self.channel.submit(io, self.now) {
                Ok(()) => {}
                Err(Refused::Full(io)) => return (index, io),
                Err(refused) => panic!("refused as {refused:?}"),
            }
        }
        panic!("the queue has no bound");
    }

    fn poll(&mut self, max: usize) -> Vec<Done> {
        let mut out = Vec::with_capacity(max);
        self.channel.poll(&mut out, max, self.now);
        assert!(out.len() <= max, "more than asked for");
        out
    }

    /// Lets everything in flight end.
    #[track_caller]
    fn settle(&mut self) -> Vec<Done> {
        self.channel.kick();
        let mut all = Vec::new();
        for _ in 0..POLLS_MAX {
            all.append(&mut self.poll(64));
            if self.channel.in_flight() == 0 {
                return all;
            }
            assert_ne!(self.channel.wake(), Wake::Idle, "IO is in flight");
            self.pass_time();
        }
        panic!("{} IOs never ended", self.channel.in_flight());
    }

    fn pass_time(&mut self) {
        match self.channel.wake() {
            Wake::At(tick) => self.now = self.now.max(tick),
            Wake::Fd(fd) => {
                self.waiter.register(fd).expect("an open descriptor");
                self.waiter.ready(&mut Vec::with_capacity(1), Wait::AtMostNs(SECOND_NS));
            }
            Wake::Idle | Wake::MustPoll => std::thread::yield_now(),
        }
    }

    /// Submits one IO and lets it end.
    #[track_caller]
    fn run(&mut self, io: Io) -> Done {
        let tag = io.tag;
        self.submit(io);
        let mut done = self.settle();
        assert_eq!(done.len(), 1, "one IO ends once");
        let done = done.remove(0);
        assert_eq!(done.tag, tag);
        done
    }
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("bdev", &self.bdev).finish_non_exhaustive()
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("name", &self.name).finish_non_exhaustive()
    }
}
