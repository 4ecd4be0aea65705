//! What control and the reactors, and reactors among themselves, say to each other, over bounded queues ([`crate::reactor::port`]).
//!
//! Everything here may be allocated and dropped by control only: a reactor that is done with something that owns
//! memory sends it back ([`ToControl::Retired`]).

mod change;
mod event;
mod peer;

use std::sync::Arc;

pub use change::{Change, Reserve};
pub use event::{CloseCause, Event};
pub use peer::{HoldId, HoldRange, PeerMessage, Purpose, Watch};

use crate::bdev::Bdev;
use crate::bdev::allocation::Allocation;
use crate::id::{BarrierId, NexusId, ReactorId, SessionId, UnitId};
use crate::iscsi::params::Params;
use crate::iscsi::recorder::Recorder;
use crate::iscsi::sn::Sn;
use crate::meter::SessionMeter;
use crate::qos::Pace;
use crate::reactor::look::{Question, Recording, Why};
use crate::scsi::Outcome;
use crate::scsi::attention::Ua;
use crate::scsi::cdb::Cdb;
use crate::scsi::chore::{Chore, End};
use crate::scsi::view::{LunNumber, TargetView, UnitView};
use crate::slab::Key;

/// A connection that has logged in, on its way to its session's reactor.
#[derive(Debug)]
pub struct Adopt<H> {
    /// The socket.
    pub handle: H,
    /// The session; this is its first connection.
    pub session: SessionId,
    /// Its nexus.
    pub nexus: NexusId,
    /// The target it is with.
    pub target: Arc<TargetView>,
    /// What login agreed on.
    pub params: Params,
    /// StatSN of the next response.
    pub stat_sn: Sn,
    /// CmdSN of the next command.
    pub exp_cmd_sn: Sn,
    /// Connection ID.
    pub cid: u16,
    /// Bytes that came behind the last login request.
    pub leftover: Vec<u8>,
    /// A unit attention to be queued at each logical unit of the target.
    pub attention: Ua,
    /// What else arose at logical units while the nexus had no session.
    pub owed: Vec<(UnitId, Ua)>,
    /// IO of the nexus's former session is still in a device: accept commands, but submit nothing until
    /// [`ToReactor::OpenGate`].
    pub is_gated: bool,
    /// Nanoseconds of silence before a NOP-In asks, and before the connection is given up; 0: never.
    pub nop_in: NopInTimes,
    /// Where the session counts what it does. Control keeps it until the session is drained: it is not freed here.
    pub meter: Arc<SessionMeter>,
    /// What the initiator may ask for, where that has limits.
    pub pace: Option<Arc<Pace>>,
}

/// A further connection of a session that its reactor has, or had a moment ago: then it is closed.
#[derive(Debug)]
pub struct Join<H> {
    /// The socket.
    pub handle: H,
    /// The session.
    pub session: SessionId,
    /// Connection ID; a connection that has it already is replaced (RFC 7143 §6.3.4).
    pub cid: u16,
    /// The session's parameters, with this connection's own.
    pub params: Params,
    /// StatSN of the next response.
    pub stat_sn: Sn,
    /// What the initiator has had of the connection that is replaced.
    pub exp_stat_sn: Sn,
    /// Bytes that came behind the last login request.
    pub leftover: Vec<u8>,
    /// As in [`Adopt`].
    pub nop_in: NopInTimes,
}

/// Keep-alive times in nanoseconds; 0 switches one off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NopInTimes {
    /// Silence before we ask.
    pub ask_ns: u64,
    /// Silence before we close.
    pub close_ns: u64,
}

/// Why control ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The initiator logged in again with the same ISID (RFC 7143 §6.3.5).
    Reinstated,
    /// I_T NEXUS RESET (RFC 7144 §6.3).
    NexusReset,
    /// The operator asked, the target is being removed, or TARGET COLD RESET.
    Removed,
}

/// To a reactor: from control, but for the last.
#[derive(Debug)]
pub enum ToReactor<H> {
    /// Serve this connection from now on.
    Adopt(Box<Adopt<H>>),
    /// Serve this one too, in its session.
    Join(Box<Join<H>>),
    /// A logical unit exists. Sent before any target that maps it; its channel is opened at first use. It ends by
    /// [`Change::RemoveUnit`].
    AddUnit {
        /// What is shown of it.
        view: Arc<UnitView>,
        /// What it is made of.
        bdev: Arc<dyn Bdev>,
    },
    /// Change something at one point of every reactor's time.
    Barrier {
        /// To acknowledge with.
        id: BarrierId,
        /// What changes.
        change: Change,
    },
    /// Close the session's connections now, silently; answered by [`ToControl::SessionEnded`] (also where it is
    /// already gone and that message is on its way; then not twice).
    EndSession {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Ask the initiator to log out (Async Message, event 1); nothing else changes.
    AskLogout {
        /// Which session.
        session: SessionId,
        /// Seconds it gets, as told to it.
        seconds: u16,
    },
    /// The former session's IO has all come back.
    OpenGate {
        /// The session that waits.
        session: SessionId,
    },
    /// A session's initiator may ask for something else from now on.
    Pace {
        /// Which session.
        session: SessionId,
        /// What, where that has limits.
        pace: Option<Arc<Pace>>,
    },
    /// A task management function that went through control has ended.
    TmfEnded {
        /// The task management task, as asked.
        asked: TmfTicket,
        /// How it went.
        outcome: TmfOutcome,
    },
    /// A command that control was asked about is decided.
    Answered {
        /// The command.
        asked: TaskTicket,
        /// How it ends.
        outcome: Outcome,
        /// If that is well, this unit is to be flushed before: even if nobody waits for the command any more.
        flushes: Option<UnitId>,
    },
    /// A device was asked for a command which of its blocks take space. It comes instead of [`ToReactor::Answered`], and the memory is given back.
    Surveyed {
        /// The command.
        asked: TaskTicket,
        /// What the device has told.
        allocation: Box<Allocation>,
    },
    /// What the names of tokens are made of, the same for every reactor. Until it comes there are no tokens.
    Secret([u8; 16]),
    /// To a unit's home: do this on the whole of it. Every reactor shows that its medium is not ready. Answered by
    /// [`ToControl::ChoreEnded`].
    Chore {
        /// Which unit.
        unit: UnitId,
        /// What is to be done.
        chore: Arc<Chore>,
    },
    /// Tell what an operator wants to know. Answered by [`ToControl::Looked`].
    Look(Box<Question>),
    /// Hand out what a connection has recorded when something goes wrong on it, once, for this empty recorder: by
    /// [`ToControl::Recorded`].
    Spare(Recorder),
    /// From now on commands that take so many nanoseconds are slow ([`Event::Slow`]).
    SlowIo {
        /// `u64::MAX`: none is.
        threshold_ns: u64,
    },
    /// Ask every session to log out (Async Message, event 1), then stop when they are gone or at the deadline.
    Drain {
        /// Seconds the initiators get, as told to them.
        seconds: u16,
    },
    /// Stop now: close what is left, give everything back.
    Stop,
    /// From another reactor.
    Peer(PeerMessage),
}

/// Where the answer of a task management function belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TmfTicket {
    /// The connection, on the asking reactor.
    pub conn: Key,
    /// Initiator task tag of the request.
    pub itt: u32,
}

/// Which command control was asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskTicket {
    /// Its connection, on the asking reactor.
    pub conn: Key,
    /// The command.
    pub task: Key,
}

/// A command that changes what a logical unit is to everybody, to be decided by control; or GET LBA STATUS, for which control has the device
/// asked.
#[derive(Debug)]
pub struct Ask {
    /// Who asks.
    pub reactor: ReactorId,
    /// Where the answer belongs.
    pub ticket: TaskTicket,
    /// The session the command came in.
    pub session: SessionId,
    /// The logical unit it is for.
    pub unit: UnitId,
    /// The command.
    pub cdb: Cdb,
    /// Its parameter list, as much of it as came.
    pub parameters: Box<[u8]>,
}

/// How a function that went through control ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TmfOutcome {
    /// Nothing of what was aborted can touch a medium any more.
    Complete,
    /// A device still has an IO and cannot be fenced.
    Rejected,
}

/// Reactor to control.
#[derive(Debug)]
pub enum ToControl {
    /// A connection is gone, and its session goes on. Sent once for each connection that was adopted or joined, the last one
    /// excepted, and those that join a session which is gone.
    ConnEnded {
        /// Its session.
        session: SessionId,
        /// Connection ID.
        cid: u16,
    },
    /// A session's ExpCmdSN has gone on by [`crate::limits::CMD_SN_TOLD_STEPS`].
    CmdSn {
        /// Which session.
        session: SessionId,
        /// What it is.
        exp_cmd_sn: Sn,
    },
    /// A session's last connection is gone. Sent exactly once a session.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Whether the initiator logged out (else the connection was lost or ended).
        is_logout: bool,
    },
    /// No device has any IO of the session any more. Sent exactly once, at or after `SessionEnded`.
    SessionDrained {
        /// Which.
        session: SessionId,
    },
    /// This reactor has applied the barrier and drained what it waits for.
    BarrierDone {
        /// Which.
        id: BarrierId,
        /// Who.
        reactor: ReactorId,
        /// Whether everything waited for came back (else a device kept an IO beyond the deadline).
        is_clean: bool,
    },
    /// A device keeps writes of this reactor that were waited for in vain and that cannot be fenced, or has given the last of
    /// them back. Sent before what waited for them is told of it, and in turns.
    Unsettled {
        /// Which unit.
        unit: UnitId,
        /// Who.
        reactor: ReactorId,
        /// Whether it keeps some.
        is_so: bool,
    },
    /// A task management function that concerns other sessions. Answered by [`ToReactor::TmfEnded`].
    Tmf {
        /// Who asks.
        reactor: ReactorId,
        /// Where the answer belongs.
        ticket: TmfTicket,
        /// The session that asks.
        session: SessionId,
        /// What is asked.
        request: TmfAsk,
    },
    /// A command to be decided. Answered by [`ToReactor::Answered`] or [`ToReactor::Surveyed`].
    Ask(Box<Ask>),
    /// A command that control was asked about is aborted: what has not been decided shall not be. It is answered all the same.
    Withdraw {
        /// Who has asked.
        reactor: ReactorId,
        /// Which.
        ticket: TaskTicket,
        /// The logical unit it was for.
        unit: UnitId,
    },
    /// A chore is over. Sent exactly once for each, unless its unit was removed or the reactor stops.
    ChoreEnded {
        /// Which unit.
        unit: UnitId,
        /// What was done, given back.
        chore: Arc<Chore>,
        /// What came of it.
        end: End,
    },
    /// The reactor has closed its channel to a unit that was removed, and knows it no more. Sent exactly once a removal.
    UnitReleased {
        /// Which.
        unit: UnitId,
        /// Who.
        reactor: ReactorId,
        /// What it held of it, to be dropped.
        bdev: Arc<dyn Bdev>,
    },
    /// A question is answered.
    Looked(Box<Question>),
    /// Something has gone wrong on a connection, and this is what it has recorded. Sent once for each [`ToReactor::Spare`].
    Recorded {
        /// Who.
        reactor: ReactorId,
        /// What it is.
        recording: Recording,
        /// What has gone wrong.
        why: Why,
    },
    /// Something an operator may want to know.
    Event(Event),
    /// Memory that control gave and shall free.
    Retired(Retired),
    /// The reactor has drained and its thread is ending.
    Stopped {
        /// Who.
        reactor: ReactorId,
    },
}

/// Functions that cross sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TmfAsk {
    /// LOGICAL UNIT RESET.
    UnitReset(LunNumber),
    /// TARGET WARM RESET.
    TargetWarmReset,
    /// TARGET COLD RESET: every session of the target ends after the answer.
    TargetColdReset,
}

/// What a reactor gives back to be freed.
#[derive(Debug)]
pub enum Retired {
    /// A replaced view.
    Unit(Arc<UnitView>),
    /// A replaced view.
    Target(Arc<TargetView>),
    /// What an initiator was allowed.
    Pace(Arc<Pace>),
    /// What a device has told.
    Allocation(Box<Allocation>),
}
