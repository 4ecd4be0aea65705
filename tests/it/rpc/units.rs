//! Logical units by RPC: identity and access states, seen by an initiator.

use lunette::rpc::config::Plan;
use lunette_initiator::pdu::response::Async;
use lunette_initiator::scsi::cdb;
use lunette_initiator::session::{Event, Function, Tmf};
use lunette_initiator::socket::SocketError;
use lunette_initiator::{Client, Command, Config, Data, lun};
use serde_json::json;

use super::daemon::{Managed, addresses, two_groups};
use crate::harness::{SOON, read, sense, test_unit_ready, write};

const TARGET: &str = "iqn.2016-06.io.spdk:t";

/// A RAM disk behind a target at two portal groups; their addresses.
fn build(daemon: &Managed) -> [String; 2] {
    two_groups(daemon, false)
}

/// Logged in, and told that power is on.
fn login(portal: &str) -> Client {
    let mut client = Client::connect(portal, Config::new("iqn.2026-11.io.example:a", TARGET)).unwrap();
    client.command(cdb::test_unit_ready(), Data::None).unwrap();
    client
}

/// REPORT TARGET PORT GROUPS without its length.
fn groups(client: &mut Client) -> Vec<u8> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[9]) = (0xa3, 0x0a, 255);
    let end = client.run(Command::read(0, cdb, 255)).unwrap();
    assert!(end.is_good(), "{end:?}");
    end.data[4..].to_vec()
}

/// SET TARGET PORT GROUPS with one descriptor.
fn set_group(descriptor: [u8; 4]) -> Command {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[9]) = (0xa4, 0x0a, 8);
    Command::write(0, cdb, [[0; 4], descriptor].concat())
}

const ACCESS_CHANGED: (u8, u8, u8) = (6, 0x2a, 0x06);
const STANDBY: (u8, u8, u8) = (2, 0x04, 0x0b);

fn set_state(tag: u8, state: &str) -> String {
    format!(r#"{{"name":"{TARGET}","pg_tag":{tag},"state":"{state}"}}"#)
}

#[test]
fn paths_fail_over_in_both_directions_by_the_operators_hand() {
    let daemon = Managed::start();
    let [first, second] = build(&daemon);
    let (mut a, mut b) = (login(&first), login(&second));
    for (tag, state) in [(2, "standby"), (1, "active_non_optimized")] {
        assert_eq!(daemon.ok("lunette_target_node_set_alua_state", &set_state(tag, state)), true);
    }
    for client in [&mut a, &mut b] {
        assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), ACCESS_CHANGED);
    }
    let told = [0x01, 0x8f, 0, 1, 0, 2, 0, 1, 0, 0, 0, 1, 0x02, 0x8f, 0, 2, 0, 2, 0, 1, 0, 0, 0, 2];
    assert_eq!((groups(&mut a), groups(&mut b)), (told.to_vec(), told.to_vec()));
    assert!(a.run(write(0, 0, 8)).unwrap().is_good());
    for command in [write(0, 0, 8), read(0, 8), test_unit_ready(0)] {
        assert_eq!(sense(&b.run(command).unwrap()), STANDBY);
    }
    // The other way round.
    for (tag, state) in [(1, "unavailable"), (2, "active_optimized")] {
        daemon.ok("lunette_target_node_set_alua_state", &set_state(tag, state));
    }
    for client in [&mut a, &mut b] {
        let end = client.run(test_unit_ready(0)).unwrap();
        assert_eq!(sense(&end), ACCESS_CHANGED);
    }
    assert_eq!(sense(&a.run(read(0, 8)).unwrap()), (2, 0x04, 0x0c));
    assert!(b.run(read(0, 8)).unwrap().is_good());
    let refused = |params: &str| daemon.refused("lunette_target_node_set_alua_state", params).1;
    assert_eq!(refused(&set_state(3, "standby")), "Invalid parameters: there is no portal group 3");
    let lun = format!(r#"{{"name":"{TARGET}","pg_tag":1,"state":"standby","lun_id":5}}"#);
    assert_eq!(refused(&lun), "Invalid parameters: there is no LUN 5");
}

/// The SCSI event that has come (RFC 7143 §11.9.1): additional sense code and qualifier.
fn scsi_event(client: &mut Client) -> (u8, u8) {
    match client.wait_event(SOON).unwrap() {
        Some(Event::Async(Async { event: 0, .. }, data)) => (data[14], data[15]),
        other => panic!("{other:?}"),
    }
}

/// None has: what the target had to send came before the answer to a NOP.
fn no_event(client: &mut Client) {
    client.ping(b"").unwrap();
    let event = client.next_event();
    assert!(event.is_none(), "{event:?}");
}

/// Who sends nothing hears of another name and another state at once, and once while its unit attention waits.
#[test]
fn initiators_without_io_hear_of_names_and_states() {
    let daemon = Managed::start();
    let [first, second] = build(&daemon);
    let (mut a, mut b) = (login(&first), login(&second));
    daemon.ok("lunette_bdev_set_identity", r#"{"name":"M0","product":"Roadrunner"}"#);
    daemon.ok("lunette_bdev_set_identity", r#"{"name":"M0","product":"Coyote"}"#);
    for client in [&mut a, &mut b] {
        assert_eq!(scsi_event(client), (0x3f, 0x03));
        no_event(client);
        assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x3f, 0x03));
    }
    daemon.ok("lunette_target_node_set_alua_state", &set_state(2, "standby"));
    for client in [&mut a, &mut b] {
        assert_eq!(scsi_event(client), (0x2a, 0x06));
        assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), ACCESS_CHANGED);
        no_event(client);
    }
}

#[test]
fn initiators_set_states_where_the_operator_lets_them() {
    let daemon = Managed::start();
    let [first, second] = build(&daemon);
    let (mut a, mut b) = (login(&first), login(&second));
    assert_eq!(sense(&a.run(set_group([2, 0, 0, 2])).unwrap()), (5, 0x20, 0x00));
    daemon.ok("lunette_bdev_set_alua", r#"{"name":"M0","explicit":true}"#);
    // INQUIRY DATA HAS CHANGED: TPGS.
    for client in [&mut a, &mut b] {
        assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x3f, 0x03));
    }
    let _ = scsi_event(&mut a);
    assert!(a.run(set_group([2, 0, 0, 1])).unwrap().is_good());
    no_event(&mut a);
    assert_eq!(sense(&a.run(read(0, 8)).unwrap()), STANDBY, "who asked is not told");
    assert_eq!(sense(&b.run(read(0, 8)).unwrap()), ACCESS_CHANGED);
    assert!(b.run(read(0, 8)).unwrap().is_good());
    assert_eq!(groups(&mut b)[..12], [0x02, 0x8f, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1], "STATUS CODE 1h");
    // By a port in standby too.
    assert!(a.run(set_group([0, 0, 0, 1])).unwrap().is_good());
    assert!(a.run(read(0, 8)).unwrap().is_good());
}

#[test]
fn what_was_chosen_is_shown_and_saved() {
    let daemon = Managed::start();
    let [first, _] = build(&daemon);
    let mut client = login(&first);
    let identity = r#"{"name":"M0","vendor":"ACME","product":"Roadrunner","revision":"9","serial":"0815",
        "naa":"60014050000000010000000000000002","eui64":"0011223344556677","t10":"beep beep"}"#;
    assert_eq!(daemon.ok("lunette_bdev_set_identity", identity), true);
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x3f, 0x03));
    let inquiry = client.run(Command::read(0, cdb::inquiry(96), 96)).unwrap().data;
    assert_eq!(inquiry[8..36], *b"ACME    Roadrunner      9   ");
    let page = |client: &mut Client, page| {
        client.run(Command::read(0, cdb::inquiry_vpd(page, 252), 252)).unwrap().data
    };
    assert_eq!(page(&mut client, 0x80), b"\x00\x80\x00\x040815");
    let mut want = vec![0x01, 0x03, 0, 16, 0x60, 0x01, 0x40, 0x50, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
    want.extend([0x01, 0x02, 0, 8, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
    want.extend(b"\x02\x01\x00\x11ACME    beep beep");
    assert_eq!(page(&mut client, 0x83)[4..4 + want.len()], want);
    for (params, message) in [
        (r#"{"name":"M0","naa":"7"}"#, "naa: \"7\" is not a string of hexadecimal digits"),
        (
            r#"{"name":"M0","naa":"7001405000000001"}"#,
            "naa: it is 16 digits that begin with 2, 3 or 5, or 32 that begin with 6",
        ),
        (r#"{"name":"M0","eui64":"0011"}"#, "eui64: it is 16 digits"),
        (r#"{"name":"M0","vendor":"123456789"}"#, "vendor: it is empty, too long, or not printable ASCII"),
        (r#"{"name":"M1"}"#, "there is no bdev M1"),
        (
            r#"{"name":"M0","designators":["0201000178","0x"]}"#,
            "designators[1]: \"0x\" is not a string of hexadecimal digits",
        ),
        (
            r#"{"name":"M0","designators":["0201000278"]}"#,
            "designators: each is a whole designation descriptor of a logical unit, and all have 512 bytes at most",
        ),
    ] {
        let refused = daemon.refused("lunette_bdev_set_identity", params);
        assert_eq!(refused, (-32602, format!("Invalid parameters: {message}")));
    }
    let state = format!(r#"{{"name":"{TARGET}","pg_tag":2,"state":"standby","preferred":true}}"#);
    daemon.ok("lunette_target_node_set_alua_state", &state);
    daemon.ok("lunette_bdev_set_alua", r#"{"name":"M0","explicit":true}"#);
    let shown = daemon.ok("lunette_get_logical_units", "{}");
    let port = |tag: u8, state: &str| json!({"target": TARGET, "pg_tag": tag, "relative_port": tag, "port_group": tag, "state": state, "preferred": tag == 2});
    assert_eq!(
        shown,
        json!([{
            "bdev_name": "M0", "vendor": "ACME", "product": "Roadrunner", "revision": "9", "serial": "0815",
            "naa": "60014050000000010000000000000002", "eui64": "0011223344556677", "t10": "beep beep",
            "explicit_alua": true, "ports": [port(1, "active_optimized"), port(2, "standby")], "registrations": [],
        }])
    );
    drop(client);
    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    assert_eq!(daemon.ok("lunette_get_logical_units", "{}"), shown);
}

#[test]
fn ports_of_one_group_fail_over_together() {
    let daemon = Managed::start();
    let [first, second] = build(&daemon);
    let (mut a, mut b) = (login(&first), login(&second));
    let method = "lunette_target_node_set_port_group";
    let into = |tag: u8, group: &str| format!(r#"{{"name":"{TARGET}","pg_tag":{tag},"port_group":{group}}}"#);
    assert_eq!(daemon.ok(method, &into(2, "1")), true);
    assert_eq!(sense(&a.run(test_unit_ready(0)).unwrap()), ACCESS_CHANGED);
    let mut told = [0, 1].map(|_| sense(&b.run(test_unit_ready(0)).unwrap()));
    told.sort_unstable();
    assert_eq!(told, [ACCESS_CHANGED, (6, 0x3f, 0x03)]);
    let together = |state: u8, cause: u8| vec![state, 0x8f, 0, 1, 0, cause, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!((groups(&mut a), groups(&mut b)), (together(0, 0), together(0, 0)));
    // VPD 83h: the port is the second still, its group the first.
    let names = b.run(Command::read(0, cdb::inquiry_vpd(0x83, 252), 252)).unwrap().data;
    for designator in [[0x51, 0x94, 0, 4, 0, 0, 0, 2], [0x51, 0x95, 0, 4, 0, 0, 0, 1]] {
        assert!(names.windows(8).any(|bytes| bytes == designator), "{names:02x?}");
    }
    daemon.ok("lunette_target_node_set_alua_state", &set_state(2, "standby"));
    for client in [&mut a, &mut b] {
        assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), ACCESS_CHANGED);
        assert_eq!(sense(&client.run(read(0, 8)).unwrap()), STANDBY);
    }
    drop((a, b));
    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    let [first, _] = addresses(&daemon);
    let mut client = login_as(&first, "a");
    // Power is on; and then the path is in standby.
    client.run(test_unit_ready(0)).unwrap();
    assert_eq!(groups(&mut client), together(2, 2));
    daemon.ok(method, &format!(r#"{{"name":"{TARGET}","pg_tag":2}}"#));
    let apart = [0x02, 0x8f, 0, 1, 0, 2, 0, 1, 0, 0, 0, 1, 0x00, 0x8f, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), ACCESS_CHANGED);
    assert_eq!(groups(&mut client), apart);
    let refused = daemon.refused(method, &into(2, "0")).1;
    assert_eq!(
        refused,
        "Invalid parameters: 0 cannot be a target port group of this target: it is 0, or a port or group of another target has it"
    );
}

#[test]
fn designators_are_told_as_they_were_given() {
    let daemon = Managed::start();
    let [first, _] = build(&daemon);
    let identity = r#"{"name":"M0","designators":["010100084945540000000000","0201000178"]}"#;
    assert_eq!(daemon.ok("lunette_bdev_set_identity", identity), true);
    let identification = || {
        let mut client = login(&first);
        while !client.run(test_unit_ready(0)).unwrap().is_good() {}
        client.run(Command::read(0, cdb::inquiry_vpd(0x83, 252), 252)).unwrap().data
    };
    let mut want = b"\x01\x01\0\x08IET\0\0\0\0\0\x02\x01\0\x01x".to_vec();
    want.extend([0x51, 0x94]);
    assert_eq!(identification()[4..4 + want.len()], want);
    daemon.ok("lunette_save_config", "{}");
    let shown = daemon.ok("lunette_get_logical_units", "{}");
    assert_eq!(shown[0]["designators"], "0101000849455400000000000201000178");
    let folder = daemon.stop();
    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    assert_eq!(daemon.ok("lunette_get_logical_units", "{}"), shown);
}

/// The LUNs that REPORT LUNS tells, of one byte each.
fn luns(client: &mut Client) -> Vec<u8> {
    let end = client.run(Command::read(0, cdb::report_luns(0, 256), 256)).unwrap();
    end.data[8..].chunks(8).map(|lun| lun[1]).collect()
}

fn login_as(portal: &str, name: &str) -> Client {
    Client::connect(portal, Config::new(&format!("iqn.2026-11.io.example:{name}"), TARGET)).unwrap()
}

#[test]
fn initiators_of_a_group_find_luns_of_their_own() {
    let daemon = Managed::start();
    let [first, _] = build(&daemon);
    daemon.ok("bdev_malloc_create", r#"{"name":"M1","num_blocks":4096,"block_size":512}"#);
    daemon.ok(
        "iscsi_create_initiator_group",
        r#"{"tag":2,"initiators":["!*:backup-old","*:backup*"],"netmasks":["127.0.0.0/8"]}"#,
    );
    // The first group that has anything to say decides.
    let maps = |maps: &str| format!(r#"{{"name":"{TARGET}","pg_ig_maps":[{maps}]}}"#);
    daemon.ok("iscsi_target_node_remove_pg_ig_maps", &maps(r#"{"pg_tag":1,"ig_tag":1}"#));
    daemon
        .ok("iscsi_target_node_add_pg_ig_maps", &maps(r#"{"pg_tag":1,"ig_tag":2},{"pg_tag":1,"ig_tag":1}"#));
    let own = format!(
        r#"{{"name":"{TARGET}","ig_tag":2,"luns":[{{"bdev_name":"M0","lun_id":7,"read_only":true}},{{"bdev_name":"M1","lun_id":3}}]}}"#
    );
    assert_eq!(daemon.ok("lunette_target_node_set_lun_map", &own), true);
    let mut host = login_as(&first, "host");
    let mut backup = login_as(&first, "backup1");
    assert_eq!((luns(&mut host), luns(&mut backup)), (vec![0], vec![3, 7]));
    let refused = Client::connect(first.as_str(), Config::new("iqn.2026-11.io.example:backup-old", TARGET));
    assert!(refused.is_err(), "the negation comes first");
    let at = |number: u64, command: Command| Command { lun: lun::from_number(number as u16), ..command };
    for number in [3, 7] {
        // POWER ON OCCURRED.
        backup.run(at(number, test_unit_ready(0))).unwrap();
    }
    host.run(test_unit_ready(0)).unwrap();
    assert!(host.run(write(9, 0, 8)).unwrap().is_good());
    assert_eq!(backup.run(at(7, read(0, 8))).unwrap().data, host.run(read(0, 8)).unwrap().data);
    assert_eq!(sense(&backup.run(at(7, write(9, 0, 8))).unwrap()), (7, 0x27, 0x00));
    assert!(backup.run(at(3, write(9, 0, 8))).unwrap().is_good());
    assert_eq!(sense(&backup.run(at(0, read(0, 8))).unwrap()), (5, 0x25, 0x00));
    // A reset of their LUN is one of the unit that they find there.
    let reset = backup.task_management(Tmf::new(Function::LogicalUnitReset, lun::from_number(7))).unwrap();
    assert_eq!(reset, 0);
    assert_eq!(sense(&host.run(test_unit_ready(0)).unwrap()), (6, 0x29, 0x03));
    assert!(host.run(test_unit_ready(0)).unwrap().is_good());
    // What is everybody's is not theirs.
    daemon.ok("iscsi_target_node_add_lun", &format!(r#"{{"name":"{TARGET}","bdev_name":"M1","lun_id":1}}"#));
    assert_eq!((luns(&mut host), luns(&mut backup)), (vec![0, 1], vec![3, 7]));
    let refused = |params: &str| daemon.refused("lunette_target_node_set_lun_map", params).1;
    let twice = format!(
        r#"{{"name":"{TARGET}","ig_tag":2,"luns":[{{"bdev_name":"M0","lun_id":1}},{{"bdev_name":"M1","lun_id":1}}]}}"#
    );
    assert_eq!(refused(&twice), "Invalid parameters: there is a LUN 1 already");
    let nobody = format!(r#"{{"name":"{TARGET}","ig_tag":9,"luns":[]}}"#);
    assert_eq!(refused(&nobody), "Invalid parameters: there is no initiator group 9");
    let saved = |daemon: &Managed| daemon.ok("framework_get_config", r#"{"name":"iscsi"}"#);
    let before = saved(&daemon);
    drop((host, backup));
    daemon.ok("lunette_save_config", "{}");
    let folder = daemon.stop();
    let plan = Plan::read(&folder.path("config.json")).unwrap();
    let daemon = Managed::try_start(folder, Some(plan)).unwrap();
    assert_eq!(saved(&daemon), before);
    let [first, _] = addresses(&daemon);
    let mut backup = login_as(&first, "backup1");
    assert_eq!(luns(&mut backup), [3, 7]);
    // Everybody's again.
    daemon.ok("lunette_target_node_set_lun_map", &format!(r#"{{"name":"{TARGET}","ig_tag":2}}"#));
    assert_eq!(luns(&mut backup), [0, 1]);
    // With its group a list goes.
    daemon.ok("lunette_target_node_set_lun_map", &format!(r#"{{"name":"{TARGET}","ig_tag":2,"luns":[]}}"#));
    let has_list = |daemon: &Managed| saved(daemon).to_string().contains("lunette_target_node_set_lun_map");
    assert!(has_list(&daemon));
    daemon.ok("iscsi_delete_initiator_group", r#"{"tag":2}"#);
    assert!(!has_list(&daemon));
}

#[test]
fn a_portal_group_can_ask_for_a_proof_of_its_own() {
    let daemon = Managed::start();
    let [first, second] = build(&daemon);
    daemon.ok("iscsi_create_auth_group", r#"{"tag":1,"secrets":[{"user":"u","secret":"123456789012"}]}"#);
    let set = |more: &str| format!(r#"{{"name":"{TARGET}","pg_tag":2{more}}}"#);
    let method = "lunette_target_node_set_portal_group_auth";
    assert_eq!(daemon.ok(method, &set(r#","require_chap":true,"chap_group":1"#)), true);
    let login = |portal: &str| Client::connect(portal, Config::new("iqn.2026-11.io.example:a", TARGET));
    login(&first).unwrap();
    match login(&second) {
        Err(SocketError::Login(error)) => assert_eq!(error.status(), Some((2, 1)), "{error}"),
        other => panic!("{other:?}"),
    }
    let calls = daemon.ok("framework_get_config", r#"{"name":"iscsi"}"#);
    assert!(calls.as_array().unwrap().iter().any(|call| call["method"] == method), "{calls}");
    // It is not lost while nobody is let in there.
    let maps = format!(r#"{{"name":"{TARGET}","pg_ig_maps":[{{"pg_tag":2,"ig_tag":1}}]}}"#);
    daemon.ok("iscsi_target_node_remove_pg_ig_maps", &maps);
    daemon.ok("iscsi_target_node_add_pg_ig_maps", &maps);
    login(&second).unwrap_err();
    daemon.ok(method, &set(""));
    login(&second).unwrap();
    let nowhere = daemon.refused(method, &format!(r#"{{"name":"{TARGET}","pg_tag":3}}"#)).1;
    assert_eq!(nowhere, "Invalid parameters: there is no portal group 3");
}

#[test]
fn a_target_that_has_moved_for_good_says_so() {
    let daemon = Managed::start();
    let [first, second] = build(&daemon);
    let port = second.rsplit(':').next().unwrap();
    let redirect = format!(
        r#"{{"name":"{TARGET}","pg_tag":1,"redirect_host":"127.0.0.1","redirect_port":"{port}","lunette_permanent":true}}"#
    );
    daemon.ok("iscsi_target_node_set_redirect", &redirect);
    match Client::connect(first.as_str(), Config::new("iqn.2026-11.io.example:a", TARGET)) {
        Err(SocketError::Login(error)) => {
            assert_eq!((error.status(), error.redirect()), (Some((1, 2)), Some(second.as_str())));
        }
        other => panic!("{other:?}"),
    }
    let calls = daemon.ok("framework_get_config", r#"{"name":"iscsi"}"#);
    let saved =
        calls.as_array().unwrap().iter().find(|call| call["method"] == "iscsi_target_node_set_redirect");
    assert_eq!(saved.unwrap()["params"]["lunette_permanent"], true);
}
