//! What a reactor needs of a network: bytes in, bytes out, and a place to wait.
//!
//! The kernel's sockets are [`kernel::KernelNet`]; the simulator has its own. [`listen`] is where connections come
//! from, [`wake`] how another thread ends a wait. Nothing here knows iSCSI.
#![cfg_attr(
    not(test),
    deny(
        clippy::disallowed_types,
        clippy::disallowed_methods,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::print_stdout,
        clippy::too_many_lines
    )
)]

pub mod kernel;
pub mod listen;
pub mod wake;

use std::fmt::Debug;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::RawFd;

use crate::slab::Key;

/// How a receive ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rx {
    /// So many bytes (at least one); `drained` when fewer came than there was room for, so that nothing more is
    /// there until [`Net::ready`] says so again.
    Received {
        /// Bytes placed.
        bytes: usize,
        /// Nothing is left for now.
        drained: bool,
    },
    /// Nothing for now; wait for [`Net::ready`].
    WouldBlock,
    /// The peer has sent its last byte.
    Closed,
    /// The connection failed.
    Broken,
}

/// How a send ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tx {
    /// So many bytes were taken, perhaps not all.
    Sent(usize),
    /// None; wait for [`Net::ready`].
    WouldBlock,
    /// The connection failed.
    Broken,
}

/// How long [`Net::ready`] may wait in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Not at all.
    Poll,
    /// At most so many nanoseconds.
    AtMostNs(u64),
    /// Until something happens.
    Forever,
}

/// A socket's readiness since it was last told (edges, not levels).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readiness {
    /// What the socket was adopted under.
    pub id: Key,
    /// Bytes, an end or an error wait to be received.
    pub readable: bool,
    /// There is room to send again.
    pub writable: bool,
}

/// A network, owned by one thread.
///
/// Readiness is edge-triggered: after adoption a socket counts as readable and writable until it says `WouldBlock`
/// (or `drained`), and from then on not until [`Net::ready`] names it.
pub trait Net {
    /// Names a connection, cheaply.
    type Sock: Copy + Debug;
    /// A connection on its way from one thread's network to another's.
    type Handle: Send + Debug;

    /// Takes a connection over; its readiness will be told under `id`.
    fn adopt(&mut self, handle: Self::Handle, id: Key) -> std::io::Result<Self::Sock>;
    /// Gives a connection up unclosed, to be adopted elsewhere.
    fn release(&mut self, sock: Self::Sock) -> Self::Handle;
    /// Watches a descriptor (a channel's or a port's) only to end a wait; it is level-triggered and not drained here.
    fn register(&mut self, fd: RawFd) -> std::io::Result<()>;
    /// Appends what became ready, at most as much as `out` has spare capacity for.
    fn ready(&mut self, out: &mut Vec<Readiness>, wait: Wait);
    /// Receives into the slices in order, at most once.
    fn recv(&mut self, sock: Self::Sock, to: &mut [IoSliceMut<'_>]) -> Rx;
    /// Sends from the slices in order, at most once.
    fn send(&mut self, sock: Self::Sock, from: &[IoSlice<'_>]) -> Tx;
    /// Closes the connection.
    fn close(&mut self, sock: Self::Sock);
}

/// What another thread uses to end a wait. It may be called at any time and from any thread.
pub trait Waker: Send + Sync + Debug {
    /// Ends the present or the next wait.
    fn wake(&self);
}
