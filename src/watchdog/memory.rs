//! Memory limit: the last resort behind the limits of every reader.
//!
//! The kernel rejects allocations beyond `RLIMIT_DATA` (private writable memory, including thread stacks). A Rust program then
//! aborts, and a report would be lost. [`Allocator`] parks the allocating thread, and the watchdog ends the run with a report of
//! the results so far.
#![allow(unsafe_code, reason = "the trait of an allocator is unsafe to implement; this one only hands calls on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory limit of a run in bytes. A host with 500 containers needs a tenth of it.
pub const LIMIT: u64 = 512 << 20;

/// Interval at which the watchdog checks for a failed allocation: it is notified, but not under the lock that would make the
/// notification certain.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The limit set by opsctl: without one, running out of memory is not reported here.
static LIMITED: AtomicU64 = AtomicU64::new(0);

/// Additional memory beyond the limit: threads that hold data for the last report can continue.
const RESERVE: u64 = 128 << 20;

/// Requests from this size on are not granted from the reserve: unbounded growth requests twice as much each time.
const MAX_RESERVED_REQUEST: usize = 1 << 20;

/// Whether the reserve is available.
static LIFTED: AtomicBool = AtomicBool::new(false);

/// Sets the limit unless a lower one applies. Only the soft limit: programs started by a fix get the original one back
/// ([`opsctl_core::probe::io::command::give_data_limit`]), and so does the watchdog.
pub fn limit() {
    let now = getrlimit(Resource::Data);
    // the last report needs some of the memory between the two
    let new_limit = now.maximum.map_or(LIMIT, |maximum| LIMIT.min(maximum / 4 * 3));
    if now.current.is_none_or(|current| current > new_limit) {
        let set = setrlimit(Resource::Data, Rlimit { current: Some(new_limit), maximum: now.maximum });
        LIMITED.store(if set.is_ok() { new_limit } else { 0 }, Ordering::SeqCst);
        opsctl_core::probe::io::command::give_data_limit(now);
    }
}

/// The reached limit; 0 without one.
pub(super) fn reached() -> u64 {
    LIMITED.load(Ordering::SeqCst)
}

/// Raises the limit for the last report.
pub(super) fn lift() {
    raise(reached() + RESERVE);
    LIFTED.store(true, Ordering::SeqCst);
}

fn raise(to: u64) {
    let maximum = getrlimit(Resource::Data).maximum;
    let current = Some(maximum.map_or(to, |maximum| maximum.min(to)));
    let _ = setrlimit(Resource::Data, Rlimit { current, maximum });
}

/// The system allocator. A failed allocation below the limit set here is reported to the watchdog.
pub struct Allocator;

/// Handles a failed allocation: the thread retries, or is parked until the watchdog ends the process, or fails as usual if the
/// limit set here is not the reason.
#[cold]
fn tries_again(size: usize, failures: u32) -> bool {
    let Some(shared) = super::SHARED.get().filter(|_| reached() > 0) else { return false };
    super::OUT_OF_MEMORY.store(true, Ordering::SeqCst);
    shared.changed.notify_all();
    if shared.ends_the_process() {
        raise(u64::MAX);
        return failures < 2;
    }
    if size >= MAX_RESERVED_REQUEST || failures > 0 {
        super::park();
    }
    while !LIFTED.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn granted(size: usize, request: impl Fn() -> *mut u8) -> *mut u8 {
    let mut failures = 0;
    loop {
        let memory = request();
        if !memory.is_null() || !tries_again(size, failures) {
            return memory;
        }
        failures += 1;
    }
}

// SAFETY: every call is forwarded to the system allocator, and its results are returned unchanged.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc`
        granted(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc_zeroed`
        granted(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `realloc`; a failed call has left the memory unchanged
        granted(size, || unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`
        unsafe { System.dealloc(memory, layout) }
    }
}
