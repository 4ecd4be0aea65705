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

    /// The batch as slices for a vectored send, in `slices`, which are empty.
    pub fn slices<'a>(&'a self, items: &'a Slab<Queued>, slices: &mut Slices<'a>) {
        for pdu in self.pdus() {
            slices.push(IoSlice::new(&pdu.head[..pdu.head_bytes]));
            if let Some((key, from, bytes)) = pdu.data
                && let Some(slice) = items.get(key).and_then(|item| item.slice(from as usize, bytes as usize))
            {
                slices.push(slice);
            }
            if pdu.tail_bytes > 0 {
                slices.push(IoSlice::new(&pdu.tail[..pdu.tail_bytes]));
            }
        }
        // What went out earlier, of the first PDU.
        if self.skip > 0 {
            let before = slices.len();
            let mut left = &mut slices[..];
            IoSlice::advance_slices(&mut left, self.skip);
            let sent = before - left.len();
            slices.drain(..sent);
        }
    }
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}
