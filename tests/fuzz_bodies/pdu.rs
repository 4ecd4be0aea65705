//! PDUs as bytes, made and cut without the code under test.

use crc_fast::{CrcAlgorithm, checksum};

fn digest(bytes: &[u8]) -> [u8; 4] {
    let [.., d, c, b, a] = checksum(CrcAlgorithm::Crc32Iscsi, bytes).to_be_bytes();
    [a, b, c, d]
}

/// Appends a PDU with the data's length in its header, padding and digests.
pub(super) fn append(
    out: &mut Vec<u8>,
    mut bhs: [u8; 48],
    data: &[u8],
    header_digest: bool,
    data_digest: bool,
) {
    let [_, length @ ..] = u32::try_from(data.len()).unwrap().to_be_bytes();
    bhs[5..8].copy_from_slice(&length);
    out.extend_from_slice(&bhs);
    if header_digest {
        out.extend_from_slice(&digest(&bhs));
    }
    let from = out.len();
    out.extend_from_slice(data);
    out.resize(from + data.len().next_multiple_of(4), 0);
    if data_digest && !data.is_empty() {
        let digest = digest(&out[from..]);
        out.extend_from_slice(&digest);
    }
}

/// How many bytes the PDU takes that begins with this header.
pub(super) fn whole_bytes(bhs: &[u8; 48], header_digest: bool, data_digest: bool) -> usize {
    let data_bytes = data_bytes(bhs);
    let data_digest_bytes = if data_digest && data_bytes > 0 { 4 } else { 0 };
    48 + if header_digest { 4 } else { 0 } + data_bytes.next_multiple_of(4) + data_digest_bytes
}

/// DataSegmentLength.
pub(super) fn data_bytes(bhs: &[u8; 48]) -> usize {
    u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize
}

/// A field of four bytes.
pub(super) fn word(bhs: &[u8; 48], at: usize) -> u32 {
    u32::from_be_bytes([bhs[at], bhs[at + 1], bhs[at + 2], bhs[at + 3]])
}

/// The headers of whole PDUs that a target has said; their digests are right and nothing is left over.
pub(super) fn split(mut bytes: &[u8], header_digest: bool, data_digest: bool) -> Vec<[u8; 48]> {
    let mut headers = Vec::new();
    while let Some(bhs) = bytes.first_chunk::<48>() {
        assert_eq!(bhs[4], 0, "a target sends no additional header segments");
        let whole = whole_bytes(bhs, header_digest, data_digest);
        assert!(whole <= bytes.len(), "a PDU without its end");
        let (pdu, rest) = bytes.split_at(whole);
        check(pdu, header_digest, data_digest);
        headers.push(*bhs);
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a header");
    headers
}

/// Its digests are right.
pub(super) fn check(pdu: &[u8], header_digest: bool, data_digest: bool) {
    let (bhs, mut body) = pdu.split_at(48);
    if header_digest {
        let (found, rest) = body.split_at(4);
        assert_eq!(found, digest(bhs), "header digest");
        body = rest;
    }
    if data_digest && !body.is_empty() {
        let (data, found) = body.split_at(body.len() - 4);
        assert_eq!(found, digest(data), "data digest");
    }
}
