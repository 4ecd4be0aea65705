//! NVMe controllers on PCIe, as sysfs shows them, and who uses them. All of this may block.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::device::{Address, Device};
use crate::bdev::file::sysfs::mount_point;

/// PCI class: mass storage, NVM, any programming interface.
const CLASS: u32 = 0x0108;

/// A controller. What only the kernel's driver tells is missing where that does not have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) address: Address,
    /// PCI vendor and device.
    pub(crate) ids: (u32, u32),
    pub(crate) model: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) iommu_group: Option<u32>,
    /// The kernel's block devices of its namespaces: `nvme0n1`.
    pub(crate) disks: Vec<String>,
    /// What the kernel uses them for: it must not be taken while there is anything.
    pub(crate) uses: Vec<String>,
}

/// A device, for as long as it is there: what comes to its address later is another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) address: Address,
    /// The number of its directory in sysfs, which no other gets soon.
    node: u64,
}

#[cfg(test)]
impl Place {
    pub(crate) fn new(address: Address, node: u64) -> Place {
        Place { address, node }
    }
}

/// The device at this address; none where there is none.
pub(crate) fn place(address: Address) -> Option<Place> {
    place_in(Path::new("/sys"), address)
}

fn place_in(sys: &Path, address: Address) -> Option<Place> {
    let node = fs::metadata(Device::at(sys.to_owned(), address).directory()).ok()?.ino();
    Some(Place { address, node })
}

/// Controllers that the operator has handed over: to vfio-pci, and to uio_pci_generic where `unsafe_noiommu`. In order.
pub(crate) fn handed_over(unsafe_noiommu: bool) -> Vec<Place> {
    handed_over_in(Path::new("/sys"), unsafe_noiommu)
}

fn handed_over_in(sys: &Path, unsafe_noiommu: bool) -> Vec<Place> {
    let drivers = if unsafe_noiommu { &["vfio-pci", "uio_pci_generic"][..] } else { &["vfio-pci"] };
    let bound = drivers.iter().flat_map(|driver| names(&sys.join("bus/pci/drivers").join(driver)));
    let is_controller = |address: &Address| {
        let class = Device::at(sys.to_owned(), *address).hex("class");
        class.is_some_and(|class| class >> 8 == CLASS)
    };
    let controllers = bound.filter_map(|name| Address::parse(&name)).filter(is_controller);
    let mut places: Vec<Place> = controllers.filter_map(|address| place_in(sys, address)).collect();
    places.sort();
    places
}

/// All controllers, in order of their addresses.
pub(crate) fn controllers() -> Vec<Listed> {
    controllers_in(Path::new("/sys"))
}

fn controllers_in(sys: &Path) -> Vec<Listed> {
    let found = names(&sys.join("bus/pci/devices"));
    let mut listed: Vec<Listed> = found
        .iter()
        .filter_map(|name| Address::parse(name))
        .map(|address| Device::at(sys.to_owned(), address))
        .filter(|device| device.hex("class").is_some_and(|class| class >> 8 == CLASS))
        .map(|device| describe(sys, &device))
        .collect();
    listed.sort_by_key(|listed| listed.address);
    listed
}

fn describe(sys: &Path, device: &Device) -> Listed {
    let controller = names(&device.directory().join("nvme")).into_iter().next();
    let of_kernel = |file: &str| device.text(&format!("nvme/{}/{file}", controller.as_ref()?));
    let disks = match &controller {
        Some(controller) => disks(&device.directory().join("nvme").join(controller)),
        None => Vec::new(),
    };
    let uses = disks.iter().flat_map(|disk| uses(sys, disk)).collect();
    Listed {
        address: device.address,
        ids: (device.hex("vendor").unwrap_or(0), device.hex("device").unwrap_or(0)),
        model: of_kernel("model"),
        serial: of_kernel("serial"),
        driver: device.driver(),
        iommu_group: device.iommu_group(),
        disks,
        uses,
    }
}

/// Block devices of a controller of the kernel's. A path of one that has several (`nvme0c1n1`) stands for it (`nvme0n1`).
fn disks(controller: &Path) -> Vec<String> {
    names(controller).iter().filter_map(|name| disk(name)).collect()
}

fn disk(name: &str) -> Option<String> {
    let (number, rest) = name.strip_prefix("nvme")?.split_once(|letter: char| !letter.is_ascii_digit())?;
    let path = &name["nvme".len() + number.len()..];
    let namespace = match path.strip_prefix('c') {
        Some(path) => path.split_once('n')?.1,
        None => rest,
    };
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_disk = path.starts_with(['n', 'c']) && are_digits(number) && are_digits(namespace);
    is_disk.then(|| format!("nvme{number}n{namespace}"))
}

/// What a disk and its partitions are used for.
fn uses(sys: &Path, disk: &str) -> Vec<String> {
    let directory = sys.join("block").join(disk);
    let mut uses = Vec::new();
    if let Some(point) = device_number(&directory).and_then(mount_point) {
        uses.push(format!("{disk} is mounted at {point}"));
    }
    let mut parts = vec![(disk.to_owned(), directory.clone())];
    parts.extend(
        names(&directory)
            .into_iter()
            .filter(|name| name.starts_with(disk))
            .map(|name| (name.clone(), directory.join(name))),
    );
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    for (part, directory) in parts {
        uses.extend(names(&directory.join("holders")).iter().map(|holder| {
            let name = fs::read_to_string(sys.join("block").join(holder).join("dm/name")).unwrap_or_default();
            let name = if name.is_empty() { holder } else { name.trim() };
            format!("{part} is part of {name}")
        }));
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{part}"))) {
            uses.push(format!("{part} is swap"));
        }
    }
    if uses.is_empty() && is_claimed(disk) {
        uses.push(format!("{disk} is in use"));
    }
    uses
}

/// Whether the kernel lets nobody else have the disk: ZFS and others leave no other trace.
fn is_claimed(disk: &str) -> bool {
    let mut options = fs::OpenOptions::new();
    let opened = options.read(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(format!("/dev/{disk}"));
    opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}

fn device_number(directory: &Path) -> Option<rustix::fs::Dev> {
    let text = fs::read_to_string(directory.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// What is in a directory, in order; nothing where there is none.
fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(PathBuf::from(directory)) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs of one's own, gone when dropped.
    struct Sys(PathBuf);

    impl Sys {
        fn new(name: &str) -> Sys {
            let path = std::env::temp_dir().join(format!("lunette-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Sys(path)
        }

        fn file(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn link(&self, path: &str, target: &str) {
            symlink(target, self.0.join(path)).unwrap();
        }
    }

    impl Drop for Sys {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn controllers_are_found_by_their_class() {
        let sys = Sys::new("nvme-list");
        let devices = "bus/pci/devices";
        sys.file(&format!("{devices}/0000:03:00.0/class"), "0x010802\n");
        sys.file(&format!("{devices}/0000:03:00.0/vendor"), "0x1b36\n");
        sys.file(&format!("{devices}/0000:03:00.0/device"), "0x0010\n");
        sys.link(&format!("{devices}/0000:03:00.0/driver"), "../../../bus/pci/drivers/vfio-pci");
        sys.link(&format!("{devices}/0000:03:00.0/iommu_group"), "../../../kernel/iommu_groups/17");
        sys.file(&format!("{devices}/0000:01:00.0/class"), "0x010802\n");
        sys.file(&format!("{devices}/0000:01:00.0/nvme/nvme4/model"), "QEMU NVMe Ctrl   \n");
        sys.file(&format!("{devices}/0000:01:00.0/nvme/nvme4/serial"), "LAB0\n");
        sys.file(&format!("{devices}/0000:01:00.0/nvme/nvme4/nvme4n2/size"), "8\n");
        sys.file(&format!("{devices}/0000:01:00.0/nvme/nvme4/nvme4c4n3/size"), "8\n");
        sys.file("block/nvme4n2/nvme4n2p1/holders/dm-0/x", "");
        sys.file("block/dm-0/dm/name", "vg-root\n");
        sys.file(&format!("{devices}/0000:02:00.0/class"), "0x020000\n");
        let listed = controllers_in(&sys.0);
        let ours = Address::parse("03:00.0").unwrap();
        assert_eq!(
            listed.iter().map(|one| one.address.to_string()).collect::<Vec<_>>(),
            ["0000:01:00.0", "0000:03:00.0"]
        );
        assert_eq!(
            (listed[0].model.as_deref(), listed[0].serial.as_deref()),
            (Some("QEMU NVMe Ctrl"), Some("LAB0"))
        );
        assert_eq!(listed[0].disks, ["nvme4n3", "nvme4n2"]);
        assert_eq!(listed[0].uses, ["nvme4n2p1 is part of vg-root"]);
        assert_eq!(
            listed[1],
            Listed {
                address: ours,
                ids: (0x1B36, 0x0010),
                model: None,
                serial: None,
                driver: Some("vfio-pci".to_owned()),
                iommu_group: Some(17),
                disks: vec![],
                uses: vec![],
            }
        );
    }

    #[test]
    fn a_groups_other_devices_are_told() {
        let sys = Sys::new("nvme-group");
        for (address, driver) in
            [("0000:03:00.0", "vfio-pci"), ("0000:03:00.1", "ahci"), ("0000:00:1c.0", "pcieport")]
        {
            let device = format!("bus/pci/devices/{address}");
            sys.file(&format!("{device}/class"), "0x010802\n");
            sys.link(&format!("{device}/iommu_group"), "../../../../kernel/iommu_groups/5");
            sys.link(&format!("{device}/driver"), &format!("../drivers/{driver}"));
            sys.file(&format!("kernel/iommu_groups/5/devices/{address}"), "");
        }
        let device = Device::at(sys.0.clone(), Address::parse("03:00.0").unwrap());
        assert_eq!(device.group_obstacles(), ["0000:03:00.1 (ahci)"]);
    }

    #[test]
    fn block_devices_are_told_from_everything_else() {
        assert_eq!(disk("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(disk("nvme12c3n45").as_deref(), Some("nvme12n45"));
        for other in ["nvme0", "nvme0n", "nvmen1", "ng0n1", "nvme0n1p1", "nvme0x1", "hwmon1", "nvme0cn1x"] {
            assert_eq!(disk(other), None, "{other}");
        }
    }
}
