//! Wall clock, boot clock and boot time.

use std::io::Read as _;
use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

use super::Io;

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

/// Time since boot without suspend, the second clock of the journal.
#[must_use]
pub fn monotonic() -> SignedDuration {
    let t = clock_gettime(ClockId::Monotonic);
    SignedDuration::new(t.tv_sec, i32::try_from(t.tv_nsec).unwrap_or(0))
}

/// The boot time by the current wall clock.
#[must_use]
pub fn boot_time() -> Timestamp {
    now().checked_sub(since_boot()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The local time zone of this host's logs.
pub(in crate::probe) fn zone(io: &Io, root: &Path) -> TimeZone {
    let mut bytes = Vec::new();
    let read = io.open(root.join("etc/localtime")).and_then(|f| f.take(1 << 20).read_to_end(&mut bytes));
    read.ok().and_then(|_| TimeZone::tzif("local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

/// `2026-11-21 20:05:45` in local time.
pub(in crate::probe) fn moment(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let local = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
    Some(local.to_zoned(zone.clone()).ok()?.timestamp())
}
