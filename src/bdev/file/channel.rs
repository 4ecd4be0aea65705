//! One reactor's channel to a file: a ring of its own.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::job::{Job, Manner, Next, outcome};
use super::ring::{Came, FLIGHTS_MAX, Ring};
use super::term::Term;
use super::verdict::{Desk, Doubts, Ticket};
use crate::bdev::queue::{DoneQueue, extent_bytes};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, IoError, Offloads, Op, Refused, Wake};
use crate::id::ReactorId;
use crate::limits::PROBE_NS;
use crate::slab::Key;
use crate::time::Tick;

#[derive(Debug)]
pub(super) struct FileChannel {
    pub(super) term: Arc<Term>,
    link: Link,
    /// There was no ring to be had: when to try again.
    again_at: Option<Tick>,
    /// Its place among the channels of the term.
    desk: Desk,
    syncs: Syncs,
    /// What ended. Invariant: together with the flights at most [`FLIGHTS_MAX`].
    ended: DoneQueue,
    /// The last poll found completions that only the kernel could hand over, and left them to the next system call.
    was_owed: bool,
}

/// The way to the medium.
#[derive(Debug)]
enum Link {
    /// The medium has not been opened yet, or not again; then there is a ring.
    Opening(Option<Box<Ring>>),
    Ready(Box<Ring>),
}

/// Flights that wait for an fdatasync. One at a time serves all that came before it; and so an error of the page
/// cache, which the kernel tells once only, ends every flight that it concerns.
#[derive(Debug)]
struct Syncs {
    /// Served by the sync at work; empty where there is none.
    served: VecDeque<Key>,
    /// The sync that is in the kernel.
    ticket: Option<Ticket>,
    /// For the next.
    waiting: VecDeque<Key>,
    /// The sync went well, and waits for those that overlapped it.
    is_in_doubt: bool,
    doubts: Doubts,
}

impl FileChannel {
    pub(super) fn new(term: Arc<Term>, reactor: ReactorId) -> FileChannel {
        let room = || VecDeque::with_capacity(FLIGHTS_MAX as usize);
        let syncs = Syncs {
            served: room(),
            ticket: None,
            waiting: room(),
            is_in_doubt: false,
            doubts: Doubts::new(),
        };
        let mut channel = FileChannel {
            term,
            link: Link::Opening(None),
            again_at: None,
            desk: Desk::of(reactor),
            syncs,
            ended: DoneQueue::new(),
            was_owed: false,
        };
        channel.connect(Tick::ZERO);
        channel
    }

    /// Gets to the medium of the present term once there is one, and nothing is left of the one before. Where there is no ring to be
    /// had, which takes a descriptor and memory, that is told ([`Term::rings`]) and tried again, not in every turn.
    fn connect(&mut self, now: Tick) {
        if self.term.next().is_some() && self.flights() == 0 {
            self.move_on();
        }
        if self.again_at.is_some_and(|at| now < at) {
            return;
        }
        if let (Link::Opening(ring), Some(medium)) = (&mut self.link, self.term.medium.get()) {
            let made = match ring {
                Some(ring) => ring.attach(Arc::clone(medium)),
                None => self.term.rings.make(medium).map(|made| *ring = Some(Box::new(made))),
            };
            match made {
                Ok(()) => {
                    if let Some(ring) = ring.take() {
                        self.link = Link::Ready(ring);
                    }
                    self.has_ring();
                }
                Err(error) => {
                    self.term.rings.lacks(&error, self.again_at.is_none());
                    self.again_at = Some(now.after_ns(PROBE_NS));
                }
            }
        }
    }

    /// It lacks none any more.
    fn has_ring(&mut self) {
        if self.again_at.take().is_some() {
            self.term.rings.lacks_no_more();
        }
    }

    /// To the term that is the last now. Nothing is in flight, so nothing is left at the desk.
    fn move_on(&mut self) {
        while let Some(next) = self.term.next() {
            self.term = Arc::clone(next);
        }
        if let Link::Ready(_) = &self.link
            && let Link::Ready(mut ring) = std::mem::replace(&mut self.link, Link::Opening(None))
        {
            ring.detach();
            self.link = Link::Opening(Some(ring));
        }
    }

    pub(super) fn flights(&self) -> u32 {
        if let Link::Ready(ring) = &self.link { ring.len() } else { 0 }
    }

    /// What begins an IO, or why it does not begin.
    pub(super) fn admit(&self, op: Op) -> Result<(Job, Next), IoError> {
        let Some(medium) = self.term.medium.get() else { return Err(IoError::Gone) };
        if let Some((lba, blocks)) = op.extent() {
            extent_bytes(lba, blocks, medium.block_bytes, self.term.blocks.load(Ordering::Relaxed))?;
        }
        match op {
            _ if !Offloads::default().has(op) => return Err(IoError::Unsupported),
            Op::Read { .. } => {}
            Op::Flush if self.term.verdict.is_failed() => return Err(IoError::FlushFailed),
            Op::Flush => {}
            _ if self.term.recipe.read_only => return Err(IoError::ReadOnly),
            _ if self.term.verdict.is_failed() => return Err(IoError::FlushFailed),
            Op::Unmap { .. } if medium.hole_bytes.is_none() => return Err(IoError::Unsupported),
            _ => {}
        }
        let manner =
            Manner { write_through: self.term.recipe.is_write_through(), is_direct: medium.is_direct };
        Ok(Job::begin(op, medium.block_bytes, manner))
    }

    fn go_on(&mut self, key: Key, next: Next) {
        let Link::Ready(ring) = &mut self.link else { return };
        match next {
            Next::Ask { step, aside } => {
                // It makes the device flush, as an fdatasync does.
                if step.is_durable()
                    && let Some(job) = ring.job(key)
                {
                    job.ticket.get_or_insert_with(|| self.term.verdict.begin(&mut self.desk));
                }
                ring.ask(key, step, aside);
            }
            Next::Sync => {
                self.syncs.waiting.push_back(key);
                self.sync();
            }
            Next::End(mut result) => {
                if let Some(job) = ring.job(key) {
                    if result.is_err_and(|error| job.is_failed_sync(error)) {
                        self.term.verdict.fail();
                    }
                    if let Some(ticket) = job.ticket.take() {
                        self.term.verdict.came(&mut self.desk, ticket);
                    }
                }
                let Some(io) = ring.remove(key) else { return };
                if ring.len() == 0 {
                    self.term.leave();
                }
                // Another channel's flush may have taken the error that this one should have met.
                if result.is_ok() && self.term.verdict.is_failed() && self.promises(io.op) {
                    result = Err(IoError::FlushFailed);
                }
                self.ended.push(Done { tag: io.tag, data: io.data, result });
            }
        }
    }

    /// Whether a good end of `op` says that something is on stable storage.
    pub(super) fn promises(&self, op: Op) -> bool {
        match op {
            Op::Flush | Op::Write { fua: true, .. } | Op::WriteZeroes { fua: true, .. } => true,
            Op::Write { .. } | Op::WriteZeroes { .. } | Op::Unmap { .. } => {
                self.term.recipe.is_write_through()
            }
            // Reads, and what a file cannot do by itself.
            _ => false,
        }
    }

    /// The one system call: the kernel is told what is new, and hands over what it kept.
    fn enter(&mut self) {
        if let Link::Ready(ring) = &mut self.link {
            ring.submit();
            self.was_owed = false;
        }
    }

    /// Goes on with everything that has come back.
    fn collect(&mut self) {
        while let Link::Ready(ring) = &mut self.link
            && let Some(came) = ring.came()
        {
            match came {
                Came::Sync(result) => self.synced(result),
                Came::Flight(key, result) => {
                    let Some(next) = ring.job(key).map(|job| job.came(result)) else { continue };
                    self.go_on(key, next);
                }
            }
        }
    }

    /// Begins a sync where one is wanted and none at work.
    fn sync(&mut self) {
        let Link::Ready(ring) = &mut self.link else { return };
        if self.syncs.served.is_empty() && !self.syncs.waiting.is_empty() {
            std::mem::swap(&mut self.syncs.served, &mut self.syncs.waiting);
            self.syncs.ticket = Some(self.term.verdict.begin(&mut self.desk));
            ring.ask_sync();
        }
    }

    fn synced(&mut self, result: i32) {
        let verdict = &self.term.verdict;
        let next = match outcome(result) {
            Ok(_) => Next::End(Ok(())),
            Err(Errno::AGAIN | Errno::INTR) => Next::Sync,
            Err(_) => {
                verdict.fail();
                Next::End(Err(IoError::FlushFailed))
            }
        };
        if let Some(ticket) = self.syncs.ticket.take() {
            verdict.came(&mut self.desk, ticket);
        }
        if next == Next::End(Ok(())) {
            verdict.doubt(&mut self.syncs.doubts);
            self.syncs.is_in_doubt = true;
            self.settle();
        } else {
            self.end_sync(next);
        }
    }

    /// Ends a sync that went well, when those that could have taken its failure have come back: of other channels, and this one's
    /// own durable writes.
    fn settle(&mut self) {
        if self.syncs.is_in_doubt && self.term.verdict.is_settled(&mut self.syncs.doubts) {
            self.syncs.is_in_doubt = false;
            // `go_on` looks at what they met.
            self.end_sync(Next::End(Ok(())));
        }
    }

    fn end_sync(&mut self, next: Next) {
        // `sync` begins none while any are served.
        for _ in 0..self.syncs.served.len() {
            let Some(key) = self.syncs.served.pop_front() else { break };
            match next {
                Next::End(_) => self.go_on(key, next),
                _ => self.syncs.waiting.push_back(key),
            }
        }
        self.sync();
    }
}

impl Drop for FileChannel {
    fn drop(&mut self) {
        self.term.verdict.leave(&mut self.desk);
        self.has_ring();
    }
}

impl Channel for FileChannel {
    fn state(&self) -> ChannelState {
        match self.link {
            // Nobody is to wait for it for ever.
            Link::Opening(_) if self.again_at.is_some() => ChannelState::Gone,
            Link::Opening(_) => ChannelState::Opening,
            Link::Ready(_) => ChannelState::Ready,
        }
    }

    /// # Panics
    /// Where a read or write has no memory, or less than its extent.
    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        self.connect(now);
        match self.state() {
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            ChannelState::Gone => return Err(Refused::Gone(io)),
            ChannelState::Ready if self.in_flight() >= FLIGHTS_MAX => return Err(Refused::Full(io)),
            // The medium is to be opened anew, when what is in flight has come back.
            ChannelState::Ready if self.term.next().is_some() => return Err(Refused::Full(io)),
            ChannelState::Ready => {}
        }
        match self.admit(io.op) {
            Err(error) => self.ended.push(Done { tag: io.tag, data: io.data, result: Err(error) }),
            Ok((job, next)) => {
                let Link::Ready(ring) = &mut self.link else { return Err(Refused::Gone(io)) };
                if ring.len() == 0 && !self.term.enter() {
                    return Err(Refused::NotReady(io));
                }
                let key = ring.insert(io, job).map_err(Refused::Full)?;
                self.go_on(key, next);
                // It begins while the turn's other requests are made. As what it has doubles each time, 32 requests to an idle
                // file take 6 calls.
                if let Link::Ready(ring) = &self.link
                    && ring.is_running_dry()
                {
                    self.enter();
                }
            }
        }
        Ok(())
    }

    fn does_at_once(&self) -> bool {
        matches!(self.link, Link::Ready(_)) && self.term.medium.get().is_some_and(|medium| medium.is_memory)
    }

    fn load(&mut self, lba: u64, data: &mut [u8], _now: Tick) -> bool {
        self.load_at_once(lba, data)
    }

    fn store(&mut self, lba: u64, data: &[u8], fua: bool, _now: Tick) -> bool {
        self.store_at_once(lba, data, fua)
    }

    fn kick(&mut self) {
        if let Link::Ready(ring) = &self.link
            && ring.has_unsubmitted()
        {
            self.enter();
        }
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.connect(now);
        self.collect();
        self.settle();
        let is_owed = match &mut self.link {
            Link::Ready(ring) => ring.is_owed(),
            Link::Opening(_) => false,
        };
        // Whatever system call the thread makes next brings them. Only one who made none in a whole turn has to ask.
        if is_owed && self.was_owed && self.ended.is_empty() {
            self.enter();
            self.collect();
        } else {
            self.was_owed = is_owed;
        }
        // What goes on.
        self.kick();
        self.ended.poll(out, max);
    }

    /// The kernel gives up what it has not begun.
    fn cancel(&mut self, tag: Key) {
        if let Link::Ready(ring) = &mut self.link {
            ring.cancel(tag);
        }
        self.kick();
    }

    fn fence(&mut self) -> Fence {
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        match &self.link {
            // No descriptor tells when the syncs of other channels are back.
            _ if !self.ended.is_empty() || self.syncs.is_in_doubt => Wake::MustPoll,
            Link::Ready(ring) if ring.has_unsubmitted() => Wake::MustPoll,
            Link::Ready(ring) if ring.len() > 0 => Wake::Fd(ring.fd()),
            _ => Wake::Idle,
        }
    }

    fn in_flight(&self) -> u32 {
        self.flights() + self.ended.len()
    }
}
