//! Text: `key=value` pairs, each ended by NUL (RFC 7143 §6.1).

/// Appends one pair.
pub fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// Encodes pairs in their order.
#[must_use]
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        push(&mut out, key, value);
    }
    out
}

/// Splits text into its pairs.
///
/// # Errors
/// The first entry that is not UTF-8, has no `=` or an empty key, or lacks its NUL.
pub fn decode(text: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.iter().position(|&b| b == 0).ok_or_else(|| Malformed(rest.to_vec()))?;
        let (entry, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        // A NUL alone is padding of some targets, not an entry.
        if entry.is_empty() {
            continue;
        }
        let pair = std::str::from_utf8(entry).ok().and_then(|s| s.split_once('='));
        match pair {
            Some((key, value)) if !key.is_empty() => pairs.push((key.to_owned(), value.to_owned())),
            _ => return Err(Malformed(entry.to_vec())),
        }
    }
    Ok(pairs)
}

/// An entry that is no `key=value` pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a key=value pair: {}", String::from_utf8_lossy(.0))]
pub struct Malformed(pub Vec<u8>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        assert_eq!(encode([("A", "1"), ("B", "x,y")]), b"A=1\0B=x,y\0");
        let decoded = decode(b"A=1\0B=x=y\0C=\0").unwrap();
        let expected = [("A", "1"), ("B", "x=y"), ("C", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(decoded, expected);
        assert_eq!(decode(b"A=1\0B"), Err(Malformed(b"B".to_vec())));
        assert_eq!(decode(b"=1\0"), Err(Malformed(b"=1".to_vec())));
    }
}
