//! A way to a controller, as its administration uses it: what differs there between PCIe and TCP.
//!
//! Driven from the controller's thread, by polling: nothing waits, system calls that map or unmap memory aside.

use std::fmt::Debug;

use super::bus::Mapping;
use super::queue::Queue;
use super::spec::{Command, Completion};
use crate::time::Tick;

/// What became of something that takes its time.
#[derive(Debug)]
pub(crate) enum Progress<T> {
    /// Not yet.
    Pending,
    /// Done.
    Ready(T),
    /// It failed: what, and what to do.
    Failed(String),
}

/// What a controller that has just been enabled allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    /// Entries of an IO queue, at most (CAP.MQES + 1).
    pub(crate) entries_max: u32,
    /// Version, as in VS: 0x0001_0400 is 1.4.
    pub(crate) version: u32,
    /// Smallest page, in bytes (CAP.MPSMIN): MDTS counts in these.
    pub(crate) page_bytes_min: u32,
    /// Keep-alive must be sent (NVMe over Fabrics).
    pub(crate) needs_keep_alive: bool,
}

/// Data of an admin command come and go in one page.
pub(crate) const ADMIN_DATA_BYTES: usize = 4096;

/// What an admin command does with its page.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdminData<'a> {
    /// Nothing.
    None,
    /// The controller fills it; [`Transport::pop`] gives it.
    In,
    /// The controller takes these bytes, at most [`ADMIN_DATA_BYTES`].
    Out(&'a [u8]),
}

/// A way to a controller. Dropping it leaves the controller disabled, its connections closed.
pub(crate) trait Transport: Send + Debug {
    /// Where it leads, in words for the log: `PCIe 0000:01:00.0`.
    fn name(&self) -> String;
    /// Begins to reset and enable the controller; whatever queues it had are gone once it reports ready or failed, or
    /// [`Transport::is_quiet`] says so.
    fn start(&mut self, now: Tick);
    /// How far that has come. It gives up by itself in bounded time (CAP.TO).
    fn poll_start(&mut self, now: Tick) -> Progress<Limits>;
    /// Whether nothing that was handed to the device before can touch memory any more: the controller is disabled, its
    /// connections are closed, or its mappings are gone.
    fn is_quiet(&self) -> bool;
    /// Whether the controller is there and says that it works (CSTS.CFS, registers all ones, a closed connection).
    /// An error says what is wrong.
    fn check(&self) -> Result<(), String>;
    /// Enters an admin command; false where the admin queue is full.
    fn submit(&mut self, cid: u16, command: &Command, data: AdminData<'_>) -> bool;
    /// The next admin completion, with the data of a command with [`AdminData::In`].
    fn pop(&mut self, now: Tick) -> Option<(Completion, Option<&[u8; ADMIN_DATA_BYTES]>)>;
    /// Admin commands that make a pair of IO queues with this number and so many entries, in order: none over TCP.
    fn create_commands(&mut self, id: u16, entries: u16) -> Result<Vec<Command>, String>;
    /// The pair itself, once the controller has carried [`Transport::create_commands`] out.
    fn poll_queue(&mut self, id: u16, entries: u16, now: Tick) -> Progress<Box<dyn Queue + Send>>;
    /// Admin commands that delete the pair, in order: none over TCP.
    fn delete_commands(&mut self, id: u16) -> Vec<Command>;
    /// Whether the controller is done with the pair, after [`Transport::delete_commands`] were carried out. Over TCP the end of
    /// the connection says so; it comes in bounded time, if only by itself.
    fn poll_delete(&mut self, _id: u16, _now: Tick) -> bool {
        true
    }
    /// The pair is deleted, at the controller too, or was never made: its memory goes, its connection is closed. After a reset a
    /// lane may still have its [`Queue`] for a while, and use it.
    fn forget_queue(&mut self, id: u16);
    /// Lets the device reach this range. `None`: it need not (TCP).
    fn map(&mut self, base: usize, bytes: usize) -> Result<Option<Mapping>, String>;
    /// Takes back what [`Transport::map`] gave.
    fn unmap(&mut self, mapping: &Mapping);
    /// Shuts the controller down in an orderly way (CC.SHN); [`Transport::poll_stop`] tells when that is done.
    fn stop(&mut self, now: Tick);
    /// How far that has come; it gives up by itself in bounded time. Once it is done, [`Transport::is_quiet`].
    fn poll_stop(&mut self, now: Tick) -> Progress<()>;
    /// Resets the device from outside, where that is possible, before another [`Transport::start`]. May block.
    fn reset_bus(&mut self) -> Result<(), String> {
        Err("there is no way to".to_owned())
    }
    /// The admin command that moves the doorbells of IO queues to memory (Base §5.4), for a controller that knows it; none
    /// where the transport does not want that. It is sent before any IO queue is made.
    fn doorbell_buffer(&mut self) -> Option<Command> {
        None
    }
}
