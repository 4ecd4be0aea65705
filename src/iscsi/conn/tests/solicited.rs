//! Data that were asked for and do not come as they should, and what cannot be queued.

use super::super::Life;
use super::{Cx, World, scsi, test_unit_ready};
use crate::iscsi::conn::{GoOn, Request, Solicit};
use crate::iscsi::error::Fatal;
use crate::iscsi::sn::Sn;
use crate::limits::DATA_OUT_NS;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// A WRITE of 4096 bytes that has been asked for, its R2T not sent yet; and a Data-Out for that, final and without data.
fn solicited(world: &mut World) -> (Key, [u8; 48]) {
    let write = world.command(&scsi(0xa0, 1, 4096, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0]));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::NeedsBuffer(4096));
    let buf = world.pools[1].take(4096).unwrap();
    world.conn.give_buffer(write, buf, cx!(world));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
    let ttt = world.tasks.get(write).unwrap().r2ts.front().unwrap().ttt;
    let mut data = [0; 48];
    data[..2].copy_from_slice(&[0x05, 0x80]);
    data[19] = 1;
    data[20..24].copy_from_slice(&ttt.to_be_bytes());
    (write, data)
}

/// It can only have been guessed, and would have another R2T made each time at error recovery levels above 0.
#[test]
fn data_for_an_r2t_that_was_not_sent_end_the_connection() {
    for retains in [false, true] {
        let mut world = World::of(retains);
        let (_, mut data) = solicited(&mut world);
        // DataSN 5: something before it was lost.
        data[39] = 5;
        let before = world.tx.len();
        assert!(matches!(world.conn.advance(&mut data.as_slice(), cx!(world)), Err(Fatal::Protocol(_))));
        assert_eq!(world.tx.len(), before);
    }
    // Once it has been sent, that is asked for again.
    let mut world = World::of(true);
    let (write, mut data) = solicited(&mut world);
    data[39] = 5;
    assert_eq!(world.send().len(), 1);
    assert_eq!(world.receive(&data), Some(Request::Piece(write)));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
    assert_eq!(world.send().len(), 1);
}

/// Buffers are kept for data, not for headers.
#[test]
fn data_outs_without_data_are_no_progress() {
    for (retains, is_final, data_sn) in [(false, 0, 0), (true, 0x80, 5)] {
        let mut world = World::of(retains);
        let (write, mut data) = solicited(&mut world);
        (data[1], data[39]) = (is_final, data_sn);
        assert_eq!(world.send().len(), 1);
        world.now = Tick::from_ns(DATA_OUT_NS / 2);
        let asks_again = world.receive(&data) == Some(Request::Piece(write));
        assert_eq!(asks_again, retains);
        assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
        assert_eq!(world.send().len(), usize::from(retains));
        assert_eq!(world.conn.deadline(&*cx!(world)), Some(Tick::from_ns(DATA_OUT_NS)));
        world.now = Tick::from_ns(DATA_OUT_NS);
        assert_eq!(world.conn.expired(cx!(world)), Err(Fatal::DataOutLate));
    }
}

/// A WRITE that lost data, and then its connection, waits there for a buffer: for that its new connection owes nothing.
#[test]
fn data_that_a_new_connection_is_asked_for_late_are_not_late() {
    let mut world = World::of(true);
    let (write, mut data) = solicited(&mut world);
    data[39] = 5;
    assert_eq!(world.send().len(), 1);
    assert_eq!(world.receive(&data), Some(Request::Piece(write)), "all is to be asked for again");
    world.conn.lose(true, cx!(world));
    // It stands for the new one as well.
    world.conn.life = Life::Open;
    world.now = Tick::from_ns(DATA_OUT_NS);
    assert_eq!(world.conn.take_over(write, Sn(1), 8192, 1, 512, cx!(world)), GoOn::Write);
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::NeedsBuffer(4096));
    world.now = Tick::from_ns(3 * DATA_OUT_NS);
    let buf = world.pools[1].take(4096).unwrap();
    world.conn.give_buffer(write, buf, cx!(world));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
    assert_eq!(world.send().len(), 1);
    assert_eq!(world.conn.deadline(&*cx!(world)), Some(Tick::from_ns(4 * DATA_OUT_NS)));
    assert_eq!(world.conn.expired(cx!(world)), Ok(()));
}

#[test]
fn a_command_behind_one_that_cannot_come_does_not_wait_for_ever() {
    for (retains, conns, ends) in [(false, 1, true), (true, 1, false), (false, 2, false)] {
        let mut world = World::of(retains);
        assert!((0..conns).all(|index| world.session.enter(Key { index, generation: 0 })));
        world.now = Tick::from_ns(7);
        assert_eq!(world.receive(&test_unit_ready(2)), None, "the first has not come");
        world.now = Tick::from_ns(7 + DATA_OUT_NS);
        assert_eq!(world.conn.deadline(&*cx!(world)), ends.then_some(world.now));
        assert_eq!(matches!(world.conn.expired(cx!(world)), Err(Fatal::Protocol(_))), ends);
    }
}

#[test]
fn a_connection_whose_answers_found_no_room_ends() {
    let mut world = World::new();
    world.tx = Slab::new(2);
    for number in 1..=3 {
        assert!(world.conn.wants_input());
        let key = world.command(&test_unit_ready(number));
        world.end(key);
    }
    assert!(!world.conn.wants_input() && !world.conn.has_output(), "nothing is said as if all were there");
    assert_eq!((world.session.window.unanswered(), world.tx.len()), (0, 0));
    assert_eq!(world.conn.deadline(&*cx!(world)), Some(world.now));
    assert_eq!(world.conn.expired(cx!(world)), Err(Fatal::SlowReader));
}
