//! Plans of fixes for units, and their preconditions.

use std::time::Duration;

use opsctl_core::model::{Action, CheckSpec, Finding, FixSpec, Judged, Plan, Refusal, Risk};

use super::unit::{Evidence, RELOAD, RESET_FAILED, RESTART, START, ended_with_error};
use super::{inactive, names};
use crate::shared::obstacle::refuse_while_prevented;

/// Time a unit must stay up to count as fixed: long enough to detect a service that exits again at once.
const STAYS: Duration = Duration::from_secs(10);
/// Time limit of a start; extended while the unit is still activating.
const STARTS: Duration = Duration::from_secs(20);

/// Plans a fix. `check` reported the fault, and verifies the fix.
pub(super) fn plan(fix: &str, check: &CheckSpec, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
    let unit = e.unit.name.clone();
    let new = |spec: &FixSpec, actions| Plan::new(spec, check, finding, judged.target, actions);
    if fix == RELOAD.id {
        return Ok(new(&RELOAD, vec![Action::ReloadUnits])
            .affects(["all unit files are reloaded; running units are not affected".to_owned()]));
    }
    if fix == RESET_FAILED.id {
        return Ok(new(&RESET_FAILED, vec![Action::ResetFailedUnit { unit }])
            .affects([format!("its result ({}) is cleared; the journal keeps its lines", e.unit.outcome())]));
    }
    can_start(e)?;
    // the undo stops the unit again, but a running job must not be aborted
    let job = e.unit.service.as_ref().is_some_and(|s| s.kind == "oneshot" && !s.remain_after_exit);
    let stop = if job { Vec::new() } else { vec![Action::StopUnit { unit: unit.clone() }] };
    if fix == START.id {
        let plan = new(&START, vec![Action::StartUnit { unit }]).undo(stop).verified(STARTS, STAYS);
        return Ok(if e.cycle.is_empty() { plan } else { plan.recurs(inactive::cycle_recurs(&e.cycle)) });
    }
    let restart = Action::RestartUnit { unit: unit.clone() };
    if !names::is_firewall(&unit) {
        return Ok(new(&RESTART, vec![restart]).undo(stop).verified(STARTS, STAYS));
    }
    if let Some(why) = &e.engine_rules_gap {
        return Err(Refusal::Precondition(format!(
            "the packet filter could not be read, so the container engine's rules could not be checked afterwards: {why}"
        )));
    }
    // stopping a firewall again would open the ports it has just closed: no undo
    let mut actions = vec![restart];
    if !e.engine_rules.is_empty() {
        actions.push(Action::KeepEngineRules { rules: e.engine_rules.clone() });
    }
    let mut plan =
        new(&RESTART, actions)
            .affects(["the packet filter is rewritten: connections can be cut, including this one".to_owned()])
            .affects((!e.engine_rules.is_empty()).then(|| {
                "published ports of containers, if it removes the engine's rules; these are checked afterwards".to_owned()
            }))
            .downtime("a moment, or until the engine is restarted if its rules are removed")
            .verified(STARTS, STAYS);
    plan.risk = Risk::R3;
    Ok(plan)
}

/// Checks whether a start can succeed, and may be done automatically.
fn can_start(e: &Evidence) -> Result<(), Refusal> {
    let u = &e.unit;
    let by_hand = |instruction: String| Err(Refusal::ByHand(instruction));
    if names::is_lifeline(&u.name) {
        return by_hand(format!("systemctl restart {}, with a second connection open: it could cut off the current one", u.name));
    }
    let refuse = |why: String| Err(Refusal::Precondition(why));
    if u.load != "loaded" {
        return refuse(format!("{} is {}: it cannot be started", u.name, u.load));
    }
    let service = u.service.as_ref();
    if e.program_missing {
        let program = service.and_then(|s| s.program()).unwrap_or("its program");
        return refuse(format!("{program} does not exist: restore it first"));
    }
    if u.need_reload {
        return refuse(
            "its unit file was changed since systemd loaded it: run `opsctl fix systemd.daemon-reload` first".to_owned(),
        );
    }
    let required = u.requires.iter().filter_map(|r| e.others.get_key_value(r));
    if let Some((name, state)) = required.into_iter().find(|(_, state)| !matches!(state.as_str(), "active" | "reloading")) {
        return refuse(format!("{name}, which it requires, is {state}"));
    }
    if let Some(fault) = e.faults.first() {
        return refuse(fault.refusal());
    }
    if !ended_with_error(u) {
        return Ok(());
    }
    // a line of systemd names no object: the prerequisites were checked above
    let reason = e.log.reason().filter(|reason| reason.object.is_some() || e.log_obstacle.is_some());
    refuse_while_prevented(reason.as_ref(), e.log_obstacle.as_ref(), &format!("systemctl restart {}", u.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use jiff::Timestamp;
    use opsctl_core::model::{Kind, Object, Severity};
    use opsctl_core::probe::systemd::{Service, Unit};

    use super::super::fault::{Fault, PathState};
    use super::super::unit::{ENABLED_INACTIVE, FAILED, SPEC, about};
    use super::*;

    fn failed(name: &str) -> Evidence {
        let service = Service { exec_start: vec!["/usr/bin/app".into()], ..Service::default() };
        let unit =
            Unit { name: name.into(), load: "loaded".into(), active: "failed".into(), service: Some(service), ..Unit::default() };
        Evidence { unit, ..Evidence::default() }
    }

    fn restart(e: &Evidence) -> Result<Plan, Refusal> {
        let target = Object::named(Kind::Unit, &e.unit.name);
        let finding = about(&e.unit, &FAILED, Severity::Warn, "failed".into());
        plan(RESTART.id, &SPEC, &finding, &Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH }, e)
    }

    #[test]
    fn lifelines_are_restarted_by_hand_only() {
        for name in ["ssh.service", "sshd.service", "networking.service", "systemd-networkd.service", "dbus.service"] {
            assert!(matches!(restart(&failed(name)), Err(Refusal::ByHand(_))), "{name}");
        }
    }

    #[test]
    fn unstartable_units_are_refused() {
        let missing = Evidence { program_missing: true, ..failed("app.service") };
        assert!(restart(&missing).unwrap_err().to_string().contains("/usr/bin/app does not exist"));
        let mut needs = failed("app.service");
        needs.unit.requires = vec!["db.service".into()];
        needs.others.insert("db.service".into(), "failed".into());
        assert!(restart(&needs).unwrap_err().to_string().contains("db.service, which it requires, is failed"));
        let mut edited = failed("app.service");
        edited.unit.need_reload = true;
        assert!(restart(&edited).unwrap_err().to_string().contains("daemon-reload"));
        assert_eq!(restart(&failed("app.service")).unwrap().risk, Risk::R2);
    }

    #[test]
    fn start_is_refused_while_a_prerequisite_is_missing() {
        let path = Fault::Path { of: "EnvironmentFile=".into(), path: "/etc/app.env".into(), state: PathState::Missing };
        let without_file = Evidence { faults: vec![path], ..failed("app.service") };
        let refusal = restart(&without_file).unwrap_err().to_string();
        assert_eq!(refusal, "its EnvironmentFile= /etc/app.env does not exist: restore it first");
        let invalid = Fault::Configuration { command: "nginx -t".into(), error: "[emerg] unknown directive \"servr\"".into() };
        let nginx = Evidence { faults: vec![invalid], ..failed("nginx.service") };
        assert!(restart(&nginx).unwrap_err().to_string().starts_with("`nginx -t` fails: [emerg] unknown directive"));
    }

    #[test]
    fn start_of_a_unit_in_an_ordering_cycle_recurs() {
        let mut e = failed("app.service");
        e.cycle = vec!["app.service".into(), "a.service".into()];
        let target = Object::named(Kind::Unit, &e.unit.name);
        let finding = about(&e.unit, &ENABLED_INACTIVE, Severity::Warn, "inactive".into());
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        let plan = plan(START.id, &SPEC, &finding, &judged, &e).unwrap();
        assert!(plan.recurs.unwrap().ends_with("ordering cycle again: app.service, a.service"));
    }

    #[test]
    fn oneshot_jobs_have_no_undo() {
        let mut backup = failed("backup.service");
        assert!(!restart(&backup).unwrap().undo.is_empty());
        let service = backup.unit.service.as_mut().unwrap();
        service.kind = "oneshot".into();
        assert!(restart(&backup).unwrap().undo.is_empty());
    }

    #[test]
    fn firewall_restart_is_r3_and_checks_engine_rules() {
        let mut firewall = failed("iptables.service");
        firewall.engine_rules = vec!["nat :DOCKER -".into()];
        let plan = restart(&firewall).unwrap();
        assert_eq!(plan.risk, Risk::R3);
        assert!(matches!(&plan.actions[..], [Action::RestartUnit { .. }, Action::KeepEngineRules { .. }]), "{:?}", plan.actions);
        assert!(plan.undo.is_empty(), "stopping the firewall would open the ports again");
        firewall.engine_rules_gap = Some("permission denied".into());
        assert!(restart(&firewall).is_err(), "without a readable packet filter the restart is refused");
    }
}
