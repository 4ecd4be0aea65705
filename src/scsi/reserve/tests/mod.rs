//! Tests of reservations, driven by the bytes of the commands.

mod access;
mod model;
mod moving;
mod preempting;
mod registering;
mod reports;
mod requests;
mod rules;
mod spc2;

use super::{Effect, In, InitiatorPort, Nexus, Refusal, Registering, Request, State};
use crate::id::NexusId;
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::sense::{Sense, SenseKey};

const A: NexusId = NexusId(10);
const B: NexusId = NexusId(20);
const C: NexusId = NexusId(30);

/// Keys.
const K1: u64 = 0x1111_1111_1111_1111;
const K2: u64 = 0x2222_2222_2222_2222;
const K3: u64 = 0x3333_3333_3333_3333;

/// Types by their codes: write exclusive and exclusive access, alone, for registrants, held by all registrants.
const WE: u8 = 0x1;
const EA: u8 = 0x3;
const WE_RO: u8 = 0x5;
const EA_RO: u8 = 0x6;
const WE_AR: u8 = 0x7;
const EA_AR: u8 = 0x8;
const TYPES: [u8; 6] = [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR];

/// SERVICE ACTIONs.
const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const IGNORE: u8 = 6;

fn nexus(id: NexusId) -> Nexus {
    let name = format!("iqn.2026-11.example:host{}", id.0);
    Nexus { id, initiator: InitiatorPort::new(&name, [0, 2, 0x3d, 0, 0, 1]), target_port: 1 }
}

/// A CDB and a parameter list of 24 bytes.
fn command(action: u8, kind: u8, key: u64, other: u64) -> (Cdb, Vec<u8>) {
    let cdb = Cdb::new([0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0]);
    let list = [key.to_be_bytes(), other.to_be_bytes(), [0; 8]].concat();
    (cdb, list)
}

/// What PERSISTENT RESERVE OUT would do.
fn out(state: &State, from: NexusId, action: u8, kind: u8, keys: (u64, u64)) -> Result<Effect, Refusal> {
    let (cdb, list) = command(action, kind, keys.0, keys.1);
    let request = Request::read(&cdb, &list).map_err(Refusal::Check)?;
    state.out(&request, &nexus(from), &[])
}

/// Does it, and returns whom it tells what.
fn run(state: &mut State, from: NexusId, action: u8, kind: u8, keys: (u64, u64)) -> Vec<(NexusId, Ua)> {
    let effect = out(state, from, action, kind, keys).unwrap();
    if let Some(next) = effect.next {
        *state = next;
    }
    effect.attentions
}

/// A state in which these are registered, and the first of them has a reservation of that type.
fn reserved(kind: u8, keys: &[(NexusId, u64)]) -> State {
    let mut state = registered(keys);
    let &(first, key) = keys.first().unwrap();
    assert_eq!(run(&mut state, first, RESERVE, kind, (key, 0)), []);
    state
}

/// A state in which these are registered.
fn registered(keys: &[(NexusId, u64)]) -> State {
    let mut state = State::default();
    for &(nexus, key) in keys {
        assert_eq!(run(&mut state, nexus, REGISTER, 0, (0, key)), []);
    }
    state
}

/// PERSISTENT RESERVE IN data.
fn report(state: &State, what: In) -> Vec<u8> {
    let mut data = Vec::new();
    state.report(what, &mut |bytes| data.extend_from_slice(bytes));
    data
}

/// The keys that READ KEYS shows.
fn keys(state: &State) -> Vec<u64> {
    let data = report(state, In::Keys);
    let (keys, rest) = data[8..].as_chunks();
    assert!(rest.is_empty());
    keys.iter().map(|key| u64::from_be_bytes(*key)).collect()
}

/// Key and type that READ RESERVATION shows.
fn reservation(state: &State) -> Option<(u64, u8)> {
    let data = report(state, In::Reservation);
    let key = data.get(8..)?.first_chunk()?;
    Some((u64::from_be_bytes(*key), data[21]))
}

fn conflict(result: &Result<Effect, Refusal>) -> bool {
    *result == Err(Refusal::Conflict)
}

/// Sense key, ASC and ASCQ, the field pointer as on the wire.
fn check(result: Result<Effect, Refusal>) -> Option<(u8, u8, u8, [u8; 3])> {
    let Err(Refusal::Check(sense)) = result else { return None };
    assert_eq!(sense.key, SenseKey::IllegalRequest);
    Some((sense.key.code(), sense.asc, sense.ascq, pointer(sense)))
}

/// The three bytes of the field pointer.
fn pointer(sense: Sense) -> [u8; 3] {
    let mut out = [0; crate::limits::SENSE_BYTES_MAX];
    sense.encode(false, &mut out);
    [out[15], out[16], out[17]]
}
