//! Login and discovery: CHAP in all its forms, text in parts, TSIH and version rules, SendTargets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::control::auth::Chap as Demand;
use lunette::iscsi::chap::{Account, Credential, Secret};
use lunette_initiator::chap::{Algorithm, Encoding};
use lunette_initiator::config::{Auth, Chap, Mutual};
use lunette_initiator::pdu::request::{LoginRequest, NopOut};
use lunette_initiator::pdu::response::{LoginResponse, Response};
use lunette_initiator::session::Event;
use lunette_initiator::socket::{SocketError, Wire};
use lunette_initiator::{Client, Config, LoginError, Offer, text};

use crate::harness::{SOON, Setup, TARGET, World, config};

const SECRET: &[u8] = b"twelve bytes or more";
const TARGET_SECRET: &[u8] = b"another secret of ours";

fn accounts() -> Vec<Account> {
    let credential =
        |name: &str, secret: &[u8]| Credential { name: name.to_owned(), secret: Secret(secret.to_vec()) };
    vec![Account {
        initiator: credential("alice", SECRET),
        target: Some(credential("lunette", TARGET_SECRET)),
    }]
}

fn guarded() -> World {
    let (chap, discovery_chap) = (Demand::Required, Demand::Required);
    World::start(Setup { accounts: accounts(), chap, discovery_chap, ..Setup::default() })
}

fn with(auth: Auth) -> Config {
    Config { auth, ..config("a") }
}

fn mutual() -> Mutual {
    Mutual {
        user: Some("lunette".to_owned()),
        secret: TARGET_SECRET.to_vec(),
        identifier: 42,
        challenge: (0..16).collect(),
    }
}

/// Class and detail of a refused login.
fn refusal(world: &World, config: Config) -> (u8, u8) {
    match Client::connect(world.address(), config) {
        Err(SocketError::Login(error)) => error.status().unwrap_or_else(|| panic!("{error}")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn chap_with_every_hash_both_ways_in_both_encodings() {
    let world = guarded();
    for algorithm in [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha3_256] {
        for encoding in [Encoding::Hex, Encoding::Base64] {
            for mutual in [None, Some(mutual())] {
                let chap =
                    Chap { algorithms: vec![algorithm], encoding, mutual, ..Chap::new("alice", SECRET) };
                let mut client = world.login(with(Auth::Chap(chap.clone())));
                assert_eq!(client.params().unwrap().chap, Some(algorithm));
                client.logout().unwrap();
                let discovery =
                    Config { auth: Auth::Chap(chap), ..Config::discovery("iqn.2026-11.io.example:a") };
                let found = Client::discover(world.address(), discovery).unwrap();
                assert_eq!(found[0], ("TargetName".to_owned(), TARGET.to_owned()));
            }
        }
    }
}

#[test]
fn chap_that_proves_nothing_is_refused() {
    let world = guarded();
    let alice = Chap::new("alice", SECRET);
    for auth in [
        Auth::None,
        Auth::Skip,
        Auth::Chap(Chap::new("alice", b"twelve bytes or less")),
        Auth::Chap(Chap::new("bob", SECRET)),
        Auth::Chap(Chap::new("lunette", TARGET_SECRET)),
    ] {
        assert_eq!(refusal(&world, with(auth.clone())), (2, 1), "{auth:?}");
        let discovery = Config { auth: auth.clone(), ..Config::discovery("iqn.2026-11.io.example:a") };
        assert_eq!(refusal(&world, discovery), (2, 1), "discovery {auth:?}");
    }
    // CHAP or nothing, the initiator says: the target takes CHAP.
    let either = Chap { allow_none: true, ..alice.clone() };
    assert_eq!(refusal(&world, with(Auth::Chap(Chap { secret: vec![7; 16], ..either.clone() }))), (2, 1));
    world.login(with(Auth::Chap(either)));
    // The target that does not know what the initiator expects is found out by the initiator.
    let wrong = Mutual { secret: b"what it does not know".to_vec(), ..mutual() };
    let error = Client::connect(world.address(), with(Auth::Chap(Chap { mutual: Some(wrong), ..alice })));
    assert!(matches!(error, Err(SocketError::Login(LoginError::ChapResponse))), "{error:?}");
}

#[test]
fn an_account_that_has_to_be_mutual_is() {
    let world = World::start(Setup { accounts: accounts(), chap: Demand::Mutual, ..Setup::default() });
    let alice = Chap::new("alice", SECRET);
    assert_eq!(refusal(&world, with(Auth::Chap(alice.clone()))), (2, 1));
    world.login(with(Auth::Chap(Chap { mutual: Some(mutual()), ..alice })));
}

/// RFC 7143 §6.2: a request cut anywhere, the C bit set on all but its last part.
#[test]
fn text_may_come_in_parts() {
    let world = guarded();
    let chap = Chap { mutual: Some(mutual()), ..Chap::new("alice", SECRET) };
    // The target takes so many requests in one login and no more; these need up to that.
    for bytes in [200, 64, 37] {
        let config = Config { login_text_bytes_max: bytes, ..with(Auth::Chap(chap.clone())) };
        let mut client = world.login(config);
        assert_eq!(client.params().unwrap().max_burst_bytes, 1_048_576, "{bytes}");
        client.logout().unwrap();
    }
}

#[test]
fn who_may_come_and_to_what() {
    let world = World::start(Setup { initiators: "iqn.2026-11.io.example:a*", ..Setup::default() });
    world.client("abc");
    assert_eq!(refusal(&world, config("b")), (2, 2));
    assert_eq!(
        refusal(&world, Config::new("iqn.2026-11.io.example:a", "iqn.2026-11.io.example:none")),
        (2, 3)
    );
    // Who may not log in does not find it either.
    let find = |name: &str| Client::discover(world.address(), Config::discovery(name)).unwrap();
    assert_eq!(find("iqn.2026-11.io.example:b"), []);
    let portal = format!("{},1", world.address());
    let expected =
        [("TargetName", TARGET), ("TargetAddress", &portal)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(find("iqn.2026-11.io.example:a"), expected);
    // Names are compared in lower case (RFC 7143 §4.2.7.3).
    assert_eq!(find("IQN.2026-11.IO.EXAMPLE:A"), expected);
}

#[test]
fn send_targets_in_full_feature_phase() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let portal = format!("{},1", world.address());
    let own = [("TargetName", TARGET), ("TargetAddress", &portal)].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(client.send_targets("").unwrap(), own);
    assert_eq!(client.send_targets(TARGET).unwrap(), own);
    // RFC 7143 appendix C: in a normal session the target speaks of itself only.
    assert_eq!(client.send_targets("iqn.2026-11.io.example:none").unwrap(), []);
    assert_eq!(
        client.text(&text::encode([("X-unknown", "1")])).unwrap(),
        [("X-unknown".to_owned(), "NotUnderstood".to_owned())]
    );
}

#[test]
fn a_discovery_session_takes_text_only() {
    let world = World::start(Setup::default());
    let mut client = Client::connect(world.address(), Config::discovery("iqn.2026-11.io.example:a")).unwrap();
    assert_eq!(client.send_targets(TARGET).unwrap().len(), 2);
    assert_eq!(client.send_targets("iqn.2026-11.io.example:none").unwrap(), []);
    // RFC 7143 §4.3: no SCSI command has a place there.
    let itt = client.session().command(crate::harness::test_unit_ready(0)).unwrap();
    assert!(matches!(client.completion(itt), Err(SocketError::Aborted)));
    let event = client.next_event();
    assert!(matches!(event, Some(Event::Reject { .. })), "{event:?}");
    client.logout().unwrap();
    client.wait_closed(SOON).unwrap();
}

#[test]
fn ipv6() {
    let world = World::start(Setup {
        portals: vec![(std::net::Ipv6Addr::LOCALHOST, 0).into(), (std::net::Ipv4Addr::LOCALHOST, 0).into()],
        ..Setup::default()
    });
    let mut client = world.client("a");
    assert!(client.local_addr().unwrap().is_ipv6());
    client.read(0, 8).unwrap();
    let found = Client::discover(world.portals[1], Config::discovery("iqn.2026-11.io.example:a")).unwrap();
    let addresses: Vec<&str> = found.iter().skip(1).map(|(_, value)| value.as_str()).collect();
    let [six, four] = [0, 1].map(|index: usize| world.portals[index].port());
    assert_eq!(addresses, [format!("[::1]:{six},1"), format!("127.0.0.1:{four},1")]);
}

#[test]
fn a_tsih_names_a_session_of_the_same_nexus() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let tsih = client.params().unwrap().tsih;
    assert_ne!(tsih, 0);
    let other = tsih.wrapping_add(1).max(1);
    assert_eq!(refusal(&world, config("a").joining(other, 0)), (2, 0x0a), "no such session");
    assert_eq!(refusal(&world, config("b").joining(tsih, 0)), (2, 0x0a), "somebody else's");
    assert_eq!(refusal(&world, config("a").joining(tsih, 1)), (2, 0x06), "MaxConnections is 1");
    assert_eq!(world.placement().len(), 1);
    // The same connection once more, as it was lost: it is replaced, and the session goes on.
    let _again = world.wire(&config("a").joining(tsih, 0));
    client.wait_closed(SOON).unwrap();
    world.wait_sessions(1);
}

/// Sends a first login request; the status it is answered with, and whether the connection is closed then.
fn first(world: &World, request: LoginRequest, keys: &[(&str, &str)]) -> ((u8, u8), bool) {
    let mut wire = Wire::connect(world.address()).unwrap();
    wire.send(&request.with(text::encode(keys.iter().copied()))).unwrap();
    let pdu = wire.receive().unwrap().expect("an answer");
    let Response::Login(LoginResponse { status_class, status_detail, .. }) = Response::decode(&pdu.bhs)
    else {
        panic!("{pdu:?}")
    };
    ((status_class, status_detail), status_class != 0 && wire.receive().unwrap().is_none())
}

#[test]
fn first_requests_that_are_refused() {
    let world = World::start(Setup::default());
    let who = ("InitiatorName", "iqn.2026-11.io.example:a");
    let to = ("TargetName", TARGET);
    let usual = LoginRequest {
        transit: true,
        next_stage: 3,
        current_stage: 1,
        isid: [0x80, 0, 0, 0, 0, 1],
        itt: 1,
        ..LoginRequest::default()
    };
    assert_eq!(first(&world, usual, &[who, to]), ((0, 0), false));
    for (request, keys, status) in [
        (LoginRequest { version_min: 1, version_max: 1, ..usual }, &[who, to][..], (2, 0x05)),
        (usual, &[to], (2, 0x07)),
        (usual, &[who], (2, 0x07)),
        (usual, &[who, to, ("SessionType", "Weird")], (2, 0x09)),
        (LoginRequest { current_stage: 2, ..usual }, &[who, to], (2, 0)),
        (LoginRequest { next_stage: 0, ..usual }, &[who, to], (2, 0)),
        (LoginRequest { next_stage: 1, ..usual }, &[who, to], (2, 0)),
        (LoginRequest { more: true, ..usual }, &[who, to], (2, 0)),
        (usual, &[who, to, ("MaxBurstLength", "512"), ("MaxBurstLength", "512")], (2, 0)),
    ] {
        assert_eq!(first(&world, request, keys), (status, true), "{request:?} {keys:?}");
    }
    world.client("still");
}

#[test]
fn something_else_during_login_is_refused() {
    let world = World::start(Setup::default());
    let mut wire = Wire::connect(world.address()).unwrap();
    let request = LoginRequest {
        current_stage: 1,
        next_stage: 0,
        itt: 1,
        isid: [0x80, 0, 0, 0, 0, 1],
        ..LoginRequest::default()
    };
    let keys = [("InitiatorName", "iqn.2026-11.io.example:a"), ("TargetName", TARGET)];
    wire.send(&request.with(text::encode(keys))).unwrap();
    let pdu = wire.receive().unwrap().unwrap();
    let Response::Login(LoginResponse { status_class: 0, transit: false, .. }) = Response::decode(&pdu.bhs)
    else {
        panic!("{pdu:?}")
    };
    wire.send(&NopOut { immediate: true, itt: 2, ttt: u32::MAX, ..NopOut::default() }.with([])).unwrap();
    let pdu = wire.receive().unwrap().unwrap();
    let Response::Login(answer) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
    assert_eq!((answer.status_class, answer.status_detail), (2, 0x0b));
    assert_eq!(wire.receive().unwrap(), None);
}

#[test]
fn keys_left_out_have_their_defaults() {
    let world = World::start(Setup::default());
    let client = world.login(Config { auth: Auth::Skip, offer: Offer::default(), ..config("a") });
    let params = client.params().unwrap();
    assert!(params.initial_r2t && params.immediate_data && !params.digests.header && !params.digests.data);
    assert_eq!((params.max_burst_bytes, params.first_burst_bytes), (262_144, 65_536));
    assert_eq!((params.max_outstanding_r2t, params.error_recovery_level, params.max_connections), (1, 0, 1));
}
