//! The parameter list of EXTENDED COPY: its header, CSCD descriptors and segment descriptors.

use std::sync::Arc;

use super::{CSCDS_MAX, DESCRIPTORS_BYTES_MAX, LID1, SEGMENTS_MAX, Side};
use crate::scsi::Place;
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, UnitView};

/// CSCD descriptor: identification descriptor.
pub(in crate::scsi) const IDENTIFICATION: u8 = 0xe4;
/// Segment descriptor: from block device to block device.
pub(in crate::scsi) const BLOCK_TO_BLOCK: u8 = 0x02;
/// CSCD descriptor ID: the logical unit that the command was sent to.
pub(in crate::scsi) const OWN_UNIT: u16 = 0xffff;

const CSCD_BYTES: u32 = 32;
const SEGMENT_BYTES: u32 = 28;
const LID1_HEADER_BYTES: u32 = 16;
const LID4_HEADER_BYTES: u32 = 48;

/// A parameter list, at most: more descriptors than there may be are told of as such as far as they fit.
pub(super) const LIST_BYTES_MAX: u32 = 16 * 1024;

/// Where in a parameter list its parts are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct List {
    /// LIST IDENTIFIER, unless results are not to be kept.
    pub(super) id: Option<u32>,
    cscds_at: u32,
    cscd_count: u16,
    segments_at: u32,
    pub(super) segment_count: u16,
}

/// A segment, looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Segment {
    pub(super) source: Side,
    pub(super) destination: Side,
    pub(super) source_lba: u64,
    pub(super) destination_lba: u64,
    pub(super) bytes: u32,
}

impl List {
    /// Judges a list, all of its descriptors' types and lengths included.
    pub(super) fn read(action: u8, data: &[u8]) -> Result<List, Sense> {
        let (header_bytes, id, cscds_bytes, segments_bytes, inline_bytes) = match action {
            LID1 => {
                let header = header::<{ LID1_HEADER_BYTES as usize }>(data)?;
                let id = u32::from(header[0]);
                (LID1_HEADER_BYTES, id, be16(header, 2), be32(header, 8), be32(header, 12))
            }
            _ => {
                let header = header::<{ LID4_HEADER_BYTES as usize }>(data)?;
                // PARAMETER LIST FORMAT, HEADER CSCD LIST LENGTH and TYPE CODE.
                if header[0] != 0x01 {
                    return Err(Sense::invalid_parameter(0));
                }
                if be16(header, 2) != 0x20 {
                    return Err(Sense::invalid_parameter(2));
                }
                if header[16] != 0xff {
                    return Err(Sense::invalid_parameter(16));
                }
                // IMMED: a copy in the background. G_SENSE asks for sense data with GOOD, which is not an error to leave out.
                if header[15] & 0x01 != 0 {
                    return Err(Sense::invalid_parameter_bit(15, 0));
                }
                let lengths = (be16(header, 42), be16(header, 44), be16(header, 46));
                (LID4_HEADER_BYTES, be32(header, 20), lengths.0, lengths.1, lengths.2)
            }
        };
        // LIST ID USAGE 10b and 11b: nothing is held, and the identifier means nothing, respectively.
        let id = if data[1] >> 3 & 0b11 == 0b11 { None } else { Some(id) };
        if inline_bytes != 0 {
            return Err(Sense::INLINE_DATA_LENGTH);
        }
        let descriptors_bytes = u64::from(cscds_bytes) + u64::from(segments_bytes);
        if descriptors_bytes > u64::from(DESCRIPTORS_BYTES_MAX)
            || u64::from(header_bytes) + descriptors_bytes > data.len() as u64
        {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        let (cscds_at, segments_at) = (header_bytes, header_bytes + cscds_bytes);
        let mut list = List { id, cscds_at, cscd_count: 0, segments_at, segment_count: 0 };
        list.cscd_count = list.count_cscds(data, cscds_bytes)?;
        list.segment_count = list.count_segments(data, segments_bytes)?;
        Ok(list)
    }

    fn count_cscds(&self, data: &[u8], bytes: u32) -> Result<u16, Sense> {
        for descriptor in part(data, self.cscds_at, bytes).chunks(CSCD_BYTES as usize) {
            if descriptor[0] != IDENTIFICATION {
                return Err(Sense::UNSUPPORTED_CSCD);
            }
        }
        whole(bytes, CSCD_BYTES)
            .ok_or(Sense::PARAMETER_LIST_LENGTH)
            .and_then(|count| if count > CSCDS_MAX { Err(Sense::TOO_MANY_CSCDS) } else { Ok(count) })
    }

    fn count_segments(&self, data: &[u8], bytes: u32) -> Result<u16, Sense> {
        for descriptor in part(data, self.segments_at, bytes).chunks(SEGMENT_BYTES as usize) {
            if descriptor[0] != BLOCK_TO_BLOCK {
                return Err(Sense::UNSUPPORTED_SEGMENT);
            }
            if descriptor.get(2..4).is_some_and(|length| *length != [0, 0x18]) {
                return Err(Sense::INVALID_PARAMETER);
            }
        }
        whole(bytes, SEGMENT_BYTES)
            .ok_or(Sense::PARAMETER_LIST_LENGTH)
            .and_then(|count| if count > SEGMENTS_MAX { Err(Sense::TOO_MANY_SEGMENTS) } else { Ok(count) })
    }

    /// A segment, and the LUNs that it names.
    pub(super) fn segment(
        &self,
        index: u16,
        data: &[u8],
        place: &Place<'_>,
        units: &[Option<Arc<UnitView>>],
    ) -> Result<Segment, Sense> {
        let at = self.segments_at + u32::from(index) * SEGMENT_BYTES;
        let descriptor = part(data, at, SEGMENT_BYTES);
        let descriptor: &[u8; SEGMENT_BYTES as usize] =
            descriptor.try_into().map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
        let source = self.side(be16(descriptor, 4), data, place, units)?;
        let destination = self.side(be16(descriptor, 6), data, place, units)?;
        // DC: the number is of the destination's blocks.
        let counted = if descriptor[1] & 0x02 != 0 { destination } else { source };
        let bytes = be16(descriptor, 10) * counted.block_bytes;
        if !bytes.is_multiple_of(source.block_bytes) || !bytes.is_multiple_of(destination.block_bytes) {
            // A residue, with nowhere to keep it.
            return Err(Sense::COPY_SEGMENT_GRANULARITY);
        }
        let (source_lba, destination_lba) = (be64(descriptor, 12), be64(descriptor, 20));
        Ok(Segment { source, destination, source_lba, destination_lba, bytes })
    }

    /// The LUN that a CSCD descriptor names.
    fn side(
        &self,
        id: u32,
        data: &[u8],
        place: &Place<'_>,
        units: &[Option<Arc<UnitView>>],
    ) -> Result<Side, Sense> {
        if id == u32::from(OWN_UNIT) {
            return place.unit.map(|(view, _)| of(place.number, view)).ok_or(Sense::COPY_TARGET_UNREACHABLE);
        }
        if id >= u32::from(self.cscd_count) {
            return Err(Sense::COPY_TARGET_UNREACHABLE);
        }
        let descriptor = part(data, self.cscds_at + id * CSCD_BYTES, CSCD_BYTES);
        let (Some(&[_, kind, _, length]), Some(designators)) =
            (descriptor.get(4..).and_then(|rest| rest.first_chunk()), descriptor.get(8..28))
        else {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        };
        let designator = designators.get(..usize::from(length)).ok_or(Sense::INVALID_PARAMETER)?;
        let found = place.target.mappings.iter().find_map(|mapping| {
            let view = UnitView::find(units, mapping.unit)?;
            is_named(view, kind & 0x3f, designator).then(|| of(mapping.number, view))
        });
        let side = found.ok_or(Sense::COPY_TARGET_UNREACHABLE)?;
        // DISK BLOCK LENGTH, in the parameters of a disk.
        let block_bytes = be32(descriptor, 28) & 0x00ff_ffff;
        if block_bytes != 0 && block_bytes != side.block_bytes {
            return Err(Sense::COPY_TARGET_TYPE);
        }
        Ok(side)
    }
}

fn of(number: LunNumber, view: &UnitView) -> Side {
    Side { number, unit: view.id, block_bytes: view.block_bytes }
}

/// Whether a unit goes by this designator: ASSOCIATION 00b and DESIGNATOR TYPE in one (SPC-5 §7.8.6). Those that VPD 83h tells
/// instead of its own count as well.
fn is_named(view: &UnitView, kind: u8, designator: &[u8]) -> bool {
    let is_told =
        |told: &[u8]| matches!(told, [_, told, _, _, name @ ..] if told & 0x3f == kind && name == designator);
    if view.identity.descriptors().any(is_told) {
        return true;
    }
    match kind {
        // EUI-64 based, and NAA.
        0x02 => view.identity.eui64.is_some_and(|eui64| designator == eui64),
        0x03 => designator == view.identity.naa.as_slice(),
        _ => false,
    }
}

/// So many whole descriptors.
fn whole(bytes: u32, each: u32) -> Option<u16> {
    if bytes.is_multiple_of(each) { u16::try_from(bytes / each).ok() } else { None }
}

/// What of the list there is of a part of it.
fn part(data: &[u8], at: u32, bytes: u32) -> &[u8] {
    let start = (at as usize).min(data.len());
    let end = (at as usize).saturating_add(bytes as usize).min(data.len());
    &data[start..end]
}

fn header<const N: usize>(data: &[u8]) -> Result<&[u8; N], Sense> {
    data.first_chunk().ok_or(Sense::PARAMETER_LIST_LENGTH)
}

fn number(bytes: &[u8], at: usize, count: usize) -> u64 {
    bytes[at..at + count].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn be16(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(number(bytes, at, 2)).unwrap_or(0)
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::try_from(number(bytes, at, 4)).unwrap_or(0)
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    number(bytes, at, 8)
}
