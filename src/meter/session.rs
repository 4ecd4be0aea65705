//! What a session has done. Its reactor counts, control keeps the sums when it is over.

use super::Count;
use crate::qos::{Waited, Whose};
use crate::scsi::sense::Sense;
use crate::scsi::{Outcome, Status};

/// What a command that did not end well is counted as: by sense key first (SPC-5 §4.4.7), then by status (SAM-5 §5.3.1).
pub const ENDINGS: [&str; 22] = [
    "no_sense",
    "recovered_error",
    "not_ready",
    "medium_error",
    "hardware_error",
    "illegal_request",
    "unit_attention",
    "data_protect",
    "blank_check",
    "vendor_specific",
    "copy_aborted",
    "aborted_command",
    "reserved",
    "volume_overflow",
    "miscompare",
    "completed",
    "busy",
    "reservation_conflict",
    "task_set_full",
    "task_aborted",
    "told_by_device",
    "other",
];

/// Commands of one direction.
#[derive(Debug, Default)]
struct Lane {
    commands: Count,
    bytes: Count,
}

impl Lane {
    fn moved(&self) -> Moved {
        Moved { commands: self.commands.get(), bytes: self.bytes.get() }
    }
}

/// Commands that have waited for one kind of ceiling.
#[derive(Debug, Default)]
struct Held {
    commands: Count,
    ns: Count,
}

/// A session's counters.
#[derive(Debug, Default)]
pub struct SessionMeter {
    reads: Lane,
    writes: Lane,
    others: Count,
    took_ns: Count,
    held: [Held; 2],
    endings: [Count; ENDINGS.len()],
}

/// The same, not merely alike.
impl PartialEq for SessionMeter {
    fn eq(&self, other: &SessionMeter) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for SessionMeter {}

impl SessionMeter {
    /// So many READs were answered, with so many bytes.
    #[inline(always)]
    pub fn read(&self, commands: u64, bytes: u64) {
        self.reads.commands.add(commands);
        self.reads.bytes.add(bytes);
    }

    /// So many WRITEs were answered, of so many bytes.
    #[inline(always)]
    pub fn wrote(&self, commands: u64, bytes: u64) {
        self.writes.commands.add(commands);
        self.writes.bytes.add(bytes);
    }

    /// Another command was answered.
    pub fn did(&self) {
        self.others.add(1);
    }

    /// What was just counted took so long.
    pub fn took(&self, ns: u64) {
        self.took_ns.add(ns);
    }

    /// A command has waited so long for a ceiling.
    pub fn waited(&self, whose: Whose, ns: u64) {
        let [unit, initiator] = &self.held;
        let held = match whose {
            Whose::Unit => unit,
            Whose::Initiator => initiator,
        };
        held.commands.add(1);
        held.ns.add(ns);
    }

    /// It ended like this.
    pub fn ended(&self, outcome: &Outcome) {
        if let Some(count) = ending(outcome).and_then(|index| self.endings.get(index)) {
            count.add(1);
        }
    }

    /// What it has done so far.
    pub fn work(&self) -> Work {
        Work {
            reads: self.reads.moved(),
            writes: self.writes.moved(),
            others: self.others.get(),
            took_ns: self.took_ns.get(),
            waited: self
                .held
                .each_ref()
                .map(|held| Waited { commands: held.commands.get(), ns: held.ns.get() }),
            endings: self.endings.each_ref().map(Count::get),
        }
    }
}

/// Where [`ENDINGS`] has how a command ended; nowhere if it ended well.
fn ending(outcome: &Outcome) -> Option<usize> {
    let key = |sense: Sense| usize::from(sense.key.code());
    Some(match (outcome.status, outcome.sense) {
        (Status::Good | Status::ConditionMet, _) => return None,
        (Status::CheckCondition, Some(sense)) => key(sense),
        (Status::Busy, _) => 16,
        (Status::ReservationConflict, _) => 17,
        (Status::TaskSetFull, _) => 18,
        (Status::TaskAborted, _) => 19,
        (Status::Told(0), _) => return None,
        (Status::Told(_), _) => 20,
        (Status::CheckCondition, None) => 21,
    })
}

/// Commands and their bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Moved {
    /// How many commands.
    pub commands: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What was done, by one session or by several together.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// READs of all kinds.
    pub reads: Moved,
    /// WRITEs of all kinds.
    pub writes: Moved,
    /// Other commands.
    pub others: u64,
    /// How long all of them together took, in nanoseconds; those on the short way none.
    pub took_ns: u64,
    /// Those that have waited for a ceiling of their logical unit, and of their initiator.
    pub waited: [Waited; 2],
    /// Those that did not end well, as [`ENDINGS`] names them.
    pub endings: [u64; ENDINGS.len()],
}

impl Work {
    /// So much more.
    pub fn add(&mut self, more: &Work) {
        for (moved, more) in [(&mut self.reads, more.reads), (&mut self.writes, more.writes)] {
            moved.commands = moved.commands.wrapping_add(more.commands);
            moved.bytes = moved.bytes.wrapping_add(more.bytes);
        }
        self.others = self.others.wrapping_add(more.others);
        self.took_ns = self.took_ns.wrapping_add(more.took_ns);
        for (waited, more) in self.waited.iter_mut().zip(more.waited) {
            waited.commands = waited.commands.wrapping_add(more.commands);
            waited.ns = waited.ns.wrapping_add(more.ns);
        }
        for (ending, more) in self.endings.iter_mut().zip(more.endings) {
            *ending = ending.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_by_how_they_ended() {
        let meter = SessionMeter::default();
        meter.read(1, 4096);
        meter.wrote(1, 512);
        meter.did();
        meter.took(70);
        meter.waited(Whose::Unit, 3);
        meter.waited(Whose::Initiator, 5);
        meter.waited(Whose::Initiator, 6);
        for outcome in [
            Outcome::GOOD,
            Outcome::of(Status::ConditionMet),
            Outcome::of(Status::Told(0)),
            Outcome::of(Status::Told(2)),
            Outcome::check(Sense::NO_SUCH_UNIT),
            Outcome::of(Status::Busy),
            Outcome::of(Status::ReservationConflict),
            Outcome::of(Status::ReservationConflict),
            Outcome::of(Status::TaskSetFull),
            Outcome::of(Status::TaskAborted),
        ] {
            meter.ended(&outcome);
        }
        let mut work = meter.work();
        let counted: Vec<(&str, u64)> =
            ENDINGS.into_iter().zip(work.endings).filter(|(_, count)| *count > 0).collect();
        let expected = [
            ("illegal_request", 1),
            ("busy", 1),
            ("reservation_conflict", 2),
            ("task_set_full", 1),
            ("task_aborted", 1),
            ("told_by_device", 1),
        ];
        assert_eq!(counted, expected);
        work.add(&meter.work());
        let moved = |commands, bytes| Moved { commands, bytes };
        assert_eq!((work.reads, work.writes), (moved(2, 8192), moved(2, 1024)));
        assert_eq!((work.others, work.took_ns, work.endings[17]), (2, 140, 4));
        let waited = |commands, ns| Waited { commands, ns };
        assert_eq!(work.waited, [waited(2, 6), waited(4, 22)]);
    }
}
