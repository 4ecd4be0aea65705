//! SCSI commands for devices that take them as they are ([`Op::Pass`](super::Op::Pass)): what is asked, what is told.

/// Such a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passes {
    /// Its READ and WRITE commands count blocks as SBC's and MMC's do, so that a long one can be done in pieces ([`piece`]).
    pub is_blocks: bool,
}

/// Which way the data of a passed command go, as its initiator says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// There are none.
    None,
    /// To the initiator.
    In,
    /// From the initiator.
    Out,
}

/// How a device ended a command: in its own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// SCSI status.
    pub status: u8,
    /// Bytes of the data that were not moved.
    pub residual_bytes: u32,
    /// How long its sense data are.
    pub sense_bytes: usize,
}

/// A READ or WRITE of more is refused where its commands are passed on.
pub const CUT_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The longest CDB that is passed on: the kernel takes no longer ones.
pub const CDB_BYTES_MAX: usize = 32;

/// A CDB, and zeros behind it: [`cdb_bytes`] tells its length.
pub type Cdb = [u8; CDB_BYTES_MAX];

/// The most sense data there are (SPC-5 §4.4.1).
pub const SENSE_BYTES_MAX: usize = 252;

/// Where a CDB has its blocks.
struct Layout {
    lba: (usize, usize),
    blocks: (usize, usize),
}

/// CDBs that say how long they are themselves (SPC-5 §4.2.3.3).
const VARIABLE_LENGTH: u8 = 0x7f;
/// ADDITIONAL CDB LENGTH of a CDB of 32 bytes.
const OF_32: u8 = 24;
/// RDPROTECT or WRPROTECT.
const PROTECT: u8 = 0xe0;
/// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG of such a READ or WRITE.
const REFERENCE_TAG: (usize, usize) = (20, 4);

/// READ and WRITE of 6, 10, 12, 16 and 32 bytes (SBC-4 §5.10 to §5.15, §5.40 to §5.44) whose blocks come alone: not with RDPROTECT or
/// WRPROTECT, with which protection information is between them.
fn layout(cdb: &Cdb) -> Option<Layout> {
    let of = |lba, blocks| Some(Layout { lba, blocks });
    match *cdb {
        [0x08 | 0x0a, ..] => of((1, 3), (4, 1)),
        [VARIABLE_LENGTH, _, _, _, _, _, _, OF_32, 0, 0x09 | 0x0b, flags, ..] if flags & PROTECT == 0 => {
            of((12, 8), (28, 4))
        }
        [VARIABLE_LENGTH, ..] => None,
        [_, flags, ..] if flags & PROTECT != 0 => None,
        [0x28 | 0x2a, ..] => of((2, 4), (7, 2)),
        [0xa8 | 0xaa, ..] => of((2, 4), (6, 4)),
        [0x88 | 0x8a, ..] => of((2, 8), (10, 4)),
        _ => None,
    }
}

/// Blocks that a READ or WRITE moves, if it is one: its data are as many blocks as they are.
pub fn blocks(cdb: &Cdb) -> Option<u32> {
    let [opcode, ..] = *cdb;
    let blocks = u32::try_from(field(cdb, layout(cdb)?.blocks)).ok()?;
    // SBC-4 §5.10: in six bytes, 0 stands for 256.
    Some(if blocks == 0 && opcode & 0xe0 == 0 { 256 } else { blocks })
}

/// The READ or WRITE of some of the blocks of one: `count` of them, `skip` behind its first. The same in all else; but where a CDB of
/// its length cannot name the first, it is one of sixteen bytes (RELADR aside, which is obsolete).
pub fn piece(cdb: &Cdb, skip: u32, count: u32) -> Cdb {
    let [opcode, high, ..] = *cdb;
    let mut piece = *cdb;
    let Some(Layout { lba, blocks }) = layout(cdb) else { return piece };
    let is_six = opcode & 0xe0 == 0;
    let (bits, mask) = if is_six { (21, 0x1f_ffff) } else { (8 * lba.1, u64::MAX) };
    // Beyond 64 bits it stays where no device has a block.
    let first = (field(cdb, lba) & mask).saturating_add(u64::from(skip));
    if bits < 64 && first >> bits != 0 {
        let (flags, group, control) = match opcode {
            0x08 | 0x0a => (0, 0, cdb[5]),
            0x28 | 0x2a => (high & 0xfe, cdb[6] & 0x3f, cdb[9]),
            _ => (high & 0xfe, cdb[10] & 0x3f, cdb[11]),
        };
        let opcode = if opcode & 2 == 0 { 0x88 } else { 0x8a };
        let mut long = [0; CDB_BYTES_MAX];
        long[..2].copy_from_slice(&[opcode, flags]);
        long[14..16].copy_from_slice(&[group, control]);
        put(&mut long, (2, 8), first);
        put(&mut long, (10, 4), u64::from(count));
        return long;
    }
    put(&mut piece, lba, first);
    put(&mut piece, blocks, u64::from(count));
    if is_six {
        // The upper three bits of byte 1 are no address.
        piece[1] = piece[1] & 0x1f | high & 0xe0;
    }
    if opcode == VARIABLE_LENGTH {
        // SBC-4 §4.22.3: it counts with the blocks. With protection information of another type nobody looks at it.
        let tag = field(cdb, REFERENCE_TAG).wrapping_add(u64::from(skip));
        put(&mut piece, REFERENCE_TAG, tag);
    }
    piece
}

/// How many bytes are the CDB: its operation code says so (SPC-5 §4.2.5.1), or ADDITIONAL CDB LENGTH. Of a vendor's own nobody knows:
/// ten, where no more are used.
pub fn cdb_bytes(cdb: &Cdb) -> u8 {
    let [opcode, _, _, _, _, _, _, additional, _, _, a, b, c, d, e, f, ..] = *cdb;
    match opcode >> 5 {
        _ if opcode == VARIABLE_LENGTH => additional.min(OF_32) + 8,
        0 => 6,
        1 | 2 => 10,
        5 => 12,
        6 | 7 if [a, b, c, d, e, f] == [0; 6] => 10,
        _ => 16,
    }
}

fn field(cdb: &Cdb, (at, bytes): (usize, usize)) -> u64 {
    cdb.iter().skip(at).take(bytes).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn put(cdb: &mut Cdb, (at, bytes): (usize, usize), value: u64) {
    let value = value.to_be_bytes();
    let low = value.iter().skip(value.len().saturating_sub(bytes));
    for (to, byte) in cdb.iter_mut().skip(at).zip(low) {
        *to = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cdb(bytes: &[u8]) -> Cdb {
        let mut cdb = [0; 32];
        cdb[..bytes.len()].copy_from_slice(bytes);
        cdb
    }

    #[test]
    fn reads_and_writes_are_cut() {
        for (whole, count, part) in [
            // Never another block than was meant, wherever fields end.
            (
                cdb(&[0x08, 0xff, 0xff, 0xf0, 0, 7]),
                256,
                cdb(&[0x88, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 9, 0, 7]),
            ),
            (
                cdb(&[0x2a, 0x08, 0xff, 0xff, 0xff, 0xf8, 5, 0, 32, 7]),
                32,
                cdb(&[0x8a, 0x08, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 9, 5, 7]),
            ),
            (
                cdb(&[0x8a, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf8, 0, 0, 0, 32, 0, 0]),
                32,
                cdb(&[0x8a, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 9, 0, 0]),
            ),
            (cdb(&[0x0a, 0x00, 0x01, 0x02, 20, 0]), 20, cdb(&[0x0a, 0x00, 0x01, 0x12, 9, 0])),
            (
                cdb(&[0x28, 0x08, 1, 2, 3, 0xf4, 5, 0x04, 0x00, 0x80]),
                1024,
                cdb(&[0x28, 0x08, 1, 2, 4, 0x04, 5, 0, 9, 0x80]),
            ),
            (
                cdb(&[0xaa, 0, 0, 0, 0, 1, 0, 2, 0, 0, 6, 7]),
                0x2_0000,
                cdb(&[0xaa, 0, 0, 0, 0, 0x11, 0, 0, 0, 9, 6, 7]),
            ),
            (
                cdb(&[0x88, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 1, 2, 3]),
                257,
                cdb(&[0x88, 0, 0, 0, 0, 1, 0, 0, 0, 0x0f, 0, 0, 0, 9, 2, 3]),
            ),
            // Its reference tag counts with the blocks, modulo 2^32; the application tag does not.
            (
                [
                    0x7f, 7, 0, 0, 0, 0, 5, 0x18, 0, 9, 0x08, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xf8, 0xff,
                    0xff, 0xff, 0xf9, 0xab, 0xcd, 0xff, 0xff, 0, 0, 1, 1,
                ],
                257,
                [
                    0x7f, 7, 0, 0, 0, 0, 5, 0x18, 0, 9, 0x08, 0, 0, 0, 0, 2, 0, 0, 0, 0x08, 0, 0, 0, 0x09,
                    0xab, 0xcd, 0xff, 0xff, 0, 0, 0, 9,
                ],
            ),
        ] {
            assert_eq!(blocks(&whole), Some(count), "{whole:02x?}");
            assert_eq!(piece(&whole, 16, 9), part, "{whole:02x?}");
        }
        let long = |additional, action, flags| {
            let mut long = cdb(&[0x7f, 0, 0, 0, 0, 0, 0, additional, 0, action, flags]);
            long[31] = 20;
            long
        };
        assert_eq!(blocks(&long(0x18, 0x0b, 0)), Some(20));
        for other in [
            cdb(&[0x34, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            // Protection information is between the blocks.
            cdb(&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 20, 0]),
            cdb(&[0x8a, 0x60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0]),
            long(0x18, 0x09, 0x20),
            // VERIFY(32), another length, and an action of two bytes.
            long(0x18, 0x0a, 0),
            long(0x14, 0x09, 0),
            cdb(&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0x88, 0x09]),
        ] {
            assert_eq!((blocks(&other), piece(&other, 16, 9)), (None, other), "{other:02x?}");
        }
    }

    #[test]
    fn an_operation_code_says_how_long_its_cdb_is() {
        for (opcode, bytes) in
            [(0x1f, 6), (0x20, 10), (0x5f, 10), (0x83, 16), (0xa0, 12), (0xbf, 12), (0xc0, 10), (0xff, 10)]
        {
            assert_eq!(cdb_bytes(&cdb(&[opcode])), bytes, "{opcode:02x}");
        }
        assert_eq!(cdb_bytes(&cdb(&[0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])), 16);
        for (additional, bytes) in [(0x04, 12), (0x08, 16), (0x18, 32), (0x1c, 32), (0xff, 32)] {
            assert_eq!(cdb_bytes(&cdb(&[0x7f, 0, 0, 0, 0, 0, 0, additional])), bytes);
        }
    }
}
