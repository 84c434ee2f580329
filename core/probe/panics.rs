//! Panic handling: a panic aborts the check in which it occurs, not the run.
//!
//! A panic message can quote the input (`byte index 5 is not a char boundary; it is inside … of "password=…"`), and its location
//! contains paths of the build machine. Reports therefore contain only the location, relative to the source tree or the crate.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;

/// Whether panics are also printed, with message and backtrace.
static PRINTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Location of the last panic of this thread.
    static LAST_LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A caught panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalError {
    /// `core/probe/tls/x509.rs:84`; `None` without the hook.
    location: Option<String>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Some(location) => write!(f, "internal error ({location}): please report"),
            None => f.write_str("internal error: please report"),
        }
    }
}

impl std::error::Error for InternalError {}

/// Installs a hook after which a panic prints nothing unless [`print()`] was called: the terminal is reserved for the report.
pub fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let location = info.location().map(without_build_path);
            LAST_LOCATION.with(|p| *p.borrow_mut() = location);
            if PRINTED.load(Ordering::Relaxed) {
                before(info);
            }
        }));
    });
}

/// Also prints panics: for `-vv`.
pub fn print() {
    PRINTED.store(true, Ordering::Relaxed);
}

/// A location without the directories of the build machine.
fn without_build_path(location: &Location<'_>) -> String {
    let file = location.file().replace('\\', "/");
    let crates = file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    let std = file.split_once("/rustc/").and_then(|(_, rest)| rest.split_once('/'));
    let file = match crates.or(std) {
        Some((_, rest)) => rest,
        None if file.starts_with('/') => file.rsplit('/').next().unwrap_or_default(),
        None => &file,
    };
    format!("{file}:{}", location.line())
}

fn last_panic() -> InternalError {
    InternalError { location: LAST_LOCATION.with(|p| p.borrow_mut().take()) }
}

/// Runs a closure and returns a panic as an error. State that it shares must tolerate an interrupted update: every lock of this
/// program is acquired with `PoisonError::into_inner`, and a value that is computed once is computed again by the next caller.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, InternalError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| last_panic())
}

/// [`caught`] for a future.
pub async fn caught_async<T>(future: impl Future<Output = T>) -> Result<T, InternalError> {
    // each poll starts and ends on the same thread, and so does a panic in it
    AssertUnwindSafe(future).catch_unwind().await.map_err(|_| last_panic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_report_has_the_location_without_the_message() {
        install_hook();
        let error = caught(|| panic!("password=hunter2")).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with("internal error (core/probe/panics.rs:") && error.ends_with("): please report"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn location_has_no_build_path() {
        install_hook();
        let text = String::from("é");
        // panics in the standard library
        let error = caught(|| text[1..].len()).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(!error.contains("/home/") && !error.contains("/root/") && !error.contains("/rustc/"), "{error}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn panic_after_an_await_is_caught() {
        install_hook();
        let future = async {
            tokio::task::yield_now().await;
            assert!(std::hint::black_box(false), "after the first poll");
        };
        assert!(caught_async(future).await.is_err());
        assert_eq!(caught_async(async { 7 }).await, Ok(7));
    }
}
