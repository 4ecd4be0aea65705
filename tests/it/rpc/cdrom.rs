//! CD-ROM drives: an image is read through one, and changed for another, while an initiator has locked it and then not.

use std::net::SocketAddr;
use std::path::Path;

use lunette::rpc::config::Plan;
use lunette_initiator::{Client, Command, Config, Data};
use serde_json::json;

use super::daemon::Managed;
use crate::harness::{pattern, sense, test_unit_ready};

const TARGET: &str = "iqn.2026-11.io.example:cd";

/// An image of so many blocks.
fn image(path: &Path, seed: u32, blocks: u32) {
    std::fs::write(path, pattern(seed, 0, blocks, 2048)).unwrap();
}

fn serve(daemon: &Managed) -> Client {
    daemon.ok("iscsi_create_portal_group", r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0"}]}"#);
    daemon.ok("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#);
    let target = json!({"name": TARGET, "alias_name": "", "queue_depth": 8, "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
        "luns": [{"bdev_name": "cd", "lun_id": 0}]});
    daemon.ok("iscsi_create_target_node", &target.to_string());
    let port = daemon.ok("iscsi_get_portal_groups", "{}")[0]["portals"][0]["port"].clone();
    let port: u16 = port.as_str().unwrap().parse().unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut client = Client::connect(address, Config::new("iqn.2026-11.io.example:host", TARGET)).unwrap();
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x00));
    client
}

fn ask(client: &mut Client, bytes: &[u8], length: u32) -> Vec<u8> {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    let done = client.run(Command::read(0, cdb, length)).unwrap();
    assert!(done.is_good(), "{done:?}");
    done.data
}

fn run(client: &mut Client, bytes: [u8; 6]) -> lunette_initiator::session::Completion {
    let mut cdb = [0; 16];
    cdb[..6].copy_from_slice(&bytes);
    client.run(Command::new(0, cdb, Data::None)).unwrap()
}

/// GET EVENT STATUS NOTIFICATION: the media event and the tray.
fn event(client: &mut Client) -> [u8; 2] {
    let data = ask(client, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 8);
    [data[4], data[5]]
}

/// READ(10) of one block.
fn block(client: &mut Client, lba: u8) -> Vec<u8> {
    ask(client, &[0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0], 2048)
}

const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];
const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];

#[test]
fn discs_are_read_locked_asked_for_and_changed() {
    let daemon = Managed::start();
    let [one, other] = ["one.iso", "other.iso"].map(|name| daemon.folder.path(name));
    image(&one, 1, 40);
    image(&other, 2, 50);
    let create = format!(r#"{{"name":"cd","filename":"{}"}}"#, one.display());
    assert_eq!(daemon.ok("lunette_cdrom_create", &create), "cd");
    let mut client = serve(&daemon);
    assert_eq!(
        ask(&mut client, &[0x12, 0, 0, 0, 36, 0], 36)[..32],
        *b"\x05\x80\x06\x12\x5b\0\0\x02LUNETTE CD-ROM          "
    );
    assert_eq!(ask(&mut client, &[0x25], 8), [0, 0, 0, 39, 0, 0, 8, 0]);
    assert!(block(&mut client, 39) == pattern(1, 39, 1, 2048));

    // Locked, so the operator's wish is passed on.
    assert!(run(&mut client, PREVENT).is_good());
    let change = |force: bool| format!(r#"{{"name":"cd","filename":"{}","force":{force}}}"#, other.display());
    assert_eq!(daemon.refused("lunette_bdev_load", &change(false)).0, -16);
    assert_eq!(event(&mut client), [1, 2], "EjectRequest");
    assert_eq!(sense(&run(&mut client, EJECT)), (0x5, 0x53, 0x02));
    let shown = || daemon.ok("bdev_get_bdevs", r#"{"name":"cd"}"#)[0].clone();
    assert_eq!(shown()["lunette_removable"], json!({"medium": "in", "prevented_by": 1}));
    assert!(run(&mut client, ALLOW).is_good());
    assert!(run(&mut client, EJECT).is_good());
    assert_eq!(event(&mut client), [0, 1], "the tray is open, and nothing is asked for any more");
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x2, 0x3a, 0x02));
    assert_eq!(shown()["lunette_removable"], json!({"medium": "out", "prevented_by": 0}));

    assert_eq!(daemon.ok("lunette_bdev_load", &change(false)), true);
    assert_eq!(event(&mut client), [2, 2], "NewMedia");
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x28, 0x00));
    assert_eq!(event(&mut client), [0, 2]);
    assert_eq!(ask(&mut client, &[0x25], 8), [0, 0, 0, 49, 0, 0, 8, 0]);
    assert!(block(&mut client, 49) == pattern(2, 49, 1, 2048));

    // Force takes it from whoever has locked it.
    assert!(run(&mut client, PREVENT).is_good());
    image(&one, 3, 40);
    let back = format!(r#"{{"name":"cd","filename":"{}","force":true}}"#, one.display());
    assert_eq!(daemon.ok("lunette_bdev_load", &back), true);
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x28, 0x00));
    assert!(block(&mut client, 0) == pattern(3, 0, 1, 2048));
    assert!(run(&mut client, EJECT).is_good(), "nobody prevents it any more");
}

#[test]
fn a_drive_is_saved_with_its_disc_and_may_be_empty() {
    let daemon = Managed::start();
    assert_eq!(daemon.ok("lunette_cdrom_create", r#"{"name":"cd"}"#), "cd");
    let uuid = daemon.ok("bdev_get_bdevs", "{}")[0]["uuid"].clone();
    let mut client = serve(&daemon);
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x2, 0x3a, 0x01));
    assert_eq!(event(&mut client), [0, 0]);
    let disc = daemon.folder.path("disc.iso");
    image(&disc, 1, 40);
    let load = format!(r#"{{"name":"cd","filename":"{}"}}"#, disc.display());
    daemon.ok("lunette_bdev_load", &load);
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x28, 0x00));
    assert!(block(&mut client, 7) == pattern(1, 7, 1, 2048));
    drop(client);
    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let saved = std::fs::read_to_string(folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(Plan::parse(&saved).unwrap())).unwrap();
    let shown = daemon.ok("bdev_get_bdevs", r#"{"name":"cd"}"#)[0].clone();
    assert_eq!(
        (&shown["uuid"], &shown["num_blocks"], &shown["block_size"]),
        (&uuid, &json!(40), &json!(2048))
    );
    assert_eq!(shown["product_name"], "CD-ROM");
    assert_eq!(daemon.ok("lunette_cdrom_delete", r#"{"name":"cd"}"#), true);
}

#[test]
fn what_is_no_disc_or_no_drive_is_refused() {
    let daemon = Managed::start();
    let short = daemon.folder.path("short.iso");
    std::fs::write(&short, [0; 2047]).unwrap();
    let create = |path: &str| format!(r#"{{"name":"cd","filename":"{path}"}}"#);
    assert_eq!(daemon.refused("lunette_cdrom_create", &create(&short.display().to_string())).0, -22);
    assert_eq!(daemon.refused("lunette_cdrom_create", &create("relative.iso")).0, -22);
    assert_eq!(daemon.refused("lunette_cdrom_create", &create("/none/such.iso")).0, -2);
    daemon.ok("bdev_malloc_create", r#"{"name":"m","num_blocks":8,"block_size":512}"#);
    assert_eq!(daemon.refused("lunette_bdev_eject", r#"{"name":"m"}"#).0, -95);
    assert_eq!(daemon.refused("lunette_bdev_load", r#"{"name":"m","filename":"/x.iso"}"#).0, -19);
    assert_eq!(daemon.refused("lunette_bdev_load", r#"{"name":"none"}"#).0, -19);
}
