//! What a lane has in the works: IOs, and the commands they were cut into.
//!
//! A command's id is its slot and, above it, which tenancy of the slot: a completion that comes twice, or too late, finds
//! nobody.

use super::planted::planted;
use super::queue::Payloads;
use crate::bdev::{Io, IoError, Op};
use crate::buf::Buf;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// Commands of one lane, at most; IO queues have as many entries.
pub(super) const SLOTS: u16 = 256;
/// IOs of one lane, at most.
pub(super) const JOBS: u32 = 256;
/// Tenancies of a slot that are told apart. Not 256: the command id FFFFh is no command's (Base §5.16.1.2).
const GENERATIONS: u16 = 255;

/// An IO that was taken.
#[derive(Debug)]
pub(super) struct Job {
    /// Whose it is.
    pub(super) channel: Key,
    pub(super) tag: Key,
    pub(super) op: Op,
    pub(super) data: Option<Buf>,
    /// Its blocks that commands were made for.
    pub(super) issued_blocks: u32,
    /// A command was made of it: the device may have seen some of it.
    pub(super) is_issued: bool,
    /// Commands of it that have not ended.
    pub(super) commands: u16,
    /// The first error.
    pub(super) result: Result<(), IoError>,
    /// It was begun again after a reset.
    pub(super) is_retry: bool,
    /// It waits for slots or memory.
    pub(super) is_waiting: bool,
}

impl Job {
    pub(super) fn new(channel: Key, io: Io) -> Job {
        Job {
            channel,
            tag: io.tag,
            op: io.op,
            data: io.data,
            issued_blocks: 0,
            is_issued: false,
            commands: 0,
            result: Ok(()),
            is_retry: false,
            is_waiting: false,
        }
    }

    /// Whether commands are still to be made of it.
    pub(super) fn is_unfinished(&self) -> bool {
        self.result.is_ok()
            && match self.op.extent() {
                Some((_, blocks)) => self.issued_blocks < blocks,
                None => !self.is_issued,
            }
    }

    /// From the beginning.
    pub(super) fn begin_again(&mut self) {
        self.issued_blocks = 0;
        self.is_issued = false;
        self.commands = 0;
        self.result = Ok(());
        self.is_retry = true;
    }
}

/// How far a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The device has it, since then.
    Sent,
    /// The controller was asked to abort it.
    Aborting,
    /// It failed; where is being asked.
    Asking,
}

/// A command in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) job: Key,
    pub(super) phase: Phase,
    /// When it came into its phase.
    pub(super) since: Tick,
    /// Which bytes of the job's buffer are its own.
    pub(super) from: usize,
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u16,
    sent: Option<Sent>,
}

/// IOs and commands.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) jobs: Slab<Job>,
    slots: Vec<Slot>,
    free: Vec<u16>,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            jobs: Slab::new(JOBS),
            slots: vec![Slot { generation: 0, sent: None }; usize::from(SLOTS)],
            free: (0..SLOTS).rev().collect(),
        }
    }

    /// Commands in slots.
    pub(super) fn in_use(&self) -> u16 {
        SLOTS - u16::try_from(self.free.len()).unwrap_or(SLOTS)
    }

    /// The slot that a command would get, and its id; none beyond `depth` commands.
    pub(super) fn next(&self, depth: u16) -> Option<(u16, u16)> {
        let slot = *self.free.last().filter(|_| self.in_use() < depth.min(SLOTS))?;
        Some((slot, self.cid(slot)))
    }

    /// Puts a command into the slot of [`Table::next`].
    pub(super) fn enter(&mut self, sent: Sent) {
        if let Some(slot) = self.free.pop().and_then(|slot| self.slots.get_mut(usize::from(slot))) {
            slot.sent = Some(sent);
        }
    }

    fn cid(&self, slot: u16) -> u16 {
        self.slots.get(usize::from(slot)).map_or(u16::MAX, |at| at.generation << 8 | slot)
    }

    fn slot(&self, cid: u16) -> Option<&Slot> {
        let is_its = |slot: &&Slot| slot.generation == cid >> 8 || planted!(GenerationIgnored);
        self.slots.get(usize::from(cid & 0xFF)).filter(is_its)
    }

    /// The command of this id.
    pub(super) fn sent(&self, cid: u16) -> Option<Sent> {
        self.slot(cid)?.sent
    }

    /// Moves a command into another phase.
    pub(super) fn set_phase(&mut self, cid: u16, phase: Phase, now: Tick) {
        if let Some(sent) = self.slots.get_mut(usize::from(cid & 0xFF)).and_then(|slot| slot.sent.as_mut()) {
            sent.phase = phase;
            sent.since = now;
        }
    }

    /// Takes a command out; its id is nobody's from then on.
    pub(super) fn leave(&mut self, cid: u16) -> Option<Sent> {
        self.slot(cid)?;
        let index = cid & 0xFF;
        let slot = self.slots.get_mut(usize::from(index))?;
        let sent = slot.sent.take()?;
        slot.generation = (slot.generation + 1) % GENERATIONS;
        self.free.push(index);
        Some(sent)
    }

    /// The command in this slot, and its id.
    pub(super) fn at(&self, slot: u16) -> Option<(u16, Sent)> {
        let cid = self.cid(slot);
        Some((cid, self.sent(cid)?))
    }
}

impl Payloads for Table {
    fn source(&self, cid: u16) -> Option<&[u8]> {
        let sent = self.sent(cid).filter(|sent| sent.phase != Phase::Asking)?;
        let job = self
            .jobs
            .get(sent.job)
            .filter(|job| matches!(job.op, Op::Write { .. } | Op::CompareAndWrite { .. }))?;
        job.data.as_ref()?.get(sent.from..sent.from.checked_add(sent.bytes)?)
    }

    fn sink(&mut self, cid: u16) -> Option<&mut [u8]> {
        let sent = self.sent(cid).filter(|sent| sent.phase != Phase::Asking)?;
        let job = self.jobs.get_mut(sent.job).filter(|job| matches!(job.op, Op::Read { .. }))?;
        job.data.as_mut()?.get_mut(sent.from..sent.from.checked_add(sent.bytes)?)
    }
}
