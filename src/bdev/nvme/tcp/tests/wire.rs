//! The machine alone, byte streams cut anywhere.

use super::target::{BLOCK_BYTES, BLOCKS, PLAIN, Random, Style, Target};
use super::{Memory, Piece, digests};
use crate::bdev::nvme::spec::{Command, Range, extent_words, nvm};
use crate::bdev::nvme::tcp::wire::{Data, Wire};

const DEPTH: u16 = 16;

/// Styles that differ in everything, and some at random.
fn style(random: &mut Random) -> Style {
    Style {
        header_digest: random.below(2) == 0,
        data_digest: random.below(2) == 0,
        alignment: [0, 0, 1, 7, 31][random.below(5)],
        capsule_bytes: [0, 16, 512, 8192][random.below(4)],
        r2t_bytes: [512, 4096, 12_000, usize::MAX][random.below(4)],
        r2t_max: 1 + random.below(4),
        data_bytes: [4, 512, 5000, usize::MAX][random.below(4)],
        padding: [0, 0, 4, 100][random.below(4)],
        ends_with_data: random.below(2) == 0,
    }
}

/// A host with a machine and memory, and what the disk must hold.
struct Host {
    wire: Wire,
    memory: Memory,
    random: Random,
    expected: Vec<u8>,
    /// By slot: the command's id and its extent in bytes.
    busy: Vec<Option<(u16, usize, usize)>>,
    generation: u16,
    done: usize,
    /// What it receives is not what the target sent.
    is_harmed: bool,
}

impl Host {
    fn new(style: &Style, seed: u64) -> Host {
        Host {
            wire: Wire::new(3, DEPTH, digests(style)),
            memory: Memory::default(),
            random: Random(seed),
            expected: vec![0; BLOCKS * BLOCK_BYTES],
            busy: vec![None; usize::from(DEPTH)],
            generation: 0,
            done: 0,
            is_harmed: false,
        }
    }

    /// Enters a command at an extent that no other one uses, where there is a slot.
    fn enter(&mut self) {
        let Some(slot) = self.busy.iter().position(Option::is_none) else { return };
        let blocks = 1 + self.random.below(40);
        let lba = self.random.below(BLOCKS - blocks);
        let (from, bytes) = (lba * BLOCK_BYTES, blocks * BLOCK_BYTES);
        let meets = |(_, at, len): &(u16, usize, usize)| *at < from + bytes && from < at + len;
        if self.busy.iter().flatten().any(meets) {
            return;
        }
        self.generation = (self.generation + 1) % 200;
        let cid = self.generation << 8 | slot as u16;
        let [low, high, count] = extent_words(lba as u64, blocks as u32);
        let mut command = Command { nsid: 1, cdw10: [low, high, count, 0, 0, 0], ..Command::default() };
        let mut piece = |is_read, data| self.memory.0.push(Piece { cid, is_read, data });
        let data = match self.random.below(8) {
            0..=2 => {
                command.opcode = nvm::READ;
                piece(true, vec![0xEE; bytes]);
                Data::In(bytes)
            }
            3..=5 => {
                command.opcode = nvm::WRITE;
                let mark = self.random.below(256);
                let data: Vec<u8> = (0..bytes).map(|n| (n / 7 + mark) as u8).collect();
                self.expected[from..from + bytes].copy_from_slice(&data);
                piece(false, data);
                Data::Out(bytes)
            }
            6 => {
                command.opcode = nvm::WRITE;
                self.expected[from..from + bytes].fill(0);
                Data::Zeroes(bytes)
            }
            _ => {
                command.opcode = nvm::DATASET_MANAGEMENT;
                self.expected[from..from + bytes].fill(0);
                Data::Inline(Range::of_dataset(lba as u64, blocks as u32))
            }
        };
        assert!(self.wire.push(slot as u16, cid, &command, data));
        self.busy[slot] = Some((cid, from, bytes));
    }

    /// Up to so many bytes of what is to be sent.
    fn send(&mut self, most: usize) -> Vec<u8> {
        self.wire.stage(&self.memory);
        let mut bytes: Vec<u8> = Vec::new();
        for slice in self.wire.slices(&self.memory).expect("the memory is there") {
            bytes.extend_from_slice(&slice);
        }
        bytes.truncate(most);
        self.wire.sent(bytes.len());
        bytes
    }

    /// Takes bytes, and what they complete.
    fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.wire.fault().is_none() {
            let mut taken = 0;
            for slice in &mut self.wire.room(&mut self.memory) {
                let now = slice.len().min(bytes.len() - taken);
                slice[..now].copy_from_slice(&bytes[taken..taken + now]);
                taken += now;
            }
            assert!(taken > 0, "there is always room");
            self.wire.received(taken, &mut self.memory);
            bytes = &bytes[taken..];
            while let Some(completion) = self.wire.next(&mut self.memory) {
                let busy = &mut self.busy[usize::from(completion.cid & 0xFF)];
                let (cid, from, len) = busy.take().expect("each completes once");
                assert_eq!((completion.cid, completion.sq_id), (cid, 3));
                // Transient transport error: what came had a wrong digest.
                let is_damaged = self.is_harmed && completion.status.bits() == 0x22;
                assert!(completion.status.bits() == 0 || is_damaged);
                if let Some(piece) = self.memory.take(cid)
                    && piece.is_read
                    && !is_damaged
                {
                    assert!(piece.data == self.expected[from..from + len], "what was written is read");
                }
                self.done += 1;
            }
        }
    }
}

/// Drives both until `commands` are done; what goes to the host passes `harm`.
fn drive(host: &mut Host, target: &mut Target, commands: usize, mut harm: impl FnMut(&mut Vec<u8>)) {
    for round in 0.. {
        assert!(round < 200_000, "it goes on for ever: {} of {commands} are done", host.done);
        if host.wire.fault().is_some() || host.done >= commands && !host.wire.is_busy() {
            return;
        }
        if host.wire.is_open() && host.done < commands && host.random.below(3) > 0 {
            host.enter();
        }
        let most = [1, 13, 100, 5000, 1 << 20][host.random.below(5)];
        let bytes = host.send(most);
        target.feed(&bytes);
        let mut output = std::mem::take(&mut target.output);
        let most = [1, 7, 24, 200, 4096, 1 << 20][host.random.below(6)];
        let later = output.split_off(most.min(output.len()));
        harm(&mut output);
        host.receive(&output);
        target.output = later;
    }
}

#[test]
fn data_arrive_whatever_the_targets_style_and_wherever_the_stream_is_cut() {
    for seed in 0..120 {
        let style = style(&mut Random(seed));
        let (mut host, mut target) = (Host::new(&style, seed), Target::new(style, seed));
        host.wire.set_capsule_bytes(style.capsule_bytes);
        drive(&mut host, &mut target, 60, |_| {});
        assert_eq!(host.wire.fault(), None, "seed {seed}, {style:?}");
        assert!(target.disk == host.expected, "seed {seed}");
        assert!(host.memory.0.is_empty() && !host.wire.is_inside() && !host.wire.has_unsent());
    }
}

#[test]
fn garbage_breaks_the_connection_and_nothing_else() {
    let mut broken = 0;
    for seed in 0..400 {
        let mut style = style(&mut Random(seed));
        // Without digests a flipped bit of the data is nobody's to see.
        (style.header_digest, style.data_digest) = (true, true);
        let (mut host, mut target) = (Host::new(&style, seed), Target::new(style, seed));
        host.wire.set_capsule_bytes(style.capsule_bytes);
        host.is_harmed = true;
        let (mut random, mut passed, at) = (Random(seed ^ 77), 0, Random(seed).below(20_000));
        drive(&mut host, &mut target, 60, |output| {
            let is_now = passed <= at && at < passed + output.len();
            let where_ = at.wrapping_sub(passed);
            passed += output.len();
            if is_now {
                let rest = output.split_off(where_);
                // What follows makes no sense, and is long enough to be seen through.
                output.extend((0..rest.len() + 64 * 1024).map(|_| random.below(256) as u8));
            }
        });
        broken += usize::from(host.wire.fault().is_some());
        assert!(passed < at || host.wire.fault().is_some(), "seed {seed}");
        if host.wire.fault().is_some() {
            assert!(!host.wire.push(0, 1, &Command::default(), Data::None));
            assert_eq!(host.wire.next(&mut host.memory), None);
        }
    }
    assert!(broken > 100, "{broken}");
}

#[test]
fn the_fuzzers_body_finds_nothing_in_inputs_that_are_almost_pdus() {
    let mut random = Random(5);
    for _ in 0..30_000 {
        let mut input: Vec<u8> = (0..3).map(|_| random.below(256) as u8).collect();
        // Greeted, mostly without digests.
        input[0] &= if random.below(4) == 0 { 0x1B } else { 0x18 };
        for _ in 0..random.below(12) {
            let kind = [0x05, 0x07, 0x07, 0x09, 0x03, 0x01][random.below(6)];
            let bytes = 16 * random.below(16) as u8;
            let flags = [0, 4, 12][random.below(3)];
            let cid = [random.below(8) as u8, random.below(2) as u8];
            let offset = if random.below(2) == 0 { 0 } else { bytes };
            let plen = if kind == 0x07 { u16::from(bytes) + 24 } else { 24 }.to_le_bytes();
            input.extend([kind, flags, 24, 24, plen[0], plen[1], 0, 0, cid[0], cid[1], 1, 0]);
            input.extend([offset, 0, 0, 0, bytes, 0, 0, 0, cid[0], cid[1], 0, 0]);
            input.resize(input.len() + if kind == 0x07 { usize::from(bytes) } else { 0 }, 0x55);
        }
        if random.below(3) == 0 && input.len() > 3 {
            let at = 3 + random.below(input.len() - 3);
            input[at] = random.below(256) as u8;
        }
        crate::bdev::nvme::tcp::fuzz::one(&input);
    }
}

#[test]
fn what_was_flipped_fails_its_command_only() {
    let style = Style { data_digest: true, ..PLAIN };
    let (mut host, mut target) = (Host::new(&style, 1), Target::new(style, 1));
    drive(&mut host, &mut target, 1, |_| {});
    let command = Command { opcode: nvm::READ, nsid: 1, ..Command::default() };
    host.memory.0.push(Piece { cid: 0x500, is_read: true, data: vec![0; 512] });
    assert!(host.wire.push(0, 0x500, &command, Data::In(512)));
    let bytes = host.send(usize::MAX);
    target.feed(&bytes);
    target.output[24 + 100] ^= 4;
    let output = std::mem::take(&mut target.output);
    for slice in output.chunks(128) {
        let mut room = host.wire.room(&mut host.memory);
        let (first, second) = room.split_at_mut(1);
        let (head, tail) = slice.split_at(first[0].len().min(slice.len()));
        first[0][..head.len()].copy_from_slice(head);
        second[0][..tail.len()].copy_from_slice(tail);
        host.wire.received(slice.len(), &mut host.memory);
        if let Some(completion) = host.wire.next(&mut host.memory) {
            // Transient transport error.
            assert_eq!((completion.cid, completion.status.bits()), (0x500, 0x22));
            assert!(host.wire.is_open());
            return;
        }
    }
    panic!("it did not complete");
}
