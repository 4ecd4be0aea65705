//! Power cuts: whatever was answered before the last answered flush, or with FUA, is there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bdev::nvme::mock::{Config, Medium, Mock};
use crate::bdev::nvme::planted::{Bug, plant};
use crate::bdev::nvme::rig::Rig;
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, Op};
use crate::buf::{Buf, Class, Pool};
use crate::id::ReactorId;
use crate::sim::disk::{Stamp, ZEROES, fill, stamp_of};
use crate::sim::rng::Rng;
use crate::slab::Key;
use crate::time::MS_NS;

const BLOCKS: u64 = 32;
const BLOCK_BYTES: usize = 512;

/// What a block may hold after a power cut, in the order of writing: the last that is known to be durable comes first.
#[derive(Clone, Default, Debug)]
struct Block {
    versions: Vec<Stamp>,
    is_busy: bool,
}

#[derive(Debug)]
struct Flying {
    op: Op,
    stamp: Stamp,
    /// A flush: how many versions each block had when it was submitted, of those that were answered.
    covers: BTreeMap<u64, usize>,
}

/// Writes, flushes and FUA writes in random order until the power is cut.
#[derive(Debug)]
struct Cut {
    rng: Rng,
    rig: Rig,
    channel: Box<dyn Channel>,
    pool: Pool,
    blocks: BTreeMap<u64, Block>,
    flying: BTreeMap<u32, Flying>,
    number: u32,
}

impl Cut {
    fn new(seed: u64) -> Cut {
        let mut rng = Rng::new(seed);
        let mock = Mock::new(Config { mdts: 1, ..Config::default() }, seed);
        mock.attach(1, Medium::new(BLOCKS, BLOCK_BYTES));
        let mut rig = Rig::new(&mock, Arc::new(mock.clone()));
        assert!(rig.bring_up(&mut rng));
        let channel = rig.bdev(1).unwrap().open(ReactorId(0));
        let pool = Pool::ordinary(&[Class { bytes: 16384, count: 64 }]).unwrap();
        let fresh = Block { versions: vec![ZEROES], is_busy: false };
        let blocks = (0..BLOCKS).map(|lba| (lba, fresh.clone())).collect();
        Cut { rng, rig, channel, pool, blocks, flying: BTreeMap::new(), number: 0 }
    }

    fn submit(&mut self) {
        let blocks = 1 + self.rng.below(4);
        let lba = self.rng.below(BLOCKS - blocks);
        let count = u32::try_from(blocks).unwrap();
        let fua = self.rng.one_in(6);
        let op = match self.rng.below(12) {
            0 => Op::Flush,
            1 => Op::WriteZeroes { lba, blocks: count, fua, may_unmap: true },
            _ => Op::Write { lba, blocks: count, fua },
        };
        let extent = op.extent().map_or(0..0, |_| lba..lba + blocks);
        if self.channel.state() != ChannelState::Ready || extent.clone().any(|lba| self.blocks[&lba].is_busy)
        {
            return;
        }
        self.number += 1;
        let stamp = if matches!(op, Op::Write { .. }) { Stamp::from(self.number) } else { ZEROES };
        let data = matches!(op, Op::Write { .. }).then(|| {
            let mut buf = self.pool.take(BLOCK_BYTES * usize::try_from(blocks).unwrap()).unwrap();
            buf.chunks_exact_mut(BLOCK_BYTES).for_each(|block| fill(block, stamp));
            buf
        });
        let covers = match op {
            Op::Flush => self.blocks.iter().map(|(lba, block)| (*lba, block.answered())).collect(),
            _ => BTreeMap::new(),
        };
        let tag = Key { index: self.number, generation: 0 };
        if self.channel.submit(Io { tag, op, data }, self.rig.now).is_ok() {
            for lba in extent {
                let block = self.blocks.get_mut(&lba).unwrap();
                block.is_busy = true;
                block.versions.push(stamp);
            }
            self.flying.insert(self.number, Flying { op, stamp, covers });
        }
    }

    fn done(&mut self, done: &Done) {
        assert_eq!(done.result, Ok(()));
        let io = self.flying.remove(&done.tag.index).expect("it ends once");
        let is_durable = matches!(io.op, Op::Write { fua: true, .. } | Op::WriteZeroes { fua: true, .. });
        if let Some((lba, blocks)) = io.op.extent() {
            for lba in lba..lba + u64::from(blocks) {
                let block = self.blocks.get_mut(&lba).unwrap();
                block.is_busy = false;
                if is_durable {
                    block.versions = vec![io.stamp];
                    for flush in self.flying.values_mut() {
                        flush.covers.remove(&lba);
                    }
                }
            }
        }
        for (lba, count) in io.covers {
            // The last version that the flush has covered is the oldest that may be left.
            let gone = count.saturating_sub(1);
            self.blocks.get_mut(&lba).unwrap().versions.drain(..gone);
            for flush in self.flying.values_mut() {
                flush.covers.entry(lba).and_modify(|count| *count = count.saturating_sub(gone));
            }
        }
    }

    fn turn(&mut self) {
        self.channel.kick();
        let mut out = Vec::with_capacity(8);
        self.channel.poll(&mut out, 8, self.rig.now);
        out.iter().for_each(|done| self.done(done));
        let mut rng = self.rng.fork();
        self.rig.turn(&mut rng, MS_NS);
    }

    /// The blocks that a power cut has taken though they were safe: which, what they hold, what they might.
    fn run(mut self) -> Vec<(u64, Stamp, Vec<Stamp>)> {
        for _ in 0..40 + self.rng.below(200) {
            for _ in 0..self.rng.below(4) {
                self.submit();
            }
            self.turn();
        }
        let mut rng = self.rng.fork();
        self.rig.mock.crash(&mut rng);
        let mut lost = Vec::new();
        for (lba, block) in &self.blocks {
            let stamp = stamp_of(&self.rig.mock.block(1, *lba).unwrap());
            if !block.versions.contains(&stamp) {
                lost.push((*lba, stamp, block.versions.clone()));
            }
        }
        assert_eq!(self.rig.mock.violations(), Vec::<String>::new());
        // The driver finds a controller that has lost everything, and begins anew; with another disk, as what it was told may not be true
        // any more.
        let before = self.rig.shared.disks().remove(0);
        for _ in 0..100_000 {
            self.turn_after_cut();
            if !self.flying.is_empty() || !before.is_removed() || self.channel.in_flight() > 0 {
                continue;
            }
            if self.channel.state() == ChannelState::Ready {
                return lost;
            }
            if self.channel.state() == ChannelState::Gone
                && let Some(bdev) = self.rig.bdev(1)
            {
                self.channel = bdev.open(ReactorId(0));
            }
        }
        panic!("it does not come back: {:?}", self.rig.said());
    }

    fn turn_after_cut(&mut self) {
        let mut out = Vec::with_capacity(8);
        self.channel.poll(&mut out, 8, self.rig.now);
        for done in out {
            drop::<Option<Buf>>(done.data);
            assert!(self.flying.remove(&done.tag.index).is_some(), "it ends once");
        }
        let mut rng = self.rng.fork();
        self.rig.turn(&mut rng, MS_NS);
    }
}

impl Block {
    /// Versions of writes that were answered: the last one may be on its way.
    fn answered(&self) -> usize {
        self.versions.len() - usize::from(self.is_busy)
    }
}

#[test]
fn what_was_flushed_or_forced_survives_a_power_cut() {
    for seed in 0..100 {
        let lost = Cut::new(seed).run();
        assert!(lost.is_empty(), "seed {seed}: {lost:x?}");
    }
}

#[test]
fn a_flush_or_fua_that_does_not_reach_the_device_is_found() {
    for bug in [Bug::FlushNotSent, Bug::FuaDropped] {
        plant(Some(bug));
        let is_found = (0..100).any(|seed| !Cut::new(seed).run().is_empty());
        plant(None);
        assert!(is_found, "{bug:?}");
    }
}
