//! Detection of OOM kills. An exit code of 137 alone proves none, and the engine's `OOMKilled` flag is often false for a real
//! one.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, KeyKind, Severity, quantity};
use opsctl_core::probe::kernel::kmsg::OomKill;

use super::state::{Evidence, OOM_KILLED, RAISE_MEMORY};

/// Older kills are history (judgement: 24 h).
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// Longest time that a container has to run to show that its new limit is enough (judgement: its restart is delayed by up to 60 s,
/// and a fix waits 150 s).
const MAX_PROOF: SignedDuration = SignedDuration::from_secs(75);

/// Delay of a restart by the engine: 100 ms, doubled after each run under 10 s, at most 60 s (moby restartmanager).
const MIN_BACKOFF_MS: i64 = 100;
const MAX_BACKOFF_MS: i64 = 60_000;
const STABLE_RUN: SignedDuration = SignedDuration::from_secs(10);

/// The last OOM kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kill {
    /// Time of the kill, if known.
    pub(super) at: Option<Timestamp>,
    /// Recent, and at a limit that was not raised since.
    pub(super) current: bool,
    /// Recent; the limit was raised since, and the container has not run long enough to be killed again.
    pub(super) awaits_proof: bool,
}

impl Kill {
    fn new(at: Option<Timestamp>, current: bool) -> Self {
        Self { at, current, awaits_proof: false }
    }
}

/// The last kill of a process in this container at its memory limit.
pub(super) fn last_kill(e: &Evidence, now: Timestamp) -> Option<Kill> {
    let recent = |at: Timestamp| now.duration_since(at) < RECENT;
    let logged = e.oom.iter().filter(|k| k.limited_by.is_some()).max_by_key(|k| k.at);
    let event = e.events.iter().filter(|ev| ev.action == "oom").map(|ev| ev.at).max();
    if let Some(kill) = logged {
        let (recent, raised) = (recent(kill.at), raised_since(e, kill));
        let awaits_proof = recent && raised && !could_fail_again(e, kill.at, now);
        return Some(Kill { at: Some(kill.at), current: recent && !raised, awaits_proof });
    }
    if let Some(at) = event {
        return Some(Kill::new(Some(at), recent(at)));
    }
    let state = &e.container.state;
    if state.oom_killed {
        let at = if state.running { state.started_at } else { state.finished_at };
        return Some(Kill::new(None, at.is_some_and(recent)));
    }
    // the counter lives as long as this run of the container
    if e.live_oom_kills.unwrap_or(0) > 0 {
        return Some(Kill::new(None, state.started_at.is_some_and(recent)));
    }
    None
}

/// The limit was raised after the kill, so the kill is history.
fn raised_since(e: &Evidence, kill: &OomKill) -> bool {
    let limit = u64::try_from(e.container.memory).unwrap_or(0);
    kill.limit.is_some_and(|then| limit == 0 || limit > then)
}

/// Whether the container has run long enough since the kill to be killed again. One that is down shows it at its next start.
fn could_fail_again(e: &Evidence, killed: Timestamp, now: Timestamp) -> bool {
    let state = &e.container.state;
    if !state.running && !state.restarting {
        return true;
    }
    if state.restarting || e.later.as_ref().is_some_and(|l| l.restarting) {
        return false;
    }
    let Some(started) = state.started_at else { return true };
    // the clock of the kernel log differs from that of the engine
    let ended_the_run = state.finished_at.is_some_and(|at| at.duration_since(killed).abs() < SignedDuration::from_secs(10));
    let is_of_this_run = !ended_the_run && started <= killed;
    is_of_this_run || now.duration_since(started) >= time_to_prove(e)
}

/// The length of the run that was killed, and the delay of its restart.
fn time_to_prove(e: &Evidence) -> SignedDuration {
    let Some(ended) = e.container.state.finished_at else { return MAX_PROOF };
    let starts = e.events.iter().filter(|ev| ev.action == "start" && ev.at < ended);
    // without the event the run was longer than the events go back
    let Some(begun) = starts.map(|ev| ev.at).max() else { return MAX_PROOF };
    let run = ended.duration_since(begun);
    let restarts = e.container.restart_count.clamp(0, 10);
    let backoff = if run >= STABLE_RUN { MIN_BACKOFF_MS } else { (MIN_BACKOFF_MS << restarts).min(MAX_BACKOFF_MS) };
    (run + SignedDuration::from_millis(backoff)).min(MAX_PROOF)
}

pub(super) fn judge(e: &Evidence, now: Timestamp) -> Option<Finding> {
    let kill = last_kill(e, now)?;
    let name = &e.container.name;
    let when = kill.at.map(|at| format!(", {}", quantity::ago(now, at))).unwrap_or_default();
    let limit = u64::try_from(e.container.memory).unwrap_or(0);
    let at_limit = if limit > 0 {
        format!(" at its {} limit", quantity::bytes(limit))
    } else {
        " at the memory limit of a parent control group".to_owned()
    };
    let last = e.oom.iter().filter(|k| k.limited_by.is_some()).max_by_key(|k| k.at);
    let child = e.container.is_up() && e.container.restart_count == 0;
    let message = if kill.awaits_proof {
        format!("{name} was OOM-killed{when}; its limit was raised since, and it has not yet run as long as before")
    } else if !kill.current {
        format!("{name} was OOM-killed{when}, before its limit was raised or more than 24 h ago")
    } else if child {
        let task = last.map_or_else(|| "a process".to_owned(), |k| format!("its process {}", k.task));
        format!("{task} in {name} was killed by the kernel{at_limit}{when}; the container itself keeps running")
    } else {
        format!("{name} was killed by the kernel{at_limit}{when}")
    };
    let severity = match (kill.current, kill.awaits_proof) {
        (true, _) => Severity::Crit,
        (false, true) => Severity::Warn,
        (false, false) => Severity::Info,
    };
    let mut finding = Finding::new(&OOM_KILLED, severity, e.container.subject_of_all_runs(), message)
        .since(kill.at)
        .key(KeyKind::Container, &e.container.id)
        .key_opt(KeyKind::Unit, e.container.system_unit())
        .cite_opt("kernel log", last.map(|k| format!("{:.0} out of memory: killed process {} ({})", k.at, k.pid, k.task)))
        .cite_opt("RSS when killed", last.and_then(|k| k.anon_rss_kib).map(|k| quantity::bytes(k.saturating_mul(1024))))
        .cite("exit", if e.container.is_up() { String::new() } else { super::decode::exit_code(e.container.state.exit_code) });
    let kills = e.oom.iter().filter(|k| k.limited_by.is_some()).count();
    if kills > 1 {
        finding = finding.cite("kills in the kernel log", kills.to_string());
    }
    if let Some(n) = e.live_oom_kills.filter(|n| *n > 0) {
        finding = finding.cite("kills counted by its control group", n.to_string());
    }
    finding = finding.cite_opt("kernel line", last.map(|k| k.line.clone()));
    if e.container.state.oom_killed {
        finding = finding.cite("engine", "OOMKilled=true");
    }
    if kill.current && limit > 0 {
        finding = finding.fix(RAISE_MEMORY.id);
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::probe::docker::{Container, Event, State};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + second, 0).unwrap()
    }

    /// A container that ran from second 0 to 6, was killed, and was started again at second 20. Its limit was raised meanwhile.
    fn raised() -> Evidence {
        let kill = OomKill {
            at: at(6),
            pid: 99,
            task: "eater".into(),
            limited_by: Some("/docker/x".into()),
            victim_cgroup: "/docker/x".into(),
            anon_rss_kib: None,
            limit: Some(16 << 20),
            invoked_by: None,
            score_adj: None,
            line: String::new(),
        };
        let state = State {
            status: "running".into(),
            running: true,
            pid: 7,
            started_at: Some(at(20)),
            finished_at: Some(at(6)),
            ..State::default()
        };
        let container = Container { name: "api".into(), state, restart_count: 5, memory: 32 << 20, ..Container::default() };
        let start = |second| Event {
            at: at(second),
            container: String::new(),
            action: "start".into(),
            signal: None,
            exit_code: None,
            name: None,
            image: None,
        };
        Evidence { container, oom: vec![kill], events: vec![start(0), start(20)], ..Evidence::default() }
    }

    fn severity(e: &Evidence, second: i64) -> Severity {
        judge(e, at(second)).unwrap().severity
    }

    #[test]
    fn kill_stays_open_until_the_container_has_run_as_long_as_before() {
        // 6 s of the run that was killed, and a delay of 3.2 s after the fifth restart
        assert_eq!(severity(&raised(), 28), Severity::Warn);
        assert_eq!(severity(&raised(), 30), Severity::Info);
    }

    #[test]
    fn kill_stays_open_during_the_delay_of_a_restart() {
        let mut e = raised();
        e.container.state.restarting = true;
        let found = judge(&e, at(60)).unwrap();
        assert_eq!(found.severity, Severity::Warn);
        assert!(found.fixes.is_empty() && found.message.contains("has not yet run as long as before"), "{found:?}");
    }

    #[test]
    fn run_of_unknown_length_is_proven_after_a_limit() {
        let mut e = raised();
        e.events.clear();
        assert_eq!((severity(&e, 90), severity(&e, 95)), (Severity::Warn, Severity::Info));
    }

    #[test]
    fn killed_child_of_a_running_container_needs_no_proof() {
        let mut e = raised();
        e.container.state.started_at = Some(at(-500));
        e.container.state.finished_at = None;
        assert_eq!(severity(&e, 10), Severity::Info);
    }

    #[test]
    fn container_that_is_down_needs_no_proof() {
        let mut e = raised();
        (e.container.state.running, e.container.state.pid) = (false, 0);
        assert_eq!(severity(&e, 30), Severity::Info);
    }
}
