//! Commands that reactors ask control about.

use super::acknowledge;
use super::world::{ALICE, World};
use crate::control::done::Done;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::reactor::message::{Ask, Change, TaskTicket, ToControl, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::{Outcome, view::Modes};
use crate::slab::Key;

const TICKET: TaskTicket =
    TaskTicket { conn: Key { index: 3, generation: 4 }, task: Key { index: 5, generation: 6 } };

/// MODE SELECT(6) lists of one page.
const CACHE_OFF: [u8; 24] = [0, 0, 0, 0, 0x08, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const DESCRIPTORS: [u8; 16] = [0, 0, 0, 0, 0x0a, 10, 0x24, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];
const PROTECT: [u8; 16] = [0, 0, 0, 0, 0x0a, 10, 0x20, 0x10, 0x08, 0x40, 0, 0, 0, 0, 0, 0];
const AS_IT_IS: [u8; 16] = [0, 0, 0, 0, 0x0a, 10, 0x20, 0x10, 0, 0x40, 0, 0, 0, 0, 0, 0];

/// Two reactors, and the session on the first of them.
fn world() -> (World, SessionId) {
    let mut world = World::new(2);
    world.log_in(ALICE, 1);
    let session = world.adopt(0).session;
    (world, session)
}

fn ask(world: &mut World, session: SessionId, cdb: &[u8], parameters: &[u8]) {
    let mut bytes = [0; 16];
    bytes[..cdb.len()].copy_from_slice(cdb);
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(0),
        ticket: TICKET,
        session,
        unit: UnitId(0),
        cdb: Cdb::new(bytes),
        parameters: parameters.into(),
    })));
}

fn mode_select(world: &mut World, session: SessionId, list: &[u8]) {
    ask(world, session, &[0x15, 0x10, 0, 0, u8::try_from(list.len()).unwrap(), 0], list);
}

/// What the first reactor is told next: an answer, and whether it flushes first.
#[track_caller]
fn answer(world: &World) -> (Outcome, bool) {
    match world.reactors[0].receive() {
        Some(ToReactor::Answered { asked, outcome, is_flushed }) if asked == TICKET => (outcome, is_flushed),
        other => panic!("no answer but {other:?}"),
    }
}

/// Both reactors acknowledge the change of the unit's view, which waits for the device or does not.
#[track_caller]
fn changed(world: &mut World, session: SessionId, waits: bool, is_clean: bool) -> Modes {
    let changes = [0, 1].map(|reactor| acknowledge(world, reactor, is_clean));
    let modes = changes.map(|change| {
        let Change::Unit { view, attention, except, is_drained } = change else { panic!("{change:?}") };
        assert_eq!((attention, except, is_drained), (Some(Ua::ModeChanged), Some(session), waits));
        view.modes
    });
    assert_eq!(modes[0], modes[1]);
    modes[0]
}

#[test]
fn a_cache_is_switched_off_by_a_barrier_and_then_flushed() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &CACHE_OFF);
    let modes = changed(&mut world, session, true, true);
    assert!(!modes.write_cache);
    assert_eq!(answer(&world), (Outcome::GOOD, true));
    assert_eq!(world.control.catalog.registry.view(UnitId(0)).unwrap().modes, modes, "later sessions see it");
}

#[test]
fn nothing_is_answered_before_every_reactor_has_acknowledged() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &PROTECT);
    acknowledge(&mut world, 1, true);
    assert!(matches!(world.reactors[0].receive(), Some(ToReactor::Barrier { .. })));
    assert!(world.reactors[0].receive().is_none());
}

#[test]
fn write_protection_waits_for_the_device_and_the_sense_format_for_nothing() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &PROTECT);
    assert!(changed(&mut world, session, true, true).write_protect);
    assert_eq!(answer(&world), (Outcome::GOOD, false));
    mode_select(&mut world, session, &DESCRIPTORS);
    let modes = changed(&mut world, session, false, true);
    assert_eq!((modes.write_protect, modes.descriptor_sense), (false, true), "the page as it was sent");
    assert_eq!(answer(&world), (Outcome::GOOD, false));
}

#[test]
fn a_device_that_keeps_an_io_is_told() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &CACHE_OFF);
    changed(&mut world, session, true, false);
    // Nobody is told before every reactor knows what the device keeps.
    for reactor in [1, 0] {
        assert!(matches!(acknowledge(&mut world, reactor, true), Change::Nothing));
    }
    assert_eq!(answer(&world).0, Outcome::check(Sense::INTERNAL_FAILURE));
}

#[test]
fn what_changes_nothing_needs_no_barrier() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &AS_IT_IS);
    assert_eq!(answer(&world), (Outcome::GOOD, false));
    let mut wrong = AS_IT_IS;
    wrong[9] = 0;
    mode_select(&mut world, session, &wrong);
    assert_eq!(answer(&world), (Outcome::check(Sense::invalid_parameter_bit(9, 6)), false));
    ask(&mut world, session, &[0xff], &[]);
    assert_eq!(answer(&world), (Outcome::check(Sense::INVALID_OPCODE), false));
    assert!(world.reactors[1].receive().is_none());
}

#[test]
fn what_was_selected_outlives_a_resize() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &CACHE_OFF);
    let modes = changed(&mut world, session, true, true);
    world.control.reread_bdev("disk0", Done::nobody()).unwrap();
    assert_eq!(world.control.catalog.registry.view(UnitId(0)).unwrap().modes, modes);
}
