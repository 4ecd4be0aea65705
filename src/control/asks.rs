//! Commands that change what a logical unit is to everybody: reactors ask, control decides.

use super::Control;
use super::keeper::Then;
use crate::net::Net;
use crate::reactor::message::{Ask, ToReactor};
use crate::scsi::alua;
use crate::scsi::chore::{FORMAT_UNIT, SANITIZE};
use crate::scsi::report::timestamp::{self, Clock};
use crate::scsi::report::{lba_status, mode};
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
            lba_status::SERVICE_ACTION_IN => self.survey(&ask),
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
        let answer = ToReactor::Answered { asked: ask.ticket, outcome, flushes: None };
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
    /// cache that is switched off is flushed once no write that relied on it is left in the device. What is selected again is
    /// answered no sooner: it may have been another's, who waits for it or was aborted.
    fn mode_select(&mut self, ask: &Ask) -> Option<Outcome> {
        let Some(old) = self.catalog.registry.view(ask.unit) else {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        };
        let modes = match mode::select(&ask.cdb, &ask.parameters, old) {
            Ok(modes) => modes,
            Err(sense) => return Some(Outcome::check(sense)),
        };
        if self.keeper.is_full() {
            return Some(Outcome::of(Status::Busy));
        }
        let view = UnitView { modes, ..UnitView::clone(old) };
        // Also where the cache was off before: nobody knows how the flush of then has ended.
        let flushes = view.is_write_through().then_some(ask.unit);
        let then = Then::Answer { reactor: ask.reactor, ticket: ask.ticket, flushes };
        match self.show_unit(view, Some(ask.session), then) {
            Ok(_) => {
                // A threshold that was set may be met already.
                self.space_measured(ask.unit);
                None
            }
            Err(_) => Some(Outcome::check(Sense::NO_SUCH_UNIT)),
        }
    }

    /// SET TIMESTAMP and SET IDENTIFYING INFORMATION (SPC-5 §6.46, §6.43): all other nexuses are told.
    fn set(&mut self, ask: &Ask) -> Option<Outcome> {
        let Some(old) = self.catalog.registry.view(ask.unit) else {
            return Some(Outcome::check(Sense::NO_SUCH_UNIT));
        };
        // With what is still being saved.
        let mut settings = Settings { identifying: self.intended_identifying(old), ..old.settings.clone() };
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
        if self.keeper.is_full() {
            return Some(Outcome::of(Status::Busy));
        }
        // What is written again may not have been saved yet.
        if ask.cdb.service_action() != timestamp::ACTION {
            return self.save_identifying(ask, settings.identifying).err().map(Outcome::check);
        }
        let settings = Settings { clock: settings.clock, ..old.settings.clone() };
        let view = UnitView { settings, ..UnitView::clone(old) };
        let then = Then::Answer { reactor: ask.reactor, ticket: ask.ticket, flushes: None };
        match self.show_unit(view, Some(ask.session), then) {
            Ok(_) => None,
            Err(_) => Some(Outcome::check(Sense::NO_SUCH_UNIT)),
        }
    }
}
