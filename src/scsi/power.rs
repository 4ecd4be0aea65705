//! START STOP UNIT (SBC-4 §5.31) and PREVENT ALLOW MEDIUM REMOVAL (SPC-5): what initiators ask of disks that turn or come
//! out. Ours do neither.

use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served, Status, medium};

/// A unit that other hosts use too is not stopped for one of them: what was written is made durable, as before a real
/// stop, and the unit stays in service. Status comes when that is done, even with IMMED.
pub(super) fn start_stop_unit(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let (condition, options) = (cdb.byte(4) >> 4, cdb.byte(4) & 0x0f);
    match condition {
        // START_VALID: START and LOEJ count.
        0x0 => {}
        // ACTIVE: it always is. START and LOEJ mean nothing then.
        0x1 => return medium::ready(unit).map(|()| Plan::End(Status::Good)),
        // There is no other power condition.
        _ => return Err(Sense::invalid_bit(4, 7)),
    }
    let (no_flush, load_eject, start) = (options & 0x04 != 0, options & 0x02 != 0, options & 0x01 != 0);
    if load_eject {
        return Err(Sense::invalid_bit(4, 1));
    }
    medium::ready(unit)?;
    Ok(if start || no_flush { Plan::End(Status::Good) } else { Plan::Flush })
}

/// The medium cannot be taken out, so there is nothing to prevent and nothing to remember.
pub(super) fn prevent_allow_medium_removal(_: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(Plan::End(Status::Good))
}
