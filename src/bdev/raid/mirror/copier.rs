//! The warden's own way to members: one IO at a time, on a thread that is no reactor's.
//!
//! A device has room for reactors first: that there is none for this one says nothing about the member.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::{PIECE_BYTES, Place};
use crate::bdev::{Bdev, Channel, ChannelState, Done, Io, IoError, Op, Refused};
use crate::buf::{Buf, Class, Hugepages, Memory, Pool};
use crate::limits::GUEST;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

/// Of the buffer.
const BYTES: usize = PIECE_BYTES as usize;
/// After so long without room in a member it is given up for now.
pub(super) const PATIENCE_NS: u64 = 30 * SECOND_NS;
const TAG: Key = Key { index: 0, generation: 0 };

#[derive(Debug)]
struct Way {
    version: u64,
    channel: Box<dyn Channel>,
    /// Who is not to be closed before its channel.
    _bdev: Arc<dyn Bdev>,
}

/// Why an IO has not been done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The member has not seen it: there was no way there, or no room.
    NoWay,
    /// The member has failed.
    Failed(IoError),
}

impl Trouble {
    /// Whether the member is to blame, or what it holds is in doubt: not where it was reset, or went.
    pub(super) fn is_members(self) -> bool {
        let is_others = matches!(
            self,
            Trouble::NoWay | Trouble::Failed(IoError::Gone | IoError::Aborted | IoError::Cancelled)
        );
        !is_others
    }

    /// Whether it was given up on the way: by a time-out, or a reset.
    pub(super) fn is_aborted(self) -> bool {
        matches!(self, Trouble::Failed(IoError::Aborted | IoError::Cancelled))
    }
}

/// The end of an IO.
#[derive(Debug)]
pub(super) struct Came {
    /// Of a flush: of whom.
    pub(super) flushed: Option<usize>,
    pub(super) data: Option<Buf>,
    pub(super) result: Result<(), Trouble>,
}

#[derive(Debug)]
pub(super) struct Copier {
    hugepages: Hugepages,
    ways: Vec<Option<Way>>,
    pool: Option<Pool>,
    /// What is to be submitted, to whom, and since when.
    waiting: Option<(usize, Io, Tick)>,
    /// Who has it, and whether it is a flush.
    flying: Option<(usize, bool)>,
    out: Vec<Done>,
}

impl Copier {
    pub(super) fn new(members: usize, hugepages: Hugepages) -> Copier {
        let ways = (0..members).map(|_| None).collect();
        Copier { hugepages, ways, pool: None, waiting: None, flying: None, out: Vec::with_capacity(1) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.flying.is_none()
    }

    /// A buffer for a piece; none where there is no memory.
    pub(super) fn take(&mut self) -> Option<Buf> {
        if self.pool.is_none() {
            let classes = [Class { bytes: BYTES, count: 1 }];
            let bytes = Pool::bytes_needed(&classes);
            let memory = Memory::map_preferring_huge(bytes, self.hugepages, Memory::map).ok()?;
            self.pool = Some(Pool::new(memory, &classes));
        }
        self.pool.as_ref()?.take(BYTES)
    }

    /// Begins an IO; to be called when it is idle.
    pub(super) fn order(&mut self, member: usize, op: Op, data: Option<Buf>, now: Tick) {
        self.waiting = Some((member, Io { tag: TAG, op, data }, now));
    }

    /// Whether a member can be given something now: before anybody else has to wait for that.
    pub(super) fn is_ready(&mut self, member: usize, places: &[Place], now: Tick) -> bool {
        let mut out = std::mem::take(&mut self.out);
        let is_ready = self.way(member, places).is_some_and(|way| {
            // Who opens does so when it is polled.
            way.channel.kick();
            way.channel.poll(&mut out, 1, now);
            way.channel.state() == ChannelState::Ready
        });
        self.out = out;
        is_ready
    }

    /// Gives up what no member has yet.
    pub(super) fn give_up(&mut self) {
        self.waiting = None;
    }

    /// The end of the IO.
    pub(super) fn poll(&mut self, places: &[Place], now: Tick) -> Option<Came> {
        if let Some((member, io, since)) = self.waiting.take() {
            let no_way = |data| Some(Came { flushed: None, data, result: Err(Trouble::NoWay) });
            let is_flush = io.op == Op::Flush;
            let mut out = std::mem::take(&mut self.out);
            let Some(way) = self.way(member, places) else {
                self.out = out;
                return no_way(io.data);
            };
            let submitted = way.channel.submit(io, now);
            // Who opens does so when it is polled.
            way.channel.kick();
            way.channel.poll(&mut out, 1, now);
            self.out = out;
            match submitted {
                Ok(()) => self.flying = Some((member, is_flush)),
                Err(Refused::Gone(io)) => return no_way(io.data),
                Err(Refused::Full(io) | Refused::NotReady(io)) => {
                    if now.since_ns(since) > PATIENCE_NS {
                        return no_way(io.data);
                    }
                    self.waiting = Some((member, io, since));
                    return None;
                }
            }
        }
        let (member, is_flush) = self.flying?;
        let way = self.ways.get_mut(member)?.as_mut()?;
        if self.out.is_empty() {
            way.channel.poll(&mut self.out, 1, now);
        }
        let Done { data, result, .. } = self.out.pop()?;
        self.flying = None;
        Some(Came { flushed: is_flush.then_some(member), data, result: result.map_err(Trouble::Failed) })
    }

    /// The way to who is in a place now.
    fn way(&mut self, member: usize, places: &[Place]) -> Option<&mut Way> {
        let (place, way) = (places.get(member)?, self.ways.get_mut(member)?);
        let version = place.version.load(Ordering::SeqCst);
        if way.as_ref().is_none_or(|way| way.version != version) {
            *way = None;
            let bdev = place.bdev()?;
            *way = Some(Way { version, channel: bdev.open(GUEST), _bdev: bdev });
        }
        way.as_mut()
    }

    /// Closes what is open, so that nobody who is idle keeps a member in use.
    pub(super) fn close(&mut self) {
        if self.is_idle() {
            self.ways.iter_mut().for_each(|way| *way = None);
            self.pool = None;
        }
    }
}
