//! The admin queue: few commands at once, a page of data for each.

use std::sync::Arc;

use super::registers::Capabilities;
use super::ring::{Layout, Pair, Ring};
use super::shadow::Doorbell;
use crate::bdev::nvme::bus::Bus;
use crate::bdev::nvme::spec::{Command, Completion, DataPointer};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData};

/// Entries of the admin queues.
pub(super) const ENTRIES: u16 = 32;
/// Commands at once: as many as entries, but for one.
const SLOTS: usize = ENTRIES as usize - 1;

/// A command that is at the controller.
#[derive(Clone, Copy, Debug)]
struct Sent {
    cid: u16,
    opcode: u8,
    /// Its page holds an answer.
    has_answer: bool,
}

/// The admin queue. Invariant: a slot is free exactly when no command in the ring uses it.
#[derive(Debug)]
pub(super) struct AdminRing {
    ring: Ring,
    sent: [Option<Sent>; SLOTS],
    /// The last answer, out of the device's reach.
    answer: Box<[u8; ADMIN_DATA_BYTES]>,
}

impl AdminRing {
    pub(super) fn allocate(bus: &Arc<dyn Bus>, capabilities: &Capabilities) -> Result<AdminRing, String> {
        let (submission, completion) = capabilities.doorbells(&**bus, 0)?;
        let pair = Pair::allocate(bus, 0, Layout::new(ENTRIES, ADMIN_DATA_BYTES), 0)?;
        let doorbells = (Doorbell::new(submission), Doorbell::new(completion));
        Ok(AdminRing {
            ring: Ring::new(Arc::clone(bus), Arc::new(pair), doorbells),
            sent: [None; SLOTS],
            answer: Box::new([0; ADMIN_DATA_BYTES]),
        })
    }

    pub(super) fn pair(&self) -> &Pair {
        self.ring.pair()
    }

    pub(super) fn fault(&self) -> Option<&'static str> {
        self.ring.fault()
    }

    /// Enters a command, with its data or with pointers to elsewhere; false where there is no room.
    pub(super) fn submit(
        &mut self,
        cid: u16,
        command: &Command,
        data: AdminData<'_>,
        elsewhere: Option<DataPointer>,
    ) -> bool {
        let free = (0..).zip(&mut self.sent).find(|(_, sent)| sent.is_none());
        let Some((slot, sent)) = free else { return false };
        let Pair { layout, dma, .. } = self.ring.pair();
        let at = layout.slot(slot);
        let page = DataPointer::Prp(dma.device(at), 0);
        let pointer = match (elsewhere, data) {
            (Some(elsewhere), _) => elsewhere,
            (None, AdminData::None) => DataPointer::None,
            (None, AdminData::In) => {
                // A controller that fills less must not leave us an older command's data.
                dma.clear(at, ADMIN_DATA_BYTES);
                page
            }
            (None, AdminData::Out(bytes)) => {
                dma.clear(at, ADMIN_DATA_BYTES);
                dma.store_bytes(at, &bytes[..bytes.len().min(ADMIN_DATA_BYTES)]);
                page
            }
        };
        if !self.ring.push(&command.encode(cid, pointer)) {
            return false;
        }
        let has_answer = elsewhere.is_none() && matches!(data, AdminData::In);
        *sent = Some(Sent { cid, opcode: command.opcode, has_answer });
        self.ring.ring();
        true
    }

    /// The next completion: its command's opcode where there is such a command, and its data.
    #[expect(clippy::type_complexity, reason = "what Transport::pop gives, and the opcode")]
    pub(super) fn pop(&mut self) -> Option<(Completion, Option<u8>, Option<&[u8; ADMIN_DATA_BYTES]>)> {
        let completion = self.ring.pop()?;
        self.ring.acknowledge();
        let known = (0..)
            .zip(&mut self.sent)
            .find(|(_, sent)| sent.is_some_and(|sent| sent.cid == completion.cid))
            .and_then(|(slot, sent)| Some((slot, sent.take()?)));
        let Some((slot, sent)) = known else { return Some((completion, None, None)) };
        if !sent.has_answer {
            return Some((completion, Some(sent.opcode), None));
        }
        let Pair { layout, dma, .. } = self.ring.pair();
        dma.load_bytes(layout.slot(slot), &mut *self.answer);
        Some((completion, Some(sent.opcode), Some(&*self.answer)))
    }
}
