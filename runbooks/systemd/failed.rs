//! A unit that failed: since when, how, and what it said last.

use opsctl_core::model::{Finding, Judged, Severity, quantity::ago};

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
    let message = format!("{} failed{when}: {}", unit.name, decode::outcome(unit, e.program_missing));
    let service = unit.service.as_ref();
    // the start limit shows only as the number of restarts before it: the result is that of the last run
    let tries = service.filter(|s| s.restarts > 0).map(|s| format!("{}, then systemd gave up", s.restarts));
    let mut finding = about(unit, &FAILED, severity, message)
        .since(unit.inactive_since)
        .cite("result", unit.outcome())
        .cite_opt("ExecStart", service.and_then(|s| s.exec_start.first().cloned()))
        .cite_opt("restarts by systemd", tries)
        .hint(hint(e));
    finding = with_journal(finding, e);
    if noise || unit.load == "not-found" {
        finding = finding.fix(RESET_FAILED.id);
    } else if service.is_some() {
        finding = finding.fix(RESTART.id);
    }
    Some(finding)
}

/// What to do first, by how it failed.
fn hint(e: &Evidence) -> String {
    let unit = &e.unit;
    match unit.service.as_ref().and_then(|s| s.program()) {
        Some(program) if e.program_missing => {
            format!("put {program} back, or correct ExecStart= in {}; then restart the unit", unit.fragment)
        }
        _ => format!("see why: `journalctl -u {} -b`; fix that, then restart it", unit.name),
    }
}
