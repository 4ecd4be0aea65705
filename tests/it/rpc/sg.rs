//! SCSI devices that are passed through: calls for devices that are none or not there.

use lunette::rpc::config::Plan;
use serde_json::json;

use super::daemon::{Folder, Managed};

#[test]
fn what_is_no_generic_scsi_device_is_refused() {
    let daemon = Managed::start();
    let refused = |params: &str| daemon.refused("lunette_sg_create", params);
    assert_eq!(refused(r#"{"name":"sg","filename":"dev/sg0"}"#).0, -22);
    let file = daemon.folder.path("file");
    std::fs::write(&file, [0; 512]).unwrap();
    for path in ["/dev/null", file.to_str().unwrap()] {
        let (code, text) = refused(&format!(r#"{{"name":"sg","filename":"{path}"}}"#));
        assert!(code == -22 && text.contains("is no generic SCSI device"), "{code} {text}");
    }
    let (code, text) = refused(r#"{"name":"sg","filename":"/dev/sg-none"}"#);
    assert!(code == -2 && text.contains("lsscsi -g"), "{code} {text}");
    assert_eq!(refused(r#"{"name":"sg","filename":"/dev/null","timeout_s":0}"#).0, -22);
    assert_eq!(daemon.refused("lunette_sg_delete", r#"{"name":"sg"}"#).0, -19);
    assert_eq!(daemon.ok("bdev_get_bdevs", "{}"), json!([]));
}

#[test]
fn one_that_is_missing_at_the_start_is_looked_for_and_saved_as_it_was() {
    let params = json!({"name": "tape", "filename": "/dev/sg-none", "readonly": true, "timeout_s": 900,
        "uuid": "0a0b0c0d-0e0f-8a0b-8c0d-0e0f0a0b0c0d"});
    let call = json!({"method": "lunette_sg_create", "params": params});
    let file = json!({"subsystems": [{"subsystem": "bdev", "config": [call]}]});
    let plan = Plan::parse(&file.to_string()).unwrap();
    let daemon = Managed::try_start(Folder::new(), Some(plan)).unwrap();
    let shown = daemon.ok("bdev_get_bdevs", r#"{"name":"tape"}"#)[0].clone();
    assert_eq!((&shown["product_name"], &shown["num_blocks"]), (&json!("SCSI device"), &json!(0)));
    daemon.ok("lunette_save_config", "{}");
    let delayed = r#"{"base_bdev_name":"tape","name":"d","avg_read_latency":1,"p99_read_latency":1,"avg_write_latency":1,"p99_write_latency":1}"#;
    assert_eq!(daemon.refused("bdev_delay_create", delayed).0, -95);
    assert_eq!(daemon.ok("lunette_sg_delete", r#"{"name":"tape"}"#), true);
    let saved = std::fs::read_to_string(daemon.folder.path("config.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let calls =
        saved["subsystems"].as_array().unwrap().iter().flat_map(|part| part["config"].as_array().unwrap());
    let kept: Vec<_> = calls.filter(|call| call["method"] == "lunette_sg_create").collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["params"], params);
}
