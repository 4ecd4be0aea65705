//! Parameter data: what commands answer out of what is known of a logical unit, without touching its medium.
//!
//! One file per command family, each with the command's `plan` and its data.

pub(super) mod capacity;
pub(super) mod defects;
pub(in crate::scsi) mod diagnostic;
pub(super) mod functions;
pub mod identifying;
pub(super) mod inquiry;
pub(crate) mod lba_status;
pub(super) mod log;
pub(super) mod luns;
pub mod mode;
pub(super) mod opcodes;
pub(super) mod port_groups;
pub(super) mod request_sense;
pub(super) mod reservations;
pub mod timestamp;
mod vpd;
pub(super) mod writer;

use crate::bdev::allocation::Allocation;
use crate::limits::PARAMETER_BYTES_MAX;
use crate::scsi::attention::Attentions;
use crate::scsi::buffers::{self, Buffers};
use crate::scsi::copy::rod::Known;
use crate::scsi::copy::{self, Results};
use crate::scsi::reserve::In;
use crate::scsi::sense::Sense;
use crate::scsi::{Place, Plan, Served, mmc};
use crate::time::Tick;

pub(super) use crate::scsi::report::writer::Writer;

/// Which parameter data, and how much of them is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    kind: Kind,
    allocation_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Inquiry,
    Vpd {
        page: u8,
    },
    Sense {
        descriptor_format: bool,
    },
    Luns(luns::Select),
    Capacity10,
    Capacity16,
    Mode(mode::Request),
    Opcodes(opcodes::Request),
    Functions {
        is_extended: bool,
    },
    PortGroups {
        is_extended: bool,
    },
    Defects(defects::Request),
    LbaStatus {
        lba: u64,
    },
    /// The same, the device being asked which blocks take space: [`Facts::allocation`].
    LbaStatusAsked {
        lba: u64,
    },
    Reservations(In),
    Log(log::Request),
    Diagnostics,
    Timestamp,
    Identifying(identifying::What),
    Buffer(buffers::Read),
    Copy(copy::Told),
    /// What drives alone have.
    Mmc(mmc::Request),
}

/// What some answers are made of beside what is published.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What the nexus is owed at the unit.
    pub attentions: Option<&'a mut Attentions>,
    /// iSCSIProtocolLevel of the session: INQUIRY tells it (RFC 7144 §4.2).
    pub protocol_level: u8,
    /// What time it is.
    pub now: Tick,
    /// What WRITE BUFFER has written.
    pub buffers: &'a Buffers,
    /// What became of copies.
    pub copies: &'a Results,
    /// Which tokens there are.
    pub tokens: Option<&'a dyn Known>,
    /// Which blocks take space, where [`Report::asks_device`].
    pub allocation: Option<&'a Allocation>,
}

impl Report {
    /// The most bytes [`fill`] can write: the ALLOCATION LENGTH, as far as any parameter data go.
    pub fn bytes_max(&self) -> u32 {
        self.allocation_bytes.min(PARAMETER_BYTES_MAX)
    }

    /// Whether the device is to be asked first which of its blocks take space.
    pub fn asks_device(&self) -> bool {
        matches!(self.kind, Kind::LbaStatusAsked { .. })
    }
}

/// The plan that answers with this.
fn answer(kind: Kind, allocation_bytes: impl Into<u32>) -> Plan {
    Plan::Report(Report { kind, allocation_bytes: allocation_bytes.into() })
}

/// The plan that answers READ BUFFER.
pub(super) fn buffer(read: buffers::Read, allocation_bytes: u32) -> Plan {
    answer(Kind::Buffer(read), allocation_bytes)
}

/// The same for what drives alone have.
pub(super) fn answer_mmc(request: mmc::Request, allocation_bytes: u32) -> Plan {
    answer(Kind::Mmc(request), allocation_bytes)
}

/// The plan that answers RECEIVE COPY RESULTS.
pub(super) fn copy(told: copy::Told, allocation_bytes: u32) -> Plan {
    answer(Kind::Copy(told), allocation_bytes)
}

/// Writes the data, cut to the ALLOCATION LENGTH and to `out`, and returns how many bytes that are. REQUEST SENSE reports and
/// clears a unit attention. Where the logical unit has vanished since the command was admitted, nothing is written.
///
/// # Errors
/// What is asked for is not there.
pub fn fill(report: &Report, place: &Place<'_>, facts: Facts<'_>, out: &mut [u8]) -> Result<usize, Sense> {
    let wanted = usize::try_from(report.bytes_max()).unwrap_or(usize::MAX).min(out.len());
    let mut writer = Writer::new(&mut out[..wanted]);
    write(report.kind, place, facts, &mut writer)?;
    Ok(writer.finish())
}

fn write(kind: Kind, place: &Place<'_>, facts: Facts<'_>, writer: &mut Writer<'_>) -> Result<(), Sense> {
    let unit = Served::at(place);
    match (kind, unit) {
        (Kind::Inquiry, unit) => inquiry::fill(unit, facts.protocol_level, writer),
        (Kind::Vpd { page }, Some(unit)) => vpd::fill(page, unit.view, place.target, writer),
        (Kind::Vpd { .. }, None) => vpd::fill_nowhere(writer),
        (Kind::Sense { descriptor_format }, unit) => {
            request_sense::fill(descriptor_format, unit, facts.attentions, writer);
        }
        (Kind::Luns(select), _) => luns::fill(select, place.target, writer),
        (Kind::Capacity10, Some(unit)) => capacity::fill_10(unit.view, writer),
        (Kind::Capacity16, Some(unit)) => capacity::fill_16(unit.view, writer),
        (Kind::Mode(request), Some(unit)) => mode::fill(request, unit, writer),
        (Kind::LbaStatus { lba } | Kind::LbaStatusAsked { lba }, Some(unit)) => {
            lba_status::fill(lba, unit.view, facts.allocation, writer);
        }
        (Kind::Opcodes(request), Some(unit)) => opcodes::fill(request, unit.view, writer),
        (Kind::Functions { is_extended }, Some(_)) => functions::fill(is_extended, writer),
        (Kind::PortGroups { is_extended }, Some(unit)) => {
            port_groups::fill(is_extended, place.target, unit.view, writer)
        }
        (Kind::Defects(request), Some(_)) => defects::fill(request, writer),
        (Kind::Reservations(what), Some(unit)) => reservations::fill(what, unit.view, writer),
        (Kind::Log(request), Some(unit)) => log::fill(request, unit.view, writer),
        (Kind::Diagnostics, Some(_)) => diagnostic::fill(writer),
        (Kind::Timestamp, Some(unit)) => timestamp::fill(unit.view, facts.now, writer),
        (Kind::Identifying(what), Some(unit)) => identifying::fill(what, unit.view, writer),
        (Kind::Buffer(read), Some(unit)) => {
            facts.buffers.fill(read, place.nexus, unit.view.id, writer)?;
        }
        (Kind::Copy(copy::Told::AllTokens), Some(unit)) => {
            copy::all_tokens(unit.view, facts.tokens, facts.now, writer);
        }
        (Kind::Copy(told), Some(unit)) => facts.copies.fill(told, place.nexus, unit.view.id, writer)?,
        (Kind::Mmc(request), Some(unit)) => mmc::fill(request, unit, facts.attentions.as_deref(), writer),
        (_, None) => {}
    }
    Ok(())
}
