//! What is exported, and that it is read back as what it was.

use std::path::{Path, PathBuf};

use super::{To, export};
use crate::import::source::Source;
use crate::import::tests::Folder;
use crate::import::{Format, import};
use crate::rpc::json::Json;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/export").join(name)
}

fn source() -> Source {
    Source {
        name: "lunette.json".to_owned(),
        text: std::fs::read_to_string(fixture("lunette.json")).unwrap(),
    }
}

/// `UPDATE_FIXTURES=1` writes what comes of it anew, to be read before it is committed.
#[test]
fn a_configuration_becomes_what_stands_beside_it() {
    for (to, name) in [(To::Spdk, "spdk.json"), (To::Tgt, "targets.conf"), (To::Lio, "saveconfig.json")] {
        let exported = export(to, &source(), &Folder::default()).unwrap();
        for (name, text) in
            [(name.to_owned(), exported.text), (format!("{name}.report"), format!("{}\n", exported.report))]
        {
            let path = fixture(&name);
            if std::env::var_os("UPDATE_FIXTURES").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}");
        }
    }
}

/// The parameters of all calls of a method.
fn params<'a>(config: &'a Json, method: &str) -> Vec<&'a Json> {
    let Some(Json::Array(subsystems)) = config.member("subsystems") else { panic!("{config}") };
    let calls = subsystems.iter().filter_map(|subsystem| match subsystem.member("config") {
        Some(Json::Array(calls)) => Some(calls),
        _ => None,
    });
    let named = calls.flatten().filter(|call| call.member("method").and_then(Json::text) == Some(method));
    named.filter_map(|call| call.member("params")).collect()
}

#[test]
fn what_tgt_and_lio_are_told_is_read_back_as_the_same_disks() {
    for (to, format, name, naa) in [
        (To::Tgt, Format::Tgt, "b.img", "60000000000000000e00000000010002"),
        (To::Lio, Format::Lio, "a", "60014050a1b2c3d00004000800000000"),
    ] {
        let exported = export(to, &source(), &Folder::default()).unwrap();
        let back = [Source { name: "back".to_owned(), text: exported.text }];
        assert_eq!(Format::detect(&back), Some(format));
        let imported = import(format, &back, &Folder::default(), &[], &[]).unwrap();
        let identities = params(&imported.config, "lunette_bdev_set_identity");
        let found = identities
            .iter()
            .find(|params| params.member("name").and_then(Json::text) == Some(name))
            .unwrap();
        assert_eq!(found.member("naa").and_then(Json::text), Some(naa));
        let targets = params(&imported.config, "iscsi_create_target_node");
        assert_eq!(targets.len(), 2);
        assert_eq!(params(&imported.config, "iscsi_create_auth_group").len(), 2);
    }
}

#[test]
fn nobody_is_let_in_who_was_not_before() {
    // Patterns together with addresses can be said to neither; whoever that was stays out.
    for to in [To::Tgt, To::Lio] {
        let exported = export(to, &source(), &Folder::default()).unwrap();
        assert!(!exported.text.contains("microsoft"), "{}", exported.text);
        assert!(
            exported.report.to_string().contains("iqn.1991-05.com.microsoft:* were left out"),
            "{}",
            exported.report
        );
    }
}

#[test]
fn lio_is_told_the_sizes_of_files_and_only_what_its_kernel_takes() {
    let text = r#"{"subsystems":[{"subsystem":"bdev","config":[
        {"method":"bdev_aio_create","params":{"name":"file","filename":"/srv/a.img","block_size":512}},
        {"method":"bdev_aio_create","params":{"name":"gone","filename":"/srv/gone.img","block_size":512}},
        {"method":"bdev_aio_create","params":{"name":"device","filename":"/dev/sdq","block_size":512}},
        {"method":"bdev_malloc_create","params":{"name":"ram","num_blocks":2048,"block_size":512}}]}]}"#;
    let source = Source { name: "f".to_owned(), text: text.to_owned() };
    let exported = export(To::Lio, &source, &Folder(vec![("/srv/a.img", "1234567")])).unwrap();
    let root = Json::parse(&exported.text).unwrap();
    let Some(Json::Array(objects)) = root.member("storage_objects") else { panic!("{root}") };
    let of = |name: &str| {
        let found = objects.iter().find(|object| object.member("name").and_then(Json::text) == Some(name));
        found.unwrap_or_else(|| panic!("no {name} in {root}"))
    };
    // rtslib makes no object of a file whose size is not said.
    assert_eq!(of("file").member("size"), Some(&Json::Unsigned(7)));
    assert_eq!(of("gone").member("size"), None);
    let report = exported.report.to_string();
    assert!(report.contains("gone: targetcli wants the file's size"), "{report}");
    assert!(!report.contains("file: targetcli wants the file's size"), "{report}");
    let has = |name: &str, attribute: &str| {
        of(name).member("attributes").is_some_and(|attributes| attributes.member(attribute).is_some())
    };
    assert!(has("file", "emulate_tpu") && has("file", "emulate_write_cache") && has("device", "emulate_tpu"));
    assert!(!has("ram", "emulate_tpu") && !has("ram", "emulate_tpws"));
    assert!(!has("device", "emulate_write_cache"));
}

#[test]
fn no_two_disks_have_one_naa_identifier_at_lio() {
    let whole = "0a1b2c3d-0000-4000-8000-00000000000b";
    let text = r#"{"subsystems":[{"subsystem":"bdev","config":[
        {"method":"bdev_malloc_create","params":{"name":"a","num_blocks":2048,"block_size":512,"uuid":"aaaaaaaa-0000-4000-8000-000000000000"}},
        {"method":"bdev_malloc_create","params":{"name":"b","num_blocks":2048,"block_size":512,"uuid":"bbbbbbbb-0000-4000-8000-000000000000"}},
        {"method":"bdev_malloc_create","params":{"name":"c","num_blocks":2048,"block_size":512}},
        {"method":"lunette_bdev_set_identity","params":{"name":"a","serial":"beaf11","naa":"60000000000000000e00000000010001"}},
        {"method":"lunette_bdev_set_identity","params":{"name":"b","serial":"beaf110"}},
        {"method":"lunette_bdev_set_identity","params":{"name":"c","serial":"0a1b2c3d-0000-4000-8000-00000000000b"}}]}]}"#;
    let source = Source { name: "f".to_owned(), text: text.to_owned() };
    let exported = export(To::Lio, &source, &Folder::default()).unwrap();
    let root = Json::parse(&exported.text).unwrap();
    let Some(Json::Array(objects)) = root.member("storage_objects") else { panic!("{root}") };
    let serials: Vec<_> = objects.iter().map(|object| object.member("wwn").and_then(Json::text)).collect();
    let uuids = ["aaaaaaaa-0000-4000-8000-000000000000", "bbbbbbbb-0000-4000-8000-000000000000"];
    // A serial number with as many digits as LIO takes stays.
    assert_eq!(serials, [Some(uuids[0]), Some(uuids[1]), Some(whole)]);
    let report = exported.report.to_string();
    for name in ["a", "b"] {
        assert!(report.contains(&format!("{name}: its serial number is its UUID")), "{report}");
    }
    assert!(
        !report.contains("c: its serial number") && !report.contains("take them for one disk"),
        "{report}"
    );

    // LIO has no room for a whole UUID.
    let twins = text
        .replace(uuids[0], "00000000-0000-4000-8000-0000000000aa")
        .replace(uuids[1], "00000000-0000-4000-8000-0000000000bb");
    let exported =
        export(To::Lio, &Source { name: "f".to_owned(), text: twins }, &Folder::default()).unwrap();
    let report = exported.report.to_string();
    let said =
        "cannot: /backstores/ramdisk/b: LIO makes the NAA identifier of it that /backstores/ramdisk/a has";
    assert!(report.contains(said), "{report}");
}

#[test]
fn where_nobody_has_an_account_tgt_lets_nobody_in() {
    let text = r#"{"subsystems":[{"subsystem":"iscsi","config":[
        {"method":"iscsi_create_initiator_group","params":{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}},
        {"method":"iscsi_create_auth_group","params":{"tag":1,"secrets":[{"user":"a","lunette_secret_file":"/etc/a"}]}},
        {"method":"iscsi_create_target_node","params":{"name":"iqn.2026-11.io.example:t","alias_name":"","queue_depth":64,
         "pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"luns":[],"require_chap":true,"chap_group":1}}]}]}"#;
    let source = Source { name: "f".to_owned(), text: text.to_owned() };
    let exported = export(To::Tgt, &source, &Folder::default()).unwrap();
    assert!(exported.text.contains("initiator-address 255.255.255.255\n"), "{}", exported.text);
    assert!(!exported.text.contains("ALL") && !exported.text.contains("incominguser"), "{}", exported.text);
    assert!(exported.report.to_string().contains("user a: the secret is in a file"), "{}", exported.report);
}

#[test]
fn devices_that_are_passed_through_stay_so_at_tgt() {
    let text = r#"{"subsystems":[{"subsystem":"bdev","config":[
        {"method":"lunette_sg_create","params":{"name":"tape","filename":"/dev/sg3","readonly":false,"timeout_s":60}}]},
        {"subsystem":"iscsi","config":[
        {"method":"iscsi_create_target_node","params":{"name":"iqn.2026-11.io.example:t","alias_name":"","queue_depth":64,
         "pg_ig_maps":[],"luns":[{"bdev_name":"tape","lun_id":1}]}}]}]}"#;
    let of =
        |to| export(to, &Source { name: "f".to_owned(), text: text.to_owned() }, &Folder::default()).unwrap();
    let tgt = of(To::Tgt).text;
    let lun = "    <backing-store /dev/sg3>\n        lun 1\n        bs-type sg\n        device-type pt\n";
    assert!(tgt.contains(lun), "{tgt}");
    assert!(of(To::Lio).report.to_string().contains("make /dev/sg3 a pscsi object by hand"));
}

/// Who may come to the one target of a text from now on: SPDK's pairs, LIO's names and whether everybody, tgt's lines.
fn let_in(maps: &str, more: &str) -> [String; 3] {
    let text = format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[
            {{"method":"bdev_malloc_create","params":{{"name":"a","num_blocks":2048,"block_size":512}}}}]}},
            {{"subsystem":"iscsi","config":[
            {{"method":"iscsi_create_portal_group","params":{{"tag":1,"portals":[{{"host":"192.0.2.1","port":"3260"}}]}}}},
            {{"method":"iscsi_create_portal_group","params":{{"tag":2,"portals":[{{"host":"192.0.2.2","port":"3260"}}]}}}},
            {{"method":"iscsi_create_initiator_group","params":{{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}}}},
            {{"method":"iscsi_create_initiator_group","params":{{"tag":2,"initiators":["iqn.a:x"],"netmasks":["ANY"]}}}},
            {{"method":"iscsi_create_initiator_group","params":{{"tag":3,"initiators":["iqn.a:y"],"netmasks":["ANY"]}}}},
            {{"method":"iscsi_create_initiator_group","params":{{"tag":4,"initiators":["!iqn.a:x"],"netmasks":["ANY"]}}}},
            {{"method":"iscsi_create_target_node","params":{{"name":"iqn.a:t","alias_name":"","queue_depth":64,
              "pg_ig_maps":[{maps}],"luns":[{{"bdev_name":"a","lun_id":0}}]}}}}{more}]}}]}}"#
    );
    let of = |to| {
        let source = Source { name: "f".to_owned(), text: text.clone() };
        export(to, &source, &Folder::default()).unwrap().text
    };
    let spdk = Json::parse(&of(To::Spdk)).unwrap();
    let made = params(&spdk, "iscsi_create_target_node");
    let pairs =
        made.first().map(|params| params.member("pg_ig_maps").unwrap().to_string()).unwrap_or_default();
    let lio = of(To::Lio);
    let mut named: Vec<&str> = ["iqn.a:x", "iqn.a:y"].into_iter().filter(|name| lio.contains(name)).collect();
    named.extend(lio.contains(r#""generate_node_acls": 1"#).then_some("ANY"));
    let tgt = of(To::Tgt);
    let lines = tgt.lines().filter_map(|line| line.trim().strip_prefix("initiator-"));
    [pairs.replace('"', ""), named.join(" "), lines.collect::<Vec<_>>().join(", ")]
}

const NOBODY: &str = "address 255.255.255.255";

#[test]
fn who_comes_by_some_portals_only_comes_by_no_others() {
    let pair = |portals: u16, initiators: u16| format!(r#"{{"pg_tag":{portals},"ig_tag":{initiators}}}"#);
    let maps = |pairs: &[(u16, u16)]| pairs.iter().map(|&(p, i)| pair(p, i)).collect::<Vec<_>>().join(",");
    let kept = |pairs: &[(u16, u16)]| format!("[{}]", maps(pairs).replace('"', ""));
    for (pairs, lio, tgt) in [
        (&[(1, 1), (2, 1)][..], "ANY", "address ALL"),
        // Everybody, but not by both.
        (&[(1, 1), (2, 2)], "", NOBODY),
        (&[(1, 2), (1, 1), (2, 2)], "iqn.a:x", &format!("name iqn.a:x, {NOBODY}")),
        // In which order counts.
        (
            &[(1, 2), (1, 3), (2, 2), (2, 3)],
            "iqn.a:x iqn.a:y",
            &format!("name iqn.a:x, name iqn.a:y, {NOBODY}"),
        ),
        (&[(1, 2), (1, 1), (2, 1), (2, 2)], "", NOBODY),
        // Who is kept out is so whatever stands behind.
        (&[(1, 3), (1, 4), (1, 1)], "iqn.a:y", &format!("name iqn.a:y, {NOBODY}")),
    ] {
        assert_eq!(let_in(&maps(pairs), ""), [kept(pairs), lio.to_owned(), (*tgt).to_owned()], "{pairs:?}");
    }
}

#[test]
fn luns_of_their_own_are_not_everybodys_elsewhere() {
    let maps =
        r#"{"pg_tag":1,"ig_tag":3},{"pg_tag":1,"ig_tag":2},{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":3}"#;
    let own = r#",{"method":"lunette_target_node_set_lun_map","params":{"name":"iqn.a:t","ig_tag":2,
        "luns":[{"bdev_name":"a","lun_id":0,"read_only":true}]}}"#;
    let [spdk, ..] = let_in(maps, own);
    assert_eq!(spdk, "[{pg_tag:1,ig_tag:3},{pg_tag:2,ig_tag:3}]");
    // LIO can say it, tgt cannot: iqn.a:x would write.
    let maps = r#"{"pg_tag":1,"ig_tag":2},{"pg_tag":1,"ig_tag":1}"#;
    assert_eq!(let_in(maps, own), ["", "iqn.a:x ANY", NOBODY]);
    assert_eq!(
        let_in(maps, ""),
        ["[{pg_tag:1,ig_tag:2},{pg_tag:1,ig_tag:1}]", "iqn.a:x ANY", "name iqn.a:x, address ALL"]
    );
}

#[test]
fn where_a_portal_asks_for_more_nobody_comes_without() {
    let maps = r#"{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":1}"#;
    let asked = |switch: &str| {
        format!(
            r#",{{"method":"lunette_target_node_set_portal_group_auth","params":{{"name":"iqn.a:t","pg_tag":2,"{switch}":true}}}}"#
        )
    };
    assert_eq!(let_in(maps, &asked("require_chap")), ["[{pg_tag:1,ig_tag:1}]", "", NOBODY]);
    let all = ["[{pg_tag:1,ig_tag:1},{pg_tag:2,ig_tag:1}]", "ANY", "address ALL"];
    assert_eq!(let_in(maps, &asked("disable_chap")), all);
}

#[test]
fn spdk_is_told_nothing_of_a_target_or_a_way_that_it_does_not_have() {
    let of = |pairs: &str| {
        let text = format!(
            r#"{{"subsystems":[{{"subsystem":"iscsi","config":[
            {{"method":"iscsi_create_target_node","params":{{"name":"iqn.a:t","pg_ig_maps":[{pairs}]}}}},
            {{"method":"iscsi_target_node_set_redirect","params":{{"name":"iqn.a:t","pg_tag":1,"redirect_host":"192.0.2.9"}}}},
            {{"method":"iscsi_target_node_set_redirect","params":{{"name":"iqn.a:t","pg_tag":2,"redirect_host":"192.0.2.9"}}}},
            {{"method":"iscsi_enable_histogram","params":{{"name":"iqn.a:t","enable":true}}}},
            {{"method":"iscsi_create_target_node","params":{{"name":"iqn.a:other","pg_ig_maps":[{{"pg_tag":1,"ig_tag":1}}]}}}},
            {{"method":"iscsi_enable_histogram","params":{{"name":"iqn.a:other","enable":true}}}},
            {{"method":"lunette_target_node_set_lun_map","params":{{"name":"iqn.a:t","ig_tag":2,"luns":[]}}}}]}}]}}"#
        );
        let exported = export(To::Spdk, &Source { name: "f".to_owned(), text }, &Folder::default()).unwrap();
        let config = Json::parse(&exported.text).unwrap();
        let named = |method: &str, member: &str| {
            let found = params(&config, method);
            found
                .iter()
                .map(|params| params.member(member).unwrap().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let told = [
            named("iscsi_create_target_node", "name"),
            named("iscsi_target_node_set_redirect", "pg_tag"),
            named("iscsi_enable_histogram", "name"),
        ];
        (told.map(|told| told.replace('"', "")), exported.report.to_string())
    };
    // Whoever stands behind the group with LUNs of its own is out: nobody comes by portal group 2.
    let (told, report) = of(r#"{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":2},{"pg_tag":2,"ig_tag":1}"#);
    assert_eq!(told, ["iqn.a:t iqn.a:other", "1", "iqn.a:t iqn.a:other"]);
    assert!(
        report.contains("iscsi_target_node_set_redirect: nobody comes to target iqn.a:t by portal group 2"),
        "{report}"
    );
    let (told, report) = of(r#"{"pg_tag":1,"ig_tag":2},{"pg_tag":1,"ig_tag":1}"#);
    assert_eq!(told, ["iqn.a:other", "", "iqn.a:other"]);
    assert!(report.contains("iscsi_create_target_node: nobody comes to target iqn.a:t"), "{report}");
}

#[test]
fn a_targets_name_is_the_same_however_it_is_written() {
    let pair = |portals: u16| format!(r#"{{"pg_tag":{portals},"ig_tag":1}}"#);
    let text = |made: &str, maps: &str, said: &str| {
        format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[
            {{"method":"bdev_malloc_create","params":{{"name":"a","num_blocks":2048,"block_size":512}}}}]}},
            {{"subsystem":"iscsi","config":[[
            {{"method":"iscsi_set_options","params":{{"node_base":"iqn.a"}}}},
            {{"method":"iscsi_create_portal_group","params":{{"tag":1,"portals":[{{"host":"192.0.2.1","port":"3260"}}]}}}},
            {{"method":"iscsi_create_portal_group","params":{{"tag":2,"portals":[{{"host":"192.0.2.2","port":"3260"}}]}}}},
            {{"method":"iscsi_create_initiator_group","params":{{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}}}},
            {{"method":"iscsi_create_target_node","params":{{"name":"{made}","alias_name":"","queue_depth":64,
              "pg_ig_maps":[{maps}],"luns":[{{"bdev_name":"a","lun_id":0}}]}}}}]]}},
            {{"subsystem":"more","config":[{said}]}}]}}"#
        )
    };
    let names = ["t", "T", "iqn.a:t", "IQN.A:T"];
    for (made, called) in names.iter().flat_map(|made| names.map(|called| (*made, called))) {
        let of = |to, maps: &str, said: &str| {
            let source = Source { name: "f".to_owned(), text: text(made, maps, said) };
            export(to, &source, &Folder::default()).unwrap().text
        };
        let spdk = |maps: &str, said: &str| {
            let config = Json::parse(&of(To::Spdk, maps, said)).unwrap();
            let made = params(&config, "iscsi_create_target_node");
            made.iter()
                .map(|params| params.member("pg_ig_maps").unwrap().to_string().replace('"', ""))
                .collect::<String>()
        };
        let own = format!(
            r#"{{"method":"lunette_target_node_set_lun_map","params":{{"name":"{called}","ig_tag":1,
            "luns":[{{"bdev_name":"a","lun_id":3}}]}}}}"#
        );
        assert_eq!(spdk(&pair(1), &own), "", "{made} {called}");
        let tgt = of(To::Tgt, &pair(1), &own);
        assert!(
            tgt.contains("<target iqn.a:t>") && tgt.contains(NOBODY) && !tgt.contains("ALL"),
            "{made} {called}: {tgt}"
        );
        let asked = format!(
            r#"{{"method":"lunette_target_node_set_portal_group_auth","params":{{"name":"{called}","pg_tag":2,"require_chap":true}}}}"#
        );
        let both = format!("{},{}", pair(1), pair(2));
        assert_eq!(spdk(&both, &asked), "[{pg_tag:1,ig_tag:1}]", "{made} {called}");
        let tgt = of(To::Tgt, &both, &asked);
        assert!(tgt.contains(NOBODY) && !tgt.contains("ALL"), "{made} {called}: {tgt}");
    }
}

#[test]
fn what_is_no_file_of_calls_is_refused() {
    for text in ["", "[]", "{}", "{\"subsystems\":7}"] {
        let source = Source { name: "f".to_owned(), text: text.to_owned() };
        assert!(export(To::Spdk, &source, &Folder::default()).is_err(), "{text}");
    }
    for text in ["{\"subsystems\":[7,{},{\"config\":[[[[[[7]]]]],{\"method\":7}]}]}"] {
        for to in [To::Spdk, To::Tgt, To::Lio] {
            let source = Source { name: "f".to_owned(), text: text.to_owned() };
            export(to, &source, &Folder::default()).unwrap();
        }
    }
}
