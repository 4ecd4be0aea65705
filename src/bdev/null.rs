//! A disk that holds nothing: writes are dropped, reads give zeroes.
//!
//! A read does fill its buffer. Left alone, that would hold what another initiator sent or read before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::instant::{InstantChannel, Perform, blocks_of};
use super::queue::extent_bytes;
use super::{Bdev, Channel, Info, IoError, Offloads, Op, Unmap};
use crate::id::ReactorId;

/// A null device.
#[derive(Debug)]
pub struct Null {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// But for its size.
    info: Info,
    blocks: AtomicU64,
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
            unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false }),
            // Nothing of a write is ever there.
            offloads: Offloads { atomic_write_blocks: u32::MAX, erase: true, ..Offloads::default() },
            protection: None,
            passes: None,
        };
        Null { shared: Arc::new(Shared { info, blocks: AtomicU64::new(blocks) }) }
    }

    /// Makes it larger or smaller; IOs submitted from now on meet the new size.
    pub fn resize(&self, blocks: u64) {
        self.shared.blocks.store(blocks, Ordering::Relaxed);
    }
}

impl Bdev for Null {
    fn info(&self) -> Info {
        Info { blocks: self.shared.blocks.load(Ordering::Relaxed), ..self.shared.info.clone() }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(InstantChannel::new(Arc::clone(&self.shared)))
    }
}

impl Perform for Shared {
    fn perform(&self, op: Op, data: Option<&mut [u8]>) -> Result<(), IoError> {
        let Some((lba, blocks)) = op.extent() else {
            return if op == Op::Flush { Ok(()) } else { Err(IoError::Unsupported) };
        };
        let size = self.blocks.load(Ordering::Relaxed);
        let bytes = extent_bytes(lba, blocks, self.info.block_bytes, size)?.len();
        match op {
            Op::Read { .. } => data.expect("a read comes with memory")[..bytes].fill(0),
            _ if !self.info.offloads.has(op) => return Err(IoError::Unsupported),
            _ => {}
        }
        Ok(())
    }

    fn load(&self, lba: u64, data: &mut [u8]) -> bool {
        let blocks = blocks_of(data.len(), self.info.block_bytes);
        self.perform(Op::Read { lba, blocks }, Some(data)).is_ok()
    }

    fn store(&self, lba: u64, data: &[u8]) -> bool {
        let blocks = blocks_of(data.len(), self.info.block_bytes);
        self.perform(Op::WriteZeroes { lba, blocks, fua: false, may_unmap: false }, None).is_ok()
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
        let make = || {
            let disk = Arc::new(Null::new("Null0".to_owned(), 100, 512, [7; 16]));
            let bdev = Arc::clone(&disk);
            Made { bdev, resize: Some(Box::new(move |blocks| disk.resize(blocks))) }
        };
        suite(&Subject { name: "null", make: &make, keeps_data: false, frees_on_drop: true });
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
