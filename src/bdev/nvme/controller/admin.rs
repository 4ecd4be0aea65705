//! Admin commands in flight: by ids that are not used again soon, each with its time.

use super::super::spec::Command;
use super::super::transport::{AdminData, Transport};
use crate::time::Tick;

/// Commands in flight, at most; the low bits of a command id say which.
const SLOTS: usize = 64;
const INDEX_BITS: u32 = SLOTS.trailing_zeros();
/// Generations of a slot. One less than fit, so that no command has the id FFFFh, which stands for none in the error log.
const GENERATIONS: u16 = (1 << (16 - INDEX_BITS)) - 1;

/// What an admin command is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The step of the bring-up.
    BringUp,
    /// The look at the namespaces.
    Scan,
    /// The next event.
    Event,
    /// What an event told of.
    EventLog(u8),
    /// Keep-alive.
    KeepAlive,
    /// A pair of queues is made or deleted: whose.
    Pair(u64),
    /// A command of a lane is aborted.
    Abort,
    /// Blocks are sought in the error log.
    Blocks,
    /// Somebody asks.
    Query,
    /// A namespace is erased.
    Erase,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    purpose: Purpose,
    /// None: it may take for ever.
    due: Option<Tick>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Slot {
    generation: u16,
    sent: Option<Sent>,
}

/// Admin commands in flight.
#[derive(Debug)]
pub(super) struct Admin {
    slots: [Slot; SLOTS],
    /// Where the next free slot is sought.
    next: usize,
}

impl Admin {
    pub(super) fn new() -> Admin {
        Admin { slots: [Slot::default(); SLOTS], next: 0 }
    }

    /// Sends a command; false where there is no room at the moment.
    pub(super) fn send(
        &mut self,
        transport: &mut dyn Transport,
        purpose: Purpose,
        command: &Command,
        data: AdminData<'_>,
        due: Option<Tick>,
    ) -> bool {
        let indices = (self.next..SLOTS).chain(0..self.next);
        let Some(index) = indices.into_iter().find(|index| self.slots[*index].sent.is_none()) else {
            return false;
        };
        let Ok(low) = u16::try_from(index) else { return false };
        let slot = &mut self.slots[index];
        let generation = (slot.generation + 1) % GENERATIONS;
        if !transport.submit(low | generation << INDEX_BITS, command, data) {
            return false;
        }
        *slot = Slot { generation, sent: Some(Sent { purpose, due }) };
        self.next = (index + 1) % SLOTS;
        true
    }

    /// The command has completed; none where there is no such command.
    pub(super) fn complete(&mut self, cid: u16) -> Option<Purpose> {
        let slot = &mut self.slots[usize::from(cid) % SLOTS];
        if slot.generation != cid >> INDEX_BITS {
            return None;
        }
        slot.sent.take().map(|sent| sent.purpose)
    }

    /// Forgets all of them: the controller was reset.
    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.sent = None;
        }
    }

    /// A command whose time is over.
    pub(super) fn overdue(&self, now: Tick) -> Option<Purpose> {
        let mut sent = self.sent();
        sent.find(|sent| sent.due.is_some_and(|due| due <= now)).map(|sent| sent.purpose)
    }

    /// Commands in flight have until then, but for those that may take for ever, signs of life, and what is about pairs of queues.
    pub(super) fn set_due(&mut self, due: Tick) {
        for sent in self.slots.iter_mut().filter_map(|slot| slot.sent.as_mut()) {
            if !matches!(sent.purpose, Purpose::KeepAlive | Purpose::Pair(_)) {
                sent.due = sent.due.map(|_| due);
            }
        }
    }

    /// Whether a command is in flight that will complete soon.
    pub(super) fn is_busy(&self) -> bool {
        self.sent().any(|sent| sent.due.is_some() && sent.purpose != Purpose::Erase)
    }

    /// Commands in flight for this purpose.
    pub(super) fn count(&self, purpose: Purpose) -> usize {
        self.sent().filter(|sent| sent.purpose == purpose).count()
    }

    /// Whether a command is in flight for such a purpose.
    pub(super) fn has(&self, is_it: impl Fn(Purpose) -> bool) -> bool {
        self.sent().any(|sent| is_it(sent.purpose))
    }

    fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.slots.iter().filter_map(|slot| slot.sent.as_ref())
    }
}
