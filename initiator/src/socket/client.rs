//! One session over one TCP connection.

use std::collections::VecDeque;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::{Result, SocketError, TIMEOUT, unless_blocked, wait_one};
use crate::config::{Config, Params};
use crate::scsi::Capacity;
use crate::session::{Event, Initiator};

/// Bytes taken from the socket at a time.
const RECEIVE_BYTES: usize = 256 << 10;

/// Receive calls of one `service`, so that a fast target cannot hold it for ever.
const RECEIVES_MAX: usize = 16;

/// A session over TCP.
pub struct Client {
    stream: TcpStream,
    pub(super) initiator: Initiator,
    buffer: Box<[u8]>,
    /// Events that a call waiting for another one has put aside.
    pub(super) aside: VecDeque<Event>,
    closed: bool,
    wants_write: bool,
    pub(super) lun: u64,
    pub(super) timeout: Duration,
    pub(super) capacity: Option<Capacity>,
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
    pub(super) fn wait_for<T>(
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
