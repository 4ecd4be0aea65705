//! When a command's turn has come: unit attentions, and what has changed since its plan was made.

use super::{answered, cdb, planned, target, unit};
use crate::id::NexusId;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, Medium, UnitView};
use crate::scsi::{Access, Extent, Outcome, Place, Plan, Status, admit, recheck};

const READ: [u8; 10] = [0x28, 0, 0, 0, 3, 0xe7, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 3, 0xe7, 0, 0, 1, 0];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 36, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];

/// Planned at one time, admitted at another.
fn admitted(bytes: &[u8], then: &UnitView, now: &UnitView, attentions: Option<&mut Attentions>) -> Plan {
    let target = target();
    let place = Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((now, false)) };
    admit(planned(bytes, then), &cdb(bytes), &place, attentions)
}

fn pending(uas: &[Ua]) -> Attentions {
    let mut attentions = Attentions::new();
    uas.iter().for_each(|ua| attentions.push(*ua));
    attentions
}

#[test]
fn a_unit_attention_is_reported_once_and_first() {
    let unit = unit();
    let mut attentions = pending(&[Ua::CapacityChanged, Ua::PowerOn, Ua::ModeChanged]);
    let Plan::Refuse(sense) = admitted(&READ, &unit, &unit, Some(&mut attentions)) else { panic!() };
    assert_eq!((sense.key.code(), sense.asc, sense.ascq), (6, 0x29, 0x01));
    // Even an unknown operation code comes second.
    let Plan::Refuse(sense) = admitted(&[0xff], &unit, &unit, Some(&mut attentions)) else { panic!() };
    assert_eq!((sense.key.code(), sense.asc, sense.ascq), (6, 0x2a, 0x01));
    assert!(matches!(admitted(&READ, &unit, &unit, Some(&mut attentions)), Plan::Read(_)));
}

#[test]
fn three_commands_pass_unit_attentions_by() {
    let unit = unit();
    let mut attentions = pending(&[Ua::PowerOn, Ua::LunsChanged]);
    for bytes in [&INQUIRY[..], &REQUEST_SENSE] {
        assert!(matches!(admitted(bytes, &unit, &unit, Some(&mut attentions)), Plan::Report(_)));
        assert_eq!(attentions, pending(&[Ua::PowerOn, Ua::LunsChanged]));
    }
    assert!(matches!(admitted(&REPORT_LUNS, &unit, &unit, Some(&mut attentions)), Plan::Report(_)));
    assert_eq!(attentions, pending(&[Ua::PowerOn]));
}

#[test]
fn a_refused_report_luns_clears_nothing() {
    let unit = unit();
    let mut attentions = pending(&[Ua::LunsChanged]);
    let mut bytes = REPORT_LUNS;
    bytes[2] = 0x10;
    assert!(matches!(admitted(&bytes, &unit, &unit, Some(&mut attentions)), Plan::Refuse(_)));
    assert_eq!(attentions, pending(&[Ua::LunsChanged]));
}

#[test]
fn request_sense_reports_and_clears() {
    let unit = unit();
    let mut attentions = pending(&[Ua::LunsChanged, Ua::CapacityChanged]);
    assert_eq!(
        answered(&REQUEST_SENSE, Some(&unit), Some(&mut attentions)),
        [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x3f, 0x0e, 0, 0, 0, 0]
    );
    assert_eq!(
        answered(&[0x03, 0x01, 0, 0, 252, 0], Some(&unit), Some(&mut attentions)),
        [0x72, 6, 0x2a, 0x09, 0, 0, 0, 0]
    );
    assert!(attentions.is_empty());
    assert_eq!(
        answered(&REQUEST_SENSE, Some(&unit), Some(&mut attentions)),
        [0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn what_changed_is_seen() {
    let before = unit();
    let smaller = UnitView { blocks: 999, ..unit() };
    let read_only = UnitView { read_only: true, ..unit() };
    let away = UnitView { medium: Medium::NotReady, ..unit() };
    let removed = UnitView { medium: Medium::Removed, ..unit() };
    let now = |bytes: &[u8], unit| admitted(bytes, &before, unit, None);
    assert_eq!(now(&READ, &smaller), Plan::Refuse(Sense::LBA_OUT_OF_RANGE.at(999)));
    assert!(matches!(now(&READ, &read_only), Plan::Read(_)));
    assert_eq!(now(&WRITE, &read_only), Plan::Refuse(Sense::WRITE_PROTECTED));
    assert_eq!(now(&WRITE, &away), Plan::Refuse(Sense::NOT_READY));
    assert_eq!(now(&READ, &removed), Plan::Refuse(Sense::NO_SUCH_UNIT));
    assert_eq!(now(&[0], &before), Plan::End(Status::Good));
    assert_eq!(now(&[0], &away), Plan::Refuse(Sense::NOT_READY));
    assert_eq!(now(&[0x35], &away), Plan::Refuse(Sense::NOT_READY));
}

#[test]
fn an_early_refusal_stands() {
    // Its data were thrown away: growing in the meantime does not help.
    let small = UnitView { blocks: 10, ..unit() };
    assert_eq!(admitted(&WRITE, &small, &unit(), None), Plan::Refuse(Sense::LBA_OUT_OF_RANGE.at(999)));
}

#[test]
fn each_piece_is_checked() {
    let target = target();
    let piece = Extent { lba: 990, blocks: 10, fua: false };
    let check = |unit: Option<(&UnitView, bool)>, access| {
        recheck(piece, access, &Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit })
    };
    let unit = unit();
    assert_eq!(check(Some((&unit, false)), Access::Write), Ok(()));
    assert_eq!(check(Some((&unit, true)), Access::Write), Err(Outcome::check(Sense::WRITE_PROTECTED)));
    assert_eq!(check(Some((&unit, true)), Access::Read), Ok(()));
    assert_eq!(check(None, Access::Read), Err(Outcome::check(Sense::NO_SUCH_UNIT)));
    let smaller = UnitView { blocks: 995, ..unit };
    assert_eq!(
        check(Some((&smaller, false)), Access::Read),
        Err(Outcome::check(Sense::LBA_OUT_OF_RANGE.at(995)))
    );
}
