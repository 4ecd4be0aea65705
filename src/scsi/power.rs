//! START STOP UNIT (SBC-4 §5.31) and PREVENT ALLOW MEDIUM REMOVAL (SPC-5): what initiators ask of disks that turn or come
//! out. Ours do not turn; whether the medium of one that comes out does, control decides.

use crate::scsi::cdb::Cdb;
use crate::scsi::sense::Sense;
use crate::scsi::table::START_STOP_UNIT;
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
        if !unit.view.kind.is_removable() {
            return Err(Sense::invalid_bit(4, 1));
        }
        // Without IMMED too: the medium is out, or in, with the status.
        return Ok(Plan::Ask { parameter_bytes: 0 });
    }
    medium::ready(unit)?;
    // What is read only has nothing to flush.
    Ok(if start || no_flush || unit.view.read_only { Plan::End(Status::Good) } else { Plan::Flush })
}

/// Where the medium cannot be taken out, there is nothing to prevent and nothing to remember.
pub(super) fn prevent_allow_medium_removal(_: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    if unit.view.kind.is_removable() {
        return Ok(Plan::Ask { parameter_bytes: 0 });
    }
    Ok(Plan::End(Status::Good))
}

/// What a command that control is asked about does to a medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Motion {
    /// Out.
    Eject,
    /// In.
    Load,
    /// It is to stay.
    Prevent,
    /// It may come out.
    Allow,
}

impl Motion {
    /// Of START STOP UNIT with LOEJ, or PREVENT ALLOW MEDIUM REMOVAL. Where the latter's obsolete bit alone is set, removal
    /// is allowed.
    pub fn of(cdb: &Cdb) -> Motion {
        let is_set = cdb.byte(4) & 0x01 != 0;
        match (cdb.opcode() == START_STOP_UNIT, is_set) {
            (true, true) => Motion::Load,
            (true, false) => Motion::Eject,
            (false, true) => Motion::Prevent,
            (false, false) => Motion::Allow,
        }
    }
}
