//! REPORT TIMESTAMP and SET TIMESTAMP (SPC-5 §6.35, §6.46): a clock of the logical unit, in milliseconds, that initiators set. It
//! begins at zero with the process.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served, Status};
use crate::time::{MS_NS, Tick};

/// SERVICE ACTION of both.
pub(crate) const ACTION: u8 = 0x0f;

/// A unit's clock.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Clock {
    /// What an initiator set it to, less the milliseconds since the process began, modulo 2^48; none while nobody has.
    set: Option<u64>,
}

/// Length of SET TIMESTAMP's parameter list.
const LIST_BYTES: u32 = 12;
/// A timestamp has 48 bits.
const MASK: u64 = (1 << 48) - 1;

impl Clock {
    /// As SET TIMESTAMP has it.
    ///
    /// # Errors
    /// The parameter list is not as long as it must be.
    pub fn set(list: &[u8], now: Tick) -> Result<Clock, Sense> {
        let list: &[u8; LIST_BYTES as usize] = list.try_into().map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
        let ms = list[4..10].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
        Ok(Clock { set: Some(ms.wrapping_sub(now.ns() / MS_NS) & MASK) })
    }

    /// TIMESTAMP ORIGIN and the timestamp.
    fn read(self, now: Tick) -> (u8, u64) {
        let ms = now.ns() / MS_NS;
        match self.set {
            // Zero at power on.
            None => (0b000, ms & MASK),
            // SET TIMESTAMP.
            Some(set) => (0b010, set.wrapping_add(ms) & MASK),
        }
    }
}

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(answer(Kind::Timestamp, cdb.be32(6)))
}

pub(in crate::scsi) fn plan_set(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    match cdb.be32(6) {
        // SPC-5: no parameter list is not an error.
        0 => Ok(Plan::End(Status::Good)),
        LIST_BYTES => Ok(Plan::Ask { parameter_bytes: LIST_BYTES }),
        _ => Err(Sense::PARAMETER_LIST_LENGTH),
    }
}

pub(super) fn fill(unit: &UnitView, now: Tick, writer: &mut Writer<'_>) {
    let (origin, ms) = unit.settings.clock.read(now);
    writer.put(&[0, 10, origin, 0]);
    writer.put(&ms.to_be_bytes()[2..]);
    writer.zeros(2);
}
