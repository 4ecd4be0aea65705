//! Text: `key=value` pairs, each ended by a NUL (RFC 7143 §6.1), and its way over several PDUs (the C bit).

/// Text accumulated from PDUs with the C bit, at most.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Pairs in one such sequence, at most; our answer can be longer than what it answers, and this bounds it.
pub const PAIRS_MAX: usize = 512;
/// RFC 7143 §6.1.
pub const KEY_BYTES_MAX: usize = 63;
/// Longest value of any kind: a large binary value of 1024 bytes, CHAP_C, is 2050 bytes of text.
pub const VALUE_BYTES_MAX: usize = 8192;

/// What is wrong with text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextError {
    /// More than [`TEXT_BYTES_MAX`] in one sequence of PDUs.
    TooLong,
    /// More than [`PAIRS_MAX`].
    TooMany,
    /// No NUL at the end.
    Unterminated,
    /// A pair without `=`.
    NoEquals,
    /// A key that is empty, longer than 63 bytes, or has bytes that a key may not have.
    Key,
    /// A value that is longer than 8192 bytes or is not UTF-8.
    Value,
}

/// The pairs of a complete text, in order. Ends at the first error.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a [u8],
    count: usize,
}

/// Reads a complete text.
pub const fn pairs(text: &[u8]) -> Pairs<'_> {
    Pairs { rest: text, count: 0 }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Result<(&'a str, &'a str), TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty pairs, which some initiators use as padding, mean nothing.
        while let [0, rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let pair = self.pair();
        if pair.is_err() {
            self.rest = &[];
        }
        Some(pair)
    }
}

impl<'a> Pairs<'a> {
    fn pair(&mut self) -> Result<(&'a str, &'a str), TextError> {
        self.count += 1;
        if self.count > PAIRS_MAX {
            return Err(TextError::TooMany);
        }
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(TextError::Unterminated)?;
        let (pair, rest) = self.rest.split_at(end);
        self.rest = rest;
        let equals = pair.iter().position(|&byte| byte == b'=').ok_or(TextError::NoEquals)?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        if key.is_empty() || key.len() > KEY_BYTES_MAX || !key.iter().all(|&byte| may_be_in_key(byte)) {
            return Err(TextError::Key);
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(TextError::Value);
        }
        let key = str::from_utf8(key).map_err(|_| TextError::Key)?;
        let value = str::from_utf8(value).map_err(|_| TextError::Value)?;
        Ok((key, value))
    }
}

/// RFC 7143 §6.1: letters, digits, and `. - + @ _`; `#` stands in extension names of RFC 3720.
const fn may_be_in_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'@' | b'_' | b'#')
}

/// Appends a pair.
pub fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    for part in [key.as_bytes(), b"=", value.as_bytes(), b"\0"] {
        out.extend_from_slice(part);
    }
}

/// A number as RFC 7143 §6.1 writes it: decimal, or hexadecimal after `0x` or `0X`.
pub fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // The standard parser takes a sign, the RFC does not.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// Text that comes in several PDUs.
#[derive(Debug, Default)]
pub struct Inbox {
    text: Vec<u8>,
}

impl Inbox {
    /// Takes the data of one PDU; gives the whole text when that was the last.
    ///
    /// # Errors
    /// [`TextError::TooLong`].
    pub fn push(&mut self, data: &[u8], is_continued: bool) -> Result<Option<Vec<u8>>, TextError> {
        if self.text.len() + data.len() > TEXT_BYTES_MAX {
            self.text = Vec::new();
            return Err(TextError::TooLong);
        }
        self.text.extend_from_slice(data);
        Ok((!is_continued).then(|| std::mem::take(&mut self.text)))
    }

    /// Whether the last PDU was not the last of its text.
    pub fn is_open(&self) -> bool {
        !self.text.is_empty()
    }
}

/// Text that goes out in several PDUs.
#[derive(Debug, Default)]
pub struct Outbox {
    text: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Where to append text, when nothing is left of the last.
    pub fn text(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.text.clear();
            self.sent = 0;
        }
        &mut self.text
    }

    /// Everything has been taken.
    pub fn is_empty(&self) -> bool {
        self.sent == self.text.len()
    }

    /// The data of the next PDU; more follows (C bit) if it is not empty then.
    pub fn take(&mut self, bytes_max: usize) -> &[u8] {
        let from = self.sent;
        self.sent = self.text.len().min(from + bytes_max);
        &self.text[from..self.sent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
        pairs(text).collect()
    }

    #[test]
    fn pairs_in_order() {
        assert_eq!(
            all(b"SendTargets=\0X-a.b+c@d_e=1=2\0\0\0Alias=gr\xc3\xbcn\0"),
            Ok(vec![("SendTargets", ""), ("X-a.b+c@d_e", "1=2"), ("Alias", "grün")])
        );
        assert_eq!(all(b""), Ok(vec![]));
        assert_eq!(all(b"\0\0"), Ok(vec![]));
    }

    #[test]
    fn what_is_not_text() {
        let long_key = [vec![b'K'; 64], b"=1\0".to_vec()].concat();
        let key = [vec![b'K'; 63], b"=1\0".to_vec()].concat();
        let long_value = [b"K=".to_vec(), vec![b'v'; 8193], b"\0".to_vec()].concat();
        let value = [b"K=".to_vec(), vec![b'v'; 8192], b"\0".to_vec()].concat();
        for (text, error) in [
            (&b"A=b"[..], TextError::Unterminated),
            (b"A=b\0B", TextError::Unterminated),
            (b"Ab\0", TextError::NoEquals),
            (b"=b\0", TextError::Key),
            (b"A b=c\0", TextError::Key),
            (b"\xff=c\0", TextError::Key),
            (b"A=\xff\0", TextError::Value),
            (&long_key, TextError::Key),
            (&long_value, TextError::Value),
            (&b"A=\0".repeat(513), TextError::TooMany),
        ] {
            assert_eq!(all(text), Err(error), "{:?}", String::from_utf8_lossy(&text[..text.len().min(80)]));
        }
        for text in [&key, &value, &b"A=\0".repeat(512)] {
            assert!(all(text).is_ok());
        }
    }

    #[test]
    fn numbers() {
        for (text, value) in [
            ("0", Some(0)),
            ("16777215", Some(0xff_ffff)),
            ("0x10", Some(16)),
            ("0Xff", Some(255)),
            ("4294967296", None),
            ("", None),
            ("0x", None),
            ("+1", None),
            ("-1", None),
            ("0x+1", None),
            ("1 ", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn text_over_several_pdus() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.push(b"Initiator", true), Ok(None));
        assert!(inbox.is_open());
        assert_eq!(inbox.push(b"Name=a\0", false), Ok(Some(b"InitiatorName=a\0".to_vec())));
        assert!(!inbox.is_open());
        assert_eq!(inbox.push(&[1; TEXT_BYTES_MAX], true), Ok(None));
        assert_eq!(inbox.push(&[1], true), Err(TextError::TooLong));

        let mut outbox = Outbox::default();
        push(outbox.text(), "A", "bcd");
        assert_eq!(outbox.take(4), b"A=bc");
        assert!(!outbox.is_empty());
        assert_eq!(outbox.take(4), b"d\0");
        assert!(outbox.is_empty());
        push(outbox.text(), "B", "");
        assert_eq!(outbox.take(4), b"B=\0");
    }
}
