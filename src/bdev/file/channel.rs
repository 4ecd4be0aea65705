//! One reactor's channel to a file: a ring of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::Shared;
use super::job::{Job, Manner, Next, outcome};
use super::ring::{Came, FLIGHTS_MAX, Ring};
use crate::bdev::queue::{DoneQueue, extent_bytes};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::slab::Key;
use crate::time::Tick;

#[derive(Debug)]
pub(super) struct FileChannel {
    shared: Arc<Shared>,
    link: Link,
    syncs: Syncs,
    /// What ended. Invariant: together with the flights at most [`FLIGHTS_MAX`].
    ended: DoneQueue,
}

/// The way to the medium.
#[derive(Debug)]
enum Link {
    /// The medium has not been opened yet.
    Opening,
    Ready(Box<Ring>),
    /// There was no ring to be had.
    Gone,
}

/// Flights that wait for an fdatasync. One at a time serves all that came before it; and so an error of the page
/// cache, which the kernel tells once only, ends every flight that it concerns.
#[derive(Debug)]
struct Syncs {
    /// Served by the sync at work; empty where there is none.
    served: VecDeque<Key>,
    /// For the next.
    waiting: VecDeque<Key>,
}

impl FileChannel {
    pub(super) fn new(shared: Arc<Shared>) -> FileChannel {
        let room = || VecDeque::with_capacity(FLIGHTS_MAX as usize);
        let syncs = Syncs { served: room(), waiting: room() };
        let mut channel = FileChannel { shared, link: Link::Opening, syncs, ended: DoneQueue::new() };
        channel.connect();
        channel
    }

    /// Makes the ring once there is a medium.
    fn connect(&mut self) {
        if let (Link::Opening, Some(medium)) = (&self.link, self.shared.medium.get()) {
            self.link = Ring::new(Arc::clone(medium)).map_or(Link::Gone, |ring| Link::Ready(Box::new(ring)));
        }
    }

    /// What begins an IO, or why it does not begin.
    fn admit(&self, op: Op) -> Result<(Job, Next), IoError> {
        let Some(medium) = self.shared.medium.get() else { return Err(IoError::Gone) };
        if let Some((lba, blocks)) = op.extent() {
            extent_bytes(lba, blocks, medium.block_bytes, self.shared.blocks.load(Ordering::Relaxed))?;
        }
        match op {
            Op::Read { .. } => {}
            Op::Flush if self.shared.is_flush_failed() => return Err(IoError::FlushFailed),
            Op::Flush => {}
            _ if self.shared.recipe.read_only => return Err(IoError::ReadOnly),
            _ if self.shared.is_flush_failed() => return Err(IoError::FlushFailed),
            Op::Unmap { .. } if medium.hole_bytes.is_none() => return Err(IoError::Unsupported),
            _ => {}
        }
        let manner =
            Manner { write_through: self.shared.recipe.is_write_through(), is_direct: medium.is_direct };
        Ok(Job::begin(op, medium.block_bytes, manner))
    }

    fn go_on(&mut self, key: Key, next: Next) {
        let Link::Ready(ring) = &mut self.link else { return };
        match next {
            Next::Ask { step, aside } => ring.ask(key, step, aside),
            Next::Sync => {
                self.syncs.waiting.push_back(key);
                self.sync();
            }
            Next::End(mut result) => {
                if let (Err(error), Some(job)) = (result, ring.job(key))
                    && job.is_failed_sync(error)
                {
                    self.shared.flush_failed.store(true, Ordering::Release);
                }
                let Some(io) = ring.remove(key) else { return };
                // Another channel's flush may have taken the error that this one should have met.
                if result.is_ok() && self.shared.is_flush_failed() && self.promises(io.op) {
                    result = Err(IoError::FlushFailed);
                }
                self.ended.push(Done { tag: io.tag, data: io.data, result });
            }
        }
    }

    /// Whether a good end of `op` says that something is on stable storage.
    fn promises(&self, op: Op) -> bool {
        match op {
            Op::Read { .. } => false,
            Op::Flush | Op::Write { fua: true, .. } | Op::WriteZeroes { fua: true, .. } => true,
            Op::Write { .. } | Op::WriteZeroes { .. } | Op::Unmap { .. } => {
                self.shared.recipe.is_write_through()
            }
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
            ring.ask_sync();
        }
    }

    fn synced(&mut self, result: i32) {
        let next = match outcome(result) {
            Ok(_) => Next::End(Ok(())),
            Err(Errno::AGAIN | Errno::INTR) => Next::Sync,
            Err(_) => {
                self.shared.flush_failed.store(true, Ordering::Release);
                Next::End(Err(IoError::FlushFailed))
            }
        };
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

impl Channel for FileChannel {
    fn state(&self) -> ChannelState {
        match self.link {
            Link::Opening => ChannelState::Opening,
            Link::Ready(_) => ChannelState::Ready,
            Link::Gone => ChannelState::Gone,
        }
    }

    /// # Panics
    /// Where a read or write has no memory, or less than its extent.
    fn submit(&mut self, io: Io, _now: Tick) -> Result<(), Refused> {
        self.connect();
        match self.state() {
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            ChannelState::Gone => return Err(Refused::Gone(io)),
            ChannelState::Ready if self.in_flight() >= FLIGHTS_MAX => return Err(Refused::Full(io)),
            ChannelState::Ready => {}
        }
        match self.admit(io.op) {
            Err(error) => self.ended.push(Done { tag: io.tag, data: io.data, result: Err(error) }),
            Ok((job, next)) => {
                let Link::Ready(ring) = &mut self.link else { return Err(Refused::Gone(io)) };
                let key = ring.insert(io, job).map_err(Refused::Full)?;
                self.go_on(key, next);
            }
        }
        Ok(())
    }

    fn kick(&mut self) {
        if let Link::Ready(ring) = &mut self.link
            && ring.has_unsubmitted()
        {
            ring.submit();
        }
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, _now: Tick) {
        self.connect();
        self.collect();
        if let Link::Ready(ring) = &mut self.link
            && self.ended.is_empty()
            && ring.is_owed()
        {
            ring.submit();
            self.collect();
        }
        // What goes on.
        self.kick();
        self.ended.poll(out, max);
    }

    /// The kernel gives up what it has not begun.
    fn cancel(&mut self, tag: Key) {
        if let Link::Ready(ring) = &mut self.link {
            ring.cancel(tag);
            ring.submit();
        }
    }

    fn fence(&mut self) -> Fence {
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        match &self.link {
            _ if !self.ended.is_empty() => Wake::MustPoll,
            Link::Ready(ring) if ring.has_unsubmitted() => Wake::MustPoll,
            Link::Ready(ring) if ring.len() > 0 => Wake::Fd(ring.fd()),
            _ => Wake::Idle,
        }
    }

    fn in_flight(&self) -> u32 {
        let flights = if let Link::Ready(ring) = &self.link { ring.len() } else { 0 };
        flights + self.ended.len()
    }
}
