//! An IOMMU group with its container: devices that the IOMMU does not keep apart, and the addresses they have in common.
//!
//! The kernel gives a group to one descriptor only, so controllers of one group share it; the last that lets go closes it.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::iova::{self, Space};
use super::sys;
use crate::bdev::nvme::pci::device::{Address, Device};

/// A group that somebody has is tried again for five seconds: a daemon that is restarted meets its predecessor.
const OPEN_TRIES: u32 = 51;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

#[expect(clippy::disallowed_types, reason = "of threads that may wait; a reactor only writes doorbells")]
type Guarded<T> = std::sync::Mutex<T>;

/// The groups that this process has. Clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(Arc<Guarded<Vec<Numbered>>>);

/// A group and the number that the kernel has for it.
type Numbered = (u32, Weak<Group>);

/// A group.
#[derive(Debug)]
struct Group {
    // In this order they must be closed.
    group: File,
    container: File,
    space: Guarded<Space>,
    /// Devices that are driven.
    taken: Guarded<Vec<Address>>,
}

/// A device's place in its group. To be dropped when the device is closed.
#[derive(Debug)]
pub(super) struct Member {
    group: Arc<Group>,
    address: Address,
}

impl Groups {
    /// Takes a place in the device's group. May block.
    pub(super) fn join(&self, device: &Device) -> Result<Member, String> {
        let address = device.address;
        let Some(number) = device.iommu_group() else {
            return Err(format!(
                "{address} has no IOMMU: switch it on (VT-d or AMD-Vi in the firmware, and intel_iommu=on on the kernel's \
                 command line), or serve with --unsafe-noiommu and a driver other than vfio-pci"
            ));
        };
        let mut groups = lock(&self.0);
        groups.retain(|(_, group)| group.strong_count() > 0);
        let known = groups.iter().find(|(known, _)| *known == number);
        let group = match known.and_then(|(_, group)| group.upgrade()) {
            Some(group) => group,
            None => {
                let group = Arc::new(Group::open(number, device)?);
                groups.push((number, Arc::downgrade(&group)));
                group
            }
        };
        drop(groups);
        group.enter(address)?;
        Ok(Member { group, address })
    }
}

impl Group {
    fn open(number: u32, device: &Device) -> Result<Group, String> {
        let address = device.address;
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
        let space = Guarded::new(Space::new(&iova::usable(&info)));
        Ok(Group { group, container, space, taken: Guarded::default() })
    }

    /// The kernel would open a device twice, and it would be driven twice.
    fn enter(&self, address: Address) -> Result<(), String> {
        let mut taken = lock(&self.taken);
        if taken.contains(&address) {
            return Err(format!("{address} is in use: this process has it already"));
        }
        taken.push(address);
        Ok(())
    }
}

impl Member {
    /// Opens the device.
    pub(super) fn open_device(&self) -> Result<File, String> {
        let address = self.address;
        let name = CString::new(address.to_string()).map_err(|_| "an address without NUL".to_owned())?;
        sys::device(self.group.group.as_fd(), &name)
            .map_err(|error| format!("{address}: opening it: {error}"))
    }

    pub(super) fn container(&self) -> BorrowedFd<'_> {
        self.group.container.as_fd()
    }

    pub(super) fn space(&self) -> MutexGuard<'_, Space> {
        lock(&self.group.space)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        lock(&self.group.taken).retain(|address| *address != self.address);
    }
}

fn lock<T>(guarded: &Guarded<T>) -> MutexGuard<'_, T> {
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path)
}

#[expect(clippy::disallowed_methods, reason = "of a thread that may wait")]
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
