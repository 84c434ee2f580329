//! Containers: engines that fail, hang or deny access, mounts, networks and images that differ from their configuration,
//! resource limits, state without a volume, and log drivers.

use super::assert_disks_checked_in_time;
use crate::lab::{Host, Rootfs, Run, eventually};

const BROKEN: &str = "container.bind-broken container:web";
const DETACHED: &str = "container.network-detached container:web";

/// Diagnosis of a host with a disk and an engine that fails at one kind of request.
fn diagnosis_with_fault(fault: &str, at: &str) -> Option<Run> {
    let host = Host::without_engine()?;
    host.disk("/mnt/data", 64, "-m 0");
    host.spawn("/run/lab/fixture", &["fake-docker", "/run/fake.sock", fault, "--at", at]);
    eventually(10, "the engine listens", || host.sh("ss -Hlx").contains("/run/fake.sock").then_some(()));
    let args = ["diagnose", "container", "healthcheck", "disk", "--format", "json"];
    let run = host.read(host.opsctl_command(&[], &args).env("DOCKER_HOST", "unix:///run/fake.sock"));
    assert_disks_checked_in_time(&run);
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
    assert_disks_checked_in_time(&run);
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
    assert_disks_checked_in_time(&run);
    run.roots(&[]);
    let missing = ["container.engine-reachable engine:docker"];
    let args = ["diagnose", "container", "disk", "--format", "json"];
    let run = host.read(host.opsctl_command(&[], &args).env("DOCKER_HOST", "unix:///run/nowhere.sock"));
    assert_disks_checked_in_time(&run);
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
    assert_disks_checked_in_time(&run);
    run.roots(&["container.engine-reachable engine:docker"]);
}

#[test]
fn stopped_engine_process_is_hung() {
    let Some(host) = Host::start() else { return };
    host.sh("kill -STOP $(cat /run/docker.pid)");
    let run = host.diagnose();
    assert_disks_checked_in_time(&run);
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
    assert_disks_checked_in_time(&run);
    run.must_not(&["container.", "healthcheck."]).exits(3);
    assert!(run.stdout.contains("permission denied"), "{}", run.stdout);
}

#[test]
fn directory_created_in_place_of_a_missing_file() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("web", &["-v", "/mnt/missing.yml:/etc/app.yml", "app:1", "fixture", "wait-term"]);
    assert_eq!(host.sh("stat -c %F /mnt/missing.yml"), "directory");
    host.diagnose().roots(&[BROKEN]).mentions(BROKEN, &["/mnt/missing.yml", "directory"]);
}

/// The most common case: a process that reads its configuration and finds a directory exits, repeatedly.
#[test]
fn missing_file_is_the_cause_of_a_crash_loop() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    let reads = ["app:1", "sh", "-c", "read line < /etc/app.yml && exec sleep 1000; exit 1"];
    host.run("web", &[&["--restart", "always", "-v", "/mnt/missing.yml:/etc/app.yml"], &reads[..]].concat());
    host.run("once", &[&["-v", "/mnt/gone.yml:/etc/app.yml"], &reads[..]].concat());
    // a job that has exited successfully no longer needs its files
    host.sh("mkdir /mnt/input");
    host.run("job", &["-v", "/mnt/input:/input", "app:1", "sh", "-c", ":"]);
    host.until("job", "{{.State.Status}}", "exited");
    host.sh("rmdir /mnt/input");
    let (looping, down, once) =
        ("container.restart-loop container:web", "container.down container:once", "container.bind-broken container:once");
    let run = eventually(60, "both have exited", || {
        let run = host.run_runbooks(&["container"]);
        (run.has(looping) && run.has(down)).then_some(run)
    });
    run.roots(&[BROKEN, once]).explains(BROKEN, looping).explains(once, down);
}

#[test]
fn mounted_file_that_was_replaced() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.sh("echo old > /mnt/app.conf; echo old > /mnt/same.conf; mkdir /mnt/conf.d; echo old > /mnt/conf.d/app.conf");
    let binds = ["-v", "/mnt/app.conf:/etc/app.conf", "-v", "/mnt/same.conf:/etc/same.conf", "-v", "/mnt/conf.d:/etc/conf.d"];
    host.run("web", &[&binds[..], &["app:1", "sleep", "100000"]].concat());
    host.diagnose().roots(&[]);
    // the method of editors and certbot; a file in a mounted directory may be replaced, and a file may be written in place
    host.sh("for f in app.conf conf.d/app.conf; do echo new > /mnt/new; mv /mnt/new /mnt/$f; done; echo new > /mnt/same.conf");
    assert_eq!(host.docker(&["exec", "web", "cat", "/etc/app.conf", "/etc/same.conf", "/etc/conf.d/app.conf"]), "old\nnew\nnew");
    let run = host.diagnose();
    run.roots(&[BROKEN]).mentions(BROKEN, &["/mnt/app.conf"]);
    assert_eq!(run.findings().filter(|f| f.code == "container.bind-broken").count(), 1, "only the replaced file");
}

/// A server that is restarted creates its socket again.
#[test]
fn mounted_socket_that_was_recreated() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.sh("mkdir /mnt/run");
    let listen = |path: &str| {
        host.sh(&format!("rm -f {path}"));
        host.spawn("/run/lab/fixture", &["fake-docker", path, "never", "--at", "nothing"]);
        let exists = format!("[ -S {path} ] && echo up || echo down");
        eventually(10, "the socket exists", || (host.sh(&exists) == "up").then_some(()));
    };
    let sockets = ["/mnt/app.sock", "/mnt/run/app.sock"];
    for path in &sockets {
        listen(path);
    }
    host.run("web", &["-v", "/mnt/app.sock:/run/app.sock", "-v", "/mnt/run:/run/app", "app:1", "fixture", "wait-term"]);
    host.diagnose().roots(&[]);
    // the socket in the mounted directory is the new one
    for path in &sockets {
        listen(path);
    }
    let run = host.diagnose();
    run.roots(&[BROKEN]).mentions(BROKEN, &["old socket /run/app.sock", "/mnt/app.sock was recreated"]);
    assert_eq!(run.findings().filter(|f| f.code == "container.bind-broken").count(), 1, "only the mounted socket");
    host.docker(&["restart", "-t", "0", "web"]);
    host.diagnose().roots(&[]);
}

#[test]
fn removed_source_of_a_mount() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.sh("mkdir /mnt/data");
    host.run("web", &["-v", "/mnt/data:/data", "app:1", "fixture", "wait-term"]);
    host.sh("rmdir /mnt/data");
    host.diagnose().roots(&[BROKEN]).mentions(BROKEN, &["/mnt/data"]);
}

#[test]
fn container_with_a_removed_network() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("cut-off", &["app:1", "fixture", "wait-term"]);
    host.run("on-purpose", &["--network", "none", "app:1", "fixture", "wait-term"]);
    host.docker(&["network", "disconnect", "bridge", "cut-off"]);
    host.diagnose().roots(&["container.network-detached container:cut-off"]);
}

/// The namespace belongs to one run of its owner (docker/compose#6626).
#[test]
fn owner_of_a_shared_network_is_restarted_and_recreated() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    let wait = ["app:1", "fixture", "wait-term"];
    host.run("vpn", &wait);
    host.run("web", &[&["--network", "container:vpn"], &wait[..]].concat());
    host.diagnose().roots(&[]);
    host.docker(&["restart", "-t", "0", "vpn"]);
    host.diagnose().roots(&[DETACHED]).mentions(DETACHED, &["vpn, which was restarted", "only lo", "docker restart web"]);
    host.docker(&["restart", "-t", "0", "web"]);
    host.diagnose().roots(&[]);
    host.docker(&["rm", "-f", "vpn"]);
    host.diagnose().roots(&[DETACHED]).mentions(DETACHED, &["vpn, which was removed"]);
    host.run("vpn", &wait);
    host.diagnose().roots(&[DETACHED]).mentions(DETACHED, &["vpn, which was recreated", "--force-recreate"]);
}

#[test]
fn stopped_owner_of_a_shared_network_is_the_cause() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    let wait = ["app:1", "fixture", "wait-term"];
    host.run("vpn", &[&["--restart", "always"], &wait[..]].concat());
    host.run("web", &[&["--network", "container:vpn"], &wait[..]].concat());
    host.docker(&["kill", "vpn"]);
    host.until("vpn", "{{.State.Running}}", "false");
    let down = "container.down container:vpn";
    host.diagnose().roots(&[down]).explains(down, DETACHED).mentions(DETACHED, &["start vpn first"]);
}

#[test]
fn tag_that_was_moved_to_another_image() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("web", &["app:1", "fixture", "wait-term"]);
    host.image("app:1", Rootfs::Scratch, &["ENV VERSION=2"]);
    let run = host.diagnose();
    run.roots(&[]).must(&["container.image-drift container:web"]);
}

#[test]
fn database_without_a_volume_is_reported() {
    let Some(host) = Host::start() else { return };
    host.image("grafana/alloy:v1", Rootfs::Scratch, &[]);
    host.image("postgres:15", Rootfs::Scratch, &["ENV PGDATA=/var/lib/postgresql/data"]);
    let run = ["fixture", "wait-term"];
    host.run("alloy", &[&["grafana/alloy:v1"], &run[..]].concat());
    host.run("alloy-kept", &[&["-v", "alloy:/var/lib/alloy/data", "grafana/alloy:v1"], &run[..]].concat());
    host.run("db-kept", &[&["-v", "pg:/var/lib/postgresql/data", "postgres:15"], &run[..]].concat());
    host.run("db", &[&["postgres:15"], &run[..]].concat());
    let (alloy, db) = ("container.ephemeral-state container:alloy", "container.ephemeral-state container:db");
    let run = host.diagnose();
    run.roots(&[alloy, db]).mentions(alloy, &["/var/lib/alloy/data"]);
    assert_eq!(run.finding(db).severity, opsctl_core::model::Severity::Crit);
}

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
fn writer_blocked_by_its_log_driver_is_found() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    // a log server that accepts and never reads: the engine stops reading the pipe, the writer blocks in write(2) (moby#31540)
    host.spawn("/run/lab/fixture", &["tcp-sink", "--port", "5514"]);
    eventually(10, "the log server listens", || (!host.sh("ss -Hltn 'sport = 5514'").is_empty()).then_some(()));
    let driver =
        ["--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:5514", "--log-opt", "syslog-format=rfc3164"];
    host.run("frozen", &[&driver[..], &["app:1", "fixture", "log-spammer", "--burst-mb", "100"]].concat());
    host.run("quiet", &["app:1", "fixture", "wait-term"]);
    let pid = host.inspect("frozen", "{{.State.Pid}}");
    eventually(60, "the process is blocked in a write to its pipe", || {
        host.sh(&format!("cat /proc/{pid}/task/*/wchan")).contains("pipe_write").then_some(())
    });
    let blocked = "container.log-blocked container:frozen";
    let run = host.diagnose();
    run.roots(&[blocked]).mentions(blocked, &["pipe_write"]).must_not(&["container.down", "container.paused"]);
}

#[test]
fn log_without_a_size_limit_is_reported_as_info() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("unlimited", &["app:1", "fixture", "wait-term"]);
    host.run("limited", &["--log-opt", "max-size=10m", "app:1", "fixture", "wait-term"]);
    let run = host.diagnose();
    run.roots(&[]).must(&["container.log-unbounded container:unlimited"]);
    assert!(!run.has("container.log-unbounded container:limited"));
}

/// runc reports a program that exists without its interpreter like one that does not exist.
#[test]
fn script_with_windows_line_ends() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.sh(r"printf '#!/bin/sh\r\necho up\r\n' > /mnt/run.sh; chmod 755 /mnt/run.sh");
    host.run("web", &["--restart", "always", "-v", "/mnt/run.sh:/run.sh", "app:1", "/run.sh"]);
    let looping = "container.restart-loop container:web";
    let run = eventually(60, "it is restarted", || Some(host.diagnose()).filter(|run| run.has(looping)));
    run.mentions(looping, &["the interpreter of /run.sh does not exist", "dos2unix"]).must_not(&["container.architecture"]);
}

#[test]
fn image_for_another_architecture() {
    let Some(host) = Host::start() else { return };
    // labelled for another architecture, and its program has no format that the kernel knows
    host.sh("mkdir -p /mnt/root/bin; printf 'no program' > /mnt/root/bin/app; chmod 755 /mnt/root/bin/app; tar -C /mnt/root -cf /mnt/root.tar .");
    host.sh("docker import --platform linux/arm64 /mnt/root.tar other:1 2> /dev/null || docker import /mnt/root.tar other:1");
    let architecture = host.docker(&["image", "inspect", "other:1", "--format", "{{.Architecture}}"]);
    if architecture != "arm64" || std::env::consts::ARCH != "x86_64" {
        eprintln!("left out: the image is for {architecture}, this machine is {}", std::env::consts::ARCH);
        return;
    }
    host.run("once", &["other:1", "/bin/app"]);
    host.until("once", "{{.State.Status}}", "exited");
    let other = "container.architecture container:once";
    host.diagnose().roots(&[other]).mentions(other, &["arm64", "x86_64"]).explains(other, "container.down container:once");
}

/// Replaces all events that the engine remembers, as health tests with a short interval do.
fn flood_events(host: &Host) {
    host.sh("seq 300 | xargs -P 4 -I N docker tag app:1 flood:N");
}

// moby#38755, moby#28396: the engine does not restart a container that was stopped by hand
#[test]
fn stop_by_hand_that_the_engine_has_forgotten() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    let down = ["container.down container:always", "container.down container:parked"];
    host.run("always", &["--restart", "always", "app:1", "fixture", "wait"]);
    host.run("parked", &["--restart", "unless-stopped", "app:1", "fixture", "wait"]);
    host.docker(&["stop", "-t", "1", "always", "parked"]);
    flood_events(&host);
    // a member of the group docker cannot read the engine's files
    let group = host.sh("stat -c %g /run/docker.sock");
    let user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", &group];
    let args = ["diagnose", "container", "--format", "json"];
    let run = host.read(host.opsctl_command(&user, &args).env("HOME", "/nonexistent"));
    for code in down {
        run.mentions(code, &["probably stopped by hand or by a tool", "the engine's events go back only"]);
        assert_eq!(run.finding(code).severity, opsctl_core::model::Severity::Warn, "{}", run.stdout);
    }
    // with the engine's mark
    let run = host.run_runbooks(&["container"]);
    run.mentions(down[0], &["was stopped by hand or by a tool"]).mentions(down[1], &["probably stopped by hand"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
}

#[test]
fn stop_by_hand_is_remembered_by_opsctl() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    let down = "container.down container:web";
    host.run("web", &["--restart", "unless-stopped", "app:1", "fixture", "wait"]);
    host.docker(&["stop", "-t", "1", "web"]);
    host.run_runbooks(&["container"]).mentions(down, &["ignored the stop signal"]);
    flood_events(&host);
    host.run_runbooks(&["container"]).mentions(down, &["ignored the stop signal"]);
}

// moby#26087, moby#41302, moby#47792
#[test]
fn reload_signal_before_a_restart_of_the_engine() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    let unless_stopped = ["--restart", "unless-stopped", "app:1", "fixture", "wait-term"];
    host.run("signalled", &unless_stopped);
    host.run("other", &unless_stopped);
    host.docker(&["kill", "-s", "WINCH", "signalled"]);
    host.diagnose().roots(&[]);
    host.sh("pid=$(cat /run/docker.pid); kill -TERM $pid; while [ -d /proc/$pid ]; do sleep 0.05; done");
    host.start_engine();
    host.until("other", "{{.State.Running}}", "true");
    let down = "container.down container:signalled";
    let run = host.run_runbooks(&["container"]);
    run.roots(&[down]).mentions(down, &["although its restart policy is unless-stopped", "docker kill"]);
    assert_eq!(run.finding(down).severity, opsctl_core::model::Severity::Crit);
}

#[test]
fn one_start_by_hand_after_restarts_by_the_policy() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Shell, &[]);
    host.sh("mkdir /mnt/web");
    let script = "[ -e /web/ready ] && exec sleep 1000; exit 1";
    host.run("web", &["--restart", "always", "-v", "/mnt/web:/web", "app:1", "sh", "-c", script]);
    eventually(60, "it was restarted five times", || {
        host.inspect("web", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
    });
    host.docker(&["stop", "web"]);
    host.sh("touch /mnt/web/ready");
    host.docker(&["start", "web"]);
    host.until("web", "{{.State.Running}} {{.RestartCount}}", "true 0");
    host.run_runbooks(&["container"]).must_not(&["container.restart-loop", "container.down"]);
}
