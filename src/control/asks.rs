//! Commands that change what a logical unit is to everybody: reactors ask, control decides.

use serde_json::{Value, json};

use super::Control;
use super::keeper::Then;
use super::saving::AfterSave;
use crate::id::{ReactorId, SessionId, UnitId};
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket, ToReactor};
use crate::scsi::alua;
use crate::scsi::chore::{FORMAT_UNIT, SANITIZE};
use crate::scsi::report::identifying::Identifying;
use crate::scsi::report::mode;
use crate::scsi::report::timestamp::{self, Clock};
use crate::scsi::sense::Sense;
use crate::scsi::table::{
    MAINTENANCE_OUT, MODE_SELECT_6, MODE_SELECT_10, PREVENT_ALLOW_MEDIUM_REMOVAL, START_STOP_UNIT, Table,
};
use crate::scsi::view::{Settings, UnitView};
use crate::scsi::{Outcome, Status};

impl<N: Net> Control<N> {
    /// A command that a reactor asks about. It is answered exactly once: here, or when a barrier has ended.
    pub(super) fn asked(&mut self, ask: Box<Ask>) {
        match ask.cdb.opcode() {
            _ if !self.may(&ask) => self.answer(&ask, Outcome::of(Status::ReservationConflict)),
            MODE_SELECT_6 | MODE_SELECT_10 => {
                if let Some(outcome) = self.mode_select(&ask) {
                    self.answer(&ask, outcome);
                }
            }
            SANITIZE | FORMAT_UNIT => {
                if let Some(outcome) = self.chore(&ask) {
                    self.answer(&ask, outcome);
                }
            }
            MAINTENANCE_OUT if ask.cdb.service_action() == alua::SET_ACTION => {
                match self.set_port_groups(&ask) {
                    Ok(None) => {}
                    Ok(Some(outcome)) => self.answer(&ask, outcome),
                    Err(sense) => self.answer(&ask, Outcome::check(sense)),
                }
            }
            MAINTENANCE_OUT => {
                if let Some(outcome) = self.set(&ask) {
                    self.answer(&ask, outcome);
                }
            }
            START_STOP_UNIT | PREVENT_ALLOW_MEDIUM_REMOVAL => {
                if let Some(outcome) = self.move_medium(&ask) {
                    self.answer(&ask, outcome);
                }
            }
            _ => self.reserve(ask),
        }
    }

    /// Decides a command.
    pub(super) fn answer(&mut self, ask: &Ask, outcome: Outcome) {
        let answer = ToReactor::Answered { asked: ask.ticket, outcome, is_flushed: false };
        self.outbox.send(ask.reactor, answer);
    }

    /// Whether reservations let the command through. They did when it was admitted.
    fn may(&self, ask: &Ask) -> bool {
        let Some(view) = self.catalog.registry.view(ask.unit) else { return true };
        let Ok(row) = Table::of(view.kind).find(&ask.cdb) else { return true };
        let nexus = self.sessions.nexus_of(ask.session);
        nexus.is_none_or(|nexus| view.permits.allows(nexus, row.class.of(&ask.cdb)))
    }

    /// MODE SELECT (SPC-5 §6.12): the new modes hold for everybody before it is answered, and all other nexuses are told. A
    /// cache that is switched off is flushed once no write that relied on it is left in the device.
    fn mode_select(&mut self, ask: &Ask) -> Option<Outcome> {
        let Some(old) = self.catalog.registry.view(ask.unit) else {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        };
        let modes = match mode::select(&ask.cdb, &ask.parameters, old) {
            Ok(modes) if modes == old.modes => return Some(Outcome::GOOD),
            Ok(modes) => modes,
            Err(sense) => return Some(Outcome::check(sense)),
        };
        if self.keeper.is_full() {
            return Some(Outcome::of(Status::Busy));
        }
        let view = UnitView { modes, ..UnitView::clone(old) };
        let is_flushed = view.is_write_through() && !old.is_write_through();
        let then = Then::Answer { reactor: ask.reactor, ticket: ask.ticket, is_flushed };
        match self.show_unit(view, Some(ask.session), then) {
            Ok(_) => None,
            Err(_) => Some(Outcome::check(Sense::NO_SUCH_UNIT)),
        }
    }

    /// SET TIMESTAMP and SET IDENTIFYING INFORMATION (SPC-5 §6.46, §6.43): all other nexuses are told. What identifies is
    /// saved first.
    fn set(&mut self, ask: &Ask) -> Option<Outcome> {
        let Some(old) = self.catalog.registry.view(ask.unit) else {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        };
        let mut settings = old.settings.clone();
        let set = match ask.cdb.service_action() {
            timestamp::ACTION => Clock::set(&ask.parameters, self.now).map(|clock| settings.clock = clock),
            _ => settings
                .identifying
                .set(&ask.cdb, &ask.parameters)
                .map(|identifying| settings.identifying = identifying),
        };
        if let Err(sense) = set {
            return Some(Outcome::check(sense));
        }
        if settings == old.settings {
            return Some(Outcome::GOOD);
        }
        if self.keeper.is_full() {
            return Some(Outcome::of(Status::Busy));
        }
        let record = settings.identifying.record();
        let writing = Writing {
            reactor: ask.reactor,
            ticket: ask.ticket,
            session: ask.session,
            unit: ask.unit,
            settings,
        };
        match self.catalog.registry.uuid_of(ask.unit) {
            Some(uuid) if ask.cdb.service_action() != timestamp::ACTION => {
                let after = AfterSave::Identifying(Box::new(writing));
                self.save(&identifying_key(&uuid), record, after);
            }
            _ => self.written(writing, true),
        }
        None
    }

    /// What a host has written is saved, or is not going to be.
    pub(super) fn written(&mut self, writing: Writing, is_saved: bool) {
        let Writing { reactor, ticket, session, unit, settings } = writing;
        let answer = |outcome| ToReactor::Answered { asked: ticket, outcome, is_flushed: false };
        let old = self.catalog.registry.view(unit).filter(|_| is_saved);
        let Some(view) = old.map(|old| UnitView { settings, ..UnitView::clone(old) }) else {
            return self.outbox.send(reactor, answer(Outcome::check(Sense::INTERNAL_FAILURE)));
        };
        let then = Then::Answer { reactor, ticket, is_flushed: false };
        if !self.show_unit(view, Some(session), then).is_ok_and(|is_told| is_told) {
            self.outbox.send(reactor, answer(Outcome::GOOD));
        }
    }

    /// What was saved of what hosts have written.
    pub(super) fn saved_identifying(&self, unit: UnitId) -> Identifying {
        let uuid = self.catalog.registry.uuid_of(unit);
        let record = uuid.and_then(|uuid| self.store.get(&identifying_key(&uuid)));
        record.and_then(Identifying::read).unwrap_or_default()
    }
}

fn identifying_key(uuid: &str) -> String {
    format!("identifying/{uuid}")
}

/// What SET TIMESTAMP or SET IDENTIFYING INFORMATION sets, on its way.
#[derive(Debug)]
pub(super) struct Writing {
    reactor: ReactorId,
    ticket: TaskTicket,
    session: SessionId,
    unit: UnitId,
    settings: Settings,
}

/// As the state file has it, both in hexadecimal digits.
trait Record: Sized {
    fn record(&self) -> Option<Value>;
    fn read(record: &Value) -> Option<Self>;
}

impl Record for Identifying {
    fn record(&self) -> Option<Value> {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        (*self != Identifying::default()).then(|| json!({ "unit": hex(&self.unit), "text": hex(&self.text) }))
    }

    fn read(record: &Value) -> Option<Identifying> {
        let bytes = |name| {
            let digits = record.get(name)?.as_str()?;
            let pair = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
            (0..digits.len()).step_by(2).map(pair).collect::<Option<Vec<u8>>>()
        };
        let (unit, text) = (bytes("unit")?, bytes("text")?);
        (unit.len() <= 64 && text.len() <= 256).then_some(Identifying { unit, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_identifies_is_read_as_it_was_recorded() {
        let given = Identifying { unit: vec![0, 0xff], text: b"ab\0".to_vec() };
        let record = given.record().unwrap();
        assert_eq!(record, json!({ "unit": "00ff", "text": "616200" }));
        assert_eq!(Identifying::read(&record), Some(given));
        assert_eq!(Identifying::default().record(), None);
        for wrong in
            [json!({ "unit": "0", "text": "" }), json!({ "unit": "zz", "text": "" }), json!({ "unit": "" })]
        {
            assert_eq!(Identifying::read(&wrong), None);
        }
    }
}
