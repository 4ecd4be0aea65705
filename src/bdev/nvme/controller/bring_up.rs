//! The way from a controller that has just been enabled to one that works: one admin command after the other.

use super::super::spec::Completion;
use super::super::spec::identify::{self, NvmLimits, cns, oacs};
use super::super::transport::{ADMIN_DATA_BYTES, AdminData};
use super::admin::Purpose;
use super::logs::{Health, page};
use super::shared::{About, Severity};
use super::{Controller, State, command};
use crate::limits::NVME_GUESTS;

/// log2 of the size of entries, of submission and completion queues (Base figure 275: SQES, CQES).
const ENTRY_SHIFTS: (u8, u8) = (6, 4);
/// An IO queue has room for one command less than entries.
const ENTRIES_MIN: u32 = 2;

/// Controllers before this version are not asked for limits that they cannot know.
const LIMITS_VERSION: u32 = 0x0001_0400;

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// What is the controller?
    Identify,
    /// How much may commands cover that move no data?
    Limits,
    /// It grants pairs of IO queues.
    Queues,
    /// Doorbells move to memory, where controller and transport can.
    Doorbells,
    /// Which events are told of.
    Events,
    /// It is told how long we may be silent.
    KeepAlive,
    /// How often did it lose its power? Where it has a cache, what was in that is gone then.
    Power,
    /// What are its namespaces?
    Scan,
}

impl Step {
    fn next(self) -> Option<Step> {
        match self {
            Step::Identify => Some(Step::Limits),
            Step::Limits => Some(Step::Queues),
            Step::Queues => Some(Step::Doorbells),
            Step::Doorbells => Some(Step::Events),
            Step::Events => Some(Step::KeepAlive),
            Step::KeepAlive => Some(Step::Power),
            Step::Power => Some(Step::Scan),
            Step::Scan => None,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Step::Identify => "what it is",
            Step::Limits => "for its limits",
            Step::Queues => "for IO queues",
            Step::Doorbells => "for doorbells in memory",
            Step::Events => "for events",
            Step::KeepAlive => "for keep-alive",
            Step::Power => "for its power cycles",
            Step::Scan => "for its namespaces",
        }
    }
}

impl Controller {
    /// Sends the step's command, or goes on to the next.
    pub(super) fn drive_step(&mut self, step: Step, is_sent: bool) {
        if step == Step::Scan {
            self.drive_scan();
            if self.scan.is_none() && !self.has_trouble() {
                self.enter_step(step.next());
            }
            return;
        }
        if is_sent || self.now < self.not_before {
            return;
        }
        let (command, data) = match step {
            Step::Identify => (Some(command::identify(cns::CONTROLLER, 0)), AdminData::In),
            Step::Limits if self.limits.version >= LIMITS_VERSION => {
                (Some(command::identify(cns::NVM_CONTROLLER, 0)), AdminData::In)
            }
            Step::Queues => (
                Some(command::number_of_queues(self.options.reactors.saturating_add(NVME_GUESTS))),
                AdminData::None,
            ),
            Step::Doorbells if self.identity.oacs & oacs::DOORBELL_BUFFER != 0 => {
                (self.transport.doorbell_buffer(), AdminData::None)
            }
            Step::Events => (Some(command::async_events(self.event_mask())), AdminData::None),
            Step::KeepAlive if self.limits.needs_keep_alive => {
                (Some(command::keep_alive_time_out(self.options.keep_alive_ms)), AdminData::None)
            }
            Step::Power if self.identity.has_write_cache => {
                (Some(command::log_page(page::HEALTH, 512, true)), AdminData::In)
            }
            Step::Limits | Step::Doorbells | Step::KeepAlive | Step::Power | Step::Scan => {
                (None, AdminData::None)
            }
        };
        let Some(command) = command else { return self.enter_step(step.next()) };
        if self.send(Purpose::BringUp, &command, data) {
            self.state = State::BringUp { step, is_sent: true };
        }
    }

    /// The step's command has completed.
    pub(super) fn step_done(&mut self, completion: &Completion, page: Option<&[u8; ADMIN_DATA_BYTES]>) {
        let State::BringUp { step, is_sent: true } = self.state else { return };
        if !completion.status.is_ok() {
            let (words, status) = (step.words(), completion.status.bits());
            match step {
                // It can do without these.
                Step::Limits | Step::Doorbells | Step::Power => {}
                Step::Events => {
                    self.say(Severity::Warn, format_args!("it tells of no events (status {status:#06x})"))
                }
                // The connection has the time-out that it was made with.
                Step::KeepAlive => {}
                Step::Identify | Step::Queues | Step::Scan => {
                    return self.trouble(format!("asked {words}, it says status {status:#06x}"));
                }
            }
            return self.enter_step(step.next());
        }
        match (step, page) {
            (Step::Identify, Some(page)) => self.identified(identify::Controller::decode(page)),
            (Step::Identify, None) => self.trouble("it does not say what it is"),
            (Step::Limits, page) => self.nvm = page.map(NvmLimits::decode).unwrap_or_default(),
            (Step::Queues, _) => self.granted(command::granted(completion.result)),
            (Step::Events, _) => self.want_events(),
            (Step::Power, Some(page)) => self.powered(&Health::decode(page)),
            (Step::Doorbells | Step::KeepAlive | Step::Power | Step::Scan, _) => {}
        }
        if !self.has_trouble() && matches!(self.state, State::BringUp { .. }) {
            self.enter_step(step.next());
        }
    }

    /// Begins a step, or, where there is none left, work.
    pub(super) fn enter_step(&mut self, step: Option<Step>) {
        let Some(step) = step else { return self.enter_running() };
        self.has_progress = true;
        self.state = State::BringUp { step, is_sent: false };
        if step == Step::Scan {
            self.begin_scan();
        }
    }

    fn identified(&mut self, identity: identify::Controller) {
        let fits = |shift: u8, sizes: u8| sizes & 0xF <= shift && shift <= sizes >> 4;
        let (submission, completion) = identity.entry_sizes;
        if !fits(ENTRY_SHIFTS.0, submission) || !fits(ENTRY_SHIFTS.1, completion) {
            return self.trouble(format!(
                "it wants queue entries of other sizes ({submission:#x}, {completion:#x})"
            ));
        }
        if self.limits.entries_max < ENTRIES_MIN {
            return self.trouble(format!("its IO queues have {} entries", self.limits.entries_max));
        }
        let who = |of: &identify::Controller| (of.serial.clone(), of.model.clone(), of.subnqn.clone());
        if self.has_run && who(&identity) != who(&self.identity) {
            let words =
                format!("another controller answers in its place ({} {})", identity.model, identity.serial);
            return self.give_up(&format!("{words}: detach it, and attach that one"));
        }
        (self.identity, self.nvm) = (identity, NvmLimits::default());
    }

    /// So often it lost its power in its life. Where that is another number than before, what it had answered and not been asked to
    /// flush may be gone, and a flush that comes now says nothing of that.
    fn powered(&mut self, health: &Health) {
        let now = (health.power_cycles, health.unsafe_shutdowns);
        let before = self.power.replace(now);
        self.has_lost_power |= self.has_run && before.is_some_and(|before| before != now);
    }

    fn granted(&mut self, pairs: u32) {
        let wanted = self.options.reactors;
        self.queues = u16::try_from(pairs).unwrap_or(u16::MAX).min(wanted.saturating_add(NVME_GUESTS));
        if self.queues < wanted && !self.has_run {
            return self.give_up(&format!(
                "it grants {pairs} pairs of IO queues, and each of {wanted} reactors needs one: run fewer reactors (--cores)"
            ));
        }
        self.shared.set_about(About {
            identity: self.identity.clone(),
            limits: self.limits,
            nvm: self.nvm,
            queues: self.queues.min(wanted),
            place: self.transport.name(),
        });
    }
}
