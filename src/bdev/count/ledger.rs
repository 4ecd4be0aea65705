//! What all reactors have counted of a device together.

use std::sync::{Arc, OnceLock};

use super::{Cell, SUMS};
use crate::id::ReactorId;
use crate::limits::REACTORS_MAX;
use crate::meter::{Spread, Stages, add_stages};

/// Every reactor's counters, for whoever wants to know the sums at any time, on any thread.
#[derive(Debug)]
pub struct Ledger {
    pub(super) cells: Box<[OnceLock<Arc<Cell>>]>,
}

/// The same, not merely alike.
impl PartialEq for Ledger {
    fn eq(&self, other: &Ledger) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Ledger {}

/// All that was ever asked of a device, whatever was forgotten since.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Reads.
    pub reads: Total,
    /// Writes, those of zeroes included.
    pub writes: Total,
    /// Unmaps.
    pub unmaps: Total,
}

/// All of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Total {
    /// How often.
    pub ios: u64,
    /// How many bytes.
    pub bytes: u64,
    /// How long it took, of all that have ended together.
    pub ns: u64,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger { cells: (0..REACTORS_MAX).map(|_| OnceLock::new()).collect() }
    }
}

impl Ledger {
    /// Where a reactor counts the time of commands at the unit made of this device, which it alone does; nowhere while it has
    /// not opened the device.
    pub fn stages(&self, reactor: ReactorId) -> Option<&Stages> {
        self.cells.get(usize::from(reactor.0))?.get().map(|cell| &cell.stages)
    }

    /// What each reactor has counted there.
    pub fn stages_by_reactor(&self) -> impl Iterator<Item = (ReactorId, [Spread; 4])> {
        let cells =
            (0u16..).zip(&self.cells).filter_map(|(index, cell)| Some((ReactorId(index), cell.get()?)));
        cells.map(|(id, cell)| (id, cell.stages.spreads()))
    }

    /// Where the time of all commands went, those included that the device did as they came, which took none; nothing where
    /// there were none.
    pub fn stages_of_all(&self) -> Option<[Spread; 4]> {
        let at_once = self.cells.iter().filter_map(OnceLock::get).map(|cell| cell.at_once()).sum();
        let mut sums = [Spread::default().with_instant(at_once); 4];
        for (_, stages) in self.stages_by_reactor() {
            add_stages(&mut sums, &stages);
        }
        sums.iter().any(|sum| sum.count() > 0).then_some(sums)
    }

    /// All of it. It allocates nothing.
    pub fn totals(&self) -> Totals {
        let mut sums = [0_u64; SUMS];
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            for (sum, count) in sums.iter_mut().zip(cell.sums()) {
                *sum = sum.wrapping_add(count);
            }
        }
        let kind =
            |kind: usize| Total { ios: sums[3 * kind], bytes: sums[3 * kind + 1], ns: sums[3 * kind + 2] };
        Totals { reads: kind(0), writes: kind(1), unmaps: kind(2) }
    }
}
