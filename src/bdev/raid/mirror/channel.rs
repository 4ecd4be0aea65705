//! One reactor's way to a mirror.
//!
//! A read goes to the plan's reader. What changes blocks goes to every member that is written, one after the other in the same
//! buffer, to the reader last: so whatever was read once is on all members that may be read later. What has begun goes on to
//! all of them, whatever is cancelled. A member that fails ends in a report, and the IO waits until the warden has decided. Only
//! where the reader's medium is bad another one is read, what it has is written back, and the reader stays.

mod away;
mod stages;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::planted::planted;
use super::plan::{Role, Set};
use super::shared::{Seat, Shared};
use super::slot::{Mending, Slot, Stage};
use crate::bdev::queue::{DoneQueue, IN_FLIGHT_MAX};
use crate::bdev::{Bdev, Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::id::ReactorId;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// A way to a member.
#[derive(Debug, Default)]
struct Way {
    /// Of whom, by the count of its place.
    version: u64,
    /// The member is kept, so that it is not closed here.
    open: Option<(Box<dyn Channel>, Arc<dyn Bdev>)>,
    /// IOs have waited since then until it can be reached.
    away_since: Option<Tick>,
}

/// What became of handing a leg to a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Handed {
    /// It has it.
    Taken,
    /// It has no room now.
    NoRoom,
    /// It is not asked: the read begins again.
    Back,
    /// It is not asked: the others are.
    Out,
    /// It is gone.
    Gone,
}

#[derive(Debug)]
pub(super) struct MirrorChannel {
    shared: Arc<Shared>,
    reactor: ReactorId,
    seat: Arc<Seat>,
    ways: Vec<Way>,
    /// Invariant: together with `done` at most [`IN_FLIGHT_MAX`].
    slots: Slab<Slot>,
    done: DoneQueue,
    /// Empty between calls.
    news: Vec<Done>,
    /// So many IOs are in no member.
    waiting: usize,
    /// So many changes have begun and not ended.
    active: u32,
    /// When members are to be looked at that are waited for.
    watch_at: Tick,
}

impl MirrorChannel {
    pub(super) fn new(shared: Arc<Shared>, reactor: ReactorId) -> MirrorChannel {
        let mut channel = MirrorChannel {
            seat: shared.sit(),
            reactor,
            ways: shared.places.iter().map(|_| Way::default()).collect(),
            shared,
            slots: Slab::new(IN_FLIGHT_MAX),
            done: DoneQueue::new(),
            news: Vec::with_capacity(IN_FLIGHT_MAX as usize),
            waiting: 0,
            active: 0,
            watch_at: Tick::ZERO,
        };
        for member in 0..channel.ways.len() {
            channel.follow(member);
        }
        channel
    }

    /// Opens a way to who is in a member's place now, once nothing is left in the former one's. Whether there is one.
    fn follow(&mut self, member: usize) -> bool {
        let (Some(place), Some(way)) = (self.shared.places.get(member), self.ways.get_mut(member)) else {
            return false;
        };
        let version = place.version.load(Ordering::SeqCst);
        if way.version != version {
            if way.open.as_ref().is_some_and(|(channel, _)| channel.in_flight() > 0) {
                return false;
            }
            way.version = version;
            way.open = place.bdev().map(|bdev| (bdev.open(self.reactor), bdev));
        }
        way.open.is_some()
    }

    /// Whether it can be done here, and is on the array.
    fn check(&self, op: Op) -> Result<(), IoError> {
        let Some(shape) = self.shared.shape.get() else { return Err(IoError::Gone) };
        match op {
            Op::Read { lba, blocks }
            | Op::Write { lba, blocks, .. }
            | Op::Unmap { lba, blocks }
            | Op::WriteZeroes { lba, blocks, .. } => {
                let end = lba.checked_add(blocks.into()).ok_or(IoError::OutOfRange)?;
                if end > shape.blocks { Err(IoError::OutOfRange) } else { Ok(()) }
            }
            Op::Flush => Ok(()),
            // See `Mirror::info`: none of these is offered.
            _ => Err(IoError::Unsupported),
        }
    }

    /// Takes an IO as far as it goes now; whether a member was given something.
    fn advance(&mut self, key: Key, now: Tick) -> bool {
        loop {
            let Some(slot) = self.slots.get(key) else { return false };
            let is_on_its_way = match slot.stage {
                Stage::Leg(_) => return false,
                Stage::Gate => self.enter(key),
                Stage::Room(member) => match self.hand_over(key, member, now) {
                    Handed::Taken => return true,
                    Handed::NoRoom => return false,
                    Handed::Back => self.set_stage(key, Stage::Gate),
                    Handed::Out => self.next_leg(key),
                    Handed::Gone => self.failed(key, member, IoError::Gone),
                },
                Stage::Judging(_) if self.shared.is_over() => self.end(key, Err(IoError::Gone)),
                Stage::Judging(report) => {
                    if !self.shared.is_judged(report) && !planted!(AnsweredBeforeSaved) {
                        return false;
                    }
                    self.judged(key)
                }
            };
            if !is_on_its_way {
                return false;
            }
        }
    }

    /// Hands the leg to a member.
    fn hand_over(&mut self, key: Key, member: usize, now: Tick) -> Handed {
        let is_there = self.follow(member);
        let term = self.shared.term();
        let plan = self.shared.plan();
        let Some(slot) = self.slots.get_mut(key) else { return Handed::NoRoom };
        let is_settling = plan.is_settling() && !planted!(ReadWhileSettling);
        if slot.is_read() && slot.mending == Mending::No {
            // Another one has taken over while this waited.
            let is_other = plan.reader() != Some(member) && !planted!(StaleRead);
            if slot.is_cancelled || is_settling || is_other {
                return Handed::Back;
            }
        } else if let Mending::Reading(_) | Mending::Writing(_) = slot.mending {
            if slot.is_cancelled && matches!(slot.mending, Mending::Reading(_)) {
                return Handed::Back;
            }
            if plan.role(member) != Role::Current {
                return Handed::Out;
            }
        } else if plan.role(member) == Role::Out {
            return Handed::Out;
        }
        let way = self.ways.get_mut(member).filter(|_| is_there).and_then(|way| way.open.as_mut());
        let (Some((channel, _)), Some(io)) = (way, slot.io.take_if(|_| is_there)) else {
            return Handed::NoRoom;
        };
        match channel.submit(Io { tag: key, op: slot.leg(), data: io.data }, now) {
            Ok(()) => {
                slot.term = term;
                slot.stage = Stage::Leg(member);
                self.waiting -= 1;
                Handed::Taken
            }
            Err(Refused::Full(io) | Refused::NotReady(io)) => {
                slot.io = Some(io);
                Handed::NoRoom
            }
            Err(Refused::Gone(io)) => {
                slot.io = Some(io);
                Handed::Gone
            }
        }
    }

    /// A leg has ended; whether a member was given another one.
    fn leg_done(&mut self, member: usize, done: Done, now: Tick) -> bool {
        let key = done.tag;
        let (term, plan) = (self.shared.term(), self.shared.plan());
        let Some(slot) = self.slots.get_mut(key) else { return false };
        let was_reader = slot.term == term && plan.reader() == Some(member);
        slot.io = Some(Io { tag: key, op: slot.op, data: done.data });
        slot.stage = Stage::Room(member);
        self.waiting += 1;
        let is_on_its_way = match done.result {
            result if slot.is_read() => self.read_done(key, member, result, was_reader),
            Ok(()) => {
                slot.has = slot.has.with(Set::of(member));
                self.next_leg(key)
            }
            Err(_) if planted!(ErrorIgnored) => {
                slot.has = slot.has.with(Set::of(member));
                self.next_leg(key)
            }
            Err(IoError::Cancelled) if planted!(CancelledHalfway) => self.end(key, Err(IoError::Cancelled)),
            Err(error) => self.failed(key, member, error),
        };
        is_on_its_way && self.advance(key, now)
    }

    /// Ends an IO that is in no member: it is not there any more.
    fn end(&mut self, key: Key, result: Result<(), IoError>) -> bool {
        let Some(slot) = self.slots.remove(key) else { return false };
        self.waiting -= 1;
        self.leave_line(&slot);
        if slot.is_begun {
            self.active -= 1;
            self.seat.active.store(self.active, Ordering::SeqCst);
        }
        let data = slot.io.and_then(|io| io.data);
        self.done.push(Done { tag: slot.tag, data, result });
        false
    }

    /// Others may have its blocks.
    fn leave_line(&self, slot: &Slot) {
        if let Some(regions) = self.regions(slot.op).filter(|_| slot.is_in_line) {
            self.shared.regions.give(&regions, slot.held, self.seat.number);
        }
    }

    /// Says under which plan all has begun that is being done, once that is so.
    fn acknowledge(&mut self) {
        let epoch = self.shared.epoch();
        if self.seat.acked.load(Ordering::Relaxed) == epoch {
            return;
        }
        let is_older = |slot: &Slot| slot.is_begun && slot.epoch < epoch;
        if !self.slots.iter().any(|(_, slot)| is_older(slot)) {
            self.seat.acked.store(epoch, Ordering::SeqCst);
            self.shared.call();
        }
    }

    /// Goes on with what waits; whether a member was given something.
    fn retry(&mut self, now: Tick) -> bool {
        let mut any = false;
        for index in 0..self.slots.used() {
            let Some(key) = self.slots.key_at(index) else { continue };
            any |= self.advance(key, now);
        }
        any
    }
}

impl Channel for MirrorChannel {
    fn state(&self) -> ChannelState {
        if self.shared.shape.get().is_some() { ChannelState::Ready } else { ChannelState::Opening }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        if self.state() == ChannelState::Opening {
            return Err(Refused::NotReady(io));
        }
        if self.in_flight() >= IN_FLIGHT_MAX {
            return Err(Refused::Full(io));
        }
        let (tag, op) = (io.tag, io.op);
        if let Err(error) = self.check(op) {
            self.done.push(Done { tag, data: io.data, result: Err(error) });
            return Ok(());
        }
        let key = match self.slots.insert(Slot::new(tag, op, io)) {
            Ok(key) => key,
            Err(Slot { io: Some(io), .. }) => return Err(Refused::Full(io)),
            Err(_) => return Ok(()),
        };
        self.waiting += 1;
        self.advance(key, now);
        Ok(())
    }

    fn kick(&mut self) {
        for member in 0..self.ways.len() {
            // Who is in a place no more is let go of.
            self.follow(member);
            if let Some((channel, _)) = self.ways.get_mut(member).and_then(|way| way.open.as_mut()) {
                channel.kick();
            }
        }
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        let mut any = false;
        let mut news = std::mem::take(&mut self.news);
        for member in 0..self.ways.len() {
            if let Some((channel, _)) = self.ways.get_mut(member).and_then(|way| way.open.as_mut()) {
                channel.poll(&mut news, IN_FLIGHT_MAX as usize, now);
            }
            for done in news.drain(..) {
                any |= self.leg_done(member, done, now);
            }
        }
        self.news = news;
        self.watch(now);
        any |= self.waiting > 0 && self.retry(now);
        self.acknowledge();
        if any {
            self.kick();
        }
        self.done.poll(out, max);
    }

    fn cancel(&mut self, tag: Key) {
        let found = self.slots.iter().find(|(_, slot)| slot.tag == tag);
        let is_read = |slot: &Slot| slot.is_read() && !matches!(slot.mending, Mending::Writing(_));
        let Some((key, is_read, stage)) = found.map(|(key, slot)| (key, is_read(slot), slot.stage)) else {
            return;
        };
        if let Some(slot) = self.slots.get_mut(key) {
            slot.is_cancelled = true;
        }
        // A change that has begun goes on to all members.
        if let (true, Stage::Leg(member)) = (is_read || planted!(CancelledHalfway), stage)
            && let Some((channel, _)) = self.ways.get_mut(member).and_then(|way| way.open.as_mut())
        {
            channel.cancel(key);
        }
    }

    /// What has not begun is given up. What has cannot be: it would be on some members only.
    fn fence(&mut self) -> Fence {
        let mut is_any_begun = false;
        for index in 0..self.slots.used() {
            if let Some(slot) = self.slots.key_at(index).and_then(|key| self.slots.get_mut(key)) {
                slot.is_cancelled = true;
                is_any_begun |= slot.stage != Stage::Gate;
            }
        }
        if is_any_begun { Fence::Cannot } else { Fence::Fenced }
    }

    fn wake(&self) -> Wake {
        if !self.done.is_empty() || self.waiting > 0 {
            return Wake::MustPoll;
        }
        let ways = self.ways.iter().filter_map(|way| way.open.as_ref());
        Wake::first_of(ways.map(|(channel, _)| channel.wake()))
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("at most IN_FLIGHT_MAX") + self.done.len()
    }
}

impl Drop for MirrorChannel {
    fn drop(&mut self) {
        // Who has begun is in a device, and keeps its blocks.
        self.slots.iter().filter(|(_, slot)| !slot.is_begun).for_each(|(_, slot)| self.leave_line(slot));
        self.seat.is_closed.store(true, Ordering::SeqCst);
        self.shared.call();
    }
}
