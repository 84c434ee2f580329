//! Detection of restart loops.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, KeyKind, Sample, Severity, quantity};
use opsctl_core::probe::docker::{Container, Event};

use super::Settings;
use super::decode::exit_code;
use super::health;
use super::oom;
use super::state::{Evidence, RESTART_LOOP, STOP_LOOP, reason_of};
use crate::shared::log_reason::with_reason;

/// Age of a start from which the restart counter is history (judgement: 10 min).
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// Time within which Podman restarts a container that ended: it has no delay between restarts; the rest is a busy host (judgement).
const MAX_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// Metric of the restart counter in the history, by container id.
pub(super) const METRIC: &str = "restarts";

/// Age to which a stored restart counter counts, in seconds: an hour, as the engine's events (judgement).
pub(super) const MAX_SAMPLE_AGE_S: i64 = 3600;

/// The restart counter for later runs. Without a restart there is none: the counter begins at 0.
pub(super) fn sample(c: &Container, now: Timestamp) -> Option<Sample> {
    let restarts = u64::try_from(c.restart_count).ok().filter(|restarts| *restarts > 0)?;
    Some(Sample::count(c.id.clone(), METRIC, now, restarts))
}

/// Restarts by the engine since an earlier run at least ten minutes ago, with the time of that run; `None` without one, or if the
/// counter was reset since by a start by hand.
fn since_earlier_run(e: &Evidence, now: Timestamp) -> Option<(i64, Timestamp)> {
    let before = e.restarts_before.as_ref().filter(|sample| now.duration_since(sample.at) >= RECENT)?;
    let grown = e.container.restart_count - i64::try_from(before.as_count()).ok()?;
    (grown >= 0).then_some((grown, before.at))
}

/// Restarts within the last ten minutes that the restart policy has not caused: after a stop, or without a policy. `docker restart` and
/// autoheal set `RestartCount` back to 0, and so does one start by hand after many restarts by the engine; each start is an event.
pub(super) fn from_outside(c: &Container, events: &[Event], now: Timestamp) -> i64 {
    let mut events: Vec<&Event> = events.iter().collect();
    events.sort_by_key(|event| event.at);
    let starts: Vec<usize> = (0..events.len()).filter(|at| events[*at].action == "start").collect();
    // the origin of the first known start is unknown
    let restarts = starts.windows(2).filter(|pair| {
        let (ended, start) = (&events[pair[0] + 1..pair[1]], events[pair[1]]);
        now.duration_since(start.at) < RECENT && !by_policy(c, ended, events.get(pair[1] + 1).copied())
    });
    i64::try_from(restarts.count()).unwrap_or(i64::MAX)
}

/// Whether the policy caused a start: by the events between the previous start and this one, and by the next event.
fn by_policy(c: &Container, ended: &[&Event], next: Option<&Event>) -> bool {
    let requested = ended.iter().any(|event| matches!(event.action.as_str(), "kill" | "stop"));
    // Podman has no stop in a restart; the event follows the start
    let restarted = next.is_some_and(|event| event.action == "restart");
    let succeeded = || ended.iter().any(|event| event.action == "die" && event.exit_code.as_deref() == Some("0"));
    let applies = match c.restart_policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => !succeeded(),
        _ => false,
    };
    applies && !requested && !restarted
}

/// Whether Podman is about to restart the container: it has no state `restarting`, and restarts without a pause.
fn is_between_runs(e: &Evidence, now: Timestamp) -> bool {
    let c = &e.container;
    let just_ended = c.state.finished_at.is_some_and(|ended| now.duration_since(ended) < MAX_PAUSE);
    // after a stop by hand the code is that of its signal, or 0
    let failed = !matches!(c.state.exit_code, 0 | 130 | 137 | 143);
    let restarts = matches!(c.restart_policy.name.as_str(), "always" | "unless-stopped");
    e.stop.podman && c.state.status == "exited" && c.restart_count > 0 && just_ended && failed && restarts
}

pub(super) fn judge(e: &Evidence, settings: &Settings, now: Timestamp) -> Option<Finding> {
    let c = &e.container;
    let grew = e.later.as_ref().is_some_and(|l| l.restart_count > c.restart_count);
    let young = c.state.started_at.is_some_and(|t| now.duration_since(t) < RECENT);
    let by_engine = c.restart_count > 0;
    // a container that has exited is not restarted any more, it was given up or stopped; unless it is between two runs
    let goes_on = c.state.restarting || c.state.running || grew || is_between_runs(e, now);
    if !goes_on {
        return None;
    }
    let restarts_by_hand = from_outside(c, &e.events, now);
    let recent = since_earlier_run(e, now);
    // of a counter that has grown over months only the last restarts are a loop
    let counted = recent.map_or(c.restart_count, |(restarts, _)| restarts);
    // it was OOM-killed and the limit was raised since: the cause of the loop is removed
    let cured = c.is_up()
        && e.later.as_ref().is_none_or(|l| !l.restarting)
        && oom::last_kill(e, now).is_some_and(|k| !k.current && !k.awaits_proof && killed_last(e, &k));
    let young = young && !cured;
    let severity = if c.state.restarting || grew || (young && counted >= settings.restarts_crit) {
        Severity::Crit
    } else if young && counted >= settings.restarts_warn {
        Severity::Warn
    } else if !by_engine && restarts_by_hand >= settings.restarts_crit {
        Severity::Crit
    } else if !by_engine && restarts_by_hand >= settings.restarts_warn {
        Severity::Warn
    } else if c.restart_count >= settings.restarts_crit || cured {
        Severity::Info
    } else {
        return None;
    };
    let name = &c.name;
    let last = exit_code(last_exit(e));
    let restarts = c.restart_count.max(e.later.as_ref().map_or(0, |l| l.restart_count));
    let message = if severity == Severity::Info {
        let since = c.state.started_at.map(|t| format!(" and has been up for {}", quantity::duration(now.duration_since(t))));
        format!("{name} was restarted {restarts} times in the past{}", since.unwrap_or_default())
    } else if by_engine || c.state.restarting {
        let all = quantity::count(usize::try_from(restarts).unwrap_or(0), "restart");
        let times = match recent {
            Some((recent, since)) if recent < restarts => {
                format!("{recent} of {all} in the last {}", quantity::duration(now.duration_since(since)))
            }
            _ => all,
        };
        with_reason(format!("{name} exits and is restarted repeatedly: {times}, last {last}"), &reason_of(e))
    } else {
        format!(
            "{name} was restarted {restarts_by_hand} times in the last 10 min by something other than its restart policy, last {last}"
        )
    };
    let mut finding = Finding::new(&RESTART_LOOP, severity, c.subject_of_all_runs(), message)
        .key(KeyKind::Container, &c.id)
        .key_opt(KeyKind::Unit, c.system_unit())
        .cite("last run", last_run(e))
        .cite("restart policy", &c.restart_policy.name);
    if let Some(unit) = c.system_unit() {
        finding = finding.hint(format!("the reason is in the log of the previous run; `systemctl stop {unit}` ends the loop"));
    } else if !by_engine && !c.state.restarting {
        finding = finding.key(KeyKind::Restarter, &c.id).cite_opt("health test", health::cited(e, now)).hint(
            "find the source of the restarts (an autoheal container, a cron job, an operator) and its reason; another restart does not help",
        );
    } else if severity != Severity::Info {
        finding = finding.fix(STOP_LOOP.id);
    }
    Some(finding)
}

/// The last run ended with this kill.
fn killed_last(e: &Evidence, kill: &oom::Kill) -> bool {
    let ended = e.container.state.finished_at;
    kill.at.zip(ended).is_some_and(|(at, ended)| ended.duration_since(at).abs() < SignedDuration::from_secs(10))
}

/// The exit code of the last run. For a running container the engine reports 0; the last `die` event has the real code.
pub(super) fn last_exit(e: &Evidence) -> i64 {
    let died = e.events.iter().filter(|ev| ev.action == "die").max_by_key(|ev| ev.at);
    match (e.container.is_up(), died.and_then(|ev| ev.exit_code.as_deref()).and_then(|c| c.parse().ok())) {
        (true, Some(code)) => code,
        _ => e.container.state.exit_code,
    }
}

fn last_run(e: &Evidence) -> String {
    let s = &e.container.state;
    match (s.started_at, s.finished_at) {
        (Some(start), Some(end)) if end > start => format!("lived {}", quantity::duration(end.duration_since(start))),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::probe::docker::{RestartPolicy, State};

    use super::super::state::Later;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 0).unwrap()
    }

    fn running(policy: &str, restart_count: i64) -> Container {
        let state = State { status: "running".into(), running: true, pid: 7, started_at: Some(at(-30)), ..State::default() };
        let restart_policy = RestartPolicy { name: policy.into(), maximum_retry_count: 0 };
        Container { id: "a".into(), name: "web".into(), state, restart_count, restart_policy, ..Container::default() }
    }

    /// One event each 10 s, the last one 30 s ago.
    fn events(actions: &str) -> Vec<Event> {
        let actions: Vec<&str> = actions.split(' ').collect();
        let first = -30 - 10 * i64::try_from(actions.len() - 1).unwrap();
        let event = |(second, action): (i64, &&str)| Event {
            at: at(second),
            container: "a".into(),
            action: (*action).to_owned(),
            signal: None,
            exit_code: (*action == "die").then(|| "1".to_owned()),
            name: None,
            image: None,
        };
        (first..).step_by(10).zip(&actions).map(event).collect()
    }

    fn evidence(container: Container, actions: &str) -> Evidence {
        Evidence { container, events: events(actions), ..Evidence::default() }
    }

    fn severity(e: &Evidence) -> Option<Severity> {
        judge(e, &Settings::default(), at(0)).map(|finding| finding.severity)
    }

    #[test]
    fn one_start_by_hand_after_a_loop_is_no_loop() {
        let looped = "start die start die start die start die start die start die start die start kill die stop start";
        let c = running("unless-stopped", 0);
        assert_eq!(from_outside(&c, &events(looped), at(0)), 1);
        assert_eq!(severity(&evidence(c, looped)), None);
    }

    #[test]
    fn restarts_through_the_api_are_counted_under_a_policy() {
        let healed = "start kill die stop start restart kill die stop start restart kill die stop start restart";
        assert_eq!(severity(&evidence(running("always", 0), healed)), Some(Severity::Warn));
    }

    #[test]
    fn starts_without_a_policy_are_counted() {
        let by_cron = "start die start die start die start die start die start";
        assert_eq!(severity(&evidence(running("no", 0), by_cron)), Some(Severity::Crit));
    }

    #[test]
    fn restart_of_podman_is_followed_by_its_event() {
        assert_eq!(from_outside(&running("always", 0), &events("start die start restart"), at(0)), 1);
        assert_eq!(from_outside(&running("always", 0), &events("start die start"), at(0)), 0);
    }

    #[test]
    fn restarts_before_an_earlier_run_are_no_loop() {
        let before = |minutes: i64, restarts| Some(Sample::count("a", METRIC, at(-60 * minutes), restarts));
        let mut e = evidence(running("always", 41), "start");
        assert_eq!(severity(&e), Some(Severity::Crit), "without an earlier run");
        e.restarts_before = before(50, 40);
        assert_eq!(severity(&e), Some(Severity::Info));
        e.restarts_before = before(50, 35);
        let found = judge(&e, &Settings::default(), at(0)).unwrap();
        assert!(found.message.contains("6 of 41 restarts in the last 50 min"), "{found:?}");
        // a run in the loop itself has not seen its beginning
        e.restarts_before = before(2, 39);
        assert_eq!(severity(&e), Some(Severity::Crit));
    }

    /// A container of Podman that failed some seconds ago.
    fn exited(seconds: i64, exit_code: i64) -> Evidence {
        let mut c = running("always", 8);
        c.state = State { status: "exited".into(), finished_at: Some(at(-seconds)), exit_code, running: false, ..c.state };
        let mut e = evidence(c, "start");
        e.stop.podman = true;
        e
    }

    #[test]
    fn container_of_podman_between_two_runs_is_in_its_loop() {
        assert_eq!(severity(&exited(1, 1)), Some(Severity::Crit));
    }

    #[test]
    fn stopped_container_is_in_no_loop() {
        assert_eq!((severity(&exited(1, 143)), severity(&exited(60, 1))), (None, None));
    }

    #[test]
    fn restart_during_the_check_is_a_loop() {
        let mut e = exited(60, 1);
        e.later = Some(Later { restart_count: 9, restarting: false });
        assert_eq!(severity(&e), Some(Severity::Crit));
    }

    #[test]
    fn counter_that_was_reset_counts_from_its_reset() {
        let mut e = evidence(running("always", 6), "start");
        e.restarts_before = Some(Sample::count("a", METRIC, at(-3000), 40));
        assert_eq!(severity(&e), Some(Severity::Crit));
    }
}
