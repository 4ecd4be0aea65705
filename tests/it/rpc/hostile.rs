//! Clients that mean harm, or do it without meaning it. Only who runs the daemon can be one; the others are served all the
//! same.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use lunette::limits::RPC_CONNS_MAX;

use super::daemon::Managed;
use crate::harness::until;

/// What ends a connection, and how the answer begins.
fn ends(daemon: &Managed, text: &str, why: &str) {
    let mut wire = daemon.connect();
    // The daemon may have answered and closed before all of it was written.
    let _ = wire.stream.write_all(text.as_bytes());
    let begin = format!(
        r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":-32700,"message":"Parse error","data":"{why}"#
    );
    let line = wire.line();
    assert!(line.starts_with(&begin), "{line}");
    assert_eq!(wire.try_line(), None);
}

#[test]
fn what_is_too_deep_or_too_long_is_refused() {
    let daemon = Managed::start();
    ends(&daemon, &"[".repeat(100_000), "values nest 64 deep at most");
    ends(&daemon, &"{\"a\":".repeat(100_000), "values nest 64 deep at most");
    let long = "x".repeat(5 << 20);
    ends(&daemon, &format!("{{\"method\":\"{long}\"}}"), "a request has 4194304 bytes at most");
    ends(&daemon, "\u{0}\u{1}\u{2}", "expected value");
    assert_eq!(daemon.ok("bdev_wait_for_examine", "{}"), true);
}

#[test]
fn a_long_name_is_just_not_there() {
    let daemon = Managed::start();
    let name = "\u{e9}".repeat(1 << 20);
    let error = daemon.call("bdev_get_bdevs", &format!(r#"{{"name":"{name}"}}"#)).unwrap_err();
    assert_eq!(error["code"], -19);
    let refused = daemon.call("iscsi_delete_target_node", &format!(r#"{{"name":"{name}"}}"#)).unwrap_err();
    assert_eq!(refused["code"], -2);
}

#[test]
fn thousands_of_batches_come_to_an_end() {
    let daemon = Managed::start();
    let batch = format!("[{}]", vec![r#"{"id":1,"method":"x"}"#; 20].join(","));
    let mut wire = daemon.connect();
    let mut writer = wire.stream.try_clone().unwrap();
    let text = batch.repeat(2000);
    let writing = std::thread::spawn(move || writer.write_all(text.as_bytes()).unwrap());
    for _ in 0..2000 {
        assert_eq!(wire.line().matches("-32601").count(), 20);
    }
    writing.join().unwrap();
    let too_many = format!("[{}]", vec!["1"; 8193].join(","));
    wire.send(&too_many);
    assert!(wire.line().contains("a batch has 8192 calls at most"));
    assert_eq!(wire.call("bdev_wait_for_examine", "{}").unwrap(), true);
}

#[test]
fn who_never_reads_and_who_never_finishes_hold_nobody_up() {
    let daemon = Managed::start();
    let mut silent = daemon.connect();
    silent.send(r#"{"method":"bdev_examine","params":{"na"#);
    let mut deaf = daemon.connect();
    deaf.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let request = r#"{"id":1,"method":"rpc_get_methods"}"#.repeat(1000);
    // Until the daemon waits for it to read, and so does not read any more itself.
    let stopped = loop {
        if let Err(error) = deaf.stream.write_all(request.as_bytes()) {
            break error;
        }
    };
    assert_eq!(stopped.kind(), ErrorKind::WouldBlock);
    for _ in 0..10 {
        assert_eq!(daemon.ok("bdev_wait_for_examine", "{}"), true);
    }
    silent.send(r#"me":"x"},"id":3}"#);
    assert!(silent.line().starts_with(r#"{"jsonrpc":"2.0","id":3,"error":{"code":-19,"#));
}

#[test]
fn there_are_only_so_many_connections() {
    let daemon = Managed::start();
    let mut wires: Vec<_> = (0..RPC_CONNS_MAX).map(|_| daemon.connect()).collect();
    for wire in &mut wires {
        assert_eq!(wire.call("bdev_wait_for_examine", "{}").unwrap(), true);
    }
    let mut more = daemon.connect();
    assert_eq!(
        more.line(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Internal error: 64 clients are connected, and no more may be"}}"#
    );
    assert_eq!(more.try_line(), None);
    wires.pop();
    // Its thread has to have noticed.
    until("there is room again", || {
        let mut wire = daemon.connect();
        wire.stream.write_all(br#"{"id":1,"method":"bdev_wait_for_examine"}"#).is_ok()
            && wire.try_line().is_some_and(|line| line.ends_with(r#""result":true}"#))
    });
}
