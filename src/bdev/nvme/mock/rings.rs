//! Queues: doorbells (real and shadow), commands taken, completions posted, and what may go wrong with them.

use super::device::Device;
use super::fault::Fault;
use super::{Note, nvm};
use crate::bdev::nvme::spec::{Entry, nvm as opcode};
use crate::sim::rng::Rng;

/// A submission queue.
#[derive(Debug)]
pub(super) struct Sq {
    base: u64,
    pub(super) entries: u32,
    head: u32,
    tail: u32,
    pub(super) cq: u16,
    /// With shadow doorbells: it looks at them by itself.
    is_awake: bool,
}

/// A completion queue.
#[derive(Debug)]
pub(super) struct Cq {
    base: u64,
    entries: u32,
    /// Where the driver is.
    head: u32,
    tail: u32,
    phase: bool,
    /// A fault has made the driver's idea of it another than this one.
    is_confused: bool,
}

impl Sq {
    pub(super) fn new(base: u64, entries: u32, cq: u16) -> Sq {
        Sq { base, entries, head: 0, tail: 0, cq, is_awake: true }
    }

    fn waiting(&self) -> u32 {
        (self.tail + self.entries - self.head) % self.entries
    }
}

impl Cq {
    pub(super) fn new(base: u64, entries: u32) -> Cq {
        Cq { base, entries, head: 0, tail: 0, phase: true, is_confused: false }
    }

    fn posted(&self) -> u32 {
        (self.tail + self.entries - self.head) % self.entries
    }

    fn is_full(&self) -> bool {
        self.posted() + 1 == self.entries
    }
}

/// What becomes of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Normal,
    /// It is never completed.
    Never,
    /// It is carried out only after somebody tried to abort it.
    Late,
}

/// A command that was taken.
#[derive(Clone, Debug)]
pub(super) struct Flying {
    pub(super) sq: u16,
    pub(super) entry: Entry,
    /// The second half of a fused operation.
    pub(super) second: Option<Entry>,
    pub(super) fate: Fate,
    /// Completions to be posted: command id, status, result. Those of fused halves go in order.
    pub(super) done: Option<Vec<(u16, u16, u64)>>,
}

/// The command id of an entry.
pub(super) fn cid(entry: &Entry) -> u16 {
    (entry[0] >> 16) as u16
}

/// A completion that nobody should get.
#[derive(Debug)]
pub(super) struct Ghost {
    /// Its completion queue; one that is there no more where there is an address.
    cq: u16,
    /// Where the entry would go in the deleted queue.
    address: Option<u64>,
    words: [u32; 4],
}

impl Device {
    /// Process addresses of a pair's rings, of equal lengths, and their entries.
    pub(super) fn rings(&self, id: u16) -> Option<(usize, usize, u32)> {
        let sq = self.sqs.get(&id)?;
        let cq = self.cqs.get(&sq.cq).filter(|cq| cq.entries == sq.entries)?;
        let bytes = usize::try_from(sq.entries).ok()?;
        let (sq_at, cq_at) =
            (self.dma.translate(sq.base, bytes * 64)?, self.dma.translate(cq.base, bytes * 16)?);
        Some((sq_at, cq_at, sq.entries))
    }

    pub(super) fn doorbell(&mut self, offset: usize, value: u32) {
        let index = offset / (4 << self.config.doorbell_stride);
        if !offset.is_multiple_of(4 << self.config.doorbell_stride) {
            return self.dma.violation(format!("no doorbell at {offset:#x}"));
        }
        let id = (index / 2) as u16;
        if id != 0 && self.shadows.is_some() {
            if let (0, Some(sq)) = (index % 2, self.sqs.get_mut(&id)) {
                sq.is_awake = true;
            }
            return;
        }
        if index.is_multiple_of(2) { self.new_tail(id, value) } else { self.new_head(id, value) }
    }

    /// Doorbells of queues that are not there are ignored: a reactor may ring while its queue is taken away.
    fn new_tail(&mut self, id: u16, value: u32) {
        let Some(sq) = self.sqs.get_mut(&id) else { return };
        let added = (value.wrapping_add(sq.entries).wrapping_sub(sq.tail)) % sq.entries;
        if value >= sq.entries || sq.waiting() + added >= sq.entries {
            let what = format!("submission queue {id}: tail {value} after {}, head {}", sq.tail, sq.head);
            return self.dma.violation(what);
        }
        sq.tail = value;
    }

    fn new_head(&mut self, id: u16, value: u32) {
        let Some(cq) = self.cqs.get_mut(&id) else { return };
        let taken = (value.wrapping_add(cq.entries).wrapping_sub(cq.head)) % cq.entries;
        if value >= cq.entries || taken > cq.posted() {
            if !cq.is_confused {
                let what = format!("completion queue {id}: head {value} after {}, tail {}", cq.head, cq.tail);
                self.dma.violation(what);
            }
            return;
        }
        cq.head = value;
    }

    /// Shadow doorbells (Base §5.8): the driver rings for real only where the event index asks for it.
    pub(super) fn look_at_shadows(&mut self, rng: &mut Rng) -> bool {
        let Some((shadows, events)) = self.shadows else { return false };
        let stride = 4u64 << self.config.doorbell_stride;
        let ids: Vec<u16> = self.sqs.keys().copied().filter(|id| *id != 0).collect();
        for id in ids {
            let at = u64::from(id) * 2 * stride;
            if self.sqs.get(&id).is_some_and(|sq| !sq.is_awake) {
                continue;
            }
            if let Some(tail) = self.dma.load(shadows + at, "shadow doorbell") {
                self.new_tail(id, tail);
            }
            let is_lazy = self.config.is_immediate || rng.one_in(3);
            let Some(sq) = self.sqs.get_mut(&id) else { continue };
            sq.is_awake = !is_lazy;
            // Asleep it wants to be told of the next entry; awake, of none before the queue has gone round.
            let event = if is_lazy { sq.tail } else { (sq.tail + sq.entries - 1) % sq.entries };
            if !self.dma.store(events + at, event, "event index") {
                continue;
            }
            // What came before the index was seen would be lost.
            if let Some(tail) = self.dma.load(shadows + at, "shadow doorbell") {
                self.new_tail(id, tail);
            }
        }
        for id in self.cqs.keys().copied().filter(|id| *id != 0).collect::<Vec<_>>() {
            let at = (u64::from(id) * 2 + 1) * stride;
            if let Some(head) = self.dma.load(shadows + at, "shadow doorbell") {
                self.new_head(id, head);
            }
        }
        false
    }

    fn fetch(&mut self, id: u16) -> Option<Entry> {
        let sq = self.sqs.get_mut(&id)?;
        let at = sq.base + u64::from(sq.head) * 64;
        sq.head = (sq.head + 1) % sq.entries;
        let mut bytes = [0; 64];
        if !self.dma.read(at, &mut bytes, "submission queue entry") {
            return None;
        }
        let mut entry = [0; 16];
        for (word, bytes) in entry.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Some(entry)
    }

    pub(super) fn take_one(&mut self, rng: &mut Rng) -> bool {
        let ids: Vec<u16> = self.sqs.iter().filter(|(_, sq)| sq.waiting() > 0).map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return false;
        }
        let id = rng.pick(&ids);
        let Some(entry) = self.fetch(id) else { return true };
        // Base §3.4.2: the second half comes next in the same queue, and both are there when the doorbell is rung.
        let second = match entry[0] >> 8 & 3 {
            0 => None,
            1 if self.sqs.get(&id).is_some_and(|sq| sq.waiting() > 0) => self.fetch(id),
            _ => {
                self.dma.violation(format!("queue {id}: half of a fused operation"));
                None
            }
        };
        let is_known =
            |known: &Flying| known.sq == id && (known.entry[0] ^ entry[0]) >> 16 == 0 && known.done.is_none();
        if self.flying.iter().any(is_known) || id == 0 && self.listeners.contains(&cid(&entry)) {
            self.dma.violation(format!("queue {id}: command id {:#x} is in use", cid(&entry)));
        }
        let mut fate = Fate::Normal;
        if id != 0 {
            self.note_command(&entry);
            second.iter().for_each(|second| self.note_command(second));
            if self.faults.strikes(Fault::NeverCompletes, rng) {
                fate = Fate::Never;
            } else if self.faults.strikes(Fault::CompletesAfterAbort, rng) {
                fate = Fate::Late;
            }
        }
        self.flying.push(Flying { sq: id, entry, second, fate, done: None });
        true
    }

    fn note_command(&mut self, entry: &Entry) {
        if self.notes.is_none() {
            return;
        }
        let opcode = (entry[0] & 0xFF) as u8;
        let (lba, blocks) = nvm::extent(entry);
        let mut stamp = None;
        if opcode == opcode::WRITE {
            let first = u64::from(entry[6]) | u64::from(entry[7]) << 32;
            let mut bytes = [0; 8];
            stamp = self.dma.read(first, &mut bytes, "data").then(|| u64::from_le_bytes(bytes));
        }
        self.note(Note::Taken {
            opcode,
            fuse: (entry[0] >> 8 & 3) as u8,
            nsid: entry[1],
            lba,
            blocks,
            stamp,
        });
    }

    pub(super) fn carry_one_out(&mut self, rng: &mut Rng) -> bool {
        let ready: Vec<usize> = (0..self.flying.len())
            .filter(|at| self.flying[*at].fate == Fate::Normal && self.flying[*at].done.is_none())
            .collect();
        if ready.is_empty() {
            return false;
        }
        let command = self.flying.swap_remove(rng.pick(&ready));
        let done = self.carry_out(&command, rng);
        if done.is_some() {
            self.flying.push(Flying { done, ..command });
        }
        true
    }

    /// Posts the completion of a random command that was carried out.
    pub(super) fn complete_one(&mut self, rng: &mut Rng) -> bool {
        let can = |command: &Flying| {
            let cq = self.sqs.get(&command.sq).and_then(|sq| self.cqs.get(&sq.cq));
            command.done.is_some() && cq.is_some_and(|cq| !cq.is_full())
        };
        let ready: Vec<usize> = (0..self.flying.len()).filter(|at| can(&self.flying[*at])).collect();
        if ready.is_empty() {
            return false;
        }
        let at = rng.pick(&ready);
        let id = self.flying[at].sq;
        let Some(done) = &mut self.flying[at].done else { return false };
        let (cid, status, result) = done.remove(0);
        if done.is_empty() {
            self.flying.swap_remove(at);
        }
        self.complete(id, cid, status, result, rng);
        true
    }

    /// Posts a completion, with what may go wrong.
    pub(super) fn complete(&mut self, id: u16, cid: u16, status: u16, result: u64, rng: &mut Rng) {
        let Some((head, cq)) = self.sqs.get(&id).map(|sq| (sq.head, sq.cq)) else { return };
        let [low, high] = [result as u32, (result >> 32) as u32];
        let mut words = [low, high, head | u32::from(id) << 16, u32::from(cid) | u32::from(status) << 17];
        if self.faults.strikes(Fault::UnknownCommand, rng) {
            // Of no slot that the driver can have, or it would be believed: the low byte is beyond any queue's depth, or the
            // command id is one that no command has.
            let slots = self.sqs.get(&id).map_or(0, |sq| sq.entries);
            let strange_cid = if slots < 0x100 { 0xFF | (rng.below(0x100) as u32 + 1) << 8 } else { 0xFFFF };
            let mut strange = words;
            strange[3] = strange_cid & 0xFFFF;
            self.ghosts.push(Ghost { cq, address: None, words: strange });
        }
        if self.faults.strikes(Fault::CompletesTwice, rng) {
            self.ghosts.push(Ghost { cq, address: None, words });
        }
        if self.faults.strikes(Fault::WrongHead, rng) {
            words[2] = words[2] & 0xFFFF_0000 | rng.below(0x1_0000) as u32;
        }
        if self.faults.strikes(Fault::WrongQueue, rng) {
            words[2] ^= (1 + rng.below(0xFFFF) as u32) << 16;
        }
        let is_stuck = self.faults.strikes(Fault::StuckPhase, rng);
        let is_flipped = self.faults.strikes(Fault::FlippedPhase, rng);
        self.post(cq, words, is_stuck);
        if is_flipped && let Some(cq) = self.cqs.get_mut(&cq) {
            // What the entry after that one holds is from the round before.
            cq.is_confused = true;
            let (at, phase) = (cq.base + u64::from(cq.tail) * 16 + 12, cq.phase);
            if let Some(word) = self.dma.load(at, "completion queue entry") {
                let _ =
                    self.dma.store(at, word & !0x1_0000 | u32::from(phase) << 16, "completion queue entry");
            }
        }
    }

    /// Posts what is no command's completion.
    pub(super) fn forge(&mut self, id: u16, mut words: [u32; 4]) {
        words[3] &= !0x1_0000;
        if let Some(cq) = self.cqs.get_mut(&id) {
            cq.is_confused = true;
            self.post(id, words, false);
        }
    }

    fn post(&mut self, id: u16, mut words: [u32; 4], is_stuck: bool) {
        let Some(cq) = self.cqs.get_mut(&id).filter(|cq| !cq.is_full()) else { return };
        cq.is_confused |= is_stuck;
        words[3] |= u32::from(cq.phase != is_stuck) << 16;
        let at = cq.base + u64::from(cq.tail) * 16;
        cq.tail = (cq.tail + 1) % cq.entries;
        cq.phase ^= cq.tail == 0;
        self.store_completion(at, words);
    }

    /// The word with the phase last.
    fn store_completion(&mut self, at: u64, words: [u32; 4]) {
        for (offset, word) in [0, 4, 8, 12].into_iter().zip(words) {
            if !self.dma.store(at + offset, word, "completion queue entry") {
                return;
            }
        }
    }

    pub(super) fn post_ghosts(&mut self, rng: &mut Rng) -> bool {
        if self.ghosts.is_empty() || !rng.one_in(4) {
            return !self.ghosts.is_empty();
        }
        let ghost = self.ghosts.swap_remove(rng.index(self.ghosts.len()));
        match ghost.address {
            None => self.post(ghost.cq, ghost.words, false),
            Some(address) if self.dma.is_reachable(address, 16) => {
                self.store_completion(address, ghost.words)
            }
            Some(_) => self.dma.stopped_count += 1,
        }
        true
    }

    /// What becomes of a command whose queue goes: some are still carried out.
    fn last_word(&mut self, command: &Flying, rng: &mut Rng) -> Vec<(u16, u16, u64)> {
        if let Some(done) = &command.done {
            return done.clone();
        }
        let done = if rng.one_in(2) { self.carry_out(command, rng) } else { None };
        let halves = std::iter::once(&command.entry).chain(&command.second);
        done.unwrap_or_else(|| halves.map(|half| (cid(half), nvm::DELETED, 0)).collect())
    }

    /// The submission queue goes: what was in it ends (Base §5.6), or haunts its completion queue.
    pub(super) fn delete_sq(&mut self, id: u16, rng: &mut Rng) {
        let Some(sq) = self.sqs.get(&id) else { return };
        let (cq, head) = (sq.cq, sq.head);
        let (ended, left) = self.flying.drain(..).partition::<Vec<Flying>, _>(|command| command.sq == id);
        self.flying = left;
        let is_haunted = self.faults.strikes(Fault::CompletesAfterDelete, rng);
        let ends: Vec<_> = ended.iter().flat_map(|command| self.last_word(command, rng)).collect();
        for (cid, status, result) in ends {
            if !is_haunted {
                self.complete(id, cid, status, result, rng);
                continue;
            }
            if let Some(queue) = self.cqs.get(&cq) {
                let slot = rng.below(u64::from(queue.entries)) * 16;
                let words = [0, 0, head | u32::from(id) << 16, u32::from(cid) | u32::from(queue.phase) << 16];
                self.ghosts.push(Ghost { cq, address: Some(queue.base + slot), words });
            }
        }
        self.sqs.remove(&id);
    }
}
