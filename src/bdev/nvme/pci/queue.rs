//! A pair of IO queues over PCIe.

use std::sync::Arc;

use super::dma::Dma;
use super::prp::{BYTES_MAX, LIST_BYTES, LIST_ENTRIES, Mappings, NoPointer};
use super::ring::{Layout, PAGE_BYTES, Pair, Ring};
use super::shadow::Doorbell;
use crate::bdev::Wake;
use crate::bdev::nvme::bus::{Bus, Mapping};
use crate::bdev::nvme::queue::{Payload, Payloads, PushError, Queue};
use crate::bdev::nvme::spec::{Command, DataPointer, Ended};
use crate::buf::Buf;
use crate::time::Tick;

/// A page of zeroes, and a list that leads to nothing else, behind the slots.
const ZEROES_BYTES: usize = PAGE_BYTES + LIST_BYTES;

/// A pair of IO queues. A slot's memory is a PRP list, or the bytes of [`Payload::Inline`].
#[derive(Debug)]
pub(super) struct PciQueue {
    ring: Ring,
    mappings: Mappings,
}

impl PciQueue {
    /// Memory for a pair, before the controller is told of it.
    pub(super) fn allocate(bus: &Arc<dyn Bus>, id: u16, entries: u16) -> Result<Pair, String> {
        let pair = Pair::allocate(bus, id, Layout::new(entries, LIST_BYTES), ZEROES_BYTES)?;
        let zeroes = pair.dma.device(pair.layout.rest);
        for index in 0..LIST_ENTRIES {
            pair.dma.store(pair.layout.rest + PAGE_BYTES + 8 * index, zeroes);
        }
        Ok(pair)
    }

    /// Over the memory that [`PciQueue::allocate`] gave, which the controller uses by now.
    pub(super) fn new(bus: Arc<dyn Bus>, pair: Arc<Pair>, doorbells: (Doorbell, Doorbell)) -> PciQueue {
        PciQueue { ring: Ring::new(bus, pair, doorbells), mappings: Mappings::default() }
    }

    fn dma(&self) -> &Dma {
        &self.ring.pair().dma
    }

    /// Pointers to a part of a buffer.
    fn part(&mut self, slot: u16, buf: &Buf, part: (usize, usize)) -> Result<DataPointer, NoPointer> {
        let address = address(buf, part).ok_or(NoPointer::Impossible)?;
        let pair = self.ring.pair();
        self.mappings.pointers(address, part.1, |index, page| {
            let list = pair.layout.slot(slot);
            pair.dma.store(list + 8 * index, page);
            pair.dma.device(list)
        })
    }

    /// Pointers to so many zeroes.
    fn zeroes(&self, bytes: usize) -> Result<DataPointer, NoPointer> {
        let page = self.ring.pair().layout.rest;
        let (zeroes, list) = (self.dma().device(page), self.dma().device(page + PAGE_BYTES));
        match bytes.div_ceil(PAGE_BYTES) {
            0 => Ok(DataPointer::None),
            1 => Ok(DataPointer::Prp(zeroes, 0)),
            2 => Ok(DataPointer::Prp(zeroes, zeroes)),
            _ if bytes <= BYTES_MAX => Ok(DataPointer::Prp(zeroes, list)),
            _ => Err(NoPointer::Impossible),
        }
    }

    /// As [`Queue::push`], whatever the payload is.
    #[inline(never)]
    fn push_any(
        &mut self,
        slot: u16,
        cid: u16,
        command: &Command,
        payload: Payload<'_>,
    ) -> Result<(), PushError> {
        let pointer = match payload {
            Payload::None => Ok(DataPointer::None),
            Payload::Read(buf, part) | Payload::Write(buf, part) => self.part(slot, buf, part),
            Payload::Zeroes(bytes) => self.zeroes(bytes),
            Payload::Inline(range) => {
                let at = self.ring.pair().layout.slot(slot);
                self.dma().store_bytes(at, range.bytes());
                Ok(DataPointer::Prp(self.dma().device(at), 0))
            }
        };
        match pointer {
            Ok(pointer) => self.enter(cid, command, pointer),
            Err(NoPointer::Unmapped) => Err(PushError::Unmapped),
            Err(NoPointer::Impossible) => {
                self.ring.break_for("a command with data that no pointer can name");
                Err(PushError::Broken)
            }
        }
    }

    #[inline(always)]
    fn enter(&mut self, cid: u16, command: &Command, pointer: DataPointer) -> Result<(), PushError> {
        if self.ring.push(&command.encode(cid, pointer)) { Ok(()) } else { Err(PushError::Broken) }
    }
}

/// Where a part of a buffer is; none where the buffer does not have it.
#[inline(always)]
fn address(buf: &Buf, (from, bytes): (usize, usize)) -> Option<usize> {
    Some(buf.get(from..from.checked_add(bytes)?)?.as_ptr().addr())
}

impl Queue for PciQueue {
    fn depth(&self) -> u16 {
        self.ring.depth()
    }

    fn bytes_max(&self) -> usize {
        BYTES_MAX
    }

    fn push(
        &mut self,
        slot: u16,
        cid: u16,
        command: &Command,
        payload: Payload<'_>,
    ) -> Result<(), PushError> {
        if let Payload::Read(buf, part) | Payload::Write(buf, part) = payload
            && let Some(page) = address(buf, part).and_then(|address| self.mappings.page(address, part.1))
        {
            return self.enter(cid, command, DataPointer::Prp(page, 0));
        }
        self.push_any(slot, cid, command, payload)
    }

    fn ring(&mut self, _payloads: &mut dyn Payloads) {
        self.ring.ring();
    }

    fn pop(&mut self, _payloads: &mut dyn Payloads, _now: Tick) -> Option<Ended> {
        self.ring.pop().map(Ended::from)
    }

    fn acknowledge(&mut self) {
        self.ring.acknowledge();
    }

    fn learn(&mut self, mapping: Mapping) {
        if !self.mappings.learn(mapping) {
            self.ring.break_for("more pools than a queue can know");
        }
    }

    fn fault(&self) -> Option<&'static str> {
        self.ring.fault()
    }

    fn wake(&self) -> Wake {
        if self.ring.outstanding() == 0 { Wake::Idle } else { Wake::MustPoll }
    }
}
