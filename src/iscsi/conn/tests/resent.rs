//! Data that are kept, and sent again, at error recovery levels above 0.

use super::{Batch, Cx, Outcome, Request, World, scsi, stream};
use crate::iscsi::conn::Resent;
use crate::scsi::sense::Sense;
use crate::slab::Key;

/// StatSN of the first response.
const FIRST: u8 = 100;

/// A READ of two blocks.
fn read(number: u8) -> [u8; 48] {
    scsi(0xc0, number, 1024, &[0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0])
}

/// A SNACK for a run of the first command's data.
fn snack(first: u8, count: u8) -> [u8; 48] {
    let mut pdu = [0; 48];
    pdu[..2].copy_from_slice(&[0x10, 0x80]);
    (pdu[19], pdu[31], pdu[43], pdu[47]) = (1, FIRST, first, count);
    pdu[20..24].fill(0xff);
    pdu
}

impl World {
    /// The connection of all this: a block is a segment.
    fn resending() -> World {
        let mut world = World::of(true);
        world.conn.params.send_segment_bytes_max = 512;
        world
    }

    /// What a device has read: blocks full of these.
    fn read_came<const N: usize>(&mut self, key: Key, blocks: [u8; N]) {
        let mut data = self.pools[1].take(N * 512).unwrap();
        data.chunks_exact_mut(512).zip(blocks).for_each(|(block, value)| block.fill(value));
        self.conn.data_in(key, data, cx!(self));
    }

    fn sent(&mut self) -> Vec<u8> {
        let mut batch = Batch::new();
        self.conn.fill(&mut batch, &self.tx, &self.session);
        let stream = stream(&batch, &self.tx);
        assert!(!self.conn.sent(stream.len(), &batch, cx!(self)));
        assert!(!self.conn.has_output());
        stream
    }

    fn resend(&mut self, key: Key, first: u8, count: u8) -> Resent {
        assert_eq!(self.receive(&snack(first, count)), Some(Request::Resend(key)));
        self.conn.resend(key, cx!(self))
    }

    fn in_use(&self) -> usize {
        self.pools[1].in_use_count()
    }
}

/// Two Data-In PDUs without ExpCmdSN and MaxCmdSN, and what follows.
fn parts(stream: &[u8]) -> [Vec<u8>; 3] {
    let (first, rest) = stream.split_at(560);
    let (second, rest) = rest.split_at(560.min(rest.len()));
    [first, second, rest].map(|part| {
        let mut part = part.to_vec();
        part.get_mut(28..36).into_iter().for_each(|counters| counters.fill(0));
        part
    })
}

#[test]
fn data_are_kept_until_their_response_is_acknowledged() {
    let mut world = World::resending();
    let key = world.command(&read(1));
    world.read_came(key, [7, 8]);
    let [first, second, response] = parts(&world.sent());
    assert_eq!((first[48], second[48], response[0], world.in_use()), (7, 8, 0x21, 1));
    assert_eq!(world.resend(key, 1, 1), Resent::All);
    assert!(parts(&world.sent())[0] == second, "RFC 7143 §11.16: an exact replica");
    assert_eq!(world.resend(key, 0, 0), Resent::All);
    let again = parts(&world.sent());
    assert!(again == [first, second, Vec::new()]);
    assert_eq!(world.in_use(), 1, "copies are not kept");
    let mut acknowledgement = [0; 48];
    acknowledgement[..2].copy_from_slice(&[0x40, 0x80]);
    acknowledgement[16..24].fill(0xff);
    (acknowledgement[27], acknowledgement[31]) = (2, FIRST + 1);
    assert_eq!(world.receive(&acknowledgement), None);
    assert_eq!((world.in_use(), world.tasks.len()), (0, 0));
}

/// It is asked for before the rest has been sent, and before it was sent itself.
#[test]
fn data_that_wait_to_be_sent_can_be_sent_again() {
    let mut world = World::resending();
    let key = world.command(&read(1));
    world.read_came(key, [7]);
    assert_eq!(world.resend(key, 0, 1), Resent::All);
    let [first, again, rest] = parts(&world.sent());
    assert!(first == again && rest.is_empty());
    world.read_came(key, [8]);
    let [last, response, _] = parts(&world.sent());
    assert_eq!((last[48], response[0], response[39]), (8, 0x21, 2), "ExpDataSN");
}

#[test]
fn data_that_were_not_kept_end_their_command() {
    let mut world = World::resending();
    let key = world.command(&read(1));
    // Others have half of the buffers.
    let others = [(); 4].map(|()| world.pools[1].take(4096).unwrap());
    world.read_came(key, [7]);
    world.sent();
    assert_eq!(world.in_use(), others.len(), "it went back");
    assert_eq!(world.resend(key, 0, 1), Resent::Refused);
    let outcome = world.tasks.get(key).and_then(|task| task.outcome);
    assert_eq!(outcome, Some(Outcome::check(Sense::SNACK_REJECTED)), "RFC 7143 §7.8");
    assert!(world.conn.settle(key, cx!(world)));
    let stream = world.sent();
    assert_eq!((stream[0], stream[2], stream[96], stream[99]), (0x3f, 0x03, 0x21, 0x02));
}

#[test]
fn data_of_an_aborted_command_are_not_kept() {
    let mut world = World::resending();
    let key = world.command(&read(1));
    world.read_came(key, [7]);
    world.sent();
    // This one waits to be sent when its command is given up.
    let other = world.command(&read(2));
    world.read_came(other, [9]);
    for key in [key, other] {
        world.conn.abort(key, false, cx!(world));
        world.conn.retire(key, cx!(world));
    }
    assert_eq!(world.tasks.len(), 0);
    world.sent();
    assert_eq!(world.in_use(), 0);
}
