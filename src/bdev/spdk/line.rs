//! What a channel shares with the caretaker: SPDK's channel to the bdev, opened and closed by messages to the reactor's
//! `spdk_thread`, so that neither waits for the other.
//!
//! An island of `unsafe`: the messages.
#![expect(unsafe_code, reason = "SPDK's channels are opened, reset and closed by calls of C")]

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::ThreadId;

use spdk_sys as spdk;

use super::disk::Disk;
use super::seat::Seat;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    Opening,
    Ready,
    /// SPDK has none to give.
    Failed,
    Closing,
    Closed,
}

const STAGES: [Stage; 5] = [Stage::Opening, Stage::Ready, Stage::Failed, Stage::Closing, Stage::Closed];

/// A channel's way into SPDK.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) disk: Arc<Disk>,
    /// The thread of the reactor that has the channel: it has one seat.
    pub(super) owner: ThreadId,
    seat: OnceLock<Arc<Seat>>,
    /// Present from [`Stage::Ready`] to [`Stage::Closed`].
    io: AtomicPtr<spdk::spdk_io_channel>,
    /// An index into [`STAGES`].
    stage: AtomicU8,
    /// Aborts and resets that have not ended: they belong to no IO.
    asides: AtomicU32,
}

impl Line {
    pub(super) fn new(disk: Arc<Disk>) -> Line {
        Line {
            disk,
            owner: std::thread::current().id(),
            seat: OnceLock::new(),
            io: AtomicPtr::new(ptr::null_mut()),
            stage: AtomicU8::new(0),
            asides: AtomicU32::new(0),
        }
    }

    pub(super) fn stage(&self) -> Stage {
        STAGES.get(usize::from(self.stage.load(Ordering::Acquire))).copied().unwrap_or(Stage::Failed)
    }

    fn set_stage(&self, stage: Stage) {
        let index =
            STAGES.iter().position(|known| *known == stage).and_then(|index| u8::try_from(index).ok());
        self.stage.store(index.unwrap_or(0), Ordering::Release);
    }

    /// None before it is ready.
    pub(super) fn seat(&self) -> Option<&Arc<Seat>> {
        self.seat.get()
    }

    /// SPDK's channel; null unless it is ready or closing.
    pub(super) fn io(&self) -> *mut spdk::spdk_io_channel {
        self.io.load(Ordering::Acquire)
    }

    /// By the caretaker: opens it in this seat.
    pub(super) fn open(self: &Arc<Line>, seat: Option<&Arc<Seat>>) {
        let Some(seat) = seat else { return self.set_stage(Stage::Failed) };
        let context = Arc::into_raw(Arc::clone(self)).cast_mut().cast();
        // SAFETY: `opened` takes exactly this: a line that was turned into a pointer.
        if !unsafe { self.seat.get_or_init(|| Arc::clone(seat)).send(opened, context) } {
            // SAFETY: nobody else will turn it back.
            drop(unsafe { Arc::from_raw(context.cast::<Line>()) });
            self.set_stage(Stage::Failed);
        }
    }

    /// By the caretaker, when the reactor has dropped its channel: closes it as far as it can now. Whether it is closed.
    pub(super) fn close(self: &Arc<Line>) -> bool {
        match self.stage() {
            Stage::Failed | Stage::Closed => true,
            Stage::Opening | Stage::Closing => false,
            Stage::Ready => {
                if let Some(seat) = self.seat()
                    && self.asides.load(Ordering::Acquire) == 0
                {
                    self.set_stage(Stage::Closing);
                    let context = Arc::into_raw(Arc::clone(self)).cast_mut().cast();
                    // SAFETY: `closed` takes exactly this: a line that was turned into a pointer.
                    if !unsafe { seat.send(closed, context) } {
                        // SAFETY: nobody else will turn it back.
                        drop(unsafe { Arc::from_raw(context.cast::<Line>()) });
                        self.set_stage(Stage::Ready);
                    }
                }
                false
            }
        }
    }

    /// In the seat: asks the bdev to give up the IO whose context this is, where it can. A hint.
    pub(super) fn abort(self: &Arc<Line>, context: *mut c_void) {
        if self.disk.can_abort {
            self.aside(|line| {
                // SAFETY: channel and descriptor are open, this is their thread; `context` is only compared; `aside_ended`
                // takes exactly this.
                unsafe {
                    spdk::spdk_bdev_abort(self.disk.descriptor(), self.io(), context, Some(aside_ended), line)
                }
            });
        }
    }

    /// In the seat: resets the bdev, unless that is under way. What it has comes back soon, that of other reactors too.
    pub(super) fn reset(self: &Arc<Line>) {
        if self.disk.can_reset && self.disk.begin_reset() {
            let is_begun = self.aside(|line| {
                // SAFETY: channel and descriptor are open, this is their thread; `reset_ended` takes exactly this.
                unsafe { spdk::spdk_bdev_reset(self.disk.descriptor(), self.io(), Some(reset_ended), line) }
            });
            if !is_begun {
                self.disk.end_reset();
            }
        }
    }

    /// Makes a call that is no IO, with the line as its context. Whether SPDK took it.
    fn aside(self: &Arc<Line>, call: impl FnOnce(*mut c_void) -> i32) -> bool {
        let context = Arc::into_raw(Arc::clone(self)).cast_mut().cast();
        self.asides.fetch_add(1, Ordering::Relaxed);
        let is_taken = call(context) == 0;
        if !is_taken {
            self.asides.fetch_sub(1, Ordering::Release);
            // SAFETY: no callback will turn it back.
            drop(unsafe { Arc::from_raw(context.cast::<Line>()) });
        }
        is_taken
    }
}

unsafe extern "C" fn opened(context: *mut c_void) {
    // SAFETY: `Line::open` made it, for this one call.
    let line = unsafe { Arc::from_raw(context.cast::<Line>()) };
    // SAFETY: the caretaker keeps the descriptor open as long as there are lines; this runs on the thread that the channel is
    // to belong to.
    let io = unsafe { spdk::spdk_bdev_get_io_channel(line.disk.descriptor()) };
    line.io.store(io, Ordering::Release);
    line.set_stage(if io.is_null() { Stage::Failed } else { Stage::Ready });
}

unsafe extern "C" fn closed(context: *mut c_void) {
    // SAFETY: `Line::close` made it, for this one call.
    let line = unsafe { Arc::from_raw(context.cast::<Line>()) };
    // SAFETY: it was opened on this thread, and the reactor has dropped its channel with nothing in it.
    unsafe { spdk::spdk_put_io_channel(line.io.swap(ptr::null_mut(), Ordering::AcqRel)) };
    line.set_stage(Stage::Closed);
}

unsafe extern "C" fn aside_ended(io: *mut spdk::spdk_bdev_io, _success: bool, context: *mut c_void) {
    // SAFETY: it has ended, and this is its callback.
    unsafe { spdk::spdk_bdev_free_io(io) };
    // SAFETY: `Line::aside` made it, for this one call.
    let line = unsafe { Arc::from_raw(context.cast::<Line>()) };
    line.asides.fetch_sub(1, Ordering::Release);
}

unsafe extern "C" fn reset_ended(io: *mut spdk::spdk_bdev_io, success: bool, context: *mut c_void) {
    // SAFETY: the line lives until `aside_ended` has turned it back.
    unsafe { (*context.cast::<Line>()).disk.end_reset() };
    // SAFETY: both are what SPDK gave to this callback.
    unsafe { aside_ended(io, success, context) };
}
