//! A disk that holds nothing: writes are dropped, reads give zeroes.
//!
//! A read does fill its buffer. Left alone, that would hold what another initiator sent or read before.

use std::sync::Arc;

use super::queue::{DoneQueue, extent_bytes};
use super::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Op, Refused, Wake};
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// A null device.
#[derive(Debug)]
pub struct Null {
    info: Arc<Info>,
}

impl Null {
    /// One of `blocks` blocks of `block_bytes`.
    pub fn new(name: String, blocks: u64, block_bytes: u32, uuid: [u8; 16]) -> Null {
        let info = Info {
            name,
            blocks,
            block_bytes,
            physical_block_bytes: block_bytes,
            read_only: false,
            write_cache: false,
            rotational: false,
            uuid,
        };
        Null { info: Arc::new(info) }
    }
}

impl Bdev for Null {
    fn info(&self) -> Info {
        Info::clone(&self.info)
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(NullChannel { info: Arc::clone(&self.info), done: DoneQueue::new() })
    }
}

#[derive(Debug)]
struct NullChannel {
    info: Arc<Info>,
    done: DoneQueue,
}

impl NullChannel {
    fn perform(&self, op: Op, data: Option<&mut [u8]>) -> Result<(), IoError> {
        let extent = |lba, blocks| extent_bytes(lba, blocks, self.info.block_bytes, self.info.blocks);
        match op {
            Op::Read { lba, blocks } => {
                let bytes = extent(lba, blocks)?.len();
                data.expect("a read comes with memory")[..bytes].fill(0);
            }
            Op::Write { lba, blocks, .. } => {
                extent(lba, blocks)?;
            }
            Op::Flush => {}
        }
        Ok(())
    }
}

impl Channel for NullChannel {
    fn state(&self) -> ChannelState {
        ChannelState::Ready
    }

    /// # Panics
    /// Where a read has no memory, or less than its extent.
    fn submit(&mut self, mut io: Io, _now: Tick) -> Result<(), Refused> {
        if self.done.is_full() {
            return Err(Refused::Full(io));
        }
        let result = self.perform(io.op, io.data.as_deref_mut());
        self.done.push(Done { tag: io.tag, data: io.data, result });
        Ok(())
    }

    fn kick(&mut self) {}

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, _now: Tick) {
        self.done.poll(out, max);
    }

    fn cancel(&mut self, _tag: Key) {}

    fn fence(&mut self) -> Fence {
        Fence::Fenced
    }

    fn wake(&self) -> Wake {
        if self.done.is_empty() { Wake::Idle } else { Wake::MustPoll }
    }

    fn in_flight(&self) -> u32 {
        self.done.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::contract::{Made, Subject, suite};
    use crate::buf::{Class, Pool};

    const KEY: Key = Key { index: 0, generation: 0 };

    #[test]
    fn passes_the_contract() {
        let make = || Made { bdev: Arc::new(Null::new("Null0".to_owned(), 100, 512, [7; 16])), resize: None };
        suite(&Subject { name: "null", make: &make, keeps_data: false });
    }

    #[test]
    fn a_read_tells_nothing_of_its_buffers_past() {
        let pool = Pool::ordinary(&[Class { bytes: 4096, count: 1 }]).unwrap();
        let mut buf = pool.take(1536).unwrap();
        buf.fill(0xAA);
        let mut channel = Null::new("Null0".to_owned(), 100, 512, [7; 16]).open(ReactorId(0));
        let io = Io { tag: KEY, op: Op::Read { lba: 98, blocks: 2 }, data: Some(buf) };
        channel.submit(io, Tick::ZERO).unwrap();
        let mut out = Vec::with_capacity(1);
        channel.poll(&mut out, 1, Tick::ZERO);
        let data = out.remove(0).data.unwrap();
        assert_eq!((&data[..1024], &data[1024..]), (&[0; 1024][..], &[0xAA; 512][..]));
    }
}
