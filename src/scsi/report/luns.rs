//! REPORT LUNS (SPC-5).

use crate::scsi::cdb::Cdb;
use crate::scsi::report::writer::Writer;
use crate::scsi::report::{Kind, answer};
use crate::scsi::sense::Sense;
use crate::scsi::view::TargetView;
use crate::scsi::{Plan, Served};

/// SELECT REPORT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Select {
    /// 00h and 02h: every logical unit, there being no well known ones.
    All,
    /// 01h: well known logical units only.
    WellKnown,
}

/// The conglomerate reports, 10h to 12h, are not supported: there are no conglomerates.
pub(in crate::scsi) fn plan(cdb: &Cdb, _: Option<Served<'_>>) -> Result<Plan, Sense> {
    let select = match cdb.byte(2) {
        0x00 | 0x02 => Select::All,
        0x01 => Select::WellKnown,
        _ => return Err(Sense::invalid_byte(2)),
    };
    Ok(answer(Kind::Luns(select), cdb.be32(6)))
}

pub(super) fn fill(select: Select, target: &TargetView, writer: &mut Writer<'_>) {
    writer.zeros(8);
    if select == Select::All {
        for mapping in &target.mappings {
            writer.put(&mapping.number.encode());
        }
    }
    writer.length_32(0, 8);
}
