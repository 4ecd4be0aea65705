//! What is not to be told, and to whom: secrets that are named, sockets for some calls.

use std::os::unix::fs::PermissionsExt as _;

use lunette::rpc::config::Plan;
use lunette_initiator::config::{Auth, Chap};
use lunette_initiator::{Client, Config};
use serde_json::{Value, json};

use super::daemon::{Folder, Managed, Wire, two_groups};

const SECRET: &str = "correct-horse-12";
const TARGET: &str = "iqn.2016-06.io.spdk:t";

/// A file with the secret.
fn secret_file(folder: &Folder) -> std::path::PathBuf {
    let path = folder.path("alice");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A login as alice, who says this secret.
fn log_in(address: &str, secret: &str) -> bool {
    let mut config = Config::new("iqn.2026-11.io.example:host", TARGET);
    config.auth = Auth::Chap(Chap::new("alice", secret.as_bytes()));
    Client::connect(address.parse::<std::net::SocketAddr>().unwrap(), config).is_ok()
}

#[test]
fn a_secret_in_a_file_is_used_and_never_saved() {
    let daemon = Managed::start();
    let file = secret_file(&daemon.folder);
    let account = json!({"user": "alice", "lunette_secret_file": file});
    daemon.ok("iscsi_create_auth_group", &json!({"tag": 1, "secrets": [account]}).to_string());
    assert_eq!(daemon.ok("iscsi_get_auth_groups", "{}"), json!([{"tag": 1, "secrets": [account]}]));
    let [address, _] = two_groups(&daemon, false);
    daemon.ok(
        "iscsi_target_node_set_auth",
        &json!({"name": TARGET, "require_chap": true, "chap_group": 1}).to_string(),
    );
    assert!(log_in(&address, SECRET));
    assert!(!log_in(&address, "another-secret-1"));
    let saved = daemon.ok("lunette_get_config", "{}").to_string();
    assert!(!saved.contains(SECRET) && saved.contains("lunette_secret_file"), "{saved}");

    // Said or named, not both; and where others read it, not at all.
    let both = json!({"tag": 1, "user": "bob", "secret": SECRET, "lunette_secret_file": file}).to_string();
    assert_eq!(daemon.refused("iscsi_auth_group_add_secret", &both).0, -32602);
    let neither = daemon.refused("iscsi_auth_group_add_secret", r#"{"tag":1,"user":"bob"}"#);
    assert!(neither.1.contains("it is missing"), "{neither:?}");
    let credential = r#"{"tag":1,"user":"bob","lunette_secret_credential":"../alice"}"#;
    assert!(daemon.refused("iscsi_auth_group_add_secret", credential).1.contains("no name of a credential"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let named = json!({"tag": 1, "user": "bob", "lunette_secret_file": file}).to_string();
    assert!(daemon.refused("iscsi_auth_group_add_secret", &named).1.contains("chmod 600"));

    // What is saved makes the same again; a secret that is said replaces one that was named.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let folder = daemon.stop();
    let daemon = Managed::try_start(folder, Some(Plan::parse(&saved).unwrap())).unwrap();
    assert_eq!(daemon.ok("lunette_get_config", "{}").to_string(), saved);
    daemon.ok("iscsi_auth_group_remove_secret", r#"{"tag":1,"user":"alice"}"#);
    daemon.ok("iscsi_auth_group_add_secret", r#"{"tag":1,"user":"alice","secret":"another-secret-1"}"#);
    let expected = json!([{"tag": 1, "secrets": [{"user": "alice", "secret": "***"}]}]);
    assert_eq!(daemon.ok("iscsi_get_auth_groups", "{}"), expected);
    let folder = daemon.stop();
    std::fs::remove_file(folder.path("alice")).unwrap();
    let refused = Managed::try_start(folder, Some(Plan::parse(&saved).unwrap())).unwrap_err();
    assert!(refused.contains("the secret of \"alice\"") && refused.contains("No such file"), "{refused}");
}

#[test]
fn a_secret_that_was_rotated_is_read_again_by_apply() {
    let daemon = Managed::start();
    let file = secret_file(&daemon.folder);
    let account = json!({"user": "alice", "lunette_secret_file": file});
    daemon.ok("iscsi_create_auth_group", &json!({"tag": 1, "secrets": [account]}).to_string());
    let [address, _] = two_groups(&daemon, false);
    let auth = json!({"name": TARGET, "require_chap": true, "chap_group": 1}).to_string();
    daemon.ok("iscsi_target_node_set_auth", &auth);
    let config = daemon.folder.path("wanted.json");
    std::fs::write(&config, daemon.ok("lunette_get_config", "{}").to_string()).unwrap();
    let apply = json!({ "filename": config }).to_string();
    assert_eq!(daemon.ok("lunette_apply_config", &apply), json!([]));
    // One that cannot be is refused, and what was known is known still.
    std::fs::write(&file, "guess\n").unwrap();
    let refused = daemon.refused("lunette_apply_config", &apply).1;
    assert!(refused.contains("12 bytes") && refused.contains("nothing has changed"), "{refused}");
    assert!(log_in(&address, SECRET));
    std::fs::write(&file, "rotated-secret-1\n").unwrap();
    let call = json!([{"method": "lunette_auth_group_reread_secrets", "params": {"tag": 1}}]);
    let dry = json!({"filename": config, "dry_run": true}).to_string();
    assert_eq!(daemon.ok("lunette_apply_config", &dry), call);
    assert!(log_in(&address, SECRET), "nothing was done yet");
    assert_eq!(daemon.ok("lunette_apply_config", &apply), call);
    assert!(!log_in(&address, SECRET) && log_in(&address, "rotated-secret-1"));
    assert_eq!(daemon.ok("lunette_apply_config", &apply), json!([]));
    std::fs::remove_file(&file).unwrap();
    let gone = daemon.refused("lunette_auth_group_reread_secrets", r#"{"tag":1}"#).1;
    assert!(gone.contains("the secret of \"alice\""), "{gone}");
    assert_eq!(daemon.refused("lunette_auth_group_reread_secrets", r#"{"tag":2}"#).0, -32602);
}

/// SPDK's file of accounts is read at each start, and what stands in it stays there.
#[test]
fn accounts_are_read_from_spdks_file() {
    let folder = Folder::new();
    let file = folder.path("auth.conf");
    let write = |accounts: &str, mode| {
        std::fs::write(&file, accounts).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let options = |more: &str| {
        format!(
            r#"{{"subsystems":[{{"subsystem":"iscsi","config":[{{"method":"iscsi_set_options","params":{{"auth_file":{file:?}}}}}{more}]}}]}}"#
        )
    };
    let start = |folder, text: &str| Managed::try_start(folder, Some(Plan::parse(text).unwrap()));
    for (accounts, mode, why) in [
        (
            format!("[AuthGroup1]\nAuth alice {SECRET}\n"),
            0o604,
            "everybody on this machine can reach it: chmod 600",
        ),
        (format!("[AuthGroup1]\nAuth alice \"{SECRET}\n"), 0o600, "line 2: a quote is not closed"),
        ("[AuthGroup2]\n[AuthGroup1]\nAuth alice guess\n".to_owned(), 0o600, "fewer than 12 bytes"),
    ] {
        write(&accounts, mode);
        let refused = start(Folder::new(), &options("")).unwrap_err();
        assert!(refused.contains("auth.conf") && refused.contains(why), "{refused}");
        assert!(!refused.contains(SECRET) && !refused.contains("guess\n"), "{refused}");
    }
    write(&format!("[AuthGroup1]\n  Auth \"alice\" \"{SECRET}\"\n[AuthGroup2]\n"), 0o600);
    let daemon = start(Folder::new(), &options("")).unwrap();
    let [address, _] = two_groups(&daemon, false);
    let auth = json!({"name": TARGET, "require_chap": true, "chap_group": 1}).to_string();
    daemon.ok("iscsi_target_node_set_auth", &auth);
    assert!(log_in(&address, SECRET) && !log_in(&address, "another-secret-1"));
    let shown = json!([
        {"tag": 1, "secrets": [{"user": "alice", "secret": "***"}], "lunette_auth_file": file},
        {"tag": 2, "secrets": [], "lunette_auth_file": file},
    ]);
    assert_eq!(daemon.ok("iscsi_get_auth_groups", "{}"), shown);
    assert_eq!(daemon.ok("iscsi_get_options", "{}")["auth_file"], json!(file));
    let saved = daemon.ok("lunette_get_config", "{}").to_string();
    assert!(!saved.contains(SECRET) && !saved.contains("iscsi_create_auth_group"), "{saved}");
    assert!(saved.contains(r#""auth_file""#), "{saved}");
    // Its groups are its own affair; they are read again when that is asked for.
    for (method, params) in [
        ("iscsi_delete_auth_group", r#"{"tag":1}"#),
        ("iscsi_auth_group_remove_secret", r#"{"tag":1,"user":"alice"}"#),
        ("iscsi_auth_group_add_secret", r#"{"tag":1,"user":"bob","secret":"another-secret-1"}"#),
    ] {
        let refused = daemon.refused(method, params);
        assert!(refused.0 == -1 && refused.1.contains("that of auth_file"), "{refused:?}");
    }
    write("[AuthGroup1]\nAuth alice guess\n", 0o600);
    let refused = daemon.refused("lunette_auth_group_reread_secrets", r#"{"tag":1}"#).1;
    assert!(refused.contains("12 bytes"), "{refused}");
    assert!(log_in(&address, SECRET), "all of it or nothing");
    write("[AuthGroup1]\nAuth alice rotated-secret-1\n", 0o600);
    daemon.ok("lunette_auth_group_reread_secrets", r#"{"tag":1}"#);
    assert!(!log_in(&address, SECRET) && log_in(&address, "rotated-secret-1"));
    assert!(
        daemon.refused("lunette_auth_group_reread_secrets", r#"{"tag":2}"#).1.contains("no [AuthGroup2]")
    );
    // What is saved reads it anew; and a call of the same file says more of a group than that does.
    let folder = daemon.stop();
    let daemon = start(folder, &saved).unwrap();
    assert_eq!(daemon.ok("lunette_get_config", "{}").to_string(), saved);
    assert!(log_in(&super::daemon::addresses(&daemon)[0], "rotated-secret-1"));
    let call = r#",{"method":"iscsi_create_auth_group","params":{"tag":1,"secrets":[{"user":"bob","secret":"another-secret-1"}]}}"#;
    let daemon = start(daemon.stop(), &options(call)).unwrap();
    let shown = json!([{"tag": 1, "secrets": [{"user": "bob", "secret": "***"}]}]);
    assert_eq!(daemon.ok("iscsi_get_auth_groups", "{}"), shown);
    let saved = daemon.ok("lunette_get_config", "{}").to_string();
    assert!(saved.contains("iscsi_create_auth_group"), "{saved}");
    // One that is not there is none.
    std::fs::remove_file(&file).unwrap();
    let daemon = start(daemon.stop(), &options("")).unwrap();
    assert_eq!(daemon.ok("iscsi_get_auth_groups", "{}"), json!([]));
}

/// A call's answer.
fn ask(wire: &mut Wire, method: &str) -> Value {
    wire.send(&json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string());
    serde_json::from_str(&wire.line()).unwrap()
}

#[test]
fn a_socket_for_reading_changes_nothing_and_tells_no_secret() {
    let daemon = Managed::start();
    two_groups(&daemon, false);
    let group = json!({"tag": 1, "secrets": [{"user": "alice", "secret": SECRET}]}).to_string();
    daemon.ok("iscsi_create_auth_group", &group);
    let before = daemon.ok("lunette_get_config", "{}");
    let path = daemon.folder.path("monitor.sock");
    let server = daemon.also(&format!("{},read-only", path.display()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut wire = Wire::connect(&path);
    let refused = ask(&mut wire, "bdev_malloc_create");
    assert_eq!(refused["error"]["code"], -32601);
    assert_eq!(refused["error"]["data"], "it may not be called at this socket");
    let all = daemon.ok("rpc_get_methods", "{}");
    let listed = ask(&mut wire, "rpc_get_methods")["result"].clone();
    let listed = listed.as_array().unwrap();
    assert!(listed.len() > 10 && listed.len() < all.as_array().unwrap().len() / 2, "{listed:?}");
    for method in all.as_array().unwrap() {
        // A connection of its own: one that has subscribed is told of events only.
        let answer = ask(&mut Wire::connect(&path), method.as_str().unwrap());
        assert!(!answer.to_string().contains(SECRET), "{method}");
        assert_eq!(answer["error"]["code"] == -32601, !listed.contains(method), "{method}");
    }
    let reset = Wire::connect(&path).call("bdev_get_iostat", r#"{"reset_mode":"all"}"#).unwrap_err();
    assert_eq!(reset["code"], -32602);
    assert_eq!(reset["message"], "Invalid parameters: reset_mode: this socket is for reading only");
    Wire::connect(&path).call("bdev_get_iostat", r#"{"reset_mode":"none"}"#).unwrap();
    // Who is told of events changes nothing; a recording is written to a file.
    let may = |method: &str| listed.contains(&json!(method));
    assert!(may("lunette_subscribe") && may("lunette_get_events") && !may("lunette_dump_recorder"));
    assert!(!may("lunette_recorder_set_options"));
    assert_eq!(daemon.ok("lunette_get_config", "{}"), before);
    drop(server);
    assert!(!path.exists());
}

#[test]
fn a_socket_for_some_methods_is_for_those() {
    let daemon = Managed::start();
    let path = daemon.folder.path("some.sock");
    let server =
        daemon.also(&format!("{},methods=bdev_get_bdevs+bdev_malloc_create,uid=12345", path.display()));
    // Who comes is looked at, as everybody can.
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let mut wire = Wire::connect(&path);
    let create = r#"{"name":"M","num_blocks":8,"block_size":512}"#;
    assert_eq!(wire.call("bdev_malloc_create", create).unwrap(), "M");
    assert_eq!(wire.call("bdev_malloc_delete", r#"{"name":"M"}"#).unwrap_err()["code"], -32601);
    assert_eq!(
        ask(&mut wire, "rpc_get_methods")["result"],
        json!(["rpc_get_methods", "bdev_get_bdevs", "bdev_malloc_create"])
    );
    drop(server);
}
