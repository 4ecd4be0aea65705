//! CRC32C, the digest of RFC 7143 §13.1.

/// The digest of `parts` in order, as it stands on the wire (least significant byte first).
pub fn crc32c(parts: &[&[u8]]) -> [u8; 4] {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
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
    }
}
