//! What commands say where there is no daemon, and of files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use lunette_initiator::Command;
use lunette_initiator::config::Auth;
use rustix::process::{Pid, Signal, kill_process};

use super::daemon::{Lunette, Shared, command, run};
use crate::harness::{test_unit_ready, until};

/// Every command that is for a daemon.
const CLIENTS: &[&[&str]] = &[
    &["share", "1M"],
    &["unshare", "x"],
    &["resize", "x"],
    &["drain", "--all"],
    &["status"],
    &["sessions"],
    &["kick", "x"],
    &["rpc", "spdk_get_version"],
];

#[test]
fn without_a_daemon_every_command_says_what_to_run_and_ends_with_3() {
    for args in CLIENTS {
        let nobody = run("/nowhere/rpc.sock", args).failed(3);
        assert!(nobody.starts_with("lunette: /nowhere/rpc.sock: "), "{nobody}");
        assert!(nobody.contains("start one with 'lunette serve'"), "{nobody}");
        let unnamed = run("", args).failed(2);
        assert!(unnamed.contains("name the daemon's socket by --socket PATH"), "{unnamed}");
    }
}

#[test]
fn a_daemon_that_only_calls_can_give_work_needs_its_socket() {
    let refused = run("", &["serve", "--log", "error"]).failed(1);
    assert_eq!(
        refused,
        "lunette: LUNETTE_SOCKET is set to nothing; --rpc-socket PATH names another socket\n"
    );
    let lunette = Lunette::start();
    let second = run(lunette.path("rpc.sock"), &["serve", "--log", "error"]).failed(1);
    assert!(second.contains("another daemon has this socket"), "{second}");
    let named = lunette.file("rpc.sock");
    let told = run("/nowhere", &["sessions", "--socket", &named]).ok();
    assert_eq!(told, "nobody is logged in\n");
}

#[test]
fn status_says_how_far_a_sanitize_is() {
    let lunette = Lunette::start();
    let rpc = |method: &str, params: &str| lunette.run(&["rpc", method, params]).ok();
    rpc("bdev_malloc_create", r#"{"name":"ram0","num_blocks":2048,"block_size":512}"#);
    // Each of its pieces takes a second.
    rpc(
        "bdev_delay_create",
        r#"{"name":"slow","base_bdev_name":"ram0","avg_read_latency":0,"p99_read_latency":0,
            "avg_write_latency":1000000,"p99_write_latency":1000000}"#,
    );
    let shared = Shared::of(lunette.run(&["share", "slow", "--portal", "127.0.0.1:0", "--json"]).json());
    let mut client = shared.login("a", Auth::None).unwrap();
    // SANITIZE, OVERWRITE, IMMED.
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[8]) = (0x48, 0x81, 6);
    let sanitize = Command::write(0, cdb, vec![1, 0, 0, 2, 0xa5, 0x5a]);
    assert!(client.run(sanitize).unwrap().is_good());
    let status = lunette.run(&["status"]).ok();
    assert!(status.contains("! slow: busy with SANITIZE, "), "{status}");
    assert!(status.contains(" % done: nobody reads or writes until then\n"), "{status}");
    until("it is done", || client.run(test_unit_ready(0)).unwrap().is_good());
    let status = lunette.run(&["status"]).ok();
    assert!(!status.contains("busy"), "{status}");
    client.logout().unwrap();
}

#[test]
fn a_file_is_checked_with_places() {
    let lunette = Lunette::start();
    let file = lunette.file("config.json");
    assert_eq!(
        run("", &["check", &file]).failed(1),
        format!("lunette: {file}: No such file or directory (os error 2)\n")
    );
    lunette.run(&["share", "1M", "--portal", "127.0.0.1:0"]).ok();
    lunette.run(&["rpc", "lunette_save_config", &format!(r#"{{"filename":"{file}"}}"#)]).ok();
    let saved = run("", &["check", "--strict", &file]).ok();
    assert!(saved.ends_with(" calls, 0 errors, 0 warnings\n"), "{saved}");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"num_blocks\"", "\"num_block\"")).unwrap();
    let wrong = run("", &["check", &file]);
    assert_eq!((wrong.code, wrong.err.as_str()), (1, ""));
    let hint =
        "error: bdev_malloc_create: there is no parameter \"num_block\"; did you mean \"num_blocks\"?\n";
    assert!(wrong.out.contains(hint), "{}", wrong.out);
    let place = wrong.out.lines().next().unwrap().strip_prefix(&format!("{file}:")).unwrap().to_owned();
    let line: usize = place.split(':').next().unwrap().parse().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.lines().nth(line - 1).unwrap().contains("num_block"), "{place}");
    let json: serde_json::Value = serde_json::from_str(&run("", &["check", "--json", &file]).out).unwrap();
    assert_eq!(json["findings"][0]["line"], line);
}

const EXPOSED: &str = "others can read";
const SECRET: &str = "correct-horse-12";

/// A file of calls with a secret, and with one in a file of its own.
fn account(member: &str) -> String {
    format!(
        r#"{{"subsystems":[{{"subsystem":"iscsi","config":[{{"method":"iscsi_create_auth_group",
            "params":{{"tag":1,"secrets":[{{"user":"joe",{member}}}]}}}}]}}]}}"#
    )
}

/// What a daemon of its own logs that serves this configuration.
fn what_serve_says(lunette: &Lunette, config: &str) -> String {
    let (socket, log) = (lunette.file("other.sock"), lunette.file("log"));
    let served = ["serve", "--config", config, "--no-save", "--rpc-socket", &socket];
    let quiet = ["--idle", "park", "--mem-size", "16", "--hugepages", "off", "--log", "warn"];
    let log_file = File::create(&log).unwrap();
    let mut serve = command("", &[&served[..], &quiet].concat());
    serve.stdin(Stdio::null()).stdout(log_file.try_clone().unwrap()).stderr(log_file);
    let mut child = serve.spawn().unwrap();
    until("the daemon takes calls", || UnixStream::connect(&socket).is_ok());
    // An answer: its start is over.
    run(&socket, &["rpc", "spdk_get_version"]).ok();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    fs::read_to_string(&log).unwrap()
}

#[test]
fn files_whose_secrets_others_can_read_are_warned_of() {
    let lunette = Lunette::start();
    let (config, secret) = (lunette.file("config.json"), lunette.file("joe.secret"));
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let inside = account(&format!(r#""secret":"{SECRET}""#));
    let beside = account(&format!(r#""lunette_secret_file":"{secret}""#));
    for (text, mode, is_exposed) in [(&inside, 0o644, true), (&inside, 0o600, false), (&beside, 0o644, false)]
    {
        fs::write(&config, text).unwrap();
        fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
        let applied = lunette.run(&["apply", &config, "--dry-run"]);
        assert_eq!((applied.code, applied.err.contains(EXPOSED)), (0, is_exposed), "{applied:?}");
        assert!(!applied.err.contains(SECRET) && !applied.out.contains(SECRET), "{applied:?}");
        let told = what_serve_says(&lunette, &config);
        assert_eq!(told.contains(EXPOSED), is_exposed, "{told}");
        assert!(!told.contains(SECRET), "{told}");
    }
}

#[test]
fn a_file_of_accounts_that_is_missing_is_named() {
    let lunette = Lunette::start();
    let config = lunette.file("config.json");
    let text = r#"{"subsystems":[{"subsystem":"iscsi","config":[{"method":"iscsi_set_options","params":{"auth_file":"/a"}}]}]}"#;
    fs::write(&config, text).unwrap();
    let told = what_serve_says(&lunette, &config);
    assert!(told.contains("auth_file: /a is not there"), "{told}");
}

#[test]
fn an_import_that_goes_to_a_file_for_everybody_is_warned_of() {
    let lunette = Lunette::start();
    let (from, to) = (lunette.file("targets.conf"), lunette.path("config.json"));
    let text = |account: &str| format!("<target iqn.2026-11.io.example:t>\n{account}</target>\n");
    let account = format!("incominguser joe {SECRET}\n");
    for (account, mode, is_exposed) in
        [(account.as_str(), 0o644, true), (&account, 0o600, false), ("", 0o644, false)]
    {
        fs::write(&from, text(account)).unwrap();
        let file = File::create(&to).unwrap();
        file.set_permissions(Permissions::from_mode(mode)).unwrap();
        let mut import = command("", &["import", &from]);
        let ended = import.stdin(Stdio::null()).stdout(file).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.success(), said.contains(EXPOSED)), (true, is_exposed), "{said}");
        assert_eq!(fs::read_to_string(&to).unwrap().contains(SECRET), !account.is_empty());
    }
}
