//! Detection of OOM kills. An exit code of 137 alone proves none, and the engine's `OOMKilled` flag is often false for a real
//! one.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, KeyKind, Severity, quantity};
use opsctl_core::probe::kernel::kmsg::OomKill;

use super::state::{Evidence, OOM_KILLED, RAISE_MEMORY};

/// Older kills are history (judgement: 24 h).
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// The last OOM kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kill {
    /// Time of the kill, if known.
    pub(super) at: Option<Timestamp>,
    /// Recent, and at a limit that was not raised since.
    pub(super) current: bool,
}

/// The last kill of a process in this container at its memory limit.
pub(super) fn last_kill(e: &Evidence, now: Timestamp) -> Option<Kill> {
    let recent = |at: Timestamp| now.duration_since(at) < RECENT;
    let logged = e.oom.iter().filter(|k| k.limited_by.is_some()).max_by_key(|k| k.at);
    let event = e.events.iter().filter(|ev| ev.action == "oom").map(|ev| ev.at).max();
    if let Some(kill) = logged {
        return Some(Kill { at: Some(kill.at), current: recent(kill.at) && !raised_since(e, kill) });
    }
    if let Some(at) = event {
        return Some(Kill { at: Some(at), current: recent(at) });
    }
    let state = &e.container.state;
    if state.oom_killed {
        let at = if state.running { state.started_at } else { state.finished_at };
        return Some(Kill { at: None, current: at.is_some_and(recent) });
    }
    // the counter lives as long as this run of the container
    if e.live_oom_kills.unwrap_or(0) > 0 {
        return Some(Kill { at: None, current: state.started_at.is_some_and(recent) });
    }
    None
}

/// The limit was raised after the kill, so the kill is history.
fn raised_since(e: &Evidence, kill: &OomKill) -> bool {
    let limit = u64::try_from(e.container.memory).unwrap_or(0);
    kill.limit.is_some_and(|then| limit == 0 || limit > then)
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
    let message = if !kill.current {
        format!("{name} was OOM-killed{when}, before its limit was raised or more than 24 h ago")
    } else if child {
        let task = last.map_or_else(|| "a process".to_owned(), |k| format!("its process {}", k.task));
        format!("{task} in {name} was killed by the kernel{at_limit}{when}; the container itself keeps running")
    } else {
        format!("{name} was killed by the kernel{at_limit}{when}")
    };
    let severity = if kill.current { Severity::Crit } else { Severity::Info };
    let mut finding = Finding::new(&OOM_KILLED, severity, e.container.subject_of_all_runs(), message)
        .since(kill.at)
        .key(KeyKind::Container, &e.container.id)
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
