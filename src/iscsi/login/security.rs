//! The security stage (RFC 7143 §12): AuthMethod, then CHAP.

use super::{Access, End, Proof, Refusal, Why};
use crate::iscsi::chap::{Challenge, Failure, Policy, Response};
use crate::iscsi::text;

/// Evidence that an initiator may go on: nothing outside of this file can make one.
#[derive(Debug)]
pub(super) struct Proven(Proof);

impl Proven {
    /// Where nothing has to be proved.
    pub(super) fn without_chap(access: &Access) -> Option<Proven> {
        match access {
            Access::Chap(policy) if policy.is_required => None,
            Access::Open | Access::Chap(_) => Some(Proven(Proof::None)),
        }
    }

    pub(super) fn into_proof(self) -> Proof {
        self.0
    }
}

/// What is expected next.
#[derive(Debug)]
enum Step {
    Method,
    Algorithm,
    Response(Challenge),
    Proven(Proven),
    Failed,
}

/// Authentication in progress.
#[derive(Debug)]
pub(super) struct Security {
    access: Access,
    step: Step,
}

/// The values of the security keys of one request.
#[derive(Default)]
struct Given<'a> {
    method: Option<&'a str>,
    algorithms: Option<&'a str>,
    id: Option<&'a str>,
    challenge: Option<&'a str>,
    name: Option<&'a str>,
    response: Option<&'a str>,
}

impl<'a> Given<'a> {
    fn collect(keys: &[(&'a str, &'a str)]) -> Result<Given<'a>, End> {
        let mut given = Given::default();
        for &(name, value) in keys {
            let slot = match name {
                "AuthMethod" => &mut given.method,
                "CHAP_A" => &mut given.algorithms,
                "CHAP_I" => &mut given.id,
                "CHAP_C" => &mut given.challenge,
                "CHAP_N" => &mut given.name,
                "CHAP_R" => &mut given.response,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(End::Refuse(Refusal::InitiatorError, Why::Repeated(name.to_owned())));
            }
        }
        Ok(given)
    }
}

fn failed(failure: Failure) -> End {
    End::Refuse(Refusal::AuthenticationFailure, Why::Chap(failure))
}

impl Security {
    pub(super) const fn new(access: Access) -> Security {
        Security { access, step: Step::Method }
    }

    /// Takes the security keys of one request and appends the answers.
    pub(super) fn receive(
        &mut self,
        keys: &[(&str, &str)],
        random: &mut dyn FnMut(&mut [u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        self.step = match (std::mem::replace(&mut self.step, Step::Failed), Given::collect(keys)?) {
            // No security key: nothing moves. The bound on the number of requests ends it.
            (
                step,
                Given {
                    method: None,
                    algorithms: None,
                    id: None,
                    challenge: None,
                    name: None,
                    response: None,
                },
            ) => step,
            (
                Step::Method,
                Given {
                    method: Some(methods),
                    algorithms: None,
                    id: None,
                    challenge: None,
                    name: None,
                    response: None,
                },
            ) => self.choose(methods, out)?,
            (
                Step::Algorithm,
                Given {
                    method: None,
                    algorithms: Some(list),
                    id: None,
                    challenge: None,
                    name: None,
                    response: None,
                },
            ) => {
                let challenge = self.policy()?.challenge(list, random).map_err(failed)?;
                let (algorithm, id, bytes) = challenge.values();
                text::push(out, "CHAP_A", &algorithm);
                text::push(out, "CHAP_I", &id);
                text::push(out, "CHAP_C", &bytes);
                Step::Response(challenge)
            }
            (Step::Response(challenge), given @ Given { method: None, algorithms: None, .. }) => {
                self.verify(challenge, &given, out)?
            }
            _ => return Err(failed(Failure::Malformed("a key out of turn"))),
        };
        Ok(())
    }

    /// RFC 7143 §12: the first of the initiator's list that will do.
    fn choose(&self, methods: &str, out: &mut Vec<u8>) -> Result<Step, End> {
        for method in methods.split(',') {
            let step = match (method, &self.access) {
                ("CHAP", Access::Chap(_)) => Step::Algorithm,
                ("None", access) => match Proven::without_chap(access) {
                    Some(proven) => Step::Proven(proven),
                    None => continue,
                },
                _ => continue,
            };
            text::push(out, "AuthMethod", method);
            return Ok(step);
        }
        Err(End::Refuse(Refusal::AuthenticationFailure, Why::AuthMethod))
    }

    fn verify(&self, challenge: Challenge, given: &Given<'_>, out: &mut Vec<u8>) -> Result<Step, End> {
        let malformed = |key| failed(Failure::Malformed(key));
        let response = Response {
            name: given.name.ok_or(malformed("CHAP_N"))?,
            response: given.response.ok_or(malformed("CHAP_R"))?,
            mutual: match (given.id, given.challenge) {
                (None, None) => None,
                (Some(id), Some(challenge)) => Some((id, challenge)),
                (None, Some(_)) => return Err(malformed("CHAP_I")),
                (Some(_), None) => return Err(malformed("CHAP_C")),
            },
        };
        let passed = challenge.verify(self.policy()?, &response).map_err(failed)?;
        if let Some((name, response)) = passed.reply() {
            text::push(out, "CHAP_N", name);
            text::push(out, "CHAP_R", response);
        }
        let is_mutual = passed.reply().is_some();
        Ok(Step::Proven(Proven(Proof::Chap { user: passed.user().to_owned(), is_mutual })))
    }

    fn policy(&self) -> Result<&Policy, End> {
        match &self.access {
            Access::Chap(policy) => Ok(policy),
            Access::Open => Err(End::Refuse(Refusal::AuthenticationFailure, Why::AuthMethod)),
        }
    }

    /// The initiator proposes to leave this stage: the evidence that it may, or the stage itself where it has to stay.
    pub(super) fn leave(self) -> Result<Result<Proven, Security>, End> {
        match self.step {
            Step::Proven(proven) => Ok(Ok(proven)),
            // It never offered anything.
            Step::Method => Proven::without_chap(&self.access)
                .map(Ok)
                .ok_or(End::Refuse(Refusal::AuthenticationFailure, Why::NotAuthenticated)),
            Step::Algorithm | Step::Response(_) | Step::Failed => Ok(Err(self)),
        }
    }
}
