//! What has happened to the tray: GET EVENT STATUS NOTIFICATION (MMC-6 §6.7) and MECHANISM STATUS (§6.10).
//!
//! A drive has many hosts, and one that reads an event must not take it from the others. So an event is nothing that is kept: NewMedia
//! is told as long as the host has the unit attention to come that says the same; EjectRequest as long as the operator's
//! wish stands.

use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::cdb::Cdb;
use crate::scsi::mmc::{Request, answer};
use crate::scsi::report::writer::Writer;
use crate::scsi::sense::Sense;
use crate::scsi::view::{Medium, UnitView};
use crate::scsi::{Plan, Served};

/// Classes of events, by number.
const OPERATIONAL_CHANGE: u8 = 1;
const MEDIA: u8 = 4;
const DEVICE_BUSY: u8 = 6;
/// Those that are told, in the order of their priority.
const CLASSES: [u8; 3] = [OPERATIONAL_CHANGE, MEDIA, DEVICE_BUSY];
const SUPPORTED: u8 = 1 << OPERATIONAL_CHANGE | 1 << MEDIA | 1 << DEVICE_BUSY;

pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Option<Served<'_>>) -> Result<Plan, Sense> {
    unit.ok_or(Sense::NO_SUCH_UNIT)?;
    // POLLED=0 would keep the command until something happens.
    if cdb.byte(1) & 0x01 == 0 {
        return Err(Sense::invalid_bit(1, 0));
    }
    Ok(answer(Request::Events { classes: cdb.byte(4) }, cdb.be16(7)))
}

pub(in crate::scsi) fn plan_mechanism(cdb: &Cdb, _: Served<'_>) -> Result<Plan, Sense> {
    Ok(answer(Request::Mechanism, cdb.be16(8)))
}

pub(super) fn fill(classes: u8, unit: &UnitView, attentions: Option<&Attentions>, writer: &mut Writer<'_>) {
    let Some(class) = CLASSES.into_iter().find(|class| classes & 1 << class != 0) else {
        // NEA: no event of these classes is ever told.
        return writer.put(&[0, 2, 0x80, SUPPORTED]);
    };
    writer.put(&[0, 6, class, SUPPORTED]);
    writer.put(&match class {
        MEDIA => [media_event(unit, attentions), tray_status(unit), 0, 0],
        // No change; the drive is not busy.
        _ => [0, 0, 0, 0],
    });
}

/// MEDIA EVENT CODE.
fn media_event(unit: &UnitView, attentions: Option<&Attentions>) -> u8 {
    const NOTHING: u8 = 0;
    const EJECT_REQUEST: u8 = 1;
    const NEW_MEDIA: u8 = 2;
    if unit.tray.is_eject_wanted {
        EJECT_REQUEST
    } else if unit.medium == Medium::Ready && attentions.is_some_and(|owed| owed.owes(Ua::MediumChanged)) {
        NEW_MEDIA
    } else {
        NOTHING
    }
}

/// MEDIA PRESENT and DOOR OR TRAY OPEN.
fn tray_status(unit: &UnitView) -> u8 {
    match unit.medium {
        Medium::Ready | Medium::Unsettled | Medium::Busy | Medium::Failed => 0x02,
        Medium::Ejected => 0x01,
        Medium::NotReady | Medium::Empty | Medium::Removed => 0x00,
    }
}

/// Not a changer: no slots. DOOR OPEN is all there is to say.
pub(super) fn fill_mechanism(unit: &UnitView, writer: &mut Writer<'_>) {
    let door_open = if unit.medium == Medium::Ejected { 0x10 } else { 0 };
    writer.put(&[0, door_open, 0, 0, 0, 0, 0, 0]);
}
