//! A controller without an IOMMU: registers from sysfs, physical addresses of hugepages from the kernel's page map.
//!
//! Nothing keeps such a device from any byte of memory, and nothing but the kernel's habit keeps a hugepage where it is. It is used
//! only where the operator said `--unsafe-noiommu`.
//!
//! An island of `unsafe` for one call: hugepages are made resident before they are looked up.
#![expect(unsafe_code, reason = "has the kernel make pages resident")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::mm::{Advice, madvise};

use super::bar::Registers;
use super::device::Device;
use super::registers::REGISTER_BYTES_MIN;
use crate::bdev::nvme::bus::{Bus, DeviceAddresses, Mapping};
use crate::buf::Pages;

/// What the operator is told.
pub(crate) const WARNING: &str = "without an IOMMU the device can overwrite any memory of this machine, and a fault of the \
    device or the driver may do so";

const HUGEPAGE_BYTES: usize = 2 * 1024 * 1024;
const PAGE_BYTES: usize = 4096;

/// PCI command register: memory access and bus mastering; no interrupts by wire.
const PCI_COMMAND: u64 = 4;
const PCI_MEMORY: u16 = 1 << 1;
const PCI_MASTER: u16 = 1 << 2;
const PCI_NO_INTERRUPT: u16 = 1 << 10;

/// /proc/self/pagemap: the page is in memory; its number.
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// A controller that no driver of the kernel has, uio_pci_generic aside.
#[derive(Debug)]
pub(super) struct SysfsBus {
    registers: Registers,
    configuration: File,
    device: Device,
    /// We switched the device on: it is switched off again.
    enabled: bool,
}

impl SysfsBus {
    /// Takes the device. May block.
    pub(super) fn open(device: &Device) -> Result<SysfsBus, String> {
        let address = device.address;
        match device.driver().as_deref() {
            None | Some("uio_pci_generic") => {}
            Some(driver) => {
                return Err(format!(
                    "{address} belongs to the driver {driver}: hand it over with `scripts/setup.sh bind {address}`"
                ));
            }
        }
        if device.iommu_group().is_some() && device.text("iommu_group/type").as_deref() != Some("identity") {
            return Err(format!(
                "{address} is behind an IOMMU: `scripts/setup.sh bind {address}` hands it to vfio-pci, and \
                 --unsafe-noiommu is not needed"
            ));
        }
        let said = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        let file = |name: &str| OpenOptions::new().read(true).write(true).open(device.directory().join(name));
        let enabled = device.text("enable").as_deref() == Some("0");
        if enabled {
            write(device, "enable", "1").map_err(|error| said("switching it on", error))?;
        }
        let resource = file("resource0").map_err(|error| said("its registers", error))?;
        let bytes = resource.metadata().map_err(|error| said("its registers", error))?.len();
        let bytes = usize::try_from(bytes).unwrap_or(0);
        if bytes < REGISTER_BYTES_MIN {
            return Err(format!("{address} has {bytes} bytes of registers: no NVMe controller"));
        }
        let registers =
            Registers::map(resource.as_fd(), 0, bytes).map_err(|error| said("its registers", error))?;
        let configuration = file("config").map_err(|error| said("its configuration space", error))?;
        let bus = SysfsBus { registers, configuration, device: device.clone(), enabled };
        bus.set_access(true).map_err(|error| format!("{address}: {error}"))?;
        Ok(bus)
    }

    /// The PCI command register.
    fn command_now(&self) -> io::Result<u16> {
        let mut command = [0; 2];
        self.configuration.read_exact_at(&mut command, PCI_COMMAND)?;
        Ok(u16::from_le_bytes(command))
    }

    /// Changes it.
    fn command(&self, change: impl Fn(u16) -> u16) -> io::Result<()> {
        let command = change(self.command_now()?);
        self.configuration.write_all_at(&command.to_le_bytes(), PCI_COMMAND)
    }
}

fn write(device: &Device, file: &str, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(device.directory().join(file))?.write_all(text.as_bytes())
}

/// Physical addresses of the hugepages of a range.
fn addresses(base: usize, bytes: usize) -> Result<Vec<u64>, String> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").map_err(|error| error.to_string())?;
    if !base.is_multiple_of(HUGEPAGE_BYTES)
        || !bytes.is_multiple_of(HUGEPAGE_BYTES)
        || !are_huge(&smaps, base, bytes)
    {
        return Err("without an IOMMU the device can use hugepages only: reserve some (`scripts/setup.sh hugepages N`, N of \
                    2 MiB each) and serve with --hugepages require"
            .to_owned());
    }
    // SAFETY: the range is a mapping of ours, as smaps has just said; its pages become resident, what is in them stays.
    unsafe { madvise(std::ptr::with_exposed_provenance_mut(base), bytes, Advice::LinuxPopulateWrite) }
        .map_err(|error| format!("hugepages cannot be made resident: {error}"))?;
    let map = OpenOptions::new().read(true).open("/proc/self/pagemap").map_err(|error| error.to_string())?;
    (base..base + bytes).step_by(HUGEPAGE_BYTES).map(|address| physical(&map, address)).collect()
}

fn physical(map: &File, address: usize) -> Result<u64, String> {
    let mut entry = [0; 8];
    map.read_exact_at(&mut entry, (address / PAGE_BYTES * 8) as u64).map_err(|error| error.to_string())?;
    let entry = u64::from_ne_bytes(entry);
    match (entry & PRESENT != 0, entry & FRAME) {
        (true, frame) if frame != 0 => Ok(frame * PAGE_BYTES as u64),
        (true, _) => {
            Err("the kernel hides physical addresses: CAP_SYS_ADMIN is needed (run as root)".to_owned())
        }
        (false, _) => Err("a hugepage is not in memory".to_owned()),
    }
}

/// Whether the range lies in mappings of hugepages, by the text of /proc/self/smaps.
fn are_huge(smaps: &str, base: usize, bytes: usize) -> bool {
    let mut huge_bytes = 0;
    let mut overlap_bytes = 0;
    for line in smaps.lines() {
        let hex = |text: &str| usize::from_str_radix(text, 16).ok();
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((first, end)) = range.and_then(|(first, end)| Some((hex(first)?, hex(end)?))) {
            overlap_bytes = end.min(base.saturating_add(bytes)).saturating_sub(first.max(base));
        } else if line.split_whitespace().eq(["KernelPageSize:", "2048", "kB"]) {
            huge_bytes += overlap_bytes;
        }
    }
    huge_bytes == bytes
}

impl Bus for SysfsBus {
    fn read32(&self, offset: usize) -> u32 {
        self.registers.read(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.registers.write(offset, value);
    }

    fn register_bytes(&self) -> usize {
        self.registers.bytes()
    }

    fn pages(&self) -> Pages {
        Pages::Huge
    }

    fn map(&self, base: usize, bytes: usize) -> Result<Mapping, String> {
        Ok(Mapping { base, bytes, device: DeviceAddresses::Hugepages(addresses(base, bytes)?.into()) })
    }

    fn unmap(&self, _mapping: &Mapping) {}

    fn is_fenced_by_unmap(&self) -> bool {
        false
    }

    fn set_access(&self, is_on: bool) -> Result<(), String> {
        let said = |error: io::Error| format!("its configuration space: {error}");
        if is_on {
            return self.command(|bits| bits | PCI_MEMORY | PCI_MASTER | PCI_NO_INTERRUPT).map_err(said);
        }
        self.command(|bits| bits & !PCI_MASTER).map_err(said)?;
        // PCIe Base §7.5.1.1.3: without bus mastering a function issues no memory requests. §2.4.1: the answer to this read does not
        // pass what it wrote before. All ones are no answer.
        match self.command_now().map_err(said)? {
            command if command & PCI_MASTER == 0 => Ok(()),
            _ => Err("its access to memory cannot be switched off".to_owned()),
        }
    }

    fn reset(&self) -> Result<(), String> {
        if !self.device.is_there() {
            return Ok(()); // it was pulled out
        }
        write(&self.device, "reset", "1").map_err(|error| format!("the device cannot be reset: {error}"))?;
        self.set_access(true)
            .map_err(|error| format!("the device does not come back from its reset: {error}"))
    }
}

impl Drop for SysfsBus {
    fn drop(&mut self) {
        // Where this fails, the device is gone.
        let _ = self.command(|bits| bits & !PCI_MASTER);
        if self.enabled {
            let _ = write(&self.device, "enable", "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::are_huge;

    const SMAPS: &str = "\
7f0000000000-7f0000400000 rw-p 00000000 00:0f 19 /anon_hugepage (deleted)
Size:               4096 kB
KernelPageSize:     2048 kB
MMUPageSize:        2048 kB
7f0000400000-7f0000600000 rw-p 00000000 00:0f 20 /anon_hugepage (deleted)
KernelPageSize:     2048 kB
7f0000600000-7f0000a00000 rw-p 00000000 00:00 0
KernelPageSize:        4 kB
";

    #[test]
    fn only_hugepages_count() {
        assert!(are_huge(SMAPS, 0x7f00_0000_0000, 0x40_0000));
        assert!(are_huge(SMAPS, 0x7f00_0020_0000, 0x40_0000), "over two mappings");
        assert!(!are_huge(SMAPS, 0x7f00_0040_0000, 0x40_0000), "half of it is ordinary");
        assert!(!are_huge(SMAPS, 0x7f00_0060_0000, 0x20_0000));
        assert!(!are_huge(SMAPS, 0x7e00_0000_0000, 0x20_0000), "nothing is there");
    }
}
