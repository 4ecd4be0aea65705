//! Access states of logical units at target port groups: changed by the operator and by SET TARGET PORT GROUPS, saved, then
//! put in force by a barrier that waits for the IO of a group that loses the medium.

use serde_json::{Value, json};

use super::Control;
use super::done::Done;
use super::error::{ChangeError, What};
use super::keeper::Then;
use super::pending::ChangeId;
use super::saving::{AfterSave, small};
use crate::id::{ReactorId, SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket};
use crate::scsi::Outcome;
use crate::scsi::alua::{self, AccessState, Alua, Cause, Group};
use crate::scsi::sense::Sense;
use crate::scsi::view::{LunNumber, UnitView};

/// The kind of record that access states have.
const RECORD: &str = "alua";

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

/// What an operator wants at a target port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessChange {
    /// The target.
    pub target: String,
    /// The portal group, by tag: its port is a target port group of its own.
    pub portal_group: u16,
    /// One of the target's LUNs; all where none is given.
    pub lun: Option<LunNumber>,
    /// The state from now on.
    pub state: AccessState,
    /// PREF from now on; as it is where none is given.
    pub is_preferred: Option<bool>,
    /// What was saved since stays.
    pub is_initial: bool,
}

impl<N: Net> Control<N> {
    /// Changes the access state of LUNs by one of a target's ports. `done` when it is saved and in force and no IO that it
    /// forbids is left in a device.
    ///
    /// # Errors
    /// No such target, portal group or LUN.
    pub fn set_access_state(&mut self, change: &AccessChange, done: Done) -> Result<(), ChangeError> {
        self.pending.check_room()?;
        let target = self.catalog.targets.find(&change.target)?;
        let tag = change.portal_group;
        let port = target.port(tag).ok_or_else(|| ChangeError::missing(What::PortalGroup, tag))?;
        let number = port.port_group;
        let is_meant = |mapped: LunNumber| change.lun.is_none_or(|lun| lun == mapped);
        let mut units: Vec<UnitId> = port
            .mappings
            .iter()
            .filter(|mapping| is_meant(mapping.number))
            .map(|mapping| mapping.unit)
            .collect();
        units.sort_unstable();
        units.dedup();
        if let (Some(lun), true) = (change.lun, units.is_empty()) {
            return Err(ChangeError::missing(What::Lun, lun.0));
        }
        let id = self.pending.begin(done);
        for unit in units {
            let was = self.intended(unit);
            let old = was.group(number);
            let is_preferred = change.is_preferred.unwrap_or(old.is_preferred);
            let group = Group { number, state: change.state, is_preferred, cause: Cause::Implicit };
            let is_stale = change.is_initial && self.was_found(unit);
            if (old.state, old.is_preferred) != (group.state, group.is_preferred) && !is_stale {
                self.pending.add_part(id);
                self.shift(unit, was.with(&[group]), By::Operator(id));
            }
        }
        self.part_done(id, true);
        Ok(())
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
        let id = self.pending.begin(done);
        let was = self.intended(unit);
        let is_stale = is_initial && self.was_found(unit);
        if was.is_explicit() != is_explicit && !is_stale {
            self.pending.add_part(id);
            self.shift(unit, was.with_explicit(is_explicit), By::Operator(id));
        }
        self.part_done(id, true);
        Ok(())
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
        if changed.is_empty() {
            return Ok(Some(Outcome::GOOD));
        }
        let by = By::Command { reactor: ask.reactor, ticket: ask.ticket, session: ask.session };
        self.shift(ask.unit, was.with(&changed), by);
        Ok(None)
    }

    /// Ports are gone, and their numbers may be given to others: what was said of them is forgotten.
    pub(super) fn forget_groups(&mut self, is_known: impl Fn(u16) -> bool) {
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

    fn shift(&mut self, unit: UnitId, alua: Alua, by: By) {
        let record = record(&alua);
        let shifting = Shifting { unit, alua, by };
        let key = self.record_key(RECORD, unit);
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

    fn alua_record(&self, unit: UnitId) -> Option<&Value> {
        self.store.get(&self.record_key(RECORD, unit)?)
    }

    /// As it was saved.
    pub(super) fn saved_alua(&self, unit: UnitId) -> Alua {
        self.alua_record(unit).map(read).unwrap_or_default()
    }
}

fn record(alua: &Alua) -> Option<Value> {
    let group = |group: &Group| {
        json!({
            "group": group.number,
            "state": group.state.name(),
            "preferred": group.is_preferred,
            "explicit": group.cause == Cause::Explicit,
        })
    };
    (*alua != Alua::default()).then(|| {
        json!({ "explicit": alua.is_explicit(), "groups": alua.groups().iter().map(group).collect::<Vec<_>>() })
    })
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
