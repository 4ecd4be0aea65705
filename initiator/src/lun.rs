//! LUN fields (SAM-5 §4.7): the single-level forms that targets use.

/// Peripheral device addressing on bus 0.
#[must_use]
pub fn peripheral(number: u8) -> u64 {
    u64::from(number) << 48
}

/// Flat space addressing; the upper two bits of `number` (it has 14) do not survive.
#[must_use]
pub fn flat(number: u16) -> u64 {
    (0x4000 | u64::from(number & 0x3fff)) << 48
}

/// The form that a Linux initiator would send: peripheral up to 255, flat above.
#[must_use]
pub fn from_number(number: u16) -> u64 {
    u8::try_from(number).map_or_else(|_| flat(number), peripheral)
}

/// The number in a single-level LUN field, of either form; `None` for any other form.
#[must_use]
pub fn number(lun: u64) -> Option<u16> {
    let [high, low, rest @ ..] = lun.to_be_bytes();
    if rest != [0; 6] {
        return None;
    }
    match high {
        0 => Some(u16::from(low)),
        0x40..=0x7f => Some(u16::from_be_bytes([high & 0x3f, low])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert_eq!(peripheral(5), 0x0005_0000_0000_0000);
        assert_eq!(flat(5), 0x4005_0000_0000_0000);
        assert_eq!(from_number(255), 0x00ff_0000_0000_0000);
        assert_eq!(from_number(256), 0x4100_0000_0000_0000);
        assert_eq!(number(0x0005_0000_0000_0000), Some(5));
        assert_eq!(number(0x7fff_0000_0000_0000), Some(0x3fff));
        assert_eq!(number(0x0100_0000_0000_0000), None);
        assert_eq!(number(0x0005_0000_0000_0001), None);
    }
}
