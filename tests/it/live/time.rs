//! A clock without synchronization, and one that differs from its references.

use crate::lab::{Host, Machine, eventually};

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
