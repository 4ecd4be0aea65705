//! What an operator makes and takes away while the daemon runs: portals, groups, targets, disks.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use lunette::bdev::Bdev;
use lunette::bdev::error::{Fault, Kind};
use lunette::bdev::file::{Cache, FileDisk, Recipe};
use lunette::control::access::{InitiatorGroup, NameRule, Netmask};
use lunette::control::connections::Phase;
use lunette::control::done::Done;
use lunette::control::error::{ChangeError, What};
use lunette::scsi::view::LunNumber;
use lunette_initiator::pdu::response::Async;
use lunette_initiator::session::Event;
use lunette_initiator::socket::SocketError;
use lunette_initiator::{Client, Config, lun};

use crate::harness::{
    SOON, Setup, TARGET, World, config, disk, pattern, read, sense, spec, target, test_unit_ready, until,
    write,
};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Class and detail of a refused login.
fn refusal(address: SocketAddr, config: Config) -> (u8, u8) {
    match Client::connect(address, config) {
        Err(SocketError::Login(error)) => error.status().unwrap_or_else(|| panic!("{error}")),
        other => panic!("{other:?}"),
    }
}

/// What SendTargets tells to an initiator: the values of the keys.
fn found(address: SocketAddr, name: &str) -> Vec<String> {
    let config = Config::discovery(&format!("iqn.2026-11.io.example:{name}"));
    Client::discover(address, config).unwrap().into_iter().map(|(_, value)| value).collect()
}

/// Adds a portal group on loopback and returns its address.
fn add_portal(world: &World, tag: u16) -> SocketAddr {
    world.control(move |control| {
        control.create_portal_group(tag, &[LOOPBACK], false, true).unwrap();
        control.portal_groups().find(|group| group.tag == tag).unwrap().portals[0].address
    })
}

#[test]
fn a_portal_added_at_run_time_serves_a_login_and_one_removed_does_not() {
    let world = World::start(Setup::default());
    let address = add_portal(&world, 7);
    assert_eq!(refusal(address, config("a")), (2, 3), "no target is there yet");
    world.control(|control| control.add_maps(TARGET, &[(7, 1)])).unwrap();
    let mut client = Client::connect(address, config("a")).unwrap();
    assert_eq!(client.params().unwrap().target_portal_group_tag, Some(7));
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x00));
    let at_seven = client.send_targets("").unwrap();
    assert_eq!(
        at_seven[1..].iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(),
        [format!("{},1", world.address()), format!("{address},7")]
    );
    let connections = world.control(|control| control.connections());
    let [connection] = connections.as_slice() else { panic!("{connections:?}") };
    assert_eq!((connection.phase, connection.portal_group), (Phase::FullFeature, 7));
    assert_eq!((connection.local, connection.peer), (address, client.local_addr().unwrap()));
    // An address in use is refused by name, and nothing has changed.
    let taken =
        world.control(move |control| control.create_portal_group(8, &[LOOPBACK, address], false, true));
    let taken = taken.unwrap_err();
    assert!(matches!(&taken, ChangeError::Listen { portal, .. } if *portal == address), "{taken}");
    assert!(taken.to_string().contains(&address.to_string()), "{taken}");
    assert_eq!(world.control(|control| control.portal_groups().count()), 2);
    world.control(|control| control.delete_portal_group(7)).unwrap();
    assert!(Client::connect(address, config("b")).is_err());
    // The session that came by it stays, and is told what changes.
    assert!(client.run(read(0, 8)).unwrap().is_good());
    let (_, _, late) = disk(9, 1024, 512);
    world.control(|control| {
        control.register_bdev(spec(late)).unwrap();
        control.add_lun(TARGET, "disk9", None).unwrap();
    });
    until("a unit attention", || {
        let end = client.run(test_unit_ready(0)).unwrap();
        !end.is_good() && sense(&end) == (0x6, 0x3f, 0x0e)
    });
}

#[test]
fn a_portal_group_can_wait_to_be_started() {
    let world = World::start(Setup::default());
    let address = world.control(|control| {
        control.create_portal_group(2, &[LOOPBACK], false, false).unwrap();
        control.add_maps(TARGET, &[(2, 1)]).unwrap();
        control.portal_groups().nth(1).unwrap().portals[0].address
    });
    let phases = || -> Vec<Phase> {
        let connections = world.control(|control| control.connections());
        let at_two = connections.iter().filter(|connection| connection.portal_group == 2);
        at_two.map(|connection| connection.phase).collect()
    };
    // The system takes the connection in; nobody else does.
    let _waiting = std::net::TcpStream::connect(address).unwrap();
    world.client("b").ping(b"").unwrap();
    assert_eq!(phases(), []);
    assert_eq!(found(world.address(), "a"), [TARGET, &format!("{},1", world.address())]);
    world.control(|control| control.start_portal_group(2)).unwrap();
    until("the connection is taken in", || phases() == [Phase::Login]);
    Client::connect(address, config("a")).unwrap().ping(b"").unwrap();
    let both = [TARGET, &format!("{},1", world.address()), &format!("{address},2")];
    assert_eq!(found(world.address(), "a"), both);
}

#[test]
fn an_initiator_group_decides_what_is_found_and_who_gets_in() {
    let world = World::start(Setup { initiators: "iqn.2026-11.io.example:a", ..Setup::default() });
    let address = world.address();
    let here = format!("{address},1");
    let refused = |name: &str| refusal(address, config(name));
    assert_eq!((found(address, "a"), found(address, "b")), (vec![TARGET.to_owned(), here.clone()], vec![]));
    assert_eq!(refused("b"), (2, 2));
    world.client("a");
    // Another target that everybody may see but Alice.
    world.control(|control| {
        let initiators = ["!iqn.2026-11.io.example:a", "ANY"].map(|rule| NameRule::parse(rule).unwrap());
        let group = InitiatorGroup { initiators: initiators.to_vec(), ..InitiatorGroup::any(2) };
        control.create_initiator_group(group).unwrap();
        control.create_target(&target("other", &["disk0"], &[(1, 2)])).unwrap();
    });
    let other = "iqn.2016-06.io.spdk:other";
    assert_eq!(found(address, "a"), [TARGET, &here]);
    assert_eq!(found(address, "b"), [other, &here]);
    let to_other = |name: &str| Config { target_name: Some(other.to_owned()), ..config(name) };
    assert_eq!(refusal(address, to_other("a")), (2, 2));
    Client::connect(address, to_other("b")).unwrap();
    // From elsewhere only.
    world.control(|control| {
        let (netmask, any) = (Netmask::parse("192.0.2.0/24").unwrap(), Netmask::parse("ANY").unwrap());
        control.add_initiators(2, Vec::new(), vec![netmask], Done::nobody()).unwrap();
        control.remove_initiators(2, &[], &[any], Done::nobody()).unwrap();
    });
    assert_eq!(refusal(address, to_other("b")), (2, 2));
    assert_eq!(found(address, "b"), [""; 0]);
    world.control(|control| control.delete_initiator_group(2, Done::nobody())).unwrap();
    assert_eq!(refusal(address, to_other("b")), (2, 3), "no portal group leads to it any more");
}

#[test]
fn the_sessions_of_a_deleted_target_are_asked_to_go_and_ended() {
    let world = World::start(Setup { reactors: 2, ..Setup::default() });
    let (mut polite, mut deaf) = (world.client("a"), world.client("b"));
    let done = world.change(|control, done, now| control.delete_target(TARGET, done, now));
    assert_eq!(refusal(world.address(), config("c")), (2, 3));
    let again = world.control(|control| control.create_target(&target(TARGET, &["disk0"], &[(1, 1)])));
    assert_eq!(again, Err(ChangeError::Leaving { what: What::Target, name: TARGET.to_owned() }));
    for client in [&mut polite, &mut deaf] {
        let event = client.wait_event(SOON).unwrap();
        let Some(Event::Async(Async { event: 1, parameter3: 3, .. }, _)) = event else { panic!("{event:?}") };
        // There is time to finish.
        assert!(client.run(write(1, 0, 8)).unwrap().is_good());
    }
    polite.logout().unwrap();
    deaf.wait_closed(SOON).unwrap();
    assert!(done.recv_timeout(SOON).unwrap().is_clean);
    world.wait_sessions(0);
    world.control(|control| control.create_target(&target(TARGET, &["disk0"], &[(1, 1)]))).unwrap();
    assert!(world.client("a").run(read(0, 8)).unwrap().is_good());
}

#[test]
fn the_sessions_of_a_deleted_group_are_asked_to_go_and_find_nothing_new() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
    world.control(|control| {
        let initiators = vec![NameRule::parse("*:b").unwrap()];
        control.create_initiator_group(InitiatorGroup { initiators, ..InitiatorGroup::any(2) }).unwrap();
        let own = [("disk0".to_owned(), LunNumber(0), false)];
        control.set_lun_map(TARGET, 2, Some(&own), Done::nobody()).unwrap();
        control.remove_maps(TARGET, &[(1, 1)], Done::nobody()).unwrap();
        control.add_maps(TARGET, &[(1, 2), (1, 1)]).unwrap();
    });
    let client = |name: &str| Client::connect(world.address(), config(name)).unwrap();
    let (mut stays, mut goes) = (client("a"), client("b"));
    for client in [&mut stays, &mut goes] {
        while !client.run(test_unit_ready(0)).unwrap().is_good() {}
    }
    // LOGICAL UNIT NOT SUPPORTED.
    let nothing = (5, 0x25, 0);
    assert_eq!(sense(&goes.run(test_unit_ready(1)).unwrap()), nothing);
    let done = world.change(|control, done, _| control.delete_initiator_group(2, done));
    let event = goes.wait_event(SOON).unwrap();
    let Some(Event::Async(Async { event: 1, parameter3: 3, .. }, _)) = event else { panic!("{event:?}") };
    assert!(goes.run(write(1, 0, 8)).unwrap().is_good());
    assert_eq!(sense(&goes.run(test_unit_ready(1)).unwrap()), nothing);
    goes.wait_closed(SOON).unwrap();
    assert!(done.recv_timeout(SOON).unwrap().is_clean);
    assert!(stays.run(write(2, 8, 8)).unwrap().is_good());
    // By the group that lets everybody in.
    let mut again = client("b");
    while !again.run(test_unit_ready(1)).unwrap().is_good() {}
}

/// The SCSI event that comes next (RFC 7143 §11.9.1): its LUN, additional sense code and qualifier.
fn scsi_event(client: &mut Client) -> (u64, u8, u8) {
    let event = client.wait_event(SOON).unwrap();
    let Some(Event::Async(Async { event: 0, lun, .. }, data)) = event else { panic!("{event:?}") };
    let [asc, ascq] = [data[14], data[15]];
    assert_eq!(data, [0, 18, 0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0]);
    (lun, asc, ascq)
}

#[test]
fn initiators_without_io_hear_of_luns_and_sizes_once() {
    let world = World::start(Setup { disks: vec![(4096, 512); 3], ..Setup::default() });
    world.control(|control| {
        control.remove_lun(TARGET, LunNumber(1), Done::nobody()).unwrap();
        control.remove_lun(TARGET, LunNumber(2), Done::nobody()).unwrap();
    });
    let mut client = Client::connect(world.address(), config("a")).unwrap();
    while !client.run(test_unit_ready(0)).unwrap().is_good() {}
    world.control(|control| control.add_lun(TARGET, "disk1", Some(LunNumber(1)))).unwrap();
    assert_eq!(scsi_event(&mut client), (0, 0x3f, 0x0e));
    // It has not looked yet: there is nothing new in that.
    world.control(|control| control.add_lun(TARGET, "disk2", Some(LunNumber(2)))).unwrap();
    client.ping(b"").unwrap();
    assert!(client.next_event().is_none());
    // The unit attention comes all the same.
    assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (6, 0x3f, 0x0e));
    for number in [1, 2] {
        while !client.run(test_unit_ready(number)).unwrap().is_good() {}
    }
    world.disks[1].medium.resize(2048).unwrap();
    world.control(|control| control.reread_bdev("disk1", Done::nobody())).unwrap();
    assert_eq!(scsi_event(&mut client), (lun::from_number(1), 0x2a, 0x09));
    assert_eq!(sense(&client.run(test_unit_ready(1)).unwrap()), (6, 0x2a, 0x09));
    world.control(|control| control.remove_lun(TARGET, LunNumber(1), Done::nobody())).unwrap();
    assert_eq!(scsi_event(&mut client), (0, 0x3f, 0x0e));
}

#[test]
fn a_bdev_taken_away_under_io_is_let_go_of_when_its_io_is_back() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], reactors: 2, ..Setup::default() });
    let (mut client, mut other) = (world.client("a"), world.client("b"));
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let held = client.session().command(write(1, 0, 8)).unwrap();
    client.ping(b"").unwrap();
    let done = world.change(|control, done, _| control.unregister_bdev("disk0", done));
    for client in [&mut client, &mut other] {
        until("a unit attention at the LUN that is left", || {
            let end = client.run(test_unit_ready(1)).unwrap();
            !end.is_good() && sense(&end) == (0x6, 0x3f, 0x0e)
        });
        assert_eq!(sense(&client.run(read(0, 8)).unwrap()), (0x5, 0x25, 0x00));
    }
    assert!(done.try_recv().is_err(), "the device has a write");
    let (_, _, again) = disk(0, 4096, 512);
    let leaving = ChangeError::Exists { what: What::Bdev, name: "disk0".to_owned() };
    assert_eq!(world.control(|control| control.register_bdev(spec(again))), Err(leaving));
    world.disks[0].faults.release(rule);
    assert!(client.completion(held).unwrap().is_good());
    let outcome = done.recv_timeout(SOON).unwrap();
    assert!(outcome.is_clean);
    let [bdev] = <[Arc<dyn Bdev>; 1]>::try_from(outcome.bdevs).unwrap();
    assert_eq!((bdev.info().name.as_str(), Arc::strong_count(&bdev)), ("disk0", 1));
    // Another disk of that name, at the same place in every table, is another disk.
    let (medium, _, again) = disk(0, 2048, 512);
    let number = world.control(|control| {
        control.register_bdev(spec(again)).unwrap();
        control.add_lun(TARGET, "disk0", None).unwrap()
    });
    assert_eq!(number, LunNumber(0));
    until("the new LUN is served", || client.run(write(2, 0, 8)).unwrap().is_good());
    assert_eq!(medium.info().blocks, 2048);
    until("the new LUN is served", || other.run(read(0, 8)).unwrap().is_good());
    assert_eq!(sense(&other.run(read(2048, 8)).unwrap()), (0x5, 0x21, 0x00));
}

#[test]
fn a_disk_whose_file_is_missing_is_not_ready_and_comes_up_by_itself() {
    let path = std::env::temp_dir().join(format!("lunette-it-{}-late", std::process::id()));
    let recipe = Recipe {
        name: "late".to_owned(),
        path: path.clone(),
        create_bytes: None,
        block_bytes: None,
        cache: Cache::WriteBack,
        read_only: false,
        uuid: None,
    };
    let world = World::start(Setup::default());
    let disk = Arc::new(FileDisk::new(recipe).unwrap());
    world.control(|control| {
        control.register_bdev(spec(disk)).unwrap();
        control.add_lun(TARGET, "late", None).unwrap();
    });
    let mut client = world.client("a");
    until("the LUN is there", || {
        let end = client.run(test_unit_ready(1)).unwrap();
        !end.is_good() && sense(&end) == (0x2, 0x04, 0x00)
    });
    std::fs::write(&path, vec![0x5a; 1 << 20]).unwrap();
    until("it is ready", || client.run(test_unit_ready(1)).unwrap().is_good());
    client.set_lun(lun::from_number(1));
    assert!(client.read(2040, 8).unwrap() == vec![0x5a; 4096]);
    client.set_lun(0);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_lun_can_lead_to_another_bdev() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
    let mut client = world.client("a");
    world.control(|control| {
        control.remove_lun(TARGET, LunNumber(0), Done::nobody()).unwrap();
        assert_eq!(control.add_lun(TARGET, "disk1", None), Ok(LunNumber(0)));
        let missing = ChangeError::Missing { what: What::Bdev, name: "disk7".to_owned() };
        assert_eq!(control.add_lun(TARGET, "disk7", None), Err(missing));
    });
    until("LUN 0 is disk1", || client.run(write(5, 0, 8)).unwrap().is_good());
    let mut other = world.client("b");
    assert_eq!(other.run(read(0, 8)).unwrap().data, pattern(5, 0, 8, 512));
}
