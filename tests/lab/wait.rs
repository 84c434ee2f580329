//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer; panics with `what` when there is none after `seconds`.
#[track_caller]
pub(crate) fn eventually<T>(seconds: u64, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "after {seconds} s still not so: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
