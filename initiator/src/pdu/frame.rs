//! Bytes from and to PDUs: lengths, padding, digests (RFC 7143 §11.1, 13.1).

use super::{Bhs, Pdu, length, size};

/// CRC32C (Castagnoli). A digest is this number, its lowest byte first on the wire.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    // The 32-bit result of a 32-bit algorithm fits.
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or(0)
}

/// Which digests are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digests {
    /// HeaderDigest=CRC32C.
    pub header: bool,
    /// DataDigest=CRC32C.
    pub data: bool,
}

/// Faults of a PDU, for hostile tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaw {
    /// Flip the bits of the header digest.
    pub header_digest: bool,
    /// Flip the bits of the data digest.
    pub data_digest: bool,
    /// Leave both lengths in the header as they stand.
    pub keep_lengths: bool,
    /// Pad with this byte instead of zero.
    pub padding: u8,
    /// Leave the padding out.
    pub no_padding: bool,
}

/// A received PDU that lies in somebody's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PduRef<'a> {
    /// The header.
    pub bhs: Bhs,
    /// Additional header segments.
    pub ahs: &'a [u8],
    /// The data segment, without padding.
    pub data: &'a [u8],
}

impl PduRef<'_> {
    /// An owned copy.
    #[must_use]
    pub fn to_pdu(&self) -> Pdu {
        Pdu { bhs: self.bhs, ahs: self.ahs.to_vec(), data: self.data.to_vec() }
    }
}

/// Why the stream of PDUs cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FrameError {
    #[error("header digest {found:#010x}, computed {computed:#010x}")]
    HeaderDigest { found: u32, computed: u32 },
    #[error("data digest {found:#010x}, computed {computed:#010x}")]
    DataDigest { found: u32, computed: u32 },
    #[error("a data segment of {bytes} bytes, above the limit of {bytes_max}")]
    DataTooLong { bytes: u32, bytes_max: u32 },
    #[error("padding that is not zero")]
    Padding,
}

/// Cuts a stream of bytes into PDUs. It buffers at most one PDU, and none that arrives whole.
#[derive(Debug, Default)]
pub struct Deframer {
    // Invariant: `partial` is never longer than the PDU at its head.
    /// The digests expected; may be changed between two PDUs.
    pub digests: Digests,
    /// The longest data segment accepted.
    pub data_bytes_max: u32,
    partial: Vec<u8>,
    /// The partial PDU was returned and is to be dropped at the next call.
    returned: bool,
}

impl Deframer {
    /// A deframer without digests.
    #[must_use]
    pub fn new(data_bytes_max: u32) -> Self {
        Self { data_bytes_max, ..Self::default() }
    }

    /// Takes bytes off the front of `input` and returns the next PDU, or `None` when `input` is used up.
    ///
    /// # Errors
    /// See [`FrameError`]; the stream is lost then.
    pub fn next<'a, 'b: 'a>(&'a mut self, input: &mut &'b [u8]) -> Result<Option<PduRef<'a>>, FrameError> {
        if self.returned {
            self.partial.clear();
            self.returned = false;
        }
        if self.partial.is_empty() {
            let whole = self.whole_bytes(input)?;
            if let Some(whole) = whole.filter(|&n| n <= input.len()) {
                let (pdu, rest) = input.split_at(whole);
                *input = rest;
                return self.parse(pdu).map(Some);
            }
        }
        loop {
            // A partial PDU shorter than its header wants the header first.
            let wanted = self.whole_bytes(&self.partial)?.unwrap_or(48);
            let missing = wanted - self.partial.len();
            if missing == 0 {
                break;
            }
            let (head, rest) = input.split_at(missing.min(input.len()));
            if head.is_empty() {
                return Ok(None);
            }
            *input = rest;
            self.partial.extend_from_slice(head);
        }
        self.returned = true;
        self.parse(&self.partial).map(Some)
    }

    /// Bytes of the PDU whose head is given, once 48 bytes are there.
    fn whole_bytes(&self, head: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(bhs) = head.first_chunk::<48>().copied().map(Bhs) else { return Ok(None) };
        if bhs.data_bytes() > self.data_bytes_max {
            return Err(FrameError::DataTooLong { bytes: bhs.data_bytes(), bytes_max: self.data_bytes_max });
        }
        let data = size(bhs.data_bytes()).next_multiple_of(4);
        let digests = 4 * (usize::from(self.digests.header) + usize::from(self.digests.data && data > 0));
        Ok(Some(48 + bhs.ahs_bytes() + data + digests))
    }

    /// Splits one whole PDU.
    fn parse<'a>(&self, bytes: &'a [u8]) -> Result<PduRef<'a>, FrameError> {
        let bhs = bytes.first_chunk::<48>().copied().map(Bhs).unwrap_or_default();
        let (header, mut rest) = bytes.split_at(48 + bhs.ahs_bytes());
        if self.digests.header {
            let (found, after) = take_digest(rest);
            rest = after;
            let computed = crc32c(header);
            if found != computed {
                return Err(FrameError::HeaderDigest { found, computed });
            }
        }
        let data_bytes = size(bhs.data_bytes());
        let (padded, rest) = rest.split_at(data_bytes.next_multiple_of(4));
        if self.digests.data && data_bytes > 0 {
            let (found, _) = take_digest(rest);
            let computed = crc32c(padded);
            if found != computed {
                return Err(FrameError::DataDigest { found, computed });
            }
        }
        let (data, padding) = padded.split_at(data_bytes);
        // RFC 7143 §11.1: padding bytes SHOULD be sent as 0. What is there instead is somebody else's memory.
        if padding.iter().any(|&b| b != 0) {
            return Err(FrameError::Padding);
        }
        Ok(PduRef { bhs, ahs: &header[48..], data })
    }
}

fn take_digest(bytes: &[u8]) -> (u32, &[u8]) {
    match bytes.split_first_chunk::<4>() {
        Some((digest, rest)) => (u32::from_le_bytes(*digest), rest),
        None => (0, bytes),
    }
}

/// Appends a PDU made of parts, lengths and digests right.
pub(crate) fn encode(mut bhs: Bhs, ahs: &[u8], data: &[u8], digests: Digests, out: &mut Vec<u8>) {
    bhs.set_ahs_words(u8::try_from(ahs.len().div_ceil(4)).unwrap_or(u8::MAX))
        .set_data_bytes(length(data.len()));
    write(bhs, ahs, data, digests, Flaw::default(), out);
}

pub(super) fn encode_flawed(pdu: &Pdu, digests: Digests, flaw: Flaw, out: &mut Vec<u8>) {
    if flaw.keep_lengths {
        write(pdu.bhs, &pdu.ahs, &pdu.data, digests, flaw, out);
    } else {
        let mut bhs = pdu.bhs;
        bhs.set_ahs_words(u8::try_from(pdu.ahs.len().div_ceil(4)).unwrap_or(u8::MAX));
        bhs.set_data_bytes(length(pdu.data.len()));
        write(bhs, &pdu.ahs, &pdu.data, digests, flaw, out);
    }
}

fn write(bhs: Bhs, ahs: &[u8], data: &[u8], digests: Digests, flaw: Flaw, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&bhs.0);
    out.extend_from_slice(ahs);
    pad(out, ahs.len(), flaw);
    if digests.header {
        let digest = crc32c(&out[start..]) ^ if flaw.header_digest { u32::MAX } else { 0 };
        out.extend_from_slice(&digest.to_le_bytes());
    }
    let start = out.len();
    out.extend_from_slice(data);
    pad(out, data.len(), flaw);
    if digests.data && !data.is_empty() {
        let digest = crc32c(&out[start..]) ^ if flaw.data_digest { u32::MAX } else { 0 };
        out.extend_from_slice(&digest.to_le_bytes());
    }
}

fn pad(out: &mut Vec<u8>, bytes: usize, flaw: Flaw) {
    if !flaw.no_padding {
        out.resize(out.len() + bytes.next_multiple_of(4) - bytes, flaw.padding);
    }
}
