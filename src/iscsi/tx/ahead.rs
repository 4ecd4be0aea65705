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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::negotiate::DEFAULTS;
    use crate::iscsi::recorder::Recorder;
    use crate::iscsi::tx::Batch;
    use crate::iscsi::window::Window;
    use crate::iscsi::wire::Bhs;
    use crate::time::Tick;

    #[test]
    fn what_is_queued_and_begun_counts_once() {
        let mut items = Slab::new(8);
        let mut queue = TxQueue::new(Sn(7));
        assert_eq!(queue.stat_sn_behind(&items), Sn(7));
        for stat_sn in [StatSn::Consume, StatSn::Show, StatSn::Consume, StatSn::Again] {
            let item =
                TxItem::Pdu { bhs: Bhs([0; 48]), data: None, stat_sn, is_control: true, closes: false };
            queue.push(&mut items, item).unwrap();
        }
        let mut batch = Batch::new();
        // In parts of PDUs of 48 bytes each: the first is begun, the third is, all have gone.
        for (bytes, next) in [(0, 7), (10, 8), (90, 9), (92, 9)] {
            queue.fill(&mut batch, &items, &DEFAULTS, &Window::new(Sn(1)));
            queue.sent(bytes, &batch, &mut items, &mut Recorder::new(), Tick::ZERO);
            assert_eq!((queue.stat_sn(), queue.stat_sn_behind(&items)), (Sn(next), Sn(9)), "{bytes}");
        }
        assert!(queue.is_empty());
    }
}
