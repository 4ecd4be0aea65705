//! A PCI device as sysfs shows it. All of this may block.

use std::fmt;
use std::fs;
use std::path::PathBuf;

/// Where a device is: domain, bus, slot, function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Address {
    domain: u32,
    bus: u8,
    slot: u8,
    function: u8,
}

impl Address {
    /// Of `0000:01:00.0`, or `01:00.0` in domain 0.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        let hex = |part: &str, digits_max: usize| {
            let is_hex =
                !part.is_empty() && part.len() <= digits_max && part.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then(|| u32::from_str_radix(part, 16).ok()).flatten()
        };
        let (before, function) = text.split_once('.')?;
        let parts: Vec<&str> = before.split(':').collect();
        let (domain, bus, slot) = match parts[..] {
            [domain, bus, slot] => (hex(domain, 8)?, bus, slot),
            [bus, slot] => (0, bus, slot),
            _ => return None,
        };
        let byte = |part, max| u8::try_from(hex(part, 2)?).ok().filter(|value| *value <= max);
        Some(Address { domain, bus: byte(bus, 0xFF)?, slot: byte(slot, 0x1F)?, function: byte(function, 7)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

/// A device, as the sysfs at `sys` shows it.
#[derive(Clone, Debug)]
pub(super) struct Device {
    sys: PathBuf,
    pub(super) address: Address,
}

impl Device {
    /// Fails where the system has no such device.
    pub(super) fn find(address: Address) -> Result<Device, String> {
        let device = Device::at("/sys".into(), address);
        if !device.is_there() {
            return Err(format!("there is no PCI device {address}; see `lunette nvme list`"));
        }
        Ok(device)
    }

    pub(super) fn at(sys: PathBuf, address: Address) -> Device {
        Device { sys, address }
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> PathBuf {
        self.sys.join("bus/pci/devices").join(self.address.to_string())
    }

    pub(super) fn is_there(&self) -> bool {
        self.directory().exists()
    }

    /// One of its files, without white space around.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        Some(fs::read_to_string(self.directory().join(file)).ok()?.trim().to_owned())
    }

    /// A file that holds a number such as `0x8086`.
    pub(super) fn hex(&self, file: &str) -> Option<u32> {
        u32::from_str_radix(self.text(file)?.strip_prefix("0x")?, 16).ok()
    }

    /// The driver that has it.
    pub(super) fn driver(&self) -> Option<String> {
        self.link("driver")
    }

    /// Its IOMMU group's number, where there is an IOMMU.
    pub(super) fn iommu_group(&self) -> Option<u32> {
        self.link("iommu_group")?.parse().ok()
    }

    /// Other devices of the group whose drivers keep VFIO from taking it, with these drivers.
    pub(super) fn group_obstacles(&self) -> Vec<String> {
        let Some(group) = self.iommu_group() else { return Vec::new() };
        let Ok(entries) = fs::read_dir(self.sys.join(format!("kernel/iommu_groups/{group}/devices"))) else {
            return Vec::new();
        };
        let addresses =
            entries.filter_map(|entry| Address::parse(&entry.ok()?.file_name().to_string_lossy()));
        let others = addresses.filter(|address| *address != self.address);
        let mut obstacles: Vec<String> = others
            .filter_map(|address| {
                let driver = Device::at(self.sys.clone(), address).driver()?;
                let is_harmless = matches!(driver.as_str(), "vfio-pci" | "pci-stub" | "pcieport");
                (!is_harmless).then(|| format!("{address} ({driver})"))
            })
            .collect();
        obstacles.sort();
        obstacles
    }

    /// The last part of what a link leads to.
    fn link(&self, name: &str) -> Option<String> {
        let target = fs::read_link(self.directory().join(name)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn addresses_are_read_and_written() {
        let of = |text| Address::parse(text).map(|address| address.to_string());
        assert_eq!(of("0000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(of("10000:E1:1f.7").as_deref(), Some("10000:e1:1f.7"));
        assert_eq!(of("3b:00.0").as_deref(), Some("0000:3b:00.0"));
        for wrong in
            ["", "01:00", "../../x", "0000:01:20.0", "0000:01:00.8", "0:0:0:0.0", "+1:00.0", "123:00.0"]
        {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
