//! Thresholds of space: who is told, how often, and that one device that holds a thread up does not keep others from being measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::acknowledge;
use super::world::{Disk, World, target};
use crate::bdev::space::{Figures, Space};
use crate::bdev::{Bdev, Channel, Info, Unmap};
use crate::control::registry::BdevSpec;
use crate::control::space::Surveyor;
use crate::id::{ReactorId, UnitId};
use crate::limits::{LOG_LINES_PER_KIND, SPACE_NS};
use crate::reactor::message::{Change, ToReactor};
use crate::scsi::attention::Ua;
use crate::scsi::provisioning::{Threshold, Thresholds};
use crate::scsi::view::{LunNumber, Modes, UnitView};
use crate::time::Tick;

const MIB: u64 = 1 << 20;

/// A disk by its number that gives blocks back, and has what its test says left.
#[derive(Debug)]
struct Thin {
    number: u8,
    space: Arc<Space>,
    left_bytes: Arc<Mutex<u64>>,
    holds_up: Arc<AtomicBool>,
}

impl Bdev for Thin {
    fn info(&self) -> Info {
        let unmap = Some(Unmap { granularity_blocks: 8, reads_zeroes: true, anchors: false });
        Info { blocks: 1 << 21, unmap, ..Disk(self.number).info() }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        unreachable!("control opens no channel")
    }

    fn space(&self) -> Option<Arc<Space>> {
        Some(Arc::clone(&self.space))
    }

    fn measure(&self) {
        while self.holds_up.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        self.space.set(Figures { used_bytes: MIB, available_bytes: *self.left_bytes.lock().unwrap() });
    }
}

/// What a test has in hand of one.
struct Hand {
    left_bytes: Arc<Mutex<u64>>,
    holds_up: Arc<AtomicBool>,
    unit: UnitId,
}

/// A world with thin disks from 1 on as LUNs of a target of their own; the reactors know them.
fn world(count: u8) -> (World, Vec<Hand>) {
    let mut world = World::new(2);
    let mut hands = Vec::new();
    for number in 1..=count {
        let (left_bytes, holds_up) = (Arc::new(Mutex::new(100 * MIB)), Arc::default());
        let hand = Hand {
            left_bytes: Arc::clone(&left_bytes),
            holds_up: Arc::clone(&holds_up),
            unit: UnitId(u32::from(number)),
        };
        let bdev = Arc::new(Thin { number, space: Arc::default(), left_bytes, holds_up });
        let (product, recipe) = ("thin".to_owned(), String::new());
        world.control.register_bdev(BdevSpec { bdev, product, recipe, bases: Vec::new() }).unwrap();
        hands.push(hand);
    }
    let luns = (1..=count).map(|number| (format!("disk{number}"), Some(LunNumber(u16::from(number)))));
    world.control.create_target(&target("iqn.2026-11.io.example:thin", luns.collect())).unwrap();
    forget_messages(&world);
    (world, hands)
}

fn forget_messages(world: &World) {
    world.reactors.iter().for_each(|reactor| while reactor.receive().is_some() {});
}

/// The units that a round measures, one after the other.
fn measured(surveyor: &mut Surveyor, world: &mut World, now: Tick) -> Vec<UnitId> {
    let units = Mutex::new(Vec::new());
    if let Some(rounds) = surveyor.due(&world.control, now) {
        rounds.run(|unit| units.lock().unwrap().push(unit));
    }
    let units = units.into_inner().unwrap();
    units.iter().for_each(|unit| world.control.space_measured(*unit));
    units
}

/// A threshold of so many sets that are left.
fn set_threshold(world: &mut World, unit: UnitId, sets: u32) {
    let view = UnitView::clone(world.control.catalog.registry.view(unit).unwrap());
    let thresholds = Thresholds { available: Threshold { is_enabled: true, sets }, ..Thresholds::DEFAULT };
    world.control.replace_unit(UnitView { modes: Modes { thresholds, ..view.modes }, ..view }).unwrap();
    for reactor in [0, 1] {
        assert!(matches!(
            acknowledge(world, reactor, true),
            Change::Unit { attention: Some(Ua::ModeChanged), .. }
        ));
    }
}

/// Whether the reactors are told that a threshold of this unit is met.
#[track_caller]
fn is_told(world: &mut World, unit: UnitId) -> bool {
    let Some(ToReactor::Barrier { change, .. }) = world.reactors[0].receive() else { return false };
    let Change::Unit { view, attention, except, is_drained } = change else { panic!("{change:?}") };
    assert_eq!((view.id, attention, except, is_drained), (unit, Some(Ua::SoftThreshold), None, false));
    forget_messages(world);
    true
}

#[test]
fn a_threshold_is_told_when_it_is_met_and_again_after_it_was_left() {
    let (mut world, hands) = world(1);
    let (unit, mut surveyor) = (hands[0].unit, Surveyor::default());
    set_threshold(&mut world, unit, 10);
    let mut now = Tick::ZERO;
    let mut after = |world: &mut World, left_bytes| {
        *hands[0].left_bytes.lock().unwrap() = left_bytes;
        assert_eq!(measured(&mut surveyor, world, now), [unit]);
        assert!(surveyor.due(&world.control, now).is_none(), "not before it is time");
        now = now.after_ns(SPACE_NS);
        is_told(world, unit)
    };
    assert!(!after(&mut world, 100 * MIB));
    assert!(after(&mut world, 10 * MIB));
    assert!(!after(&mut world, 5 * MIB), "once");
    assert!(!after(&mut world, 11 * MIB));
    assert!(after(&mut world, 0));
    // One that is set anew is armed anew.
    set_threshold(&mut world, unit, 9);
    assert!(after(&mut world, 0));
}

/// Initiators set thresholds that are met already, one after another.
#[test]
fn what_is_said_of_thresholds_is_paced() {
    let (mut world, hands) = world(1);
    let (unit, mut surveyor) = (hands[0].unit, Surveyor::default());
    *hands[0].left_bytes.lock().unwrap() = 0;
    assert_eq!(measured(&mut surveyor, &mut world, Tick::ZERO), [unit]);
    for sets in (0..).take(LOG_LINES_PER_KIND + 1) {
        assert_eq!(world.control.log.deadline(), None, "line {sets}");
        set_threshold(&mut world, unit, 10 + sets % 2);
        world.control.space_measured(unit);
        world.turn();
        assert!(is_told(&mut world, unit));
    }
    assert!(world.control.log.deadline().is_some(), "what was left out is summed up");
}

#[test]
fn who_cannot_tell_is_not_asked() {
    let (mut world, mut surveyor) = (World::new(1), Surveyor::default());
    assert_eq!(surveyor.deadline(&world.control), None);
    assert_eq!(measured(&mut surveyor, &mut world, Tick::ZERO), []);
}

#[test]
fn a_device_that_holds_a_thread_up_leaves_the_others_to_the_next() {
    let (mut world, hands) = world(3);
    let mut surveyor = Surveyor::default();
    hands[0].holds_up.store(true, Ordering::Relaxed);
    let rounds = surveyor.due(&world.control, Tick::ZERO).unwrap();
    let held_up = std::thread::spawn(move || {
        let units = Mutex::new(Vec::new());
        rounds.run(|unit| units.lock().unwrap().push(unit));
        units.into_inner().unwrap()
    });
    let mut now = Tick::ZERO;
    let mut others = Vec::new();
    // The other thread may have begun or not: then this one would be held up instead.
    while !surveyor.is_at(hands[0].unit) {
        std::thread::yield_now();
    }
    while others.len() < 2 {
        now = now.after_ns(SPACE_NS);
        others.extend(measured(&mut surveyor, &mut world, now));
    }
    assert_eq!(others, [hands[1].unit, hands[2].unit]);
    hands[0].holds_up.store(false, Ordering::Relaxed);
    assert_eq!(held_up.join().unwrap(), [hands[0].unit]);
}
