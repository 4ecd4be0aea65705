//! What an operator asks of a reactor at work: what its connections have recorded, and what its commands wait for.
//!
//! A reactor does not allocate, so a [`Question`] brings the memory for its answer. It goes back by way of control, whose thread
//! runs what is to be done with it.

use std::fmt;

use crate::id::{SessionId, UnitId};
use crate::iscsi::conn::Conn;
use crate::iscsi::recorder::Recorder;
use crate::iscsi::task::{Phase, Task};
use crate::limits;
use crate::net::Net;
use crate::reactor::message::{CloseCause, ToControl};
use crate::reactor::turn::Reactor;
use crate::scsi::Plan;
use crate::scsi::cdb::Cdb;
use crate::scsi::view::LunNumber;
use crate::slab::Key;
use crate::time::Tick;

/// A question, and what is to be done with its answer.
pub struct Question {
    /// What is asked, and in it the answer.
    pub look: Look,
    then: Box<dyn FnOnce(Look) + Send>,
}

impl Question {
    /// `then` runs on control's thread; not at all where the reactor stops before.
    pub fn new(look: Look, then: impl FnOnce(Look) + Send + 'static) -> Question {
        Question { look, then: Box::new(then) }
    }

    /// The answer is there.
    pub fn answered(self) {
        (self.then)(self.look);
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("look", &self.look).finish_non_exhaustive()
    }
}

/// What is asked.
#[derive(Debug)]
pub enum Look {
    /// What connections have recorded.
    Recordings(Recordings),
    /// Which commands are in flight.
    Commands(Commands),
}

/// What a connection has recorded.
#[derive(Debug)]
pub struct Recording {
    /// Its session.
    pub session: SessionId,
    /// Connection ID.
    pub cid: u16,
    /// Headers have digests.
    pub header_digest: bool,
    /// Data have digests.
    pub data_digest: bool,
    /// The headers.
    pub recorder: Recorder,
}

/// Recordings of some of a reactor's connections.
#[derive(Debug)]
pub struct Recordings {
    session: Option<SessionId>,
    /// The slot to go on from; none when all connections have been seen.
    from: Option<u32>,
    blank: Vec<Recorder>,
    /// What was found.
    pub found: Vec<Recording>,
}

impl Recordings {
    /// Of all connections, or of one session's; up to [`limits::RECORDINGS_MAX`] at once, from slot `from` on. Allocates.
    pub fn new(session: Option<SessionId>, from: u32) -> Recordings {
        let count = if session.is_some() { limits::SESSION_CONNS_MAX } else { limits::RECORDINGS_MAX };
        let blank = (0..count).map(|_| Recorder::new()).collect();
        Recordings { session, from: Some(from), blank, found: Vec::with_capacity(count) }
    }

    /// Where to go on, if there are more.
    pub fn next(&self) -> Option<u32> {
        self.from
    }
}

/// What a command waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Its own immediate data, or commands before it.
    Arriving,
    /// An ORDERED command before it, or what a device has of its session's former connections.
    Queued,
    /// Its turn under a limit of its LUN's or its initiator's.
    Limit,
    /// A buffer.
    Buffer,
    /// Data of the initiator.
    Data,
    /// Another command that has the blocks to itself.
    Hold,
    /// Room in the device's queue.
    Room,
    /// The device.
    Device,
    /// Control, which decides it.
    Control,
    /// The initiator, which does not take what is sent.
    Sending,
    /// Its answer waits behind a fence (RFC 7143 §4.2.2.3).
    Fence,
    /// It was answered, and the initiator has not said that it knows.
    Acknowledgement,
    /// It was aborted, and data for it are still to come.
    Aborted,
}

impl Stage {
    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Arriving => "arriving",
            Stage::Queued => "queued",
            Stage::Limit => "limit",
            Stage::Buffer => "buffer",
            Stage::Data => "data",
            Stage::Hold => "hold",
            Stage::Room => "room",
            Stage::Device => "device",
            Stage::Control => "control",
            Stage::Sending => "sending",
            Stage::Fence => "fence",
            Stage::Acknowledgement => "acknowledgement",
            Stage::Aborted => "aborted",
        }
    }

    /// What it waits for, in words.
    pub const fn about(self) -> &'static str {
        match self {
            Stage::Arriving => "its immediate data, or a command before it, have not come",
            Stage::Queued => {
                "an ORDERED command before it has not ended, or a device has IO of a former connection"
            }
            Stage::Limit => "its turn under a limit of its LUN or its initiator has not come",
            Stage::Buffer => "no buffer is free for its data",
            Stage::Data => "the initiator owes it data",
            Stage::Hold => "another command has the blocks to itself",
            Stage::Room => "the device's queue is full, or it is not ready",
            Stage::Device => "the device has it",
            Stage::Control => "control decides it: a reservation, a mode page, a medium",
            Stage::Sending => "the initiator does not take what is sent",
            Stage::Fence => "its answer waits until the initiator has acknowledged that others were aborted",
            Stage::Acknowledgement => "it was answered; the initiator has not acknowledged that",
            Stage::Aborted => "it was aborted; data of it, or the device's answer, are still to come",
        }
    }
}

/// A command in flight.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    task: Key,
    /// Its session.
    pub session: SessionId,
    /// Connection ID of the connection that it is with.
    pub cid: u16,
    /// Initiator task tag.
    pub itt: u32,
    /// Where it goes; none where the field names no LUN.
    pub number: Option<LunNumber>,
    /// The logical unit there.
    pub unit: Option<UnitId>,
    /// The command.
    pub cdb: Cdb,
    /// Bytes that the initiator expects to move.
    pub expected_bytes: u32,
    /// How long it has been there.
    pub age_ns: u64,
    /// What it waits for.
    pub stage: Stage,
    /// IOs that the device has of it, or that wait for it.
    pub ios: u8,
}

/// Commands in flight on a reactor.
#[derive(Debug)]
pub struct Commands {
    older_than_ns: u64,
    /// Those found, in no order.
    pub found: Vec<Command>,
    /// How many there are beside those.
    pub left_out: u64,
}

impl Commands {
    /// Those that have been there for so long; up to [`limits::COMMANDS_TOLD_MAX`]. Allocates.
    pub fn new(older_than_ns: u64) -> Commands {
        Commands { older_than_ns, found: Vec::with_capacity(limits::COMMANDS_TOLD_MAX), left_out: 0 }
    }
}

/// Why a connection's recording is handed out unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The connection was closed for cause.
    Closed(CloseCause),
    /// The initiator aborts commands, by this task management function.
    Aborted {
        /// The function code.
        function: u8,
    },
}

impl<N: Net> Reactor<N> {
    /// Answers a question.
    pub(super) fn look(&mut self, mut question: Box<Question>, now: Tick) {
        match &mut question.look {
            Look::Recordings(recordings) => self.copy_recordings(recordings),
            Look::Commands(commands) => self.list_commands(commands, now),
        }
        self.tell(ToControl::Looked(question));
    }

    fn copy_recordings(&self, recordings: &mut Recordings) {
        let Some(mut at) = recordings.from.take() else { return };
        while at < self.conn_slots() {
            let link = self.conns.key_at(at).and_then(|key| self.conns.get(key));
            let is_wanted = |conn: &Conn| recordings.session.is_none_or(|session| session == conn.session());
            if let Some(link) = link.filter(|link| is_wanted(&link.conn)) {
                let Some(mut recorder) = recordings.blank.pop() else {
                    recordings.from = Some(at);
                    return;
                };
                recorder.copy_from(link.conn.recorder());
                recordings.found.push(recording(&link.conn, recorder));
            }
            at += 1;
        }
    }

    fn list_commands(&self, commands: &mut Commands, now: Tick) {
        let tasks = &self.tables.tasks;
        for index in 0..self.tables.sessions.used() {
            let Some(session) = self.tables.sessions.key_at(index).map(|key| &self.tables.sessions[key])
            else {
                continue;
            };
            let mut at = session.tasks().first();
            while let Some(key) = at
                && let Some(task) = tasks.get(key)
            {
                at = tasks.next(key);
                let age_ns = now.since_ns(task.came_at);
                if age_ns < commands.older_than_ns {
                    continue;
                }
                if commands.found.len() == commands.found.capacity() {
                    commands.left_out += 1;
                    continue;
                }
                commands.found.push(Command {
                    task: key,
                    session: session.id(),
                    cid: self.conns.get(task.conn).map_or(0, |link| link.conn.cid()),
                    itt: task.itt,
                    number: task.number,
                    unit: task.unit,
                    cdb: task.cdb,
                    expected_bytes: task.expected_bytes,
                    age_ns,
                    stage: stage(task),
                    ios: task.ios,
                });
            }
        }
        commands.found.sort_unstable_by_key(|command| command.task.index);
        for (key, io) in self.tables.ios.iter().filter(|(_, io)| io.parked.is_some()) {
            let found = commands.found.binary_search_by_key(&io.task.index, |command| command.task.index);
            if let Some(command) = found.ok().and_then(|index| commands.found.get_mut(index))
                && command.task == io.task
                && command.stage == Stage::Device
            {
                command.stage = if self.is_held(key) { Stage::Hold } else { Stage::Room };
            }
        }
    }

    /// Something has gone wrong on a connection: hands out what it has recorded, if control wants that. The connection goes on
    /// with an empty recorder.
    pub(super) fn hand_out(&mut self, conn: Key, why: Why) {
        let (Some(link), Some(mut recorder)) = (self.conns.get_mut(conn), self.spare.take()) else { return };
        std::mem::swap(link.conn.recorder_mut(), &mut recorder);
        let recording = recording(&link.conn, recorder);
        self.tell(ToControl::Recorded { reactor: self.id, recording, why });
    }
}

fn recording(conn: &Conn, recorder: Recorder) -> Recording {
    let params = conn.params();
    Recording {
        session: conn.session(),
        cid: conn.cid(),
        header_digest: params.header_digest,
        data_digest: params.data_digest,
        recorder,
    }
}

/// What a command waits for; whether what the device has of it only waits for the device is not known here.
fn stage(task: &Task) -> Stage {
    match task.phase {
        Phase::Early => Stage::Arriving,
        Phase::Queued => Stage::Queued,
        Phase::Paced => Stage::Limit,
        Phase::Answered => Stage::Acknowledgement,
        Phase::Swallowing if task.ios > 0 => Stage::Device,
        Phase::Swallowing => Stage::Aborted,
        Phase::Running if task.is_asked => Stage::Control,
        Phase::Running if task.ios > 0 => Stage::Device,
        Phase::Running if task.is_waiting_for_buffer => Stage::Buffer,
        Phase::Running if task.is_owed_data() => Stage::Data,
        Phase::Running if task.outcome.is_some() => Stage::Fence,
        Phase::Running if task.job.is_some() => Stage::Hold,
        Phase::Running if matches!(task.plan, Plan::Read(_)) => Stage::Sending,
        Phase::Running => Stage::Buffer,
    }
}

impl CloseCause {
    /// Whether somebody will want to know what went before.
    pub fn is_trouble(self) -> bool {
        match self {
            CloseCause::Silent
            | CloseCause::SlowReader
            | CloseCause::DataOutLate
            | CloseCause::PduUnfinished
            | CloseCause::HeaderDigest
            | CloseCause::Protocol(_)
            | CloseCause::NotRecovered => true,
            CloseCause::LoggedOut
            | CloseCause::PeerGone
            | CloseCause::LoggedOutByAnother
            | CloseCause::Replaced
            | CloseCause::Ended(_)
            | CloseCause::Stopping => false,
        }
    }
}
