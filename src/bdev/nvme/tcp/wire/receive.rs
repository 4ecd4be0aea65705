//! What comes from the controller: a header is collected, its data go straight into the command's memory.

use std::io::IoSliceMut;

use crc_fast::Digest;

use super::send::Item;
use super::{Data, R2T_MAX, Wire};
use crate::bdev::nvme::queue::Payloads;
use crate::bdev::nvme::spec::{Completion, Status};
use crate::bdev::nvme::tcp::pdu::{
    self, COMMON_BYTES, Common, DIGEST_BYTES, Digests, Greeting, HEADER_BYTES_MAX, Kind, Offence,
    ReadyToTransfer, SHORT_BYTES,
};

/// What is received besides data.
const STAGED_BYTES: usize = 4096;
/// As much of it is offered while data are expected: what comes after them is mostly the header of other data, which are
/// not to end up here.
const STAGED_BYTES_WITH_DATA: usize = 128;

/// Data under way.
#[derive(Debug)]
struct Body {
    slot: u16,
    cid: u16,
    /// Where the next byte goes.
    at: usize,
    left: usize,
    digest: Option<Digest>,
    trailer: [u8; DIGEST_BYTES],
    trailer_have: usize,
    trailer_bytes: usize,
    is_success: bool,
}

/// Where the connection stands in what it receives. Invariant: a header is collected, or data are under way.
#[derive(Debug)]
pub(super) struct Inbox {
    staged: Box<[u8]>,
    from: usize,
    to: usize,
    header: [u8; HEADER_BYTES_MAX],
    have: usize,
    common: Option<Common>,
    body: Option<Body>,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            staged: vec![0; STAGED_BYTES].into(),
            from: 0,
            to: 0,
            header: [0; HEADER_BYTES_MAX],
            have: 0,
            common: None,
            body: None,
        }
    }

    /// The header of the PDU that is received or was received last.
    pub(super) fn header(&self) -> &[u8] {
        &self.header[..self.have.min(SHORT_BYTES)]
    }

    /// Collects up to `upto` bytes of the header; whether they are there.
    fn collect(&mut self, upto: usize) -> bool {
        let bytes = upto.saturating_sub(self.have).min(self.to - self.from);
        self.header[self.have..self.have + bytes].copy_from_slice(&self.staged[self.from..self.from + bytes]);
        self.from += bytes;
        self.have += bytes;
        self.have >= upto
    }

    /// A complete header, none where there is less.
    fn pdu(&mut self, digests: Digests) -> Result<Option<Common>, Offence> {
        let common = match self.common {
            Some(common) => common,
            None => {
                if !self.collect(COMMON_BYTES) {
                    return Ok(None);
                }
                let first = self.header.first_chunk::<COMMON_BYTES>().copied().unwrap_or_default();
                *self.common.insert(Common::decode(first, digests)?)
            }
        };
        if !self.collect(common.header_bytes()) {
            return Ok(None);
        }
        common.check_digest(&self.header, digests)?;
        Ok(Some(common))
    }

    fn begin_anew(&mut self) {
        (self.have, self.common) = (0, None);
    }
}

/// What a step came to.
enum Step {
    /// There is more to look at.
    Went,
    /// Bytes are missing.
    Starved,
    /// A command has ended.
    Completed(Completion),
}

impl Wire {
    /// Whether a PDU has begun and not ended.
    pub(in super::super) fn is_inside(&self) -> bool {
        self.inbox.have > 0 || self.inbox.body.is_some()
    }

    /// Whether bytes were received that [`Wire::next`] has not looked at.
    pub(in super::super) fn has_unread(&self) -> bool {
        self.inbox.from < self.inbox.to
    }

    /// Where the next bytes go, in order. Only after [`Wire::next`] has nothing more, and not after a fault.
    pub(in super::super) fn room<'a>(&'a mut self, payloads: &'a mut dyn Payloads) -> [IoSliceMut<'a>; 2] {
        let inbox = &mut self.inbox;
        if inbox.from == inbox.to {
            (inbox.from, inbox.to) = (0, 0);
        }
        let end = if self.reads > 0 { inbox.to + STAGED_BYTES_WITH_DATA } else { STAGED_BYTES };
        let staged = &mut inbox.staged[inbox.to..end.min(STAGED_BYTES)];
        let memory = match &inbox.body {
            None => &mut [],
            // Without its memory the body is found out by `next`.
            Some(body) => Wire::sink(payloads, body.cid, body.at, body.left).unwrap_or_default(),
        };
        [IoSliceMut::new(memory), IoSliceMut::new(staged)]
    }

    /// So many bytes came into [`Wire::room`].
    pub(in super::super) fn received(&mut self, bytes: usize, payloads: &mut dyn Payloads) {
        let mut staged = bytes;
        if let Some(body) = &mut self.inbox.body
            && let Some(memory) = Wire::sink(payloads, body.cid, body.at, body.left)
        {
            let placed = bytes.min(body.left);
            if let Some(digest) = &mut body.digest {
                digest.update(&memory[..placed]);
            }
            body.at += placed;
            body.left -= placed;
            staged -= placed;
        }
        self.inbox.to = (self.inbox.to + staged).min(STAGED_BYTES);
    }

    /// The next completion in what was received; none where it has to receive more.
    pub(in super::super) fn next(&mut self, payloads: &mut dyn Payloads) -> Option<Completion> {
        while self.fault.is_none() {
            let step = if self.inbox.body.is_some() { self.body(payloads) } else { self.header() };
            match step {
                Ok(Step::Went) => {}
                Ok(Step::Starved) => break,
                Ok(Step::Completed(completion)) => return Some(completion),
                Err(offence) => self.offended(offence),
            }
        }
        None
    }

    fn header(&mut self) -> Result<Step, Offence> {
        let digests = self.agreed.map(|greeting| greeting.digests).unwrap_or_default();
        let Some(common) = self.inbox.pdu(digests)? else { return Ok(Step::Starved) };
        let is_greeted = self.agreed.is_some();
        let step = match common.kind {
            Kind::Term => {
                self.fault = Some(pdu::termination(&self.inbox.header));
                Step::Went
            }
            // TCP §3.5: one greeting, before everything else.
            Kind::Greeting if !is_greeted => {
                self.agreed = Some(Greeting::decode(&self.inbox.header, self.wanted)?);
                Step::Went
            }
            Kind::Greeting => return Err(Offence::sequence("the controller greets twice")),
            _ if !is_greeted => return Err(Offence::sequence("the controller does not greet first")),
            Kind::Response => {
                let (completion, _) = Completion::decode(pdu::response(&self.inbox.header));
                let slot = Wire::sent_slot(&self.slots, completion.cid)
                    .ok_or(Offence::header(20, "the controller completed a command that it does not have"))?;
                Step::Completed(self.complete(slot, completion)?)
            }
            Kind::Data => {
                let data = pdu::Data::decode(&self.inbox.header, &common, digests)?;
                self.begin_body(&data, digests)?;
                Step::Went
            }
            Kind::ReadyToTransfer => {
                self.transfer(ReadyToTransfer::decode(&self.inbox.header))?;
                Step::Went
            }
        };
        if self.fault.is_none() {
            self.inbox.begin_anew();
        }
        Ok(step)
    }

    fn begin_body(&mut self, data: &pdu::Data, digests: Digests) -> Result<(), Offence> {
        let unknown = Offence::header(8, "the controller sent data of a command that it does not have");
        let index = Wire::sent_slot(&self.slots, data.cid).ok_or(unknown)?;
        let slot = &mut self.slots[usize::from(index)];
        let Data::In(bytes) = slot.data else {
            return Err(Offence::header(8, "the controller sent data of a command that reads none"));
        };
        let end = data
            .offset
            .checked_add(data.bytes)
            .filter(|end| *end <= bytes)
            .ok_or(Offence::out_of_range(12))?;
        // They come without gaps, so that each byte comes once and a command without a gap at its end has all of them.
        if data.offset != slot.moved {
            return Err(Offence::header(12, "the controller sent data with a gap, or twice"));
        }
        if data.is_last && end != bytes {
            return Err(Offence::header(1, "the controller ended a command's data too early"));
        }
        slot.moved = end;
        self.inbox.body = Some(Body {
            slot: index,
            cid: data.cid,
            at: data.offset,
            left: data.bytes,
            digest: digests.data.then(pdu::digest),
            trailer: [0; DIGEST_BYTES],
            trailer_have: 0,
            trailer_bytes: digests.data_bytes(),
            is_success: data.is_success,
        });
        Ok(())
    }

    fn body(&mut self, payloads: &mut dyn Payloads) -> Result<Step, Offence> {
        let inbox = &mut self.inbox;
        let Some(body) = &mut inbox.body else { return Ok(Step::Went) };
        let bytes = body.left.min(inbox.to - inbox.from);
        if body.left > 0 {
            let Some(memory) = Wire::sink(payloads, body.cid, body.at, body.left) else {
                self.give_up("a command's memory went away before the command ended");
                return Ok(Step::Went);
            };
            let staged = &inbox.staged[inbox.from..inbox.from + bytes];
            memory[..bytes].copy_from_slice(staged);
            if let Some(digest) = &mut body.digest {
                digest.update(staged);
            }
            inbox.from += bytes;
            body.at += bytes;
            body.left -= bytes;
        }
        if body.left > 0 {
            return Ok(Step::Starved);
        }
        let bytes = (body.trailer_bytes - body.trailer_have).min(inbox.to - inbox.from);
        body.trailer[body.trailer_have..body.trailer_have + bytes]
            .copy_from_slice(&inbox.staged[inbox.from..inbox.from + bytes]);
        inbox.from += bytes;
        body.trailer_have += bytes;
        if body.trailer_have < body.trailer_bytes {
            return Ok(Step::Starved);
        }
        let is_intact = body.digest.as_ref().is_none_or(|digest| pdu::digest_bytes(digest) == body.trailer);
        let (slot, cid, is_success) = (body.slot, body.cid, body.is_success);
        inbox.body = None;
        // TCP §3.4.2: the connection lives, the command fails once it is completed.
        self.slots[usize::from(slot)].is_damaged |= !is_intact;
        if !is_success {
            return Ok(Step::Went);
        }
        let completion = Completion { result: 0, sq_head: 0, sq_id: 0, cid, status: Status::from_bits(0) };
        Ok(Step::Completed(self.complete(slot, completion)?))
    }

    /// What an R2T asks for is entered.
    fn transfer(&mut self, asked: ReadyToTransfer) -> Result<(), Offence> {
        let unknown = Offence::header(8, "the controller asks for data of a command that it does not have");
        let index = Wire::sent_slot(&self.slots, asked.cid).ok_or(unknown)?;
        let slot = &mut self.slots[usize::from(index)];
        let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
        let end =
            size(asked.offset).checked_add(size(asked.bytes)).filter(|end| *end <= slot.data.out_bytes());
        let end = end.filter(|_| asked.bytes > 0).ok_or(Offence::out_of_range(12))?;
        // In order and without gaps: then who has asked to the end has asked for everything, once.
        if size(asked.offset) != slot.moved {
            return Err(Offence::header(12, "the controller asks for data with a gap, or twice"));
        }
        if slot.transfers == R2T_MAX {
            return Err(Offence::R2T_LIMIT);
        }
        slot.moved = end;
        slot.transfers += 1;
        let ReadyToTransfer { tag, offset, bytes, .. } = asked;
        self.outbox.enter(Item::Transfer { slot: index, tag, offset, bytes });
        Ok(())
    }
}
