//! That what is said about a task agrees with what it began with, and functions that name what is no command, or cover what has
//! not come.

use lunette::bdev::error::{Fault, Kind};
use lunette_initiator::pdu::request::{DataOut, NopOut, ScsiCommand, TextRequest, TmfRequest};
use lunette_initiator::pdu::response::{NopIn, R2t, Response, ScsiResponse, TextResponse, TmfResponse};
use lunette_initiator::pdu::{Digests, NO_TAG, Pdu};
use lunette_initiator::scsi::cdb;
use lunette_initiator::session::{Function, Tmf};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Offer, lun};

use crate::connections::{Session, ends, is_quiet, next};
use crate::harness::{Setup, World};
use crate::recovery::{begin, setup};

fn solicited(session: &mut Session, itt: u32) -> R2t {
    let command = ScsiCommand {
        write: true,
        expected_bytes: 512,
        cdb: cdb::write_10(0, 1, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    let command = session.command(itt, &command);
    session.first.send(&command).unwrap();
    let (Response::R2t(r2t), _) = next(&mut session.first) else { panic!("no R2T") };
    r2t
}

fn answer(r2t: &R2t, lun: u64) -> Pdu {
    DataOut { final_bit: true, lun, itt: r2t.itt, ttt: r2t.ttt, ..DataOut::default() }.with([7; 512])
}

fn tmf(function: u8, itt: u32, referenced_itt: u32, cmd_sn: u32) -> Pdu {
    TmfRequest {
        immediate: true,
        function,
        itt,
        referenced_itt,
        cmd_sn,
        ref_cmd_sn: cmd_sn,
        ..TmfRequest::default()
    }
    .with([])
}

fn replied(wire: &mut Wire, itt: u32) -> u8 {
    match next(wire) {
        (Response::Tmf(TmfResponse { itt: found, response, .. }), _) if found == itt => response,
        other => panic!("no answer to {itt}: {other:?}"),
    }
}

#[test]
fn data_for_another_lun_are_not_the_commands() {
    let world = World::start(setup(0));
    let mut session = Session::begin(&world, Offer::usual());
    let r2t = solicited(&mut session, 1);
    session.first.send(&answer(&r2t, lun::from_number(1))).unwrap();
    let (Response::Scsi(ScsiResponse { itt: 1, status: 2, exp_data_sn, .. }), data) =
        next(&mut session.first)
    else {
        panic!("no status")
    };
    assert_eq!((data[4], data[14], data[15]), (0xb, 0x4b, 0x00), "data phase error");
    assert_eq!(exp_data_sn, 0);
    let r2t = solicited(&mut session, 2);
    session.first.send(&answer(&r2t, r2t.lun)).unwrap();
    let (Response::Scsi(end), _) = next(&mut session.first) else { panic!("no status") };
    assert_eq!((end.itt, end.status), (2, 0));
    assert_eq!(end.exp_data_sn, 0, "RFC 7143 §11.4.8: no Data-In was sent");
}

/// RFC 7143 §11.5.1: ABORT TASK and TASK REASSIGN of what is no command.
#[test]
fn functions_and_texts_are_neither_aborted_nor_reassigned() {
    let world = World::start(setup(2));
    let mut session = begin(&world, 2);
    let rule = world.disks[0].order(Kind::Write, Fault::Lose, 1);
    let write = session.write(1, 1, 0, 1);
    let cmd_sn = session.cmd_sn;
    let wire = &mut session.first;
    wire.send(&write).unwrap();
    wire.send(&tmf(1, 2, 1, cmd_sn)).unwrap();
    assert!(is_quiet(wire, cmd_sn), "the device has what is aborted");
    let text =
        TextRequest { immediate: true, more: true, itt: 3, ttt: NO_TAG, cmd_sn, ..TextRequest::default() };
    wire.send(&text.with(*b"SendTargets=")).unwrap();
    let (Response::Text(TextResponse { itt: 3, .. }), _) = next(wire) else { panic!("no Text Response") };
    for (function, referenced) in [(1, 2), (8, 2), (8, 3), (1, 4)] {
        wire.send(&tmf(function, 4, referenced, cmd_sn)).unwrap();
        assert_eq!(replied(wire, 4), 255, "{function} of {referenced}");
    }
    // What nobody has is another matter.
    wire.send(&tmf(1, 4, 99, cmd_sn.wrapping_sub(1000))).unwrap();
    assert_eq!(replied(wire, 4), 1);
    world.disks[0].faults.release(rule);
    assert_eq!(replied(wire, 2), 0);
}

/// A NOP-In that asks for an answer comes next. What was sent under StatSNs below `exp_stat_sn` is acknowledged by that.
fn acknowledge(wire: &mut Wire, cmd_sn: u32, exp_stat_sn: u32) {
    let (Response::NopIn(NopIn { itt: NO_TAG, ttt, lun, stat_sn, .. }), _) = next(wire) else {
        panic!("no question")
    };
    assert!(ttt != NO_TAG);
    assert_eq!(stat_sn, exp_stat_sn, "shown, and not used up");
    let nop = NopOut { immediate: true, lun, itt: NO_TAG, ttt, cmd_sn, exp_stat_sn };
    wire.send(&nop.with([])).unwrap();
}

/// The status of a command, and its StatSN.
fn status(wire: &mut Wire, itt: u32) -> (u8, u32) {
    match next(wire) {
        (Response::Scsi(end), _) if end.itt == itt => (end.status, end.stat_sn),
        other => panic!("no response to {itt}: {other:?}"),
    }
}

/// An echo, so that whatever was to be said before it has been said; it acknowledges nothing. Its StatSN.
fn echo(wire: &mut Wire, cmd_sn: u32, exp_stat_sn: u32) -> u32 {
    let nop = NopOut { immediate: true, itt: 0xec0, ttt: NO_TAG, cmd_sn, exp_stat_sn, ..NopOut::default() };
    wire.send(&nop.with([])).unwrap();
    match next(wire) {
        (Response::NopIn(NopIn { itt: 0xec0, stat_sn, .. }), _) => stat_sn,
        other => panic!("no echo: {other:?}"),
    }
}

/// What stands behind a command that never comes whole goes on when that is given up, though nothing more is sent.
#[test]
fn a_function_that_has_waited_lets_go_on_what_stands_behind() {
    let setup = setup(0);
    let world = World::start(Setup { disks: vec![(4096, 512); 2], ..setup });
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let mut bytes = Vec::new();
    session.write(1, 1, 0, 8).encode(Digests::default(), &mut bytes);
    session.first.send_bytes(&bytes[..1000]).unwrap();
    let there = ScsiCommand { lun: lun::from_number(1), ..crate::connections::ready() };
    let behind = session.command(2, &there);
    second.send(&behind).unwrap();
    assert!(is_quiet(&mut second, session.cmd_sn), "the one before it has not come");
    let abort = TmfRequest { function: 2, itt: 9, cmd_sn: session.cmd_sn, ..TmfRequest::default() };
    second.send(&abort.with([])).unwrap();
    assert_eq!(crate::connections::sense(&mut second, 2), (0x6, 0x29, 0x00), "it runs");
}

/// RFC 7143 §4.2.3.3: what is on its way on another connection is covered as well.
#[test]
fn a_function_waits_for_commands_before_it_on_other_connections() {
    let world = World::start(setup(0));
    let mut session = Session::begin(&world, Offer::usual());
    let mut second = session.join(&world, 2);
    let rule = world.disks[0].order(Kind::Read, Fault::Lose, 1);
    let read = session.read(1, 0, 1);
    let cmd_sn = session.cmd_sn;
    second.send(&tmf(2, 9, 0, cmd_sn)).unwrap();
    assert!(is_quiet(&mut second, cmd_sn), "a command before it has not come");
    session.first.send(&read).unwrap();
    let first_sn = echo(&mut session.first, cmd_sn, 0) + 1;
    let second_sn = echo(&mut second, cmd_sn, 0) + 1;
    world.disks[0].faults.release(rule);
    acknowledge(&mut session.first, cmd_sn, first_sn);
    acknowledge(&mut second, cmd_sn, second_sn);
    assert_eq!(replied(&mut second, 9), 0);
    acknowledge(&mut second, cmd_sn, second_sn + 1);
    assert!(is_quiet(&mut session.first, cmd_sn), "it was aborted");
    let ready = session.command(2, &crate::connections::ready());
    session.first.send(&ready).unwrap();
    assert_eq!(ends(&mut session.first, 2), 0);
}

/// RFC 7143 §4.2.2.3: nothing that was said before it may come later, and nothing that is said after it earlier.
#[test]
fn the_answer_to_a_function_is_fenced() {
    let world = World::start(setup(0));
    let offer =
        Offer { task_reporting: Some("ResponseFence,FastAbort,RFC3720".to_owned()), ..Offer::usual() };
    let mut session = Session::begin(&world, offer);
    assert_eq!(session.first_params.task_reporting, "ResponseFence");
    let (mut second, outcome) = world.wire(&session.config.joining(session.tsih, 2));
    let ready = session.command(1, &crate::connections::ready());
    session.first.send(&ready).unwrap();
    let (0, before) = status(&mut session.first, 1) else { panic!() };
    let cmd_sn = session.cmd_sn;
    let abort = TmfRequest {
        immediate: true,
        function: 2,
        itt: 9,
        cmd_sn,
        exp_stat_sn: outcome.exp_stat_sn.0,
        ..TmfRequest::default()
    };
    second.send(&abort.with([])).unwrap();
    // A status is not acknowledged on the first connection: it is asked, and until it answers commands are held.
    let (Response::NopIn(question), _) = next(&mut session.first) else { panic!("no question") };
    assert_eq!((question.itt, question.stat_sn), (NO_TAG, before + 1));
    let held = [session.command(2, &crate::connections::ready()), session.read(3, 0, 1)];
    for command in &held {
        session.first.send(command).unwrap();
    }
    // Data are no answer, as long as no status is with them.
    let (Response::DataIn(data), _) = next(&mut session.first) else { panic!("no data") };
    assert_eq!((data.itt, data.has_status), (3, false));
    let stat_sn = echo(&mut session.first, session.cmd_sn, before);
    assert_eq!(stat_sn, before + 1, "nothing but the echo");
    let answer = NopOut {
        immediate: true,
        itt: NO_TAG,
        ttt: question.ttt,
        cmd_sn: session.cmd_sn,
        exp_stat_sn: stat_sn + 1,
        ..NopOut::default()
    };
    session.first.send(&answer.with([])).unwrap();
    let (Response::Tmf(reply), _) = next(&mut second) else { panic!("no answer") };
    assert_eq!((reply.itt, reply.response), (9, 0));
    let stat_sn = echo(&mut session.first, session.cmd_sn, stat_sn + 1);
    acknowledge(&mut second, session.cmd_sn, reply.stat_sn + 1);
    // With that the rest follows.
    assert_eq!(status(&mut session.first, 2), (0, stat_sn + 1));
    assert_eq!(status(&mut session.first, 3), (0, stat_sn + 2));
}

/// The unit attention for a reset by somebody else is fenced on a session with several connections.
#[test]
fn a_unit_attention_for_an_abort_is_fenced() {
    let world = World::start(setup(0));
    let mut session = Session::begin(&world, Offer::usual());
    let (mut second, outcome) = world.wire(&session.config.joining(session.tsih, 2));
    let second_sn = outcome.exp_stat_sn.0;
    let mut other = world.client("b");
    let ready = session.command(1, &crate::connections::ready());
    session.first.send(&ready).unwrap();
    let (0, before) = status(&mut session.first, 1) else { panic!() };
    assert_eq!(other.task_management(Tmf::new(Function::LogicalUnitReset, 0)).unwrap(), 0);
    let asked = ScsiCommand { exp_stat_sn: second_sn, ..crate::connections::ready() };
    let asked = session.command(2, &asked);
    second.send(&asked).unwrap();
    acknowledge(&mut session.first, session.cmd_sn, before + 1);
    let (Response::Scsi(end), data) = next(&mut second) else { panic!("no status") };
    assert_eq!((end.itt, end.stat_sn), (2, second_sn));
    assert_eq!((data[4], data[14], data[15]), (0x6, 0x29, 0x03));
    let ready = session.command(3, &crate::connections::ready());
    session.first.send(&ready).unwrap();
    acknowledge(&mut second, session.cmd_sn, second_sn + 1);
    assert_eq!(ends(&mut session.first, 3), 0);
}

/// What is immediate and comes while a function waits for commands before it is none of those that it covers.
#[test]
fn an_immediate_command_behind_a_function_is_spared() {
    let world = World::start(setup(0));
    let mut session = Session::begin(&world, Offer::usual());
    let (mut second, outcome) = world.wire(&session.config.joining(session.tsih, 2));
    let rule = world.disks[0].order(Kind::Read, Fault::Hold, 1);
    let missing = session.command(1, &crate::connections::ready());
    let cmd_sn = session.cmd_sn;
    second.send(&tmf(2, 9, 0, cmd_sn)).unwrap();
    let stat_sn = echo(&mut second, cmd_sn, outcome.exp_stat_sn.0);
    let immediate = ScsiCommand {
        immediate: true,
        final_bit: true,
        read: true,
        itt: 5,
        cmd_sn,
        exp_stat_sn: stat_sn + 1,
        expected_bytes: 512,
        cdb: cdb::read_10(0, 1, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    second.send(&immediate.with([])).unwrap();
    assert_eq!(echo(&mut second, cmd_sn, stat_sn + 1), stat_sn + 1, "the device has it");
    session.first.send(&missing).unwrap();
    let (0, first_sn) = status(&mut session.first, 1) else { panic!() };
    acknowledge(&mut session.first, cmd_sn, first_sn + 1);
    acknowledge(&mut second, cmd_sn, stat_sn + 2);
    assert_eq!(replied(&mut second, 9), 0, "it does not wait for the device");
    acknowledge(&mut second, cmd_sn, stat_sn + 3);
    world.disks[0].faults.release(rule);
    // With its status, where the fence is down by then.
    let (Response::DataIn(data), bytes) = next(&mut second) else { panic!("no data") };
    assert_eq!((data.itt, bytes), (5, vec![0; 512]));
}

/// While one answer is fenced, others that are to be wait in the order in which they were asked for.
#[test]
fn fences_come_one_after_the_other() {
    let world = World::start(setup(0));
    let mut session = Session::begin(&world, Offer::usual());
    let (mut second, outcome) = world.wire(&session.config.joining(session.tsih, 2));
    let second_sn = outcome.exp_stat_sn.0;
    let (mut third, outcome) = world.wire(&session.config.joining(session.tsih, 3));
    let third_sn = outcome.exp_stat_sn.0;
    let ready = session.command(1, &crate::connections::ready());
    session.first.send(&ready).unwrap();
    let (0, before) = status(&mut session.first, 1) else { panic!() };
    let cmd_sn = session.cmd_sn;
    let abort = |itt, exp_stat_sn| {
        TmfRequest { immediate: true, function: 2, itt, cmd_sn, exp_stat_sn, ..TmfRequest::default() }
            .with([])
    };
    second.send(&abort(9, second_sn)).unwrap();
    let (Response::NopIn(question), _) = next(&mut session.first) else { panic!("no question") };
    assert_eq!(question.stat_sn, before + 1);
    third.send(&abort(10, third_sn)).unwrap();
    assert_eq!(echo(&mut third, cmd_sn, third_sn), third_sn, "the first fence is up");
    let tell = |wire: &mut Wire, ttt, exp_stat_sn| {
        let nop = NopOut { immediate: true, itt: NO_TAG, ttt, cmd_sn, exp_stat_sn, ..NopOut::default() };
        wire.send(&nop.with([])).unwrap();
    };
    tell(&mut third, NO_TAG, third_sn + 1);
    tell(&mut session.first, question.ttt, before + 1);
    assert_eq!(replied(&mut second, 9), 0);
    let (Response::NopIn(_), _) = next(&mut second) else { panic!("no question") };
    // The third function comes with what lowers the first fence.
    second.send(&abort(11, second_sn + 1)).unwrap();
    assert_eq!(replied(&mut third, 10), 0);
    assert_eq!(echo(&mut second, cmd_sn, second_sn + 1), second_sn + 1, "the second fence is up");
    acknowledge(&mut third, cmd_sn, third_sn + 2);
    acknowledge(&mut second, cmd_sn, second_sn + 2);
    assert_eq!(replied(&mut second, 11), 0);
}
