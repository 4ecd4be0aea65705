//! A controller through VFIO: an IOMMU keeps it to the memory that is mapped for it.
//!
//! By the interface of groups that every kernel has. Constants and structures are `vfio-bindings`'; its companion
//! `vfio-ioctls` is not used: it looks a device up in sysfs again when it is dropped and panics where that has been pulled out
//! meanwhile, and it does not tell why a reset or a group failed.
//!
//! When the kernel wants the device back (it is to be removed), it asks by an eventfd and waits until the descriptor is closed:
//! registers read all ones from then on, as if the device were gone.

mod group;
mod iova;
mod sys;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit};

use self::group::Member;
use super::bar::Registers;
use super::device::Device;
use super::registers::REGISTER_BYTES_MIN;
use crate::bdev::nvme::bus::{Bus, DeviceAddresses, Mapping};

pub(crate) use self::group::Groups;

/// PCI command register, in configuration space: memory access and bus mastering.
const PCI_COMMAND: u64 = 4;
const PCI_MEMORY: u16 = 1 << 1;
const PCI_MASTER: u16 = 1 << 2;

/// A controller that is bound to vfio-pci.
#[derive(Debug)]
pub(super) struct VfioBus {
    registers: Registers,
    /// Readable once the kernel wants the device back.
    request: OwnedFd,
    is_wanted_back: AtomicBool,
    /// It does not obey: addresses that it has had stay its own, as others of its group could be given them.
    is_cut_off: AtomicBool,
    // In this order they must be closed.
    device: File,
    member: Member,
}

impl VfioBus {
    /// Takes the device. May block.
    pub(super) fn open(device: &Device, groups: &Groups) -> Result<VfioBus, String> {
        let address = device.address;
        let said = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        let member = groups.join(device)?;
        let descriptor = member.open_device()?;
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
            is_cut_off: AtomicBool::new(false),
            device: descriptor,
            member,
        };
        bus.set_access(true).map_err(|error| format!("{address}: {error}"))?;
        Ok(bus)
    }

    /// Changes the PCI command register.
    fn command(&self, change: impl Fn(u16) -> u16) -> io::Result<()> {
        let at = sys::region(self.device.as_fd(), sys::CONFIGURATION)?.offset + PCI_COMMAND;
        let mut command = [0; 2];
        self.device.read_exact_at(&mut command, at)?;
        let command = change(u16::from_le_bytes(command));
        self.device.write_all_at(&command.to_le_bytes(), at)
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
        let iova =
            self.member.space().take(bytes as u64).ok_or_else(|| {
                format!("the IOMMU has no room for {} MiB more", bytes.div_ceil(1024 * 1024))
            })?;
        if let Err(error) = sys::map(self.member.container(), iova, base, bytes) {
            self.member.space().give(iova, bytes as u64);
            return Err(VfioBus::why_not_mapped(&error, bytes));
        }
        Ok(Mapping { base, bytes, device: DeviceAddresses::Contiguous(iova) })
    }

    fn unmap(&self, mapping: &Mapping) {
        let DeviceAddresses::Contiguous(iova) = mapping.device else { return };
        // An address that could not be unmapped is not used again.
        let is_free = sys::unmap(self.member.container(), iova, mapping.bytes).is_ok();
        if is_free && !self.is_cut_off.load(Ordering::Relaxed) {
            self.member.space().give(iova, mapping.bytes as u64);
        }
    }

    fn is_fenced_by_unmap(&self) -> bool {
        true
    }

    fn set_access(&self, is_on: bool) -> Result<(), String> {
        self.is_cut_off.store(!is_on, Ordering::Relaxed);
        let change = |bits| if is_on { bits | PCI_MEMORY | PCI_MASTER } else { bits & !PCI_MASTER };
        self.command(change).map_err(|error| format!("its configuration space: {error}"))
    }

    fn reset(&self) -> Result<(), String> {
        sys::reset(self.device.as_fd()).map_err(|error| format!("the device cannot be reset: {error}"))?;
        self.set_access(true)
            .map_err(|error| format!("the device does not come back from its reset: {error}"))
    }
}
