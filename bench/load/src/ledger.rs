//! What each place holds, for `--verify`.
//!
//! Each sector of 512 bytes that is written says which write it belongs to: a mark, a generation that no other write of
//! the run has, and words that follow from generation and address. So a sector of another place, time or write is told
//! apart, and so is one that was written by an earlier run with other sizes. A place has one IO at a time.

use crate::aim::{Shot, Unit, mix};

/// Bytes that a pattern is made of: the smallest block.
pub const SECTOR_BYTES: usize = 512;
/// The upper half of the first word of each sector.
const MARK: u64 = 0x6c75_6e65 << 32;
/// Places of all units together: 4 bytes each, so 1 GiB.
pub const PLACES_MAX: u64 = 1 << 28;

/// A place that nothing is known of.
const UNKNOWN: u32 = 0;
/// A place with an IO in flight.
const BUSY: u32 = u32::MAX;

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What was written last.
    Right,
    /// This run has not written there, and what is there is no pattern.
    Unchecked,
    /// Something else; words for the user.
    Wrong(String),
}

/// The generations of all places.
#[derive(Debug)]
pub struct Ledger {
    generations: Vec<Vec<u32>>,
    next: u32,
}

impl Ledger {
    /// For these units. `first` is the first generation: different in each run, better.
    #[must_use]
    pub fn new(units: &[Unit], first: u32) -> Self {
        let generations = units.iter().map(|unit| vec![UNKNOWN; unit.places as usize]).collect();
        Self { generations, next: first }
    }

    /// Takes a place for one IO: the one aimed at or, where that is taken, the next. Returns what it held; none when the
    /// whole unit is taken.
    pub fn claim(&mut self, shot: &mut Shot) -> Option<u32> {
        let generations = &mut self.generations[shot.unit as usize];
        let start = shot.place as usize;
        let free = |&at: &usize| generations[at] != BUSY;
        let at = (start..generations.len()).find(free).or_else(|| (0..start).find(free))?;
        shot.place = at as u64;
        Some(std::mem::replace(&mut generations[at], BUSY))
    }

    /// Gives a place back, which holds this now.
    pub fn release(&mut self, shot: &Shot, generation: u32) {
        self.generations[shot.unit as usize][shot.place as usize] = generation;
    }

    /// Gives a place back of which nothing is known now: a write that failed.
    pub fn forget(&mut self, shot: &Shot) {
        self.release(shot, UNKNOWN);
    }

    /// The generation of the next write.
    pub fn generation(&mut self) -> u32 {
        let generation = self.next;
        self.next = self.next.wrapping_add(1);
        if matches!(generation, UNKNOWN | BUSY) { self.generation() } else { generation }
    }
}

/// The word at an index of a sector.
fn word(key: u64, index: usize) -> u64 {
    key.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64))
}

fn key(sector: u64, generation: u32) -> u64 {
    mix(sector ^ u64::from(generation) << 40)
}

/// Fills a place with its pattern.
pub fn fill(place: u64, generation: u32, data: &mut [u8]) {
    for (sector, bytes) in sectors(place, data.len()).zip(data.chunks_mut(SECTOR_BYTES)) {
        let key = key(sector, generation);
        for (index, bytes) in bytes.chunks_mut(8).enumerate() {
            let word = if index == 0 { MARK | u64::from(generation) } else { word(key, index) };
            bytes.copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// The numbers of a place's sectors, over the whole unit.
fn sectors(place: u64, bytes: usize) -> impl Iterator<Item = u64> {
    let count = (bytes / SECTOR_BYTES) as u64;
    place * count..(place + 1) * count
}

/// Judges what was read from a place that holds this generation.
#[must_use]
pub fn check(place: u64, generation: u32, data: &[u8]) -> Verdict {
    let mut verdict = Verdict::Right;
    for (sector, bytes) in sectors(place, data.len()).zip(data.chunks(SECTOR_BYTES)) {
        let mut words = bytes.chunks(8).map(|bytes| bytes.try_into().map_or(0, u64::from_be_bytes));
        let first = words.next().unwrap_or(0);
        let found = (first & 0xffff_ffff) as u32;
        let is_marked = first & !0xffff_ffff == MARK;
        if generation == UNKNOWN && !is_marked {
            verdict = Verdict::Unchecked;
            continue;
        }
        let offset = sector * SECTOR_BYTES as u64;
        if !is_marked {
            return Verdict::Wrong(format!("byte {offset}: {first:016x}, not what was written"));
        }
        if generation != UNKNOWN && found != generation {
            return Verdict::Wrong(format!(
                "byte {offset}: of write {found:#x}, the last was {generation:#x}"
            ));
        }
        let key = key(sector, found);
        if !words.enumerate().all(|(index, found)| found == word(key, index + 1)) {
            return Verdict::Wrong(format!(
                "byte {offset}: of write {found:#x}, but torn or of another place"
            ));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_known_again_and_nothing_else_is() {
        let mut data = [0; 4096];
        fill(5, 9, &mut data);
        assert_eq!(data[..8], [0x6c, 0x75, 0x6e, 0x65, 0, 0, 0, 9]);
        assert_eq!(check(5, 9, &data), Verdict::Right);
        assert_eq!(check(5, UNKNOWN, &data), Verdict::Right);
        // The same sectors as halves of a place, read by a run with smaller IOs.
        assert_eq!(check(11, UNKNOWN, &data[2048..]), Verdict::Right);
        let wrong = |verdict| matches!(verdict, Verdict::Wrong(_));
        assert!(wrong(check(5, 8, &data)), "an older write");
        assert!(wrong(check(6, UNKNOWN, &data)), "another place");
        assert!(wrong(check(5, 9, &[0; 4096])));
        assert_eq!(check(5, UNKNOWN, &[0; 4096]), Verdict::Unchecked);
        data[4095] ^= 1;
        assert!(wrong(check(5, 9, &data)) && wrong(check(5, UNKNOWN, &data)), "one bit");
        data[4095] ^= 1;
        data.copy_within(512..1024, 1024);
        assert!(wrong(check(5, 9, &data)), "a sector twice");
    }

    #[test]
    fn a_place_has_one_io_at_a_time() {
        let unit = Unit { number: 0, block_bytes: 512, io_blocks: 1, places: 2 };
        let mut ledger = Ledger::new(&[unit], 1);
        let mut shots = [Shot { unit: 0, place: 1, is_read: true }; 3];
        assert_eq!(ledger.claim(&mut shots[0]), Some(UNKNOWN));
        assert_eq!((ledger.claim(&mut shots[1]), shots[1].place), (Some(UNKNOWN), 0));
        assert_eq!(ledger.claim(&mut shots[2]), None);
        ledger.release(&shots[0], 7);
        assert_eq!(ledger.claim(&mut shots[2]), Some(7));
        ledger.forget(&shots[2]);
        assert_eq!(ledger.claim(&mut shots[2]), Some(UNKNOWN));
    }

    #[test]
    fn reserved_generations_are_left_out() {
        let mut ledger = Ledger::new(&[], u32::MAX - 1);
        assert_eq!([ledger.generation(), ledger.generation()], [u32::MAX - 1, 1]);
    }
}
