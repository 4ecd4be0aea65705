//! A wire's socket: connected without waiting, read and written as long as the kernel takes and gives.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, readv, retry_on_intr};
use rustix::net::{
    self, AddressFamily, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sendmsg,
    sockopt,
};

use super::wire::Wire;
use crate::bdev::nvme::queue::Payloads;
use crate::bdev::nvme::spec::Completion;
use crate::time::{SECOND_NS, Tick};

/// A controller that is in the middle of a PDU, or does not take ours, has so long to go on.
pub(super) const STALL_NS: u64 = 15 * SECOND_NS;
/// System calls in search of one completion.
const RECEIVES_MAX: usize = 16;

/// A connected socket, which can be shut down by who else holds it.
pub(super) type Socket = Arc<OwnedFd>;

/// Begins to connect.
pub(super) fn connect(address: SocketAddr) -> io::Result<Socket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Arc::new(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether it is connected by now.
pub(super) fn is_connected(socket: &Socket) -> io::Result<bool> {
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default()))?;
    if polled[0].revents().is_empty() {
        return Ok(false);
    }
    sockopt::socket_error(socket.as_fd())??;
    Ok(true)
}

/// Says that nothing more comes from us; the other direction stays open, so that the controller can end what it has begun.
pub(super) fn finish(socket: &Socket) {
    let _ = net::shutdown(socket.as_fd(), Shutdown::Write);
}

/// Whether the controller has ended its direction too, or the connection is gone.
pub(super) fn is_finished(socket: &Socket) -> bool {
    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    let polled_count = poll(&mut polled, Some(&Timespec::default()));
    polled_count.is_ok() && polled[0].revents().intersects(ended)
}

/// Ends both directions, for whoever holds it.
pub(super) fn shut_down(socket: &Socket) {
    // It fails where the connection is gone already.
    let _ = net::shutdown(socket.as_fd(), Shutdown::Both);
}

/// Sends once: how much the kernel took.
fn send(socket: &Socket, wire: &Wire, payloads: &dyn Payloads) -> Result<usize, &'static str> {
    let slices = wire.slices(payloads)?;
    if slices.is_empty() {
        return Ok(0);
    }
    // Not `writev`: a peer that is gone must not raise SIGPIPE.
    let mut control = SendAncillaryBuffer::default();
    match retry_on_intr(|| sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL)) {
        Err(Errno::AGAIN) => Ok(0),
        sent => sent.map_err(|_| "the connection broke"),
    }
}

/// A wire and its socket.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: Socket,
    pub(super) wire: Wire,
    /// The last receive took everything that was there.
    is_drained: bool,
    /// Something came or went since `moved` was set.
    has_moved: bool,
    moved: Tick,
}

impl Stream {
    pub(super) fn new(socket: Socket, wire: Wire) -> Stream {
        Stream { socket, wire, is_drained: false, has_moved: true, moved: Tick::ZERO }
    }

    /// Sends what waits, as far as the kernel takes it. Where the wire is broken, its last words.
    pub(super) fn flush(&mut self, payloads: &dyn Payloads) {
        while self.wire.has_unsent() {
            self.wire.stage(payloads);
            match send(&self.socket, &self.wire, payloads) {
                Ok(0) => break,
                Ok(bytes) => {
                    self.wire.sent(bytes);
                    self.has_moved = true;
                }
                Err(why) => return self.give_up(why),
            }
        }
        if self.wire.fault().is_some() {
            shut_down(&self.socket);
        }
    }

    /// The next completion, after receiving and sending whatever leads to it.
    pub(super) fn next(&mut self, payloads: &mut dyn Payloads, now: Tick) -> Option<Completion> {
        for _ in 0..RECEIVES_MAX {
            if let Some(completion) = self.wire.next(payloads) {
                return Some(completion);
            }
            if self.wire.fault().is_some() || std::mem::take(&mut self.is_drained) {
                break;
            }
            self.receive(payloads);
        }
        if self.wire.has_unsent() || self.wire.fault().is_some() {
            self.flush(payloads);
        }
        let is_under_way = self.wire.is_inside() || self.wire.has_unsent();
        if std::mem::take(&mut self.has_moved) || !is_under_way {
            self.moved = now;
        } else if now.since_ns(self.moved) > STALL_NS {
            self.give_up("the controller stopped in the middle of a PDU");
        }
        None
    }

    fn receive(&mut self, payloads: &mut dyn Payloads) {
        let mut room = self.wire.room(payloads);
        let room_bytes: usize = room.iter().map(|slice| slice.len()).sum();
        let used = if room[0].is_empty() { &mut room[1..] } else { &mut room[..] };
        match retry_on_intr(|| readv(&self.socket, used)) {
            Ok(0) => self.wire.give_up("the controller closed the connection"),
            Ok(bytes) => {
                self.wire.received(bytes, payloads);
                self.has_moved = true;
                self.is_drained = bytes < room_bytes;
            }
            // So the next look is not for nothing either.
            Err(Errno::AGAIN) => self.is_drained = true,
            Err(_) => self.wire.give_up("the connection broke"),
        }
    }

    fn give_up(&mut self, why: &'static str) {
        self.wire.give_up(why);
        shut_down(&self.socket);
    }
}
