//! One session on one connection, sans-IO (RFC 7143 §4.2, 11).
//!
//! Feed what arrives to [`Initiator::receive`] in any chunks, send what [`Initiator::outgoing`] holds, fetch events.
//! Commands keep to the command window, data to what was negotiated; all that the target says is checked, and the
//! first offence ends the session's usefulness: [`Initiator::receive`] returns it then and ever after.

mod command;
mod event;
mod extents;
mod receive;
mod send;
mod task;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use command::{Attribute, Command, Data, Function, Refused, Tmf};
pub use event::{Completion, Event, Offence, Residual, Violation};

use crate::Serial;
use crate::config::{Config, Params};
use crate::login::Login;
use crate::pdu::{Deframer, NO_TAG, Pdu};
use task::{Sent, Task};

/// Data segments of a login are at most this long (RFC 7143 §13.12: the default until declared).
const LOGIN_BYTES_MAX: u32 = 8192;

/// Events waiting beside those that the held commands may cause.
const SPARE_EVENTS: usize = 4096;

/// What a session has done, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counters {
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub received_pdus: u64,
    pub commands_sent: u64,
    pub commands_completed: u64,
    pub commands_aborted: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub r2ts: u64,
    pub data_in_pdus: u64,
    pub data_out_pdus: u64,
    pub nop_ins_answered: u64,
    pub rejects: u64,
}

/// The phases of a session.
#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    FullFeature(Arc<Params>),
    Ended,
}

/// A request that awaits its answer, or its turn.
#[derive(Debug)]
enum Pending {
    Task(Box<Task>),
    Tmf { request: Tmf, sent: Option<Sent> },
    Nop { lun: u64, data: Vec<u8>, immediate: bool },
    Text { question: Vec<u8>, answer: Vec<u8>, lun: u64, ttt: u32, immediate: bool },
    Logout { reason: u8, cid: u16, immediate: bool },
}

/// Data to send: an R2T's, or unsolicited.
#[derive(Debug)]
struct Burst {
    itt: u32,
    ttt: u32,
    lun: u64,
    data: Arc<Vec<u8>>,
    offset_bytes: usize,
    end_bytes: usize,
    data_sn: u32,
}

/// An initiator's side of one session with one connection.
#[derive(Debug)]
pub struct Initiator {
    config: Config,
    phase: Phase,
    failed: Option<Violation>,
    deframer: Deframer,
    transmit: Vec<u8>,
    /// Bytes of `transmit` that are sent.
    transmitted: usize,
    pending: BTreeMap<u32, Pending>,
    /// Requests that wait for the window, in order.
    queue: VecDeque<u32>,
    /// Immediate requests that wait for the full feature phase only.
    urgent: VecDeque<u32>,
    bursts: VecDeque<Burst>,
    events: VecDeque<Event>,
    next_itt: u32,
    order: u64,
    cmd_sn: Serial,
    exp_stat_sn: Serial,
    exp_cmd_sn: Serial,
    max_cmd_sn: Serial,
    counters: Counters,
}

impl Initiator {
    /// A session that is about to log in; the first request is already outgoing.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let (login, first) = Login::start(&config);
        let cmd_sn = Serial(config.cmd_sn);
        let mut transmit = Vec::new();
        first.encode(crate::pdu::Digests::default(), &mut transmit);
        Self {
            config,
            phase: Phase::Login(Box::new(login)),
            failed: None,
            deframer: Deframer::new(LOGIN_BYTES_MAX),
            transmit,
            transmitted: 0,
            pending: BTreeMap::new(),
            queue: VecDeque::new(),
            urgent: VecDeque::new(),
            bursts: VecDeque::new(),
            events: VecDeque::new(),
            next_itt: 1,
            order: 0,
            cmd_sn,
            exp_stat_sn: Serial(0),
            exp_cmd_sn: cmd_sn,
            max_cmd_sn: cmd_sn,
            counters: Counters::default(),
        }
    }

    /// Queues a command and returns its Initiator Task Tag. It is sent when login and window allow; a completion or an
    /// abort will come for it.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn command(&mut self, command: Command) -> Result<u32, Refused> {
        let immediate = command.immediate;
        self.enqueue(Pending::Task(Box::new(Task::new(command))), immediate)
    }

    /// Queues a task management function.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn task_management(&mut self, request: Tmf) -> Result<u32, Refused> {
        self.enqueue(Pending::Tmf { request, sent: None }, request.immediate)
    }

    /// Queues a NOP-Out that wants its data back. The data are cut at what the target takes.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn ping(&mut self, lun: u64, data: &[u8], immediate: bool) -> Result<u32, Refused> {
        self.enqueue(Pending::Nop { lun, data: data.to_vec(), immediate }, immediate)
    }

    /// Queues a text request, such as `SendTargets=All` with its NUL. An answer in several parts is put together.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn text(&mut self, text: &[u8]) -> Result<u32, Refused> {
        let question = text.to_vec();
        let text = Pending::Text { question, answer: Vec::new(), lun: 0, ttt: NO_TAG, immediate: false };
        self.enqueue(text, false)
    }

    /// Queues a logout: reason 0 for the session, 1 for the connection, 2 for recovery.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn logout(&mut self, reason: u8, immediate: bool) -> Result<u32, Refused> {
        let cid = self.config.cid;
        self.enqueue(Pending::Logout { reason, cid, immediate }, immediate)
    }

    /// Puts any bytes behind what is outgoing already.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.transmit.extend_from_slice(bytes);
    }

    /// Puts a PDU of the caller's making behind what is outgoing already, with the digests in force.
    pub fn send_pdu(&mut self, pdu: &Pdu) {
        let digests = self.deframer.digests;
        pdu.encode(digests, &mut self.transmit);
    }

    /// The CmdSN of the next request that is not immediate.
    #[must_use]
    pub fn cmd_sn(&self) -> Serial {
        self.cmd_sn
    }

    /// Sets the next CmdSN: for tests that number PDUs of their own, or leave gaps.
    pub fn set_cmd_sn(&mut self, cmd_sn: Serial) {
        self.cmd_sn = cmd_sn;
    }

    /// The StatSN expected next.
    #[must_use]
    pub fn exp_stat_sn(&self) -> Serial {
        self.exp_stat_sn
    }

    /// ExpCmdSN and MaxCmdSN as the target gave them last.
    #[must_use]
    pub fn window(&self) -> (Serial, Serial) {
        (self.exp_cmd_sn, self.max_cmd_sn)
    }

    /// Sets the longest data segment that may arrive, after a text negotiation of the caller's own.
    pub fn set_recv_bytes_max(&mut self, bytes: u32) {
        self.deframer.data_bytes_max = bytes;
    }

    /// The next event.
    #[must_use = "an event is told once"]
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was negotiated, in full feature phase.
    #[must_use]
    pub fn params(&self) -> Option<&Params> {
        match &self.phase {
            Phase::FullFeature(params) => Some(params),
            _ => None,
        }
    }

    /// TaskReporting is FastAbort (RFC 7143 §4.2.3.4).
    fn is_fast_abort(&self) -> bool {
        self.params().is_some_and(|params| params.task_reporting == "FastAbort")
    }

    /// Refused, logged out or in violation: nothing will come of this session any more.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.failed.is_some() || matches!(self.phase, Phase::Ended)
    }

    /// Commands and requests that are not answered yet.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Whether a request has been sent and not been answered.
    #[must_use]
    pub fn is_sent(&self, itt: u32) -> bool {
        let queued = self.queue.contains(&itt) || self.urgent.contains(&itt);
        self.pending.contains_key(&itt) && !queued
    }

    /// Takes back a command that was not sent yet.
    pub fn withdraw(&mut self, itt: u32) -> Option<Command> {
        if self.is_sent(itt) {
            return None;
        }
        match self.pending.remove(&itt)? {
            Pending::Task(task) => {
                self.queue.retain(|&queued| queued != itt);
                self.urgent.retain(|&queued| queued != itt);
                Some(task.command)
            }
            other => {
                self.pending.insert(itt, other);
                None
            }
        }
    }

    /// The tags of the commands that have not ended, with the caller's own tags; for one who lost the connection.
    pub fn unfinished(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.pending.iter().filter_map(|(&itt, pending)| match pending {
            Pending::Task(task) => Some((itt, task.command.tag)),
            _ => None,
        })
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The configuration, to log in again with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes bytes that arrived, in any chunks. Look at [`Initiator::outgoing`] and fetch events afterwards.
    ///
    /// # Errors
    /// The target's first offence; the same again at each later call.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        self.counters.received_bytes += bytes.len() as u64;
        let mut deframer = std::mem::take(&mut self.deframer);
        let result = self.receive_all(&mut deframer, bytes);
        self.deframer = deframer;
        self.failed = result.err();
        result
    }

    fn receive_all(&mut self, deframer: &mut Deframer, mut bytes: &[u8]) -> Result<(), Violation> {
        loop {
            let found = deframer.next(&mut bytes);
            let found = found.map_err(|error| Violation { offence: error.into(), bhs: None })?;
            let Some(pdu) = found else { return Ok(()) };
            self.counters.received_pdus += 1;
            let in_login = matches!(self.phase, Phase::Login(_));
            let taken = self.take(&pdu);
            taken.map_err(|offence| Violation { offence, bhs: Some(pdu.bhs) })?;
            if self.events.len() > self.config.commands_max + SPARE_EVENTS {
                return Err(Violation { offence: Offence::Flood, bhs: Some(pdu.bhs) });
            }
            if let Some(params) = self.params().filter(|_| in_login) {
                deframer.data_bytes_max = params.recv_bytes_max;
                deframer.digests = params.digests;
            }
        }
    }

    fn enqueue(&mut self, request: Pending, immediate: bool) -> Result<u32, Refused> {
        if self.has_ended() {
            return Err(Refused::Ended);
        }
        if self.pending.len() >= self.config.commands_max {
            return Err(Refused::Full);
        }
        while self.next_itt == NO_TAG || self.pending.contains_key(&self.next_itt) {
            self.next_itt = self.next_itt.wrapping_add(1);
        }
        let itt = self.next_itt;
        self.next_itt = itt.wrapping_add(1);
        self.pending.insert(itt, request);
        if immediate {
            self.urgent.push_back(itt)
        } else {
            self.queue.push_back(itt)
        }
        Ok(itt)
    }
}

#[cfg(test)]
mod tests;
