//! Writes that a device keeps beyond every deadline: who waits for them is told that it failed, and the unit is not ready
//! to anybody until they have come back.

use lunette::limits::DRAIN_NS;
use lunette::time::MS_NS;
use lunette_initiator::config::{Config, Offer};
use lunette_initiator::lun;
use lunette_initiator::scsi::status;
use lunette_initiator::session::{Function, Tmf};

use super::cell::{At, Cell, Codes, codes};
use super::reserve::{Out, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE, RESERVE};
use super::round::Still;
use super::what::What;
use super::world::TARGET;

const EXCLUSIVE_ACCESS: u8 = 3;
const KEY: u64 = 2;
const INTERNAL_FAILURE: (u8, Codes) = (status::CHECK_CONDITION, Some((4, 0x44, 0x00)));
const NOT_READY: (u8, Codes) = (status::CHECK_CONDITION, Some((2, 0x04, 0x07)));
const GOOD: (u8, Codes) = (status::GOOD, None);
const TOLD_OF_RESET: (u8, Codes) = (status::CHECK_CONDITION, Some((6, 0x29, 0x03)));
const ABORTED: (u8, Codes) = (status::CHECK_CONDITION, Some((0xb, 0x00, 0x00)));
const REJECTED: u8 = 255;

/// The first session has a WRITE in a device that cannot stop it.
fn cell() -> Cell {
    let cell = Cell::new(At::InDevice);
    cell.world.disks[0].set_manners(false, false);
    cell
}

fn reserve_out(cell: &mut Cell, action: u8, key: u64, other: u64) -> u64 {
    reserve_out_of(cell, 1, action, key, other)
}

fn reserve_out_of(cell: &mut Cell, session: usize, action: u8, key: u64, other: u64) -> u64 {
    cell.world.has_reserved = true;
    let op = cell.issue(session, What::ReserveOut(Out { action, kind: EXCLUSIVE_ACCESS, key, other }));
    cell.settle();
    op
}

fn answer(cell: &Cell, session: usize, op: u64) -> Option<(u8, Codes)> {
    cell.ended(session, op).map(|completion| codes(&completion.expect("a status")))
}

fn ask(cell: &mut Cell, session: usize, what: What) -> (u8, Codes) {
    let op = cell.issue(session, what);
    cell.settle();
    answer(cell, session, op).expect("an answer")
}

#[test]
fn a_reservation_that_a_write_outlives_fails_and_the_unit_is_not_ready_until_it_is_back() {
    let mut cell = cell();
    let registered = reserve_out(&mut cell, REGISTER_AND_IGNORE, 0, KEY);
    assert_eq!(answer(&cell, 1, registered), Some(GOOD));
    let reserved = reserve_out(&mut cell, RESERVE, KEY, 0);
    cell.pass(DRAIN_NS / 2);
    assert_eq!((answer(&cell, 1, reserved), cell.unit_ready(1)), (None, GOOD));
    cell.pass(DRAIN_NS / 2);
    assert_eq!(answer(&cell, 1, reserved), Some(INTERNAL_FAILURE));
    // To everybody, on either reactor.
    assert_eq!((cell.unit_ready(0), cell.unit_ready(1)), (NOT_READY, NOT_READY));
    let write = What::Write { lba: 100, blocks: 1, fua: false };
    assert_eq!(ask(&mut cell, 1, write), NOT_READY);
    // What the command asked for is in force all the same.
    assert_eq!(ask(&mut cell, 0, write), (status::RESERVATION_CONFLICT, None));
    cell.end_ios();
    assert!(cell.is_written());
    assert_eq!((cell.unit_ready(0), cell.unit_ready(1)), (GOOD, GOOD));
    let written = cell.issue(1, write);
    cell.settle();
    cell.end_ios();
    assert_eq!(answer(&cell, 1, written), Some(GOOD));
    cell.finish();
}

/// A node is fenced whose WRITE its disk does not give back: the other is told in bounded time that it failed, and takes over
/// from then on what the unit lets it; the WRITE lands under nobody's eyes.
#[test]
fn a_preempt_and_abort_that_a_write_outlives_fails_in_time_and_fences_all_the_same() {
    const VICTIM: u64 = 1;
    let mut cell = cell();
    for (session, action, key, other) in [
        (0, REGISTER_AND_IGNORE, 0, VICTIM),
        (1, REGISTER_AND_IGNORE, 0, KEY),
        // Its own WRITE is in nobody's way.
        (0, RESERVE, VICTIM, 0),
    ] {
        let op = reserve_out_of(&mut cell, session, action, key, other);
        assert_eq!(answer(&cell, session, op), Some(GOOD));
    }
    let preempted = reserve_out(&mut cell, PREEMPT_AND_ABORT, KEY, VICTIM);
    cell.pass(DRAIN_NS / 2);
    assert_eq!(answer(&cell, 1, preempted), None);
    cell.pass(DRAIN_NS / 2);
    assert_eq!(answer(&cell, 1, preempted), Some(INTERNAL_FAILURE));
    assert_eq!(cell.unit_ready(1), NOT_READY);
    // The fence holds meanwhile: a WRITE of the fenced node reaches no disk.
    let write = What::Write { lba: 100, blocks: 1, fua: false };
    assert_eq!(ask(&mut cell, 0, write), (status::CHECK_CONDITION, Some((6, 0x2a, 0x05))));
    assert_eq!(ask(&mut cell, 0, write), (status::RESERVATION_CONFLICT, None));
    assert_eq!(cell.world.disks[0].in_flight_count(), 1);
    cell.end_ios();
    assert_eq!(cell.unit_ready(1), GOOD);
    let written = cell.issue(1, write);
    cell.settle();
    cell.end_ios();
    assert_eq!(answer(&cell, 1, written), Some(GOOD));
    cell.finish();
}

#[test]
fn a_reset_that_a_write_outlives_is_rejected_and_the_unit_not_ready_until_it_is_back() {
    let mut cell = cell();
    let itt = cell.reset_unit();
    cell.pass(DRAIN_NS);
    assert_eq!(cell.tmf_answer(1, itt), Some(REJECTED));
    // Who has asked gives its session up (RFC 7143 §11.6.1). A unit attention is told first.
    assert_eq!((cell.unit_ready(0), cell.unit_ready(0)), (TOLD_OF_RESET, NOT_READY));
    cell.end_ios();
    assert_eq!(cell.unit_ready(0), GOOD);
    cell.finish();
}

/// It is nobody's command, so no reset ends it, however long its disk keeps what it has of it.
#[test]
fn a_sanitize_goes_on_when_a_write_of_its_own_that_a_reset_gave_up_is_back() {
    let mut cell = cell();
    cell.end_ios();
    let sanitized = cell.issue(0, What::Sanitize { blocks: 512 });
    cell.settle();
    assert_eq!(cell.world.disks[0].in_flight_count(), 1);
    let itt = cell.reset_unit();
    assert_eq!(answer(&cell, 0, sanitized), Some((status::TASK_ABORTED, None)));
    cell.pass(DRAIN_NS);
    assert_eq!(cell.tmf_answer(1, itt), Some(REJECTED));
    assert_eq!((cell.unit_ready(0), cell.unit_ready(0)), (TOLD_OF_RESET, NOT_READY));
    cell.end_ios();
    assert_eq!(cell.unit_ready(0), GOOD, "it is done, and has not failed");
    cell.finish();
}

#[test]
fn a_read_that_outlives_a_reset_harms_nobody() {
    let mut cell = Cell::new(At::InDevice);
    cell.end_ios();
    cell.world.disks[0].set_manners(false, false);
    cell.issue(0, What::Read { lba: 0, blocks: 8 });
    cell.settle();
    let itt = cell.reset_unit();
    cell.pass(DRAIN_NS);
    assert_eq!(cell.tmf_answer(1, itt), Some(REJECTED));
    assert_eq!((cell.unit_ready(0), cell.unit_ready(0)), (TOLD_OF_RESET, GOOD));
    cell.finish();
}

/// What a fence ends is not only what is waited for: the flush of a cache that was switched off is nobody's by then.
#[test]
fn a_flush_that_a_fence_has_ended_is_made_again() {
    let mut cell = Cell::new(At::InDevice);
    cell.issue(1, What::Select { write_cache: false });
    cell.settle();
    let itt = cell.manage(1, Function::AbortTaskSet);
    cell.end_io(0);
    assert!(cell.is_written() && cell.tmf_answer(1, itt).is_some());
    assert_eq!(cell.world.disks[0].in_flight_count(), 1, "the flush");
    cell.issue(1, What::Write { lba: 100, blocks: 1, fua: false });
    cell.settle();
    assert_eq!(cell.world.disks[0].in_flight_count(), 2);
    let itt = cell.manage(1, Function::AbortTaskSet);
    assert_eq!(cell.tmf_answer(1, itt), None);
    cell.pass(DRAIN_NS);
    cell.pass(MS_NS);
    assert!(cell.tmf_answer(1, itt).is_some());
    assert_eq!(cell.world.disks[0].in_flight_count(), 1, "the flush once more");
    cell.finish();
}

/// Nor is it only what is aborted: who has switched the cache off waits yet, and is told that it failed.
#[test]
fn a_flush_that_is_waited_for_and_that_a_fence_has_ended_is_made_again() {
    let mut cell = Cell::new(At::InDevice);
    let selected = cell.issue(1, What::Select { write_cache: false });
    cell.settle();
    cell.end_io(0);
    assert_eq!(cell.world.disks[0].in_flight_count(), 1, "the flush");
    let written = cell.issue(1, What::Write { lba: 100, blocks: 1, fua: false });
    cell.settle();
    assert_eq!(cell.world.disks[0].in_flight_count(), 2);
    let itt = cell.world.sessions[1].ops[&written].itt;
    cell.world.manage(1, 0, Tmf::abort(lun::from_number(0), itt)).unwrap();
    cell.settle();
    cell.pass(DRAIN_NS);
    cell.pass(MS_NS);
    assert_eq!(answer(&cell, 1, selected), Some(ABORTED));
    assert_eq!(cell.world.disks[0].in_flight_count(), 1, "the flush once more");
    cell.finish();
}

/// With FastAbort no data come for what the function has given up: its place is free though a WRITE of another is still out.
#[test]
fn a_rejected_function_with_fast_abort_keeps_no_places() {
    for function in [Function::LogicalUnitReset, Function::AbortTaskSet] {
        rejected_with_fast_abort(function);
    }
}

fn rejected_with_fast_abort(function: Function) {
    let mut cell = cell();
    let offer = Offer {
        task_reporting: Some("FastAbort".to_owned()),
        immediate_data: Some(false),
        initial_r2t: Some(true),
        ..Offer::usual()
    };
    let config = Config { offer, ..Config::new("iqn.2026-01.sim:i2", TARGET) };
    let index = cell.world.open(2, config, 1 << 20);
    cell.world.sessions[index].keeps_answers = true;
    cell.settle();
    assert_ne!(cell.unit_ready(index), GOOD);
    // Its R2T is on its way until the function is answered.
    let run = |cell: &mut Cell| {
        let still = |session| Still { to_target: false, to_initiator: session == index };
        while cell.world.round(false, still).unwrap() {}
    };
    // A reset waits for what others have in the device, ABORT TASK SET for the session's own.
    let is_own = function == Function::AbortTaskSet;
    if is_own {
        cell.issue(index, What::Write { lba: 200, blocks: 8, fua: false });
        cell.settle();
    }
    let out = cell.world.census().tasks;
    assert_eq!((out, cell.world.disks[0].in_flight_count()), if is_own { (2, 2) } else { (1, 1) });
    cell.issue(index, What::Write { lba: 100, blocks: 8, fua: false });
    run(&mut cell);
    assert_eq!(cell.world.census().tasks, out + 1);
    let request = Tmf::new(function, lun::from_number(0));
    let itt = cell.world.manage(index, 0, request).unwrap();
    run(&mut cell);
    cell.world.now = cell.world.now.after_ns(DRAIN_NS);
    run(&mut cell);
    assert_eq!(cell.world.census().tasks, out, "what is out");
    cell.settle();
    assert_eq!(cell.tmf_answer(index, itt), Some(REJECTED));
    cell.end_ios();
    cell.finish();
}
