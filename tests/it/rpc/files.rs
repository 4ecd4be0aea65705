//! Disks that are files.

use std::fs::File;

use serde_json::json;

use super::daemon::{Folder, Managed};
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
    let begin = std::time::Instant::now();
    let refused = other.refused("bdev_aio_create", &params("other", &file, ""));
    assert_eq!(refused.0, -16, "{refused:?}");
    // It waited for the other one to go, and nobody waited with it.
    assert!(begin.elapsed().as_secs() >= 4);
    daemon.ok("bdev_uring_delete", r#"{"name":"one"}"#);
    assert_eq!(other.ok("bdev_aio_create", &params("other", &file, "")), "other");
}
