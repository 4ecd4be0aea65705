//! A pair of IO queues over TCP: one connection.

use std::os::fd::AsRawFd;

use super::socket::Stream;
use super::wire::Data;
use crate::bdev::Wake;
use crate::bdev::nvme::bus::Mapping;
use crate::bdev::nvme::queue::{Payload, Payloads, PushError, Queue};
use crate::bdev::nvme::spec::{Command, Ended};
use crate::time::Tick;

/// PDUs count bytes in 32 bits; nobody moves as much at once.
const BYTES_MAX: usize = 1 << 30;

/// A pair of IO queues.
#[derive(Debug)]
pub(super) struct TcpQueue {
    depth: u16,
    stream: Stream,
}

impl TcpQueue {
    /// Of a connection whose Connect has succeeded.
    pub(super) fn new(depth: u16, stream: Stream) -> TcpQueue {
        TcpQueue { depth, stream }
    }
}

impl Queue for TcpQueue {
    fn depth(&self) -> u16 {
        self.depth
    }

    fn bytes_max(&self) -> usize {
        BYTES_MAX
    }

    fn push(
        &mut self,
        slot: u16,
        cid: u16,
        command: &Command,
        payload: Payload<'_>,
    ) -> Result<(), PushError> {
        let data = match payload {
            Payload::None => Data::None,
            Payload::Read(_, (_, bytes)) => Data::In(bytes),
            Payload::Write(_, (_, bytes)) => Data::Out(bytes),
            Payload::Zeroes(bytes) => Data::Zeroes(bytes),
            Payload::Inline(range) => Data::Inline(*range),
        };
        if self.stream.wire.push(slot, cid, command, data) { Ok(()) } else { Err(PushError::Broken) }
    }

    fn ring(&mut self, payloads: &mut dyn Payloads) {
        if self.stream.wire.has_unsent() {
            self.stream.flush(payloads);
        }
    }

    fn pop(&mut self, payloads: &mut dyn Payloads, now: Tick) -> Option<Ended> {
        self.stream.next(payloads, now).map(Ended::from)
    }

    fn acknowledge(&mut self) {}

    fn learn(&mut self, _: Mapping) {}

    fn fault(&self) -> Option<&'static str> {
        self.stream.wire.fault()
    }

    fn wake(&self) -> Wake {
        let wire = &self.stream.wire;
        if wire.fault().is_some() || wire.has_unsent() || wire.has_unread() {
            Wake::MustPoll
        } else if wire.is_busy() {
            Wake::Fd(self.stream.socket.as_raw_fd())
        } else {
            Wake::Idle
        }
    }
}
