//! Protection information (SBC-4 §4.22): eight bytes with each block, guard, application tag and reference tag.

use super::IoError;

/// Bytes of a tuple.
pub const TUPLE_BYTES: u32 = 8;
/// The same, for slices.
pub(super) const TUPLE: usize = TUPLE_BYTES as usize;

/// Bytes of a tuple.
pub(super) type Tuple = [u8; TUPLE];

/// What the reference tag holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Type 1: the last four bytes of the block's address.
    Type1,
    /// Type 2: what the command says of its first block, and one more with each block.
    Type2,
    /// Type 3: nothing that anybody checks.
    Type3,
}

/// What is compared with a block's tuple. The application tag is the initiators' own: nobody here knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checks {
    /// The guard.
    pub guard: bool,
    /// The reference tag, where the type has one.
    pub reference: bool,
    /// Type 2: what is added to the last four bytes of a block's address, modulo 2^32, to get the reference tag that is expected. So it is the
    /// same for all blocks of a command; of type 1 it is 0.
    pub shift: u32,
}

impl Checks {
    /// Everything there is.
    pub const ALL: Checks = Checks { guard: true, reference: true, shift: 0 };
}

impl Protection {
    /// What is checked where nobody says what is expected: of type 2 no reference tags (SBC-4 §4.22.2.4).
    pub const fn plain(self) -> Checks {
        match self {
            Protection::Type1 | Protection::Type3 => Checks::ALL,
            Protection::Type2 => Checks { guard: true, reference: false, shift: 0 },
        }
    }

    /// What belongs to a block that came without.
    pub(super) fn tuple(self, lba: u64, block: &[u8]) -> Tuple {
        let [high, low] = crc16(block).to_be_bytes();
        let [a, b, c, d] = match self {
            Protection::Type1 => reference(lba, 0),
            // Nobody has said which one.
            Protection::Type2 => [0xff; 4],
            Protection::Type3 => [0; 4],
        };
        [high, low, 0, 0, a, b, c, d]
    }

    /// Whether a tuple belongs to its block.
    ///
    /// # Errors
    /// Which of its parts does not.
    pub(super) fn check(self, checks: Checks, lba: u64, block: &[u8], tuple: &Tuple) -> Result<(), IoError> {
        let [high, low, application_high, application_low, tag @ ..] = *tuple;
        // SBC-4 §4.22.2: such an application tag, with type 3 such a reference tag too, says that nothing is to be checked.
        let is_open = match self {
            Protection::Type1 | Protection::Type2 => true,
            Protection::Type3 => tag == [0xff; 4],
        };
        if [application_high, application_low] == [0xff; 2] && is_open {
            return Ok(());
        }
        if checks.guard && [high, low] != crc16(block).to_be_bytes() {
            return Err(IoError::Guard);
        }
        if checks.reference && self != Protection::Type3 && tag != reference(lba, checks.shift) {
            return Err(IoError::ReferenceTag);
        }
        Ok(())
    }
}

fn reference(lba: u64, shift: u32) -> [u8; 4] {
    low(lba).wrapping_add(shift).to_be_bytes()
}

fn low(lba: u64) -> u32 {
    let [_, _, _, _, low @ ..] = lba.to_be_bytes();
    u32::from_be_bytes(low)
}

/// [`Checks::shift`] of a command whose first block is expected to have this reference tag.
pub fn shift(lba: u64, expected: u32) -> u32 {
    expected.wrapping_sub(low(lba))
}

/// The CRC of T10 (SBC-4 §4.22.4): polynomial 8BB7h, from 0, bit 7 first.
fn crc16(block: &[u8]) -> u16 {
    block.iter().fold(0, |crc, byte| {
        let [high, low] = u16::to_be_bytes(crc);
        TABLE[usize::from(high ^ byte)] ^ u16::from_be_bytes([low, 0])
    })
}

static TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x8bb7 } else { crc << 1 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards() {
        // The check value of CRC-16/T10-DIF, and two vectors of the standard (SBC-4 §4.22.4.4).
        assert_eq!(crc16(b"123456789"), 0xd0db);
        assert_eq!(crc16(&[0; 32]), 0x0000);
        assert_eq!(crc16(&[0xff; 32]), 0xa293);
    }

    #[test]
    fn a_tuple_belongs_to_its_block_and_place() {
        let block = [0xff; 32];
        let tuple = Protection::Type1.tuple(0x0102_0304_0506, &block);
        assert_eq!(tuple, [0xa2, 0x93, 0, 0, 0x03, 0x04, 0x05, 0x06]);
        assert_eq!(Protection::Type3.tuple(7, &block), [0xa2, 0x93, 0, 0, 0, 0, 0, 0]);
        let check = |kind: Protection, lba, tuple: Tuple| kind.check(Checks::ALL, lba, &block, &tuple);
        let one = Protection::Type1;
        assert_eq!(check(one, 5, [0xa2, 0x93, 7, 7, 0, 0, 0, 5]), Ok(()));
        assert_eq!(check(one, 5, [0xa2, 0x92, 7, 7, 0, 0, 0, 5]), Err(IoError::Guard));
        assert_eq!(check(one, 5, [0xa2, 0x93, 7, 7, 0, 0, 0, 4]), Err(IoError::ReferenceTag));
        assert_eq!(check(one, 5, [0, 0, 0xff, 0xff, 0, 0, 0, 4]), Ok(()), "not to be checked");
        let three = Protection::Type3;
        assert_eq!(check(three, 5, [0xa2, 0x93, 7, 7, 0, 0, 0, 4]), Ok(()));
        assert_eq!(check(three, 5, [0, 0, 0xff, 0xff, 0, 0, 0, 4]), Err(IoError::Guard));
        assert_eq!(check(three, 5, [0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), Ok(()));
        let some = |guard, reference| {
            one.check(Checks { guard, reference, shift: 0 }, 5, &block, &[0, 1, 0, 0, 0, 0, 0, 9])
        };
        assert_eq!(some(false, true), Err(IoError::ReferenceTag));
        assert_eq!(some(true, false), Err(IoError::Guard));
        assert_eq!(some(false, false), Ok(()));
    }

    #[test]
    fn in_type_2_the_command_says_which_tag_its_first_block_has() {
        let (block, two) = ([0xff; 32], Protection::Type2);
        assert_eq!(two.tuple(7, &block), [0xa2, 0x93, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(two.plain(), Checks { guard: true, reference: false, shift: 0 });
        // The first block is FFFFFFFEh, and has the tag 3.
        let checks = Checks { shift: shift(0xffff_fffe, 3), ..Checks::ALL };
        for (lba, tag) in [(0xffff_fffe, 3), (0xffff_ffff, 4), (0x1_0000_0000, 5)] {
            let of = |tag: u8| two.check(checks, lba, &block, &[0xa2, 0x93, 7, 7, 0, 0, 0, tag]);
            assert_eq!((of(tag), of(tag + 1)), (Ok(()), Err(IoError::ReferenceTag)), "{lba:x}");
        }
        let guard = two.check(two.plain(), 5, &block, &[0xa2, 0x92, 7, 7, 0, 0, 0, 5]);
        assert_eq!(guard, Err(IoError::Guard));
        assert_eq!(
            two.check(checks, 5, &block, &[0, 0, 0xff, 0xff, 0, 0, 0, 0]),
            Ok(()),
            "not to be checked"
        );
    }
}
