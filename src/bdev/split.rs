//! A part of a device as a device of its own: so many blocks from a block on.
//!
//! Parts do not overlap and share the device's channels with nobody: each opens its own. A part stays where it is when the device
//! grows; of what a device that shrank no longer has, a part loses its end.

use std::error::Error;
use std::sync::Arc;

use super::protection::Protection;
use super::queue::{DoneQueue, room};
use super::space::Temperature;
use super::{
    Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Offloads, Op, Refused, Unmap, Wake,
};
use crate::buf::Lent;
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// A part of a device.
#[derive(Debug)]
pub struct Split {
    name: String,
    base: Arc<dyn Bdev>,
    index: u32,
    blocks: u64,
}

impl Split {
    /// The part number `index` of `base`, where each has `blocks` blocks; none where that has no address.
    pub fn new(name: String, base: Arc<dyn Bdev>, index: u32, blocks: u64) -> Option<Split> {
        blocks.checked_mul(u64::from(index) + 1)?;
        Some(Split { name, base, index, blocks })
    }

    /// The device's block that is the part's first.
    fn first(&self) -> u64 {
        // `new` has checked it.
        self.blocks.wrapping_mul(u64::from(self.index))
    }
}

impl Bdev for Split {
    fn info(&self) -> Info {
        let base = self.base.info();
        let first = self.first();
        let starts_at = |unit: u64| first.is_multiple_of(unit.max(1));
        let blocks_of_physical = u64::from(base.physical_block_bytes / base.block_bytes.max(1));
        let unmap = base.unmap.map(|unmap| Unmap {
            // Units are counted from the device's block 0.
            granularity_blocks: if starts_at(unmap.granularity_blocks.into()) {
                unmap.granularity_blocks
            } else {
                1
            },
            ..unmap
        });
        Info {
            name: self.name.clone(),
            blocks: base.blocks.saturating_sub(first).min(self.blocks),
            physical_block_bytes: if starts_at(blocks_of_physical) {
                base.physical_block_bytes
            } else {
                base.block_bytes
            },
            uuid: uuid(base.uuid, self.index),
            unmap,
            // Of what one write may cross, devices count from their own block 0.
            offloads: Offloads { atomic_write_blocks: 0, ..base.offloads },
            // Reference tags are the device's block numbers, not the part's.
            protection: None::<Protection>,
            ..base
        }
    }

    fn temperature(&self) -> Option<Arc<Temperature>> {
        self.base.temperature()
    }

    fn measure(&self) {
        self.base.measure();
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(SplitChannel {
            inner: self.base.open(reactor),
            first: self.first(),
            blocks: self.blocks,
            block_bytes: self.base.info().block_bytes.max(1) as usize,
            refused: DoneQueue::new(),
        })
    }

    fn probe(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.base.probe()
    }
}

/// A part's UUID (RFC 9562 §5.8, version 8): it follows from the device's and the part's number, so it is the same after every
/// start. A device without one has parts without one.
fn uuid(base: [u8; 16], index: u32) -> [u8; 16] {
    /// Odd, and with bits everywhere: 2¹²⁸ divided by the golden ratio.
    const STEP: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    if base == [0; 16] {
        return base;
    }
    let steps = STEP.wrapping_mul(u128::from(index) + 1);
    let mut uuid = u128::from_be_bytes(base).rotate_left(59).wrapping_add(steps).to_be_bytes();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[derive(Debug)]
struct SplitChannel {
    inner: Box<dyn Channel>,
    first: u64,
    blocks: u64,
    block_bytes: usize,
    /// What was refused here.
    refused: DoneQueue,
}

impl SplitChannel {
    /// The device's block, where the whole extent is in the part.
    fn shift(&self, lba: u64, blocks: u64) -> Result<u64, IoError> {
        match lba.checked_add(blocks) {
            Some(end) if end <= self.blocks => Ok(self.first + lba),
            _ => Err(IoError::OutOfRange),
        }
    }

    /// The same IO of the device.
    fn shifted(&self, mut op: Op) -> Result<Op, IoError> {
        if matches!(
            op,
            Op::ReadProtected { .. }
                | Op::WriteProtected { .. }
                | Op::Verify { checks: Some(_), .. }
                | Op::Pass { .. }
        ) {
            return Err(IoError::Unsupported);
        }
        if let Op::Copy { from, blocks, .. } = &mut op {
            *from = self.shift(*from, u64::from(*blocks))?;
        }
        if let Some((lba, blocks)) = op.extent_mut() {
            *lba = self.shift(*lba, u64::from(*blocks))?;
        }
        Ok(op)
    }

    /// So many bytes in blocks, whole ones.
    fn blocks_of(&self, bytes: usize) -> u64 {
        (bytes / self.block_bytes) as u64
    }
}

impl Channel for SplitChannel {
    fn state(&self) -> ChannelState {
        self.inner.state()
    }

    fn submit(&mut self, mut io: Io, now: Tick) -> Result<(), Refused> {
        let own = io.op;
        match self.shifted(own) {
            Ok(op) => {
                io.op = op;
                let back = |io| Io { op: own, ..io };
                self.inner.submit(io, now).map_err(|refused| match refused {
                    Refused::NotReady(io) => Refused::NotReady(back(io)),
                    Refused::Full(io) => Refused::Full(back(io)),
                    Refused::Gone(io) => Refused::Gone(back(io)),
                })
            }
            Err(_) if self.refused.is_full() => Err(Refused::Full(io)),
            Err(error) => {
                self.refused.push(Done { tag: io.tag, data: io.data, result: Err(error) });
                Ok(())
            }
        }
    }

    fn does_at_once(&self) -> bool {
        self.inner.does_at_once()
    }

    fn lend(&mut self, lba: u64, blocks: u32, now: Tick) -> Option<Lent> {
        let lba = self.shift(lba, blocks.into()).ok()?;
        self.inner.lend(lba, blocks, now)
    }

    fn load(&mut self, lba: u64, data: &mut [u8], now: Tick) -> bool {
        let lba = self.shift(lba, self.blocks_of(data.len()));
        lba.is_ok_and(|lba| self.inner.load(lba, data, now))
    }

    fn store(&mut self, lba: u64, data: &[u8], fua: bool, now: Tick) -> bool {
        let lba = self.shift(lba, self.blocks_of(data.len()));
        lba.is_ok_and(|lba| self.inner.store(lba, data, fua, now))
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        let (max, before) = (room(out, max), out.len());
        self.refused.poll(out, max);
        let refused = out.len() - before;
        self.inner.poll(out, max - refused, now);
        for done in &mut out[before + refused..] {
            if let Err(IoError::Medium { lba: Some(lba) }) = &mut done.result {
                *lba = lba.saturating_sub(self.first);
            }
        }
    }

    fn cancel(&mut self, tag: Key) {
        self.inner.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.inner.fence()
    }

    fn wake(&self) -> Wake {
        if self.refused.is_empty() { self.inner.wake() } else { Wake::MustPoll }
    }

    fn in_flight(&self) -> u32 {
        self.refused.len() + self.inner.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::contract::{Made, Subject, suite};
    use crate::bdev::error::{Fault, Faults, Faulty, Kind, Rule};
    use crate::bdev::malloc::{Malloc, Recipe};
    use crate::bdev::null::Null;
    use crate::buf::{Class, Hugepages, Pool};

    fn malloc(blocks: u64) -> Arc<Malloc> {
        let recipe = Recipe {
            name: "Malloc0".to_owned(),
            blocks,
            blocks_max: 400,
            block_bytes: 512,
            physical_block_bytes: 4096,
            uuid: [7; 16],
            hugepages: Hugepages::Off,
        };
        Arc::new(Malloc::new(recipe).unwrap())
    }

    fn split(base: Arc<dyn Bdev>, index: u32, blocks: u64) -> Split {
        Split::new(format!("{}p{index}", base.info().name), base, index, blocks).unwrap()
    }

    #[test]
    fn passes_the_contract() {
        for (index, first) in [(0, 0), (1, 100)] {
            let make = || {
                let disk = malloc(200);
                let bdev = Arc::new(split(Arc::clone(&disk) as _, index, 100));
                Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(first + blocks).unwrap())) }
            };
            suite(&Subject { name: "split", make: &make, keeps_data: true, frees_on_drop: true });
        }
    }

    #[test]
    fn a_part_is_where_it_is_and_ends_there() {
        let disk = malloc(300);
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 4 }]).unwrap();
        let mut whole = disk.open(ReactorId(0));
        let mut part = split(Arc::clone(&disk) as _, 2, 100).open(ReactorId(0));
        let (now, tag) = (Tick::ZERO, Key { index: 3, generation: 1 });
        let run = |channel: &mut Box<dyn Channel>, op, byte| {
            let mut data = pool.take(512).unwrap();
            data.fill(byte);
            channel.submit(Io { tag, op, data: Some(data) }, now).unwrap();
            let mut out = Vec::with_capacity(1);
            channel.poll(&mut out, 1, now);
            let done = out.remove(0);
            (done.result, done.data.unwrap()[0])
        };
        assert_eq!(run(&mut part, Op::Write { lba: 5, blocks: 1, fua: false }, 0xAB).0, Ok(()));
        assert_eq!(run(&mut whole, Op::Read { lba: 205, blocks: 1 }, 0), (Ok(()), 0xAB));
        assert_eq!(run(&mut part, Op::Read { lba: 100, blocks: 1 }, 0).0, Err(IoError::OutOfRange));
        assert_eq!(run(&mut part, Op::Read { lba: u64::MAX, blocks: 1 }, 0).0, Err(IoError::OutOfRange));
        let mut block = [0; 512];
        assert!(part.load(5, &mut block, now) && block == [0xAB; 512]);
        assert!(!part.load(100, &mut block, now) && !part.store(99, &[0; 1024], false, now));
        assert!(part.store(6, &[0xCD; 512], false, now));
        assert_eq!(run(&mut whole, Op::Read { lba: 206, blocks: 1 }, 0), (Ok(()), 0xCD));
    }

    #[test]
    fn errors_name_the_parts_block_and_refusals_bring_the_io_back() {
        let faults = Faults::new();
        let bad = Rule {
            first_lba: 103,
            last_lba: 103,
            ..Rule::everywhere(Kind::Unmap, Fault::Fail(IoError::Medium { lba: Some(103) }))
        };
        faults.add(bad, u32::MAX).unwrap();
        faults.add(Rule::everywhere(Kind::Flush, Fault::Full), 1).unwrap();
        let null = Arc::new(Null::new("Null0".to_owned(), 200, 512, [1; 16]));
        let mut part = split(Arc::new(Faulty::new(null, faults)), 1, 100).open(ReactorId(0));
        let tag = Key { index: 0, generation: 0 };
        part.submit(Io { tag, op: Op::Unmap { lba: 2, blocks: 2 }, data: None }, Tick::ZERO).unwrap();
        let mut out = Vec::with_capacity(1);
        part.poll(&mut out, 1, Tick::ZERO);
        assert_eq!(out[0].result, Err(IoError::Medium { lba: Some(3) }));
        let flush = Io { tag, op: Op::Flush, data: None };
        let Err(Refused::Full(io)) = part.submit(flush, Tick::ZERO) else { panic!("it is full") };
        assert_eq!(io.op, Op::Flush);
    }

    #[test]
    fn info_is_of_the_part() {
        let disk = malloc(250);
        let info = |index| split(Arc::clone(&disk) as _, index, 100).info();
        assert_eq!((info(0).blocks, info(1).blocks, info(2).blocks, info(3).blocks), (100, 100, 50, 0));
        // 100 blocks of 512 bytes are no whole number of 4096.
        assert_eq!(
            (info(0).physical_block_bytes, info(1).physical_block_bytes, info(2).physical_block_bytes),
            (4096, 512, 4096)
        );
        let uuids: Vec<[u8; 16]> = (0..4).map(|index| info(index).uuid).collect();
        assert_eq!(uuids, (0..4).map(|index| info(index).uuid).collect::<Vec<_>>());
        assert!(
            uuids.iter().all(|uuid| uuid[6] >> 4 == 8 && uuid[8] >> 6 == 2 && *uuid != [7; 16]),
            "{uuids:02x?}"
        );
        assert!((1..4).all(|index| !uuids[..index].contains(&uuids[index])), "{uuids:02x?}");
        assert_eq!(uuid([0; 16], 3), [0; 16]);
        assert!(Split::new("x".to_owned(), malloc(100), 1, u64::MAX).is_none());
    }
}
