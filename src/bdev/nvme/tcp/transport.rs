//! Administration over TCP: the admin queue's connection, registers as properties, a connection for each pair of IO queues.

use std::net::SocketAddr;

use super::bring_up::BringUp;
use super::fabrics::{self, property};
use super::link::{Link, STEP_NS};
pub(crate) use super::pdu::Digests;
use super::queue::TcpQueue;
use super::socket::{self, Socket};
use crate::bdev::file::machine_uuid;
use crate::bdev::nvme::bus::Mapping;
use crate::bdev::nvme::queue::Queue;
use crate::bdev::nvme::spec::{Command, Completion};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData, Limits, Progress, Transport};
use crate::control::registry::uuid_text;
use crate::time::Tick;

/// A discovery controller's subsystem (Base §4.5).
pub(crate) const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// Where discovery controllers listen.
pub(crate) const DISCOVERY_PORT: u16 = 8009;
/// Entries of the admin queue, the least that Connect takes (Base §6.3).
const ADMIN_ENTRIES: u16 = 32;
/// The id of commands of the transport's own; the caller uses others.
pub(super) const OWN_CID: u16 = 0xFFF0;
/// When we end a connection, the controller has so long to end it too, which it does when nothing of it is under way.
const DRAIN_NS: u64 = STEP_NS / 2;
/// Notification of a normal shutdown in CC, and the state in CSTS in which it is complete (Base §3.1.3).
const CC_SHUT_DOWN: u32 = 1 << 14;
const CSTS_SHUTDOWN: u32 = 3 << 2;
const CSTS_SHUT_DOWN: u32 = 2 << 2;

/// Where a controller is and as whom it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// Address and port. Names are resolved by who makes this.
    pub(crate) address: SocketAddr,
    /// The subsystem.
    pub(crate) subnqn: String,
    /// This host: mostly `nqn.2014-08.org.nvmexpress:uuid:` and a UUID.
    pub(crate) hostnqn: String,
    /// The same for all connections of this host.
    pub(crate) host_id: [u8; 16],
    /// What every PDU is to be protected with.
    pub(crate) digests: Digests,
    /// Keep-alive timeout that the connection begins with; 0 for none.
    pub(crate) keep_alive_ms: u32,
}

impl Options {
    /// As this machine, under the name that is made of its id.
    pub(crate) fn of_this_machine(address: SocketAddr, subnqn: &str) -> Options {
        let host_id = machine_uuid();
        let hostnqn = format!("nqn.2014-08.org.nvmexpress:uuid:{}", uuid_text(&host_id));
        Options::new(address, subnqn, &hostnqn, host_id)
    }

    /// Without digests.
    pub(crate) fn new(address: SocketAddr, subnqn: &str, hostnqn: &str, host_id: [u8; 16]) -> Options {
        Options {
            address,
            subnqn: subnqn.to_owned(),
            hostnqn: hostnqn.to_owned(),
            host_id,
            digests: Digests::default(),
            keep_alive_ms: 30_000,
        }
    }
}

/// Why a name cannot be an NQN, where it cannot (Base §4.5): what to do.
pub(crate) fn nqn_problem(name: &str) -> Option<String> {
    let is_named = name.starts_with("nqn.") && name.len() <= fabrics::NQN_BYTES_MAX;
    let is_plain = name.chars().all(|c| !c.is_control());
    (!is_named || !is_plain)
        .then(|| format!("'{name}' is no NQN: one begins with 'nqn.' and has at most 223 bytes"))
}

/// What the admin queue has told of the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) limits: Limits,
    /// Its number, which the IO queues' connections name.
    pub(super) controller: u16,
    /// The most data in a capsule of an IO queue.
    pub(super) capsule_bytes: usize,
}

/// A pair of IO queues on its way.
#[derive(Debug)]
struct Opening {
    id: u16,
    entries: u16,
    link: Link,
    /// When Connect was sent.
    asked: Option<Tick>,
}

#[derive(Debug)]
enum State {
    Down,
    /// Older connections end.
    Draining,
    Starting(Box<BringUp>),
    Up(Box<Link>, Known),
    /// A property is being set, or read.
    Stopping {
        link: Box<Link>,
        deadline: Tick,
    },
}

/// A controller over TCP.
#[derive(Debug)]
pub(crate) struct TcpTransport {
    options: Options,
    state: State,
    opening: Vec<Opening>,
    /// Connections of pairs, and when they are cut that are ending.
    queues: Vec<(u16, Socket, Option<Tick>)>,
    /// Connections that are ending, and when they are cut.
    draining: Vec<(Socket, Option<Tick>)>,
}

impl TcpTransport {
    /// Nothing is connected before [`Transport::start`].
    pub(crate) fn new(options: Options) -> TcpTransport {
        TcpTransport {
            options,
            state: State::Down,
            opening: Vec::new(),
            queues: Vec::new(),
            draining: Vec::new(),
        }
    }

    /// Ends all connections, in a way that tells when the controller is done with what it had.
    fn end_all(&mut self) {
        let admin = match std::mem::replace(&mut self.state, State::Down) {
            State::Starting(bring_up) => Some(bring_up.socket().clone()),
            State::Up(link, _) | State::Stopping { link, .. } => Some(link.socket().clone()),
            State::Down | State::Draining => None,
        };
        admin.into_iter().for_each(|socket| self.end(socket));
        while let Some(opening) = self.opening.pop() {
            self.end(opening.link.socket().clone());
        }
        while let Some((_, socket, _)) = self.queues.pop() {
            self.end(socket);
        }
    }

    /// Ends one: it counts as ended once the controller has ended it too, which it does when nothing of it is under way.
    fn end(&mut self, socket: Socket) {
        socket::finish(&socket);
        self.draining.push((socket, None));
    }

    /// Whether all that are ending have ended, if only because they were cut.
    fn poll_drain(&mut self, now: Tick) -> bool {
        self.draining.retain_mut(|(socket, deadline)| {
            let is_over =
                now > *deadline.get_or_insert(now.after_ns(DRAIN_NS)) || socket::is_finished(socket);
            if is_over {
                socket::shut_down(socket);
            }
            !is_over
        });
        self.draining.is_empty()
    }

    /// Ends all without waiting for the controller.
    fn cut_all(&mut self) {
        self.end_all();
        self.draining.drain(..).for_each(|(socket, _)| socket::shut_down(&socket));
    }

    fn bring_up(&mut self, now: Tick) -> Result<Option<Limits>, String> {
        if matches!(self.state, State::Draining) {
            if !self.poll_drain(now) {
                return Ok(None);
            }
            let link = Link::new(
                0,
                ADMIN_ENTRIES - 1,
                ADMIN_ENTRIES - 1,
                self.options.address,
                self.options.digests,
                now,
            )?;
            self.state = State::Starting(Box::new(BringUp::new(link, now)));
        }
        let State::Starting(bring_up) = &mut self.state else { return Err("it was not started".to_owned()) };
        let Some(known) = bring_up.poll(&self.options, ADMIN_ENTRIES, now)? else { return Ok(None) };
        if let State::Starting(bring_up) = std::mem::replace(&mut self.state, State::Down) {
            self.state = State::Up(Box::new(bring_up.into_link()), known);
        }
        Ok(Some(known.limits))
    }

    fn open_queue(&mut self, id: u16, entries: u16, now: Tick) -> Result<Option<TcpQueue>, String> {
        let State::Up(_, known) = &self.state else {
            return Err("the controller is not connected".to_owned());
        };
        let depth = entries.saturating_sub(1).max(1);
        let at = match self.opening.iter().position(|opening| (opening.id, opening.entries) == (id, entries))
        {
            Some(at) => at,
            None => {
                self.opening.retain(|opening| opening.id != id);
                let link = Link::new(id, depth, 1, self.options.address, self.options.digests, now)?;
                self.opening.push(Opening { id, entries, link, asked: None });
                self.opening.len() - 1
            }
        };
        let opening = &mut self.opening[at];
        let Some(asked) = opening.asked else {
            if opening.link.poll_open(now)? {
                let data = fabrics::connect_data(
                    self.options.host_id,
                    known.controller,
                    &self.options.subnqn,
                    &self.options.hostnqn,
                );
                let connect = fabrics::connect(id, entries, 0);
                opening.link.submit(OWN_CID, &connect, AdminData::Out(&data));
                opening.asked = Some(now);
            }
            return Ok(None);
        };
        let Some((completion, _)) = opening.link.pop(now) else {
            opening.link.check()?;
            return if now.since_ns(asked) > STEP_NS {
                Err("Connect is not answered".to_owned())
            } else {
                Ok(None)
            };
        };
        if let Some(why) = fabrics::connect_failed(&completion) {
            return Err(why);
        }
        let opening = self.opening.swap_remove(at);
        self.queues.push((id, opening.link.socket().clone(), None));
        Ok(Some(TcpQueue::new(depth, opening.link.into_stream(known.capsule_bytes))))
    }

    fn poll_shutdown(&mut self, now: Tick) -> bool {
        let State::Stopping { link, deadline } = &mut self.state else { return true };
        if now > *deadline || link.check().is_err() {
            return true;
        }
        while let Some((completion, _)) = link.pop(now) {
            if completion.cid != OWN_CID {
                continue;
            }
            let value = completion.result & u64::from(CSTS_SHUTDOWN);
            if !completion.status.is_ok() || value == u64::from(CSTS_SHUT_DOWN) {
                return true;
            }
            link.submit(OWN_CID, &fabrics::property_get(property::CSTS, false), AdminData::None);
        }
        false
    }
}

impl Transport for TcpTransport {
    fn name(&self) -> String {
        format!("TCP {} {}", self.options.address, self.options.subnqn)
    }

    fn start(&mut self, _: Tick) {
        self.end_all();
        self.state = State::Draining;
    }

    fn poll_start(&mut self, now: Tick) -> Progress<Limits> {
        match self.bring_up(now) {
            Ok(None) => Progress::Pending,
            Ok(Some(limits)) => Progress::Ready(limits),
            Err(why) => {
                self.cut_all();
                Progress::Failed(format!("{}: {why}", self.name()))
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.queues.is_empty() && self.draining.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        match &self.state {
            State::Up(link, _) => link.check(),
            _ => Err("the controller is not connected".to_owned()),
        }
    }

    fn submit(&mut self, cid: u16, command: &Command, data: AdminData<'_>) -> bool {
        let State::Up(link, _) = &mut self.state else { return false };
        link.submit(cid, command, data)
    }

    fn pop(&mut self, now: Tick) -> Option<(Completion, Option<&[u8; ADMIN_DATA_BYTES]>)> {
        let State::Up(link, _) = &mut self.state else { return None };
        link.pop(now)
    }

    fn create_commands(&mut self, _: u16, _: u16) -> Result<Vec<Command>, String> {
        Ok(Vec::new())
    }

    fn poll_queue(&mut self, id: u16, entries: u16, now: Tick) -> Progress<Box<dyn Queue + Send>> {
        match self.open_queue(id, entries, now) {
            Ok(None) => Progress::Pending,
            Ok(Some(queue)) => Progress::Ready(Box::new(queue)),
            Err(why) => {
                self.forget_queue(id);
                Progress::Failed(format!("{}, queue {id}: {why}", self.name()))
            }
        }
    }

    fn delete_commands(&mut self, _: u16) -> Vec<Command> {
        Vec::new()
    }

    fn poll_delete(&mut self, id: u16, now: Tick) -> bool {
        let Some((_, socket, deadline)) = self.queues.iter_mut().find(|(queue, ..)| *queue == id) else {
            return true;
        };
        if deadline.is_none() {
            socket::finish(socket);
        }
        now > *deadline.get_or_insert(now.after_ns(DRAIN_NS)) || socket::is_finished(socket)
    }

    fn forget_queue(&mut self, id: u16) {
        self.opening.retain(|opening| opening.id != id);
        while let Some(at) = self.queues.iter().position(|(queue, ..)| *queue == id) {
            let (_, socket, _) = self.queues.swap_remove(at);
            socket::shut_down(&socket);
        }
    }

    fn map(&mut self, _: usize, _: usize) -> Result<Option<Mapping>, String> {
        Ok(None)
    }

    fn unmap(&mut self, _: &Mapping) {}

    fn stop(&mut self, now: Tick) {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Up(mut link, _) => {
                let enabled = super::bring_up::CC_ENABLED;
                let notice = fabrics::property_set(property::CC, enabled | CC_SHUT_DOWN);
                link.submit(OWN_CID, &notice, AdminData::None);
                self.state = State::Stopping { link, deadline: now.after_ns(STEP_NS) };
            }
            other => self.state = other,
        }
    }

    fn poll_stop(&mut self, now: Tick) -> Progress<()> {
        if !self.poll_shutdown(now) {
            return Progress::Pending;
        }
        if !matches!(self.state, State::Down) {
            self.end_all();
        }
        if self.poll_drain(now) { Progress::Ready(()) } else { Progress::Pending }
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.cut_all();
    }
}
