//! Tasks: SCSI commands from acceptance to their end, in one table per reactor, linked by session in CmdSN order.

mod table;

pub use table::{TaskList, Tasks};

use crate::buf::Buf;
use crate::id::UnitId;
use crate::iscsi::obligation::Obligation;
use crate::iscsi::sn::Sn;
use crate::iscsi::tx::Keeps;
use crate::iscsi::wire::{Bhs, Residual};
use crate::limits;
use crate::scsi::copy::rod::{self, TokenId};
use crate::scsi::view::LunNumber;
use crate::scsi::work::Run;
use crate::scsi::{Plan, Status, cdb::Cdb, copy};

use crate::slab::Key;
use crate::time::Tick;

pub use crate::scsi::Outcome;

/// Where a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// A command with a lower CmdSN has not arrived.
    Early,
    /// Its turn has not come: the session is gated, or an ORDERED task stands before it.
    Queued,
    /// Its turn has come, but for a ceiling of its logical unit's or its initiator's.
    Paced,
    /// Started: data are on their way, or the device has it.
    Running,
    /// Answered, and kept until the answer is acknowledged: at error recovery levels above 0.
    Answered,
    /// Aborted, without an answer; only data that the initiator still owes are awaited, and dropped.
    Swallowing,
}

/// What a fence of its session (RFC 7143 §4.2.2.3) is to a command's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// It waits while one is up.
    Common,
    /// It waits for one of its own.
    Waits,
    /// It is what the fence is for.
    Free,
}

/// The part of a WRITE's data whose buffer is held now.
#[derive(Debug)]
pub struct Piece {
    /// The memory, as long as the piece.
    pub buf: Buf,
    /// Offset of its first byte in the command's data.
    pub start: u32,
}

/// Where a command stands that is worked off in steps.
#[derive(Clone, Copy, Debug)]
pub enum Running {
    /// At the unit that it was sent to.
    Work(Run),
    /// From LUN to LUN.
    Copy(copy::Run),
    /// With tokens.
    Token {
        /// Where it stands.
        run: rod::Run,
        /// The token that is made.
        id: Option<TokenId>,
        /// What of a token is read now.
        reading: Option<Reading>,
    },
}

/// Blocks of a token that are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Where they are.
    pub side: copy::Side,
    /// First block.
    pub lba: u64,
    /// How many.
    pub blocks: u32,
    /// The hold is granted under which they are read.
    pub is_held: bool,
}

/// A command that is worked off in steps, or the part of it whose data have come.
#[derive(Debug)]
pub struct Job {
    /// Where it stands.
    pub run: Running,
    /// The data that came with it.
    pub data: Option<Buf>,
    /// What was read last, or is to be written next.
    pub scratch: Option<Buf>,
}

/// An R2T whose data have not all come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicited {
    /// Target transfer tag.
    pub ttt: u32,
    /// R2TSN.
    pub r2t_sn: Sn,
    /// Offset in the command's data at which its data begin.
    pub start: u32,
    /// Offset at which they end.
    pub end: u32,
    /// Which item of its connection's queue it is.
    pub item: Sn,
}

/// Data of a READ that are to be sent again, as a SNACK asks (RFC 7143 §11.16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Again {
    /// Offset of the next byte.
    pub at: u32,
    /// Offset of their end.
    pub end: u32,
    /// The SNACK, should it have to be rejected.
    pub asked: Bhs,
    /// Its SNACK Tag, where it is an R-Data SNACK: the response follows once more.
    pub snack_tag: Option<u32>,
}

/// R2Ts outstanding, oldest first. Their data come in this order (DataSequenceInOrder=Yes).
#[derive(Debug, Default)]
pub struct R2ts {
    ring: [Option<Solicited>; limits::R2TS_MAX],
    first: usize,
    count: usize,
}

impl R2ts {
    /// The one whose data come now.
    pub fn front(&self) -> Option<Solicited> {
        if self.count == 0 { None } else { self.ring[self.first] }
    }

    /// Each of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Solicited> + '_ {
        (0..self.count).filter_map(|index| self.ring[(self.first + index) % limits::R2TS_MAX])
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is outstanding.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one; the caller has looked at [`R2ts::len`].
    pub fn push(&mut self, solicited: Solicited) {
        assert!(self.count < limits::R2TS_MAX, "the caller keeps within R2TS_MAX");
        self.ring[(self.first + self.count) % limits::R2TS_MAX] = Some(solicited);
        self.count += 1;
    }

    /// The front's data are complete.
    pub fn pop(&mut self) {
        self.ring[self.first] = None;
        self.first = (self.first + 1) % limits::R2TS_MAX;
        self.count = self.count.saturating_sub(1);
    }
}

/// A SCSI command.
#[derive(Debug)]
pub struct Task {
    /// Its connection.
    pub conn: Key,
    /// Initiator task tag.
    pub itt: u32,
    /// CmdSN.
    pub cmd_sn: Sn,
    /// Immediate: holds no place in the command window.
    pub is_immediate: bool,
    /// ORDERED (2) or HEAD OF QUEUE (3); everything else counts as SIMPLE.
    pub attribute: u8,
    /// LUN as it came, for R2Ts.
    pub lun: [u8; 8],
    /// LUN decoded; none where the field names no LUN we could have.
    pub number: Option<LunNumber>,
    /// The logical unit there.
    pub unit: Option<UnitId>,
    /// The CDB.
    pub cdb: Cdb,
    /// What it will do.
    pub plan: Plan,
    /// Where it stands.
    pub phase: Phase,
    /// Bytes the initiator expects to move.
    pub expected_bytes: u32,
    /// Bytes the command's data will move: the smaller of what the CDB and what the initiator says; whole blocks
    /// where written.
    pub moves_bytes: u32,
    /// The difference.
    pub residual: Residual,
    /// Of a command that is passed on: its data go to the initiator.
    pub takes_in: bool,

    /// WRITE: unsolicited Data-Out PDUs are still to come, the next with this DataSN.
    pub unsolicited: Option<Sn>,
    /// WRITE: bytes of data that have come, in order from the first; dropped ones count.
    pub arrived_bytes: u32,
    /// WRITE: bytes up to which R2Ts were sent or data came unsolicited.
    pub asked_bytes: u32,
    /// WRITE: the same before data were lost that have to be asked for once more.
    pub asked_before_bytes: u32,
    /// WRITE: bytes handed to the device.
    pub submitted_bytes: u32,
    /// WRITE: the part that is filled now.
    pub piece: Option<Piece>,
    /// WRITE: outstanding R2Ts.
    pub r2ts: R2ts,
    /// WRITE: DataSN of the next Data-Out of the front R2T.
    pub data_out_sn: Sn,
    /// WRITE: stands in the reactor's queue for a buffer.
    pub is_waiting_for_buffer: bool,
    /// When data last came or were asked for.
    pub data_at: Tick,
    /// When it came.
    pub came_at: Tick,
    /// When its turn came.
    pub ran_at: Option<Tick>,
    /// When a device was first given something of it.
    pub submitted_at: Option<Tick>,
    /// When a device last gave something back.
    pub done_at: Option<Tick>,
    /// Counts the session's commands in the order in which they came.
    pub arrival: u64,

    /// READ: bytes asked of the device.
    pub read_bytes: u32,
    /// READ: bytes queued to be sent.
    pub queued_bytes: u32,
    /// READ: a piece that came before its predecessor, with its offset.
    pub parked: Option<(u32, Buf)>,
    /// Data-In PDUs and R2Ts so far (they share one sequence in ExpDataSN).
    pub data_sn: Sn,
    /// Nothing was queued for it from this item on: it was aborted.
    pub silent_from: Sn,

    /// READ: the length of segments has changed since the first of those Data-In PDUs, so that their number does not say how many
    /// bytes they had.
    pub is_mixed: bool,

    /// A command that is worked off in steps: what is being done now.
    pub job: Option<Job>,
    /// A command that is passed on: room for the device's sense data and their length before them, later these.
    pub told: Option<Buf>,

    /// The duty to end it.
    pub obligation: Obligation,
    /// IOs the device has.
    pub ios: u8,
    /// Control was asked about it and has not answered: until then it may still take effect, aborted or not.
    pub is_asked: bool,
    /// How it will end, once nothing more is awaited: the first failure, or the status.
    pub outcome: Option<Outcome>,
    /// WRITE: data were lost on their way. What comes is dropped until nothing is outstanding, then asked for again.
    pub is_damaged: bool,
    /// READ or report: data that are to be sent again.
    pub again: Option<Again>,
    /// READ: the SNACK Tag of the last R-Data SNACK; 0 where there was none.
    pub snack_tag: u32,
    /// It has had its turn under the ceilings that count it.
    pub is_booked: bool,
    /// The data that it held when it began to wait for that turn.
    pub paused_bytes: usize,
    /// What a fence is to its answer.
    pub passage: Passage,
    /// StatSN of the message that has told its initiator that it is terminated (RFC 7143 §11.9.1, event 5).
    pub terminated: Option<Sn>,
    /// A device keeps an IO of it beyond all deadlines: nobody waits for its end any more.
    pub is_given_up: bool,
    /// IOs submitted before this one are of an earlier go, and mean nothing any more.
    pub restarted_at: u64,
    links: Links,
}

#[derive(Clone, Copy, Debug, Default)]
struct Links {
    previous: Option<Key>,
    next: Option<Key>,
}

impl Task {
    /// A task that has just arrived.
    #[inline(always)]
    pub fn new(conn: Key, itt: u32, cmd_sn: Sn, cdb: Cdb, plan: Plan, now: Tick) -> Task {
        Task {
            conn,
            itt,
            cmd_sn,
            is_immediate: false,
            attribute: 0,
            lun: [0; 8],
            number: None,
            unit: None,
            cdb,
            plan,
            phase: Phase::Early,
            expected_bytes: 0,
            moves_bytes: 0,
            residual: Residual::None,
            takes_in: false,
            unsolicited: None,
            arrived_bytes: 0,
            asked_bytes: 0,
            asked_before_bytes: 0,
            submitted_bytes: 0,
            piece: None,
            r2ts: R2ts::default(),
            data_out_sn: Sn(0),
            is_waiting_for_buffer: false,
            data_at: now,
            came_at: now,
            ran_at: None,
            submitted_at: None,
            done_at: None,
            arrival: 0,
            read_bytes: 0,
            queued_bytes: 0,
            parked: None,
            data_sn: Sn(0),
            silent_from: Sn(0),
            is_mixed: false,
            job: None,
            told: None,
            obligation: Obligation::new(),
            ios: 0,
            is_asked: false,
            outcome: None,
            is_damaged: false,
            again: None,
            snack_tag: 0,
            is_booked: false,
            paused_bytes: 0,
            passage: Passage::Common,
            terminated: None,
            is_given_up: false,
            restarted_at: 0,
            links: Links::default(),
        }
    }

    /// What its answer keeps until it is sent.
    pub fn keeps(&self) -> Keeps {
        if self.is_immediate { Keeps::Control } else { Keeps::Place }
    }

    /// Whether others have aborted it, and it is answered when a device gives it back.
    pub fn is_told_later(&self) -> bool {
        let is_aborted = self.outcome.is_some_and(|outcome| outcome.status == Status::TaskAborted);
        self.phase == Phase::Running && is_aborted && self.ios > 0 && !self.is_given_up
    }

    /// Whether it is decided how it ends, and nothing more is awaited.
    pub fn is_ready_to_end(&self) -> bool {
        self.outcome.is_some() && self.ios == 0 && !self.is_asked && !self.is_owed_data()
    }

    /// Whether it waits for its turn under a ceiling.
    pub fn is_paced(&self) -> bool {
        self.phase == Phase::Paced
    }

    /// Whether nothing more comes of it: it was answered or aborted.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Answered | Phase::Swallowing)
    }

    /// Its connection is gone: no buffer is kept for it. What has come of its open piece is to come anew.
    pub fn drop_buffers(&mut self) {
        (self.parked, self.told, self.again) = (None, None, None);
        if let Some(piece) = self.piece.take() {
            (self.arrived_bytes, self.asked_bytes) = (piece.start, piece.start);
        }
    }

    /// Whether it was aborted, and awaits nothing but data.
    pub fn may_retire(&self) -> bool {
        self.phase == Phase::Swallowing && self.ios == 0 && !self.is_asked
    }

    /// No more data come for it: its tags are free. What is left ends as it would without them.
    pub fn excuse_data(&mut self) {
        self.unsolicited = None;
        self.r2ts = R2ts::default();
        self.is_damaged = false;
    }

    /// Whether the initiator owes data that it was told or allowed to send.
    pub fn is_owed_data(&self) -> bool {
        self.unsolicited.is_some() || !self.r2ts.is_empty()
    }
}
