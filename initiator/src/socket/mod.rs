//! A driver over TCP: [`Client`] for tests that wait, [`wait_any`] for programs with many sessions on one thread,
//! [`Wire`] for tests that speak PDU by PDU.
//!
//! Sockets are non-blocking and waiting is `poll(2)`, so a target that does not read while it writes cannot lock a
//! test up. Every wait has a deadline.

mod calls;
mod client;
mod wire;

pub use client::Client;
pub use wire::Wire;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::login::LoginError;
use crate::session::{Completion, Refused, Violation};

/// How long a client waits for anything unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What may go wrong.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SocketError {
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    #[error("the target broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("no answer in time")]
    Timeout,
    #[error("the target closed the connection")]
    Closed,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the command ended with response {}, status {:#04x}, sense {:02x?}", .0.response, .0.status, .0.sense)]
    Status(Box<Completion>),
    #[error("the command was aborted")]
    Aborted,
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// What comes of waiting.
pub type Result<T> = std::result::Result<T, SocketError>;

/// Waits until one of the clients can go on, or the time is over; then call [`Client::service`] on each.
///
/// # Errors
/// `poll(2)` failed.
pub fn wait_any<'a>(clients: impl IntoIterator<Item = &'a Client>, timeout: Duration) -> Result<()> {
    let mut fds: Vec<_> = clients.into_iter().map(Client::poll_fd).collect();
    poll_for(&mut fds, Instant::now() + timeout)?;
    Ok(())
}

/// Waits for the events asked for; false when the deadline came first.
fn poll_for(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(fds, Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for one socket.
fn wait_one(socket: &impl AsFd, flags: PollFlags, deadline: Instant) -> Result<()> {
    let mut fds = [PollFd::new(socket, flags)];
    if poll_for(&mut fds, deadline)? { Ok(()) } else { Err(SocketError::Timeout) }
}

/// The result of a call that would block: `None`.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
