//! Steps of the wall clock: between two runs of one boot the wall clock and the time since boot must advance alike.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Change, ChangeKind, Sample, quantity};
use opsctl_core::probe::clock;

use crate::state::Store;

/// What is remembered: the moment of the boot by the wall clock of the run, in milliseconds.
const METRIC: &str = "boot_wall_ms";

/// A smaller difference is no step, in milliseconds.
const SMALLEST: f64 = 1000.0;

/// How fast a clock may be slewed: 500 ppm (adjtimex(2), `MAXFREQ`).
const SLEW: f64 = 0.0005;

fn object(boot_id: &str) -> String {
    format!("clock:{boot_id}")
}

/// What to remember of this run.
#[must_use]
pub fn sample(boot_id: &str) -> Sample {
    let value = clock::boot_time().as_millisecond() as f64;
    Sample { object: object(boot_id), metric: METRIC.to_owned(), at: clock::now(), value }
}

/// The steps since then, each told at the first run that saw it.
pub(super) fn steps(store: &Store, boot_id: &str, since: Timestamp) -> Vec<Change> {
    // the run before the first one of that time tells where the clock stood
    let from = since.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::UNIX_EPOCH);
    between(&store.series(&object(boot_id), METRIC, from))
}

fn between(series: &[(Timestamp, f64)]) -> Vec<Change> {
    let step = |pair: &[(Timestamp, f64)]| {
        let [(before, was), (at, is)] = pair else { return None };
        let ahead = is - was;
        let allowed = SMALLEST.max(at.duration_since(*before).as_secs_f64().abs() * 1000.0 * SLEW);
        if ahead.abs() <= allowed {
            return None;
        }
        let by = quantity::duration(SignedDuration::from_secs_f64(ahead.abs() / 1000.0));
        let way = if ahead > 0.0 { "forward" } else { "back" };
        let change = Change::new(*at, ChangeKind::Clock, "clock", format!("set {way} by {by}, seen by this run"));
        Some(change.concerning("runbook:time").concerning("runbook:tls"))
    };
    series.windows(2).filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_step_is_told_and_a_slew_is_not() {
        let run = |second: i64, boot: f64| (Timestamp::from_second(1_000_000 + second).unwrap(), boot);
        let told = |series: &[_]| between(series).iter().map(Change::says).collect::<Vec<_>>();
        // an hour of 500 ppm is 1.8 s
        assert!(told(&[run(0, 0.0), run(3600, 1700.0), run(3660, 1900.0)]).is_empty());
        assert_eq!(told(&[run(0, 0.0), run(60, 7_200_000.0)]), ["clock set forward by 2 h, seen by this run"]);
        assert_eq!(told(&[run(0, 0.0), run(60, -30_000.0), run(90, -30_000.0)]), ["clock set back by 30 s, seen by this run"]);
        assert!(told(&[]).is_empty() && told(&[run(0, 5.0)]).is_empty());
    }
}
