//! Text: pairs, both negotiations, CHAP values.

use lunette::iscsi::chap::{Account, Algorithm, Credential, Policy, Response, Secret};
use lunette::iscsi::negotiate::{DEFAULTS, DigestOffer, Negotiation, Offer, answer_in_full_feature};
use lunette::iscsi::text::{self, Inbox};

use super::source::Source;
use super::views;

/// Names and values that lead somewhere, for the fuzzer to put together.
const WORDS: [&str; 34] = [
    "InitiatorName",
    "TargetName",
    "SendTargets",
    "SessionType",
    "AuthMethod",
    "HeaderDigest",
    "DataDigest",
    "MaxConnections",
    "InitialR2T",
    "ImmediateData",
    "MaxRecvDataSegmentLength",
    "MaxBurstLength",
    "FirstBurstLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
    "ErrorRecoveryLevel",
    "TaskReporting",
    "iSCSIProtocolLevel",
    "X-com.example.key",
    "None",
    "CRC32C",
    "CRC32C,None",
    "Yes",
    "No",
    "0",
    "1",
    "16777215",
    "0x200",
    "All",
    views::TARGET,
    "Reject",
];

pub(super) fn one(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(3) {
        0 => {
            let text = words(&mut source);
            negotiate(&text, &mut source);
        }
        1 => {
            let offer = source.byte();
            let room = source.word();
            let mut rest = source.rest().to_vec();
            full_feature(&rest, room);
            rest.insert(0, offer);
            negotiate(&rest, &mut Source::new(&[offer]));
        }
        _ => chap(&mut source),
    }
}

/// Text of words and raw bytes.
pub(super) fn words(source: &mut Source<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..source.below(40) {
        text.extend_from_slice(word(source));
        text.push(b'=');
        text.extend_from_slice(word(source));
        if !source.once_in(16) {
            text.push(0);
        }
    }
    text
}

fn word<'a>(source: &mut Source<'a>) -> &'a [u8] {
    match source.below(WORDS.len() + 4) {
        index if index < WORDS.len() => WORDS[index].as_bytes(),
        index => source.take(3 * (index - WORDS.len()) + 1),
    }
}

fn negotiate(text: &[u8], source: &mut Source<'_>) {
    let digest = source.pick(&[DigestOffer::Either, DigestOffer::Required, DigestOffer::Never]);
    let offer = Offer {
        header_digest: digest,
        initial_r2t: source.once_in(2),
        immediate_data: source.once_in(2),
        max_burst_bytes: source.pick(&[512, 65_536, 0xff_ffff]),
        ..Offer::DEFAULT
    };
    let mut negotiation = Negotiation::new(offer, source.once_in(4), !source.once_in(4));
    let mut out = Vec::new();
    if let Ok(keys) = text::pairs(text).collect::<Result<Vec<_>, _>>() {
        let (security, operational) = keys.split_at(keys.len().min(source.below(8)));
        let taken = negotiation.receive(security, true, &mut out).is_ok()
            && negotiation.receive(operational, false, &mut out).is_ok();
        negotiation.declare(&mut out);
        if let (true, Ok(params)) = (taken, negotiation.finish()) {
            assert!((512..=0xff_ffff).contains(&params.max_burst_bytes), "{params:?}");
            assert!(
                (512..=lunette::limits::PIECE_BYTES_MAX).contains(&params.first_burst_bytes),
                "{params:?}"
            );
            assert!(params.first_burst_bytes <= params.max_burst_bytes, "{params:?}");
            assert!((512..=0xff_ffff).contains(&params.send_segment_bytes_max), "{params:?}");
            assert!(params.outstanding_r2t_max >= 1, "{params:?}");
            assert!(params.error_recovery_level <= offer.error_recovery_level, "{params:?}");
            assert!((1..=offer.connections_max).contains(&params.connections_max), "{params:?}");
            assert!(digest != DigestOffer::Never || !params.header_digest, "{params:?}");
        }
        // What we say is text, and bounded by what was said to us.
        let answers = text::pairs(&out).collect::<Result<Vec<_>, _>>();
        assert!(answers.is_ok_and(|answers| answers.len() <= keys.len() + 1));
    }
    let mut inbox = Inbox::default();
    for part in text.chunks(7) {
        if inbox.push(part, true).is_err() {
            break;
        }
    }
    full_feature(text, source.word());
}

fn full_feature(text: &[u8], room: u32) {
    let target = views::target();
    let mut out = vec![0xee; room as usize % 20_000];
    let mut params = DEFAULTS;
    match answer_in_full_feature(text, &target, &mut params, &mut out) {
        Ok(bytes) => {
            assert!(bytes <= out.len());
            assert!(out[bytes..].iter().all(|byte| *byte == 0xee));
            assert!(text::pairs(&out[..bytes]).all(|pair| pair.is_ok()));
            assert!((512..=0xff_ffff).contains(&params.send_segment_bytes_max), "{params:?}");
            params.send_segment_bytes_max = DEFAULTS.send_segment_bytes_max;
        }
        Err(offence) => assert_eq!(params, DEFAULTS, "{offence:?}"),
    }
    assert_eq!(params, DEFAULTS, "only one key may change in full feature phase");
}

fn chap(source: &mut Source<'_>) {
    let credential =
        |name: &str, secret: &[u8]| Credential { name: name.to_owned(), secret: Secret(secret.to_vec()) };
    let policy = Policy {
        accounts: vec![Account {
            initiator: credential("user", b"0123456789ab"),
            target: Some(credential("target", b"ba9876543210")),
        }],
        algorithms: Algorithm::ALL.to_vec(),
        is_required: true,
        is_mutual_required: source.once_in(2),
    };
    let algorithms = String::from_utf8_lossy(source.take(6)).into_owned();
    let algorithms = if source.once_in(2) { algorithms } else { "7,5".to_owned() };
    let Ok(challenge) = policy.challenge(&algorithms, &mut |out| out.fill(0x5a)) else { return };
    let mut value = |bytes| {
        let prefix = source.pick(&["0x", "0b", "0X", ""]);
        format!("{prefix}{}", String::from_utf8_lossy(source.take(bytes)))
    };
    let (response, id, back) = (value(70), value(4), value(2100));
    let response = Response { name: "user", response: &response, mutual: Some((&id, &back)) };
    assert!(challenge.verify(&policy, &response).is_err(), "nobody guesses a digest: {response:?}");
}
