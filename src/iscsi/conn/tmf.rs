//! Task management (RFC 7143 §11.5, §11.6): what is asked, and what it does to this nexus's tasks.

use super::{Conn, Cx, Life, Request};
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::obligation::End;
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Outcome, Phase, Task};
use crate::iscsi::tx::StatSn;
use crate::iscsi::window::Place as SnPlace;
use crate::iscsi::wire::{Bhs, TmfRequest, TmfResponse};
use crate::scsi::Status;
use crate::scsi::view::LunNumber;
use crate::slab::Key;

/// Function codes (RFC 7143 §11.5.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TmfFunction {
    /// 1.
    AbortTask,
    /// 2.
    AbortTaskSet,
    /// 3.
    ClearAca,
    /// 4.
    ClearTaskSet,
    /// 5.
    LogicalUnitReset,
    /// 6.
    TargetWarmReset,
    /// 7.
    TargetColdReset,
    /// 8.
    TaskReassign,
    /// 9 (RFC 7144 §6.3), as the three that follow.
    QueryTask,
    /// 10.
    QueryTaskSet,
    /// 11.
    NexusReset,
    /// 12.
    QueryAsyncEvent,
    /// Any other.
    Unknown(u8),
}

impl TmfFunction {
    /// From the wire.
    pub const fn from_code(code: u8) -> TmfFunction {
        match code {
            1 => TmfFunction::AbortTask,
            2 => TmfFunction::AbortTaskSet,
            3 => TmfFunction::ClearAca,
            4 => TmfFunction::ClearTaskSet,
            5 => TmfFunction::LogicalUnitReset,
            6 => TmfFunction::TargetWarmReset,
            7 => TmfFunction::TargetColdReset,
            8 => TmfFunction::TaskReassign,
            9 => TmfFunction::QueryTask,
            10 => TmfFunction::QueryTaskSet,
            11 => TmfFunction::NexusReset,
            12 => TmfFunction::QueryAsyncEvent,
            other => TmfFunction::Unknown(other),
        }
    }

    /// Whether it gives up commands.
    pub const fn aborts(self) -> bool {
        self.is_of_many() || matches!(self, TmfFunction::AbortTask | TmfFunction::NexusReset)
    }

    /// Whether it covers commands that it does not name (RFC 7143 §4.2.3.3).
    pub const fn is_of_many(self) -> bool {
        matches!(
            self,
            TmfFunction::AbortTaskSet
                | TmfFunction::ClearTaskSet
                | TmfFunction::LogicalUnitReset
                | TmfFunction::TargetWarmReset
                | TmfFunction::TargetColdReset
        )
    }

    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            TmfFunction::AbortTask => 1,
            TmfFunction::AbortTaskSet => 2,
            TmfFunction::ClearAca => 3,
            TmfFunction::ClearTaskSet => 4,
            TmfFunction::LogicalUnitReset => 5,
            TmfFunction::TargetWarmReset => 6,
            TmfFunction::TargetColdReset => 7,
            TmfFunction::TaskReassign => 8,
            TmfFunction::QueryTask => 9,
            TmfFunction::QueryTaskSet => 10,
            TmfFunction::NexusReset => 11,
            TmfFunction::QueryAsyncEvent => 12,
            TmfFunction::Unknown(code) => code,
        }
    }
}

/// A task management function to be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TmfCall {
    /// Initiator task tag.
    pub itt: u32,
    /// What.
    pub function: TmfFunction,
    /// Where; none where the field names no LUN that could exist.
    pub number: Option<LunNumber>,
    /// Which task, for ABORT TASK.
    pub referenced_itt: u32,
    /// Its CmdSN.
    pub ref_cmd_sn: Sn,
    /// CmdSN of the function itself: later commands are not its concern.
    pub cmd_sn: Sn,
    /// How many commands had come before it: of immediate ones, later ones are not its concern either.
    pub arrival: u64,
    /// ExpDataSN, for TASK REASSIGN.
    pub exp_data_sn: Sn,
    /// The I bit.
    pub is_immediate: bool,
}

/// Response codes (RFC 7143 §11.6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TmfReply {
    /// 0.
    Complete,
    /// 1.
    NoTask,
    /// 2.
    NoLun,
    /// 3.
    StillAllegiant,
    /// 4.
    ReassignNotSupported,
    /// 5.
    NotSupported,
    /// 7 (RFC 7144 §6.4.2), with the additional response information.
    Succeeded([u8; 3]),
    /// 255.
    Rejected,
}

impl TmfReply {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            TmfReply::Complete => 0,
            TmfReply::NoTask => 1,
            TmfReply::NoLun => 2,
            TmfReply::StillAllegiant => 3,
            TmfReply::ReassignNotSupported => 4,
            TmfReply::NotSupported => 5,
            TmfReply::Succeeded(_) => 7,
            TmfReply::Rejected => 255,
        }
    }
}

impl Conn {
    /// A request is there.
    pub(super) fn tmf(
        &mut self,
        request: &TmfRequest,
        bhs: &Bhs,
        cx: &mut Cx<'_>,
    ) -> Result<Option<Request>, Fatal> {
        if !cx.session.take_cmd_sn(request.immediate, request.cmd_sn, cx.tasks) {
            return Ok(None);
        }
        let function = TmfFunction::from_code(request.function);
        if self.tmfs.try_push((request.itt, function)).is_err() {
            self.reject(bhs, RejectReason::TooManyImmediate, cx)?;
            return Ok(None);
        }
        cx.session.tmf_count += 1;
        Ok(Some(Request::Tmf(TmfCall {
            itt: request.itt,
            function,
            number: LunNumber::decode(&request.lun),
            referenced_itt: request.referenced_itt,
            ref_cmd_sn: request.ref_cmd_sn,
            cmd_sn: request.cmd_sn,
            arrival: cx.session.arrivals(),
            exp_data_sn: request.exp_data_sn,
            is_immediate: request.immediate,
        })))
    }

    /// Answers a request.
    pub fn tmf_reply(&mut self, itt: u32, reply: TmfReply, cx: &mut Cx<'_>) {
        if let Some(index) = self.tmfs.iter().position(|(tag, _)| *tag == itt) {
            self.tmfs.remove(index);
            cx.session.tmf_count -= 1;
        }
        if self.life != Life::Open {
            // RFC 7143 §11.15: nothing follows the Logout Response.
            return;
        }
        let information = if let TmfReply::Succeeded(information) = reply { information } else { [0; 3] };
        let bhs = TmfResponse { itt, response: reply.code(), information }.encode();
        self.push_control(bhs, None, StatSn::Consume, cx);
    }

    /// Whether this is the tag of a request here that is no SCSI command, and has not been answered in full.
    pub fn is_no_command(&self, itt: u32) -> bool {
        self.unanswered_tmf(itt).is_some() || self.text.is_of(itt)
    }

    /// The task management function of this tag, where it has not been answered.
    pub fn unanswered_tmf(&self, itt: u32) -> Option<TmfFunction> {
        self.tmfs.iter().find(|(tag, _)| *tag == itt).map(|(_, function)| *function)
    }

    /// Whether the functions of RFC 7144 may be asked for.
    pub fn may_query(&self) -> bool {
        self.params.protocol_level >= 2
    }

    /// RFC 7144 §6.4.2, QUERY TASK: whether the task is there. One that has not arrived is not.
    pub fn query_task(&self, call: &TmfCall, cx: &Cx<'_>) -> TmfReply {
        let found = cx.tasks.find(&cx.session.tasks, |task| {
            task.itt == call.referenced_itt && task.number == call.number && !task.is_over()
        });
        if found.is_some() { TmfReply::Succeeded([0; 3]) } else { TmfReply::Complete }
    }

    /// The task that ABORT TASK names, or the answer where there is none. One that was given up is there as long as a device has any of
    /// it: who is told that it does not exist may take it that nothing of it lands any more.
    pub fn referenced(&self, call: &TmfCall, cx: &mut Cx<'_>) -> Result<Key, TmfReply> {
        let is_there = |task: &Task| !task.is_over() || task.phase == Phase::Swallowing && task.ios > 0;
        let found = cx.tasks.find(&cx.session.tasks, |task| {
            task.itt == call.referenced_itt && task.number == call.number && is_there(task)
        });
        if let Some(key) = found {
            return Ok(key);
        }
        // RFC 7143 §11.6.1: a command that has not arrived, inside the window and before the function itself, counts as
        // received and aborted.
        if cx.session.window.place(call.ref_cmd_sn) != SnPlace::Ignored
            && call.ref_cmd_sn.is_before(call.cmd_sn)
            && !cx.session.is_arriving(call.ref_cmd_sn, cx.tasks)
        {
            cx.session.window.take(call.ref_cmd_sn);
            return Err(TmfReply::Complete);
        }
        Err(TmfReply::NoTask)
    }

    /// Gives a task up: silently, or (`is_told`) with TASK ABORTED once no device has any of it. It ends here where
    /// nothing is awaited.
    pub fn abort(&mut self, key: Key, is_told: bool, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key) else { return };
        task.piece = None;
        task.parked = None;
        task.job = None;
        task.outcome = Some(Outcome::of(Status::TaskAborted));
        if task.phase == Phase::Early && is_told {
            // Answered in its turn: ExpCmdSN does not cover it yet, and its PDU may still be arriving.
            return;
        }
        if !is_told && !task.obligation.is_met() {
            task.obligation.meet(End::Aborted);
        }
        if task.phase == Phase::Early && !task.is_immediate {
            // It has not all come: nothing else takes its CmdSN.
            cx.session.window.take(task.cmd_sn);
        }
        if is_told && task.ios > 0 {
            cx.session.note_aborted();
        }
        cx.session.unqueue(task.phase, task.is_immediate);
        task.phase = if is_told { Phase::Running } else { Phase::Swallowing };
        task.silent_from = self.tx.next_item();
        self.settle(key, cx);
    }

    /// Retires what one aborted task still owes: data that come later are dropped.
    pub fn retire(&mut self, key: Key, cx: &mut Cx<'_>) {
        if cx.tasks.get(key).is_some_and(Task::may_retire) {
            self.forget(key, cx);
        }
    }
}
