//! Commands that wait for their turn under a ceiling: what they hold, and what may end their waiting.

use lunette::limits::{PACED_BYTES_MAX, PACED_NS};
use lunette::qos::Limits;
use lunette::reactor::{Bug, Sizes};
use lunette::time::{MS_NS, SECOND_NS};
use lunette_initiator::lun as lun_field;
use lunette_initiator::scsi::status;
use lunette_initiator::session::{Function, Tmf};

use super::cell::{Cell, codes};
use super::qos::{READ, ios};
use super::round::Still;
use super::what::What;
use super::world::{DiskOptions, Options, World};

/// Two sessions that have asked for nothing, at a unit which serves 10 commands a second.
fn slow(bug: Option<Bug>, immediate_data: bool) -> Cell {
    let options =
        Options::quiet(2, vec![DiskOptions { blocks: 512, block_bytes: 4096 }; 2], [64, 32, 80, 16], bug);
    let mut cell = Cell::idle(options, immediate_data);
    limit(&mut cell, Limits { burst_ns: 1, ..ios(10) });
    cell
}

fn limit(cell: &mut Cell, limits: Limits) {
    cell.world.control.set_bdev_limits("disk0", limits).unwrap();
    cell.settle();
}

/// So many READs of a session, of which one goes through at once.
fn wait(cell: &mut Cell, session: usize, count: usize) -> Vec<u64> {
    let ops: Vec<u64> = (0..count).map(|_| cell.issue(session, READ)).collect();
    cell.settle();
    cell.end_ios();
    assert_eq!(codes(&cell.ended(session, ops[0]).unwrap().unwrap()), (status::GOOD, None));
    assert_eq!(cell.world.census().paced, count - 1);
    ops[1..].to_vec()
}

/// Whether a command has been handed to the device, and ends well.
fn goes_through(cell: &mut Cell, session: usize, op: u64) -> bool {
    cell.end_ios();
    cell.ended(session, op).is_some_and(|end| end.is_some_and(|end| end.is_good()))
}

const ALMOST: u64 = 95 * MS_NS;

#[test]
fn each_waits_for_its_turn_without_a_buffer() {
    let mut cell = slow(None, false);
    let ops = wait(&mut cell, 0, 3);
    let write = cell.issue(0, What::Write { lba: 0, blocks: 64, fua: false });
    cell.settle();
    assert_eq!((cell.world.buffers_out(), cell.world.census().paced), (0, 3));
    cell.pass(ALMOST);
    assert!(!goes_through(&mut cell, 0, ops[0]));
    cell.pass(5 * MS_NS);
    assert!(goes_through(&mut cell, 0, ops[0]) && !goes_through(&mut cell, 0, ops[1]));
    cell.pass(100 * MS_NS);
    assert!(goes_through(&mut cell, 0, ops[1]) && !goes_through(&mut cell, 0, write));
    cell.pass(100 * MS_NS);
    assert!(goes_through(&mut cell, 0, write));
    cell.finish();
}

#[test]
fn what_is_no_read_and_no_write_does_not_wait() {
    let mut cell = slow(None, false);
    let ops = wait(&mut cell, 0, 2);
    for what in [What::Sync, What::Inquiry, What::ReadCapacity, What::TestUnitReady] {
        let op = cell.issue(0, what);
        cell.settle();
        assert!(goes_through(&mut cell, 0, op), "{what:?}");
    }
    cell.pass(100 * MS_NS);
    assert!(goes_through(&mut cell, 0, ops[0]));
    cell.finish();
}

/// The first of two that wait is aborted. Whether a third has its turn then.
fn time_is_given_back(bug: Option<Bug>) -> bool {
    let mut cell = slow(bug, false);
    let ops = wait(&mut cell, 0, 2);
    let itt = cell.world.sessions[0].ops[&ops[0]].itt;
    cell.world.step += 1;
    let tmf = cell.world.manage(0, 0, Tmf::abort(lun_field::from_number(0), itt)).unwrap();
    cell.settle();
    assert_eq!((cell.tmf_answer(0, tmf), cell.ended(0, ops[0])), (Some(0), Some(None)));
    assert_eq!(cell.world.census().paced, 0);
    let third = cell.issue(0, READ);
    cell.pass(100 * MS_NS);
    let is_so = goes_through(&mut cell, 0, third);
    cell.pass(100 * MS_NS);
    assert!(goes_through(&mut cell, 0, third));
    cell.finish();
    is_so
}

#[test]
fn an_abort_gives_its_time_to_the_next() {
    assert!(time_is_given_back(None));
}

#[test]
fn time_that_is_not_given_back_is_found() {
    assert!(!time_is_given_back(Some(Bug::BookingKept)));
}

#[test]
fn a_reset_ends_those_that_wait() {
    let mut cell = slow(None, true);
    let mut ops = wait(&mut cell, 0, 2);
    ops.push(cell.issue(0, What::Write { lba: 0, blocks: 1, fua: false }));
    cell.settle();
    let itt = cell.manage(1, Function::LogicalUnitReset);
    assert_eq!(cell.tmf_answer(1, itt), Some(0));
    for op in ops {
        assert_eq!(codes(&cell.ended(0, op).unwrap().unwrap()), (status::TASK_ABORTED, None));
    }
    cell.finish();
}

#[test]
fn a_session_that_ends_takes_its_commands_along() {
    let mut cell = slow(None, true);
    wait(&mut cell, 0, 4);
    let other = cell.issue(1, READ);
    cell.settle();
    cell.world.sessions[0].wire.reset();
    cell.world.lose(0);
    cell.settle();
    assert_eq!(cell.world.census().paced, 1);
    // It has its place still: what was booked before cannot be had any more.
    cell.pass(400 * MS_NS);
    assert!(goes_through(&mut cell, 1, other));
    cell.finish();
}

#[test]
fn a_unit_that_goes_ends_those_that_wait_at_once() {
    let mut cell = slow(None, false);
    let ops = wait(&mut cell, 0, 3);
    cell.world.pull(0);
    cell.settle();
    for op in ops {
        let ended = codes(&cell.ended(0, op).unwrap().unwrap());
        assert_eq!(ended, (status::CHECK_CONDITION, Some((5, 0x25, 0x00))));
    }
    cell.finish();
}

#[test]
fn another_ceiling_holds_at_once_for_those_that_wait() {
    let mut cell = slow(None, false);
    let ops = wait(&mut cell, 0, 4);
    limit(&mut cell, Limits { burst_ns: 1, ..ios(1000) });
    assert!(goes_through(&mut cell, 0, ops[0]) && !goes_through(&mut cell, 0, ops[2]));
    limit(&mut cell, Limits::NONE);
    assert_eq!(cell.world.census().paced, 0);
    assert!(goes_through(&mut cell, 0, ops[1]) && goes_through(&mut cell, 0, ops[2]));
    cell.finish();
}

#[test]
fn who_would_wait_for_too_long_is_told() {
    let mut cell = slow(None, false);
    limit(&mut cell, Limits { write_bytes: 4096, burst_ns: 1, ..Limits::NONE });
    let write = |blocks| What::Write { lba: 0, blocks, fua: false };
    let ops: Vec<u64> = [11, 1].map(|blocks| cell.issue(0, write(blocks))).into();
    cell.settle();
    assert!(goes_through(&mut cell, 0, ops[0]));
    assert_eq!(codes(&cell.ended(0, ops[1]).unwrap().unwrap()), (status::TASK_SET_FULL, None));
    // That has booked nothing.
    cell.pass(11 * SECOND_NS - PACED_NS);
    let ops: Vec<u64> = [1, 1].map(|blocks| cell.issue(0, write(blocks))).into();
    cell.settle();
    cell.pass(PACED_NS);
    assert!(goes_through(&mut cell, 0, ops[0]));
    assert_eq!(codes(&cell.ended(0, ops[1]).unwrap().unwrap()), (status::TASK_SET_FULL, None));
    cell.finish();
}

#[test]
fn data_that_come_along_are_bounded() {
    let mut cell = slow(None, true);
    wait(&mut cell, 0, 2);
    // 64 KiB each. The window grows, as there is another unit.
    limit(&mut cell, Limits { burst_ns: 1, ..ios(100) });
    let held = |cell: &Cell| cell.world.buffers_out() * 16 * 4096;
    for _ in 0..64 {
        cell.issue(0, What::Write { lba: 0, blocks: 16, fua: false });
    }
    cell.settle();
    assert!((1..=PACED_BYTES_MAX).contains(&held(&cell)), "{}", held(&cell));
    while !cell.world.sessions[0].ops.is_empty() {
        cell.pass(10 * MS_NS);
        cell.end_ios();
        assert!(held(&cell) <= PACED_BYTES_MAX, "{}", held(&cell));
    }
    cell.finish();
}

/// Sessions with many READs each that wait, on one reactor, and two without.
const CROWD: usize = 66;
const EACH: usize = 64;

fn crowded() -> Cell {
    let options =
        Options::quiet(1, vec![DiskOptions { blocks: 512, block_bytes: 4096 }; 2], [512, 8, 8, 8], None);
    let sizes = Sizes { conns: 96, spare_window: 8192, staging_bytes: 20_000 };
    let mut cell = Cell::of(World::with_room(1, options, sizes), false);
    for client in 2..CROWD + 2 {
        cell.open(client, false);
        cell.unit_ready(client);
    }
    let ask = |cell: &mut Cell| {
        for session in 2..CROWD + 2 {
            for _ in 0..EACH {
                cell.issue(session, READ);
            }
        }
    };
    // So that windows are wide.
    ask(&mut cell);
    while cell.world.round(true, |_| Still::default()).unwrap() {}
    limit(&mut cell, Limits { burst_ns: 1, ..ios(500) });
    ask(&mut cell);
    cell.settle();
    cell.end_ios();
    assert!(cell.world.census().paced >= 4096, "{:?}", cell.world.census());
    cell
}

/// How many wait no longer once this was done, and how many of those that waited were looked at. Nothing was allocated for that.
fn costs(cell: &mut Cell, what: impl FnOnce(&mut Cell)) -> (usize, usize) {
    let (before, (steps, room)) = (cell.world.census().paced, cell.world.cores[0].reactor.paced_cost());
    what(cell);
    let (after, (steps_after, room_after)) =
        (cell.world.census().paced, cell.world.cores[0].reactor.paced_cost());
    assert_eq!(room_after, room);
    (before - after, steps_after - steps)
}

#[test]
fn a_reset_looks_once_at_each_of_thousands_that_wait() {
    let mut cell = crowded();
    let last = *cell.world.sessions[2].ops.keys().last().unwrap();
    let (ended, steps) = costs(&mut cell, |cell| {
        let itt = cell.manage(0, Function::LogicalUnitReset);
        assert_eq!(cell.tmf_answer(0, itt), Some(0));
    });
    assert!(ended >= 4096 && cell.world.census().paced == 0, "{:?}", cell.world.census());
    assert_eq!(steps, ended);
    assert_eq!(codes(&cell.ended(2, last).unwrap().unwrap()), (status::TASK_ABORTED, None));
    cell.finish();
}

#[test]
fn who_gives_up_its_own_of_thousands_looks_at_no_others() {
    let mut cell = crowded();
    let (ended, steps) = costs(&mut cell, |cell| {
        let itt = cell.manage(2, Function::AbortTaskSet);
        assert_eq!(cell.tmf_answer(2, itt), Some(0));
    });
    // One or two have had their turns.
    assert!((EACH - 4..=EACH).contains(&ended) && steps == ended, "{ended} in {steps}");
    let (ended, steps) = costs(&mut cell, |cell| {
        cell.world.sessions[3].wire.reset();
        cell.world.lose(3);
        cell.settle();
    });
    assert!((EACH - 4..=EACH).contains(&ended) && steps == ended, "{ended} in {steps}");
    // All book anew: each is looked at, and taken out.
    let waiting = cell.world.census().paced;
    let (_, steps) = costs(&mut cell, |cell| limit(cell, Limits { burst_ns: 1, ..ios(600) }));
    assert!((2 * waiting..=2 * waiting + 2 * EACH).contains(&steps), "{waiting} in {steps}");
    let (ended, steps) = costs(&mut cell, |cell| {
        let itt = cell.manage(0, Function::LogicalUnitReset);
        assert_eq!(cell.tmf_answer(0, itt), None, "devices have some");
    });
    assert_eq!((cell.world.census().paced, steps), (0, ended));
    cell.end_ios();
    cell.finish();
}
