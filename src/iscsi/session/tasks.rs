//! Which of a session's tasks a task management function, a reset or a change of reservations covers.

use super::Session;
use crate::id::UnitId;
use crate::iscsi::conn::TmfCall;
use crate::iscsi::task::{Phase, Task, Tasks};
use crate::scsi::Status;
use crate::scsi::view::LunNumber;
use crate::slab::Key;

impl Session {
    /// The next task that the nexus itself gives up: at this LUN, whatever that led to when the task came (at any, where
    /// none is given), and from before the function. It may have been aborted by another nexus: then it is to end in silence,
    /// not in TASK ABORTED.
    pub fn next_of_own(&self, number: Option<LunNumber>, call: &TmfCall, tasks: &Tasks) -> Option<Key> {
        self.waiting_first(|task| is_of_own(task, number, call), tasks)
    }

    /// The next task of `unit` that is not aborted yet, and not `except`.
    pub fn next_to_abort(&self, unit: UnitId, except: Option<Key>, tasks: &Tasks) -> Option<Key> {
        let spared = except.and_then(|key| tasks.get(key));
        let is_covered = |task: &Task| {
            let is_spared = spared.is_some_and(|spared| std::ptr::eq(spared, task));
            is_to_abort(task, unit) && !is_spared
        };
        self.waiting_first(is_covered, tasks)
    }

    /// Those that have not started go first, so that none starts because one before it has ended.
    fn waiting_first(&self, is_covered: impl Fn(&Task) -> bool, tasks: &Tasks) -> Option<Key> {
        let waits = tasks.find(&self.tasks, |task| is_covered(task) && task.phase != Phase::Running);
        waits.or_else(|| tasks.find(&self.tasks, is_covered))
    }

    /// RFC 7144 §6.4.2, QUERY TASK SET: whether the nexus has a command at this LUN.
    pub fn has_task_at(&self, number: LunNumber, tasks: &Tasks) -> bool {
        tasks.find(&self.tasks, |task| task.number == Some(number) && !task.is_over()).is_some()
    }

    /// RFC 7144 §6.4.2, QUERY ASYNCHRONOUS EVENT: what the nexus is to be told first at this LUN, as SAM-5 §7.10 packs it
    /// (UADE DEPTH and sense key, additional sense code, its qualifier).
    pub fn event_at(&self, number: LunNumber) -> Option<[u8; 3]> {
        /// How many there are: one, or more.
        const DEPTH_ONE: u8 = 0x10;
        const DEPTH_MORE: u8 = 0x20;
        let (index, _) = self.target.mapping(number)?;
        let mut attentions = *self.attentions.get(index)?;
        let sense = attentions.take()?.sense();
        let depth = if attentions.is_empty() { DEPTH_ONE } else { DEPTH_MORE };
        Some([depth | sense.key.code(), sense.asc, sense.ascq])
    }

    /// Whether data are still owed for aborted tasks of `unit` (of any, where none is given).
    pub fn is_swallowing(&self, unit: Option<UnitId>, tasks: &Tasks) -> bool {
        let is_so = |task: &Task| task.phase == Phase::Swallowing && (unit.is_none() || task.unit == unit);
        tasks.find(&self.tasks, is_so).is_some()
    }

    /// Whether control has not answered yet what it was asked about a task that was aborted in silence: one of `unit` (of
    /// any, where none is given).
    pub fn is_asking(&self, unit: Option<UnitId>, tasks: &Tasks) -> bool {
        let is_so = |task: &Task| {
            task.is_asked && task.phase == Phase::Swallowing && (unit.is_none() || task.unit == unit)
        };
        tasks.find(&self.tasks, is_so).is_some()
    }

    /// The next aborted task that awaits nothing but data: to be retired ([`crate::iscsi::conn::Conn::retire`]).
    pub fn next_to_retire(&self, tasks: &Tasks) -> Option<Key> {
        tasks.find(&self.tasks, Task::may_retire)
    }

    /// The same of one connection, whose initiator sends no more data for what it has given up there. Not of those that it was
    /// told of, which it has yet to acknowledge.
    pub fn next_to_retire_on(&self, conn: Key, tasks: &Tasks) -> Option<Key> {
        tasks.find(&self.tasks, |task| task.conn == conn && task.may_retire() && task.terminated.is_none())
    }

    /// The next that awaits nothing but data, of `unit` (of any, where none is given), on another connection than the one that has
    /// asked, where nobody could be told that it is terminated.
    pub fn next_untold(&self, unit: Option<UnitId>, asking: Key, tasks: &Tasks) -> Option<Key> {
        let is_so = |task: &Task| {
            task.conn != asking
                && task.may_retire()
                && task.terminated.is_none()
                && (unit.is_none() || task.unit == unit)
        };
        tasks.find(&self.tasks, is_so)
    }

    /// The next task of a connection that is told to be terminated, and is not yet: its LUN.
    pub fn next_to_tell(
        &self,
        conn: Key,
        is_covered: &dyn Fn(&Task) -> bool,
        tasks: &Tasks,
    ) -> Option<[u8; 8]> {
        let is_new = |task: &Task| task.conn == conn && task.terminated.is_none() && is_covered(task);
        tasks.get(tasks.find(&self.tasks, is_new)?).map(|task| task.lun)
    }

    /// The next task of a connection that was told to be terminated, and of which no more data are awaited.
    pub fn next_terminated(&self, conn: Key, tasks: &Tasks) -> Option<Key> {
        let is_so = |task: &Task| task.conn == conn && task.terminated.is_some() && !task.is_owed_data();
        tasks.find(&self.tasks, is_so)
    }
}

/// Whether the nexus gives it up itself by this function: see [`Session::next_of_own`].
pub fn is_of_own(task: &Task, number: Option<LunNumber>, call: &TmfCall) -> bool {
    let is_older = match task.is_immediate {
        // Its CmdSN does not tell: it may be the function's as well.
        true => task.arrival <= call.arrival,
        false => task.cmd_sn.is_before(call.cmd_sn),
    };
    is_older && !task.is_over() && (number.is_none() || task.number == number)
}

/// Whether it is a task of `unit` that is not aborted yet.
pub fn is_to_abort(task: &Task, unit: UnitId) -> bool {
    let is_told = task.outcome.is_some_and(|outcome| outcome.status == Status::TaskAborted);
    task.unit == Some(unit) && !task.is_over() && !is_told
}
