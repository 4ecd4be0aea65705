use super::*;

/// Refused at its first request, which is `bytes`.
fn at_once(bytes: &[u8]) -> ([u8; 2], Why) {
    Talk::new(Control::open()).refused(bytes)
}

/// A request with bytes of its header replaced.
fn with(flags: u8, text: &str, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = request(flags, text);
    for &(at, value) in changes {
        bytes[at] = value;
    }
    bytes
}

#[test]
fn headers() {
    for (bytes, status, why) in [
        (with(0x87, NAMES, &[(2, 1), (3, 1)]), [2, 5], Why::Version(1)),
        (with(0x87, NAMES, &[(0, 0x03)]), [2, 0], Why::NotImmediate),
        (with(0x87, NAMES, &[(4, 1)]), [2, 0], Why::TooLong(75)),
        (with(0x87, NAMES, &[(6, 0x20), (7, 0x01)]), [2, 0], Why::TooLong(8193)),
        (with(0x87, NAMES, &[(5, 0xff)]), [2, 0], Why::TooLong(0xff_004b)),
        (with(0x87, NAMES, &[(16, 0xff), (17, 0xff), (18, 0xff), (19, 0xff)]), [2, 0], Why::Changed),
        // T with C; stages that do not exist; transits that do not.
        (request(0xc7, NAMES), [2, 0], Why::Stage(0xc7)),
        (request(0x08, NAMES), [2, 0], Why::Stage(0x08)),
        (request(0x0c, NAMES), [2, 0], Why::Stage(0x0c)),
        (request(0x80, NAMES), [2, 0], Why::Stage(0x80)),
        (request(0x82, NAMES), [2, 0], Why::Stage(0x82)),
        (request(0x84, NAMES), [2, 0], Why::Stage(0x84)),
        (request(0x85, NAMES), [2, 0], Why::Stage(0x85)),
    ] {
        let mut talk = Talk::new(Control::open());
        let Progress::Refused(got) = talk.send(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(got, why);
        assert_eq!(talk.login.outgoing()[36..38], status, "{why:?}");
        assert_eq!(talk.login.outgoing().len(), 48);
    }
    // Version-max above ours is no obstacle, and NSG means nothing without T.
    let mut talk = Talk::new(Control::open());
    assert_eq!(talk.send(&with(0x07, NAMES, &[(2, 9)])), Progress::More);
    assert_eq!(talk.response().flags, 0x04);
}

#[test]
fn names_and_text() {
    let text = |text: &str| at_once(&request(0x87, text));
    let disk = "TargetName=iqn.2026-11.example:disk;";
    assert_eq!(text(""), ([2, 7], Why::Missing("InitiatorName")));
    assert_eq!(text(disk), ([2, 7], Why::Missing("InitiatorName")));
    assert_eq!(text(INITIATOR), ([2, 7], Why::Missing("TargetName")));
    assert_eq!(text(&format!("InitiatorName=host;{disk}")), ([2, 0], Why::InitiatorName));
    assert_eq!(text(&format!("{NAMES}SessionType=discovery;")), ([2, 9], Why::SessionType));
    let not_found = ([2, 3], Why::Authority(Refusal::NotFound));
    assert_eq!(text(&format!("{INITIATOR}TargetName=iqn.2026-11.example:other;")), not_found);
    assert_eq!(text(&format!("{INITIATOR}TargetName=disk;")), not_found);
    let twice = |key: &str| ([2, 0], Why::Repeated(key.into()));
    assert_eq!(text(&format!("{NAMES}TargetName=iqn.2026-11.example:b;")), twice("TargetName"));
    assert_eq!(text(&format!("{NAMES}InitialR2T=No;InitialR2T=No;")), twice("InitialR2T"));
    assert_eq!(text("nonsense;"), ([2, 0], Why::Text(TextError::NoEquals)));
    assert_eq!(text("A=b"), ([2, 0], Why::Text(TextError::Unterminated)));
}

#[test]
fn what_must_not_change() {
    for (at, value) in [(8, 0), (13, 6), (15, 1), (19, 0xce), (21, 4)] {
        let mut talk = Talk::new(Control::open());
        let _ = talk.say(0x00, NAMES);
        assert_eq!(talk.refused(&with(0x00, "", &[(at, value)])), ([2, 0], Why::Changed), "{at}");
    }
    for (text, key) in [
        ("SessionType=Discovery;", "SessionType"),
        ("InitiatorName=iqn.2026-11.example:other;", "InitiatorName"),
        ("HeaderDigest=None;", "HeaderDigest"),
        ("AuthMethod=None;", "AuthMethod"),
    ] {
        let mut talk = Talk::new(Control::open());
        let _ = talk.say(0x00, &format!("{NAMES}HeaderDigest=None;AuthMethod=None;"));
        let (status, why) = talk.refused(&request(0x00, text));
        if key == "AuthMethod" {
            assert_eq!((status, why), ([2, 1], Why::Chap(chap::Failure::Malformed("a key out of turn"))));
        } else {
            assert_eq!((status, why), ([2, 0], Why::Repeated(key.into())));
        }
    }
}

#[test]
fn stages_go_forwards() {
    let mut talk = Talk::new(Control::open());
    let _ = talk.say(0x81, NAMES);
    assert_eq!(talk.refused(&request(0x81, "")), ([2, 0], Why::Stage(0x81)));
    assert_eq!(talk.last[1], 0x00, "told in the stage of the last request in order");
    let mut talk = Talk::new(Control::open());
    let _ = talk.say(0x44, "InitiatorName=");
    assert_eq!(talk.refused(&request(0x40, "")), ([2, 0], Why::Stage(0x40)), "while it is continued");
}

#[test]
fn what_control_says() {
    let address = || "10.0.0.2:3260,1".to_owned();
    for (refusal, status, text) in [
        (Refusal::MovedTemporarily(address()), [1, 1], "TargetAddress=10.0.0.2:3260,1;"),
        (Refusal::MovedPermanently(address()), [1, 2], "TargetAddress=10.0.0.2:3260,1;"),
        (Refusal::Forbidden, [2, 2], ""),
        (Refusal::NotFound, [2, 3], ""),
        (Refusal::Removed, [2, 4], ""),
        (Refusal::TooManyConnections, [2, 6], ""),
        (Refusal::CannotInclude, [2, 8], ""),
        (Refusal::NoSuchSession, [2, 0x0a], ""),
        (Refusal::TargetError, [3, 0], ""),
        (Refusal::ServiceUnavailable, [3, 1], ""),
        (Refusal::OutOfResources, [3, 2], ""),
    ] {
        for control in [
            Control { refusal: Some(refusal.clone()), ..Control::open() },
            Control { claim: Err(refusal.clone()), ..Control::open() },
        ] {
            let mut talk = Talk::new(control);
            assert_eq!(talk.send(&request(0x87, NAMES)), Progress::Refused(Why::Authority(refusal.clone())));
            assert_eq!(talk.response(), Said { flags: 0x04, status, text: text.into() });
        }
    }
}

#[test]
fn digests_we_insist_on() {
    let offer = Offer { data_digest: DigestOffer::Required, ..Offer::DEFAULT };
    let mut talk = Talk::new(Control { offer, ..Control::open() });
    let refused = talk.refused(&request(0x87, &format!("{NAMES}DataDigest=None;")));
    assert_eq!(refused, ([2, 0], Why::Value("DataDigest".into())));
    assert_eq!(talk.control.claimed, []);
}

#[test]
fn other_requests() {
    // Before login: closed, and nothing said.
    let mut talk = Talk::new(Control::open());
    assert_eq!(
        talk.send(&b"GET / HTTP/1.1\r\nHost: 127.0.0.1:3260\r\nAccept: */*\r\n"[..48]),
        Progress::Closed(Why::NotLogin(7))
    );
    assert_eq!(talk.login.outgoing(), b"");
    // During login: told.
    let mut talk = Talk::new(Control::open());
    let _ = talk.say(0x00, NAMES);
    assert_eq!(talk.refused(&with(0x80, "", &[(0, 0x01)])), ([2, 0x0b], Why::OtherRequest(1)));
}

#[test]
fn talking_into_a_long_answer() {
    let keys: String = (0..500).map(|key| format!("X-a.long.name.{key:03}=;")).collect();
    for (flags, text) in [(0x87, "X-b=;"), (0x44, "")] {
        let mut talk = Talk::new(Control::open());
        let _ = talk.say(0x44, &format!("{NAMES}{}", &keys[..5000]));
        assert_eq!(talk.say(0x87, &keys[5000..]).flags, 0x44);
        assert_eq!(talk.refused(&request(flags, text)), ([2, 0], Why::Interrupted));
    }
}
