//! Sense data, fixed and descriptor format (SPC-5 §4.4).

/// What sense data say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sense {
    /// Response codes 71h and 73h: about an earlier command.
    pub deferred: bool,
    /// Response codes 72h and 73h.
    pub descriptor_format: bool,
    /// Sense key.
    pub key: u8,
    /// Additional sense code and qualifier.
    pub asc: (u8, u8),
    /// INFORMATION, when valid.
    pub information: Option<u64>,
    /// Incorrect length indicator.
    pub ili: bool,
    /// The three sense-key specific bytes, when valid (SKSV).
    pub key_specific: Option<[u8; 3]>,
}

impl Sense {
    /// Decodes either format; `None` when the response code is neither or the header is cut.
    #[must_use]
    pub fn decode(data: &[u8]) -> Option<Self> {
        match data.first()? & 0x7f {
            code @ (0x70 | 0x71) => Self::decode_fixed(data, code == 0x71),
            code @ (0x72 | 0x73) => Self::decode_descriptors(data, code == 0x73),
            _ => None,
        }
    }

    /// For ILLEGAL REQUEST: the byte at fault, whether it is of the CDB, and the bit if one is named.
    #[must_use]
    pub fn field_pointer(&self) -> Option<(u16, bool, Option<u8>)> {
        let [first, high, low] = self.key_specific.filter(|_| self.key == 5)?;
        let bit = (first & 0x08 != 0).then_some(first & 7);
        Some((u16::from_be_bytes([high, low]), first & 0x40 != 0, bit))
    }

    fn decode_fixed(data: &[u8], deferred: bool) -> Option<Self> {
        let at = |index: usize| data.get(index).copied().unwrap_or(0);
        let key = *data.get(2)?;
        let valid = at(0) & 0x80 != 0;
        let information = u32::from_be_bytes([at(3), at(4), at(5), at(6)]);
        Some(Self {
            deferred,
            descriptor_format: false,
            key: key & 0x0f,
            asc: (at(12), at(13)),
            information: valid.then_some(u64::from(information)),
            ili: key & 0x20 != 0,
            key_specific: (at(15) & 0x80 != 0).then_some([at(15), at(16), at(17)]),
        })
    }

    fn decode_descriptors(data: &[u8], deferred: bool) -> Option<Self> {
        let header: [u8; 8] = *data.first_chunk()?;
        let mut sense = Self {
            deferred,
            descriptor_format: true,
            key: header[1] & 0x0f,
            asc: (header[2], header[3]),
            ..Self::default()
        };
        let end = data.len().min(8 + usize::from(header[7]));
        let mut rest = &data[8..end];
        while let [kind, more, body @ ..] = rest {
            let (body, after) = body.split_at_checked(usize::from(*more))?;
            rest = after;
            match (kind, body) {
                // Information, with its VALID bit.
                (0, [flags, _, information @ ..]) if flags & 0x80 != 0 => {
                    sense.information = information.try_into().ok().map(u64::from_be_bytes);
                }
                // Sense-key specific, with SKSV.
                (2, [_, _, a, b, c, ..]) if a & 0x80 != 0 => sense.key_specific = Some([*a, *b, *c]),
                // Block commands.
                (5, [_, flags, ..]) => sense.ili = flags & 0x20 != 0,
                _ => {}
            }
        }
        Some(sense)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed() {
        let data = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2];
        let sense = Sense::decode(&data).unwrap();
        assert_eq!((sense.key, sense.asc, sense.deferred), (5, (0x24, 0), false));
        assert_eq!(sense.field_pointer(), Some((2, true, Some(7))));
        assert_eq!(sense.information, None);

        let miscompare = [0xf1, 0, 0x2e, 0, 0, 1, 2, 10, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0];
        let sense = Sense::decode(&miscompare).unwrap();
        assert!(sense.deferred && sense.ili);
        assert_eq!((sense.key, sense.information), (0xe, Some(0x102)));
    }

    #[test]
    fn descriptors() {
        let data = [
            0x72, 3, 0x11, 1, 0, 0, 0, 20, 0, 10, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 2, 2, 6, 0, 0, 0xc0, 0, 9, 0,
        ];
        let sense = Sense::decode(&data).unwrap();
        assert_eq!((sense.key, sense.asc), (3, (0x11, 1)));
        assert_eq!(sense.information, Some(0x1_0000_0002));
        assert_eq!(sense.key_specific, Some([0xc0, 0, 9]));
        assert_eq!(sense.field_pointer(), None);
    }

    #[test]
    fn neither() {
        assert_eq!(Sense::decode(&[]), None);
        assert_eq!(Sense::decode(&[0x7f, 0, 0]), None);
        assert_eq!(Sense::decode(&[0x70, 0]), None);
        // A descriptor that claims more than there is.
        assert_eq!(Sense::decode(&[0x72, 5, 0x24, 0, 0, 0, 0, 4, 0, 10, 0, 0]), None);
    }
}
