//! Commands that reactors ask control about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::acknowledge;
use super::world::{ALICE, Disk, World, bdev, target};
use crate::bdev::{Bdev, Channel, Info};
use crate::control::done::Done;
use crate::control::registry::BdevSpec;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::reactor::message::{Ask, Change, TaskTicket, ToControl, ToReactor};
use crate::scsi::Outcome;
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, LunNumber, Medium, Modes};
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
        Some(ToReactor::Answered { asked, outcome, flushes }) if asked == TICKET => {
            assert!(flushes.is_none_or(|unit| unit == UnitId(0)));
            (outcome, flushes.is_some())
        }
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

/// The same for a change that nobody is told of.
#[track_caller]
fn again(world: &mut World, waits: bool) {
    for reactor in [0, 1] {
        let change = acknowledge(world, reactor, true);
        let Change::Unit { attention, is_drained, .. } = change else { panic!("{change:?}") };
        assert_eq!((attention, is_drained), (None, waits));
    }
}

/// A second host, or the first once more: its GOOD says that nothing of before is left in a device or its cache, whatever became of
/// who asked first.
#[test]
fn what_is_selected_again_is_drained_and_flushed_again() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &CACHE_OFF);
    mode_select(&mut world, session, &CACHE_OFF);
    changed(&mut world, session, true, true);
    again(&mut world, true);
    assert_eq!([answer(&world), answer(&world)], [(Outcome::GOOD, true); 2]);
    mode_select(&mut world, session, &CACHE_OFF);
    again(&mut world, true);
    assert_eq!(answer(&world), (Outcome::GOOD, true));
}

/// The same of a medium that is taken out.
#[test]
fn what_is_ejected_again_is_drained_and_flushed_again() {
    let (mut world, session) = world();
    world.control.register_bdev_as(bdev(1), DeviceKind::RemovableDisk).unwrap();
    let lun = ("disk1".to_owned(), Some(LunNumber(1)));
    world.control.create_target(&target("iqn.2026-11.io.example:tray", vec![lun])).unwrap();
    world.turn();
    for reactor in &world.reactors {
        while reactor.receive().is_some() {}
    }
    for _ in 0..2 {
        world.tell(ToControl::Ask(Box::new(Ask {
            reactor: ReactorId(0),
            ticket: TICKET,
            session,
            unit: UnitId(1),
            cdb: Cdb::new([0x1b, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            parameters: Box::default(),
        })));
        again(&mut world, true);
        let told = world.reactors[0].receive();
        assert!(
            matches!(
                told,
                Some(ToReactor::Answered { outcome: Outcome::GOOD, flushes: Some(UnitId(1)), .. })
            ),
            "{told:?}"
        );
    }
}

/// An operator and other hosts go on while a device keeps a write: who comes back to the unit has heard of it.
#[test]
fn what_changes_while_a_unit_is_not_ready_is_told_too() {
    let (mut world, session) = world();
    let unsettled = |is_so| ToControl::Unsettled { unit: UnitId(0), reactor: ReactorId(1), is_so };
    world.tell(unsettled(true));
    again(&mut world, false);
    mode_select(&mut world, session, &PROTECT);
    changed(&mut world, session, true, true);
    assert_eq!(answer(&world), (Outcome::GOOD, false));
    world.tell(unsettled(false));
    again(&mut world, false);
}

/// A disk that may be of another size by now.
#[derive(Debug)]
struct Growing {
    blocks: Arc<AtomicU64>,
}

impl Bdev for Growing {
    fn info(&self) -> Info {
        Info { blocks: self.blocks.load(Ordering::Relaxed), ..Disk(1).info() }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        unreachable!("control opens no channel")
    }
}

/// The same of a size or a medium: when the device gives back what it kept, nobody is told any more.
#[test]
fn a_size_or_medium_that_changes_while_a_unit_is_not_ready_is_told() {
    let (mut world, _) = world();
    let blocks = Arc::new(AtomicU64::new(8));
    let disk = BdevSpec { bdev: Arc::new(Growing { blocks: Arc::clone(&blocks) }), ..bdev(1) };
    world.control.register_bdev_as(disk, DeviceKind::RemovableDisk).unwrap();
    let lun = ("disk1".to_owned(), Some(LunNumber(1)));
    world.control.create_target(&target("iqn.2026-11.io.example:tray", vec![lun])).unwrap();
    world.turn();
    for reactor in &world.reactors {
        while reactor.receive().is_some() {}
    }
    let told = |world: &mut World| {
        world.turn();
        let changes = [0, 1].map(|reactor| acknowledge(world, reactor, true)).map(|change| match change {
            Change::Unit { view, attention, .. } => (view.medium, attention),
            other => panic!("{other:?}"),
        });
        assert_eq!(changes[0], changes[1]);
        changes[0]
    };
    let unsettled = |is_so| ToControl::Unsettled { unit: UnitId(1), reactor: ReactorId(1), is_so };
    world.tell(unsettled(true));
    assert_eq!(told(&mut world), (Medium::Unsettled, None));
    blocks.store(16, Ordering::Relaxed);
    world.control.reread_bdev("disk1", Done::nobody()).unwrap();
    assert_eq!(told(&mut world), (Medium::Unsettled, Some(Ua::CapacityChanged)));
    world.control.eject_bdev("disk1", false, Done::nobody()).unwrap();
    assert_eq!(told(&mut world), (Medium::Ejected, None));
    world.control.load_bdev("disk1", Done::nobody()).unwrap();
    assert_eq!(told(&mut world), (Medium::Unsettled, Some(Ua::MediumChanged)));
    world.tell(unsettled(false));
    assert_eq!(told(&mut world), (Medium::Ready, None));
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
fn what_changes_nothing_is_told_to_nobody() {
    let (mut world, session) = world();
    mode_select(&mut world, session, &AS_IT_IS);
    again(&mut world, false);
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
