//! Asymmetric access (SPC-5 §5.18): what is said of it, and what is served in each state.

use super::{answered, answered_at, cdb, planned, refused, target, unit};
use crate::id::NexusId;
use crate::scsi::alua::{AccessState, Alua, Cause, Group, requested};
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::view::{LunNumber, TargetView, UnitView};
use crate::scsi::{Access, Extent, Outcome, Place, Plan, Status, recheck};

/// The group of the port that [`target`] is asked through.
const OWN: u16 = 0x0304;

fn group(number: u16, state: AccessState) -> Group {
    Group { number, state, is_preferred: false, cause: Cause::Implicit }
}

/// A unit in this state where it is asked.
fn at(state: AccessState) -> UnitView {
    UnitView { alua: Alua::new(false, vec![group(OWN, state)]), ..unit() }
}

#[test]
fn groups_are_told_with_state_preference_and_cause() {
    let groups = vec![
        Group { number: 0x0102, state: AccessState::Standby, is_preferred: true, cause: Cause::Explicit },
        group(0x0203, AccessState::Transitioning),
    ];
    let unit = UnitView { alua: Alua::new(false, groups), ..unit() };
    let told = answered(&[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], Some(&unit), None);
    let want = [
        [0x82, 0x8f, 0x01, 0x02, 0, 1, 0, 1, 0, 0, 0x01, 0x02],
        [0x0f, 0x8f, 0x02, 0x03, 0, 2, 0, 1, 0, 0, 0x02, 0x03],
    ]
    .concat();
    assert_eq!(told, [&[0, 0, 0, 24][..], &want].concat());
}

#[test]
fn ports_of_one_group_are_told_together() {
    let target = TargetView { ports: vec![1, 2, 0x0304], port_groups: vec![7, 0x0506, 7], ..target() };
    let unit = UnitView { alua: Alua::new(false, vec![group(7, AccessState::Standby)]), ..unit() };
    let told = answered_at(&target, &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], Some(&unit), None);
    let want = [
        &[0, 0, 0, 28][..],
        &[0x02, 0x8f, 0, 7, 0, 2, 0, 2, 0, 0, 0, 1, 0, 0, 0x03, 0x04],
        &[0x00, 0x8f, 0x05, 0x06, 0, 0, 0, 1, 0, 0, 0, 2],
    ];
    assert_eq!(told, want.concat());
}

#[test]
fn inquiry_says_who_may_change_states() {
    let tpgs = |alua| {
        let unit = UnitView { alua, ..unit() };
        answered(&[0x12, 0, 0, 0, 96, 0], Some(&unit), None)[5]
    };
    assert_eq!(tpgs(Alua::default()), 0x18);
    assert_eq!(tpgs(Alua::new(true, Vec::new())), 0x38);
}

/// How each state refuses: TARGET PORT IN STANDBY STATE, UNAVAILABLE STATE, ASYMMETRIC ACCESS STATE TRANSITION.
const REFUSALS: [(AccessState, u8); 3] =
    [(AccessState::Standby, 0x0b), (AccessState::Unavailable, 0x0c), (AccessState::Transitioning, 0x0a)];

#[test]
fn the_medium_is_served_in_the_active_states_only() {
    let media: [&[u8]; 6] = [
        &[0x00, 0, 0, 0, 0, 0],
        &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0],
        &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
        &[0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0],
    ];
    for bytes in media {
        for state in [AccessState::ActiveOptimized, AccessState::ActiveNonOptimized] {
            assert!(!matches!(planned(bytes, &at(state)), Plan::Refuse(_)), "{bytes:02x?}");
        }
        for (state, ascq) in REFUSALS {
            assert_eq!(
                refused(bytes, &at(state)),
                Sense::new(SenseKey::NotReady, 0x04, ascq),
                "{bytes:02x?}"
            );
        }
    }
}

#[test]
fn what_is_served_where_the_medium_is_not() {
    let always: [&[u8]; 4] = [
        &[0x12, 0, 0, 0, 96, 0],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0],
        &[0x03, 0, 0, 0, 18, 0],
        &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0],
    ];
    let standby: [&[u8]; 5] = [
        &[0x1a, 0, 0x3f, 0, 64, 0],
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
        &[0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0],
        &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0],
    ];
    for (state, _) in REFUSALS {
        for bytes in always {
            assert!(!matches!(planned(bytes, &at(state)), Plan::Refuse(_)), "{bytes:02x?} {state:?}");
        }
        for bytes in standby {
            let is_refused = matches!(planned(bytes, &at(state)), Plan::Refuse(_));
            assert_eq!(is_refused, state != AccessState::Standby, "{bytes:02x?} {state:?}");
        }
    }
}

#[test]
fn a_piece_that_was_not_submitted_in_time_is_refused() {
    let (target, extent) = (target(), Extent { lba: 0, blocks: 1, fua: false });
    let check = |unit: &UnitView| {
        let place =
            Place { nexus: NexusId(1), target: &target, number: LunNumber(0), unit: Some((unit, false)) };
        recheck(extent, Access::Read, &place)
    };
    assert_eq!(check(&at(AccessState::ActiveNonOptimized)), Ok(()));
    let refusal = Outcome::check(Sense::new(SenseKey::NotReady, 0x04, 0x0b));
    assert_eq!(check(&at(AccessState::Standby)), Err(refusal));
    // Elsewhere it is as it is there.
    let unit = UnitView { alua: Alua::new(false, vec![group(9, AccessState::Standby)]), ..unit() };
    assert_eq!(check(&unit), Ok(()));
}

#[test]
fn set_target_port_groups_is_for_explicit_access() {
    let set = |length: u8| [0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, length, 0, 0];
    assert_eq!(refused(&set(8), &unit()), Sense::INVALID_OPCODE);
    // In every state, that of the port it comes by included.
    for (state, _) in REFUSALS {
        let unit = UnitView { alua: Alua::new(true, vec![group(OWN, state)]), ..unit() };
        assert_eq!(planned(&set(8), &unit), Plan::Ask { parameter_bytes: 8 });
        assert_eq!(planned(&set(0), &unit), Plan::End(Status::Good));
        assert_eq!(refused(&set(3), &unit), Sense::PARAMETER_LIST_LENGTH);
    }
    assert_eq!(cdb(&set(8)).service_action(), 0x0a);
}

#[test]
fn what_set_target_port_groups_asks_for() {
    let ask = |list: &[u8]| requested(list, |number| number == 0x0102 || number == 0x0203);
    let explicit = |number, state| Group { cause: Cause::Explicit, ..group(number, state) };
    assert_eq!(ask(&[0; 4]), Ok(Vec::new()));
    assert_eq!(
        ask(&[0, 0, 0, 0, 0x02, 0, 0x01, 0x02, 0x00, 0, 0x02, 0x03]),
        Ok(vec![explicit(0x0102, AccessState::Standby), explicit(0x0203, AccessState::ActiveOptimized)])
    );
    for (code, state) in [(1, AccessState::ActiveNonOptimized), (3, AccessState::Unavailable)] {
        assert_eq!(ask(&[0, 0, 0, 0, code, 0, 0x01, 0x02]), Ok(vec![explicit(0x0102, state)]));
    }
    // Transitions, LBA dependence, OFFLINE and reserved bits.
    for code in [0x0f, 0x04, 0x0e, 0x05, 0x12, 0x80] {
        assert_eq!(ask(&[0, 0, 0, 0, code, 0, 0x01, 0x02]), Err(Sense::invalid_parameter(4)));
    }
    assert_eq!(ask(&[0, 0, 0, 0, 0, 1, 0x01, 0x02]), Err(Sense::invalid_parameter(5)));
    let second = [0, 0, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0x09, 0x09];
    assert_eq!(ask(&second), Err(Sense::invalid_parameter(10)));
    for cut in [&second[..0], &second[..3], &second[..7], &second[..11]] {
        assert_eq!(ask(cut), Err(Sense::PARAMETER_LIST_LENGTH));
    }
}

#[test]
fn groups_that_are_as_by_default_are_not_kept() {
    let alua =
        Alua::new(false, vec![group(2, AccessState::Standby), Group { number: 1, ..Group::default() }]);
    assert_eq!(alua.groups().len(), 1);
    let changed = alua.with(&[Group { number: 2, ..Group::default() }, group(1, AccessState::Unavailable)]);
    assert_eq!(changed.groups(), [group(1, AccessState::Unavailable)]);
    assert!(alua.takes_away(&changed) && !changed.takes_away(&Alua::default()));
    let optimized = group(2, AccessState::ActiveNonOptimized);
    assert!(!Alua::default().takes_away(&Alua::new(false, vec![optimized])));
}
