//! R-Data SNACK (RFC 7143 §11.16.3), and what recovery may hold in memory.

use std::time::Duration;

use lunette::bdev::error::{Fault, Kind};
use lunette::reactor::{Bug, Planted};
use lunette_initiator::pdu::request::{LogoutRequest, NopOut, ScsiCommand, Snack, TmfRequest};
use lunette_initiator::pdu::response::{DataIn, LogoutResponse, Response};
use lunette_initiator::pdu::{NO_TAG, Pdu};
use lunette_initiator::scsi::{cdb, status};
use lunette_initiator::socket::Wire;
use lunette_initiator::{Client, Command, Offer};

use crate::connections::{Session, is_quiet, next};
use crate::harness::{SOON, Setup, World, config, pattern, write};
use crate::recovery::{
    begin, change_segments, offer, read_all, rejected, send_write, setup, snack, write_and_read,
};

pub(crate) fn r_data(itt: u32, tag: u32) -> Pdu {
    Snack { kind: 3, itt, ttt: tag, ..Snack::default() }.with([])
}

/// Of each Data-In: DataSN, offset, bytes, and whether it is final.
fn places(pdus: &[Pdu]) -> Vec<(u32, u32, usize, bool)> {
    let place = |pdu: &Pdu| match Response::decode(&pdu.bhs) {
        Response::DataIn(DataIn { data_sn, offset_bytes, final_bit, .. }) => {
            (data_sn, offset_bytes, pdu.data.len(), final_bit)
        }
        other => panic!("{other:?}"),
    };
    pdus.iter().map(place).collect()
}

fn joined(pdus: Vec<Pdu>) -> Vec<u8> {
    pdus.into_iter().flat_map(|pdu| pdu.data).collect()
}

#[test]
fn data_come_again_in_shorter_segments_and_the_response_is_tagged() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let (pdus, response) = write_and_read(&mut session, 9, 4);
    assert_eq!(places(&pdus), [(0, 0, 1024, false), (1, 1024, 1024, true)]);
    assert_eq!((response.exp_data_sn, response.snack_tag), (2, 0));

    let wire = &mut session.first;
    change_segments(wire, 512);
    wire.send(&r_data(2, 0xabcd)).unwrap();
    let (pdus, again) = read_all(wire, 2);
    assert_eq!(
        places(&pdus),
        [(0, 0, 512, false), (1, 512, 512, false), (2, 1024, 512, false), (3, 1536, 512, true)]
    );
    assert!(joined(pdus) == pattern(9, 0, 4, 512));
    assert_eq!((again.exp_data_sn, again.snack_tag, again.status), (4, 0xabcd, 0));
    assert_eq!(again.stat_sn, response.stat_sn, "RFC 7143 §11.16.3: one StatSN");
    // A status that is asked for once more is the latest.
    wire.send(&snack(1, NO_TAG, response.stat_sn, 1)).unwrap();
    let (Response::Scsi(latest), _) = next(wire) else { panic!("no status") };
    assert_eq!((latest.exp_data_sn, latest.snack_tag, latest.stat_sn), (4, 0xabcd, response.stat_sn));

    // No tag, and a run.
    for refused in [
        r_data(2, 0),
        r_data(2, NO_TAG),
        Snack { kind: 3, itt: 2, ttt: 9, begin: 1, ..Snack::default() }.with([]),
    ] {
        wire.send(&refused).unwrap();
        rejected(wire, 0x09, &refused);
    }
    wire.send(&r_data(77, 5)).unwrap();
    rejected(wire, 0x04, &r_data(77, 5));
}

#[test]
fn a_read_that_is_under_way_begins_anew() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let write = session.write(1, 9, 0, 8);
    send_write(&mut session.first, &write);
    let rule = world.disks[0].order(Kind::Read, Fault::Hold, 1);
    let read = session.read(2, 0, 8);
    session.first.send(&read).unwrap();
    assert!(is_quiet(&mut session.first, session.cmd_sn), "the device has it");
    session.first.send(&r_data(2, 5)).unwrap();
    let pdus = [(); 4].map(|()| session.first.receive().unwrap().unwrap());
    assert!(places(&pdus).iter().map(|place| place.0).eq(0..4));
    assert!(joined(pdus.to_vec()) == pattern(9, 0, 8, 512));
    world.disks[0].faults.release(rule);
    let (more, response) = read_all(&mut session.first, 2);
    assert_eq!((more.len(), response.status, response.exp_data_sn, response.snack_tag), (0, 0, 4, 5));
    assert!(is_quiet(&mut session.first, session.cmd_sn), "what was read first is nobody's");
}

/// A READ of three pieces, of which the device has two, begins anew. Whether all of it comes, once and as it is.
fn is_whole(planted: Planted, patience: Duration) -> bool {
    const BLOCKS: u16 = 1536;
    let world = World::start(Setup { planted, ..setup(1) });
    let mut other = world.client("b");
    assert!(other.run(write(9, 0, BLOCKS.into())).unwrap().is_good());
    let wide = Offer { error_recovery_level: Some(1), ..Offer::usual() };
    let mut session = Session::begin(&world, wide);
    let rules = [(); 2].map(|()| world.disks[0].order(Kind::Read, Fault::Hold, 1));
    let read = session.read(2, 0, BLOCKS);
    let wire = &mut session.first;
    wire.send(&read).unwrap();
    assert!(is_quiet(wire, session.cmd_sn), "the device has two pieces");
    wire.send(&r_data(2, 5)).unwrap();
    assert!(is_quiet(wire, session.cmd_sn));
    rules.into_iter().rev().for_each(|rule| world.disks[0].faults.release(rule));
    wire.set_timeout(patience);
    let (mut data, mut data_sn) = (Vec::new(), 0);
    while let Ok(Some(pdu)) = wire.receive() {
        match Response::decode(&pdu.bhs) {
            Response::DataIn(place)
                if (place.data_sn, place.offset_bytes as usize) == (data_sn, data.len()) =>
            {
                data_sn += 1;
                data.extend(pdu.data);
            }
            Response::Scsi(end) => {
                return (end.status, end.snack_tag, end.exp_data_sn) == (0, 5, data_sn)
                    && data == pattern(9, 0, BLOCKS.into(), 512);
            }
            _ => return false,
        }
    }
    false
}

#[test]
fn pieces_of_before_are_none_of_a_read_that_begins_anew() {
    assert!(is_whole(Planted::default(), SOON));
}

/// Were they taken for some, that would be seen.
#[test]
fn a_target_that_takes_pieces_of_before_is_found_out() {
    assert!(!is_whole(Planted::bug(Bug::RestartOverlooked), Duration::from_secs(3)));
}

/// Its data have been sent, and its status waits for a fence: they come again, and the status has the tag.
#[test]
fn a_read_behind_a_fence_begins_anew() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let written = session.write(1, 9, 0, 4);
    send_write(&mut session.first, &written);
    let (mut second, outcome) = world.wire(&session.config.joining(session.tsih, 2));
    let abort = TmfRequest {
        immediate: true,
        function: 2,
        itt: 9,
        cmd_sn: session.cmd_sn,
        exp_stat_sn: outcome.exp_stat_sn.0,
        ..TmfRequest::default()
    };
    second.send(&abort.with([])).unwrap();
    // The status of the WRITE has not been acknowledged.
    let (Response::NopIn(question), _) = next(&mut session.first) else { panic!("no question") };
    let read = session.read(2, 0, 4);
    session.first.send(&read).unwrap();
    for asked in [None, Some(r_data(2, 7))] {
        asked.iter().for_each(|snack| session.first.send(snack).unwrap());
        let pdus = [(); 2].map(|()| session.first.receive().unwrap().unwrap());
        assert_eq!(places(&pdus), [(0, 0, 1024, false), (1, 1024, 1024, true)]);
        assert!(joined(pdus.to_vec()) == pattern(9, 0, 4, 512));
    }
    let answer = |ttt, exp_stat_sn| {
        let cmd_sn = session.cmd_sn;
        NopOut { immediate: true, itt: NO_TAG, ttt, cmd_sn, exp_stat_sn, ..NopOut::default() }.with([])
    };
    session.first.send(&answer(question.ttt, question.stat_sn)).unwrap();
    let (Response::Tmf(reply), _) = next(&mut second) else { panic!("no answer") };
    assert_eq!((reply.itt, reply.response), (9, 0));
    let (Response::NopIn(question), _) = next(&mut second) else { panic!("no question") };
    second.send(&answer(question.ttt, question.stat_sn)).unwrap();
    let (more, response) = read_all(&mut session.first, 2);
    assert_eq!((more.len(), response.status, response.exp_data_sn, response.snack_tag), (0, 0, 2, 7));
}

/// Its response was tagged, and is lost with its connection: the one that TASK REASSIGN brings has no tag of before.
#[test]
fn a_tag_of_a_lost_connection_is_none_of_the_next() {
    let world = World::start(setup(2));
    let mut session = begin(&world, 2);
    let read = session.read(2, 0, 4);
    session.first.send(&read).unwrap();
    let (_, response) = read_all(&mut session.first, 2);
    assert_eq!(response.snack_tag, 0);
    session.first.send(&r_data(2, 0xabcd)).unwrap();
    let (_, response) = read_all(&mut session.first, 2);
    assert_eq!(response.snack_tag, 0xabcd);
    // The same CID logs in again: that is the logout of the old connection (RFC 7143 §6.3.4).
    let mut again = session.join(&world, 1);
    again.send(&crate::recovery::reassign(2, session.cmd_sn, 0)).unwrap();
    assert_eq!(crate::recovery::answered(&mut again), 0);
    let (pdus, response) = read_all(&mut again, 2);
    assert_eq!((pdus.len(), response.status, response.exp_data_sn, response.snack_tag), (2, 0, 2, 0));
    // A tag of this connection counts.
    again.send(&r_data(2, 9)).unwrap();
    let (_, response) = read_all(&mut again, 2);
    assert_eq!(response.snack_tag, 9);
}

/// A WRITE of 256 KiB, the first of its data with it.
fn begun(session: &mut Session, itt: u32) -> Pdu {
    let command = ScsiCommand {
        write: true,
        expected_bytes: 256 * 1024,
        cdb: cdb::write_10(0, 512, cdb::Flags::default()),
        ..ScsiCommand::default()
    };
    let mut header = session.command(itt, &command);
    // F: more comes unasked.
    header.bhs.0[1] &= 0x7f;
    Pdu::new(header.bhs, vec![itt.to_le_bytes()[0]; 512])
}

fn write_status(client: &mut Client) -> u8 {
    let cdb = cdb::write_10(1024, 512, cdb::Flags::default());
    client.run(Command::write(0, cdb, vec![5; 256 * 1024])).unwrap().status
}

#[test]
fn a_connection_that_is_lost_keeps_no_buffers() {
    let world = World::start(Setup { pool_bytes: 3 << 20, ..setup(2) });
    let mut session = begin(&world, 2);
    let mut other = world.client("b");
    let mut itt = 1;
    while write_status(&mut other) == status::GOOD {
        assert!(itt < 100, "buffers without end");
        let command = begun(&mut session, itt);
        session.first.send(&command).unwrap();
        assert!(is_quiet(&mut session.first, session.cmd_sn), "its data are awaited");
        itt += 1;
    }
    let mut second: Wire = session.join(&world, 2);
    let recovery = LogoutRequest {
        immediate: true,
        reason: 2,
        itt: 0x999,
        cid: 1,
        cmd_sn: session.cmd_sn,
        ..LogoutRequest::default()
    };
    second.send(&recovery.with([])).unwrap();
    let (Response::Logout(LogoutResponse { response: 0, .. }), _) = next(&mut second) else { panic!() };
    assert_eq!(write_status(&mut other), status::GOOD, "they were given back");
    // A command that is taken over asks for all of its data.
    second.send(&crate::recovery::reassign(1, session.cmd_sn, 0)).unwrap();
    assert_eq!(crate::recovery::answered(&mut second), 0);
    let (Response::R2t(r2t), _) = next(&mut second) else { panic!("no R2T") };
    assert_eq!((r2t.itt, r2t.r2t_sn, r2t.offset_bytes, r2t.desired_bytes), (1, 0, 0, 4096));
    assert_eq!(offer(2).max_burst_bytes, Some(4096));
    let answer =
        world.login(config("c")).run(Command::read(0, cdb::read_10(0, 1, cdb::Flags::default()), 512));
    assert!(answer.unwrap().data == vec![0; 512], "nothing has landed");
}
