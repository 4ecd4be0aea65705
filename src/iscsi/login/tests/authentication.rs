use super::*;

const RESPONSE: &str = "CHAP_N=user;CHAP_R=0xa11224bfb5f92f9e3ea601ae0f73e46c;";
const WRONG: &str = "CHAP_N=user;CHAP_R=0xa11224bfb5f92f9e3ea601ae0f73e46d;";
const CHALLENGE: &str = "CHAP_A=5;CHAP_I=42;CHAP_C=0x0102030405060708090a0b0c0d0e0f10;";

/// Up to where the initiator has to respond to the challenge.
fn challenged(control: Control) -> Talk {
    let mut talk = Talk::new(control);
    assert_eq!(
        talk.say(0x00, &format!("{NAMES}AuthMethod=CHAP,None;")),
        said(0x00, "TargetPortalGroupTag=7;AuthMethod=CHAP;")
    );
    assert_eq!(talk.say(0x00, "CHAP_A=5;"), said(0x00, CHALLENGE));
    talk
}

fn chap_failed(failure: chap::Failure) -> ([u8; 2], Why) {
    ([2, 1], Why::Chap(failure))
}

#[test]
fn one_way() {
    let mut talk = challenged(Control::chap(|_| ()));
    assert_eq!(talk.say(0x81, RESPONSE), said(0x81, ""));
    let _ = talk.finish(0x87, "");
    let proof = Proof::Chap { user: "user".into(), is_mutual: false };
    assert_eq!(talk.login.into_established().unwrap().proof, proof);
}

#[test]
fn mutual() {
    let mut talk = challenged(Control::chap(|policy| policy.is_mutual_required = true));
    assert_eq!(
        talk.finish(0x83, &format!("{RESPONSE}CHAP_I=7;CHAP_C=0byv66vg==;")),
        said(0x83, "CHAP_N=target;CHAP_R=0xa35e69cef59b3d0ae9910acb4993e953;")
    );
    let proof = Proof::Chap { user: "user".into(), is_mutual: true };
    assert_eq!(talk.login.into_established().unwrap().proof, proof);
}

#[test]
fn a_transit_proposed_too_early_waits() {
    let mut talk = Talk::new(Control::chap(|_| ()));
    assert_eq!(
        talk.say(0x81, &format!("{NAMES}AuthMethod=CHAP;")),
        said(0x00, "TargetPortalGroupTag=7;AuthMethod=CHAP;")
    );
    assert_eq!(talk.say(0x83, "CHAP_A=9,5;"), said(0x00, CHALLENGE));
    assert_eq!(talk.say(0x83, ""), said(0x00, ""));
    assert_eq!(talk.control.claimed, []);
    let _ = talk.finish(0x83, RESPONSE);
}

#[test]
fn chap_where_it_is_not_required() {
    let control = || Control::chap(|policy| policy.is_required = false);
    for (offered, chosen) in [("None,CHAP", "None"), ("None", "None")] {
        let mut talk = Talk::new(control());
        let answer = said(0x81, &format!("TargetPortalGroupTag=7;AuthMethod={chosen};"));
        assert_eq!(talk.say(0x81, &format!("{NAMES}AuthMethod={offered};")), answer);
    }
    let _ = Talk::new(control()).finish(0x87, NAMES);
    let _ = Talk::new(control()).finish(0x83, NAMES);
    // Once begun, it is to be ended.
    let mut talk = challenged(control());
    assert_eq!(talk.say(0x83, ""), said(0x00, ""));
    assert_eq!(talk.refused(&request(0x83, WRONG)), chap_failed(chap::Failure::WrongResponse("user".into())));
}

#[test]
fn no_way_around_it() {
    for (flags, keys, why) in [
        // Straight into the operational stage, or past everything.
        (0x87, "", Why::NotAuthenticated),
        (0x04, "", Why::NotAuthenticated),
        (0x81, "", Why::NotAuthenticated),
        (0x83, "", Why::NotAuthenticated),
        (0x04, "AuthMethod=None;", Why::NotAuthenticated),
        (0x81, "AuthMethod=None;", Why::AuthMethod),
        (0x00, "AuthMethod=KRB5,SRP,None;", Why::AuthMethod),
        (0x00, "AuthMethod=;", Why::AuthMethod),
        (0x00, "CHAP_A=5;", Why::Chap(chap::Failure::Malformed("a key out of turn"))),
        (0x00, "AuthMethod=CHAP;CHAP_A=5;", Why::Chap(chap::Failure::Malformed("a key out of turn"))),
    ] {
        let mut talk = Talk::new(Control::chap(|_| ()));
        assert_eq!(talk.refused(&request(flags, &format!("{NAMES}{keys}"))), ([2, 1], why), "{keys}");
        let mut talk = Talk::new(Control::chap(|_| ()));
        let discovery = request(flags, &format!("{INITIATOR}SessionType=Discovery;{keys}"));
        assert_eq!(talk.refused(&discovery).0, [2, 1], "{keys}");
    }
    let mut talk = Talk::new(Control::chap(|_| ()));
    assert_eq!(talk.say(0x00, NAMES).flags, 0);
    assert_eq!(talk.refused(&request(0x87, "")), ([2, 0], Why::Stage(0x87)));
    let mut talk = challenged(Control::chap(|_| ()));
    assert_eq!(talk.refused(&request(0x87, "")), ([2, 0], Why::Stage(0x87)));
    // There is nothing to compare a response with.
    let mut talk = Talk::new(Control::open());
    assert_eq!(talk.refused(&request(0x00, &format!("{NAMES}AuthMethod=CHAP;"))), ([2, 1], Why::AuthMethod));
}

#[test]
fn failures_look_alike() {
    let unknown = "CHAP_N=nobody;CHAP_R=0xa11224bfb5f92f9e3ea601ae0f73e46c;";
    let reflected = "CHAP_I=7;CHAP_C=0x0102030405060708090a0b0c0d0e0f10;";
    let reflected = format!("{RESPONSE}{reflected}");
    let half = format!("{RESPONSE}CHAP_I=7;");
    let other_half = format!("{RESPONSE}CHAP_C=0x01;");
    let again = format!("{RESPONSE}CHAP_A=5;");
    let mut wires = vec![];
    for (keys, failure) in [
        (WRONG, chap::Failure::WrongResponse("user".into())),
        (unknown, chap::Failure::UnknownUser("nobody".into())),
        ("CHAP_N=user;", chap::Failure::Malformed("CHAP_R")),
        ("CHAP_R=0x00;", chap::Failure::Malformed("CHAP_N")),
        (&reflected, chap::Failure::Reflected),
        (&half, chap::Failure::Malformed("CHAP_C")),
        (&other_half, chap::Failure::Malformed("CHAP_I")),
        (&again, chap::Failure::Malformed("a key out of turn")),
    ] {
        let mut talk = challenged(Control::chap(|_| ()));
        assert_eq!(talk.refused(&request(0x81, keys)), chap_failed(failure), "{keys}");
        wires.push(talk.last);
    }
    assert!(wires.iter().all(|wire| *wire == wires[0] && wire.len() == 48));
    let mut talk = challenged(Control::chap(|policy| policy.is_mutual_required = true));
    assert_eq!(
        talk.refused(&request(0x81, RESPONSE)),
        chap_failed(chap::Failure::MutualRequired("user".into()))
    );
    assert_eq!(talk.last, wires[0]);
    let mut talk = Talk::new(Control::chap(|_| ()));
    let _ = talk.say(0x00, &format!("{NAMES}AuthMethod=CHAP;"));
    assert_eq!(talk.refused(&request(0x00, "CHAP_A=9;")), chap_failed(chap::Failure::NoAlgorithm));
}

#[test]
fn a_second_try_on_the_same_connection() {
    let mut talk = challenged(Control::chap(|_| ()));
    let _ = talk.refused(&request(0x81, WRONG));
    assert!(matches!(talk.send(&request(0x81, RESPONSE)), Progress::Refused(Why::Chap(_))));
    assert_eq!(talk.login.outgoing(), b"");
    assert!(talk.login.into_established().is_err());
}
