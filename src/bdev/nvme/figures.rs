//! What an IO costs in the driver, and in nothing else: the mock controller moves no data, and is measured apart.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use super::mock::blank::{Blank, BlankBus};
use super::mock::{Config, Medium, Mock};
use super::rig::Rig;
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, Op};
use crate::buf::{Buf, Class, Pool};
use crate::id::ReactorId;
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::{MS_NS, Tick};

/// Size of the namespace: IOs go to random blocks of it.
const BLOCKS: u64 = 1 << 20;
const BLOCK_BYTES: usize = 4096;

/// What was measured, in all rounds together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Figures {
    /// IOs of 4 KiB, one write for three reads.
    pub ios: u64,
    /// Time in `submit` and `kick` of the channel.
    pub submit_ns: u64,
    /// Time in its `poll`.
    pub poll_ns: u64,
    /// Time in the mock controller.
    pub mock_ns: u64,
}

/// So many rounds of `queue_depth` IOs each: all are submitted, the device completes them in random order, all are polled.
///
/// # Errors
/// Where the driver does not come up, or an IO fails: what.
pub fn run(rounds: u32, queue_depth: usize, seed: u64) -> Result<Figures, String> {
    let mut bench = Bench::new(queue_depth, seed)?;
    let mut figures = Figures::default();
    for _ in 0..rounds {
        bench.round(&mut figures)?;
    }
    Ok(figures)
}

struct Bench {
    rig: Rig,
    channel: Box<dyn Channel>,
    blank: Blank,
    rng: Rng,
    bufs: Vec<Buf>,
    ready: Vec<Io>,
    done: Vec<Done>,
    queue_depth: usize,
    _pool: Pool,
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Bench {
    fn new(queue_depth: usize, seed: u64) -> Result<Bench, String> {
        let mut rng = Rng::new(seed);
        let config = Config { entries_max: 1024, is_immediate: true, ..Config::default() };
        let mock = Mock::new(config, seed);
        mock.attach(1, Medium::new(BLOCKS, BLOCK_BYTES));
        let bus = BlankBus::new(mock.clone());
        let mut rig = Rig::new(&mock, Arc::new(bus.clone()));
        if !rig.bring_up(&mut rng) {
            return Err(rig.said().join("; "));
        }
        let bdev = rig.bdev(1).ok_or("there is no namespace 1")?;
        let mut channel = bdev.open(ReactorId(0));
        let mut done = Vec::with_capacity(queue_depth);
        while channel.state() == ChannelState::Opening {
            rig.turn(&mut rng, MS_NS);
            channel.poll(&mut done, 0, rig.now);
        }
        let blank = bus.take_over(seed).ok_or("there is no queue 1")?;
        let pool = Pool::ordinary(&[Class { bytes: BLOCK_BYTES, count: queue_depth }]);
        let pool = pool.map_err(|failed| failed.to_string())?;
        let bufs = (0..queue_depth).filter_map(|_| pool.take(BLOCK_BYTES)).collect();
        let ready = Vec::with_capacity(queue_depth);
        let mut bench = Bench { rig, channel, blank, rng, bufs, ready, done, queue_depth, _pool: pool };
        bench.first()?;
        Ok(bench)
    }

    /// An IO that makes the driver have the memory mapped.
    fn first(&mut self) -> Result<(), String> {
        let tag = Key { index: 0, generation: 0 };
        let io = Io { tag, op: Op::Read { lba: 0, blocks: 1 }, data: self.bufs.pop() };
        self.channel.submit(io, self.rig.now).map_err(|refused| format!("{refused:?}"))?;
        while self.channel.in_flight() > 0 {
            self.channel.kick();
            self.rig.turn(&mut self.rng, MS_NS);
            self.blank.serve();
            self.channel.poll(&mut self.done, 1, self.rig.now);
        }
        self.bufs.extend(self.done.drain(..).filter_map(|done| done.data));
        Ok(())
    }

    fn round(&mut self, figures: &mut Figures) -> Result<(), String> {
        for (index, buf) in (0..).zip(self.bufs.drain(..)) {
            let (lba, blocks) = (self.rng.below(BLOCKS), 1);
            let op =
                if index % 4 == 0 { Op::Write { lba, blocks, fua: false } } else { Op::Read { lba, blocks } };
            self.ready.push(Io { tag: Key { index, generation: 1 }, op, data: Some(buf) });
        }
        let now = self.rig.now;
        let begin = Instant::now();
        submit_all(&mut *self.channel, &mut self.ready, now)?;
        figures.submit_ns += nanoseconds(begin);
        let begin = Instant::now();
        let served = self.blank.serve();
        figures.mock_ns += nanoseconds(begin);
        let begin = Instant::now();
        poll_all(&mut *self.channel, &mut self.done, now);
        figures.poll_ns += nanoseconds(begin);
        if served != self.queue_depth || self.done.len() != served {
            return Err(format!("{} of {} IOs came back", self.done.len(), self.queue_depth));
        }
        figures.ios += u64::try_from(served).unwrap_or_default();
        for done in self.done.drain(..) {
            done.result.map_err(|error| format!("an IO failed: {error:?}"))?;
            self.bufs.extend(done.data);
        }
        Ok(())
    }
}

/// Not inlined, so that its instructions can be counted.
#[inline(never)]
fn submit_all(channel: &mut dyn Channel, ready: &mut Vec<Io>, now: Tick) -> Result<(), String> {
    for io in ready.drain(..) {
        if channel.submit(io, now).is_err() {
            return Err("an IO was refused".to_owned());
        }
    }
    channel.kick();
    Ok(())
}

/// As [`submit_all`].
#[inline(never)]
fn poll_all(channel: &mut dyn Channel, done: &mut Vec<Done>, now: Tick) {
    channel.poll(black_box(done), usize::MAX, now);
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_io_comes_back() {
        let figures = super::run(20, 100, 1).unwrap();
        assert_eq!(figures.ios, 2000);
    }
}
