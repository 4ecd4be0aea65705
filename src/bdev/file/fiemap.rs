//! What a file system says of a file that no safe wrapper asks: which extents it has (FIEMAP, `Documentation/filesystems/fiemap.rst`), and
//! what kind of file it is (`FS_IOC_FSGETXATTR`).
//!
//! An island of `unsafe`, for two `ioctl`s of fixed layout. They may block: for helper threads.
#![expect(unsafe_code, reason = "ioctls that no safe wrapper has")]

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Updater, ioctl, opcode};

/// Extents that are asked for at a time.
const EXTENTS: usize = 64;

/// `FIEMAP_EXTENT_LAST`: there is none behind it.
const LAST: u32 = 0x0001;
/// `FIEMAP_EXTENT_UNWRITTEN`: reserved, and nothing was written to it; what is in the page cache does not count.
const UNWRITTEN: u32 = 0x0800;
/// `FIEMAP_EXTENT_UNKNOWN` and `FIEMAP_EXTENT_DELALLOC`: written, and to be given its space when the page cache is written back.
const ON_ITS_WAY: u32 = 0x0002 | 0x0004;

/// `FS_XFLAG_REALTIME`: on the realtime device of XFS.
const REALTIME: u32 = 0x0001;

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct RawExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved_64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap`, without the extents that are behind it: the number of the `ioctl` is made of its size.
#[repr(C)]
#[derive(Debug)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// The whole of it.
#[repr(C)]
#[derive(Debug)]
struct Request {
    header: Header,
    extents: [RawExtent; EXTENTS],
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug)]
struct Attributes {
    xflags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    cow_extent_bytes: u32,
    pad: [u8; 8],
}

const FIEMAP: rustix::ioctl::Opcode = opcode::read_write::<Header>(b'f', 11);
const FSGETXATTR: rustix::ioctl::Opcode = opcode::read::<Attributes>(b'X', 31);

const _: () = assert!(size_of::<Header>() == 32 && size_of::<RawExtent>() == 56);
const _: () = assert!(size_of::<Attributes>() == 28);

/// An extent of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) bytes: Range<u64>,
    /// It has its space and nothing was written to it, but perhaps in the page cache.
    pub(super) is_unwritten: bool,
}

/// Tells the extents that have any of these bytes, in order; what is in none of them is a hole. Whether all were told: else there may be more
/// behind the last, of which there is at least one. Nothing is written back for it (no `FIEMAP_FLAG_SYNC`).
pub(super) fn extents(
    file: impl AsFd,
    bytes: Range<u64>,
    told: &mut dyn FnMut(Extent),
) -> Result<bool, Errno> {
    let length = bytes.end.saturating_sub(bytes.start);
    if length == 0 {
        return Ok(true);
    }
    let mut request = Request {
        header: Header {
            start: bytes.start,
            length,
            flags: 0,
            mapped_extents: 0,
            extent_count: u32::try_from(EXTENTS).unwrap_or(0),
            reserved: 0,
        },
        extents: [RawExtent::default(); EXTENTS],
    };
    // SAFETY: `Request` begins with what the kernel's argument of this number is, and has behind it, as that wants, room for as many
    // extents as it says.
    let call = unsafe { Updater::<FIEMAP, Request>::new(&mut request) };
    // SAFETY: the kernel writes into the header and into at most `extent_count` extents, all of which are in `request` and ours alone.
    unsafe { ioctl(file.as_fd(), call) }?;
    let count = usize::try_from(request.header.mapped_extents).unwrap_or(EXTENTS).min(EXTENTS);
    let mut is_last = count < EXTENTS;
    for raw in &request.extents[..count] {
        is_last |= raw.flags & LAST != 0;
        let is_unwritten = raw.flags & UNWRITTEN != 0 && raw.flags & ON_ITS_WAY == 0;
        told(Extent { bytes: raw.logical..raw.logical.saturating_add(raw.length), is_unwritten });
    }
    Ok(is_last)
}

/// Whether it is on the realtime device of XFS.
pub(super) fn is_realtime(file: impl AsFd) -> Result<bool, Errno> {
    // SAFETY: `Attributes` is what the kernel's argument of this number is: plain numbers, which it fills in.
    let call = unsafe { Getter::<FSGETXATTR, Attributes>::new() };
    // SAFETY: the kernel writes as many bytes as the number says, into memory of that size.
    let attributes = unsafe { ioctl(file.as_fd(), call) }?;
    Ok(attributes.xflags & REALTIME != 0)
}
