//! A connection as the controller's thread uses it: its commands have pages of their own.

use std::net::SocketAddr;

use super::pdu::Digests;
use super::socket::{self, Socket, Stream};
use super::wire::{Data, Wire};
use crate::bdev::nvme::queue::Payloads;
use crate::bdev::nvme::spec::{Command, Completion, admin};
use crate::bdev::nvme::transport::{ADMIN_DATA_BYTES, AdminData};
use crate::time::{SECOND_NS, Tick};

/// To connect, to greet, and to answer a command each take at most so long.
pub(super) const STEP_NS: u64 = 10 * SECOND_NS;

/// The data of a command.
#[derive(Debug)]
struct Page {
    /// Whose; none where it is free.
    cid: Option<u16>,
    /// Bytes of them that move.
    bytes: usize,
    is_read: bool,
    data: Box<[u8; ADMIN_DATA_BYTES]>,
}

#[derive(Debug)]
struct Pages(Box<[Page]>);

impl Pages {
    fn new(count: u16) -> Pages {
        let page = |_| Page { cid: None, bytes: 0, is_read: false, data: Box::new([0; ADMIN_DATA_BYTES]) };
        Pages((0..count).map(page).collect())
    }
}

impl Payloads for Pages {
    fn source(&self, cid: u16) -> Option<&[u8]> {
        let page = self.0.iter().find(|page| page.cid == Some(cid) && !page.is_read)?;
        page.data.get(..page.bytes)
    }

    fn sink(&mut self, cid: u16) -> Option<&mut [u8]> {
        let page = self.0.iter_mut().find(|page| page.cid == Some(cid) && page.is_read)?;
        page.data.get_mut(..page.bytes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Connecting,
    Greeting,
    Open,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    pages: Pages,
    phase: Phase,
    deadline: Tick,
}

impl Link {
    /// Begins to connect queue `id`, for `depth` commands at once of which this link itself enters `own` at most.
    pub(super) fn new(
        id: u16,
        depth: u16,
        own: u16,
        address: SocketAddr,
        digests: Digests,
        now: Tick,
    ) -> Result<Link, String> {
        let socket = socket::connect(address).map_err(|error| format!("{address}: {error}"))?;
        Ok(Link {
            stream: Stream::new(socket, Wire::new(id, depth, digests)),
            pages: Pages::new(own),
            phase: Phase::Connecting,
            deadline: now.after_ns(STEP_NS),
        })
    }

    /// Whether commands can be entered; an error says why they never will.
    pub(super) fn poll_open(&mut self, now: Tick) -> Result<bool, String> {
        if self.phase == Phase::Connecting
            && socket::is_connected(&self.stream.socket).map_err(|error| error.to_string())?
        {
            (self.phase, self.deadline) = (Phase::Greeting, now.after_ns(STEP_NS));
        }
        if self.phase == Phase::Greeting {
            // The greeting goes and its answer comes; no command can complete yet.
            let _ = self.stream.next(&mut self.pages, now);
            self.check()?;
            if self.stream.wire.is_open() {
                self.phase = Phase::Open;
            }
        }
        if self.phase != Phase::Open && now > self.deadline {
            return Err(match self.phase {
                Phase::Connecting => "it does not answer".to_owned(),
                _ => "it answers, but does not speak NVMe/TCP".to_owned(),
            });
        }
        Ok(self.phase == Phase::Open)
    }

    /// What broke the connection.
    pub(super) fn check(&self) -> Result<(), String> {
        self.stream.wire.fault().map_or(Ok(()), |fault| Err(fault.to_owned()))
    }

    /// Enters a command and sends what the kernel takes; false where there is no page for it, or its id is taken.
    pub(super) fn submit(&mut self, cid: u16, command: &Command, data: AdminData<'_>) -> bool {
        if self.pages.0.iter().any(|page| page.cid == Some(cid)) {
            return false;
        }
        let Some(slot) = self.pages.0.iter().position(|page| page.cid.is_none()) else { return false };
        let page = &mut self.pages.0[slot];
        (page.bytes, page.is_read) = match data {
            AdminData::None => (0, false),
            AdminData::In => (data_bytes(command), true),
            AdminData::Out(bytes) => (bytes.len().min(ADMIN_DATA_BYTES), false),
        };
        let moved = match data {
            AdminData::None => Data::None,
            AdminData::In => {
                page.data.fill(0);
                Data::In(page.bytes)
            }
            AdminData::Out(bytes) => {
                page.data[..page.bytes].copy_from_slice(&bytes[..page.bytes]);
                Data::Out(page.bytes)
            }
        };
        if !u16::try_from(slot).is_ok_and(|slot| self.stream.wire.push(slot, cid, command, moved)) {
            return false;
        }
        page.cid = Some(cid);
        self.stream.flush(&self.pages);
        true
    }

    /// The next completion, with what was read.
    pub(super) fn pop(&mut self, now: Tick) -> Option<(Completion, Option<&[u8; ADMIN_DATA_BYTES]>)> {
        let completion = self.stream.next(&mut self.pages, now)?;
        let page = self.pages.0.iter_mut().find(|page| page.cid == Some(completion.cid))?;
        page.cid = None;
        Some((completion, page.is_read.then_some(&*page.data)))
    }

    /// What others need to end it.
    pub(super) fn socket(&self) -> &Socket {
        &self.stream.socket
    }

    /// The connection alone, for a queue; none of its own commands is under way.
    pub(super) fn into_stream(self, capsule_bytes: usize) -> Stream {
        let mut stream = self.stream;
        stream.wire.set_capsule_bytes(capsule_bytes);
        stream
    }
}

/// What a command with [`AdminData::In`] brings. Controllers compare it with the length in the descriptor.
fn data_bytes(command: &Command) -> usize {
    if command.opcode != admin::GET_LOG_PAGE {
        return ADMIN_DATA_BYTES;
    }
    // Base §5.16.1: NUMDL and NUMDU, in dwords, 0's based.
    let dwords = command.cdw10[0] >> 16 | command.cdw10[1] << 16;
    usize::try_from(dwords).unwrap_or(usize::MAX).saturating_add(1).saturating_mul(4).min(ADMIN_DATA_BYTES)
}
