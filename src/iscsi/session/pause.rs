//! Commands that wait for their turn under a ceiling ([`crate::qos`]), as far as they concern their session: what they hold, and
//! that they ask for no wider window.

use std::sync::Arc;

use super::Session;
use crate::iscsi::task::{Phase, Tasks};
use crate::limits;
use crate::qos::{Pace, Whose};
use crate::scsi::view::UnitView;
use crate::slab::Key;

/// What a session has of it.
#[derive(Debug)]
pub(super) struct Paused {
    /// What the initiator may ask for, where that has limits.
    pace: Option<Arc<Pace>>,
    /// Its commands that wait.
    count: u32,
    /// The data that came along with them.
    bytes: usize,
}

impl Paused {
    pub(super) fn new(pace: Option<Arc<Pace>>) -> Paused {
        Paused { pace, count: 0, bytes: 0 }
    }

    #[inline]
    pub(super) fn pace(&self) -> Option<&Arc<Pace>> {
        self.pace.as_ref()
    }

    pub(super) fn into_pace(self) -> Option<Arc<Pace>> {
        self.pace
    }
}

impl Session {
    /// What its initiator may ask for, where that has limits.
    #[inline]
    pub fn pace(&self) -> Option<&Pace> {
        self.paused.pace.as_deref()
    }

    /// The initiator may ask for something else from now on. What held before is given back.
    pub fn set_pace(&mut self, pace: Option<Arc<Pace>>) -> Option<Arc<Pace>> {
        std::mem::replace(&mut self.paused.pace, pace)
    }

    /// A command that was about to run waits, and holds so many bytes of data.
    pub fn pause(&mut self, key: Key, bytes: usize, tasks: &mut Tasks) {
        if let Some(task) = tasks.get_mut(key) {
            debug_assert!(task.phase != Phase::Paced, "it waits already");
            task.phase = Phase::Paced;
            task.paused_bytes = bytes;
            // The time that it waits is none of what comes after.
            task.ran_at = None;
            self.paused.count += 1;
            self.paused.bytes += bytes;
        }
    }

    /// It waits no longer.
    pub fn resume(&mut self, key: Key, tasks: &mut Tasks) {
        if let Some(task) = tasks.get_mut(key) {
            task.phase = Phase::Running;
            self.paused.count -= 1;
            self.paused.bytes -= task.paused_bytes;
        }
    }

    /// One whose turn has come has waited so long.
    pub fn count_wait(&self, whose: Whose, ns: u64) {
        self.meter.waited(whose, ns);
    }

    /// Whether any waits.
    pub fn has_paused(&self) -> bool {
        self.paused.count > 0
    }

    /// Whether the commands that wait hold so much that none is to bring along more, at this unit.
    pub(in crate::iscsi) fn is_laden(&self, unit: Option<&UnitView>, bytes: usize) -> bool {
        let has_ceiling = self.paused.pace.is_some() || unit.is_some_and(|view| view.pace.is_some());
        has_ceiling && self.paused.bytes + bytes > limits::PACED_BYTES_MAX
    }

    /// Whether more than half of the window is in use by commands that do not wait for a ceiling: for those that do, a wider one
    /// would be more to wait for. Where there are several LUNs they must not keep the others' commands out.
    #[cold]
    pub(super) fn may_widen(&self) -> bool {
        let at_work = self.window.unanswered().saturating_sub(self.paused.count);
        self.target.mappings.len() > 1 || at_work * 2 > self.window.size()
    }
}
