//! Listening sockets that somebody else has bound and keeps: a service manager, which hands them over at each start
//! (sd_listen_fds(3)). A portal at the address of one takes connections from it instead of binding.
//!
//! They outlive their portals. What comes while no portal is there waits in the kernel's queue, for the next portal at that address or
//! for the next process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::error::ChangeError;
use super::portals::Portal;

/// Every one that there is.
#[derive(Debug, Default)]
pub struct Handed(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    socket: TcpListener,
    is_taken: Arc<AtomicBool>,
    /// Ever, by any portal.
    was_taken: AtomicBool,
}

impl Handed {
    /// Of these listening sockets.
    ///
    /// # Errors
    /// The system does not say where one listens.
    pub fn new(sockets: Vec<TcpListener>) -> io::Result<Handed> {
        let listener = |socket: TcpListener| {
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            Ok(Listener { address, socket, is_taken: Arc::default(), was_taken: AtomicBool::new(false) })
        };
        sockets.into_iter().map(listener).collect::<io::Result<_>>().map(Handed)
    }

    /// A portal at this address: by the socket that was handed over for it, or else by a new one.
    ///
    /// # Errors
    /// [`ChangeError::Listen`].
    pub fn listen(&self, address: SocketAddr) -> Result<Portal, ChangeError> {
        let refused = |error: io::Error| ChangeError::listen(address, &error);
        let Some(listener) = self.0.iter().find(|listener| listener.address == address) else {
            return Portal::listen(address).map_err(|error| self.explained(address, error));
        };
        if listener.is_taken.swap(true, Ordering::AcqRel) {
            return Err(refused(io::ErrorKind::AddrInUse.into()));
        }
        let lease = Lease(Arc::clone(&listener.is_taken));
        listener.was_taken.store(true, Ordering::Relaxed);
        let socket = listener.socket.try_clone().map_err(refused)?;
        let loan = Loan::new(&socket, lease).map_err(refused)?;
        Ok(Portal::lent(address, socket, loan))
    }

    /// Says it where a kept socket is what has the port.
    fn explained(&self, address: SocketAddr, error: ChangeError) -> ChangeError {
        let has_port = |kept: &&Listener| {
            kept.address.is_ipv4() == address.is_ipv4() && kept.address.port() == address.port()
        };
        match (error, self.0.iter().find(has_port)) {
            (ChangeError::Listen { portal, kind: kind @ io::ErrorKind::AddrInUse, reason }, Some(kept)) => {
                let kept = kept.address;
                let reason =
                    format!("{reason} (the service manager keeps {kept}: a portal there has that address)");
                ChangeError::Listen { portal, kind, reason }
            }
            (error, _) => error,
        }
    }

    /// Where no portal has ever been.
    pub fn unused(&self) -> impl Iterator<Item = SocketAddr> {
        let unused = self.0.iter().filter(|listener| !listener.was_taken.load(Ordering::Relaxed));
        unused.map(|listener| listener.address)
    }
}

/// What a portal has of a socket that it does not own.
#[derive(Debug)]
pub(super) struct Loan {
    /// The socket is watched by way of this: closing a descriptor of a socket that others have open too would not end that it
    /// is watched, closing this one does.
    watch: OwnedFd,
    _lease: Lease,
}

impl Loan {
    fn new(socket: &TcpListener, lease: Lease) -> io::Result<Loan> {
        let watch = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&watch, socket.as_fd(), EventData::new_u64(0), EventFlags::IN)?;
        Ok(Loan { watch, _lease: lease })
    }

    /// What is readable while a connection waits.
    pub(super) fn watched(&self) -> RawFd {
        self.watch.as_raw_fd()
    }
}

/// One portal at a time has a socket.
#[derive(Debug)]
struct Lease(Arc<AtomicBool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::control::portals::{PortalGroup, PortalGroups};
    use crate::net::kernel::KernelNet;
    use crate::net::listen::{Accepted, accept};

    fn group(portal: Portal) -> PortalGroup {
        PortalGroup { tag: 1, portals: vec![portal], is_private: false, is_started: true, discovery: None }
    }

    #[test]
    fn a_socket_is_lent_to_one_portal_at_a_time_and_is_not_watched_between() {
        let kept = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = kept.local_addr().unwrap();
        let handed = Handed::new(vec![kept.try_clone().unwrap()]).unwrap();
        assert_eq!(handed.unused().collect::<Vec<_>>(), [address]);
        // Before there is a portal.
        let early = TcpStream::connect(address).unwrap();
        let mut net = KernelNet::new(1).unwrap();
        let mut groups = PortalGroups::default();
        groups.add(group(handed.listen(address).unwrap()), &mut net).unwrap();
        assert_eq!(handed.unused().count(), 0);
        let taken = handed.listen(address).unwrap_err();
        assert!(matches!(taken, ChangeError::Listen { kind: io::ErrorKind::AddrInUse, .. }), "{taken}");
        let listening = groups.listening(0).unwrap();
        let Accepted::Connection { peer, .. } = accept(listening.listener) else { panic!("one waits") };
        assert_eq!(peer, early.local_addr().unwrap());

        // The portal goes; its socket is there for those that come, and they end nobody's wait.
        drop(groups.remove(1).unwrap());
        let late = TcpStream::connect(address).unwrap();
        assert!(!is_woken(&mut net));
        groups.add(group(handed.listen(address).unwrap()), &mut net).unwrap();
        assert!(is_woken(&mut net));
        let listening = groups.listening(0).unwrap();
        let Accepted::Connection { peer, .. } = accept(listening.listener) else { panic!("one waits") };
        assert_eq!(peer, late.local_addr().unwrap());
        assert!(matches!(handed.listen(([127, 0, 0, 1], 0).into()), Ok(portal) if portal.address != address));
    }

    #[test]
    fn another_address_of_the_same_port_is_refused_with_the_one_that_is_kept() {
        let kept = TcpListener::bind("0.0.0.0:0").unwrap();
        let at = kept.local_addr().unwrap();
        let handed = Handed::new(vec![kept]).unwrap();
        let refused = handed.listen(([127, 0, 0, 1], at.port()).into()).unwrap_err();
        assert!(refused.to_string().contains(&format!("keeps {at}")), "{refused}");
        assert_eq!(handed.unused().collect::<Vec<_>>(), [at]);
    }

    /// Whether something ends a wait, which else lasts an hour.
    fn is_woken(net: &mut KernelNet) -> bool {
        let fd = net.waits_on();
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&rustix::event::Timespec::default())).unwrap() > 0
    }
}
