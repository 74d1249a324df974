//! The largest request for memory, for tests that hold decoders to what a file of its size needs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, watched.
pub struct Watched;

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; every call goes to the system's as it came")]
// SAFETY: the system's allocator keeps the contract; counting touches one atomic and no memory.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        LARGEST.fetch_max(new_size, Ordering::Relaxed);
        // SAFETY: the caller's contract is handed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

/// Begins anew.
pub fn forget_largest() {
    LARGEST.store(0, Ordering::Relaxed);
}

/// The largest request since [`forget_largest`].
pub fn largest_bytes() -> usize {
    LARGEST.load(Ordering::Relaxed)
}
