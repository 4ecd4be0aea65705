//! What PERSISTENT RESERVE IN says, read with eyes of its own.

use std::collections::BTreeMap;

use lunette::limits::REGISTRATIONS_MAX;
use lunette::scsi::reserve::{Class, In, Nexus, State};

#[derive(Clone, Copy, Debug)]
struct Registrant {
    key: u64,
    is_holder: bool,
}

/// The registrants by TransportID and relative target port; key and type of the reservation.
#[derive(Debug)]
pub(super) struct Facts {
    registrants: BTreeMap<(Vec<u8>, u16), Registrant>,
    count: usize,
    pub(super) held: Option<(u64, u8)>,
}

impl Facts {
    /// Reads all reports, which must agree.
    pub(super) fn of(state: &State) -> Facts {
        let keys = report(state, In::Keys);
        let full = report(state, In::FullStatus);
        let reservation = report(state, In::Reservation);
        assert_eq!(keys[..4], full[..4], "PRGENERATION");
        assert_eq!(keys[..4], reservation[..4], "PRGENERATION");
        let mut keys: Vec<u64> = keys[8..].chunks(8).map(be64).collect();
        assert!(keys.len() <= REGISTRATIONS_MAX && !keys.contains(&0), "{keys:x?}");
        let held = match &reservation[8..] {
            [] => None,
            descriptor => {
                assert_eq!(descriptor.len(), 16);
                Some((be64(descriptor), descriptor[13]))
            }
        };
        let mut registrants = BTreeMap::new();
        let (mut rest, mut count, mut holders) = (&full[8..], 0, 0);
        let mut told = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<24>() {
            let id_bytes = u32::from_be_bytes([head[20], head[21], head[22], head[23]]) as usize;
            let (id, tail) = tail.split_at(id_bytes);
            rest = tail;
            let registrant = Registrant { key: be64(head), is_holder: head[12] == 1 };
            let kind = held.map_or(0, |(_, kind)| kind);
            assert_eq!(head[13], if registrant.is_holder { kind } else { 0 }, "TYPE");
            holders += usize::from(registrant.is_holder);
            count += 1;
            told.push(registrant.key);
            if let (Some((key, 1..=6)), true) = (held, registrant.is_holder) {
                assert_eq!(key, registrant.key);
            }
            registrants.insert((id.to_vec(), u16::from_be_bytes([head[18], head[19]])), registrant);
        }
        assert!(rest.is_empty(), "a descriptor that is cut short: {rest:02x?}");
        keys.sort_unstable();
        told.sort_unstable();
        assert_eq!(keys, told);
        match held {
            None => assert_eq!(holders, 0),
            Some((key, 7 | 8)) => assert!(key == 0 && holders == count && count > 0),
            Some((_, 1 | 3 | 5 | 6)) => assert_eq!(holders, 1, "a holder is registered"),
            Some((_, kind)) => panic!("type {kind}"),
        }
        Facts { registrants, count, held }
    }

    /// How many are registered.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    fn find(&self, nexus: &Nexus) -> Option<&Registrant> {
        self.registrants.get(&(transport_id(nexus), nexus.target_port))
    }

    pub(super) fn key(&self, nexus: &Nexus) -> Option<u64> {
        self.find(nexus).map(|registrant| registrant.key)
    }

    pub(super) fn is_holder(&self, nexus: &Nexus) -> bool {
        self.find(nexus).is_some_and(|registrant| registrant.is_holder)
    }

    /// Whether each nexus may do what the reports let it: SPC-5 §5.14.1, by type.
    pub(super) fn agree_with<'a>(&self, state: &State, known: impl Iterator<Item = &'a Nexus>) {
        for nexus in known {
            let has_all = match self.held {
                None if state.is_free() => true,
                // RESERVE: nobody is registered, and no report tells.
                None => {
                    assert_eq!(self.count, 0);
                    state.names(nexus.id)
                }
                Some((_, 1 | 3)) => self.is_holder(nexus),
                Some(_) => self.key(nexus).is_some(),
            };
            let may_read = has_all || matches!(self.held, Some((_, 1 | 5 | 7)));
            assert_eq!(state.allows(nexus.id, Class::Write), has_all, "{nexus:?} of {state:?}");
            assert_eq!(state.allows(nexus.id, Class::Read), may_read, "{nexus:?} of {state:?}");
            assert!(state.allows(nexus.id, Class::Always), "{nexus:?} of {state:?}");
        }
    }
}

/// The TransportID of an iSCSI initiator port (SPC-5 §7.6.4.6).
pub(super) fn transport_id(nexus: &Nexus) -> Vec<u8> {
    let isid: String = nexus.initiator.isid.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut name = format!("{},i,0x{isid}\0", nexus.initiator.name).into_bytes();
    name.resize(name.len().next_multiple_of(4).max(20), 0);
    let mut id = vec![0x45, 0];
    id.extend((name.len() as u16).to_be_bytes());
    id.extend(name);
    id
}

/// A whole report, as long as it says.
fn report(state: &State, what: In) -> Vec<u8> {
    let mut out = Vec::new();
    state.report(what, &mut |part| out.extend(part));
    let length = u32::from_be_bytes([out[4], out[5], out[6], out[7]]) as usize;
    assert_eq!(out.len(), 8 + length, "ADDITIONAL LENGTH of {what:?}");
    out
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
