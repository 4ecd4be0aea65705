//! A small target for the tests: bytes in, bytes out. It knows the protocol by itself, not by the code under test, and
//! asserts that the host keeps to it.

use std::collections::VecDeque;

/// How it behaves, within what the specification allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) header_digest: bool,
    pub(super) data_digest: bool,
    /// CPDA.
    pub(super) alignment: u8,
    pub(super) capsule_bytes: usize,
    /// What one R2T asks for, and how many are open at once.
    pub(super) r2t_bytes: usize,
    pub(super) r2t_max: usize,
    /// Data of one C2HData, and padding before them.
    pub(super) data_bytes: usize,
    pub(super) padding: usize,
    /// Commands end with their last data.
    pub(super) ends_with_data: bool,
}

pub(super) const PLAIN: Style = Style {
    header_digest: false,
    data_digest: false,
    alignment: 0,
    capsule_bytes: 8192,
    r2t_bytes: usize::MAX,
    r2t_max: 1,
    data_bytes: usize::MAX,
    padding: 0,
    ends_with_data: false,
};

pub(super) const BLOCK_BYTES: usize = 512;
pub(super) const BLOCKS: usize = 256;
const DATA_BYTES_MAX: usize = 8192;

/// A linear congruential generator: the high half of 64 bits.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// A write that waits for its data.
#[derive(Debug)]
struct Taking {
    entry: [u8; 64],
    data: Vec<u8>,
    bytes: usize,
    asked: usize,
    /// Tag, offset, bytes still to come.
    open: Vec<(u16, usize, usize)>,
}

#[derive(Debug)]
pub(super) struct Target {
    style: Style,
    random: Random,
    input: Vec<u8>,
    pub(super) output: Vec<u8>,
    is_greeted: bool,
    cc: u32,
    taking: Vec<Taking>,
    /// What is ready to be said: whole answers, in any order.
    answers: VecDeque<Vec<u8>>,
    next_tag: u16,
    pub(super) disk: Vec<u8>,
    /// H2CTermReq that came: fatal error status.
    pub(super) terminated: Option<u16>,
}

pub(super) fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    (!crc).to_le_bytes()
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

impl Target {
    pub(super) fn new(style: Style, seed: u64) -> Target {
        Target {
            style,
            random: Random(seed),
            input: Vec::new(),
            output: Vec::new(),
            is_greeted: false,
            cc: 0,
            taking: Vec::new(),
            answers: VecDeque::new(),
            next_tag: 0,
            disk: vec![0; BLOCKS * BLOCK_BYTES],
            terminated: None,
        }
    }

    /// Takes bytes of the host's; what there is to say to them is in `output`.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.input.len() >= 8 {
            let plen = word(&self.input, 4);
            assert!((24..=1 << 20).contains(&plen), "a PDU of {plen} bytes");
            if self.input.len() < plen {
                break;
            }
            let rest = self.input.split_off(plen);
            let pdu = std::mem::replace(&mut self.input, rest);
            self.pdu(&pdu);
        }
        for index in 0..self.taking.len() {
            self.ask(index);
        }
        while !self.answers.is_empty() {
            let at = self.random.below(self.answers.len());
            let answer = self.answers.remove(at).unwrap();
            self.output.extend_from_slice(&answer);
        }
    }

    fn pdu(&mut self, pdu: &[u8]) {
        let (kind, flags, hlen, pdo) = (pdu[0], pdu[1], usize::from(pdu[2]), usize::from(pdu[3]));
        if kind == 0x02 {
            assert!(hlen == 24 && flags == 0);
            self.terminated = Some(half(pdu, 8));
            return;
        }
        if !self.is_greeted {
            assert_eq!((kind, hlen, pdu.len(), flags), (0x00, 128, 128, 0));
            let digests = u8::from(self.style.header_digest) | u8::from(self.style.data_digest) << 1;
            assert_eq!(pdu[11], digests, "the test wants what it gives");
            self.is_greeted = true;
            let mut greeting = vec![0; 128];
            greeting[..8].copy_from_slice(&[0x01, 0, 128, 0, 128, 0, 0, 0]);
            (greeting[10], greeting[11]) = (self.style.alignment, digests);
            greeting[12..16].copy_from_slice(&(DATA_BYTES_MAX as u32).to_le_bytes());
            self.output.extend(greeting);
            return;
        }
        assert_eq!(flags & 1 != 0, self.style.header_digest, "HDGSTF");
        let mut end = hlen;
        if self.style.header_digest {
            assert_eq!(pdu[hlen..hlen + 4], crc32c(&pdu[..hlen]), "header digest");
            end += 4;
        }
        let mut data = &pdu[end..];
        if pdo == 0 {
            assert!(data.is_empty() && flags & 2 == 0);
        } else {
            assert!(
                pdo >= end && pdo.is_multiple_of(4 * (usize::from(self.style.alignment) + 1)),
                "PDO {pdo}"
            );
            assert_eq!(flags & 2 != 0, self.style.data_digest, "DDGSTF");
            data = &pdu[pdo..];
            if self.style.data_digest {
                let (bytes, digest) = data.split_at(data.len() - 4);
                assert_eq!(digest, crc32c(bytes), "data digest");
                data = bytes;
            }
        }
        match kind {
            0x04 => {
                assert_eq!(hlen, 72);
                self.command(pdu[8..72].try_into().unwrap(), data);
            }
            0x06 => {
                assert_eq!(hlen, 24);
                assert!(data.len() <= DATA_BYTES_MAX, "MAXH2CDATA");
                self.data(half(pdu, 8), half(pdu, 10), word(pdu, 12), word(pdu, 16), flags & 4 != 0, data);
            }
            _ => panic!("PDU type {kind}"),
        }
    }

    fn command(&mut self, entry: [u8; 64], data: &[u8]) {
        assert_eq!(entry[1] & 0xC0, 0x40, "PSDT");
        let (bytes, descriptor) = (word(&entry, 32), entry[39]);
        let is_out = match entry[0] {
            0x7F => entry[4] & 1 == 1,
            opcode => opcode & 3 == 1,
        };
        if descriptor == 0x01 {
            assert_eq!(word(&entry, 24), 0, "offset in the capsule");
            assert_eq!(data.len(), bytes);
            assert!(bytes <= self.style.capsule_bytes.max(if entry[0] == 0x7F { 8192 } else { 0 }));
            return self.run(&entry, data);
        }
        assert_eq!(descriptor, 0x5A);
        assert!(data.is_empty());
        if is_out && bytes > 0 {
            self.taking.push(Taking { entry, data: vec![0; bytes], bytes, asked: 0, open: Vec::new() });
        } else {
            self.run(&entry, &[]);
        }
    }

    /// Sends R2Ts as many as may be open.
    fn ask(&mut self, index: usize) {
        let Style { r2t_bytes, r2t_max, .. } = self.style;
        let taking = &mut self.taking[index];
        let mut r2ts = Vec::new();
        while taking.open.len() < r2t_max && taking.asked < taking.bytes {
            let (offset, bytes) = (taking.asked, r2t_bytes.min(taking.bytes - taking.asked));
            self.next_tag = self.next_tag.wrapping_add(7);
            taking.open.push((self.next_tag, offset, bytes));
            taking.asked += bytes;
            let mut body = [0; 16];
            body[..2].copy_from_slice(&taking.entry[2..4]);
            body[2..4].copy_from_slice(&self.next_tag.to_le_bytes());
            body[4..8].copy_from_slice(&(offset as u32).to_le_bytes());
            body[8..12].copy_from_slice(&(bytes as u32).to_le_bytes());
            r2ts.push(self.style.pdu(0x09, 0, &body, None));
        }
        self.output.extend(r2ts.concat());
    }

    fn data(&mut self, cid: u16, tag: u16, offset: usize, bytes: usize, is_last: bool, data: &[u8]) {
        assert_eq!(bytes, data.len());
        let index = self.taking.iter().position(|taking| half(&taking.entry, 2) == cid).expect("a write");
        let taking = &mut self.taking[index];
        let (at, open) =
            taking.open.iter_mut().enumerate().find(|(_, (open, ..))| *open == tag).expect("an R2T of ours");
        assert_eq!(offset, open.1, "in order");
        taking.data[offset..offset + bytes].copy_from_slice(data);
        (open.1, open.2) = (open.1 + bytes, open.2 - bytes);
        assert_eq!(is_last, open.2 == 0, "LAST_PDU");
        if is_last {
            taking.open.remove(at);
        }
        if taking.open.is_empty() && taking.asked == taking.bytes {
            let Taking { entry, data, .. } = self.taking.remove(index);
            self.run(&entry, &data);
        }
    }

    fn run(&mut self, entry: &[u8; 64], data: &[u8]) {
        let at = word(entry, 40) * BLOCK_BYTES;
        let bytes = (usize::from(half(entry, 48)) + 1) * BLOCK_BYTES;
        match entry[0] {
            0x7F => self.fabrics(entry, data),
            0x06 => {
                let mut page = vec![0; 4096];
                page[1792..1796]
                    .copy_from_slice(&((self.style.capsule_bytes as u32 + 64) / 16).to_le_bytes());
                page[24..28].copy_from_slice(b"mock");
                self.read(entry, &page);
            }
            0x01 => {
                assert_eq!(data.len(), bytes);
                self.disk[at..at + bytes].copy_from_slice(data);
                self.answer(entry, 0, 0);
            }
            0x02 => {
                assert_eq!(word(entry, 32), bytes);
                let data = self.disk[at..at + bytes].to_vec();
                self.read(entry, &data);
            }
            0x09 => {
                assert_eq!(data.len(), 16);
                let (blocks, lba) = (word(data, 4), word(data, 8));
                self.disk[lba * BLOCK_BYTES..(lba + blocks) * BLOCK_BYTES].fill(0);
                self.answer(entry, 0, 0);
            }
            0x00 | 0x18 => self.answer(entry, 0, 0),
            // Invalid opcode, said before anything else.
            _ => self.answer(entry, 0, 0x01),
        }
    }

    fn fabrics(&mut self, entry: &[u8; 64], data: &[u8]) {
        let result = match (entry[4], word(entry, 44)) {
            (0x01, _) => {
                assert_eq!(data.len(), 1024);
                assert_eq!(&data[256..266], b"nqn.test:s");
                assert_eq!(&data[512..522], b"nqn.test:h");
                let is_admin = half(entry, 42) == 0;
                assert_eq!(half(data, 16), if is_admin { 0xFFFF } else { 9 });
                9
            }
            (0x04, 0x00) => {
                assert_eq!(entry[40], 1);
                63 | 20 << 24
            }
            (0x04, 0x08) => 0x0001_0400,
            (0x04, 0x1C) => match self.cc {
                cc if cc & 1 == 0 => 0,
                cc if cc & 0xC000 != 0 => 0b1001,
                _ => 1,
            },
            (0x00, 0x14) => {
                self.cc = word(entry, 48) as u32;
                0
            }
            other => panic!("{other:?}"),
        };
        self.answer(entry, result, 0);
    }

    fn answer(&mut self, entry: &[u8; 64], result: u64, status: u16) {
        let response = self.style.response(half(entry, 2), result, status);
        self.answers.push_back(response);
    }

    /// Data in pieces, then the end, in one answer: other answers may come before or after it.
    fn read(&mut self, entry: &[u8; 64], data: &[u8]) {
        let style = self.style;
        let mut answer = Vec::new();
        let mut at = 0;
        while at < data.len() {
            let bytes = style.data_bytes.min(data.len() - at);
            let is_last = at + bytes == data.len();
            let mut body = [0; 16];
            body[..2].copy_from_slice(&entry[2..4]);
            body[4..8].copy_from_slice(&(at as u32).to_le_bytes());
            body[8..12].copy_from_slice(&(bytes as u32).to_le_bytes());
            let flags = if is_last { 4 | u8::from(style.ends_with_data) << 3 } else { 0 };
            answer.extend(style.pdu(0x07, flags, &body, Some(&data[at..at + bytes])));
            at += bytes;
        }
        if !style.ends_with_data {
            answer.extend(style.response(half(entry, 2), 0, 0));
        }
        self.answers.push_back(answer);
    }
}

impl Style {
    /// A PDU with a header of 24 bytes.
    pub(super) fn pdu(&self, kind: u8, flags: u8, body: &[u8; 16], data: Option<&[u8]>) -> Vec<u8> {
        let mut pdu = vec![kind, flags | u8::from(self.header_digest), 24, 0, 0, 0, 0, 0];
        pdu.extend(body);
        let header_end = 24 + if self.header_digest { 4 } else { 0 };
        let offset = header_end + self.padding;
        let mut plen = header_end;
        if let Some(data) = data {
            pdu[1] |= u8::from(self.data_digest) << 1;
            pdu[3] = offset as u8;
            plen = offset + data.len() + if self.data_digest { 4 } else { 0 };
        }
        pdu[4..8].copy_from_slice(&(plen as u32).to_le_bytes());
        if self.header_digest {
            let digest = crc32c(&pdu);
            pdu.extend(digest);
        }
        if let Some(data) = data {
            pdu.resize(offset, 0);
            pdu.extend(data);
            if self.data_digest {
                pdu.extend(crc32c(data));
            }
        }
        pdu
    }

    pub(super) fn response(&self, cid: u16, result: u64, status: u16) -> Vec<u8> {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&result.to_le_bytes());
        body[12..14].copy_from_slice(&cid.to_le_bytes());
        body[14..].copy_from_slice(&(status << 1).to_le_bytes());
        self.pdu(0x05, 0, &body, None)
    }
}
