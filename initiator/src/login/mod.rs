//! The login phase (RFC 7143 §6.3, 11.12, 11.13), sans-IO: a response in, the next request or the result out.

mod auth;
mod keys;

use crate::config::{Auth, Config, Params};
use crate::pdu::request::LoginRequest;
use crate::pdu::response::{LoginResponse, Response};
use crate::pdu::{Pdu, PduRef};
use crate::{Serial, text};

/// Stages, as CSG and NSG name them.
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// The tag of all our login requests (RFC 7143 §11.12.7 wants one for the whole login).
const LOGIN_ITT: u32 = 0;

/// Bounds on what a target may make us do.
const RESPONSES_MAX: u32 = 64;
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum LoginError {
    /// Status class and detail of RFC 7143 §11.13.5, with the keys that came along.
    #[error("login refused: class {class}, detail {detail}")]
    Refused { class: u8, detail: u8, keys: Vec<(String, String)> },
    #[error("{key}={value}: {why}")]
    Key { key: String, value: String, why: &'static str },
    #[error("{0} was offered and not answered")]
    Unanswered(&'static str),
    #[error(transparent)]
    Text(#[from] text::Malformed),
    #[error("AuthMethod={0} was not offered")]
    AuthMethod(String),
    #[error("the target ends the security stage before it is finished")]
    AuthUnfinished,
    #[error("{0} is missing")]
    ChapKeyMissing(&'static str),
    #[error("{0} cannot be read")]
    ChapValue(&'static str),
    #[error("CHAP_A was not offered")]
    ChapAlgorithm,
    #[error("CHAP_N is not the name expected of the target")]
    ChapName,
    #[error("the target does not know its secret")]
    ChapResponse,
    #[error("wrong login response: {0}")]
    Response(&'static str),
    #[error("the login does not come to an end")]
    Endless,
}

impl LoginError {
    /// The status class and detail, when the target refused.
    #[must_use]
    pub fn status(&self) -> Option<(u8, u8)> {
        match self {
            Self::Refused { class, detail, .. } => Some((*class, *detail)),
            _ => None,
        }
    }

    /// The TargetAddress of a redirection.
    #[must_use]
    pub fn redirect(&self) -> Option<&str> {
        match self {
            Self::Refused { class: 1, keys, .. } => {
                keys.iter().find(|(key, _)| key == "TargetAddress").map(|(_, value)| value.as_str())
            }
            _ => None,
        }
    }
}

/// What follows a response.
#[derive(Debug)]
pub enum Step {
    /// Send this and wait for the response.
    Send(Pdu),
    /// Full feature phase.
    Done(Box<Outcome>),
}

/// The result of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was negotiated.
    pub params: Params,
    /// The StatSN that the next response is to carry.
    pub exp_stat_sn: Serial,
    /// ExpCmdSN of the final response.
    pub exp_cmd_sn: Serial,
    /// MaxCmdSN of the final response.
    pub max_cmd_sn: Serial,
}

/// A login in progress.
#[derive(Debug)]
pub struct Login {
    config: Config,
    stage: u8,
    /// The text to send in this stage may end it.
    ready: bool,
    /// Text to send; more than one request when it is long.
    outbox: Vec<u8>,
    /// Text received with the C bit.
    inbox: Vec<u8>,
    /// What the last request said: T, C.
    asked_transit: bool,
    asked_more: bool,
    exp_stat_sn: Option<Serial>,
    responses: u32,
    auth: auth::Dialogue,
    negotiation: keys::Negotiation,
    target_keys: Vec<(String, String)>,
}

impl Login {
    /// Begins a login; the first request to send comes with it.
    #[must_use]
    pub fn start(config: &Config) -> (Self, Pdu) {
        let mut login = Self {
            config: config.clone(),
            stage: SECURITY,
            ready: false,
            outbox: Vec::new(),
            inbox: Vec::new(),
            asked_transit: false,
            asked_more: false,
            exp_stat_sn: None,
            responses: 0,
            auth: auth::Dialogue::new(),
            negotiation: keys::Negotiation::default(),
            target_keys: Vec::new(),
        };
        let out = &mut login.outbox;
        text::push(out, "InitiatorName", &config.initiator_name);
        if let Some(alias) = &config.initiator_alias {
            text::push(out, "InitiatorAlias", alias);
        }
        match &config.target_name {
            Some(name) => {
                text::push(out, "SessionType", "Normal");
                text::push(out, "TargetName", name);
            }
            None => text::push(out, "SessionType", "Discovery"),
        }
        if config.auth == Auth::Skip {
            login.stage = OPERATIONAL;
            login.negotiation.open(config, &mut login.outbox);
            login.ready = true;
        } else {
            login.ready = login.auth.open(&config.auth, &mut login.outbox);
        }
        let first = login.request();
        (login, first)
    }

    /// Takes a response.
    ///
    /// # Errors
    /// The login is over; see [`LoginError`].
    pub fn respond(&mut self, pdu: &PduRef<'_>) -> Result<Step, LoginError> {
        let Response::Login(response) = Response::decode(&pdu.bhs) else {
            return Err(LoginError::Response("another PDU during login"));
        };
        self.check(&response)?;
        if response.status_class != 0 {
            let keys = text::decode(pdu.data).unwrap_or_default();
            let (class, detail) = (response.status_class, response.status_detail);
            return Err(LoginError::Refused { class, detail, keys });
        }
        if self.asked_more {
            // RFC 7143 §6.2: the answer to a request with C=1 has no text.
            if !pdu.data.is_empty() || response.transit || response.more {
                return Err(LoginError::Response("text or T or C while ours goes on"));
            }
            return Ok(Step::Send(self.request()));
        }
        self.inbox.extend_from_slice(pdu.data);
        if self.inbox.len() > TEXT_BYTES_MAX {
            return Err(LoginError::Endless);
        }
        if response.more {
            let empty = self.header(false, false).with([]);
            return Ok(Step::Send(empty));
        }
        let pairs = text::decode(&std::mem::take(&mut self.inbox))?;
        self.target_keys.extend_from_slice(&pairs);
        if self.stage == SECURITY {
            self.security(&response, &pairs)
        } else {
            self.operational(&response, &pairs)
        }
    }

    fn security(&mut self, response: &LoginResponse, pairs: &[(String, String)]) -> Result<Step, LoginError> {
        let ready = self.auth.take(&self.config.auth, pairs, &mut self.outbox)?;
        if response.transit {
            if !self.outbox.is_empty() {
                return Err(LoginError::AuthUnfinished);
            }
            self.auth.finished()?;
            self.stage = OPERATIONAL;
            self.negotiation.open(&self.config, &mut self.outbox);
            self.ready = true;
        } else {
            self.ready = ready;
        }
        Ok(Step::Send(self.request()))
    }

    fn operational(
        &mut self,
        response: &LoginResponse,
        pairs: &[(String, String)],
    ) -> Result<Step, LoginError> {
        for (key, value) in pairs {
            // With Auth::Skip some targets answer the method they would have taken.
            if key != "AuthMethod" {
                self.negotiation.take(key, value, &mut self.outbox)?;
            }
        }
        if !response.transit {
            return Ok(Step::Send(self.request()));
        }
        if !self.outbox.is_empty() {
            return Err(LoginError::Response("T together with an offer"));
        }
        if let Some(key) = self.negotiation.unanswered() {
            return Err(LoginError::Unanswered(key));
        }
        if response.tsih == 0 {
            return Err(LoginError::Response("TSIH 0 in the final response"));
        }
        let value = |key: &str| self.target_keys.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let chap = if self.config.auth == Auth::Skip { None } else { self.auth.finished()? };
        let params = Params {
            tsih: response.tsih,
            target_portal_group_tag: value("TargetPortalGroupTag").and_then(|tag| tag.parse().ok()),
            target_alias: value("TargetAlias"),
            chap,
            target_keys: self.target_keys.clone(),
            ..self.negotiation.params(&self.config.offer)
        };
        Ok(Step::Done(Box::new(Outcome {
            params,
            exp_stat_sn: Serial(response.stat_sn).plus(1),
            exp_cmd_sn: Serial(response.exp_cmd_sn),
            max_cmd_sn: Serial(response.max_cmd_sn),
        })))
    }

    /// What holds for every response.
    fn check(&mut self, response: &LoginResponse) -> Result<(), LoginError> {
        self.responses += 1;
        if self.responses > RESPONSES_MAX {
            return Err(LoginError::Endless);
        }
        if response.itt != LOGIN_ITT {
            return Err(LoginError::Response("Initiator Task Tag"));
        }
        // A refusal need not be perfect otherwise.
        if response.status_class != 0 {
            return Ok(());
        }
        let next = if self.stage == SECURITY { OPERATIONAL } else { FULL_FEATURE };
        let rules = [
            (response.isid == self.config.isid, "ISID"),
            (response.version_active == 0, "Version-active"),
            (response.current_stage == self.stage, "CSG"),
            (!response.transit || self.asked_transit, "T without being asked"),
            (!response.transit || response.next_stage == next, "NSG"),
            (!(response.transit && response.more), "T and C together"),
            (self.exp_stat_sn.is_none_or(|sn| sn.0 == response.stat_sn), "StatSN"),
        ];
        if let Some((_, what)) = rules.iter().find(|(holds, _)| !holds) {
            return Err(LoginError::Response(what));
        }
        self.exp_stat_sn = Some(Serial(response.stat_sn).plus(1));
        Ok(())
    }

    /// The next request: as much of the outbox as one takes.
    fn request(&mut self) -> Pdu {
        let rest = self.outbox.split_off(self.outbox.len().min(self.config.login_text_bytes_max.max(1)));
        let data = std::mem::replace(&mut self.outbox, rest);
        let more = !self.outbox.is_empty();
        self.header(!more && self.ready, more).with(data)
    }

    fn header(&mut self, transit: bool, more: bool) -> LoginRequest {
        (self.asked_transit, self.asked_more) = (transit, more);
        let next = if self.stage == SECURITY { OPERATIONAL } else { FULL_FEATURE };
        LoginRequest {
            transit,
            more,
            current_stage: self.stage,
            next_stage: if transit { next } else { 0 },
            version_max: 0,
            version_min: 0,
            isid: self.config.isid,
            tsih: self.config.tsih,
            itt: LOGIN_ITT,
            cid: self.config.cid,
            cmd_sn: self.config.cmd_sn,
            exp_stat_sn: self.exp_stat_sn.unwrap_or_default().0,
        }
    }
}

#[cfg(test)]
mod tests;
