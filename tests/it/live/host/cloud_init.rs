//! Real cloud-init with data on the machine's own disk.

use opsctl_core::model::Severity;

use crate::lab::Machine;
use crate::live::provisioning::{DONE, with_user_data};

const CLOUD_INIT: &str = "host.cloud-init host";

/// Exit code of `cloud-init status`.
fn exit_code(machine: &Machine) -> String {
    machine.sh("cloud-init status > /dev/null && echo 0 || echo $?")
}

#[test]
fn running_and_finished_boots_are_distinguished() {
    let user_data = "#cloud-config\nruncmd:\n  - [sh, -c, 'touch /run/began; until [ -e /run/go ]; do sleep 0.1; done']\n";
    let Some(machine) = with_user_data(user_data) else { return };
    machine.wait_for("the user data runs", "[ -e /run/began ]");
    let run = machine.diagnose(&["host", "systemd"]);
    run.roots(&[]);
    assert!(!run.has(CLOUD_INIT), "a running boot is not a finding");
    // `bootstrap` waits for the boot, up to its time limit
    let waited = machine.opsctl(&["bootstrap", "host", "--wait", "1s", "--format", "json"]);
    waited.exits(0);
    assert!(waited.stderr.contains("still starting: cloud-init"), "{}", waited.stderr);
    machine.sh("touch /run/go");
    machine.wait_for("cloud-init is done", DONE);
    assert_eq!(exit_code(&machine), "0");
    machine.diagnose(&["host"]).roots(&[]);
}

#[test]
fn recoverable_error_is_not_a_failed_boot() {
    let Some(machine) = with_user_data("#cloud-config\nno_such_key: 1\nruncmd: [[touch, /run/ran]]\n") else { return };
    machine.wait_for("cloud-init is done", DONE);
    assert_eq!(exit_code(&machine), "2");
    machine.sh("[ -e /run/ran ]");
    let run = machine.diagnose(&["host"]);
    run.roots(&[CLOUD_INIT]).mentions(CLOUD_INIT, &["continued after errors", "the boot itself is fine"]);
    assert_eq!(run.finding(CLOUD_INIT).severity, Severity::Warn);
}

#[test]
fn user_data_without_its_header_is_not_applied() {
    let Some(machine) = with_user_data("password: canary-password\nruncmd: [[touch, /run/ran]]\n") else { return };
    machine.wait_for("cloud-init is done", DONE);
    machine.sh("[ ! -e /run/ran ]");
    let run = machine.diagnose(&["host"]);
    let user_data = "host.user-data host";
    run.roots(&[user_data]).mentions(user_data, &["nothing of the user data was applied", "without `#cloud-config`"]);
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
}

#[test]
fn failed_script_is_reported_with_its_output() {
    let Some(machine) = with_user_data("#cloud-config\nruncmd: [[sh, -c, 'echo no such package: nonsense >&2; exit 7']]\n")
    else {
        return;
    };
    machine.wait_for("cloud-init is done", DONE);
    assert_eq!(exit_code(&machine), "1");
    let run = machine.diagnose(&["host", "systemd"]);
    run.roots(&[CLOUD_INIT]).mentions(CLOUD_INIT, &["no such package: nonsense"]);
    assert_eq!(run.finding(CLOUD_INIT).severity, Severity::Crit);
    if run.has("systemd.unit-failed unit:cloud-final.service") {
        run.explains(CLOUD_INIT, "systemd.unit-failed unit:cloud-final.service");
    }
}

#[test]
fn cloud_init_without_data_is_disabled() {
    let Some(machine) = Machine::boot() else { return };
    let run = machine.diagnose(&["host"]);
    run.roots(&[]).mentions(CLOUD_INIT, &["disabled", "no data source"]);
}
