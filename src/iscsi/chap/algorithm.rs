//! The hash functions.

/// Hash functions, by their number on the wire (RFC 7143 §12.1.3 and the IANA registry of PPP authentication
/// algorithms).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// 5.
    Md5,
    /// 6.
    Sha1,
    /// 7.
    Sha256,
    /// 8.
    Sha3_256,
}

/// The digest of any of them.
#[derive(Clone, Copy)]
pub(super) struct Digest {
    bytes: [u8; Digest::BYTES_MAX],
    used: usize,
}

impl Digest {
    pub(super) const BYTES_MAX: usize = 32;

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    fn new(digest: &[u8]) -> Digest {
        let mut bytes = [0; Digest::BYTES_MAX];
        bytes[..digest.len()].copy_from_slice(digest);
        Digest { bytes, used: digest.len() }
    }
}

impl Algorithm {
    /// All four; the order means nothing, as the initiator's counts.
    pub const ALL: [Algorithm; 4] = [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha3_256];

    /// Its number.
    pub const fn code(self) -> u8 {
        match self {
            Algorithm::Md5 => 5,
            Algorithm::Sha1 => 6,
            Algorithm::Sha256 => 7,
            Algorithm::Sha3_256 => 8,
        }
    }

    /// Length of its digests.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3_256 => 32,
        }
    }

    /// One item of CHAP_A.
    pub(super) fn parse(item: &str) -> Option<Algorithm> {
        let code = crate::iscsi::text::number(item)?;
        Algorithm::ALL.into_iter().find(|algorithm| u32::from(algorithm.code()) == code)
    }

    pub(super) fn digest(self, parts: &[&[u8]]) -> Digest {
        match self {
            Algorithm::Md5 => digest::<md5::Md5>(parts),
            Algorithm::Sha1 => digest::<sha1::Sha1>(parts),
            Algorithm::Sha256 => digest::<sha2::Sha256>(parts),
            Algorithm::Sha3_256 => digest::<sha3::Sha3_256>(parts),
        }
    }
}

fn digest<H: sha1::Digest>(parts: &[&[u8]]) -> Digest {
    let mut hash = H::new();
    for part in parts {
        hash.update(part);
    }
    Digest::new(&hash.finalize())
}
