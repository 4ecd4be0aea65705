//! Who may do what (SPC-5 §5.14.1, SBC-4 §4.17, SPC-2 §5.5.1).

use std::sync::Arc;

use super::*;
use crate::scsi::reserve::{Class, Permits};

#[test]
fn classes_and_types() {
    use Class::{Always, Persistent, Prevent, Read, StartStop, Status, Write};
    // The tables' columns: another nexus holds it by WE or EA, the sender being registered or not; by one of the others, the
    // sender being registered; WE for registrants or held by them, EA likewise, the sender not being registered.
    let rows = [
        (Always, [true, true, true, true, true]),
        (Status, [true, true, true, true, true]),
        (Persistent, [true, true, true, true, true]),
        (Read, [true, false, true, true, false]),
        (Write, [false, false, true, false, false]),
        (StartStop, [false, false, true, false, false]),
        (Prevent, [false, false, true, false, false]),
    ];
    for (class, [we, ea, registrant, we_stranger, ea_stranger]) in rows {
        let columns = [
            (WE, we, we),
            (EA, ea, ea),
            (WE_RO, registrant, we_stranger),
            (EA_RO, registrant, ea_stranger),
            (WE_AR, registrant, we_stranger),
            (EA_AR, registrant, ea_stranger),
        ];
        for (kind, registered, stranger) in columns {
            let permits = Permits::new(Arc::new(reserved(kind, &[(A, K1), (B, K2)])));
            assert!(permits.allows(A, class), "the holder, {class:?} {kind}");
            assert_eq!(permits.allows(B, class), registered, "registered, {class:?} {kind}");
            assert_eq!(permits.allows(C, class), stranger, "not registered, {class:?} {kind}");
        }
        let permits = Permits::new(Arc::new(registered(&[(A, K1)])));
        assert!(permits.allows(A, class) && permits.allows(C, class), "nothing is reserved");
        assert!(Permits::default().allows(A, class));
    }
}

#[test]
fn reserve_of_old_forbids_more() {
    let cdb = Cdb::new([0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let request = Request::read(&cdb, &[]).unwrap();
    let state = State::default().out(&request, &nexus(A), &[]).unwrap().next.unwrap();
    let permits = Permits::new(Arc::new(state));
    for class in [Class::Status, Class::Read, Class::Write, Class::StartStop, Class::Prevent] {
        assert!(permits.allows(A, class));
        assert!(!permits.allows(B, class), "{class:?}");
    }
    assert!(permits.allows(B, Class::Always));
    assert!(!permits.allows(A, Class::Persistent), "its holder neither");
}

#[test]
fn some_classes_hang_on_bits() {
    let of = |class: Class, byte| class.of(&Cdb::new([0, 0, 0, 0, byte, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(of(Class::StartStop, 0x01), Class::Status, "start");
    assert_eq!(of(Class::StartStop, 0x03), Class::Status, "load");
    assert_eq!(of(Class::StartStop, 0x00), Class::Write, "stop");
    assert_eq!(of(Class::StartStop, 0x11), Class::Write, "power condition active");
    assert_eq!(of(Class::Prevent, 0x00), Class::Always);
    assert_eq!(of(Class::Prevent, 0x01), Class::Write);
    assert_eq!(of(Class::Prevent, 0x02), Class::Write);
    for class in [Class::Always, Class::Status, Class::Read, Class::Write, Class::Persistent] {
        assert_eq!(of(class, 0), class);
    }
}
