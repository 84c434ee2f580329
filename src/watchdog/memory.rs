//! Bounded memory: the last resort behind the bounds of every reader.
//!
//! The kernel refuses what goes beyond `RLIMIT_DATA` (private writable memory, the stacks of threads included). A program in Rust
//! then aborts, and a report would be lost. [`Allocator`] stops the thread that asked instead, and the watchdog ends the run with
//! everything known so far.
#![allow(unsafe_code, reason = "the trait of an allocator is unsafe to implement; this one only hands calls on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Memory that a run may take, in bytes. A host with 500 containers takes a tenth of it.
pub const LIMIT: u64 = 512 << 20;

/// How often the watchdog looks whether an allocation has failed: it is notified, but not under the lock that would make that certain.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The limit that is set: without one, running out of memory is not ours to report.
static LIMITED: AtomicU64 = AtomicU64::new(0);

/// Memory that is given beyond the limit when it is reached: threads go on that hold what the last report needs.
const RESERVE: u64 = 128 << 20;

/// A request from this size on is not granted out of the reserve: what grows without bound asks for twice as much each time.
const MAX_RESERVED_REQUEST: usize = 1 << 20;

/// Whether the reserve is given.
static LIFTED: AtomicBool = AtomicBool::new(false);

/// Sets the limit, unless a lower one applies. Only the soft one: the programs that a fix starts get theirs back
/// ([`opsctl_core::probe::command::give_data_limit`]), and so does the watchdog.
pub fn limit() {
    let now = getrlimit(Resource::Data);
    // the last report takes some of what is between the two
    let wanted = now.maximum.map_or(LIMIT, |maximum| LIMIT.min(maximum / 4 * 3));
    if now.current.is_none_or(|current| current > wanted) {
        let set = setrlimit(Resource::Data, Rlimit { current: Some(wanted), maximum: now.maximum });
        LIMITED.store(if set.is_ok() { wanted } else { 0 }, Ordering::SeqCst);
        opsctl_core::probe::command::give_data_limit(now);
    }
}

/// The limit that was reached; 0 without one.
pub(super) fn reached() -> u64 {
    LIMITED.load(Ordering::SeqCst)
}

/// Gives the process what it takes to end.
pub(super) fn lift() {
    raise(reached() + RESERVE);
    LIFTED.store(true, Ordering::SeqCst);
}

fn raise(to: u64) {
    let maximum = getrlimit(Resource::Data).maximum;
    let current = Some(maximum.map_or(to, |maximum| maximum.min(to)));
    let _ = setrlimit(Resource::Data, Rlimit { current, maximum });
}

/// The allocator of the system. One that fails below the limit that was set is reported to the watchdog.
pub struct Allocator;

/// What becomes of a thread whose request for memory has failed: it tries again, or stops here until the watchdog ends the process, or
/// fails as everywhere when no limit of ours is the reason.
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

// SAFETY: every call is handed on to the allocator of the system, whose results are returned as they are.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`
        granted(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`
        granted(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`; one that failed has left the memory as it was
        granted(size, || unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`
        unsafe { System.dealloc(memory, layout) }
    }
}
