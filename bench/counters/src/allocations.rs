//! An allocator that counts what is allocated while it is told to.
#![expect(unsafe_code, reason = "a global allocator is unsafe by trade")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// From now on allocations count, or do not.
pub(crate) fn count(is_counting: bool) {
    IS_COUNTING.store(is_counting, Ordering::Relaxed);
}

/// How many have counted.
pub(crate) fn counted() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

fn one() {
    if IS_COUNTING.load(Ordering::Relaxed) {
        // There is one thread: no need for an atomic addition, which would be counted itself.
        ALLOCATIONS.store(counted() + 1, Ordering::Relaxed);
    }
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; counting beside it touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        one();
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        one();
        // SAFETY: the caller's promise is the one that is needed.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        one();
        // SAFETY: the caller's promise is the one that is needed; `ptr` came from `System`, like all of ours.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the one that is needed; `ptr` came from `System`, like all of ours.
        unsafe { System.dealloc(ptr, layout) }
    }
}
