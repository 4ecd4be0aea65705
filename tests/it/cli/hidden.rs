//! Secrets of CHAP are where they have to be and nowhere else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use lunette_initiator::config::{Auth, Chap};
use serde_json::{Deserializer, Value, json};

use super::daemon::{Lunette, Shared, ended};
use crate::harness::until;

/// The initiator's, the target's, and one that is only tried.
const SECRETS: [&str; 3] = ["vieux-moulin-26", "petit-pont-rouge", "wrong-bridge-99"];

/// No secret is in this, of whatever it is.
#[track_caller]
fn hides(what: &str, bytes: impl AsRef<[u8]>) {
    for secret in SECRETS {
        let is_there = bytes.as_ref().windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_there, "{secret} is in {what}");
    }
}

/// A call on a connection of its own: one that has subscribed answers no other.
fn ask(socket: &Path, method: &str, params: &Value) -> Value {
    let mut stream = UnixStream::connect(socket).unwrap();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    stream.write_all(call.to_string().as_bytes()).unwrap();
    Deserializer::from_reader(stream).into_iter().next().unwrap().unwrap()
}

fn get(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Every file below: one that others can reach has no secret in it. Returns those of nobody else that have one.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            let content = std::fs::read(&path).unwrap();
            if entry.metadata().unwrap().permissions().mode() & 0o077 != 0 {
                hides(&path.display().to_string(), content);
            } else if String::from_utf8_lossy(&content).contains(SECRETS[0]) {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_secret_is_in_the_saved_configuration_and_nowhere_else() {
    let lunette = Lunette::start_with(&[
        "--log",
        "trace",
        "--config",
        "config.json",
        "--create-config",
        "--metrics",
        "127.0.0.1:0",
    ]);
    let socket = lunette.path("rpc.sock");
    let share = ["share", "1M", "--portal=127.0.0.1:0", "--chap", "joe", "--chap-secret-file", "-", "--json"];
    let waiting = lunette.begin(&share);
    hides("the command's arguments", std::fs::read(format!("/proc/{}/cmdline", waiting.id())).unwrap());
    let shared = ended(waiting, &format!("{}\n", SECRETS[0])).json();
    hides("what share says", shared.to_string());
    let shared = Shared::of(shared);
    // A second account, by a call, with a secret of the target's.
    let account =
        json!({"tag": 1, "user": "ann", "secret": SECRETS[2], "muser": "lunette", "msecret": SECRETS[1]});
    let answer = ask(&socket, "iscsi_auth_group_add_secret", &account);
    assert_eq!(answer["result"], true, "{answer}");
    // What is refused does not tell it either.
    let refused = ask(&socket, "iscsi_auth_group_add_secret", &account);
    assert!(refused["error"].is_object(), "{refused}");
    hides("a refusal", refused.to_string());
    let wrong = json!({"tag": 1, "user": "eve", "secret": {"is": SECRETS[0]}});
    hides("what is said of a parameter", ask(&socket, "iscsi_auth_group_add_secret", &wrong).to_string());

    let chap = |secret: &str| Auth::Chap(Chap::new("joe", secret.as_bytes()));
    let mut client = shared.login("a", chap(SECRETS[0])).unwrap();
    assert_eq!(shared.refuses("b", chap(SECRETS[2])), (2, 1));

    let recording = lunette.file("recording.pcapng");
    lunette.run(&["rpc", "lunette_dump_recorder", &json!({ "file": recording }).to_string()]).ok();
    hides("a recording", std::fs::read(recording).unwrap());
    let readers = ask(&socket, "lunette_get_schema", &json!({}));
    let methods = readers["result"]["methods"].as_array().unwrap();
    let reading: Vec<&str> =
        methods.iter().filter(|it| it["read_only"] == true).map(|it| it["name"].as_str().unwrap()).collect();
    assert!(reading.len() > 30 && reading.contains(&"iscsi_get_auth_groups"), "{reading:?}");
    for method in reading {
        hides(method, ask(&socket, method, &json!({})).to_string());
    }
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["sessions", "--json"],
        &["config", "history", "--config", &lunette.file("config.json")],
        &["config", "diff", "--config", &lunette.file("config.json"), "1"],
        &["apply", "--dry-run", &lunette.file("config.json")],
        &["check", &lunette.file("config.json")],
    ] {
        hides(&command.join(" "), lunette.run(command).ok());
    }
    let log = || std::fs::read_to_string(lunette.path("log")).unwrap();
    until("the log says where the figures are", || log().contains("status page are at http://"));
    let log = log();
    let address = log.split("at http://").nth(1).unwrap().split('/').next().unwrap();
    for path in ["/metrics", "/status.json", "/"] {
        hides(path, get(address, path));
    }
    hides("the daemon's arguments", std::fs::read(format!("/proc/{}/cmdline", lunette.pid())).unwrap());
    hides("the daemon's environment", std::fs::read(format!("/proc/{}/environ", lunette.pid())).unwrap());
    client.logout().unwrap();
    until("the log tells of both logins", || {
        let log = std::fs::read_to_string(lunette.path("log")).unwrap();
        hides("the log", &log);
        log.contains("example:a") && log.contains("example:b")
    });

    let found = files(&lunette.path(""));
    assert!(found.contains(&"config.json".to_owned()), "it is saved: {found:?}");
    let is_version = |name: &String| name.ends_with(".json");
    assert!(found.iter().all(is_version), "{found:?}");
    let history = std::fs::metadata(lunette.path("config.json.history")).unwrap().permissions().mode();
    assert_eq!(history & 0o777, 0o700);
}
