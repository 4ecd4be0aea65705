//! PERSISTENT RESERVE IN (SPC-5 §6.16), answered out of what control has published last.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::reserve::In;
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    if !unit.view.permits.is_known() {
        return Err(Sense::NOT_READY);
    }
    let what = In::decode(cdb.service_action()).ok_or(Sense::invalid_bit(1, 4))?;
    Ok(answer(Kind::Reservations(what), cdb.be16(7)))
}

pub(super) fn fill(what: In, unit: &UnitView, writer: &mut Writer<'_>) {
    unit.permits.report(what, &mut |bytes| writer.put(bytes));
}
