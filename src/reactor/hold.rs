//! Holds: while one is granted, no reactor gives a device any other IO that overlaps its range, and before it is
//! granted every such IO has come back. COMPARE AND WRITE reads, compares and writes under one.
//!
//! A unit's home reactor (its number modulo the number of reactors) keeps its holds in the order in which they were
//! asked for, and tells every reactor of each: apply it, and later drop it ([`home`]). The owner is the reactor of
//! the session. Reactors talk to each other directly; with a single one no message is sent.
//!
//! Everything here is level-triggered: asks and messages change records, and [`Reactor::settle_holds`] does once a turn
//! what the records call for. So nothing recurses, nothing is queued, and what a full queue refuses is tried again.
//!
//! An IO that meets a hold is parked with its buffer ([`Unit::held`](crate::reactor::unit::Unit)). Therefore a command
//! takes all its buffers *before* it asks for a hold: else it may wait for those of its own victims.

mod home;
#[cfg(test)]
mod tests;
mod watch;

use crate::bdev::Op;
use crate::id::{ReactorId, UnitId};
use crate::iscsi::task::{Outcome, Tasks};
use crate::limits;
use crate::net::Net;
use crate::reactor::message::{HoldId, HoldRange, PeerMessage, Purpose, ToReactor, Watch};
use crate::reactor::planted::planted;
use crate::reactor::tables::InFlight;
use crate::reactor::turn::Reactor;
use crate::reactor::unit;
use crate::reactor::wait::{Then, What};
use crate::scsi::Status;
use crate::scsi::sense::Sense;
use crate::slab::{Key, Slab};
use crate::time::Tick;

use home::{Home, Set, only};
pub(super) use watch::Found;
use watch::Watches;

impl HoldRange {
    /// Whether a block is in both.
    pub(super) fn overlaps(&self, other: &HoldRange) -> bool {
        let end = |range: &HoldRange| range.lba.saturating_add(u64::from(range.blocks));
        self.unit == other.unit && self.lba < end(other) && other.lba < end(self)
    }

    /// Whether an IO reads or changes a block of it.
    pub(super) fn meets(&self, io: &InFlight) -> bool {
        let is_in = |(lba, blocks)| self.overlaps(&HoldRange { unit: io.unit, lba, blocks });
        io.op.extent().is_some_and(is_in) || io.op.source().is_some_and(is_in)
    }
}

/// What became of asking for a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum HoldAnswer {
    /// Until the command's outcome is decided, no other IO in the range is given to a device.
    Granted {
        /// Whether the token that it is about is whole.
        is_whole: bool,
    },
    /// A device keeps an IO in the range, or too many wait.
    Refused,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The home is still to be asked.
    New,
    Asked,
    Granted,
    /// Nobody wants it any more. Its end is told to the home as soon as no device has an IO under it.
    Over,
    /// The home knows. The slot is free when it says that everybody does.
    Released,
}

/// A hold that a command of this reactor asked for.
#[derive(Clone, Copy, Debug)]
struct Own {
    conn: Key,
    task: Key,
    range: HoldRange,
    purpose: Purpose,
    phase: Phase,
    /// Not granted by then it is refused; granted and not released, its command is ended.
    until: Tick,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ack {
    /// A device has IOs in the range.
    Draining,
    /// The home is still to be told that they have come back, or that they have not.
    Owed {
        is_clean: bool,
    },
    Given,
}

/// A hold that this reactor honours.
#[derive(Clone, Copy, Debug)]
struct Local {
    id: HoldId,
    range: HoldRange,
    purpose: Purpose,
    ack: Ack,
}

/// A reactor's part in the holds.
#[derive(Debug)]
pub(super) struct Holds {
    own: Slab<Own>,
    /// Those in force here. An IO looks whether it is empty.
    local: Vec<Local>,
    pub(super) watches: Watches,
    home: Home,
    /// How many reactors there are.
    reactors: usize,
    /// Who is still to be told that this reactor has stopped, and whether cleanly.
    farewell: Set,
    has_left_cleanly: bool,
}

impl Holds {
    /// For one of so many reactors.
    pub(super) fn new(reactors: usize) -> Holds {
        let reactors = reactors.max(1);
        assert!(reactors <= limits::REACTORS_MAX, "whoever starts reactors keeps within REACTORS_MAX");
        Holds {
            own: Slab::new(limits::HOLDS_MAX),
            local: Vec::with_capacity(reactors * limits::HOLDS_MAX as usize),
            watches: Watches::new(),
            home: Home::new(reactors),
            reactors,
            farewell: 0,
            has_left_cleanly: false,
        }
    }

    /// So many waits for devices the holds of so many reactors may cause here.
    pub(super) fn waits_max(reactors: usize) -> usize {
        reactors.max(1) * limits::HOLDS_MAX as usize
    }

    /// The key of the hold that a command has, for its IOs.
    pub(super) fn granted_to(&self, task: Key) -> Option<Key> {
        if self.own.is_empty() {
            return None;
        }
        self.own.iter().find(|(_, own)| own.task == task && own.phase == Phase::Granted).map(|(key, _)| key)
    }

    /// Whether this reactor honours or has any, or watches blocks.
    pub(super) fn is_any(&self) -> bool {
        !(self.local.is_empty() && self.own.is_empty() && self.watches.is_idle())
    }

    /// Whether holds that this reactor is home to exist.
    pub(super) fn is_needed(&self) -> bool {
        self.home.len() > 0
    }

    /// Whether the other reactors know that this one has stopped.
    pub(super) fn has_said_farewell(&self) -> bool {
        self.farewell == 0
    }

    /// When time changes something next, and at once where something is to be done.
    pub(super) fn look_at(&self, tasks: &Tasks) -> Option<Tick> {
        let is_owing = self.home.is_owing()
            || self.farewell != 0
            || self.local.iter().any(|local| matches!(local.ack, Ack::Owed { .. }));
        if is_owing {
            return Some(Tick::ZERO);
        }
        let looks = self.own.iter().filter_map(|(_, own)| match own.phase {
            Phase::New => Some(Tick::ZERO),
            Phase::Asked | Phase::Granted if !is_wanted(tasks, own.task) => Some(Tick::ZERO),
            Phase::Asked | Phase::Granted => Some(own.until),
            // The end of an IO, or a message, is what they wait for.
            Phase::Over | Phase::Released => None,
        });
        looks.min()
    }

    /// Records of all kinds.
    #[cfg(feature = "sim")]
    pub(super) fn count(&self) -> usize {
        self.own.len() + self.local.len() + self.home.len()
    }

    fn home_of(&self, unit: UnitId) -> ReactorId {
        ReactorId(u16::try_from(unit.index() % self.reactors).unwrap_or(0))
    }
}

/// Whether a command still goes on.
fn is_wanted(tasks: &Tasks, task: Key) -> bool {
    tasks.get(task).is_some_and(|task| task.outcome.is_none())
}

impl<N: Net> Reactor<N> {
    /// Asks for a hold for a command, which has all the buffers it will need. [`Reactor::hold_answered`] is called
    /// once, unless the command has ended by then; refused where there is no room, already from here. The hold ends with
    /// its command: as soon as the outcome is decided and no device has an IO under it.
    pub(super) fn ask_hold(&mut self, conn: Key, task: Key, unit: UnitId, lba: u64, blocks: u32, now: Tick) {
        if planted!(self, HoldNotTaken) {
            return self.hold_answered(conn, task, HoldAnswer::Granted { is_whole: true }, now);
        }
        self.ask_hold_for((conn, task), unit, lba, blocks, Purpose::Alone, now);
    }

    /// The same, for a hold that does something else too.
    pub(super) fn ask_hold_for(
        &mut self,
        (conn, task): (Key, Key),
        unit: UnitId,
        lba: u64,
        blocks: u32,
        purpose: Purpose,
        now: Tick,
    ) {
        let range = HoldRange { unit, lba, blocks };
        let until = now.after_ns(limits::HOLD_NS);
        let own = Own { conn, task, range, purpose, phase: Phase::New, until };
        if self.holds.own.insert(own).is_err() {
            self.hold_answered(conn, task, HoldAnswer::Refused, now);
        }
    }

    /// A command goes on without its hold.
    pub(super) fn release_hold(&mut self, task: Key) {
        if let Some(key) = self.holds.granted_to(task) {
            self.set_phase(key, Phase::Over);
        }
    }

    /// Whether an IO has to wait for the end of a hold that is not its command's.
    #[inline]
    pub(super) fn is_held(&self, key: Key) -> bool {
        !self.holds.local.is_empty() && self.meets_hold(key)
    }

    fn meets_hold(&self, key: Key) -> bool {
        let Some(io) = self.tables.ios.get(key) else { return false };
        if planted!(self, HoldNotHonoured) {
            return false;
        }
        if planted!(self, HoldNotHonouredByUnmap)
            && matches!(io.op, Op::Unmap { .. } | Op::WriteZeroes { .. })
        {
            return false;
        }
        let is_own = |id: HoldId| id.owner == self.id && io.hold == Some(id.key);
        self.holds.local.iter().any(|local| local.range.meets(io) && !is_own(local.id))
    }

    /// Does what holds call for. Once a turn, after [`Reactor::settle_waits`].
    pub(super) fn settle_holds(&mut self, now: Tick) {
        self.holds.watches.expire(now);
        if !self.holds.own.is_empty() {
            for index in 0..limits::HOLDS_MAX {
                if let Some(key) = self.holds.own.key_at(index) {
                    self.settle_own(key, now);
                }
            }
        }
        for index in 0..self.holds.local.len() {
            self.acknowledge(index, now);
        }
        if self.holds.is_needed() {
            let mut full = 0;
            while let Some((to, message)) = self.holds.home.next_to_say(full) {
                if !self.say(to, message, now) {
                    self.holds.home.unsay(to, message);
                    full |= only(to);
                }
            }
        }
        if self.holds.farewell != 0 {
            self.say_farewell(now);
        }
    }

    fn settle_own(&mut self, key: Key, now: Tick) {
        let Some(own) = self.holds.own.get_mut(key) else { return };
        let Own { conn, task, range, purpose, phase, until } = *own;
        let is_wanted = is_wanted(&self.tables.tasks, task);
        let is_late = now >= until;
        let hold = HoldId { owner: self.id, key };
        let home = self.holds.home_of(range.unit);
        let is_home_gone = self.holds.home.has_left(home);
        match phase {
            Phase::New if !is_wanted => drop(self.holds.own.remove(key)),
            Phase::New | Phase::Asked if is_home_gone => {
                self.holds.own.remove(key);
                self.answer_hold(conn, task, HoldAnswer::Refused, now);
            }
            Phase::New if !is_late => {
                let is_said = self.say(home, PeerMessage::HoldAsk { hold, range, purpose }, now);
                self.set_phase(key, if is_said { Phase::Asked } else { Phase::New });
            }
            Phase::New => {
                self.holds.own.remove(key);
                self.answer_hold(conn, task, HoldAnswer::Refused, now);
            }
            Phase::Asked | Phase::Granted if !is_wanted || is_late => {
                self.set_phase(key, Phase::Over);
                if phase == Phase::Asked {
                    self.answer_hold(conn, task, HoldAnswer::Refused, now);
                } else if is_wanted {
                    // What it has read does not hold any more.
                    self.drop_parked(|io| io.task == task, now);
                    self.end(conn, task, Outcome::check(Sense::COMMAND_ABORTED), now);
                }
                self.give_back(key, now);
            }
            Phase::Over => self.give_back(key, now),
            Phase::Released if is_home_gone => drop(self.holds.own.remove(key)),
            Phase::Asked | Phase::Granted | Phase::Released => {}
        }
    }

    fn set_phase(&mut self, key: Key, phase: Phase) {
        if let Some(own) = self.holds.own.get_mut(key) {
            own.phase = phase;
        }
    }

    /// Gives a hold that is over back, unless a device has an IO under it.
    fn give_back(&mut self, key: Key, now: Tick) {
        let Some(own) = self.holds.own.get(key) else { return };
        let home = self.holds.home_of(own.range.unit);
        if self.tables.ios.iter().any(|(_, io)| io.hold == Some(key) && io.parked.is_none()) {
            return;
        }
        if self.holds.home.has_left(home) {
            self.holds.own.remove(key);
        } else if self.say(home, PeerMessage::HoldRelease { hold: HoldId { owner: self.id, key } }, now) {
            self.set_phase(key, Phase::Released);
        }
    }

    /// Answers a command that has not ended.
    fn answer_hold(&mut self, conn: Key, task: Key, answer: HoldAnswer, now: Tick) {
        if is_wanted(&self.tables.tasks, task) {
            self.hold_answered(conn, task, answer, now);
        }
    }

    /// Tells a reactor, this one included. False where its queue is full.
    fn say(&mut self, to: ReactorId, message: PeerMessage, now: Tick) -> bool {
        if to == self.id {
            self.hear(message, now);
            return true;
        }
        self.peers.get(usize::from(to.0)).is_none_or(|peer| peer.send(ToReactor::Peer(message)).is_ok())
    }

    /// A reactor says something.
    pub(super) fn hear(&mut self, message: PeerMessage, now: Tick) {
        match message {
            PeerMessage::HoldAsk { hold, range, purpose } => self.holds.home.ask(hold, range, purpose),
            PeerMessage::HoldRelease { hold } => self.holds.home.release(hold),
            PeerMessage::HoldApplied { hold, reactor, is_clean, is_whole } => {
                self.holds.home.applied(hold, reactor, is_clean, is_whole);
            }
            PeerMessage::HoldApply { hold, range, purpose } => self.apply(hold, range, purpose, now),
            PeerMessage::HoldGranted { hold, is_whole } => {
                if let Some(own) = self.holds.own.get_mut(hold.key)
                    && own.phase == Phase::Asked
                {
                    own.phase = Phase::Granted;
                    own.until = now.after_ns(limits::HOLD_NS);
                    let Own { conn, task, .. } = *own;
                    self.answer_hold(conn, task, HoldAnswer::Granted { is_whole }, now);
                }
            }
            PeerMessage::HoldDrop { hold } => self.drop_hold(hold, now),
            // The next settling sees to holds whose home it was.
            PeerMessage::Left { reactor, is_clean } => {
                self.holds.home.left(reactor, is_clean);
                self.holds.farewell &= !only(reactor);
            }
        }
    }

    /// From here on a hold is honoured.
    fn apply(&mut self, id: HoldId, range: HoldRange, purpose: Purpose, now: Tick) {
        if let Purpose::Watch(watch) = purpose {
            // Where there is no room the token is not whole.
            self.holds.watches.add(range, watch, now);
        }
        let is_pending = self.tables.ios.iter().any(|(_, io)| io.parked.is_none() && range.meets(io));
        let ack = if is_pending { Ack::Draining } else { Ack::Owed { is_clean: true } };
        self.holds.local.push(Local { id, range, purpose, ack });
        if is_pending {
            self.drain_for(What::Range(range), Then::HoldApplied(id), now);
        } else {
            self.acknowledge(self.holds.local.len() - 1, now);
        }
    }

    /// The wait for what devices had in a hold's range is over.
    pub(super) fn hold_applied(&mut self, id: HoldId, is_clean: bool) {
        if let Some(local) = self.holds.local.iter_mut().find(|local| local.id == id) {
            local.ack = Ack::Owed { is_clean };
        }
    }

    fn acknowledge(&mut self, index: usize, now: Tick) {
        let Some(&Local { id, range, purpose, ack: Ack::Owed { is_clean } }) = self.holds.local.get(index)
        else {
            return;
        };
        // Of what is looked at, or watched, nothing changes from here on until the hold is over.
        let is_whole = match purpose {
            Purpose::Alone => true,
            Purpose::Watch(Watch { token, .. }) | Purpose::Look(token) => self.holds.watches.is_whole(token),
        };
        let message = PeerMessage::HoldApplied { hold: id, reactor: self.id, is_clean, is_whole };
        if self.say(self.holds.home_of(range.unit), message, now) {
            self.holds.local[index].ack = Ack::Given;
        }
    }

    /// A hold has ended: what waited for it goes on. For its owner, this is the end of it in any case.
    fn drop_hold(&mut self, id: HoldId, now: Tick) {
        if let Some(index) = self.holds.local.iter().position(|local| local.id == id) {
            let local = self.holds.local.swap_remove(index);
            if local.ack == Ack::Draining {
                self.waits.retain(|waiting| !waiting.is_for_hold(id));
            }
            self.retry_held(local.range.unit, now);
        }
        if id.owner == self.id
            && let Some(own) = self.holds.own.remove(id.key)
            && own.phase == Phase::Asked
        {
            self.answer_hold(own.conn, own.task, HoldAnswer::Refused, now);
        }
    }

    /// Tries the IOs again that wait for holds at a unit. Those that meet another wait on, in the same order.
    pub(super) fn retry_held(&mut self, unit: UnitId, now: Tick) {
        let count = unit::of(&mut self.units, unit).map_or(0, |slot| slot.held.len());
        for _ in 0..count {
            let Some(slot) = unit::of(&mut self.units, unit) else { return };
            let Some(key) = slot.held.pop(&mut self.tables) else { return };
            self.enter(unit, key, now);
        }
    }

    /// Tells the others that this reactor has stopped, so that no hold waits for it; `is_clean` where its devices have
    /// given everything back.
    pub(super) fn leave(&mut self, is_clean: bool) {
        let others = (0..self.peers.len()).filter_map(|index| u16::try_from(index).ok()).map(ReactorId);
        self.holds.farewell = others
            .filter(|other| *other != self.id && !self.holds.home.has_left(*other))
            .fold(0, |set, other| set | only(other));
        self.holds.has_left_cleanly = is_clean;
    }

    fn say_farewell(&mut self, now: Tick) {
        let message = PeerMessage::Left { reactor: self.id, is_clean: self.holds.has_left_cleanly };
        for index in 0..self.peers.len() {
            let Ok(to) = u16::try_from(index).map(ReactorId) else { return };
            if self.holds.farewell & only(to) != 0 && self.say(to, message, now) {
                self.holds.farewell &= !only(to);
            }
        }
    }

    /// A command that asked for a hold may go on, or ends.
    fn hold_answered(&mut self, conn: Key, task: Key, answer: HoldAnswer, now: Tick) {
        let conn = self.allegiance(task, conn);
        match answer {
            HoldAnswer::Granted { is_whole: true } => self.step_finished(conn, task, now),
            HoldAnswer::Granted { is_whole: false } => self.token_broken(conn, task, now),
            HoldAnswer::Refused => self.end(conn, task, Outcome::of(Status::Busy), now),
        }
    }
}
