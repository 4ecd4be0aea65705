//! The PDUs of one send, and the slices of memory that they are.

use std::io::IoSlice;

use arrayvec::ArrayVec;

use super::item::Queued;
use super::pdu::Pdu;
use crate::limits;
use crate::slab::Slab;

/// The PDUs of one send; a reactor has one for all its connections.
#[derive(Debug)]
pub struct Batch {
    pub(super) pdus: Box<[Pdu]>,
    /// So many of them are in it.
    pub(super) count: usize,
    /// Bytes of the first PDU that went out earlier.
    pub(super) skip: usize,
}

/// The slices of one send.
pub type Slices<'a> = ArrayVec<IoSlice<'a>, { 3 * limits::BATCH_PDUS }>;

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch { pdus: vec![Pdu::new(); limits::BATCH_PDUS].into_boxed_slice(), count: 0, skip: 0 }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes still to be sent.
    pub fn bytes(&self) -> usize {
        self.pdus().iter().map(Pdu::bytes).sum::<usize>() - self.skip
    }

    pub(super) fn pdus(&self) -> &[Pdu] {
        &self.pdus[..self.count]
    }

    /// The place of one more, with what its last tenant left in it.
    pub(super) fn next(&mut self) -> &mut Pdu {
        self.count += 1;
        &mut self.pdus[self.count - 1]
    }

    /// Appends the batch as slices for a vectored send.
    pub fn slices<'a>(&'a self, items: &'a Slab<Queued>, slices: &mut Slices<'a>) {
        let mut skip = self.skip;
        for pdu in self.pdus() {
            put(slices, &mut skip, pdu.head_bytes, |at| Some(IoSlice::new(&pdu.head[at..pdu.head_bytes])));
            if let Some((key, from, bytes)) = pdu.data {
                let (from, bytes) = (from as usize, bytes as usize);
                put(slices, &mut skip, bytes, |at| items.get(key)?.slice(from + at, bytes - at));
            }
            put(slices, &mut skip, pdu.tail_bytes, |at| Some(IoSlice::new(&pdu.tail[at..pdu.tail_bytes])));
        }
    }
}

/// Appends what is left of `bytes` bytes when `skip` are skipped.
fn put<'a>(
    slices: &mut Slices<'a>,
    skip: &mut usize,
    bytes: usize,
    slice: impl FnOnce(usize) -> Option<IoSlice<'a>>,
) {
    let skipped = bytes.min(*skip);
    *skip -= skipped;
    if skipped < bytes
        && let Some(slice) = slice(skipped)
    {
        slices.push(slice);
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}
