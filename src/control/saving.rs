//! What control has to do with the state file: what follows when something is saved, and what is taken from it when a unit or
//! a target comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Control;
use super::alua::Shifting;
use super::catalog::KnownPort;
use super::done::Done;
use super::error::ChangeError;
use super::identity::{Choosing, hex};
use super::keeper::Then;
use super::reserve::Decided;
use super::sessions::Nexus as Known;
use super::store::{Records, Saver, Store};
use crate::id::{NexusId, ReactorId, SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket, ToReactor};
use crate::scsi::Outcome;
use crate::scsi::report::identifying::Identifying;
use crate::scsi::reserve::{InitiatorPort, Nexus, Permits, Saved, State, Type};
use crate::scsi::sense::{Sense, SenseKey};
use crate::scsi::view::{Settings, UnitView};
use crate::time::Tick;

/// What follows when a record is durable, or is not going to be.
#[derive(Debug)]
pub(super) enum AfterSave {
    /// A change of reservations is put in force.
    Reserve(Box<Decided>),
    /// Access states are put in force.
    Access(Box<Shifting>),
    /// An identity is shown.
    Identity(Box<Choosing>),
    /// What a host has written to tell its disks by is shown.
    Identifying(Box<Written>),
    /// A SANITIZE begins.
    Sanitize(UnitId),
    /// One has ended well.
    Sanitized(UnitId),
    /// A mirror's warden goes on.
    Array(Done),
}

/// SET IDENTIFYING INFORMATION while it is being saved.
#[derive(Debug)]
pub(super) struct Written {
    unit: UnitId,
    identifying: Identifying,
    reactor: ReactorId,
    ticket: TaskTicket,
    session: SessionId,
}

/// INSUFFICIENT RESOURCES: the state file is full.
pub(super) const NO_ROOM: Sense = Sense::new(SenseKey::IllegalRequest, 0x55, 0x03);
/// The kind of record that reservations have.
pub(super) const RESERVATIONS: &str = "reservations";
/// That of what SET IDENTIFYING INFORMATION has written.
const IDENTIFYING: &str = "identifying";
/// The record of all ports: relative target port identifiers by target and portal group, and the target port group where
/// that is another.
const PORTS: &str = "ports";

impl<N: Net> Control<N> {
    /// Keeps there what must survive. To be called before anything is served.
    pub fn keep(&mut self, records: Records, saver: Box<dyn Saver>) {
        let ports = records.get(PORTS).and_then(Value::as_array).into_iter().flatten();
        self.catalog.targets.remember_ports(ports.filter_map(read_port));
        self.store = Store::new(records, saver);
    }

    /// A write of the state file has ended.
    pub fn saved(&mut self, revision: u64, is_saved: bool, now: Tick) {
        for (then, is_saved) in self.store.saved(revision, is_saved, now) {
            self.after_save(then, is_saved);
        }
    }

    /// What time does to the state file, and what has changed since without anybody waiting for it.
    pub(super) fn serve_store(&mut self, now: Tick) {
        let ports =
            self.catalog.targets.moved_ports().map(|ports| {
                ports.map(|(target, tag, known)| (record_port(target, tag, known), known)).unzip()
            });
        if let Some((records, known)) = ports {
            let (records, known): (Vec<Value>, Vec<KnownPort>) = (records, known);
            let record = Some(Value::Array(records));
            if self.store.fits(PORTS, record.as_ref()) {
                self.store.set(PORTS, record);
            } else {
                tracing::error!(
                    "the state file is full: target ports may have other identifiers after a restart"
                );
            }
            let groups: BTreeSet<u16> = known.iter().map(KnownPort::group).collect();
            self.forget_groups(|number| groups.contains(&number));
        }
        for (then, is_saved) in self.store.expire(now) {
            self.after_save(then, is_saved);
        }
    }

    /// Changes a record; `then` follows when that is durable, at once where there is no key, so that nothing can be saved.
    pub(super) fn save(&mut self, key: Option<&str>, value: Option<Value>, then: AfterSave) {
        let then = match key {
            Some(key) => self.store.set_then(key, value, then, self.now),
            None => Some(then),
        };
        if let Some(then) = then {
            self.after_save(then, true);
        }
    }

    /// Whether a record can be as it is to be; where there is no key nothing is saved.
    pub(super) fn check_fits(&self, key: Option<&str>, value: Option<&Value>) -> Result<(), ChangeError> {
        match key {
            Some(key) if !self.store.fits(key, value) => Err(ChangeError::StateFull),
            _ => Ok(()),
        }
    }

    /// The key of a unit's record of this kind; none while its medium is not known.
    pub(super) fn record_key(&self, kind: &str, unit: UnitId) -> Option<String> {
        self.catalog.registry.uuid_of(unit).map(|uuid| format!("{kind}/{uuid}"))
    }

    /// Shows a unit as a command of this session has made it, if it could, and answers the command when everybody has seen it.
    pub(super) fn show_and_answer(
        &mut self,
        view: Option<UnitView>,
        session: SessionId,
        reactor: ReactorId,
        ticket: TaskTicket,
    ) {
        let then = Then::Answer { reactor, ticket, flushes: None };
        let outcome = match view.and_then(|view| self.show_unit(view, Some(session), then).ok()) {
            Some(true) => return,
            Some(false) => Outcome::GOOD,
            None => Outcome::check(Sense::INTERNAL_FAILURE),
        };
        self.outbox.send(reactor, ToReactor::Answered { asked: ticket, outcome, flushes: None });
    }

    fn after_save(&mut self, then: AfterSave, is_saved: bool) {
        match then {
            AfterSave::Reserve(decided) => self.decided(*decided, is_saved),
            AfterSave::Access(shifting) => self.shifted(*shifting, is_saved),
            AfterSave::Identity(choosing) => self.chosen(*choosing, is_saved),
            AfterSave::Identifying(written) => self.written(*written, is_saved),
            AfterSave::Sanitize(unit) => self.show_sanitize(unit, is_saved),
            AfterSave::Sanitized(unit) => self.sanitized(unit, is_saved),
            AfterSave::Array(done) => self.array_kept(done, is_saved),
        }
    }

    /// A unit with what was saved of it, where its medium is known by now.
    pub(super) fn restored(&mut self, view: UnitView) -> UnitView {
        if !self.store.is_there() {
            return view;
        }
        let Some(uuid) = self.catalog.registry.uuid_of(view.id) else {
            return UnitView { permits: Permits::unknown(), ..view };
        };
        let key = format!("{RESERVATIONS}/{uuid}");
        let saved = self.store.get(&key).cloned();
        let state = saved.map(|record| {
            read_reservations(&record, &mut |nexus| self.sessions.know(nexus)).and_then(State::restored)
        });
        let state = match state {
            None => State::new(true),
            Some(Some(state)) => state,
            Some(None) => {
                tracing::error!(record = key, "the state file has reservations that cannot be: forgotten");
                State::new(true)
            }
        };
        let settings = Settings { identifying: self.intended_identifying(&view), ..view.settings.clone() };
        let permits = Permits::new(Arc::new(state));
        let medium = self.saved_medium(view.id, view.medium);
        UnitView { permits, alua: self.recalled_alua(view.id, &uuid), settings, medium, ..view }
    }

    /// SET IDENTIFYING INFORMATION (SPC-5 §6.43): saved, then shown, then answered.
    ///
    /// # Errors
    /// It cannot be saved.
    pub(super) fn save_identifying(&mut self, ask: &Ask, identifying: Identifying) -> Result<(), Sense> {
        let Ask { unit, reactor, ticket, session, .. } = *ask;
        let record = record_identifying(&identifying);
        let written = Written { unit, identifying, reactor, ticket, session };
        let key = self.record_key(IDENTIFYING, unit);
        self.check_fits(key.as_deref(), record.as_ref()).map_err(|_| NO_ROOM)?;
        self.save(key.as_deref(), record, AfterSave::Identifying(Box::new(written)));
        Ok(())
    }

    fn written(&mut self, written: Written, is_saved: bool) {
        let Written { unit, identifying, reactor, ticket, session } = written;
        let view = self.catalog.registry.view(unit).filter(|_| is_saved);
        let shown = view.map(|view| {
            let settings = Settings { identifying, ..view.settings.clone() };
            UnitView { settings, ..UnitView::clone(view) }
        });
        self.show_and_answer(shown, session, reactor, ticket);
    }

    /// What hosts have written to tell a unit by, as it is or is going to be.
    pub(super) fn intended_identifying(&self, view: &UnitView) -> Identifying {
        match self.record_key(IDENTIFYING, view.id).filter(|_| self.store.is_there()) {
            Some(key) => self.store.get(&key).map(read_identifying).unwrap_or_default(),
            None => view.settings.identifying.clone(),
        }
    }

    /// The record of a unit's reservations; none where nothing is to be saved.
    pub(super) fn reservations_record(&self, state: &State) -> Option<Value> {
        let Saved { registrations, reservation } = state.to_save()?;
        let index = |holder| registrations.iter().position(|(nexus, _)| nexus.id == holder);
        let reservation = reservation
            .map(|(kind, holder)| json!({ "type": kind.code(), "holder": holder.and_then(index) }));
        let registrations = registrations.iter().filter_map(|(nexus, key)| {
            let Known { target, portal_group, .. } = self.sessions.nexus(nexus.id)?;
            let [.., a, b, c, d, e, f] = nexus.initiator.isid;
            Some(json!({
                "key": format!("{key:016x}"),
                "initiator": &*nexus.initiator.name,
                "isid": format!("{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}"),
                "target": target,
                "portal_group": portal_group,
                "port": nexus.target_port,
            }))
        });
        Some(json!({ "registrations": registrations.collect::<Vec<_>>(), "reservation": reservation }))
    }
}

fn record_identifying(identifying: &Identifying) -> Option<Value> {
    let Identifying { unit, text } = identifying;
    (*identifying != Identifying::default()).then(|| json!({ "unit": hex(unit), "text": hex(text) }))
}

fn read_identifying(record: &Value) -> Identifying {
    let bytes = |name| {
        let digits = record.get(name).and_then(Value::as_str).unwrap_or_default().as_bytes();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.as_chunks::<2>().0.iter().filter_map(byte).collect()
    };
    Identifying { unit: bytes("unit"), text: bytes("text") }
}

fn record_port(target: &str, tag: u16, known: KnownPort) -> Value {
    match known.group {
        None => json!([target, tag, known.port]),
        Some(group) => json!([target, tag, known.port, group]),
    }
}

/// The opposite: target, portal group, and what is known of the port.
fn read_port(record: &Value) -> Option<(String, u16, KnownPort)> {
    let (target, tag, port, group) = match record.as_array()?.as_slice() {
        [target, tag, port] => (target, tag, port, None),
        [target, tag, port, group] => (target, tag, port, Some(small(group)?)),
        _ => return None,
    };
    Some((target.as_str()?.to_owned(), small(tag)?, KnownPort { port: small(port)?, group }))
}

pub(super) fn small(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|value| u16::try_from(value).ok())
}

/// The opposite of [`Control::reservations_record`].
fn read_reservations(record: &Value, know: &mut impl FnMut(&Known) -> NexusId) -> Option<Saved> {
    let mut registrations = Vec::new();
    for registration in record.get("registrations")?.as_array()? {
        let text = |name| registration.get(name).and_then(Value::as_str);
        let isid = u64::from_str_radix(text("isid")?, 16).ok()?;
        let [0, 0, isid @ ..] = isid.to_be_bytes() else { return None };
        let initiator = InitiatorPort::new(text("initiator")?, isid);
        let id = know(&Known {
            initiator: initiator.name.to_string(),
            isid,
            target: text("target")?.to_owned(),
            portal_group: small(registration.get("portal_group")?)?,
        });
        let target_port = small(registration.get("port")?)?;
        let key = u64::from_str_radix(text("key")?, 16).ok()?;
        registrations.push((Nexus { id, initiator, target_port }, key));
    }
    let reservation = match record.get("reservation")? {
        Value::Null => None,
        reservation => {
            let kind = Type::decode(u8::try_from(small(reservation.get("type")?)?).ok()?)?;
            let holder = match reservation.get("holder")? {
                Value::Null => None,
                holder => {
                    let (nexus, _) = registrations.get(usize::from(small(holder)?))?;
                    Some(nexus.id)
                }
            };
            Some((kind, holder))
        }
    };
    Some(Saved { registrations, reservation })
}
