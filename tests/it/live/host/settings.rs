//! Units and kernel settings that a host needs: found, fixed, and reverted.

use crate::lab::{Host, Machine};

#[test]
fn engine_not_enabled_at_boot_is_enabled() {
    let Some(machine) = Machine::boot() else { return };
    // a responding engine as docker.service, started manually and not enabled
    machine.unit(
        "docker.service",
        "[Service]\nExecStart=/usr/local/bin/fixture fake-docker /run/docker.sock never --at nothing\n[Install]\nWantedBy=multi-user.target\n",
    );
    machine.sh("systemctl start docker");
    machine.wait_for("it answers", "[ -S /run/docker.sock ]");
    let forgotten = "host.baseline unit:docker.service";
    let run = machine.diagnose(&["host"]);
    run.roots(&[forgotten]).mentions(forgotten, &["after a reboot no container is started"]);
    machine.fix("host.enable-unit", "docker.service", &[]).exits(0);
    assert_eq!(machine.sh("systemctl is-enabled docker"), "enabled");
    assert!(machine.succeeds("systemctl is-active docker"), "the service was restarted");
    machine.diagnose(&["host"]).roots(&[]);
    machine.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(machine.sh("systemctl is-enabled docker || true"), "disabled");
}

#[test]
fn kernel_settings_are_raised_now_and_at_boot() {
    let Some(host) = Host::without_engine() else { return };
    host.sh("mkdir -p /etc/sysctl.d; mount -t tmpfs tmpfs /etc/sysctl.d; echo 128 > /proc/sys/net/core/somaxconn");
    let run = host.opsctl(&["host", "--format", "json"]);
    assert!(run.offer("host.set-sysctl", "host").is_some(), "{}", run.stdout);
    host.fix("host.set-sysctl", "host", &[]).exits(0);
    let now = || host.sh("cat /proc/sys/net/core/somaxconn");
    assert_eq!((now().as_str(), host.sh("cat /etc/sysctl.d/60-opsctl.conf").as_str()), ("4096", "net.core.somaxconn = 4096"));
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!((now().as_str(), host.sh("ls /etc/sysctl.d").as_str()), ("128", ""));
}
