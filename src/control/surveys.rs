//! GET LBA STATUS: which blocks of a device take space is asked of it on threads of their own, as that may block. There is one thread for a
//! unit, and so many in all; what comes beyond waits its turn. A command that is given up is answered at once, whatever its device does.

use std::sync::Arc;

use super::Control;
use crate::bdev::Bdev;
use crate::bdev::allocation::Allocation;
use crate::id::{ReactorId, UnitId};
use crate::limits::SURVEYS_MAX;
use crate::net::Net;
use crate::reactor::message::{Ask, TaskTicket, ToReactor};
use crate::scsi::report::lba_status;
use crate::scsi::sense::Sense;
use crate::scsi::{Outcome, Status};

/// Who has asked.
type Asker = (ReactorId, TaskTicket);

/// What is being asked, and what waits for that.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    /// Commands that are not answered, in the order in which they came. Invariant: no longer than reactors have tasks.
    asked: Vec<Asked>,
    /// Units whose devices threads ask at this moment, for commands that may have been given up.
    busy: Vec<UnitId>,
}

#[derive(Debug)]
struct Asked {
    asker: Asker,
    unit: UnitId,
    lba: u64,
    is_begun: bool,
}

/// A device that is to be asked, by [`Survey::run`] on a thread.
#[derive(Debug)]
pub(super) struct Survey {
    asker: Asker,
    unit: UnitId,
    lba: u64,
    bdev: Arc<dyn Bdev>,
}

/// What it has told, for [`Control::surveyed`].
#[derive(Debug)]
pub(super) struct Surveyed {
    asker: Asker,
    unit: UnitId,
    allocation: Allocation,
}

impl Survey {
    /// Asks the device. It may block.
    pub(super) fn run(self) -> Surveyed {
        let Survey { asker, unit, lba, bdev } = self;
        let allocation = bdev.allocation(lba, u32::MAX);
        // It may be the last that has it.
        drop(bdev);
        Surveyed { asker, unit, allocation }
    }

    /// Without asking.
    pub(super) fn not_run(&self) -> Surveyed {
        Surveyed { asker: self.asker, unit: self.unit, allocation: Allocation::default() }
    }
}

impl<N: Net> Control<N> {
    /// From now on somebody looks for [`Control::survey_due`] and [`Control::erase_due`] after each turn.
    pub(super) fn ask_on_threads(&mut self) {
        self.has_threads = true;
    }

    /// A command wants to know which blocks of a unit take space.
    pub(super) fn survey(&mut self, ask: &Ask) {
        let (asker, lba) = ((ask.reactor, ask.ticket), lba_status::lba(&ask.cdb));
        self.surveys.asked.push(Asked { asker, unit: ask.unit, lba, is_begun: false });
        if !self.has_threads {
            while let Some(survey) = self.survey_due() {
                self.surveyed(survey.run());
            }
        }
    }

    /// The next device that is to be asked.
    pub(super) fn survey_due(&mut self) -> Option<Survey> {
        loop {
            let Surveys { asked, busy, .. } = &mut self.surveys;
            if busy.len() >= SURVEYS_MAX {
                return None;
            }
            let index = asked.iter().position(|asked| !asked.is_begun && !busy.contains(&asked.unit))?;
            let next = &mut asked[index];
            let Asked { asker, unit, lba, .. } = *next;
            let Some(entry) = self.catalog.registry.entry_of(unit) else {
                asked.remove(index);
                self.answer_survey(asker, Outcome::check(Sense::NO_SUCH_UNIT));
                continue;
            };
            next.is_begun = true;
            busy.push(unit);
            return Some(Survey { asker, unit, lba, bdev: Arc::clone(&entry.spec.bdev) });
        }
    }

    /// A device was asked.
    pub(super) fn surveyed(&mut self, surveyed: Surveyed) {
        let Surveyed { asker, unit, allocation } = surveyed;
        let Surveys { asked, busy, .. } = &mut self.surveys;
        busy.retain(|other| *other != unit);
        if let Some(index) = asked.iter().position(|asked| asked.asker == asker) {
            asked.remove(index);
            let (reactor, asked) = asker;
            let allocation = Box::new(allocation);
            self.outbox.send(reactor, ToReactor::Surveyed { asked, allocation });
        }
    }

    /// A command that asked is given up.
    pub(super) fn withdraw_survey(&mut self, reactor: ReactorId, ticket: TaskTicket) {
        let asked = &mut self.surveys.asked;
        if let Some(index) = asked.iter().position(|asked| asked.asker == (reactor, ticket)) {
            asked.remove(index);
            self.answer_survey((reactor, ticket), Outcome::of(Status::TaskAborted));
        }
    }

    fn answer_survey(&mut self, (reactor, asked): Asker, outcome: Outcome) {
        self.outbox.send(reactor, ToReactor::Answered { asked, outcome, flushes: None });
    }
}
