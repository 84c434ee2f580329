//! A service that is enabled but inactive, although no unit failed. `systemctl --failed` does not list it.

use opsctl_core::model::{Finding, Judged, Severity, quantity::ago};

use super::decode::EXITED;
use super::unit::{ENABLED_INACTIVE, Evidence, START, about, with_journal};

/// Whether an active unit wants the service, nothing starts it on demand, and its type is long-running.
pub(super) fn should_run(e: &Evidence) -> bool {
    let u = &e.unit;
    let Some(service) = &u.service else { return false };
    let enabled = matches!(u.file_state.as_str(), "enabled" | "enabled-runtime");
    // a oneshot job ends; one with RemainAfterExit= that is inactive was not run, or was stopped
    let stays = service.kind != "oneshot" || service.remain_after_exit;
    let is_wanted = u.wanted_by.iter().any(|w| e.others.get(w).is_some_and(|state| state == "active"));
    // an unmet ConditionPathExists= or similar is intended
    let barred = u.condition == Some(false);
    // a bus name or a trigger starts it on demand
    let on_demand = service.kind == "dbus" || !u.triggered_by.is_empty();
    u.load == "loaded" && enabled && stays && is_wanted && !barred && !on_demand && e.job.is_empty()
}

pub(super) fn judge(judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
    let u = &e.unit;
    if u.active != "inactive" || !should_run(e) {
        return None;
    }
    let service = u.service.as_ref()?;
    let broken: Vec<(&String, &String)> =
        u.requires.iter().filter_map(|r| e.others.get_key_value(r)).filter(|(_, state)| *state != "active").collect();
    let ended_by_itself = service.exit_code_kind == EXITED && service.exit_status == 0;
    // a program that is not a daemon may be finished: Type=simple is also used for scripts
    let may_end = ended_by_itself && service.kind == "simple" && service.restart == "no";
    let reason = match (broken.first(), u.inactive_since) {
        (Some((name, state)), _) if *state == "failed" => format!("{name}, which it requires, has failed"),
        (Some((name, state)), _) => format!("{name}, which it requires, is {state}"),
        (None, None) => "it was never started since boot".to_owned(),
        (None, Some(t)) if ended_by_itself => format!("it exited with 0, {}", ago(judged.taken_at, t)),
        (None, Some(t)) => format!("it was stopped {}", ago(judged.taken_at, t)),
    };
    let severity = if may_end && broken.is_empty() { Severity::Info } else { Severity::Warn };
    let wanted_by: Vec<&str> = u.wanted_by.iter().map(String::as_str).collect();
    let mut finding = about(u, &ENABLED_INACTIVE, severity, format!("{} is enabled but inactive: {reason}", u.name))
        .since(u.inactive_since)
        .cite("wanted by", wanted_by.join(", "))
        .fix(START.id);
    for (name, _) in broken {
        finding = finding.needs(name);
    }
    Some(with_journal(finding, e))
}
