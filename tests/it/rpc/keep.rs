//! Changes are on disk when they are answered; the last versions; the way back.

use std::path::{Path, PathBuf};

use lunette::import::source::{Disk, Source};
use lunette::import::{Format, import};
use lunette::rpc::config::Plan;
use lunette::rpc::versions::Versions;
use lunette_initiator::{Client, Config};
use serde_json::{Value, json};

use super::config::lunette;
use super::daemon::{Folder, Managed, Wire, two_groups};
use crate::harness::until;

const TARGET: &str = "iqn.2016-06.io.spdk:t";

fn keeping() -> Managed {
    Managed::keeping(Folder::new(), Plan::default())
}

/// The names of the RAM disks that the file makes.
fn disks(daemon: &Managed) -> Vec<String> {
    let text = std::fs::read_to_string(daemon.folder.path("config.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let subsystems = whole["subsystems"].as_array().unwrap();
    let calls = subsystems.iter().flat_map(|subsystem| subsystem["config"].as_array().unwrap());
    let disks = calls.filter(|call| call["method"] == "bdev_malloc_create");
    disks.map(|call| call["params"]["name"].as_str().unwrap().to_owned()).collect()
}

fn causes(file: &Path) -> Vec<String> {
    Versions::of(file).list().unwrap().into_iter().map(|version| version.cause).collect()
}

fn create(name: &str) -> String {
    format!(r#"{{"name":"{name}","num_blocks":8,"block_size":512}}"#)
}

#[test]
fn a_change_is_in_the_file_when_it_is_answered() {
    let daemon = keeping();
    let file = daemon.folder.path("config.json");
    // What only tells, is refused or changes nothing writes nothing.
    daemon.ok("bdev_get_bdevs", "{}");
    daemon.refused("bdev_malloc_delete", r#"{"name":"A"}"#);
    daemon.ok("bdev_reset_iostat", "{}");
    assert!(!file.exists());
    daemon.ok("bdev_malloc_create", &create("A"));
    assert_eq!(disks(&daemon), ["A"]);
    daemon.ok("bdev_malloc_create", &create("B"));
    daemon.ok("bdev_reset_iostat", "{}");
    assert_eq!(disks(&daemon), ["A", "B"]);
    daemon.ok("bdev_malloc_delete", r#"{"name":"A"}"#);
    assert_eq!(disks(&daemon), ["B"]);
    assert_eq!(causes(&file), ["bdev_malloc_create", "bdev_malloc_create", "bdev_malloc_delete"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let folder = daemon.stop();
    let daemon = Managed::keeping(folder, Plan::parse(&text).unwrap());
    // Loading it was no change.
    assert_eq!(causes(&file).len(), 3);
    assert_eq!(daemon.ok("lunette_get_config", "{}"), serde_json::from_str::<Value>(&text).unwrap());
    // What somebody did to the file meanwhile is kept, and put right on demand.
    std::fs::write(&file, "{}").unwrap();
    daemon.ok("lunette_save_config", "{}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(causes(&file)[3..], ["found", "lunette_save_config"]);
}

/// Where data are in what is made of others is in the file before anybody is served: else they would be elsewhere at the start
/// after a member has grown.
#[test]
fn what_a_file_left_open_is_in_it_when_it_is_loaded() {
    let made = r#"{"method":"bdev_malloc_create","params":{"name":"A","num_blocks":4096,"block_size":512}},
        {"method":"bdev_malloc_create","params":{"name":"B","num_blocks":4096,"block_size":512}},
        {"method":"bdev_malloc_create","params":{"name":"C","num_blocks":4096,"block_size":512}}"#;
    let raid = r#"{"method":"bdev_raid_create","params":
        {"name":"R","strip_size_kb":4,"raid_level":"concat","base_bdevs":["A","B"]}}"#;
    let split = r#"{"method":"bdev_split_create","params":{"base_bdev":"C","split_count":2}}"#;
    for (more, expected) in
        [(raid, json!({"lunette_base_blocks": [4096, 4096]})), (split, json!({"lunette_split_blocks": 2048}))]
    {
        let text = format!(r#"{{"subsystems":[{{"subsystem":"bdev","config":[{made},{more}]}}]}}"#);
        let folder = Folder::new();
        let file = folder.path("config.json");
        std::fs::write(&file, &text).unwrap();
        let daemon = Managed::keeping(folder, Plan::parse(&text).unwrap());
        let kept = std::fs::read_to_string(&file).unwrap();
        assert_eq!(causes(&file), ["found", "start"]);
        let (name, value) = expected.as_object().unwrap().iter().next().unwrap();
        let plan = Plan::parse(&kept).unwrap();
        let said =
            plan.calls().find_map(|(_, params)| Some(params.to_string()).filter(|text| text.contains(name)));
        assert!(said.unwrap().contains(&format!(r#""{name}":{value}"#)), "{kept}");
        // And once it says so, loading it is no change.
        let folder = daemon.stop();
        let daemon = Managed::keeping(folder, plan);
        assert_eq!(causes(&file).len(), 2);
        drop(daemon);
    }
}

/// Where recordings go is no reason not to serve; and what a switch says is in no file.
#[test]
fn a_folder_of_recordings_that_is_gone_does_not_keep_others_from_being_served() {
    let daemon = keeping();
    let recordings = daemon.folder.path("recordings");
    std::fs::create_dir(&recordings).unwrap();
    // Of one that was killed.
    std::fs::write(recordings.join("lunette-probe"), "").unwrap();
    let params = json!({ "directory": recordings, "files_max": 3 }).to_string();
    daemon.ok("lunette_recorder_set_options", &params);
    let file = daemon.folder.path("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(r#""files_max": 3"#), "{text}");
    let folder = daemon.stop();
    std::fs::remove_dir_all(&recordings).unwrap();
    let daemon = Managed::keeping(folder, Plan::parse(&text).unwrap());
    assert_eq!(daemon.ok("lunette_get_config", "{}"), serde_json::from_str::<Value>(&text).unwrap());
    daemon.refused("lunette_recorder_set_options", &params);
    let elsewhere = daemon.folder.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    daemon.record_to(elsewhere);
    daemon.ok("bdev_malloc_create", &create("A"));
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("/recordings") && !kept.contains("elsewhere"), "{kept}");
}

#[test]
fn a_batch_is_saved_once() {
    let daemon = keeping();
    let calls = ["A", "B", "C"].map(|name| {
        format!(
            r#"{{"jsonrpc":"2.0","id":"{name}","method":"bdev_malloc_create","params":{}}}"#,
            create(name)
        )
    });
    let mut wire = daemon.connect();
    wire.send(&format!("[{}]", calls.join(",")));
    let answers: Value = serde_json::from_str(&wire.line()).unwrap();
    let answers = answers.as_array().unwrap();
    assert_eq!(
        answers.iter().map(|answer| answer["result"].as_str().unwrap()).collect::<Vec<_>>(),
        ["A", "B", "C"]
    );
    assert_eq!(disks(&daemon), ["A", "B", "C"]);
    assert_eq!(causes(&daemon.folder.path("config.json")), ["bdev_malloc_create"]);
}

#[test]
fn clients_at_once_share_writes_and_each_finds_its_own() {
    let daemon = keeping();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                let mut wire = daemon.connect();
                for number in 0..5 {
                    let name = format!("M{client}-{number}");
                    wire.call("bdev_malloc_create", &create(&name)).unwrap();
                    assert!(disks(daemon).contains(&name));
                }
            });
        }
    });
    assert_eq!(disks(&daemon).len(), 40);
}

/// A folder in the stead of a file, which is back when this is dropped.
struct Obstacle {
    file: PathBuf,
    aside: Option<PathBuf>,
}

impl Obstacle {
    fn at(file: &Path) -> Obstacle {
        let aside = file.with_extension("aside");
        let aside = std::fs::rename(file, &aside).is_ok().then_some(aside);
        std::fs::create_dir(file).unwrap();
        Obstacle { file: file.to_owned(), aside }
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.file).unwrap();
        if let Some(aside) = &self.aside {
            std::fs::rename(aside, &self.file).unwrap();
        }
    }
}

#[test]
fn what_cannot_be_saved_is_said_and_tried_again() {
    let daemon = keeping();
    daemon.ok("bdev_malloc_create", &create("A"));
    let file = daemon.folder.path("config.json");
    let obstacle = Obstacle::at(&file);
    let (code, text) = daemon.refused("bdev_malloc_create", &create("B"));
    let expected = format!(
        "Internal error: it is done, but it would be gone at the next start, as it cannot be saved: {}: ",
        file.display()
    );
    assert_eq!((code, &text[..expected.len()]), (-32603, &*expected));
    let in_a_batch = format!(
        r#"[{{"jsonrpc":"2.0","id":1,"method":"bdev_malloc_delete","params":{{"name":"B"}}}},
            {{"jsonrpc":"2.0","id":2,"method":"bdev_get_bdevs"}},
            {{"jsonrpc":"2.0","method":"bdev_malloc_create","params":{}}}]"#,
        create("C")
    );
    let mut wire = daemon.connect();
    wire.send(&in_a_batch);
    let answers: Value = serde_json::from_str(&wire.line()).unwrap();
    assert_eq!(answers[0]["error"]["code"], -32603);
    assert!(answers[1]["result"].is_array());
    drop(obstacle);
    assert_eq!(disks(&daemon), ["A"]);
    // Not even a change.
    daemon.ok("bdev_reset_iostat", "{}");
    assert_eq!(disks(&daemon), ["A", "C"]);
}

#[test]
fn versions_are_listed_compared_and_brought_back() {
    let daemon = keeping();
    daemon.ok("bdev_malloc_create", &create("A"));
    daemon.ok("iscsi_create_auth_group", r#"{"tag":1,"secrets":[{"user":"u","secret":"correct-horse-12"}]}"#);
    daemon.ok("bdev_malloc_create", &create("B"));
    let file = daemon.folder.path("config.json").display().to_string();
    let run = |args: &[&str]| {
        let mut args = args.to_vec();
        args.extend(["-c", &file]);
        let output = lunette(&args, "");
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = run(&["config", "history", "--json"]);
    let rows: Value = serde_json::from_str(&text).unwrap();
    let seen = |row: &Value| (row["version"].clone(), row["by"].clone(), row["is_current"].clone());
    assert_eq!(code, 0);
    assert_eq!(seen(&rows[1]), (2.into(), "iscsi_create_auth_group".into(), false.into()));
    assert_eq!(seen(&rows[2]), (3.into(), "bdev_malloc_create".into(), true.into()));
    let (code, text) = run(&["config", "history"]);
    assert_eq!((code, text.lines().count()), (0, 4));
    assert!(text.lines().nth(3).unwrap().ends_with("bdev_malloc_create  (as the file is)"), "{text}");

    let (code, text) = run(&["config", "diff"]);
    assert_eq!((code, text.lines().count()), (0, 1), "{text}");
    assert!(text.starts_with(r#"+ bdev_malloc_create {"name":"B","#), "{text}");
    let (_, text) = run(&["config", "diff", "3", "1"]);
    assert_eq!(text.lines().count(), 2);
    assert_eq!(
        text.lines().nth(1).unwrap(),
        r#"- iscsi_create_auth_group {"tag":1,"secrets":[{"user":"u","secret":"***"}]}"#
    );
    let (_, text) = run(&["config", "diff", "--json", "3", "1"]);
    let lines: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((lines[0]["is_new"].as_bool(), lines.as_array().unwrap().len()), (Some(false), 2));
    assert!(lines[1]["call"].as_str().unwrap().ends_with(r#""secret":"***"}]}"#), "{text}");
    let (code, text) = run(&["config", "diff", "9"]);
    assert_eq!((code, text.lines().next().unwrap()), (2, "lunette: there is no version 9; there are 1 to 3"));

    let (code, text) = run(&["config", "rollback", "1"]);
    assert_eq!(
        (code, &*text),
        (1, &*format!("lunette: a daemon runs with {file} and writes it: stop it first\n"))
    );
    let folder = daemon.stop();
    // The threads of clients that are gone may still be ending.
    while Versions::of(Path::new(&file)).take().is_err() {
        std::thread::yield_now();
    }
    let (code, text) = run(&["config", "rollback", "1"]);
    assert_eq!((code, &*text), (0, &*format!("{file} is version 1 again: the next start takes it\n")));
    let (_, text) = run(&["config", "rollback", "1", "--json"]);
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        serde_json::json!({"file": file, "version": 1})
    );
    let daemon = Managed::keeping(folder, Plan::read(Path::new(&file)).unwrap());
    assert_eq!(disks(&daemon), ["A"]);
    assert_eq!(causes(Path::new(&file)).last().unwrap(), "rollback");
}

#[test]
fn a_call_that_the_socket_does_not_let_through_saves_nothing() {
    let daemon = keeping();
    let obstacle = Obstacle::at(&daemon.folder.path("config.json"));
    daemon.refused("bdev_malloc_create", &create("A"));
    drop(obstacle);
    // Whatever changes something next is what has it written.
    let saved = || std::fs::read_to_string(daemon.folder.path("config.json")).ok();
    let before = saved();
    let path = daemon.folder.path("monitor.sock");
    let server = daemon.also(&format!("{},read-only", path.display()));
    let refused = Wire::connect(&path).call("bdev_malloc_create", &create("B")).unwrap_err();
    assert_eq!(refused["code"], -32601);
    assert_eq!(saved(), before);
    daemon.ok("bdev_malloc_create", &create("B"));
    assert!(saved().unwrap().contains("\"A\""));
    drop(server);
}

/// What another target's file says is added to what is served, though both count their groups from 1.
#[test]
fn a_configuration_is_merged_into_what_is_served() {
    let daemon = keeping();
    let [portal, _] = two_groups(&daemon, false);
    let session = Client::connect(&portal, Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    let (from, wanted) = (daemon.folder.path("targets.conf"), daemon.folder.path("wanted.json"));
    let disk = daemon.folder.path("disk.img");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    std::fs::write(
        &from,
        format!(
            "<target iqn.2026-11.io.example:new>\nbacking-store {}\ninitiator-address 127.0.0.1\n</target>\n",
            disk.display()
        ),
    )
    .unwrap();
    let source = Source { name: "targets.conf".to_owned(), text: std::fs::read_to_string(&from).unwrap() };
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let imported = import(Format::Tgt, &[source], &Disk, &listen, &[]).unwrap();
    std::fs::write(&wanted, imported.config.to_string()).unwrap();
    let apply = |more: &str| {
        daemon.call("lunette_apply_config", &format!(r#"{{"filename":"{}"{more}}}"#, wanted.display()))
    };
    let refused = apply("").unwrap_err().to_string();
    assert!(
        refused.contains("portal group 1: portals is") && refused.contains("lunette apply --merge"),
        "{refused}"
    );
    let before = daemon.ok("lunette_get_config", "{}");
    let calls = apply(r#","merge":true"#).unwrap().to_string();
    assert!(
        !calls.contains("delete") && calls.contains(r#""pg_tag":3"#) && calls.contains(r#""ig_tag":2"#),
        "{calls}"
    );
    let after = daemon.ok("lunette_get_config", "{}");
    let has_all = |before: &Value, after: &Value| {
        let calls = |config: &Value| {
            let subsystems = config["subsystems"].as_array().unwrap().clone();
            subsystems.iter().flat_map(|one| one["config"].as_array().unwrap().clone()).collect::<Vec<_>>()
        };
        let after = calls(after);
        calls(before).iter().all(|call| after.contains(call))
    };
    assert!(has_all(&before, &after), "nothing that was there is another");
    let targets = daemon.ok("iscsi_get_target_nodes", "{}").to_string();
    assert!(targets.contains("iqn.2026-11.io.example:new") && targets.contains(TARGET), "{targets}");
    drop(session);
}

#[test]
fn another_configuration_is_applied_whole_or_not_at_all() {
    let daemon = keeping();
    let [portal, _] = two_groups(&daemon, false);
    let session = Client::connect(&portal, Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    let now = daemon.ok("lunette_get_config", "{}").to_string();
    let wanted = daemon.folder.path("wanted.json");
    let apply = |text: &str, more: &str| {
        std::fs::write(&wanted, text).unwrap();
        daemon.call("lunette_apply_config", &format!(r#"{{"filename":"{}"{more}}}"#, wanted.display()))
    };
    assert_eq!(apply(&now, "").unwrap(), json!([]));

    // Another LUN on another disk, another group's entry.
    let with_disk = |text: &str, name: &str| {
        let create = format!(
            r#"{{"method":"bdev_null_create","params":{{"name":"{name}","num_blocks":8,"block_size":512}}}}"#
        );
        let wait = r#"{"method":"bdev_wait_for_examine"}"#;
        text.replace(wait, &format!("{create},{wait}"))
    };
    let other = with_disk(&now, "N0")
        .replace(r#""luns":["#, r#""luns":[{"bdev_name":"N0","lun_id":4},"#)
        .replace(r#""netmasks":["ANY"]"#, r#""netmasks":["127.0.0.0/8"]"#);
    let methods = |calls: &Value| -> Vec<String> {
        calls.as_array().unwrap().iter().map(|call| call["method"].as_str().unwrap().to_owned()).collect()
    };
    let expected = [
        "bdev_null_create",
        "iscsi_initiator_group_remove_initiators",
        "iscsi_initiator_group_add_initiators",
        "iscsi_target_node_add_lun",
    ];
    assert_eq!(methods(&apply(&other, r#","dry_run":true"#).unwrap()), expected);
    assert_eq!(daemon.ok("lunette_get_config", "{}").to_string(), now);
    assert_eq!(methods(&apply(&other, "").unwrap()), expected);
    let kept = std::fs::read_to_string(daemon.folder.path("config.json")).unwrap();
    assert!(kept.contains(r#""lun_id": 4"#), "{kept}");
    assert_eq!(causes(&daemon.folder.path("config.json")).last().unwrap(), "lunette_apply_config");
    assert_eq!(apply(&other, "").unwrap(), json!([]));

    // One call that fails after others that went well: nothing has changed.
    let before = daemon.ok("lunette_get_config", "{}").to_string();
    let fails = with_disk(&before, "N1")
        .replace(r#""bdev_name":"N0","lun_id":4"#, r#""bdev_name":"nobody","lun_id":5"#);
    let error = apply(&fails, "").unwrap_err();
    let text = error["message"].as_str().unwrap();
    assert!(
        text.starts_with("iscsi_target_node_add_lun: ") && text.ends_with(": nothing has changed"),
        "{text}"
    );
    let after = daemon.ok("lunette_get_config", "{}").to_string();
    assert_eq!(sorted(&after), sorted(&before));

    // And back, the disk last; who was logged in still is.
    assert_eq!(methods(&apply(&now, "").unwrap()).last().unwrap(), "bdev_null_delete");
    assert_eq!(sorted(&daemon.ok("lunette_get_config", "{}").to_string()), sorted(&now));
    assert_eq!(daemon.ok("iscsi_get_connections", "{}").as_array().unwrap().len(), 1);
    drop(session);

    let refused = apply(&now.replace(r#""queue_depth":64"#, r#""queue_depth":65"#), "").unwrap_err();
    assert_eq!(refused["code"], -32602);
    let data = refused["data"].as_str().unwrap();
    assert!(data.starts_with("target iqn.2016-06.io.spdk:t: queue_depth is 64, which stays"), "{data}");
    let file = wanted.display().to_string();
    std::fs::write(&wanted, &other).unwrap();
    let socket = daemon.socket().display().to_string();
    let output = lunette(&["apply", &file, "-s", &socket, "--dry-run"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!((output.status.code(), text.lines().last()), (Some(0), Some("4 calls would do it")));
}

/// A text's lines as a set: LUNs that came back may stand elsewhere.
fn sorted(text: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = text.split("},{").collect();
    parts.sort_unstable();
    parts
}

#[test]
fn one_screen_shows_who_is_served_and_sessions_are_ended() {
    let daemon = Managed::start();
    let [portal, _] = two_groups(&daemon, false);
    let session = Client::connect(&portal, Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    let socket = daemon.socket().display().to_string();
    let run = |args: &[&str]| {
        let output = lunette(&[args, &["-s", &socket]].concat(), "");
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run(&["status"]);
    assert_eq!(code, 0);
    for expected in
        ["\niqn.2016-06.io.spdk:t  1     1 2            1\n", "\nM0    1 MiB  t/0  ", "\nnothing is wrong\n"]
    {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    let (_, text) = run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&status["sessions"], &status["problems"]), (&json!(1), &json!([])));
    let (_, text) = run(&["sessions"]);
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.lines()
            .nth(1)
            .unwrap()
            .contains("iqn.2026-11.io.example:a  127.0.0.1  iqn.2016-06.io.spdk:t  1 "),
        "{text}"
    );
    assert_eq!(run(&["kick", "iqn.2026-11.io.example:b"]).0, 1);
    let (code, text) = run(&["kick", "iqn.2026-11.io.example:a"]);
    assert_eq!(code, 0);
    assert!(text.contains(" of iqn.2026-11.io.example:a; it may log in again"), "{text}");
    drop(session);
    until("nobody is logged in", || run(&["sessions"]) == (0, "nobody is logged in\n".to_owned()));
}
