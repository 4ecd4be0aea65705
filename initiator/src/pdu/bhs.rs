//! The basic header segment and the places of fields in it.

use std::fmt;

/// The 48 bytes at the head of each PDU. The field is public: a hostile test writes what it likes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bhs(pub [u8; 48]);

impl Bhs {
    /// A header of zeros with this first byte.
    #[must_use]
    pub fn new(first: u8) -> Self {
        let mut bytes = [0; 48];
        bytes[0] = first;
        Self(bytes)
    }

    /// The operation code, without the immediate bit.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// TotalAHSLength in bytes (the field counts words).
    #[must_use]
    pub fn ahs_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength.
    #[must_use]
    pub fn data_bytes(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Sets TotalAHSLength, in words.
    pub fn set_ahs_words(&mut self, words: u8) -> &mut Self {
        self.0[4] = words;
        self
    }

    /// Sets DataSegmentLength; what 24 bits cannot hold is cut off.
    pub fn set_data_bytes(&mut self, bytes: u32) -> &mut Self {
        let [_, rest @ ..] = bytes.to_be_bytes();
        self.0[5..8].copy_from_slice(&rest);
        self
    }

    /// Reads the field at `place`.
    pub fn at<P: Place>(&self, place: P) -> P::Value {
        place.load(self)
    }

    /// Writes the field at `place`.
    pub fn set<P: Place>(&mut self, place: P, value: P::Value) -> &mut Self {
        place.store(self, value);
        self
    }

    /// The LUN, in the PDUs that have one.
    #[must_use]
    pub fn lun(&self) -> u64 {
        self.at(Be64(8))
    }

    /// The Initiator Task Tag.
    #[must_use]
    pub fn itt(&self) -> u32 {
        self.at(Be32(16))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }
}

impl Default for Bhs {
    fn default() -> Self {
        Self::new(0)
    }
}

impl fmt::Debug for Bhs {
    /// Hex, in words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bhs(")?;
        for (n, word) in self.0.chunks(4).enumerate() {
            let gap = if n == 0 { "" } else { " " };
            write!(f, "{gap}{:02x}{:02x}{:02x}{:02x}", word[0], word[1], word[2], word[3])?;
        }
        f.write_str(")")
    }
}

/// Where a field lies in a header. The offsets are constants of this crate and lie within the 48 bytes.
pub trait Place {
    /// What the field holds.
    type Value;
    /// Reads the field.
    fn load(&self, bhs: &Bhs) -> Self::Value;
    /// Writes the field and nothing beside it.
    fn store(&self, bhs: &mut Bhs, value: Self::Value);
}

/// One bit: byte, mask.
#[derive(Debug, Clone, Copy)]
pub struct Bit(pub usize, pub u8);
/// Several bits of a byte: byte, mask; the value is shifted to the right.
#[derive(Debug, Clone, Copy)]
pub struct Bits(pub usize, pub u8);
/// A byte.
#[derive(Debug, Clone, Copy)]
pub struct Byte(pub usize);
/// Two bytes, big-endian.
#[derive(Debug, Clone, Copy)]
pub struct Be16(pub usize);
/// Four bytes, big-endian.
#[derive(Debug, Clone, Copy)]
pub struct Be32(pub usize);
/// Eight bytes, big-endian.
#[derive(Debug, Clone, Copy)]
pub struct Be64(pub usize);
/// `N` bytes as they are.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<const N: usize>(pub usize);

impl Place for Bit {
    type Value = bool;
    fn load(&self, bhs: &Bhs) -> bool {
        bhs.0[self.0] & self.1 != 0
    }
    fn store(&self, bhs: &mut Bhs, value: bool) {
        bhs.0[self.0] = bhs.0[self.0] & !self.1 | if value { self.1 } else { 0 };
    }
}

impl Place for Bits {
    type Value = u8;
    fn load(&self, bhs: &Bhs) -> u8 {
        (bhs.0[self.0] & self.1) >> self.1.trailing_zeros()
    }
    fn store(&self, bhs: &mut Bhs, value: u8) {
        bhs.0[self.0] = bhs.0[self.0] & !self.1 | (value << self.1.trailing_zeros()) & self.1;
    }
}

impl Place for Byte {
    type Value = u8;
    fn load(&self, bhs: &Bhs) -> u8 {
        bhs.0[self.0]
    }
    fn store(&self, bhs: &mut Bhs, value: u8) {
        bhs.0[self.0] = value;
    }
}

impl<const N: usize> Place for Bytes<N> {
    type Value = [u8; N];
    fn load(&self, bhs: &Bhs) -> [u8; N] {
        bhs.array(self.0)
    }
    fn store(&self, bhs: &mut Bhs, value: [u8; N]) {
        bhs.0[self.0..self.0 + N].copy_from_slice(&value);
    }
}

macro_rules! big_endian {
    ($($place:ident: $value:ty),*) => { $(
        impl Place for $place {
            type Value = $value;
            fn load(&self, bhs: &Bhs) -> $value {
                <$value>::from_be_bytes(bhs.array(self.0))
            }
            fn store(&self, bhs: &mut Bhs, value: $value) {
                Bytes(self.0).store(bhs, value.to_be_bytes());
            }
        }
    )* };
}
big_endian!(Be16: u16, Be32: u32, Be64: u64);
