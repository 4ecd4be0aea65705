//! REGISTER AND MOVE (SPC-5 §5.14.8).

use super::*;

/// What REGISTER AND MOVE to `to` would do.
fn relocate(
    state: &State,
    from: NexusId,
    keys: (u64, u64),
    unregister: bool,
    to: Option<NexusId>,
) -> Result<Effect, Refusal> {
    let request = Request::RegisterAndMove {
        key: keys.0,
        new_key: keys.1,
        unregister,
        persists: false,
        initiator: nexus(C).initiator,
        target_port: 1,
    };
    state.out(&request, &nexus(from), to.map(nexus).as_slice())
}

#[test]
fn the_reservation_moves() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        let state = reserved(kind, &[(A, K1), (B, K2)]);
        // To one that was not registered, and to one that was.
        for (to, unregister, expected) in [
            (C, false, [K1, K2, K3].as_slice()),
            (C, true, &[K2, K3]),
            (B, false, &[K1, K3]),
            (B, true, &[K3]),
        ] {
            let effect = relocate(&state, A, (K1, K3), unregister, Some(to)).unwrap();
            let drains = !matches!(kind, WE_RO | EA_RO) || unregister;
            assert_eq!((effect.attentions, effect.aborts, effect.drains), (vec![], vec![], drains));
            let next = effect.next.unwrap();
            assert_eq!((keys(&next), reservation(&next)), (expected.to_vec(), Some((K3, kind))));
            assert!(next.is_holder(to));
            assert_eq!(next.generation, state.generation + 1);
        }
    }
}

#[test]
fn only_a_holder_can_move_it_and_only_elsewhere() {
    let state = reserved(WE, &[(A, K1), (B, K2)]);
    assert!(conflict(&relocate(&state, A, (K2, K3), false, Some(C))), "wrong key");
    assert!(conflict(&relocate(&state, B, (K2, K3), false, Some(C))), "not the holder");
    assert!(conflict(&relocate(&state, C, (0, K3), false, Some(B))), "not registered");
    // RELATIVE TARGET PORT IDENTIFIER leads nowhere; the TransportID is the sender's own.
    let invalid = |byte| Some((5, 0x26, 0x00, [0x80, 0, byte]));
    assert_eq!(check(relocate(&state, A, (K1, K3), false, None)), invalid(18));
    assert_eq!(check(relocate(&state, A, (K1, K3), false, Some(A))), invalid(24));
    for kind in [WE_AR, EA_AR] {
        let state = reserved(kind, &[(A, K1)]);
        assert!(conflict(&relocate(&state, A, (K1, K3), false, Some(C))));
    }
    // INVALID FIELD IN CDB where nothing is reserved.
    let state = registered(&[(A, K1)]);
    assert_eq!(check(relocate(&state, A, (K1, K3), false, Some(C))), Some((5, 0x24, 0x00, [0xcc, 0, 1])));
}

#[test]
fn it_counts_against_the_bound() {
    let mut state = State::default();
    for id in 0..crate::limits::REGISTRATIONS_MAX {
        let id = NexusId(u32::try_from(id).unwrap() + 100);
        run(&mut state, id, REGISTER, 0, (0, K1));
    }
    let first = NexusId(100);
    run(&mut state, first, RESERVE, WE, (K1, 0));
    assert_eq!(check(relocate(&state, first, (K1, K2), false, Some(C))), Some((5, 0x55, 0x04, [0; 3])));
    assert!(relocate(&state, first, (K1, K2), true, Some(C)).is_ok(), "the old holder makes room");
    assert!(relocate(&state, first, (K1, K2), false, Some(NexusId(101))).is_ok());
}
