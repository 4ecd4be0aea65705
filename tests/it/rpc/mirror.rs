//! Mirrors (`bdev_raid_create` of level raid1) through a daemon: made, degraded, started again, filled.

use lunette::rpc::config::Plan;
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config, Data, lun};
use serde_json::{Value, json};

use super::daemon::{Folder, Managed};
use super::parts::{login, read, write};
use crate::harness::{pattern, until};

fn about(daemon: &Managed) -> Value {
    daemon.ok("bdev_raid_get_bdevs", r#"{"category":"all"}"#)[0].clone()
}

fn states(daemon: &Managed) -> Vec<Value> {
    let members = about(daemon)["base_bdevs_list"].clone();
    members.as_array().unwrap().iter().map(|member| member["lunette_state"].clone()).collect()
}

fn until_whole(daemon: &Managed) {
    until("all members have all data", || about(daemon)["num_base_bdevs_operational"] == 2);
    assert_eq!(states(daemon), ["current", "current"]);
}

fn on_disk(folder: &Folder, name: &str, lba: usize, blocks: usize) -> Vec<u8> {
    std::fs::read(folder.path(name)).unwrap()[lba * 512..(lba + blocks) * 512].to_vec()
}

fn login_again(daemon: &Managed) -> Client {
    let port =
        daemon.ok("iscsi_get_portal_groups", "{}")[0]["portals"][0]["port"].as_str().unwrap().to_owned();
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(format!("127.0.0.1:{port}"), config).unwrap();
    client.run(Command::new(lun::from_number(0), cdb::test_unit_ready(), Data::None)).unwrap();
    client
}

/// A file of 512-byte blocks that hold this, and a bdev of it, both of this name.
fn member(daemon: &Managed, name: &str, content: &[u8]) {
    let file = daemon.folder.path(name);
    std::fs::write(&file, content).unwrap();
    daemon.ok("bdev_aio_create", &json!({"name": name, "filename": file, "block_size": 512}).to_string());
}

const RAID: &str = r#"{"name":"R","raid_level":"raid1","base_bdevs":["a","b"]}"#;

#[test]
fn a_mirror_goes_on_with_one_member_and_reads_no_old_data_after_a_restart() {
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    for name in ["a", "b", "c"] {
        // The first member has the data.
        member(&daemon, name, &vec![name.as_bytes()[0]; 3 << 20]);
    }
    assert_eq!(daemon.ok("bdev_raid_create", RAID), true);
    assert_eq!(daemon.ok("bdev_get_bdevs", r#"{"name":"R"}"#)[0]["num_blocks"], 6144);
    let uuid = about(&daemon)["uuid"].clone();
    assert_eq!(
        (&about(&daemon)["raid_level"], &about(&daemon)["strip_size_kb"]),
        (&json!("raid1"), &json!(0))
    );
    let mut client = login(&daemon, &["R"]);
    assert_eq!(read(&mut client, 0, 6143, 1), vec![b'a'; 512]);
    until_whole(&daemon);
    assert_eq!(on_disk(&daemon.folder, "b", 0, 6144), vec![b'a'; 3 << 20]);
    let of = |seed| pattern(seed, 0, 16, 512);
    write(&mut client, 0, 100, of(1));
    assert_eq!(
        (on_disk(&daemon.folder, "a", 100, 16), on_disk(&daemon.folder, "b", 100, 16)),
        (of(1), of(1))
    );
    // One is taken out, and what is written then is on the other one only.
    assert_eq!(daemon.ok("bdev_raid_remove_base_bdev", r#"{"name":"a"}"#), true);
    assert_eq!(states(&daemon), ["out", "current"]);
    assert_eq!(daemon.refused("bdev_raid_remove_base_bdev", r#"{"name":"b"}"#).0, -16);
    write(&mut client, 0, 100, of(2));
    assert_eq!((on_disk(&daemon.folder, "a", 100, 16), read(&mut client, 0, 100, 16)), (of(1), of(2)));
    drop(client);
    let saved = daemon.ok("lunette_get_config", "{}").to_string();
    let folder = daemon.stop();
    // The first member has old data.
    let daemon = Managed::with_state(folder, Plan::parse(&saved).unwrap());
    assert_eq!(about(&daemon)["uuid"], uuid);
    let mut client = login_again(&daemon);
    assert_eq!(read(&mut client, 0, 100, 16), of(2));
    until_whole(&daemon);
    assert_eq!((on_disk(&daemon.folder, "a", 100, 16), read(&mut client, 0, 100, 16)), (of(2), of(2)));
    drop(client);
    // One that was deleted is known again by its members, and they are not taken for another's.
    daemon.ok("bdev_raid_delete", r#"{"name":"R"}"#);
    let (code, why) = daemon.refused("bdev_raid_create", &RAID.replace(r#""b""#, r#""c""#));
    assert!(code == -16 && why.contains("a is of the array"), "{why}");
    daemon.ok("bdev_raid_create", &RAID.replace(r#"["a","b"]"#, r#"["b","a"]"#));
    assert_eq!(about(&daemon)["uuid"], uuid);
    until_whole(&daemon);
    // A member that is another one has to be filled, whatever it holds.
    daemon.ok("bdev_raid_delete", r#"{"name":"R"}"#);
    let other = json!({"name": "R", "raid_level": "raid1", "base_bdevs": ["c", "b"], "uuid": uuid});
    daemon.ok("bdev_raid_create", &other.to_string());
    until_whole(&daemon);
    assert_eq!(on_disk(&daemon.folder, "c", 100, 16), of(2));
}

/// Files under each other's names, as where device names have changed: who is current is told by the medium, not by its name.
#[test]
fn members_that_have_changed_names_are_known_by_what_they_are() {
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    for name in ["a", "b"] {
        member(&daemon, name, &vec![0; 1 << 20]);
    }
    daemon.ok("bdev_raid_create", RAID);
    let mut client = login(&daemon, &["R"]);
    until_whole(&daemon);
    let of = |seed| pattern(seed, 0, 16, 512);
    write(&mut client, 0, 100, of(1));
    daemon.ok("bdev_raid_remove_base_bdev", r#"{"name":"b"}"#);
    write(&mut client, 0, 100, of(2));
    drop(client);
    let saved = daemon.ok("lunette_get_config", "{}").to_string();
    let folder = daemon.stop();
    // Now the one with old data has the name of the current one.
    std::fs::rename(folder.path("a"), folder.path("c")).unwrap();
    std::fs::rename(folder.path("b"), folder.path("a")).unwrap();
    std::fs::rename(folder.path("c"), folder.path("b")).unwrap();
    let daemon = Managed::with_state(folder, Plan::parse(&saved).unwrap());
    let mut client = login_again(&daemon);
    assert_eq!(read(&mut client, 0, 100, 16), of(2));
    until_whole(&daemon);
    assert_eq!(
        (on_disk(&daemon.folder, "a", 100, 16), on_disk(&daemon.folder, "b", 100, 16)),
        (of(2), of(2))
    );
    drop(client);
    let folder = daemon.stop();
    // A copy is another medium, whatever it holds: the array is filled from the one that is known.
    std::fs::write(folder.path("c"), vec![3; 1 << 20]).unwrap();
    std::fs::rename(folder.path("c"), folder.path("a")).unwrap();
    let daemon = Managed::with_state(folder, Plan::parse(&saved).unwrap());
    let mut client = login_again(&daemon);
    assert_eq!(read(&mut client, 0, 100, 16), of(2));
    until_whole(&daemon);
    assert_eq!(on_disk(&daemon.folder, "a", 100, 16), of(2));
}

/// What a device had in its cache is gone when it was pulled, and nothing has failed where nothing was asked of it meanwhile.
#[test]
fn a_member_that_is_opened_anew_is_not_read_before_it_is_filled() {
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    for name in ["a", "b"] {
        member(&daemon, name, &vec![0; 1 << 20]);
    }
    daemon.ok("bdev_raid_create", RAID);
    let mut client = login(&daemon, &["R"]);
    until_whole(&daemon);
    let of = |seed| pattern(seed, 0, 16, 512);
    write(&mut client, 0, 100, of(1));
    // The first member, which is read, has lost that.
    let file = std::fs::OpenOptions::new().write(true).open(daemon.folder.path("a")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 16 * 512], 100 * 512).unwrap();
    daemon.ok("lunette_bdev_reopen", r#"{"name":"a"}"#);
    assert_eq!(read(&mut client, 0, 100, 16), of(1));
    // At once, not when one that failed would be due.
    until_whole(&daemon);
    assert_eq!(on_disk(&daemon.folder, "a", 100, 16), of(1));
    // Who was to stay out does.
    daemon.ok("bdev_raid_remove_base_bdev", r#"{"name":"b"}"#);
    daemon.ok("lunette_bdev_reopen", r#"{"name":"b"}"#);
    assert_eq!(states(&daemon), ["current", "out"]);
    // The last one has its data from nobody else.
    daemon.ok("lunette_bdev_reopen", r#"{"name":"a"}"#);
    assert_eq!(states(&daemon), ["current", "out"]);
}

#[test]
fn what_was_written_to_a_member_while_there_was_no_array_makes_no_members_differ() {
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    for name in ["a", "b"] {
        member(&daemon, name, &vec![0; 1 << 20]);
    }
    for round in 0..2 {
        daemon.ok("bdev_raid_create", &RAID.replace(r#""name""#, r#""strip_size_kb":0,"name""#));
        until_whole(&daemon);
        daemon.ok("bdev_raid_delete", r#"{"name":"R"}"#);
        // Both are current; as a client of a LUN of this member's own would.
        let member = ["b", "a"][round];
        let mut file = std::fs::OpenOptions::new().write(true).open(daemon.folder.path(member)).unwrap();
        std::io::Write::write_all(&mut file, &vec![7; 512]).unwrap();
    }
    daemon.ok("bdev_raid_create", RAID);
    until_whole(&daemon);
    let are_equal =
        |daemon: &Managed| on_disk(&daemon.folder, "a", 0, 8) == on_disk(&daemon.folder, "b", 0, 8);
    assert!(are_equal(&daemon));
    // Nor does a configuration of before, from which nobody knows that there was none.
    let with = daemon.ok("lunette_get_config", "{}").to_string();
    daemon.ok("bdev_raid_delete", r#"{"name":"R"}"#);
    let without = daemon.ok("lunette_get_config", "{}").to_string();
    let start = |folder, saved: &str| Managed::with_state(folder, Plan::parse(saved).unwrap());
    let change = |folder: &Folder, byte| {
        let mut file = std::fs::OpenOptions::new().write(true).open(folder.path("b")).unwrap();
        std::io::Write::write_all(&mut file, &[byte; 512]).unwrap();
    };
    let folder = daemon.stop();
    change(&folder, 8);
    let daemon = start(folder, &with);
    until_whole(&daemon);
    assert!(are_equal(&daemon));
    let daemon = start(daemon.stop(), &without);
    let folder = daemon.stop();
    change(&folder, 9);
    let daemon = start(folder, &with);
    until_whole(&daemon);
    assert!(are_equal(&daemon));
    // One that was there all the time is believed.
    let daemon = start(daemon.stop(), &with);
    assert_eq!(states(&daemon), ["current", "current"]);
}

#[test]
fn members_have_to_be_known_for_life_and_to_be_several() {
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    for name in ["a", "b"] {
        let params = json!({"name": name, "num_blocks": 4096, "block_size": 512});
        daemon.ok("bdev_malloc_create", &params.to_string());
    }
    let null = json!({"name": "n", "num_blocks": 4096, "block_size": 512});
    daemon.ok("bdev_null_create", &null.to_string());
    let (code, why) = daemon.refused("bdev_raid_create", &RAID.replace(r#""b""#, r#""n""#));
    assert!(code == -95 && why.contains("nothing tells n from another medium"), "{why}");
    let (code, why) =
        daemon.refused("bdev_raid_create", &RAID.replace(r#""name""#, r#""superblock":true,"name""#));
    assert!(code == -32602 && why.contains("superblock"), "{code} {why}");
    daemon.ok("bdev_raid_create", RAID);
    until_whole(&daemon);
}

#[test]
fn a_mirror_that_nobody_knows_any_more_is_not_ready() {
    let daemon = Managed::start();
    for name in ["a", "b"] {
        daemon.ok(
            "bdev_malloc_create",
            &json!({"name": name, "num_blocks": 4096, "block_size": 512}).to_string(),
        );
    }
    let (code, why) = daemon.refused("bdev_raid_create", RAID);
    assert!(code == -95 && why.contains("--state"), "{why}");
    drop(daemon);
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    for name in ["a", "b"] {
        daemon.ok(
            "bdev_malloc_create",
            &json!({"name": name, "num_blocks": 4096, "block_size": 512}).to_string(),
        );
    }
    for (more, code) in [(r#","strip_size_kb":4"#, -22), (r#","lunette_base_blocks":[0,0]"#, -22)] {
        let params = RAID.replace(r#","base"#, &format!(r#"{more},"base"#));
        assert_eq!(daemon.refused("bdev_raid_create", &params).0, code, "{params}");
    }
    assert_eq!(daemon.refused("bdev_raid_create", &RAID.replace(r#","b""#, "")).0, -22);
    // As a saved configuration says it, while the state file was lost.
    daemon.ok("bdev_raid_create", &RAID.replace(r#""name""#, r#""lunette_base_blocks":[4096,4096],"name""#));
    until("it is said why", || {
        about(&daemon)["lunette_not_ready"].as_str().is_some_and(|why| why.contains("state file"))
    });
    assert_eq!(states(&daemon), ["out", "out"]);
    daemon.ok("bdev_raid_delete", r#"{"name":"R"}"#);
    daemon.ok("bdev_raid_create", &RAID.replace(r#""name""#, r#""lunette_assume_clean":true,"name""#));
    assert_eq!(states(&daemon), ["current", "current"]);
}
