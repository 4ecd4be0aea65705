//! A connection in full feature phase: its bytes, its StatSN, its timers. What it shares with the other connections of its
//! session is [`crate::iscsi::session`].
//!
//! Sans-IO: [`Conn::memory`] and [`Conn::placed`] take bytes in, [`Conn::advance`] turns them into [`Request`]s for the
//! reactor, which runs the commands and hands data and outcomes back; [`Conn::fill`] and [`Conn::sent`] give bytes
//! out. Tasks and transmit items live in the reactor's tables and come along in [`Cx`].

mod command;
mod data_in;
mod data_out;
mod deframe;
mod other;
mod reassign;
mod short;
mod snack;
mod terminate;
#[cfg(test)]
mod tests;
mod timers;
mod tmf;

use std::sync::Arc;

use arrayvec::ArrayVec;

pub use data_out::Solicit;
pub use reassign::GoOn;
pub use short::{Short, Went};
pub use snack::Resent;
pub use tmf::{TmfCall, TmfFunction, TmfReply};

use crate::buf::Pool;
use crate::id::{NexusId, SessionId};
use crate::iscsi::conn::deframe::{Deframer, Payload, Then, To};
use crate::iscsi::error::{Fatal, RejectReason};
use crate::iscsi::obligation::End;
use crate::iscsi::params::Params;
use crate::iscsi::recorder::Recorder;
use crate::iscsi::session::Session;
use crate::iscsi::sn::Sn;
use crate::iscsi::task::{Outcome, Phase, Tasks};
use crate::iscsi::tx::{Batch, Queued, StatSn, TxItem, TxQueue};
use crate::iscsi::wire::{Bhs, NopIn, Reject, Request as Pdu, TAG_NONE};
use crate::limits;
use crate::scsi::attention::Ua;
use crate::scsi::view::UnitView;
use crate::slab::{Key, Slab};
use crate::time::Tick;

/// Opcodes of requests that are answered with as much as they say (RFC 7143 §11.2.1.2).
const NOP_OUT: u8 = 0x00;
const TEXT_REQUEST: u8 = 0x04;
/// And one that may be answered with much more.
const SNACK: u8 = 0x10;

/// What of the reactor a connection works with.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Now.
    pub now: Tick,
    /// Its session.
    pub session: &'a mut Session,
    /// Every task of the reactor.
    pub tasks: &'a mut Tasks,
    /// Every transmit item of the reactor.
    pub tx: &'a mut Slab<Queued>,
    /// Buffers for data that come unasked.
    pub unsolicited: &'a Pool,
    /// Buffers for data that were asked for, and for what we send.
    pub solicited: &'a Pool,
    /// What is published of each logical unit, by [`crate::id::UnitId`].
    pub units: &'a [Option<Arc<UnitView>>],
    /// Commands by which windows may still grow, over all connections.
    pub spare_window: &'a mut u32,
}

/// What the reactor is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// A command's turn has come.
    Run(Key),
    /// A sequence of a WRITE's data has ended: its piece may be full, or more is to be asked for.
    Piece(Key),
    /// A WRITE that has been decided owes no data any more: it may end.
    Settle(Key),
    /// A task management function.
    Tmf(TmfCall),
    /// Data of a READ are to be sent again.
    Resend(Key),
    /// A READ is to be read and sent from its beginning.
    ReadAnew(Key),
    /// Another connection of the session is to be closed; then [`Conn::logged_out_other`].
    LogOut(OtherLogout),
    /// The initiator has logged out: the tasks of this connection are to be given up ([`Conn::abandon_all`]), and where it was the
    /// session that ended, its other connections closed.
    LoggedOut {
        /// The session, not this connection alone.
        is_session: bool,
    },
    /// The initiator has acknowledged that tasks are terminated: they may end.
    Terminated,
    /// Answers pile up: send now, then go on; see [`Conn::is_flooded`].
    Flush,
}

/// A connection logs another one of its session out (RFC 7143 §11.14).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OtherLogout {
    /// Initiator task tag of the request.
    pub itt: u32,
    /// Connection ID of the other one.
    pub cid: u16,
    /// Its commands are to be kept for a new connection.
    pub is_recovery: bool,
    /// What the initiator has had of it.
    pub exp_stat_sn: Sn,
}

/// How the connection's life stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Open,
    /// A Logout was answered: nothing more is taken, the rest is sent until this moment.
    LoggingOut,
    /// There was no room for what is to be sent: nothing is taken or sent any more, and it is to be closed.
    Overflowed,
    /// The connection is gone, and its commands are kept for another one, at error recovery level 2: until this moment, and from
    /// a logout on.
    Lost {
        until: Tick,
        is_logged_out: bool,
    },
}

/// What a connection is made from.
#[derive(Debug)]
pub struct ConnSetup {
    /// Its key in its reactor's table.
    pub key: Key,
    /// Its session's key there.
    pub session_key: Key,
    /// The session's name.
    pub session: SessionId,
    /// Its nexus.
    pub nexus: NexusId,
    /// What login agreed on.
    pub params: Params,
    /// StatSN of the next response.
    pub stat_sn: Sn,
    /// Connection ID.
    pub cid: u16,
    /// What it has answered is kept until it is acknowledged: at error recovery levels above 0.
    pub retains: bool,
    /// Silence before a NOP-In asks, in nanoseconds; 0: never.
    pub ask_ns: u64,
    /// Silence before the connection is given up, in nanoseconds; 0: never.
    pub close_ns: u64,
}

/// The connection.
#[derive(Debug)]
pub struct Conn {
    key: Key,
    session_key: Key,
    session: SessionId,
    nexus: NexusId,
    params: Params,
    cid: u16,
    deframer: Deframer,
    tx: TxQueue,
    life: Life,
    /// What was answered is kept until it is acknowledged.
    retains: bool,
    /// ExpStatSN, where the session has several connections.
    acknowledged: Sn,
    /// The logout that was answered was for recovery.
    is_recovery: bool,
    /// Immediate commands that have not ended.
    immediate_count: u32,
    /// Task management functions that have not been answered: their initiator task tags, and which they are.
    tmfs: ArrayVec<(u32, TmfFunction), { limits::TMFS_MAX as usize }>,
    is_logged_out: bool,
    /// What waits was sent, as far as it could be, to make room for the answer to the request that has come.
    has_made_room: bool,
    rejected: Option<RejectReason>,
    text: other::TextExchange,
    timers: timers::Timers,
    recorder: Recorder,
}

impl Conn {
    /// A connection that has just logged in. Allocates.
    pub fn new(setup: ConnSetup, now: Tick) -> Conn {
        let mut tx = TxQueue::new(setup.stat_sn);
        if setup.retains {
            tx.retain();
        }
        Conn {
            key: setup.key,
            session_key: setup.session_key,
            session: setup.session,
            nexus: setup.nexus,
            params: setup.params,
            cid: setup.cid,
            deframer: Deframer::new(),
            tx,
            life: Life::Open,
            retains: setup.retains,
            acknowledged: setup.stat_sn,
            is_recovery: false,
            immediate_count: 0,
            tmfs: ArrayVec::new(),
            is_logged_out: false,
            has_made_room: false,
            rejected: None,
            text: other::TextExchange::default(),
            timers: timers::Timers::new(now, setup.ask_ns, setup.close_ns),
            recorder: Recorder::new(),
        }
    }

    /// The session's name.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its key in the reactor's table.
    #[inline]
    pub fn session_key(&self) -> Key {
        self.session_key
    }

    /// Connection ID.
    pub fn cid(&self) -> u16 {
        self.cid
    }

    /// Whether what it has answered is kept until it is acknowledged.
    pub fn retains(&self) -> bool {
        self.retains
    }

    /// Its nexus.
    pub fn nexus(&self) -> NexusId {
        self.nexus
    }

    /// What login agreed on.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Whether the initiator logged out.
    pub fn is_logged_out(&self) -> bool {
        self.is_logged_out
    }

    /// The headers of its last PDUs.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The same, to be exchanged for an empty one.
    pub fn recorder_mut(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// Memory that wants the next received bytes first; may be empty. What comes beyond it goes through
    /// [`Conn::advance`].
    pub fn memory<'a>(&'a mut self, tasks: &'a mut Tasks) -> &'a mut [u8] {
        self.deframer.memory(tasks)
    }

    /// `bytes` bytes went into [`Conn::memory`].
    pub fn placed(&mut self, bytes: usize, tasks: &mut Tasks) {
        self.deframer.placed(bytes, tasks);
    }

    /// Whether more bytes may be received now.
    pub fn wants_input(&self) -> bool {
        self.life == Life::Open
    }

    /// Goes through received bytes up to the next thing for the reactor to do. To be called until it gives `None`; then
    /// all of `input` has been taken.
    pub fn advance(&mut self, input: &mut &[u8], cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        loop {
            if let Some(key) = cx.session.next_due(cx.tasks) {
                return Ok(Some(Request::Run(key)));
            }
            if self.life != Life::Open {
                *input = &[];
                return Ok(None);
            }
            if !self.deframer.in_payload() {
                let bhs = match self.deframer.header(input, &self.params) {
                    Ok(Some(bhs)) => bhs,
                    Ok(None) => return Ok(None),
                    Err(fatal) => {
                        // What is wrong with it is what one wants to see.
                        self.recorder.received(self.deframer.begun(), cx.now);
                        return Err(fatal);
                    }
                };
                let is_full = !self.may_echo(&bhs);
                if self.tx.control_count() >= limits::CONTROL_REPLIES_MAX || is_full && !self.has_made_room {
                    // The header stays collected; the next call comes by here again.
                    self.has_made_room = is_full;
                    return Ok(Some(Request::Flush));
                }
                self.has_made_room = false;
                self.recorder.received(&bhs.0, cx.now);
                if (self.retains || !cx.session.is_single()) && self.is_own_stat_sn(&bhs) {
                    self.acknowledged = bhs.exp_stat_sn();
                    self.acknowledge(bhs.exp_stat_sn(), cx);
                }
                let payload = self.begin(&bhs, cx)?;
                self.deframer.begin(payload, &self.params);
            }
            let Some((bhs, payload)) = self.deframer.payload(input, cx.tasks) else { return Ok(None) };
            self.timers.heard(cx.now);
            if let Some(request) = self.handle(&bhs, payload, cx)? {
                return Ok(Some(request));
            }
        }
    }

    /// Whether answers still pile up after a send: the peer does not read them.
    pub fn is_flooded(&self) -> bool {
        self.tx.control_count() >= limits::CONTROL_REPLIES_MAX
    }

    /// Whether there is room for the answer to a request that is answered with as much as it says, or more.
    fn may_echo(&self, bhs: &Bhs) -> bool {
        if self.retains && bhs.opcode() == SNACK {
            return !self.is_clogged();
        }
        let bytes = u64::from(bhs.data_bytes());
        bytes == 0
            || !matches!(bhs.opcode(), NOP_OUT | TEXT_REQUEST)
            || self.tx.control_bytes() + bytes <= limits::CONTROL_BYTES_MAX
    }

    /// A header is complete: says where its data go.
    fn begin(&mut self, bhs: &Bhs, cx: &mut Cx<'_>) -> Result<Payload, Fatal> {
        let bytes = bhs.data_bytes() as usize;
        let drop = |then| Payload::new(To::Drop, 0, 0, bytes, then);
        match Pdu::parse(bhs) {
            Pdu::ScsiCommand(command) => self.begin_command(&command, bhs, bytes, cx),
            Pdu::DataOut(data) => self.begin_data_out(&data, bytes, cx),
            Pdu::NopOut(_) | Pdu::Text(_) if !self.may_echo(bhs) => Ok(drop(Then::Handle)),
            Pdu::NopOut(_) | Pdu::Text(_) if bytes > 0 => match cx.unsolicited.take(bytes) {
                Some(buf) => Ok(Payload::new(To::Buf(buf), 0, bytes, bytes, Then::Handle)),
                None => Ok(drop(Then::Handle)),
            },
            _ => Ok(drop(Then::Handle)),
        }
    }

    /// A PDU is complete.
    fn handle(&mut self, bhs: &Bhs, payload: Payload, cx: &mut Cx<'_>) -> Result<Option<Request>, Fatal> {
        let is_intact = payload.is_intact();
        match payload.then {
            Then::Ignore => Ok(None),
            Then::TooMany => {
                self.reject(bhs, RejectReason::TooManyImmediate, cx)?;
                Ok(None)
            }
            Then::Command(key) => Ok(self.command_arrived(bhs, key, is_intact, cx)),
            Then::Data(key) => Ok(self.data_arrived(bhs, key, is_intact, cx)),
            Then::Handle if !is_intact => {
                self.reject(bhs, RejectReason::DataDigest, cx)?;
                Ok(None)
            }
            Then::Handle => match Pdu::parse(bhs) {
                Pdu::NopOut(nop) => self.nop_out(&nop, bhs, payload.to, cx),
                Pdu::Text(text) => self.text(&text, bhs, payload.to, cx),
                Pdu::Tmf(tmf) => self.tmf(&tmf, bhs, cx),
                Pdu::Logout(logout) => self.logout(&logout, cx),
                Pdu::Snack(snack) => self.snack(&snack, bhs, cx),
                Pdu::Login(_) | Pdu::DataOut(_) | Pdu::ScsiCommand(_) => {
                    self.reject(bhs, RejectReason::ProtocolError, cx).map(|()| None)
                }
                Pdu::Unknown(_) => self.reject(bhs, RejectReason::CommandNotSupported, cx).map(|()| None),
            },
        }
    }

    /// Makes the PDUs of the next send.
    pub fn fill(&self, batch: &mut Batch, tx: &Slab<Queued>, session: &Session) {
        self.tx.fill(batch, tx, &self.params, &session.window);
    }

    /// The socket took `bytes` of the batch. Whether the connection is to be closed now.
    pub fn sent(&mut self, bytes: usize, batch: &Batch, cx: &mut Cx<'_>) -> bool {
        if bytes > 0 {
            self.timers.sent(cx.now);
        }
        let sent = self.tx.sent(bytes, batch, cx.tx, &mut self.recorder, cx.now);
        cx.session.window.end(sent.freed);
        if self.retains {
            self.drop_oldest(cx);
        }
        if self.tx.is_empty() {
            self.timers.all_sent();
        }
        sent.is_over
    }

    /// A planted bug.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn renumbering_retained(mut self) -> Conn {
        self.tx.renumber_retained();
        self
    }

    /// Another.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn misplacing_retained(mut self) -> Conn {
        self.tx.misplace_retained();
        self
    }

    /// Copies what is lent to data that were not sent, so that it can go back.
    pub fn keep_lent(&mut self, tx: &mut Slab<Queued>, solicited: &Pool) {
        self.tx.keep_lent(tx, solicited);
    }

    /// Whether the initiator has said that it has all that it was told here, or nothing more is said here. To be asked where the
    /// session has several connections.
    pub fn is_acknowledged(&self) -> bool {
        !self.is_sending() || self.tx.is_empty() && self.acknowledged == self.tx.stat_sn()
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        !self.tx.is_empty()
    }

    /// Whether so much waits to be sent that no more data should be read for it.
    pub fn is_clogged(&self) -> bool {
        self.tx.unsent_bytes() >= limits::TX_UNSENT_BYTES_MAX || !self.is_sending()
    }

    /// Whether answers and data may be queued: not when the connection is lost, or was logged out for recovery.
    fn is_sending(&self) -> bool {
        self.life == Life::Open || self.life == Life::LoggingOut && !self.is_recovery
    }

    /// Payload that is to be sent.
    pub fn unsent_bytes(&self) -> usize {
        usize::try_from(self.tx.unsent_bytes()).unwrap_or(usize::MAX)
    }

    fn push(&mut self, item: TxItem, cx: &mut Cx<'_>) {
        self.timers.queued(cx.now);
        self.push_inline(item, cx);
    }

    /// [`Conn::push`] where the item is made: it is put together in its place, and copied nowhere. The timers do not know.
    #[inline(always)]
    fn push_inline(&mut self, item: TxItem, cx: &mut Cx<'_>) {
        // The slab holds what every window and every `CONTROL_REPLIES_MAX` allow: see `reactor::tables`.
        if let Err(lost) = self.tx.push(cx.tx, item) {
            self.overflow(&lost, cx);
        }
    }

    /// Something could not be queued, and is lost. So is all that waits, or it would be told as if nothing were missing; the
    /// connection ends with the next look at its deadlines.
    #[cold]
    fn overflow(&mut self, lost: &TxItem, cx: &mut Cx<'_>) {
        self.life = Life::Overflowed;
        let unsent = self.tx.clear(cx.tx) + u32::from(lost.keeps_place());
        cx.session.window.end(unsent);
    }

    /// Queues a PDU that belongs to no SCSI command.
    fn push_control(&mut self, bhs: Bhs, data: Option<crate::buf::Buf>, stat_sn: StatSn, cx: &mut Cx<'_>) {
        self.push(TxItem::Pdu { bhs, data, stat_sn, is_control: true, closes: false }, cx);
    }

    /// The reason of the last Reject, told once: for the log.
    pub fn take_rejected(&mut self) -> Option<RejectReason> {
        self.rejected.take()
    }

    /// RFC 7143 §11.17: the header refused is the data segment.
    fn reject(&mut self, bhs: &Bhs, reason: RejectReason, cx: &mut Cx<'_>) -> Result<(), Fatal> {
        let Some(mut data) = cx.solicited.take(bhs.0.len()).or_else(|| cx.unsolicited.take(bhs.0.len()))
        else {
            return Err(Fatal::Protocol("a PDU was to be rejected, and memory for that is spent"));
        };
        data.copy_from_slice(&bhs.0);
        self.rejected = Some(reason);
        self.push_control(Reject { reason: reason.code() }.encode(), Some(data), StatSn::Consume, cx);
        Ok(())
    }

    /// Ends everything: tasks and queues are given up without an answer. What devices still have of it is the
    /// reactor's to wait for.
    pub fn close(&mut self, cx: &mut Cx<'_>) {
        // Its answers are not on their way any more: the session's other connections have their places.
        let unsent = self.tx.clear(cx.tx);
        cx.session.window.end(unsent);
        self.abandon_all(cx);
        cx.session.tmf_count -= self.tmfs.len();
    }

    /// Gives up the tasks of this connection without an answer. None of them waits under a ceiling.
    pub fn abandon_all(&mut self, cx: &mut Cx<'_>) {
        while let Some(key) = cx.tasks.find(&cx.session.tasks, |task| task.conn == self.key) {
            if let Some(task) = cx.tasks.get_mut(key)
                && !task.obligation.is_met()
            {
                task.obligation.meet(End::ConnectionGone);
                // RFC 7143 §11.14.5: told on the session's other connections, if it has any.
                if let Some(unit) = task.unit {
                    cx.session.attend(unit, Ua::CommandsClearedByProtocol);
                }
            }
            self.forget(key, cx);
        }
    }

    /// Takes a task of this connection whose obligation is met out of every count, and drops it.
    fn forget(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get(key) else { return };
        debug_assert!(task.conn == self.key, "a task is ended by its own connection");
        if self.retains {
            self.tx.forget_data(task.itt, cx.tx);
        }
        let is_unanswered = task.phase == Phase::Swallowing || !task.obligation.is_answered();
        if is_unanswered && task.data_sn != Sn(0) {
            // It has no place any more that would bound what waits to be sent for it, and nobody wants that.
            let end = if task.phase == Phase::Swallowing { task.silent_from } else { self.tx.next_item() };
            self.tx.forget(task.itt, end, cx.tx);
        }
        if task.phase != Phase::Answered {
            if task.obligation.is_answered() {
                cx.session.count(task, cx.units, cx.now);
            }
            if task.is_immediate {
                self.immediate_count -= 1;
            }
            cx.tasks.ends(self.session, key, cx.now);
        }
        cx.session.forget(key, cx.tasks);
    }

    /// An aborted task awaits nothing any more. Where it kept its place until now, nobody else may have a reason to say that it is
    /// free.
    fn forget_aborted(&mut self, key: Key, cx: &mut Cx<'_>) {
        let max_cmd_sn = cx.session.window.max_after(0);
        self.forget(key, cx);
        let is_told = self.has_output() || cx.session.tmf_count > 0 || !self.is_sending();
        if !is_told && cx.session.window.max_after(0) != max_cmd_sn {
            // RFC 7143 §11.4.11.
            let nop = NopIn { lun: [0; 8], itt: TAG_NONE, ttt: TAG_NONE };
            self.push_control(nop.encode(), None, StatSn::Show, cx);
        }
    }

    /// A task has been answered: it is over, and forgotten unless it is kept until the answer is acknowledged.
    fn over(&mut self, key: Key, cx: &mut Cx<'_>) {
        let Some(task) = cx.tasks.get_mut(key).filter(|_| self.retains) else {
            self.forget(key, cx);
            return;
        };
        task.piece = None;
        task.parked = None;
        task.job = None;
        cx.session.answered(task);
        cx.session.count(task, cx.units, cx.now);
        if task.is_immediate {
            self.immediate_count -= 1;
        }
        cx.tasks.ends(self.session, key, cx.now);
    }

    /// Marks how a task will end; the first failure stays.
    pub fn decide(&mut self, key: Key, outcome: Outcome, cx: &mut Cx<'_>) {
        if let Some(task) = cx.tasks.get_mut(key) {
            task.outcome.get_or_insert(outcome);
        }
    }
}
