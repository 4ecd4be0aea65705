//! READ DEFECT DATA(10) and (12) (SBC-4 §5.22, §5.23): there are no defects to tell of, in any format.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served, medium};

/// Which lists and which format are asked for: REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT, as they come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    lists_and_format: u8,
    is_long: bool,
}

pub(in crate::scsi) fn plan_10(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    plan(cdb, 2, false, u32::from(cdb.be16(7)), unit)
}

pub(in crate::scsi) fn plan_12(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    plan(cdb, 1, true, cdb.be32(6), unit)
}

fn plan(
    cdb: &Cdb,
    format_byte: u8,
    is_long: bool,
    allocation_bytes: u32,
    unit: Served<'_>,
) -> Result<Plan, Sense> {
    medium::ready(unit)?;
    let lists_and_format = cdb.byte(usize::from(format_byte)) & 0x1f;
    // 110b is vendor-specific, 111b reserved.
    if lists_and_format & 0x07 > 0b101 {
        return Err(Sense::invalid_bit(format_byte, 2));
    }
    Ok(answer(Kind::Defects(Request { lists_and_format, is_long }), allocation_bytes))
}

/// A header that says: no defects. Each list asked for is valid, and empty.
pub(super) fn fill(request: Request, writer: &mut Writer<'_>) {
    writer.put(&[0, request.lists_and_format]);
    // GENERATION CODE not supported (12 bytes only), DEFECT LIST LENGTH.
    writer.zeros(if request.is_long { 6 } else { 2 });
}
