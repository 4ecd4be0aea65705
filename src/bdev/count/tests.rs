//! Counters: what is counted, and that the device is the same with them.

use super::*;
use crate::bdev::contract::{Made, Subject, suite};
use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
use crate::bdev::malloc::{Malloc, Recipe};
use crate::bdev::null::Null;
use crate::bdev::{Io, IoError, Op};
use crate::buf::{Class, Hugepages, Pool};
use crate::slab::Key;
use crate::time::Tick;

#[test]
fn passes_the_contract() {
    let make = || {
        let recipe = Recipe {
            name: "Malloc0".to_owned(),
            blocks: 100,
            blocks_max: 200,
            block_bytes: 512,
            physical_block_bytes: 512,
            uuid: [7; 16],
            hugepages: Hugepages::Off,
        };
        let disk = Arc::new(Malloc::new(recipe).unwrap());
        let bdev = Arc::new(Counted::new(Arc::clone(&disk) as _));
        Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(blocks).unwrap())) }
    };
    suite(&Subject { name: "counted", make: &make, keeps_data: true, frees_on_drop: true });
}

#[test]
fn what_is_asked_is_counted_by_all_reactors_together() {
    let faults = Faults::new();
    faults.add(Rule::everywhere(Kind::Flush, Fault::Fail(IoError::FlushFailed)), 1).unwrap();
    let null = Arc::new(Null::new("Null0".to_owned(), 100, 4096, [7; 16]));
    let disk = Counted::new(Arc::new(Faulty::new(null, faults)));
    let pool = Pool::ordinary(&[Class { bytes: 16384, count: 8 }]).unwrap();
    let buffer = || Some(pool.take(8192).unwrap());
    let at = Tick::from_ns;
    for (reactor, ends) in [(0, [120, 140]), (1, [100, 200]), (300, [0, 0])] {
        let mut channel = disk.open(ReactorId(reactor));
        let mut take = |index, op, data, now| {
            channel.submit(Io { tag: Key { index, generation: 0 }, op, data }, at(now)).unwrap();
        };
        // One after the other, so that each ends by itself.
        take(0, Op::Read { lba: 0, blocks: 2 }, buffer(), 20);
        channel.poll(&mut Vec::with_capacity(8), 8, at(ends[0]));
        let mut take = |index, op, data, now| {
            channel.submit(Io { tag: Key { index, generation: 0 }, op, data }, at(now)).unwrap();
        };
        take(0, Op::Write { lba: 0, blocks: 1, fua: false }, buffer(), 100);
        take(3, Op::Unmap { lba: 0, blocks: 3 }, None, 130);
        // As at the end of a reactor: a tag that is none of a command's.
        take(u32::MAX, Op::Flush, None, 130);
        channel.poll(&mut Vec::with_capacity(8), 8, at(ends[1]));
    }
    let tally = |bytes, total_ns, max_ns, min_ns| Tally { ios: 2, bytes, total_ns, max_ns, min_ns };
    let expected = Counts {
        reads: tally(16384, 180, 100, 80),
        writes: tally(8192, 140, 100, 40),
        unmaps: tally(24576, 80, 70, 10),
        flushes: 2,
        errors: 1,
    };
    assert_eq!(disk.counts(), Some(expected));
    let figures = disk.figures();
    let in_flight: Vec<(u16, u64)> = figures.iter().map(|(id, figures)| (id.0, figures.in_flight)).collect();
    assert_eq!(in_flight, [(0, 0), (1, 0)]);
    let reads = figures[1].1.reads;
    assert_eq!((reads.ios, reads.bytes, reads.times.total_ns, reads.times.count()), (1, 8192, 80, 1));
    disk.forget_extremes();
    let forgotten = disk.counts().unwrap();
    assert_eq!((forgotten.reads, forgotten.errors), (tally(16384, 180, 0, 0), 1));
    let mut channel = disk.open(ReactorId(1));
    let read =
        Io { tag: Key { index: 5, generation: 0 }, op: Op::Read { lba: 0, blocks: 1 }, data: buffer() };
    channel.submit(read, at(1000)).unwrap();
    channel.poll(&mut Vec::with_capacity(8), 8, at(1000));
    let reads = Tally { ios: 3, bytes: 20480, total_ns: 181, max_ns: 1, min_ns: 1 };
    assert_eq!(disk.counts().unwrap().reads, reads);
    disk.forget_counts();
    assert_eq!(disk.counts(), Some(Counts::default()));
}

#[test]
fn times_are_counted_while_somebody_wants_to_know() {
    let disk = Counted::new(Arc::new(Null::new("Null0".to_owned(), 100, 512, [7; 16])));
    let mut channels = [disk.open(ReactorId(0)), disk.open(ReactorId(1)), disk.open(ReactorId(1))];
    assert_eq!(disk.open_channels(), [(ReactorId(0), 1), (ReactorId(1), 2)]);
    let mut unmap = |channel: usize, took: u64| {
        let op = Op::Unmap { lba: 0, blocks: 1 };
        let io = Io { tag: Key { index: 0, generation: 0 }, op, data: None };
        channels[channel].submit(io, Tick::from_ns(1000)).unwrap();
        channels[channel].poll(&mut Vec::with_capacity(1), 1, Tick::from_ns(1000 + took));
    };
    unmap(0, 5);
    assert_eq!(disk.times(), None);
    disk.time(Some(Timed::All), 2);
    [(0, 5), (1, 5), (2, 300)].into_iter().for_each(|(channel, took)| unmap(channel, took));
    let (timed, sums) = disk.times().unwrap();
    // Of 300 as `histogram` shows.
    assert_eq!((timed, sums[5], sums[278], sums.iter().sum::<u64>()), (Timed::All, 2, 1, 3));
    disk.time(Some(Timed::Reads), 2);
    unmap(0, 5);
    assert_eq!(disk.times().map(|(timed, sums)| (timed, sums[5])), Some((Timed::Reads, 2)));
    disk.time(None, 2);
    assert_eq!(disk.times(), None);
    disk.time(Some(Timed::Unmaps), 2);
    unmap(1, 7);
    let (timed, sums) = disk.times().unwrap();
    assert_eq!((timed, sums[7], sums.iter().sum::<u64>()), (Timed::Unmaps, 1, 1));
    drop(channels);
    assert_eq!(disk.open_channels(), []);
}
