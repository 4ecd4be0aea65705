//! Negotiation of text keys (RFC 7143 §6.2), driven by the table in [`super::keys`].
//!
//! The initiator proposes, we answer; a key it does not name keeps its default. We declare
//! MaxRecvDataSegmentLength and propose nothing. Key values beyond our limits are answered with the limit.

use super::keys::{self, FIRST_BURST, KEYS, Key, Kind, MAX_R2T, MAX_RECV, Use};
use super::params::Params;
use super::text;
use crate::limits::PIECE_BYTES_MAX;

/// What we say about a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestOffer {
    /// The first of the initiator's list, be it None or CRC32C.
    Either,
    /// CRC32C or no session.
    Required,
    /// None or no session.
    Never,
}

/// Our side of the negotiation: limits that the outcome does not exceed where the initiator names the key. Where it
/// does not, the RFC's default holds. Set per target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// HeaderDigest.
    pub header_digest: DigestOffer,
    /// DataDigest.
    pub data_digest: DigestOffer,
    /// MaxRecvDataSegmentLength, declared: 512 to 2^24 - 1.
    pub recv_segment_bytes_max: u32,
    /// MaxBurstLength: 512 to 2^24 - 1.
    pub max_burst_bytes: u32,
    /// FirstBurstLength: 512 to [`PIECE_BYTES_MAX`], as an unsolicited burst has to fit one buffer.
    pub first_burst_bytes: u32,
    /// Yes: unsolicited Data-Out is not wanted whatever the initiator says.
    pub initial_r2t: bool,
    /// No: immediate data are not wanted if the initiator asks.
    pub immediate_data: bool,
    /// MaxOutstandingR2T: 1 to 65535.
    pub outstanding_r2t_max: u16,
    /// MaxConnections: 1 to [`crate::limits::SESSION_CONNS_MAX`].
    pub connections_max: u16,
    /// ErrorRecoveryLevel: 0 to 2.
    pub error_recovery_level: u8,
    /// DefaultTime2Wait in seconds; the larger counts.
    pub time2wait: u16,
    /// DefaultTime2Retain in seconds; the smaller counts.
    pub time2retain: u16,
}

impl Offer {
    /// What suits a target that nobody tuned.
    pub const DEFAULT: Offer = Offer {
        header_digest: DigestOffer::Either,
        data_digest: DigestOffer::Either,
        recv_segment_bytes_max: PIECE_BYTES_MAX,
        max_burst_bytes: 1024 * 1024,
        first_burst_bytes: PIECE_BYTES_MAX,
        initial_r2t: false,
        immediate_data: true,
        outstanding_r2t_max: 16,
        connections_max: 2,
        error_recovery_level: 0,
        time2wait: 2,
        time2retain: 0,
    };

    /// A discovery session's: it receives little.
    pub const DISCOVERY: Offer = Offer { recv_segment_bytes_max: LOGIN_SEGMENT_BYTES_MAX, ..Offer::DEFAULT };
}

/// A data segment during login, and the default later, at most (RFC 7143 §6.1, §13.12).
pub const LOGIN_SEGMENT_BYTES_MAX: u32 = 8192;

/// The values that hold until others are agreed on (RFC 7143 §13).
pub const DEFAULTS: Params = Params {
    header_digest: false,
    data_digest: false,
    initial_r2t: true,
    immediate_data: true,
    max_burst_bytes: 262_144,
    first_burst_bytes: 65_536,
    send_segment_bytes_max: LOGIN_SEGMENT_BYTES_MAX,
    recv_segment_bytes_max: LOGIN_SEGMENT_BYTES_MAX,
    outstanding_r2t_max: 1,
    fast_abort: false,
    protocol_level: 1,
    connections_max: 1,
    error_recovery_level: 0,
    time2wait: 2,
    time2retain: 20,
};

// An unsolicited burst fits a buffer, also where FirstBurstLength was never named.
const _: () = assert!(DEFAULTS.first_burst_bytes <= PIECE_BYTES_MAX);
const _: () = assert!(Offer::DEFAULT.first_burst_bytes <= PIECE_BYTES_MAX);
// `Seen` has a bit for each.
const _: () = assert!(KEYS.len() <= 64);

/// A negotiation that cannot go on: the initiator broke a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offence<'a> {
    /// This key came twice (RFC 7143 §6.3).
    Repeated(&'a str),
    /// We insist on another outcome for this key.
    Required(&'a str),
}

/// Keys that have come, a bit for each row of the table.
#[derive(Clone, Copy, Default, Debug)]
struct Seen(u64);

impl Seen {
    /// Whether the row is new; it is not from now on.
    const fn is_new(&mut self, row: usize) -> bool {
        let bit = 1 << row;
        let is_new = self.0 & bit == 0;
        self.0 |= bit;
        is_new
    }
}

/// What to say to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer<'a> {
    Nothing,
    Word(&'a str),
    Number(u32),
}

const REJECT: Answer<'_> = Answer::Word("Reject");
const IRRELEVANT: Answer<'_> = Answer::Word("Irrelevant");

/// The negotiation of a login.
#[derive(Debug)]
pub struct Negotiation {
    offer: Offer,
    params: Params,
    seen: Seen,
    is_discovery: bool,
    is_leading: bool,
    is_declared: bool,
}

impl Negotiation {
    /// Before the first key.
    pub const fn new(offer: Offer, is_discovery: bool, is_leading: bool) -> Negotiation {
        Negotiation { offer, params: DEFAULTS, seen: Seen(0), is_discovery, is_leading, is_declared: false }
    }

    /// Takes the keys of one request and appends the answers. Naming keys are passed over, as are the security keys
    /// where `is_security`: they are for others.
    ///
    /// # Errors
    /// A key that came before in this login.
    pub fn receive<'a>(
        &mut self,
        keys: &[(&'a str, &'a str)],
        is_security: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Offence<'a>> {
        // These depend on others, so they are taken last.
        let depends = |name: &str| name == FIRST_BURST || name == MAX_R2T;
        for is_last in [false, true] {
            for &(name, value) in keys.iter().filter(|(name, _)| depends(name) == is_last) {
                match self.answer(name, value, is_security)? {
                    Answer::Nothing => {}
                    Answer::Word(word) => text::push(out, name, word),
                    Answer::Number(number) => text::push(out, name, &number.to_string()),
                }
            }
        }
        Ok(())
    }

    fn answer<'a>(
        &mut self,
        name: &'a str,
        value: &'a str,
        is_security: bool,
    ) -> Result<Answer<'a>, Offence<'a>> {
        let Some((row, key)) = keys::find(name) else { return Ok(not_understood(value)) };
        if matches!(key.kind, Kind::Naming) || (is_security && matches!(key.kind, Kind::Security)) {
            return Ok(Answer::Nothing);
        }
        // RFC 7143 §6.3: a parameter negotiated a second time has to end the login.
        if !self.seen.is_new(row) {
            return Err(Offence::Repeated(name));
        }
        if is_reserved(value) {
            return Ok(Answer::Nothing);
        }
        let may_come = match key.at {
            Use::Security => is_security,
            Use::Login | Use::Always => true,
            Use::Leading => self.is_leading,
            Use::FullFeature => false,
        };
        if !may_come {
            return Ok(REJECT);
        }
        if key.is_normal_only && self.is_discovery {
            return Ok(IRRELEVANT);
        }
        let params = &self.params;
        // RFC 7143 §13.14: without unsolicited data of either kind it means nothing.
        if name == FIRST_BURST && params.initial_r2t && !params.immediate_data {
            return Ok(IRRELEVANT);
        }
        Ok(decide(key, value, &self.offer, &mut self.params))
    }

    /// Appends what we declare in the operational stage, once; says whether this was the first call.
    pub fn declare(&mut self, out: &mut Vec<u8>) -> bool {
        let is_first = !self.is_declared;
        if is_first {
            self.is_declared = true;
            self.params.recv_segment_bytes_max = self.offer.recv_segment_bytes_max;
            text::push(out, MAX_RECV, &self.offer.recv_segment_bytes_max.to_string());
        }
        is_first
    }

    /// The outcome.
    ///
    /// # Errors
    /// A digest that we insist on was not agreed on.
    pub fn finish(&self) -> Result<Params, Offence<'static>> {
        let mut params = self.params;
        for (offer, outcome, name) in [
            (self.offer.header_digest, params.header_digest, "HeaderDigest"),
            (self.offer.data_digest, params.data_digest, "DataDigest"),
        ] {
            if offer == DigestOffer::Required && !outcome {
                return Err(Offence::Required(name));
            }
        }
        // RFC 7143 §13.14: it must not exceed MaxBurstLength, which may have been agreed on after it, or alone.
        params.first_burst_bytes = params.first_burst_bytes.min(params.max_burst_bytes);
        if params.error_recovery_level > 0 {
            params.outstanding_r2t_max = 1;
        }
        Ok(params)
    }
}

/// Our answer to a key that may come here, and the outcome. An illegal value is answered Reject and changes nothing
/// (RFC 7143 §6.2).
fn decide<'a>(key: &Key, value: &'a str, offer: &Offer, params: &mut Params) -> Answer<'a> {
    let both = |boolean: keys::Boolean, rule: fn(bool, bool) -> bool, params: &mut Params| {
        let Some(theirs) = keys::yes_or_no(value) else { return REJECT };
        let outcome = rule(theirs, (boolean.ours)(offer));
        (boolean.set)(params, outcome);
        Answer::Word(if outcome { "Yes" } else { "No" })
    };
    let either = |number: keys::Number, rule: fn(u32, u32) -> u32, params: &mut Params| {
        let Some(theirs) = number.parse(value) else { return REJECT };
        let mut outcome = rule(theirs, (number.ours)(offer));
        if key.name == FIRST_BURST {
            outcome = outcome.min(params.max_burst_bytes);
        }
        // RFC 7143 §13.19: where sequences come in order and may have to come again, one at a time.
        if key.name == MAX_R2T && params.error_recovery_level > 0 {
            outcome = 1;
        }
        (number.set)(params, outcome);
        Answer::Number(outcome)
    };
    match key.kind {
        Kind::And(boolean) => both(boolean, |theirs, ours| theirs && ours, params),
        Kind::Or(boolean) => both(boolean, |theirs, ours| theirs || ours, params),
        Kind::Min(number) => either(number, u32::min, params),
        Kind::Max(number) => either(number, u32::max, params),
        Kind::Declared(number) => match number.parse(value) {
            Some(theirs) => {
                (number.set)(params, theirs);
                Answer::Nothing
            }
            None => REJECT,
        },
        Kind::List { accepts, set } => match value.split(',').find(|value| accepts(offer, value)) {
            Some(value) => {
                set(params, value);
                Answer::Word(value)
            }
            None => REJECT,
        },
        Kind::Constant(word) => Answer::Word(word),
        Kind::Naming => Answer::Nothing,
        Kind::Security | Kind::TargetOnly | Kind::SendTargets => REJECT,
    }
}

/// Words that answer and are never answered (RFC 7143 §6.2).
fn is_reserved(value: &str) -> bool {
    matches!(value, "Irrelevant" | "NotUnderstood" | "Reject")
}

fn not_understood(value: &str) -> Answer<'_> {
    if is_reserved(value) { Answer::Nothing } else { Answer::Word("NotUnderstood") }
}

mod full_feature;
pub(super) use full_feature::answer_discovery_keys;
pub use full_feature::{TextOffence, answer_in_full_feature};

#[cfg(test)]
mod tests;
