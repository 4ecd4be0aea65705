//! The transmit queue of a connection: what is to be sent, and the PDUs made of it.
//!
//! Items wait in the order in which they were queued. PDUs are made of them only for the next send, in a [`Batch`]: a
//! header with its digest, a range of the item's buffer, padding and digest behind it. What the socket did not take is
//! made anew the next time (serial numbers move on only with PDUs that were begun); the one PDU that was taken in
//! part is kept.

mod pdu;
mod retained;

use std::io::IoSlice;

use arrayvec::ArrayVec;

pub use pdu::{data_in_pdus, data_sn_at, offset_of};
pub use retained::{Kept, Retained, SCSI_RESPONSE};

use crate::buf::{Buf, Lent, Pool};
use crate::iscsi::params::Params;
use crate::iscsi::sn::Sn;
use crate::iscsi::tx::pdu::{Cursor, Pdu, make};
use crate::iscsi::window::Window;
use crate::iscsi::wire::{Bhs, Residual, ScsiResponse};
use crate::limits;
use crate::scsi::sense::Sense;
use crate::slab::{Key, Slab};

/// What a PDU does with StatSN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatSn {
    /// Carries the next and uses it up.
    Consume,
    /// Carries the next and leaves it (R2T, NOP-In that asks).
    Show,
    /// Carries again the one that is in its header already (RFC 7143 §11.16).
    Again,
}

/// Something to be sent.
#[derive(Debug)]
pub enum TxItem {
    /// One PDU.
    Pdu {
        /// Its header, all but serial numbers and data segment length.
        bhs: Bhs,
        /// Its data segment.
        data: Option<Buf>,
        /// What it does with StatSN.
        stat_sn: StatSn,
        /// It answers a request that is bounded by no window, and counts against `CONTROL_REPLIES_MAX`.
        is_control: bool,
        /// The connection ends when it has been sent.
        closes: bool,
    },
    /// A SCSI Response.
    Response {
        /// What its header says.
        response: ScsiResponse,
        /// Its sense data, and whether in descriptor format.
        sense: Option<(Sense, bool)>,
        /// What its command keeps until it is sent.
        keeps: Keeps,
    },
    /// A SCSI Response with sense data of a device's own.
    Told {
        /// What its header says.
        response: ScsiResponse,
        /// Its data segment: they, behind their length; none once it has been sent and is kept.
        data: Option<Buf>,
        /// What its command keeps until it is sent.
        keeps: Keeps,
    },
    /// A piece of a READ's data: as many Data-In PDUs as it takes.
    DataIn {
        /// Initiator task tag.
        itt: u32,
        /// The data.
        data: Data,
        /// Offset of the first byte in the command's data.
        offset: u32,
        /// Bytes of one PDU's segment, at most: as negotiated when it was queued.
        segment_bytes_max: u32,
        /// DataSN of the first PDU.
        data_sn: Sn,
        /// The last piece of the command: its last PDU is final, and carries this status where there is one.
        last: Option<Option<(u8, Residual)>>,
        /// What its command keeps until it is sent.
        keeps: Keeps,
    },
}

/// Where a READ's data are.
#[derive(Debug)]
pub enum Data {
    /// In a buffer.
    Own(Buf),
    /// In the device's own memory, up to the end of the turn at most; a buffer for them is set aside. There is no digest of them.
    Lent(Lent),
}

impl Data {
    /// How many bytes they are.
    fn len(&self) -> usize {
        match self {
            Data::Own(buf) => buf.len(),
            Data::Lent(lent) => lent.len(),
        }
    }

    /// Some of them, for a digest.
    fn own(&self, from: usize, bytes: usize) -> &[u8] {
        match self {
            Data::Own(buf) => &buf[from..from + bytes],
            Data::Lent(_) => &[],
        }
    }
}

/// What bounds the answers of a command that wait to be sent. A peer that does not read could have any number of them made
/// otherwise, as each answer would open the window for another command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeps {
    /// Its place in the command window, up to the PDU that ends it.
    Place,
    /// It is immediate: a place among the answers that `CONTROL_REPLIES_MAX` bounds.
    Control,
    /// As before; and it ends in the middle of a piece that was sent before, so that its last PDU is not final.
    Part,
}

/// What a send has brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// So many commands' places in the window are free again.
    pub freed: u32,
    /// The connection is to be closed now.
    pub is_over: bool,
}

/// An item in a queue.
#[derive(Debug)]
pub struct Queued {
    item: TxItem,
    next: Option<Key>,
}

/// The PDUs of one send; a reactor has one for all its connections.
#[derive(Debug)]
pub struct Batch {
    pdus: Box<[Pdu]>,
    /// So many of them are in it.
    count: usize,
    /// Bytes of the first PDU that went out earlier.
    skip: usize,
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

    fn pdus(&self) -> &[Pdu] {
        &self.pdus[..self.count]
    }

    /// The place of one more, with what its last tenant left in it.
    fn next(&mut self) -> &mut Pdu {
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

impl Queued {
    fn is_control(&self) -> bool {
        matches!(
            self.item,
            TxItem::Pdu { is_control: true, .. }
                | TxItem::Response { keeps: Keeps::Control | Keeps::Part, .. }
                | TxItem::Told { keeps: Keeps::Control | Keeps::Part, .. }
                | TxItem::DataIn { keeps: Keeps::Control | Keeps::Part, .. }
        )
    }

    /// Whether a command has its place in the window until this has been sent.
    fn keeps_place(&self) -> bool {
        match &self.item {
            TxItem::Response { keeps, .. } | TxItem::Told { keeps, .. } => *keeps == Keeps::Place,
            TxItem::DataIn { keeps, last, .. } => *keeps == Keeps::Place && last.flatten().is_some(),
            TxItem::Pdu { .. } => false,
        }
    }

    fn is_lent(&self) -> bool {
        matches!(self.item, TxItem::DataIn { data: Data::Lent(_), .. })
    }

    /// What counts against `CONTROL_BYTES_MAX`: data of immediate commands are bounded by their number.
    fn control_bytes(&self) -> u64 {
        match &self.item {
            TxItem::Pdu { is_control: true, data, .. } => data.as_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        }
    }

    /// How long its data are.
    fn data_bytes(&self) -> usize {
        match &self.item {
            TxItem::Pdu { data, .. } | TxItem::Told { data, .. } => {
                data.as_ref().map_or(0, |data| data.len())
            }
            TxItem::DataIn { data, .. } => data.len(),
            TxItem::Response { .. } => 0,
        }
    }

    /// A part of its data, for a send.
    fn slice(&self, from: usize, bytes: usize) -> Option<IoSlice<'_>> {
        let buf = match &self.item {
            TxItem::DataIn { data: Data::Lent(lent), .. } => return Some(lent.slice(from, bytes)),
            TxItem::DataIn { data: Data::Own(buf), .. }
            | TxItem::Pdu { data: Some(buf), .. }
            | TxItem::Told { data: Some(buf), .. } => buf,
            TxItem::Pdu { data: None, .. } | TxItem::Told { data: None, .. } | TxItem::Response { .. } => {
                return None;
            }
        };
        buf.get(from..from + bytes).map(IoSlice::new)
    }

    /// What is lent to it is copied and goes back. Whether something was.
    fn keep(&mut self, pool: &Pool) -> bool {
        let TxItem::DataIn { data, .. } = &mut self.item else { return false };
        let Data::Lent(lent) = data else { return false };
        // Set aside when it was lent.
        let Some(mut buf) = pool.take_aside(lent.len()) else { return false };
        lent.copy(&mut buf);
        *data = Data::Own(buf);
        true
    }
}

/// A connection's queue; its items live in the reactor's slab.
#[derive(Debug)]
pub struct TxQueue {
    first: Option<Key>,
    last: Option<Key>,
    count: u32,
    control_count: u32,
    control_bytes: u64,
    unsent_bytes: u64,
    /// Items with memory that is lent to them.
    lent_count: u32,
    cursor: Cursor,
    /// The PDU taken in part, and how much of it.
    begun: Option<(Box<Pdu>, usize)>,
    /// Where `begun` is kept, so that no send allocates.
    spare: Option<Box<Pdu>>,
    /// What was sent and is not acknowledged, where it is kept.
    retained: Option<Box<Retained>>,
}

impl TxQueue {
    /// An empty queue whose next StatSN is `stat_sn`.
    pub fn new(stat_sn: Sn) -> TxQueue {
        let cursor = Cursor { stat_sn, at: 0, pdus: 0 };
        let spare = Some(Box::new(Pdu::new()));
        TxQueue {
            first: None,
            last: None,
            count: 0,
            control_count: 0,
            control_bytes: 0,
            unsent_bytes: 0,
            lent_count: 0,
            cursor,
            begun: None,
            spare,
            retained: None,
        }
    }

    /// From now on what is sent under a StatSN is kept until it is acknowledged. Allocates.
    pub fn retain(&mut self) {
        self.retained = Some(Box::new(Retained::new()));
    }

    /// What is kept.
    pub fn retained(&self) -> Option<&Retained> {
        self.retained.as_deref()
    }

    /// The response to a command once more, with this SNACK Tag; none where it was not sent, or no buffer is free for it.
    pub fn tagged(&mut self, itt: u32, snack_tag: u32, exp_data_sn: Sn, pool: &Pool) -> Option<TxItem> {
        let retained = self.retained.as_deref_mut()?;
        let stat_sn = retained.tag(itt, snack_tag, exp_data_sn)?;
        retained.again(stat_sn, pool)
    }

    /// The connection is gone: gives back the buffers of what is kept.
    pub fn drop_retained_data(&mut self) {
        if let Some(retained) = &mut self.retained {
            self.control_bytes -= retained.drop_data();
        }
    }

    /// The oldest PDU that was sent and that `exp_stat_sn` acknowledges, or that is one too many, taken out.
    pub fn next_over(&mut self, exp_stat_sn: Option<Sn>) -> Option<Kept> {
        let kept = self.retained.as_deref_mut()?.next_over(exp_stat_sn)?;
        self.control_bytes -= kept.data_bytes();
        Some(kept)
    }

    /// Items queued.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Items that count against `CONTROL_REPLIES_MAX`.
    pub fn control_count(&self) -> u32 {
        self.control_count
    }

    /// Bytes that they hold, up to the last one sent.
    pub fn control_bytes(&self) -> u64 {
        self.control_bytes
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.begun.is_none()
    }

    /// Payload bytes queued and not yet put into begun PDUs.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent_bytes
    }

    /// StatSN of the next response.
    pub fn stat_sn(&self) -> Sn {
        self.cursor.stat_sn
    }

    /// Appends an item, or gives it back where the slab is full.
    #[inline(always)]
    pub fn push(&mut self, items: &mut Slab<Queued>, item: TxItem) -> Result<(), Box<TxItem>> {
        let queued = Queued { item, next: None };
        let bytes = queued.data_bytes() as u64;
        let (is_control, control_bytes) = (queued.is_control(), queued.control_bytes());
        let is_lent = queued.is_lent();
        let key = items.insert(queued).map_err(|queued| Box::new(queued.item))?;
        match self.last.and_then(|last| items.get_mut(last)) {
            Some(last) => last.next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.count += 1;
        self.control_count += u32::from(is_control);
        self.control_bytes += control_bytes;
        self.unsent_bytes += bytes;
        self.lent_count += u32::from(is_lent);
        Ok(())
    }

    /// Copies what is lent to items that were not sent, so that it can go back, into buffers set aside in `pool`.
    pub fn keep_lent(&mut self, items: &mut Slab<Queued>, pool: &Pool) {
        let mut at = self.first;
        while self.lent_count > 0
            && let Some(item) = at.and_then(|key| items.get_mut(key))
        {
            self.lent_count -= u32::from(item.keep(pool));
            at = item.next;
        }
        debug_assert!(self.lent_count == 0, "for each range that is lent a buffer is set aside");
    }

    /// Drops everything. So many commands' places in the window were kept by it.
    pub fn clear(&mut self, items: &mut Slab<Queued>) -> u32 {
        let mut places = 0;
        while let Some(first) = self.first.and_then(|first| items.get(first)) {
            places += u32::from(first.keeps_place());
            self.pop(items);
        }
        // Its place was given back when the socket took the first byte of it.
        if self.begun.take().is_some_and(|(pdu, _)| pdu.frees) {
            places -= 1;
        }
        self.unsent_bytes = 0;
        places
    }

    fn pop(&mut self, items: &mut Slab<Queued>) -> bool {
        let Some((first, queued)) = self.first.and_then(|first| Some((first, items.get(first)?))) else {
            return false;
        };
        self.first = queued.next;
        if self.first.is_none() {
            self.last = None;
        }
        self.count -= 1;
        if queued.is_control() {
            self.control_count -= 1;
            self.control_bytes -= queued.control_bytes();
        }
        self.lent_count -= u32::from(queued.is_lent());
        items.discard(first);
        true
    }

    /// Makes the PDUs of the next send.
    pub fn fill(&self, batch: &mut Batch, items: &Slab<Queued>, params: &Params, window: &Window) {
        batch.count = 0;
        batch.skip = 0;
        let mut cursor = self.cursor;
        let mut at = self.first;
        let mut bytes = 0;
        let mut freed = 0;
        if let Some((pdu, sent)) = &self.begun {
            batch.skip = *sent;
            bytes = pdu.bytes() - sent;
            *batch.next() = **pdu;
            if pdu.ends_item {
                at = at.and_then(|key| items.get(key)?.next);
            }
        }
        while let Some(key) = at
            && batch.count < limits::BATCH_PDUS
            && bytes < limits::BATCH_BYTES
        {
            let Some(queued) = items.get(key) else { break };
            // In place: what is copied around for each PDU shows.
            let pdu = batch.next();
            pdu.begin(cursor);
            make(pdu, key, &queued.item, params, window, freed);
            cursor = pdu.after;
            freed += u32::from(pdu.frees);
            bytes += pdu.bytes();
            if pdu.ends_item {
                at = queued.next;
            }
        }
    }

    /// The socket took `sent` bytes of the batch.
    pub fn sent(&mut self, mut sent: usize, batch: &Batch, items: &mut Slab<Queued>) -> Sent {
        let mut outcome = Sent { freed: 0, is_over: false };
        sent += batch.skip;
        let mut begun_before = self.begun.take().map(|(pdu, _)| pdu);
        for pdu in batch.pdus() {
            let was_begun = begun_before.is_some();
            if sent == 0 && !was_begun {
                break;
            }
            if !was_begun {
                self.cursor = pdu.after;
                outcome.freed += u32::from(pdu.frees);
                self.unsent_bytes -= pdu.data.map_or(0, |(_, _, bytes)| u64::from(bytes));
            }
            if sent < pdu.bytes() {
                // Invariant: exactly one of `begun_before`, `spare` holds the box.
                let place = begun_before.take().or_else(|| self.spare.take());
                self.begun = place.map(|mut place| {
                    *place = *pdu;
                    (place, sent)
                });
                break;
            }
            if let Some(place) = begun_before.take() {
                self.spare = Some(place);
            }
            sent -= pdu.bytes();
            if pdu.ends_item {
                if let Some(retained) = &mut self.retained
                    && let Some(item) = self.first.and_then(|first| items.get_mut(first))
                {
                    // What is kept counts until it is let go: else its peer decided how much that is.
                    self.control_bytes += retained.keep(&mut item.item, pdu.after.stat_sn.previous());
                }
                self.pop(items);
            }
            if pdu.closes {
                outcome.is_over = true;
                break;
            }
        }
        outcome
    }
}
