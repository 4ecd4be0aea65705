//! Targets whose logins are sent elsewhere, whose commands are timed, and whose ports are known again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lunette::rpc::config::Plan;
use lunette_initiator::scsi::cdb;
use lunette_initiator::socket::SocketError;
use lunette_initiator::{Client, Command, Config, Data};
use serde_json::{Value, json};

use super::daemon::{Managed, addresses, two_groups};
use crate::harness::{read, write};

const TARGET: &str = "iqn.2016-06.io.spdk:t";

/// A RAM disk behind a target at portal group 1, which is public, and 2, which is private. The addresses of both.
fn build(daemon: &Managed) -> [String; 2] {
    two_groups(daemon, true)
}

fn login(portal: &str) -> Result<Client, SocketError> {
    Client::connect(portal, Config::new("iqn.2026-11.io.example:a", TARGET))
}

/// Where a login at this portal is sent.
#[track_caller]
fn sent_to(portal: &str) -> String {
    match login(portal) {
        Err(SocketError::Login(error)) => {
            assert_eq!(error.status(), Some((1, 1)), "moved temporarily");
            error.redirect().unwrap().to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_login_is_sent_to_a_private_portal_before_it_has_to_prove_anything() {
    let daemon = Managed::start();
    let [public, private] = build(&daemon);
    let mut stays = login(&public).unwrap();
    let port = private.rsplit(':').next().unwrap();
    let redirect =
        format!(r#"{{"name":"{TARGET}","pg_tag":1,"redirect_host":"127.0.0.1","redirect_port":"{port}"}}"#);
    assert_eq!(daemon.ok("iscsi_target_node_set_redirect", &redirect), true);
    assert_eq!(sent_to(&public), private);
    daemon.ok(
        "iscsi_target_node_set_auth",
        &format!(r#"{{"name":"{TARGET}","require_chap":true,"chap_group":1}}"#),
    );
    assert_eq!(sent_to(&public), private, "no secret was asked for");
    daemon.ok("iscsi_target_node_set_auth", &format!(r#"{{"name":"{TARGET}","disable_chap":true}}"#));
    login(&private).unwrap().logout().unwrap();
    // A session that was there stays, and discovery tells what it told.
    stays.command(cdb::test_unit_ready(), Data::None).unwrap();
    let found = Client::discover(public.as_str(), Config::discovery("iqn.2026-11.io.example:a")).unwrap();
    assert_eq!(
        found,
        [("TargetName".to_owned(), TARGET.to_owned()), ("TargetAddress".to_owned(), format!("{public},1"))]
    );
    daemon.ok("iscsi_target_node_set_redirect", &format!(r#"{{"name":"{TARGET}","pg_tag":1}}"#));
    login(&public).unwrap().logout().unwrap();
    for (params, message) in [
        (
            format!(r#"{{"name":"{TARGET}","pg_tag":1,"redirect_host":"127.0.0.1"}}"#),
            "redirect_host and redirect_port are given together or not at all",
        ),
        (format!(r#"{{"name":"{TARGET}","pg_tag":3}}"#), "there is no portal group 3"),
        (
            r#"{"name":"iqn.2016-06.io.spdk:u","pg_tag":1}"#.to_owned(),
            "there is no target iqn.2016-06.io.spdk:u",
        ),
    ] {
        let refused = daemon.refused("iscsi_target_node_set_redirect", &params);
        assert_eq!(refused, (-32602, format!("Invalid parameters: {message}")));
    }
}

/// NAT, a container: what SendTargets tells, before a login and in a session, is the address that initiators come by.
#[test]
fn initiators_are_told_the_address_that_they_come_by() {
    let daemon = Managed::start();
    for (method, params) in [
        ("bdev_null_create", r#"{"name":"N0","num_blocks":2048,"block_size":512}"#),
        (
            "iscsi_create_portal_group",
            r#"{"tag":1,"portals":[{"host":"127.0.0.1","port":"0","lunette_advertise":"203.0.113.7:4000"}]}"#,
        ),
        (
            "iscsi_create_portal_group",
            r#"{"tag":2,"portals":[{"host":"0.0.0.0","port":"0","lunette_advertise":"[2001:db8::7]:5000"}]}"#,
        ),
        // Its port is the one that was listened on.
        (
            "iscsi_create_portal_group",
            r#"{"tag":3,"portals":[{"host":"127.0.0.1","port":"0","lunette_advertise":"203.0.113.9"}]}"#,
        ),
        ("iscsi_create_initiator_group", r#"{"tag":1,"initiators":["ANY"],"netmasks":["ANY"]}"#),
        (
            "iscsi_create_target_node",
            r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1},{"pg_tag":2,"ig_tag":1},{"pg_tag":3,"ig_tag":1}],
                "luns":[{"bdev_name":"N0"}],"queue_depth":64}"#,
        ),
    ] {
        daemon.ok(method, params);
    }
    let groups = daemon.ok("iscsi_get_portal_groups", "{}");
    let port = |group: usize| groups[group]["portals"][0]["port"].as_str().unwrap().to_owned();
    let portal = format!("127.0.0.1:{}", port(0));
    let third = format!("203.0.113.9:{},3", port(2));
    let expected = [TARGET, "203.0.113.7:4000,1", "[2001:db8::7]:5000,2", third.as_str()];
    let values = |pairs: Vec<(String, String)>| pairs.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    let found = Client::discover(portal.as_str(), Config::discovery("iqn.2026-11.io.example:a")).unwrap();
    assert_eq!(values(found), expected);
    let mut client = login(&portal).unwrap();
    assert_eq!(values(client.send_targets("").unwrap()), expected);
}

/// The buckets of the target's histogram.
fn buckets(daemon: &Managed) -> Vec<u64> {
    let histogram = daemon.ok("iscsi_get_histogram", &format!(r#"{{"name":"{TARGET}"}}"#));
    let shape = ["granularity", "min_range", "max_range", "tsc_rate"].map(|name| histogram[name].clone());
    assert_eq!(shape, [json!(7), json!(0), json!(57), json!(1_000_000_000)]);
    let bytes = STANDARD.decode(histogram["histogram"].as_str().unwrap()).unwrap();
    bytes.chunks(8).map(|count| u64::from_le_bytes(count.try_into().unwrap())).collect()
}

#[test]
fn commands_are_timed_from_when_that_is_wanted_until_it_is_not() {
    let daemon = Managed::start();
    let [portal, _] = build(&daemon);
    let mut client = login(&portal).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    let get = format!(r#"{{"name":"{TARGET}"}}"#);
    let off = (-32602, "Invalid parameters: target's histogram function is not enabled".to_owned());
    assert_eq!(daemon.refused("iscsi_get_histogram", &get), off);
    let enable = |enable: bool| {
        let params = format!(r#"{{"name":"{TARGET}","enable":{enable}}}"#);
        assert_eq!(daemon.ok("iscsi_enable_histogram", &params), true);
    };
    enable(true);
    // Whoever is logged in is counted from the barrier on, which this waits for.
    let mut asked = 0;
    crate::harness::until("commands are counted", || {
        client.command(cdb::test_unit_ready(), Data::None).unwrap();
        asked += 1;
        buckets(&daemon).iter().sum::<u64>() > 0
    });
    let before: u64 = buckets(&daemon).iter().sum();
    assert!(before <= asked);
    for command in [write(1, 0, 8), read(0, 8), Command::read(0, cdb::inquiry(96), 96)] {
        assert!(client.run(command).unwrap().is_good());
    }
    let counted = buckets(&daemon);
    assert_eq!((counted.len(), counted.iter().sum::<u64>()), (7424, before + 3));
    // A login that comes later is counted too.
    let mut later =
        Client::connect(portal.as_str(), Config::new("iqn.2026-11.io.example:b", TARGET)).unwrap();
    assert!(later.run(Command::read(0, cdb::inquiry(96), 96)).unwrap().is_good());
    assert_eq!(buckets(&daemon).iter().sum::<u64>(), before + 4);
    enable(true);
    assert_eq!(buckets(&daemon).iter().sum::<u64>(), before + 4, "it is on already");
    enable(false);
    assert_eq!(daemon.refused("iscsi_get_histogram", &get), off);
    let nobody = daemon.refused("iscsi_enable_histogram", r#"{"name":"iqn.x","enable":true}"#);
    assert_eq!(nobody, (-32602, "Invalid parameters: there is no target iqn.x".to_owned()));
}

/// The target port groups that an initiator is told of at a portal.
fn port_groups(portal: &str) -> Vec<u16> {
    let mut client = login(portal).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[9]) = (0xa3, 0x0a, 255);
    let end = client.run(Command::read(0, cdb, 255)).unwrap();
    assert!(end.is_good());
    let groups = end.data[4..].chunks(12).map(|group| u16::from_be_bytes([group[2], group[3]]));
    let groups = groups.collect();
    client.logout().unwrap();
    groups
}

/// A port keeps its identifier over restarts, whatever was made and deleted before it.
#[test]
fn ports_are_known_again() {
    let daemon = Managed::start();
    build(&daemon);
    let other = r#"{"name":"other","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"luns":[],"queue_depth":1}"#;
    daemon.ok("iscsi_create_target_node", other);
    daemon.ok("iscsi_delete_target_node", &format!(r#"{{"name":"{TARGET}"}}"#));
    let again = r#"{"name":"t","alias_name":"","pg_ig_maps":[{"pg_tag":2,"ig_tag":1},{"pg_tag":1,"ig_tag":1}],
        "luns":[{"bdev_name":"M0"}],"queue_depth":64}"#;
    daemon.ok("iscsi_create_target_node", again);
    let [public, private] = addresses(&daemon);
    assert_eq!((port_groups(&public), port_groups(&private)), (vec![4, 5], vec![4, 5]));
    let saved = |daemon: &Managed| -> Value { daemon.ok("framework_get_config", r#"{"name":"iscsi"}"#) };
    let before = saved(&daemon);
    let calls = before.as_array().unwrap();
    let ports: Vec<&Value> =
        calls.iter().map(|call| &call["params"]["lunette_ports"]).filter(|ports| !ports.is_null()).collect();
    assert_eq!(
        ports,
        [
            &json!([{"pg_tag": 1, "relative_port": 3}]),
            &json!([{"pg_tag": 2, "relative_port": 4}, {"pg_tag": 1, "relative_port": 5}])
        ]
    );
    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    assert_eq!(saved(&daemon), before);
    let [public, _] = addresses(&daemon);
    assert_eq!(port_groups(&public), [4, 5]);
    let taken = r#"{"name":"third","alias_name":"","pg_ig_maps":[{"pg_tag":1,"ig_tag":1}],"luns":[],"queue_depth":1,
        "lunette_ports":[{"pg_tag":1,"relative_port":5}]}"#;
    let why = "5 cannot be the relative target port identifier of one port only: it is 0 or in use";
    assert_eq!(
        daemon.refused("iscsi_create_target_node", taken),
        (-32602, format!("Invalid parameters: {why}"))
    );
}
