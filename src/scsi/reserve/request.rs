//! PERSISTENT RESERVE OUT, RESERVE and RELEASE as they come: CDB and parameter list (SPC-5 §6.17, SPC-2 §7.21).

use std::sync::Arc;

use crate::scsi::cdb::Cdb;
use crate::scsi::reserve::port::Named;
use crate::scsi::reserve::{InitiatorPort, Type};
use crate::scsi::sense::Sense;
use crate::scsi::{Plan, Served};

/// RESERVE(6).
const RESERVE_6: u8 = 0x16;
/// RELEASE(6).
const RELEASE_6: u8 = 0x17;
/// RESERVE(10).
const RESERVE_10: u8 = 0x56;
/// RELEASE(10).
const RELEASE_10: u8 = 0x57;
/// PERSISTENT RESERVE OUT.
const PERSISTENT_RESERVE_OUT: u8 = 0x5f;

/// SERVICE ACTION REGISTER.
const REGISTER: u8 = 0x00;
/// SERVICE ACTION REGISTER AND MOVE.
const REGISTER_AND_MOVE: u8 = 0x07;

/// Byte 20 of the parameter list, of REGISTER AND MOVE byte 17.
const APTPL: u8 = 0x01;
/// Byte 20.
const ALL_TG_PT: u8 = 0x04;
/// Byte 20.
const SPEC_I_PT: u8 = 0x08;
/// Byte 17 of REGISTER AND MOVE.
const UNREG: u8 = 0x02;

/// The parameter list, its variable part excepted.
const LIST_BYTES: usize = 24;
/// The longest parameter list that is looked at: one TransportID with the longest name takes 272 bytes.
const LIST_BYTES_MAX: u32 = 4096;

/// What REGISTER says beside the keys.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Registering {
    /// APTPL: the registrations survive a power loss.
    pub persists: bool,
    /// ALL_TG_PT: through every port of the target.
    pub all_ports: bool,
    /// SPEC_I_PT: these ports too.
    pub initiators: Vec<InitiatorPort>,
    /// SPEC_I_PT: every port that is known of the initiators with these names.
    pub names: Vec<Arc<str>>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// REGISTER: `key` must be the present one, 0 for none; `new_key` of 0 unregisters.
    Register {
        /// RESERVATION KEY.
        key: u64,
        /// SERVICE ACTION RESERVATION KEY.
        new_key: u64,
        /// For whom else, and for how long.
        how: Registering,
    },
    /// REGISTER AND IGNORE EXISTING KEY.
    RegisterAndIgnore {
        /// SERVICE ACTION RESERVATION KEY.
        new_key: u64,
        /// For whom else, and for how long.
        how: Registering,
    },
    /// RESERVE.
    Reserve {
        /// RESERVATION KEY.
        key: u64,
        /// TYPE.
        kind: Type,
    },
    /// RELEASE.
    Release {
        /// RESERVATION KEY.
        key: u64,
        /// TYPE.
        kind: Type,
    },
    /// CLEAR.
    Clear {
        /// RESERVATION KEY.
        key: u64,
    },
    /// PREEMPT and PREEMPT AND ABORT.
    Preempt {
        /// RESERVATION KEY.
        key: u64,
        /// SERVICE ACTION RESERVATION KEY: who is preempted.
        victim: u64,
        /// TYPE, or why the CDB's is none: ignored where no reservation is made.
        kind: Result<Type, Sense>,
        /// AND ABORT.
        abort: bool,
    },
    /// REGISTER AND MOVE.
    RegisterAndMove {
        /// RESERVATION KEY.
        key: u64,
        /// SERVICE ACTION RESERVATION KEY: that of the new holder.
        new_key: u64,
        /// UNREG: the old holder is unregistered.
        unregister: bool,
        /// APTPL.
        persists: bool,
        /// Whom the reservation goes to.
        initiator: InitiatorPort,
        /// RELATIVE TARGET PORT IDENTIFIER.
        target_port: u16,
    },
    /// RESERVE(6) and (10).
    LegacyReserve,
    /// RELEASE(6) and (10).
    LegacyRelease,
}

/// How many bytes of parameter list this CDB, of one of the five commands, comes with.
///
/// # Errors
/// PARAMETER LIST LENGTH is not what the service action takes.
pub fn parameter_bytes(cdb: &Cdb) -> Result<u32, Sense> {
    if cdb.opcode() != PERSISTENT_RESERVE_OUT {
        // SPC-2 §7.21.3: a parameter list belongs to extents and third parties, which are refused.
        return Ok(0);
    }
    let bytes = cdb.be32(5);
    let is_legal = match cdb.service_action() {
        // Whether there may be more than the 24 bytes is up to SPEC_I_PT in them.
        REGISTER | REGISTER_AND_MOVE => (24..=LIST_BYTES_MAX).contains(&bytes),
        _ => bytes == 24,
    };
    if is_legal { Ok(bytes) } else { Err(Sense::PARAMETER_LIST_LENGTH) }
}

/// Control decides on these commands.
pub(in crate::scsi) fn plan(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    if !unit.view.permits.is_known() {
        return Err(Sense::NOT_READY);
    }
    parameter_bytes(cdb).map(|parameter_bytes| Plan::Ask { parameter_bytes })
}

impl Request {
    /// Reads the request of one of the five commands; `list` is what came of the parameter list.
    ///
    /// # Errors
    /// It is none that is served. Reserved bits of the CDB are the command table's business.
    pub fn read(cdb: &Cdb, list: &[u8]) -> Result<Request, Sense> {
        match cdb.opcode() {
            RESERVE_6 | RESERVE_10 => legacy(cdb, Request::LegacyReserve),
            RELEASE_6 | RELEASE_10 => legacy(cdb, Request::LegacyRelease),
            PERSISTENT_RESERVE_OUT => persistent(cdb, list),
            _ => Err(Sense::INVALID_OPCODE),
        }
    }
}

/// RESERVE and RELEASE of the whole unit for oneself.
fn legacy(cdb: &Cdb, request: Request) -> Result<Request, Sense> {
    // SPC-2 §7.21: third parties (bit 4) and extents (bit 0) went with SPC-3.
    match cdb.byte(1) {
        flags if flags & 0x10 != 0 => Err(Sense::invalid_bit(1, 4)),
        flags if flags & 0x01 != 0 => Err(Sense::invalid_bit(1, 0)),
        _ => Ok(request),
    }
}

fn persistent(cdb: &Cdb, list: &[u8]) -> Result<Request, Sense> {
    let bytes = usize::try_from(parameter_bytes(cdb)?).unwrap_or(usize::MAX);
    // SPC-5 §6.17.2: a list that was cut short is an error too.
    let list = list.get(..bytes).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    let Some((head, rest)) = list.split_first_chunk::<LIST_BYTES>() else {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    };
    let action = cdb.service_action();
    let (key, other) = (be64(head, 0), be64(head, 8));
    if action == REGISTER_AND_MOVE {
        return register_and_move(key, other, head, rest);
    }
    check_flags(action, head[20], head[21])?;
    let mut how = Registering {
        persists: head[20] & APTPL != 0,
        all_ports: head[20] & ALL_TG_PT != 0,
        ..Registering::default()
    };
    if head[20] & SPEC_I_PT != 0 {
        (how.initiators, how.names) = initiators(rest)?;
    } else if !rest.is_empty() {
        // SPC-5 §6.17.3: with SPEC_I_PT at zero there are 24 bytes.
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    match action {
        REGISTER => Ok(Request::Register { key, new_key: other, how }),
        0x01 => Ok(Request::Reserve { key, kind: scope_and_type(cdb)? }),
        0x02 => Ok(Request::Release { key, kind: scope_and_type(cdb)? }),
        0x03 => Ok(Request::Clear { key }),
        0x04 | 0x05 => {
            Ok(Request::Preempt { key, victim: other, kind: scope_and_type(cdb), abort: action == 0x05 })
        }
        0x06 => Ok(Request::RegisterAndIgnore { new_key: other, how }),
        _ => Err(Sense::invalid_bit(1, 4)),
    }
}

/// Refuses reserved bits; bytes 16 to 19, 22 and 23 are obsolete. ALL_TG_PT and APTPL mean something to the two that register
/// only (SPC-5 §6.17.1), SPEC_I_PT to REGISTER alone (§6.17.3).
fn check_flags(action: u8, flags: u8, reserved: u8) -> Result<(), Sense> {
    if flags & SPEC_I_PT != 0 && action != REGISTER {
        return Err(Sense::invalid_parameter_bit(20, 3));
    }
    match (first_bit(flags & 0xf2), first_bit(reserved)) {
        (None, None) => Ok(()),
        (Some(bit), _) => Err(Sense::invalid_parameter_bit(20, bit)),
        (None, Some(bit)) => Err(Sense::invalid_parameter_bit(21, bit)),
    }
}

/// The additional parameter data of SPEC_I_PT: how long they are, then TransportIDs (SPC-5 §6.17.3).
fn initiators(rest: &[u8]) -> Result<(Vec<InitiatorPort>, Vec<Arc<str>>), Sense> {
    let Some((length, mut ids)) = rest.split_first_chunk::<4>() else {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    };
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(ids.len()) {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let mut at = 28;
    let (mut ports, mut names) = (Vec::new(), Vec::new());
    while !ids.is_empty() {
        let bytes = InitiatorPort::id_bytes_of(ids).ok_or(Sense::invalid_parameter(at))?;
        let (id, next) = ids.split_at(bytes);
        match Named::read(id, at)? {
            Named::Port(port) => ports.push(port),
            Named::Initiator(name) => names.push(name),
        }
        at += u16::try_from(bytes).map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
        ids = next;
    }
    Ok((ports, names))
}

fn register_and_move(key: u64, new_key: u64, head: &[u8; LIST_BYTES], rest: &[u8]) -> Result<Request, Sense> {
    let [.., reserved, flags, port_high, port_low, _, _, _, _] = *head;
    let id_bytes = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
    if usize::try_from(id_bytes) != Ok(rest.len()) {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    // SPC-5 §5.14.8: the new holder is registered with a key, and 0 is none.
    if new_key == 0 {
        return Err(Sense::invalid_parameter(8));
    }
    if reserved != 0 {
        return Err(Sense::invalid_parameter(16));
    }
    if let Some(bit) = first_bit(flags & !(UNREG | APTPL)) {
        return Err(Sense::invalid_parameter_bit(17, bit));
    }
    Ok(Request::RegisterAndMove {
        key,
        new_key,
        unregister: flags & UNREG != 0,
        persists: flags & APTPL != 0,
        initiator: InitiatorPort::read(rest, 24)?,
        target_port: u16::from_be_bytes([port_high, port_low]),
    })
}

/// SCOPE, which must be LU_SCOPE (0h), and TYPE.
fn scope_and_type(cdb: &Cdb) -> Result<Type, Sense> {
    let byte = cdb.byte(2);
    if byte >> 4 != 0 {
        return Err(Sense::invalid_bit(2, 7));
    }
    Type::decode(byte).ok_or(Sense::invalid_bit(2, 3))
}

/// The most significant bit that is set.
fn first_bit(byte: u8) -> Option<u8> {
    byte.checked_ilog2().and_then(|bit| u8::try_from(bit).ok())
}

fn be64(head: &[u8; LIST_BYTES], at: usize) -> u64 {
    head.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
