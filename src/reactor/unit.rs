//! A reactor's side of a logical unit: its channel, opened at first use, and the IOs that wait for room in it or for holds.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::bdev::{Bdev, Channel, ChannelState, Refused};
use crate::id::{ReactorId, UnitId};
use crate::reactor::tables::{InFlight, Tables};
use crate::slab::Key;
use crate::time::Tick;

/// A logical unit as one reactor serves it.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) id: UnitId,
    bdev: Arc<dyn Bdev>,
    pub(super) channel: Option<Box<dyn Channel>>,
    /// IOs that wait for room in the channel.
    pub(super) parked: ParkedList,
    /// IOs that wait for the end of a hold.
    pub(super) held: ParkedList,
    /// It is in the reactor's list of units to poll.
    pub(super) is_busy: bool,
    pub(super) needs_kick: bool,
    /// The channel's descriptor that ends a wait of this reactor.
    pub(super) watched: Option<RawFd>,
    /// It is to be let go of as soon as nothing is in the device.
    pub(super) is_leaving: bool,
}

impl Unit {
    pub(super) fn new(id: UnitId, bdev: Arc<dyn Bdev>) -> Unit {
        Unit {
            id,
            bdev,
            channel: None,
            parked: ParkedList::default(),
            held: ParkedList::default(),
            is_busy: false,
            needs_kick: false,
            watched: None,
            is_leaving: false,
        }
    }

    /// Whether it is to be let go of and can be: nothing is in the device, nothing waits for it.
    pub(super) fn may_go(&self) -> bool {
        self.is_leaving
            && self.parked.len() + self.held.len() == 0
            && self.channel.as_ref().is_none_or(|channel| channel.in_flight() == 0)
    }

    /// Closes the channel, on the thread that it was opened on; what it was opened from is left.
    pub(super) fn into_bdev(self) -> Arc<dyn Bdev> {
        self.bdev
    }

    /// Whether an IO waits for room.
    pub(super) fn needs_room(&self) -> bool {
        self.parked.len() > 0
    }

    /// Whether the channel has something that polling may end.
    pub(super) fn is_pending(&self) -> bool {
        self.needs_room()
            || self
                .channel
                .as_ref()
                .is_some_and(|channel| channel.in_flight() > 0 || channel.state() == ChannelState::Opening)
    }

    /// The channel, opened where it was not.
    pub(super) fn channel(&mut self, reactor: ReactorId) -> &mut Box<dyn Channel> {
        self.channel.get_or_insert_with(|| self.bdev.open(reactor))
    }
}

/// IOs that no device has, oldest first: a list through their records in `Tables::ios`, each of which has its IO in `parked`.
#[derive(Debug, Default)]
pub(super) struct ParkedList {
    first: Option<Key>,
    last: Option<Key>,
    len: usize,
}

impl ParkedList {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts an IO behind the others.
    pub(super) fn push(&mut self, key: Key, tables: &mut Tables) {
        match self.last.and_then(|last| tables.ios.get_mut(last)) {
            Some(last) => last.next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.len += 1;
    }

    /// Puts an IO in front.
    pub(super) fn push_front(&mut self, key: Key, tables: &mut Tables) {
        if let Some(io) = tables.ios.get_mut(key) {
            io.next = self.first;
        }
        if self.first.is_none() {
            self.last = Some(key);
        }
        self.first = Some(key);
        self.len += 1;
    }

    /// The oldest IO, taken out.
    pub(super) fn pop(&mut self, tables: &mut Tables) -> Option<Key> {
        let key = self.first?;
        let next = tables.ios.get_mut(key).and_then(|io| io.next.take());
        self.first = next;
        if next.is_none() {
            self.last = None;
        }
        self.len -= 1;
        Some(key)
    }

    /// Takes the IOs that `is_given_up` accepts out: a chain of records, oldest first.
    pub(super) fn take(
        &mut self,
        tables: &mut Tables,
        is_given_up: &impl Fn(&InFlight) -> bool,
    ) -> Option<Key> {
        let mut taken = ParkedList::default();
        for _ in 0..self.len {
            let Some(key) = self.pop(tables) else { break };
            let is_taken = tables.ios.get(key).is_some_and(is_given_up);
            if is_taken { &mut taken } else { &mut *self }.push(key, tables);
        }
        taken.first
    }
}

/// What became of handing an IO to its channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Handed {
    /// The device has it.
    Taken,
    /// There is no room now; it is in its record's `parked`.
    NoRoom,
    /// The device is gone; its memory is free again.
    Gone,
}

/// Hands the parked IO of a record to the channel.
pub(super) fn hand_over(
    unit: &mut Unit,
    reactor: ReactorId,
    key: Key,
    tables: &mut Tables,
    now: Tick,
) -> Handed {
    let Some(io) = tables.ios.get_mut(key).and_then(|record| record.parked.take()) else {
        return Handed::Gone;
    };
    unit.needs_kick = true;
    match unit.channel(reactor).submit(io, now) {
        Ok(()) => Handed::Taken,
        Err(Refused::NotReady(io) | Refused::Full(io)) => {
            if let Some(record) = tables.ios.get_mut(key) {
                record.parked = Some(io);
            }
            Handed::NoRoom
        }
        Err(Refused::Gone(_)) => Handed::Gone,
    }
}

/// The unit of this number.
pub(super) fn of(units: &mut [Option<Unit>], id: UnitId) -> Option<&mut Unit> {
    units.get_mut(id.index())?.as_mut().filter(|unit| unit.id == id)
}
