//! What only a channel's inside shows: how often it enters the kernel, and what it waits for.

mod speed;

use super::*;
use crate::bdev::Bdev;
use crate::bdev::file::FileDisk;
use crate::bdev::file::tests::{Directory, disk, recipe};
use crate::buf::{Class, Pool};

const DEPTH: u32 = 32;

fn channel(disk: &FileDisk) -> FileChannel {
    channel_of(disk, 0)
}

fn channel_of(disk: &FileDisk, reactor: u16) -> FileChannel {
    FileChannel::new(disk.term(), ReactorId(reactor))
}

fn flush(index: u32) -> Io {
    Io { tag: Key { index, generation: 0 }, op: Op::Flush, data: None }
}

fn enters(channel: &FileChannel) -> u64 {
    let Link::Ready(ring) = &channel.link else { panic!() };
    ring.enters
}

/// A reactor's turn has a system call of its own, the look at its sockets.
fn look_at_sockets() {
    rustix::thread::sched_yield();
}

#[test]
fn a_turn_enters_the_kernel_as_often_as_what_it_has_doubles_and_never_for_nothing() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let mut channel = channel(&disk);
    let pool = Pool::ordinary(&[Class { bytes: 4096, count: DEPTH as usize }]).unwrap();
    let mut free: Vec<_> = (0..DEPTH).map(|index| (index, pool.take(4096).unwrap())).collect();
    let mut out = Vec::with_capacity(DEPTH as usize);
    let (mut turns, mut idle, mut reads) = (0, 0, 0);
    while reads < 4096 {
        let before = enters(&channel);
        channel.poll(&mut out, usize::MAX, Tick::ZERO);
        for done in out.drain(..) {
            assert_eq!(done.result, Ok(()));
            free.push((done.tag.index, done.data.unwrap()));
            reads += 1;
        }
        let is_new = !free.is_empty();
        let (mut calls, mut told, mut untold) = (0, DEPTH as usize - free.len(), 0);
        for (index, data) in free.drain(..) {
            untold += 1;
            if untold > told {
                (calls, told, untold) = (calls + 1, told + untold, 0);
            }
            let op = Op::Read { lba: u64::from(index) * 8, blocks: 8 };
            let io = Io { tag: Key { index, generation: 0 }, op, data: Some(data) };
            channel.submit(io, Tick::ZERO).unwrap();
        }
        channel.kick();
        channel.kick();
        calls += u64::from(untold > 0);
        assert_eq!(enters(&channel) - before, calls, "turn {turns}");
        assert!(turns > 0 || calls == 6, "{DEPTH} requests to an idle file: {calls} calls");
        look_at_sockets();
        turns += 1;
        idle += u32::from(!is_new);
    }
    assert!(enters(&channel) <= 4096 + u64::from(DEPTH));
    println!("{} enters and {turns} turns, {idle} idle, for {reads} reads", enters(&channel));
}

#[test]
fn who_makes_no_other_system_call_gets_completions_too() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let mut channel = channel(&disk);
    channel.submit(flush(1), Tick::ZERO).unwrap();
    channel.kick();
    let mut out = Vec::with_capacity(1);
    while out.is_empty() {
        channel.poll(&mut out, 1, Tick::ZERO);
    }
    assert_eq!(out[0].result, Ok(()));
}

/// Two channels, of these reactors, have a sync in the kernel, and the first one's result has not been seen when the second one's is
/// good.
fn second_of_two(first: i32, reactors: [u16; 2]) -> Result<(), IoError> {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let [mut a, mut b] = reactors.map(|reactor| channel_of(&disk, reactor));
    for channel in [&mut a, &mut b] {
        channel.submit(flush(1), Tick::ZERO).unwrap();
        channel.kick();
    }
    let mut out = Vec::with_capacity(2);
    while !b.syncs.is_in_doubt {
        b.poll(&mut out, 2, Tick::ZERO);
        assert!(out.is_empty(), "answered before it is known: {out:?}");
    }
    // Nothing that the kernel does would end a wait.
    assert_eq!((b.wake(), b.in_flight()), (Wake::MustPoll, 1));
    // Behind it waits another.
    b.submit(flush(2), Tick::ZERO).unwrap();
    for _ in 0..10 {
        b.poll(&mut out, 2, Tick::ZERO);
        assert!(out.is_empty());
    }
    a.synced(first);
    b.poll(&mut out, 1, Tick::ZERO);
    let first = out.pop().unwrap();
    assert_eq!(first.tag.index, 1);
    while out.is_empty() {
        b.poll(&mut out, 1, Tick::ZERO);
    }
    assert_eq!((out[0].tag.index, out[0].result), (2, first.result));
    first.result
}

#[test]
fn a_flush_is_not_good_while_one_that_overlaps_it_may_have_met_its_failure() {
    for reactors in [[0, 1], [0, 0]] {
        assert_eq!(second_of_two(-5, reactors), Err(IoError::FlushFailed));
        assert_eq!(second_of_two(0, reactors), Ok(()));
    }
}

/// A durable write's flush has met the failure, and the flush that overlapped it, and was asked to keep what was written before, has not.
#[test]
fn a_flush_is_not_good_while_a_durable_write_that_overlaps_it_may_have_met_its_failure() {
    for (reactors, first) in [([0, 1], -5), ([0, 0], -5), ([0, 1], 4096)] {
        let directory = Directory::new();
        let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
        if disk.is_buffered() == Some(true) {
            return println!("not run: no direct IO in {}", std::env::temp_dir().display());
        }
        let [mut a, mut b] = reactors.map(|reactor| channel_of(&disk, reactor));
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 2 }]).unwrap();
        // One of them comes back at once; each is waited for.
        for index in [3, 4] {
            let op = Op::Write { lba: 8 * u64::from(index), blocks: 8, fua: true };
            let io = Io { tag: Key { index, generation: 0 }, op, data: Some(pool.take(4096).unwrap()) };
            a.submit(io, Tick::ZERO).unwrap();
        }
        a.kick();
        b.submit(flush(1), Tick::ZERO).unwrap();
        b.kick();
        // Those are a's, in the kernel; nobody has looked at their ends.
        let mut came = Vec::new();
        while came.len() < 2 {
            let Link::Ready(ring) = &mut a.link else { panic!() };
            came.extend(ring.came());
            look_at_sockets();
        }
        let mut out = Vec::with_capacity(2);
        let mut ends = came.into_iter().zip([4096, first]).collect::<VecDeque<_>>();
        while !ends.is_empty() {
            while !b.syncs.is_in_doubt {
                b.poll(&mut out, 2, Tick::ZERO);
                assert!(out.is_empty(), "answered before it is known: {out:?}");
            }
            b.poll(&mut out, 2, Tick::ZERO);
            assert!(out.is_empty(), "answered with {} still out", ends.len());
            let Some((Came::Flight(key, _), result)) = ends.pop_front() else { panic!() };
            let Link::Ready(ring) = &mut a.link else { panic!() };
            let next = ring.job(key).unwrap().came(result);
            a.go_on(key, next);
        }
        b.poll(&mut out, 2, Tick::ZERO);
        let expected = if first < 0 { Err(IoError::FlushFailed) } else { Ok(()) };
        assert_eq!((out.len(), out[0].result), (1, expected), "{reactors:?}");
        out.clear();
        a.poll(&mut out, 2, Tick::ZERO);
        assert_eq!((out[0].result, out[1].result.is_err()), (Ok(()), first < 0));
    }
}

/// Each part of a disk opens channels of its own: there may be thousands on one reactor.
#[test]
fn no_number_of_channels_is_too_many() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let channels: Vec<FileChannel> = (0..160).map(|index| channel_of(&disk, index % 2)).collect();
    assert!(channels.iter().all(|channel| channel.state() == ChannelState::Ready));
}

/// Out of descriptors or memory: who asks is answered at once, who looks for missing media is told why, and when there is a ring
/// again all is well.
#[test]
fn a_ring_that_is_not_to_be_had_is_told_of_and_tried_again() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let set = |are_none| disk.term().rings.are_none.store(are_none, Ordering::Relaxed);
    set(true);
    let mut channel = channel(&disk);
    let gone = channel_of(&disk, 1);
    let (early, late) = (Tick::from_ns(10 * PROBE_NS), Tick::from_ns(11 * PROBE_NS));
    assert!(matches!(channel.submit(flush(1), early), Err(Refused::Gone(_))));
    assert_eq!((channel.state(), channel.wake()), (ChannelState::Gone, Wake::Idle));
    assert!(disk.is_awaited());
    let why = disk.probe().unwrap_err().to_string();
    assert!(why.contains("io_uring") && why.contains("Too many open files"), "{why}");
    drop(gone);
    set(false);
    // Not in every turn.
    assert!(matches!(channel.submit(flush(1), early), Err(Refused::Gone(_))));
    assert!(disk.is_awaited());
    channel.submit(flush(1), late).unwrap();
    channel.kick();
    let mut out = Vec::with_capacity(1);
    while out.is_empty() {
        channel.poll(&mut out, 1, late);
    }
    assert_eq!(out[0].result, Ok(()));
    assert!(!disk.is_awaited() && disk.probe().is_ok());
}

/// The same where the medium was opened anew, or comes later.
#[test]
fn who_lacks_a_ring_goes_on_to_the_next_medium() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    disk.term().rings.are_none.store(true, Ordering::Relaxed);
    let mut channel = channel(&disk);
    disk.close();
    disk.reopen(std::time::Duration::ZERO).unwrap();
    assert!(matches!(channel.submit(flush(1), Tick::ZERO), Err(Refused::Gone(_))));
    assert!(disk.is_awaited());
    disk.term().rings.are_none.store(false, Ordering::Relaxed);
    channel.submit(flush(1), Tick::from_ns(PROBE_NS)).unwrap();
    assert!(!disk.is_awaited());
}

#[test]
fn the_descriptor_that_reactors_wait_for_is_the_same_for_the_next_medium() {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let mut channel = channel(&disk);
    channel.submit(flush(1), Tick::ZERO).unwrap();
    let Link::Ready(ring) = &channel.link else { panic!() };
    let fd = ring.fd();
    let mut out = Vec::with_capacity(1);
    while out.is_empty() {
        channel.poll(&mut out, 1, Tick::ZERO);
    }
    disk.close();
    assert!(matches!(channel.submit(flush(1), Tick::ZERO), Err(Refused::NotReady(_))));
    disk.reopen(std::time::Duration::ZERO).unwrap();
    channel.submit(flush(1), Tick::ZERO).unwrap();
    assert_eq!(channel.wake(), Wake::Fd(fd));
    // Of this one the kernel has not been told: it has something to do.
    let pool = Pool::ordinary(&[Class { bytes: 4096, count: 1 }]).unwrap();
    let read = Io {
        tag: Key { index: 2, generation: 0 },
        op: Op::Read { lba: 0, blocks: 1 },
        data: Some(pool.take(512).unwrap()),
    };
    channel.submit(read, Tick::ZERO).unwrap();
    assert_eq!(channel.wake(), Wake::MustPoll);
    channel.kick();
    assert_eq!(channel.wake(), Wake::Fd(fd));
}
