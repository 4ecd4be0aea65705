//! Task management (RFC 7143 §11.5, §11.6): what is aborted, what is answered when, and who is told.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use lunette::bdev::error::{Fault, Kind, Rule, RuleId};
use lunette::control::tally::Fact;
use lunette_initiator::pdu::opcode;
use lunette_initiator::pdu::request::{DataOut, NopOut, ScsiCommand, TmfRequest};
use lunette_initiator::pdu::response::{R2t, Response, TmfResponse};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::session::{Attribute, Event, Function, Tmf};
use lunette_initiator::socket::{SocketError, Wire};
use lunette_initiator::{Client, Command, Config, Data, Offer, lun};

use crate::harness::{SOON, Setup, World, config, pattern, read, sense, test_unit_ready, until, write};

const COMPLETE: u8 = 0;
const NO_TASK: u8 = 1;
const NO_LUN: u8 = 2;
const REASSIGN_NOT_SUPPORTED: u8 = 4;
const NOT_SUPPORTED: u8 = 5;

/// Nothing has come on the session when everything sent before is known to have been handled. What waits for a device is answered
/// at the end of a turn, behind an echo of the same; the second is asked for in another turn.
fn assert_silent(client: &mut Client) {
    for _ in 0..2 {
        client.ping(b"sync").unwrap();
        assert_eq!(client.next_event(), None);
    }
}

#[test]
fn abort_task_takes_a_task_back_from_the_device() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    client.write(0, &pattern(1, 0, 8, 512)).unwrap();
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let itt = client.session().command(write(2, 0, 8)).unwrap();
    client.ping(b"").unwrap();
    assert_eq!(world.disks[0].faults.left(rule), 0);
    assert_eq!(client.task_management(Tmf::abort(0, itt)).unwrap(), COMPLETE);
    assert!(matches!(client.completion(itt), Err(SocketError::Aborted)));
    // What was given back never lands, whatever the device does now.
    world.disks[0].faults.release(rule);
    assert!(client.read(0, 8).unwrap() == pattern(1, 0, 8, 512));
    assert_silent(&mut client);
}

/// A WRITE that the device does not give back: its tag, and what makes the device give it back.
fn lost_write(world: &World, client: &mut Client) -> (u32, RuleId) {
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    let itt = client.session().command(write(2, 0, 8)).unwrap();
    client.ping(b"").unwrap();
    (itt, rule)
}

#[test]
fn abort_task_is_answered_only_when_the_device_is_done_with_it() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let (itt, rule) = lost_write(&world, &mut client);
    let tmf = client.session().task_management(Tmf::abort(0, itt)).unwrap();
    assert_silent(&mut client);
    world.disks[0].faults.release(rule);
    let answer = client.wait_event(SOON).unwrap();
    assert!(matches!(answer, Some(Event::Aborted { .. } | Event::TmfResponse { .. })), "{answer:?}");
    let answered =
        |event: &Option<Event>| *event == Some(Event::TmfResponse { itt: tmf, response: COMPLETE });
    assert!(answered(&answer) || answered(&client.wait_event(SOON).unwrap()));
}

/// Who aborts it again is not told either that it is no more.
#[test]
fn abort_task_of_a_task_that_was_aborted_waits_for_the_device_too() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let (itt, rule) = lost_write(&world, &mut client);
    let tmfs = [(); 2].map(|()| client.session().task_management(Tmf::abort(0, itt)).unwrap());
    assert_silent(&mut client);
    world.disks[0].faults.release(rule);
    let mut answered = Vec::new();
    while answered.len() < 2 {
        if let Some(Event::TmfResponse { itt, response }) = client.wait_event(SOON).unwrap() {
            answered.push((itt, response));
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, tmfs.map(|itt| (itt, COMPLETE)));
}

/// A WRITE that waits for the answer to its R2T.
fn wire_with_r2t(world: &World) -> (Wire, u32, R2t) {
    let offer = Offer { initial_r2t: Some(true), immediate_data: Some(false), ..Offer::usual() };
    let (mut wire, outcome) = world.wire(&Config { offer, ..config("wire") });
    let cmd_sn = outcome.exp_cmd_sn.0;
    let tur = ScsiCommand { final_bit: true, itt: 1, cmd_sn, ..ScsiCommand::default() };
    wire.send(&tur.with([])).unwrap();
    assert_eq!(wire.receive().unwrap().unwrap().bhs.opcode(), opcode::SCSI_RESPONSE);
    let command = ScsiCommand {
        final_bit: true,
        write: true,
        itt: 2,
        expected_bytes: 4096,
        cmd_sn: cmd_sn + 1,
        cdb: cdb::write_10(0, 8, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    wire.send(&command.with([])).unwrap();
    let pdu = wire.receive().unwrap().unwrap();
    let Response::R2t(r2t) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
    assert_eq!((r2t.itt, r2t.offset_bytes, r2t.desired_bytes), (2, 0, 4096));
    (wire, cmd_sn + 2, r2t)
}

fn receive_tmf(wire: &mut Wire) -> TmfResponse {
    let pdu = wire.receive().unwrap().unwrap();
    let Response::Tmf(response) = Response::decode(&pdu.bhs) else { panic!("{pdu:?}") };
    assert!(pdu.data.is_empty(), "RFC 7143 §11.6.2: {pdu:?}");
    response
}

/// RFC 7143 §4.2.3.3 asks only functions that cover several tasks to wait for data that are still owed.
#[test]
fn abort_task_does_not_wait_for_data() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn, r2t) = wire_with_r2t(&world);
    let abort = TmfRequest {
        immediate: true,
        function: 1,
        itt: 3,
        referenced_itt: 2,
        cmd_sn,
        ref_cmd_sn: cmd_sn - 1,
        ..TmfRequest::default()
    };
    wire.send(&abort.with([])).unwrap();
    let answer = receive_tmf(&mut wire);
    assert_eq!((answer.itt, answer.response), (3, COMPLETE));
    // Data that cross the answer on the way are swallowed: the next thing heard is the answer to what comes next.
    let data = DataOut { final_bit: true, itt: 2, ttt: r2t.ttt, ..DataOut::default() };
    wire.send(&data.with(pattern(1, 0, 8, 512))).unwrap();
    let abort = TmfRequest { itt: 4, ..abort };
    wire.send(&abort.with([])).unwrap();
    let answer = receive_tmf(&mut wire);
    assert_eq!((answer.itt, answer.response), (4, NO_TASK));
    assert!(world.client("b").read(0, 8).unwrap() == vec![0; 4096], "nothing landed");
}

#[test]
fn abort_task_set_waits_for_data_still_owed() {
    let world = World::start(Setup::default());
    let (mut wire, cmd_sn, r2t) = wire_with_r2t(&world);
    let abort = TmfRequest { immediate: true, function: 2, itt: 3, cmd_sn, ..TmfRequest::default() };
    wire.send(&abort.with([])).unwrap();
    // Answers to what is sent later come first; the second is asked for in another turn.
    for itt in [4, 5] {
        let nop = NopOut { immediate: true, itt, ttt: u32::MAX, cmd_sn, ..NopOut::default() };
        wire.send(&nop.with([])).unwrap();
        assert_eq!(wire.receive().unwrap().unwrap().bhs.opcode(), opcode::NOP_IN);
    }
    let data = DataOut { final_bit: true, itt: 2, ttt: r2t.ttt, ..DataOut::default() };
    wire.send(&data.with(pattern(1, 0, 8, 512))).unwrap();
    let answer = receive_tmf(&mut wire);
    assert_eq!((answer.itt, answer.response), (3, COMPLETE));
    assert!(world.client("b").read(0, 8).unwrap() == vec![0; 4096], "nothing landed");
}

/// RFC 7143 §11.6.1: inside the window it counts as received and aborted, and its CmdSN as taken.
#[test]
fn abort_task_for_a_command_that_has_not_arrived() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let next = client.session().cmd_sn();
    client.session().set_cmd_sn(next.plus(1));
    let missing = Tmf { ref_cmd_sn: Some(next.0), ..Tmf::abort(0, 0x4242) };
    assert_eq!(client.task_management(missing).unwrap(), COMPLETE);
    // Only with the gap closed is this served.
    assert!(client.run(read(0, 8)).unwrap().is_good());
    // Not inside the window: long gone, and far ahead.
    for ref_cmd_sn in [next.0.wrapping_sub(1), next.0 + 1000] {
        let missing = Tmf { ref_cmd_sn: Some(ref_cmd_sn), ..Tmf::abort(0, 0x4243) };
        assert_eq!(client.task_management(missing).unwrap(), NO_TASK);
    }
}

#[test]
fn functions_without_anything_to_do() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let far = lun::from_number(9);
    for (request, response) in [
        (Tmf { ref_cmd_sn: Some(0), ..Tmf::abort(0, 77) }, NO_TASK),
        (Tmf::new(Function::AbortTaskSet, 0), COMPLETE),
        (Tmf::new(Function::ClearTaskSet, 0), COMPLETE),
        (Tmf::new(Function::AbortTaskSet, far), NO_LUN),
        (Tmf::new(Function::ClearTaskSet, far), NO_LUN),
        (Tmf::new(Function::LogicalUnitReset, far), NO_LUN),
        (Tmf::new(Function::TaskReassign, 0), REASSIGN_NOT_SUPPORTED),
        (Tmf::new(Function::ClearAca, 0), NOT_SUPPORTED),
        (Tmf::new(Function::Other(9), 0), NOT_SUPPORTED),
        (Tmf::new(Function::Other(0), 0), NOT_SUPPORTED),
        (Tmf::new(Function::Other(127), 0), NOT_SUPPORTED),
    ] {
        assert_eq!(client.task_management(request).unwrap(), response, "{request:?}");
        let numbered = Tmf { immediate: false, ..request };
        assert_eq!(client.task_management(numbered).unwrap(), response, "{numbered:?}");
    }
    assert!(client.run(read(0, 8)).unwrap().is_good());
}

/// TST is 001b: a task set is one nexus's own (SPC-5 §7.5.10).
#[test]
fn task_sets_are_aborted_for_one_nexus_only() {
    for function in [Function::AbortTaskSet, Function::ClearTaskSet] {
        let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
        let (mut client, mut other) = (world.client("a"), world.client("b"));
        let rules = [0, 1].map(|n: usize| world.disks[n].order(Kind::Write, Fault::Hold, u32::MAX));
        let mine: Vec<u32> =
            (0..4).map(|n| client.session().command(write(n, u64::from(n) * 8, 8)).unwrap()).collect();
        let beside = Command { lun: lun::from_number(1), ..write(7, 0, 8) };
        let beside = client.session().command(beside).unwrap();
        let theirs = other.session().command(write(8, 64, 8)).unwrap();
        client.ping(b"").unwrap();
        other.ping(b"").unwrap();
        assert_eq!(client.task_management(Tmf::new(function, 0)).unwrap(), COMPLETE);
        for itt in mine {
            assert!(matches!(client.completion(itt), Err(SocketError::Aborted)));
        }
        for (disk, rule) in world.disks.iter().zip(rules) {
            disk.faults.arm(rule, 0);
            disk.faults.release(rule);
        }
        assert!(client.completion(beside).unwrap().is_good(), "another logical unit");
        assert!(other.completion(theirs).unwrap().is_good(), "another nexus");
        assert!(client.read(0, 32).unwrap() == vec![0; 32 * 512], "nothing of it landed");
        assert!(other.run(test_unit_ready(0)).unwrap().is_good(), "nobody is told anything");
    }
}

/// Two sessions on two reactors, each with a WRITE that the device holds.
fn held_on_both(fault: Fault) -> (World, Client, Client, u32, u32, RuleId) {
    let world = World::start(Setup { reactors: 2, disks: vec![(4096, 512); 2], ..Setup::default() });
    let (mut client, mut other) = (world.client("a"), world.client("b"));
    let placement = world.placement();
    assert_ne!(placement[0], placement[1]);
    let rule = world.disks[0].order(Kind::Write, fault, 2);
    let mine = client.session().command(write(1, 0, 8)).unwrap();
    client.ping(b"").unwrap();
    let theirs = other.session().command(write(2, 8, 8)).unwrap();
    other.ping(b"").unwrap();
    assert_eq!(world.disks[0].faults.left(rule), 0);
    (world, client, other, mine, theirs, rule)
}

#[test]
fn logical_unit_reset_reaches_every_session_on_every_reactor() {
    let (world, mut client, mut other, mine, theirs, rule) = held_on_both(Fault::Hold);
    let reset = Tmf::new(Function::LogicalUnitReset, 0);
    assert_eq!(client.task_management(reset).unwrap(), COMPLETE);
    assert!(matches!(client.completion(mine), Err(SocketError::Aborted)), "who asked is not told");
    // TAS is 1.
    assert_eq!(other.completion(theirs).unwrap().status, status::TASK_ABORTED);
    for client in [&mut client, &mut other] {
        assert_eq!(sense(&client.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x03));
        assert!(client.run(test_unit_ready(0)).unwrap().is_good(), "once");
        assert!(client.run(test_unit_ready(1)).unwrap().is_good(), "another logical unit is not concerned");
    }
    world.disks[0].faults.release(rule);
    assert!(client.read(0, 16).unwrap() == vec![0; 16 * 512], "nothing of it landed");
}

#[test]
fn a_reset_is_answered_only_when_every_device_is_done() {
    let (world, mut client, mut other, mine, theirs, rule) = held_on_both(Fault::Lose);
    let reset = client.session().task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap();
    client.ping(b"").unwrap();
    // A unit attention says that the reset has reached a reactor.
    until("a unit attention", || {
        let end = client.run(test_unit_ready(0)).unwrap();
        !end.is_good() && sense(&end) == (0x6, 0x29, 0x03)
    });
    // RFC 7143 §4.2.3.6: what would report it elsewhere waits for the answers to what was aborted there.
    let mut asked = 0;
    until("a command that waits", || {
        asked = other.session().command(test_unit_ready(0)).unwrap();
        other.ping(b"").unwrap();
        let waits = other.session().is_sent(asked);
        assert!(waits || other.completion(asked).unwrap().is_good());
        waits
    });
    assert!(other.run(Command::read(0, cdb::inquiry(36), 36)).unwrap().is_good(), "this reports none");
    assert!(other.session().is_sent(theirs), "TASK ABORTED is not said while the device has it");
    assert_silent(&mut client);
    world.disks[0].faults.release(rule);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        if let Some(Event::Completed(end)) = other.wait_event(SOON).unwrap() {
            ends.push((end.itt, end.status));
        }
    }
    assert_eq!(ends, [(theirs, status::TASK_ABORTED), (asked, status::CHECK_CONDITION)]);
    assert!(matches!(client.completion(mine), Err(SocketError::Aborted)));
    assert_eq!(client.wait_event(SOON).unwrap(), Some(Event::TmfResponse { itt: reset, response: COMPLETE }));
}

/// By what they are, those too that go through control.
#[test]
fn functions_are_counted_by_their_names() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    for function in [Function::AbortTaskSet, Function::LogicalUnitReset, Function::TargetWarmReset] {
        assert_eq!(client.task_management(Tmf::new(function, 0)).unwrap(), COMPLETE);
    }
    let told = || world.control(|control| control.tally().of(Fact::Function).collect::<Vec<_>>());
    until("all three are told", || told().iter().map(|(_, count)| count).sum::<u64>() == 3);
    assert_eq!(told(), [("abort_task_set", 1), ("logical_unit_reset", 1), ("target_warm_reset", 1)]);
}

#[test]
fn target_warm_reset_reaches_every_unit() {
    let (_world, mut client, mut other, mine, theirs, _) = held_on_both(Fault::Hold);
    assert_eq!(client.task_management(Tmf::new(Function::TargetWarmReset, 0)).unwrap(), COMPLETE);
    assert!(matches!(client.completion(mine), Err(SocketError::Aborted)));
    assert_eq!(other.completion(theirs).unwrap().status, status::TASK_ABORTED);
    for client in [&mut client, &mut other] {
        for number in [0, 1] {
            assert_eq!(sense(&client.run(test_unit_ready(number)).unwrap()), (0x6, 0x29, 0x02));
            assert!(client.run(test_unit_ready(number)).unwrap().is_good());
        }
    }
}

#[test]
fn target_cold_reset_ends_every_session_after_its_answer() {
    let (world, mut client, mut other, ..) = held_on_both(Fault::Hold);
    assert_eq!(client.task_management(Tmf::new(Function::TargetColdReset, 0)).unwrap(), COMPLETE);
    client.wait_closed(SOON).unwrap();
    other.wait_closed(SOON).unwrap();
    world.wait_sessions(0);
    let mut again = Client::connect(world.address(), config("a")).unwrap();
    // 29h/02h is not owed to the new session: 29h/07h, as its nexus was lost.
    assert_eq!(sense(&again.run(test_unit_ready(0)).unwrap()), (0x6, 0x29, 0x07));
    assert!(again.read(0, 16).unwrap() == vec![0; 16 * 512], "nothing landed");
}

#[test]
fn ordered_tasks_wait_for_older_ones_and_younger_ones_for_them() {
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..Setup::default() });
    let mut client = world.client("a");
    let first = Rule { kind: Kind::Write, first_lba: 0, last_lba: 0, fault: Fault::Hold };
    let rule = world.disks[0].faults.add(first, 1).unwrap();
    let queue = |client: &mut Client, command| client.session().command(command).unwrap();
    let held = queue(&mut client, write(1, 0, 1));
    let ordered = queue(&mut client, Command { attribute: Attribute::Ordered, ..read(0, 1) });
    let simple = queue(&mut client, write(2, 0, 1));
    let beside = queue(&mut client, Command { lun: lun::from_number(1), ..read(0, 1) });
    let urgent = queue(&mut client, Command { attribute: Attribute::HeadOfQueue, ..read(0, 1) });
    // SAM-5 §8.6: neither another logical unit nor the head of the queue waits.
    assert!(client.completion(beside).unwrap().is_good());
    assert!(client.completion(urgent).unwrap().data == vec![0; 512], "before the held WRITE");
    client.ping(b"").unwrap();
    for itt in [held, ordered, simple] {
        assert!(client.session().is_sent(itt));
    }
    world.disks[0].faults.release(rule);
    assert!(client.completion(held).unwrap().is_good());
    assert!(client.completion(ordered).unwrap().data == pattern(1, 0, 1, 512), "between the WRITEs");
    assert!(client.completion(simple).unwrap().is_good());
    assert!(client.read(0, 1).unwrap() == pattern(2, 0, 1, 512));
}

#[test]
fn aborting_an_ordered_task_lets_those_behind_it_run() {
    let world = World::start(Setup::default());
    let mut client = world.client("a");
    let rule = world.disks[0].order(Kind::Write, Fault::Hold, 1);
    let held = client.session().command(write(1, 0, 8)).unwrap();
    let barrier =
        Command { attribute: Attribute::Ordered, ..Command::new(0, cdb::test_unit_ready(), Data::None) };
    let ordered = client.session().command(barrier).unwrap();
    let behind = client.session().command(read(64, 8)).unwrap();
    client.ping(b"").unwrap();
    assert!(client.session().is_sent(behind));
    assert_eq!(client.task_management(Tmf::abort(0, ordered)).unwrap(), COMPLETE);
    assert!(client.completion(behind).unwrap().is_good());
    world.disks[0].faults.release(rule);
    assert!(client.completion(held).unwrap().is_good());
}
