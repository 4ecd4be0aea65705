//! Targets of SCST's, and who may come to them from now on.

use crate::import::Format;
use crate::import::tests::{calls, changes};

/// A file with a target that has these lines.
fn conf(lines: &str) -> String {
    format!(
        "HANDLER vdisk_fileio {{\n DEVICE d {{\n filename /srv/d\n }}\n DEVICE e {{\n filename /srv/e\n }}\n}}\nTARGET_DRIVER iscsi {{\n \
         enabled 1\n TARGET iqn.2026-11.io.example:t {{\n enabled 1\n {lines}\n }}\n}}\n"
    )
}

/// The names of each group that may come, in order, and what could not be taken over.
fn groups(lines: &str) -> (Vec<String>, Vec<String>) {
    let (groups, changes) = changes(Format::Scst, &conf(lines), "iscsi_create_initiator_group");
    let names = |group: &String| {
        let (_, rest) = group.split_once(r#""initiators":["#).unwrap();
        let (names, rest) = rest.split_once(r#"],"netmasks":["#).unwrap();
        format!("{names} {}", rest.trim_end_matches("]}")).replace('"', "")
    };
    (groups.iter().map(names).collect(), changes.into_iter().filter(|line| line.contains("cannot")).collect())
}

/// Each group that may come, and whether the report says that something is not there.
fn check(lines: &str, expected: &[&str], is_told: bool) {
    let (groups, changes) = groups(lines);
    assert_eq!(groups, expected, "{lines}: {changes:?}");
    assert_eq!(!changes.is_empty(), is_told, "{lines}: {changes:?}");
}

/// SCST's `!x` fits all names but x, which look on.
#[test]
fn an_inverted_pattern_keeps_nobody_out_who_finds_other_luns() {
    check("GROUP g {\n LUN 0 d\n INITIATOR !iqn.a:x\n }", &["!iqn.a:x,ANY ANY"], false);
    check(
        "GROUP g {\n LUN 0 d\n INITIATOR !iqn.a:x*\n INITIATOR iqn.a:x1\n }",
        &["iqn.a:x1,!iqn.a:x*,ANY ANY"],
        false,
    );
    // Whom it does not fit finds the target's own LUNs, or another group's.
    check("LUN 0 d\n GROUP g {\n LUN 0 e\n INITIATOR !iqn.a:x\n }", &[], true);
    check(
        "GROUP g {\n LUN 0 d\n INITIATOR !iqn.a:x\n }\n GROUP h {\n LUN 0 e\n INITIATOR iqn.a:*\n }",
        &[],
        true,
    );
    // Those of groups before it find what they did.
    check(
        "LUN 0 d\n GROUP f {\n LUN 0 e\n INITIATOR iqn.a:f\n }\n GROUP g {\n LUN 0 e\n INITIATOR !iqn.a:x\n INITIATOR iqn.a:y\n }",
        &["iqn.a:f ANY", "iqn.a:y ANY"],
        true,
    );
    // Two fit everybody whom one of them fits.
    check("GROUP g {\n LUN 0 d\n INITIATOR !iqn.a:x\n INITIATOR !iqn.a:y\n }", &[], true);
    check("GROUP g {\n LUN 0 d\n INITIATOR !iqn.a:x\n INITIATOR 192.0.2.1\n }", &["ANY 192.0.2.1"], true);
}

#[test]
fn who_is_told_by_portal_comes_by_it_or_not_at_all() {
    let by_portal = "per_portal_acl 1\n GROUP g {\n LUN 0 d\n";
    // As TrueNAS writes it.
    check(&format!("{by_portal} INITIATOR *\\#*\n }}"), &["* ANY"], false);
    check(&format!("{by_portal} INITIATOR iqn.a:x\\#192.0.2.1\n }}"), &["iqn.a:x ANY"], false);
    check(&format!("{by_portal} INITIATOR iqn.a:x*\n }}"), &["iqn.a:x* ANY"], false);
    check(&format!("{by_portal} INITIATOR iqn.a:x\\#[2001:db8::1]\n }}"), &["iqn.a:x ANY"], false);
    // By both portals.
    let both = "INITIATOR iqn.a:x\\#192.0.2.1\n INITIATOR iqn.a:x\\#192.0.2.2";
    check(&format!("{by_portal} {both}\n }}"), &["iqn.a:x ANY"], false);
    check(&format!("{by_portal} {both}\n INITIATOR iqn.a:y\\#192.0.2.2\n }}"), &["iqn.a:x ANY"], true);
    check(&format!("allowed_portal 192.0.2.2\n {by_portal} {both}\n }}"), &["iqn.a:x ANY"], false);
    for line in ["iqn.a:x\\#192.0.2.*", "iqn.a:x", "iqn.a:x\\#192.0.2.3", "!iqn.a:x\\#192.0.2.1"] {
        // Who does not come by it finds the target's own LUNs.
        for own in ["", "LUN 0 e\n"] {
            check(&format!("{own}allowed_portal 192.0.2.1\n {by_portal} INITIATOR {line}\n }}"), &[], true);
        }
    }
    // Without per_portal_acl there is nobody whose name is so.
    check("LUN 0 e\n GROUP g {\n LUN 0 d\n INITIATOR iqn.a:x\\#*\n }", &[], true);
    check("LUN 0 e\n GROUP g {\n LUN 0 d\n INITIATOR \"iqn.a: x\"\n }", &[], true);
}

#[test]
fn a_target_is_reached_by_the_portals_that_lead_to_it_and_by_no_others() {
    let acl = "per_portal_acl 1\n GROUP g {\n LUN 0 d\n INITIATOR iqn.a:x\\#192.0.2.1\n }";
    for (lines, portals, leads) in [
        ("LUN 0 d", r#""0.0.0.0""#, true),
        ("LUN 0 d\n allowed_portal *", r#""0.0.0.0""#, true),
        ("LUN 0 d\n allowed_portal 192.0.2.1\n allowed_portal 10.*", r#""192.0.2.1""#, true),
        ("LUN 0 d\n allowed_portal 10.*\n allowed_portal *", r#""0.0.0.0""#, true),
        ("LUN 0 d\n allowed_portal 10.*", "", false),
        ("LUN 0 d\n rel_tgt_id 3\n allowed_portal !*", "", false),
        (acl, r#""192.0.2.1""#, true),
    ] {
        let text = conf(lines);
        let groups = calls(Format::Scst, &text, "iscsi_create_portal_group");
        assert_eq!(groups.len(), usize::from(leads), "{lines}: {groups:?}");
        assert!(groups.iter().all(|group| group.contains(portals)), "{lines}: {groups:?}");
        let targets = calls(Format::Scst, &text, "iscsi_create_target_node");
        assert_eq!(targets[0].contains(r#""pg_ig_maps":[{"pg_tag":1,"#), leads, "{lines}: {targets:?}");
        assert!(!targets[0].contains("relative_port"), "{lines}: {targets:?}");
    }
}
