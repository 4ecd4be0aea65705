//! What a controller must not do, and what it is told.

use super::target::{PLAIN, Style, Target};
use super::{Memory, Piece, digests};
use crate::bdev::nvme::spec::{Command, nvm};
use crate::bdev::nvme::tcp::wire::{Data, Wire};

const READ: u16 = 0x0100;
const WRITE: u16 = 0x0101;

/// A machine that is open, with a read of 1024 bytes and a write of 65536 bytes that the controller knows.
struct World {
    style: Style,
    wire: Wire,
    memory: Memory,
}

impl World {
    fn new() -> World {
        World::with(PLAIN)
    }

    fn with(style: Style) -> World {
        let mut world = World::closed(style);
        let mut target = Target::new(style, 1);
        target.feed(&world.sent());
        world.receive(&target.output);
        let command = |opcode| Command { opcode, nsid: 1, ..Command::default() };
        world.memory.0.push(Piece { cid: READ, is_read: true, data: vec![0xEE; 1024] });
        world.memory.0.push(Piece { cid: WRITE, is_read: false, data: vec![7; 65536] });
        assert!(world.wire.push(0, READ, &command(nvm::READ), Data::In(1024)));
        assert!(world.wire.push(1, WRITE, &command(nvm::WRITE), Data::Out(65536)));
        assert_eq!(world.sent().len(), 2 * if style.header_digest { 76 } else { 72 });
        world
    }

    fn closed(style: Style) -> World {
        World { style, wire: Wire::new(1, 8, digests(&style)), memory: Memory::default() }
    }

    fn sent(&mut self) -> Vec<u8> {
        self.wire.stage(&self.memory);
        let mut bytes = Vec::new();
        for slice in self.wire.slices(&self.memory).expect("the memory is there") {
            bytes.extend_from_slice(&slice);
        }
        self.wire.sent(bytes.len());
        bytes
    }

    /// Ids and status of what was completed.
    fn receive(&mut self, bytes: &[u8]) -> Vec<(u16, u16)> {
        let mut done = Vec::new();
        for byte in bytes {
            if self.wire.fault().is_some() {
                break;
            }
            let room = &mut self.wire.room(&mut self.memory);
            let slice = if room[0].is_empty() { &mut room[1] } else { &mut room[0] };
            slice[0] = *byte;
            self.wire.received(1, &mut self.memory);
            while let Some(completion) = self.wire.next(&mut self.memory) {
                done.push((completion.cid, completion.status.bits()));
            }
        }
        done
    }

    fn data(&mut self, cid: u16, offset: u32, bytes: usize, flags: u8) -> Vec<(u16, u16)> {
        let mut body = [0; 16];
        body[..2].copy_from_slice(&cid.to_le_bytes());
        body[4..8].copy_from_slice(&offset.to_le_bytes());
        body[8..12].copy_from_slice(&(bytes as u32).to_le_bytes());
        let pdu = self.style.pdu(0x07, flags, &body, Some(&vec![0xAB; bytes]));
        self.receive(&pdu)
    }

    fn r2t(&mut self, cid: u16, tag: u16, offset: u32, bytes: u32) {
        let mut body = [0; 16];
        body[..2].copy_from_slice(&cid.to_le_bytes());
        body[2..4].copy_from_slice(&tag.to_le_bytes());
        body[4..8].copy_from_slice(&offset.to_le_bytes());
        body[8..12].copy_from_slice(&bytes.to_le_bytes());
        let pdu = self.style.pdu(0x09, 0, &body, None);
        self.receive(&pdu);
    }

    fn respond(&mut self, cid: u16, status: u16) -> Vec<(u16, u16)> {
        let pdu = self.style.response(cid, 0, status);
        self.receive(&pdu)
    }

    /// The machine is broken, and told the controller this status and information.
    #[track_caller]
    fn assert_told(mut self, status: u16, info: u32, text: &str) {
        assert_eq!(self.wire.fault(), Some(text));
        let told = self.sent();
        assert_eq!((told[0], told[2]), (0x02, 24));
        assert_eq!(u16::from_le_bytes([told[8], told[9]]), status);
        assert_eq!(u32::from_le_bytes([told[10], told[11], told[12], told[13]]), info);
        assert!(!self.wire.push(5, 5, &Command::default(), Data::None));
    }
}

#[test]
fn a_response_to_nothing() {
    let mut world = World::new();
    assert_eq!(world.respond(0x0200, 0), []);
    world.assert_told(1, 20, "the controller completed a command that it does not have");
}

#[test]
fn a_command_that_completes_twice() {
    let mut world = World::new();
    assert_eq!(world.respond(READ, 0x281), [(READ, 0x281)]);
    assert_eq!(world.respond(READ, 0x281), []);
    world.assert_told(1, 20, "the controller completed a command that it does not have");
}

#[test]
fn a_response_to_a_command_that_is_not_yet_sent() {
    let mut world = World::new();
    assert!(world.wire.push(2, 0x0102, &Command::default(), Data::None));
    world.respond(0x0102, 0);
    world.assert_told(1, 20, "the controller completed a command that it does not have");
}

#[test]
fn success_without_all_data() {
    let mut world = World::new();
    assert_eq!(world.data(READ, 0, 512, 0), []);
    assert_eq!(world.respond(READ, 0), []);
    world.assert_told(2, 0, "the controller completed a command before its data");
}

#[test]
fn success_of_a_write_that_was_not_taken() {
    let mut world = World::new();
    assert_eq!(world.respond(WRITE, 0), []);
    world.assert_told(2, 0, "the controller completed a command before its data");
}

#[test]
fn an_error_needs_no_data() {
    let mut world = World::new();
    assert_eq!(world.respond(WRITE, 0x80), [(WRITE, 0x80)]);
    assert_eq!(world.data(READ, 0, 512, 0), []);
    assert_eq!(world.respond(READ, 0x281), [(READ, 0x281)]);
    assert!(world.wire.is_open() && !world.wire.is_busy());
}

#[test]
fn data_with_the_success_flag_need_no_response() {
    let mut world = World::new();
    assert_eq!(world.data(READ, 0, 1000, 0), []);
    assert_eq!(world.data(READ, 1000, 24, 0b1100), [(READ, 0)]);
    assert_eq!(world.memory.take(READ).expect("a read").data, [0xAB; 1024]);
}

#[test]
fn data_of_a_write() {
    let mut world = World::new();
    world.data(WRITE, 0, 512, 0);
    world.assert_told(1, 8, "the controller sent data of a command that reads none");
}

#[test]
fn data_beyond_the_command() {
    let mut world = World::new();
    world.data(READ, 512, 513, 0);
    world.assert_told(4, 12, "the controller names data outside of the command's");
}

#[test]
fn data_twice() {
    let mut world = World::new();
    world.data(READ, 0, 512, 0);
    world.data(READ, 0, 512, 0);
    world.assert_told(1, 12, "the controller sent data with a gap, or twice");
}

#[test]
fn last_data_that_are_not() {
    let mut world = World::new();
    world.data(READ, 0, 512, 0b1100);
    world.assert_told(1, 1, "the controller ended a command's data too early");
}

#[test]
fn an_r2t_of_a_read() {
    let mut world = World::new();
    world.r2t(READ, 1, 0, 512);
    world.assert_told(4, 12, "the controller names data outside of the command's");
}

#[test]
fn an_r2t_beyond_the_command() {
    let mut world = World::new();
    world.r2t(WRITE, 1, 65_024, 513);
    world.assert_told(4, 12, "the controller names data outside of the command's");
}

#[test]
fn an_r2t_of_nothing() {
    let mut world = World::new();
    world.r2t(WRITE, 1, 0, 0);
    world.assert_told(4, 12, "the controller names data outside of the command's");
}

#[test]
fn more_r2ts_than_allowed() {
    let mut world = World::new();
    for number in 0..5 {
        world.r2t(WRITE, 1, number * 512, 512);
    }
    world.assert_told(5, 0, "the controller asks for data more often than it may at once");
}

#[test]
fn r2ts_are_answered_in_order_with_their_tags() {
    let mut world = World::new();
    world.r2t(WRITE, 0x11, 0, 8192 + 4);
    world.r2t(WRITE, 0x22, 8196, 508);
    let sent = world.sent();
    // MAXH2CDATA of the target is 8192.
    assert_eq!(
        sent[..24],
        [6, 0, 24, 24, 0x18, 0x20, 0, 0, 1, 1, 0x11, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]
    );
    let second = &sent[24 + 8192..];
    assert_eq!(
        second[..24],
        [6, 4, 24, 24, 28, 0, 0, 0, 1, 1, 0x11, 0, 0, 0x20, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]
    );
    let third = &second[24 + 4..];
    assert_eq!(
        third[..24],
        [6, 4, 24, 24, 0x14, 2, 0, 0, 1, 1, 0x22, 0, 4, 0x20, 0, 0, 0xFC, 1, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(third.len(), 24 + 508);
}

#[test]
fn a_write_that_fails_while_its_data_are_sent_leaves_whole_pdus() {
    let mut world = World::new();
    world.r2t(WRITE, 1, 0, 65536);
    world.wire.stage(&world.memory);
    world.wire.sent(24 + 100);
    assert_eq!(world.respond(WRITE, 0x81), [(WRITE, 0x81)]);
    world.memory.take(WRITE);
    let rest = world.sent();
    assert_eq!(rest[..8192 - 100], [0; 8192 - 100], "without its memory");
    assert!(world.wire.is_open());
}

#[test]
fn two_greetings() {
    let mut world = World::new();
    let mut greeting = [0; 128];
    greeting[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
    world.receive(&greeting);
    world.assert_told(2, 0, "the controller greets twice");
}

#[test]
fn a_response_before_the_greeting() {
    let mut world = World::closed(PLAIN);
    assert_eq!(world.sent().len(), 128);
    world.respond(1, 0);
    world.assert_told(2, 0, "the controller does not greet first");
}

#[test]
fn a_wrong_header_digest() {
    let mut world = World::with(Style { header_digest: true, ..PLAIN });
    let mut pdu = world.style.response(READ, 0, 0x281);
    pdu[9] ^= 1;
    world.receive(&pdu);
    let found = u32::from_le_bytes(pdu[24..].try_into().expect("4 bytes"));
    world.assert_told(3, found, "the controller sent a header whose digest is wrong");
}

#[test]
fn a_termination_is_not_answered() {
    let mut world = World::new();
    world.receive(&[3, 0, 24, 0, 24, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        world.wire.fault(),
        Some("the controller ended the connection: a PDU of ours came out of sequence")
    );
    assert!(world.sent().is_empty());
}
