//! SANITIZE that a device does by itself: on a thread of its own, between what every reactor is shown.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::acknowledge;
use super::chores::{answered, shown};
use super::reserve::{Peer, answer, silent, ticket};
use super::saving::{Slow, keeping};
use super::world::{Disk, World, target};
use crate::bdev::{Bdev, Channel, Erasure, Info, Offloads};
use crate::control::done::Done;
use crate::control::erasures::Erase;
use crate::control::registry::BdevSpec;
use crate::control::store::Records;
use crate::id::{ReactorId, UnitId};
use crate::limits::{ERASURES_MAX, LOG_LINES_PER_KIND};
use crate::reactor::message::{Ask, ToControl};
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, Medium};
use crate::scsi::{Outcome, Status};

/// A disk that erases itself, and knows how often it did.
#[derive(Debug, Default)]
struct Flash {
    number: u8,
    erased: AtomicUsize,
    fails: AtomicBool,
    has_lost_it: AtomicBool,
}

impl Bdev for Flash {
    fn info(&self) -> Info {
        let can = !self.has_lost_it.load(Ordering::Relaxed);
        let offloads = Offloads { erase_blocks: can, ..Offloads::default() };
        Info { offloads, ..Disk(self.number).info() }
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        unreachable!("control opens no channel")
    }

    fn erase(&self, how: Erasure) -> Result<(), Box<dyn Error + Send + Sync>> {
        assert_eq!(how, Erasure::Blocks);
        self.erased.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) { Err("it has failed".into()) } else { Ok(()) }
    }
}

/// Flash disks from 1 on, whose units have their numbers, and threads to erase them on.
fn flashes(count: u8) -> (World, Slow, Peer, Vec<Arc<Flash>>) {
    let (mut world, slow, alice, _) = keeping(Records::new());
    world.control.ask_on_threads();
    let disks: Vec<_> = (1..=count).map(|number| Arc::new(Flash { number, ..Flash::default() })).collect();
    for disk in &disks {
        let (product, recipe) = ("flash".to_owned(), String::new());
        let bdev = Arc::clone(disk) as Arc<dyn Bdev>;
        world.control.register_bdev(BdevSpec { bdev, product, recipe, bases: Vec::new() }).unwrap();
    }
    let luns = (1..=count).map(|number| (format!("disk{number}"), Some(LunNumber(number.into()))));
    world.control.create_target(&target("iqn.2026-11.io.example:flash", luns.collect())).unwrap();
    while let Some((revision, _)) = slow.ordered() {
        let now = world.now();
        world.control.saved(revision, true, now);
        world.turn();
    }
    // More than a mailbox holds.
    for _ in 0..3 {
        world.turn();
        while world.reactors.iter().any(|reactor| reactor.receive().is_some()) {}
    }
    (world, slow, alice, disks)
}

/// SANITIZE, BLOCK ERASE.
fn sanitize(world: &mut World, peer: Peer, unit: u8, options: u8) {
    let cdb = Cdb::new([0x48, options | 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor: ReactorId(peer.reactor),
        ticket: ticket(u32::from(unit)),
        session: peer.session,
        unit: UnitId(unit.into()),
        cdb,
        parameters: Box::default(),
    })));
}

fn key(unit: u8) -> String {
    let byte = format!("{:02x}", unit + 1);
    let part = |bytes| byte.repeat(bytes);
    format!("sanitize/{}-{}-{}-{}-{}", part(4), part(2), part(2), part(2), part(6))
}

/// One that is due, every reactor having shown that the unit is busy.
fn begun(options: u8) -> (World, Slow, Peer, Arc<Flash>, Erase) {
    let (mut world, slow, alice, mut disks) = flashes(1);
    sanitize(&mut world, alice, 1, options);
    assert!(world.control.erase_due().is_none(), "not before it is written down");
    assert!(slow.write(&mut world).contains_key(&key(1)));
    assert!(world.control.erase_due().is_none(), "not before everybody knows");
    assert_eq!(shown(&mut world, true).0.medium, Medium::Busy);
    let due = world.control.erase_due().expect("it is due");
    assert!(world.control.erase_due().is_none());
    (world, slow, alice, disks.remove(0), due)
}

#[test]
fn a_device_is_asked_when_all_know_and_who_asked_is_told_when_all_know() {
    let (mut world, slow, alice, disk, due) = begun(0x00);
    silent(&world);
    sanitize(&mut world, alice, 1, 0x80);
    let sense = Sense { progress: Some(0), ..Sense::SANITIZE_IN_PROGRESS };
    assert_eq!(answer(&world, alice), (1, Outcome::check(sense)), "one at a time");
    let erased = due.run();
    assert_eq!(disk.erased.load(Ordering::Relaxed), 1);
    silent(&world);
    world.control.erased(erased);
    silent(&world);
    assert!(!slow.write(&mut world).contains_key(&key(1)), "before anybody is told");
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
}

#[test]
fn one_that_fails_has_failed_and_may_be_tried_again() {
    let (mut world, slow, alice, disk, due) = begun(0x00);
    disk.fails.store(true, Ordering::Relaxed);
    world.control.erased(due.run());
    world.turn();
    assert_eq!(shown(&mut world, false).0.medium, Medium::Failed);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::SANITIZE_FAILED)));
    assert!(world.control.store.get(&key(1)).is_some(), "the next life knows");
    // No thread: IMMED was answered when it began.
    sanitize(&mut world, alice, 1, 0xa0);
    slow.write(&mut world);
    shown(&mut world, false);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
    let due = world.control.erase_due().unwrap();
    world.control.erased(due.not_run("no thread".to_owned()));
    world.turn();
    assert_eq!(shown(&mut world, false).0.medium, Medium::Failed);
    disk.fails.store(false, Ordering::Relaxed);
    sanitize(&mut world, alice, 1, 0x00);
    slow.write(&mut world);
    shown(&mut world, false);
    let due = world.control.erase_due().unwrap();
    world.control.erased(due.run());
    assert!(!slow.write(&mut world).contains_key(&key(1)));
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
}

/// Initiators may ask again and again.
#[test]
fn what_is_said_of_failures_is_paced() {
    let (mut world, slow, alice, disks) = flashes(1);
    disks[0].fails.store(true, Ordering::Relaxed);
    for round in 0..=LOG_LINES_PER_KIND {
        assert_eq!(world.control.log.deadline(), None, "line {round}");
        sanitize(&mut world, alice, 1, 0x00);
        while let Some((revision, _)) = slow.ordered() {
            let now = world.now();
            world.control.saved(revision, true, now);
        }
        world.turn();
        for reactor in [0, 1] {
            acknowledge(&mut world, reactor, true);
        }
        let due = world.control.erase_due().unwrap();
        world.control.erased(due.run());
        world.turn();
        shown(&mut world, false);
        assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::SANITIZE_FAILED)));
    }
    assert!(world.control.log.deadline().is_some(), "what was left out is summed up");
}

#[test]
fn who_waits_may_be_aborted_and_it_goes_on() {
    let (mut world, slow, alice, _, due) = begun(0x00);
    world.tell(ToControl::Withdraw { reactor: ReactorId(0), ticket: ticket(1), unit: UnitId(1) });
    assert_eq!(answer(&world, alice).1, Outcome::of(Status::TaskAborted));
    world.control.erased(due.run());
    slow.write(&mut world);
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    silent(&world);
}

#[test]
fn what_comes_of_a_unit_that_has_gone_is_nobodys() {
    let (mut world, _, alice, _, due) = begun(0x00);
    world.control.unregister_bdev("disk1", Done::nobody()).unwrap();
    assert_eq!(answered(&world, alice), Outcome::check(Sense::NO_SUCH_UNIT));
    while world.reactors.iter().any(|reactor| reactor.receive().is_some()) {}
    world.control.erased(due.run());
    world.turn();
    silent(&world);
    assert!(world.control.store.get(&key(1)).is_some(), "what had begun is known in the next life");
}

#[test]
fn one_that_the_device_does_not_know_any_more_does_not_begin() {
    let (mut world, _, alice, disks) = flashes(1);
    disks[0].has_lost_it.store(true, Ordering::Relaxed);
    world.control.reread_bdev("disk1", Done::nobody()).unwrap();
    world.turn();
    while world.reactors.iter().any(|reactor| reactor.receive().is_some()) {}
    sanitize(&mut world, alice, 1, 0x80);
    assert_eq!(answer(&world, alice), (1, Outcome::check(Sense::invalid_bit(1, 4))));
    assert!(world.control.erase_due().is_none());
}

#[test]
fn there_are_so_many_at_once_and_those_that_have_gone_are_passed_over() {
    let count = u8::try_from(ERASURES_MAX + 2).unwrap();
    let (mut world, slow, alice, disks) = flashes(count);
    for unit in 1..=count {
        sanitize(&mut world, alice, unit, 0x80);
        slow.write(&mut world);
        shown(&mut world, true);
        assert_eq!(answer(&world, alice), (unit.into(), Outcome::GOOD));
    }
    let mut due: Vec<_> = std::iter::from_fn(|| world.control.erase_due()).collect();
    assert_eq!(due.len(), ERASURES_MAX);
    let next = format!("disk{}", ERASURES_MAX + 1);
    world.control.unregister_bdev(&next, Done::nobody()).unwrap();
    world.control.erased(due.remove(0).run());
    world.control.erased(due.remove(0).run());
    let last = world.control.erase_due().unwrap();
    assert!(world.control.erase_due().is_none());
    last.run();
    let erased: Vec<_> = disks.iter().map(|disk| disk.erased.load(Ordering::Relaxed)).collect();
    assert_eq!((erased[ERASURES_MAX], erased[ERASURES_MAX + 1]), (0, 1));
}

#[test]
fn where_there_are_no_threads_a_device_is_asked_at_once() {
    let (mut world, slow, alice, disks) = flashes(1);
    world.control.has_threads = false;
    sanitize(&mut world, alice, 1, 0x00);
    slow.write(&mut world);
    shown(&mut world, true);
    assert_eq!(disks[0].erased.load(Ordering::Relaxed), 1);
    slow.write(&mut world);
    assert_eq!(shown(&mut world, false).0.medium, Medium::Ready);
    assert_eq!(answer(&world, alice), (1, Outcome::GOOD));
}
