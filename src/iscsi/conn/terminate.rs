//! FastAbort (RFC 7143 §4.2.3.4): an initiator is told that its commands at a LUN are terminated, and says when it sends no
//! more data for them. Until then their tags are valid: what comes is dropped.

use super::{Conn, Cx, Life};
use crate::iscsi::task::{Phase, Task};
use crate::iscsi::tx::StatSn;
use crate::iscsi::wire::{AsyncMessage, NopOut, TAG_NONE};
use crate::limits;

/// AsyncEvent of a task termination (RFC 7143 §11.9.1).
const TASK_TERMINATION: u8 = 5;

impl Conn {
    /// Whether TaskReporting is FastAbort here (RFC 7143 §13.23).
    pub fn is_fast_abort(&self) -> bool {
        self.params.fast_abort
    }

    /// RFC 7143 §11.9.1: tells that the tasks of this connection at this LUN that `is_covered` names are terminated, and marks
    /// them. Not where answers pile up, or nothing more is sent: whether it was told.
    pub fn tell_terminated(
        &mut self,
        lun: [u8; 8],
        is_covered: &dyn Fn(&Task) -> bool,
        cx: &mut Cx<'_>,
    ) -> bool {
        if self.life != Life::Open || self.tx.control_count() >= limits::CONTROL_REPLIES_MAX {
            return false;
        }
        let stat_sn = self.tx.stat_sn_behind(cx.tx);
        let message = AsyncMessage { lun, event: TASK_TERMINATION, parameters: [0; 3] };
        self.push_control(message.encode(), None, StatSn::Consume, cx);
        let mut at = cx.session.tasks.first();
        while let Some(key) = at {
            at = cx.tasks.next(key);
            if let Some(task) = cx.tasks.get_mut(key)
                && task.conn == self.key
                && task.lun == lun
                && task.terminated.is_none()
                && is_covered(task)
            {
                task.terminated = Some(stat_sn);
                task.data_at = cx.now;
            }
        }
        true
    }

    /// RFC 7143 §4.2.3.4: no more data come for the tasks that were given up on this connection, which was not told of them.
    pub fn excuse_given_up(&mut self, cx: &mut Cx<'_>) {
        let mut at = cx.session.tasks.first();
        while let Some(key) = at {
            at = cx.tasks.next(key);
            if let Some(task) = cx.tasks.get_mut(key)
                && task.conn == self.key
                && task.phase == Phase::Swallowing
                && task.terminated.is_none()
            {
                Task::excuse_data(task);
            }
        }
    }

    /// RFC 7143 §4.2.3.4: a NOP-Out that acknowledges a task termination. The tags are free, and no more data are owed: whether
    /// there were any such tasks, which may end now.
    pub(super) fn terminated(&mut self, nop: &NopOut, cx: &mut Cx<'_>) -> bool {
        if !self.params.fast_abort || nop.ttt != TAG_NONE || self.tx.stat_sn().is_before(nop.exp_stat_sn) {
            // Or it cannot know what it says.
            return false;
        }
        let mut is_any = false;
        let mut at = cx.session.tasks.first();
        while let Some(key) = at {
            at = cx.tasks.next(key);
            if let Some(task) = cx.tasks.get_mut(key)
                && task.conn == self.key
                && task.lun == nop.lun
                && task.terminated.is_some_and(|told| told.is_before(nop.exp_stat_sn))
            {
                task.excuse_data();
                is_any = true;
            }
        }
        is_any
    }
}
