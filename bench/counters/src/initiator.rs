//! The other end of a connection: it writes requests ahead of a turn and reads of the answers no more than it must.
//!
//! What it does is not what is counted, so it is plain rather than fast; a protocol error is a panic.

use lunette::iscsi::params::Params;
use lunette::iscsi::wire::crc32c;

use crate::case::Case;

const BHS_BYTES: usize = 48;
const BLOCK_BYTES: u32 = 512;
const GOOD: u8 = 0;

/// An initiator with one session.
#[derive(Debug)]
pub(crate) struct Initiator {
    case: Case,
    params: Params,
    blocks: u32,
    /// Bytes for the target, and how many of them it has received.
    outgoing: Vec<u8>,
    received: usize,
    /// There are more since the target was told last.
    pub(crate) has_news: bool,
    cmd_sn: u32,
    cmd_sn_max: u32,
    exp_stat_sn: u32,
    /// Commands so far.
    asked: u32,
    pub(crate) unanswered: u32,
    /// Answers that were not GOOD: unit attentions, before it counts.
    pub(crate) refusals: u32,
    random: u32,
    payload: Vec<u8>,
    header: [u8; BHS_BYTES],
    header_bytes: usize,
    /// Bytes behind the header that are not looked at.
    skip_bytes: usize,
}

fn word(header: &[u8; BHS_BYTES], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&header[at..at + 4]);
    u32::from_be_bytes(bytes)
}

fn put(header: &mut [u8; BHS_BYTES], at: usize, value: u32) {
    header[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

impl Initiator {
    /// At a disk of so many blocks, before the first command.
    pub(crate) fn new(case: Case, params: Params, blocks: u32, cmd_sn: u32, stat_sn: u32) -> Initiator {
        Initiator {
            case,
            params,
            blocks,
            outgoing: Vec::with_capacity(8 << 20),
            received: 0,
            has_news: false,
            cmd_sn,
            cmd_sn_max: cmd_sn.wrapping_add(7),
            exp_stat_sn: stat_sn,
            asked: 0,
            unanswered: 0,
            refusals: 0,
            random: 1,
            payload: vec![0xa5; 262_144],
            header: [0; BHS_BYTES],
            header_bytes: 0,
            skip_bytes: 0,
        }
    }

    /// Asks as much as depth and window allow. How many commands that was.
    pub(crate) fn ask(&mut self, commands_max: u32) -> u32 {
        assert_eq!(self.received, self.outgoing.len(), "the target has received all there was");
        self.outgoing.clear();
        self.received = 0;
        let window = self.cmd_sn_max.wrapping_sub(self.cmd_sn).wrapping_add(1);
        let count = commands_max.min(self.case.depth).min(window);
        (0..count).for_each(|_| self.command());
        self.unanswered += count;
        count
    }

    fn command(&mut self) {
        let Case { is_write, bytes, luns, .. } = self.case;
        let lun = self.asked % u32::from(luns);
        let blocks = bytes / BLOCK_BYTES;
        // A generator of the simplest kind: anything but a row of neighbours will do.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let lba = (self.random >> 8) % (self.blocks / blocks) * blocks;
        let immediate = match is_write && self.params.immediate_data {
            true => bytes.min(self.params.first_burst_bytes).min(self.params.recv_segment_bytes_max),
            false => 0,
        };
        let mut header = [0; BHS_BYTES];
        header[0] = 0x01;
        // F and SIMPLE; R or W.
        header[1] = 0x80 | 0x01 | if is_write { 0x20 } else { 0x40 };
        put(&mut header, 8, lun << 16);
        put(&mut header, 16, self.asked);
        put(&mut header, 20, bytes);
        put(&mut header, 24, self.cmd_sn);
        put(&mut header, 28, self.exp_stat_sn);
        // WRITE (10) or READ (10).
        header[32] = if is_write { 0x2a } else { 0x28 };
        put(&mut header, 34, lba);
        header[39..41].copy_from_slice(&blocks.to_be_bytes()[2..]);
        self.asked = self.asked.wrapping_add(1);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.send(header, immediate);
    }

    /// Data that an R2T asks for.
    fn data_out(&mut self, itt: u32, ttt: u32, lun: u32, from: u32, bytes: u32) {
        let (mut offset, end, mut data_sn) = (from, from + bytes, 0);
        while offset < end {
            let count = (end - offset).min(self.params.recv_segment_bytes_max);
            let mut header = [0; BHS_BYTES];
            header[0] = 0x05;
            header[1] = if offset + count == end { 0x80 } else { 0 };
            put(&mut header, 8, lun);
            put(&mut header, 16, itt);
            put(&mut header, 20, ttt);
            put(&mut header, 28, self.exp_stat_sn);
            put(&mut header, 36, data_sn);
            put(&mut header, 40, offset);
            self.send(header, count);
            offset += count;
            data_sn += 1;
        }
    }

    /// Gives the target what it has room for. How much that was.
    pub(crate) fn give(&mut self, to: &mut [u8]) -> usize {
        let rest = &self.outgoing[self.received..];
        let count = to.len().min(rest.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.received += count;
        count
    }

    fn send(&mut self, mut header: [u8; BHS_BYTES], data_bytes: u32) {
        header[5..8].copy_from_slice(&data_bytes.to_be_bytes()[1..]);
        self.has_news = true;
        self.outgoing.extend_from_slice(&header);
        if self.params.header_digest {
            self.outgoing.extend_from_slice(&crc32c(&[&header]));
        }
        if data_bytes > 0 {
            let data = &self.payload[..data_bytes as usize];
            self.outgoing.extend_from_slice(data);
            if self.params.data_digest {
                self.outgoing.extend_from_slice(&crc32c(&[data]));
            }
        }
    }

    /// Takes what the target sends.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip_bytes.min(bytes.len());
            self.skip_bytes -= skipped;
            bytes = &bytes[skipped..];
            let count = (BHS_BYTES - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..self.header_bytes + count].copy_from_slice(&bytes[..count]);
            self.header_bytes += count;
            bytes = &bytes[count..];
            if self.header_bytes == BHS_BYTES {
                self.header_bytes = 0;
                self.answer(self.header);
            }
        }
    }

    fn answer(&mut self, header: [u8; BHS_BYTES]) {
        let data_bytes = (word(&header, 4) & 0x00ff_ffff) as usize;
        assert_eq!(header[4], 0, "no additional headers come from a target");
        let digest_bytes = |is_on: bool| if is_on { 4 } else { 0 };
        self.skip_bytes = digest_bytes(self.params.header_digest)
            + data_bytes.next_multiple_of(4)
            + digest_bytes(self.params.data_digest && data_bytes > 0);
        self.cmd_sn_max = word(&header, 32);
        match header[0] {
            // SCSI Response; Data-In with status.
            0x21 => self.ended(&header),
            0x25 if header[1] & 0x01 != 0 => self.ended(&header),
            0x25 => {}
            0x31 => self.data_out(
                word(&header, 16),
                word(&header, 20),
                word(&header, 8),
                word(&header, 40),
                word(&header, 44),
            ),
            other => panic!("the target sent opcode {other:#04x}"),
        }
    }

    fn ended(&mut self, header: &[u8; BHS_BYTES]) {
        assert_eq!(word(header, 24), self.exp_stat_sn, "answers come in the order of StatSN");
        self.exp_stat_sn = self.exp_stat_sn.wrapping_add(1);
        self.refusals += u32::from(header[3] != GOOD);
        self.unanswered -= 1;
    }
}
