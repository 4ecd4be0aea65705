//! Bytes to PDUs: collects a header, then says where each byte of the data segment goes.

use crc_fast::{CrcAlgorithm, Digest};

use crate::buf::Buf;
use crate::iscsi::error::Fatal;
use crate::iscsi::params::Params;
use crate::iscsi::task::Tasks;
use crate::iscsi::wire::{self, BHS_BYTES, Bhs, DIGEST_BYTES, padding_bytes};
use crate::limits;
use crate::slab::Key;

const HEADER_BYTES_MAX: usize = BHS_BYTES + limits::AHS_BYTES_MAX + DIGEST_BYTES;

/// Where a data segment goes.
#[derive(Debug)]
pub(super) enum To {
    /// Nowhere.
    Drop,
    /// Into the open piece of a task.
    Task(Key),
    /// Into a buffer of its own.
    Buf(Buf),
}

/// What is done with a PDU once its data segment is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Nothing: it is ignored.
    Ignore,
    /// It is a command too many beside the window, and rejected.
    TooMany,
    /// Its own handler looks at it.
    Handle,
    /// It created this task.
    Command(Key),
    /// Data for this task.
    Data(Key),
}

/// A data segment under way.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) to: To,
    pub(super) then: Then,
    /// Where in the buffer the next byte goes.
    at: usize,
    /// Bytes still to be placed, and behind them bytes to be dropped.
    place: usize,
    drop: usize,
    /// Padding and digest.
    trailer: [u8; 3 + DIGEST_BYTES],
    trailer_have: usize,
    trailer_bytes: usize,
    digest: Option<Digest>,
}

impl Payload {
    /// The first `place` of `bytes` bytes go to `to` from offset `at`, the rest is dropped.
    pub(super) fn new(to: To, at: usize, place: usize, bytes: usize, then: Then) -> Payload {
        let place = place.min(bytes);
        Payload {
            to,
            then,
            at,
            place,
            drop: bytes - place,
            trailer: [0; 3 + DIGEST_BYTES],
            trailer_have: 0,
            trailer_bytes: 0,
            digest: None,
        }
    }

    fn bytes(&self) -> usize {
        self.place + self.drop
    }

    fn is_complete(&self) -> bool {
        self.place == 0 && self.drop == 0 && self.trailer_have == self.trailer_bytes
    }

    /// Whether the digest, if there is one, matches.
    pub(super) fn is_intact(&self) -> bool {
        let Some(digest) = &self.digest else { return true };
        let padding = self.trailer_bytes - DIGEST_BYTES;
        let mut digest = *digest;
        digest.update(&self.trailer[..padding]);
        let [.., d, c, b, a] = digest.finalize().to_be_bytes();
        self.trailer[padding..self.trailer_bytes] == [a, b, c, d]
    }

    /// The memory for the bytes still to be placed; empty where its task has ended meanwhile.
    fn memory<'a>(&'a mut self, tasks: &'a mut Tasks) -> &'a mut [u8] {
        let (at, end) = (self.at, self.at + self.place);
        let buf = match &mut self.to {
            To::Drop => None,
            To::Buf(buf) => buf.get_mut(at..end),
            To::Task(key) => tasks
                .get_mut(*key)
                .and_then(|task| task.piece.as_mut())
                .and_then(|piece| piece.buf.get_mut(at..end)),
        };
        buf.unwrap_or_default()
    }

    /// `bytes` bytes were received straight into [`Payload::memory`].
    fn placed(&mut self, bytes: usize, tasks: &mut Tasks) {
        if let Some(mut digest) = self.digest.take() {
            let memory = self.memory(tasks);
            digest.update(&memory[..bytes.min(memory.len())]);
            self.digest = Some(digest);
        }
        self.at += bytes;
        self.place -= bytes;
    }

    /// Takes what belongs to the segment from the front of `input`.
    fn take(&mut self, input: &mut &[u8], tasks: &mut Tasks) {
        let bytes = self.place.min(input.len());
        if bytes > 0 {
            let memory = self.memory(tasks);
            if memory.len() >= bytes {
                memory[..bytes].copy_from_slice(&input[..bytes]);
            }
            self.at += bytes;
            self.place -= bytes;
            self.checksum(input, bytes);
        }
        let bytes = if self.place == 0 { self.drop.min(input.len()) } else { 0 };
        self.drop -= bytes;
        self.checksum(input, bytes);
        if self.place == 0 && self.drop == 0 {
            let bytes = (self.trailer_bytes - self.trailer_have).min(input.len());
            self.trailer[self.trailer_have..self.trailer_have + bytes].copy_from_slice(&input[..bytes]);
            self.trailer_have += bytes;
            *input = &input[bytes..];
        }
    }

    fn checksum(&mut self, input: &mut &[u8], bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Some(digest) = &mut self.digest {
            digest.update(&input[..bytes]);
        }
        *input = &input[bytes..];
    }
}

/// Where a connection stands in its byte stream.
#[derive(Debug)]
pub(super) struct Deframer {
    header: [u8; HEADER_BYTES_MAX],
    have: usize,
    payload: Option<Payload>,
}

impl Deframer {
    pub(super) fn new() -> Deframer {
        Deframer { header: [0; HEADER_BYTES_MAX], have: 0, payload: None }
    }

    /// Whether a PDU has begun and not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.have > 0 || self.payload.is_some()
    }

    /// Memory that wants the next bytes of the stream before anything else; may be empty.
    pub(super) fn memory<'a>(&'a mut self, tasks: &'a mut Tasks) -> &'a mut [u8] {
        match &mut self.payload {
            Some(payload) => payload.memory(tasks),
            None => &mut [],
        }
    }

    /// So many bytes were received into [`Deframer::memory`].
    pub(super) fn placed(&mut self, bytes: usize, tasks: &mut Tasks) {
        if let Some(payload) = &mut self.payload
            && bytes > 0
        {
            payload.placed(bytes, tasks);
        }
    }

    /// Collects the header; the header once it is complete and intact.
    pub(super) fn header(&mut self, input: &mut &[u8], params: &Params) -> Result<Option<Bhs>, Fatal> {
        self.collect(BHS_BYTES, input);
        if self.have < BHS_BYTES {
            return Ok(None);
        }
        let mut bhs = Bhs([0; BHS_BYTES]);
        bhs.0.copy_from_slice(&self.header[..BHS_BYTES]);
        if bhs.ahs_bytes() > limits::AHS_BYTES_MAX {
            return Err(Fatal::Protocol("an additional header segment longer than any that exists"));
        }
        if bhs.data_bytes() > params.recv_segment_bytes_max {
            return Err(Fatal::Protocol("a data segment longer than our MaxRecvDataSegmentLength"));
        }
        let end = BHS_BYTES + bhs.ahs_bytes();
        let whole = end + if params.header_digest { DIGEST_BYTES } else { 0 };
        if whole == BHS_BYTES {
            return Ok(Some(bhs));
        }
        self.collect(whole, input);
        if self.have < whole {
            return Ok(None);
        }
        if params.header_digest && self.header[end..whole] != wire::crc32c(&[&self.header[..end]]) {
            return Err(Fatal::HeaderDigest);
        }
        Ok(Some(bhs))
    }

    /// The additional header segments of the header that was last complete, which is this one.
    pub(super) fn segments(&self, bhs: &Bhs) -> &[u8] {
        let segments = self.header[BHS_BYTES..].get(..bhs.ahs_bytes());
        segments.unwrap_or_default()
    }

    /// The header that is collected, of which all is there.
    pub(super) fn begun(&self) -> &[u8; BHS_BYTES] {
        self.header.first_chunk().unwrap_or(&[0; BHS_BYTES])
    }

    fn collect(&mut self, upto: usize, input: &mut &[u8]) {
        let bytes = upto.saturating_sub(self.have).min(input.len());
        self.header[self.have..self.have + bytes].copy_from_slice(&input[..bytes]);
        self.have += bytes;
        *input = &input[bytes..];
    }

    /// Says what becomes of the data segment of the header that is complete.
    pub(super) fn begin(&mut self, mut payload: Payload, params: &Params) {
        let bytes = payload.bytes();
        if bytes > 0 {
            payload.trailer_bytes = padding_bytes(bytes) + if params.data_digest { DIGEST_BYTES } else { 0 };
            payload.digest = params.data_digest.then(|| Digest::new(CrcAlgorithm::Crc32Iscsi));
        }
        self.payload = Some(payload);
    }

    /// Whether a data segment is under way.
    pub(super) fn in_payload(&self) -> bool {
        self.payload.is_some()
    }

    /// Takes from `input`; the PDU once its data segment is complete.
    pub(super) fn payload(&mut self, input: &mut &[u8], tasks: &mut Tasks) -> Option<(Bhs, Payload)> {
        let payload = self.payload.as_mut()?;
        payload.take(input, tasks);
        if !payload.is_complete() {
            return None;
        }
        self.have = 0;
        let mut bhs = Bhs([0; BHS_BYTES]);
        bhs.0.copy_from_slice(&self.header[..BHS_BYTES]);
        self.payload.take().map(|payload| (bhs, payload))
    }
}
