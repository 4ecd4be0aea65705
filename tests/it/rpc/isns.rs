//! iSNS: what a server is told, byte by byte, by a server of the test's own; and Debian's, where it is installed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::daemon::{Folder, Managed};
use crate::harness::{not_run, until};

const TARGET: &str = "iqn.2016-06.io.spdk:t";

/// A target at one portal of the loopback address; its port.
fn build(daemon: &Managed) -> u16 {
    for (method, params) in [
        ("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#),
        ("iscsi_create_portal_group", r#"{"tag":3,"portals":[{"host":"0.0.0.0","port":"0"}]}"#),
        (
            "iscsi_create_portal_group",
            r#"{"tag":4,"portals":[{"host":"127.0.0.1","port":"0"}],"private":true}"#,
        ),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":3,"ig_tag":1},{"pg_tag":4,"ig_tag":1}],
                "luns":[{"bdev_name":"N0"}],"queue_depth":64}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    groups[0]["portals"][0]["port"].as_str().unwrap().parse().unwrap()
}

fn set_server(port: u16) -> String {
    format!(r#"{{"host":"127.0.0.1","port":"{port}","entity":"here"}}"#)
}

/// The next message, with its connection.
fn message(listener: &TcpListener) -> (Vec<u8>, TcpStream) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = vec![0; 12];
    stream.read_exact(&mut bytes).unwrap();
    let mut payload = vec![0; usize::from(u16::from_be_bytes([bytes[4], bytes[5]]))];
    stream.read_exact(&mut payload).unwrap();
    bytes.extend(payload);
    (bytes, stream)
}

/// An answer to function and transaction of a message.
fn answer(message: &[u8], status: u8) -> Vec<u8> {
    vec![0, 1, 0x80, message[3], 0, 4, 0x4c, 0, message[8], message[9], 0, 0, 0, 0, 0, status]
}

#[test]
fn what_there_is_is_registered_when_it_changes_and_taken_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Managed::start();
    let port = build(&daemon);
    let server = listener.local_addr().unwrap().port();
    assert_eq!(daemon.ok("lunette_isns_set_server", &set_server(server)), true);
    let (first, mut stream) = message(&listener);
    let name = b"iqn.2016-06.io.spdk:t\0\0\0".as_slice();
    let portal = |address: u8| {
        let [high, low] = port.to_be_bytes();
        let ip = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
        [
            &[0, 0, 0, address, 0, 0, 0, 16],
            ip.as_slice(),
            &[0, 0, 0, address + 1, 0, 0, 0, 4, 0, 0, high, low],
        ]
        .concat()
    };
    let payload = [
        [&[0, 0, 0, 32, 0, 0, 0, 24], name].concat(),
        b"\0\0\0\x01\0\0\0\x08here\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x08here\0\0\0\0".to_vec(),
        vec![0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 1, 44],
        portal(16),
        [&[0, 0, 0, 32, 0, 0, 0, 24], name, &[0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 1]].concat(),
        [&[0, 0, 0, 48, 0, 0, 0, 24], name].concat(),
        portal(49),
        vec![0, 0, 0, 51, 0, 0, 0, 4, 0, 0, 0, 3],
    ]
    .concat();
    assert_eq!(first[..4], [0, 1, 0, 1]);
    assert_eq!(first[6..8], [0x9c, 0]);
    assert_eq!(first[12..], payload, "the private portal is not told");
    // Refused: it is tried again.
    stream.write_all(&answer(&first, 4)).unwrap();
    let status = |daemon: &Managed| daemon.ok("lunette_isns_get_status", "{}");
    let refused = "the server refuses: status 4 (RFC 4171 §5.3)";
    until("the refusal", || status(&daemon)["error"] == refused);
    // Set anew it is tried at once.
    daemon.ok("lunette_isns_set_server", &set_server(server));
    let (again, mut stream) = message(&listener);
    assert_eq!(again, first);
    stream.write_all(&answer(&again, 0)).unwrap();
    until("it is registered", || status(&daemon)["registered"] == json!([TARGET]));
    assert_eq!(status(&daemon)["error"], json!(null));
    // A change is told.
    daemon.ok(
        "iscsi_create_target_node",
        r#"{"name":"u","alias_name":"second","pg_ig_maps":[{"pg_tag":3,"ig_tag":1}],"luns":[],"queue_depth":1}"#,
    );
    let (changed, mut stream) = message(&listener);
    assert!(changed.windows(8).any(|bytes| bytes == b"second\0\0"));
    stream.write_all(&answer(&changed, 0)).unwrap();
    let saved = daemon.ok("framework_get_config", r#"{"name":"iscsi"}"#);
    let call = json!({"method": "lunette_isns_set_server", "params": {"host": "127.0.0.1", "port": server.to_string(), "entity": "here"}});
    assert_eq!(saved.as_array().unwrap().last(), Some(&call));
    // At the end it is taken back.
    daemon.ok("lunette_isns_set_server", "{}");
    let (last, mut stream) = message(&listener);
    assert_eq!(last[..4], [0, 1, 0, 4]);
    assert_eq!(last[last.len() - 24..], *b"\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x08here\0\0\0\0");
    stream.write_all(&answer(&last, 0)).unwrap();
    until("it is gone", || status(&daemon) == json!({"entity": status(&daemon)["entity"], "registered": []}));
    let wrong = daemon.refused("lunette_isns_set_server", r#"{"host":"0.0.0.0"}"#).1;
    assert_eq!(wrong, "Invalid parameters: host: an address and port that can be connected to are needed");
}

/// The portal that is registered is the one that initiators come by (NAT, a container).
#[test]
fn the_address_that_initiators_come_by_is_registered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Managed::start();
    for (method, params) in [
        ("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#),
        (
            "iscsi_create_portal_group",
            r#"{"tag":3,"portals":[{"host":"127.0.0.1","port":"0","lunette_advertise":"203.0.113.7:4000"}]}"#,
        ),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":3,"ig_tag":1}],"luns":[{"bdev_name":"N0"}],"queue_depth":64}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    daemon.ok("lunette_isns_set_server", &set_server(listener.local_addr().unwrap().port()));
    let (told, mut stream) = message(&listener);
    // RFC 4171 §6.3.1, §6.3.2: address and port of the portal, the address as one of IPv6.
    let portal = [
        [0, 0, 0, 16, 0, 0, 0, 16].as_slice(),
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 7],
        &[0, 0, 0, 17, 0, 0, 0, 4, 0, 0, 0x0f, 0xa0],
    ]
    .concat();
    assert!(told.windows(portal.len()).any(|bytes| bytes == portal), "{told:02x?}");
    assert!(!told.windows(4).any(|bytes| bytes == [127, 0, 0, 1]), "{told:02x?}");
    stream.write_all(&answer(&told, 0)).unwrap();
}

/// A server of Debian's open-isns, ended with the test.
struct Isnsd(Child);

impl Drop for Isnsd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn debians_server_knows_the_target() {
    if Command::new("isnsd").arg("--version").output().is_err() {
        return not_run("isnsd is not installed (apt install open-isns-server open-isns-utils)");
    }
    let folder = Folder::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path("isnsd.conf");
    let text = format!(
        "SourceName = iqn.2026-11.io.example:isns\nServerAddress = 127.0.0.1:{server}\nBindAddress = 127.0.0.1:{server}\n\
         ControlSocket = {0}/control\nPIDFile = {0}/pid\nDatabase = {0}/db\nSecurity = 0\nDefaultDiscoveryDomain = 1\n",
        folder.path("").display()
    );
    std::fs::write(&config, text).unwrap();
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).args(args).stdin(Stdio::null());
        command
    };
    let daemon_of_isns =
        run("isnsd", &["--foreground"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _ended = Isnsd(daemon_of_isns);
    until("isnsd", || TcpStream::connect(("127.0.0.1", server)).is_ok());
    let daemon = Managed::start();
    let port = build(&daemon);
    daemon.ok("lunette_isns_set_server", &set_server(server));
    until("it is registered", || {
        let status = daemon.ok("lunette_isns_get_status", "{}");
        assert_eq!(status["error"], json!(null));
        status["registered"] == json!([TARGET])
    });
    let listed = |what: &str| {
        let output = run("isnsadm", &["--local", "--list", what]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (nodes, portals) = (listed("nodes"), listed("portals"));
    assert!(nodes.contains(TARGET), "{nodes}");
    assert!(portals.contains(&format!("port = {port}/tcp")), "{portals}");
    daemon.ok("lunette_isns_set_server", "{}");
    until("it is taken back", || !listed("nodes").contains(TARGET));
}
