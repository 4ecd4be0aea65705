//! Expected responses were computed with Python's hashlib.

use super::*;

const SECRET: &[u8] = b"secret of twelve";
const MUTUAL: Option<(&str, &str)> = Some(("7", "0xcafebabe"));

fn credential(name: &str, secret: &[u8]) -> Credential {
    Credential { name: name.into(), secret: Secret(secret.into()) }
}

fn policy() -> Policy {
    Policy {
        accounts: vec![
            Account { initiator: credential("alone", b"another secret"), target: None },
            Account {
                initiator: credential("user", SECRET),
                target: Some(credential("target", b"target's own secret")),
            },
        ],
        algorithms: Algorithm::ALL.into(),
        is_required: true,
        is_mutual_required: false,
    }
}

/// The identifier is 2Ah, the challenge 01h 02h 03h …
fn challenge(algorithms: &str) -> Result<Challenge, Failure> {
    policy().challenge(algorithms, &mut |out: &mut [u8]| match out {
        [id] => *id = 0x2a,
        bytes => bytes.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value),
    })
}

fn verify(policy: &Policy, response: Response<'_>) -> Result<Passed, Failure> {
    challenge("5").unwrap().verify(policy, &response)
}

#[test]
fn the_initiators_first_algorithm_that_will_do() {
    for (offered, code) in [("5", 5), ("7,5", 7), ("9,x,,8,5", 8), ("0x6", 6)] {
        assert_eq!(challenge(offered).unwrap().algorithm.code(), code, "{offered}");
    }
    for offered in ["", "9", "None", "5 ", "-5"] {
        assert_eq!(challenge(offered).unwrap_err(), Failure::NoAlgorithm, "{offered}");
    }
    let strict = Policy { algorithms: vec![Algorithm::Sha256], ..policy() };
    assert_eq!(strict.challenge("5,7", &mut |_| ()).unwrap().algorithm, Algorithm::Sha256);
    assert_eq!(strict.challenge("5", &mut |_| ()).unwrap_err(), Failure::NoAlgorithm);
}

#[test]
fn what_the_challenge_says() {
    let (algorithm, id, bytes) = challenge("5").unwrap().values();
    assert_eq!((&*algorithm, &*id, &*bytes), ("5", "42", "0x0102030405060708090a0b0c0d0e0f10"));
}

#[test]
fn each_algorithm_both_ways() {
    for (code, response, reply) in [
        ("5", "0xa11224bfb5f92f9e3ea601ae0f73e46c", "0xa35e69cef59b3d0ae9910acb4993e953"),
        ("5", "0boRIkv7X5L54+pgGuD3PkbA==", "0xa35e69cef59b3d0ae9910acb4993e953"),
        ("6", "0X03A1661AD29844F63BC8024FBC122FFCB34DDD40", "0xa2a32000c1ece63d60b3f0f475d8974009d52594"),
        (
            "7",
            "0x68e4a1d200d0ca97f3892c201b00dab903d184ef6f0217785fbf929d7051f5fe",
            "0xc821d77921aaf56cf518fdcf77a6233f46a5fa2876ce84d8658d73ce61837e86",
        ),
        (
            "8",
            "0xe73530b0a7a04b023ce7b50378c470305f3095596fb2afd0db7e55c89fb5a0f0",
            "0x5af76d05ce2deeb5d2d3b51bc46959cfd151db6635385ea42deb38ba89a8d117",
        ),
    ] {
        let given = Response { name: "user", response, mutual: MUTUAL };
        let passed = challenge(code).unwrap().verify(&policy(), &given).unwrap();
        assert_eq!((passed.user(), passed.reply()), ("user", Some(("target", reply))), "{code}");
    }
}

#[test]
fn failures() {
    let right = "0xa11224bfb5f92f9e3ea601ae0f73e46c";
    let wrong = "0xa11224bfb5f92f9e3ea601ae0f73e46d";
    // What the secret of sixteen zeros, which stands in for nobody's, would give.
    let nobodys = "0xf27084f9a3d7d75141a5cb4b47c5cbc4";
    let ours = "0x0102030405060708090a0b0c0d0e0f10";
    let long = format!("0x{}", "00".repeat(1025));
    for (name, response, mutual, failure) in [
        ("user", wrong, None, Failure::WrongResponse("user".into())),
        ("user", "0x", None, Failure::WrongResponse("user".into())),
        ("alone", right, None, Failure::WrongResponse("alone".into())),
        ("nobody", right, None, Failure::UnknownUser("nobody".into())),
        ("nobody", nobodys, None, Failure::UnknownUser("nobody".into())),
        ("User", right, None, Failure::UnknownUser("User".into())),
        ("user", "zz", None, Failure::Malformed("CHAP_R")),
        ("user", right, Some(("7", ours)), Failure::Reflected),
        ("user", right, Some(("256", "0x01")), Failure::Malformed("CHAP_I")),
        ("user", right, Some(("7", "0x")), Failure::Malformed("CHAP_C")),
        ("user", right, Some(("7", &*long)), Failure::Malformed("CHAP_C")),
        // A wrong response is not told anything of ours.
        ("user", wrong, MUTUAL, Failure::WrongResponse("user".into())),
    ] {
        assert_eq!(verify(&policy(), Response { name, response, mutual }), Err(failure), "{name} {response}");
    }
}

#[test]
fn mutual_wanted_by_one_side() {
    let right = "0xa11224bfb5f92f9e3ea601ae0f73e46c";
    let mut policy = policy();
    policy.is_mutual_required = true;
    let response = Response { name: "user", response: right, mutual: None };
    assert_eq!(verify(&policy, response), Err(Failure::MutualRequired("user".into())));
    policy.accounts[1].target = None;
    let response = Response { mutual: MUTUAL, ..response };
    assert_eq!(verify(&policy, response), Err(Failure::NoTargetCredential("user".into())));
}

#[test]
fn what_control_checks() {
    let [alone, user] = policy().accounts.try_into().unwrap();
    assert!(!user.has_same_secret_both_ways() && !alone.has_same_secret_both_ways());
    let same = Account { target: Some(credential("target", SECRET)), ..user };
    assert!(same.has_same_secret_both_ways());
    assert!(Secret(vec![1; 11]).is_weak() && !Secret(vec![1; 12]).is_weak());
    assert!(!format!("{same:?}").contains("115"));
}
