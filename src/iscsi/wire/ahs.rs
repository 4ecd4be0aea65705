//! Additional header segments of a SCSI Command (RFC 7143 §11.2.2): the rest of a CDB of more than 16 bytes, and the length that
//! a bidirectional command expects to read.

use crate::scsi::cdb::{Cdb, VARIABLE_LENGTH};

/// AHSLength and AHSType.
const HEAD_BYTES: usize = 3;
const EXTENDED_CDB: u8 = 1;
const BIDIRECTIONAL: u8 = 2;

/// A CDB with what additional header segments say of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extended {
    /// The CDB's first 32 bytes: none that is served is longer.
    pub cdb: Cdb,
    /// Data are to go both ways.
    pub is_bidirectional: bool,
}

/// Additional header segments that say nothing that could be understood, or less of a CDB than it is long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl Extended {
    /// Reads the segments that came with a header whose CDB field is this.
    ///
    /// # Errors
    /// [`Malformed`]: also where one is of a type that there is not, or there twice.
    pub fn read(first: [u8; 16], mut segments: &[u8]) -> Result<Extended, Malformed> {
        let mut more = None;
        let mut is_bidirectional = false;
        while let Some((&[high, low, kind], rest)) = segments.split_first_chunk::<HEAD_BYTES>() {
            let bytes = usize::from(u16::from_be_bytes([high, low]));
            let (body, rest) = rest.split_at_checked(padded(bytes)).ok_or(Malformed)?;
            segments = rest;
            // Each begins with a reserved byte. The upper bits of the type are reserved as well.
            match (kind & 0x3f, &body[..bytes]) {
                (EXTENDED_CDB, [_, tail @ ..]) if !tail.is_empty() && more.is_none() => more = Some(tail),
                (BIDIRECTIONAL, [_, _, _, _, _]) if !is_bidirectional => is_bidirectional = true,
                _ => return Err(Malformed),
            }
        }
        let more = more.unwrap_or_default();
        if !segments.is_empty() || !is_whole(first, more.len()) {
            return Err(Malformed);
        }
        let mut tail = [0; 16];
        tail.iter_mut().zip(more).for_each(|(to, from)| *to = *from);
        Ok(Extended { cdb: Cdb::extended(first, tail), is_bidirectional })
    }
}

/// What a segment is filled up to, behind its head: the next word's end.
const fn padded(bytes: usize) -> usize {
    (HEAD_BYTES + bytes).next_multiple_of(4) - HEAD_BYTES
}

/// Whether a CDB that begins so may have so many bytes beyond the 16th.
fn is_whole(first: [u8; 16], more_bytes: usize) -> bool {
    let [opcode, _, _, _, _, _, _, additional_bytes, ..] = first;
    match opcode {
        // ADDITIONAL CDB LENGTH counts what is behind itself.
        VARIABLE_LENGTH => 16 + more_bytes >= 8 + usize::from(additional_bytes),
        // RFC 7143 §11.2.2.3: not with CDBs of fewer than 17 bytes; longer ones of others nobody serves, nor passes on.
        _ => more_bytes == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// READ(32), its first half.
    const FIRST: [u8; 16] = [0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0, 9, 0, 0, 0, 0, 0, 0];
    const READ_10: [u8; 16] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn the_rest_of_a_cdb() {
        let segments = [0, 17, 1, 0xee, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1];
        let tail = [0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1];
        let cdb = Cdb::extended(FIRST, tail);
        assert_eq!(Extended::read(FIRST, &segments), Ok(Extended { cdb, is_bidirectional: false }));
        let both = [&[0, 5, 2, 0, 0, 0, 2, 0], &segments[..]].concat();
        assert_eq!(Extended::read(FIRST, &both), Ok(Extended { cdb, is_bidirectional: true }));
        let both = [&segments[..], &[0, 5, 0xc2, 0, 0, 0, 2, 0]].concat();
        assert_eq!(Extended::read(FIRST, &both), Ok(Extended { cdb, is_bidirectional: true }));
    }

    #[test]
    fn what_is_behind_32_bytes_is_read_over() {
        let mut first = FIRST;
        first[7] = 0xfc;
        let mut segments = vec![0, 245, 1, 0];
        segments.extend(1..=244_u8);
        let cdb = Cdb::extended(first, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(Extended::read(first, &segments), Ok(Extended { cdb, is_bidirectional: false }));
        first[7] = 0xfd;
        assert_eq!(Extended::read(first, &segments), Err(Malformed));
    }

    #[test]
    fn none_at_all() {
        let plain = Extended { cdb: Cdb::new(READ_10), is_bidirectional: false };
        assert_eq!(Extended::read(READ_10, &[]), Ok(plain));
        assert_eq!(Extended::read(FIRST, &[]), Err(Malformed), "sixteen bytes of 32");
        let mut short = FIRST;
        short[7] = 8;
        assert!(Extended::read(short, &[]).is_ok(), "all of them");
    }

    #[test]
    fn one_that_is_cut_anywhere() {
        let segments = [0, 17, 1, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 2, 0];
        for bytes in (0..segments.len()).filter(|bytes| *bytes != 20) {
            assert_eq!(Extended::read(FIRST, &segments[..bytes]), Err(Malformed), "{bytes} bytes");
        }
        assert!(Extended::read(FIRST, &segments[..20]).is_ok());
    }

    #[test]
    fn what_is_malformed() {
        for segments in [
            // Fifteen bytes of sixteen, filled up.
            &[0, 16, 1, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0][..],
            // A length that leaves the header, and one that has no room for the reserved byte, or for a CDB.
            &[0, 18, 1, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1],
            &[0xff, 0xff, 1, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 1],
            &[0, 0, 1, 0],
            &[0, 1, 1, 0],
            // Types that there are not.
            &[0, 1, 0, 0],
            &[0, 5, 3, 0, 0, 0, 2, 0],
            // A length to read of three bytes.
            &[0, 4, 2, 0, 0, 2, 0, 0],
        ] {
            assert_eq!(Extended::read(FIRST, segments), Err(Malformed), "{segments:02x?}");
        }
        let twice = [[0, 5, 2, 0, 0, 0, 2, 0]; 2].concat();
        assert_eq!(Extended::read(READ_10, &twice), Err(Malformed));
        assert_eq!(
            Extended::read(READ_10, &[0, 2, 1, 0, 9, 0, 0, 0]),
            Err(Malformed),
            "too long for its code"
        );
    }
}
