//! What a connection sends: headers one behind the other in one buffer, payload where it lies.

use std::io::IoSlice;
use std::net::TcpStream;

use arrayvec::ArrayVec;
use lunette_initiator::pdu::{self, Digests};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::Lost;

/// Slices of one call.
const SLICES_MAX: usize = 512;

/// Where a segment lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In the buffer of headers, paddings and digests.
    Headers,
    /// In the payload that all writes share.
    Shared,
    /// In the connection's buffers.
    Own,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    source: Source,
    start: usize,
    bytes: usize,
}

/// Requests made and not sent yet.
#[derive(Debug, Default)]
pub(super) struct Tx {
    headers: Vec<u8>,
    segments: Vec<Segment>,
    /// The first segment that is not sent whole, and what of it is.
    next: usize,
    sent_bytes: usize,
}

impl Tx {
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.segments.len()
    }

    /// Forgets what was sent.
    pub(super) fn clear(&mut self) {
        self.headers.clear();
        self.segments.clear();
        (self.next, self.sent_bytes) = (0, 0);
    }

    pub(super) fn header(&mut self, header: &[u8; 48], digests: Digests) {
        self.words(header);
        if digests.header {
            self.words(&pdu::crc32c(header).to_le_bytes());
        }
    }

    /// Data: whole words, or the last of an IO.
    pub(super) fn payload(&mut self, source: Source, start: usize, bytes: usize, digest: Option<u32>) {
        self.segments.push(Segment { source, start, bytes });
        if let Some(digest) = digest {
            self.words(&digest.to_le_bytes());
        }
    }

    /// Appends to the headers, as part of the last segment where that is one of theirs.
    fn words(&mut self, words: &[u8]) {
        let start = self.headers.len();
        self.headers.extend_from_slice(words);
        match self.segments.last_mut() {
            Some(last) if last.source == Source::Headers => last.bytes += words.len(),
            _ => self.segments.push(Segment { source: Source::Headers, start, bytes: words.len() }),
        }
    }

    /// Sends what there is room for; false when something is left.
    pub(super) fn send(&mut self, stream: &TcpStream, shared: &[u8], own: &[u8]) -> Result<bool, Lost> {
        while !self.is_empty() {
            let (result, offered_bytes, slice_count) = self.call(stream, shared, own);
            match result {
                Ok(bytes) if bytes == offered_bytes => {
                    self.next += slice_count;
                    self.sent_bytes = 0;
                }
                // Less than offered: there is no more room.
                Ok(bytes) => {
                    self.advance(bytes);
                    return Ok(false);
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Lost(format!("send: {errno}"))),
            }
        }
        Ok(true)
    }

    /// One call: its result, and how many bytes in how many slices it was offered.
    fn call(&self, stream: &TcpStream, shared: &[u8], own: &[u8]) -> (Result<usize, Errno>, usize, usize) {
        let mut slices: ArrayVec<IoSlice<'_>, SLICES_MAX> = ArrayVec::new();
        let mut offered_bytes = 0;
        let mut skip_bytes = self.sent_bytes;
        for segment in self.segments[self.next..].iter().take(SLICES_MAX) {
            let from = match segment.source {
                Source::Headers => &self.headers,
                Source::Shared => shared,
                Source::Own => own,
            };
            let slice = &from[segment.start + skip_bytes..segment.start + segment.bytes];
            offered_bytes += slice.len();
            slices.push(IoSlice::new(slice));
            skip_bytes = 0;
        }
        let mut control = SendAncillaryBuffer::default();
        (sendmsg(stream, &slices, &mut control, SendFlags::NOSIGNAL), offered_bytes, slices.len())
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(segment) = self.segments.get(self.next) {
            let left = segment.bytes - self.sent_bytes;
            if bytes < left {
                self.sent_bytes += bytes;
                return;
            }
            bytes -= left;
            self.next += 1;
            self.sent_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn headers_in_a_row_are_one_segment_and_bytes_come_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let mut tx = Tx::default();
        let digests = Digests { header: true, data: true };
        tx.header(&[1; 48], digests);
        tx.header(&[2; 48], digests);
        assert_eq!(tx.segments.len(), 1);
        tx.payload(Source::Shared, 2, 4, Some(0x0403_0201));
        tx.header(&[3; 48], Digests::default());
        assert_eq!(tx.segments.len(), 3);
        // Some of it went out already.
        tx.advance(50);
        assert!(tx.send(&stream, b"..pay!..", &[]).unwrap() && tx.is_empty());
        let mut got = [0; 2 + 52 + 4 + 4 + 48];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(got[2..50], [2; 48]);
        assert_eq!(&got[54..62], b"pay!\x01\x02\x03\x04");
        assert_eq!(got[62..], [3; 48]);
    }

    #[test]
    fn what_a_full_socket_does_not_take_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let payload: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
        let mut tx = Tx::default();
        for _ in 0..30 {
            tx.payload(Source::Own, 0, payload.len(), None);
        }
        assert!(!tx.send(&stream, &[], &payload).unwrap());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).unwrap();
            got
        });
        while !tx.send(&stream, &[], &payload).unwrap() {
            std::thread::yield_now();
        }
        drop(stream);
        let got = reader.join().unwrap();
        assert!(got.len() == 30 * payload.len() && got.chunks(payload.len()).all(|chunk| chunk == payload));
    }
}
