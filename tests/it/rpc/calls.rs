//! Calls that SPDK's tools make and nothing else here does: times by bucket and border, figures by reactor, latencies that change,
//! flags, locks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Config, Data};
use serde_json::{Value, json};

use super::daemon::{Managed, two_groups};
use crate::harness::{read, until, write};

const NAME: &str = r#"{"name":"M0"}"#;

fn login(portal: &str) -> Client {
    let mut client =
        Client::connect(portal, Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t")).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    client
}

/// The buckets of a bdev's histogram.
fn buckets(daemon: &Managed) -> Vec<u64> {
    let told = daemon.ok("bdev_get_histogram", NAME);
    let bytes = STANDARD.decode(told["histogram"].as_str().unwrap()).unwrap();
    bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
}

#[test]
fn times_are_told_by_bucket_and_up_to_borders() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let mut client = login(&portal);
    let borders = |list: &str| format!(r#"{{"name":"M0","borders":{list}}}"#);
    let early = daemon.refused("bdev_get_histogram_borders", &borders("[1]"));
    assert_eq!(early.0, -14, "nothing is counted yet: {early:?}");
    daemon.ok("bdev_enable_histogram", r#"{"name":"M0","enable":true}"#);
    for _ in 0..3 {
        client.run(write(1, 0, 8)).unwrap();
    }
    client.run(read(0, 8)).unwrap();
    let counts = buckets(&daemon);
    assert_eq!((counts.len(), counts.iter().sum::<u64>()), (7424, 4));
    // An hour has room for all, and the last number is all of them.
    let counted = daemon.ok("bdev_get_histogram_borders", &borders("[3600000000]"));
    assert_eq!(counted, json!({"borders_count": [4, 4]}));
    let counted = daemon.ok("bdev_get_histogram_borders", &borders("[0,1,1000,3600000000]"));
    let counted: Vec<u64> =
        counted["borders_count"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    assert!(counted.is_sorted() && counted.len() == 5 && counted[3..] == [4, 4], "{counted:?}");
    assert_eq!(counted[0], counts[0], "those that took no time");
    for wrong in ["[]", "[2,1]", r#"["1"]"#] {
        assert_eq!(daemon.refused("bdev_get_histogram_borders", &borders(wrong)).0, -32602, "{wrong}");
    }
    assert_eq!(daemon.refused("bdev_get_histogram_borders", r#"{"name":"M9","borders":[1]}"#).0, -19);
}

#[test]
fn figures_are_told_by_reactor() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let mut client = login(&portal);
    client.run(write(1, 0, 8)).unwrap();
    client.run(read(0, 4)).unwrap();
    let whole = daemon.ok("bdev_get_iostat", NAME)["bdevs"][0].clone();
    let told = daemon.ok("bdev_get_iostat", r#"{"names":["M0"],"per_channel":true}"#);
    assert_eq!((&told["tick_rate"], &told["name"]), (&json!(1_000_000_000), &json!("M0")));
    // One reactor, so its figures are those of all, and its number is that of its thread.
    let mut channel = told["channels"][0].clone();
    let thread = channel.as_object_mut().unwrap().remove("thread_id").unwrap();
    assert_eq!(thread, daemon.ok("thread_get_stats", "{}")["threads"][0]["id"]);
    let mut whole_without_name = whole;
    for name in ["name", "lunette_stages"] {
        assert!(whole_without_name.as_object_mut().unwrap().remove(name).is_some(), "{name} is of the whole");
    }
    assert_eq!((told["channels"].as_array().unwrap().len(), channel), (1, whole_without_name));
    daemon.ok("bdev_get_iostat", r#"{"names":["M0"],"per_channel":true,"reset_mode":"all"}"#);
    let told = daemon.ok("bdev_get_iostat", r#"{"names":["M0"],"per_channel":true}"#);
    assert_eq!(told["channels"][0]["num_write_ops"], 0);
    for wrong in [r#"{"per_channel":true}"#, r#"{"names":["M0","M0"],"per_channel":true}"#] {
        assert_eq!(daemon.refused("bdev_get_iostat", wrong).0, -22, "{wrong}");
    }
}

/// A bdev as `bdev_get_bdevs` shows it.
fn shown(daemon: &Managed, name: &str) -> Value {
    daemon.ok("bdev_get_bdevs", &json!({ "name": name }).to_string())[0].clone()
}

#[test]
fn latencies_change_under_load_and_are_saved() {
    let daemon = Managed::start();
    daemon.ok("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#);
    daemon.ok(
        "bdev_delay_create",
        r#"{"name":"D0","base_bdev_name":"N0","avg_read_latency":30,"p99_read_latency":30,
            "avg_write_latency":30,"p99_write_latency":30}"#,
    );
    let update = |kind: &str, us: u64| {
        json!({"delay_bdev_name": "D0", "latency_type": kind, "latency_us": us}).to_string()
    };
    // In the order in which SPDK's own tests do it: the average first.
    for (kind, us) in [("avg_read", 31_000_000), ("avg_write", 40), ("p99_write", 50), ("p99_read", 7)] {
        assert_eq!(daemon.ok("bdev_delay_update_latency", &update(kind, us)), true);
    }
    let expected = json!({"delay": {
        "name": "D0", "base_bdev_name": "N0", "avg_read_latency": 31_000_000, "p99_read_latency": 31_000_000,
        "avg_write_latency": 40, "p99_write_latency": 50,
    }});
    assert_eq!(shown(&daemon, "D0")["driver_specific"], expected);
    let saved = daemon.ok("framework_get_config", r#"{"name":"bdev"}"#);
    let delay = saved.as_array().unwrap().iter().find(|call| call["method"] == "bdev_delay_create").unwrap();
    assert_eq!(delay["params"]["avg_read_latency"], 31_000_000);
    for (params, code) in [
        (update("avg_read", 3_600_000_001), -22),
        (update("avg_flush", 1), -32602),
        (r#"{"delay_bdev_name":"N0","latency_type":"avg_read","latency_us":1}"#.to_owned(), -19),
        (r#"{"delay_bdev_name":"X","latency_type":"avg_read","latency_us":1}"#.to_owned(), -19),
    ] {
        assert_eq!(daemon.refused("bdev_delay_update_latency", &params).0, code, "{params}");
    }
    assert_eq!(daemon.refused("bdev_delay_delete", r#"{"name":"N0"}"#).0, -19, "of another kind");
    assert_eq!(daemon.ok("bdev_delay_delete", r#"{"name":"D0"}"#), true);
    assert_eq!(daemon.refused("bdev_delay_update_latency", &update("avg_read", 1)).0, -19);
}

/// A WRITE that the old latency would have held for ten minutes ends: it came after the change.
#[test]
fn a_latency_that_was_changed_is_that_of_what_comes_next() {
    let daemon = Managed::start();
    for (method, params) in [
        ("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#),
        (
            "bdev_delay_create",
            r#"{"name":"D0","base_bdev_name":"N0","avg_read_latency":0,"p99_read_latency":0,
                "avg_write_latency":600000000,"p99_write_latency":600000000}"#,
        ),
        ("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"luns":[{"bdev_name":"D0"}],"queue_depth":64}"#,
        ),
        (
            "bdev_delay_update_latency",
            r#"{"delay_bdev_name":"D0","latency_type":"avg_write","latency_us":10}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let mut client = login(&format!("127.0.0.1:{}", groups[0]["portals"][0]["port"].as_str().unwrap()));
    assert!(client.run(write(1, 0, 8)).unwrap().is_good());
}

#[test]
fn error_bdevs_and_files_of_the_other_kind_go_and_grow() {
    let daemon = Managed::start();
    daemon.ok("bdev_null_create", r#"{"name":"N0","num_blocks":8,"block_size":512}"#);
    daemon.ok("bdev_error_create", r#"{"base_name":"N0"}"#);
    assert_eq!(daemon.refused("bdev_error_delete", r#"{"name":"N0"}"#).0, -19, "of another kind");
    assert_eq!(daemon.ok("bdev_error_delete", r#"{"name":"EE_N0"}"#), true);
    assert_eq!(daemon.refused("bdev_error_delete", r#"{"name":"EE_N0"}"#).0, -19);
    let file = daemon.folder.path("disk.img");
    std::fs::File::create(&file).unwrap().set_len(1 << 20).unwrap();
    daemon.ok("bdev_uring_create", &json!({"name": "u", "filename": file, "block_size": 512}).to_string());
    std::fs::File::options().write(true).open(&file).unwrap().set_len(2 << 20).unwrap();
    assert_eq!(daemon.ok("bdev_uring_rescan", r#"{"name":"u"}"#), true);
    assert_eq!(shown(&daemon, "u")["num_blocks"], 4096);
    assert_eq!(daemon.refused("bdev_uring_rescan", r#"{"name":"N0"}"#).0, -19);
}

/// A portal group that waits has its address and takes nobody in, until it is started.
#[test]
fn a_portal_group_that_waits_is_started_by_its_call() {
    let daemon = Managed::start();
    for (method, params) in [
        ("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#),
        ("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#),
        ("iscsi_create_portal_group", r#"{"tag":2,"portals":[{"host":"127.0.0.1","port":"0"}],"wait":true}"#),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":1}],
                "luns":[{"bdev_name":"N0"}],"queue_depth":64}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let portal =
        |group: usize| format!("127.0.0.1:{}", groups[group]["portals"][0]["port"].as_str().unwrap());
    let found = || {
        let config = Config::discovery("iqn.2026-11.io.example:a");
        Client::discover(portal(0).as_str(), config).unwrap().len()
    };
    assert_eq!(found(), 2, "the target's name and one address: the other takes nobody in");
    assert_eq!(daemon.ok("iscsi_start_portal_group", r#"{"tag":2}"#), true);
    assert_eq!(found(), 3);
    login(&portal(1)).logout().unwrap();
    assert_eq!(daemon.refused("iscsi_start_portal_group", r#"{"tag":9}"#).0, -32602);
}

#[test]
fn flags_locks_and_devices_are_answered_honestly() {
    let daemon = Managed::start();
    assert_eq!(daemon.ok("log_get_flags", "{}"), json!({}));
    for method in ["log_set_flag", "log_clear_flag"] {
        let refused = daemon.refused(method, r#"{"flag":"iscsi"}"#);
        let expected = "Invalid parameters: flag: there is no \"iscsi\", nor any other";
        assert_eq!(refused, (-32602, expected.to_owned()));
    }
    daemon.ok("log_set_level", r#"{"level":"DEBUG"}"#);
    assert_eq!(daemon.ok("log_get_level", "{}"), "DEBUG");
    assert_eq!(daemon.ok("framework_disable_cpumask_locks", "{}"), true);
    let refused = daemon.refused("framework_enable_cpumask_locks", "{}");
    assert!(refused.0 == -95 && refused.1.contains("takes no locks"), "{refused:?}");
    assert_eq!(daemon.ok("framework_get_pci_devices", "{}"), json!([]), "no controller is attached");
    // Both may be called before the daemon serves.
    let waiting = Managed::waiting();
    assert_eq!(waiting.ok("framework_disable_cpumask_locks", "{}"), true);
    until("it serves", || waiting.call("framework_start_init", "{}").is_ok());
}
