//! Commands while another nexus has the logical unit.

use std::sync::Arc;

use super::{cdb, target, unit};
use crate::id::NexusId;
use crate::scsi::attention::{Attentions, Ua};
use crate::scsi::reserve::{InitiatorPort, Nexus, Permits, Registering, Request, State, Type};
use crate::scsi::sense::Sense;
use crate::scsi::view::{DeviceKind, LunNumber, UnitView};
use crate::scsi::{Access, Extent, Outcome, Place, Plan, Status, admit, plan, recheck};

const HOLDER: NexusId = NexusId(1);
const OTHER: NexusId = NexusId(2);

/// Its holder has reserved it, in this way or by RESERVE.
fn reserved(kind: Option<Type>) -> UnitView {
    let from = Nexus {
        id: HOLDER,
        initiator: InitiatorPort::new("iqn.2026-11.io.example:a", [0; 6]),
        target_port: 1,
    };
    let requests = match kind {
        None => vec![Request::LegacyReserve],
        Some(kind) => vec![
            Request::RegisterAndIgnore { new_key: 7, how: Registering::default() },
            Request::Reserve { key: 7, kind },
        ],
    };
    let state = requests
        .iter()
        .fold(State::default(), |state, request| state.out(request, &from, &[]).unwrap().next.unwrap());
    UnitView { permits: Permits::new(Arc::new(state)), ..unit() }
}

fn planned_by(nexus: NexusId, bytes: &[u8], unit: &UnitView) -> Plan {
    let target = target();
    plan(&cdb(bytes), &Place { nexus, target: &target, number: LunNumber(0), unit: Some((unit, false)) })
}

const CONFLICT: Plan = Plan::End(Status::ReservationConflict);
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];

#[test]
fn each_command_as_the_tables_say() {
    let (write, exclusive) = (reserved(Some(Type::WriteExclusive)), reserved(Some(Type::ExclusiveAccess)));
    let by_reserve = reserved(None);
    // What each ends in for another nexus: under Write Exclusive, Exclusive Access, RESERVE.
    let table: [(&[u8], [bool; 3]); 16] = [
        (&[0x00], [true, true, false]),
        (&[0x03, 0, 0, 0, 18], [true, true, true]),
        (&[0x12, 0, 0, 0, 36], [true, true, true]),
        (&[0x16], [true, true, true]),
        (&[0x17], [true, true, true]),
        (&[0x1a, 0, 0x08, 0, 192], [true, false, false]),
        (&[0x1b, 0, 0, 0, 1], [true, true, false]),
        (&[0x1b, 0, 0, 0, 0], [false, false, false]),
        (&[0x1e, 0, 0, 0, 0], [true, true, true]),
        (&[0x1e, 0, 0, 0, 1], [false, false, false]),
        (&[0x25], [true, true, false]),
        (&READ, [true, false, false]),
        (&WRITE, [false, false, false]),
        (&[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], [true, true, false]),
        (&[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], [true, true, false]),
        (&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], [true, true, true]),
    ];
    for (bytes, served) in table {
        for (unit, is_served) in [&write, &exclusive, &by_reserve].into_iter().zip(served) {
            let is_conflict = planned_by(OTHER, bytes, unit) == CONFLICT;
            assert_eq!(is_conflict, !is_served, "{bytes:02x?}");
            let is_persistent = matches!(bytes[0], 0x5e | 0x5f);
            let is_own_conflict = planned_by(HOLDER, bytes, unit) == CONFLICT;
            // SPC-2 §5.5.1: even of the holder's.
            assert_eq!(is_own_conflict, is_persistent && !is_served, "{bytes:02x?}");
        }
    }
}

#[test]
fn a_reserved_bit_is_refused_before_a_conflict_and_a_bad_address_after() {
    let unit = reserved(Some(Type::ExclusiveAccess));
    let mut bytes = READ;
    bytes[6] = 0x80;
    assert_eq!(planned_by(OTHER, &bytes, &unit), Plan::Refuse(Sense::invalid_bit(6, 7)));
    let mut bytes = READ;
    bytes[2] = 0xff;
    assert_eq!(planned_by(OTHER, &bytes, &unit), CONFLICT);
}

#[test]
fn a_unit_attention_goes_first_and_a_conflict_stays_one() {
    let (target, free, unit) = (target(), unit(), reserved(Some(Type::WriteExclusive)));
    let place =
        |unit| Place { nexus: OTHER, target: &target, number: LunNumber(0), unit: Some((unit, false)) };
    let mut attentions = Attentions::new();
    attentions.push(Ua::RegistrationsPreempted);
    let told = admit(CONFLICT, &cdb(&WRITE), &place(&unit), Some(&mut attentions));
    assert_eq!(told, Plan::Refuse(Ua::RegistrationsPreempted.sense()));
    // Its data were dropped: that the reservation is gone does not help.
    assert_eq!(admit(CONFLICT, &cdb(&WRITE), &place(&free), None), CONFLICT);
    let planned = plan(&cdb(&WRITE), &place(&free));
    assert!(matches!(planned, Plan::Write(_)));
    assert_eq!(admit(planned, &cdb(&WRITE), &place(&unit), None), CONFLICT, "reserved since");
}

#[test]
fn each_piece_is_checked() {
    let (target, unit) = (target(), reserved(Some(Type::WriteExclusive)));
    let place = |nexus| Place { nexus, target: &target, number: LunNumber(0), unit: Some((&unit, false)) };
    let piece = Extent { lba: 0, blocks: 1, fua: false };
    let conflict = Err(Outcome::of(Status::ReservationConflict));
    assert_eq!(recheck(piece, Access::Write, &place(OTHER)), conflict);
    assert_eq!(recheck(piece, Access::Read, &place(OTHER)), Ok(()));
    assert_eq!(recheck(piece, Access::Write, &place(HOLDER)), Ok(()));
}

#[test]
fn a_tape_is_not_moved_under_who_has_reserved_it() {
    let of = |is_blocks| UnitView {
        kind: DeviceKind::Passed { is_blocks },
        ..reserved(Some(Type::WriteExclusive))
    };
    // What another nexus may do at a tape, and at a disk.
    let table: [(&[u8], [bool; 2]); 13] = [
        (&[0x00], [true, true]),
        (&[0x03, 0, 0, 0, 18], [true, true]),
        (&[0x12, 0, 0, 0, 36], [true, true]),
        (&[0x1a, 0, 0x3f, 0, 192], [true, true]),
        (&[0x4d, 0, 0, 0, 0, 0, 0, 1, 0], [true, true]),
        // LOAD UNLOAD with LOAD: START STOP UNIT with START.
        (&[0x1b, 0, 0, 0, 1], [false, true]),
        (&[0x08, 0, 0, 0, 1], [false, true]),
        (&[0x28, 0, 0, 0, 0, 0, 0, 0, 1], [false, true]),
        // READ POSITION: PRE-FETCH(10).
        (&[0x34], [false, true]),
        // INITIALIZE ELEMENT STATUS WITH RANGE of a changer: READ DEFECT DATA(10).
        (&[0x37], [false, true]),
        (&[0x01], [false, false]),
        (&[0x2b], [false, false]),
        (&[0xa5], [false, false]),
    ];
    for (bytes, may) in table {
        for (is_blocks, may) in [false, true].into_iter().zip(may) {
            let is_passed = matches!(planned_by(OTHER, bytes, &of(is_blocks)), Plan::Pass { .. });
            assert_eq!(is_passed, may, "{bytes:02x?} of blocks: {is_blocks}");
            assert!(matches!(planned_by(HOLDER, bytes, &of(is_blocks)), Plan::Pass { .. }), "{bytes:02x?}");
        }
    }
}
