//! Bdevs that are a part of another one, or several together: `bdev_split_*`, `bdev_raid_*`.

use lunette::rpc::config::Plan;
use lunette_initiator::scsi::cdb;
use lunette_initiator::{Client, Command, Config, Data, lun};
use serde_json::{Value, json};

use super::daemon::Managed;
use crate::harness::pattern;

fn names(daemon: &Managed) -> Vec<Value> {
    let bdevs = daemon.ok("bdev_get_bdevs", "{}");
    bdevs.as_array().unwrap().iter().map(|bdev| bdev["name"].clone()).collect()
}

fn shown(daemon: &Managed, name: &str) -> Value {
    daemon.ok("bdev_get_bdevs", &format!(r#"{{"name":"{name}"}}"#))[0].clone()
}

/// A target with these bdevs as LUNs 0, 1 and so on, and a session with it that was told that power is on at each.
pub(super) fn login(daemon: &Managed, bdevs: &[&str]) -> Client {
    let luns: Vec<Value> = bdevs.iter().map(|name| json!({"bdev_name": name})).collect();
    for (method, params) in [
        ("iscsi_create_portal_group", json!({"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0"}]})),
        ("iscsi_create_initiator_group", json!({"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]})),
        (
            "iscsi_create_target_node",
            json!({"name": "t", "alias_name": "", "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}], "luns": luns, "queue_depth": 8}),
        ),
    ] {
        daemon.ok(method, &params.to_string());
    }
    let port =
        daemon.ok("iscsi_get_portal_groups", "{}")[0]["portals"][0]["port"].as_str().unwrap().to_owned();
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(format!("127.0.0.1:{port}"), config).unwrap();
    for number in 0..bdevs.len() {
        let number = u16::try_from(number).unwrap();
        client.run(Command::new(lun::from_number(number), cdb::test_unit_ready(), Data::None)).unwrap();
    }
    client
}

pub(super) fn write(client: &mut Client, number: u16, lba: u64, data: Vec<u8>) {
    let blocks = u32::try_from(data.len() / 512).unwrap();
    let cdb = cdb::write_16(lba, blocks, cdb::Flags::default());
    let end = client.run(Command::write(lun::from_number(number), cdb, data)).unwrap();
    assert!(end.is_good(), "{end:?}");
}

pub(super) fn read(client: &mut Client, number: u16, lba: u64, blocks: u32) -> Vec<u8> {
    let cdb = cdb::read_16(lba, blocks, cdb::Flags::default());
    let end = client.run(Command::read(lun::from_number(number), cdb, blocks * 512)).unwrap();
    assert!(end.is_good(), "{end:?}");
    end.data
}

#[test]
fn a_bdev_is_served_in_parts() {
    let daemon = Managed::start();
    let malloc = r#"{"name":"M0","num_blocks":4100,"block_size":512,"lunette_num_blocks_max":8192}"#;
    daemon.ok("bdev_malloc_create", malloc);
    assert_eq!(
        daemon.ok("bdev_split_create", r#"{"base_bdev":"M0","split_count":2}"#),
        json!(["M0p0", "M0p1"])
    );
    let part = shown(&daemon, "M0p1");
    assert_eq!(
        (&part["product_name"], &part["num_blocks"], &part["driver_specific"]),
        (&json!("Split Disk"), &json!(2050), &json!({"split": {"base_bdev": "M0", "offset_blocks": 2050}}))
    );
    assert_eq!(
        (shown(&daemon, "M0")["claimed"].clone(), part["claimed"].clone()),
        (json!(true), json!(false))
    );
    let mut client = login(&daemon, &["M0p0", "M0p1"]);
    let of = |seed| pattern(seed, 0, 8, 512);
    write(&mut client, 0, 2042, of(1));
    write(&mut client, 1, 0, of(2));
    assert_eq!((read(&mut client, 0, 2042, 8), read(&mut client, 1, 0, 8)), (of(1), of(2)));
    // Where parts are does not change.
    daemon.ok("lunette_bdev_resize", r#"{"name":"M0","num_blocks":8192}"#);
    assert_eq!(shown(&daemon, "M0p1")["num_blocks"], 2050);
    assert_eq!((read(&mut client, 0, 2042, 8), read(&mut client, 1, 0, 8)), (of(1), of(2)));
    let config = daemon.ok("framework_get_config", r#"{"name":"bdev"}"#);
    assert_eq!(
        config[1],
        json!({"method": "bdev_split_create",
            "params": {"base_bdev": "M0", "split_count": 2, "split_size_mb": 0, "lunette_split_blocks": 2050}})
    );
    for (method, params, expected) in [
        (
            "bdev_split_create",
            r#"{"base_bdev":"M0","split_count":2}"#,
            (-17, "File exists: M0 is split already"),
        ),
        (
            "bdev_passthru_create",
            r#"{"base_bdev_name":"M0","name":"x"}"#,
            (-1, "Operation not permitted: bdev M0 is part of bdev M0p0: use that one"),
        ),
        (
            "bdev_split_create",
            r#"{"base_bdev":"M1","split_count":2}"#,
            (-19, "No such device: there is no bdev M1"),
        ),
        (
            "bdev_split_delete",
            r#"{"base_bdev":"M0p0"}"#,
            (-2, "No such file or directory: M0p0 is not split"),
        ),
    ] {
        assert_eq!(daemon.refused(method, params), (expected.0, expected.1.to_owned()), "{method} {params}");
    }
    let (code, text) = daemon.refused("bdev_split_create", r#"{"base_bdev":"M0p0","split_count":0}"#);
    assert_eq!((code, text.starts_with("Invalid argument: split_count:")), (-22, true), "{text}");
    assert_eq!(daemon.ok("bdev_split_delete", r#"{"base_bdev":"M0"}"#), true);
    assert_eq!(names(&daemon), ["M0"]);
    assert_eq!(daemon.ok("iscsi_get_target_nodes", "{}")[0]["luns"], json!([]));
}

#[test]
fn parts_have_the_size_that_is_asked_for_and_go_with_their_bdev() {
    let daemon = Managed::start();
    daemon.ok("bdev_null_create", r#"{"name":"N0","num_blocks":10000,"block_size":512}"#);
    let three = r#"{"base_bdev":"N0","split_count":9,"split_size_mb":1}"#;
    // 10,000 blocks are four times 2048 and a rest.
    assert_eq!(daemon.ok("bdev_split_create", three), json!(["N0p0", "N0p1", "N0p2", "N0p3"]));
    let too_large =
        daemon.refused("bdev_split_create", r#"{"base_bdev":"N0p0","split_count":1,"split_size_mb":2}"#);
    assert_eq!(too_large.0, -22);
    daemon.ok("bdev_null_delete", r#"{"name":"N0"}"#);
    assert_eq!(names(&daemon), Vec::<Value>::new());
    // A name that is taken leaves nothing behind.
    daemon.ok("bdev_null_create", r#"{"name":"N0","num_blocks":100,"block_size":512}"#);
    daemon.ok("bdev_null_create", r#"{"name":"N0p1","num_blocks":100,"block_size":512}"#);
    assert_eq!(daemon.refused("bdev_split_create", r#"{"base_bdev":"N0","split_count":3}"#).0, -17);
    assert_eq!(names(&daemon), ["N0", "N0p1"]);
}

#[test]
fn several_bdevs_are_served_as_one() {
    let daemon = Managed::start();
    for number in 0..3 {
        daemon.ok(
            "bdev_malloc_create",
            &format!(r#"{{"name":"M{number}","num_blocks":2050,"block_size":512}}"#),
        );
    }
    let uuid = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
    let raid = format!(
        r#"{{"name":"R0","strip_size_kb":4,"raid_level":"0","base_bdevs":["M0","M1"],"superblock":false,"uuid":"{uuid}"}}"#
    );
    assert_eq!(daemon.ok("bdev_raid_create", &raid), true);
    let about = shown(&daemon, "R0");
    assert_eq!(
        (&about["product_name"], &about["num_blocks"], &about["uuid"]),
        (&json!("Raid Volume"), &json!(4096), &json!(uuid))
    );
    let raids = daemon.ok("bdev_raid_get_bdevs", r#"{"category":"all"}"#);
    let members = json!([
        {"name": "M0", "uuid": shown(&daemon, "M0")["uuid"], "is_configured": true, "data_offset": 0, "data_size": 2050},
        {"name": "M1", "uuid": shown(&daemon, "M1")["uuid"], "is_configured": true, "data_offset": 0, "data_size": 2050},
    ]);
    let expected = json!([{
        "name": "R0", "uuid": uuid, "strip_size_kb": 4, "state": "online", "raid_level": "raid0", "superblock": false,
        "num_base_bdevs": 2, "num_base_bdevs_discovered": 2, "num_base_bdevs_operational": 2, "base_bdevs_list": members,
    }]);
    assert_eq!(raids, expected);
    assert_eq!(daemon.ok("bdev_raid_get_bdevs", r#"{"category":"online"}"#), expected);
    assert_eq!(daemon.ok("bdev_raid_get_bdevs", r#"{"category":"configuring"}"#), json!([]));
    let concat = r#"{"name":"R1","strip_size_kb":64,"raid_level":"concat","base_bdevs":["R0","M2"]}"#;
    assert_eq!(daemon.ok("bdev_raid_create", concat), true);
    assert_eq!(shown(&daemon, "R1")["num_blocks"], 4096 + 2048);
    let mut client = login(&daemon, &["R1"]);
    let data = pattern(1, 0, 400, 512);
    write(&mut client, 0, 4000, data.clone());
    assert_eq!(read(&mut client, 0, 4000, 400), data);
    for (method, params, expected) in [
        (
            "bdev_raid_create",
            r#"{"name":"x","strip_size_kb":4,"raid_level":"raid5f","base_bdevs":["M0","M1"]}"#,
            (
                -95,
                "Operation not supported: raid_level: lunette has raid0, raid1 and concat; parity is md's (mdadm), whose \
                   devices bdev_aio_create takes",
            ),
        ),
        (
            "bdev_raid_create",
            r#"{"name":"x","strip_size_kb":6,"raid_level":"0","base_bdevs":["M0","M1"]}"#,
            (-22, "Invalid argument: strip_size_kb: it is a power of two, from 4 to 16384"),
        ),
        (
            "bdev_raid_create",
            r#"{"name":"x","strip_size_kb":4,"raid_level":"0","base_bdevs":["M0","M0"]}"#,
            (-22, "Invalid argument: base_bdevs: one of them is named twice"),
        ),
        (
            "bdev_raid_create",
            r#"{"name":"x","strip_size_kb":4,"raid_level":"0","base_bdevs":["M0"]}"#,
            (-1, "Operation not permitted: bdev M0 is part of bdev R0: use that one"),
        ),
        (
            "bdev_raid_remove_base_bdev",
            r#"{"name":"M0"}"#,
            (-1, "Operation not permitted: R0 needs all of its members: delete it first (bdev_raid_delete)"),
        ),
        (
            "bdev_raid_add_base_bdev",
            r#"{"raid_bdev":"R0","base_bdev":"M2"}"#,
            (-1, "Operation not permitted: R0: its level has the members that it was made of"),
        ),
    ] {
        assert_eq!(daemon.refused(method, params), (expected.0, expected.1.to_owned()), "{method} {params}");
    }
    assert_eq!(daemon.ok("bdev_raid_delete", r#"{"name":"R1"}"#), true);
    daemon.ok("bdev_malloc_delete", r#"{"name":"M1"}"#);
    assert_eq!(names(&daemon), ["M0", "M2"]);
}

#[test]
fn parts_and_arrays_come_back_with_their_data_and_when_their_files_do() {
    let daemon = Managed::start();
    let path = |daemon: &Managed, name: &str| daemon.folder.path(name);
    for name in ["a", "b"] {
        let file = path(&daemon, name);
        std::fs::write(&file, vec![0; 1 << 20]).unwrap();
        daemon.ok("bdev_aio_create", &json!({"name": name, "filename": file, "block_size": 512}).to_string());
    }
    daemon.ok(
        "bdev_raid_create",
        r#"{"name":"R","strip_size_kb":8,"raid_level":"raid0","base_bdevs":["a","b"]}"#,
    );
    daemon.ok("bdev_split_create", r#"{"base_bdev":"R","split_count":2}"#);
    daemon.ok("bdev_enable_histogram", r#"{"name":"Rp1","enable":true,"opc":"write"}"#);
    let data = pattern(3, 0, 100, 512);
    let mut client = login(&daemon, &["Rp0", "Rp1"]);
    write(&mut client, 1, 1000, data.clone());
    drop(client);
    daemon.ok("lunette_save_config", "{}");
    let saved = std::fs::read_to_string(path(&daemon, "config.json")).unwrap();
    let folder = daemon.stop();
    // One member is missing when the daemon starts.
    let (there, away) = (folder.path("b"), folder.path("b.away"));
    std::fs::rename(&there, &away).unwrap();
    let again = Managed::try_start(folder, Some(Plan::parse(&saved).unwrap())).unwrap();
    assert_eq!(
        (shown(&again, "R")["num_blocks"].clone(), shown(&again, "Rp1")["num_blocks"].clone()),
        (json!(0), json!(0))
    );
    assert_eq!(
        again.ok("bdev_raid_get_bdevs", r#"{"category":"configuring"}"#)[0]["num_base_bdevs_discovered"],
        1
    );
    std::fs::rename(&away, &there).unwrap();
    crate::harness::until("both parts are there", || {
        ["Rp0", "Rp1"].iter().all(|name| shown(&again, name)["num_blocks"] == 2048)
    });
    again.ok("lunette_save_config", "{}");
    assert_eq!(std::fs::read_to_string(path(&again, "config.json")).unwrap(), saved);
    let port =
        again.ok("iscsi_get_portal_groups", "{}")[0]["portals"][0]["port"].as_str().unwrap().to_owned();
    let config = Config::new("iqn.2026-11.io.example:a", "iqn.2016-06.io.spdk:t");
    let mut client = Client::connect(format!("127.0.0.1:{port}"), config).unwrap();
    client.run(Command::new(lun::from_number(1), cdb::test_unit_ready(), Data::None)).unwrap();
    assert_eq!(read(&mut client, 1, 1000, 100), data);
}

#[test]
fn an_array_waits_for_its_members_and_its_layout_is_saved_when_they_have_come() {
    let (folder, place) = (super::daemon::Folder::new(), super::daemon::Folder::new());
    let (file, config) = (place.path("a"), folder.path("config.json"));
    let make = |more: &str| {
        format!(
            r#"{{"subsystems":[{{"subsystem":"bdev","config":[
                {{"method":"bdev_aio_create","params":{{"name":"A","filename":{file:?},"block_size":512}}}},
                {{"method":"bdev_raid_create","params":
                    {{"name":"R","strip_size_kb":4,"raid_level":"concat","base_bdevs":["A"]{more}}}}}]}}]}}"#
        )
    };
    std::fs::write(&config, make("")).unwrap();
    let daemon = Managed::keeping(folder, Plan::parse(&make("")).unwrap());
    assert_eq!(shown(&daemon, "R")["num_blocks"], 0);
    crate::harness::until("it is told what it waits for", || {
        let about = daemon.ok("bdev_raid_get_bdevs", r#"{"category":"configuring"}"#)[0].clone();
        about["lunette_not_ready"].as_str().is_some_and(|why| why.starts_with("member A: "))
    });
    // A call that is not of a file is for an array as it is now.
    let other = r#"{"name":"S","strip_size_kb":4,"raid_level":"concat","base_bdevs":["R"]}"#;
    assert_eq!(
        daemon.refused("bdev_raid_create", other),
        (-19, "No such device: R is not there yet: give lunette_base_blocks".to_owned())
    );
    std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    crate::harness::until("it is there", || shown(&daemon, "R")["num_blocks"] == 2048);
    assert!(shown(&daemon, "R")["lunette_not_ready"].is_null());
    let saved = std::fs::read_to_string(&config).unwrap();
    let words: String = saved.split_whitespace().collect();
    assert!(words.contains(r#""lunette_base_blocks":[2048],"lunette_block_size":512"#), "{saved}");
    // It is as large as it was after the member has grown.
    let folder = daemon.stop();
    std::fs::write(&file, vec![0; 2 << 20]).unwrap();
    let daemon = Managed::keeping(folder, Plan::parse(&saved).unwrap());
    assert_eq!(
        (shown(&daemon, "R")["num_blocks"].clone(), std::fs::read_to_string(&config).unwrap()),
        (json!(2048), saved)
    );
    drop(daemon);
    // A file that says that it was another one.
    for (more, why) in [
        (
            r#","lunette_base_blocks":[4097]"#,
            "member A has 4096 blocks and is not taken in: the array has data in 4097",
        ),
        (
            r#","lunette_base_blocks":[64],"lunette_block_size":4096"#,
            "member A has blocks of 512 bytes and is not taken in: the array's are of 4096",
        ),
    ] {
        std::fs::write(&file, vec![0; 2 << 20]).unwrap();
        let daemon =
            Managed::try_start(super::daemon::Folder::new(), Some(Plan::parse(&make(more)).unwrap()))
                .unwrap();
        crate::harness::until(why, || shown(&daemon, "R")["lunette_not_ready"] == why);
        let about = daemon.ok("bdev_raid_get_bdevs", r#"{"category":"configuring"}"#)[0].clone();
        assert_eq!(
            (&about["lunette_not_ready"], &about["num_base_bdevs_discovered"]),
            (&json!(why), &json!(0))
        );
    }
}

#[test]
fn parts_wait_for_their_bdev_and_where_they_are_is_saved_when_it_has_come() {
    let (folder, place) = (super::daemon::Folder::new(), super::daemon::Folder::new());
    let (file, config) = (place.path("a"), folder.path("config.json"));
    // As SPDK writes it.
    let text = format!(
        r#"{{"subsystems":[{{"subsystem":"bdev","config":[
            {{"method":"bdev_aio_create","params":{{"name":"A","filename":{file:?},"block_size":512}}}},
            {{"method":"bdev_split_create","params":{{"base_bdev":"A","split_count":2,"split_size_mb":0}}}}]}},
           {{"subsystem":"iscsi","config":[{{"method":"iscsi_create_target_node","params":{{"name":"t","alias_name":"",
             "pg_ig_maps":[],"queue_depth":1,"luns":[{{"bdev_name":"Ap0","lun_id":0}},{{"bdev_name":"Ap1","lun_id":1}}]}}}}]}}]}}"#
    );
    std::fs::write(&config, &text).unwrap();
    let daemon = Managed::keeping(folder, Plan::parse(&text).unwrap());
    let sizes =
        |daemon: &Managed| ["Ap0", "Ap1"].map(|name| shown(daemon, name)["num_blocks"].as_u64().unwrap());
    assert_eq!(sizes(&daemon), [0, 0]);
    // A call that is not of a file is for a bdev as it is now.
    assert_eq!(
        daemon.refused("bdev_split_create", r#"{"base_bdev":"Ap0","split_count":2}"#),
        (-19, "No such device: Ap0 is not there yet: give lunette_split_blocks".to_owned())
    );
    std::fs::write(&file, vec![0; 1 << 20]).unwrap();
    crate::harness::until("they are there", || sizes(&daemon) == [1024, 1024]);
    assert_eq!(shown(&daemon, "Ap1")["driver_specific"]["split"]["offset_blocks"], 1024);
    let saved = std::fs::read_to_string(&config).unwrap();
    assert!(saved.contains(r#""lunette_split_blocks": 1024"#), "{saved}");
    // They are where they were after it has grown; and where it ends before one, that one waits.
    let mut folder = daemon.stop();
    for (bytes, expected) in [(3 << 20, [1024, 1024]), (512 * 1000, [1000, 0])] {
        std::fs::write(&file, vec![0; bytes]).unwrap();
        let daemon = Managed::keeping(folder, Plan::parse(&saved).unwrap());
        assert_eq!((sizes(&daemon), std::fs::read_to_string(&config).unwrap()), (expected, saved.clone()));
        if expected[1] == 0 {
            let why = "A has 1000 blocks: it ends before block 1024, where this part begins";
            crate::harness::until(why, || shown(&daemon, "Ap1")["lunette_not_ready"] == why);
        }
        folder = daemon.stop();
    }
}
