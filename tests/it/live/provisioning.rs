//! `opsctl bootstrap`, in user data of cloud-init, as a unit, and beside starting units and containers.

use crate::lab::{Host, Machine, Rootfs};

/// Waits until cloud-init has ended.
pub(super) const DONE: &str = "cloud-init status --wait > /dev/null; true";

/// A machine that boots with this user data on its own disk.
pub(super) fn with_user_data(user_data: &str) -> Option<Machine> {
    Machine::prepared(&[
        ("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: i-1\nlocal-hostname: machine\n"),
        ("/var/lib/cloud/seed/nocloud/user-data", user_data),
        // no ssh to generate keys for
        ("/etc/cloud/cloud.cfg.d/99-lab.cfg", "ssh_genkeytypes: []\nssh_deletekeys: false\n"),
    ])
}

#[test]
fn bootstrap_in_user_data_waits_applies_and_writes_a_report() {
    // slower than opsctl, independent of the speed of the machine
    let script = "#!/bin/sh\nsystemd-run --no-block --unit=slow -p Type=oneshot -p RemainAfterExit=yes \
        sh -c 'until grep -q slow.service /var/log/said; do sleep 0.1; done'\n\
        until systemctl is-active slow.service | grep -q activating; do sleep 0.1; done\n\
        opsctl bootstrap host systemd --apply --wait 60s --format json > /var/log/report.json 2> /var/log/said; echo $? > /var/log/exit\n";
    let Some(machine) = with_user_data(script) else { return };
    machine.wait_for("cloud-init is done", DONE);
    let stderr = machine.sh("cat /var/log/said");
    assert_eq!(machine.sh("cat /var/log/exit"), "0", "{stderr}");
    assert!(stderr.contains("waiting for slow.service"), "{stderr}");
    assert!(stderr.contains("nothing is starting"), "bootstrap waited for its own unit: {stderr}");
    assert!(machine.succeeds("systemctl is-active slow.service"), "bootstrap waited until the unit was active");

    assert!(machine.sh("cat /var/lib/opsctl/bootstrap.log").contains("waiting for slow.service"));

    // fixes without an interruption were applied and journalled, and are not applied twice
    assert!(stderr.contains("host.add-hostname"), "{stderr}");
    assert_eq!(machine.sh("grep -c '^127.0.1.1 machine$' /etc/hosts"), "1");
    let again = machine.opsctl(&["bootstrap", "host", "--apply", "--format", "json"]);
    again.exits(0);
    assert!(!again.stderr.contains("applied"), "{}", again.stderr);
    assert_eq!(machine.sh("grep -c '^127.0.1.1 machine$' /etc/hosts"), "1");

    for file in ["/var/log/report.json", "/var/lib/opsctl/bootstrap.json"] {
        let report: serde_json::Value =
            serde_json::from_str(&machine.sh(&format!("cat {file}"))).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(report["verdict"], "ok", "{file}");
    }
    machine.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(machine.sh("grep -c '^127.0.1.1 machine$' /etc/hosts || true"), "0");
}

#[test]
fn emitted_unit_is_valid_and_runs_at_boot() {
    // the same binary prints the unit here and runs in it there
    let emitted = std::process::Command::new(env!("CARGO_BIN_EXE_opsctl")).args(["bootstrap", "--emit", "cloud-init"]).output();
    let emitted = String::from_utf8(emitted.unwrap_or_else(|e| panic!("opsctl: {e}")).stdout).unwrap_or_else(|e| panic!("{e}"));
    let Some(machine) = with_user_data(&emitted) else { return };
    machine.wait_for("the unit has run", "[ $(systemctl show -P ActiveEnterTimestampMonotonic,InactiveEnterTimestampMonotonic opsctl-bootstrap.service | sort -n | tail -n 1) -gt 0 ] && [ -e /var/lib/opsctl/bootstrap.json ]");
    let report: serde_json::Value =
        serde_json::from_str(&machine.sh("cat /var/lib/opsctl/bootstrap.json")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(report["schema_version"], 1);
    assert!(!machine.succeeds("systemctl is-failed opsctl-bootstrap.service"));
    assert!(machine.succeeds("systemctl is-enabled opsctl-bootstrap.service"));
    let sum = "0".repeat(64);
    for from in ["", &format!("--from https://packages.internal/opsctl?v=%201 --sha256 {sum}")] {
        machine.sh(&format!(
            "opsctl bootstrap --emit cloud-init {from} > /tmp/user-data; cloud-init schema --config-file /tmp/user-data; \
             mkdir -p /tmp/u; opsctl bootstrap --emit systemd {from} > /tmp/u/opsctl-bootstrap.service; systemd-analyze verify --man=no /tmp/u/opsctl-bootstrap.service"
        ));
    }
}

#[test]
fn failed_units_are_not_waited_for() {
    let Some(machine) = Machine::boot() else { return };
    machine.unit("gone.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/local/bin/nowhere\n");
    machine.sh("systemctl start gone.service || true");
    let run = machine.opsctl(&["bootstrap", "systemd", "--wait", "5m", "--format", "json"]);
    run.exits(1);
    assert!(run.took.as_secs() < 60, "bootstrap waited without reason: {}", run.stderr);
    assert!(run.stderr.contains("nothing is starting"), "{}", run.stderr);
}

#[test]
fn starting_containers_are_waited_for_unless_they_cannot_start() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let args = ["bootstrap", "container", "healthcheck", "--wait", "60s", "--format", "json"];
    let health = ["--health-interval", "1s", "--health-retries", "90"];
    // healthy as soon as the file exists
    host.run(
        "slow",
        &[
            &health[..],
            &["--health-cmd", "test -e /tmp/up", "app:1", "sh", "-c", "sleep 4; touch /tmp/up; exec fixture wait-term"],
        ]
        .concat(),
    );
    let run = host.opsctl(&args);
    run.exits(0);
    assert!(run.stderr.contains("waiting for the first health tests of slow"), "{}", run.stderr);
    assert!(run.stderr.contains("nothing is starting"), "{}", run.stderr);

    // its health check calls a missing program: waiting does not help
    host.run(
        "hopeless",
        &[
            "--health-cmd",
            "curl -f http://localhost/",
            "--health-interval",
            "1s",
            "--health-retries",
            "2",
            "app:1",
            "fixture",
            "wait-term",
        ],
    );
    host.until("hopeless", "{{.State.Health.Status}}", "unhealthy");
    let run = host.opsctl(&args);
    run.exits(2);
    assert!(run.took.as_secs() < 30 && !run.stderr.contains("gave up"), "bootstrap waited without reason: {}", run.stderr);
}
