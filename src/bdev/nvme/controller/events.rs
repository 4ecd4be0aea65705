//! What a controller tells of itself unasked (Base §5.2), and how often it is listened to.

use std::collections::VecDeque;

use super::super::spec::Completion;
use super::super::transport::{ADMIN_DATA_BYTES, AdminData};
use super::admin::Purpose;
use super::logs::{Health, errors, page};
use super::shared::Severity;
use super::{Controller, command};
use crate::time::{SECOND_NS, Tick};

/// Requests for events that are kept at the controller.
const REQUESTS: u16 = 4;
/// Events that are listened to within [`WINDOW_NS`].
const EVENTS_MAX: u32 = 32;
const WINDOW_NS: u64 = 10 * SECOND_NS;
/// The same event is said again after so long.
const SAID_NS: u64 = 60 * SECOND_NS;
/// Critical warnings of the health log.
const HEALTH_EVENTS: u32 = 0x1F;
/// Namespaces changed; firmware is about to be activated. In the mask and in OAES alike.
const NOTICES: u32 = 1 << 8 | 1 << 9;

/// Event types, in bits 2:0 of the result.
mod kind {
    pub(super) const ERROR: u8 = 0;
    pub(super) const HEALTH: u8 = 1;
    pub(super) const NOTICE: u8 = 2;
}

/// Events that are awaited, and those that are being looked into.
#[derive(Debug)]
pub(super) struct Events {
    /// Requests that the controller is to have.
    wanted: u16,
    /// Log pages to be read, each once.
    logs: VecDeque<u8>,
    /// Events heard since `window`.
    heard: u32,
    window: Tick,
    /// When an event of each type was said last.
    said: [Option<Tick>; 8],
}

impl Events {
    pub(super) fn new() -> Events {
        Events { wanted: 0, logs: VecDeque::new(), heard: 0, window: Tick::ZERO, said: [None; 8] }
    }

    /// The controller was reset: it has no requests any more.
    pub(super) fn clear(&mut self) {
        self.wanted = 0;
        self.logs.clear();
    }

    /// When requests are sent again, where they are held back.
    pub(super) fn due(&self) -> Option<Tick> {
        (self.heard >= EVENTS_MAX).then(|| self.window.after_ns(WINDOW_NS))
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.logs.is_empty()
    }

    fn want_log(&mut self, log: u8) {
        if !self.logs.contains(&log) {
            self.logs.push_back(log);
        }
    }
}

impl Controller {
    /// The mask of events that the controller can tell of.
    pub(super) fn event_mask(&self) -> u32 {
        HEALTH_EVENTS | self.identity.oaes & NOTICES
    }

    /// Events are listened to from now on.
    pub(super) fn want_events(&mut self) {
        self.events.wanted = self.identity.async_events.clamp(1, REQUESTS);
    }

    /// Keeps requests for events at the controller, and reads what they told of.
    pub(super) fn drive_events(&mut self) {
        if self.now.since_ns(self.events.window) >= WINDOW_NS {
            (self.events.window, self.events.heard) = (self.now, 0);
        }
        while self.events.heard < EVENTS_MAX
            && self.admin.count(Purpose::Event) < usize::from(self.events.wanted)
        {
            if !self.send(Purpose::Event, &command::async_event_request(), AdminData::None) {
                break;
            }
        }
        if let Some(&log) = self.events.logs.front()
            && !self.admin.has(|purpose| matches!(purpose, Purpose::EventLog(_)))
        {
            let bytes = if log == page::ERRORS {
                64
            } else if log == page::HEALTH {
                512
            } else {
                4096
            };
            if self.send(Purpose::EventLog(log), &command::log_page(log, bytes, false), AdminData::In) {
                self.events.logs.pop_front();
            }
        }
    }

    /// A request for an event has completed (Base figure 145).
    pub(super) fn event(&mut self, completion: &Completion) {
        if !completion.status.is_ok() {
            // Fewer are taken than the controller said, or none.
            self.events.wanted = self.events.wanted.saturating_sub(1);
            if self.events.wanted == 0 {
                let words = "it tells of no events: after a change to its namespaces, rescan or reset it";
                self.say(Severity::Warn, format_args!("{words}"));
            }
            return;
        }
        self.events.heard = self.events.heard.saturating_add(1);
        if self.events.heard == EVENTS_MAX {
            self.say_event(
                7,
                Severity::Warn,
                "it tells of one event after the other: it is listened to less often",
            );
        }
        let [low, info, ..] = completion.result.to_le_bytes();
        match (low & 7, info) {
            (kind::ERROR, 3) => self.trouble("it reports a persistent internal error"),
            (kind::ERROR, 0 | 1) => {
                self.say_event(0, Severity::Warn, "it reports a write to a doorbell that makes no sense");
                self.events.want_log(page::ERRORS);
            }
            (kind::ERROR, _) => {
                self.say_event(0, Severity::Warn, "it reports an internal error");
                self.events.want_log(page::ERRORS);
            }
            (kind::HEALTH, _) => self.events.want_log(page::HEALTH),
            (kind::NOTICE, 0) => self.events.want_log(page::CHANGED_NAMESPACES),
            (kind::NOTICE, 1) => {
                self.say_event(2, Severity::Info, "new firmware is activated: it may pause");
            }
            _ => {}
        }
    }

    /// The log that an event told of was read, where it could be.
    pub(super) fn event_log(&mut self, log: u8, data: Option<&[u8; ADMIN_DATA_BYTES]>) {
        match (log, data) {
            (page::CHANGED_NAMESPACES, _) => self.begin_scan(),
            (page::HEALTH, Some(data)) => {
                if let Some(warning) = Health::decode(data).warning() {
                    let words = format!("it warns: {warning}; back its data up and replace it");
                    self.say_event(1, Severity::Error, &words);
                }
            }
            (page::ERRORS, Some(data)) => {
                if let Some(entry) = errors(data, 1).first() {
                    let words = format!("its error log begins with status {:#06x}", entry.status >> 1);
                    self.say_event(3, Severity::Info, &words);
                }
            }
            _ => {}
        }
    }

    /// Says something of an event, unless that was done a short time ago.
    fn say_event(&mut self, topic: usize, severity: Severity, words: &str) {
        let said = &mut self.events.said[topic & 7];
        if said.is_none_or(|at| self.now.since_ns(at) >= SAID_NS) {
            *said = Some(self.now);
            self.say(severity, format_args!("{words}"));
        }
    }
}
