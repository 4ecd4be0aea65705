//! An initiator without principles: it keeps its books so that what it sends is mostly right, and listens closely.

use std::collections::HashMap;

use lunette::iscsi::params::Params;

use crate::fuzz_bodies::pdu;
use crate::fuzz_bodies::source::Source;
use crate::fuzz_bodies::views::{BLOCK_BYTES, BLOCKS};
use crate::fuzz_bodies::world::World;

const NO_TAG: u32 = u32::MAX;
static ZEROES: [u8; 0x4_0000] = [0; 0x4_0000];

/// Data that the target asked for, or takes unasked.
#[derive(Clone, Copy, Debug)]
struct Burst {
    itt: u32,
    ttt: u32,
    offset: u32,
    left: u32,
    data_sn: u32,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) wire: usize,
    params: Params,
    cmd_sn: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    stat_sn: u32,
    next_itt: u32,
    bursts: Vec<Burst>,
    /// SCSI commands by tag: how often sent less how often answered.
    open: HashMap<u32, i32>,
    /// Received and not cut yet.
    heard: Vec<u8>,
}

impl Peer {
    pub(super) fn new(wire: usize, params: Params) -> Peer {
        Peer {
            wire,
            params,
            cmd_sn: 1,
            exp_cmd_sn: 1,
            max_cmd_sn: 8,
            stat_sn: u32::MAX,
            next_itt: 1,
            bursts: Vec::new(),
            open: HashMap::new(),
            heard: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, world: &World, source: &mut Source<'_>) {
        let (lba, blocks) = extent(source);
        let expected = expected(blocks, source);
        self.command(world, source, rw_cdb(0x28, lba, blocks), 0x40, expected, 0);
    }

    pub(super) fn write(&mut self, world: &World, source: &mut Source<'_>) {
        let (lba, blocks) = extent(source);
        let expected = expected(blocks, source);
        let immediate_max =
            expected.min(self.params.first_burst_bytes).min(self.params.recv_segment_bytes_max);
        let is_wrong = source.once_in(16);
        let immediate = match source.below(4) {
            0 => 0,
            _ if !self.params.immediate_data && !is_wrong => 0,
            1 => immediate_max / 2,
            _ => immediate_max,
        };
        self.command(world, source, rw_cdb(0x2a, lba, blocks), 0x20, expected, immediate);
    }

    pub(super) fn other_cdb(&mut self, world: &World, source: &mut Source<'_>) {
        let mut cdb: [u8; 16] = source.array();
        cdb[0] = source.pick(&[
            0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x34, 0x35, 0x37, 0x5a, 0x5e, 0x91, 0x9e, 0xa0, 0xa3,
            0xb7, cdb[0],
        ]);
        if source.once_in(2) {
            cdb[1..].fill(0);
            (cdb[4], cdb[8], cdb[13]) = (255, 255, 255);
        }
        let flags = source.pick(&[0x00, 0x40, 0x20, 0x60]);
        let expected = u32::from(source.byte()) * 8;
        self.command(world, source, cdb, flags, expected, 0);
    }

    /// A command that works on the medium in several steps, or about which control is asked, mostly with the data that it
    /// takes: zeroes.
    pub(super) fn work(&mut self, world: &World, source: &mut Source<'_>) {
        let (lba, blocks) = extent(source);
        let transfer = u32::from(blocks) * BLOCK_BYTES;
        let mut cdb = [0; 16];
        let mut bytes = 0;
        match source.below(10) {
            // VERIFY(10), WRITE AND VERIFY(10): without and with a comparison.
            0 => {
                cdb = rw_cdb(source.pick(&[0x2e, 0x2f]), lba, blocks);
                cdb[1] = source.pick(&[0, 2, 6]);
                bytes = match (cdb[0], cdb[1]) {
                    (0x2f, 0) => 0,
                    (0x2f, 6) => BLOCK_BYTES,
                    _ => transfer,
                };
            }
            // WRITE SAME(10) and (16), with and without UNMAP.
            1 => {
                cdb = rw_cdb(0x41, lba, blocks);
                (cdb[1], bytes) = (source.pick(&[0, 8]), BLOCK_BYTES);
            }
            2 => {
                cdb = long_cdb(0x93, lba, blocks);
                (cdb[1], bytes) = source.pick(&[(0, BLOCK_BYTES), (8, BLOCK_BYTES), (1, 0), (9, 0)]);
            }
            // UNMAP: descriptors of nothing.
            3 => {
                (cdb[0], cdb[8], bytes) = (0x42, 40, 40);
            }
            // COMPARE AND WRITE.
            4 | 5 => {
                cdb = long_cdb(0x89, lba, 0);
                cdb[13] = source.pick(&[1, 1, 8]);
                bytes = 2 * u32::from(cdb[13]) * BLOCK_BYTES;
            }
            // ORWRITE(16).
            6 => (cdb, bytes) = (long_cdb(0x8b, lba, blocks), transfer),
            // PERSISTENT RESERVE OUT.
            7 => {
                (cdb[0], cdb[1], cdb[2], cdb[8], bytes) = (0x5f, source.byte() % 9, 1, 24, 24);
            }
            // RESERVE and RELEASE.
            8 => cdb[0] = source.pick(&[0x16, 0x17, 0x56, 0x57]),
            // MODE SELECT: of nothing, or cut short.
            _ => {
                (cdb[0], cdb[1]) = (source.pick(&[0x15, 0x55]), 0x10);
                cdb[if cdb[0] == 0x15 { 4 } else { 8 }] = 8;
                bytes = 8;
            }
        }
        let expected = if source.once_in(16) { bytes / 2 } else { bytes };
        let immediate_max =
            expected.min(self.params.first_burst_bytes).min(self.params.recv_segment_bytes_max);
        let immediate = if self.params.immediate_data { source.pick(&[0, immediate_max]) } else { 0 };
        let flags = if bytes > 0 { 0x20 } else { 0 };
        self.command(world, source, cdb, flags, expected, immediate);
    }

    fn command(
        &mut self,
        world: &World,
        source: &mut Source<'_>,
        cdb: [u8; 16],
        flags: u8,
        expected: u32,
        immediate: u32,
    ) {
        let itt = self.itt(source);
        let mut bhs = self.header(source, 0x01, itt);
        let unsolicited = flags & 0x20 != 0 && !self.params.initial_r2t && source.once_in(2);
        bhs[1] = flags | if unsolicited { 0 } else { 0x80 } | source.pick(&[1, 1, 1, 0, 2, 3]);
        bhs[20..24].copy_from_slice(&expected.to_be_bytes());
        bhs[32..48].copy_from_slice(&cdb);
        *self.open.entry(itt).or_default() += 1;
        if unsolicited {
            let left = expected.min(self.params.first_burst_bytes).saturating_sub(immediate);
            self.bursts.push(Burst { itt, ttt: NO_TAG, offset: immediate, left, data_sn: 0 });
        }
        self.say(world, source, bhs, &ZEROES[..immediate as usize]);
    }

    /// Data for the oldest burst, or another; sometimes wrong.
    pub(super) fn data_out(&mut self, world: &World, source: &mut Source<'_>) {
        if self.bursts.is_empty() {
            return;
        }
        let index = if source.once_in(8) { source.below(self.bursts.len().min(256)) } else { 0 };
        let burst = self.bursts[index];
        let bytes_max = burst.left.min(self.params.recv_segment_bytes_max).min(ZEROES.len() as u32);
        let bytes = match source.below(8) {
            0 => bytes_max / 2,
            1 => u32::from(source.byte()).min(bytes_max),
            _ => bytes_max,
        };
        let is_last = bytes == burst.left;
        let mut bhs = self.header(source, 0x05, burst.itt);
        bhs[1] = if is_last != source.once_in(64) { 0x80 } else { 0 };
        bhs[20..24].copy_from_slice(&burst.ttt.to_be_bytes());
        bhs[36..40].copy_from_slice(&burst.data_sn.to_be_bytes());
        bhs[40..44].copy_from_slice(&burst.offset.to_be_bytes());
        if is_last {
            self.bursts.remove(index);
        } else {
            let burst = &mut self.bursts[index];
            burst.left -= bytes;
            burst.offset += bytes;
            burst.data_sn += 1;
        }
        self.say(world, source, bhs, &ZEROES[..bytes as usize]);
    }

    pub(super) fn nop(&mut self, world: &World, source: &mut Source<'_>) {
        let itt = if source.once_in(4) { NO_TAG } else { self.itt(source) };
        let mut bhs = self.header(source, 0x00, itt);
        bhs[1] = 0x80;
        bhs[20..24].fill(0xff);
        let bytes = usize::from(source.byte()) * source.pick(&[0, 1, 30]);
        self.say(world, source, bhs, &ZEROES[..bytes]);
    }

    pub(super) fn text(&mut self, world: &World, source: &mut Source<'_>) {
        let itt = self.itt(source);
        let mut bhs = self.header(source, 0x04, itt);
        bhs[1] = source.pick(&[0x80, 0x80, 0x40, 0x00, 0xc0]);
        let ttt = source.pick(&[NO_TAG, NO_TAG, 1, 2]);
        bhs[20..24].copy_from_slice(&ttt.to_be_bytes());
        let text = source.pick(&[
            &b"SendTargets=\0"[..],
            b"SendTargets=All\0",
            b"MaxRecvDataSegmentLength=512\0",
            b"MaxRecvDataSegmentLength=8192\0X-key=1\0",
            b"=\0",
            b"",
        ]);
        // What it may send us changes with the answer.
        self.say(world, source, bhs, text);
    }

    pub(super) fn task_management(&mut self, world: &World, source: &mut Source<'_>) {
        let itt = self.itt(source);
        let mut bhs = self.header(source, 0x02, itt);
        bhs[1] = 0x80 | source.pick(&[1, 1, 1, 2, 4, 5, 6, 7, 8, 3, 0x7f]);
        let back = 1 + source.word() % 8;
        bhs[20..24].copy_from_slice(&itt.wrapping_sub(back).to_be_bytes());
        bhs[32..36].copy_from_slice(&self.cmd_sn.wrapping_sub(back).to_be_bytes());
        self.say(world, source, bhs, &[]);
    }

    pub(super) fn logout(&mut self, world: &World, source: &mut Source<'_>) {
        let itt = self.itt(source);
        let mut bhs = self.header(source, 0x06, itt);
        bhs[1] = 0x80 | source.pick(&[0, 0, 1, 2, 3]);
        self.say(world, source, bhs, &[]);
    }

    /// A header of any bytes that have the data they say.
    pub(super) fn anything(&mut self, world: &World, source: &mut Source<'_>) {
        let mut bhs: [u8; 48] = source.array();
        bhs[4] = if source.once_in(4) { 1 } else { 0 };
        if bhs[0] & 0x3f == 0x01 {
            *self.open.entry(pdu::word(&bhs, 16)).or_default() += 1;
        }
        let bytes = usize::from(source.byte());
        self.say(world, source, bhs, &ZEROES[..bytes]);
    }

    fn itt(&mut self, source: &mut Source<'_>) -> u32 {
        if source.once_in(32) {
            return self.next_itt.wrapping_sub(1 + u32::from(source.byte() % 4));
        }
        self.next_itt += 1;
        self.next_itt - 1
    }

    /// A header with opcode, LUN, tag and numbers.
    fn header(&mut self, source: &mut Source<'_>, opcode: u8, itt: u32) -> [u8; 48] {
        let mut bhs = [0; 48];
        let is_immediate = match opcode {
            0x05 => false,
            0x02 => !source.once_in(4),
            _ => source.once_in(12),
        };
        bhs[0] = opcode | if is_immediate { 0x40 } else { 0 };
        bhs[9] = source.pick(&[0, 0, 0, 0, 0, 0, 1, 7]);
        bhs[16..20].copy_from_slice(&itt.to_be_bytes());
        if opcode != 0x05 {
            let step = if source.once_in(16) { u32::from(source.byte() % 4).wrapping_sub(1) } else { 0 };
            bhs[24..28].copy_from_slice(&self.cmd_sn.wrapping_add(step).to_be_bytes());
            let has_room = self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31;
            if !is_immediate && step == 0 && has_room {
                self.cmd_sn = self.cmd_sn.wrapping_add(1);
            }
        }
        bhs[28..32].copy_from_slice(&self.stat_sn.to_be_bytes());
        bhs
    }

    /// Sends, rarely with a bit flipped where a digest finds it or not at all.
    fn say(&mut self, world: &World, source: &mut Source<'_>, bhs: [u8; 48], data: &[u8]) {
        let mut bytes = Vec::new();
        pdu::append(&mut bytes, bhs, data, self.params.header_digest, self.params.data_digest);
        if self.params.data_digest && !data.is_empty() && source.once_in(16) {
            *bytes.last_mut().unwrap() ^= 1;
        }
        world.wire(self.wire, |wire| wire.push(&bytes));
    }

    /// Looks at all that the target has said.
    pub(super) fn listen(&mut self, world: &World) {
        let fresh = world.wire(self.wire, |wire| std::mem::take(&mut wire.outgoing));
        self.heard.extend_from_slice(&fresh);
        let heard = std::mem::take(&mut self.heard);
        let mut left = &heard[..];
        while let Some(bhs) = left.first_chunk::<48>() {
            let whole = pdu::whole_bytes(bhs, self.params.header_digest, self.params.data_digest);
            if whole > left.len() {
                break;
            }
            pdu::check(&left[..whole], self.params.header_digest, self.params.data_digest);
            self.hear(bhs);
            left = &left[whole..];
        }
        self.heard = left.to_vec();
    }

    fn hear(&mut self, bhs: &[u8; 48]) {
        let [opcode, flags, ..] = *bhs;
        let (itt, ttt) = (pdu::word(bhs, 16), pdu::word(bhs, 20));
        assert_eq!(bhs[4], 0, "no additional header segments come from a target");
        assert!(pdu::data_bytes(bhs) <= self.params.send_segment_bytes_max.max(8192) as usize, "{bhs:02x?}");
        let (has_stat_sn, consumes) = match opcode {
            0x20 => (true, itt != NO_TAG),
            0x21 | 0x22 | 0x24 | 0x26 | 0x32 | 0x3f => (true, true),
            0x25 => (flags & 1 != 0, flags & 1 != 0),
            0x31 => (true, false),
            _ => panic!("no target says {opcode:#x}"),
        };
        if has_stat_sn {
            assert_eq!(pdu::word(bhs, 24), self.stat_sn, "StatSN of {bhs:02x?}");
            self.stat_sn = self.stat_sn.wrapping_add(u32::from(consumes));
        }
        let (exp, max) = (pdu::word(bhs, 28), pdu::word(bhs, 32));
        assert!(exp.wrapping_sub(self.exp_cmd_sn) < 1 << 31, "ExpCmdSN went back: {bhs:02x?}");
        assert!(max.wrapping_sub(self.max_cmd_sn) < 1 << 31, "MaxCmdSN went back: {bhs:02x?}");
        (self.exp_cmd_sn, self.max_cmd_sn) = (exp, max);
        match opcode {
            0x31 => self.bursts.push(Burst {
                itt,
                ttt,
                offset: pdu::word(bhs, 40),
                left: pdu::word(bhs, 44),
                data_sn: 0,
            }),
            // The end of a command: as often as it was sent, at most.
            0x21 | 0x25 if opcode == 0x21 || flags & 1 != 0 => {
                let open = self.open.entry(itt).or_default();
                *open -= 1;
                assert!(*open >= 0, "an answer to no command: {bhs:02x?}");
            }
            0x25 => assert!(self.open.contains_key(&itt), "data for no command: {bhs:02x?}"),
            _ => {}
        }
    }
}

fn extent(source: &mut Source<'_>) -> (u32, u16) {
    let blocks = source.pick(&[8, 1, 0, 64, 256, 600, 2048]);
    let end = if source.once_in(16) { 1 } else { u32::from(blocks) };
    let lba = u32::from(source.byte()) * 37 % (u32::try_from(BLOCKS).unwrap() - end + 1);
    (lba, blocks)
}

/// What the initiator says it expects: mostly what the CDB says.
fn expected(blocks: u16, source: &mut Source<'_>) -> u32 {
    let bytes = u32::from(blocks) * BLOCK_BYTES;
    match source.below(16) {
        0 => bytes + BLOCK_BYTES,
        1 => bytes.saturating_sub(BLOCK_BYTES),
        2 => bytes.saturating_sub(5),
        3 => 0,
        _ => bytes,
    }
}

fn rw_cdb(opcode: u8, lba: u32, blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A CDB with eight bytes of address and four of length.
fn long_cdb(opcode: u8, lba: u32, blocks: u16) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[6..10].copy_from_slice(&lba.to_be_bytes());
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}
