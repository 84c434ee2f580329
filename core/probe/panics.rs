//! A panic costs the check that it happens in, not the run.
//!
//! A panic message can quote what was being read (`byte index 5 is not a char boundary; it is inside … of "password=…"`), and its place
//! holds paths of the machine that built the program. Reports therefore name only the place, as the source tree or the crate names it.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;

/// Whether panics are printed as well, with message and backtrace.
static PRINTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Where the last panic of this thread happened.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalError {
    /// `core/probe/tls/x509.rs:84`; `None` without the hook.
    place: Option<String>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "internal error ({place}): please report"),
            None => f.write_str("internal error: please report"),
        }
    }
}

impl std::error::Error for InternalError {}

/// From now on a panic prints nothing, unless [`print()`] is on: the terminal belongs to the report.
pub fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let place = info.location().map(shown);
            PLACE.with(|p| *p.borrow_mut() = place);
            if PRINTED.load(Ordering::Relaxed) {
                before(info);
            }
        }));
    });
}

/// Prints panics as well: for `-vv`.
pub fn print() {
    PRINTED.store(true, Ordering::Relaxed);
}

/// A place without the directories of the machine that built the program.
fn shown(location: &Location<'_>) -> String {
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

fn last() -> InternalError {
    InternalError { place: PLACE.with(|p| p.borrow_mut().take()) }
}

/// Runs something; a panic is an error. What it shares with others has to bear being left in the middle: every lock of this program is
/// taken with `PoisonError::into_inner`, and a value that is computed once is computed again by the next caller.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, InternalError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| last())
}

/// [`caught`] for a future.
pub async fn caught_async<T>(future: impl Future<Output = T>) -> Result<T, InternalError> {
    // each poll ends on the thread that it began on, and with it the panic
    AssertUnwindSafe(future).catch_unwind().await.map_err(|_| last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_names_its_place_and_not_its_message() {
        install_hook();
        let error = caught(|| panic!("password=hunter2")).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.starts_with("internal error (core/probe/panics.rs:") && error.ends_with("): please report"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn place_holds_no_build_path() {
        install_hook();
        let text = String::from("é");
        // in the standard library
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
