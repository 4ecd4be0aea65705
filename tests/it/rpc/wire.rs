//! Framing, ids, batches, errors, stages: what every method has in common.

use super::daemon::Managed;

const EXAMINE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"bdev_wait_for_examine"}"#;
const TRUE: &str = r#"{"jsonrpc":"2.0","id":1,"result":true}"#;

#[test]
fn a_request_is_answered_however_it_is_cut() {
    let daemon = Managed::start();
    let mut wire = daemon.connect();
    for byte in EXAMINE.chars() {
        wire.send(&byte.to_string());
    }
    assert_eq!(wire.line(), TRUE);
    wire.send(&format!("\n {EXAMINE}{EXAMINE}\t{EXAMINE}"));
    assert_eq!([wire.line(), wire.line(), wire.line()], [TRUE; 3]);
    assert_eq!(wire.rest(), Vec::<String>::new());
}

#[test]
fn ids_are_echoed_and_calls_without_one_are_not_answered() {
    let daemon = Managed::start();
    let mut wire = daemon.connect();
    for id in ["7", "-7", "1.50", r#""x\u00e9""#] {
        wire.send(&format!(r#"{{"method":"bdev_wait_for_examine","id":{id}}}"#));
        assert_eq!(wire.line(), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":true}}"#));
    }
    wire.send(r#"{"method":"bdev_wait_for_examine"}{"method":"bdev_wait_for_examine","id":null}"#);
    // Errors are told all the same.
    wire.send(r#"{"method":"nothing"}"#);
    assert_eq!(
        wire.line(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found"}}"#
    );
    wire.send(r#"{"method":"bdev_wait_for_examine","id":[]}"#);
    assert_eq!(
        wire.line(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request","data":"an id is a string, a number or null"}}"#
    );
    wire.send(EXAMINE);
    assert_eq!(wire.line(), TRUE);
}

#[test]
fn a_batch_is_answered_in_one_array() {
    let daemon = Managed::start();
    let mut wire = daemon.connect();
    wire.send(&format!(r#"[{EXAMINE}, {{"method":"bdev_wait_for_examine"}}, {{"method":"x","id":2}}, 3]"#));
    let expected = [
        TRUE,
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"Method not found"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request","data":"invalid type: integer `3`, expected an object at line 1 column 1"}}"#,
    ];
    assert_eq!(wire.line(), format!("[{}]", expected.join(",")));
    wire.send(r#"[{"method":"bdev_wait_for_examine"}]"#);
    wire.send("[]");
    assert_eq!(
        wire.line(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request","data":"the batch is empty"}}"#
    );
    wire.send("5 ");
    assert_eq!(
        wire.line(),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid request","data":"a request is an object or an array of objects"}}"#
    );
}

#[test]
fn what_is_no_json_is_answered_and_ends_the_connection() {
    let daemon = Managed::start();
    for text in ["hello", "{\"a\"}", "GET / HTTP/1.1\r\n\r\n", "{\"method\":\"x\",}"] {
        let mut wire = daemon.connect();
        wire.send(&format!("{EXAMINE}{text}"));
        assert_eq!(wire.line(), TRUE, "{text}");
        let error = wire.line();
        let begin = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":""#;
        assert!(error.starts_with(begin), "{text}: {error}");
        assert_eq!(wire.try_line(), None, "{text}");
    }
}

#[test]
fn parameters_are_checked_by_name_and_type() {
    let daemon = Managed::start();
    for (method, params, expected) in [
        ("bdev_examine", r#"{"nmae":"a"}"#, "there is no parameter \"nmae\"; there are name"),
        ("bdev_examine", "{}", "name: it is missing"),
        ("bdev_examine", r#"{"name":7}"#, "name: a string is expected, not a number"),
        ("bdev_examine", r#"["a"]"#, "an object is expected, not an array"),
        ("bdev_examine", r#"{"name":"a","name":"b"}"#, "\"name\" is given twice at line 1 column 23"),
        ("bdev_wait_for_examine", r#"{"a":1}"#, "there is no parameter \"a\", nor any other"),
        (
            "iscsi_create_portal_group",
            r#"{"tag":70000,"portals":[]}"#,
            "tag: 70000 is not a whole number from 0 to 65535",
        ),
        (
            "iscsi_create_portal_group",
            r#"{"tag":1,"portals":[{"host":"127.0.0.1"},{"host":"localhost"}]}"#,
            "portals[1].host: \"localhost\" is not an address, IPv6 in brackets; * and [*] are all",
        ),
        (
            "bdev_null_create",
            r#"{"name":"n","num_blocks":1,"block_size":512,"md_size":8}"#,
            "md_size: lunette has no such thing: leave it out",
        ),
    ] {
        let expected = (-32602, format!("Invalid parameters: {expected}"));
        assert_eq!(daemon.refused(method, params), expected, "{method} {params}");
    }
    // What asks for nothing is as good as nothing.
    for params in ["null", "{}", "[]"] {
        assert_eq!(daemon.ok("bdev_wait_for_examine", params), true);
    }
}

#[test]
fn options_come_before_the_start_and_the_rest_after_it() {
    let daemon = Managed::waiting();
    let early = "Method may only be called after framework is initialized using framework_start_init RPC.";
    assert_eq!(daemon.refused("bdev_get_bdevs", "{}"), (-1, early.to_owned()));
    daemon.ok("iscsi_set_options", r#"{"node_base":"iqn.2026-11.io.example","max_sessions":7}"#);
    let methods = |daemon: &Managed| daemon.ok("rpc_get_methods", r#"{"current":true}"#).to_string();
    assert!(methods(&daemon).contains("\"framework_start_init\""));
    assert!(!methods(&daemon).contains("\"bdev_get_bdevs\""));

    // Answered only once the start has come.
    let mut waiter = daemon.connect();
    waiter.send(r#"{"id":1,"method":"framework_wait_init"}"#);
    daemon.ok("framework_start_init", "{}");
    assert_eq!(waiter.line(), TRUE);

    let late = "Method may only be called before framework is initialized. Use --wait-for-rpc command line \
                parameter and then issue this RPC before the framework_start_init RPC.";
    assert_eq!(daemon.refused("iscsi_set_options", "{}"), (-1, late.to_owned()));
    assert_eq!(daemon.refused("framework_start_init", "{}").0, -1);
    let options = daemon.ok("iscsi_get_options", "{}");
    assert_eq!(
        (&options["node_base"], &options["max_sessions"]),
        (&"iqn.2026-11.io.example".into(), &7.into())
    );
    assert!(!methods(&daemon).contains("\"framework_start_init\""));
}

#[test]
fn a_socket_belongs_to_one_daemon() {
    use lunette::rpc::server::{BindError, Socket};
    let daemon = Managed::start();
    let socket = daemon.socket();
    assert!(matches!(Socket::bind(&socket), Err(BindError::InUse(path)) if path == socket));
    assert_eq!(daemon.ok("bdev_wait_for_examine", "{}"), true);
    let folder = daemon.stop();
    assert_eq!(std::fs::read_dir(folder.path("")).unwrap().count(), 0);

    // One that died left both files; a file that is no socket is not touched.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    std::fs::write(folder.path("rpc.sock.lock"), "").unwrap();
    drop(Socket::bind(&socket).unwrap());
    std::fs::write(&socket, "precious").unwrap();
    assert!(matches!(Socket::bind(&socket), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&socket).unwrap(), b"precious");
}

#[test]
fn nobody_else_may_command_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let daemon = Managed::start();
    for name in ["rpc.sock", "rpc.sock.lock"] {
        let mode = std::fs::metadata(daemon.folder.path(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn versions_and_levels_are_told() {
    let daemon = Managed::start();
    assert_eq!(daemon.ok("spdk_get_version", "{}")["fields"]["patch"], 0);
    assert_eq!(daemon.ok("log_get_print_level", "{}"), "NOTICE");
    daemon.ok("log_set_print_level", r#"{"level":"debug"}"#);
    assert_eq!(daemon.ok("log_get_print_level", "{}"), "DEBUG");
    assert_eq!(
        daemon.refused("log_set_level", r#"{"level":"LOUD"}"#).1,
        "Invalid parameters: level: \"LOUD\" is not one of DISABLED, ERROR, WARNING, NOTICE, INFO, DEBUG"
    );
}
