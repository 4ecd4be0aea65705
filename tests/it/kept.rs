//! Data that were sent and are kept so that they can be sent again (RFC 7143 §7.8, §11.16), and what that may hold in memory.

use lunette_initiator::pdu::NO_TAG;
use lunette_initiator::pdu::request::{NopOut, ScsiCommand, TextRequest};
use lunette_initiator::pdu::response::{DataIn, Reject, Response, ScsiResponse};
use lunette_initiator::{Offer, scsi::cdb};

use crate::connections::{Session, next, ready};
use crate::harness::{Setup, World, pattern, read, write};
use crate::recovery::{begin, read_all, rejected, replica, send_write, setup, snack};
use crate::resend::r_data;

/// Whoever has written there since, on whichever reactor.
#[test]
fn data_that_have_changed_since_are_sent_again_as_they_were() {
    let world = World::start(Setup { reactors: 2, ..setup(1) });
    let mut other = world.client("b");
    assert!(other.run(write(9, 0, 8)).unwrap().is_good());
    let mut session = begin(&world, 1);
    let placement = world.placement();
    assert_ne!(placement[0], placement[1], "each has a reactor of its own");
    let [lost, own, last] = [session.read(2, 0, 8), session.write(3, 11, 0, 2), session.read(4, 0, 8)];
    let wire = &mut session.first;
    wire.send(&lost).unwrap();
    let (pdus, response) = read_all(wire, 2);
    assert!(other.run(write(10, 0, 8)).unwrap().is_good());
    send_write(wire, &own);
    for (first, count, expected) in [(1, 1, 1..2), (0, 0, 0..4)] {
        wire.send(&snack(0, 2, first, count)).unwrap();
        for pdu in &pdus[expected] {
            let again = wire.receive().unwrap().unwrap();
            assert!(replica(again) == replica(pdu.clone()), "RFC 7143 §11.16: exact replicas");
        }
    }
    wire.send(&r_data(2, 7)).unwrap();
    let (again, tagged) = read_all(wire, 2);
    assert!(again.into_iter().flat_map(|pdu| pdu.data).eq(pattern(9, 0, 8, 512)));
    assert_eq!((tagged.snack_tag, tagged.status, tagged.stat_sn), (7, 0, response.stat_sn));
    // A READ that comes now finds what is there now.
    wire.send(&last).unwrap();
    let (now, _) = read_all(wire, 4);
    let both = [pattern(11, 0, 2, 512), pattern(10, 2, 6, 512)].concat();
    assert!(now.into_iter().flat_map(|pdu| pdu.data).eq(both));
}

/// RFC 7143 §7.8: what cannot be sent again is rejected. Data are kept only where others have buffers enough.
#[test]
fn data_that_were_not_kept_are_not_sent_again() {
    let world = World::start(Setup { pool_bytes: 8 << 20, ..setup(1) });
    let wide = Offer { error_recovery_level: Some(1), ..Offer::usual() };
    let mut session = Session::begin(&world, wide);
    let [read, behind] = [session.read(2, 0, 16 * 1024), session.command(3, &ready())];
    let wire = &mut session.first;
    wire.send(&read).unwrap();
    let (pdus, response) = read_all(wire, 2);
    assert_eq!(response.status, 0);
    assert_eq!(world.client("b").read(0, 2048).unwrap(), vec![0; 1 << 20], "others have buffers");
    let all = snack(0, 2, 0, 0);
    wire.send(&all).unwrap();
    let mut again = 0;
    let refused = loop {
        let pdu = wire.receive().unwrap().expect("a PDU");
        match Response::decode(&pdu.bhs) {
            Response::DataIn(_) => assert!(replica(pdu) == replica(pdus[again].clone())),
            Response::Reject(Reject { reason: 0x03, .. }) => break pdu.data,
            other => panic!("{other:?}"),
        }
        again += 1;
    };
    assert!(again < pdus.len() && refused[..] == all.bhs.0[..]);
    wire.send(&behind).unwrap();
    assert!(matches!(next(wire), (Response::Scsi(ScsiResponse { itt: 3, status: 0, .. }), _)));
}

#[test]
fn a_report_is_sent_again() {
    let world = World::start(setup(1));
    let mut session = begin(&world, 1);
    let inquiry =
        ScsiCommand { read: true, expected_bytes: 96, cdb: cdb::inquiry(96), ..ScsiCommand::default() };
    let command = session.command(2, &inquiry);
    let wire = &mut session.first;
    wire.send(&command).unwrap();
    let (pdus, response) = read_all(wire, 2);
    wire.send(&snack(0, 2, 0, 0)).unwrap();
    assert!(replica(wire.receive().unwrap().unwrap()) == replica(pdus[0].clone()));
    wire.send(&r_data(2, 7)).unwrap();
    let (again, tagged) = read_all(wire, 2);
    assert!(again.len() == 1 && again[0].data == pdus[0].data);
    assert_eq!((tagged.snack_tag, tagged.stat_sn), (7, response.stat_sn));
}

/// An initiator asks for 1 MiB once more, over and over, and does not read: others have buffers all the same.
#[test]
fn data_that_are_sent_again_leave_memory_to_others() {
    let world = World::start(setup(1));
    let wide = Offer { error_recovery_level: Some(1), ..Offer::usual() };
    let mut session = Session::begin(&world, wide);
    assert_eq!(session.first_params.error_recovery_level, 1);
    let read = session.read(2, 0, 2048);
    let wire = &mut session.first;
    wire.send(&read).unwrap();
    let (pdus, _) = read_all(wire, 2);
    let mut other = world.client("b");
    for _ in 0..32 {
        wire.send(&snack(0, 2, 0, 0)).unwrap();
        assert!(other.read(0, 2048).unwrap() == vec![0; 1 << 20]);
    }
    for _ in &pdus {
        let again = wire.receive().unwrap().unwrap();
        let Response::DataIn(DataIn { data_sn, .. }) = Response::decode(&again.bhs) else {
            panic!("no data")
        };
        assert!(replica(again) == replica(pdus[data_sn as usize].clone()));
    }
}

/// The same with echoes, which are as long as one likes.
#[test]
fn echoes_that_are_sent_again_leave_memory_to_others() {
    let world = World::start(setup(1));
    let wide = Offer { error_recovery_level: Some(1), ..Offer::usual() };
    let mut session = Session::begin(&world, wide);
    let cmd_sn = session.cmd_sn;
    let wire = &mut session.first;
    let stat_sns = [10, 11].map(|itt| {
        let ping = NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn, ..NopOut::default() };
        wire.send(&ping.with(vec![5; 200 * 1024])).unwrap();
        let (Response::NopIn(echo), _) = next(wire) else { panic!("no echo") };
        echo.stat_sn
    });
    let mut other = world.client("b");
    for _ in 0..64 {
        wire.send(&snack(1, NO_TAG, stat_sns[0], 2)).unwrap();
        assert!(other.read(0, 512).unwrap() == vec![0; 256 * 1024]);
    }
}

/// Two sessions have everything sent to them that there is, and acknowledge nothing: the READs and WRITEs of a third are carried out
/// all the same, with their data and without waiting for R2Ts.
#[test]
fn what_nobody_acknowledges_leaves_memory_to_others() {
    const SILENT: [&str; 2] = ["a", "c"];
    let world = World::start(Setup { pool_bytes: 8 << 20, ..setup(1) });
    let wide = Offer { error_recovery_level: Some(1), ..Offer::usual() };
    let mut other = world.client("b");
    let mut last = None;
    for name in SILENT {
        let mut session = Session::begin_as(&world, name, wide.clone());
        for itt in 1..=40 {
            let cmd_sn = session.cmd_sn;
            // An echo and a text, each of which has a buffer of 16 KiB, and data of every size.
            let ping = NopOut { immediate: true, itt, ttt: NO_TAG, cmd_sn, ..NopOut::default() };
            session.first.send(&ping.with(vec![5; 5000])).unwrap();
            assert!(matches!(next(&mut session.first), (Response::NopIn(_), _)));
            let question = TextRequest {
                immediate: true,
                final_bit: true,
                itt,
                ttt: NO_TAG,
                cmd_sn,
                ..TextRequest::default()
            };
            session.first.send(&question.with(*b"X-nobody-knows-what-this-key-may-be-good-for=1\0")).unwrap();
            let (Response::Text(text), _) = next(&mut session.first) else { panic!("no answer") };
            last = Some(text.stat_sn);
            let blocks = [8, 32, 128, 512][itt as usize % 4];
            let read = session.read(itt, 0, blocks);
            session.first.send(&read).unwrap();
            let (_, response) = read_all(&mut session.first, itt);
            assert_eq!(response.status, 0);
        }
        for blocks in [1, 8, 32, 128, 512] {
            assert!(other.run(write(blocks, 0, blocks)).unwrap().is_good());
            assert!(other.run(read(0, blocks)).unwrap().data == pattern(blocks, 0, blocks, 512));
        }
        let asked = snack(1, NO_TAG, last.unwrap(), 1);
        session.first.send(&asked).unwrap();
        rejected(&mut session.first, 0x03, &asked);
    }
}
