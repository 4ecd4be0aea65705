//! Disks in words: `NAME:SIZE[:BLOCK]` of `--malloc` and `--null`, `--size`, `--block-size`.

use std::str::FromStr;

/// A disk as asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// Its name.
    pub name: String,
    /// Its size in blocks; at least 1.
    pub blocks: u64,
    /// 512 or 4096.
    pub block_bytes: u32,
}

/// Why it is no disk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiskError {
    /// Not of that form.
    #[error("give NAME:SIZE or NAME:SIZE:BLOCK, as disk0:256M:4096")]
    Form,
    /// A name that cannot be told in a log or a command line.
    #[error("the name {0:?} has something other than letters, digits, '-', '_' and '.'")]
    Name(String),
    /// Not a size.
    #[error("{0:?} is not a size as 4096, 64K, 256M, 1G or 2T")]
    Size(String),
    /// Not a block size.
    #[error("a block has 512 or 4096 bytes, not {0}")]
    Block(String),
    /// Not a block size of files.
    #[error("a block has 512, 1024, 2048 or 4096 bytes, not {0}")]
    FileBlock(String),
    /// Half a block at the end, or nothing.
    #[error("{size_bytes} bytes are not a number of blocks of {block_bytes} bytes, at least one")]
    Blocks {
        /// The size asked for.
        size_bytes: u64,
        /// The block size.
        block_bytes: u32,
    },
}

impl FromStr for Disk {
    type Err = DiskError;

    fn from_str(text: &str) -> Result<Disk, DiskError> {
        let mut parts = text.split(':');
        let (Some(name), Some(size), block, None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(DiskError::Form);
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Err(DiskError::Name(name.to_owned()));
        }
        let size_bytes = size_bytes(size).ok_or_else(|| DiskError::Size(size.to_owned()))?;
        let block_bytes = match block {
            None | Some("512") => 512,
            Some("4096" | "4K" | "4k") => 4096,
            Some(other) => return Err(DiskError::Block(other.to_owned())),
        };
        if size_bytes == 0 || !size_bytes.is_multiple_of(u64::from(block_bytes)) {
            return Err(DiskError::Blocks { size_bytes, block_bytes });
        }
        Ok(Disk { name: name.to_owned(), blocks: size_bytes / u64::from(block_bytes), block_bytes })
    }
}

/// `--size`.
pub(super) fn size(text: &str) -> Result<u64, DiskError> {
    size_bytes(text).filter(|&bytes| bytes > 0).ok_or_else(|| DiskError::Size(text.to_owned()))
}

/// `--block-size`.
pub(super) fn block(text: &str) -> Result<u32, DiskError> {
    let bytes = size_bytes(text).and_then(|bytes| u32::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| matches!(bytes, 512 | 1024 | 2048 | 4096));
    bytes.ok_or_else(|| DiskError::FileBlock(text.to_owned()))
}

/// A size, or how much more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amount {
    /// This many bytes.
    Whole(u64),
    /// This many more.
    More(u64),
}

impl Amount {
    /// The size that something gets which has `before`.
    ///
    /// # Errors
    /// There is no such size.
    pub fn of(self, before: u64) -> Result<u64, DiskError> {
        match self {
            Amount::Whole(bytes) => Ok(bytes),
            Amount::More(bytes) => {
                before.checked_add(bytes).ok_or_else(|| DiskError::Size(format!("{before} and {bytes} more")))
            }
        }
    }
}

impl FromStr for Amount {
    type Err = DiskError;

    fn from_str(text: &str) -> Result<Amount, DiskError> {
        match text.strip_prefix('+') {
            Some(more) => size(more).map(Amount::More),
            None => size(text).map(Amount::Whole),
        }
    }
}

/// `4096`, `64K`, `256M`, `256MiB`, `1G`, `2T`: all powers of 1024.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").unwrap_or(&unit) {
        "" if unit.is_empty() => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("512", Some(512)),
            ("64K", Some(65_536)),
            ("256M", Some(268_435_456)),
            ("256mib", Some(268_435_456)),
            ("1G", Some(1_073_741_824)),
            ("2t", Some(2_199_023_255_552)),
            ("16777215T", Some(18_446_742_974_197_923_840)),
            ("16777216T", None),
            ("18446744073709551616", None),
            ("1P", None),
            ("1B", None),
            ("ib", None),
            ("1ib", None),
            ("M", None),
            ("-1M", None),
            ("1.5G", None),
            ("", None),
        ] {
            assert_eq!(size_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn amounts() {
        let of = |text: &str, before| text.parse::<Amount>().and_then(|amount| amount.of(before));
        assert_eq!((of("2G", 7), of("+1K", 7)), (Ok(2_147_483_648), Ok(1031)));
        for wrong in ["0", "+0", "-1G", "++1G", "+", ""] {
            assert!(of(wrong, 7).is_err(), "{wrong}");
        }
        assert!(of("+1", u64::MAX).is_err());
    }

    #[test]
    fn files() {
        assert_eq!((size("10G"), size("513")), (Ok(10_737_418_240), Ok(513)));
        assert_eq!(size("0"), Err(DiskError::Size("0".to_owned())));
        assert_eq!(size("ten"), Err(DiskError::Size("ten".to_owned())));
        assert_eq!(
            (block("512"), block("1k"), block("4K"), block("4096")),
            (Ok(512), Ok(1024), Ok(4096), Ok(4096))
        );
        for wrong in ["0", "8K", "520", "", "4G", "-512"] {
            assert_eq!(block(wrong), Err(DiskError::FileBlock(wrong.to_owned())));
        }
    }

    #[test]
    fn disks() {
        let disk = |blocks, block_bytes| Ok(Disk { name: "d-0".to_owned(), blocks, block_bytes });
        assert_eq!("d-0:1M".parse(), disk(2048, 512));
        assert_eq!("d-0:1M:512".parse(), disk(2048, 512));
        assert_eq!("d-0:1M:4096".parse(), disk(256, 4096));
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, expected) in [
            ("d0", DiskError::Form),
            ("d0:1M:512:x", DiskError::Form),
            (":1M", DiskError::Name(String::new())),
            ("d 0:1M", DiskError::Name("d 0".to_owned())),
            ("d0:1X", DiskError::Size("1X".to_owned())),
            ("d0:1M:1024", DiskError::Block("1024".to_owned())),
            ("d0:0", DiskError::Blocks { size_bytes: 0, block_bytes: 512 }),
            ("d0:513", DiskError::Blocks { size_bytes: 513, block_bytes: 512 }),
        ] {
            assert_eq!(text.parse::<Disk>(), Err(expected), "{text}");
        }
    }
}
