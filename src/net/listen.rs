//! Where connections come from: listening sockets, for control's thread.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// Connections that may wait to be accepted; the system's `somaxconn` bounds it too.
const BACKLOG: i32 = 1024;

/// Listens at `address`, nonblocking. An IPv6 listener takes no IPv4 connections: `[::]` and `0.0.0.0` are two
/// portals. Port 0 lets the system choose.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// What an attempt to accept came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection, nonblocking, with small writes sent at once.
    Connection {
        /// It.
        socket: OwnedFd,
        /// Who.
        peer: SocketAddr,
    },
    /// Nobody waits.
    Nobody,
    /// One was there and is gone again: try the next.
    Lost,
    /// No descriptors or memory for it; it goes on waiting. Try again after a pause, or once something was closed.
    Exhausted(io::Error),
    /// The listener itself is of no more use.
    Failed(io::Error),
}

/// Accepts one connection, if one waits.
pub fn accept(listener: impl AsFd) -> Accepted {
    match net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok((socket, peer)) => {
            let Some(Ok(peer)) = peer.map(SocketAddr::try_from) else { return Accepted::Lost };
            match prepare(&socket) {
                Ok(()) => Accepted::Connection { socket, peer },
                Err(_) => Accepted::Lost,
            }
        }
        Err(errno) => refused(errno),
    }
}

/// Sets a connection up as a network wants it: nonblocking, and small writes sent at once (a response must not wait
/// for the peer's acknowledgement of the one before).
pub fn prepare(socket: impl AsFd) -> io::Result<()> {
    ioctl_fionbio(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(())
}

/// Linux hands errors of the connection that would have been accepted on to the listener's owner: those are no fault
/// of the listener.
fn refused(errno: Errno) -> Accepted {
    match errno {
        Errno::AGAIN => Accepted::Nobody,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Accepted::Exhausted(errno.into()),
        Errno::CONNABORTED
        | Errno::INTR
        | Errno::PERM
        | Errno::PROTO
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::NETUNREACH => Accepted::Lost,
        _ => Accepted::Failed(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::sockopt::{socket_reuseaddr, tcp_nodelay};

    use super::*;

    #[test]
    fn listens_at_a_port_of_the_systems_choice_and_accepts_without_waiting() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(matches!(accept(&listener), Accepted::Nobody));
        assert!(socket_reuseaddr(&listener).unwrap());
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // On loopback a connection is in the queue when `connect` returns.
        let Accepted::Connection { socket, peer } = accept(&listener) else { panic!("a connection waits") };
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(tcp_nodelay(&socket).unwrap());
        let nonblocking = rustix::io::read(&socket, &mut [0; 1]);
        assert_eq!(nonblocking, Err(Errno::AGAIN));
        assert!(matches!(accept(&listener), Accepted::Nobody));
    }

    #[test]
    fn ipv6_leaves_ipv4_alone() {
        let Ok(six) = listen("[::]:0".parse().unwrap()) else {
            println!("not run: no IPv6 here");
            return;
        };
        let port = six.local_addr().unwrap().port();
        listen(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
    }

    #[test]
    fn a_taken_address_is_an_error() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let second = listen(first.local_addr().unwrap());
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn errors_of_one_connection_are_not_the_listeners() {
        assert!(matches!(refused(Errno::CONNABORTED), Accepted::Lost));
        assert!(matches!(refused(Errno::MFILE), Accepted::Exhausted(_)));
        assert!(matches!(refused(Errno::NFILE), Accepted::Exhausted(_)));
        assert!(matches!(refused(Errno::BADF), Accepted::Failed(_)));
    }
}
