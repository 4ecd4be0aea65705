//! Registering, reserving, releasing, clearing (SPC-5 §5.14.7 to §5.14.11).

use super::*;
use crate::limits::REGISTRATIONS_MAX;

#[test]
fn registering() {
    // From, given key, new key; the keys afterwards, or a conflict. A is registered with K1, B is not.
    type Case = (NexusId, u8, u64, u64, Option<&'static [u64]>);
    let cases: &[Case] = &[
        (B, REGISTER, 0, 0, Some(&[K1])),
        (B, REGISTER, 0, K2, Some(&[K1, K2])),
        (B, REGISTER, 0, K1, Some(&[K1, K1])),
        (B, REGISTER, K1, K2, None),
        (B, REGISTER, K2, 0, None),
        (A, REGISTER, 0, K2, None),
        (A, REGISTER, K2, K3, None),
        (A, REGISTER, K1, K2, Some(&[K2])),
        (A, REGISTER, K1, K1, Some(&[K1])),
        (A, REGISTER, K1, 0, Some(&[])),
        (B, IGNORE, K3, 0, Some(&[K1])),
        (B, IGNORE, K3, K2, Some(&[K1, K2])),
        (A, IGNORE, K3, K2, Some(&[K2])),
        (A, IGNORE, K3, 0, Some(&[])),
    ];
    for &(from, action, given, new, expected) in cases {
        let mut state = registered(&[(A, K1)]);
        let case = format!("{from:?} {action} {given:x} {new:x}");
        match expected {
            Some(expected) => {
                assert_eq!(run(&mut state, from, action, 0, (given, new)), [], "{case}");
                assert_eq!(keys(&state), expected, "{case}");
            }
            None => assert!(conflict(&out(&state, from, action, 0, (given, new))), "{case}"),
        }
    }
}

#[test]
fn what_others_may_do_with_a_reservation() {
    // SPC-5 §5.14.1, table "PERSISTENT RESERVE OUT service actions that are allowed in the presence of various
    // reservations": A holds, B is registered, C is not.
    for kind in [WE, EA, WE_RO, EA_RO] {
        let state = reserved(kind, &[(A, K1), (B, K2)]);
        let is_allowed = |from, action, keys| !conflict(&out(&state, from, action, kind, keys));
        let registrant = [
            (CLEAR, 0, true),
            (PREEMPT, K1, true),
            (PREEMPT_AND_ABORT, K1, true),
            (REGISTER, K3, true),
            (IGNORE, K3, true),
            (RELEASE, 0, true),
            (RESERVE, 0, false),
        ];
        for (action, other, expected) in registrant {
            assert_eq!(is_allowed(B, action, (K2, other)), expected, "{kind} {action}");
        }
        for action in [CLEAR, PREEMPT, PREEMPT_AND_ABORT, RELEASE, RESERVE] {
            assert!(!is_allowed(C, action, (0, K1)), "{kind} {action}");
            assert!(!is_allowed(C, action, (K1, K1)), "{kind} {action}");
        }
        assert!(is_allowed(C, REGISTER, (0, K3)));
        assert!(is_allowed(C, IGNORE, (0, K3)));
    }
}

#[test]
fn a_wrong_key_is_a_conflict() {
    let state = reserved(WE, &[(A, K1), (B, K2)]);
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        assert!(conflict(&out(&state, A, action, WE, (K2, K2))), "{action}");
    }
}

#[test]
fn reserving() {
    for kind in TYPES {
        let state = reserved(kind, &[(A, K1), (B, K2)]);
        let all = kind == WE_AR || kind == EA_AR;
        assert_eq!(reservation(&state), Some((if all { 0 } else { K1 }, kind)));
        // SPC-5 §5.14.9: again by a holder, the same: GOOD, nothing changes.
        assert_eq!(out(&state, A, RESERVE, kind, (K1, 0)), Ok(Effect::default()));
        assert_eq!(out(&state, B, RESERVE, kind, (K2, 0)) == Ok(Effect::default()), all);
        assert_eq!(conflict(&out(&state, B, RESERVE, kind, (K2, 0))), !all);
        // Another type, by a holder too.
        for other in TYPES.into_iter().filter(|other| *other != kind) {
            assert!(conflict(&out(&state, A, RESERVE, other, (K1, 0))));
        }
    }
}

#[test]
fn releasing() {
    for kind in TYPES {
        let mut state = reserved(kind, &[(A, K1), (B, K2)]);
        for other in TYPES.into_iter().filter(|other| *other != kind) {
            // INVALID RELEASE OF PERSISTENT RESERVATION.
            assert_eq!(check(out(&state, A, RELEASE, other, (K1, 0))), Some((5, 0x26, 0x04, [0; 3])));
        }
        // By a registrant that is no holder: GOOD, nothing changes, whatever the type.
        if kind != WE_AR && kind != EA_AR {
            for any in TYPES {
                assert_eq!(out(&state, B, RELEASE, any, (K2, 0)), Ok(Effect::default()));
            }
        }
        // Registrants hear of it where they could do what the holder could.
        let told = if kind == WE || kind == EA { vec![] } else { vec![(B, Ua::ReservationsReleased)] };
        assert_eq!(run(&mut state, A, RELEASE, kind, (K1, 0)), told, "{kind}");
        assert_eq!(reservation(&state), None);
        assert_eq!(keys(&state), [K1, K2]);
        assert_eq!(
            out(&state, A, RELEASE, kind, (K1, 0)),
            Ok(Effect::default()),
            "nothing is left to release"
        );
    }
}

#[test]
fn the_last_holder_unregisters() {
    for kind in TYPES {
        let mut state = reserved(kind, &[(A, K1), (B, K2), (C, K3)]);
        let told = run(&mut state, A, REGISTER, 0, (K1, 0));
        let released = Ua::ReservationsReleased;
        match kind {
            WE | EA => assert_eq!((told, reservation(&state)), (vec![], None)),
            WE_RO | EA_RO => {
                assert_eq!(told, [(B, released), (C, released)]);
                assert_eq!(reservation(&state), None);
            }
            _ => {
                assert_eq!((told, reservation(&state)), (vec![], Some((0, kind))));
                assert_eq!(run(&mut state, C, IGNORE, 0, (0, 0)), []);
                assert_eq!(reservation(&state), Some((0, kind)));
                assert_eq!(run(&mut state, B, REGISTER, 0, (K2, 0)), []);
                assert_eq!((keys(&state), reservation(&state)), (vec![], None));
            }
        }
    }
}

#[test]
fn another_registrant_unregisters() {
    let mut state = reserved(WE_RO, &[(A, K1), (B, K2)]);
    let effect = out(&state, B, REGISTER, 0, (K2, 0)).unwrap();
    assert!(effect.drains, "it may write no more");
    assert_eq!(run(&mut state, B, REGISTER, 0, (K2, 0)), []);
    assert_eq!(reservation(&state), Some((K1, WE_RO)));
}

#[test]
fn a_changed_key_is_the_reservations_key() {
    let mut state = reserved(EA, &[(A, K1), (B, K2)]);
    assert_eq!(run(&mut state, A, REGISTER, 0, (K1, K3)), []);
    assert_eq!(reservation(&state), Some((K3, EA)));
}

#[test]
fn clearing() {
    for kind in TYPES {
        let mut state = reserved(kind, &[(A, K1), (B, K2), (C, K3)]);
        // SCOPE and TYPE are ignored.
        let told = run(&mut state, B, CLEAR, 0xff, (K2, 0));
        assert_eq!(told, [(A, Ua::ReservationsPreempted), (C, Ua::ReservationsPreempted)]);
        assert_eq!((keys(&state), reservation(&state)), (vec![], None));
    }
}

#[test]
fn the_generation_counts() {
    let mut state = State::default();
    let mut step = |from, action, kind, keys, expected| {
        run(&mut state, from, action, kind, keys);
        assert_eq!(state.generation, expected, "{action}");
    };
    step(A, REGISTER, 0, (0, 0), 0);
    step(A, REGISTER, 0, (0, K1), 1);
    step(B, IGNORE, 0, (0, K2), 2);
    step(A, RESERVE, WE, (K1, 0), 2);
    step(A, RELEASE, WE, (K1, 0), 2);
    step(A, PREEMPT, WE, (K1, K2), 3);
    step(B, IGNORE, 0, (0, K2), 4);
    step(A, PREEMPT_AND_ABORT, WE, (K1, K2), 5);
    step(A, REGISTER, 0, (K1, K1), 6);
    step(A, CLEAR, 0, (K1, 0), 7);
    state.generation = u32::MAX;
    run(&mut state, A, REGISTER, 0, (0, K1));
    assert_eq!(state.generation, 0);
}

#[test]
fn registrations_are_bounded() {
    let mut state = State::default();
    let ids = (0..).map(NexusId).take(REGISTRATIONS_MAX);
    ids.for_each(|id| assert_eq!(run(&mut state, id, REGISTER, 0, (0, K1)), []));
    let stranger = NexusId(u32::MAX);
    // INSUFFICIENT REGISTRATION RESOURCES.
    assert_eq!(check(out(&state, stranger, REGISTER, 0, (0, K2))), Some((5, 0x55, 0x04, [0; 3])));
    assert_eq!(check(out(&state, stranger, IGNORE, 0, (0, K2))), Some((5, 0x55, 0x04, [0; 3])));
    run(&mut state, NexusId(7), REGISTER, 0, (K1, K2));
    run(&mut state, NexusId(7), REGISTER, 0, (K2, 0));
    run(&mut state, stranger, REGISTER, 0, (0, K2));
    assert_eq!(state.registrations.len(), REGISTRATIONS_MAX);
}
