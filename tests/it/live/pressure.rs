//! Real pressure: who is to blame, and what is none of it. These run alone (`.config/nextest.toml`): they are about the whole machine.

use std::process::Command;

use opsctl_core::model::Severity;

use crate::lab::{Host, Rootfs, eventually};

/// Averages of a minute take a while, in seconds.
const MINUTES: u64 = 240;

/// `some avg60` of a resource, in percent.
fn waiting(resource: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).unwrap_or_default();
    let field = text.split_whitespace().find_map(|w| w.strip_prefix("avg60="));
    field.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("this kernel does not measure pressure: {text}"))
}

/// Load of the last minute per processor.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let one: f64 = text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    one / std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// More than there are processors, so that they wait for each other.
fn hogs() -> usize {
    2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
fn a_busy_container_is_named_with_what_it_repeats() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let burn = format!(
        "for n in $(busybox seq {}); do fixture cpu & done; exec fixture log-spammer --line 'task process_media received' --rate 20",
        hogs()
    );
    host.run("worker", &["app:1", "sh", "-c", &burn]);
    eventually(MINUTES, "tasks waited for the processors", || (waiting("cpu") > 30.0).then_some(()));
    let run = host.opsctl(&["diagnose", "cpu", "container", "--format", "json"]);
    let saturated = "cpu.saturated host";
    run.must(&[saturated]).says(saturated, &["container worker", "process_media"]);
    run.must_not(&["cpu.d-state", "cpu.iowait"]);
}

#[test]
fn the_one_process_to_blame_can_be_given_less_priority_and_back() {
    let Some(host) = Host::without_engine() else { return };
    host.spawn("/run/lab/fixture", &["cpu", &hogs().to_string()]);
    eventually(MINUTES, "tasks waited for the processors", || (waiting("cpu") > 30.0).then_some(()));
    // another test may just have ended: until then it is not the only one
    eventually(30, "it is to blame", || host.opsctl(&["cpu", "--format", "json"]).offer("proc.renice", "host").map(|_| ()));
    host.fix("proc.renice", "host", &[]).exits(0);
    let nice = || host.sh("ps -L -o ni= -C fixture | sort -nu | tail -n 1 | tr -d ' '");
    assert_eq!(nice(), "10");
    host.opsctl(&["cpu", "--format", "json"]).must_not(&["cpu.saturated"]);
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(nice(), "0");
}

#[test]
fn a_batch_job_that_gave_up_priority_is_no_incident() {
    let Some(host) = Host::without_engine() else { return };
    for _ in 0..hogs() {
        host.spawn("nice", &["-n", "19", "/run/lab/fixture", "cpu"]);
    }
    eventually(MINUTES, "tasks waited for the processors", || (waiting("cpu") > 30.0).then_some(()));
    let run = host.opsctl(&["cpu", "--format", "json"]);
    run.roots(&[]);
}

#[test]
fn a_spike_of_a_second_is_no_incident() {
    let Some(host) = Host::without_engine() else { return };
    eventually(MINUTES, "the machine has calmed down", || (waiting("cpu") < 10.0 && load() < 0.9).then_some(()));
    for _ in 0..hogs() {
        host.spawn("timeout", &["1", "/run/lab/fixture", "cpu"]);
    }
    host.opsctl(&["cpu", "--format", "json"]).roots(&[]);
}

#[test]
fn a_hog_at_its_own_limit_is_not_the_host_s_affair() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("cache", &["-m", "64m", "--memory-swap", "64m", "app:1", "fixture", "mem-eater", "10", "--up-to", "60"]);
    let near = "container.memory-near-limit container:cache";
    let run = eventually(30, "it has taken its memory", || {
        let run = host.opsctl(&["diagnose", "memory", "container", "--format", "json"]);
        run.has(near).then_some(run)
    });
    run.roots(&[near]).says(near, &["fixture"]);
    // a host without swap is worth knowing, no more
    if std::fs::read_to_string("/proc/swaps").is_ok_and(|s| s.lines().count() == 1) {
        assert_eq!(run.finding("memory.swap host").severity, Severity::Info);
    }
}

#[test]
fn a_fork_bomb_is_held_by_its_limit_and_told() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("bomb", &["--pids-limit", "60", "app:1", "fixture", "fork-bomb"]);
    let pids = "container.pids container:bomb";
    let run = eventually(30, "it has reached its limit", || {
        let run = host.opsctl(&["diagnose", "cpu", "container", "--format", "json"]);
        let reached = run.findings().any(|f| f.code == "container.pids" && f.severity == Severity::Crit);
        reached.then_some(run)
    });
    run.must(&[pids]).says(pids, &["limit of 60"]).must_not(&["memory.", "cpu.d-state"]);
}

#[test]
fn a_reader_of_a_stopped_fuse_process_is_found() {
    let Some(host) = Host::without_engine() else { return };
    host.sh("mkdir -p /mnt/lower /mnt/fuse; echo x > /mnt/lower/file; fuse-overlayfs -o lowerdir=/mnt/lower /mnt/fuse; \
             pkill -STOP -x fuse-overlayfs");
    host.spawn("/run/lab/fixture", &["read", "/mnt/fuse/file"]);
    // a request to FUSE can be interrupted once; from then on only a fatal signal ends the wait
    eventually(30, "the reader waits in the kernel", || {
        host.sh("pkill -TERM -f '^/run/lab/fixture read' || true; sleep 0.1; ps -o state= -C fixture | tr -d ' '")
            .contains('D')
            .then_some(())
    });
    let stuck = "cpu.d-state host";
    let run = eventually(60, "it has waited long enough", || {
        let run = host.opsctl(&["cpu", "--format", "json"]);
        run.has(stuck).then_some(run)
    });
    run.must(&[stuck]).says(stuck, &["fixture (pid", "FUSE"]).must_not(&["cpu.saturated", "cpu.iowait"]);
    assert!(run.took.as_secs() < 5, "a stuck task does not hold opsctl: {:?}", run.took);
    host.sh("pkill -CONT -x fuse-overlayfs");
    eventually(30, "nothing waits any more", || (!host.sh("ps -o state= -C fixture | tr -d ' '").contains('D')).then_some(()));
    host.opsctl(&["cpu", "--format", "json"]).must_not(&["cpu.d-state"]);
}

#[test]
fn a_paused_container_is_not_stuck() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.run("idle", &["app:1", "sleep", "1000"]);
    let pid = host.inspect("idle", "{{.State.Pid}}");
    host.docker(&["pause", "idle"]);
    // some load, so that stuck tasks are looked for at all
    host.spawn("timeout", &["60", "/run/lab/fixture", "cpu"]);
    let number = |script: &str| host.sh(script).parse::<f64>().unwrap_or_else(|e| panic!("{script}: {e}"));
    eventually(60, "it has not run for longer than a task may be stuck", || {
        let ran = number(&format!("sed -n 's/^se.exec_start *: *//p' /proc/{pid}/sched")) / 1000.0;
        (number("cut -d' ' -f1 /proc/uptime") - ran > 12.0 && load() > 0.2).then_some(())
    });
    host.opsctl(&["cpu", "--format", "json"]).must_not(&["cpu.d-state"]);
}

/// Pages moved to and from swap since boot.
fn moved() -> String {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    text.lines().filter(|l| l.starts_with("pswp")).collect()
}

/// Swap of the machine; gone with this, also when the test fails.
struct Swap(tempfile::TempDir);

impl Swap {
    fn on(megabytes: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("opsctl-lab-swap-").tempdir().unwrap_or_else(|e| panic!("{e}"));
        let swap = Self(dir);
        let script = format!(
            "dd if=/dev/zero of={0} bs=1M count={megabytes} status=none && chmod 600 {0} && mkswap {0} && swapon {0}",
            swap.file()
        );
        let made = Command::new("sh").args(["-c", &script]).output().unwrap_or_else(|e| panic!("sh: {e}"));
        let said = String::from_utf8_lossy(&made.stderr).into_owned();
        assert!(made.status.success(), "{said}");
        swap
    }

    fn file(&self) -> String {
        self.0.path().join("swap").display().to_string()
    }

    /// Of it used, in percent.
    fn used(&self) -> u64 {
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        let line = swaps.lines().find(|l| l.starts_with(&self.file())).unwrap_or_default();
        let number = |n: usize| line.split_whitespace().nth(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
        number(3) * 100 / number(2).max(1)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = Command::new("swapoff").arg(self.file()).status();
    }
}

#[test]
fn swap_that_is_full_and_cold_is_harmless() {
    // given back after the host is gone: what is in it must have somewhere to go
    let swap;
    let Some(host) = Host::start() else { return };
    swap = Swap::on(48);
    host.image("app:1", Rootfs::Scratch, &[]);
    // more than its memory, less than that and the swap; it then touches nothing of it
    host.run("hoarder", &["-m", "32m", "--memory-swap", "96m", "app:1", "fixture", "mem-eater", "2", "--up-to", "74"]);
    eventually(60, "the swap is full", || (swap.used() >= 80).then_some(()));
    let mut last = (String::new(), std::time::Instant::now());
    eventually(MINUTES, "nothing moved for a second and nobody waits for memory", || {
        let moved = moved();
        if moved != last.0 {
            last = (moved, std::time::Instant::now());
        }
        (last.1.elapsed().as_secs() >= 1 && waiting("memory") < 4.0).then_some(())
    });
    let run = host.opsctl(&["memory", "--format", "json"]);
    run.roots(&[]);
    assert!(!run.has("memory.swap host"), "full, and nobody needs it");
}
