//! What a CDB says, for people: its name and its blocks. Nothing is decided by it.

use super::cdb::Cdb;

/// Operation codes that hosts send, by name (SPC-5, SBC-4, MMC-6).
const NAMES: &[(u8, &str)] = &[
    (0x00, "TEST UNIT READY"),
    (0x03, "REQUEST SENSE"),
    (0x04, "FORMAT UNIT"),
    (0x08, "READ(6)"),
    (0x0a, "WRITE(6)"),
    (0x12, "INQUIRY"),
    (0x15, "MODE SELECT(6)"),
    (0x16, "RESERVE(6)"),
    (0x17, "RELEASE(6)"),
    (0x1a, "MODE SENSE(6)"),
    (0x1b, "START STOP UNIT"),
    (0x1e, "PREVENT ALLOW MEDIUM REMOVAL"),
    (0x25, "READ CAPACITY(10)"),
    (0x28, "READ(10)"),
    (0x2a, "WRITE(10)"),
    (0x2e, "WRITE AND VERIFY(10)"),
    (0x2f, "VERIFY(10)"),
    (0x35, "SYNCHRONIZE CACHE(10)"),
    (0x41, "WRITE SAME(10)"),
    (0x42, "UNMAP"),
    (0x48, "SANITIZE"),
    (0x4a, "GET EVENT STATUS NOTIFICATION"),
    (0x55, "MODE SELECT(10)"),
    (0x5a, "MODE SENSE(10)"),
    (0x5e, "PERSISTENT RESERVE IN"),
    (0x5f, "PERSISTENT RESERVE OUT"),
    (0x7f, "a command of variable length"),
    (0x83, "EXTENDED COPY"),
    (0x84, "RECEIVE COPY RESULTS"),
    (0x88, "READ(16)"),
    (0x89, "COMPARE AND WRITE"),
    (0x8a, "WRITE(16)"),
    (0x8b, "ORWRITE(16)"),
    (0x8e, "WRITE AND VERIFY(16)"),
    (0x8f, "VERIFY(16)"),
    (0x91, "SYNCHRONIZE CACHE(16)"),
    (0x93, "WRITE SAME(16)"),
    (0x9e, "SERVICE ACTION IN(16)"),
    (0xa0, "REPORT LUNS"),
    (0xa3, "MAINTENANCE IN"),
    (0xa4, "MAINTENANCE OUT"),
    (0xa8, "READ(12)"),
    (0xaa, "WRITE(12)"),
    (0xae, "WRITE AND VERIFY(12)"),
    (0xaf, "VERIFY(12)"),
];

/// What the command is called; its operation code where that is not known here.
pub fn name(cdb: &Cdb) -> String {
    let code = cdb.opcode();
    let known = NAMES.iter().find(|(known, _)| *known == code);
    known.map_or_else(|| format!("operation code {code:02X}h"), |(_, name)| (*name).to_owned())
}

/// LBA and number of blocks, where the CDB has both.
pub fn blocks(cdb: &Cdb) -> Option<(u64, u32)> {
    match cdb.opcode() {
        0x28 | 0x2a | 0x2e | 0x2f | 0x35 | 0x41 => Some((cdb.be32(2).into(), cdb.be16(7).into())),
        0xa8 | 0xaa | 0xae | 0xaf => Some((cdb.be32(2).into(), cdb.be32(6))),
        0x88 | 0x8a | 0x8b | 0x8e | 0x8f | 0x91 | 0x93 => Some((cdb.be64(2), cdb.be32(10))),
        0x89 => Some((cdb.be64(2), cdb.byte(13).into())),
        // SBC-4 §5.30: LBA of 21 bits, and 0 stands for 256 blocks.
        0x08 | 0x0a => {
            let blocks = cdb.byte(4);
            let count = if blocks == 0 { 256 } else { u32::from(blocks) };
            Some((u64::from(cdb.be32(0) & 0x001f_ffff), count))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_named_and_their_blocks_found() {
        for (bytes, said, expected) in [
            (&[0x28, 0, 0, 1, 2, 3, 0, 4, 5][..], "READ(10)", Some((0x0001_0203, 0x0405))),
            (&[0x0a, 0xff, 1, 2, 0], "WRITE(6)", Some((0x001f_0102, 256))),
            (&[0x8a, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3], "WRITE(16)", Some((0x1_0000_0002, 3))),
            (&[0xaa, 0, 0, 0, 0, 9, 0, 0, 1, 0], "WRITE(12)", Some((9, 256))),
            (&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], "COMPARE AND WRITE", Some((7, 1))),
            (&[0x12], "INQUIRY", None),
            (&[0xc7], "operation code C7h", None),
        ] {
            let mut cdb = [0; 16];
            cdb[..bytes.len()].copy_from_slice(bytes);
            let cdb = Cdb::new(cdb);
            assert_eq!((name(&cdb).as_str(), blocks(&cdb)), (said, expected));
        }
    }
}
