//! CHAP (RFC 7143 §12.1.3, RFC 1994): who the initiator is, and on demand who we are.
//!
//! What failed is told to the log only: on the wire every failure looks the same.

use std::fmt;

/// A secret shared with one peer. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A CHAP name and its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credential {
    /// CHAP_N.
    pub name: String,
    /// What the response is computed from.
    pub secret: Secret,
}

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// What the initiator proves.
    pub initiator: Credential,
    /// What we prove when the initiator asks; without it we cannot.
    pub target: Option<Credential>,
}

/// Hash functions, by their number on the wire (RFC 7143 §12.1.3 and the IANA PPP registry).
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

impl Algorithm {
    /// All four; the order means nothing, as the initiator's counts.
    pub const ALL: [Algorithm; 4] = [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha3_256];
}

/// What we ask of an initiator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Who may come.
    pub accounts: Vec<Account>,
    /// Which hash functions will do.
    pub algorithms: Vec<Algorithm>,
    /// AuthMethod=None will not do.
    pub is_required: bool,
    /// An initiator that does not ask us to prove ourselves is refused.
    pub is_mutual_required: bool,
}

/// Why CHAP failed; for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No hash function in common.
    NoAlgorithm,
    /// A CHAP key is missing, malformed or out of turn.
    Malformed(&'static str),
    /// No account of this name.
    UnknownUser(String),
    /// The response is not what the secret gives.
    WrongResponse(String),
    /// The initiator's challenge is ours, sent back.
    Reflected,
    /// We are asked to prove ourselves and have nothing to do it with.
    NoTargetCredential(String),
    /// We have to prove ourselves and were not asked.
    MutualRequired(String),
}
