//! GET LBA STATUS: one thread for a unit, so many in all, and each command answered once.

use std::sync::Arc;

use super::world::{ALICE, Disk, World, target};
use crate::bdev::allocation::{Allocation, State, Teller};
use crate::bdev::{Bdev, Channel, Info};
use crate::control::registry::BdevSpec;
use crate::control::surveys::Survey;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::limits::SURVEYS_MAX;
use crate::reactor::message::{Ask, TaskTicket, ToControl, ToReactor};
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::view::LunNumber;
use crate::scsi::{Outcome, Status};
use crate::slab::Key;

/// A disk whose every second block is a hole.
#[derive(Debug)]
struct Holes(u8);

impl Bdev for Holes {
    fn info(&self) -> Info {
        Disk(self.0).info()
    }

    fn open(&self, _reactor: ReactorId) -> Box<dyn Channel> {
        unreachable!("control opens no channel")
    }

    fn allocation(&self, lba: u64, blocks: u32) -> Allocation {
        let mut teller = Teller::new(lba, blocks.min(4), 512);
        for at in lba..lba + 4 {
            let byte = (at + 1) * 512;
            if at % 2 == 1 {
                teller.hole_to(byte)
            } else {
                teller.data_to(byte)
            };
        }
        teller.finish()
    }
}

/// Disks from 1 on, whose units have their numbers.
fn world(count: u8, has_threads: bool) -> (World, SessionId) {
    let mut world = World::new(1);
    world.log_in(ALICE, 1);
    let session = world.adopt(0).session;
    if has_threads {
        world.control.ask_on_threads();
    }
    for number in 1..=count {
        let (product, recipe) = ("holes".to_owned(), String::new());
        let bdev = Arc::new(Holes(number));
        world.control.register_bdev(BdevSpec { bdev, product, recipe, bases: Vec::new() }).unwrap();
    }
    let luns = (1..=count).map(|number| (format!("disk{number}"), Some(LunNumber(u16::from(number)))));
    world.control.create_target(&target("iqn.2026-11.io.example:holes", luns.collect())).unwrap();
    while world.reactors[0].receive().is_some() {}
    (world, session)
}

fn ticket(index: u32) -> TaskTicket {
    TaskTicket { conn: Key { index: 3, generation: 4 }, task: Key { index, generation: 6 } }
}

/// Command `index` asks from block 3 on.
fn ask((world, session): &mut (World, SessionId), index: u32, unit: u32) {
    let cdb = Cdb::new([0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 24, 0, 0]);
    let (reactor, unit, session) = (ReactorId(0), UnitId(unit), *session);
    world.tell(ToControl::Ask(Box::new(Ask {
        reactor,
        ticket: ticket(index),
        session,
        unit,
        cdb,
        parameters: Box::default(),
    })));
}

/// What command `index` is told.
#[track_caller]
fn told(world: &World, index: u32) -> Vec<(u32, bool)> {
    match world.reactors[0].receive() {
        Some(ToReactor::Surveyed { asked, allocation }) if asked == ticket(index) => {
            allocation.runs().iter().map(|run| (run.blocks, run.state == State::Deallocated)).collect()
        }
        other => panic!("no answer but {other:?}"),
    }
}

#[track_caller]
fn ended(world: &World, index: u32) -> Outcome {
    match world.reactors[0].receive() {
        Some(ToReactor::Answered { asked, outcome, flushes: None }) if asked == ticket(index) => outcome,
        other => panic!("no answer but {other:?}"),
    }
}

fn due(world: &mut World) -> Vec<Survey> {
    std::iter::from_fn(|| world.control.survey_due()).collect()
}

#[test]
fn where_there_are_no_threads_a_device_is_asked_at_once() {
    let mut world = world(1, false);
    ask(&mut world, 1, 1);
    assert_eq!(told(&world.0, 1), [(1, true), (1, false), (1, true), (1, false)]);
    ask(&mut world, 2, 77);
    assert_eq!(ended(&world.0, 2), Outcome::check(Sense::NO_SUCH_UNIT));
    assert!(world.0.reactors[0].receive().is_none());
}

#[test]
fn a_unit_has_one_thread_and_there_are_so_many_in_all() {
    let count = u8::try_from(SURVEYS_MAX + 1).unwrap();
    let mut world = world(count, true);
    for number in 1..=u32::from(count) {
        ask(&mut world, number, number);
        ask(&mut world, 100 + number, number);
    }
    let mut surveys = due(&mut world.0);
    assert_eq!(surveys.len(), SURVEYS_MAX);
    assert!(world.0.reactors[0].receive().is_none());
    // The first is done: the next of its unit came before that of the last.
    world.0.control.surveyed(surveys.remove(0).run());
    assert_eq!(told(&world.0, 1).len(), 4);
    let next = due(&mut world.0);
    assert_eq!(next.len(), 1);
    world.0.control.surveyed(next[0].not_run());
    assert!(told(&world.0, 101).is_empty(), "nothing is known");
    surveys.extend(due(&mut world.0));
    assert_eq!(surveys.len(), SURVEYS_MAX);
    for survey in surveys {
        world.0.control.surveyed(survey.run());
    }
    let mut rest = due(&mut world.0);
    while !rest.is_empty() {
        rest.drain(..).for_each(|survey| world.0.control.surveyed(survey.run()));
        rest = due(&mut world.0);
    }
    let answers = std::iter::from_fn(|| world.0.reactors[0].receive());
    assert_eq!(answers.count(), 2 * usize::from(count) - 2);
}

#[test]
fn a_command_that_is_given_up_is_answered_once_and_at_once() {
    let mut world = world(1, true);
    ask(&mut world, 1, 1);
    let held = due(&mut world.0);
    ask(&mut world, 2, 1);
    for index in [2, 1] {
        let (reactor, unit) = (ReactorId(0), UnitId(1));
        world.0.tell(ToControl::Withdraw { reactor, ticket: ticket(index), unit });
        assert_eq!(ended(&world.0, index), Outcome::of(Status::TaskAborted));
    }
    ask(&mut world, 3, 1);
    assert!(due(&mut world.0).is_empty(), "the thread still has the device");
    held.into_iter().for_each(|survey| world.0.control.surveyed(survey.run()));
    assert!(world.0.reactors[0].receive().is_none());
    due(&mut world.0).into_iter().for_each(|survey| world.0.control.surveyed(survey.run()));
    assert_eq!(told(&world.0, 3).len(), 4);
}
