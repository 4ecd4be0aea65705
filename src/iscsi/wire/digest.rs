//! CRC32C, the digest of RFC 7143 §13.1.

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

/// The digest of `parts` in order, as it stands on the wire (least significant byte first).
pub fn crc32c(parts: &[&[u8]]) -> [u8; 4] {
    if let [bytes] | [bytes, []] = parts {
        // What lies together needs no state, which takes longer to set up than a header's digest.
        return crc32_iscsi(bytes).to_le_bytes();
    }
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    let [.., d, c, b, a] = digest.finalize().to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_7143() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[&[0; 32]]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[&[0xff; 16], &[0xff; 16]]), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[&up]), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(crc32c(&[&up, &[]]), [0x4e, 0x79, 0xdd, 0x46]);
    }
}
