//! Error recovery levels 1 and 2 (RFC 7143 §7): what is lost is sent again, and what a lost connection had is taken over.

use lunette::bdev::error::{Fault, Kind};
use lunette::iscsi::negotiate::Offer as Limits;
use lunette_initiator::pdu::request::{
    DataOut, LogoutRequest, NopOut, ScsiCommand, Snack, TextRequest, TmfRequest,
};
use lunette_initiator::pdu::response::{
    DataIn, LogoutResponse, NopIn, R2t, Reject, Response, ScsiResponse, TmfResponse,
};
use lunette_initiator::pdu::{Bhs, Flaw, NO_TAG, Pdu};
use lunette_initiator::scsi::cdb;
use lunette_initiator::socket::Wire;
use lunette_initiator::{Config, Offer};

use crate::connections::{Session, next, ready};
use crate::harness::{Setup, World, pattern};

pub(crate) fn setup(level: u8) -> Setup {
    let offer = Limits {
        connections_max: 4,
        error_recovery_level: level,
        time2wait: 0,
        time2retain: 5,
        ..Limits::DEFAULT
    };
    Setup { offer, ..Setup::default() }
}

/// Small segments, so that commands take several; digests, so that data can be spoilt.
pub(crate) fn offer(level: u32) -> Offer {
    Offer {
        error_recovery_level: Some(level),
        default_time2wait_s: Some(0),
        default_time2retain_s: Some(5),
        max_recv_bytes: Some(1024),
        max_burst_bytes: Some(4096),
        first_burst_bytes: Some(4096),
        ..Offer::with_digests(false, true)
    }
}

pub(crate) fn begin(world: &World, level: u32) -> Session {
    let session = Session::begin(world, offer(level));
    assert_eq!(session.first_params.error_recovery_level, level);
    session
}

pub(crate) fn snack(kind: u8, itt: u32, begin: u32, run: u32) -> Pdu {
    Snack { kind, itt, ttt: NO_TAG, begin, run, ..Snack::default() }.with([])
}

/// The Data-In PDUs that come next, and the response behind them.
pub(crate) fn read_all(wire: &mut Wire, itt: u32) -> (Vec<Pdu>, ScsiResponse) {
    let mut pdus = Vec::new();
    loop {
        let pdu = wire.receive().unwrap().expect("a PDU");
        match Response::decode(&pdu.bhs) {
            Response::DataIn(data) if data.itt == itt => {
                assert!(!data.has_status, "what may be lost has its status apart");
                pdus.push(pdu);
            }
            Response::Scsi(response) if response.itt == itt => return (pdus, response),
            other => panic!("{other:?}"),
        }
    }
}

/// The PDU without what may differ when it is sent again: ExpCmdSN and MaxCmdSN.
pub(crate) fn replica(mut pdu: Pdu) -> (Bhs, Vec<u8>) {
    pdu.bhs.0[28..36].fill(0);
    (pdu.bhs, pdu.data)
}

pub(crate) fn rejected(wire: &mut Wire, reason: u8, refused: &Pdu) {
    let (Response::Reject(Reject { reason: found, .. }), data) = next(wire) else { panic!("no Reject") };
    assert_eq!((found, &data[..]), (reason, &refused.bhs.0[..]));
}

/// Says that everything up to this StatSN has come.
fn acknowledge(wire: &mut Wire, cmd_sn: u32, exp_stat_sn: u32) {
    let nop = NopOut { immediate: true, itt: 0x5e5e, ttt: NO_TAG, cmd_sn, exp_stat_sn, ..NopOut::default() };
    wire.send(&nop.with([])).unwrap();
    let (Response::NopIn(NopIn { itt: 0x5e5e, .. }), _) = next(wire) else { panic!("no echo") };
}

#[test]
fn data_that_were_lost_are_sent_again_as_they_were() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let (pdus, response) = write_and_read(&mut session, 9, 8);
    assert_eq!((pdus.len(), response.exp_data_sn, response.status), (4, 4, 0));
    let wire = &mut session.first;
    // One in the middle, then from one on to the end, then all.
    for (first, count, expected) in [(1, 1, 1..2), (2, 0, 2..4), (0, 0, 0..4)] {
        wire.send(&snack(0, 2, first, count)).unwrap();
        for pdu in &pdus[expected] {
            let again = wire.receive().unwrap().unwrap();
            assert!(replica(again) == replica(pdu.clone()), "RFC 7143 §11.16: exact replicas");
        }
    }
    // What was never sent.
    let beyond = snack(0, 2, 3, 2);
    wire.send(&beyond).unwrap();
    rejected(wire, 0x04, &beyond);
    // Once acknowledged it is gone.
    acknowledge(wire, session.cmd_sn, response.stat_sn.wrapping_add(2));
    let late = snack(0, 2, 0, 1);
    wire.send(&late).unwrap();
    rejected(wire, 0x04, &late);
}

/// RFC 7143 §4.2.5.1.
#[test]
fn data_are_asked_for_again_where_they_went() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let mut second = session.join(&world, 2);
    let read = session.read(2, 0, 8);
    session.first.send(&read).unwrap();
    let (pdus, _) = read_all(&mut session.first, 2);
    let asked = snack(0, 2, 1, 1);
    second.send(&asked).unwrap();
    rejected(&mut second, 0x04, &asked);
    session.first.send(&asked).unwrap();
    let again = session.first.receive().unwrap().unwrap();
    assert!(replica(again) == replica(pdus[1].clone()));
}

/// Sends a WRITE's command and what it is asked for, until it ends.
pub(crate) fn send_write(wire: &mut Wire, write: &Pdu) {
    wire.send(write).unwrap();
    let (Response::Scsi(ScsiResponse { status: 0, .. }), _) = next(wire) else { panic!("the WRITE") };
}

/// Writes a pattern by command 1 and reads it by command 2: its Data-In PDUs, and the response behind them.
pub(crate) fn write_and_read(session: &mut Session, seed: u32, blocks: u16) -> (Vec<Pdu>, ScsiResponse) {
    let write = session.write(1, seed, 0, blocks);
    send_write(&mut session.first, &write);
    let read = session.read(2, 0, blocks);
    session.first.send(&read).unwrap();
    read_all(&mut session.first, 2)
}

/// Says that segments of so many bytes are taken from now on.
pub(crate) fn change_segments(wire: &mut Wire, bytes: u32) {
    let question =
        TextRequest { immediate: true, final_bit: true, itt: 3, ttt: NO_TAG, ..TextRequest::default() };
    wire.send(&question.with(format!("MaxRecvDataSegmentLength={bytes}\0"))).unwrap();
    assert!(matches!(next(wire), (Response::Text(_), _)));
}

#[test]
fn statuses_that_were_lost_are_sent_again() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let commands = [1, 2, 3].map(|itt| session.command(itt, &ready()));
    let mut answers = Vec::new();
    let wire = &mut session.first;
    for command in &commands {
        wire.send(command).unwrap();
        answers.push(wire.receive().unwrap().unwrap());
    }
    let stat_sn = |pdu: &Pdu| u32::from_be_bytes(pdu.bhs.0[24..28].try_into().unwrap());
    wire.send(&snack(1, NO_TAG, stat_sn(&answers[1]), 1)).unwrap();
    assert!(replica(wire.receive().unwrap().unwrap()) == replica(answers[1].clone()));
    wire.send(&snack(1, NO_TAG, stat_sn(&answers[1]), 0)).unwrap();
    for answer in &answers[1..] {
        assert!(replica(wire.receive().unwrap().unwrap()) == replica(answer.clone()));
    }
    let never = snack(1, NO_TAG, stat_sn(&answers[2]).wrapping_add(9), 1);
    wire.send(&never).unwrap();
    rejected(wire, 0x04, &never);
    // A DataACK that no Data-In asked for; R-Data without a tag.
    for (kind, reason) in [(2, 0x08), (3, 0x09)] {
        let refused = snack(kind, NO_TAG, 0, 0);
        wire.send(&refused).unwrap();
        rejected(wire, reason, &refused);
    }
}

/// A WRITE of 8 blocks whose data are asked for; the R2T.
pub(crate) fn write_by_r2t(session: &mut Session, itt: u32) -> R2t {
    let command = ScsiCommand {
        write: true,
        expected_bytes: 4096,
        cdb: cdb::write_10(0, 8, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    let command = session.command(itt, &command);
    session.first.send(&command).unwrap();
    let (Response::R2t(r2t), _) = next(&mut session.first) else { panic!("no R2T") };
    r2t
}

pub(crate) fn data_out(r2t: &R2t, data_sn: u32, last: bool, seed: u32) -> Pdu {
    let offset = data_sn * 1024 + r2t.offset_bytes;
    let header = DataOut {
        final_bit: last,
        lun: r2t.lun,
        itt: r2t.itt,
        ttt: r2t.ttt,
        data_sn,
        offset_bytes: offset,
        ..DataOut::default()
    };
    let data = pattern(seed, 0, 8, 512);
    header.with(&data[offset as usize..][..1024])
}

#[test]
fn written_data_that_were_spoilt_or_lost_are_asked_for_again() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let digests = session.first_params.digests;
    for (itt, is_spoilt) in [(1, true), (2, false)] {
        let r2t = write_by_r2t(&mut session, itt);
        assert_eq!((r2t.r2t_sn, r2t.offset_bytes, r2t.desired_bytes), (0, 0, 4096));
        let wire = &mut session.first;
        wire.send(&data_out(&r2t, 0, false, itt)).unwrap();
        let bad = data_out(&r2t, 1, false, itt);
        if is_spoilt {
            let mut bytes = Vec::new();
            bad.encode_flawed(digests, Flaw { data_digest: true, ..Flaw::default() }, &mut bytes);
            wire.send_bytes(&bytes).unwrap();
            rejected(wire, 0x02, &bad);
        }
        wire.send(&data_out(&r2t, 2, false, itt)).unwrap();
        wire.send(&data_out(&r2t, 3, true, itt)).unwrap();
        let (Response::R2t(again), _) = next(wire) else { panic!("no recovery R2T") };
        assert_eq!((again.r2t_sn, again.offset_bytes, again.desired_bytes), (1, 1024, 3072));
        for data_sn in 0..3 {
            wire.send(&data_out(&again, data_sn, data_sn == 2, itt)).unwrap();
        }
        let (Response::Scsi(ScsiResponse { status: 0, .. }), _) = next(wire) else { panic!() };
        let read = session.read(10 + itt, 0, 8);
        session.first.send(&read).unwrap();
        let (pdus, _) = read_all(&mut session.first, 10 + itt);
        let data: Vec<u8> = pdus.into_iter().flat_map(|pdu| pdu.data).collect();
        assert!(data == pattern(itt, 0, 8, 512));
    }
}

#[test]
fn an_r2t_that_was_lost_is_sent_again() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let r2t = write_by_r2t(&mut session, 1);
    let wire = &mut session.first;
    wire.send(&snack(0, 1, 0, 1)).unwrap();
    let (Response::R2t(again), _) = next(wire) else { panic!("no R2T") };
    assert_eq!(R2t { exp_cmd_sn: 0, max_cmd_sn: 0, ..again }, R2t { exp_cmd_sn: 0, max_cmd_sn: 0, ..r2t });
    for data_sn in 0..4 {
        wire.send(&data_out(&r2t, data_sn, data_sn == 3, 1)).unwrap();
    }
    let (Response::Scsi(ScsiResponse { status: 0, .. }), _) = next(wire) else { panic!() };
}

#[test]
fn a_command_whose_immediate_data_were_spoilt_is_sent_again() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let digests = session.first_params.digests;
    let write = session.write(1, 3, 0, 2);
    let behind = session.command(2, &ready());
    let wire = &mut session.first;
    let mut bytes = Vec::new();
    write.encode_flawed(digests, Flaw { data_digest: true, ..Flaw::default() }, &mut bytes);
    wire.send_bytes(&bytes).unwrap();
    rejected(wire, 0x02, &write);
    wire.send(&behind).unwrap();
    acknowledge(wire, session.cmd_sn, 0);
    wire.send(&write).unwrap();
    // RFC 7143 §7.2.1: the gap is closed, and the one behind it runs.
    let mut ended = [1, 2].map(|_| {
        let (Response::Scsi(ScsiResponse { itt, status: 0, .. }), _) = next(wire) else { panic!() };
        itt
    });
    ended.sort_unstable();
    assert_eq!(ended, [1, 2]);
    let read = session.read(3, 0, 2);
    session.first.send(&read).unwrap();
    let (pdus, _) = read_all(&mut session.first, 3);
    assert!(pdus[0].data == pattern(3, 0, 2, 512));
}

pub(crate) fn reassign(itt: u32, cmd_sn: u32, exp_data_sn: u32) -> Pdu {
    let tmf = TmfRequest {
        immediate: true,
        function: 8,
        itt: 0x7777,
        referenced_itt: itt,
        cmd_sn,
        exp_data_sn,
        ..TmfRequest::default()
    };
    tmf.with([])
}

pub(crate) fn answered(wire: &mut Wire) -> u8 {
    let (Response::Tmf(TmfResponse { itt: 0x7777, response, .. }), _) = next(wire) else { panic!() };
    response
}

/// The first connection is lost with three commands: one in the device, one that waits for data, one whose answer was lost.
#[test]
fn commands_of_a_lost_connection_are_taken_over() {
    let world = World::start(setup(2));
    let mut session = begin(&world, 2);
    let mut second = session.join(&world, 2);
    let r2t = write_by_r2t(&mut session, 1);
    session.first.send(&data_out(&r2t, 0, false, 1)).unwrap();
    let rule = world.disks[0].order(Kind::Read, Fault::Hold, 1);
    let [read, done] = [session.read(2, 64, 8), session.command(3, &ready())];
    session.first.send(&read).unwrap();
    session.first.send(&done).unwrap();
    let (Response::Scsi(ScsiResponse { itt: 3, .. }), _) = next(&mut session.first) else { panic!() };
    let cmd_sn = session.cmd_sn;
    second.send(&reassign(2, cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut second), 3, "still allegiant");
    // It is lost, and the session hears of it by the logout only.
    let first = std::mem::replace(&mut session.first, Wire::connect(world.address()).unwrap());
    drop(first);
    let recovery =
        LogoutRequest { immediate: true, reason: 2, itt: 5, cid: 1, cmd_sn, ..LogoutRequest::default() };
    second.send(&recovery.with([])).unwrap();
    let (Response::Logout(LogoutResponse { response: 0, .. }), _) = next(&mut second) else { panic!() };
    world.disks[0].faults.release(rule);

    second.send(&reassign(9, cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut second), 1, "no such task");
    second.send(&reassign(3, cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut second), 0);
    let (Response::Scsi(ScsiResponse { itt: 3, status: 0, .. }), _) = next(&mut second) else { panic!() };
    second.send(&reassign(2, cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut second), 0);
    let (pdus, response) = read_all(&mut second, 2);
    assert_eq!((pdus.len(), response.status), (4, 0));
    second.send(&reassign(1, cmd_sn, 1)).unwrap();
    assert_eq!(answered(&mut second), 0);
    let (Response::R2t(again), _) = next(&mut second) else { panic!("no R2T") };
    assert_eq!((again.r2t_sn, again.offset_bytes, again.desired_bytes), (1, 0, 4096), "nothing was kept");
    for data_sn in 0..4 {
        second.send(&data_out(&again, data_sn, data_sn == 3, 1)).unwrap();
    }
    let (Response::Scsi(ScsiResponse { itt: 1, status: 0, .. }), _) = next(&mut second) else { panic!() };
    second.send(&reassign(1, cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut second), 3);
}

#[test]
fn a_read_goes_on_where_the_lost_connection_had_got_to() {
    let world = World::start(setup(2));
    let mut session = begin(&world, 2);
    let (pdus, _) = write_and_read(&mut session, 4, 8);
    // The same CID logs in again: that is the logout of the old connection (RFC 7143 §6.3.4).
    let mut again = session.join(&world, 1);
    assert_eq!(session.first.receive().unwrap(), None);
    again.send(&reassign(2, session.cmd_sn, 2)).unwrap();
    assert_eq!(answered(&mut again), 0);
    let (rest, response) = read_all(&mut again, 2);
    assert_eq!((rest.len(), response.status, response.exp_data_sn), (2, 0, 4));
    for (pdu, before) in rest.into_iter().zip(&pdus[2..]) {
        let (Response::DataIn(new), Response::DataIn(old)) =
            (Response::decode(&pdu.bhs), Response::decode(&before.bhs))
        else {
            panic!()
        };
        let place = |data: &DataIn| (data.data_sn, data.offset_bytes, data.final_bit);
        assert_eq!(place(&new), place(&old));
        assert!(pdu.data == before.data);
    }
}

/// The length of segments was changed behind the data: how many PDUs came does not say any more how many bytes did.
#[test]
fn a_read_whose_segments_were_of_another_length_begins_anew() {
    let world = World::start(setup(2));
    let mut session = begin(&world, 2);
    assert_eq!(write_and_read(&mut session, 4, 8).0.len(), 4);
    change_segments(&mut session.first, 4096);
    session.config.offer.max_recv_bytes = Some(4096);
    let mut again = session.join(&world, 1);
    assert_eq!(session.first.receive().unwrap(), None);
    // The first of its four PDUs came, of 1024 bytes.
    again.send(&reassign(2, session.cmd_sn, 1)).unwrap();
    assert_eq!(answered(&mut again), 0);
    let (pdus, response) = read_all(&mut again, 2);
    assert_eq!((pdus.len(), response.status, response.exp_data_sn), (1, 0, 1));
    assert!(pdus[0].data == pattern(4, 0, 8, 512));
}

/// All connections are lost, and the session waits for one.
#[test]
fn a_session_without_a_connection_waits_for_one() {
    let world = World::start(setup(2));
    let mut session = begin(&world, 2);
    let done = session.command(1, &ready());
    session.first.send(&done).unwrap();
    let (Response::Scsi(ScsiResponse { itt: 1, .. }), _) = next(&mut session.first) else { panic!() };
    let first = std::mem::replace(&mut session.first, Wire::connect(world.address()).unwrap());
    drop(first);
    let mut again = session.join(&world, 7);
    again.send(&reassign(1, session.cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut again), 3, "the old connection is not logged out");
    let cmd_sn = session.cmd_sn;
    let recovery =
        LogoutRequest { immediate: true, reason: 2, itt: 5, cid: 1, cmd_sn, ..LogoutRequest::default() };
    again.send(&recovery.with([])).unwrap();
    let (Response::Logout(LogoutResponse { response: 0, time2retain_s: 5, .. }), _) = next(&mut again) else {
        panic!()
    };
    again.send(&reassign(1, session.cmd_sn, 0)).unwrap();
    assert_eq!(answered(&mut again), 0);
    let (Response::Scsi(ScsiResponse { itt: 1, status: 0, .. }), _) = next(&mut again) else { panic!() };
}

#[test]
fn a_session_that_nobody_comes_back_to_ends() {
    let limits = Limits { time2retain: 1, ..setup(2).offer };
    let world = World::start(Setup { offer: limits, ..Setup::default() });
    drop(Session::begin(&world, Offer { default_time2retain_s: Some(1), ..offer(2) }));
    world.wait_sessions(0);
}

#[test]
fn levels_are_agreed_on_only_as_far_as_both_go() {
    let world = World::start(setup(1));
    let config = Config { offer: offer(2), ..crate::harness::config("a") };
    let (_, outcome) = world.wire(&config);
    assert_eq!(outcome.params.error_recovery_level, 1);
}
