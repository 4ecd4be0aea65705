//! A reactor's side of a logical unit: its channel, opened at first use, and the IOs that wait for room in it.

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
    /// IOs parked in `Tables::ios`, oldest first.
    first: Option<Key>,
    last: Option<Key>,
    /// It is in the reactor's list of units to poll.
    pub(super) is_busy: bool,
    pub(super) needs_kick: bool,
    /// It is to be let go of as soon as nothing is in the device.
    pub(super) is_leaving: bool,
}

impl Unit {
    pub(super) fn new(id: UnitId, bdev: Arc<dyn Bdev>) -> Unit {
        Unit {
            id,
            bdev,
            channel: None,
            first: None,
            last: None,
            is_busy: false,
            needs_kick: false,
            is_leaving: false,
        }
    }

    /// Whether it is to be let go of and can be: nothing is in the device, nothing waits for it.
    pub(super) fn may_go(&self) -> bool {
        self.is_leaving
            && !self.has_parked()
            && self.channel.as_ref().is_none_or(|channel| channel.in_flight() == 0)
    }

    /// Closes the channel, on the thread that it was opened on; what it was opened from is left.
    pub(super) fn into_bdev(self) -> Arc<dyn Bdev> {
        self.bdev
    }

    /// Whether an IO waits for room.
    pub(super) fn has_parked(&self) -> bool {
        self.first.is_some()
    }

    /// Whether the channel has something that polling may end.
    pub(super) fn is_pending(&self) -> bool {
        self.has_parked()
            || self
                .channel
                .as_ref()
                .is_some_and(|channel| channel.in_flight() > 0 || channel.state() == ChannelState::Opening)
    }

    /// The channel, opened where it was not.
    pub(super) fn channel(&mut self, reactor: ReactorId) -> &mut Box<dyn Channel> {
        self.channel.get_or_insert_with(|| self.bdev.open(reactor))
    }

    /// Puts an IO, whose record in `ios` has it in `parked`, behind the others.
    pub(super) fn park(&mut self, key: Key, tables: &mut Tables) {
        match self.last.and_then(|last| tables.ios.get_mut(last)) {
            Some(last) => last.next = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
    }

    /// The oldest parked IO, taken out of the queue.
    pub(super) fn unpark(&mut self, tables: &mut Tables) -> Option<Key> {
        let key = self.first?;
        let next = tables.ios.get_mut(key).and_then(|io| io.next.take());
        self.first = next;
        if next.is_none() {
            self.last = None;
        }
        Some(key)
    }

    /// Takes the parked IOs that `is_given_up` accepts out of the queue: a chain of records, oldest first.
    pub(super) fn take_parked(
        &mut self,
        tables: &mut Tables,
        is_given_up: &impl Fn(&InFlight) -> bool,
    ) -> Option<Key> {
        let mut at = self.first.take();
        self.last = None;
        let mut taken: Option<Key> = None;
        let mut taken_last: Option<Key> = None;
        while let Some(key) = at {
            let Some(io) = tables.ios.get_mut(key) else { break };
            at = io.next.take();
            if !is_given_up(io) {
                self.park(key, tables);
                continue;
            }
            match taken_last.and_then(|last| tables.ios.get_mut(last)) {
                Some(last) => last.next = Some(key),
                None => taken = Some(key),
            }
            taken_last = Some(key);
        }
        taken
    }

    /// Puts an IO back in front.
    pub(super) fn repark(&mut self, key: Key, tables: &mut Tables) {
        if let Some(io) = tables.ios.get_mut(key) {
            io.next = self.first;
        }
        if self.first.is_none() {
            self.last = Some(key);
        }
        self.first = Some(key);
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
