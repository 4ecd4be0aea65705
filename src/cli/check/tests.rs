//! Findings, literally.

use super::*;

fn found(text: &str) -> Vec<String> {
    let mut findings = Findings::new(text);
    let calls = walk::calls(text, &mut findings);
    names::check(&calls, &mut findings);
    findings.sorted().iter().map(Finding::to_string).collect()
}

/// One call a line, from line 2 on.
fn file(calls: &[&str]) -> String {
    format!("{{\"subsystems\": [{{\"subsystem\": \"bdev\", \"config\": [\n{}\n]}}]}}\n", calls.join(",\n"))
}

const RAM: &str =
    r#"{"method": "bdev_malloc_create", "params": {"name": "ram0", "num_blocks": 8, "block_size": 512}}"#;
const PORTALS: &str = r#"{"method": "iscsi_create_portal_group", "params": {"tag": 1, "portals": [{"host": "127.0.0.1", "port": "3260"}]}}"#;
const ANYBODY: &str = r#"{"method": "iscsi_create_initiator_group", "params": {"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}}"#;
const TARGET: &str = concat!(
    r#"{"method": "iscsi_create_target_node", "params": {"name": "iqn.2026-11.io.example:t", "alias_name": "", "#,
    r#""pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": [{"bdev_name": "ram0"}], "queue_depth": 64}}"#
);

#[test]
fn what_is_in_order_is_not_remarked_on() {
    assert_eq!(found(&file(&[RAM, PORTALS, ANYBODY, TARGET])), [] as [&str; 0]);
    let batch = format!("[{RAM}, {PORTALS}]");
    assert_eq!(found(&file(&[&batch, ANYBODY, TARGET])), [] as [&str; 0]);
    assert_eq!(found(r#"{"subsystems": [{"subsystem": "sock", "config": null}]}"#), [] as [&str; 0]);
}

#[test]
fn what_is_no_json_is_said_where_it_stops() {
    assert_eq!(found("{\n  \"subsystems\": [\n  }\n"), ["3:3: error: expected value"]);
    assert_eq!(found("[]"), [r#"1:1: error: it is not an object with an array "subsystems""#]);
    assert_eq!(found(""), ["1:1: error: EOF while parsing a value"]);
}

#[test]
fn every_mistake_is_named_with_its_place_and_what_was_meant() {
    let misspelt = RAM.replace("malloc", "maloc");
    let parameter = RAM.replace("num_blocks", "num_block").replace("ram0", "ram1");
    let kind = PORTALS.replace("\"tag\": 1", "\"tag\": \"1\"");
    let member = RAM.replace("\"params\"", "\"parms\"");
    assert_eq!(
        found(&file(&[&misspelt, &parameter, &kind, &member, "7"])),
        [
            r#"2:1: error: there is no call "bdev_maloc_create"; did you mean "bdev_malloc_create"?"#,
            r#"3:74: error: bdev_malloc_create: there is no parameter "num_block"; did you mean "num_blocks"?"#,
            r#"4:59: error: iscsi_create_portal_group: tag: a whole number from 0 to 65535 is expected, not a string"#,
            "5:1: error: bdev_malloc_create: num_blocks: it is missing",
            r#"5:43: error: bdev_malloc_create: a call has method and params, not "parms"; did you mean "params"?"#,
            r#"6:1: error: a call is an object with "method" and "params""#,
        ]
    );
}

#[test]
fn what_is_named_has_to_be_made_before() {
    assert_eq!(
        found(&file(&[&RAM.replace("ram0", "ram1"), TARGET, PORTALS, ANYBODY, PORTALS])),
        [
            "3:119: error: iscsi_create_target_node: no call before this one makes portal group 1",
            "3:119: error: iscsi_create_target_node: no call before this one makes initiator group 1",
            r#"3:157: error: iscsi_create_target_node: no call before this one makes a bdev "ram0"; did you mean "ram1"?"#,
            "6:59: error: iscsi_create_portal_group: there is a portal group 1 already",
        ]
    );
    let namespace = TARGET.replace("ram0", "Nvme0n1");
    let attach = r#"{"method": "bdev_nvme_attach_controller", "params": {"name": "Nvme0", "trtype": "PCIe", "traddr": "0000:01:00.0"}}"#;
    assert_eq!(found(&file(&[attach, PORTALS, ANYBODY, &namespace])), [] as [&str; 0]);
    let add = r#"{"method": "iscsi_target_node_add_lun", "params": {"name": "iqn.2026-11.io.example:u", "bdev_name": "ram0"}}"#;
    assert_eq!(
        found(&file(&[RAM, PORTALS, ANYBODY, TARGET, add])),
        [concat!(
            r#"6:60: error: iscsi_target_node_add_lun: no call before this one makes a target "iqn.2026-11.io.example:u""#,
            r#"; did you mean "iqn.2026-11.io.example:t"?"#
        )]
    );
}

#[test]
fn what_may_not_be_meant_is_warned_of() {
    let open = PORTALS.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(
        found(&file(&[RAM, &open, ANYBODY, TARGET])),
        [concat!(
            "5:119: warning: everybody who reaches portal group 1 can log in to iqn.2026-11.io.example:t: it has neither ",
            "initiators of its own nor require_chap"
        )]
    );
    let chap =
        TARGET.replace("\"queue_depth\"", "\"require_chap\": true, \"chap_group\": 3, \"queue_depth\"");
    assert_eq!(
        found(&file(&[RAM, &open, ANYBODY, &chap])),
        [concat!(
            "5:218: warning: iscsi_create_target_node: no call makes authentication group 3: nobody who has to prove ",
            "anything can log in"
        )]
    );
    let group = r#"{"method": "iscsi_create_auth_group", "params": {"tag": 3}}"#;
    assert_eq!(found(&file(&[RAM, &open, ANYBODY, &chap, group])), [] as [&str; 0]);
    let missing = r#"{"method": "bdev_aio_create", "params": {"name": "a", "filename": "/nowhere/at/all", "block_size": 512}}"#;
    assert_eq!(
        found(&file(&[missing])),
        [
            "2:67: warning: bdev_aio_create: there is no /nowhere/at/all on this machine now: the disk is not ready until there is"
        ]
    );
    let relative = missing.replace("/nowhere/at/all", "a.img");
    assert_eq!(found(&file(&[&relative])), ["2:67: error: bdev_aio_create: a.img is not absolute"]);
}

#[test]
fn places_count_characters() {
    let two = RAM.replace("ram0", "\u{fc}\u{fc}");
    let twice = format!("{two}, {two}");
    let column =
        two.chars().count() + 2 + "{\"method\": \"bdev_malloc_create\", \"params\": {\"name\": ".len() + 1;
    assert_eq!(
        found(&file(&[&twice])),
        [format!("2:{column}: error: bdev_malloc_create: there is a bdev \"\u{fc}\u{fc}\" already")]
    );
}
