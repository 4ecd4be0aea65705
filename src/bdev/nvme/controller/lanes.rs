//! Lanes: their pairs of queues, what of their memory the device reaches, and what they ask.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::super::bus::Mapping;
use super::super::port::{Port, Reply, Request, StopCause};
use super::super::queue::Queue;
use super::super::spec::{Command, Completion, Status};
use super::super::transport::{AdminData, Progress, Transport};
use super::admin::Purpose;
use super::shared::Severity;
use super::{Controller, State};
use crate::limits::GUEST;
use crate::time::{SECOND_NS, Tick};

/// Entries of an IO queue, at most.
const ENTRIES_MAX: u32 = 256;
/// Requests taken from a lane in one go.
const REQUESTS_MAX: usize = 64;
/// A pair that could not be made is tried again after so long, so often.
const RETRY_NS: u64 = 2 * SECOND_NS;
const RETRIES: u8 = 3;

/// What a lane is told once its pair is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// [`Reply::Stopped`].
    Stopped,
    /// [`Reply::Gone`]: it gets no other.
    Gone,
    /// Nothing, and it is forgotten.
    Close,
}

/// A lane's pair of queues.
#[derive(Debug)]
enum Pair {
    /// There is none. Under this number the lane may still ring a doorbell: nobody else gets it.
    None { stale: Option<u16> },
    /// One is wanted.
    Wanted { not_before: Tick },
    /// The controller makes it.
    Creating { id: u16, commands: VecDeque<Command>, is_sent: bool },
    /// The transport makes it.
    Making { id: u16, due: Tick },
    /// The lane has it.
    Open { id: u16 },
    /// The controller deletes it. A half of it may never have been made.
    Deleting(Deleting),
    /// It could not be deleted: it goes with the reset of the controller.
    Doomed { id: u16, queue: Option<Box<dyn Queue + Send>>, then: Then },
}

#[derive(Debug)]
struct Deleting {
    id: u16,
    queue: Option<Box<dyn Queue + Send>>,
    commands: VecDeque<Command>,
    is_sent: bool,
    is_half: bool,
    then: Then,
}

impl Pair {
    fn id(&self) -> Option<u16> {
        match self {
            Pair::None { stale } => *stale,
            Pair::Wanted { .. } => None,
            Pair::Creating { id, .. }
            | Pair::Making { id, .. }
            | Pair::Open { id }
            | Pair::Deleting(Deleting { id, .. })
            | Pair::Doomed { id, .. } => Some(*id),
        }
    }
}

/// What is known of a lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) number: u64,
    port: Arc<Port>,
    pair: Pair,
    mappings: Vec<Mapping>,
    /// Replies for which its port has no room.
    backlog: VecDeque<Reply>,
    /// It asked for the end.
    is_closing: bool,
    /// It is to be forgotten once its replies are gone.
    is_over: bool,
    retries: u8,
}

impl Lane {
    pub(super) fn new(number: u64, port: Arc<Port>) -> Lane {
        Lane {
            number,
            port,
            pair: Pair::None { stale: None },
            mappings: Vec::new(),
            backlog: VecDeque::new(),
            is_closing: false,
            is_over: false,
            retries: 0,
        }
    }

    /// It is no reactor's.
    fn is_guest(&self) -> bool {
        self.port.reactor == GUEST
    }

    /// The pair that the lane has.
    pub(super) fn open_queue(&self) -> Option<u16> {
        if let Pair::Open { id } = self.pair { Some(id) } else { None }
    }

    pub(super) fn answer(&mut self, reply: Reply) {
        self.backlog.push_back(reply);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(reply) = self.backlog.pop_front() {
            if let Err(reply) = self.port.answer(reply) {
                self.backlog.push_front(reply);
                return;
            }
        }
    }

    fn unmap(&mut self, transport: &mut dyn Transport) {
        for mapping in self.mappings.drain(..) {
            transport.unmap(&mapping);
        }
    }

    /// Its pair is gone: nothing of it can reach memory any more.
    fn pair_gone(&mut self, then: Then, transport: &mut dyn Transport) {
        self.unmap(transport);
        self.pair = Pair::None { stale: None };
        match then {
            _ if self.is_closing => self.is_over = true,
            Then::Stopped => self.answer(Reply::Stopped),
            Then::Gone => {
                self.answer(Reply::Gone);
                self.is_over = true;
            }
            Then::Close => self.is_over = true,
        }
    }

    /// It wants a pair, and there will be none.
    fn refuse(&mut self, transport: &mut dyn Transport) {
        if let Pair::Wanted { .. } = self.pair {
            self.pair_gone(Then::Gone, transport);
        }
    }

    /// The lane gives its queue back: it is kept for as long as the device may know it.
    fn keep(&mut self, given: Option<Box<dyn Queue + Send>>) {
        match &mut self.pair {
            Pair::Deleting(Deleting { queue, .. }) | Pair::Doomed { queue, .. } if given.is_some() => {
                *queue = given
            }
            _ => {}
        }
    }

    fn delete(
        &mut self,
        id: u16,
        queue: Option<Box<dyn Queue + Send>>,
        then: Then,
        transport: &mut dyn Transport,
    ) {
        let commands = transport.delete_commands(id).into();
        self.pair = Pair::Deleting(Deleting { id, queue, commands, is_sent: false, is_half: false, then });
    }
}

impl Controller {
    /// Takes the lanes' requests, and goes on with what is being done for them.
    pub(super) fn serve_lanes(&mut self) {
        for index in 0..self.lanes.len() {
            self.lanes[index].flush();
            for _ in 0..REQUESTS_MAX {
                let lane = &mut self.lanes[index];
                if !lane.backlog.is_empty() || lane.is_closing || lane.is_over {
                    break;
                }
                let Some(request) = lane.port.request() else { break };
                self.has_progress = true;
                self.requested(index, request);
            }
            match self.state {
                State::Running | State::Draining { .. } => self.drive_pair(index),
                State::Fencing { .. } => self.lanes[index].refuse(&mut *self.transport),
                _ => {}
            }
        }
        if matches!(self.state, State::Running) {
            self.drive_asked();
        }
        self.lanes.retain(|lane| !lane.is_over || !lane.backlog.is_empty());
    }

    fn requested(&mut self, index: usize, request: Request) {
        let lane = &mut self.lanes[index];
        match request {
            Request::Open => {
                if let Pair::None { .. } = lane.pair {
                    lane.pair = Pair::Wanted { not_before: Tick::ZERO };
                    lane.retries = 0;
                }
            }
            Request::Close { queue } => {
                lane.is_closing = true;
                match &mut lane.pair {
                    Pair::None { .. } | Pair::Wanted { .. } => {
                        lane.pair_gone(Then::Close, &mut *self.transport)
                    }
                    &mut Pair::Open { id } => lane.delete(id, queue, Then::Close, &mut *self.transport),
                    Pair::Deleting(_) | Pair::Doomed { .. } => lane.keep(queue),
                    Pair::Creating { .. } | Pair::Making { .. } => {}
                }
            }
            // What follows is about a pair: where there is none, it was taken away before the lane knew, and the lane has
            // been told.
            _ if matches!(lane.pair, Pair::None { .. }) => {}
            Request::Stop { queue, why } => {
                let &mut Pair::Open { id } = &mut lane.pair else { return lane.keep(Some(queue)) };
                let reactor = lane.port.reactor.0;
                match why {
                    _ if !matches!(self.state, State::Running | State::Draining { .. }) => {
                        // It goes with the rest.
                        lane.pair = Pair::Doomed { id, queue: Some(queue), then: Then::Stopped };
                    }
                    StopCause::Nonsense(what) => {
                        lane.pair = Pair::Doomed { id, queue: Some(queue), then: Then::Stopped };
                        self.trouble(format!("the IO queue of reactor {reactor}: {what}"));
                    }
                    StopCause::TimedOut => {
                        lane.delete(id, Some(queue), Then::Stopped, &mut *self.transport);
                        let words = "is made anew: a command was neither completed nor aborted in time";
                        self.say(Severity::Warn, format_args!("the IO queue of reactor {reactor} {words}"));
                    }
                    StopCause::Fence => lane.delete(id, Some(queue), Then::Stopped, &mut *self.transport),
                }
            }
            // Where a reset is under way the pair goes before it can use the memory.
            Request::Map { .. } if !self.is_swept => {}
            Request::Map { base, bytes } => self.map(index, base, bytes),
            Request::Abort { cid } => self.want_abort(index, cid),
            Request::WhichLba { cid } => self.want_block(index, cid),
        }
    }

    fn map(&mut self, index: usize, base: usize, bytes: usize) {
        let lane = &mut self.lanes[index];
        let known = lane.mappings.iter().find(|mapping| (mapping.base, mapping.bytes) == (base, bytes));
        let mapping = match known {
            Some(mapping) => Ok(Some(mapping.clone())),
            None => self.transport.map(base, bytes),
        };
        if known.is_none() {
            lane.mappings.extend(mapping.iter().flatten().cloned());
        }
        let failed = mapping.as_ref().err().cloned();
        let reactor = lane.port.reactor.0;
        lane.answer(Reply::Mapped { base, mapping });
        if let Some(why) = failed {
            let words = format_args!("it cannot reach the buffers of reactor {reactor}: {why}");
            self.say(Severity::Error, words);
        }
    }

    /// Makes or deletes a lane's pair, one step further.
    fn drive_pair(&mut self, index: usize) {
        let is_draining = !matches!(self.state, State::Running);
        let lane = &mut self.lanes[index];
        match &mut lane.pair {
            Pair::None { .. } => {
                if is_draining && !lane.is_over {
                    lane.pair_gone(Then::Gone, &mut *self.transport);
                }
            }
            Pair::Wanted { .. } if is_draining => lane.pair_gone(Then::Gone, &mut *self.transport),
            Pair::Wanted { not_before } => {
                if *not_before <= self.now {
                    self.create(index);
                }
            }
            Pair::Creating { id, commands, is_sent } => {
                let (id, command) = (*id, commands.front().copied());
                match command {
                    _ if *is_sent => {}
                    Some(command) => {
                        let purpose = Purpose::Pair(lane.number);
                        let sent = self.send(purpose, &command, AdminData::None);
                        if let Pair::Creating { is_sent, .. } = &mut self.lanes[index].pair {
                            *is_sent = sent;
                        }
                    }
                    None => {
                        lane.pair = Pair::Making { id, due: self.now.after_ns(self.options.admin_ns) };
                        self.has_progress = true;
                    }
                }
            }
            &mut Pair::Making { id, due } => self.make(index, id, due),
            &mut Pair::Open { id } => {
                if is_draining {
                    lane.delete(id, None, Then::Gone, &mut *self.transport);
                    self.has_progress = true;
                }
            }
            Pair::Deleting(deleting) if deleting.is_sent => {}
            Pair::Deleting(deleting) => match deleting.commands.front().copied() {
                Some(command) => {
                    let purpose = Purpose::Pair(lane.number);
                    let sent = self.send(purpose, &command, AdminData::None);
                    if let Pair::Deleting(deleting) = &mut self.lanes[index].pair {
                        deleting.is_sent = sent;
                    }
                }
                None if !self.transport.poll_delete(deleting.id, self.now) => {}
                None => {
                    let (id, then) = (deleting.id, if is_draining { Then::Gone } else { deleting.then });
                    drop(deleting.queue.take());
                    self.transport.forget_queue(id);
                    lane.pair_gone(then, &mut *self.transport);
                    self.has_progress = true;
                }
            },
            Pair::Doomed { .. } => {}
        }
    }

    /// Begins to make a pair, under the first number that is free.
    fn create(&mut self, index: usize) {
        let is_free = |id: &u16| !self.lanes.iter().any(|lane| lane.pair.id() == Some(*id));
        // What reactors need others do not get, whoever comes first.
        let is_guest = self.lanes[index].is_guest();
        let queues = self.queues.min(self.options.reactors);
        let mut ids = if is_guest { queues.saturating_add(1)..=self.queues } else { 1..=queues };
        let Some(id) = ids.find(is_free) else {
            if is_guest {
                return self.guest_waits(index);
            }
            let is_there = |lane: &&Lane| !lane.is_closing && !lane.is_over && !lane.is_guest();
            let lanes = self.lanes.iter().filter(is_there).count();
            if lanes > usize::from(queues) {
                let reactor = self.lanes[index].port.reactor.0;
                let words =
                    format!("it grants {queues} pairs of IO queues, none is left for reactor {reactor}");
                self.say(Severity::Error, format_args!("{words}: run fewer reactors (--cores)"));
                self.lanes[index].pair_gone(Then::Gone, &mut *self.transport);
            }
            // Else one is being given back.
            return;
        };
        let commands = self.transport.create_commands(id, self.entries());
        let lane = &mut self.lanes[index];
        match commands {
            Ok(commands) => {
                lane.pair = Pair::Creating { id, commands: commands.into(), is_sent: false };
                self.has_progress = true;
            }
            Err(why) => {
                self.transport.forget_queue(id);
                self.not_made(index, &why);
            }
        }
    }

    /// There is no pair for a lane that is no reactor's, for now.
    fn guest_waits(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        lane.pair = Pair::Wanted { not_before: self.now.after_ns(RETRY_NS) };
        if lane.retries == 0 && self.queues <= self.options.reactors {
            lane.retries = 1;
            let words =
                "no pair of IO queues is left to fill members of mirrors: run fewer reactors (--cores)";
            self.say(Severity::Error, format_args!("{words}"));
        }
    }

    fn make(&mut self, index: usize, id: u16, due: Tick) {
        let made = self.transport.poll_queue(id, self.entries(), self.now);
        let lane = &mut self.lanes[index];
        let why = match made {
            Progress::Pending if self.now < due => return,
            Progress::Ready(queue) => {
                self.has_progress = true;
                lane.pair = Pair::Open { id };
                lane.retries = 0;
                if lane.is_closing {
                    return lane.delete(id, Some(queue), Then::Close, &mut *self.transport);
                }
                return lane.answer(Reply::Opened(queue));
            }
            Progress::Pending => "it takes too long".to_owned(),
            Progress::Failed(why) => why,
        };
        // Where commands made it, commands delete it.
        let commands = self.transport.delete_commands(id);
        if commands.is_empty() {
            self.transport.forget_queue(id);
            self.not_made(index, &why);
        } else {
            lane.delete(id, None, Then::Gone, &mut *self.transport);
            self.refused(index, &why);
        }
    }

    /// A lane's pair could not be made, and nothing is left of it: it is tried again, a few times.
    fn not_made(&mut self, index: usize, why: &str) {
        let lane = &mut self.lanes[index];
        lane.retries = lane.retries.saturating_add(1);
        if lane.is_closing {
            lane.pair_gone(Then::Close, &mut *self.transport);
        } else if lane.retries < RETRIES {
            lane.pair = Pair::Wanted { not_before: self.now.after_ns(RETRY_NS) };
        } else {
            lane.pair_gone(Then::Gone, &mut *self.transport);
            self.refused(index, why);
        }
    }

    fn refused(&mut self, index: usize, why: &str) {
        let reactor = self.lanes[index].port.reactor.0;
        let words = format!("no IO queue for reactor {reactor}: {why}");
        self.say(Severity::Error, format_args!("{words}; detach and attach it to try again"));
    }

    /// A command that makes or deletes a pair has completed.
    pub(super) fn pair_done(&mut self, number: u64, completion: &Completion) {
        let Some(index) = self.lanes.iter().position(|lane| lane.number == number) else { return };
        let (lane, status) = (&mut self.lanes[index], completion.status);
        match &mut lane.pair {
            Pair::Creating { commands, is_sent, .. } if status.is_ok() => {
                *is_sent = false;
                commands.pop_front();
            }
            &mut Pair::Creating { id, .. } => {
                lane.delete(id, None, Then::Gone, &mut *self.transport);
                if let Pair::Deleting(deleting) = &mut lane.pair {
                    deleting.is_half = true;
                }
                self.refused(index, &format!("the controller says status {:#06x}", status.bits()));
            }
            Pair::Deleting(deleting) => {
                if status.is_ok() || deleting.is_half && is_no_queue(status) {
                    deleting.is_sent = false;
                    deleting.commands.pop_front();
                    return;
                }
                let (id, queue, then) = (deleting.id, deleting.queue.take(), deleting.then);
                lane.pair = Pair::Doomed { id, queue, then };
                self.trouble(format!("it does not delete IO queue {id} (status {:#06x})", status.bits()));
            }
            Pair::None { .. }
            | Pair::Wanted { .. }
            | Pair::Making { .. }
            | Pair::Open { .. }
            | Pair::Doomed { .. } => {}
        }
    }

    /// Nothing that the device was given can be reached by it any more: tells the lanes.
    pub(super) fn sweep(&mut self) {
        for lane in &mut self.lanes {
            match mem::replace(&mut lane.pair, Pair::None { stale: None }) {
                pair @ (Pair::None { .. } | Pair::Wanted { .. }) => lane.pair = pair,
                Pair::Creating { id, .. } | Pair::Making { id, .. } => {
                    self.transport.forget_queue(id);
                    if lane.is_closing {
                        lane.pair_gone(Then::Close, &mut *self.transport);
                    } else {
                        lane.pair = Pair::Wanted { not_before: Tick::ZERO };
                    }
                }
                Pair::Open { id } => {
                    self.transport.forget_queue(id);
                    lane.pair_gone(Then::Stopped, &mut *self.transport);
                    // The lane has it until it hears of that.
                    lane.pair = Pair::None { stale: Some(id) };
                }
                Pair::Deleting(Deleting { id, queue, then, .. }) | Pair::Doomed { id, queue, then } => {
                    drop(queue);
                    self.transport.forget_queue(id);
                    lane.pair_gone(then, &mut *self.transport);
                }
            }
        }
    }

    /// As [`Controller::sweep`], for good.
    pub(super) fn dismiss(&mut self) {
        for mut lane in mem::take(&mut self.lanes) {
            let pair = mem::replace(&mut lane.pair, Pair::None { stale: None });
            if let Some(id) = pair.id() {
                self.transport.forget_queue(id);
            }
            drop(pair);
            if !lane.is_over {
                lane.pair_gone(Then::Gone, &mut *self.transport);
            }
        }
    }

    /// Whether something of a lane's is to be looked at again soon.
    pub(super) fn lanes_wait(&self) -> bool {
        let is_at_work = |lane: &Lane| match lane.pair {
            Pair::None { .. } | Pair::Open { .. } => !lane.backlog.is_empty(),
            Pair::Wanted { .. } => matches!(self.state, State::Running),
            Pair::Creating { .. } | Pair::Making { .. } | Pair::Deleting(_) | Pair::Doomed { .. } => true,
        };
        self.lanes.iter().any(is_at_work)
    }

    fn entries(&self) -> u16 {
        u16::try_from(self.limits.entries_max.min(ENTRIES_MAX)).unwrap_or(u16::MAX)
    }
}

/// Invalid queue identifier (Base figure 99).
fn is_no_queue(status: Status) -> bool {
    (status.kind(), status.code()) == (1, 0x01)
}
