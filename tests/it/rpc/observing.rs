//! What SPDK's tools ask to see what goes on: reactors, channels, times, notifications, tracepoints, sockets.

use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config, Data};
use serde_json::{Value, json};

use super::daemon::{Managed, two_groups};
use crate::harness::{read, write};

#[test]
fn reactors_and_their_channels_are_shown() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let shown = daemon.ok("framework_get_reactors", "{}");
    let reactor = &shown["reactors"][0];
    assert_eq!(shown["reactors"].as_array().unwrap().len(), 1);
    assert_eq!((&shown["tick_rate"], &shown["pid"]), (&json!(1_000_000_000), &json!(std::process::id())));
    let thread = &reactor["lw_threads"][0];
    assert_eq!((&thread["name"], &thread["id"]), (&json!("reactor_0"), &json!(1)));
    assert!(reactor["tid"].as_u64().unwrap() > 0 && reactor["busy"].as_u64().unwrap() > 0, "{reactor}");
    let stats = daemon.ok("thread_get_stats", "{}");
    assert_eq!(
        (&stats["threads"][0]["name"], &stats["threads"][0]["cpumask"]),
        (&json!("reactor_0"), &thread["cpumask"])
    );
    assert_eq!(daemon.ok("thread_get_pollers", "{}")["threads"][0]["active_pollers"], json!([]));

    let channels = || daemon.ok("thread_get_io_channels", "{}")["threads"][0]["io_channels"].clone();
    assert_eq!(channels(), json!([]));
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(&portal, config).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    client.run(read(0, 8)).unwrap();
    assert_eq!(channels(), json!([{"name": "M0", "ref": 1}]));

    let mask = thread["cpumask"].as_str().unwrap();
    assert_eq!(
        daemon.ok("thread_set_cpumask", &json!({"id": 1, "cpumask": format!("0x{mask}")}).to_string()),
        true
    );
    let (code, text) = daemon.refused("thread_set_cpumask", r#"{"id":1,"cpumask":"0"}"#);
    assert_eq!((code, text.ends_with("serve --cores says where reactors run")), (-95, true), "{text}");
    assert_eq!(daemon.refused("thread_set_cpumask", r#"{"id":9,"cpumask":"1"}"#).0, -22);
    assert_eq!(daemon.ok("framework_get_scheduler", "{}")["scheduler_name"], "static");
    assert_eq!(daemon.ok("framework_get_governor", "{}"), json!({}));
    assert_eq!(daemon.ok("framework_monitor_context_switch", "{}"), json!({"enabled": false}));
    assert_eq!(daemon.refused("framework_monitor_context_switch", r#"{"enabled":true}"#).0, -95);
}

#[test]
fn initiators_are_told_what_was_asked_of_a_disk() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(&portal, config).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    // Reads, writes, blocks that came, blocks that went, of LOG SENSE page 19h.
    let mut told = || {
        let page = [0x4d, 0, 0x40 | 0x19, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let end = client.run(Command::read(0, page, 256)).unwrap();
        assert!(end.is_good() && end.data.len() == 96, "{end:?}");
        let field = |index: usize| {
            let bytes = &end.data[8 + 8 * index..][..8];
            u64::from_be_bytes(bytes.try_into().unwrap())
        };
        let fields = [field(0), field(1), field(2), field(3)];
        for _ in 0..3 {
            assert!(client.run(read(0, 8)).unwrap().is_good());
        }
        assert!(client.run(write(0, 0, 16)).unwrap().is_good());
        fields
    };
    let (before, after) = (told(), told());
    let more: Vec<u64> = before.iter().zip(after).map(|(before, after)| after - before).collect();
    assert_eq!(more, [3, 1, 16, 24]);
}

#[test]
fn notifications_tell_what_happened_to_bdevs() {
    let daemon = Managed::start();
    assert_eq!(
        daemon.ok("notify_get_types", "{}"),
        json!(["bdev_register", "bdev_unregister", "bdev_resize"])
    );
    assert_eq!(daemon.ok("notify_get_notifications", "{}"), json!([]));
    daemon.ok("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#);
    daemon.ok("bdev_passthru_create", r#"{"base_bdev_name":"N0","name":"P0"}"#);
    daemon.ok("bdev_null_resize", r#"{"name":"N0","new_size":2}"#);
    // To the size that it has.
    daemon.ok("bdev_null_resize", r#"{"name":"N0","new_size":2}"#);
    daemon.ok("bdev_null_delete", r#"{"name":"N0"}"#);
    let seen = |params: &str| {
        let list = daemon.ok("notify_get_notifications", params);
        let one = |notice: &Value| {
            format!("{} {} {}", notice["id"], notice["type"], notice["ctx"]).replace('"', "")
        };
        list.as_array().unwrap().iter().map(one).collect::<Vec<_>>()
    };
    let all = [
        "0 bdev_register N0",
        "1 bdev_register P0",
        "2 bdev_resize N0",
        "3 bdev_resize P0",
        "4 bdev_unregister P0",
        "5 bdev_unregister N0",
    ];
    assert_eq!(seen("{}"), all);
    assert_eq!(seen(r#"{"id":2,"max":2}"#), all[2..4]);
    assert_eq!(seen(r#"{"id":6}"#), Vec::<String>::new());
    let told = daemon.ok("lunette_get_events", r#"{"kinds":["bdev_resized"]}"#);
    let resized = told["events"].as_array().unwrap().iter().map(|event| (&event["bdev"], &event["bytes"]));
    assert_eq!(
        resized.collect::<Vec<_>>(),
        [(&json!("N0"), &json!(2 << 20)), (&json!("P0"), &json!(2 << 20))]
    );
}

#[test]
fn times_of_a_bdev_are_counted_while_that_is_wanted() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(&portal, config).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    let get = || daemon.call("bdev_get_histogram", r#"{"name":"M0"}"#);
    assert_eq!(get().unwrap_err()["code"], -14);
    daemon.ok("bdev_enable_histogram", r#"{"name":"M0","enable":true}"#);
    client.run(write(1, 0, 8)).unwrap();
    client.run(read(0, 8)).unwrap();
    let told = get().unwrap();
    assert_eq!(
        (&told["granularity"], &told["min_range"], &told["max_range"], &told["tsc_rate"]),
        (&json!(7), &json!(0), &json!(57), &json!(1_000_000_000))
    );
    let config = daemon.ok("framework_get_config", r#"{"name":"bdev"}"#);
    let call = json!({"method": "bdev_enable_histogram", "params": {"name": "M0", "enable": true}});
    assert!(config.as_array().unwrap().contains(&call), "{config}");
    assert_eq!(daemon.ok("bdev_enable_histogram", r#"{"name":"M0","enable":false}"#), true);
    assert_eq!(get().unwrap_err()["code"], -14);
    assert_eq!(daemon.refused("bdev_enable_histogram", r#"{"name":"M1","enable":true}"#).0, -19);
}

#[test]
fn what_lunette_has_not_is_said() {
    let daemon = Managed::start();
    assert_eq!(daemon.ok("trace_get_info", "{}"), json!({"tpoint_shm_path": "", "tpoint_group_mask": "0x0"}));
    assert_eq!(daemon.ok("trace_get_tpoint_group_mask", "{}"), json!({"tpoint_group_mask": "0x0"}));
    assert_eq!(daemon.ok("trace_clear", "{}"), true);
    for (method, params) in [
        ("trace_enable_tpoint_group", r#"{"name":"bdev"}"#),
        ("trace_disable_tpoint_group", r#"{"name":"bdev"}"#),
        ("trace_set_tpoint_mask", r#"{"name":"bdev","tpoint_mask":1}"#),
        ("trace_clear_tpoint_mask", r#"{"name":"bdev","tpoint_mask":1}"#),
    ] {
        let expected = "Invalid parameters: name: there is no group of tracepoints \"bdev\", nor any other";
        assert_eq!(daemon.refused(method, params), (-32602, expected.to_owned()));
    }
    assert_eq!(daemon.ok("sock_get_default_impl", "{}"), json!({"impl_name": "posix"}));
    let socket = daemon.ok("sock_impl_get_options", r#"{"impl_name":"posix"}"#);
    assert_eq!((&socket["enable_ktls"], &socket["zerocopy_threshold"]), (&json!(false), &json!(0)));
    assert_eq!(daemon.refused("sock_impl_get_options", r#"{"impl_name":"uring"}"#).0, -32602);
    assert_eq!(daemon.ok("iobuf_get_stats", "{}"), json!([]));
}

#[test]
fn a_method_describes_its_parameters_as_a_schema() {
    let daemon = Managed::waiting();
    let schema = daemon.ok("lunette_get_schema", r#"{"name":"bdev_null_resize"}"#);
    assert_eq!(
        schema,
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "methods": [{
                "name": "bdev_null_resize",
                "description": schema["methods"][0]["description"],
                "states": ["runtime"],
                "read_only": false,
                "params": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": schema["methods"][0]["params"]["properties"]["name"]["description"]},
                        "new_size": {
                            "type": "integer", "minimum": 0, "maximum": u64::MAX,
                            "description": schema["methods"][0]["params"]["properties"]["new_size"]["description"],
                        },
                    },
                    "required": ["name", "new_size"],
                    "additionalProperties": false,
                },
            }],
        })
    );
    // What is within a list is described too, and what may be left out has its default.
    let target = daemon.ok("lunette_get_schema", r#"{"name":"iscsi_create_target_node"}"#);
    let params = &target["methods"][0]["params"];
    assert_eq!(params["properties"]["luns"]["items"]["properties"]["bdev_name"]["type"], "string");
    let methods = daemon.ok("rpc_get_methods", "{}");
    let all = daemon.ok("lunette_get_schema", "{}");
    let names: Vec<&Value> =
        all["methods"].as_array().unwrap().iter().map(|method| &method["name"]).collect();
    assert_eq!(names, methods.as_array().unwrap().iter().collect::<Vec<_>>());
    assert_eq!(daemon.refused("lunette_get_schema", r#"{"name":"x"}"#).0, -32601);
}
