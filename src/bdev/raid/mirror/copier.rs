//! The warden's own way to members: one IO at a time, on a thread that is no reactor's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::{PIECE_BYTES, Place};
use crate::bdev::{Bdev, Channel, Done, Io, IoError, Op, Refused};
use crate::buf::{Buf, Class, Hugepages, Memory, Pool};
use crate::id::ReactorId;
use crate::limits::REACTORS_MAX;
use crate::slab::Key;
use crate::time::{SECOND_NS, Tick};

/// Of the buffer.
const BYTES: usize = PIECE_BYTES as usize;
/// A member that takes nothing for so long has failed.
const PATIENCE_NS: u64 = 30 * SECOND_NS;
const TAG: Key = Key { index: 0, generation: 0 };
/// No reactor has this number.
#[expect(clippy::cast_possible_truncation, reason = "it is small")]
const NOBODY: ReactorId = ReactorId(REACTORS_MAX as u16);

#[derive(Debug)]
struct Way {
    version: u64,
    channel: Box<dyn Channel>,
    /// Who is not to be closed before its channel.
    _bdev: Arc<dyn Bdev>,
}

#[derive(Debug)]
pub(super) struct Copier {
    hugepages: Hugepages,
    ways: Vec<Option<Way>>,
    pool: Option<Pool>,
    /// What is to be submitted, to whom, and since when.
    waiting: Option<(usize, Io, Tick)>,
    /// Who has it.
    flying: Option<usize>,
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

    /// The end of the IO.
    pub(super) fn poll(&mut self, places: &[Place], now: Tick) -> Option<Done> {
        if let Some((member, io, since)) = self.waiting.take() {
            let gone = |data| Some(Done { tag: TAG, data, result: Err(IoError::Gone) });
            let mut out = std::mem::take(&mut self.out);
            let Some(way) = self.way(member, places) else {
                self.out = out;
                return gone(io.data);
            };
            let submitted = way.channel.submit(io, now);
            // Who opens does so when it is polled.
            way.channel.kick();
            way.channel.poll(&mut out, 1, now);
            self.out = out;
            match submitted {
                Ok(()) => self.flying = Some(member),
                Err(Refused::Gone(io)) => return gone(io.data),
                Err(Refused::Full(io) | Refused::NotReady(io)) => {
                    if now.since_ns(since) > PATIENCE_NS {
                        return gone(io.data);
                    }
                    self.waiting = Some((member, io, since));
                    return None;
                }
            }
        }
        let way = self.ways.get_mut(self.flying?)?.as_mut()?;
        if self.out.is_empty() {
            way.channel.poll(&mut self.out, 1, now);
        }
        let done = self.out.pop()?;
        self.flying = None;
        Some(done)
    }

    /// The way to who is in a place now.
    fn way(&mut self, member: usize, places: &[Place]) -> Option<&mut Way> {
        let (place, way) = (places.get(member)?, self.ways.get_mut(member)?);
        let version = place.version.load(Ordering::SeqCst);
        if way.as_ref().is_none_or(|way| way.version != version) {
            *way = None;
            let bdev = place.bdev()?;
            *way = Some(Way { version, channel: bdev.open(NOBODY), _bdev: bdev });
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
