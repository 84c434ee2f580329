//! The service of a configured endpoint failed. Its command names the port on which nothing listens.

use crate::lab::Machine;

const API: &str = "systemd.unit-failed unit:api.service";
const OTHER: &str = "systemd.unit-failed unit:other.service";
const HEALTH: &str = "healthcheck.http endpoint:http://127.0.0.1:8000/health/";

const FILES: &[(&str, &str)] = &[
    ("/etc/systemd/system/api.service", "[Service]\nExecStart=/bin/sh -c 'exit 3' api --port 8000\n"),
    ("/etc/systemd/system/other.service", "[Service]\nExecStart=/bin/sh -c 'exit 3' other --port 8001\n"),
    ("/etc/opsctl/config.toml", "[[endpoint]]\nurl = \"http://127.0.0.1:8000/health/\"\n"),
];

#[test]
fn failed_unit_is_the_root_of_the_endpoint_on_its_port() {
    let Some(machine) = Machine::prepared(FILES) else { return };
    machine.wait_for("systemd has started", "systemctl is-system-running --wait | grep -E 'running|degraded'");
    let fail = |unit: &str| {
        machine.sh(&format!("systemctl start {unit}"));
        machine.wait_for("the unit has failed", &format!("systemctl is-failed {unit}"));
    };
    fail("other.service");
    let run = machine.diagnose(&["systemd", "healthcheck"]);
    run.must(&[HEALTH, OTHER]).roots(&[HEALTH, OTHER]);

    fail("api.service");
    let run = machine.diagnose(&["systemd", "healthcheck"]);
    run.must(&[HEALTH, API]).roots(&[API, OTHER]).explains(API, HEALTH);
    machine.leaves(&run, "");
}
