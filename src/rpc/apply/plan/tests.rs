//! Two files in, the calls between them out.

use super::*;
use crate::rpc::difference;

const BDEV: &str = r#"{"method":"bdev_null_create","params":{"name":"N0","num_blocks":8,"block_size":512,"uuid":"f81d4fae-7dec-41d0-a765-00a0c91e6bf6"}}"#;
const PORTAL: &str = r#"{"method":"iscsi_create_portal_group","params":{"tag":1,"portals":[{"host":"127.0.0.1","port":"3260"}],"private":false}}"#;
const TARGET: &str = r#"{"method":"iscsi_create_target_node","params":{"name":"iqn.2016-06.io.spdk:t","alias_name":"",
    "pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"luns":[{"bdev_name":"N0","lun_id":0}],"queue_depth":64,"disable_chap":false,
    "require_chap":false,"mutual_chap":false,"chap_group":0,"header_digest":false,"data_digest":false,
    "lunette_ports":[{"pg_tag":1,"relative_port":1}]}}"#;
const OPTIONS: &str =
    r#"{"method":"iscsi_set_options","params":{"node_base":"iqn.2016-06.io.spdk","max_sessions":128}}"#;

fn group(initiators: &str) -> String {
    format!(
        r#"{{"method":"iscsi_create_initiator_group","params":{{"tag":1,"initiators":{initiators},"netmasks":["ANY"]}}}}"#
    )
}

fn file(calls: &[&str]) -> Plan {
    Plan::parse(&format!(r#"{{"subsystems":[{{"subsystem":"iscsi","config":[{}]}}]}}"#, calls.join(",")))
        .unwrap()
}

/// The calls, and what takes back the last that something does.
fn seen(current: &[&str], wanted: &[&str]) -> Vec<String> {
    let steps = plan(&file(current), &file(wanted), &[]).unwrap();
    let line = |(method, params): &Call| difference::line((method, params));
    steps
        .iter()
        .map(|step| match &step.back {
            Some(back) => {
                format!("{} / {}", line(&step.call), back.iter().map(line).collect::<Vec<_>>().join(", "))
            }
            None => line(&step.call),
        })
        .collect()
}

fn refused(current: &[&str], wanted: &[&str]) -> Vec<String> {
    plan(&file(current), &file(wanted), &[]).unwrap_err()
}

#[test]
fn what_is_alike_is_left_alone_however_it_is_written() {
    let any = group(r#"["ANY"]"#);
    let there = [OPTIONS, BDEV, PORTAL, &any, TARGET];
    assert_eq!(seen(&there, &there), [""; 0]);
    let by_hand = [
        r#"{"method":"bdev_null_create","params":{"name":"N0","num_blocks":8,"block_size":512}}"#,
        r#"{"method":"bdev_wait_for_examine"}"#,
        r#"{"method":"bdev_raid_set_options","params":{"process_window_size_kb":1024}}"#,
        r#"{"method":"iscsi_create_portal_group","params":{"tag":1,"portals":[{"host":"127.0.0.1","port":3260}]}}"#,
        &any,
        r#"{"method":"iscsi_create_target_node","params":{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],
            "luns":[{"bdev_name":"N0"}],"queue_depth":64}}"#,
    ];
    assert_eq!(seen(&there, &by_hand), [""; 0]);
}

/// What a call replaces as a whole is what the file says of it, and nothing of what was there besides.
#[test]
fn what_a_file_leaves_out_of_a_whole_is_taken_away() {
    let call = |method: &str, params: &str| format!(r#"{{"method":"{method}","params":{params}}}"#);
    let entity = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let server = format!(r#"{{"host":"192.0.2.1","port":"3205","entity":"{entity}"}}"#);
    let limits = |of: &str, more: &str| {
        format!(
            r#"{{"initiator":"{of}","rw_ios_per_sec":0,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":{more}}}"#
        )
    };
    let folder = r#"{"directory":"/var/lib/x","files_max":16}"#;
    for (method, there, alike, other) in [
        (
            "lunette_initiator_set_qos_limit",
            &*limits("a", r#"7,"guaranteed_ios_per_sec":5"#),
            r#"{"initiator":"a","w_mbytes_per_sec":7,"guaranteed_ios_per_sec":5}"#,
            r#"{"initiator":"a","w_mbytes_per_sec":7}"#,
        ),
        (
            "lunette_initiator_set_qos_limit",
            &*limits("a", "7"),
            r#"{"initiator":"a","w_mbytes_per_sec":7,"r_mbytes_per_sec":0}"#,
            r#"{"initiator":"a"}"#,
        ),
        ("lunette_isns_set_server", &*server, r#"{"host":"192.0.2.1"}"#, "{}"),
        (
            "lunette_isns_set_server",
            &*server.replace("3205", "3206"),
            r#"{"host":"192.0.2.1","port":3206}"#,
            r#"{"host":"192.0.2.1"}"#,
        ),
        ("lunette_recorder_set_options", folder, r#"{"directory":"/var/lib/x"}"#, "{}"),
        (
            "lunette_recorder_set_options",
            &*folder.replace("16", "4"),
            r#"{"directory":"/var/lib/x","files_max":4}"#,
            r#"{"directory":"/var/lib/x"}"#,
        ),
    ] {
        let there = call(method, there);
        assert_eq!(seen(&[&there], &[&call(method, alike)]), [""; 0], "{there}");
        let lines = seen(&[&there], &[&call(method, other)]);
        let [line] = &*lines else { panic!("{there}: {lines:?}") };
        let (made, back) = line.split_once(" / ").unwrap();
        assert_eq!(made, format!("{method} {other}"));
        assert!(there.contains(back.split_once(' ').unwrap().1), "{back}");
    }
}

/// Also what counts only where there is nothing yet, and addresses as people write them.
#[test]
fn the_file_that_made_it_is_alike() {
    let disk = |more: &str| {
        format!(
            r#"{{"method":"bdev_aio_create","params":{{"name":"d","filename":"/srv/d","block_size":512,"readonly":false{more}}}}}"#
        )
    };
    let by_hand = disk(r#","lunette_create_size":1073741824,"fallocate":true,"nowait":true"#);
    assert_eq!(seen(&[&disk("")], &[&by_hand]), [""; 0]);
    let mirror = |more: &str| {
        format!(
            r#"{{"method":"bdev_raid_create","params":{{"name":"m","raid_level":"raid1","base_bdevs":["a","b"]{more}}}}}"#
        )
    };
    assert_eq!(seen(&[&mirror("")], &[&mirror(r#","lunette_assume_clean":true"#)]), [""; 0]);
    let portal = |portal: &str| {
        format!(r#"{{"method":"iscsi_create_portal_group","params":{{"tag":1,"portals":[{portal}]}}}}"#)
    };
    for (there, alike) in [
        (r#"{"host":"0.0.0.0","port":"3260"}"#, r#"{"host":"*"}"#),
        (r#"{"host":"[::]","port":"3260"}"#, r#"{"host":"[*]","port":3260}"#),
        (r#"{"host":"[2001:db8::1]","port":"3260"}"#, r#"{"host":"[2001:DB8:0::1]","port":"3260"}"#),
        (
            r#"{"host":"0.0.0.0","port":"3260","lunette_advertise":"192.0.2.1:3260"}"#,
            r#"{"host":"*","lunette_advertise":"192.0.2.1"}"#,
        ),
    ] {
        assert_eq!(seen(&[&portal(there)], &[&portal(alike)]), [""; 0], "{alike}");
    }
    for (there, other) in [
        (r#"{"host":"0.0.0.0","port":"3260"}"#, r#"{"host":"[*]"}"#),
        (r#"{"host":"0.0.0.0","port":"3260"}"#, r#"{"host":"*","port":"3261"}"#),
        (r#"{"host":"127.0.0.1","port":"40123"}"#, r#"{"host":"127.0.0.1","port":"0"}"#),
    ] {
        assert_eq!(refused(&[&portal(there)], &[&portal(other)]).len(), 1, "{other}");
    }
}

#[test]
fn things_are_made_first_and_deleted_last_disks_last_of_all() {
    let any = group(r#"["ANY"]"#);
    let redirect = r#"{"method":"iscsi_target_node_set_redirect","params":{"name":"iqn.2016-06.io.spdk:t","pg_tag":1,
        "redirect_host":"192.0.2.1","redirect_port":"3260"}}"#;
    let other = r#"{"method":"bdev_null_create","params":{"name":"N1","num_blocks":8,"block_size":512}}"#;
    let lines = seen(&[BDEV, PORTAL, &any, TARGET, redirect], &[other, PORTAL]);
    let methods: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        methods,
        ["bdev_null_create", "iscsi_delete_target_node", "iscsi_delete_initiator_group", "bdev_null_delete"]
    );
    assert!(lines[0].ends_with(r#" / bdev_null_delete {"name":"N1"}"#));
    // A target comes back with what was set of it; a disk does not.
    assert!(
        lines[1].contains(" / iscsi_create_target_node {")
            && lines[1].contains(", iscsi_target_node_set_redirect {")
    );
    assert_eq!(lines[3], r#"bdev_null_delete {"name":"N0"}"#);
}

#[test]
fn a_target_is_changed_in_place() {
    let wanted = r#"{"method":"iscsi_create_target_node","params":{"name":"t","alias_name":"",
        "pg_ig_maps":[{"pg_tag":1,"ig_tag":2}],"luns":[{"bdev_name":"N1"},{"bdev_name":"N0"}],"queue_depth":64,
        "require_chap":true,"chap_group":3}}"#;
    let name = r#""name":"iqn.2016-06.io.spdk:t""#;
    assert_eq!(
        seen(&[OPTIONS, TARGET], &[wanted]),
        [
            format!(
                r#"lunette_target_node_remove_lun {{{name},"lun_id":0}} / iscsi_target_node_add_lun {{{name},"bdev_name":"N0","lun_id":0}}"#
            ),
            format!(
                r#"iscsi_target_node_set_auth {{{name},"disable_chap":false,"require_chap":true,"mutual_chap":false,"chap_group":3}} / iscsi_target_node_set_auth {{{name},"disable_chap":false,"require_chap":false,"mutual_chap":false,"chap_group":0}}"#
            ),
            format!(
                r#"iscsi_target_node_add_pg_ig_maps {{{name},"pg_ig_maps":[{{"pg_tag":1,"ig_tag":2}}]}} / iscsi_target_node_remove_pg_ig_maps {{{name},"pg_ig_maps":[{{"pg_tag":1,"ig_tag":2}}]}}"#
            ),
            format!(
                r#"iscsi_target_node_remove_pg_ig_maps {{{name},"pg_ig_maps":[{{"pg_tag":1,"ig_tag":1}}]}} / iscsi_target_node_add_pg_ig_maps {{{name},"pg_ig_maps":[{{"pg_tag":1,"ig_tag":1}}]}}"#
            ),
            format!(
                r#"iscsi_target_node_add_lun {{{name},"bdev_name":"N1","lun_id":0}} / lunette_target_node_remove_lun {{{name},"lun_id":0}}"#
            ),
            format!(
                r#"iscsi_target_node_add_lun {{{name},"bdev_name":"N0","lun_id":1}} / lunette_target_node_remove_lun {{{name},"lun_id":1}}"#
            ),
        ]
    );
}

#[test]
fn nobody_gets_in_before_all_is_set_that_keeps_him_out() {
    let (lun_map, auth) = (
        r#"{"method":"lunette_target_node_set_lun_map","params":{"name":"t","ig_tag":1,"luns":[{"bdev_name":"N0","lun_id":0,"read_only":true}]}}"#,
        r#"{"method":"lunette_target_node_set_portal_group_auth","params":{"name":"iqn.2016-06.io.spdk:t","pg_tag":1,"require_chap":true,"chap_group":3}}"#,
    );
    let target = TARGET.replace("\"chap_group\":0", "\"chap_group\":5");
    let lines = seen(&[OPTIONS, BDEV], &[OPTIONS, BDEV, &target, auth, lun_map]);
    let calls: Vec<_> = lines.iter().map(|line| line.split(" / ").next().unwrap()).collect();
    let name = r#""name":"iqn.2016-06.io.spdk:t""#;
    assert_eq!(
        calls,
        [
            format!(
                r#"iscsi_create_target_node {{{name},"alias_name":"","pg_ig_maps":[{{"pg_tag":1,"ig_tag":1}}],"luns":[{{"bdev_name":"N0","lun_id":0}}],"queue_depth":64,"header_digest":false,"data_digest":false,"lunette_ports":[{{"pg_tag":1,"relative_port":1}}],"require_chap":true}}"#
            ),
            r#"lunette_target_node_set_lun_map {"name":"t","ig_tag":1,"luns":[{"bdev_name":"N0","lun_id":0,"read_only":true}]}"#
                .to_owned(),
            format!(
                r#"lunette_target_node_set_portal_group_auth {{{name},"pg_tag":1,"require_chap":true,"chap_group":3}}"#
            ),
            format!(
                r#"iscsi_target_node_set_auth {{{name},"disable_chap":false,"require_chap":false,"mutual_chap":false,"chap_group":5}}"#
            ),
        ]
    );
    assert!(
        lines[3].ends_with(&format!(r#" / iscsi_target_node_set_auth {{{name},"require_chap":true}}"#)),
        "{}",
        lines[3]
    );
}

/// The methods alone.
fn order(current: &[&str], wanted: &[&str]) -> Vec<String> {
    seen(current, wanted).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn what_asks_for_less_comes_when_those_who_are_to_go_are_gone() {
    let closed = TARGET.replace(r#""require_chap":false"#, r#""require_chap":true"#);
    let auth = |users: &str| {
        format!(r#"{{"method":"iscsi_create_auth_group","params":{{"tag":3,"secrets":[{users}]}}}}"#)
    };
    let (one, two) = (
        auth(r#"{"user":"u","secret":"s"}"#),
        auth(r#"{"user":"u","secret":"s"},{"user":"v","secret":"t"}"#),
    );
    let strict = closed.replace(r#""chap_group":0"#, r#""chap_group":3"#);
    let lun_map = r#"{"method":"lunette_target_node_set_lun_map","params":{"name":"t","ig_tag":1,"luns":[{"bdev_name":"N0","lun_id":0,"read_only":true}]}}"#;
    let loose = TARGET.replace(r#""ig_tag":1"#, r#""ig_tag":2"#);
    assert_eq!(
        order(&[OPTIONS, &one, &strict], &[OPTIONS, &two, &loose, lun_map]),
        [
            "lunette_target_node_set_lun_map",
            "iscsi_target_node_add_pg_ig_maps",
            "iscsi_target_node_remove_pg_ig_maps",
            "iscsi_auth_group_add_secret",
            "iscsi_target_node_set_auth",
        ]
    );
    // Others: nobody meanwhile.
    let other = loose
        .replace(r#""require_chap":false"#, r#""require_chap":true"#)
        .replace(r#""chap_group":0"#, r#""chap_group":4"#);
    let lines = seen(&[OPTIONS, &strict], &[OPTIONS, &other]);
    let name = r#""name":"iqn.2016-06.io.spdk:t""#;
    assert!(
        lines[0].starts_with(&format!(r#"iscsi_target_node_set_auth {{{name},"require_chap":true}} / "#)),
        "{lines:?}"
    );
    assert!(
        lines[0].ends_with(r#""chap_group":3}"#)
            && lines[2].starts_with("iscsi_target_node_remove_pg_ig_maps"),
        "{lines:?}"
    );
    assert!(
        lines[3].ends_with(&format!(
            r#""chap_group":4}} / iscsi_target_node_set_auth {{{name},"require_chap":true}}"#
        )),
        "{lines:?}"
    );
    // At a portal group as at all; it has to be proved there before the target opens.
    let port = r#"{"method":"lunette_target_node_set_portal_group_auth","params":{"name":"iqn.2016-06.io.spdk:t","pg_tag":1,"require_chap":true,"chap_group":3}}"#;
    let (set, maps, remove) = (
        "lunette_target_node_set_portal_group_auth",
        "iscsi_target_node_add_pg_ig_maps",
        "iscsi_target_node_remove_pg_ig_maps",
    );
    assert_eq!(order(&[TARGET, port], &[&loose]), [maps, remove, set]);
    assert_eq!(order(&[TARGET], &[&loose, port]), [set, maps, remove]);
    assert_eq!(order(&[&strict], &[TARGET, port]), [set, "iscsi_target_node_set_auth"]);
}

#[test]
fn a_new_target_opens_when_those_who_are_to_go_are_gone() {
    let account = |user: &str| format!(r#"{{"user":"{user}","secret":"s"}}"#);
    let auth = |users: &[String]| {
        format!(
            r#"{{"method":"iscsi_create_auth_group","params":{{"tag":3,"secrets":[{}]}}}}"#,
            users.join(",")
        )
    };
    let (both, one) = (auth(&[account("u"), account("v")]), auth(&[account("u")]));
    let strict = TARGET
        .replace(r#""require_chap":false"#, r#""require_chap":true"#)
        .replace(r#""chap_group":0"#, r#""chap_group":3"#);
    let (create, set) = ("iscsi_create_target_node", "iscsi_target_node_set_auth");
    let lines = seen(&[OPTIONS, &both], &[OPTIONS, &one, &strict]);
    assert!(lines[0].starts_with(create) && !lines[0].contains("chap_group"), "{lines:?}");
    assert!(lines[1].starts_with("iscsi_auth_group_remove_secret"), "{lines:?}");
    assert!(lines[2].starts_with(set) && lines[2].contains(r#""chap_group":3"#), "{lines:?}");
    assert_eq!(lines.len(), 3);
    // As with initiators; who is added comes before it opens too.
    let (few, more) = (group(r#"["a","b"]"#), group(r#"["b","c"]"#));
    let (remove, add) = ("iscsi_initiator_group_remove_initiators", "iscsi_initiator_group_add_initiators");
    assert_eq!(order(&[&few], &[&more, TARGET]), [create, remove, add, set]);
}

#[test]
fn the_order_of_ways_is_that_of_the_file() {
    let target = |groups: &[u8]| {
        let maps: Vec<_> = groups.iter().map(|tag| format!(r#"{{"pg_tag":1,"ig_tag":{tag}}}"#)).collect();
        TARGET.replace(r#"{"pg_tag":1,"ig_tag":1}"#, &maps.join(","))
    };
    let moves = |is: &[u8], is_to_be: &[u8]| {
        let lines = seen(&[&target(is)], &[&target(is_to_be)]);
        let short = |line: &String| {
            line.replace("iscsi_target_node_", "")
                .replace("_pg_ig_maps", "")
                .replace(r#"{"name":"iqn.2016-06.io.spdk:t","pg_ig_maps":"#, "")
                .replace(r#"{"pg_tag":1,"ig_tag":"#, "")
                .replace('}', "")
        };
        lines.iter().map(short).collect::<Vec<_>>()
    };
    // 1 denies some and 2 lets in all others.
    assert_eq!(
        moves(&[2], &[1, 2]),
        ["add [1] / remove [1]", "remove [2] / add [2]", "add [2] / remove [2]"]
    );
    assert_eq!(
        moves(&[2, 1], &[1, 2]),
        ["remove [2] / add [2], remove [1], add [1]", "add [2] / remove [2]"]
    );
    // Taken back, those that it denies stay out.
    assert_eq!(moves(&[1, 2], &[2]), ["remove [1] / add [1], remove [2], add [2]"]);
    assert_eq!(moves(&[1, 2], &[1, 2]), [""; 0]);
    // Where the order is as it was: at once.
    assert_eq!(moves(&[1, 2], &[1, 3]), ["add [3] / remove [3]", "remove [2] / add [2]"]);
}

#[test]
fn a_lun_map_goes_when_nobody_comes_by_it() {
    let (any, other) = (group(r#"["ANY"]"#), group(r#"["b"]"#).replace(r#""tag":1"#, r#""tag":2"#));
    let lun_map = r#"{"method":"lunette_target_node_set_lun_map","params":{"name":"iqn.2016-06.io.spdk:t","ig_tag":1,"luns":[{"bdev_name":"N0","lun_id":0,"read_only":true}]}}"#;
    let moved = TARGET.replace(r#""ig_tag":1"#, r#""ig_tag":2"#);
    let (add, remove) = ("iscsi_target_node_add_pg_ig_maps", "iscsi_target_node_remove_pg_ig_maps");
    let there = [&*any, &other, TARGET, lun_map];
    assert_eq!(order(&there, &[&any, &other, &moved]), [add, remove, "lunette_target_node_set_lun_map"]);
    // With its group, and back with it.
    let lines = seen(&there, &[&other, &moved]);
    let methods: Vec<_> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(methods, [add, remove, "iscsi_delete_initiator_group"]);
    assert!(lines[2].contains(", lunette_target_node_set_lun_map {"), "{lines:?}");
    // Where the target goes too, it is the target that brings it back.
    let lines = seen(&there, &[&other]);
    assert!(lines[0].contains(", lunette_target_node_set_lun_map {"), "{lines:?}");
    assert!(
        lines[1].starts_with("iscsi_delete_initiator_group") && !lines[1].contains("lun_map"),
        "{lines:?}"
    );
}

#[test]
fn who_stays_in_a_group_is_not_touched() {
    assert_eq!(
        seen(&[&group(r#"["a","b","c"]"#)], &[&group(r#"["a","c"]"#)]),
        [
            // Taken back such that the order is what it was.
            r#"iscsi_initiator_group_remove_initiators {"tag":1,"initiators":["b"]} / iscsi_initiator_group_remove_initiators {"tag":1,"initiators":["c"]}, iscsi_initiator_group_add_initiators {"tag":1,"initiators":["b","c"]}"#,
        ]
    );
    let change = |is: &str, is_to_be: &str| {
        let lines = seen(&[&group(is)], &[&group(is_to_be)]);
        let call = |line: &String| {
            let call = line.split(" / ").next().unwrap();
            call.replace("iscsi_initiator_group_", "").replace(r#"{"tag":1,"initiators":"#, "")
        };
        lines.iter().map(call).collect::<Vec<_>>().join(" ")
    };
    // Without a denial others may come: it goes with what opens.
    assert_eq!(
        change(r#"["!a","b"]"#, r#"["c"]"#),
        r#"remove_initiators ["b"]} remove_initiators ["!a"]} add_initiators ["c"]}"#
    );
    assert_eq!(
        change(r#"["a","ANY"]"#, r#"["a","!b","ANY"]"#),
        r#"remove_initiators ["ANY"]} add_initiators ["!b","ANY"]}"#
    );
    let masks = |netmasks: &str| group(r#"["ANY"]"#).replace(r#""netmasks":["ANY"]"#, netmasks);
    assert_eq!(
        seen(
            &[&masks(r#""netmasks":["10.0.0.0/8","::1"]"#)],
            &[&masks(r#""netmasks":["::1","10.0.0.0/8"]"#)]
        ),
        [""; 0]
    );
    let auth = |secret: &str| {
        format!(
            r#"{{"method":"iscsi_create_auth_group","params":{{"tag":3,"secrets":[{{"user":"u","secret":"{secret}"}},{{"user":"v","secret":"s"}}]}}}}"#
        )
    };
    assert_eq!(
        seen(&[&auth("one")], &[&auth("two")]),
        [
            r#"iscsi_auth_group_remove_secret {"tag":3,"user":"u"} / iscsi_auth_group_add_secret {"tag":3,"user":"u","secret":"***"}"#,
            r#"iscsi_auth_group_add_secret {"tag":3,"user":"u","secret":"***"} / iscsi_auth_group_remove_secret {"tag":3,"user":"u"}"#,
        ]
    );
}

#[test]
fn what_closes_comes_first_and_what_opens_last() {
    let map = |luns: &str| {
        format!(
            r#"{{"method":"lunette_target_node_set_lun_map","params":{{"name":"iqn.2016-06.io.spdk:t","ig_tag":1,"luns":[{luns}]}}}}"#
        )
    };
    let lun = |bdev: &str, number: u8, read_only: bool| {
        format!(r#"{{"bdev_name":"{bdev}","lun_id":{number},"read_only":{read_only}}}"#)
    };
    let call = |luns: &str| {
        format!(
            r#"lunette_target_node_set_lun_map {{"name":"iqn.2016-06.io.spdk:t","ig_tag":1,"luns":[{luns}]}}"#
        )
    };
    let none = r#"lunette_target_node_set_lun_map {"name":"iqn.2016-06.io.spdk:t","ig_tag":1}"#.to_owned();
    let (few, more) = (group(r#"["a"]"#), group(r#"["a","b"]"#));
    let add = "iscsi_initiator_group_add_initiators";
    let calls = |current: &[&str], wanted: &[&str]| -> Vec<String> {
        seen(current, wanted).iter().map(|line| line.split(" / ").next().unwrap().to_owned()).collect()
    };
    // Who is added finds nothing that it finds neither before nor after: N1 goes first, N0 comes last.
    let (n0, n1) = (lun("N0", 0, false), lun("N1", 1, false));
    let lines = calls(&[&few, TARGET, &map(&n1)], &[&more, TARGET]);
    assert_eq!((&lines[0], &lines[2]), (&call(""), &none), "{lines:?}");
    assert!(lines[1].starts_with(add) && lines.len() == 3, "{lines:?}");
    // A map that shows less is set at once, and one that shows more when others have gone and come.
    let both = format!("{n0},{n1}");
    let lines = calls(&[&few, TARGET, &map(&both)], &[&more, TARGET, &map(&n1)]);
    assert_eq!(lines[0], call(&n1), "{lines:?}");
    let lines = calls(&[&few, TARGET], &[&more, TARGET, &map(&both)]);
    assert!(lines[0].starts_with(add) && lines[1] == call(&both), "{lines:?}");
    let writable = calls(&[&few, TARGET, &map(&lun("N1", 1, true))], &[&more, TARGET, &map(&n1)]);
    assert!(writable[0].starts_with(add), "{writable:?}");
    // Some of it stays: that is what is found meanwhile.
    let (n0_read, n2) = (lun("N0", 0, true), lun("N2", 2, false));
    let lines = calls(&[&few, TARGET, &map(&both)], &[&few, TARGET, &map(&format!("{n0_read},{n2}"))]);
    assert_eq!(lines, [call(&n0_read), call(&format!("{n0_read},{n2}"))]);
    let back = seen(&[&few, TARGET, &map(&both)], &[&few, TARGET, &map(&format!("{n0_read},{n2}"))]);
    assert!(back[0].ends_with(&call(&both)) && back[1].ends_with(&format!(" / {}", call(&n0_read))));
    // A group that has no way yet finds what it is to before it has one.
    let unled = TARGET.replace(r#""ig_tag":1"#, r#""ig_tag":2"#);
    let lines = order(&[&few, &unled], &[&few, TARGET, &map(&n1)]);
    assert_eq!(
        lines,
        [
            "lunette_target_node_set_lun_map",
            "iscsi_target_node_add_pg_ig_maps",
            "iscsi_target_node_remove_pg_ig_maps"
        ]
    );
    // Who is let in to a group does not come by a way that goes.
    let two = TARGET
        .replace(r#"[{"pg_tag":1,"ig_tag":1}]"#, r#"[{"pg_tag":1,"ig_tag":1},{"pg_tag":1,"ig_tag":2}]"#);
    assert_eq!(order(&[&few, &two], &[&more, &unled]), ["iscsi_target_node_remove_pg_ig_maps", add]);
}

#[test]
fn named_secrets_that_are_others_now_are_read_again() {
    let auth = r#"{"method":"iscsi_create_auth_group","params":{"tag":3,"secrets":[{"user":"u","lunette_secret_file":"/s"}]}}"#;
    let plan = |rotated: &[String]| plan(&file(&[auth]), &file(&[auth]), rotated).unwrap();
    assert_eq!(plan(&[]), []);
    let call = ("lunette_auth_group_reread_secrets".to_owned(), object! { "tag": 3u64 });
    assert_eq!(plan(&["3".to_owned(), "4".to_owned()]), [Step { call, back: Some(Vec::new()) }]);
}

#[test]
fn settings_are_set_set_back_and_taken_back() {
    let redirect = |host: &str| {
        format!(
            r#"{{"method":"iscsi_target_node_set_redirect","params":{{"name":"iqn.2016-06.io.spdk:t","pg_tag":1,"redirect_host":"{host}","redirect_port":"3260"}}}}"#
        )
    };
    let (one, two) = (redirect("192.0.2.1"), redirect("192.0.2.2"));
    let call = |host: &str| {
        format!(
            r#"iscsi_target_node_set_redirect {{"name":"iqn.2016-06.io.spdk:t","pg_tag":1,"redirect_host":"{host}","redirect_port":"3260"}}"#
        )
    };
    let none = r#"iscsi_target_node_set_redirect {"name":"iqn.2016-06.io.spdk:t","pg_tag":1}"#;
    let (first, second) = (call("192.0.2.1"), call("192.0.2.2"));
    assert_eq!(seen(&[TARGET], &[TARGET, &one]), [format!("{first} / {none}")]);
    assert_eq!(seen(&[TARGET, &one], &[TARGET, &two]), [format!("{second} / {first}")]);
    assert_eq!(seen(&[TARGET, &one], &[TARGET]), [format!("{none} / {first}")]);
    let alua = r#"{"method":"lunette_target_node_set_alua_state","params":{"name":"iqn.2016-06.io.spdk:t","pg_tag":1,"state":"standby","lun_id":0,"preferred":true}}"#;
    assert_eq!(
        seen(&[TARGET, alua], &[TARGET])[0].split(" / ").next().unwrap(),
        r#"lunette_target_node_set_alua_state {"name":"iqn.2016-06.io.spdk:t","pg_tag":1,"lun_id":0,"state":"active_optimized","preferred":false}"#
    );
}

#[test]
fn what_a_setting_leaves_out_is_not_set() {
    let identity = |name: &str, more: &str| {
        format!(r#"{{"method":"lunette_bdev_set_identity","params":{{"name":"{name}","vendor":"V"{more}}}}}"#)
    };
    let (both, one) = (identity("N0", r#","product":"P""#), identity("N0", ""));
    assert_eq!(
        seen(&[BDEV, &both], &[BDEV, &one]),
        [
            r#"lunette_bdev_set_identity {"name":"N0","vendor":"V"} / lunette_bdev_set_identity {"name":"N0","vendor":"V","product":"P"}"#
        ]
    );
    assert_eq!(seen(&[BDEV, &both], &[BDEV, &both]), [""; 0]);
    // What the daemon has for itself has defaults.
    let hotplug =
        |more: &str| format!(r#"{{"method":"bdev_nvme_set_hotplug","params":{{"enable":true{more}}}}}"#);
    assert_eq!(seen(&[&hotplug(r#","period_us":100000"#)], &[&hotplug("")]), [""; 0]);
}

#[test]
fn what_cannot_be_changed_is_all_said_at_once() {
    let bigger = r#"{"method":"bdev_null_create","params":{"name":"N0","num_blocks":16,"block_size":512}}"#;
    let malloc = r#"{"method":"bdev_malloc_create","params":{"name":"N0","num_blocks":8,"block_size":512}}"#;
    let deeper = TARGET.replace("\"queue_depth\":64", "\"queue_depth\":128");
    let fewer = OPTIONS.replace("128", "64");
    assert_eq!(
        refused(
            &[OPTIONS, BDEV, TARGET],
            &[&fewer, bigger, &deeper, r#"{"method":"log_set_level","params":{"level":"INFO"}}"#]
        ),
        [
            "log_set_level cannot be compared: say it by calls that lunette_save_config writes",
            "iscsi_set_options: max_sessions is 128: it can be 64 from the next start on only",
            "bdev N0: num_blocks is 8, which stays: for 16 delete it and make it again",
            "target iqn.2016-06.io.spdk:t: queue_depth is 64, which stays: for 128 delete it and make it again",
        ]
    );
    assert_eq!(
        refused(&[BDEV], &[malloc]),
        ["bdev N0 was made by bdev_null_create, not bdev_malloc_create: give the new one another name"]
    );
    assert_eq!(refused(&[], &[BDEV, BDEV]), ["bdev N0 is made twice"]);
    let nameless = r#"{"method":"bdev_malloc_create","params":{"num_blocks":8,"block_size":512}}"#;
    assert_eq!(refused(&[], &[nameless]), ["bdev_malloc_create without name: say it, to be found again"]);
}

#[test]
fn what_is_made_of_a_disk_is_another_thing_than_the_disk() {
    let over = [
        BDEV,
        r#"{"method":"bdev_error_create","params":{"base_name":"N0"}}"#,
        r#"{"method":"bdev_split_create","params":{"base_bdev":"EE_N0","split_count":2}}"#,
        r#"{"method":"bdev_raid_create","params":{"name":"R0","raid_level":"raid0","strip_size_kb":4,"base_bdevs":["EE_N0p0"]}}"#,
        r#"{"method":"bdev_enable_histogram","params":{"name":"EE_N0p1","enable":true}}"#,
    ];
    assert_eq!(seen(&over, &over), [""; 0]);
    assert_eq!(
        seen(&over, &[BDEV]),
        [
            r#"bdev_enable_histogram {"name":"EE_N0p1","enable":false} / bdev_enable_histogram {"name":"EE_N0p1","enable":true}"#,
            r#"bdev_raid_delete {"name":"R0"}"#,
            r#"bdev_split_delete {"base_bdev":"EE_N0"}"#,
            r#"bdev_error_delete {"name":"EE_N0"}"#,
        ]
    );
}
