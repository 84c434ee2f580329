//! Failures of the engine, a filesystem or a permission during a run: opsctl finishes in time, checks everything else, and
//! reports the right verdict.

use std::collections::BTreeSet;
use std::time::Duration;

use super::faults::faked;
use crate::lab::{Host, Rootfs, Run, available, eventually};

/// The default deadline is 10 s; start and output on a busy machine may take a little longer.
const IN_TIME: Duration = Duration::from_secs(14);

/// Asserts that disks were checked, and in time.
#[track_caller]
fn others_still_print(run: &Run) {
    assert!(run.took < IN_TIME, "took {:?}", run.took);
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"), "{}", run.stdout);
}

/// Diagnosis of a host with a disk and an engine that fails at one kind of request.
fn diagnosis_with_fault(fault: &str, at: &str) -> Option<Run> {
    let host = Host::without_engine()?;
    host.disk("/mnt/data", 64, "-m 0");
    host.spawn("/run/lab/fixture", &["fake-docker", "/run/fake.sock", fault, "--at", at]);
    eventually(10, "the engine listens", || host.sh("ss -Hlx").contains("/run/fake.sock").then_some(()));
    let args = ["diagnose", "container", "healthcheck", "disk", "--format", "json"];
    let run = host.read(host.opsctl_command(&[], &args).env("DOCKER_HOST", "unix:///run/fake.sock"));
    others_still_print(&run);
    Some(run)
}

#[test]
fn engine_that_accepts_without_a_response_is_hung() {
    for at in ["ping", "version"] {
        let Some(run) = diagnosis_with_fault("never", at) else { return };
        run.roots(&["container.engine-hung engine:docker"]);
    }
}

#[test]
fn engine_with_garbage_responses_is_unreachable() {
    for (fault, at) in [("garbage", "ping"), ("die", "version"), ("http-500", "ping"), ("huge", "version")] {
        let Some(run) = diagnosis_with_fault(fault, at) else { return };
        run.roots(&["container.engine-reachable engine:docker"]);
    }
}

#[test]
fn engine_that_responds_byte_by_byte_is_hung() {
    let Some(run) = diagnosis_with_fault("slow-byte", "ping") else { return };
    run.exits(2);
    assert!(run.findings().any(|f| f.code.starts_with("container.engine-")), "{}", run.stdout);
}

#[test]
fn failed_container_list_is_not_an_empty_list() {
    for fault in ["never", "garbage", "die", "http-500", "huge", "slow-byte"] {
        let Some(run) = diagnosis_with_fault(fault, "list") else { return };
        assert!(run.code == 3 || run.code == 2, "{fault}: unknown or crit, not {}: {}", run.code, run.stdout);
    }
}

#[test]
fn failed_inspect_leaves_that_container_unknown() {
    for fault in ["never", "garbage", "die", "http-500", "huge", "slow-byte"] {
        let Some(run) = diagnosis_with_fault(fault, "inspect") else { return };
        assert!(run.code == 3 || run.code == 2, "{fault}: unknown or crit, not {}: {}", run.code, run.stdout);
        assert!(
            run.report().checks.iter().any(|c| c.target == "container:ghost" && c.verdict != "ok"),
            "{fault}: {}",
            run.stdout
        );
    }
}

#[test]
fn containers_without_an_inspect_response_are_named() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    for name in ["web", "db", "held"] {
        host.run(name, &["app:1", "fixture", "wait-term"]);
    }
    // moby#36661: a kill holds the lock of the container until its shim has responded
    let shim = host.sh(&format!("ps -o ppid= -p {}", host.inspect("held", "{{.State.Pid}}")));
    host.sh(&format!("kill -STOP {shim}; (docker kill held > /dev/null 2>&1 &)"));
    eventually(20, "its lock is held", || {
        host.sh("timeout 1 docker inspect held > /dev/null 2>&1 && echo free || echo held").contains("held").then_some(())
    });
    let hung = "container.engine-hung engine:docker";
    let run = host.diagnose();
    others_still_print(&run);
    run.must(&[hung]).roots(&[hung]).mentions(hung, &["not to requests about 1 of its 3 containers: held"]);
    run.verdict("container.state", "container:web", "ok");
    run.verdict("container.state", "container:held", "unknown");
    host.sh(&format!("kill -CONT {shim}"));
    host.until("held", "{{.State.Running}}", "false");
    host.docker(&["rm", "-f", "held"]);
    host.diagnose().roots(&[]);
}

#[test]
fn container_removed_during_the_run_is_no_finding() {
    let Some(run) = diagnosis_with_fault("gone", "inspect") else { return };
    run.roots(&[]);
    assert!(run.report().checks.iter().filter(|c| c.target == "container:ghost").all(|c| c.verdict == "skip"), "{}", run.stdout);
}

#[test]
fn absent_engine_is_skipped_and_a_stopped_one_is_not() {
    let Some(host) = Host::without_engine() else { return };
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&[]);
    let missing = ["container.engine-reachable engine:docker"];
    let args = ["diagnose", "container", "disk", "--format", "json"];
    let run = host.read(host.opsctl_command(&[], &args).env("DOCKER_HOST", "unix:///run/nowhere.sock"));
    others_still_print(&run);
    run.roots(&missing);
    let wants = "/etc/systemd/system/multi-user.target.wants";
    host.sh(&format!("mkdir -p {wants}; ln -s /lib/systemd/system/docker.service {wants}/"));
    host.diagnose().roots(&missing);
}

#[test]
fn killed_engine_leaves_its_socket() {
    let Some(host) = Host::start() else { return };
    host.sh("pid=$(cat /run/docker.pid); kill -KILL $pid; while [ -d /proc/$pid ]; do sleep 0.05; done; [ -S /run/docker.sock ]");
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&["container.engine-reachable engine:docker"]);
}

#[test]
fn stopped_engine_process_is_hung() {
    let Some(host) = Host::start() else { return };
    host.sh("kill -STOP $(cat /run/docker.pid)");
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&["container.engine-hung engine:docker"]);
}

#[test]
fn user_without_access_to_the_socket_is_reported() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("web", &["app:1", "fixture", "wait-term"]);
    let unprivileged = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let args = ["diagnose", "container", "healthcheck", "disk", "--format", "json"];
    let run = host.read(host.opsctl_command(&unprivileged, &args).env("HOME", "/nonexistent"));
    others_still_print(&run);
    run.must_not(&["container.", "healthcheck."]).exits(3);
    assert!(run.stdout.contains("permission denied"), "{}", run.stdout);
}

#[test]
fn hung_filesystem_affects_only_itself() {
    let why_not = (!std::path::Path::new("/dev/fuse").exists() || which::which("fuse-overlayfs").is_err())
        .then_some("needs fuse-overlayfs and /dev/fuse");
    if !available(why_not) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.disk("/mnt/data", 64, "-m 0");
    // the type is fuse.NAME of the program: it resembles a network filesystem, not a view of a disk
    host.sh("mkdir /mnt/lower /mnt/dead; ln -s $(which fuse-overlayfs) /mnt/remotefs; /mnt/remotefs -o lowerdir=/mnt/lower /mnt/dead; stat -f /mnt/dead
        pid=$(pgrep -x remotefs); kill -STOP $pid; until grep -q 'State:.T' /proc/$pid/status; do sleep 0.05; done");
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&["disk.mount-hung mount:/mnt/dead"]);
    // no process of opsctl stays blocked in the kernel
    assert_eq!(host.sh("ps -eo comm= | grep -c '^opsctl$' || true"), "0");
}

#[test]
fn hung_bus_is_reported_and_a_stopped_bus_is_unknown() {
    let Some(host) = Host::without_engine() else { return };
    // the path that sd_booted(3) checks
    host.sh("mkdir -p /run/systemd/system /run/dbus");
    let args = ["diagnose", "systemd", "disk", "--format", "json"];
    let without_bus = host.opsctl(&args);
    let expected = if std::path::Path::new("/usr/bin/dbus-daemon").exists() { "unknown" } else { "skip" };
    assert_eq!(without_bus.check("systemd.state", "host").verdict, expected);
    others_still_print(&without_bus);
    host.spawn("/run/lab/fixture", &["fake-docker", "/run/dbus/system_bus_socket", "never"]);
    eventually(10, "the bus listens", || host.sh("ss -Hlx").contains("system_bus_socket").then_some(()));
    let hung = host.opsctl(&args);
    hung.must(&["systemd.state host"]).mentions("systemd.state host", &["does not answer"]);
    others_still_print(&hung);
}

#[test]
fn clock_jump_between_plan_and_apply_keeps_fix_and_journal_intact() {
    let Some(host) = Host::with_servers(&["redis-server"]) else { return };
    host.redis_with_disk();
    let clock = host.path("clock");
    for (failpoint, jump) in
        [("before-recheck", "+1d"), ("before-recheck", "-1d"), ("after-confirm", "-1d"), ("after-intent", "-1d")]
    {
        host.fail_to_save();
        std::fs::write(&clock, "+0").unwrap();
        let jumps = || std::fs::write(&clock, jump).unwrap();
        let run = host.fix_paused_in(&faked(&host, &clock), failpoint, &["redis.bgsave", "127.0.0.1:6379"], jumps);
        assert_eq!(run.code, 0, "{failpoint}, {jump}: {}{}", run.stdout, run.stderr);
        assert_eq!(host.persistence("rdb_last_bgsave_status"), "ok", "{failpoint}, {jump}");
        host.opsctl(&["audit", "verify"]).exits(0);
        host.run_runbooks(&["redis"]).must_not(&["redis.persistence"]);
    }
    // yesterday, today, tomorrow: the clock did jump
    let journal = host.opsctl(&["audit", "show"]).stdout.clone();
    let days: BTreeSet<&str> = journal.lines().filter_map(|l| l.split_whitespace().nth(1)?.get(..10)).collect();
    assert!(days.len() >= 3, "{journal}");
}
