//! A bdev of SPDK's: what it is, its descriptor, and what happens to it.
//!
//! An island of `unsafe`: descriptors, and the callbacks that tell of bdevs and their fate.
#![expect(unsafe_code, reason = "SPDK's descriptors are C's")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use rustix::io::Errno;
use spdk_sys as spdk;
use spdk_sys::spdk_bdev_event_type as event;
use spdk_sys::spdk_bdev_io_type as io_type;

use super::status;
use crate::bdev::{Info, Offloads, Unmap};

/// What happened to a bdev. Whoever serves it is to be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// It has another size.
    Resized {
        /// Its name.
        name: String,
    },
    /// It goes, or is gone: it is to be let go of.
    Removed {
        /// Its name.
        name: String,
    },
}

/// A bdev that is served, from when its descriptor is opened until it is closed.
#[derive(Debug)]
pub(super) struct Disk {
    info: Info,
    pub(super) product: String,
    pub(super) can_flush: bool,
    pub(super) can_abort: bool,
    pub(super) can_reset: bool,
    blocks: AtomicU64,
    is_removed: AtomicBool,
    is_resetting: AtomicBool,
    descriptor: AtomicPtr<spdk::spdk_bdev_desc>,
    notices: Sender<Notice>,
}

impl Disk {
    /// Opens a bdev, on SPDK's first thread.
    pub(super) fn open(facts: Facts, notices: Sender<Notice>) -> Result<Arc<Disk>, Errno> {
        let name = CString::new(facts.info.name.as_str()).map_err(|_| Errno::INVAL)?;
        let can_write = !facts.info.read_only;
        let disk = Arc::new(Disk {
            blocks: AtomicU64::new(facts.info.blocks),
            info: facts.info,
            product: facts.product,
            can_flush: facts.can_flush,
            can_abort: facts.can_abort,
            can_reset: facts.can_reset,
            is_removed: AtomicBool::new(false),
            is_resetting: AtomicBool::new(false),
            descriptor: AtomicPtr::new(ptr::null_mut()),
            notices,
        });
        let mut descriptor = ptr::null_mut();
        let context = Arc::as_ptr(&disk).cast_mut().cast();
        // SAFETY: this is SPDK's first thread; `happened` takes exactly this, and the caretaker keeps the disk until it has
        // closed the descriptor on this thread.
        let result = unsafe {
            spdk::spdk_bdev_open_ext(name.as_ptr(), can_write, Some(happened), context, &raw mut descriptor)
        };
        if result != 0 {
            return Err(status::errno(result));
        }
        disk.descriptor.store(descriptor, Ordering::Release);
        Ok(disk)
    }

    /// Closes it, on SPDK's first thread, when there are no lines to it.
    pub(super) fn close(&self) {
        let descriptor = self.descriptor.swap(ptr::null_mut(), Ordering::AcqRel);
        if !descriptor.is_null() {
            // SAFETY: it was opened on this thread; no channel is left.
            unsafe { spdk::spdk_bdev_close(descriptor) };
        }
    }

    /// Open as long as there are lines.
    pub(super) fn descriptor(&self) -> *mut spdk::spdk_bdev_desc {
        self.descriptor.load(Ordering::Acquire)
    }

    pub(super) fn info(&self) -> Info {
        Info { blocks: self.blocks(), ..self.info.clone() }
    }

    pub(super) fn block_bytes(&self) -> u32 {
        self.info.block_bytes
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.info.read_only
    }

    pub(super) fn has_write_cache(&self) -> bool {
        self.info.write_cache
    }

    pub(super) fn can_unmap(&self) -> bool {
        self.info.unmap.is_some()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    /// A reset is under way: what SPDK is given now it would give up.
    pub(super) fn is_resetting(&self) -> bool {
        self.is_resetting.load(Ordering::Acquire)
    }

    /// Whether none was under way.
    pub(super) fn begin_reset(&self) -> bool {
        !self.is_resetting.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_reset(&self) {
        self.is_resetting.store(false, Ordering::Release);
    }
}

unsafe extern "C" fn happened(what: event::Type, bdev: *mut spdk::spdk_bdev, context: *mut c_void) {
    // SAFETY: `Disk::open` gave it, and the disk lives until its descriptor is closed, on this thread.
    let disk = unsafe { &*context.cast::<Disk>() };
    let name = disk.info.name.clone();
    let notice = match what {
        event::SPDK_BDEV_EVENT_RESIZE => {
            // SAFETY: SPDK hands over the bdev that it is about.
            disk.blocks.store(unsafe { spdk::spdk_bdev_get_num_blocks(bdev) }, Ordering::Relaxed);
            Notice::Resized { name }
        }
        event::SPDK_BDEV_EVENT_REMOVE => {
            disk.is_removed.store(true, Ordering::Release);
            Notice::Removed { name }
        }
        _ => return,
    };
    // Who listened may have gone.
    let _ = disk.notices.send(notice);
}

/// What a bdev is, before it is opened.
#[derive(Debug)]
pub(super) struct Facts {
    info: Info,
    product: String,
    can_flush: bool,
    can_abort: bool,
    can_reset: bool,
    /// Why it cannot be served.
    pub(super) obstacle: Option<&'static str>,
}

impl Facts {
    pub(super) fn name(&self) -> &str {
        &self.info.name
    }
}

/// All bdevs that no other bdev is made of; on SPDK's first thread.
pub(super) fn all() -> Vec<Facts> {
    let mut all: Vec<Facts> = Vec::new();
    // SAFETY: `found` takes exactly this, and is called during this call only.
    unsafe { spdk::spdk_for_each_bdev_leaf((&raw mut all).cast(), Some(found)) };
    all
}

unsafe extern "C" fn found(context: *mut c_void, bdev: *mut spdk::spdk_bdev) -> c_int {
    // SAFETY: `all` gave it and waits.
    let all = unsafe { &mut *context.cast::<Vec<Facts>>() };
    // SAFETY: SPDK keeps the bdev during this call.
    all.push(unsafe { facts(bdev) });
    0
}

/// # Safety
/// The bdev stays during the call.
unsafe fn facts(bdev: *mut spdk::spdk_bdev) -> Facts {
    // SAFETY: each of these reads one property of a bdev that stays, which the caller promises.
    let can = |kind| unsafe { spdk::spdk_bdev_io_type_supported(bdev, kind) };
    // SAFETY: as above.
    let block_bytes = unsafe { spdk::spdk_bdev_get_block_size(bdev) };
    // SAFETY: as above.
    let physical_block_bytes = unsafe { spdk::spdk_bdev_get_physical_block_size(bdev) };
    // SAFETY: as above.
    let granularity_blocks = unsafe { spdk::spdk_bdev_get_preferred_unmap_granularity(bdev) };
    // SAFETY: as above; a UUID is 16 bytes.
    let uuid = unsafe { spdk::spdk_bdev_get_uuid(bdev).cast::<[u8; 16]>().read_unaligned() };
    // SAFETY: as above; the name lives with the bdev.
    let name = unsafe { text(spdk::spdk_bdev_get_name(bdev)) };
    // SAFETY: as above; the product's name lives with the bdev.
    let product = unsafe { text(spdk::spdk_bdev_get_product_name(bdev)) };
    // SAFETY: as above.
    let metadata_bytes = unsafe { spdk::spdk_bdev_get_md_size(bdev) };
    // SAFETY: as above.
    let is_zoned = unsafe { spdk::spdk_bdev_is_zoned(bdev) };
    // SAFETY: as above.
    let write_unit_blocks = unsafe { spdk::spdk_bdev_get_write_unit_size(bdev) };
    let info = Info {
        name,
        // SAFETY: as above.
        blocks: unsafe { spdk::spdk_bdev_get_num_blocks(bdev) },
        block_bytes,
        physical_block_bytes: if physical_block_bytes.is_power_of_two() {
            physical_block_bytes.max(block_bytes)
        } else {
            block_bytes
        },
        read_only: !can(io_type::SPDK_BDEV_IO_TYPE_WRITE),
        // SAFETY: as above.
        write_cache: unsafe { spdk::spdk_bdev_has_write_cache(bdev) },
        rotational: false,
        uuid,
        // SPDK does not say what unmapped blocks read as.
        unmap: can(io_type::SPDK_BDEV_IO_TYPE_UNMAP).then(|| Unmap {
            granularity_blocks: granularity_blocks.max(1),
            reads_zeroes: false,
            anchors: false,
        }),
        offloads: Offloads::default(),
        protection: None,
        passes: None,
    };
    let obstacle = if !matches!(block_bytes, 512 | 1024 | 2048 | 4096) {
        Some("its blocks do not have 512, 1024, 2048 or 4096 bytes")
    } else if metadata_bytes > 0 {
        Some("its blocks have metadata")
    } else if is_zoned {
        Some("it is zoned")
    } else if write_unit_blocks > 1 {
        Some("it takes whole stripes only")
    } else {
        None
    };
    Facts {
        info,
        product,
        can_flush: can(io_type::SPDK_BDEV_IO_TYPE_FLUSH),
        can_abort: can(io_type::SPDK_BDEV_IO_TYPE_ABORT),
        can_reset: can(io_type::SPDK_BDEV_IO_TYPE_RESET),
        obstacle,
    }
}

/// # Safety
/// A C string that stays during the call, or null.
unsafe fn text(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}
