//! Binary values in text: hexadecimal after `0x`, base64 after `0b` (RFC 7143 §6.1).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Initiators differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes that a value stands for, at most `bytes_max` of them.
pub(super) fn decode(value: &str, bytes_max: usize) -> Option<Vec<u8>> {
    let (prefix, digits) = value.as_bytes().split_at_checked(2)?;
    let bytes = match prefix {
        b"0x" | b"0X" if digits.len() <= 2 * bytes_max => unhex(digits)?,
        b"0b" | b"0B" if digits.len() <= 2 * bytes_max + 4 => BASE64.decode(digits).ok()?,
        _ => return None,
    };
    (bytes.len() <= bytes_max).then_some(bytes)
}

/// An odd number of digits has a zero before it, as a number would.
fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|nibble| u8::try_from(nibble).ok());
    let (first, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for &digit in first {
        bytes.push(nibble(digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
    }
    Some(bytes)
}

/// The value that stands for `bytes`.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    "0x".chars().chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encodings() {
        for (value, bytes) in [
            ("0x00ffA5", Some(&[0x00, 0xff, 0xa5][..])),
            ("0Xabc", Some(&[0x0a, 0xbc])),
            ("0x", Some(&[])),
            ("0bAP+l", Some(&[0x00, 0xff, 0xa5])),
            ("0BAP8=", Some(&[0x00, 0xff])),
            ("0bAP8", Some(&[0x00, 0xff])),
            ("0b", Some(&[])),
            ("0xg0", None),
            ("0b*", None),
            ("00ff", None),
            ("0", None),
            ("", None),
            ("\u{e9}\u{e9}", None),
            ("0x\u{e9}", None),
            ("0x0102030405", None),
            ("0bAQIDBAU=", None),
        ] {
            assert_eq!(decode(value, 4).as_deref(), bytes, "{value}");
        }
        assert_eq!(hex(&[0, 0x5a, 0xff]), "0x005aff");
    }
}
