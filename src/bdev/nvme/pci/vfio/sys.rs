//! VFIO's system calls (linux/vfio.h).
//!
//! An island of `unsafe`: each function hands the kernel one structure of the size that the call has.
#![expect(unsafe_code, reason = "ioctls that no safe wrapper has")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};

use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_GROUP_FLAGS_VIABLE,
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_BAR0_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_FLAG_MMAP, VFIO_TYPE,
    VFIO_TYPE1v2_IOMMU, vfio_group_status, vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info, vfio_region_info,
};

/// The region of the controller's registers, and that of configuration space.
pub(super) const BAR0: u32 = VFIO_PCI_BAR0_REGION_INDEX;
pub(super) const CONFIGURATION: u32 = VFIO_PCI_CONFIG_REGION_INDEX;

/// What the kernel tells of an IOMMU may be so long: a header and some dozens of ranges.
const INFO_BYTES_MAX: usize = 64 * 1024;

/// Calls, counted from VFIO_BASE.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Call {
    ApiVersion = 0,
    CheckExtension = 1,
    SetIommu = 2,
    GroupStatus = 3,
    GroupSetContainer = 4,
    GroupDevice = 6,
    RegionInfo = 8,
    SetIrqs = 10,
    Reset = 11,
    IommuInfo = 12,
    MapDma = 13,
    UnmapDma = 14,
}

/// A region of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    /// Where it is in the device's descriptor.
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) can_be_mapped: bool,
}

/// Whether the kernel's VFIO is the one that this is written for.
pub(super) fn is_version_known(container: BorrowedFd<'_>) -> io::Result<bool> {
    let version = plain(container, Call::ApiVersion, 0)?;
    let has_type1 = plain(container, Call::CheckExtension, VFIO_TYPE1v2_IOMMU as usize)?;
    Ok(u32::try_from(version) == Ok(VFIO_API_VERSION) && has_type1 == 1)
}

/// Whether nobody else has devices of the group.
pub(super) fn is_viable(group: BorrowedFd<'_>) -> io::Result<bool> {
    let mut status = vfio_group_status { argsz: length::<vfio_group_status>(), flags: 0 };
    with(group, Call::GroupStatus, &mut status)?;
    Ok(status.flags & VFIO_GROUP_FLAGS_VIABLE != 0)
}

/// Puts the group into the container.
pub(super) fn join(group: BorrowedFd<'_>, container: BorrowedFd<'_>) -> io::Result<()> {
    with(group, Call::GroupSetContainer, &mut container.as_raw_fd()).map(drop)
}

/// The container is of type 1, version 2.
pub(super) fn use_type1(container: BorrowedFd<'_>) -> io::Result<()> {
    plain(container, Call::SetIommu, VFIO_TYPE1v2_IOMMU as usize).map(drop)
}

/// What the kernel tells of the IOMMU: a `vfio_iommu_type1_info` and its capabilities.
pub(super) fn iommu_info(container: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut info = vfio_iommu_type1_info { argsz: length::<vfio_iommu_type1_info>(), ..Default::default() };
    with(container, Call::IommuInfo, &mut info)?;
    // It says in argsz how much room it wants.
    let bytes = usize::try_from(info.argsz).unwrap_or(INFO_BYTES_MAX).min(INFO_BYTES_MAX);
    let mut words = vec![0_u64; bytes.div_ceil(8).max(size_of::<vfio_iommu_type1_info>().div_ceil(8))];
    words[0] = u64::from(u32::try_from(8 * words.len()).unwrap_or(0)).to_le();
    call(container, Call::IommuInfo, words.as_mut_ptr().expose_provenance())?;
    Ok(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

/// The descriptor of the group's device.
pub(super) fn device(group: BorrowedFd<'_>, name: &CStr) -> io::Result<File> {
    let descriptor = call(group, Call::GroupDevice, name.as_ptr().expose_provenance())?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// Where a region is.
pub(super) fn region(device: BorrowedFd<'_>, index: u32) -> io::Result<Region> {
    let mut info = vfio_region_info { argsz: length::<vfio_region_info>(), index, ..Default::default() };
    with(device, Call::RegionInfo, &mut info)?;
    let can_be_mapped = info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
    Ok(Region { offset: info.offset, bytes: info.size, can_be_mapped })
}

/// From now on the eventfd tells when the kernel wants the device back.
pub(super) fn notify_request(device: BorrowedFd<'_>, eventfd: BorrowedFd<'_>) -> io::Result<()> {
    /// A `vfio_irq_set` with one descriptor.
    #[repr(C)]
    struct OneDescriptor {
        head: [u32; 5],
        descriptor: RawFd,
    }
    let mut set = OneDescriptor {
        // argsz, flags, index, start, count.
        head: [
            length::<OneDescriptor>(),
            VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            VFIO_PCI_REQ_IRQ_INDEX,
            0,
            1,
        ],
        descriptor: eventfd.as_raw_fd(),
    };
    with(device, Call::SetIrqs, &mut set).map(drop)
}

/// Resets the device.
pub(super) fn reset(device: BorrowedFd<'_>) -> io::Result<()> {
    plain(device, Call::Reset, 0).map(drop)
}

/// Lets the container's devices reach a range of this process, at `iova`. The kernel keeps its pages until `unmap`.
pub(super) fn map(container: BorrowedFd<'_>, iova: u64, base: usize, bytes: usize) -> io::Result<()> {
    let mut map = vfio_iommu_type1_dma_map {
        argsz: length::<vfio_iommu_type1_dma_map>(),
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: base as u64,
        iova,
        size: bytes as u64,
    };
    with(container, Call::MapDma, &mut map).map(drop)
}

/// Takes back exactly what `map` gave.
pub(super) fn unmap(container: BorrowedFd<'_>, iova: u64, bytes: usize) -> io::Result<()> {
    let mut unmap = vfio_iommu_type1_dma_unmap {
        argsz: length::<vfio_iommu_type1_dma_unmap>(),
        iova,
        size: bytes as u64,
        ..Default::default()
    };
    with(container, Call::UnmapDma, &mut unmap)?;
    if unmap.size == bytes as u64 { Ok(()) } else { Err(io::Error::other("another range was unmapped")) }
}

/// `argsz` of a structure.
fn length<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(0)
}

/// A call whose argument is a number.
fn plain(fd: BorrowedFd<'_>, which: Call, argument: usize) -> io::Result<i32> {
    call(fd, which, argument)
}

/// A call whose argument is a structure that starts with its own length, or is a descriptor.
fn with<T>(fd: BorrowedFd<'_>, which: Call, argument: &mut T) -> io::Result<i32> {
    call(fd, which, std::ptr::from_mut(argument).expose_provenance())
}

fn call(fd: BorrowedFd<'_>, which: Call, argument: usize) -> io::Result<i32> {
    // _IO(VFIO_TYPE, VFIO_BASE + n): no direction and no size in the number.
    let number = u16::from(VFIO_TYPE) << 8 | (u16::try_from(VFIO_BASE).unwrap_or(0) + which as u16);
    // SAFETY: the descriptor is open while it is borrowed; the callers above pass, for each call, a number where it takes one, else
    // the address of a live structure that is as long as the call or its `argsz` says.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(number), argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
