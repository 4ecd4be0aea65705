//! Text: `key=value` pairs, each ended by a NUL (RFC 7143 §6.1).

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

/// Text accumulated from PDUs with the C bit, at most.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Pairs in one such sequence, at most; our answer can be longer than what it answers, and this bounds it.
pub const PAIRS_MAX: usize = 512;
