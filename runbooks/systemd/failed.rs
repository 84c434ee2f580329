//! A failed unit: time, result and last log lines.

use opsctl_core::model::{
    Finding, Judged, Severity,
    quantity::{ago, bytes},
};
use opsctl_core::probe::kernel::kmsg::OomKill;

use super::unit::{Evidence, FAILED, RESET_FAILED, RESTART, about, explained, with_faults, with_journal};
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
        None => reason(e),
    };
    let message = format!("{} failed{when}: {outcome}", unit.name);
    let service = unit.service.as_ref();
    // the start limit is visible only as the number of restarts: the result is that of the last run
    let tries = service.filter(|s| s.restarts > 0).map(|s| format!("{}, then the start limit was reached", s.restarts));
    let command = decode::failed_command(unit);
    let mut finding = about(unit, &FAILED, severity, message)
        .since(unit.inactive_since)
        .cite("result", unit.outcome())
        .cite_opt("kernel log", e.oom.as_ref().map(|k| format!("{:.0} {}", k.at, k.line)))
        .cite_opt("failed command", command.map(|c| format!("{}={}", c.setting, c.line)))
        .cite_opt("ExecStart", service.and_then(|s| s.exec_start.first().cloned()))
        .cite_opt("restarts by systemd", tries);
    finding = with_journal(finding, e);
    if let Some(hint) = hint(e) {
        finding = finding.hint(hint);
    }
    finding = with_faults(finding, e);
    if noise || unit.load == "not-found" {
        finding = finding.fix(RESET_FAILED.id);
    } else if service.is_some() {
        finding = finding.fix(RESTART.id);
    }
    Some(finding)
}

/// The result of the last run, with the line of the log or the fault of a prerequisite that explains it.
fn reason(e: &Evidence) -> String {
    // a fault that is the result itself: a missing user, directory or file
    let fault = e.faults.first().and_then(|f| Some(f.clause() + &f.as_result(&e.unit)?));
    fault.unwrap_or_else(|| explained(&decode::outcome(&e.unit, e.program_missing, e.timed_out), e))
}

/// A hint that is more specific than that of the log.
fn hint(e: &Evidence) -> Option<String> {
    let unit = &e.unit;
    // the limit counts starts of the triggered unit: its failure comes first
    let kind = unit.name.rsplit('.').next().unwrap_or_default();
    if matches!(unit.outcome(), "service-start-limit-hit" | "trigger-limit-hit" | "unit-start-limit-hit") {
        let service = format!("{}service", unit.name.strip_suffix(kind).unwrap_or_default());
        return Some(format!(
            "fix the unit that it starts first (`journalctl -u {service} -b`); then `systemctl reset-failed {0} {service}` and \
             `systemctl start {0}`",
            unit.name
        ));
    }
    let program = unit.service.as_ref()?.program().filter(|_| e.program_missing)?;
    Some(format!("restore {program}, or correct ExecStart= in {}; then restart the unit", unit.fragment))
}

/// The message for an OOM kill. Neither the exit code nor, on older hosts, systemd reports it, but the kernel log does.
fn killed_for_memory(kill: &OomKill) -> String {
    match kill.limit.filter(|_| kill.limited_by.is_some()) {
        Some(limit) => format!("the kernel killed its {} at its {} memory limit", kill.task, bytes(limit)),
        None => format!("the kernel killed its {} for memory", kill.task),
    }
}
