//! Units with their reasons, and a system bus that does not respond.

use super::assert_disks_checked_in_time;
use crate::lab::{Host, Machine, eventually};

#[test]
fn hung_bus_is_reported_and_a_stopped_bus_is_unknown() {
    let Some(host) = Host::without_engine() else { return };
    // the path that sd_booted(3) checks
    host.sh("mkdir -p /run/systemd/system /run/dbus");
    let args = ["diagnose", "systemd", "disk", "--format", "json"];
    let without_bus = host.opsctl(&args);
    let expected = if std::path::Path::new("/usr/bin/dbus-daemon").exists() { "unknown" } else { "skip" };
    assert_eq!(without_bus.check("systemd.state", "host").verdict, expected);
    assert_disks_checked_in_time(&without_bus);
    host.spawn("/run/lab/fixture", &["fake-docker", "/run/dbus/system_bus_socket", "never"]);
    eventually(10, "the bus listens", || host.sh("ss -Hlx").contains("system_bus_socket").then_some(()));
    let hung = host.opsctl(&args);
    hung.must(&["systemd.state host"]).mentions("systemd.state host", &["does not answer"]);
    assert_disks_checked_in_time(&hung);
}

/// A booted machine with this service, started.
fn with_service(name: &str, unit: &str) -> Option<Machine> {
    let machine = Machine::prepared(&[(&format!("/etc/systemd/system/{name}"), unit)])?;
    machine.wait_for("systemd has started", "systemctl is-system-running --wait | grep -E 'running|degraded'");
    machine.sh(&format!("systemctl start {name} || true"));
    Some(machine)
}

const FAILED: &str = "systemd.unit-failed unit:app.service";

/// Bash begins its errors with the path of the script.
#[test]
fn reason_that_begins_with_a_slash() {
    let unit = "[Service]\nExecStart=/bin/bash -c 'exec /bin/bash /srv/run.sh'\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.sh(
        "printf 'no-such-tool --now\\n' > /srv/run.sh; systemctl restart app; sleep 0.2; systemctl is-failed --wait app || true",
    );
    machine.wait_for("it has failed", "systemctl is-failed app.service");
    let run = machine.diagnose(&["systemd"]);
    run.roots(&[FAILED]).mentions(FAILED, &["/srv/run.sh", "no-such-tool: command not found"]);
}

/// Every configuration error of nginx and haproxy on Debian: the main process never ran.
#[test]
fn failed_command_before_the_start() {
    let unit = "[Service]\nExecStartPre=/bin/sh -c 'echo \"[emerg] unknown directive \\\\\"servr\\\\\" in /etc/app.conf:3\"; exit 1'\n\
                ExecStart=/bin/sleep 1000\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    let run = machine.diagnose(&["systemd"]);
    run.roots(&[FAILED]).mentions(FAILED, &["ExecStartPre=", "exited with 1", "unknown directive"]);
    assert!(!run.finding(FAILED).message.contains("exited with 0"), "{}", run.stdout);
}

#[test]
fn missing_environment_file() {
    let unit = "[Service]\nEnvironmentFile=/etc/app/env\nExecStart=/bin/sleep 1000\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.diagnose(&["systemd"]).roots(&[FAILED]).mentions(FAILED, &["/etc/app/env"]);
    machine.fix("systemd.restart", "app.service", &[]).exits(15);
    machine.sh("mkdir /etc/app; touch /etc/app/env");
    machine.fix("systemd.restart", "app.service", &[]).exits(0);
    machine.diagnose(&["systemd"]).roots(&[]);
}

/// systemd/systemd#6680 and many others: `OnUnitActiveSec=` counts from the last activation, which never happened.
#[test]
fn timer_that_never_elapses() {
    let Some(machine) = with_service("job.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n") else { return };
    machine.sh("printf '[Timer]\\nOnUnitActiveSec=4h\\n[Install]\\nWantedBy=timers.target\\n' > /etc/systemd/system/clean.timer");
    machine.sh("printf '[Service]\\nType=oneshot\\nExecStart=/bin/true\\n' > /etc/systemd/system/clean.service");
    machine.sh("printf '[Timer]\\nOnBootSec=1s\\nOnUnitActiveSec=4h\\n[Install]\\nWantedBy=timers.target\\n' > /etc/systemd/system/job.timer");
    machine.sh("systemctl daemon-reload; systemctl enable --now clean.timer job.timer");
    machine.wait_for("the other has elapsed", "systemctl show -p LastTriggerUSec job.timer | grep -q 20");
    let late = "systemd.timer-late unit:clean.timer";
    machine.diagnose(&["systemd"]).roots(&[late]).mentions(late, &["never"]);
}

#[test]
fn service_that_never_reports_readiness() {
    let unit = "[Service]\nType=notify\nTimeoutStartSec=2\nExecStart=/bin/sleep 1000\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.diagnose(&["systemd"]).roots(&[FAILED]).mentions(FAILED, &["never reported readiness within 2 s"]);
}

#[test]
fn setting_that_systemd_ignores() {
    let unit = "[Service]\nExecStart=/bin/sleep 1000\nMemoryLimitt=1G\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    let ignored = "systemd.ignored-setting unit:app.service";
    machine.diagnose(&["systemd"]).roots(&[ignored]).mentions(ignored, &["MemoryLimitt", "app.service:3"]);
}

#[test]
fn running_service_without_access_to_its_key() {
    let unit = "[Service]\nExecStart=/bin/sh -c 'while true; do echo \"ERROR open /etc/key.pem: permission denied\" >&2; sleep 1; done'\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.wait_for("lines of 20 s", "[ $(journalctl -u app.service -o cat | grep -c denied) -ge 23 ]");
    let found = "systemd.new-errors unit:app.service";
    machine.diagnose(&["systemd"]).roots(&[found]).mentions(found, &["/etc/key.pem"]);
}

#[test]
fn ordinary_lines_of_a_service_are_silent() {
    let unit = "[Service]\nExecStart=/bin/sh -c 'while true; do echo \"error: client closed connection\"; echo \"0 errors\"; sleep 1; done'\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.wait_for("four lines", "[ $(journalctl -u app.service -o cat | grep -c closed) -ge 4 ]");
    machine.diagnose(&["systemd"]).roots(&[]);
}
