//! What goes to the controller: an order of things to send, and the bytes of those that are next.

use std::collections::VecDeque;
use std::io::IoSlice;

use arrayvec::ArrayVec;

use super::{Data, R2T_MAX, Slot, Stage, Wire};
use crate::bdev::nvme::queue::Payloads;
use crate::bdev::nvme::tcp::pdu::{self, Digests, Greeting, HEADER_BYTES_MAX, Header, Offence};

/// Slices of one send.
pub(in super::super) const SLICES_MAX: usize = 64;
/// Headers, digests and small data of one batch.
const STAGED_BYTES: usize = 16 * 1024;
/// What one PDU needs of the staged bytes at most: header, 16 bytes of data, digest.
const PDU_STAGED_BYTES: usize = HEADER_BYTES_MAX + 32;
/// Segments of one PDU at most.
const PDU_SEGMENTS: usize = 3;

static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Item {
    /// ICReq.
    Greeting,
    /// A command, with its data where they go in the capsule.
    Command { slot: u16 },
    /// What an R2T asked for, or what is left of it.
    Transfer { slot: u16, tag: u16, offset: u32, bytes: u32 },
}

/// A part of the batch.
#[derive(Clone, Copy, Debug)]
enum Segment {
    /// Of the staged bytes.
    Staged {
        from: usize,
        bytes: usize,
    },
    /// Of a command's memory.
    Source {
        cid: u16,
        from: usize,
        bytes: usize,
    },
    Zeroes {
        bytes: usize,
    },
}

impl Segment {
    fn bytes(&self) -> usize {
        match self {
            Segment::Staged { bytes, .. } | Segment::Source { bytes, .. } | Segment::Zeroes { bytes } => {
                *bytes
            }
        }
    }
}

/// Invariant: the segments from `sent_segments` on, but for the first `sent_bytes` of them, are whole PDUs and the rest of
/// one; `filled` bytes are staged.
#[derive(Debug)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    staged: Box<[u8]>,
    filled: usize,
    segments: ArrayVec<Segment, SLICES_MAX>,
    sent_segments: usize,
    sent_bytes: usize,
}

impl Outbox {
    pub(super) fn new(depth: u16) -> Outbox {
        Outbox {
            // Every command and its R2Ts, and the greeting.
            items: VecDeque::with_capacity(usize::from(depth) * (usize::from(R2T_MAX) + 1) + 1),
            staged: vec![0; STAGED_BYTES].into(),
            filled: 0,
            segments: ArrayVec::new(),
            sent_segments: 0,
            sent_bytes: 0,
        }
    }

    pub(super) fn enter(&mut self, item: Item) {
        self.items.push_back(item);
    }

    fn is_sent(&self) -> bool {
        self.sent_segments == self.segments.len()
    }

    fn has_room(&self) -> bool {
        self.segments.len() + PDU_SEGMENTS <= SLICES_MAX && self.filled + PDU_STAGED_BYTES <= STAGED_BYTES
    }

    fn reset(&mut self) {
        self.segments.clear();
        (self.filled, self.sent_segments, self.sent_bytes) = (0, 0, 0);
    }

    fn put(&mut self, bytes: &[u8]) {
        let (from, len) = (self.filled, bytes.len());
        self.staged[from..from + len].copy_from_slice(bytes);
        self.filled += len;
        let is_sent = self.is_sent();
        match self.segments.last_mut() {
            // The one under way may grow too.
            Some(Segment::Staged { bytes, .. }) if !is_sent => *bytes += len,
            _ => self.segments.push(Segment::Staged { from, bytes: len }),
        }
    }

    /// The command has ended: what is not yet put together is not sent, what is keeps its length without its memory.
    pub(super) fn withdraw(&mut self, ended: u16, ended_cid: u16) {
        if !self.items.is_empty() {
            self.items.retain(|item| !matches!(item, Item::Transfer { slot, .. } if *slot == ended));
        }
        let unsent = self.sent_segments;
        for segment in &mut self.segments[unsent..] {
            if let Segment::Source { cid, bytes, .. } = *segment
                && cid == ended_cid
            {
                *segment = Segment::Zeroes { bytes };
            }
        }
    }

    /// Nothing is sent any more but, where no PDU is half sent, H2CTermReq.
    pub(super) fn terminate(&mut self, offence: &Offence, offending: &[u8]) {
        self.items.clear();
        if self.is_sent() {
            self.reset();
            self.put(Header::term(offence, offending).as_bytes());
        } else {
            self.reset();
        }
    }

    /// Puts the data of a command together: from `from` on, `bytes` of them, and their digest.
    fn data(
        &mut self,
        slot: &Slot,
        from: usize,
        bytes: usize,
        digests: Digests,
        payloads: &dyn Payloads,
    ) -> Result<(), &'static str> {
        let mut digest = digests.data.then(pdu::digest);
        match slot.data {
            Data::None | Data::In(_) => {}
            Data::Inline(range) => {
                let data = range.bytes().get(from..from + bytes).unwrap_or_default();
                if let Some(digest) = &mut digest {
                    digest.update(data);
                }
                self.put(data);
            }
            Data::Zeroes(_) => {
                if let Some(digest) = &mut digest {
                    let mut left = bytes;
                    while left > 0 {
                        let chunk = left.min(ZEROES.len());
                        digest.update(&ZEROES[..chunk]);
                        left -= chunk;
                    }
                }
                self.segments.push(Segment::Zeroes { bytes });
            }
            Data::Out(_) => {
                let source = source(payloads, slot.cid, from, bytes).ok_or(NO_MEMORY)?;
                if let Some(digest) = &mut digest {
                    digest.update(source);
                }
                self.segments.push(Segment::Source { cid: slot.cid, from, bytes });
            }
        }
        if let Some(digest) = digest {
            self.put(&pdu::digest_bytes(&digest));
        }
        Ok(())
    }
}

const NO_MEMORY: &str = "a command's memory went away before the command ended";

fn source(payloads: &dyn Payloads, cid: u16, from: usize, bytes: usize) -> Option<&[u8]> {
    payloads.source(cid)?.get(from..from.checked_add(bytes)?)
}

impl Wire {
    /// Whether something waits to be sent.
    pub(in super::super) fn has_unsent(&self) -> bool {
        !self.outbox.is_sent() || !self.outbox.items.is_empty()
    }

    /// Puts together what is next, as much as there is room for.
    pub(in super::super) fn stage(&mut self, payloads: &dyn Payloads) {
        if self.outbox.is_sent() {
            self.outbox.reset();
        }
        while self.outbox.has_room()
            && let Some(item) = self.outbox.items.pop_front()
        {
            if let Err(why) = self.stage_item(item, payloads) {
                self.outbox.items.clear();
                self.outbox.reset();
                self.give_up(why);
                return;
            }
        }
    }

    fn stage_item(&mut self, item: Item, payloads: &dyn Payloads) -> Result<(), &'static str> {
        let outbox = &mut self.outbox;
        let Some(Greeting { digests, alignment_bytes, data_bytes_max }) = self.agreed else {
            // Nothing but the greeting is in the order before it is answered.
            outbox.put(Header::greeting(self.wanted, u32::from(R2T_MAX)).as_bytes());
            return Ok(());
        };
        match item {
            Item::Greeting => {}
            Item::Command { slot } => {
                let slot = &mut self.slots[usize::from(slot)];
                slot.stage = Stage::Sent;
                let bytes = slot.data.out_bytes().min(slot.moved);
                outbox.put(Header::command(&slot.entry, bytes, digests, alignment_bytes).as_bytes());
                if bytes > 0 {
                    outbox.data(slot, 0, bytes, digests, payloads)?;
                }
            }
            Item::Transfer { slot: index, tag, offset, bytes } => {
                let slot = &mut self.slots[usize::from(index)];
                let now = bytes.min(data_bytes_max);
                let is_last = now == bytes;
                outbox.put(
                    Header::data(slot.cid, tag, offset, now, is_last, digests, alignment_bytes).as_bytes(),
                );
                if is_last {
                    slot.transfers = slot.transfers.saturating_sub(1);
                } else {
                    let (offset, bytes) = (offset + now, bytes - now);
                    outbox.items.push_front(Item::Transfer { slot: index, tag, offset, bytes });
                }
                let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
                outbox.data(slot, size(offset), size(now), digests, payloads)?;
            }
        }
        Ok(())
    }

    /// What is to be sent now, as far as it fits; empty where there is nothing.
    pub(in super::super) fn slices<'a>(
        &'a self,
        payloads: &'a dyn Payloads,
    ) -> Result<ArrayVec<IoSlice<'a>, SLICES_MAX>, &'static str> {
        let mut slices = ArrayVec::new();
        let mut skip = self.outbox.sent_bytes;
        for segment in &self.outbox.segments[self.outbox.sent_segments..] {
            let slice = match *segment {
                Segment::Staged { from, bytes } => &self.outbox.staged[from + skip..from + bytes],
                Segment::Source { cid, from, bytes } => {
                    source(payloads, cid, from + skip, bytes - skip).ok_or(NO_MEMORY)?
                }
                Segment::Zeroes { bytes } => &ZEROES[..(bytes - skip).min(ZEROES.len())],
            };
            slices.push(IoSlice::new(slice));
            if slice.len() < segment.bytes() - skip {
                break; // more zeroes than there are here
            }
            skip = 0;
        }
        Ok(slices)
    }

    /// So many bytes of [`Wire::slices`] were sent.
    pub(in super::super) fn sent(&mut self, bytes: usize) {
        let outbox = &mut self.outbox;
        outbox.sent_bytes += bytes;
        while let Some(segment) = outbox.segments.get(outbox.sent_segments)
            && outbox.sent_bytes >= segment.bytes()
        {
            outbox.sent_bytes -= segment.bytes();
            outbox.sent_segments += 1;
        }
    }
}
