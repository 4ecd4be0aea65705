//! What two programs that drive SPDK send, as they send it: spdk-csi where it publishes a volume over iSCSI, and longhorn's
//! go-spdk-helper where it makes a disk of a file. Both keep their volumes in lvol stores, which lunette does not have: here a RAM
//! disk stands for the volume.

use lunette_initiator::{Client, Config};
use serde_json::{Value, json};

use super::daemon::Managed;

/// One request and its answer on one connection, as Go's encoder writes it.
fn exchange(daemon: &Managed, request: &str) -> Value {
    let mut wire = daemon.connect();
    wire.send(request);
    wire.send("\n");
    serde_json::from_str(&wire.line()).unwrap()
}

#[test]
fn spdk_csi_publishes_and_takes_back() {
    let daemon = Managed::start();
    let volume = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
    daemon.ok(
        "bdev_malloc_create",
        &json!({"name": volume, "num_blocks": 2048, "block_size": 512}).to_string(),
    );
    let result = |id: u32, method: &str, params: &str| {
        let request = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"{params}}}"#);
        let answer = exchange(&daemon, &request);
        assert_eq!(
            (&answer["jsonrpc"], &answer["id"], answer.get("error")),
            (&json!("2.0"), &json!(id), None)
        );
        answer["result"].clone()
    };
    // Nothing is there: it makes both groups.
    assert_eq!(result(1, "iscsi_get_portal_groups", ""), json!([]));
    let portals = r#","params":{"portals":[{"host":"127.0.0.1","port":"0"}],"tag":1}"#;
    assert_eq!(result(2, "iscsi_create_portal_group", portals), true);
    assert_eq!(result(3, "iscsi_get_initiator_groups", ""), json!([]));
    let initiators = r#","params":{"initiators":["ANY"],"tag":1,"netmasks":["ANY"]}"#;
    assert_eq!(result(4, "iscsi_create_initiator_group", initiators), true);
    let target = format!(
        r#","params":{{"luns":[{{"lun_id":0,"bdev_name":"{volume}"}}],"name":"{volume}","alias_name":"iscsi-{volume}",
            "pg_ig_maps":[{{"ig_tag":1,"pg_tag":1}}],"disable_chap":true,"queue_depth":64}}"#
    );
    assert_eq!(result(5, "iscsi_create_target_node", &target), true);
    // The second volume finds the groups.
    let groups = result(6, "iscsi_get_portal_groups", "");
    assert_eq!(
        (&groups[0]["tag"], &result(7, "iscsi_get_initiator_groups", "")[0]["tag"]),
        (&json!(1), &json!(1))
    );
    let port = groups[0]["portals"][0]["port"].as_str().unwrap();
    let name = format!("iqn.2016-06.io.spdk:{volume}");
    Client::connect(format!("127.0.0.1:{port}"), Config::new("iqn.2026-11.io.example:node", &name)).unwrap();
    assert_eq!(result(8, "iscsi_delete_target_node", &format!(r#","params":{{"name":"{name}"}}"#)), true);
    assert_eq!(result(9, "iscsi_get_target_nodes", ""), json!([]));
}

#[test]
fn longhorn_makes_a_disk_of_a_file() {
    let daemon = Managed::start();
    let file = daemon.folder.path("disk.img");
    std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    let request = |id: u32, method: &str, params: Value| {
        let message = json!({"id": id, "jsonrpc": "2.0", "method": method, "params": params});
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        serde::Serialize::serialize(&message, &mut serde_json::Serializer::with_formatter(&mut text, tabs))
            .unwrap();
        exchange(&daemon, &String::from_utf8(text).unwrap())
    };
    let create = json!({"name": "disk-1", "filename": file, "block_size": 4096});
    assert_eq!(
        request(8123, "bdev_aio_create", create.clone()),
        json!({"jsonrpc": "2.0", "id": 8123, "result": "disk-1"})
    );
    assert_eq!(request(8124, "bdev_aio_create", create)["error"]["code"], -17);
    // What has no member is sent as null.
    let all = request(8125, "bdev_get_bdevs", Value::Null);
    let bdev = &all["result"][0];
    assert_eq!(
        (&bdev["name"], &bdev["product_name"], &bdev["num_blocks"]),
        (&json!("disk-1"), &json!("AIO disk"), &json!(256))
    );
    assert_eq!(bdev["driver_specific"]["aio"]["filename"], json!(file));
    assert_eq!(request(8126, "bdev_get_bdevs", json!({"name": "disk-2"}))["error"]["code"], -19);
    assert_eq!(request(8127, "bdev_aio_delete", json!({"name": "disk-1"}))["result"], true);
}
