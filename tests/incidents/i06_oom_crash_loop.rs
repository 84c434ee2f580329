//! Memory limit too low: the application is killed and restarted in a loop.

use crate::lab::{Host, Rootfs, eventually};

const OOM: &str = "container.oom-killed container:api";
const LOOP: &str = "container.restart-loop container:api";

/// Waits until the container was killed several times. It needs 24 MiB and its limit is 16 MiB.
fn crash_loop() -> Option<Host> {
    crash_loop_of("24")
}

/// The same for a container that needs this many MiB.
fn crash_loop_of(needed: &str) -> Option<Host> {
    let host = Host::start()?;
    host.image("api:1", Rootfs::Scratch, &[]);
    let limits = ["-m", "16m", "--memory-swap", "16m", "--restart", "always"];
    host.run("api", &[limits.as_slice(), &["api:1", "fixture", "mem-eater", "4", "--up-to", needed]].concat());
    // the engine doubles the delay between restarts: after five it is long enough to inspect one run
    eventually(60, "it was restarted five times", || {
        host.inspect("api", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 5).then_some(())
    });
    host.until("api", "{{.State.ExitCode}}", "137");
    Some(host)
}

#[test]
fn oom_kill_is_the_root_of_the_restart_loop() {
    let Some(host) = crash_loop() else { return };
    let run = host.diagnose();
    run.must(&[OOM, LOOP]).roots(&[OOM]).explains(OOM, LOOP).mentions(OOM, &["16 MiB"]);
    run.must_not(&["memory.", "container.down", "container.start-failed", "healthcheck.unhealthy"]);
    let messages = format!("{}{}", run.finding(OOM).message, run.finding(LOOP).message);
    assert!(!messages.contains("by hand") && !messages.contains("operator"), "the container was not stopped by hand: {messages}");
    // the engine restarts it already
    run.offers_no("container.restart", "container:api").mentions(OOM, &["kernel log"]);
    host.leaves(&run, "");
    // the host has free memory: only the limit is too low
    host.run_runbooks(&["memory"]).must_not(&["memory.oom-kill"]);
    // the limit is changed after the plan
    let other = || _ = host.docker(&["update", "--memory", "20m", "--memory-swap", "20m", "api"]);
    host.fix_meanwhile("container.raise-memory", "api", &[], other).exits(11);
    assert_eq!(host.inspect("api", "{{.HostConfig.Memory}}"), (20 << 20).to_string());
}

#[test]
fn raised_memory_limit_ends_the_restart_loop() {
    let Some(host) = crash_loop() else { return };
    host.fix("container.raise-memory", "api", &[]).exits(0);
    assert!(host.inspect("api", "{{.HostConfig.Memory}}").parse::<u64>().unwrap() > 24 << 20);
    // the engine delays a restart by up to a minute
    host.until("api", "{{.State.Running}} {{.State.Restarting}}", "true false");
    host.diagnose().must_not(&["container.oom-killed", "container.restart-loop"]);
}

/// A container that waits for its restart is not killed at its new limit before it runs again.
#[test]
fn raised_memory_limit_that_is_still_too_low_is_not_verified() {
    let Some(host) = crash_loop_of("40") else { return };
    let run = host.fix("container.raise-memory", "api", &[]);
    run.exits(13);
    assert_eq!(host.inspect("api", "{{.HostConfig.Memory}}"), (16 << 20).to_string(), "{}", run.stdout);
}

#[test]
fn start_is_refused_until_the_memory_limit_is_raised() {
    const DOWN: &str = "container.down container:api";
    let Some(host) = Host::start() else { return };
    host.image("api:1", Rootfs::Scratch, &[]);
    host.run("api", &["-m", "16m", "--memory-swap", "16m", "api:1", "fixture", "mem-eater", "4", "--up-to", "24"]);
    host.until("api", "{{.State.Status}} {{.State.ExitCode}}", "exited 137");
    host.diagnose().must(&[OOM, DOWN]).roots(&[OOM]).explains(OOM, DOWN);
    host.fix("container.start", "api", &[]).exits(15);
    assert_eq!(host.inspect("api", "{{.State.Status}}"), "exited", "the container was not started");

    host.fix("container.raise-memory", "api", &[]).exits(0);
    host.fix("container.start", "api", &[]).exits(0);
    host.diagnose().roots(&[]);
}

#[test]
fn oom_kill_is_the_root_of_5xx_responses_of_nginx() {
    const RATE: &str = "nginx.5xx-rate nginx:edge";
    let Some(host) = Host::with_edge() else { return };
    host.service("api", "ok");
    host.nginx_container(
        "edge",
        &[],
        "server { listen 80; location / { proxy_pass http://api:8080; proxy_connect_timeout 1s; } }",
    );
    host.docker(&["rm", "-f", "api"]);
    let limits = ["--network", "app", "-m", "16m", "--memory-swap", "16m", "--restart", "always"];
    host.run("api", &[limits.as_slice(), &["svc:1", "/bin/fixture", "mem-eater", "4", "--up-to", "24"]].concat());
    eventually(60, "it was restarted three times", || {
        host.inspect("api", "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 3).then_some(())
    });
    let edge = host.address("edge");
    host.sh(&format!("for i in $(seq 12); do curl -s -m 5 http://{edge}/ > /dev/null & done; wait"));
    host.until("api", "{{.State.ExitCode}}", "137");
    let run = host.run_runbooks(&["container", "nginx"]);
    run.must(&[OOM, LOOP, RATE]).roots(&[OOM]).explains(OOM, RATE).must_not(&["memory.oom-kill", "container.down"]);
    host.leaves(&run, "nginx");
}
