//! SCSI as far as an initiator needs it: CDBs out, sense data and a few parameter lists in.

pub mod cdb;
mod sense;

pub use sense::Sense;

/// SCSI status codes (SAM-5 §5.3.1).
#[expect(missing_docs, reason = "the names are SAM's")]
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const CONDITION_MET: u8 = 0x04;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const ACA_ACTIVE: u8 = 0x30;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// Sense keys (SPC-5 §4.4.8).
#[expect(missing_docs, reason = "the names are SPC's")]
pub mod sense_key {
    pub const NO_SENSE: u8 = 0x0;
    pub const RECOVERED_ERROR: u8 = 0x1;
    pub const NOT_READY: u8 = 0x2;
    pub const MEDIUM_ERROR: u8 = 0x3;
    pub const HARDWARE_ERROR: u8 = 0x4;
    pub const ILLEGAL_REQUEST: u8 = 0x5;
    pub const UNIT_ATTENTION: u8 = 0x6;
    pub const DATA_PROTECT: u8 = 0x7;
    pub const ABORTED_COMMAND: u8 = 0xb;
    pub const MISCOMPARE: u8 = 0xe;
}

/// Size of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Blocks there are.
    pub count_blocks: u64,
    /// Bytes of one block.
    pub block_bytes: u32,
}

impl Capacity {
    /// The answer to READ CAPACITY (10); `None` when it is short.
    #[must_use]
    pub fn decode_10(data: &[u8]) -> Option<Self> {
        let (last, rest) = data.split_first_chunk::<4>()?;
        let block_bytes = u32::from_be_bytes(*rest.first_chunk()?);
        Some(Self { count_blocks: u64::from(u32::from_be_bytes(*last)) + 1, block_bytes })
    }

    /// The answer to READ CAPACITY (16); `None` when it is short.
    #[must_use]
    pub fn decode_16(data: &[u8]) -> Option<Self> {
        let (last, rest) = data.split_first_chunk::<8>()?;
        let block_bytes = u32::from_be_bytes(*rest.first_chunk()?);
        Some(Self { count_blocks: u64::from_be_bytes(*last).checked_add(1)?, block_bytes })
    }
}

/// The LUN fields in the answer to REPORT LUNS; `None` when it is short or uneven.
#[must_use]
pub fn decode_luns(data: &[u8]) -> Option<Vec<u64>> {
    let (bytes, rest) = data.split_first_chunk::<4>()?;
    let list = rest.get(4..)?.get(..crate::pdu::size(u32::from_be_bytes(*bytes)))?;
    list.chunks(8).map(|lun| lun.try_into().ok().map(u64::from_be_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities() {
        let data = [0, 0, 0x0f, 0xff, 0, 0, 2, 0];
        assert_eq!(Capacity::decode_10(&data), Some(Capacity { count_blocks: 4096, block_bytes: 512 }));
        assert_eq!(Capacity::decode_10(&data[..7]), None);
        let data = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0, 0];
        let expected = Capacity { count_blocks: 0x1_0000_0001, block_bytes: 4096 };
        assert_eq!(Capacity::decode_16(&data), Some(expected));
        assert_eq!(Capacity::decode_16(&[0xff; 12]), None);
    }

    #[test]
    fn lun_list() {
        let mut data = vec![0, 0, 0, 16, 0, 0, 0, 0];
        data.extend_from_slice(&[0; 8]);
        data.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode_luns(&data), Some(vec![0, 0x0001_0000_0000_0000]));
        assert_eq!(decode_luns(&data[..20]), None);
    }
}
