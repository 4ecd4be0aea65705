//! Devices that are missing at the start: what is made of them is there, not ready, saved as it was, and comes up by itself.

use std::net::TcpListener;

use lunette::rpc::config::Plan;
use serde_json::{Value, json};

use super::daemon::{Folder, Managed};
use crate::harness::until;

/// A file with these disks, each behind a LUN of the target `t`.
fn file(disks: &[Value], names: &[&str]) -> String {
    let luns: Vec<Value> =
        names.iter().enumerate().map(|(number, name)| json!({"bdev_name": name, "lun_id": number})).collect();
    let target = json!({"method": "iscsi_create_target_node", "params": {
        "name": "t", "alias_name": "", "pg_ig_maps": [], "queue_depth": 1, "luns": luns}});
    json!({"subsystems": [{"subsystem": "bdev", "config": disks}, {"subsystem": "iscsi", "config": [target]}]}).to_string()
}

fn start(text: &str) -> Managed {
    Managed::try_start(Folder::new(), Some(Plan::parse(text).unwrap())).unwrap()
}

fn blocks(daemon: &Managed, name: &str) -> u64 {
    daemon.ok("bdev_get_bdevs", &json!({"name": name}).to_string())[0]["num_blocks"].as_u64().unwrap()
}

/// What is saved makes the same again.
fn assert_is_kept(daemon: Managed, names: &[&str]) {
    let saved = daemon.ok("lunette_get_config", "{}");
    drop(daemon);
    let daemon = start(&saved.to_string());
    assert_eq!(daemon.ok("lunette_get_config", "{}"), saved);
    names.iter().for_each(|name| assert_eq!(blocks(&daemon, name), 0, "{name}"));
}

#[test]
fn nvme_controllers_may_be_missing() {
    // Nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let attach = |params: Value| json!({"method": "bdev_nvme_attach_controller", "params": params});
    let over_tcp = json!({"name": "T", "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": port.to_string(),
        "subnqn": "nqn.2026-11.io.example:disk",
        "lunette_namespaces": [{"nsid": 7, "uuid": "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "block_size": 4096}]});
    // A file of SPDK's says nothing of namespaces.
    let on_bus = json!({"name": "P", "trtype": "PCIe", "traddr": "ffff:ff:1f.7"});
    let names = ["Tn7", "Pn1"];
    let daemon = start(&file(&[attach(over_tcp.clone()), attach(on_bus.clone())], &names));
    let described = daemon.ok("bdev_get_bdevs", r#"{"name":"Tn7"}"#);
    assert_eq!(
        (&described[0]["num_blocks"], &described[0]["block_size"], &described[0]["uuid"]),
        (&json!(0), &json!(4096), &json!("f81d4fae-7dec-41d0-a765-00a0c91e6bf6"))
    );
    let controllers = daemon.ok("bdev_nvme_get_controllers", "{}");
    assert_eq!(
        (&controllers[0]["name"], &controllers[0]["ctrlrs"][0]["state"]),
        (&json!("P"), &json!("failed"))
    );
    // Only while a file is loaded.
    let params = json!({"name": "X", "trtype": "PCIe", "traddr": "ffff:ff:1f.6"}).to_string();
    assert_eq!(daemon.refused("bdev_nvme_attach_controller", &params).0, -19);
    daemon.ok("bdev_set_qos_limit", r#"{"name":"Tn7","rw_ios_per_sec":500}"#);
    assert_is_kept(daemon, &names);
}

#[test]
fn a_missing_disc_is_put_in_when_it_is_there() {
    let folder = Folder::new();
    let image = folder.path("disc.iso");
    let drive = json!({"method": "lunette_cdrom_create", "params": {"name": "cd", "filename": image}});
    let daemon = start(&file(&[drive], &["cd"]));
    assert_eq!(blocks(&daemon, "cd"), 0);
    let saved = daemon.ok("lunette_get_config", "{}");
    std::fs::write(&image, vec![0; 20 * 2048]).unwrap();
    until("the disc is there", || blocks(&daemon, "cd") == 20);
    assert_eq!(daemon.ok("lunette_get_config", "{}"), saved);
}
