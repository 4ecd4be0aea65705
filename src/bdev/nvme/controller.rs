//! A controller, as a machine of named states that never waits: bring-up, administration, recovery, the end.
//!
//! ```text
//!             Resetting ──▶ BringUp(step) ──▶ Running ──▶ Draining ──▶ Stopping ──▶ Over
//!                 ▲  │           │               │           └──────┬──────┘         ▲
//!                 │  └───────────┴──▶ Pausing    │                  ▼                │
//!                 ├─────────────────────┘  │     │    no more    Fencing ────────────┘
//!                 └────────────────────────┼─────┘    tries   ──────▲
//!                                          └────────────────────────┘
//! ```
//!
//! Whatever goes wrong is noted ([`Controller::trouble`]) and dealt with in one place, at the end of a poll: the controller
//! is reset as a whole. Lanes hear that their pairs are gone once the transport says that the device is quiet, and never
//! before. Every state has its time; nothing that a controller answers is believed before it was looked at.

mod admin;
mod asked;
mod bring_up;
mod command;
pub(crate) mod erase;
mod events;
mod lanes;
pub(crate) mod logs;
mod queries;
mod recovery;
mod scan;
pub(crate) mod shared;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, mpsc};

use self::admin::{Admin, Purpose};
use self::asked::Asked;
use self::bring_up::Step;
use self::erase::Erasing;
use self::events::Events;
use self::lanes::Lane;
use self::logs::ErrorLog;
use self::scan::Scan;
use self::shared::{Answer, Event, Hook, Life, Options, Query, Severity, Shared};
use super::planted::planted;
use super::spec::{Command, admin as opcode, identify};
use super::transport::{ADMIN_DATA_BYTES, AdminData, Limits, Progress, Transport};
use crate::time::{MS_NS, SECOND_NS, Tick};

/// How soon to look again while something is being done.
const SOON_NS: u64 = MS_NS;
/// How often the controller is looked at when nothing is.
const CHECK_NS: u64 = 100 * MS_NS;
/// The whole of a bring-up has so long.
const BRING_UP_NS: u64 = 60 * SECOND_NS;
/// Completions taken in one go.
const COMPLETIONS_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The transport resets and enables it.
    Resetting,
    /// It is asked what has to be known.
    BringUp { step: Step, is_sent: bool },
    /// It works.
    Running,
    /// It did not come up, and is tried again.
    Pausing { until: Tick },
    /// It is given back: pairs are deleted.
    Draining { until: Tick },
    /// It shuts down.
    Stopping,
    /// It is given up: nobody's memory is given back before it is quiet.
    Fencing { is_starting: bool, next: Tick },
    /// It is quiet for good.
    Over,
}

/// A controller.
pub(crate) struct Controller {
    transport: Box<dyn Transport>,
    options: Options,
    shared: Arc<Shared>,
    hook: Hook,
    state: State,
    now: Tick,
    /// What went wrong in this poll.
    wrong: Option<String>,
    /// Something was done in this poll: there may be more to do.
    has_progress: bool,
    admin: Admin,
    limits: Limits,
    identity: identify::Controller,
    nvm: identify::NvmLimits,
    /// Power cycles, and those without notice, as it told of them last.
    power: Option<(u128, u128)>,
    /// It lost its power since its namespaces were looked at.
    has_lost_power: bool,
    /// Pairs of IO queues that it granted.
    queues: u16,
    /// It has worked once.
    has_run: bool,
    /// Lanes have been told of the last reset.
    is_swept: bool,
    /// Tries in a row that failed.
    tries: u32,
    /// When it was lost.
    lost: Tick,
    /// The bring-up does not begin before.
    not_before: Tick,
    /// It is over by then.
    up_due: Tick,
    /// It was said that it does not stop.
    has_said_stuck: bool,
    resets: VecDeque<Tick>,
    /// The operator wants the reset that comes.
    is_reset_asked: bool,
    next_check: Tick,
    next_keep_alive: Tick,
    is_detaching: bool,
    scan: Option<Scan>,
    /// Namespaces of which was said that they cannot be served.
    complaints: Vec<u32>,
    events: Events,
    lanes: Vec<Lane>,
    lanes_made: u64,
    asked: Asked,
    erasing: Erasing,
    queries: VecDeque<(Query, mpsc::Sender<Result<Answer, String>>)>,
    /// Of the query that is being answered.
    error_log: ErrorLog,
}

impl Controller {
    /// A controller that is reached by `transport`. The first poll begins to reset it.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        options: Options,
        shared: Arc<Shared>,
        hook: Hook,
        now: Tick,
    ) -> Controller {
        let limits = Limits { entries_max: 0, version: 0, page_bytes_min: 4096, needs_keep_alive: false };
        let mut controller = Controller {
            transport,
            options,
            shared,
            hook,
            state: State::Resetting,
            now,
            wrong: None,
            has_progress: false,
            admin: Admin::new(),
            limits,
            identity: identify::Controller::default(),
            nvm: identify::NvmLimits::default(),
            power: None,
            has_lost_power: false,
            queues: 0,
            has_run: false,
            is_swept: false,
            tries: 0,
            lost: now,
            not_before: now,
            up_due: now,
            has_said_stuck: false,
            resets: VecDeque::new(),
            is_reset_asked: false,
            next_check: now,
            next_keep_alive: now,
            is_detaching: false,
            scan: None,
            complaints: Vec::new(),
            events: Events::new(),
            lanes: Vec::new(),
            lanes_made: 0,
            asked: Asked::default(),
            erasing: Erasing::default(),
            queries: VecDeque::new(),
            error_log: ErrorLog::default(),
        };
        controller.begin();
        controller
    }

    /// Does what can be done at the moment; to be called again at the time that it gives, or when a port or an order wakes
    /// its thread.
    #[must_use]
    pub(crate) fn poll(&mut self, now: Tick) -> Tick {
        if self.state == State::Over {
            return now.after_ns(SECOND_NS);
        }
        self.now = now;
        self.has_progress = false;
        self.admit();
        self.completions();
        self.advance();
        self.serve_lanes();
        self.check();
        if let Some(why) = self.wrong.take() {
            self.has_progress = true;
            self.recover(&why);
        }
        self.next()
    }

    /// Whether there is nothing left to do, for ever: who drives it drops it, which lets the device go, and then calls
    /// [`Shared::set_over`].
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Something is wrong: the controller is reset when this poll ends.
    fn trouble(&mut self, why: impl Into<String>) {
        if self.wrong.is_none() {
            self.wrong = Some(why.into());
        }
    }

    fn has_trouble(&self) -> bool {
        self.wrong.is_some()
    }

    fn tell(&self, event: Event) {
        (self.hook)(event);
    }

    fn say(&self, severity: Severity, words: fmt::Arguments<'_>) {
        let (name, place) = (&self.options.name, self.transport.name());
        self.tell(Event::Said(severity, format!("NVMe controller {name} ({place}): {words}")));
    }

    /// Sends an admin command that has its time; false where there is no room for it yet.
    fn send(&mut self, purpose: Purpose, command: &Command, data: AdminData<'_>) -> bool {
        let due = self.now.after_ns(self.options.admin_ns);
        let due = match purpose {
            Purpose::Event => None,
            Purpose::KeepAlive => Some(due),
            // IO that waits for another namespace is not to wait for hours.
            Purpose::Pair(_) if matches!(command.opcode, opcode::DELETE_SQ | opcode::DELETE_CQ) => Some(due),
            _ => Some(self.erasing.due().unwrap_or(due)),
        };
        let is_sent = self.admin.send(&mut *self.transport, purpose, command, data, due);
        // It may be done at once.
        self.has_progress |= is_sent;
        is_sent
    }

    /// New lanes, and orders.
    fn admit(&mut self) {
        while let Some(port) = self.shared.ports.pop() {
            self.has_progress = true;
            self.lanes_made += 1;
            self.lanes.push(Lane::new(self.lanes_made, port));
        }
        self.take_orders();
    }

    /// Takes what the controller has completed.
    fn completions(&mut self) {
        for _ in 0..COMPLETIONS_MAX {
            if !self.is_answering() || self.has_trouble() {
                return;
            }
            let Some((completion, data)) = self.transport.pop(self.now) else { return };
            let data = data.map(|data| Box::new(*data));
            let data = data.as_deref().filter(|_| completion.status.is_ok());
            self.has_progress = true;
            match self.admin.complete(completion.cid) {
                None => self.trouble("it completed an admin command that it does not have"),
                Some(Purpose::BringUp) => self.step_done(&completion, data),
                Some(Purpose::Scan) => self.scanned(&completion, data.unwrap_or(&[0; ADMIN_DATA_BYTES])),
                Some(Purpose::Event) => self.event(&completion),
                Some(Purpose::EventLog(log)) => self.event_log(log, data),
                Some(Purpose::KeepAlive) if completion.status.is_ok() => {}
                Some(Purpose::KeepAlive) => self.trouble("it does not know us any more"),
                Some(Purpose::Pair(lane)) => self.pair_done(lane, &completion),
                Some(Purpose::Abort) => {}
                Some(Purpose::Blocks) => self.blocks_found(data),
                Some(Purpose::Query) => self.answer(data),
                Some(Purpose::Erase) => self.erased(&completion),
            }
        }
    }

    /// Whether it is asked anything: what it completes in other states is of no use.
    fn is_answering(&self) -> bool {
        matches!(self.state, State::BringUp { .. } | State::Running | State::Draining { .. })
    }

    /// What its state asks for.
    fn advance(&mut self) {
        match self.state {
            _ if self.has_trouble() => {}
            State::Resetting => match self.transport.poll_start(self.now) {
                Progress::Pending => self.sweep_if(self.transport.is_quiet() || planted!(SweptTooEarly)),
                Progress::Ready(limits) => {
                    self.sweep_if(true);
                    self.limits = limits;
                    (self.up_due, self.next_keep_alive) = (self.now.after_ns(BRING_UP_NS), self.now);
                    self.enter_step(Some(Step::Identify));
                }
                Progress::Failed(why) => self.trouble(why),
            },
            State::BringUp { .. } if self.up_due <= self.now => self.trouble("its bring-up takes too long"),
            State::BringUp { step, is_sent } => {
                if step == Step::Scan {
                    self.keep_alive();
                }
                self.drive_step(step, is_sent);
            }
            State::Running => {
                self.drive_events();
                self.drive_scan();
                self.drive_queries();
                self.drive_erasing();
                self.keep_alive();
            }
            State::Pausing { until } => {
                self.sweep_if(self.transport.is_quiet());
                if until <= self.now {
                    self.begin();
                }
            }
            State::Draining { until } => {
                self.keep_alive();
                if self.lanes.is_empty() || until <= self.now {
                    self.shut_down();
                }
            }
            State::Stopping => match self.transport.poll_stop(self.now) {
                Progress::Pending => {}
                Progress::Ready(()) => self.fence(),
                Progress::Failed(why) => self.trouble(why),
            },
            State::Fencing { is_starting, next } => self.drive_fence(is_starting, next),
            State::Over => {}
        }
    }

    fn sweep_if(&mut self, is_quiet: bool) {
        if is_quiet && !self.is_swept {
            self.is_swept = true;
            self.sweep();
            self.has_progress = true;
        }
    }

    /// Sends a sign of life, where it is time.
    fn keep_alive(&mut self) {
        let half_ns = u64::from(self.options.keep_alive_ms.max(2)) * MS_NS / 2;
        if self.limits.needs_keep_alive
            && self.next_keep_alive <= self.now
            && self.admin.count(Purpose::KeepAlive) == 0
            && self.send(Purpose::KeepAlive, &command::keep_alive(), AdminData::None)
        {
            self.next_keep_alive = self.now.after_ns(half_ns);
        }
    }

    /// Time-outs, and whether the controller is there.
    fn check(&mut self) {
        if let Some(purpose) = self.admin.overdue(self.now) {
            let what = match purpose {
                Purpose::BringUp | Purpose::Scan => "when asked what it is",
                Purpose::Event | Purpose::EventLog(_) => "when asked for an event",
                Purpose::KeepAlive => "to a sign of life",
                Purpose::Pair(_) => "when an IO queue was made or deleted",
                Purpose::Abort => "when a command was aborted",
                Purpose::Blocks | Purpose::Query => "when asked for a log",
                Purpose::Erase => "when a namespace was erased",
            };
            self.trouble(format!("it did not answer {what}"));
        }
        if self.is_answering() && self.next_check <= self.now {
            self.next_check = self.now.after_ns(CHECK_NS);
            if let Err(why) = self.transport.check() {
                self.trouble(why);
            }
        }
    }

    fn enter_running(&mut self) {
        let is_back = self.has_run;
        (self.has_run, self.tries, self.state) = (true, 0, State::Running);
        self.has_progress = true;
        self.shared.set_life(Life::Running);
        let identify::Controller { model, serial, firmware, .. } = &self.identity;
        let words = if is_back { "it works again" } else { "attached" };
        let queues = self.queues.min(self.options.reactors);
        self.say(
            Severity::Info,
            format_args!(
                "{words}: {model}, serial number {serial}, firmware {firmware}, {queues} pairs of IO queues"
            ),
        );
        if is_back {
            self.tell(Event::Recovered);
        }
    }

    /// When to look again.
    fn next(&self) -> Tick {
        let soon = self.now.after_ns(SOON_NS);
        if self.has_progress {
            return self.now;
        }
        match self.state {
            State::Over => self.now.after_ns(SECOND_NS),
            State::Pausing { until } => until.min(self.now.after_ns(CHECK_NS)),
            State::Running if !self.is_busy() => {
                let mut next = self.now.after_ns(CHECK_NS).min(self.next_check);
                if self.limits.needs_keep_alive {
                    next = next.min(self.next_keep_alive);
                }
                self.events.due().map_or(next, |due| next.min(due)).max(soon)
            }
            State::Fencing { is_starting: false, .. } => self.now.after_ns(CHECK_NS),
            _ => soon,
        }
    }

    fn is_busy(&self) -> bool {
        self.admin.is_busy()
            || self.scan.is_some()
            || self.events.is_busy()
            || !self.queries.is_empty()
            || !self.asked.is_empty()
            || self.erasing.is_waiting()
            || self.lanes_wait()
    }
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Controller { transport, state, .. } = self;
        f.debug_struct("Controller")
            .field("transport", transport)
            .field("state", state)
            .finish_non_exhaustive()
    }
}
