//! PERSISTENT RESERVE IN, byte by byte.

use super::*;

#[test]
fn nothing_to_report() {
    let state = State { generation: 0x0102_0304, ..State::default() };
    for what in [In::Keys, In::Reservation, In::FullStatus] {
        assert_eq!(report(&state, what), [1, 2, 3, 4, 0, 0, 0, 0]);
    }
}

#[test]
fn service_actions() {
    let actions = [Some(In::Keys), Some(In::Reservation), Some(In::Capabilities), Some(In::FullStatus), None];
    assert_eq!([0, 1, 2, 3, 4].map(In::decode), actions);
    assert!((4..=255).all(|action| In::decode(action).is_none()));
}

#[test]
fn registered_keys() {
    let state = registered(&[(B, 0x0102_0304_0506_0708), (A, K1)]);
    #[rustfmt::skip]
    assert_eq!(
        report(&state, In::Keys),
        [
            0, 0, 0, 2, 0, 0, 0, 16,
            0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
            1, 2, 3, 4, 5, 6, 7, 8,
        ]
    );
}

#[test]
fn the_reservation() {
    let state = reserved(EA_RO, &[(A, 0x0102_0304_0506_0708)]);
    assert_eq!(
        report(&state, In::Reservation),
        [0, 0, 0, 1, 0, 0, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0x06, 0, 0]
    );
    let state = reserved(WE_AR, &[(A, 0x0102_0304_0506_0708)]);
    assert_eq!(
        report(&state, In::Reservation),
        [0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x07, 0, 0]
    );
}

#[test]
fn capabilities() {
    assert_eq!(report(&State::default(), In::Capabilities), [0, 8, 0x1c, 0xb0, 0xea, 0x01, 0, 0]);
}

#[test]
fn full_status() {
    let one = Nexus {
        id: A,
        initiator: InitiatorPort::new("iqn.2026-11.a:b", [0, 2, 0x3d, 0xab, 0xcd, 0xef]),
        target_port: 0x0102,
    };
    let other = Nexus {
        id: B,
        initiator: InitiatorPort::new("iqn.2026-11.a:bc", [0x80, 0, 0, 0, 0, 1]),
        target_port: 3,
    };
    let mut state = State::default();
    for (nexus, new_key) in [(&other, K2), (&one, K1)] {
        state = state
            .out(&Request::RegisterAndIgnore { new_key, how: Registering::default() }, nexus, &[])
            .unwrap()
            .next
            .unwrap();
    }
    run(&mut state, A, RESERVE, WE, (K1, 0));
    let mut expected = vec![0, 0, 0, 2, 0, 0, 0, 128];
    expected.extend([0x11; 8]);
    expected.extend([0, 0, 0, 0, 0x01, 0x01, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 40]);
    expected.extend([0x45, 0, 0, 36]);
    expected.extend(b"iqn.2026-11.a:b,i,0x00023dabcdef\0\0\0\0");
    expected.extend([0x22; 8]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 40]);
    expected.extend([0x45, 0, 0, 36]);
    expected.extend(b"iqn.2026-11.a:bc,i,0x800000000001\0\0\0");
    assert_eq!(report(&state, In::FullStatus), expected);
    assert_eq!(expected.len(), 8 + 128);

    run(&mut state, A, RELEASE, WE, (K1, 0));
    run(&mut state, B, RESERVE, EA_AR, (K2, 0));
    let data = report(&state, In::FullStatus);
    assert_eq!(data[20..22], [0x01, 0x08], "every registrant is a holder");
    assert_eq!(data[84..86], [0x01, 0x08]);
}

#[test]
fn a_transport_id_has_a_least_length() {
    let port = InitiatorPort::new("a", [0; 6]);
    let mut id = Vec::new();
    port.write(&mut |bytes| id.extend_from_slice(bytes));
    assert_eq!(id, b"\x45\0\0\x14a,i,0x000000000000\0\0");
    assert_eq!(port.id_bytes(), 24);
}
