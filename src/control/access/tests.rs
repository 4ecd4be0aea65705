//! What patterns, netmasks and groups let in.

use super::*;

#[test]
fn globs_match_whole_names() {
    let name = "iqn.1993-08.org.debian:01:abc";
    for (pattern, expected) in [
        ("iqn.1993-08.org.debian:01:abc", true),
        ("IQN.1993-08.ORG.Debian:01:ABC", true),
        ("iqn.1993-08.org.debian:01:ab", false),
        ("iqn.1993-08.org.debian:*", true),
        ("*", true),
        ("*abc", true),
        ("*:01:*", true),
        ("*:02:*", false),
        ("*a?c", true),
        ("*abc?", false),
        ("*b*b*", true),
        ("*b*b*b*", false),
        ("", false),
    ] {
        assert_eq!(NameGlob::new(pattern).matches(name), expected, "{pattern}");
    }
}

#[test]
fn a_hostile_pattern_takes_bounded_time() {
    let name = "a".repeat(223);
    assert!(!NameGlob::new(&format!("{}b", "*a".repeat(100))).matches(&name));
}

fn rule(text: &str) -> NameRule {
    NameRule::parse(text).unwrap()
}

fn netmask(text: &str) -> Netmask {
    Netmask::parse(text).unwrap()
}

#[test]
fn netmasks_cover_what_they_say() {
    for (text, address, expected) in [
        ("ANY", "203.0.113.1", true),
        ("all", "2001:db8::1", true),
        ("192.0.2.0/24", "192.0.2.255", true),
        ("192.0.2.0/24", "192.0.3.0", false),
        ("192.0.2.77/24", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("0.0.0.0/0", "::1", false),
        ("192.0.2.0/24", "::ffff:192.0.2.9", true),
        ("[2001:db8::]/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("::/0", "2001:db9::1", true),
        ("[::1]", "::1", true),
        ("[::1]", "::2", false),
    ] {
        assert_eq!(netmask(text).covers(address.parse().unwrap()), expected, "{text} {address}");
    }
    for text in [
        "",
        "192.0.2.0/33",
        "192.0.2.0/",
        "192.0.2.0/+4",
        "192.0.2/24",
        "[192.0.2.0]/24",
        "[::]/129",
        "any/8",
    ] {
        assert_eq!(Netmask::parse(text), Err(ChangeError::Netmask(text.to_owned())));
    }
}

#[test]
fn rules_are_names_or_patterns() {
    for text in ["", "!", "a b", "a\0", &"x".repeat(256)] {
        assert_eq!(NameRule::parse(text), Err(ChangeError::InitiatorName(text.to_owned())));
    }
    assert_eq!(rule("!IQN.A").text(), "!IQN.A");
}

#[test]
fn the_first_rule_that_fits_counts() {
    let group = |names: &[&str], netmasks: &[&str]| InitiatorGroup {
        tag: 1,
        initiators: names.iter().map(|name| rule(name)).collect(),
        netmasks: netmasks.iter().map(|text| netmask(text)).collect(),
    };
    let local = group(&["!iqn.a:bad", "iqn.a:*", "!ANY"], &["127.0.0.0/8", "192.0.2.1"]);
    let (admit, deny) = (Some(Verdict::Admit), Some(Verdict::Deny));
    for (initiator, address, expected) in [
        ("iqn.a:1", "127.0.0.1", admit),
        ("iqn.a:1", "192.0.2.1", admit),
        ("iqn.a:1", "192.0.2.2", None),
        ("iqn.a:bad", "127.0.0.1", deny),
        ("iqn.b:1", "127.0.0.1", deny),
    ] {
        let who = Who { initiator, address: address.parse().unwrap() };
        assert_eq!(local.verdict(who), expected, "{initiator} {address}");
    }
    let who = Who { initiator: "iqn.a:1", address: [127, 0, 0, 1].into() };
    assert_eq!(group(&["iqn.b:1"], &["ANY"]).verdict(who), None);
    assert_eq!(group(&["ANY"], &[]).verdict(who), None, "from nowhere");
    assert_eq!(group(&[], &["ANY"]).verdict(who), None, "nobody");
    assert_eq!(InitiatorGroup::any(3).verdict(who), admit);
}

#[test]
fn groups_change_by_all_or_nothing() {
    let mut groups = InitiatorGroups::default();
    groups.create(InitiatorGroup::any(1)).unwrap();
    assert_eq!(groups.create(InitiatorGroup::any(1)), Err(ChangeError::exists(What::InitiatorGroup, 1)));
    let group = groups.get_mut(1).unwrap();
    assert_eq!(
        group.add(vec![rule("iqn.a"), rule("ANY")], Vec::new()),
        Err(ChangeError::exists(What::Initiator, "ANY"))
    );
    assert_eq!(
        group.remove(&[rule("ANY")], &[netmask("::1")]),
        Err(ChangeError::missing(What::Netmask, "::1"))
    );
    assert_eq!(*group, InitiatorGroup::any(1));
    group.add(vec![rule("iqn.a")], vec![netmask("::1")]).unwrap();
    group.remove(&[rule("ANY")], &[netmask("ANY")]).unwrap();
    let left = InitiatorGroup { tag: 1, initiators: vec![rule("iqn.a")], netmasks: vec![netmask("::1")] };
    assert_eq!(*group, left);
    let many = (0..INITIATORS_MAX).map(|number| rule(&format!("iqn.{number}"))).collect();
    assert_eq!(
        group.add(many, Vec::new()),
        Err(ChangeError::TooMany { what: What::Initiator, most: INITIATORS_MAX })
    );
    assert_eq!(groups.delete(1), Ok(()));
    assert_eq!(groups.delete(1), Err(ChangeError::missing(What::InitiatorGroup, 1)));
}
