//! Sockets that a service manager has bound and hands over (sd_listen_fds(3), systemd.socket(5)): which of them is for what.
//!
//! The address says it: that of `--rpc-socket`, `--rpc-also`, `--metrics` or a portal. Where nothing on the command line says an
//! address, the name does (`FileDescriptorName=`): `rpc`, `metrics`, `portal`. What can never be for anything is an error: clients
//! would wait there for ever.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, getsockname, sockopt};

use super::Failed;
use crate::control::handed::Handed;

/// The socket for calls.
const RPC: &str = "rpc";
/// The one for figures.
const METRICS: &str = "metrics";
/// A portal's, even where no portal is there yet.
const PORTAL: &str = "portal";

/// What was handed over and is not given out yet.
#[derive(Debug)]
pub(super) struct Sockets(Vec<Given>);

#[derive(Debug)]
struct Given {
    name: String,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener, SocketAddr),
}

impl Sockets {
    /// What the service manager has for this process; nothing, where there is none. For once, before anything else is opened.
    pub(super) fn take() -> Result<Sockets, Failed> {
        let given = sys::descriptors()
            .map_err(|error| Failed::failure(format!("sockets of the service manager: {error}")))?;
        let given = given.into_iter().map(|(fd, name)| {
            let socket = look(fd).map_err(|why| Failed::usage(format!("{}: {why}", of(&name))))?;
            Ok(Given { name, socket })
        });
        given.collect::<Result<_, _>>().map(Sockets)
    }

    /// The socket for calls that has this path.
    pub(super) fn at(&mut self, path: &Path) -> Option<UnixListener> {
        let real = std::fs::canonicalize(path).ok();
        let is_there = |at: &Path| at == path || (real.is_some() && std::fs::canonicalize(at).ok() == real);
        self.unix(|given, at| is_there(at) && given != METRICS && given != PORTAL)
            .map(|(listener, _)| listener)
    }

    /// The socket for calls by its name, and its path.
    pub(super) fn rpc(&mut self) -> Option<(UnixListener, PathBuf)> {
        self.unix(|name, _| name == RPC)
    }

    fn unix(&mut self, is_it: impl Fn(&str, &Path) -> bool) -> Option<(UnixListener, PathBuf)> {
        let found = self
            .0
            .iter()
            .position(|given| matches!(&given.socket, Socket::Unix(_, path) if is_it(&given.name, path)))?;
        match self.0.remove(found).socket {
            Socket::Unix(listener, path) => Some((listener, path)),
            Socket::Tcp(..) => None,
        }
    }

    /// The socket for figures: that of the address asked for, or the one of that name.
    #[cfg(feature = "metrics")]
    pub(super) fn metrics(&mut self, asked_for: Option<SocketAddr>) -> Option<TcpListener> {
        let is_it = |given: &Given| match (&given.socket, asked_for) {
            (Socket::Unix(..), _) => false,
            (Socket::Tcp(_, at), Some(address)) => *at == address,
            (Socket::Tcp(..), None) => given.name == METRICS,
        };
        let found = self.0.iter().position(is_it)?;
        match self.0.remove(found).socket {
            Socket::Tcp(listener, _) => Some(listener),
            Socket::Unix(..) => None,
        }
    }

    /// The rest, which can only be portals'.
    pub(super) fn portals(self) -> Result<Portals, Failed> {
        let (mut sockets, mut named) = (Vec::new(), Vec::new());
        for Given { name, socket } in self.0 {
            let (listener, address) = match socket {
                Socket::Tcp(listener, address) if name != RPC && name != METRICS => (listener, address),
                Socket::Tcp(_, address) => {
                    let what = if name == RPC {
                        "calls are taken at UNIX sockets"
                    } else {
                        "--metrics says another address"
                    };
                    return Err(Failed::usage(format!("{}, {address}: {what}", of(&name))));
                }
                Socket::Unix(_, path) => {
                    let path = path.display();
                    return Err(Failed::usage(format!(
                        "{}: no calls are taken at {path}; give --rpc-socket {path}, or --rpc-also {path}",
                        of(&name)
                    )));
                }
            };
            // An IPv4 address in IPv6's clothes would match no initiator group's network.
            if address.is_ipv6() && !sockopt::ipv6_v6only(&listener).is_ok_and(|only| only) {
                return Err(Failed::usage(format!(
                    "{}, {address}: IPv4 connections come in there too; the .socket unit needs BindIPv6Only=ipv6-only",
                    of(&name)
                )));
            }
            if name == PORTAL {
                named.push(address);
            }
            sockets.push(listener);
        }
        let handed = Handed::new(sockets).map_err(Failed::failure)?;
        Ok(Portals { handed: handed.into(), named })
    }
}

/// Sockets for portals.
#[derive(Clone, Debug)]
pub(super) struct Portals {
    pub(super) handed: std::sync::Arc<Handed>,
    /// Where those are that say that they are portals.
    pub(super) named: Vec<SocketAddr>,
}

impl Portals {
    /// What is for no portal, now that those are there that were to be. Where a call can make one, a socket may wait for it: the
    /// portal may have been deleted by a call, and what else is served is to come up all the same.
    pub(super) fn settle(&self, may_wait: bool) -> Result<(), Failed> {
        for address in self.handed.unused() {
            if !may_wait {
                return Err(Failed::usage(format!(
                    "the service manager has handed over {address}, and no portal is there; give --portal {address}, or \
                     stop its .socket unit"
                )));
            }
            if self.named.contains(&address) {
                tracing::info!(%address, "the service manager listens there; connections wait until a portal is made");
            } else {
                tracing::warn!(
                    %address,
                    "the service manager listens there, and no portal is there: connections wait until one is made; \
                     FileDescriptorName={PORTAL} in the .socket unit says that this is meant"
                );
            }
        }
        Ok(())
    }
}

fn of(name: &str) -> String {
    format!("a socket of the service manager ({name})")
}

/// What it is and where.
fn look(fd: OwnedFd) -> Result<Socket, String> {
    let kind = sockopt::socket_type(&fd).map_err(|_| "it is no socket")?;
    if kind != SocketType::STREAM {
        return Err("it takes no connections: the .socket unit needs ListenStream=".to_owned());
    }
    if !sockopt::socket_acceptconn(&fd).is_ok_and(|listens| listens) {
        return Err("it is a connection: the .socket unit needs Accept=no".to_owned());
    }
    let address = getsockname(&fd).map_err(|error| error.to_string())?;
    match address.address_family() {
        AddressFamily::UNIX => {
            let address = SocketAddrUnix::try_from(address).map_err(|error| error.to_string())?;
            let path = address.path().ok_or("it has no path in the file system")?;
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes()));
            Ok(Socket::Unix(fd.into(), path))
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let address = SocketAddr::try_from(address).map_err(|error| error.to_string())?;
            Ok(Socket::Tcp(fd.into(), address))
        }
        _ => Err("it is at neither a path nor an IP address".to_owned()),
    }
}

/// An island of `unsafe`: descriptors that are known by their numbers only.
mod sys {
    #![expect(unsafe_code, reason = "names descriptors by their numbers")]

    use std::io;
    use std::os::fd::{FromRawFd as _, OwnedFd};

    /// What the service manager has opened for this process, with its names. No child will have them.
    pub(super) fn descriptors() -> io::Result<Vec<(OwnedFd, String)>> {
        let given = sd_notify::listen_fds_with_names()?;
        // SAFETY: it is open, as it could be set close-on-exec; LISTEN_PID says that it was opened for this process, and nothing
        // but this, which runs once and first, takes it.
        let own = |(number, name)| (unsafe { OwnedFd::from_raw_fd(number) }, name);
        Ok(given.map(own).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(name: &str, address: &str) -> (Given, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let socket = look(listener.into()).unwrap();
        let Socket::Tcp(_, at) = &socket else { panic!("{socket:?}") };
        let at = *at;
        (Given { name: name.to_owned(), socket }, at)
    }

    fn said(failed: Failed) -> String {
        let Failed::Usage(text) = failed else { panic!("{failed:?}") };
        text
    }

    #[test]
    fn what_is_no_listening_stream_is_refused() {
        assert_eq!(
            look(rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap()).unwrap_err(),
            "it is no socket"
        );
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(look(udp.into()).unwrap_err().contains("ListenStream="));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(look(one.into()).unwrap_err().contains("Accept=no"));
    }

    #[test]
    #[cfg(feature = "metrics")]
    fn figures_are_shown_where_they_were_asked_for_or_where_the_name_says() {
        let (one, at) = tcp("lunette.socket", "127.0.0.1:0");
        let (named, named_at) = tcp("metrics", "127.0.0.1:0");
        let mut sockets = Sockets(vec![one, named]);
        assert!(sockets.metrics(Some(([127, 0, 0, 1], 0).into())).is_none());
        assert_eq!(sockets.metrics(Some(at)).unwrap().local_addr().unwrap(), at);
        assert_eq!(sockets.metrics(None).unwrap().local_addr().unwrap(), named_at);
        let (named, _) = tcp("metrics", "127.0.0.1:0");
        assert!(said(Sockets(vec![named]).portals().unwrap_err()).contains("--metrics says another address"));
    }

    #[test]
    fn a_portal_that_is_not_there_is_waited_for_only_where_a_call_can_make_it() {
        let (one, at) = tcp("portal", "127.0.0.1:0");
        let (other, other_at) = tcp("lunette.socket", "127.0.0.1:0");
        let portals = Sockets(vec![one, other]).portals().unwrap();
        assert_eq!(portals.named, [at]);
        portals.settle(true).unwrap();
        let portal = portals.handed.listen(other_at).unwrap();
        assert!(said(portals.settle(false).unwrap_err()).contains(&format!("handed over {at},")));
        drop(portal);
        drop(portals.handed.listen(at).unwrap());
        portals.settle(false).unwrap();
    }

    #[test]
    fn a_socket_for_both_kinds_of_addresses_is_no_portal() {
        // The standard library leaves it as the system has it: for both.
        let Ok(both) = TcpListener::bind("[::]:0") else {
            println!("not run: no IPv6 here");
            return;
        };
        sockopt::set_ipv6_v6only(&both, false).unwrap_or_default();
        let only = sockopt::ipv6_v6only(&both).unwrap();
        let given = Given { name: "portal".to_owned(), socket: look(both.into()).unwrap() };
        assert_eq!(Sockets(vec![given]).portals().is_ok(), only);
    }
}
