//! IOs on their way through SPDK: what C gets a pointer to, and the callback that ends each.
//!
//! An island of `unsafe`. A slot stays where it is until its IO has ended, and everything that the callback changes is in
//! cells: it runs inside a poll, of this channel or of another one on the same thread.
#![expect(unsafe_code, reason = "SPDK reads and writes the memory of IOs, and calls back with a pointer")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::rc::Rc;

use spdk_sys as spdk;

use super::line::Line;
use super::status;
use crate::bdev::IoError;
use crate::bdev::queue::IN_FLIGHT_MAX;

/// One call to SPDK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Read { lba: u64, blocks: u32 },
    Write { lba: u64, blocks: u32 },
    Unmap { lba: u64, blocks: u32 },
    Zero { lba: u64, blocks: u32 },
    Flush,
}

/// The slots of a channel, by the index of the IO's key.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Rc<[Slot]>,
    ended: Rc<Ended>,
}

/// Indices of slots whose IO has ended, in order. Invariant: each at most once, for which there is room.
type Ended = RefCell<VecDeque<u32>>;

/// What SPDK has a pointer to.
#[derive(Debug)]
struct Slot {
    index: u32,
    outcome: Cell<Result<(), IoError>>,
    ended: Rc<Ended>,
}

impl Slots {
    pub(super) fn new() -> Slots {
        let ended = Rc::new(RefCell::new(VecDeque::with_capacity(IN_FLIGHT_MAX as usize)));
        let slot = |index| Slot { index, outcome: Cell::new(Ok(())), ended: Rc::clone(&ended) };
        Slots { slots: (0..IN_FLIGHT_MAX).map(slot).collect(), ended }
    }

    /// The next IO that has ended.
    pub(super) fn came(&self) -> Option<(u32, Result<(), IoError>)> {
        let index = self.ended.borrow_mut().pop_front()?;
        Some((index, self.slots.get(index as usize)?.outcome.get()))
    }

    /// What SPDK knows the IO by.
    pub(super) fn context(&self, index: u32) -> *mut c_void {
        let slot = self.slots.get(index as usize).map_or(std::ptr::null(), |slot| slot as *const Slot);
        slot.cast_mut().cast()
    }

    /// Makes the call, in the seat of `line`; it ends in [`Slots::came`] unless it is refused here. `None`: SPDK has no room,
    /// try again.
    ///
    /// # Safety
    /// No IO of this index is in SPDK. `memory` is as long as the extent of a read or write and nobody else's, and it and these
    /// slots stay, until it has ended.
    pub(super) unsafe fn call(
        &self,
        line: &Line,
        index: u32,
        call: Call,
        memory: *mut u8,
    ) -> Option<Result<(), IoError>> {
        let (context, end) = (self.context(index), Some(ended as Callback));
        let (descriptor, io, memory) = (line.disk.descriptor(), line.io(), memory.cast());
        let result = match call {
            Call::Read { lba, blocks } => {
                // SAFETY: descriptor and channel are open, and this is the channel's thread; the rest is the caller's promise.
                unsafe {
                    spdk::spdk_bdev_read_blocks(descriptor, io, memory, lba, blocks.into(), end, context)
                }
            }
            Call::Write { lba, blocks } => {
                // SAFETY: as above.
                unsafe {
                    spdk::spdk_bdev_write_blocks(descriptor, io, memory, lba, blocks.into(), end, context)
                }
            }
            Call::Unmap { lba, blocks } => {
                // SAFETY: as above, without memory.
                unsafe { spdk::spdk_bdev_unmap_blocks(descriptor, io, lba, blocks.into(), end, context) }
            }
            Call::Zero { lba, blocks } => {
                // SAFETY: as above, without memory.
                unsafe {
                    spdk::spdk_bdev_write_zeroes_blocks(descriptor, io, lba, blocks.into(), end, context)
                }
            }
            Call::Flush => {
                let blocks = line.disk.blocks();
                // SAFETY: as above, without memory.
                unsafe { spdk::spdk_bdev_flush_blocks(descriptor, io, 0, blocks, end, context) }
            }
        };
        if result == 0 { Some(Ok(())) } else { status::of_refusal(result).map(Err) }
    }
}

type Callback = unsafe extern "C" fn(*mut spdk::spdk_bdev_io, bool, *mut c_void);

unsafe extern "C" fn ended(io: *mut spdk::spdk_bdev_io, success: bool, context: *mut c_void) {
    let outcome = if success { Ok(()) } else { Err(failure(io)) };
    // SAFETY: it has ended, and this is its callback.
    unsafe { spdk::spdk_bdev_free_io(io) };
    // SAFETY: `Slots::call` gave the address of a slot, which stays until the IO has ended, on this thread of the system.
    let slot = unsafe { &*context.cast::<Slot>() };
    slot.outcome.set(outcome);
    slot.ended.borrow_mut().push_back(slot.index);
}

fn failure(io: *const spdk::spdk_bdev_io) -> IoError {
    let (mut aio_result, mut cdw0, mut sct, mut sc) = (0, 0, 0, 0);
    // SAFETY: an IO that has ended and is not freed yet; SPDK writes one number.
    unsafe { spdk::spdk_bdev_io_get_aio_status(io, &raw mut aio_result) };
    // SAFETY: as above, three numbers.
    unsafe { spdk::spdk_bdev_io_get_nvme_status(io, &raw mut cdw0, &raw mut sct, &raw mut sc) };
    status::of_end(aio_result, sct, sc)
}
