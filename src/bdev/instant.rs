//! The channel of devices that perform an IO as it is submitted: what they do is theirs, the queue of what is done is
//! here.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use super::queue::DoneQueue;
use super::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::buf::{Lender, Lent, Medium};
use crate::slab::Key;
use crate::time::Tick;

/// What such a device does with an IO.
pub(super) trait Perform: Debug {
    /// Does it. Reads and writes come with memory, at least as long as their extent.
    fn perform(&self, op: Op, data: Option<&mut [u8]>) -> Result<(), IoError>;
    /// Fills the whole of `data` with blocks, if it can.
    fn load(&self, lba: u64, data: &mut [u8]) -> bool;
    /// Stores the blocks that are the whole of `data`, if it can.
    fn store(&self, lba: u64, data: &[u8]) -> bool;
    /// What it is made of, where that can be lent.
    fn medium(&self) -> Option<&Arc<Medium>> {
        None
    }
    /// Where in its medium an extent is that can be lent now.
    fn lendable(&self, _lba: u64, _blocks: u32) -> Option<Range<usize>> {
        None
    }
    /// One more channel, or one less, is open.
    fn opened(&self, _more: bool) {}
}

/// How many blocks so many bytes are.
pub(super) fn blocks_of(bytes: usize, block_bytes: u32) -> u32 {
    u32::try_from(bytes / block_bytes as usize).unwrap_or(u32::MAX)
}

/// A channel whose IOs are done when submitted; the next poll brings their [`Done`]s, in order.
#[derive(Debug)]
pub(super) struct InstantChannel<D: Perform> {
    device: Arc<D>,
    lender: Option<Lender>,
    done: DoneQueue,
}

impl<D: Perform> InstantChannel<D> {
    pub(super) fn new(device: Arc<D>) -> InstantChannel<D> {
        device.opened(true);
        let lender = device.medium().cloned().map(Lender::new);
        InstantChannel { device, lender, done: DoneQueue::new() }
    }
}

impl<D: Perform> Drop for InstantChannel<D> {
    fn drop(&mut self) {
        self.device.opened(false);
    }
}

impl<D: Perform> Channel for InstantChannel<D> {
    fn state(&self) -> ChannelState {
        ChannelState::Ready
    }

    /// # Panics
    /// Where a read or write has no memory, or less than its extent.
    fn submit(&mut self, mut io: Io, _now: Tick) -> Result<(), Refused> {
        if self.done.is_full() {
            return Err(Refused::Full(io));
        }
        let result = self.device.perform(io.op, io.data.as_deref_mut());
        self.done.push(Done { tag: io.tag, data: io.data, result });
        Ok(())
    }

    fn does_at_once(&self) -> bool {
        true
    }

    fn lend(&mut self, lba: u64, blocks: u32, _now: Tick) -> Option<Lent> {
        let lender = self.lender.as_ref()?;
        let extent = self.device.lendable(lba, blocks)?;
        Some(lender.lend(extent.start, extent.len()))
    }

    fn load(&mut self, lba: u64, data: &mut [u8], _now: Tick) -> bool {
        self.device.load(lba, data)
    }

    fn store(&mut self, lba: u64, data: &[u8], _fua: bool, _now: Tick) -> bool {
        self.device.store(lba, data)
    }

    fn kick(&mut self) {}

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, _now: Tick) {
        self.done.poll(out, max);
    }

    /// It was done when it was submitted.
    fn cancel(&mut self, _tag: Key) {}

    fn fence(&mut self) -> Fence {
        Fence::Fenced
    }

    fn wake(&self) -> Wake {
        if self.done.is_empty() { Wake::Idle } else { Wake::MustPoll }
    }

    fn in_flight(&self) -> u32 {
        self.done.len()
    }
}
