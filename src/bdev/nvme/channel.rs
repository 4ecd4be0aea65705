//! A reactor's channel to one namespace: a name in the reactor's lane to the controller. When the namespace has gone and come
//! again, perhaps behind another controller, the channel goes on to where it is now.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::controller::shared::Disk;
use super::lane::{Lane, Shape};
use super::seat::Seat;
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, Refused, Wake};
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// A channel.
pub(super) struct NvmeChannel {
    seat: Arc<Seat>,
    reactor: ReactorId,
    /// None where nobody sits there, as far as was seen.
    way: Option<Way>,
}

/// A place in a lane.
pub(super) struct Way {
    lane: Rc<RefCell<Lane>>,
    disk: Arc<Disk>,
    place: Key,
}

impl Way {
    /// None where the lane has no place left.
    pub(super) fn new(lane: Rc<RefCell<Lane>>, disk: Arc<Disk>, shape: Shape) -> Option<Way> {
        let place = lane.borrow_mut().join(shape, Arc::clone(&disk))?;
        Some(Way { lane, disk, place })
    }

    fn in_flight(&self) -> u32 {
        self.lane.borrow().in_flight(self.place)
    }

    /// Whether it leads nowhere and nothing is in it. The number of its namespace may belong to another medium by now.
    fn is_over(&self) -> bool {
        self.disk.is_removed() && self.in_flight() == 0
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.lane.borrow_mut().leave(self.place);
    }
}

impl NvmeChannel {
    pub(super) fn new(seat: Arc<Seat>, reactor: ReactorId) -> NvmeChannel {
        let way = seat.open(reactor);
        NvmeChannel { seat, reactor, way }
    }

    /// Lets go of what is gone: the kernel takes a device away only when nobody has it open.
    fn let_go(&mut self) {
        if self.way.as_ref().is_some_and(Way::is_over) {
            self.way = None;
        }
    }

    /// Finds who sits there now.
    #[cold]
    fn follow(&mut self) {
        if self.way.as_ref().is_none_or(Way::is_over) {
            self.way = self.seat.open(self.reactor);
        }
    }
}

impl Channel for NvmeChannel {
    fn state(&self) -> ChannelState {
        match &self.way {
            Some(way) if !way.disk.is_removed() => way.lane.borrow().state(),
            _ => ChannelState::Gone,
        }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        if self.way.as_ref().is_none_or(|way| way.disk.is_removed()) {
            self.follow();
        }
        let Some(way) = &self.way else { return Err(Refused::Gone(io)) };
        let mut lane = way.lane.borrow_mut();
        lane.look(now);
        // After the look, which may bring a pair by which there is another medium.
        if way.disk.is_removed() {
            return Err(Refused::Gone(io));
        }
        // Not every controller says it so that it is understood: Linux's reports an internal error.
        let blocks = way.disk.blocks();
        lane.submit(way.place, io, blocks)
    }

    fn kick(&mut self) {
        self.let_go();
        if let Some(way) = &self.way {
            way.lane.borrow_mut().kick();
        }
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        if let Some(way) = &self.way {
            way.lane.borrow_mut().poll(way.place, out, max, now);
            if way.disk.is_removed() {
                self.let_go();
            }
        }
    }

    fn cancel(&mut self, tag: Key) {
        if let Some(way) = &self.way {
            way.lane.borrow_mut().cancel(way.place, tag);
        }
    }

    fn fence(&mut self) -> Fence {
        if let Some(way) = &self.way {
            way.lane.borrow_mut().fence(way.place);
        }
        Fence::Fenced
    }

    fn wake(&self) -> Wake {
        self.way.as_ref().map_or(Wake::Idle, |way| way.lane.borrow().wake(way.place))
    }

    fn in_flight(&self) -> u32 {
        self.way.as_ref().map_or(0, Way::in_flight)
    }
}

impl fmt::Debug for NvmeChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.way.as_ref().map(|way| way.place);
        f.debug_struct("NvmeChannel").field("place", &place).finish_non_exhaustive()
    }
}
