//! CHAP (RFC 1994, RFC 7143 §12.1.3): responses, and the two ways to write binary values as text.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;

/// The hash, by its number in CHAP_A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// 5
    Md5,
    /// 6
    Sha1,
    /// 7
    Sha256,
    /// 8
    Sha3_256,
}

impl Algorithm {
    /// All, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The number in CHAP_A.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// The algorithm of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.number() == number)
    }

    /// The response to a challenge: the hash of identifier, secret and challenge.
    #[must_use]
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 3] = [&[identifier], secret, challenge];
        match self {
            Self::Md5 => hash::<Md5>(parts),
            Self::Sha1 => hash::<Sha1>(parts),
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha3_256 => hash::<Sha3_256>(parts),
        }
    }
}

fn hash<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
    let mut digest = D::new();
    for part in parts {
        digest.update(part);
    }
    digest.finalize().to_vec()
}

/// How binary values are written (RFC 7143 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `0x` and hexadecimal digits.
    #[default]
    Hex,
    /// `0b` and base64.
    Base64,
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl Encoding {
    /// Writes a binary value.
    #[must_use]
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
            Self::Base64 => {
                let mut text = "0b".to_owned();
                for group in bytes.chunks(3) {
                    let padded = [0, group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)];
                    let bits = u32::from_be_bytes(padded);
                    for n in 0..4 {
                        let index = (bits >> (18 - 6 * n)) & 0x3f;
                        let digit = if n <= group.len() { BASE64[crate::pdu::size(index)] } else { b'=' };
                        text.push(char::from(digit));
                    }
                }
                text
            }
        }
    }
}

/// Reads a binary value of either form; `None` when it is neither.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    match text.split_at_checked(2)? {
        ("0x" | "0X", digits) => decode_hex(digits),
        ("0b" | "0B", digits) => decode_base64(digits.as_bytes()),
        _ => None,
    }
}

fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Vec<u8> = digits.bytes().map(nibble).collect::<Option<_>>()?;
    // An odd number of digits has a leading zero left out.
    let (first, pairs) = nibbles.split_at(nibbles.len() % 2);
    Some(first.iter().copied().chain(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1])).collect())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn decode_base64(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(4) {
        return None;
    }
    let digits = match digits {
        [rest @ .., b'=', b'='] | [rest @ .., b'='] => rest,
        all => all,
    };
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for n in 0..4 {
            let value = match group.get(n) {
                Some(digit) => BASE64.iter().position(|d| d == digit)?,
                None => 0,
            };
            bits = bits << 6 | crate::pdu::length(value);
        }
        bytes.extend_from_slice(bits.to_be_bytes()[1..].get(..group.len() - 1)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_known_hashes() {
        // Identifier 'a', secret "b", challenge "c": the published hashes of "abc".
        let hex = |a: Algorithm| Encoding::Hex.encode(&a.response(b'a', b"b", b"c"));
        assert_eq!(hex(Algorithm::Md5), "0x900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(Algorithm::Sha1), "0xa9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(Algorithm::Sha256),
            "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            hex(Algorithm::Sha3_256),
            "0x3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"
        );
    }

    #[test]
    fn numbers_of_the_registry() {
        assert_eq!(Algorithm::ALL.map(Algorithm::number), [8, 7, 6, 5]);
        assert_eq!(Algorithm::from_number(7), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::from_number(4), None);
    }

    #[test]
    fn both_encodings() {
        for (plain, base64) in [
            (&b""[..], "0b"),
            (b"f", "0bZg=="),
            (b"fo", "0bZm8="),
            (b"foo", "0bZm9v"),
            (b"foob", "0bZm9vYg=="),
            (&[0xfb, 0xff], "0b+/8="),
        ] {
            assert_eq!(Encoding::Base64.encode(plain), base64);
            assert_eq!(decode(base64).as_deref(), Some(plain));
        }
        assert_eq!(Encoding::Hex.encode(&[0, 0xab]), "0x00ab");
        assert_eq!(decode("0X0aBc"), Some(vec![0x0a, 0xbc]));
        assert_eq!(decode("0xabc"), Some(vec![0x0a, 0xbc]));
        for wrong in ["", "0", "12", "0xzz", "0bA", "0bA===", "0bAA=A", "0b*AAA", "éa"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
