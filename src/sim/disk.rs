//! A disk whose IOs end when the world says so, with a volatile cache.
//!
//! A block's content is a *stamp*: a number from which all of its bytes follow, so that a block made of parts of two
//! writes, or shifted, is recognised. An IO takes effect at the moment the world ends it ([`Disk::end_one`]), which may be
//! long before its reactor polls; a write lands from a copy of its buffer as it was when submitted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::rng::Rng;
use crate::bdev::{
    Bdev, Channel, ChannelState, Done, Fence, Info, Io, IoError, Offloads, Op, Refused, Unmap, Wake,
};
use crate::buf::{Lender, Lent, Medium, Memory, Pages};
use crate::id::ReactorId;
use crate::slab::Key;
use crate::time::Tick;

/// What a block holds.
pub type Stamp = u64;

/// The stamp of a block that no one write has made: content of several, or of none.
pub const TORN: Stamp = u64::MAX;

/// The stamp of a block that was unmapped or written with zeroes.
pub const ZEROES: Stamp = u64::MAX - 1;

/// Distance between the eight-byte words of a block, so that each is unlike the others.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Writes a stamped block.
pub fn fill(block: &mut [u8], stamp: Stamp) {
    if stamp == ZEROES {
        return block.fill(0);
    }
    let mut word = stamp;
    for bytes in block.chunks_exact_mut(8) {
        bytes.copy_from_slice(&word.to_le_bytes());
        word = word.wrapping_add(STEP);
    }
}

/// The stamp of a block; [`TORN`] where it is not all of one piece.
pub fn stamp_of(block: &[u8]) -> Stamp {
    if block.iter().all(|byte| *byte == 0) {
        return ZEROES;
    }
    let mut words = block.chunks_exact(8).map(|bytes| bytes.try_into().map_or(TORN, u64::from_le_bytes));
    let Some(stamp) = words.next() else { return TORN };
    let mut expected = stamp;
    for word in words {
        expected = expected.wrapping_add(STEP);
        if word != expected {
            return TORN;
        }
    }
    stamp
}

/// What has happened at a disk, for the oracle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// A block has been written.
    Landed {
        /// Which.
        lba: u64,
        /// With what.
        stamp: Stamp,
    },
    /// An IO was submitted beyond what the reactor has acknowledged as the disk's size ([`Disk::set_limit`]).
    Beyond {
        /// Who.
        reactor: ReactorId,
        /// What.
        op: Op,
    },
}

#[derive(Debug)]
struct Flying {
    serial: u64,
    reactor: ReactorId,
    tag: Key,
    op: Op,
    /// To be written, or as read.
    stamps: Vec<Stamp>,
    due: Tick,
    result: Option<Result<(), IoError>>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    block_bytes: u32,
    /// As told by `info`.
    blocks: u64,
    durable: Vec<Stamp>,
    /// Contents not known to be durable, oldest first, each with the serial number of its landing.
    cached: BTreeMap<u64, Vec<(u64, Stamp)>>,
    flying: Vec<Flying>,
    serial: u64,
    queue_max: usize,
    state: ChannelState,
    failures: u32,
    /// In what they end; none: in what is wrong with a medium.
    failure: Option<IoError>,
    can_fence: bool,
    honours_cancel: bool,
    latency_ns_max: u64,
    limits: BTreeMap<ReactorId, u64>,
    notes: Vec<Note>,
    rng: Rng,
    /// What the blocks hold, as bytes: what is lent of them.
    medium: Arc<Medium>,
}

/// A disk, shared by the world and by the target.
#[derive(Clone, Debug)]
pub struct Disk {
    shared: Arc<Mutex<Shared>>,
}

impl Disk {
    /// A disk of zero stamps. Its medium has `blocks` blocks, whatever [`Disk::tell_blocks`] says later.
    pub fn new(name: &str, blocks: u64, block_bytes: u32, rng: Rng) -> Disk {
        let bytes = usize::try_from(blocks).unwrap_or(0) * block_bytes as usize;
        let memory = Memory::map(bytes, Pages::Ordinary).expect("a simulated disk is small");
        let mut shared = Shared {
            medium: Arc::new(Medium::new(memory)),
            name: name.to_owned(),
            block_bytes,
            blocks,
            durable: vec![0; usize::try_from(blocks).unwrap_or(0)],
            cached: BTreeMap::new(),
            flying: Vec::new(),
            serial: 0,
            queue_max: 64,
            state: ChannelState::Ready,
            failures: 0,
            failure: None,
            can_fence: true,
            honours_cancel: true,
            latency_ns_max: 2_000_000,
            limits: BTreeMap::new(),
            notes: Vec::new(),
            rng,
        };
        for lba in 0..blocks {
            shared.show(lba, 0);
        }
        Disk { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("the world has one thread, and ends with its first panic")
    }

    /// The size that `info` tells from now on. The medium keeps all of its blocks: who checks wrongly is not saved by
    /// the disk.
    pub fn tell_blocks(&self, blocks: u64) {
        self.lock().blocks = blocks;
    }

    /// Refuses what it has not room for from now on.
    pub fn set_queue_max(&self, queue_max: usize) {
        self.lock().queue_max = queue_max;
    }

    /// Ready, or opening again.
    pub fn set_state(&self, state: ChannelState) {
        self.lock().state = state;
    }

    /// The next so many IOs fail.
    pub fn fail_next(&self, count: u32) {
        let mut shared = self.lock();
        (shared.failures, shared.failure) = (count, None);
    }

    /// The next so many IOs fail with this.
    pub fn fail_next_with(&self, count: u32, error: IoError) {
        let mut shared = self.lock();
        (shared.failures, shared.failure) = (count, Some(error));
    }

    /// Whether a fence and a wish to cancel get through.
    pub fn set_manners(&self, can_fence: bool, honours_cancel: bool) {
        let mut shared = self.lock();
        (shared.can_fence, shared.honours_cancel) = (can_fence, honours_cancel);
    }

    /// IOs end by themselves after this time at most. `u64::MAX`: not by themselves, nor at once ([`Disk::end_one`]).
    pub fn set_latency(&self, ns_max: u64) {
        self.lock().latency_ns_max = ns_max;
    }

    /// A reactor has acknowledged that the disk ends here: IO that it submits beyond is noted.
    pub fn set_limit(&self, reactor: ReactorId, blocks: u64) {
        self.lock().limits.insert(reactor, blocks);
    }

    /// IOs that have not taken effect.
    pub fn in_flight_count(&self) -> usize {
        self.lock().flying.iter().filter(|io| io.result.is_none()).count()
    }

    /// Whether a write of these blocks has not taken effect.
    pub fn is_writing(&self, lba: u64, blocks: u32) -> bool {
        let is_it = |op: Op| matches!(op, Op::Write { .. }) && op.extent() == Some((lba, blocks));
        self.lock().flying.iter().any(|io| io.result.is_none() && is_it(io.op))
    }

    /// IOs that no reactor has got back.
    pub fn held_count(&self) -> usize {
        self.lock().flying.len()
    }

    /// Takes what has happened.
    pub fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut self.lock().notes)
    }

    /// Ends the IO at `index` among those that have not taken effect.
    pub fn end_one(&self, index: usize) {
        let mut shared = self.lock();
        let found = shared.flying.iter().enumerate().filter(|(_, io)| io.result.is_none()).nth(index);
        if let Some((at, _)) = found {
            shared.end(at);
        }
    }

    /// Ends the IOs whose time has come.
    pub fn end_due(&self, now: Tick) {
        let mut shared = self.lock();
        for at in 0..shared.flying.len() {
            if shared.flying[at].result.is_none() && shared.flying[at].due <= now {
                shared.end(at);
            }
        }
    }

    /// What a block holds now.
    pub fn content(&self, lba: u64) -> Stamp {
        self.lock().content(lba)
    }

    /// What the blocks would hold if power were cut now: of what is cached, a random part is lost.
    pub fn after_power_cut(&self) -> Vec<Stamp> {
        let mut shared = self.lock();
        let mut blocks = shared.durable.clone();
        let cached: Vec<(u64, Vec<Stamp>)> = shared
            .cached
            .iter()
            .map(|(&lba, versions)| (lba, versions.iter().map(|version| version.1).collect()))
            .collect();
        for (lba, versions) in cached {
            let kept = shared.rng.index(versions.len() + 1);
            if let (Some(stamp), Ok(at)) = (versions.get(kept), usize::try_from(lba)) {
                blocks[at] = *stamp;
            }
        }
        blocks
    }
}

impl Shared {
    fn content(&self, lba: u64) -> Stamp {
        match self.cached.get(&lba).and_then(|versions| versions.last()) {
            Some((_, stamp)) => *stamp,
            None => usize::try_from(lba).ok().and_then(|at| self.durable.get(at)).copied().unwrap_or(TORN),
        }
    }

    /// An IO takes effect, or fails: then a random part of a write has.
    fn end(&mut self, at: usize) {
        let fails = self.failures > 0;
        self.failures = self.failures.saturating_sub(1);
        let (op, serial) = (self.flying[at].op, self.flying[at].serial);
        match op {
            Op::Read { lba, blocks } => {
                let stamps = (lba..lba + u64::from(blocks)).map(|lba| self.content(lba)).collect();
                self.flying[at].stamps = stamps;
            }
            Op::Write { lba, .. } | Op::Unmap { lba, .. } | Op::WriteZeroes { lba, .. } => {
                let fua = matches!(op, Op::Write { fua: true, .. } | Op::WriteZeroes { fua: true, .. });
                let stamps = std::mem::take(&mut self.flying[at].stamps);
                for (lba, stamp) in (lba..).zip(stamps) {
                    if !fails || self.rng.one_in(2) {
                        self.land(lba, stamp, fua && !fails);
                    }
                }
            }
            // What it does not offer ends before it gets here.
            Op::CompareAndWrite { .. }
            | Op::Verify { .. }
            | Op::Compare { .. }
            | Op::Copy { .. }
            | Op::WriteUncorrectable { .. }
            | Op::Pass { .. }
            | Op::ReadProtected { .. }
            | Op::WriteProtected { .. } => {}
            Op::Flush if fails => {}
            Op::Flush => self.flush(serial),
        }
        let error = self.failure.unwrap_or(match op.extent() {
            None => IoError::FlushFailed,
            Some((lba, _)) => IoError::Medium { lba: Some(lba) },
        });
        self.flying[at].result = Some(if fails { Err(error) } else { Ok(()) });
    }

    /// Where an extent is, for an IO that is done at once: now and then, when nothing is in flight or to fail.
    fn at_once(&mut self, reactor: ReactorId, op: Op) -> Option<Range<usize>> {
        let (lba, blocks) = op.extent()?;
        let end = lba.checked_add(u64::from(blocks))?;
        let is_calm = self.state == ChannelState::Ready && self.flying.is_empty() && self.failures == 0;
        if !is_calm
            || self.latency_ns_max == u64::MAX
            || end > self.durable.len() as u64
            || self.rng.one_in(2)
        {
            return None;
        }
        if end > self.limits.get(&reactor).copied().unwrap_or(u64::MAX) {
            self.notes.push(Note::Beyond { reactor, op });
        }
        let bytes = |block: u64| usize::try_from(block * u64::from(self.block_bytes)).ok();
        Some(bytes(lba)?..bytes(end)?)
    }

    fn land(&mut self, lba: u64, stamp: Stamp, is_durable: bool) {
        self.serial += 1;
        self.show(lba, stamp);
        let serial = self.serial;
        self.notes.push(Note::Landed { lba, stamp });
        if is_durable {
            self.cached.remove(&lba);
            if let Some(block) = usize::try_from(lba).ok().and_then(|at| self.durable.get_mut(at)) {
                *block = stamp;
            }
        } else {
            self.cached.entry(lba).or_default().push((serial, stamp));
        }
    }

    fn show(&mut self, lba: u64, stamp: Stamp) {
        let mut block = vec![0; self.block_bytes as usize];
        fill(&mut block, stamp);
        if let Ok(lba) = usize::try_from(lba) {
            self.medium.write(lba * block.len(), &block);
        }
    }

    /// Makes durable what had landed before `serial`.
    fn flush(&mut self, serial: u64) {
        let durable = &mut self.durable;
        self.cached.retain(|&lba, versions| {
            let count = versions.iter().take_while(|version| version.0 < serial).count();
            if let Some((_, stamp)) = versions.drain(..count).next_back()
                && let Some(block) = usize::try_from(lba).ok().and_then(|at| durable.get_mut(at))
            {
                *block = stamp;
            }
            !versions.is_empty()
        });
    }
}

impl Bdev for Disk {
    fn info(&self) -> Info {
        let shared = self.lock();
        let mut uuid = [0x5a; 16];
        uuid[..8].copy_from_slice(&(shared.durable.len() as u64).to_be_bytes());
        // Once where serial numbers and once where NAA identifiers are made of it.
        for at in [8, 14] {
            uuid[at] = shared.name.bytes().last().unwrap_or(0);
        }
        Info {
            name: shared.name.clone(),
            blocks: shared.blocks,
            block_bytes: shared.block_bytes,
            physical_block_bytes: shared.block_bytes,
            read_only: false,
            write_cache: true,
            rotational: false,
            uuid,
            unmap: Some(Unmap { granularity_blocks: 1, reads_zeroes: true, anchors: false }),
            offloads: Offloads::default(),
            protection: None,
            passes: None,
        }
    }

    fn own(&self) -> Option<[u8; 16]> {
        Some(self.info().uuid)
    }

    fn open(&self, reactor: ReactorId) -> Box<dyn Channel> {
        let shared = self.lock();
        let block_bytes = usize::try_from(shared.block_bytes).unwrap_or(512);
        let lender = Lender::new(Arc::clone(&shared.medium));
        drop(shared);
        Box::new(DiskChannel {
            disk: self.clone(),
            reactor,
            block_bytes,
            held: Vec::new(),
            last: Tick::ZERO,
            lender,
        })
    }
}

#[derive(Debug)]
struct DiskChannel {
    disk: Disk,
    reactor: ReactorId,
    block_bytes: usize,
    held: Vec<Io>,
    last: Tick,
    lender: Lender,
}

impl Channel for DiskChannel {
    fn state(&self) -> ChannelState {
        self.disk.lock().state
    }

    fn submit(&mut self, io: Io, now: Tick) -> Result<(), Refused> {
        let mut shared = self.disk.lock();
        match shared.state {
            ChannelState::Opening => return Err(Refused::NotReady(io)),
            ChannelState::Gone => return Err(Refused::Gone(io)),
            ChannelState::Ready => {}
        }
        if shared.flying.len() >= shared.queue_max {
            return Err(Refused::Full(io));
        }
        let end = io.op.extent().map_or(0, |(lba, blocks)| lba.saturating_add(u64::from(blocks)));
        let is_beyond = end > shared.durable.len() as u64;
        if end > shared.limits.get(&self.reactor).copied().unwrap_or(u64::MAX) {
            let reactor = self.reactor;
            shared.notes.push(Note::Beyond { reactor, op: io.op });
        }
        let stamps = match (io.op, &io.data) {
            (Op::Write { blocks, .. }, Some(data)) => {
                data.chunks_exact(self.block_bytes).take(blocks as usize).map(stamp_of).collect()
            }
            (Op::Unmap { blocks, .. } | Op::WriteZeroes { blocks, .. }, _) if !is_beyond => {
                vec![ZEROES; blocks as usize]
            }
            _ => Vec::new(),
        };
        let latency_ns_max = shared.latency_ns_max;
        let due = now.after_ns(1000 + shared.rng.below(latency_ns_max));
        let is_offered = Offloads::default().has(io.op);
        let result = match (is_offered, is_beyond) {
            (false, _) => Some(Err(IoError::Unsupported)),
            (true, true) => Some(Err(IoError::OutOfRange)),
            (true, false) => None,
        };
        shared.serial += 1;
        let serial = shared.serial;
        let (reactor, tag, op) = (self.reactor, io.tag, io.op);
        shared.flying.push(Flying { serial, reactor, tag, op, stamps, due, result });
        drop(shared);
        self.held.push(io);
        self.last = now;
        Ok(())
    }

    fn does_at_once(&self) -> bool {
        true
    }

    /// At random, as long as nothing is in flight and nothing is to fail.
    fn lend(&mut self, lba: u64, blocks: u32, _now: Tick) -> Option<Lent> {
        let mut shared = self.disk.lock();
        let extent = shared.at_once(self.reactor, Op::Read { lba, blocks })?;
        Some(self.lender.lend(extent.start, extent.len()))
    }

    /// See `lend`.
    fn load(&mut self, lba: u64, data: &mut [u8], _now: Tick) -> bool {
        let mut shared = self.disk.lock();
        let blocks = u32::try_from(data.len() / self.block_bytes).unwrap_or(u32::MAX);
        let Some(extent) = shared.at_once(self.reactor, Op::Read { lba, blocks }) else { return false };
        shared.medium.read(extent.start, data);
        true
    }

    /// See `lend`.
    fn store(&mut self, lba: u64, data: &[u8], fua: bool, _now: Tick) -> bool {
        let mut shared = self.disk.lock();
        let blocks = u32::try_from(data.len() / self.block_bytes).unwrap_or(u32::MAX);
        if shared.at_once(self.reactor, Op::Write { lba, blocks, fua }).is_none() {
            return false;
        }
        for (lba, block) in (lba..).zip(data.chunks_exact(self.block_bytes)) {
            shared.land(lba, stamp_of(block), fua);
        }
        true
    }

    fn kick(&mut self) {}

    fn poll(&mut self, out: &mut Vec<Done>, max: usize, now: Tick) {
        self.last = now;
        self.disk.end_due(now);
        let mut shared = self.disk.lock();
        let mut room = max.min(out.capacity() - out.len());
        while room > 0 {
            let found = shared.flying.iter().position(|io| io.reactor == self.reactor && io.result.is_some());
            let Some(flying) = found.map(|at| shared.flying.swap_remove(at)) else { return };
            let Some(at) = self.held.iter().position(|io| io.tag == flying.tag) else { continue };
            let mut io = self.held.swap_remove(at);
            let result = flying.result.unwrap_or(Ok(()));
            if let (Op::Read { .. }, Some(data), Ok(())) = (io.op, &mut io.data, result) {
                data.chunks_exact_mut(self.block_bytes)
                    .zip(&flying.stamps)
                    .for_each(|(block, stamp)| fill(block, *stamp));
            }
            out.push(Done { tag: io.tag, data: io.data, result });
            room -= 1;
        }
    }

    fn cancel(&mut self, tag: Key) {
        let mut shared = self.disk.lock();
        if !shared.honours_cancel || shared.rng.one_in(2) {
            return;
        }
        let found = shared
            .flying
            .iter_mut()
            .find(|io| io.reactor == self.reactor && io.tag == tag && io.result.is_none());
        if let Some(io) = found {
            io.result = Some(Err(IoError::Cancelled));
        }
    }

    fn fence(&mut self) -> Fence {
        let mut shared = self.disk.lock();
        if !shared.can_fence {
            return Fence::Cannot;
        }
        for io in shared.flying.iter_mut().filter(|io| io.reactor == self.reactor && io.result.is_none()) {
            io.result = Some(Err(IoError::Cancelled));
        }
        Fence::Fenced
    }

    fn wake(&self) -> Wake {
        let shared = self.disk.lock();
        let mine = shared.flying.iter().filter(|io| io.reactor == self.reactor);
        let due = |io: &Flying| if io.result.is_some() { self.last } else { io.due };
        mine.map(due).min().map_or(Wake::Idle, Wake::At)
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }
}
