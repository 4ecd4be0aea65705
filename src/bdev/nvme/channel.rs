//! A reactor's channel to one namespace: a name in the reactor's lane to the controller.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::controller::shared::Disk;
use super::lane::{Lane, Shape};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, Refused, Wake};
use crate::slab::Key;
use crate::time::Tick;

/// A channel.
pub(super) struct NvmeChannel {
    lane: Rc<RefCell<Lane>>,
    disk: Arc<Disk>,
    /// None where the lane has no place for it: then it is gone from the start.
    place: Option<Key>,
}

impl NvmeChannel {
    pub(super) fn new(lane: Rc<RefCell<Lane>>, disk: Arc<Disk>, shape: Shape) -> NvmeChannel {
        let place = lane.borrow_mut().join(shape);
        NvmeChannel { lane, disk, place }
    }
}

impl Drop for NvmeChannel {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.lane.borrow_mut().leave(place);
        }
    }
}

impl Channel for NvmeChannel {
    fn state(&self) -> ChannelState {
        match self.place {
            Some(_) if !self.disk.is_removed() => self.lane.borrow().state(),
            _ => ChannelState::Gone,
        }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        // Its number may belong to another medium by now.
        let Some(place) = self.place.filter(|_| !self.disk.is_removed()) else {
            return Err(Refused::Gone(io));
        };
        // Not every controller says it so that it is understood: Linux's reports an internal error.
        let blocks = self.disk.blocks();
        let mut lane = self.lane.borrow_mut();
        lane.look(now);
        lane.submit(place, io, blocks)
    }

    fn kick(&mut self) {
        self.lane.borrow_mut().kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        if let Some(place) = self.place {
            self.lane.borrow_mut().poll(place, out, max, now);
        }
    }

    fn cancel(&mut self, tag: Key) {
        if let Some(place) = self.place {
            self.lane.borrow_mut().cancel(place, tag);
        }
    }

    fn fence(&mut self) -> Fence {
        if let Some(place) = self.place {
            self.lane.borrow_mut().fence(place);
        }
        Fence::Fenced
    }

    fn wake(&self) -> Wake {
        self.place.map_or(Wake::Idle, |place| self.lane.borrow().wake(place))
    }

    fn in_flight(&self) -> u32 {
        self.place.map_or(0, |place| self.lane.borrow().in_flight(place))
    }
}

impl fmt::Debug for NvmeChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NvmeChannel").field("place", &self.place).finish_non_exhaustive()
    }
}
