//! CD and DVD drives (MMC-6): what initiators and boot firmware ask of one beyond what they ask of a disk.
//!
//! The disc is an image of 2048-byte blocks: one session with one data track (mode 1). One that is too long for a CD is shown as a
//! DVD-ROM. Writing, audio and raw sectors are not there.

mod events;
mod features;
mod mode;
mod structure;
mod table;
mod toc;

#[cfg(test)]
mod tests;

pub(super) use table::TABLE;

use crate::scsi::attention::Attentions;
use crate::scsi::report::writer::Writer;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::{Plan, Served, medium, report};

/// Parameter data that drives alone have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Request {
    /// READ TOC/PMA/ATIP.
    Toc(toc::Toc),
    /// READ DISC INFORMATION.
    DiscInformation,
    /// READ TRACK INFORMATION.
    TrackInformation,
    /// GET CONFIGURATION.
    Configuration(features::Request),
    /// GET EVENT STATUS NOTIFICATION, for these classes.
    Events { classes: u8 },
    /// MECHANISM STATUS.
    Mechanism,
    /// READ DISC STRUCTURE, this format.
    Structure { format: u8 },
    /// MODE SENSE.
    Mode(mode::Request),
}

/// Writes it.
pub(super) fn fill(
    request: Request,
    unit: Served<'_>,
    attentions: Option<&Attentions>,
    writer: &mut Writer<'_>,
) {
    match request {
        Request::Toc(request) => toc::fill(request, unit.view, writer),
        Request::DiscInformation => toc::fill_disc(writer),
        Request::TrackInformation => toc::fill_track(unit.view, writer),
        Request::Configuration(request) => features::fill(request, unit.view, writer),
        Request::Events { classes } => events::fill(classes, unit.view, attentions, writer),
        Request::Mechanism => events::fill_mechanism(unit.view, writer),
        Request::Structure { format } => structure::fill(format, unit.view, writer),
        Request::Mode(request) => mode::fill(request, unit.view, writer),
    }
}

fn answer(request: Request, allocation_bytes: impl Into<u32>) -> Plan {
    report::answer_mmc(request, allocation_bytes.into())
}

/// The same, of a disc that has to be there.
fn answer_of_disc(
    unit: Served<'_>,
    request: Request,
    allocation_bytes: impl Into<u32>,
) -> Result<Plan, Sense> {
    medium::ready(unit)?;
    Ok(answer(request, allocation_bytes))
}

/// Blocks of the longest CD: 80 minutes of 60 seconds of 75 frames.
const CD_BLOCKS_MAX: u64 = 80 * 60 * 75;

/// What is in the drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disc {
    None,
    Cd,
    Dvd,
}

impl Disc {
    fn of(unit: &UnitView) -> Disc {
        match unit.medium {
            Medium::NotReady | Medium::Ejected | Medium::Empty | Medium::Removed => Disc::None,
            _ if unit.blocks <= CD_BLOCKS_MAX => Disc::Cd,
            _ => Disc::Dvd,
        }
    }
}
