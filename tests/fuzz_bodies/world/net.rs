//! A network of wires in memory.

use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use std::rc::Rc;

use lunette::net::{Net, Readiness, Rx, Tx, Wait};
use lunette::slab::Key;

pub(in crate::fuzz_bodies) type Wires = Rc<RefCell<Vec<Wire>>>;

/// A connection, seen from the peer.
#[derive(Debug)]
pub(in crate::fuzz_bodies) struct Wire {
    incoming: Vec<u8>,
    taken: usize,
    /// What the target has sent and nobody has looked at.
    pub(in crate::fuzz_bodies) outgoing: Vec<u8>,
    /// Bytes of one receive, at most.
    pub(in crate::fuzz_bodies) recv_bytes_max: usize,
    /// Bytes that may still be sent to us.
    room_bytes: usize,
    end: Option<Rx>,
    id: Option<Key>,
    is_closed: bool,
    has_news: bool,
    has_room_news: bool,
}

impl Default for Wire {
    fn default() -> Wire {
        Wire {
            incoming: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            recv_bytes_max: usize::MAX,
            room_bytes: usize::MAX,
            end: None,
            id: None,
            is_closed: false,
            has_news: false,
            has_room_news: false,
        }
    }
}

impl Wire {
    /// The peer sends.
    pub(in crate::fuzz_bodies) fn push(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
        self.has_news = true;
    }

    /// The peer takes so much from now on.
    pub(in crate::fuzz_bodies) fn set_room(&mut self, bytes: usize) {
        self.room_bytes = bytes;
        self.has_room_news = bytes > 0;
    }

    /// The peer ends the connection, in order or not.
    pub(in crate::fuzz_bodies) fn end(&mut self, is_reset: bool) {
        self.end.get_or_insert(if is_reset { Rx::Broken } else { Rx::Closed });
        self.set_room(usize::MAX);
        self.has_news = true;
    }

    pub(in crate::fuzz_bodies) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

#[derive(Debug)]
pub(in crate::fuzz_bodies) struct FakeNet {
    wires: Wires,
}

impl FakeNet {
    pub(in crate::fuzz_bodies) fn new(wires: Wires) -> FakeNet {
        FakeNet { wires }
    }
}

impl Net for FakeNet {
    type Sock = usize;
    type Handle = usize;

    fn adopt(&mut self, handle: usize, id: Key) -> std::io::Result<usize> {
        self.wires.borrow_mut()[handle].id = Some(id);
        Ok(handle)
    }

    fn release(&mut self, sock: usize) -> usize {
        sock
    }

    fn register(&mut self, _: RawFd) -> std::io::Result<()> {
        Ok(())
    }

    fn ready(&mut self, out: &mut Vec<Readiness>, _: Wait) {
        for wire in self.wires.borrow_mut().iter_mut() {
            let Some(id) = wire.id.filter(|_| wire.has_news || wire.has_room_news) else { continue };
            if !wire.is_closed && out.len() < out.capacity() {
                out.push(Readiness { id, readable: wire.has_news, writable: wire.has_room_news });
                (wire.has_news, wire.has_room_news) = (false, false);
            }
        }
    }

    fn recv(&mut self, sock: usize, to: &mut [IoSliceMut<'_>]) -> Rx {
        let wire = &mut self.wires.borrow_mut()[sock];
        assert!(!wire.is_closed, "received from after its close");
        if wire.end == Some(Rx::Broken) {
            return Rx::Broken;
        }
        let there = wire.incoming.len() - wire.taken;
        if there == 0 {
            return wire.end.unwrap_or(Rx::WouldBlock);
        }
        let (mut bytes, mut room) = (0, 0);
        for slice in to {
            room += slice.len();
            let some = slice.len().min(there - bytes).min(wire.recv_bytes_max - bytes);
            slice[..some].copy_from_slice(&wire.incoming[wire.taken..][..some]);
            wire.taken += some;
            bytes += some;
        }
        let is_all = wire.taken == wire.incoming.len();
        Rx::Received { bytes, drained: is_all && bytes < room && wire.end.is_none() }
    }

    fn send(&mut self, sock: usize, from: &[IoSlice<'_>]) -> Tx {
        let wire = &mut self.wires.borrow_mut()[sock];
        assert!(!wire.is_closed, "sent to after its close");
        if wire.end == Some(Rx::Broken) {
            return Tx::Broken;
        }
        assert!(from.iter().any(|slice| !slice.is_empty()), "nothing was sent");
        if wire.room_bytes == 0 {
            return Tx::WouldBlock;
        }
        let mut sent = 0;
        for slice in from {
            let some = slice.len().min(wire.room_bytes);
            wire.outgoing.extend_from_slice(&slice[..some]);
            sent += some;
            if wire.room_bytes != usize::MAX {
                wire.room_bytes -= some;
            }
        }
        Tx::Sent(sent)
    }

    fn close(&mut self, sock: usize) {
        let wire = &mut self.wires.borrow_mut()[sock];
        assert!(!wire.is_closed, "closed twice");
        wire.is_closed = true;
    }
}
