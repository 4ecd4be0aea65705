//! The transmit queue of a connection: what is to be sent, and the PDUs made of it.
//!
//! Items wait in the order in which they were queued. PDUs are made of them only for the next send, in a [`Batch`]: a
//! header with its digest, a range of the item's buffer, padding and digest behind it. What the socket did not take is
//! made anew the next time (serial numbers move on only with PDUs that were begun); the one PDU that was taken in
//! part is kept.

mod ahead;
mod batch;
mod item;
mod pdu;
mod retained;

pub use batch::{Batch, Slices};
pub use item::{Data, Keeps, Queued, StatSn, TxItem};
pub use pdu::{data_in_pdus, data_sn_at, offset_of};
pub use retained::{Kept, Retained, SCSI_RESPONSE};

use crate::buf::Pool;
use crate::iscsi::params::Params;
use crate::iscsi::recorder::Recorder;
use crate::iscsi::sn::Sn;
use crate::iscsi::tx::pdu::{Cursor, Pdu, make};
use crate::iscsi::window::Window;
use crate::limits;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// What a send has brought about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// So many commands' places in the window are free again.
    pub freed: u32,
    /// The connection is to be closed now.
    pub is_over: bool,
}

/// A connection's queue; its items live in the reactor's slab.
#[derive(Debug)]
pub struct TxQueue {
    first: Option<Key>,
    last: Option<Key>,
    /// Items that were ever queued.
    pushed: Sn,
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
            pushed: Sn(0),
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

    /// A planted bug.
    #[cfg(feature = "sim")]
    pub fn renumber_retained(&mut self) {
        if let Some(retained) = &mut self.retained {
            retained.renumber();
        }
    }

    /// A planted bug.
    #[cfg(feature = "sim")]
    pub fn misplace_retained(&mut self) {
        if let Some(retained) = &mut self.retained {
            retained.misplace();
        }
    }

    /// Data of a command from the `at`th byte on, as they were sent or are to be, as far as one buffer has them; none where they
    /// were not kept.
    pub fn data_of<'a>(&'a self, itt: u32, at: u32, items: &'a Slab<Queued>) -> Option<&'a [u8]> {
        let mut found = self.retained.as_deref()?.data_of(itt, at);
        let mut next = self.first;
        while found.is_none()
            && let Some(queued) = next.and_then(|key| items.get(key))
        {
            found = queued.item.data_of(itt, at);
            next = queued.next;
        }
        found
    }

    /// Nobody can ask for data of this command any more: its buffers go back, those in the queue when they have been sent.
    pub fn forget_data(&mut self, itt: u32, items: &mut Slab<Queued>) {
        let Some(retained) = &mut self.retained else { return };
        retained.forget_data(itt);
        let mut next = self.first;
        while let Some(queued) = next.and_then(|key| items.get_mut(key)) {
            if let TxItem::DataIn { itt: own, is_retained, .. } = &mut queued.item
                && *own == itt
            {
                *is_retained = false;
            }
            next = queued.next;
        }
    }

    /// Takes out what waits to be sent for this command, which has had no status: its data and R2Ts, as far as they were queued before this
    /// item ([`TxQueue::next_item`]); those behind may be another's of the same tag. The first item stays, as it may have been sent in part.
    pub fn forget(&mut self, itt: u32, end: Sn, items: &mut Slab<Queued>) {
        let mut at = self.first;
        while let Some(before) = at
            && let Some(key) = items.get(before).and_then(|queued| queued.next)
        {
            let is_meant =
                |queued: &&Queued| queued.number.is_before(end) && queued.item.is_before_status_of(itt);
            let Some(queued) = items.get(key).filter(is_meant) else {
                at = Some(key);
                continue;
            };
            self.unsent_bytes -= queued.data_bytes() as u64;
            let next = self.discard(key, items);
            if let Some(before) = items.get_mut(before) {
                before.next = next;
            }
            if next.is_none() {
                self.last = at;
            }
        }
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

    /// Counts items: which one the next to be queued is.
    pub fn next_item(&self) -> Sn {
        self.pushed.plus(1)
    }

    /// Whether the socket has taken all of this item ([`TxQueue::next_item`]), which was not taken out.
    pub fn has_sent(&self, item: Sn, items: &Slab<Queued>) -> bool {
        let first = self.first.and_then(|first| items.get(first));
        first.is_none_or(|first| item.is_before(first.number))
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
        let number = self.next_item();
        let queued = Queued { item, number, next: None };
        let bytes = queued.data_bytes() as u64;
        let (is_control, control_bytes) = (queued.is_control(), queued.control_bytes());
        let is_lent = queued.is_lent();
        let key = items.insert(queued).map_err(|queued| Box::new(queued.item))?;
        match self.last.and_then(|last| items.get_mut(last)) {
            Some(last) => last.next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.pushed = number;
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
            places += u32::from(first.item.keeps_place());
            self.pop(items);
        }
        // Its place was given back when the socket took the first byte of it.
        if self.begun.take().is_some_and(|(pdu, _)| pdu.frees) {
            places -= 1;
        }
        self.unsent_bytes = 0;
        places
    }

    fn pop(&mut self, items: &mut Slab<Queued>) {
        let Some(first) = self.first else { return };
        self.first = self.discard(first, items);
        if self.first.is_none() {
            self.last = None;
        }
    }

    /// Drops an item. The one behind it.
    #[inline(always)]
    fn discard(&mut self, key: Key, items: &mut Slab<Queued>) -> Option<Key> {
        let next = items.discard(key, |queued| {
            if queued.is_control() {
                self.control_count -= 1;
                self.control_bytes -= queued.control_bytes();
            }
            self.lent_count -= u32::from(queued.is_lent());
            queued.next
        });
        next.flatten()
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

    /// The socket took `sent` bytes of the batch. The PDUs that it has begun with are recorded.
    pub fn sent(
        &mut self,
        mut sent: usize,
        batch: &Batch,
        items: &mut Slab<Queued>,
        recorder: &mut Recorder,
        now: Tick,
    ) -> Sent {
        let mut outcome = Sent { freed: 0, is_over: false };
        sent += batch.skip;
        let mut begun_before = self.begun.take().map(|(pdu, _)| pdu);
        for pdu in batch.pdus() {
            let was_begun = begun_before.is_some();
            if sent == 0 && !was_begun {
                break;
            }
            if !was_begun {
                recorder.sent(pdu.header(), now);
                self.cursor = pdu.after;
                outcome.freed += u32::from(pdu.frees);
                self.unsent_bytes -= pdu.data.map_or(0, |(_, _, bytes)| u64::from(bytes));
            }
            let bytes = pdu.bytes();
            if sent < bytes {
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
            sent -= bytes;
            if pdu.ends_item {
                if let Some(retained) = &mut self.retained
                    && let Some(queued) = self.first.and_then(|first| items.get_mut(first))
                {
                    // What is kept counts until it is let go: else its peer decided how much that is. It counts once.
                    let before = queued.control_bytes();
                    self.control_bytes += retained.keep(&mut queued.item, pdu.after.stat_sn.previous());
                    self.control_bytes -= before - queued.control_bytes();
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
