//! Bounded memory: the last resort behind the bounds of every reader.
//!
//! The kernel refuses what goes beyond `RLIMIT_DATA` (private writable memory, the stacks of threads included). A program in Rust
//! then aborts, and a report would be lost. [`Allocator`] stops the thread that asked instead, and the watchdog ends the run with
//! everything known so far.
#![allow(unsafe_code, reason = "the trait of an allocator is unsafe to implement; this one only hands calls on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory that a run may take, in bytes. A host with 500 containers takes a tenth of it.
pub const LIMIT: u64 = 512 << 20;

/// How often the watchdog looks whether an allocation has failed: it is notified, but not under the lock that would make that certain.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// Whether the limit is set: without it, running out of memory is not ours to report.
static LIMITED: AtomicBool = AtomicBool::new(false);

/// Sets the limit, unless a lower one applies. Only the soft one: the programs that a fix starts get theirs back
/// ([`opsctl_core::probe::command::give_data_limit`]), and so does the watchdog.
pub fn limit() {
    let now = getrlimit(Resource::Data);
    // the last report takes some of what is between the two
    let wanted = now.maximum.map_or(LIMIT, |maximum| LIMIT.min(maximum / 4 * 3));
    if now.current.is_none_or(|current| current > wanted) {
        let set = setrlimit(Resource::Data, Rlimit { current: Some(wanted), maximum: now.maximum });
        LIMITED.store(set.is_ok(), Ordering::SeqCst);
        opsctl_core::probe::command::give_data_limit(now);
    }
}

/// Gives the process what it takes to end.
pub(super) fn lift() {
    // whichever thread fails now fails as everywhere
    LIMITED.store(false, Ordering::SeqCst);
    let now = getrlimit(Resource::Data);
    let _ = setrlimit(Resource::Data, Rlimit { current: now.maximum, maximum: now.maximum });
}

/// The allocator of the system. One that fails below the limit that was set is reported to the watchdog.
pub struct Allocator;

/// A thread that cannot go on stops here; the watchdog ends the process within a moment.
#[cold]
fn failed() {
    if let Some(shared) = super::SHARED.get().filter(|_| LIMITED.load(Ordering::SeqCst)) {
        super::OUT_OF_MEMORY.store(true, Ordering::SeqCst);
        shared.changed.notify_all();
        super::park();
    }
}

// SAFETY: every call is handed on to the allocator of the system, whose results are returned as they are.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() {
            failed();
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`
        let memory = unsafe { System.alloc_zeroed(layout) };
        if memory.is_null() {
            failed();
        }
        memory
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`
        let memory = unsafe { System.realloc(old, layout, size) };
        if memory.is_null() {
            failed();
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`
        unsafe { System.dealloc(memory, layout) }
    }
}
