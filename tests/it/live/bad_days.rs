//! The engine, a filesystem or a permission fails while opsctl looks: it answers in time, the rest is still checked, and the verdict is right.

use std::collections::BTreeSet;
use std::time::Duration;

use super::faults::faked;
use crate::lab::{Host, Rootfs, Run, available, eventually};

/// The default deadline is 10 s; starting and printing on a busy machine may take a little longer.
const IN_TIME: Duration = Duration::from_secs(14);

/// Whatever happened, disks were looked at, and in time.
#[track_caller]
fn others_still_print(run: &Run) {
    assert!(run.took < IN_TIME, "took {:?}", run.took);
    assert!(run.report().checks.iter().any(|c| c.check.starts_with("disk.") && c.verdict == "ok"), "{}", run.stdout);
}

/// A host with a disk and an engine that is well until it is asked a certain thing.
fn asked(fault: &str, at: &str) -> Option<Run> {
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
fn an_engine_that_accepts_and_never_answers_is_hung() {
    for at in ["ping", "version"] {
        let Some(run) = asked("never", at) else { return };
        run.roots(&["container.engine-hung engine:docker"]);
    }
}

#[test]
fn an_engine_that_talks_nonsense_is_not_reachable() {
    for (fault, at) in [("garbage", "ping"), ("die", "version"), ("http-500", "ping"), ("huge", "version")] {
        let Some(run) = asked(fault, at) else { return };
        run.roots(&["container.engine-reachable engine:docker"]);
    }
}

#[test]
fn an_engine_that_drips_is_hung() {
    let Some(run) = asked("slow-byte", "ping") else { return };
    run.exits(2);
    assert!(run.findings().any(|f| f.code.starts_with("container.engine-")), "{}", run.stdout);
}

#[test]
fn a_list_that_fails_is_never_an_empty_list() {
    for fault in ["never", "garbage", "die", "http-500", "huge", "slow-byte"] {
        let Some(run) = asked(fault, "list") else { return };
        assert!(run.code == 3 || run.code == 2, "{fault}: unknown or crit, not {}: {}", run.code, run.stdout);
    }
}

#[test]
fn an_inspect_that_fails_leaves_that_container_unknown() {
    for fault in ["never", "garbage", "die", "http-500", "huge", "slow-byte"] {
        let Some(run) = asked(fault, "inspect") else { return };
        assert!(run.code == 3 || run.code == 2, "{fault}: unknown or crit, not {}: {}", run.code, run.stdout);
        assert!(
            run.report().checks.iter().any(|c| c.target == "container:ghost" && c.verdict != "ok"),
            "{fault}: {}",
            run.stdout
        );
    }
}

#[test]
fn an_engine_that_is_silent_about_some_containers_says_which() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    for name in ["web", "db", "held"] {
        host.run(name, &["app:1", "fixture", "wait-term"]);
    }
    // moby#36661: who kills a container holds its lock until its shim has answered
    let shim = host.sh(&format!("ps -o ppid= -p {}", host.inspect("held", "{{.State.Pid}}")));
    host.sh(&format!("kill -STOP {shim}; (docker kill held > /dev/null 2>&1 &)"));
    eventually(20, "its lock is held", || {
        host.sh("timeout 1 docker inspect held > /dev/null 2>&1 && echo free || echo held").contains("held").then_some(())
    });
    let hung = "container.engine-hung engine:docker";
    let run = host.diagnose();
    others_still_print(&run);
    run.must(&[hung]).roots(&[hung]).says(hung, &["not about 1 of its 3 containers: held"]);
    run.verdict("container.state", "container:web", "ok");
    run.verdict("container.state", "container:held", "unknown");
    host.sh(&format!("kill -CONT {shim}"));
    host.until("held", "{{.State.Running}}", "false");
    host.docker(&["rm", "-f", "held"]);
    host.diagnose().roots(&[]);
}

#[test]
fn a_container_that_vanishes_while_we_look_is_nothing() {
    let Some(run) = asked("gone", "inspect") else { return };
    run.roots(&[]);
    assert!(run.report().checks.iter().filter(|c| c.target == "container:ghost").all(|c| c.verdict == "skip"), "{}", run.stdout);
}

#[test]
fn no_engine_is_skipped_and_a_missing_one_is_not() {
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
fn a_dead_engine_leaves_its_socket_behind() {
    let Some(host) = Host::start() else { return };
    host.sh("pid=$(cat /run/docker.pid); kill -KILL $pid; while [ -d /proc/$pid ]; do sleep 0.05; done; [ -S /run/docker.sock ]");
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&["container.engine-reachable engine:docker"]);
}

#[test]
fn a_frozen_engine_is_hung() {
    let Some(host) = Host::start() else { return };
    host.sh("kill -STOP $(cat /run/docker.pid)");
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&["container.engine-hung engine:docker"]);
}

#[test]
fn a_user_who_may_not_ask_is_told_so() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("web", &["app:1", "fixture", "wait-term"]);
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let args = ["diagnose", "container", "healthcheck", "disk", "--format", "json"];
    let run = host.read(host.opsctl_command(&nobody, &args).env("HOME", "/nonexistent"));
    others_still_print(&run);
    run.must_not(&["container.", "healthcheck."]).exits(3);
    assert!(run.stdout.contains("permission denied"), "{}", run.stdout);
}

#[test]
fn a_filesystem_that_hangs_costs_only_itself() {
    let why_not = (!std::path::Path::new("/dev/fuse").exists() || which::which("fuse-overlayfs").is_err())
        .then_some("needs fuse-overlayfs and /dev/fuse");
    if !available(why_not) {
        return;
    }
    let Some(host) = Host::without_engine() else { return };
    host.disk("/mnt/data", 64, "-m 0");
    // the type is fuse.NAME of the program: one that looks like a network filesystem, not like a view of a disk
    host.sh("mkdir /mnt/lower /mnt/dead; ln -s $(which fuse-overlayfs) /mnt/remotefs; /mnt/remotefs -o lowerdir=/mnt/lower /mnt/dead; stat -f /mnt/dead
        pid=$(pgrep -x remotefs); kill -STOP $pid; until grep -q 'State:.T' /proc/$pid/status; do sleep 0.05; done");
    let run = host.diagnose();
    others_still_print(&run);
    run.roots(&["disk.mount-hung mount:/mnt/dead"]);
    // no process of ours stays in the kernel
    assert_eq!(host.sh("ps -eo comm= | grep -c '^opsctl$' || true"), "0");
}

#[test]
fn a_bus_that_accepts_and_never_answers_is_hung_and_one_that_is_down_is_unknown() {
    let Some(host) = Host::without_engine() else { return };
    // what sd_booted(3) looks at
    host.sh("mkdir -p /run/systemd/system /run/dbus");
    let args = ["diagnose", "systemd", "disk", "--format", "json"];
    let gone = host.opsctl(&args);
    let expected = if std::path::Path::new("/usr/bin/dbus-daemon").exists() { "unknown" } else { "skip" };
    assert_eq!(gone.check("systemd.state", "host").verdict, expected);
    others_still_print(&gone);
    host.spawn("/run/lab/fixture", &["fake-docker", "/run/dbus/system_bus_socket", "never"]);
    eventually(10, "the bus listens", || host.sh("ss -Hlx").contains("system_bus_socket").then_some(()));
    let hung = host.opsctl(&args);
    hung.must(&["systemd.state host"]).says("systemd.state host", &["does not answer"]);
    others_still_print(&hung);
}

#[test]
fn a_clock_that_jumps_between_plan_and_act_stops_nothing_and_breaks_no_journal() {
    let Some(host) = Host::with_servers(&["redis-server"]) else { return };
    host.redis_with_disk();
    let clock = host.path("clock");
    for (place, jump) in [("before-recheck", "+1d"), ("before-recheck", "-1d"), ("after-confirm", "-1d"), ("after-intent", "-1d")]
    {
        host.fail_to_save();
        std::fs::write(&clock, "+0").unwrap();
        let jumps = || std::fs::write(&clock, jump).unwrap();
        let run = host.fix_paused_in(&faked(&host, &clock), place, &["redis.bgsave", "127.0.0.1:6379"], jumps);
        assert_eq!(run.code, 0, "{place}, {jump}: {}{}", run.stdout, run.stderr);
        assert_eq!(host.persistence("rdb_last_bgsave_status"), "ok", "{place}, {jump}");
        host.opsctl(&["audit", "verify"]).exits(0);
        host.ask(&["redis"]).must_not(&["redis.persistence"]);
    }
    // yesterday, today, tomorrow: the clock did jump
    let journal = host.opsctl(&["audit", "show"]).stdout.clone();
    let days: BTreeSet<&str> = journal.lines().filter_map(|l| l.split_whitespace().nth(1)?.get(..10)).collect();
    assert!(days.len() >= 3, "{journal}");
}
