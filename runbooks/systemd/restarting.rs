//! Restart loops. A service that exits and is restarted is `active (running)` most of the time and never in `systemctl --failed`.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Finding, Judged, Severity, quantity::duration};

use super::unit::{Evidence, RESTART_LOOP, about, explained, with_faults, with_journal};
use super::{Settings, decode, names};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const SHORT: SignedDuration = SignedDuration::from_mins(5);

/// Without the journal: the number of restarts, and the maximum age of the last one.
const BLIND_RESTARTS: u64 = 3;
const BLIND_RUN: SignedDuration = SignedDuration::from_mins(10);

/// Whether the counters indicate a loop, without the journal.
pub(super) fn suspected(now: Timestamp, e: &Evidence) -> bool {
    let restarts = e.unit.service.as_ref().map_or(0, |s| s.restarts);
    let young = e.unit.changed.is_some_and(|t| now.duration_since(t) < BLIND_RUN);
    restarts > 0 && young
}

pub(super) fn judge(s: &Settings, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let unit = &e.unit;
    let service = unit.service.as_ref()?;
    // a unit at its start limit is reported as failed
    if unit.active == "failed" || unit.active == "inactive" {
        return None;
    }
    let within = |span: SignedDuration| e.restarts.iter().filter(|t| judged.taken_at.duration_since(**t) < span).count();
    let (minute, short, hour) = (within(MINUTE), within(SHORT), within(SignedDuration::from_hours(1)));
    let waiting = unit.sub.starts_with("auto-restart");
    let blind = e.journal_gap.is_some() && service.restarts >= BLIND_RESTARTS && suspected(judged.taken_at, e);
    let how_often = if short > s.restarts_5min {
        format!("{short} times in {}, limit {}", duration(SHORT), s.restarts_5min)
    } else if hour > s.restarts_hour {
        format!("{hour} times in an hour, limit {}", s.restarts_hour)
    } else if minute >= s.restarts_1min {
        format!("{minute} times in a minute, limit {}", s.restarts_1min)
    } else if let Some(more) = since_last_run(e) {
        format!("{} since {:.0}", times(more), e.before.as_ref().map_or(judged.taken_at, |b| b.at))
    } else if blind || waiting {
        format!("{} since it was started", times(service.restarts))
    } else {
        return None;
    };
    // after the first restart the service often stays up
    let severity = if (waiting && service.restarts >= BLIND_RESTARTS) || names::any(&s.critical_units, &unit.name) {
        Severity::Crit
    } else {
        Severity::Warn
    };
    let now = if waiting { "it is down between two runs" } else { "it is running now" };
    let message = if waiting && service.restarts == 0 {
        format!("{} exited and waits for its first restart", unit.name)
    } else {
        format!("systemd restarted {} {how_often}; {now}", unit.name)
    };
    // a running service has no result yet; the previous run's result counts
    let ended = if service.result == "success" && service.exit_code_kind == 0 {
        None
    } else {
        Some(decode::outcome(unit, false, e.timed_out))
    };
    let finding = about(unit, &RESTART_LOOP, severity, explained(&message, e))
        .since(e.restarts.first().copied())
        .cite_opt("result of its last run", ended.filter(|o| o != "success"))
        .cite("Restart=", &service.restart);
    Some(with_faults(with_journal(finding, e), e))
}

/// Restarts since the last run of opsctl if the journal is not readable; `None` for fewer than two.
fn since_last_run(e: &Evidence) -> Option<u64> {
    let before = e.before.as_ref().filter(|_| e.journal_gap.is_some())?;
    let grown = e.unit.service.as_ref()?.restarts as f64 - before.value;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of restarts")]
    (grown >= 2.0).then_some(grown as u64)
}

fn times(n: u64) -> String {
    if n == 1 { "once".to_owned() } else { format!("{n} times") }
}
