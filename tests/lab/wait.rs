//! Waiting for conditions, without fixed delays.

use std::time::{Duration, Instant};

/// Polls until there is a value; panics with `condition` if there is none after `seconds`.
#[track_caller]
pub(crate) fn eventually<T>(seconds: u64, condition: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out after {seconds} s: {condition}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
