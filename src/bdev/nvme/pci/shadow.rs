//! Doorbells: in the controller's registers, or beside them in memory (Base §5.8, Doorbell Buffer Config).
//!
//! A controller that is emulated pays dearly for each register write. It may look at a copy of the doorbells in memory and
//! say, in an event index beside it, from which value on it wants to be rung after all.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::dma::Dma;
use super::ring::PAGE_BYTES;
use crate::bdev::nvme::bus::Bus;

/// Doorbells and event indices, a page each.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) dma: Dma,
}

impl Shadow {
    pub(super) fn allocate(bus: &Arc<dyn Bus>) -> Result<Shadow, String> {
        Ok(Shadow { dma: Dma::allocate(bus, 2 * PAGE_BYTES)? })
    }

    /// Where the controller finds both pages.
    pub(super) fn device(&self) -> (u64, u64) {
        (self.dma.device(0), self.dma.device(PAGE_BYTES))
    }

    /// Forgets what a queue that had this doorbell has told. Before the controller makes another: it looks at once.
    pub(super) fn forget(&self, offset: usize) {
        if offset + 4 <= PAGE_BYTES {
            self.dma.publish(offset, 0);
            self.dma.publish(PAGE_BYTES + offset, 0);
        }
    }
}

/// One doorbell.
#[derive(Debug)]
pub(super) struct Doorbell {
    register: usize,
    /// The pages, and where in each of them its word is.
    shadow: Option<(Arc<Shadow>, usize)>,
}

impl Doorbell {
    /// In a register.
    pub(super) fn new(register: usize) -> Doorbell {
        Doorbell { register, shadow: None }
    }

    /// In memory too, `offset` from the first doorbell, where a page reaches so far.
    pub(super) fn with_shadow(register: usize, shadow: &Arc<Shadow>, offset: usize) -> Doorbell {
        if offset + 4 > PAGE_BYTES {
            return Doorbell::new(register);
        }
        Doorbell { register, shadow: Some((Arc::clone(shadow), offset)) }
    }

    /// Tells the new value; `old` is what was told last. Everything stored before is seen first.
    pub(super) fn ring(&self, bus: &dyn Bus, old: u16, new: u16) {
        let Some((shadow, offset)) = &self.shadow else {
            bus.write32(self.register, u32::from(new));
            return;
        };
        shadow.dma.publish(*offset, u32::from(new));
        // The controller writes its index and then looks at the doorbell; we do it the other way round.
        fence(Ordering::SeqCst);
        let event = shadow.dma.load(PAGE_BYTES + offset);
        if is_wanted(event, old, new) {
            bus.write32(self.register, u32::from(new));
        }
    }
}

/// Whether the step from `old` to `new` passes the index, all modulo 2^16. A controller that writes nonsense is rung once too often
/// or once too seldom; the latter ends as a time-out.
fn is_wanted(event: u32, old: u16, new: u16) -> bool {
    let Ok(event) = u16::try_from(event) else { return true };
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn a_step_over_the_index_is_told() {
        assert!(is_wanted(0, 0, 1));
        assert!(is_wanted(4, 3, 6));
        assert!(!is_wanted(6, 3, 6));
        assert!(!is_wanted(2, 3, 6));
        // Round the end of a queue of 8 entries.
        assert!(is_wanted(7, 7, 0));
        assert!(is_wanted(0x1_0000, 3, 3), "no index at all");
    }
}
