//! PREEMPT and PREEMPT AND ABORT (SPC-5 §5.14.11.2.4 to §5.14.11.2.7).

use super::*;

const LOST: Ua = Ua::RegistrationsPreempted;

#[test]
fn the_holder_is_preempted() {
    for old in [WE, EA, WE_RO, EA_RO] {
        for new in TYPES {
            let mut state = reserved(old, &[(A, K1), (B, K2), (C, K3)]);
            let told = run(&mut state, B, PREEMPT, new, (K2, K1));
            // Whoever keeps its registration hears of another type only.
            let mut expected = if old == new { vec![] } else { vec![(C, Ua::ReservationsReleased)] };
            expected.push((A, LOST));
            assert_eq!(told, expected, "{old} {new}");
            assert_eq!(keys(&state), [K2, K3]);
            assert_eq!(reservation(&state), Some((if new == WE_AR || new == EA_AR { 0 } else { K2 }, new)));
        }
    }
}

#[test]
fn all_registrants_are_preempted_by_a_key_of_zero() {
    for old in [WE_AR, EA_AR] {
        let mut state = reserved(old, &[(A, K1), (B, K2), (C, K3)]);
        assert_eq!(run(&mut state, C, PREEMPT, EA, (K3, 0)), [(A, LOST), (B, LOST)]);
        assert_eq!((keys(&state), reservation(&state)), (vec![K3], Some((K3, EA))));
    }
    // INVALID FIELD IN PARAMETER LIST, bytes 8 on.
    let zero = Some((5, 0x26, 0x00, [0x80, 0, 8]));
    for kind in [WE, EA, WE_RO, EA_RO] {
        let state = reserved(kind, &[(A, K1), (B, K2)]);
        assert_eq!(check(out(&state, B, PREEMPT, kind, (K2, 0))), zero);
        assert_eq!(check(out(&state, B, PREEMPT_AND_ABORT, kind, (K2, 0))), zero);
    }
    assert_eq!(check(out(&registered(&[(B, K2)]), B, PREEMPT, WE, (K2, 0))), zero);
}

#[test]
fn registrations_alone_are_preempted() {
    let cases = [
        (registered(&[(A, K1), (B, K2), (C, K3)]), None),
        (reserved(WE, &[(A, K1), (B, K2), (C, K3)]), Some((K1, WE))),
        (reserved(EA_RO, &[(A, K1), (B, K2), (C, K3)]), Some((K1, EA_RO))),
        (reserved(WE_AR, &[(A, K1), (B, K2), (C, K3)]), Some((0, WE_AR))),
    ];
    for (mut state, unchanged) in cases {
        assert!(conflict(&out(&state, B, PREEMPT, EA, (K2, 0x44))), "nobody has that key");
        // SCOPE and TYPE are ignored.
        assert_eq!(run(&mut state, B, PREEMPT, 0xff, (K2, K3)), [(C, LOST)]);
        assert_eq!((keys(&state), reservation(&state)), (vec![K1, K2], unchanged));
    }
}

#[test]
fn a_new_reservation_needs_a_type() {
    let state = reserved(WE, &[(A, K1), (B, K2)]);
    assert_eq!(check(out(&state, B, PREEMPT, 0x02, (K2, K1))), Some((5, 0x24, 0x00, [0xcb, 0, 2])));
    assert_eq!(check(out(&state, B, PREEMPT, 0x11, (K2, K1))), Some((5, 0x24, 0x00, [0xcf, 0, 2])));
}

#[test]
fn keys_may_be_shared() {
    // The holder's key is that of all hosts of a cluster, the sender's too.
    let mut state = reserved(WE_RO, &[(A, K1), (B, K1), (C, K1)]);
    assert_eq!(run(&mut state, B, PREEMPT, WE_RO, (K1, K1)), [(A, LOST), (C, LOST)]);
    assert_eq!((keys(&state), reservation(&state)), (vec![K1], Some((K1, WE_RO))));
    assert!(state.is_holder(B));
}

#[test]
fn a_holder_preempts_itself_to_change_the_type() {
    let mut state = reserved(WE, &[(A, K1), (B, K2)]);
    assert_eq!(run(&mut state, A, PREEMPT, EA_RO, (K1, K1)), [(B, Ua::ReservationsReleased)]);
    assert_eq!((keys(&state), reservation(&state)), (vec![K1, K2], Some((K1, EA_RO))));
}

#[test]
fn the_sender_may_lose_its_own_registration() {
    let mut state = registered(&[(A, K1), (B, K1), (C, K2)]);
    assert_eq!(run(&mut state, A, PREEMPT, WE, (K1, K1)), [(B, LOST)], "and is not told");
    assert_eq!(keys(&state), [K2]);
    let mut state = reserved(EA_AR, &[(A, K1), (B, K1)]);
    assert_eq!(run(&mut state, A, PREEMPT, WE, (K1, K1)), [(B, LOST)]);
    assert_eq!((keys(&state), reservation(&state)), (vec![], None), "the last holder is gone");
}

#[test]
fn tasks_are_aborted_where_that_is_asked_for() {
    let aborts = |state: &State, from, keys| {
        assert_eq!(out(state, from, PREEMPT, EA, keys).unwrap().aborts, []);
        let effect = out(state, from, PREEMPT_AND_ABORT, EA, keys).unwrap();
        assert_eq!(Effect { aborts: vec![], ..effect.clone() }, out(state, from, PREEMPT, EA, keys).unwrap());
        effect.aborts
    };
    let state = reserved(WE, &[(A, K1), (B, K2), (C, K1)]);
    assert_eq!(aborts(&state, B, (K2, K1)), [A, C]);
    assert_eq!(aborts(&state, A, (K1, K2)), [B]);
    assert_eq!(aborts(&state, A, (K1, K1)), [A, C], "the holder preempts itself");
    let state = reserved(WE_AR, &[(A, K1), (B, K2), (C, K3)]);
    assert_eq!(aborts(&state, B, (K2, 0)), [A, C]);
    assert_eq!(aborts(&state, B, (K2, K3)), [C]);
}

#[test]
fn who_loses_leave_to_write_is_drained() {
    let drains = |state: &State, from, kind, keys| out(state, from, PREEMPT, kind, keys).unwrap().drains;
    let state = reserved(EA, &[(A, K1), (B, K2)]);
    assert!(drains(&state, B, EA, (K2, K1)), "A");
    assert!(drains(&state, B, WE, (K2, K1)), "A");
    assert!(!drains(&state, A, WE, (K1, K1)), "less is forbidden than before");
    assert!(!drains(&state, A, WE_RO, (K1, K1)));
    assert!(!drains(&state, A, WE, (K1, K2)), "B could do nothing before");
    let state = registered(&[(A, K1), (B, K2)]);
    assert!(!drains(&state, A, WE, (K1, K2)), "nothing is reserved, before or after");
    let state = reserved(WE_RO, &[(A, K1), (B, K2)]);
    assert!(drains(&state, A, WE, (K1, K2)), "B was registered");
}
