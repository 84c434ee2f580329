//! Steps of the wall clock: between two runs of one boot the wall clock and the time since boot must advance alike.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Change, ChangeKind, Sample, quantity};
use opsctl_core::probe::io::clock;

use crate::state::Store;

/// The stored sample: boot time by the wall clock of the run, in milliseconds.
const METRIC: &str = "boot_wall_ms";

/// Minimum difference of a step, in milliseconds.
const MIN_STEP_MS: f64 = 1000.0;

/// Maximum slew rate of a clock: 500 ppm (adjtimex(2), `MAXFREQ`).
const MAX_SLEW: f64 = 0.0005;

fn object(boot_id: &str) -> String {
    format!("clock:{boot_id}")
}

/// The sample of this run.
#[must_use]
pub fn sample(boot_id: &str) -> Sample {
    let value = clock::boot_time().as_millisecond() as f64;
    Sample { object: object(boot_id), metric: METRIC.to_owned(), at: clock::now(), value }
}

/// The steps since then, each at the time of the first run that detected it.
pub(super) fn steps(store: &Store, boot_id: &str, since: Timestamp) -> Vec<Change> {
    // the last run before the period has the reference value
    let from = since.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::UNIX_EPOCH);
    between(&store.series(&object(boot_id), METRIC, from))
}

fn between(series: &[(Timestamp, f64)]) -> Vec<Change> {
    let step = |pair: &[(Timestamp, f64)]| {
        let [(before, was), (at, is)] = pair else { return None };
        let ahead = is - was;
        let allowed = MIN_STEP_MS.max(at.duration_since(*before).as_secs_f64().abs() * 1000.0 * MAX_SLEW);
        if ahead.abs() <= allowed {
            return None;
        }
        let by = quantity::duration(SignedDuration::from_secs_f64(ahead.abs() / 1000.0));
        let direction = if ahead > 0.0 { "forward" } else { "back" };
        let change = Change::new(*at, ChangeKind::Clock, "clock", format!("set {direction} by {by}, detected by this run"));
        Some(change.concerning("runbook:time").concerning("runbook:tls"))
    };
    series.windows(2).filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn step_is_reported_and_slew_is_not() {
        let run = |second: i64, boot: f64| (Timestamp::from_second(1_000_000 + second).unwrap(), boot);
        let lines = |series: &[_]| between(series).iter().map(Change::summary).collect::<Vec<_>>();
        // an hour of 500 ppm is 1.8 s
        assert!(lines(&[run(0, 0.0), run(3600, 1700.0), run(3660, 1900.0)]).is_empty());
        assert_eq!(lines(&[run(0, 0.0), run(60, 7_200_000.0)]), ["clock set forward by 2 h, detected by this run"]);
        assert_eq!(
            lines(&[run(0, 0.0), run(60, -30_000.0), run(90, -30_000.0)]),
            ["clock set back by 30 s, detected by this run"]
        );
        assert!(lines(&[]).is_empty() && lines(&[run(0, 5.0)]).is_empty());
    }
}
