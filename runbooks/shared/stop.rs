//! Origin of the end of a container: a stop that a client requested from the engine, or its own end.
//!
//! Docker keeps 256 events, and a health test adds three per run: with an interval of 2 s a stop is forgotten after three minutes. These
//! facts remain: stops that earlier runs of opsctl have seen, the engine's own mark, and its rules. Under a restart policy the engine
//! restarts a container after each end but a requested one (moby restartmanager), so a container that stays down was stopped, or its
//! policy was set later.
//!
//! The mark alone proves no stop under `unless-stopped`: each signal of `docker kill` sets it, also the SIGHUP of a reload, and after
//! the next restart of the engine the container stays down (moby#26087, moby#41302, moby#47792).

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Sample, quantity};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::docker::{Container, Docker, Event};
use serde::{Deserialize, Serialize};

/// Longest time between a stop and the end of the container: a stop takes at most its timeout, in practice some minutes (judgement).
const MAX_STOP_TIME: SignedDuration = SignedDuration::from_mins(5);

/// Part of [`MAX_STOP_TIME`] that the events have to cover to exclude a stop: the engine adds the event `stop` after the end (judgement).
const MIN_COVERED: SignedDuration = SignedDuration::from_secs(5);

/// An end within this time before a start of the engine was caused by a restart of the engine (judgement: the default stop timeout
/// of 10 s, and 5 s to start). A host takes longer to boot: an end before that was caused by its shutdown or by a stop before it.
const MAX_RESTART_TIME: SignedDuration = SignedDuration::from_secs(15);

/// Signals that usually reload a configuration, reopen logs or resume a process: HUP, USR1, USR2, CONT, WINCH (signal(7)). `docker stop`
/// with one of these adds the event `stop`.
const RELOAD_SIGNALS: &[&str] = &["1", "10", "12", "18", "28"];

/// Exit codes of a process that a fault ended: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, each plus 128.
const CRASH_CODES: &[i64] = &[132, 133, 134, 135, 136, 139];

/// Exit codes after a stop: 0, and SIGINT, SIGKILL and SIGTERM plus 128.
const STOP_CODES: &[i64] = &[0, 130, 137, 143];

/// Metric of a remembered stop.
const METRIC: &str = "stopped";

/// Age to which a remembered stop counts, in seconds: a year; the store deletes older samples by its own limit.
const MAX_AGE_S: i64 = 365 * 86_400;

/// A stop that a client requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// It ended at the stop signal.
    Stopped,
    /// It was killed at once.
    Killed,
    /// It was killed after its stop timeout.
    TimedOut,
}

impl Request {
    fn how(self) -> &'static str {
        match self {
            Self::Stopped => "stopped by hand",
            Self::Killed => "killed by hand (docker kill)",
            Self::TimedOut => "stopped by hand; it ignored the stop signal and was killed after its stop timeout",
        }
    }

    fn value(self) -> u64 {
        match self {
            Self::Stopped => 1,
            Self::Killed => 2,
            Self::TimedOut => 3,
        }
    }

    fn of(value: u64) -> Option<Self> {
        [Self::Stopped, Self::Killed, Self::TimedOut].into_iter().find(|request| request.value() == value)
    }
}

/// Facts about the end of a container, besides the engine's events. All are empty if the events show the stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StopFacts {
    /// Time from which the engine's events are complete, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) events_since: Option<Timestamp>,
    /// Start of the engine; with Podman, of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) engine_since: Option<Timestamp>,
    /// The engine is Podman.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) podman: bool,
    /// The engine's mark of a requested stop; `None` if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) marked: Option<bool>,
    /// The stop, as seen by an earlier run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remembered: Option<Request>,
}

/// The origin of an end: a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Completes "it was …".
    pub(crate) how: &'static str,
    /// The engine or an earlier run proves it.
    pub(crate) certain: bool,
    /// The request, if an event or an earlier run shows it.
    pub(crate) request: Option<Request>,
    /// Time from which the engine has events, if only its rules imply this stop.
    pub(crate) forgotten_before: Option<Timestamp>,
}

impl Stop {
    fn requested(request: Request) -> Self {
        Self { how: request.how(), certain: true, request: Some(request), forgotten_before: None }
    }

    fn inferred(certain: bool, facts: &StopFacts) -> Self {
        let how = if certain { "stopped by hand or by a tool" } else { "probably stopped by hand or by a tool" };
        Self { how, certain, request: None, forgotten_before: facts.events_since.filter(|_| !certain) }
    }

    /// The reason why the stop is inferred, as the end of a sentence; empty if it is known.
    pub(crate) fn note(&self, now: Timestamp) -> String {
        let back = |since| format!("; the engine's events go back only {}", quantity::duration(now.duration_since(since)));
        self.forgotten_before.map(back).unwrap_or_default()
    }
}

/// Reads the facts about the end of a container that does not run. Older events of it are added to `events`, those of the last hour.
pub(crate) async fn read(cx: &ProbeCx, docker: &Docker, c: &Container, events: &mut Vec<Event>) -> StopFacts {
    let mut facts = StopFacts::default();
    let policy = has_policy(c);
    let needed = c.state.status == "exited" && (policy || c.state.exit_code != 0);
    let Some(ended) = c.state.finished_at.filter(|_| needed && requested(c, events).is_none()) else { return facts };
    let engine = docker.of(&c.id);
    facts.podman = engine.is_podman();
    if let Ok(memory) = engine.event_memory(cx.systemd.as_deref()).await {
        facts.events_since = memory.since;
        facts.engine_since = memory.engine_since;
        let own: Vec<Event> = memory.events.iter().filter(|event| event.container == c.id).cloned().collect();
        // one of them may have been forgotten between the two requests
        let new: Vec<Event> = own.into_iter().filter(|event| !events.contains(event)).collect();
        events.extend(new);
        events.sort_by_key(|event| event.at);
    }
    if requested(c, events).is_some() {
        return StopFacts::default();
    }
    let remembered = cx.history.oldest(&object(&c.id, ended), METRIC, MAX_AGE_S);
    facts.remembered = remembered.and_then(|sample| Request::of(sample.as_count()));
    facts.marked = engine.stop_mark(&c.id).await;
    facts
}

/// The stop to remember for later runs: one that the events show.
pub(crate) fn sample(c: &Container, events: &[Event], now: Timestamp) -> Option<Sample> {
    let request = requested(c, events)?;
    let ended = c.state.finished_at?;
    // at the time of the end: a later run replaces it
    Some(Sample::count(object(&c.id, ended), METRIC, ended.min(now), request.value()))
}

/// The end of one run of a container.
fn object(id: &str, ended: Timestamp) -> String {
    format!("container:{id}@{}", ended.as_millisecond())
}

/// The origin of the end of a container, if it was stopped.
pub(crate) fn origin(c: &Container, events: &[Event], facts: &StopFacts) -> Option<Stop> {
    if let Some(request) = requested(c, events).or(facts.remembered) {
        return Some(Stop::requested(request));
    }
    let by_signal =
        || Stop { how: "stopped by a signal, probably by hand", certain: false, request: None, forgotten_before: None };
    inferred(c, facts).or_else(|| (c.state.exit_code == 143).then(by_signal))
}

/// The requested stop in the events.
fn requested(c: &Container, events: &[Event]) -> Option<Request> {
    let state = &c.state;
    let ended = state.finished_at?;
    // a restart by hand some minutes before is no stop of this run
    let begun = state.started_at.filter(|begun| *begun <= ended);
    let of_this_end =
        |event: &&Event| event.at.duration_since(ended).abs() < MAX_STOP_TIME && begun.is_none_or(|begun| event.at >= begun);
    let near = || events.iter().filter(of_this_end);
    let stop = near().any(|event| event.action == "stop");
    let reloads = |event: &Event| event.signal.as_deref().is_some_and(|signal| RELOAD_SIGNALS.contains(&signal));
    let kill = near().find(|event| event.action == "kill" && (stop || !reloads(event)));
    match kill.map(|event| event.signal.as_deref()) {
        None if !stop => None,
        Some(Some("9")) if state.exit_code == 137 => Some(Request::Killed),
        Some(Some(_)) if state.exit_code == 137 => Some(Request::TimedOut),
        _ => Some(Request::Stopped),
    }
}

/// A stop that the rules of the engine imply.
fn inferred(c: &Container, facts: &StopFacts) -> Option<Stop> {
    let state = &c.state;
    // an error of the engine is a failed start
    if state.status != "exited" || !state.error.is_empty() || facts.marked == Some(false) {
        return None;
    }
    let ended = state.finished_at?;
    let likely = || Some(Stop::inferred(false, facts));
    let by_fault = CRASH_CODES.contains(&state.exit_code);
    let covered = ended.checked_sub(MIN_COVERED).unwrap_or(ended);
    if facts.events_since.is_some_and(|since| since <= covered) {
        return None;
    }
    // the engine, or the host with Podman, has run since before the end
    let ran_through = facts.engine_since.map(|since| since <= ended);
    if facts.podman {
        return if restarted_by_policy(c) && ran_through == Some(true) { likely() } else { None };
    }
    if facts.marked.is_none() && (facts.events_since.is_none() || !restarted_by_policy(c)) {
        return None;
    }
    match c.restart_policy.name.as_str() {
        // the engine starts it at its own start in any case: there it failed
        "always" if ran_through == Some(false) => None,
        "always" if facts.marked == Some(true) && ran_through == Some(true) => Some(Stop::inferred(true, facts)),
        "unless-stopped" if by_fault || ended_with_engine(c, ended, facts) => None,
        "always" | "unless-stopped" => likely(),
        "on-failure" if restarted_by_policy(c) && ran_through == Some(true) => likely(),
        // a run that was restarted often enough, or without a policy: the mark may be that of an earlier signal
        _ if facts.marked == Some(true) && STOP_CODES.contains(&state.exit_code) => likely(),
        _ => None,
    }
}

/// Whether the engine was restarted when the container ended, or crashed with it.
fn ended_with_engine(c: &Container, ended: Timestamp, facts: &StopFacts) -> bool {
    let Some(since) = facts.engine_since else { return false };
    if c.state.started_at.is_some_and(|begun| begun > since) {
        return false;
    }
    let before = since.duration_since(ended);
    // after a crash the engine sets the end at its own start
    before < MAX_RESTART_TIME && before > -MIN_COVERED
}

fn has_policy(c: &Container) -> bool {
    matches!(c.restart_policy.name.as_str(), "always" | "unless-stopped" | "on-failure")
}

/// Whether the policy restarts the container after an end with this exit code.
fn restarted_by_policy(c: &Container) -> bool {
    let policy = &c.restart_policy;
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            c.state.exit_code != 0 && (policy.maximum_retry_count == 0 || c.restart_count < policy.maximum_retry_count)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::probe::docker::{RestartPolicy, State};

    use super::*;

    /// The container runs from 0 to 1000.
    const END: i64 = 1000;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 0).unwrap()
    }

    fn ended(policy: &str, exit_code: i64) -> Container {
        let state =
            State { status: "exited".into(), exit_code, started_at: Some(at(0)), finished_at: Some(at(END)), ..State::default() };
        let restart_policy = RestartPolicy { name: policy.into(), maximum_retry_count: 0 };
        Container { id: "a".into(), name: "web".into(), state, restart_policy, ..Container::default() }
    }

    fn event(second: i64, action: &str, signal: Option<&str>) -> Event {
        let signal = signal.map(str::to_owned);
        let (container, action) = ("a".to_owned(), action.to_owned());
        Event { at: at(second), container, action, signal, exit_code: None, name: None, image: None }
    }

    /// The engine runs since -5000, and its events begin two minutes after the end.
    fn forgotten() -> StopFacts {
        StopFacts { events_since: Some(at(END + 120)), engine_since: Some(at(-5000)), ..StopFacts::default() }
    }

    fn marked(marked: bool) -> StopFacts {
        StopFacts { marked: Some(marked), ..forgotten() }
    }

    /// Whether the origin is a stop, and a certain one.
    fn is_certain(c: &Container, facts: &StopFacts) -> Option<bool> {
        origin(c, &[], facts).map(|stop| stop.certain)
    }

    #[test]
    fn stop_in_the_events() {
        let events = [event(999, "kill", Some("15")), event(1000, "die", None), event(1000, "stop", None)];
        assert_eq!(requested(&ended("always", 0), &events), Some(Request::Stopped));
        assert_eq!(requested(&ended("always", 137), &events), Some(Request::TimedOut));
    }

    #[test]
    fn kill_in_the_events() {
        assert_eq!(requested(&ended("always", 137), &[event(1000, "kill", Some("9"))]), Some(Request::Killed));
    }

    #[test]
    fn reload_before_a_crash_is_no_stop() {
        let reload = [event(998, "kill", Some("1")), event(1000, "die", None)];
        assert_eq!(requested(&ended("unless-stopped", 1), &reload), None);
    }

    #[test]
    fn stop_signal_of_haproxy_is_that_of_a_stop() {
        let stop = [event(998, "kill", Some("10")), event(1000, "die", None), event(1000, "stop", None)];
        assert_eq!(requested(&ended("unless-stopped", 0), &stop), Some(Request::Stopped));
    }

    #[test]
    fn restart_by_hand_before_a_crash_is_no_stop() {
        let mut c = ended("always", 1);
        c.state.started_at = Some(at(900));
        assert_eq!(requested(&c, &[event(898, "kill", Some("15")), event(899, "stop", None)]), None);
    }

    #[test]
    fn stop_seen_by_an_earlier_run() {
        let facts = StopFacts { remembered: Some(Request::TimedOut), ..forgotten() };
        let stop = origin(&ended("unless-stopped", 137), &[], &facts).unwrap();
        assert!(stop.certain && stop.how.contains("ignored the stop signal"));
        assert!(stop.note(at(2000)).is_empty());
    }

    #[test]
    fn remembered_stop_is_that_of_the_same_end() {
        let c = ended("always", 0);
        let stored = sample(&c, &[event(1000, "kill", Some("15"))], at(1010)).unwrap();
        assert_eq!(stored.object, object("a", at(END)));
        assert_eq!(Request::of(stored.as_count()), Some(Request::Stopped));
        assert!(sample(&c, &[], at(1010)).is_none(), "an inferred stop is not stored");
    }

    #[test]
    fn engine_that_ran_through_has_stopped_what_it_does_not_restart() {
        for policy in ["always", "unless-stopped", "on-failure"] {
            assert_eq!(is_certain(&ended(policy, 1), &forgotten()), Some(false), "{policy}");
        }
        let stop = origin(&ended("always", 0), &[], &forgotten()).unwrap();
        assert_eq!(stop.note(at(END + 180)), "; the engine's events go back only 60 s");
    }

    #[test]
    fn mark_proves_a_stop_under_always_only() {
        assert_eq!(is_certain(&ended("always", 1), &marked(true)), Some(true));
        assert_eq!(is_certain(&ended("unless-stopped", 1), &marked(true)), Some(false));
    }

    #[test]
    fn unmarked_container_was_not_stopped() {
        for policy in ["always", "unless-stopped", "on-failure", "no"] {
            assert_eq!(is_certain(&ended(policy, 1), &marked(false)), None, "{policy}");
        }
    }

    #[test]
    fn events_that_cover_the_end_without_a_stop_exclude_one() {
        let facts = StopFacts { events_since: Some(at(-5000)), ..marked(true) };
        assert_eq!(is_certain(&ended("unless-stopped", 1), &facts), None);
    }

    #[test]
    fn container_that_the_engine_did_not_start_again_has_failed() {
        let facts = StopFacts { engine_since: Some(at(END + 5000)), ..forgotten() };
        assert_eq!(is_certain(&ended("always", 1), &facts), None);
        assert_eq!(is_certain(&ended("on-failure", 1), &facts), None);
        // the engine keeps a stop across its own restart
        assert_eq!(is_certain(&ended("unless-stopped", 1), &facts), Some(false));
    }

    /// moby#47792: after a SIGHUP the container is not started at the next boot.
    #[test]
    fn container_that_ended_with_the_engine_was_not_stopped() {
        for after in [2, -1] {
            let since = at(END + after);
            let facts = StopFacts { engine_since: Some(since), events_since: Some(since), ..marked(true) };
            assert_eq!(is_certain(&ended("unless-stopped", 0), &facts), None, "{after}");
        }
    }

    /// `docker compose stop` before a reboot leaves the same facts as a signal before it.
    #[test]
    fn stop_before_a_reboot_is_likely() {
        for after in [40, 300] {
            let since = at(END + after);
            let facts = StopFacts { engine_since: Some(since), events_since: Some(since), ..marked(true) };
            assert_eq!(is_certain(&ended("unless-stopped", 0), &facts), Some(false), "{after}");
            // the mark cannot be read without root
            let unread = StopFacts { marked: None, ..facts };
            assert_eq!(is_certain(&ended("unless-stopped", 0), &unread), Some(false), "{after}");
        }
    }

    #[test]
    fn crash_under_a_suspended_policy_was_no_stop() {
        assert_eq!(is_certain(&ended("unless-stopped", 139), &marked(true)), None);
    }

    #[test]
    fn last_of_the_permitted_restarts_was_no_stop() {
        let mut c = ended("on-failure", 1);
        (c.restart_policy.maximum_retry_count, c.restart_count) = (3, 3);
        assert_eq!(is_certain(&c, &forgotten()), None);
    }

    #[test]
    fn failed_start_was_no_stop() {
        let mut c = ended("always", 128);
        c.state.error = "context canceled".into();
        assert_eq!(is_certain(&c, &marked(true)), None);
    }

    #[test]
    fn container_without_a_policy_needs_the_mark_and_an_exit_code_of_a_stop() {
        assert_eq!(is_certain(&ended("no", 137), &marked(true)), Some(false));
        assert_eq!(is_certain(&ended("no", 1), &marked(true)), None);
        assert_eq!(is_certain(&ended("no", 137), &forgotten()), None);
    }

    /// podman#10539: without podman-restart.service no container is started after a boot.
    #[test]
    fn podman_restarts_no_container_after_a_boot() {
        let podman = |boot| StopFacts { podman: true, engine_since: Some(at(boot)), ..StopFacts::default() };
        assert_eq!(is_certain(&ended("always", 0), &podman(-5000)), Some(false));
        assert_eq!(is_certain(&ended("always", 0), &podman(END + 60)), None);
        assert_eq!(is_certain(&ended("no", 1), &podman(-5000)), None);
    }

    #[test]
    fn recording_without_facts_implies_nothing() {
        assert_eq!(is_certain(&ended("always", 1), &StopFacts::default()), None);
        assert_eq!(is_certain(&ended("always", 143), &StopFacts::default()), Some(false));
    }
}
