//! The home of a logical unit's holds: their order, and who has to be told what.
//!
//! Nothing is queued here. What a reactor has still to be told is a bit in the hold's record, so that a peer whose queue
//! is full costs nothing but another try: the records, at most [`limits::HOLDS_MAX`] for each owner, are the only bound.

use crate::id::ReactorId;
use crate::limits;
use crate::reactor::message::{HoldId, HoldRange, PeerMessage, Purpose};

/// A set of reactors.
pub(super) type Set = u128;
const _: () = assert!(limits::REACTORS_MAX <= Set::BITS as usize);

/// The set of this reactor alone.
pub(super) fn only(reactor: ReactorId) -> Set {
    1u128.checked_shl(u32::from(reactor.0)).unwrap_or(0)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// An earlier one overlaps it.
    Waiting,
    /// The reactors are told, and say when no device of theirs has an IO in the range.
    Applying,
    /// The owner may go on.
    Granted,
    /// Everyone who knows of it is told of its end, the owner last: it then uses the same slot for another.
    Dropping,
}

#[derive(Clone, Copy, Debug)]
struct HomeHold {
    id: HoldId,
    range: HoldRange,
    purpose: Purpose,
    /// Nobody has said that its token is broken.
    is_whole: bool,
    phase: Phase,
    /// Who has to be told of the phase.
    untold: Set,
    /// Who knows of the hold.
    told: Set,
    /// Who has applied it.
    applied: Set,
}

impl HomeHold {
    fn drop_everywhere(&mut self, gone: Set) {
        if self.phase != Phase::Dropping {
            self.phase = Phase::Dropping;
            self.untold = (self.told | only(self.id.owner)) & !gone;
        }
    }
}

/// The holds whose units this reactor is home to, oldest first.
#[derive(Debug)]
pub(super) struct Home {
    holds: Vec<HomeHold>,
    everyone: Set,
    /// Reactors that have stopped.
    gone: Set,
    /// One of them has left an IO in a device: what it may still touch is not known.
    is_tainted: bool,
    /// Something has changed that may move a hold on.
    is_dirty: bool,
}

impl Home {
    pub(super) fn new(reactors: usize) -> Home {
        Home {
            holds: Vec::with_capacity(reactors * limits::HOLDS_MAX as usize),
            everyone: Set::MAX >> (Set::BITS as usize - reactors),
            gone: 0,
            is_tainted: false,
            is_dirty: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.holds.len()
    }

    /// Whether somebody has still to be told something.
    pub(super) fn is_owing(&self) -> bool {
        !self.holds.is_empty() && self.is_dirty || self.holds.iter().any(|hold| hold.untold != 0)
    }

    /// Whether a reactor has stopped.
    pub(super) fn has_left(&self, reactor: ReactorId) -> bool {
        self.gone & only(reactor) != 0
    }

    pub(super) fn ask(&mut self, id: HoldId, range: HoldRange, purpose: Purpose) {
        if self.has_left(id.owner) {
            return;
        }
        let phase = Phase::Waiting;
        let mut hold = HomeHold { id, range, purpose, is_whole: true, phase, untold: 0, told: 0, applied: 0 };
        if self.is_tainted {
            hold.drop_everywhere(self.gone);
        }
        self.holds.push(hold);
        self.is_dirty = true;
    }

    pub(super) fn applied(&mut self, id: HoldId, reactor: ReactorId, is_clean: bool, is_whole: bool) {
        let Some(hold) = self.holds.iter_mut().find(|hold| hold.id == id) else { return };
        hold.applied |= only(reactor);
        hold.is_whole &= is_whole;
        if !is_clean {
            hold.drop_everywhere(self.gone);
        }
        self.is_dirty = true;
    }

    pub(super) fn release(&mut self, id: HoldId) {
        if let Some(hold) = self.holds.iter_mut().find(|hold| hold.id == id) {
            hold.drop_everywhere(self.gone);
            self.is_dirty = true;
        }
    }

    /// A reactor has stopped: it has no connections, and nothing in a device unless it `is_clean`.
    pub(super) fn left(&mut self, reactor: ReactorId, is_clean: bool) {
        self.gone |= only(reactor);
        self.is_tainted |= !is_clean;
        for hold in &mut self.holds {
            if hold.id.owner == reactor || !is_clean && hold.phase != Phase::Granted {
                hold.drop_everywhere(self.gone);
            }
            hold.untold &= !self.gone;
            hold.told &= !self.gone;
        }
        self.is_dirty = true;
    }

    /// Whom to tell what next, as if it had been told already; not those whose queues are `full`.
    pub(super) fn next_to_say(&mut self, full: Set) -> Option<(ReactorId, PeerMessage)> {
        if std::mem::take(&mut self.is_dirty) {
            self.advance();
        }
        for hold in &mut self.holds {
            let owner = only(hold.id.owner);
            let is_owner_last = hold.phase == Phase::Dropping && hold.untold != owner;
            let whom = if is_owner_last { hold.untold & !owner } else { hold.untold } & !full;
            let Ok(index) = u16::try_from(whom.trailing_zeros()) else { continue };
            if whom == 0 {
                continue;
            }
            let to = ReactorId(index);
            hold.untold &= !only(to);
            self.is_dirty |= hold.untold == 0;
            let (id, range, purpose, is_whole) = (hold.id, hold.range, hold.purpose, hold.is_whole);
            let message = match hold.phase {
                Phase::Waiting | Phase::Applying => {
                    hold.told |= only(to);
                    PeerMessage::HoldApply { hold: id, range, purpose }
                }
                Phase::Granted => PeerMessage::HoldGranted { hold: id, is_whole },
                Phase::Dropping => PeerMessage::HoldDrop { hold: id },
            };
            return Some((to, message));
        }
        None
    }

    /// What [`Home::next_to_say`] gave last could not be said.
    pub(super) fn unsay(&mut self, to: ReactorId, message: PeerMessage) {
        let (PeerMessage::HoldApply { hold: id, .. }
        | PeerMessage::HoldGranted { hold: id, .. }
        | PeerMessage::HoldDrop { hold: id }) = message
        else {
            return;
        };
        if let Some(hold) = self.holds.iter_mut().find(|hold| hold.id == id) {
            hold.untold |= only(to);
            if hold.phase == Phase::Applying {
                hold.told &= !only(to);
            }
        }
    }

    fn advance(&mut self) {
        self.holds.retain(|hold| hold.phase != Phase::Dropping || hold.untold != 0);
        for index in 0..self.holds.len() {
            let (earlier, rest) = self.holds.split_at_mut(index);
            let Some(hold) = rest.first_mut() else { return };
            match hold.phase {
                Phase::Waiting if !earlier.iter().any(|earlier| earlier.range.overlaps(&hold.range)) => {
                    hold.phase = Phase::Applying;
                    hold.untold = self.everyone & !self.gone;
                }
                Phase::Applying if hold.untold == 0 && hold.told & !hold.applied == 0 => {
                    hold.phase = Phase::Granted;
                    hold.untold = only(hold.id.owner);
                }
                _ => {}
            }
        }
    }
}
