//! Detection of restart loops.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, KeyKind, Severity, quantity};

use super::Settings;
use super::decode::exit_code;
use super::oom;
use super::state::{Evidence, RESTART_LOOP, STOP_LOOP, reason_of};
use crate::shared::log_reason::with_reason;

/// Age of a start from which the restart counter is history (judgement: 10 min).
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// Starts within the last ten minutes in the engine's events.
pub(super) fn recent_starts(e: &Evidence, now: Timestamp) -> usize {
    e.events.iter().filter(|ev| ev.action == "start" && now.duration_since(ev.at) < RECENT).count()
}

pub(super) fn judge(e: &Evidence, settings: &Settings, now: Timestamp) -> Option<Finding> {
    let c = &e.container;
    let grew = e.later.as_ref().is_some_and(|l| l.restart_count > c.restart_count);
    let young = c.state.started_at.is_some_and(|t| now.duration_since(t) < RECENT);
    let by_engine = c.restart_count > 0;
    // a container that has exited is not restarted any more: it was given up, or stopped
    let goes_on = c.state.restarting || c.state.running;
    // the first start is none; `docker restart` and autoheal set RestartCount back to 0, but every start is an event
    let restarts_by_hand = i64::try_from(recent_starts(e, now).saturating_sub(1)).unwrap_or(0);
    if !goes_on {
        return None;
    }
    // it was OOM-killed and the limit was raised since: the cause of the loop is removed
    let cured = c.is_up()
        && e.later.as_ref().is_none_or(|l| !l.restarting)
        && oom::last_kill(e, now).is_some_and(|k| !k.current && killed_last(e, &k));
    let young = young && !cured;
    let severity = if c.state.restarting || grew || (young && c.restart_count >= settings.restarts_crit) {
        Severity::Crit
    } else if young && c.restart_count >= settings.restarts_warn {
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
        with_reason(format!("{name} exits and is restarted repeatedly: {restarts} restarts, last {last}"), &reason_of(e))
    } else {
        format!(
            "{name} was restarted {restarts_by_hand} times in the last 10 min by something other than its restart policy, last {last}"
        )
    };
    let mut finding = Finding::new(&RESTART_LOOP, severity, c.subject_of_all_runs(), message)
        .key(KeyKind::Container, &c.id)
        .cite("last run", last_run(e))
        .cite("restart policy", &c.restart_policy.name);
    if !by_engine && !c.state.restarting {
        finding = finding.key(KeyKind::Restarter, &c.id).hint(
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
