//! Files of calls: what is saved, loaded and saved again, and what a wrong one does not do.

use std::process::{Command, Output, Stdio};

use lunette::rpc::config::Plan;
use serde_json::{Value, json};

use super::daemon::{Folder, Managed};

/// Makes one of everything that is saved.
fn fill(daemon: &Managed) {
    for (method, params) in [
        (
            "iscsi_set_options",
            r#"{"node_base":"iqn.2026-11.io.example","nop_in_interval":7,"nop_timeout":9}"#,
        ),
        ("framework_start_init", "{}"),
        ("bdev_malloc_create", r#"{"num_blocks":2048,"block_size":512,"physical_block_size":4096}"#),
        ("bdev_malloc_create", r#"{"name":"M\u00e9","num_blocks":8,"block_size":4096}"#),
        ("bdev_null_create", r#"{"name":"N0","num_blocks":4096,"block_size":512}"#),
        ("bdev_passthru_create", r#"{"name":"P0","base_bdev_name":"N0"}"#),
        ("bdev_error_create", r#"{"base_name":"P0"}"#),
        (
            "bdev_delay_create",
            r#"{"name":"D0","base_bdev_name":"EE_P0","avg_read_latency":1,"p99_read_latency":2,
                "avg_write_latency":3,"p99_write_latency":4}"#,
        ),
        // So seldom that it never looks.
        ("bdev_nvme_set_hotplug", r#"{"enable":true,"period_us":10000000}"#),
        ("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#),
        (
            "iscsi_create_portal_group",
            r#"{"tag":7,"portals":[{"host":"127.0.0.1","port":0}],"private":true,"wait":true}"#,
        ),
        ("iscsi_portal_group_set_auth", r#"{"tag":7,"require_chap":true,"chap_group":3}"#),
        (
            "iscsi_create_initiator_group",
            r#"{"tag":2,"initiators":["!iqn.bad","ANY"],"netmasks":["127.0.0.0/8"]}"#,
        ),
        ("iscsi_create_auth_group", r#"{"tag":3,"secrets":[{"user":"u","secret":"correct-horse-12"}]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"disk1","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":2}],
                "luns":[{"bdev_name":"Malloc0","lun_id":5},{"bdev_name":"D0"}],"queue_depth":1,
                "require_chap":true,"chap_group":3,"header_digest":true}"#,
        ),
        (
            "iscsi_target_node_set_redirect",
            r#"{"name":"iqn.2026-11.io.example:disk1","pg_tag":1,"redirect_host":"[::1]","redirect_port":3261}"#,
        ),
        ("iscsi_enable_histogram", r#"{"name":"iqn.2026-11.io.example:disk1","enable":true}"#),
        ("iscsi_set_discovery_auth", r#"{"disable_chap":true}"#),
    ] {
        daemon.ok(method, params);
    }
}

/// What the daemon would save, and what it saves.
fn saved(daemon: &Managed) -> String {
    assert_eq!(daemon.ok("lunette_save_config", "{}"), true);
    std::fs::read_to_string(daemon.folder.path("config.json")).unwrap()
}

#[test]
fn what_is_saved_and_loaded_is_saved_again_byte_by_byte() {
    let daemon = Managed::waiting();
    fill(&daemon);
    let first = saved(&daemon);
    let mode = std::os::unix::fs::MetadataExt::mode(&daemon.folder.path("config.json").metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600, "there are secrets in it");
    let uuid = |daemon: &Managed| daemon.ok("bdev_get_bdevs", r#"{"name":"Malloc0"}"#)[0]["uuid"].clone();
    let uuid_before = uuid(&daemon);
    let folder = daemon.stop();

    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    assert_eq!(uuid(&daemon), uuid_before);
    assert_eq!(saved(&daemon), first);
    let whole: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(daemon.ok("lunette_get_config", "{}"), whole);
    // As SPDK's client puts it together.
    let one = |subsystem: Value| {
        let name = &subsystem["subsystem"];
        let params = json!({"name": name, "with_batches": false}).to_string();
        json!({"subsystem": name, "config": daemon.ok("framework_get_config", &params)})
    };
    let listed = daemon.ok("framework_get_subsystems", "{}");
    let together: Vec<Value> = listed.as_array().unwrap().iter().cloned().map(one).collect();
    assert_eq!(json!({"subsystems": together}), whole);
    assert_eq!(std::fs::read_dir(daemon.folder.path("")).unwrap().count(), 3);
}

#[test]
fn files_are_saved_where_they_are_wanted_or_not_at_all() {
    let daemon = Managed::start();
    let nowhere = daemon.folder.path("no/such/folder").display().to_string();
    let refused = daemon.refused("lunette_save_config", &json!({"filename": nowhere}).to_string());
    assert_eq!(refused, (-2, format!("No such file or directory: {nowhere}")));
    let relative = daemon.refused("lunette_save_config", r#"{"filename":"x.json"}"#);
    assert_eq!(relative.0, -32602);
    let there = daemon.folder.path("there.json");
    std::fs::write(&there, "old").unwrap();
    daemon.ok("lunette_save_config", &json!({"filename": there}).to_string());
    assert!(std::fs::read_to_string(there).unwrap().starts_with("{\n  \"subsystems\": ["));
}

#[test]
fn a_file_that_spdk_wrote_is_taken() {
    let call = |method: &str, params: Value| json!({"method": method, "params": params});
    let text = json!({"subsystems": [
        {"subsystem": "keyring", "config": []},
        {"subsystem": "accel", "config": [call("accel_set_options", json!({"small_cache_size": 128, "task_count": 2048}))]},
        {"subsystem": "iobuf", "config": [call("iobuf_set_options", json!({"small_pool_count": 8192}))]},
        {"subsystem": "sock", "config": [
            call("sock_set_default_impl", json!({"impl_name": "posix"})),
            call("sock_impl_set_options", json!({"impl_name": "posix", "recv_buf_size": 2_097_152})),
        ]},
        {"subsystem": "vmd", "config": null},
        {"subsystem": "bdev", "config": [
            call("bdev_set_options", json!({"bdev_io_pool_size": 65535, "bdev_auto_examine": true})),
            call("bdev_raid_set_options", json!({"process_window_size_kb": 1024})),
            call("bdev_nvme_set_options", json!({"action_on_timeout": "none", "timeout_us": 0})),
            call("bdev_nvme_set_hotplug", json!({"period_us": 100_000, "enable": false})),
            call("bdev_malloc_create", json!({"name": "Malloc0", "num_blocks": 2048, "block_size": 512,
                "physical_block_size": 512, "uuid": "f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
                "optimal_io_boundary": 0, "md_size": 0, "dif_type": 0, "dif_is_head_of_md": false, "dif_pi_format": 0})),
            json!({"method": "bdev_wait_for_examine"}),
        ]},
        {"subsystem": "scsi", "config": null},
        {"subsystem": "iscsi", "config": [
            call("iscsi_set_options", json!({"node_base": "iqn.2016-06.io.spdk", "max_sessions": 128,
                "max_connections_per_session": 2, "max_queue_depth": 64, "default_time2wait": 2,
                "default_time2retain": 20, "first_burst_length": 8192, "immediate_data": true,
                "allow_duplicated_isid": false, "error_recovery_level": 0, "nop_timeout": 60, "nop_in_interval": 30,
                "disable_chap": false, "require_chap": false, "mutual_chap": false, "chap_group": 0,
                "max_large_datain_per_connection": 64, "max_r2t_per_connection": 4, "pdu_pool_size": 36864,
                "immediate_data_pool_size": 16384, "data_out_pool_size": 2048})),
            call("iscsi_create_portal_group",
                json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0"}], "private": false})),
            call("iscsi_create_initiator_group", json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]})),
            call("iscsi_create_target_node", json!({"name": "iqn.2016-06.io.spdk:disk1", "alias_name": "d1",
                "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": [{"bdev_name": "Malloc0", "lun_id": 0}],
                "queue_depth": 64, "disable_chap": true, "require_chap": false, "mutual_chap": false, "chap_group": 0,
                "header_digest": false, "data_digest": false})),
        ]},
        {"subsystem": "scheduler", "config": [call("framework_set_scheduler", json!({"name": "static"}))]},
    ]});
    let daemon = Managed::try_start(Folder::new(), Some(Plan::parse(&text.to_string()).unwrap())).unwrap();
    assert_eq!(
        daemon.ok("iscsi_get_target_nodes", "{}")[0]["luns"],
        json!([{"bdev_name": "Malloc0", "lun_id": 0}])
    );
    let options = daemon.ok("iscsi_get_options", "{}");
    for (name, expected) in [
        ("max_sessions", 128),
        ("default_time2retain", 20),
        ("first_burst_length", 8192),
        ("nop_in_interval", 30),
        ("nop_timeout", 60),
    ] {
        assert_eq!(options[name], expected, "{name}");
    }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_call_that_fails_is_named_and_nobody_was_served() {
    let port = port();
    let text = json!({"subsystems": [
        {"subsystem": "bdev", "config": [
            {"method": "bdev_null_create", "params": {"name": "N0", "num_blocks": 8, "block_size": 512}},
        ]},
        {"subsystem": "iscsi", "config": [
            {"method": "iscsi_create_portal_group",
             "params": {"tag": 1, "portals": [{"host": "127.0.0.1", "port": port.to_string()}]}},
            {"method": "iscsi_create_target_node",
             "params": {"name": "d", "alias_name": "", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
                        "luns": [{"bdev_name": "N0", "lun_id": 0}], "queue_depth": 1}},
        ]},
    ]});
    let plan = Plan::parse(&text.to_string()).unwrap();
    let error = Managed::try_start(Folder::new(), Some(plan)).unwrap_err();
    assert_eq!(
        error,
        "subsystem iscsi, call 2: iscsi_create_target_node: Invalid parameters: there is no initiator group 1"
    );
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// `lunette` with these arguments, its standard input a text.
pub(super) fn lunette(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    let command = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_command_prints_results_and_says_why_there_is_none() {
    let daemon = Managed::start();
    let socket = daemon.socket().display().to_string();
    let rpc = |args: &[&str], input: &str| lunette(&[&["rpc", "-s", &socket], args].concat(), input);

    let made = rpc(&["bdev_null_create", r#"{"name":"N0","num_blocks":8,"block_size":512}"#], "");
    assert_eq!((made.status.code(), text(&made.stdout), text(&made.stderr)), (Some(0), "N0\n", ""));
    let made = rpc(&["bdev_null_create", "-"], "{\"name\":\"N1\",\n\"num_blocks\":8,\"block_size\":512}\n");
    assert_eq!((made.status.code(), text(&made.stdout)), (Some(0), "N1\n"));
    let listed = rpc(&["iscsi_get_stats"], "");
    let expected = "{\n  \"invalid\": 0,\n  \"running\": 0,\n  \"exiting\": 0,\n  \"exited\": 0\n}\n";
    assert_eq!((listed.status.code(), text(&listed.stdout)), (Some(0), expected));

    let refused = rpc(&["bdev_null_delete", r#"{"name":"N2"}"#], "");
    let why = "lunette: bdev_null_delete: No such device: there is no bdev N2 (code -19)\n";
    assert_eq!((refused.status.code(), text(&refused.stdout), text(&refused.stderr)), (Some(1), "", why));
    let wrong = rpc(&["bdev_null_delete", "{name}"], "");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).starts_with("lunette: the parameters are to be a JSON object"));

    drop(daemon.stop());
    let nobody = rpc(&["rpc_get_methods"], "");
    assert_eq!(nobody.status.code(), Some(3));
    assert!(text(&nobody.stderr).contains("no daemon has made this socket: start one with"));
}

#[test]
fn serve_refuses_a_wrong_file_before_anything_else() {
    let folder = Folder::new();
    let file = folder.path("config.json").display().to_string();
    let socket = folder.path("rpc.sock").display().to_string();
    let call =
        json!({"method": "bdev_null_create", "params": {"name": "N0", "num_blcks": 8, "block_size": 512}});
    let config = json!({"subsystems": [{"subsystem": "bdev", "config": [call]}]});
    std::fs::write(&file, config.to_string()).unwrap();
    let refused = lunette(&["serve", "-c", &file, "-r", &socket], "");
    assert_eq!(refused.status.code(), Some(1));
    let begin = format!(
        "lunette: {file}: subsystem bdev, call 1: bdev_null_create: Invalid parameters: there is no parameter \
         \"num_blcks\"; there are name, num_blocks"
    );
    assert!(text(&refused.stderr).starts_with(&begin), "{}", text(&refused.stderr));
    assert!(!folder.path("rpc.sock").exists());
}

/// What SPDK's iscsi_tgt saved (26.05), with splits and a passthru bdev before what they are made of.
#[test]
fn a_configuration_that_spdk_saved_is_loaded_unchanged() {
    let folder = Folder::new();
    std::fs::write(folder.path("disk.img"), vec![0; 4 << 20]).unwrap();
    let text = include_str!("../../fixtures/spdk/iscsi_tgt.json");
    let text = text.replace("FOLDER", folder.path("").to_str().unwrap().trim_end_matches('/'));
    let daemon = Managed::try_start(folder, Some(Plan::parse(&text).unwrap())).unwrap();
    let bdevs = daemon.ok("bdev_get_bdevs", "{}");
    let mut shown: Vec<String> = bdevs
        .as_array()
        .unwrap()
        .iter()
        .map(|bdev| {
            format!("{} {} {}", bdev["name"], bdev["product_name"], bdev["num_blocks"]).replace('"', "")
        })
        .collect();
    shown.sort_unstable();
    assert_eq!(
        shown,
        [
            "M0 Malloc disk 16384",
            "M0p0 Split Disk 8192",
            "M0p1 Split Disk 8192",
            "Null0 Null disk 32768",
            "Null1 Null disk 32768",
            "P0 passthru 8192",
            "R0 Raid Volume 65536",
            "aio0 AIO disk 8192",
        ]
    );
    let target = &daemon.ok("iscsi_get_target_nodes", "{}")[0];
    assert_eq!(
        target["luns"],
        json!([{"bdev_name": "M0p0", "lun_id": 0}, {"bdev_name": "R0", "lun_id": 1}, {"bdev_name": "P0", "lun_id": 2}])
    );
    // What it saves itself is in the order that it needs.
    let first = saved(&daemon);
    let folder = daemon.stop();
    let again = Managed::try_start(folder, Some(Plan::parse(&first).unwrap())).unwrap();
    assert_eq!(saved(&again), first);
    // What never comes is named.
    let orphan = r#"{"subsystems":[{"subsystem":"bdev","config":[
        {"method":"bdev_passthru_create","params":{"name":"P","base_bdev_name":"N"}},
        {"method":"bdev_wait_for_examine"}]}]}"#;
    let error = Managed::try_start(Folder::new(), Some(Plan::parse(orphan).unwrap())).unwrap_err();
    assert_eq!(error, "subsystem bdev, call 1: bdev_passthru_create: No such device: there is no bdev N");
}
