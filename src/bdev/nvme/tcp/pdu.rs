//! PDUs of NVMe/TCP (TCP §3.6): what a host sends is encoded, what a controller sends is decoded, whatever it is.

use crc_fast::{CrcAlgorithm, Digest};

use crate::bdev::nvme::spec::Entry;

/// The common header (TCP §3.6.1).
pub(super) const COMMON_BYTES: usize = 8;
/// Header of a capsule with a command.
pub(super) const COMMAND_BYTES: usize = 72;
/// Header of every PDU about data, of a response and of a termination.
pub(super) const SHORT_BYTES: usize = 24;
/// ICReq and ICResp.
pub(super) const GREETING_BYTES: usize = 128;
/// A digest.
pub(super) const DIGEST_BYTES: usize = 4;
/// The most that stands before a PDU's data: PDO has 8 bits.
pub(super) const HEADER_BYTES_MAX: usize = 256;
/// The most of a PDU that a termination may bring back (TCP §3.6.2.4).
const TERM_DATA_BYTES_MAX: usize = 128;
/// MAXH2CDATA is at least this (TCP §3.6.2.3).
const DATA_BYTES_MAX_LEAST: u32 = 4096;
/// CPDA and HPDA, at most.
const ALIGNMENT_MAX: u8 = 31;

const HEADER_DIGEST: u8 = 1 << 0;
const DATA_DIGEST: u8 = 1 << 1;
const LAST: u8 = 1 << 2;
const SUCCESS: u8 = 1 << 3;

/// What both sides agreed on for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Digests {
    /// CRC32C after every header.
    pub(crate) header: bool,
    /// CRC32C after data.
    pub(crate) data: bool,
}

impl Digests {
    fn bits(self) -> u8 {
        u8::from(self.header) | u8::from(self.data) << 1
    }

    fn header_bytes(self) -> usize {
        if self.header { DIGEST_BYTES } else { 0 }
    }

    pub(super) fn data_bytes(self) -> usize {
        if self.data { DIGEST_BYTES } else { 0 }
    }
}

/// What a controller did that it must not do: what it is told (TCP §3.6.2.4), and what the log is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Offence {
    /// Fatal error status.
    pub(super) status: u16,
    /// Fatal error information.
    pub(super) info: u32,
    /// In words.
    pub(super) text: &'static str,
}

impl Offence {
    /// A field of the header, by its first byte.
    pub(super) const fn header(byte: u32, text: &'static str) -> Offence {
        Offence { status: 1, info: byte, text }
    }

    pub(super) const fn sequence(text: &'static str) -> Offence {
        Offence { status: 2, info: 0, text }
    }

    pub(super) const fn digest(found: u32) -> Offence {
        Offence { status: 3, info: found, text: "the controller sent a header whose digest is wrong" }
    }

    /// The byte is where the header names the offset.
    pub(super) const fn out_of_range(byte: u32) -> Offence {
        Offence { status: 4, info: byte, text: "the controller names data outside of the command's" }
    }

    pub(super) const R2T_LIMIT: Offence =
        Offence { status: 5, info: 0, text: "the controller asks for data more often than it may at once" };

    pub(super) const fn unsupported(byte: u32, text: &'static str) -> Offence {
        Offence { status: 6, info: byte, text }
    }
}

/// What a controller sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Greeting,
    Term,
    Response,
    Data,
    ReadyToTransfer,
}

/// A common header that may be the beginning of a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Common {
    pub(super) kind: Kind,
    flags: u8,
    data_offset: usize,
    bytes: usize,
}

impl Common {
    /// Every field, against what the kind of PDU allows.
    pub(super) fn decode(common: [u8; COMMON_BYTES], digests: Digests) -> Result<Common, Offence> {
        let [kind, flags, header_bytes, data_offset, bytes @ ..] = common;
        let (kind, expected_bytes) = match kind {
            0x01 => (Kind::Greeting, GREETING_BYTES),
            0x03 => (Kind::Term, SHORT_BYTES),
            0x05 => (Kind::Response, SHORT_BYTES),
            0x07 => (Kind::Data, SHORT_BYTES),
            0x09 => (Kind::ReadyToTransfer, SHORT_BYTES),
            _ => return Err(Offence::header(0, "the controller sent a PDU of a type that it has not")),
        };
        if usize::from(header_bytes) != expected_bytes {
            return Err(Offence::header(2, "the controller sent a PDU whose header has another length"));
        }
        let is_plain = matches!(kind, Kind::Greeting | Kind::Term);
        if (flags & HEADER_DIGEST != 0) != (digests.header && !is_plain)
            || (flags & DATA_DIGEST != 0) != (digests.data && kind == Kind::Data)
        {
            return Err(Offence::header(
                1,
                "the controller sent a PDU with or without a digest, against what was agreed",
            ));
        }
        let common = Common {
            kind,
            flags,
            data_offset: usize::from(data_offset),
            bytes: usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX),
        };
        let whole = expected_bytes + if is_plain { 0 } else { digests.header_bytes() };
        let is_as_long = match kind {
            Kind::Term => (whole..=whole + TERM_DATA_BYTES_MAX).contains(&common.bytes),
            Kind::Data => common.bytes > common.data_offset,
            Kind::Greeting | Kind::Response | Kind::ReadyToTransfer => common.bytes == whole,
        };
        if !is_as_long {
            return Err(Offence::header(4, "the controller sent a PDU of a length that it cannot have"));
        }
        if kind == Kind::Data && common.data_offset < whole {
            return Err(Offence::header(3, "the controller sent data that begin within their header"));
        }
        Ok(common)
    }

    /// Bytes before the PDU's data: at most [`HEADER_BYTES_MAX`].
    pub(super) fn header_bytes(&self) -> usize {
        if self.kind == Kind::Data { self.data_offset } else { self.bytes.min(HEADER_BYTES_MAX) }
    }

    /// Checks a complete header's digest, where there is one.
    pub(super) fn check_digest(
        &self,
        header: &[u8; HEADER_BYTES_MAX],
        digests: Digests,
    ) -> Result<(), Offence> {
        if !digests.header || matches!(self.kind, Kind::Greeting | Kind::Term) {
            return Ok(());
        }
        let found = word_at(header, SHORT_BYTES);
        if found.to_le_bytes() == crc32c(&header[..SHORT_BYTES]) {
            Ok(())
        } else {
            Err(Offence::digest(found))
        }
    }
}

fn half_at(header: &[u8; HEADER_BYTES_MAX], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

fn word_at(header: &[u8; HEADER_BYTES_MAX], at: usize) -> u32 {
    u32::from(half_at(header, at)) | u32::from(half_at(header, at + 2)) << 16
}

/// ICResp (TCP §3.6.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Greeting {
    pub(super) digests: Digests,
    /// Our data begin at multiples of this, counted from the beginning of their PDU.
    pub(super) alignment_bytes: usize,
    /// The most data of one PDU of ours.
    pub(super) data_bytes_max: u32,
}

impl Greeting {
    pub(super) fn decode(header: &[u8; HEADER_BYTES_MAX], wanted: Digests) -> Result<Greeting, Offence> {
        if half_at(header, 8) != 0 {
            return Err(Offence::unsupported(8, "the controller speaks another version of NVMe/TCP"));
        }
        let (alignment, digests, data_bytes_max) = (header[10], header[11], word_at(header, 12));
        if alignment > ALIGNMENT_MAX {
            return Err(Offence::unsupported(10, "the controller wants an alignment that does not exist"));
        }
        if digests & 3 != wanted.bits() {
            return Err(Offence::unsupported(
                11,
                "the controller does not agree to the digests that are asked for",
            ));
        }
        if data_bytes_max < DATA_BYTES_MAX_LEAST {
            return Err(Offence::unsupported(12, "the controller wants PDUs shorter than 4096 bytes"));
        }
        Ok(Greeting {
            digests: wanted,
            alignment_bytes: 4 * (usize::from(alignment) + 1),
            // In dwords: TCP §3.6.2.3.
            data_bytes_max: data_bytes_max & !3,
        })
    }
}

/// C2HData (TCP §3.6.2.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Data {
    pub(super) cid: u16,
    pub(super) offset: usize,
    pub(super) bytes: usize,
    /// The command's last.
    pub(super) is_last: bool,
    /// The command has succeeded; no response follows.
    pub(super) is_success: bool,
}

impl Data {
    pub(super) fn decode(
        header: &[u8; HEADER_BYTES_MAX],
        common: &Common,
        digests: Digests,
    ) -> Result<Data, Offence> {
        let length = word_at(header, 16);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        // Data without bytes would be a PDU that goes on for ever without ever getting anywhere.
        if bytes == 0
            || common.data_offset.checked_add(bytes).and_then(|end| end.checked_add(digests.data_bytes()))
                != Some(common.bytes)
        {
            return Err(Offence::header(16, "the controller sent data of another length than their PDU's"));
        }
        let (is_last, is_success) = (common.flags & LAST != 0, common.flags & SUCCESS != 0);
        if is_success && !is_last {
            return Err(Offence::header(1, "the controller ended a command with data that are not its last"));
        }
        let offset = usize::try_from(word_at(header, 12)).unwrap_or(usize::MAX);
        Ok(Data { cid: half_at(header, 8), offset, bytes, is_last, is_success })
    }
}

/// R2T (TCP §3.6.2.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ReadyToTransfer {
    pub(super) cid: u16,
    pub(super) tag: u16,
    pub(super) offset: u32,
    pub(super) bytes: u32,
}

impl ReadyToTransfer {
    pub(super) fn decode(header: &[u8; HEADER_BYTES_MAX]) -> ReadyToTransfer {
        ReadyToTransfer {
            cid: half_at(header, 8),
            tag: half_at(header, 10),
            offset: word_at(header, 12),
            bytes: word_at(header, 16),
        }
    }
}

/// The four words of a response (TCP §3.6.2.6).
pub(super) fn response(header: &[u8; HEADER_BYTES_MAX]) -> [u32; 4] {
    [8, 12, 16, 20].map(|at| word_at(header, at))
}

/// Why a controller ended the connection (TCP §3.6.2.5).
pub(super) fn termination(header: &[u8; HEADER_BYTES_MAX]) -> &'static str {
    match half_at(header, 8) {
        1 => "the controller ended the connection: a field of a PDU of ours is invalid",
        2 => "the controller ended the connection: a PDU of ours came out of sequence",
        3 => "the controller ended the connection: the header digest of a PDU of ours is wrong",
        4 => "the controller ended the connection: data of ours are out of range",
        5 => "the controller ended the connection: more data than it allows came from us",
        6 => "the controller ended the connection: it does not support what we asked for",
        _ => "the controller ended the connection for a reason that does not exist",
    }
}

/// Where a PDU of ours is put together: its header, up to its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

impl Header {
    fn new(kind: u8, header_bytes: usize) -> Header {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = kind;
        bytes[2] = u8::try_from(header_bytes).unwrap_or(u8::MAX);
        Header { bytes, len: header_bytes }
    }

    fn put<const N: usize>(&mut self, at: usize, field: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&field);
    }

    /// Adds lengths, digest and padding, for so many bytes of data.
    fn end(mut self, data_bytes: usize, digests: Digests, alignment_bytes: usize) -> Header {
        if digests.header {
            self.bytes[1] |= HEADER_DIGEST;
        }
        let header_end = self.len + digests.header_bytes();
        let mut whole = header_end;
        let mut len = header_end;
        if data_bytes > 0 {
            if digests.data {
                self.bytes[1] |= DATA_DIGEST;
            }
            // At most 128: headers of up to 76 bytes, alignments of 4 to 128.
            len = header_end.next_multiple_of(alignment_bytes);
            self.bytes[3] = u8::try_from(len).unwrap_or(u8::MAX);
            whole = len + data_bytes + digests.data_bytes();
        }
        self.put(4, u32::try_from(whole).unwrap_or(u32::MAX).to_le_bytes());
        if digests.header {
            let digest = crc32c(&self.bytes[..self.len]);
            self.put(self.len, digest);
        }
        self.len = len;
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// ICReq (TCP §3.6.2.2).
    pub(super) fn greeting(wanted: Digests, r2t_max: u32) -> Header {
        let mut header = Header::new(0x00, GREETING_BYTES);
        header.bytes[11] = wanted.bits();
        header.put(12, r2t_max.saturating_sub(1).to_le_bytes());
        header.end(0, Digests::default(), 4)
    }

    /// H2CTermReq (TCP §3.6.2.4), with the header that offended.
    pub(super) fn term(offence: &Offence, offending: &[u8]) -> Header {
        let mut header = Header::new(0x02, SHORT_BYTES);
        header.put(8, offence.status.to_le_bytes());
        header.put(10, offence.info.to_le_bytes());
        let offending = &offending[..offending.len().min(TERM_DATA_BYTES_MAX)];
        header.len += offending.len();
        header.bytes[SHORT_BYTES..header.len].copy_from_slice(offending);
        header.put(4, u32::try_from(header.len).unwrap_or(u32::MAX).to_le_bytes());
        header
    }

    /// CapsuleCmd (TCP §3.6.2.5), with so many bytes of data in it.
    pub(super) fn command(
        entry: &Entry,
        data_bytes: usize,
        digests: Digests,
        alignment_bytes: usize,
    ) -> Header {
        let mut header = Header::new(0x04, COMMAND_BYTES);
        for (index, word) in entry.iter().enumerate() {
            header.put(COMMON_BYTES + 4 * index, word.to_le_bytes());
        }
        header.end(data_bytes, digests, alignment_bytes)
    }

    /// H2CData (TCP §3.6.2.9).
    pub(super) fn data(
        cid: u16,
        tag: u16,
        offset: u32,
        bytes: u32,
        is_last: bool,
        digests: Digests,
        alignment_bytes: usize,
    ) -> Header {
        let mut header = Header::new(0x06, SHORT_BYTES);
        header.bytes[1] = if is_last { LAST } else { 0 };
        header.put(8, cid.to_le_bytes());
        header.put(10, tag.to_le_bytes());
        header.put(12, offset.to_le_bytes());
        header.put(16, bytes.to_le_bytes());
        header.end(usize::try_from(bytes).unwrap_or(usize::MAX), digests, alignment_bytes)
    }
}

/// A digest of data, to be fed.
pub(super) fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc32Iscsi)
}

/// A digest as it stands on the wire (TCP §3.4.1: least significant byte first).
pub(super) fn digest_bytes(digest: &Digest) -> [u8; DIGEST_BYTES] {
    let [.., d, c, b, a] = digest.finalize().to_be_bytes();
    [a, b, c, d]
}

fn crc32c(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut digest = digest();
    digest.update(bytes);
    digest_bytes(&digest)
}

#[cfg(test)]
mod tests;
