//! The operational keys (RFC 7143 §13, RFC 7144 §7.1): a table, and the rules to judge answers by.

use std::collections::BTreeMap;

use super::LoginError;
use crate::config::{Config, Offer, Params};
use crate::pdu::Digests;
use crate::text;

/// How a value is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The first of the offered list that the other side takes.
    List,
    /// Yes when both say Yes.
    And,
    /// Yes when one says Yes.
    Or,
    /// The smaller number, within a range.
    Min(u32, u32),
    /// The larger number, within a range.
    Max(u32, u32),
    /// Each side states its own number.
    Declared(u32, u32),
}

struct Key {
    name: &'static str,
    rule: Rule,
    default: &'static str,
    /// Makes sense in a discovery session too.
    discovery: bool,
    /// Older targets may not know it.
    recent: bool,
    offered: fn(&Offer) -> Option<String>,
}

const BYTES: u32 = 0xff_ffff;

const fn key(
    name: &'static str,
    rule: Rule,
    default: &'static str,
    offered: fn(&Offer) -> Option<String>,
) -> Key {
    Key { name, rule, default, discovery: false, recent: false, offered }
}

const fn everywhere(key: Key) -> Key {
    Key { discovery: true, ..key }
}

const fn recent(key: Key) -> Key {
    Key { recent: true, ..key }
}

fn yes(on: bool) -> String {
    if on { "Yes" } else { "No" }.to_owned()
}

fn number(n: u32) -> String {
    n.to_string()
}

#[rustfmt::skip]
const KEYS: [Key; 16] = [
    everywhere(key("HeaderDigest", Rule::List, "None", |o| o.header_digest.clone())),
    everywhere(key("DataDigest", Rule::List, "None", |o| o.data_digest.clone())),
    everywhere(key("MaxRecvDataSegmentLength", Rule::Declared(512, BYTES), "8192", |o| o.max_recv_bytes.map(number))),
    key("InitialR2T", Rule::Or, "Yes", |o| o.initial_r2t.map(yes)),
    key("ImmediateData", Rule::And, "Yes", |o| o.immediate_data.map(yes)),
    key("MaxBurstLength", Rule::Min(512, BYTES), "262144", |o| o.max_burst_bytes.map(number)),
    key("FirstBurstLength", Rule::Min(512, BYTES), "65536", |o| o.first_burst_bytes.map(number)),
    key("MaxConnections", Rule::Min(1, 65535), "1", |o| o.max_connections.map(number)),
    key("MaxOutstandingR2T", Rule::Min(1, 65535), "1", |o| o.max_outstanding_r2t.map(number)),
    key("DataPDUInOrder", Rule::Or, "Yes", |o| o.data_pdu_in_order.map(yes)),
    key("DataSequenceInOrder", Rule::Or, "Yes", |o| o.data_sequence_in_order.map(yes)),
    everywhere(key("ErrorRecoveryLevel", Rule::Min(0, 2), "0", |o| o.error_recovery_level.map(number))),
    everywhere(key("DefaultTime2Wait", Rule::Max(0, 3600), "2", |o| o.default_time2wait_s.map(number))),
    everywhere(key("DefaultTime2Retain", Rule::Min(0, 3600), "20", |o| o.default_time2retain_s.map(number))),
    recent(key("TaskReporting", Rule::List, "RFC3720", |o| o.task_reporting.clone())),
    recent(key("iSCSIProtocolLevel", Rule::Min(0, 31), "1", |o| o.protocol_level.map(number))),
];

/// Keys that a target declares and that need no answer.
const DECLARED_BY_TARGET: [&str; 3] = ["TargetAlias", "TargetAddress", "TargetPortalGroupTag"];

/// The operational negotiation of one login.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    offered: BTreeMap<&'static str, String>,
    settled: BTreeMap<&'static str, String>,
    /// The target's MaxRecvDataSegmentLength.
    send_bytes_max: Option<u32>,
    extra: Vec<String>,
}

impl Negotiation {
    /// Our offers as text.
    pub(super) fn open(&mut self, config: &Config, out: &mut Vec<u8>) {
        for key in &KEYS {
            let Some(value) = (key.offered)(&config.offer) else { continue };
            if config.target_name.is_none() && !key.discovery {
                continue;
            }
            text::push(out, key.name, &value);
            self.offered.insert(key.name, value);
        }
        for (key, value) in &config.extra_keys {
            text::push(out, key, value);
            self.extra.push(key.clone());
        }
    }

    /// Takes one pair of the target; what it calls for goes into `reply`.
    pub(super) fn take(&mut self, name: &str, value: &str, reply: &mut Vec<u8>) -> Result<(), LoginError> {
        if DECLARED_BY_TARGET.contains(&name) || self.extra.iter().any(|extra| extra == name) {
            return Ok(());
        }
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            text::push(reply, name, "NotUnderstood");
            return Ok(());
        };
        let wrong = |why| LoginError::Key { key: name.to_owned(), value: value.to_owned(), why };
        if let Rule::Declared(low, high) = key.rule {
            let bytes = ranged(value, low, high).ok_or_else(|| wrong("out of range"))?;
            self.send_bytes_max = Some(bytes);
            return Ok(());
        }
        // RFC 7143 §6.2: a key is negotiated once in a login.
        if self.settled.contains_key(key.name) {
            return Err(wrong("negotiated twice"));
        }
        let settled = match self.offered.get(key.name) {
            Some(offer) => judge(key, offer, value).map_err(wrong)?,
            None => {
                let taken = accept(key.rule, value).ok_or_else(|| wrong("illegal offer"))?;
                text::push(reply, name, &taken);
                taken
            }
        };
        self.settled.insert(key.name, settled);
        Ok(())
    }

    /// The first offered key without an answer.
    pub(super) fn unanswered(&self) -> Option<&'static str> {
        let declared = |name: &str| name == "MaxRecvDataSegmentLength";
        self.offered.keys().find(|name| !declared(name) && !self.settled.contains_key(*name)).copied()
    }

    /// The typed result.
    pub(super) fn params(&self, offer: &Offer) -> Params {
        let value = |name: &str| match self.settled.get(name) {
            Some(value) => value.as_str(),
            None => KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default),
        };
        let yes = |name| value(name) == "Yes";
        // Everything settled was parsed before.
        let number = |name| value(name).parse().unwrap_or(0);
        Params {
            digests: Digests {
                header: value("HeaderDigest") == "CRC32C",
                data: value("DataDigest") == "CRC32C",
            },
            initial_r2t: yes("InitialR2T"),
            immediate_data: yes("ImmediateData"),
            max_burst_bytes: number("MaxBurstLength"),
            first_burst_bytes: number("FirstBurstLength"),
            send_bytes_max: self.send_bytes_max.unwrap_or(8192),
            recv_bytes_max: offer.max_recv_bytes.unwrap_or(8192),
            max_connections: number("MaxConnections"),
            max_outstanding_r2t: number("MaxOutstandingR2T"),
            data_pdu_in_order: yes("DataPDUInOrder"),
            data_sequence_in_order: yes("DataSequenceInOrder"),
            error_recovery_level: number("ErrorRecoveryLevel"),
            default_time2wait_s: number("DefaultTime2Wait"),
            default_time2retain_s: number("DefaultTime2Retain"),
            task_reporting: value("TaskReporting").to_owned(),
            protocol_level: number("iSCSIProtocolLevel"),
            tsih: 0,
            target_portal_group_tag: None,
            target_alias: None,
            chap: None,
            target_keys: Vec::new(),
        }
    }
}

/// The value in force when `answer` was given to our `offer`.
fn judge(key: &Key, offer: &str, answer: &str) -> Result<String, &'static str> {
    match answer {
        "Irrelevant" => return Ok(key.default.to_owned()),
        "NotUnderstood" if key.recent => return Ok(key.default.to_owned()),
        "NotUnderstood" => return Err("a key of RFC 7143 is not understood"),
        "Reject" => return Err("the offer is rejected"),
        _ => {}
    }
    let ours = offer.parse::<u32>().unwrap_or(0);
    let good = match key.rule {
        Rule::List => offer.split(',').any(|choice| choice == answer),
        Rule::And => answer == "No" || (answer == "Yes" && offer == "Yes"),
        Rule::Or => answer == "Yes" || (answer == "No" && offer == "No"),
        Rule::Min(low, high) => ranged(answer, low, high.min(ours)).is_some(),
        Rule::Max(low, high) => ranged(answer, low.max(ours), high).is_some(),
        Rule::Declared(low, high) => ranged(answer, low, high).is_some(),
    };
    if good { Ok(answer.to_owned()) } else { Err("not a legal answer to the offer") }
}

/// Our answer to an offer of the target: whatever it wants, if that is legal.
fn accept(rule: Rule, offer: &str) -> Option<String> {
    match rule {
        Rule::List => offer.split(',').next().map(str::to_owned),
        Rule::And | Rule::Or => ["Yes", "No"].contains(&offer).then(|| offer.to_owned()),
        Rule::Min(low, high) | Rule::Max(low, high) | Rule::Declared(low, high) => {
            ranged(offer, low, high).map(|n| n.to_string())
        }
    }
}

/// A number in decimal or hexadecimal (RFC 7143 §6.1), within a range.
fn ranged(text: &str, low: u32, high: u32) -> Option<u32> {
    let n = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    n.ok().filter(|n| (low..=high).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(offer: Offer) -> Negotiation {
        let mut negotiation = Negotiation::default();
        let config = Config { offer, ..Config::new("i", "t") };
        negotiation.open(&config, &mut Vec::new());
        negotiation
    }

    #[test]
    fn the_offer_is_text() {
        let offer = Offer { initial_r2t: Some(false), max_burst_bytes: Some(1024), ..Offer::default() };
        let config = Config { offer, ..Config::new("i", "t") };
        let mut text = Vec::new();
        Negotiation::default().open(&config, &mut text);
        assert_eq!(text, b"InitialR2T=No\0MaxBurstLength=1024\0");

        let discovery = Config { target_name: None, ..config };
        let mut text = Vec::new();
        Negotiation::default().open(&discovery, &mut text);
        assert_eq!(text, b"");
    }

    #[test]
    fn answers_are_judged() {
        for (name, value, good) in [
            ("HeaderDigest", "None", true),
            ("HeaderDigest", "CRC32C", false),
            ("InitialR2T", "Yes", true),
            ("InitialR2T", "No", true),
            ("InitialR2T", "Maybe", false),
            ("ImmediateData", "No", true),
            ("MaxBurstLength", "512", true),
            ("MaxBurstLength", "511", false),
            ("MaxBurstLength", "16777215", false),
            ("FirstBurstLength", "0x10000", true),
            ("DefaultTime2Wait", "1", false),
            ("DefaultTime2Wait", "2", true),
            ("DataPDUInOrder", "No", false),
            ("MaxConnections", "NotUnderstood", false),
            ("MaxConnections", "Irrelevant", true),
            ("MaxOutstandingR2T", "Reject", false),
        ] {
            let mut reply = Vec::new();
            let taken = opened(Offer::usual()).take(name, value, &mut reply);
            assert_eq!(taken.is_ok(), good, "{name}={value}");
            assert_eq!(reply, b"");
        }
    }

    #[test]
    fn a_key_is_settled_once() {
        let mut negotiation = opened(Offer::usual());
        negotiation.take("InitialR2T", "Yes", &mut Vec::new()).unwrap();
        assert!(negotiation.take("InitialR2T", "Yes", &mut Vec::new()).is_err());
        assert_eq!(negotiation.unanswered(), Some("DataDigest"));
    }

    #[test]
    fn offers_of_the_target_are_answered() {
        let mut negotiation = opened(Offer::default());
        let mut reply = Vec::new();
        negotiation.take("MaxBurstLength", "4096", &mut reply).unwrap();
        negotiation.take("X-com.example", "1", &mut reply).unwrap();
        negotiation.take("MaxRecvDataSegmentLength", "65536", &mut reply).unwrap();
        assert_eq!(reply, b"MaxBurstLength=4096\0X-com.example=NotUnderstood\0");
        let params = negotiation.params(&Offer::default());
        assert_eq!(
            (params.max_burst_bytes, params.send_bytes_max, params.recv_bytes_max),
            (4096, 65536, 8192)
        );
        assert!(params.initial_r2t && params.immediate_data && !params.digests.header);
        assert_eq!(params.task_reporting, "RFC3720");
    }
}
