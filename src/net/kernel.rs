//! The kernel's TCP sockets behind one epoll descriptor.
//!
//! One system call each: `ready` is an `epoll_wait`, `recv` a `readv`, `send` a `sendmsg`. Nothing is allocated after
//! [`KernelNet::new`]; a connection costs a slot that was there before.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, readv, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use super::{Net, Readiness, Rx, Tx, Wait};
use crate::slab::{Key, Slab};
use crate::time::SECOND_NS;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// Slices of one call: the kernel's own bound (UIO_MAXIOV).
const SLICES_MAX: usize = 1024;
/// What events of registered wake descriptors carry; no slab is large enough to have this key.
const WAKE: u64 = u64::MAX;

/// A connection of a [`KernelNet`]: its slot. It is harmless when stale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sock(Key);

struct Socket {
    fd: OwnedFd,
    /// What the reactor calls it.
    id: Key,
    /// The kernel has told of an end or an error, and will not tell again.
    ending: bool,
}

/// Sockets of the kernel, for one thread.
pub struct KernelNet {
    epoll: OwnedFd,
    sockets: Slab<Socket>,
    events: Box<[MaybeUninit<epoll::Event>]>,
}

impl KernelNet {
    /// A network for at most `sockets_max` connections at once.
    pub fn new(sockets_max: u32) -> io::Result<KernelNet> {
        Ok(KernelNet {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sockets: Slab::new(sockets_max),
            events: Box::new_uninit_slice(EVENTS_MAX),
        })
    }

    /// Readable when a wait would end.
    #[cfg(test)]
    pub(crate) fn waits_on(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        self.epoll.as_fd()
    }

    /// Waits until the epoll descriptor has something to tell, at most `ns`. `epoll_wait` itself counts milliseconds,
    /// and the call that counts nanoseconds is missing from older kernels; `ppoll` is in all of them.
    fn wait_at_most(&self, ns: u64) {
        let (seconds, rest_ns) = (ns / SECOND_NS, ns % SECOND_NS);
        let timeout = Timespec {
            tv_sec: i64::try_from(seconds).expect("a 64-bit number of ns is less than 2^63 seconds"),
            tv_nsec: i64::try_from(rest_ns).expect("less than a second of ns fits"),
        };
        // An early end (a signal) is fine: the caller looks at its clock and waits again.
        let _ = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&timeout));
    }
}

impl Net for KernelNet {
    type Sock = Sock;
    type Handle = OwnedFd;

    /// Sets it nonblocking and TCP_NODELAY. When all slots are taken, or the kernel refuses, the connection is closed.
    fn adopt(&mut self, handle: OwnedFd, id: Key) -> io::Result<Sock> {
        super::listen::prepare(&handle)?;
        let socket = Socket { fd: handle, id, ending: false };
        let key =
            self.sockets.insert(socket).map_err(|_| io::Error::other("all connection slots are taken"))?;
        let socket = self.sockets.get(key).expect("just inserted");
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        if let Err(errno) = epoll::add(&self.epoll, &socket.fd, EventData::new_u64(key.to_u64()), edges) {
            self.sockets.remove(key);
            return Err(errno.into());
        }
        Ok(Sock(key))
    }

    /// # Panics
    /// Where `sock` was closed or released before.
    fn release(&mut self, sock: Sock) -> OwnedFd {
        let socket = self.sockets.remove(sock.0).expect("a connection is given up once");
        let deleted = epoll::delete(&self.epoll, &socket.fd);
        debug_assert_eq!(deleted, Ok(()));
        socket.fd
    }

    /// Registering a descriptor twice is once; closing it unregisters it.
    fn register(&mut self, fd: RawFd) -> io::Result<()> {
        match sys::watch(self.epoll.as_fd(), fd, WAKE) {
            Err(Errno::EXIST) => Ok(()),
            result => result.map_err(io::Error::from),
        }
    }

    /// A signal ends the wait too, with nothing told.
    fn ready(&mut self, out: &mut Vec<Readiness>, wait: Wait) {
        let room = (out.capacity() - out.len()).min(EVENTS_MAX);
        if room == 0 {
            return;
        }
        let timeout = match wait {
            Wait::Forever => None,
            Wait::Poll => Some(Timespec::default()),
            Wait::AtMostNs(ns) => {
                self.wait_at_most(ns);
                Some(Timespec::default())
            }
        };
        let events = match epoll::wait(&self.epoll, &mut self.events[..room], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(errno) => {
                debug_assert_eq!(errno, Errno::INTR);
                return;
            }
        };
        for event in events {
            let (data, flags) = (event.data.u64(), event.flags);
            // A wake descriptor's event finds no socket here: it has done its work by ending the wait.
            let Some(socket) = self.sockets.get_mut(Key::from_u64(data)) else { continue };
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            let ending = failed || flags.intersects(EventFlags::RDHUP);
            socket.ending |= ending;
            out.push(Readiness {
                id: socket.id,
                readable: ending || flags.intersects(EventFlags::IN),
                writable: failed || flags.intersects(EventFlags::OUT),
            });
        }
    }

    /// With no room in `to` no bytes come, and it says nothing of what waits.
    ///
    /// Less than there was room for means that nothing is left, and the kernel will tell of what comes later. Not so
    /// when it has already told of the peer's end (or an error) together with the last data: that edge is spent, so
    /// from then on `drained` is never said, and the caller reads on until [`Rx::Closed`] or [`Rx::Broken`]. An end
    /// that arrives after the last [`Net::ready`] is a new edge and will be told.
    fn recv(&mut self, sock: Sock, to: &mut [IoSliceMut<'_>]) -> Rx {
        let Some(socket) = self.sockets.get(sock.0) else { return Rx::Broken };
        let slice_count = to.len().min(SLICES_MAX);
        let to = &mut to[..slice_count];
        let room: usize = to.iter().map(|slice| slice.len()).sum();
        if room == 0 {
            return Rx::Received { bytes: 0, drained: false };
        }
        match retry_on_intr(|| readv(&socket.fd, to)) {
            Ok(0) => Rx::Closed,
            Ok(bytes) => Rx::Received { bytes, drained: bytes < room && !socket.ending },
            Err(Errno::AGAIN) => Rx::WouldBlock,
            Err(_) => Rx::Broken,
        }
    }

    fn send(&mut self, sock: Sock, from: &[IoSlice<'_>]) -> Tx {
        let Some(socket) = self.sockets.get(sock.0) else { return Tx::Broken };
        let from = &from[..from.len().min(SLICES_MAX)];
        // Not `writev`: a peer that is gone must not raise SIGPIPE.
        let mut control = SendAncillaryBuffer::default();
        match retry_on_intr(|| sendmsg(&socket.fd, from, &mut control, SendFlags::NOSIGNAL)) {
            Ok(bytes) => Tx::Sent(bytes),
            Err(Errno::AGAIN) => Tx::WouldBlock,
            Err(_) => Tx::Broken,
        }
    }

    fn close(&mut self, sock: Sock) {
        // Closing the only descriptor of a socket takes it out of the epoll set.
        self.sockets.remove(sock.0);
    }
}

impl fmt::Debug for KernelNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KernelNet({} of {} sockets)", self.sockets.len(), self.sockets.capacity())
    }
}

/// An island of `unsafe`: a descriptor that is known by its number only.
mod sys {
    #![expect(unsafe_code, reason = "names a descriptor by its number")]

    use std::os::fd::{BorrowedFd, RawFd};

    use rustix::event::epoll::{self, EventData, EventFlags};
    use rustix::io::Errno;

    /// Watches `fd` for input, level-triggered.
    pub(super) fn watch(epoll: BorrowedFd<'_>, fd: RawFd, data: u64) -> Result<(), Errno> {
        if fd < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: it is not -1, and lives for one `epoll_ctl`, which reads nothing, writes nothing and answers EBADF
        // where nothing is open under that number.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        epoll::add(epoll, fd, EventData::new_u64(data), EventFlags::IN)
    }
}

#[cfg(test)]
mod tests;
