//! Wall clock, boot clock and boot time.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Wall-clock time.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Time since boot, including suspend.
#[must_use]
pub fn since_boot() -> SignedDuration {
    let t = clock_gettime(ClockId::Boottime);
    SignedDuration::new(t.tv_sec, i32::try_from(t.tv_nsec).unwrap_or(0))
}

/// The boot time by the current wall clock.
#[must_use]
pub fn boot_time() -> Timestamp {
    now().checked_sub(since_boot()).unwrap_or(Timestamp::UNIX_EPOCH)
}
