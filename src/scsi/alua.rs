//! Asymmetric logical unit access (SPC-5 §5.18): in which state a logical unit is at each target port group, and what it
//! does there.
//!
//! Control owns the states; they are part of the unit's view. A port is a target port group of its own, under the same
//! number. Explicit changes come by SET TARGET PORT GROUPS, where the operator has allowed them; implicit ones are the
//! operator's.
//!
//! Not here: primary states that hang on the LBA (LBA DEPENDENT) and the secondary state OFFLINE, which nothing of ours
//! would ever take.

use std::sync::Arc;

use crate::scsi::cdb::Cdb;
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::table::MAINTENANCE_OUT;
use crate::scsi::{Plan, Served, Status};

/// SET TARGET PORT GROUPS: the service action of MAINTENANCE OUT.
pub(crate) const SET_ACTION: u8 = 0x0a;
/// The longest parameter list that is looked at: a descriptor for each port that a target can have, and more.
const LIST_BYTES_MAX: u32 = 4096;
/// Bytes of the parameter list before its descriptors, and of each of those.
const DESCRIPTOR_BYTES: usize = 4;

/// ASYMMETRIC ACCESS STATE.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum AccessState {
    /// 0h: as good as it gets.
    #[default]
    ActiveOptimized,
    /// 1h: everything is served; another way is better.
    ActiveNonOptimized,
    /// 2h: ready to take over; the medium is not served.
    Standby,
    /// 3h: nearly nothing is served.
    Unavailable,
    /// Fh: on the way from one to another.
    Transitioning,
}

impl AccessState {
    /// Every state that there is here.
    pub const ALL: [AccessState; 5] = [
        AccessState::ActiveOptimized,
        AccessState::ActiveNonOptimized,
        AccessState::Standby,
        AccessState::Unavailable,
        AccessState::Transitioning,
    ];

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            AccessState::ActiveOptimized => 0x0,
            AccessState::ActiveNonOptimized => 0x1,
            AccessState::Standby => 0x2,
            AccessState::Unavailable => 0x3,
            AccessState::Transitioning => 0xf,
        }
    }

    /// For people and files.
    pub const fn name(self) -> &'static str {
        match self {
            AccessState::ActiveOptimized => "active_optimized",
            AccessState::ActiveNonOptimized => "active_non_optimized",
            AccessState::Standby => "standby",
            AccessState::Unavailable => "unavailable",
            AccessState::Transitioning => "transitioning",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<AccessState> {
        AccessState::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Everything is served.
    pub const fn is_active(self) -> bool {
        matches!(self, AccessState::ActiveOptimized | AccessState::ActiveNonOptimized)
    }

    /// Why a command is not served (SPC-5 §5.18.2.4 to §5.18.2.6).
    const fn refusal(self) -> Option<Sense> {
        let ascq = match self {
            AccessState::ActiveOptimized | AccessState::ActiveNonOptimized => return None,
            AccessState::Transitioning => 0x0a,
            AccessState::Standby => 0x0b,
            AccessState::Unavailable => 0x0c,
        };
        Some(Sense::new(SenseKey::NotReady, 0x04, ascq))
    }
}

/// STATUS CODE: who has changed the state last.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Cause {
    /// 0h: nobody.
    #[default]
    None,
    /// 1h: SET TARGET PORT GROUPS.
    Explicit,
    /// 2h: the operator.
    Implicit,
}

impl Cause {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Cause::None => 0,
            Cause::Explicit => 1,
            Cause::Implicit => 2,
        }
    }
}

/// A target port group as a logical unit has it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Group {
    /// Its number.
    pub number: u16,
    /// The state there.
    pub state: AccessState,
    /// PREF.
    pub is_preferred: bool,
    /// Who said so.
    pub cause: Cause,
}

/// The states of a logical unit. Cheap to clone; part of its view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alua {
    /// Every group is active: stands beside the rest so that the common case touches nothing else.
    is_active: bool,
    is_explicit: bool,
    /// Ascending by number; those that are as [`Group::default`] says may be missing.
    groups: Arc<[Group]>,
}

impl Default for Alua {
    /// Active/optimized everywhere, and for the operator to change.
    fn default() -> Alua {
        Alua { is_active: true, is_explicit: false, groups: Arc::new([]) }
    }
}

impl Alua {
    /// With these groups, each once, and `is_explicit`: initiators may change them.
    pub fn new(is_explicit: bool, mut groups: Vec<Group>) -> Alua {
        groups.retain(|group| *group != Group { number: group.number, ..Group::default() });
        groups.sort_unstable_by_key(|group| group.number);
        groups.dedup_by_key(|group| group.number);
        let is_active = groups.iter().all(|group| group.state.is_active());
        Alua { is_active, is_explicit, groups: groups.into() }
    }

    /// Whether initiators may change states.
    pub fn is_explicit(&self) -> bool {
        self.is_explicit
    }

    /// Those groups that are not as by default.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// How it is at a group.
    pub fn group(&self, number: u16) -> Group {
        match self.groups.binary_search_by_key(&number, |group| group.number) {
            Ok(index) => self.groups[index],
            Err(_) => Group { number, ..Group::default() },
        }
    }

    /// With these groups changed.
    #[must_use]
    pub fn with(&self, changed: &[Group]) -> Alua {
        let is_kept = |group: &&Group| changed.iter().all(|changed| changed.number != group.number);
        let kept = self.groups.iter().filter(is_kept);
        Alua::new(self.is_explicit, kept.chain(changed).copied().collect())
    }

    /// Initiators may change states from now on, or no more.
    #[must_use]
    pub fn with_explicit(&self, is_explicit: bool) -> Alua {
        Alua { is_explicit, ..self.clone() }
    }

    /// Whether the medium is served at a group no longer, once `next` is in force.
    pub fn takes_away(&self, next: &Alua) -> bool {
        next.groups.iter().any(|group| !group.state.is_active() && self.group(group.number).state.is_active())
    }

    /// Whether the medium is not served at a group.
    pub fn is_restricted(&self) -> bool {
        !self.is_active
    }

    /// TPGS of the standard INQUIRY data.
    pub(super) fn tpgs(&self) -> u8 {
        if self.is_explicit { 0b11 } else { 0b01 }
    }

    /// Whether the medium is served at a group.
    ///
    /// # Errors
    /// Why not.
    #[inline]
    pub fn check_medium(&self, group: u16) -> Result<(), Sense> {
        if self.is_active { Ok(()) } else { self.group(group).state.refusal().map_or(Ok(()), Err) }
    }

    /// Whether a command, one of those that need a logical unit, is served at a group.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, group: u16, cdb: &Cdb) -> Result<(), Sense> {
        let Err(sense) = self.check_medium(group) else { return Ok(()) };
        let is_served = match need(cdb) {
            Need::Nothing => true,
            Need::Standby => self.group(group).state == AccessState::Standby,
            Need::Active => false,
        };
        if is_served { Ok(()) } else { Err(sense) }
    }
}

/// In which states a command is served.
enum Need {
    /// In every one.
    Nothing,
    /// In standby too.
    Standby,
    /// In the active ones.
    Active,
}

/// SPC-5 §5.18.2.4 to §5.18.2.6 say what has to be served, beside INQUIRY, REPORT LUNS and REQUEST SENSE. READ CAPACITY in
/// standby is added: an initiator that comes up by that path would not know the disk for one.
fn need(cdb: &Cdb) -> Need {
    match (cdb.opcode(), cdb.service_action()) {
        // REPORT and SET TARGET PORT GROUPS.
        (0xa3 | MAINTENANCE_OUT, SET_ACTION) => Need::Nothing,
        // LOG SELECT and SENSE, MODE SELECT and SENSE, RECEIVE DIAGNOSTIC RESULTS, SEND DIAGNOSTIC, READ and WRITE BUFFER,
        // PERSISTENT RESERVE IN and OUT, READ CAPACITY(10).
        (0x4c | 0x4d | 0x15 | 0x55 | 0x1a | 0x5a | 0x1c | 0x1d | 0x3b | 0x3c | 0x5e | 0x5f | 0x25, _) => {
            Need::Standby
        }
        // READ CAPACITY(16).
        (0x9e, 0x10) => Need::Standby,
        // REPORT IDENTIFYING INFORMATION, SUPPORTED OPERATION CODES, SUPPORTED TASK MANAGEMENT FUNCTIONS, TIMESTAMP.
        (0xa3, 0x05 | 0x0c | 0x0d | 0x0f) => Need::Standby,
        _ => Need::Active,
    }
}

/// SET TARGET PORT GROUPS (SPC-5 §6.46): control decides.
pub(super) fn plan_set(cdb: &Cdb, unit: Served<'_>) -> Result<Plan, Sense> {
    if !unit.view.alua.is_explicit {
        return Err(Sense::INVALID_OPCODE);
    }
    match cdb.be32(6) {
        // No parameter list is no error, and changes nothing.
        0 => Ok(Plan::End(Status::Good)),
        parameter_bytes @ 4..=LIST_BYTES_MAX => Ok(Plan::Ask { parameter_bytes }),
        _ => Err(Sense::PARAMETER_LIST_LENGTH),
    }
}

/// The states that SET TARGET PORT GROUPS asks for. `is_known` tells which groups there are.
///
/// # Errors
/// The list is cut short, or asks for a state or a group that there is not.
pub fn requested(list: &[u8], is_known: impl Fn(u16) -> bool) -> Result<Vec<Group>, Sense> {
    let (descriptors, rest) = list.as_chunks::<DESCRIPTOR_BYTES>();
    if !rest.is_empty() || descriptors.is_empty() {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let mut groups = Vec::new();
    // The first four bytes are reserved.
    for (index, [state, reserved, high, low]) in (1_u16..).zip(&descriptors[1..]) {
        let at = index * 4;
        let number = u16::from_be_bytes([*high, *low]);
        let state = match state {
            0x0 => AccessState::ActiveOptimized,
            0x1 => AccessState::ActiveNonOptimized,
            0x2 => AccessState::Standby,
            0x3 => AccessState::Unavailable,
            // Nobody can ask for a transition.
            _ => return Err(Sense::invalid_parameter(at)),
        };
        if *reserved != 0 {
            return Err(Sense::invalid_parameter(at + 1));
        }
        if !is_known(number) {
            return Err(Sense::invalid_parameter(at + 2));
        }
        groups.push(Group { number, state, is_preferred: false, cause: Cause::Explicit });
    }
    Ok(groups)
}
