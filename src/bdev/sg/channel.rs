//! One reactor's way to a passed-through device: an open file of its own, which is polled.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::slots::{Answer, Slots, read};
use super::told;
use super::worker::Link;
use super::{FLIGHTS_MAX, Opened, Shared};
use crate::bdev::pass::{Flow, Told};
use crate::bdev::queue::DoneQueue;
use crate::bdev::{Channel, ChannelState, Done, Fence, Io, IoError, Op, Refused, Wake};
use crate::limits::PROBE_NS;
use crate::slab::Key;
use crate::time::Tick;

#[derive(Debug)]
pub(super) struct SgChannel {
    shared: Arc<Shared>,
    /// The device behind the file.
    opened: Option<Arc<Opened>>,
    /// The same for all files, as a reactor knows its descriptor by number. None where there was no room.
    link: Option<Arc<Link>>,
    way: Way,
    /// How often the device had been found when a file was asked for last.
    round: u64,
    /// When a file was asked for once more last, after one was refused.
    tried_at: Option<Tick>,
    slots: Slots,
    flights: [Flight; FLIGHTS_MAX],
    /// The file wakes the reactor: while it has commands, and there is memory for it.
    is_watched: bool,
    /// What ended.
    ended: DoneQueue,
}

/// The way to the device.
#[derive(Debug)]
enum Way {
    /// It has not been found yet.
    Absent,
    /// A file is being opened.
    Opening,
    Ready(Arc<OwnedFd>),
    /// The device is gone. What the kernel has of it is answered through the file yet.
    Leaving(Arc<OwnedFd>),
    Gone,
    /// The device is there, and there is no file for this channel: it is asked for again when it is used.
    Refused,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

/// What a slot is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flight {
    Free,
    /// The driver has it; so many bytes were moved by the parts before this one, and so many this one moves.
    Asked {
        done_bytes: u32,
        part_bytes: u32,
    },
    /// It has ended, and how has not been asked yet.
    Told {
        tag: Key,
        told: Told,
    },
}

impl SgChannel {
    pub(super) fn new(shared: Arc<Shared>) -> SgChannel {
        let mut channel = SgChannel {
            shared,
            opened: None,
            link: Link::new().ok(),
            way: Way::Absent,
            round: 0,
            tried_at: None,
            slots: Slots::new(FLIGHTS_MAX),
            flights: [Flight::Free; FLIGHTS_MAX],
            is_watched: false,
            ended: DoneQueue::new(),
        };
        channel.connect();
        channel
    }

    /// Gets a file once the device has been found, or found again.
    fn connect(&mut self) {
        if let Way::Ready(_) = self.way {
            if !self.shared.worker.get().is_some_and(|worker| worker.is_lost(self.round)) {
                return;
            }
            self.leave();
        }
        self.part();
        if let Way::Leaving(_) = self.way {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let Some(worker) = shared.worker.get() else { return };
        let Ok(link) = self.link.clone().map_or_else(Link::new, Ok) else { return };
        if let Way::Absent | Way::Gone | Way::Refused = self.way
            && worker.round() > self.round
            && worker.open(&link)
        {
            self.round = worker.round();
            self.way = Way::Opening;
        }
        if let Way::Opening = self.way
            && let Some(opened) = link.opened()
        {
            // Of a former file, whose commands have been given up.
            while link.refused().is_some() {}
            match opened {
                Ok((opened, file)) => {
                    self.round = opened.round;
                    self.opened = Some(opened);
                    self.way = Way::Ready(file);
                }
                Err(errno) if told::is_gone(errno) => self.lose(),
                Err(_) => self.way = Way::Refused,
            }
        }
        self.link = Some(link);
    }

    fn asked(&self) -> usize {
        self.flights.iter().filter(|flight| matches!(flight, Flight::Asked { .. })).count()
    }

    /// Has the file wake the reactor if and only if something is to come.
    fn watch(&mut self) {
        let is_wanted = self.asked() > 0;
        let (Some(link), Way::Ready(file) | Way::Leaving(file)) = (&self.link, &self.way) else { return };
        match (is_wanted, self.is_watched) {
            (true, false) => self.is_watched = link.watch(file),
            (false, true) => {
                link.unwatch(file);
                self.is_watched = false;
            }
            _ => {}
        }
    }

    /// Asks the device for a command, or for what is left of it from `done_bytes` on.
    fn ask(&mut self, slot: usize, done_bytes: u32) {
        let Some(opened) = &self.opened else { return };
        let Some((Io { op: Op::Pass { cdb, flow, bytes }, .. }, _)) = self.slots.get(slot) else { return };
        let (cdb, part_bytes) = opened.part(cdb, done_bytes, *bytes);
        let (flow, timeout_ms) = (*flow, opened.timeout_ms(&cdb, self.shared.timeout_ms));
        let ask = self.slots.ask(slot, cdb, (flow, done_bytes as usize, part_bytes), timeout_ms);
        self.flights[slot] = Flight::Asked { done_bytes, part_bytes };
        let is_sent = match (&self.way, &self.link, self.shared.worker.get()) {
            (Way::Ready(file), Some(link), Some(worker)) => worker.ask(link, file, slot, ask),
            // What is left of a command whose device has gone meanwhile. The queue holds what all channels have.
            _ => false,
        };
        if !is_sent {
            self.slots.answered(slot);
            self.end(slot, Err(IoError::Gone));
        }
    }

    /// A command is over.
    fn end(&mut self, slot: usize, told: Result<Told, IoError>) {
        let Some(io) = self.slots.take(slot) else { return };
        self.flights[slot] = match told {
            Ok(told) => Flight::Told { tag: io.tag, told },
            Err(_) => Flight::Free,
        };
        self.ended.push(Done { tag: io.tag, data: io.data, result: told.map(drop) });
    }

    fn answered(&mut self, answer: &Answer) {
        let slot = answer.slot;
        let Some(&Flight::Asked { done_bytes, part_bytes }) = self.flights.get(slot) else { return };
        if !self.slots.answered(slot) {
            return;
        }
        let block_bytes = self.opened.as_ref().and_then(|opened| opened.block_bytes());
        let Some((io, sense)) = self.slots.get(slot) else { return };
        let Op::Pass { cdb, flow, bytes } = io.op else { return };
        let told = told::of_answer(answer, sense).map(|told| {
            let moved = done_bytes + part_bytes.saturating_sub(told.residual_bytes);
            Told { residual_bytes: bytes.saturating_sub(moved), ..told }
        });
        let is_whole = told.is_ok_and(|told| told.status == 0)
            && answer.residual_bytes == 0
            && done_bytes + part_bytes < bytes;
        if is_whole {
            return self.ask(slot, done_bytes + part_bytes);
        }
        if let (Ok(told), Flow::In, Some(data)) = (told, flow, &mut io.data) {
            let moved = bytes.saturating_sub(told.residual_bytes) as usize;
            if let Some(data) = data.get_mut(..moved) {
                told::amend(&cdb, block_bytes, data);
            }
        }
        self.end(slot, told);
    }

    /// Takes in what has come back.
    fn collect(&mut self) {
        while let Way::Ready(_) | Way::Leaving(_) = self.way
            && let Some((slot, errno)) = self.link.as_ref().and_then(|link| link.refused())
        {
            self.refused(slot, errno);
        }
        if self.is_watched && !self.link.as_ref().is_some_and(|link| link.has_come()) {
            return;
        }
        // As many as can have come.
        for _ in 0..self.asked() {
            let (Way::Ready(file) | Way::Leaving(file)) = &self.way else { return };
            match read(file.as_fd()) {
                Ok(Some(answer)) => self.answered(&answer),
                Ok(None) => return,
                // The driver says so while it has nothing to tell, and goes on to tell what becomes of the commands it has.
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NODEV | Errno::NXIO)) => {
                    return self.leave();
                }
                Err(_) => return self.lose(),
            }
        }
    }

    /// The driver did not take a command.
    fn refused(&mut self, slot: usize, errno: Errno) {
        self.slots.answered(slot);
        let done_bytes = match self.flights.get(slot) {
            Some(&Flight::Asked { done_bytes, .. }) => done_bytes,
            _ => 0,
        };
        let Some((io, sense)) = self.slots.get(slot) else { return };
        let Op::Pass { bytes, .. } = io.op else { return };
        let told = told::of_refusal(errno, sense);
        let told = told.map(|told| Told { residual_bytes: bytes.saturating_sub(done_bytes), ..told });
        self.end(slot, told);
        if told::is_gone(errno) {
            self.leave();
        }
    }

    /// The device is gone, and looked for. No more commands are asked of this file; what it has yet to answer is waited for.
    fn leave(&mut self) {
        if let Way::Ready(file) = &self.way {
            self.way = Way::Leaving(Arc::clone(file));
        }
        if let Some(worker) = self.shared.worker.get() {
            worker.lose(self.round);
        }
    }

    /// Lets go of the file of a device that is gone, once everything is answered.
    fn part(&mut self) {
        if let Way::Leaving(_) = self.way
            && self.asked() == 0
        {
            self.close();
        }
    }

    /// Lets go of the file.
    fn close(&mut self) {
        if let (true, Some(link), Way::Ready(file) | Way::Leaving(file)) =
            (self.is_watched, &self.link, &self.way)
        {
            link.unwatch(file);
        }
        self.is_watched = false;
        self.way = Way::Gone;
    }

    /// Nothing more comes from the file. What the driver has keeps its memory for ever. The device is looked for.
    fn lose(&mut self) {
        self.leave();
        self.close();
        for slot in 0..FLIGHTS_MAX {
            if let Flight::Asked { .. } = self.flights[slot]
                && let Some(tag) = self.slots.abandon(slot)
            {
                self.flights[slot] = Flight::Free;
                self.ended.push(Done { tag, data: None, result: Err(IoError::Gone) });
            }
        }
    }
}

impl Channel for SgChannel {
    fn state(&self) -> ChannelState {
        match self.way {
            Way::Absent | Way::Opening => ChannelState::Opening,
            Way::Ready(_) => ChannelState::Ready,
            Way::Leaving(_) | Way::Gone | Way::Refused => ChannelState::Gone,
        }
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        let is_due = self.tried_at.is_none_or(|tried_at| now >= tried_at.after_ns(PROBE_NS));
        if let Way::Refused = self.way
            && is_due
        {
            // As before the first file: any round will do. What waits for this one is told if it is refused again.
            (self.way, self.round, self.tried_at) = (Way::Absent, 0, Some(now));
        }
        self.connect();
        match self.state() {
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            ChannelState::Gone => return Err(Refused::Gone(io)),
            ChannelState::Ready if self.ended.is_full() => return Err(Refused::Full(io)),
            ChannelState::Ready => {}
        }
        let Op::Pass { .. } = io.op else {
            self.ended.push(Done { tag: io.tag, data: io.data, result: Err(IoError::Unsupported) });
            return Ok(());
        };
        let Some(slot) = self.flights.iter().position(|flight| *flight == Flight::Free) else {
            return Err(Refused::Full(io));
        };
        self.slots.put(slot, io);
        self.ask(slot, 0);
        self.watch();
        Ok(())
    }

    fn told(&mut self, tag: Key, sense: &mut [u8]) -> Option<Told> {
        let is_it = |flight: &Flight| matches!(flight, Flight::Told { tag: of, .. } if *of == tag);
        let slot = self.flights.iter().position(is_it)?;
        let Flight::Told { told, .. } = std::mem::replace(&mut self.flights[slot], Flight::Free) else {
            return None;
        };
        let sense_bytes = told.sense_bytes.min(sense.len());
        sense[..sense_bytes].copy_from_slice(&self.slots.sense(slot)[..sense_bytes]);
        Some(Told { sense_bytes, ..told })
    }

    fn kick(&mut self) {}

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, _now: Tick) {
        self.connect();
        self.collect();
        self.part();
        self.watch();
        self.ended.poll(out, max);
    }

    /// The driver has no way to take one command back.
    fn cancel(&mut self, _tag: Key) {}

    fn fence(&mut self) -> Fence {
        Fence::Cannot
    }

    fn wake(&self) -> Wake {
        match &self.link {
            _ if !self.ended.is_empty() => Wake::MustPoll,
            _ if self.asked() == 0 => Wake::Idle,
            Some(link) if self.is_watched => Wake::Fd(link.fd()),
            _ => Wake::MustPoll,
        }
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.asked()).unwrap_or(u32::MAX) + self.ended.len()
    }
}
