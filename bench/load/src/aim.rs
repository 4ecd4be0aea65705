//! Which blocks the next IO is about.

use lunette_initiator::scsi::Capacity;

use crate::options::Access;

/// A logical unit under load, cut into places of one IO each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Its number, for people.
    pub number: u16,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks of one IO.
    pub io_blocks: u32,
    /// Places used.
    pub places: u64,
}

impl Unit {
    /// Cuts the first `span_bytes` of a disk into places.
    ///
    /// # Errors
    /// What does not fit, for the user.
    pub fn new(
        number: u16,
        capacity: Capacity,
        io_bytes: u32,
        span_bytes: Option<u64>,
    ) -> Result<Self, String> {
        let Capacity { count_blocks, block_bytes } = capacity;
        if block_bytes == 0 || !io_bytes.is_multiple_of(block_bytes) {
            return Err(format!("--bs: LUN {number} has blocks of {block_bytes} bytes"));
        }
        let disk_bytes = count_blocks.saturating_mul(u64::from(block_bytes));
        let span_bytes = span_bytes.unwrap_or(disk_bytes);
        if span_bytes > disk_bytes {
            return Err(format!("--span: LUN {number} has {disk_bytes} bytes"));
        }
        let places = span_bytes / u64::from(io_bytes);
        if places == 0 {
            return Err(format!(
                "LUN {number}: {span_bytes} bytes are less than one IO of {io_bytes} (--span, --bs)"
            ));
        }
        Ok(Self { number, block_bytes, io_blocks: io_bytes / block_bytes, places })
    }

    /// The first block of a place.
    #[must_use]
    pub fn lba(&self, place: u64) -> u64 {
        place * u64::from(self.io_blocks)
    }

    /// READ (10) and WRITE (10) reach every place.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.lba(self.places) <= 1 << 32 && self.io_blocks < 1 << 16
    }
}

/// What an IO is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Index of the logical unit.
    pub unit: u32,
    /// Place in it.
    pub place: u64,
    /// Reads, or writes.
    pub is_read: bool,
}

/// Chooses.
#[derive(Debug)]
pub struct Aim {
    /// The logical units.
    pub units: Vec<Unit>,
    is_random: bool,
    /// Of 2^32.
    read_share: u64,
    state: u64,
}

impl Aim {
    /// For these units; there is at least one.
    #[must_use]
    pub fn new(units: Vec<Unit>, access: Access, seed: u64) -> Self {
        let read_share = (u64::from(access.read_percent) << 32) / 100;
        Self { units, is_random: access.is_random, read_share, state: seed }
    }

    /// Where the `index`th of `count` sequential streams begins.
    #[must_use]
    pub fn cursor(&self, index: u32, count: u32) -> u64 {
        let places = self.units.iter().map(|unit| unit.places).max().unwrap_or(1);
        let unit_count = self.units.len() as u64;
        let start = u128::from(places) * u128::from(index) / u128::from(count.max(1));
        u64::try_from(start).unwrap_or(0) * unit_count
    }

    /// The next IO of the stream with this cursor.
    #[inline]
    pub fn next(&mut self, cursor: &mut u64) -> Shot {
        let step = *cursor;
        *cursor = step.wrapping_add(1);
        let (unit, turn) = match self.units.len() as u64 {
            1 => (0, step),
            count => (step % count, step / count),
        };
        let places = self.units[unit as usize].places;
        let (place, is_read) = if self.is_random {
            let draw = self.draw();
            // The upper bits choose the place by a multiplication, the lower ones the direction.
            let place = (u128::from(draw) * u128::from(places)) >> 64;
            (place as u64, (draw & 0xffff_ffff) < self.read_share)
        } else {
            (turn % places, self.read_share != 0)
        };
        Shot { unit: unit as u32, place, is_read }
    }

    /// SplitMix64: a counter and a mixing function.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }
}

/// A bijection of 64 bits that leaves no pattern (SplitMix64's).
#[must_use]
pub fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(places: u64) -> Unit {
        let capacity = Capacity { count_blocks: places * 8 + 7, block_bytes: 512 };
        Unit::new(3, capacity, 4096, None).unwrap()
    }

    #[test]
    fn a_disk_is_cut_into_whole_places() {
        assert_eq!(unit(10), Unit { number: 3, block_bytes: 512, io_blocks: 8, places: 10 });
        assert_eq!(unit(10).lba(9), 72);
        let disk = Capacity { count_blocks: 16, block_bytes: 4096 };
        assert_eq!(Unit::new(0, disk, 8192, Some(20_000)).unwrap().places, 2);
        for (bytes, span) in [(512, None), (8192, Some(65_537)), (131_072, None), (8192, Some(4096))] {
            assert!(Unit::new(0, disk, bytes, span).is_err(), "{bytes} {span:?}");
        }
    }

    #[test]
    fn sequential_streams_begin_apart_and_wrap() {
        let mut aim = Aim::new(vec![unit(4)], "read".parse().unwrap(), 0);
        let mut cursor = aim.cursor(1, 2);
        let places: Vec<u64> = (0..4).map(|_| aim.next(&mut cursor).place).collect();
        assert_eq!(places, [2, 3, 0, 1]);
    }

    #[test]
    fn units_take_turns() {
        let mut aim = Aim::new(vec![unit(4), unit(2)], "write".parse().unwrap(), 0);
        let mut cursor = 0;
        let shots: Vec<_> =
            (0..6).map(|_| aim.next(&mut cursor)).map(|shot| (shot.unit, shot.place)).collect();
        assert_eq!(shots, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 0)]);
    }

    #[test]
    fn random_places_cover_the_unit_and_the_mix_is_as_asked() {
        let mut aim = Aim::new(vec![unit(16)], "mixed:25".parse().unwrap(), 7);
        let mut counts = [0_u32; 16];
        let mut reads = 0;
        for _ in 0..16_000 {
            let shot = aim.next(&mut 0);
            counts[shot.place as usize] += 1;
            reads += u32::from(shot.is_read);
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert!((3700..4300).contains(&reads), "{reads}");
    }
}
