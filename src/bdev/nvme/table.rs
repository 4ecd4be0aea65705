//! What a lane has in the works: IOs (jobs), and the commands they were cut into.
//!
//! A command's id is its slot and, above it, which tenancy of the slot: a completion that comes twice, or too late, finds
//! nobody. Slots, tenancies and jobs have numbers of one byte, so that there is one for every number.

use arrayvec::ArrayVec;

use super::planted::planted;
use super::queue::Payloads;
use crate::bdev::{Done, Io, IoError, Op};
use crate::slab::Key;
use crate::time::Tick;

/// Commands of one lane, at most. Not 256: the command id FFFFh is no command's (Base §5.16.1.2).
pub(super) const SLOTS: u16 = 255;
/// What a byte can number. IOs of one lane, at most.
const COUNT: usize = 256;

/// An IO that was taken.
#[derive(Debug)]
pub(super) struct Job {
    /// Whose it is.
    pub(super) channel: Key,
    pub(super) io: Io,
    /// Its blocks that no command was made for, 0 where none is to be made any more. A flush is about one.
    pub(super) left_blocks: u32,
    /// A command was made of it: the device may have seen some of it.
    pub(super) is_issued: bool,
    /// Commands of it that have not ended.
    pub(super) commands: u16,
    /// The first error.
    pub(super) result: Result<(), IoError>,
    /// It was begun again because the controller did not do it.
    pub(super) is_retry: bool,
    /// It waits for slots or memory. Invariant: where it does not, no command of it is still to be made.
    pub(super) is_waiting: bool,
}

impl Job {
    fn new(channel: Key, io: Io) -> Job {
        Job {
            channel,
            io,
            left_blocks: 0,
            is_issued: false,
            commands: 0,
            result: Ok(()),
            is_retry: false,
            is_waiting: false,
        }
    }

    /// Whether it leaves the medium as it is, so that doing it twice harms nobody.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self.io.op, Op::Read { .. } | Op::Verify { .. } | Op::Compare { .. })
            || planted!(WriteRetried)
    }

    /// Whether nothing of it is at work any more, nor will be.
    pub(super) fn has_ended(&self) -> bool {
        self.commands == 0 && !self.is_waiting
    }

    /// It has failed: no more commands are made of it, and the first error counts.
    pub(super) fn fail(&mut self, error: IoError) {
        self.result = self.result.and(Err(error));
        self.left_blocks = 0;
    }

    /// Commands are to be made of all of it.
    pub(super) fn begin(&mut self) {
        let blocks = self.io.op.extent().map(|(_, blocks)| blocks);
        self.left_blocks = blocks.unwrap_or(u32::from(!planted!(FlushNotSent)));
        self.is_issued = false;
    }
}

/// IOs, by number. Invariant: a number that is in a slot or a [`Fifo`] is that of a job that has not been given back.
#[derive(Debug)]
pub(super) struct Jobs {
    jobs: Box<[Job; COUNT]>,
    free: ArrayVec<u8, COUNT>,
}

impl Jobs {
    /// A number for [`Jobs::take`], where there is one.
    #[inline(always)]
    pub(super) fn number(&mut self) -> Option<u8> {
        self.free.pop()
    }

    /// Takes an IO, of which no commands are to be made yet ([`Job::begin`]), under the number that [`Jobs::number`] gave. One
    /// call for both would move the IO once more.
    #[inline(always)]
    pub(super) fn take(&mut self, number: u8, channel: Key, io: Io) -> &mut Job {
        let job = &mut self.jobs[usize::from(number)];
        *job = Job::new(channel, io);
        job
    }

    /// The job of this number.
    pub(super) fn get(&self, number: u8) -> &Job {
        &self.jobs[usize::from(number)]
    }

    /// The job of this number.
    pub(super) fn get_mut(&mut self, number: u8) -> &mut Job {
        &mut self.jobs[usize::from(number)]
    }

    /// Gives an IO back.
    #[inline(always)]
    pub(super) fn give(&mut self, number: u8) -> Done {
        let job = &mut self.jobs[usize::from(number)];
        self.free.push(number);
        Done { tag: job.io.tag, data: job.io.data.take(), result: job.result }
    }
}

/// Numbers of jobs in order, each of them at most once.
#[derive(Debug)]
pub(super) struct Fifo {
    numbers: [u8; COUNT],
    first: u8,
    next: u8,
    len: u16,
}

impl Fifo {
    pub(super) const fn new() -> Fifo {
        Fifo { numbers: [0; COUNT], first: 0, next: 0, len: 0 }
    }

    pub(super) fn len(&self) -> u16 {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, number: u8) {
        debug_assert!(usize::from(self.len) < COUNT, "each job is in it once at most");
        self.numbers[usize::from(self.next)] = number;
        self.next = self.next.wrapping_add(1);
        self.len += 1;
    }

    pub(super) fn first(&self) -> Option<u8> {
        (self.len > 0).then(|| self.numbers[usize::from(self.first)])
    }

    pub(super) fn pop(&mut self) -> Option<u8> {
        let first = self.first()?;
        self.first = self.first.wrapping_add(1);
        self.len -= 1;
        Some(first)
    }
}

/// How far a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// There is none.
    Free,
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
    pub(super) job: u8,
    pub(super) phase: Phase,
    /// When it came into its phase.
    pub(super) since: Tick,
    /// Which bytes of the job's buffer are its own.
    pub(super) from: usize,
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    generation: u8,
    sent: Sent,
}

/// Commands.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[Slot; COUNT]>,
    free: ArrayVec<u8, { SLOTS as usize }>,
}

impl Slots {
    /// Whether no command is in a slot.
    pub(super) fn is_empty(&self) -> bool {
        self.free.is_full()
    }

    /// The slot that a command would get, and its id; none beyond `depth` commands, which is at most [`SLOTS`].
    #[inline]
    pub(super) fn next(&self, depth: u16) -> Option<(u16, u16)> {
        let slot = *self.free.last()?;
        let is_full = self.free.len() + usize::from(depth) <= usize::from(SLOTS);
        (!is_full).then(|| (u16::from(slot), self.cid(slot)))
    }

    /// Puts a command into the slot of [`Slots::next`].
    pub(super) fn enter(&mut self, sent: Sent) {
        if let Some(slot) = self.free.pop() {
            self.slots[usize::from(slot)].sent = sent;
        }
    }

    fn cid(&self, slot: u8) -> u16 {
        u16::from_le_bytes([slot, self.slots[usize::from(slot)].generation])
    }

    /// The command of this id.
    #[inline]
    pub(super) fn get(&self, cid: u16) -> Option<&Sent> {
        let [slot, generation] = cid.to_le_bytes();
        let slot = &self.slots[usize::from(slot)];
        let is_its = slot.generation == generation || planted!(GenerationIgnored);
        (slot.sent.phase != Phase::Free && is_its).then_some(&slot.sent)
    }

    /// Moves a command into another phase.
    pub(super) fn set_phase(&mut self, cid: u16, phase: Phase, now: Tick) {
        if self.get(cid).is_some() {
            let [slot, _] = cid.to_le_bytes();
            let sent = &mut self.slots[usize::from(slot)].sent;
            (sent.phase, sent.since) = (phase, now);
        }
    }

    /// Takes a command out: whose it was. Its id is nobody's from then on.
    #[inline]
    pub(super) fn leave(&mut self, cid: u16) -> Option<u8> {
        let job = self.get(cid)?.job;
        let [number, _] = cid.to_le_bytes();
        let slot = &mut self.slots[usize::from(number)];
        slot.sent.phase = Phase::Free;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(number);
        Some(job)
    }

    /// The command in this slot, and its id.
    pub(super) fn at(&self, slot: u8) -> Option<(u16, Sent)> {
        let cid = self.cid(slot);
        Some((cid, *self.get(cid)?))
    }
}

/// IOs and commands.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) jobs: Jobs,
    pub(super) slots: Slots,
}

impl Table {
    pub(super) fn new() -> Table {
        let nobody = Key { index: u32::MAX, generation: u32::MAX };
        let nothing = |_| Job::new(nobody, Io { tag: nobody, op: Op::Flush, data: None });
        let empty = Sent { job: 0, phase: Phase::Free, since: Tick::ZERO, from: 0, bytes: 0 };
        Table {
            jobs: Jobs { jobs: Box::new(std::array::from_fn(nothing)), free: (0..=u8::MAX).rev().collect() },
            slots: Slots {
                slots: Box::new([Slot { generation: 0, sent: empty }; COUNT]),
                free: (0..u8::MAX).rev().collect(),
            },
        }
    }
}

impl Payloads for Table {
    fn source(&self, cid: u16) -> Option<&[u8]> {
        let sent = self.slots.get(cid).filter(|sent| sent.phase != Phase::Asking)?;
        let job = self.jobs.get(sent.job);
        let is_source =
            matches!(job.io.op, Op::Write { .. } | Op::Compare { .. } | Op::CompareAndWrite { .. });
        let data = job.io.data.as_ref().filter(|_| is_source)?;
        data.get(sent.from..sent.from.checked_add(sent.bytes)?)
    }

    fn sink(&mut self, cid: u16) -> Option<&mut [u8]> {
        let sent = self.slots.get(cid).filter(|sent| sent.phase != Phase::Asking)?;
        let job = self.jobs.get_mut(sent.job);
        let is_sink = matches!(job.io.op, Op::Read { .. });
        let data = job.io.data.as_mut().filter(|_| is_sink)?;
        data.get_mut(sent.from..sent.from.checked_add(sent.bytes)?)
    }
}
