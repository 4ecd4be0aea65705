//! What commands leave behind that end without an answer: who does not read would have any number of items made otherwise, each
//! round of commands that are given up making room for the next.

use super::{Batch, Cx, Request, World, scsi};
use crate::iscsi::conn::Solicit;
use crate::iscsi::error::Fatal;
use crate::slab::Key;

/// A WRITE of 4096 bytes for which eight R2Ts wait to be sent.
fn asked(world: &mut World, number: u8) -> Key {
    (world.conn.params.outstanding_r2t_max, world.conn.params.max_burst_bytes) = (8, 512);
    let write = world.command(&scsi(0xa0, number, 4096, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0]));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::NeedsBuffer(4096));
    let buf = world.pools[1].take(4096).unwrap();
    world.conn.give_buffer(write, buf, cx!(world));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
    assert_eq!(world.tasks.get(write).unwrap().r2ts.len(), 8);
    write
}

/// A READ of a block whose data wait to be sent, and whose status waits for a fence.
fn read_behind_a_fence(world: &mut World, number: u8) -> Key {
    world.session.raise_fence();
    let read = world.command(&scsi(0xc0, number, 512, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    data_came(world, read);
    read
}

fn data_came(world: &mut World, read: Key) {
    let data = world.pools[1].take(512).unwrap();
    world.conn.data_in(read, data, cx!(world));
}

fn give_up(world: &mut World, key: Key) {
    world.conn.abort(key, false, cx!(world));
    world.conn.retire(key, cx!(world));
}

fn send(world: &mut World, bytes: usize) {
    let mut batch = Batch::new();
    world.conn.fill(&mut batch, &world.tx, &world.session);
    assert!(!world.conn.sent(bytes, &batch, cx!(world)));
}

/// It may be on its way.
const FIRST_STAYS: usize = 1;

#[test]
fn r2ts_of_aborted_writes_do_not_pile_up() {
    let mut world = World::new();
    for number in 1..=40 {
        let write = asked(&mut world, number);
        give_up(&mut world, write);
        assert_eq!(world.tx.len(), FIRST_STAYS);
        assert!(!world.conn.is_flooded(), "the session goes on");
    }
    assert_eq!(world.send().len(), FIRST_STAYS);
    assert_eq!((world.tasks.len(), world.pools[1].in_use_count()), (0, 0));
}

#[test]
fn r2ts_of_a_connection_that_logs_out_do_not_pile_up() {
    let mut world = World::new();
    for number in 1..=3 {
        asked(&mut world, number);
    }
    world.conn.abandon_all(cx!(world));
    assert_eq!(world.tx.len(), FIRST_STAYS);
}

/// Which of them have been sent is known as before.
#[test]
fn r2ts_behind_those_of_an_aborted_write_are_answered() {
    let r2t = 48;
    for (bytes, is_sent) in [(0, false), (2 * r2t - 1, false), (2 * r2t, true)] {
        let mut world = World::new();
        let aborted = asked(&mut world, 1);
        let write = asked(&mut world, 2);
        give_up(&mut world, aborted);
        let behind = asked(&mut world, 3);
        assert_eq!(world.tx.len(), FIRST_STAYS + 8 + 8);
        send(&mut world, bytes);
        let data_out = |world: &World, key: Key, number: u8| {
            let mut data = [0; 48 + 512];
            (data[0], data[1], data[6], data[19]) = (0x05, 0x80, 2, number);
            let ttt = world.tasks.get(key).unwrap().r2ts.front().unwrap().ttt;
            data[20..24].copy_from_slice(&ttt.to_be_bytes());
            data
        };
        let data = data_out(&world, write, 2);
        if is_sent {
            assert_eq!(world.receive(&data), Some(Request::Piece(write)));
            assert_eq!(world.send().len(), 7 + 8, "in order, to the last");
            let data = data_out(&world, behind, 3);
            assert_eq!(world.receive(&data), Some(Request::Piece(behind)));
        } else {
            let end = world.conn.advance(&mut data.as_slice(), cx!(world));
            assert!(matches!(end, Err(Fatal::Protocol(_))), "{bytes} bytes were sent: {end:?}");
        }
    }
}

#[test]
fn data_of_aborted_reads_do_not_pile_up() {
    let mut world = World::new();
    for number in 1..=40 {
        let read = read_behind_a_fence(&mut world, number);
        give_up(&mut world, read);
        assert_eq!((world.tx.len(), world.conn.unsent_bytes()), (FIRST_STAYS, 512));
    }
    assert_eq!(world.pools[1].in_use_count(), 1);
    send(&mut world, 48 + 512);
    assert_eq!((world.tx.len(), world.conn.unsent_bytes()), (0, 0));
}

#[test]
fn data_of_a_read_that_begins_anew_do_not_pile_up() {
    let mut world = World::of(true);
    let read = read_behind_a_fence(&mut world, 1);
    let mut r_data_snack = [0; 48];
    (r_data_snack[0], r_data_snack[1]) = (0x10, 0x83);
    (r_data_snack[19], r_data_snack[23], r_data_snack[31]) = (1, 7, 100);
    for _ in 0..5 {
        assert_eq!(world.receive(&r_data_snack), Some(Request::ReadAnew(read)));
        world.conn.begin_anew(read, 1, cx!(world));
        assert_eq!((world.tx.len(), world.conn.unsent_bytes()), (FIRST_STAYS, 512));
        data_came(&mut world, read);
    }
    assert_eq!(world.tx.len(), FIRST_STAYS + 1);
}

/// It would free the places of commands whose R2Ts wait to be sent.
#[test]
fn a_termination_of_which_nobody_has_been_told_is_not_acknowledged() {
    let mut world = World::new();
    world.conn.params.fast_abort = true;
    let write = asked(&mut world, 1);
    assert!(world.conn.tell_terminated([0; 8], &|_| true, cx!(world)));
    world.conn.abort(write, false, cx!(world));
    let mut nop = [0; 48];
    nop[..2].copy_from_slice(&[0x40, 0x80]);
    nop[16..24].fill(0xff);
    // StatSN of the message is 100.
    (nop[27], nop[31]) = (2, 101);
    assert_eq!(world.receive(&nop), None);
    assert!(world.tasks.get(write).unwrap().is_owed_data());
    assert_eq!(world.send().len(), 8 + 1);
    assert_eq!(world.receive(&nop), Some(Request::Terminated));
    assert!(!world.tasks.get(write).unwrap().is_owed_data());
}

/// A new command may have the tag of one that a device still has.
#[test]
fn what_another_command_of_the_same_tag_has_queued_is_sent() {
    let mut world = World::new();
    let old = asked(&mut world, 1);
    assert_eq!(world.send().len(), 8);
    world.tasks.get_mut(old).unwrap().ios = 1;
    world.conn.abort(old, false, cx!(world));
    // R2Ts behind another's, of which the first may be on its way.
    asked(&mut world, 2);
    let mut again = scsi(0xa0, 3, 4096, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    again[19] = 1;
    let new = world.command(&again);
    assert_eq!(world.conn.solicit(new, cx!(world)), Solicit::NeedsBuffer(4096));
    let buf = world.pools[1].take(4096).unwrap();
    world.conn.give_buffer(new, buf, cx!(world));
    assert_eq!(world.conn.solicit(new, cx!(world)), Solicit::Asked);
    world.tasks.get_mut(old).unwrap().ios = 0;
    world.conn.retire(old, cx!(world));
    assert!(world.tasks.get(old).is_none());
    assert_eq!(world.send().len(), 8 + 8);
}
