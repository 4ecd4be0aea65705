//! One reactor's way to a controller: a pair of queues, shared by its channels to the controller's namespaces.
//!
//! IOs are cut into commands that the controller and the queue allow. A command that is not completed in time is aborted, then
//! the pair is taken away: its memory is nobody else's before that is done. What the device may have seen of a write is not
//! sent again; reads are, once.

mod pair;
mod part;
mod recovery;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use arrayvec::ArrayVec;

use self::pair::{Pair, Stall};
pub(super) use self::part::{PrInfo, Shape};
use super::controller::shared::Disk;
use super::port::{Port, Request, StopCause};
use super::spec::{Ended, Status};
use super::table::{Fifo, Job, Phase, SLOTS, Table};
use crate::bdev::queue::room;
use crate::bdev::{ChannelState, Done, Io, IoError, Refused, Wake};
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

/// One channel's side.
#[derive(Debug)]
struct Outbox {
    shape: Shape,
    /// Where it leads, for as long as that is not removed.
    disk: Arc<Disk>,
    /// IOs that have ended: they stay in the table until they are polled.
    done: Fifo,
    /// IOs taken and not yet given back.
    in_flight: u32,
}

/// A reactor's way to a controller.
#[derive(Debug)]
pub(super) struct Lane {
    port: Arc<Port>,
    times: TimeOuts,
    state: State,
    /// Invariant: there in state Ready, and only there.
    pair: Option<Pair>,
    table: Table,
    /// IOs of which commands are still to be made, in order.
    waiting: Fifo,
    outboxes: Slab<Outbox>,
    mapped: ArrayVec<Mapped, NVME_REGIONS_MAX>,
    /// Commands in [`Phase::Asking`].
    asking: u16,
    /// Channels of which everything in flight is to end, reads too, when the pair is gone. At most as many as there are.
    fenced: Vec<Key>,
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
            pair: None,
            table: Table::new(),
            waiting: Fifo::new(),
            outboxes: Slab::new(NVME_CHANNELS_MAX),
            mapped: ArrayVec::new(),
            asking: 0,
            fenced: Vec::with_capacity(NVME_CHANNELS_MAX as usize),
            next_check: Tick::ZERO,
            now: Tick::ZERO,
        };
        lane.ask(Request::Open);
        lane
    }

    /// A channel's place; none where there are too many.
    pub(super) fn join(&mut self, shape: Shape, disk: Arc<Disk>) -> Option<Key> {
        let outbox = Outbox { shape, disk, done: Fifo::new(), in_flight: 0 };
        self.outboxes.insert(outbox).ok()
    }

    /// The channel is closed. What it has in flight ends unheard.
    pub(super) fn leave(&mut self, channel: Key) {
        self.fenced.retain(|fenced| *fenced != channel);
        let mut done = self.outboxes.remove(channel).map_or(Fifo::new(), |outbox| outbox.done);
        while let Some(number) = done.pop() {
            drop(self.table.jobs.give(number));
        }
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
        match (&self.pair, self.state) {
            (_, State::Gone) => Wake::Idle,
            _ if outbox.in_flight == 0 && self.state == State::Ready => Wake::Idle,
            (Some(pair), State::Ready) if self.waiting.is_empty() && self.asking == 0 => pair.queue.wake(),
            // The controller's thread is at work.
            _ => Wake::At(self.now.after_ns(NVME_TICK_NS)),
        }
    }

    /// Comes before [`Lane::submit`]: nobody polls a lane that has nothing to do. By itself, as what may unwind while it holds an
    /// IO has the IO copied.
    pub(super) fn look(&mut self, now: Tick) {
        self.now = now;
        if self.table.slots.is_empty() {
            self.replies();
        }
    }

    /// As `Channel::submit`, of a disk with so many blocks now.
    pub(super) fn submit(&mut self, channel: Key, io: Io, blocks: u64) -> Result<(), Refused> {
        let Some(outbox) = self.outboxes.get_mut(channel) else { return Err(Refused::Gone(io)) };
        let Some(pair) = &mut self.pair else {
            return Err(if self.state == State::Gone { Refused::Gone(io) } else { Refused::NotReady(io) });
        };
        let Some(next) = pair.next(&self.table.slots).filter(|_| self.waiting.is_empty()) else {
            return Err(Refused::Full(io));
        };
        let Some(number) = self.table.jobs.number() else { return Err(Refused::Full(io)) };
        let job = self.table.jobs.take(number, channel, io);
        outbox.in_flight += 1;
        let disk = (&outbox.shape, blocks);
        if !pair.enter_whole(&mut self.table.slots, next, (number, job), disk, self.now) {
            self.start(number, blocks);
        }
        Ok(())
    }

    /// Makes commands of an IO that was taken, whatever it is, of a disk with so many blocks.
    #[inline(never)]
    fn start(&mut self, number: u8, blocks: u64) {
        let job = self.table.jobs.get_mut(number);
        let (Some(outbox), Some(pair)) = (self.outboxes.get(job.channel), &mut self.pair) else { return };
        job.begin();
        if let Err(error) = outbox.shape.admits(job.io.op, blocks) {
            job.fail(error);
        }
        match pair.issue(&mut self.table.slots, (number, job), &outbox.shape, self.now) {
            Ok(()) if job.commands > 0 => {}
            Ok(()) => self.settle(number),
            Err(stall) => self.stalled(number, stall),
        }
    }

    /// As `Channel::kick`.
    pub(super) fn kick(&mut self) {
        if let Some(pair) = &mut self.pair {
            pair.ring(&mut self.table);
        }
    }

    /// As `Channel::poll`.
    pub(super) fn poll(&mut self, channel: Key, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.now = now;
        let full = out.len() + room(out, max);
        self.replies();
        self.give(channel, out, full);
        self.completions(channel, out, full);
        self.check();
        self.resume();
        self.kick();
        self.give(channel, out, full);
    }

    /// Gives the channel those of its IOs that have ended earlier: `out` becomes no longer than `full`.
    fn give(&mut self, channel: Key, out: &mut Vec<Done>, full: usize) {
        let Some(outbox) = self.outboxes.get_mut(channel) else { return };
        while out.len() < full
            && let Some(number) = outbox.done.pop()
        {
            outbox.in_flight -= 1;
            out.push(self.table.jobs.give(number));
        }
    }

    /// As `Channel::cancel`.
    pub(super) fn cancel(&mut self, channel: Key, tag: Key) {
        let is_it = |job: &Job| (job.channel, job.io.tag) == (channel, tag);
        for slot in 0..=u8::MAX {
            let Some((cid, sent)) = self.table.slots.at(slot) else { continue };
            if sent.phase == Phase::Sent && is_it(self.table.jobs.get(sent.job)) {
                self.port.hint(Request::Abort { cid });
            }
        }
        self.give_up(IoError::Cancelled, is_it);
    }

    /// Ends all that the channel has in flight. Where the device has some of it the pair is taken away, so that nothing of it
    /// will land any more: other channels' reads begin again, their writes that the device may have seen are aborted.
    pub(super) fn fence(&mut self, channel: Key) {
        let is_its = |job: &Job| job.channel == channel;
        self.give_up(IoError::Cancelled, is_its);
        let mut sent = (0..=u8::MAX).filter_map(|slot| self.table.slots.at(slot));
        let is_in_device = sent.any(|(_, sent)| is_its(self.table.jobs.get(sent.job)));
        if is_in_device && !self.fenced.contains(&channel) {
            self.fenced.push(channel);
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

    /// Takes what the device has completed. The channel's own IOs go to `out`, which becomes no longer than `full`.
    fn completions(&mut self, channel: Key, out: &mut Vec<Done>, full: usize) {
        let (mut popped, before) = (0, out.len());
        while popped < SLOTS
            && let Some(pair) = &mut self.pair
            && let Some(Ended { cid, status }) = pair.queue.pop(&mut self.table, self.now)
        {
            popped += 1;
            let Some(number) = self.complete(cid, status) else { continue };
            if self.table.jobs.get(number).channel == channel && out.len() < full {
                // As `push`, made where it is to be.
                out.extend(std::iter::once_with(|| self.table.jobs.give(number)));
            } else {
                self.settle(number);
            }
        }
        if let Some(outbox) = self.outboxes.get_mut(channel) {
            outbox.in_flight -= u32::try_from(out.len() - before).unwrap_or(u32::MAX);
        }
        let Some(pair) = &mut self.pair else { return };
        if popped > 0 {
            pair.queue.acknowledge();
        }
        if let Some(fault) = pair.queue.fault() {
            self.stop(StopCause::Nonsense(fault));
        }
    }

    /// The device says that a command has ended: the IO that ends with it.
    #[inline(always)]
    fn complete(&mut self, cid: u16, status: Status) -> Option<u8> {
        if self.table.slots.get(cid).is_none_or(|sent| sent.phase == Phase::Asking) {
            self.stop(StopCause::Nonsense("it completed a command that it does not have"));
            return None;
        }
        if status.is_ok() {
            return self.end(cid, Ok(()));
        }
        if status.is_media_error() && status.has_more() {
            self.table.slots.set_phase(cid, Phase::Asking, self.now);
            self.asking += 1;
            self.ask(Request::WhichLba { cid });
            return None;
        }
        self.end(cid, self.outcome(cid, status))
    }

    /// What a command that failed comes to. Who has it aborted because it takes too long is the lane: nobody has cancelled it.
    #[inline(never)]
    fn outcome(&self, cid: u16, status: Status) -> Result<(), IoError> {
        let is_late = self.table.slots.get(cid).is_some_and(|sent| sent.phase == Phase::Aborting);
        if is_late && status.is_abort_requested() { Err(IoError::Aborted) } else { status.outcome() }
    }

    /// A command has ended: the IO that ends with it.
    #[inline(always)]
    fn end(&mut self, cid: u16, result: Result<(), IoError>) -> Option<u8> {
        let number = self.table.slots.leave(cid)?;
        let job = self.table.jobs.get_mut(number);
        job.commands -= 1;
        if let Err(error) = result {
            // The second half of a fused operation is cancelled because of what became of the first.
            if job.result == Err(IoError::Cancelled) {
                job.result = result;
            }
            job.fail(error);
        }
        job.has_ended().then_some(number)
    }

    /// An IO has ended: its channel's next poll gives it back.
    fn settle(&mut self, number: u8) {
        let channel = self.table.jobs.get(number).channel;
        match self.outboxes.get_mut(channel) {
            Some(outbox) => outbox.done.push(number),
            None => drop(self.table.jobs.give(number)),
        }
    }

    /// Makes commands of the IOs that wait, in their order.
    fn resume(&mut self) {
        while let Some(number) = self.waiting.first()
            && let Some(pair) = &mut self.pair
        {
            let job = self.table.jobs.get_mut(number);
            let issued = match self.outboxes.get(job.channel) {
                Some(outbox) if outbox.disk.is_removed() => {
                    // Its number is another medium's, or what was answered before may be lost. That is said before there is a
                    // pair again.
                    job.fail(IoError::Gone);
                    Ok(())
                }
                Some(outbox) => pair.issue(&mut self.table.slots, (number, job), &outbox.shape, self.now),
                None => {
                    // Its channel was closed: nobody wants it.
                    job.fail(IoError::Cancelled);
                    Ok(())
                }
            };
            match issued {
                Ok(()) => {
                    self.waiting.pop();
                    self.stop_waiting(number);
                }
                Err(stall) => {
                    self.stalled(number, stall);
                    if self.table.jobs.get(number).left_blocks > 0 {
                        return;
                    }
                }
            }
        }
    }

    /// Of an IO that was taken out of the queue of those.
    fn stop_waiting(&mut self, number: u8) {
        let job = self.table.jobs.get_mut(number);
        job.is_waiting = false;
        if job.has_ended() {
            self.settle(number);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if !self.table.slots.is_empty() && self.state != State::Gone {
            // The device may still write there: the memory is never to be anybody else's.
            std::mem::forget(std::mem::replace(&mut self.table, Table::new()));
            std::mem::forget(std::mem::take(&mut self.mapped));
        }
        let queue = self.pair.take().map(|pair| pair.queue);
        self.ask(Request::Close { queue });
    }
}

#[cfg(test)]
mod tests;
