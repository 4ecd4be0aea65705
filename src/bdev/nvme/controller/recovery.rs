//! When something goes wrong, and when it is over: resets, tries, the fence, the end.

use super::super::transport::Progress;
use super::logs::ErrorLog;
use super::shared::{Event, Life, Patience, Severity};
use super::{Controller, State};
use crate::time::{MS_NS, SECOND_NS, Tick};

/// Resets within [`RESETS_NS`], at most.
const RESETS_MAX: usize = 5;
const RESETS_NS: u64 = 60 * SECOND_NS;
/// Pause before a controller on the bus is tried again, and between tries to make one quiet.
const BUS_PAUSE_NS: u64 = 100 * MS_NS;
const FENCE_PAUSE_NS: u64 = 10 * SECOND_NS;

impl Controller {
    /// Begins to reset the controller: whatever it was asked is not answered any more.
    pub(super) fn begin(&mut self) {
        self.forget_questions();
        self.is_swept = false;
        self.transport.start(self.now);
        self.state = State::Resetting;
        self.has_progress = true;
    }

    pub(super) fn forget_questions(&mut self) {
        self.admin.clear();
        self.events.clear();
        self.scan = None;
        self.error_log = ErrorLog::default();
        self.forget_asked();
        self.forget_erasing();
        for (_, answer) in self.queries.drain(..) {
            let _ = answer.send(Err("the controller was reset".to_owned()));
        }
    }

    /// Something went wrong.
    pub(super) fn recover(&mut self, why: &str) {
        match self.state {
            State::Running => {
                self.say(Severity::Warn, format_args!("{why}: it is reset"));
                self.shared.set_life(Life::Recovering);
                self.tell(Event::Lost);
                (self.lost, self.tries) = (self.now, 0);
                self.resets.retain(|at| self.now.since_ns(*at) < RESETS_NS);
                let is_asked = std::mem::take(&mut self.is_reset_asked);
                if is_asked || self.resets.len() < RESETS_MAX {
                    self.resets.extend((!is_asked).then_some(self.now));
                    self.begin();
                    return;
                }
                match self.options.patience {
                    Patience::Tries(_) => self.give_up(&format!(
                        "reset {RESETS_MAX} times within a minute, and again: {why}; look at its health, then detach and \
                         attach it"
                    )),
                    Patience::Time { pause_ns, .. } => {
                        self.not_before = self.now.after_ns(pause_ns);
                        self.begin();
                    }
                }
            }
            State::Resetting | State::BringUp { .. } => self.failed(why),
            State::Draining { .. } => {
                self.say(Severity::Warn, format_args!("{why}: it is shut down as it is"));
                self.shut_down();
            }
            State::Stopping => {
                self.say(Severity::Warn, format_args!("it did not shut down: {why}"));
                self.fence();
            }
            State::Pausing { .. } | State::Fencing { .. } | State::Over => {}
        }
    }

    /// Shuts it down; what it still says does not matter.
    pub(super) fn shut_down(&mut self) {
        self.forget_questions();
        self.transport.stop(self.now);
        self.state = State::Stopping;
        self.has_progress = true;
    }

    /// A try to bring it up failed.
    pub(super) fn failed(&mut self, why: &str) {
        self.tries = self.tries.saturating_add(1);
        self.sweep_if(self.transport.is_quiet());
        self.forget_questions();
        let (is_last, pause_ns) = match self.options.patience {
            Patience::Tries(tries) => (self.tries >= tries, BUS_PAUSE_NS),
            Patience::Time { total_ns, pause_ns } => {
                let is_over = total_ns.is_some_and(|total| self.now.since_ns(self.lost) >= total);
                (is_over || !self.has_run, pause_ns)
            }
        };
        if is_last {
            return self.give_up(&format!("{why}; detach it, and attach it again when that is mended"));
        }
        if self.tries == 1 {
            self.say(Severity::Warn, format_args!("{why}: it is tried again"));
        }
        if let Err(why) = self.transport.reset_bus() {
            self.say(Severity::Info, format_args!("it is not reset from outside: {why}"));
        }
        self.state = State::Pausing { until: self.now.after_ns(pause_ns) };
    }

    /// It is gone for good.
    pub(super) fn give_up(&mut self, why: &str) {
        self.say(Severity::Error, format_args!("given up: {why}"));
        self.remove_disks();
        self.shared.set_life(Life::Gone(why.to_owned()));
        self.tell(Event::Gone);
        self.fence();
    }

    pub(super) fn remove_disks(&mut self) {
        let disks = self.shared.disks();
        self.shared.set_disks(Vec::new());
        for disk in disks {
            disk.remove();
            self.tell(Event::Removed(disk));
        }
    }

    /// It is given back.
    pub(super) fn detach(&mut self) {
        if std::mem::replace(&mut self.is_detaching, true) {
            return;
        }
        self.remove_disks();
        match self.state {
            State::Running => {
                self.scan = None;
                self.state = State::Draining { until: self.now.after_ns(self.options.admin_ns) };
            }
            State::Resetting | State::BringUp { .. } | State::Pausing { .. } => self.fence(),
            State::Draining { .. } | State::Stopping | State::Fencing { .. } | State::Over => {}
        }
    }

    /// Waits until it is quiet, by all means.
    pub(super) fn fence(&mut self) {
        self.forget_questions();
        self.is_swept = false;
        self.state = State::Fencing { is_starting: false, next: self.now };
        self.has_progress = true;
        if self.transport.is_quiet() {
            self.end();
        }
    }

    pub(super) fn drive_fence(&mut self, is_starting: bool, next: Tick) {
        let is_quiet = if is_starting {
            match self.transport.poll_start(self.now) {
                Progress::Ready(_) => true,
                Progress::Pending => self.transport.is_quiet(),
                Progress::Failed(why) => {
                    if !self.transport.is_quiet() && !std::mem::replace(&mut self.has_said_stuck, true) {
                        let words =
                            "it does not stop, so the memory that it may write to is kept; power it off";
                        self.say(Severity::Error, format_args!("{words}: {why}"));
                    }
                    let next = self.now.after_ns(FENCE_PAUSE_NS);
                    self.state = State::Fencing { is_starting: false, next };
                    self.transport.is_quiet()
                }
            }
        } else {
            self.transport.is_quiet()
        };
        if is_quiet {
            return self.end();
        }
        if !is_starting && next <= self.now {
            // What it says is of no use here: whether it is quiet counts.
            let _ = self.transport.reset_bus();
            self.transport.start(self.now);
            self.state = State::Fencing { is_starting: true, next };
            self.has_progress = true;
        }
    }

    /// It is quiet for good.
    pub(super) fn end(&mut self) {
        self.dismiss();
        self.state = State::Over;
        if self.is_detaching {
            self.shared.set_life(Life::Detached);
            self.say(Severity::Info, format_args!("detached"));
        }
    }
}
