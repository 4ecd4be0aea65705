//! One reactor's way to a controller: a pair of queues, shared by its channels to the controller's namespaces.
//!
//! IOs are cut into commands that the controller and the queue allow. A command that is not completed in time is aborted, then
//! the pair is taken away: its memory is nobody else's before that is done. What the device may have seen of a write is not
//! sent again; reads are, once.

mod part;
mod recovery;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use arrayvec::ArrayVec;

use self::part::Part;
pub(super) use self::part::{PrInfo, Shape};
use super::planted::planted;
use super::port::{Port, Request, StopCause};
use super::queue::{PushError, Queue};
use super::spec::{Completion, Fuse};
use super::table::{JOBS, Job, Phase, SLOTS, Sent, Table};
use crate::bdev::queue::{DoneQueue, IN_FLIGHT_MAX, extent_bytes};
use crate::bdev::{ChannelState, Done, Io, IoError, Op, Refused, Wake};
use crate::buf::Region;
use crate::id::ReactorId;
use crate::limits::{NVME_CHANNELS_MAX, NVME_REGIONS_MAX, NVME_TICK_NS};
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// How long commands may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeOuts {
    /// A command that was not completed after so long is aborted.
    pub command_ns: u64,
    /// One that was not completed so long after that takes its pair of queues with it.
    pub abort_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// There is no pair, and one was asked for.
    Opening,
    /// There is a pair.
    Ready,
    /// The pair is being taken away.
    Stopping,
    /// The controller is gone for good.
    Gone,
}

/// Memory of the reactor's buffers.
#[derive(Debug)]
struct Mapped {
    region: Region,
    is_known: bool,
}

const _: () = assert!(JOBS <= IN_FLIGHT_MAX, "what a channel has in flight can be done at once");

/// One channel's side.
#[derive(Debug)]
struct Outbox {
    shape: Shape,
    done: DoneQueue,
    /// IOs taken and not yet given back: at most [`JOBS`].
    in_flight: u32,
}

impl Outbox {
    /// Takes an IO that has ended already.
    fn end_at_once(&mut self, io: Io, result: Result<(), IoError>) {
        self.in_flight += 1;
        self.done.push(Done { tag: io.tag, data: io.data, result });
    }
}

/// A reactor's way to a controller.
#[derive(Debug)]
pub(super) struct Lane {
    port: Arc<Port>,
    times: TimeOuts,
    state: State,
    queue: Option<Box<dyn Queue + Send>>,
    table: Table,
    /// IOs of which commands are still to be made, in order.
    waiting: VecDeque<Key>,
    outboxes: Slab<Outbox>,
    mapped: ArrayVec<Mapped, NVME_REGIONS_MAX>,
    needs_ring: bool,
    /// Everything in flight is to end, reads too.
    is_fencing: bool,
    next_check: Tick,
    now: Tick,
}

/// A lane, by controller and reactor.
type Known = (u64, ReactorId, Weak<RefCell<Lane>>);

thread_local! {
    /// The lanes of this thread. A simulator has several reactors on one.
    static LANES: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

impl Lane {
    /// The lane of `reactor` to the controller with this number; `connect` makes its port where there is none yet.
    pub(super) fn of(
        controller: u64,
        reactor: ReactorId,
        times: TimeOuts,
        connect: impl FnOnce() -> Arc<Port>,
    ) -> Rc<RefCell<Lane>> {
        LANES.with_borrow_mut(|lanes| {
            lanes.retain(|(_, _, lane)| lane.strong_count() > 0);
            let known = lanes.iter().find(|(of, at, _)| (*of, *at) == (controller, reactor));
            if let Some(lane) = known.and_then(|(_, _, lane)| lane.upgrade()) {
                return lane;
            }
            let lane = Rc::new(RefCell::new(Lane::new(connect(), times)));
            lanes.push((controller, reactor, Rc::downgrade(&lane)));
            lane
        })
    }

    fn new(port: Arc<Port>, times: TimeOuts) -> Lane {
        let mut lane = Lane {
            port,
            times,
            state: State::Opening,
            queue: None,
            table: Table::new(),
            waiting: VecDeque::with_capacity(JOBS as usize),
            outboxes: Slab::new(NVME_CHANNELS_MAX),
            mapped: ArrayVec::new(),
            needs_ring: false,
            is_fencing: false,
            next_check: Tick::ZERO,
            now: Tick::ZERO,
        };
        lane.ask(Request::Open);
        lane
    }

    /// A channel's place; none where there are too many.
    pub(super) fn join(&mut self, shape: Shape) -> Option<Key> {
        let outbox = Outbox { shape, done: DoneQueue::new(), in_flight: 0 };
        self.outboxes.insert(outbox).ok()
    }

    /// The channel is closed. What it has in flight ends unheard.
    pub(super) fn leave(&mut self, channel: Key) {
        self.outboxes.remove(channel);
    }

    pub(super) fn state(&self) -> ChannelState {
        match self.state {
            State::Opening | State::Stopping => ChannelState::Opening,
            State::Ready => ChannelState::Ready,
            State::Gone => ChannelState::Gone,
        }
    }

    pub(super) fn in_flight(&self, channel: Key) -> u32 {
        self.outboxes.get(channel).map_or(0, |outbox| outbox.in_flight)
    }

    pub(super) fn wake(&self, channel: Key) -> Wake {
        let Some(outbox) = self.outboxes.get(channel) else { return Wake::Idle };
        if !outbox.done.is_empty() {
            return Wake::MustPoll;
        }
        match (&self.queue, self.state) {
            (_, State::Gone) => Wake::Idle,
            _ if outbox.in_flight == 0 && self.state == State::Ready => Wake::Idle,
            (Some(queue), State::Ready) if self.waiting.is_empty() => queue.wake(),
            // The controller's thread is at work.
            _ => Wake::At(self.now.after_ns(NVME_TICK_NS)),
        }
    }

    /// As `Channel::submit`, of a disk with so many blocks now.
    pub(super) fn submit(&mut self, channel: Key, io: Io, blocks: u64, now: Tick) -> Result<(), Refused> {
        self.now = now;
        if self.table.in_use() == 0 {
            // Nobody polls a lane that has nothing to do.
            self.replies();
        }
        let Some(outbox) = self.outboxes.get_mut(channel) else { return Err(Refused::Gone(io)) };
        match self.state {
            State::Gone => return Err(Refused::Gone(io)),
            State::Opening | State::Stopping => return Err(Refused::NotReady(io)),
            State::Ready if !self.waiting.is_empty() || outbox.in_flight >= JOBS => {
                return Err(Refused::Full(io));
            }
            State::Ready => {}
        }
        if planted!(FlushNotSent) && io.op == Op::Flush {
            outbox.end_at_once(io, Ok(()));
            return Ok(());
        }
        if let Some((lba, count)) = io.op.extent()
            && let Err(error) = extent_bytes(lba, count, outbox.shape.block_bytes, blocks)
        {
            outbox.end_at_once(io, Err(error));
            return Ok(());
        }
        if matches!(io.op, Op::Unmap { .. }) && outbox.shape.unmap_blocks_max.is_none() {
            outbox.end_at_once(io, Err(IoError::Unsupported));
            return Ok(());
        }
        let depth = self.queue.as_ref().map_or(0, |queue| queue.depth());
        if self.table.next(depth).is_none() {
            return Err(Refused::Full(io));
        }
        let job = match self.table.jobs.insert(Job::new(channel, io)) {
            Ok(job) => job,
            Err(Job { tag, op, data, .. }) => return Err(Refused::Full(Io { tag, op, data })),
        };
        outbox.in_flight += 1;
        self.advance(job);
        Ok(())
    }

    /// As `Channel::kick`.
    pub(super) fn kick(&mut self) {
        if let Some(queue) = &mut self.queue
            && self.needs_ring
        {
            queue.ring(&mut self.table);
            self.needs_ring = false;
        }
    }

    /// As `Channel::poll`.
    pub(super) fn poll(&mut self, channel: Key, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.now = now;
        self.replies();
        self.completions();
        self.check();
        self.resume();
        self.kick();
        if let Some(outbox) = self.outboxes.get_mut(channel) {
            let left = outbox.done.len();
            outbox.done.poll(out, max);
            outbox.in_flight -= left - outbox.done.len();
        }
    }

    /// As `Channel::cancel`.
    pub(super) fn cancel(&mut self, channel: Key, tag: Key) {
        let is_its = |job: &Job| (job.channel, job.tag) == (channel, tag);
        for slot in 0..SLOTS {
            let Some((cid, sent)) = self.table.at(slot) else { continue };
            if sent.phase == Phase::Sent && self.table.jobs.get(sent.job).is_some_and(is_its) {
                self.port.hint(Request::Abort { cid });
            }
        }
        self.give_up(IoError::Cancelled, is_its);
    }

    /// Takes the pair away: nothing in it will land any more, and everything in flight ends.
    pub(super) fn fence(&mut self) {
        self.give_up(IoError::Cancelled, |_| true);
        if matches!(self.state, State::Ready | State::Stopping) {
            self.is_fencing = true;
            self.stop(StopCause::Fence);
        }
    }

    fn ask(&mut self, request: Request) {
        if let Err(refused) = self.port.ask(request) {
            // Cannot be: there is room for every slot. What holds a queue is kept, as its memory is in use.
            debug_assert!(false, "the port is full: {refused:?}");
            std::mem::forget(refused);
        }
    }

    fn completions(&mut self) {
        let mut popped = 0;
        while popped < SLOTS
            && let Some(queue) = &mut self.queue
            && let Some(completion) = queue.pop(&mut self.table, self.now)
        {
            popped += 1;
            self.complete(&completion);
        }
        let Some(queue) = &mut self.queue else { return };
        if popped > 0 {
            queue.acknowledge();
        }
        if let Some(fault) = queue.fault() {
            self.stop(StopCause::Nonsense(fault));
        }
    }

    fn complete(&mut self, completion: &Completion) {
        let cid = completion.cid;
        let Some(sent) = self.table.sent(cid).filter(|sent| sent.phase != Phase::Asking) else {
            return self.stop(StopCause::Nonsense("it completed a command that it does not have"));
        };
        let result = completion.status.outcome();
        if completion.status.is_media_error() && completion.status.has_more() {
            self.table.set_phase(cid, Phase::Asking, self.now);
            return self.ask(Request::WhichLba { cid });
        }
        self.end(cid, sent.job, result);
    }

    /// A command has ended.
    fn end(&mut self, cid: u16, job: Key, result: Result<(), IoError>) {
        self.table.leave(cid);
        if let Some(job) = self.table.jobs.get_mut(job) {
            job.commands = job.commands.saturating_sub(1);
            // The second half of a fused operation is cancelled because of what became of the first.
            let is_vague = job.result == Err(IoError::Cancelled) && result.is_err();
            job.result = if is_vague { result } else { job.result.and(result) };
        }
        self.settle(job);
    }

    /// Gives an IO back that has ended.
    fn settle(&mut self, key: Key) {
        let has_ended = |job: &Job| job.commands == 0 && !job.is_waiting && !job.is_unfinished();
        if !self.table.jobs.get(key).is_some_and(has_ended) {
            return;
        }
        let Some(job) = self.table.jobs.remove(key) else { return };
        if let Some(outbox) = self.outboxes.get_mut(job.channel) {
            outbox.done.push(Done { tag: job.tag, data: job.data, result: job.result });
        }
    }

    /// Makes commands of an IO, as far as there is room; what is left waits.
    fn advance(&mut self, key: Key) {
        if !self.issue(key)
            && let Some(job) = self.table.jobs.get_mut(key)
        {
            job.is_waiting = true;
            self.waiting.push_back(key);
        }
        self.settle(key);
    }

    /// Makes commands of the IOs that wait, in their order.
    fn resume(&mut self) {
        while let Some(&key) = self.waiting.front() {
            let can_go_on = self.table.jobs.get(key).is_none_or(|job| !job.is_unfinished());
            if !can_go_on && !self.issue(key) {
                return;
            }
            self.waiting.pop_front();
            if let Some(job) = self.table.jobs.get_mut(key) {
                job.is_waiting = false;
            }
            self.settle(key);
        }
    }

    /// Whether all commands of the IO were made, or none need be any more.
    fn issue(&mut self, key: Key) -> bool {
        loop {
            let Some(queue) = &mut self.queue else { return false };
            let Some(job) = self.table.jobs.get(key).filter(|job| job.is_unfinished()) else { return true };
            let Some(shape) = self.outboxes.get(job.channel).map(|outbox| outbox.shape) else {
                // Its channel was closed: nobody wants it.
                if let Some(job) = self.table.jobs.get_mut(key) {
                    job.result = Err(IoError::Cancelled);
                }
                return true;
            };
            let part = Part::of(job, &shape, queue.bytes_max());
            // The halves of a fused operation stand one after the other.
            let behind = u16::from(part.fuse == Fuse::First);
            let Some((slot, cid)) = self.table.next(queue.depth().saturating_sub(behind)) else {
                return false;
            };
            let pushed = queue.push(slot, cid, &part.command(job.op, &shape), part.payload(job, &shape));
            match pushed {
                Ok(()) => {
                    self.needs_ring = true;
                    let sent = Sent {
                        job: key,
                        phase: Phase::Sent,
                        since: self.now,
                        from: part.from,
                        bytes: part.bytes,
                    };
                    self.table.enter(sent);
                    if let Some(job) = self.table.jobs.get_mut(key) {
                        job.is_issued = true;
                        job.issued_blocks += if part.fuse == Fuse::First { 0 } else { part.blocks };
                        job.commands += 1;
                    }
                }
                Err(PushError::Unmapped) => return !self.want_mapped(key),
                Err(PushError::Broken) => return false,
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.table.in_use() > 0 && self.state != State::Gone {
            // The device may still write there: the memory is never to be anybody else's.
            std::mem::forget(std::mem::replace(&mut self.table, Table::new()));
            std::mem::forget(std::mem::take(&mut self.mapped));
        }
        let queue = self.queue.take();
        self.ask(Request::Close { queue });
    }
}

#[cfg(test)]
mod tests;
