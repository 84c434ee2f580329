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

#[test]
fn restart_is_possible_once_a_missing_program_is_installed() {
    let unit = "[Service]\nExecStart=/bin/bash -c 'exec /bin/bash /srv/run.sh'\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.sh("printf 'no-such-tool || exit 1\nexec sleep 1000\n' > /srv/run.sh; systemctl restart app");
    machine.wait_for("it has failed", "systemctl is-failed app.service && journalctl -u app | grep no-such-tool");
    let refused = machine.fix("systemd.restart", "app.service", &[]);
    assert!(refused.code == 15 && refused.stdout.contains("the program no-such-tool still does not exist"), "{}", refused.stdout);
    machine.sh("printf '#!/bin/sh\n' > /usr/local/bin/no-such-tool; chmod +x /usr/local/bin/no-such-tool");
    machine.fix("systemd.restart", "app.service", &[]).exits(0);
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

/// The program keeps its configuration, and `systemctl status` shows it as active (pikvm/kvmd#82, NixOS/nixpkgs#73455; with a
/// command that only sends a signal: certbot/certbot#7135).
#[test]
fn failed_reload_until_the_next_successful_one() {
    let unit = "[Service]\nExecStart=/bin/sleep 1000\n\
                ExecReload=/bin/sh -c 'test -e /etc/app.ok || { echo \"ERROR: /etc/app.conf:3: unknown option\" >&2; exit 1; }'\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.sh("! systemctl reload app.service");
    let failed = "systemd.reload-failed unit:app.service";
    machine
        .diagnose(&["systemd"])
        .roots(&[failed])
        .mentions(failed, &["ExecReload=", "exited with 1", "/etc/app.conf:3: unknown option"]);
    machine.sh("touch /etc/app.ok; systemctl reload app.service");
    machine.diagnose(&["systemd"]).roots(&[]);
}

/// A package or an administrator enabled it without `--now` (WoTTsecurity/agent#41: a timer that was started by the next boot).
#[test]
fn enabled_socket_that_was_never_started() {
    let Some(machine) = with_service("app.service", "[Service]\nExecStart=/bin/sleep 1000\n") else { return };
    machine.sh("printf '[Socket]\\nListenStream=/run/app.sock\\n[Install]\\nWantedBy=sockets.target\\n' > /etc/systemd/system/app.socket");
    machine.sh("systemctl stop app.service; systemctl daemon-reload; systemctl enable app.socket");
    let inactive = "systemd.enabled-inactive unit:app.socket";
    machine.diagnose(&["systemd"]).roots(&[inactive]).mentions(inactive, &["never started"]);
    machine.sh("systemctl start app.socket");
    machine.diagnose(&["systemd"]).roots(&[]);
}

/// The files are there, and nothing runs them (coreos/fedora-coreos-config#277: logs that nothing rotated).
#[test]
fn disabled_timer_of_a_backup() {
    let Some(machine) = with_service("app.service", "[Service]\nExecStart=/bin/sleep 1000\n") else { return };
    machine
        .sh("printf '[Service]\\nType=oneshot\\nExecStart=/usr/local/bin/dump-all\\n' > /etc/systemd/system/db-backup.service");
    machine
        .sh("printf '[Timer]\\nOnCalendar=daily\\n[Install]\\nWantedBy=timers.target\\n' > /etc/systemd/system/db-backup.timer");
    machine.sh("systemctl daemon-reload");
    let late = "systemd.timer-late unit:db-backup.timer";
    machine.diagnose(&["systemd"]).roots(&[late]).mentions(late, &["is disabled", "db-backup.service"]);
    machine.write("/etc/cron.d/backup", "0 3 * * * root /usr/local/bin/dump-all\n");
    machine.diagnose(&["systemd"]).roots(&[]);
}

/// The boot went on without the disk (`nofail` was removed later), and the service writes below its mountpoint.
#[test]
fn missing_mount_explains_the_unit_that_needs_it() {
    let unit = "[Unit]\nRequiresMountsFor=/srv/data\n[Service]\nExecStart=/bin/sh -c 'test -e /srv/data/ok && exec sleep 1000'\n";
    let Some(machine) = with_service("app.service", unit) else { return };
    machine.sh("mkdir -p /srv/data; echo '/dev/disk/by-label/data /srv/data ext4 defaults 0 2' >> /etc/fstab");
    let missing = "disk.mount-missing mount:/srv/data";
    machine.diagnose(&["systemd", "disk"]).explains(missing, FAILED);
    machine.sh("mount -t tmpfs data /srv/data; touch /srv/data/ok; systemctl restart app.service");
    let mounted = machine.diagnose(&["systemd", "disk"]);
    assert!(!mounted.has(missing) && !mounted.has(FAILED), "{}", mounted.stdout);
}
