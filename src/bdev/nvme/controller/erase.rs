//! A namespace is erased as a whole: Format NVM with a secure erase (Base §5.14), which leaves the format as it is.
//!
//! The command has a time of its own. A controller may leave whatever else it is asked meanwhile until it has done that: so those
//! commands have that time too, but for signs of life, by which it is known that a controller on a network is there, and for those
//! that take a pair of queues away, which is how lanes get on that wait for a command of another namespace.

use std::collections::VecDeque;
use std::sync::mpsc;

use super::super::spec::Completion;
use super::super::spec::identify::{self, Namespace, fna, oacs};
use super::super::transport::AdminData;
use super::admin::Purpose;
use super::shared::Severity;
use super::{Controller, State, command};
use crate::bdev::Erasure;
use crate::time::Tick;

/// Namespaces that wait, at most.
const WANTED_MAX: usize = 64;

/// Who is told what came of it: nothing can be had back, or why not.
type Teller = mpsc::Sender<Result<(), String>>;

/// Namespaces that are to be erased.
#[derive(Debug, Default)]
pub(super) struct Erasing {
    /// The first is being erased, where `due` says until when.
    wanted: VecDeque<(Wanted, Teller)>,
    due: Option<Tick>,
}

/// A namespace of which all is to be erased that it holds ([`crate::bdev::Bdev::erase`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Its number.
    pub(crate) nsid: u32,
    /// Its medium: [`super::shared::Disk::uuid`].
    pub(crate) uuid: [u8; 16],
    /// How.
    pub(crate) how: Erasure,
}

impl Erasing {
    /// Until when the controller may take that is erasing something.
    pub(super) fn due(&self) -> Option<Tick> {
        self.due
    }

    /// Whether something is to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        self.due.is_none() && !self.wanted.is_empty()
    }
}

/// Whether a controller erases this namespace, and no other with it.
pub(crate) fn erases(controller: &identify::Controller, namespace: &Namespace, how: Erasure) -> bool {
    let is_alone =
        controller.format & (fna::FORMATS_ALL | fna::ERASES_ALL) == 0 || controller.namespaces == 1;
    let knows_how = match how {
        Erasure::Blocks => true,
        Erasure::Key => controller.format & fna::ERASES_KEY != 0,
    };
    controller.oacs & oacs::FORMAT_NVM != 0 && is_alone && knows_how && !namespace.is_read_only
}

impl Controller {
    /// Somebody wants a namespace erased.
    pub(super) fn want_erased(&mut self, wanted: Wanted, teller: Teller) {
        if self.erasing.wanted.len() < WANTED_MAX {
            self.erasing.wanted.push_back((wanted, teller));
        } else {
            let _ = teller.send(Err("the controller has too many others to erase".to_owned()));
        }
    }

    /// Sends the next Format NVM. What is known of the namespace has to be known for sure: not while it is being looked at.
    pub(super) fn drive_erasing(&mut self) {
        let is_being_told =
            self.events.is_busy() || self.admin.has(|purpose| matches!(purpose, Purpose::EventLog(_)));
        if !self.erasing.is_waiting() || self.scan.is_some() || is_being_told {
            return;
        }
        let Some(&(Wanted { nsid, uuid, how }, _)) = self.erasing.wanted.front() else { return };
        let disks = self.shared.disks();
        let Some(disk) = disks.iter().find(|disk| disk.nsid == nsid && disk.uuid == uuid) else {
            return self.tell_erased(Err("the namespace is gone".to_owned()));
        };
        let namespace = disk.namespace();
        if !erases(&self.identity, &namespace, how) {
            return self.tell_erased(Err("the controller does not erase this namespace alone".to_owned()));
        }
        let due = self.now.after_ns(self.options.erase_ns);
        self.erasing.due = Some(due);
        if !self.send(Purpose::Erase, &command::format(nsid, &namespace, how), AdminData::None) {
            self.erasing.due = None;
            return;
        }
        self.admin.set_due(due);
        self.say(Severity::Info, format_args!("namespace {nsid} is being erased"));
    }

    /// Format NVM has completed.
    pub(super) fn erased(&mut self, completion: &Completion) {
        self.erasing.due = None;
        self.admin.set_due(self.now.after_ns(self.options.admin_ns));
        if self.state == State::Running {
            // Where it does not tell of it by itself: whether the namespace is still what it was.
            self.begin_scan();
        }
        self.tell_erased(if completion.status.is_ok() {
            Ok(())
        } else {
            Err(format!("Format NVM ended in status {:#06x}", completion.status.bits()))
        });
    }

    fn tell_erased(&mut self, result: Result<(), String>) {
        let Some((Wanted { nsid, .. }, teller)) = self.erasing.wanted.pop_front() else { return };
        self.has_progress = true;
        match &result {
            Ok(()) => self.say(Severity::Info, format_args!("namespace {nsid} was erased")),
            Err(why) => self.say(Severity::Error, format_args!("namespace {nsid} was not erased: {why}")),
        }
        // Who asked may be gone.
        let _ = teller.send(result);
    }

    /// The controller was reset, or is given back: what becomes of an erasure nobody knows.
    pub(super) fn forget_erasing(&mut self) {
        self.erasing.due = None;
        while !self.erasing.wanted.is_empty() {
            self.tell_erased(Err("the controller was reset".to_owned()));
        }
    }
}
