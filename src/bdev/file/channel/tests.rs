//! What only a channel's inside shows: how often it enters the kernel, and what it waits for.

mod speed;

use super::*;
use crate::bdev::file::FileDisk;
use crate::bdev::file::tests::{Directory, disk, recipe};
use crate::buf::{Class, Pool};

const DEPTH: u32 = 32;

fn channel(disk: &FileDisk) -> FileChannel {
    FileChannel::new(disk.term())
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
fn a_turn_enters_the_kernel_once_where_there_is_something_to_submit_and_else_never() {
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
        for (index, data) in free.drain(..) {
            let op = Op::Read { lba: u64::from(index) * 8, blocks: 8 };
            let io = Io { tag: Key { index, generation: 0 }, op, data: Some(data) };
            channel.submit(io, Tick::ZERO).unwrap();
        }
        channel.kick();
        channel.kick();
        assert_eq!(enters(&channel) - before, u64::from(is_new), "turn {turns}");
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

/// Two channels have a sync in the kernel, and the first one's result has not been seen when the second one's is good.
fn second_of_two(first: i32) -> Result<(), IoError> {
    let directory = Directory::new();
    let disk = disk(recipe(&directory.file("disk", 1 << 20))).unwrap();
    let [mut a, mut b] = [channel(&disk), channel(&disk)];
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
    assert_eq!(second_of_two(-5), Err(IoError::FlushFailed));
    assert_eq!(second_of_two(0), Ok(()));
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
    assert_eq!(channel.wake(), Wake::MustPoll);
    channel.kick();
    assert_eq!(channel.wake(), Wake::Fd(fd));
}
