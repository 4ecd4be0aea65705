//! RESERVE and RELEASE of old (SPC-2 §5.5, SPC-5 §5.14.3).

use super::*;

const RESERVE_6: u8 = 0x16;
const RELEASE_6: u8 = 0x17;

fn legacy(state: &State, from: NexusId, opcode: u8) -> Result<Effect, Refusal> {
    let mut bytes = [0; 16];
    bytes[0] = opcode;
    let request = Request::read(&Cdb::new(bytes), &[]).map_err(Refusal::Check)?;
    state.out(&request, &nexus(from), &[])
}

fn held_by_a(opcode: u8) -> State {
    legacy(&State::default(), A, opcode).unwrap().next.unwrap()
}

#[test]
fn one_has_it_until_it_is_released() {
    for (reserve, release) in [(0x16, 0x17), (0x56, 0x57), (0x16, 0x57)] {
        let effect = legacy(&State::default(), A, reserve).unwrap();
        assert!(effect.drains);
        assert_eq!((effect.attentions, effect.aborts), (vec![], vec![]));
        let state = effect.next.unwrap();
        assert_eq!(legacy(&state, A, reserve), Ok(Effect::default()), "again");
        assert!(conflict(&legacy(&state, B, reserve)));
        assert_eq!(legacy(&state, B, release), Ok(Effect::default()), "no error, and no effect");
        let effect = legacy(&state, A, release).unwrap();
        assert_eq!((effect.next, effect.drains), (Some(State::default()), false));
        assert_eq!(legacy(&State::default(), A, release), Ok(Effect::default()));
    }
}

#[test]
fn it_ends_with_the_session_and_with_a_reset() {
    let state = held_by_a(RESERVE_6);
    assert_eq!(state.nexus_lost(B), None);
    assert_eq!(state.nexus_lost(A), Some(State::default()));
    assert_eq!(state.reset(), Some(State::default()));
    assert_eq!(State::default().reset(), None);
    // Persistent ones survive.
    let state = reserved(WE, &[(A, K1)]);
    assert_eq!((state.nexus_lost(A), state.reset()), (None, None));
}

#[test]
fn it_keeps_persistent_reservations_out() {
    let state = held_by_a(RESERVE_6);
    for action in [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, IGNORE] {
        assert!(conflict(&out(&state, A, action, WE, (0, K1))), "{action}");
        assert!(conflict(&out(&state, B, action, WE, (0, K1))), "{action}");
    }
}

#[test]
fn registrations_keep_it_out() {
    let state = registered(&[(A, K1)]);
    for opcode in [RESERVE_6, RELEASE_6] {
        assert!(conflict(&legacy(&state, A, opcode)));
        assert!(conflict(&legacy(&state, B, opcode)));
    }
}

#[test]
fn who_may_do_all_anyway_is_told_good() {
    // SPC-5 §5.14.3, as CRH says: A holds, B is registered, C is not.
    for kind in TYPES {
        let state = reserved(kind, &[(A, K1), (B, K2)]);
        for opcode in [RESERVE_6, RELEASE_6] {
            assert_eq!(legacy(&state, A, opcode), Ok(Effect::default()));
            let result = legacy(&state, B, opcode);
            if kind == WE || kind == EA {
                assert!(conflict(&result), "{kind}");
            } else {
                assert_eq!(result, Ok(Effect::default()), "{kind}");
            }
            assert!(conflict(&legacy(&state, C, opcode)));
        }
    }
}

#[test]
fn third_parties_and_extents_are_refused() {
    for (bits, pointer) in [(0x10, [0xcc, 0, 1]), (0x01, [0xc8, 0, 1])] {
        for opcode in [0x16, 0x17, 0x56, 0x57] {
            let cdb = Cdb::new([opcode, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let refused = Request::read(&cdb, &[]).map_err(Refusal::Check).map(|_| Effect::default());
            assert_eq!(check(refused), Some((5, 0x24, 0x00, pointer)));
        }
    }
    let cdb = Cdb::new([0x16, 0xe0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Request::read(&cdb, &[]), Ok(Request::LegacyReserve), "LUN and identification are obsolete");
}
