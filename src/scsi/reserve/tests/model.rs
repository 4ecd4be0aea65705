//! Every state that three nexuses with two keys can bring about, and every command in each of them.

use std::collections::BTreeSet;

use super::*;
use crate::scsi::reserve::state::{Held, Reservation};
use crate::scsi::reserve::{Class, Type};

const ALL: [NexusId; 3] = [A, B, C];
/// Never registered.
const STRANGER: NexusId = NexusId(99);

/// A state without its generation, to tell states apart by.
type Shape = ([Option<u64>; 3], Option<(u8, Option<NexusId>)>);

fn shape(state: &State) -> Shape {
    let held = match state.held {
        Held::Free => None,
        Held::Legacy(holder) => Some((0, Some(holder))),
        Held::Persistent(Reservation { kind, holder }) => {
            Some((kind.code(), (!matches!(kind.code(), WE_AR | EA_AR)).then_some(holder)))
        }
    };
    (ALL.map(|nexus| state.key(nexus)), held)
}

/// Every command one nexus can send, given two keys, with the nexus it names.
fn commands() -> Vec<(Request, Option<NexusId>)> {
    let keys = [0, K1, K2];
    let kinds = TYPES.map(|code| Type::decode(code).unwrap());
    let mut all = vec![(Request::LegacyReserve, None), (Request::LegacyRelease, None)];
    let mut add = |request| all.push((request, None));
    for new_key in keys {
        add(Request::RegisterAndIgnore { new_key, how: Registering::default() });
        add(Request::Clear { key: new_key });
        for key in keys {
            add(Request::Register { key, new_key, how: Registering::default() });
        }
        for kind in kinds {
            add(Request::Reserve { key: new_key, kind });
            add(Request::Release { key: new_key, kind });
        }
    }
    for key in [K1, K2] {
        for (victim, abort) in keys.into_iter().flat_map(|victim| [(victim, false), (victim, true)]) {
            for kind in kinds {
                add(Request::Preempt { key, victim, kind: Ok(kind), abort });
            }
        }
    }
    for (to, unregister) in ALL.into_iter().flat_map(|to| [(to, false), (to, true)]) {
        for (key, new_key) in [(K1, K1), (K1, K2), (K2, K1), (K2, K2)] {
            let Nexus { initiator, target_port, .. } = nexus(to);
            let request = Request::RegisterAndMove {
                key,
                new_key,
                unregister,
                persists: false,
                initiator,
                target_port,
            };
            all.push((request, Some(to)));
        }
    }
    all
}

#[test]
fn every_command_in_every_state() {
    let commands = commands();
    let mut seen = BTreeSet::from([shape(&State::default())]);
    let mut open = vec![State::default()];
    let mut steps = 0;
    while let Some(state) = open.pop() {
        for from in ALL {
            for (request, to) in &commands {
                steps += 1;
                let to = to.map(nexus);
                let Ok(effect) = state.out(request, &nexus(from), to.as_slice()) else { continue };
                judge(&state, from, request, &effect);
                let Some(next) = effect.next else { continue };
                if seen.insert(shape(&next)) {
                    open.push(next);
                }
            }
        }
    }
    // Free: 27 ways to be registered. By RESERVE: 3. WE, EA and the two for registrants: 3 holders, 2 keys each, 9 for the
    // others; held by all registrants, two types: 26, as someone is registered.
    assert_eq!(seen.len(), 27 + 3 + 4 * 3 * 2 * 9 + 2 * 26);
    assert_eq!(steps, seen.len() * 3 * commands.len());
}

/// What must be true of each step.
fn judge(old: &State, from: NexusId, request: &Request, effect: &Effect) {
    let case = format!("{old:?}\n{from:?} {request:?}\n{effect:?}");
    let Some(next) = &effect.next else {
        assert_eq!(*effect, Effect::default(), "{case}");
        return;
    };
    sound(next, &case);
    counted(old, next, request, &case);
    told(old, next, from, effect, &case);
    permitted(old, next, effect, &case);

    // Only what registers is open to those who are not.
    if old.key(from).is_none() {
        let registers =
            matches!(request, Request::Register { key: 0, .. } | Request::RegisterAndIgnore { .. });
        assert!(registers || matches!(request, Request::LegacyReserve | Request::LegacyRelease), "{case}");
    }
    // Nobody but the sender and those it preempts, clears or moves to changes.
    for other in ALL.into_iter().filter(|other| *other != from && old.key(*other) != next.key(*other)) {
        let named = match request {
            Request::Clear { .. } => true,
            Request::Preempt { victim, .. } => *victim == 0 || old.key(other) == Some(*victim),
            Request::RegisterAndMove { initiator, .. } => *initiator == nexus(other).initiator,
            _ => false,
        };
        assert!(named, "{case}");
    }
    match request {
        Request::Preempt { victim, abort, .. } => {
            let gone = |id: &NexusId| next.key(*id) != Some(*victim) || *id == from;
            assert!(ALL.iter().filter(|id| old.key(**id) == Some(*victim)).all(gone), "{case}");
            let meant = |id: &NexusId| old.key(*id) == Some(*victim) || (*victim == 0 && *id != from);
            let meant: Vec<NexusId> =
                ALL.into_iter().filter(|id| *abort && old.key(*id).is_some() && meant(id)).collect();
            assert_eq!(effect.aborts, meant, "{case}");
        }
        Request::RegisterAndMove { unregister, new_key, .. } => {
            assert_eq!(next.key(from).is_none(), *unregister, "{case}");
            let holder = next.reservation().unwrap().holder;
            assert!(holder != from && next.key(holder) == Some(*new_key), "{case}");
            assert_eq!(old.reservation().unwrap().kind, next.reservation().unwrap().kind, "{case}");
        }
        _ => assert_eq!(effect.aborts, [], "{case}"),
    }
}

/// The state's own invariants.
fn sound(state: &State, case: &str) {
    assert!(state.registrations.is_sorted_by_key(|registration| registration.nexus.id), "{case}");
    assert!(state.registrations.iter().all(|registration| registration.key != 0), "{case}");
    match state.held {
        Held::Free => {}
        Held::Legacy(_) => assert_eq!(state.registrations, [], "{case}"),
        Held::Persistent(Reservation { kind, holder }) => {
            assert!(!state.registrations.is_empty(), "{case}");
            let all = matches!(kind.code(), WE_AR | EA_AR);
            assert!(all || state.key(holder).is_some(), "{case}");
            for nexus in ALL {
                let is_holder = state.key(nexus).is_some() && (all || nexus == holder);
                assert_eq!(state.is_holder(nexus), is_holder, "{case}");
            }
        }
    }
}

/// PRGENERATION.
fn counted(old: &State, next: &State, request: &Request, case: &str) {
    let counts = match request {
        Request::Reserve { .. } | Request::Release { .. } => false,
        Request::LegacyReserve | Request::LegacyRelease => false,
        Request::Register { .. } | Request::RegisterAndIgnore { .. } | Request::RegisterAndMove { .. } => {
            true
        }
        Request::Clear { .. } | Request::Preempt { .. } => true,
    };
    assert_eq!(next.generation, old.generation + u32::from(counts), "{case}");
}

/// Who hears of it.
fn told(old: &State, next: &State, from: NexusId, effect: &Effect, case: &str) {
    let told: BTreeSet<NexusId> = effect.attentions.iter().map(|(nexus, _)| *nexus).collect();
    assert_eq!(told.len(), effect.attentions.len(), "nobody twice: {case}");
    assert!(!told.contains(&from), "{case}");
    for nexus in ALL.into_iter().filter(|nexus| *nexus != from) {
        let ua = effect.attentions.iter().find(|(id, _)| *id == nexus).map(|(_, ua)| *ua);
        let lost = old.key(nexus).is_some() && next.key(nexus).is_none();
        let is_loss = matches!(ua, Some(Ua::RegistrationsPreempted | Ua::ReservationsPreempted));
        assert_eq!(is_loss, lost, "{case}");
        if ua == Some(Ua::ReservationsReleased) {
            let kind = |state: &State| state.reservation().map(|reservation| reservation.kind);
            assert!(next.key(nexus).is_some() && kind(old).is_some() && kind(old) != kind(next), "{case}");
        }
    }
}

/// Permissions: what is taken is drained, and whoever was preempted has none left while somebody else holds the unit.
fn permitted(old: &State, next: &State, effect: &Effect, case: &str) {
    let mut loses = false;
    for nexus in [A, B, C, STRANGER] {
        for class in [Class::Read, Class::Write] {
            loses |= old.allows(nexus, class) && !next.allows(nexus, class);
        }
        if old.key(nexus).is_some() && next.key(nexus).is_none() && next.reservation().is_some() {
            assert!(!next.allows(nexus, Class::Write), "{case}");
        }
        if next.is_holder(nexus) || next.held == Held::Legacy(nexus) {
            assert!(next.allows(nexus, Class::Write), "{case}");
        }
    }
    assert_eq!(effect.drains, loses, "{case}");
}
