//! The command descriptor block: up to 32 bytes and total accessors.
//!
//! Which bytes mean what is known to the planning functions; which bits may be set at all, to `table`.

/// OPERATION CODE of CDBs that say their length themselves, and have a SERVICE ACTION of two bytes (SPC-5 §4.2.3.3).
pub const VARIABLE_LENGTH: u8 = 0x7f;

/// A CDB: shorter ones are padded with bytes that nobody reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb {
    /// As received.
    pub bytes: [u8; 32],
}

impl Cdb {
    /// From the 16 bytes of the header.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Cdb::extended(bytes, [0; 16])
    }

    /// From those and what is behind them.
    pub const fn extended(bytes: [u8; 16], more: [u8; 16]) -> Self {
        let mut whole = [0; 32];
        let (head, tail) = whole.split_at_mut(16);
        head.copy_from_slice(&bytes);
        tail.copy_from_slice(&more);
        Cdb { bytes: whole }
    }

    /// The first 16 bytes, and those behind them.
    pub const fn halves(&self) -> [u128; 2] {
        let [a @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.bytes;
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, b @ ..] = self.bytes;
        [u128::from_be_bytes(a), u128::from_be_bytes(b)]
    }

    /// OPERATION CODE.
    pub const fn opcode(&self) -> u8 {
        self.bytes[0]
    }

    /// SERVICE ACTION, where the operation code has one; not of [`VARIABLE_LENGTH`].
    pub const fn service_action(&self) -> u8 {
        self.bytes[1] & 0x1f
    }

    /// One byte; 0 beyond the end.
    pub fn byte(&self, at: usize) -> u8 {
        let [byte] = self.field(at);
        byte
    }

    /// Two bytes, big endian.
    pub fn be16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.field(at))
    }

    /// Four bytes, big endian.
    pub fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.field(at))
    }

    /// Eight bytes, big endian.
    pub fn be64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.field(at))
    }

    /// `N` bytes from `at`; zeros where that leaves the CDB.
    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian_and_total() {
        let cdb = Cdb::new([0x9e, 0xf0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(cdb.opcode(), 0x9e);
        assert_eq!(cdb.service_action(), 0x10);
        assert_eq!(cdb.byte(2), 2);
        assert_eq!(cdb.be16(7), 0x0708);
        assert_eq!(cdb.be32(12), 0x0c0d_0e0f);
        assert_eq!(cdb.be64(2), 0x0203_0405_0607_0809);
        assert_eq!(cdb.be32(29), 0);
        assert_eq!(cdb.byte(32), 0);
        assert_eq!(cdb.be64(25), 0);
        assert_eq!(cdb.be64(usize::MAX), 0);
    }

    #[test]
    fn long_ones_go_on_behind_sixteen_bytes() {
        let cdb = Cdb::extended([1; 16], [2; 16]);
        assert_eq!(cdb.be64(12), 0x0101_0101_0202_0202);
        assert_eq!(cdb.be32(28), 0x0202_0202);
        let [head, tail] = cdb.halves();
        assert_eq!((head.to_be_bytes(), tail.to_be_bytes()), ([1; 16], [2; 16]));
    }
}
