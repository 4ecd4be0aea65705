//! WRITE SAME of a block with its protection information (SBC-4 §5.50).

use crate::bdev::protection::TUPLE_BYTES;

/// The last bytes of a block with its tuple: the reference tag.
const REFERENCE_TAG_BYTES: usize = 4;

/// Whether a block that is sent is what an unmapped one reads as: zeroes, and a tuple that says that there is nothing to check (SBC-4
/// §4.7.3.4).
pub(super) fn is_unmapped(data: &[u8]) -> bool {
    let (block, tuple) = data.split_at(data.len().saturating_sub(TUPLE_BYTES as usize));
    block.iter().all(|byte| *byte == 0) && tuple.iter().all(|byte| *byte == 0xff)
}

/// Fills a buffer with the block that was sent. Where reference tags are counted, the first of the buffer has the one that was sent and so
/// much more, and each after it one more.
pub(super) fn fill_same(data: &[u8], first: Option<u32>, out: &mut [u8]) {
    let mut more = first;
    for block in out.chunks_exact_mut(data.len().max(1)) {
        block.copy_from_slice(data);
        if let (Some(more), Some(tag)) = (&mut more, block.last_chunk_mut::<REFERENCE_TAG_BYTES>()) {
            *tag = u32::from_be_bytes(*tag).wrapping_add(*more).to_be_bytes();
            *more = more.wrapping_add(1);
        }
    }
}
