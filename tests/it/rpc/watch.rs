//! What goes on, by RPC: recordings, commands in flight, slow ones, events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lunette::rpc::config::Plan;
use lunette_initiator::session::Tmf;
use lunette_initiator::{Client, Config};
use serde_json::{Value, json};

use super::daemon::{Folder, Managed, addresses};
use crate::harness::read;

const TARGET: &str = "iqn.2016-06.io.spdk:t";
/// How long a disk takes for each READ, in microseconds.
const DELAY_US: u64 = 40_000;
/// So long that a command is in flight whenever it is looked at.
const LONG_US: u64 = 4_000_000;

/// A disk that takes its time, and an initiator that is logged in to it.
fn build(daemon: &Managed, delay_us: u64) -> Client {
    let slow = format!(
        r#"{{"base_bdev_name":"M0","name":"D0","avg_read_latency":{delay_us},"p99_read_latency":{delay_us},
            "avg_write_latency":1,"p99_write_latency":1}}"#
    );
    for (method, params) in [
        ("bdev_malloc_create", r#"{"name":"M0","num_blocks":2048,"block_size":512}"#),
        ("bdev_delay_create", &slow),
        ("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#),
        ("iscsi_create_portal_group", r#"{"tag":2,"portals":[{"host":"127.0.0.1","port":"0"}]}"#),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],
                "luns":[{"bdev_name":"D0"}],"queue_depth":64}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    let [portal, _] = addresses(daemon);
    let mut client = Client::connect(&portal, Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    // Told that power is on.
    client.capacity().unwrap();
    client
}

/// The session's number.
fn session(daemon: &Managed) -> u64 {
    daemon.ok("iscsi_get_connections", "{}")[0]["session"].as_u64().unwrap()
}

/// The headers in a pcapng file of one connection whose ends have IPv4 addresses: whether it came from the initiator, and the PDU's
/// first 48 bytes.
fn headers(file: &[u8]) -> Vec<(bool, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut at, mut found) = (0, Vec::new());
    while at < file.len() {
        let bytes = word(at + 4) as usize;
        assert_eq!(word(at + bytes - 4) as usize, bytes, "a block's length stands at both ends");
        if word(at) == 6 {
            let captured = word(at + 20) as usize;
            let packet = &file[at + 28..at + 28 + captured];
            // Ethernet, IPv4 and TCP headers are before it.
            if captured == 54 + 48 {
                let padded = captured.next_multiple_of(4);
                found.push((word(at + 28 + padded + 4) == 1, packet[54..].to_vec()));
            }
        }
        at += bytes;
    }
    found
}

#[test]
fn a_recording_is_what_was_exchanged() {
    let daemon = Managed::start();
    let mut client = build(&daemon, 1);
    client.read(9, 8).unwrap();
    let dump = daemon.ok("lunette_dump_recorder", &format!(r#"{{"session":{}}}"#, session(&daemon)));
    let file = STANDARD.decode(dump["pcapng"].as_str().unwrap()).unwrap();
    let headers = headers(&file);
    assert_eq!(dump["pdus"], headers.len());
    let [.., (is_request, request), (is_other, answer)] = &headers[..] else { panic!("{headers:?}") };
    assert!(*is_request && !*is_other);
    // A READ (16) of 8 blocks at 9, and its data with status.
    assert_eq!((request[0] & 0x3f, answer[0]), (0x01, 0x25));
    assert_eq!(request[32..46], [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8]);
    assert_eq!((&answer[1..2], &answer[4..8]), (&[0x81][..], &[0, 0, 0x10, 0][..]));
    assert_eq!(request[16..20], answer[16..20], "both have the same initiator task tag");

    let path = daemon.folder.path("all.pcapng");
    let params = json!({ "file": path }).to_string();
    assert_eq!(daemon.ok("lunette_dump_recorder", &params)["connections"], 1);
    let written = std::fs::read(&path).unwrap();
    assert_eq!(self::headers(&written), headers);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    for (params, words) in [
        (params.as_str(), "File exists"),
        ("{}", "it is to be given, or a session"),
        (r#"{"file":"x"}"#, "from the root on"),
        (r#"{"session":999999}"#, "there is no 999999"),
    ] {
        let (code, text) = daemon.refused("lunette_dump_recorder", params);
        assert!(code == -32602 && text.contains(words), "{params}: {text}");
    }
}

#[test]
fn a_command_in_flight_says_what_it_waits_for() {
    let daemon = Managed::start();
    let mut client = build(&daemon, LONG_US);
    assert_eq!(daemon.ok("lunette_get_commands", "{}"), json!({"commands": [], "left_out": 0}));
    let itt = client.session().command(read(7, 8)).unwrap();
    // By now the command has come, as what is sent later is answered; the disk keeps it.
    client.ping(b"").unwrap();
    let told = daemon.ok("lunette_get_commands", "{}");
    let command = &told["commands"][0];
    for (name, expected) in [
        ("initiator", json!("iqn.2026-11.io.example:a")),
        ("target", json!(TARGET)),
        ("lun", json!(0)),
        ("bdev", json!("D0")),
        ("itt", json!(itt)),
        ("command", json!("READ(16)")),
        ("lba", json!(7)),
        ("blocks", json!(8)),
        ("bytes", json!(4096)),
        ("waits_for", json!("device")),
        ("device_ios", json!(1)),
    ] {
        assert_eq!(command[name], expected, "{told}");
    }
    assert_eq!(daemon.ok("lunette_get_commands", r#"{"older_than_ms":3600000}"#)["commands"], json!([]));
    assert_eq!(daemon.ok("lunette_get_commands", r#"{"session":999999}"#)["commands"], json!([]));
    client.completion(itt).unwrap();
    assert_eq!(daemon.ok("lunette_get_commands", "{}")["commands"], json!([]));
}

/// Waits for the first event of a kind after number `after`.
fn event(daemon: &Managed, kind: &str, after: u64) -> Value {
    let mut after = after;
    loop {
        let params = format!(r#"{{"after":{after},"wait_ms":10000,"kinds":["{kind}"]}}"#);
        let told = daemon.ok("lunette_get_events", &params);
        if let Some(event) = told["events"].get(0) {
            return event.clone();
        }
        let upto = told["upto"].as_u64().unwrap();
        assert!(upto > after, "no {kind} came");
        after = upto;
    }
}

#[test]
fn a_slow_command_is_told_with_the_stage_of_its_time() {
    let daemon = Managed::keeping(Folder::new(), Plan::default());
    let mut client = build(&daemon, DELAY_US);
    client.read(0, 8).unwrap();
    assert_eq!(daemon.ok("lunette_slow_io_set_options", r#"{"threshold_ms":20}"#), true);
    assert_eq!(daemon.ok("lunette_slow_io_get_options", "{}"), json!({"threshold_ms": 20}));
    client.read(3, 2).unwrap();
    let event = event(&daemon, "slow_io", 0);
    for (name, expected) in [
        ("initiator", json!("iqn.2026-11.io.example:a")),
        ("target", json!(TARGET)),
        ("lun", json!(0)),
        ("bdev", json!("D0")),
        ("command", json!("READ(16)")),
        ("lba", json!(3)),
        ("blocks", json!(2)),
        ("bytes", json!(1024)),
        ("status", json!(0)),
        ("untold", json!(0)),
    ] {
        assert_eq!(event[name], expected, "{event}");
    }
    let us = |name: &str| event[name].as_u64().unwrap();
    assert!(us("device_us") >= DELAY_US, "{event}");
    let stages = ["queue_us", "receive_us", "device_us", "send_us"].map(us);
    assert!(us("us").abs_diff(stages.iter().sum()) < 4, "{event}");
    let saved = std::fs::read_to_string(daemon.folder.path("config.json")).unwrap();
    assert!(saved.contains("lunette_slow_io_set_options"));
    assert_eq!(daemon.ok("lunette_slow_io_set_options", r#"{"threshold_ms":0}"#), true);
    assert_eq!(daemon.ok("lunette_slow_io_get_options", "{}"), json!({"threshold_ms": 0}));
}

#[test]
fn an_abort_leaves_a_recording_behind() {
    let daemon = Managed::start();
    let mut client = build(&daemon, LONG_US);
    let folder = daemon.folder.path("recordings");
    std::fs::create_dir(&folder).unwrap();
    let params = json!({ "directory": folder, "files_max": 2 }).to_string();
    assert_eq!(daemon.ok("lunette_recorder_set_options", &params), true);
    let itt = client.session().command(read(0, 8)).unwrap();
    client.ping(b"").unwrap();
    assert_eq!(client.task_management(Tmf::abort(0, itt)).unwrap(), 0);
    let told = event(&daemon, "recorded", 0);
    assert_eq!(told["why"], "the initiator asked for AbortTask");
    let deadline = std::time::Instant::now() + crate::harness::SOON;
    let file = loop {
        // Whole when it has the length that its blocks say.
        let found = std::fs::read_dir(&folder).unwrap().next().map(|entry| entry.unwrap().path());
        if let Some(bytes) = found.and_then(|path| std::fs::read(path).ok()).filter(|bytes| !bytes.is_empty())
        {
            break bytes;
        }
        assert!(std::time::Instant::now() < deadline, "no file came");
        std::thread::yield_now();
    };
    let (is_request, last) = headers(&file).pop().unwrap();
    // The request for the abort itself, which names the command.
    assert!(is_request && last[0] & 0x3f == 0x02, "{last:?}");
    assert_eq!(last[20..24], itt.to_be_bytes());
    for (params, words) in [
        (r#"{"directory":"x"}"#, "from the root on"),
        (r#"{"directory":"/proc/none"}"#, "/proc/none"),
        (r#"{"directory":"/","files_max":0}"#, "files_max"),
    ] {
        let (code, text) = daemon.refused("lunette_recorder_set_options", params);
        assert!(code == -32602 && text.contains(words), "{params}: {text}");
    }
    assert_eq!(daemon.ok("lunette_recorder_set_options", "{}"), true);
}

#[test]
fn who_subscribes_is_told_what_happens() {
    let daemon = Managed::start();
    let mut all = daemon.connect();
    let last = daemon.ok("lunette_get_events", "{}")["upto"].as_u64().unwrap();
    assert_eq!(all.call("lunette_subscribe", "{}").unwrap(), json!({"after": last, "kinds": null}));
    let mut some = daemon.connect();
    some.call("lunette_subscribe", r#"{"after":0,"kinds":["session_up","lun_added"]}"#).unwrap();
    let mut client = build(&daemon, 1);
    let told: Value = serde_json::from_str(&all.line()).unwrap();
    assert_eq!(
        (&told["jsonrpc"], &told["method"], told.get("id")),
        (&json!("2.0"), &json!("lunette_event"), None)
    );
    assert_eq!((&told["params"]["kind"], &told["params"]["bdev"]), (&json!("bdev_registered"), &json!("M0")));
    assert_eq!(told["params"]["number"], last + 1);
    let told: Value = serde_json::from_str(&some.line()).unwrap();
    assert_eq!(told["params"]["kind"], "session_up");
    assert_eq!(told["params"]["initiator"], "iqn.2026-11.io.example:a");
    client.logout().unwrap();
    let (code, text) = daemon.refused("lunette_subscribe", r#"{"kinds":["nonsense"]}"#);
    assert!(code == -32602 && text.contains("lunette_get_event_kinds"), "{text}");
    let ended = event(&daemon, "session_down", last);
    assert_eq!(ended["cause"], "LoggedOut");
}
