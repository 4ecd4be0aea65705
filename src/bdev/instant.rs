//! The channel of devices that perform an IO as it is submitted: what they do is theirs, the queue of what is done is
//! here.

use std::fmt::Debug;
use std::sync::Arc;

use super::queue::DoneQueue;
use super::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::slab::Key;
use crate::time::Tick;

/// What such a device does with an IO.
pub(super) trait Perform: Debug {
    /// Does it. Reads and writes come with memory, at least as long as their extent.
    fn perform(&self, op: Op, data: Option<&mut [u8]>) -> Result<(), IoError>;
}

/// A channel whose IOs are done when submitted; the next poll brings their [`Done`]s, in order.
#[derive(Debug)]
pub(super) struct InstantChannel<D> {
    device: Arc<D>,
    done: DoneQueue,
}

impl<D> InstantChannel<D> {
    pub(super) fn new(device: Arc<D>) -> InstantChannel<D> {
        InstantChannel { device, done: DoneQueue::new() }
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
