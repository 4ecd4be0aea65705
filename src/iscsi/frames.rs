//! PDUs out of a byte stream, whole, for the two machines that run on the control thread. It holds one PDU and what
//! the last read brought beyond it.

use super::wire::{BHS_BYTES, Bhs, DIGEST_BYTES, crc32c, padding_bytes};

/// A PDU without additional header segments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bhs: Bhs,
    pub(super) data: Vec<u8>,
}

/// Why no more PDUs can be had from a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameError {
    HeaderDigest,
    DataDigest,
    /// The data segment has so many bytes, or there are additional header segments of so many.
    TooLong(u32),
}

#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    taken: usize,
    header_digest: bool,
    data_digest: bool,
}

impl Frames {
    pub(super) fn new(bytes: Vec<u8>, header_digest: bool, data_digest: bool) -> Frames {
        Frames { bytes, taken: 0, header_digest, data_digest }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The header of the next PDU, as soon as it is there.
    pub(super) fn header(&self) -> Option<Bhs> {
        self.rest().first_chunk::<BHS_BYTES>().copied().map(Bhs)
    }

    /// The next PDU, once it is complete. A length too large is found at the header.
    pub(super) fn next(&mut self, data_bytes_max: u32) -> Result<Option<Frame>, FrameError> {
        let Some(bhs) = self.header() else { return Ok(None) };
        let mut at = BHS_BYTES;
        if self.header_digest {
            let Some(digest) = self.rest().get(at..at + DIGEST_BYTES) else { return Ok(None) };
            // The digest covers additional header segments too, but those are refused.
            if bhs.ahs_bytes() == 0 && digest != crc32c(&[&bhs.0]) {
                return Err(FrameError::HeaderDigest);
            }
            at += DIGEST_BYTES;
        }
        if bhs.ahs_bytes() != 0 {
            return Err(FrameError::TooLong(u32::from(bhs.0[4]) * 4));
        }
        if bhs.data_bytes() > data_bytes_max {
            return Err(FrameError::TooLong(bhs.data_bytes()));
        }
        let data_bytes = bhs.data_bytes() as usize;
        let padded = data_bytes + padding_bytes(data_bytes);
        let digest_bytes = if self.data_digest && data_bytes > 0 { DIGEST_BYTES } else { 0 };
        let Some(body) = self.rest().get(at..at + padded + digest_bytes) else { return Ok(None) };
        let (padded, digest) = body.split_at(padded);
        if digest_bytes > 0 && digest != crc32c(&[padded]) {
            return Err(FrameError::DataDigest);
        }
        let data = padded[..data_bytes].to_vec();
        self.taken += at + body.len();
        Ok(Some(Frame { bhs, data }))
    }

    /// What has not been taken.
    pub(super) fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.taken);
        self.bytes
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

/// Appends a PDU: header, digests where wanted, data and padding. `data` is under 2^24 bytes.
pub(super) fn write(out: &mut Vec<u8>, mut bhs: Bhs, data: &[u8], header_digest: bool, data_digest: bool) {
    bhs.set_data_bytes(u32::try_from(data.len()).unwrap_or(0));
    out.extend_from_slice(&bhs.0);
    if header_digest {
        out.extend_from_slice(&crc32c(&[&bhs.0]));
    }
    let padding = &[0; 3][..padding_bytes(data.len())];
    out.extend_from_slice(data);
    out.extend_from_slice(padding);
    if data_digest && !data.is_empty() {
        out.extend_from_slice(&crc32c(&[data, padding]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nop(data: &[u8]) -> Vec<u8> {
        let mut bhs = [0; 48];
        bhs[0] = 0x40;
        bhs[7] = u8::try_from(data.len()).unwrap();
        [&bhs[..], data, &[0; 3][..padding_bytes(data.len())]].concat()
    }

    #[test]
    fn byte_by_byte() {
        let bytes = [nop(b"hello"), nop(b"")].concat();
        let mut frames = Frames::default();
        let mut got = vec![];
        for byte in &bytes {
            frames.push(&[*byte]);
            got.extend(frames.next(5).unwrap());
        }
        assert_eq!(got.iter().map(|frame| &frame.data[..]).collect::<Vec<_>>(), [&b"hello"[..], b""]);
        frames.push(&[1, 2, 3]);
        assert_eq!(frames.into_rest(), [1, 2, 3]);
    }

    #[test]
    fn lengths_are_refused_at_the_header() {
        let mut frames = Frames::new(nop(b"hello")[..48].to_vec(), false, false);
        assert_eq!(frames.next(4), Err(FrameError::TooLong(5)));
        let mut ahs = nop(b"");
        ahs[4] = 2;
        assert_eq!(Frames::new(ahs, false, false).next(4), Err(FrameError::TooLong(8)));
    }

    #[test]
    fn digests() {
        // Computed with an independent bitwise CRC32C.
        let header = Bhs(nop(b"")[..48].try_into().unwrap());
        let mut out = vec![];
        write(&mut out, header, b"hello", true, true);
        assert_eq!(out[48..52], HEADER_DIGEST);
        assert_eq!(out[52..60], *b"hello\0\0\0");
        assert_eq!(out[60..], DATA_DIGEST);
        let read = |bytes: Vec<u8>| Frames::new(bytes, true, true).next(100).map(|frame| frame.unwrap().data);
        assert_eq!(read(out.clone()), Ok(b"hello".to_vec()));
        let flipped = |at: usize| {
            let mut bytes = out.clone();
            bytes[at] ^= 1;
            read(bytes)
        };
        assert_eq!(flipped(20), Err(FrameError::HeaderDigest));
        assert_eq!(flipped(48), Err(FrameError::HeaderDigest));
        assert_eq!(flipped(53), Err(FrameError::DataDigest));
        assert_eq!(flipped(58), Err(FrameError::DataDigest));
        assert_eq!(flipped(63), Err(FrameError::DataDigest));
    }

    const HEADER_DIGEST: [u8; 4] = [0xbc, 0xa4, 0xd8, 0x6e];
    const DATA_DIGEST: [u8; 4] = [0xb3, 0xed, 0x03, 0x90];
}
