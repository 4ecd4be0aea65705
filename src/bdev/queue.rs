//! What the channels here share: a bounded queue of finished IOs, and where an extent lies.

use std::collections::VecDeque;
use std::ops::Range;

use super::{Done, IoError};

/// IOs in flight on one channel of a device that is memory, at most.
pub(super) const IN_FLIGHT_MAX: u32 = 256;

/// Finished IOs that wait to be polled, in order. Invariant: never more than [`IN_FLIGHT_MAX`], for which it has room
/// from the start.
#[derive(Debug)]
pub(super) struct DoneQueue {
    done: VecDeque<Done>,
}

impl DoneQueue {
    pub(super) fn new() -> DoneQueue {
        DoneQueue { done: VecDeque::with_capacity(IN_FLIGHT_MAX as usize) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() == IN_FLIGHT_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.done.len()).expect("at most IN_FLIGHT_MAX")
    }

    /// # Panics
    /// When full.
    pub(super) fn push(&mut self, done: Done) {
        assert!(!self.is_full(), "the queue is bounded");
        self.done.push_back(done);
    }

    /// As `Channel::poll`.
    pub(super) fn poll(&mut self, out: &mut Vec<Done>, max: usize) {
        let count = room(out, max).min(self.done.len());
        out.extend(self.done.drain(..count));
    }
}

/// How many may be appended to `out`, given `max` and its spare capacity.
pub(super) fn room(out: &Vec<Done>, max: usize) -> usize {
    max.min(out.capacity() - out.len())
}

/// The bytes of an extent, where a device of `device_blocks` has it.
pub(super) fn extent_bytes(
    lba: u64,
    blocks: u32,
    block_bytes: u32,
    device_blocks: u64,
) -> Result<Range<usize>, IoError> {
    let end = lba.checked_add(u64::from(blocks)).ok_or(IoError::OutOfRange)?;
    if end > device_blocks {
        return Err(IoError::OutOfRange);
    }
    let bytes = |at: u64| {
        let bytes = at.checked_mul(u64::from(block_bytes)).ok_or(IoError::OutOfRange)?;
        usize::try_from(bytes).map_err(|_| IoError::OutOfRange)
    };
    Ok(bytes(lba)?..bytes(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_end_at_the_devices_end() {
        assert_eq!(extent_bytes(9, 1, 512, 10), Ok(4608..5120));
        assert_eq!(extent_bytes(9, 2, 512, 10), Err(IoError::OutOfRange));
        assert_eq!(extent_bytes(u64::MAX, 1, 512, u64::MAX), Err(IoError::OutOfRange));
        assert_eq!(extent_bytes(1 << 60, 1, 4096, u64::MAX), Err(IoError::OutOfRange));
    }
}
