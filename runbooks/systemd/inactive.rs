//! A unit that is enabled but inactive, although no unit failed. `systemctl --failed` does not list it.

use opsctl_core::model::{Finding, Judged, Severity, quantity::ago};
use opsctl_core::probe::logs::LogEvidence;

use super::decode::EXITED;
use super::unit::{ENABLED_INACTIVE, Evidence, START, about, explained, with_faults, with_journal};
use super::{Settings, names};

/// Types of units that stay active after their start, beside services.
const LASTING: &[&str] = &["socket", "path", "mount", "automount", "swap"];

/// Whether an active unit wants the unit, nothing starts it on demand, and its type is long-running or its start was removed.
pub(super) fn should_run(e: &Evidence) -> bool {
    let stays = match &e.unit.service {
        // a oneshot job ends; one with RemainAfterExit= that is inactive was not run, or was stopped
        Some(service) => service.kind != "oneshot" || service.remain_after_exit,
        None => LASTING.iter().any(|kind| e.unit.name.ends_with(&format!(".{kind}"))),
    };
    (stays || !e.cycle.is_empty()) && is_expected(e)
}

/// Whether the unit was to start at boot and was never started.
pub(super) fn never_ran(e: &Evidence) -> bool {
    e.unit.inactive_since.is_none() && e.unit.starting_since.is_none() && is_expected(e)
}

/// Whether an active unit wants the unit, nothing else starts it, and no unit that it starts is in use.
fn is_expected(e: &Evidence) -> bool {
    let u = &e.unit;
    let enabled = matches!(u.file_state.as_str(), "enabled" | "enabled-runtime");
    let is_wanted = u.wanted_by.iter().any(|w| e.others.get(w).is_some_and(|state| state == "active"));
    // an unmet ConditionPathExists= or similar is intended
    let barred = u.condition == Some(false);
    // a bus name or a trigger starts it on demand
    let on_demand = u.service.as_ref().is_some_and(|s| s.kind == "dbus") || !u.triggered_by.is_empty();
    // a service that was started without its socket runs, and one that failed is reported itself
    let in_use = u.triggers.iter().any(|t| e.others.get(t).is_some_and(|state| state != "inactive"));
    u.load == "loaded" && enabled && is_wanted && !barred && !on_demand && !in_use && e.job.is_empty()
}

/// Whether the unit belongs to a package and was never started: those of Red Hat enable a socket and start it at the next boot.
fn is_new(e: &Evidence) -> bool {
    let u = &e.unit;
    u.service.is_none() && !u.fragment.starts_with("/etc/") && u.inactive_since.is_none() && e.cycle.is_empty()
}

pub(super) fn judge(s: &Settings, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let u = &e.unit;
    if u.active != "inactive" || !should_run(e) {
        return None;
    }
    let service = u.service.as_ref();
    let broken: Vec<(&String, &String)> =
        u.requires.iter().filter_map(|r| e.others.get_key_value(r)).filter(|(_, state)| *state != "active").collect();
    // a socket of a service that is not in use: one that should run is reported itself
    if service.is_none() && !broken.is_empty() && broken.iter().all(|(_, state)| *state == "inactive") {
        return None;
    }
    let ended_by_itself = service.is_some_and(|s| s.exit_code_kind == EXITED && s.exit_status == 0);
    // a program that is not a daemon may be finished: Type=simple is also used for scripts
    let may_end = ended_by_itself && service.is_some_and(|s| s.kind == "simple" && s.restart == "no");
    let reason = match (broken.first(), u.inactive_since) {
        (Some((name, state)), _) if *state == "failed" => format!("{name}, which it requires, has failed"),
        (Some((name, state)), _) => format!("{name}, which it requires, is {state}"),
        (None, _) if !e.cycle.is_empty() => {
            format!("systemd removed its start from the boot to break an ordering cycle ({})", e.cycle.join(", "))
        }
        (None, None) => "it was never started since boot".to_owned(),
        (None, Some(t)) if ended_by_itself => format!("it exited with 0, {}", ago(judged.taken_at, t)),
        (None, Some(t)) => format!("it was stopped {}", ago(judged.taken_at, t)),
    };
    let harmless = (may_end || is_new(e)) && broken.is_empty() || service.is_none() && names::any(&s.noise_units, &u.name);
    let severity = if harmless { Severity::Info } else { Severity::Warn };
    let wanted_by: Vec<&str> = u.wanted_by.iter().map(String::as_str).collect();
    // the log of a service that was stopped by hand is not the reason
    let by_itself = broken.is_empty() && (ended_by_itself || u.inactive_since.is_none());
    let own_log = Evidence { log: LogEvidence::default(), ..e.clone() };
    let e = if by_itself { e } else { &own_log };
    let message = explained(&format!("{} is enabled but inactive: {reason}", u.name), e);
    let mut finding = about(u, &ENABLED_INACTIVE, severity, message)
        .since(u.inactive_since)
        .cite("wanted by", wanted_by.join(", "))
        .fix(START.id);
    for (name, _) in broken {
        finding = finding.needs(name);
    }
    finding = with_faults(with_journal(finding, e), e);
    if !e.cycle.is_empty() {
        finding = finding.hint(cycle_hint(&u.name));
    }
    Some(finding)
}

/// The next step for a unit that an ordering cycle removed.
pub(super) fn cycle_hint(unit: &str) -> String {
    format!(
        "remove one After= or Before= between these units: `systemd-analyze verify {unit}` prints the cycle; a start by hand \
         lasts until the next boot"
    )
}

/// Why a start does not last.
pub(super) fn cycle_recurs(cycle: &[String]) -> String {
    format!("the next boot removes its start or that of another unit of the ordering cycle again: {}", cycle.join(", "))
}
