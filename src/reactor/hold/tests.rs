//! Reactors that talk to each other, with plain WRITEs in the place of commands that hold: one whose data are still to
//! come asks for a hold, and its data end it.

mod world;

use super::Phase;
use crate::bdev::Op;
use crate::id::{BarrierId, UnitId};
use crate::iscsi::task::Passage;
use crate::limits;
use crate::reactor::message::{Change, HoldRange, ToControl, ToReactor};
use crate::reactor::tables::InFlight;
use crate::scsi::attention::Ua;
use crate::slab::Key;
use crate::time::SECOND_NS;

use world::World;

#[test]
fn one_reactor_alone_needs_one_turn_and_no_message() {
    let mut world = World::new(1, 64);
    let session = world.session(0);
    let owner = world.ask(session, 2, 8, 4);
    world.reactors[0].turn(world.now);
    assert_eq!(world.phase(session, owner), Some(Phase::Granted));
    world.finish(session, owner, 2);
    assert_eq!(world.left(), 0);
}

/// With queues of one message too: what cannot be said is said later.
#[test]
fn holds_that_overlap_are_granted_in_the_order_of_asking() {
    for (mailbox, unit) in [(64, 0), (64, 1), (64, 2), (1, 0), (1, 1), (1, 2)] {
        let mut world = World::new(3, mailbox);
        let [a, b, c] = [0, 1, 2].map(|reactor| world.session(reactor));
        let phases = |world: &World, owners: &[(usize, u8)]| -> Vec<Option<Phase>> {
            owners.iter().map(|&(session, itt)| world.phase(session, itt)).collect()
        };
        let mut owners = Vec::new();
        for (session, lba, blocks) in [(a, 0, 8), (b, 4, 8), (c, 20, 4), (c, 11, 1), (a, 12, 8)] {
            owners.push((session, world.ask(session, unit, lba, blocks)));
            world.settle();
        }
        let (asked, granted) = (Some(Phase::Asked), Some(Phase::Granted));
        // The fourth meets only the second, which itself waits; the last touches others without overlap.
        assert_eq!(phases(&world, &owners), [granted, asked, granted, asked, granted]);
        world.finish(owners[0].0, owners[0].1, usize::from(unit));
        assert_eq!(phases(&world, &owners), [None, granted, granted, asked, granted]);
        world.finish(owners[1].0, owners[1].1, usize::from(unit));
        assert_eq!(phases(&world, &owners), [None, None, granted, granted, granted]);
        for &(session, itt) in &owners[2..] {
            world.finish(session, itt, usize::from(unit));
        }
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn what_a_full_queue_does_not_take_is_said_later() {
    let mut world = World::new(3, 1);
    let sessions = [0, 1, 2].map(|reactor| world.session(reactor));
    let mut owners = Vec::new();
    for (session, lba) in sessions.into_iter().zip([0, 100, 200]) {
        for lba in lba..lba + 4 {
            owners.push((session, world.begin(session, 0, lba), lba));
        }
    }
    // Twelve at once: the home has two messages for each reactor and hold, and there is room for one.
    for &(session, itt, lba) in &owners {
        world.ask_for(session, itt, 0, lba, 1);
    }
    world.settle();
    for &(session, itt, _) in &owners {
        assert_eq!(world.phase(session, itt), Some(Phase::Granted));
    }
    for session in sessions {
        world.close(session);
        world.settle();
    }
    assert_eq!(world.left(), 0);
}

#[test]
fn a_hold_waits_for_what_devices_have_in_its_range_and_for_nothing_else() {
    let mut world = World::new(2, 64);
    let (near, far) = (world.session(0), world.session(1));
    for unit in [0, 1] {
        let before = world.write(near, unit, 7);
        let inside = world.read(near, unit, 8);
        let last = world.write(far, unit, 11);
        world.write(far, unit, 12);
        let owner = world.ask(far, unit, 8, 4);
        world.settle();
        assert_eq!((world.phase(far, owner), world.in_device(usize::from(unit))), (Some(Phase::Asked), 4));
        let disk = world.disks[usize::from(unit)].clone();
        // The block before, the first inside, the last inside, the one behind: this one takes the place of the second.
        disk.end_one(1);
        world.settle();
        assert_eq!(world.end_of(near, inside), Some((0, 0)));
        assert_eq!(world.phase(far, owner), Some(Phase::Asked));
        disk.end_one(2);
        world.settle();
        assert_eq!(world.end_of(far, last), Some((0, 0)));
        assert_eq!(world.phase(far, owner), Some(Phase::Granted));
        assert_eq!((world.end_of(near, before), world.in_device(usize::from(unit))), (None, 2));
        world.end_io(usize::from(unit));
        world.end_io(usize::from(unit));
        world.finish(far, owner, usize::from(unit));
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn what_meets_a_hold_waits_for_its_end_in_order_and_the_rest_passes() {
    let mut world = World::new(2, 64);
    let (owner, near, far) = (world.session(0), world.session(0), world.session(1));
    for unit in [0, 1] {
        let hold = world.ask(owner, unit, 8, 2);
        world.settle();
        let device = usize::from(unit);
        let waiting: Vec<_> = [near, far]
            .map(|session| {
                let commands = [
                    world.write(session, unit, 8),
                    world.read(session, unit, 9),
                    world.write(session, unit, 9),
                ];
                commands.map(|itt| (session, itt))
            })
            .concat();
        assert_eq!(world.in_device(device), 0);
        // Neighbours, another unit, and a flush are not in the way.
        for (session, passing_unit, lba) in [(near, unit, 7), (far, unit, 10), (far, 2, 8)] {
            let passing = world.write(session, passing_unit, lba);
            world.end_io(usize::from(passing_unit));
            assert_eq!(world.end_of(session, passing), Some((0, 0)));
        }
        let flush = world.command(far, unit, 0x80, 0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        world.settle();
        world.end_io(device);
        assert_eq!(world.end_of(far, flush), Some((0, 0)));

        world.send_data(owner, hold);
        assert_eq!(world.in_device(device), 1, "its own IO passes");
        world.disks[device].set_queue_max(1);
        world.end_io(device);
        assert_eq!((world.end_of(owner, hold), world.holds()), (Some((0, 0)), 0));
        // They go in the order in which they came, as far as one reactor knows it.
        let mut ended: Vec<(usize, u8)> = Vec::new();
        while world.in_device(device) > 0 {
            world.end_io(device);
            let is_new = |command: &&(usize, u8)| {
                world.end_of(command.0, command.1).is_some() && !ended.contains(command)
            };
            let new: Vec<_> = waiting.iter().filter(is_new).copied().collect();
            assert_eq!(new.len(), 1);
            ended.extend(new);
        }
        for session in [near, far] {
            let order: Vec<_> = ended.iter().filter(|end| end.0 == session).copied().collect();
            let expected: Vec<_> = waiting.iter().filter(|command| command.0 == session).copied().collect();
            assert_eq!(order, expected);
        }
        world.disks[device].set_queue_max(64);
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn a_hold_passes_what_waits_for_room_as_that_may_wait_for_the_hold() {
    let mut world = World::new(1, 64);
    let (owner, other) = (world.session(0), world.session(0));
    world.disks[0].set_queue_max(1);
    let first = world.write(other, 0, 100);
    let in_the_way = world.write(other, 0, 8);
    let behind = world.write(other, 0, 101);
    let hold = world.ask(owner, 0, 8, 1);
    world.settle();
    // What only waits for room is in no device.
    assert_eq!(world.phase(owner, hold), Some(Phase::Granted));
    world.send_data(owner, hold);
    assert_eq!(world.end_of(owner, hold), None);
    world.end_io(0);
    assert_eq!((world.end_of(other, first), world.in_device(0)), (Some((0, 0)), 1));
    world.end_io(0);
    assert_eq!(world.end_of(owner, hold), Some((0, 0)), "it was the first to find room");
    world.end_io(0);
    world.end_io(0);
    assert_eq!([in_the_way, behind].map(|itt| world.end_of(other, itt)), [Some((0, 0)); 2]);
    assert_eq!(world.left(), 0);
}

#[test]
fn a_hold_ends_with_its_session_wherever_it_stands() {
    for unit in [0, 1] {
        let device = usize::from(unit);
        for state in ["new", "asked", "behind another", "granted", "in the device"] {
            let mut world = World::new(2, 64);
            let (dying, living) = (world.session(0), world.session(1));
            let busy = (state == "asked").then(|| world.write(living, unit, 8));
            let first = (state == "behind another").then(|| world.ask(living, unit, 8, 1));
            world.settle();
            let hold = world.ask(dying, unit, 8, 2);
            if state != "new" {
                world.settle();
            }
            if state == "in the device" {
                world.send_data(dying, hold);
                world.disks[device].set_manners(false, false);
            }
            world.close(dying);
            let next = world.ask(living, unit, 9, 1);
            world.settle();
            let has_to_wait = state == "in the device";
            let phase = if has_to_wait { Phase::Asked } else { Phase::Granted };
            assert_eq!(world.phase(living, next), Some(phase), "{state}");
            if has_to_wait || busy.is_some() {
                world.end_io(device);
            }
            world.finish(living, next, device);
            if let Some(first) = first {
                assert_eq!(world.phase(living, first), Some(Phase::Granted));
                world.finish(living, first, device);
            }
            assert_eq!(world.left(), 0, "{state}");
        }
    }
}

#[test]
fn commands_that_wait_for_a_hold_can_be_given_up() {
    let mut world = World::new(2, 64);
    let (owner, reset, closed) = (world.session(0), world.session(1), world.session(1));
    let hold = world.ask(owner, 0, 8, 1);
    world.settle();
    let told = world.write(reset, 0, 8);
    let silent = world.write(closed, 0, 8);
    world.close(closed);
    let change = Change::Reset { units: [UnitId(0)].into(), attention: Ua::UnitReset };
    world.tell(1, ToReactor::Barrier { id: BarrierId(1), change });
    world.settle();
    assert_eq!(world.end_of(reset, told), Some((0x40, 0)), "TASK ABORTED");
    assert_eq!(world.end_of(closed, silent), None);
    let is_acknowledged = |message| matches!(message, ToControl::BarrierDone { is_clean: true, .. });
    assert!(std::iter::from_fn(|| world.from.receive()).any(is_acknowledged));
    world.finish(owner, hold, 0);
    assert_eq!(world.left(), 0);
}

#[test]
fn a_device_that_keeps_an_io_costs_the_hold_unless_it_can_be_fenced() {
    for (can_fence, unit) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
        let mut world = World::new(2, 64);
        let (owner, other) = (world.session(0), world.session(1));
        world.disks[usize::from(unit)].set_manners(can_fence, false);
        world.write(other, unit, 8);
        let hold = world.ask(owner, unit, 8, 1);
        world.settle();
        let held = world.write(other, unit, 8);
        world.pass(limits::DRAIN_NS - 1);
        assert_eq!(world.phase(owner, hold), Some(Phase::Asked));
        world.pass(1);
        if can_fence {
            assert_eq!(world.phase(owner, hold), Some(Phase::Granted));
            world.finish(owner, hold, usize::from(unit));
        } else {
            assert_eq!(world.end_of(owner, hold), None, "its own data are still owed");
            world.send_data(owner, hold);
            assert_eq!(world.end_of(owner, hold), Some((8, 0)), "BUSY");
            world.end_io(usize::from(unit));
        }
        assert_eq!((world.holds(), world.in_device(usize::from(unit))), (0, 1));
        world.end_io(usize::from(unit));
        assert_eq!(world.end_of(other, held), Some((0, 0)));
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn a_command_that_does_not_give_its_hold_up_in_time_is_ended() {
    let mut world = World::new(2, 64);
    let (slow, next) = (world.session(0), world.session(1));
    let first = world.ask(slow, 1, 8, 1);
    world.settle();
    world.pass(SECOND_NS);
    let second = world.ask(next, 1, 8, 1);
    world.settle();
    world.pass(limits::HOLD_NS - SECOND_NS - 1);
    assert_eq!(
        [world.phase(slow, first), world.phase(next, second)],
        [Some(Phase::Granted), Some(Phase::Asked)]
    );
    world.pass(1);
    assert_eq!(world.phase(next, second), Some(Phase::Granted));
    world.send_data(slow, first);
    assert_eq!(world.end_of(slow, first), Some((2, 0xb)), "ABORTED COMMAND");
    world.finish(next, second, 1);
    assert_eq!(world.left(), 0);
}

#[test]
fn one_hold_too_many_is_refused() {
    let mut world = World::new(1, 64);
    let session = world.session(0);
    let many = world.ask(session, 0, 8, 1);
    for _ in 1..limits::HOLDS_MAX {
        world.ask_for(session, many, 0, 8, 1);
    }
    let one_more = world.ask(session, 0, 100, 1);
    world.send_data(session, one_more);
    assert_eq!(world.end_of(session, one_more), Some((8, 0)), "BUSY");
    assert_eq!(world.in_device(0), 0);
    world.close(session);
    world.settle();
    assert_eq!(world.left(), 0);
}

#[test]
fn nobody_waits_for_a_reactor_that_has_stopped() {
    let mut world = World::new(2, 64);
    let (at_home, away) = (world.session(0), world.session(1));
    let hold = world.ask(at_home, 0, 8, 1);
    world.settle();
    // The one that stops has nothing but a session to end, which it does at once.
    world.tell(1, ToReactor::Stop);
    world.settle();
    assert_eq!((world.reactors[0].is_stopped(), world.reactors[1].is_stopped()), (false, true));
    assert!(world.sessions[away].wire.is_closed_by_target());
    world.finish(at_home, hold, 0);
    let alone = world.ask(at_home, 0, 8, 1);
    world.settle();
    assert_eq!(world.phase(at_home, alone), Some(Phase::Granted));
    world.finish(at_home, alone, 0);
    // Its own units have lost their home.
    let homeless = world.ask(at_home, 1, 8, 1);
    world.settle();
    world.send_data(at_home, homeless);
    assert_eq!(world.end_of(at_home, homeless), Some((8, 0)), "BUSY");
    assert_eq!(world.left(), 0);
}

#[test]
fn what_is_on_its_way_to_a_reactor_that_stops_is_not_waited_for() {
    let mut world = World::new(2, 64);
    let session = world.session(0);
    let [granted, refused] = [0, 1].map(|unit| world.begin(session, unit, 8));
    world.tell(1, ToReactor::Stop);
    for _ in 0..3 {
        world.reactors[1].turn(world.now);
    }
    assert!(world.reactors[1].is_stopped());
    // Both are said before the news has been read.
    world.ask_for(session, granted, 0, 8, 1);
    world.ask_for(session, refused, 1, 8, 1);
    world.reactors[0].settle_holds(world.now);
    assert_eq!([granted, refused].map(|itt| world.phase(session, itt)), [Some(Phase::Asked); 2]);
    world.settle();
    assert_eq!(world.phase(session, granted), Some(Phase::Granted));
    world.finish(session, granted, 0);
    world.send_data(session, refused);
    assert_eq!(world.end_of(session, refused), Some((8, 0)), "BUSY");
    assert_eq!(world.left(), 0);
}

#[test]
fn a_home_stays_as_long_as_it_is_needed() {
    let mut world = World::new(2, 64);
    let owner = world.session(1);
    let hold = world.ask(owner, 0, 8, 1);
    world.settle();
    world.tell(0, ToReactor::Drain { seconds: 10 });
    world.settle();
    world.pass(9 * SECOND_NS);
    assert!(!world.reactors[0].is_stopped());
    world.finish(owner, hold, 0);
    assert!(world.reactors[0].is_stopped());
    assert_eq!(world.left(), 0);
}

#[test]
fn a_copy_meets_a_hold_of_what_it_reads_too() {
    let copy = InFlight::of_nobody(UnitId(2), Op::Copy { from: 100, lba: 20, blocks: 10, fua: false }, 1);
    let meets = |unit, lba, blocks| HoldRange { unit: UnitId(unit), lba, blocks }.meets(&copy);
    for (lba, blocks, expected) in [
        (19, 1, false),
        (19, 2, true),
        (29, 1, true),
        (30, 70, false),
        (30, 71, true),
        (109, 1, true),
        (110, 9, false),
    ] {
        assert_eq!(meets(2, lba, blocks), expected, "{blocks} blocks from {lba}");
    }
    assert!(!meets(1, 100, 1));
}

/// Whoever aborts commands that wait for a fence, and acknowledges nothing, would have any number of waits made otherwise, each of them
/// up to its deadline once its turn has come.
#[test]
fn a_command_that_is_aborted_before_its_fence_is_raised_waits_for_none() {
    let mut world = World::new(1, 64);
    let session = world.session(0);
    let conn = world.sessions[session].conn;
    let key = world.reactors[0].conns.get(conn).unwrap().conn.session_key();
    assert!(world.reactors[0].tables.sessions[key].enter(Key { index: u32::MAX, generation: 0 }));
    for _ in 0..5 {
        world.reactors[0].tables.sessions[key].attend(UnitId(0), Ua::UnitReset);
        let itt = world.command(session, 0, 0x80, 0, &[0; 6], &[]);
        let task = (0..4).find_map(|_| {
            world.reactors[0].turn(world.now);
            world.task(session, itt)
        });
        let task = task.unwrap();
        world.reactors[0].turn(world.now);
        assert_eq!(world.reactors[0].tables.tasks.get(task).unwrap().passage, Passage::Waits);
        world.reactors[0].give_up(task, false, world.now);
        assert!(world.task(session, itt).is_none());
        world.reactors[0].turn(world.now);
        assert_eq!(world.reactors[0].census().waits, 1, "for what the first has raised");
    }
}
