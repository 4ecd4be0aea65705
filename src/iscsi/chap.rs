//! CHAP (RFC 7143 §12.1.3, RFC 1994): who the initiator is, and on demand who we are.
//!
//! What failed is told to the log only: on the wire every failure looks the same, and a name that nobody has takes as
//! long as a wrong secret.

mod algorithm;
mod binary;
#[cfg(test)]
mod tests;

use std::fmt;

pub use algorithm::Algorithm;
use algorithm::Digest;
use subtle::{Choice, ConstantTimeEq};

/// A secret shared with one peer. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl Secret {
    /// Under 96 bits, which RFC 7143 §9.2.1 wants at least.
    pub fn is_weak(&self) -> bool {
        self.0.len() < 12
    }
}

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

impl Account {
    /// RFC 7143 §9.2.1: the same secret must not serve both ways. Control refuses such an account.
    pub fn has_same_secret_both_ways(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.secret == self.initiator.secret)
    }
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

/// A challenge, as long as the digests of its algorithm.
#[derive(Debug)]
pub struct Challenge {
    algorithm: Algorithm,
    id: u8,
    bytes: Vec<u8>,
}

/// What an initiator says to a challenge: the keys' values.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// CHAP_N.
    pub name: &'a str,
    /// CHAP_R.
    pub response: &'a str,
    /// CHAP_I and CHAP_C: the initiator wants us to prove ourselves.
    pub mutual: Option<(&'a str, &'a str)>,
}

/// An initiator that has proved who it is. Only [`Challenge::verify`] makes one.
#[derive(PartialEq, Eq, Debug)]
pub struct Passed {
    user: String,
    reply: Option<(String, String)>,
}

impl Passed {
    /// CHAP_N of the initiator.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// CHAP_N and CHAP_R for the initiator, where it asked.
    pub fn reply(&self) -> Option<(&str, &str)> {
        self.reply.as_ref().map(|(name, response)| (name.as_str(), response.as_str()))
    }
}

/// Challenges longer than this are refused (RFC 7143 §12.1.3).
const CHALLENGE_BYTES_MAX: usize = 1024;

impl Policy {
    /// Takes the first algorithm of the initiator's list (the value of CHAP_A) that will do, and makes a challenge.
    ///
    /// # Errors
    /// [`Failure::NoAlgorithm`].
    pub fn challenge(
        &self,
        algorithms: &str,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Challenge, Failure> {
        let algorithm = algorithms
            .split(',')
            .filter_map(Algorithm::parse)
            .find(|algorithm| self.algorithms.contains(algorithm))
            .ok_or(Failure::NoAlgorithm)?;
        let mut id = [0];
        random(&mut id);
        let mut bytes = vec![0; algorithm.digest_bytes()];
        random(&mut bytes);
        let [id] = id;
        Ok(Challenge { algorithm, id, bytes })
    }
}

impl Challenge {
    /// The values of CHAP_A, CHAP_I and CHAP_C.
    pub fn values(&self) -> (String, String, String) {
        (self.algorithm.code().to_string(), self.id.to_string(), binary::hex(&self.bytes))
    }

    /// Judges the answer.
    ///
    /// # Errors
    /// The initiator is not let in, for whichever reason.
    pub fn verify(self, policy: &Policy, response: &Response<'_>) -> Result<Passed, Failure> {
        let claimed =
            binary::decode(response.response, Digest::BYTES_MAX).ok_or(Failure::Malformed("CHAP_R"))?;
        // Every name is compared and a digest made in any case: the time tells nothing about names.
        let nobody = Secret(vec![0; 16]);
        let mut account = None;
        for candidate in &policy.accounts {
            if bool::from(candidate.initiator.name.as_bytes().ct_eq(response.name.as_bytes())) {
                account = Some(candidate);
            }
        }
        let secret = account.map_or(&nobody, |account| &account.initiator.secret);
        let expected = self.algorithm.digest(&[&[self.id], &secret.0, &self.bytes]);
        let is_known = Choice::from(u8::from(account.is_some()));
        let is_right = expected.bytes().ct_eq(&claimed) & is_known;
        let user = response.name.to_owned();
        let Some(account) = account else { return Err(Failure::UnknownUser(user)) };
        if !bool::from(is_right) {
            return Err(Failure::WrongResponse(user));
        }
        let reply = match response.mutual {
            Some((id, challenge)) => Some(self.reply(account, id, challenge)?),
            None if policy.is_mutual_required => return Err(Failure::MutualRequired(user)),
            None => None,
        };
        Ok(Passed { user, reply })
    }

    /// Proves who we are.
    fn reply(&self, account: &Account, id: &str, challenge: &str) -> Result<(String, String), Failure> {
        let id = super::text::number(id)
            .and_then(|id| u8::try_from(id).ok())
            .ok_or(Failure::Malformed("CHAP_I"))?;
        let challenge = binary::decode(challenge, CHALLENGE_BYTES_MAX)
            .filter(|challenge| !challenge.is_empty())
            .ok_or(Failure::Malformed("CHAP_C"))?;
        // RFC 7143 §9.2.1: the same challenge in both directions has to end the login.
        if challenge == self.bytes {
            return Err(Failure::Reflected);
        }
        let Some(target) = &account.target else {
            return Err(Failure::NoTargetCredential(account.initiator.name.clone()));
        };
        let digest = self.algorithm.digest(&[&[id], &target.secret.0, &challenge]);
        Ok((target.name.clone(), binary::hex(digest.bytes())))
    }
}
