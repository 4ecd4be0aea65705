//! Access states of logical units at target port groups: changed by the operator and by SET TARGET PORT GROUPS, saved, then
//! put in force by a barrier that waits for the IO of a group that loses the medium.
//!
//! Of a unit whose medium was not found yet it is not known under which key its record is: what is said of it meanwhile is kept
//! (`Early`) and saved when the medium comes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Control;
use super::done::Done;
use super::error::{ChangeError, What};
use super::keeper::Then;
use super::pending::ChangeId;
use super::saving::{AfterSave, NO_ROOM, small};
use crate::id::{ReactorId, SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket};
use crate::scsi::alua::{self, AccessState, Alua, Cause, Group};
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, UnitView};
use crate::scsi::{Outcome, Status};

/// The kind of record that access states have.
const RECORD: &str = "alua";

/// One thing that is changed.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Group(Group),
    Explicit(bool),
}

impl Turn {
    fn over(self, alua: &Alua) -> Alua {
        match self {
            Turn::Group(group) => alua.with(&[group]),
            Turn::Explicit(is_explicit) => alua.with_explicit(is_explicit),
        }
    }

    /// Whether nothing is left of the other after this one.
    fn hides(self, other: Turn) -> bool {
        match (self, other) {
            (Turn::Group(new), Turn::Group(old)) => new.number == old.number,
            (Turn::Explicit(_), Turn::Explicit(_)) => true,
            _ => false,
        }
    }
}

/// What was said of units before their medium was found, and whether it yields to what was saved.
#[derive(Debug, Default)]
pub(super) struct Early(BTreeMap<UnitId, Vec<(Turn, bool)>>);

impl Early {
    fn add(&mut self, unit: UnitId, turn: Turn, yields: bool) {
        let turns = self.0.entry(unit).or_default();
        turns.retain(|(old, _)| !turn.hides(*old));
        turns.push((turn, yields));
    }

    /// The unit is gone.
    pub(super) fn forget(&mut self, unit: UnitId) {
        self.0.remove(&unit);
    }
}

/// Who wants a change.
#[derive(Debug)]
enum By {
    /// SET TARGET PORT GROUPS.
    Command { reactor: ReactorId, ticket: TaskTicket, session: SessionId },
    /// The operator.
    Operator(ChangeId),
    /// Nobody waits for it.
    Nobody,
}

/// A change while it is being saved.
#[derive(Debug)]
pub(super) struct Shifting {
    unit: UnitId,
    alua: Alua,
    by: By,
}

/// Which LUNs of a target are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Luns {
    /// All, those of maps included.
    All,
    /// The one of this number, of those that everybody finds.
    Number(LunNumber),
    /// What this bdev is served as, whatever its numbers are.
    Bdev(String),
}

/// What an operator wants at a target port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessChange {
    /// The target.
    pub target: String,
    /// A portal group, by tag: meant is the target port group that its port is in.
    pub portal_group: u16,
    /// Which of the target's LUNs.
    pub luns: Luns,
    /// The state from now on.
    pub state: AccessState,
    /// PREF from now on; as it is where none is given.
    pub is_preferred: Option<bool>,
    /// What was saved since stays.
    pub is_initial: bool,
}

impl<N: Net> Control<N> {
    /// Changes the access state of LUNs by one of a target's target port groups. `done` when it is saved and in force and no
    /// IO that it forbids is left in a device.
    ///
    /// # Errors
    /// No such target, portal group or LUN; no room to save it.
    pub fn set_access_state(&mut self, change: &AccessChange, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let target = self.catalog.targets.find(&change.target)?;
        let tag = change.portal_group;
        let port = target.port(tag).ok_or_else(|| ChangeError::missing(What::PortalGroup, tag))?;
        let number = port.port_group;
        let mut units: Vec<UnitId> = match &change.luns {
            Luns::All => target.units().collect(),
            Luns::Number(lun) => {
                let mapped = target.mappings.iter().filter(|mapping| mapping.number == *lun);
                mapped.map(|mapping| mapping.unit).collect()
            }
            Luns::Bdev(bdev) => {
                let unit = self.catalog.registry.find(bdev)?.unit;
                unit.into_iter().filter(|unit| target.maps_unit(*unit)).collect()
            }
        };
        units.sort_unstable();
        units.dedup();
        match &change.luns {
            Luns::Number(lun) if units.is_empty() => return Err(ChangeError::missing(What::Lun, lun.0)),
            Luns::Bdev(bdev) if units.is_empty() => {
                return Err(ChangeError::missing(What::Lun, format!("of bdev {bdev}")));
            }
            _ => {}
        }
        let mut turns = Vec::new();
        for unit in units {
            let old = self.intended(unit).group(number);
            let is_preferred = change.is_preferred.unwrap_or(old.is_preferred);
            let is_same = (old.state, old.is_preferred) == (change.state, is_preferred);
            let cause = if is_same { old.cause } else { Cause::Implicit };
            let group = Group { number, state: change.state, is_preferred, cause };
            let is_stale = change.is_initial && self.was_found(unit);
            if !is_stale {
                turns.push((unit, Turn::Group(group)));
            }
        }
        self.turn_all(&turns, change.is_initial, done)
    }

    /// Changes units, each in one thing. With `is_initial` what was saved of one whose medium is not known yet counts. What is as
    /// it is to be is waited for as well: that may have been asked for a moment ago, and may not be in force yet.
    fn turn_all(
        &mut self,
        turns: &[(UnitId, Turn)],
        is_initial: bool,
        done: Done,
    ) -> Result<(), ChangeError> {
        let next = |(unit, turn): &(UnitId, Turn)| (*unit, turn.over(&self.intended(*unit)));
        let next: Vec<(UnitId, Alua)> = turns.iter().map(next).collect();
        for (unit, alua) in &next {
            self.check_room_for(*unit, alua)?;
        }
        let id = self.pending.begin(done);
        for ((unit, turn), (_, alua)) in turns.iter().zip(&next) {
            if *alua != self.intended(*unit) {
                self.say_early(*unit, *turn, is_initial);
            }
        }
        for (unit, alua) in next {
            self.pending.add_part(id);
            self.shift(unit, alua, By::Operator(id));
        }
        self.part_done(id, true);
        Ok(())
    }

    /// Whether what a unit is to be can be saved; what it is to be already needs no more room.
    fn check_room_for(&self, unit: UnitId, alua: &Alua) -> Result<(), ChangeError> {
        if *alua == self.intended(unit) {
            return Ok(());
        }
        self.check_fits(self.record_key(RECORD, unit).as_deref(), Some(&record(alua)))
    }

    /// Where the medium is not known yet, a change is to be saved later.
    fn say_early(&mut self, unit: UnitId, turn: Turn, is_initial: bool) {
        if self.store.is_there() && self.record_key(RECORD, unit).is_none() {
            self.early.add(unit, turn, is_initial);
        }
    }

    /// The logical units, each with its bdev's name.
    pub fn logical_units(&self) -> impl Iterator<Item = (&str, &UnitView)> {
        let registry = &self.catalog.registry;
        registry.views().filter_map(|view| Some((registry.entry_of(view.id)?.name.as_str(), &**view)))
    }

    /// Lets initiators change the states of a bdev's logical unit, or no more.
    ///
    /// # Errors
    /// No such bdev, or it is not served.
    pub fn set_alua_explicit(
        &mut self,
        bdev: &str,
        is_explicit: bool,
        is_initial: bool,
        done: Done,
    ) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let entry = self.catalog.registry.find(bdev)?;
        let unit = entry.unit.ok_or_else(|| ChangeError::missing(What::Lun, format!("of bdev {bdev}")))?;
        let is_stale = is_initial && self.was_found(unit);
        let turn = (!is_stale).then_some((unit, Turn::Explicit(is_explicit)));
        self.turn_all(turn.as_slice(), is_initial, done)
    }

    /// SET TARGET PORT GROUPS (SPC-5 §6.46). It is answered exactly once: here, or when it is in force.
    pub(super) fn set_port_groups(&mut self, ask: &Ask) -> Result<Option<Outcome>, Sense> {
        let view = self.catalog.registry.view(ask.unit).ok_or(Sense::NO_SUCH_UNIT)?;
        if !view.alua.is_explicit() {
            return Err(Sense::INVALID_OPCODE);
        }
        let target = self.sessions.get(ask.session).map(|session| &session.nexus.target);
        let target = target.and_then(|name| self.catalog.targets.get(name)).ok_or(Sense::NO_SUCH_UNIT)?;
        let is_known = |number| target.ports.iter().any(|port| port.port_group == number);
        let requested = alua::requested(&ask.parameters, is_known)?;
        let was = self.intended(ask.unit);
        // PREF is not theirs to change.
        let kept = |group: Group| Group { is_preferred: was.group(group.number).is_preferred, ..group };
        let changed: Vec<Group> = requested
            .into_iter()
            .filter(|group| group.state != was.group(group.number).state)
            .map(kept)
            .collect();
        if self.keeper.is_full() {
            return Ok(Some(Outcome::of(Status::Busy)));
        }
        let alua = was.with(&changed);
        self.check_room_for(ask.unit, &alua).map_err(|_| NO_ROOM)?;
        for group in changed {
            self.say_early(ask.unit, Turn::Group(group), false);
        }
        let by = By::Command { reactor: ask.reactor, ticket: ask.ticket, session: ask.session };
        self.shift(ask.unit, alua, by);
        Ok(None)
    }

    /// Ports are gone, and their numbers may be given to others: what was said of them is forgotten.
    pub(super) fn forget_groups(&mut self, is_known: impl Fn(u16) -> bool) {
        for turns in self.early.0.values_mut() {
            turns.retain(|(turn, _)| match turn {
                Turn::Group(group) => is_known(group.number),
                Turn::Explicit(_) => true,
            });
        }
        let units: Vec<UnitId> = self.catalog.registry.views().map(|view| view.id).collect();
        for unit in units {
            let was = self.intended(unit);
            if was.groups().iter().any(|group| !is_known(group.number)) {
                let known = was.groups().iter().filter(|group| is_known(group.number));
                let alua = Alua::new(was.is_explicit(), known.copied().collect());
                self.shift(unit, alua, By::Nobody);
            }
        }
    }

    /// How it is to be, changes included that are still being saved.
    fn intended(&self, unit: UnitId) -> Alua {
        let view = self.catalog.registry.view(unit);
        match self.record_key(RECORD, unit).filter(|_| self.store.is_there()) {
            Some(key) => self.store.get(&key).map(read).unwrap_or_default(),
            None => view.map(|view| view.alua.clone()).unwrap_or_default(),
        }
    }

    /// It is saved, then in force, then who asked for it is told; where it is as intended already, when that is durable.
    fn shift(&mut self, unit: UnitId, alua: Alua, by: By) {
        let key = self.record_key(RECORD, unit);
        let known = key.as_deref().and_then(|key| self.store.get(key)).cloned();
        // What was taken back is said too: else an old file of calls would count again.
        let record = if alua == self.intended(unit) { known } else { Some(record(&alua)) };
        let shifting = Shifting { unit, alua, by };
        self.save(key.as_deref(), record, AfterSave::Access(Box::new(shifting)));
    }

    /// A change is saved, or cannot be: then it does not happen.
    pub(super) fn shifted(&mut self, shifting: Shifting, is_saved: bool) {
        let Shifting { unit, alua, by } = shifting;
        let view = self.catalog.registry.view(unit).filter(|_| is_saved);
        let view = view.map(|view| UnitView { alua, ..UnitView::clone(view) });
        match by {
            By::Command { reactor, ticket, session } => {
                self.show_and_answer(view, session, reactor, ticket);
            }
            By::Operator(id) => {
                if !is_saved {
                    self.pending.not_saved(id);
                }
                let shown = view.and_then(|view| self.show_unit(view, None, Then::Part(id)).ok());
                if shown != Some(true) {
                    self.part_done(id, true);
                }
            }
            By::Nobody => {
                let _ = view.and_then(|view| self.show_unit(view, None, Then::Nothing).ok());
            }
        }
    }

    /// Whether something was saved in a life before.
    fn was_found(&self, unit: UnitId) -> bool {
        self.record_key(RECORD, unit).is_some_and(|key| self.store.was_found(&key))
    }

    /// As it was saved under this key, with what was said before that was known.
    pub(super) fn recalled_alua(&mut self, unit: UnitId, uuid: &str) -> Alua {
        let key = format!("{RECORD}/{uuid}");
        let saved = self.store.get(&key).map(read).unwrap_or_default();
        let is_found = self.store.was_found(&key);
        let turns = self.early.0.remove(&unit).unwrap_or_default();
        let turns = turns.into_iter().filter(|(_, yields)| !(*yields && is_found));
        let alua = turns.fold(saved.clone(), |alua, (turn, _)| turn.over(&alua));
        let record = Some(record(&alua));
        if alua != saved && self.store.fits(&key, record.as_ref()) {
            self.store.set(&key, record);
        }
        alua
    }
}

fn record(alua: &Alua) -> Value {
    let group = |group: &Group| {
        json!({
            "group": group.number,
            "state": group.state.name(),
            "preferred": group.is_preferred,
            "explicit": group.cause == Cause::Explicit,
        })
    };
    json!({ "explicit": alua.is_explicit(), "groups": alua.groups().iter().map(group).collect::<Vec<_>>() })
}

/// What it does not understand is as by default.
fn read(record: &Value) -> Alua {
    let is = |value: &Value, name: &str| value.get(name).and_then(Value::as_bool).unwrap_or_default();
    let group = |value: &Value| {
        Some(Group {
            number: small(value.get("group")?)?,
            state: AccessState::named(value.get("state")?.as_str()?)?,
            is_preferred: is(value, "preferred"),
            cause: if is(value, "explicit") { Cause::Explicit } else { Cause::Implicit },
        })
    };
    let groups = record.get("groups").and_then(Value::as_array).into_iter().flatten();
    Alua::new(is(record, "explicit"), groups.filter_map(group).collect())
}
