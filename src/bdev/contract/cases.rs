//! The cases, each of one promise of the traits.

use super::{Rig, Subject};
use crate::bdev::{Fence, Io, IoError, Op, Wake, ZERO_BYTES_MAX};
use crate::id::ReactorId;

type Case = fn(&Subject<'_>);

pub(super) const CASES: &[(&str, Case)] = &[
    ("info is within what the traits allow", info),
    ("each submission ends in one Done, with its tag and its memory", each_ends_once),
    ("what is written is read", read_your_writes),
    ("writes touch their extent only", extents),
    ("zeroes are written to their extent only, with every flag", write_zeroes),
    ("what is unmapped reads as info says, its neighbours as they were", unmap),
    ("channels see each other's writes", two_channels),
    ("a flush ends", flush),
    ("a full queue gives the IO back unharmed, and recovers", full),
    ("an extent beyond the end is refused and touches nothing", out_of_range),
    ("an extent that a shrink cut off is refused", shrink),
    ("poll appends no more than max", poll_max),
    ("poll appends no more than there is room for", poll_room),
    ("a cancelled IO still ends", cancel),
    ("what is copied is the same, its neighbours as they were", copy),
    ("a comparison tells whether it is the same", compare),
    ("what cannot be corrected cannot be read until it is written", write_uncorrectable),
    ("compare and write writes where it is the same", compare_and_write),
    ("what is not offered is refused", not_offered),
    ("a fence brings everything back at the next polls", fence),
    ("an idle channel gives no reason to wake", idle),
    ("in_flight counts what was taken and not given back", in_flight),
    ("a dropped channel gives its memory back, or to nobody", dropped),
];

fn info(subject: &Subject<'_>) {
    let info = Rig::new(subject).made.bdev.info();
    assert!(info.block_bytes.is_power_of_two());
    assert!((512..=4096).contains(&info.block_bytes));
    assert!(info.physical_block_bytes.is_power_of_two());
    assert!(info.physical_block_bytes >= info.block_bytes);
    assert!(!info.name.is_empty());
    assert!(info.unmap.is_none_or(|unmap| unmap.granularity_blocks >= 1));
}

fn each_ends_once(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let mut addresses = Vec::new();
    for index in 0..10 {
        let lba = u64::try_from(index).expect("few");
        let io = match index % 3 {
            0 => rig.write(index, lba, 1, 1),
            1 => rig.read(index, lba, 1),
            _ => Rig::flush(index),
        };
        addresses.push(io.data.as_ref().map(|buf| buf.as_ptr()));
        rig.submit(io);
    }
    let mut done = rig.settle();
    done.sort_by_key(|done| done.tag.index);
    assert_eq!(done.len(), 10);
    for (index, done) in done.iter().enumerate() {
        assert_eq!((done.tag, done.result), (Rig::tag(index), Ok(())));
        assert_eq!(done.data.as_ref().map(|buf| buf.as_ptr()), addresses[index], "its own memory");
    }
    drop(done);
    assert!(rig.poll(8).is_empty());
    assert_eq!(rig.pool.in_use_count(), 0);
}

fn read_your_writes(subject: &Subject<'_>) {
    if !subject.keeps_data {
        return;
    }
    let mut rig = Rig::new(subject);
    for (index, (lba, blocks)) in [(0, 1), (63, 1), (5, 8)].into_iter().enumerate() {
        let mut io = rig.write(0, lba, blocks, 0);
        let data = io.data.as_mut().expect("a write");
        for (n, byte) in data.iter_mut().enumerate() {
            *byte = (n % 251).to_le_bytes()[0] ^ index.to_le_bytes()[0];
        }
        let expected = data.to_vec();
        assert_eq!(rig.run(io).result, Ok(()));
        let io = rig.read(1, lba, blocks);
        let done = rig.run(io);
        assert_eq!(done.result, Ok(()));
        assert!(done.data.expect("a read")[..] == expected[..], "blocks {lba}+{blocks}");
    }
}

/// Neighbouring blocks, and what a buffer has beyond its extent, are left alone.
fn extents(subject: &Subject<'_>) {
    if !subject.keeps_data {
        return;
    }
    let mut rig = Rig::new(subject);
    let block_bytes = rig.block_bytes;
    let io = rig.write(0, 10, 3, 0xAA);
    rig.run(io);
    // One block of a buffer of two.
    let mut io = rig.write(0, 11, 1, 0);
    io.data = Some(rig.filled(2, 0xBB));
    rig.run(io);
    let mut io = rig.read(0, 10, 3);
    io.data = Some(rig.filled(4, 0xEE));
    let data = rig.run(io).data.expect("a read");
    let blocks: Vec<&[u8]> = data.chunks(block_bytes).collect();
    for (block, byte) in blocks.into_iter().zip([0xAA, 0xBB, 0xAA, 0xEE]) {
        assert!(block.iter().all(|b| *b == byte), "all {byte:02X}");
    }
}

fn write_zeroes(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    for (fua, may_unmap) in [(false, false), (false, true), (true, false), (true, true)] {
        let io = rig.write(0, 8, 16, 0xAA);
        rig.run(io);
        for (lba, blocks) in [(9, 1), (12, 8)] {
            let done = rig.run(Rig::zero(1, lba, blocks, fua, may_unmap));
            assert_eq!((done.result, done.data.is_none()), (Ok(()), true));
        }
        if subject.keeps_data {
            let mut expected = [0xAA; 16];
            expected[1] = 0;
            expected[4..12].fill(0);
            rig.assert_blocks(8, &expected);
        }
    }
    // As much as one may cover, on devices that large.
    let info = rig.made.bdev.info();
    let most = ZERO_BYTES_MAX / info.block_bytes;
    let blocks = most.min(u32::try_from(info.blocks).unwrap_or(most));
    assert_eq!(rig.run(Rig::zero(2, 0, blocks, false, false)).result, Ok(()));
    rig.assert_blocks(8, &[0; 16]);
}

fn unmap(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let info = rig.made.bdev.info();
    let io = rig.write(0, 8, 16, 0xAA);
    rig.run(io);
    let Some(unmap) = info.unmap else {
        assert_eq!(rig.run(Rig::unmap(1, 9, 1)).result, Err(IoError::Unsupported));
        return;
    };
    for (lba, blocks) in [(9, 1), (12, 8)] {
        let done = rig.run(Rig::unmap(1, lba, blocks));
        assert_eq!((done.result, done.data.is_none()), (Ok(()), true));
    }
    if subject.keeps_data && unmap.reads_zeroes {
        let mut expected = [0xAA; 16];
        expected[1] = 0;
        expected[4..12].fill(0);
        rig.assert_blocks(8, &expected);
    }
}

fn copy(subject: &Subject<'_>) {
    let mut rig = Rig::cleared(subject);
    if !rig.made.bdev.info().offloads.copy {
        return;
    }
    for (index, byte) in (0..4).zip(1..) {
        let io = rig.write(0, index, 1, byte);
        assert_eq!(rig.run(io).result, Ok(()));
    }
    let copy = |from, lba, blocks| Rig::bare(0, Op::Copy { from, lba, blocks, fua: lba == 40 });
    assert_eq!(rig.run(copy(1, 40, 3)).result, Ok(()));
    rig.assert_blocks(39, &[0, 2, 3, 4, 0]);
    rig.assert_blocks(0, &[1, 2, 3, 4]);
    // More than some devices copy at once.
    assert_eq!(rig.run(copy(0, 22, 21)).result, Ok(()));
    rig.assert_blocks(21, &[0, 1, 2, 3, 4, 0, 0]);
    rig.assert_blocks(40, &[0, 0, 0, 0]);
    for (from, lba, blocks) in [(0, 3, 4), (3, 0, 4), (5, 5, 1)] {
        assert_eq!(rig.run(copy(from, lba, blocks)).result, Err(IoError::Unsupported), "{from} to {lba}");
    }
    let end = rig.made.bdev.info().blocks;
    for (from, lba) in [(end - 1, 0), (0, end - 1), (u64::MAX, 0), (0, u64::MAX)] {
        assert_eq!(rig.run(copy(from, lba, 2)).result, Err(IoError::OutOfRange), "{from} to {lba}");
    }
    rig.assert_blocks(0, &[1, 2, 3, 4, 0, 0]);
}

fn compare(subject: &Subject<'_>) {
    let mut rig = Rig::cleared(subject);
    if !rig.made.bdev.info().offloads.compare {
        return;
    }
    let io = rig.write(0, 10, 12, 7);
    assert_eq!(rig.run(io).result, Ok(()));
    for (lba, blocks, expected) in [
        (10, 12, Ok(())),
        (10, 1, Ok(())),
        (9, 2, Err(IoError::Miscompare)),
        (21, 2, Err(IoError::Miscompare)),
    ] {
        let io = rig.with_data(0, Op::Compare { lba, blocks }, 7);
        assert_eq!(rig.run(io).result, expected, "{blocks} blocks from {lba}");
    }
    rig.assert_blocks(9, &[0, 7, 7]);
}

fn write_uncorrectable(subject: &Subject<'_>) {
    let mut rig = Rig::cleared(subject);
    if !rig.made.bdev.info().offloads.write_uncorrectable {
        return;
    }
    let spoil = Rig::bare(0, Op::WriteUncorrectable { lba: 3, blocks: 20 });
    assert_eq!(rig.run(spoil).result, Ok(()));
    for lba in [3, 22] {
        let io = rig.read(0, lba, 1);
        assert!(matches!(rig.run(io).result, Err(IoError::Medium { .. })));
        let io = rig.write(0, lba, 1, 5);
        assert_eq!(rig.run(io).result, Ok(()));
    }
    rig.assert_blocks(2, &[0, 5]);
    rig.assert_blocks(22, &[5, 0]);
}

fn compare_and_write(subject: &Subject<'_>) {
    let mut rig = Rig::cleared(subject);
    let blocks = rig.made.bdev.info().offloads.compare_and_write_blocks.min(2);
    if blocks == 0 {
        return;
    }
    let block_bytes = rig.block_bytes;
    let mut swap = |old: u8, new: u8| {
        let mut buf = rig.filled(2 * blocks as usize, new);
        buf[..blocks as usize * block_bytes].fill(old);
        let op = Op::CompareAndWrite { lba: 8, blocks, fua: false };
        rig.run(Io { tag: Rig::tag(0), op, data: Some(buf) }).result
    };
    assert_eq!(swap(0, 1), Ok(()));
    assert_eq!(swap(0, 2), Err(IoError::Miscompare));
    assert_eq!(swap(1, 3), Ok(()));
    rig.assert_blocks(7, &[0, 3]);
    rig.assert_blocks(8 + u64::from(blocks) - 1, &[3, 0]);
}

fn not_offered(subject: &Subject<'_>) {
    let mut rig = Rig::cleared(subject);
    let offloads = rig.made.bdev.info().offloads;
    let all = [
        Op::CompareAndWrite { lba: 0, blocks: 1, fua: false },
        Op::Verify { lba: 0, blocks: 1, checks: None },
        Op::Compare { lba: 0, blocks: 1 },
        Op::Copy { from: 0, lba: 1, blocks: 1, fua: false },
        Op::WriteUncorrectable { lba: 0, blocks: 1 },
    ];
    for op in all.into_iter().filter(|op| !offloads.has(*op)) {
        let data = Some(rig.filled(2, 0));
        assert_eq!(rig.run(Io { tag: Rig::tag(0), op, data }).result, Err(IoError::Unsupported), "{op:?}");
    }
    rig.assert_blocks(0, &[0, 0]);
}

fn two_channels(subject: &Subject<'_>) {
    if !subject.keeps_data {
        return;
    }
    let mut rig = Rig::new(subject);
    let io = rig.write(0, 3, 2, 0x5A);
    rig.run(io);
    rig.channel = rig.made.bdev.open(ReactorId(1));
    rig.until_ready();
    rig.assert_blocks(3, &[0x5A; 2]);
}

fn flush(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let done = rig.run(Rig::flush(0));
    assert_eq!(done.result, Ok(()));
    assert!(done.data.is_none());
}

fn full(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let (count, io) = rig.fill_queue();
    assert!(count > 0);
    assert_eq!(io.tag, Rig::tag(count));
    let block_bytes = rig.block_bytes;
    assert!(io.data.as_ref().expect("the memory comes back")[..] == vec![1; block_bytes][..]);
    assert_eq!(rig.settle().len(), count);
    assert_eq!(rig.run(io).result, Ok(()));
    assert_eq!(rig.fill_queue().0, count, "as many as at first");
    assert_eq!(rig.settle().len(), count);
    assert_eq!(rig.pool.in_use_count(), 0);
}

fn out_of_range(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let blocks = rig.made.bdev.info().blocks;
    for (lba, count) in [(blocks, 1), (blocks - 1, 2), (u64::MAX, 1)] {
        let io = rig.write(0, lba, count, 0xDD);
        assert_eq!(rig.run(io).result, Err(IoError::OutOfRange), "write {lba}+{count}");
        let io = rig.read(0, lba, count);
        assert_eq!(rig.run(io).result, Err(IoError::OutOfRange), "read {lba}+{count}");
        let zero = Rig::zero(0, lba, count, false, true);
        assert_eq!(rig.run(zero).result, Err(IoError::OutOfRange), "zeroes {lba}+{count}");
        if rig.made.bdev.info().unmap.is_some() {
            let unmap = Rig::unmap(0, lba, count);
            assert_eq!(rig.run(unmap).result, Err(IoError::OutOfRange), "unmap {lba}+{count}");
        }
    }
    rig.assert_blocks(blocks - 1, &[0]);
}

fn shrink(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let Some(resize) = rig.made.resize.take() else { return };
    resize(20);
    assert_eq!(rig.made.bdev.info().blocks, 20);
    let io = rig.read(0, 20, 1);
    assert_eq!(rig.run(io).result, Err(IoError::OutOfRange));
    let io = rig.write(0, 19, 2, 1);
    assert_eq!(rig.run(io).result, Err(IoError::OutOfRange));
    let io = rig.write(0, 19, 1, 1);
    assert_eq!(rig.run(io).result, Ok(()));
}

fn poll_max(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    for index in 0..5 {
        rig.submit(Rig::flush(index));
    }
    rig.channel.kick();
    let mut ended = 0;
    let mut out = Vec::with_capacity(100);
    for _ in 0..super::POLLS_MAX {
        assert_eq!(rig.channel.in_flight(), 5 - ended);
        rig.channel.poll(&mut out, 0, rig.now);
        assert!(out.is_empty(), "max is 0");
        rig.channel.poll(&mut out, 2, rig.now);
        assert!(out.len() <= 2, "max is 2");
        ended += u32::try_from(out.len()).expect("few");
        out.clear();
        if ended == 5 {
            return;
        }
        rig.pass_time();
    }
    panic!("{ended} of 5 ended");
}

fn poll_room(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    for index in 0..3 {
        rig.submit(Rig::flush(index));
    }
    rig.channel.kick();
    let mut out = Vec::with_capacity(1);
    let capacity = out.capacity();
    let mut ended = 0;
    for _ in 0..super::POLLS_MAX {
        rig.channel.poll(&mut out, usize::MAX, rig.now);
        assert_eq!(out.capacity(), capacity, "poll does not allocate");
        ended += out.len();
        // Full now, if one came: the next poll must leave it alone.
        let len = out.len();
        if len == capacity {
            rig.channel.poll(&mut out, usize::MAX, rig.now);
            assert_eq!((out.len(), out.capacity()), (len, capacity));
        }
        out.clear();
        if ended == 3 {
            return;
        }
        rig.pass_time();
    }
    panic!("{ended} of 3 ended");
}

fn cancel(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    for index in 0..4 {
        let io = rig.write(index, 1, 1, 1);
        rig.submit(io);
    }
    rig.channel.cancel(Rig::tag(1));
    rig.channel.cancel(Rig::tag(77));
    let mut done = rig.settle();
    rig.channel.cancel(Rig::tag(2));
    done.sort_by_key(|done| done.tag.index);
    assert_eq!(done.len(), 4);
    for done in done {
        let cancelled = done.tag == Rig::tag(1) && done.result == Err(IoError::Cancelled);
        assert!(cancelled || done.result == Ok(()), "{done:?}");
        assert!(done.data.is_some());
    }
}

fn fence(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    for index in 0..4 {
        let io = rig.write(index, 1, 1, 1);
        rig.submit(io);
    }
    match rig.channel.fence() {
        Fence::Cannot => assert_eq!(rig.settle().len(), 4),
        Fence::Fenced => {
            // Time stands still: a fence waits for nothing but for another thread.
            let mut left = 4;
            for _ in 0..super::POLLS_MAX {
                left -= rig.poll(8).len();
                if left == 0 {
                    break;
                }
                std::thread::yield_now();
            }
            assert_eq!(left, 0);
        }
    }
    assert_eq!(rig.pool.in_use_count(), 0);
}

fn idle(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    assert_eq!(rig.channel.wake(), Wake::Idle);
    rig.submit(Rig::flush(0));
    rig.channel.kick();
    assert_ne!(rig.channel.wake(), Wake::Idle);
    rig.settle();
    assert_eq!(rig.channel.wake(), Wake::Idle);
}

fn in_flight(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    assert_eq!(rig.channel.in_flight(), 0);
    let (count, _) = rig.fill_queue();
    assert_eq!(rig.channel.in_flight(), u32::try_from(count).expect("few"));
    assert_eq!(rig.pool.in_use_count(), count, "the memory is the channel's");
    rig.settle();
    assert_eq!(rig.channel.in_flight(), 0);
}

fn dropped(subject: &Subject<'_>) {
    let mut rig = Rig::new(subject);
    let (count, _) = rig.fill_queue();
    let pool = rig.pool.clone();
    drop(rig);
    assert_eq!(pool.in_use_count(), if subject.frees_on_drop { 0 } else { count });
}
