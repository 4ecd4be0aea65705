//! Logical unit numbers on the wire (SAM-5 §4.7).

use crate::scsi::view::LunNumber;

impl LunNumber {
    /// Stands for a LUN field that names nothing here; no mapping has this number.
    pub const NOWHERE: LunNumber = LunNumber(u16::MAX);

    /// Decodes the 8-byte LUN field of a header. Single level only: peripheral device addressing of bus 0 and flat
    /// space addressing; anything else, well known logical units too, names no logical unit here.
    pub fn decode(field: &[u8; 8]) -> Option<LunNumber> {
        let [high, low, ..] = *field;
        let number = u16::from_be_bytes([high, low]);
        if u64::from_be_bytes(*field) << 16 != 0 {
            return None;
        }
        match number >> 14 {
            // SAM-5 §4.7.7: peripheral device addressing; bus identifier 0 is this target's own level.
            0b00 if number < 0x100 => Some(LunNumber(number)),
            // SAM-5 §4.7.7: flat space addressing, 14 bits.
            0b01 => Some(LunNumber(number & 0x3fff)),
            _ => None,
        }
    }

    /// The 8-byte field for this number: peripheral device addressing below 256, flat space from there on.
    pub fn encode(self) -> [u8; 8] {
        let [high, low] = self.0.to_be_bytes();
        let method = if high == 0 { 0x00 } else { 0x40 };
        [method | (high & 0x3f), low, 0, 0, 0, 0, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        assert_eq!(LunNumber::decode(&[0, 0, 0, 0, 0, 0, 0, 0]), Some(LunNumber(0)));
        assert_eq!(LunNumber::decode(&[0, 255, 0, 0, 0, 0, 0, 0]), Some(LunNumber(255)));
        assert_eq!(LunNumber::decode(&[0x40, 7, 0, 0, 0, 0, 0, 0]), Some(LunNumber(7)));
        assert_eq!(LunNumber::decode(&[0x41, 0, 0, 0, 0, 0, 0, 0]), Some(LunNumber(256)));
        assert_eq!(LunNumber::decode(&[0x7f, 0xff, 0, 0, 0, 0, 0, 0]), Some(LunNumber(16383)));
    }

    #[test]
    fn other_addresses_are_nowhere() {
        assert_eq!(LunNumber::decode(&[1, 0, 0, 0, 0, 0, 0, 0]), None, "bus 1");
        assert_eq!(LunNumber::decode(&[0x80, 0, 0, 0, 0, 0, 0, 0]), None, "logical unit addressing");
        assert_eq!(LunNumber::decode(&[0xc1, 0x01, 0, 0, 0, 0, 0, 0]), None, "REPORT LUNS well known");
        assert_eq!(LunNumber::decode(&[0xff; 8]), None, "not specified");
        assert_eq!(LunNumber::decode(&[0, 1, 0, 0, 0, 0, 0, 1]), None, "a deeper level");
    }

    #[test]
    fn numbers_are_written() {
        assert_eq!(LunNumber(0).encode(), [0; 8]);
        assert_eq!(LunNumber(255).encode(), [0, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(LunNumber(256).encode(), [0x41, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(LunNumber(16383).encode(), [0x7f, 0xff, 0, 0, 0, 0, 0, 0]);
    }
}
