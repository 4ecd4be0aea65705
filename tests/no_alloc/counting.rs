//! An allocator that counts what watched threads allocate and free.
#![expect(unsafe_code, reason = "a global allocator is unsafe by trade")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

thread_local! {
    /// This thread's allocations count. Made without an allocation, dropped without a destructor.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);
/// Where the first one since the process began came from.
static FIRST: OnceLock<String> = OnceLock::new();

/// From now on what the calling thread allocates and frees counts.
pub(crate) fn watch_this_thread() {
    IS_WATCHED.set(true);
}

/// Starts to count, from zero.
pub(crate) fn start() {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    FREES.store(0, Ordering::SeqCst);
    IS_COUNTING.store(true, Ordering::SeqCst);
}

/// Stops counting: allocations and frees since the start.
pub(crate) fn stop() -> (u64, u64) {
    IS_COUNTING.store(false, Ordering::SeqCst);
    (ALLOCATIONS.load(Ordering::SeqCst), FREES.load(Ordering::SeqCst))
}

/// The first backtrace that was counted in this process.
pub(crate) fn first() -> &'static str {
    FIRST.get().map_or("none", String::as_str)
}

fn count(counter: &AtomicU64) {
    if !IS_COUNTING.load(Ordering::Relaxed) || !IS_WATCHED.get() {
        return;
    }
    counter.fetch_add(1, Ordering::SeqCst);
    // What the backtrace itself allocates does not count.
    IS_WATCHED.set(false);
    FIRST.get_or_init(|| Backtrace::force_capture().to_string());
    IS_WATCHED.set(true);
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; counting beside it touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: the caller's promise is the one that is needed; `ptr` came from `System`, like all of ours.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(&FREES);
        // SAFETY: the caller's promise is the one that is needed; `ptr` came from `System`, like all of ours.
        unsafe { System.dealloc(ptr, layout) }
    }
}
