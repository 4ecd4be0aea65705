//! REQUEST SENSE (SPC-5): what would be reported now. Sense data of earlier commands went with their status.

use crate::limits::SENSE_BYTES_MAX;
use crate::scsi::attention::Attentions;
use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served, medium};

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Option<Served<'_>>) -> Result<Plan, Sense> {
    Ok(answer(Kind::Sense { descriptor_format: cdb.byte(1) & 0x01 != 0 }, cdb.byte(4)))
}

pub(super) fn fill(
    descriptor_format: bool,
    unit: Option<Served<'_>>,
    attentions: Option<&mut Attentions>,
    writer: &mut Writer<'_>,
) {
    let sense = match (unit, attentions.and_then(Attentions::take)) {
        (None, _) => Sense::NO_SUCH_UNIT,
        // SAM-5 §5.14: reported here as parameter data, and so cleared.
        (Some(_), Some(ua)) => ua.sense(),
        (Some(unit), None) => medium::ready(unit).err().unwrap_or(Sense::NO_SENSE),
    };
    let mut data = [0; SENSE_BYTES_MAX];
    let length = sense.encode(descriptor_format, &mut data);
    writer.put(&data[..length]);
}
