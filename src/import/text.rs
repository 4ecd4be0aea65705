//! What the formats have in common: lines, words, sizes, addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The port that IANA gave to iSCSI.
pub(super) const PORT: u16 = 3260;

/// Lines with their numbers, those that end with a backslash joined with what follows.
pub(super) fn lines(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (index, line) in text.lines().enumerate() {
        let (line, continues) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        match joined.last_mut() {
            Some((_, last)) if is_open => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => joined.push((index + 1, line.trim().to_owned())),
        }
        is_open = continues;
    }
    joined
}

/// Words between white space; quotes keep what is in them together. None where a quote is not closed.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => word.get_or_insert_default().push(c),
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// A number of bytes: `4G`, `10GB`, `512`; 1024 to each step.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * shift))
}

/// A whole number, as C reads one: `0x` before hexadecimal digits.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|digit| digit.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// Yes or no, in the words that the formats have for it.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "1" | "true" | "enable" | "enabled" => Some(true),
        "no" | "off" | "0" | "false" | "disable" | "disabled" => Some(false),
        _ => None,
    }
}

/// An address to listen on or to come to: IPv6 in brackets or bare, with a port or without.
pub(super) fn address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(whole) = text.parse::<SocketAddr>() {
        return Some(whole);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = match bare {
        Some(bare) => IpAddr::V6(bare.parse::<Ipv6Addr>().ok()?),
        None => text.parse().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

/// An address or a range of them, in lunette's spelling; none where it is no such.
pub(super) fn netmask(text: &str) -> Option<String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let ip: IpAddr = bare.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match bits {
        None => Some(ip.to_string()),
        Some(bits) => match (bits.parse::<u32>(), bits.parse::<std::net::Ipv4Addr>()) {
            (Ok(bits), _) if bits <= most => Some(format!("{ip}/{bits}")),
            // A mask, as 255.255.255.0.
            (_, Ok(mask)) if ip.is_ipv4() && mask.to_bits().leading_ones() == mask.to_bits().count_ones() => {
                Some(format!("{ip}/{}", mask.to_bits().count_ones()))
            }
            _ => None,
        },
    }
}

/// An initiator's name or a pattern that lunette can have in a group.
pub(super) fn is_initiator_rule(text: &str) -> bool {
    let name = text.strip_prefix('!').unwrap_or(text);
    (1..=crate::limits::INITIATOR_RULE_BYTES_MAX).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Printable ASCII, at most so long: what a unit can say of itself.
pub(super) fn is_printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// CRC32C (RFC 7143 §13.1) from a seed on, without the inversions at its beginning and end.
pub(super) fn crc32c(seed: u32, bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_keep_the_number_of_their_first() {
        let seen = lines("a \\\n  b\\\nc\n\n d\r\ne\\");
        let expected = [(1, "a b c"), (4, ""), (5, "d"), (6, "e")];
        assert_eq!(seen.len(), expected.len());
        for ((line, text), expected) in seen.iter().zip(expected) {
            assert_eq!((*line, text.split_whitespace().collect::<Vec<_>>().join(" ").as_str()), expected);
        }
    }

    #[test]
    fn words_may_be_quoted() {
        assert_eq!(words(r#"a "b c" 'd"e' f"g"h "" "#).unwrap(), ["a", "b c", "d\"e", "fgh", ""]);
        assert_eq!(words("  ").unwrap(), [""; 0]);
        assert_eq!(words("\"a"), None);
    }

    #[test]
    fn sizes_count_in_steps_of_1024() {
        for (text, bytes) in
            [("512", 512), ("4k", 4096), ("1M", 1 << 20), ("10GB", 10 << 30), ("2 TiB", 2 << 40)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "G", "-1", "1x", "99999999999P", "1.5G"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_and_netmasks() {
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1:3260")),
            ("192.0.2.1:5", Some("192.0.2.1:5")),
            ("::1", Some("[::1]:3260")),
            ("[::1]", Some("[::1]:3260")),
            ("[::1]:5", Some("[::1]:5")),
            ("host", None),
            ("[192.0.2.1]", None),
        ] {
            assert_eq!(address(text, PORT).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.0/24", Some("192.0.2.0/24")),
            ("192.0.2.0/255.255.255.0", Some("192.0.2.0/24")),
            ("192.0.2.0/255.0.255.0", None),
            ("[2001:db8::]/32", Some("2001:db8::/32")),
            ("192.0.2.0/33", None),
            ("ALL", None),
        ] {
            assert_eq!(netmask(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn crc32c_of_its_check_value() {
        assert_eq!(!crc32c(u32::MAX, b"123456789".iter().copied()), 0xe306_9283);
    }

    #[test]
    fn numbers_are_read_as_c_does() {
        assert_eq!(
            (number("10"), number("0x10"), number("+1"), number("0x+1")),
            (Some(10), Some(16), None, None)
        );
    }
}
