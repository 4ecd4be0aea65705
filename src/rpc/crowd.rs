//! The connections of a listening socket for calls: how many there may be, and how they end.
//!
//! Who has to prove itself first is a stranger until it has: of those there are few, and one more ends the oldest, so that nobody who
//! does not can keep others out.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{Shutdown, shutdown};

use super::converse::LINGER;
use crate::limits::{RPC_CONNS_MAX, RPC_STRANGERS_MAX};

/// When nothing can be accepted (no descriptors), the next try comes after so long.
const RETRY: Duration = Duration::from_millis(100);

/// The connections.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Nobody is accepted any more.
    is_over: AtomicBool,
    /// Readable once that is so.
    over: OwnedFd,
    conns: Mutex<Conns>,
    /// One of them has ended.
    left: Condvar,
}

#[derive(Debug, Default)]
struct Conns {
    /// For their numbers.
    accepted: usize,
    /// In the order in which they came.
    list: Vec<Conn>,
}

#[derive(Debug)]
struct Conn {
    number: usize,
    socket: OwnedFd,
    is_stranger: bool,
}

impl Crowd {
    pub(super) fn new() -> io::Result<Crowd> {
        let over = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Crowd { is_over: AtomicBool::new(false), over, conns: Mutex::default(), left: Condvar::new() })
    }

    /// Takes connections from a listening socket that does not block, until [`Crowd::stop_accepting`].
    pub(super) fn take_in<S>(
        &self,
        listener: impl AsFd,
        accept: impl Fn() -> io::Result<S>,
        start: impl Fn(S),
    ) {
        loop {
            let mut waited = [PollFd::new(&listener, PollFlags::IN), PollFd::new(&self.over, PollFlags::IN)];
            // What goes wrong here is found out below.
            let _ = poll(&mut waited, None);
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            match accept() {
                Ok(stream) => start(stream),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::WouldBlock
                    ) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept JSON-RPC clients at the moment");
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// One more connection, where there is room: its number. For a stranger there always is.
    pub(super) fn enter(&self, socket: OwnedFd, is_stranger: bool) -> Option<usize> {
        let mut conns = self.conns();
        let alike = || conns.list.iter().enumerate().filter(|(_, conn)| conn.is_stranger == is_stranger);
        let (count, oldest) = (alike().count(), alike().next().map(|(index, _)| index));
        match oldest {
            Some(oldest) if is_stranger && count >= RPC_STRANGERS_MAX => {
                // Its thread finds out.
                let _ = shutdown(&conns.list.remove(oldest).socket, Shutdown::Both);
            }
            _ if !is_stranger && count >= RPC_CONNS_MAX => return None,
            _ => {}
        }
        let number = conns.accepted;
        conns.accepted += 1;
        conns.list.push(Conn { number, socket, is_stranger });
        Some(number)
    }

    /// A stranger has proved itself. Whether there is room for it.
    #[cfg(any(feature = "rpc-tls", test))]
    pub(super) fn admit(&self, number: usize) -> bool {
        let mut conns = self.conns();
        let served = conns.list.iter().filter(|conn| !conn.is_stranger).count();
        let conn = conns.list.iter_mut().find(|conn| conn.number == number);
        match conn {
            Some(conn) if served < RPC_CONNS_MAX => {
                conn.is_stranger = false;
                true
            }
            _ => false,
        }
    }

    /// A connection is no longer served.
    pub(super) fn leave(&self, number: usize) {
        self.conns().list.retain(|conn| conn.number != number);
        self.left.notify_all();
    }

    /// The listening socket is not shut down for it: somebody else may go on with it.
    pub(super) fn stop_accepting(&self) {
        self.is_over.store(true, Ordering::Release);
        // It cannot be too full: it is written to twice at most.
        let _ = rustix::io::write(&self.over, &1_u64.to_ne_bytes());
    }

    /// Ends every connection. What they have sent is answered, for who is quick about it.
    pub(super) fn end(&self) {
        self.shut(Shutdown::Read);
        let conns = self.conns();
        let waited = self.left.wait_timeout_while(conns, LINGER, |conns| !conns.list.is_empty());
        drop(waited);
        self.shut(Shutdown::Both);
    }

    fn shut(&self, how: Shutdown) {
        for conn in &self.conns().list {
            // It may have ended by itself.
            let _ = shutdown(&conn.socket, how);
        }
    }

    fn conns(&self) -> MutexGuard<'_, Conns> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn stranger(crowd: &Crowd) -> (Option<usize>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (crowd.enter(ours.into(), true), theirs)
    }

    #[test]
    fn one_stranger_too_many_ends_the_oldest_and_nobody_else() {
        let crowd = Crowd::new().unwrap();
        let (served, _served) = UnixStream::pair().unwrap();
        let served = crowd.enter(served.into(), false).unwrap();
        let mut strangers: Vec<_> = (0..RPC_STRANGERS_MAX).map(|_| stranger(&crowd)).collect();
        assert!(crowd.admit(strangers[0].0.unwrap()));
        strangers.push(stranger(&crowd));
        strangers.push(stranger(&crowd));
        assert_eq!(strangers[1].1.read(&mut [0]).unwrap(), 0, "it is shut");
        assert!(!crowd.admit(strangers[1].0.unwrap()));
        assert!(crowd.admit(strangers[2].0.unwrap()));
        crowd.leave(served);
    }

    #[test]
    fn who_has_proved_itself_finds_room_or_not() {
        let crowd = Crowd::new().unwrap();
        let enter = || crowd.enter(UnixStream::pair().unwrap().0.into(), false);
        let numbers: Vec<_> = (0..RPC_CONNS_MAX).map(|_| enter().unwrap()).collect();
        assert_eq!(enter(), None);
        let (number, _stream) = stranger(&crowd);
        assert!(!crowd.admit(number.unwrap()));
        crowd.leave(numbers[0]);
        assert!(crowd.admit(number.unwrap()));
        assert_eq!(enter(), None);
    }
}
