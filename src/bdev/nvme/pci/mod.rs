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
mod bar;
pub(crate) mod device;
mod dma;
pub(crate) mod list;
mod prp;
mod queue;
mod registers;
mod ring;
mod shadow;
pub(crate) mod sysfs;
mod transport;
mod vfio;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use self::transport::PciTransport;
pub(crate) use self::vfio::Groups;

use self::device::{Address, Device};
use self::sysfs::SysfsBus;
use self::vfio::VfioBus;
use super::bus::Bus;

/// Takes the controller at this address: through VFIO where it is bound to vfio-pci, else, where `unsafe_noiommu`, as it is.
/// `groups` are those that the process has. May block for some seconds. An error says what to do.
pub(crate) fn open(address: Address, unsafe_noiommu: bool, groups: &Groups) -> Result<PciTransport, String> {
    let device = Device::find(address)?;
    let bus: Arc<dyn Bus> = match device.driver().as_deref() {
        Some("vfio-pci") => Arc::new(VfioBus::open(&device, groups)?),
        _ if unsafe_noiommu => Arc::new(SysfsBus::open(&device)?),
        driver => {
            let whose = driver.map_or("no driver".to_owned(), |driver| format!("the driver {driver}"));
            return Err(format!(
                "{address} belongs to {whose}: hand it to vfio-pci with `scripts/setup.sh bind {address}`"
            ));
        }
    };
    Ok(PciTransport::new(bus, &address.to_string()))
}
