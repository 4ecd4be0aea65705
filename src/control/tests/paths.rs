//! Access states beyond one port and one map of LUNs: groups of several ports, LUNs in maps only, media that come later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use super::acknowledge;
use super::alua::{to, waiter};
use super::objects::Late;
use super::reserve::{Peer, answer, silent, ticket};
use super::saving::{Slow, keeping};
use super::world::{TARGET, World, bdev, portal_group};
use crate::control::alua::{AccessChange, Luns};
use crate::control::disks::Source;
use crate::control::done::Done;
use crate::control::error::ChangeError;
use crate::control::identity::Chosen;
use crate::control::keeper::Then;
use crate::control::store::Records;
use crate::id::{ReactorId, UnitId};
use crate::reactor::message::{Ask, Change, ToControl, ToReactor};
use crate::scsi::alua::{AccessState, Alua};
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::view::LunNumber;
use crate::scsi::{Outcome, Status};

/// Writes what there is to write and has both reactors acknowledge all that they are told.
fn settle(world: &mut World, disk: &Slow) -> Option<Records> {
    let mut written = None;
    world.turn();
    while let Some((revision, records)) = disk.ordered() {
        let now = world.now();
        world.control.saved(revision, true, now);
        world.turn();
        written = Some(records);
    }
    for reactor in [0_u16, 1] {
        while let Some(message) = world.reactors[usize::from(reactor)].receive() {
            if let ToReactor::Barrier { id, .. } = message {
                world.tell(ToControl::BarrierDone { id, reactor: ReactorId(reactor), is_clean: true });
            }
        }
    }
    written
}

fn alua(world: &World, unit: u32) -> Alua {
    world.control.catalog.registry.view(UnitId(unit)).unwrap().alua.clone()
}

fn state(world: &World, unit: u32, group: u16) -> AccessState {
    alua(world, unit).group(group).state
}

/// SET TARGET PORT GROUPS of group 1 to this state.
fn ask_for(world: &mut World, peer: Peer, state: u8) {
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(peer.reactor),
        ticket: ticket(1),
        session: peer.session,
        unit: UnitId(0),
        cdb: Cdb::new([0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0]),
        parameters: [0, 0, 0, 0, state, 0, 0, 1].into(),
    })));
}

/// A second port, at portal group 2.
fn second_port(world: &mut World, disk: &Slow) {
    world.control.add_portal_group(portal_group(2, &["192.0.2.9:3260"])).unwrap();
    world.control.add_maps(TARGET, &[(2, 1)]).unwrap();
    settle(world, disk);
}

#[test]
fn ports_of_one_group_have_their_states_in_common() {
    let (mut world, disk, ..) = keeping(Records::new());
    second_port(&mut world, &disk);
    world.control.set_access_state(&to(AccessState::Standby), Done::nobody()).unwrap();
    settle(&mut world, &disk);
    let (done, ended) = waiter();
    world.control.set_port_group(TARGET, 2, Some(1), done).unwrap();
    // The port that is moved loses the medium: its IO is waited for. All hear of states, its own initiators of VPD 83h too.
    let mut told = Vec::new();
    for reactor in [0, 1] {
        for _ in 0..3 {
            let Change::Target { target, attention, drained } = acknowledge(&mut world, reactor, true) else {
                panic!()
            };
            assert_eq!((&target.ports, &target.port_groups), (&vec![1, 2], &vec![1, 1]));
            told.push((target.portal_group, target.port_group, attention.unwrap(), drained.to_vec()));
        }
    }
    let expected = [
        (1, 1, Ua::AccessChanged, vec![]),
        (2, 1, Ua::InquiryChanged, vec![UnitId(0)]),
        (2, 1, Ua::AccessChanged, vec![]),
    ];
    assert_eq!(told[..3], expected);
    assert_eq!(told[3..], expected);
    assert!(ended.try_recv().unwrap().is_clean);
    world.turn();
    let records = disk.write(&mut world);
    assert_eq!(records["ports"], json!([[TARGET, 1, 1], [TARGET, 2, 2, 1]]));
    let info = world.control.targets().next().unwrap();
    assert_eq!(info.port_groups, [(2, 1)]);
    assert_eq!(info.ports().collect::<Vec<_>>(), [(1, 1, 1), (2, 2, 1)]);
    // By either port the group is meant.
    let active = AccessChange { portal_group: 2, ..to(AccessState::ActiveOptimized) };
    world.control.set_access_state(&active, Done::nobody()).unwrap();
    settle(&mut world, &disk);
    assert_eq!(state(&world, 0, 1), AccessState::ActiveOptimized);
    // One of its own again has its own number.
    world.control.set_port_group(TARGET, 2, None, Done::nobody()).unwrap();
    let records = settle(&mut world, &disk).unwrap();
    assert_eq!(records["ports"], json!([[TARGET, 1, 1], [TARGET, 2, 2]]));
}

#[test]
fn a_group_is_there_again_in_the_next_life_and_its_states_with_it() {
    let (mut world, disk, ..) = keeping(Records::new());
    second_port(&mut world, &disk);
    world.control.set_port_group(TARGET, 1, Some(40), Done::nobody()).unwrap();
    settle(&mut world, &disk);
    world.control.set_access_state(&to(AccessState::Standby), Done::nobody()).unwrap();
    let records = settle(&mut world, &disk).unwrap();
    let (mut world, disk, ..) = keeping(records);
    world.control.create_target(&super::world::target("iqn.2026-11.io.example:b", Vec::new())).unwrap();
    settle(&mut world, &disk);
    assert_eq!(world.control.targets().next().unwrap().port_groups, [(1, 40)]);
    assert_eq!(state(&world, 0, 40), AccessState::Standby);
    // Nobody else gets its number.
    for (target, tag, group) in [
        ("iqn.2026-11.io.example:b", 1, 40),
        ("iqn.2026-11.io.example:b", 1, 1),
        (TARGET, 1, 3),
        (TARGET, 1, 0),
    ] {
        let refused = world.control.set_port_group(target, tag, Some(group), Done::nobody());
        assert_eq!(refused, Err(ChangeError::PortGroup(group)));
    }
    let nowhere = world.control.set_port_group(TARGET, 9, Some(5), Done::nobody()).unwrap_err();
    assert_eq!(nowhere.to_string(), "there is no portal group 9");
    // What was said of a group without ports is forgotten.
    world.control.set_port_group(TARGET, 1, None, Done::nobody()).unwrap();
    settle(&mut world, &disk);
    settle(&mut world, &disk);
    assert_eq!(state(&world, 0, 40), AccessState::ActiveOptimized);
}

#[test]
fn luns_that_only_some_initiators_find_have_states_too() {
    let (mut world, disk, ..) = keeping(Records::new());
    world.control.register_bdev(bdev(1)).unwrap();
    let map = [("disk1".to_owned(), LunNumber(7), false)];
    world.control.set_lun_map(TARGET, 1, Some(&map), Done::nobody()).unwrap();
    settle(&mut world, &disk);
    world.control.set_access_state(&to(AccessState::Standby), Done::nobody()).unwrap();
    settle(&mut world, &disk);
    assert_eq!([0, 1].map(|unit| state(&world, unit, 1)), [AccessState::Standby; 2]);
    let one = AccessChange { luns: Luns::Bdev("disk1".to_owned()), ..to(AccessState::Unavailable) };
    world.control.set_access_state(&one, Done::nobody()).unwrap();
    settle(&mut world, &disk);
    assert_eq!([0, 1].map(|unit| state(&world, unit, 1)), [AccessState::Standby, AccessState::Unavailable]);
    world.control.register_bdev(bdev(2)).unwrap();
    let none = AccessChange { luns: Luns::Bdev("disk2".to_owned()), ..to(AccessState::Standby) };
    let error = world.control.set_access_state(&none, Done::nobody()).unwrap_err();
    assert_eq!(error.to_string(), "there is no LUN of bdev disk2");
}

/// The disk whose medium comes, with what was said of it before and what was saved.
fn late(said: impl FnOnce(&mut World), records: Records) -> (World, Option<Records>) {
    let (mut world, disk, ..) = keeping(records);
    let blocks = Arc::new(AtomicU64::new(0));
    world.control.register_bdev(Late::spec("late", &blocks, &[])).unwrap();
    world.control.add_lun(TARGET, "late", None).unwrap();
    settle(&mut world, &disk);
    said(&mut world);
    settle(&mut world, &disk);
    blocks.store(8, Ordering::Relaxed);
    world.control.reread_bdev("late", Done::nobody()).unwrap();
    let written = settle(&mut world, &disk);
    (world, written)
}

const LATE: &str = "6c6c6c6c-6c6c-6c6c-6c6c-6c6c6c6c6c6c";

#[test]
fn what_was_said_of_a_disk_before_its_medium_came_is_kept() {
    let standby = |world: &mut World, is_initial| {
        let change = AccessChange { is_initial, ..to(AccessState::Standby) };
        world.control.set_access_state(&change, Done::nobody()).unwrap();
        let chosen = Chosen { serial: Some("said".to_owned()), ..Chosen::default() };
        world.control.set_identity("late", chosen, is_initial, Done::nobody()).unwrap();
    };
    let serial =
        |world: &World| world.control.catalog.registry.view(UnitId(1)).unwrap().identity.serial.clone();
    let (world, written) = late(|world| standby(world, false), Records::new());
    let written = written.unwrap();
    assert_eq!((state(&world, 1, 1), serial(&world).as_str()), (AccessState::Standby, "said"));
    assert_eq!(written[&format!("alua/{LATE}")]["groups"][0]["state"], "standby");
    assert_eq!(written[&format!("identity/{LATE}")]["serial"], "said");
    // A file of calls yields to what was saved, an operator does not.
    let group = json!({ "group": 1, "state": "unavailable", "preferred": false, "explicit": false });
    let saved = Records::from([
        (format!("alua/{LATE}"), json!({ "explicit": true, "groups": [group] })),
        (format!("identity/{LATE}"), json!({ "serial": "saved" })),
    ]);
    let (world, _) = late(|world| standby(world, true), saved.clone());
    assert_eq!((state(&world, 1, 1), serial(&world).as_str()), (AccessState::Unavailable, "saved"));
    let (world, _) = late(|world| standby(world, false), saved);
    assert_eq!((state(&world, 1, 1), serial(&world).as_str()), (AccessState::Standby, "said"));
    assert!(alua(&world, 1).is_explicit(), "what was not said is as it was saved");
}

#[test]
fn a_disk_whose_file_comes_late_is_kept_as_it_was_found() {
    let source = || Source { path: "/late".to_owned(), own: None };
    let keep = |world: &mut World| world.control.keep_disk("late", source());
    let (world, written) = late(keep, Records::new());
    let own = json!({ "path": "/late", "uuid": LATE, "own": LATE, "born": null, "deleted": false });
    assert_eq!(written.unwrap()["disk/late"], own);
    assert_eq!(world.control.kept_uuid("late", &source(), false, [1; 16]), Some([0x6c; 16]));
    // Without a state file nothing is kept.
    let mut world = World::new(1);
    world.control.register_bdev(bdev(1)).unwrap();
    world.control.keep_disk("disk1", source());
    assert_eq!(world.control.kept_uuid("disk1", &source(), false, [1; 16]), None);
}

#[test]
fn what_was_taken_back_is_not_said_again_by_an_old_file_of_calls() {
    let (mut world, disk, ..) = keeping(Records::new());
    for state in [AccessState::Standby, AccessState::ActiveOptimized] {
        world.control.set_access_state(&to(state), Done::nobody()).unwrap();
        settle(&mut world, &disk);
    }
    world.control.set_alua_explicit("disk0", true, false, Done::nobody()).unwrap();
    world.control.set_alua_explicit("disk0", false, false, Done::nobody()).unwrap();
    let records = settle(&mut world, &disk).unwrap();
    let (mut world, disk, ..) = keeping(records);
    let initial = AccessChange { is_initial: true, ..to(AccessState::Standby) };
    world.control.set_access_state(&initial, Done::nobody()).unwrap();
    world.control.set_alua_explicit("disk0", true, true, Done::nobody()).unwrap();
    settle(&mut world, &disk);
    assert_eq!((state(&world, 0, 1), alua(&world, 0).is_explicit()), (AccessState::ActiveOptimized, false));
}

#[test]
fn initiators_cannot_have_more_barriers_in_flight_than_there_may_be() {
    let (mut world, disk, alice, _) = keeping(Records::new());
    world.control.set_alua_explicit("disk0", true, false, Done::nobody()).unwrap();
    settle(&mut world, &disk);
    while !world.control.keeper.is_full() {
        world.control.keeper.begin([ReactorId(1)].into_iter(), Then::Nothing);
    }
    ask_for(&mut world, alice, 1);
    assert_eq!(answer(&world, alice), (1, Outcome::of(Status::Busy)));
    silent(&world);
}

#[test]
fn a_lun_that_some_initiators_may_not_write_any_more_is_waited_for() {
    let (mut world, disk, ..) = keeping(Records::new());
    let map = |read_only| [("disk0".to_owned(), LunNumber(3), read_only)];
    world.control.set_lun_map(TARGET, 1, Some(&map(false)), Done::nobody()).unwrap();
    settle(&mut world, &disk);
    // Everybody has the unit still, at LUNs 0 and 5; these have lost it, or the leave to write it.
    for luns in [Some(map(true)), Some(map(false)), None] {
        let waits = luns != Some(map(false));
        let luns = luns.as_ref().map(|luns| &luns[..]);
        world.control.set_lun_map(TARGET, 1, luns, Done::nobody()).unwrap();
        for reactor in [0, 1] {
            let Change::Target { target, drained, .. } = acknowledge(&mut world, reactor, true) else {
                panic!()
            };
            assert_eq!(target.lun_map, Some(1));
            assert_eq!(*drained, if waits { vec![UnitId(0)] } else { vec![] }, "{luns:?}");
        }
    }
}
