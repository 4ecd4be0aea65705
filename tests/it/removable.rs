//! Disks whose medium comes out (SBC-4 §5.31, SPC-5): who is told, who prevents it, and that nothing is in flight when it is out.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::error::{Fault, Kind};
use lunette::control::done::Done;
use lunette::control::error::ChangeError;
use lunette::scsi::view::{DeviceKind, Medium};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::{Client, Command, Data};

use crate::harness::{Setup, World, pattern, read, sense, test_unit_ready, until, write};

const REMOVAL_PREVENTED: (u8, u8, u8) = (0x5, 0x53, 0x02);
const NO_MEDIUM: (u8, u8, u8) = (0x2, 0x3a, 0x00);
const MEDIUM_CHANGED: (u8, u8, u8) = (0x6, 0x28, 0x00);

fn world() -> World {
    World::start(Setup { reactors: 2, kind: DeviceKind::RemovableDisk, ..Setup::default() })
}

fn short(bytes: [u8; 6]) -> Command {
    let mut cdb = [0; 16];
    cdb[..6].copy_from_slice(&bytes);
    Command::new(0, cdb, Data::None)
}

/// START STOP UNIT with LOEJ, IMMED set.
fn eject() -> Command {
    short([0x1b, 1, 0, 0, 0x02, 0])
}

fn load() -> Command {
    short([0x1b, 1, 0, 0, 0x03, 0])
}

fn prevent(is_so: bool) -> Command {
    short([0x1e, 0, 0, 0, u8::from(is_so), 0])
}

#[track_caller]
fn good(client: &mut Client, command: Command) {
    let completion = client.run(command).unwrap();
    assert!(completion.is_good(), "{completion:?}");
}

#[track_caller]
fn refused(client: &mut Client, command: Command, with: (u8, u8, u8)) {
    assert_eq!(sense(&client.run(command).unwrap()), with);
}

#[test]
fn what_one_takes_out_is_out_for_all_and_the_others_are_told_when_it_is_back() {
    let world = world();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let inquiry = one.run(Command::read(0, cdb::inquiry(36), 36)).unwrap();
    assert_eq!(inquiry.data[..2], [0x00, 0x80], "a disk, RMB");
    good(&mut one, eject());
    for client in [&mut one, &mut other] {
        refused(client, test_unit_ready(0), NO_MEDIUM);
        refused(client, read(0, 8), NO_MEDIUM);
        refused(client, write(1, 0, 8), NO_MEDIUM);
        good(client, Command::read(0, cdb::inquiry(36), 36));
    }
    good(&mut one, eject());
    good(&mut other, load());
    good(&mut other, test_unit_ready(0));
    refused(&mut one, test_unit_ready(0), MEDIUM_CHANGED);
    good(&mut one, read(0, 8));
    good(&mut one, load());
    good(&mut other, read(0, 8));
}

#[test]
fn a_medium_comes_out_when_nothing_is_in_the_device_any_more() {
    let world = world();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    let written = other.session().command(write(7, 0, 8)).unwrap();
    other.ping(b"").unwrap();
    let ejected = one.session().command(eject()).unwrap();
    one.ping(b"").unwrap();
    assert_eq!(one.next_event(), None, "a write is in the device");
    until("the medium is out for others while the one who asked waits", || {
        !other.run(test_unit_ready(0)).unwrap().is_good()
    });
    refused(&mut other, read(0, 8), NO_MEDIUM);
    world.disks[0].faults.release(rule);
    assert!(other.completion(written).unwrap().is_good());
    assert!(one.completion(ejected).unwrap().is_good());
    good(&mut one, load());
    assert!(one.read(0, 8).unwrap() == pattern(7, 0, 8, 512));
}

#[test]
fn each_nexus_prevents_removal_until_it_allows_it_is_reset_or_leaves() {
    let world = world();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let count = |world: &World| world.control(|control| control.tray("disk0").unwrap().1);
    for client in [&mut one, &mut other] {
        good(client, prevent(true));
    }
    good(&mut one, prevent(true));
    assert_eq!(count(&world), 2);
    refused(&mut one, eject(), REMOVAL_PREVENTED);
    good(&mut one, prevent(false));
    refused(&mut one, eject(), REMOVAL_PREVENTED);
    assert_eq!(count(&world), 1);
    // The other one's session ends.
    other.logout().unwrap();
    world.wait_sessions(1);
    assert_eq!(count(&world), 0);
    good(&mut one, eject());
    good(&mut one, prevent(true));
    refused(&mut one, load(), REMOVAL_PREVENTED);
    let reset = Tmf { function: Function::LogicalUnitReset, ..Tmf::abort(0, 0) };
    assert_eq!(one.task_management(reset).unwrap(), 0);
    refused(&mut one, test_unit_ready(0), (0x6, 0x29, 0x03));
    good(&mut one, load());
    good(&mut one, test_unit_ready(0));
}

#[test]
fn an_operator_asks_first_and_then_takes_it() {
    let world = world();
    let mut client = world.client("a");
    good(&mut client, prevent(true));
    let refused_with =
        world.control(|control| control.eject_bdev("disk0", false, Done::nobody()).unwrap_err());
    assert_eq!(
        refused_with.to_string(),
        "an initiator prevents that the medium of bdev disk0 is taken out, and is asked for it now; force takes it out at once"
    );
    good(&mut client, read(0, 8));
    let done = world.change(|control, done, _| control.eject_bdev("disk0", true, done));
    assert!(done.recv().unwrap().is_clean);
    assert_eq!(world.control(|control| control.tray("disk0")), Some((Medium::Ejected, 0)));
    refused(&mut client, read(0, 8), NO_MEDIUM);
    let done = world.change(|control, done, _| control.load_bdev("disk0", done));
    assert!(done.recv().unwrap().is_clean);
    refused(&mut client, read(0, 8), MEDIUM_CHANGED);
    good(&mut client, read(0, 8));
}

#[test]
fn a_disk_that_is_fixed_has_nothing_to_take_out() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    refused(&mut client, eject(), (0x5, 0x24, 0x00));
    good(&mut client, prevent(true));
    let error = world.control(|control| control.eject_bdev("disk0", true, Done::nobody()).unwrap_err());
    assert_eq!(
        error.to_string(),
        "bdev disk0 is no removable disk and no CD-ROM drive: nothing can be taken out"
    );
}

#[test]
fn nobody_loads_a_medium_that_is_being_changed() {
    let world = world();
    let [mut one, mut other] = ["a", "b"].map(|name| world.client(name));
    let name = world.disks[0].name.clone();
    let wanted = name.clone();
    let out = world.change(move |control, done, _| control.begin_exchange(&wanted, false, done));
    assert!(out.recv().unwrap().is_clean);
    assert_eq!(one.run(load()).unwrap().status, status::BUSY);
    refused(&mut one, test_unit_ready(0), NO_MEDIUM);
    good(&mut one, eject());
    let wanted = name.clone();
    let again = world.control(move |control| {
        let load = control.load_bdev(&wanted, Done::nobody());
        (load, control.begin_exchange(&wanted, true, Done::nobody()))
    });
    assert!(matches!(again, (Err(ChangeError::Exchanged(_)), Err(ChangeError::Exchanged(_)))), "{again:?}");
    let loaded = world.change(move |control, done, _| control.end_exchange(&name, true, done));
    loaded.recv().unwrap();
    for client in [&mut one, &mut other] {
        refused(client, test_unit_ready(0), MEDIUM_CHANGED);
        good(client, test_unit_ready(0));
    }
    good(&mut one, eject());
    good(&mut one, load());
}

#[test]
fn a_medium_that_was_in_when_it_was_changed_is_another() {
    let world = world();
    let mut client = world.client("a");
    let name = world.disks[0].name.clone();
    let loaded = world.change(move |control, done, _| control.end_exchange(&name, true, done));
    loaded.recv().unwrap();
    refused(&mut client, test_unit_ready(0), MEDIUM_CHANGED);
    good(&mut client, test_unit_ready(0));
}
