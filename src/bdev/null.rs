//! A disk that holds nothing: writes are dropped, reads give zeroes.
//!
//! A read does fill its buffer. Left alone, that would hold what another initiator sent or read before.

use std::sync::Arc;

use super::instant::{InstantChannel, Perform};
use super::queue::extent_bytes;
use super::{Bdev, Channel, Info, IoError, Op, Unmap};
use crate::id::ReactorId;

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
            unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true }),
        };
        Null { info: Arc::new(info) }
    }
}

impl Bdev for Null {
    fn info(&self) -> Info {
        Info::clone(&self.info)
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(InstantChannel::new(Arc::clone(&self.info)))
    }
}

impl Perform for Info {
    fn perform(&self, op: Op, data: Option<&mut [u8]>) -> Result<(), IoError> {
        let Some((lba, blocks)) = op.extent() else { return Ok(()) };
        let bytes = extent_bytes(lba, blocks, self.block_bytes, self.blocks)?.len();
        if let Op::Read { .. } = op {
            data.expect("a read comes with memory")[..bytes].fill(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::Io;
    use crate::bdev::contract::{Made, Subject, suite};
    use crate::buf::{Class, Pool};
    use crate::slab::Key;
    use crate::time::Tick;

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
