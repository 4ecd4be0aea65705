//! Access states and identities: changed by the operator and by initiators, saved, shown to everybody.

use std::sync::mpsc;

use serde_json::json;

use super::acknowledge;
use super::reserve::{Peer, answer, silent, ticket};
use super::saving::keeping;
use super::world::{TARGET, World, bdev};
use crate::control::alua::{AccessChange, Luns};
use crate::control::done::{Done, Outcome as Ended};
use crate::control::error::ChangeError;
use crate::control::identity::{Chosen, bytes};
use crate::control::store::Records;
use crate::id::{ReactorId, UnitId};
use crate::limits::SAVE_NS;
use crate::reactor::message::{Ask, Change, ToControl, ToReactor};
use crate::scsi::Outcome;
use crate::scsi::alua::{AccessState, Cause, Group};
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, UnitView};

/// Somebody who waits for a change, and where he hears of its end.
pub(super) fn waiter() -> (Done, mpsc::Receiver<Ended>) {
    let (ended, end) = mpsc::sync_channel(1);
    (Done::new(move |outcome| ended.send(outcome).unwrap()), end)
}

/// A change of all LUNs by portal group 1.
pub(super) fn to(state: AccessState) -> AccessChange {
    AccessChange {
        target: TARGET.to_owned(),
        portal_group: 1,
        luns: Luns::All,
        state,
        is_preferred: None,
        is_initial: false,
    }
}

/// What both reactors are shown: the unit, the attention, and whether devices are waited for.
#[track_caller]
fn shown(world: &mut World) -> (UnitView, Option<Ua>, bool) {
    let [change, other] = [0, 1].map(|reactor| acknowledge(world, reactor, true));
    let (Change::Unit { view, attention, is_drained, .. }, Change::Unit { view: same, .. }) = (change, other)
    else {
        panic!()
    };
    assert_eq!(view, same);
    (UnitView::clone(&view), attention, is_drained)
}

/// SET TARGET PORT GROUPS with this one descriptor.
fn set_groups(world: &mut World, peer: Peer, descriptor: [u8; 4]) {
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(peer.reactor),
        ticket: ticket(1),
        session: peer.session,
        unit: UnitId(0),
        cdb: Cdb::new([0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0]),
        parameters: [[0; 4], descriptor].concat().into(),
    })));
}

const ALUA: &str = "alua/01010101-0101-0101-0101-010101010101";

#[test]
fn the_operator_changes_a_state_and_everybody_is_told() {
    let (mut world, disk, ..) = keeping(Records::new());
    let (done, ended) = waiter();
    world.control.set_access_state(&to(AccessState::Standby), done).unwrap();
    silent(&world);
    let records = disk.write(&mut world);
    let group = json!({ "group": 1, "state": "standby", "preferred": false, "explicit": false });
    assert_eq!(records[ALUA], json!({ "explicit": false, "groups": [group] }));
    ended.try_recv().unwrap_err();
    let (view, attention, is_drained) = shown(&mut world);
    assert_eq!((attention, is_drained), (Some(Ua::AccessChanged), true));
    assert_eq!(view.alua.group(1).state, AccessState::Standby);
    let ended = ended.try_recv().unwrap();
    assert!(ended.is_clean && ended.is_saved);
    // The same again changes nothing, and waits as the first did; back to active waits for no device.
    let (done, again) = waiter();
    world.control.set_access_state(&to(AccessState::Standby), done).unwrap();
    world.turn();
    again.try_recv().unwrap_err();
    assert_eq!(shown(&mut world), (view, None, true));
    assert!(again.try_recv().unwrap().is_clean);
    assert!(disk.ordered().is_none());
    world.control.set_access_state(&to(AccessState::ActiveOptimized), Done::nobody()).unwrap();
    disk.write(&mut world);
    let (view, attention, is_drained) = shown(&mut world);
    assert_eq!((attention, is_drained), (Some(Ua::AccessChanged), false));
    let expected = Group { number: 1, cause: Cause::Implicit, ..Group::default() };
    assert_eq!(view.alua.group(1), expected);
}

/// An operator's script that was told that a device keeps a write, or has lost patience, and calls again: the other node takes over
/// when it is told that all is well.
#[test]
fn a_state_that_is_asked_for_again_waits_for_devices_again() {
    let (mut world, disk, ..) = keeping(Records::new());
    let ask = |world: &mut World| {
        let (done, end) = waiter();
        world.control.set_access_state(&to(AccessState::Standby), done).unwrap();
        world.turn();
        end
    };
    let first = ask(&mut world);
    let second = ask(&mut world);
    second.try_recv().unwrap_err();
    disk.write(&mut world);
    let third = ask(&mut world);
    // A device keeps a write of before.
    for reactor in [0, 1] {
        acknowledge(&mut world, reactor, false);
    }
    assert!(!first.try_recv().unwrap().is_clean);
    let fourth = ask(&mut world);
    for end in [second, third, fourth] {
        end.try_recv().unwrap_err();
        let (view, attention, is_drained) = shown(&mut world);
        assert_eq!((view.alua.group(1).state, attention, is_drained), (AccessState::Standby, None, true));
        assert!(end.try_recv().unwrap().is_clean);
    }
    silent(&world);
    // Likewise whether initiators may change states.
    let (done, first) = waiter();
    world.control.set_alua_explicit("disk0", true, false, done).unwrap();
    let (done, second) = waiter();
    world.control.set_alua_explicit("disk0", true, false, done).unwrap();
    disk.refuse(&mut world);
    assert!(!first.try_recv().unwrap().is_saved);
    assert!(!second.try_recv().unwrap().is_saved, "it is not so");
}

#[test]
fn who_asks_for_a_state_again_is_told_too_that_it_cannot_be_saved() {
    let (mut world, disk, alice, bob) = keeping(Records::new());
    world.control.set_alua_explicit("disk0", true, false, Done::nobody()).unwrap();
    disk.write(&mut world);
    shown(&mut world);
    for peer in [alice, bob] {
        set_groups(&mut world, peer, [0x02, 0, 0, 1]);
        silent(&world);
    }
    disk.refuse(&mut world);
    for peer in [alice, bob] {
        assert_eq!(answer(&world, peer), (1, Outcome::check(Sense::INTERNAL_FAILURE)));
    }
    silent(&world);
}

/// What is as it is by default has no record, and none is made of it.
#[test]
fn what_was_never_changed_is_not_saved() {
    let (mut world, disk, ..) = keeping(Records::new());
    let (done, end) = waiter();
    world.control.set_access_state(&to(AccessState::ActiveOptimized), done).unwrap();
    world.turn();
    assert!(disk.ordered().is_none());
    assert!(!shown(&mut world).2);
    assert!(end.try_recv().unwrap().is_saved);
}

/// Between two turns of control's a long time can pass.
#[test]
fn what_is_asked_for_after_a_long_silence_has_its_time_to_be_saved() {
    let (mut world, disk, ..) = keeping(Records::new());
    world.control.observe(world.now().after_ns(2 * SAVE_NS));
    let (done, ended) = waiter();
    world.control.set_access_state(&to(AccessState::Standby), done).unwrap();
    world.pass(2 * SAVE_NS);
    ended.try_recv().unwrap_err();
    disk.write(&mut world);
    shown(&mut world);
    assert!(ended.try_recv().unwrap().is_saved);
}

#[test]
fn a_state_that_cannot_be_saved_is_not_taken() {
    let (mut world, disk, ..) = keeping(Records::new());
    let (done, ended) = waiter();
    world.control.set_access_state(&to(AccessState::Unavailable), done).unwrap();
    disk.refuse(&mut world);
    assert!(!ended.try_recv().unwrap().is_saved);
    silent(&world);
    for (change, missing) in [
        (AccessChange { portal_group: 9, ..to(AccessState::Standby) }, "there is no portal group 9"),
        (AccessChange { luns: Luns::Number(LunNumber(3)), ..to(AccessState::Standby) }, "there is no LUN 3"),
    ] {
        let error = world.control.set_access_state(&change, Done::nobody()).unwrap_err();
        assert_eq!(error.to_string(), missing);
    }
}

#[test]
fn initiators_change_states_where_they_may() {
    let (mut world, disk, alice, _) = keeping(Records::new());
    set_groups(&mut world, alice, [0x02, 0, 0, 1]);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::INVALID_OPCODE)));
    world.control.set_alua_explicit("disk0", true, false, Done::nobody()).unwrap();
    disk.write(&mut world);
    assert_eq!(shown(&mut world).1, Some(Ua::InquiryChanged));
    set_groups(&mut world, alice, [0x02, 0, 0, 9]);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::invalid_parameter(6))));
    // As it is: nobody is told.
    set_groups(&mut world, alice, [0x00, 0, 0, 1]);
    let (_, attention, is_drained) = shown(&mut world);
    assert_eq!((attention, is_drained), (None, false));
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    set_groups(&mut world, alice, [0x01, 0, 0, 1]);
    silent(&world);
    let records = disk.write(&mut world);
    assert_eq!(records[ALUA]["groups"][0]["explicit"], true);
    let Change::Unit { view, attention, except, .. } = acknowledge(&mut world, 0, true) else { panic!() };
    assert_eq!((attention, except), (Some(Ua::AccessChanged), Some(alice.session)));
    assert_eq!(view.alua.group(1).state, AccessState::ActiveNonOptimized);
    acknowledge(&mut world, 1, true);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    // One that cannot be saved does not happen.
    set_groups(&mut world, alice, [0x02, 0, 0, 1]);
    disk.refuse(&mut world);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::INTERNAL_FAILURE)));
}

#[test]
fn two_changes_on_their_way_both_count() {
    let (mut world, disk, ..) = keeping(Records::new());
    world.control.set_alua_explicit("disk0", true, false, Done::nobody()).unwrap();
    world.control.set_access_state(&to(AccessState::Standby), Done::nobody()).unwrap();
    disk.write(&mut world);
    shown(&mut world);
    let (view, ..) = shown(&mut world);
    assert!(view.alua.is_explicit());
    assert_eq!(view.alua.group(1).state, AccessState::Standby);
}

#[test]
fn states_are_as_they_were_and_a_file_of_calls_yields_to_them() {
    let group = json!({ "group": 1, "state": "unavailable", "preferred": true, "explicit": true });
    let saved = json!({ "explicit": true, "groups": [group, { "group": 7, "state": "nonsense" }] });
    let (mut world, disk, ..) = keeping(Records::from([(ALUA.to_owned(), saved)]));
    let alua = |world: &World| world.control.catalog.registry.view(UnitId(0)).unwrap().alua.clone();
    let expected =
        Group { number: 1, state: AccessState::Unavailable, is_preferred: true, cause: Cause::Explicit };
    assert_eq!((alua(&world).groups(), alua(&world).is_explicit()), ([expected].as_slice(), true));
    let change = AccessChange { is_initial: true, ..to(AccessState::Standby) };
    world.control.set_access_state(&change, Done::nobody()).unwrap();
    world.control.set_alua_explicit("disk0", false, true, Done::nobody()).unwrap();
    world.turn();
    silent(&world);
    // The target goes: so does what was said of its port.
    world.control.delete_target(TARGET, Done::nobody(), world.now()).unwrap();
    for (session, reactor) in [(1, 0), (2, 1)] {
        while world.reactors[reactor].receive().is_some() {}
        world.ended(crate::id::SessionId(session));
        world.drained(crate::id::SessionId(session));
    }
    world.turn();
    let records = disk.write(&mut world);
    assert_eq!(records[ALUA], json!({ "explicit": true, "groups": [] }));
}

fn naa(digits: &str) -> Chosen {
    Chosen { naa: bytes(digits), serial: Some("7".to_owned()), ..Chosen::default() }
}

const IDENTITY: &str = "identity/01010101-0101-0101-0101-010101010101";

#[test]
fn an_identity_is_chosen_saved_and_told() {
    let (mut world, disk, ..) = keeping(Records::new());
    let chosen = naa("60014050000000010000000000000002");
    let (done, ended) = waiter();
    world.control.set_identity("disk0", chosen.clone(), false, done).unwrap();
    silent(&world);
    let records = disk.write(&mut world);
    assert_eq!(records[IDENTITY]["naa"], "60014050000000010000000000000002");
    let (view, attention, _) = shown(&mut world);
    assert_eq!(attention, Some(Ua::InquiryChanged));
    assert_eq!((view.identity.serial.as_str(), view.identity.naa.len()), ("7", 16));
    assert!(ended.try_recv().unwrap().is_saved);
    // Another disk cannot have it.
    world.control.register_bdev(bdev(1)).unwrap();
    let same = world.control.set_identity("disk1", chosen, false, Done::nobody()).unwrap_err();
    assert!(matches!(same, ChangeError::SameName { what: "naa", .. }), "{same}");
    let wrong = Chosen { vendor: Some("much too long".to_owned()), ..Chosen::default() };
    world.control.set_identity("disk0", wrong, false, Done::nobody()).unwrap_err();
    // Nothing chosen is what the disk brings.
    world.control.set_identity("disk0", Chosen::default(), false, Done::nobody()).unwrap();
    let records = disk.write(&mut world);
    assert_eq!(shown(&mut world).0.identity.serial, "01".repeat(16));
    // That it was taken back counts for a file of calls that has it still.
    let (mut world, ..) = keeping(records);
    world.control.set_identity("disk0", naa("5001405000000002"), true, Done::nobody()).unwrap();
    world.turn();
    assert_eq!(world.control.catalog.registry.view(UnitId(0)).unwrap().identity.serial, "01".repeat(16));
}

#[test]
fn a_name_that_another_disk_has_by_now_is_not_recalled() {
    let saved = json!({ "naa": "5001405000000001", "serial": "saved" });
    let second = "identity/02020202-0202-0202-0202-020202020202";
    let (mut world, ..) = keeping(Records::from([(second.to_owned(), saved)]));
    world.control.set_identity("disk0", naa("5001405000000001"), false, Done::nobody()).unwrap();
    world.control.saved(2, true, world.now());
    world.control.register_bdev(bdev(1)).unwrap();
    assert_eq!(world.control.identity_of("disk1"), Some(&Chosen::default()));
}

#[test]
fn an_identity_is_as_it_was_and_a_file_of_calls_yields_to_it() {
    let saved = json!({ "serial": "saved", "naa": "5001405000000001" });
    let (mut world, ..) = keeping(Records::from([(IDENTITY.to_owned(), saved)]));
    let identity = |world: &World| world.control.catalog.registry.view(UnitId(0)).unwrap().identity.clone();
    assert_eq!(identity(&world).serial, "saved");
    assert_eq!(identity(&world).naa.as_slice(), [0x50, 1, 0x40, 0x50, 0, 0, 0, 1]);
    world.control.set_identity("disk0", naa("5001405000000002"), true, Done::nobody()).unwrap();
    world.turn();
    assert_eq!(identity(&world).serial, "saved");
    assert!(
        world.reactors.iter().all(|reactor| !matches!(reactor.receive(), Some(ToReactor::Barrier { .. })))
    );
}
