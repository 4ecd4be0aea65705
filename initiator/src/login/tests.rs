//! Logins against scripted targets.

use super::*;
use crate::chap::{Algorithm, Encoding};
use crate::config::{Chap, Mutual, Offer};
use crate::pdu::request::Request;

const ISID: [u8; 6] = [0x80, 0x12, 0x34, 0x56, 0, 1];

/// A login response: T, stages, StatSN, text.
fn response(transit: bool, stages: (u8, u8), stat_sn: u32, text: &[u8]) -> Pdu {
    let (current_stage, next_stage) = stages;
    LoginResponse {
        transit,
        current_stage,
        next_stage,
        isid: ISID,
        tsih: if next_stage == FULL_FEATURE { 7 } else { 0 },
        stat_sn,
        exp_cmd_sn: 1,
        max_cmd_sn: 32,
        ..LoginResponse::default()
    }
    .with(text)
}

fn header(pdu: &Pdu) -> LoginRequest {
    match Request::decode(&pdu.bhs) {
        Request::Login(request) => request,
        other => panic!("{other:?}"),
    }
}

fn sent(step: Result<Step, LoginError>) -> Pdu {
    match step {
        Ok(Step::Send(pdu)) => pdu,
        other => panic!("{other:?}"),
    }
}

fn done(step: Result<Step, LoginError>) -> Outcome {
    match step {
        Ok(Step::Done(outcome)) => *outcome,
        other => panic!("{other:?}"),
    }
}

fn config(auth: Auth) -> Config {
    Config { auth, offer: Offer::default(), ..Config::new("iqn.i", "iqn.t") }
}

fn chap() -> Chap {
    Chap { algorithms: vec![Algorithm::Sha256, Algorithm::Md5], ..Chap::new("joe", b"b") }
}

#[test]
fn the_shortest_login() {
    let (mut login, first) = Login::start(&config(Auth::Skip));
    assert_eq!(first.data, b"InitiatorName=iqn.i\0SessionType=Normal\0TargetName=iqn.t\0");
    // Immediate login request, T, CSG 1, NSG 3, ISID, TSIH 0, CmdSN 1.
    assert_eq!(first.bhs.0[..2], [0x43, 0x87]);
    assert_eq!(first.bhs.0[8..16], [0x80, 0x12, 0x34, 0x56, 0, 1, 0, 0]);
    assert_eq!(first.bhs.0[24..32], [0, 0, 0, 1, 0, 0, 0, 0]);

    let reply = response(true, (1, 3), 0xffff_ffff, b"TargetPortalGroupTag=2\0TargetAlias=disk\0");
    let outcome = done(login.respond(&reply.as_view()));
    assert_eq!(outcome.exp_stat_sn, Serial(0));
    assert_eq!((outcome.exp_cmd_sn, outcome.max_cmd_sn), (Serial(1), Serial(32)));
    assert_eq!((outcome.params.tsih, outcome.params.target_portal_group_tag), (7, Some(2)));
    assert_eq!(outcome.params.target_alias.as_deref(), Some("disk"));
}

#[test]
fn two_stages_without_authentication() {
    let offer = Offer { max_burst_bytes: Some(65536), ..Offer::default() };
    let (mut login, first) = Login::start(&Config { offer, ..config(Auth::None) });
    assert!(first.data.ends_with(b"\0AuthMethod=None\0"));
    assert_eq!(first.bhs.0[1], 0x81);
    let second = sent(login.respond(&response(true, (0, 1), 4, b"AuthMethod=None\0").as_view()));
    assert_eq!((second.bhs.0[1], &second.data[..]), (0x87, &b"MaxBurstLength=65536\0"[..]));
    assert_eq!(header(&second).exp_stat_sn, 5);
    let reply = response(true, (1, 3), 5, b"MaxBurstLength=4096\0");
    assert_eq!(done(login.respond(&reply.as_view())).params.max_burst_bytes, 4096);
}

#[test]
fn discovery_names_no_target() {
    let (_, first) = Login::start(&Config { auth: Auth::None, ..Config::discovery("iqn.i") });
    assert_eq!(first.data, b"InitiatorName=iqn.i\0SessionType=Discovery\0AuthMethod=None\0");
}

#[test]
fn chap_one_way() {
    let (mut login, first) = Login::start(&config(Auth::Chap(chap())));
    assert!(first.data.ends_with(b"\0AuthMethod=CHAP\0"));
    assert!(!header(&first).transit);
    let second = sent(login.respond(&response(false, (0, 0), 0, b"AuthMethod=CHAP\0").as_view()));
    assert_eq!(second.data, b"CHAP_A=7,5\0");
    // The hash of "abc".
    let reply = response(false, (0, 0), 1, b"CHAP_A=5\0CHAP_I=97\0CHAP_C=0x63\0");
    let third = sent(login.respond(&reply.as_view()));
    assert_eq!(third.data, b"CHAP_N=joe\0CHAP_R=0x900150983cd24fb0d6963f7d28e17f72\0");
    assert!(header(&third).transit);
    sent(login.respond(&response(true, (0, 1), 2, b"").as_view()));
    let outcome = done(login.respond(&response(true, (1, 3), 3, b"").as_view()));
    assert_eq!(outcome.params.chap, Some(Algorithm::Md5));
}

/// Up to the point where the target has to prove itself.
fn mutual_login() -> Login {
    let mutual = Mutual {
        user: Some("target".to_owned()),
        secret: b"b".to_vec(),
        identifier: b'a',
        challenge: b"c".to_vec(),
    };
    let chap = Chap { encoding: Encoding::Base64, mutual: Some(mutual), ..chap() };
    let (mut login, _) = Login::start(&config(Auth::Chap(chap)));
    sent(login.respond(&response(false, (0, 0), 0, b"AuthMethod=CHAP\0").as_view()));
    let reply = response(false, (0, 0), 1, b"CHAP_A=5\0CHAP_I=97\0CHAP_C=0bYw==\0");
    let third = sent(login.respond(&reply.as_view()));
    let text = b"CHAP_N=joe\0CHAP_R=0bkAFQmDzST7DWlj99KOF/cg==\0CHAP_I=97\0CHAP_C=0bYw==\0";
    assert_eq!(third.data, text);
    login
}

#[test]
fn chap_mutual() {
    let mut login = mutual_login();
    let proof = b"CHAP_N=target\0CHAP_R=0x900150983cd24fb0d6963f7d28e17f72\0";
    sent(login.respond(&response(true, (0, 1), 2, proof).as_view()));
    let outcome = done(login.respond(&response(true, (1, 3), 3, b"").as_view()));
    assert_eq!(outcome.params.chap, Some(Algorithm::Md5));

    for (text, expected) in [
        (&b"CHAP_N=target\0CHAP_R=0x900150983cd24fb0d6963f7d28e17f73\0"[..], LoginError::ChapResponse),
        (b"CHAP_N=other\0CHAP_R=0x900150983cd24fb0d6963f7d28e17f72\0", LoginError::ChapName),
        (b"CHAP_N=target\0", LoginError::ChapKeyMissing("CHAP_R")),
    ] {
        let error = mutual_login().respond(&response(true, (0, 1), 2, text).as_view()).unwrap_err();
        assert_eq!(error, expected);
    }
}

#[test]
fn a_target_cannot_skip_chap() {
    let start = || Login::start(&config(Auth::Chap(chap()))).0;
    let error = start().respond(&response(false, (0, 0), 0, b"AuthMethod=None\0").as_view()).unwrap_err();
    assert_eq!(error, LoginError::AuthMethod("None".to_owned()));
    // T although we have not said that we are ready.
    let error = start().respond(&response(true, (0, 1), 0, b"AuthMethod=CHAP\0").as_view()).unwrap_err();
    assert_eq!(error, LoginError::Response("T without being asked"));
}

#[test]
fn long_text_goes_in_pieces() {
    let extra_keys = vec![("X-com.example.long".to_owned(), "y".repeat(100))];
    let config = Config { extra_keys, login_text_bytes_max: 64, ..config(Auth::Skip) };
    let (mut login, mut request) = Login::start(&config);
    let mut text = Vec::new();
    let mut stat_sn = 0;
    loop {
        text.extend_from_slice(&request.data);
        let last = header(&request).transit;
        assert_eq!(header(&request).more, !last);
        if last {
            break;
        }
        assert_eq!(request.data.len(), 64);
        request = sent(login.respond(&response(false, (1, 0), stat_sn, b"").as_view()));
        stat_sn += 1;
    }
    let expected = "InitiatorName=iqn.i\0SessionType=Normal\0TargetName=iqn.t\0X-com.example.long="
        .to_owned()
        + &"y".repeat(100)
        + "\0";
    assert_eq!(String::from_utf8(text).unwrap(), expected);
    let last = response(true, (1, 3), stat_sn, b"X-com.example.long=NotUnderstood\0");
    done(login.respond(&last.as_view()));
}

#[test]
fn long_answers_come_in_pieces() {
    let offer = Offer { max_burst_bytes: Some(65536), ..Offer::default() };
    let (mut login, _) = Login::start(&Config { offer, ..config(Auth::Skip) });
    let mut part = response(false, (1, 0), 0, b"MaxBurst");
    part.bhs.0[1] |= 0x40;
    let empty = sent(login.respond(&part.as_view()));
    assert_eq!((empty.bhs.0[1], empty.data.len()), (0x04, 0));
    let rest = sent(login.respond(&response(false, (1, 0), 1, b"Length=512\0").as_view()));
    assert_eq!((rest.bhs.0[1], rest.data.len()), (0x87, 0));
    assert_eq!(done(login.respond(&response(true, (1, 3), 2, b"").as_view())).params.max_burst_bytes, 512);
}

#[test]
fn refusals_and_redirections() {
    let refuse = |class, detail, text: &[u8]| {
        let (mut login, _) = Login::start(&config(Auth::None));
        let response =
            LoginResponse { status_class: class, status_detail: detail, ..LoginResponse::default() }
                .with(text);
        login.respond(&response.as_view()).unwrap_err()
    };
    assert_eq!(refuse(2, 1, b"").status(), Some((2, 1)));
    let error = refuse(1, 1, b"TargetAddress=192.0.2.1:3260,1\0");
    assert_eq!(error.redirect(), Some("192.0.2.1:3260,1"));
    assert_eq!(refuse(2, 1, b"TargetAddress=x\0").redirect(), None);
}

#[test]
fn wrong_responses() {
    let good = LoginResponse {
        transit: true,
        current_stage: 1,
        next_stage: 3,
        isid: ISID,
        tsih: 1,
        ..LoginResponse::default()
    };
    for (wrong, expected) in [
        (LoginResponse { itt: 9, ..good }, "Initiator Task Tag"),
        (LoginResponse { isid: [0; 6], ..good }, "ISID"),
        (LoginResponse { version_active: 1, ..good }, "Version-active"),
        (LoginResponse { current_stage: 0, ..good }, "CSG"),
        (LoginResponse { next_stage: 2, ..good }, "NSG"),
        (LoginResponse { more: true, ..good }, "T and C together"),
        (LoginResponse { tsih: 0, ..good }, "TSIH 0 in the final response"),
    ] {
        let (mut login, _) = Login::start(&config(Auth::Skip));
        let error = login.respond(&wrong.with([]).as_view()).unwrap_err();
        assert_eq!(error, LoginError::Response(expected));
    }
}

#[test]
fn stat_sn_goes_on_and_the_login_ends() {
    let (mut login, _) = Login::start(&config(Auth::Skip));
    sent(login.respond(&response(false, (1, 0), 5, b"").as_view()));
    let error = login.respond(&response(false, (1, 0), 5, b"").as_view()).unwrap_err();
    assert_eq!(error, LoginError::Response("StatSN"));

    let (mut login, _) = Login::start(&config(Auth::Skip));
    let failed = (0..1000).find_map(|sn| login.respond(&response(false, (1, 0), sn, b"").as_view()).err());
    assert_eq!(failed, Some(LoginError::Endless));
}

#[test]
fn an_offer_needs_an_answer() {
    let offer = Offer { immediate_data: Some(true), ..Offer::default() };
    let (mut login, _) = Login::start(&Config { offer, ..config(Auth::Skip) });
    let error = login.respond(&response(true, (1, 3), 0, b"").as_view()).unwrap_err();
    assert_eq!(error, LoginError::Unanswered("ImmediateData"));
}
