//! Namespaces of NVMe controllers, by a driver of our own in this process: no system call on an IO's way over PCIe.
//!
//! ```text
//!   controller's thread                        reactor i
//!   Controller ── Transport ─┐                 Channel (one per namespace)
//!     bring-up, admin queue, │                    │  splits IOs into commands
//!     namespaces, recovery   │                 Lane (one per controller and reactor)
//!          ▲                 │                    │  command slots, time-outs, retries
//!          └──── Port ───────┼──────────────────▶ │
//!                            └── makes, deletes ─ Queue: PCIe rings and PRPs | TCP capsules
//! ```
//!
//! * The **controller's thread** owns registers and admin queue. It drives `controller::Controller`, a machine of named
//!   states that never waits, so that tests drive the same machine with a mock controller and a clock of their own.
//! * A **lane** owns one pair of IO queues. It asks the controller's thread, through its `port::Port`, for the pair, for
//!   DMA mappings of its reactor's buffers, for aborts and for the end of the pair.
//! * A `queue::Queue` is what differs on the data path between PCIe and TCP; a `transport::Transport` is what differs
//!   in administration.
//!
//! Memory that the device may touch is given back only when its command has completed, when the pair of queues has been
//! deleted, when the controller is disabled (CSTS.RDY=0), or when its DMA mapping is gone.

pub(crate) mod bus;
mod channel;
pub(crate) mod controller;
#[cfg(feature = "sim")]
pub mod figures;
#[cfg(feature = "sim")]
pub mod fuzzing;
mod lane;
#[cfg(feature = "sim")]
pub(crate) mod mock;
pub(crate) mod namespace;
pub(crate) mod pci;
pub(crate) mod planted;
pub(crate) mod port;
pub(crate) mod queue;
#[cfg(feature = "sim")]
pub(crate) mod rig;
pub(crate) mod seat;
#[cfg(feature = "sim")]
pub mod served;
pub(crate) mod spec;
mod table;
pub(crate) mod tcp;
pub(crate) mod thread;
pub(crate) mod transport;

#[cfg(test)]
mod tests;

pub use self::lane::TimeOuts;
#[cfg(any(test, feature = "sim"))]
pub use self::tcp::fuzz::one as fuzz_tcp;
