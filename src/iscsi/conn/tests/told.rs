//! What is told though nobody asks, and what is refused for want of memory.

use super::{Cx, World, scsi};
use crate::iscsi::conn::{Request, Solicit};
use crate::limits::TEXT_BYTES_MAX;

/// Its function has been answered, so that no other PDU tells it (RFC 7143 §11.4.11).
#[test]
fn a_place_that_an_aborted_command_gives_back_late() {
    let mut world = World::new();
    let write = world.command(&scsi(0xa0, 1, 512, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::NeedsBuffer(512));
    let buf = world.pools[1].take(512).unwrap();
    world.conn.give_buffer(write, buf, cx!(world));
    assert_eq!(world.conn.solicit(write, cx!(world)), Solicit::Asked);
    let r2t = world.send().remove(0);
    assert_eq!((r2t[0], &r2t[28..36]), (0x31, &[0, 0, 0, 2, 0, 0, 0, 8][..]));
    world.conn.abort(write, false, cx!(world));
    assert!(!world.conn.has_output());

    let mut data = [0; 48 + 512];
    data[..2].copy_from_slice(&[0x05, 0x80]);
    data[5..8].copy_from_slice(&[0, 2, 0]);
    data[16..24].copy_from_slice(&r2t[16..24]);
    assert_eq!(world.receive(&data), Some(Request::Settle(write)));
    assert!(world.conn.settle(write, cx!(world)));
    let nop = world.send();
    assert_eq!(nop.len(), 1);
    assert_eq!(nop[0][..20], [0x20, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // No tag, the next StatSN, ExpCmdSN, MaxCmdSN.
    assert_eq!(nop[0][20..36], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 100, 0, 0, 0, 2, 0, 0, 0, 9]);
}

#[test]
fn a_text_for_which_there_is_no_buffer_may_come_again() {
    let mut world = World::new();
    let taken: Vec<_> = std::iter::from_fn(|| world.pools[1].take(TEXT_BYTES_MAX)).collect();
    assert!(!taken.is_empty());
    let mut text = [0; 48];
    text[..2].copy_from_slice(&[0x44, 0x80]);
    text[20..24].fill(0xff);
    text[27] = 1;
    assert_eq!(world.receive(&text), None);
    let reject = world.send().remove(0);
    assert_eq!(reject[..3], [0x3f, 0x80, 0x0a]);
    drop(taken);
    assert_eq!(world.receive(&text), None);
    assert_eq!(world.send()[0][0], 0x24);
}
