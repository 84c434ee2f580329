//! A failed unit: time, result and last log lines.

use opsctl_core::model::{
    Finding, Judged, Severity,
    quantity::{ago, bytes},
};
use opsctl_core::probe::kernel::kmsg::OomKill;

use super::unit::{Evidence, FAILED, RESET_FAILED, RESTART, about, with_journal};
use super::{Settings, decode, names};

pub(super) fn judge(s: &Settings, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let unit = &e.unit;
    if unit.active != "failed" {
        return None;
    }
    let noise = unit.transient || names::any(&s.noise_units, &unit.name);
    let severity = if noise {
        Severity::Info
    } else if names::any(&s.critical_units, &unit.name) {
        Severity::Crit
    } else {
        Severity::Warn
    };
    let when = unit.inactive_since.map(|t| format!(" {}", ago(judged.taken_at, t))).unwrap_or_default();
    let outcome = match &e.oom {
        Some(kill) => killed_for_memory(kill),
        None => decode::outcome(unit, e.program_missing),
    };
    let message = format!("{} failed{when}: {outcome}", unit.name);
    let service = unit.service.as_ref();
    // the start limit is visible only as the number of restarts: the result is that of the last run
    let tries = service.filter(|s| s.restarts > 0).map(|s| format!("{}, then the start limit was reached", s.restarts));
    let mut finding = about(unit, &FAILED, severity, message)
        .since(unit.inactive_since)
        .cite("result", unit.outcome())
        .cite_opt("kernel log", e.oom.as_ref().map(|k| format!("{:.0} {}", k.at, k.line)))
        .cite_opt("ExecStart", service.and_then(|s| s.exec_start.first().cloned()))
        .cite_opt("restarts by systemd", tries);
    if let Some(hint) = hint(e) {
        finding = finding.hint(hint);
    }
    finding = with_journal(finding, e);
    if noise || unit.load == "not-found" {
        finding = finding.fix(RESET_FAILED.id);
    } else if service.is_some() {
        finding = finding.fix(RESTART.id);
    }
    Some(finding)
}

/// A hint that is more specific than reading the journal.
fn hint(e: &Evidence) -> Option<String> {
    let program = e.unit.service.as_ref()?.program().filter(|_| e.program_missing)?;
    Some(format!("restore {program}, or correct ExecStart= in {}; then restart the unit", e.unit.fragment))
}

/// The message for an OOM kill. Neither the exit code nor, on older hosts, systemd reports it, but the kernel log does.
fn killed_for_memory(kill: &OomKill) -> String {
    match kill.limit.filter(|_| kill.limited_by.is_some()) {
        Some(limit) => format!("the kernel killed its {} at its {} memory limit", kill.task, bytes(limit)),
        None => format!("the kernel killed its {} for memory", kill.task),
    }
}
