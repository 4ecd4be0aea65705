//! What calls make: bdevs, groups, targets, and that an initiator finds them.

use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::{Auth, Chap, Client, Config, Data, Event};
use serde_json::json;

use super::daemon::Managed;
use crate::harness::{SOON, read, until, write};

const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

/// A RAM disk, a null disk and a target with both; gives back its portal.
fn build(daemon: &Managed) -> String {
    let malloc = format!(r#"{{"name":"M0","num_blocks":2048,"block_size":512,"uuid":"{UUID}"}}"#);
    assert_eq!(daemon.ok("bdev_malloc_create", &malloc), "M0");
    let null = r#"{"num_blocks":204800,"block_size":4096,"name":"Null0","dif_is_head_of_md":false}"#;
    assert_eq!(daemon.ok("bdev_null_create", null), "Null0");
    let portals = r#"{"portals":[{"host":"127.0.0.1","port":"0"}],"tag":1,"private":false,"wait":false}"#;
    assert_eq!(daemon.ok("iscsi_create_portal_group", portals), true);
    let initiators = r#"{"tag":2,"initiators":["ANY"],"netmasks":["127.0.0.0/8"]}"#;
    assert_eq!(daemon.ok("iscsi_create_initiator_group", initiators), true);
    let target = r#"{"luns":[{"bdev_name":"M0","lun_id":0},{"bdev_name":"Null0","lun_id":-1}],
        "pg_ig_maps":[{"pg_tag":1,"ig_tag":2}],"name":"disk1","alias_name":"Data Disk1","queue_depth":64,
        "disable_chap":true,"require_chap":false,"mutual_chap":false,"header_digest":false,"data_digest":false}"#;
    assert_eq!(daemon.ok("iscsi_create_target_node", target), true);
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let port = groups[0]["portals"][0]["port"].as_str().unwrap();
    assert_eq!(
        groups,
        json!([{"tag": 1, "portals": [{"host": "127.0.0.1", "port": port}], "private": false}])
    );
    format!("127.0.0.1:{port}")
}

#[test]
fn a_controller_that_is_being_attached_has_its_name() {
    let daemon = Managed::start();
    // It takes the connection and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let params = format!(
        r#"{{"name":"N","trtype":"TCP","traddr":"127.0.0.1","trsvcid":"{port}","subnqn":"nqn.2026-11.io.example:n"}}"#
    );
    std::thread::scope(|scope| {
        let first = scope.spawn(|| daemon.refused("bdev_nvme_attach_controller", &params));
        let (connection, _) = listener.accept().unwrap();
        assert_eq!(
            daemon.refused("bdev_nvme_attach_controller", &params),
            (-17, "File exists: a controller N is being attached or given back".to_owned())
        );
        let (code, text) = daemon.refused("bdev_nvme_detach_controller", r#"{"name":"N"}"#);
        assert_eq!((code, text.as_str()), (-19, "No such device: there is no controller N"));
        drop((connection, listener));
        assert_eq!(first.join().unwrap().0, -19);
    });
    // The name is free again.
    assert_eq!(daemon.refused("bdev_nvme_attach_controller", &params).0, -19);
}

const TARGET: &str = "iqn.2016-06.io.spdk:disk1";

fn login(portal: &str, name: &str) -> Client {
    let config = Config::new(&format!("iqn.2026-11.io.example:{name}"), TARGET);
    Client::connect(portal, config).unwrap()
}

#[test]
fn a_lun_is_built_from_nothing_and_works() {
    let daemon = Managed::start();
    let portal = build(&daemon);
    let mut client = login(&portal, "a");
    // The first command of a session is told of the power-on.
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    assert_eq!(client.run(write(1, 0, 8)).unwrap().status, status::GOOD);
    assert_eq!(client.run(read(0, 8)).unwrap().status, status::GOOD);

    let connections = daemon.ok("iscsi_get_connections", "{}");
    let session = connections[0]["session"].as_u64().unwrap();
    let tsih = connections[0]["tsih"].as_u64().unwrap();
    assert_eq!(
        connections,
        json!([{
            "id": 0, "cid": 0, "tsih": tsih, "state": "running", "login_phase": "full_feature_phase",
            "initiator_addr": "127.0.0.1", "target_addr": "127.0.0.1", "target_node_name": "disk1",
            "thread_name": "reactor_0", "initiator_name": "iqn.2026-11.io.example:a", "target_name": TARGET,
            "pg_tag": 1, "session": session,
        }])
    );
    assert_eq!(
        daemon.ok("iscsi_get_stats", "{}"),
        json!({"invalid": 0, "running": 1, "exiting": 0, "exited": 0})
    );
    assert_eq!(daemon.ok("lunette_end_session", &format!(r#"{{"session":{session}}}"#)), true);
    until("the session is gone", || daemon.ok("iscsi_get_connections", "{}") == json!([]));
    let again = daemon.refused("lunette_end_session", &format!(r#"{{"session":{session}}}"#));
    assert_eq!(again, (-32602, format!("Invalid parameters: session: there is no {session}")));
}

#[test]
fn lists_show_what_was_made() {
    let daemon = Managed::start();
    build(&daemon);
    assert_eq!(
        daemon.ok("iscsi_get_target_nodes", "{}"),
        json!([{
            "name": TARGET, "alias_name": "Data Disk1", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 2}],
            "luns": [{"bdev_name": "M0", "lun_id": 0}, {"bdev_name": "Null0", "lun_id": 1}], "queue_depth": 64,
            "disable_chap": true, "require_chap": false, "mutual_chap": false, "chap_group": 0,
            "header_digest": false, "data_digest": false,
        }])
    );
    assert_eq!(
        daemon.ok("iscsi_get_initiator_groups", "{}"),
        json!([{"tag": 2, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}])
    );
    let devices = daemon.ok("scsi_get_devices", "{}");
    assert_eq!(devices, json!([{"id": devices[0]["id"], "device_name": TARGET}]));
    let bdevs = daemon.ok("bdev_get_bdevs", r#"{"name":"M0"}"#);
    let bdev = &bdevs[0];
    assert_eq!(
        (&bdev["product_name"], &bdev["num_blocks"], &bdev["block_size"], &bdev["uuid"], &bdev["claimed"]),
        (&json!("Malloc disk"), &json!(2048), &json!(512), &json!(UUID), &json!(false))
    );
    assert_eq!(bdev["aliases"], json!([UUID]));
    assert_eq!(daemon.ok("bdev_get_bdevs", &format!(r#"{{"name":"{UUID}"}}"#)), bdevs);
    assert_eq!(daemon.ok("bdev_get_bdevs", "{}").as_array().unwrap().len(), 2);
}

#[test]
fn errors_are_those_of_spdk() {
    let daemon = Managed::start();
    build(&daemon);
    let disk = r#"{"name":"M0","num_blocks":1,"block_size":512}"#;
    for (method, params, code, message) in [
        ("bdev_malloc_create", disk, -17, "File exists: there is a bdev M0 already"),
        ("bdev_null_create", disk, -17, "File exists: there is a bdev M0 already"),
        ("bdev_malloc_delete", r#"{"name":"M1"}"#, -19, "No such device: there is no bdev M1"),
        ("bdev_null_delete", r#"{"name":"M0"}"#, -19, "No such device: there is no bdev M0"),
        ("bdev_get_bdevs", r#"{"name":"M1","timeout":10}"#, -19, "No such device: there is no bdev M1"),
        ("bdev_examine", r#"{"name":"M1"}"#, -19, "No such device: there is no bdev M1"),
        (
            "bdev_malloc_create",
            r#"{"num_blocks":1,"block_size":520}"#,
            -22,
            "Invalid argument: block_size: a block has 512, 1024, 2048 or 4096 bytes, not 520",
        ),
        (
            "bdev_malloc_create",
            r#"{"num_blocks":0,"block_size":512}"#,
            -22,
            "Invalid argument: num_blocks: a disk has at least one block",
        ),
        ("bdev_error_create", r#"{"base_name":"M1"}"#, -19, "No such device: there is no bdev M1"),
        (
            "bdev_error_create",
            r#"{"base_name":"M0"}"#,
            -16,
            "Device or resource busy: bdev M0 is served as a LUN: remove that LUN first",
        ),
        (
            "iscsi_delete_target_node",
            r#"{"name":"x"}"#,
            -2,
            "No such file or directory: there is no target x",
        ),
        (
            "iscsi_delete_portal_group",
            r#"{"tag":9}"#,
            -32602,
            "Invalid parameters: there is no portal group 9",
        ),
        (
            "iscsi_create_initiator_group",
            r#"{"tag":2,"initiators":["ANY"],"netmasks":["ANY"]}"#,
            -32602,
            "Invalid parameters: there is a initiator group 2 already",
        ),
        (
            "iscsi_create_initiator_group",
            r#"{"tag":3,"initiators":["ANY"],"netmasks":["10.0.0.0/33"]}"#,
            -32602,
            "Invalid parameters: netmasks[0]: \"10.0.0.0/33\" is not a netmask: give ADDRESS/BITS, as 192.0.2.0/24 or \
             [2001:db8::]/32, an address, or ANY",
        ),
        (
            "iscsi_target_node_add_lun",
            r#"{"name":"iqn.2016-06.io.spdk:disk1","bdev_name":"M0","lun_id":0}"#,
            -32602,
            "Invalid parameters: there is a LUN 0 already",
        ),
        (
            "iscsi_create_auth_group",
            r#"{"tag":1,"secrets":[{"user":"a","secret":"short"}]}"#,
            -32602,
            "Invalid parameters: secret of user \"a\": fewer than 12 bytes can be guessed; make it 12 to 16, or start \
             with --weak-chap",
        ),
        (
            "iscsi_target_node_set_auth",
            r#"{"name":"iqn.2016-06.io.spdk:disk1","disable_chap":true,"require_chap":true}"#,
            -32602,
            "Invalid parameters: disable_chap goes without require_chap and mutual_chap, and mutual_chap goes with \
             require_chap only",
        ),
    ] {
        assert_eq!(daemon.refused(method, params), (code, message.to_owned()), "{method} {params}");
    }
}

#[test]
fn what_is_deleted_is_gone_for_initiators_too() {
    let daemon = Managed::start();
    let portal = build(&daemon);
    let mut client = login(&portal, "a");
    assert_eq!(daemon.ok("bdev_malloc_delete", r#"{"name":"M0"}"#), true);
    let luns = |daemon: &Managed| daemon.ok("iscsi_get_target_nodes", "{}")[0]["luns"].clone();
    assert_eq!(luns(&daemon), json!([{"bdev_name": "Null0", "lun_id": 1}]));
    assert_eq!(client.run(read(0, 8)).unwrap().status, status::CHECK_CONDITION);

    let lun = r#"{"name":"iqn.2016-06.io.spdk:disk1","lun_id":1}"#;
    assert_eq!(daemon.ok("lunette_target_node_remove_lun", lun), true);
    assert_eq!(luns(&daemon), json!([]));
    let null = r#"{"name":"iqn.2016-06.io.spdk:disk1","bdev_name":"Null0"}"#;
    assert_eq!(daemon.ok("iscsi_target_node_add_lun", null), true);
    assert_eq!(luns(&daemon), json!([{"bdev_name": "Null0", "lun_id": 0}]));

    assert_eq!(daemon.ok("iscsi_delete_initiator_group", r#"{"tag":2}"#), true);
    assert_eq!(daemon.ok("iscsi_get_target_nodes", "{}")[0]["pg_ig_maps"], json!([]));
    drop(client);
    assert_eq!(daemon.ok("iscsi_delete_target_node", &format!(r#"{{"name":"{TARGET}"}}"#)), true);
    assert_eq!(daemon.ok("iscsi_get_target_nodes", "{}"), json!([]));
    assert_eq!(daemon.ok("iscsi_delete_portal_group", r#"{"tag":1}"#), true);
    assert!(std::net::TcpStream::connect_timeout(&portal.parse().unwrap(), SOON).is_err());
}

#[test]
fn bdevs_are_made_of_bdevs_and_go_with_them() {
    let daemon = Managed::start();
    daemon.ok("bdev_malloc_create", r#"{"name":"M0","num_blocks":2048,"block_size":512}"#);
    let delay = r#"{"base_bdev_name":"M0","name":"D0","avg_read_latency":1,"p99_read_latency":2,
        "avg_write_latency":3,"p99_write_latency":4}"#;
    assert_eq!(daemon.ok("bdev_delay_create", delay), "D0");
    assert_eq!(daemon.ok("bdev_passthru_create", r#"{"base_bdev_name":"D0","name":"P0"}"#), "P0");
    assert_eq!(daemon.ok("bdev_error_create", r#"{"base_name":"P0"}"#), true);
    let shown = |name: &str| daemon.ok("bdev_get_bdevs", &format!(r#"{{"name":"{name}"}}"#))[0].clone();
    assert_eq!(shown("M0")["claimed"], true);
    assert_eq!(shown("EE_P0")["claimed"], false);
    assert_eq!(shown("EE_P0")["driver_specific"], json!({"error_disk": {"base_bdev": "P0"}}));
    assert_eq!(
        shown("D0")["driver_specific"],
        json!({"delay": {"name": "D0", "base_bdev_name": "M0", "avg_read_latency": 1, "p99_read_latency": 2,
            "avg_write_latency": 3, "p99_write_latency": 4}})
    );
    assert_eq!(
        daemon.refused("bdev_passthru_create", r#"{"base_bdev_name":"M0","name":"P1"}"#),
        (-1, "Operation not permitted: bdev M0 is part of bdev D0: use that one".to_owned())
    );
    daemon.ok("bdev_passthru_delete", r#"{"name":"P0"}"#);
    let names = |daemon: &Managed| {
        let bdevs = daemon.ok("bdev_get_bdevs", "{}");
        bdevs.as_array().unwrap().iter().map(|bdev| bdev["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&daemon), ["M0", "D0"]);
    daemon.ok("bdev_malloc_delete", r#"{"name":"M0"}"#);
    assert_eq!(names(&daemon), Vec::<String>::new());
}

#[test]
fn what_initiators_do_is_counted() {
    let daemon = Managed::start();
    let portal = build(&daemon);
    let mut client = login(&portal, "a");
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    for _ in 0..3 {
        client.run(write(1, 0, 8)).unwrap();
    }
    client.run(read(0, 4)).unwrap();
    let counted = |params: &str| {
        let stat = daemon.ok("bdev_get_iostat", params);
        assert_eq!(stat["tick_rate"], 1_000_000_000);
        let names = ["name", "num_write_ops", "bytes_written", "num_read_ops", "bytes_read"];
        stat["bdevs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|bdev| names.map(|name| bdev[name].clone()))
            .collect::<Vec<_>>()
    };
    let m0 = [json!("M0"), json!(3), json!(3 * 4096), json!(1), json!(2048)];
    let null0 = [json!("Null0"), json!(0), json!(0), json!(0), json!(0)];
    assert_eq!(counted(r#"{"per_channel":false}"#), [m0.clone(), null0]);
    assert_eq!(counted(r#"{"names":["M0"],"reset_mode":"all"}"#), [m0]);
    assert_eq!(counted(r#"{"name":"M0"}"#)[0][1], 0);
    client.run(read(0, 4)).unwrap();
    let latencies = || {
        let bdev = &daemon.ok("bdev_get_iostat", r#"{"name":"M0"}"#)["bdevs"][0];
        ["read_latency_ticks", "max_read_latency_ticks", "min_read_latency_ticks", "max_write_latency_ticks"]
            .map(|name| bdev[name].as_u64().unwrap())
    };
    let [total, longest, shortest, write] = latencies();
    assert!(0 < total && total == longest && total == shortest && write == 0, "one read");
    daemon.ok("bdev_reset_iostat", r#"{"mode":"maxmin"}"#);
    assert_eq!(latencies(), [total, 0, 0, 0]);
    daemon.ok("bdev_reset_iostat", "{}");
    assert_eq!(latencies(), [0; 4]);
    // By how long they took, since the start: three writes, two reads.
    let told = daemon.ok("bdev_get_iostat", r#"{"name":"M0"}"#);
    let bounds = told["lunette_times_bounds_ns"].as_array().unwrap().len();
    let counts = ["read", "write", "unmap"].map(|kind| {
        let counts = told["bdevs"][0]["lunette_times"][kind].as_array().unwrap();
        assert_eq!(counts.len(), bounds + 1);
        counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>()
    });
    assert_eq!((counts, told["lunette_times_bounds_ns"][0].as_u64()), ([2, 3, 0], Some(1024)));
    // The same commands by where their time went; a bdev whose LUN had none tells nothing.
    for stage in ["queue", "receive", "device", "send"] {
        let counts = told["bdevs"][0]["lunette_stages"][stage].as_array().unwrap();
        let sum = counts.iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
        assert_eq!((counts.len(), sum), (bounds + 1, 5), "{stage}");
    }
    let idle = daemon.ok("bdev_get_iostat", r#"{"name":"Null0"}"#);
    assert!(idle["bdevs"][0].get("lunette_stages").is_none(), "{idle}");
    assert_eq!(daemon.refused("bdev_get_iostat", r#"{"name":"M1"}"#).0, -19);
}

#[test]
fn sizes_change_and_are_kept() {
    let daemon = Managed::start();
    let malloc = r#"{"name":"M0","num_blocks":2048,"block_size":512,"lunette_num_blocks_max":4096}"#;
    daemon.ok("bdev_malloc_create", malloc);
    daemon.ok("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#);
    daemon.ok("bdev_passthru_create", r#"{"base_bdev_name":"N0","name":"P0"}"#);
    let size = |name: &str| {
        daemon.ok("bdev_get_bdevs", &format!(r#"{{"name":"{name}"}}"#))[0]["num_blocks"].as_u64().unwrap()
    };
    daemon.ok("lunette_bdev_resize", r#"{"name":"M0","num_blocks":4096}"#);
    daemon.ok("bdev_null_resize", r#"{"name":"N0","new_size":2}"#);
    assert_eq!((size("M0"), size("N0"), size("P0")), (4096, 4096, 4096));
    let saved = daemon.ok("framework_get_config", r#"{"name":"bdev"}"#);
    assert_eq!(
        (&saved[0]["params"]["num_blocks"], &saved[1]["params"]["num_blocks"]),
        (&json!(4096), &json!(4096))
    );
    for (method, params, expected) in [
        (
            "lunette_bdev_resize",
            r#"{"name":"M0","num_blocks":4097}"#,
            (-22, "Invalid argument: 4097 blocks are not between 1 and 4096"),
        ),
        (
            "bdev_null_resize",
            r#"{"name":"N0","new_size":1}"#,
            (-22, "Invalid argument: new_size: it has 4096 blocks already"),
        ),
        ("bdev_null_resize", r#"{"name":"M0","new_size":9}"#, (-19, "No such device: there is no bdev M0")),
    ] {
        assert_eq!(daemon.refused(method, params), (expected.0, expected.1.to_owned()), "{params}");
    }
    assert_eq!(size("M0"), 4096);
    daemon.ok("lunette_bdev_resize", r#"{"name":"N0","num_blocks":1}"#);
    assert_eq!((size("N0"), size("P0")), (1, 1));
}

#[test]
fn initiators_are_asked_to_log_out() {
    let daemon = Managed::start();
    let portal = build(&daemon);
    let mut client = login(&portal, "a");
    let ask = |group: u32| {
        let params = format!(r#"{{"name":"{TARGET}","pg_tag":{group}}}"#);
        assert_eq!(daemon.ok("iscsi_target_node_request_logout", &params), true);
    };
    // It came by another group: nothing is said to it before the answer to a ping.
    ask(9);
    client.ping(b"still there").unwrap();
    assert!(client.next_event().is_none());
    ask(1);
    let event = client.wait_event(SOON).unwrap();
    assert!(matches!(event, Some(Event::Async(..))), "{event:?}");
    client.logout().unwrap();
    let refused = daemon.refused("iscsi_target_node_request_logout", r#"{"name":"x"}"#);
    assert_eq!(refused, (-32602, "Invalid parameters: there is no target x".to_owned()));
}

#[test]
fn faults_are_ordered_and_taken_back() {
    let daemon = Managed::start();
    daemon.ok("bdev_malloc_create", r#"{"name":"M0","num_blocks":2048,"block_size":512}"#);
    daemon.ok("bdev_error_create", r#"{"base_name":"M0"}"#);
    daemon.ok("iscsi_create_portal_group", r#"{"portals":[{"host":"127.0.0.1","port":"0"}],"tag":1}"#);
    daemon.ok("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#);
    let target = r#"{"luns":[{"bdev_name":"EE_M0","lun_id":0}],"pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],
        "name":"disk1","alias_name":"","queue_depth":64}"#;
    daemon.ok("iscsi_create_target_node", target);
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let mut client = login(&format!("127.0.0.1:{}", groups[0]["portals"][0]["port"].as_str().unwrap()), "a");
    client.command(cdb::test_unit_ready(), Data::None).unwrap();

    let order = |rest: &str| daemon.ok("bdev_error_inject_error", &format!(r#"{{"name":"EE_M0",{rest}}}"#));
    order(r#""io_type":"read","error_type":"failure","num":2"#);
    let mut statuses = || [0; 3].map(|_| client.run(read(0, 1)).unwrap().status);
    assert_eq!(statuses(), [status::CHECK_CONDITION, status::CHECK_CONDITION, status::GOOD]);
    order(r#""io_type":"all","error_type":"failure","num":9"#);
    order(r#""io_type":"clear","error_type":"failure""#);
    assert_eq!(statuses(), [status::GOOD; 3]);
    // The same order again, and again, is one order.
    for _ in 0..1000 {
        order(r#""io_type":"write","error_type":"pending","num":0"#);
    }
    assert_eq!(daemon.ok("bdev_error_resume_pending", r#"{"name":"EE_M0"}"#), true);
    assert_eq!(daemon.refused("bdev_error_resume_pending", r#"{"name":"M0"}"#).0, -19);
}

#[test]
fn accounts_are_asked_for_and_can_be_taken_away() {
    let daemon = Managed::start();
    let portal = build(&daemon);
    let secret = r#"{"tag":1,"secrets":[{"user":"host","secret":"correct-horse-12"}]}"#;
    daemon.ok("iscsi_create_auth_group", secret);
    let more =
        r#"{"tag":1,"user":"other","secret":"battery-staple-3","muser":"target","msecret":"another-staple"}"#;
    daemon.ok("iscsi_auth_group_add_secret", more);
    let auth = r#"{"name":"iqn.2016-06.io.spdk:disk1","chap_group":1,"disable_chap":false,"require_chap":true,
        "mutual_chap":false}"#;
    daemon.ok("iscsi_target_node_set_auth", auth);
    let groups = daemon.ok("iscsi_get_auth_groups", "{}");
    assert_eq!(
        groups,
        json!([{"tag": 1, "secrets": [
            {"user": "host", "secret": "***"},
            {"user": "other", "secret": "***", "muser": "target", "msecret": "***"},
        ]}])
    );
    let try_login = |user: Option<&str>| {
        let mut config = Config::new("iqn.2026-11.io.example:a", TARGET);
        if let Some(user) = user {
            config.auth = Auth::Chap(Chap::new(user, b"correct-horse-12"));
        }
        Client::connect(portal.as_str(), config).is_ok()
    };
    assert!(!try_login(None));
    assert!(try_login(Some("host")));
    daemon.ok("iscsi_auth_group_remove_secret", r#"{"tag":1,"user":"host"}"#);
    assert!(!try_login(Some("host")));
    daemon.ok("iscsi_delete_auth_group", r#"{"tag":1}"#);
    assert_eq!(daemon.ok("iscsi_get_auth_groups", "{}"), json!([]));
}
