//! Limits by RPC: shown, kept, changed while sessions run, and felt by an initiator.

use std::time::{Duration, Instant};

use lunette::rpc::config::Plan;
use lunette_initiator::{Client, Config};
use serde_json::{Value, json};

use super::config::lunette;
use super::daemon::{Managed, two_groups};
use crate::harness::{read, test_unit_ready, write};

const INITIATOR: &str = "iqn.2026-11.io.example:a";

fn login(portal: &str) -> Client {
    let mut client = Client::connect(portal, Config::new(INITIATOR, "iqn.2016-06.io.spdk:t")).unwrap();
    client.run(test_unit_ready(0)).unwrap();
    client
}

fn shown(daemon: &Managed) -> Value {
    daemon.ok("bdev_get_bdevs", r#"{"name":"M0"}"#)[0]["assigned_rate_limits"].clone()
}

fn calls(daemon: &Managed, method: &str) -> Vec<Value> {
    let whole = daemon.ok("lunette_get_config", "{}");
    let subsystems = whole["subsystems"].as_array().unwrap();
    let calls = subsystems.iter().flat_map(|subsystem| subsystem["config"].as_array().unwrap());
    calls.filter(|call| call["method"] == method).map(|call| call["params"].clone()).collect()
}

/// How long so many READs take, one after the other.
fn time(client: &mut Client, count: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..count {
        assert!(client.run(read(0, 8)).unwrap().is_good());
    }
    start.elapsed()
}

#[test]
fn limits_are_shown_merged_and_kept() {
    let daemon = Managed::start();
    two_groups(&daemon, false);
    let none = json!({"rw_ios_per_sec":0,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":0,"w_mbytes_per_sec":0});
    assert_eq!(shown(&daemon), none);
    let set = |params: &str| daemon.ok("bdev_set_qos_limit", params);
    assert_eq!(set(r#"{"name":"M0","rw_ios_per_sec":20000,"w_mbytes_per_sec":7}"#), true);
    set(r#"{"name":"M0","r_mbytes_per_sec":100,"w_mbytes_per_sec":0}"#);
    let limits =
        json!({"rw_ios_per_sec":20000,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":100,"w_mbytes_per_sec":0});
    assert_eq!(shown(&daemon), limits);
    set(r#"{"name":"M0","burst_ms":50,"guaranteed_mbytes_per_sec":3}"#);
    let bdev = &daemon.ok("bdev_get_bdevs", r#"{"name":"M0"}"#)[0];
    assert_eq!(bdev["lunette_qos"], json!({"guaranteed_mbytes_per_sec":3,"burst_ms":50}));
    daemon.ok(
        "lunette_initiator_set_qos_limit",
        r#"{"initiator":"iqn.*:Web-?","rw_ios_per_sec":100,"guaranteed_ios_per_sec":5}"#,
    );
    let rule = json!([{"initiator":"iqn.*:web-?","rw_ios_per_sec":100,"rw_mbytes_per_sec":0,
        "r_mbytes_per_sec":0,"w_mbytes_per_sec":0,"guaranteed_ios_per_sec":5}]);
    assert_eq!(daemon.ok("lunette_get_initiator_qos_limits", "{}"), rule);
    let output = lunette(&["status", "-s", &daemon.socket().display().to_string()], "").stdout;
    let status = String::from_utf8(output).unwrap();
    for line in [
        "\nM0           20000 IO/s, 100 MB/s read, 3 MB/s guaranteed\n",
        "\niqn.*:web-?  100 IO/s, 5 IO/s guaranteed\n",
    ] {
        assert!(status.contains(line), "{line:?} in {status}");
    }

    let saved = daemon.ok("lunette_get_config", "{}");
    let folder = daemon.stop();
    let daemon = Managed::try_start(folder, Some(Plan::parse(&saved.to_string()).unwrap())).unwrap();
    assert_eq!(daemon.ok("lunette_get_config", "{}"), saved);
    assert_eq!(shown(&daemon), limits);
    assert_eq!(daemon.ok("lunette_get_initiator_qos_limits", "{}"), rule);

    // What has no limits is not in the file.
    let none = r#"{"name":"M0","rw_ios_per_sec":0,"r_mbytes_per_sec":0,"guaranteed_mbytes_per_sec":0}"#;
    daemon.ok("bdev_set_qos_limit", none);
    daemon.ok("lunette_initiator_set_qos_limit", r#"{"initiator":"IQN.*:web-?"}"#);
    assert_eq!(calls(&daemon, "bdev_set_qos_limit"), Vec::<Value>::new());
    assert_eq!(calls(&daemon, "lunette_initiator_set_qos_limit"), Vec::<Value>::new());
}

#[test]
fn limits_go_with_their_bdev_which_is_told() {
    let daemon = Managed::start();
    let create = r#"{"name":"M7","num_blocks":8,"block_size":512}"#;
    let delete = || {
        daemon.ok("bdev_malloc_delete", r#"{"name":"M7"}"#);
        let told = daemon.ok("lunette_get_events", r#"{"kinds":["bdev_unregistered"]}"#);
        told["events"].as_array().unwrap().last().unwrap()["limits"].clone()
    };
    daemon.ok("bdev_malloc_create", create);
    daemon.ok("bdev_set_qos_limit", r#"{"name":"M7","rw_ios_per_sec":50,"w_mbytes_per_sec":7}"#);
    assert_eq!(delete(), "50 IO/s, 7 MB/s written");
    daemon.ok("bdev_malloc_create", create);
    assert_eq!((calls(&daemon, "bdev_set_qos_limit"), delete()), (vec![], Value::Null));
}

#[test]
fn limits_that_are_none_are_refused() {
    let daemon = Managed::start();
    two_groups(&daemon, false);
    let bdev = |params: &str| daemon.refused("bdev_set_qos_limit", params);
    assert_eq!(
        bdev(r#"{"name":"M7","rw_ios_per_sec":1}"#),
        (-19, "No such device: there is no bdev M7".to_owned())
    );
    assert_eq!(bdev(r#"{"name":"M0"}"#), (-22, "No rate limits specified".to_owned()));
    assert_eq!(
        bdev(r#"{"name":"M0","rw_ios_per_sec":1,"burst_ms":0}"#),
        (-32602, "Invalid parameters: burst_ms: it is 1 to 10000".to_owned())
    );
    assert_eq!(bdev(r#"{"name":"M0","rw_ios_per_sec":-1}"#).0, -32602);
    let initiator = |params: &str| daemon.refused("lunette_initiator_set_qos_limit", params).0;
    assert_eq!(initiator(r#"{"initiator":"a b","rw_ios_per_sec":1}"#), -32602);
    assert_eq!(initiator(r#"{"initiator":"*","burst_ms":10001}"#), -32602);
}

#[test]
fn an_initiator_feels_limits_while_they_are_there() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let mut client = login(&portal);
    // One from the burst, one at once, the others 20 ms apart.
    let slow = |time: Duration| time >= Duration::from_millis(300);
    daemon.ok("bdev_set_qos_limit", r#"{"name":"M0","rw_ios_per_sec":50}"#);
    let taken = time(&mut client, 20);
    assert!(slow(taken), "{taken:?}");
    // 128 KiB each, at 1 MiB a second.
    daemon.ok("bdev_set_qos_limit", r#"{"name":"M0","rw_ios_per_sec":0}"#);
    daemon.ok("lunette_initiator_set_qos_limit", r#"{"initiator":"*:a","w_mbytes_per_sec":1,"burst_ms":1}"#);
    // All of them, as one alone may have waited while this thread was away: 125 ms each, but for one or two.
    let start = Instant::now();
    for _ in 0..5 {
        assert!(client.run(write(0, 0, 256)).unwrap().is_good());
    }
    let taken = start.elapsed();
    assert!(slow(taken), "{taken:?}");
    daemon.ok("lunette_initiator_set_qos_limit", r#"{"initiator":"*:a"}"#);
    daemon.ok("lunette_initiator_set_qos_limit", r#"{"initiator":"*:A","rw_ios_per_sec":50}"#);
    let taken = time(&mut client, 20);
    assert!(slow(taken), "{taken:?}");
}

#[test]
fn limits_are_applied_and_taken_back_with_a_configuration() {
    let daemon = Managed::start();
    two_groups(&daemon, false);
    let before = daemon.ok("lunette_get_config", "{}");
    daemon.ok("bdev_set_qos_limit", r#"{"name":"M0","rw_ios_per_sec":50,"burst_ms":100}"#);
    daemon.ok("lunette_initiator_set_qos_limit", r#"{"initiator":"*","rw_mbytes_per_sec":1}"#);
    let after = daemon.ok("lunette_get_config", "{}");
    // What a file does not say is not so, even if the call alone would leave it as it is.
    let by_hand = r#"{"name":"M0","w_mbytes_per_sec":7}"#;
    let other = after.to_string().replace(&calls(&daemon, "bdev_set_qos_limit")[0].to_string(), by_hand);
    let other: Value = serde_json::from_str(&other).unwrap();
    daemon.ok("bdev_set_qos_limit", r#"{"name":"M0","rw_ios_per_sec":0,"burst_ms":10,"w_mbytes_per_sec":7}"#);
    let expected = daemon.ok("lunette_get_config", "{}");
    daemon.ok(
        "bdev_set_qos_limit",
        r#"{"name":"M0","rw_ios_per_sec":50,"burst_ms":100,"guaranteed_ios_per_sec":3}"#,
    );
    for (wanted, found) in [(&other, &expected), (&before, &before), (&after, &after)] {
        let file = daemon.folder.path("wanted.json");
        std::fs::write(&file, wanted.to_string()).unwrap();
        daemon.ok("lunette_apply_config", &json!({ "filename": file }).to_string());
        assert_eq!(&daemon.ok("lunette_get_config", "{}"), found);
    }
}
