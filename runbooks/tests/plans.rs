//! Plans of fixes for recorded evidence (`runbooks/*/fixtures/*.json`): the reason that was found permits the fix, or the plan is
//! refused with its text. The rows of `docs/fixes.md` name these tests.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::path::Path;

use opsctl_core::model::{EvidenceText, Judged, Object, Plan, Refusal, Risk};
use serde_json::{Value, json};

/// The plans of `fix` for the findings of a fixture after `change` of its evidence; empty if no finding offers it.
fn plans(fixture: &str, fix: &str, change: impl FnOnce(&mut Value)) -> Vec<Result<Plan, Refusal>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{}.json", fixture.replacen('/', "/fixtures/", 1)));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut case: Value = serde_json::from_str(&text).unwrap();
    change(&mut case["evidence"]);
    let target: Object = serde_json::from_value(case["target"].clone()).unwrap();
    let taken_at: jiff::Timestamp = serde_json::from_value(case["taken_at"].clone()).unwrap();
    let judged = Judged { target: &target, taken_at };
    let evidence = EvidenceText::of(&case["evidence"]).unwrap();
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    let check = runbooks.iter().flat_map(|r| &r.checks).find(|c| case["check"] == c.spec().id).unwrap();
    let findings = check.judge(&judged, &evidence).unwrap().findings;
    let offering = findings.iter().filter(|f| f.fixes.iter().any(|offered| offered == fix));
    offering.map(|f| check.plan(fix, f, &judged, &evidence).unwrap()).collect()
}

/// The only plan of a fix that is permitted.
fn permitted(fixture: &str, fix: &str, change: impl FnOnce(&mut Value)) -> Plan {
    let mut plans = plans(fixture, fix, change);
    assert_eq!(plans.len(), 1, "{fixture}: {plans:?}");
    plans.remove(0).unwrap_or_else(|refusal| panic!("{fixture}: {refusal}"))
}

/// The text of the refusal of a fix that is offered.
fn refused(fixture: &str, fix: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut plans = plans(fixture, fix, change);
    assert_eq!(plans.len(), 1, "{fixture}: {plans:?}");
    plans.remove(0).err().unwrap_or_else(|| panic!("{fixture}: {fix} is planned")).to_string()
}

fn unchanged(_: &mut Value) {}

#[test]
fn container_that_went_down_is_started() {
    let plan = permitted("container/state-always-down", "container.start", unchanged);
    assert!(plan.risk == Risk::R2 && !plan.undo.is_empty(), "{plan:?}");
}

#[test]
fn container_of_a_unit_is_started_by_its_unit() {
    let of_unit = |e: &mut Value| e["container"]["labels"] = json!({"PODMAN_SYSTEMD_UNIT": "web.service"});
    let plan = permitted("container/state-always-down", "container.start", of_unit);
    assert_eq!(plan.actions, [opsctl_core::model::Action::StartUnit { unit: "web.service".to_owned() }]);
    assert_eq!(plan.undo, [opsctl_core::model::Action::StopUnit { unit: "web.service".to_owned() }]);
    assert!(plans("container/state-unit-crash-loop", "container.stop-loop", unchanged).is_empty());
}

#[test]
fn container_that_would_fail_again_is_not_started() {
    let start = |fixture: &str, change: &dyn Fn(&mut Value)| refused(fixture, "container.start", change);
    assert!(start("container/state-port-taken", &|_| {}).contains("is in use by container other"));
    assert!(start("container/state-always-down", &|e| e["image_present"] = false.into()).contains("is not on this host"));
    assert!(start("container/state-database-full", &|_| {}).contains("is a database and /var has no space left"));
    assert!(start("container/state-start-wrapped-error", &|_| {}).contains("the start would fail again"));
}

/// Evidence of a failure with this reason in its log, checked again with this result.
fn logged(field: &'static str, text: &'static str, obstacle: Value) -> impl Fn(&mut Value) {
    move |e| {
        e[field] = json!({"entries": [{"text": text, "level": "error", "count": 1}]});
        e["log_obstacle"] = obstacle.clone();
    }
}

const MISSING_FILE: &str = "open /etc/app/app.yml: no such file or directory";
const REJECTED_LOGIN: &str = "FATAL: password authentication failed for user \"app\"";
const REFUSED_PEER: &str = "dial tcp 172.18.0.3:5432: connect: connection refused";

#[test]
fn container_is_started_once_the_reason_in_its_log_is_removed() {
    let gone = logged("reason", MISSING_FILE, json!({"gone": "/etc/app/app.yml exists"}));
    assert_eq!(permitted("container/state-always-down", "container.start", gone).risk, Risk::R2);
    // a reason that may disappear by itself
    let unchecked = logged("reason", REFUSED_PEER, Value::Null);
    assert_eq!(permitted("container/state-always-down", "container.start", unchecked).risk, Risk::R2);
}

#[test]
fn container_is_not_started_while_the_reason_in_its_log_remains() {
    for (text, obstacle, expected) in [
        (MISSING_FILE, json!({"present": "/etc/app/app.yml still does not exist"}), "/etc/app/app.yml still does not exist"),
        (REFUSED_PEER, json!({"present": "db does not run"}), "db does not run"),
        ("KeyError: 'DATABASE_URL'", json!("permanent"), "the required setting DATABASE_URL is missing"),
    ] {
        let refused = refused("container/state-always-down", "container.start", logged("reason", text, obstacle));
        assert!(refused.contains(&format!("the start would fail again: {expected}")), "{refused}");
    }
}

#[test]
fn permanent_reason_that_cannot_be_checked_is_left_to_the_operator() {
    let refused = refused("container/state-always-down", "container.start", logged("reason", REJECTED_LOGIN, Value::Null));
    assert!(refused.contains("this reason cannot be checked again") && refused.contains("`docker start web`"), "{refused}");
}

#[test]
fn unit_is_restarted_once_the_reason_in_its_log_is_removed() {
    let gone = logged("log", MISSING_FILE, json!({"gone": "/etc/app/app.yml exists"}));
    assert_eq!(permitted("systemd/failed-script", "systemd.restart", gone).risk, Risk::R2);
    let killed = |e: &mut Value| {
        logged("log", MISSING_FILE, json!({"present": "/etc/app/app.yml still does not exist"}))(e);
        e["unit"]["service"]["result"] = "signal".into();
    };
    assert_eq!(permitted("systemd/failed-script", "systemd.restart", killed).risk, Risk::R2, "the log is not the reason");
}

#[test]
fn unit_is_not_restarted_while_the_reason_in_its_log_remains() {
    let present = logged("log", MISSING_FILE, json!({"present": "/etc/app/app.yml still does not exist"}));
    let remains = refused("systemd/failed-script", "systemd.restart", present);
    assert!(remains.contains("the start would fail again: /etc/app/app.yml still does not exist"), "{remains}");
    let unchecked = refused("systemd/failed-script", "systemd.restart", logged("log", REJECTED_LOGIN, Value::Null));
    assert!(unchecked.contains("`systemctl restart app.service`"), "{unchecked}");
}

#[test]
fn raised_limit_of_a_waiting_container_is_not_raised_again() {
    let waiting = |e: &mut Value| {
        let state = &mut e["container"]["state"];
        (state["restarting"], state["pid"]) = (true.into(), 0.into());
    };
    assert!(plans("container/state-oom-limit-raised", "container.raise-memory", waiting).is_empty());
}

#[test]
fn hung_daemon_with_a_faulty_configuration_is_not_restarted() {
    let faulty = |e: &mut Value| e["daemon"] = json!({"fault": "hosts is set both as a flag and in its configuration file"});
    let refused = refused("container/engine-hung", "docker.restart-daemon", faulty);
    assert!(refused.contains("dockerd would not start again: hosts is set both as a flag"), "{refused}");
}

#[test]
fn one_off_container_is_not_started() {
    assert!(plans("container/state-one-off-failed", "container.start", unchanged).is_empty());
}

#[test]
fn container_at_its_memory_limit_gets_more() {
    assert_eq!(permitted("container/state-oom-child", "container.raise-memory", unchanged).undo.len(), 1);
    let small = |e: &mut Value| e["host_memory"] = json!([1 << 20, 1 << 30]);
    let refused = refused("container/state-oom-child", "container.raise-memory", small);
    assert!(refused.contains("too little to raise the limit"), "{refused}");
    assert!(plans("container/state-oom-limit-raised", "container.raise-memory", unchanged).is_empty());
}

#[test]
fn restart_loop_is_stopped_while_it_goes_on() {
    assert_eq!(permitted("container/state-crash-loop", "container.stop-loop", unchanged).actions.len(), 2);
    assert!(plans("container/state-loop-given-up", "container.stop-loop", unchanged).is_empty());
}

#[test]
fn paused_container_is_unpaused() {
    assert_eq!(permitted("container/state-paused", "container.unpause", unchanged).undo.len(), 1);
}

#[test]
fn frozen_container_is_restarted_if_it_would_start_again() {
    assert_eq!(permitted("container/logs-blocked", "container.restart", unchanged).risk, Risk::R2);
    let broken = |e: &mut Value| e["restart"] = json!({"stays_down": "`nginx -t` fails: unknown directive"});
    assert!(refused("container/logs-blocked", "container.restart", broken).contains("nginx would not start again in it"));
}

#[test]
fn unresponsive_database_is_restarted_by_hand() {
    assert_eq!(permitted("healthcheck/http-503", "container.restart", unchanged).actions.len(), 1);
    let database = |e: &mut Value| e["container"]["image"] = "postgres:15".into();
    assert!(refused("healthcheck/http-503", "container.restart", database).contains("is the image of a database"));
}

#[test]
fn stale_health_monitor_is_restarted_by_a_pause() {
    assert_eq!(permitted("healthcheck/monitor-stale", "container.pause-unpause", unchanged).actions.len(), 2);
}

#[test]
fn hung_daemon_is_restarted_by_its_unit() {
    assert_eq!(permitted("container/engine-hung", "docker.restart-daemon", unchanged).risk, Risk::R3);
    let by_hand = refused("container/engine-hung", "docker.restart-daemon", |e| e["systemd"] = false.into());
    assert!(by_hand.contains("restart dockerd as it was started"), "{by_hand}");
}

#[test]
fn unused_data_of_the_engine_is_removed_only_from_a_full_filesystem() {
    for fix in ["disk.prune-build-cache", "disk.prune-containers", "disk.prune-dangling-images"] {
        assert_eq!(permitted("disk/docker-reclaimable", fix, unchanged).risk, Risk::R3);
        let half = refused("disk/docker-reclaimable", fix, |e| e["filesystem"]["percent"] = 50.0.into());
        assert!(half.contains("full; offered from"), "{half}");
    }
}

#[test]
fn journal_is_cut_only_on_a_full_filesystem() {
    assert_eq!(permitted("disk/journal-large", "journal.vacuum", |e| e["filesystem"]["percent"] = 95.0.into()).risk, Risk::R3);
    assert!(refused("disk/journal-large", "journal.vacuum", unchanged).contains("full; offered from"));
}

#[test]
fn log_of_a_container_is_cut_only_on_a_full_filesystem() {
    assert_eq!(permitted("container/logs-huge-on-full-disk", "log.truncate", unchanged).risk, Risk::R3);
    let half = refused("container/logs-huge-on-full-disk", "log.truncate", |e| e["filesystem"]["percent"] = 50.0.into());
    assert!(half.contains("the log is truncated only from"), "{half}");
}

#[test]
fn deleted_file_is_truncated_only_if_it_is_a_log() {
    assert_eq!(permitted("disk/deleted-open-fills", "fd.truncate", unchanged).risk, Risk::R3);
    let file = |key: &'static str, value: Value| {
        refused("disk/deleted-open-fills", "fd.truncate", move |e| e["filesystems"][0]["files"][0][key] = value)
    };
    assert!(file("path", "/var/lib/app/data.db".into()).contains("does not look like a log file"));
    assert!(file("append_or_write_only", false.into()).contains("is not opened for appending only"));
}

#[test]
fn nginx_is_reloaded_only_with_a_valid_configuration() {
    for fixture in ["nginx/upstream-stale", "nginx/not-loaded", "tls/stale"] {
        assert_eq!(permitted(fixture, "nginx.reload", unchanged).risk, Risk::R1);
        let fails = refused(fixture, "nginx.reload", |e| e["reload"]["tested"]["passes"] = false.into());
        assert!(fails.contains("so a reload would be rejected"), "{fixture}: {fails}");
        let not_run = refused(fixture, "nginx.reload", |e| e["reload"]["tested"]["not_run"] = "denied".into());
        assert!(not_run.contains("`nginx -t` could not be run"), "{fixture}: {not_run}");
    }
}

#[test]
fn network_is_recreated_by_hand() {
    assert!(refused("mtu/exceeds", "mtu.network", unchanged).contains("docker network create"));
}

#[test]
fn changed_unit_file_is_reloaded() {
    assert_eq!(permitted("systemd/need-reload", "systemd.daemon-reload", unchanged).risk, Risk::R1);
}

#[test]
fn failed_state_of_a_transient_unit_is_cleared() {
    assert_eq!(permitted("systemd/failed-transient", "systemd.reset-failed", unchanged).risk, Risk::R1);
}

#[test]
fn enabled_unit_is_started() {
    assert_eq!(permitted("systemd/inactive-never", "systemd.start-enabled", unchanged).risk, Risk::R2);
}
