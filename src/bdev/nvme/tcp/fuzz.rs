//! What the fuzzers run: the machine of a connection, given any bytes in any pieces while commands come and go.
#![expect(clippy::panic, reason = "a finding")]

use super::pdu::Digests;
use super::wire::{Data, Wire};
use crate::bdev::nvme::queue::Payloads;
use crate::bdev::nvme::spec::{Command, Range};

const DEPTH: u16 = 8;
const DATA_BYTES: usize = 8192;

/// Memory of each slot; the command's id is its slot and a generation above it.
struct Memory {
    /// The command that has it, what moves, and how many bytes.
    users: [Option<(u16, Data)>; DEPTH as usize],
    data: Box<[u8]>,
}

impl Memory {
    fn user(&self, cid: u16) -> Option<Data> {
        let (user, data) = (*self.users.get(usize::from(cid & 0xFF))?)?;
        (user == cid).then_some(data)
    }
}

impl Payloads for Memory {
    fn source(&self, cid: u16) -> Option<&[u8]> {
        let Data::Out(bytes) = self.user(cid)? else { return None };
        self.data.get(..bytes)
    }

    fn sink(&mut self, cid: u16) -> Option<&mut [u8]> {
        let Data::In(bytes) = self.user(cid)? else { return None };
        self.data.get_mut(..bytes)
    }
}

fn greeting(digests: Digests, alignment: u8) -> [u8; 128] {
    let mut greeting = [0; 128];
    greeting[..8].copy_from_slice(&[1, 0, 128, 0, 128, 0, 0, 0]);
    greeting[10] = alignment;
    greeting[11] = u8::from(digests.header) | u8::from(digests.data) << 1;
    greeting[13] = 0x10;
    greeting
}

/// Runs one input.
///
/// # Panics
/// On a finding.
pub fn one(input: &[u8]) {
    let [shape, chunk, capsule, rest @ ..] = input else { return };
    let digests = Digests { header: shape & 1 != 0, data: shape & 2 != 0 };
    let mut wire = Wire::new(1, DEPTH, digests);
    let mut memory = Memory { users: [None; DEPTH as usize], data: vec![0; DATA_BYTES].into() };
    send(&mut wire, &memory, usize::MAX);
    if shape & 4 == 0 {
        receive(&mut wire, &mut memory, &greeting(digests, shape >> 3));
    }
    wire.set_capsule_bytes(usize::from(*capsule) * 32);
    let mut generation = 0;
    for (number, bytes) in rest.chunks(usize::from(*chunk).max(1)).enumerate() {
        let kind = bytes[0];
        let slot = usize::from(kind) % memory.users.len();
        if wire.is_open() && memory.users[slot].is_none() {
            generation = (generation + 1) % 3;
            let slot_number = u16::try_from(slot).unwrap_or_default();
            let cid = slot_number | generation << 8;
            let data = match kind >> 5 {
                0 | 1 => Data::In(usize::from(kind) * 16 + 16),
                2 | 3 => Data::Out(usize::from(kind) * 32),
                4 => Data::Zeroes(usize::from(kind) * 1024),
                5 => Data::Inline(Range::of_dataset(u64::from(kind), 1)),
                _ => Data::None,
            };
            assert!(wire.push(slot_number, cid, &Command::default(), data), "there was a slot");
            memory.users[slot] = Some((cid, data));
        }
        receive(&mut wire, &mut memory, bytes);
        send(&mut wire, &memory, if number % 3 == 0 { usize::from(kind) } else { usize::MAX });
    }
    assert!(wire.fault().is_some() || wire.is_busy() == memory.users.iter().any(Option::is_some));
}

fn send(wire: &mut Wire, memory: &Memory, most: usize) {
    for _ in 0..1000 {
        wire.stage(memory);
        let Ok(slices) = wire.slices(memory) else { panic!("memory is there until its command ends") };
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>().min(most);
        drop(slices);
        wire.sent(bytes);
        if bytes == 0 || most != usize::MAX {
            return;
        }
    }
    panic!("more is sent than was asked for");
}

fn receive(wire: &mut Wire, memory: &mut Memory, mut bytes: &[u8]) {
    while !bytes.is_empty() && wire.fault().is_none() {
        let mut taken = 0;
        for slice in &mut wire.room(memory) {
            let now = slice.len().min(bytes.len() - taken);
            slice[..now].copy_from_slice(&bytes[taken..taken + now]);
            taken += now;
        }
        assert!(taken > 0, "there is always room");
        wire.received(taken, memory);
        bytes = &bytes[taken..];
        while let Some(completion) = wire.next(memory) {
            let user = &mut memory.users[usize::from(completion.cid & 0xFF)];
            assert_eq!(user.take().map(|(cid, _)| cid), Some(completion.cid), "a command ends once");
        }
    }
}
