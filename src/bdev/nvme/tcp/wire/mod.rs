//! One connection without its socket: commands in, completions out, bytes on the other side.
//!
//! The caller sends what [`Wire::slices`] gives and says how much of it went with [`Wire::sent`]; it receives into
//! [`Wire::room`], says how much came with [`Wire::received`], and takes [`Wire::next`] until there is nothing more.
//! [`Wire::stage`] comes before [`Wire::slices`].
//!
//! What a controller sends may be anything. The first thing that it must not send ends the connection: [`Wire::fault`]
//! says what it was, and the controller is told where that is still possible.

mod receive;
mod send;

use self::receive::Inbox;
use self::send::{Item, Outbox};
use super::pdu::{Digests, Greeting, Offence};
use crate::bdev::nvme::queue::Payloads;
use crate::bdev::nvme::spec::{Command, Completion, DataPointer, Entry, Range};

/// R2Ts of one command that may be open at once.
pub(super) const R2T_MAX: u8 = 4;
/// In-capsule data that every controller takes with fabrics and admin commands (TCP §3.2).
pub(super) const ADMIN_CAPSULE_BYTES: usize = 8192;

/// What moves with a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Data {
    /// Nothing.
    None,
    /// So many bytes to [`Payloads::sink`].
    In(usize),
    /// So many bytes of [`Payloads::source`].
    Out(usize),
    /// So many zeroes.
    Zeroes(usize),
    /// These.
    Inline(Range),
}

impl Data {
    /// Bytes that go to the controller.
    fn out_bytes(&self) -> usize {
        match self {
            Data::None | Data::In(_) => 0,
            Data::Out(bytes) | Data::Zeroes(bytes) => *bytes,
            Data::Inline(range) => range.bytes().len(),
        }
    }
}

/// Where a command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Free,
    /// Not yet on its way: the controller cannot know it.
    Queued,
    Sent,
}

/// A command.
#[derive(Clone, Copy, Debug)]
struct Slot {
    stage: Stage,
    cid: u16,
    data: Data,
    entry: Entry,
    /// Bytes that came, or that the controller has asked for or got in the capsule: from the first on, without a gap.
    moved: usize,
    /// R2Ts that are not answered yet.
    transfers: u8,
    /// Data that came had a wrong digest.
    is_damaged: bool,
}

const FREE: Slot = Slot {
    stage: Stage::Free,
    cid: 0,
    data: Data::None,
    entry: [0; 16],
    moved: 0,
    transfers: 0,
    is_damaged: false,
};

/// The machine of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    id: u16,
    wanted: Digests,
    /// What the controller said; none before that.
    agreed: Option<Greeting>,
    capsule_bytes: usize,
    slots: Box<[Slot]>,
    outbox: Outbox,
    inbox: Inbox,
    /// Commands that have been entered and have not completed, and those of them that data come for.
    busy: u16,
    reads: u16,
    fault: Option<&'static str>,
}

impl Wire {
    /// A new connection of queue `id` for at most so many commands at once. Nothing is allocated after this.
    pub(super) fn new(id: u16, depth: u16, wanted: Digests) -> Wire {
        let mut wire = Wire {
            id,
            wanted,
            agreed: None,
            capsule_bytes: ADMIN_CAPSULE_BYTES,
            slots: vec![FREE; usize::from(depth)].into(),
            outbox: Outbox::new(depth),
            inbox: Inbox::new(),
            busy: 0,
            reads: 0,
            fault: None,
        };
        wire.outbox.enter(Item::Greeting);
        wire
    }

    /// Whether commands may be entered.
    pub(super) fn is_open(&self) -> bool {
        self.agreed.is_some() && self.fault.is_none()
    }

    /// What broke the connection.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault
    }

    /// The caller found it broken: closed, or silent for too long.
    pub(super) fn give_up(&mut self, why: &'static str) {
        self.fault.get_or_insert(why);
    }

    /// The most data that a command may have in its capsule from now on.
    pub(super) fn set_capsule_bytes(&mut self, bytes: usize) {
        self.capsule_bytes = bytes;
    }

    /// Enters a command. False where the connection is not open, or `slot` is out of range or taken.
    pub(super) fn push(&mut self, slot: u16, cid: u16, command: &Command, data: Data) -> bool {
        if !self.is_open() {
            return false;
        }
        let Some(free) = self.slots.get_mut(usize::from(slot)).filter(|slot| slot.stage == Stage::Free)
        else {
            return false;
        };
        let out_bytes = data.out_bytes();
        let in_capsule = out_bytes > 0 && out_bytes <= self.capsule_bytes;
        let bytes = if let Data::In(bytes) = data { bytes } else { out_bytes };
        // TCP §3.3.1: data in the capsule by offset from its data's beginning, all others by the transport's own descriptor.
        let mut descriptor = [0; 16];
        descriptor[8..12].copy_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
        descriptor[15] = if in_capsule { 0x01 } else { 0x5A };
        *free = Slot {
            stage: Stage::Queued,
            cid,
            data,
            entry: command.encode(cid, DataPointer::Sgl(descriptor)),
            moved: if in_capsule { out_bytes } else { 0 },
            ..FREE
        };
        self.busy += 1;
        self.reads += u16::from(matches!(data, Data::In(_)));
        self.outbox.enter(Item::Command { slot });
        true
    }

    /// Whether commands have been entered that have not completed.
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// The slot of a command that the controller knows. Callers keep their slot in the low byte, so the first look mostly
    /// finds it.
    fn sent_slot(slots: &[Slot], cid: u16) -> Option<u16> {
        let is_it = |slot: &Slot| slot.stage == Stage::Sent && slot.cid == cid;
        let guess = cid & 0xFF;
        if slots.get(usize::from(guess)).is_some_and(is_it) {
            return Some(guess);
        }
        slots.iter().position(is_it).and_then(|index| u16::try_from(index).ok())
    }

    /// Ends the connection and tells the controller why.
    fn offended(&mut self, offence: Offence) {
        self.fault = Some(offence.text);
        self.outbox.terminate(&offence, self.inbox.header());
    }

    /// Takes the command out; what it would still have sent is not sent.
    fn complete(&mut self, slot: u16, completion: Completion) -> Result<Completion, Offence> {
        use crate::bdev::nvme::spec::Status;
        /// Transient transport error (Base figure 94).
        const TRANSIENT: Status = Status::from_bits(0x22);

        let index = usize::from(slot);
        let ended = std::mem::replace(&mut self.slots[index], FREE);
        self.busy -= 1;
        self.reads -= u16::from(matches!(ended.data, Data::In(_)));
        let mut completion = completion;
        completion.sq_id = self.id;
        if completion.status.is_ok() {
            let expected = if let Data::In(bytes) = ended.data { bytes } else { ended.data.out_bytes() };
            // TCP §3.3.2: it may not say that it is done with data that it has not sent or taken.
            if ended.moved != expected || ended.transfers != 0 {
                return Err(Offence::sequence("the controller completed a command before its data"));
            }
            if ended.is_damaged {
                completion.status = TRANSIENT;
            }
        }
        self.outbox.withdraw(slot, ended.cid);
        Ok(completion)
    }

    /// Memory of a command.
    fn sink(payloads: &mut dyn Payloads, cid: u16, from: usize, bytes: usize) -> Option<&mut [u8]> {
        payloads.sink(cid)?.get_mut(from..from.checked_add(bytes)?)
    }
}
