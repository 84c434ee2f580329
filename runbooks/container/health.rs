//! Failed health tests that the engine no longer knows: its log has the last five tests and is emptied by every start, and the tests
//! themselves replace its events within minutes. Runs of opsctl remember the failures that they saw.

use jiff::Timestamp;
use opsctl_core::model::Sample;
use opsctl_core::model::quantity::ago;
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::Container;

use super::state::Evidence;

/// Metric of the last failed health test in the history, by container id: its time, and the failures in a row.
const METRIC: &str = "health_failed";

/// Age to which a failure counts, in seconds: an hour, as the engine's events (judgement).
const MAX_AGE_S: i64 = 3600;

/// A failure that an earlier run within the last hour saw.
pub(super) fn before(cx: &ProbeCx, id: &str) -> Option<Sample> {
    cx.history.oldest(id, METRIC, MAX_AGE_S)
}

/// The failure to remember for later runs.
pub(super) fn sample(c: &Container, now: Timestamp) -> Option<Sample> {
    let failed = last_failure(c).filter(|at| now.duration_since(*at).as_secs() <= MAX_AGE_S)?;
    let streak = c.state.health.as_ref().map_or(1, |health| health.failing_streak.max(1));
    // at the time of the failure: a later run that sees the same one replaces it
    Some(Sample::count(c.id.clone(), METRIC, failed.min(now), u64::try_from(streak).unwrap_or(1)))
}

/// The last failed test that the engine reports.
fn last_failure(c: &Container) -> Option<Timestamp> {
    let tests = c.state.health.iter().flat_map(|health| &health.log);
    tests.filter(|test| test.exit_code != 0).filter_map(|test| test.end.or(test.start)).max()
}

/// For a container with a health test that was restarted from outside, which autoheal containers do: whether the test failed before.
pub(super) fn cited(e: &Evidence, now: Timestamp) -> Option<String> {
    e.container.health_test.as_ref()?;
    Some(match (last_failure(&e.container), &e.health_before) {
        (Some(at), _) => format!("failed {}", ago(now, at)),
        (None, Some(sample)) => {
            format!("failed {}, as seen by an earlier run; the start emptied the engine's log of tests", ago(now, sample.at))
        }
        (None, None) => {
            "unknown before the last start, which emptied the engine's log of tests; no run in the last hour saw a failure"
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use jiff::SignedDuration;
    use opsctl_core::probe::docker::{Health, HealthEntry, HealthTest, State};

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn at(minutes: i64) -> Timestamp {
        NOW + SignedDuration::from_mins(minutes)
    }

    /// A container with tests that ended at these minutes with these codes.
    fn container(tests: &[(i64, i64)]) -> Container {
        let entry = |(minutes, exit_code): &(i64, i64)| HealthEntry {
            end: Some(at(*minutes)),
            exit_code: *exit_code,
            ..HealthEntry::default()
        };
        let health = Health { failing_streak: 0, log: tests.iter().map(entry).collect(), ..Health::default() };
        let state = State { health: Some(health), ..State::default() };
        Container { id: "a".into(), state, health_test: Some(HealthTest::default()), ..Container::default() }
    }

    fn evidence(container: Container, health_before: Option<Sample>) -> Evidence {
        Evidence { container, health_before, ..Evidence::default() }
    }

    #[test]
    fn failure_of_the_last_hour_is_remembered_at_its_time() {
        let sample = sample(&container(&[(-30, 1), (-20, 1), (-10, 0)]), NOW).unwrap();
        assert_eq!((sample.at, sample.as_count()), (at(-20), 1));
        assert_eq!(super::sample(&container(&[(-90, 1), (-10, 0)]), NOW), None);
        assert_eq!(super::sample(&container(&[(-10, 0)]), NOW), None);
    }

    #[test]
    fn failure_before_the_last_start_is_known_from_an_earlier_run() {
        let before = sample(&container(&[(-20, 1)]), NOW);
        let healthy = || container(&[(-1, 0)]);
        assert!(cited(&evidence(healthy(), before), NOW).unwrap().starts_with("failed 20 min ago, as seen by an earlier run"));
        assert!(cited(&evidence(healthy(), None), NOW).unwrap().starts_with("unknown before the last start"));
        assert_eq!(cited(&evidence(container(&[(-2, 1)]), None), NOW).as_deref(), Some("failed 2 min ago"));
        let untested = Container { health_test: None, ..healthy() };
        assert_eq!(cited(&evidence(untested, None), NOW), None);
    }
}
