//! What was counted of bdevs that are gone: without it the sums of reactors, which are made of their units', would become less.

use std::sync::Arc;

use crate::bdev::count::Ledger;
use crate::id::ReactorId;
use crate::meter::{Spread, add_stages};

/// Those that are gone.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// Those to whom a reactor may add yet: a view of the unit is still somewhere.
    ledgers: Vec<Arc<Ledger>>,
    /// Of all others, by reactor.
    sums: Vec<[Spread; 4]>,
}

impl Departed {
    /// One more is gone.
    pub(super) fn add(&mut self, ledger: Arc<Ledger>) {
        for ledger in std::mem::take(&mut self.ledgers) {
            // What nobody else has any more does not change.
            match Arc::try_unwrap(ledger) {
                Ok(ledger) => add(&mut self.sums, &ledger),
                Err(ledger) => self.ledgers.push(ledger),
            }
        }
        self.ledgers.push(ledger);
    }

    /// One is back.
    pub(super) fn take_back(&mut self, back: &Arc<Ledger>) {
        self.ledgers.retain(|ledger| !Arc::ptr_eq(ledger, back));
    }

    /// Of all of them, and of these that are there: where the time of commands went, by reactor.
    pub(super) fn stages_with(&self, present: impl Iterator<Item = Arc<Ledger>>) -> Vec<[Spread; 4]> {
        let mut sums = self.sums.clone();
        self.ledgers.iter().for_each(|ledger| add(&mut sums, ledger));
        present.for_each(|ledger| add(&mut sums, &ledger));
        sums
    }
}

fn add(sums: &mut Vec<[Spread; 4]>, ledger: &Ledger) {
    for (ReactorId(reactor), stages) in ledger.stages_by_reactor() {
        let index = usize::from(reactor);
        if sums.len() <= index {
            sums.resize(index + 1, [Spread::default(); 4]);
        }
        add_stages(&mut sums[index], &stages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bdev::Bdev;
    use crate::bdev::count::Counted;
    use crate::bdev::null::Null;

    #[test]
    fn sums_keep_what_those_had_that_are_gone() {
        let bdev = || Counted::new(Arc::new(Null::new("Null0".to_owned(), 100, 512, [7; 16])));
        let did = |bdev: &Counted, reactor: u16| {
            drop(bdev.open(ReactorId(reactor)));
            let ledger = bdev.ledger().unwrap();
            ledger.stages(ReactorId(reactor)).unwrap().device.add(5000);
            ledger
        };
        let mut departed = Departed::default();
        let device_ns = |departed: &Departed, present: &[&Arc<Ledger>]| -> Vec<u64> {
            let sums = departed.stages_with(present.iter().map(|ledger| Arc::clone(ledger)));
            sums.iter().map(|[_, _, device, _]| device.total_ns).collect()
        };
        let (first, second, third) = (bdev(), bdev(), bdev());
        let ledgers = [did(&first, 0), did(&second, 2), did(&third, 2)];
        assert_eq!(device_ns(&departed, &ledgers.each_ref()), [5000, 0, 10_000]);
        let [of_first, of_second, of_third] = ledgers;
        drop(first);
        departed.add(of_first);
        assert_eq!(device_ns(&departed, &[&of_second, &of_third]), [5000, 0, 10_000]);
        // A reactor has it yet, and counts.
        departed.add(Arc::clone(&of_second));
        assert_eq!(departed.ledgers.len(), 1, "the first is a sum by now");
        did(&second, 2);
        assert_eq!(device_ns(&departed, &[&of_third]), [5000, 0, 15_000]);
        // One that is back is counted once.
        departed.take_back(&of_second);
        assert_eq!(device_ns(&departed, &[&of_second, &of_third]), [5000, 0, 15_000]);
    }
}
