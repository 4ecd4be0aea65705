//! One session over one TCP connection.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::{Result, SocketError, TIMEOUT, unless_blocked, wait_one};
use crate::config::{Config, Params};
use crate::login::LoginError;
use crate::pdu::length;
use crate::scsi::{Capacity, Sense, cdb, sense_key};
use crate::session::{Command, Completion, Data, Event, Initiator, Tmf};
use crate::text;

/// Bytes taken from the socket at a time.
const RECEIVE_BYTES: usize = 256 << 10;

/// Receive calls of one `service`, so that a fast target cannot hold it for ever.
const RECEIVES_MAX: usize = 16;

/// A session over TCP.
pub struct Client {
    stream: TcpStream,
    initiator: Initiator,
    buffer: Box<[u8]>,
    /// Events that a call waiting for another one has put aside.
    aside: VecDeque<Event>,
    closed: bool,
    wants_write: bool,
    lun: u64,
    timeout: Duration,
    capacity: Option<Capacity>,
}

impl Client {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The address, the socket, the login, or 10 seconds.
    pub fn connect(address: impl ToSocketAddrs, config: Config) -> Result<Self> {
        let mut client = Self::start(address, config)?;
        client.finish_login()?;
        Ok(client)
    }

    /// Connects without waiting for the login.
    ///
    /// # Errors
    /// The address or the socket.
    pub fn start(address: impl ToSocketAddrs, config: Config) -> Result<Self> {
        let stream = super::wire::connect(address)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            initiator: Initiator::new(config),
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            aside: VecDeque::new(),
            closed: false,
            wants_write: true,
            lun: 0,
            timeout: TIMEOUT,
            capacity: None,
        })
    }

    /// Waits for the end of the login.
    ///
    /// # Errors
    /// The login was refused, or went wrong.
    pub fn finish_login(&mut self) -> Result<Params> {
        let deadline = Instant::now() + self.timeout;
        self.wait_for(deadline, |event| match event {
            Event::LoggedIn(params) => Ok(Ok(*params)),
            Event::LoginFailed(error) => Ok(Err(error)),
            other => Err(other),
        })?
        .map_err(SocketError::from)
    }

    /// Lists the targets of a portal in a discovery session and logs out.
    ///
    /// # Errors
    /// As [`Client::connect`] and [`Client::send_targets`].
    pub fn discover(address: impl ToSocketAddrs, config: Config) -> Result<Vec<(String, String)>> {
        let mut client = Self::connect(address, Config { target_name: None, ..config })?;
        let targets = client.send_targets("All")?;
        client.logout()?;
        Ok(targets)
    }

    /// The session, to queue requests on. They go out with the next wait or [`Client::service`].
    pub fn session(&mut self) -> &mut Initiator {
        &mut self.initiator
    }

    /// What was negotiated.
    #[must_use]
    pub fn params(&self) -> Option<&Params> {
        self.initiator.params()
    }

    /// The logical unit of the calls that name none: a LUN field.
    pub fn set_lun(&mut self, lun: u64) {
        self.lun = lun;
        self.capacity = None;
    }

    /// The logical unit in use.
    #[must_use]
    pub fn lun(&self) -> u64 {
        self.lun
    }

    /// How long each call waits.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Our end of the connection.
    ///
    /// # Errors
    /// The socket.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends and receives what can be without waiting; says whether anything moved.
    ///
    /// # Errors
    /// The socket, or the target's offence. [`SocketError::Closed`] comes only when no event is left.
    pub fn service(&mut self) -> Result<bool> {
        let mut moved = self.send()?;
        for _ in 0..RECEIVES_MAX {
            if self.closed {
                break;
            }
            match unless_blocked(self.stream.read(&mut self.buffer)) {
                Ok(Some(0)) => self.closed = true,
                Ok(Some(bytes)) => {
                    moved = true;
                    self.initiator.receive(&self.buffer[..bytes])?;
                    if bytes < self.buffer.len() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.closed = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.send()? || moved)
    }

    fn send(&mut self) -> Result<bool> {
        let mut moved = false;
        self.wants_write = false;
        while !self.closed {
            let outgoing = self.initiator.outgoing();
            if outgoing.is_empty() {
                break;
            }
            match unless_blocked(self.stream.write(outgoing)) {
                Ok(Some(bytes)) => {
                    self.initiator.sent(bytes);
                    moved = true;
                }
                Ok(None) => {
                    self.wants_write = true;
                    break;
                }
                // What the target said before it closed is still to be read.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => self.closed = true,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }

    /// The next event that is there already; never waits, never touches the socket.
    pub fn next_event(&mut self) -> Option<Event> {
        self.aside.pop_front().or_else(|| self.initiator.next_event())
    }

    /// Whether the target has closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next event, or `None` when the time is over.
    ///
    /// # Errors
    /// The socket, the target's offence, or a closed connection.
    pub fn wait_event(&mut self, timeout: Duration) -> Result<Option<Event>> {
        if let Some(event) = self.aside.pop_front() {
            return Ok(Some(event));
        }
        match self.fresh_event(Instant::now() + timeout) {
            Ok(event) => Ok(Some(event)),
            Err(SocketError::Timeout) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the target closes the connection; events in between are kept.
    ///
    /// # Errors
    /// [`SocketError::Timeout`] when it does not, or the target's offence.
    pub fn wait_closed(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.fresh_event(deadline) {
                Ok(event) => self.aside.push_back(event),
                Err(SocketError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn fresh_event(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            if let Some(event) = self.initiator.next_event() {
                return Ok(event);
            }
            if self.closed {
                return Err(SocketError::Closed);
            }
            if !self.service()? && !self.closed {
                wait_one(&self.stream, self.poll_flags(), deadline)?;
            }
        }
    }

    /// Waits for the event that `pick` takes; it gives the others back, and they are kept.
    fn wait_for<T>(
        &mut self,
        deadline: Instant,
        pick: impl Fn(Event) -> std::result::Result<T, Event>,
    ) -> Result<T> {
        loop {
            match pick(self.fresh_event(deadline)?) {
                Ok(found) => return Ok(found),
                Err(other) => self.aside.push_back(other),
            }
        }
    }

    /// Runs one command to its end, whatever the status.
    ///
    /// # Errors
    /// No completion came.
    pub fn run(&mut self, command: Command) -> Result<Completion> {
        let itt = self.initiator.command(command)?;
        self.completion(itt)
    }

    /// Waits for the end of a command that was queued on the session.
    ///
    /// # Errors
    /// No completion came.
    pub fn completion(&mut self, itt: u32) -> Result<Completion> {
        let is_it = |event: &Event| match event {
            Event::Completed(completion) => completion.itt == itt,
            Event::Aborted { itt: aborted, .. } => *aborted == itt,
            _ => false,
        };
        let there = self.aside.iter().position(is_it).and_then(|index| self.aside.remove(index));
        let deadline = Instant::now() + self.timeout;
        let event = match there {
            Some(event) => event,
            None => self.wait_for(deadline, |event| if is_it(&event) { Ok(event) } else { Err(event) })?,
        };
        match event {
            Event::Completed(completion) => Ok(completion),
            _ => Err(SocketError::Aborted),
        }
    }

    /// Runs a command that is to end GOOD; a unit attention is taken and the command run again.
    ///
    /// # Errors
    /// No completion, or one with another status.
    pub fn command(&mut self, cdb: [u8; 16], data: Data) -> Result<Completion> {
        let command = Command::new(self.lun, cdb, data);
        let mut attentions_left = 8;
        loop {
            let completion = self.run(command.clone())?;
            if completion.is_good() {
                return Ok(completion);
            }
            let key = Sense::decode(&completion.sense).map(|sense| sense.key);
            if key != Some(sense_key::UNIT_ATTENTION) || attentions_left == 0 {
                return Err(SocketError::Status(Box::new(completion)));
            }
            attentions_left -= 1;
        }
    }

    /// READ CAPACITY (16); asked once and remembered.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn capacity(&mut self) -> Result<Capacity> {
        if let Some(capacity) = self.capacity {
            return Ok(capacity);
        }
        let answer = self.command(cdb::read_capacity_16(32), Data::In(32))?;
        let capacity = Capacity::decode_16(&answer.data);
        self.capacity = capacity;
        capacity.ok_or_else(|| SocketError::Unexpected(format!("capacity {:02x?}", answer.data)))
    }

    /// READ (16).
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn read(&mut self, lba: u64, blocks: u32) -> Result<Vec<u8>> {
        let bytes = blocks.saturating_mul(self.capacity()?.block_bytes);
        Ok(self.command(cdb::read_16(lba, blocks, cdb::Flags::default()), Data::In(bytes))?.data)
    }

    /// WRITE (16); the data are whole blocks.
    ///
    /// # Errors
    /// As [`Client::command`].
    pub fn write(&mut self, lba: u64, data: &[u8]) -> Result<()> {
        let blocks = length(data.len()) / self.capacity()?.block_bytes.max(1);
        let cdb = cdb::write_16(lba, blocks, cdb::Flags::default());
        self.command(cdb, Data::Out(data.to_vec().into()))?;
        Ok(())
    }

    /// Runs a task management function and returns its response code.
    ///
    /// # Errors
    /// No response came.
    pub fn task_management(&mut self, request: Tmf) -> Result<u8> {
        let wanted = self.initiator.task_management(request)?;
        self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::TmfResponse { itt, response } if itt == wanted => Ok(response),
            other => Err(other),
        })
    }

    /// Sends a NOP-Out and waits for its echo.
    ///
    /// # Errors
    /// No echo came.
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        let wanted = self.initiator.ping(0, data, false)?;
        self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::NopIn { itt, data, .. } if itt == wanted => Ok(data),
            other => Err(other),
        })
    }

    /// Sends text and waits for the whole answer, as pairs.
    ///
    /// # Errors
    /// No answer came, or no text.
    pub fn text(&mut self, question: &[u8]) -> Result<Vec<(String, String)>> {
        let wanted = self.initiator.text(question)?;
        let answer = self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::TextResponse { itt, text } if itt == wanted => Ok(text),
            other => Err(other),
        })?;
        text::decode(&answer).map_err(|error| LoginError::from(error).into())
    }

    /// SendTargets; the answer's pairs in order: TargetName, then its TargetAddresses.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn send_targets(&mut self, which: &str) -> Result<Vec<(String, String)>> {
        self.text(&text::encode([("SendTargets", which)]))
    }

    /// Logs out and waits for the target to close.
    ///
    /// # Errors
    /// No response, or not response 0.
    pub fn logout(&mut self) -> Result<()> {
        self.initiator.logout(0, true)?;
        let response = self.wait_for(Instant::now() + self.timeout, |event| match event {
            Event::LogoutResponse(response) => Ok(response.response),
            other => Err(other),
        })?;
        if response == 0 {
            Ok(())
        } else {
            Err(SocketError::Unexpected(format!("logout response {response}")))
        }
    }

    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.stream, self.poll_flags())
    }

    fn poll_flags(&self) -> PollFlags {
        if self.wants_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("stream", &self.stream)
            .field("closed", &self.closed)
            .field("counters", self.initiator.counters())
            .finish_non_exhaustive()
    }
}
