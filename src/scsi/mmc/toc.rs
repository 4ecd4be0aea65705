//! What is on the disc: READ TOC/PMA/ATIP (MMC-6 §6.25), READ DISC INFORMATION (§6.22), READ TRACK INFORMATION (§6.26).

use crate::scsi::cdb::Cdb;
use crate::scsi::mmc::{Disc, Request, answer_of_disc};
use crate::scsi::report::writer::Writer;
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::view::UnitView;
use crate::scsi::{Plan, Served};

/// CANNOT READ MEDIUM - INCOMPATIBLE FORMAT.
pub(super) const INCOMPATIBLE_FORMAT: Sense = Sense::new(SenseKey::IllegalRequest, 0x30, 0x02);

/// The number of the lead-out.
const LEAD_OUT: u8 = 0xaa;
/// ADR 1, CONTROL 0100b: a data track.
const DATA: u8 = 0x14;

/// What of the table of contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::scsi) struct Toc {
    format: Format,
    /// Addresses as minute, second and frame.
    is_msf: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// The tracks from this one on.
    Tracks {
        first: u8,
    },
    Sessions,
    Raw,
}

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let first = cdb.byte(6);
    // MMC-6 table 482: SFF 8020 had the format in the first bits of CONTROL, which only 0000b here leaves room for.
    let format = match cdb.byte(2) & 0x0f {
        0 if matches!(first, 0 | 1 | LEAD_OUT) => Format::Tracks { first },
        0 => return Err(Sense::invalid_byte(6)),
        1 => Format::Sessions,
        2 if Disc::of(unit.view) == Disc::Dvd => return Err(INCOMPATIBLE_FORMAT),
        2 => Format::Raw,
        _ => return Err(Sense::invalid_bit(2, 3)),
    };
    answer_of_disc(unit, Request::Toc(Toc { format, is_msf: cdb.byte(1) & 0x02 != 0 }), cdb.be16(7))
}

pub(in crate::scsi) fn plan_disc(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    if cdb.byte(1) & 0x07 != 0 {
        return Err(Sense::invalid_bit(1, 2));
    }
    answer_of_disc(unit, Request::DiscInformation, cdb.be16(7))
}

/// There is one track, in one session, and it has every block.
pub(in crate::scsi) fn plan_track(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    let number = u64::from(cdb.be32(2));
    let is_there = match cdb.byte(1) & 0x03 {
        0 => number < unit.view.blocks,
        1 | 2 => number == 1,
        _ => return Err(Sense::invalid_bit(1, 1)),
    };
    let plan = answer_of_disc(unit, Request::TrackInformation, cdb.be16(7))?;
    if is_there { Ok(plan) } else { Err(Sense::invalid_byte(2)) }
}

pub(super) fn fill(toc: Toc, unit: &UnitView, writer: &mut Writer<'_>) {
    let Toc { format, is_msf } = toc;
    let end = u32::try_from(unit.blocks).unwrap_or(u32::MAX);
    // The first and the last, of tracks or of sessions.
    writer.put(&[0, 0, 1, 1]);
    match format {
        Format::Tracks { first } => {
            if first != LEAD_OUT {
                writer.put(&[0, DATA, 1, 0]);
                writer.put(&address(0, is_msf));
            }
            writer.put(&[0, DATA, LEAD_OUT, 0]);
            writer.put(&address(end, is_msf));
        }
        Format::Sessions => {
            // The first track of the last session.
            writer.put(&[0, DATA, 1, 0]);
            writer.put(&address(0, is_msf));
        }
        Format::Raw => {
            // Of the first track, of the last, of the lead-out, of track 1: always as minute, second, frame.
            for (point, [_, minute, second, frame]) in
                [(0xa0, [0, 1, 0, 0]), (0xa1, [0, 1, 0, 0]), (0xa2, msf(end)), (1, msf(0))]
            {
                writer.put(&[1, DATA, 0, point, 0, 0, 0, 0, minute, second, frame]);
            }
        }
    }
    writer.length_16(0, 2);
}

/// An address in four bytes.
fn address(lba: u32, is_msf: bool) -> [u8; 4] {
    if is_msf { msf(lba) } else { lba.to_be_bytes() }
}

/// Minute, second and frame, behind a byte that is reserved. The first block is at two seconds. What is beyond is shown as the last
/// there is (MMC-6 §6.25.3.2).
fn msf(lba: u32) -> [u8; 4] {
    const LAST: [u8; 4] = [0, 0xff, 59, 74];
    let frames = u64::from(lba) + 150;
    let part = |value: u64| u8::try_from(value).unwrap_or(0);
    match u8::try_from(frames / (60 * 75)) {
        Ok(minute) => [0, minute, part(frames / 75 % 60), part(frames % 75)],
        Err(_) => LAST,
    }
}

/// Standard disc information: complete, one session, one track.
pub(super) fn fill_disc(writer: &mut Writer<'_>) {
    // The last session and the disc are complete; they cannot be erased.
    writer.put(&[0, 0, 0x0e]);
    // The first track; sessions; the first and the last track of the last session.
    writer.put(&[1, 1, 1, 1]);
    // URU: what use is unrestricted; neither an identification nor a bar code. A CD-ROM, or no CD.
    writer.put(&[0x20, 0, 0, 0, 0]);
    writer.zeros(4);
    // There is neither another session's lead-in nor room for a later lead-out.
    writer.put(&[0xff; 8]);
    writer.zeros_to(34);
    writer.length_16(0, 2);
}

pub(super) fn fill_track(unit: &UnitView, writer: &mut Writer<'_>) {
    // Track 1 of session 1; TRACK MODE 4: data; DATA MODE 1.
    writer.put(&[0, 0, 1, 1, 0, 0x04, 0x01, 0]);
    // It begins at block 0; nothing is writable, free, or in packets.
    writer.zeros_to(24);
    writer.put(&u32::try_from(unit.blocks).unwrap_or(u32::MAX).to_be_bytes());
    writer.zeros_to(36);
    writer.length_16(0, 2);
}
