//! GET LBA STATUS (SBC-4 §5.11). The device of a thinly provisioned unit is asked which blocks take space
//! ([`Bdev::allocation`](crate::bdev::Bdev::allocation)), on a thread, as that may block; of all others every block is told to be mapped
//! or in an unknown state, which is what PROVISIONING STATUS 0h says.

use crate::bdev::allocation::{Allocation, State};
use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Access, Extent, Plan, Served, medium};

/// SERVICE ACTION IN(16).
pub(crate) const SERVICE_ACTION_IN: u8 = 0x9e;

/// Before the first descriptor.
const HEADER_BYTES: u32 = 8;

/// PROVISIONING STATUS: mapped, or not known.
const MAPPED_OR_UNKNOWN: u8 = 0;
/// The same: deallocated.
const DEALLOCATED: u8 = 1;
/// The same: anchored.
const ANCHORED: u8 = 2;

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let (lba, allocation_bytes) = (lba(cdb), cdb.be32(10));
    medium::check(Extent { lba, blocks: 1, fua: false }, Access::Read, unit)?;
    // Where a descriptor is wanted at all.
    let asks_device = unit.view.unmap.is_some() && allocation_bytes > HEADER_BYTES;
    let kind = if asks_device { Kind::LbaStatusAsked { lba } } else { Kind::LbaStatus { lba } };
    Ok(answer(kind, allocation_bytes))
}

/// STARTING LOGICAL BLOCK ADDRESS.
pub(crate) fn lba(cdb: &Cdb) -> u64 {
    cdb.be64(2)
}

/// A descriptor for each run that the device has told; one to the end of the medium, or as far as its length goes, where it has not.
pub(super) fn fill(lba: u64, unit: &UnitView, allocation: Option<&Allocation>, writer: &mut Writer<'_>) {
    let left = unit.blocks.saturating_sub(lba);
    // PARAMETER DATA LENGTH, below; COMPLETION CONDITION 000b and RTP 0 tell nothing.
    writer.zeros(HEADER_BYTES as usize);
    let mut told = 0;
    for run in allocation.map_or(&[][..], Allocation::runs) {
        // It may have shrunk since.
        let blocks = u32::try_from(left - told).unwrap_or(u32::MAX).min(run.blocks);
        if blocks == 0 {
            break;
        }
        let status = match run.state {
            State::Mapped => MAPPED_OR_UNKNOWN,
            State::Anchored => ANCHORED,
            State::Deallocated => DEALLOCATED,
        };
        descriptor(lba + told, blocks, status, writer);
        told += u64::from(blocks);
    }
    if told == 0 {
        descriptor(lba, u32::try_from(left).unwrap_or(u32::MAX), MAPPED_OR_UNKNOWN, writer);
    }
    writer.length_32(0, 4);
}

fn descriptor(lba: u64, blocks: u32, status: u8, writer: &mut Writer<'_>) {
    writer.put(&lba.to_be_bytes());
    writer.put(&blocks.to_be_bytes());
    writer.put(&[status, 0, 0, 0]);
}
