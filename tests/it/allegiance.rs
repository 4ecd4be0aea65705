//! That what is said about a task agrees with what it began with, and functions that name what is no command, or cover what has
//! not come.

use lunette::bdev::error::{Fault, Kind};
use lunette_initiator::pdu::request::{DataOut, ScsiCommand, TextRequest, TmfRequest};
use lunette_initiator::pdu::response::{R2t, Response, ScsiResponse, TextResponse, TmfResponse};
use lunette_initiator::pdu::{NO_TAG, Pdu};
use lunette_initiator::scsi::cdb;
use lunette_initiator::socket::Wire;
use lunette_initiator::{Offer, lun};

use crate::connections::{Session, ends, is_quiet, next};
use crate::harness::World;
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
    assert!(is_quiet(&mut session.first, cmd_sn));
    assert!(is_quiet(&mut second, cmd_sn), "it has come, and the device has it");
    world.disks[0].faults.release(rule);
    assert_eq!(replied(&mut second, 9), 0);
    assert!(is_quiet(&mut session.first, cmd_sn), "it was aborted");
    let ready = session.command(2, &crate::connections::ready());
    session.first.send(&ready).unwrap();
    assert_eq!(ends(&mut session.first, 2), 0);
}
