//! Memory, CPU and process limits.

use crate::lab::{Host, Rootfs, eventually};

#[test]
fn oom_killed_child_of_a_running_container_is_found() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("pool", &["-m", "32m", "--memory-swap", "32m", "app:1", "fixture", "mem-eater-child", "4"]);
    let logs = || String::from_utf8_lossy(&host.try_docker(&["logs", "pool"]).stderr).into_owned();
    eventually(30, "the child is killed", || logs().contains("killed by signal 9").then_some(()));
    assert_eq!(host.inspect("pool", "{{.State.Running}} {{.State.OOMKilled}} {{.RestartCount}}"), "true false 0");
    let run = host.diagnose();
    run.roots(&["container.oom-killed container:pool"]).must_not(&["container.down", "container.restart-loop", "memory."]);
}

#[test]
fn memory_close_to_the_limit_is_reported_before_an_oom_kill() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    let eat = ["app:1", "fixture", "mem-eater", "10", "--up-to", "60"];
    host.run("cache", &[&["-m", "64m", "--memory-swap", "64m"], &eat[..]].concat());
    host.run("roomy", &[&["-m", "128m", "--memory-swap", "128m"], &eat[..]].concat());
    let used = |name: &str| {
        let id = host.inspect(name, "{{.Id}}");
        host.sh(&format!("cat /sys/fs/cgroup/memory/docker/{id}/memory.usage_in_bytes /sys/fs/cgroup/docker/{id}/memory.current 2> /dev/null || true"))
    };
    for name in ["cache", "roomy"] {
        eventually(30, "the container uses 60 MiB", || used(name).parse::<u64>().is_ok_and(|n| n >= 60 << 20).then_some(()));
    }
    let near = "container.memory-near-limit container:cache";
    let run = host.diagnose();
    run.roots(&[near]).mentions(near, &["64 MiB"]).must_not(&["container.oom-killed"]);
}

#[test]
fn cpu_throttling_is_reported() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("busy", &["--cpus", "0.1", "app:1", "fixture", "cpu"]);
    host.run("idle", &["--cpus", "0.1", "app:1", "fixture", "wait-term"]);
    let run = host.diagnose();
    run.roots(&["container.cpu-throttled container:busy"]);
}

#[test]
fn process_limit_is_reported_before_it_is_reached() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let children = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do sleep 100000 & done; echo up; wait";
    host.run("forks", &["--pids-limit", "20", "app:1", "sh", "-c", children]);
    eventually(30, "all children run", || (host.docker(&["logs", "forks"]) == "up").then_some(()));
    host.diagnose().roots(&["container.pids container:forks"]);
}

#[test]
fn full_shared_memory_is_reported_for_its_container() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let fill = |kib: u32| format!("head -c {kib}k /dev/zero > /dev/shm/segment; echo done; exec sleep 100000");
    host.run("db", &["--shm-size", "1m", "app:1", "sh", "-c", &fill(2048)]);
    // healthy counterpart: below the limit, also in the segment of a container that another one shares
    host.run("roomy", &["--shm-size", "1m", "--ipc", "shareable", "app:1", "sh", "-c", &fill(900)]);
    host.run("guest", &["--ipc", "container:roomy", "app:1", "sh", "-c", "echo done; exec sleep 100000"]);
    for name in ["db", "roomy", "guest"] {
        eventually(30, "the container has written its data", || host.docker(&["logs", name]).contains("done").then_some(()));
    }
    let shm_full = "disk.space container:db";
    host.diagnose().roots(&[shm_full]).mentions(shm_full, &["/dev/shm", "of 1 MiB, in memory"]);
}

#[test]
fn paused_container_is_unpaused() {
    let Some(host) = Host::start() else { return };
    let test = r#"HEALTHCHECK --interval=1s --retries=2 CMD ["fixture","get","80","/health"]"#;
    host.image("app:1", Rootfs::Scratch, &[test]);
    host.run("web", &["app:1", "fixture", "httpd", "--port", "80", "--status", "503"]);
    // a paused container keeps its last health, which then has no meaning
    host.until("web", "{{.State.Health.Status}}", "unhealthy");
    host.docker(&["pause", "web"]);
    let paused = "container.paused container:web";
    host.diagnose().roots(&[paused]).must_not(&[
        "healthcheck.unhealthy",
        "healthcheck.monitor-stale",
        "container.down",
        "container.log-blocked",
    ]);
    host.fix("container.unpause", "web", &[]).exits(0);
    assert_eq!(host.inspect("web", "{{.State.Status}}"), "running");
    host.diagnose().must_not(&["container.paused"]);
}

#[test]
fn nearly_exhausted_file_descriptors_are_reported_before_the_failure() {
    let Some(host) = Host::with_servers(&["python3"]) else { return };
    let open = |n: u32| {
        format!(
            "import resource, time; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); f = [open('/dev/null') for _ in range({n})]; time.sleep(1000)"
        )
    };
    host.spawn("python3", &["-c", &open(100)]);
    let descriptors = |more_than: usize| {
        eventually(30, "the files are open", || {
            let pids = host.sh("pgrep -x python3 || true");
            pids.lines()
                .find(|pid| host.sh(&format!("ls /proc/{pid}/fd | wc -l")).parse::<usize>().is_ok_and(|n| n >= more_than))
                .map(str::to_owned)
        })
    };
    descriptors(100);
    host.run_runbooks(&["disk"]).roots(&[]);
    host.spawn("python3", &["-c", &open(190)]);
    let pid = descriptors(190);
    let process = format!("disk.fds process:python3[{pid}]");
    host.run_runbooks(&["disk"]).roots(&[&process]).mentions(&process, &["of its 200 file descriptors open", "limit 95 %"]);
}
