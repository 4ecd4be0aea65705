//! The fuzzers' way to the driver: bytes are what a controller says (completions, Identify), what it fails in, and when anybody
//! does anything. Whatever they are, each IO ends exactly once, in bounded time.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::controller::shared::Order;
use super::mock::{Config, Fault, Medium, Mock};
use super::rig::Rig;
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, Op};
use crate::buf::{Class, Pool};
use crate::id::ReactorId;
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::{MS_NS, SECOND_NS};

const BLOCKS: u64 = 64;
/// Within this time everything is answered once the controller behaves.
const ANSWERED_NS: u64 = 120 * SECOND_NS;

/// Bytes, taken from the front; zeroes when there are none left.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// One of them.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }
}

struct World {
    rng: Rng,
    rig: Rig,
    pool: Pool,
    ways: Vec<Box<dyn Channel>>,
    flying: BTreeSet<u32>,
    tags: u32,
}

/// Runs one input.
///
/// # Panics
/// On a finding.
pub fn one(data: &[u8]) {
    let mut source = Source(data);
    let config = Config {
        entries_max: source.pick(&[2, 4, 16, 256]),
        mdts: source.pick(&[0, 1, 3]),
        oncs: u16::from(source.byte()) & Config::default().oncs,
        has_shadow_doorbells: source.byte() & 1 != 0,
        is_scattered: source.byte() & 1 != 0,
        ..Config::default()
    };
    let mock = Mock::new(config, 1);
    mock.attach(1, Medium::new(BLOCKS, 512));
    mock.attach(2, Medium::new(BLOCKS, 4096));
    let mut rng = Rng::new(u64::from(source.word()));
    let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
    if source.byte() & 7 == 0 {
        garble(&mock, &mut source);
    }
    if !rig.bring_up(&mut rng) {
        return;
    }
    let Ok(pool) = Pool::ordinary(&[Class { bytes: 16384, count: 64 }]) else { return };
    let open = |nsid| Some(rig.bdev(nsid)?.open(ReactorId(0)));
    let ways = [1, 2].into_iter().filter_map(open).collect();
    let mut world = World { rng, rig, pool, ways, flying: BTreeSet::new(), tags: 0 };
    while !source.0.is_empty() {
        world.act(&mut source);
    }
    world.end();
}

/// Some bytes of what Identify answers from now on are others.
fn garble(mock: &Mock, source: &mut Source<'_>) {
    let at = usize::from(source.byte()) | usize::from(source.byte() & 0xF) << 8;
    mock.garble(at, source.byte());
}

impl World {
    fn act(&mut self, source: &mut Source<'_>) {
        let byte = source.byte();
        let way = usize::from(byte >> 4);
        match byte & 0xF {
            0..=4 => self.submit(way, source),
            5 => self.ways.get_mut(way).into_iter().for_each(|way| way.kick()),
            6 | 7 => self.poll(way, usize::from(source.byte())),
            8 | 9 => self.rig.turn(&mut self.rng, MS_NS),
            10 => {
                let ns = source.pick(&[10_000, 100 * MS_NS, 3 * SECOND_NS]);
                self.rig.turn(&mut self.rng, ns);
            }
            11 => self.rig.mock.misbehave(source.pick(&Fault::ALL), 1 + u64::from(source.byte() & 0xF)),
            12 => self.rig.mock.behave(),
            13 => {
                let words = [source.word(), source.word(), source.word(), source.word()];
                self.rig.mock.forge(u16::from(byte >> 4) % 3, words);
            }
            14 => garble(&self.rig.mock, source),
            _ => self.surprise(source),
        }
    }

    fn surprise(&mut self, source: &mut Source<'_>) {
        match source.byte() & 7 {
            0 => self.rig.mock.resize(1, u64::from(source.byte())),
            1 => self.rig.mock.detach(2),
            2 => self.rig.mock.attach(2, Medium::new(BLOCKS, 512)),
            3 => self.rig.shared.order(Order::Reset),
            4 => self.rig.shared.order(Order::Rescan),
            5 => {
                let tag = Key { index: u32::from(source.byte()), generation: 0 };
                self.ways.iter_mut().for_each(|way| way.cancel(tag));
            }
            6 => {
                if let Some(way) = self.ways.first_mut() {
                    let _ = way.fence();
                }
            }
            _ if source.byte() == 0 => self.rig.mock.remove(),
            _ => {}
        }
    }

    fn submit(&mut self, way: usize, source: &mut Source<'_>) {
        let blocks = u32::from(source.byte() & 3) + 1;
        let lba = u64::from(source.byte() & 0x3F);
        let kind = source.byte();
        let op = match kind & 7 {
            0..=2 => Op::Read { lba, blocks },
            3 | 4 => Op::Write { lba, blocks, fua: blocks == 1 },
            5 => Op::WriteZeroes { lba, blocks: blocks * 4, fua: false, may_unmap: true },
            6 => Op::Unmap { lba, blocks },
            _ => match kind >> 3 & 3 {
                0 => Op::Flush,
                1 => Op::Compare { lba, blocks },
                2 => Op::Copy { from: lba ^ 0x20, lba, blocks: blocks * 4, fua: false },
                _ => Op::WriteUncorrectable { lba, blocks },
            },
        };
        let Some(channel) = self.ways.get_mut(way) else { return };
        let data = match op {
            Op::Read { .. } | Op::Write { .. } | Op::Compare { .. } => {
                let Some(buf) = self.pool.take(16384) else { return };
                Some(buf)
            }
            _ => None,
        };
        self.tags += 1;
        if channel.submit(Io { tag: Key { index: self.tags, generation: 0 }, op, data }, self.rig.now).is_ok()
        {
            self.flying.insert(self.tags);
        }
    }

    fn poll(&mut self, way: usize, max: usize) {
        let Some(channel) = self.ways.get_mut(way) else { return };
        let mut out = Vec::with_capacity(32);
        channel.poll(&mut out, max, self.rig.now);
        out.into_iter().for_each(|done: Done| assert!(self.flying.remove(&done.tag.index), "it ends once"));
    }

    fn end(mut self) {
        self.rig.mock.behave();
        self.rig.mock.ungarble();
        let end = self.rig.now.after_ns(ANSWERED_NS);
        let is_opening = |world: &World| world.ways.iter().any(|way| way.state() == ChannelState::Opening);
        while !self.flying.is_empty() || is_opening(&self) {
            assert!(
                self.rig.now < end,
                "{} IOs are never answered: {:?}",
                self.flying.len(),
                self.rig.said()
            );
            for way in 0..self.ways.len() {
                self.poll(way, 32);
            }
            self.rig.turn(&mut self.rng, 20 * MS_NS);
        }
        assert_eq!(self.pool.in_use_count(), 0);
    }
}
