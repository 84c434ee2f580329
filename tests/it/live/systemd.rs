//! A system bus that does not respond.

use super::assert_disks_checked_in_time;
use crate::lab::{Host, eventually};

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
