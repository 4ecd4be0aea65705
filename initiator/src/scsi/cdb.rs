//! CDBs, padded to the 16 bytes of the header (SPC-5 §6, SBC-4 §5).

/// A CDB as the header holds it.
pub type Cdb = [u8; 16];

fn build(bytes: &[u8]) -> Cdb {
    let mut cdb = [0; 16];
    cdb[..bytes.len()].copy_from_slice(bytes);
    cdb
}

/// Bits of byte 1 in READ and WRITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Force Unit Access.
    pub fua: bool,
    /// Disable Page Out.
    pub dpo: bool,
    /// RDPROTECT or WRPROTECT, three bits.
    pub protect: u8,
}

impl Flags {
    /// FUA alone.
    pub const FUA: Self = Self { fua: true, dpo: false, protect: 0 };

    fn byte(self) -> u8 {
        self.protect << 5 | u8::from(self.dpo) << 4 | u8::from(self.fua) << 3
    }
}

/// TEST UNIT READY.
#[must_use]
pub fn test_unit_ready() -> Cdb {
    [0; 16]
}

/// REQUEST SENSE; `descriptor` asks for that format.
#[must_use]
pub fn request_sense(descriptor: bool, allocation_bytes: u8) -> Cdb {
    build(&[0x03, u8::from(descriptor), 0, 0, allocation_bytes, 0])
}

/// INQUIRY for the standard data.
#[must_use]
pub fn inquiry(allocation_bytes: u16) -> Cdb {
    let [high, low] = allocation_bytes.to_be_bytes();
    build(&[0x12, 0, 0, high, low, 0])
}

/// INQUIRY for a page of vital product data.
#[must_use]
pub fn inquiry_vpd(page: u8, allocation_bytes: u16) -> Cdb {
    let [high, low] = allocation_bytes.to_be_bytes();
    build(&[0x12, 1, page, high, low, 0])
}

/// MODE SENSE (6).
#[must_use]
pub fn mode_sense_6(page_control: u8, page: u8, subpage: u8, allocation_bytes: u8) -> Cdb {
    build(&[0x1a, 0, page_control << 6 | page & 0x3f, subpage, allocation_bytes, 0])
}

/// MODE SENSE (10).
#[must_use]
pub fn mode_sense_10(page_control: u8, page: u8, subpage: u8, allocation_bytes: u16) -> Cdb {
    let [high, low] = allocation_bytes.to_be_bytes();
    build(&[0x5a, 0, page_control << 6 | page & 0x3f, subpage, 0, 0, 0, high, low, 0])
}

/// READ CAPACITY (10).
#[must_use]
pub fn read_capacity_10() -> Cdb {
    build(&[0x25])
}

/// READ CAPACITY (16).
#[must_use]
pub fn read_capacity_16(allocation_bytes: u32) -> Cdb {
    let mut cdb = build(&[0x9e, 0x10]);
    cdb[10..14].copy_from_slice(&allocation_bytes.to_be_bytes());
    cdb
}

/// REPORT LUNS.
#[must_use]
pub fn report_luns(select: u8, allocation_bytes: u32) -> Cdb {
    let mut cdb = build(&[0xa0, 0, select]);
    cdb[6..10].copy_from_slice(&allocation_bytes.to_be_bytes());
    cdb
}

/// REPORT SUPPORTED OPERATION CODES: `options` 0 for all, 1 to 3 for one command; RCTD asks for timeouts.
#[must_use]
pub fn report_supported_operation_codes(
    options: u8,
    rctd: bool,
    opcode: u8,
    service_action: u16,
    allocation_bytes: u32,
) -> Cdb {
    let [high, low] = service_action.to_be_bytes();
    let mut cdb = build(&[0xa3, 0x0c, u8::from(rctd) << 7 | options & 7, opcode, high, low]);
    cdb[6..10].copy_from_slice(&allocation_bytes.to_be_bytes());
    cdb
}

/// READ (6); 0 blocks means 256. The address has 21 bits.
#[must_use]
pub fn read_6(lba: u32, blocks: u8) -> Cdb {
    six(0x08, lba, blocks)
}

/// WRITE (6); 0 blocks means 256. The address has 21 bits.
#[must_use]
pub fn write_6(lba: u32, blocks: u8) -> Cdb {
    six(0x0a, lba, blocks)
}

fn six(opcode: u8, lba: u32, blocks: u8) -> Cdb {
    let [_, high, middle, low] = lba.to_be_bytes();
    build(&[opcode, high & 0x1f, middle, low, blocks, 0])
}

/// READ (10).
#[must_use]
pub fn read_10(lba: u32, blocks: u16, flags: Flags) -> Cdb {
    ten(0x28, flags.byte(), lba, blocks)
}

/// WRITE (10).
#[must_use]
pub fn write_10(lba: u32, blocks: u16, flags: Flags) -> Cdb {
    ten(0x2a, flags.byte(), lba, blocks)
}

fn ten(opcode: u8, flags: u8, lba: u32, blocks: u16) -> Cdb {
    let mut cdb = build(&[opcode, flags]);
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// READ (12).
#[must_use]
pub fn read_12(lba: u32, blocks: u32, flags: Flags) -> Cdb {
    twelve(0xa8, flags.byte(), lba, blocks)
}

/// WRITE (12).
#[must_use]
pub fn write_12(lba: u32, blocks: u32, flags: Flags) -> Cdb {
    twelve(0xaa, flags.byte(), lba, blocks)
}

fn twelve(opcode: u8, flags: u8, lba: u32, blocks: u32) -> Cdb {
    let mut cdb = build(&[opcode, flags]);
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[6..10].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// READ (16).
#[must_use]
pub fn read_16(lba: u64, blocks: u32, flags: Flags) -> Cdb {
    sixteen(0x88, flags.byte(), lba, blocks)
}

/// WRITE (16).
#[must_use]
pub fn write_16(lba: u64, blocks: u32, flags: Flags) -> Cdb {
    sixteen(0x8a, flags.byte(), lba, blocks)
}

/// SYNCHRONIZE CACHE (10); 0 blocks means up to the end.
#[must_use]
pub fn synchronize_cache_10(lba: u32, blocks: u16) -> Cdb {
    ten(0x35, 0, lba, blocks)
}

/// SYNCHRONIZE CACHE (16); 0 blocks means up to the end.
#[must_use]
pub fn synchronize_cache_16(lba: u64, blocks: u32) -> Cdb {
    sixteen(0x91, 0, lba, blocks)
}

/// WRITE AND VERIFY (16); BYTCHK 01b where it `compares`.
#[must_use]
pub fn write_and_verify_16(lba: u64, blocks: u32, compares: bool) -> Cdb {
    sixteen(0x8e, u8::from(compares) << 1, lba, blocks)
}

/// VERIFY (16), with BYTCHK: 0 nothing, 1 all blocks, 3 one block for all.
#[must_use]
pub fn verify_16(lba: u64, blocks: u32, byte_check: u8) -> Cdb {
    sixteen(0x8f, byte_check << 1, lba, blocks)
}

/// WRITE SAME (16).
#[must_use]
pub fn write_same_16(lba: u64, blocks: u32, unmap: bool) -> Cdb {
    sixteen(0x93, u8::from(unmap) << 3, lba, blocks)
}

/// COMPARE AND WRITE.
#[must_use]
pub fn compare_and_write(lba: u64, blocks: u8) -> Cdb {
    let mut cdb = sixteen(0x89, 0, lba, 0);
    cdb[13] = blocks;
    cdb
}

/// ORWRITE (16).
#[must_use]
pub fn orwrite_16(lba: u64, blocks: u32) -> Cdb {
    sixteen(0x8b, 0, lba, blocks)
}

/// UNMAP, with so many bytes of [`unmap_list`].
#[must_use]
pub fn unmap(list_bytes: u16) -> Cdb {
    ten(0x42, 0, 0, list_bytes)
}

/// The parameter list of UNMAP: first blocks and counts.
#[must_use]
pub fn unmap_list(extents: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = u16::try_from(16 * extents.len()).unwrap_or(u16::MAX);
    let mut list = Vec::with_capacity(8 + usize::from(descriptors));
    list.extend((descriptors + 6).to_be_bytes());
    list.extend(descriptors.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in extents {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

/// PERSISTENT RESERVE IN: 0 keys, 1 reservation, 2 capabilities, 3 full status.
#[must_use]
pub fn persistent_reserve_in(action: u8, allocation_bytes: u16) -> Cdb {
    let [high, low] = allocation_bytes.to_be_bytes();
    build(&[0x5e, action & 0x1f, 0, 0, 0, 0, 0, high, low, 0])
}

/// PERSISTENT RESERVE OUT: 0 register, 1 reserve, 2 release, 3 clear, 4 preempt, 5 preempt and abort, 6 register and ignore
/// the existing key, 7 register and move.
#[must_use]
pub fn persistent_reserve_out(action: u8, kind: u8, list_bytes: u32) -> Cdb {
    let mut cdb = build(&[0x5f, action & 0x1f, kind & 0x0f]);
    cdb[5..9].copy_from_slice(&list_bytes.to_be_bytes());
    cdb
}

/// Its parameter list, but for REGISTER AND MOVE: RESERVATION KEY and SERVICE ACTION RESERVATION KEY.
#[must_use]
pub fn persistent_reserve_out_list(key: u64, action_key: u64) -> Vec<u8> {
    let mut list = vec![0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    list
}

/// RESERVE (6).
#[must_use]
pub fn reserve_6() -> Cdb {
    build(&[0x16])
}

/// RELEASE (6).
#[must_use]
pub fn release_6() -> Cdb {
    build(&[0x17])
}

fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Cdb {
    let mut cdb = build(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_cdbs() {
        let none = Flags::default();
        for (cdb, bytes) in [
            (request_sense(true, 252), &[0x03, 1, 0, 0, 252][..]),
            (inquiry(36), &[0x12, 0, 0, 0, 36]),
            (inquiry_vpd(0x83, 0x1234), &[0x12, 1, 0x83, 0x12, 0x34]),
            (mode_sense_6(2, 0x3f, 0xff, 255), &[0x1a, 0, 0xbf, 0xff, 255]),
            (mode_sense_10(0, 8, 0, 512), &[0x5a, 0, 8, 0, 0, 0, 0, 2, 0]),
            (read_capacity_10(), &[0x25]),
            (read_capacity_16(32), &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]),
            (report_luns(2, 0x1000), &[0xa0, 0, 2, 0, 0, 0, 0, 0, 0x10, 0]),
            (
                report_supported_operation_codes(3, true, 0x9e, 0x10, 20),
                &[0xa3, 0x0c, 0x83, 0x9e, 0, 0x10, 0, 0, 0, 20],
            ),
            (read_6(0x1f_0203, 4), &[0x08, 0x1f, 2, 3, 4]),
            (write_6(1, 0), &[0x0a, 0, 0, 1, 0]),
            (read_10(0x0102_0304, 0x0506, none), &[0x28, 0, 1, 2, 3, 4, 0, 5, 6]),
            (write_10(1, 2, Flags::FUA), &[0x2a, 8, 0, 0, 0, 1, 0, 0, 2]),
            (read_12(1, 0x0203_0405, none), &[0xa8, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
            (
                write_12(1, 2, Flags { fua: true, dpo: true, protect: 1 }),
                &[0xaa, 0x38, 0, 0, 0, 1, 0, 0, 0, 2],
            ),
            (read_16(0x0102_0304_0506_0708, 9, none), &[0x88, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9]),
            (write_16(1, 2, none), &[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
            (synchronize_cache_10(1, 2), &[0x35, 0, 0, 0, 0, 1, 0, 0, 2]),
            (write_and_verify_16(1, 2, true), &[0x8e, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
            (verify_16(1, 2, 3), &[0x8f, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
            (write_same_16(1, 2, true), &[0x93, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
            (compare_and_write(0x0102, 3), &[0x89, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]),
            (orwrite_16(1, 2), &[0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
            (unmap(0x0118), &[0x42, 0, 0, 0, 0, 0, 0, 1, 0x18]),
            (synchronize_cache_16(1, 2), &[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
        ] {
            let mut expected = [0; 16];
            expected[..bytes.len()].copy_from_slice(bytes);
            assert_eq!(cdb, expected);
        }
        assert_eq!(test_unit_ready(), [0; 16]);
        let list = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0];
        assert_eq!(unmap_list(&[(0x0102, 3)]), list);
    }
}
