//! A lane over a queue that does as the test says.

mod removed;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::bdev::nvme::bus::{DeviceAddresses, Mapping};
use crate::bdev::nvme::controller::shared::Identity;
use crate::bdev::nvme::port::{Reply, StopCause};
use crate::bdev::nvme::queue::{Payload, Payloads, PushError, Queue};
use crate::bdev::nvme::spec::identify::Namespace;
use crate::bdev::nvme::spec::{self, Command, Fuse, Range};
use crate::bdev::nvme::spec::{Status, nvm};
use crate::bdev::{Offloads, Op};
use crate::buf::{Class, Pool};
use crate::time::SECOND_NS;

/// What the queue was told, and what it is to say.
#[derive(Debug, Default)]
struct Script {
    pushed: Vec<(u16, Command)>,
    ranges: Vec<Range>,
    rings: usize,
    completions: VecDeque<Ended>,
    mapped: Vec<usize>,
}

#[derive(Debug)]
struct FakeQueue {
    script: Arc<Mutex<Script>>,
    bytes_max: usize,
    depth: u16,
}

impl Queue for FakeQueue {
    fn depth(&self) -> u16 {
        self.depth
    }
    fn bytes_max(&self) -> usize {
        self.bytes_max
    }
    fn push(
        &mut self,
        _slot: u16,
        cid: u16,
        command: &Command,
        payload: Payload<'_>,
    ) -> Result<(), PushError> {
        let mut script = self.script.lock().unwrap();
        if let Payload::Read(buf, _) | Payload::Write(buf, _) = payload
            && !script.mapped.contains(&buf.region().unwrap().base())
        {
            return Err(PushError::Unmapped);
        }
        if let Payload::Inline(range) = payload {
            script.ranges.push(*range);
        }
        script.pushed.push((cid, *command));
        Ok(())
    }
    fn ring(&mut self, _payloads: &mut dyn Payloads) {
        self.script.lock().unwrap().rings += 1;
    }
    fn pop(&mut self, _payloads: &mut dyn Payloads, _now: Tick) -> Option<Ended> {
        self.script.lock().unwrap().completions.pop_front()
    }
    fn acknowledge(&mut self) {}
    fn learn(&mut self, mapping: Mapping) {
        self.script.lock().unwrap().mapped.push(mapping.base);
    }
    fn fault(&self) -> Option<&'static str> {
        None
    }
    fn wake(&self) -> Wake {
        Wake::MustPoll
    }
}

const SHAPE: Shape = Shape {
    nsid: 7,
    block_bytes: 512,
    bytes_max: 8192,
    zeroes_blocks_max: Some(1 << 16),
    verify_blocks_max: u32::MAX,
    unmap_blocks_max: Some(u32::MAX),
    offloads: Offloads {
        compare_and_write_blocks: 8,
        verify: true,
        compare: true,
        copy: true,
        write_uncorrectable: true,
        atomic_write_blocks: 0,
        erase: false,
        erase_blocks: false,
        erase_key: false,
    },
    uncorrectable_blocks_max: u32::MAX,
    copy_blocks_max: 4,
    protection: None,
};
const TIMES: TimeOuts = TimeOuts { command_ns: 30 * SECOND_NS, abort_ns: 5 * SECOND_NS };

/// What the channel leads to.
fn disk() -> Arc<Disk> {
    let mut page = Box::new([0; 4096]);
    page[0] = 200;
    page[130] = 9;
    let namespace = Namespace::decode(&page).unwrap();
    Arc::new(Disk::new(SHAPE.nsid, Identity::default(), [1; 16], namespace))
}

/// A lane, the controller's end of its port, and what its queue was told.
struct Rig {
    lane: Lane,
    channel: Key,
    disk: Arc<Disk>,
    port: Arc<Port>,
    script: Arc<Mutex<Script>>,
    pool: Pool,
    now: Tick,
}

impl Rig {
    fn new(shape: Shape) -> Rig {
        let port = Arc::new(Port::new(ReactorId(0), Arc::new(|| {})));
        let mut lane = Lane::new(Arc::clone(&port), TIMES);
        let disk = disk();
        let channel = lane.join(shape, Arc::clone(&disk)).unwrap();
        let pool = Pool::ordinary(&[Class { bytes: 65536, count: 8 }]).unwrap();
        let mut rig = Rig { lane, channel, disk, port, script: Arc::default(), pool, now: Tick::ZERO };
        assert!(matches!(rig.port.request(), Some(Request::Open)));
        rig.open();
        rig
    }

    /// The controller's thread opens a pair, and the lane hears of it.
    fn open(&mut self) {
        self.script = Arc::default();
        let queue = FakeQueue { script: Arc::clone(&self.script), bytes_max: 1 << 20, depth: 15 };
        self.port.answer(Reply::Opened(Box::new(queue))).unwrap();
        self.poll();
        assert_eq!(self.lane.state(), ChannelState::Ready);
    }

    /// The controller's thread maps what it is asked for.
    fn map(&mut self) {
        let Some(Request::Map { base, bytes }) = self.port.request() else {
            panic!("nothing is to be mapped")
        };
        let mapping = Mapping { base, bytes, device: DeviceAddresses::Contiguous(0x1000) };
        self.port.answer(Reply::Mapped { base, mapping: Ok(Some(mapping)) }).unwrap();
        self.poll();
    }

    fn io(&mut self, index: u32, op: Op) -> Result<(), Refused> {
        let data = match op {
            Op::Read { blocks, .. } | Op::Write { blocks, .. } | Op::Compare { blocks, .. } => {
                Some(self.pool.take(blocks as usize * 512).unwrap())
            }
            _ => None,
        };
        self.lane.submit(self.channel, Io { tag: Key { index, generation: 0 }, op, data }, u64::MAX)
    }

    fn poll(&mut self) -> Vec<(u32, Result<(), IoError>)> {
        let mut out = Vec::with_capacity(64);
        self.lane.poll(self.channel, &mut out, 64, self.now);
        out.into_iter().map(|done| (done.tag.index, done.result)).collect()
    }

    fn pushed(&self) -> Vec<(u16, Command)> {
        std::mem::take(&mut self.script.lock().unwrap().pushed)
    }

    /// The device completes a command with these status bits.
    fn complete(&mut self, cid: u16, bits: u16) {
        let ended = Ended { cid, status: Status::from_bits(bits) };
        self.script.lock().unwrap().completions.push_back(ended);
    }

    fn request(&self) -> Request {
        self.port.request().expect("a request")
    }
}

const READ: Op = Op::Read { lba: 100, blocks: 8 };
const WRITE: Op = Op::Write { lba: 100, blocks: 8, fua: true };

/// A rig whose buffers are mapped.
fn mapped() -> Rig {
    let mut rig = Rig::new(SHAPE);
    rig.io(0, READ).unwrap();
    rig.map();
    let [(cid, _)] = rig.pushed()[..] else { panic!("one command") };
    rig.complete(cid, 0);
    assert_eq!(rig.poll(), [(0, Ok(()))]);
    rig
}

#[test]
fn an_io_waits_until_its_memory_is_mapped_and_is_cut_into_what_the_controller_takes() {
    let mut rig = Rig::new(SHAPE);
    rig.io(1, Op::Write { lba: 5, blocks: 40, fua: true }).unwrap();
    assert!(rig.pushed().is_empty());
    assert!(matches!(rig.io(2, READ), Err(Refused::Full(_))));
    rig.map();
    let commands: Vec<_> = rig.pushed();
    let words: Vec<_> =
        commands.iter().map(|(_, command)| (command.opcode, command.nsid, command.cdw10)).collect();
    let write = |lba, count: u32| (nvm::WRITE, 7, [lba, 0, (count - 1) | spec::FUA, 0, 0, 0]);
    assert_eq!(words, [write(5, 16), write(21, 16), write(37, 8)]);
    for (index, (cid, _)) in commands.iter().enumerate().rev() {
        assert!(rig.poll().is_empty());
        rig.complete(*cid, if index == 1 { 0x81 } else { 0 });
    }
    assert_eq!(rig.poll(), [(1, Err(IoError::NoSpace))]);
    assert_eq!(rig.lane.in_flight(rig.channel), 0);
    assert_eq!(rig.pool.in_use_count(), 0);
}

#[test]
fn an_io_of_more_commands_than_there_are_slots_gets_on_as_they_end() {
    let mut rig = mapped();
    let mut small = rig.lane.outboxes.get(rig.channel).unwrap().shape;
    small.bytes_max = 512;
    let channel = rig.lane.join(small, disk()).unwrap();
    let data = Some(rig.pool.take(40 * 512).unwrap());
    let op = Op::Read { lba: 0, blocks: 40 };
    rig.lane.submit(channel, Io { tag: Key { index: 9, generation: 0 }, op, data }, u64::MAX).unwrap();
    let mut count = 0;
    while rig.lane.in_flight(channel) > 0 {
        let pushed = rig.pushed();
        assert!(pushed.len() <= 15, "no more than the queue holds");
        count += pushed.len();
        for (cid, _) in pushed {
            rig.complete(cid, 0);
        }
        let mut out = Vec::with_capacity(1);
        rig.lane.poll(channel, &mut out, 1, rig.now);
    }
    assert_eq!(count, 40);
}

#[test]
fn one_doorbell_serves_all_that_was_submitted() {
    let mut rig = mapped();
    let before = rig.script.lock().unwrap().rings;
    for index in 0..4 {
        rig.io(index, READ).unwrap();
    }
    rig.lane.kick();
    rig.lane.kick();
    assert_eq!(rig.script.lock().unwrap().rings, before + 1);
}

#[test]
fn every_operation_is_the_command_that_it_says() {
    let mut rig = mapped();
    rig.io(0, Op::Flush).unwrap();
    rig.io(1, Op::Unmap { lba: 9, blocks: 3 }).unwrap();
    rig.io(2, Op::WriteZeroes { lba: 1 << 33, blocks: 3, fua: true, may_unmap: true }).unwrap();
    rig.io(3, Op::Verify { lba: 7, blocks: 2, checks: None }).unwrap();
    rig.io(4, Op::Compare { lba: 11, blocks: 2 }).unwrap();
    rig.io(5, Op::Copy { from: 3, lba: 1 << 33, blocks: 2, fua: true }).unwrap();
    rig.io(6, Op::WriteUncorrectable { lba: 8, blocks: 3 }).unwrap();
    let commands: Vec<_> =
        rig.pushed().into_iter().map(|(_, command)| (command.opcode, command.cdw10)).collect();
    assert_eq!(
        commands,
        [
            (0x00, [0; 6]),
            (0x09, [0, 4, 0, 0, 0, 0]),
            (0x08, [0, 2, 1 << 30 | 1 << 25 | 2, 0, 0, 0]),
            (0x0C, [7, 0, 1, 0, 0, 0]),
            (0x05, [11, 0, 1, 0, 0, 0]),
            (0x19, [0, 2, 1 << 30, 0, 0, 0]),
            (0x04, [8, 0, 2, 0, 0, 0]),
        ]
    );
}

#[test]
fn a_copy_is_cut_into_what_one_range_may_cover() {
    let mut rig = mapped();
    rig.io(0, Op::Copy { from: 100, lba: 20, blocks: 9, fua: false }).unwrap();
    let words: Vec<_> = rig.pushed().into_iter().map(|(_, command)| command.cdw10).collect();
    assert_eq!(words, [[20, 0, 0, 0, 0, 0], [24, 0, 0, 0, 0, 0], [28, 0, 0, 0, 0, 0]]);
    let ranges = std::mem::take(&mut rig.script.lock().unwrap().ranges);
    assert_eq!(ranges, [Range::of_copy(100, 4), Range::of_copy(104, 4), Range::of_copy(108, 1)]);
}

#[test]
fn what_the_namespace_does_not_offer_is_not_asked_of_it() {
    let mut rig = Rig::new(Shape { offloads: Offloads::default(), ..SHAPE });
    let copy = Op::Copy { from: 9, lba: 0, blocks: 1, fua: false };
    let spoil = Op::WriteUncorrectable { lba: 0, blocks: 1 };
    for op in
        [copy, spoil, Op::Verify { lba: 0, blocks: 1, checks: None }, Op::Compare { lba: 0, blocks: 1 }, SWAP]
    {
        rig.io(1, op).unwrap();
        assert_eq!(rig.poll(), [(1, Err(IoError::Unsupported))], "{op:?}");
    }
    assert!(rig.pushed().is_empty());
}

#[test]
fn zeroes_are_written_where_the_controller_cannot_make_them_and_unmap_is_refused() {
    let mut rig = Rig::new(Shape { zeroes_blocks_max: None, unmap_blocks_max: None, ..SHAPE });
    rig.io(0, Op::WriteZeroes { lba: 0, blocks: 20, fua: false, may_unmap: true }).unwrap();
    let commands: Vec<_> =
        rig.pushed().into_iter().map(|(_, command)| (command.opcode, command.cdw10[2])).collect();
    assert_eq!(commands, [(nvm::WRITE, 15), (nvm::WRITE, 3)]);
    rig.io(1, Op::Unmap { lba: 0, blocks: 1 }).unwrap();
    assert_eq!(rig.poll(), [(1, Err(IoError::Unsupported))]);
}

const SWAP: Op = Op::CompareAndWrite { lba: 100, blocks: 2, fua: true };

#[test]
fn compare_and_write_is_a_fused_pair_side_by_side_and_its_compare_tells_how_it_ended() {
    for (compare, write, expected) in [
        (0, 0, Ok(())),
        (0x285, 0x009, Err(IoError::Miscompare)),
        (0x00A, 0x00A, Err(IoError::Cancelled)),
        (0, 0x280, Err(IoError::Medium { lba: None })),
    ] {
        for is_reversed in [false, true] {
            let mut rig = mapped();
            let data = Some(rig.pool.take(2048).unwrap());
            let io = Io { tag: Key { index: 1, generation: 0 }, op: SWAP, data };
            rig.lane.submit(rig.channel, io, u64::MAX).unwrap();
            let pushed = rig.pushed();
            let words: Vec<_> =
                pushed.iter().map(|(_, c)| (c.opcode, c.fuse, c.cdw10[0], c.cdw10[2])).collect();
            assert_eq!(words, [(0x05, Fuse::First, 100, 1), (0x01, Fuse::Second, 100, 1 | 1 << 30)]);
            let (first, second) = (pushed[0].0, pushed[1].0);
            let source = |cid| rig.lane.table.source(cid).unwrap().as_ptr().addr();
            assert_eq!(source(second) - source(first), 1024);
            let mut ends = [(first, compare), (second, write)];
            if is_reversed {
                ends.reverse();
            }
            for (cid, bits) in ends {
                rig.complete(cid, bits);
            }
            assert_eq!(rig.poll(), [(1, expected)]);
        }
    }
}

#[test]
fn a_fused_pair_waits_for_two_slots() {
    let mut rig = mapped();
    for index in 0..14 {
        rig.io(index, Op::Flush).unwrap();
    }
    let filled = rig.pushed();
    let data = Some(rig.pool.take(2048).unwrap());
    rig.lane
        .submit(rig.channel, Io { tag: Key { index: 20, generation: 0 }, op: SWAP, data }, u64::MAX)
        .unwrap();
    assert!(rig.pushed().is_empty());
    rig.complete(filled[3].0, 0);
    assert_eq!(rig.poll(), [(3, Ok(()))]);
    assert_eq!(rig.pushed().len(), 2);
}

#[test]
fn a_completion_that_comes_twice_takes_the_pair_away() {
    let mut rig = mapped();
    rig.io(1, WRITE).unwrap();
    let [(cid, _)] = rig.pushed()[..] else { panic!("one command") };
    rig.complete(cid, 0);
    rig.complete(cid, 0);
    assert_eq!(rig.poll(), [(1, Ok(()))]);
    assert!(matches!(rig.request(), Request::Stop { why: StopCause::Nonsense(_), .. }));
    assert_eq!(rig.lane.state(), ChannelState::Opening);
}

#[test]
fn nothing_is_given_back_before_the_pair_is_gone_then_reads_are_sent_again_and_writes_are_not() {
    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    rig.io(2, WRITE).unwrap();
    rig.pushed();
    rig.now = rig.now.after_ns(TIMES.command_ns);
    assert!(rig.poll().is_empty());
    assert!(matches!((rig.request(), rig.request()), (Request::Abort { .. }, Request::Abort { .. })));
    rig.now = rig.now.after_ns(TIMES.abort_ns);
    assert!(rig.poll().is_empty());
    assert!(matches!(rig.request(), Request::Stop { why: StopCause::TimedOut, .. }));
    assert!(rig.poll().is_empty());
    assert_eq!(rig.pool.in_use_count(), 2);
    rig.port.answer(Reply::Stopped).unwrap();
    assert_eq!(rig.poll(), [(2, Err(IoError::Aborted))]);
    assert!(matches!(rig.request(), Request::Open));
    rig.open();
    rig.map();
    let [(cid, command)] = rig.pushed()[..] else { panic!("one command") };
    assert_eq!(command.opcode, nvm::READ);
    rig.complete(cid, 0);
    assert_eq!(rig.poll(), [(1, Ok(()))]);
}

#[test]
fn a_read_is_sent_again_once_only() {
    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    rig.port.answer(Reply::Stopped).unwrap();
    assert!(rig.poll().is_empty());
    rig.open();
    assert!(matches!(rig.request(), Request::Open));
    rig.map();
    rig.port.answer(Reply::Stopped).unwrap();
    assert_eq!(rig.poll(), [(1, Err(IoError::Aborted))]);
}

#[test]
fn a_fence_ends_reads_too_and_a_controller_that_is_gone_says_so() {
    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    rig.lane.fence(rig.channel);
    assert!(matches!(rig.request(), Request::Stop { why: StopCause::Fence, .. }));
    rig.port.answer(Reply::Stopped).unwrap();
    assert_eq!(rig.poll(), [(1, Err(IoError::Cancelled))]);
    rig.port.answer(Reply::Gone).unwrap();
    rig.poll();
    assert_eq!(rig.lane.state(), ChannelState::Gone);
    assert!(matches!(rig.io(2, READ), Err(Refused::Gone(_))));
}

/// Nobody asked for the end of it: whoever has another way to the data takes that.
#[test]
fn what_a_controller_that_is_gone_had_ends_as_gone_unless_it_was_fenced() {
    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    rig.io(2, WRITE).unwrap();
    rig.pool = Pool::ordinary(&[Class { bytes: 65536, count: 1 }]).unwrap();
    rig.io(3, READ).unwrap();
    rig.port.answer(Reply::Gone).unwrap();
    let mut ended = rig.poll();
    ended.sort_by_key(|(tag, _)| *tag);
    assert_eq!(ended, [1, 2, 3].map(|tag| (tag, Err(IoError::Gone))));

    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    rig.lane.fence(rig.channel);
    rig.port.answer(Reply::Gone).unwrap();
    assert_eq!(rig.poll(), [(1, Err(IoError::Cancelled))]);
}

#[test]
fn what_is_aborted_because_it_took_too_long_was_not_cancelled() {
    for op in [READ, WRITE, Op::Flush] {
        for (is_late, expected) in [(true, IoError::Aborted), (false, IoError::Cancelled)] {
            let mut rig = mapped();
            rig.io(1, op).unwrap();
            let [(cid, _)] = rig.pushed()[..] else { panic!("one command") };
            if is_late {
                rig.now = rig.now.after_ns(TIMES.command_ns);
                assert!(rig.poll().is_empty());
            } else {
                rig.lane.cancel(rig.channel, Key { index: 1, generation: 0 });
            }
            assert!(matches!(rig.request(), Request::Abort { cid: asked } if asked == cid));
            rig.complete(cid, 0x007);
            assert_eq!(rig.poll(), [(1, Err(expected))], "{op:?}");
        }
    }
}

#[test]
fn a_fence_of_one_channel_ends_its_ios_and_of_others_only_writes_that_the_device_may_have_seen() {
    let mut rig = mapped();
    rig.io(1, READ).unwrap();
    rig.io(2, WRITE).unwrap();
    let other = rig.lane.join(SHAPE, disk()).unwrap();
    let fenced = std::mem::replace(&mut rig.channel, other);
    rig.io(3, READ).unwrap();
    rig.io(4, WRITE).unwrap();
    // Its memory is not mapped yet: the device has seen nothing of it.
    rig.pool = Pool::ordinary(&[Class { bytes: 65536, count: 1 }]).unwrap();
    rig.io(5, WRITE).unwrap();
    assert_eq!(rig.pushed().len(), 4);

    rig.lane.fence(fenced);
    assert!(matches!(rig.request(), Request::Map { .. }));
    assert!(matches!(rig.request(), Request::Stop { why: StopCause::Fence, .. }));
    assert!(rig.poll().is_empty());
    rig.port.answer(Reply::Stopped).unwrap();
    assert_eq!(rig.poll(), [(4, Err(IoError::Aborted))]);
    rig.channel = fenced;
    assert_eq!(rig.poll(), [(1, Err(IoError::Cancelled)), (2, Err(IoError::Cancelled))]);
    assert_eq!(rig.lane.in_flight(fenced), 0);

    rig.channel = other;
    assert!(matches!(rig.request(), Request::Open));
    rig.open();
    rig.map();
    rig.map();
    let pushed = rig.pushed();
    assert_eq!(pushed.iter().map(|(_, command)| command.opcode).collect::<Vec<_>>(), [nvm::WRITE, nvm::READ]);
    for (cid, _) in pushed {
        rig.complete(cid, 0);
    }
    assert_eq!(rig.poll(), [(5, Ok(())), (3, Ok(()))]);
}

#[test]
fn a_fence_of_another_channel_is_no_try_of_a_read() {
    let mut rig = mapped();
    let other = rig.lane.join(SHAPE, disk()).unwrap();
    rig.io(1, READ).unwrap();
    let mine = std::mem::replace(&mut rig.channel, other);
    rig.io(2, READ).unwrap();
    rig.channel = mine;
    rig.lane.fence(other);
    assert!(matches!(rig.request(), Request::Stop { .. }));
    for expected in [&[][..], &[], &[(1, Err(IoError::Aborted))]] {
        rig.port.answer(Reply::Stopped).unwrap();
        assert_eq!(rig.poll(), expected);
        assert!(matches!(rig.request(), Request::Open));
        if expected.is_empty() {
            rig.open();
            rig.map();
            assert_eq!(rig.pushed().len(), 1);
        }
    }
}

#[test]
fn a_fence_of_a_channel_that_has_nothing_in_the_device_takes_nothing_away() {
    let mut rig = mapped();
    rig.io(1, WRITE).unwrap();
    let other = rig.lane.join(SHAPE, disk()).unwrap();
    rig.lane.fence(other);
    assert!(rig.port.request().is_none());
    let [(cid, _)] = rig.pushed()[..] else { panic!("one command") };
    rig.complete(cid, 0);
    assert_eq!(rig.poll(), [(1, Ok(()))]);
}

#[test]
fn a_media_error_says_where_if_the_error_log_knows_and_the_block_is_its_own() {
    for (told, expected) in [(Some(103), Some(103)), (Some(108), None), (None, None)] {
        let mut rig = mapped();
        rig.io(1, READ).unwrap();
        let [(cid, _)] = rig.pushed()[..] else { panic!("one command") };
        rig.complete(cid, 0x2281);
        assert!(rig.poll().is_empty());
        assert!(matches!(rig.request(), Request::WhichLba { cid: asked } if asked == cid));
        assert!(matches!(rig.lane.wake(rig.channel), Wake::At(_)), "the queue will not tell");
        rig.port.answer(Reply::Lba { cid, lba: told }).unwrap();
        assert_eq!(rig.poll(), [(1, Err(IoError::Medium { lba: expected }))]);
    }
}

#[test]
fn memory_that_cannot_be_mapped_fails_its_ios_and_is_asked_for_again() {
    let mut rig = Rig::new(SHAPE);
    rig.io(1, READ).unwrap();
    let Request::Map { base, .. } = rig.request() else { panic!("a mapping") };
    rig.port.answer(Reply::Mapped { base, mapping: Err("no".to_owned()) }).unwrap();
    assert_eq!(rig.poll(), [(1, Err(IoError::Aborted))]);
    rig.io(2, READ).unwrap();
    rig.map();
    assert_eq!(rig.pushed().len(), 1);
}

#[test]
fn channels_of_one_reactor_share_a_lane_and_the_last_closes_it() {
    let port = Arc::new(Port::new(ReactorId(3), Arc::new(|| {})));
    let lane = Lane::of(42, ReactorId(3), TIMES, || Arc::clone(&port));
    let again = Lane::of(42, ReactorId(3), TIMES, || panic!("there is one"));
    assert!(Rc::ptr_eq(&lane, &again));
    drop((lane, again));
    assert!(matches!(
        (port.request(), port.request()),
        (Some(Request::Open), Some(Request::Close { queue: None }))
    ));
    Lane::of(42, ReactorId(3), TIMES, || Arc::clone(&port));
}
