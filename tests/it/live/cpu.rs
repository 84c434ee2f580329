//! Saturated processors and blocked tasks: the causes, and load without a fault. These tests run alone
//! (`.config/nextest.toml`): they affect the whole machine.

use opsctl_core::model::Severity;

use super::{MINUTES, averages};
use crate::lab::{Host, Rootfs, eventually};

/// Waits until tasks wait for the processors; the longer average still contains the load of the previous test.
fn until_saturated() {
    eventually(MINUTES, "tasks waited for the processors", || {
        let (short, long) = averages("cpu");
        (short > 30.0 && long > 30.0).then_some(())
    });
}

/// Load of the last minute per processor.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let one: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    one / std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// More processes than CPUs, so that they wait for each other.
fn hogs() -> usize {
    2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
fn busy_container_is_named_with_its_repeated_log_line() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let burn = format!(
        "for n in $(busybox seq {}); do fixture cpu & done; exec fixture log-spammer --line 'task process_media received' --rate 20",
        hogs()
    );
    host.run("worker", &["app:1", "sh", "-c", &burn]);
    until_saturated();
    let run = host.opsctl(&["diagnose", "cpu", "container", "--format", "json"]);
    let saturated = "cpu.saturated host";
    run.must(&[saturated]).mentions(saturated, &["container worker", "process_media"]);
    run.must_not(&["cpu.d-state", "cpu.iowait"]);
}

#[test]
fn single_busy_process_is_reniced_and_reverted() {
    let Some(host) = Host::without_engine() else { return };
    host.spawn("/run/lab/fixture", &["cpu", &hogs().to_string()]);
    until_saturated();
    // another test may just have ended: until then there is more than one cause
    eventually(30, "it is the only cause", || host.opsctl(&["cpu", "--format", "json"]).offer("proc.renice", "host").map(|_| ()));
    host.fix("proc.renice", "host", &[]).exits(0);
    let nice = || host.sh("ps -L -o ni= -C fixture | sort -nu | tail -n 1 | tr -d ' '");
    assert_eq!(nice(), "10");
    host.opsctl(&["cpu", "--format", "json"]).must_not(&["cpu.saturated"]);
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(nice(), "0");
}

#[test]
fn niced_batch_job_is_not_reported() {
    let Some(host) = Host::without_engine() else { return };
    for _ in 0..hogs() {
        host.spawn("nice", &["-n", "19", "/run/lab/fixture", "cpu"]);
    }
    until_saturated();
    let run = host.opsctl(&["cpu", "--format", "json"]);
    run.roots(&[]);
}

#[test]
fn fork_bomb_at_its_process_limit_is_reported() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("bomb", &["--pids-limit", "60", "app:1", "fixture", "fork-bomb"]);
    let pids = "container.pids container:bomb";
    let run = eventually(30, "the container has reached its limit", || {
        let run = host.opsctl(&["diagnose", "cpu", "container", "--format", "json"]);
        let reached = run.findings().any(|f| f.code == "container.pids" && f.severity == Severity::Crit);
        reached.then_some(run)
    });
    run.must(&[pids]).mentions(pids, &["limit of 60"]).must_not(&["memory.", "cpu.d-state"]);
}

#[test]
fn reader_blocked_by_a_stopped_fuse_process_is_found() {
    let Some(host) = Host::without_engine() else { return };
    host.sh("mkdir -p /mnt/lower /mnt/fuse; echo x > /mnt/lower/file; fuse-overlayfs -o lowerdir=/mnt/lower /mnt/fuse; \
             pkill -STOP -x fuse-overlayfs");
    host.spawn("/run/lab/fixture", &["read", "/mnt/fuse/file"]);
    // a request to FUSE can be interrupted once; afterwards only a fatal signal ends the wait
    eventually(30, "the reader waits in the kernel", || {
        host.sh("pkill -TERM -f '^/run/lab/fixture read' || true; sleep 0.1; ps -o state= -C fixture | tr -d ' '")
            .contains('D')
            .then_some(())
    });
    let stuck = "cpu.d-state host";
    let run = eventually(60, "the reader has been blocked for the minimum time", || {
        let run = host.opsctl(&["cpu", "--format", "json"]);
        run.has(stuck).then_some(run)
    });
    run.must(&[stuck]).mentions(stuck, &["fixture (pid", "FUSE"]).must_not(&["cpu.saturated", "cpu.iowait"]);
    assert!(run.took.as_secs() < 5, "a stuck task delayed opsctl: {:?}", run.took);
    host.sh("pkill -CONT -x fuse-overlayfs");
    eventually(30, "no task is blocked", || (!host.sh("ps -o state= -C fixture | tr -d ' '").contains('D')).then_some(()));
    host.opsctl(&["cpu", "--format", "json"]).must_not(&["cpu.d-state"]);
}

#[test]
fn paused_container_is_not_a_stuck_task() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("idle", &["app:1", "sleep", "1000"]);
    let pid = host.inspect("idle", "{{.State.Pid}}");
    host.docker(&["pause", "idle"]);
    // some load, so that stuck tasks are searched at all
    host.spawn("timeout", &["60", "/run/lab/fixture", "cpu"]);
    let number = |script: &str| host.sh(script).parse::<f64>().unwrap_or_else(|e| panic!("{script}: {e}"));
    eventually(60, "the task has not run for the minimum time of a stuck task", || {
        let ran = number(&format!("sed -n 's/^se.exec_start *: *//p' /proc/{pid}/sched")) / 1000.0;
        (number("cut -d' ' -f1 /proc/uptime") - ran > 12.0 && load() > 0.2).then_some(())
    });
    host.opsctl(&["cpu", "--format", "json"]).must_not(&["cpu.d-state"]);
}
