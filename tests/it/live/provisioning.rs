//! Missing provisioning: found, fixed, and reverted.

use crate::lab::{Host, Machine, eventually};

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
fn unsynchronized_clock_gets_a_time_service() {
    // its own conditions and capabilities prevent it from running in a container
    let drop_in = "[Unit]\nConditionVirtualization=\n[Service]\nType=simple\nExecStart=\nExecStart=!!/usr/lib/systemd/systemd-timesyncd\n\
        AmbientCapabilities=\nCapabilityBoundingSet=\nWatchdogSec=0\n";
    let Some(machine) = Machine::boot() else { return };
    machine.sh("mkdir -p /etc/systemd/system/systemd-timesyncd.service.d; systemctl disable -q --now systemd-timesyncd");
    machine.unit("systemd-timesyncd.service.d/lab.conf", drop_in);
    // opsctl leaves the clock of a container to its host
    machine.sh("rm -f /run/systemd/container /.dockerenv");
    let unsynced = "time.unsynced host";
    if !machine.diagnose(&["time"]).has(unsynced) {
        // this machine's clock is synchronized, which a test cannot change
        return;
    }
    machine.fix("time.enable-sync", "host", &[]).exits(0);
    assert_eq!(machine.sh("systemctl is-enabled systemd-timesyncd"), "enabled");
    let run = machine.diagnose(&["time"]);
    assert_eq!(run.offer("time.enable-sync", "host"), None, "a running time service needs a check, not another service");
    machine.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(machine.sh("systemctl is-enabled systemd-timesyncd || true"), "disabled");
    assert!(!machine.succeeds("systemctl is-active systemd-timesyncd"));
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

#[test]
fn clock_is_compared_with_agreeing_references() {
    let Some(host) = Host::without_engine() else { return };
    for port in ["8101", "8102"] {
        host.spawn("/run/lab/fixture", &["httpd", "--port", port, "--date", "Sun, 06 Nov 1994 08:49:37 GMT"]);
        eventually(10, "it listens", || host.sh("ss -Hltn").contains(port).then_some(()));
    }
    host.configure(
        "[runbooks.time]\nreferences = [\"http://127.0.0.1:8101/\", \"http://127.0.0.1:8102/\", \"http://127.0.0.1:1/\"]\n",
    );
    let offset = "time.offset host";
    let run = host.opsctl(&["time", "--format", "json"]);
    run.must(&[offset]).mentions(offset, &["ahead of its references"]);
}
