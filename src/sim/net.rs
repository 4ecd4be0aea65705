//! A network of wires: what one end sends is in flight until the world delivers it, as many bytes as the world likes.
//!
//! A [`Wire`] is the initiator's end, held by the world; the target's end travels as a [`Plug`] and is served by a
//! [`SimNet`], edge-triggered as the kernel's.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::net::{Net, Readiness, Rx, Tx, Wait};
use crate::slab::Key;

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// Sent, not delivered.
    flying: VecDeque<u8>,
    /// Delivered, not received.
    arrived: VecDeque<u8>,
    /// The sender sends no more.
    is_ended: bool,
    /// And the receiver has been told.
    is_end_delivered: bool,
    /// Bytes it holds at most.
    capacity_bytes: usize,
}

impl Pipe {
    fn room(&self) -> usize {
        self.capacity_bytes.saturating_sub(self.flying.len() + self.arrived.len())
    }
}

#[derive(Debug)]
struct Shared {
    to_target: Pipe,
    to_initiator: Pipe,
    is_reset: bool,
    is_closed_by_target: bool,
    /// Edges for the target's end.
    readable: bool,
    writable: bool,
}

/// The initiator's end; there is one.
#[derive(Debug)]
pub struct Wire(Arc<Mutex<Shared>>);

/// The target's end on its way from one network to another.
#[derive(Debug)]
pub struct Plug(Arc<Mutex<Shared>>);

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("the world has one thread, and ends with its first panic")
}

impl Wire {
    /// A connection that holds so many bytes in either direction.
    pub fn new(capacity_bytes: usize) -> (Wire, Plug) {
        let pipe = || Pipe { capacity_bytes, ..Pipe::default() };
        let shared = Arc::new(Mutex::new(Shared {
            to_target: pipe(),
            to_initiator: pipe(),
            is_reset: false,
            is_closed_by_target: false,
            readable: true,
            writable: true,
        }));
        (Wire(Arc::clone(&shared)), Plug(shared))
    }

    /// Changes how much the direction to the initiator holds.
    pub fn set_capacity_to_initiator(&self, bytes: usize) {
        let mut shared = lock(&self.0);
        shared.to_initiator.capacity_bytes = bytes;
        shared.writable = true;
    }

    /// Sends towards the target; says how many bytes were taken.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let mut shared = lock(&self.0);
        let count = bytes.len().min(shared.to_target.room());
        shared.to_target.flying.extend(&bytes[..count]);
        count
    }

    /// Bytes on their way to the target.
    pub fn flying_to_target(&self) -> usize {
        lock(&self.0).to_target.flying.len()
    }

    /// Bytes on their way to the initiator.
    pub fn flying_to_initiator(&self) -> usize {
        lock(&self.0).to_initiator.flying.len()
    }

    /// Bytes that were delivered and that the target has not received.
    pub fn unread_by_target(&self) -> usize {
        lock(&self.0).to_target.arrived.len()
    }

    /// Delivers up to `bytes` bytes to the target, and the end behind the last of them.
    pub fn deliver_to_target(&self, bytes: usize) {
        let mut shared = lock(&self.0);
        let pipe = &mut shared.to_target;
        let count = bytes.min(pipe.flying.len());
        pipe.arrived.extend(pipe.flying.drain(..count));
        let is_at_end = pipe.is_ended && pipe.flying.is_empty() && !pipe.is_end_delivered;
        pipe.is_end_delivered |= is_at_end;
        shared.readable |= count > 0 || is_at_end;
    }

    /// Delivers up to `bytes` bytes to the initiator.
    pub fn deliver_to_initiator(&self, bytes: usize) -> Vec<u8> {
        let mut shared = lock(&self.0);
        let was_full = shared.to_initiator.room() == 0;
        let count = bytes.min(shared.to_initiator.flying.len());
        let delivered = shared.to_initiator.flying.drain(..count).collect();
        shared.writable |= was_full && count > 0;
        delivered
    }

    /// Sends no more: what is in flight still arrives.
    pub fn end(&self) {
        lock(&self.0).to_target.is_ended = true;
    }

    /// The end of the direction to the target is still to be delivered.
    pub fn has_end_in_flight(&self) -> bool {
        let shared = lock(&self.0);
        shared.to_target.is_ended && !shared.to_target.is_end_delivered
    }

    /// Breaks the connection; what is in flight is lost.
    pub fn reset(&self) {
        let mut shared = lock(&self.0);
        shared.is_reset = true;
        (shared.readable, shared.writable) = (true, true);
        shared.to_target.flying.clear();
        shared.to_initiator.flying.clear();
    }

    /// The target has closed its end.
    pub fn is_closed_by_target(&self) -> bool {
        lock(&self.0).is_closed_by_target
    }

    /// Changes one bit of what is in flight to the target. Whether there was such a byte.
    pub fn flip(&self, at: usize, bit: u8) -> bool {
        let mut shared = lock(&self.0);
        let Some(byte) = shared.to_target.flying.get_mut(at) else { return false };
        *byte ^= 1 << (bit % 8);
        true
    }
}

/// A target's network.
#[derive(Debug, Default)]
pub struct SimNet {
    socks: Vec<Option<(Arc<Mutex<Shared>>, Key)>>,
}

impl SimNet {
    /// Without connections.
    pub fn new() -> SimNet {
        SimNet::default()
    }

    fn shared(&self, sock: usize) -> Option<MutexGuard<'_, Shared>> {
        self.socks.get(sock)?.as_ref().map(|(shared, _)| lock(shared))
    }
}

impl Net for SimNet {
    type Sock = usize;
    type Handle = Plug;

    fn adopt(&mut self, handle: Plug, id: Key) -> io::Result<usize> {
        let sock = self.socks.iter().position(Option::is_none).unwrap_or_else(|| {
            self.socks.push(None);
            self.socks.len() - 1
        });
        self.socks[sock] = Some((Arc::clone(&handle.0), id));
        Ok(sock)
    }

    fn release(&mut self, sock: usize) -> Plug {
        let (shared, _) = self.socks[sock].take().expect("only what was adopted is released");
        Plug(shared)
    }

    fn register(&mut self, _fd: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn ready(&mut self, out: &mut Vec<Readiness>, _wait: Wait) {
        for (shared, id) in self.socks.iter().flatten() {
            if out.len() == out.capacity() {
                return;
            }
            let mut shared = lock(shared);
            if shared.readable || shared.writable {
                out.push(Readiness { id: *id, readable: shared.readable, writable: shared.writable });
                (shared.readable, shared.writable) = (false, false);
            }
        }
    }

    fn recv(&mut self, sock: usize, to: &mut [IoSliceMut<'_>]) -> Rx {
        let Some(mut shared) = self.shared(sock) else { return Rx::Broken };
        if shared.is_reset {
            return Rx::Broken;
        }
        let pipe = &mut shared.to_target;
        let room: usize = to.iter().map(|slice| slice.len()).sum();
        let mut bytes = 0;
        for slice in to {
            let count = slice.len().min(pipe.arrived.len());
            let (front, back) = pipe.arrived.as_slices();
            let from_front = count.min(front.len());
            slice[..from_front].copy_from_slice(&front[..from_front]);
            slice[from_front..count].copy_from_slice(&back[..count - from_front]);
            pipe.arrived.drain(..count);
            bytes += count;
        }
        match bytes {
            0 if pipe.is_end_delivered => Rx::Closed,
            0 => Rx::WouldBlock,
            _ => Rx::Received { bytes, drained: bytes < room && !pipe.is_end_delivered },
        }
    }

    fn send(&mut self, sock: usize, from: &[IoSlice<'_>]) -> Tx {
        let Some(mut shared) = self.shared(sock) else { return Tx::Broken };
        if shared.is_reset {
            return Tx::Broken;
        }
        let pipe = &mut shared.to_initiator;
        let mut sent = 0;
        for slice in from {
            let count = slice.len().min(pipe.room());
            pipe.flying.extend(&slice[..count]);
            sent += count;
            if count < slice.len() {
                break;
            }
        }
        if sent == 0 && from.iter().any(|slice| !slice.is_empty()) { Tx::WouldBlock } else { Tx::Sent(sent) }
    }

    fn close(&mut self, sock: usize) {
        if let Some((shared, _)) = self.socks.get_mut(sock).and_then(Option::take) {
            lock(&shared).is_closed_by_target = true;
        }
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        // A connection that nobody adopts is closed; one that was adopted has been taken out of its plug.
        if Arc::strong_count(&self.0) <= 2 {
            lock(&self.0).is_closed_by_target = true;
        }
    }
}
