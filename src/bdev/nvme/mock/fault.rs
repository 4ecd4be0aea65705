//! Ways in which a controller fails, each switched on by itself.

use crate::sim::rng::Rng;

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// An IO command is taken and never completed.
    NeverCompletes,
    /// An IO command is completed only some time after an abort that did not get it.
    CompletesAfterAbort,
    /// A completion for a command that there is not.
    UnknownCommand,
    /// A command is completed twice.
    CompletesTwice,
    /// Completions are posted with the phase of the round before.
    StuckPhase,
    /// Entries ahead of the completion queue's tail turn their phase.
    FlippedPhase,
    /// Completions tell an impossible head of the submission queue.
    WrongHead,
    /// Completions name another submission queue.
    WrongQueue,
    /// CSTS.CFS.
    Fatal,
    /// CSTS.RDY does not become 1.
    NeverReady,
    /// CSTS.RDY does not become 0, and the controller goes on.
    NeverStops,
    /// Identify answers with noise.
    GarbageIdentify,
    /// Queues are refused.
    RefusesQueues,
    /// Reads and writes fail on their medium, with an entry in the error log.
    Media,
    /// Reads and writes fail on their medium; the error log knows nothing.
    MediaWithoutLog,
    /// Reads and writes fail by protection information.
    Protection,
    /// Commands end in any status.
    AnyStatus,
    /// DELETE IO SUBMISSION QUEUE is never completed.
    DeleteHangs,
    /// Commands of a deleted queue are completed after it was deleted.
    CompletesAfterDelete,
    /// The reset from outside fails.
    ResetFails,
    /// An async event that nobody has heard of.
    StrangeEvent,
    /// FORMAT NVM fails, and erases nothing.
    FormatFails,
}

impl Fault {
    /// All that any driver meets: not those of what is asked for by itself.
    pub(crate) const ALL: [Fault; 21] = [
        Fault::NeverCompletes,
        Fault::CompletesAfterAbort,
        Fault::UnknownCommand,
        Fault::CompletesTwice,
        Fault::StuckPhase,
        Fault::FlippedPhase,
        Fault::WrongHead,
        Fault::WrongQueue,
        Fault::Fatal,
        Fault::NeverReady,
        Fault::NeverStops,
        Fault::GarbageIdentify,
        Fault::RefusesQueues,
        Fault::Media,
        Fault::MediaWithoutLog,
        Fault::Protection,
        Fault::AnyStatus,
        Fault::DeleteHangs,
        Fault::CompletesAfterDelete,
        Fault::ResetFails,
        Fault::StrangeEvent,
    ];
}

/// The faults that are switched on.
#[derive(Clone, Default, Debug)]
pub(super) struct Faults {
    on: Vec<(Fault, u64)>,
    /// What has happened.
    pub(super) struck: Vec<Fault>,
}

impl Faults {
    /// From now on at one in so many opportunities.
    pub(super) fn set(&mut self, fault: Fault, one_in: u64) {
        self.on.retain(|(known, _)| *known != fault);
        self.on.push((fault, one_in));
    }

    pub(super) fn clear(&mut self) {
        self.on.clear();
    }

    /// Whether it happens now. Chance is asked only where the fault is on.
    pub(super) fn strikes(&mut self, fault: Fault, rng: &mut Rng) -> bool {
        let strikes = self.on.iter().any(|(known, one_in)| *known == fault && rng.one_in(*one_in));
        if strikes && !self.struck.contains(&fault) {
            self.struck.push(fault);
        }
        strikes
    }
}
