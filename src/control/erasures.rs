//! SANITIZE as devices do it by themselves ([`Bdev::erase`]): that takes long, so it is asked of them on threads of their own, one for a
//! unit, and so many in all. What comes beyond waits its turn, and is as busy meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Control;
use crate::bdev::{Bdev, Erasure};
use crate::id::UnitId;
use crate::limits::ERASURES_MAX;
use crate::net::Net;
use crate::scsi::chore::{Chore, End};

/// What devices are to be asked.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    /// Invariant: at most one for each unit that there is or was when it began.
    due: VecDeque<Erase>,
    /// So many threads ask devices at this moment.
    busy: usize,
}

/// A device that is to erase all that it holds, by [`Erase::run`] on a thread.
#[derive(Debug)]
pub(super) struct Erase {
    unit: UnitId,
    chore: Arc<Chore>,
    how: Erasure,
    bdev: Arc<dyn Bdev>,
}

/// What came of it, for [`Control::erased`].
#[derive(Debug)]
pub(super) struct Erased {
    unit: UnitId,
    chore: Arc<Chore>,
    result: Result<(), String>,
}

impl Erase {
    /// Has the device do it. It may block for hours.
    pub(super) fn run(self) -> Erased {
        let Erase { unit, chore, how, bdev } = self;
        let result = bdev.erase(how).map_err(|error| error.to_string());
        // It may be the last that has it.
        drop(bdev);
        Erased { unit, chore, result }
    }

    /// Without asking: why.
    pub(super) fn not_run(&self, why: String) -> Erased {
        Erased { unit: self.unit, chore: Arc::clone(&self.chore), result: Err(why) }
    }
}

impl<N: Net> Control<N> {
    /// The device of a unit is to do this chore by itself. Nothing is in it.
    pub(super) fn erase(&mut self, unit: UnitId, chore: Arc<Chore>, how: Erasure) {
        // A unit that has gone has no chore.
        let Some(entry) = self.catalog.registry.entry_of(unit) else { return };
        let bdev = Arc::clone(&entry.spec.bdev);
        self.erasures.due.push_back(Erase { unit, chore, how, bdev });
        if !self.has_threads {
            while let Some(erase) = self.erase_due() {
                self.erased(erase.run());
            }
        }
    }

    /// The next device that is to be asked. One whose unit has gone since is not.
    pub(super) fn erase_due(&mut self) -> Option<Erase> {
        while self.erasures.busy < ERASURES_MAX {
            let erase = self.erasures.due.pop_front()?;
            if self.is_chore_of(erase.unit, &erase.chore) {
                self.erasures.busy += 1;
                return Some(erase);
            }
        }
        None
    }

    /// A device was asked.
    pub(super) fn erased(&mut self, erased: Erased) {
        let Erased { unit, chore, result } = erased;
        self.erasures.busy = self.erasures.busy.saturating_sub(1);
        if !self.is_chore_of(unit, &chore) {
            return;
        }
        if let Err(why) = &result {
            let bdev = self.catalog.registry.entry_of(unit).map(|entry| entry.name.as_str());
            self.log.not_erased(bdev, why, self.now);
        }
        self.chore_done(unit, if result.is_ok() { End::Done } else { End::Failed });
    }
}
