//! A pair of IO queues as its reactor uses it: what differs on the data path between PCIe and TCP.

use std::fmt::Debug;

use super::bus::Mapping;
use super::spec::{Command, Ended, Range};
use crate::bdev::Wake;
use crate::buf::Buf;
use crate::time::Tick;

/// What a command's data are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// None.
    None,
    /// The device fills this part of the buffer.
    Read(&'a Buf, (usize, usize)),
    /// The device takes this part of the buffer: from, bytes.
    Write(&'a Buf, (usize, usize)),
    /// The device takes so many zeroes.
    Zeroes(usize),
    /// The device takes these bytes.
    Inline(&'a Range),
}

/// Why a command could not be entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PushError {
    /// The device cannot reach this buffer's memory yet: [`super::port::Request::Map`], then [`Queue::learn`].
    Unmapped,
    /// The queue is broken: [`Queue::fault`] tells why.
    Broken,
}

/// The memory of commands in the queue, for transports that move data themselves (TCP). Commands with
/// [`Payload::Read`] have what [`Payloads::sink`] gives, those with [`Payload::Write`] what [`Payloads::source`] gives:
/// exactly the bytes that were named when they were entered, until they complete.
pub(crate) trait Payloads {
    /// What the device takes of the command; none where it is unknown or writes nothing.
    fn source(&self, cid: u16) -> Option<&[u8]>;
    /// What the device fills of the command; none where it is unknown or reads nothing.
    fn sink(&mut self, cid: u16) -> Option<&mut [u8]>;
}

/// No memory, for transports that do not move data themselves (PCIe).
#[derive(Debug)]
pub(crate) struct NoPayloads;

impl Payloads for NoPayloads {
    fn source(&self, _cid: u16) -> Option<&[u8]> {
        None
    }

    fn sink(&mut self, _cid: u16) -> Option<&mut [u8]> {
        None
    }
}

/// A pair of IO queues. The caller has at most [`Queue::depth`] commands in it, each under a command id of its own.
pub(crate) trait Queue: Debug {
    /// Its number, where tests want to know it.
    #[cfg(test)]
    fn id(&self) -> u16 {
        0
    }
    /// Commands it holds at once, at most.
    fn depth(&self) -> u16;
    /// The most bytes that one command may move, as far as the transport is concerned.
    fn bytes_max(&self) -> usize;
    /// Enters a command. `slot < depth` is not used by another command in the queue; memory that belongs to the
    /// slot (a PRP list) may be used for this one.
    fn push(&mut self, slot: u16, cid: u16, command: &Command, payload: Payload<'_>)
    -> Result<(), PushError>;
    /// Tells the device of what was entered (a doorbell, a send), where anything was.
    fn ring(&mut self, payloads: &mut dyn Payloads);
    /// The next completion, where there is one. It is not yet believed: its command id may be anything.
    fn pop(&mut self, payloads: &mut dyn Payloads, now: Tick) -> Option<Ended>;
    /// Completions were taken with [`Queue::pop`]: tells the device, once for all of them.
    fn acknowledge(&mut self);
    /// Memory that the device can reach from now on.
    fn learn(&mut self, mapping: Mapping);
    /// What went wrong so that the queue can do nothing any more, where something has.
    fn fault(&self) -> Option<&'static str>;
    /// How a reactor with commands in it may wait.
    fn wake(&self) -> Wake;
}
