//! CDBs and parameter lists, right and wrong.

use super::*;
use crate::scsi::reserve::{Type, parameter_bytes};

const KEYS: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
const KEY: u64 = 0x0102_0304_0506_0708;
const OTHER: u64 = 0x1112_1314_1516_1718;

/// Reads a service action with the four bytes after the keys and obsolete bytes that are set.
fn read(action: u8, kind: u8, flags: [u8; 4]) -> Result<Request, Sense> {
    let cdb = Cdb::new([0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0]);
    let list = [KEYS.as_slice(), &[0xff; 4], &flags].concat();
    Request::read(&cdb, &list)
}

#[test]
fn service_actions() {
    let flags = [0, 0, 0xff, 0xff];
    let kind = Type::ExclusiveAccess;
    assert_eq!(
        read(0, 0xff, flags),
        Ok(Request::Register { key: KEY, new_key: OTHER, how: Registering::default() })
    );
    assert_eq!(read(1, 3, flags), Ok(Request::Reserve { key: KEY, kind }));
    assert_eq!(read(2, 3, flags), Ok(Request::Release { key: KEY, kind }));
    assert_eq!(read(3, 0xff, flags), Ok(Request::Clear { key: KEY }));
    let preempt = |abort| Request::Preempt { key: KEY, victim: OTHER, kind: Ok(kind), abort };
    assert_eq!(read(4, 3, flags), Ok(preempt(false)));
    assert_eq!(read(5, 3, flags), Ok(preempt(true)));
    assert_eq!(
        read(6, 0xff, flags),
        Ok(Request::RegisterAndIgnore { new_key: OTHER, how: Registering::default() })
    );
    for action in 8..=0x1f {
        assert_eq!(read(action, 0, flags), Err(Sense::invalid_bit(1, 4)));
    }
    let cdb = Cdb::new([0x5e, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Request::read(&cdb, &[0; 24]), Err(Sense::INVALID_OPCODE));
}

#[test]
fn scopes_and_types() {
    let known = [1, 3, 5, 6, 7, 8];
    for code in 0..=15 {
        assert_eq!(Type::decode(code).map(Type::code), known.contains(&code).then_some(code));
        let expected = if known.contains(&code) { None } else { Some(Sense::invalid_bit(2, 3)) };
        assert_eq!(read(1, code, [0; 4]).err(), expected);
        assert_eq!(read(2, code, [0; 4]).err(), expected);
    }
    assert_eq!(read(1, 0x13, [0; 4]), Err(Sense::invalid_bit(2, 7)), "LU_SCOPE is the only one");
    assert_eq!(read(2, 0x83, [0; 4]), Err(Sense::invalid_bit(2, 7)));
}

#[test]
fn flags_of_the_parameter_list() {
    let wrong = |byte, bit| Some(Sense::invalid_parameter_bit(byte, bit));
    let how = |request| match request {
        Ok(Request::Register { how, .. } | Request::RegisterAndIgnore { how, .. }) => how,
        other => panic!("{other:?}"),
    };
    for action in 0..=6 {
        let refused = |flags| read(action, 1, flags).err();
        assert_eq!(refused([0x05, 0, 0, 0]), None, "APTPL and ALL_TG_PT");
        if action == 0 || action == 6 {
            let expected = Registering { persists: true, ..Registering::default() };
            assert_eq!(how(read(action, 1, [0x01, 0, 0, 0])), expected);
            let expected = Registering { all_ports: true, ..Registering::default() };
            assert_eq!(how(read(action, 1, [0x04, 0, 0, 0])), expected);
        }
        if action != 0 {
            assert_eq!(refused([0x08, 0, 0, 0]), wrong(20, 3), "SPEC_I_PT is for REGISTER alone");
        }
        assert_eq!(refused([0x02, 0, 0, 0]), wrong(20, 1));
        assert_eq!(refused([0x40, 0x80, 0, 0]), wrong(20, 6));
        assert_eq!(refused([0, 0x10, 0, 0]), wrong(21, 4));
    }
    assert_eq!(pointer(Sense::invalid_parameter_bit(20, 0)), [0x88, 0, 20]);
}

#[test]
fn lengths() {
    let error = Err(Sense::PARAMETER_LIST_LENGTH);
    let cdb = |action, length: u32| {
        let mut bytes = [0x5f, action, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[5..9].copy_from_slice(&length.to_be_bytes());
        Cdb::new(bytes)
    };
    for action in 0..=7 {
        let may_be_more = action == 0 || action == 7;
        for wrong in [0, 23, 4097, 0x0100_0018, u32::MAX] {
            assert_eq!(parameter_bytes(&cdb(action, wrong)), error.clone().map(|_: Request| 0));
            assert_eq!(Request::read(&cdb(action, wrong), &[0; 5000]), error);
        }
        assert_eq!(parameter_bytes(&cdb(action, 24)), Ok(24));
        assert_eq!(parameter_bytes(&cdb(action, 28)).is_ok(), may_be_more);
        assert_eq!(Request::read(&cdb(action, 24), &[0; 23]), error, "less came");
    }
    assert_eq!(Request::read(&cdb(0, 28), &[0; 28]), error, "more than 24 without SPEC_I_PT");
    for opcode in [0x16, 0x17, 0x56, 0x57] {
        assert_eq!(parameter_bytes(&Cdb::new([opcode, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])), Ok(0));
    }
}

/// Reads REGISTER AND MOVE with this flags byte and TransportID.
fn moved(flags: u8, id: &[u8]) -> Result<Request, Sense> {
    let length = u8::try_from(id.len()).unwrap();
    let cdb = Cdb::new([0x5f, 7, 0xff, 0, 0, 0, 0, 0, 24 + length, 0, 0, 0, 0, 0, 0, 0]);
    let list = [KEYS.as_slice(), &[0, flags, 0x01, 0x02, 0, 0, 0, length], id].concat();
    Request::read(&cdb, &list)
}

#[test]
fn register_and_move() {
    let id = b"\x45\0\0\x24IQN.2026-11.a:b,i,0x00023DABCDEF\0\0\0\0";
    for (flags, unregister) in [(0x00, false), (0x02, true), (0x01, false), (0x03, true)] {
        let expected = Request::RegisterAndMove {
            key: KEY,
            new_key: OTHER,
            unregister,
            persists: flags & 0x01 != 0,
            initiator: InitiatorPort::new("iqn.2026-11.a:b", [0, 2, 0x3d, 0xab, 0xcd, 0xef]),
            target_port: 0x0102,
        };
        assert_eq!(moved(flags, id), Ok(expected));
    }
    assert_eq!(moved(0x82, id), Err(Sense::invalid_parameter_bit(17, 7)));

    let cdb = Cdb::new([0x5f, 7, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
    let with = |change: fn(&mut [u8])| {
        let mut list = [KEYS.as_slice(), &[0, 0, 0, 1, 0, 0, 0, 40], id].concat();
        change(&mut list);
        Request::read(&cdb, &list)
    };
    assert!(with(|_| ()).is_ok());
    assert_eq!(with(|list| list[8..16].fill(0)), Err(Sense::invalid_parameter(8)), "a key of zero");
    assert_eq!(with(|list| list[16] = 1), Err(Sense::invalid_parameter(16)));
    assert_eq!(with(|list| list[23] = 36), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(with(|list| list[20] = 1), Err(Sense::PARAMETER_LIST_LENGTH));
}

/// Reads REGISTER with SPEC_I_PT and this additional parameter data.
fn specified(more: &[u8]) -> Result<Vec<InitiatorPort>, Sense> {
    let length = u8::try_from(24 + more.len()).unwrap();
    let cdb = Cdb::new([0x5f, 0, 0, 0, 0, 0, 0, 0, length, 0, 0, 0, 0, 0, 0, 0]);
    let list = [KEYS.as_slice(), &[0, 0, 0, 0, 0x08, 0, 0, 0], more].concat();
    match Request::read(&cdb, &list)? {
        Request::Register { key: KEY, new_key: OTHER, how } => {
            assert!(how.names.is_empty());
            Ok(how.initiators)
        }
        other => panic!("{other:?}"),
    }
}

/// FORMAT CODE 00b: a name, and no port.
#[test]
fn initiators_that_are_specified_by_name() {
    let read = |ids: &[u8]| {
        let length = u8::try_from(28 + ids.len()).unwrap();
        let cdb = Cdb::new([0x5f, 0, 0, 0, 0, 0, 0, 0, length, 0, 0, 0, 0, 0, 0, 0]);
        let list = [KEYS.as_slice(), &[0, 0, 0, 0, 0x08, 0, 0, 0, 0, 0, 0, length - 28], ids].concat();
        match Request::read(&cdb, &list)? {
            Request::Register { how, .. } => Ok((how.initiators, how.names)),
            other => panic!("{other:?}"),
        }
    };
    let name = b"\x05\0\0\x14iqn.2026-11.A:Host1\0";
    let port = b"\x45\0\0\x14iqn.a:b,i,0x23d0001\0";
    let known = InitiatorPort::new("iqn.a:b", [0, 0, 2, 0x3d, 0, 1]);
    let both = (vec![known], vec!["iqn.2026-11.a:host1".into()]);
    assert_eq!(read(&[name.as_slice(), port].concat()), Ok(both));
    let wrong: [(&[u8], u16); 6] = [
        (b"\x05\x01\0\x14iqn.2026-11.A:Host1\0", 28),
        (b"\x05\0\0\x10iqn.2026-11.A:H\0", 30),
        (b"\x05\0\0\x14iqn.2026-11.A:Host12", 32),
        (b"\x05\0\0\x14iqn.2026-11.A:Host\0x", 32),
        (b"\x05\0\0\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 32),
        (b"\x05\0\0\x14iqn.2026-11.A:Hos\xff1\0", 32),
    ];
    for (id, at) in wrong {
        assert_eq!(read(id), Err(Sense::invalid_parameter(at)), "{id:?}");
    }
}

#[test]
fn initiators_that_are_specified() {
    let (a, b) = (b"\x45\0\0\x14iqn.a:b,i,0x23d0001\0", b"\x45\0\0\x18iqn.a:cdef,i,0x23d0002\0\0");
    let ports = [
        InitiatorPort::new("iqn.a:b", [0, 0, 2, 0x3d, 0, 1]),
        InitiatorPort::new("iqn.a:cdef", [0, 0, 2, 0x3d, 0, 2]),
    ];
    assert_eq!(specified(&[&[0, 0, 0, 24], a.as_slice()].concat()), Ok(ports[..1].to_vec()));
    assert_eq!(specified(&[&[0, 0, 0, 52], a.as_slice(), b].concat()), Ok(ports.to_vec()));
    assert_eq!(specified(&[0, 0, 0, 0]), Ok(Vec::new()));
    let length = Err(Sense::PARAMETER_LIST_LENGTH);
    assert_eq!(specified(&[]), length);
    assert_eq!(specified(&[0, 0, 0]), length);
    assert_eq!(specified(&[0, 0, 0, 1]), length);
    assert_eq!(specified(&[&[0, 0, 0, 23], a.as_slice()].concat()), length);
    // The field at fault counts from the beginning of the list: here the second TransportID.
    let mut wrong = [&[0, 0, 0, 52], a.as_slice(), b].concat();
    wrong[28] = 0x85;
    assert_eq!(specified(&wrong), Err(Sense::invalid_parameter(52)));
    wrong[28..32].copy_from_slice(&[0x45, 0, 0, 0x1c]);
    assert_eq!(specified(&wrong), Err(Sense::invalid_parameter(52)), "it goes beyond the list");
}

#[test]
fn transport_ids() {
    let port = |id: &[u8]| match moved(0, id) {
        Ok(Request::RegisterAndMove { initiator, .. }) => Ok((initiator.name.to_string(), initiator.isid)),
        Ok(other) => unreachable!("{other:?}"),
        Err(sense) => Err(sense),
    };
    let known = |name: &str, isid| Ok((name.to_owned(), isid));
    assert_eq!(port(b"\x45\0\0\x14iqn.a:b,i,0x23d000001"), Err(Sense::invalid_parameter(26)), "21 bytes");
    assert_eq!(port(b"\x45\0\0\x14iqn.a:b,i,0x23d00001"), Err(Sense::invalid_parameter(28)), "no NUL");
    assert_eq!(port(b"\x45\0\0\x14iqn.a:b,i,0x23d0001\0"), known("iqn.a:b", [0, 0, 2, 0x3d, 0, 1]));
    let wrong_text: [&[u8]; 7] = [
        b"\x45\0\0\x14iqn.a:b,i,0x\0\0\0\0\0\0\0\0",
        b"\x45\0\0\x14iqn.a:b,i,0x+1\0\0\0\0\0\0",
        b"\x45\0\0\x14,i,0x1\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x45\0\0\x14iqn.a:b,j,0x1\0\0\0\0\0\0\0",
        b"\x45\0\0\x14iqn.a:b,i,0x1\0\0\0\0\0\0x",
        b"\x45\0\0\x14iqn.\xff:b,i,0x1\0\0\0\0\0\0\0",
        b"\x45\0\0\x18a,i,0x0123456789abc\0\0\0\0\0",
    ];
    for id in wrong_text {
        assert_eq!(port(id), Err(Sense::invalid_parameter(28)), "{id:?}");
    }
    let wrong_head: [&[u8]; 5] = [
        b"\x05\0\0\x14iqn.a:b,i,0x1\0\0\0\0\0\0\0", // FORMAT CODE 00b
        b"\x46\0\0\x14iqn.a:b,i,0x1\0\0\0\0\0\0\0", // PROTOCOL IDENTIFIER 6h
        b"\x45\x01\0\x14iqn.a:b,i,0x1\0\0\0\0\0\0\0",
        b"\x45\0",
        b"",
    ];
    for id in wrong_head {
        assert_eq!(port(id), Err(Sense::invalid_parameter(24)), "{id:?}");
    }
    assert_eq!(port(b"\x45\0\0\x10iqn.a:b,i,0x1\0\0\0"), Err(Sense::invalid_parameter(26)), "under 20");
    assert_eq!(port(b"\x45\0\0\x18iqn.a:b,i,0x1\0\0\0\0\0\0\0"), Err(Sense::invalid_parameter(26)));
}

#[test]
fn any_bytes_are_read() {
    let mut seed = 1_u64;
    let mut byte = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    };
    let good = b"\x45\0\0\x24iqn.2026-11.a:b,i,0x00023dabcdef\0\0\0\0";
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        let mut list = [KEYS.as_slice(), &[0, 0, 0, 1, 0, 0, 0, 40], good].concat();
        let mut cdb = [0x5f, 7, 1, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0];
        for _ in 0..round % 4 {
            let at = usize::from(byte()) % list.len();
            list[at] = byte();
            let at = usize::from(byte()) % 10;
            cdb[at] = byte() & 0x1f;
        }
        list.truncate(usize::from(byte()) % 80);
        match Request::read(&Cdb::new(cdb), &list) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} {refused}");
}
