//! Disks that are files.

use std::fs::File;

use serde_json::json;

use super::daemon::{Folder, Managed};
use crate::harness::until;
use lunette::rpc::config::Plan;

/// The call's parameters, with more of them.
fn params(name: &str, file: &std::path::Path, more: &str) -> String {
    format!(r#"{{"name":"{name}","filename":"{}"{more}}}"#, file.display())
}

#[test]
fn a_file_is_made_grown_and_kept() {
    let daemon = Managed::start();
    let file = daemon.folder.path("disk.img");
    let create =
        params("aio0", &file, r#","block_size":512,"readonly":false,"fallocate":false,"nowait":false"#);
    let missing = daemon.refused("bdev_aio_create", &create);
    assert_eq!((missing.0, missing.1.starts_with("No such file or directory: ")), (-2, true), "{missing:?}");

    let create = params("aio0", &file, r#","block_size":4096,"lunette_create_size":1048576"#);
    assert_eq!(daemon.ok("bdev_aio_create", &create), "aio0");
    let shown = || daemon.ok("bdev_get_bdevs", r#"{"name":"aio0"}"#)[0].clone();
    assert_eq!((&shown()["num_blocks"], &shown()["product_name"]), (&json!(256), &json!("AIO disk")));
    assert_eq!(shown()["driver_specific"]["aio"]["filename"], json!(file));
    let uuid = shown()["uuid"].clone();

    let again = daemon.refused("bdev_aio_create", &create);
    assert_eq!(again, (-17, "File exists: there is a bdev aio0 already".to_owned()));
    File::options().write(true).open(&file).unwrap().set_len(2 << 20).unwrap();
    assert_eq!(daemon.ok("bdev_aio_rescan", r#"{"name":"aio0"}"#), true);
    assert_eq!(shown()["num_blocks"], 512);
    assert_eq!(daemon.refused("bdev_uring_delete", r#"{"name":"aio0"}"#).0, -19);

    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    let shown = daemon.ok("bdev_get_bdevs", r#"{"name":"aio0"}"#)[0].clone();
    assert_eq!((&shown["num_blocks"], &shown["uuid"]), (&json!(512), &uuid));
    assert_eq!(daemon.ok("bdev_aio_delete", r#"{"name":"aio0"}"#), true);
    assert_eq!(daemon.ok("bdev_get_bdevs", "{}"), json!([]));
    assert_eq!(file.metadata().unwrap().len(), 2 << 20);
    // Nobody holds it any more.
    assert_eq!(daemon.ok("bdev_uring_create", &params("u", &file, "")), "u");
}

/// The same content in another file of this name: another inode, and made later.
fn replace(file: &std::path::Path) {
    let copy = file.with_extension("copy");
    std::fs::copy(file, &copy).unwrap();
    std::fs::rename(copy, file).unwrap();
}

#[test]
fn a_disk_stays_the_disk_that_it_was_and_another_file_does_not_become_it() {
    let daemon = Managed::with_state(Folder::new(), Plan::default());
    let file = daemon.folder.path("disk.img");
    let uuid = |daemon: &Managed| daemon.ok("bdev_get_bdevs", r#"{"name":"aio0"}"#)[0]["uuid"].clone();
    daemon.ok("bdev_aio_create", &params("aio0", &file, r#","lunette_create_size":1048576"#));
    let first = uuid(&daemon);
    assert_eq!(first.as_str().unwrap().as_bytes()[14], b'4', "one that nobody has had: {first}");
    daemon.ok("lunette_bdev_set_identity", r#"{"name":"aio0","serial":"0815"}"#);
    let folder = daemon.stop();
    // Restored from a copy, or on a file system that numbers its devices as they come.
    replace(&file);
    let call = format!(r#"{{"method":"bdev_aio_create","params":{}}}"#, params("aio0", &file, ""));
    let text = format!(r#"{{"subsystems":[{{"subsystem":"bdev","config":[{call}]}}]}}"#);
    let daemon = Managed::with_state(folder, Plan::parse(&text).unwrap());
    assert_eq!(uuid(&daemon), first);
    let forget = format!(r#"{{"uuid":{first}}}"#);
    let there = daemon.refused("lunette_forget_disk", &forget);
    assert_eq!(there, (-16, "Device or resource busy: bdev aio0 is there: delete it first".to_owned()));
    // Deleted and made again it is the same still, as long as its file is.
    let again = || {
        daemon.ok("bdev_aio_delete", r#"{"name":"aio0"}"#);
        daemon.ok("bdev_aio_create", &params("aio0", &file, ""));
        uuid(&daemon)
    };
    assert_eq!(again(), first);
    daemon.ok("bdev_aio_delete", r#"{"name":"aio0"}"#);
    replace(&file);
    daemon.ok("bdev_aio_create", &params("aio0", &file, ""));
    let second = uuid(&daemon);
    assert_ne!(second, first);
    assert_eq!(again(), second);
    let kept = daemon.ok("lunette_get_kept_disks", "{}");
    let gone = json!({ "uuid": first, "present": false, "bdevs": [], "kept": ["identity"] });
    let there = json!({ "uuid": second, "present": true, "bdevs": [{ "name": "aio0", "filename": file }], "kept": [] });
    assert_eq!(kept, json!([there, gone]));
    assert_eq!(daemon.ok("lunette_forget_disk", &forget), true);
    let nothing = format!("No such device: there is no record of a disk {}", first.as_str().unwrap());
    assert_eq!(daemon.refused("lunette_forget_disk", &forget), (-19, nothing));
}

#[test]
fn a_file_that_is_missing_at_the_start_comes_up_when_it_is_there() {
    let daemon = Managed::start();
    let file = daemon.folder.path("disk.img");
    daemon.ok("bdev_aio_create", &params("aio0", &file, r#","lunette_create_size":1048576"#));
    daemon.ok(
        "iscsi_create_target_node",
        r#"{"name":"t","alias_name":"","pg_ig_maps":[],"queue_depth":1,
        "luns":[{"bdev_name":"aio0","lun_id":0}]}"#,
    );
    daemon.ok("bdev_set_qos_limit", r#"{"name":"aio0","rw_ios_per_sec":500}"#);
    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let saved = std::fs::read_to_string(folder.path("config.json")).unwrap();
    assert!(saved.contains("bdev_set_qos_limit"), "{saved}");
    std::fs::rename(&file, folder.path("elsewhere")).unwrap();

    let daemon = Managed::try_start(folder, Some(Plan::parse(&saved).unwrap())).unwrap();
    let blocks = || daemon.ok("bdev_get_bdevs", r#"{"name":"aio0"}"#)[0]["num_blocks"].as_u64().unwrap();
    assert_eq!(blocks(), 0);
    daemon.ok("lunette_save_config", "{}");
    assert_eq!(std::fs::read_to_string(daemon.folder.path("config.json")).unwrap(), saved);
    std::fs::rename(daemon.folder.path("elsewhere"), &file).unwrap();
    until("the disk is there", || blocks() == 2048);
    daemon.ok("lunette_save_config", "{}");
    assert_eq!(std::fs::read_to_string(daemon.folder.path("config.json")).unwrap(), saved);
}

#[test]
fn a_file_is_opened_anew_and_the_call_says_what_is_lost() {
    let daemon = Managed::start();
    let file = daemon.folder.path("disk.img");
    daemon.ok("bdev_aio_create", &params("aio0", &file, r#","lunette_create_size":1048576"#));
    daemon.ok("bdev_malloc_create", r#"{"name":"m","num_blocks":8,"block_size":512}"#);
    let shown = || daemon.ok("bdev_get_bdevs", r#"{"name":"aio0"}"#)[0].clone();
    let before = shown();
    let nothing = json!({
        "flush_had_failed": false,
        "may_have_lost": false,
        "lost": "nothing: everything that was answered is on stable storage",
    });
    assert_eq!(daemon.ok("lunette_bdev_reopen", r#"{"name":"aio0"}"#), nothing);
    assert_eq!(shown(), before);
    assert_eq!(daemon.refused("lunette_bdev_reopen", r#"{"name":"none"}"#).0, -19);
    assert_eq!(daemon.refused("lunette_bdev_reopen", r#"{"name":"m"}"#).0, -95);

    // It is away: the call fails, and the disk comes up when it is there again.
    std::fs::rename(&file, daemon.folder.path("elsewhere")).unwrap();
    assert_eq!(daemon.refused("lunette_bdev_reopen", r#"{"name":"aio0"}"#).0, -2);
    assert_eq!((&shown()["num_blocks"], &shown()["uuid"]), (&json!(0), &before["uuid"]));
    std::fs::rename(daemon.folder.path("elsewhere"), &file).unwrap();
    until("the disk is there", || shown() == before);
    // Nothing keeps it once it is deleted.
    daemon.ok("bdev_aio_delete", r#"{"name":"aio0"}"#);
    assert_eq!(daemon.ok("bdev_uring_create", &params("u", &file, "")), "u");
}

#[test]
fn a_file_that_cannot_be_a_disk_is_refused() {
    let daemon = Managed::start();
    let (folder, empty) = (daemon.folder.path(""), daemon.folder.path("empty"));
    File::create(&empty).unwrap();
    for (params, code) in [
        (params("a", &folder, ""), -22),
        (params("a", &empty, ""), -22),
        (params("a", &empty, r#","block_size":520"#), -22),
        (r#"{"name":"a","filename":"relative"}"#.to_owned(), -22),
    ] {
        assert_eq!(daemon.refused("bdev_aio_create", &params).0, code, "{params}");
    }
    assert_eq!(daemon.ok("bdev_get_bdevs", "{}"), json!([]));
}

#[test]
fn the_same_file_is_served_once() {
    let folder = Folder::new();
    let file = folder.path("disk.img");
    File::create(&file).unwrap().set_len(1 << 20).unwrap();
    let daemon = Managed::start();
    assert_eq!(daemon.ok("bdev_uring_create", &params("one", &file, "")), "one");
    let other = Managed::start();
    // It waits for the other one to go, and nobody waits with it.
    let mut patient = other.connect();
    patient
        .send(&format!(r#"{{"id":1,"method":"bdev_aio_create","params":{}}}"#, params("other", &file, "")));
    let begin = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(other.ok("bdev_get_bdevs", "{}"), json!([]));
    }
    assert!(begin.elapsed().as_secs() < 4);
    assert!(
        patient.line().starts_with(
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-16,"message":"Device or resource busy","#
        )
    );
    assert!(begin.elapsed().as_secs() >= 4);
    daemon.ok("bdev_uring_delete", r#"{"name":"one"}"#);
    assert_eq!(other.ok("bdev_aio_create", &params("other", &file, "")), "other");
}
