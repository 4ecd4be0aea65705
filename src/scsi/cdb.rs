//! The command descriptor block: sixteen bytes and total accessors.
//!
//! Which bytes mean what is known to the planning functions; which bits may be set at all, to `table`.

/// A CDB as it stands in the Basic Header Segment: shorter ones are padded with bytes that nobody reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb {
    /// As received.
    pub bytes: [u8; 16],
}

impl Cdb {
    /// From the 16 bytes of the header.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Cdb { bytes }
    }

    /// OPERATION CODE.
    pub const fn opcode(&self) -> u8 {
        self.bytes[0]
    }

    /// SERVICE ACTION, where the operation code has one.
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
        assert_eq!(cdb.be32(13), 0);
        assert_eq!(cdb.byte(16), 0);
        assert_eq!(cdb.be64(usize::MAX), 0);
    }
}
