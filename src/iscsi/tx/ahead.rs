//! Which serial numbers what is queued will have.

use super::TxQueue;
use super::item::{Queued, StatSn, TxItem};
use crate::iscsi::sn::Sn;
use crate::slab::Slab;

/// How many StatSNs it uses up.
fn uses(item: &TxItem) -> u32 {
    match item {
        TxItem::Pdu { stat_sn, .. } => u32::from(*stat_sn == StatSn::Consume),
        TxItem::Response { .. } | TxItem::Told { .. } => 1,
        TxItem::DataIn { last, .. } => u32::from(last.flatten().is_some()),
    }
}

impl TxQueue {
    /// The StatSN that a response has which is queued now. Looks at all that is queued.
    pub fn stat_sn_behind(&self, items: &Slab<Queued>) -> Sn {
        let mut stat_sn = self.cursor.stat_sn;
        let mut at = self.first;
        if self.begun.as_ref().is_some_and(|(pdu, _)| pdu.ends_item) {
            // Its own has been counted when it was begun.
            at = at.and_then(|key| items.get(key)?.next);
        }
        while let Some(queued) = at.and_then(|key| items.get(key)) {
            stat_sn = stat_sn.plus(uses(&queued.item));
            at = queued.next;
        }
        stat_sn
    }
}
