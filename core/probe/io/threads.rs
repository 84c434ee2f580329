//! Threads for reads. A thread serves several reads, because a new thread for each costs more time and memory than most reads.
//!
//! A read may change its thread: its user, its capabilities, its network namespace, its root directory. Such a thread ends with its
//! read and never serves another one.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{getegid, geteuid};
use rustix::thread::{CapabilitySet, capabilities};

/// Time after which a thread without reads ends.
const IDLE_TIME: Duration = Duration::from_millis(100);

/// Reads; returns the function that delivers the result.
type Read = Box<dyn FnOnce() -> Deliver + Send>;

/// Delivers a result. Runs after the thread has offered itself for the next read.
pub(super) type Deliver = Box<dyn FnOnce() + Send>;

/// Threads without a read, the most recently used last.
static IDLE: Mutex<Vec<(u64, mpsc::Sender<Read>)>> = Mutex::new(Vec::new());

thread_local! {
    static RETIRED: Cell<bool> = const { Cell::new(false) };
}

/// Ends this thread after its present read: the read changes its rights, its namespace or its root directory.
pub(crate) fn retire() {
    RETIRED.set(true);
}

/// Runs `read` on an idle thread, or on a new one.
///
/// # Errors
/// If no thread can be created.
pub(super) fn run(read: impl FnOnce() -> Deliver + Send + 'static) -> io::Result<()> {
    let mut read: Read = Box::new(read);
    loop {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some((_, thread)) = idle else { break };
        match thread.send(read) {
            Ok(()) => return Ok(()),
            Err(mpsc::SendError(rejected)) => read = rejected,
        }
    }
    std::thread::Builder::new()
        .name("probe".to_owned())
        // only touched pages use memory; parsing certificates and nested configurations recurses deeply
        .stack_size(2 << 20)
        .spawn(move || serve(read))?;
    Ok(())
}

/// Effective ids, capabilities and priority of this thread.
fn rights() -> Option<(u32, u32, i32, CapabilitySet)> {
    let priority = rustix::process::getpriority_process(None).ok()?;
    Some((geteuid().as_raw(), getegid().as_raw(), priority, capabilities(None).ok()?.effective))
}

fn serve(first: Read) {
    static NEXT_ID: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let id = NEXT_ID.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let at_start = rights();
    let (send, receive) = mpsc::channel::<Read>();
    let mut read = first;
    loop {
        let deliver = catch_unwind(AssertUnwindSafe(read));
        let unchanged = !RETIRED.get() && at_start.is_some() && rights() == at_start;
        let Ok(deliver) = deliver else { return };
        if !unchanged {
            deliver();
            return;
        }
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push((id, send.clone()));
        deliver();
        read = match receive.recv_timeout(IDLE_TIME) {
            Ok(next) => next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
                let before = idle.len();
                idle.retain(|(other, _)| *other != id);
                if idle.len() < before {
                    return;
                }
                drop(idle);
                // it was taken from the list a moment ago: its read arrives
                match receive.recv() {
                    Ok(next) => next,
                    Err(_) => return,
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thread that serves the next read, after `change` on it.
    fn thread_after(change: impl FnOnce() + Send + 'static) -> std::thread::ThreadId {
        let (send, receive) = mpsc::channel();
        let read = move || -> Deliver {
            change();
            let id = std::thread::current().id();
            Box::new(move || assert!(send.send(id).is_ok()))
        };
        assert!(run(read).is_ok());
        receive.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn retired_thread_serves_no_further_read() {
        let retired = thread_after(retire);
        for _ in 0..20 {
            assert_ne!(thread_after(|| ()), retired);
        }
    }

    #[test]
    fn thread_with_changed_rights_serves_no_further_read() {
        let fewer = || {
            if let Ok(now) = capabilities(None) {
                let none = rustix::thread::CapabilitySets { effective: CapabilitySet::empty(), ..now };
                let _ = rustix::thread::set_capabilities(None, none);
            }
        };
        if rights().is_none_or(|(.., effective)| effective.is_empty()) {
            // no capabilities to drop
            return;
        }
        let changed = thread_after(fewer);
        for _ in 0..20 {
            assert_ne!(thread_after(|| ()), changed);
        }
    }

    #[test]
    fn thread_serves_several_reads() {
        let threads: std::collections::HashSet<_> = (0..100).map(|_| thread_after(|| ())).collect();
        assert!(threads.len() < 50, "{} threads for 100 reads", threads.len());
    }
}
