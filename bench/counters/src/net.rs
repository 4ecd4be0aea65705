//! A network of one connection, whose other end is an [`Initiator`] in the same place.
//!
//! All that is sent has arrived at the next receive; all that is written is taken at once. The functions named
//! `outside_*` are left out of what callgrind counts: they stand for the kernel.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::RawFd;
use std::rc::Rc;

use lunette::net::{Net, Readiness, Rx, Tx, Wait};
use lunette::slab::Key;

use crate::initiator::Initiator;

/// Calls that would be the kernel's.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Calls {
    pub(crate) recv: u64,
    pub(crate) send: u64,
}

/// The network of one reactor.
#[derive(Debug)]
pub(crate) struct ReplayNet {
    initiator: Rc<RefCell<Initiator>>,
    calls: Rc<RefCell<Calls>>,
    id: Option<Key>,
}

impl ReplayNet {
    pub(crate) fn new(initiator: Rc<RefCell<Initiator>>, calls: Rc<RefCell<Calls>>) -> ReplayNet {
        ReplayNet { initiator, calls, id: None }
    }

    #[inline(never)]
    fn outside_ready(&mut self, out: &mut Vec<Readiness>) {
        let has_news = std::mem::take(&mut self.initiator.borrow_mut().has_news);
        if let Some(id) = self.id
            && has_news
        {
            out.push(Readiness { id, readable: true, writable: false });
        }
    }

    #[inline(never)]
    fn outside_recv(&mut self, to: &mut [IoSliceMut<'_>]) -> Rx {
        self.calls.borrow_mut().recv += 1;
        let mut initiator = self.initiator.borrow_mut();
        let room: usize = to.iter().map(|slice| slice.len()).sum();
        match to.iter_mut().map(|slice| initiator.give(slice)).sum() {
            0 => Rx::WouldBlock,
            bytes => Rx::Received { bytes, drained: bytes < room },
        }
    }

    #[inline(never)]
    fn outside_send(&mut self, from: &[IoSlice<'_>]) -> Tx {
        let mut calls = self.calls.borrow_mut();
        calls.send += 1;
        let mut initiator = self.initiator.borrow_mut();
        from.iter().for_each(|slice| initiator.take(slice));
        Tx::Sent(from.iter().map(|slice| slice.len()).sum())
    }
}

impl Net for ReplayNet {
    type Sock = ();
    type Handle = ();

    fn adopt(&mut self, (): (), id: Key) -> io::Result<()> {
        self.id = Some(id);
        Ok(())
    }

    fn release(&mut self, (): ()) {}

    fn register(&mut self, _fd: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn ready(&mut self, out: &mut Vec<Readiness>, _wait: Wait) {
        self.outside_ready(out);
    }

    fn recv(&mut self, (): (), to: &mut [IoSliceMut<'_>]) -> Rx {
        self.outside_recv(to)
    }

    fn send(&mut self, (): (), from: &[IoSlice<'_>]) -> Tx {
        self.outside_send(from)
    }

    fn close(&mut self, (): ()) {
        panic!("the target has closed the connection");
    }
}
