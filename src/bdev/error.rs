//! A device with faults to order: another one whose IOs fail, hang or are refused where a rule says so.
//!
//! Rules are added through [`Faults`], from any thread at any time; a channel looks at them at each submission and
//! takes no lock. A held IO has not reached the wrapped device: let go, it is submitted there, however late.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use super::pass::{Flow, Told};
use super::queue::{DoneQueue, IN_FLIGHT_MAX, room};
use super::{Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Op, Refused, Wake};
use crate::id::ReactorId;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// Rules of one device, for its life.
const RULES_MAX: usize = 64;

/// The kind of IO that a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All.
    Any,
    /// Reads.
    Read,
    /// Writes that carry data.
    Write,
    /// Flushes.
    Flush,
    /// Unmaps.
    Unmap,
    /// Writes of zeroes.
    WriteZeroes,
}

/// What happens to an IO that meets a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It ends in this error at the next poll, and never reaches the medium.
    Fail(IoError),
    /// It is held until [`Faults::release`], then goes on to the medium. Cancelled or fenced, it never will.
    Hold,
    /// As `Hold`, but neither cancel nor fence gets through to it: what is lost in a broken device.
    Lose,
    /// The submission is refused as if the queue were full.
    Full,
}

/// Which IOs meet which fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Of this kind.
    pub kind: Kind,
    /// That touch a block from here on; a flush touches all.
    pub first_lba: u64,
    /// To here.
    pub last_lba: u64,
    /// What then.
    pub fault: Fault,
}

impl Rule {
    /// The fault for every IO of a kind.
    pub const fn everywhere(kind: Kind, fault: Fault) -> Rule {
        Rule { kind, first_lba: 0, last_lba: u64::MAX, fault }
    }

    fn meets(&self, op: Op) -> bool {
        let kind = match op {
            Op::Read { .. } | Op::ReadProtected { .. } | Op::Verify { .. } | Op::Compare { .. } => Kind::Read,
            Op::Write { .. }
            | Op::CompareAndWrite { .. }
            | Op::Copy { .. }
            | Op::WriteProtected { .. }
            | Op::WriteUncorrectable { .. } => Kind::Write,
            Op::Pass { flow: Flow::In, .. } => Kind::Read,
            Op::Pass { .. } => Kind::Write,
            Op::Flush => Kind::Flush,
            Op::Unmap { .. } => Kind::Unmap,
            Op::WriteZeroes { .. } => Kind::WriteZeroes,
        };
        let touches = op.extent().is_none_or(|(lba, blocks)| {
            let last = lba.saturating_add(u64::from(blocks).saturating_sub(1));
            lba <= self.last_lba && last >= self.first_lba
        });
        (self.kind == Kind::Any || self.kind == kind) && touches
    }
}

/// A rule of one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RuleId(usize);

/// All rules of a device are used up; arm one of them anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a device takes at most {RULES_MAX} fault rules; arm one of them anew")]
pub struct RulesUsedUp;

/// The faults of one device. Clones are the same.
#[derive(Clone, Debug)]
pub struct Faults {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    rules: [OnceLock<Armed>; RULES_MAX],
}

#[derive(Debug)]
struct Armed {
    rule: Rule,
    /// IOs that it still strikes; `u32::MAX` is for ever.
    count: AtomicU32,
    /// How often it was released: an IO held under an earlier number is free.
    releases: AtomicU32,
}

const READY: u8 = 0;
const OPENING: u8 = 1;
const GONE: u8 = 2;

impl Faults {
    /// None.
    #[expect(clippy::new_without_default, reason = "a handle that is shared is made on purpose")]
    pub fn new() -> Faults {
        let rules = [const { OnceLock::new() }; RULES_MAX];
        Faults { shared: Arc::new(Shared { state: AtomicU8::new(READY), rules }) }
    }

    /// Adds a rule that strikes `count` IOs (`u32::MAX`: all). Of the rules that an IO meets the oldest strikes.
    pub fn add(&self, rule: Rule, count: u32) -> Result<RuleId, RulesUsedUp> {
        let mut armed = Armed { rule, count: AtomicU32::new(count), releases: AtomicU32::new(0) };
        for (index, slot) in self.shared.rules.iter().enumerate() {
            match slot.set(armed) {
                Ok(()) => return Ok(RuleId(index)),
                Err(back) => armed = back,
            }
        }
        Err(RulesUsedUp)
    }

    /// Lets the rule strike `count` more IOs from now on; 0 disarms it, and what it holds stays held.
    pub fn arm(&self, id: RuleId, count: u32) {
        if let Some(armed) = self.shared.armed(id) {
            armed.count.store(count, Ordering::Release);
        }
    }

    /// How many IOs the rule will still strike.
    pub fn left(&self, id: RuleId) -> u32 {
        self.shared.armed(id).map_or(0, |armed| armed.count.load(Ordering::Acquire))
    }

    /// Lets go of what the rule holds at this moment.
    pub fn release(&self, id: RuleId) {
        if let Some(armed) = self.shared.armed(id) {
            armed.releases.fetch_add(1, Ordering::Release);
        }
    }

    /// Sets the state that channels claim: `Opening` refuses for now, `Gone` for good and ends what is held.
    pub fn set_state(&self, state: ChannelState) {
        let code = match state {
            ChannelState::Ready => READY,
            ChannelState::Opening => OPENING,
            ChannelState::Gone => GONE,
        };
        self.shared.state.store(code, Ordering::Release);
    }
}

impl Shared {
    fn armed(&self, id: RuleId) -> Option<&Armed> {
        self.rules.get(id.0)?.get()
    }

    /// The oldest rule that strikes `op`, counted down.
    fn strike(&self, op: Op) -> Option<(RuleId, &Armed)> {
        let armed = self.rules.iter().map_while(OnceLock::get).enumerate();
        let mut met = armed.filter(|(_, armed)| armed.rule.meets(op));
        met.find(|(_, armed)| armed.take_one()).map(|(index, armed)| (RuleId(index), armed))
    }
}

impl Armed {
    fn take_one(&self) -> bool {
        let fewer = |count: u32| if count == u32::MAX { Some(count) } else { count.checked_sub(1) };
        self.count.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer).is_ok()
    }
}

/// A faulty device.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Bdev>,
    faults: Faults,
}

impl Faulty {
    /// Makes `inner` as faulty as `faults` says.
    pub fn new(inner: Arc<dyn Bdev>, faults: Faults) -> Faulty {
        Faulty { inner, faults }
    }
}

impl Bdev for Faulty {
    fn info(&self) -> Info {
        self.inner.info()
    }

    fn base(&self) -> Option<&dyn Bdev> {
        Some(&*self.inner)
    }

    fn is_awaited(&self) -> bool {
        self.inner.is_awaited()
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        Box::new(FaultyChannel {
            inner: self.inner.open(reactor),
            faults: Arc::clone(&self.faults.shared),
            failed: DoneQueue::new(),
            held: Slab::new(IN_FLIGHT_MAX),
        })
    }
}

#[derive(Debug)]
struct Held {
    io: Io,
    rule: RuleId,
    /// The rule's releases when this was held.
    releases: u32,
    lost: bool,
}

#[derive(Debug)]
struct FaultyChannel {
    inner: Box<dyn Channel>,
    faults: Arc<Shared>,
    /// What ended here. Invariant: together with `held` at most [`IN_FLIGHT_MAX`].
    failed: DoneQueue,
    held: Slab<Held>,
}

impl FaultyChannel {
    fn has_room(&self) -> bool {
        self.held_count() + self.failed.len() < IN_FLIGHT_MAX
    }

    fn held_count(&self) -> u32 {
        u32::try_from(self.held.len()).expect("at most IN_FLIGHT_MAX")
    }

    fn end(&mut self, io: Io, error: IoError) {
        self.failed.push(Done { tag: io.tag, data: io.data, result: Err(error) });
    }

    /// Ends every held IO that `which` picks.
    fn end_held(&mut self, error: IoError, which: impl Fn(&Held) -> bool) {
        for index in 0..IN_FLIGHT_MAX {
            let Some(key) = self.held.key_at(index) else { continue };
            if !self.held.get(key).is_some_and(&which) {
                continue;
            }
            let Some(held) = self.held.remove(key) else { continue };
            self.end(held.io, error);
        }
    }

    /// Submits what was released to the wrapped device, as far as that takes it.
    fn forward(&mut self, now: Tick) {
        let mut any = false;
        for index in 0..IN_FLIGHT_MAX {
            let Some(key) = self.held.key_at(index) else { continue };
            let Some(Held { rule, releases, .. }) = self.held.get(key) else { continue };
            let released = |armed: &Armed| armed.releases.load(Ordering::Acquire) != *releases;
            if !self.faults.armed(*rule).is_some_and(released) {
                continue;
            }
            let Some(mut held) = self.held.remove(key) else { continue };
            match self.inner.submit(held.io, now) {
                Ok(()) => any = true,
                Err(Refused::Gone(io)) => self.end(io, IoError::Gone),
                Err(Refused::Full(io) | Refused::NotReady(io)) => {
                    held.io = io;
                    self.held.insert(held).expect("it was there before");
                }
            }
        }
        if any {
            self.inner.kick();
        }
    }
}

impl Channel for FaultyChannel {
    fn state(&self) -> ChannelState {
        match self.faults.state.load(Ordering::Acquire) {
            GONE => ChannelState::Gone,
            OPENING => ChannelState::Opening,
            _ => self.inner.state(),
        }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        match self.state() {
            ChannelState::Gone => return Err(Refused::Gone(io)),
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            ChannelState::Ready => {}
        }
        if !self.has_room() {
            return Err(Refused::Full(io));
        }
        let Some((rule, armed)) = self.faults.strike(io.op) else { return self.inner.submit(io, now) };
        let releases = armed.releases.load(Ordering::Acquire);
        match armed.rule.fault {
            Fault::Fail(error) => self.end(io, error),
            Fault::Full => return Err(Refused::Full(io)),
            fault @ (Fault::Hold | Fault::Lose) => {
                let held = Held { io, rule, releases, lost: fault == Fault::Lose };
                self.held.insert(held).expect("there is room");
            }
        }
        Ok(())
    }

    fn kick(&mut self) {
        self.inner.kick();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        if self.state() == ChannelState::Gone {
            self.end_held(IoError::Gone, |_| true);
        }
        self.forward(now);
        let max = room(out, max);
        let before = out.len();
        self.failed.poll(out, max);
        self.inner.poll(out, max - (out.len() - before), now);
    }

    fn told(&mut self, tag: Key, sense: &mut [u8]) -> Option<Told> {
        self.inner.told(tag, sense)
    }

    fn cancel(&mut self, tag: Key) {
        self.end_held(IoError::Cancelled, |held| held.io.tag == tag && !held.lost);
        self.inner.cancel(tag);
    }

    fn fence(&mut self) -> Fence {
        self.end_held(IoError::Cancelled, |held| !held.lost);
        let fence = self.inner.fence();
        if self.held.is_empty() { fence } else { Fence::Cannot }
    }

    /// Only polling tells of a release.
    fn wake(&self) -> Wake {
        if self.held.is_empty() && self.failed.is_empty() { self.inner.wake() } else { Wake::MustPoll }
    }

    fn in_flight(&self) -> u32 {
        self.held_count() + self.failed.len() + self.inner.in_flight()
    }
}

#[cfg(test)]
mod tests;
