//! One reactor's way to an array: a channel to each member, and the IOs that are on several.
//!
//! An IO is carried out leg by leg, one after the other, in its own buffer: what lies in one strip, as most does, is one leg. Legs
//! without data are one for each member.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::layout::{Layout, Run};
use super::planted::planted;
use crate::bdev::queue::{DoneQueue, IN_FLIGHT_MAX};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::slab::{Key, Slab};
use crate::time::Tick;

#[derive(Debug)]
pub(super) struct RaidChannel {
    members: Vec<Box<dyn Channel>>,
    /// Not set while not all members have been there: it is opening until then.
    layout: Arc<OnceLock<Layout>>,
    /// Invariant: together with `done` at most [`IN_FLIGHT_MAX`].
    slots: Slab<Slot>,
    done: DoneQueue,
    /// Empty between calls.
    news: Vec<Done>,
    /// So many legs wait for room in their members.
    waiting: usize,
}

/// An IO.
#[derive(Debug)]
struct Slot {
    tag: Key,
    op: Op,
    /// What its buffer showed when it came.
    window: Option<Range<usize>>,
    /// With data: the blocks that are done. Without: the members.
    progress: u64,
    /// Where the present leg is.
    run: Run,
    /// The leg, while it waits for room.
    waiting: Option<Io>,
    is_cancelled: bool,
}

impl RaidChannel {
    pub(super) fn new(members: Vec<Box<dyn Channel>>, layout: Arc<OnceLock<Layout>>) -> RaidChannel {
        RaidChannel {
            members,
            layout,
            slots: Slab::new(IN_FLIGHT_MAX),
            done: DoneQueue::new(),
            news: Vec::with_capacity(IN_FLIGHT_MAX as usize),
            waiting: 0,
        }
    }

    /// Whether legs of it move data.
    fn has_data(op: Op) -> bool {
        matches!(op, Op::Read { .. } | Op::Write { .. })
    }

    /// The next leg of an IO that has come so far; none where all is done.
    fn next_run(&self, op: Op, progress: &mut u64) -> Option<Run> {
        let layout = self.layout.get()?;
        let Some((lba, blocks)) = op.extent() else {
            // A flush is about every member.
            let count = if planted!(FlushOfOne) { 1 } else { self.members.len() };
            let member = usize::try_from(*progress).ok().filter(|member| *member < count)?;
            return Some(Run { member, lba: 0, blocks: 0 });
        };
        let blocks = u64::from(blocks);
        if RaidChannel::has_data(op) {
            return (*progress < blocks).then(|| layout.run(lba + *progress, blocks - *progress))?;
        }
        while let Some(member) = usize::try_from(*progress).ok().filter(|member| *member < self.members.len())
        {
            if let Some(run) = layout.share(lba, blocks, member) {
                return Some(run);
            }
            *progress += 1;
        }
        None
    }

    /// The operation of a leg.
    fn leg(op: Op, run: Run) -> Op {
        let mut leg = op;
        if let Some((lba, blocks)) = leg.extent_mut() {
            *lba = run.lba;
            // A part of the whole, which is a u32.
            *blocks = u32::try_from(run.blocks).unwrap_or(*blocks);
        }
        leg
    }

    /// Whether it can be done here, and is on the array.
    fn check(&self, op: Op) -> Result<(), IoError> {
        let Some(layout) = self.layout.get() else { return Err(IoError::Gone) };
        match op {
            Op::Read { lba, blocks }
            | Op::Write { lba, blocks, .. }
            | Op::Unmap { lba, blocks }
            | Op::WriteZeroes { lba, blocks, .. } => {
                if layout.has(lba, blocks.into()) {
                    Ok(())
                } else {
                    Err(IoError::OutOfRange)
                }
            }
            Op::Flush => Ok(()),
            // See `Raid::info`: none of these is offered.
            _ => Err(IoError::Unsupported),
        }
    }

    /// Shows the part of the buffer that the leg is about, and hands it over. What was refused comes back with its own name.
    fn begin(&mut self, key: Key, mut io: Io, now: Tick) -> Result<(), Refused> {
        let Some(slot) = self.slots.get(key) else { return Ok(()) };
        if let (Some(data), Some(window), true) = (&mut io.data, &slot.window, RaidChannel::has_data(slot.op))
        {
            // Known since there is a layout: what comes late may have other blocks than was thought when this was opened.
            let block_bytes = self.layout.get().map_or(0, Layout::block_bytes) as usize;
            let bytes = |blocks: u64| usize::try_from(blocks).unwrap_or(0) * block_bytes;
            let start = window.start + if planted!(WindowNotMoved) { 0 } else { bytes(slot.progress) };
            data.show(start..start + bytes(slot.run.blocks));
        }
        let (member, op) = (slot.run.member, RaidChannel::leg(slot.op, slot.run));
        let Some(channel) = self.members.get_mut(member) else { return Ok(()) };
        channel.submit(Io { tag: key, op, data: io.data }, now)
    }

    /// Ends an IO.
    fn end(&mut self, key: Key, mut io: Io, result: Result<(), IoError>) {
        let Some(slot) = self.slots.remove(key) else { return };
        if let (Some(data), Some(window)) = (&mut io.data, slot.window) {
            data.show(window);
        }
        self.done.push(Done { tag: slot.tag, data: io.data, result });
    }

    /// Begins the leg that an IO has come to, or ends it; whether a member was given something.
    fn go_on(&mut self, key: Key, io: Io, now: Tick) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        if slot.is_cancelled {
            self.end(key, io, Err(IoError::Cancelled));
            return false;
        }
        match self.begin(key, io, now) {
            Ok(()) => true,
            Err(Refused::Full(io) | Refused::NotReady(io)) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    slot.waiting = Some(io);
                    self.waiting += 1;
                }
                false
            }
            Err(Refused::Gone(io)) => {
                self.end(key, io, Err(IoError::Gone));
                false
            }
        }
    }

    /// A leg has ended; whether a member was given another one.
    fn leg_done(&mut self, done: Done, now: Tick) -> bool {
        let key = done.tag;
        let Some(slot) = self.slots.get(key) else { return false };
        let (op, run, mut progress) = (slot.op, slot.run, slot.progress);
        let io = Io { tag: key, op, data: done.data };
        if let Err(error) = done.result
            && !planted!(ErrorIgnored)
        {
            let error = match (error, self.layout.get()) {
                (IoError::Medium { lba: Some(lba) }, Some(layout)) => {
                    IoError::Medium { lba: Some(layout.of_member(run.member, lba)) }
                }
                (error, _) => error,
            };
            self.end(key, io, Err(error));
            return false;
        }
        progress += if RaidChannel::has_data(op) { run.blocks } else { 1 };
        match self.next_run(op, &mut progress).filter(|_| !planted!(FirstLegOnly)) {
            None => {
                self.end(key, io, Ok(()));
                false
            }
            Some(run) => {
                if let Some(slot) = self.slots.get_mut(key) {
                    (slot.run, slot.progress) = (run, progress);
                }
                self.go_on(key, io, now)
            }
        }
    }

    /// Ends, or tries again, what waits for room; whether a member was given something.
    fn retry(&mut self, now: Tick) -> bool {
        let mut any = false;
        for index in 0..self.slots.used() {
            if self.waiting == 0 {
                break;
            }
            let Some(key) = self.slots.key_at(index) else { continue };
            let Some(io) = self.slots.get_mut(key).and_then(|slot| slot.waiting.take()) else { continue };
            self.waiting -= 1;
            let waiting = self.waiting;
            any |= self.go_on(key, io, now);
            if self.waiting > waiting {
                // No use in asking for the next one before something has ended.
                break;
            }
        }
        any
    }
}

impl Channel for RaidChannel {
    fn state(&self) -> ChannelState {
        let states = || self.members.iter().map(|member| member.state());
        if states().any(|state| state == ChannelState::Gone) {
            ChannelState::Gone
        } else if self.layout.get().is_none() || states().any(|state| state == ChannelState::Opening) {
            ChannelState::Opening
        } else {
            ChannelState::Ready
        }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        match self.state() {
            ChannelState::Gone if self.layout.get().is_none() => return Err(Refused::Gone(io)),
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            // A member that is gone may have come back: its channel looks for that when it is asked.
            ChannelState::Gone | ChannelState::Ready => {}
        }
        let Io { tag, op, data } = io;
        if self.in_flight() >= IN_FLIGHT_MAX {
            return Err(Refused::Full(Io { tag, op, data }));
        }
        let mut progress = 0;
        let run = self.check(op).map(|()| self.next_run(op, &mut progress));
        let Ok(Some(run)) = run else {
            // Nothing to do, or nothing that can be done.
            self.done.push(Done { tag, data, result: run.map(drop) });
            return Ok(());
        };
        let window = data.as_ref().map(|data| data.window());
        let slot =
            Slot { tag, op, window: window.clone(), progress, run, waiting: None, is_cancelled: false };
        let Ok(key) = self.slots.insert(slot) else { return Err(Refused::Full(Io { tag, op, data })) };
        let Err(refused) = self.begin(key, Io { tag, op, data }, now) else { return Ok(()) };
        self.slots.remove(key);
        let back = |mut io: Io| {
            if let (Some(data), Some(window)) = (&mut io.data, window) {
                data.show(window);
            }
            Io { tag, op, data: io.data }
        };
        Err(match refused {
            Refused::NotReady(io) => Refused::NotReady(back(io)),
            Refused::Full(io) => Refused::Full(back(io)),
            Refused::Gone(io) => Refused::Gone(back(io)),
        })
    }

    fn kick(&mut self) {
        self.members.iter_mut().for_each(|member| member.kick());
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        let mut any = self.waiting > 0 && self.retry(now);
        let mut news = std::mem::take(&mut self.news);
        for index in 0..self.members.len() {
            if let Some(member) = self.members.get_mut(index) {
                member.poll(&mut news, IN_FLIGHT_MAX as usize, now);
            }
            for done in news.drain(..) {
                any |= self.leg_done(done, now);
            }
        }
        self.news = news;
        if any {
            self.kick();
        }
        self.done.poll(out, max);
    }

    fn cancel(&mut self, tag: Key) {
        let found =
            self.slots.iter().find(|(_, slot)| slot.tag == tag).map(|(key, slot)| (key, slot.run.member));
        let Some((key, member)) = found else { return };
        if let Some(slot) = self.slots.get_mut(key) {
            // What waits ends at the next poll, what has begun when its leg does.
            slot.is_cancelled = true;
            if slot.waiting.is_none()
                && let Some(member) = self.members.get_mut(member)
            {
                member.cancel(key);
            }
        }
    }

    fn fence(&mut self) -> Fence {
        for index in 0..self.slots.used() {
            if let Some(slot) = self.slots.key_at(index).and_then(|key| self.slots.get_mut(key)) {
                slot.is_cancelled = true;
            }
        }
        let fences: Vec<Fence> = self.members.iter_mut().map(|member| member.fence()).collect();
        if fences.iter().all(|fence| *fence == Fence::Fenced) { Fence::Fenced } else { Fence::Cannot }
    }

    fn wake(&self) -> Wake {
        if !self.done.is_empty() || self.waiting > 0 {
            return Wake::MustPoll;
        }
        Wake::first_of(self.members.iter().map(|member| member.wake()))
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("at most IN_FLIGHT_MAX") + self.done.len()
    }
}
