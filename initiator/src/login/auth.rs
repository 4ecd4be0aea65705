//! The security stage: AuthMethod and CHAP, from the initiator's side (RFC 7143 §12.1).

use super::LoginError;
use crate::chap::{self, Algorithm};
use crate::config::{Auth, Chap};
use crate::text;

/// Where the dialogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    MethodOffered,
    AlgorithmsOffered,
    Answered(Algorithm),
    Done(Option<Algorithm>),
}

/// The dialogue of one login.
#[derive(Debug)]
pub(super) struct Dialogue {
    state: State,
}

impl Dialogue {
    pub(super) fn new() -> Self {
        Self { state: State::Start }
    }

    /// The first keys; returns whether the stage may end with them.
    pub(super) fn open(&mut self, auth: &Auth, out: &mut Vec<u8>) -> bool {
        let method = match auth {
            Auth::Chap(Chap { allow_none: true, .. }) => "CHAP,None",
            Auth::Chap(_) => "CHAP",
            Auth::None | Auth::Skip => "None",
        };
        text::push(out, "AuthMethod", method);
        self.state = if method == "None" { State::Done(None) } else { State::MethodOffered };
        method == "None"
    }

    /// Takes the keys of one response; returns whether the stage may end with the next request.
    pub(super) fn take(
        &mut self,
        auth: &Auth,
        pairs: &[(String, String)],
        out: &mut Vec<u8>,
    ) -> Result<bool, LoginError> {
        let Auth::Chap(chap) = auth else { return Ok(true) };
        let value = |key: &'static str| {
            let found = pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
            found.ok_or(LoginError::ChapKeyMissing(key))
        };
        match self.state {
            State::Start | State::MethodOffered => match value("AuthMethod")? {
                "CHAP" => {
                    let list: Vec<String> = chap.algorithms.iter().map(|a| a.number().to_string()).collect();
                    text::push(out, "CHAP_A", &list.join(","));
                    self.state = State::AlgorithmsOffered;
                    Ok(false)
                }
                "None" if chap.allow_none => {
                    self.state = State::Done(None);
                    Ok(true)
                }
                other => Err(LoginError::AuthMethod(other.to_owned())),
            },
            State::AlgorithmsOffered => {
                let number = value("CHAP_A")?.parse().ok().and_then(Algorithm::from_number);
                let algorithm =
                    number.filter(|a| chap.algorithms.contains(a)).ok_or(LoginError::ChapAlgorithm)?;
                let identifier = value("CHAP_I")?.parse().map_err(|_| LoginError::ChapValue("CHAP_I"))?;
                let challenge = chap::decode(value("CHAP_C")?).ok_or(LoginError::ChapValue("CHAP_C"))?;
                let response = algorithm.response(identifier, &chap.secret, &challenge);
                text::push(out, "CHAP_N", &chap.user);
                text::push(out, "CHAP_R", &chap.encoding.encode(&response));
                if let Some(mutual) = &chap.mutual {
                    text::push(out, "CHAP_I", &mutual.identifier.to_string());
                    text::push(out, "CHAP_C", &chap.encoding.encode(&mutual.challenge));
                    self.state = State::Answered(algorithm);
                } else {
                    self.state = State::Done(Some(algorithm));
                }
                Ok(true)
            }
            State::Answered(algorithm) => {
                let Some(mutual) = &chap.mutual else { return Ok(true) };
                if mutual.user.as_deref().is_some_and(|user| value("CHAP_N") != Ok(user)) {
                    return Err(LoginError::ChapName);
                }
                let found = chap::decode(value("CHAP_R")?).ok_or(LoginError::ChapValue("CHAP_R"))?;
                if found != algorithm.response(mutual.identifier, &mutual.secret, &mutual.challenge) {
                    return Err(LoginError::ChapResponse);
                }
                self.state = State::Done(Some(algorithm));
                Ok(true)
            }
            State::Done(_) => Ok(true),
        }
    }

    /// The algorithm used, once nothing is left to prove.
    pub(super) fn finished(&self) -> Result<Option<Algorithm>, LoginError> {
        match self.state {
            State::Done(algorithm) => Ok(algorithm),
            _ => Err(LoginError::AuthUnfinished),
        }
    }
}
