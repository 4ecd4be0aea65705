//! A bare connection: PDUs and bytes, nothing checked but the frame.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::{Result, SocketError, TIMEOUT, unless_blocked, wait_one};
use crate::config::Config;
use crate::login::{Login, Outcome, Step};
use crate::pdu::{Deframer, Digests, Pdu};

/// A connection for tests that say what no initiator would.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    deframer: Deframer,
    /// Received and not cut into PDUs yet.
    input: Vec<u8>,
    timeout: Duration,
}

impl Wire {
    /// Connects and says nothing.
    ///
    /// # Errors
    /// The address or the socket.
    pub fn connect(address: impl ToSocketAddrs) -> Result<Self> {
        let stream = connect(address)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, deframer: Deframer::new(0xff_ffff), input: Vec::new(), timeout: TIMEOUT })
    }

    /// How long each call waits.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// The digests in force from the next PDU on.
    pub fn set_digests(&mut self, digests: Digests) {
        self.deframer.digests = digests;
    }

    /// Sends bytes as they are. Nothing is read meanwhile, however long the target wants to be read from.
    ///
    /// # Errors
    /// The socket, or the target does not read.
    pub fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        while !bytes.is_empty() {
            match unless_blocked(self.stream.write(bytes))? {
                Some(sent) => bytes = &bytes[sent..],
                None => wait_one(&self.stream, PollFlags::OUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Sends a PDU with the digests in force.
    ///
    /// # Errors
    /// As [`Wire::send_bytes`].
    pub fn send(&mut self, pdu: &Pdu) -> Result<()> {
        let mut bytes = Vec::new();
        pdu.encode(self.deframer.digests, &mut bytes);
        self.send_bytes(&bytes)
    }

    /// The next PDU; `None` when the target has closed or reset the connection.
    ///
    /// # Errors
    /// The socket, [`SocketError::Timeout`], or a broken frame.
    pub fn receive(&mut self) -> Result<Option<Pdu>> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let mut rest = &self.input[..];
            let found = match self.deframer.next(&mut rest) {
                Ok(found) => found.map(|pdu| pdu.to_pdu()),
                Err(error) => return Err(SocketError::Io(io::Error::new(io::ErrorKind::InvalidData, error))),
            };
            let used = self.input.len() - rest.len();
            self.input.drain(..used);
            if found.is_some() {
                return Ok(found);
            }
            match self.fill()? {
                Filled::Some => {}
                Filled::Nothing => wait_one(&self.stream, PollFlags::IN, deadline)?,
                Filled::End => return Ok(None),
            }
        }
    }

    /// Runs a login to its end; afterwards the digests it settled are in force.
    ///
    /// # Errors
    /// The login failed, or the connection did.
    pub fn login(&mut self, config: &Config) -> Result<Outcome> {
        let (mut login, mut request) = Login::start(config);
        loop {
            self.send(&request)?;
            let response = self.receive()?.ok_or(SocketError::Closed)?;
            match login.respond(&response.as_view())? {
                Step::Send(next) => request = next,
                Step::Done(outcome) => {
                    self.deframer.digests = outcome.params.digests;
                    return Ok(*outcome);
                }
            }
        }
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// The socket.
    pub fn shutdown_write(&self) -> Result<()> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// The socket, for options.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self) -> Result<Filled> {
        let mut buffer = [0; 16 << 10];
        match unless_blocked(self.stream.read(&mut buffer)) {
            Ok(Some(0)) => Ok(Filled::End),
            Ok(Some(bytes)) => {
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(Filled::Some)
            }
            Ok(None) => Ok(Filled::Nothing),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Filled::End),
            Err(error) => Err(error.into()),
        }
    }
}

enum Filled {
    Some,
    Nothing,
    End,
}

/// Connects to the first address that answers, within the usual time.
pub(super) fn connect(address: impl ToSocketAddrs) -> Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}
