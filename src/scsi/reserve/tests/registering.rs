//! Registering for others, through every port, and for longer than a power loss (SPC-5 §5.14.7 and §5.14.5).

use super::*;
use crate::scsi::reserve::{Persistence, Saved};

fn register(
    state: &State,
    from: NexusId,
    keys: (u64, u64),
    how: &Registering,
    named: &[NexusId],
) -> Result<Effect, Refusal> {
    let request = Request::Register { key: keys.0, new_key: keys.1, how: how.clone() };
    let named: Vec<Nexus> = named.iter().map(|id| nexus(*id)).collect();
    state.out(&request, &nexus(from), &named)
}

/// SPEC_I_PT with these.
fn others(named: &[NexusId]) -> Registering {
    let initiators = named.iter().map(|id| nexus(*id).initiator).collect();
    Registering { initiators, ..Registering::default() }
}

#[test]
fn others_are_registered_with_the_same_key_and_not_told() {
    let effect = register(&State::default(), A, (0, K1), &others(&[B, C]), &[B, C]).unwrap();
    assert_eq!((effect.attentions, effect.aborts, effect.drains), (vec![], vec![], false));
    let next = effect.next.unwrap();
    assert_eq!((keys(&next), next.generation), (vec![K1, K1, K1], 1));
}

/// SPC-5 §7.6.4.6: a name alone is every port that is known of it; a name of nobody registers nobody.
#[test]
fn every_known_port_of_a_name_is_registered() {
    let how = Registering { names: vec![nexus(B).initiator.name], ..Registering::default() };
    let next = register(&State::default(), A, (0, K1), &how, &[B]).unwrap().next.unwrap();
    assert_eq!(keys(&next), [K1, K1]);
    let refused = register(&State::default(), A, (0, K1), &how, &[C]);
    assert_eq!(check(refused), Some((5, 0x26, 0x00, [0x80, 0, 28])), "nobody is known by it");
    let refused = register(&registered(&[(A, K1)]), A, (K1, K2), &how, &[B]);
    assert_eq!(check(refused), Some((5, 0x26, 0x00, [0x8b, 0, 20])));
    let refused = register(&registered(&[(B, K1)]), A, (0, K1), &how, &[B]);
    assert_eq!(check(refused), Some((5, 0x26, 0x00, [0x80, 0, 28])));
}

#[test]
fn nobody_is_registered_where_one_cannot_be() {
    let state = registered(&[(B, K2)]);
    // INVALID FIELD IN PARAMETER LIST: the TransportIDs.
    let refused = register(&state, A, (0, K1), &others(&[C, B]), &[C, B]);
    assert_eq!(check(refused), Some((5, 0x26, 0x00, [0x80, 0, 28])));
    // One that is registered cannot register others: SPEC_I_PT is at fault.
    let refused = register(&state, B, (K2, K1), &others(&[C]), &[C]);
    assert_eq!(check(refused), Some((5, 0x26, 0x00, [0x8b, 0, 20])));
    assert!(conflict(&register(&state, A, (K2, K1), &others(&[C]), &[C])), "its own key is none");
    let mut full = State::default();
    for id in 1..crate::limits::REGISTRATIONS_MAX {
        let id = NexusId(u32::try_from(id).unwrap() + 100);
        run(&mut full, id, REGISTER, 0, (0, K1));
    }
    let refused = register(&full, A, (0, K1), &others(&[B]), &[B]);
    assert_eq!(check(refused), Some((5, 0x55, 0x04, [0; 3])));
}

#[test]
fn through_every_port_and_back() {
    let all = Registering { all_ports: true, ..Registering::default() };
    let next = |effect: Result<Effect, Refusal>| effect.unwrap().next.unwrap();
    let state = next(register(&State::default(), A, (0, K1), &all, &[B]));
    assert_eq!(keys(&state), [K1, K1]);
    let changed = next(register(&state, A, (K1, K2), &all, &[B]));
    assert_eq!(keys(&changed), [K2, K2]);
    assert_eq!(keys(&next(register(&changed, B, (K2, 0), &all, &[A]))), [0; 0]);
    // A key of its own at one port is in the way of REGISTER, not of REGISTER AND IGNORE EXISTING KEY.
    let state = registered(&[(A, K1), (B, K2)]);
    assert!(conflict(&register(&state, A, (K1, K3), &all, &[B])));
    let ignore = Request::RegisterAndIgnore { new_key: K3, how: all.clone() };
    let state = state.out(&ignore, &nexus(A), &[nexus(B)]).unwrap().next.unwrap();
    assert_eq!(keys(&state), [K3, K3]);
    // Where nobody of them is registered nothing happens.
    let off = Request::RegisterAndIgnore { new_key: 0, how: all };
    assert_eq!(State::default().out(&off, &nexus(A), &[nexus(B)]), Ok(Effect::default()));
}

#[test]
fn the_bit_received_last_says_whether_registrations_are_saved() {
    let kept = Registering { persists: true, ..Registering::default() };
    let refused = register(&State::new(false), A, (0, K1), &kept, &[]);
    assert_eq!(check(refused), Some((5, 0x26, 0x00, [0x88, 0, 20])), "APTPL where nothing can be saved");
    let state = State::new(true);
    assert_eq!(report(&state, In::Capabilities), [0, 8, 0x1d, 0xb0, 0xea, 0x01, 0, 0]);
    assert_eq!(state.to_save(), None);
    let mut state = register(&state, A, (0, K1), &kept, &[]).unwrap().next.unwrap();
    assert_eq!(report(&state, In::Capabilities), [0, 8, 0x1d, 0xb1, 0xea, 0x01, 0, 0]);
    run(&mut state, A, RESERVE, WE_RO, (K1, 0));
    let expected = Saved {
        registrations: vec![(nexus(A), K1)],
        reservation: Some((crate::scsi::reserve::Type::decode(WE_RO).unwrap(), Some(A))),
    };
    assert_eq!(state.to_save(), Some(expected));
    run(&mut state, B, REGISTER, 0, (0, K2));
    assert_eq!(state.to_save(), None);
    assert_eq!(report(&state, In::Capabilities), [0, 8, 0x1d, 0xb0, 0xea, 0x01, 0, 0]);
    // REGISTER AND MOVE has the bit too.
    let moved = Request::RegisterAndMove {
        key: K1,
        new_key: K3,
        unregister: false,
        persists: true,
        initiator: nexus(C).initiator,
        target_port: 1,
    };
    let state = state.out(&moved, &nexus(A), &[nexus(C)]).unwrap().next.unwrap();
    assert_eq!(state.to_save().unwrap().registrations.len(), 3);
    assert_eq!(state.out(&Request::Clear { key: K1 }, &nexus(A), &[]).unwrap().next.unwrap().to_save(), None);
}

/// Registered for longer than a power loss, with a reservation of the first.
fn kept(kind: u8, keys: &[(NexusId, u64)]) -> State {
    let mut state = State { persistence: Persistence::On, ..reserved(kind, keys) };
    state.generation = 0;
    state
}

#[test]
fn what_is_saved_comes_back_as_it_was_but_for_the_generation() {
    for kind in TYPES {
        let state = kept(kind, &[(A, K1), (B, K2)]);
        assert_eq!(State::restored(state.to_save().unwrap()), Some(state));
    }
    // Its maker is registered no more.
    let mut state = kept(WE_AR, &[(A, K1), (B, K2)]);
    run(&mut state, A, REGISTER, 0, (K1, 0));
    state.persistence = Persistence::On;
    let restored = State::restored(state.to_save().unwrap()).unwrap();
    assert_eq!((reservation(&restored), restored.is_holder(B)), (Some((0, WE_AR)), true));
}

#[test]
fn what_cannot_have_been_saved_is_not_taken() {
    let saved = || kept(WE, &[(A, K1), (B, K2)]).to_save().unwrap();
    assert!(State::restored(saved()).is_some());
    let changed = |change: fn(&mut Saved)| {
        let mut saved = saved();
        change(&mut saved);
        State::restored(saved)
    };
    assert_eq!(changed(|saved| saved.registrations.clear()), None);
    assert_eq!(changed(|saved| saved.registrations[1].1 = 0), None);
    assert_eq!(changed(|saved| saved.registrations[1].0.id = A), None);
    assert_eq!(changed(|saved| saved.reservation.as_mut().unwrap().1 = Some(C)), None);
    assert_eq!(changed(|saved| saved.reservation.as_mut().unwrap().1 = None), None);
}
