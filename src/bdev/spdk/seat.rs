//! One `spdk_thread` for each reactor, and who may be in it.
//!
//! SPDK's threads are bound to no thread of the system, but one at a time only may run one. A reactor has its own while it has
//! IO in it; else the caretaker polls it now and then, so that what concerns all threads (a reset, a device that goes) does not
//! wait for a reactor that sleeps. Neither waits for the other: who finds it taken comes back later.
//!
//! An island of `unsafe`: it runs the thread.
#![expect(unsafe_code, reason = "SPDK's threads are polled and entered by calls of C")]

use std::ffi::{CString, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use spdk_sys as spdk;

/// In `users`: the caretaker is in it.
const TENDED: u32 = u32::MAX;

/// A thread of SPDK's, with its turnstile.
pub(super) struct Seat {
    /// Invariant: a live `spdk_thread` as long as the seat is shared.
    thread: AtomicPtr<spdk::spdk_thread>,
    /// Channels with IO in it, all of one reactor; or [`TENDED`].
    users: AtomicU32,
    /// How often the reactor polled it.
    polls: AtomicU32,
}

impl Seat {
    /// A new thread. The environment is initialised.
    pub(super) fn new(name: &str) -> Option<Seat> {
        let name = CString::new(name).ok()?;
        // SAFETY: the library of threads is initialised (seats are made by the caretaker), and the name is read only during
        // the call.
        let thread = unsafe { spdk::spdk_thread_create(name.as_ptr(), ptr::null()) };
        (!thread.is_null()).then(|| Seat {
            thread: AtomicPtr::new(thread),
            users: AtomicU32::new(0),
            polls: AtomicU32::new(0),
        })
    }

    fn thread(&self) -> *mut spdk::spdk_thread {
        self.thread.load(Ordering::Relaxed)
    }

    /// A channel of the reactor sits down: it may submit and poll until [`Seat::leave`]. Not while the caretaker is in.
    pub(super) fn take(&self) -> bool {
        let more = |users| (users != TENDED).then(|| users + 1);
        self.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).is_ok()
    }

    /// The end of a [`Seat::take`] that succeeded.
    pub(super) fn leave(&self) {
        self.users.fetch_sub(1, Ordering::Release);
    }

    /// By who has taken it: polls once, unless another channel of the reactor did since `seen`, which becomes the present
    /// count. So several channels poll once in a turn.
    pub(super) fn poll_once(&self, seen: &mut u32) {
        if *seen == self.polls.load(Ordering::Relaxed) {
            self.run();
            self.polls.fetch_add(1, Ordering::Relaxed);
        }
        *seen = self.polls.load(Ordering::Relaxed);
    }

    /// By who has taken it: calls SPDK as this thread.
    pub(super) fn enter<R>(&self, calls: impl FnOnce() -> R) -> R {
        // SAFETY: it reads a variable of this thread of the system.
        let before = unsafe { spdk::spdk_get_thread() };
        // SAFETY: the thread lives, and nobody else is in it.
        unsafe { spdk::spdk_set_thread(self.thread()) };
        let result = calls();
        // SAFETY: as it was before: none, or the caretaker's own.
        unsafe { spdk::spdk_set_thread(before) };
        result
    }

    /// By the caretaker: polls once if the reactor has nothing in it. Whether there was something to do.
    pub(super) fn tend(&self) -> bool {
        self.alone(|| self.run()).unwrap_or(false)
    }

    fn alone<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        self.users.compare_exchange(0, TENDED, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let result = act();
        self.users.store(0, Ordering::Release);
        Some(result)
    }

    fn run(&self) -> bool {
        // SAFETY: the thread lives, and nobody else is in it: the callers have it.
        unsafe { spdk::spdk_thread_poll(self.thread(), 0, 0) > 0 }
    }

    /// Has `message` run with `context` by who polls next. Whether SPDK had room for it.
    ///
    /// # Safety
    /// `message` may be called with `context` on any thread.
    pub(super) unsafe fn send(
        &self,
        message: unsafe extern "C" fn(*mut c_void),
        context: *mut c_void,
    ) -> bool {
        // SAFETY: messages may be sent from everywhere to a thread that lives; the caller answers for this one.
        unsafe { spdk::spdk_thread_send_msg(self.thread(), Some(message), context) == 0 }
    }

    /// By the caretaker, when no channel is left: asks the thread to end. It has ended when [`Seat::has_ended`] says so, after
    /// more polls.
    pub(super) fn end(&self) {
        // SAFETY: it is the current thread, as `spdk_thread_exit` wants.
        self.alone(|| self.enter(|| unsafe { spdk::spdk_thread_exit(self.thread()) }));
    }

    pub(super) fn has_ended(&self) -> bool {
        // SAFETY: the thread lives.
        unsafe { spdk::spdk_thread_is_exited(self.thread()) }
    }

    /// Frees a thread that has ended.
    ///
    /// # Panics
    /// Where it has not.
    pub(super) fn free(self) {
        assert!(self.has_ended(), "a thread that runs is not freed");
        // SAFETY: it has ended, and nobody else has the seat any more.
        unsafe { spdk::spdk_thread_destroy(self.thread()) };
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("users", &self.users).finish_non_exhaustive()
    }
}
