//! A controller through VFIO: an IOMMU keeps it to the memory that is mapped for it.
//!
//! A container of its own for each controller, by the interface of groups that every kernel has. Constants and structures are
//! `vfio-bindings`'; its companion `vfio-ioctls` is not used: it looks a device up in sysfs again when it is dropped and
//! panics where that has been pulled out meanwhile, and it does not tell why a reset or a group failed.
//!
//! When the kernel wants the device back (it is to be removed), it asks by an eventfd and waits until the descriptor is closed:
//! registers read all ones from then on, as if the device were gone.

mod iova;
mod sys;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit};

use self::iova::Space;
use super::bar::Registers;
use super::device::Device;
use super::registers::REGISTER_BYTES_MIN;
use crate::bdev::nvme::bus::{Bus, DeviceAddresses, Mapping};

/// PCI command register, in configuration space: memory access and bus mastering.
const PCI_COMMAND: u64 = 4;
const PCI_MEMORY_AND_MASTER: u16 = 1 << 1 | 1 << 2;

/// A group that somebody has is tried again for five seconds: a daemon that is restarted meets its predecessor.
const OPEN_TRIES: u32 = 51;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_types, reason = "of threads that may wait; a reactor only writes doorbells")]
type Guarded<T> = std::sync::Mutex<T>;

/// A controller that is bound to vfio-pci.
#[derive(Debug)]
pub(super) struct VfioBus {
    registers: Registers,
    /// Readable once the kernel wants the device back.
    request: OwnedFd,
    is_wanted_back: AtomicBool,
    // In this order they must be closed.
    device: File,
    _group: File,
    container: File,
    space: Guarded<Space>,
}

impl VfioBus {
    /// Takes the device. May block.
    pub(super) fn open(device: &Device) -> Result<VfioBus, String> {
        let address = device.address;
        let Some(number) = device.iommu_group() else {
            return Err(format!(
                "{address} has no IOMMU: switch it on (VT-d or AMD-Vi in the firmware, and intel_iommu=on on the kernel's \
                 command line), or serve with --unsafe-noiommu and a driver other than vfio-pci"
            ));
        };
        let container = open("/dev/vfio/vfio").map_err(|error| {
            format!("cannot open /dev/vfio/vfio: {error}; is the module vfio-pci loaded?")
        })?;
        let group = open_group(number, device)?;
        let said = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        if !sys::is_version_known(container.as_fd()).map_err(|error| said("VFIO", error))? {
            return Err("the kernel's VFIO has no IOMMU of type 1, version 2".to_owned());
        }
        if !sys::is_viable(group.as_fd()).map_err(|error| said("its IOMMU group", error))? {
            return Err(format!(
                "{address} shares IOMMU group {number} with devices that other drivers have: {}; unbind these, or bind \
                 them to vfio-pci too",
                device.group_obstacles().join(", ")
            ));
        }
        sys::join(group.as_fd(), container.as_fd()).map_err(|error| said("joining a container", error))?;
        sys::use_type1(container.as_fd()).map_err(|error| said("its IOMMU", error))?;
        let info = sys::iommu_info(container.as_fd()).map_err(|error| said("its IOMMU", error))?;
        let name = CString::new(address.to_string()).map_err(|_| "an address without NUL".to_owned())?;
        let descriptor = sys::device(group.as_fd(), &name).map_err(|error| said("opening it", error))?;
        let registers = map_registers(&descriptor).map_err(|error| said("its registers", error))?;
        if registers.bytes() < REGISTER_BYTES_MIN {
            return Err(format!(
                "{address} has {} bytes of registers: no NVMe controller",
                registers.bytes()
            ));
        }
        let request = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| said("an eventfd", error.into()))?;
        // Old kernels do not ask: they wait without a word.
        let _ = sys::notify_request(descriptor.as_fd(), request.as_fd());
        let bus = VfioBus {
            registers,
            request,
            is_wanted_back: AtomicBool::new(false),
            device: descriptor,
            _group: group,
            container,
            space: Guarded::new(Space::new(&iova::usable(&info))),
        };
        bus.be_master().map_err(|error| said("its configuration space", error))?;
        Ok(bus)
    }

    /// Switches memory access and bus mastering on.
    fn be_master(&self) -> io::Result<()> {
        let at = sys::region(self.device.as_fd(), sys::CONFIGURATION)?.offset + PCI_COMMAND;
        let mut command = [0; 2];
        self.device.read_exact_at(&mut command, at)?;
        let command = u16::from_le_bytes(command) | PCI_MEMORY_AND_MASTER;
        self.device.write_all_at(&command.to_le_bytes(), at)
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn why_not_mapped(error: &io::Error, bytes: usize) -> String {
        let mib = bytes.div_ceil(1024 * 1024);
        let limit = getrlimit(Resource::Memlock).current;
        match (error.raw_os_error(), limit) {
            (Some(libc::ENOMEM), Some(limit)) => format!(
                "cannot pin {mib} MiB for the device: locked memory is limited to {} MiB; raise that (ulimit -l, \
                 LimitMEMLOCK= in a unit of systemd)",
                limit / (1024 * 1024)
            ),
            (Some(libc::ENOSPC), _) => {
                "the device has too many mappings (vfio_iommu_type1.dma_entry_limit)".to_owned()
            }
            _ => format!("cannot map {mib} MiB for the device: {error}"),
        }
    }
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path)
}

#[expect(clippy::disallowed_methods, reason = "of the controller's thread, which may wait")]
fn open_group(number: u32, device: &Device) -> Result<File, String> {
    let (address, path) = (device.address, format!("/dev/vfio/{number}"));
    for attempt in 1.. {
        match open(&path) {
            Ok(group) => return Ok(group),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < OPEN_TRIES => {
                std::thread::sleep(OPEN_PAUSE);
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                return Err(format!("{address} is in use: another process has {path}"));
            }
            Err(error) => {
                return Err(format!(
                    "cannot open {path} of {address}: {error}; `scripts/setup.sh bind {address}` makes it"
                ));
            }
        }
    }
    Err(format!("{address} is in use"))
}

fn map_registers(device: &File) -> io::Result<Registers> {
    let region = sys::region(device.as_fd(), sys::BAR0)?;
    if !region.can_be_mapped {
        return Err(io::Error::other("they cannot be mapped"));
    }
    let bytes = usize::try_from(region.bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
    Registers::map(device.as_fd(), region.offset, bytes)
}

impl Bus for VfioBus {
    fn read32(&self, offset: usize) -> u32 {
        // Registers are read for administration only, so that a system call does not matter.
        if rustix::io::read(&self.request, &mut [0; 8]).is_ok() {
            self.is_wanted_back.store(true, Ordering::Relaxed);
        }
        if self.is_wanted_back.load(Ordering::Relaxed) {
            return u32::MAX;
        }
        self.registers.read(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.registers.write(offset, value);
    }

    fn register_bytes(&self) -> usize {
        self.registers.bytes()
    }

    fn map(&self, base: usize, bytes: usize) -> Result<Mapping, String> {
        let iova = self
            .space()
            .take(bytes as u64)
            .ok_or_else(|| format!("the IOMMU has no room for {} MiB more", bytes.div_ceil(1024 * 1024)))?;
        if let Err(error) = sys::map(self.container.as_fd(), iova, base, bytes) {
            self.space().give(iova, bytes as u64);
            return Err(VfioBus::why_not_mapped(&error, bytes));
        }
        Ok(Mapping { base, bytes, device: DeviceAddresses::Contiguous(iova) })
    }

    fn unmap(&self, mapping: &Mapping) {
        let DeviceAddresses::Contiguous(iova) = mapping.device else { return };
        // An address that could not be unmapped is not used again.
        if sys::unmap(self.container.as_fd(), iova, mapping.bytes).is_ok() {
            self.space().give(iova, mapping.bytes as u64);
        }
    }

    fn is_fenced_by_unmap(&self) -> bool {
        true
    }

    fn reset(&self) -> Result<(), String> {
        sys::reset(self.device.as_fd()).map_err(|error| format!("the device cannot be reset: {error}"))?;
        self.be_master().map_err(|error| format!("the device does not come back from its reset: {error}"))
    }
}
