//! One reactor's channel to a bdev of SPDK's.
//!
//! IOs are kept until the doorbell, then all of them are handed to SPDK in one go, from the reactor's seat. SPDK knows no FUA:
//! such a write is followed by a flush.
//!
//! An island of `unsafe`: it hands memory to SPDK.
#![expect(unsafe_code, reason = "the memory of IOs is SPDK's until they end")]

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::caretaker::Order;
use super::dma::{self, DmaMemory};
use super::flight::{Call, Slots};
use super::line::{Line, Stage};
use crate::bdev::queue::{DoneQueue, IN_FLIGHT_MAX, extent_bytes};
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// A dropped channel waits for SPDK to give memory back for so long; then the memory is lost.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The channel. Invariant: flights and what is done are together at most [`IN_FLIGHT_MAX`].
#[derive(Debug)]
pub(super) struct SpdkChannel {
    line: Arc<Line>,
    orders: Sender<Order>,
    /// The devices reach registered memory only; else all memory is the same to them.
    needs_dma: bool,
    flights: Slab<Flight>,
    /// The keys of flights, by index, for callbacks.
    slots: Slots,
    /// Flights that SPDK has not got.
    waiting: VecDeque<Key>,
    /// Flights that SPDK has.
    in_spdk: u32,
    /// It has taken its seat. Invariant: while SPDK has any.
    is_seated: bool,
    /// See [`super::seat::Seat::poll_once`].
    polls_seen: u32,
    /// Memory for devices, by the index of the flight that first needed it.
    bounces: Box<[Option<DmaMemory>]>,
    done: DoneQueue,
}

#[derive(Debug)]
struct Flight {
    io: Io,
    call: Call,
    /// What has to be durable before it is done.
    flushes_after: bool,
    /// Its data are in `bounces`.
    is_bounced: bool,
}

impl SpdkChannel {
    pub(super) fn new(line: Arc<Line>, orders: Sender<Order>, needs_dma: bool) -> SpdkChannel {
        SpdkChannel {
            line,
            orders,
            needs_dma,
            flights: Slab::new(IN_FLIGHT_MAX),
            slots: Slots::new(),
            waiting: VecDeque::with_capacity(IN_FLIGHT_MAX as usize),
            in_spdk: 0,
            is_seated: false,
            polls_seen: 0,
            bounces: (0..IN_FLIGHT_MAX).map(|_| None).collect(),
            done: DoneQueue::new(),
        }
    }

    /// What begins an IO, and whether a flush follows; `None`: there is nothing to do. Or why it does not begin.
    fn admit(&self, io: &Io) -> Result<Option<(Call, bool)>, IoError> {
        let disk = &self.line.disk;
        if let Some((lba, blocks)) = io.op.extent() {
            let extent = extent_bytes(lba, blocks, disk.block_bytes(), disk.blocks())?;
            let has_data = matches!(io.op, Op::Read { .. } | Op::Write { .. });
            let is_enough = io.data.as_ref().is_some_and(|data| data.len() >= extent.len());
            assert!(!has_data || is_enough, "a read or write comes with memory, as long as its extent");
        }
        if disk.is_read_only() && !matches!(io.op, Op::Read { .. } | Op::Flush) {
            return Err(IoError::ReadOnly);
        }
        let is_cached = disk.has_write_cache();
        Ok(Some(match io.op {
            Op::Read { lba, blocks } => (Call::Read { lba, blocks }, false),
            Op::Write { lba, blocks, fua } => (Call::Write { lba, blocks }, fua && is_cached),
            Op::WriteZeroes { lba, blocks, fua, .. } => (Call::Zero { lba, blocks }, fua && is_cached),
            Op::Unmap { .. } if !disk.can_unmap() => return Err(IoError::Unsupported),
            Op::Unmap { lba, blocks } => (Call::Unmap { lba, blocks }, false),
            Op::Flush if disk.is_read_only() => return Ok(None),
            Op::Flush if disk.can_flush => (Call::Flush, false),
            // Without a cache everything is durable when it is done.
            Op::Flush if !is_cached => return Ok(None),
            // A flush of a cache that cannot be flushed, and what is not offered.
            _ => return Err(IoError::Unsupported),
        }))
    }

    fn end(&mut self, key: Key, result: Result<(), IoError>) {
        let Some(flight) = self.flights.remove(key) else { return };
        self.done.push(Done { tag: flight.io.tag, data: flight.io.data, result });
    }

    /// Hands over what waits, as far as SPDK has room.
    fn submit_waiting(&mut self) {
        if self.waiting.is_empty() || self.line.disk.is_resetting() {
            return;
        }
        let line = Arc::clone(&self.line);
        let Some(seat) = line.seat() else { return };
        if !self.is_seated {
            self.is_seated = seat.take();
        }
        if !self.is_seated {
            return;
        }
        seat.enter(|| {
            for _ in 0..self.waiting.len() {
                let Some(key) = self.waiting.pop_front() else { break };
                match self.hand_over(key) {
                    Some(Ok(())) => self.in_spdk += 1,
                    Some(Err(error)) => self.end(key, Err(error)),
                    None => {
                        self.waiting.push_front(key);
                        break;
                    }
                }
            }
        });
    }

    /// See [`Slots::call`].
    fn hand_over(&mut self, key: Key) -> Option<Result<(), IoError>> {
        let Some(flight) = self.flights.get_mut(key) else { return Some(Ok(())) };
        let mut memory = std::ptr::null_mut();
        if let (Call::Read { blocks, .. } | Call::Write { blocks, .. }, Some(data)) =
            (flight.call, &mut flight.io.data)
        {
            let bytes = blocks as usize * self.line.disk.block_bytes() as usize;
            flight.is_bounced = self.needs_dma && !dma::is_known(&data[..bytes]);
            memory = if flight.is_bounced {
                let bounce = self.bounces.get_mut(key.index as usize)?;
                if bounce.as_ref().is_none_or(|bounce| bounce.bytes() < bytes) {
                    *bounce = DmaMemory::new(bytes);
                }
                let bounce = bounce.as_mut()?;
                if matches!(flight.call, Call::Write { .. }) {
                    bounce.as_mut_slice()[..bytes].copy_from_slice(&data[..bytes]);
                }
                bounce.as_mut_ptr()
            } else {
                data.as_mut_ptr()
            };
        }
        // SAFETY: a key's index is one flight's at a time; `admit` and the lines above saw to the length, and the memory, the
        // slots and the bounces stay with this channel, untouched, until `collect` has seen the end: see `Drop`.
        unsafe { self.slots.call(&self.line, key.index, flight.call, memory) }
    }

    /// Takes what SPDK has ended, and goes on with it.
    fn collect(&mut self) {
        while let Some((index, result)) = self.slots.came() {
            self.in_spdk -= 1;
            let Some(key) = self.flights.key_at(index) else { continue };
            let Some(flight) = self.flights.get_mut(key) else { continue };
            if flight.is_bounced
                && let (Call::Read { blocks, .. }, Some(data)) = (flight.call, &mut flight.io.data)
                && let Some(Some(bounce)) = self.bounces.get_mut(index as usize)
            {
                let bytes = blocks as usize * self.line.disk.block_bytes() as usize;
                data[..bytes].copy_from_slice(&bounce.as_mut_slice()[..bytes]);
            }
            match result {
                Ok(()) if flight.flushes_after => {
                    flight.flushes_after = false;
                    flight.call = Call::Flush;
                    self.waiting.push_back(key);
                }
                Err(IoError::Medium { .. }) if self.line.disk.is_removed() => {
                    self.end(key, Err(IoError::Gone))
                }
                Err(IoError::Medium { .. }) if flight.call == Call::Flush => {
                    self.end(key, Err(IoError::FlushFailed));
                }
                result => self.end(key, result),
            }
        }
    }

    /// One round: polls SPDK, takes what it has ended, hands over what waits.
    fn round(&mut self) {
        if self.is_seated
            && let Some(seat) = self.line.seat()
        {
            seat.poll_once(&mut self.polls_seen);
        }
        self.collect();
        self.submit_waiting();
        if self.is_seated
            && self.in_spdk == 0
            && self.waiting.is_empty()
            && let Some(seat) = self.line.seat()
        {
            seat.leave();
            self.is_seated = false;
        }
    }

    /// Gives up what SPDK has not got.
    fn drop_waiting(&mut self) {
        while let Some(key) = self.waiting.pop_front() {
            self.end(key, Err(IoError::Cancelled));
        }
    }
}

impl Channel for SpdkChannel {
    fn state(&self) -> ChannelState {
        match self.line.stage() {
            _ if self.line.disk.is_removed() => ChannelState::Gone,
            Stage::Opening => ChannelState::Opening,
            Stage::Ready => ChannelState::Ready,
            Stage::Failed | Stage::Closing | Stage::Closed => ChannelState::Gone,
        }
    }

    /// # Panics
    /// Where a read or write has no memory, or less than its extent.
    fn submit(&mut self, io: Io, _now: Tick) -> Result<(), Refused> {
        match self.state() {
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            ChannelState::Gone => return Err(Refused::Gone(io)),
            ChannelState::Ready if self.in_flight() >= IN_FLIGHT_MAX => return Err(Refused::Full(io)),
            ChannelState::Ready => {}
        }
        match self.admit(&io) {
            Err(error) => self.done.push(Done { tag: io.tag, data: io.data, result: Err(error) }),
            Ok(None) => self.done.push(Done { tag: io.tag, data: io.data, result: Ok(()) }),
            Ok(Some((call, flushes_after))) => {
                let flight = Flight { io, call, flushes_after, is_bounced: false };
                let key = self.flights.insert(flight).map_err(|flight| Refused::Full(flight.io))?;
                self.waiting.push_back(key);
            }
        }
        Ok(())
    }

    fn kick(&mut self) {
        self.submit_waiting();
    }

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, _now: Tick) {
        self.round();
        self.done.poll(out, max);
    }

    /// What SPDK has not got is given up; what it has, where the bdev can abort.
    fn cancel(&mut self, tag: Key) {
        let found = self.flights.iter().find(|(_, flight)| flight.io.tag == tag).map(|(key, _)| key);
        let Some(key) = found else { return };
        if let Some(place) = self.waiting.iter().position(|waiting| *waiting == key) {
            let is_begun = self.flights.get(key).is_some_and(is_second_call);
            if !is_begun {
                self.waiting.remove(place);
                self.end(key, Err(IoError::Cancelled));
            }
            return;
        }
        if self.is_seated
            && let Some(seat) = self.line.seat()
        {
            seat.enter(|| self.line.abort(self.slots.context(key.index)));
        }
    }

    /// SPDK's way is a reset of the bdev, on all channels: it is begun here, and its effect comes with each IO's end.
    fn fence(&mut self) -> Fence {
        self.drop_waiting();
        if self.in_spdk == 0 {
            return Fence::Fenced;
        }
        if let Some(seat) = self.line.seat() {
            seat.enter(|| self.line.reset());
        }
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        if self.in_flight() > 0 || self.is_seated { Wake::MustPoll } else { Wake::Idle }
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.flights.len()).unwrap_or(u32::MAX).saturating_add(self.done.len())
    }
}

/// Whether it is at the flush that makes a write durable.
fn is_second_call(flight: &Flight) -> bool {
    flight.call == Call::Flush && flight.io.op != Op::Flush
}

impl Drop for SpdkChannel {
    /// Reactors drop a channel when nothing is in it, but at the end of the process. Then a device that hangs must not keep it
    /// for ever.
    #[expect(clippy::disallowed_methods, reason = "nothing else runs on this reactor any more")]
    fn drop(&mut self) {
        self.drop_waiting();
        let until = Instant::now() + LAST_WAIT;
        while self.is_seated && Instant::now() < until {
            self.round();
            self.drop_waiting();
            std::hint::spin_loop();
        }
        if self.in_spdk > 0 {
            // SPDK may still write to all of this. The seat stays taken, and the line open, for ever.
            mem::forget(mem::replace(&mut self.flights, Slab::new(0)));
            mem::forget(mem::replace(&mut self.slots, Slots::new()));
            mem::forget(mem::take(&mut self.bounces));
            return;
        }
        // A caretaker that has ended has nothing to close.
        let _ = self.orders.send(Order::Close(Arc::clone(&self.line)));
    }
}
