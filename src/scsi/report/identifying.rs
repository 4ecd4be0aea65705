//! REPORT IDENTIFYING INFORMATION and SET IDENTIFYING INFORMATION (SPC-5 §6.31, §6.43): what hosts write to tell their disks by.

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

/// SERVICE ACTION of SET IDENTIFYING INFORMATION.
pub(crate) const SET_ACTION: u8 = 0x06;

/// What hosts have written.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Identifying {
    /// Logical unit identifying information, at most 64 bytes.
    pub unit: Vec<u8>,
    /// Logical unit text identifying information: UTF-8 with a NUL at its end, at most 256 bytes; or nothing.
    pub text: Vec<u8>,
}

/// IDENTIFYING INFORMATION TYPE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Unit,
    Text,
    /// Which types there are.
    Types,
}

const UNIT_BYTES_MAX: u16 = 64;
const TEXT_BYTES_MAX: u16 = 256;

impl What {
    /// The type is the upper seven bits of byte 10.
    fn of(cdb: &Cdb) -> Result<What, Sense> {
        match cdb.byte(10) >> 1 {
            0b000_0000 => Ok(What::Unit),
            0b000_0010 => Ok(What::Text),
            0b111_1111 => Ok(What::Types),
            _ => Err(Sense::invalid_bit(10, 7)),
        }
    }

    fn bytes_max(self) -> u16 {
        match self {
            What::Unit => UNIT_BYTES_MAX,
            What::Text => TEXT_BYTES_MAX,
            What::Types => 0,
        }
    }
}

impl Identifying {
    /// As SET IDENTIFYING INFORMATION has it.
    ///
    /// # Errors
    /// Less has come than the CDB says, or a text is none.
    pub fn set(&self, cdb: &Cdb, list: &[u8]) -> Result<Identifying, Sense> {
        if u64::from(cdb.be32(6)) != list.len() as u64 {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        match What::of(cdb)? {
            What::Unit => Ok(Identifying { unit: list.to_vec(), text: self.text.clone() }),
            What::Text => {
                let is_text = match list {
                    [] => true,
                    [text @ .., 0] => !text.contains(&0) && std::str::from_utf8(text).is_ok(),
                    _ => false,
                };
                if !is_text {
                    return Err(Sense::invalid_parameter(0));
                }
                Ok(Identifying { unit: self.unit.clone(), text: list.to_vec() })
            }
            What::Types => Err(Sense::invalid_bit(10, 7)),
        }
    }
}

pub(in crate::scsi) fn plan(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(answer(Kind::Identifying(What::of(cdb)?), cdb.be32(6)))
}

pub(in crate::scsi) fn plan_set(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    let (what, parameter_bytes) = (What::of(cdb)?, cdb.be32(6));
    match what {
        What::Types => Err(Sense::invalid_bit(10, 7)),
        _ if parameter_bytes > u32::from(what.bytes_max()) => Err(Sense::invalid_byte(6)),
        // No bytes: what was written is forgotten.
        _ => Ok(Plan::Ask { parameter_bytes }),
    }
}

pub(super) fn fill(what: What, unit: &UnitView, writer: &mut Writer<'_>) {
    let information = &unit.settings.identifying;
    writer.zeros(4);
    match what {
        What::Unit => writer.put(&information.unit),
        What::Text => writer.put(&information.text),
        What::Types => {
            writer.put(&[0b000_0000 << 1, 0]);
            writer.put(&UNIT_BYTES_MAX.to_be_bytes());
            writer.put(&[0b000_0010 << 1, 0]);
            writer.put(&TEXT_BYTES_MAX.to_be_bytes());
        }
    }
    writer.length_16(2, 4);
}
