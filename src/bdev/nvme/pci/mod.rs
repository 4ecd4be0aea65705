//! NVMe over PCIe: rings in memory that the controller reads and writes, doorbells in its registers.
//!
//! ```text
//!   PciTransport (controller's thread)          PciQueue (a reactor)
//!     registers: reset, enable, shut down          PRPs of what is to be moved
//!     AdminRing                                    Ring
//!         └───────────── Dma: queues' memory ───────┘
//!                         Bus: vfio | sysfs | mock
//! ```
//!
//! No interrupts: completions are polled. Pages are of 4 KiB for the controller, whatever they are for the kernel.

mod admin;
mod dma;
mod prp;
mod queue;
mod registers;
mod ring;
mod shadow;
mod transport;

#[cfg(test)]
mod tests;

pub(crate) use self::transport::PciTransport;
