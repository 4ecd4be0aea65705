//! PERSISTENT RESERVE IN (SPC-5 §6.16), answered out of what control has published last.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::reserve::In;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let what = In::decode(cdb.service_action()).ok_or(Sense::invalid_bit(1, 4))?;
    Ok(answer(Kind::Reservations(what), cdb.be16(7)))
}

pub(super) fn fill(what: In, unit: &UnitView, writer: &mut Writer<'_>) {
    unit.permits.state().report(what, &mut |bytes| writer.put(bytes));
}
