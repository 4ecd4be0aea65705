//! UNMAP (SBC-4 §5.35): its CDB and its parameter list.

use super::{Kind, Work};
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::{Access, Extent, Plan, Served, medium};

/// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT of VPD B0h.
pub const UNMAP_DESCRIPTORS_MAX: u32 = 256;
/// MAXIMUM UNMAP LBA COUNT of VPD B0h. libiscsi's conformance tests take more for a mistake.
pub const UNMAP_BLOCKS_MAX: u32 = 1024 * 1024;

/// Of byte 1: the blocks are to keep their space, or to get it.
const ANCHOR: u8 = 0x01;

const HEADER_BYTES: usize = 8;
const DESCRIPTOR_BYTES: usize = 16;

pub(in crate::scsi) fn unmap(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let anchors = cdb.byte(1) & ANCHOR != 0;
    if anchors && !super::can_anchor(unit.view) {
        return Err(Sense::invalid_bit(1, 0));
    }
    medium::check(super::NOTHING, Access::Write, unit)?;
    let bytes = cdb.be16(7);
    Ok(Plan::Work(Work::new(Kind::Unmap { bytes, anchors }, super::NOTHING)))
}

/// The whole list is judged before any block goes.
pub(super) fn check(list: &[u8], unit: Served<'_>) -> Result<(), Sense> {
    if list.is_empty() {
        // SBC-4: no parameter list is not an error.
        return Ok(());
    }
    if list.len() < HEADER_BYTES {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let count = count(list);
    if count > UNMAP_DESCRIPTORS_MAX as usize {
        return Err(Sense::invalid_parameter(2));
    }
    let mut blocks = 0;
    for index in 0..count {
        let Some(extent) = descriptor(list, index) else { break };
        medium::check(extent, Access::Write, unit)?;
        blocks += u64::from(extent.blocks);
    }
    if blocks > u64::from(UNMAP_BLOCKS_MAX) {
        return Err(Sense::INVALID_PARAMETER);
    }
    Ok(())
}

/// Whole descriptors in the list. SBC-4: a descriptor that is cut off is ignored.
fn count(list: &[u8]) -> usize {
    let said = list.get(2..4).map_or(0, |field| usize::from(field[0]) << 8 | usize::from(field[1]));
    said.min(list.len() - HEADER_BYTES) / DESCRIPTOR_BYTES
}

/// The blocks that a descriptor names.
pub(super) fn descriptor(list: &[u8], index: usize) -> Option<Extent> {
    if list.len() < HEADER_BYTES || index >= count(list) {
        return None;
    }
    let descriptor = list.get(HEADER_BYTES + index * DESCRIPTOR_BYTES..)?;
    let lba = u64::from_be_bytes(*descriptor.first_chunk()?);
    let blocks = u32::from_be_bytes(*descriptor.get(8..)?.first_chunk()?);
    Some(Extent { lba, blocks, fua: false })
}
