//! The text of the state file: a line that says what it is, with the CRC32C of the rest, then a JSON object with a record a
//! line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Records;
use crate::limits::STATE_BYTES_MAX;

/// What every file begins with; the CRC32C follows, eight digits.
const HEAD: &str = "lunette-state 1 crc32c ";
/// A file that is longer is none of ours.
pub const FILE_BYTES_MAX: u64 = 256 << 20;
const _: () = assert!((STATE_BYTES_MAX as u64) < FILE_BYTES_MAX, "what is written is read back");

/// Why a file is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damaged {
    /// Something else, or of another version.
    #[error("it does not begin as a state file of this version does")]
    Head,
    /// It is not what was written.
    #[error("its checksum does not fit: it was changed, or cut short")]
    Checksum,
    /// It fits, but holds no records.
    #[error("it holds no records: {0}")]
    Records(String),
}

/// Records by key, each as its line.
pub type Lines = BTreeMap<String, String>;

/// A record's line.
pub fn line(key: &str, value: &Value) -> String {
    format!("{}: {value}", Value::from(key))
}

/// The lines of records.
pub fn lines(records: &Records) -> Lines {
    records.iter().map(|(key, value)| (key.clone(), line(key, value))).collect()
}

/// How long the file is that has records with this many bytes of lines.
pub const fn text_bytes(count: usize, lines_bytes: usize) -> usize {
    // A line each for the head and what the records stand in, and what parts them.
    HEAD.len() + 8 + "\n{\n}\n".len() + lines_bytes + count * ",\n".len()
}

/// The file with these records.
pub fn text(lines: &Lines) -> Vec<u8> {
    let mut body = String::from("{");
    for (index, line) in lines.values().enumerate() {
        body.push_str(if index == 0 { "\n" } else { ",\n" });
        body.push_str(line);
    }
    body.push_str("\n}\n");
    format!("{HEAD}{:08x}\n{body}", checksum(body.as_bytes())).into_bytes()
}

/// The records of a file.
///
/// # Errors
/// It is damaged.
pub fn records(text: &[u8]) -> Result<Records, Damaged> {
    let rest = text.strip_prefix(HEAD.as_bytes()).ok_or(Damaged::Head)?;
    let (digits, rest) = rest.split_first_chunk::<8>().ok_or(Damaged::Head)?;
    let body = rest.strip_prefix(b"\n").ok_or(Damaged::Head)?;
    if *digits != *format!("{:08x}", checksum(body)).as_bytes() {
        return Err(Damaged::Checksum);
    }
    serde_json::from_slice(body).map_err(|error| Damaged::Records(error.to_string()))
}

fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)
}
